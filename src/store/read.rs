//! What commands and pages ask of the ledger. Each read is one statement, so that it sees one moment.

use std::path::Path;

use sqlx::Row;

use crate::model::answer::{FileId, PartId, UploadId};
use crate::model::digest::Digest;
use crate::model::job::{FolderId, JobId, State};
use crate::model::time::Wall;

use super::error::Result;
use super::row::Record;
use super::{Store, row};

/// The beginning of each statement that reads records.
macro_rules! record_sql {
    ($name:literal, $rest:literal) => {
        concat!(
            "-- ",
            $name,
            "\n\
             SELECT jobs.*, folders.name AS folder_name, folders.path AS folder_path, \
             folders.paused AS folder_paused, uploads.upload_id, \
             iif(uploads.ended_at IS NULL, uploads.deadline_wall, NULL) AS upload_expires_at, \
             (SELECT count(*) FROM parts WHERE parts.job = jobs.id AND parts.upload = jobs.uploads) AS parts_total, \
             (SELECT count(part_id) FROM parts WHERE parts.job = jobs.id AND parts.upload = jobs.uploads) \
             AS parts_stored, \
             (SELECT coalesce(sum(length), 0) FROM parts WHERE parts.job = jobs.id AND parts.upload = jobs.uploads \
             AND part_id IS NOT NULL) AS bytes_stored, \
             (SELECT kind FROM requests INDEXED BY requests_pending \
             WHERE requests.job = jobs.id AND answer IS NULL ORDER BY requests.id DESC LIMIT 1) AS requested \
             FROM jobs JOIN folders ON folders.id = jobs.folder \
             LEFT JOIN uploads ON uploads.job = jobs.id AND uploads.number = jobs.uploads ",
            $rest
        )
    };
}
pub(super) use record_sql;

/// How many jobs of a folder are in a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// The folder.
    pub folder: FolderId,
    /// The state.
    pub state: State,
    /// How many.
    pub jobs: u64,
}

/// What waits in a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// The folder.
    pub folder: FolderId,
    /// Files in the queue.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// An Upload of a job, with its Parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadRow {
    /// Its number, from 1.
    pub number: u32,
    /// What the server calls it.
    pub upload_id: UploadId,
    /// When it was opened.
    pub opened_at: Wall,
    /// When it expires, by our calendar when it was opened.
    pub expires_at: Option<Wall>,
    /// When it was given up or became a File.
    pub ended_at: Option<Wall>,
    /// Which of the two, as a code.
    pub end_reason: Option<String>,
    /// Its Parts in order.
    pub parts: Vec<PartRow>,
}

/// A Part of an Upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartRow {
    /// Its first byte.
    pub start: u64,
    /// How many bytes.
    pub length: u64,
    /// What the server calls it, once it has it.
    pub part_id: Option<PartId>,
    /// Of what was sent.
    pub digest: Option<Digest>,
    /// When it was stored.
    pub stored_at: Option<Wall>,
}

