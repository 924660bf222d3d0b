//! Scripted faults: which calls, and what they meet. The same types serve Rust and TOML.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::gate::Gate;
use crate::limits::Limits;
use crate::route::Operation;
use crate::variants::Variants;

/// A script file: `[variants]`, `[limits]` and any number of `[[fault]]`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ScriptFile {
    /// Choices to make otherwise than by default.
    pub variants: Option<Variants>,
    /// Limits to set otherwise.
    pub limits: Option<Limits>,
    /// The faults, in the order in which they act when one call meets several.
    pub fault: Vec<Fault>,
}

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

    pub(crate) fn needs_filename(&self, operation: Operation) -> bool {
        self.filename.is_some() && self.operation.is_none_or(|wanted| wanted == operation)
    }

    fn is_for(&self, operation: Operation, filename: Option<&str>) -> bool {
        self.operation.is_none_or(|wanted| wanted == operation)
            && self.filename.as_deref().is_none_or(|wanted| filename == Some(wanted))
    }

    fn includes(&self, count: u64) -> bool {
        match self.which {
            Which::All => true,
            Which::Every(nth) => count.is_multiple_of(nth),
            Which::Range { from, times } => count >= from && count - from < times,
        }
    }
}

/// A moment of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Point {
    /// The head was read, nothing of the body.
    Unread,
    /// So many bytes of the body were read (or all of it, if it is shorter).
    Body(u64),
    /// The body was read, nothing was done.
    #[default]
    Before,
    /// The work was done, nothing was answered.
    After,
    /// The answer was written to the socket.
    Answered,
}

/// What a call meets.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Action {
    /// This answer instead of the true one.
    Answer(Reply),
    /// The true answer with changes.
    Patch(Patch),
    /// A pause.
    Delay {
        /// When.
        #[serde(default)]
        at: Point,
        /// How long, in real time.
        #[serde(rename = "for", with = "duration")]
        time: Duration,
    },
    /// No answer, ever; the connection stays open.
    Stall {
        /// When. With `body` the rest of the body is not read either.
        #[serde(default)]
        at: Point,
    },
    /// The connection ends without an answer.
    Drop {
        /// When.
        #[serde(default)]
        at: Point,
        /// By RST rather than by FIN.
        #[serde(default)]
        reset: bool,
    },
    /// The true answer with its Content-Length, of which only a part is sent before the connection ends.
    Half {
        /// How many bytes of the body; half of them if not said.
        bytes: Option<usize>,
    },
    /// The body is read no faster than this.
    Slow {
        /// The rate.
        bytes_per_second: u64,
    },
    /// The Upload expires.
    Expire {
        /// When.
        #[serde(default)]
        at: Point,
    },
    /// The Upload is forgotten, or the File if the request names one.
    Purge {
        /// When.
        #[serde(default)]
        at: Point,
    },
    /// A complete that is accepted, whose File appears later.
    Late(Late),
    /// A list that does not have the newest Files.
    Lag(Lag),
    /// SIGKILL to the victim, then the connection ends (unless the answer was written).
    Kill {
        /// When.
        #[serde(default)]
        at: Point,
    },
    /// The request stands at a gate.
    #[serde(skip)]
    Hold {
        /// When.
        at: Point,
        /// Where.
        gate: Gate,
    },
}

impl Action {
    /// The connection ends without an answer.
    #[must_use]
    pub fn drop(at: Point) -> Self {
        Self::Drop { at, reset: false }
    }

    /// The connection is reset without an answer.
    #[must_use]
    pub fn reset(at: Point) -> Self {
        Self::Drop { at, reset: true }
    }

    /// No answer, ever.
    #[must_use]
    pub fn stall(at: Point) -> Self {
        Self::Stall { at }
    }

    /// SIGKILL to the victim.
    #[must_use]
    pub fn kill(at: Point) -> Self {
        Self::Kill { at }
    }

    /// A pause.
    #[must_use]
    pub fn delay(at: Point, time: Duration) -> Self {
        Self::Delay { at, time }
    }

    /// Half of the true answer.
    #[must_use]
    pub fn half() -> Self {
        Self::Half { bytes: None }
    }

