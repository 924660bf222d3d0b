//! The keys that there are, and what each may be. The contract with the user is written down here
//! once: the file, the environment and the hints read this table.

use std::time::Duration;

use super::checks;
use super::kind::Kind;

/// A key of a table, and what its value may be.
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
}

/// The tables with their keys. An account has the keys of `api`; `folder` may stand many times.
pub(super) static TABLES: &[(&str, &[Key])] = &[
    ("api", API),
    ("upload", UPLOAD),
    ("retry", RETRY),
    ("store", STORE),
    ("log", LOG),
    ("status", STATUS),
    ("folder", FOLDER),
];

/// The keys of a table.
pub(super) fn table(name: &str) -> Option<&'static [Key]> {
    TABLES.iter().find(|(table, _)| *table == name).map(|(_, keys)| *keys)
}

static API: &[Key] = &[
    key("base_url", text(checks::base_url, "\"https://api.openai.com/v1\"")),
    key("plain_http", Kind::Bool),
    key("key_file", text(checks::absolute_path, "\"/etc/upspool/openai-api-key\"")),
    key("organization", text(checks::header_word, "\"org-…\"")),
    key("project", text(checks::header_word, "\"proj_…\"")),
    key("auth", Kind::Word(&["bearer", "api-key"])),
    key("query", Kind::TextTable),
    key("ca_file", text(checks::absolute_path, "\"/etc/ssl/proxy.pem\"")),
    key("connect_timeout", time(MILLI, DAY)),
    key("stall_timeout", time(MILLI, DAY)),
    key("answer_timeout", time(MILLI, DAY)),
    key("complete_timeout", time(MILLI, DAY)),
];

static UPLOAD: &[Key] = &[
    // The server takes Parts up to 64 MiB; under 1 MiB the requests cost more than the bytes.
    key("part_size", Kind::Size { min: 1 << 20, max: 64 << 20, auto: true }),
    key("parallel_parts", Kind::Count { min: 1, max: 256, auto: true }),
    key("bandwidth_limit", Kind::Rate),
    key("checksum", Kind::Bool),
];

static RETRY: &[Key] = &[
    key("first_delay", time(MILLI, DAY)),
    key("max_delay", time(MILLI, DAY)),
    key("give_up_after", time(MILLI, YEAR)),
];

static STORE: &[Key] = &[
    key("state_dir", text(checks::absolute_path, "\"/var/lib/upspool\"")),
    key("keep_history", time(HOUR, Duration::from_secs(3650 * 86_400))),
];

static LOG: &[Key] = &[
    key("level", text(checks::log_level, "\"info\", or \"info,upspool=debug\"")),
    key("format", Kind::Word(&["auto", "journald", "text", "json"])),
];

static STATUS: &[Key] = &[
    key("listen", text(checks::listen, "\"127.0.0.1:9797\", or \"unix:/var/lib/upspool/page.sock\"")),
    key("token_file", text(checks::absolute_path, "\"/etc/upspool/status-token\"")),
];

static FOLDER: &[Key] = &[
    key("path", text(checks::folder_path, "\"/srv/drop/batch\"")),
    key("purpose", text(checks::purpose, "\"batch\"")),
    key("name", text(checks::folder_name, "\"batch\"")),
    key("account", text(checks::account_name, "\"eu\"")),
    key("recursive", Kind::Bool),
    key("watch", Kind::Word(&["auto", "events", "poll"])),
    key("poll_interval", time(SECOND, DAY)),
    key("rescan_interval", time(SECOND, Duration::from_secs(7 * 86_400))),
    key("include", globs(false)),
    key("exclude", globs(true)),
    key("hidden", Kind::Bool),
    key("follow_symlinks", Kind::BoolOr("anywhere")),
    key("existing", Kind::Word(&["auto", "upload", "skip"])),
    key("settle", Kind::Time { min: MILLI, max: DAY, auto: true }),
    key("mime_type", text(checks::mime_type, "\"text/jsonl\"")),
    // The server's own limits.
    key("expires_after", time(HOUR, Duration::from_secs(30 * 86_400))),
    key("preflight", Kind::Word(&["off", "warn", "reject"])),
    key("dedupe", Kind::Bool),
    key("after_upload", Kind::Shape { words: &["keep", "delete"], flags: false, table: "move" }),
    key("after_failure", Kind::Shape { words: &["keep"], flags: false, table: "move" }),
    key("receipt", Kind::Shape { words: &[], flags: true, table: "dir" }),
    key("on_stored", COMMAND),
    key("on_failed", COMMAND),
    key("hook_timeout", time(SECOND, DAY)),
];

const MILLI: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);
const YEAR: Duration = Duration::from_secs(365 * 86_400);
const COMMAND: Kind =
    Kind::Texts { check: |_| Ok(()), may_be_empty: true, example: "[\"/usr/local/bin/next-step\"]" };

const fn key(name: &'static str, kind: Kind) -> Key {
    Key { name, kind }
}

const fn text(check: super::kind::TextCheck, example: &'static str) -> Kind {
    Kind::Text { check, example }
}

const fn time(min: Duration, max: Duration) -> Kind {
    Kind::Time { min, max, auto: false }
}

const fn globs(may_be_empty: bool) -> Kind {
    Kind::Texts { check: checks::glob, may_be_empty, example: "[\"*.jsonl\", \"done/**\"]" }
}
