//! Makes the cuts, several at once, and adds up what came of them.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::fmt::Write as _;
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use upspool::clock::Clock;
use upspool::model::job::Step;
use upspool_emulator::{Operation, Point};

use crate::cuts::{self, Cut, Place, Seen};
use crate::promises;
use crate::room::Room;
use crate::shim::Loss;
use crate::workloads::{Phase, WORKLOADS, Workload};

/// Cuts made at once. Most of the time of each goes by in waiting.
const WORKERS: usize = 4;

/// Writes beside the steps of jobs that have to be cut as well.
const WRITES: &[&str] = &[
    "migration",
    "folder",
    "scanned",
    "enqueue",
    "history",
    "same-version",
    "retire",
    "pause",
    "answer",
    "finish",
];

/// Of the requests that the API has, those that the service does not send, each with why. One that is sent all the same
/// fails the test.
const NOT_SENT: &[(Operation, &str)] = &[
    (Operation::CreateFile, "files go through Uploads"),
    (Operation::Delete, "no File is ever deleted"),
    (Operation::Unknown, "there is no such request"),
];

/// A workload that was not cut.
struct Rehearsal {
    workload: &'static Workload,
    runs: Vec<Seen>,
    creates: BTreeMap<String, usize>,
    broken: Vec<String>,
}

/// One thing to do.
struct Task {
    workload: usize,
    cuts: Vec<Cut>,
}

/// What came of it.
struct Done {
    workload: usize,
    cuts: Vec<Cut>,
    made: Vec<bool>,
    committed: Vec<(&'static str, String)>,
    /// What is wrong, if anything is.
    failure: Option<String>,
}

#[test]
fn whatever_is_cut_the_promises_hold() {
    let began = Clock::System.now().boot;
    let wanted = std::env::var("UPSPOOL_CUT").ok();
    let share = if wanted.is_some() { Share::ALL } else { Share::asked_for() };
    let numbered = (0..WORKLOADS.len()).collect();
    let mut rehearsals = in_parallel(numbered, |index: usize| (index, rehearse(WORKLOADS[index])));
    rehearsals.sort_by_key(|(index, _)| *index);
    let rehearsals: Vec<Rehearsal> = rehearsals.into_iter().map(|(_, one)| one).collect();
    for one in &rehearsals {
        assert!(one.broken.is_empty(), "{}, without a cut: {:#?}", one.workload.name, one.broken);
    }
    let mut total = Total::default();
    let mut tasks = plan(&rehearsals, share);
    let pairs = tasks.iter().filter(|task| task.cuts.len() > 1).count();
    let at_syncs = |task: &&Task| matches!(task.cuts[0].place, Place::Sync { .. });
    let syncs = tasks.iter().filter(|task| task.cuts.len() == 1).filter(at_syncs).count();
    let requests = tasks.len() - pairs - syncs;
    eprint(&format!("planned: {syncs} cuts at syncs, {requests} at requests, {pairs} pairs"));
    if let Some(wanted) = &wanted {
        tasks.retain(|task| task.name().contains(wanted.as_str()));
        assert!(!tasks.is_empty(), "no cut is called {wanted}");
    }
    // What a sync commits differs from run to run: what was missed is aimed at again, beside where it was.
    for _ in 0..4 {
        let made = in_parallel(tasks, |task| perform(task, &rehearsals, wanted.is_some()));
        total.add(made);
        tasks = if wanted.is_some() { Vec::new() } else { total.missing_again(&rehearsals) };
        if tasks.is_empty() {
            break;
        }
    }
    total.tell(Clock::System.now().boot.since(began));
    assert!(
        total.failures.is_empty(),
        "all of them above, with what they left:\n{}",
        total.failures.join("\n")
    );
    if wanted.is_none() {
        // What a share leaves out the others make; the few alone, which are made by each run of the tests, and all have to.
        if !matches!(share, Share::Part { of: 2.., .. }) {
            total.assert_each_write_was_cut();
        }
        total.assert_nothing_was_left_out(&rehearsals);
    }
}

/// A workload from its beginning to its end, without a cut.
fn rehearse(workload: &'static Workload) -> Rehearsal {
    block_on(async {
        let mut room = Room::new(workload).await;
        let runs = room.play_through(workload).await;
        let creates = promises::creates(&room);
        let broken = promises::broken(&room, workload, &creates).await;
        if !broken.is_empty() {
            let mut text = format!("=== {}, without a cut: {broken:#?}\n", workload.name);
            keep(room, &mut text).await;
            eprint(&text);
        }
        Rehearsal { workload, runs, creates, broken }
    })
}

/// How many of all cuts are made besides the few.
#[derive(Clone, Copy)]
enum Share {
    Few,
    /// Each `of`-th, from `this` on.
    Part {
        this: usize,
        of: usize,
    },
}

impl Share {
    const ALL: Share = Share::Part { this: 0, of: 1 };

