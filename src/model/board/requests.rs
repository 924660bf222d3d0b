//! What commands ask for. A request is one more event, so that `cancel` against a complete under way is a cell of the
//! table and not a race.

use super::super::answer::FileId;
use super::super::job::{Code, FolderId, Job, JobId, Stage, Step};
use super::super::plan::MAX_FILE_BYTES;
use super::super::time::Now;
use super::task::Task;
use super::{Board, Context, Effect};

/// A command's request.
#[derive(Clone, Debug)]
pub struct Request {
    /// Its row.
    pub id: i64,
    /// What is wanted.
    pub ask: Ask,
}

/// What a command wants.
#[derive(Clone, Debug)]
pub enum Ask {
    /// Stop sending, of one folder or all.
    Pause(Option<FolderId>),
    /// Go on sending, and try at once whatever is on hold.
    Resume(Option<FolderId>),
    /// Try a job again that ended; with its row as the store has it.
    Retry(Box<Job>),
    /// Stop a job.
    Cancel(Box<Job>),
    /// Make a job the next to be opened.
    Bump(Box<Job>),
    /// Settle an unresolved job.
    Resolve(Box<Job>, Resolution),
}

/// What a person says of an unresolved job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// This is its File; it is fetched and compared first.
    Is(FileId),
    /// The same, on the person's word.
    IsUnchecked(FileId),
    /// There is no File: send it again.
    Again,
}

impl Board {
    pub(super) fn asked(&mut self, request: Request, now: Now) {
        let result = match request.ask {
            Ask::Resolve(job, Resolution::Is(file)) => {
                // Answered when the File has been looked at.
                match self.check_file(*job, file, request.id, now) {
                    Ok(()) => return,
                    Err(text) => Err(text),
                }
            }
            Ask::Resolve(job, resolution) => self.resolve(*job, resolution, now),
            Ask::Pause(folder) => Ok(self.pause(folder, true, now)),
            Ask::Resume(folder) => Ok(self.pause(folder, false, now)),
            Ask::Retry(job) => self.retry(*job, now),
            Ask::Cancel(job) => self.cancel(*job, now),
            Ask::Bump(job) => self.bump(*job, now),
        };
        let done = result.is_ok();
        let (Ok(text) | Err(text)) = result;
        self.effects.push(Effect::Answer { request: request.id, done, text });
    }

    fn pause(&mut self, folder: Option<FolderId>, paused: bool, now: Now) -> String {
        for folder in folder.map_or_else(|| self.queue.folders(), |folder| vec![folder]) {
            self.queue.set_paused(folder, paused);
            self.effects.push(Effect::Paused { folder, paused });
        }
        for task in
            self.tasks.values_mut().filter(|task| folder.is_none_or(|one| one == task.job.subject.folder))
        {
            task.was_held = true;
            if !paused {
                task.not_before = now.boot;
                task.job.failing_since = None;
                task.failing = None;
            }
        }
        if !paused {
            self.gates.probe_all_now(now.boot);
            self.gates.rest_over(now.boot);
            self.queue.held_until(now.wall);
        }
        if paused { "paused".into() } else { "resumed".into() }
    }

    fn retry(&mut self, job: Job, now: Now) -> Result<String, String> {
        let (id, state) = (job.id, job.stage.state());
        if !matches!(job.stage, Stage::Failed | Stage::Cancelled | Stage::Skipped) {
            return Err(format!(
                "job {} is {state}; only failed, cancelled and skipped jobs can be tried again",
                id.0
            ));
        }
        let bytes = job.subject.fingerprint.bytes;
        if bytes == 0 || bytes > MAX_FILE_BYTES {
            let code = if bytes == 0 { Code::FileEmpty } else { Code::FileTooLarge };
            return Err(format!("job {} cannot be sent ({code}): {}", id.0, code.remedy()));
        }
        self.step_of(job, Step::Requeued, now);
        if let Some(task) = self.tasks.remove(&id) {
            self.queue.push_first(task.job);
        }
        Ok(format!("job {} is queued again", id.0))
    }

    fn cancel(&mut self, job: Job, now: Now) -> Result<String, String> {
        let id = job.id;
        let state = self.current(&job).stage.state();
        match self.current(&job).stage {
            Stage::Queued | Stage::Sending(_) => {
                self.queue.remove(id);
                self.tasks.entry(id).or_insert_with(|| Task::new(job, now));
                self.end_with(id, Step::Cancelled, Context::default());
                Ok(format!("job {} is cancelled", id.0))
            }
            Stage::Completing(..) => Err(format!("too late: the File of job {} is being made", id.0)),
            _ => Err(format!("job {} is {state} already", id.0)),
        }
    }

    fn resolve(&mut self, job: Job, resolution: Resolution, now: Now) -> Result<String, String> {
        let (id, state) = (job.id, job.stage.state());
        if !matches!(job.stage, Stage::Unresolved(_)) {
            return Err(format!("job {} is {state}; only unresolved jobs can be resolved", id.0));
        }
        if self.tasks.contains_key(&id) {
            return Err(format!("job {} is being resolved already", id.0));
        }
        match resolution {
            Resolution::Again => {
                self.step_of(job, Step::Requeued, now);
                if let Some(task) = self.tasks.remove(&id) {
                    self.queue.push_first(task.job);
                }
                Ok(format!("job {} is queued again", id.0))
            }
            Resolution::Is(file) | Resolution::IsUnchecked(file) => {
                let text = format!("job {} is stored as {file}, on your word", id.0);
                self.step_of(job, Step::Stored { file, expires_at: None }, now);
                self.forget(id);
                Ok(text)
            }
        }
    }

    fn bump(&mut self, job: Job, now: Now) -> Result<String, String> {
        let id = job.id;
        if self.current(&job).stage.state().has_ended() {
            return Err(format!("job {} is {} already", id.0, self.current(&job).stage.state()));
        }
        let waits = matches!(self.current(&job).stage, Stage::Queued) && !self.tasks.contains_key(&id);
        self.queue.remove(id);
        self.step_of(job, Step::Bumped, now);
        if let Some(task) = self.tasks.get_mut(&id) {
            task.not_before = now.boot;
        }
        if let Some(task) = waits.then(|| self.tasks.remove(&id)).flatten() {
            self.queue.push_first(task.job);
        }
        Ok(format!("job {} is next", id.0))
    }

    /// The job as the board has it, if it does; else as the store has it.
    fn current<'a>(&'a self, job: &'a Job) -> &'a Job {
        self.tasks.get(&job.id).map_or(job, |task| &task.job)
    }

    /// Takes a step for a job whether or not it was on the board.
    fn step_of(&mut self, job: Job, step: Step, now: Now) {
        let id: JobId = job.id;
        self.tasks.entry(id).or_insert_with(|| Task::new(job, now));
        self.step(id, step, Context::default(), false);
    }
}
