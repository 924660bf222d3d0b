//! Whatever is done to files in a folder, on whatever file system, by events or by polling, through restarts: each version
//! that settles becomes one File of exactly its bytes, and nothing else becomes one.
//!
//! Actors, each in a directory of its own, do named and random things to files. They remember what has to come of it:
//! which whole contents ever lay at a path, and what lies there now. `UPSPOOL_FOLDER_SEEDS=N` has N random actors for each
//! file system instead of a few; `UPSPOOL_FOLDER_SEED=S` begins with another seed.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use rustix::process::Signal;
use upspool::clock::Clock;
use upspool::model::job::State;
use upspool::store::{Filter, Store};
use upspool_emulator::variants::Outcome;
use upspool_emulator::{Emulator, Variants};

use crate::actor::{Action, Actor, Expected};
use crate::harness::{Bench, PATIENCE, Service};
use crate::mount::Mount;

use Action::{
    Append, Close, Delete, Link, MakeDirectory, Map, Mode, More, Open, Rename, Settle, Touch, Truncate, Write,
};

/// Sequences that somebody once thought of.
const NAMED: &[(&str, &[Action])] = &[
    ("written-in-one-go", &[Write("in/a", 500), Settle]),
    ("written-slowly", &[Open("in/a"), More(10), Settle, More(400), Settle, More(7), Close, Settle]),
    ("appended-later", &[Write("in/a", 100), Settle, Append("in/a", 50), Settle, Append("in/a", 1), Settle]),
    ("moved-in-whole", &[Write("out/a", 300), Rename("out/a", "in/a"), Settle]),
    (
        "written-under-a-temporary-name",
        &[Write("in/a.part", 300), Settle, Rename("in/a.part", "in/a"), Settle],
    ),
    ("replaced-by-rename", &[Write("in/a", 9), Settle, Write("out/b", 9), Rename("out/b", "in/a"), Settle]),
    ("renamed-within", &[Write("in/a", 30), Settle, Rename("in/a", "in/b"), Settle]),
    (
        "moved-out-and-in",
        &[Write("in/a", 8), Settle, Rename("in/a", "out/a"), Rename("out/a", "in/a"), Settle],
    ),
    ("written-anew-in-place", &[Write("in/a", 200), Settle, Write("in/a", 200), Settle]),
    (
        "a-tree-moved-in-and-out",
        &[
            MakeDirectory("out/t/x/y"),
            Write("out/t/1", 11),
            Write("out/t/x/y/2", 12),
            Rename("out/t", "in/t"),
            Settle,
            Write("in/t/x/3", 13),
            Settle,
            Rename("in/t", "out/t"),
            Write("out/t/1", 14),
            Rename("out/t", "in/t2"),
            Settle,
        ],
    ),
    (
        "directories-and-files-at-once",
        &[MakeDirectory("in/d/e/f"), Write("in/d/e/f/a", 5), Write("in/d/e/b", 6), Settle],
    ),
    (
        "a-directory-renamed-while-a-file-in-it-is-open",
        &[MakeDirectory("in/d"), Open("in/d/a"), More(50), Rename("in/d", "in/e"), More(50), Close, Settle],
    ),
    ("touched-and-chmodded", &[Write("in/a", 77), Settle, Touch("in/a"), Settle, Mode("in/a"), Settle]),
    ("touched-at-once", &[Write("in/a", 77), Touch("in/a"), Mode("in/a"), Touch("in/a"), Settle]),
    ("linked", &[Write("in/a", 60), Settle, Link("in/a", "in/b"), Settle, Delete("in/a"), Settle]),
    (
        "changed-by-its-other-name",
        &[Write("out/a", 60), Link("out/a", "in/b"), Settle, Append("out/a", 5), Settle],
    ),
    ("truncated", &[Write("in/a", 600), Settle, Truncate("in/a", 100), Settle, Truncate("in/a", 0), Settle]),
    ("empty-and-then-not", &[Write("in/a", 0), Settle, Append("in/a", 3), Settle]),
    ("mapped", &[Map("in/a", 10_000), Settle]),
    ("deleted-at-once", &[Write("in/a", 40), Delete("in/a"), Settle, Write("in/a", 41), Settle]),
    (
        "deleted-while-it-is-open",
        &[Open("in/a"), More(40), Delete("in/a"), More(5), Close, Settle, Write("in/a", 3), Settle],
    ),
    (
        "swapped",
        &[
            Write("in/a", 20),
            Write("in/b", 20),
            Settle,
            Rename("in/a", "in/t.part"),
            Rename("in/b", "in/a"),
            Rename("in/t.part", "in/b"),
            Settle,
        ],
    ),
    ("sent-as-parts", &[Write("in/a", 700_000), Settle, Append("in/a", 300_000), Settle]),
];

