//! The board in a simulated world, with days of time in milliseconds of ours.
//!
//! - `world`: a link, clocks and a store around the board; `server`: the API with its habits;
//! - this file: order, holds, pace, requests of commands, crashes;
//! - `examine`: looks at files before they are sent, and files that are the same;
//! - `hour`: the expiry of Uploads, on links of every speed and with clocks that jump;
//! - `lost`: answers that never came;
//! - `neglect`: work that nothing will wake, as the watchdog sees it;
//! - `slots`: how many Parts at once, where that is ours to find.

mod examine;
mod hour;
mod lost;
mod neglect;
mod server;
mod slots;
mod world;

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use self::world::{MB, World};
use super::super::failure::{Facts, Failure, SourceFailure};
use super::super::job::*;
use super::super::time::Wall;
use super::*;

pub(super) const DAY: Duration = Duration::from_secs(86_400);

pub(super) fn server_error() -> Failure {
    Failure::Refused {
        facts: Facts { status: 500, ..Facts::default() },
        kind: None,
        code: None,
        message: "boom".into(),
    }
}

#[test]
fn many_large_files_on_a_thin_link_never_expire_for_having_shared_it() {
    // 2.5 MB/s carry 9 GB an hour, so forty files of 1 GB take four and a half hours.
    let mut world = World::new(2.5e6);
    for folder in 0..40 {
        world.add(folder % 4, 1000 * MB);
    }
    world.boot();
    let took = world.run(DAY);
    world.assert_all_stored();
    assert!(world.rows.values().all(|job| job.uploads == 1), "no Upload expired");
    assert_eq!(world.server.sent, 40 * 1000 * MB, "no byte was sent twice");
    let ideal = 40.0 * 1000.0 * MB as f64 / 2.5e6;
    assert!(took.as_secs_f64() < ideal * 1.02, "{took:?} against {ideal} s");
    assert!(world.most_open <= 2, "{} Uploads were open at once", world.most_open);
    assert_eq!(world.most_parts, 8);
}

#[test]
fn small_files_do_not_wait_behind_a_large_one_and_stay_within_the_lane() {
    let mut world = World::new(1e6);
    let large = world.add(0, 3000 * MB);
    for _ in 0..2000 {
        world.add(0, 4096);
    }
    world.boot();
    world.run(Duration::from_secs(60));
    let states = world.states();
    assert_eq!(states.get(&State::Stored), Some(&2000), "{states:?}");
    assert_eq!(world.rows[&large].stage.state(), State::Uploading);
    assert!(world.most_lane <= LANE, "{}", world.most_lane);
    world.run(DAY);
    world.assert_all_stored();
}

#[test]
fn folders_take_turns_and_a_bumped_file_goes_first() {
    let mut world = World::new(1e9);
    let first: Vec<JobId> = (0..600).map(|_| world.add(0, 10 * MB)).collect();
    let second: Vec<JobId> = (0..3).map(|_| world.add(1, 10 * MB)).collect();
    let bumped = *first.last().unwrap();
    world.rows.get_mut(&bumped).unwrap().bumped = true;
    world.boot();
    world.run(DAY);
    world.assert_all_stored();
    let place = |id: &JobId| world.order.iter().position(|one| one == id).unwrap();
    assert!(second.iter().all(|id| place(id) < 8), "the folder with few files waits for nobody");
    assert!(place(&bumped) < 2, "{}", place(&bumped));
}

#[test]
fn a_server_that_is_down_for_three_days_fails_nothing_and_is_asked_rarely() {
    let down_until = Wall(1_800_000_000_000) + 3 * DAY;
    let mut world = World::with_fault(1e8, move |_, _, _, now| (now.wall < down_until).then(server_error));
    for _ in 0..50 {
        world.add(0, 4096);
        world.add(0, 20 * MB);
    }
    world.boot();
    world.run(4 * DAY);
    world.assert_all_stored();
    assert_eq!(world.holds, [Code::ServerError]);
    assert_eq!(world.lifted, 1);
    let uploads: u32 = world.rows.values().map(|job| job.uploads).sum();
    assert_eq!(uploads, 100);
    // 3 days at one probe each 5 minutes, and the few that failed before the hold.
    assert!(world.order.len() < 3 * 288 + 250, "{} creates", world.order.len());
}

