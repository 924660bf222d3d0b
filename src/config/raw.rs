//! What was said, layer laid over layer: nothing filled in, nothing compared. [`settings`] has
//! what is in force.
//!
//! [`settings`]: super::settings

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

use super::settings::{AfterFailure, AfterUpload, Auth, Existing, Listen, LogFormat, Preflight, WatchMode};
use super::units::{Rate, Size, Time};

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Raw {
    pub(super) api: RawApi,
    pub(super) accounts: BTreeMap<String, RawApi>,
    pub(super) upload: RawUpload,
    pub(super) retry: RawRetry,
    pub(super) store: RawStore,
    pub(super) log: RawLog,
    pub(super) status: RawStatus,
    pub(super) folder: Vec<RawFolder>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawApi {
    pub(super) base_url: Option<String>,
    pub(super) plain_http: Option<bool>,
    pub(super) key_file: Option<PathBuf>,
    pub(super) organization: Option<String>,
    pub(super) project: Option<String>,
    pub(super) auth: Option<Auth>,
    pub(super) query: Option<BTreeMap<String, String>>,
    pub(super) ca_file: Option<PathBuf>,
    pub(super) connect_timeout: Option<Time>,
    pub(super) stall_timeout: Option<Time>,
    pub(super) answer_timeout: Option<Time>,
    pub(super) complete_timeout: Option<Time>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawUpload {
    pub(super) part_size: Option<AutoOr<Size>>,
    pub(super) parallel_parts: Option<AutoOr<usize>>,
    pub(super) bandwidth_limit: Option<Rate>,
    pub(super) checksum: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawRetry {
    pub(super) first_delay: Option<Time>,
    pub(super) max_delay: Option<Time>,
    pub(super) give_up_after: Option<Time>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawStore {
    pub(super) state_dir: Option<PathBuf>,
    pub(super) keep_history: Option<Time>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawLog {
    pub(super) level: Option<String>,
    pub(super) format: Option<LogFormat>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawStatus {
    pub(super) listen: Option<Listen>,
    pub(super) token_file: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawFolder {
    pub(super) path: Option<PathBuf>,
    pub(super) purpose: Option<String>,
    pub(super) name: Option<String>,
    pub(super) account: Option<String>,
    pub(super) recursive: Option<bool>,
    pub(super) watch: Option<WatchMode>,
    pub(super) poll_interval: Option<Time>,
    pub(super) rescan_interval: Option<Time>,
    pub(super) include: Option<Vec<String>>,
    pub(super) exclude: Option<Vec<String>>,
    pub(super) hidden: Option<bool>,
    pub(super) follow_symlinks: Option<RawLinks>,
    pub(super) existing: Option<Existing>,
    pub(super) settle: Option<AutoOr<Time>>,
    pub(super) mime_type: Option<String>,
    pub(super) expires_after: Option<Time>,
    pub(super) preflight: Option<Preflight>,
    pub(super) dedupe: Option<bool>,
    pub(super) after_upload: Option<AfterUpload>,
    pub(super) after_failure: Option<AfterFailure>,
    pub(super) receipt: Option<RawReceipt>,
    pub(super) on_stored: Option<Vec<String>>,
    pub(super) on_failed: Option<Vec<String>>,
    pub(super) hook_timeout: Option<Time>,
}

/// The word "auto", or a value.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(untagged)]
pub(super) enum AutoOr<T> {
    Auto(Auto),
    Is(T),
}

#[derive(Debug, Clone, Copy, Deserialize)]
pub(super) enum Auto {
    #[serde(rename = "auto")]
    Auto,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(untagged)]
pub(super) enum RawLinks {
    Inside(bool),
    Anywhere(Anywhere),
}

#[derive(Debug, Clone, Copy, Deserialize)]
pub(super) enum Anywhere {
    #[serde(rename = "anywhere")]
    Anywhere,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(super) enum RawReceipt {
    Beside(bool),
    In { dir: PathBuf },
}
