//! Refusals, and how they are written.

use serde_json::{Value, json};

use crate::answer::Answer;
use crate::variants::ErrorStyle;

/// A refusal in the server's words.
#[derive(Clone, Debug)]
pub(crate) struct ApiError {
    pub(crate) status: u16,
    pub(crate) message: String,
    pub(crate) kind: String,
    pub(crate) param: Option<String>,
    pub(crate) code: Option<String>,
}

impl ApiError {
    pub(crate) fn new(status: u16, message: impl Into<String>) -> Self {
        let (kind, code) = match status {
            401 => ("invalid_request_error", Some("invalid_api_key")),
            403 => ("invalid_request_error", Some("unsupported_country_region_territory")),
            429 => ("requests", Some("rate_limit_exceeded")),
            503 => ("service_unavailable_error", Some("server_is_overloaded")),
            500.. => ("server_error", None),
            _ => ("invalid_request_error", None),
        };
        Self {
            status,
            message: message.into(),
            kind: kind.to_owned(),
            param: None,
            code: code.map(str::to_owned),
        }
    }

    pub(crate) fn bad(message: impl Into<String>) -> Self {
        Self::new(400, message)
    }

    pub(crate) fn param(mut self, param: &str) -> Self {
        self.param = Some(param.to_owned());
        self
    }

    pub(crate) fn answer(self, style: ErrorStyle) -> Answer {
        let status = self.status;
        match style {
            ErrorStyle::OpenAi => Answer::json(status, &self.envelope()),
            ErrorStyle::Detail => {
                let mut body = self.envelope();
                body["detail"] = json!({"message": self.message, "code": self.code});
                Answer::json(status, &body)
            }
            ErrorStyle::Azure => {
                let code = self.code.unwrap_or_else(|| status.to_string());
                Answer::json(status, &json!({"error": {"code": code, "message": self.message}}))
            }
            ErrorStyle::Html => Answer::html(status),
            ErrorStyle::Empty => Answer::empty(status),
        }
    }

    fn envelope(&self) -> Value {
        json!({"error": {
            "message": self.message, "type": self.kind, "param": self.param, "code": self.code,
        }})
    }
}
