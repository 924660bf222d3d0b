//! What is in force: every default filled in, ready to use.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::fault::{Place, Warning};
use super::globs::Patterns;
use super::key::{ApiKey, KeyError, KeySource};

/// The account of `[api]`, which a folder uses unless it names another.
pub const DEFAULT_ACCOUNT: &str = "default";

/// The purposes that OpenAI documents; another is passed on with a warning.
pub const PURPOSES: [&str; 6] = ["assistants", "batch", "fine-tune", "vision", "user_data", "evals"];

/// The configuration in force.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file that was read, absolute; none if there is none.
    pub source: Option<PathBuf>,
    /// By name; `[api]` is [`DEFAULT_ACCOUNT`] and always there.
    pub accounts: BTreeMap<String, Account>,
    /// `[upload]`.
    pub upload: Upload,
    /// `[retry]`.
    pub retry: Retry,
    /// `[store]`.
    pub store: Store,
    /// `[log]`.
    pub log: Log,
    /// `[status]`.
    pub status: Status,
    /// In the order of the file. May be empty; only `run` and `check` need one.
    pub folders: Vec<Folder>,
    /// What does not keep the service from running, one line each.
    pub warnings: Vec<Warning>,
}

/// A server, a key, an organization and a project.
///
/// `[accounts.NAME]` takes the four timeouts from `[api]` unless it has its own; all else starts
/// from the defaults, so that no key and no header goes where it was not configured for.
#[derive(Debug, Clone)]
pub struct Account {
    /// The name that folders use.
    pub name: String,
    /// http or https, no query, no slash at the end: append `/uploads`.
    pub base_url: String,
    /// Where the key comes from.
    pub key: KeySource,
    /// The header `OpenAI-Organization`.
    pub organization: Option<String>,
    /// The header `OpenAI-Project`.
    pub project: Option<String>,
    /// How the key is sent.
    pub auth: Auth,
    /// Added to the query of each request.
    pub query: Query,
    /// PEM, added to the system's roots.
    pub ca_file: Option<PathBuf>,
    /// For a connection to be made.
    pub connect_timeout: Duration,
    /// While a body is sent: no byte moved for so long.
    pub stall_timeout: Duration,
    /// From the last byte sent to the answer.
    pub answer_timeout: Duration,
    /// The same, for complete.
    pub complete_timeout: Duration,
    /// Where the key's source was said.
    pub key_place: Place,
    /// Where `ca_file` was said.
    pub ca_place: Place,
}

impl Account {
    /// Its table in the file.
    pub(super) fn table(&self) -> String {
        table_of(&self.name)
    }
}

pub(super) fn table_of(account: &str) -> String {
    if account == DEFAULT_ACCOUNT { "api".to_owned() } else { format!("accounts.{account}") }
}

/// Names and values for the query of a URL. Debug shows the names: some gateways take keys there.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Query(pub BTreeMap<String, String>);

impl std::fmt::Debug for Query {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// How the key is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Auth {
    /// `Authorization: Bearer KEY`.
    Bearer,
    /// `api-key: KEY`, as Azure wants it.
    ApiKey,
}

/// `[upload]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upload {
    /// How a file is cut.
    pub part_size: PartSize,
    /// Parts in flight, for all files and accounts together; 1 to 256. None: as many as fill the link.
    pub parallel_parts: Option<usize>,
    /// Bytes a second.
    pub bandwidth_limit: Option<u64>,
    /// Send the file's MD5 with complete.
    pub checksum: bool,
}

/// How a file is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartSize {
    /// By the file's size.
    Auto,
    /// Bytes, 1 MiB to 64 MiB.
    Bytes(u64),
}

/// `[retry]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retry {
    /// Before the second attempt; then doubling, with full jitter.
    pub first_delay: Duration,
    /// The doubling ends here.
    pub max_delay: Duration,
    /// Of trying without progress.
    pub give_up_after: Duration,
}

/// `[store]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Store {
    /// Absolute; need not exist yet.
    pub state_dir: PathBuf,
    /// How long requests and Parts of ended jobs are kept.
    pub keep_history: Duration,
    /// Where `state_dir` was said.
    pub place: Place,
}

/// `[log]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// A level, or a directive for `EnvFilter` that was seen to parse.
    pub level: String,
    /// How events are written.
    pub format: LogFormat,
}

/// How events are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// journald under systemd, text on a terminal, else JSON.
    Auto,
    /// To journald, with fields.
    Journald,
    /// For people.
    Text,
    /// One object a line.
    Json,
}

/// `[status]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Where the page, metrics and health are served; nowhere if none.
    pub listen: Option<Listen>,
    /// Holds what a request must show.
    pub token_file: Option<PathBuf>,
    /// Where `token_file` was said.
    pub token_place: Place,
}

impl Status {
    /// What a request must show, read anew each time; none if nothing is asked for.
    ///
    /// # Errors
    ///
    /// When there is a file for it that cannot be read, is empty, or holds what cannot be a token.
    pub fn token(&self) -> Result<Option<ApiKey>, KeyError> {
        self.token_file.clone().map(|path| KeySource::File(path).read()).transpose()
    }
}

/// Where the page listens.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Listen {
    /// An address with its port.
    Address(SocketAddr),
    /// A Unix socket, absolute.
    Socket(PathBuf),
}

impl Listen {
    /// Whether only programs on this machine get there.
    pub fn is_local(&self) -> bool {
        match self {
            Listen::Address(address) => address.ip().to_canonical().is_loopback(),
            Listen::Socket(_) => true,
        }
    }
}