    /// For the record.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Answer(reply) => format!("answer {} at {:?}", reply.status, reply.at),
            Self::Patch(_) => "patch".to_owned(),
            Self::Delay { at, .. } => format!("delay at {at:?}"),
            Self::Stall { at } => format!("stall at {at:?}"),
            Self::Drop { at, reset: false } => format!("drop at {at:?}"),
            Self::Drop { at, reset: true } => format!("reset at {at:?}"),
            Self::Half { .. } => "half".to_owned(),
            Self::Slow { .. } => "slow".to_owned(),
            Self::Expire { at } => format!("expire at {at:?}"),
            Self::Purge { at } => format!("purge at {at:?}"),
            Self::Late(_) => "late".to_owned(),
            Self::Lag(_) => "lag".to_owned(),
            Self::Kill { at } => format!("kill at {at:?}"),
            Self::Hold { at, .. } => format!("hold at {at:?}"),
        }
    }

    pub(crate) fn at(&self) -> Option<Point> {
        match self {
            Self::Answer(reply) => Some(reply.at),
            Self::Delay { at, .. }
            | Self::Stall { at }
            | Self::Drop { at, .. }
            | Self::Expire { at }
            | Self::Purge { at }
            | Self::Kill { at }
            | Self::Hold { at, .. } => Some(*at),
            Self::Patch(_) | Self::Half { .. } | Self::Slow { .. } | Self::Late(_) | Self::Lag(_) => None,
        }
    }
}

/// A scripted answer.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reply {
    /// Its status.
    pub status: u16,
    /// When it is given: `unread` is an early answer, `after` one for work that was done.
    #[serde(default)]
    pub at: Point,
    /// Headers beside those of every answer.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// What it carries.
    #[serde(default)]
    pub body: Body,
    /// `error.message`.
    pub message: Option<String>,
    /// `error.type`.
    pub kind: Option<String>,
    /// `error.code`.
    pub code: Option<String>,
    /// What happens to the connection, and to a body that was not read.
    #[serde(default)]
    pub then: Then,
}

impl Reply {
    /// An error with this status, before the work.
    #[must_use]
    pub fn status(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    /// 200 with this body.
    #[must_use]
    pub fn ok(body: Body) -> Self {
        Self { status: 200, body, ..Self::default() }
    }

    /// Given at this moment.
    #[must_use]
    pub fn at(self, at: Point) -> Self {
        Self { at, ..self }
    }

    /// With this header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.insert(name.to_lowercase(), value.to_owned());
        self
    }

    /// With this body.
    #[must_use]
    pub fn body(self, body: Body) -> Self {
        Self { body, ..self }
    }

    /// With this `error.code`.
    #[must_use]
    pub fn code(self, code: &str) -> Self {
        Self { code: Some(code.to_owned()), ..self }
    }

    /// With this `error.type`.
    #[must_use]
    pub fn kind(self, kind: &str) -> Self {
        Self { kind: Some(kind.to_owned()), ..self }
    }

    /// With this `error.message`.
    #[must_use]
    pub fn message(self, message: &str) -> Self {
        Self { message: Some(message.to_owned()), ..self }
    }

    /// What happens to the connection then.
    #[must_use]
    pub fn then(self, then: Then) -> Self {
        Self { then, ..self }
    }
}

impl From<Reply> for Action {
    fn from(reply: Reply) -> Self {
        Self::Answer(reply)
    }
}

impl From<Patch> for Action {
    fn from(patch: Patch) -> Self {
        Self::Patch(patch)
    }
}

impl From<Late> for Action {
    fn from(late: Late) -> Self {
        Self::Late(late)
    }
}

impl From<Lag> for Action {
    fn from(lag: Lag) -> Self {
        Self::Lag(lag)
    }
}

/// What a scripted answer carries.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Body {
    /// An error in the style of [`Variants::errors`].
    #[default]
    Error,
    /// A page.
    Html,
    /// Nothing.
    Empty,
    /// `application/json` that is not JSON.
    Garbage,
    /// Blanks without end.
    Endless,
    /// This text.
    Text(String),
    /// This JSON.
    Json(Value),
}

/// What follows an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Then {
    /// The rest of the body is read and thrown away; the connection stays.
    #[default]
    Linger,
    /// The rest of the body is not read; the connection stays.
    Stay,
    /// The connection is closed at once. The kernel sends RST if bytes are unread.
    Close,
    /// RST at once.
    Reset,
}

/// Changes to the JSON of the true answer, by JSON pointer.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Patch {
    /// Values to set.
    pub set: BTreeMap<String, Value>,
    /// Values to make null (TOML has no null).
    pub null: Vec<String>,
    /// Keys to remove.
    pub remove: Vec<String>,
    /// Another status.
    pub status: Option<u16>,
    /// Headers to set.
    pub headers: BTreeMap<String, String>,
}

impl Patch {
    /// Sets a value.
    #[must_use]
    pub fn set(mut self, pointer: &str, value: impl Into<Value>) -> Self {
        self.set.insert(pointer.to_owned(), value.into());
        self
    }

    /// Makes a value null.
    #[must_use]
    pub fn null(mut self, pointer: &str) -> Self {
        self.null.push(pointer.to_owned());
        self
    }

