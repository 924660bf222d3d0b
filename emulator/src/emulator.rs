//! A running emulator: asked, scripted, paused and stopped.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::builder::Builder;
use crate::faults::{Action, Calls, Fault, Point};
use crate::gate::{Gate, Hold};
use crate::record::RequestRecord;
use crate::route::Operation;
use crate::server;
use crate::shared::Shared;
use crate::state::{FileRecord, UploadRecord};
use crate::variants::Variants;

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
        self.shared.set_keys(keys.into_iter().map(Into::into).collect());
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

    pub(crate) fn on(shared: Arc<Shared>, address: SocketAddr, runtime: Runtime) -> io::Result<Self> {
        let power = CancellationToken::new();
        let mut emulator = Self { shared, address, power, tasks: TaskTracker::new(), runtime: Some(runtime) };
        emulator.power_on()?;
        Ok(emulator)
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
