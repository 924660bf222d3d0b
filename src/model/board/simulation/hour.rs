//! The hour of an Upload: on links of every speed, with clocks that jump, machines that sleep, and boots between.

use std::time::Duration;

use proptest::prelude::*;

use super::super::super::failure::{Failure, SourceFailure};
use super::super::super::job::*;
use super::super::super::time::Boot;
use super::super::Work;
use super::world::{MB, World};
use super::{DAY, server_error};

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn a_file_that_is_too_large_for_the_link_says_so_after_three_uploads_and_which_rate_it_needs() {
    let mut world = World::new(0.1e6);
    let id = world.add(0, 1000 * MB);
    world.boot();
    let took = world.run(DAY);
    let job = &world.rows[&id];
    assert_eq!((job.stage.state(), job.uploads), (State::Failed, 3));
    let reason = world.failed.get(&id).unwrap();
    assert_eq!(reason.code, Code::TooSlow);
    assert!(reason.message.contains("at least 277778 bytes per second"), "{}", reason.message);
    assert!(took < Duration::from_secs(3 * 3600), "{took:?}: it does not wait for each hour to end");
}

#[test]
fn an_upload_that_cannot_be_finished_any_more_is_given_up_early_and_a_fresh_one_is() {
    // A fresh Upload would do; this one lost nine minutes to a link that was taken up by something else.
    let mut world = World::new(0.02e6);
    let id = world.add(0, 1000 * MB);
    world.boot();
    world.run(9 * MINUTE);
    assert_eq!(world.rows[&id].uploads, 1);
    world.rate = 0.29e6;
    world.run(3 * MINUTE);
    assert_eq!(world.rows[&id].uploads, 2, "990 MB are missing, and 50 minutes carry 870 MB");
    world.run(DAY);
    world.assert_all_stored();
    assert_eq!(world.rows[&id].uploads, 2);
    assert!(world.cancelled > 0, "the old Upload still lived, and was cancelled");
}

#[test]
fn a_slow_minute_gives_nothing_up() {
    let mut world = World::new(0.5e6);
    let id = world.add(0, 1000 * MB);
    world.boot();
    for _ in 0..3 {
        world.run(5 * MINUTE);
        world.rate = 0.001e6;
        world.run(3 * MINUTE);
        world.rate = 0.5e6;
    }
    world.run(DAY);
    world.assert_all_stored();
    assert_eq!(world.rows[&id].uploads, 1);
}

#[test]
fn a_calendar_that_jumps_while_the_service_runs_changes_nothing() {
    for by in [-400 * 86_400_000, -3_700_000, 3_700_000, 400 * 86_400_000] {
        let mut world = World::new(0.5e6);
        let id = world.add(0, 1000 * MB);
        world.boot();
        world.run(10 * MINUTE);
        world.set_calendar(by);
        world.run(DAY);
        world.assert_all_stored();
        assert_eq!((world.rows[&id].uploads, world.server.sent), (1, 1000 * MB), "{by}");
    }
}

#[test]
fn a_kill_and_a_calendar_that_jumps_before_the_restart_change_nothing() {
    // In the same boot the deadline is kept on the boot clock.
    for by in [-400 * 86_400_000_i64, 400 * 86_400_000] {
        let mut world = World::new(0.5e6);
        let id = world.add(0, 1000 * MB);
        world.boot();
        world.run(20 * MINUTE);
        let stored = world.rows[&id].stage.session().unwrap().stored_parts();
        assert!(stored > 0);
        world.set_calendar(by);
        world.boot();
        world.run(DAY);
        world.assert_all_stored();
        assert_eq!(world.rows[&id].uploads, 1, "{by}");
    }
}

#[test]
fn a_machine_that_slept_past_the_hour_opens_a_new_upload_and_blames_nobody() {
    let mut world = World::new(0.5e6);
    let id = world.add(0, 1000 * MB);
    world.boot();
    world.run(10 * MINUTE);
    world.sleep(Duration::from_secs(7200));
    world.run(DAY);
    world.assert_all_stored();
    let job = &world.rows[&id];
    assert_eq!((job.uploads, job.restarts, job.refusals), (2, 1, 0));
}

#[test]
fn a_short_sleep_goes_on_with_the_same_upload() {
    let mut world = World::new(0.5e6);
    let id = world.add(0, 1000 * MB);
    world.boot();
    world.run(10 * MINUTE);
    world.sleep(10 * MINUTE);
    world.run(DAY);
    world.assert_all_stored();
    assert_eq!(world.rows[&id].uploads, 1);
}

