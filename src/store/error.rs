//! What can go wrong with the store, in one line each: the thing, the place, the remedy.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::model::job::{Code, JobId, State};

/// Why the store cannot be opened or read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreError {
    /// Another service holds the state directory.
    Locked {
        /// Its process, if it has written its id.
        pid: Option<u32>,
        /// The lock file.
        path: PathBuf,
    },
    /// A later version of the program wrote it.
    Newer {
        /// The database.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// The newest that this program knows.
        known: i64,
    },
    /// No service of this version has brought it up to date yet.
    Older {
        /// The database.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// The one that this program reads.
        known: i64,
    },
    /// There is none yet.
    NoStore {
        /// Where it would be.
        path: PathBuf,
    },
    /// It is not a database, or a damaged one.
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// It cannot be created or written.
    Unwritable {
        /// The file or directory.
        path: PathBuf,
        /// The system's words.
        message: String,
    },
    /// It is there, but did not do what was asked.
    Broken {
        /// Which kind of fault.
        code: Code,
        /// SQLite's words.
        message: String,
    },
}

/// What reads and opening return.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;

impl StoreError {
    pub(super) fn unwritable(path: &Path, error: &dyn fmt::Display) -> StoreError {
        StoreError::Unwritable { path: path.to_owned(), message: error.to_string() }
    }

    /// What an error of the database means while `path` is opened.
    pub(super) fn opening(path: &Path, error: &sqlx::Error) -> StoreError {
        let message = error.to_string();
        match primary_code(error) {
            Some(CORRUPT | NOTADB) => StoreError::Corrupt { path: path.to_owned(), message },
            Some(READONLY | CANTOPEN | PERM) => StoreError::Unwritable { path: path.to_owned(), message },
            _ => {
                StoreError::Broken { code: code_of(error), message: format!("{}: {message}", path.display()) }
            }
        }
    }

    /// The stable code, where one fits.
    pub fn code(&self) -> Option<Code> {
        match self {
            StoreError::Locked { .. } => Some(Code::StoreLocked),
            StoreError::Corrupt { .. } => Some(Code::StoreCorrupt),
            StoreError::Broken { code, .. } => Some(*code),
            StoreError::Newer { .. }
            | StoreError::Older { .. }
            | StoreError::NoStore { .. }
            | StoreError::Unwritable { .. } => None,
        }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreError::Locked { pid: Some(pid), path } => write!(
                f,
                "another upspool (process {pid}) holds {}: stop it, or give this one another --state-dir",
                path.display()
            ),
            StoreError::Locked { pid: None, path } => write!(
                f,
                "another upspool holds {}: stop it, or give this one another --state-dir",
                path.display()
            ),
            StoreError::Newer { path, found, known } => write!(
                f,
                "{} has version {found}, but this upspool knows no later one than {known}: install the upspool that \
                 wrote it, or a newer one",
                path.display()
            ),
            StoreError::Older { path, found, known } => write!(
                f,
                "{} has version {found}, but this upspool reads version {known}: start the service once, it brings \
                 the store up to date",
                path.display()
            ),
            StoreError::NoStore { path } => write!(
                f,
                "there is no store at {} yet: start the service once, or name the right --state-dir",
                path.display()
            ),
            StoreError::Corrupt { path, message } => write!(
                f,
                "{} is not a usable database ({message}): restore it from a backup, or see `upspool rebuild`",
                path.display()
            ),
            StoreError::Unwritable { path, message } => write!(
                f,
                "cannot write {} ({message}): give the service's user the state directory, or name another with \
                 --state-dir",
                path.display()
            ),
            StoreError::Broken { code, message } => {
                write!(f, "the store failed ({message}): {}", code.remedy())
            }
        }
    }
}

impl std::error::Error for StoreError {}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> StoreError {
        StoreError::Broken { code: code_of(&error), message: error.to_string() }
    }
}

