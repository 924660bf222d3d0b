//! A job as JSON: the same record in every command, receipt and hook. Fields are only ever added.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use serde::Serialize;

use crate::model::job::State;
use crate::model::time::Wall;
use crate::store::{Count, FolderRow, Record, RecordError, Waiting};
use crate::text::{base64, rfc3339, shown};

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
    /// Where the source lies now; what is not UTF-8 is replaced, see `moved_to_base64`.
    pub moved_to: Option<String>,
    /// The bytes of `moved_to`, where they are not UTF-8.
    pub moved_to_base64: Option<String>,
}

/// A folder as the store has it. Every field is always there, null when unknown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FolderJson {
    /// Its name.
    pub name: String,
    /// Its path, escaped for people.
    pub path: String,
    /// Whether sending from it is paused.
    pub paused: bool,
    /// Why, if it is.
    pub paused_why: Option<String>,
    /// Jobs in each state, whether or not there are any: their sum is what was found.
    pub counts: BTreeMap<&'static str, u64>,
    /// Files in the queue.
    pub waiting_files: u64,
    /// Their bytes.
    pub waiting_bytes: u64,
}

impl FolderJson {
    /// Each folder with what was counted of it.
    pub fn all(rows: Vec<FolderRow>, counts: &[Count], waiting: &[Waiting]) -> Vec<FolderJson> {
        let folder = |row: FolderRow| {
            let mut by_state: BTreeMap<_, _> = State::ALL.iter().map(|state| (state.as_str(), 0)).collect();
            let own = counts.iter().filter(|count| count.folder == row.id);
            by_state.extend(own.map(|count| (count.state.as_str(), count.jobs)));
            let waiting = waiting.iter().find(|waiting| waiting.folder == row.id);
            FolderJson {
                name: row.name,
                path: shown(&row.path),
                paused: row.paused,
                paused_why: row.paused_why,
                counts: by_state,
                waiting_files: waiting.map_or(0, |waiting| waiting.files),
                waiting_bytes: waiting.map_or(0, |waiting| waiting.bytes),
            }
        };
        rows.into_iter().map(folder).collect()
    }
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
            path_base64: bytes_of(&path),
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
                moved_to_base64: record.moved_to.as_deref().and_then(bytes_of),
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

/// What [`text_of`] cannot tell.
fn bytes_of(path: &Path) -> Option<String> {
    path.to_str().is_none().then(|| base64(path.as_os_str().as_bytes()))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::path::PathBuf;

    use super::*;
    use crate::model::answer::{FileId, UploadId};
    use crate::model::file::Fingerprint;
    use crate::model::job::{AccountName, FolderId, JobId};
    use crate::store::FinishState;

    const NOW: Wall = Wall(1_795_366_800_000);

    fn record() -> Record {
        Record {
            id: JobId(7),
            folder: FolderId(1),
            folder_name: "batch".into(),
            folder_path: "/srv/drop".into(),
            folder_paused: false,
            relative_path: "a/b.jsonl".into(),
            present: true,
            fingerprint: Fingerprint { bytes: 10, mtime_ns: 1, ctime_ns: 2, inode: 3 },
            filename: "b.jsonl".into(),
            purpose: "batch".into(),
            mime_type: "text/jsonl".into(),
            expires_after: None,
            account: AccountName("default".into()),
            base_url: "https://api.openai.com/v1".into(),
            project: None,
            state: State::Queued,
            bumped: false,
            requested: None,
            file_id: None,
            candidates: Vec::new(),
            deduped_from: None,
            upload_id: None,
            upload_expires_at: None,
            parts_total: None,
            parts_stored: None,
            bytes_stored: None,
            attempts: 0,
            restarts: 0,
            failing_since: None,
            md5: None,
            warnings: Vec::new(),
            error: None,
            finish: FinishState::None,
            finish_step: None,
            finish_error: None,
            moved_to: None,
            due_at: None,
            found_at: NOW,
            stored_at: None,
            ended_at: None,
            file_expires_at: None,
        }
    }

    fn json(record: &Record) -> String {
        serde_json::to_string(&JobJson::new(record, NOW)).unwrap()
    }

    #[test]
    fn every_field_is_there_in_its_order_null_when_unknown() {
        assert_eq!(
            json(&record()),
            r#"{"schema":1,"id":7,"folder":"batch","path":"/srv/drop/a/b.jsonl","path_base64":null,"#
                .to_owned()
                + r#""relative_path":"a/b.jsonl","filename":"b.jsonl","bytes":10,"purpose":"batch","#
                + r#""mime_type":"text/jsonl","account":"default","base_url":"https://api.openai.com/v1","#
                + r#""project":null,"state":"queued","waiting":"slot","requested":null,"file_id":null,"#
                + r#""upload_id":null,"parts_total":null,"parts_stored":null,"attempts":0,"restarts":0,"#
                + r#""md5":null,"deduped_from":null,"warnings":[],"error":null,"#
                + r#""finish":{"state":"none","step":null,"error":null,"moved_to":null,"moved_to_base64":null},"due_at":null,"#
                + r#""upload_expires_at":null,"found_at":"2026-11-22T17:00:00.000Z","stored_at":null,"#
                + r#""file_expires_at":null}"#
        );
    }

    #[test]
    fn what_is_known_stands_where_null_was() {
        let error = RecordError {
            code: "server-error".into(),
            message: "HTTP 503: no".into(),
            status: Some(503),
            request_id: None,
        };
        let full = Record {
            relative_path: PathBuf::from(OsStr::from_bytes(b"\xff")),
            project: Some("proj_1".into()),
            state: State::Stored,
            file_id: Some(FileId("file-1".into())),
            upload_id: Some(UploadId("upload_1".into())),
            parts_total: Some(2),
            parts_stored: Some(2),
            deduped_from: Some(JobId(3)),
            warnings: vec!["odd".into()],
            error: Some(error),
            finish: FinishState::Done,
            moved_to: Some(PathBuf::from(OsStr::from_bytes(b"/srv/drop/done/\xff"))),
            stored_at: Some(NOW),
            ..record()
        };
        let json = json(&full);
        for part in [
            r#""path":"/srv/drop/�","path_base64":"L3Nydi9kcm9wL/8=","relative_path":"�""#,
            r#""project":"proj_1","state":"stored","waiting":null"#,
            r#""file_id":"file-1","upload_id":"upload_1","parts_total":2,"parts_stored":2"#,
            r#""deduped_from":3,"warnings":["odd"]"#,
            r#""error":{"code":"server-error","message":"HTTP 503: no","status":503,"request_id":null}"#,
            r#""finish":{"state":"done","step":null,"error":null,"moved_to":"/srv/drop/done/�","moved_to_base64":"L3Nydi9kcm9wL2RvbmUv/w=="}"#,
            r#""stored_at":"2026-11-22T17:00:00.000Z""#,
        ] {
            assert!(json.contains(part), "{part}: {json}");
        }
    }

    #[test]
    fn why_a_job_waits_is_a_code() {
        let later = Some(Wall(NOW.0 + 1));
        for (record, expected) in [
            (record(), Some("slot")),
            (Record { due_at: later, ..record() }, Some("due")),
            (Record { due_at: Some(NOW), ..record() }, Some("slot")),
            (Record { due_at: later, folder_paused: true, ..record() }, Some("paused")),
            (Record { requested: Some("cancel".into()), ..record() }, Some("requested")),
            (Record { state: State::Uploading, ..record() }, None),
            (Record { state: State::Uploading, folder_paused: true, ..record() }, Some("paused")),
            (Record { state: State::Completing, folder_paused: true, ..record() }, None),
            (Record { state: State::Completing, due_at: later, ..record() }, Some("due")),
            (Record { state: State::Failed, requested: Some("retry".into()), ..record() }, None),
        ] {
            assert_eq!(waiting(&record, NOW), expected);
        }
    }
}
