//! How fast something goes on, for people: the mean of the last ten seconds, since Parts are handed over in bursts.

use std::collections::VecDeque;
use std::time::Duration;

use super::time::Boot;

/// So far back a rate looks.
const WINDOW: Duration = Duration::from_secs(10);

/// What was done at some times, oldest first.
#[derive(Clone, Debug, Default)]
pub struct Rate {
    looks: VecDeque<(Boot, u64)>,
}

impl Rate {
    /// So many bytes are done in all. What is sent a second time is no progress: fewer than before count as many.
    pub fn saw(&mut self, done: u64, now: Boot) {
        let done = self.looks.back().map_or(done, |(_, before)| done.max(*before));
        self.looks.push_back((now, done));
        // One look from before the window stays, so that all of it is known.
        while self.looks.get(1).is_some_and(|(at, _)| now.since(*at) >= WINDOW) {
            self.looks.pop_front();
        }
    }

    /// Bytes per second; none before there were two looks.
    pub fn per_second(&self) -> Option<u64> {
        let ((began, first), (ended, last)) = (self.looks.front()?, self.looks.back()?);
        let took = u64::try_from(ended.since(*began).as_millis()).ok()?;
        (last - first).saturating_mul(1_000).checked_div(took)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_over_the_last_ten_seconds_and_never_negative() {
        let mut rate = Rate::default();
        rate.saw(500, Boot(0));
        assert_eq!(rate.per_second(), None, "one look tells nothing");
        rate.saw(1_000, Boot(500));
        assert_eq!(rate.per_second(), Some(1_000));
        for second in 1..=30 {
            rate.saw(1_000 + second * 200, Boot(500 + i64::try_from(second).unwrap_or(0) * 1_000));
        }
        assert_eq!(rate.per_second(), Some(200), "what was before is forgotten");
        rate.saw(100, Boot(31_500));
        assert_eq!(rate.per_second(), Some(180), "a Part is sent again, and nothing was won");
        rate.saw(100, Boot(60_000));
        assert_eq!(rate.per_second(), Some(0));
    }
}
