//! Each choice where the documentation is silent, made each way.

use serde_json::{Value, json};
use upspool_emulator::variants::{
    AfterMismatch, ErrorStyle, ExpiresAt, FileCreatedAt, Md5Form, Outcome, PendingFile, Presence, Purposes,
    UnlistedParts,
};
use upspool_emulator::variants::{ChunkedPart, PartContentType};
use upspool_emulator::{DEFAULT_KEY, Emulator, ScriptFile, UploadStatus, Variants};

use crate::client::{Wire, answered, upload_of, wire, wire_of};

const HOUR: std::time::Duration = std::time::Duration::from_secs(3600);

async fn with(variants: Variants) -> Wire {
    wire_of(Emulator::builder().variants(variants)).await
}

#[tokio::test]
async fn a_second_complete_and_cancels_answer_as_chosen() {
    for outcome in [Outcome::Upload, Outcome::Refused(404), Outcome::Refused(409)] {
        let expected = if let Outcome::Refused(status) = outcome { status } else { 200 };
        let wire = with(Variants {
            second_complete: outcome,
            cancel_after_complete: outcome,
            second_cancel: outcome,
            cancel_after_expiry: outcome,
            ..Variants::default()
        })
        .await;
        let status_if_ok = |(status, json): (u16, Value), word: &str| {
            assert_eq!(status, expected);
            assert!(status != 200 || json["status"] == word, "{json}");
            json
        };
        let (completed, part) = wire.filled(b"x").await;
        let (_, first) = wire.complete(&completed, &[&part]).await;
        let second = status_if_ok(wire.complete(&completed, &[&part]).await, "completed");
        assert!(expected != 200 || second["file"] == first["file"]);
        status_if_ok(wire.cancel(&completed).await, "completed");
        let cancelled = wire.create(1).await;
        wire.cancel(&cancelled).await;
        status_if_ok(wire.cancel(&cancelled).await, "cancelled");
        let expired = wire.create(1).await;
        wire.emulator.advance(HOUR);
        status_if_ok(wire.cancel(&expired).await, "expired");
        assert_eq!(wire.emulator.files().len(), 1);
    }
}

#[tokio::test]
async fn ended_uploads_refuse_with_the_chosen_statuses() {
    let wire = with(Variants {
        part_after_expiry: 410,
        part_after_cancel: 409,
        part_after_complete: 403,
        complete_after_expiry: 404,
        complete_after_cancel: 422,
        not_found: 410,
        ..Variants::default()
    })
    .await;
    let (completed, part) = wire.filled(b"x").await;
    wire.complete(&completed, &[&part]).await;
    let (cancelled, cancelled_part) = wire.filled(b"x").await;
    wire.cancel(&cancelled).await;
    let (expired, expired_part) = wire.filled(b"x").await;
    wire.emulator.advance(HOUR);
    assert_eq!(wire.part_answer(&expired, b"y").await.0, 410);
    assert_eq!(wire.part_answer(&cancelled, b"y").await.0, 409);
    assert_eq!(wire.part_answer(&completed, b"y").await.0, 403);
    assert_eq!(wire.complete(&expired, &[&expired_part]).await.0, 404);
    assert_eq!(wire.complete(&cancelled, &[&cancelled_part]).await.0, 422);
    assert_eq!(wire.cancel("upload_unknown").await.0, 410);
    assert_eq!(wire.get("/files/file-unknown").await.0, 410);
}

#[tokio::test]
async fn mismatches_refuse_with_the_chosen_statuses_and_may_end_the_upload() {
    for (after, left) in [(AfterMismatch::Pending, 1), (AfterMismatch::Gone, 0)] {
        let wire = with(Variants {
            bad_part_list: 404,
            wrong_size: 409,
            wrong_md5: 422,
            after_mismatch: after,
            ..Variants::default()
        })
        .await;
        let (upload, part) = wire.filled(b"x").await;
        assert_eq!(wire.complete(&upload, &["part_unknown"]).await.0, 404);
        let body = json!({"part_ids": [part], "md5": "0"});
        assert_eq!(wire.post(&format!("/uploads/{upload}/complete"), body).await.0, 422);
        assert_eq!(wire.emulator.uploads().len(), left);
        let short = wire.create(2).await;
        let part = wire.part(&short, b"x").await;
        assert_eq!(wire.complete(&short, &[&part]).await.0, 409);
        assert_eq!(wire.emulator.uploads().len(), 2 * left);
    }
}

