//! What the emulator refuses, rule by rule.

use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};
use upspool_emulator::{DEFAULT_KEY, Emulator, Limits, Storage};

use crate::client::{answered, form, upload_of, wire, wire_of};

#[tokio::test]
async fn create_refuses_what_its_schema_does_not_allow() {
    let wire = wire().await;
    let with = |key: &str, value: Value| {
        let mut body = upload_of(10);
        body[key] = value;
        body
    };
    let without = |key: &str| {
        let mut body = upload_of(10);
        body.as_object_mut().unwrap().remove(key);
        body
    };
    let cases = [
        (with("md5", json!("x")), "Additional properties are not allowed ('md5' was unexpected)"),
        (without("filename"), "'filename' is a required property"),
        (without("purpose"), "'purpose' is a required property"),
        (without("bytes"), "'bytes' is a required property"),
        (without("mime_type"), "'mime_type' is a required property"),
        (with("filename", json!(3)), "3 is not of type 'string' - 'filename'"),
        (with("filename", json!("")), "'filename' is empty"),
        (with("purpose", json!("other")), "'other' is not one of ["),
        (with("purpose", json!(null)), "null is not of type 'string' - 'purpose'"),
        (with("bytes", json!("10")), "\"10\" is not a positive integer"),
        (with("bytes", json!(1.5)), "1.5 is not a positive integer"),
        (with("bytes", json!(0)), "0 is not a positive integer"),
        (with("bytes", json!(-1)), "-1 is not a positive integer"),
        (with("bytes", json!((8_u64 << 30) + 1)), "File is too large."),
        (with("expires_after", json!(null)), "null is not of type 'object'"),
        (with("expires_after", json!({"anchor": "now", "seconds": 3600})), "'anchor' must be"),
        (with("expires_after", json!({"anchor": "created_at", "seconds": 3599})), "'seconds' must be"),
        (with("expires_after", json!({"anchor": "created_at", "seconds": 2_592_001})), "'seconds' must be"),
        (
            with("expires_after", json!({"anchor": "created_at", "seconds": 3600, "x": 1})),
            "('x' was unexpected)",
        ),
        (json!([]), "The body is not an object"),
    ];
    for (body, message) in cases {
        let (status, answer) = wire.post("/uploads", body.clone()).await;
        assert_eq!(status, 400, "{body}");
        let said = answer["error"]["message"].as_str().unwrap();
        assert!(said.starts_with(message) || said.ends_with(message), "{body}: {said}");
        let keys: Vec<&String> = answer["error"].as_object().unwrap().keys().collect();
        assert_eq!(keys, ["code", "message", "param", "type"]);
    }
    let plain =
        wire.client.post(wire.url("/uploads")).bearer_auth(DEFAULT_KEY).body(upload_of(1).to_string());
    assert_eq!(answered(plain.send().await.unwrap()).await.0, 400);
    assert!(wire.emulator.uploads().is_empty());
}

#[tokio::test]
async fn create_accepts_the_limits_themselves() {
    let wire = wire().await;
    for purpose in ["assistants", "batch", "fine-tune", "vision", "user_data", "evals"] {
        let mut body = upload_of(1);
        body["purpose"] = json!(purpose);
        body["bytes"] = json!(8_u64 << 30);
        body["expires_after"] = json!({"anchor": "created_at", "seconds": 2_592_000});
        assert_eq!(wire.post("/uploads", body).await.0, 200);
    }
}

#[tokio::test]
async fn a_part_is_one_field_data_within_the_limit() {
    let limits = Limits { part_bytes: 100, ..Limits::default() };
    let wire = wire_of(Emulator::builder().limits(limits)).await;
    let upload = wire.create(100).await;
    let path = format!("/uploads/{upload}/parts");
    let named = |name: &'static str| Form::new().part(name, Part::bytes(b"abc".to_vec()).file_name("part"));
    let cases = [
        (named("file"), "('file' was unexpected)"),
        (form(b"abc").text("purpose", "batch"), "('purpose' was unexpected)"),
        (form(b"abc").part("data", Part::bytes(b"def".to_vec())), "('data' was unexpected)"),
        (Form::new(), ""),
        (form(&[7; 101]), "The maximum is 100 bytes."),
    ];
    for (form, message) in cases {
        let (status, answer) = answered(wire.try_form(&path, form).await.unwrap()).await;
        assert_eq!(status, 400);
        let said = answer["error"]["message"].as_str().unwrap();
        assert!(said.ends_with(message), "{said}");
    }
    let raw = wire.client.post(wire.url(&path)).bearer_auth(DEFAULT_KEY).body("abc");
    assert_eq!(answered(raw.send().await.unwrap()).await.0, 400);
    let cut = wire.client.post(wire.url(&path)).bearer_auth(DEFAULT_KEY);
    let cut = cut.header("content-type", "multipart/form-data; boundary=x");
    let cut =
        cut.body("--x\r\nContent-Disposition: form-data; name=\"data\"; filename=\"p\"\r\n\r\nabc\r\n--");
    assert_eq!(answered(cut.send().await.unwrap()).await.0, 400);
    assert!(wire.emulator.uploads()[0].parts.is_empty());
    wire.part(&upload, &[7; 100]).await;
    wire.part(&upload, &[]).await;
}

