//! What a crash, a signal or the loss of an answer leaves behind is gone on with.

use upspool::model::job::State;
use upspool_emulator::{Action, Calls, Operation, Point, Reply};

use crate::harness::{Bench, noise};

const MIB: usize = 1024 * 1024;

#[tokio::test]
async fn after_kill_9_the_parts_that_were_stored_are_not_sent_again() {
    let mut bench = Bench::new().await;
    bench.tables = "[upload]\nparallel_parts = 2\npart_size = \"1 MiB\"\n".into();
    bench.drop_file("large.bin", &noise(10 * MIB, 1));
    let hold = bench.emulator.hold(Calls::of(Operation::Part).nth(6), Point::Before);
    let service = bench.start();
    hold.reached().await;
    // Four at least were answered, and their rows are written before the sixth is granted only by chance: wait for it.
    service
        .wait_for("four Parts stored", |line| {
            line["event"] == "part-stored" && line["part"].as_u64() >= Some(3)
        })
        .await;
    bench.record_when("large.bin", |record| record.parts_stored >= Some(4)).await;
    service.kill().await;
    let stored = bench.record("large.bin").await.parts_stored.unwrap();
    hold.release();
    assert!(stored >= 1, "Parts are committed as they come");

    let sent_before = bench.emulator.requests_of(Operation::Part).len();
    let (code, printed, _) = bench.once(&[]).await;
    assert_eq!(code, 0, "{printed}");
    let sent_after = bench.emulator.requests_of(Operation::Part).len() - sent_before;
    assert_eq!(sent_after as u64, 10 - stored, "only what was missing is sent");
    assert_eq!(bench.emulator.requests_of(Operation::Create).len(), 1, "the same Upload goes on");
    bench.assert_ledger_is_the_truth().await;
    assert_eq!(bench.emulator.files().len(), 1);
}

#[tokio::test]
async fn after_kill_9_during_complete_there_is_one_file() {
    for point in [Point::Before, Point::After] {
        for size in [1000, 3 * MIB] {
            let bench = Bench::new().await;
            bench.emulator.set_variants(upspool_emulator::Variants {
                second_complete: upspool_emulator::variants::Outcome::Upload,
                ..Default::default()
            });
            bench.drop_file("a.bin", &noise(size, 1));
            let hold = bench.emulator.hold(Calls::of(Operation::Complete).nth(1), point);
            let service = bench.start();
            hold.reached().await;
            service.kill().await;
            hold.release();
            assert_eq!(
                bench.record("a.bin").await.state,
                State::Completing,
                "written before complete was sent"
            );
            let (code, printed, _) = bench.once(&[]).await;
            assert_eq!(code, 0, "{point:?} {size}: {printed}");
            assert_eq!(bench.emulator.files().len(), 1, "{point:?} {size}");
            bench.assert_ledger_is_the_truth().await;
        }
    }
}

#[tokio::test]
async fn faults_of_every_operation_are_tried_again() {
    for operation in [Operation::Create, Operation::Part, Operation::Complete] {
        for (name, action) in [
            ("500", Reply::status(500).into()),
            ("503", Reply::status(503).header("retry-after-ms", "50").into()),
            ("429", Reply::status(429).header("retry-after-ms", "50").into()),
            ("409", Reply::status(409).into()),
            ("html", Reply::ok(upspool_emulator::Body::Html).into()),
            ("drop before", Action::drop(Point::Before)),
            ("reset unread", Action::reset(Point::Unread)),
        ] {
            let bench = Bench::new().await;
            bench.emulator.fault(Calls::of(operation).nth(1).meet(action));
            bench.drop_file("small.bin", &noise(1000, 1));
            bench.drop_file("large.bin", &noise(2 * MIB, 2));
            let (code, printed, log) = bench.once(&[]).await;
            assert_eq!(code, 0, "{operation:?} meets {name}: {printed}\n{log:#?}");
            bench.assert_ledger_is_the_truth().await;
            assert_eq!(bench.emulator.files().len(), 2, "{operation:?} meets {name}");
        }
    }
}

#[tokio::test]
async fn an_upload_that_expired_meanwhile_is_started_again() {
    let mut bench = Bench::new().await;
    bench.tables = "[upload]\nparallel_parts = 2\npart_size = \"1 MiB\"\n".into();
    bench.drop_file("large.bin", &noise(6 * MIB, 1));
    let hold = bench.emulator.hold(Calls::of(Operation::Part).nth(4), Point::Before);
    let service = bench.start();
    hold.reached().await;
    bench.record_when("large.bin", |record| record.parts_stored >= Some(1)).await;
    service.kill().await;
    hold.release();
    // The server's clock goes on; ours does not know.
    bench.emulator.advance(std::time::Duration::from_secs(3700));
    let (code, printed, log) = bench.once(&[]).await;
    assert_eq!(code, 0, "{printed}");
    assert!(log.iter().any(|line| line["event"] == "restart"), "{log:#?}");
    assert_eq!(bench.emulator.requests_of(Operation::Create).len(), 2);
    assert_eq!(bench.emulator.files().len(), 1);
    bench.assert_ledger_is_the_truth().await;
}
