//! Looks at files before they are sent, and files that are the same.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::super::super::failure::{Failure, SourceFailure};
use super::super::super::job::*;
use super::super::super::preflight::Preflight;
use super::super::*;
use super::server::refused;
use super::world::{MB, World};
use super::{DAY, server_error};

const WARN: Examination = Examination { preflight: Preflight::Warn, dedupe: false };
const REJECT: Examination = Examination { preflight: Preflight::Reject, dedupe: false };
const DEDUPE: Examination = Examination { preflight: Preflight::Off, dedupe: true };

fn world(rate: f64, examination: Examination) -> World {
    let mut world = World::new(rate);
    for folder in 0..3 {
        world.examine.insert(FolderId(folder), examination);
    }
    world
}

/// A file of the same name, size and bytes as all that this makes.
fn add_same(world: &mut World, folder: i64, bytes: u64) -> JobId {
    let id = world.add(folder, bytes);
    world.rows.get_mut(&id).unwrap().subject.filename = "same.jsonl".into();
    world.contents.insert(id, i64::try_from(bytes).unwrap());
    id
}

/// Also those in which nothing lies yet.
fn all_folders(world: &mut World) {
    world.apply(Event::Folders((0..3).map(|folder| (FolderId(folder), false)).collect()));
}

fn ask(world: &mut World, ask: Ask) {
    world.apply(Event::Asked(Request { id: 1, ask }));
}

#[test]
fn only_what_has_something_to_look_at_takes_the_extra_step() {
    let mut world = World::new(1e8);
    world.examine.insert(FolderId(0), WARN);
    world.add(0, 1000);
    world.add(0, 5 * MB);
    let plain = world.add(0, 1000);
    world.rows.get_mut(&plain).unwrap().subject.purpose = "user_data".into();
    world.add(1, 1000);
    world.boot();
    world.run(DAY);
    world.assert_all_stored();
    assert_eq!(world.looks, 2);
}

#[test]
fn what_is_wrong_is_told_and_sent_or_not_sent() {
    let mut world = world(1e8, WARN);
    world.examine.insert(FolderId(1), REJECT);
    for folder in [0, 1] {
        for bytes in [1000, 5 * MB] {
            world.add(folder, bytes);
            let wrong = world.add(folder, bytes);
            world.faulty.insert(wrong);
        }
    }
    world.boot();
    world.run(DAY);
    assert_eq!(world.states(), BTreeMap::from([(State::Stored, 6), (State::Failed, 2)]));
    assert_eq!(world.warned.keys().map(|id| id.0).collect::<Vec<_>>(), [2, 4, 6, 8]);
    for id in [6, 8] {
        let reason = &world.failed[&JobId(id)];
        assert_eq!((reason.code, reason.message.as_str()), (Code::PreflightFailed, "line 1: it is not JSON"));
    }
    assert!(world.order.iter().all(|id| !matches!(id.0, 6 | 8)), "nothing was asked of the server");

    // A person mends it, or says that it is to be sent all the same: it is looked at again.
    let looks = world.looks;
    world.faulty.remove(&JobId(6));
    for id in [6, 8] {
        let job = Box::new(world.rows[&JobId(id)].clone());
        ask(&mut world, Ask::Retry(job));
        world.run(DAY);
    }
    assert_eq!(world.states(), BTreeMap::from([(State::Stored, 7), (State::Failed, 1)]));
    assert_eq!(world.looks, looks + 2);
}

#[test]
fn of_files_that_are_the_same_one_is_sent_and_the_others_share_its_file() {
    let mut world = world(1e7, DEDUPE);
    for folder in 0..3 {
        for bytes in [1000, 5 * MB] {
            add_same(&mut world, folder, bytes);
            add_same(&mut world, folder, bytes);
            world.add(folder, bytes);
        }
    }
    // The same in all but the bytes.
    let other = add_same(&mut world, 0, 1000);
    world.contents.insert(other, 7);
    world.boot();
    world.run(DAY);
    world.assert_all_stored();
    assert_eq!(world.shared.len(), 10);
    assert!(!world.shared.contains_key(&other));
    assert_eq!(world.server.files.len(), 19 - 10);
    assert_eq!(world.most_looks, 2);
}