#[test]
fn a_reboot_in_the_middle_goes_on_with_what_is_missing() {
    let mut world = World::new(0.5e6);
    let id = world.add(0, 1000 * MB);
    world.boot();
    world.run(20 * MINUTE);
    let before = world.server.sent;
    assert!(before > 0);
    world.reboot(2 * MINUTE);
    world.run(DAY);
    world.assert_all_stored();
    assert_eq!((world.rows[&id].uploads, world.server.sent), (1, 1000 * MB));

    let mut world = World::new(0.5e6);
    let id = world.add(0, 1000 * MB);
    world.boot();
    world.run(20 * MINUTE);
    world.reboot(Duration::from_secs(5000));
    world.run(DAY);
    world.assert_all_stored();
    assert_eq!(world.rows[&id].uploads, 2, "that one expired while the machine was off");
}

#[test]
fn holds_that_eat_the_hour_are_not_the_links_fault() {
    // Down for 50 minutes of every hour, for a day: the file needs 20 minutes of sending.
    let mut world = World::with_fault(1e6, |_, _, _, now| {
        (now.boot.0.rem_euclid(3_600_000) < 3_000_000).then(server_error)
    });
    world.add(0, 1000 * MB);
    world.boot();
    world.run(DAY);
    assert!(world.failed.is_empty(), "{:?}", world.failed);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Days of time on links from 1 to 10 000 Mbit/s, with sleeps, reboots and calendars that jump: every file that the
    /// link can carry in an hour ends as one File, and the others say that they are too slow.
    #[test]
    fn on_any_link_through_sleeps_boots_and_jumps_each_file_ends_once(
        megabits in prop_oneof![Just(1u32), Just(10), Just(100), Just(1000), Just(10_000)],
        sizes in proptest::collection::vec(prop_oneof![1u64..200_000, MB..400 * MB, 1000 * MB..4000 * MB], 1..12),
        events in proptest::collection::vec((1u64..5000, 0u8..5), 0..8),
    ) {
        let rate = f64::from(megabits) * 125_000.0;
        let mut world = World::new(rate);
        for (index, bytes) in sizes.iter().enumerate() {
            world.add(index as i64 % 3, *bytes);
        }
        world.boot();
        for (seconds, kind) in events {
            world.run(Duration::from_secs(seconds));
            match kind {
                0 => world.sleep(Duration::from_secs(seconds)),
                1 => world.reboot(Duration::from_secs(seconds)),
                2 => world.set_calendar(-100_000_000),
                3 => world.set_calendar(100_000_000),
                _ => world.boot(),
            }
        }
        world.run(30 * DAY);
        world.assert_ledger_is_the_truth();
        for (id, row) in &world.rows {
            let bytes = row.subject.fingerprint.bytes as f64;
            match row.stage.state() {
                State::Stored => {}
                State::Failed => {
                    let reason = &world.failed[id];
                    prop_assert_eq!(reason.code, Code::TooSlow);
                    prop_assert!(bytes > rate * 3600.0 * 0.9, "{} bytes at {} bytes per second: {}", bytes, rate, reason.message);
                }
                other => prop_assert!(false, "job {:?} is {other}", id),
            }
        }
    }
}

#[test]
fn an_hour_that_was_lost_to_waits_is_not_the_links_fault() {
    // Somebody has the file open for writing for six hours, after all of it was sent.
    let open_until = std::cell::Cell::new(None::<Boot>);
    let mut world = World::with_fault(1e8, move |work, _, _, now| {
        if !matches!(work, Work::Verify { .. }) {
            return None;
        }
        let until = open_until.get().unwrap_or(now.boot + 6 * Duration::from_secs(3600));
        open_until.set(Some(until));
        let message = "somebody has it open for writing".to_owned();
        (now.boot < until).then_some(Failure::Source(SourceFailure::Unreachable { message }))
    });
    world.add(0, 50 * MB);
    world.boot();
    world.run(2 * DAY);
    world.assert_all_stored();
}

#[test]
fn a_machine_that_was_off_for_days_tries_again_before_it_gives_up() {
    let mut world = World::with_fault(1e8, |_, _, _, now| {
        // No link for the first ten minutes after each boot.
        (now.boot < Boot(600_000)).then(|| Failure::Connect { message: "no route".into() })
    });
    world.now.boot = Boot(30_000);
    world.add(0, 5 * MB);
    world.boot();
    world.run(2 * MINUTE);
    world.reboot(5 * DAY);
    world.run(DAY);
    world.assert_all_stored();
}