const FILES: [&str; 10] =
    ["in/1", "in/2", "in/d/1", "in/d/2", "in/d/e/1", "in/x.part", "out/1", "out/2", "out/d/1", "out/d/e/1"];
const DIRECTORIES: [&str; 6] = ["in/d", "in/d/e", "in/g", "out/d", "out/d/e", "out/g"];
const LENGTHS: [usize; 8] = [0, 1, 10, 100, 1_000, 5_000, 50_000, 400_000];

struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }

    /// Something that can be done now.
    fn action(&mut self, actor: &Actor) -> Action {
        let is_free = |path: &str| {
            let around = path.rsplit_once('/').unwrap().0;
            (around == "in" || around == "out" || actor.has_directory(around)) && !actor.has_directory(path)
        };
        loop {
            let (path, other) = (self.of(&FILES), self.of(&FILES));
            let (from, to) = (self.of(&DIRECTORIES), self.of(&DIRECTORIES));
            let length = self.of(&LENGTHS);
            let (is, fits) = (actor.has(path), is_free(other));
            let nested = to.starts_with(from) || from.starts_with(to);
            return match self.below(16) {
                0..=2 if is_free(path) && !actor.is_open() => Write(path, length),
                3 if is_free(path) && !actor.is_open() => Open(path),
                4 if actor.is_open() => More(length),
                5 if actor.is_open() => Close,
                6 if is && !actor.is_open() => Append(path, length.max(1)),
                7 if is && !actor.is_open() => Truncate(path, length / 2),
                8 if is_free(path) && !is && !actor.is_open() => Map(path, length.max(1)),
                9 | 10 if is && fits && path != other => Rename(path, other),
                11 if is && fits && !actor.has(other) => Link(path, other),
                12 if is => Delete(path),
                13 if !actor.has_directory(from) => MakeDirectory(from),
                14 if actor.has_directory(from) && !nested && is_free(to) => Rename(from, to),
                15 if is => {
                    if length > 50 {
                        Touch(path)
                    } else {
                        Mode(path)
                    }
                }
                _ => continue,
            };
        }
    }
}

/// What the service has of a path.
#[derive(Clone, Debug)]
struct Row {
    path: PathBuf,
    present: bool,
    state: State,
    bytes: u64,
    hash: Option<String>,
}

/// What the service has, read again and again by one task for all who wait.
#[derive(Default)]
struct Ledger {
    rows: Mutex<Arc<Vec<Row>>>,
    read: Condvar,
    ended: AtomicBool,
}

impl Ledger {
    async fn look(&self, bench: &Bench, folder: &Path) {
        let store = Store::open_for_asking(&bench.state_dir()).await.unwrap();
        let rows = rows(&store, &bench.emulator, folder).await;
        store.close().await;
        *self.rows.lock().unwrap() = Arc::new(rows);
        self.read.notify_all();
    }

    /// Waits until all is as it should be.
    fn wait(&self, actor: &Actor, what: &str) {
        let mut guard = self.rows.lock().unwrap();
        // Not what was read before this began.
        let began = Clock::System.now().boot;
        loop {
            guard = self.read.wait_timeout(guard, Duration::from_secs(1)).unwrap().0;
            let waited = Clock::System.now().boot.since(began);
            match wrong_now(&guard, &actor.expected, &actor.name) {
                None => return,
                Some(wrong) if waited > PATIENCE || self.ended.load(Ordering::SeqCst) => {
                    drop(guard);
                    panic!("{}, {what}: {wrong}", actor.name);
                }
                Some(_) => {}
            }
        }
    }
}

async fn rows(store: &Store, emulator: &Emulator, folder: &Path) -> Vec<Row> {
    let records = store.list(&Filter { limit: 100_000, ..Filter::default() }).await.unwrap();
    // After the rows: what they name is there.
    let hashes: HashMap<String, Option<String>> =
        emulator.files().into_iter().map(|file| (file.id, file.sha256)).collect();
    let records = records.into_iter().filter(|record| record.folder_path == folder);
    let row = |record: upspool::store::Record| Row {
        hash: record.file_id.map(|id| hashes[&id.0].clone().unwrap_or_default()),
        path: record.relative_path,
        present: record.present,
        state: record.state,
        bytes: record.fingerprint.bytes,
    };
    records.map(row).collect()
}

