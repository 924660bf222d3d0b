//! `run --once` prints one line for each job that ends: the File ID, or the state and code, and the path.

use std::io::Write;

use tokio::sync::mpsc;

use crate::model::job::{Code, JobId, State};
use crate::store::Store;
use crate::text::{shown, shown_bytes};

/// What the lines said in all.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Outcome {
    /// A file that was to be stored was not.
    pub(super) failed: bool,
}

/// Prints until the senders are gone.
pub(super) async fn print(store: Store, mut endings: mpsc::UnboundedReceiver<JobId>) -> Outcome {
    let mut outcome = Outcome::default();
    while let Some(job) = endings.recv().await {
        let Ok(Some(record)) = store.record(job).await else {
            outcome.failed = true;
            continue;
        };
        let code = record.error.as_ref().map(|error| error.code.as_str());
        let replaced = record.state == State::Gone && code == Some(Code::FileChanged.as_str());
        outcome.failed |= !matches!(record.state, State::Stored | State::Skipped) && !replaced;
        let what = match (&record.file_id, code) {
            (Some(file), _) => shown_bytes(file.0.as_bytes()),
            (None, Some(code)) => format!("{} {code}", record.state),
            (None, None) => record.state.to_string(),
        };
        let path = shown(&record.folder_path.join(&record.relative_path));
        // Whoever closed the pipe wants no more lines; the files are sent all the same.
        let _ = writeln!(std::io::stdout(), "{what}\t{path}");
    }
    outcome
}
