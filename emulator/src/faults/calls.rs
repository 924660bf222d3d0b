//! Which calls a fault is for.

use serde::{Deserialize, Serialize};

use super::Action;
use crate::route::Operation;

/// Some calls, and what each of them meets.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct Fault {
    /// Which calls.
    pub calls: Calls,
    /// What they meet.
    pub action: Action,
}

/// Which calls a fault is for. Each fault counts its own calls, from the moment that it was added.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    operation: Option<Operation>,
    filename: Option<String>,
    which: Which,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Which {
    #[default]
    All,
    Every(u64),
    Range {
        from: u64,
        times: u64,
    },
}

impl Calls {
    /// All calls of one operation.
    #[must_use]
    pub fn of(operation: Operation) -> Self {
        Self { operation: Some(operation), ..Self::default() }
    }

    /// All calls of the API.
    #[must_use]
    pub fn any() -> Self {
        Self::default()
    }

    /// Only the nth of them, counted from 1.
    #[must_use]
    pub fn nth(self, nth: u64) -> Self {
        self.from(nth).times(1)
    }

    /// Only every nth of them.
    #[must_use]
    pub fn every(self, nth: u64) -> Self {
        Self { which: Which::Every(nth.max(1)), ..self }
    }

    /// Only from the nth on.
    #[must_use]
    pub fn from(self, nth: u64) -> Self {
        Self { which: Which::Range { from: nth, times: u64::MAX }, ..self }
    }

    /// Only so many, from where [`Calls::from`] says or the first.
    #[must_use]
    pub fn times(self, times: u64) -> Self {
        let from = if let Which::Range { from, .. } = self.which { from } else { 1 };
        Self { which: Which::Range { from, times }, ..self }
    }

    /// Only those whose Upload or File has this name.
    #[must_use]
    pub fn filename(self, name: impl Into<String>) -> Self {
        Self { filename: Some(name.into()), ..self }
    }

    /// Says what they meet.
    #[must_use]
    pub fn meet(self, action: impl Into<Action>) -> Fault {
        Fault { calls: self, action: action.into() }
    }

    pub(super) fn needs_filename(&self, operation: Operation) -> bool {
        self.filename.is_some() && self.operation.is_none_or(|wanted| wanted == operation)
    }

    pub(super) fn is_for(&self, operation: Operation, filename: Option<&str>) -> bool {
        self.operation.is_none_or(|wanted| wanted == operation)
            && self.filename.as_deref().is_none_or(|wanted| filename == Some(wanted))
    }

    pub(super) fn includes(&self, count: u64) -> bool {
        match self.which {
            Which::All => true,
            Which::Every(nth) => count.is_multiple_of(nth),
            Which::Range { from, times } => count >= from && count - from < times,
        }
    }
}

/// [`Fault`] as a script writes it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default)]
    operation: Target,
    nth: Option<u64>,
    from: Option<u64>,
    times: Option<u64>,
    every: Option<u64>,
    filename: Option<String>,
    action: Action,
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Target {
    #[default]
    Any,
    #[serde(untagged)]
    One(Operation),
}

impl TryFrom<Written> for Fault {
    type Error = &'static str;

    fn try_from(written: Written) -> Result<Self, Self::Error> {
        let Written { operation, nth, from, times, every, filename, action } = written;
        let which = match (nth, every, from, times) {
            (None, None, None, None) => Which::All,
            (Some(0), ..) | (_, Some(0), ..) | (_, _, Some(0), _) => return Err("calls are counted from 1"),
            (Some(nth), None, None, None) => Which::Range { from: nth, times: 1 },
            (None, Some(every), None, None) => Which::Every(every),
            (None, None, from, times) => {
                Which::Range { from: from.unwrap_or(1), times: times.unwrap_or(u64::MAX) }
            }
            _ => return Err("say one of `nth`, `every`, or `from` with `times`"),
        };
        let operation = if let Target::One(operation) = operation { Some(operation) } else { None };
        Ok(Self { calls: Calls { operation, filename, which }, action })
    }
}

impl From<Fault> for Written {
    fn from(fault: Fault) -> Self {
        let Calls { operation, filename, which } = fault.calls;
        let (from, times, every) = match which {
            Which::All => (None, None, None),
            Which::Every(every) => (None, None, Some(every)),
            Which::Range { from, times } => (Some(from), Some(times).filter(|times| *times < u64::MAX), None),
        };
        Self {
            operation: operation.map_or(Target::Any, Target::One),
            nth: None,
            from,
            times,
            every,
            filename,
            action: fault.action,
        }
    }
}
