//! `run --once` prints one line for each job that ends: the File ID, or the state and code, and the path.

use std::collections::HashMap;
use std::io::Write;

use tokio::sync::mpsc;

use crate::model::job::{Code, JobId, State};
use crate::store::{Record, Store};
use crate::text::{shown, shown_bytes};

/// What the lines said in all.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Outcome {
    /// A file that was to be stored was not.
    pub(super) failed: bool,
}

/// Jobs that are read and printed at once: one by one that took some 5 % of the CPU time of small files.
const AT_ONCE: usize = 64;

/// Prints until the senders are gone.
pub(super) async fn print(store: Store, mut endings: mpsc::UnboundedReceiver<JobId>) -> Outcome {
    let (mut outcome, mut ended) = (Outcome::default(), Vec::new());
    while endings.recv_many(&mut ended, AT_ONCE).await > 0 {
        let records = records_of(&store, &ended).await;
        let mut lines = String::new();
        for job in ended.drain(..) {
            match records.get(&job) {
                Some(record) => lines += &outcome.line(record),
                None => outcome.failed = true,
            }
        }
        // Whoever closed the pipe wants no more lines; the files are sent all the same.
        let _ = std::io::stdout().write_all(lines.as_bytes());
    }
    outcome
}

async fn records_of(store: &Store, jobs: &[JobId]) -> HashMap<JobId, Record> {
    let mut records = store.records(jobs).await.unwrap_or_default();
    if records.len() < jobs.len() {
        // One that cannot be read must not take the lines of the others.
        for job in jobs {
            records.extend(store.record(*job).await.ok().flatten());
        }
    }
    records.into_iter().map(|record| (record.id, record)).collect()
}

impl Outcome {
    fn line(&mut self, record: &Record) -> String {
        let code = record.error.as_ref().map(|error| error.code.as_str());
        let replaced = record.state == State::Gone && code == Some(Code::FileChanged.as_str());
        self.failed |= !matches!(record.state, State::Stored | State::Skipped) && !replaced;
        let what = match (&record.file_id, code) {
            (Some(file), _) => shown_bytes(file.0.as_bytes()),
            (None, Some(code)) => format!("{} {code}", record.state),
            (None, None) => record.state.to_string(),
        };
        let path = shown(&record.folder_path.join(&record.relative_path));
        format!("{what}\t{path}\n")
    }
}
