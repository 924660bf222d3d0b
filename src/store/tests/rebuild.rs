//! What a rebuild makes of a damaged store.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use super::*;
use crate::model::answer::FileId;
use crate::model::job::{Doubt, Stage, State};
use crate::store::{DATABASE, NewRequest, RebuildError, Rebuilt, SPOOL, aside, rebuild, witness};

const PAGE: u64 = 4096;

/// Closes the store and writes garbage over some pages, counted from 0.
async fn spoil(fixture: Fixture, pages: impl IntoIterator<Item = u64>) -> TempDir {
    fixture.store.close().await;
    let Fixture { dir, lock, .. } = fixture;
    drop(lock);
    let file = File::options().write(true).open(dir.path().join(DATABASE)).unwrap();
    for page in pages {
        file.write_all_at(&[0x5a; PAGE as usize], page * PAGE).unwrap();
    }
    dir
}

/// The pages that belong to a table or an index, counted from 0.
async fn pages_of(fixture: &Fixture, name: &str) -> Vec<u64> {
    // The log is folded in, so that what is on a page is in the file.
    sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&fixture.store.writer).await.unwrap();
    let root: i64 = sqlx::query_scalar("SELECT rootpage FROM sqlite_schema WHERE name = ?1")
        .bind(name.to_owned())
        .fetch_one(&fixture.store.writer)
        .await
        .unwrap();
    vec![root.cast_unsigned() - 1]
}

async fn rebuilt(dir: &TempDir, folders: &[(PathBuf, String)]) -> (Rebuilt, Fixture) {
    let rebuilt = rebuild(dir.path(), folders, at(9000).wall).await.unwrap();
    let (store, lock) = Store::open(dir.path(), boot()).await.unwrap();
    let folder = store.folders().await.unwrap().first().map_or(FolderId(0), |folder| folder.id);
    // The directory outlives what is made of it here.
    let fixture = Fixture { store, lock: Some(lock), folder, dir: tempfile::tempdir().unwrap() };
    (rebuilt, fixture)
}

fn configured() -> Vec<(PathBuf, String)> {
    vec![(PathBuf::from("/srv/a"), "a".into()), (PathBuf::from("/srv/b"), "b".into())]
}

#[tokio::test]
async fn what_is_open_goes_on_after_it_and_all_is_paused() {
    let fixture = Fixture::new().await;
    let mut sending = fixture.queued("sending").await;
    fixture.take(&mut sending, Step::Opened(session("upload_1", 2))).await;
    fixture.take(&mut sending, part(1)).await;
    let mut completing = fixture.queued("completing").await;
    for step in [Step::Opened(session("upload_2", 2)), part(0), part(1), Step::Completing] {
        fixture.take(&mut completing, step).await;
    }
    let ask = NewRequest { kind: "resume".into(), job: None, folder: None, argument: None };
    fixture.store.insert_request(&ask, Wall(5)).await.unwrap();
    let spoilt = pages_of(&fixture, "jobs_stage").await;
    let dir = spoil(fixture, spoilt).await;
    let fault = Store::open(dir.path(), boot()).await.unwrap_err();
    assert!(fault.is_damage(), "{fault}");

    let (told, after) = rebuilt(&dir, &configured()).await;
    assert_eq!((told.jobs, told.lost, told.requeued, told.doubtful), (2, 0, 0, 0), "{told:?}");
    assert_eq!(told.paused, ["a", "b"]);
    assert_eq!(after.load(sending.id).await, sending);
    let Stage::Completing(session, _) = completing.stage else { panic!("{completing:?}") };
    completing.stage = Stage::Completing(session, Doubt::MayHaveActed);
    assert_eq!(after.load(completing.id).await, completing);
    for folder in after.store.folders().await.unwrap() {
        assert!(folder.paused && folder.paused_why.unwrap().starts_with("rebuilt"), "{}", folder.name);
    }
    assert_eq!(after.store.pending_requests(0).await.unwrap(), [], "an old wish must not start the sending");
    let next = after.queued("next").await;
    assert_eq!(next.id.0, completing.id.0 + 1, "numbers are never given again");
}

#[tokio::test]
async fn wherever_a_rebuild_without_a_witness_is_cut_off_the_next_one_reads_the_same() {
    let fixture = Fixture::new().await;
    let job = fixture.queued("a").await;
    let dir = spoil(fixture, []).await;
    let lock = Lock::take(dir.path()).unwrap();
    aside::set_aside(dir.path(), &lock, at(0).wall).unwrap().unwrap();
    drop(lock);
    fs::remove_file(witness::path(dir.path())).unwrap();
    // Cut off just before the new database gets its name: what is in the way is met then.
    fs::write(dir.path().join(SPOOL), "").unwrap();
    rebuild(dir.path(), &configured(), at(9000).wall).await.unwrap_err();
    assert!(!dir.path().join(DATABASE).exists());
    assert!(witness::read(dir.path()).unwrap().is_some(), "with the name it would be refused");
    fs::remove_file(dir.path().join(SPOOL)).unwrap();
    let (told, after) = rebuilt(&dir, &configured()).await;
    assert_eq!((told.jobs, told.lost), (1, 0), "{told:?}");
    assert_eq!(after.load(job.id).await, job);
}

#[tokio::test]
async fn folders_that_are_met_first_after_it_begin_paused_but_not_those_that_come_later() {
    let dir = spoil(Fixture::new().await, [0]).await;
    let (_, after) = rebuilt(&dir, &[]).await;
    assert!(after.folder_at("/srv/new").await.paused);
    assert!(!after.folder_at("/srv/later").await.paused);
    assert!(after.folder_at("/srv/new").await.paused);
}

