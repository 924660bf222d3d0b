//! The expiry of an Upload, carried over a restart of the service or of the machine.

use std::time::Duration;

use crate::model::job::Deadline;
use crate::model::time::{Boot, Now, Wall};

/// Which boot of the machine this is: `/proc/sys/kernel/random/boot_id`. Empty: not known, and like no other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootId(pub String);

/// A deadline as the store keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedDeadline {
    /// The boot in which `boot_time` means something.
    pub boot: BootId,
    /// The deadline on that boot's clock.
    pub boot_time: Option<Boot>,
    /// The deadline by the calendar.
    pub wall: Option<Wall>,
    /// When the Upload was opened, by the calendar.
    pub opened: Wall,
}

/// How far the calendar may have been set back since the Upload was opened and still be believed: what a time server
/// corrects after a boot, not a clock that starts in 1970.
const SET_BACK: Duration = Duration::from_secs(300);

impl SavedDeadline {
    /// What to keep of a deadline that was learnt at `now`.
    pub fn of(deadline: Deadline, now: Now, boot: &BootId) -> SavedDeadline {
        let boot_time = match deadline {
            Deadline::At(at) => Some(at),
            Deadline::Unknown => None,
        };
        SavedDeadline {
            boot: boot.clone(),
            boot_time,
            wall: boot_time.map(|at| now.wall_at(at)),
            opened: now.wall,
        }
    }
}

/// The deadline on this boot's clock.
///
/// In the same boot, what was kept. In another, what the calendar leaves of it, but never more than it had when the
/// Upload was opened; a calendar that stands well before that time makes no sense, and the deadline is unknown.
pub fn resume_deadline(saved: &SavedDeadline, boot: &BootId, now: Now) -> Deadline {
    let (Some(boot_time), Some(wall)) = (saved.boot_time, saved.wall) else {
        return Deadline::Unknown;
    };
    if saved.boot == *boot && !boot.0.is_empty() {
        return Deadline::At(boot_time);
    }
    if now.wall < saved.opened - SET_BACK {
        return Deadline::Unknown;
    }
    let latest = now.boot + wall.since(saved.opened);
    Deadline::At(now.boot_at(wall).min(latest))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;

    fn boot(name: &str) -> BootId {
        BootId(name.to_owned())
    }

    fn opened() -> SavedDeadline {
        let now = Now { wall: Wall(100 * HOUR), boot: Boot(5 * HOUR) };
        SavedDeadline::of(Deadline::At(Boot(6 * HOUR)), now, &boot("a"))
    }

    #[test]
    fn the_same_boot_ignores_the_calendar() {
        let now = Now { wall: Wall(0), boot: Boot(5 * HOUR + 1) };
        assert_eq!(resume_deadline(&opened(), &boot("a"), now), Deadline::At(Boot(6 * HOUR)));
    }

    #[test]
    fn another_boot_goes_by_the_calendar() {
        let now = Now { wall: Wall(100 * HOUR + HOUR / 4), boot: Boot(1000) };
        assert_eq!(resume_deadline(&opened(), &boot("b"), now), Deadline::At(Boot(1000 + HOUR * 3 / 4)));
    }

    #[test]
    fn another_boot_finds_an_old_upload_expired() {
        let now = Now { wall: Wall(200 * HOUR), boot: Boot(1000) };
        assert_eq!(resume_deadline(&opened(), &boot("b"), now), Deadline::At(Boot(1000 - 99 * HOUR)));
    }

    #[test]
    fn a_calendar_set_back_a_little_gives_no_more_than_there_was() {
        let now = Now { wall: Wall(100 * HOUR - 200_000), boot: Boot(1000) };
        assert_eq!(resume_deadline(&opened(), &boot("b"), now), Deadline::At(Boot(1000 + HOUR)));
    }

    #[test]
    fn a_calendar_that_makes_no_sense_makes_the_deadline_unknown() {
        let now = Now { wall: Wall(0), boot: Boot(1000) };
        assert_eq!(resume_deadline(&opened(), &boot("b"), now), Deadline::Unknown);
    }

    #[test]
    fn an_unknown_boot_is_like_no_other() {
        let now = Now { wall: Wall(100 * HOUR), boot: Boot(5 * HOUR) };
        let saved = SavedDeadline { boot: boot(""), ..opened() };
        assert_eq!(resume_deadline(&saved, &boot(""), now), Deadline::At(Boot(6 * HOUR)));
        let later = Now { wall: Wall(100 * HOUR + HOUR / 2), boot: Boot(1000) };
        assert_eq!(resume_deadline(&saved, &boot(""), later), Deadline::At(Boot(1000 + HOUR / 2)));
    }

    #[test]
    fn an_unknown_deadline_stays_unknown() {
        let now = Now { wall: Wall(100 * HOUR), boot: Boot(5 * HOUR) };
        let saved = SavedDeadline::of(Deadline::Unknown, now, &boot("a"));
        assert_eq!(resume_deadline(&saved, &boot("a"), now), Deadline::Unknown);
    }
}
