//! What commands ask for: rows of the store become events of the board. A command never touches a job.

use std::collections::HashSet;
use std::time::Duration;

use tracing::{error, info, warn};

use super::{Engine, Message, REQUESTS_EVERY};
use crate::model::answer::{FileId, can_be_id};
use crate::model::board::{Ask, Event, Request, Resolution};
use crate::model::job::{Code, Job, JobId, State, Subject};
use crate::model::time::Wall;
use crate::model::watchdog::Await;
use crate::store::{
    Applied, Arrival, Candidate, FinishState, Health, NewRequest, Record, RequestRow, StoreError, Write,
};
use crate::text::{count, shown};

/// Requests that one commit goes before.
const AT_ONCE: usize = 256;

/// How long requests are taken up at one look, a commit more at most; the rest has its turn half a second later. Whoever
/// asks without end must not keep the engine from what it is for.
const TURN: Duration = Duration::from_millis(100);

/// Among those who use the store.
const READING: &str = "reading requests";

/// How long the engine's loop waits for the store. Longer than a commit takes on a slow disk, shorter than the watchdog.
const PATIENCE: Duration = Duration::from_secs(10);

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
    /// Ended jobs are forgotten; its argument is the time before which they ended, in milliseconds since 1970.
    pub const PRUNE: &str = "prune";
    /// All folders are scanned, and it is answered when that is over.
    pub const SCAN: &str = "scan";
    /// A stored file is sent again as a new job.
    pub const FORCE: &str = "force";
    /// See [`Ask::Bump`](crate::model::board::Ask::Bump).
    pub const BUMP: &str = "bump";
    /// See [`Ask::Resolve`](crate::model::board::Ask::Resolve); its argument is [`written`](super::written).
    pub const RESOLVE: &str = "resolve";
}

impl Engine {
    /// Whether the store has not answered yet to what a look at the requests wanted of it.
    pub(super) fn waits_for_store(&self) -> bool {
        [&self.flushing, &self.judging].into_iter().flatten().any(|task| !task.is_finished())
    }

    /// Takes up what commands left, unless the store is down or slow: the loop waits for it for a moment at most.
    pub(super) async fn take_requests(&mut self) {
        if self.waits_for_store() {
            return;
        }
        // The answer could not be written either.
        if *self.parts.writer.health().borrow() != Health::Up {
            // If it is this read that failed, nobody else finds out that it can be done again.
            let (store, writer, last) =
                (self.parts.store.clone(), self.parts.writer.clone(), self.last_request);
            self.judging = Some(tokio::spawn(async move {
                let read = store.pending_requests(last).await;
                writer.heard(READING, &read, REQUESTS_EVERY).await;
            }));
            return;
        }
        self.here.at(Await::Store);
        // Looked at before the rows: what was left in the spool is among them then.
        let asked = *self.parts.asked.borrow();
        let (store, last) = (self.parts.store.clone(), self.last_request);
        let Some(rows) = self.read_soon(store.pending_requests(last)).await else { return };
        self.nothing_asked = asked && rows.is_empty();
        let (mut rows, end) = (rows.as_slice(), self.parts.clock.now().boot + TURN);
        while !rows.is_empty() && self.parts.clock.now().boot < end {
            let (now, later) = rows.split_at(at_once(rows));
            rows = later;
            // What the writer still holds of their jobs must be seen. Once for all of them: each is a sync of the disk.
            if !self.flush_soon().await || !self.take_all(now).await {
                return;
            }
        }
    }

    /// Takes these up, in order; false if the store cannot be read: the rest is taken up when it can.
    async fn take_all(&mut self, rows: &[RequestRow]) -> bool {
        self.here.at(Await::Store);
        for row in rows {
            match self.take_apart(row).await {
                Some(true) => {}
                Some(false) => match self.ask_of(row).await {
                    Some(Ok(ask)) => self.apply([Event::Asked(Request { id: row.id, ask })]),
                    Some(Err(text)) => self.answer(row.id, false, text),
                    None => return false,
                },
                None => return false,
            }
            self.last_request = row.id;
        }
        true
    }

