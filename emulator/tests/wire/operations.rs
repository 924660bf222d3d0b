//! What each operation does when nothing is wrong.

use crate::client::{SOON, answered, form, sha256, upload_of, wire, wire_of};
use reqwest::multipart::{Form, Part};
use serde_json::json;
use upspool_emulator::{DEFAULT_KEY, Emulator, Operation, Storage, UploadStatus};

#[tokio::test]
async fn an_upload_becomes_the_file_of_its_parts_in_the_order_of_complete() {
    let folder = tempfile::tempdir().unwrap();
    for storage in [Storage::Memory, Storage::Disk(folder.path().join("spool"))] {
        let wire = wire_of(Emulator::builder().storage(storage)).await;
        let (status, upload) = wire.post("/uploads", upload_of(11)).await;
        assert_eq!(status, 200);
        assert_eq!(upload["status"], "pending");
        assert_eq!(upload["object"], "upload");
        assert_eq!(upload["bytes"], 11);
        assert_eq!(upload["expires_at"].as_i64().unwrap() - upload["created_at"].as_i64().unwrap(), 3600);
        assert!(upload.get("file").is_none());
        let id = upload["id"].as_str().unwrap();
        let world = wire.part(id, b"world").await;
        let unlisted = wire.part(id, b"never listed").await;
        let hello = wire.part(id, b"hello ").await;
        let (status, done) = wire.complete(id, &[&hello, &world]).await;
        assert_eq!((status, &done["status"]), (200, &json!("completed")));
        let file = done["file"]["id"].as_str().unwrap();
        assert_eq!(wire.content(file).await, b"hello world");

        let files = wire.emulator.files();
        assert_eq!(files.len(), 1);
        assert_eq!(files[0].id, file);
        assert_eq!(files[0].sha256.as_deref(), Some(sha256(b"hello world").as_str()));
        assert_eq!(files[0].md5.as_deref(), Some("5eb63bbbe01eeed093cb22bb8f5acdc3"));
        let uploads = wire.emulator.uploads();
        assert_eq!(uploads[0].status, UploadStatus::Completed);
        assert_eq!(uploads[0].parts.len(), 3);
        assert_eq!(uploads[0].parts[1].id, unlisted);
    }
}

#[tokio::test]
async fn a_record_says_what_was_asked_and_what_was_answered() {
    let wire = wire().await;
    let (upload, part) = wire.filled(b"some bytes").await;
    let request =
        wire.emulator.wait_for(|request| request.part_id.is_some() && request.finished, SOON).await.unwrap();
    assert_eq!(request.operation, Operation::Part);
    assert_eq!(request.upload_id.as_deref(), Some(upload.as_str()));
    assert_eq!(request.part_id, Some(part));
    assert_eq!(request.filename.as_deref(), Some("a.jsonl"));
    assert_eq!(request.data_bytes, 10);
    assert!(request.body_bytes > 10);
    assert_eq!(request.body_bytes.to_string(), request.header("content-length").unwrap());
    assert_eq!(request.sha256.as_deref(), Some(sha256(b"some bytes").as_str()));
    assert_eq!(request.header("authorization"), Some(format!("Bearer {DEFAULT_KEY}").as_str()));
    assert_eq!((request.status, request.worked, request.delivered), (Some(200), true, true));
    assert_eq!(wire.emulator.most_parts_in_flight(), 1);
}

#[tokio::test]
async fn a_cancelled_upload_is_cancelled() {
    let wire = wire().await;
    let upload = wire.create(5).await;
    let (status, json) = wire.cancel(&upload).await;
    assert_eq!((status, &json["status"]), (200, &json!("cancelled")));
    assert_eq!(wire.emulator.uploads()[0].status, UploadStatus::Cancelled);
}

#[tokio::test]
async fn files_are_listed_in_pages_either_way() {
    let wire = wire().await;
    let mut ids = Vec::new();
    for content in [b"1", b"2", b"3"] {
        ids.push(wire.file(content).await);
        wire.emulator.advance(std::time::Duration::from_secs(2));
    }
    let (_, all) = wire.get("/files").await;
    assert_eq!(all["data"].as_array().unwrap().len(), 3);
    assert_eq!(
        (&all["first_id"], &all["last_id"], &all["has_more"]),
        (&json!(ids[2]), &json!(ids[0]), &json!(false))
    );
    let (_, page) = wire.get("/files?limit=2&order=asc").await;
    assert_eq!((&page["last_id"], &page["has_more"]), (&json!(ids[1]), &json!(true)));
    let (_, next) = wire.get(&format!("/files?limit=2&order=asc&after={}", ids[1])).await;
    assert_eq!((&next["first_id"], &next["has_more"]), (&json!(ids[2]), &json!(false)));
    let (_, none) = wire.get("/files?purpose=batch").await;
    assert_eq!((&none["data"], &none["first_id"]), (&json!([]), &json!(null)));
}

