//! Answers on a real socket to the real client.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use upspool::api::{Auth, Client, NewUpload, Server};
use upspool::model::answer::{FileId, PartId, UploadId};
use upspool::model::failure::{Facts, Failure};
use upspool::text::shown_bytes;

use crate::mutate::Mutator;
use crate::{Session, is_one_line};

const KEY: &str = "sk-fuzz-0123456789abcdef";

/// Each input has a connection of its own, and a port of it stays taken for a minute after; an address has 28 000.
const ADDRESSES: u8 = 40;

/// What is kept of an answer, as the client promises: of a message, with the words before it, and of an id.
const MESSAGE: usize = 4096;
const ID: usize = 512;
const HEADER: usize = 256;

const BODIES: [&str; 17] = [
    r#"{"id":"upload_1","object":"upload","status":"pending","filename":"a.jsonl","bytes":11,"created_at":100,"expires_at":3700,"purpose":"batch"}"#,
    r#"{"id":"upload_1","object":"upload","status":"completed","filename":"a.jsonl","bytes":11,"created_at":100,"expires_at":3700,"purpose":"batch","file":{"id":"file-1","object":"file","bytes":11,"created_at":200,"filename":"a.jsonl","purpose":"batch","status":"processed"}}"#,
    r#"{"id":"upload_1","status":"cancelled","file":null}"#,
    r#"{"id":"part_1","object":"upload.part","created_at":101,"upload_id":"upload_1"}"#,
    r#"{"object":"list","data":[{"id":"file-1","object":"file","bytes":11,"created_at":200,"filename":"a.jsonl","purpose":"batch"},{"id":"file-2","bytes":null,"created_at":1.5e9,"filename":"b","purpose":"batch"}],"has_more":true,"first_id":"file-1","last_id":"file-2"}"#,
    r#"{"id":"file-1","object":"file","bytes":11,"created_at":200,"expires_at":300,"filename":"a.jsonl","purpose":"batch"}"#,
    r#"{"error":{"message":"Incorrect API key provided: sk-fuzz-0123456789abcdef.","type":"invalid_request_error","param":null,"code":"invalid_api_key"}}"#,
    r#"{"error":{"message":"You exceeded your quota","type":"insufficient_quota","param":null,"code":"insufficient_quota"},"detail":{"message":"D","code":null}}"#,
    r#"{"error":{"code":"404","message":"Resource not found"}}"#,
    r#"{"id":"sk-fuzz-0123456789abcdef","status":"sk-fuzz-\u0030123456789abcdef"}"#,
    r#"{"error":"words","code":7}"#,
    r#"{"detail":"Not Found"}"#,
    r#"[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]"#,
    "<!DOCTYPE html>\n<html><head><title>502</title></head><body>gateway</body></html>\n",
    "",
    "null",
    "0",
];

const HEADERS: [&str; 10] = [
    "x-request-id: req_1\r\nretry-after: 7\r\nx-should-retry: true\r\n",
    "apim-request-id: 0b1c\r\nretry-after-ms: 250\r\nx-should-retry: False\r\n",
    "Date: Sun, 22 Nov 2026 10:00:00 GMT\r\nRetry-After: Sun, 22 Nov 2026 10:00:42 GMT\r\n",
    "Date: Sunday, 22-Nov-26 10:00:00 GMT\r\nRetry-After: Sun Nov 22 10:00:42 2026\r\n",
    "x-ratelimit-remaining-requests: 0\r\nx-ratelimit-reset-tokens: 6m0s\r\nx-ratelimit-a: \r\n",
    "location: http://user:pw@evil.example/?api_key=sk-fuzz-0123456789abcdef\r\n",
    "retry-after: 1e300\r\nretry-after-ms: -0.0\r\n",
    "x-request-id: sk-fuzz-0123456789abcdef\r\n",
    "content-encoding: gzip\r\ntransfer-encoding: identity\r\n",
    "content-type: application/json; charset=utf-16\r\nset-cookie: a=b\r\n",
];

const STATUSES: [u16; 24] = [
    200, 200, 200, 201, 204, 206, 301, 302, 307, 400, 401, 403, 404, 408, 409, 413, 418, 422, 429, 500, 502,
    503, 529, 999,
];

fn answer(status: u16, headers: &[u8], body: &[u8]) -> Vec<u8> {
    let mut answer = format!("HTTP/1.1 {status} Words\r\ncontent-length: {}\r\n", body.len()).into_bytes();
    answer.extend_from_slice(headers);
    answer.extend_from_slice(b"\r\n");
    answer.extend_from_slice(body);
    answer
}

#[test]
fn answers_of_every_operation() {
    fuzz("answers", |mutator| {
        let body = mutator.mutant(&BODIES);
        answer(200, b"x-request-id: req_1\r\n", &body)
    });
}

#[test]
fn bodies_of_errors() {
    fuzz("errors", |mutator| {
        let (status, body) = (*mutator.of(&STATUSES), mutator.mutant(&BODIES));
        answer(status, b"", &body)
    });
}

#[test]
fn headers_of_answers() {
    fuzz("headers", |mutator| {
        let (status, headers) = (*mutator.of(&STATUSES), mutator.mutant(&HEADERS));
        answer(status, &headers, mutator.of(&BODIES).as_bytes())
    });
}

