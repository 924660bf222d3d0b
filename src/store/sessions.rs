//! An open Upload in the store: its row and those of its Parts.

use sqlx::{QueryBuilder, Row, Sqlite, SqliteConnection};

use crate::model::answer::{PartId, UploadId};
use crate::model::digest::Algorithm;
use crate::model::job::{Doubt, JobId, PlannedPart, Session};
use crate::model::time::{Boot, Now, Wall};

use super::deadline::{BootId, SavedDeadline, resume_deadline};
use super::steps::Taking;
use super::{row, values};

/// Parts inserted in one statement: nine values each, below SQLite's limit of 32 766.
const PARTS_CHUNK: usize = 1000;

/// Upload `number` of a job, its deadline on this boot's clock, and what is known of its lost answer.
pub(super) async fn load(
    connection: &mut SqliteConnection,
    job: JobId,
    number: u32,
    boot: &BootId,
    now: Now,
) -> sqlx::Result<(Session, Doubt)> {
    let upload = sqlx::query(
        "-- session\n\
         SELECT upload_id, echoed_name, server_created_at, boot_id, deadline_boot, deadline_wall, opened_at, doubt \
         FROM uploads WHERE job = ?1 AND number = ?2",
    )
    .bind(job.0)
    .bind(number)
    .fetch_one(&mut *connection)
    .await?;
    let rows = sqlx::query(
        "-- session_parts\n\
         SELECT start, length, part_id, coalesce(digest, xxh3) AS digest FROM parts WHERE job = ?1 AND upload = ?2 ORDER BY idx",
    )
    .bind(job.0)
    .bind(number)
    .fetch_all(connection)
    .await?;
    let mut parts = Vec::with_capacity(rows.len());
    for part in &rows {
        let start: u64 = row::number(part, "start")?;
        let length: u64 = row::number(part, "length")?;
        let stored = match (part.try_get::<Option<String>, _>("part_id")?, row::digest(part, "digest")?) {
            (Some(id), Some(digest)) => Some((PartId(id), digest)),
            _ => None,
        };
        parts.push(PlannedPart { range: start..start + length, stored });
    }
    let saved = SavedDeadline {
        boot: BootId(upload.try_get("boot_id")?),
        boot_time: upload.try_get::<Option<i64>, _>("deadline_boot")?.map(Boot),
        wall: row::wall(&upload, "deadline_wall")?,
        opened: Wall(upload.try_get("opened_at")?),
    };
    let doubt: Option<String> = upload.try_get("doubt")?;
    let doubt = Doubt::resumed(doubt.as_deref())
        .ok_or_else(|| sqlx::Error::Decode(format!("unknown doubt {doubt:?}").into()))?;
    let session = Session {
        upload: UploadId(upload.try_get("upload_id")?),
        echoed_name: upload.try_get("echoed_name")?,
        server_created_at: upload.try_get("server_created_at")?,
        deadline: resume_deadline(&saved, boot, now),
        parts,
    };
    Ok((session, doubt))
}

/// Writes down Uploads that were opened, each the one of that number of its job, with the Parts that are planned.
pub(super) async fn insert(
    connection: &mut SqliteConnection,
    boot: &BootId,
    opened: &[(JobId, i64, &Session, Now)],
) -> sqlx::Result<()> {
    for opened in opened.chunks(values::MOST) {
        let mut parts = Vec::new();
        for (job, number, session, now) in opened {
            let its = session.parts.iter().enumerate();
            parts.extend(its.map(|(place, part)| Planned {
                job: *job,
                number: *number,
                place,
                part,
                now: *now,
            }));
        }
        let (first, rest) = parts.split_at(parts.len().min(PARTS_CHUNK));
        let mut insert = QueryBuilder::new("-- insert_uploads\n");
        push_uploads(&mut insert, boot, opened);
        // In the same call: those of small files are many.
        if !first.is_empty() {
            push_parts(insert.push("; "), first);
        }
        // Plans of large files differ in length and would only fill the cache of statements.
        insert.build().persistent(first.len() <= values::MOST).execute(&mut *connection).await?;
        for some in rest.chunks(PARTS_CHUNK) {
            let mut insert = QueryBuilder::new("-- insert_parts\n");
            push_parts(&mut insert, some);
            insert.build().persistent(false).execute(&mut *connection).await?;
        }
    }
    Ok(())
}