#[test]
fn a_file_that_the_server_has_no_more_is_sent_and_an_older_one_will_do() {
    let mut world = world(1e8, DEDUPE);
    world.examine.remove(&FolderId(2));
    // Without the wish to share each makes a File.
    add_same(&mut world, 2, 1000);
    add_same(&mut world, 2, 1000);
    world.boot();
    world.run(DAY);
    assert_eq!(world.server.files.len(), 2);
    let newest = world.server.files[1].id.clone();
    world.deleted.insert(newest);
    let id = add_same(&mut world, 0, 1000);
    world.boot();
    world.run(DAY);
    assert_eq!(world.shared.get(&id), Some(&JobId(1)));
    let oldest = world.server.files[0].id.clone();
    world.deleted.insert(oldest);
    let id = add_same(&mut world, 0, 1000);
    world.boot();
    world.run(DAY);
    world.assert_all_stored();
    assert!(!world.shared.contains_key(&id));
}

#[test]
fn looking_ahead_costs_no_time() {
    let took = |examination| {
        let mut world = world(5e7, examination);
        for number in 0..60 {
            world.add(number % 3, 20 * MB);
            world.add(number % 3, 1000);
        }
        world.boot();
        let took = world.run(DAY);
        world.assert_all_stored();
        took.as_secs_f64()
    };
    let (without, with) = (took(Examination::default()), took(WARN));
    assert!(with < without * 1.05, "{with} s with a look at each file, {without} s without");
}

#[test]
fn folders_take_turns_although_one_is_looked_at() {
    let mut world = World::new(1e8);
    world.examine.insert(FolderId(0), WARN);
    for _ in 0..300 {
        world.add(0, 10 * MB);
    }
    let plain: Vec<JobId> = (0..5).map(|_| world.add(1, 10 * MB)).collect();
    world.boot();
    world.run(DAY);
    world.assert_all_stored();
    let place = |id: &JobId| world.order.iter().position(|one| one == id).unwrap();
    assert!(plain.iter().all(|id| place(id) < 16), "{:?}", plain.iter().map(place).collect::<Vec<_>>());
    // And in its own folder each keeps its place.
    let looked_at: Vec<JobId> = world.order.iter().copied().filter(|id| id.0 <= 300).collect();
    let late = looked_at.iter().enumerate().filter(|(place, id)| id.0.unsigned_abs() as usize > place + 3);
    assert_eq!(late.count(), 0, "{looked_at:?}");
}

#[test]
fn a_look_that_takes_hours_keeps_back_nobody_else() {
    let mut world = World::new(1e8);
    world.examine.insert(FolderId(0), WARN);
    world.slow_looks.insert(FolderId(0), Duration::from_secs(36_000));
    for bytes in [1000, 5 * MB] {
        world.add(0, bytes);
        world.add(1, bytes);
        let plain = world.add(0, bytes);
        world.rows.get_mut(&plain).unwrap().subject.purpose = "user_data".into();
    }
    world.boot();
    world.run(Duration::from_secs(60));
    assert_eq!(world.states(), BTreeMap::from([(State::Stored, 4), (State::Queued, 2)]));
    world.run(DAY);
    world.assert_all_stored();
}

#[test]
fn the_end_of_the_service_waits_for_no_look() {
    let mut world = World::new(1e8);
    world.examine.insert(FolderId(0), WARN);
    world.slow_looks.insert(FolderId(0), Duration::from_secs(36_000));
    world.add(0, 5 * MB);
    world.boot();
    world.apply(Event::Stopping);
    assert!(!world.board.is_drained(world.now));
    world.one();
    assert!(world.board.is_drained(world.now), "it was told to end");
    world.boot();
    world.run(DAY);
    world.assert_all_stored();
}