/// Not even HTTP.
#[test]
fn bytes_on_the_wire() {
    let whole: Vec<Vec<u8>> = BODIES
        .iter()
        .zip(HEADERS.iter().cycle())
        .zip(STATUSES.iter().cycle())
        .map(|((body, headers), status)| answer(*status, headers.as_bytes(), body.as_bytes()))
        .chain([b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{\"id\"\r\n0\r\n\r\n".to_vec()])
        .chain([b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 200 OK\r\n\r\n{}".to_vec()])
        .collect();
    fuzz(
        "wire",
        move |mutator| if mutator.below(20) == 0 { mutator.bytes(400) } else { mutator.mutant(&whole) },
    );
}

/// Gives inputs to each operation of the client until the time is over.
fn fuzz(name: &'static str, input: impl Fn(&mut Mutator) -> Vec<u8>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let given = Arc::new(Mutex::new(Vec::new()));
        let mut clients = Vec::new();
        for number in 1..=ADDRESSES {
            let listener = TcpListener::bind((Ipv4Addr::new(127, 77, 0, number), 0)).await.unwrap();
            clients.push(client(&listener));
            tokio::spawn(serve(listener, given.clone()));
        }
        let (mut session, mut mutator) = Session::new(name);
        let mut turn = 0;
        while session.goes_on() {
            turn += 1;
            let bytes = input(&mut mutator);
            given.lock().unwrap().clone_from(&bytes);
            ask(&clients[turn % clients.len()], mutator.below(7), &bytes).await;
        }
        session.end();
    });
}

async fn serve(listener: TcpListener, given: Arc<Mutex<Vec<u8>>>) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(reply(stream, given.clone()));
    }
}

/// Reads a whole request, so that the end of the connection is not a reset, and gives the answer and the end.
async fn reply(mut stream: TcpStream, given: Arc<Mutex<Vec<u8>>>) -> Option<()> {
    let mut read = Vec::new();
    loop {
        let mut piece = [0; 2048];
        let count = stream.read(&mut piece).await.ok().filter(|count| *count > 0)?;
        read.extend_from_slice(&piece[..count]);
        let text = String::from_utf8_lossy(&read);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.to_lowercase().split_once("content-length: ").map_or(0, |(_, rest)| {
                rest.lines().next().and_then(|line| line.trim().parse().ok()).unwrap_or(0)
            });
            if body.len() >= length {
                break;
            }
        }
    }
    let answer = given.lock().unwrap().clone();
    stream.write_all(&answer).await.ok()?;
    stream.shutdown().await.ok()
}

fn client(listener: &TcpListener) -> Client {
    let patience = Duration::from_secs(20);
    let server = Server {
        base_url: format!("http://{}/v1", listener.local_addr().unwrap()).parse().unwrap(),
        auth: Auth::Bearer,
        organization: None,
        project: None,
        query: Vec::new(),
        ca_file: None,
        connect_timeout: patience,
        stall_timeout: patience,
        answer_timeout: patience,
        complete_timeout: patience,
    };
    Client::new(server, KEY.into()).unwrap()
}

async fn ask(client: &Client, operation: usize, input: &[u8]) {
    let new = NewUpload {
        filename: "a.jsonl".into(),
        purpose: "batch".into(),
        bytes: 11,
        mime_type: "text/jsonl".into(),
        expires_after_seconds: None,
    };
    let (upload, file) = (UploadId("upload_1".into()), FileId("file-1".into()));
    let told = match operation {
        0 => client.create(&new).await.map(|(upload, facts)| {
            id(&upload.id.0, input);
            facts
        }),
        1 => {
            let body = stream::iter([Ok(Bytes::from_static(b"hello world"))]);
            client.add_part(&upload, 11, body).await.map(|(part, facts)| {
                id(&part.0, input);
                facts
            })
        }
        2 => client.complete(&upload, &[PartId("part_1".into())], None).await.map(|(upload, facts)| {
            upload.file.iter().for_each(|file| id(&file.id.0, input));
            facts
        }),
        3 => client.cancel(&upload).await.map(|(_, facts)| facts),
        4 | 5 => client.list_files(Some("batch"), 2, None).await.map(|(page, facts)| {
            page.files.iter().for_each(|file| id(&file.id.0, input));
            facts
        }),
        _ => client.get_file(&file).await.map(|(file, facts)| {
            id(&file.id.0, input);
            facts
        }),
    };
    match told {
        Ok(facts) => facts_are_small(&facts, input),
        Err(failure) => failure_is_small(&failure, input),
    }
}

fn id(id: &str, input: &[u8]) {
    assert!(
        !id.is_empty() && id.len() <= ID && id != "." && id != "..",
        "{id:?} from {}",
        input.escape_ascii()
    );
    assert!(!id.contains(KEY), "the key came back from {}", input.escape_ascii());
    assert!(!id.chars().any(char::is_control), "{id:?} from {}", input.escape_ascii());
}

fn facts_are_small(facts: &Facts, input: &[u8]) {
    let words =
        facts.request_id.iter().chain(facts.rate_limits.iter().flat_map(|(name, value)| [name, value]));
    for word in words {
        assert!(word.len() <= HEADER, "{word:?} from {}", input.escape_ascii());
        is_one_line(word, input);
        assert!(!word.contains(KEY), "the key came back from {}", input.escape_ascii());
    }
    assert!(facts.rate_limits.len() <= 16, "{facts:?}");
    assert!(facts.retry_after.is_none_or(|wait| wait <= Duration::from_secs(86_400)), "{facts:?}");
}

fn failure_is_small(failure: &Failure, input: &[u8]) {
    if let Some(facts) = failure.facts() {
        facts_are_small(facts, input);
    }
    let text = failure.to_string();
    assert!(text.len() <= MESSAGE, "{} bytes of words from {}", text.len(), input.escape_ascii());
    assert!(!format!("{failure:?}").contains(KEY), "the key came back from {}", input.escape_ascii());
    // As the log and the terminal show it.
    is_one_line(&shown_bytes(text.as_bytes()), input);
    if let Failure::Refused { kind, code, .. } = failure {
        let words = kind.iter().chain(code);
        words.for_each(|word| assert!(word.len() <= HEADER, "{word:?} from {}", input.escape_ascii()));
    }
}
