//! A database whose first pages are spoilt cannot be opened, although its rows are all there. But where its tables begin is no
//! secret: every database of this program is made by the same statements in the same order. So a copy of the damaged one
//! gets the pages of a new one that say where everything is, and no other.
//!
//! If a later version made the tables otherwise, the rows are not found or do not fit the new tables, and are lost as they would
//! have been.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use sqlx::SqliteConnection;

use super::aside;

/// The pages of a database that say where everything is.
#[derive(Debug)]
pub(super) struct Plan {
    page_size: u64,
    pages: Vec<(u64, Vec<u8>)>,
}

impl Plan {
    /// Of the new database at `path`, which has no rows yet and is open as `connection`.
    pub(super) async fn of(connection: &mut SqliteConnection, path: &Path) -> sqlx::Result<Plan> {
        sqlx::query("-- fold_log\nPRAGMA wal_checkpoint(TRUNCATE)").execute(&mut *connection).await?;
        let page_size: i64 =
            sqlx::query_scalar("-- page_size\nPRAGMA page_size").fetch_one(&mut *connection).await?;
        // Where the rows of tables and indexes begin: these pages are the old database's own.
        let roots: Vec<i64> =
            sqlx::query_scalar("-- roots\nSELECT rootpage FROM main.sqlite_schema WHERE rootpage > 0")
                .fetch_all(connection)
                .await?;
        let bytes = fs::read(path)?;
        let size = usize::try_from(page_size).unwrap_or(usize::MAX);
        let pages = bytes.chunks_exact(size).zip(1..).filter(|(_, number)| !roots.contains(number));
        let pages = pages.map(|(page, number)| (number.cast_unsigned(), page.to_vec()));
        Ok(Plan { page_size: page_size.cast_unsigned(), pages: pages.collect() })
    }

    /// Makes a copy of `damaged`, with its log, that can be opened. Returns where it is.
    pub(super) fn copy(&self, damaged: &Path, to: &Path) -> io::Result<PathBuf> {
        clear(to)?;
        fs::copy(damaged, to)?;
        let (log, its_log) = (aside::with_end(damaged, "-wal"), aside::with_end(to, "-wal"));
        match fs::copy(log, its_log) {
            Err(fault) if fault.kind() != io::ErrorKind::NotFound => return Err(fault),
            _ => {}
        }
        let file = File::options().write(true).open(to)?;
        let there = file.metadata()?.len() / self.page_size;
        // What was cut off may begin before the last of these.
        let count = self.pages.iter().map(|(number, _)| *number).fold(there, u64::max);
        for (number, page) in &self.pages {
            let mut page = page.clone();
            if *number == 1 {
                set_length(&mut page, u32::try_from(count).unwrap_or(u32::MAX));
            }
            file.write_all_at(&page, (number - 1) * self.page_size)?;
        }
        Ok(to.to_owned())
    }
}

/// Removes a copy.
pub(super) fn clear(path: &Path) -> io::Result<()> {
    for end in ["", "-wal", "-shm", "-journal"] {
        match fs::remove_file(aside::with_end(path, end)) {
            Err(fault) if fault.kind() != io::ErrorKind::NotFound => return Err(fault),
            _ => {}
        }
    }
    Ok(())
}

/// Says in a first page how many pages there are, and that none is free.
fn set_length(page: &mut [u8], pages: u32) {
    let changes: Vec<u8> = page.get(24..28).map(<[u8]>::to_vec).unwrap_or_default();
    for (at, bytes) in [(28, pages.to_be_bytes().to_vec()), (32, vec![0; 8]), (92, changes)] {
        if let Some(field) = page.get_mut(at..at + bytes.len()) {
            field.copy_from_slice(&bytes);
        }
    }
}
