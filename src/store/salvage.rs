//! What can still be read of a damaged database, copied into a new one.
//!
//! Rows are copied by the thousand, from one database to the other. Where that fails the range is halved until what cannot
//! be read is alone, so that a spoilt page takes nothing with it but itself. Everything is read from the tables themselves and not
//! by their indexes, which may be spoilt without saying so; the new database makes its own.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use sqlx::{AssertSqlSafe, Row, SqliteConnection};

use crate::model::job::Code;
use crate::model::time::Wall;

use super::transplant::{self, Plan};
use super::{aside, error, row};

/// Rows copied by one statement where nothing is damaged.
const CHUNK: i64 = 4096;

/// Statements that may fail for each table: where nothing can be read whoever waits wants an end after some seconds. Some
/// hundred spoilt pages take fewer.
const MOST_FAILURES: u64 = 20_000;

/// No row takes less room on the disk, in bytes: what the numbers go up to where nothing says it.
const SMALLEST_ROW: u64 = 64;

/// What was copied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Salvaged {
    /// Jobs that are in the new database.
    pub(super) jobs: u64,
    /// Jobs that may have been there and could not be read; at most.
    pub(super) lost: u64,
    /// Jobs whose Upload could not be read: they are sent anew.
    pub(super) requeued: u64,
    /// Jobs of which nobody can tell any more whether they became a File.
    pub(super) doubtful: u64,
    /// Why nothing at all could be read.
    pub(super) unreadable: Option<String>,
}

/// Copies what can be read of `from` into the empty database behind `to`, which is the file `new` and whose foreign keys are
/// not held yet.
///
/// # Errors
/// If the new database cannot be written. What is wrong with the old one is part of the answer.
pub(super) async fn salvage(
    to: &mut SqliteConnection,
    new: &Path,
    from: &Path,
    now: Wall,
) -> sqlx::Result<Salvaged> {
    let plan = Plan::of(&mut *to, new).await?;
    let most = row::int(std::fs::metadata(from)?.len() / SMALLEST_ROW);
    let unreadable = match attach(&mut *to, from).await {
        Ok(columns) => return copy_attached(to, columns, most, now).await,
        Err(unreadable) => unreadable,
    };
    // As it is it cannot be opened; perhaps it can with the first pages of a new one.
    let copy = plan.copy(from, &aside::with_end(new, "-old"))?;
    let salvaged = match attach(&mut *to, &copy).await {
        Ok(columns) => copy_attached(to, columns, most, now).await,
        Err(_) => Ok(Salvaged { unreadable: Some(unreadable), ..Salvaged::default() }),
    };
    transplant::clear(&copy)?;
    salvaged
}

/// Attaches a database as `old`. The columns of its jobs; or why they cannot be read, with nothing attached.
async fn attach(to: &mut SqliteConnection, from: &Path) -> Result<String, String> {
    // Read only: nothing of the old one is changed, not even by folding its log into it.
    let uri = format!("file:{}?mode=ro", percent_encode(from.as_os_str().as_bytes(), NON_ALPHANUMERIC));
    let attached = sqlx::query("-- attach_old\nATTACH ?1 AS old").bind(uri).execute(&mut *to).await;
    attached.map_err(|fault| fault.to_string())?;
    let unreadable = match columns_of_both(&mut *to, "jobs").await {
        Ok(columns) if columns.is_empty() => "it has no table of jobs".to_owned(),
        Ok(columns) => return Ok(columns),
        Err(fault) => fault.to_string(),
    };
    detach(to).await.map_err(|fault| fault.to_string())?;
    Err(unreadable)
}

async fn detach(to: &mut SqliteConnection) -> sqlx::Result<()> {
    sqlx::query("-- detach_old\nDETACH old").execute(to).await.map(|_| ())
}

async fn copy_attached(
    to: &mut SqliteConnection,
    columns: String,
    most: i64,
    now: Wall,
) -> sqlx::Result<Salvaged> {
    let salvaged = copy_all(&mut *to, columns, most, now).await;
    detach(to).await?;
    salvaged
}

