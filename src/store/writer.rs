//! The one task that writes. It takes what waits, in order, and commits it together; what cannot be committed waits
//! with it until it can.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sqlx::{Connection, SqliteConnection};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tracing::error;

use crate::model::job::Code;

use super::Store;
use super::error::{self, StoreError, WriteError};
use super::health::{Health, Vitals};
use super::write::{Applied, Write};

/// Writes in one commit. A commit costs a sync of the disk, a statement some 50 µs: more would only keep the first ones
/// waiting.
const BATCH: usize = 512;

/// After a commit that failed: soon, since most are somebody else's short lock.
const FIRST_DELAY: Duration = Duration::from_millis(250);

/// A full disk is looked at this often.
const LAST_DELAY: Duration = Duration::from_secs(10);

/// A commit that takes longer will perhaps never end: nothing is sent until it does.
const STALLED: Duration = Duration::from_secs(15);

/// How often a read is tried again that says nothing about the store as a whole.
const ODD_READ: Duration = Duration::from_secs(5);

/// Among those who use the store.
const WRITING: &str = "writing";

/// Hands writes to the writer. Cheap to clone; when the last one is dropped, the writer commits what waits and ends.
#[derive(Clone, Debug)]
pub struct Writer {
    queue: mpsc::UnboundedSender<Envelope>,
    store: Store,
    backlog: Backlog,
}

/// What the writer has still to commit. Keeps no writer from ending.
#[derive(Clone, Debug)]
pub struct Backlog {
    posted: Arc<AtomicU64>,
    answered: Arc<AtomicU64>,
    health: watch::Receiver<Health>,
}

impl Backlog {
    /// How many writes were answered so far, if others wait: the number stands still only while nothing is committed.
    pub fn uncommitted(&self) -> Option<u64> {
        let answered = self.answered.load(Ordering::Acquire);
        (self.posted.load(Ordering::Acquire) > answered).then_some(answered)
    }

    /// Whether the store cannot be written now, and the writer has said so.
    pub fn is_held(&self) -> bool {
        *self.health.borrow() != Health::Up
    }
}

/// Starts the writer. One for each store: it believes that nobody else writes jobs.
pub fn spawn_writer(store: &Store) -> (Writer, JoinHandle<()>) {
    let (queue, waiting) = mpsc::unbounded_channel();
    let (store, vitals) = (store.clone(), store.vitals.clone());
    let backlog = Backlog { posted: Arc::default(), answered: Arc::default(), health: vitals.health() };
    let answered = backlog.answered.clone();
    let task = Task { store: store.clone(), waiting, vitals, answered, committing: None };
    (Writer { queue, store, backlog }, tokio::spawn(task.run()))
}

impl Writer {
    /// Writes, and forgets it: what goes wrong is logged.
    pub fn send(&self, write: Write) {
        self.post(write, None);
    }

    /// Writes; `done` is told once it is committed, or why it cannot be.
    pub fn send_with(&self, write: Write, done: oneshot::Sender<Result<Applied, WriteError>>) {
        self.post(write, Some(done));
    }

    /// Writes, and waits until it is committed. The write is queued when this is called, not when it is awaited.
    ///
    /// # Errors
    /// If the write does not fit what is there, or the writer has ended.
    pub fn ask(&self, write: Write) -> impl Future<Output = Result<Applied, WriteError>> + Send + use<> {
        let (done, answer) = oneshot::channel();
        self.post(write, Some(done));
        async move { answer.await.unwrap_or(Err(WriteError::Closed)) }
    }

    /// Waits until all that was sent before is committed.
    ///
    /// # Errors
    /// If the writer has ended.
    pub async fn flush(&self) -> Result<(), WriteError> {
        self.ask(Write::Flush).await.map(|_| ())
    }

    /// Whether what is written is also kept; changes are seen on it.
    pub fn health(&self) -> watch::Receiver<Health> {
        self.store.vitals.health()
    }

    /// What is not committed yet.
    pub fn backlog(&self) -> Backlog {
        self.backlog.clone()
    }

    /// Tries that failed while the store was down, now or the last time.
    pub fn failed_tries(&self) -> u32 {
        self.store.vitals.tries()
    }

