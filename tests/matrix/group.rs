//! One run of the real service on many files, each of which meets its own fault.

use std::collections::{BTreeSet, HashMap};
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

/// How many rounds all faults have to strike, and then all jobs to end; only a group that fails takes so long.
const ROUNDS: usize = 1500;

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
        self.cases.iter().for_each(|case| bench.emulator.faults(case.script(&stand_for)));
        let mut run = Run {
            group: &self,
            service: bench.start(),
            bench: &bench,
            pace: tokio::time::interval(ROUND),
            log_lines: 0,
            holds: 0,
            asked: 0,
            dropped: 0,
            healthy: 0,
            ended: BTreeSet::new(),
            held: BTreeSet::new(),
        };
        run.until_each_has_met_its_fault().await;
        let requests = bench.emulator.requests();
        let cleared_ms = requests.last().map_or(0, |request| request.started_ms);
        let struck = self.struck(&bench);
        run.until_each_has_ended().await;

        let mut report = Report { cases: self.cases.len(), struck: struck.len(), ..Report::default() };
        report.held = run.held.len();
        report.peak_kib = peak_kib(run.service.child.id());
        let raw = run.service.raw_log();
        let (status, _) = run.service.stop().await;
        let mut check = Check { group: &self, bench: &bench, raw, cleared_ms, violations: Vec::new() };
        if !status.success() {
            check.wrong(None, format!("the service ended with {status}"));
        }
        check.all(&mut report, &struck, thief).await;
        report.violations = check.violations;
        report
    }

    /// How often each case's fault has struck.
    fn struck(&self, bench: &Bench) -> HashMap<usize, usize> {
        let all = bench.emulator.requests();
        let requests = by_name(&all);
        let mut struck = HashMap::new();
        for case in &self.cases {
            let alone = is_alone(case.operation);
            let mine = requests.iter().filter(|(name, request)| {
                request.operation == case.operation
                    && (alone || name.as_deref() == Some(case.file_name().as_str()))
                    && request.header(STRANGER).is_none()
            });
            let before = usize::try_from(case.nth() - 1).unwrap();
            let count = mine.count().saturating_sub(before);
            if count > 0 {
                struck.insert(case.number, count);
            }
        }
        struck
    }
}

/// A group under way.
struct Run<'a> {
    group: &'a Group,
    bench: &'a Bench,
    service: Service,
    pace: Interval,
    /// How much of the log was heard.
    log_lines: usize,
    /// Holds in force.
    holds: usize,
    /// Rounds since the service was asked to try again.
    asked: usize,
    /// Files of the group that lie in the folder.
    dropped: usize,
    /// Files that meet no fault.
    healthy: usize,
    ended: BTreeSet<String>,
    held: BTreeSet<String>,
}

impl Run<'_> {
    async fn until_each_has_met_its_fault(&mut self) {
        let alone = self.group.cases.iter().any(|case| is_alone(case.operation));
        for _ in 0..ROUNDS {
            if self.dropped == self.group.cases.len() {
                let struck = self.group.struck(self.bench);
                let waits = |case: &&Case| {
                    let enough = if case.repeat == Repeat::Thrice { 3 } else { 1 };
                    !self.ended.contains(&case.file_name())
                        && struck.get(&case.number).copied().unwrap_or(0) < enough
                };
                if self.group.cases.iter().filter(waits).count() == 0 {
                    return;
                }
            } else if self.holds == 0 {
                let case = &self.group.cases[self.dropped];
                self.bench.drop_file(case.file_name(), &case.content());
                self.dropped += 1;
            }
            self.round(!alone).await;
        }
    }

    /// The faults are over; what waits behind one is asked to try again.
    async fn until_each_has_ended(&mut self) {
        self.bench.emulator.clear_faults();
        for upload in self.bench.emulator.uploads().iter().filter(|upload| upload.landing) {
            self.bench.emulator.land(&upload.id);
        }
        let all: Vec<String> =
            self.group.cases.iter().map(Case::file_name).chain((0..self.healthy).map(healthy_name)).collect();
        for _ in 0..ROUNDS {
            if all.iter().all(|name| self.ended.contains(name)) {
                return;
            }
            self.round(false).await;
        }
    }

    async fn round(&mut self, heartbeat: bool) {
        self.pace.tick().await;
        self.land();
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
        let requests = self.bench.emulator.requests();
        for upload in self.bench.emulator.uploads().iter().filter(|upload| upload.landing) {
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
                let path = line["path"].as_str().unwrap_or_default();
                self.ended.insert(path.rsplit('/').next().unwrap_or_default().to_owned());
            }
            "hold" => {
                self.holds += 1;
                let names = self.group.cases[..self.dropped].iter().map(Case::file_name);
                self.held.extend(names.filter(|name| !self.ended.contains(name)));
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

fn healthy_name(number: usize) -> String {
    format!("healthy-{number}.bin")
}

fn peak_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse().ok()).unwrap_or(0)
}
