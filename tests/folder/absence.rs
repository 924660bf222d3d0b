//! A missing file: deleted, or only not there.

use std::fs;
use std::process::Command;

use serde_json::Value;
use upspool::model::job::State;

use crate::harness::{Bench, noise};
use crate::mount::Mount;

/// Runs until all that lies there is done.
async fn once(bench: &Bench) -> Vec<Value> {
    let (code, printed, log) = bench.once(&[]).await;
    assert_eq!(code, 0, "{printed}\n{log:#?}");
    log
}

fn says(log: &[Value], event: &str) -> bool {
    log.iter().any(|line| line["event"] == event)
}

/// How many jobs there are, and how many Files.
async fn jobs_and_files(bench: &Bench) -> (usize, usize) {
    (bench.records().await.len(), bench.emulator.files().len())
}

/// Copies a file with its times, as somebody does who restores it.
fn restore(from: &std::path::Path, to: &std::path::Path) {
    assert!(Command::new("cp").arg("-p").args([from, to]).status().unwrap().success());
}

#[tokio::test]
async fn a_file_that_was_deleted_is_sent_again_when_it_is_dropped_again() {
    let bench = Bench::new().await;
    let path = bench.drop_file("sub/a.txt", b"the same bytes");
    once(&bench).await;
    fs::remove_file(&path).unwrap();
    assert!(says(&once(&bench).await, "deleted"));
    assert!(bench.records().await.iter().all(|record| !record.present && record.state == State::Stored));
    bench.drop_file("sub/a.txt", b"the same bytes");
    once(&bench).await;
    assert_eq!(jobs_and_files(&bench).await, (2, 2));
    assert_eq!(once(&bench).await.iter().filter(|line| line["event"] == "queued").count(), 0);
    bench.assert_ledger_is_the_truth().await;
}

#[tokio::test]
async fn a_file_that_nobody_missed_is_the_same_version_when_it_is_dropped_again() {
    let bench = Bench::new().await;
    let path = bench.drop_file("a.txt", b"the same bytes");
    once(&bench).await;
    fs::remove_file(&path).unwrap();
    bench.drop_file("a.txt", b"the same bytes");
    let log = once(&bench).await;
    assert!(!says(&log, "queued") && !says(&log, "deleted"));
    assert_eq!(jobs_and_files(&bench).await, (1, 1));
}

#[tokio::test]
async fn a_running_service_sees_by_its_rescans_what_was_deleted() {
    for watch in ["poll", "events"] {
        let mut bench = Bench::new().await;
        bench.folder = format!("watch = {watch:?}\npoll_interval = \"1s\"\nrescan_interval = \"1s\"\n");
        let path = bench.drop_file("a.txt", b"the same bytes");
        let service = bench.start();
        service.wait_stored(1).await;
        fs::remove_file(&path).unwrap();
        service.wait_for("that it was deleted", |line| line["event"] == "deleted").await;
        bench.drop_file("a.txt", b"the same bytes");
        service.wait_stored(2).await;
        service.stop().await;
        bench.assert_ledger_is_the_truth().await;
    }
}

#[tokio::test]
async fn a_folder_whose_disk_is_not_mounted_has_lost_no_file() {
    let bench = Bench::new().await;
    let (disk, drop) = (bench.path("disk"), bench.path("drop"));
    fs::create_dir(&disk).unwrap();
    let Some(mounted) = Mount::bind(&disk, drop.clone()) else { return };
    for name in ["a", "b", "c"] {
        fs::write(drop.join(name), noise(300, u64::from(name.as_bytes()[0]))).unwrap();
    }
    once(&bench).await;
    assert_eq!(jobs_and_files(&bench).await, (3, 3));
    assert!(mounted.umount());
    let log = once(&bench).await;
    assert!(says(&log, "folder-replaced") && !says(&log, "deleted"));
    // A new file comes to lie in the mount point, and is met there. It is no file of before.
    fs::write(drop.join("new"), b"new").unwrap();
    for _ in 0..2 {
        let log = once(&bench).await;
        assert!(says(&log, "folder-replaced") && !says(&log, "deleted"));
    }
    fs::remove_file(drop.join("new")).unwrap();
    let _mounted = Mount::bind(&disk, drop.clone()).unwrap();
    let log = once(&bench).await;
    assert!(!says(&log, "folder-replaced") && !says(&log, "queued"));
    assert_eq!(jobs_and_files(&bench).await, (4, 4), "nothing is sent again");
    // Back on known ground, what is missing was deleted: the file in the mount point, and this one.
    fs::remove_file(drop.join("a")).unwrap();
    once(&bench).await;
    let present: Vec<_> = bench.records().await.into_iter().filter(|record| record.present).collect();
    assert_eq!(present.len(), 2);
}

