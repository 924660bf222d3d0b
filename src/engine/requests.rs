//! What commands ask for: rows of the store become events of the board. A command never touches a job.

use std::collections::HashSet;
use std::time::Duration;

use tracing::{error, warn};

use super::Engine;
use crate::model::answer::FileId;
use crate::model::board::{Ask, Event, Request, Resolution};
use crate::model::job::{Code, Job};
use crate::model::watchdog::Await;
use crate::store::{Health, NewRequest, RequestRow, Write};

/// Requests taken up in one go; the rest has its turn half a second later.
const AT_ONCE: usize = 256;

/// How long the loop waits for a commit before it looks at requests.
const LONGEST_FLUSH: Duration = Duration::from_secs(2);

/// The kinds of requests, as rows name them.
pub mod kind {
    /// See [`Ask::Pause`](crate::model::board::Ask::Pause).
    pub const PAUSE: &str = "pause";
    /// See [`Ask::Resume`](crate::model::board::Ask::Resume).
    pub const RESUME: &str = "resume";
    /// See [`Ask::Retry`](crate::model::board::Ask::Retry).
    pub const RETRY: &str = "retry";
    /// See [`Ask::Cancel`](crate::model::board::Ask::Cancel).
    pub const CANCEL: &str = "cancel";
    /// See [`Ask::Bump`](crate::model::board::Ask::Bump).
    pub const BUMP: &str = "bump";
    /// See [`Ask::Resolve`](crate::model::board::Ask::Resolve); its argument is [`written`](super::written).
    pub const RESOLVE: &str = "resolve";
}

impl Engine {
    pub(super) async fn take_requests(&mut self) {
        // The answer could not be written either, and a wait for the writer would stop the loop.
        if *self.parts.writer.health().borrow() != Health::Up {
            return;
        }
        self.here.at(Await::Store);
        let rows = match self.parts.store.pending_requests(self.last_request).await {
            Ok(rows) => rows,
            Err(fault) => {
                error!(event = "store-unreadable", code = fault.code().map(Code::as_str), "{fault}");
                return;
            }
        };
        let rows = at_once(rows);
        // What the writer still holds of their jobs must be seen. Once for all of them: each is a sync of the disk.
        if rows.is_empty() {
            return;
        }
        self.here.at(Await::Commit);
        // A store that somebody locked in this moment must not stop the loop: the next look finds it on hold.
        if !matches!(tokio::time::timeout(LONGEST_FLUSH, self.parts.writer.flush()).await, Ok(Ok(()))) {
            return;
        }
        self.here.at(Await::Store);
        for row in rows {
            self.last_request = row.id;
            match self.ask_of(&row).await {
                Ok(ask) => self.apply(Event::Asked(Request { id: row.id, ask })),
                Err(text) => self.answer(row.id, false, text),
            }
        }
    }

    pub(super) fn answer(&self, request: i64, done: bool, answer: String) {
        let at = self.parts.clock.now().wall;
        self.parts.writer.send(Write::Answer { request, at, done, answer });
    }

    async fn ask_of(&self, row: &RequestRow) -> Result<Ask, String> {
        let NewRequest { kind, folder, .. } = &row.request;
        match kind.as_str() {
            kind::PAUSE => Ok(Ask::Pause(*folder)),
            kind::RESUME => Ok(Ask::Resume(*folder)),
            kind::RETRY => Ok(Ask::Retry(self.job_of(row).await?)),
            kind::CANCEL => Ok(Ask::Cancel(self.job_of(row).await?)),
            kind::BUMP => Ok(Ask::Bump(self.job_of(row).await?)),
            kind::RESOLVE => {
                let said = row.request.argument.as_deref().unwrap_or_default();
                let resolution = resolution(said).ok_or_else(|| format!("the request says {said:?}"))?;
                Ok(Ask::Resolve(self.job_of(row).await?, resolution))
            }
            other => {
                warn!(
                    event = "request-unknown",
                    kind = other,
                    "a command asks for what this version does not know"
                );
                Err(format!(
                    "the running service does not know the request {other:?}: is it an older version?"
                ))
            }
        }
    }

    async fn job_of(&self, row: &RequestRow) -> Result<Box<Job>, String> {
        let Some(id) = row.request.job else { return Err("the request names no job".into()) };
        match self.parts.store.job(id, self.parts.clock.now()).await {
            Ok(Some(job)) => Ok(Box::new(job)),
            Ok(None) => Err(format!("there is no job {}", id.0)),
            Err(fault) => Err(fault.to_string()),
        }
    }
}

/// A resolution as the argument of a request.
pub fn written(resolution: &Resolution) -> String {
    match resolution {
        Resolution::Is(file) => format!("is {file}"),
        Resolution::IsUnchecked(file) => format!("unchecked {file}"),
        Resolution::Again => "again".to_owned(),
    }
}

fn resolution(argument: &str) -> Option<Resolution> {
    match argument.split_once(' ') {
        Some(("is", file)) => Some(Resolution::Is(FileId(file.to_owned()))),
        Some(("unchecked", file)) => Some(Resolution::IsUnchecked(FileId(file.to_owned()))),
        None if argument == "again" => Some(Resolution::Again),
        _ => None,
    }
}

/// The first requests that can be taken together: of each job one, since the next depends on what came of it.
fn at_once(rows: Vec<RequestRow>) -> Vec<RequestRow> {
    let mut jobs = HashSet::new();
    rows.into_iter()
        .take_while(|row| row.request.job.is_none_or(|job| jobs.insert(job)))
        .take(AT_ONCE)
        .collect()
}
