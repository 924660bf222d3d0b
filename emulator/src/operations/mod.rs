//! What each operation reads and does. Reading and working are apart, so that a fault can stand between them.

mod cancel;
mod complete;
mod create;
mod files;
mod part;

use std::sync::Arc;

use bytes::Bytes;
use hyper::HeaderMap;

use crate::answer::Answer;
use crate::error::ApiError;
use crate::exchange::Moment;
use crate::faults::{Lag, Late};
use crate::intake::{Intake, Interrupt};
use crate::multipart::{self, Form};
use crate::route::{Operation, Route};
use crate::shared::Shared;
use crate::variants::Variants;

/// A request's body, read.
pub(crate) enum Input {
    Json(Bytes),
    Form(Form),
    Nothing,
}

/// One call, with what its faults change in the work itself.
pub(crate) struct Call {
    pub(crate) shared: Arc<Shared>,
    pub(crate) moment: Arc<Moment>,
    pub(crate) route: Route,
    pub(crate) headers: HeaderMap,
    pub(crate) variants: Variants,
    pub(crate) late: Option<Late>,
    pub(crate) lag: Vec<Lag>,
}

/// Reads the body to its end, whatever is wrong with it.
pub(crate) async fn read(call: &Call, intake: &mut Intake) -> Result<Result<Input, ApiError>, Interrupt> {
    let input = match call.route.operation {
        Operation::Create | Operation::Complete => Ok(Input::Json(intake.all().await?)),
        Operation::Part | Operation::CreateFile => multipart::read(call, intake).await?.map(Input::Form),
        _ => Ok(Input::Nothing),
    };
    intake.drain().await?;
    Ok(input)
}

/// Does the work and says its answer.
pub(crate) async fn work(call: Call, input: Input) -> Result<Answer, ApiError> {
    match (call.route.operation, input) {
        (Operation::Create, Input::Json(body)) => create::create(&call, &body),
        (Operation::Part, Input::Form(form)) => part::add(&call, form),
        (Operation::Complete, Input::Json(body)) => complete::complete(call, body).await,
        (Operation::Cancel, _) => cancel::cancel(call).await,
        (Operation::CreateFile, Input::Form(form)) => files::create(&call, form).await,
        (Operation::List, _) => files::list(&call),
        (Operation::Get, _) => files::get(&call),
        (Operation::Content, _) => files::content(&call),
        (Operation::Delete, _) => files::delete(&call),
        _ => Err(ApiError::new(404, "Invalid URL")),
    }
}

/// The strictness that all JSON bodies share.
mod json {
    use serde_json::{Map, Value};

    use super::Call;
    use crate::error::ApiError;

    pub(super) fn object(call: &Call, body: &[u8], known: &[&str]) -> Result<Map<String, Value>, ApiError> {
        let content_type = call.headers.get("content-type").and_then(|value| value.to_str().ok());
        let is_json = content_type.is_some_and(|value| {
            value.split(';').next().is_some_and(|mime| mime.trim().eq_ignore_ascii_case("application/json"))
        });
        if !is_json {
            let said = content_type.unwrap_or_default();
            return Err(ApiError::bad(format!("Unsupported Content-Type {said:?}: use application/json")));
        }
        let value: Value = serde_json::from_slice(body)
            .map_err(|error| ApiError::bad(format!("The body is not JSON: {error}")))?;
        let Value::Object(object) = value else { return Err(ApiError::bad("The body is not an object")) };
        call.moment.exchange.update(|request| request.json = Some(Value::Object(object.clone())));
        match object.keys().find(|key| !known.contains(&key.as_str())) {
            Some(key) => {
                Err(ApiError::bad(format!("Additional properties are not allowed ('{key}' was unexpected)")))
            }
            None => Ok(object),
        }
    }

    pub(super) fn required<'a>(object: &'a Map<String, Value>, key: &str) -> Result<&'a Value, ApiError> {
        object.get(key).ok_or_else(|| ApiError::bad(format!("'{key}' is a required property")).param(key))
    }

    pub(super) fn string(object: &Map<String, Value>, key: &str) -> Result<String, ApiError> {
        match required(object, key)?.as_str() {
            Some("") => Err(ApiError::bad(format!("'{key}' is empty")).param(key)),
            Some(text) => Ok(text.to_owned()),
            None => {
                Err(ApiError::bad(format!("{} is not of type 'string' - '{key}'", object[key])).param(key))
            }
        }
    }
}

/// The purpose, if this server knows it.
fn purpose(call: &Call, purpose: String) -> Result<String, ApiError> {
    use crate::variants::Purposes;

    const SIX: [&str; 6] = ["fine-tune", "assistants", "batch", "vision", "user_data", "evals"];
    let known = match call.variants.purposes {
        Purposes::Six => &SIX[..],
        Purposes::Four => &SIX[..4],
        Purposes::Any => return Ok(purpose),
    };
    if known.contains(&purpose.as_str()) {
        return Ok(purpose);
    }
    let listed = known.iter().map(|known| format!("'{known}'")).collect::<Vec<_>>().join(",");
    Err(ApiError::bad(format!("'{purpose}' is not one of [{listed}] - 'purpose'")).param("purpose"))
}

/// Seconds that a File lives, within what the API allows.
fn file_lifetime(anchor: Option<&str>, seconds: Option<i64>) -> Result<i64, ApiError> {
    if anchor != Some("created_at") {
        return Err(ApiError::bad("'anchor' must be 'created_at'").param("expires_after"));
    }
    seconds
        .filter(|seconds| (3600..=2_592_000).contains(seconds))
        .ok_or_else(|| ApiError::bad("'seconds' must be from 3600 to 2592000").param("expires_after"))
}

/// A File's lifetime if the request does not say one.
fn default_lifetime(purpose: &str) -> Option<i64> {
    (purpose == "batch").then_some(2_592_000)
}

fn no_upload(call: &Call) -> ApiError {
    ApiError::new(call.variants.not_found, format!("No such Upload object: {}", call.route.id))
}
