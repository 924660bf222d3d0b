//! Every fault that an operation can meet, made from the emulator's vocabulary.

use std::time::Duration;

use serde_json::{Value, json};
use upspool_emulator::{Action, Body, Lag, Late, Operation, Patch, Point, Reply, Then};

/// The key of all cases. Some answers repeat it, as servers do; it may stand in no line of the log.
pub const KEY: &str = "sk-matrix-3fc1b7e2a90d";

/// Stands for the address of a server that must never be asked anything.
pub const THIEF: &str = "<the address of another server>";
/// Stands for the id of an Upload that another program opened.
pub const OTHER_UPLOAD: &str = "<the id of another Upload>";
/// Stands for the id of a File that another program made.
pub const OTHER_FILE: &str = "<the id of another File>";

/// A fault, and what the contract says of it.
#[derive(Clone, Debug)]
pub struct Fault {
    pub name: String,
    pub action: Action,
    /// What the client can take it for: one of these.
    pub seen: Vec<Seen>,
    /// Whether the server does what was asked.
    pub acts: bool,
    /// How the Upload ends beside it.
    pub ends_upload: Option<Point>,
    /// Whether it takes seconds rather than milliseconds.
    pub slow: bool,
    /// Whether the connection ends after a whole answer: the next request on it, of whichever file, may be lost.
    pub rough: bool,
}

/// What the client can take an answer for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// The answer that the server gave.
    True,
    /// «Not now», or for a reason that is no file's fault; nothing was done.
    Wait,
    /// The same of a gateway, behind which something may have been done.
    WaitInDoubt,
    /// «Never like this».
    Refusal,
    /// No whole answer, or one that is not what the API promises.
    Lost,
    /// A whole answer, of which a value is not true.
    Changed(Change),
}

/// Which value is not true.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The Upload is said to have ended without a File.
    Ended,
    /// The File has an id that it does not have.
    FileId,
    /// Another.
    Other,
}

const POINTS: [Point; 3] = [Point::Unread, Point::Before, Point::After];

/// The points that can be told apart: a request without body that changes nothing has one.
fn points(operation: Operation) -> &'static [Point] {
    if names_upload(operation) { &POINTS } else { &POINTS[1..2] }
}
const THENS: [Then; 4] = [Then::Linger, Then::Stay, Then::Close, Then::Reset];

/// The classes of refusals and each that means something of its own.
const STATUSES: [u16; 42] = [
    400, 401, 402, 403, 404, 405, 406, 407, 408, 409, 410, 411, 412, 413, 414, 415, 416, 417, 418, 421, 422,
    423, 424, 425, 426, 428, 429, 431, 451, 499, 500, 501, 502, 503, 504, 505, 507, 511, 520, 524, 529, 599,
];

/// What the API's guide calls being out of money or quota.
const QUOTA: [&str; 5] = [
    "insufficient_quota",
    "credit_balance_exhausted",
    "organization_spend_limit_exceeded",
    "project_spend_limit_exceeded",
    "organization_usage_limit_exceeded",
];

/// Bodies that no answer of the API has.
fn bodies() -> Vec<(&'static str, Body)> {
    let mut deep = "[".repeat(3000);
    deep.push_str(&"]".repeat(3000));
    vec![
        ("error", Body::Error),
        ("html", Body::Html),
        ("empty", Body::Empty),
        ("garbage", Body::Garbage),
        ("endless", Body::Endless),
        ("text", Body::Text(format!("\u{1b}[31mno\r\nnever\0 {KEY} \u{202e}"))),
        ("array", Body::Json(json!([1, "two", null]))),
        ("no fields", Body::Json(json!({}))),
        ("odd error", Body::Json(json!({"error": {"message": {"a": [KEY]}, "code": 17, "type": false}}))),
        ("deep", Body::Text(deep)),
        ("1 MB", Body::Text("x\n".repeat(500_000))),
    ]
}

/// What a client can take this status for, whatever the body.
fn seen_of(status: u16) -> Seen {
    match status {
        200..=299 => Seen::Lost,
        300..=399 | 401 | 403 | 409 | 429 => Seen::Wait,
        408 | 500.. => Seen::WaitInDoubt,
        _ => Seen::Refusal,
    }
}

impl Fault {
    fn new(name: impl Into<String>, action: impl Into<Action>, seen: Seen, acts: bool) -> Fault {
        Fault {
            name: name.into(),
            action: action.into(),
            seen: vec![seen],
            acts,
            ends_upload: None,
            slow: false,
            rough: false,
        }
    }

