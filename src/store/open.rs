//! Opening: for the service, which creates and migrates, and for commands, which never do.

use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sqlx::migrate::Migrator;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{ConnectOptions, Connection, SqlitePool};

use super::aside::{self, Presence};
use super::error::{self, Result, StoreError};
use super::health::Vitals;
use super::witness::{self, Testimony, Witness};
use super::{BootId, Lock, Store, check};

/// The name of the database in the state directory.
pub const DATABASE: &str = "upspool.db";

/// How long a statement waits for a lock that somebody outside the service holds: a backup, a curious shell.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Commands page and status pages are few; more connections would only take memory.
const READERS: u32 = 4;

/// What the write-ahead log is cut back to after a checkpoint, so that one long reader does not leave gigabytes.
const LOG_LIMIT: &str = "67108864";

static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

impl Store {
    /// Opens the store for the service: takes the lock, then creates or migrates the database. One that is damaged, or
    /// not there although there was one, is refused and left as it lies.
    ///
    /// # Errors
    /// Every variant of [`StoreError`] but `NoStore` and `Older`.
    pub async fn open(state_dir: &Path, boot: BootId) -> Result<(Store, Lock)> {
        match Store::open_once(state_dir, boot.clone()).await {
            // What the disk gave wrongly it may give rightly now; what is damaged stays so.
            Err(StoreError::Corrupt { path, .. }) => match check::unreadable(&path) {
                Some(fault) => Err(StoreError::of_system(&path, &fault)),
                None => Store::open_once(state_dir, boot).await,
            },
            other => other,
        }
    }

    async fn open_once(state_dir: &Path, boot: BootId) -> Result<(Store, Lock)> {
        make_directory(state_dir)?;
        let lock = Lock::take(state_dir)?;
        let path = state_dir.join(DATABASE);
        let said = witness::read(state_dir)?;
        aside::finish(state_dir, said.as_ref())?;
        if let Presence::Lost(fault) = aside::presence(state_dir, said.as_ref())? {
            return Err(fault);
        }
        check::header(&path)?;
        let was_crash = check::has_log(&path)?;
        make_file(&path)?;

        let (found, _) = version(&path).await?;
        if let Some(found) = found.filter(|found| *found > latest()) {
            return Err(StoreError::Newer { path, found, known: latest() });
        }
        let writer = SqlitePoolOptions::new()
            .max_connections(1)
            .idle_timeout(None)
            .max_lifetime(None)
            .connect_with(for_writing(&path))
            .await
            .map_err(|error| StoreError::opening(&path, &error))?;
        let prepared = prepare(&writer, &path, found.is_some().then_some(was_crash), said.as_ref()).await;
        let witness = match prepared.and_then(|()| Witness::open(state_dir)) {
            Ok(witness) => witness,
            Err(fault) => {
                writer.close().await;
                return Err(fault);
            }
        };
        if said.is_some_and(|said| said.aside.is_some()) {
            // It was rebuilt from, or a person put a whole one there.
            witness.set_aside(None).map_err(|error| StoreError::of_system(&path, &error))?;
        }
        let identity = identity(&path).ok();
        let reader = readers(options(&path).read_only(true));
        let (witness, vitals) = (Some(Arc::new(witness)), Arc::new(Vitals::new()));
        Ok((Store { writer, reader, boot, path, identity, witness, vitals }, lock))
    }

    /// Opens the store for a command: reads, and inserts requests. Works beside a service and without one.
    ///
    /// # Errors
    /// `NoStore`, `Newer`, `Older`, `Corrupt`, `Gone`, `Behind`, `Alone`, `Unwritable` (here: not readable) or `Broken`.
    pub async fn open_for_asking(state_dir: &Path) -> Result<Store> {
        match Store::open_for_asking_once(state_dir).await {
            Err(StoreError::Corrupt { path, message }) => Err(match check::unreadable(&path) {
                Some(fault) => StoreError::of_system(&path, &fault),
                None => StoreError::Corrupt { path, message },
            }),
            other => other,
        }
    }

