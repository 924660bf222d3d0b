//! The invariants that hold for each case, once all is calm.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use upspool::model::job::State as JobState;
use upspool::store::Record;
use upspool_emulator::{Emulator, Operation, RequestRecord};

use crate::case::Case;
use crate::faults::KEY;
use crate::group::{Group, STRANGER};
use crate::harness::{Bench, sha256};
use crate::oracle::{self, CODES_OF_REFUSAL};
use crate::report::Report;

/// Requests of one job that met neither its fault nor an Upload whose complete is under way. The longest way is: create,
/// two Parts, complete, refused, cancel, and all of it once more; with a hold twice over.
const MOST_REQUESTS: usize = 20;

/// Requests a second that may meet a lasting fault. The back-off here is at most 200 ms with full jitter, so that 10 are
/// usual; a loop without back-off makes hundreds.
const MOST_A_SECOND: u64 = 20;

/// Memory of a debug build: some 50 MiB at rest, and for each of 40 requests at once an answer of at most 1 MiB, which
/// is read as JSON and shown as text.
const MOST_MEMORY_KIB: u64 = 256 * 1024;

/// Requests with the names of their files, also where the Upload was forgotten meanwhile.
pub fn by_name(requests: &[RequestRecord]) -> Vec<(Option<String>, &RequestRecord)> {
    let mut uploads = HashMap::new();
    for request in requests {
        if let (Some(upload), Some(name)) = (&request.upload_id, &request.filename) {
            uploads.insert(upload.clone(), name.clone());
        }
    }
    let name = |request: &RequestRecord| {
        request.filename.clone().or_else(|| uploads.get(request.upload_id.as_ref()?).cloned())
    };
    requests.iter().map(|request| (name(request), request)).collect()
}

/// The invariants, once all is calm.
pub struct Check<'a> {
    pub group: &'a Group,
    pub bench: &'a Bench,
    pub raw: String,
    /// When the faults were cleared, on the emulator's stopwatch.
    pub cleared_ms: u64,
    pub violations: Vec<String>,
}

