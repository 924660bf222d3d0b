//! What commands ask of the service: rows that it takes up in order.

use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};

use crate::model::job::{FolderId, JobId};
use crate::model::time::Wall;

use super::error::{Result, StoreError};
use super::spool::Spooled;
use super::{Store, row};

/// What a command asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRequest {
    /// The command.
    pub kind: String,
    /// Of which job.
    pub job: Option<JobId>,
    /// Of which folder; none: of all, if the kind is about folders.
    pub folder: Option<FolderId>,
    /// What else it needs.
    pub argument: Option<String>,
}

/// A request in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestRow {
    /// Its place in the order.
    pub id: i64,
    /// When it was asked.
    pub at: Wall,
    /// What is asked.
    pub request: NewRequest,
    /// The user (uid) who asked by the spool; none: somebody who may write the store.
    pub by: Option<u32>,
    /// When the service took it up.
    pub taken_at: Option<Wall>,
    /// What came of it.
    pub answer: Option<String>,
    /// Whether it was done as asked.
    pub done: Option<bool>,
}

impl Store {
    /// Leaves a request for the service.
    ///
    /// # Errors
    /// `Unwritable` if whoever asks may only read; else if the store fails.
    pub async fn insert_request(&self, request: &NewRequest, now: Wall) -> Result<i64> {
        let ids = self.insert_requests(std::slice::from_ref(request), now).await?;
        ids.first().copied().ok_or_else(|| sqlx::Error::RowNotFound.into())
    }

    /// The same for several in one transaction: all of them or none. Their ids, in the order given.
    ///
    /// # Errors
    /// `Unwritable` if whoever asks may only read; else if the store fails.
    pub async fn insert_requests(&self, requests: &[NewRequest], now: Wall) -> Result<Vec<i64>> {
        let inserted = async {
            let mut transaction = self.writer.begin_with("BEGIN IMMEDIATE").await?;
            let mut ids = Vec::with_capacity(requests.len());
            for request in requests {
                let id = sqlx::query_scalar(
                    "-- insert_request\n\
                     INSERT INTO requests (at, kind, job, folder, argument) VALUES (?1, ?2, ?3, ?4, ?5) \
                     RETURNING id",
                )
                .bind(now.0)
                .bind(request.kind.clone())
                .bind(request.job.map(|job| job.0))
                .bind(request.folder.map(|folder| folder.0))
                .bind(request.argument.clone())
                .fetch_one(&mut *transaction)
                .await?;
                ids.push(id);
            }
            transaction.commit().await?;
            Ok(ids)
        };
        inserted.await.map_err(|error: sqlx::Error| StoreError::opening(&self.path, &error))
    }

    /// The requests after `after` that have no answer yet, oldest first.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn pending_requests(&self, after: i64) -> Result<Vec<RequestRow>> {
        let rows = sqlx::query(
            "-- pending_requests\n\
             SELECT id, at, kind, job, folder, argument, asked_by, taken_at, done, answer \
             FROM requests INDEXED BY requests_pending WHERE answer IS NULL AND id > ?1 ORDER BY id LIMIT 1000",
        )
        .bind(after)
        .fetch_all(&self.reader)
        .await?;
        Ok(rows.iter().map(request).collect::<sqlx::Result<_>>()?)
    }

    /// One request, with its answer once there is one.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn request(&self, id: i64) -> Result<Option<RequestRow>> {
        let row = sqlx::query(
            "-- request\n\
             SELECT id, at, kind, job, folder, argument, asked_by, taken_at, done, answer FROM requests WHERE id = ?1",
        )
        .bind(id)
        .fetch_optional(&self.reader)
        .await?;
        Ok(row.as_ref().map(request).transpose()?)
    }

    /// The same of one that was left in the spool, by the name of its file and its place there; none before it is taken up.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn spooled_request(&self, token: &str, place: usize) -> Result<Option<RequestRow>> {
        let row = sqlx::query(
            "-- spooled_request\n\
             SELECT id, at, kind, job, folder, argument, asked_by, taken_at, done, answer FROM requests WHERE token = ?1",
        )
        .bind(token_of(token, place))
        .fetch_optional(&self.reader)
        .await?;
        Ok(row.as_ref().map(request).transpose()?)
    }
}

/// Makes rows of what was left in the spool, if they are not there already.
pub(super) async fn take_up(connection: &mut SqliteConnection, spooled: &Spooled) -> sqlx::Result<()> {
    for (place, request) in spooled.requests.iter().enumerate() {
        sqlx::query(
            "-- take_up\n\
             INSERT INTO requests (at, kind, job, folder, argument, token, asked_by) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (token) WHERE token IS NOT NULL DO NOTHING",
        )
        .bind(spooled.at.0)
        .bind(request.kind.clone())
        .bind(request.job.map(|job| job.0))
        .bind(request.folder.map(|folder| folder.0))
        .bind(request.argument.clone())
        .bind(token_of(&spooled.token, place))
        .bind(spooled.by)
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

/// How the row of a request is called that was left in the spool.
fn token_of(file: &str, place: usize) -> String {
    format!("{file}.{place}")
}

/// Writes the answer to a request.
pub(super) async fn answer(
    connection: &mut SqliteConnection,
    id: i64,
    at: Wall,
    done: bool,
    answer: &str,
) -> sqlx::Result<bool> {
    let changed = sqlx::query(
        "-- answer_request\nUPDATE requests SET taken_at = ?2, done = ?3, answer = ?4 WHERE id = ?1 AND answer IS NULL",
    )
    .bind(id)
    .bind(at.0)
    .bind(done)
    .bind(answer.to_owned())
    .execute(connection)
    .await?
    .rows_affected();
    Ok(changed == 1)
}

fn request(row: &SqliteRow) -> sqlx::Result<RequestRow> {
    Ok(RequestRow {
        id: row.try_get("id")?,
        at: Wall(row.try_get("at")?),
        request: NewRequest {
            kind: row.try_get("kind")?,
            job: row.try_get::<Option<i64>, _>("job")?.map(JobId),
            folder: row.try_get::<Option<i64>, _>("folder")?.map(FolderId),
            argument: row.try_get("argument")?,
        },
        by: row.try_get("asked_by")?,
        taken_at: row::wall(row, "taken_at")?,
        answer: row.try_get("answer")?,
        done: row.try_get("done")?,
    })
}