async fn copy_all(
    to: &mut SqliteConnection,
    columns: String,
    most: i64,
    now: Wall,
) -> sqlx::Result<Salvaged> {
    folders(to, most).await?;
    let last = last(to, "jobs", most).await;
    let jobs = Copy { table: "jobs", key: "id", columns, only: "" };
    let lost = jobs.copy(to, last).await?;
    for (table, key) in [("uploads", "job"), ("parts", "job"), ("history", "id")] {
        let Ok(columns) = columns_of_both(to, table).await else { continue };
        let last = if key == "job" { last } else { self::last(to, table, most).await };
        let rest = Copy { table, key, columns, only: " AND job IN (SELECT id FROM main.jobs)" };
        rest.copy(to, last).await?;
    }
    let mut salvaged = mend(to, now).await?;
    salvaged.lost += lost;
    keep_numbers(to, "jobs", last).await?;
    salvaged.jobs = count(to, "-- count_salvaged\nSELECT count(*) FROM main.jobs").await?;
    Ok(salvaged)
}

/// A table whose rows are copied by ranges of a number.
struct Copy {
    table: &'static str,
    key: &'static str,
    columns: String,
    only: &'static str,
}

impl Copy {
    /// Copies the rows from 1 to `last`. How many numbers could not be read.
    async fn copy(&self, to: &mut SqliteConnection, last: i64) -> sqlx::Result<u64> {
        let Copy { table, key, columns, only } = self;
        // Nothing of the old database is in the text of the statement: the names of columns are those of the new one.
        let sql = format!(
            "-- salvage_{table}\nINSERT INTO main.{table} ({columns}) SELECT {columns} FROM old.{table} NOT INDEXED \
             WHERE {key} BETWEEN ?1 AND ?2{only}"
        );
        let (mut lost, mut failures) = (0, 0);
        let mut ranges: Vec<(i64, i64)> =
            (0..=last.max(0) / CHUNK).rev().map(|chunk| (chunk * CHUNK, chunk * CHUNK + CHUNK - 1)).collect();
        while let Some((first, end)) = ranges.pop() {
            let end = end.min(last);
            if first > end {
                continue;
            }
            let copied =
                sqlx::query(AssertSqlSafe(sql.clone())).bind(first).bind(end).execute(&mut *to).await;
            match copied {
                Ok(_) => {}
                Err(fault) if error::is_full(&fault) => return Err(fault),
                Err(_) if first == end || failures >= MOST_FAILURES => {
                    lost += (end - first + 1).cast_unsigned()
                }
                Err(_) => {
                    failures += 1;
                    let middle = first + (end - first) / 2;
                    ranges.push((middle + 1, end));
                    ranges.push((first, middle));
                }
            }
        }
        Ok(lost)
    }
}

/// The folders, by the table or else by what the index on their paths holds.
async fn folders(to: &mut SqliteConnection, most: i64) -> sqlx::Result<()> {
    if let Ok(columns) = columns_of_both(to, "folders").await {
        let last = last(to, "folders", most).await;
        Copy { table: "folders", key: "id", columns, only: "" }.copy(to, last).await?;
    }
    let by_index = sqlx::query(
        "-- salvage_folder_paths\n\
         SELECT id, path FROM old.folders INDEXED BY sqlite_autoindex_folders_1 \
         WHERE id NOT IN (SELECT id FROM main.folders)",
    )
    .fetch_all(&mut *to)
    .await
    .unwrap_or_default();
    for found in &by_index {
        let path = row::path(found, "path")?;
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        sqlx::query(
            "-- salvage_folder\n\
             INSERT INTO main.folders (id, path, name, first_watched_at) VALUES (?1, ?2, ?3, 0) \
             ON CONFLICT DO NOTHING",
        )
        .bind(found.try_get::<i64, _>("id")?)
        .bind(row::bytes_of(&path))
        .bind(name)
        .execute(&mut *to)
        .await?;
    }
    Ok(())
}

