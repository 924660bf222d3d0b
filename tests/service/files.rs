//! Files of every kind become Files of exactly their bytes.

use upspool::model::job::State;
use upspool_emulator::Operation;

use crate::harness::{Bench, PATIENCE, name, noise};

const MIB: usize = 1024 * 1024;

#[tokio::test]
async fn files_of_all_sizes_become_files_of_their_bytes() {
    let bench = Bench::new().await;
    let sizes = [1, 100, 256 * 1024, 256 * 1024 + 1, MIB, 3 * MIB + 7, 20 * MIB];
    for (seed, size) in sizes.into_iter().enumerate() {
        bench.drop_file(format!("sub/dir/{size}.bin"), &noise(size, seed as u64 + 1));
    }
    let (code, printed, _) = bench.once(&[]).await;
    assert_eq!(code, 0, "{printed}");
    assert_eq!(printed.lines().count(), sizes.len());
    assert!(printed.lines().all(|line| line.starts_with("file-") && line.contains('\t')), "{printed}");
    bench.assert_ledger_is_the_truth().await;
    assert!(bench.emulator.most_parts_in_flight() > 1, "Parts go in parallel");
    let parts = bench.emulator.requests_of(Operation::Part);
    assert!(parts.iter().all(|part| part.header("content-length").is_some()));
    assert!(parts.iter().all(|part| part.header("transfer-encoding").is_none()));
    let completes = bench.emulator.requests_of(Operation::Complete);
    assert!(
        completes.iter().all(|request| request.json.as_ref().unwrap()["md5"].as_str().unwrap().len() == 32)
    );
}

#[tokio::test]
async fn a_second_run_sends_nothing_again_and_a_changed_file_is_a_new_job() {
    let bench = Bench::new().await;
    let path = bench.drop_file("a.txt", b"one");
    assert_eq!(bench.once(&[]).await.0, 0);
    let before = bench.emulator.requests().len();
    let (code, printed, _) = bench.once(&[]).await;
    assert_eq!((code, printed.as_str()), (0, ""));
    assert_eq!(bench.emulator.requests().len(), before, "a second run asks the server nothing");

    // Touched, but the same bytes: known by digest.
    let later = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
    std::fs::File::options().write(true).open(&path).unwrap().set_modified(later).unwrap();
    assert_eq!(bench.once(&[]).await.1, "");
    assert_eq!(bench.emulator.requests().len(), before);

    bench.drop_file("a.txt", b"two");
    assert_eq!(bench.once(&[]).await.0, 0);
    let records = bench.records().await;
    assert_eq!(records.len(), 2);
    assert!(records.iter().all(|record| record.state == State::Stored));
    assert_eq!(bench.emulator.files().len(), 2);
    assert_ne!(records[0].file_id, records[1].file_id);
}

#[tokio::test]
async fn files_that_come_while_it_runs_are_taken_by_events() {
    let bench = Bench::new().await;
    let service = bench.start();
    service.wait_event("ready").await;
    service
        .wait_for("watched by events", |line| line["event"] == "folder-state" && line["state"] == "events")
        .await;
    bench.drop_file("first.txt", b"first");
    service.wait_stored(1).await;
    bench.drop_file("new/deep/second.txt", b"second");
    std::fs::write(bench.path("drop").join("third.txt"), b"third").unwrap();
    service.wait_stored(3).await;
    let (status, log) = service.stop().await;
    assert_eq!(status.code(), Some(0));
    bench.assert_ledger_is_the_truth().await;
    let stored: Vec<_> = log.iter().filter(|line| line["event"] == "stored").collect();
    for line in stored {
        for field in
            ["job", "folder", "path", "account", "file_id", "bytes", "duration_ms", "status", "request_id"]
        {
            assert!(!line[field].is_null(), "{field} is missing: {line}");
        }
    }
}