#[test]
fn an_outage_in_the_middle_of_an_upload_goes_on_with_the_parts_that_are_missing() {
    let start = Wall(1_800_000_000_000) + Duration::from_secs(60);
    let end = start + Duration::from_secs(1200);
    let mut world = World::with_fault(4e6, move |_, _, _, now| {
        (now.wall >= start && now.wall < end).then(|| Failure::Connect { message: "no route".into() })
    });
    world.add(0, 1000 * MB);
    world.boot();
    world.run(DAY);
    world.assert_all_stored();
    let job = world.rows.values().next().unwrap();
    assert_eq!((job.uploads, job.restarts), (1, 0));
    assert_eq!(world.server.sent, 1000 * MB);
}

#[test]
fn one_account_without_quota_stops_no_other() {
    let mut world = World::with_fault(1e8, |_, _, account, _| {
        (account.0 == "other").then(|| Failure::Refused {
            facts: Facts { status: 429, ..Facts::default() },
            kind: Some("insufficient_quota".into()),
            code: None,
            message: "money".into(),
        })
    });
    for _ in 0..20 {
        world.add(0, 5 * MB);
        world.add_for(1, 5 * MB, "other");
    }
    world.boot();
    world.run(DAY);
    let states = world.states();
    assert_eq!(states.get(&State::Stored), Some(&20), "{states:?}");
    assert_eq!(states.get(&State::Queued), Some(&20), "nothing fails for want of money: {states:?}");
    assert_eq!(world.holds, [Code::QuotaExhausted]);
}

#[test]
fn a_part_that_is_taken_says_nothing_of_the_money_for_the_next_upload() {
    let refused = |work: &Work| {
        matches!(work, Work::Create(subject) if subject.fingerprint.bytes < MB).then(|| Failure::Refused {
            facts: Facts { status: 429, ..Facts::default() },
            kind: Some("insufficient_quota".into()),
            code: None,
            message: "money".into(),
        })
    };
    let mut world = World::with_fault(1e7, move |work, _, _, _| refused(work));
    world.add(0, 400 * MB);
    world.add(0, 1000);
    world.boot();
    world.run(Duration::from_secs(7200));
    // The large file's own create may be answered just after, and does say so; its Parts do not.
    assert!(world.holds.len() <= 2 && world.lifted <= 1, "the hold flaps: {:?}", world.holds);
}

#[test]
fn slots_fall_when_the_server_asks_for_it_and_grow_back_with_good_answers() {
    for status in [429, 503] {
        let busy = std::cell::Cell::new(0);
        let mut world = World::with_fault(1e8, move |work, _, _, _| {
            let asks = matches!(work, Work::Part { .. }) && busy.get() < 3;
            busy.set(busy.get() + usize::from(asks));
            asks.then(|| Failure::Refused {
                facts: Facts { status, retry_after: Some(Duration::from_secs(20)), ..Facts::default() },
                kind: None,
                code: Some("slow_down".into()),
                message: "slow down".into(),
            })
        });
        world.add(0, 4000 * MB);
        world.boot();
        let mut least = 8;
        let mut quiet = None;
        while !world.board.is_done() {
            world.one();
            least = least.min(world.board.slots().1);
            if let Some((_, pace)) = world.board.paces().next() {
                if pace.until > world.now.boot && world.parts.is_empty() {
                    quiet = Some(pace.until);
                }
                let granted = world.grants.values().any(|grant| matches!(grant.work, Work::Part { .. }));
                assert!(
                    quiet != Some(pace.until) || pace.until <= world.now.boot || !granted,
                    "{status}: too early"
                );
            }
        }
        world.assert_all_stored();
        assert!(least < 8, "{status}: {least} slots at least");
        assert_eq!(world.board.slots().1, 8, "{status}: they have grown back");
    }
}

