//! Who may start what now: slots, the lane, and the order.
//!
//! There is one number of Part slots. A new Upload is opened when a slot is free and no open Upload has a Part that may
//! start now; among open Uploads the one that expires first goes first. So the fewest are open that fill the link, and
//! none expires because it shared.

use std::time::Duration;

use super::super::answer::UploadId;
use super::super::job::{
    AccountName, Code, Deadline, Doubt, Job, JobId, PlannedPart, Reason, Session, Stage, Step, Why,
};
use super::super::plan::{self, Tail};
use super::super::policy;
use super::super::reconcile;
use super::super::time::{Boot, Now};
use super::gates::{Gate, Scope};
use super::link::Link;
use super::queue::Turn;
use super::task::{Next, Task, UnderWay};
use super::tuner::Sample;
use super::{Board, Context, Effect, Grant, Kind, Limits, OperationId, Running, Wanted, Work};

/// Whole files hashed at once: as many as a small machine has cores.
const HASHES: usize = 2;

/// Places of the lane that small files leave to create and complete of large ones, which would starve behind a
/// hundred thousand of them.
const RESERVED: usize = 4;

/// So many Uploads of a job are given up for new ones without a wait.
const FREE_RESTARTS: u32 = 3;

/// An Upload is tried for so long although even a fresh one with the whole link would not do.
const FAIR_TRIAL: Duration = Duration::from_secs(600);

/// An Upload that expires within this is not made to wait for a better number of slots.
const SOON: Duration = Duration::from_secs(900);

/// An Upload that expired so often although nothing held it up is too large for the link.
pub(super) const EXPIRIES: u32 = 3;

impl Board {
    /// Starts all that may start now.
    pub(super) fn fill(&mut self, now: Now) {
        self.give_up_expired(now);
        if !self.gates.is_held(&Scope::Store) {
            self.carry_on(now);
            if !self.stopping {
                self.examine_ahead(now);
                self.fill_slots(now);
                self.fill_lane(now);
            }
        }
        if !self.stopping {
            for (line, count) in self.queue.wanted(now.wall) {
                self.effects.push(Effect::Refill(line, count));
            }
        }
    }

    /// Whether nothing is under way that the end of the service should wait for.
    pub fn is_drained(&self, now: Now) -> bool {
        let finishing = |task: &Task| {
            // An inquiry about a lost answer goes on at the next start.
            matches!(task.job.stage, Stage::Completing(_, Doubt::None | Doubt::MayHaveActed))
                && (!task.committed
                    || (!task.ask_named
                        && task.not_before <= now.boot
                        && self.gate(task, now.boot) != Gate::Shut))
        };
        self.operations.is_empty() && !self.tasks.values().any(finishing)
    }

    fn give_up_expired(&mut self, now: Now) {
        let expired = |session: &Session| is_expired(session, now.boot);
        let late: Vec<JobId> = self
            .tasks
            .iter()
            .filter(|(_, task)| match &task.job.stage {
                Stage::Sending(session) => expired(session),
                Stage::Queued => task.opened.as_ref().is_some_and(expired),
                // The deadline decides whether complete is started; it does not cut it.
                _ => false,
            })
            .map(|(id, _)| *id)
            .collect();
        for id in late {
            let reason = Reason::local(Code::UploadExpired, "the Upload expired before all of it was sent");
            // What a hold or a pause took of its hour is not the link's fault.
            let held = self.tasks.get(&id).is_some_and(|task| task.was_held);
            self.restart(id, if held { Why::Other } else { Why::TooSlow }, reason, Context::default(), now);
        }
    }

    /// Takes note of the bytes that went out, and gives up what cannot be finished any more.
    pub(super) fn moved(&mut self, operations: &[(OperationId, u64)], reading: usize, now: Now) {
        for (id, bytes) in operations {
            let Some(running) = self.operations.get_mut(id) else { continue };
            let more = bytes.saturating_sub(running.moved);
            running.moved = running.moved.max(*bytes);
            let server = self.limits.accounts.get(&running.account).cloned().unwrap_or_default();
            self.links.entry(server).or_default().moved(more, now.boot);
            self.untold = self.untold.saturating_add(more);
        }
        self.tune(reading, now.boot);
        let doomed: Vec<(JobId, Reason)> = self
            .tasks
            .iter()
            .filter_map(|(id, task)| Some((*id, self.cannot_be_finished(task, now)?)))
            .collect();
        for (id, reason) in doomed {
            self.restart(id, Why::TooSlow, reason, Context::default(), now);
        }
    }