#[tokio::test]
async fn a_file_is_posted_whole_fetched_and_deleted() {
    let wire = wire().await;
    let content = Part::bytes(b"{}".to_vec()).file_name("b.jsonl");
    let form = Form::new()
        .text("purpose", "batch")
        .text("expires_after[anchor]", "created_at")
        .text("expires_after[seconds]", "3600")
        .part("file", content);
    let (status, file) = answered(wire.try_form("/files", form).await.unwrap()).await;
    assert_eq!(status, 200, "{file}");
    assert_eq!(
        (&file["filename"], &file["bytes"], &file["purpose"]),
        (&json!("b.jsonl"), &json!(2), &json!("batch"))
    );
    let path = format!("/files/{}", file["id"].as_str().unwrap());
    assert_eq!(wire.get(&path).await, (200, file.clone()));
    let (status, deleted) = wire.delete(&path).await;
    assert_eq!((status, &deleted["deleted"]), (200, &json!(true)));
    assert_eq!(wire.get(&path).await.0, 404);
}

#[tokio::test]
async fn every_answer_has_the_headers_of_the_api() {
    let wire = wire().await;
    let mut ids = std::collections::BTreeSet::new();
    for body in [upload_of(1), json!({})] {
        let response = wire.try_post("/uploads", body).await.unwrap();
        assert!(response.headers().contains_key("openai-processing-ms"));
        assert_eq!(response.headers()["openai-version"], "2020-10-01");
        ids.insert(response.headers()["x-request-id"].to_str().unwrap().to_owned());
    }
    assert_eq!(ids.len(), 2);
}

#[tokio::test]
async fn azure_has_its_own_paths_header_ids_and_lifetime() {
    let wire = wire_of(Emulator::builder().azure()).await;
    let base = wire.emulator.base_url();
    let send = |path: String, key: &'static str| {
        wire.client.post(format!("{base}{path}?api-version=2024-10-21")).header("api-key", key)
    };
    let (status, _) =
        answered(send("/uploads".into(), "wrong").json(&upload_of(3)).send().await.unwrap()).await;
    assert_eq!(status, 401);
    let (status, upload) =
        answered(send("/uploads".into(), DEFAULT_KEY).json(&upload_of(3)).send().await.unwrap()).await;
    assert_eq!((status, &upload["status"]), (200, &json!("pending")));
    let file = upload["file"]["id"].as_str().unwrap();
    assert_eq!(upload["expires_at"].as_i64().unwrap() - upload["created_at"].as_i64().unwrap(), 7200);
    let id = upload["id"].as_str().unwrap();

    let typeless = Form::new().part("data", Part::bytes(b"abc".to_vec()).file_name("part"));
    let request = send(format!("/uploads/{id}/parts"), DEFAULT_KEY).multipart(typeless);
    let (status, refusal) = answered(request.send().await.unwrap()).await;
    assert_eq!((status, &refusal["error"]["code"]), (400, &json!("invalidPayload")));

    let request = send(format!("/uploads/{id}/parts"), DEFAULT_KEY).multipart(form(b"abc"));
    let (_, part) = answered(request.send().await.unwrap()).await;
    let part_id = part["id"].as_str().unwrap();
    assert!(part_id.contains('/') && part_id.contains('+') && part_id.contains('='), "{part_id}");
    let block_id = part["azure_block_id"].as_str().unwrap();
    assert!(block_id.contains('/') && block_id.contains('='), "{block_id}");
    let request = send(format!("/uploads/{id}/complete"), DEFAULT_KEY).json(&json!({"part_ids": [block_id]}));
    let (status, done) = answered(request.send().await.unwrap()).await;
    assert_eq!((status, &done["file"]["id"]), (200, &json!(file)));

    let plain =
        wire.client.post(format!("{base}/uploads")).header("api-key", DEFAULT_KEY).json(&upload_of(3));
    let (status, missing) = answered(plain.send().await.unwrap()).await;
    assert_eq!((status, &missing["error"]["code"]), (404, &json!("404")));
}

#[tokio::test]
async fn an_outage_refuses_and_keeps_state() {
    let mut wire = wire().await;
    let file = wire.file(b"kept").await;
    let address = wire.emulator.address();
    wire.emulator.pause().await;
    // A new client, since a pooled connection may learn of its end only as it is used.
    let refused = reqwest::Client::new().get(wire.url("/files")).send().await.unwrap_err();
    assert!(refused.is_connect());
    wire.emulator.resume().await.unwrap();
    assert_eq!(wire.emulator.address(), address);
    assert_eq!(wire.get(&format!("/files/{file}")).await.0, 200);
}
