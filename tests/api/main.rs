//! The API client against a peer that does, byte by byte, as each test says.

#![allow(clippy::unwrap_used, reason = "a test's own helpers fail by panicking")]

mod failures;
mod peer;
mod requests;

use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, Stream};
use peer::Peer;
use upspool::api::{Auth, Client, NewUpload, Server};
use upspool::model::answer::UploadId;

const KEY: &str = "sk-test-0123456789";
const PENDING: &str = r#"{"id":"upload_1","status":"pending","filename":"a.jsonl","bytes":11,"created_at":100,
    "expires_at":3700,"object":"upload","purpose":"batch","new_field":[1]}"#;
const COMPLETED: &str = r#"{"id":"upload_1","status":"completed","filename":"a.jsonl","bytes":11,"created_at":100,
    "expires_at":3700,"file":{"id":"file-1","bytes":null,"created_at":200,"filename":"a.jsonl","purpose":"batch"}}"#;
const PART: &str = r#"{"id":"part_1","object":"upload.part","created_at":101,"upload_id":"upload_1"}"#;

/// Timeouts that no healthy test comes near, and none waits for.
fn server(peer: &Peer) -> Server {
    Server {
        base_url: format!("http://{}/v1", peer.address).parse().unwrap(),
        auth: Auth::Bearer,
        organization: None,
        project: None,
        query: Vec::new(),
        ca_file: None,
        connect_timeout: Duration::from_secs(10),
        stall_timeout: Duration::from_secs(30),
        answer_timeout: Duration::from_secs(30),
        complete_timeout: Duration::from_secs(30),
    }
}

fn client(server: Server) -> Client {
    Client::new(server, KEY.into()).unwrap()
}

fn new_upload() -> NewUpload {
    NewUpload {
        filename: "a.jsonl".to_owned(),
        purpose: "batch".to_owned(),
        bytes: 11,
        mime_type: "text/jsonl".to_owned(),
        expires_after_seconds: None,
    }
}

fn upload() -> UploadId {
    UploadId("upload_1".to_owned())
}

fn body(bytes: &'static [u8]) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    stream::iter([Ok(Bytes::from_static(bytes))])
}

/// 64 MiB, far more than any buffer between client and peer takes.
const LARGE: u64 = 64 << 20;

fn large_body() -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    stream::iter((0..LARGE >> 18).map(|_| Ok(Bytes::from_static(&[7; 1 << 18]))))
}
