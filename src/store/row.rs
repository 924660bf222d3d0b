//! Rows as the rest of the program knows them: a [`Job`] for the engine, a [`Record`] for people.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};

use crate::model::answer::{FileId, UploadId};
use crate::model::digest::{Algorithm, Digest};
use crate::model::file::Fingerprint;
use crate::model::job::{AccountName, FolderId, Job, JobId, Stage, State, Subject};
use crate::model::time::{Now, Wall};

use super::deadline::BootId;
use super::sessions;

/// The columns that [`job_without_session`] reads.
macro_rules! job_columns {
    () => {
        "id, folder, path, bytes, mtime_ns, ctime_ns, inode, filename, purpose, mime_type, expires_after, account, \
         stage, file_id, md5, attempts, restarts, refusals, expiries, uploads, failing_since, due_at, bumped"
    };
}
pub(super) use job_columns;

/// One version of one file as the ledger has it: all that the JSON record, the tables and the hooks show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The job.
    pub id: JobId,
    /// Its folder.
    pub folder: FolderId,
    /// What the configuration calls the folder.
    pub folder_name: String,
    /// Where the folder is.
    pub folder_path: PathBuf,
    /// Whether sending from the folder is stopped.
    pub folder_paused: bool,
    /// Where the file lies in it.
    pub relative_path: PathBuf,
    /// Whether this record speaks for what lies at the path now.
    pub present: bool,
    /// The version of the file.
    pub fingerprint: Fingerprint,
    /// The name as sent.
    pub filename: String,
    /// The API's `purpose`.
    pub purpose: String,
    /// The API's `mime_type`.
    pub mime_type: String,
    /// Lifetime of the File in seconds, if set.
    pub expires_after: Option<u64>,
    /// The account's name in the configuration.
    pub account: AccountName,
    /// Its server.
    pub base_url: String,
    /// Its project.
    pub project: Option<String>,
    /// How far it got.
    pub state: State,
    /// Whether it is to be next.
    pub bumped: bool,
    /// The kind of the last request for it that waits to be taken up.
    pub requested: Option<String>,
    /// Its File.
    pub file_id: Option<FileId>,
    /// Files that it may have become, while `unresolved`.
    pub candidates: Vec<FileId>,
    /// The job whose File it shares.
    pub deduped_from: Option<JobId>,
    /// The id of its last Upload.
    pub upload_id: Option<UploadId>,
    /// When that one expires, if it is open.
    pub upload_expires_at: Option<Wall>,
    /// Parts of that one.
    pub parts_total: Option<u64>,
    /// Parts that the server has.
    pub parts_stored: Option<u64>,
    /// Bytes that the server has.
    pub bytes_stored: Option<u64>,
    /// Failures since the last progress.
    pub attempts: u32,
    /// Uploads given up.
    pub restarts: u32,
    /// Since when it fails without progress.
    pub failing_since: Option<Wall>,
    /// MD5 of the file.
    pub md5: Option<String>,
    /// What a person should know.
    pub warnings: Vec<String>,
    /// Why it failed, or waits until `due_at`.
    pub error: Option<RecordError>,
    /// What became of receipt, move and hook.
    pub finish: FinishState,
    /// How far that got.
    pub finish_step: Option<String>,
    /// Why it failed.
    pub finish_error: Option<String>,
    /// Where the source lies now.
    pub moved_to: Option<PathBuf>,
    /// Not tried before this.
    pub due_at: Option<Wall>,
    /// When it was queued.
    pub found_at: Wall,
    /// When it got its File.
    pub stored_at: Option<Wall>,
    /// When work on it ended.
    pub ended_at: Option<Wall>,
    /// When the server deletes the File.
    pub file_expires_at: Option<Wall>,
}

/// The error of a record. The code is text: a ledger outlives the list of codes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordError {
    /// The stable code.
    pub code: String,
    /// For people.
    pub message: String,
    /// The HTTP status, where there was an answer.
    pub status: Option<u16>,
    /// The server's name for the request.
    pub request_id: Option<String>,
}

/// What is done after the end of a job: receipt, move or delete, hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FinishState {
    /// Nothing.
    None,
    /// It is still to be done, or was cut off.
    Pending,
    /// It is done.
    Done,
    /// It failed; `finish_error` says why.
    Failed,
}

impl FinishState {
    const ALL: [FinishState; 4] =
        [FinishState::None, FinishState::Pending, FinishState::Done, FinishState::Failed];