    /// What was read, if that went well and soon; else sending is on hold until it does.
    async fn read_soon<T>(&mut self, read: impl Future<Output = Result<T, StoreError>>) -> Option<T> {
        let result = tokio::time::timeout(PATIENCE, read).await.unwrap_or_else(|_| {
            let message = format!("a read has not ended for {} s", PATIENCE.as_secs());
            Err(StoreError::Broken { code: Code::StoreIo, message })
        });
        let fault = match result {
            Ok(value) => {
                self.parts.writer.heard(READING, &Ok(()), REQUESTS_EVERY).await;
                return Some(value);
            }
            Err(fault) => fault,
        };
        if fault.code() == Some(Code::Internal) {
            error!(event = "store-unreadable", code = Code::Internal.as_str(), "{fault}");
        }
        // To look at a whole database may take long.
        let writer = self.parts.writer.clone();
        let judging = async move { writer.heard(READING, &Err::<(), _>(fault), REQUESTS_EVERY).await };
        self.judging = Some(tokio::spawn(judging));
        None
    }

    /// Waits until all that was written so far is committed; false if that takes too long, or cannot be now.
    async fn flush_soon(&mut self) -> bool {
        self.here.at(Await::Commit);
        let (flush, mut health) = (self.parts.writer.ask(Write::Flush), self.parts.writer.health());
        let mut flushing = tokio::spawn(async move {
            // Who ended tells by its own way.
            flush.await.ok();
        });
        let flushed = tokio::select! {
            _ = &mut flushing => true,
            _ = health.wait_for(|health| *health != Health::Up) => false,
            () = tokio::time::sleep(PATIENCE) => false,
        };
        if !flushed {
            self.flushing = Some(flushing);
        }
        flushed
    }

    pub(super) fn answer(&self, request: i64, done: bool, answer: String) {
        let at = self.parts.clock.now().wall;
        self.parts.writer.send(Write::Answer { request, at, done, answer });
    }