    fn asked_for() -> Share {
        let Ok(asked) = std::env::var("UPSPOOL_CUTS") else { return Share::Few };
        if asked == "all" {
            return Share::ALL;
        }
        let (this, of) = asked.split_once('/').expect("UPSPOOL_CUTS is «all» or a share like 2/3");
        let (this, of): (usize, usize) = (this.parse().unwrap(), of.parse().unwrap());
        assert!((1..=of).contains(&this), "UPSPOOL_CUTS={asked}: 1/{of} to {of}/{of} are shares");
        Share::Part { this: this - 1, of }
    }
}

fn plan(rehearsals: &[Rehearsal], share: Share) -> Vec<Task> {
    let mut known = Vec::new();
    let (mut few, mut all) = (Vec::new(), Vec::new());
    for (workload, one) in rehearsals.iter().enumerate() {
        for (run, seen) in (1..).zip(&one.runs).skip(one.workload.cut_from - 1) {
            let house_too = workload == 0 || one.workload.cuts_the_house;
            let single = |cut| Task { workload, cuts: vec![cut] };
            few.extend(cuts::few(run, seen, &mut known).into_iter().map(single));
            all.extend(cuts::all(run, seen, house_too).into_iter().map(single));
            if one.workload.twice {
                let pairs = cuts::pairs(run, seen);
                let pair = |cuts: &[Cut; 2]| Task { workload, cuts: cuts.to_vec() };
                few.extend(pairs.iter().take(2).map(pair));
                all.extend(pairs.iter().map(pair));
            }
        }
    }
    let Share::Part { this, of } = share else { return few };
    let named: HashSet<String> = few.iter().map(Task::name).collect();
    all.retain(|task| !named.contains(&task.name()));
    few.extend(all.into_iter().skip(this).step_by(of));
    few
}

impl Task {
    fn name(&self) -> String {
        let cuts: Vec<String> = self.cuts.iter().map(Cut::to_string).collect();
        format!("{}: {}", WORKLOADS[self.workload].name, cuts.join("; then "))
    }
}

fn perform(task: Task, rehearsals: &[Rehearsal], keep_it: bool) -> Done {
    let name = task.name();
    let one = &rehearsals[task.workload];
    block_on(async {
        let mut room = Room::new(one.workload).await;
        let made = room.play(one.workload, &task.cuts).await;
        let mut broken = promises::broken(&room, one.workload, &one.creates).await;
        // One in three: a start that finds nothing to do is the most frequent thing here as it is.
        if broken.is_empty() && task.cuts.iter().map(Cut::seed).fold(0, u64::wrapping_add).is_multiple_of(3) {
            broken = nothing_is_left_to_do(&mut room).await;
        }
        let committed = std::mem::take(&mut room.committed);
        let mut failure = None;
        if !broken.is_empty() || keep_it {
            let mut text = format!("=== {name}: {broken:#?}\n");
            keep(room, &mut text).await;
            eprint(&text);
            if !broken.is_empty() {
                failure = Some(format!("{name}:\n    {}", broken.join("\n    ")));
            }
        }
        Done { workload: task.workload, cuts: task.cuts, made, committed, failure }
    })
}

/// A further run finds nothing to do and changes nothing.
async fn nothing_is_left_to_do(room: &mut Room) -> Vec<String> {
    let (before, heard) = (room.ledger().await, room.bench.emulator.requests().len());
    room.run(&Phase::Run(None), None, 0).await;
    let after = room.ledger().await;
    let mut broken = std::mem::take(&mut room.troubles);
    let ends = |ledger: &crate::ledger::Ledger| -> Vec<_> {
        ledger.jobs.iter().map(|(id, job)| (*id, job.stage.clone(), job.file_id.clone())).collect()
    };
    if ends(&before) != ends(&after) {
        broken.push(format!("a further run changed {:?} to {:?}", ends(&before), ends(&after)));
    }
    let asked = room.bench.emulator.requests().len() - heard;
    if asked > 0 {
        broken.push(format!("a further run sent {asked} requests"));
    }
    broken
}

/// Keeps the directory, and writes all that is known to `text`.
async fn keep(room: Room, text: &mut String) {
    text.push_str(&room.everything().await);
    let Room { bench, .. } = room;
    writeln!(text, "kept: {}", bench.dir.keep().display()).unwrap();
}

/// What all cuts came to.
#[derive(Default)]
struct Total {
    /// Of each workload: cuts made at syncs and at requests, and those that the run did not come to.
    by_workload: BTreeMap<usize, [usize; 3]>,
    by_kind: BTreeMap<String, usize>,
    twice: usize,
    /// Cuts that name what they cut: a step or another write, and how.
    named: BTreeMap<String, BTreeSet<String>>,
    failures: Vec<String>,
}

impl Total {
    fn add(&mut self, done: Vec<Done>) {
        for one in done {
            let counts = self.by_workload.entry(one.workload).or_default();
            for (cut, made) in one.cuts.iter().zip(&one.made) {
                match (&cut.place, made) {
                    (_, false) => {
                        counts[2] += 1;
                        continue;
                    }
                    (Place::Sync { after, .. }, true) => {
                        counts[0] += 1;
                        let when = if *after { "after" } else { "before" };
                        *self.by_kind.entry(format!("{when} a sync{}", loss(cut.loss))).or_default() += 1;
                    }
                    (Place::Request { operation, point, .. }, true) => {
                        counts[1] += 1;
                        let kind = format!("{operation}, {}{}", point_name(*point), loss(cut.loss));
                        *self.by_kind.entry(kind).or_default() += 1;
                        let name = format!("request {operation}, {}", point_name(*point));
                        self.named.entry(name).or_default().insert(cut.to_string());
                    }
                }
            }
            self.twice += usize::from(one.made.len() > 1 && one.made.iter().all(|made| *made));
            if let Some(cut) = one.cuts.last().filter(|_| one.made.iter().all(|made| *made)) {
                for (step, of) in &one.committed {
                    let name = format!("{}: {cut}: commits {step} {of}", WORKLOADS[one.workload].name);
                    self.named.entry((*step).to_owned()).or_default().insert(name);
                }
            }
            self.failures.extend(one.failure);
        }
    }

