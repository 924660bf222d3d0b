//! Sizes and times as people write them: `"16 MiB"`, `"1h 30m"`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{self, Deserialize, Deserializer, Visitor};

/// Bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Size(pub(super) u64);

/// Bytes a second, written `"20 MiB/s"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rate(pub(super) u64);

/// A length of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Time(pub(super) Duration);

const SIZE_UNITS: [&str; 9] = ["B", "KB", "MB", "GB", "TB", "KiB", "MiB", "GiB", "TiB"];

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let unit = text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.').trim();
        let number = text.trim_end_matches(|c: char| !(c.is_ascii_digit() || c == '.'));
        if number.is_empty() || number.parse::<f64>().is_err() {
            return Err("no number".into());
        }
        if unit.is_empty() {
            return Err(format!("no unit; units are {}", SIZE_UNITS.join(", ")));
        }
        // The crate takes "M" and "mb" too; whether 1000 or 1024 was meant is then a guess.
        if !SIZE_UNITS.contains(&unit) {
            return Err(format!("no unit \"{unit}\"; units are {}", SIZE_UNITS.join(", ")));
        }
        text.parse::<bytesize::ByteSize>().map(|size| Self(size.as_u64())).map_err(|_| "no number".into())
    }
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some(size) = text.trim().strip_suffix("/s") else {
            return Err("no \"/s\" at its end".into());
        };
        size.parse::<Size>().map(|size| Self(size.0))
    }
}

impl FromStr for Time {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const UNITS: &str = "units are ms, s, m, h, d, w";
        // "15M" would be fifteen months to the crate, and months and years are not of one length.
        let is_long = |word: &str| {
            matches!(word, "M" | "month" | "months" | "y" | "yr" | "yrs" | "year" | "years" | "us" | "ns")
        };
        if let Some(word) = text.split(|c: char| !c.is_alphabetic()).find(|word| is_long(word)) {
            return Err(format!("no unit \"{word}\"; {UNITS}"));
        }
        match humantime::parse_duration(text) {
            Ok(time) => Ok(Self(time)),
            Err(humantime::DurationError::UnknownUnit { unit, .. }) if unit.is_empty() => {
                Err(format!("no unit; {UNITS}"))
            }
            Err(humantime::DurationError::UnknownUnit { unit, .. }) => {
                Err(format!("no unit \"{unit}\"; {UNITS}"))
            }
            Err(humantime::DurationError::NumberOverflow) => Err("too large".into()),
            Err(_) => Err(UNITS.into()),
        }
    }
}

/// Bytes as this module reads them back: the largest binary unit that divides them.
pub(super) fn show_size(bytes: u64) -> String {
    for (unit, factor) in [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)] {
        if bytes >= factor && bytes.is_multiple_of(factor) {
            return format!("{} {unit}", bytes / factor);
        }
    }
    format!("{bytes} B")
}

/// A time as this module reads it back: the largest unit that divides it.
pub(super) fn show_time(time: Duration) -> String {
    let millis = time.as_millis();
    for (unit, factor) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)] {
        if millis >= factor && millis.is_multiple_of(factor) {
            return format!("{}{unit}", millis / factor);
        }
    }
    format!("{millis}ms")
}

struct Text<T>(&'static str, std::marker::PhantomData<T>);

impl<T: FromStr<Err = String>> Visitor<'_> for Text<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }
}

struct SizeVisitor;

impl Visitor<'_> for SizeVisitor {
    type Value = Size;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a size such as \"16 MiB\", or a number of bytes")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Size, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_i64<E: de::Error>(self, bytes: i64) -> Result<Size, E> {
        u64::try_from(bytes).map(Size).map_err(E::custom)
    }

    fn visit_u64<E: de::Error>(self, bytes: u64) -> Result<Size, E> {
        Ok(Size(bytes))
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SizeVisitor)
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Text("a rate such as \"20 MiB/s\"", std::marker::PhantomData))
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Text("a time such as \"2s\"", std::marker::PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_exact() {
        for (text, bytes) in [
            ("16 MiB", 16 << 20),
            ("16MiB", 16 << 20),
            ("64 MB", 64_000_000),
            ("1.5 GiB", 3 << 29),
            ("512 B", 512),
        ] {
            assert_eq!(text.parse::<Size>(), Ok(Size(bytes)), "{text}");
        }
        assert_eq!("20 MiB/s".parse::<Rate>(), Ok(Rate(20 << 20)));
    }

    #[test]
    fn times_are_read_as_written() {
        for (text, seconds) in [("2s", 2.0), ("1h 30m", 5400.0), ("500ms", 0.5), ("90d", 7_776_000.0)] {
            assert_eq!(text.parse::<Time>(), Ok(Time(Duration::from_secs_f64(seconds))), "{text}");
        }
    }

    #[test]
    fn a_wrong_unit_is_answered_with_the_right_ones() {
        let sizes = "units are B, KB, MB, GB, TB, KiB, MiB, GiB, TiB";
        let times = "units are ms, s, m, h, d, w";
        assert_eq!("64 bananas".parse::<Size>(), Err(format!("no unit \"bananas\"; {sizes}")));
        assert_eq!("64M".parse::<Size>(), Err(format!("no unit \"M\"; {sizes}")));
        assert_eq!("64".parse::<Size>(), Err(format!("no unit; {sizes}")));
        assert_eq!("MiB".parse::<Size>(), Err("no number".into()));
        assert!("-1 MiB".parse::<Size>().is_err());
        assert_eq!("30 parsecs".parse::<Time>(), Err(format!("no unit \"parsecs\"; {times}")));
        assert_eq!("30".parse::<Time>(), Err(format!("no unit; {times}")));
        assert_eq!("15M".parse::<Time>(), Err(format!("no unit \"M\"; {times}")));
        assert_eq!("20 MiB".parse::<Rate>(), Err("no \"/s\" at its end".into()));
    }

    #[test]
    fn a_size_and_a_time_are_shown_as_they_may_be_written() {
        assert_eq!(show_time(Duration::from_secs(5400)), "90m");
        assert_eq!(show_time(Duration::from_millis(1500)), "1500ms");
        assert_eq!(show_size(64 << 20), "64 MiB");
        assert_eq!(show_size(1_000_000), "1000000 B");
    }
}
