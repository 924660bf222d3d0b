//! What the matrix came to.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use upspool_emulator::Operation;

/// What is counted over all groups.
#[derive(Debug, Default)]
pub struct Report {
    /// Cases by operation and outcome.
    pub outcomes: BTreeMap<(String, String), usize>,
    pub cases: usize,
    /// Of them: those that stood still behind a hold before they ended.
    pub held: usize,
    /// Of them: those whose fault struck.
    pub struck: usize,
    /// Cases in which the server denied what it had done, and a second File came of it.
    pub second_files: usize,
    pub requests: usize,
    /// The most that one job asked, its fault's calls not counted.
    pub most_requests: usize,
    /// The most memory that any service had, in KiB.
    pub peak_kib: u64,
    /// Whatever was not as it has to be.
    pub violations: Vec<String>,
}

impl Report {
    pub fn count(&mut self, operation: Operation, outcome: &str) {
        *self.outcomes.entry((operation.to_string(), outcome.to_owned())).or_default() += 1;
    }

    pub fn add(&mut self, other: Report) {
        for (key, count) in other.outcomes {
            *self.outcomes.entry(key).or_default() += count;
        }
        self.cases += other.cases;
        self.held += other.held;
        self.struck += other.struck;
        self.second_files += other.second_files;
        self.requests += other.requests;
        self.most_requests = self.most_requests.max(other.most_requests);
        self.peak_kib = self.peak_kib.max(other.peak_kib);
        self.violations.extend(other.violations);
    }

    pub fn table(&self) -> String {
        let mut outcomes: Vec<&str> = self.outcomes.keys().map(|(_, outcome)| outcome.as_str()).collect();
        outcomes.sort_unstable();
        outcomes.dedup();
        let mut operations: Vec<&str> =
            self.outcomes.keys().map(|(operation, _)| operation.as_str()).collect();
        operations.dedup();
        let mut text = format!("{:10}", "operation");
        outcomes.iter().for_each(|outcome| write!(text, "  {outcome:>14}").unwrap());
        for operation in operations {
            write!(text, "\n{operation:10}").unwrap();
            for outcome in &outcomes {
                let count = self.outcomes.get(&(operation.to_owned(), (*outcome).to_owned())).unwrap_or(&0);
                write!(text, "  {count:>width$}", width = outcome.len().max(14)).unwrap();
            }
        }
        write!(
            text,
            "\n{} cases, {} struck, {} held first; {} requests, at most {} for one job beside its fault's; \
             peak memory {} MiB; {} second Files where the server denied the first",
            self.cases,
            self.struck,
            self.held,
            self.requests,
            self.most_requests,
            self.peak_kib / 1024,
            self.second_files
        )
        .unwrap();
        text
    }
}
