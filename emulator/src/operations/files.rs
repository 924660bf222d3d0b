//! `/files`.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{Call, default_lifetime, file_lifetime, purpose};
use crate::answer::{Answer, Content};
use crate::error::ApiError;
use crate::multipart::Form;
use crate::state::{File, FileRecord, Page};
use crate::storage;

pub(super) async fn create(call: &Call, form: Form) -> Result<Answer, ApiError> {
    let shared = &call.shared;
    let most = shared.limits.file_bytes;
    if form.content.len() > most {
        let message = format!("File is too large. The maximum is {most} bytes.");
        return Err(ApiError::new(413, message).param("file"));
    }
    let field = |name: &str| form.fields.get(name).map(String::as_str);
    let Some(purpose_text) = field("purpose") else {
        return Err(ApiError::bad("'purpose' is a required property").param("purpose"));
    };
    let purpose = purpose(call, purpose_text.to_owned())?;
    let lifetime = match (field("expires_after[anchor]"), field("expires_after[seconds]")) {
        (None, None) => default_lifetime(&purpose),
        (anchor, seconds) => Some(file_lifetime(anchor, seconds.and_then(|text| text.parse().ok()))?),
    };
    let Some(filename) = form.filename.filter(|name| !name.is_empty()) else {
        return Err(ApiError::bad("'file' has no file name").param("file"));
    };
    let blob = Arc::new(form.content);
    let hashed = vec![Arc::clone(&blob)];
    let digests = tokio::task::spawn_blocking(move || storage::digests(&hashed)).await;
    let digests = digests
        .map_err(std::io::Error::other)
        .flatten()
        .map_err(|error| ApiError::new(500, format!("storage: {error}")))?;
    let now = shared.clock.now();
    let record = FileRecord {
        id: shared.dialect.file_id(),
        filename,
        bytes: blob.len(),
        purpose,
        md5: digests.as_ref().map(|digests| hex::encode(digests.md5)),
        sha256: digests.map(|digests| digests.sha256),
        upload_id: None,
        created_at: now,
        expires_at: lifetime.map(|lifetime| now + lifetime),
    };
    call.moment.exchange.update(|request| {
        request.file_id = Some(record.id.clone());
        request.filename = Some(record.filename.clone());
    });
    let file = File { record, parts: vec![blob], lists: 0 };
    let json = file.json(call.variants);
    shared.state().files.push(file);
    Ok(Answer::json(200, &json))
}

pub(super) fn list(call: &Call) -> Result<Answer, ApiError> {
    let route = &call.route;
    let limit = match route.query("limit") {
        None => 10_000,
        Some(text) => text.parse().ok().filter(|limit| (1..=10_000).contains(limit)).ok_or_else(|| {
            ApiError::bad(format!("'{text}' is not from 1 to 10000 - 'limit'")).param("limit")
        })?,
    };
    let descending = match route.query("order") {
        None | Some("desc") => true,
        Some("asc") => false,
        Some(other) => {
            let message = format!("'{other}' is not one of ['asc','desc'] - 'order'");
            return Err(ApiError::bad(message).param("order"));
        }
    };
    let page = Page { limit, descending, after: route.query("after"), purpose: route.query("purpose") };
    let now = call.shared.clock.now();
    let mut state = call.shared.state();
    let Some((data, has_more)) = state.list(&page, &call.lag, now) else {
        return Err(ApiError::bad("'after' names no File").param("after"));
    };
    let id = |file: Option<&&File>| file.map_or(Value::Null, |file| file.record.id.as_str().into());
    let json = json!({
        "object": "list",
        "first_id": id(data.first()),
        "last_id": id(data.last()),
        "has_more": has_more,
        "data": data.iter().map(|file| file.json(call.variants)).collect::<Vec<_>>(),
    });
    Ok(Answer::json(200, &json))
}

pub(super) fn get(call: &Call) -> Result<Answer, ApiError> {
    let state = call.shared.state();
    let file = state.file(&call.route.id, call.shared.clock.now()).ok_or_else(|| no_file(call))?;
    Ok(Answer::json(200, &file.json(call.variants)))
}

pub(super) fn content(call: &Call) -> Result<Answer, ApiError> {
    let state = call.shared.state();
    let file = state.file(&call.route.id, call.shared.clock.now()).ok_or_else(|| no_file(call))?;
    if !file.parts.iter().all(|part| part.is_kept()) {
        return Err(ApiError::bad("The content of this File was discarded"));
    }
    let mut chunks = storage::stream(file.parts.clone());
    let stream = Box::pin(futures_util::stream::poll_fn(move |cx| chunks.poll_recv(cx)));
    let mut answer = Answer::text(200, "application/octet-stream", "");
    answer.content = Content::Streamed(file.record.bytes, stream);
    Ok(answer)
}

pub(super) fn delete(call: &Call) -> Result<Answer, ApiError> {
    let mut state = call.shared.state();
    let id = &call.route.id;
    if state.file(id, call.shared.clock.now()).is_none() {
        return Err(no_file(call));
    }
    state.files.remove(id);
    Ok(Answer::json(200, &json!({"id": id, "object": "file", "deleted": true})))
}

fn no_file(call: &Call) -> ApiError {
    ApiError::new(call.variants.not_found, format!("No such File object: {}", call.route.id)).param("id")
}