    /// Says how a read went, to be tried `again` if it failed: what cannot be read holds sending as well. Takes its time only
    /// if the database is said to be damaged: then all of it is looked at.
    pub async fn heard<T>(&self, place: &str, result: &Result<T, StoreError>, again: Duration) {
        self.store.heard(place, result, again).await;
    }

    /// Reads until it works; meanwhile sending is on hold. None if it never will: the store is damaged.
    pub async fn read<T, F>(&self, place: &str, read: impl Fn() -> F) -> Option<T>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let mut delay = FIRST_DELAY;
        loop {
            let result = read().await;
            self.heard(place, &result, delay).await;
            match result {
                Ok(value) => return Some(value),
                Err(_) if self.store.vitals.damage().is_some() => return None,
                Err(StoreError::Broken { code: Code::Internal, message }) => {
                    error!(event = "store-unreadable", code = Code::Internal.as_str(), "{place}: {message}");
                    tokio::time::sleep(ODD_READ).await;
                }
                Err(_) => tokio::time::sleep(delay).await,
            }
            delay = (delay * 2).min(LAST_DELAY);
        }
    }

    fn post(&self, write: Write, done: Option<oneshot::Sender<Result<Applied, WriteError>>>) {
        self.backlog.posted.fetch_add(1, Ordering::AcqRel);
        if let Err(mpsc::error::SendError(envelope)) = self.queue.send(Envelope { write, done }) {
            self.backlog.answered.fetch_add(1, Ordering::AcqRel);
            envelope.answer(Err(WriteError::Closed));
        }
    }
}

#[derive(Debug)]
struct Envelope {
    write: Write,
    done: Option<oneshot::Sender<Result<Applied, WriteError>>>,
}

impl Envelope {
    fn answer(self, result: Result<Applied, WriteError>) {
        if let Err(fault) = &result {
            let job = self.write.job().map(|job| job.0);
            error!(event = "write-refused", job, write = self.write.name(), "{fault}");
        }
        if let Some(done) = self.done {
            // Who asked may have stopped waiting.
            done.send(result).ok();
        }
    }
}

type Results = Vec<Result<Applied, WriteError>>;

struct Task {
    store: Store,
    waiting: mpsc::UnboundedReceiver<Envelope>,
    vitals: Arc<Vitals>,
    /// How many writes were.
    answered: Arc<AtomicU64>,
    /// A commit that failed although it may have happened: its number, and what it would have answered.
    committing: Option<(i64, Results)>,
}

impl Task {
    async fn run(mut self) {
        let mut taken = Vec::with_capacity(BATCH);
        while self.waiting.recv_many(&mut taken, BATCH).await > 0 {
            self.write_all(taken.drain(..).collect()).await;
        }
    }

    /// Commits all of `batch`, however long it takes.
    async fn write_all(&mut self, mut batch: VecDeque<Envelope>) {
        let mut size = batch.len();
        let mut delay = FIRST_DELAY;
        while !batch.is_empty() {
            // Into a file that has no name any more everything could be written, and nothing found again.
            if !self.store.is_in_place() {
                let message = "it was deleted or replaced while the service ran";
                return self.end(&batch, message.to_owned()).await;
            }
            let some: Vec<&Write> = batch.iter().take(size).map(|envelope| &envelope.write).collect();
            match self.commit_watched(&some).await {
                Ok(results) => {
                    delay = FIRST_DELAY;
                    self.vitals.works(WRITING);
                    self.answered.fetch_add(results.len() as u64, Ordering::AcqRel);
                    for (envelope, result) in batch.drain(..results.len()).zip(results) {
                        envelope.answer(result);
                    }
                }
                // One of them is at fault: alone, each finds out whether it is the one.
                Err(fault) if error::is_of_statement(&fault) && size > 1 => size = 1,
                Err(fault) if error::is_of_statement(&fault) => {
                    self.vitals.works(WRITING);
                    if let Some(envelope) = batch.pop_front() {
                        let refused = envelope.write.refused(&fault);
                        self.answered.fetch_add(1, Ordering::AcqRel);
                        envelope.answer(Err(refused));
                    }
                }
                Err(fault) if error::is_damage(&fault) => {
                    self.store.judge(WRITING, &fault.to_string(), delay).await;
                    if let Some(message) = self.vitals.damage() {
                        return self.end(&batch, message).await;
                    }
                    tokio::time::sleep(delay).await;
                    delay = (delay * 2).min(LAST_DELAY);
                }
                Err(fault) => {
                    self.vitals.failed(WRITING, error::code_of(&fault), fault.to_string(), delay);
                    tokio::time::sleep(delay).await;
                    delay = (delay * 2).min(LAST_DELAY);
                }
            }
        }
    }

