//! Scripted answers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Point;

/// A scripted answer.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reply {
    /// Its status.
    pub status: u16,
    /// When it is given: `unread` is an early answer, `after` one for work that was done.
    #[serde(default)]
    pub at: Point,
    /// Headers beside those of every answer.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// What it carries.
    #[serde(default)]
    pub body: Body,
    /// `error.message`.
    pub message: Option<String>,
    /// `error.type`.
    pub kind: Option<String>,
    /// `error.code`.
    pub code: Option<String>,
    /// What happens to the connection, and to a body that was not read.
    #[serde(default)]
    pub then: Then,
}

impl Reply {
    /// An error with this status, before the work.
    #[must_use]
    pub fn status(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    /// 200 with this body.
    #[must_use]
    pub fn ok(body: Body) -> Self {
        Self { status: 200, body, ..Self::default() }
    }

    /// Given at this moment.
    #[must_use]
    pub fn at(self, at: Point) -> Self {
        Self { at, ..self }
    }

    /// With this header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.insert(name.to_lowercase(), value.to_owned());
        self
    }

    /// With this body.
    #[must_use]
    pub fn body(self, body: Body) -> Self {
        Self { body, ..self }
    }

    /// With this `error.code`.
    #[must_use]
    pub fn code(self, code: &str) -> Self {
        Self { code: Some(code.to_owned()), ..self }
    }

    /// With this `error.type`.
    #[must_use]
    pub fn kind(self, kind: &str) -> Self {
        Self { kind: Some(kind.to_owned()), ..self }
    }

    /// With this `error.message`.
    #[must_use]
    pub fn message(self, message: &str) -> Self {
        Self { message: Some(message.to_owned()), ..self }
    }

    /// What happens to the connection then.
    #[must_use]
    pub fn then(self, then: Then) -> Self {
        Self { then, ..self }
    }
}

/// What a scripted answer carries.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Body {
    /// An error in the style of [`crate::Variants::errors`].
    #[default]
    Error,
    /// A page.
    Html,
    /// Nothing.
    Empty,
    /// `application/json` that is not JSON.
    Garbage,
    /// Blanks without end.
    Endless,
    /// This text.
    Text(String),
    /// This JSON.
    Json(Value),
}

/// What follows an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Then {
    /// The rest of the body is read and thrown away; the connection stays.
    #[default]
    Linger,
    /// The rest of the body is not read; the connection stays.
    Stay,
    /// The connection is closed at once. The kernel sends RST if bytes are unread.
    Close,
    /// RST at once.
    Reset,
}
