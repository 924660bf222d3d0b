//! Lists of records, a page at a time: whoever prints slowly holds nothing.

use sqlx::Row;

use crate::model::job::{FolderId, JobId, State};
use crate::model::time::Wall;

use super::error::Result;
use super::read::record_sql;
use super::row::Record;
use super::{Store, row};

/// Which records to list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// In one of these states; none: in any.
    pub states: Vec<State>,
    /// Of this folder; none: of any.
    pub folder: Option<FolderId>,
    /// Found at this time or later.
    pub since: Option<Wall>,
    /// Found before this time.
    pub until: Option<Wall>,
    /// The next page: after this record, the last of the page before.
    pub before: Option<(Wall, JobId)>,
    /// At most so many.
    pub limit: usize,
}

impl Default for Filter {
    fn default() -> Filter {
        Filter { states: Vec::new(), folder: None, since: None, until: None, before: None, limit: 50 }
    }
}

impl Store {
    /// The newest records that a filter lets through: by the time when they were found, then by id.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn list(&self, filter: &Filter) -> Result<Vec<Record>> {
        let states = if filter.states.is_empty() { &State::ALL[..] } else { &filter.states };
        // A walk down one index for each state, merged: none of them looks at a row that is not listed.
        let mut newest: Vec<(i64, i64)> = Vec::new();
        let mut connection = self.reader.acquire().await?;
        for state in states {
            let sql = match filter.folder {
                Some(_) => {
                    "-- list_of_folder\n\
                     SELECT found_at, id FROM jobs INDEXED BY jobs_folder_stage \
                     WHERE stage = ?1 AND folder = ?2 AND found_at >= ?3 AND found_at <= ?4 \
                     AND (found_at < ?4 OR id < ?5) ORDER BY found_at DESC, id DESC LIMIT ?6"
                }
                None => {
                    "-- list_of_all\n\
                     SELECT found_at, id FROM jobs INDEXED BY jobs_stage \
                     WHERE stage = ?1 AND ?2 IS NULL AND found_at >= ?3 AND found_at <= ?4 \
                     AND (found_at < ?4 OR id < ?5) ORDER BY found_at DESC, id DESC LIMIT ?6"
                }
            };
            let (last, before) = filter.end();
            let rows = sqlx::query(sql)
                .bind(state.as_str())
                .bind(filter.folder.map(|folder| folder.0))
                .bind(filter.since.map_or(i64::MIN, |since| since.0))
                .bind(last)
                .bind(before)
                .bind(row::int(filter.limit))
                .fetch_all(&mut *connection)
                .await?;
            for row in &rows {
                newest.push((row.try_get("found_at")?, row.try_get("id")?));
            }
        }
        drop(connection);
        newest.sort_unstable_by(|a, b| b.cmp(a));
        newest.dedup();
        newest.truncate(filter.limit);
        let ids = serde_json::Value::from_iter(newest.into_iter().map(|(_, id)| id)).to_string();
        let rows = sqlx::query(record_sql!(
            "list",
            "WHERE jobs.id IN (SELECT value FROM json_each(?1)) ORDER BY jobs.found_at DESC, jobs.id DESC"
        ))
        .bind(ids)
        .fetch_all(&self.reader)
        .await?;
        Ok(rows.iter().map(row::record).collect::<sqlx::Result<_>>()?)
    }

    /// The next page of the whole ledger, oldest first, after the job `after`: for `export`.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn ledger(&self, after: JobId, since: Option<Wall>, limit: usize) -> Result<Vec<Record>> {
        let rows = sqlx::query(record_sql!(
            "ledger",
            "WHERE jobs.id > ?1 AND jobs.found_at >= ?2 ORDER BY jobs.id LIMIT ?3"
        ))
        .bind(after.0)
        .bind(since.map_or(i64::MIN, |since| since.0))
        .bind(row::int(limit))
        .fetch_all(&self.reader)
        .await?;
        Ok(rows.iter().map(row::record).collect::<sqlx::Result<_>>()?)
    }
}

impl Filter {
    /// The last time that is listed, and the id below which those of that very time are.
    fn end(&self) -> (i64, i64) {
        // Before a time is up to the millisecond before it, with every id.
        let until = self.until.map(|until| (until.0.saturating_sub(1), i64::MAX));
        let before = self.before.map(|(at, job)| (at.0, job.0));
        [until, before].into_iter().flatten().min().unwrap_or((i64::MAX, i64::MAX))
    }
}
