//! What was asked and what was answered, and how to wait for it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hyper::HeaderMap;
use serde::Serialize;
use serde_json::Value;
use tokio::sync::watch;

use crate::clock::Clock;
use crate::route::{Operation, Route};

/// One request, from the moment its head was read.
#[derive(Clone, Debug, Serialize)]
pub struct RequestRecord {
    /// 1, 2, 3, … in the order in which heads arrived.
    pub number: u64,
    /// What it asked for.
    pub operation: Operation,
    /// Its method.
    pub method: String,
    /// Its path as sent.
    pub path: String,
    /// Its query as sent, without `?`.
    pub query: String,
    /// The Upload in the path, or the one that was created.
    pub upload_id: Option<String>,
    /// The Part that was created.
    pub part_id: Option<String>,
    /// The File in the path, or the one that was created.
    pub file_id: Option<String>,
    /// The name of the Upload's File.
    pub filename: Option<String>,
    /// All headers as sent, credentials too, with lower-case names.
    pub headers: BTreeMap<String, String>,
    /// Bytes of the body that were read, multipart's own among them.
    pub body_bytes: u64,
    /// Bytes of the field `data` or `file`.
    pub data_bytes: u64,
    /// SHA-256 of that field, if it came whole and the storage keeps content.
    pub sha256: Option<String>,
    /// The body of create or complete.
    pub json: Option<Value>,
    /// The status that was answered, or was about to be when the connection was cut.
    pub status: Option<u16>,
    /// `x-request-id` of the answer.
    pub request_id: String,
    /// Whether the operation's work was done: whether the server's state may have changed.
    pub worked: bool,
    /// Whether the whole answer was written to the socket.
    pub delivered: bool,
    /// Whether the exchange is over, one way or the other.
    pub finished: bool,
    /// The faults that it met.
    pub faults: Vec<String>,
    /// Number of the connection.
    pub connection: u64,
    /// The client's end of the connection.
    pub peer: SocketAddr,
    /// Unix time in milliseconds on the emulator's clock.
    pub time_ms: i64,
    /// Milliseconds from the start of the emulator to the head, in real time.
    pub started_ms: u64,
    /// Milliseconds from the start of the emulator to the end, in real time.
    pub finished_ms: Option<u64>,
    /// Part requests in flight when this one began, itself among them.
    pub parts_in_flight: usize,
}

impl RequestRecord {
    /// A header as sent.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

#[derive(Debug)]
pub(crate) struct Record {
    log: Mutex<Log>,
    version: watch::Sender<u64>,
    clock: Arc<Clock>,
}

#[derive(Debug, Default)]
struct Log {
    requests: Vec<RequestRecord>,
    next: u64,
    parts_in_flight: usize,
    most_parts_in_flight: usize,
}

impl Record {
    pub(crate) fn new(clock: Arc<Clock>) -> Arc<Self> {
        Arc::new(Self { log: Mutex::default(), version: watch::Sender::new(0), clock })
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn uptime_ms(&self) -> u64 {
        u64::try_from(self.clock.uptime().as_millis()).unwrap_or(u64::MAX)
    }

    pub(crate) fn all(&self) -> Vec<RequestRecord> {
        self.log().requests.clone()
    }

    pub(crate) fn find(&self, wanted: impl Fn(&RequestRecord) -> bool) -> Option<RequestRecord> {
        self.log().requests.iter().find(|request| wanted(request)).cloned()
    }

    pub(crate) fn most_parts_in_flight(&self) -> usize {
        self.log().most_parts_in_flight
    }

    pub(crate) fn clear(&self) {
        let mut log = self.log();
        log.requests.clear();
        log.most_parts_in_flight = log.parts_in_flight;
        drop(log);
        self.changed();
    }

    /// Wakes those who wait.
    pub(crate) fn changed(&self) {
        self.version.send_modify(|version| *version += 1);
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    pub(crate) fn begin(self: &Arc<Self>, head: Head<'_>) -> Exchange {
        let mut log = self.log();
        log.next += 1;
        let number = log.next;
        let is_part = head.route.operation == Operation::Part;
        if is_part {
            log.parts_in_flight += 1;
            log.most_parts_in_flight = log.most_parts_in_flight.max(log.parts_in_flight);
        }
        let id = Some(head.route.id.clone()).filter(|id| !id.is_empty());
        let is_upload = head.route.upload_id().is_some();
        let request_id = format!("req_{number:06}");
        let parts_in_flight = log.parts_in_flight;
        log.requests.push(RequestRecord {
            number,
            operation: head.route.operation,
            method: head.method.to_owned(),
            path: head.path.to_owned(),
            query: head.query.to_owned(),
            upload_id: id.clone().filter(|_| is_upload),
            part_id: None,
            file_id: id.filter(|_| !is_upload),
            filename: head.filename,
            headers: head
                .headers
                .iter()
                .map(|(name, value)| {
                    (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
                })
                .collect(),
            body_bytes: 0,
            data_bytes: 0,
            sha256: None,
            json: None,
            status: None,
            request_id: request_id.clone(),
            worked: false,
            delivered: false,
            finished: false,
            faults: Vec::new(),
            connection: head.connection,
            peer: head.peer,
            time_ms: self.clock.now_ms(),
            started_ms: self.uptime_ms(),
            finished_ms: None,
            parts_in_flight,
        });
        drop(log);
        self.changed();
        Exchange { record: Arc::clone(self), number, request_id, is_part, answered: AtomicBool::new(false) }
    }
}

/// What is known of a request before its body.
pub(crate) struct Head<'a> {
    pub(crate) route: &'a Route,
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) query: &'a str,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) filename: Option<String>,
    pub(crate) connection: u64,
    pub(crate) peer: SocketAddr,
}

/// A request under way. Dropping it closes its record, delivered or not.
#[derive(Debug)]
pub(crate) struct Exchange {
    record: Arc<Record>,
    number: u64,
    pub(crate) request_id: String,
    is_part: bool,
    answered: AtomicBool,
}

impl Exchange {
    pub(crate) fn update(&self, change: impl FnOnce(&mut RequestRecord)) {
        let mut log = self.record.log();
        let found = log.requests.binary_search_by_key(&self.number, |request| request.number);
        if let Some(request) = found.ok().and_then(|at| log.requests.get_mut(at)) {
            change(request);
        }
    }

    /// Ends this request's part in the count of those in flight, before the client can know.
    pub(crate) fn answered(&self) {
        if !self.answered.swap(true, Ordering::SeqCst) && self.is_part {
            self.record.log().parts_in_flight -= 1;
        }
    }

    pub(crate) fn delivered(&self) {
        self.update(|request| request.delivered = true);
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.answered();
        let now = self.record.uptime_ms();
        self.update(|request| {
            request.finished = true;
            request.finished_ms = Some(now);
        });
        self.record.changed();
    }
}
