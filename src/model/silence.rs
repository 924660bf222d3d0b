//! Whether a folder that is watched by events hears of what happens in it.
//!
//! Some file systems let changes appear that the kernel tells nobody of, and look like any other: a lower layer of an
//! overlay that is written to, a disk that another machine shares. So each scan counts the files that came to be since
//! the last one, long enough ago that no event can still be on its way, and that no event named. Where that happens in
//! two scans in a row, events are not to be relied on.

use std::ops::Range;
use std::time::Duration;

use super::time::Wall;

/// How late an event may be, on a machine that is busy.
pub const LATE: Duration = Duration::from_secs(30);

/// So many scans in a row have to find files that no event named: one may have a reason that nobody thought of.
const SCANS: u32 = 2;

/// What scans have found so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Silence {
    /// Births before this were judged, or say nothing.
    judged: Wall,
    unheard_in: u32,
}

/// Files that came to be in a window of time, as one scan met them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Births {
    /// Of these an event told, or of a directory that they lie in.
    pub heard: u64,
    /// Of these none did.
    pub unheard: u64,
}

impl Silence {
    /// The watches were placed, or events were lost: what came to be before `now` says nothing.
    pub fn begin(&mut self, now: Wall) {
        self.judged = now;
    }

    /// Which births a scan that begins `now` can judge; the rest is too young.
    pub fn window(&self, now: Wall) -> Range<Wall> {
        let until = now - LATE;
        self.judged..until.max(self.judged)
    }

    /// A whole scan has met these births. Whether events are not to be relied on.
    pub fn scanned(&mut self, window: &Range<Wall>, births: Births) -> bool {
        // Events were lost while it went on, or the watches were placed anew.
        if window.start != self.judged {
            return false;
        }
        self.judged = window.end;
        match births {
            Births { unheard: 0, heard: 0 } => {}
            Births { unheard: 0, .. } => self.unheard_in = 0,
            _ => self.unheard_in += 1,
        }
        self.unheard_in >= SCANS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEARD: Births = Births { heard: 3, unheard: 0 };
    const UNHEARD: Births = Births { heard: 1, unheard: 1 };
    const NONE: Births = Births { heard: 0, unheard: 0 };

    /// Scans once a minute, from the first.
    fn scans(births: &[Births]) -> Vec<bool> {
        let mut silence = Silence::default();
        silence.begin(Wall(0));
        let scan = |(minute, births): (i64, &Births)| {
            let window = silence.window(Wall(minute * 60_000));
            silence.scanned(&window, *births)
        };
        (1..).zip(births).map(scan).collect()
    }

    #[test]
    fn two_scans_in_a_row_with_files_that_no_event_named_are_silence() {
        assert_eq!(scans(&[UNHEARD, UNHEARD]), [false, true]);
        assert_eq!(scans(&[UNHEARD, HEARD, UNHEARD, UNHEARD]), [false, false, false, true]);
        assert_eq!(scans(&[HEARD, HEARD, NONE]), [false; 3]);
        assert_eq!(
            scans(&[UNHEARD, NONE, NONE, UNHEARD]),
            [false, false, false, true],
            "nothing came between"
        );
    }

    #[test]
    fn each_birth_is_judged_once_when_it_is_old_enough_and_none_from_before() {
        let mut silence = Silence::default();
        silence.begin(Wall(100_000));
        assert_eq!(silence.window(Wall(110_000)), Wall(100_000)..Wall(100_000), "an event may be on its way");
        let first = silence.window(Wall(150_000));
        assert_eq!(first, Wall(100_000)..Wall(120_000));
        assert!(!silence.scanned(&first, UNHEARD));
        assert_eq!(silence.window(Wall(170_000)), Wall(120_000)..Wall(140_000));
    }

    #[test]
    fn a_scan_in_which_events_were_lost_judges_nothing() {
        let mut silence = Silence::default();
        silence.begin(Wall(0));
        let first = silence.window(Wall(60_000));
        assert!(!silence.scanned(&first, UNHEARD));
        let second = silence.window(Wall(120_000));
        silence.begin(Wall(121_000));
        assert!(!silence.scanned(&second, UNHEARD));
        assert_eq!(silence.window(Wall(160_000)), Wall(121_000)..Wall(130_000));
    }
}
