//! What the board loads: the jobs that are open, and a window of what is next.

use std::ops::Range;

use sqlx::Row;

use crate::model::answer::FileId;
use crate::model::digest::Digest;
use crate::model::examine::Same;
use crate::model::job::{AccountName, FolderId, Job, JobId};
use crate::model::time::{Now, Wall};

use super::error::Result;
use super::{Store, row};

/// The next jobs of the queue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// Bumped ones first, then oldest first.
    pub jobs: Vec<Job>,
    /// Whether there are more that are due.
    pub more: bool,
    /// When the next one comes due that is not yet.
    pub next_due: Option<Wall>,
}

impl Store {
    /// The jobs with an Upload open, oldest first. Those that are completing may have a File by now.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn load_open(&self, now: Now) -> Result<Vec<Job>> {
        let mut connection = self.reader.acquire().await?;
        let rows = sqlx::query(concat!(
            "-- load_open\nSELECT ",
            row::job_columns!(),
            " FROM jobs INDEXED BY jobs_open WHERE stage IN ('uploading', 'completing') ORDER BY id"
        ))
        .fetch_all(&mut *connection)
        .await?;
        let mut jobs = Vec::with_capacity(rows.len());
        for row in &rows {
            jobs.push(row::job_of(&mut connection, row, &self.boot, now).await?);
        }
        Ok(jobs)
    }

    /// The last job that there is; 0 if there is none.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn last_job(&self) -> Result<JobId> {
        let last: Option<i64> =
            sqlx::query_scalar("-- last_job\nSELECT max(id) FROM jobs").fetch_one(&self.reader).await?;
        Ok(JobId(last.unwrap_or(0)))
    }

    /// One job as the engine holds it.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn job(&self, id: JobId, now: Now) -> Result<Option<Job>> {
        let mut connection = self.reader.acquire().await?;
        let row = sqlx::query(concat!("-- job\nSELECT ", row::job_columns!(), " FROM jobs WHERE id = ?1"))
            .bind(id.0)
            .fetch_optional(&mut *connection)
            .await?;
        match row {
            Some(row) => Ok(Some(row::job_of(&mut connection, &row, &self.boot, now).await?)),
            None => Ok(None),
        }
    }

    /// The queued jobs of a folder that are due, at most `limit`: those that go through the lane of small files, or the
    /// others. No wait is longer than a day, so one that seems so was written under another calendar. What the writer has not committed yet is not seen: flush it first.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn window(&self, folder: FolderId, lane: bool, limit: usize, now: Wall) -> Result<Window> {
        let mut connection = self.reader.acquire().await?;
        let rows = sqlx::query(concat!(
            "-- window\nSELECT ",
            row::job_columns!(),
            " FROM jobs INDEXED BY jobs_queue \
             WHERE stage = 'queued' AND folder = ?1 AND lane = ?2 \
             AND (due_at IS NULL OR due_at <= ?3 OR due_at > ?3 + 86400000) \
             ORDER BY bumped DESC, id LIMIT ?4"
        ))
        .bind(folder.0)
        .bind(lane)
        .bind(now.0)
        .bind(row::int(limit.saturating_add(1)))
        .fetch_all(&mut *connection)
        .await?;
        let mut window = Window { more: rows.len() > limit, ..Window::default() };
        for row in rows.iter().take(limit) {
            window.jobs.push(row::job_without_session(row)?.0);
        }
        let next_due: Option<i64> = sqlx::query_scalar(
            "-- next_due\n\
             SELECT min(due_at) FROM jobs INDEXED BY jobs_due \
             WHERE stage = 'queued' AND due_at IS NOT NULL AND folder = ?1 AND lane = ?2 AND due_at > ?3",
        )
        .bind(folder.0)
        .bind(lane)
        .bind(now.0)
        .fetch_one(&mut *connection)
        .await?;
        window.next_due = next_due.map(Wall);
        Ok(window)
    }

    /// What is queued in a folder goes to the account that the folder has now, and where that account points now.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn retarget(
        &self,
        folder: FolderId,
        account: &AccountName,
        base_url: &str,
        project: Option<&str>,
    ) -> Result<()> {
        sqlx::query(
            "-- retarget\n\
             UPDATE jobs SET account = ?2, base_url = ?3, project = ?4 \
             WHERE stage = 'queued' AND folder = ?1 \
             AND (account IS NOT ?2 OR base_url IS NOT ?3 OR project IS NOT ?4)",
        )
        .bind(folder.0)
        .bind(account.0.clone())
        .bind(base_url.to_owned())
        .bind(project.map(str::to_owned))
        .execute(&self.writer)
        .await?;
        Ok(())
    }

    /// The digests of the Parts of a job's last Upload, or of that of the job whose File it shares: tells whether other
    /// times mean other content. Complete if the ranges cover the file.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn ranges_of(&self, job: JobId) -> Result<Vec<(Range<u64>, Digest)>> {
        let rows = sqlx::query(
            "-- ranges_of\n\
             SELECT start, length, coalesce(digest, xxh3) AS digest FROM parts \
             WHERE (job, upload) = (SELECT sent.id, sent.uploads FROM jobs JOIN jobs AS sent \
             ON sent.id = coalesce(jobs.deduped_from, jobs.id) WHERE jobs.id = ?1) AND coalesce(digest, xxh3) IS NOT NULL \
             ORDER BY idx",
        )
        .bind(job.0)
        .fetch_all(&self.reader)
        .await?;
        let mut ranges = Vec::with_capacity(rows.len());
        for row in &rows {
            let start: u64 = row::number(row, "start")?;
            let length: u64 = row::number(row, "length")?;
            if let Some(digest) = row::digest(row, "digest")? {
                ranges.push((start..start + length, digest));
            }
        }
        Ok(ranges)
    }

    /// The MD5 of a job's file, where it was made: tells the same where the digests of Parts are gone.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn md5_of(&self, job: JobId) -> Result<Option<String>> {
        let found = sqlx::query_scalar("-- md5_of\nSELECT md5 FROM jobs WHERE id = ?1")
            .bind(job.0)
            .fetch_optional(&self.reader)
            .await?;
        Ok(found.flatten())
    }

    /// The stored jobs that sent as many bytes as `job` has, under the same name, purpose, account and lifetime, the newest
    /// first; with the ranges that they sent, where all of these are still known. What they sent may be the same. Those of which
    /// neither BLAKE3 nor MD5 is known are left out.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn sent_before(&self, job: JobId, limit: usize) -> Result<Vec<Same>> {
        let rows = sqlx::query(
            "-- sent_before\n\
             SELECT sent.id, sent.file_id, sent.stored_at, sent.bytes, sent.md5 FROM jobs AS mine \
             JOIN jobs AS sent INDEXED BY jobs_sent ON sent.bytes = mine.bytes AND sent.filename = mine.filename \
             AND sent.purpose = mine.purpose AND sent.account = mine.account AND sent.base_url = mine.base_url \
             AND sent.project IS mine.project AND sent.expires_after IS mine.expires_after \
             WHERE mine.id = ?1 AND sent.id <> ?1 AND sent.stage = 'stored' AND sent.deduped_from IS NULL \
             AND sent.file_id IS NOT NULL AND sent.stored_at IS NOT NULL \
             AND (sent.md5 IS NOT NULL OR NOT EXISTS (SELECT 1 FROM parts \
             WHERE parts.job = sent.id AND parts.upload = sent.uploads AND parts.xxh3 IS NOT NULL)) \
             ORDER BY sent.stored_at DESC, sent.id DESC LIMIT ?2",
        )
        .bind(job.0)
        .bind(row::int(limit))
        .fetch_all(&self.reader)
        .await?;
        let mut found = Vec::new();
        for row in &rows {
            let job = JobId(row.try_get("id")?);
            let sent = self.ranges_of(job).await?;
            let end = sent.iter().try_fold(0, |end, (range, _)| (range.start == end).then_some(range.end));
            if end == Some(row::number(row, "bytes")?) {
                found.push(Same {
                    job,
                    file: FileId(row.try_get("file_id")?),
                    stored_at: Wall(row.try_get("stored_at")?),
                    sent,
                    md5: row.try_get("md5")?,
                });
            }
        }
        Ok(found)
    }
}
