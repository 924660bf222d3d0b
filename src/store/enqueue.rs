//! A file becomes a job: insert, or nothing.

use sqlx::{Row, SqliteConnection};

use crate::model::file::Fingerprint;
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

/// Inserts the job, unless a row speaks for the same version at that path already.
pub(super) async fn enqueue(
    connection: &mut SqliteConnection,
    candidate: &Candidate,
    boot: &BootId,
) -> sqlx::Result<Applied> {
    // Nearly always the path is free.
    if candidate.replaces.is_none()
        && let Some(job) = insert(connection, candidate).await?
    {
        return Ok(Applied::Enqueued { job: Box::new(job), replaced: None });
    }
    let Subject { folder, path, fingerprint, .. } = &candidate.subject;
    let there = present(connection, *folder, row::bytes_of(path)).await?;
    let replaced = match there {
        Some((job, state, known)) => {
            let stays = match candidate.replaces {
                Some(expected) => job != expected,
                None => known == *fingerprint,
            };
            if stays {
                return Ok(Applied::Known { job, state });
            }
            make_room(connection, job, state, candidate.found_at, boot).await?;
            Some((job, state))
        }
        None => None,
    };
    match insert(connection, candidate).await? {
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
    history::insert(connection, &HistoryRow::of_step(job, &step, at, &Context::default())).await
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

async fn insert(connection: &mut SqliteConnection, candidate: &Candidate) -> sqlx::Result<Option<Job>> {
    let subject = &candidate.subject;
    let (stage, reason, finish) = match &candidate.arrival {
        Arrival::Queued => (Stage::Queued, None, "none"),
        Arrival::Skipped => (Stage::Skipped, None, "none"),
        Arrival::Failed { reason, finish } => {
            (Stage::Failed, Some(reason), if *finish { "pending" } else { "none" })
        }
    };
    let state = stage.state();
    let id: Option<i64> = sqlx::query_scalar(
        "-- insert_job\n\
         INSERT INTO jobs (folder, path, bytes, mtime_ns, ctime_ns, inode, lane, filename, purpose, mime_type, \
         expires_after, account, base_url, project, stage, found_at, ended_at, finish_state, warnings, error_code, \
         error_message, error_status, error_request_id) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23) \
         ON CONFLICT (folder, path) WHERE present = 1 DO NOTHING RETURNING id",
    )
    .bind(subject.folder.0)
    .bind(row::bytes_of(&subject.path))
    .bind(row::int(subject.fingerprint.bytes))
    .bind(subject.fingerprint.mtime_ns)
    .bind(subject.fingerprint.ctime_ns)
    .bind(subject.fingerprint.inode.cast_signed())
    .bind(subject.fingerprint.bytes <= LANE_BYTES)
    .bind(subject.filename.clone())
    .bind(subject.purpose.clone())
    .bind(subject.mime_type.clone())
    .bind(subject.expires_after.map(row::int))
    .bind(subject.account.0.clone())
    .bind(candidate.base_url.clone())
    .bind(candidate.project.clone())
    .bind(state.as_str())
    .bind(candidate.found_at.0)
    .bind(state.has_ended().then_some(candidate.found_at.0))
    .bind(finish)
    .bind(row::json(candidate.warnings.iter().map(String::as_str)))
    .bind(reason.map(|reason| reason.code.as_str()))
    .bind(reason.map(|reason| reason.message.clone()))
    .bind(reason.and_then(|reason| reason.status))
    .bind(reason.and_then(|reason| reason.request_id.clone()))
    .fetch_optional(&mut *connection)
    .await?;
    let Some(id) = id.map(JobId) else { return Ok(None) };
    if let Some(reason) = reason {
        let failed = HistoryRow::event(id, candidate.found_at, "failed").because(reason);
        history::insert(connection, &failed).await?;
    }
    Ok(Some(Job {
        id,
        subject: subject.clone(),
        stage,
        md5: None,
        attempts: 0,
        restarts: 0,
        uploads: 0,
        failing_since: None,
        due: None,
        bumped: false,
    }))
}