    /// What is asked; none if the store cannot be read now.
    async fn ask_of(&mut self, row: &RequestRow) -> Option<Result<Ask, String>> {
        let NewRequest { kind, folder, .. } = &row.request;
        Some(match kind.as_str() {
            kind::PAUSE => Ok(Ask::Pause(*folder)),
            kind::RESUME => Ok(Ask::Resume(*folder)),
            kind::RETRY => self.job_of(row).await?.map(Ask::Retry),
            kind::CANCEL => self.job_of(row).await?.map(Ask::Cancel),
            kind::BUMP => self.job_of(row).await?.map(Ask::Bump),
            kind::RESOLVE => {
                let said = row.request.argument.as_deref().unwrap_or_default();
                match resolution(said) {
                    // On a person's word nothing is asked of the server, but a File is the ledger's once.
                    Some(Resolution::IsUnchecked(file)) => match self.owner_of(&file, row).await? {
                        Some(other) => Err(format!("{file} is the File of job {}", other.0)),
                        None => {
                            let resolution = Resolution::IsUnchecked(file);
                            self.job_of(row).await?.map(|job| Ask::Resolve(job, resolution))
                        }
                    },
                    Some(resolution) => self.job_of(row).await?.map(|job| Ask::Resolve(job, resolution)),
                    None => Err(format!("the request says {said:?}")),
                }
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
        })
    }

    /// Takes up what is no decision of the board's; false if it is one. None if the store cannot be read now.
    async fn take_apart(&mut self, row: &RequestRow) -> Option<bool> {
        match row.request.kind.as_str() {
            kind::PRUNE => self.prune(row),
            kind::SCAN => self.scan(row.id),
            kind::FORCE => self.send_again(row).await?,
            _ => match self.instead_of_sending(row).await? {
                Some((done, text)) => self.answer(row.id, done, text),
                None => return Some(false),
            },
        }
        Some(true)
    }

    /// Forgets, beside everything else.
    fn prune(&self, row: &RequestRow) {
        let said = row.request.argument.as_deref().unwrap_or_default();
        let Ok(before) = said.parse().map(Wall) else {
            return self.answer(row.id, false, format!("the request says {said:?}"));
        };
        let (store, answer) = (self.parts.store.clone(), self.answering(row.id));
        tokio::spawn(async move {
            let mut forgotten = 0;
            loop {
                match store.prune(before).await {
                    Ok(0) => return answer(true, format!("{} forgotten", count(forgotten, "job", "jobs"))),
                    Ok(some) => forgotten += some,
                    Err(fault) => {
                        return answer(
                            false,
                            format!("{} forgotten, then: {fault}", count(forgotten, "job", "jobs")),
                        );
                    }
                }
            }
        });
    }

    fn scan(&self, request: i64) {
        let (scanned, answer) = (self.parts.hints.scan(), self.answering(request));
        tokio::spawn(async move {
            // If not, the service ends, and the next one answers.
            if scanned.await {
                answer(true, "all folders are scanned".to_owned());
            }
        });
    }

    /// Makes a new job of a stored file. None if the store cannot be read now.
    async fn send_again(&mut self, row: &RequestRow) -> Option<()> {
        let Some(id) = row.request.job else {
            self.answer(row.id, false, "the request names no job".into());
            return Some(());
        };
        let store = self.parts.store.clone();
        let record = self.read_soon(store.record(id)).await?;
        let candidate = match record {
            Some(record) if record.state == State::Stored && record.present => {
                candidate_of(record, self.parts.clock.now().wall)
            }
            Some(record) if record.state == State::Stored => {
                let why = "what lies at its path now is another version, or nothing";
                self.answer(row.id, false, format!("job {} cannot be sent again: {why}", id.0));
                return Some(());
            }
            Some(record) => {
                let words =
                    format!("job {} is {}; only what is stored is sent again by force", id.0, record.state);
                self.answer(row.id, false, words);
                return Some(());
            }
            None => {
                self.answer(row.id, false, format!("there is no job {}", id.0));
                return Some(());
            }
        };
        let (done, answer) =
            (self.parts.writer.ask(Write::Enqueue(Box::new(candidate))), self.answering(row.id));
        let engine = self.sender.clone();
        tokio::spawn(async move {
            match done.await {
                Ok(Applied::Enqueued { job, .. }) => {
                    info!(
                        event = "queued",
                        job = job.id.0,
                        "queued again by the operator: job {} has its File already",
                        id.0
                    );
                    answer(true, format!("job {} is sent again as job {}", id.0, job.id.0));
                    // The engine is gone only when the service ends; the row stays.
                    let _ = engine.send(Message::Event(Event::Enqueued(*job))).await;
                }
                Ok(_) => answer(false, format!("job {} is not what lies at its path any more", id.0)),
                Err(fault) => answer(false, fault.to_string()),
            }
        });
        Some(())
    }

    /// Answers a request later.
    fn answering(&self, request: i64) -> impl FnOnce(bool, String) + Send + 'static {
        let (writer, clock) = (self.parts.writer.clone(), self.parts.clock.clone());
        move |done, answer| {
            let at = clock.now().wall;
            writer.send(Write::Answer { request, at, done, answer });
        }
    }

    /// What a `retry` is answered that does not send the file again: only its end failed, or its source is not there. None
    /// if the store cannot be read now.
    async fn instead_of_sending(&mut self, row: &RequestRow) -> Option<Option<(bool, String)>> {
        let job = row.request.job.filter(|_| row.request.kind == kind::RETRY);
        let Some(job) = job else { return Some(None) };
        let store = self.parts.store.clone();
        let Some(record) = self.read_soon(store.record(job)).await? else { return Some(None) };
        let id = job.0;
        let finish = (record.finish, record.finish_step.as_deref());
        Some(match (record.state, finish) {
            (State::Stored | State::Unresolved, (FinishState::Failed, step)) => {
                self.parts.finish.again();
                let step = step.unwrap_or_default().to_owned();
                let done = self.parts.writer.ask(Write::FinishAgain(job));
                let finish = self.parts.finish.clone();
                // What came of it is in the row.
                tokio::spawn(async move {
                    let _ = done.await;
                    finish.committed();
                });
                Some((true, format!("job {id} is {}; its {step} is done again", record.state)))
            }
            (State::Failed, (FinishState::Pending, Some("source"))) => Some((
                false,
                format!("job {id} failed, and its file is about to be moved: try again in a moment"),
            )),
            (State::Failed, _) if record.moved_to.is_some() => {
                let to = record.moved_to.as_deref().map(shown).unwrap_or_default();
                Some((
                    false,
                    format!(
                        "job {id} failed, and its file lies at {to}: move it into the folder to have it sent"
                    ),
                ))
            }
            _ => None,
        })
    }

