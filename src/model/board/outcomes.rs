//! What the end of an operation means for its job.

use super::super::answer::{Upload, UploadStatus};
use super::super::failure::{Failure, Operation};
use super::super::job::{
    AccountName, Code, Deadline, Doubt, Fence, Job, JobId, PlannedPart, Reason, Session, Stage, State, Step,
    Why,
};
use super::super::plan;
use super::super::policy::{self, Blame, Situation, Verdict};
use super::super::reconcile;
use super::super::time::Now;
use super::gates::{Scope, Streak};
use super::task::Task;
use super::{Board, Context, Done, Effect, Kind, OperationId, Outcome, Running};

/// A server that takes no Part of this size is no server for files.
const LEAST_CAP: u64 = 1024 * 1024;

/// How long an account rests where the server asks for it without saying how long.
const SHORT_REST: std::time::Duration = std::time::Duration::from_secs(1);

/// Queued jobs that wait out a failure on the board rather than in the store.
const WAITING_HERE: usize = 64;

impl Board {
    pub(super) fn finished(&mut self, id: OperationId, outcome: Outcome, now: Now) {
        let Some(running) = self.operations.remove(&id) else { return };
        let server = self.server_of(&running.account);
        let answered = outcome.facts.is_some() && outcome.result.is_ok();
        if answered {
            for scope in
                self.gates.succeeded(&running.account, &server, running.kind.operation(), self.part_slots())
            {
                self.lift(&scope, now);
            }
        }
        if let Err(Failure::Refused { facts, .. }) = &outcome.result
            && let Some(scope) = self.gates.refused(&server, facts.status)
        {
            self.lift(&scope, now);
        }
        let was_probe = self.gates.holds().any(|(_, hold)| hold.is_probed_by(id));
        self.gates.probe_ended(id, !outcome.interrupted, now.boot);
        if running.kind == Kind::Probe {
            self.probed(&running, &outcome, now);
            return;
        }
        if let (true, Some(job), Ok(Done::Created(upload))) = (running.stale, running.job, &outcome.result) {
            // Its job went on without it: nobody will use this Upload.
            self.cancel_upload(job, running.account.clone(), upload.id.clone());
        }
        let Some(job) = running.job.filter(|_| !running.stale && running.kind != Kind::Cancel) else {
            return;
        };
        let Some(task) = self.tasks.get_mut(&job) else { return };
        if let Some(under_way) = running.kind.into() {
            task.under_way.remove(&under_way);
        }
        if outcome.interrupted {
            if matches!(running.kind, Kind::Complete | Kind::Fence) {
                task.doubt(now.boot);
            }
            task.lost_part |= matches!(running.kind, Kind::Part(_) | Kind::Whole);
            return;
        }
        let context = Context {
            // Hashing and looking are no requests.
            operation: Some(running.kind.operation()).filter(|_| !running.kind.is_local()),
            facts: outcome
                .facts
                .clone()
                .or_else(|| outcome.result.as_ref().err().and_then(Failure::facts).cloned()),
            took: outcome.took,
            bytes: None,
        };
        if running.kind == Kind::Check {
            self.checked(job, outcome.result, context);
            return;
        }
        match outcome.result {
            Ok(done) => self.succeeded(job, running.kind, done, running.moved, context, now),
            Err(failure) => self.failed(job, &running, &failure, was_probe, context, now),
        }
    }

