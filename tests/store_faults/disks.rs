//! Real disks: full, read-only, and gone bad under the service.

use rustix::process::Signal;
use upspool_emulator::variants::Outcome;
use upspool_emulator::{Operation, Variants};

use crate::harness::{Bench, PATIENCE, noise};
use crate::ledger::hold_of;
use crate::mount::{Mount, free};

async fn is_filled_and_emptied(bench: Bench, mount: Mount) {
    let service = bench.start();
    bench.drop_file("before.bin", &noise(700, 99));
    service.wait_stored(1).await;
    let ballast = mount.fill(16);
    assert!(free(&bench.state_dir()) <= 64 << 10);
    // Each row takes some hundred bytes in the log: more than there is room for.
    bench.drop_files("a", 200);
    service.wait_held("store-full").await;
    let live = bench
        .live("tried again", |live| hold_of(live).is_some_and(|hold| hold["probes"].as_u64() >= Some(2)));
    let live = live.await;
    let remedy = "make room on the disk of the state directory";
    assert_eq!(hold_of(&live).unwrap()["remedy"], remedy);
    let files = bench.emulator.files().len();
    let (code, text) = bench.ask(&["list", "--limit", "3"]).await;
    assert_eq!(code, 0, "it can still be read: {text}");
    let waiting = bench.path("drop").join("late.bin");
    bench.drop_file("late.bin", &noise(700, 98));
    let held_up = async {
        loop {
            let (code, text) = bench.ask(&["why", waiting.to_str().unwrap()]).await;
            assert_eq!(code, 0, "it goes on by itself: {text}");
            if text.contains("on hold for the store") {
                return text;
            }
        }
    };
    let text = tokio::time::timeout(PATIENCE, held_up).await.unwrap();
    assert!(text.contains(remedy), "{text}");
    std::fs::remove_file(ballast).unwrap();
    service.wait_stored(202).await;
    service.wait_event("resumed").await;
    assert!(files < 202);
    assert_eq!(service.count("write-refused"), 0, "{}", service.raw_log());
    assert_eq!(service.stop().await.0.code(), Some(0));
    assert_eq!(bench.emulator.files().len(), 202);
    bench.assert_whole().await;
    assert_eq!(bench.once(&[]).await.0, 0);
    assert_eq!(bench.emulator.files().len(), 202, "nothing is sent twice");
}

#[tokio::test]
async fn a_disk_that_is_full_and_then_is_not() {
    let bench = Bench::new().await;
    let Some(mount) = Mount::ext4(&bench, 8) else { return };
    is_filled_and_emptied(bench, mount).await;
}

#[tokio::test]
async fn memory_that_is_full_and_then_is_not() {
    let bench = Bench::new().await;
    let Some(mount) = Mount::tmpfs(&bench, 8) else { return };
    is_filled_and_emptied(bench, mount).await;
}

#[tokio::test]
async fn a_disk_that_is_full_at_the_start_may_have_room_later() {
    let bench = Bench::new().await;
    let Some(mount) = Mount::ext4(&bench, 8) else { return };
    let ballast = mount.fill(0);
    let (code, text) = bench.ask(&["run", "--once"]).await;
    assert_eq!(code, 75, "{text}");
    assert!(text.contains("make room on the disk"), "{text}");
    std::fs::remove_file(ballast).unwrap();
    bench.drop_files("a", 3);
    assert_eq!(bench.once(&[]).await.0, 0, "what the first start left behind is no ledger");
    bench.assert_whole().await;
}

#[tokio::test]
async fn a_read_only_file_system_is_told_from_one_that_is_not_ours() {
    let bench = Bench::new().await;
    let Some(mount) = Mount::ext4(&bench, 8) else { return };
    bench.drop_files("a", 3);
    assert_eq!(bench.once(&[]).await.0, 0);
    assert!(mount.remount("ro"));
    bench.drop_files("b", 3);
    let (code, text) = bench.ask(&["run", "--once"]).await;
    assert_eq!(code, 75, "it may be mounted for writing again: {text}");
    assert!(text.contains("make the state directory's file system writable again"), "{text}");
    for arguments in [&["list"][..], &["check"], &["show", "1"]] {
        let (code, text) = bench.ask(arguments).await;
        assert_eq!(code, 0, "{arguments:?} only reads: {text}");
    }
    let (code, text) = bench.ask(&["pause"]).await;
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("make the state directory's file system writable again"), "{text}");
    assert_eq!(bench.ask(&["rebuild"]).await.0, 1);
    assert_eq!(bench.emulator.files().len(), 3);
    assert!(mount.remount("rw"));
    assert_eq!(bench.once(&[]).await.0, 0);
    assert_eq!(bench.emulator.files().len(), 6);
    bench.assert_whole().await;
}

#[tokio::test]
async fn a_file_system_that_shuts_down_under_the_service_holds_it_and_nothing_is_sent_twice() {
    let bench = Bench::new().await;
    bench.emulator.set_variants(Variants { second_complete: Outcome::Upload, ..Variants::default() });
    let Some(mount) = Mount::ext4(&bench, 8) else { return };
    let service = bench.start();
    bench.drop_files("a", 5);
    service.wait_stored(5).await;
    // What ext4 does by itself when it finds itself damaged: from now on it can only be read.
    assert!(mount.remount("abort"), "ext4 takes the option for debugging");
    bench.drop_files("b", 5);
    let line = service.wait_event("hold").await;
    assert!(["store-io", "store-readonly"].contains(&line["code"].as_str().unwrap()), "{line}");
    bench.live("still answers", |live| hold_of(live).is_some()).await;
    assert_eq!(bench.emulator.requests_of(Operation::Create).len(), 5);
    service.signal(Signal::TERM);
    let (status, log) = service.ended().await;
    assert_eq!(status.code(), Some(0), "{log}");
    // As an administrator would: check it and mount it again.
    assert!(mount.umount());
    assert!(mount.mount());
    let (code, printed, log) = bench.once(&[]).await;
    assert_eq!(code, 0, "{printed}\n{log:#?}");
    assert_eq!(bench.emulator.files().len(), 10);
    bench.assert_whole().await;
}
