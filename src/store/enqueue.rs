//! A file becomes a job: insert, or nothing.

use std::collections::HashMap;

use sqlx::query_builder::Separated;
use sqlx::{QueryBuilder, Row, Sqlite, SqliteConnection};

use crate::model::file::Fingerprint;
use crate::model::finish::FinishStep;
use crate::model::job::{Code, FolderId, Job, JobId, Reason, Stage, State, Step, Subject};
use crate::model::plan::LANE_BYTES;
use crate::model::time::{Now, Wall};

use super::deadline::BootId;
use super::history::{self, Context, HistoryRow};
use super::row;
use super::steps::Taking;
use super::write::Applied;

/// A file that has settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// What is to be sent.
    pub subject: Subject,
    /// The account's server.
    pub base_url: String,
    /// The account's project.
    pub project: Option<String>,
    /// When it was found.
    pub found_at: Wall,
    /// What it becomes at first.
    pub arrival: Arrival,
    /// What a person should know of it.
    pub warnings: Vec<String>,
    /// The job that it takes the place of although that may look the same: a file to be sent again. Nothing is done if
    /// another speaks for the path by then. Without it, a row with the same fingerprint means that the file is known.
    pub replaces: Option<JobId>,
    /// The row that spoke for the path when it was decided that this is another version, and where that was. If it went on
    /// since, what was decided may be wrong: what waited unsent had nothing to compare with. Then nothing is done.
    pub over: Option<(JobId, State)>,
}

/// What a candidate becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// A job that waits for its turn.
    Queued,
    /// A row that says that it was there before.
    Skipped,
    /// A row that says why it cannot be sent.
    Failed {
        /// Why.
        reason: Reason,
        /// Whether it is to be moved, told, or both.
        finish: bool,
    },
}

/// Files inserted in one statement: a scan finds thousands, and 23 values each have to stay below SQLite's limit of
/// 32 766.
pub(super) const TOGETHER: usize = 100;

/// Inserts each job, unless a row speaks for the same version at that path already. As if one after the other.
pub(super) async fn enqueue(
    connection: &mut SqliteConnection,
    candidates: &[&Candidate],
    boot: &BootId,
) -> sqlx::Result<Vec<Applied>> {
    let mut applied = Vec::with_capacity(candidates.len());
    for chunk in candidates.chunk_by(|a, b| a.replaces.is_none() && b.replaces.is_none()) {
        // Nearly always the path is free.
        let inserted = match chunk {
            [Candidate { replaces: Some(_), .. }] => vec![None],
            new => insert(connection, new).await?,
        };
        for (candidate, job) in chunk.iter().zip(inserted) {
            applied.push(match job {
                Some(job) => Applied::Enqueued { job: Box::new(job), replaced: None },
                None => enqueue_over(connection, candidate, boot).await?,
            });
        }
    }
    Ok(applied)
}

/// Inserts the job although a row speaks for its path, or says that this is known.
async fn enqueue_over(
    connection: &mut SqliteConnection,
    candidate: &Candidate,
    boot: &BootId,
) -> sqlx::Result<Applied> {
    let Subject { folder, path, fingerprint, .. } = &candidate.subject;
    let there = present(connection, *folder, row::bytes_of(path)).await?;
    let replaced = match there {
        Some((job, state, known)) => {
            let stays = match candidate.replaces {
                Some(expected) => job != expected,
                None => known == *fingerprint || candidate.over != Some((job, state)),
            };
            if stays {
                return Ok(Applied::Known { job, state });
            }
            make_room(connection, job, state, candidate.found_at, boot).await?;
            Some((job, state))
        }
        None => None,
    };
    match insert(connection, &[candidate]).await?.pop().flatten() {
        Some(job) => Ok(Applied::Enqueued { job: Box::new(job), replaced }),
        None => Err(sqlx::Error::RowNotFound),
    }
}

/// What waits unsent becomes gone; all else keeps its stage and no longer speaks for the path.
async fn make_room(
    connection: &mut SqliteConnection,
    job: JobId,
    state: State,
    at: Wall,
    boot: &BootId,
) -> sqlx::Result<()> {
    if state != State::Queued {
        retire(connection, job).await?;
        return Ok(());
    }
    let step = Step::Gone(Some(Reason::local(
        Code::FileChanged,
        "the file changed before it was sent; the new version is a job of its own",
    )));
    let now = Now { wall: at, ..Now::default() };
    Taking { connection: &mut *connection, job, from: state, now, boot, finish: false }.take(&step).await?;
    history::insert(connection, vec![HistoryRow::of_step(job, &step, at, &Context::default())]).await
}

/// The file of a row is missing. Not while it is being moved: then it is under another name.
pub(super) async fn retire_missing(connection: &mut SqliteConnection, job: JobId) -> sqlx::Result<bool> {
    let changed = sqlx::query(
        "-- retire_missing\n\
         UPDATE jobs SET present = 0 WHERE id = ?1 AND present = 1 \
         AND NOT (finish_state = 'pending' AND finish_step IS 'source')",
    )
    .bind(job.0)
    .execute(connection)
    .await?
    .rows_affected();
    Ok(changed == 1)
}

/// The row no longer speaks for what lies at its path.
pub(super) async fn retire(connection: &mut SqliteConnection, job: JobId) -> sqlx::Result<bool> {
    let changed = sqlx::query("-- retire\nUPDATE jobs SET present = 0 WHERE id = ?1 AND present = 1")
        .bind(job.0)
        .execute(connection)
        .await?
        .rows_affected();
    Ok(changed == 1)
}

