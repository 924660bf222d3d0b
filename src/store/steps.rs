//! One step, one method, one guarded statement: the row changes only if the job is where the caller believes it is. The
//! two steps of small files are in `together`, since many of them share a statement.

use sqlx::{Row, SqliteConnection};

use crate::model::answer::{FileId, PartId};
use crate::model::digest::{Algorithm, Digest};
use crate::model::job::{JobId, PlannedPart, Reason, Session, State, Step, Why};
use crate::model::time::{Now, Wall};

use super::deadline::BootId;
use super::together::{self, Sent, Stored};
use super::{row, sessions};

/// A step about to be written: of which job, from where, and when.
pub(super) struct Taking<'a> {
    pub(super) connection: &'a mut SqliteConnection,
    pub(super) job: JobId,
    pub(super) from: State,
    pub(super) now: Now,
    pub(super) boot: &'a BootId,
    /// Whether receipt, move or hook follow.
    pub(super) finish: bool,
}

impl Taking<'_> {
    /// Writes the step. `false`: the job is not at `from`, or no such step leads from there; nothing was changed.
    pub(super) async fn take(&mut self, step: &Step) -> sqlx::Result<bool> {
        if !leads_from(self.from, step) {
            return Ok(false);
        }
        match step {
            Step::Opened(session) => self.opened(session).await,
            Step::PartStored { index, id, digest } => self.part_stored(*index, id, digest).await,
            Step::Hashed(md5) => self.hashed(md5).await,
            Step::Completing => self.completing().await,
            Step::SentWhole { session, md5 } => {
                let sent = Sent { job: self.job, session, md5: md5.as_deref(), now: self.now };
                Ok(!together::sent_whole(self.connection, self.boot, &[sent]).await?.is_empty())
            }
            Step::PutOff { due, reason, attempts, failing_since } => {
                self.put_off(*due, reason, *attempts, *failing_since).await
            }
            Step::Restarted { why, reason } => self.restarted(*why, reason).await,
            Step::Doubted(doubt) => self.doubted(*doubt).await,
            Step::Stored { file, expires_at } => {
                let (job, from, expires_at) = (self.job, self.from, *expires_at);
                let stored = Stored { job, from, file, expires_at, finish: self.finish, now: self.now };
                Ok(!together::stored(self.connection, &[stored]).await?.is_empty())
            }
            Step::Deduped { file, from, expires_at } => self.deduped(file, *from, *expires_at).await,
            Step::Failed(reason) => self.failed(reason).await,
            Step::Unresolved { reason, candidates } => self.unresolved(reason, candidates).await,
            Step::Cancelled => self.cancelled().await,
            Step::Gone(reason) => self.gone(reason.as_ref()).await,
            Step::Requeued => self.requeued().await,
            Step::Bumped => self.bumped().await,
        }
    }

    async fn opened(&mut self, session: &Session) -> sqlx::Result<bool> {
        let number: Option<i64> = sqlx::query_scalar(
            "-- opened\n\
             UPDATE jobs SET stage = 'uploading', uploads = uploads + 1, attempts = 0, failing_since = NULL, \
             due_at = NULL, error_code = NULL, error_message = NULL, error_status = NULL, error_request_id = NULL \
             WHERE id = ?1 AND stage = ?2 RETURNING uploads",
        )
        .bind(self.job.0)
        .bind(self.from.as_str())
        .fetch_optional(&mut *self.connection)
        .await?;
        let Some(number) = number else { return Ok(false) };
        sessions::insert(self.connection, self.boot, &[(self.job, number, session, self.now)]).await?;
        Ok(true)
    }

    async fn part_stored(&mut self, index: usize, id: &PartId, digest: &Digest) -> sqlx::Result<bool> {
        let changed = sqlx::query(
            "-- part_stored\n\
             UPDATE parts SET part_id = ?4, digest = ?5, xxh3 = ?6, stored_at = ?7 WHERE job = ?1 AND idx = ?3 \
             AND upload = (SELECT uploads FROM jobs WHERE id = ?1 AND stage = ?2)",
        )
        .bind(self.job.0)
        .bind(self.from.as_str())
        .bind(row::int(index))
        .bind(id.0.clone())
        .bind(row::stored_as(digest, Algorithm::Blake3))
        .bind(row::stored_as(digest, Algorithm::Xxh3))
        .bind(self.now.wall.0)
        .execute(&mut *self.connection)
        .await?
        .rows_affected();
        if changed != 1 {
            return Ok(false);
        }
        sqlx::query(
            "-- part_progress\n\
             UPDATE jobs SET attempts = 0, failing_since = NULL, due_at = NULL, error_code = NULL, \
             error_message = NULL, error_status = NULL, error_request_id = NULL WHERE id = ?1",
        )
        .bind(self.job.0)
        .execute(&mut *self.connection)
        .await?;
        Ok(true)
    }

    async fn hashed(&mut self, md5: &str) -> sqlx::Result<bool> {
        let changed = sqlx::query("-- hashed\nUPDATE jobs SET md5 = ?3 WHERE id = ?1 AND stage = ?2")
            .bind(self.job.0)
            .bind(self.from.as_str())
            .bind(md5.to_owned())
            .execute(&mut *self.connection)
            .await?
            .rows_affected();
        Ok(changed == 1)
    }

    async fn completing(&mut self) -> sqlx::Result<bool> {
        let changed = sqlx::query(
            "-- completing\n\
             UPDATE jobs SET stage = 'completing', attempts = 0, failing_since = NULL, due_at = NULL, \
             error_code = NULL, error_message = NULL, error_status = NULL, error_request_id = NULL \
             WHERE id = ?1 AND stage = ?2 AND NOT EXISTS \
             (SELECT 1 FROM parts WHERE job = ?1 AND upload = jobs.uploads AND part_id IS NULL)",
        )
        .bind(self.job.0)
        .bind(self.from.as_str())
        .execute(&mut *self.connection)
        .await?
        .rows_affected();
        Ok(changed == 1)
    }

    async fn put_off(
        &mut self,
        due: Wall,
        reason: &Reason,
        attempts: u32,
        failing_since: Wall,
    ) -> sqlx::Result<bool> {
        let changed = sqlx::query(
            "-- put_off\n\
             UPDATE jobs SET due_at = ?3, attempts = ?4, failing_since = ?5, error_code = ?6, error_message = ?7, \
             error_status = ?8, error_request_id = ?9 WHERE id = ?1 AND stage = ?2",
        )
        .bind(self.job.0)
        .bind(self.from.as_str())
        .bind(due.0)
        .bind(attempts)
        .bind(failing_since.0)
        .bind(reason.code.as_str())
        .bind(reason.message.clone())
        .bind(reason.status)
        .bind(reason.request_id.clone())
        .execute(&mut *self.connection)
        .await?
        .rows_affected();
        Ok(changed == 1)
    }

    async fn restarted(&mut self, why: Why, reason: &Reason) -> sqlx::Result<bool> {
        let changed = sqlx::query(
            "-- restarted\n\
             UPDATE jobs SET stage = 'queued', restarts = restarts + 1, failing_since = NULL, refusals = refusals + ?7, \
             expiries = expiries + ?8, error_code = ?3, error_message = ?4, error_status = ?5, \
             error_request_id = ?6 WHERE id = ?1 AND stage = ?2",
        )
        .bind(self.job.0)
        .bind(self.from.as_str())
        .bind(reason.code.as_str())
        .bind(reason.message.clone())
        .bind(reason.status)
        .bind(reason.request_id.clone())
        .bind(why == Why::Refused)
        .bind(why == Why::TooSlow)
        .execute(&mut *self.connection)
        .await?
        .rows_affected();
        self.close_upload_if(changed == 1, reason.code.as_str()).await
    }

    /// Only while the other job is there and has that File: a row that points at nothing could not be told from one that
    /// sent the file itself.
    async fn deduped(&mut self, file: &FileId, from: JobId, expires_at: Option<i64>) -> sqlx::Result<bool> {
        let changed = sqlx::query(
            "-- deduped\n\
             UPDATE jobs SET stage = 'stored', file_id = ?3, deduped_from = ?4, file_expires_at = ?5, stored_at = ?6, \
             ended_at = ?6, finish_state = ?7, finish_step = iif(?7 = 'pending', 'source', NULL), finish_tries = 0, \
             finish_due = 0, finish_error = NULL, finish_failed = NULL, attempts = 0, failing_since = NULL, due_at = NULL, error_code = NULL, \
             error_message = NULL, error_status = NULL, error_request_id = NULL WHERE id = ?1 AND stage = ?2 \
             AND EXISTS (SELECT 1 FROM jobs AS other WHERE other.id = ?4 AND other.stage = 'stored' \
             AND other.file_id = ?3 AND other.deduped_from IS NULL)",
        )
        .bind(self.job.0)
        .bind(self.from.as_str())
        .bind(file.0.clone())
        .bind(from.0)
        .bind(expires_at.map(|seconds| seconds.saturating_mul(1000)))
        .bind(self.now.wall.0)
        .bind(row::finish_state(self.finish))
        .execute(&mut *self.connection)
        .await?
        .rows_affected();
        Ok(changed == 1)
    }

    async fn failed(&mut self, reason: &Reason) -> sqlx::Result<bool> {
        let changed = sqlx::query(
            "-- failed\n\
             UPDATE jobs SET stage = 'failed', ended_at = ?3, finish_state = ?4, finish_step = iif(?4 = 'pending', 'source', NULL), finish_tries = 0, finish_due = 0, finish_error = NULL, finish_failed = NULL, error_code = ?5, \
             error_message = ?6, error_status = ?7, error_request_id = ?8 WHERE id = ?1 AND stage = ?2",
        )
        .bind(self.job.0)
        .bind(self.from.as_str())
        .bind(self.now.wall.0)
        .bind(row::finish_state(self.finish))
        .bind(reason.code.as_str())
        .bind(reason.message.clone())
        .bind(reason.status)
        .bind(reason.request_id.clone())
        .execute(&mut *self.connection)
        .await?
        .rows_affected();
        self.close_upload_if(changed == 1, reason.code.as_str()).await
    }

    /// The Upload stays open in the store: only its session says which File to look for.
    async fn unresolved(&mut self, reason: &Reason, candidates: &[FileId]) -> sqlx::Result<bool> {
        let changed = sqlx::query(
            "-- unresolved\n\
             UPDATE jobs SET stage = 'unresolved', ended_at = ?3, finish_state = ?4, finish_step = iif(?4 = 'pending', 'source', NULL), finish_tries = 0, finish_due = 0, finish_error = NULL, finish_failed = NULL, candidates = ?5, \
             error_code = ?6, error_message = ?7, error_status = ?8, error_request_id = ?9 \
             WHERE id = ?1 AND stage = ?2",
        )
        .bind(self.job.0)
        .bind(self.from.as_str())
        .bind(self.now.wall.0)
        .bind(row::finish_state(self.finish))
        .bind(row::json(candidates.iter().map(|file| file.0.as_str())))
        .bind(reason.code.as_str())
        .bind(reason.message.clone())
        .bind(reason.status)
        .bind(reason.request_id.clone())
        .execute(&mut *self.connection)
        .await?
        .rows_affected();
        Ok(changed == 1)
    }

    async fn cancelled(&mut self) -> sqlx::Result<bool> {
        let changed = sqlx::query(
            "-- cancelled\n\
             UPDATE jobs SET stage = 'cancelled', ended_at = ?3, error_code = NULL, error_message = NULL, \
             error_status = NULL, error_request_id = NULL WHERE id = ?1 AND stage = ?2",
        )
        .bind(self.job.0)
        .bind(self.from.as_str())
        .bind(self.now.wall.0)
        .execute(&mut *self.connection)
        .await?
        .rows_affected();
        self.close_upload_if(changed == 1, "cancelled").await
    }

    async fn gone(&mut self, reason: Option<&Reason>) -> sqlx::Result<bool> {
        let changed = sqlx::query(
            "-- gone\n\
             UPDATE jobs SET stage = 'gone', present = 0, ended_at = ?3, error_code = ?4, error_message = ?5, \
             error_status = ?6, error_request_id = ?7 WHERE id = ?1 AND stage = ?2",
        )
        .bind(self.job.0)
        .bind(self.from.as_str())
        .bind(self.now.wall.0)
        .bind(reason.map(|reason| reason.code.as_str()))
        .bind(reason.map(|reason| reason.message.clone()))
        .bind(reason.and_then(|reason| reason.status))
        .bind(reason.and_then(|reason| reason.request_id.clone()))
        .execute(&mut *self.connection)
        .await?
        .rows_affected();
        self.close_upload_if(changed == 1, "gone").await
    }

    async fn requeued(&mut self) -> sqlx::Result<bool> {
        let changed = sqlx::query(
            "-- requeued\n\
             UPDATE jobs SET stage = 'queued', attempts = 0, restarts = 0, refusals = 0, expiries = 0, failing_since = NULL, due_at = NULL, \
             md5 = NULL, candidates = NULL, ended_at = NULL, finish_state = 'none', finish_step = NULL, \
             finish_tries = 0, finish_due = 0, finish_error = NULL, finish_failed = NULL, moved_to = NULL, error_code = NULL, error_message = NULL, error_status = NULL, \
             error_request_id = NULL WHERE id = ?1 AND stage = ?2",
        )
        .bind(self.job.0)
        .bind(self.from.as_str())
        .execute(&mut *self.connection)
        .await?
        .rows_affected();
        self.close_upload_if(changed == 1, "requeued").await
    }

    async fn bumped(&mut self) -> sqlx::Result<bool> {
        let changed =
            sqlx::query("-- bumped\nUPDATE jobs SET bumped = 1, due_at = NULL WHERE id = ?1 AND stage = ?2")
                .bind(self.job.0)
                .bind(self.from.as_str())
                .execute(&mut *self.connection)
                .await?
                .rows_affected();
        Ok(changed == 1)
    }
}