/// Makes rows that lost what they rely on into rows that can be gone on with.
async fn mend(to: &mut SqliteConnection, now: Wall) -> sqlx::Result<Salvaged> {
    let mut salvaged = Salvaged::default();
    // Without a folder nobody knows where the file lies, and without its File a stored row says nothing.
    salvaged.lost += change(
        to,
        "-- mend_rows\n\
         DELETE FROM main.jobs WHERE folder NOT IN (SELECT id FROM main.folders) \
         OR (stage = 'stored' AND file_id IS NULL)",
    )
    .await?;
    for sql in [
        "-- mend_uploads\nDELETE FROM main.uploads WHERE job NOT IN (SELECT id FROM main.jobs)",
        "-- mend_parts\n\
         DELETE FROM main.parts WHERE (job, upload) NOT IN (SELECT job, number FROM main.uploads)",
        "-- mend_history\nDELETE FROM main.history WHERE job NOT IN (SELECT id FROM main.jobs)",
        // Of those whose File it was the first takes the place of the job that is lost: a File has one row of its own.
        "-- mend_deduped\n\
         UPDATE main.jobs SET deduped_from = (SELECT nullif(min(other.id), jobs.id) FROM main.jobs AS other \
         WHERE other.file_id = jobs.file_id AND other.account = jobs.account AND other.base_url = jobs.base_url) \
         WHERE deduped_from NOT IN (SELECT id FROM main.jobs)",
    ] {
        change(to, sql).await?;
    }
    // No File was made yet, so that it can begin again.
    salvaged.requeued = change(
        to,
        "-- mend_uploading\n\
         UPDATE main.jobs SET stage = 'queued' WHERE stage = 'uploading' AND (bytes <> \
         (SELECT coalesce(sum(length), 0) FROM main.parts WHERE job = jobs.id AND upload = jobs.uploads) \
         OR NOT EXISTS (SELECT 1 FROM main.uploads WHERE job = jobs.id AND number = jobs.uploads))",
    )
    .await?;
    // Without its Upload nobody can ask for the answer that is missing.
    let doubtful = sqlx::query(
        "-- mend_completing\n\
         UPDATE main.jobs SET stage = 'failed', ended_at = ?1, error_code = ?2, error_message = ?3 \
         WHERE stage IN ('completing', 'unresolved') AND (bytes <> \
         (SELECT coalesce(sum(length), 0) FROM main.parts \
         WHERE job = jobs.id AND upload = jobs.uploads AND part_id IS NOT NULL) \
         OR NOT EXISTS (SELECT 1 FROM main.uploads WHERE job = jobs.id AND number = jobs.uploads))",
    )
    .bind(now.0)
    .bind(Code::CompleteUnresolved.as_str())
    .bind("the server may have made its File; its Upload could not be read from the damaged store")
    .execute(to)
    .await?;
    salvaged.doubtful = doubtful.rows_affected();
    Ok(salvaged)
}

/// The columns of a table that both databases have: the old one may be of an earlier version.
async fn columns_of_both(to: &mut SqliteConnection, table: &'static str) -> sqlx::Result<String> {
    let columns: Vec<String> = sqlx::query_scalar(
        "-- columns\n\
         SELECT name FROM pragma_table_info(?1, 'main') \
         WHERE name IN (SELECT name FROM pragma_table_info(?1, 'old'))",
    )
    .bind(table)
    .fetch_all(to)
    .await?;
    Ok(columns.join(", "))
}

/// The highest number that was ever given, as far as it can be told.
async fn last(to: &mut SqliteConnection, table: &'static str, most: i64) -> i64 {
    let given = sqlx::query_scalar("-- last_given\nSELECT seq FROM old.sqlite_sequence WHERE name = ?1")
        .bind(table)
        .fetch_optional(&mut *to)
        .await;
    let there = format!("-- last_there\nSELECT max(id) FROM old.{table}");
    let there = sqlx::query_scalar(AssertSqlSafe(there)).fetch_one(to).await;
    match (given, there) {
        (given, Ok(there)) => {
            let (given, there): (Option<i64>, Option<i64>) = (given.unwrap_or_default(), there);
            given.max(there).unwrap_or(0)
        }
        (Ok(Some(given)), Err(_)) => given,
        // Neither the table that keeps it nor the end of this one can be read.
        (_, Err(_)) => most,
    }
}

/// A number is never given again, be its row lost or not.
async fn keep_numbers(to: &mut SqliteConnection, table: &'static str, last: i64) -> sqlx::Result<()> {
    sqlx::query("-- forget_numbers\nDELETE FROM main.sqlite_sequence WHERE name = ?1")
        .bind(table)
        .execute(&mut *to)
        .await?;
    sqlx::query("-- keep_numbers\nINSERT INTO main.sqlite_sequence (name, seq) VALUES (?1, ?2)")
        .bind(table)
        .bind(last)
        .execute(to)
        .await?;
    Ok(())
}

async fn change(to: &mut SqliteConnection, sql: &'static str) -> sqlx::Result<u64> {
    Ok(sqlx::query(sql).execute(to).await?.rows_affected())
}

async fn count(to: &mut SqliteConnection, sql: &'static str) -> sqlx::Result<u64> {
    let count: i64 = sqlx::query_scalar(sql).fetch_one(to).await?;
    Ok(count.cast_unsigned())
}
