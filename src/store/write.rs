//! What can be written, and the doing of it inside a transaction that is open already.

use sqlx::SqliteConnection;

use crate::model::file::Fingerprint;
use crate::model::job::{FolderId, Job, JobId, State, Step};
use crate::model::presence::Change;
use crate::model::time::{Now, Wall};
use crate::text::{shown, shown_bytes};

use super::deadline::BootId;
use super::enqueue::{self, Candidate};
use super::error::{self, WriteError};
use super::finish::{self, Progress};
use super::history::{self, Context, HistoryRow};
use super::spool::Spooled;
use super::steps::{self, Taking};
use super::{Store, folders, requests, row, servers, together};

/// One change of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// A job takes a step.
    Step {
        /// Which job.
        job: JobId,
        /// Where it is believed to be.
        from: State,
        /// The step.
        step: Box<Step>,
        /// When.
        now: Now,
        /// What its history shall say besides.
        context: Box<Context>,
    },
    /// A file becomes a job, if its version is not known.
    Enqueue(Box<Candidate>),
    /// A job no longer speaks for what lies at its path: the file was moved, deleted, or missed by a whole scan.
    Retire(JobId),
    /// A file has other times and the same content.
    SameVersion {
        /// Its job.
        job: JobId,
        /// What it looks like now.
        fingerprint: Fingerprint,
    },
    /// How far receipt, move and hook got.
    Finish {
        /// Of which job.
        job: JobId,
        /// How far.
        progress: Box<Progress>,
    },
    /// Receipt, move or hook failed, and is to be done again.
    FinishAgain(JobId),
    /// What a person should know of a file; takes the place of what was said before.
    Warnings {
        /// Its job.
        job: JobId,
        /// The sentences.
        warnings: Vec<String>,
    },
    /// A folder stops, or goes on.
    Pause {
        /// Which.
        folder: FolderId,
        /// Why it stops; none: it goes on.
        why: Option<String>,
    },
    /// What stands before a server takes no larger Part.
    PartCap {
        /// By its base URL.
        server: String,
        /// In bytes.
        bytes: u64,
        /// When that was learnt.
        at: Wall,
    },
    /// The first whole scan of a folder has ended.
    Scanned {
        /// Which.
        folder: FolderId,
        /// When.
        at: Wall,
    },
    /// What lies at a place of a folder, since files were met there.
    Place {
        /// Which folder.
        folder: FolderId,
        /// Which place, and what is kept of it.
        change: Box<Change>,
    },
    /// Requests that were left in the spool.
    Spooled(Box<Spooled>),
    /// A request was taken up, and this came of it.
    Answer {
        /// Which.
        request: i64,
        /// When.
        at: Wall,
        /// Whether it was done as asked.
        done: bool,
        /// What to tell who asked.
        answer: String,
    },
    /// Something worth remembering that changes nothing.
    History(Box<HistoryRow>),
    /// Nothing: done when all before it is committed.
    Flush,
}

/// What a write did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Applied {
    /// What was asked; or it was so already.
    Done,
    /// There is a new job.
    Enqueued {
        /// It.
        job: Box<Job>,
        /// The job that spoke for the path before, and where it was. What was `queued` is `gone` now; all else is where
        /// it was, and what is open will find its source changed.
        replaced: Option<(JobId, State)>,
    },
    /// That version has a job; or the row of the path is not where it was when the candidate was made, and whoever made
    /// it has to look again.
    Known {
        /// It.
        job: JobId,
        /// Where it is.
        state: State,
    },
}