    /// The rest of a Part that was taken, which no look at what is under way had counted.
    pub(super) fn sent(&mut self, account: &AccountName, bytes: u64, now: Boot) {
        self.links.entry(self.server_of(account)).or_default().moved(bytes, now);
        self.untold = self.untold.saturating_add(bytes);
    }

    fn tune(&mut self, reading: usize, now: Boot) {
        let parts = self.running_parts();
        let expires_soon = |task: &Task| match &task.job.stage {
            Stage::Sending(Session { deadline: Deadline::At(at), .. }) => at.since(now) < SOON,
            _ => false,
        };
        let sample = Sample {
            bytes: std::mem::take(&mut self.untold),
            full: parts >= self.part_slots(),
            reading: reading.min(parts),
            parts,
            paced: self.gates.paces().next().is_some(),
            urgent: self.tasks.values().any(expires_soon),
        };
        if let Some(tuner) = &mut self.tuner {
            tuner.observe(sample, now);
        }
    }

    /// Why the open Upload of a task cannot be finished in its time, even at the best rate of late.
    fn cannot_be_finished(&self, task: &Task, now: Now) -> Option<Reason> {
        let Stage::Sending(session) = &task.job.stage else { return None };
        let Deadline::At(deadline) = session.deadline else { return None };
        if task.was_held {
            return None;
        }
        let link = self.links.get(&self.server_of(&task.job.subject.account))?;
        let best = link.best()?;
        let length = |range: &std::ops::Range<u64>| range.end - range.start;
        let unstored = session.parts.iter().filter(|part| part.stored.is_none());
        let missing = unstored.map(|part| length(&part.range)).sum::<u64>();
        let on_their_way = |running: &&Running| running.job == Some(task.job.id) && !running.stale;
        let moved: u64 = self.operations.values().filter(on_their_way).map(|running| running.moved).sum();
        let left = deadline.since(now.boot).as_secs_f64();
        if missing.saturating_sub(moved) as f64 <= best * left {
            return None;
        }
        let bytes = task.job.subject.fingerprint.bytes;
        // With the whole link from the first second a new one would do. Where it would not, this one goes on for a while,
        // since the link may recover.
        let fresh = bytes as f64 <= best * policy::USUAL_LIFETIME.as_secs_f64();
        let tried = link.is_well_known() && now.boot.since(task.opened_at) >= FAIR_TRIAL;
        (fresh || tried).then(|| {
            let words = format!(
                "{missing} bytes are missing and {left:.0} s are left, but the link took {best:.0} bytes per second at best"
            );
            Reason::local(Code::UploadExpired, words)
        })
    }

    /// Goes on with what has begun, apart from Parts.
    fn carry_on(&mut self, now: Now) {
        let mut order: Vec<(Boot, JobId)> =
            self.tasks.iter().map(|(id, task)| (task.urgency(), *id)).collect();
        order.sort_unstable();
        for (_, id) in order {
            let Some(task) = self.tasks.get(&id) else { continue };
            let next = task.next(&self.limits);
            // When we are stopping, a complete that was announced is still sent: it ends a doubt, or a file.
            if self.stopping && next != Next::Complete {
                continue;
            }
            if !self.stopping && task.wants_hash(&self.limits) && self.running(Kind::Hash) < HASHES {
                self.grant(id, Kind::Hash, Vec::new());
            }
            let Some(task) = self.tasks.get(&id) else { continue };
            // Two Files of one name and size that are made at the same time could not be told apart if an answer is lost.
            if matches!(next, Next::Verify | Next::Whole) && self.has_busy_twin(id) {
                if let Some(task) = self.tasks.get_mut(&id) {
                    // Its hour may pass meanwhile, for no fault of the link.
                    task.was_held = true;
                }
                continue;
            }
            match next {
                Next::Examine => self.examine_on_board(id, now),
                Next::Confirm => self.grant_if(id, Kind::Confirm, now),
                Next::Verify => self.grant(id, Kind::Verify, Vec::new()),
                Next::Create if task.is_small() => self.grant_if(id, Kind::Create, now),
                Next::Whole => self.grant_if(id, Kind::Whole, now),
                Next::Complete => self.grant_if(id, Kind::Complete, now),
                Next::AskFile => self.grant_if(id, Kind::AskFile, now),
                Next::Fence => self.grant_if(id, Kind::Fence, now),
                Next::Search => self.grant_if(id, Kind::Search, now),
                Next::Create | Next::Nothing => {}
            }
        }
    }

