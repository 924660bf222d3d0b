//! Calls that fail: the disk refuses for a while, and what was not written is written then.

use upspool_emulator::Operation;

use crate::harness::{Bench, noise};
use crate::ledger::hold_of;
use crate::shim::Shim;

/// Stores a file, lets `calls` fail, drops more, waits for the hold, mends it, and expects everything to be as if
/// nothing had been.
async fn fails_for_a_while(calls: &str, code: &'static str, codes: &[&str]) {
    let mut bench = Bench::new().await;
    let shim = Shim::under(&mut bench);
    let service = bench.start();
    bench.drop_file("before.bin", &noise(700, 99));
    service.wait_stored(1).await;
    bench.committed(1).await;

    shim.fail(calls);
    bench.drop_files("a", 20);
    service.wait_held(code).await;
    let live = bench
        .live("tried again", |live| hold_of(live).is_some_and(|hold| hold["probes"].as_u64() >= Some(2)));
    let live = live.await;
    let hold = hold_of(&live).unwrap();
    assert!(codes.contains(&hold["code"].as_str().unwrap()), "{calls}: {hold}");
    assert!(!hold["remedy"].as_str().unwrap().is_empty());
    assert_eq!(bench.emulator.requests_of(Operation::Create).len(), 1, "{calls}: nothing new starts");
    assert_eq!(bench.emulator.files().len(), 1);

    shim.mend();
    service.wait_stored(21).await;
    service.assert_told_once().await;
    assert_eq!(service.count("write-refused"), 0, "{}", service.raw_log());
    assert_eq!(service.stop().await.0.code(), Some(0));
    assert_eq!(bench.emulator.files().len(), 21, "{calls}");
    bench.assert_whole().await;
}

#[tokio::test]
async fn a_full_disk_is_waited_for() {
    fails_for_a_while("write ENOSPC", "store-full", &["store-full"]).await;
}

#[tokio::test]
async fn a_disk_that_refuses_to_be_written_is_waited_for() {
    fails_for_a_while("write EIO", "store-io", &["store-io"]).await;
}

#[tokio::test]
async fn a_disk_that_refuses_to_sync_is_waited_for_and_nothing_is_written_twice() {
    fails_for_a_while("sync EIO", "store-io", &["store-io"]).await;
}

#[tokio::test]
async fn a_file_system_that_became_read_only_is_waited_for() {
    // The first call that fails is a write; each connection after it finds that it may only read.
    fails_for_a_while("write EROFS\nopen EROFS", "store-io", &["store-io", "store-readonly"]).await;
}

#[tokio::test]
async fn a_disk_that_cannot_be_read_holds_sending_until_it_can() {
    let mut bench = Bench::new().await;
    let shim = Shim::under(&mut bench);
    let service = bench.start();
    bench.drop_files("before", 3);
    service.wait_stored(3).await;
    bench.committed(3).await;
    shim.fail("read EIO");
    bench.drop_files("a", 5);
    service.wait_held("store-io").await;
    assert_eq!(bench.emulator.files().len(), 3);
    bench.live("answers", |live| hold_of(live).is_some()).await;
    shim.mend();
    service.wait_stored(8).await;
    service.assert_told_once().await;
    assert_eq!(service.stop().await.0.code(), Some(0));
    assert_eq!(bench.emulator.files().len(), 8);
    bench.assert_whole().await;
}

#[tokio::test]
async fn a_touched_file_is_not_sent_again_because_its_row_could_not_be_read() {
    let mut bench = Bench::new().await;
    let shim = Shim::under(&mut bench);
    let service = bench.start();
    let path = bench.drop_file("a.bin", &noise(5000, 1));
    service.wait_stored(1).await;
    bench.committed(1).await;
    shim.fail("read EIO");
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_600_000_000)).unwrap();
    drop(file);
    bench.drop_file("b.bin", &noise(600, 2));
    service.wait_held("store-io").await;
    shim.mend();
    service.wait_stored(2).await;
    assert_eq!(service.stop().await.0.code(), Some(0));
    assert_eq!(bench.once(&[]).await.0, 0);
    assert_eq!(bench.emulator.files().len(), 2);
    bench.assert_whole().await;
}
