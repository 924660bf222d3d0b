//! Every operation times every fault times every state of the Upload, on the real service.
//!
//! A plain `cargo test` takes a sample in which each operation meets faults in each state. `UPSPOOL_MATRIX=all` takes all
//! cases, and `UPSPOOL_MATRIX=WORDS` those with these words in their names, as a failure prints them.

#![expect(unreachable_pub, reason = "modules of a test binary")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod case;
mod check;
mod faults;
mod group;
#[path = "../service/harness.rs"]
#[expect(dead_code, reason = "shared with the tests of the service, which use more of it")]
mod harness;
mod oracle;
mod report;

use std::collections::{BTreeMap, BTreeSet};

use futures_util::StreamExt;
use upspool_emulator::Emulator;

use case::{Case, Repeat, is_alone};
use group::Group;
use report::Report;

/// Services at once. They wait most of the time, for back-off and holds.
const AT_ONCE: usize = 8;

/// Files of one service. Where faults last holds follow one another, and where they are for all files the files do.
const FILES: usize = 40;
const FEW_FILES: usize = 12;

/// Looks at a group until it is taken for stuck, 40 ms apart: a minute, or what the list of Files is looked at for and
/// more.
const ROUNDS: usize = 1500;
const MANY_ROUNDS: usize = 5000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_fails_there_is_one_file_or_a_reason() {
    let cases = chosen();
    assert!(!cases.is_empty(), "no case has the name that UPSPOOL_MATRIX says");
    let thief = Emulator::start().await.unwrap();
    let mut report = Report::default();
    let count = cases.len();
    let groups = groups(cases);
    show(&format!("{count} cases in {} runs of the service", groups.len()));
    let mut running = futures_util::stream::iter(groups.into_iter().map(|group| group.run(&thief)))
        .buffer_unordered(AT_ONCE);
    while let Some(one) = running.next().await {
        one.violations.iter().for_each(|violation| show(violation));
        report.add(one);
    }
    drop(running);
    show(&report.table());
    let count = report.violations.len();
    assert!(count == 0, "{count} violations, told above as they were found");
}

#[expect(clippy::print_stderr, reason = "what was found is what the matrix is run for")]
fn show(text: &str) {
    eprintln!("{text}\n");
}

fn chosen() -> Vec<Case> {
    let all = case::all();
    match std::env::var("UPSPOOL_MATRIX").as_deref() {
        Err(_) | Ok("") => sample(all.into_iter().filter(|case| !oracle::may_take_minutes(case)).collect()),
        Ok("all") => all,
        Ok(words) => all.into_iter().filter(|case| case.name().contains(words)).collect(),
    }
}

/// A few of each pair of operation and state, over all families of faults.
fn sample(all: Vec<Case>) -> Vec<Case> {
    let mut pairs: BTreeMap<String, Vec<Case>> = BTreeMap::new();
    for case in all {
        let pair = format!("{} {:?} {:?}", case.operation, case.state, case.repeat);
        pairs.entry(pair).or_default().push(case);
    }
    let mut chosen = Vec::new();
    for (turn, cases) in pairs.into_values().enumerate() {
        let few = if cases.first().is_some_and(|case| is_alone(case.operation)) { 3 } else { 8 };
        let step = cases.len().div_ceil(few).max(1);
        chosen.extend(cases.into_iter().skip(turn % step).step_by(step));
    }
    chosen
}

/// What cases that share a service have in common.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Kind {
    quick: bool,
    alone: bool,
    slow: bool,
    rough: bool,
    lasts: bool,
    profile: usize,
}

/// Cases that can share a service: of one kind of server, and about equally fast.
fn groups(cases: Vec<Case>) -> Vec<Group> {
    let mut kinds: BTreeMap<Kind, Vec<Case>> = BTreeMap::new();
    for case in cases {
        let kind = Kind {
            // These first, since nothing makes them faster.
            quick: !oracle::may_take_minutes(&case),
            alone: is_alone(case.operation),
            slow: case.fault.slow,
            rough: case.fault.rough,
            lasts: case.repeat == Repeat::Thrice,
            profile: case.profile,
        };
        kinds.entry(kind).or_default().push(case);
    }
    let mut groups = Vec::new();
    for (Kind { quick, alone, slow, lasts, .. }, cases) in kinds {
        let size = match (quick, alone) {
            (false, true) => 1,
            (true, true) => FEW_FILES,
            (_, false) if lasts => FEW_FILES,
            _ => FILES,
        };
        let rounds = if quick { ROUNDS } else { MANY_ROUNDS };
        let count = cases.len().div_ceil(size);
        let mut dealt: Vec<Vec<Case>> = vec![Vec::new(); count];
        // Neighbours are much alike; dealt out, each service has some of each kind.
        cases.into_iter().enumerate().for_each(|(at, case)| dealt[at % count].push(case));
        groups.extend(dealt.into_iter().map(|cases| Group { cases, slow, rounds }));
    }
    groups
}

#[test]
fn the_cases_are_every_operation_in_every_state_with_every_fault() {
    let all = case::all();
    let names: BTreeSet<String> = all.iter().map(Case::name).collect();
    assert_eq!(names.len(), all.len(), "each case is there once");
    for operation in case::OPERATIONS {
        for state in case::states(operation) {
            assert!(
                all.iter().any(|case| (case.operation, case.state) == (operation, state)),
                "{operation} {state:?}"
            );
        }
        for fault in faults::all(operation) {
            let met = |case: &&Case| case.operation == operation && case.fault.name == fault.name;
            assert!(all.iter().any(|case| met(&case)), "{operation} {}", fault.name);
        }
    }
}
