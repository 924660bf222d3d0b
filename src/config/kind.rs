//! What a value may be: one check, used for the file and for the environment alike, strict where
//! the crate `config` coerces (`"yes"` is not `true`, `"12"` is not 12).

use std::str::FromStr;
use std::time::Duration;

use toml::Value;

use super::units::{Rate, Size, Time, show_size, show_time};

/// Says in words why a text will not do, so that «`"TEXT"` WORDS» reads as a sentence.
pub(super) type TextCheck = fn(&str) -> Result<(), String>;

/// Bytes per second that a rate may not be below: less moves no file, and is a slip of the pen.
const LEAST_RATE: u64 = 1024;

/// What a value of the schema may be. `auto` allows the word "auto" besides.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Bool,
    /// True, false or this word.
    BoolOr(&'static str),
    Text {
        check: TextCheck,
        example: &'static str,
    },
    Word(&'static [&'static str]),
    Count {
        min: i64,
        max: i64,
        auto: bool,
    },
    Time {
        min: Duration,
        max: Duration,
        auto: bool,
    },
    Size {
        min: u64,
        max: u64,
        auto: bool,
    },
    Rate,
    Texts {
        check: TextCheck,
        may_be_empty: bool,
        example: &'static str,
    },
    TextTable,
    /// A word, true or false if `flags`, or a table with this one key, whose value is a text.
    Shape {
        words: &'static [&'static str],
        flags: bool,
        table: &'static str,
    },
}

/// Why a value will not do, and what would.
pub(super) struct Wrong {
    pub(super) message: String,
    pub(super) remedy: String,
}

impl Kind {
    pub(super) fn check(&self, value: &Value) -> Result<(), Wrong> {
        if self.allows_auto() && value.as_str() == Some("auto") {
            return Ok(());
        }
        match (self, value) {
            (Self::Bool | Self::BoolOr(_), Value::Boolean(_)) => Ok(()),
            (Self::BoolOr(word), Value::String(text)) if text == word => Ok(()),
            (Self::Text { check, .. }, Value::String(text)) => match check(text) {
                _ if text.is_empty() => Err(self.wrong(value, "is empty")),
                Err(why) => Err(self.wrong(value, &why)),
                Ok(()) => Ok(()),
            },
            (Self::Word(words), Value::String(text)) if words.contains(&text.as_str()) => Ok(()),
            (Self::Count { min, max, .. }, Value::Integer(n)) if (min..=max).contains(&n) => Ok(()),
            (Self::Time { min, max, .. }, Value::String(text)) => match text.parse::<Time>() {
                Ok(Time(time)) if (min..=max).contains(&&time) => Ok(()),
                Ok(_) => Err(self.not(value, "")),
                Err(why) => Err(self.not(value, &why)),
            },
            (Self::Size { .. }, Value::String(text)) => match text.parse::<Size>() {
                Ok(Size(bytes)) if self.holds(bytes) => Ok(()),
                Ok(_) => Err(self.not(value, "")),
                Err(why) => Err(self.not(value, &why)),
            },
            (Self::Size { .. }, Value::Integer(n)) if u64::try_from(*n).is_ok_and(|n| self.holds(n)) => {
                Ok(())
            }
            (Self::Rate, Value::String(text)) => match text.parse::<Rate>() {
                Ok(Rate(bytes)) if bytes >= LEAST_RATE => Ok(()),
                Ok(_) => Err(self.not(value, "")),
                Err(why) => Err(self.not(value, &why)),
            },
            (Self::Texts { may_be_empty: false, .. }, Value::Array(list)) if list.is_empty() => {
                Err(self.wrong(value, "is empty, so that nothing would match"))
            }
            (Self::Texts { check, .. }, Value::Array(list)) => list.iter().try_for_each(|item| match item {
                Value::String(text) if text.is_empty() => Err(self.wrong(item, "is empty")),
                Value::String(text) => check(text).map_err(|why| self.wrong(item, &why)),
                _ => Err(self.wrong(item, "is not a text")),
            }),
            (Self::TextTable, Value::Table(table)) => match table.iter().find(|(_, value)| !value.is_str()) {
                Some((name, value)) => {
                    Err(self.wrong(value, &format!("is not a text, as the value of {name} must be")))
                }
                None => Ok(()),
            },
            (Self::Shape { words, .. }, Value::String(text)) if words.contains(&text.as_str()) => Ok(()),
            (Self::Shape { flags: true, .. }, Value::Boolean(_)) => Ok(()),
            (Self::Shape { table, .. }, Value::Table(given))
                if given.len() == 1
                    && given.get(*table).and_then(Value::as_str).is_some_and(|text| !text.is_empty()) =>
            {
                Ok(())
            }
            _ => Err(self.not(value, "")),
        }
    }

