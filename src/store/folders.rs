//! The rows of the watched folders.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};

use crate::model::job::{FolderId, JobId};
use crate::model::presence::{Change, Identity, Recorded};
use crate::model::time::Wall;

use super::error::Result;
use super::{Store, row};

/// A folder that is or was watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FolderRow {
    /// Its id, as long as its path is the same.
    pub id: FolderId,
    /// Where it is.
    pub path: PathBuf,
    /// What the configuration last called it.
    pub name: String,
    /// Whether sending from it is stopped.
    pub paused: bool,
    /// Why, if it is.
    pub paused_why: Option<String>,
    /// When it was first watched.
    pub first_watched_at: Wall,
    /// Whether all that lay there when it was first watched has been met.
    pub scanned: bool,
}

/// Why the folders of a new store are paused that took the place of a damaged one.
pub(super) const REBUILT: &str =
    "rebuilt after damage: what lies there and is not in the ledger would be sent, again if it was before";

impl Store {
    /// Gives each folder of the configuration its row, in the order given. Folders that it no longer has keep theirs.
    /// The first time after a rebuild all that have none begin paused, whatever configuration the rebuild saw.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn sync_folders(&self, folders: &[(PathBuf, String)], now: Wall) -> Result<Vec<FolderRow>> {
        let mut transaction = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        let mut rows = Vec::with_capacity(folders.len());
        let rebuilt: i64 =
            sqlx::query_scalar("-- is_rebuilt\nPRAGMA user_version").fetch_one(&mut *transaction).await?;
        let why = (rebuilt != 0).then_some(REBUILT);
        for (path, name) in folders {
            insert(&mut transaction, path, name, why, now).await?;
            let found = sqlx::query(
                "-- name_folder\n\
                 UPDATE folders SET name = ?2 WHERE path = ?1 \
                 RETURNING id, path, name, paused, paused_why, first_watched_at, scanned_at",
            )
            .bind(row::bytes_of(path))
            .bind(name.clone())
            .fetch_one(&mut *transaction)
            .await?;
            rows.push(folder(&found)?);
        }
        sqlx::query("-- not_rebuilt\nPRAGMA user_version = 0").execute(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(rows)
    }

    /// All folders that are or were watched.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn folders(&self) -> Result<Vec<FolderRow>> {
        let rows = sqlx::query(
            "-- folders\n\
             SELECT id, path, name, paused, paused_why, first_watched_at, scanned_at FROM folders ORDER BY id",
        )
        .fetch_all(&self.reader)
        .await?;
        Ok(rows.iter().map(folder).collect::<sqlx::Result<_>>()?)
    }

    /// What lay at a folder's places when files were last met there, by the path below it.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn places(&self, folder: FolderId) -> Result<BTreeMap<PathBuf, Recorded>> {
        let rows = sqlx::query(
            "-- places\n\
             SELECT path, file_system, fsid, inode, last_job FROM places WHERE folder = ?1",
        )
        .bind(folder.0)
        .fetch_all(&self.reader)
        .await?;
        let mut places = BTreeMap::new();
        for row in &rows {
            let number = |column| row.try_get::<i64, _>(column).map(i64::cast_unsigned);
            let identity = Identity {
                file_system: number("file_system")?,
                fsid: number("fsid")?,
                inode: number("inode")?,
            };
            let last_job = JobId(row.try_get("last_job")?);
            places.insert(row::path(row, "path")?, Recorded { identity, last_job });
        }
        Ok(places)
    }

    /// The folders that `path` may lie in, with the rest of the path, innermost first. Compares text: links are the
    /// caller's to resolve.
    pub(super) async fn covering(&self, path: &Path) -> Result<Vec<(FolderId, PathBuf)>> {
        let mut covering: Vec<(FolderId, PathBuf)> = self
            .folders()
            .await?
            .into_iter()
            .filter_map(|folder| Some((folder.id, path.strip_prefix(&folder.path).ok()?.to_owned())))
            .collect();
        covering.sort_by_key(|(_, rest)| rest.components().count());
        Ok(covering)
    }
}

/// Gives a folder its row, if it has none.
pub(super) async fn insert(
    connection: &mut SqliteConnection,
    path: &Path,
    name: &str,
    paused: Option<&str>,
    now: Wall,
) -> sqlx::Result<()> {
    sqlx::query(
        "-- insert_folder\n\
         INSERT INTO folders (path, name, paused, paused_why, first_watched_at) VALUES (?1, ?2, ?3, ?4, ?5) \
         ON CONFLICT (path) DO NOTHING",
    )
    .bind(row::bytes_of(path))
    .bind(name.to_owned())
    .bind(paused.is_some())
    .bind(paused.map(str::to_owned))
    .bind(now.0)
    .execute(connection)
    .await?;
    Ok(())
}

/// Pauses a folder, or lets it go on.
pub(super) async fn set_paused(
    connection: &mut SqliteConnection,
    folder: FolderId,
    why: Option<&str>,
) -> sqlx::Result<bool> {
    let changed = sqlx::query("-- set_paused\nUPDATE folders SET paused = ?2, paused_why = ?3 WHERE id = ?1")
        .bind(folder.0)
        .bind(why.is_some())
        .bind(why.map(str::to_owned))
        .execute(connection)
        .await?
        .rows_affected();
    Ok(changed == 1)
}

/// The first whole scan of a folder has ended.
pub(super) async fn set_scanned(
    connection: &mut SqliteConnection,
    folder: FolderId,
    at: Wall,
) -> sqlx::Result<bool> {
    let changed =
        sqlx::query("-- set_scanned\nUPDATE folders SET scanned_at = coalesce(scanned_at, ?2) WHERE id = ?1")
            .bind(folder.0)
            .bind(at.0)
            .execute(connection)
            .await?
            .rows_affected();
    Ok(changed == 1)
}

/// Keeps what lies at a place, or that it is none any more.
pub(super) async fn set_place(
    connection: &mut SqliteConnection,
    folder: FolderId,
    change: &Change,
) -> sqlx::Result<()> {
    let path = row::bytes_of(&change.path);
    let query = match change.recorded {
        Some(Recorded { identity, last_job }) => sqlx::query(
            "-- set_place\n\
             INSERT OR REPLACE INTO places (folder, path, file_system, fsid, inode, last_job) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )
        .bind(folder.0)
        .bind(path)
        .bind(identity.file_system.cast_signed())
        .bind(identity.fsid.cast_signed())
        .bind(identity.inode.cast_signed())
        .bind(last_job.0),
        None => sqlx::query("-- no_place\nDELETE FROM places WHERE folder = ?1 AND path = ?2")
            .bind(folder.0)
            .bind(path),
    };
    query.execute(connection).await?;
    Ok(())
}

fn folder(row: &SqliteRow) -> sqlx::Result<FolderRow> {
    Ok(FolderRow {
        id: FolderId(row.try_get("id")?),
        path: row::path(row, "path")?,
        name: row.try_get("name")?,
        paused: row.try_get("paused")?,
        paused_why: row.try_get("paused_why")?,
        first_watched_at: Wall(row.try_get("first_watched_at")?),
        scanned: row.try_get::<Option<i64>, _>("scanned_at")?.is_some(),
    })
}