#[test]
fn a_server_that_is_away_is_waited_for_and_then_asked_for_the_file() {
    for down in [Duration::from_secs(3600), 2 * DAY] {
        let mut world = world(1e8, DEDUPE);
        add_same(&mut world, 0, 1000);
        world.boot();
        world.run(DAY);
        let until = world.now.wall + down;
        world.fault = Box::new(move |work, _, _, now| {
            let local = matches!(work, Work::Examine { .. });
            (!local && now.wall < until).then(|| Failure::Connect { message: "no route".into() })
        });
        // All that waits has to be looked at, so that one of these has to be the probe.
        for folder in 0..3 {
            add_same(&mut world, folder, 1000);
            world.add(folder, 5 * MB);
        }
        world.boot();
        world.run(3 * DAY);
        world.assert_all_stored();
        assert_eq!(world.shared.len(), 3);
        assert_eq!(world.holds, [Code::Network]);
    }
}

#[test]
fn a_hold_is_probed_although_all_that_waits_has_to_be_looked_at_first() {
    for examination in [WARN, DEDUPE] {
        let mut world = world(1e8, examination);
        world.examine.insert(FolderId(2), Examination::default());
        let until = world.now.wall + Duration::from_secs(3600);
        world.fault = Box::new(move |work, _, _, now| {
            let local = matches!(work, Work::Examine { .. });
            (!local && now.wall < until).then(|| Failure::Connect { message: "no route".into() })
        });
        let plain = [world.add(2, 1000), world.add(2, 1000)];
        world.boot();
        all_folders(&mut world);
        while world.holds.is_empty() {
            world.one();
        }
        for bytes in [1000, 5 * MB] {
            let id = world.add(1, bytes);
            let job = world.rows[&id].clone();
            world.apply(Event::Enqueued(job));
        }
        // Nobody else is left to be the probe.
        for id in plain {
            let job = Box::new(world.rows[&id].clone());
            ask(&mut world, Ask::Cancel(job));
        }
        world.run(DAY);
        assert_eq!(world.states(), BTreeMap::from([(State::Stored, 2), (State::Cancelled, 2)]));
        assert_eq!(world.lifted, 1, "{:?}", world.holds);
    }
}

#[test]
fn what_was_looked_at_before_a_pause_is_looked_at_again() {
    let mut world = world(1e6, DEDUPE);
    let busy = world.add(2, 100 * MB);
    world.boot();
    all_folders(&mut world);
    while world.parts.len() < 8 {
        world.one();
    }
    assert_eq!(world.rows[&busy].stage.state(), State::Uploading);
    let enqueue = |folder, world: &mut World| {
        let id = add_same(world, folder, 5 * MB);
        let job = world.rows[&id].clone();
        world.apply(Event::Enqueued(job));
        id
    };
    // It is looked at, and waits for a slot: the other one waits for it.
    let first = enqueue(0, &mut world);
    while world.looks < 2 || !world.board.queue.examined().any(|job| job.id == first) {
        world.one();
    }
    let second = enqueue(1, &mut world);
    ask(&mut world, Ask::Pause(Some(FolderId(0))));
    world.run(Duration::from_secs(3600));
    assert_eq!(world.rows[&second].stage.state(), State::Stored);
    ask(&mut world, Ask::Resume(None));
    world.run(DAY);
    world.assert_all_stored();
    assert_eq!(world.shared, BTreeMap::from([(first, second)]));
}

#[test]
fn a_job_that_a_refill_brings_before_it_is_announced_is_begun_once() {
    let mut world = world(1e8, REJECT);
    world.boot();
    all_folders(&mut world);
    let id = world.add(0, 1000);
    world.faulty.insert(id);
    let job = world.rows[&id].clone();
    let line = Line { folder: FolderId(0), lane: true };
    world.apply(Event::Refilled { line, jobs: vec![job.clone()], more: false, next_due: None });
    world.run(DAY);
    assert_eq!(world.looks, 0, "it waits to be announced");
    world.apply(Event::Enqueued(job));
    world.run(DAY);
    assert_eq!((world.looks, world.states()), (1, BTreeMap::from([(State::Failed, 1)])));
}