#[test]
fn a_key_that_may_not_list_files_holds_nothing_for_good() {
    let refused = |status| Failure::Refused {
        facts: Facts { status, ..Facts::default() },
        kind: None,
        code: None,
        message: "words".into(),
    };
    let failed = std::cell::Cell::new(0);
    // Two failures of one file have the list asked for, which this key may not.
    let mut world = World::with_fault(1e7, move |work, _, _, _| match work {
        Work::Probe => Some(refused(403)),
        Work::Create(_) if failed.get() < 2 => {
            failed.set(failed.get() + 1);
            Some(refused(500))
        }
        _ => None,
    });
    world.add(0, 1000);
    world.boot();
    world.run(Duration::from_secs(60));
    assert_eq!(world.holds, [Code::Forbidden]);
    assert_eq!(
        world.states().get(&State::Stored),
        Some(&1),
        "the first good answer shows that the key will do"
    );
    assert_eq!(world.lifted, 1, "the hold is over");
}

#[test]
fn a_file_that_trips_the_server_fails_alone_after_a_day() {
    let mut world =
        World::with_fault(1e8, |_, job, _, _| job.filter(|job| job.0 == 3).map(|_| server_error()));
    for _ in 0..6 {
        world.add(0, 5 * MB);
    }
    world.boot();
    world.run(2 * DAY);
    assert_eq!(world.states(), BTreeMap::from([(State::Stored, 5), (State::Failed, 1)]));
    assert!(world.holds.is_empty(), "{:?}", world.holds);
    assert!(world.probes > 0, "the server was asked whether it is its fault");
}

#[test]
fn a_file_that_trips_the_server_does_not_keep_a_hold_alive() {
    let down_until = Wall(1_800_000_000_000) + Duration::from_secs(30);
    let mut world = World::with_fault(1e8, move |_, job, _, now| {
        (now.wall < down_until || job == Some(JobId(1))).then(server_error)
    });
    for _ in 0..6 {
        world.add(0, 1000);
    }
    world.boot();
    world.run(2 * DAY);
    assert_eq!(world.states(), BTreeMap::from([(State::Stored, 5), (State::Failed, 1)]));
    assert_eq!((world.holds.len(), world.lifted), (1, 1));
}

#[test]
fn a_job_that_comes_while_its_line_is_loaded_is_not_lost() {
    let mut world = World::new(1e8);
    let id = world.add(0, 1000);
    let job = world.rows[&id].clone();
    let line = Line { folder: FolderId(0), lane: true };
    let asks = |effects: &[Effect]| {
        effects.iter().any(|effect| matches!(effect, Effect::Refill(one, _) if *one == line))
    };
    assert!(asks(&world.board.apply(Event::Folders(vec![(FolderId(0), false)]), world.now)));
    // The store was read before the job's row was committed.
    assert!(!asks(&world.board.apply(Event::Enqueued(job), world.now)));
    let read_before = Event::Refilled { line, jobs: Vec::new(), more: false, next_due: None };
    assert!(asks(&world.board.apply(read_before, world.now)), "the line is asked for again");
}

#[test]
fn what_comes_due_between_two_looks_at_the_clock_is_not_forgotten() {
    let mut world = World::with_fault(1e8, |work, _, _, now| {
        (matches!(work, Work::Create(_)) && now.wall < Wall(1_800_000_010_000)).then(server_error)
    });
    world.add(0, 1000);
    world.boot();
    while world.board.next_wake(world.now).is_none() {
        world.one();
    }
    let due = world.board.next_wake(world.now).expect("the job was put off");
    // The loop was busy until after that time.
    world.now = world.now + due.since(world.now.boot) + Duration::from_millis(5);
    assert_eq!(world.board.next_wake(world.now), Some(due), "and still wants to be woken for it");
}

