use std::fs;
use std::os::unix::fs::PermissionsExt;

use sqlx::ConnectOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode};

use super::*;
use crate::store::{DATABASE, StoreError};

#[tokio::test]
async fn opening_twice_says_who_holds_the_lock() {
    let fixture = Fixture::new().await;
    let fault = Store::open(fixture.dir.path(), boot()).await.unwrap_err();
    let path = fixture.dir.path().join("lock");
    assert_eq!(fault, StoreError::Locked { pid: Some(std::process::id()), path });
    assert!(fault.to_string().contains(&format!("process {}", std::process::id())), "{fault}");
    assert_eq!(fault.code(), Some(Code::StoreLocked));
}

#[tokio::test]
async fn the_lock_is_free_after_it_was_dropped() {
    Fixture::new().await.crash().await;
}

#[tokio::test]
async fn a_crash_keeps_what_was_committed() {
    let fixture = Fixture::new().await;
    let mut job = fixture.queued("x").await;
    fixture.take(&mut job, Step::Opened(session("upload_1", 2))).await;
    fixture.take(&mut job, part(1)).await;
    let fixture = fixture.crash().await;
    assert_eq!(fixture.load(job.id).await, job);
}

#[tokio::test]
async fn only_the_owner_writes_and_the_group_reads() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("deep/state");
    let (store, _lock) = Store::open(&state, boot()).await.unwrap();
    store.sync_folders(&[(PathBuf::from("/a"), "a".into())], Wall(1)).await.unwrap();
    let mode = |name: &str| fs::metadata(state.join(name)).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(""), 0o750);
    for name in [DATABASE, "upspool.db-wal", "upspool.db-shm"] {
        assert_eq!(mode(name), 0o640, "{name}");
    }
}

#[tokio::test]
async fn opening_again_migrates_nothing_and_loses_nothing() {
    let fixture = Fixture::new().await;
    let job = fixture.queued("x").await;
    fixture.store.close().await;
    let fixture = fixture.crash().await;
    assert_eq!(fixture.load(job.id).await, job);
}

#[tokio::test]
async fn digests_of_before_stay_beside_those_of_today() {
    let fixture = Fixture::new().await;
    let mut job = fixture.queued("x").await;
    fixture.take(&mut job, Step::Opened(session("upload_1", 3))).await;
    fixture.take(&mut job, part(1)).await;
    // As one that knows of no second algorithm left it.
    for sql in ["ALTER TABLE parts DROP COLUMN xxh3", "DELETE FROM _sqlx_migrations WHERE version = 7"] {
        sqlx::query(sql).execute(&fixture.store.writer).await.unwrap();
    }
    let fixture = fixture.crash().await;
    assert_eq!(fixture.load(job.id).await, job);
    let digest = Digest::Xxh3([9; 16]);
    fixture.take(&mut job, Step::PartStored { index: 2, id: PartId("part_2".into()), digest }).await;
    assert_eq!(fixture.load(job.id).await, job);
}

#[tokio::test]
async fn an_empty_file_becomes_a_database() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(DATABASE), "").unwrap();
    let (_store, _lock) = Store::open(dir.path(), boot()).await.unwrap();
}

