//! `POST /uploads/{id}/parts`.

use std::sync::Arc;

use serde_json::json;

use super::{Call, no_upload};
use crate::answer::Answer;
use crate::error::ApiError;
use crate::multipart::Form;
use crate::state::{Part, UploadStatus};
use crate::variants::UnlistedParts;

pub(super) fn add(call: &Call, form: Form) -> Result<Answer, ApiError> {
    let shared = &call.shared;
    let limits = shared.limits;
    let variants = call.variants;
    let now_ms = shared.clock.now_ms();
    let mut state = shared.state();
    let upload = state.uploads.get_mut(&call.route.id).ok_or_else(|| no_upload(call))?;
    let refused = match upload.status(now_ms) {
        UploadStatus::Pending => None,
        UploadStatus::Expired => Some((variants.part_after_expiry, "expired")),
        UploadStatus::Cancelled => Some((variants.part_after_cancel, "cancelled")),
        UploadStatus::Completed => Some((variants.part_after_complete, "completed")),
    };
    if let Some((status, word)) = refused {
        return Err(ApiError::new(status, format!("Upload {} is {word}: no Parts may be added", upload.id)));
    }
    if upload.landing.is_some() {
        let message = format!("Upload {} is being completed: no Parts may be added", upload.id);
        return Err(ApiError::new(variants.part_after_complete, message));
    }
    if form.content.len() > limits.part_bytes {
        let message = format!("Part is too large. The maximum is {} bytes.", limits.part_bytes);
        return Err(ApiError::new(variants.part_too_large, message).param("data"));
    }
    let stored: u64 = upload.parts.iter().map(|part| part.blob.len()).sum();
    let counts = variants.unlisted_parts == UnlistedParts::Counted;
    if counts && stored + form.content.len() > limits.upload_bytes {
        return Err(ApiError::bad(format!("Upload {} has all the bytes it may have", upload.id)));
    }
    if limits.parts.is_some_and(|most| upload.parts.len() >= most) {
        return Err(ApiError::bad(format!("Upload {} has all the Parts it may have", upload.id)));
    }
    let part = Part {
        id: shared.dialect.part_id(),
        block_id: shared.dialect.block_id(),
        sha256: form.sha256,
        blob: Arc::new(form.content),
    };
    let mut json = json!({
        "id": part.id, "object": "upload.part", "created_at": now_ms.div_euclid(1000), "upload_id": upload.id,
    });
    if let Some(block_id) = &part.block_id {
        json["azure_block_id"] = block_id.as_str().into();
    }
    call.moment.exchange.update(|request| request.part_id = Some(part.id.clone()));
    upload.parts.push(part);
    Ok(Answer::json(200, &json))
}
