//! What goes wrong, and what is made of it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use upspool::api::{Client, ClientError, Limiter, Server};
use upspool::model::answer::{FileId, PartId, UploadId};
use upspool::model::failure::{Failure, SourceFailure};
use upspool::source::Source;

use super::peer::{Peer, read_head, read_request, reply};
use super::{COMPLETED, KEY, LARGE, PART, PENDING, body, client, large_body, new_upload, server, upload};

/// Long enough for what must not run into it, short enough to wait for.
const SHORT: Duration = Duration::from_millis(300);

const UNAUTHORIZED: &str =
    r#"{"error":{"message":"no","type":"invalid_request_error","param":null,"code":"invalid_api_key"}}"#;

fn refusal(failure: Failure) -> (u16, Option<String>, String) {
    match failure {
        Failure::Refused { facts, code, message, .. } => (facts.status, code, message),
        other => panic!("not a refusal: {other:?}"),
    }
}

#[tokio::test]
async fn a_refusal_carries_its_facts_and_words() {
    let headers = "x-request-id: req_9\r\nretry-after: 7\r\nx-should-retry: true\r\n";
    let peer = Peer::replying([reply(429, headers, UNAUTHORIZED), reply(502, "", "")]).await;
    let client = client(server(&peer));
    let Failure::Refused { facts, kind, code, message } = client.create(&new_upload()).await.unwrap_err()
    else {
        panic!("not a refusal")
    };
    assert_eq!((facts.status, facts.request_id.as_deref()), (429, Some("req_9")));
    assert_eq!((facts.retry_after, facts.should_retry), (Some(Duration::from_secs(7)), Some(true)));
    assert_eq!((kind.as_deref(), code.as_deref()), (Some("invalid_request_error"), Some("invalid_api_key")));
    assert_eq!(message, "no");
    let empty = refusal(client.create(&new_upload()).await.unwrap_err());
    assert_eq!(empty, (502, None, "Bad Gateway (no message)".to_owned()));
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = Peer::replying([]).await;
    let location = format!("location: http://{}/v1/uploads?secret=1\r\n", elsewhere.address);
    for status in [301, 302, 303, 307, 308] {
        let peer = Peer::replying([reply(status, &location, "")]).await;
        let (seen, _, message) = refusal(client(server(&peer)).create(&new_upload()).await.unwrap_err());
        assert_eq!(seen, status);
        assert!(message.contains(&format!("http://{}/v1/uploads,", elsewhere.address)), "{message}");
    }
    assert!(elsewhere.requests().is_empty());
}

/// A peer that answers a Part with `answer` as soon as it has its head, then reads on until the client stops, and tells
/// how many bytes came.
async fn early(answer: Vec<u8>) -> (Peer, mpsc::UnboundedReceiver<u64>) {
    let (tell, told) = mpsc::unbounded_channel();
    let peer = Peer::doing(move |mut stream| {
        let (answer, tell) = (answer.clone(), tell.clone());
        async move {
            read_head(&mut stream).await.unwrap();
            stream.write_all(&answer).await.unwrap();
            let read = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
            let _ = tell.send(read.unwrap_or(0));
        }
    })
    .await;
    (peer, told)
}

#[tokio::test]
async fn an_answer_that_comes_before_the_body_was_sent_is_read_and_ends_the_sending() {
    for (status, close) in [(401, ""), (401, "connection: close\r\n"), (413, "")] {
        let (peer, mut told) = early(reply(status, close, UNAUTHORIZED)).await;
        let endless = stream::repeat_with(|| Ok(Bytes::from_static(&[7; 1 << 18])));
        let sent = client(server(&peer)).add_part(&upload(), 1 << 40, endless).await;
        let (seen, code, _) = refusal(sent.unwrap_err());
        assert_eq!((seen, code.as_deref()), (status, Some("invalid_api_key")));
        told.recv().await.expect("the client ends the connection");
    }
}

#[tokio::test]
async fn a_peer_that_answers_and_resets_gives_its_answer_or_a_broken_connection() {
    // Closing with bytes unread resets the connection, and the client may meet the reset while it writes.
    let peer = Peer::doing(|mut stream| async move {
        read_head(&mut stream).await.unwrap();
        stream.write_all(&reply(413, "connection: close\r\n", "")).await.unwrap();
    })
    .await;
    let client = client(server(&peer));
    for _ in 0..10 {
        match client.add_part(&upload(), LARGE, large_body()).await.unwrap_err() {
            Failure::Transport { .. } => {}
            other => assert_eq!(refusal(other).0, 413),
        }
    }
}

