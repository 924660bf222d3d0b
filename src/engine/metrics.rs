//! What is counted of a run, for whoever scrapes it. Counters begin at 0 with the process; nothing here decides.
//!
//! No label ever holds a path: they are the names of folders, and words of this program.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::model::board::{Context, Outcome, Scope, Work};
use crate::model::job::{Code, State, Step};

/// A counter that only grows. Each has one or two labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Counter {
    /// Files that were met and are not known.
    Found,
    /// Jobs that ended.
    Ended,
    /// Jobs that got a File.
    Stored,
    /// Their bytes.
    StoredBytes,
    /// Jobs that failed.
    Failed,
    /// Attempts that failed and are tried again.
    Retries,
    /// Uploads that were given up for a new one.
    Restarts,
    /// Bytes of Parts that the server took.
    SentBytes,
    /// Operations that ended.
    Operations,
    /// Holds that began.
    Holds,
}

impl Counter {
    /// Every counter, in the order in which they are told.
    pub const ALL: [Counter; 10] = [
        Counter::Found,
        Counter::Stored,
        Counter::StoredBytes,
        Counter::Ended,
        Counter::Failed,
        Counter::Retries,
        Counter::Restarts,
        Counter::SentBytes,
        Counter::Operations,
        Counter::Holds,
    ];

    /// The name for Prometheus.
    pub fn name(self) -> &'static str {
        match self {
            Counter::Found => "upspool_found_total",
            Counter::Ended => "upspool_jobs_ended_total",
            Counter::Stored => "upspool_stored_total",
            Counter::StoredBytes => "upspool_stored_bytes_total",
            Counter::Failed => "upspool_failed_total",
            Counter::Retries => "upspool_retries_total",
            Counter::Restarts => "upspool_restarts_total",
            Counter::SentBytes => "upspool_sent_bytes_total",
            Counter::Operations => "upspool_operations_total",
            Counter::Holds => "upspool_holds_total",
        }
    }

    /// What it counts, in words.
    pub fn help(self) -> &'static str {
        match self {
            Counter::Found => {
                "Files that were met for the first time: by an event, by a scan without one, or at the start."
            }
            Counter::Ended => "Jobs that ended, by the state in which they did.",
            Counter::Stored => "Files that got a File ID.",
            Counter::StoredBytes => "Bytes of the files that got a File ID.",
            Counter::Failed => "Jobs that failed while they were sent, by code.",
            Counter::Retries => "Attempts that failed and are tried again, by code.",
            Counter::Restarts => "Uploads that were given up for a new one, by code.",
            Counter::SentBytes => "Bytes of Parts that the server took.",
            Counter::Operations => {
                "Operations that ended: requests to the server, and work on the file beside them."
            }
            Counter::Holds => "Holds that began, by what they keep back and by code.",
        }
    }

    /// The names of its labels.
    pub fn labels(self) -> &'static [&'static str] {
        match self {
            Counter::Found => &["folder", "by"],
            Counter::Ended => &["folder", "state"],
            Counter::Stored | Counter::StoredBytes | Counter::SentBytes => &["folder"],
            Counter::Failed => &["folder", "code"],
            Counter::Retries | Counter::Restarts => &["code"],
            Counter::Operations => &["operation", "outcome"],
            Counter::Holds => &["scope", "code"],
        }
    }
}

/// The upper ends of the buckets of a [`Histogram`], in seconds: from a request on a near link to a complete of 8 GB.
pub const BUCKETS: [f64; 15] =
    [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0];

/// How long operations took.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Histogram {
    /// How many took no longer than the end of each bucket and longer than that of the one before; the last: longer than all.
    pub counts: [u64; BUCKETS.len() + 1],
    /// All of them together, in seconds.
    pub sum: f64,
}

impl Histogram {
    fn observe(&mut self, took: Duration) {
        let seconds = took.as_secs_f64();
        let bucket = BUCKETS.iter().position(|end| seconds <= *end).unwrap_or(BUCKETS.len());
        self.counts[bucket] += 1;
        self.sum += seconds;
    }
}

/// The values of a counter's labels, in their order.
pub type Labels = Vec<String>;

/// What was counted since the start.
#[derive(Debug, Default)]
pub struct Metrics(Mutex<Counted>);

/// A copy of what was counted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counted {
    /// By counter and the values of its labels.
    pub counters: BTreeMap<(Counter, Labels), u64>,
    /// By the name of the operation, those that were interrupted left out.
    pub durations: BTreeMap<&'static str, Histogram>,
}

impl Metrics {
    /// A copy of it all.
    pub fn counted(&self) -> Counted {
        self.lock().clone()
    }

    /// A job of a folder took a step. `ends`: the state in which it ended by that.
    pub(super) fn step(&self, folder: &str, bytes: u64, step: &Step, context: &Context, ends: Option<State>) {
        let mut counted = self.lock();
        if let Some(state) = ends {
            counted.add(Counter::Ended, &[folder, state.as_str()], 1);
        }
        match step {
            Step::PartStored { .. } => {
                counted.add(Counter::SentBytes, &[folder], context.bytes.unwrap_or_default());
            }
            Step::SentWhole { .. } => counted.add(Counter::SentBytes, &[folder], bytes),
            Step::Stored { .. } | Step::Deduped { .. } => {
                counted.add(Counter::Stored, &[folder], 1);
                counted.add(Counter::StoredBytes, &[folder], bytes);
            }
            Step::Failed(reason) => counted.add(Counter::Failed, &[folder, reason.code.as_str()], 1),
            Step::PutOff { reason, .. } => counted.add(Counter::Retries, &[reason.code.as_str()], 1),
            Step::Restarted { reason, .. } => counted.add(Counter::Restarts, &[reason.code.as_str()], 1),
            _ => {}
        }
    }

