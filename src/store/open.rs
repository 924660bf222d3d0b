//! Opening: for the service, which creates and migrates, and for commands, which never do.

use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::Read;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use sqlx::migrate::Migrator;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{ConnectOptions, Connection, SqlitePool};

use super::error::{self, Result, StoreError};
use super::{BootId, Lock, Store};

/// The name of the database in the state directory.
pub const DATABASE: &str = "upspool.db";

/// The first bytes of every database that is not empty.
const MAGIC: &[u8] = b"SQLite format 3\0";

/// How long a statement waits for a lock that somebody outside the service holds: a backup, a curious shell.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Commands page and status pages are few; more connections would only take memory.
const READERS: u32 = 4;

/// What the write-ahead log is cut back to after a checkpoint, so that one long reader does not leave gigabytes.
const LOG_LIMIT: &str = "67108864";

static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

impl Store {
    /// Opens the store for the service: takes the lock, then creates or migrates the database.
    ///
    /// # Errors
    /// Every variant of [`StoreError`] but `NoStore` and `Older`.
    pub async fn open(state_dir: &Path, boot: BootId) -> Result<(Store, Lock)> {
        make_directory(state_dir)?;
        let lock = Lock::take(state_dir)?;
        let path = state_dir.join(DATABASE);
        looks_like_a_database(&path)?;
        make_file(&path)?;

        let write = options(&path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .pragma("journal_size_limit", LOG_LIMIT);
        if let (Some(found), _) = version(&path).await? {
            let known = latest();
            if found > known {
                return Err(StoreError::Newer { path, found, known });
            }
        }
        let writer = SqlitePoolOptions::new()
            .max_connections(1)
            .idle_timeout(None)
            .max_lifetime(None)
            .connect_with(write)
            .await
            .map_err(|error| StoreError::opening(&path, &error))?;
        MIGRATIONS.run(&writer).await.map_err(|error| match error {
            sqlx::migrate::MigrateError::Execute(error)
            | sqlx::migrate::MigrateError::ExecuteMigration(error, _) => StoreError::opening(&path, &error),
            other => StoreError::Corrupt { path: path.clone(), message: other.to_string() },
        })?;
        let reader = readers(options(&path).read_only(true));
        Ok((Store { writer, reader, boot, path }, lock))
    }

    /// Opens the store for a command: reads, and inserts requests. Works beside a service and without one.
    ///
    /// # Errors
    /// `NoStore`, `Newer`, `Older`, `Corrupt`, `Unwritable` (here: not readable) or `Broken`.
    pub async fn open_for_asking(state_dir: &Path) -> Result<Store> {
        let path = state_dir.join(DATABASE);
        match fs::metadata(&path) {
            Ok(found) if found.len() > 0 => {}
            Ok(_) => return Err(StoreError::NoStore { path }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(StoreError::NoStore { path });
            }
            Err(error) => return Err(StoreError::unwritable(&path, &error)),
        }
        looks_like_a_database(&path)?;
        let known = latest();
        let (version, read) = version(&path).await?;
        match version {
            Some(found) if found > known => return Err(StoreError::Newer { path, found, known }),
            Some(found) if found < known => return Err(StoreError::Older { path, found, known }),
            Some(_) => {}
            None => return Err(StoreError::NoStore { path }),
        }
        let writer = SqlitePoolOptions::new()
            .max_connections(1)
            .connect_lazy_with(options(&path).synchronous(SqliteSynchronous::Full));
        Ok(Store { writer, reader: readers(read), boot: BootId(String::new()), path })
    }
}

fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(false)
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT)
}

fn readers(options: SqliteConnectOptions) -> SqlitePool {
    SqlitePoolOptions::new().max_connections(READERS).max_lifetime(None).connect_lazy_with(options)
}

fn latest() -> i64 {
    MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or(0)
}

/// The version of the database, none if it has no tables yet, and how it can be read. Changes nothing.
async fn version(path: &Path) -> Result<(Option<i64>, SqliteConnectOptions)> {
    let mut read = options(path).read_only(true);
    let mut found = version_by(&read).await;
    if found.as_ref().is_err_and(error::has_no_log) {
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

/// Refuses what is something else, before anything is changed.
fn looks_like_a_database(path: &Path) -> Result<()> {
    let mut head = Vec::with_capacity(MAGIC.len());
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(StoreError::unwritable(path, &error)),
    };
    file.take(MAGIC.len() as u64)
        .read_to_end(&mut head)
        .map_err(|error| StoreError::unwritable(path, &error))?;
    if head.is_empty() || head == MAGIC {
        return Ok(());
    }
    Err(StoreError::Corrupt { path: path.to_owned(), message: "it begins with something else".to_owned() })
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
        .map_err(|error| StoreError::unwritable(state_dir, &error))
}

/// SQLite gives `-wal` and `-shm` the mode of the database.
fn make_file(path: &Path) -> Result<()> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o640)
        .open(path)
        .and_then(|file| file.set_permissions(Permissions::from_mode(0o640)))
        .map_err(|error| StoreError::unwritable(path, &error))
}
