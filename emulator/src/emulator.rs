//! A running emulator: built, asked, paused and stopped.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::dialect::Dialect;
use crate::error::ApiError;
use crate::faults::{Action, Calls, Fault, Point, Script, ScriptFile};
use crate::gate::{Gate, Hold};
use crate::limits::Limits;
use crate::record::{Record, RequestRecord};
use crate::route::{Operation, Route};
use crate::server;
use crate::state::{FileRecord, State, UploadRecord};
use crate::storage::Storage;
use crate::variants::Variants;

/// The key that is accepted if none is set.
pub const DEFAULT_KEY: &str = "sk-emulator";

/// What an emulator is to be like.
#[derive(Debug)]
pub struct Builder {
    address: SocketAddr,
    keys: Vec<String>,
    storage: Storage,
    limits: Limits,
    variants: Variants,
    dialect: Dialect,
    faults: Vec<Fault>,
    skew_ms: i64,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            keys: Vec::new(),
            storage: Storage::default(),
            limits: Limits::default(),
            variants: Variants::default(),
            dialect: Dialect::default(),
            faults: Vec::new(),
            skew_ms: 0,
        }
    }
}

impl Builder {
    /// Where to listen; a free port of 127.0.0.1 if not said.
    #[must_use]
    pub fn listen(self, address: SocketAddr) -> Self {
        Self { address, ..self }
    }

    /// Accepts this key; [`DEFAULT_KEY`] only if none is said.
    #[must_use]
    pub fn api_key(mut self, key: impl Into<String>) -> Self {
        self.keys.push(key.into());
        self
    }

    /// Where content goes; memory if not said.
    #[must_use]
    pub fn storage(self, storage: Storage) -> Self {
        Self { storage, ..self }
    }

    /// Other limits.
    #[must_use]
    pub fn limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// How long an Upload lives.
    #[must_use]
    pub fn upload_lifetime(mut self, lifetime: Duration) -> Self {
        self.limits.upload_lifetime = lifetime;
        self
    }

    /// Other choices where the documentation is silent.
    #[must_use]
    pub fn variants(self, variants: Variants) -> Self {
        Self { variants, ..self }
    }

    /// Azure's paths, header, ids, limits and variants.
    #[must_use]
    pub fn azure(self) -> Self {
        Self { dialect: Dialect::Azure, limits: Limits::azure(), variants: Variants::azure(), ..self }
    }

    /// A clock that is wrong by this much, in seconds.
    #[must_use]
    pub fn skew(self, seconds: i64) -> Self {
        Self { skew_ms: seconds.saturating_mul(1000), ..self }
    }

    /// A fault from the start.
    #[must_use]
    pub fn fault(mut self, fault: Fault) -> Self {
        self.faults.push(fault);
        self
    }

    /// All that a script file says.
    #[must_use]
    pub fn script(mut self, script: ScriptFile) -> Self {
        self.limits = script.limits.unwrap_or(self.limits);
        self.variants = script.variants.unwrap_or(self.variants);
        self.faults.extend(script.fault);
        self
    }

    /// Listens and serves, with threads of its own, so that nothing the caller does holds it up.
    ///
    /// # Errors
    ///
    /// The address cannot be listened on, or the folder for content cannot be made.
    #[expect(clippy::unused_async, reason = "the emulator is started from async tests, and may come to wait")]
    pub async fn start(self) -> io::Result<Emulator> {
        if let Storage::Disk(folder) = &self.storage {
            std::fs::create_dir_all(folder)?;
        }
        let keys = if self.keys.is_empty() { vec![DEFAULT_KEY.to_owned()] } else { self.keys };
        let clock = Arc::new(Clock::new(self.skew_ms));
        let shared = Arc::new(Shared {
            dialect: self.dialect,
            limits: self.limits,
            storage: self.storage,
            keys: RwLock::new(keys),
            variants: RwLock::new(self.variants),
            record: Record::new(Arc::clone(&clock)),
            unrecorded: Record::new(Arc::clone(&clock)),
            script: Script::default(),
            state: Mutex::default(),
            victim: Mutex::default(),
            clock,
        });
        shared.script.add(self.faults);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("emulator")
            .enable_all()
            .build()?;
        let mut emulator = Emulator {
            shared,
            address: self.address,
            power: CancellationToken::new(),
            tasks: TaskTracker::new(),
            runtime: Some(runtime),
        };
        emulator.power_on()?;
        Ok(emulator)
    }
}