impl Check<'_> {
    pub fn wrong(&mut self, case: Option<&Case>, what: impl std::fmt::Display) {
        let who = case.map_or_else(|| "group".to_owned(), Case::name);
        let file = case.map(Case::file_name);
        let about = |line: &&str| file.as_ref().is_none_or(|file| line.contains(file.as_str()));
        let mut lines: Vec<&str> = self.raw.lines().filter(about).collect();
        lines.drain(..lines.len().saturating_sub(12));
        let mut text = format!("{who}: {what}");
        if case.is_some() {
            for line in lines {
                text.push_str("\n      ");
                text.push_str(&line[..line.floor_char_boundary(600)]);
            }
        }
        self.violations.push(text);
    }

    pub async fn all(&mut self, report: &mut Report, struck: &HashMap<usize, usize>, thief: &Emulator) {
        let records = self.bench.records().await;
        let files = self.bench.emulator.files();
        let requests = self.bench.emulator.requests();
        report.requests += requests.len();
        self.log_is_clean();
        if !thief.requests().is_empty() {
            self.wrong(None, format!("another host was asked: {:?}", thief.requests()));
        }
        if report.peak_kib > MOST_MEMORY_KIB {
            self.wrong(None, format!("the service had {} KiB of memory", report.peak_kib));
        }
        let ours: Vec<&RequestRecord> =
            requests.iter().filter(|request| request.header(STRANGER).is_none()).collect();
        for request in &ours {
            if matches!(request.operation, Operation::CreateFile | Operation::Delete | Operation::Unknown) {
                self.wrong(None, format!("the service asked for {} {}", request.method, request.path));
            }
        }
        let mut by_path: BTreeMap<String, Vec<&Record>> = BTreeMap::new();
        for record in &records {
            by_path.entry(record.relative_path.display().to_string()).or_default().push(record);
        }
        let strangers: BTreeSet<&str> = requests
            .iter()
            .filter(|request| request.header(STRANGER).is_some())
            .filter_map(|request| request.file_id.as_deref())
            .collect();
        let named = by_name(&requests);
        let group = self.group;
        for case in &group.cases {
            let of_case: Vec<&RequestRecord> = named
                .iter()
                .filter(|(name, request)| {
                    name.as_deref() == Some(&case.file_name()) && request.header(STRANGER).is_none()
                })
                .map(|(_, request)| *request)
                .collect();
            if case.must_strike() && !struck.contains_key(&case.number) {
                self.wrong(Some(case), "the fault did not strike");
            }
            let calm = self.requests_are_few(case, &of_case);
            report.most_requests = report.most_requests.max(calm);
            let rows = by_path.remove(&case.file_name()).unwrap_or_default();
            let [record] = rows.as_slice() else {
                self.wrong(Some(case), format!("{} rows: {rows:?}", rows.len()));
                continue;
            };
            let digest = sha256(&case.content());
            let made: Vec<&str> = files
                .iter()
                .filter(|file| {
                    file.sha256.as_deref() == Some(&digest) && !strangers.contains(file.id.as_str())
                })
                .map(|file| file.id.as_str())
                .collect();
            report.count(case.operation, &outcome(record));
            report.second_files += made.len().saturating_sub(1);
            self.outcome_is_right(case, record, &made, &of_case);
        }
        for (path, rows) in by_path {
            let stored = rows.iter().all(|row| row.state == JobState::Stored);
            if rows.len() != 1 || !stored || !path.starts_with("healthy") {
                self.wrong(None, format!("a file that met no fault: {path}: {rows:?}"));
            }
        }
    }

    fn outcome_is_right(&mut self, case: &Case, record: &Record, made: &[&str], requests: &[&RequestRecord]) {
        let mut expected = oracle::expected(case);
        // Under load a timeout may cut an answer that no fault was for.
        let cut = |request: &&&RequestRecord| {
            request.operation == Operation::Complete
                && request.worked
                && !request.delivered
                && request.faults.is_empty()
        };
        expected.unresolved |= requests.iter().any(|request| cut(&request));
        let code = record.error.as_ref().map(|error| error.code.as_str()).unwrap_or_default();
        if !expected.allows(record.state) {
            self.wrong(Some(case), format!("ended {}, expected {expected:?}", outcome(record)));
        }
        if record.state == JobState::Failed && !CODES_OF_REFUSAL.contains(&code) {
            self.wrong(Some(case), format!("failed with {code}"));
        }
        if expected.lied_to {
            return;
        }
        if made.len() > 1 {
            self.wrong(Some(case), format!("{} Files of one version: {made:?}", made.len()));
        }
        let named = record.file_id.as_ref().map(|file| file.0.as_str());
        match record.state {
            JobState::Stored if !named.is_some_and(|id| made.contains(&id)) => {
                self.wrong(Some(case), format!("the row names {named:?}, and its bytes are in {made:?}"));
            }
            JobState::Stored | JobState::Unresolved | JobState::Completing => {}
            _ if !made.is_empty() => {
                self.wrong(Some(case), format!("{made:?} exists and the job is {}", outcome(record)));
            }
            _ => {}
        }
    }

    /// Returns how many were sent besides those that met the fault.
    fn requests_are_few(&mut self, case: &Case, requests: &[&RequestRecord]) -> usize {
        let waits = |request: &RequestRecord| !request.faults.is_empty() || request.status == Some(409);
        let calm = requests.iter().filter(|request| !waits(request)).count();
        if calm > MOST_REQUESTS {
            self.wrong(Some(case), format!("{calm} requests: {}", told(requests)));
        }
        let mut waiting = requests.iter().filter(|request| waits(request));
        let began = waiting.clone().next().map_or(0, |request| request.started_ms);
        let most = MOST_REQUESTS as u64 + MOST_A_SECOND * self.cleared_ms.saturating_sub(began) / 1000;
        if waiting.by_ref().count() as u64 > most {
            self.wrong(Some(case), format!("more than {most} requests met its fault: {}", told(requests)));
        }
        calm
    }

    fn log_is_clean(&mut self) {
        let raw = std::mem::take(&mut self.raw);
        for line in raw.lines() {
            let bad = [KEY, "panick", "write-refused", "request-unknown", "internal"];
            if let Some(word) = bad.iter().find(|word| line.contains(**word)) {
                self.violations.push(format!("{word:?} in the log: {line}"));
            }
            if line.chars().any(char::is_control) {
                self.violations.push(format!("control characters in the log: {line:?}"));
            }
        }
        self.raw = raw;
    }
}

fn told(requests: &[&RequestRecord]) -> String {
    let one =
        |request: &&RequestRecord| format!("{} {:?} {:?}", request.operation, request.status, request.faults);
    requests.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn outcome(record: &Record) -> String {
    match (&record.error, record.state) {
        (Some(error), JobState::Failed) => error.code.clone(),
        _ => record.state.as_str().to_owned(),
    }
}
