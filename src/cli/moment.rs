//! Points in time: as they are written on the command line, and as they are shown.

use std::str::FromStr;
use std::time::Duration;

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

use crate::model::time::Wall;
use crate::text::duration;

/// A time as an argument gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    /// RFC 3339.
    At(Wall),
    /// A date, with a time or from midnight, where this machine is.
    Local(DateTime),
    /// So long ago.
    Ago(Duration),
}

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Moment, String> {
        if let Ok(time) = text.parse::<Timestamp>() {
            return Ok(Moment::At(Wall(time.as_millisecond())));
        }
        if let Ok(date) = text.parse::<Date>()
            && text.len() == "2026-11-22".len()
        {
            return Ok(Moment::Local(date.at(0, 0, 0, 0)));
        }
        if let Ok(time) = text.parse::<DateTime>() {
            return Ok(Moment::Local(time));
        }
        humantime::parse_duration(text).map(Moment::Ago).map_err(|_| {
            "say a time (2026-11-22T17:00:00Z), a date (2026-11-22) or how long ago (2h, 7d)".to_owned()
        })
    }
}

impl Moment {
    /// The time itself.
    pub(super) fn resolve(self, now: Wall, zone: &TimeZone) -> Wall {
        match self {
            Moment::At(time) => time,
            Moment::Ago(duration) => now - duration,
            Moment::Local(time) => {
                // A time that a change of the clocks leaves out or has twice is taken as RFC 5545 does; one that no
                // calendar has is as far away as can be.
                zone.to_ambiguous_timestamp(time)
                    .compatible()
                    .map_or(Wall(i64::MAX), |time| Wall(time.as_millisecond()))
            }
        }
    }
}

/// The time zone of this machine or of `$TZ`.
pub(super) fn zone() -> TimeZone {
    TimeZone::system()
}

/// A time for people, to the second.
pub(super) fn local(time: Wall) -> String {
    format(time, "%Y-%m-%d %H:%M:%S")
}

/// The same to the minute, for tables.
pub(super) fn local_minute(time: Wall) -> String {
    format(time, "%Y-%m-%d %H:%M")
}

/// The time now, and where this machine is: what is shown of another time depends on both.
#[derive(Clone, Debug)]
pub(super) struct Clockface {
    now: Wall,
    zone: TimeZone,
}

impl Clockface {
    /// At this time, here.
    pub(super) fn at(now: Wall) -> Clockface {
        Clockface { now, zone: zone() }
    }

    /// At this time in UTC.
    #[cfg(test)]
    pub(super) fn utc(now: Wall) -> Clockface {
        Clockface { now, zone: TimeZone::UTC }
    }

    /// A time that came as RFC 3339, for people: how far away, and when. What is none stays as it is.
    pub(super) fn when(&self, text: &str) -> String {
        let Ok(time) = text.parse::<Timestamp>() else { return text.to_owned() };
        self.when_at(Wall(time.as_millisecond()))
    }

    /// The same of a time at which something is done next: one that has come is now.
    pub(super) fn next(&self, text: &str) -> String {
        let has_come = text.parse::<Timestamp>().is_ok_and(|time| time.as_millisecond() <= self.now.0);
        if has_come { "now".to_owned() } else { self.when(text) }
    }

    /// The same of a time.
    pub(super) fn when_at(&self, time: Wall) -> String {
        let (Some(at), Some(now)) = (self.zoned(time), self.zoned(self.now)) else { return local(time) };
        let format = if at.date() == now.date() { "%H:%M:%S" } else { "%Y-%m-%d %H:%M:%S" };
        let away = |duration: Duration| whole_seconds(duration.as_secs());
        let how_far = if time > self.now {
            format!("in {}", away(time.since(self.now)))
        } else {
            format!("{} ago", away(self.now.since(time)))
        };
        format!("{how_far} ({})", at.strftime(format))
    }

    fn zoned(&self, time: Wall) -> Option<Zoned> {
        Timestamp::from_millisecond(time.0).ok().map(|time| Zoned::new(time, self.zone.clone()))
    }
}

/// A duration that is counted in seconds: without tenths.
pub(super) fn whole_seconds(seconds: u64) -> String {
    if seconds < 10 { format!("{seconds} s") } else { duration(Duration::from_secs(seconds)) }
}

fn format(time: Wall, format: &str) -> String {
    Timestamp::from_millisecond(time.0)
        .map(|time| Zoned::new(time, zone()).strftime(format).to_string())
        .unwrap_or_else(|_| "unknown".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::rfc3339;

    #[test]
    fn a_time_is_shown_by_how_far_away_it_is_and_when() {
        let face = Clockface { now: Wall(1_795_366_800_000), zone: TimeZone::fixed(jiff::tz::offset(2)) };
        for (text, expected) in [
            ("2026-11-22T16:59:57.5Z", "2 s ago (18:59:57)"),
            ("2026-11-22T17:00:00Z", "0 s ago (19:00:00)"),
            ("2026-11-22T17:01:05Z", "in 1 min 5 s (19:01:05)"),
            ("2026-11-22T22:00:00Z", "in 5 h 0 min (2026-11-23 00:00:00)"),
            ("2026-11-20T17:00:00Z", "2 d 0 h ago (2026-11-20 19:00:00)"),
            ("soon", "soon"),
        ] {
            assert_eq!(face.when(text), expected);
        }
        assert_eq!(face.next("2026-11-22T17:00:00Z"), "now");
        assert_eq!(face.next("2026-11-22T17:00:09Z"), "in 9 s (19:00:09)");
    }

    #[test]
    fn a_time_is_rfc_3339_a_date_or_how_long_ago() {
        let now = Wall(1_795_366_800_000);
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        for (text, expected) in [
            ("2026-11-22T10:00:00Z", "2026-11-22T10:00:00.000Z"),
            ("2026-11-22T10:00:00.5+01:00", "2026-11-22T09:00:00.500Z"),
            ("2026-11-22", "2026-11-21T22:00:00.000Z"),
            ("2026-11-22T10:30", "2026-11-22T08:30:00.000Z"),
            ("2h", "2026-11-22T15:00:00.000Z"),
            ("7d", "2026-11-15T17:00:00.000Z"),
            ("1h 30m", "2026-11-22T15:30:00.000Z"),
        ] {
            let moment: Moment = text.parse().unwrap();
            assert_eq!(rfc3339(moment.resolve(now, &zone)), expected, "{text}");
        }
        for text in ["", "yesterday", "5", "2026-13-01", "-2h"] {
            assert!(text.parse::<Moment>().unwrap_err().starts_with("say a time"), "{text}");
        }
    }
}
