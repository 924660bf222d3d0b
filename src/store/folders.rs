//! The rows of the watched folders.

use std::path::{Path, PathBuf};

use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};

use crate::model::job::FolderId;
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