    /// Its name in the store and in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            FinishState::None => "none",
            FinishState::Pending => "pending",
            FinishState::Done => "done",
            FinishState::Failed => "failed",
        }
    }
}

/// A job whose session, if its state has one, is still to be loaded: it stands as `Queued` until then.
pub(super) fn job_without_session(row: &SqliteRow) -> sqlx::Result<(Job, State)> {
    let state = state(row, "stage")?;
    let stage = match state {
        State::Stored => Stage::Stored(FileId(
            row.try_get::<Option<String>, _>("file_id")?
                .ok_or_else(|| sqlx::Error::Decode("a stored job has no File".into()))?,
        )),
        State::Failed => Stage::Failed,
        State::Skipped => Stage::Skipped,
        State::Cancelled => Stage::Cancelled,
        State::Gone => Stage::Gone,
        State::Queued | State::Uploading | State::Completing | State::Unresolved => Stage::Queued,
    };
    let job = Job {
        id: JobId(row.try_get("id")?),
        subject: Subject {
            folder: FolderId(row.try_get("folder")?),
            path: path(row, "path")?,
            fingerprint: fingerprint(row)?,
            filename: row.try_get("filename")?,
            purpose: row.try_get("purpose")?,
            mime_type: row.try_get("mime_type")?,
            expires_after: opt_number(row, "expires_after")?,
            account: AccountName(row.try_get("account")?),
        },
        stage,
        md5: row.try_get("md5")?,
        attempts: number(row, "attempts")?,
        restarts: number(row, "restarts")?,
        refusals: number(row, "refusals")?,
        expiries: number(row, "expiries")?,
        uploads: number(row, "uploads")?,
        failing_since: wall(row, "failing_since")?,
        due: wall(row, "due_at")?,
        bumped: row.try_get("bumped")?,
    };
    Ok((job, state))
}

/// A whole job. After a load nobody knows whether an answer was lost.
pub(super) async fn job_of(
    connection: &mut SqliteConnection,
    row: &SqliteRow,
    boot: &BootId,
    now: Now,
) -> sqlx::Result<Job> {
    let (mut job, state) = job_without_session(row)?;
    if matches!(state, State::Uploading | State::Completing | State::Unresolved) {
        let (session, doubt) = sessions::load(connection, job.id, job.uploads, boot, now).await?;
        job.stage = match state {
            State::Uploading => Stage::Sending(session),
            State::Completing => Stage::Completing(session, doubt),
            _ => Stage::Unresolved(session),
        };
    }
    Ok(job)
}

/// A record, from the columns of `read::record_sql`.
pub(super) fn record(row: &SqliteRow) -> sqlx::Result<Record> {
    let state = state(row, "stage")?;
    let error = match row.try_get::<Option<String>, _>("error_code")? {
        Some(code) => Some(RecordError {
            code,
            message: row.try_get::<Option<String>, _>("error_message")?.unwrap_or_default(),
            status: opt_number(row, "error_status")?,
            request_id: row.try_get("error_request_id")?,
        }),
        None => None,
    };
    let upload_id: Option<String> = row.try_get("upload_id")?;
    let parts_total: Option<u64> = opt_number(row, "parts_total")?;
    let has_parts = parts_total.is_some_and(|total| total > 0);
    let finish: String = row.try_get("finish_state")?;
    Ok(Record {
        id: JobId(row.try_get("id")?),
        folder: FolderId(row.try_get("folder")?),
        folder_name: row.try_get("folder_name")?,
        folder_path: path(row, "folder_path")?,
        folder_paused: row.try_get("folder_paused")?,
        relative_path: path(row, "path")?,
        present: row.try_get("present")?,
        fingerprint: fingerprint(row)?,
        filename: row.try_get("filename")?,
        purpose: row.try_get("purpose")?,
        mime_type: row.try_get("mime_type")?,
        expires_after: opt_number(row, "expires_after")?,
        account: AccountName(row.try_get("account")?),
        base_url: row.try_get("base_url")?,
        project: row.try_get("project")?,
        state,
        bumped: row.try_get("bumped")?,
        requested: row.try_get("requested")?,
        file_id: row.try_get::<Option<String>, _>("file_id")?.map(FileId),
        candidates: strings(row.try_get("candidates")?)?.into_iter().map(FileId).collect(),
        deduped_from: row.try_get::<Option<i64>, _>("deduped_from")?.map(JobId),
        upload_id: upload_id.map(UploadId),
        upload_expires_at: wall(row, "upload_expires_at")?,
        parts_total: parts_total.filter(|_| has_parts),
        parts_stored: opt_number(row, "parts_stored")?.filter(|_| has_parts),
        bytes_stored: opt_number(row, "bytes_stored")?.filter(|_| has_parts),
        attempts: number(row, "attempts")?,
        restarts: number(row, "restarts")?,
        failing_since: wall(row, "failing_since")?,
        md5: row.try_get("md5")?,
        warnings: strings(row.try_get("warnings")?)?,
        error,
        finish: FinishState::ALL
            .into_iter()
            .find(|state| state.as_str() == finish)
            .ok_or_else(|| sqlx::Error::Decode(format!("unknown finish state {finish}").into()))?,
        finish_step: row.try_get("finish_step")?,
        finish_error: row.try_get("finish_error")?,
        moved_to: row.try_get::<Option<Vec<u8>>, _>("moved_to")?.map(to_path),
        due_at: wall(row, "due_at")?,
        found_at: Wall(row.try_get("found_at")?),
        stored_at: wall(row, "stored_at")?,
        ended_at: wall(row, "ended_at")?,
        file_expires_at: wall(row, "file_expires_at")?,
    })
}

