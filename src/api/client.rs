//! The operations of the API, one method each.

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::BuildHasher;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::Stream;
use reqwest::header::{ACCEPT, CONTENT_LENGTH};
use reqwest::multipart::{Form, Part};
use reqwest::{Body, Method, RequestBuilder};
use secrecy::SecretString;
use serde::Serialize;
use tokio::time::sleep;

use super::body::{Gauge, metered};
use super::connect::{ClientError, Connections};
use super::exchange::{LIST, ONE, exchange, stream};
use super::key::Key;
use super::limit::Limiter;
use super::server::Server;
use super::wire;
use crate::model::answer::{FileId, FilePage, PartId, RemoteFile, Upload, UploadId};
use crate::model::failure::{Facts, Failure};

/// The client of one account. Clones share connections and key.
#[derive(Clone)]
pub struct Client {
    server: Arc<Server>,
    connections: Connections,
    key: Arc<RwLock<Arc<Key>>>,
    limiter: Option<Limiter>,
}

/// What create asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewUpload {
    /// The name that the File will have.
    pub filename: String,
    /// An open set: the server knows which it takes.
    pub purpose: String,
    /// The size of the whole file.
    pub bytes: u64,
    /// Its type, within what the server takes for the purpose.
    pub mime_type: String,
    /// How long the File lives after it is made, in seconds; `None`: the server's rule.
    pub expires_after_seconds: Option<u64>,
}

impl Client {
    /// A client of `server` that sends `key`. Reads the host's certificates and `ca_file`, but connects nowhere yet.
    pub fn new(server: Server, key: SecretString) -> Result<Client, ClientError> {
        let key = Key::new(server.auth, key)?;
        let connections = Connections::new(&server)?;
        let key = Arc::new(RwLock::new(Arc::new(key)));
        Ok(Client { server: Arc::new(server), connections, key, limiter: None })
    }

    /// The same, with the bodies of Parts no faster than `limiter` lets all of its clients together send.
    pub fn limited_by(self, limiter: Option<Limiter>) -> Client {
        Client { limiter, ..self }
    }

    /// From now on `key` is sent, by all clones; requests under way keep theirs. An unusable key changes nothing.
    pub fn set_key(&self, key: SecretString) -> Result<(), ClientError> {
        let key = Key::new(self.server.auth, key)?;
        *self.key.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(key);
        Ok(())
    }

    /// `POST /uploads`.
    pub async fn create(&self, new: &NewUpload) -> Result<(Upload, Facts), Failure> {
        let call = self.small(Method::POST, &["uploads"], &[]);
        call.json(&wire::CreateUpload::new(new)).answer(ONE, |body| wire::created(body, new)).await
    }

    /// `POST /uploads/{id}/parts` with `length` bytes of `body`.
    ///
    /// If `body` fails, or is shorter or longer than `length`, the connection is cut before the server could take it for
    /// whole, and [`Failure::Source`] tells why: the `SourceFailure` inside the stream's error, if there is one. Time
    /// during which `body` has nothing ready is not the connection's, and does not count as a stall.
    pub async fn add_part<S>(
        &self,
        upload: &UploadId,
        length: u64,
        body: S,
    ) -> Result<(PartId, Facts), Failure>
    where
        S: Stream<Item = io::Result<Bytes>> + Send + 'static,
    {
        let gauge = Arc::new(Gauge::default());
        let _over = gauge.over_when_dropped();
        let patience = gauge.patience(self.server.stall_timeout, self.server.answer_timeout);
        let path = ["uploads", &upload.0, "parts"];
        let call = self.call(&self.connections.parts, Method::POST, &path, &[], patience);
        let body = metered(body, length, gauge.clone(), self.limiter.clone());
        let result = call.part(body, length).answer(ONE, |body| {
            if gauge.handed_over() { wire::part(body, upload) } else { Err(EARLY.to_owned()) }
        });
        match (result.await, gauge.failure()) {
            // The file is the cause, and what the connection met the consequence; unless the server said something.
            (Err(Failure::Transport { .. } | Failure::Stalled | Failure::NoAnswer), Some(failure)) => {
                Err(Failure::Source(failure))
            }
            (result, _) => result,
        }
    }

    /// `POST /uploads/{id}/complete` with the Parts in their order and the MD5 of the file in lower-case hex.
    ///
    /// Only [`UploadStatus::Completed`](crate::model::answer::UploadStatus) says that there is a File, and then there is
    /// one in the answer. Whether it has the right size is for the caller to see.
    pub async fn complete(
        &self,
        upload: &UploadId,
        parts: &[PartId],
        md5: Option<&str>,
    ) -> Result<(Upload, Facts), Failure> {
        let part_ids = parts.iter().map(|part| part.0.as_str()).collect();
        let patience = self.patience(self.server.complete_timeout);
        let path = ["uploads", &upload.0, "complete"];
        // The Parts of a large file leave connections that are free now: a new one would cost a round trip, and two with TLS.
        let connections = if parts.len() > 1 { &self.connections.parts } else { &self.connections.small };
        let call = self.call(connections, Method::POST, &path, &[], patience);
        call.json(&wire::CompleteUpload { part_ids, md5 })
            .answer(ONE, |body| wire::upload(body, upload))
            .await
    }

