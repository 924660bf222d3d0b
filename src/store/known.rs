//! Which of the files that a scan saw are new, and which rows it saw no file for.

use std::path::{Path, PathBuf};

use sqlx::{AssertSqlSafe, Row, SqlSafeStr};

use crate::model::file::Fingerprint;
use crate::model::job::{FolderId, JobId, State};

use super::error::Result;
use super::{Store, row};

/// What the ledger has of a path whose file looks different now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// The job that speaks for the path.
    pub job: JobId,
    /// Where it is.
    pub state: State,
    /// The version that it is about.
    pub fingerprint: Fingerprint,
    /// Whether its source is about to be moved or deleted: until then nothing can be said of what lies at the path.
    pub leaves: bool,
}

/// A file that a scan saw and that is not known as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Where it lies in the folder.
    pub path: PathBuf,
    /// The version that lies there.
    pub fingerprint: Fingerprint,
    /// What the ledger has of that path, if anything.
    pub known: Option<Known>,
}

/// A row that speaks for what lies at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Present {
    /// The job.
    pub job: JobId,
    /// Where it is.
    pub state: State,
    /// Where the file lies in the folder.
    pub path: PathBuf,
    /// The version that it is about.
    pub fingerprint: Fingerprint,
}

/// Files asked about in one statement: some 50 µs of each go to the way to SQLite's thread and back.
/// As many as a scan has in a batch.
const CHUNK: usize = 512;

impl Store {
    /// Drops the files whose row has the same fingerprint; says of the others what is known. Keeps the order.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn filter_unknown(
        &self,
        folder: FolderId,
        files: Vec<(PathBuf, Fingerprint)>,
    ) -> Result<Vec<Seen>> {
        let mut unknown = Vec::new();
        let mut connection = self.reader.acquire().await?;
        // All chunks but the last are of one size, so that the statement is prepared once.
        let whole = filter_sql(CHUNK.min(files.len())).into_sql_str();
        for chunk in files.chunks(CHUNK) {
            let sql = match chunk.len() {
                CHUNK => whole.clone(),
                rest => filter_sql(rest).into_sql_str(),
            };
            let mut query = sqlx::query(sql);
            for (path, fingerprint) in chunk {
                query = query
                    .bind(row::bytes_of(path))
                    .bind(row::int(fingerprint.bytes))
                    .bind(fingerprint.mtime_ns)
                    .bind(fingerprint.ctime_ns)
                    .bind(fingerprint.inode.cast_signed());
            }
            for found in query.bind(folder.0).fetch_all(&mut *connection).await? {
                let Some((path, fingerprint)) = chunk.get(row::number::<usize>(&found, "place")?) else {
                    continue;
                };
                let known = match found.try_get::<Option<i64>, _>("id")? {
                    Some(id) => Some(Known {
                        job: JobId(id),
                        state: row::state(&found, "stage")?,
                        fingerprint: row::fingerprint(&found)?,
                        leaves: found.try_get("leaves")?,
                    }),
                    None => None,
                };
                unknown.push(Seen { path: path.clone(), fingerprint: *fingerprint, known });
            }
        }
        Ok(unknown)
    }

    /// The next rows of a folder that speak for what lies at their path, in the order of the paths' bytes, beginning
    /// after `after`; but not those whose source is just being moved or deleted, which is under another name meanwhile. A scan that saw no file for one of them, of a folder that is certainly there, knows it as gone.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn present(
        &self,
        folder: FolderId,
        after: Option<&Path>,
        limit: usize,
    ) -> Result<Vec<Present>> {
        let rows = sqlx::query(
            "-- present\n\
             SELECT id, stage, path, bytes, mtime_ns, ctime_ns, inode FROM jobs INDEXED BY jobs_present \
             WHERE folder = ?1 AND present = 1 AND path > ?2 \
             AND NOT (finish_state = 'pending' AND finish_step IS 'source') ORDER BY path LIMIT ?3",
        )
        .bind(folder.0)
        .bind(after.map(row::bytes_of).unwrap_or_default())
        .bind(row::int(limit))
        .fetch_all(&self.reader)
        .await?;
        let mut present = Vec::with_capacity(rows.len());
        for row in &rows {
            present.push(Present {
                job: JobId(row.try_get("id")?),
                state: row::state(row, "stage")?,
                path: row::path(row, "path")?,
                fingerprint: row::fingerprint(row)?,
            });
        }
        Ok(present)
    }
}

/// The statement for `count` files; holds nothing but numbers.
fn filter_sql(count: usize) -> AssertSqlSafe<String> {
    let mut sql = String::from(
        "-- filter_unknown\nWITH seen (place, path, bytes, mtime_ns, ctime_ns, inode) AS (VALUES ",
    );
    for place in 0..count {
        let comma = if place == 0 { "" } else { ", " };
        sql.push_str(&format!("{comma}({place}, ?, ?, ?, ?, ?)"));
    }
    sql.push_str(
        ") SELECT seen.place, jobs.id, jobs.stage, jobs.bytes, jobs.mtime_ns, jobs.ctime_ns, jobs.inode, \
         jobs.finish_state IS 'pending' AND jobs.finish_step IS 'source' AS leaves \
         FROM seen LEFT JOIN jobs INDEXED BY jobs_present \
         ON jobs.folder = ? AND jobs.path = seen.path AND jobs.present = 1 \
         WHERE jobs.id IS NULL OR (jobs.bytes, jobs.mtime_ns, jobs.ctime_ns, jobs.inode) \
         IS NOT (seen.bytes, seen.mtime_ns, seen.ctime_ns, seen.inode) ORDER BY seen.place",
    );
    AssertSqlSafe(sql)
}