#[tokio::test]
async fn what_is_mounted_over_a_folder_deletes_nothing_in_it() {
    let bench = Bench::new().await;
    bench.drop_file("a", b"a");
    once(&bench).await;
    let Some(memory) = Mount::tmpfs_at(bench.path("drop"), 8) else { return };
    let log = once(&bench).await;
    assert!(says(&log, "folder-replaced") && !says(&log, "deleted"));
    assert!(memory.umount());
    let log = once(&bench).await;
    assert!(!says(&log, "folder-replaced") && !says(&log, "queued"));
    assert_eq!(jobs_and_files(&bench).await, (1, 1));
}

#[tokio::test]
async fn a_mount_in_a_folder_may_come_and_go() {
    let bench = Bench::new().await;
    let (disk, sub) = (bench.path("disk"), bench.path("drop/sub"));
    fs::create_dir(&disk).unwrap();
    bench.drop_file("beside", b"beside");
    let Some(mounted) = Mount::bind(&disk, sub.clone()) else { return };
    fs::write(sub.join("a"), b"a").unwrap();
    once(&bench).await;
    assert_eq!(jobs_and_files(&bench).await, (2, 2));
    assert!(mounted.umount());
    fs::remove_file(bench.path("drop/beside")).unwrap();
    let log = once(&bench).await;
    assert!(says(&log, "folder-replaced") && says(&log, "deleted"), "one is missing, one was deleted");
    let mounted = Mount::bind(&disk, sub.clone()).unwrap();
    assert!(!says(&once(&bench).await, "queued"));
    assert_eq!(jobs_and_files(&bench).await, (2, 2));
    drop(mounted);
}

#[tokio::test]
async fn what_is_mounted_over_files_in_a_folder_hides_them() {
    let bench = Bench::new().await;
    let (disk, sub) = (bench.path("disk"), bench.path("drop/sub"));
    fs::create_dir(&disk).unwrap();
    bench.drop_file("sub/under", b"under");
    once(&bench).await;
    let Some(mounted) = Mount::bind(&disk, sub.clone()) else { return };
    fs::write(sub.join("new"), b"new").unwrap();
    for name in ["later", "still later"] {
        let log = once(&bench).await;
        assert!(says(&log, "folder-replaced") && !says(&log, "deleted"));
        bench.drop_file(name, name.as_bytes());
    }
    once(&bench).await;
    assert!(mounted.umount());
    let log = once(&bench).await;
    assert!(!says(&log, "queued"), "{log:#?}");
    assert_eq!(jobs_and_files(&bench).await, (4, 4));
}

#[tokio::test]
async fn a_folder_in_the_place_of_another_is_known_by_a_file_of_before() {
    let bench = Bench::new().await;
    let (drop, aside) = (bench.path("drop"), bench.path("aside"));
    for name in ["a", "b", "c"] {
        bench.drop_file(name, name.as_bytes());
    }
    once(&bench).await;
    fs::rename(&drop, &aside).unwrap();
    fs::create_dir(&drop).unwrap();
    let log = once(&bench).await;
    assert!(says(&log, "folder-replaced") && !says(&log, "deleted"));
    // Restored on another machine: other inodes and times of change, the same bytes.
    restore(&aside.join("a"), &drop.join("a"));
    once(&bench).await;
    let log = once(&bench).await;
    assert!(!says(&log, "folder-replaced") && !says(&log, "queued"), "{log:#?}");
    assert_eq!(bench.records().await.iter().filter(|record| record.present).count(), 1);
    restore(&aside.join("b"), &drop.join("b"));
    once(&bench).await;
    assert_eq!(jobs_and_files(&bench).await, (4, 4), "it was missed, and came back");
    bench.assert_ledger_is_the_truth().await;
}

#[tokio::test]
async fn any_number_of_rows_is_gone_through_page_by_page() {
    let mut bench = Bench::new().await;
    bench.folder = "existing = \"skip\"\n".into();
    for number in 0..1_234 {
        fs::write(bench.path("drop").join(format!("{number:04}")), b"x").unwrap();
    }
    once(&bench).await;
    assert_eq!(bench.records().await.iter().filter(|record| record.present).count(), 1_234);
    for number in (0..1_234).filter(|number| number % 617 != 0) {
        fs::remove_file(bench.path("drop").join(format!("{number:04}"))).unwrap();
    }
    let log = once(&bench).await;
    let line = log.iter().find(|line| line["message"].as_str().is_some_and(|text| text.starts_with("1232 ")));
    assert!(line.is_some(), "{log:#?}");
    let left = bench.records().await.into_iter().filter(|record| record.present);
    assert_eq!(left.map(|record| record.filename).collect::<Vec<_>>(), ["0000", "0617"]);
}