    async fn open_for_asking_once(state_dir: &Path) -> Result<Store> {
        let path = state_dir.join(DATABASE);
        // Before the database: a service that runs commits first and testifies then.
        let (said, is_hidden) = match witness::read(state_dir) {
            // Whoever may look at the database alone has to believe it.
            Err(StoreError::Unwritable { .. }) => (None, true),
            other => (other?, false),
        };
        match aside::presence(state_dir, said.as_ref())? {
            Presence::Database => {}
            Presence::Fresh => return Err(StoreError::NoStore { path }),
            Presence::Lost(fault) => return Err(fault),
        }
        check::header(&path)?;
        let known = latest();
        let (version, read) = version(&path).await?;
        match version {
            Some(found) if found > known => return Err(StoreError::Newer { path, found, known }),
            Some(found) if found < known => return Err(StoreError::Older { path, found, known }),
            Some(_) => {}
            None => return Err(StoreError::NoStore { path }),
        }
        let mut connection = read.connect().await.map_err(|error| StoreError::opening(&path, &error))?;
        let up_to_date = match is_hidden {
            true => Ok(()),
            false => has_what_it_had(&mut connection, &path, said.as_ref()).await,
        };
        // Nothing was written; how the connection ends does not matter.
        connection.close().await.ok();
        up_to_date?;
        let writer = SqlitePoolOptions::new()
            .max_connections(1)
            .connect_lazy_with(options(&path).synchronous(SqliteSynchronous::Full));
        let (identity, vitals) = (identity(&path).ok(), Arc::new(Vitals::new()));
        let (reader, boot) = (readers(read), BootId(String::new()));
        Ok(Store { writer, reader, boot, path, identity, witness: None, vitals })
    }
}

/// Refuses, for a command, a database that has less than was committed to it. A service that starts for the first time may
/// have made the witness, and committed, after it was looked for.
async fn has_what_it_had(
    connection: &mut SqliteConnection,
    path: &Path,
    said: Option<&Testimony>,
) -> Result<()> {
    let looked = check::is_up_to_date(connection, path, said).await;
    let state_dir = path.parent().filter(|_| matches!(looked, Err(StoreError::Alone { .. })));
    match state_dir {
        Some(state_dir) if witness::read(state_dir)?.is_some() => Ok(()),
        _ => looked,
    }
}

/// Looks at a database that is there already, brings it to the newest version, and sees that it has what it had.
async fn prepare(
    writer: &SqlitePool,
    path: &Path,
    there_after_crash: Option<bool>,
    said: Option<&Testimony>,
) -> Result<()> {
    let failed = |error: sqlx::Error| StoreError::opening(path, &error);
    if let Some(was_crash) = there_after_crash {
        let mut connection = writer.acquire().await.map_err(failed)?;
        if let Some(message) = check::pages_at_start(&mut connection, was_crash).await.map_err(failed)? {
            return Err(StoreError::Corrupt { path: path.to_owned(), message: error::one_line(&message) });
        }
    }
    migrate(writer, path).await?;
    let mut connection = writer.acquire().await.map_err(failed)?;
    check::is_up_to_date(&mut connection, path, said).await
}

/// Creates the tables, or brings them to the newest version.
pub(super) async fn migrate(writer: &SqlitePool, path: &Path) -> Result<()> {
    MIGRATIONS.run(writer).await.map_err(|error| match error {
        sqlx::migrate::MigrateError::Execute(error)
        | sqlx::migrate::MigrateError::ExecuteMigration(error, _) => StoreError::opening(path, &error),
        other => StoreError::Corrupt { path: path.to_owned(), message: other.to_string() },
    })
}

/// Which file it is: one that takes its place under the same name is another.
pub(super) fn identity(path: &Path) -> std::io::Result<(u64, u64)> {
    fs::metadata(path).map(|found| (found.dev(), found.ino()))
}

/// How the service writes. `FULL`: what is committed is on the disk, or a File could be without its row.
pub(super) fn for_writing(path: &Path) -> SqliteConnectOptions {
    options(path)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .pragma("journal_size_limit", LOG_LIMIT)
}

pub(super) fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(false)
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT)
        // What is slow is a hold of ours, in words for people; theirs are the whole statement.
        .disable_statement_logging()
}

