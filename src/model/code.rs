//! Why a job failed, waits or was put off: the stable codes, each with its remedy.

use std::fmt;

/// Why a job failed, waits or was put off, as the ledger keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// Its stable code.
    pub code: Code,
    /// For people: what happened, with the server's or the system's words.
    pub message: String,
    /// The HTTP status, where there was an answer.
    pub status: Option<u16>,
    /// The server's name for the request.
    pub request_id: Option<String>,
}

impl Reason {
    /// A reason that no answer of the server stands behind.
    pub fn local(code: Code, message: impl Into<String>) -> Reason {
        Reason { code, message: message.into(), status: None, request_id: None }
    }
}

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $text:literal, $remedy:literal;)*) => {
        /// The stable codes of errors: in `error.code`, in logs, in the manual.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Code { $($(#[$doc])* $variant,)* }

        impl Code {
            /// Every code, in the order of the manual.
            pub const ALL: &[Code] = &[$(Code::$variant,)*];

            /// The code as it is written everywhere.
            pub fn as_str(self) -> &'static str {
                match self { $(Code::$variant => $text,)* }
            }

            /// What a person can do about it.
            pub fn remedy(self) -> &'static str {
                match self { $(Code::$variant => $remedy,)* }
            }
        }

        impl std::str::FromStr for Code {
            type Err = UnknownCode;
            fn from_str(text: &str) -> Result<Code, UnknownCode> {
                match text { $($text => Ok(Code::$variant),)* _ => Err(UnknownCode) }
            }
        }
    };
}

/// A code that this version does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownCode;

codes! {
    /// The file has no bytes; the API takes none such.
    FileEmpty = "file-empty", "put content into the file; an Upload needs at least one byte";
    /// More than an Upload takes.
    FileTooLarge = "file-too-large", "split the file; an Upload takes at most 8 GiB";
    /// It cannot be read.
    FileUnreadable = "file-unreadable", "give the service's user read permission, then `upspool retry`";
    /// It is not the version that was queued.
    FileChanged = "file-changed", "nothing: the new version is a job of its own";
    /// The server will not have it.
    FileRejected = "file-rejected", "see the server's words; mend the file or the folder's purpose, then `upspool retry`";
    /// It is wrong as the purpose wants it.
    PreflightFailed = "preflight-failed", "mend the file and drop it again; or say preflight = \"warn\" and `upspool retry`";
    /// There is no key.
    KeyMissing = "key-missing", "set [api] key_file, or OPENAI_API_KEY";
    /// 401.
    KeyRejected = "key-rejected", "check the key and that this host may use it";
    /// 403.
    Forbidden = "forbidden", "check the project's permissions and whether the API serves this country";
    /// Money or quota.
    QuotaExhausted = "quota-exhausted", "check billing and limits of the account";
    /// 429.
    RateLimited = "rate-limited", "nothing: it slows down by itself";
    /// 5xx.
    ServerError = "server-error", "nothing: it tries again; see the server's status page if it lasts";
    /// No connection, or it broke.
    Network = "network", "check name resolution, route, proxy and firewall; a proxy that looks into TLS needs [api] ca_file";
    /// A body that nobody took.
    Stalled = "stalled", "check the link; [api] stall_timeout is how long it waits";
    /// An answer that is not the API's.
    BadAnswer = "bad-answer", "check base_url: what answers there is not the API, or a proxy stands before it";
    /// The server's MD5 is another.
    ChecksumMismatch = "checksum-mismatch", "`upspool retry`; if it comes again, look at memory, disk and proxies";
    /// The Upload's hour passed.
    UploadExpired = "upload-expired", "nothing: a new Upload is opened";
    /// The link cannot carry it within the hour.
    TooSlow = "too-slow", "a faster link, or a smaller file: see the rate that is needed";
    /// Nobody can tell whether there is a File.
    CompleteUnresolved = "complete-unresolved", "look the Files of the account up by name, size and time, then `upspool resolve JOB --file-id ID` or `--again`";
    /// The source could not be moved or deleted, the receipt not be written, or the program did not do well.
    FinishFailed = "finish-failed", "see why in `upspool show JOB`; mend that, then `upspool retry JOB` does what is left";
    /// No room for the store.
    StoreFull = "store-full", "make room on the disk of the state directory";
    /// Somebody else holds the database.
    StoreLocked = "store-locked", "end what holds the database of the state directory";
    /// The store may be read, but not written.
    StoreReadonly = "store-readonly", "make the state directory's file system writable again, for the service's user";
    /// The disk refuses.
    StoreIo = "store-io", "look at the kernel's log and at the disk of the state directory";
    /// The database is not one, not whole, or gone.
    StoreCorrupt = "store-corrupt", "`upspool rebuild` makes a new store from what can be read; all folders begin paused";
    /// No more inotify watches.
    WatchLimit = "watch-limit", "raise fs.inotify.max_user_watches";
    /// The folder is not there.
    FolderMissing = "folder-missing", "create or mount the folder";
    /// The configuration is wrong.
    ConfigInvalid = "config-invalid", "`upspool check` names file, line and key";
    /// The program's own fault.
    Internal = "internal", "please report it with the log lines around it";
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manual_has_each_code_with_its_remedy_in_their_order_and_no_other() {
        let manual = include_str!("../../docs/OPERATING.md");
        let (_, section) =
            manual.split_once("## Every code and its remedy").expect("the manual has the section");
        let section = section.split_once("\n## ").map_or(section, |(section, _)| section);
        let rows: Vec<(&str, &str)> = section
            .lines()
            .filter_map(|line| {
                let cells: Vec<&str> = line.strip_prefix("| `")?.strip_suffix(" |")?.split(" | ").collect();
                assert_eq!(cells.len(), 4, "{line}");
                Some((cells[0].trim_end_matches('`'), cells[3]))
            })
            .collect();
        let codes: Vec<(&str, &str)> = Code::ALL.iter().map(|code| (code.as_str(), code.remedy())).collect();
        assert_eq!(rows, codes);
    }
}