    fn or(mut self, seen: Seen) -> Fault {
        self.seen.push(seen);
        self
    }

    /// The answer may arrive or not, and whatever is sent next on the connection.
    fn rough(self) -> Fault {
        let seen = if self.seen.contains(&Seen::Lost) { Seen::True } else { Seen::Lost };
        Fault { rough: true, ..self.or(seen) }
    }

    fn slow(self) -> Fault {
        Fault { slow: true, ..self }
    }

    fn reply(name: impl Into<String>, reply: Reply) -> Fault {
        let (seen, acts) = (seen_of(reply.status), reply.at == Point::After);
        let cut = matches!(reply.then, Then::Close | Then::Reset);
        let stuck = reply.then == Then::Stay && reply.at == Point::Unread;
        let name = format!("{} at {:?}", name.into(), reply.at);
        let fault = Fault::new(name, reply, seen, acts);
        // The kernel takes a body that nobody reads, so that the client has sent all and uses the connection again.
        match (cut, stuck) {
            (true, _) => fault.rough(),
            (_, true) => fault.rough().slow(),
            _ => fault,
        }
    }

    /// The status that it answers.
    pub fn status(&self) -> Option<u16> {
        if let Action::Answer(reply) = &self.action { Some(reply.status) } else { None }
    }
}

/// Every fault of `operation`.
pub fn all(operation: Operation) -> Vec<Fault> {
    let mut faults = Vec::new();
    faults.extend(refusals(operation));
    faults.extend(unusable(operation));
    faults.extend(redirects());
    faults.extend(headers(operation));
    faults.extend(transport(operation));
    faults.extend(lifecycle(operation));
    faults.extend(late(operation));
    faults.extend(lag(operation));
    faults.extend(patches(operation));
    faults
}

/// Each status at each point; bodies and ends of the connection take turns, so that each meets each status class.
fn refusals(operation: Operation) -> Vec<Fault> {
    let (bodies, mut faults) = (bodies(), Vec::new());
    for (at, status) in STATUSES.into_iter().enumerate() {
        for (turn, point) in points(operation).iter().copied().enumerate() {
            let (body_name, body) = bodies[(at + 4 * turn + operation as usize) % bodies.len()].clone();
            let then = THENS[(at / 3 + turn) % THENS.len()];
            let reply = Reply::status(status).body(body).at(point).then(then);
            let fault = Fault::reply(format!("{status} {body_name} {then:?}"), reply);
            // Without a Retry-After the whole account rests for a second.
            faults.push(if matches!(status, 429 | 503) { fault.slow() } else { fault });
        }
    }
    faults
}

fn unusable(operation: Operation) -> Vec<Fault> {
    let mut faults = Vec::new();
    for &point in points(operation) {
        for (name, body) in bodies() {
            faults.push(Fault::reply(format!("200 {name}"), Reply::ok(body).at(point)));
        }
        for status in [201, 202, 203, 204, 206, 299] {
            let reply = Reply::status(status).body(Body::Empty).at(point);
            faults.push(Fault::reply(format!("{status} without body"), reply));
        }
    }
    faults
}

fn redirects() -> Vec<Fault> {
    let mut faults = Vec::new();
    for (turn, status) in [300, 301, 302, 303, 304, 305, 307, 308].into_iter().enumerate() {
        let reply = Reply::status(status).body(Body::Empty).header("location", THIEF);
        faults.push(Fault::reply(format!("{status} to another host"), reply.at(POINTS[turn % 3])));
    }
    let nonsense = Reply::status(302).body(Body::Empty).header("location", "http://[::nonsense/%00");
    faults.push(Fault::reply("302 to nonsense", nonsense));
    faults
}