fn push_uploads(insert: &mut QueryBuilder<Sqlite>, boot: &BootId, opened: &[(JobId, i64, &Session, Now)]) {
    insert.push(
        "INSERT INTO uploads (job, number, upload_id, echoed_name, server_created_at, boot_id, deadline_boot, \
         deadline_wall, opened_at) SELECT * FROM (",
    );
    values::push(insert, opened.iter(), 9, |values, (job, number, session, now)| {
        let saved = SavedDeadline::of(session.deadline, *now, boot);
        values
            .push_bind(job.0)
            .push_bind(*number)
            .push_bind(session.upload.0.clone())
            .push_bind(session.echoed_name.clone())
            .push_bind(session.server_created_at)
            .push_bind(saved.boot.0)
            .push_bind(saved.boot_time.map(|at| at.0))
            .push_bind(saved.wall.map(|at| at.0))
            .push_bind(saved.opened.0);
    });
    insert.push(") WHERE column1 IS NOT NULL");
}

/// A Part of a job's Upload of that number.
struct Planned<'a> {
    job: JobId,
    number: i64,
    place: usize,
    part: &'a PlannedPart,
    now: Now,
}

fn push_parts(insert: &mut QueryBuilder<Sqlite>, parts: &[Planned<'_>]) {
    insert.push(
        "INSERT INTO parts (job, upload, idx, start, length, part_id, digest, xxh3, stored_at) SELECT * FROM (",
    );
    values::push(insert, parts.iter(), 9, |values, Planned { job, number, place, part, now }| {
        let stored = part.stored.as_ref();
        values
            .push_bind(job.0)
            .push_bind(*number)
            .push_bind(row::int(*place))
            .push_bind(row::int(part.range.start))
            .push_bind(row::int(part.range.end.saturating_sub(part.range.start)))
            .push_bind(stored.map(|(id, _)| id.0.clone()))
            .push_bind(stored.and_then(|(_, digest)| row::stored_as(digest, Algorithm::Blake3)))
            .push_bind(stored.and_then(|(_, digest)| row::stored_as(digest, Algorithm::Xxh3)))
            .push_bind(stored.map(|_| now.wall.0));
    });
    insert.push(") WHERE column1 IS NOT NULL");
}

impl Taking<'_> {
    /// Writes down how far the inquiry after a lost answer to complete got.
    pub(super) async fn doubted(&mut self, doubt: Doubt) -> sqlx::Result<bool> {
        let changed = sqlx::query(
            "-- doubted\n\
             UPDATE uploads SET doubt = ?3 WHERE job = ?1 AND ended_at IS NULL \
             AND number = (SELECT uploads FROM jobs WHERE id = ?1 AND stage = ?2)",
        )
        .bind(self.job.0)
        .bind(self.from.as_str())
        .bind(doubt.as_str())
        .execute(&mut *self.connection)
        .await?
        .rows_affected();
        if changed != 1 {
            return Ok(false);
        }
        sqlx::query("-- doubt_asks_anew\nUPDATE jobs SET attempts = 0, failing_since = NULL, due_at = NULL WHERE id = ?1")
            .bind(self.job.0)
            .execute(&mut *self.connection)
            .await?;
        Ok(true)
    }

    /// Writes down why the current Upload is over, if the step was `taken`; passes that on.
    pub(super) async fn close_upload_if(&mut self, taken: bool, reason: &str) -> sqlx::Result<bool> {
        if taken {
            sqlx::query(
                "-- close_upload\n\
                 UPDATE uploads SET ended_at = ?2, end_reason = ?3 WHERE job = ?1 AND ended_at IS NULL \
                 AND number = (SELECT uploads FROM jobs WHERE id = ?1)",
            )
            .bind(self.job.0)
            .bind(self.now.wall.0)
            .bind(reason.to_owned())
            .execute(&mut *self.connection)
            .await?;
        }
        Ok(taken)
    }
}
