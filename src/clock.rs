//! The only place that reads time.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::time::{ClockId, Timespec, clock_gettime};

use crate::model::time::{Boot, Now, Wall};

/// Where time comes from: the kernel, or a test.
#[derive(Clone, Debug)]
pub enum Clock {
    /// CLOCK_REALTIME and CLOCK_BOOTTIME.
    System,
    /// Stands still until it is moved.
    Manual(Arc<Mutex<Now>>),
}

impl Clock {
    /// A clock that stands still at `now`.
    pub fn manual(now: Now) -> Clock {
        Clock::Manual(Arc::new(Mutex::new(now)))
    }

    /// Both times.
    pub fn now(&self) -> Now {
        match self {
            Clock::System => Now { wall: calendar(), boot: Boot(millis(clock_gettime(ClockId::Boottime))) },
            Clock::Manual(now) => *now.lock().unwrap_or_else(PoisonError::into_inner),
        }
    }

    /// Moves a manual clock forward; the kernel's is left alone.
    pub fn advance(&self, by: Duration) {
        if let Clock::Manual(now) = self {
            let mut now = now.lock().unwrap_or_else(PoisonError::into_inner);
            *now = *now + by;
        }
    }
}

/// By way of the C library, so that tools that shift a program's calendar (faketime) reach this one. What waits and
/// expires goes by the boot clock, which comes from the kernel itself.
#[expect(clippy::disallowed_methods, reason = "this is the place")]
fn calendar() -> Wall {
    let since = |time: Result<Duration, std::time::SystemTimeError>| match time {
        Ok(after) => crate::model::time::millis(after),
        Err(before) => -crate::model::time::millis(before.duration()),
    };
    Wall(since(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)))
}

fn millis(time: Timespec) -> i64 {
    time.tv_sec.saturating_mul(1000).saturating_add(time.tv_nsec / 1_000_000)
}

/// Time since some moment in the past, to the nanosecond: for what is shorter than the clocks above can tell.
pub fn monotonic() -> Duration {
    let time = clock_gettime(ClockId::Monotonic);
    // Neither is ever negative.
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// What names this boot of the machine: CLOCK_BOOTTIME of another means nothing here.
pub fn boot_id() -> String {
    // Without /proc every start counts as another boot, and deadlines go by the wall clock.
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|id| id.trim().to_owned())
        .unwrap_or_else(|_| format!("unknown-{}", std::process::id()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_boot_clock_is_that_of_the_kernel() {
        let uptime = std::fs::read_to_string("/proc/uptime").unwrap();
        let seconds: f64 = uptime.split_whitespace().next().unwrap().parse().unwrap();
        let boot = Clock::System.now().boot.0 as f64 / 1000.0;
        assert!((boot - seconds).abs() < 5.0, "{boot} against {seconds}");
        assert!(!boot_id().is_empty());
    }
}