    /// The other job that has this File; none if the store cannot be read now.
    async fn owner_of(&mut self, file: &FileId, row: &RequestRow) -> Option<Option<JobId>> {
        let Some(job) = row.request.job else { return Some(None) };
        let store = self.parts.store.clone();
        self.read_soon(store.owner_of(file, job)).await
    }

    /// The job; none if the store cannot be read now.
    async fn job_of(&mut self, row: &RequestRow) -> Option<Result<Box<Job>, String>> {
        let Some(id) = row.request.job else { return Some(Err("the request names no job".into())) };
        let (store, now) = (self.parts.store.clone(), self.parts.clock.now());
        // A row that cannot be understood would keep all that come after it from being taken up.
        let read = async {
            match store.job(id, now).await {
                Err(fault) if fault.code() == Some(Code::Internal) => Ok(Err(fault.to_string())),
                Ok(job) => Ok(Ok(job)),
                Err(fault) => Err(fault),
            }
        };
        Some(match self.read_soon(read).await? {
            Ok(Some(job)) => Ok(Box::new(job)),
            Ok(None) => Err(format!("there is no job {}", id.0)),
            Err(words) => Err(words),
        })
    }
}

/// A job of the same version, whatever became of the one before.
fn candidate_of(record: Record, now: Wall) -> Candidate {
    Candidate {
        subject: Subject {
            folder: record.folder,
            path: record.relative_path,
            fingerprint: record.fingerprint,
            filename: record.filename,
            purpose: record.purpose,
            mime_type: record.mime_type,
            expires_after: record.expires_after,
            account: record.account,
        },
        base_url: record.base_url,
        project: record.project,
        found_at: now,
        arrival: Arrival::Queued,
        warnings: Vec::new(),
        replaces: Some(record.id),
        over: None,
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

/// What an argument means. A command has looked at it, but who leaves a file in the spool needs none.
fn resolution(argument: &str) -> Option<Resolution> {
    match argument.split_once(' ') {
        Some((_, file)) if !can_be_id(file) => None,
        Some(("is", file)) => Some(Resolution::Is(FileId(file.to_owned()))),
        Some(("unchecked", file)) => Some(Resolution::IsUnchecked(FileId(file.to_owned()))),
        None if argument == "again" => Some(Resolution::Again),
        _ => None,
    }
}

/// How many of the first requests can be taken together: of each job one, since the next depends on what came of it.
fn at_once(rows: &[RequestRow]) -> usize {
    let mut jobs = HashSet::new();
    let first = rows.iter().take(AT_ONCE);
    first.take_while(|row| row.request.job.is_none_or(|job| jobs.insert(job))).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resolution_names_a_file_by_what_can_be_an_id_whoever_asks() {
        for said in [
            Resolution::Is(FileId("file-1".into())),
            Resolution::IsUnchecked(FileId("assistant-ü/+=".into())),
            Resolution::Again,
        ] {
            assert_eq!(resolution(&written(&said)), Some(said));
        }
        let long = format!("unchecked {}", "f".repeat(513));
        for wrong in [
            "unchecked ",
            "unchecked file-1\nfile-2\t/etc/passwd",
            "unchecked file\u{0}",
            "is \u{1b}[31m",
            "is ..",
            "is .",
            "sure file-1",
            "again and again",
            &long,
        ] {
            assert_eq!(resolution(wrong), None, "{wrong:?}");
        }
    }
}
