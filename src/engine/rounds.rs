//! When it is looked for what commands ask: soon after somebody wrote, and hardly ever else.

use std::path::Path;
use std::time::Duration;

use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::watch::Bell;

/// How often it is looked although nobody rang: a disk that several machines share tells nothing of the others.
const REST: Duration = Duration::from_secs(5);

/// Looks after a ring. SQLite writes its log, waits for the disk, and only then is a commit to be seen, of which the kernel
/// tells nothing more: one look may come too early.
const LOOKS: u32 = 4;

/// See the module.
#[derive(Debug)]
pub(super) struct Rounds {
    bell: Option<Bell>,
    every: Interval,
    rest: Interval,
    /// So many looks are made before it is waited for the bell.
    left: u32,
}

impl Rounds {
    /// Rounds around `directory`, the first at once, and two never nearer than `every`. Without a bell, for the kernel has
    /// only so many, it is looked all the time.
    pub(super) fn around(directory: &Path, every: Duration) -> Rounds {
        let slowly = |period| {
            let mut interval = interval(period);
            interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
            interval
        };
        let (bell, every, mut rest) = (Bell::of(directory).ok(), slowly(every), slowly(REST));
        rest.reset();
        Rounds { bell, every, rest, left: 1 }
    }

    /// Waits until it is to be looked again; `may_rest` if nothing is known of but what would ring. May be dropped at any time.
    pub(super) async fn next(&mut self, may_rest: bool) {
        if let Some(bell) = self.bell.as_ref().filter(|_| may_rest && self.left == 0) {
            self.left = tokio::select! {
                () = bell.rung() => LOOKS,
                _ = self.rest.tick() => 1,
            };
        }
        self.every.tick().await;
        self.left = self.left.saturating_sub(1);
        self.rest.reset();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks that are made before it rests.
    async fn looks(rounds: &mut Rounds) -> u32 {
        let mut looks = 0;
        while tokio::time::timeout(Duration::from_millis(200), rounds.next(true)).await.is_ok() {
            looks += 1;
        }
        looks
    }

    #[tokio::test]
    async fn behind_a_ring_it_is_looked_more_than_once_and_then_rested() {
        let dir = tempfile::tempdir().unwrap();
        let mut rounds = Rounds::around(dir.path(), Duration::from_millis(5));
        assert_eq!(looks(&mut rounds).await, 1, "the first");
        std::fs::create_dir(dir.path().join("a")).unwrap();
        assert!(looks(&mut rounds).await >= LOOKS);
        assert_eq!(looks(&mut rounds).await, 0);
        // Where more is to be looked for, it is not rested.
        for _ in 0..10 {
            rounds.next(false).await;
        }
    }

    #[tokio::test]
    async fn without_a_bell_it_is_looked_all_the_time() {
        let mut rounds = Rounds::around(Path::new("/nowhere/at/all"), Duration::from_millis(5));
        for _ in 0..10 {
            rounds.next(true).await;
        }
    }
}
