//! `parallel_parts = "auto"`: how many Parts at once, on links that one connection fills and on others.

use std::time::Duration;

use super::super::tuner::{FIRST, MOST};
use super::super::{Bound, Work};
use super::world::{MB, World};
use super::{DAY, server_error};
use crate::model::failure::{Facts, Failure};
use crate::model::job::Stage;

/// Sends so many files of 4 GB over a link of `rate` whose connections carry `each`; how long that takes.
fn send(parallel: Option<usize>, rate: f64, each: f64, files: usize) -> (World, Duration) {
    let mut world = World::new(rate);
    (world.each, world.parallel) = (each, parallel);
    for _ in 0..files {
        world.add(0, 4000 * MB);
    }
    world.boot();
    let took = world.run(DAY);
    world.assert_all_stored();
    assert!(world.rows.values().all(|job| job.uploads == 1), "no Upload expired");
    assert_eq!(world.server.sent, files as u64 * 4000 * MB, "no byte was sent twice");
    (world, took)
}

#[test]
fn a_far_server_gets_as_many_connections_as_fill_the_link() {
    let (rate, each) = (100e6, 4e6);
    let ideal = 40.0 * 4000.0 * MB as f64 / rate;
    let (world, took) = send(None, rate, each, 40);
    assert!(took.as_secs_f64() < ideal * 1.25, "{took:?} against {ideal} s");
    assert!(world.most_parts > 20 && world.most_parts <= MOST, "{}", world.most_parts);
    let (_, fixed) = send(Some(FIRST), rate, each, 40);
    assert!(took.as_secs_f64() < fixed.as_secs_f64() * 0.45, "{took:?} against {fixed:?} with eight");
}

#[test]
fn a_link_that_one_connection_fills_is_no_slower_for_what_was_tried() {
    let (world, took) = send(None, 10e6, f64::INFINITY, 10);
    let ideal = 10.0 * 4000.0 * MB as f64 / 10e6;
    assert!(took.as_secs_f64() < ideal * 1.02, "{took:?} against {ideal} s");
    assert_eq!(world.board.slots_bound(), Some(Bound::Link));
    assert!(world.most_parts <= FIRST + FIRST / 2, "{}", world.most_parts);
}

#[test]
fn a_server_that_asks_for_a_slower_pace_is_not_sent_more_at_once() {
    let mut world = World::new(100e6);
    (world.each, world.parallel) = (4e6, None);
    for _ in 0..4 {
        world.add(0, 4000 * MB);
    }
    // Each sixth Part, so that it begins before anything was found out.
    let count = std::cell::Cell::new(0);
    world.fault = Box::new(move |work, _, _, _| {
        count.set(count.get() + u32::from(matches!(work, Work::Part { .. })));
        let slow = matches!(work, Work::Part { .. }) && count.get().is_multiple_of(6);
        slow.then(|| match server_error() {
            Failure::Refused { kind, code, message, .. } => {
                let facts =
                    Facts { status: 429, retry_after: Some(Duration::from_secs(1)), ..Facts::default() };
                Failure::Refused { facts, kind, code, message }
            }
            other => other,
        })
    });
    world.boot();
    let mut paced = 0;
    while !world.board.is_done() {
        world.one();
        paced += usize::from(world.board.slots_bound() == Some(Bound::Pace));
    }
    world.assert_all_stored();
    assert!(paced > 100, "{paced}");
    assert_eq!(world.most_parts, FIRST);
}

#[test]
fn an_account_that_has_nothing_more_to_send_slows_no_other_down_for_good() {
    let refused = |status, retry_after| match server_error() {
        Failure::Refused { kind, code, message, .. } => {
            Failure::Refused { facts: Facts { status, retry_after, ..Facts::default() }, kind, code, message }
        }
        other => other,
    };
    let mut world = World::new(10e6);
    let slowed = world.add_for(0, 1000 * MB, "other");
    for _ in 0..4 {
        world.add_for(1, 4000 * MB, "default");
    }
    // It is asked to slow down, and then its only file is none that the server takes.
    let asked = std::cell::Cell::new(0);
    world.fault = Box::new(move |work, job, _, _| {
        let is_part = job == Some(slowed) && matches!(work, Work::Part { .. });
        asked.set(asked.get() + usize::from(is_part));
        is_part.then(|| match asked.get() {
            ..=20 => refused(429, Some(Duration::from_secs(1))),
            _ => refused(400, None),
        })
    });
    world.boot();
    let mut fewest = FIRST;
    while !world.board.is_done() {
        world.one();
        fewest = fewest.min(world.board.slots().1);
    }
    assert_eq!(world.rows[&slowed].stage, Stage::Failed);
    assert!(fewest < FIRST, "{fewest}");
    assert_eq!((world.board.slots().1, world.board.paces().count()), (FIRST, 0));
}