fn headers(operation: Operation) -> Vec<Fault> {
    let mut faults = Vec::new();
    for code in QUOTA {
        faults.push(Fault::reply(
            format!("429 {code}"),
            Reply::status(429).code(code).kind("insufficient_quota"),
        ));
    }
    for (name, value) in [
        ("retry-after-ms", "40"),
        ("retry-after-ms", "-5"),
        ("retry-after-ms", "NaN"),
        ("retry-after", "0"),
        ("retry-after", "soon"),
        ("retry-after", "Thu, 01 Jan 1970 00:00:00 GMT"),
        ("retry-after", "Sun, 99 Nov 2026 10:00:42 GMT"),
        ("x-ratelimit-remaining-requests", "\u{fffd}"),
        ("x-request-id", KEY),
    ] {
        for status in [429, 503] {
            let reply = Reply::status(status).header("retry-after-ms", "40").header(name, value);
            faults.push(Fault::reply(format!("{status} {name}: {value}"), reply));
        }
    }
    faults.push(Fault::reply("429 retry-after: 1", Reply::status(429).header("retry-after", "1")).slow());
    let told = |status: u16, word: &str| Reply::status(status).header("x-should-retry", word);
    faults.push(Fault {
        seen: vec![Seen::Wait],
        ..Fault::reply("400 that is to be retried", told(400, "true"))
    });
    for &point in points(operation) {
        let fault = Fault::reply("500 that is not to be retried", told(500, "false").at(point));
        faults.push(Fault { seen: vec![Seen::WaitInDoubt, Seen::Refusal], ..fault });
    }
    faults.push(Fault::reply("500 x-should-retry: nonsense", told(500, "perhaps")));
    for status in [400, 401, 500] {
        let echo = Reply::status(status).message(&format!("Incorrect API key provided: {KEY}."));
        faults.push(Fault::reply(format!("{status} with the key in its words"), echo));
    }
    faults
}

fn transport(operation: Operation) -> Vec<Fault> {
    let mut faults = Vec::new();
    for point in [Point::Unread, Point::Body(1), Point::Before, Point::After, Point::Answered] {
        let acts = matches!(point, Point::After | Point::Answered);
        for (word, action) in [("drop", Action::drop(point)), ("reset", Action::reset(point))] {
            let fault = Fault::new(format!("{word} at {point:?}"), action, Seen::Lost, acts);
            faults.push(if point == Point::Answered { fault.rough() } else { fault });
        }
        if point != Point::Answered {
            let wait = Duration::from_millis(150);
            faults.push(Fault::new(
                format!("delay at {point:?}"),
                Action::delay(point, wait),
                Seen::True,
                true,
            ));
            faults.push(
                Fault::new(format!("stall at {point:?}"), Action::stall(point), Seen::Lost, acts).slow(),
            );
        }
    }
    for bytes in [Some(0), Some(1), None] {
        faults.push(Fault::new(format!("half {bytes:?}"), Action::Half { bytes }, Seen::Lost, true));
    }
    let whole = Action::Half { bytes: Some(usize::MAX) };
    faults.push(Fault::new("whole, then cut", whole, Seen::Lost, true).rough());
    if operation == Operation::Part {
        let slow = Action::Slow { bytes_per_second: 2_000_000 };
        faults.push(Fault::new("slow", slow, Seen::True, true));
    }
    faults
}

/// The Upload ends while the request is under way.
fn lifecycle(operation: Operation) -> Vec<Fault> {
    if !names_upload(operation) {
        return Vec::new();
    }
    let mut faults = Vec::new();
    for at in [Point::Unread, Point::Body(1), Point::Before, Point::After, Point::Answered] {
        // Create names none before its work, and cancel has no body.
        let work_first = matches!(at, Point::After | Point::Answered);
        if (operation == Operation::Create && !work_first)
            || (operation == Operation::Cancel && at == Point::Body(1))
        {
            continue;
        }
        for (word, action) in [
            ("expires", Action::Expire { at }),
            ("cancelled", Action::Cancel { at }),
            ("purged", Action::Purge { at }),
        ] {
            let fault = Fault::new(format!("{word} at {at:?}"), action, Seen::True, work_first);
            faults.push(Fault { ends_upload: Some(at), ..fault });
        }
    }
    faults
}

fn late(operation: Operation) -> Vec<Fault> {
    if operation != Operation::Complete {
        return Vec::new();
    }
    let mut faults = Vec::new();
    for (landing, late) in [
        ("on command", Late::on_command()),
        ("at the next request", Late::after_requests(1)),
        ("at the second request", Late::after_requests(2)),
        ("at the fourth request", Late::after_requests(4)),
        ("after 100 ms", Late::after(Duration::from_millis(100))),
    ] {
        faults.push(Fault::new(format!("lands {landing}, dropped"), late.clone(), Seen::Lost, true));
        for status in [408, 409, 500, 502, 504] {
            let (name, seen) = (format!("lands {landing}, {status}"), seen_of(status));
            faults.push(Fault::new(name, late.clone().status(status), seen, true));
        }
    }
    faults
}

fn lag(operation: Operation) -> Vec<Fault> {
    if operation != Operation::List {
        return Vec::new();
    }
    [
        ("one list", Lag::lists(1)),
        ("three lists", Lag::lists(3)),
        ("a second", Lag::younger_than(Duration::from_secs(1))),
        ("for ever", Lag::younger_than(Duration::from_secs(1 << 40))),
    ]
    .into_iter()
    .map(|(name, lag)| Fault::new(format!("lags by {name}"), lag, Seen::Changed(Change::Other), true))
    .collect()
}