impl Store {
    /// How many jobs are in which state, counted from the rows: folder by folder in the order of `State::ALL`, without
    /// those of which there are none.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn counts(&self) -> Result<Vec<Count>> {
        // A count for each pair walks the index without looking at what it passes: half the time of GROUP BY.
        let states = row::json(State::ALL.into_iter().map(State::as_str));
        let rows = sqlx::query(
            "-- counts\n\
             SELECT folders.id AS folder, states.value AS stage, \
             (SELECT count(*) FROM jobs INDEXED BY jobs_folder_stage \
             WHERE folder = folders.id AND stage = states.value) AS jobs \
             FROM folders CROSS JOIN json_each(?1) AS states ORDER BY folders.id, states.key",
        )
        .bind(states)
        .fetch_all(&self.reader)
        .await?;
        let mut counts = Vec::new();
        for row in &rows {
            let jobs = row::number(row, "jobs")?;
            if jobs > 0 {
                let folder = FolderId(row.try_get("folder")?);
                counts.push(Count { folder, state: row::state(row, "stage")?, jobs });
            }
        }
        Ok(counts)
    }

    /// What waits in each folder that has something waiting.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn queue_totals(&self) -> Result<Vec<Waiting>> {
        let rows = sqlx::query(
            "-- queue_totals\n\
             SELECT folder, count(*) AS files, sum(bytes) AS bytes FROM jobs INDEXED BY jobs_queue \
             WHERE stage = 'queued' GROUP BY folder",
        )
        .fetch_all(&self.reader)
        .await?;
        let mut totals = Vec::with_capacity(rows.len());
        for row in &rows {
            totals.push(Waiting {
                folder: FolderId(row.try_get("folder")?),
                files: row::number(row, "files")?,
                bytes: row::number(row, "bytes")?,
            });
        }
        Ok(totals)
    }

    /// When the oldest job that waits was found, in each folder where one waits.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn oldest_queued(&self) -> Result<Vec<(FolderId, Wall)>> {
        let rows = sqlx::query(
            "-- oldest_queued\n\
             SELECT id, (SELECT min(found_at) FROM jobs INDEXED BY jobs_folder_stage \
             WHERE folder = folders.id AND stage = 'queued') AS found_at FROM folders ORDER BY id",
        )
        .fetch_all(&self.reader)
        .await?;
        let mut oldest = Vec::new();
        for row in &rows {
            if let Some(at) = row.try_get::<Option<i64>, _>("found_at")? {
                oldest.push((FolderId(row.try_get("id")?), Wall(at)));
            }
        }
        Ok(oldest)
    }

    /// One record.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn record(&self, job: JobId) -> Result<Option<Record>> {
        let row = sqlx::query(record_sql!("record", "WHERE jobs.id = ?1"))
            .bind(job.0)
            .fetch_optional(&self.reader)
            .await?;
        Ok(row.as_ref().map(row::record).transpose()?)
    }

    /// The records of those of these jobs that there are, in no order.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn records(&self, jobs: &[JobId]) -> Result<Vec<Record>> {
        let ids = serde_json::Value::from_iter(jobs.iter().map(|job| job.0)).to_string();
        let rows = sqlx::query(record_sql!("records", "WHERE jobs.id IN (SELECT value FROM json_each(?1))"))
            .bind(ids)
            .fetch_all(&self.reader)
            .await?;
        Ok(rows.iter().map(row::record).collect::<sqlx::Result<_>>()?)
    }

    /// The records of a File: one for each server and account that has such an id.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn find_file(&self, file: &FileId) -> Result<Vec<Record>> {
        let rows = sqlx::query(record_sql!(
            "find_file",
            "WHERE jobs.file_id = ?1 AND jobs.deduped_from IS NULL ORDER BY jobs.id DESC"
        ))
        .bind(file.0.clone())
        .fetch_all(&self.reader)
        .await?;
        Ok(rows.iter().map(row::record).collect::<sqlx::Result<_>>()?)
    }

    /// The records of an absolute path, the one that speaks for what lies there now first, then newest first.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn find_path(&self, path: &Path, limit: usize) -> Result<Vec<Record>> {
        let mut records = Vec::new();
        for (folder, rest) in self.covering(path).await? {
            let rows = sqlx::query(record_sql!(
                "find_path",
                "WHERE jobs.id IN (SELECT id FROM jobs INDEXED BY jobs_present \
                 WHERE folder = ?1 AND path = ?2 AND present = 1 UNION ALL \
                 SELECT id FROM jobs INDEXED BY jobs_absent WHERE folder = ?1 AND path = ?2 AND present = 0) \
                 ORDER BY jobs.present DESC, jobs.id DESC LIMIT ?3"
            ))
            .bind(folder.0)
            .bind(row::bytes_of(&rest))
            .bind(row::int(limit.saturating_sub(records.len())))
            .fetch_all(&self.reader)
            .await?;
            for row in &rows {
                records.push(row::record(row)?);
            }
        }
        // A stable sort: within each of the two the order stays.
        records.sort_by_key(|record| !record.present);
        Ok(records)
    }

    /// The Uploads of a job with their Parts, oldest first.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn uploads_and_parts(&self, job: JobId) -> Result<Vec<UploadRow>> {
        let rows = sqlx::query(
            "-- uploads_and_parts\n\
             SELECT number, upload_id, opened_at, deadline_wall, ended_at, end_reason, start, length, part_id, \
             coalesce(digest, xxh3) AS digest, stored_at FROM uploads LEFT JOIN parts ON parts.job = uploads.job AND parts.upload = uploads.number \
             WHERE uploads.job = ?1 ORDER BY number, idx",
        )
        .bind(job.0)
        .fetch_all(&self.reader)
        .await?;
        let mut uploads: Vec<UploadRow> = Vec::new();
        for row in &rows {
            let number = row::number(row, "number")?;
            if uploads.last().is_none_or(|last| last.number != number) {
                uploads.push(UploadRow {
                    number,
                    upload_id: UploadId(row.try_get("upload_id")?),
                    opened_at: Wall(row.try_get("opened_at")?),
                    expires_at: row::wall(row, "deadline_wall")?,
                    ended_at: row::wall(row, "ended_at")?,
                    end_reason: row.try_get("end_reason")?,
                    parts: Vec::new(),
                });
            }
            if let (Some(upload), Some(start)) = (uploads.last_mut(), row::opt_number(row, "start")?) {
                upload.parts.push(PartRow {
                    start,
                    length: row::number(row, "length")?,
                    part_id: row.try_get::<Option<String>, _>("part_id")?.map(PartId),
                    digest: row::digest(row, "digest")?,
                    stored_at: row::wall(row, "stored_at")?,
                });
            }
        }
        Ok(uploads)
    }
}
