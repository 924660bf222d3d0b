//! `POST /uploads`.

use bytes::Bytes;
use serde_json::Value;

use super::{Call, default_lifetime, file_lifetime, json, purpose};
use crate::answer::Answer;
use crate::error::ApiError;
use crate::state::Upload;

pub(super) fn create(call: &Call, body: &Bytes) -> Result<Answer, ApiError> {
    let known = ["filename", "purpose", "bytes", "mime_type", "expires_after"];
    let object = json::object(call, body, &known)?;
    let filename = json::string(&object, "filename")?;
    let purpose = purpose(call, json::string(&object, "purpose")?)?;
    let mime_type = json::string(&object, "mime_type")?;
    let written = json::required(&object, "bytes")?;
    let bytes = match (written.as_u64(), call.shared.limits.upload_bytes) {
        (None | Some(0), _) => {
            return Err(
                ApiError::bad(format!("{written} is not a positive integer - 'bytes'")).param("bytes")
            );
        }
        (Some(bytes), most) if bytes > most => {
            return Err(
                ApiError::bad(format!("File is too large. The maximum is {most} bytes.")).param("bytes")
            );
        }
        (Some(bytes), _) => bytes,
    };
    let lifetime = match object.get("expires_after") {
        None => default_lifetime(&purpose),
        Some(Value::Object(after)) => {
            if let Some(key) = after.keys().find(|key| !["anchor", "seconds"].contains(&key.as_str())) {
                return Err(ApiError::bad(format!(
                    "Additional properties are not allowed ('{key}' was unexpected)"
                )));
            }
            let anchor = after.get("anchor").and_then(Value::as_str);
            Some(file_lifetime(anchor, after.get("seconds").and_then(Value::as_i64))?)
        }
        Some(other) => {
            let message = format!("{other} is not of type 'object' - 'expires_after'");
            return Err(ApiError::bad(message).param("expires_after"));
        }
    };
    let shared = &call.shared;
    let now_ms = shared.clock.now_ms();
    let life = i64::try_from(shared.limits.upload_lifetime.as_millis()).unwrap_or(i64::MAX);
    let upload = Upload {
        id: shared.dialect.upload_id(),
        filename,
        purpose,
        bytes,
        mime_type,
        created_at: now_ms.div_euclid(1000),
        expires_at_ms: now_ms.saturating_add(life),
        file_lifetime: lifetime,
        file_id: shared.dialect.file_id(),
        ended: None,
        parts: Vec::new(),
        landing: None,
        turn: std::sync::Arc::default(),
    };
    let json = upload.json(None, now_ms, call.variants);
    call.moment.exchange.update(|request| {
        request.upload_id = Some(upload.id.clone());
        request.filename = Some(upload.filename.clone());
    });
    shared.state().uploads.insert(upload.id.clone(), upload);
    Ok(Answer::json(200, &json))
}