#[tokio::test]
async fn unlisted_parts_count_or_not() {
    for (unlisted_parts, expected) in [(UnlistedParts::Ignored, 200), (UnlistedParts::Counted, 400)] {
        let wire = with(Variants { unlisted_parts, ..Variants::default() }).await;
        let (upload, part) = wire.filled(b"x").await;
        wire.part(&upload, b"x").await;
        assert_eq!(wire.complete(&upload, &[&part]).await.0, expected);
    }
}

#[tokio::test]
async fn md5_is_hex_or_base64() {
    for (md5, written) in
        [(Md5Form::Hex, "9dd4e461268c8034f5c8564e155c67a6"), (Md5Form::Base64, "ndTkYSaMgDT1yFZOFVxnpg==")]
    {
        let wire = with(Variants { md5, ..Variants::default() }).await;
        let (upload, part) = wire.filled(b"x").await;
        let body = json!({"part_ids": [part], "md5": written});
        assert_eq!(wire.post(&format!("/uploads/{upload}/complete"), body).await.0, 200);
    }
}

#[tokio::test]
async fn a_files_time_is_that_of_completion_or_of_the_upload() {
    for (file_created_at, age) in [(FileCreatedAt::Completion, 100), (FileCreatedAt::Upload, 0)] {
        let wire = with(Variants { file_created_at, ..Variants::default() }).await;
        let (upload, part) = wire.filled(b"x").await;
        wire.emulator.advance(std::time::Duration::from_secs(100));
        let (_, done) = wire.complete(&upload, &[&part]).await;
        let apart = done["file"]["created_at"].as_i64().unwrap() - done["created_at"].as_i64().unwrap();
        assert!((age..age + 10).contains(&apart), "{apart}");
    }
}

#[tokio::test]
async fn expires_at_may_lie_before_created_at_and_the_clock_may_be_wrong() {
    let wire = wire_of(
        Emulator::builder()
            .skew(-7200)
            .variants(Variants { expires_at: ExpiresAt::BeforeCreated, ..Variants::default() }),
    )
    .await;
    let (_, upload) = wire.post("/uploads", upload_of(1)).await;
    let created_at = upload["created_at"].as_i64().unwrap();
    assert!(upload["expires_at"].as_i64().unwrap() < created_at);
    let real = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    assert!((7190..7210).contains(&(i64::try_from(real).unwrap() - created_at)));
    wire.part(upload["id"].as_str().unwrap(), b"x").await;
}

#[tokio::test]
async fn a_pending_upload_shows_no_file_null_or_one_that_is_to_be() {
    for pending_file in [PendingFile::Absent, PendingFile::Null, PendingFile::File] {
        let wire = with(Variants { pending_file, ..Variants::default() }).await;
        let (_, upload) = wire.post("/uploads", upload_of(1)).await;
        match pending_file {
            PendingFile::Absent => assert!(upload.get("file").is_none()),
            PendingFile::Null => assert_eq!(upload["file"], Value::Null),
            PendingFile::File => {
                let id = upload["file"]["id"].as_str().unwrap();
                assert_eq!(wire.get(&format!("/files/{id}")).await.0, 404);
                let upload = upload["id"].as_str().unwrap();
                let part = wire.part(upload, b"x").await;
                let (_, done) = wire.complete(upload, &[&part]).await;
                assert_eq!(done["file"]["id"], id);
                assert_eq!(wire.get(&format!("/files/{id}")).await.0, 200);
            }
        }
    }
}