    /// `moved`: bytes of a Part that were counted already.
    fn succeeded(&mut self, id: JobId, kind: Kind, done: Done, moved: u64, context: Context, now: Now) {
        match done {
            Done::Created(upload) => self.created(id, upload, context, now),
            Done::PartStored(part, digest) => {
                let Kind::Part(index) = kind else { return };
                let Some(task) = self.tasks.get_mut(&id) else { return };
                task.proven = true;
                let range = task.job.stage.session().and_then(|session| session.parts.get(index));
                let bytes = range.map(|part| part.range.end - part.range.start);
                let account = task.job.subject.account.clone();
                self.sent(&account, bytes.unwrap_or_default().saturating_sub(moved), now.boot);
                self.step(
                    id,
                    Step::PartStored { index, id: part, digest },
                    Context { bytes, ..context },
                    false,
                );
            }
            Done::WholeStored(part, digest, md5) => {
                let Some(task) = self.tasks.get_mut(&id) else { return };
                let Some(mut session) = task.opened.take() else { return };
                if let Some(planned) = session.parts.first_mut() {
                    planned.stored = Some((part, digest));
                }
                let bytes = Some(task.job.subject.fingerprint.bytes);
                let created = std::mem::take(&mut task.created);
                self.effects.push(Effect::Note { job: id, context: created });
                self.step(id, Step::SentWhole { session, md5 }, Context { bytes, ..context }, true);
            }
            Done::Examined { report, same } => self.examined(id, report, same, context),
            Done::Confirmed(file) => self.confirmed(id, &file, context, now),
            Done::Hashed(md5) => self.step(id, Step::Hashed(md5), context, false),
            Done::Verified => {
                if self.stopping {
                    return;
                }
                if let Some(task) = self.tasks.get_mut(&id) {
                    task.verified = true;
                }
                self.step(id, Step::Completing, context, true);
            }
            Done::Completed(upload) => self.completed(id, upload, context, now),
            Done::Panicked(text) => self.panicked(id, kind, &text, context, now),
            Done::Cancelled(upload) if kind == Kind::Fence => self.fence_answered(id, upload, context, now),
            Done::Searched(found) => self.searched(id, &found, context, now),
            Done::FileSeen(file) => self.file_seen(id, file, context, now),
            Done::Cancelled(_) | Done::Checked { .. } | Done::Probed => {}
        }
    }

    fn created(&mut self, id: JobId, upload: Upload, context: Context, now: Now) {
        let Some(task) = self.tasks.get(&id) else { return };
        let ranges = self.plan(&task.job);
        let session = Session {
            upload: upload.id,
            echoed_name: upload.filename,
            server_created_at: upload.created_at,
            deadline: Deadline::At(now.boot + policy::lifetime(upload.created_at, upload.expires_at)),
            parts: ranges.into_iter().map(|range| PlannedPart { range, stored: None }).collect(),
        };
        let whole = task.is_small() && session.parts.len() == 1;
        if let Some(task) = self.tasks.get_mut(&id) {
            task.opened_at = now.boot;
        }
        if let Some(task) = self.tasks.get_mut(&id).filter(|_| whole) {
            task.opened = Some(session);
            task.created = context;
        } else {
            self.step(id, Step::Opened(session), context, false);
        }
    }