/// The same content under other times: nothing is sent.
pub(super) async fn same_version(
    connection: &mut SqliteConnection,
    job: JobId,
    fingerprint: &Fingerprint,
) -> sqlx::Result<bool> {
    let changed = sqlx::query(
        "-- same_version\n\
         UPDATE jobs SET mtime_ns = ?3, ctime_ns = ?4, inode = ?5 WHERE id = ?1 AND bytes = ?2",
    )
    .bind(job.0)
    .bind(row::int(fingerprint.bytes))
    .bind(fingerprint.mtime_ns)
    .bind(fingerprint.ctime_ns)
    .bind(fingerprint.inode.cast_signed())
    .execute(connection)
    .await?
    .rows_affected();
    Ok(changed == 1)
}

async fn present(
    connection: &mut SqliteConnection,
    folder: FolderId,
    path: Vec<u8>,
) -> sqlx::Result<Option<(JobId, State, Fingerprint)>> {
    let row = sqlx::query(
        "-- present_row\n\
         SELECT id, stage, bytes, mtime_ns, ctime_ns, inode FROM jobs INDEXED BY jobs_present \
         WHERE folder = ?1 AND path = ?2 AND present = 1",
    )
    .bind(folder.0)
    .bind(path)
    .fetch_optional(connection)
    .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some((JobId(row.try_get("id")?), row::state(&row, "stage")?, row::fingerprint(&row)?)))
}

/// Inserts those whose path is free; none for the others. Of two with the same path the first is inserted.
async fn insert(
    connection: &mut SqliteConnection,
    candidates: &[&Candidate],
) -> sqlx::Result<Vec<Option<Job>>> {
    let mut insert = QueryBuilder::<Sqlite>::new(
        "-- insert_jobs\n\
         INSERT INTO jobs (folder, path, bytes, mtime_ns, ctime_ns, inode, lane, filename, purpose, mime_type, \
         expires_after, account, base_url, project, stage, found_at, ended_at, finish_state, finish_step, warnings, error_code, \
         error_message, error_status, error_request_id) ",
    );
    insert.push_values(candidates, |values, candidate| bind(values, candidate));
    insert.push(" ON CONFLICT (folder, path) WHERE present = 1 DO NOTHING RETURNING id, folder, path");
    // Only these two sizes come often enough to be worth a place in the cache of statements.
    let often = candidates.len() == 1 || candidates.len() == TOGETHER;
    let rows = insert.build().persistent(often).fetch_all(&mut *connection).await?;
    let mut ids = HashMap::with_capacity(rows.len());
    for row in &rows {
        let place: (i64, Vec<u8>) = (row.try_get("folder")?, row.try_get("path")?);
        ids.insert(place, JobId(row.try_get("id")?));
    }
    let mut jobs = Vec::with_capacity(candidates.len());
    for candidate in candidates {
        let subject = &candidate.subject;
        let Some(id) = ids.remove(&(subject.folder.0, row::bytes_of(&subject.path))) else {
            jobs.push(None);
            continue;
        };
        if let Arrival::Failed { reason, .. } = &candidate.arrival {
            let failed = HistoryRow::event(id, candidate.found_at, "failed").because(reason);
            history::insert(connection, vec![failed]).await?;
        }
        jobs.push(Some(Job {
            id,
            subject: subject.clone(),
            stage: candidate.arrival.stage(),
            md5: None,
            attempts: 0,
            restarts: 0,
            refusals: 0,
            expiries: 0,
            uploads: 0,
            failing_since: None,
            due: None,
            bumped: false,
        }));
    }
    Ok(jobs)
}

fn bind(mut values: Separated<'_, Sqlite, &'static str>, candidate: &Candidate) {
    let subject = &candidate.subject;
    let state = candidate.arrival.stage().state();
    let (reason, finish) = match &candidate.arrival {
        Arrival::Failed { reason, finish } => (Some(reason), *finish),
        Arrival::Queued | Arrival::Skipped => (None, false),
    };
    values
        .push_bind(subject.folder.0)
        .push_bind(row::bytes_of(&subject.path))
        .push_bind(row::int(subject.fingerprint.bytes))
        .push_bind(subject.fingerprint.mtime_ns)
        .push_bind(subject.fingerprint.ctime_ns)
        .push_bind(subject.fingerprint.inode.cast_signed())
        .push_bind(subject.fingerprint.bytes <= LANE_BYTES)
        .push_bind(subject.filename.clone())
        .push_bind(subject.purpose.clone())
        .push_bind(subject.mime_type.clone())
        .push_bind(subject.expires_after.map(row::int))
        .push_bind(subject.account.0.clone())
        .push_bind(candidate.base_url.clone())
        .push_bind(candidate.project.clone())
        .push_bind(state.as_str())
        .push_bind(candidate.found_at.0)
        .push_bind(state.has_ended().then_some(candidate.found_at.0))
        .push_bind(if finish { "pending" } else { "none" })
        .push_bind(finish.then_some(FinishStep::Source.as_str()))
        .push_bind(row::json(candidate.warnings.iter().map(String::as_str)))
        .push_bind(reason.map(|reason| reason.code.as_str()))
        .push_bind(reason.map(|reason| reason.message.clone()))
        .push_bind(reason.and_then(|reason| reason.status))
        .push_bind(reason.and_then(|reason| reason.request_id.clone()));
}

impl Arrival {
    fn stage(&self) -> Stage {
        match self {
            Arrival::Queued => Stage::Queued,
            Arrival::Skipped => Stage::Skipped,
            Arrival::Failed { .. } => Stage::Failed,
        }
    }
}
