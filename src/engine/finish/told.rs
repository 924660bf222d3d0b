//! What a program is told of a job: its record, and the same in variables.

use std::ffi::OsString;

use crate::model::time::Wall;
use crate::record::JobJson;
use crate::store::{FinishState, Record};

/// The record of a job as a receipt and a hook have it; `more` says whether anything is left to be done after that.
pub(super) fn record(record: &Record, more: bool, now: Wall) -> String {
    let finish = if more { FinishState::Pending } else { FinishState::Done };
    let record = Record { finish, finish_step: None, finish_error: None, ..record.clone() };
    // There is no value in it that JSON cannot have.
    serde_json::to_string(&JobJson::new(&record, now)).unwrap_or_default()
}

/// The variables of a job's program. Paths are the kernel's bytes.
pub(super) fn variables(record: &Record) -> Vec<(&'static str, OsString)> {
    let path = record.folder_path.join(&record.relative_path);
    let error = record.error.as_ref();
    let text = |text: Option<&str>| OsString::from(text.unwrap_or_default());
    vec![
        ("UPSPOOL_JOB", record.id.0.to_string().into()),
        ("UPSPOOL_STATE", record.state.as_str().into()),
        ("UPSPOOL_FILE_ID", text(record.file_id.as_ref().map(|file| file.0.as_str()))),
        ("UPSPOOL_PATH", path.into_os_string()),
        ("UPSPOOL_MOVED_TO", record.moved_to.clone().unwrap_or_default().into_os_string()),
        ("UPSPOOL_FOLDER", record.folder_name.clone().into()),
        ("UPSPOOL_FILENAME", record.filename.clone().into()),
        ("UPSPOOL_BYTES", record.fingerprint.bytes.to_string().into()),
        ("UPSPOOL_PURPOSE", record.purpose.clone().into()),
        ("UPSPOOL_ACCOUNT", record.account.0.clone().into()),
        ("UPSPOOL_CODE", text(error.map(|error| error.code.as_str()))),
        // A zero byte would keep the program from being started.
        (
            "UPSPOOL_MESSAGE",
            text(error.map(|error| error.message.as_str())).to_string_lossy().replace('\0', "").into(),
        ),
    ]
}