    pub(super) fn completed(&mut self, id: JobId, upload: Upload, context: Context, now: Now) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        let bytes = task.job.subject.fingerprint.bytes;
        match (upload.status, upload.file) {
            (UploadStatus::Completed, Some(file)) if file.bytes.is_none_or(|size| size == bytes) => {
                let step = Step::Stored { file: file.id, expires_at: file.expires_at };
                self.step(id, step, Context { bytes: Some(bytes), ..context }, false);
                self.forget(id);
            }
            (UploadStatus::Completed, Some(file)) => {
                let words = format!(
                    "the server made File {} of {} bytes from {bytes} bytes",
                    file.id,
                    file.bytes.unwrap_or_default()
                );
                let reason = Reason::local(Code::BadAnswer, words);
                self.step(id, Step::Unresolved { reason, candidates: vec![file.id] }, context, false);
                self.forget(id);
            }
            (UploadStatus::Cancelled | UploadStatus::Expired, _) if task.doubts() != Doubt::None => {
                // Of a first complete whose answer was lost it says no more than cancel would: the list is looked at.
                self.fenced(id, Fence::Closed, context, now);
            }
            (UploadStatus::Cancelled | UploadStatus::Expired, _) => {
                let words = "complete was answered with an Upload that had ended without a File";
                self.restart(id, Why::Other, Reason::local(Code::UploadExpired, words), context, now);
            }
            (status, file) => {
                // Azure answers while it still works: the File that it names, or the same request again, tells how it ended.
                task.doubt(now.boot);
                task.ask_named = file.is_some();
                task.named = file.map(|file| file.id).or(task.named.take());
                let words = format!("complete was answered with an Upload that is {status:?}");
                self.put_off(id, Reason::local(Code::BadAnswer, words), None, context, now);
            }
        }
    }

    /// A server that gives one id to two Files, or answers with another's: which it is a person has to see.
    pub(super) fn contested(&mut self, job: Job, now: Now) {
        let id = job.id;
        self.tasks.insert(id, Task::resumed(job, now));
        let words = "complete was answered with a File that another job of the ledger has";
        let reason = Reason::local(Code::CompleteUnresolved, words);
        self.step(id, Step::Unresolved { reason, candidates: Vec::new() }, Context::default(), false);
        self.forget(id);
    }

    fn panicked(&mut self, id: JobId, kind: Kind, text: &str, context: Context, now: Now) {
        let reason = Reason::local(Code::Internal, format!("{} panicked: {text}", kind.operation().name()));
        let Some(task) = self.tasks.get_mut(&id) else { return };
        if matches!(task.job.stage, Stage::Completing(..)) {
            task.doubt(now.boot);
            self.put_off(id, reason, None, context, now);
        } else {
            self.fail(id, reason, context);
        }
    }

    fn failed(
        &mut self,
        id: JobId,
        running: &Running,
        failure: &Failure,
        was_probe: bool,
        context: Context,
        now: Now,
    ) {
        let random = self.random.next();
        let Some(task) = self.tasks.get_mut(&id) else { return };
        let operation = running.kind.operation();
        if running.kind == Kind::Complete {
            task.completed_at = Some(now.boot);
            // So long it is repeated before a conflict is taken for an answer.
            task.doubted_at.get_or_insert(now.boot);
        }
        if failure.may_have_acted() {
            match running.kind {
                Kind::Complete | Kind::Fence => task.doubt(now.boot),
                Kind::Part(_) | Kind::Whole => task.lost_part = true,
                _ => {}
            }
        }
        let session = task.opened.as_ref().or_else(|| task.job.stage.session());
        let situation = Situation {
            retry: &self.limits.retry,
            attempts: task.job.attempts,
            deadline: session.map(|session| session.deadline),
            doubt: task.doubts(),
            waited_out: task
                .doubted_at
                .is_some_and(|since| now.boot.since(since) >= self.limits.complete_timeout),
            refused_before: task.job.refusals > 0 && !task.may_blame_lost_part(),
            random,
        };
        match policy::judge(operation, failure, &situation, now.boot) {
            Verdict::Retry { after, reason, blame } => {
                let pace = context.facts.as_ref().and_then(policy::wish).unwrap_or(SHORT_REST);
                if self.blame(id, running, blame, &reason, now + pace, was_probe, now) {
                    self.put_off(id, reason, Some(after), context, now);
                }
            }
            Verdict::Restart(reason) => {
                let lost = self.tasks.get(&id).is_some_and(Task::may_blame_lost_part);
                let why = if reason.code == Code::UploadExpired || lost { Why::Other } else { Why::Refused };
                self.restart(id, why, reason, context, now);
            }
            Verdict::SmallerParts(reason) => self.smaller_parts(id, running, reason, context, now),
            Verdict::Inquire(reason) => self.inquire(id, reason, context, now),
            Verdict::Refused(reason) => {
                self.question_refused(id, running.kind, failure, reason, context, now)
            }
            Verdict::Reject(reason) => self.fail(id, reason, context),
            Verdict::Vanished(reason) => self.vanished(id, reason, context),
            Verdict::Hold(reason) => {
                self.hold(Scope::Account(running.account.clone()), reason, operation, now);
                if let Some(task) = self.tasks.get_mut(&id) {
                    task.not_before = now.boot;
                }
            }
        }
    }

    /// Finds out whose fault a failure is. Tells whether it counts against the job.
    #[expect(clippy::too_many_arguments, reason = "the facts of one failure")]
    fn blame(
        &mut self,
        id: JobId,
        running: &Running,
        blame: Blame,
        reason: &Reason,
        until: Now,
        was_probe: bool,
        now: Now,
    ) -> bool {
        let scope = match blame {
            Blame::Job => return true,
            Blame::Pace => {
                let parts = self.running_parts() + 1;
                self.slow_down(&running.account, until, parts, now);
                return true;
            }
            Blame::Server => Scope::Server(self.server_of(&running.account)),
            Blame::Account => Scope::Account(running.account.clone()),
        };
        if reason.status == Some(503) {
            let parts = self.running_parts() + 1;
            self.slow_down(&running.account, until, parts, now);
        }
        if was_probe || self.gates.is_held(&scope) {
            // Behind all others at the next probe: a file that trips the server must not be the only one to ask it.
            let next =
                self.gates.probe_at(&scope).map_or(now.boot, |at| at + std::time::Duration::from_millis(1));
            if let Some(task) = self.tasks.get_mut(&id) {
                task.not_before = next;
                task.was_held = true;
            }
            return false;
        }
        match self.gates.failed(&scope, id) {
            Streak::One => true,
            Streak::Same => {
                self.probe(&running.account);
                true
            }
            Streak::Several => {
                self.hold(scope, reason.clone(), running.kind.operation(), now);
                if let Some(task) = self.tasks.get_mut(&id) {
                    task.not_before = now.boot;
                }
                false
            }
        }
    }

    fn slow_down(&mut self, account: &AccountName, until: Now, running: usize, now: Now) {
        self.gates.slow_down(account, until.boot, running, now.boot);
        for task in self.tasks.values_mut().filter(|task| task.job.subject.account == *account) {
            task.was_held = true;
        }
    }

    /// A job and then the cheap request failed: it is the server.
    fn probed(&mut self, running: &Running, outcome: &Outcome, now: Now) {
        let Err(failure) = &outcome.result else { return };
        if outcome.interrupted {
            return;
        }
        let situation = Situation {
            retry: &self.limits.retry,
            attempts: 0,
            deadline: None,
            doubt: Doubt::None,
            waited_out: false,
            refused_before: false,
            random: 1.0,
        };
        match policy::judge(Operation::ListFiles, failure, &situation, now.boot) {
            Verdict::Retry { reason, blame: Blame::Server, .. } => {
                self.hold(Scope::Server(self.server_of(&running.account)), reason, Operation::ListFiles, now);
            }
            Verdict::Retry { reason, blame: Blame::Account, .. } | Verdict::Hold(reason) => {
                self.hold(Scope::Account(running.account.clone()), reason, Operation::ListFiles, now);
            }
            // Refused in some other way: the server lives, so what fails is the job's own.
            _ => {}
        }
    }

    /// Tries the job again after `after`, or gives it up if it was tried for long enough.
    pub(super) fn put_off(
        &mut self,
        id: JobId,
        reason: Reason,
        after: Option<std::time::Duration>,
        context: Context,
        now: Now,
    ) {
        let random = self.random.next();
        let Some(task) = self.tasks.get_mut(&id) else { return };
        // What broke eight Parts of a file at once is one failure of it.
        if task.not_before > now.boot && matches!(task.job.stage, Stage::Sending(_)) {
            return;
        }
        // On the clock that nobody sets; the row has the calendar's, for people.
        let failing = task.job.failing_since.and(task.failing).unwrap_or(now.boot);
        let tried_enough = policy::gives_up(&self.limits.retry, failing, now.boot);
        match &task.job.stage {
            Stage::Completing(session, doubt) if *doubt != Doubt::None => {
                let ends = reconcile::ends_for_certain(
                    session.deadline,
                    task.met,
                    task.doubted_at,
                    self.limits.complete_timeout,
                );
                // Behind its end no repetition brings what the first complete did not.
                if tried_enough || (*doubt == Doubt::MayHaveActed && now.boot >= ends) {
                    self.inquire_further(id, reason, context, now);
                    return;
                }
            }
            // That nobody can say whether the server has it already is no reason not to send it.
            Stage::Queued if tried_enough && !task.same.is_empty() => {
                task.job.failing_since = None;
                task.failing = None;
                self.not_the_same(id);
                return;
            }
            _ if tried_enough => {
                self.fail(id, reason, context);
                return;
            }
            _ => {}
        }
        let attempts = task.job.attempts;
        let after = after.unwrap_or_else(|| policy::backoff(&self.limits.retry, attempts, random));
        self.wait(id, after, reason, context, now);
    }

    /// Has the job wait, and writes down for what.
    pub(super) fn wait(
        &mut self,
        id: JobId,
        after: std::time::Duration,
        reason: Reason,
        context: Context,
        now: Now,
    ) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        let due = now + after;
        task.not_before = due.boot;
        // What its hour loses by that is not the link's fault.
        task.was_held = true;
        task.failing = Some(task.job.failing_since.and(task.failing).unwrap_or(now.boot));
        let queued = task.job.stage.state() == State::Queued;
        let (attempts, failing_since) = (task.job.attempts + 1, task.job.failing_since.unwrap_or(now.wall));
        let step = Step::PutOff { due: due.wall, reason, attempts, failing_since };
        self.step(id, step, context, false);
        let waiting = self.tasks.values().filter(|task| task.not_before > now.boot).count();
        let opened = self.tasks.get(&id).is_some_and(|task| task.opened.is_some());
        if queued && !opened && waiting > WAITING_HERE {
            self.queue.wake_at(Some(due.wall));
            self.forget(id);
        }
    }

    pub(super) fn fail(&mut self, id: JobId, reason: Reason, context: Context) {
        self.end_with(id, Step::Failed(reason), context);
    }

    fn vanished(&mut self, id: JobId, reason: Option<Reason>, context: Context) {
        let Some(task) = self.tasks.get(&id) else { return };
        let (folder, path) = (task.job.subject.folder, task.job.subject.path.clone());
        if reason.is_some() {
            self.effects.push(Effect::LookAgain(folder, path));
        }
        self.end_with(id, Step::Gone(reason), context);
    }

    /// Ends the job by this step, and then its Upload, if one is open.
    pub(super) fn end_with(&mut self, id: JobId, step: Step, context: Context) {
        let Some(task) = self.tasks.get(&id) else { return };
        let account = task.job.subject.account.clone();
        let session = task.opened.as_ref().or_else(|| task.job.stage.session());
        let upload = session.map(|session| session.upload.clone());
        self.step(id, step, context, false);
        self.forget(id);
        if let Some(upload) = upload {
            self.cancel_upload(id, account, upload);
        }
    }

    /// Something before the server takes no body of this size: remember it, and send smaller ones.
    fn smaller_parts(&mut self, id: JobId, running: &Running, reason: Reason, context: Context, now: Now) {
        let Some(task) = self.tasks.get(&id) else { return };
        let session = task.opened.as_ref().or_else(|| task.job.stage.session());
        let largest = session
            .and_then(|session| session.parts.iter().map(|part| part.range.end - part.range.start).max())
            .unwrap_or(plan::MAX_PART_BYTES);
        let cap = largest / 2;
        if cap < LEAST_CAP {
            self.fail(id, reason, context);
            return;
        }
        let server = self.server_of(&running.account);
        let known = self.part_caps.entry(server.clone()).or_insert(cap);
        *known = (*known).min(cap);
        let bytes = *known;
        self.effects.push(Effect::PartCap { server, bytes });
        self.restart(id, Why::Other, reason, context, now);
    }
}