#[test]
fn twins_are_never_completed_at_the_same_time() {
    let mut world = World::new(1e8);
    for folder in 0..6 {
        let id = world.add(folder, if folder % 2 == 0 { 1000 } else { 5 * MB });
        world.rows.get_mut(&id).unwrap().subject.filename = "same".into();
    }
    world.boot();
    while !world.board.is_done() {
        world.one();
        for bytes in [1000, 5 * MB] {
            let completing = world.rows.values().filter(|row| {
                row.stage.state() == State::Completing && row.subject.fingerprint.bytes == bytes
            });
            assert!(completing.count() <= 1);
        }
    }
    world.assert_all_stored();
}

#[test]
fn a_file_that_another_job_has_is_for_a_person_and_not_for_a_loop() {
    let mut world = World::new(1e8);
    let id = world.add(0, 1000);
    world.boot();
    while world.rows[&id].stage.state() != State::Completing {
        world.one();
    }
    // What the engine does when the ledger refuses the row: the job is dropped and comes back as it is on disk.
    let row = world.rows[&id].clone();
    world.apply(Event::Dropped(id));
    world.apply(Event::Contested(row));
    assert_eq!(world.states(), BTreeMap::from([(State::Unresolved, 1)]));
}

#[test]
fn a_vanished_or_replaced_file_ends_as_gone_and_its_upload_is_cancelled() {
    for failure in [SourceFailure::Missing, SourceFailure::Changed] {
        let mut world = World::with_fault(1e8, move |work, _, _, _| {
            matches!(work, Work::Verify { .. }).then(|| Failure::Source(failure.clone()))
        });
        world.add(0, 20 * MB);
        world.boot();
        world.run(DAY);
        assert_eq!(world.states(), BTreeMap::from([(State::Gone, 1)]));
        assert!(world.server.files.is_empty());
    }
}

#[test]
fn a_refusal_is_tried_with_a_second_upload_and_then_taken_for_an_answer() {
    let mut world = World::with_fault(1e8, |work, _, _, _| {
        matches!(work, Work::Complete { .. }).then(|| Failure::Refused {
            facts: Facts { status: 400, request_id: Some("req_1".into()), ..Facts::default() },
            kind: None,
            code: None,
            message: "bytes do not match".into(),
        })
    });
    world.add(0, 20 * MB);
    world.boot();
    world.run(DAY);
    let job = world.rows.values().next().unwrap();
    assert_eq!((job.stage.state(), job.uploads), (State::Failed, 2));
}

#[test]
fn a_proxy_that_takes_no_large_body_gets_smaller_ones_of_every_file() {
    let mut world = World::with_fault(1e9, |work, _, _, _| match work {
        Work::Part { range, .. } if range.end - range.start > 10 * MB => Some(Failure::Refused {
            facts: Facts { status: 413, ..Facts::default() },
            kind: None,
            code: None,
            message: "<html>".into(),
        }),
        _ => None,
    });
    for _ in 0..4 {
        world.add(0, 500 * MB);
    }
    world.boot();
    world.run(DAY);
    world.assert_all_stored();
    let uploads: u32 = world.rows.values().map(|job| job.uploads).sum();
    assert!(uploads <= 4 + 3 * 2, "{uploads} Uploads: what one file learnt the next one knows");
}

#[test]
fn ten_thousand_queued_files_are_not_ten_thousand_files_in_memory() {
    let mut world = World::new(1e9);
    for _ in 0..10_000 {
        world.add(0, 1000);
    }
    world.boot();
    let mut most = 0;
    while !world.board.is_done() {
        world.one();
        most = most.max(world.board.queue.len() + world.board.tasks.len());
    }
    world.assert_all_stored();
    assert!(most < 1000, "{most} jobs in memory");
}