/// The API, served on a port of its own until this is dropped.
#[derive(Debug)]
pub struct Emulator {
    shared: Arc<Shared>,
    address: SocketAddr,
    power: CancellationToken,
    /// The listener and every connection.
    tasks: TaskTracker,
    runtime: Option<Runtime>,
}

/// Nothing that was waited for came in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimedOut;

impl std::fmt::Display for TimedOut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("what was waited for did not happen in time")
    }
}

impl std::error::Error for TimedOut {}

impl Emulator {
    /// Says what the emulator is to be like; [`Builder::start`] starts it.
    #[must_use]
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// An emulator with all defaults.
    ///
    /// # Errors
    ///
    /// As [`Builder::start`].
    pub async fn start() -> io::Result<Self> {
        Self::builder().start().await
    }

    /// What a client takes for its base URL, such as `http://127.0.0.1:4000/v1`.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("{}{}", self.origin(), self.shared.dialect.base_path())
    }

    /// The base URL without its path.
    #[must_use]
    pub fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// All requests so far, in the order of their heads.
    #[must_use]
    pub fn requests(&self) -> Vec<RequestRecord> {
        self.shared.record.all()
    }

    /// The requests of one operation.
    #[must_use]
    pub fn requests_of(&self, operation: Operation) -> Vec<RequestRecord> {
        let mut requests = self.requests();
        requests.retain(|request| request.operation == operation);
        requests
    }

    /// The most Part requests that were in flight at once.
    #[must_use]
    pub fn most_parts_in_flight(&self) -> usize {
        self.shared.record.most_parts_in_flight()
    }

    /// All Files, in order of creation.
    #[must_use]
    pub fn files(&self) -> Vec<FileRecord> {
        self.shared.files()
    }

    /// All Uploads, oldest first.
    #[must_use]
    pub fn uploads(&self) -> Vec<UploadRecord> {
        self.shared.uploads()
    }

    /// Adds a fault; it counts its calls from now.
    pub fn fault(&self, fault: Fault) {
        self.shared.script.add([fault]);
    }

    /// Adds faults.
    pub fn faults(&self, faults: impl IntoIterator<Item = Fault>) {
        self.shared.script.add(faults);
    }

    /// Forgets all faults, those that have acted and those that have not.
    pub fn clear_faults(&self) {
        self.shared.script.clear();
    }

    /// Holds these calls at this point until the handle releases them or is dropped.
    pub fn hold(&self, calls: Calls, at: Point) -> Hold {
        let (gate, hold) = Gate::closed();
        self.fault(calls.meet(Action::Hold { at, gate }));
        hold
    }

    /// The first request, past or to come, that `wanted` says yes to.
    ///
    /// # Errors
    ///
    /// None came in time.
    pub async fn wait_for(
        &self,
        wanted: impl Fn(&RequestRecord) -> bool,
        timeout: Duration,
    ) -> Result<RequestRecord, TimedOut> {
        let mut version = self.shared.record.subscribe();
        let waiting = async {
            loop {
                version.borrow_and_update();
                if let Some(request) = self.shared.record.find(&wanted) {
                    return request;
                }
                // The sender lives as long as `self`.
                let _ = version.changed().await;
            }
        };
        tokio::time::timeout(timeout, waiting).await.map_err(|_| TimedOut)
    }

    /// Waits until `holds` of the emulator as a whole; asked anew at each beginning and end of a request.
    ///
    /// # Errors
    ///
    /// It did not come to hold in time.
    pub async fn wait_until(&self, holds: impl Fn(&Self) -> bool, timeout: Duration) -> Result<(), TimedOut> {
        let mut version = self.shared.record.subscribe();
        let waiting = async {
            loop {
                version.borrow_and_update();
                if holds(self) {
                    return;
                }
                let _ = version.changed().await;
            }
        };
        tokio::time::timeout(timeout, waiting).await.map_err(|_| TimedOut)
    }

    /// Advances the emulator's clock: Uploads expire, Files appear.
    pub fn advance(&self, by: Duration) {
        self.shared.advance(by);
    }

    /// The emulator's clock, in Unix seconds.
    #[must_use]
    pub fn now(&self) -> i64 {
        self.shared.clock.now()
    }

    /// Changes the variants for the requests that come.
    pub fn set_variants(&self, variants: Variants) {
        self.shared.set_variants(variants);
    }

    /// The variants in force.
    #[must_use]
    pub fn variants(&self) -> Variants {
        self.shared.variants()
    }

    /// Accepts these keys and no others from now on.
    pub fn set_api_keys<K: Into<String>>(&self, keys: impl IntoIterator<Item = K>) {
        let keys = keys.into_iter().map(Into::into).collect();
        *self.shared.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
    }

    /// The process that [`Action::Kill`] kills.
    pub fn set_victim(&self, pid: u32) {
        self.shared.set_victim(i32::try_from(pid).ok());
    }

    /// Makes an Upload's accepted complete land now ([`crate::Late`]).
    pub fn land(&self, upload_id: &str) {
        self.shared.state().land(upload_id);
        self.shared.record.changed();
    }

    /// Makes an Upload expire now.
    pub fn expire(&self, upload_id: &str) {
        self.shared.expire(upload_id);
    }

    /// Forgets an Upload or a File.
    pub fn purge(&self, id: &str) {
        self.shared.purge(id);
    }

    /// Forgets everything: requests, Uploads, Files and faults. The clock and the variants stay.
    pub fn reset(&self) {
        self.shared.reset();
    }

    /// Refuses connections and drops those that are open: an outage. State stays.
    pub async fn pause(&mut self) {
        self.power.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Listens again on the same port.
    ///
    /// # Errors
    ///
    /// Another process has taken the port.
    pub async fn resume(&mut self) -> io::Result<()> {
        self.pause().await;
        self.power_on()
    }

    /// Stops for good.
    pub async fn stop(mut self) {
        self.pause().await;
    }

    fn power_on(&mut self) -> io::Result<()> {
        let Some(runtime) = &self.runtime else { return Ok(()) };
        let listener = std::net::TcpListener::bind(self.address)?;
        listener.set_nonblocking(true)?;
        self.address = listener.local_addr()?;
        self.power = CancellationToken::new();
        self.tasks = TaskTracker::new();
        let _inside = runtime.enter();
        let listener = TcpListener::from_std(listener)?;
        let serving = server::run(listener, Arc::clone(&self.shared), self.power.clone(), self.tasks.clone());
        self.tasks.spawn(serving);
        Ok(())
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        self.power.cancel();
        if let Some(runtime) = self.runtime.take() {
            // A runtime must not wait for its threads inside another one.
            runtime.shutdown_background();
        }
    }
}

/// Reads a script file.
///
/// # Errors
///
/// It cannot be read, or is not a script.
pub fn read_script(path: &Path) -> io::Result<ScriptFile> {
    let text = std::fs::read_to_string(path)?;
    toml::from_str(&text).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// What all connections share.
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
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn variants(&self) -> Variants {
        *self.variants.read().unwrap_or_else(PoisonError::into_inner)
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
            None => state
                .files
                .iter()
                .find(|file| file.record.id == route.id)
                .map(|file| file.record.filename.clone()),
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
