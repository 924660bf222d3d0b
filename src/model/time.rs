//! Points in time, as plain numbers. Nothing here reads a clock: `clock` does, and every decision takes [`Now`].

use std::ops::{Add, Sub};
use std::time::Duration;

/// A wall-clock time: milliseconds since 1970-01-01 UTC. May jump either way; for people and for times that must
/// outlive a boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Wall(pub i64);

/// A time on CLOCK_BOOTTIME: milliseconds since this machine booted, time asleep included. Never jumps; means nothing
/// in another boot. All waiting and every deadline is measured on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Boot(pub i64);

/// One reading of both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Now {
    /// What the calendar says.
    pub wall: Wall,
    /// What the boot clock says.
    pub boot: Boot,
}

impl Now {
    /// The wall-clock time at which `boot` will come, if nobody sets the clock until then.
    pub fn wall_at(&self, boot: Boot) -> Wall {
        Wall(self.wall.0.saturating_add(boot.0.saturating_sub(self.boot.0)))
    }

    /// The boot-clock time at which the wall clock will say `wall`, if nobody sets the clock until then.
    pub fn boot_at(&self, wall: Wall) -> Boot {
        Boot(self.boot.0.saturating_add(wall.0.saturating_sub(self.wall.0)))
    }
}

/// Whole milliseconds of `duration`, saturating.
pub fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

macro_rules! arithmetic {
    ($time:ident) => {
        impl Add<Duration> for $time {
            type Output = $time;
            fn add(self, duration: Duration) -> $time {
                $time(self.0.saturating_add(millis(duration)))
            }
        }

        impl Sub<Duration> for $time {
            type Output = $time;
            fn sub(self, duration: Duration) -> $time {
                $time(self.0.saturating_sub(millis(duration)))
            }
        }

        impl $time {
            /// How long after `earlier` this is; zero if it is not.
            pub fn since(self, earlier: $time) -> Duration {
                Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
            }
        }
    };
}

arithmetic!(Wall);
arithmetic!(Boot);

impl Add<Duration> for Now {
    type Output = Now;
    fn add(self, duration: Duration) -> Now {
        Now { wall: self.wall + duration, boot: self.boot + duration }
    }
}