/// Why one write was not applied although the store works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WriteError {
    /// The row is not where the write expected it.
    Conflict {
        /// Which.
        job: JobId,
        /// The write.
        what: &'static str,
        /// Where the job is; none: there is no such job.
        found: Option<State>,
    },
    /// Another job with the same account, purpose, name and size is in `completing`.
    Twin {
        /// The job that has to wait.
        job: JobId,
    },
    /// The File belongs to another job of the ledger.
    FileTaken {
        /// The job that was to have it.
        job: JobId,
    },
    /// The database refused it: the program's own fault.
    Refused {
        /// The write.
        what: &'static str,
        /// SQLite's words.
        message: String,
    },
    /// The store itself failed; only for writes that do not go through the writer, which waits and tries again.
    Store {
        /// Which kind of fault.
        code: Code,
        /// SQLite's words.
        message: String,
    },
    /// The writer has ended.
    Closed,
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WriteError::Conflict { job, what, found: Some(found) } => {
                write!(f, "job {} is {found}, so {what} was not written", job.0)
            }
            WriteError::Conflict { job, what, found: None } => {
                write!(f, "there is no job {}, so {what} was not written", job.0)
            }
            WriteError::Twin { job } => {
                write!(f, "job {} has to wait: one with the same name and size is being completed", job.0)
            }
            WriteError::FileTaken { job } => {
                write!(f, "the File for job {} belongs to another job", job.0)
            }
            WriteError::Refused { what, message } => write!(f, "the store refused {what}: {message}"),
            WriteError::Store { message, .. } => write!(f, "the store failed: {message}"),
            WriteError::Closed => write!(f, "the writer has ended"),
        }
    }
}

impl std::error::Error for WriteError {}

/// Whether an error concerns one statement or the whole store.
pub(super) fn is_of_statement(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(_) => {
            matches!(primary_code(error), Some(ERROR | TOOBIG | CONSTRAINT | MISMATCH | RANGE))
        }
        sqlx::Error::RowNotFound
        | sqlx::Error::ColumnNotFound(_)
        | sqlx::Error::ColumnIndexOutOfBounds { .. }
        | sqlx::Error::ColumnDecode { .. }
        | sqlx::Error::Decode(_)
        | sqlx::Error::Encode(_)
        | sqlx::Error::TypeNotFound { .. } => true,
        _ => false,
    }
}

/// The stable code of a fault of the store.
pub(super) fn code_of(error: &sqlx::Error) -> Code {
    match primary_code(error) {
        Some(FULL) => Code::StoreFull,
        Some(BUSY | LOCKED) => Code::StoreLocked,
        Some(CORRUPT | NOTADB) => Code::StoreCorrupt,
        _ => Code::Internal,
    }
}

/// Whether whoever may only read found no write-ahead log and may not make one.
pub(super) fn has_no_log(error: &sqlx::Error) -> bool {
    primary_code(error) == Some(CANTOPEN) || extended_code(error) == Some(READONLY_DIRECTORY)
}

/// SQLite's primary result code: the low byte of the extended one.
fn primary_code(error: &sqlx::Error) -> Option<u32> {
    Some(extended_code(error)? & 0xff)
}

fn extended_code(error: &sqlx::Error) -> Option<u32> {
    error.as_database_error()?.code()?.parse().ok()
}

// https://www.sqlite.org/rescode.html
const ERROR: u32 = 1;
const PERM: u32 = 3;
const BUSY: u32 = 5;
const LOCKED: u32 = 6;
const READONLY: u32 = 8;
const CORRUPT: u32 = 11;
const FULL: u32 = 13;
const CANTOPEN: u32 = 14;
const TOOBIG: u32 = 18;
const CONSTRAINT: u32 = 19;
const MISMATCH: u32 = 20;
const RANGE: u32 = 25;
const NOTADB: u32 = 26;
const READONLY_DIRECTORY: u32 = 1544;