#[tokio::test]
async fn complete_refuses_lists_that_do_not_fit() {
    let wire = wire().await;
    let (upload, part) = wire.filled(b"0123456789").await;
    let (_, foreign) = wire.filled(b"0123456789").await;
    let path = format!("/uploads/{upload}/complete");
    let cases = [
        json!({}),
        json!({"part_ids": part}),
        json!({"part_ids": [1]}),
        json!({"part_ids": [part], "order": "asc"}),
        json!({"part_ids": [part], "md5": null}),
        json!({"part_ids": [part], "md5": "d41d8cd98f00b204e9800998ecf8427e"}),
        json!({"part_ids": [part], "md5": "781E5E245D69B566979B86E28D23F2C7"}),
        json!({"part_ids": []}),
        json!({"part_ids": [part, part]}),
        json!({"part_ids": [foreign]}),
        json!({"part_ids": ["part_unknown"]}),
    ];
    for body in cases {
        let (status, answer) = wire.post(&path, body.clone()).await;
        assert_eq!(status, 400, "{body}: {answer}");
        assert_eq!(answer["error"]["type"], "invalid_request_error");
    }
    assert!(wire.emulator.files().is_empty());
    let right = json!({"part_ids": [part], "md5": "781e5e245d69b566979b86e28d23f2c7"});
    assert_eq!(wire.post(&path, right).await.0, 200);
}

#[tokio::test]
async fn no_part_is_added_after_an_end() {
    let wire = wire().await;
    let (completed, part) = wire.filled(b"x").await;
    wire.complete(&completed, &[&part]).await;
    let cancelled = wire.create(1).await;
    wire.cancel(&cancelled).await;
    let expired = wire.create(1).await;
    wire.emulator.advance(std::time::Duration::from_secs(3600));
    for (upload, word) in [(completed, "completed"), (cancelled, "cancelled"), (expired, "expired")] {
        let (status, answer) = wire.part_answer(&upload, b"y").await;
        assert_eq!(status, 400);
        assert!(answer["error"]["message"].as_str().unwrap().contains(word));
        let (status, _) = wire.complete(&upload, &[&part]).await;
        assert_eq!(status, 400);
    }
    assert_eq!(wire.part_answer("upload_unknown", b"y").await.0, 404);
}

#[tokio::test]
async fn an_upload_lives_to_the_second_it_was_given() {
    let wire = wire().await;
    let (upload, part) = wire.filled(b"x").await;
    wire.emulator.advance(std::time::Duration::from_secs(3590));
    wire.part(&upload, b"still").await;
    wire.emulator.advance(std::time::Duration::from_secs(10));
    assert_eq!(wire.complete(&upload, &[&part]).await.0, 400);
}

#[tokio::test]
async fn a_file_expires_when_it_was_told_to() {
    let wire = wire().await;
    let mut body = upload_of(1);
    body["expires_after"] = json!({"anchor": "created_at", "seconds": 3600});
    let (_, upload) = wire.post("/uploads", body).await;
    let upload = upload["id"].as_str().unwrap();
    let part = wire.part(upload, b"x").await;
    let (_, done) = wire.complete(upload, &[&part]).await;
    let path = format!("/files/{}", done["file"]["id"].as_str().unwrap());
    assert!(done["file"]["expires_at"].is_i64());
    assert_eq!(wire.get(&path).await.0, 200);
    wire.emulator.advance(std::time::Duration::from_secs(3600));
    assert_eq!(wire.get(&path).await.0, 404);
}

#[tokio::test]
async fn a_wrong_key_is_refused_in_openais_words() {
    let wire = wire_of(Emulator::builder().api_key("sk-right")).await;
    let file = "/files";
    for authorization in [None, Some("Bearer sk-wrong"), Some("sk-right"), Some("Basic sk-right")] {
        let mut request = wire.client.get(wire.url(file));
        if let Some(value) = authorization {
            request = request.header("authorization", value);
        }
        let (status, answer) = answered(request.send().await.unwrap()).await;
        assert_eq!(status, 401);
        assert_eq!(answer["error"]["type"], "invalid_request_error");
    }
    wire.emulator.set_api_keys(["sk-new"]);
    let request = wire.client.get(wire.url(file)).bearer_auth("sk-new");
    assert_eq!(request.send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn lists_refuse_parameters_out_of_range() {
    let wire = wire().await;
    for query in ["limit=0", "limit=10001", "limit=x", "order=up", "after=file-unknown"] {
        assert_eq!(wire.get(&format!("/files?{query}")).await.0, 400, "{query}");
    }
    assert_eq!(wire.get("/uploads").await.0, 404);
}

#[tokio::test]
async fn discarding_storage_counts_and_keeps_nothing() {
    let wire = wire_of(Emulator::builder().storage(Storage::Discard)).await;
    let file = wire.file(b"0123456789").await;
    assert_eq!(wire.emulator.files()[0].sha256, None);
    assert_eq!(wire.get(&format!("/files/{file}/content")).await.0, 400);
}

#[tokio::test]
async fn zeros_cost_no_disk_and_come_back() {
    use std::os::unix::fs::MetadataExt;
    let folder = tempfile::tempdir().unwrap();
    let wire = wire_of(Emulator::builder().storage(Storage::Disk(folder.path().to_owned()))).await;
    let mut content = vec![0; 3 << 20];
    content[1_500_000] = 7;
    let file = wire.file(&content).await;
    let spooled: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap()).collect();
    let meta = spooled[0].metadata().unwrap();
    assert_eq!(meta.len(), 3 << 20);
    assert!(meta.blocks() * 512 <= 64 * 1024, "{} blocks", meta.blocks());
    assert_eq!(wire.content(&file).await, content);
    wire.emulator.reset();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