/// KiB of pages that a reader keeps. The kernel has them as well, and four caches of SQLite's 2 000 KiB were 4 MiB of a
/// busy service.
const READER_CACHE: &str = "-512";

fn readers(options: SqliteConnectOptions) -> SqlitePool {
    let options = options.pragma("cache_size", READER_CACHE);
    SqlitePoolOptions::new().max_connections(READERS).max_lifetime(None).connect_lazy_with(options)
}

pub(super) fn latest() -> i64 {
    MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or(0)
}

/// The version of the database, none if it has no tables yet, and how it can be read. Changes nothing but what a cut left.
pub(super) async fn version(path: &Path) -> Result<(Option<i64>, SqliteConnectOptions)> {
    let mut read = options(path).read_only(true);
    let mut found = version_by(&read).await;
    if found.as_ref().is_err_and(error::is_cut_off) {
        // The first start was cut while it made the database. Whoever may write rolls that back.
        found = version_by(&options(path)).await;
    }
    if found.as_ref().is_err_and(error::has_no_log) && !check::has_log(path)? {
        // No write-ahead log lies there and we may not create one: so nobody is writing, and the file stands still.
        read = read.immutable(true);
        found = version_by(&read).await;
    }
    Ok((found.map_err(|error| StoreError::opening(path, &error))?, read))
}

async fn version_by(options: &SqliteConnectOptions) -> Result<Option<i64>, sqlx::Error> {
    let mut connection = options.connect().await?;
    let found = version_of(&mut connection).await;
    // Nothing was written; how the connection ends does not matter.
    connection.close().await.ok();
    found
}

async fn version_of(connection: &mut SqliteConnection) -> Result<Option<i64>, sqlx::Error> {
    let tables: i64 = sqlx::query_scalar(
        "-- has_version\n\
         SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = '_sqlx_migrations'",
    )
    .fetch_one(&mut *connection)
    .await?;
    if tables == 0 {
        return Ok(None);
    }
    sqlx::query_scalar("-- version\nSELECT max(version) FROM _sqlx_migrations WHERE success")
        .fetch_one(connection)
        .await
}

/// Only the owner writes; the operators' group may look.
fn make_directory(state_dir: &Path) -> Result<()> {
    if let Ok(metadata) = fs::metadata(state_dir)
        && metadata.is_dir()
    {
        // Somebody made it, with the modes that they want; but whoever may write to it may swap the store.
        let mine = metadata.uid() == rustix::process::geteuid().as_raw();
        if !mine || metadata.mode() & 0o002 != 0 {
            let message =
                "belongs to another user, or everybody may write to it: who can, could swap the ledger";
            return Err(StoreError::Unwritable { path: state_dir.to_owned(), message: message.to_owned() });
        }
        return Ok(());
    }
    DirBuilder::new()
        .recursive(true)
        .mode(0o750)
        .create(state_dir)
        // The umask may have taken more than it should.
        .and_then(|()| fs::set_permissions(state_dir, Permissions::from_mode(0o750)))
        .map_err(|error| StoreError::of_system(state_dir, &error))
}

/// SQLite gives `-wal` and `-shm` the mode of the database.
pub(super) fn make_file(path: &Path) -> Result<()> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o640)
        .open(path)
        .and_then(|file| file.set_permissions(Permissions::from_mode(0o640)))
        .map_err(|error| StoreError::of_system(path, &error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Write, spawn_writer};

    #[tokio::test]
    async fn a_command_that_looked_just_before_the_first_commit_finds_no_damage() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _lock) = Store::open(dir.path(), BootId("a".into())).await.unwrap();
        let (writer, _task) = spawn_writer(&store);
        writer.ask(Write::Flush).await.unwrap();
        let path = dir.path().join(DATABASE);
        let mut connection = options(&path).read_only(true).connect().await.unwrap();
        assert_eq!(has_what_it_had(&mut connection, &path, None).await, Ok(()));
        fs::remove_file(witness::path(dir.path())).unwrap();
        let alone = has_what_it_had(&mut connection, &path, None).await;
        assert!(matches!(alone, Err(StoreError::Alone { .. })), "{alone:?}");
    }
}
