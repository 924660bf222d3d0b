//! `/_emulator/…`: what the library offers, over HTTP, for the binary.

use std::sync::Arc;
use std::time::Duration;

use hyper::Method;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::answer::Answer;
use crate::error::ApiError;
use crate::faults::ScriptFile;
use crate::intake::Intake;
use crate::shared::Shared;
use crate::variants::{ErrorStyle, Variants};

pub(crate) const PREFIX: &str = "/_emulator/";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ClockBody {
    #[serde(with = "crate::duration")]
    advance: Duration,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct VictimBody {
    pid: Option<i32>,
}

pub(crate) async fn serve(shared: &Arc<Shared>, method: &Method, path: &str, mut intake: Intake) -> Answer {
    let Ok(body) = intake.all().await else { return Answer::empty(400) };
    let name = path.strip_prefix(PREFIX).unwrap_or_default();
    let answer = match (method, name) {
        (&Method::GET, "requests") => Ok(json!({
            "requests": shared.record.all(),
            "most_parts_in_flight": shared.record.most_parts_in_flight(),
        })),
        (&Method::GET, "files") => Ok(json!({"files": shared.files()})),
        (&Method::GET, "uploads") => Ok(json!({"uploads": shared.uploads()})),
        (&Method::GET, "variants") => Ok(json!(shared.variants())),
        (&Method::POST, "script") => script(shared, &body),
        (&Method::POST, "variants") => json_body::<Variants>(&body).map(|variants| {
            shared.set_variants(variants);
            Value::Null
        }),
        (&Method::POST, "clock") => json_body::<ClockBody>(&body).map(|clock| {
            shared.advance(clock.advance);
            json!({"now": shared.clock.now()})
        }),
        (&Method::POST, "victim") => json_body::<VictimBody>(&body).map(|victim| {
            shared.set_victim(victim.pid);
            Value::Null
        }),
        (&Method::POST, "reset") => {
            shared.reset();
            Ok(Value::Null)
        }
        _ => Err(ApiError::new(404, format!("No such control: {method} {path}"))),
    };
    match answer {
        Ok(value) => Answer::json(200, &value),
        Err(error) => error.answer(ErrorStyle::OpenAi),
    }
}

fn json_body<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(body).map_err(|error| ApiError::bad(error.to_string()))
}

/// A script in TOML, or the same in JSON.
fn script(shared: &Shared, body: &[u8]) -> Result<Value, ApiError> {
    let text = std::str::from_utf8(body).map_err(|error| ApiError::bad(error.to_string()))?;
    let script: ScriptFile = if text.trim_start().starts_with('{') {
        json_body(body)?
    } else {
        toml::from_str(text).map_err(|error| ApiError::bad(error.to_string()))?
    };
    if script.limits.is_some() {
        return Err(ApiError::bad("limits are set at the start only"));
    }
    if let Some(variants) = script.variants {
        shared.set_variants(variants);
    }
    let added = script.fault.len();
    shared.script.add(script.fault);
    Ok(json!({"added": added}))
}
