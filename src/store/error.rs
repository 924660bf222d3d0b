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
    /// It is not there, although one was kept here: a new one would send every file again.
    Gone {
        /// Where it was.
        path: PathBuf,
        /// Where it lies, if it was set aside as damaged.
        aside: Option<PathBuf>,
    },
    /// It is older than it was: the log beside it was lost, or an old copy was put there.
    Behind {
        /// The database.
        path: PathBuf,
        /// Commits that are missing.
        missing: i64,
    },
    /// What lies beside it to say how far it got is not there: it may be any old copy.
    Alone {
        /// The database.
        path: PathBuf,
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

    /// What an error of the system means while `path` is opened. What a disk does may pass; what is not allowed stays.
    pub(super) fn of_system(path: &Path, error: &std::io::Error) -> StoreError {
        let code = match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Code::StoreFull,
            std::io::ErrorKind::ReadOnlyFilesystem => Code::StoreReadonly,
            _ if error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) => Code::StoreIo,
            _ => return StoreError::unwritable(path, error),
        };
        StoreError::Broken { code, message: format!("{}: {error}", path.display()) }
    }

    /// What an error of the database means while `path` is opened.
    pub(super) fn opening(path: &Path, error: &sqlx::Error) -> StoreError {
        let message = error.to_string();
        match primary_code(error) {
            Some(CORRUPT | NOTADB) => StoreError::Corrupt { path: path.to_owned(), message },
            Some(READONLY | CANTOPEN | PERM) if is_readonly_mount(path) => StoreError::Broken {
                code: Code::StoreReadonly,
                message: format!("{}: {message}", path.display()),
            },
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
            StoreError::Corrupt { .. }
            | StoreError::Gone { .. }
            | StoreError::Behind { .. }
            | StoreError::Alone { .. } => Some(Code::StoreCorrupt),
            StoreError::Broken { code, .. } => Some(*code),
            StoreError::Newer { .. }
            | StoreError::Older { .. }
            | StoreError::NoStore { .. }
            | StoreError::Unwritable { .. } => None,
        }
    }

    /// Whether what lies there is no ledger to go on from: not to be tried again, but rebuilt.
    pub fn is_damage(&self) -> bool {
        self.code() == Some(Code::StoreCorrupt)
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
            StoreError::Corrupt { path, message } => {
                write!(f, "{} is damaged ({message}): {}", path.display(), Code::StoreCorrupt.remedy())
            }
            StoreError::Gone { path, aside: Some(aside) } => write!(
                f,
                "{} was damaged and lies set aside as {}: {}",
                path.display(),
                aside.display(),
                Code::StoreCorrupt.remedy()
            ),
            StoreError::Gone { path, aside: None } => write!(
                f,
                "{} is gone, although a ledger was kept there: put it back with what lay beside it; else {}",
                path.display(),
                Code::StoreCorrupt.remedy()
            ),
            StoreError::Behind { path, missing } => write!(
                f,
                "{} misses the last {missing} commits that were made (its -wal file was lost, or it is an old copy): \
                 put the right one back; else {}",
                path.display(),
                Code::StoreCorrupt.remedy()
            ),
            StoreError::Alone { path } => write!(
                f,
                "{0} has no {0}.witness beside it, so nobody can tell whether it is the newest copy: put that back; else {1}",
                path.display(),
                Code::StoreCorrupt.remedy()
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
        Some(READONLY | PERM) => Code::StoreReadonly,
        Some(IOERR | CANTOPEN) => Code::StoreIo,
        Some(PROTOCOL) => Code::StoreLocked,
        Some(_) => Code::Internal,
        None => match error {
            sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::WorkerCrashed => Code::StoreIo,
            _ => Code::Internal,
        },
    }
}

/// Whether the file system of `path` is mounted for reading only. Then the same words are no matter of permissions.
pub(super) fn is_readonly_mount(path: &Path) -> bool {
    let there = path.ancestors().find_map(|path| rustix::fs::statvfs(path).ok());
    there.is_some_and(|found| found.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY))
}

/// Whether it says that the database is none, or damaged.
pub(super) fn is_damage(error: &sqlx::Error) -> bool {
    code_of(error) == Code::StoreCorrupt
}

/// The words of a check, which come with line breaks.
pub(super) fn one_line(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Whether a limit on time ended the statement.
pub(super) fn is_interrupted(error: &sqlx::Error) -> bool {
    primary_code(error) == Some(INTERRUPT)
}

/// Whether nothing more can be written to the database at hand, whatever the other side of a statement was.
pub(super) fn is_full(error: &sqlx::Error) -> bool {
    primary_code(error) == Some(FULL)
}

/// Whether whoever may only read found no write-ahead log and may not make one.
pub(super) fn has_no_log(error: &sqlx::Error) -> bool {
    primary_code(error) == Some(CANTOPEN) || extended_code(error) == Some(READONLY_DIRECTORY)
}

/// Whether a transaction was cut off that only who may write can roll back: the one that makes the database, since all later
/// ones go through the write-ahead log.
pub(super) fn is_cut_off(error: &sqlx::Error) -> bool {
    extended_code(error) == Some(READONLY_ROLLBACK)
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
const INTERRUPT: u32 = 9;
const IOERR: u32 = 10;
const CORRUPT: u32 = 11;
const FULL: u32 = 13;
const CANTOPEN: u32 = 14;
const PROTOCOL: u32 = 15;
const TOOBIG: u32 = 18;
const CONSTRAINT: u32 = 19;
const MISMATCH: u32 = 20;
const RANGE: u32 = 25;
const NOTADB: u32 = 26;
const READONLY_ROLLBACK: u32 = 776;
const READONLY_DIRECTORY: u32 = 1544;