    /// Removes a key.
    #[must_use]
    pub fn remove(mut self, pointer: &str) -> Self {
        self.remove.push(pointer.to_owned());
        self
    }

    pub(crate) fn apply(&self, value: &mut Value) {
        for (pointer, new) in &self.set {
            put(value, pointer, Some(new.clone()));
        }
        for pointer in &self.null {
            put(value, pointer, Some(Value::Null));
        }
        for pointer in &self.remove {
            put(value, pointer, None);
        }
    }
}

fn put(value: &mut Value, pointer: &str, new: Option<Value>) {
    let Some((parent, key)) = pointer.rsplit_once('/') else { return };
    let Some(parent) = value.pointer_mut(parent) else { return };
    match (parent, new) {
        (Value::Object(object), Some(new)) => {
            object.insert(key.to_owned(), new);
        }
        (Value::Object(object), None) => {
            object.remove(key);
        }
        (Value::Array(array), new) => {
            let slot = key.parse::<usize>().ok().and_then(|at| array.get_mut(at));
            if let (Some(slot), Some(new)) = (slot, new) {
                *slot = new;
            }
        }
        _ => {}
    }
}

/// When the File of a complete appears, and what the client hears meanwhile.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Late {
    /// Once this much time has passed on the emulator's clock.
    #[serde(default, with = "duration::option")]
    pub after: Option<Duration>,
    /// Once so many further requests have come.
    pub requests: Option<u64>,
    /// The status that complete answers; without one the connection ends.
    pub status: Option<u16>,
}

impl Late {
    /// Lands once this much time has passed on the emulator's clock.
    #[must_use]
    pub fn after(time: Duration) -> Self {
        Self { after: Some(time), ..Self::default() }
    }

    /// Lands at the beginning of the nth request from here.
    #[must_use]
    pub fn after_requests(requests: u64) -> Self {
        Self { requests: Some(requests), ..Self::default() }
    }

    /// Lands when [`crate::Emulator::land`] is called, or never.
    #[must_use]
    pub fn on_command() -> Self {
        Self::default()
    }

    /// Answers with this status rather than by ending the connection.
    #[must_use]
    pub fn status(self, status: u16) -> Self {
        Self { status: Some(status), ..self }
    }
}

/// Which Files a list does not have yet.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lag {
    /// Those younger than this on the emulator's clock.
    #[serde(default, with = "duration::option")]
    pub younger_than: Option<Duration>,
    /// Those that have been left out of fewer lists than this.
    pub lists: Option<u64>,
}

impl Lag {
    /// Hides Files younger than this.
    #[must_use]
    pub fn younger_than(age: Duration) -> Self {
        Self { younger_than: Some(age), lists: None }
    }

    /// Hides each File from the first so many lists after it.
    #[must_use]
    pub fn lists(lists: u64) -> Self {
        Self { younger_than: None, lists: Some(lists) }
    }
}

/// The faults of a running emulator, each with its count of calls.
#[derive(Debug, Default)]
pub(crate) struct Script(Mutex<Vec<(Fault, u64)>>);

impl Script {
    pub(crate) fn add(&self, faults: impl IntoIterator<Item = Fault>) {
        let mut script = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        script.extend(faults.into_iter().map(|fault| (fault, 0)));
    }

    pub(crate) fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    pub(crate) fn needs_filename(&self, operation: Operation) -> bool {
        let script = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        script.iter().any(|(fault, _)| fault.calls.needs_filename(operation))
    }

    /// Counts this call and takes what it meets.
    pub(crate) fn draw(&self, operation: Operation, filename: Option<&str>) -> Vec<Action> {
        let mut script = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut actions = Vec::new();
        for (fault, count) in script.iter_mut().filter(|(fault, _)| fault.calls.is_for(operation, filename)) {
            *count += 1;
            if fault.calls.includes(*count) {
                actions.push(fault.action.clone());
            }
        }
        actions
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

/// Durations as `"90s"` or `"1h 30m"`.
pub(crate) mod duration {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(crate) fn serialize<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_duration(*time))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(deserializer)?;
        humantime::parse_duration(&text).map_err(D::Error::custom)
    }

    pub(crate) mod option {
        use std::time::Duration;

        use serde::{Deserialize, Deserializer, Serializer, de::Error};

        pub(crate) fn serialize<S: Serializer>(
            time: &Option<Duration>,
            serializer: S,
        ) -> Result<S::Ok, S::Error> {
            match time {
                Some(time) => super::serialize(time, serializer),
                None => serializer.serialize_none(),
            }
        }

        pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
            deserializer: D,
        ) -> Result<Option<Duration>, D::Error> {
            let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
            humantime::parse_duration(&text).map(Some).map_err(D::Error::custom)
        }
    }
}