/// What is not yet as it should be when all has settled.
fn wrong_now(rows: &[Row], expected: &Expected, name: &str) -> Option<String> {
    for (path, hash) in &expected.there {
        let Some(hash) = hash else { continue };
        let present = rows.iter().find(|row| row.present && row.path == *path);
        let right = present.is_some_and(|row| match row.bytes {
            0 => row.state == State::Failed && *hash == crate::harness::sha256(b""),
            _ => row.state == State::Stored && row.hash.as_ref() == Some(hash),
        });
        if !right {
            return Some(format!("{path:?} should be {hash}, and is {present:?}"));
        }
    }
    let open = |row: &&Row| row.path.starts_with(name) && !row.state.has_ended();
    rows.iter().find(open).map(|row| format!("{row:?} has not ended"))
}

/// What should never have become a File, or so often.
fn wrong_ever(rows: &[Row], expected: &Expected, name: &str) -> Option<String> {
    let mut counts: HashMap<(PathBuf, String), usize> = HashMap::new();
    for row in rows.iter().filter(|row| row.path.starts_with(name)) {
        let allowed = matches!(row.state, State::Stored | State::Gone)
            || (row.state == State::Failed && row.bytes == 0);
        if !allowed {
            return Some(format!("{row:?} should have been stored"));
        }
        let Some(hash) = &row.hash else { continue };
        let version = (row.path.clone(), hash.clone());
        let count = counts.entry(version.clone()).or_default();
        *count += 1;
        match expected.arrivals.get(&version) {
            None => return Some(format!("{row:?} never lay there whole")),
            Some(arrivals) if count > &mut arrivals.clone() => {
                return Some(format!("{row:?} was sent {count} times and came {arrivals} times"));
            }
            Some(_) => {}
        }
    }
    None
}

/// Where the folder lies, with what has to be kept for it to lie there.
fn ground(bench: &Bench, kind: &str) -> Option<(PathBuf, Vec<Mount>)> {
    let at = bench.path("ground");
    let mounts = match kind {
        "tmpfs" => vec![Mount::tmpfs_at(at.clone(), 512)?],
        "overlay" => {
            // An overlay cannot lie on an overlay, but on memory.
            let below = bench.path("below");
            let memory = Mount::tmpfs_at(below.clone(), 512)?;
            std::fs::create_dir(below.join("lower")).unwrap();
            // The upper one goes first.
            vec![Mount::overlay(&below.join("lower"), &below, at.clone())?, memory]
        }
        _ => Vec::new(),
    };
    std::fs::create_dir_all(at.join("folder")).unwrap();
    std::fs::create_dir_all(at.join("beside")).unwrap();
    Some((at, mounts))
}

fn number(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).map_or(otherwise, |text| text.parse().unwrap())
}

