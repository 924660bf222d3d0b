//! How fast the link to a server was lately, so that an Upload that cannot be finished in its hour is given up early.

use std::collections::VecDeque;
use std::time::Duration;

use super::super::time::{Boot, millis};

/// Bytes are counted in steps of this.
const STEP: Duration = Duration::from_secs(10);

/// The rate is that of so many steps in a row: a minute, so that what the kernel buffers does not pass for a rate.
const WINDOW: usize = 6;

/// So many steps of sending are remembered: ten minutes. Idle time is not counted.
const KEPT: usize = 60;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Link {
    /// Steps in which something was sent, oldest first: their number since the boot, and the bytes.
    steps: VecDeque<(i64, u64)>,
}

impl Link {
    /// So many bytes went out since the last time.
    pub(super) fn moved(&mut self, bytes: u64, now: Boot) {
        let step = now.0.div_euclid(millis(STEP));
        match self.steps.back_mut() {
            Some((last, sum)) if *last == step => *sum = sum.saturating_add(bytes),
            _ => self.steps.push_back((step, bytes)),
        }
        while self.steps.len() > KEPT {
            self.steps.pop_front();
        }
    }

    /// The best rate of any minute among the last ten of sending, in bytes per second; none before there was a minute.
    pub(super) fn best(&self) -> Option<f64> {
        // The last step is not over yet.
        let whole = self.steps.len().checked_sub(1)?;
        let bytes: Vec<u64> = self.steps.iter().take(whole).map(|(_, bytes)| *bytes).collect();
        let sums = bytes.windows(WINDOW).map(|window| window.iter().sum::<u64>());
        sums.max().map(|sum| sum as f64 / (WINDOW as f64 * STEP.as_secs_f64()))
    }

    /// Whether ten minutes of sending are known.
    pub(super) fn is_well_known(&self) -> bool {
        self.steps.len() >= KEPT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Boot {
        Boot(seconds * 1000)
    }

    #[test]
    fn the_best_minute_counts_and_idle_time_does_not() {
        let mut link = Link::default();
        for second in 0..65 {
            link.moved(1_000_000, at(second));
        }
        assert_eq!(link.best(), Some(1e6));
        // An hour of nothing, then a slower link.
        for second in 3600..3900 {
            link.moved(1000, at(second));
        }
        assert_eq!(link.best(), Some(1e6), "that minute is one of the last ten of sending");
        for second in 3900..4600 {
            link.moved(1000, at(second));
        }
        assert_eq!(link.best(), Some(1e3));
        assert!(link.is_well_known());
    }

    #[test]
    fn less_than_a_minute_says_nothing() {
        let mut link = Link::default();
        assert_eq!(link.best(), None);
        for second in 0..60 {
            link.moved(1, at(second));
        }
        assert_eq!(link.best(), None);
    }
}