#[tokio::test]
async fn a_part_that_is_accepted_before_it_was_sent_is_not_believed() {
    let (peer, _told) = early(reply(200, "", PART)).await;
    let failure = client(server(&peer)).add_part(&upload(), LARGE, large_body()).await.unwrap_err();
    assert!(matches!(failure, Failure::BadAnswer { .. }), "{failure:?}");
}

#[tokio::test]
async fn a_peer_that_stops_reading_is_a_stall() {
    let peer = Peer::doing(|mut stream| async move {
        read_head(&mut stream).await.unwrap();
        std::future::pending::<()>().await;
    })
    .await;
    let client = client(Server { stall_timeout: SHORT, ..server(&peer) });
    let failure = client.add_part(&upload(), LARGE, large_body()).await.unwrap_err();
    assert_eq!(failure, Failure::Stalled);
}

#[tokio::test]
async fn a_file_that_is_slow_to_read_is_no_stall() {
    let peer = Peer::replying([reply(200, "", PART)]).await;
    let client = client(Server { stall_timeout: SHORT, ..server(&peer) });
    let slow = stream::iter([b"abc", b"def"]).then(|chunk| async move {
        tokio::time::sleep(2 * SHORT).await;
        Ok(Bytes::from_static(chunk))
    });
    client.add_part(&upload(), 6, slow).await.unwrap();
}

#[tokio::test]
async fn a_peer_that_reads_slowly_but_reads_is_no_stall() {
    let peer = Peer::doing(|mut stream| async move {
        let head = read_head(&mut stream).await.unwrap();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        let mut left: usize = length.parse().unwrap();
        let mut buffer = vec![0; 2 << 20];
        while left > 0 {
            let take = left.min(buffer.len());
            stream.read_exact(&mut buffer[..take]).await.unwrap();
            left -= take;
            tokio::time::sleep(SHORT / 6).await;
        }
        stream.write_all(&reply(200, "", PART)).await.unwrap();
        read_head(&mut stream).await;
    })
    .await;
    // In all longer than either timeout. What the kernel still holds when the last byte was taken counts for the answer.
    let client = client(Server { stall_timeout: 4 * SHORT, answer_timeout: 4 * SHORT, ..server(&peer) });
    client.add_part(&upload(), LARGE, large_body()).await.unwrap();
}

#[tokio::test]
async fn a_server_that_never_answers_is_not_waited_for() {
    let peer =
        Peer::doing(|mut stream| async move { while read_request(&mut stream).await.is_some() {} }).await;
    let quick = Server { connect_timeout: SHORT / 3, answer_timeout: SHORT / 3, ..server(&peer) };
    let patient = client(quick.clone());
    assert_eq!(patient.create(&new_upload()).await.unwrap_err(), Failure::NoAnswer);
    assert_eq!(patient.cancel(&upload()).await.unwrap_err(), Failure::NoAnswer);
    assert_eq!(patient.list_files(None, 1, None).await.unwrap_err(), Failure::NoAnswer);
    assert_eq!(patient.add_part(&upload(), 3, body(b"abc")).await.unwrap_err(), Failure::NoAnswer);
    let client =
        client(Server { complete_timeout: SHORT / 3, answer_timeout: Duration::from_secs(60), ..quick });
    assert_eq!(client.complete(&upload(), &[], None).await.unwrap_err(), Failure::NoAnswer);
}

#[tokio::test]
async fn half_an_answer_is_none() {
    let cut = |status, rest: &'static str| {
        Peer::doing(move |mut stream| async move {
            read_request(&mut stream).await.unwrap();
            let whole = reply(status, "x-request-id: req_1\r\n", PENDING);
            stream.write_all(&whole[..whole.len() - 20]).await.unwrap();
            if rest == "hangs" {
                std::future::pending::<()>().await;
            }
        })
    };
    let quick =
        |peer: &Peer| client(Server { connect_timeout: SHORT, answer_timeout: SHORT, ..server(peer) });

    let peer = cut(200, "is cut off").await;
    let failure = client(server(&peer)).create(&new_upload()).await.unwrap_err();
    assert!(matches!(failure, Failure::Transport { .. }), "{failure:?}");
    let peer = cut(200, "hangs").await;
    assert_eq!(quick(&peer).create(&new_upload()).await.unwrap_err(), Failure::NoAnswer);
    // The status of a refusal is not lost with the rest of it.
    let peer = cut(500, "is cut off").await;
    assert_eq!(refusal(client(server(&peer)).create(&new_upload()).await.unwrap_err()).0, 500);
    let peer = cut(403, "hangs").await;
    assert_eq!(refusal(quick(&peer).create(&new_upload()).await.unwrap_err()).0, 403);
}

