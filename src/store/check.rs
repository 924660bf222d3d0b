//! Whether what lies there is a whole database: cheap looks at every start, and a longer one as far as time allows. What
//! is checked when, and what it costs: `docs/decisions/damaged-store.md`.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sqlx::sqlite::SqliteConnection;

use super::aside;
use super::error::{self, Result, StoreError};
use super::witness::Testimony;

/// The first bytes of every database that is not empty.
const MAGIC: &[u8] = b"SQLite format 3\0";

/// The header, as <https://www.sqlite.org/fileformat2.html#the_database_header> has it.
const HEADER: usize = 100;

/// How often the check looks whether its time is over, in steps of SQLite's machine.
const PROGRESS: i32 = 1000;

/// What a start may spend on a look at every page where the last run ended in order.
const AFTER_ORDER: Duration = Duration::from_millis(400);

/// The same where it did not: the machine may have lost power, or the disk something.
const AFTER_CRASH: Duration = Duration::from_secs(10);

/// Refuses what is something else, or was cut off, before anything is changed. Nothing there is well.
pub(super) fn header(path: &Path) -> Result<()> {
    let corrupt = |message: String| StoreError::Corrupt { path: path.to_owned(), message };
    let failed = |error: std::io::Error| StoreError::of_system(path, &error);
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    let length = file.metadata().map_err(failed)?.len();
    let mut head = Vec::with_capacity(HEADER);
    file.take(HEADER as u64).read_to_end(&mut head).map_err(failed)?;
    // What lies in the file before a transaction that was cut off is rolled back says nothing: until the database has its
    // write-ahead log, SQLite keeps a journal for that.
    if head.is_empty() || aside::with_end(path, "-journal").exists() {
        return Ok(());
    }
    if !head.starts_with(MAGIC) {
        return Err(corrupt("it begins with something else".to_owned()));
    }
    let Some(header) = Header::of(&head) else { return Err(corrupt("its header is cut off".to_owned())) };
    // With a log there may be pages that are not in the database yet, or were being copied there.
    if has_log(path)? || !header.counted {
        return Ok(());
    }
    let pages = length / header.page_size;
    if pages < header.pages {
        return Err(corrupt(format!("it was cut off: {pages} of {} pages are there", header.pages)));
    }
    Ok(())
}

/// Why what lies there cannot be read from the disk, if so: what SQLite says of it then is not about its content.
pub(super) fn unreadable(path: &Path) -> Option<std::io::Error> {
    let read = |path: &Path| std::io::copy(&mut File::open(path)?, &mut std::io::sink());
    let read = read(path).and_then(|_| match read(&aside::with_end(path, "-wal")) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(0),
    });
    read.err().filter(|error| error.kind() != std::io::ErrorKind::NotFound)
}

/// Whether a write-ahead log with content lies there: the last run did not end in order, or one is under way.
pub(super) fn has_log(path: &Path) -> Result<bool> {
    let log = aside::with_end(path, "-wal");
    match std::fs::metadata(&log) {
        Ok(found) => Ok(found.len() > 0),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(StoreError::of_system(&log, &error)),
    }
}

/// What of the header is looked at.
struct Header {
    page_size: u64,
    pages: u64,
    /// Whether `pages` is said to be in force.
    counted: bool,
}

impl Header {
    fn of(head: &[u8]) -> Option<Header> {
        let number = |at: usize| Some(u32::from_be_bytes(head.get(at..at + 4)?.try_into().ok()?));
        let page_size = match u16::from_be_bytes(head.get(16..18)?.try_into().ok()?) {
            1 => 65_536,
            size => u64::from(size),
        };
        let (changes, pages, counted_at) = (number(24)?, number(28)?, number(92)?);
        (head.len() == HEADER && page_size >= 512).then_some(Header {
            page_size,
            pages: u64::from(pages),
            counted: changes == counted_at,
        })
    }
}

/// Looks at every page, for as long as a start may take; what is wrong, if anything was found by then.
pub(super) async fn pages_at_start(
    connection: &mut SqliteConnection,
    was_crash: bool,
) -> sqlx::Result<Option<String>> {
    let limit = if was_crash { AFTER_CRASH } else { AFTER_ORDER };
    let over = Arc::new(AtomicBool::new(false));
    let watch = over.clone();
    connection.lock_handle().await?.set_progress_handler(PROGRESS, move || !watch.load(Ordering::Relaxed));
    let found = {
        let mut check = std::pin::pin!(pages(&mut *connection, "-- quick_check\nPRAGMA quick_check(1)"));
        tokio::select! {
            found = &mut check => found,
            () = tokio::time::sleep(limit) => {
                over.store(true, Ordering::Relaxed);
                check.await
            }
        }
    };
    connection.lock_handle().await?.remove_progress_handler();
    match found {
        Err(fault) if error::is_interrupted(&fault) => Ok(None),
        other => other,
    }
}

/// Looks at everything, for as long as it takes.
pub(super) async fn all(connection: &mut SqliteConnection) -> sqlx::Result<Option<String>> {
    pages(connection, "-- integrity_check\nPRAGMA integrity_check(1)").await
}

async fn pages(connection: &mut SqliteConnection, sql: &'static str) -> sqlx::Result<Option<String>> {
    let said: String = sqlx::query_scalar(sql).fetch_one(connection).await?;
    Ok(Some(said).filter(|said| said != "ok"))
}

/// Refuses a database that has less than was committed to it, and one of which nobody can tell.
pub(super) async fn is_up_to_date(
    connection: &mut SqliteConnection,
    path: &Path,
    said: Option<&Testimony>,
) -> Result<()> {
    let last: i64 = sqlx::query_scalar("-- last_commit\nSELECT last FROM batches WHERE one = 1")
        .fetch_one(connection)
        .await
        .map_err(|error| StoreError::opening(path, &error))?;
    match said {
        Some(said) if last < said.last => {
            Err(StoreError::Behind { path: path.to_owned(), missing: said.last - last })
        }
        // The first start was cut off before it made the witness: nothing was committed by then.
        None if last > 0 => Err(StoreError::Alone { path: path.to_owned() }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(head: &[u8], length: u64) -> Result<()> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.db");
        std::fs::write(&path, head).unwrap();
        File::options().write(true).open(&path).unwrap().set_len(length).unwrap();
        header(&path)
    }

    #[test]
    fn a_file_that_is_shorter_than_its_header_says_was_cut_off() {
        let mut head = vec![0; HEADER];
        head[..16].copy_from_slice(MAGIC);
        head[16..18].copy_from_slice(&4096u16.to_be_bytes());
        head[28..32].copy_from_slice(&10u32.to_be_bytes());
        assert_eq!(judged(&head, 40_960), Ok(()));
        assert_eq!(judged(&head, 50_000), Ok(()), "what follows is no concern of the database");
        assert!(judged(&head, 40_959).is_err());
        assert!(judged(&head, 99).is_err());
        // A program of before 2010 wrote last, and did not count.
        head[24..28].copy_from_slice(&7u32.to_be_bytes());
        assert_eq!(judged(&head, 4096), Ok(()));
        assert_eq!(judged(b"", 0), Ok(()));
        assert!(judged(b"Dear diary", 10).is_err());
    }
}