    /// Cuts around the syncs that commit what none of those made so far did.
    fn missing_again(&self, rehearsals: &[Rehearsal]) -> Vec<Task> {
        let missing = self.missing();
        let mut tasks = Vec::new();
        for (workload, one) in rehearsals.iter().enumerate() {
            for (run, seen) in (1..).zip(&one.runs).skip(one.workload.cut_from - 1) {
                for ((_, committed), number) in seen.syncs.iter().zip(1_u64..) {
                    if committed.iter().any(|(step, _)| missing.contains(step)) {
                        tasks.extend((number.saturating_sub(2).max(1)..number + 3).map(|number| {
                            let place = Place::Sync { number, after: false };
                            Task { workload, cuts: vec![Cut { run, place, loss: Loss::All }] }
                        }));
                    }
                }
            }
        }
        tasks
    }

    fn missing(&self) -> Vec<&'static str> {
        wanted_names().filter(|name| !self.named.contains_key(*name)).collect()
    }

    fn assert_each_write_was_cut(&self) {
        let missing = self.missing();
        assert!(missing.is_empty(), "no cut commits {missing:?}: give a workload something that makes it");
    }

    fn assert_nothing_was_left_out(&self, rehearsals: &[Rehearsal]) {
        let sent: BTreeSet<String> = rehearsals
            .iter()
            .flat_map(|one| &one.runs)
            .flat_map(|seen| &seen.requests)
            .map(|(operation, ..)| operation.to_string())
            .collect();
        for (operation, why) in NOT_SENT {
            assert!(!sent.contains(&operation.to_string()), "{operation} is sent, although {why}");
        }
        for operation in &sent {
            for point in ["unread", "before the work", "after the work", "after the answer"] {
                let name = format!("request {operation}, {point}");
                assert!(self.named.contains_key(&name), "no cut at a {name}");
            }
        }
        let (made, missed) = self
            .by_workload
            .values()
            .fold((0, 0), |(made, missed), counts| (made + counts[0] + counts[1], missed + counts[2]));
        assert!(missed * 10 <= made, "{missed} cuts were not come to, {made} were made");
    }