    /// What waits cannot be kept. Who waits for it is not answered: it was neither done nor refused. The service ends.
    async fn end(&self, batch: &VecDeque<Envelope>, message: String) {
        for envelope in batch {
            let job = envelope.write.job().map(|job| job.0);
            error!(
                event = "write-lost",
                job,
                write = envelope.write.name(),
                code = Code::StoreCorrupt.as_str(),
                "not kept, since the store is damaged: {}",
                envelope.write.words()
            );
        }
        self.vitals.damaged(message);
        std::future::pending().await
    }

    /// Commits; says so while the disk does not answer.
    async fn commit_watched(&mut self, writes: &[&Write]) -> sqlx::Result<Results> {
        let vitals = self.vitals.clone();
        let mut commit = std::pin::pin!(self.commit(writes));
        loop {
            tokio::select! {
                result = &mut commit => return result,
                () = tokio::time::sleep(STALLED) => {
                    let message = format!("a commit has not ended for {} s", STALLED.as_secs());
                    vitals.failed(WRITING, Code::StoreIo, message, STALLED);
                }
            }
        }
    }

    async fn commit(&mut self, writes: &[&Write]) -> sqlx::Result<Results> {
        let mut connection = self.store.writer.acquire().await?;
        let result = self.commit_on(&mut connection, writes).await;
        if result.as_ref().is_err_and(|fault| !error::is_of_statement(fault)) {
            // What a connection believes after such a fault is not worth knowing.
            connection.close_on_drop();
        }
        result
    }

    async fn commit_on(
        &mut self,
        connection: &mut SqliteConnection,
        writes: &[&Write],
    ) -> sqlx::Result<Results> {
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
        if let Some((number, results)) = self.committing.take() {
            let last: i64 = sqlx::query_scalar("-- last_batch\nSELECT last FROM batches WHERE one = 1")
                .fetch_one(&mut *transaction)
                .await
                .inspect_err(|_| self.committing = Some((number, results.clone())))?;
            if last == number {
                // The error of that COMMIT was a lie.
                self.testify(number);
                return Ok(results);
            }
        }
        let number: i64 = sqlx::query_scalar(
            "-- next_batch\nUPDATE batches SET last = last + 1 WHERE one = 1 RETURNING last",
        )
        .fetch_one(&mut *transaction)
        .await?;
        let results = Write::apply_all(writes, &mut transaction, &self.store.boot).await?;
        match transaction.commit().await {
            Ok(()) => {
                self.testify(number);
                Ok(results)
            }
            Err(fault) => {
                self.committing = Some((number, results));
                Err(fault)
            }
        }
    }

    fn testify(&self, number: i64) {
        if let Some(witness) = &self.store.witness {
            witness.saw(number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::job::JobId;
    use crate::store::BootId;

    #[tokio::test]
    async fn a_commit_that_happened_although_it_failed_is_not_repeated() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _lock) = Store::open(dir.path(), BootId("a".into())).await.unwrap();
        let (_queue, waiting) = mpsc::unbounded_channel();
        let vitals = store.vitals.clone();
        let conflict = WriteError::Conflict { job: JobId(1), what: "bumped", found: None };
        let promised = vec![Err(conflict)];
        let last = 0;
        let answered = Arc::default();
        let mut task = Task { store, waiting, vitals, answered, committing: Some((last, promised.clone())) };
        assert_eq!(task.commit(&[&Write::Flush]).await.unwrap(), promised);
        // Another number was not committed, and is done again.
        task.committing = Some((last + 1, promised));
        assert_eq!(task.commit(&[&Write::Flush]).await.unwrap(), [Ok(Applied::Done)]);
        assert!(task.committing.is_none());
    }
}
