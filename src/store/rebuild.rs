//! A new store in place of a damaged one. All folders begin paused: of what lies in them nobody knows for certain any
//! more what was sent.
//!
//! The new database is made whole under another name and gets its own by one rename, so that whatever cuts this off leaves
//! either no store or a finished one.

use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use sqlx::sqlite::SqlitePoolOptions;
use sqlx::{Connection, SqliteConnection, SqlitePool};

use crate::model::time::Wall;

use super::aside::{self, Presence};
use super::error::{Result, StoreError};
use super::open::{self, DATABASE};
use super::salvage::{self, Salvaged};
use super::witness::{self, Testimony, Witness};
use super::{Lock, check, folders, spool, transplant};

/// What a rebuild did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rebuilt {
    /// The new database.
    pub path: PathBuf,
    /// Where the damaged one lies, if it was not gone.
    pub aside: Option<PathBuf>,
    /// Why nothing could be read of it, if so.
    pub unreadable: Option<String>,
    /// Jobs that the new one has.
    pub jobs: u64,
    /// Of these, those that have their File.
    pub stored: u64,
    /// Jobs that could not be read; at most, since some numbers may have been pruned.
    pub lost: u64,
    /// Jobs whose open Upload could not be read and that are queued again.
    pub requeued: u64,
    /// Jobs that failed since nobody can tell whether they became a File.
    pub doubtful: u64,
    /// The names of all folders that are paused now.
    pub paused: Vec<String>,
}

/// Why there was no rebuild.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RebuildError {
    /// Nothing is wrong with the store.
    Healthy(PathBuf),
    /// It cannot be done.
    Store(StoreError),
}

impl fmt::Display for RebuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RebuildError::Healthy(path) => write!(
                f,
                "{} is whole, so there is nothing to rebuild; `upspool pause` stops sending, if that is what is wanted",
                path.display()
            ),
            RebuildError::Store(fault) => fault.fmt(f),
        }
    }
}

impl std::error::Error for RebuildError {}

impl From<StoreError> for RebuildError {
    fn from(fault: StoreError) -> RebuildError {
        RebuildError::Store(fault)
    }
}

/// Makes a new store of what can still be read of the damaged one, which is set aside; `folders` are those of the
/// configuration.
///
/// # Errors
/// If the store is whole, or a service holds it, or the state directory cannot be written.
pub async fn rebuild(
    state_dir: &Path,
    folders: &[(PathBuf, String)],
    now: Wall,
) -> Result<Rebuilt, RebuildError> {
    let path = state_dir.join(DATABASE);
    if !state_dir.is_dir() {
        return Err(StoreError::NoStore { path }.into());
    }
    let lock = Lock::take(state_dir)?;
    let said = witness::read(state_dir)?;
    aside::finish(state_dir, said.as_ref())?;
    let aside = match aside::presence(state_dir, said.as_ref())? {
        Presence::Fresh => return Err(StoreError::NoStore { path }.into()),
        Presence::Lost(StoreError::Gone { aside, .. }) => aside,
        Presence::Lost(_) => aside::set_aside(state_dir, &lock, now)?,
        Presence::Database => {
            match examine(&path, said.as_ref()).await {
                Ok(()) => return Err(RebuildError::Healthy(path)),
                Err(fault) if !fault.is_damage() => return Err(fault.into()),
                Err(_) => {}
            }
            aside::set_aside(state_dir, &lock, now)?
        }
    };
    if said.is_none() {
        // It may have been lost with the database. A new one without it would be refused, were this cut off before it is made.
        let name = aside.as_deref().and_then(Path::file_name).and_then(OsStr::to_str);
        Witness::open(state_dir)?.set_aside(name).map_err(|error| StoreError::of_system(&path, &error))?;
    }
    let said = witness::read(state_dir)?.unwrap_or_default();
    let new = state_dir.join(format!("{DATABASE}.new"));
    let mut rebuilt = build(&new, aside.as_deref(), folders, &said, now).await?;
    let failed = |error: std::io::Error| StoreError::of_system(&path, &error);
    // What lies beside a database that is gone would be taken for what belongs to the new one.
    aside::clear_beside(state_dir, now).map_err(failed)?;
    spool::clear(state_dir).map_err(failed)?;
    fs::File::open(&new).and_then(|file| file.sync_all()).map_err(failed)?;
    aside::move_over_nothing(&new, &path).map_err(failed)?;
    witness::sync_directory(state_dir).map_err(failed)?;
    Witness::open(state_dir)?.set_aside(None).map_err(failed)?;
    rebuilt.path = path;
    Ok(rebuilt)
}

