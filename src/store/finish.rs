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
    /// Whether the step that this is about is given up: the next ones are done all the same.
    pub gives_up: bool,
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
    /// Where its file was found.
    pub folder: FolderId,
}

impl Store {
    /// The jobs whose next step, one of `steps`, is due, at most `limit`, and none of the folders `but`. No wait is longer than a
    /// day, so one that seems so was written under another calendar.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn unfinished(
        &self,
        steps: &[FinishStep],
        but: &[FolderId],
        now: Wall,
        limit: usize,
    ) -> Result<Vec<Unfinished>> {
        let mut unfinished = Vec::new();
        let but = serde_json::Value::from_iter(but.iter().map(|folder| folder.0)).to_string();
        for step in steps {
            let rows = sqlx::query(
                "-- unfinished\n\
                 SELECT id, finish_tries, folder FROM jobs INDEXED BY jobs_unfinished \
                 WHERE finish_state = 'pending' AND finish_step = ?1 \
                 AND (finish_due <= ?2 OR finish_due > ?2 + 86400000) \
                 AND folder NOT IN (SELECT value FROM json_each(?4)) ORDER BY finish_due, id LIMIT ?3",
            )
            .bind(step.as_str())
            .bind(now.0)
            .bind(row::int(limit.saturating_sub(unfinished.len())))
            .bind(but.clone())
            .fetch_all(&self.reader)
            .await?;
            for row in &rows {
                unfinished.push(Unfinished {
                    job: JobId(row.try_get("id")?),
                    step: *step,
                    tries: row::number(row, "finish_tries")?,
                    folder: FolderId(row.try_get("folder")?),
                });
            }
        }
        Ok(unfinished)
    }

    /// Whether any job has something left to be done, and when the next one of them comes due that is not yet.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn unfinished_later(&self, now: Wall) -> Result<(bool, Option<Wall>)> {
        // Each of these is one look into the index, however many wait.
        let row = sqlx::query(
            "-- unfinished_later\n\
             WITH steps (step) AS (VALUES ('source'), ('receipt'), ('hook')) \
             SELECT EXISTS (SELECT 1 FROM jobs INDEXED BY jobs_unfinished WHERE finish_state = 'pending') AS left_over, \
             (SELECT min(due) FROM (SELECT (SELECT finish_due FROM jobs INDEXED BY jobs_unfinished \
             WHERE finish_state = 'pending' AND finish_step = step AND finish_due > ?1 \
             ORDER BY finish_due LIMIT 1) AS due FROM steps)) AS next",
        )
        .bind(now.0)
        .fetch_one(&self.reader)
        .await?;
        Ok((row.try_get("left_over")?, row::wall(&row, "next")?))
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

    /// Whether a later job is about the same path.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn has_successor(&self, job: JobId, folder: FolderId, path: &Path) -> Result<bool> {
        let found = sqlx::query_scalar(
            "-- has_successor\n\
             SELECT EXISTS (SELECT 1 FROM jobs INDEXED BY jobs_present \
             WHERE folder = ?2 AND path = ?3 AND present = 1 AND id > ?1) \
             OR EXISTS (SELECT 1 FROM jobs INDEXED BY jobs_absent \
             WHERE folder = ?2 AND path = ?3 AND present = 0 AND id > ?1)",
        )
        .bind(job.0)
        .bind(folder.0)
        .bind(row::bytes_of(path))
        .fetch_one(&self.reader)
        .await?;
        Ok(found)
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
         UPDATE jobs SET finish_tries = ?4, finish_due = ?5, \
         finish_state = iif(?2 = 'done' AND (?11 OR finish_failed IS NOT NULL), 'failed', ?2), \
         finish_step = iif(?2 = 'done' AND (?11 OR finish_failed IS NOT NULL), coalesce(finish_failed, ?10), ?3), \
         finish_error = iif(finish_failed IS NOT NULL, finish_error, ?6), \
         finish_failed = coalesce(finish_failed, iif(?11, ?10, NULL)), present = iif(?7, 0, present), moved_to = coalesce(?8, moved_to) \
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
    .bind(progress.gives_up)
    .execute(connection)
    .await?;
    Ok(())
}

/// Has an end that failed done again from where it stopped; false if none had.
pub(super) async fn redo(connection: &mut SqliteConnection, job: JobId) -> sqlx::Result<bool> {
    let changed = sqlx::query(
        "-- redo_finish\n\
         UPDATE jobs SET finish_state = 'pending', finish_tries = 0, finish_due = 0, finish_error = NULL, \
         finish_failed = NULL WHERE id = ?1 AND finish_state = 'failed'",
    )
    .bind(job.0)
    .execute(connection)
    .await?
    .rows_affected();
    Ok(changed == 1)
}
