//! What all connections share.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use crate::clock::Clock;
use crate::dialect::Dialect;
use crate::error::ApiError;
use crate::faults::Script;
use crate::limits::Limits;
use crate::record::Record;
use crate::route::Route;
use crate::state::{FileRecord, State, UploadRecord, UploadStatus};
use crate::storage::Storage;
use crate::variants::{CancelWhileLanding, Variants};

/// The server without its sockets.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) dialect: Dialect,
    pub(crate) limits: Limits,
    pub(crate) storage: Storage,
    pub(crate) clock: Arc<Clock>,
    pub(crate) record: Arc<Record>,
    /// Where requests to `/_emulator/` go.
    pub(crate) unrecorded: Arc<Record>,
    pub(crate) script: Script,
    keys: RwLock<Vec<String>>,
    variants: RwLock<Variants>,
    state: Mutex<State>,
    victim: Mutex<Option<i32>>,
}

impl Shared {
    pub(crate) fn new(
        dialect: Dialect,
        limits: Limits,
        storage: Storage,
        keys: Vec<String>,
        variants: Variants,
        skew_ms: i64,
    ) -> Arc<Self> {
        let clock = Arc::new(Clock::new(skew_ms));
        Arc::new(Self {
            dialect,
            limits,
            storage,
            record: Record::new(Arc::clone(&clock)),
            unrecorded: Record::new(Arc::clone(&clock)),
            script: Script::default(),
            keys: RwLock::new(keys),
            variants: RwLock::new(variants),
            state: Mutex::default(),
            victim: Mutex::default(),
            clock,
        })
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn variants(&self) -> Variants {
        *self.variants.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_keys(&self, keys: Vec<String>) {
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
    }

    pub(crate) fn set_variants(&self, variants: Variants) {
        *self.variants.write().unwrap_or_else(PoisonError::into_inner) = variants;
    }

    pub(crate) fn accepts_key(&self, key: Option<&str>) -> Result<(), ApiError> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        match key {
            None => {
                let mut error = ApiError::new(401, "You didn't provide an API key.");
                error.code = None;
                Err(error)
            }
            Some(key) if keys.iter().any(|accepted| accepted == key) => Ok(()),
            Some(_) => Err(ApiError::new(401, "Incorrect API key provided.")),
        }
    }

    /// The name of the File that the path's Upload or File has.
    pub(crate) fn filename(&self, route: &Route) -> Option<String> {
        let state = self.state();
        match state.uploads.get(&route.id) {
            Some(upload) => Some(upload.filename.clone()),
            None => state.files.get(&route.id).map(|file| file.record.filename.clone()),
        }
    }

    pub(crate) fn settle(&self, is_request: bool) {
        if self.state().settle(self.clock.now_ms(), is_request) {
            self.record.changed();
        }
    }

    pub(crate) fn files(&self) -> Vec<FileRecord> {
        let mut state = self.state();
        state.settle(self.clock.now_ms(), false);
        state.files.iter().map(|file| file.record.clone()).collect()
    }

    pub(crate) fn uploads(&self) -> Vec<UploadRecord> {
        let now_ms = self.clock.now_ms();
        let mut state = self.state();
        state.settle(now_ms, false);
        let mut uploads: Vec<UploadRecord> =
            state.uploads.values().map(|upload| upload.record(now_ms)).collect();
        uploads.sort_by_key(|upload| upload.created_at);
        uploads
    }

    pub(crate) fn advance(&self, by: Duration) {
        self.clock.advance(by);
        self.settle(false);
        self.record.changed();
    }

    pub(crate) fn expire(&self, upload_id: &str) {
        let now_ms = self.clock.now_ms();
        if let Some(upload) = self.state().uploads.get_mut(upload_id) {
            upload.expires_at_ms = upload.expires_at_ms.min(now_ms);
        }
        self.record.changed();
    }

    /// Ends an Upload that is open, and the complete that has not landed if cancel wins over it.
    pub(crate) fn cancel(&self, upload_id: &str) {
        let now_ms = self.clock.now_ms();
        let wins = self.variants().cancel_while_landing == CancelWhileLanding::Wins;
        if let Some(upload) = self.state().uploads.get_mut(upload_id)
            && upload.status(now_ms) == UploadStatus::Pending
        {
            upload.ended = Some(UploadStatus::Cancelled);
            upload.landing.take_if(|_| wins);
        }
        self.record.changed();
    }

    pub(crate) fn purge(&self, id: &str) {
        self.state().purge(id);
        self.record.changed();
    }

    pub(crate) fn reset(&self) {
        *self.state() = State::default();
        self.script.clear();
        self.record.clear();
    }

    pub(crate) fn set_victim(&self, pid: Option<i32>) {
        *self.victim.lock().unwrap_or_else(PoisonError::into_inner) = pid;
    }

    pub(crate) fn kill_victim(&self) {
        let pid = *self.victim.lock().unwrap_or_else(PoisonError::into_inner);
        match pid.and_then(rustix::process::Pid::from_raw) {
            None => tracing::warn!("a fault wants to kill, and no victim is set"),
            Some(pid) => {
                if let Err(error) = rustix::process::kill_process(pid, rustix::process::Signal::KILL) {
                    tracing::warn!(%error, "kill");
                }
            }
        }
    }
}