pub(super) fn fingerprint(row: &SqliteRow) -> sqlx::Result<Fingerprint> {
    Ok(Fingerprint {
        bytes: number(row, "bytes")?,
        mtime_ns: row.try_get("mtime_ns")?,
        ctime_ns: row.try_get("ctime_ns")?,
        inode: row.try_get::<i64, _>("inode")?.cast_unsigned(),
    })
}

pub(super) fn state(row: &SqliteRow, column: &str) -> sqlx::Result<State> {
    let name: String = row.try_get(column)?;
    State::from_name(&name).ok_or_else(|| sqlx::Error::Decode(format!("unknown stage {name}").into()))
}

pub(super) fn wall(row: &SqliteRow, column: &str) -> sqlx::Result<Option<Wall>> {
    Ok(row.try_get::<Option<i64>, _>(column)?.map(Wall))
}

pub(super) fn path(row: &SqliteRow, column: &str) -> sqlx::Result<PathBuf> {
    Ok(to_path(row.try_get(column)?))
}

pub(super) fn digest(row: &SqliteRow, column: &str) -> sqlx::Result<Option<Digest>> {
    let Some(bytes) = row.try_get::<Option<Vec<u8>>, _>(column)? else { return Ok(None) };
    let digest = Digest::from_bytes(&bytes);
    Ok(Some(digest.ok_or_else(|| sqlx::Error::Decode("a digest has neither 16 nor 32 bytes".into()))?))
}

/// What the column of `algorithm` has of a digest.
pub(super) fn stored_as(digest: &Digest, algorithm: Algorithm) -> Option<Vec<u8>> {
    (digest.algorithm() == algorithm).then(|| digest.as_bytes().to_vec())
}

pub(super) fn number<T: TryFrom<i64>>(row: &SqliteRow, column: &str) -> sqlx::Result<T> {
    opt_number(row, column)?.ok_or_else(|| sqlx::Error::Decode(format!("{column} is null").into()))
}

pub(super) fn opt_number<T: TryFrom<i64>>(row: &SqliteRow, column: &str) -> sqlx::Result<Option<T>> {
    let Some(value) = row.try_get::<Option<i64>, _>(column)? else { return Ok(None) };
    T::try_from(value)
        .map(Some)
        .map_err(|_| sqlx::Error::Decode(format!("{column} is {value}, out of range").into()))
}

/// Where the end of a job stands when it has just ended.
pub(super) fn finish_state(finish: bool) -> &'static str {
    if finish { "pending" } else { "none" }
}

/// The bytes of a path, for a parameter.
pub(super) fn bytes_of(path: &Path) -> Vec<u8> {
    path.as_os_str().as_bytes().to_vec()
}

fn to_path(bytes: Vec<u8>) -> PathBuf {
    PathBuf::from(OsString::from_vec(bytes))
}

/// A number for a parameter. Sizes and counts are far below the limit.
pub(super) fn int(value: impl TryInto<i64>) -> i64 {
    value.try_into().unwrap_or(i64::MAX)
}

fn strings(json: Option<String>) -> sqlx::Result<Vec<String>> {
    match json {
        Some(json) => serde_json::from_str(&json).map_err(|error| sqlx::Error::Decode(Box::new(error))),
        None => Ok(Vec::new()),
    }
}

/// A list of strings as the store keeps it.
pub(super) fn json<'a>(strings: impl Iterator<Item = &'a str>) -> String {
    serde_json::Value::from_iter(strings).to_string()
}