#[tokio::test]
async fn nobody_there_is_told_from_a_connection_that_broke() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let peer = Peer::doing(|mut stream| async move {
        read_head(&mut stream).await;
    })
    .await;
    let at = |base: String| client(Server { base_url: base.parse().unwrap(), ..server(&peer) });

    let failure = at(format!("http://{address}/v1?secret=1")).create(&new_upload()).await.unwrap_err();
    let Failure::Connect { message } = failure else { panic!("{failure:?}") };
    assert!(message.contains("Connection refused") && !message.contains("secret"), "{message}");
    let plain = Peer::doing(|mut stream| async move {
        stream.read_u8().await.unwrap();
        stream.write_all(&reply(400, "", "")).await.unwrap();
    })
    .await;
    let failure = at(format!("https://{}/v1", plain.address)).create(&new_upload()).await.unwrap_err();
    assert!(matches!(failure, Failure::Connect { .. }), "TLS with a peer that has none: {failure:?}");
    let failure = at(format!("http://{}/v1?secret=1", peer.address)).create(&new_upload()).await.unwrap_err();
    let Failure::Transport { message } = failure else { panic!("{failure:?}") };
    assert!(!message.contains("secret"), "{message}");
}

/// What a client makes of `answer` to each operation.
async fn outcomes(answer: Vec<u8>) -> [Result<(), Failure>; 6] {
    let replies = [(); 6].map(|()| answer.clone());
    let peer = Peer::replying(replies).await;
    let client = client(server(&peer));
    let upload = upload();
    [
        client.create(&new_upload()).await.map(drop),
        client.add_part(&upload, 3, body(b"abc")).await.map(drop),
        client.complete(&upload, &[], None).await.map(drop),
        client.cancel(&upload).await.map(drop),
        client.list_files(None, 1, None).await.map(drop),
        client.get_file(&FileId("file-1".to_owned())).await.map(drop),
    ]
}