#[expect(clippy::print_stdout, reason = "shown if it fails, so that it can be done again")]
async fn each_version_becomes_one_file(kind: &'static str, watch: &str) {
    // What an answer costs that a kill has lost is shown elsewhere: half a minute, with a server that does not say it twice.
    let patient = Variants { second_complete: Outcome::Upload, ..Variants::default() };
    let mut bench = Bench::with(Emulator::builder().variants(patient)).await;
    let Some((at, mounts)) = ground(&bench, kind) else { return };
    let (folder, beside) = (at.join("folder"), at.join("beside"));
    bench.folders = format!(
        "[[folder]]\npath = {folder:?}\nname = \"tested\"\npurpose = \"user_data\"\nsettle = \"100ms\"\n\
         watch = {watch:?}\npoll_interval = \"1s\"\nrescan_interval = \"2s\"\nexisting = \"upload\"\n"
    );
    let first = number("UPSPOOL_FOLDER_SEED", u64::from(std::process::id()));
    let seeds = number("UPSPOOL_FOLDER_SEEDS", 6);
    println!("{kind} {watch}: random actors from UPSPOOL_FOLDER_SEED={first}");
    let mut service = bench.start();
    service.wait_event("ready").await;

    let ledger = Arc::new(Ledger::default());
    let settled = Arc::new(AtomicUsize::new(0));
    let mut actors = Vec::new();
    let start = |name: String, script: Script| {
        let actor = Actor::new(&name, &folder, &beside);
        let (ledger, settled) = (ledger.clone(), settled.clone());
        std::thread::spawn(move || act(actor, script, &ledger, &settled))
    };
    for (name, actions) in NAMED {
        actors.push(start((*name).to_owned(), Script::Named(actions)));
    }
    for seed in first..first + seeds {
        actors.push(start(format!("random-{seed}"), Script::Random(Random(seed))));
    }

    // Two ends on the way: one without warning, one as it should be.
    let mut ends = [Signal::TERM, Signal::KILL].map(Some).to_vec();
    let thirds = [2, 1].map(|part| part * actors.len());
    let mut due = thirds.to_vec();
    while actors.iter().any(|actor| !actor.is_finished()) {
        ledger.look(&bench, &folder).await;
        if due.last().is_some_and(|due| settled.load(Ordering::SeqCst) >= *due) {
            due.pop();
            service = restart(&bench, service, ends.pop().flatten().unwrap()).await;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    ledger.ended.store(true, Ordering::SeqCst);
    let expected: Vec<(String, Expected)> = actors.into_iter().map(|actor| actor.join().unwrap()).collect();
    assert_eq!(ends.len(), due.len());
    assert_eq!(service.stop().await.0.code(), Some(0));

    // All that lies there is known, also to one that starts anew and scans.
    let files = bench.emulator.files().len();
    let (code, printed, _) = bench.once(&[]).await;
    assert_eq!(code, 0, "{printed}");
    assert_eq!(bench.emulator.files().len(), files, "nothing is sent again");
    let store = Store::open_for_asking(&bench.state_dir()).await.unwrap();
    let rows = rows(&store, &bench.emulator, &folder).await;
    store.close().await;
    for (name, expected) in &expected {
        let wrong = wrong_now(&rows, expected, name).or_else(|| wrong_ever(&rows, expected, name));
        assert_eq!(wrong, None, "{kind} {watch}: {name}");
        let present: Vec<&Row> =
            rows.iter().filter(|row| row.present && row.path.starts_with(name)).collect();
        let there = expected.there.keys().collect::<Vec<_>>();
        assert_eq!(present.len(), there.len(), "{kind} {watch}: {name}: {there:#?}, and {present:#?}");
    }
    drop(mounts);
}

async fn restart(bench: &Bench, service: Service, signal: Signal) -> Service {
    if signal == Signal::KILL {
        service.kill().await;
    } else {
        assert_eq!(service.stop().await.0.code(), Some(0));
    }
    let service = bench.start();
    service.wait_event("ready").await;
    service
}

enum Script {
    Named(&'static [Action]),
    Random(Random),
}

fn act(mut actor: Actor, script: Script, ledger: &Ledger, settled: &AtomicUsize) -> (String, Expected) {
    let mut said = Vec::new();
    let mut perform = |actor: &mut Actor, action: Action| {
        actor.perform(&action);
        let settle = matches!(action, Settle);
        said.push(action);
        if settle {
            ledger.wait(actor, &format!("{said:?}"));
            settled.fetch_add(1, Ordering::SeqCst);
        }
    };
    match script {
        Script::Named(actions) => actions.iter().for_each(|action| perform(&mut actor, action.clone())),
        Script::Random(mut random) => {
            for _ in 0..5 {
                for _ in 0..1 + random.below(12) {
                    let action = random.action(&actor);
                    perform(&mut actor, action);
                }
                perform(&mut actor, Settle);
            }
            if actor.is_open() {
                perform(&mut actor, Close);
                perform(&mut actor, Settle);
            }
        }
    }
    (actor.name, actor.expected)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_version_becomes_one_file_on_disk_by_events() {
    each_version_becomes_one_file("disk", "events").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_version_becomes_one_file_on_disk_by_polling() {
    each_version_becomes_one_file("disk", "poll").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_version_becomes_one_file_in_memory_by_events() {
    each_version_becomes_one_file("tmpfs", "events").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_version_becomes_one_file_in_memory_by_polling() {
    each_version_becomes_one_file("tmpfs", "poll").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_version_becomes_one_file_on_an_overlay_by_events() {
    each_version_becomes_one_file("overlay", "events").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_version_becomes_one_file_on_an_overlay_by_polling() {
    each_version_becomes_one_file("overlay", "poll").await;
}