    /// Bytes of Parts of a folder that the server took.
    pub(super) fn sent_bytes(&self, folder: &str) -> u64 {
        let key = (Counter::SentBytes, vec![folder.to_owned()]);
        self.lock().counters.get(&key).copied().unwrap_or(0)
    }

    /// A file of a folder was met that is not known: `by` an `event`, a `scan`, or at the `start`.
    pub(super) fn found(&self, folder: &str, by: &'static str) {
        self.lock().add(Counter::Found, &[folder, by], 1);
    }

    /// A hold began.
    pub(super) fn held(&self, scope: &Scope, code: Code) {
        self.lock().add(Counter::Holds, &[scope_name(scope), code.as_str()], 1);
    }

    /// An operation ended.
    pub(super) fn operation(&self, operation: &'static str, outcome: &Outcome) {
        let word = match &outcome.result {
            _ if outcome.interrupted => "interrupted",
            Ok(_) => "done",
            Err(_) => "failed",
        };
        let mut counted = self.lock();
        counted.add(Counter::Operations, &[operation, word], 1);
        if !outcome.interrupted {
            counted.durations.entry(operation).or_default().observe(outcome.took);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Counted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counted {
    fn add(&mut self, counter: Counter, labels: &[&str], by: u64) {
        let labels = labels.iter().map(|label| (*label).to_owned()).collect();
        *self.counters.entry((counter, labels)).or_default() += by;
    }
}

/// What a hold keeps back, in one word.
fn scope_name(scope: &Scope) -> &'static str {
    match scope {
        Scope::Account(_) => "account",
        Scope::Server(_) => "server",
        Scope::Store => "store",
    }
}

/// The name of an operation.
pub(super) fn operation_name(work: &Work) -> &'static str {
    match work {
        Work::Create(_) => "create",
        Work::Part { .. } => "part",
        Work::Whole { .. } => "whole",
        Work::Examine { .. } => "examine",
        Work::Confirm { .. } => "confirm",
        Work::Hash(_) => "hash",
        Work::Verify { .. } => "verify",
        Work::Complete { .. } => "complete",
        Work::Cancel(_) => "cancel",
        Work::Search(_) => "search",
        Work::AskFile(_) => "ask-file",
        Work::Check { .. } => "check",
        Work::Probe => "probe",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::answer::FileId;
    use crate::model::failure::Failure;
    use crate::model::job::{AccountName, Reason};
    use crate::model::time::Wall;

    fn context(bytes: Option<u64>) -> Context {
        Context { operation: None, facts: None, took: Duration::ZERO, bytes }
    }

    fn outcome(took: Duration, interrupted: bool) -> Outcome {
        let result = Err(Failure::Transport { message: "no".into() });
        Outcome { result, facts: None, took, interrupted }
    }

    #[test]
    fn steps_are_counted_by_folder_and_code() {
        let metrics = Metrics::default();
        let reason = Reason::local(Code::ServerError, "no");
        let put_off =
            Step::PutOff { due: Wall(0), reason: reason.clone(), attempts: 1, failing_since: Wall(0) };
        let stored = Step::Stored { file: FileId("file-1".into()), expires_at: None };
        for (step, ends) in [
            (put_off.clone(), None),
            (put_off, None),
            (stored, Some(State::Stored)),
            (Step::Failed(reason), Some(State::Failed)),
        ] {
            metrics.step("batch", 7, &step, &context(None), ends);
        }
        metrics.held(&Scope::Account(AccountName("eu".into())), Code::KeyRejected);
        let told: Vec<(&str, Vec<String>, u64)> = metrics
            .counted()
            .counters
            .into_iter()
            .map(|((counter, labels), value)| (counter.name(), labels, value))
            .collect();
        let labels = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        assert_eq!(
            told,
            [
                ("upspool_jobs_ended_total", labels(&["batch", "failed"]), 1),
                ("upspool_jobs_ended_total", labels(&["batch", "stored"]), 1),
                ("upspool_stored_total", labels(&["batch"]), 1),
                ("upspool_stored_bytes_total", labels(&["batch"]), 7),
                ("upspool_failed_total", labels(&["batch", "server-error"]), 1),
                ("upspool_retries_total", labels(&["server-error"]), 2),
                ("upspool_holds_total", labels(&["account", "key-rejected"]), 1),
            ]
        );
    }

    #[test]
    fn a_duration_falls_into_the_first_bucket_that_holds_it_and_what_was_interrupted_into_none() {
        let metrics = Metrics::default();
        for millis in [10, 11, 600_000, 600_001] {
            metrics.operation("part", &outcome(Duration::from_millis(millis), false));
        }
        metrics.operation("part", &outcome(Duration::from_secs(1), true));
        let counted = metrics.counted();
        let part = counted.durations["part"];
        assert_eq!((part.counts[0], part.counts[1], part.counts[14], part.counts[15]), (1, 1, 1, 1));
        assert_eq!(part.counts.iter().sum::<u64>(), 4);
        assert!((part.sum - 1200.022).abs() < 1e-9, "{}", part.sum);
        let value =
            |outcome: &str| counted.counters[&(Counter::Operations, vec!["part".into(), outcome.into()])];
        assert_eq!((value("failed"), value("interrupted")), (4, 1));
    }

    #[test]
    fn every_counter_is_named_as_prometheus_wants_it() {
        for counter in Counter::ALL {
            assert!(counter.name().starts_with("upspool_") && counter.name().ends_with("_total"));
            assert!(!counter.labels().is_empty() && !counter.help().contains('\n'));
        }
    }
}
