//! When a file is the version that is known, and when another: by what lies there, not by what the clock says of it.

use std::ffi::CString;
use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use sqlx::Connection;
use upspool::model::job::State;

use crate::harness::{Bench, noise};
use crate::mount::Mount;

/// Runs until all that lies there is done; how many Files that made.
async fn sent(bench: &Bench) -> usize {
    let before = bench.emulator.files().len();
    let (code, printed, log) = bench.once(&[]).await;
    assert_eq!(code, 0, "{printed}\n{log:#?}");
    bench.emulator.files().len() - before
}

fn set_modified(path: &Path, time: SystemTime) {
    File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
}

fn modified(path: &Path) -> SystemTime {
    path.metadata().unwrap().modified().unwrap()
}

/// Copies a file with its times.
fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-p").args([from, to]).status().unwrap().success());
}

#[tokio::test]
async fn a_restart_sends_nothing_again_and_asks_the_server_nothing() {
    let bench = Bench::new().await;
    for size in [1, 300_000, 3 << 20] {
        bench.drop_file(format!("{size}"), &noise(size, size as u64));
    }
    assert_eq!(sent(&bench).await, 3);
    let requests = bench.emulator.requests().len();
    for _ in 0..2 {
        assert_eq!(sent(&bench).await, 0);
    }
    assert_eq!(bench.emulator.requests().len(), requests);
}

#[tokio::test]
async fn another_file_with_the_inode_the_size_and_the_time_of_one_that_is_known_is_another_version() {
    let bench = Bench::new().await;
    let path = bench.drop_file("a", b"one");
    assert_eq!(sent(&bench).await, 1);
    let (inode, time) = (path.metadata().unwrap().ino(), modified(&path));
    // The same inode, as after a delete that freed it for the next file.
    fs::write(&path, b"two").unwrap();
    set_modified(&path, time);
    assert_eq!((path.metadata().unwrap().ino(), modified(&path)), (inode, time));
    assert_eq!(sent(&bench).await, 1);
    bench.assert_ledger_is_the_truth().await;
}

#[tokio::test]
async fn a_clock_that_goes_back_neither_hides_a_change_nor_makes_one() {
    let bench = Bench::new().await;
    let path = bench.drop_file("a", b"one");
    assert_eq!(sent(&bench).await, 1);
    let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(86_400);
    set_modified(&path, long_ago);
    assert_eq!(sent(&bench).await, 0, "the same bytes from 1970");
    fs::write(&path, b"two").unwrap();
    set_modified(&path, long_ago);
    assert_eq!(sent(&bench).await, 1, "other bytes of the same age");
    set_modified(&path, long_ago + Duration::from_secs(86_400 * 365 * 100));
    assert_eq!(sent(&bench).await, 0, "the same bytes from next year");
    bench.assert_ledger_is_the_truth().await;
}

#[tokio::test]
async fn a_copy_that_keeps_its_times_is_known_by_its_bytes() {
    let bench = Bench::new().await;
    let path = bench.drop_file("a", &noise(300_000, 1));
    copy(&path, &bench.path("kept"));
    assert_eq!(sent(&bench).await, 1);
    fs::remove_file(&path).unwrap();
    copy(&bench.path("kept"), &path);
    assert_eq!(sent(&bench).await, 0);
    // Other bytes of the same size and time.
    let time = modified(&path);
    fs::remove_file(&path).unwrap();
    fs::write(bench.path("other"), noise(300_000, 2)).unwrap();
    set_modified(&bench.path("other"), time);
    copy(&bench.path("other"), &path);
    assert_eq!(sent(&bench).await, 1);
    bench.assert_ledger_is_the_truth().await;
}