#[tokio::test]
async fn a_good_status_with_a_body_that_is_not_the_apis_is_a_bad_answer() {
    for answer in
        ["<html><h1>Log in</h1></html>", "", "null", "[]", "{}", "\u{0}", r#"{"id":""}"#, r#"{"id":7}"#]
    {
        let reply = reply(200, "x-request-id: req_1\r\n", answer);
        for (operation, outcome) in outcomes(reply).await.into_iter().enumerate() {
            match outcome {
                Err(Failure::BadAnswer { facts, .. }) => {
                    assert_eq!(facts.request_id.as_deref(), Some("req_1"))
                }
                other => panic!("{operation} took {answer:?}: {other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn ids_that_cannot_be_ids_are_not_taken() {
    let long = "x".repeat(513);
    for id in [long.as_str(), "..", ".", r"a\nb", r"a\u0000b"] {
        let pending = PENDING.replace("upload_1", id);
        let part = PART.replace("part_1", id);
        let completed = COMPLETED.replace("file-1", id);
        let peer =
            Peer::replying([reply(200, "", &pending), reply(200, "", &part), reply(200, "", &completed)])
                .await;
        let client = client(server(&peer));
        let outcomes = [
            client.create(&new_upload()).await.map(drop),
            client.add_part(&upload(), 3, body(b"abc")).await.map(drop),
            client.complete(&upload(), &[], None).await.map(drop),
        ];
        for outcome in outcomes {
            assert!(matches!(outcome, Err(Failure::BadAnswer { .. })), "{id}: {outcome:?}");
        }
    }
}

#[tokio::test]
async fn an_answer_about_something_else_is_a_bad_answer() {
    let without_file = COMPLETED.split_once(r#","file""#).unwrap().0.to_owned() + "}";
    let null_file = without_file.replace('}', r#","file":null}"#);
    let cases = [
        // Not the Upload that was asked for; no File although completed.
        reply(200, "", &COMPLETED.replace("upload_1", "upload_2")),
        reply(200, "", &without_file),
        reply(200, "", &null_file),
    ];
    let peer = Peer::replying(cases).await;
    let asked = client(server(&peer));
    for _ in 0..3 {
        let failure = asked.complete(&upload(), &[PartId("p".to_owned())], None).await.unwrap_err();
        assert!(matches!(failure, Failure::BadAnswer { .. }), "{failure:?}");
    }
    // A new Upload that is over, or of another size; a Part of another Upload.
    let cases = [reply(200, "", COMPLETED), reply(200, "", &PENDING.replace("11,", "12,"))];
    let peer = Peer::replying(cases).await;
    let asked = client(server(&peer));
    for _ in 0..2 {
        let failure = asked.create(&new_upload()).await.unwrap_err();
        assert!(matches!(failure, Failure::BadAnswer { .. }), "{failure:?}");
    }
    let peer = Peer::replying([reply(200, "", PART)]).await;
    let other = UploadId("upload_2".to_owned());
    let failure = client(server(&peer)).add_part(&other, 3, body(b"abc")).await.unwrap_err();
    assert!(matches!(failure, Failure::BadAnswer { .. }), "{failure:?}");
}

#[tokio::test]
async fn an_endless_answer_is_cut() {
    let endless = |status: u16| {
        Peer::doing(move |mut stream: TcpStream| async move {
            read_request(&mut stream).await.unwrap();
            let head = format!("HTTP/1.1 {status} X\r\ntransfer-encoding: chunked\r\n\r\n");
            stream.write_all(head.as_bytes()).await.unwrap();
            let chunk = [b"10000\r\n".as_slice(), &[b' '; 0x10000], b"\r\n"].concat();
            while stream.write_all(&chunk).await.is_ok() {}
        })
    };
    let peer = endless(200).await;
    let failure = client(server(&peer)).create(&new_upload()).await.unwrap_err();
    assert!(matches!(failure, Failure::BadAnswer { .. }), "{failure:?}");
    let peer = endless(500).await;
    assert_eq!(refusal(client(server(&peer)).create(&new_upload()).await.unwrap_err()).0, 500);
}

#[tokio::test]
async fn the_key_shows_nowhere() {
    let echo = format!(r#"{{"error":{{"message":"you sent Bearer {KEY}","code":"{KEY}"}}}}"#);
    let page = format!("<pre>Authorization: Bearer {KEY}</pre>");
    let replies = [reply(401, "", &echo), reply(400, "", &page), reply(200, "", &page)];
    let peer = Peer::replying(replies).await;
    let client = client(Server { query: vec![("gateway-key".to_owned(), KEY.to_owned())], ..server(&peer) });
    let mut shown = format!("{client:?}");
    for _ in 0..3 {
        let failure = client.create(&new_upload()).await.unwrap_err();
        shown += &format!("{failure} {failure:?}");
    }
    assert!(shown.contains("Authorization: Bearer [key]"), "{shown}");
    assert!(!shown.contains(KEY), "{shown}");
    let unusable = Client::new(server(&peer), "secret key\n".into()).unwrap_err();
    assert!(!format!("{unusable} {unusable:?}").contains("secret"));
}

#[tokio::test]
async fn a_body_that_is_not_as_long_as_announced_is_the_files_failure() {
    let (tell, mut told) = mpsc::unbounded_channel();
    let peer = Peer::doing(move |mut stream| {
        let tell = tell.clone();
        async move { tell.send(read_request(&mut stream).await.is_some()).unwrap() }
    })
    .await;
    let client = client(server(&peer));
    let short = client.add_part(&upload(), 4, body(b"abc")).await.unwrap_err();
    assert_eq!(short, Failure::Source(SourceFailure::Changed));
    let long = client.add_part(&upload(), 2, body(b"abc")).await.unwrap_err();
    assert!(matches!(long, Failure::Source(SourceFailure::Unreadable { .. })), "{long:?}");
    let broken = stream::iter([Ok(Bytes::from_static(b"abc")), Err(io::Error::other("bad sector"))]);
    let broken = client.add_part(&upload(), 4, broken).await.unwrap_err();
    assert_eq!(broken, Failure::Source(SourceFailure::Unreadable { message: "bad sector".to_owned() }));
    for _ in 0..3 {
        assert!(!told.recv().await.unwrap(), "the peer never has a whole request");
    }
}

#[tokio::test]
async fn waiting_for_our_own_limit_is_no_stall_and_bodies_share_it() {
    let peer = Peer::replying([reply(200, "", PART), reply(200, "", PART)]).await;
    // A slice is a KiB, and half a second lies between two of one body; the connection itself may rest for 200 ms.
    let stall_timeout = Duration::from_millis(200);
    let began = upspool::clock::monotonic();
    let limiter = Limiter::new(4 * 1024, upspool::clock::monotonic);
    let client = client(Server { stall_timeout, ..server(&peer) }).limited_by(Some(limiter));
    let id = upload();
    let send = || client.add_part(&id, 3 * 1024, body(&[7; 3 * 1024]));
    let (one, other) = tokio::join!(send(), send());
    one.unwrap();
    other.unwrap();
    // Six KiB, of which the first goes at once.
    let took = upspool::clock::monotonic() - began;
    assert!(took >= Duration::from_millis(1_150), "{took:?}");
}

#[tokio::test]
async fn a_file_that_shrinks_while_it_is_sent_is_changed() {
    let directory = tempfile::TempDir::new().unwrap();
    let path = directory.path().join("file");
    std::fs::write(&path, vec![7; LARGE as usize]).unwrap();
    let peer = Peer::doing(move |mut stream| {
        let path = path.clone();
        async move {
            read_head(&mut stream).await.unwrap();
            std::fs::File::options().write(true).open(path).unwrap().set_len(1000).unwrap();
            let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
        }
    })
    .await;
    let source = Source::open(&directory.path().join("file")).unwrap();
    let progress = Arc::new(AtomicU64::new(0));
    let (bytes, receipt) = source.reader(0..LARGE, progress.clone());
    let failure = client(server(&peer)).add_part(&upload(), LARGE, bytes).await.unwrap_err();
    assert_eq!(failure, Failure::Source(SourceFailure::Changed));
    assert_eq!((receipt.digest(), receipt.failure()), (None, Some(SourceFailure::Changed)));
    assert!(progress.load(Ordering::Relaxed) < LARGE);
}

#[tokio::test]
async fn dropping_a_request_ends_its_connection() {
    let (met, meets) = oneshot::channel();
    let (gone, goes) = oneshot::channel();
    let ends = std::sync::Mutex::new(Some((met, gone)));
    let peer = Peer::doing(move |mut stream| {
        let (met, gone) = ends.lock().unwrap().take().unwrap();
        async move {
            read_head(&mut stream).await.unwrap();
            met.send(()).unwrap();
            let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
            gone.send(()).unwrap();
        }
    })
    .await;
    let client = client(server(&peer));
    let endless = stream::repeat_with(|| Ok(Bytes::from_static(&[7; 1 << 18])));
    let id = upload();
    tokio::select! {
        outcome = client.add_part(&id, 1 << 40, endless) => panic!("{outcome:?}"),
        met = meets => met.unwrap(),
    }
    goes.await.unwrap();
}

#[tokio::test]
async fn settings_that_cannot_work_are_told_at_once() {
    let peer = Peer::replying([]).await;
    let with = |server: Server| Client::new(server, KEY.into()).unwrap_err();
    for base in ["ftp://host/v1", "unix:/run/x", "https://user@host/v1", "https://:pass@host/v1"] {
        let failure = with(Server { base_url: base.parse().unwrap(), ..server(&peer) });
        assert!(matches!(failure, ClientError::BaseUrl), "{base}: {failure:?}");
    }
    let failure = with(Server { project: Some("a\nb".to_owned()), ..server(&peer) });
    assert!(matches!(failure, ClientError::Header { name: "project" }), "{failure:?}");
    let directory = tempfile::TempDir::new().unwrap();
    let ca_file = directory.path().join("ca.pem");
    let failure = with(Server { ca_file: Some(ca_file.clone()), ..server(&peer) });
    assert!(matches!(failure, ClientError::CaUnreadable { .. }), "{failure:?}");
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for content in ["", "no certificate", "-----BEGIN CERTIFICATE-----\n!", broken] {
        std::fs::write(&ca_file, content).unwrap();
        let base_url = "https://localhost/v1".parse().unwrap();
        let failure = with(Server { base_url, ca_file: Some(ca_file.clone()), ..server(&peer) });
        assert!(matches!(failure, ClientError::CaUnusable { .. }), "{content}: {failure:?}");
    }
}