    /// Whether another job of the same server, purpose, name and size is about to be completed.
    pub(super) fn has_busy_twin(&self, id: JobId) -> bool {
        let Some(subject) = self.tasks.get(&id).map(|task| &task.job.subject) else { return false };
        // Asked of each job that is about to be completed, about all that are under way: the cheap questions first.
        self.tasks.iter().any(|(other, task)| {
            let that = &task.job.subject;
            *other != id
                && that.fingerprint.bytes == subject.fingerprint.bytes
                && that.filename == subject.filename
                && that.purpose == subject.purpose
                && task.is_finishing()
                // Two accounts of the configuration may be one of the server.
                && (that.account == subject.account || self.server_of(&that.account) == self.server_of(&subject.account))
        })
    }

    fn fill_slots(&mut self, now: Now) {
        self.gates.forget_paces(now.boot);
        let slots = self.gates.slots(self.part_slots());
        while self.running_parts() < slots {
            if let Some((id, index, probe)) = self.most_urgent_part(now.boot) {
                self.grant(id, Kind::Part(index), probe);
            } else if self.running_parts() + self.parts_coming() >= slots || !self.open_next(now) {
                break;
            }
        }
    }

    fn most_urgent_part(&self, now: Boot) -> Option<(JobId, usize, Vec<Scope>)> {
        let ready = self.tasks.iter().filter_map(|(id, task)| {
            let (index, _) = task.next_part()?;
            match self.startable(task, now) {
                Gate::Open => Some((task.urgency(), *id, index, Vec::new())),
                Gate::Probe(scopes) => Some((task.urgency(), *id, index, scopes)),
                Gate::Shut => None,
            }
        });
        ready.min_by_key(|(urgency, id, ..)| (*urgency, *id)).map(|(_, id, index, probe)| (id, index, probe))
    }

    /// Parts of Uploads whose create is under way: they will want slots in a moment.
    fn parts_coming(&self) -> usize {
        let creating = |task: &&Task| {
            matches!(task.job.stage, Stage::Queued)
                && !task.is_small()
                && task.under_way.contains(&UnderWay::Request)
        };
        self.tasks.values().filter(creating).map(|task| self.plan(&task.job).len()).sum()
    }

    /// Opens one more Upload of a large file; tells whether there was one.
    fn open_next(&mut self, now: Now) -> bool {
        if self.running_lane() >= self.limits.lane {
            return false;
        }
        let again = self.tasks.iter().find(|(_, task)| {
            !task.is_small()
                && task.next(&self.limits) == Next::Create
                && self.startable(task, now.boot) != Gate::Shut
        });
        if let Some((id, _)) = again {
            self.grant_if(*id, Kind::Create, now);
            return true;
        }
        self.open_from_queue(false, now)
    }

    /// Small files go whole through a lane of their own, so that they never wait behind a large one and the latency of
    /// the server is hidden.
    fn fill_lane(&mut self, now: Now) {
        while self.running_lane() < self.limits.lane.saturating_sub(RESERVED)
            && self.open_from_queue(true, now)
        {}
    }

    fn open_from_queue(&mut self, lane: bool, now: Now) -> bool {
        if self.is_full() {
            return false;
        }
        let limits = &self.limits;
        let turn = |job: &Job, examined: bool| examined || limits.look(&job.subject).is_none();
        let may = |job: &Job| self.gate_of(&job.subject.account, now.boot) != Gate::Shut;
        let Some(place) = self.queue.next(lane, Turn::Opening, turn, may) else { return false };
        let Some((job, examined)) = self.queue.take(place) else { return false };
        let id = job.id;
        self.tasks.insert(id, Task { examined, ..Task::new(job, now) });
        self.grant_if(id, Kind::Create, now);
        true
    }

    /// Whether the board has no room for more jobs.
    pub(super) fn is_full(&self) -> bool {
        self.tasks.len() >= 4 * self.limits.lane + 2 * self.part_slots()
    }

