//! Points in time: as they are written on the command line, and as they are shown.

use std::str::FromStr;
use std::time::Duration;

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

use crate::model::time::Wall;

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

/// A time that came as RFC 3339, for people; what is none stays as it is.
pub(super) fn local_of(text: &str) -> String {
    text.parse::<Timestamp>().map_or_else(|_| text.to_owned(), |time| local(Wall(time.as_millisecond())))
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