/// From where the table lets a step begin, as far as the row knows it: `Doubt` is not in it.
pub(super) fn leads_from(from: State, step: &Step) -> bool {
    use State::{Cancelled, Completing, Failed, Queued, Skipped, Unresolved, Uploading};
    match step {
        Step::Opened(_) | Step::Deduped { .. } => from == Queued,
        Step::SentWhole { session, .. } => {
            from == Queued && matches!(session.parts.as_slice(), [PlannedPart { stored: Some(_), .. }])
        }
        Step::PartStored { .. } | Step::Completing => from == Uploading,
        Step::Hashed(_) | Step::Cancelled | Step::Gone(_) => matches!(from, Queued | Uploading),
        Step::PutOff { .. } | Step::Bumped | Step::Failed(_) => !from.has_ended(),
        Step::Restarted { .. } => matches!(from, Uploading | Completing),
        Step::Doubted(_) => from == Completing,
        Step::Stored { .. } => matches!(from, Completing | Unresolved),
        Step::Unresolved { .. } => from == Completing,
        Step::Requeued => matches!(from, Failed | Cancelled | Skipped | Unresolved),
    }
}

/// Where a job is whose step was not written, and whether that is where the step would have led.
pub(super) async fn found(
    connection: &mut SqliteConnection,
    job: JobId,
    step: &Step,
) -> sqlx::Result<(Option<State>, bool)> {
    let row = sqlx::query(
        "-- read_again\n\
         SELECT stage, file_id, md5, (SELECT upload_id FROM uploads WHERE job = id AND number = uploads) AS upload_id \
         FROM jobs WHERE id = ?1",
    )
    .bind(job.0)
    .fetch_optional(connection)
    .await?;
    let Some(row) = row else { return Ok((None, false)) };
    let state = row::state(&row, "stage")?;
    let is = |column: &str, wanted: &str| -> sqlx::Result<bool> {
        Ok(row.try_get::<Option<String>, _>(column)?.as_deref() == Some(wanted))
    };
    let there = match step {
        Step::Opened(session) => state == State::Uploading && is("upload_id", &session.upload.0)?,
        Step::SentWhole { session, .. } => state == State::Completing && is("upload_id", &session.upload.0)?,
        Step::Completing => state == State::Completing,
        Step::Restarted { .. } | Step::Requeued => state == State::Queued,
        Step::Stored { file, .. } | Step::Deduped { file, .. } => {
            state == State::Stored && is("file_id", &file.0)?
        }
        Step::Failed(_) => state == State::Failed,
        Step::Unresolved { .. } => state == State::Unresolved,
        Step::Cancelled => state == State::Cancelled,
        Step::Gone(_) => state == State::Gone,
        Step::PartStored { .. } | Step::Hashed(_) | Step::PutOff { .. } | Step::Doubted(_) | Step::Bumped => {
            false
        }
    };
    Ok((Some(state), there))
}
