//! What is wrong with a file before it is sent: the faults for which the server, or the batch behind it, would refuse it
//! an hour later.
//!
//! [`Checker`] is fed with the bytes of a file as they come, in pieces of any size, and keeps little of them: one line at
//! most, and of a batch 16 bytes for each `custom_id`. The limits are those of OpenAI's reference of the Batch and Files
//! API (November 2026).

mod request;

use std::collections::HashMap;
use std::fmt;

use serde::de::IgnoredAny;

use self::request::{Request, Value};

/// `[[folder]] preflight`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Preflight {
    /// Nothing is looked at.
    #[default]
    Off,
    /// What is wrong is told, and the file sent.
    Warn,
    /// A file with a fault is not sent.
    Reject,
}

/// What the content of a file is held to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rules {
    /// Requests of a batch, one on each line.
    Batch,
    /// Examples for fine-tuning, one object on each line.
    FineTune,
    /// JSON on each line, since the name says so.
    Lines,
}

/// Most bytes of a file with purpose `batch`: «200 MB», in the reading that refuses less.
pub const MOST_BATCH_BYTES: u64 = 200 * 1024 * 1024;

/// Most lines of a batch.
pub const MOST_BATCH_LINES: u64 = 50_000;

/// The longest line that is looked at, in bytes. A request with images in it has some MiB.
const LONGEST_LINE: usize = 16 * 1024 * 1024;

/// So many faults are told by their line; the others are counted.
const TOLD: usize = 20;

/// So much of a text of the file is quoted, in characters.
const QUOTED: usize = 60;

/// Files that `assistants` takes: its documented types for search and for the code interpreter.
const DOCUMENTS: &[&str] = &[
    "c", "cpp", "cs", "css", "csv", "doc", "docx", "gif", "go", "html", "java", "jpeg", "jpg", "js", "json",
    "md", "pdf", "php", "pkl", "png", "pptx", "py", "rb", "sh", "sql", "tar", "tex", "ts", "txt", "webp",
    "xlsx", "xml", "zip",
];

/// Images that `vision` takes.
const IMAGES: &[&str] = &["gif", "jpeg", "jpg", "png", "webp"];

/// One JSON text on each line.
const LINES: &[&str] = &["jsonl"];

impl Rules {
    /// What a file of this purpose, sent under this name, is held to; none: nothing is known of its content.
    pub fn of(purpose: &str, name: &str) -> Option<Rules> {
        match purpose {
            "batch" => Some(Rules::Batch),
            "fine-tune" => Some(Rules::FineTune),
            _ if extension(name).is_some_and(|extension| extension.eq_ignore_ascii_case("jsonl")) => {
                Some(Rules::Lines)
            }
            _ => None,
        }
    }
}

/// Whether the name does not end as those that this purpose is known to take. That is a guess from documentation: it is
/// told, and no reason not to send the file.
pub fn is_odd_name(purpose: &str, name: &str) -> bool {
    let Some(known) = extensions(purpose) else { return false };
    !extension(name).is_some_and(|found| known.iter().any(|known| found.eq_ignore_ascii_case(known)))
}

/// The extensions that a purpose is known to take; none: any, or it is not known.
fn extensions(purpose: &str) -> Option<&'static [&'static str]> {
    match purpose {
        "batch" | "fine-tune" => Some(LINES),
        "vision" => Some(IMAGES),
        "assistants" => Some(DOCUMENTS),
        _ => None,
    }
}

fn extension(name: &str) -> Option<&str> {
    name.rsplit_once('.').map(|(_, extension)| extension)
}

/// What a look at a file showed. All of it is one line each, and quotes of the file are short.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The first faults, in the order of the file.
    pub faults: Vec<String>,
    /// How many there are.
    pub total: u64,
    /// What may be wrong, and is no reason not to send the file.
    pub hints: Vec<String>,
}

impl Report {
    /// What can be said of a file without reading it.
    pub fn of_outside(rules: Option<Rules>, purpose: &str, name: &str, bytes: u64) -> Report {
        let mut report = Report::default();
        if let Some(known) = extensions(purpose).filter(|_| is_odd_name(purpose, name)) {
            report
                .hints
                .push(format!("its name does not end as {purpose} is known to take: {}", any_of(known)));
        }
        if rules == Some(Rules::Batch) && bytes > MOST_BATCH_BYTES {
            report.fault(format!("it has {bytes} bytes, and a batch at most {MOST_BATCH_BYTES}"));
        }
        report
    }