#[tokio::test]
async fn rights_and_owners_and_further_names_change_no_file() {
    let mut bench = Bench::new().await;
    bench.folder = "existing = \"skip\"\n".into();
    let was_there = bench.drop_file("was there", b"skipped");
    assert_eq!(sent(&bench).await, 0);
    let path = bench.drop_file("a", b"one");
    assert_eq!(sent(&bench).await, 1);
    for path in [&path, &was_there] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o640)).unwrap();
        let name = CString::new(path.to_str().unwrap()).unwrap();
        // Only root may give files away; for others nothing changes, which is as well.
        let _ = std::os::unix::fs::chown(name.to_str().unwrap(), Some(1), Some(1));
    }
    assert_eq!(sent(&bench).await, 0);
    // A hard link is a file of its own name; the first is what it was.
    fs::hard_link(&path, path.with_file_name("b")).unwrap();
    assert_eq!(sent(&bench).await, 1);
    let records = bench.records().await;
    let states: Vec<_> = records.iter().map(|record| record.state).collect();
    assert_eq!(states, [State::Skipped, State::Stored, State::Stored]);
    bench.assert_ledger_is_the_truth().await;
}

#[tokio::test]
async fn names_that_differ_only_in_case_or_in_unicode_form_are_two_files() {
    let bench = Bench::new().await;
    for (seed, name) in ["Report.txt", "report.txt", "caf\u{e9}.txt", "cafe\u{301}.txt"].iter().enumerate() {
        bench.drop_file(name, &noise(64, seed as u64 + 1));
    }
    assert_eq!(sent(&bench).await, 4);
    assert_eq!(sent(&bench).await, 0);
    bench.assert_ledger_is_the_truth().await;
}

#[tokio::test]
async fn a_remount_that_changes_the_device_changes_no_file() {
    let bench = Bench::new().await;
    bench.drop_file("below", b"x");
    let overlay = || Mount::overlay(&bench.path("drop"), &bench.path("over"), bench.path("drop"));
    let Some(mount) = overlay() else { return };
    fs::write(bench.path("drop/a"), b"one").unwrap();
    assert_eq!(sent(&bench).await, 2);
    let device = bench.path("drop").metadata().unwrap().dev();
    assert!(mount.umount());
    // Something takes the number of the device that has become free.
    let Some(_other) = Mount::tmpfs_at(bench.path("other"), 1) else { return };
    let again = overlay().unwrap();
    assert_ne!(bench.path("drop").metadata().unwrap().dev(), device);
    assert_eq!(sent(&bench).await, 0);
    drop(again);
}

#[tokio::test]
async fn a_folder_restored_on_another_machine_is_known_by_digests_and_without_them_by_md5() {
    for md5_alone in [false, true] {
        let bench = Bench::new().await;
        let drop = bench.path("drop");
        bench.drop_file("sub/small", b"small");
        bench.drop_file("large", &noise(3 << 20, 5));
        assert_eq!(sent(&bench).await, 2);
        if md5_alone {
            forget_parts(&bench).await;
        }
        fs::rename(&drop, bench.path("backup")).unwrap();
        let status = Command::new("cp").arg("-a").args([&bench.path("backup"), &drop]).status().unwrap();
        assert!(status.success());
        assert_eq!(sent(&bench).await, 0, "md5 alone: {md5_alone}");
        assert_eq!(bench.records().await.len(), 2);
        // What was written down of it is enough for the next time.
        assert_eq!(sent(&bench).await, 0);
        let time = modified(&drop.join("large"));
        fs::write(drop.join("large"), noise(3 << 20, 6)).unwrap();
        set_modified(&drop.join("large"), time);
        assert_eq!(sent(&bench).await, 1, "md5 alone: {md5_alone}");
    }
}

/// As if the history of all jobs had been forgotten, with the digests of their Parts.
async fn forget_parts(bench: &Bench) {
    let url = format!("sqlite://{}", bench.state_dir().join("upspool.db").display());
    let mut store = sqlx::SqliteConnection::connect(&url).await.unwrap();
    for sql in ["DELETE FROM parts", "DELETE FROM uploads"] {
        sqlx::query(sql).execute(&mut store).await.unwrap();
    }
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_directory_that_is_mounted_twice_in_the_folder_holds_files_of_two_names() {
    let bench = Bench::new().await;
    bench.drop_file("first/a", b"one");
    let Some(mount) = Mount::bind(&bench.path("drop/first"), bench.path("drop/second")) else { return };
    assert_eq!(sent(&bench).await, 2, "each path is a file, as with hard links");
    assert_eq!(sent(&bench).await, 0);
    bench.assert_ledger_is_the_truth().await;
    drop(mount);
}
