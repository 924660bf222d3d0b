//! Calendars that are set while an Upload is open. The shift comes from a library that is compiled here and preloaded
//! (`clock.c`); the boot clock cannot be set, and is not.

use std::process::Command;

use upspool::model::job::State;
use upspool_emulator::{Calls, Operation, Point};

use crate::harness::{Bench, noise};

const MIB: usize = 1024 * 1024;
const YEAR: i64 = 365 * 86_400;

async fn shifted() -> Bench {
    let mut bench = Bench::new().await;
    bench.tables = "[upload]\nparallel_parts = 2\npart_size = \"1 MiB\"\n".into();
    let library = bench.path("clock.so");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/service/clock.c");
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"])
        .args([library.as_os_str(), source.as_ref(), "-ldl".as_ref()])
        .output()
        .unwrap();
    assert!(built.status.success(), "{built:?}");
    bench.env.insert("LD_PRELOAD".into(), library.to_str().unwrap().into());
    bench.env.insert("CLOCK_SHIFT".into(), bench.path("shift").to_str().unwrap().into());
    shift(&bench, 0);
    bench
}

fn shift(bench: &Bench, seconds: i64) {
    std::fs::write(bench.path("shift.new"), seconds.to_string()).unwrap();
    std::fs::rename(bench.path("shift.new"), bench.path("shift")).unwrap();
}

#[tokio::test]
async fn a_calendar_that_is_set_while_an_upload_is_open_starts_nothing_again() {
    for seconds in [-2 * YEAR, -4000, 4000, 2 * YEAR] {
        let bench = shifted().await;
        bench.drop_file("a.bin", &noise(6 * MIB, 1));
        let hold = bench.emulator.hold(Calls::of(Operation::Part).nth(3), Point::Before);
        let service = bench.start();
        hold.reached().await;
        service.wait_event("part-stored").await;
        shift(&bench, seconds);
        hold.release();
        service.wait_stored(1).await;
        let (status, log) = service.stop().await;
        assert_eq!(status.code(), Some(0));
        assert_eq!(bench.emulator.requests_of(Operation::Create).len(), 1, "{seconds}: {log:#?}");
        assert_eq!(bench.emulator.requests_of(Operation::Part).len(), 6, "{seconds}");
        bench.assert_ledger_is_the_truth().await;
        // The shift is seen: what it changes is what people read.
        let record = bench.record("a.bin").await;
        let passed = record.stored_at.unwrap().0 - record.found_at.0;
        assert!((passed - seconds * 1000).abs() < 600_000, "{passed} ms in the ledger for {seconds} s");
    }
}

#[tokio::test]
async fn a_calendar_that_is_set_between_a_kill_and_the_restart_starts_nothing_again() {
    for seconds in [-2 * YEAR, 2 * YEAR] {
        let bench = shifted().await;
        bench.drop_file("a.bin", &noise(6 * MIB, 1));
        let hold = bench.emulator.hold(Calls::of(Operation::Part).nth(5), Point::Before);
        let service = bench.start();
        hold.reached().await;
        service
            .wait_for("two Parts stored", |line| {
                line["event"] == "part-stored" && line["part"].as_u64() >= Some(1)
            })
            .await;
        bench.record_when("a.bin", |record| record.parts_stored >= Some(2)).await;
        service.kill().await;
        hold.release();
        // Another may have come between that look and the end.
        let stored = bench.record("a.bin").await;
        assert_eq!(stored.state, State::Uploading);
        shift(&bench, seconds);
        let before = bench.emulator.requests_of(Operation::Part).len() as u64;
        let (code, printed, log) = bench.once(&[]).await;
        assert_eq!(code, 0, "{seconds}: {printed}\n{log:#?}");
        assert_eq!(bench.emulator.requests_of(Operation::Create).len(), 1, "the same Upload goes on");
        let sent = bench.emulator.requests_of(Operation::Part).len() as u64 - before;
        assert_eq!(sent, 6 - stored.parts_stored.unwrap(), "{seconds}");
        bench.assert_ledger_is_the_truth().await;
    }
}
