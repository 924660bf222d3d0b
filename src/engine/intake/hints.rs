//! What the engine sees of intake, and asks of it.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{mpsc, oneshot};

use crate::engine::Idle;
use crate::engine::live::{LiveChanging, LiveFolder};
use crate::engine::why::Met;
use crate::model::job::FolderId;
use crate::model::time::Boot;
use crate::store::{Applied, WriteError};

/// The engine's side of intake.
#[derive(Clone, Debug)]
pub struct Hints {
    pub(super) again: mpsc::UnboundedSender<(FolderId, PathBuf)>,
    /// Hints that were not taken up yet.
    pub(super) owed: Arc<AtomicUsize>,
    pub(super) idle: Idle,
    /// What is not settled has been waited for, for long.
    pub(super) stuck: Arc<AtomicBool>,
    pub(super) seen: Arc<Mutex<Seen>>,
    pub(super) asks: mpsc::Sender<Ask>,
}

/// What somebody wants of intake.
#[derive(Debug)]
pub(super) enum Ask {
    /// To know of a path.
    Met(FolderId, PathBuf, oneshot::Sender<Met>),
    /// To be told when a scan of all folders, begun now, is over.
    Scan(oneshot::Sender<()>),
}

/// What people are shown of folders.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Each folder.
    pub folders: Vec<LiveFolder>,
    /// Some files that have not settled, and since when they are waited for: for how long is not said here.
    pub changing: Vec<(LiveChanging, Boot)>,
    /// How many have not.
    pub changing_count: u64,
}

impl Hints {
    /// Has the file looked at again, once what is known of it is `written`: until then it would be taken for what it was.
    pub fn look_again(
        &self,
        folder: FolderId,
        path: PathBuf,
        written: impl Future<Output = Result<Applied, WriteError>> + Send + 'static,
    ) {
        self.owed.fetch_add(1, Ordering::SeqCst);
        let again = self.again.clone();
        tokio::spawn(async move {
            // Only a writer that ends with the service fails to do nothing.
            let _ = written.await;
            // Intake ends only with the service.
            let _ = again.send((folder, path));
        });
    }

    /// Whether each folder was scanned once and nothing that was seen waits to become a job.
    pub fn is_idle(&self) -> bool {
        self.owed.load(Ordering::SeqCst) == 0 && *self.idle.borrow()
    }

    /// Tells when that may have changed.
    pub(in crate::engine) fn idle_changes(&self) -> Idle {
        self.idle.clone()
    }

    /// Whether each folder was scanned once, and all that is left are files that are written to for long.
    pub fn is_stuck(&self) -> bool {
        self.owed.load(Ordering::SeqCst) == 0 && self.stuck.load(Ordering::SeqCst)
    }

    /// What is known of a path; nothing if there is no such folder, or the service ends.
    pub async fn met(&self, folder: FolderId, path: PathBuf) -> Option<Met> {
        let (answer, met) = oneshot::channel();
        self.asks.send(Ask::Met(folder, path, answer)).await.ok()?;
        met.await.ok()
    }

    /// Has all folders scanned that are there. True when these scans are over; false if the service ends before.
    pub fn scan(&self) -> impl Future<Output = bool> + Send + use<> {
        let (answer, scanned) = oneshot::channel();
        let asks = self.asks.clone();
        async move { asks.send(Ask::Scan(answer)).await.is_ok() && scanned.await.is_ok() }
    }

    /// What people are shown.
    pub fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