#[tokio::test]
async fn names_of_all_kinds_are_taken_and_shown_escaped() {
    let bench = Bench::new().await;
    let names: [&[u8]; 7] = [
        b"with space;'\"$(x).txt",
        b"new\nline.txt",
        b"esc\x1b[31m.txt",
        b"not-utf8-\xff\xfe.txt",
        "café \u{1f600}.txt".as_bytes(),
        b"percent%41.txt",
        b"-rf",
    ];
    for (seed, bytes) in names.iter().enumerate() {
        bench.drop_file(name(bytes), &noise(100, seed as u64 + 50));
    }
    let longest = format!("{}.txt", "x".repeat(251));
    bench.drop_file(&longest, b"longest");
    let (code, printed, log) = bench.once(&[]).await;
    assert_eq!(code, 0, "{printed}");
    assert_eq!(printed.lines().count(), names.len() + 1, "one line each: {printed}");
    assert!(!printed.contains('\x1b'));
    assert!(log.iter().all(|line| !line.to_string().contains('\x1b')));
    bench.assert_ledger_is_the_truth().await;
    let sent: Vec<String> = bench.emulator.files().into_iter().map(|file| file.filename).collect();
    for expected in ["new%0Aline.txt", "not-utf8-%FF%FE.txt", "percent%2541.txt", "café \u{1f600}.txt"] {
        assert!(sent.iter().any(|name| name == expected), "{expected} in {sent:?}");
    }
}

#[tokio::test]
async fn temporary_names_globs_and_hidden_files_are_left_alone() {
    let mut bench = Bench::new().await;
    bench.folder = "include = [\"*.txt\"]\nexclude = [\"private/\"]\n".into();
    for taken in ["a.txt", "sub/b.txt"] {
        bench.drop_file(taken, b"taken");
    }
    for ignored in [
        "c.pdf",
        "private/d.txt",
        ".hidden.txt",
        "e.txt.part",
        "f.txt.crdownload",
        ".g.txt.Xa81b2",
        "~$h.txt",
    ] {
        bench.drop_file(ignored, b"ignored");
    }
    let (code, printed, _) = bench.once(&[]).await;
    assert_eq!(code, 0);
    assert_eq!(printed.lines().count(), 2, "{printed}");
    assert_eq!(bench.records().await.len(), 2);
}

#[tokio::test]
async fn existing_files_are_skipped_or_guarded_as_the_folder_says() {
    let mut bench = Bench::new().await;
    bench.folder = "existing = \"skip\"\n".into();
    bench.drop_file("old.txt", b"old");
    let service = bench.start();
    service.wait_event("skipped").await;
    bench.drop_file("new.txt", b"new");
    service.wait_stored(1).await;
    service.stop().await;
    assert_eq!(bench.record("old.txt").await.state, State::Skipped);
    assert_eq!(bench.record("new.txt").await.state, State::Stored);

    let bench = Bench::new().await;
    for number in 0..1001 {
        bench.drop_file(format!("{number}"), b"x");
    }
    let service = bench.start();
    let line = service.wait_event("folder-paused").await;
    assert!(line["message"].as_str().unwrap().contains("1001 files"), "{line}");
    service.wait_for("all queued", |line| line["event"] == "queued" && line["job"] == 1001).await;
    assert!(bench.emulator.requests().is_empty(), "nothing is sent from a paused folder");
    let resumed = bench.command(&["resume", "--folder", "drop"]).output().unwrap();
    assert_eq!(resumed.status.code(), Some(0), "{resumed:?}");
    service.wait_stored(1001).await;
    let (status, _) = service.stop().await;
    assert_eq!(status.code(), Some(0));
    bench.assert_ledger_is_the_truth().await;
}

#[tokio::test]
async fn a_file_that_changes_while_it_is_sent_ends_as_its_last_version() {
    let bench = Bench::new().await;
    let path = bench.drop_file("a.bin", &noise(4 * MIB, 1));
    let hold = bench
        .emulator
        .hold(upspool_emulator::Calls::of(Operation::Part).nth(2), upspool_emulator::Point::Before);
    let service = bench.start();
    hold.reached().await;
    std::fs::write(&path, noise(4 * MIB, 2)).unwrap();
    hold.release();
    service.wait_for("stored", |line| line["event"] == "stored").await;
    service.stop().await;
    let files = bench.emulator.files();
    assert_eq!(files.len(), 1, "the first version made no File");
    assert_eq!(files[0].sha256.as_deref(), Some(crate::harness::sha256_of(&path).as_str()));
    let records = bench.records().await;
    assert_eq!(records.iter().map(|record| record.state).collect::<Vec<_>>(), [State::Gone, State::Stored]);
    assert_eq!(records[0].error.as_ref().unwrap().code, "file-changed");
    let cancelled = bench.emulator.wait_for(|request| request.operation == Operation::Cancel, PATIENCE).await;
    assert!(cancelled.is_ok(), "the Upload of the first version is cancelled");
}

