//! What commands ask for: rows of the store become events of the board. A command never touches a job.

use tracing::{error, warn};

use super::Engine;
use crate::model::board::{Ask, Event, Request};
use crate::model::job::{Code, Job};
use crate::store::{NewRequest, RequestRow, Write};

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
}

impl Engine {
    pub(super) async fn take_requests(&mut self) {
        let rows = match self.parts.store.pending_requests(self.last_request).await {
            Ok(rows) => rows,
            Err(fault) => {
                error!(event = "store-unreadable", code = fault.code().map(Code::as_str), "{fault}");
                return;
            }
        };
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
        // What the writer still holds of it must be seen.
        self.parts.writer.flush().await.map_err(|fault| fault.to_string())?;
        match self.parts.store.job(id, self.parts.clock.now()).await {
            Ok(Some(job)) => Ok(Box::new(job)),
            Ok(None) => Err(format!("there is no job {}", id.0)),
            Err(fault) => Err(fault.to_string()),
        }
    }
}
