//! Answers that never came: repeat, fence, list, and then a person.

use std::collections::HashMap;
use std::time::Duration;

use proptest::prelude::*;

use super::super::super::answer::FileId;
use super::super::super::failure::Failure;
use super::super::super::job::*;
use super::super::*;
use super::DAY;
use super::server::{Habits, refused};
use super::world::{MB, World};

/// Every combination of what nothing public says.
fn habits() -> impl Iterator<Item = Habits> {
    (0..64u32).map(|bits| {
        let bit = |place: u32| bits & (1 << place) != 0;
        Habits {
            repeats_complete: bit(0),
            tells_completed: bit(1),
            readable: bit(2),
            lists: bit(3),
            lag: Duration::from_secs(if bit(4) { 10 } else { 0 }),
            landing: Duration::from_secs(if bit(5) { 90 } else { 0 }),
        }
    })
}

/// The first `count` answers of each job to these requests are lost, after the server has acted.
fn lose(world: &mut World, count: u32, which: impl Fn(&Work) -> bool + 'static) {
    let seen = std::cell::RefCell::new(HashMap::<JobId, u32>::new());
    world.fault = Box::new(move |work, job, _, _| {
        let mut seen = seen.borrow_mut();
        let seen = seen.entry(job?).or_default();
        (which(work) && *seen < count).then(|| {
            *seen += 1;
            Failure::Transport { message: "reset".into() }
        })
    });
}

#[test]
fn a_lost_answer_to_complete_ends_as_one_file_or_as_unresolved_whatever_the_servers_habits() {
    for habits in habits() {
        let mut world = World::new(1e8);
        world.server.habits = habits;
        lose(&mut world, 1, |work| matches!(work, Work::Complete { .. }));
        for bytes in [500, 5 * MB] {
            world.add(0, bytes);
        }
        world.boot();
        world.run(2 * DAY);
        world.assert_ledger_is_the_truth();
        // With the list, or with an answer that tells, nothing is left to a person.
        let tells = habits.repeats_complete || habits.tells_completed || habits.lists;
        let states = world.states();
        if tells {
            assert_eq!(states.get(&State::Stored), Some(&2), "{habits:?}: {states:?}");
        } else {
            assert_eq!(states.get(&State::Unresolved), Some(&2), "{habits:?}: {states:?}");
        }
    }
}

#[test]
fn answers_to_complete_and_to_cancel_that_are_lost_one_after_the_other_make_no_second_file() {
    for habits in habits() {
        for count in 1..4 {
            let mut world = World::new(1e8);
            world.server.habits = habits;
            lose(&mut world, count, |work| matches!(work, Work::Complete { .. } | Work::Cancel(_)));
            world.add(0, 5 * MB);
            world.boot();
            world.run(2 * DAY);
            world.assert_ledger_is_the_truth();
            let states = world.states();
            assert!(
                states.contains_key(&State::Stored) || states.contains_key(&State::Unresolved),
                "{habits:?}: {states:?}"
            );
            if habits.lists && habits.readable {
                assert_eq!(states.get(&State::Stored), Some(&1), "{habits:?} {count}: {states:?}");
            }
        }
    }
}

#[test]
fn a_crash_at_any_moment_of_the_inquiry_changes_nothing() {
    for habits in habits() {
        for steps in 0..24 {
            let mut world = World::new(1e8);
            world.server.habits = habits;
            lose(&mut world, 1, |work| matches!(work, Work::Complete { .. }));
            world.add(0, 1000);
            world.boot();
            for _ in 0..steps {
                if !world.board.is_done() {
                    world.one();
                }
            }
            world.boot();
            world.run(2 * DAY);
            world.assert_ledger_is_the_truth();
            if habits.lists && habits.readable {
                assert_eq!(world.states().get(&State::Stored), Some(&1), "{habits:?} after {steps}");
            }
        }
    }
}

