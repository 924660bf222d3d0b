//! `POST /uploads/{id}/complete`.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use bytes::Bytes;
use serde_json::Value;

use super::{Call, json, no_upload};
use crate::answer::Answer;
use crate::error::ApiError;
use crate::faults::Late;
use crate::shared::Shared;
use crate::state::{File, FileRecord, Landing, State, Upload, UploadStatus};
use crate::storage::{self, Blob, Digests};
use crate::variants::{
    AfterMismatch, CompleteWhileLanding, FileCreatedAt, Md5Form, Outcome, UnlistedParts, Variants,
};

/// The work goes on when the client has gone, as on a server.
pub(super) async fn complete(call: Call, body: Bytes) -> Result<Answer, ApiError> {
    let object = json::object(&call, &body, &["part_ids", "md5"])?;
    let part_ids = match json::required(&object, "part_ids")? {
        Value::Array(ids) => {
            ids.iter().map(|id| id.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>().ok_or_else(
                || ApiError::bad("An id is not of type 'string' - 'part_ids'").param("part_ids"),
            )?
        }
        other => {
            let message = format!("{other} is not of type 'array' - 'part_ids'");
            return Err(ApiError::bad(message).param("part_ids"));
        }
    };
    let md5 = match object.get("md5") {
        None => None,
        Some(Value::String(md5)) => Some(md5.clone()),
        Some(other) => {
            return Err(ApiError::bad(format!("{other} is not of type 'string' - 'md5'")).param("md5"));
        }
    };
    let work = tokio::spawn(async move { accept(&call, &part_ids, md5.as_deref()).await });
    work.await.map_err(|error| ApiError::new(500, error.to_string()))?
}

/// What the Parts of a complete come to.
enum Ready {
    Again(Value),
    Parts(Vec<Arc<Blob>>),
}

async fn accept(call: &Call, part_ids: &[String], md5: Option<&str>) -> Result<Answer, ApiError> {
    let shared = &call.shared;
    let id = &call.route.id;
    let turn = shared.state().uploads.get(id).map(|upload| Arc::clone(&upload.turn));
    let _turn = turn.ok_or_else(|| no_upload(call))?.lock_owned().await;

    let parts = match check(&mut shared.state(), call, part_ids)? {
        Ready::Again(json) => return Ok(Answer::json(200, &json)),
        Ready::Parts(parts) => parts,
    };
    let hashed = parts.clone();
    let digests = tokio::task::spawn_blocking(move || storage::digests(&hashed)).await;
    let digests = digests
        .map_err(std::io::Error::other)
        .flatten()
        .map_err(|error| ApiError::new(500, format!("storage: {error}")))?;

    let mut state = shared.state();
    let now_ms = shared.clock.now_ms();
    let Some(upload) = state.uploads.get_mut(id) else { return Err(no_upload(call)) };
    refuse_ended(upload, now_ms, call.variants)?;
    if let (Some(wanted), Some(digests)) = (md5, &digests)
        && wanted != written(digests, call.variants.md5)
    {
        mismatch(&mut state, id, call.variants);
        let message = format!("The md5 of the uploaded bytes is {}", hex::encode(digests.md5));
        return Err(ApiError::new(call.variants.wrong_md5, message).param("md5"));
    }
    let file = file(upload, parts, digests, now_ms.div_euclid(1000), call.variants);
    call.moment.exchange.update(|request| request.file_id = Some(file.record.id.clone()));
    let landing = Landing { file, due_ms: Some(now_ms), requests_left: None };
    match &call.late {
        None => {
            state.accept(id, landing);
            state.land(id);
        }
        Some(late) => state.accept(id, postpone(shared, landing, late, now_ms)),
    }
    let Some(upload) = state.uploads.get(id) else { return Err(no_upload(call)) };
    Ok(Answer::json(200, &state.upload_json(upload, now_ms, call.variants)))
}

fn check(state: &mut State, call: &Call, part_ids: &[String]) -> Result<Ready, ApiError> {
    let variants = call.variants;
    let id = &call.route.id;
    let now_ms = call.shared.clock.now_ms();
    if state.uploads.get(id).is_some_and(|upload| upload.landing.is_some() && upload.ended.is_none()) {
        match variants.complete_while_landing {
            CompleteWhileLanding::Refused => {
                return Err(ApiError::new(409, format!("Upload {id} is being completed")));
            }
            CompleteWhileLanding::Lands => state.land(id),
        }
    }
    let Some(upload) = state.uploads.get(id) else { return Err(no_upload(call)) };
    if upload.status(now_ms) == UploadStatus::Completed && variants.second_complete == Outcome::Upload {
        return Ok(Ready::Again(state.upload_json(upload, now_ms, variants)));
    }
    refuse_ended(upload, now_ms, variants)?;

    let mut parts = Vec::new();
    let mut listed = BTreeSet::new();
    for part_id in part_ids {
        let known = |at: &crate::state::Part| at.id == *part_id || at.block_id.as_deref() == Some(part_id);
        let Some(part) = upload.parts.iter().find(|part| known(part)) else {
            let message = format!("No such Part of Upload {id}: {part_id}");
            return Err(ApiError::new(variants.bad_part_list, message).param("part_ids"));
        };
        if !listed.insert(&part.id) {
            let message = format!("Part {part_id} is listed twice");
            return Err(ApiError::new(variants.bad_part_list, message).param("part_ids"));
        }
        parts.push(Arc::clone(&part.blob));
    }
    let sum: u64 = match variants.unlisted_parts {
        UnlistedParts::Ignored => parts.iter().map(|part| part.len()).sum(),
        UnlistedParts::Counted => upload.parts.iter().map(|part| part.blob.len()).sum(),
    };
    if sum != upload.bytes {
        let message = format!("The Upload was created for {} bytes, and {sum} were uploaded", upload.bytes);
        mismatch(state, id, variants);
        return Err(ApiError::new(variants.wrong_size, message));
    }
    Ok(Ready::Parts(parts))
}

fn refuse_ended(upload: &Upload, now_ms: i64, variants: Variants) -> Result<(), ApiError> {
    let (status, word) = match upload.status(now_ms) {
        UploadStatus::Pending => return Ok(()),
        UploadStatus::Expired => (variants.complete_after_expiry, "expired"),
        UploadStatus::Cancelled => (variants.complete_after_cancel, "cancelled"),
        UploadStatus::Completed => match variants.second_complete {
            Outcome::Refused(status) => (status, "completed already"),
            Outcome::Upload => (409, "completed already"),
        },
    };
    Err(ApiError::new(status, format!("Upload {} is {word}", upload.id)))
}

fn mismatch(state: &mut State, id: &str, variants: Variants) {
    if variants.after_mismatch == AfterMismatch::Gone {
        state.uploads.remove(id);
    }
}

fn written(digests: &Digests, form: Md5Form) -> String {
    match form {
        Md5Form::Hex => hex::encode(digests.md5),
        Md5Form::Base64 => base64::engine::general_purpose::STANDARD.encode(digests.md5),
    }
}

fn file(
    upload: &Upload,
    parts: Vec<Arc<Blob>>,
    digests: Option<Digests>,
    now: i64,
    variants: Variants,
) -> File {
    let created_at = match variants.file_created_at {
        FileCreatedAt::Completion => now,
        FileCreatedAt::Upload => upload.created_at,
    };
    let record = FileRecord {
        id: upload.file_id.clone(),
        filename: upload.filename.clone(),
        bytes: upload.bytes,
        purpose: upload.purpose.clone(),
        md5: digests.as_ref().map(|digests| hex::encode(digests.md5)),
        sha256: digests.map(|digests| digests.sha256),
        upload_id: Some(upload.id.clone()),
        created_at,
        expires_at: upload.file_lifetime.map(|lifetime| created_at + lifetime),
    };
    File { record, parts, lists: 0 }
}

fn postpone(shared: &Arc<Shared>, landing: Landing, late: &Late, now_ms: i64) -> Landing {
    let delay = late.after.map(|after| i64::try_from(after.as_millis()).unwrap_or(i64::MAX));
    if let Some(after) = late.after {
        // Those who wait for the File hear of it even if no request comes.
        let shared = Arc::downgrade(shared);
        tokio::spawn(async move {
            tokio::time::sleep(after + Duration::from_millis(1)).await;
            if let Some(shared) = shared.upgrade() {
                shared.settle(false);
            }
        });
    }
    Landing {
        due_ms: delay.map(|delay| now_ms.saturating_add(delay)),
        requests_left: late.requests,
        ..landing
    }
}
