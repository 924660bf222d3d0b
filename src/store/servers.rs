//! What the ledger knows of servers: how large a Part they take, and which of their Files are ours.

use std::collections::HashMap;

use sqlx::{Row, SqliteConnection};

use crate::model::answer::FileId;
use crate::model::job::JobId;
use crate::model::time::Wall;

use super::error::Result;
use super::{Store, row};

impl Store {
    /// The largest Part that each server is known to take, in bytes, by its base URL.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn part_caps(&self) -> Result<HashMap<String, u64>> {
        let rows = sqlx::query("-- part_caps\nSELECT base_url, part_cap FROM servers")
            .fetch_all(&self.reader)
            .await?;
        let caps = rows.iter().map(|row| Ok((row.try_get("base_url")?, row::number(row, "part_cap")?)));
        Ok(caps.collect::<sqlx::Result<_>>()?)
    }

    /// The job whose File this is at the server of `job`, or may be while it is unresolved; other than `job` itself. A File
    /// ID is worth something only at its server, whatever the configuration calls the account.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn owner_of(&self, file: &FileId, job: JobId) -> Result<Option<JobId>> {
        let id: Option<i64> = sqlx::query_scalar(
            "-- owner_of\n\
             SELECT id FROM jobs INDEXED BY jobs_file WHERE file_id = ?1 AND deduped_from IS NULL AND id <> ?2 \
             AND base_url = (SELECT base_url FROM jobs WHERE id = ?2) \
             UNION ALL \
             SELECT jobs.id FROM jobs INDEXED BY jobs_stage, json_each(jobs.candidates) AS candidate \
             WHERE jobs.stage = 'unresolved' AND candidate.value = ?1 AND jobs.id <> ?2 \
             AND jobs.base_url = (SELECT base_url FROM jobs WHERE id = ?2) LIMIT 1",
        )
        .bind(file.0.clone())
        .bind(job.0)
        .fetch_optional(&self.reader)
        .await?;
        Ok(id.map(JobId))
    }
}

/// Remembers how large a Part a server takes; a smaller one takes the place of a larger one.
pub(super) async fn set_part_cap(
    connection: &mut SqliteConnection,
    server: &str,
    bytes: u64,
    at: Wall,
) -> sqlx::Result<()> {
    sqlx::query(
        "-- set_part_cap\n\
         INSERT INTO servers (base_url, part_cap, learnt_at) VALUES (?1, ?2, ?3) \
         ON CONFLICT (base_url) DO UPDATE SET part_cap = min(part_cap, excluded.part_cap), \
         learnt_at = excluded.learnt_at",
    )
    .bind(server.to_owned())
    .bind(row::int(bytes))
    .bind(at.0)
    .execute(connection)
    .await?;
    Ok(())
}