#[test]
fn no_more_are_looked_at_than_will_be_sent_soon() {
    let mut world = World::new(1e6);
    for folder in 0..2 {
        world.examine.insert(FolderId(folder), WARN);
        for _ in 0..100 {
            world.add(folder, 50 * MB);
        }
    }
    world.boot();
    world.run(Duration::from_secs(120));
    let opened = world.order.len();
    // Two lines, and two more under way.
    assert!(world.looks <= opened + 2 * 32 + 2, "{} looks, {opened} opened", world.looks);
    assert!(world.looks >= 2 * 32, "{} looks", world.looks);
}

#[test]
fn a_key_that_may_not_look_at_files_and_a_file_that_trips_the_server_are_no_reason_not_to_send() {
    for failure in [refused(403), refused(400), server_error()] {
        let mut world = world(1e8, DEDUPE);
        add_same(&mut world, 0, 1000);
        world.boot();
        world.run(DAY);
        world.fault =
            Box::new(move |work, _, _, _| matches!(work, Work::Confirm { .. }).then(|| failure.clone()));
        add_same(&mut world, 1, 1000);
        world.boot();
        world.run(3 * DAY);
        world.assert_all_stored();
        assert_eq!((world.shared.len(), world.holds.as_slice()), (0, [].as_slice()));
    }
}

#[test]
fn a_twin_in_a_folder_that_is_paused_is_not_waited_for() {
    let mut world = world(1e6, DEDUPE);
    add_same(&mut world, 0, 50 * MB);
    world.boot();
    while world.rows[&JobId(1)].stage.state() != State::Uploading {
        world.one();
    }
    let second = add_same(&mut world, 1, 50 * MB);
    world.boot();
    for _ in 0..3 {
        world.one();
    }
    assert_eq!(world.rows[&second].stage.state(), State::Queued, "it waits");
    ask(&mut world, Ask::Pause(Some(FolderId(0))));
    world.run(Duration::from_secs(600));
    assert_eq!(world.rows[&second].stage.state(), State::Stored);
    ask(&mut world, Ask::Resume(None));
    world.run(DAY);
    world.assert_all_stored();
}

#[test]
fn a_twin_that_fails_again_and_again_is_not_waited_for() {
    let mut world = world(1e8, DEDUPE);
    world.fault = Box::new(|work, job, _, _| {
        let message = "its disk fails".to_owned();
        (job == Some(JobId(1)) && matches!(work, Work::Examine { .. }))
            .then_some(Failure::Source(SourceFailure::Unreachable { message }))
    });
    add_same(&mut world, 0, 1000);
    let second = add_same(&mut world, 1, 1000);
    world.boot();
    world.run(Duration::from_secs(60));
    assert_eq!(world.rows[&second].stage.state(), State::Stored);
    world.run(2 * DAY);
    assert_eq!(world.failed[&JobId(1)].code, Code::FileUnreadable);
}

#[test]
fn what_vanishes_or_changes_while_it_is_looked_at_is_gone() {
    for failure in [SourceFailure::Missing, SourceFailure::Changed] {
        for asks in [false, true] {
            let mut world = world(1e8, DEDUPE);
            add_same(&mut world, 0, 1000);
            world.boot();
            world.run(DAY);
            let failure = failure.clone();
            world.fault = Box::new(move |work, _, _, _| {
                let hit = if asks {
                    matches!(work, Work::Confirm { .. })
                } else {
                    matches!(work, Work::Examine { .. })
                };
                hit.then(|| Failure::Source(failure.clone()))
            });
            add_same(&mut world, 1, 1000);
            world.boot();
            world.run(DAY);
            assert_eq!(world.states(), BTreeMap::from([(State::Stored, 1), (State::Gone, 1)]));
        }
    }
}

