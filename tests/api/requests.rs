//! What is sent, and what is made of a good answer.

use upspool::api::{Auth, ClientError, NewUpload, Server};
use upspool::model::answer::{FileId, PartId, UploadId, UploadStatus};

use super::peer::{Peer, Request, reply};
use super::{COMPLETED, KEY, PART, PENDING, body, client, new_upload, server, upload};

/// The head without the header that differs with each request, and what that header said.
fn split_trace(request: &Request) -> (String, String) {
    let (trace, rest): (Vec<_>, Vec<_>) =
        request.head.split_inclusive("\r\n").partition(|line| line.starts_with("x-client-request-id: "));
    (rest.concat(), trace.concat())
}

#[tokio::test]
async fn create_sends_exactly_this() {
    let peer = Peer::replying([reply(200, "x-request-id: req_1\r\n", PENDING)]).await;
    let (upload, facts) = client(server(&peer)).create(&new_upload()).await.unwrap();
    assert_eq!((upload.id, upload.status), (UploadId("upload_1".to_owned()), UploadStatus::Pending));
    assert_eq!((upload.bytes, upload.created_at, upload.expires_at), (Some(11), 100, 3700));
    assert_eq!((facts.status, facts.request_id.as_deref()), (200, Some("req_1")));

    let request = &peer.requests()[0];
    let (head, trace) = split_trace(request);
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        head,
        format!(
            "POST /v1/uploads HTTP/1.1\r\nauthorization: Bearer {KEY}\r\ncontent-type: application/json\r\n\
             accept: application/json\r\nuser-agent: upspool/{version}\r\nhost: {}\r\ncontent-length: 76\r\n\r\n",
            peer.address
        )
    );
    assert!(trace.len() > 40 && trace.is_ascii(), "{trace}");
    let json = r#"{"filename":"a.jsonl","purpose":"batch","bytes":11,"mime_type":"text/jsonl"}"#;
    assert_eq!(String::from_utf8_lossy(&request.body), json);
}

#[tokio::test]
async fn create_can_say_how_long_the_file_lives() {
    let peer = Peer::replying([reply(200, "", PENDING)]).await;
    let new = NewUpload { expires_after_seconds: Some(3600), ..new_upload() };
    client(server(&peer)).create(&new).await.unwrap();
    let json = r#"{"filename":"a.jsonl","purpose":"batch","bytes":11,"mime_type":"text/jsonl","expires_after":{"anchor":"created_at","seconds":3600}}"#;
    assert_eq!(String::from_utf8_lossy(&peer.requests()[0].body), json);
}

#[tokio::test]
async fn a_part_is_one_field_of_a_known_length() {
    let peer = Peer::replying([reply(200, "", PART)]).await;
    let (part, _) = client(server(&peer)).add_part(&upload(), 11, body(b"hello\r\nbody")).await.unwrap();
    assert_eq!(part.0, "part_1");

    let request = &peer.requests()[0];
    let boundary =
        request.header("content-type").unwrap().strip_prefix("multipart/form-data; boundary=").unwrap();
    let sent = format!(
        "--{boundary}\r\nContent-Disposition: form-data; name=\"data\"; filename=\"part\"\r\n\
         Content-Type: application/octet-stream\r\n\r\nhello\r\nbody\r\n--{boundary}--\r\n"
    );
    assert_eq!(String::from_utf8_lossy(&request.body), sent);
    assert_eq!(request.header("content-length"), Some(sent.len().to_string().as_str()));
    assert_eq!(request.header("transfer-encoding"), None);
    assert!(request.head.starts_with("POST /v1/uploads/upload_1/parts HTTP/1.1\r\n"));
}

