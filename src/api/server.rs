//! One server, as the configuration describes it.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use url::Url;

/// Where requests go, as whom, and how long to wait.
#[derive(Clone, PartialEq, Eq)]
pub struct Server {
    /// `http` or `https`, with the version's path (`/v1`) and without user or password.
    pub base_url: Url,
    /// How the key is sent.
    pub auth: Auth,
    /// `OpenAI-Organization`.
    pub organization: Option<String>,
    /// `OpenAI-Project`.
    pub project: Option<String>,
    /// Added to the query of each request.
    pub query: Vec<(String, String)>,
    /// Certificates (PEM) that are trusted besides the system's.
    pub ca_file: Option<PathBuf>,
    /// For name, TCP and TLS together.
    pub connect_timeout: Duration,
    /// While the bytes of a Part are sent: how long none may move.
    pub stall_timeout: Duration,
    /// From the last byte of the request to the last byte of the answer.
    pub answer_timeout: Duration,
    /// The same for complete, where the server puts the Parts together.
    pub complete_timeout: Duration,
}

/// How the key is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Auth {
    /// `Authorization: Bearer KEY`.
    Bearer,
    /// `api-key: KEY`, as Azure wants it.
    ApiKey,
}

/// All but RFC 3986's unreserved characters: ids are opaque, and Azure's carry `/`, `+` and `=`.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

impl Server {
    /// The address of `path` below the base, with `query` and then the configured one.
    pub(super) fn address(&self, path: &[&str], query: &[(&str, &str)]) -> Url {
        let mut address = self.base_url.clone();
        address.set_fragment(None);
        let mut whole = address.path().trim_end_matches('/').to_owned();
        for segment in path {
            whole.push('/');
            whole.extend(utf8_percent_encode(segment, SEGMENT));
        }
        address.set_path(&whole);
        if !query.is_empty() || !self.query.is_empty() {
            let configured = self.query.iter().map(|(name, value)| (name.as_str(), value.as_str()));
            address.query_pairs_mut().extend_pairs(query.iter().copied().chain(configured));
        }
        address
    }
}

/// Without the values of the query: some gateways take a key there.
impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut base_url = self.base_url.clone();
        base_url.set_query(None);
        // Refused by `Client::new`, but this may be printed before.
        let _ = base_url.set_password(None);
        f.debug_struct("Server")
            .field("base_url", &base_url.as_str())
            .field("auth", &self.auth)
            .field("organization", &self.organization)
            .field("project", &self.project)
            .field("query", &self.query.iter().map(|(name, _)| name).collect::<Vec<_>>())
            .field("ca_file", &self.ca_file)
            .field("connect_timeout", &self.connect_timeout)
            .field("stall_timeout", &self.stall_timeout)
            .field("answer_timeout", &self.answer_timeout)
            .field("complete_timeout", &self.complete_timeout)
            .finish()
    }
}