    /// Ranges that the file of `job` is sent in.
    pub(super) fn plan(&self, job: &Job) -> Vec<std::ops::Range<u64>> {
        let server = self.server_of(&job.subject.account);
        let cap = self.part_caps.get(&server).copied();
        let rate = self.links.get(&server).and_then(Link::best);
        let tail = if self.is_alone(job.id) { Tail::Finer { rate } } else { Tail::Even };
        plan::parts(
            job.subject.fingerprint.bytes,
            self.limits.part_size,
            self.part_slots(),
            cap.unwrap_or(plan::MAX_PART_BYTES),
            tail,
        )
    }

    /// Whether no other file wants the slots.
    fn is_alone(&self, id: JobId) -> bool {
        let wants = |(other, task): (&JobId, &Task)| {
            *other != id
                && (task.next_part().is_some()
                    || (matches!(task.job.stage, Stage::Queued) && !task.is_small()))
        };
        !self.queue.wants_slots() && !self.tasks.iter().any(wants)
    }

    fn gate(&self, task: &Task, now: Boot) -> Gate {
        let account = &task.job.subject.account;
        self.gates.gate(account, &self.server_of(account), now)
    }

    /// The same of a job that waits: nothing is begun for an account that is not there.
    pub(super) fn gate_of(&self, account: &AccountName, now: Boot) -> Gate {
        let server = self.limits.accounts.get(account);
        server.map_or(Gate::Shut, |server| self.gates.gate(account, server, now))
    }

    /// Whether a request of this task may start now.
    pub(super) fn startable(&self, task: &Task, now: Boot) -> Gate {
        let completing = matches!(task.job.stage, Stage::Completing(..));
        let paused = self.queue.is_paused(task.job.subject.folder);
        if task.not_before > now || (paused && !completing) { Gate::Shut } else { self.gate(task, now) }
    }

    fn grant_if(&mut self, id: JobId, kind: Kind, now: Now) {
        let Some(task) = self.tasks.get(&id) else { return };
        let reserved = if task.is_small() { RESERVED } else { 0 };
        if kind.uses_lane() && self.running_lane() + reserved >= self.limits.lane {
            return;
        }
        match self.startable(task, now.boot) {
            Gate::Open => self.grant(id, kind, Vec::new()),
            Gate::Probe(scopes) => self.grant(id, kind, scopes),
            Gate::Shut => {}
        }
    }

    pub(super) fn grant(&mut self, id: JobId, kind: Kind, probe: Vec<Scope>) {
        let Some(task) = self.tasks.get(&id) else { return };
        let alone = matches!(kind, Kind::Part(_)) && self.is_alone(id);
        let Some(work) = work(task, kind, &self.limits, alone) else { return };
        let account = task.job.subject.account.clone();
        let operation = self.start(Some(id), account, kind, work);
        self.gates.probing(&probe, operation);
        if let (Some(task), Some(under_way)) = (self.tasks.get_mut(&id), kind.into()) {
            task.under_way.insert(under_way);
        }
    }

    /// Asks the server something cheap.
    pub(super) fn probe(&mut self, account: &AccountName) {
        let asked = |running: &Running| {
            running.kind == Kind::Probe && self.server_of(&running.account) == self.server_of(account)
        };
        if !self.operations.values().any(asked) {
            self.start(None, account.clone(), Kind::Probe, Work::Probe);
        }
    }

    /// Tells the server that an Upload is given up. Best effort: it expires anyway. It is sent when all steps that were taken
    /// before are on disk.
    pub(super) fn cancel_upload(&mut self, id: JobId, account: AccountName, upload: UploadId) {
        if !self.stopping {
            self.start(Some(id), account, Kind::Cancel, Work::Cancel(upload));
        }
    }

    pub(super) fn start(
        &mut self,
        job: Option<JobId>,
        account: AccountName,
        kind: Kind,
        work: Work,
    ) -> OperationId {
        self.last_operation += 1;
        let id = OperationId(self.last_operation);
        self.operations.insert(id, Running { job, account: account.clone(), kind, stale: false, moved: 0 });
        self.effects.push(Effect::Start(Grant { id, job, account, work }));
        id
    }

    pub(super) fn running(&self, kind: Kind) -> usize {
        self.operations.values().filter(|running| running.kind == kind).count()
    }