    /// The value that a text from the environment stands for; what does not parse stays a text, for
    /// [`Kind::check`] to refuse.
    pub(super) fn read_text(&self, text: &str) -> Value {
        let parsed = match self {
            Self::Bool | Self::BoolOr(_) => text.parse().ok().map(Value::Boolean),
            Self::Count { .. } | Self::Size { .. } => text.parse().ok().map(Value::Integer),
            Self::Texts { .. } | Self::TextTable | Self::Shape { .. } => Value::from_str(text).ok(),
            Self::Text { .. } | Self::Word(_) | Self::Time { .. } | Self::Rate => None,
        };
        parsed.unwrap_or_else(|| Value::String(text.to_owned()))
    }

    fn allows_auto(&self) -> bool {
        matches!(
            self,
            Self::Count { auto: true, .. } | Self::Time { auto: true, .. } | Self::Size { auto: true, .. }
        )
    }

    fn holds(&self, bytes: u64) -> bool {
        matches!(self, Self::Size { min, max, .. } if (min..=max).contains(&&bytes))
    }

    fn wrong(&self, value: &Value, why: &str) -> Wrong {
        let remedy = match self.example() {
            "" => String::new(),
            example => format!("for example {example}"),
        };
        Wrong { message: format!("{} {why}", show(value)), remedy }
    }

    fn not(&self, value: &Value, why: &str) -> Wrong {
        let mut wrong = self.wrong(value, &format!("is not {}", self.expected()));
        if !why.is_empty() {
            wrong.message = format!("{}: {why}", wrong.message);
        }
        // Quotes around what would do without them are the commonest slip.
        if let Value::String(text) = value {
            let unquoted = self.read_text(text);
            if matches!(unquoted, Value::Integer(_) | Value::Boolean(_)) && self.check(&unquoted).is_ok() {
                wrong.remedy = format!("write {text} without quotes");
            }
        }
        wrong
    }

    fn expected(&self) -> String {
        let words = |words: &[&str]| words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>();
        let expected = match self {
            Self::Bool => "true or false".into(),
            Self::BoolOr(word) => format!("true, false or \"{word}\""),
            Self::Text { .. } => "a text".into(),
            Self::Word(allowed) => format!("one of {}", words(allowed).join(", ")),
            Self::Count { min, max, .. } => format!("a whole number from {min} to {max}"),
            Self::Time { min, max, .. } => format!("a time from {} to {}", show_time(*min), show_time(*max)),
            Self::Size { min, max, .. } => format!("a size from {} to {}", show_size(*min), show_size(*max)),
            Self::Rate => format!("a rate from {}/s", show_size(LEAST_RATE)),
            Self::Texts { .. } => "a list of texts".into(),
            Self::TextTable => "a table of texts".into(),
            Self::Shape { words: allowed, flags, table } => {
                let mut shapes = if *flags { vec!["true".into(), "false".into()] } else { words(allowed) };
                shapes.push(format!("{{ {table} = \"DIRECTORY\" }}"));
                format!("one of {}", shapes.join(", "))
            }
        };
        if self.allows_auto() { format!("{expected}, or \"auto\"") } else { expected }
    }

    fn example(&self) -> &'static str {
        match self {
            // What is allowed was listed whole.
            Self::Bool | Self::BoolOr(_) | Self::Word(_) | Self::Shape { .. } => "",
            Self::Text { example, .. } | Self::Texts { example, .. } => example,
            Self::Count { .. } => "8",
            Self::Time { max, .. } if *max <= Duration::from_secs(3600) => "\"10s\"",
            Self::Time { min, .. } if *min >= Duration::from_secs(3600) => "\"7d\"",
            Self::Time { .. } => "\"10s\" or \"1h 30m\"",
            Self::Size { .. } => "\"16 MiB\"",
            Self::Rate => "\"20 MiB/s\"",
            Self::TextTable => "{ api-version = \"2024-10-21\" }",
        }
    }
}

/// A value as it may be quoted in a line of a log: short, and never a key or a password that was
/// put in the wrong place.
fn show(value: &Value) -> String {
    const LONGEST: usize = 80;
    match value {
        Value::String(text) if may_be_secret(text) => "the value".into(),
        Value::String(text) if text.chars().count() > LONGEST => {
            format!("\"{}…\"", text.chars().take(LONGEST).collect::<String>())
        }
        Value::String(text) => format!("\"{text}\""),
        Value::Array(list) if list.is_empty() => "the list".into(),
        Value::Array(_) => "a list".into(),
        Value::Table(_) => "a table".into(),
        other => other.to_string(),
    }
}

/// A word that begins as OpenAI's keys do, or a URL with a user in it.
fn may_be_secret(text: &str) -> bool {
    text.split(|c: char| !c.is_alphanumeric() && c != '-' && c != '_').any(|word| word.starts_with("sk-"))
        || (text.contains("://") && text.contains('@'))
}
