//! The look at a file before it is sent: who is looked at when, and what follows.
//!
//! A job is looked at once in a run, before its Upload is opened, and a few at a time ahead of those that are sent, so that
//! nobody waits for it: what has nothing to look at passes by. A job that was looked at waits in its line again, at its
//! old place. Nothing of that is on disk: after a restart it is done again.

use std::collections::HashSet;

use super::super::answer::RemoteFile;
use super::super::examine::{Same, can_stand_for};
use super::super::job::{AccountName, Code, Job, JobId, Reason, Stage, Step, Subject};
use super::super::preflight::Report;
use super::super::time::Now;
use super::gates::Gate;
use super::queue::{Place, Turn};
use super::task::Task;
use super::{Board, Context, Effect, Kind};

/// Files looked at at once: as many as a small machine has cores.
const EXAMINATIONS: usize = 2;

/// A job that failed so often in a row is not waited for by those that are the same.
const HOPELESS: u32 = 3;

/// What files have in common that may be the same, as far as it is known without reading them.
type Likeness<'a> = (u64, &'a str, &'a str, &'a AccountName, Option<u64>);

fn likeness(subject: &Subject) -> Likeness<'_> {
    let Subject { fingerprint, filename, purpose, account, expires_after, .. } = subject;
    (fingerprint.bytes, filename, purpose, account, *expires_after)
}

impl Board {
    /// Begins to look at jobs that wait in their lines.
    pub(super) fn examine_ahead(&mut self, now: Now) {
        while self.running(Kind::Examine) < EXAMINATIONS && !self.is_full() {
            // Small and large files take turns, or one kind would wait for all of the other.
            let small_first = self.examined_now(true) <= self.examined_now(false);
            let place = self.unexamined(small_first, now).or_else(|| self.unexamined(!small_first, now));
            let Some((job, _)) = place.and_then(|place| self.queue.take(place)) else { return };
            let id = job.id;
            self.tasks.insert(id, Task::new(job, now));
            self.grant(id, Kind::Examine, Vec::new());
        }
    }

    /// Begins to look at a job that is on the board already: its Upload was given up, or an earlier look failed.
    pub(super) fn examine_on_board(&mut self, id: JobId, now: Now) {
        let may = self.tasks.get(&id).is_some_and(|task| self.startable(task, now.boot) != Gate::Shut);
        if may && self.running(Kind::Examine) < EXAMINATIONS {
            self.grant(id, Kind::Examine, Vec::new());
        }
    }

    fn examined_now(&self, small: bool) -> usize {
        let tasks = self.operations.values().filter(|running| running.kind == Kind::Examine);
        let tasks = tasks.filter_map(|running| self.tasks.get(&running.job?));
        tasks.filter(|task| task.is_small() == small).count()
    }

    /// The next job of its kind that is to be looked at. In a folder that wants to send nothing twice one waits while
    /// another that may be the same is under way: it may come to share its File.
    fn unexamined(&self, lane: bool, now: Now) -> Option<Place> {
        if !self.queue.may_look(lane) {
            return None;
        }
        let limits = &self.limits;
        let under_way: HashSet<Likeness<'_>> = if limits.examine.values().any(|folder| folder.dedupe) {
            let tasks = self.tasks.values().filter(|task| self.goes_on(task)).map(|task| &task.job);
            tasks.chain(self.queue.examined()).map(|job| likeness(&job.subject)).collect()
        } else {
            HashSet::new()
        };
        let turn = |job: &Job, examined: bool| {
            let look = limits.look(&job.subject).filter(|_| !examined);
            look.is_some_and(|look| !look.dedupe || !under_way.contains(&likeness(&job.subject)))
        };
        // It asks the server nothing, but while nothing may be asked there is no hurry. When a probe is due it goes on, since
        // the probe may have to be one of these.
        let may = |job: &Job| self.gate_of(&job.subject.account, now.boot) != Gate::Shut;
        self.queue.next(lane, Turn::Looking, turn, may)
    }

    fn goes_on(&self, task: &Task) -> bool {
        let completing = matches!(task.job.stage, Stage::Completing(..));
        completing || (!self.queue.is_paused(task.job.subject.folder) && task.job.attempts < HOPELESS)
    }

    /// A job was looked at.
    pub(super) fn examined(&mut self, id: JobId, report: Report, mut same: Vec<Same>, context: Context) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        same.reverse();
        task.examined = true;
        task.same = same;
        let (subject, look) = (Box::new(task.job.subject.clone()), self.limits.look(&task.job.subject));
        let rejected = report.summary().filter(|_| look.is_some_and(|look| look.rejects(&report)));
        if report != Report::default() {
            self.effects.push(Effect::Warn { job: id, subject, report });
        }
        match rejected {
            Some(words) => self.fail(id, Reason::local(Code::PreflightFailed, words), context),
            None => self.wait_in_line(id),
        }
    }

    /// The server has a File with the same bytes, and the file is still that version.
    pub(super) fn confirmed(&mut self, id: JobId, file: &RemoteFile, context: Context, now: Now) {
        let Some(task) = self.tasks.get(&id) else { return };
        let Some(same) = task.same.last() else { return };
        if can_stand_for(file, same, &task.job.subject, now) {
            let (file, from, expires_at) = (file.id.clone(), same.job, file.expires_at);
            self.step(id, Step::Deduped { file, from, expires_at }, context, false);
            self.forget(id);
        } else {
            self.not_the_same(id);
        }
    }

    /// This File cannot stand for the job's: another may, or it is sent.
    pub(super) fn not_the_same(&mut self, id: JobId) {
        if let Some(task) = self.tasks.get_mut(&id) {
            task.same.pop();
            self.wait_in_line(id);
        }
    }

    /// Nothing is left to look at: the job waits in its line again, unless there are Files to ask for.
    fn wait_in_line(&mut self, id: JobId) {
        if self.tasks.get(&id).is_some_and(|task| task.same.is_empty())
            && let Some(task) = self.tasks.remove(&id)
        {
            self.queue.put_back(task.job);
        }
    }

    /// The service ends: nobody waits for what is being looked at.
    pub(super) fn end_examinations(&mut self) {
        let looks = self.operations.iter().filter(|(_, running)| running.kind == Kind::Examine);
        self.effects.extend(looks.map(|(id, _)| Effect::Abort(*id)));
    }
}
