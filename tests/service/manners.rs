//! Signals, the lock, PID 1, and the log.

use std::os::unix::net::UnixDatagram;

use rustix::process::Signal;
use upspool::model::job::State;
use upspool_emulator::{Calls, Operation, Point};

use crate::harness::{Bench, PATIENCE, Service, noise};

const MIB: usize = 1024 * 1024;

#[tokio::test]
async fn sigterm_lets_parts_in_flight_end_and_records_them() {
    let mut bench = Bench::new().await;
    bench.tables = "[upload]\nparallel_parts = 2\npart_size = \"1 MiB\"\n".into();
    bench.drop_file("large.bin", &noise(8 * MIB, 1));
    let hold = bench.emulator.hold(Calls::of(Operation::Part).from(3).times(2), Point::Before);
    let service = bench.start();
    hold.reached_by(2).await;
    service.signal(Signal::TERM);
    service.wait_event("stopping").await;
    hold.release();
    let (status, _) = service.ended().await;
    assert_eq!(status.code(), Some(0));
    let record = bench.record("large.bin").await;
    assert_eq!(
        (record.state, record.parts_stored),
        (State::Uploading, Some(4)),
        "what was in flight is recorded"
    );
    let before = bench.emulator.requests_of(Operation::Part).len();
    assert_eq!(before, 4, "nothing new was started");
    assert_eq!(bench.once(&[]).await.0, 0);
    assert_eq!(bench.emulator.requests_of(Operation::Part).len(), 8);
    bench.assert_ledger_is_the_truth().await;
}

#[tokio::test]
async fn a_second_signal_ends_at_once() {
    let mut bench = Bench::new().await;
    bench.tables = "[upload]\nparallel_parts = 2\npart_size = \"1 MiB\"\n".into();
    bench.drop_file("large.bin", &noise(8 * MIB, 1));
    let hold = bench.emulator.hold(Calls::of(Operation::Part).nth(3), Point::Before);
    let service = bench.start();
    hold.reached().await;
    service.signal(Signal::TERM);
    service.wait_event("stopping").await;
    service.signal(Signal::INT);
    let (status, _) = service.ended().await;
    assert_eq!(status.code(), Some(1));
    hold.release();
    assert_eq!(bench.once(&[]).await.0, 0);
    bench.assert_ledger_is_the_truth().await;
}

#[tokio::test]
async fn a_second_service_says_who_holds_the_lock() {
    let bench = Bench::new().await;
    let service = bench.start();
    service.wait_event("ready").await;
    let second = bench.command(&["run"]).output().unwrap();
    assert_eq!(second.status.code(), Some(75));
    let words = String::from_utf8(second.stderr).unwrap();
    let pid = service.child.id().to_string();
    assert!(words.contains(&pid), "{words}");
    assert!(words.contains(bench.state_dir().to_str().unwrap()), "{words}");
    let (status, _) = service.stop().await;
    assert_eq!(status.code(), Some(0));
}

#[tokio::test]
async fn pid_1_is_told_ready_status_watchdog_and_stopping() {
    let mut bench = Bench::new().await;
    let socket = bench.path("notify");
    let listener = UnixDatagram::bind(&socket).unwrap();
    listener.set_read_timeout(Some(PATIENCE)).unwrap();
    bench.env.insert("NOTIFY_SOCKET".into(), socket.to_str().unwrap().into());
    bench.env.insert("WATCHDOG_USEC".into(), "300000".into());
    let service = bench.start();
    let hear = move |wanted: &'static str| {
        let listener = listener.try_clone().unwrap();
        tokio::task::spawn_blocking(move || {
            let mut buffer = [0; 4096];
            loop {
                let length =
                    listener.recv(&mut buffer).unwrap_or_else(|error| panic!("no {wanted}: {error}"));
                let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
                if text.lines().any(|line| line.starts_with(wanted)) {
                    return text;
                }
            }
        })
    };
    let ready = hear("READY=1").await.unwrap();
    assert!(ready.contains("STATUS=0 files under way"), "{ready}");
    hear("WATCHDOG=1").await.unwrap();
    hear("WATCHDOG=1").await.unwrap();
    service.signal(Signal::TERM);
    hear("STOPPING=1").await.unwrap();
    assert_eq!(service.ended().await.0.code(), Some(0));
}

#[tokio::test]
async fn the_key_is_in_no_log_at_any_level_and_on_no_screen() {
    let mut bench = Bench::new().await;
    bench.set_key("sk-secret-that-must-not-be-seen");
    bench.emulator.set_api_keys(["sk-secret-that-must-not-be-seen"]);
    bench.tables = String::new();
    bench.env.insert(
        "UPSPOOL__LOG__LEVEL".into(),
        "trace,hyper=trace,reqwest=trace,rustls=trace,sqlx=trace".into(),
    );
    bench.drop_file("a.txt", b"content");
    let mut service = Service::spawn(bench.command(&["run", "--once"]));
    let status = tokio::task::spawn_blocking(move || (service.child.wait().unwrap(), service)).await.unwrap();
    let (status, service) = status;
    assert_eq!(status.code(), Some(0));
    let (_, raw) = service.ended().await;
    assert!(raw.len() > 1000, "the level is in force");
    assert!(!raw.contains("sk-secret"), "the key is in the log");
    for arguments in
        [&["check"][..], &["list", "--json"], &["show", "1"], &["show", "1", "--json"], &["status"]]
    {
        let output = bench.command(arguments).output().unwrap();
        let text =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(!text.contains("sk-secret"), "{arguments:?}: {text}");
    }
    let database = std::fs::read(bench.state_dir().join("upspool.db")).unwrap();
    assert!(!database.windows(9).any(|window| window == b"sk-secret"), "the key is in the store");
}