    /// All of it for people: what the ledger keeps.
    pub fn warnings(&self) -> Vec<String> {
        let more = self.total.saturating_sub(self.faults.len() as u64);
        let more = (more > 0).then(|| format!("and {more} more"));
        self.hints.iter().chain(&self.faults).cloned().chain(more).collect()
    }

    /// The same in one sentence; none if nothing is wrong.
    pub fn summary(&self) -> Option<String> {
        let first = self.faults.first().or(self.hints.first())?;
        let told = self.total.max(1) - 1 + if self.total > 0 { self.hints.len() as u64 } else { 0 };
        Some(match told {
            0 => first.clone(),
            more => format!("{first}; and {more} more"),
        })
    }

    fn fault(&mut self, words: String) {
        self.total += 1;
        if self.faults.len() < TOLD {
            self.faults.push(words);
        }
    }
}

fn any_of(extensions: &[&str]) -> String {
    extensions.iter().map(|extension| format!(".{extension}")).collect::<Vec<_>>().join(", ")
}

/// Looks at the content of a file while it is read.
#[derive(Debug)]
pub struct Checker {
    rules: Rules,
    /// The first bytes, until there are enough to know the encoding; none: it is known.
    head: Option<Vec<u8>>,
    /// Which line is being read, from 1.
    line: u64,
    /// The beginning of a line that is cut by the end of a piece.
    begun: Vec<u8>,
    /// That line is too long to be looked at.
    overlong: bool,
    /// The first of the empty lines just before.
    empty: Option<u64>,
    /// Lines that are not empty.
    filled: u64,
    /// The line of each `custom_id`, by the beginning of its BLAKE3: 50 000 of them may have any length.
    ids: HashMap<[u8; 16], u64>,
    /// The first `url`, and its line.
    url: Option<(String, u64)>,
    /// Nothing more can be said of what follows.
    deaf: bool,
    report: Report,
}

/// How many bytes tell the encoding.
const HEAD: usize = 3;

impl Checker {
    /// A look at a file that is held to `rules`, which adds to `report`.
    pub fn new(rules: Rules, report: Report) -> Checker {
        Checker {
            rules,
            head: Some(Vec::with_capacity(HEAD)),
            line: 1,
            begun: Vec::new(),
            overlong: false,
            empty: None,
            filled: 0,
            ids: HashMap::new(),
            url: None,
            deaf: false,
            report,
        }
    }

    /// Takes the next bytes. Whether the rest is wanted as well.
    pub fn take(&mut self, mut bytes: &[u8]) -> bool {
        if let Some(head) = &mut self.head {
            let missing = (HEAD - head.len()).min(bytes.len());
            head.extend_from_slice(&bytes[..missing]);
            bytes = &bytes[missing..];
            if head.len() < HEAD {
                return true;
            }
            self.begin();
        }
        if !self.deaf {
            self.lines(bytes);
        }
        !self.deaf
    }

    /// The file ends here.
    pub fn finish(mut self) -> Report {
        self.begin();
        if !self.deaf {
            if self.overlong || !self.begun.is_empty() {
                self.end_of_line();
            }
            if self.filled == 0 {
                self.report.fault("there are no lines in it".into());
            }
        }
        self.report
    }

    /// Knows the encoding by the first bytes.
    fn begin(&mut self) {
        let Some(head) = self.head.take() else { return };
        let text = match head.as_slice() {
            [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [0, _, ..] | [_, 0, ..] => {
                // Of every line the same could be said.
                self.report.fault("line 1: it is UTF-16, not UTF-8".into());
                self.deaf = true;
                return;
            }
            [0xef, 0xbb, 0xbf, text @ ..] => {
                self.report.fault("line 1: it begins with a byte order mark".into());
                text
            }
            text => text,
        };
        self.lines(text);
    }

    fn lines(&mut self, mut bytes: &[u8]) {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            if self.begun.is_empty() && !self.overlong && end <= LONGEST_LINE {
                // Most lines lie whole in one piece, and need no copy.
                self.look(&bytes[..end]);
                self.line += 1;
            } else {
                self.keep(&bytes[..end]);
                self.end_of_line();
            }
            bytes = &bytes[end + 1..];
        }
        self.keep(bytes);
    }

    fn keep(&mut self, bytes: &[u8]) {
        self.overlong |= self.begun.len() + bytes.len() > LONGEST_LINE;
        if self.overlong {
            self.begun = Vec::new();
        } else {
            self.begun.extend_from_slice(bytes);
        }
    }

