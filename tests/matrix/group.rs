//! One run of the real service on many files, each of which meets its own fault.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::time::Duration;

use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};
use tokio::time::Interval;
use upspool::clock::Clock;
use upspool::engine::requests::kind;
use upspool::store::{NewRequest, Store};
use upspool_emulator::{Emulator, RequestRecord};

use crate::case::{Case, Repeat, is_alone};
use crate::check::{Check, by_name};
use crate::faults::{KEY, OTHER_FILE, OTHER_UPLOAD, THIEF};
use crate::harness::{Bench, Service};
use crate::report::Report;

/// Between two looks. Files come one after the other at this pace, so that few fail without a success between them.
const ROUND: Duration = Duration::from_millis(40);

/// Rounds between two looks at what the server was asked for.
const LOOK_EVERY: usize = 5;

/// Rounds for which those are waited for that have to wait out their Upload's hour.
const LOOKS_AT_THE_UNCLEAR: usize = 100;

/// Rounds between two requests to try again what is held: the service takes them up twice a second.
const RESUME_EVERY: usize = 8;

/// How often a complete whose File is not there yet is refused before it is. A job that is refused for longer is no
/// sign of the server's health and yet counted as one, which makes holds.
const REFUSED_WHILE_LANDING: usize = 3;

/// What the requests of other programs carry.
pub const STRANGER: &str = "x-stranger";

pub struct Group {
    pub cases: Vec<Case>,
    /// Whether a timeout has to pass, or a second of rest.
    pub slow: bool,
    /// How many rounds all faults have to strike, and then all jobs to end; only a group that fails takes so long.
    pub rounds: usize,
}

impl Group {
    pub async fn run(self, thief: &Emulator) -> Report {
        let Some(first) = self.cases.first() else { return Report::default() };
        let mut bench = Bench::with(Emulator::builder().api_key(KEY).variants(first.variants())).await;
        bench.set_key(KEY);
        // One slot, so that the second Part of a file is sent when the first is stored.
        bench.tables = "[upload]\nparallel_parts = 1\npart_size = \"1 MiB\"\n".into();
        let patience = if self.slow { "2s" } else { "40s" };
        for key in ["stall_timeout", "answer_timeout", "complete_timeout"] {
            bench.api.push_str(&format!("{key} = \"{patience}\"\n"));
        }
        let stand_for = strangers(&bench.emulator, &self.cases, thief).await;
        let mut run = Run {
            rounds: self.rounds,
            rounds_done: 0,
            service: bench.start(),
            bench: &bench,
            pace: tokio::time::interval(ROUND),
            log_lines: 0,
            holds: 0,
            asked: 0,
            healthy: 0,
            going: BTreeSet::new(),
            ended: BTreeSet::new(),
            unclear: BTreeSet::new(),
            held: BTreeSet::new(),
            struck: HashMap::new(),
            cleared_ms: 0,
        };
        // Faults that cannot be bound to a file leave room for one file at a time.
        let at_once = if is_alone(first.operation) { 1 } else { self.cases.len() };
        for cases in self.cases.chunks(at_once) {
            run.cases(cases, &stand_for).await;
        }

        let mut report = Report { cases: self.cases.len(), held: run.held.len(), ..Report::default() };
        report.struck = run.struck.len();
        let (struck, cleared_ms) = (std::mem::take(&mut run.struck), run.cleared_ms);
        report.peak_kib = peak_kib(run.service.child.id());
        let raw = run.service.raw_log();
        let (status, _) = run.service.stop().await;
        let mut check = Check { group: &self, bench: &bench, raw, cleared_ms, violations: Vec::new() };
        if !status.success() {
            check.wrong(None, format!("the service ended with {status}"));
        }
        check.all(&mut report, &struck, thief).await;
        report.violations = check.violations;
        if !report.violations.is_empty() {
            let told = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("matrix-{}", first.number));
            let requests = bench.emulator.requests();
            std::fs::write(told.with_extension("log"), &check.raw).unwrap();
            std::fs::write(told.with_extension("requests"), format!("{requests:#?}")).unwrap();
            report.violations.push(format!("log and requests of these: {}.*", told.display()));
        }
        report
    }
}