/// Each field of the true answer, with each value that it cannot or should not have.
fn patches(operation: Operation) -> Vec<Fault> {
    const UPLOAD: [&str; 9] = [
        "/id",
        "/object",
        "/bytes",
        "/created_at",
        "/filename",
        "/purpose",
        "/status",
        "/expires_at",
        "/file",
    ];
    const FILE: [&str; 7] = [
        "/file/id",
        "/file/object",
        "/file/bytes",
        "/file/created_at",
        "/file/filename",
        "/file/purpose",
        "/file/expires_at",
    ];
    let fields: Vec<&str> = match operation {
        Operation::Create | Operation::Cancel => UPLOAD.to_vec(),
        Operation::Complete => [&UPLOAD[..], &FILE[..]].concat(),
        Operation::Part => vec!["/id", "/object", "/created_at", "/upload_id"],
        Operation::Get => vec!["/id", "/object", "/bytes", "/created_at", "/filename", "/purpose"],
        Operation::List => vec![
            "/data",
            "/has_more",
            "/last_id",
            "/data/0",
            "/data/0/id",
            "/data/0/bytes",
            "/data/0/created_at",
            "/data/0/filename",
            "/data/0/purpose",
        ],
        _ => Vec::new(),
    };
    let mut faults = Vec::new();
    for field in fields {
        faults.push(patched(field, "missing", Patch::default().remove(field)));
        for (name, value) in values(field) {
            faults.push(patched(field, &name, Patch::default().set(field, value)));
        }
    }
    faults
}

fn patched(field: &str, value: &str, patch: Patch) -> Fault {
    let change = match (field, value) {
        ("/status", "cancelled" | "expired") => Change::Ended,
        ("/file/id" | "/file", _) => Change::FileId,
        _ => Change::Other,
    };
    Fault::new(format!("{field} {value}"), patch, Seen::Changed(change), true)
}

fn values(field: &str) -> Vec<(String, Value)> {
    let mut values = vec![
        ("null".to_owned(), Value::Null),
        ("true".to_owned(), json!(true)),
        ("-1".to_owned(), json!(-1)),
        ("0".to_owned(), json!(0)),
        ("1".to_owned(), json!(1)),
        ("i64::MIN".to_owned(), json!(i64::MIN)),
        ("u64::MAX".to_owned(), json!(u64::MAX)),
        ("1e300".to_owned(), json!(1e300)),
        ("0.5".to_owned(), json!(0.5)),
        ("[]".to_owned(), json!([])),
        ("[null, 7]".to_owned(), json!([null, 7])),
        ("{}".to_owned(), json!({})),
        ("\"\"".to_owned(), json!("")),
        ("..".to_owned(), json!("..")),
        ("with slashes".to_owned(), json!("../a/b?c#d%2f")),
        ("with control characters".to_owned(), json!("a\r\nb\0c\u{1b}[31m\u{202e}")),
        ("the key".to_owned(), json!(KEY)),
        ("2 KB".to_owned(), json!("y".repeat(2000))),
        ("1 MB".to_owned(), json!("z".repeat(1_000_000))),
    ];
    if field == "/status" {
        for word in ["pending", "completed", "cancelled", "expired", "in_progress", "COMPLETED", "failed"] {
            values.push((word.to_owned(), json!(word)));
        }
    }
    match field {
        "/id" | "/upload_id" => values.push(("another's".to_owned(), json!(OTHER_UPLOAD))),
        "/file/id" => values.push(("another's".to_owned(), json!(OTHER_FILE))),
        _ => {}
    }
    values
}

/// Whether the request is about an Upload.
pub fn names_upload(operation: Operation) -> bool {
    matches!(operation, Operation::Create | Operation::Part | Operation::Complete | Operation::Cancel)
}

/// A fault with what its placeholders stand for.
pub fn resolve(action: &Action, stand_for: &[(&str, String)]) -> Action {
    let put = |text: &mut String| {
        if let Some((_, value)) = stand_for.iter().find(|(placeholder, _)| placeholder == text) {
            text.clone_from(value);
        }
    };
    let mut action = action.clone();
    match &mut action {
        Action::Answer(reply) => reply.headers.values_mut().for_each(put),
        Action::Patch(patch) => {
            for value in patch.set.values_mut() {
                if let Value::String(text) = value {
                    put(text);
                }
            }
        }
        _ => {}
    }
    action
}