    /// `POST /uploads/{id}/cancel`. What became of the Upload is in its status.
    pub async fn cancel(&self, upload: &UploadId) -> Result<(Upload, Facts), Failure> {
        let call = self.small(Method::POST, &["uploads", &upload.0, "cancel"], &[]);
        call.empty().answer(ONE, |body| wire::upload(body, upload)).await
    }

    /// `GET /files`, newest first: at most `limit` of those made before the File `after`.
    pub async fn list_files(
        &self,
        purpose: Option<&str>,
        limit: u32,
        after: Option<&FileId>,
    ) -> Result<(FilePage, Facts), Failure> {
        let count = limit.to_string();
        let mut query = vec![("order", "desc"), ("limit", &count)];
        query.extend(purpose.map(|purpose| ("purpose", purpose)));
        query.extend(after.map(|after| ("after", after.0.as_str())));
        let call = self.small(Method::GET, &["files"], &query);
        call.answer(LIST, |body| wire::page(body, limit)).await
    }

    /// `GET /files/{id}`.
    pub async fn get_file(&self, file: &FileId) -> Result<(RemoteFile, Facts), Failure> {
        let call = self.small(Method::GET, &["files", &file.0], &[]);
        call.answer(ONE, |body| wire::file(body, file)).await
    }

    /// `GET /files/{id}/content`, handed to `take` as it comes, until that says that the rest is not wanted. Whether the
    /// content came to its end. A server that sends no byte for `[api] stall_timeout` is given up.
    pub async fn content(
        &self,
        file: &FileId,
        take: impl FnMut(&[u8]) -> bool + Send,
    ) -> Result<(bool, Facts), Failure> {
        let call = self.small(Method::GET, &["files", &file.0, "content"], &[]);
        let request = call.request.header(ACCEPT, "*/*");
        let streamed = Box::pin(stream(request, call.patience, self.server.stall_timeout, take));
        streamed.await.map_err(|failure| call.key.hidden_in(failure))
    }

    fn small(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, &str)],
    ) -> Call<impl Future<Output = Failure> + use<>> {
        let patience = self.patience(self.server.answer_timeout);
        self.call(&self.connections.small, method, path, query, patience)
    }

    /// For a request whose body is a few bytes, so that it is sent as soon as there is a connection.
    fn patience(&self, answer: Duration) -> impl Future<Output = Failure> + use<> {
        let whole = self.server.connect_timeout.saturating_add(answer);
        async move {
            sleep(whole).await;
            Failure::NoAnswer
        }
    }

    fn call<P>(
        &self,
        connections: &reqwest::Client,
        method: Method,
        path: &[&str],
        query: &[(&str, &str)],
        patience: P,
    ) -> Call<P> {
        let key = self.key.read().unwrap_or_else(PoisonError::into_inner).clone();
        let (name, value) = key.header();
        let request = connections
            .request(method, self.server.address(path, query))
            .header(name, value)
            .header("x-client-request-id", request_id());
        Call { request, patience, key }
    }
}

/// Says who is asked and how, but not the key.
impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("server", &self.server).finish_non_exhaustive()
    }
}

/// A request, how long to wait for its answer, and the key that must not show in what comes of it.
struct Call<P> {
    request: RequestBuilder,
    patience: P,
    key: Arc<Key>,
}

impl<P: Future<Output = Failure>> Call<P> {
    fn json(mut self, body: &impl Serialize) -> Self {
        self.request = self.request.json(body);
        self
    }

    /// A POST without a body: some servers insist on a length all the same.
    fn empty(mut self) -> Self {
        self.request = self.request.header(CONTENT_LENGTH, 0);
        self
    }

    /// The field's name, file name and type are the same for every Part, and it stands alone: a server that takes forms
    /// apart wrongly finds nothing here to be wrong about. Azure insists on the type.
    fn part<S>(mut self, body: S, length: u64) -> Self
    where
        S: Stream<Item = io::Result<Bytes>> + Send + 'static,
    {
        let data = Part::stream_with_length(Body::wrap_stream(body), length).file_name("part");
        let data = data.mime_str("application/octet-stream").expect("a MIME type");
        self.request = self.request.multipart(Form::new().part("data", data));
        self
    }

    async fn answer<T: fmt::Debug>(
        self,
        limit: usize,
        understand: impl FnOnce(&[u8]) -> Result<T, String>,
    ) -> Result<(T, Facts), Failure> {
        // On the heap: the library's future is large, and callers keep many of these.
        let answer = Box::pin(exchange(self.request, self.patience, limit)).await;
        let answer = answer.and_then(|answer| self.key.absent_from(answer, understand));
        answer.map_err(|failure| self.key.hidden_in(failure))
    }
}

/// What [`Client::add_part`] says of a server that took a Part it had not got.
const EARLY: &str = "a Part was accepted before it was sent";

/// An id that no other request has: for the server's logs, which keep it even when its answer is lost.
fn request_id() -> String {
    static PROCESS: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one(()));
    static COUNT: AtomicU64 = AtomicU64::new(1);
    format!("upspool-{:016x}-{}", *PROCESS, COUNT.fetch_add(1, Ordering::Relaxed))
}