#[tokio::test]
async fn twins_are_completed_one_after_the_other_and_both_stored() {
    let bench = Bench::new().await;
    for folder in ["a", "b", "c", "d"] {
        bench.drop_file(format!("{folder}/same.txt"), b"the same");
        bench.drop_file(format!("{folder}/large.bin"), &noise(2 * MIB, 9));
    }
    let (code, printed, log) = bench.once(&[]).await;
    assert_eq!(code, 0, "{printed}\n{log:#?}");
    assert_eq!(bench.emulator.files().len(), 8);
    bench.assert_ledger_is_the_truth().await;
    assert!(log.iter().all(|line| line["level"] != "ERROR"), "{log:#?}");
}

#[tokio::test]
async fn a_touch_while_it_is_sent_is_no_other_version() {
    let mut bench = Bench::new().await;
    bench.tables = "[upload]\nparallel_parts = 2\npart_size = \"1 MiB\"\n".into();
    let path = bench.drop_file("a.bin", &noise(6 * MIB, 1));
    let hold = bench
        .emulator
        .hold(upspool_emulator::Calls::of(Operation::Part).nth(4), upspool_emulator::Point::Before);
    let service = bench.start();
    hold.reached().await;
    service.wait_event("part-stored").await;
    let later = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
    std::fs::File::options().append(true).open(&path).unwrap().set_modified(later).unwrap();
    bench.drop_file("second.txt", b"comes after the touch was seen");
    service.wait_stored(1).await;
    hold.release();
    service.wait_stored(2).await;
    service.stop().await;
    assert_eq!(bench.emulator.files().len(), 2);
    assert_eq!(bench.record("a.bin").await.state, State::Stored);
    assert_eq!(bench.emulator.requests_of(Operation::Part).len(), 6 + 1, "no Part goes twice");
    assert_eq!(bench.once(&[]).await.1, "", "nor is it sent by a later run");
    bench.assert_ledger_is_the_truth().await;
}

#[tokio::test]
async fn what_is_written_to_again_before_it_is_sent_is_not_stored_half() {
    use std::io::{Seek, Write};
    for size in [200_000, 3 * MIB] {
        let bench = Bench::new().await;
        let path = bench.drop_file("a.bin", &vec![0; size]);
        let hold = bench
            .emulator
            .hold(upspool_emulator::Calls::of(Operation::Create).nth(1), upspool_emulator::Point::After);
        let service = bench.start();
        hold.reached().await;
        let mut writer = std::fs::File::options().write(true).open(&path).unwrap();
        writer.write_all(&noise(size / 2, 1)).unwrap();
        hold.release();
        service.wait_event("gone").await;
        writer.seek(std::io::SeekFrom::Start(0)).unwrap();
        writer.write_all(&noise(size, 2)).unwrap();
        drop(writer);
        service.wait_stored(1).await;
        service.stop().await;
        let files = bench.emulator.files();
        assert_eq!(files.len(), 1, "{size}");
        assert_eq!(
            files[0].sha256.as_deref(),
            Some(crate::harness::sha256(&noise(size, 2)).as_str()),
            "{size}"
        );
    }
}

#[tokio::test]
async fn what_is_moved_in_later_is_new_even_where_existing_files_are_skipped() {
    let mut bench = Bench::new().await;
    bench.folder = "existing = \"skip\"\n".into();
    std::fs::create_dir(bench.path("stage")).unwrap();
    std::fs::write(bench.path("stage").join("a.txt"), b"made before the service").unwrap();
    bench.drop_file("old.txt", b"old");
    let service = bench.start();
    service.wait_event("skipped").await;
    std::fs::rename(bench.path("stage"), bench.path("drop").join("batch")).unwrap();
    service.wait_stored(1).await;
    service.stop().await;
    assert_eq!(bench.record("batch/a.txt").await.state, State::Stored);
    assert_eq!(bench.once(&[]).await.1, "");
}
