//! Whether the proof can fail: what breaks a promise on purpose has to be found out.

use upspool::model::job::State;
use upspool_emulator::{Action, Calls, Operation, Point};

use crate::cuts::{Cut, Place};
use crate::promises;
use crate::proof::block_on;
use crate::room::{Ended, Room};
use crate::shim::Loss;
use crate::workloads::{Phase, WORKLOADS, Workload};

const RUN: Phase = Phase::Run(None);

fn workload(name: &str) -> &'static Workload {
    WORKLOADS.iter().find(|workload| workload.name == name).copied().unwrap()
}

fn cut(operation: Operation, filename: &str, point: Point, loss: Loss) -> Cut {
    let place = Place::Request { operation, filename: Some(filename.into()), nth: 1, point };
    Cut { run: 1, place, loss }
}

/// The promises that are broken, and that one of them is the one that was meant.
async fn assert_found_out(room: &Room, workload: &Workload, words: &str) {
    let broken = promises::broken(room, workload, &promises::creates(room)).await;
    assert!(broken.iter().any(|fault| fault.contains(words)), "{words}? {broken:#?}");
}

#[test]
fn a_disk_that_forgets_what_was_synced_is_found_out() {
    block_on(async {
        let workload = workload("small");
        let mut room = Room::new(workload).await;
        room.disk_lies();
        let cut = cut(Operation::Complete, "1.bin", Point::After, Loss::All);
        assert_eq!(room.run(&RUN, Some(&cut), 0).await, Ended::Cut);
        assert_eq!(room.run(&RUN, None, 0).await, Ended::Code(0));
        assert_found_out(&room, workload, "completes what was not written").await;
        assert_found_out(&room, workload, "two Files of one version of 1.bin").await;
        assert_found_out(&room, workload, "is in no row").await;
    });
}

#[test]
fn a_disk_that_keeps_what_was_synced_is_not() {
    block_on(async {
        let workload = workload("small");
        let mut room = Room::new(workload).await;
        let cut = cut(Operation::Complete, "1.bin", Point::After, Loss::All);
        assert_eq!(room.run(&RUN, Some(&cut), 0).await, Ended::Cut);
        let moment = &room.moments[0];
        let job = moment.ledger.jobs.values().find(|job| job.path == "1.bin").unwrap();
        assert_eq!(job.stage, "completing", "it was synced before complete was sent");
        room.run(&RUN, None, 0).await;
        let broken = promises::broken(&room, workload, &promises::creates(&room)).await;
        assert_eq!(broken, [] as [String; 0]);
    });
}

#[test]
fn a_part_that_is_sent_again_although_its_row_is_there_is_found_out() {
    block_on(async {
        let workload = workload("large");
        let mut room = Room::new(workload).await;
        let cut = cut(Operation::Complete, "large.bin", Point::Before, Loss::None);
        assert_eq!(room.run(&RUN, Some(&cut), 0).await, Ended::Cut);
        let heard = room.moments[0].requests;
        assert_eq!(room.moments[0].ledger.parts.values().filter(|part| part.part_id.is_some()).count(), 5);
        room.run(&RUN, None, 0).await;
        // As if the cut had been made before the Parts were sent.
        room.moments[0].requests = 1;
        assert!(heard > 1);
        assert_found_out(&room, workload, "sends again what was stored").await;
    });
}

#[test]
fn a_file_that_is_lost_and_one_that_is_invented_are_found_out() {
    block_on(async {
        let workload = workload("small");
        let mut room = Room::new(workload).await;
        room.run(&RUN, None, 0).await;
        let mut lost = room.versions[0].clone();
        lost.path = "never seen.bin".into();
        lost.ends = &[State::Stored];
        let real = std::mem::replace(&mut room.versions[0], lost);
        assert_found_out(&room, workload, "never seen.bin of 700 bytes has 0 rows").await;
        assert_found_out(&room, workload, "is of no version that lay there").await;
        room.versions[0] = real;
        let file = room.bench.emulator.files().remove(0);
        room.bench.emulator.purge(&file.id);
        assert_found_out(&room, workload, "there is no such File").await;
    });
}

#[test]
fn a_folder_that_was_changed_and_a_run_that_died_otherwise_are_found_out() {
    block_on(async {
        let workload = workload("small");
        let mut room = Room::new(workload).await;
        room.run(&RUN, None, 0).await;
        std::fs::write(room.bench.path("drop").join("1.bin"), b"other").unwrap();
        assert_found_out(&room, workload, "the folder holds").await;
        // Not the cut that was asked for, but a kill all the same.
        room.put("more.bin", b"more".to_vec(), &[State::Stored]);
        room.bench.emulator.fault(Calls::of(Operation::Create).meet(Action::kill(Point::Before)));
        assert_eq!(room.run(&RUN, None, 0).await, Ended::Code(-1));
        assert_found_out(&room, workload, "ended with signal").await;
    });
}

#[test]
fn the_shim_counts_every_commit() {
    block_on(async {
        let workload = workload("several");
        let mut room = Room::new(workload).await;
        room.run(&RUN, None, 1).await;
        let syncs = room.syncs_of_last_run().await;
        let logged = syncs.iter().filter(|(file, _)| file == "upspool.db-wal").count();
        let commits = room.ledger().await.batches;
        assert!(commits > 3 && logged as i64 >= commits, "{commits} commits, {logged} syncs of the log");
        // Each thing that was committed was so by a sync of the log: nothing is written without one.
        for (file, committed) in &syncs {
            assert!(committed.is_empty() || file == "upspool.db-wal", "{file} commits {committed:?}");
        }
    });
}