#[tokio::test]
async fn errors_are_written_as_chosen() {
    for errors in
        [ErrorStyle::OpenAi, ErrorStyle::Detail, ErrorStyle::Azure, ErrorStyle::Html, ErrorStyle::Empty]
    {
        let wire = with(Variants { errors, ..Variants::default() }).await;
        let response = wire.try_post("/uploads", json!({})).await.unwrap();
        assert_eq!(response.status(), 400);
        let kind = response.headers().get("content-type").map(|kind| kind.to_str().unwrap().to_owned());
        let text = response.text().await.unwrap();
        let json: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
        match errors {
            ErrorStyle::OpenAi => assert_eq!(json["error"].as_object().unwrap().len(), 4),
            ErrorStyle::Detail => assert_eq!(json["detail"]["message"], json["error"]["message"]),
            ErrorStyle::Azure => assert_eq!(json["error"]["code"], "400"),
            ErrorStyle::Html => assert_eq!((kind.as_deref(), &text[..9]), (Some("text/html"), "<!DOCTYPE")),
            ErrorStyle::Empty => assert_eq!((kind, text.as_str()), (None, "")),
        }
    }
}

#[tokio::test]
async fn purposes_are_six_four_or_any() {
    for (purposes, accepted) in [
        (Purposes::Six, [true, true, false]),
        (Purposes::Four, [true, false, false]),
        (Purposes::Any, [true, true, true]),
    ] {
        let wire = with(Variants { purposes, ..Variants::default() }).await;
        for (purpose, accepted) in ["batch", "user_data", "other"].into_iter().zip(accepted) {
            let mut body = upload_of(1);
            body["purpose"] = json!(purpose);
            assert_eq!(wire.post("/uploads", body).await.0 == 200, accepted, "{purposes:?} {purpose}");
        }
    }
}

#[tokio::test]
async fn a_part_may_have_to_say_its_type_and_its_length() {
    use reqwest::multipart::{Form, Part};
    let wire = with(Variants {
        part_content_type: PartContentType::Required,
        chunked_part: ChunkedPart::Refused,
        part_too_large: 413,
        ..Variants::default()
    })
    .await;
    let upload = wire.create(1).await;
    let path = format!("/uploads/{upload}/parts");
    let typeless = Form::new().part("data", Part::bytes(b"x".to_vec()).file_name("part"));
    assert_eq!(answered(wire.try_form(&path, typeless).await.unwrap()).await.0, 400);
    let chunks = futures_util::stream::iter([Ok::<_, std::io::Error>("x")]);
    let part = Part::stream(reqwest::Body::wrap_stream(chunks)).file_name("part");
    let chunked = Form::new().part("data", part.mime_str("text/plain").unwrap());
    assert_eq!(answered(wire.try_form(&path, chunked).await.unwrap()).await.0, 411);
    wire.part(&upload, b"x").await;
    assert_eq!(wire.emulator.uploads()[0].status, UploadStatus::Pending);
}

#[tokio::test]
async fn keys_that_are_not_required_may_be_left_out() {
    let omitted = Presence::Omitted;
    let wire = with(Variants { upload_object: omitted, file_status: omitted, ..Variants::default() }).await;
    let (upload, part) = wire.filled(b"x").await;
    let (_, done) = wire.complete(&upload, &[&part]).await;
    assert!(done.get("object").is_none() && done["file"].get("status").is_none(), "{done}");
}

#[tokio::test]
async fn variants_change_while_it_runs() {
    let wire = wire().await;
    let (upload, part) = wire.filled(b"x").await;
    wire.complete(&upload, &[&part]).await;
    assert_eq!(wire.complete(&upload, &[&part]).await.0, 400);
    wire.emulator.set_variants(Variants { second_complete: Outcome::Upload, ..wire.emulator.variants() });
    assert_eq!(wire.complete(&upload, &[&part]).await.0, 200);
    assert_eq!(
        wire.client.get(wire.url("/files")).bearer_auth(DEFAULT_KEY).send().await.unwrap().status(),
        200
    );
}

#[test]
fn every_variant_can_be_written_in_toml_and_is_read_back() {
    let text = toml::to_string(&Variants::azure()).unwrap();
    let script: ScriptFile = toml::from_str(&format!("[variants]\n{text}")).unwrap();
    assert_eq!(toml::to_string(&script.variants.unwrap()).unwrap(), text);
    assert!(toml::from_str::<ScriptFile>("[variants]\nsecond_complete = \"upload\"\n").is_ok());
    assert!(toml::from_str::<ScriptFile>("[variants]\nsecond_complete = \"maybe\"\n").is_err());
    assert!(toml::from_str::<ScriptFile>("[variants]\nunheard_of = 1\n").is_err());
}
