//! The queue and the ledger: every SQL statement of the program, and nothing that decides.
//!
//! The tour, in the order in which a row meets them:
//! - `open` makes or finds the database; `lock` sees to it that one service does; `witness` knows that there was one and
//!   how far it got, and `check` whether what lies there is that one, and whole.
//! - `folders` gives each watched folder its row.
//! - `known` tells the scan which of the files that it saw are new.
//! - `enqueue` inserts a job, or nothing.
//! - `jobs` loads what the board works on: what is open, the window of what is next, and what may be the same as that.
//! - `steps` writes one [`Step`](crate::model::job::Step), each by a method of its own that says where the job has to
//!   be; `sessions` keeps an Upload and its Parts, `history` writes down that it happened; `deadline` carries the expiry of an Upload into another boot.
//! - `finish` is what is still to be done after the end of a job, and how far that got.
//! - `aside` sets a damaged database aside; `rebuild` makes a new one of what `salvage` can still read of
//!   it, if need be with the first pages of a new one (`transplant`).
//! - `health` is whether the store works; `writer` is the one task that writes, many [`Write`]s to a commit; `write` says what they are and does them.
//! - `read` and `list` answer the commands; `requests` takes what they ask for, and `spool` what those ask for who may not
//!   write here.
//! - `servers` remembers what was learnt of a server, and says which Files are the ledger's.
//! - `upkeep` forgets what is old and copies the whole.
//!
//! Each statement opens with its name. Nothing here reads a clock. A reader holds no transaction longer than one
//! statement: whoever wants more pages by key.

mod aside;
mod check;
mod deadline;
mod enqueue;
mod error;
mod finish;
mod folders;
mod health;
mod history;
mod jobs;
mod known;
mod list;
mod lock;
mod open;
mod read;
mod rebuild;
mod requests;
mod row;
mod salvage;
mod servers;
mod sessions;
mod spool;
mod steps;
mod together;
mod transplant;
mod upkeep;
mod values;
mod witness;
mod write;
mod writer;

#[cfg(test)]
mod tests;

pub use aside::set_aside;
pub use deadline::{BootId, SavedDeadline, resume_deadline};
pub use enqueue::{Arrival, Candidate};
pub use error::{Result, StoreError, WriteError};
pub use finish::{Progress, SourceEnd, Unfinished};
pub use folders::FolderRow;
pub use health::Health;
pub use history::{Context, HistoryRow};
pub use jobs::Window;
pub use known::{Known, Present, Seen};
pub use list::Filter;
pub use lock::Lock;
pub use open::DATABASE;
pub use read::{Count, PartRow, UploadRow, Waiting};
pub use rebuild::{RebuildError, Rebuilt, rebuild};
pub use requests::{NewRequest, RequestRow};
pub use row::{FinishState, Record, RecordError};
pub use spool::{Look, Refused, SPOOL, Spool, Spooled, is_left, leave};
pub use upkeep::Pruned;
pub use write::{Applied, Write};
pub use writer::{Backlog, Writer, spawn_writer};

use std::path::PathBuf;
use std::sync::Arc;

use health::Vitals;
use witness::Witness;

/// The store. Cheap to clone; all clones are one.
///
/// One connection writes, four read: with WAL no reader ever waits for the writer, and one writer never finds the
/// database busy by itself.
#[derive(Clone, Debug)]
pub struct Store {
    writer: sqlx::SqlitePool,
    reader: sqlx::SqlitePool,
    boot: BootId,
    path: PathBuf,
    identity: Option<(u64, u64)>,
    witness: Option<Arc<Witness>>,
    vitals: Arc<Vitals>,
}

impl Store {
    /// The database file.
    pub fn path(&self) -> &std::path::Path {
        &self.path
    }

    /// Whether the name of the database still leads to the file that was opened.
    pub fn is_in_place(&self) -> bool {
        match open::identity(&self.path) {
            Ok(found) => Some(found) == self.identity,
            // A disk that does not answer has lost no name.
            Err(fault) => fault.kind() != std::io::ErrorKind::NotFound,
        }
    }

    /// Closes all connections, the last of which folds the write-ahead log into the database.
    pub async fn close(&self) {
        self.reader.close().await;
        self.writer.close().await;
    }
}