#[tokio::test]
async fn a_first_start_that_was_cut_off_is_begun_again() {
    let dir = tempfile::tempdir().unwrap();
    // A transaction too large for the cache is half in the file and half in the journal.
    let options = SqliteConnectOptions::new()
        .filename(dir.path().join("other.db"))
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Delete)
        .pragma("cache_size", "1");
    let mut connection = options.connect().await.unwrap();
    for sql in [
        "BEGIN",
        "CREATE TABLE half (content BLOB)",
        "WITH RECURSIVE n (i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 200) \
         INSERT INTO half SELECT randomblob(900) FROM n",
    ] {
        sqlx::query(sql).execute(&mut connection).await.unwrap();
    }
    let cut = |name: &str| {
        let state = dir.path().join(name);
        fs::create_dir(&state).unwrap();
        fs::copy(dir.path().join("other.db"), state.join(DATABASE)).unwrap();
        fs::copy(dir.path().join("other.db-journal"), state.join("upspool.db-journal")).unwrap();
        state
    };
    let (asked, started, zeros) = (cut("asked"), cut("started"), cut("zeros"));
    // The disk may have the length of the file and nothing of its content.
    let length = fs::metadata(zeros.join(DATABASE)).unwrap().len();
    fs::write(zeros.join(DATABASE), vec![0; usize::try_from(length).unwrap()]).unwrap();
    let path = asked.join(DATABASE);
    assert_eq!(Store::open_for_asking(&asked).await.unwrap_err(), StoreError::NoStore { path });
    for state in [started, zeros, asked] {
        let (store, _lock) = Store::open(&state, boot()).await.unwrap();
        assert_eq!(store.folders().await.unwrap(), []);
    }
}

#[tokio::test]
async fn something_else_than_a_database_is_refused_and_left_untouched() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(DATABASE);
    fs::write(&path, "Dear diary").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let fault = Store::open(dir.path(), boot()).await.unwrap_err();
    assert_eq!(fault.code(), Some(Code::StoreCorrupt), "{fault}");
    assert!(matches!(Store::open_for_asking(dir.path()).await, Err(StoreError::Corrupt { .. })));
    assert_eq!(fs::read_to_string(&path).unwrap(), "Dear diary");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn a_database_with_a_spoilt_inside_is_corrupt() {
    let dir = tempfile::tempdir().unwrap();
    let mut bytes = b"SQLite format 3\0".to_vec();
    bytes.extend([0xff; 8000]);
    fs::write(dir.path().join(DATABASE), bytes).unwrap();
    let fault = Store::open(dir.path(), boot()).await.unwrap_err();
    assert_eq!(fault.code(), Some(Code::StoreCorrupt), "{fault}");
}

#[tokio::test]
async fn a_newer_database_is_refused() {
    let fixture = Fixture::new().await;
    sqlx::query(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         VALUES (9999, 'later', 1, x'00', 0)",
    )
    .execute(&fixture.store.writer)
    .await
    .unwrap();
    fixture.store.close().await;
    let Fixture { dir, lock, .. } = fixture;
    drop(lock);
    let newer =
        |fault| matches!(fault, StoreError::Newer { found: 9999, known, .. } if known > 0 && known < 9999);
    assert!(newer(Store::open(dir.path(), boot()).await.unwrap_err()));
    assert!(newer(Store::open_for_asking(dir.path()).await.unwrap_err()));
}

#[tokio::test]
async fn asking_creates_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    assert!(matches!(Store::open_for_asking(&state).await, Err(StoreError::NoStore { .. })));
    assert!(!state.exists());
    fs::create_dir(&state).unwrap();
    assert!(matches!(Store::open_for_asking(&state).await, Err(StoreError::NoStore { .. })));
    assert_eq!(fs::read_dir(&state).unwrap().count(), 0);
}

#[tokio::test]
async fn asking_works_beside_the_service_and_without_it() {
    let fixture = Fixture::new().await;
    let job = fixture.queued("x").await;
    let asking = Store::open_for_asking(fixture.dir.path()).await.unwrap();
    assert_eq!(asking.record(job.id).await.unwrap().unwrap().id, job.id);
    fixture.store.close().await;
    asking.close().await;
    let asking = Store::open_for_asking(fixture.dir.path()).await.unwrap();
    assert_eq!(asking.record(job.id).await.unwrap().unwrap().id, job.id);
}

#[tokio::test]
async fn a_directory_that_cannot_be_made_is_named() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "").unwrap();
    let fault = Store::open(&dir.path().join("file/state"), boot()).await.unwrap_err();
    assert!(matches!(fault, StoreError::Unwritable { .. }), "{fault}");
    assert!(fault.to_string().contains("file/state"), "{fault}");
}
