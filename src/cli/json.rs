//! A job as JSON: the same record in every command, receipt and hook. Fields are only ever added.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use serde::Serialize;

use crate::model::job::State;
use crate::model::time::Wall;
use crate::store::{Record, RecordError};
use crate::text::{base64, rfc3339};

/// The version of everything that is printed as JSON.
pub const SCHEMA: u32 = 1;

/// A job as JSON. Every field is always there, null when unknown; times are RFC 3339 UTC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct JobJson {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The job's number.
    pub id: i64,
    /// The folder's name.
    pub folder: String,
    /// Absolute; what is not UTF-8 is replaced, see `path_base64`.
    pub path: String,
    /// The bytes of `path`, where they are not UTF-8.
    pub path_base64: Option<String>,
    /// Below the folder.
    pub relative_path: String,
    /// The name as sent.
    pub filename: String,
    /// Its size.
    pub bytes: u64,
    /// The API's purpose.
    pub purpose: String,
    /// The API's MIME type.
    pub mime_type: String,
    /// The account's name in the configuration.
    pub account: String,
    /// Its server.
    pub base_url: String,
    /// Its project.
    pub project: Option<String>,
    /// How far it got.
    pub state: &'static str,
    /// Why it waits: see [`waiting`].
    pub waiting: Option<&'static str>,
    /// The request for it that waits to be taken up.
    pub requested: Option<String>,
    /// Its File.
    pub file_id: Option<String>,
    /// Its last Upload.
    pub upload_id: Option<String>,
    /// Parts of that one.
    pub parts_total: Option<u64>,
    /// Parts that the server has.
    pub parts_stored: Option<u64>,
    /// Failures since the last progress.
    pub attempts: u32,
    /// Uploads given up.
    pub restarts: u32,
    /// Of the file.
    pub md5: Option<String>,
    /// The job whose File it shares.
    pub deduped_from: Option<i64>,
    /// What a person should know.
    pub warnings: Vec<String>,
    /// Why it failed or was put off.
    pub error: Option<ErrorJson>,
    /// What became of receipt, move and hook.
    pub finish: FinishJson,
    /// Not tried before this.
    pub due_at: Option<String>,
    /// When its open Upload expires.
    pub upload_expires_at: Option<String>,
    /// When it was queued.
    pub found_at: String,
    /// When it got its File.
    pub stored_at: Option<String>,
    /// When the server deletes the File.
    pub file_expires_at: Option<String>,
}

/// The error of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ErrorJson {
    /// The stable code.
    pub code: String,
    /// For people.
    pub message: String,
    /// The HTTP status, where there was an answer.
    pub status: Option<u16>,
    /// The server's name for the request.
    pub request_id: Option<String>,
}

/// What is done after the end of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FinishJson {
    /// `none`, `pending`, `done` or `failed`.
    pub state: &'static str,
    /// How far it got.
    pub step: Option<String>,
    /// Why it failed.
    pub error: Option<String>,
    /// Where the source lies now.
    pub moved_to: Option<String>,
}

impl JobJson {
    /// The record as it is at `now`.
    pub fn new(record: &Record, now: Wall) -> JobJson {
        let path = record.folder_path.join(&record.relative_path);
        JobJson {
            schema: SCHEMA,
            id: record.id.0,
            folder: record.folder_name.clone(),
            path: text_of(&path),
            path_base64: path.to_str().is_none().then(|| base64(path.as_os_str().as_bytes())),
            relative_path: text_of(&record.relative_path),
            filename: record.filename.clone(),
            bytes: record.fingerprint.bytes,
            purpose: record.purpose.clone(),
            mime_type: record.mime_type.clone(),
            account: record.account.0.clone(),
            base_url: record.base_url.clone(),
            project: record.project.clone(),
            state: record.state.as_str(),
            waiting: waiting(record, now),
            requested: record.requested.clone(),
            file_id: record.file_id.as_ref().map(|file| file.0.clone()),
            upload_id: record.upload_id.as_ref().map(|upload| upload.0.clone()),
            parts_total: record.parts_total,
            parts_stored: record.parts_stored,
            attempts: record.attempts,
            restarts: record.restarts,
            md5: record.md5.clone(),
            deduped_from: record.deduped_from.map(|job| job.0),
            warnings: record.warnings.clone(),
            error: record.error.as_ref().map(ErrorJson::from),
            finish: FinishJson {
                state: record.finish.as_str(),
                step: record.finish_step.clone(),
                error: record.finish_error.clone(),
                moved_to: record.moved_to.as_deref().map(text_of),
            },
            due_at: record.due_at.map(rfc3339),
            upload_expires_at: record.upload_expires_at.map(rfc3339),
            found_at: rfc3339(record.found_at),
            stored_at: record.stored_at.map(rfc3339),
            file_expires_at: record.file_expires_at.map(rfc3339),
        }
    }
}

impl From<&RecordError> for ErrorJson {
    fn from(error: &RecordError) -> ErrorJson {
        ErrorJson {
            code: error.code.clone(),
            message: error.message.clone(),
            status: error.status,
            request_id: error.request_id.clone(),
        }
    }
}

/// Why a job waits, as the store has it: `requested` (a command's wish is not taken up yet), `paused` (its folder is),
/// `due` (until `due_at`), `slot` (its turn); none if it is worked on, or has ended.
pub fn waiting(record: &Record, now: Wall) -> Option<&'static str> {
    let completing = record.state == State::Completing;
    if record.state.has_ended() {
        None
    } else if record.requested.is_some() {
        Some("requested")
    } else if record.folder_paused && !completing {
        // A complete is brought to its end all the same.
        Some("paused")
    } else if record.due_at.is_some_and(|due| due > now) {
        Some("due")
    } else if record.state == State::Queued {
        Some("slot")
    } else {
        None
    }
}

fn text_of(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
