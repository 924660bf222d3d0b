//! What is still to be done after jobs have ended, and how far that got.

use std::path::{Path, PathBuf};

use sqlx::{Row, SqliteConnection};

use crate::model::finish::FinishStep;
use crate::model::job::{FolderId, JobId, State};
use crate::model::time::Wall;

use super::error::Result;
use super::row::FinishState;
use super::{Store, row};

/// How far the end of a job got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The end that this is about: the job may have been queued again, or resolved, and ended anew since.
    pub of: (State, FinishStep),
    /// How it stands.
    pub state: FinishState,
    /// The step that is next, or that failed; none when all are done.
    pub step: Option<FinishStep>,
    /// How often that one has failed.
    pub tries: u32,
    /// Not tried before this.
    pub due: Wall,
    /// Why it failed the last time.
    pub error: Option<String>,
    /// What became of the source, where that was the step.
    pub source: Option<SourceEnd>,
}

/// What became of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceEnd {
    /// It does not lie at its path any more, and its row speaks for that path no longer.
    Left {
        /// Where it was moved, absolute.
        moved_to: Option<PathBuf>,
    },
    /// It is where it was, or another version is.
    Stays,
}

/// A job whose next step is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unfinished {
    /// The job.
    pub job: JobId,
    /// Its next step.
    pub step: FinishStep,
    /// How often that has failed.
    pub tries: u32,
}

impl Store {
    /// The jobs whose next step, one of `steps`, is due, at most `limit`. No wait is longer than a day, so one that seems so
    /// was written under another calendar.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn unfinished(&self, steps: &[FinishStep], now: Wall, limit: usize) -> Result<Vec<Unfinished>> {
        let mut unfinished = Vec::new();
        for step in steps {
            let rows = sqlx::query(
                "-- unfinished\n\
                 SELECT id, finish_tries FROM jobs INDEXED BY jobs_unfinished \
                 WHERE finish_state = 'pending' AND finish_step = ?1 \
                 AND (finish_due <= ?2 OR finish_due > ?2 + 86400000) \
                 ORDER BY finish_due, id LIMIT ?3",
            )
            .bind(step.as_str())
            .bind(now.0)
            .bind(row::int(limit.saturating_sub(unfinished.len())))
            .fetch_all(&self.reader)
            .await?;
            for row in &rows {
                let tries = row::number(row, "finish_tries")?;
                unfinished.push(Unfinished { job: JobId(row.try_get("id")?), step: *step, tries });
            }
        }
        Ok(unfinished)
    }

    /// How many jobs have something left to be done, and when the next one of them comes due that is not yet.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn unfinished_later(&self, now: Wall) -> Result<(u64, Option<Wall>)> {
        let row = sqlx::query(
            "-- unfinished_later\n\
             SELECT count(*) AS jobs, min(iif(finish_due > ?1, finish_due, NULL)) AS next \
             FROM jobs INDEXED BY jobs_unfinished WHERE finish_state = 'pending'",
        )
        .bind(now.0)
        .fetch_one(&self.reader)
        .await?;
        Ok((row::number(&row, "jobs")?, row::wall(&row, "next")?))
    }

    /// The jobs whose end failed, oldest first.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn badly_finished(&self, folder: Option<FolderId>) -> Result<Vec<JobId>> {
        let rows = sqlx::query(
            "-- badly_finished\n\
             SELECT id FROM jobs INDEXED BY jobs_finish_failed \
             WHERE finish_state = 'failed' AND (?1 IS NULL OR folder = ?1) ORDER BY id",
        )
        .bind(folder.map(|folder| folder.0))
        .fetch_all(&self.reader)
        .await?;
        Ok(rows.iter().map(|row| row.try_get("id").map(JobId)).collect::<sqlx::Result<_>>()?)
    }

    /// The job that speaks for what lies at a path now.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn speaker(&self, folder: FolderId, path: &Path) -> Result<Option<JobId>> {
        let id: Option<i64> = sqlx::query_scalar(
            "-- speaker\n\
             SELECT id FROM jobs INDEXED BY jobs_present WHERE folder = ?1 AND path = ?2 AND present = 1",
        )
        .bind(folder.0)
        .bind(row::bytes_of(path))
        .fetch_optional(&self.reader)
        .await?;
        Ok(id.map(JobId))
    }
}

/// Writes how far the end of a job got. Nothing, if that end is not the one that is open: it was queued again.
pub(super) async fn set_progress(
    connection: &mut SqliteConnection,
    job: JobId,
    progress: &Progress,
) -> sqlx::Result<()> {
    let (left, moved_to) = match &progress.source {
        Some(SourceEnd::Left { moved_to }) => (true, moved_to.as_deref().map(row::bytes_of)),
        Some(SourceEnd::Stays) | None => (false, None),
    };
    sqlx::query(
        "-- set_progress\n\
         UPDATE jobs SET finish_state = ?2, finish_step = ?3, finish_tries = ?4, finish_due = ?5, finish_error = ?6, \
         present = iif(?7, 0, present), moved_to = coalesce(?8, moved_to) \
         WHERE id = ?1 AND finish_state = 'pending' AND stage = ?9 AND finish_step = ?10",
    )
    .bind(job.0)
    .bind(progress.state.as_str())
    .bind(progress.step.map(FinishStep::as_str))
    .bind(progress.tries)
    .bind(progress.due.0)
    .bind(progress.error.clone())
    .bind(left)
    .bind(moved_to)
    .bind(progress.of.0.as_str())
    .bind(progress.of.1.as_str())
    .execute(connection)
    .await?;
    Ok(())
}

/// Has an end that failed done again from where it stopped; false if none had.
pub(super) async fn redo(connection: &mut SqliteConnection, job: JobId) -> sqlx::Result<bool> {
    let changed = sqlx::query(
        "-- redo_finish\n\
         UPDATE jobs SET finish_state = 'pending', finish_tries = 0, finish_due = 0, finish_error = NULL \
         WHERE id = ?1 AND finish_state = 'failed'",
    )
    .bind(job.0)
    .execute(connection)
    .await?
    .rows_affected();
    Ok(changed == 1)
}
