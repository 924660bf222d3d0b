//! The key of the API: where it comes from, and how it is kept from being seen.

use std::ffi::OsStr;
use std::fmt;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};

use super::Sources;

/// A key that may go into a header. Neither Debug nor Display shows it.
#[derive(Clone)]
pub struct ApiKey(SecretString);

impl ApiKey {
    /// The key itself, for the header of a request and nothing else.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// Takes what stood in a source. Blanks and newlines at its end are dropped, as editors and
    /// `echo` leave them.
    fn parse(text: &str) -> Result<Self, KeyProblem> {
        let text = text.trim_end();
        if text.is_empty() {
            return Err(KeyProblem::Empty);
        }
        if text.contains(['\n', '\r']) {
            return Err(KeyProblem::Lines);
        }
        if !text.chars().all(|c| c.is_ascii_graphic()) {
            return Err(KeyProblem::NotVisible);
        }
        Ok(Self(text.to_owned().into()))
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(hidden)")
    }
}

/// Where a key comes from. Displays as words for `check`, without the key.
#[derive(Debug, Clone)]
pub enum KeySource {
    /// `key_file`.
    File(PathBuf),
    /// A systemd credential, by its path.
    Credential(PathBuf),
    /// `$OPENAI_API_KEY` as it was at the start.
    Environment(SecretString),
    /// No source has one. The text says which were asked.
    Missing(String),
}

impl KeySource {
    /// Reads the key, anew each time: call it again when the file has changed.
    ///
    /// # Errors
    ///
    /// When the source is missing, unreadable, empty, or holds what cannot be a key. Never a
    /// reason to try another source.
    pub fn read(&self) -> Result<ApiKey, KeyError> {
        let result = match self {
            Self::File(path) | Self::Credential(path) => {
                read_file(path).and_then(|text| ApiKey::parse(&text))
            }
            Self::Environment(text) => ApiKey::parse(text.expose_secret()),
            Self::Missing(asked) => Err(KeyProblem::Nowhere(asked.clone())),
        };
        result.map_err(|problem| KeyError { origin: self.to_string(), problem })
    }

    /// The file to look at for changes.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::File(path) | Self::Credential(path) => Some(path),
            Self::Environment(_) | Self::Missing(_) => None,
        }
    }

    /// Whether it is a credential that only the service itself may read. What systemd runs for `ExecReload=` is told where the
    /// credentials are and not let at them.
    pub(super) fn is_withheld(&self) -> bool {
        let Self::Credential(path) = self else { return false };
        std::fs::File::open(path).is_err_and(|why| why.kind() == std::io::ErrorKind::PermissionDenied)
    }

    /// What is unwise about the source, if anything.
    pub(super) fn unwise(&self) -> Option<String> {
        let Self::File(path) = self else { return None };
        // Read or write, for others than owner and group.
        const OTHERS: u32 = 0o006;
        let mode = std::fs::metadata(path).ok()?.mode();
        (mode & OTHERS != 0).then(|| {
            format!("{} can be read or written by everyone (mode {:04o})", path.display(), mode & 0o7777)
        })
    }

    /// The source of `[api]`'s key: the first of these that is named.
    pub(super) fn of_api(key_file: Option<&Path>, sources: &Sources) -> Self {
        if let Some(source) = named(key_file, sources, "openai-api-key") {
            return source;
        }
        match sources.env.get(OsStr::new("OPENAI_API_KEY")) {
            // What is not UTF-8 is no key either, and is refused with the right words when read.
            Some(key) => Self::Environment(key.to_string_lossy().into_owned().into()),
            None => Self::Missing("no key_file, no credential openai-api-key, no OPENAI_API_KEY".into()),
        }
    }

    /// The source of an account's key. `$OPENAI_API_KEY` is not meant for it.
    pub(super) fn of_account(name: &str, key_file: Option<&Path>, sources: &Sources) -> Self {
        let credential = format!("openai-api-key.{name}");
        named(key_file, sources, &credential)
            .unwrap_or_else(|| Self::Missing(format!("no key_file, no credential {credential}")))
    }
}

impl fmt::Display for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "the file {}", path.display()),
            Self::Credential(path) => write!(f, "the systemd credential {}", path.display()),
            Self::Environment(_) => f.write_str("the variable OPENAI_API_KEY"),
            Self::Missing(_) => f.write_str("nowhere"),
        }
    }
}

/// Why there is no key. Its code is `key-missing`; it never holds what stood in the source.
#[derive(Debug, thiserror::Error)]
#[error("{}", match &self.problem {
    KeyProblem::Nowhere(_) => format!("no key: {}", self.problem),
    problem => format!("{} {problem}", self.origin),
})]
pub struct KeyError {
    /// The source, in words.
    origin: String,
    problem: KeyProblem,
}

#[derive(Debug, thiserror::Error)]
enum KeyProblem {
    #[error("{0}")]
    Nowhere(String),
    #[error("cannot be read: {0}")]
    Unreadable(std::io::Error),
    #[error("is not a regular file")]
    NoFile,
    #[error("is too long for a key")]
    TooLong,
    #[error("is empty")]
    Empty,
    #[error("holds several lines; a key is one")]
    Lines,
    #[error("holds blanks or characters that are not visible ASCII")]
    NotVisible,
}

fn named(key_file: Option<&Path>, sources: &Sources, credential: &str) -> Option<KeySource> {
    if let Some(path) = key_file {
        return Some(KeySource::File(path.to_owned()));
    }
    let path = sources.path("CREDENTIALS_DIRECTORY")?.join(credential);
    // A service may have other credentials and not this one; one that cannot be looked at is one.
    path.try_exists().unwrap_or(true).then_some(KeySource::Credential(path))
}

fn read_file(path: &Path) -> Result<String, KeyProblem> {
    // A key has less than 300 characters; what is longer is some other file.
    const LONGEST: u64 = 16 * 1024;
    // Without NONBLOCK, a pipe in its place would hold up the start for ever.
    let nonblock = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = std::fs::OpenOptions::new().read(true).custom_flags(nonblock).open(path);
    let file = file.map_err(KeyProblem::Unreadable)?;
    if !file.metadata().map_err(KeyProblem::Unreadable)?.is_file() {
        return Err(KeyProblem::NoFile);
    }
    let mut bytes = Vec::new();
    file.take(LONGEST + 1).read_to_end(&mut bytes).map_err(KeyProblem::Unreadable)?;
    if bytes.len() as u64 > LONGEST {
        return Err(KeyProblem::TooLong);
    }
    String::from_utf8(bytes).map_err(|_| KeyProblem::NotVisible)
}
