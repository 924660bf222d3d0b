//! Whether the board waits for something. If there is work and it does not, nothing will ever begin it.

use super::super::job::{JobId, Stage};
use super::super::time::Now;
use super::Board;
use super::gates::Gate;
use super::task::Task;

impl Board {
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