#[tokio::test]
async fn complete_and_cancel_send_exactly_this() {
    let cancelled = PENDING.replace("pending", "cancelled");
    let replies = [reply(200, "", COMPLETED), reply(200, "", COMPLETED), reply(200, "", &cancelled)];
    let peer = Peer::replying(replies).await;
    let client = client(server(&peer));
    let parts = [PartId("part_2".to_owned()), PartId("a/b+c=".to_owned())];
    let (done, _) = client.complete(&upload(), &parts, Some("00ff")).await.unwrap();
    assert_eq!(done.status, UploadStatus::Completed);
    let file = done.file.unwrap();
    assert_eq!((file.id.0.as_str(), file.bytes, file.created_at), ("file-1", None, 200));
    client.complete(&upload(), &[], None).await.unwrap();
    assert_eq!(client.cancel(&upload()).await.unwrap().0.status, UploadStatus::Cancelled);

    let requests = peer.requests();
    assert!(requests[0].head.starts_with("POST /v1/uploads/upload_1/complete HTTP/1.1\r\n"));
    assert_eq!(requests[0].body, br#"{"part_ids":["part_2","a/b+c="],"md5":"00ff"}"#);
    assert_eq!(requests[1].body, br#"{"part_ids":[]}"#);
    assert!(requests[2].head.starts_with("POST /v1/uploads/upload_1/cancel HTTP/1.1\r\n"));
    assert_eq!((requests[2].header("content-length"), requests[2].body.len()), (Some("0"), 0));
    let traces: std::collections::HashSet<_> =
        requests.iter().map(|request| split_trace(request).1).collect();
    assert_eq!(traces.len(), 3, "each request has an id of its own");
}

#[tokio::test]
async fn files_are_listed_newest_first_and_by_page() {
    let page = r#"{"object":"list","data":[
        {"id":"file-2","bytes":5,"created_at":20,"filename":"b","purpose":"user_data","expires_at":99},
        {"id":"file-1","bytes":null,"created_at":1.0e1,"filename":"a","purpose":"batch_output"}],"has_more":true}"#;
    let file = r#"{"id":"a/b+c=","bytes":5,"created_at":20,"filename":"b","purpose":"batch"}"#;
    let peer = Peer::replying([reply(200, "", page), reply(200, "", page), reply(200, "", file)]).await;
    let client = client(server(&peer));
    let (page, _) = client.list_files(None, 100, None).await.unwrap();
    assert!(page.has_more);
    let seen: Vec<_> =
        page.files.iter().map(|file| (file.id.0.as_str(), file.bytes, file.created_at)).collect();
    assert_eq!(seen, [("file-2", Some(5), 20), ("file-1", None, 10)]);
    let odd = FileId("a/b+c=".to_owned());
    client.list_files(Some("user data"), 2, Some(&odd)).await.unwrap();
    assert_eq!(client.get_file(&odd).await.unwrap().0.id, odd);

    let lines: Vec<_> = peer.requests().iter().map(|request| request.line().to_owned()).collect();
    assert_eq!(
        lines,
        [
            "GET /v1/files?order=desc&limit=100 HTTP/1.1",
            "GET /v1/files?order=desc&limit=2&purpose=user+data&after=a%2Fb%2Bc%3D HTTP/1.1",
            "GET /v1/files/a%2Fb%2Bc%3D HTTP/1.1",
        ]
    );
}

#[tokio::test]
async fn azure_is_spoken_to_in_its_own_dialect() {
    let pending = r#"{"id":"a/b+c=","status":"pending","bytes":11,"filename":"a.jsonl","created_at":1,"expires_at":2,
        "file":{"id":"file-9","created_at":1,"bytes":11,"status":"pending"}}"#;
    let part = r#"{"id":"uplprt-1","upload_id":"a/b+c=","azure_block_id":"AAAA=="}"#;
    let peer = Peer::replying([reply(200, "apim-request-id: az\r\n", pending), reply(200, "", part)]).await;
    let client = client(Server {
        base_url: format!("http://{}/openai/?keep=1#fragment", peer.address).parse().unwrap(),
        auth: Auth::ApiKey,
        organization: Some("org-1".to_owned()),
        project: Some("proj_1".to_owned()),
        query: vec![("api-version".to_owned(), "2024-10-21".to_owned())],
        ..server(&peer)
    });
    let (upload, facts) = client.create(&new_upload()).await.unwrap();
    assert_eq!((upload.status, upload.file.unwrap().id.0.as_str()), (UploadStatus::Pending, "file-9"));
    assert_eq!(facts.request_id.as_deref(), Some("az"));
    client.add_part(&upload.id, 3, body(b"abc")).await.unwrap();

    let requests = peer.requests();
    assert_eq!(requests[0].line(), "POST /openai/uploads?keep=1&api-version=2024-10-21 HTTP/1.1");
    assert_eq!(
        requests[1].line(),
        "POST /openai/uploads/a%2Fb%2Bc%3D/parts?keep=1&api-version=2024-10-21 HTTP/1.1"
    );
    for request in &requests {
        assert_eq!((request.header("api-key"), request.header("authorization")), (Some(KEY), None));
        assert_eq!(request.header("openai-organization"), Some("org-1"));
        assert_eq!(request.header("openai-project"), Some("proj_1"));
    }
}

#[tokio::test]
async fn connections_are_used_again_and_parts_have_their_own() {
    let replies = [PENDING, PART, PART, COMPLETED, COMPLETED].map(|body| reply(200, "", body));
    let peer = Peer::replying(replies).await;
    let client = client(server(&peer));
    client.create(&new_upload()).await.unwrap();
    client.add_part(&upload(), 3, body(b"abc")).await.unwrap();
    client.add_part(&upload(), 3, body(b"abc")).await.unwrap();
    client.complete(&upload(), &[PartId("part_1".into())], None).await.unwrap();
    let parts = [PartId("part_1".into()), PartId("part_2".into())];
    client.complete(&upload(), &parts, None).await.unwrap();
    let connections: Vec<_> = peer.requests().iter().map(|request| request.connection).collect();
    assert_eq!(connections, [0, 1, 1, 0, 1], "the complete of several Parts takes one of theirs");
}

#[tokio::test]
async fn a_new_key_is_sent_from_then_on_by_every_clone() {
    let peer = Peer::replying([reply(200, "", PENDING), reply(200, "", PENDING)]).await;
    let client = client(server(&peer));
    let clone = client.clone();
    client.create(&new_upload()).await.unwrap();
    client.set_key("sk-other-key".into()).unwrap();
    assert!(matches!(client.set_key("no\nkey".into()), Err(ClientError::Key)));
    clone.create(&new_upload()).await.unwrap();
    let keys: Vec<_> =
        peer.requests().iter().map(|r| r.header("authorization").unwrap().to_owned()).collect();
    assert_eq!(keys, [format!("Bearer {KEY}"), "Bearer sk-other-key".to_owned()]);
}