#[tokio::test]
async fn sqlite_finds_the_database_as_the_docs_say() {
    let bench = Bench::new().await;
    bench.drop_file("a.txt", b"content");
    assert_eq!(bench.once(&[]).await.0, 0);
    let Ok(output) = std::process::Command::new("sqlite3")
        .arg(bench.state_dir().join("upspool.db"))
        .arg("PRAGMA journal_mode; PRAGMA integrity_check; SELECT stage, file_id IS NOT NULL FROM jobs;")
        .output()
    else {
        assert!(std::env::var_os("CI").is_none(), "CI installs sqlite3");
        return;
    };
    assert_eq!(String::from_utf8_lossy(&output.stdout), "wal\nok\nstored|1\n", "{output:?}");
}

/// What anybody could see of a file or directory having been touched, apart from the time of its last access.
fn trace_of(path: &std::path::Path) -> (u64, u64, u32, u32, i64, i64, i64, i64) {
    use std::os::unix::fs::MetadataExt;
    let seen = std::fs::symlink_metadata(path).unwrap();
    let (modified, changed) = ((seen.mtime(), seen.mtime_nsec()), (seen.ctime(), seen.ctime_nsec()));
    (seen.ino(), seen.size(), seen.mode(), seen.uid(), modified.0, modified.1, changed.0, changed.1)
}

#[tokio::test]
async fn what_lies_in_a_folder_is_only_ever_read() {
    let bench = Bench::new().await;
    let content = noise(2 * MIB, 1);
    let paths = [
        bench.drop_file("large.bin", &content),
        bench.drop_file("below/small.bin", &content[..1000]),
        bench.drop_file("empty.bin", b""),
        bench.drop_file("ignored.tmp", b"not ours"),
    ];
    // A file that the server refuses is touched no more than one that it takes.
    bench
        .emulator
        .fault(Calls::of(Operation::Create).from(1).times(1).meet(upspool_emulator::Reply::status(400)));
    let mut all: Vec<_> = paths.to_vec();
    all.extend([bench.path("drop"), bench.path("drop/below")]);
    let before: Vec<_> = all.iter().map(|path| trace_of(path)).collect();
    let (code, printed, _) = bench.once(&[]).await;
    assert_eq!(code, 1, "the empty one and the refused one fail: {printed}");
    assert_eq!(bench.emulator.files().len(), 1, "{printed}");
    let after: Vec<_> = all.iter().map(|path| trace_of(path)).collect();
    assert_eq!(before, after, "{all:?}");
    assert_eq!(std::fs::read(&paths[0]).unwrap(), content);
    assert_eq!(std::fs::read_dir(bench.path("drop")).unwrap().count(), 4, "nothing is left there either");
}

#[tokio::test]
async fn a_run_once_ends_when_what_is_half_sent_is_paused() {
    let mut bench = Bench::new().await;
    bench.tables = "[upload]\nparallel_parts = 2\npart_size = \"1 MiB\"\n".into();
    bench.drop_file("large.bin", &noise(4 * MIB, 1));
    let hold = bench.emulator.hold(Calls::of(Operation::Part).from(2), Point::Before);
    // The run's own limit is longer, and ends with the same code.
    let run = tokio::time::timeout(PATIENCE / 2, bench.once(&[]));
    let (ended, ()) = tokio::join!(run, async {
        hold.reached().await;
        let asked = bench.command(&["pause"]).output().unwrap();
        assert_eq!(asked.status.code(), Some(0), "{asked:?}");
        hold.release();
    });
    let (code, printed, log) = ended.expect("a run that has only what is paused to do ends");
    assert_eq!((code, printed.as_str()), (75, ""), "{log:#?}");
    assert_eq!(bench.record("large.bin").await.state, State::Uploading);
    assert_eq!(bench.command(&["resume"]).output().unwrap().status.code(), Some(0));
    assert_eq!(bench.once(&[]).await.0, 0);
    assert_eq!(bench.emulator.requests_of(Operation::Create).len(), 1, "the same Upload goes on");
    bench.assert_ledger_is_the_truth().await;
}

#[tokio::test]
async fn what_was_asked_while_no_service_ran_is_done_at_the_next_start() {
    let bench = Bench::new().await;
    assert_eq!(bench.once(&[]).await.0, 0, "there is a store to ask");
    let ask = |arguments: &[&str]| {
        let asked = bench.command(arguments).output().unwrap();
        assert_eq!(asked.status.code(), Some(0), "{asked:?}");
    };
    // Again and again: what a service hears first at its start was left to chance.
    for round in 1..=6 {
        let name = format!("{round}.bin");
        let path = bench.drop_file(&name, &noise(1000, round));
        ask(&["pause"]);
        assert_eq!(bench.once(&[]).await.0, 75, "round {round}");
        assert_eq!(bench.record(&name).await.state, State::Queued, "round {round}");
        // Two of one job: the second hangs on what came of the first.
        ask(&["cancel", path.to_str().unwrap()]);
        ask(&["retry", path.to_str().unwrap()]);
        ask(&["resume"]);
        let (code, printed, _) = bench.once(&[]).await;
        assert_eq!(bench.record(&name).await.state, State::Stored, "round {round}: {code} {printed}");
    }
    bench.assert_ledger_is_the_truth().await;
}