    fn tell(&self, took: Duration) {
        let mut text = String::new();
        for (workload, [syncs, requests, missed]) in &self.by_workload {
            let name = WORKLOADS[*workload].name;
            writeln!(text, "{name}: {syncs} cuts at syncs, {requests} at requests, {missed} not come to")
                .unwrap();
        }
        for (kind, count) in &self.by_kind {
            writeln!(text, "{count:>6} {kind}").unwrap();
        }
        for (name, cuts) in self.named.iter().filter(|(name, _)| !name.starts_with("request")) {
            let example = cuts.first().map(String::as_str).unwrap_or_default();
            writeln!(text, "{:>6} commit {name}, such as «{example}»", cuts.len()).unwrap();
        }
        let made: usize = self.by_workload.values().map(|counts| counts[0] + counts[1]).sum();
        let (twice, failed, seconds) = (self.twice, self.failures.len(), took.as_secs_f64());
        writeln!(text, "{made} cuts, {twice} of them pairs, {failed} failed, in {seconds:.0} s").unwrap();
        eprint(&text);
    }
}

/// All that a cut has to name.
fn wanted_names() -> impl Iterator<Item = &'static str> {
    Step::NAMES.iter().chain(WRITES).copied()
}

fn loss(loss: Loss) -> &'static str {
    match loss {
        Loss::None => "",
        Loss::All => ", power loss",
        Loss::Torn => ", torn by power loss",
    }
}

fn point_name(point: Point) -> &'static str {
    match point {
        Point::Unread => "unread",
        Point::Body(_) => "half read",
        Point::Before => "before the work",
        Point::After => "after the work",
        Point::Answered => "after the answer",
    }
}

/// Does `tasks` with a few threads; the order of the results is by chance.
fn in_parallel<T: Send, R: Send>(tasks: Vec<T>, perform: impl Fn(T) -> R + Sync) -> Vec<R> {
    let queue = Mutex::new(VecDeque::from(tasks));
    let (done, results) = mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            let (done, queue, perform) = (done.clone(), &queue, &perform);
            scope.spawn(move || {
                loop {
                    let Some(task) = queue.lock().unwrap().pop_front() else { return };
                    done.send(perform(task)).unwrap();
                }
            });
        }
    });
    drop(done);
    results.into_iter().collect()
}

pub fn block_on<R>(future: impl Future<Output = R>) -> R {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

#[expect(clippy::print_stderr, reason = "the summary, seen with --nocapture")]
fn eprint(text: &str) {
    eprintln!("{text}");
}
