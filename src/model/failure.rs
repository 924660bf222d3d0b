//! What went wrong, as plain data. The hands report it; `policy` judges it.

use std::fmt;
use std::time::Duration;

/// A request of the API, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// `POST /uploads`.
    Create,
    /// `POST /uploads/{id}/parts`.
    Part,
    /// `POST /uploads/{id}/complete`.
    Complete,
    /// `POST /uploads/{id}/cancel`.
    Cancel,
    /// `GET /files`.
    ListFiles,
    /// `GET /files/{id}`.
    GetFile,
    /// `GET /files/{id}/content`.
    GetContent,
}

impl Operation {
    /// The name in logs and in the history of a job.
    pub fn name(self) -> &'static str {
        match self {
            Operation::Create => "create",
            Operation::Part => "part",
            Operation::Complete => "complete",
            Operation::Cancel => "cancel",
            Operation::ListFiles => "list-files",
            Operation::GetFile => "get-file",
            Operation::GetContent => "get-content",
        }
    }

    /// Whether it only asks what the server has, or ends what is of no use: a refusal says nothing against the file.
    pub fn is_question(self) -> bool {
        match self {
            Operation::Cancel | Operation::ListFiles | Operation::GetFile | Operation::GetContent => true,
            Operation::Create | Operation::Part | Operation::Complete => false,
        }
    }
}

/// The HTTP facts of an answer, good or bad.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// HTTP status.
    pub status: u16,
    /// `x-request-id`, or Azure's `apim-request-id`.
    pub request_id: Option<String>,
    /// How long the server asks us to wait: `retry-after-ms`, else `Retry-After` as seconds or as a date (measured
    /// against the answer's own `Date`).
    pub retry_after: Option<Duration>,
    /// `x-should-retry`, which overrides what the status says.
    pub should_retry: Option<bool>,
    /// The `x-ratelimit-*` headers, as sent; their absence is normal.
    pub rate_limits: Vec<(String, String)>,
}

/// Why a request did not give a usable answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No connection was made (name, route, refusal, TLS), so nothing was sent.
    Connect {
        /// The chain of causes.
        message: String,
    },
    /// The connection broke after something may have been sent and before a whole answer came.
    Transport {
        /// The chain of causes.
        message: String,
    },
    /// No byte of the body moved for `[api] stall_timeout`.
    Stalled,
    /// The body was sent and no answer came within `answer_timeout` or `complete_timeout`.
    NoAnswer,
    /// A whole answer with a status other than 2xx.
    Refused {
        /// Its HTTP facts.
        facts: Facts,
        /// `error.type`.
        kind: Option<String>,
        /// `error.code`.
        code: Option<String>,
        /// `error.message`, or the beginning of the body where it is not the usual envelope.
        message: String,
    },
    /// A 2xx whose body is not what the API promises.
    BadAnswer {
        /// Its HTTP facts.
        facts: Facts,
        /// What is wrong with it.
        message: String,
    },
    /// The file, not the server.
    Source(SourceFailure),
}

/// Why the source file could not be read as the version that was queued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceFailure {
    /// Nothing lies at the path.
    Missing,
    /// Something lies there that is not a regular file.
    NotAFile,
    /// It cannot be opened or read.
    Unreadable {
        /// The system's words.
        message: String,
    },
    /// It cannot be reached now, and nothing says that it is gone: its disk fails, or its folder is not mounted.
    Unreachable {
        /// The system's words.
        message: String,
    },
    /// It is another version by now.
    Changed,
}

impl Failure {
    /// The HTTP facts, where a whole answer came.
    pub fn facts(&self) -> Option<&Facts> {
        match self {
            Failure::Refused { facts, .. } | Failure::BadAnswer { facts, .. } => Some(facts),
            _ => None,
        }
    }

    /// Whether the server may have acted on the request although we have no usable answer.
    pub fn may_have_acted(&self) -> bool {
        match self {
            Failure::Connect { .. } | Failure::Source(_) => false,
            Failure::Transport { .. } | Failure::Stalled | Failure::NoAnswer | Failure::BadAnswer { .. } => {
                true
            }
            // A gateway may answer 5xx while the server behind it goes on.
            Failure::Refused { facts, .. } => facts.status >= 500 || facts.status == 408,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Connect { message } => write!(f, "cannot connect: {message}"),
            Failure::Transport { message } => write!(f, "connection broke: {message}"),
            Failure::Stalled => write!(f, "no byte was taken for the stall timeout"),
            Failure::NoAnswer => write!(f, "no answer within the answer timeout"),
            Failure::Refused { facts, message, .. } => write!(f, "HTTP {}: {message}", facts.status),
            Failure::BadAnswer { facts, message } => {
                write!(f, "HTTP {} with an unusable body: {message}", facts.status)
            }
            Failure::Source(source) => source.fmt(f),
        }
    }
}

impl fmt::Display for SourceFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SourceFailure::Missing => write!(f, "the file is gone"),
            SourceFailure::NotAFile => write!(f, "no regular file lies there any more"),
            SourceFailure::Unreadable { message } => write!(f, "cannot read the file: {message}"),
            SourceFailure::Unreachable { message } => write!(f, "cannot reach the file: {message}"),
            SourceFailure::Changed => write!(f, "the file changed after it was queued"),
        }
    }
}

impl std::error::Error for Failure {}

/// So that a body can carry it through an HTTP library and come out as itself.
impl std::error::Error for SourceFailure {}
