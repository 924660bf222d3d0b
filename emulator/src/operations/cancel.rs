//! `POST /uploads/{id}/cancel`.

use std::sync::Arc;

use super::{Call, no_upload};
use crate::answer::Answer;
use crate::error::ApiError;
use crate::state::UploadStatus;
use crate::variants::{CancelWhileLanding, Outcome};

pub(super) async fn cancel(call: Call) -> Result<Answer, ApiError> {
    let shared = &call.shared;
    let id = &call.route.id;
    let turn = shared.state().uploads.get(id).map(|upload| Arc::clone(&upload.turn));
    let _turn = turn.ok_or_else(|| no_upload(&call))?.lock_owned().await;

    let mut state = shared.state();
    let now_ms = shared.clock.now_ms();
    let landing = state.uploads.get(id).is_some_and(|upload| upload.landing.is_some());
    if landing && call.variants.cancel_while_landing == CancelWhileLanding::Loses {
        state.land(id);
    }
    let Some(upload) = state.uploads.get_mut(id) else { return Err(no_upload(&call)) };
    let (outcome, word) = match upload.status(now_ms) {
        UploadStatus::Pending => {
            upload.ended = Some(UploadStatus::Cancelled);
            if call.variants.cancel_while_landing == CancelWhileLanding::Wins {
                upload.landing = None;
            }
            (Outcome::Upload, "")
        }
        UploadStatus::Completed => (call.variants.cancel_after_complete, "completed"),
        UploadStatus::Cancelled => (call.variants.second_cancel, "cancelled already"),
        UploadStatus::Expired => (call.variants.cancel_after_expiry, "expired"),
    };
    match outcome {
        Outcome::Refused(status) => Err(ApiError::new(status, format!("Upload {id} is {word}"))),
        Outcome::Upload => {
            let Some(upload) = state.uploads.get(id) else { return Err(no_upload(&call)) };
            Ok(Answer::json(200, &state.upload_json(upload, now_ms, call.variants)))
        }
    }
}
