//! How fast bytes may go out, all bodies together (`[upload] bandwidth_limit`).
//!
//! Each body asks for leave to send its next few bytes and is told how long to wait. Leaves are of one size and given in
//! the order in which they were asked for, so bodies that always have something to send get equal shares, and what
//! one of them does not use the others have.

use std::time::Duration;

/// A timer that wakes late, or a body that was not ready for a moment, may be made up for by so much at once. Over ten
/// seconds it is half a percent.
const MADE_UP: Duration = Duration::from_millis(50);

/// So many leaves a second where the rate allows it: long against the millisecond of a timer, short enough that no
/// connection is idle for long.
const LEAVES: u64 = 64;

/// Bytes of the smallest leave, where a few are given in a second.
const LEAST: u64 = 1024;

/// The limit, and what of it is taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bandwidth {
    /// Bytes per second, at least one.
    rate: u64,
    /// When what was given leave so far has gone out, on the caller's clock.
    free_at: Duration,
}

impl Bandwidth {
    /// At most `rate` bytes per second; zero is taken for one.
    pub fn new(rate: u64) -> Bandwidth {
        Bandwidth { rate: rate.max(1), free_at: Duration::ZERO }
    }

    /// Takes leave to send the next of `left` bytes: how many, and how long to wait before. `now` is on any clock that
    /// never goes back.
    pub fn take(&mut self, left: u64, now: Duration) -> (u64, Duration) {
        let bytes = (self.rate / LEAVES).max(LEAST).min(left);
        let begin = self.free_at.max(now.saturating_sub(MADE_UP));
        let lasts = u128::from(bytes) * 1_000_000_000 / u128::from(self.rate);
        let lasts = Duration::from_nanos(u64::try_from(lasts).unwrap_or(u64::MAX));
        self.free_at = begin.saturating_add(lasts);
        (bytes, begin.saturating_sub(now))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What each of `bodies` had sent after `lasts`. A body asks anew as soon as its bytes left, and where it has to wait
    /// its timer is `late`.
    fn sent(rate: u64, bodies: usize, lasts: Duration, late: impl Fn(usize) -> Duration) -> Vec<u64> {
        let mut bandwidth = Bandwidth::new(rate);
        let start = Duration::from_secs(1_000);
        let mut sent = vec![0; bodies];
        let mut leaves: Vec<(Duration, u64)> = Vec::new();
        for _ in 0..bodies {
            let (bytes, wait) = bandwidth.take(u64::MAX, start);
            leaves.push((start + wait, bytes));
        }
        for turn in 0.. {
            let (body, (at, bytes)) =
                leaves.iter().copied().enumerate().min_by_key(|(_, leave)| *leave).unwrap();
            if at >= start + lasts {
                break;
            }
            sent[body] += bytes;
            let (bytes, wait) = bandwidth.take(u64::MAX, at);
            leaves[body] = (at + if wait.is_zero() { wait } else { wait + late(turn) }, bytes);
        }
        sent
    }

    #[test]
    fn ten_seconds_of_sending_are_within_three_percent_of_the_limit_and_shared_evenly() {
        for rate in [100_000, 1 << 20, 20 << 20, 1_000_000_000] {
            for bodies in [1, 2, 8, 40] {
                let sent = sent(rate, bodies, Duration::from_secs(10), |turn| {
                    // Timers of the runtime are up to a millisecond late.
                    Duration::from_micros(turn as u64 * 7919 % 1000)
                });
                let ratio = sent.iter().sum::<u64>() as f64 / (rate as f64 * 10.0);
                assert!((0.97..=1.03).contains(&ratio), "{rate} and {bodies}: {ratio}");
                let (least, most) = (sent.iter().min().unwrap(), sent.iter().max().unwrap());
                let leave = Bandwidth::new(rate).take(u64::MAX, Duration::ZERO).0;
                // One that need not wait may use what is made up for before the others wake.
                assert!(most - least <= (2 * leave).max(least / 30), "{rate} and {bodies}: {sent:?}");
            }
        }
    }

    #[test]
    fn what_one_does_not_use_the_others_have() {
        let mut bandwidth = Bandwidth::new(1_000);
        let now = Duration::from_secs(1);
        assert_eq!(bandwidth.take(1_000, now), (1_000, Duration::ZERO));
        // Another one asks, and then goes away: the next waits for what it asked for, and no longer.
        let wait = Duration::from_millis(950);
        assert_eq!(bandwidth.take(100, now), (100, wait));
        assert_eq!(bandwidth.take(100, now), (100, wait + Duration::from_millis(100)));
    }

    #[test]
    fn a_pause_saves_up_no_more_than_a_moment() {
        let mut bandwidth = Bandwidth::new(1_000);
        let _ = bandwidth.take(1_000, Duration::from_secs(1));
        let now = Duration::from_secs(100);
        let at_once = (0..).take_while(|_| bandwidth.take(10, now).1.is_zero()).count();
        assert_eq!(at_once, 6, "50 bytes are made up for, and then it is full");
    }

    proptest! {
        #[test]
        fn never_more_than_the_limit(
            rate in 1u64..10_000_000_000,
            asks in proptest::collection::vec((1u64..100_000, 0u64..200_000), 1..200),
        ) {
            let mut bandwidth = Bandwidth::new(rate);
            let mut now = Duration::from_secs(5);
            let first = now;
            let mut total = 0u128;
            for (left, micros) in asks {
                now += Duration::from_micros(micros);
                let (bytes, wait) = bandwidth.take(left, now);
                prop_assert!(bytes >= 1 && bytes <= left);
                // What left before these fits into the time until then, and what is made up for.
                let room = (now + wait - first + MADE_UP).as_nanos() * u128::from(rate) / 1_000_000_000;
                let rounding = 200 * (u128::from(rate) / 1_000_000_000 + 1);
                prop_assert!(total <= room + rounding, "{total} of {room}");
                total += u128::from(bytes);
            }
        }
    }
}
