//! From method and path to the operation that is meant.

use std::fmt;

use hyper::Method;
use serde::{Deserialize, Serialize};

use crate::dialect::Dialect;

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// `POST /uploads`
    Create,
    /// `POST /uploads/{id}/parts`
    Part,
    /// `POST /uploads/{id}/complete`
    Complete,
    /// `POST /uploads/{id}/cancel`
    Cancel,
    /// `POST /files`
    CreateFile,
    /// `GET /files`
    List,
    /// `GET /files/{id}`
    Get,
    /// `GET /files/{id}/content`
    Content,
    /// `DELETE /files/{id}`
    Delete,
    /// Nothing that the API has.
    Unknown,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Create => "create",
            Self::Part => "part",
            Self::Complete => "complete",
            Self::Cancel => "cancel",
            Self::CreateFile => "create_file",
            Self::List => "list",
            Self::Get => "get",
            Self::Content => "content",
            Self::Delete => "delete",
            Self::Unknown => "unknown",
        })
    }
}

/// An operation and the id in its path: of an Upload or of a File, or empty.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    pub(crate) operation: Operation,
    pub(crate) id: String,
    pub(crate) query: Vec<(String, String)>,
}

impl Route {
    pub(crate) fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn upload_id(&self) -> Option<&str> {
        matches!(self.operation, Operation::Part | Operation::Complete | Operation::Cancel)
            .then_some(self.id.as_str())
    }
}

pub(crate) fn route(dialect: Dialect, method: &Method, path: &str, query: Option<&str>) -> Route {
    let query: Vec<(String, String)> =
        form_urlencoded::parse(query.unwrap_or_default().as_bytes()).into_owned().collect();
    let unknown = Route { operation: Operation::Unknown, id: String::new(), query: query.clone() };
    let has_version = query.iter().any(|(key, value)| key == "api-version" && !value.is_empty());
    let Some(rest) = dialect.strip_base(path, has_version) else { return unknown };
    let decode = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
    let segments: Vec<&str> = rest.split('/').collect();
    let (operation, id) = match (method, segments.as_slice()) {
        (&Method::POST, ["uploads"]) => (Operation::Create, String::new()),
        (&Method::POST, ["uploads", id, "parts"]) => (Operation::Part, decode(id)),
        (&Method::POST, ["uploads", id, "complete"]) => (Operation::Complete, decode(id)),
        (&Method::POST, ["uploads", id, "cancel"]) => (Operation::Cancel, decode(id)),
        (&Method::POST, ["files"]) => (Operation::CreateFile, String::new()),
        (&Method::GET, ["files"]) => (Operation::List, String::new()),
        (&Method::GET, ["files", id]) => (Operation::Get, decode(id)),
        (&Method::GET, ["files", id, "content"]) => (Operation::Content, decode(id)),
        (&Method::DELETE, ["files", id]) => (Operation::Delete, decode(id)),
        _ => return unknown,
    };
    Route { operation, id, query }
}
