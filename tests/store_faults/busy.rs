//! SQLITE_BUSY: somebody else holds the database.

use std::os::unix::net::UnixDatagram;

use rustix::process::Signal;
use sqlx::{Connection, SqliteConnection};
use upspool::clock::Clock;
use upspool::model::job::State;
use upspool_emulator::variants::Outcome;
use upspool_emulator::{Calls, Operation, Point, Variants};

use crate::harness::{Bench, PATIENCE, noise};
use crate::ledger::hold_of;

const MIB: usize = 1024 * 1024;

async fn lock(bench: &Bench) -> SqliteConnection {
    let mut outsider = bench.outsider().await;
    sqlx::query("BEGIN IMMEDIATE").execute(&mut outsider).await.unwrap();
    outsider
}

async fn unlock(mut outsider: SqliteConnection) {
    sqlx::query("ROLLBACK").execute(&mut outsider).await.unwrap();
    outsider.close().await.unwrap();
}

#[tokio::test]
async fn what_somebody_else_holds_is_waited_for_and_told_everywhere() {
    let mut bench = Bench::new().await;
    let socket = bench.path("notify");
    let listener = UnixDatagram::bind(&socket).unwrap();
    listener.set_read_timeout(Some(PATIENCE)).unwrap();
    bench.env.insert("NOTIFY_SOCKET".into(), socket.to_str().unwrap().into());
    let service = bench.start();
    service.wait_event("ready").await;
    let outsider = lock(&bench).await;
    bench.drop_files("a", 5);
    service.wait_held("store-locked").await;
    assert_eq!(bench.seen(), 0, "what is not in the ledger is not told to the server");

    let live = bench
        .live("tried twice", |live| hold_of(live).is_some_and(|hold| hold["probes"].as_u64() >= Some(2)));
    let live = live.await;
    let hold = hold_of(&live).unwrap();
    assert_eq!(hold["code"], "store-locked");
    assert_eq!(hold["remedy"], "end what holds the database of the state directory");
    assert!(hold["since"].as_str().unwrap() < hold["next_probe"].as_str().unwrap(), "{hold}");
    let (code, text) = bench.ask(&["status"]).await;
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("On hold: store: store-locked"), "{text}");
    let line = tokio::task::spawn_blocking(move || {
        let mut buffer = [0; 4096];
        loop {
            let length = listener.recv(&mut buffer).expect("a line for PID 1");
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            if let Some(line) = text.lines().find_map(|line| line.strip_prefix("STATUS=ON HOLD")) {
                return line.to_owned();
            }
        }
    });
    let line = line.await.unwrap();
    assert!(line.contains("for the store: store-locked; end what holds"), "{line}");

    unlock(outsider).await;
    service.wait_stored(5).await;
    service.assert_told_once().await;
    assert_eq!(service.stop().await.0.code(), Some(0));
    bench.assert_whole().await;
    assert_eq!(bench.emulator.files().len(), 5);
}

#[tokio::test]
async fn what_is_in_flight_ends_and_nothing_new_starts() {
    let mut bench = Bench::new().await;
    bench.tables = "[upload]\nparallel_parts = 2\npart_size = \"1 MiB\"\n".into();
    bench.drop_file("large.bin", &noise(40 * MIB, 1));
    let held = bench.emulator.hold(Calls::of(Operation::Part).from(3).times(2), Point::Before);
    let service = bench.start();
    held.reached_by(2).await;
    let outsider = lock(&bench).await;
    held.release();
    // From here on nothing is written. What is sent until that is noticed is kept in memory.
    service.wait_held("store-locked").await;
    bench.live("quiet", |live| live["slots"]["parts"] == 0).await;
    let sent = bench.seen();
    bench
        .live("tried again", |live| hold_of(live).is_some_and(|hold| hold["probes"].as_u64() >= Some(2)))
        .await;
    assert_eq!(bench.seen(), sent, "a hold lets nothing through");
    unlock(outsider).await;
    service.wait_stored(1).await;
    service.assert_told_once().await;
    assert_eq!(service.stop().await.0.code(), Some(0));
    assert_eq!(bench.emulator.requests_of(Operation::Part).len(), 40, "no Part was forgotten or sent twice");
    assert_eq!(bench.emulator.requests_of(Operation::Create).len(), 1);
    bench.assert_whole().await;
}

#[tokio::test]
async fn sigterm_during_a_hold_ends_in_time_and_what_was_not_written_is_found_again() {
    let bench = Bench::new().await;
    bench.emulator.set_variants(Variants { second_complete: Outcome::Upload, ..Variants::default() });
    let held = bench.emulator.hold(Calls::of(Operation::Complete).nth(1), Point::After);
    bench.drop_file("a.bin", &noise(1000, 1));
    let service = bench.start();
    held.reached().await;
    let outsider = lock(&bench).await;
    held.release();
    service.wait_event("stored").await;
    service.wait_held("store-locked").await;
    // It is asked how it is and answers: the loop waits for nobody.
    bench.live("held", |live| hold_of(live).is_some()).await;
    let began = Clock::System.now().boot;
    service.signal(Signal::TERM);
    let (status, log) = service.ended().await;
    let took = Clock::System.now().boot.since(began);
    // 20 s for what is in flight, 2 s for last words, 10 s for the last commit.
    assert!(took.as_secs() < 35, "{took:?}");
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains("the last commits could not be made"), "{log}");
    unlock(outsider).await;
    assert_eq!(bench.record("a.bin").await.state, State::Completing);
    let (code, printed, _) = bench.once(&[]).await;
    assert_eq!(code, 0, "{printed}");
    assert_eq!(bench.emulator.files().len(), 1, "no second File");
    bench.assert_whole().await;
}

#[tokio::test]
async fn a_run_for_what_is_there_ends_although_its_last_line_cannot_be_written() {
    let bench = Bench::new().await;
    bench.emulator.set_variants(Variants { second_complete: Outcome::Upload, ..Variants::default() });
    let held = bench.emulator.hold(Calls::of(Operation::Complete).nth(1), Point::After);
    bench.drop_file("a.bin", &noise(1000, 1));
    let service = crate::harness::Service::spawn(bench.command(&["run", "--once", "--timeout", "8s"]));
    held.reached().await;
    let outsider = lock(&bench).await;
    held.release();
    let (status, log) = service.ended().await;
    assert_eq!(status.code(), Some(75), "{log}");
    unlock(outsider).await;
    assert_eq!(bench.once(&[]).await.0, 0);
    assert_eq!(bench.emulator.files().len(), 1);
    bench.assert_whole().await;
}

#[tokio::test]
async fn a_service_that_finds_the_database_held_at_its_start_says_so_and_may_be_tried_again() {
    let bench = Bench::new().await;
    assert_eq!(bench.once(&[]).await.0, 0);
    let mut outsider = bench.outsider().await;
    sqlx::query("PRAGMA locking_mode = EXCLUSIVE").execute(&mut outsider).await.unwrap();
    sqlx::query("BEGIN EXCLUSIVE").execute(&mut outsider).await.unwrap();
    let (code, text) = bench.ask(&["run", "--once"]).await;
    assert_eq!(code, 75, "{text}");
    assert!(text.contains("end what holds the database"), "{text}");
    let (code, text) = bench.ask(&["list"]).await;
    assert_eq!(code, 75, "{text}");
    assert!(text.contains("end what holds the database"), "{text}");
    drop(outsider);
    assert_eq!(bench.once(&[]).await.0, 0);
}