#[tokio::test]
async fn what_lost_its_upload_begins_again_or_is_told_to_be_in_doubt() {
    let fixture = Fixture::new().await;
    let mut sending = fixture.queued("sending").await;
    fixture.take(&mut sending, Step::Opened(session("upload_1", 2))).await;
    let mut completing = fixture.queued("completing").await;
    fixture.take(&mut completing, Step::SentWhole { session: whole("upload_2"), md5: None }).await;
    let spoilt = pages_of(&fixture, "uploads").await;
    let dir = spoil(fixture, spoilt).await;
    let (told, after) = rebuilt(&dir, &configured()).await;
    assert_eq!((told.jobs, told.requeued, told.doubtful), (2, 1, 1), "{told:?}");
    assert_eq!(after.load(sending.id).await.stage, Stage::Queued);
    let record = after.store.record(completing.id).await.unwrap().unwrap();
    assert_eq!(record.state, State::Failed);
    assert_eq!(record.error.unwrap().code, Code::CompleteUnresolved.as_str());
}

#[tokio::test]
async fn folders_are_found_by_their_index_when_their_table_is_lost() {
    let fixture = Fixture::new().await;
    let job = fixture.queued("x").await;
    let spoilt = pages_of(&fixture, "folders").await;
    let dir = spoil(fixture, spoilt).await;
    let (told, after) = rebuilt(&dir, &configured()).await;
    assert_eq!((told.jobs, told.paused.len()), (1, 2), "{told:?}");
    let record = after.store.record(job.id).await.unwrap().unwrap();
    assert_eq!(record.folder_path, Path::new("/srv/a"));
}

#[tokio::test]
async fn rows_on_a_spoilt_page_are_counted_and_the_others_kept() {
    let fixture = Fixture::new().await;
    for n in 0..400 {
        fixture.queued(&format!("{n}")).await;
    }
    // A leaf of the table: its number is what the root says last of the first half.
    sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&fixture.store.writer).await.unwrap();
    let root = pages_of(&fixture, "jobs").await[0];
    let bytes = fs::read(fixture.dir.path().join(DATABASE)).unwrap();
    let page = &bytes[usize::try_from(root * PAGE).unwrap()..];
    assert_eq!(page[0], 5, "an inner page of a table");
    let cell = usize::from(u16::from_be_bytes([page[20], page[21]]));
    let leaf = u32::from_be_bytes(page[cell..cell + 4].try_into().unwrap());
    let dir = spoil(fixture, [u64::from(leaf) - 1]).await;
    let (told, after) = rebuilt(&dir, &configured()).await;
    assert_eq!(told.jobs + told.lost, 400, "{told:?}");
    assert!((1..60).contains(&told.lost), "one page: {told:?}");
    let counted: u64 = after.store.counts().await.unwrap().iter().map(|count| count.jobs).sum();
    assert_eq!(counted, told.jobs);
}

#[tokio::test]
async fn the_first_page_is_no_loss() {
    let fixture = Fixture::new().await;
    for n in 0..50 {
        fixture.queued(&format!("{n}")).await;
    }
    let dir = spoil(fixture, [0]).await;
    let (told, _after) = rebuilt(&dir, &configured()).await;
    assert_eq!((told.jobs, told.lost, told.unreadable), (50, 0, None));
    let names = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(names.into_iter().all(|name| !name.to_string_lossy().contains(".new")), "nothing is left over");
}

#[tokio::test]
async fn a_whole_store_is_not_rebuilt() {
    let fixture = Fixture::new().await;
    fixture.store.close().await;
    let Fixture { dir, lock, .. } = fixture;
    assert!(matches!(
        rebuild(dir.path(), &[], Wall(1)).await,
        Err(RebuildError::Store(crate::store::StoreError::Locked { .. }))
    ));
    drop(lock);
    let healthy = RebuildError::Healthy(dir.path().join(DATABASE));
    assert_eq!(rebuild(dir.path(), &[], Wall(1)).await, Err(healthy));
    assert!(Store::open(dir.path(), boot()).await.is_ok());
}

#[tokio::test]
async fn of_those_that_shared_the_file_of_a_lost_row_the_first_has_it() {
    let fixture = Fixture::new().await;
    let file = FileId("file-1".into());
    let mut one = fixture.queued("a/x").await;
    fixture.take(&mut one, Step::SentWhole { session: whole("upload_1"), md5: None }).await;
    fixture.take(&mut one, Step::Stored { file: file.clone(), expires_at: None }).await;
    let mut sharing = Vec::new();
    for path in ["b/x", "c/x", "d/x"] {
        let mut job = fixture.queued(path).await;
        fixture.take(&mut job, Step::Deduped { file: file.clone(), from: one.id, expires_at: None }).await;
        sharing.push(job.id);
    }
    let mut connection = fixture.store.writer.acquire().await.unwrap();
    for sql in ["PRAGMA foreign_keys = OFF", "DELETE FROM jobs WHERE id = 1", "PRAGMA foreign_keys = ON"] {
        sqlx::query(sql).execute(&mut *connection).await.unwrap();
    }
    drop(connection);
    let spoilt = pages_of(&fixture, "jobs_stage").await;
    let dir = spoil(fixture, spoilt).await;
    let (told, after) = rebuilt(&dir, &configured()).await;
    assert_eq!((told.jobs, told.lost), (3, 0), "{told:?}");
    let mut from = Vec::new();
    for id in &sharing {
        from.push(after.store.record(*id).await.unwrap().unwrap().deduped_from);
    }
    assert_eq!(from, [None, Some(sharing[0]), Some(sharing[0])]);
}