/// Whether the database is whole and has what it had.
async fn examine(path: &Path, said: Option<&Testimony>) -> Result<()> {
    check::header(path)?;
    let (known, found) = (open::latest(), open::version(path).await?.0);
    if let Some(found) = found.filter(|found| *found > known) {
        return Err(StoreError::Newer { path: path.to_owned(), found, known });
    }
    let failed = |error: sqlx::Error| StoreError::opening(path, &error);
    let mut connection = SqliteConnection::connect_with(&open::for_writing(path)).await.map_err(failed)?;
    let looked = async {
        if let Some(message) = check::all(&mut connection).await.map_err(failed)? {
            let message = super::error::one_line(&message);
            return Err(StoreError::Corrupt { path: path.to_owned(), message });
        }
        check::is_up_to_date(&mut connection, path, said).await
    };
    let looked = looked.await;
    // What the end of a connection says of a damaged database is known already.
    connection.close().await.ok();
    looked
}

/// Makes the new database under a name of its own.
async fn build(
    new: &Path,
    aside: Option<&Path>,
    folders: &[(PathBuf, String)],
    said: &Testimony,
    now: Wall,
) -> Result<Rebuilt> {
    // What another attempt left was never in force.
    for left in [new, &aside::with_end(new, "-old")] {
        transplant::clear(left).map_err(|error| StoreError::of_system(left, &error))?;
    }
    open::make_file(new)?;
    let pool = SqlitePoolOptions::new()
        .max_connections(1)
        // Rows come before what they refer to, and what is missing is mended at the end.
        .connect_with(open::for_writing(new).foreign_keys(false))
        .await
        .map_err(|error| StoreError::opening(new, &error))?;
    let built = fill(&pool, new, aside, folders, said, now).await;
    pool.close().await;
    built
}

async fn fill(
    pool: &SqlitePool,
    new: &Path,
    aside: Option<&Path>,
    folders: &[(PathBuf, String)],
    said: &Testimony,
    now: Wall,
) -> Result<Rebuilt> {
    open::migrate(pool, new).await?;
    let failed = |error: sqlx::Error| StoreError::opening(new, &error);
    let mut connection = pool.acquire().await.map_err(failed)?;
    // Synced once at the end, before it gets its name. The indexes of a large ledger are filled in no order: 64 MiB for them.
    run(&mut connection, "-- no_sync\nPRAGMA synchronous = OFF").await.map_err(failed)?;
    run(&mut connection, "-- large_cache\nPRAGMA cache_size = -65536").await.map_err(failed)?;
    let salvaged = match aside {
        Some(aside) => salvage::salvage(&mut connection, new, aside, now).await.map_err(failed)?,
        None => Salvaged::default(),
    };
    let paused = pause_all(&mut connection, folders, &salvaged, now).await.map_err(failed)?;
    let stored: i64 =
        sqlx::query_scalar("-- stored_salvaged\nSELECT count(*) FROM jobs WHERE stage = 'stored'")
            .fetch_one(&mut *connection)
            .await
            .map_err(failed)?;
    // The witness has seen more commits than this database; it goes on where the old one ended.
    sqlx::query("-- go_on_counting\nUPDATE batches SET last = ?1 WHERE one = 1")
        .bind(said.last.saturating_add(1))
        .execute(&mut *connection)
        .await
        .map_err(failed)?;
    let dangling = sqlx::query("-- dangling\nPRAGMA foreign_key_check")
        .fetch_all(&mut *connection)
        .await
        .map_err(failed)?;
    let wrong = match check::all(&mut connection).await.map_err(failed)? {
        None if !dangling.is_empty() => Some(format!("{} rows refer to nothing", dangling.len())),
        other => other,
    };
    if let Some(message) = wrong {
        return Err(StoreError::Corrupt { path: new.to_owned(), message });
    }
    Ok(Rebuilt {
        path: new.to_owned(),
        aside: aside.map(Path::to_owned),
        unreadable: salvaged.unreadable,
        jobs: salvaged.jobs,
        stored: stored.cast_unsigned(),
        lost: salvaged.lost,
        requeued: salvaged.requeued,
        doubtful: salvaged.doubtful,
        paused,
    })
}

/// Pauses every folder: of the configuration, of the old store, and those that the first run meets besides.
async fn pause_all(
    connection: &mut SqliteConnection,
    folders: &[(PathBuf, String)],
    salvaged: &Salvaged,
    now: Wall,
) -> sqlx::Result<Vec<String>> {
    for (path, name) in folders {
        folders::insert(&mut *connection, path, name, Some(folders::REBUILT), now).await?;
    }
    sqlx::query("-- pause_all\nUPDATE folders SET paused = 1, paused_why = ?1")
        .bind(folders::REBUILT)
        .execute(&mut *connection)
        .await?;
    if salvaged.lost > 0 || salvaged.unreadable.is_some() {
        // Of a file without a row nobody knows whether the first scan met it: `existing` judges once more. What it queues is
        // paused.
        run(&mut *connection, "-- not_scanned\nUPDATE folders SET scanned_at = NULL").await?;
    }
    run(&mut *connection, "-- rebuilt\nPRAGMA user_version = 1").await?;
    sqlx::query_scalar("-- paused_names\nSELECT name FROM folders ORDER BY id").fetch_all(connection).await
}

async fn run(connection: &mut SqliteConnection, sql: &'static str) -> sqlx::Result<()> {
    sqlx::query(sql).execute(connection).await.map(|_| ())
}