/// A group under way.
struct Run<'a> {
    rounds: usize,
    rounds_done: usize,
    bench: &'a Bench,
    service: Service,
    pace: Interval,
    /// How much of the log was heard.
    log_lines: usize,
    /// Holds in force.
    holds: usize,
    /// Rounds since the service was asked to try again.
    asked: usize,
    /// Files that meet no fault.
    healthy: usize,
    /// Files that were dropped and have not ended.
    going: BTreeSet<String>,
    ended: BTreeSet<String>,
    /// Files whose Upload's cancel did not tell what became of it.
    unclear: BTreeSet<String>,
    /// Those that stood behind a hold.
    held: BTreeSet<String>,
    /// How often each case's fault has struck.
    struck: HashMap<usize, usize>,
    /// When the last faults were cleared, on the emulator's stopwatch.
    cleared_ms: u64,
}

impl Run<'_> {
    /// From the script to the end of these cases.
    async fn cases(&mut self, cases: &[Case], stand_for: &[(&str, String)]) {
        let alone = cases.iter().any(|case| is_alone(case.operation));
        for _ in 0..self.rounds {
            // A hold of the case before, in which nothing counts as a failure.
            if !alone || self.holds == 0 {
                break;
            }
            self.round(true).await;
        }
        let before = self.bench.emulator.requests().len();
        cases.iter().for_each(|case| self.bench.emulator.faults(case.script(stand_for)));
        self.until_each_has_met_its_fault(cases, alone, before).await;
        self.struck.extend(self.strikes(cases, before));
        let requests = self.bench.emulator.requests();
        self.cleared_ms = requests.last().map_or(0, |request| request.started_ms);
        self.until_each_has_ended(cases).await;
    }

    fn strikes(&self, cases: &[Case], before: usize) -> HashMap<usize, usize> {
        let all = self.bench.emulator.requests();
        let requests = by_name(&all);
        let mut struck = HashMap::new();
        for case in cases {
            let alone = is_alone(case.operation);
            let mine = requests.iter().skip(before).filter(|(name, request)| {
                request.operation == case.operation
                    && (alone || name.as_deref() == Some(case.file_name().as_str()))
                    && request.header(STRANGER).is_none()
            });
            let count = mine.count().saturating_sub(usize::try_from(case.nth() - 1).unwrap());
            if count > 0 {
                struck.insert(case.number, count);
            }
        }
        struck
    }

    async fn until_each_has_met_its_fault(&mut self, cases: &[Case], alone: bool, before: usize) {
        let mut waiting = cases.iter();
        for _ in 0..self.rounds {
            let looks = self.rounds_done.is_multiple_of(LOOK_EVERY);
            if waiting.as_slice().is_empty() && looks {
                let struck = self.strikes(cases, before);
                let waits = |case: &&Case| {
                    let enough = if case.repeat == Repeat::Thrice { 3 } else { 1 };
                    !self.ended.contains(&case.file_name())
                        && struck.get(&case.number).copied().unwrap_or(0) < enough
                };
                if cases.iter().filter(waits).count() == 0 {
                    return;
                }
            } else if (self.holds == 0 || self.going.is_empty())
                && let Some(case) = waiting.next()
            {
                self.bench.drop_file(case.file_name(), &case.content());
                self.going.insert(case.file_name());
            }
            self.round(!alone).await;
        }
    }

    /// The faults are over; what waits behind one is asked to try again.
    async fn until_each_has_ended(&mut self, cases: &[Case]) {
        self.bench.emulator.clear_faults();
        for upload in self.bench.emulator.uploads().iter().filter(|upload| upload.landing) {
            self.bench.emulator.land(&upload.id);
        }
        let mut looks = 0;
        let all: Vec<String> =
            cases.iter().map(Case::file_name).chain((0..self.healthy).map(healthy_name)).collect();
        for _ in 0..self.rounds {
            if all.iter().all(|name| self.ended.contains(name)) {
                return;
            }
            // Where the fence does not tell, an hour has to pass if the list does not either: a few looks are enough.
            let waits_long = |name: &&String| self.unclear.contains(*name);
            if all.iter().filter(|name| !self.ended.contains(*name)).all(|name| waits_long(&name)) {
                looks += 1;
                if looks > LOOKS_AT_THE_UNCLEAR {
                    return;
                }
            }
            self.round(false).await;
        }
    }

    async fn round(&mut self, heartbeat: bool) {
        self.pace.tick().await;
        self.rounds_done += 1;
        if self.rounds_done.is_multiple_of(LOOK_EVERY) {
            self.land();
        }
        let lines = self.service.more_log(self.log_lines, Duration::ZERO).await;
        self.log_lines += lines.len();
        lines.iter().for_each(|line| self.hear(line));
        self.asked += 1;
        if self.holds > 0 && self.asked > RESUME_EVERY {
            self.asked = 0;
            if heartbeat {
                self.bench
                    .drop_file(healthy_name(self.healthy), format!("{} is well", self.healthy).as_bytes());
                self.healthy += 1;
            }
            self.resume().await;
        }
    }

    /// Makes real each complete that was asked for often enough while it was under way.
    fn land(&self) {
        let uploads = self.bench.emulator.uploads();
        if !uploads.iter().any(|upload| upload.landing) {
            return;
        }
        let requests = self.bench.emulator.requests();
        for upload in uploads.iter().filter(|upload| upload.landing) {
            let again = |request: &&RequestRecord| {
                request.status == Some(409) && request.upload_id.as_ref() == Some(&upload.id)
            };
            if requests.iter().filter(again).count() >= REFUSED_WHILE_LANDING {
                self.bench.emulator.land(&upload.id);
            }
        }
    }

    fn hear(&mut self, line: &Value) {
        match line["event"].as_str().unwrap_or_default() {
            "stored" | "failed" | "unresolved" | "gone" | "cancelled" => {
                let name = name_in(line);
                self.going.remove(&name);
                self.ended.insert(name);
            }
            "fence" if line["fence"] == "unclear" => {
                self.unclear.insert(name_in(line));
            }
            "hold" => {
                self.holds += 1;
                self.held.extend(self.going.iter().cloned());
            }
            "resumed" => self.holds = self.holds.saturating_sub(1),
            _ => {}
        }
    }

    /// `upspool resume`, without a process of its own each time.
    async fn resume(&self) {
        let store = Store::open_for_asking(&self.bench.state_dir()).await.unwrap();
        let request = NewRequest { kind: kind::RESUME.into(), job: None, folder: None, argument: None };
        store.insert_requests(&[request], Clock::System.now().wall).await.unwrap();
        store.close().await;
    }
}

