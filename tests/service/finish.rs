//! What is done after a job has ended: moves, deletes, receipts, hooks, and all of it again after a crash.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use upspool::model::job::State;
use upspool::store::{FinishState, Record};
use upspool_emulator::{Calls, Operation, Point, Reply};

use crate::harness::{Bench, PATIENCE, Service, as_a_user, noise};

/// All files below the folder, by their paths in it.
fn names(bench: &Bench) -> Vec<String> {
    let root = bench.path("drop");
    let mut names = Vec::new();
    let mut directories = vec![root.clone()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else {
                names.push(path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    names.sort();
    names
}

/// A program that is told of jobs.
fn hook(bench: &Bench, text: &str) -> PathBuf {
    let path = bench.path("hook");
    std::fs::write(&path, format!("#!/bin/sh\ncd {:?}\n{text}\n", bench.dir.path())).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn receipt(bench: &Bench, relative: &str) -> Value {
    let path = bench.path("drop").join(format!("{relative}.upspool.json"));
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Waits for a file that appears whole.
async fn wait_for_file(path: &Path) {
    tokio::time::timeout(PATIENCE, async {
        while !path.exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap_or_else(|_| panic!("{path:?} does not appear"));
}

#[tokio::test]
async fn a_stored_file_is_moved_and_its_receipt_says_where() {
    let mut bench = Bench::new().await;
    bench.folder = "after_upload = { move = \"done\" }\nreceipt = true\n".into();
    bench.drop_file("sub/report.pdf", b"text");
    let (code, printed, log) = bench.once(&[]).await;
    assert_eq!(code, 0, "{printed}\n{log:#?}");
    assert_eq!(names(&bench), ["done/sub/report.pdf", "sub/report.pdf.upspool.json"]);
    let record = bench.record("sub/report.pdf").await;
    let told = receipt(&bench, "sub/report.pdf");
    assert_eq!(told["id"], record.id.0);
    assert_eq!(told["state"], "stored");
    assert_eq!(told["file_id"], record.file_id.as_ref().unwrap().0);
    assert_eq!(told["finish"]["state"], "done");
    assert_eq!(told["finish"]["moved_to"], bench.path("drop/done/sub/report.pdf").to_str().unwrap());
    assert_eq!((record.finish, record.present), (FinishState::Done, false));
    assert!(log.iter().any(|line| line["event"] == "moved" && line["job"] == record.id.0), "{log:#?}");

    // Neither what lies in the target nor the receipt is a file of the folder.
    let before = bench.emulator.requests().len();
    assert_eq!(bench.once(&[]).await.1, "");
    assert_eq!(bench.emulator.requests().len(), before);

    // The same bytes dropped again are wanted again, and take nobody's place.
    bench.drop_file("sub/report.pdf", b"text");
    let (code, printed, _) = bench.once(&[]).await;
    assert_eq!((code, printed.lines().count()), (0, 1), "{printed}");
    assert_eq!(
        names(&bench),
        ["done/sub/report.2.pdf", "done/sub/report.pdf", "sub/report.pdf.upspool.json"]
    );
    assert_eq!(bench.emulator.files().len(), 2);
}

#[tokio::test]
async fn a_deleted_file_is_gone_before_its_program_is_told_and_the_program_has_no_key() {
    let mut bench = Bench::new().await;
    let program = hook(&bench, "env >env; cat >stdin; ls drop >listed");
    bench.folder = format!("after_upload = \"delete\"\non_stored = [{program:?}, \"x\"]\n");
    bench.env.insert("OPENAI_API_KEY".into(), "sk-secret".into());
    bench.env.insert("UPSPOOL__LOG__LEVEL".into(), "debug".into());
    bench.drop_file("a.txt", b"text");
    let (code, printed, log) = bench.once(&[]).await;
    assert_eq!(code, 0, "{printed}\n{log:#?}");
    assert_eq!(names(&bench), [""; 0]);
    assert_eq!(std::fs::read_to_string(bench.path("listed")).unwrap(), "");
    let record = bench.record("a.txt").await;
    let env = std::fs::read_to_string(bench.path("env")).unwrap();
    for line in [
        format!("UPSPOOL_JOB={}", record.id.0),
        format!("UPSPOOL_FILE_ID={}", record.file_id.as_ref().unwrap().0),
        format!("UPSPOOL_PATH={}", bench.path("drop/a.txt").display()),
        "UPSPOOL_STATE=stored".into(),
        "UPSPOOL_FOLDER=drop".into(),
        "UPSPOOL_BYTES=4".into(),
    ] {
        assert!(env.lines().any(|one| one == line), "{line}: {env}");
    }
    assert!(!env.contains("sk-secret") && !env.contains("UPSPOOL__") && !env.contains("OPENAI"), "{env}");
    let told: Value = serde_json::from_slice(&std::fs::read(bench.path("stdin")).unwrap()).unwrap();
    assert_eq!(
        (&told["id"], &told["path"]),
        (&record.id.0.into(), &bench.path("drop/a.txt").to_str().unwrap().into())
    );
    assert_eq!(record.finish, FinishState::Done);
}

#[tokio::test]
async fn what_failed_is_moved_and_told_and_has_a_receipt_too() {
    let mut bench = Bench::new().await;
    let program = hook(&bench, "echo \"$UPSPOOL_STATE $UPSPOOL_CODE $UPSPOOL_MOVED_TO\" >>told");
    bench.folder = format!(
        "after_failure = {{ move = {:?} }}\nreceipt = {{ dir = \"receipts\" }}\non_failed = [{program:?}]\n",
        bench.path("failed")
    );
    bench.emulator.fault(Calls::of(Operation::Create).meet(Reply::status(400).message("no such purpose")));
    bench.drop_file("empty.txt", b"");
    let (code, printed, log) = bench.once(&[]).await;
    assert_eq!(code, 1, "{printed}\n{log:#?}");
    bench.drop_file("sub/bad.txt", b"text");
    let (code, printed, log) = bench.once(&[]).await;
    assert_eq!(code, 1, "{printed}\n{log:#?}");
    assert_eq!(names(&bench), ["receipts/empty.txt.upspool.json", "receipts/sub/bad.txt.upspool.json"]);
    assert_eq!(std::fs::read(bench.path("failed/sub/bad.txt")).unwrap(), b"text");
    assert!(bench.path("failed/empty.txt").exists());
    let told = std::fs::read_to_string(bench.path("told")).unwrap();
    assert!(
        told.contains(&format!("failed file-empty {}", bench.path("failed/empty.txt").display())),
        "{told}"
    );
    assert!(told.contains("failed file-rejected "), "{told}");
    assert_eq!(receipt(&bench, "receipts/sub/bad.txt")["error"]["code"], "file-rejected");
    // To send it again, it has to be in the folder.
    let service = bench.start();
    service.wait_event("ready").await;
    let retried = bench.command(&["retry", "2"]).output().unwrap();
    let said = String::from_utf8(retried.stdout).unwrap();
    assert!(said.contains("its file lies at") && said.contains("failed/sub/bad.txt"), "{said}");
    assert_eq!(retried.status.code(), Some(1));
    service.stop().await;
}

#[tokio::test]
async fn a_new_version_takes_the_old_receipt_away_before_it_is_sent() {
    let mut bench = Bench::new().await;
    bench.folder = "receipt = true\n".into();
    bench.drop_file("a.txt", b"one");
    let service = bench.start();
    let beside = bench.path("drop/a.txt.upspool.json");
    wait_for_file(&beside).await;
    assert_eq!(receipt(&bench, "a.txt")["id"], 1);
    let hold = bench.emulator.hold(Calls::of(Operation::Create).nth(1), Point::Before);
    bench.drop_file("a.txt", b"two");
    hold.reached().await;
    assert!(!beside.exists(), "whoever waits for it would take the old File for the new one");
    hold.release();
    wait_for_file(&beside).await;
    let told = receipt(&bench, "a.txt");
    service.stop().await;
    let records = bench.records().await;
    assert_eq!(records.len(), 2);
    assert_eq!((&told["id"], &told["state"]), (&records[1].id.0.into(), &"stored".into()));
}

#[tokio::test]
async fn a_program_that_fails_is_tried_again_and_given_up_for_all_to_see_and_retry_does_it_again() {
    let mut bench = Bench::new().await;
    let program = hook(&bench, "echo run >>runs; echo no table >&2; test -e good");
    bench.folder = format!("on_stored = [{program:?}]\n");
    bench.drop_file("a.txt", b"text");
    let service = bench.start();
    let failed = service.wait_event("finish-retry").await;
    assert_eq!((&failed["step"], &failed["code"]), (&"hook".into(), &"finish-failed".into()));
    let second = service
        .wait_for("a second failure", |line| line["event"] == "finish-retry" && line["attempt"] == 2)
        .await;
    assert!(second["message"].as_str().unwrap().contains("ended with 1, and said: no table"), "{second}");
    service.stop().await;
    // The fifth try is the last; nobody waits two minutes for it here.
    let store = bench.state_dir().join("upspool.db");
    let set = "UPDATE jobs SET finish_tries = 4, finish_due = 0 WHERE finish_state = 'pending'";
    let changed = std::process::Command::new("sqlite3").arg(&store).arg(set).status().unwrap();
    assert!(changed.success());
    let service = bench.start();
    service.wait_event("finish-failed").await;
    let record = bench.record_when("a.txt", |record| record.finish == FinishState::Failed).await;
    assert_eq!((record.state, record.finish_step.as_deref()), (State::Stored, Some("hook")));
    assert!(record.finish_error.unwrap().contains("no table"));
    std::fs::write(bench.path("good"), "").unwrap();
    let retried = bench.command(&["retry", "--failed"]).output().unwrap();
    assert_eq!(retried.status.code(), Some(0), "{retried:?}");
    bench.record_when("a.txt", |record| record.finish == FinishState::Done).await;
    service.stop().await;
    assert_eq!(bench.emulator.files().len(), 1, "nothing is sent again");
    assert_eq!(std::fs::read_to_string(bench.path("runs")).unwrap().lines().count(), 4);
}

#[tokio::test]
async fn a_program_that_hangs_keeps_no_file_from_being_sent_and_is_killed_with_its_children() {
    let mut bench = Bench::new().await;
    let program = hook(&bench, "case $UPSPOOL_PATH in *slow*) sleep 1000 & echo $! >>pids; wait;; esac");
    bench.folder =
        format!("after_upload = {{ move = \"done\" }}\non_stored = [{program:?}]\nhook_timeout = \"1s\"\n");
    // More than run at once.
    for number in 0..6 {
        bench.drop_file(format!("slow{number}"), b"x");
    }
    let service = bench.start();
    service.wait_stored(6).await;
    bench.drop_file("quick", b"quick");
    service.wait_stored(7).await;
    wait_for_file(&bench.path("drop/done/quick")).await;
    let failed = service.wait_event("finish-retry").await;
    assert!(failed["message"].as_str().unwrap().contains("took longer than 1s"), "{failed}");
    service.stop().await;
    for pid in std::fs::read_to_string(bench.path("pids")).unwrap().lines() {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        assert!(stat.is_empty() || stat.contains(") Z "), "{pid} goes on: {stat}");
    }
}

#[tokio::test]
async fn a_kill_between_the_steps_repeats_what_is_missing_and_nothing_else() {
    let mut bench = Bench::new().await;
    // Says that it began, and goes on when it may.
    let program = hook(&bench, "echo run >>runs; until test -e go; do sleep 0.01; done");
    bench.folder =
        format!("after_upload = {{ move = \"done\" }}\nreceipt = true\non_stored = [{program:?}]\n");
    bench.drop_file("a.txt", b"text");
    let service = bench.start();
    wait_for_file(&bench.path("runs")).await;
    service.kill().await;
    let record = bench.record("a.txt").await;
    assert_eq!((record.finish, record.finish_step.as_deref()), (FinishState::Pending, Some("hook")));
    assert_eq!(names(&bench), ["a.txt.upspool.json", "done/a.txt"]);
    std::fs::write(bench.path("go"), "").unwrap();
    let service = bench.start();
    let record = bench.record_when("a.txt", |record| record.finish == FinishState::Done).await;
    assert_eq!(record.moved_to, Some(bench.path("drop/done/a.txt")));
    service.stop().await;
    assert_eq!(std::fs::read_to_string(bench.path("runs")).unwrap().lines().count(), 2, "at least once");
    assert_eq!(names(&bench), ["a.txt.upspool.json", "done/a.txt"]);
    assert_eq!(bench.emulator.files().len(), 1);
}

/// Cut off before the source was touched, with its private name, and when it was moved but that not written down.
#[tokio::test]
async fn a_source_is_found_wherever_a_crash_left_it() {
    for left in ["a.txt", ".upspool-1", "done/a.txt"] {
        let mut bench = Bench::new().await;
        bench.drop_file("a.txt", b"text");
        assert_eq!(bench.once(&[]).await.0, 0);
        bench.folder = "after_upload = { move = \"done\" }\n".into();
        let store = bench.state_dir().join("upspool.db");
        let set = "UPDATE jobs SET finish_state = 'pending', finish_step = 'source'";
        assert!(std::process::Command::new("sqlite3").arg(&store).arg(set).status().unwrap().success());
        std::fs::create_dir_all(bench.path("drop/done")).unwrap();
        std::fs::rename(bench.path("drop/a.txt"), bench.path("drop").join(left)).unwrap();
        let (code, printed, log) = bench.once(&[]).await;
        assert_eq!((code, printed.as_str()), (0, ""), "{left}: {log:#?}");
        assert_eq!(names(&bench), ["done/a.txt"], "{left}");
        let record = bench.record("a.txt").await;
        assert_eq!(record.moved_to, Some(bench.path("drop/done/a.txt")), "{left}");
        assert_eq!((record.finish, record.present), (FinishState::Done, false), "{left}");
        assert_eq!(bench.emulator.files().len(), 1, "{left}");
    }
}

#[tokio::test]
async fn a_version_that_came_after_the_upload_is_neither_moved_nor_deleted() {
    for fate in ["\"delete\"", "{ move = \"done\" }"] {
        let mut bench = Bench::new().await;
        bench.drop_file("a.txt", b"old");
        assert_eq!(bench.once(&[]).await.0, 0);
        bench.folder = format!("after_upload = {fate}\n");
        let store = bench.state_dir().join("upspool.db");
        let set = "UPDATE jobs SET finish_state = 'pending', finish_step = 'source'";
        assert!(std::process::Command::new("sqlite3").arg(&store).arg(set).status().unwrap().success());
        bench.drop_file("a.txt", b"new");
        // The new version is a job of its own, and then has its own end.
        let (code, printed, log) = bench.once(&[]).await;
        assert_eq!((code, printed.lines().count()), (0, 1), "{fate}: {printed}\n{log:#?}");
        assert!(log.iter().any(|line| line["event"] == "kept"), "{fate}: {log:#?}");
        let records = bench.records().await;
        assert_eq!(records.len(), 2);
        assert!(records.iter().all(|record| record.finish == FinishState::Done), "{fate}");
        assert_eq!(bench.emulator.files().len(), 2);
        let expected: &[&str] = if fate.contains("move") { &["done/a.txt"] } else { &[] };
        assert_eq!(names(&bench), expected, "{fate}");
    }
}

#[tokio::test]
async fn a_target_that_cannot_be_is_said_and_tried_again() {
    let mut bench = Bench::new().await;
    bench.folder = "after_upload = { move = \"done\" }\n".into();
    std::fs::create_dir_all(bench.path("elsewhere")).unwrap();
    std::os::unix::fs::symlink(bench.path("elsewhere"), bench.path("drop/done")).unwrap();
    bench.drop_file("a.txt", b"text");
    let service = bench.start();
    let failed = service.wait_event("finish-retry").await;
    assert!(failed["message"].as_str().unwrap().contains("opening the target directory"), "{failed}");
    assert!(bench.path("drop/a.txt").exists(), "under its own name");
    assert_eq!(std::fs::read_dir(bench.path("elsewhere")).unwrap().count(), 0);
    std::fs::remove_file(bench.path("drop/done")).unwrap();
    let record = bench.record_when("a.txt", |record| record.finish == FinishState::Done).await;
    assert_eq!(record.moved_to, Some(bench.path("drop/done/a.txt")));
    service.stop().await;
    assert_eq!(bench.emulator.files().len(), 1);
}

/// What the operator would do to a row.
fn set(bench: &Bench, set: &str) {
    let store = bench.state_dir().join("upspool.db");
    assert!(std::process::Command::new("sqlite3").arg(&store).arg(set).status().unwrap().success());
}

#[tokio::test]
async fn a_folder_that_is_not_mounted_is_waited_for_and_its_files_are_moved_when_it_is_back() {
    let mut bench = Bench::new().await;
    bench.drop_file("a.txt", b"text");
    assert_eq!(bench.once(&[]).await.0, 0);
    bench.folder = "after_upload = { move = \"done\" }\n".into();
    set(&bench, "UPDATE jobs SET finish_state = 'pending', finish_step = 'source'");
    // An empty mount point.
    std::fs::rename(bench.path("drop"), bench.path("away")).unwrap();
    std::fs::create_dir(bench.path("drop")).unwrap();
    let service = bench.start();
    let away =
        |record: &Record| record.finish_error.as_ref().is_some_and(|why| why.contains("is not the one"));
    let record = bench.record_when("a.txt", away).await;
    assert_eq!((record.finish, record.present), (FinishState::Pending, true), "it is not gone for that");
    service.stop().await;
    std::fs::remove_dir(bench.path("drop")).unwrap();
    std::fs::rename(bench.path("away"), bench.path("drop")).unwrap();
    set(&bench, "UPDATE jobs SET finish_due = 0");
    assert_eq!(bench.once(&[]).await.1, "", "nothing is sent again");
    assert_eq!(names(&bench), ["done/a.txt"]);
    assert_eq!(bench.record("a.txt").await.finish, FinishState::Done);
    assert_eq!(bench.emulator.files().len(), 1);
}

#[tokio::test]
async fn a_move_that_cannot_be_keeps_nobody_from_being_told_and_makes_no_new_job() {
    let mut bench = Bench::new().await;
    let program = hook(&bench, "echo \"$UPSPOOL_JOB\" >>told");
    // The target cannot be made: something lies in its place.
    std::fs::write(bench.path("drop/failed"), "").unwrap();
    bench.folder = format!(
        "after_failure = {{ move = \"failed\" }}\nreceipt = true\non_failed = [{program:?}]\nexclude = [\"failed\"]\n"
    );
    bench.drop_file("empty.txt", b"");
    let service = bench.start();
    service.wait_event("finish-retry").await;
    service.stop().await;
    set(&bench, "UPDATE jobs SET finish_tries = 4, finish_due = 0 WHERE finish_state = 'pending'");
    let (code, printed, log) = bench.once(&[]).await;
    assert_eq!((code, printed.as_str()), (0, ""), "{log:#?}");
    let record = bench.record("empty.txt").await;
    assert_eq!((record.finish, record.finish_step.as_deref()), (FinishState::Failed, Some("source")));
    assert!(record.finish_error.unwrap().contains("opening the target directory"));
    assert_eq!(std::fs::read_to_string(bench.path("told")).unwrap(), "1\n");
    assert_eq!(receipt(&bench, "empty.txt")["state"], "failed");
    // It was set aside and given its name back five times, and is the same file all the same.
    assert_eq!(bench.once(&[]).await.1, "");
    assert_eq!(bench.records().await.len(), 1);
    std::fs::remove_file(bench.path("drop/failed")).unwrap();
    let service = bench.start();
    service.wait_event("ready").await;
    assert!(bench.command(&["cancel", "1"]).output().unwrap().status.code() == Some(1));
    assert!(bench.command(&["retry", "--failed"]).output().unwrap().status.code().is_some());
    service.stop().await;
}

#[tokio::test]
async fn a_stored_file_whose_rights_are_taken_away_is_stored_still() {
    let mut bench = Bench::new().await;
    bench.folder = "after_failure = { move = \"failed\" }\n".into();
    let path = bench.drop_file("a.txt", b"text");
    // Root reads everything.
    let once = || Service::spawn(as_a_user(&bench, &["run", "--once", "--timeout", "60s"])).ended();
    assert_eq!(once().await.0.code(), Some(0));
    for mode in [0o000, 0o644] {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let (status, log) = once().await;
        assert_eq!(status.code(), Some(0), "{log}");
        assert!(path.exists(), "{log}");
    }
    assert_eq!(bench.records().await.len(), 1);
}

#[tokio::test]
async fn an_absolute_target_in_the_folder_is_reached_by_no_link() {
    let mut bench = Bench::new().await;
    bench.folder = format!("after_upload = {{ move = {:?} }}\n", bench.path("drop/done"));
    std::fs::create_dir(bench.path("victim")).unwrap();
    std::os::unix::fs::symlink(bench.path("victim"), bench.path("drop/done")).unwrap();
    bench.drop_file("a.txt", b"text");
    let service = bench.start();
    service.wait_event("finish-retry").await;
    service.stop().await;
    assert_eq!(std::fs::read_dir(bench.path("victim")).unwrap().count(), 0);
    assert!(bench.path("drop/a.txt").exists());
}

#[tokio::test]
async fn a_source_that_nobody_moves_any_more_has_its_name_again() {
    let bench = Bench::new().await;
    bench.drop_file("a.txt", b"text");
    assert_eq!(bench.once(&[]).await.0, 0);
    // A move was cut off, and now the folder keeps its files.
    set(&bench, "UPDATE jobs SET finish_state = 'pending', finish_step = 'source'");
    std::fs::rename(bench.path("drop/a.txt"), bench.path("drop/.upspool-1")).unwrap();
    let (code, printed, log) = bench.once(&[]).await;
    assert_eq!((code, printed.as_str()), (0, ""), "{log:#?}");
    assert_eq!(names(&bench), ["a.txt"]);
    assert_eq!(bench.record("a.txt").await.finish, FinishState::Done);
    assert_eq!(bench.once(&[]).await.1, "");
    assert_eq!(bench.emulator.files().len(), 1);
}

#[tokio::test]
async fn a_file_that_is_dropped_while_the_last_one_is_moved_is_sent_too() {
    let mut bench = Bench::new().await;
    bench.folder = "after_upload = { move = \"done\" }\n".into();
    bench.drop_file("a.txt", b"text");
    // Something in the way of the move, so that the end is still to come.
    std::fs::write(bench.path("drop/done"), "").unwrap();
    let service = bench.start();
    service.wait_event("finish-retry").await;
    bench.drop_file("a.txt", b"text, and more");
    std::fs::remove_file(bench.path("drop/done")).unwrap();
    service.wait_for("the second one moved", |line| line["event"] == "moved" && line["job"] != 1).await;
    service.stop().await;
    let contents: Vec<_> =
        bench.emulator.files().iter().map(|file| file.bytes).filter(|bytes| *bytes > 0).collect();
    assert!(contents.contains(&4) && contents.contains(&14), "{contents:?}");
    assert!(!bench.path("drop/a.txt").exists());
}

#[tokio::test]
async fn a_stop_lets_a_quick_program_end() {
    let mut bench = Bench::new().await;
    let program = hook(&bench, "echo run >>runs; until test -e go; do sleep 0.01; done; echo end >>runs");
    bench.folder = format!("on_stored = [{program:?}]\n");
    bench.drop_file("a.txt", b"text");
    let service = bench.start();
    wait_for_file(&bench.path("runs")).await;
    service.signal(Signal::TERM);
    service.wait_event("stopping").await;
    std::fs::write(bench.path("go"), "").unwrap();
    let (status, _) = service.ended().await;
    assert_eq!(status.code(), Some(0));
    assert_eq!(std::fs::read_to_string(bench.path("runs")).unwrap(), "run\nend\n");
    assert_eq!(bench.record("a.txt").await.finish, FinishState::Done);
}

#[tokio::test]
async fn many_files_are_all_moved_and_told() {
    let mut bench = Bench::new().await;
    let program = hook(&bench, "echo \"$UPSPOOL_JOB\" >>told");
    bench.folder =
        format!("after_upload = {{ move = \"done\" }}\nreceipt = true\non_stored = [{program:?}]\n");
    for number in 0..150 {
        bench.drop_file(format!("d{}/f{number}", number % 7), &noise(100, number));
    }
    let (code, _, log) = bench.once(&[]).await;
    assert_eq!(code, 0, "{log:#?}");
    let names = names(&bench);
    assert_eq!(names.iter().filter(|name| name.starts_with("done/")).count(), 150);
    assert_eq!(names.iter().filter(|name| name.ends_with(".upspool.json")).count(), 150);
    let mut told: Vec<i64> = std::fs::read_to_string(bench.path("told"))
        .unwrap()
        .lines()
        .map(|line| line.parse().unwrap())
        .collect();
    told.sort_unstable();
    assert_eq!(told, (1..=150).collect::<Vec<_>>());
    assert!(bench.records().await.iter().all(|record| record.finish == FinishState::Done));
}

/// The configuration is refused, with the line, the key and the remedy.
fn assert_refused(bench: &Bench, words: &[&str]) {
    let checked = bench.command(&["check"]).output().unwrap();
    let said = String::from_utf8(checked.stderr).unwrap();
    assert_eq!(checked.status.code(), Some(78), "{said}");
    for word in words {
        assert!(said.contains(word), "{word}: {said}");
    }
}

#[tokio::test]
async fn what_is_not_safe_or_cannot_be_is_refused_when_the_configuration_is_read() {
    let mut bench = Bench::new().await;
    let program = hook(&bench, "exit 0");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o777)).unwrap();
    bench.folder = format!("on_stored = [{program:?}]\n");
    assert_refused(&bench, &["folder.on_stored", "can be written by others", "chmod go-w"]);
    let mut service = Service::spawn(bench.command(&["run"]));
    assert_eq!(service.child.wait().unwrap().code(), Some(78));
    bench.folder = "on_failed = [\"notify-send\"]\n".into();
    assert_refused(&bench, &["folder.on_failed", "\"notify-send\" is not an absolute path"]);
    bench.folder = "after_upload = { move = \"../done\" }\n".into();
    assert_refused(&bench, &["folder.after_upload", "holds \"..\""]);
    bench.folder = "after_failure = { move = \".\" }\n".into();
    assert_refused(&bench, &["folder.after_failure", "is the folder itself"]);
    bench.folder = format!("after_upload = {{ move = {:?} }}\n", bench.dir.path());
    assert_refused(&bench, &["folder.after_upload", "holds the folder"]);
    bench.folder = format!("receipt = {{ dir = {:?} }}\n", bench.path("drop"));
    assert_refused(&bench, &["folder.receipt", "is the folder"]);
    bench.folder = "after_upload = \"delete\"\n".into();
    bench.tables = "[upload]\nchecksum = false\n".into();
    assert_refused(&bench, &["folder.after_upload", "needs [upload] checksum = true"]);
    bench.tables = String::new();
    bench.folder = "after_upload = \"delete\"\nexpires_after = \"2h\"\n".into();
    let checked = bench.command(&["check"]).output().unwrap();
    let said =
        String::from_utf8_lossy(&checked.stdout).into_owned() + &String::from_utf8_lossy(&checked.stderr);
    assert_eq!(checked.status.code(), Some(0), "{said}");
    assert!(said.contains("the File expires 2h after it is made"), "{said}");
}