impl Write {
    /// The name in logs of faults.
    pub fn name(&self) -> &'static str {
        match self {
            Write::Step { step, .. } => step.name(),
            Write::Enqueue(_) => "enqueue",
            Write::Retire(_) => "retire",
            Write::SameVersion { .. } => "same-version",
            Write::Finish { .. } => "finish",
            Write::FinishAgain(_) => "finish-again",
            Write::Warnings { .. } => "warnings",
            Write::Pause { .. } => "pause",
            Write::PartCap { .. } => "part-cap",
            Write::Scanned { .. } => "scanned",
            Write::Place { .. } => "place",
            Write::Spooled(_) => "spooled",
            Write::Answer { .. } => "answer",
            Write::History(_) => "history",
            Write::Flush => "flush",
        }
    }

    /// What a person has to know if it is lost.
    pub(super) fn words(&self) -> String {
        match self {
            Write::Step { from, step, .. } => match &**step {
                Step::Stored { file, .. } | Step::Deduped { file, .. } => {
                    format!("{from} became {}", shown_bytes(file.0.as_bytes()))
                }
                other => format!("{from} took {}", other.name()),
            },
            Write::Enqueue(candidate) => shown(&candidate.subject.path),
            other => other.name().to_owned(),
        }
    }

    /// The job that it is about.
    pub fn job(&self) -> Option<JobId> {
        match self {
            Write::Step { job, .. }
            | Write::Retire(job)
            | Write::SameVersion { job, .. }
            | Write::Finish { job, .. }
            | Write::FinishAgain(job)
            | Write::Warnings { job, .. } => Some(*job),
            Write::History(row) => Some(row.job),
            Write::Enqueue(_)
            | Write::Pause { .. }
            | Write::PartCap { .. }
            | Write::Scanned { .. }
            | Write::Place { .. }
            | Write::Spooled(_)
            | Write::Answer { .. }
            | Write::Flush => None,
        }
    }

    /// Does it, apart from what is to be `told` by the history: that is still to be inserted. The outer error is of the store
    /// or of a statement, and the transaction has to be rolled back; the inner one is of this write, which changed nothing.
    async fn apply(
        &self,
        connection: &mut SqliteConnection,
        boot: &BootId,
        told: &mut Vec<HistoryRow>,
    ) -> sqlx::Result<Result<Applied, WriteError>> {
        let changed = match self {
            Write::Step { job, from, step, now, context } => {
                let mut taking = Taking {
                    connection: &mut *connection,
                    job: *job,
                    from: *from,
                    now: *now,
                    boot,
                    finish: context.finish,
                };
                let taken = taking.take(step).await?;
                let row = HistoryRow::of_step(*job, step, now.wall, context);
                return came_of(step, row, taken, connection, told).await;
            }
            Write::Enqueue(candidate) => {
                let mut applied = enqueue::enqueue(connection, &[candidate], boot).await?;
                return applied.pop().map(Ok).ok_or(sqlx::Error::RowNotFound);
            }
            Write::Retire(job) => {
                // Already retired is as good.
                enqueue::retire_missing(connection, *job).await?;
                true
            }
            Write::SameVersion { job, fingerprint } => {
                enqueue::same_version(connection, *job, fingerprint).await?
            }
            Write::Finish { job, progress } => {
                finish::set_progress(connection, *job, progress).await?;
                true
            }
            Write::FinishAgain(job) => finish::redo(connection, *job).await?,
            Write::Warnings { job, warnings } => set_warnings(connection, *job, warnings).await?,
            Write::Pause { folder, why } => folders::set_paused(connection, *folder, why.as_deref()).await?,
            Write::PartCap { server, bytes, at } => {
                servers::set_part_cap(connection, server, *bytes, *at).await?;
                true
            }
            Write::Scanned { folder, at } => folders::set_scanned(connection, *folder, *at).await?,
            Write::Place { folder, change } => {
                folders::set_place(connection, *folder, change).await?;
                true
            }
            Write::Spooled(spooled) => {
                requests::take_up(connection, spooled).await?;
                true
            }
            Write::Answer { request, at, done, answer } => {
                requests::answer(connection, *request, *at, *done, answer).await?;
                true
            }
            Write::History(row) => {
                told.push((**row).clone());
                true
            }
            Write::Flush => true,
        };
        Ok(match (changed, self.job()) {
            (true, _) => Ok(Applied::Done),
            (false, Some(job)) => {
                let (found, _) = steps::found(connection, job, &Step::Bumped).await?;
                Err(WriteError::Conflict { job, what: self.name(), found })
            }
            (false, None) => {
                Err(WriteError::Refused { what: self.name(), message: "there is no such row".to_owned() })
            }
        })
    }

    /// Does many, in order: runs of new files, and of the steps of small ones, in one statement each, and so what their history
    /// tells.
    pub(super) async fn apply_all(
        writes: &[&Write],
        connection: &mut SqliteConnection,
        boot: &BootId,
    ) -> sqlx::Result<Vec<Result<Applied, WriteError>>> {
        let mut results = Vec::with_capacity(writes.len());
        let mut told = Vec::new();
        while let Some(write) = writes.get(results.len()) {
            let files: Vec<&Candidate> = writes[results.len()..]
                .iter()
                .take(enqueue::TOGETHER)
                .map_while(|write| match write {
                    Write::Enqueue(candidate) => Some(&**candidate),
                    _ => None,
                })
                .collect();
            if files.is_empty() {
                let run = together::run(&writes[results.len()..]);
                if run.len() < 2 {
                    results.push(write.apply(connection, boot, &mut told).await?);
                    continue;
                }
                let taken = together::take(connection, boot, run).await?;
                for write in run {
                    results.push(match write {
                        Write::Step { job, step, now, context, .. } => {
                            let row = HistoryRow::of_step(*job, step, now.wall, context);
                            came_of(step, row, taken.contains(job), connection, &mut told).await?
                        }
                        // Of these nothing else is among them than what the history tells.
                        other => other.apply(connection, boot, &mut told).await?,
                    });
                }
            } else {
                // A new file may end the job that waited for its path, and that tells so at once.
                history::insert(connection, std::mem::take(&mut told)).await?;
                results.extend(enqueue::enqueue(connection, &files, boot).await?.into_iter().map(Ok));
            }
        }
        history::insert(connection, told).await?;
        Ok(results)
    }

    /// What an error of a statement means for who asked.
    pub(super) fn refused(&self, error: &sqlx::Error) -> WriteError {
        let unique = error.as_database_error().is_some_and(sqlx::error::DatabaseError::is_unique_violation);
        match self {
            Write::Step { job, step, .. } if unique => match **step {
                Step::Completing | Step::SentWhole { .. } => WriteError::Twin { job: *job },
                Step::Stored { .. } => WriteError::FileTaken { job: *job },
                _ => WriteError::Refused { what: self.name(), message: error.to_string() },
            },
            _ => WriteError::Refused { what: self.name(), message: error.to_string() },
        }
    }
}