#[test]
fn cancel_and_bump_reach_a_job_wherever_it_is_looked_at() {
    for looks in 0..3 {
        let mut world = world(1e8, WARN);
        world.slow_looks.insert(FolderId(0), Duration::from_secs(10));
        let ids: Vec<JobId> = (0..4).map(|_| world.add(0, 5 * MB)).collect();
        world.boot();
        while world.looks < 2 + looks {
            world.one();
        }
        let bumped = Box::new(world.rows[&ids[3]].clone());
        ask(&mut world, Ask::Bump(bumped));
        let cancelled = Box::new(world.rows[&ids[0]].clone());
        ask(&mut world, Ask::Cancel(cancelled));
        world.run(DAY);
        let states = world.states();
        assert_eq!(states.values().sum::<usize>(), 4);
        assert!(states.keys().all(|state| matches!(state, State::Stored | State::Cancelled)), "{states:?}");
        assert!(world.board.is_done() && world.board.tasks.is_empty());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Files that are often the same, killed at random moments and failing in random ways: each ends as a File of its
    /// bytes, and what shares one shares one that is there.
    #[test]
    fn whatever_fails_a_shared_file_has_the_same_bytes_and_nothing_is_lost(
        files in proptest::collection::vec((0i64..3, 0usize..4, 0i64..3), 1..30),
        crashes in proptest::collection::vec(1usize..120, 0..6),
        faults in proptest::collection::vec(0u8..12, 64),
        pauses in proptest::collection::vec((1usize..40, 0i64..3, any::<bool>()), 0..6),
        rate in prop_oneof![Just(1e6), Just(1e9)],
    ) {
        let both = Examination { preflight: Preflight::Warn, dedupe: true };
        let mut world = world(rate, both);
        world.examine.remove(&FolderId(2));
        let count = std::cell::Cell::new(0usize);
        world.fault = Box::new(move |work, _, _, _| {
            count.set(count.get() + 1);
            // Later on all goes well, so that every run ends.
            if count.get() > 400 { return None }
            let away = || SourceFailure::Unreachable { message: "its disk is away".into() };
            match (faults[count.get() % faults.len()], work) {
                (0 | 1, Work::Examine { .. }) => Some(Failure::Source(away())),
                (_, Work::Examine { .. }) => None,
                (0, _) => Some(server_error()),
                (1, _) => Some(Failure::Connect { message: "refused".into() }),
                (2, _) => Some(Failure::Transport { message: "reset".into() }),
                (3, Work::Confirm { .. }) => Some(refused(404)),
                _ => None,
            }
        });
        for (folder, size, content) in files {
            let id = add_same(&mut world, folder, [1000, 2000, 5 * MB, 40 * MB][size]);
            world.contents.insert(id, content);
            if content == 2 {
                world.faulty.insert(id);
            }
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
        for (steps, folder, pause) in pauses {
            let folder = Some(FolderId(folder));
            ask(&mut world, if pause { Ask::Pause(folder) } else { Ask::Resume(folder) });
            for _ in 0..steps {
                if !world.board.is_done() {
                    world.one();
                }
            }
        }
        ask(&mut world, Ask::Resume(None));
        world.run(20 * DAY);
        world.assert_all_stored();
        prop_assert!(world.most_looks <= 2 && world.most_parts <= 8 && world.most_lane <= LANE);
    }
}

#[test]
fn a_wish_to_share_makes_no_second_file_whenever_the_service_is_killed() {
    // Without failures and pauses: one File for each content, at whatever moment it starts again.
    for steps in 0..60 {
        let mut world = world(1e7, DEDUPE);
        for folder in 0..3 {
            add_same(&mut world, folder, 1000);
            add_same(&mut world, folder, 5 * MB);
        }
        world.boot();
        for _ in 0..steps {
            if !world.board.is_done() {
                world.one();
            }
        }
        world.boot();
        world.run(DAY);
        world.assert_all_stored();
        assert_eq!((world.server.files.len(), world.shared.len()), (2, 4), "killed after {steps}");
    }
}
