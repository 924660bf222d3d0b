//! Whether the board waits for something. If there is work and it does not, nothing will ever begin it.

use super::super::job::{JobId, Stage, Subject};
use super::super::time::{Now, Wall};
use super::super::why::Wait;
use super::gates::Gate;
use super::task::{Task, UnderWay};
use super::{Board, Scope};

impl Board {
    /// What a job that has not ended waits for, of what the board knows. `due` is what its row says, for one that waits in the
    /// store.
    pub fn wait_of(&self, id: JobId, subject: &Subject, due: Option<Wall>, now: Now) -> Wait {
        let task = self.tasks.get(&id);
        let completing = task.is_some_and(|task| matches!(task.job.stage, Stage::Completing(..)));
        if let Some(task) = task.filter(|task| !task.under_way.is_empty()) {
            let looks = task.under_way.iter().all(|one| *one == UnderWay::Look);
            return if looks { Wait::Examined } else { Wait::Nothing };
        }
        if self.queue.is_paused(subject.folder) && !completing {
            return Wait::Paused(None);
        }
        let account = &subject.account;
        // A store that is down keeps all else from mattering.
        let held = self.gates.holds().filter(|(scope, _)| scope.covers(account, &self.limits));
        if let Some((scope, hold)) = held.max_by_key(|(scope, _)| **scope == Scope::Store) {
            let until = now.wall_at(hold.probe_at);
            return Wait::Held { scope: scope.to_string(), reason: hold.reason.clone(), until };
        }
        let paced = self.gates.paces().find(|(name, pace)| *name == account && pace.until > now.boot);
        if let Some((_, pace)) = paced {
            return Wait::Paced(now.wall_at(pace.until));
        }
        if let Some(task) = task.filter(|task| task.not_before > now.boot) {
            return Wait::Due(now.wall_at(task.not_before), task.job.attempts);
        }
        if let Some(due) = due.filter(|due| task.is_none() && *due > now.wall) {
            return Wait::Due(due, 0);
        }
        if self.has_busy_twin(id) { Wait::Twin } else { Wait::Slot }
    }

    /// A job that could go on now and does not, although nothing keeps it back: no operation under way, no back-off, no
    /// hold, no pause, no refill on its way, no commit that is awaited. The board starts all that may start at each event,
    /// so that this is a fault of ours.
    pub fn neglected(&self, now: Now) -> Option<JobId> {
        let resting = self.gates.holds().next().is_some() || self.gates.wakes().any(|at| at > now.boot);
        if self.stopping || resting || !self.operations.is_empty() {
            return None;
        }
        let commits = |task: &Task| matches!(task.job.stage, Stage::Completing(..)) && !task.committed;
        let neglected = self.tasks.iter().find(|(id, task)| {
            self.startable(task, now.boot) == Gate::Open && !commits(task) && !self.has_busy_twin(**id)
        });
        if let Some((id, _)) = neglected {
            return Some(*id);
        }
        // Jobs that wait out a failure, or a commit, may leave no room on the board.
        let waiting = self.tasks.values().any(|task| task.not_before > now.boot || commits(task));
        if waiting { None } else { self.queue.ready() }
    }
}