    /// The line that came in several pieces is whole.
    fn end_of_line(&mut self) {
        let mut line = std::mem::take(&mut self.begun);
        if std::mem::take(&mut self.overlong) {
            self.filled();
            self.fault(format_args!("longer than {LONGEST_LINE} bytes"));
        } else {
            self.look(&line);
        }
        line.clear();
        self.begun = line;
        self.line += 1;
    }

    fn fault(&mut self, words: fmt::Arguments<'_>) {
        self.report.fault(format!("line {}: {words}", self.line));
    }

    /// This line is not empty.
    fn filled(&mut self) {
        match self.empty.take() {
            Some(first) if first + 1 == self.line => self.report.fault(format!("line {first}: it is empty")),
            Some(first) => self.report.fault(format!("lines {first} to {}: they are empty", self.line - 1)),
            None => {}
        }
        self.filled += 1;
        if self.rules == Rules::Batch && self.filled == MOST_BATCH_LINES + 1 {
            self.fault(format_args!("a batch has at most {MOST_BATCH_LINES} lines"));
        }
    }

    fn look(&mut self, line: &[u8]) {
        if line.trim_ascii().is_empty() {
            // At the end of the file they mean nothing.
            self.empty.get_or_insert(self.line);
            return;
        }
        self.filled();
        let text = match std::str::from_utf8(line) {
            Ok(text) => text,
            Err(fault) => {
                self.fault(format_args!("byte {} of it is not UTF-8", fault.valid_up_to() + 1));
                return;
            }
        };
        // A list of four values would do for a struct as well.
        let is_object = text.trim_ascii_start().starts_with('{');
        let parsed = match self.rules {
            Rules::Batch if is_object => serde_json::from_str(text).map(|request| self.request(&request)),
            Rules::Batch | Rules::FineTune | Rules::Lines => {
                serde_json::from_str::<IgnoredAny>(text).map(|_| {
                    if self.rules != Rules::Lines && !is_object {
                        self.fault(format_args!("it is no JSON object"));
                    }
                })
            }
        };
        if let Err(fault) = parsed {
            let words = fault.to_string();
            let words = words.split(" at line ").next().unwrap_or_default();
            let kind = if fault.is_data() { "" } else { "it is not JSON: " };
            self.fault(format_args!("{kind}{words}, at byte {}", fault.column()));
        }
    }

    /// One request of a batch.
    fn request(&mut self, request: &Request<'_>) {
        let Request { custom_id, method, url, body } = request;
        match custom_id {
            Some(Value::Text(id)) if id.is_empty() => self.fault(format_args!("custom_id is empty")),
            Some(Value::Text(id)) => self.custom_id(id),
            Some(_) => self.fault(format_args!("custom_id is not a text")),
            None => self.fault(format_args!("custom_id is missing")),
        }
        match method {
            Some(Value::Text(method)) if method == "POST" => {}
            Some(Value::Text(method)) => {
                self.fault(format_args!("method is {}, not \"POST\"", quoted(method)));
            }
            Some(_) => self.fault(format_args!("method is not a text")),
            None => self.fault(format_args!("method is missing")),
        }
        match url {
            Some(Value::Text(url)) => self.url(url),
            Some(_) => self.fault(format_args!("url is not a text")),
            None => self.fault(format_args!("url is missing")),
        }
        match body {
            Some(Value::Object) => {}
            Some(_) => self.fault(format_args!("body is not an object")),
            None => self.fault(format_args!("body is missing")),
        }
    }

    fn custom_id(&mut self, id: &str) {
        // What is too many has been said, and the rest of it may be endless.
        if self.filled > MOST_BATCH_LINES {
            return;
        }
        let mut key = [0; 16];
        key.copy_from_slice(&blake3::hash(id.as_bytes()).as_bytes()[..16]);
        let first = *self.ids.entry(key).or_insert(self.line);
        if first != self.line {
            self.fault(format_args!("custom_id {} is that of line {first} too", quoted(id)));
        }
    }

    fn url(&mut self, url: &str) {
        if !url.starts_with("/v1/") {
            self.fault(format_args!("url is {}, and does not begin with /v1/", quoted(url)));
            return;
        }
        let (first, line) = self.url.get_or_insert_with(|| (url.to_owned(), self.line));
        if first != url {
            let words = format!("url is {}, and on line {line} it is {}", quoted(url), quoted(first));
            self.fault(format_args!("{words}"));
        }
    }
}

/// A text of the file on one line, without what a terminal would obey.
fn quoted(text: &str) -> String {
    match text.char_indices().nth(QUOTED) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

#[cfg(test)]
mod tests;