#[test]
fn a_file_of_the_same_name_and_size_from_another_program_is_never_adopted() {
    for habits in habits() {
        for bytes in [500, 5 * MB] {
            let mut world = World::new(1e8);
            world.server.habits = Habits { repeats_complete: false, ..habits };
            lose(&mut world, 1, |work| matches!(work, Work::Complete { .. }));
            world.add(0, bytes);
            world.server.foreign_file(bytes, world.real);
            world.boot();
            world.run(2 * DAY);
            world.assert_ledger_is_the_truth();
        }
    }
}

#[test]
fn a_complete_that_never_arrived_is_no_reason_for_a_person() {
    // Lost before the server acted, and then the Upload had expired or was refused: there is no File.
    for habits in habits() {
        let mut world = World::new(1e8);
        world.server.habits = Habits { landing: Duration::ZERO, ..habits };
        let seen = std::cell::Cell::new(0);
        world.fault = Box::new(move |work, _, _, _| {
            if !matches!(work, Work::Complete { .. }) {
                return None;
            }
            seen.set(seen.get() + 1);
            match seen.get() {
                1 => Some(Failure::NoAnswer),
                2 => Some(refused(400)),
                _ => None,
            }
        });
        world.add(0, 5 * MB);
        world.boot();
        world.run(2 * DAY);
        world.assert_all_stored();
        assert_eq!(world.rows[&JobId(1)].uploads, 2);
    }
}

#[test]
fn a_server_that_is_down_for_days_after_complete_ends_as_one_file() {
    let mut world = World::new(1e8);
    world.server.habits.repeats_complete = false;
    let completed = std::cell::Cell::new(None::<Boot>);
    world.fault = Box::new(move |work, _, _, now| {
        if matches!(work, Work::Complete { .. }) && completed.get().is_none() {
            completed.set(Some(now.boot));
            return Some(Failure::Transport { message: "reset".into() });
        }
        let down = completed.get().is_some_and(|at| now.boot.since(at) < 3 * DAY);
        down.then(|| Failure::Connect { message: "no route".into() })
    });
    world.add(0, 5 * MB);
    world.boot();
    world.run(5 * DAY);
    world.assert_all_stored();
}