#[test]
fn pause_stops_sending_and_resume_goes_on() {
    let mut world = World::new(1e6);
    world.add(0, 100 * MB);
    world.boot();
    while world.rows[&JobId(1)].stage.session().is_none_or(|session| session.stored_parts() == 0) {
        world.one();
    }
    world.apply(Event::Asked(Request { id: 1, ask: Ask::Pause(None) }));
    while !world.parts.is_empty() {
        world.one();
    }
    assert_eq!(world.rows[&JobId(1)].stage.state(), State::Uploading);
    world.apply(Event::Asked(Request { id: 2, ask: Ask::Resume(None) }));
    world.run(DAY);
    world.assert_all_stored();
}

#[test]
fn cancel_is_too_late_once_the_file_is_being_made() {
    let mut world = World::new(1e8);
    let id = world.add(0, 5 * MB);
    world.boot();
    while world.rows[&id].stage.state() != State::Completing {
        world.one();
    }
    let job = world.rows[&id].clone();
    world.apply(Event::Asked(Request { id: 1, ask: Ask::Cancel(Box::new(job)) }));
    world.run(DAY);
    world.assert_all_stored();

    let mut world = World::new(1e6);
    let id = world.add(0, 50 * MB);
    world.boot();
    while world.rows[&id].stage.state() != State::Uploading {
        world.one();
    }
    let job = world.rows[&id].clone();
    world.apply(Event::Asked(Request { id: 1, ask: Ask::Cancel(Box::new(job)) }));
    world.run(DAY);
    assert_eq!(world.states(), BTreeMap::from([(State::Cancelled, 1)]));
    assert!(world.board.is_done());
}

#[test]
fn a_panic_in_one_operation_fails_its_job_alone() {
    let mut world = World::new(1e8);
    let id = world.add(0, 5 * MB);
    world.add(0, 5 * MB);
    world.boot();
    let create = world.grants.values().find(|grant| grant.job == Some(id)).unwrap().id;
    world.requests.retain(|(_, one)| *one != create);
    world.grants.remove(&create);
    let outcome = Outcome {
        result: Ok(Done::Panicked("index out of bounds".into())),
        facts: None,
        took: Duration::ZERO,
        interrupted: false,
    };
    world.apply(Event::Done(create, outcome));
    world.run(DAY);
    assert_eq!(world.states(), BTreeMap::from([(State::Stored, 1), (State::Failed, 1)]));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Killed at random moments and started again on what was written, with one request in so many failing in a random
    /// way: every file still ends as one File.
    #[test]
    fn crashes_and_failures_lose_nothing_and_make_nothing_twice(
        sizes in proptest::collection::vec(prop_oneof![1u64..200_000, MB..300 * MB], 1..25),
        crashes in proptest::collection::vec(1usize..120, 0..6),
        faults in proptest::collection::vec(0u8..12, 64),
        rate in prop_oneof![Just(1e6), Just(1e7), Just(1e9)],
        together: bool,
    ) {
        let mut world = World::new(rate);
        world.together = together;
        let count = std::cell::Cell::new(0usize);
        world.fault = Box::new(move |work, _, _, _| {
            count.set(count.get() + 1);
            // Later on all goes well, so that every run ends.
            if count.get() > 400 { return None }
            match (faults[count.get() % faults.len()], work) {
                (0, _) => Some(server_error()),
                (1, _) => Some(Failure::Connect { message: "refused".into() }),
                (2, _) => Some(Failure::Transport { message: "reset".into() }),
                (3, Work::Part { .. }) => Some(Failure::Stalled),
                (4, _) => Some(Failure::Refused {
                    facts: Facts { status: 429, retry_after: Some(Duration::from_secs(3)), ..Facts::default() },
                    kind: None, code: None, message: "slow down".into(),
                }),
                _ => None,
            }
        });
        for (index, bytes) in sizes.iter().enumerate() {
            world.add(index as i64 % 3, *bytes);
        }
        world.boot();
        for steps in crashes {
            for _ in 0..steps {
                if !world.board.is_done() {
                    world.one();
                }
            }
            world.boot();
        }
        world.run(20 * DAY);
        world.assert_all_stored();
        prop_assert!(world.most_parts <= 8 && world.most_lane <= LANE);
    }
}
