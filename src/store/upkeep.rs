//! Forgetting what is old, and copying the whole.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::model::job::JobId;
use crate::model::time::Wall;

use super::Store;
use super::error::{Result, StoreError};

/// What was forgotten.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Rows that went.
    pub rows: u64,
    /// Where to go on; none: that was all.
    pub next: Option<JobId>,
}

/// Jobs looked at in one transaction, so that no write waits long.
const CHUNK: i64 = 1000;

impl Store {
    /// How many jobs [`Store::prune`] would forget.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn prunable(&self, before: Wall) -> Result<u64> {
        let count: i64 = sqlx::query_scalar(
            "-- prunable\n\
             SELECT count(*) FROM jobs INDEXED BY jobs_ended WHERE ended_at IS NOT NULL AND ended_at < ?1 \
             AND present = 0 AND stage <> 'unresolved' AND finish_state <> 'pending' \
             AND NOT EXISTS (SELECT 1 FROM jobs AS other WHERE other.deduped_from = jobs.id \
             AND (other.ended_at >= ?1 OR other.present = 1 OR other.finish_state = 'pending'))",
        )
        .bind(before.0)
        .fetch_one(&self.reader)
        .await?;
        Ok(count.cast_unsigned())
    }

    /// Forgets some of the jobs that ended before a time, with all that belongs to them; called until it says 0. A file
    /// that still lies there is not forgotten, or it would be sent again; nor what a person has to settle, what is still to
    /// be finished, or one whose File another job shares.
    ///
    /// # Errors
    /// If the store cannot be written.
    pub async fn prune(&self, before: Wall) -> Result<u64> {
        let done = sqlx::query(
            "-- prune\n\
             DELETE FROM jobs WHERE id IN (SELECT id FROM jobs INDEXED BY jobs_ended \
             WHERE ended_at IS NOT NULL AND ended_at < ?1 AND present = 0 AND stage <> 'unresolved' \
             AND finish_state <> 'pending' \
             AND NOT EXISTS (SELECT 1 FROM jobs AS other WHERE other.deduped_from = jobs.id) LIMIT ?2)",
        )
        .bind(before.0)
        .bind(CHUNK)
        .execute(&self.writer)
        .await?;
        Ok(done.rows_affected())
    }

    /// Forgets the history of some of the jobs after `after` that ended before a time, and the Uploads and Parts of
    /// those whose file is not there any more, nor one that shares their File: their digests are what tells a touched file
    /// from a changed one.
    ///
    /// # Errors
    /// If the store cannot be written.
    pub async fn prune_history(&self, before: Wall, after: JobId) -> Result<Pruned> {
        let mut transaction = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        let last: Option<i64> = sqlx::query_scalar(
            "-- prune_history_until\n\
             SELECT max(id) FROM (SELECT id FROM jobs WHERE id > ?1 ORDER BY id LIMIT ?2)",
        )
        .bind(after.0)
        .bind(CHUNK)
        .fetch_one(&mut *transaction)
        .await?;
        let Some(last) = last else { return Ok(Pruned::default()) };
        let mut rows = 0;
        for sql in [
            "-- prune_history\n\
             DELETE FROM history WHERE job IN (SELECT id FROM jobs \
             WHERE id > ?1 AND id <= ?2 AND ended_at < ?3 AND stage <> 'unresolved')",
            // The Parts go with them.
            "-- prune_uploads\n\
             DELETE FROM uploads WHERE job IN (SELECT id FROM jobs \
             WHERE id > ?1 AND id <= ?2 AND ended_at < ?3 AND stage <> 'unresolved' AND present = 0 \
             AND NOT EXISTS (SELECT 1 FROM jobs AS other WHERE other.deduped_from = jobs.id AND other.present = 1))",
        ] {
            let done =
                sqlx::query(sql).bind(after.0).bind(last).bind(before.0).execute(&mut *transaction).await?;
            rows += done.rows_affected();
        }
        transaction.commit().await?;
        Ok(Pruned { rows, next: Some(JobId(last)) })
    }

    /// Writes a consistent copy to a path where nothing lies, while the service runs.
    ///
    /// # Errors
    /// If there is something at that path, or it cannot be written.
    pub async fn backup(&self, to: &Path) -> Result<()> {
        copy(&self.reader, to).await
    }

    /// The same by the connection that writes, which is the last to lose a database whose name is gone.
    pub(super) async fn copy_to(&self, to: &Path) -> Result<()> {
        copy(&self.writer, to).await
    }
}

async fn copy(from: &sqlx::SqlitePool, to: &Path) -> Result<()> {
    let Some(name) = to.to_str() else {
        return Err(StoreError::unwritable(to, &"the name of a backup has to be UTF-8"));
    };
    if to.exists() {
        return Err(StoreError::unwritable(to, &"something lies there already"));
    }
    sqlx::query("-- backup\nVACUUM INTO ?1")
        .bind(name.to_owned())
        .execute(from)
        .await
        .map_err(|error| StoreError::opening(to, &error))?;
    fs::set_permissions(to, Permissions::from_mode(0o640)).map_err(|error| StoreError::unwritable(to, &error))
}