impl std::str::FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Listen, String> {
        match text.strip_prefix("unix:") {
            Some(path) => super::checks::absolute_path(path).map(|()| Listen::Socket(path.into())),
            None => text
                .parse()
                .map(Listen::Address)
                .map_err(|_| "is not an address with a port, or unix:/PATH".into()),
        }
    }
}

impl TryFrom<String> for Listen {
    type Error = String;

    fn try_from(text: String) -> Result<Listen, String> {
        text.parse()
    }
}

impl std::fmt::Display for Listen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Listen::Address(address) => write!(f, "{address}"),
            Listen::Socket(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A watched directory.
#[derive(Debug, Clone, PartialEq)]
pub struct Folder {
    /// Unique; the directory's own name unless said.
    pub name: String,
    /// Absolute, without `..`; need not exist ([`Config::check_folders`]).
    pub path: PathBuf,
    /// Not empty; may be outside [`PURPOSES`].
    pub purpose: String,
    /// A key of [`Config::accounts`].
    pub account: String,
    /// Whether directories in it are watched too.
    pub recursive: bool,
    /// How changes are noticed.
    pub watch: WatchMode,
    /// Between two looks where events cannot be had.
    pub poll_interval: Duration,
    /// Between two scans under events.
    pub rescan_interval: Duration,
    /// Over the path in the folder.
    pub include: Patterns,
    /// Over the path in the folder; wins over `include`.
    pub exclude: Patterns,
    /// Whether names that begin with a dot are taken.
    pub hidden: bool,
    /// Which symbolic links are followed.
    pub follow_symlinks: FollowSymlinks,
    /// What becomes of files that lie there when the folder is first watched.
    pub existing: Existing,
    /// How long a file must be unchanged.
    pub settle: Settle,
    /// `type/subtype`; by extension if none.
    pub mime_type: Option<String>,
    /// Of the File, 1 h to 30 d; the server's rule if none.
    pub expires_after: Option<Duration>,
    /// Whether the content is looked at before it is sent.
    pub preflight: Preflight,
    /// Whether a content that has a File already is not sent again.
    pub dedupe: bool,
    /// What becomes of a file that is stored.
    pub after_upload: AfterUpload,
    /// What becomes of a file that failed.
    pub after_failure: AfterFailure,
    /// Where the record is written beside the ledger.
    pub receipt: Receipt,
    /// A program and its arguments; none if empty.
    pub on_stored: Vec<String>,
    /// A program and its arguments; none if empty.
    pub on_failed: Vec<String>,
    /// After it a hook is ended.
    pub hook_timeout: Duration,
    /// Where `path` was said.
    pub place: Place,
    /// Where the hooks were said.
    pub finish_places: FinishPlaces,
}

/// Which symbolic links below a folder are followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FollowSymlinks {
    /// None.
    #[default]
    No,
    /// Those that lead to something in the folder.
    Inside,
    /// All.
    Anywhere,
}

/// Where hooks were said.
#[derive(Debug, Clone, PartialEq)]
pub struct FinishPlaces {
    /// `on_stored`.
    pub on_stored: Place,
    /// `on_failed`.
    pub on_failed: Place,
}

impl Default for FinishPlaces {
    fn default() -> FinishPlaces {
        FinishPlaces { on_stored: Place::Default, on_failed: Place::Default }
    }
}

impl Folder {
    /// Directories that files are moved to or receipts are written to, each with the key that names it, absolute. They are
    /// not watched even where they lie in a folder.
    pub fn targets(&self) -> Vec<(&'static str, PathBuf)> {
        let mut targets = Vec::new();
        if let AfterUpload::Move(to) = &self.after_upload {
            targets.push(("folder.after_upload", self.path.join(to)));
        }
        if let AfterFailure::Move(to) = &self.after_failure {
            targets.push(("folder.after_failure", self.path.join(to)));
        }
        if let Receipt::In(to) = &self.receipt {
            targets.push(("folder.receipt", self.path.join(to)));
        }
        targets
    }

    /// The programs that are told of jobs, each with its key and where that was said.
    pub fn hooks(&self) -> Vec<(&'static str, &str, &Place)> {
        let hooks = [
            ("folder.on_stored", &self.on_stored, &self.finish_places.on_stored),
            ("folder.on_failed", &self.on_failed, &self.finish_places.on_failed),
        ];
        hooks
            .into_iter()
            .filter_map(|(key, command, place)| Some((key, command.first()?.as_str(), place)))
            .collect()
    }
}

/// How changes are noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WatchMode {
    /// By events where the file system has them.
    Auto,
    /// By events.
    Events,
    /// By looking.
    Poll,
}

/// What becomes of files that lie there when the folder is first watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Existing {
    /// Upload, but begin paused if they are many.
    Auto,
    /// Upload.
    Upload,
    /// Skip.
    Skip,
}

/// How long a file must be unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settle {
    /// By what can be tested.
    Auto,
    /// So long.
    Quiet(Duration),
}

/// Whether the content is looked at before it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Preflight {
    /// No.
    Off,
    /// A fault is told, and the file sent.
    Warn,
    /// A fault fails the job before anything is sent.
    Reject,
}

/// What becomes of a file that is stored.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AfterUpload {
    /// It stays.
    Keep,
    /// It is deleted.
    Delete,
    /// It is moved; a relative directory lies in the folder and is not watched.
    Move(PathBuf),
}

/// What becomes of a file that failed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AfterFailure {
    /// It stays.
    Keep,
    /// It is moved; a relative directory lies in the folder and is not watched.
    Move(PathBuf),
}

/// Where the record of a job is written beside the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Receipt {
    /// Nowhere.
    None,
    /// `NAME.upspool.json` beside the file.
    Beside,
    /// Into this directory.
    In(PathBuf),
}