    /// Gives the Upload up and starts the job again with a new one; or ends the job, where the link has been too slow for
    /// several.
    pub(super) fn restart(&mut self, id: JobId, why: Why, reason: Reason, context: Context, now: Now) {
        self.abandon_operations(id);
        let Some(task) = self.tasks.get_mut(&id) else { return };
        let account = task.job.subject.account.clone();
        let session = task.opened.take().or_else(|| task.job.stage.session().cloned());
        let may_have_ended = task.doubts() != Doubt::None;
        let written = matches!(task.job.stage, Stage::Sending(_) | Stage::Completing(..));
        let given_up =
            session.filter(|session| !may_have_ended && !is_expired(session, now.boot)).map(|one| one.upload);
        let too_slow = why == Why::TooSlow && task.job.expiries + 1 >= EXPIRIES;
        let bytes = task.job.subject.fingerprint.bytes;
        // A server that ends every Upload at once would have a new one opened as fast as it answers.
        let after = if task.job.restarts < FREE_RESTARTS {
            Duration::ZERO
        } else {
            policy::backoff(&self.limits.retry, task.job.restarts, 1.0)
        };
        task.start_over();
        task.not_before = now.boot + after;
        if too_slow {
            let rate = policy::needed_rate(bytes);
            let words = format!(
                "{EXPIRIES} Uploads could not be finished in their hour; this file needs at least {rate} bytes per second \
                 ({})",
                reason.message
            );
            self.step(id, Step::Failed(Reason::local(Code::TooSlow, words)), context, false);
            self.forget(id);
        } else if written {
            self.step(id, Step::Restarted { why, reason }, context, false);
        } else if let Some(task) = self.tasks.get_mut(&id) {
            // Nothing is on disk of the Upload of a small file, so nothing has to be taken back.
            task.job.refusals += u32::from(why == Why::Refused);
        }
        // Behind the step: it is sent when that is on disk.
        if let Some(upload) = given_up {
            self.cancel_upload(id, account, upload);
        }
    }
}

fn is_expired(session: &Session, now: Boot) -> bool {
    matches!(session.deadline, Deadline::At(at) if at <= now)
}

fn work(task: &Task, kind: Kind, limits: &Limits, alone: bool) -> Option<Work> {
    let subject = || Box::new(task.job.subject.clone());
    let session = task.opened.as_ref().or_else(|| task.job.stage.session());
    Some(match kind {
        Kind::Examine => Work::Examine { subject: subject(), look: limits.look(&task.job.subject)? },
        Kind::Confirm => Work::Confirm { subject: subject(), same: task.same.last()?.clone() },
        Kind::Create => Work::Create(subject()),
        Kind::Part(index) => {
            let session = session?;
            let range = session.parts.get(index)?.range.clone();
            let begun = session.stored_parts() > 0;
            let last = task.job.md5.is_some() || !limits.checksum;
            let upload = session.upload.clone();
            Work::Part { subject: subject(), upload, index, range, begun, last, alone }
        }
        Kind::Whole => {
            Work::Whole { subject: subject(), upload: session?.upload.clone(), checksum: limits.checksum }
        }
        Kind::Hash => Work::Hash(subject()),
        Kind::Verify => Work::Verify { subject: subject(), sent: wanted(&task.job, session?).sent },
        Kind::Complete => Work::Complete {
            upload: session?.upload.clone(),
            parts: session?.part_ids()?,
            md5: task.job.md5.clone().filter(|_| limits.checksum),
        },
        Kind::Fence => Work::Cancel(session?.upload.clone()),
        Kind::Search => Work::Search(Box::new(wanted(&task.job, session?))),
        Kind::AskFile => Work::AskFile(task.named.clone()?),
        Kind::Cancel | Kind::Check | Kind::Probe => return None,
    })
}

/// The File that the Upload of a job may have become.
pub(super) fn wanted(job: &Job, session: &Session) -> Wanted {
    let subject = &job.subject;
    let stored = |part: &PlannedPart| part.stored.as_ref().map(|(_, digest)| (part.range.clone(), *digest));
    Wanted {
        job: job.id,
        name: if session.echoed_name.is_empty() {
            subject.filename.clone()
        } else {
            session.echoed_name.clone()
        },
        purpose: subject.purpose.clone(),
        bytes: subject.fingerprint.bytes,
        since: session.server_created_at.saturating_sub(reconcile::SKEW_SECONDS),
        sent: session.parts.iter().filter_map(stored).collect(),
    }
}