/// What other programs with the same key do at the same time, and what placeholders stand for.
async fn strangers(emulator: &Emulator, cases: &[Case], thief: &Emulator) -> Vec<(&'static str, String)> {
    let client = reqwest::Client::new();
    let post = |path: &str| {
        client.post(format!("{}{path}", emulator.base_url())).bearer_auth(KEY).header(STRANGER, "yes")
    };
    let upload =
        json!({"filename": "stranger", "purpose": "user_data", "bytes": 1000, "mime_type": "text/plain"});
    let upload: Value = post("/uploads").json(&upload).send().await.unwrap().json().await.unwrap();
    let file = async |name: String, content: Vec<u8>| -> Value {
        let form =
            Form::new().text("purpose", "user_data").part("file", Part::bytes(content).file_name(name));
        post("/files").multipart(form).send().await.unwrap().json().await.unwrap()
    };
    let other = file("stranger".into(), b"a stranger's".to_vec()).await;
    for case in cases.iter().filter(|case| case.has_namesake()) {
        let mut content = case.content();
        content.reverse();
        file(case.file_name(), content).await;
    }
    let text = |value: &Value| value["id"].as_str().unwrap().to_owned();
    vec![(OTHER_UPLOAD, text(&upload)), (OTHER_FILE, text(&other)), (THIEF, thief.base_url())]
}

/// The file that a line of the log is about.
fn name_in(line: &Value) -> String {
    let path = line["path"].as_str().unwrap_or_default();
    path.rsplit('/').next().unwrap_or_default().to_owned()
}

fn healthy_name(number: usize) -> String {
    format!("healthy-{number}.bin")
}

fn peak_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse().ok()).unwrap_or(0)
}