#[test]
fn an_unresolved_job_is_settled_by_a_person_who_names_a_file_that_is_it_or_sends_it_again() {
    let unresolved = || {
        let mut world = World::new(1e8);
        world.server.habits = Habits { repeats_complete: false, lists: false, ..Habits::default() };
        lose(&mut world, 1, |work| matches!(work, Work::Complete { .. }));
        let id = world.add(0, 5 * MB);
        world.boot();
        world.run(DAY);
        assert_eq!(world.rows[&id].stage.state(), State::Unresolved);
        (world, id)
    };
    let resolve = |world: &mut World, id: JobId, resolution| {
        let job = Box::new(world.rows[&id].clone());
        world.apply(Event::Asked(Request { id: 9, ask: Ask::Resolve(job, resolution) }));
        world.run(DAY);
        world.answers.pop().expect("a person is answered")
    };

    let (mut world, id) = unresolved();
    world.server.foreign_file(5 * MB, world.real);
    let (done, text) = resolve(&mut world, id, Resolution::Is(FileId("file-1".into())));
    assert!(!done && text.contains("holds other bytes"), "{text}");
    let (done, text) = resolve(&mut world, id, Resolution::Is(FileId("file-7".into())));
    assert!(!done && text.contains("cannot be looked at"), "{text}");
    assert_eq!(world.rows[&id].stage.state(), State::Unresolved);
    let (done, text) = resolve(&mut world, id, Resolution::Is(FileId("file-0".into())));
    assert!(done, "{text}");
    world.assert_all_stored();

    let (mut world, id) = unresolved();
    assert!(resolve(&mut world, id, Resolution::Again).0);
    assert_eq!(world.rows[&id].stage.state(), State::Stored);
    assert_eq!(world.server.files.len(), 2, "as the person wanted");

    let (mut world, id) = unresolved();
    world.server.habits.readable = false;
    let (done, text) = resolve(&mut world, id, Resolution::Is(FileId("file-0".into())));
    assert!(!done && text.contains("--unchecked"), "{text}");
    assert!(resolve(&mut world, id, Resolution::IsUnchecked(FileId("file-0".into()))).0);
    world.assert_all_stored();
    let (done, text) = resolve(&mut world, id, Resolution::Again);
    assert!(!done && text.contains("is stored"), "{text}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Any answers lost, before or after the server acted, with crashes between: never two Files of one version, never
    /// another's, nothing lost.
    #[test]
    fn whatever_answers_are_lost_there_is_one_file_or_a_question(
        bits in 0u32..64,
        faults in proptest::collection::vec(0u8..6, 32),
        crashes in proptest::collection::vec(1usize..60, 0..6),
        foreign in any::<bool>(),
    ) {
        let mut world = World::new(1e8);
        world.server.habits = habits().nth(bits as usize).unwrap();
        let count = std::cell::Cell::new(0usize);
        world.fault = Box::new(move |_, _, _, _| {
            count.set(count.get() + 1);
            if count.get() > 150 { return None }
            match faults[count.get() % faults.len()] {
                0 => Some(Failure::Transport { message: "after the work".into() }),
                1 => Some(Failure::NoAnswer),
                _ => None,
            }
        });
        for bytes in [500, 700, 5 * MB, 30 * MB] {
            world.add(0, bytes);
            if foreign {
                world.server.foreign_file(bytes, world.real);
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
        world.run(20 * DAY);
        world.assert_ledger_is_the_truth();
        for (state, jobs) in world.states() {
            prop_assert!(matches!(state, State::Stored | State::Unresolved), "{jobs} jobs are {state}");
        }
    }
}

#[test]
fn a_file_that_the_server_never_puts_together_is_not_sent_for_ever() {
    for status in [500, 504, 409] {
        let mut world = World::with_fault(1e8, move |work, job, _, _| {
            (matches!(work, Work::Complete { .. }) && job == Some(JobId(1))).then(|| refused(status))
        });
        world.add(0, 5 * MB);
        world.boot();
        // Others come and go beside it, so that it is no server's fault.
        for _ in 0..200 {
            world.run(Duration::from_secs(1800));
            let id = world.add(0, 1000);
            let job = world.rows[&id].clone();
            world.apply(Event::Enqueued(job));
        }
        world.run(DAY);
        let row = &world.rows[&JobId(1)];
        assert_eq!(row.stage.state(), State::Failed, "{status}");
        assert!(row.uploads <= 6, "{status}: {} Uploads", row.uploads);
        assert_eq!(world.states().get(&State::Stored), Some(&200), "{status}");
    }
}

#[test]
fn a_refusal_shows_that_the_server_is_back_and_the_inquiry_goes_on_at_once() {
    let mut world = World::new(1e8);
    world.server.habits.repeats_complete = false;
    lose(&mut world, 1, |work| matches!(work, Work::Complete { .. }));
    for bytes in [500, 600, 5 * MB] {
        world.add(0, bytes);
    }
    world.boot();
    // Answers of several jobs were lost at once, which is a hold; its probe is a complete that the server refuses.
    let took = world.run(DAY);
    world.assert_all_stored();
    assert!(took < Duration::from_secs(20), "{took:?}");
}

#[test]
fn a_complete_that_lands_after_the_hour_and_after_our_patience_makes_one_file() {
    // Complete is sent in the last minute, and the server takes twelve minutes to put the file together.
    let mut world = World::new(1000.0 * MB as f64 / 3500.0);
    world.server.habits =
        Habits { landing: Duration::from_secs(720), repeats_complete: false, ..Habits::default() };
    world.add(0, 1000 * MB);
    world.boot();
    world.run(2 * DAY);
    world.assert_all_stored();
    assert_eq!(world.rows[&JobId(1)].uploads, 1);
}