/// What a step comes to that was `taken` or not: the row of its history, or whether it was taken before.
async fn came_of(
    step: &Step,
    row: HistoryRow,
    taken: bool,
    connection: &mut SqliteConnection,
    told: &mut Vec<HistoryRow>,
) -> sqlx::Result<Result<Applied, WriteError>> {
    let job = row.job;
    if taken {
        told.push(row);
        return Ok(Ok(Applied::Done));
    }
    let (found, there) = steps::found(connection, job, step).await?;
    Ok(if there { Ok(Applied::Done) } else { Err(WriteError::Conflict { job, what: step.name(), found }) })
}

impl Store {
    /// Does one write in a transaction of its own, for whoever holds the lock and runs no writer.
    ///
    /// # Errors
    /// If the write does not fit what is there, or the store fails.
    pub async fn write(&self, write: &Write) -> Result<Applied, WriteError> {
        let failed = |error: sqlx::Error| {
            if error::is_of_statement(&error) {
                write.refused(&error)
            } else {
                WriteError::Store { code: error::code_of(&error), message: error.to_string() }
            }
        };
        let mut transaction = self.writer.begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
        let applied = Write::apply_all(&[write], &mut transaction, &self.boot).await.map_err(failed)?;
        let applied = applied.into_iter().next().unwrap_or(Ok(Applied::Done))?;
        transaction.commit().await.map_err(failed)?;
        Ok(applied)
    }
}

async fn set_warnings(
    connection: &mut SqliteConnection,
    job: JobId,
    warnings: &[String],
) -> sqlx::Result<bool> {
    let changed = sqlx::query("-- set_warnings\nUPDATE jobs SET warnings = ?2 WHERE id = ?1")
        .bind(job.0)
        .bind(row::json(warnings.iter().map(String::as_str)))
        .execute(connection)
        .await?
        .rows_affected();
    Ok(changed == 1)
}
