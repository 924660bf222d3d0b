//! The place where one cut happens: an emulator, a folder and a state directory of its own, and the service in it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::{Child, ExitStatus};
use std::time::Duration;

use upspool::model::job::State;
use upspool_emulator::{Action, Calls, Emulator};

use crate::cuts::{Cut, Place, Seen, requests_of};
use crate::harness::{Bench, sha256};
use crate::ledger::Ledger;
use crate::shim::{Aim, Image, Loss, copy_database};
use crate::workloads::{Phase, Workload};

/// A version of a file that lay in the folder.
#[derive(Clone, Debug)]
pub struct Version {
    /// Below the folder.
    pub path: String,
    pub content: Vec<u8>,
    /// Where its job may end.
    pub ends: &'static [State],
    /// Whether it was given another time. If nothing of it was on disk by then that could be compared, the touched file is
    /// taken for another version, and the job that was to send it is gone: the File is one all the same.
    pub touched: bool,
}

/// What was there when a cut had been made.
#[derive(Debug)]
pub struct Moment {
    /// The rows that the cut left.
    pub ledger: Ledger,
    /// Whether they are also on disk: the power was cut.
    pub is_durable: bool,
    /// Requests that the emulator had heard by then.
    pub requests: usize,
    /// File IDs that the service had printed by then, in this run.
    pub told: Vec<String>,
}

/// How a run of the service ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// By itself, with this code.
    Code(i32),
    /// By the cut.
    Cut,
}

/// See the module.
pub struct Room {
    pub bench: Bench,
    image: Image,
    pub versions: Vec<Version>,
    /// What lies in the folder, by path, with its SHA-256.
    pub lies: BTreeMap<String, String>,
    /// Files that have a receipt in the end.
    pub receipts: BTreeSet<String>,
    pub moments: Vec<Moment>,
    /// What went wrong beside the promises.
    pub troubles: Vec<String>,
    /// What each sync of the last cut run committed, if it was cut at one.
    pub committed: Vec<(&'static str, String)>,
    /// What happened, in order, for people.
    pub story: String,
    pub runs: usize,
    /// Which of them was the service's last.
    last: usize,
    during_is_over: bool,
}

impl Room {
    pub async fn new(workload: &Workload) -> Room {
        let mut bench = Bench::with(Emulator::builder().variants((workload.variants)())).await;
        bench.tables = workload.tables.to_owned();
        bench.folder = format!("settle = \"20ms\"\n{}", workload.folder);
        let image = Image::new(bench.path("image"), bench.state_dir());
        let mut room = Room {
            bench,
            image,
            versions: Vec::new(),
            lies: BTreeMap::new(),
            receipts: BTreeSet::new(),
            moments: Vec::new(),
            troubles: Vec::new(),
            committed: Vec::new(),
            story: String::new(),
            runs: 0,
            last: 0,
            during_is_over: false,
        };
        (workload.begin)(&mut room);
        room
    }

    /// Lays a file into the folder, whole from its first moment, in the place of what lies there.
    pub fn put(&mut self, path: &str, content: Vec<u8>, ends: &'static [State]) {
        self.bench.drop_file(path, &content);
        self.lies.insert(path.into(), sha256(&content));
        self.versions.push(Version { path: path.into(), content, ends, touched: false });
    }

    /// The file lies elsewhere in the folder when all is over, and has a receipt where it lay.
    pub fn ends(&mut self, path: &str, at: &str) {
        let lies = self.lies.remove(path).unwrap();
        self.lies.insert(at.into(), lies);
        self.receipts.insert(path.into());
    }

    /// A program is told of every job that ends: it writes down which.
    pub fn add_hook(&mut self) {
        let (hook, told) = (self.bench.path("hook"), self.bench.path("told"));
        std::fs::write(&hook, format!("#!/bin/sh\ncat >>{told:?}\n")).unwrap();
        std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).unwrap();
        for event in ["on_stored", "on_failed"] {
            writeln!(self.bench.folder, "{event} = [{hook:?}]").unwrap();
        }
    }

    /// The records that the program was told, in order.
    pub fn told(&self) -> Vec<serde_json::Value> {
        let told = std::fs::read_to_string(self.bench.path("told")).unwrap_or_default();
        told.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// The receipt of a file, if it has one.
    pub fn receipt(&self, path: &str) -> Option<serde_json::Value> {
        let text = std::fs::read(self.in_folder(&format!("{path}.upspool.json"))).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// From now on no sync is kept.
    pub fn disk_lies(&mut self) {
        self.image.lies = true;
    }

    /// Takes a file away.
    pub fn remove(&mut self, path: &str) {
        std::fs::remove_file(self.in_folder(path)).unwrap();
        self.lies.remove(path);
    }

    /// Gives a file another time and leaves its content alone.
    pub fn touch(&mut self, path: &str) {
        let file = File::options().write(true).open(self.in_folder(path)).unwrap();
        file.set_modified(std::time::UNIX_EPOCH + Duration::from_secs(1_700_000_000)).unwrap();
        for version in self.versions.iter_mut().filter(|version| version.path == path) {
            version.touched = true;
        }
    }

    fn in_folder(&self, path: &str) -> PathBuf {
        self.bench.path("drop").join(path)
    }

    /// A command of the operator; what it writes is watched as the service's own writes are. Paths of files may be said
    /// as `drop/NAME`.
    pub fn ask(&mut self, arguments: &[&str]) {
        self.runs += 1;
        let dir = self.bench.path(&format!("run-{}", self.runs));
        std::fs::create_dir(&dir).unwrap();
        let mut command = self.bench.command(arguments);
        command.current_dir(self.bench.dir.path());
        self.image.watch(&mut command, &dir, Aim::default());
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).trim().replace('\n', "; ");
        writeln!(self.story, "upspool {}: {:?} {said}", arguments.join(" "), output.status.code()).unwrap();
        if output.status.code().is_none() {
            self.troubles.push(format!("a command died: {output:?}"));
        }
    }

    /// All of a workload, cut where `cuts` say: each of them once, in the run that it names, and then the run is done
    /// again until it is not cut any more. Tells which cuts were made.
    pub async fn play(&mut self, workload: &Workload, cuts: &[Cut]) -> Vec<bool> {
        let mut made = vec![false; cuts.len()];
        let mut run = 0;
        for phase in workload.phases {
            match phase {
                Phase::Do(_) | Phase::Killed(_) => self.prepare(phase).await,
                Phase::Run(_) => {
                    run += 1;
                    for (index, cut) in cuts.iter().enumerate().filter(|(_, cut)| cut.run == run) {
                        made[index] = self.run(phase, Some(cut), 0).await == Ended::Cut;
                        if !made[index] {
                            // There is nothing to do again.
                            break;
                        }
                    }
                    if cuts.iter().zip(&made).all(|(cut, made)| cut.run != run || *made) {
                        self.run(phase, None, 0).await;
                    }
                }
            }
        }
        made
    }

    /// All of a workload without a cut: what each of its runs did.
    pub async fn play_through(&mut self, workload: &Workload) -> Vec<Seen> {
        let mut seen = Vec::new();
        for phase in workload.phases {
            match phase {
                Phase::Run(_) => {
                    let from = self.bench.emulator.requests().len();
                    self.run(phase, None, 1).await;
                    seen.push(Seen {
                        syncs: self.syncs_of_last_run().await,
                        requests: requests_of(&self.bench.emulator, from),
                    });
                }
                Phase::Do(_) | Phase::Killed(_) => {
                    self.prepare(phase).await;
                }
            }
        }
        seen
    }

    async fn prepare(&mut self, phase: &Phase) {
        match phase {
            Phase::Do(act) => act(self),
            Phase::Killed(place) => {
                let cut = Cut { run: 0, place: place(), loss: Loss::None };
                if self.run(phase, Some(&cut), 0).await != Ended::Cut {
                    self.troubles.push(format!("it could not be prepared: {cut}"));
                }
            }
            Phase::Run(_) => {}
        }
    }

    /// One run of the service, until it has nothing more to do or is cut. A snapshot of the store is kept of each sync
    /// from `snapshots_from` on.
    pub async fn run(&mut self, phase: &Phase, cut: Option<&Cut>, snapshots_from: u64) -> Ended {
        self.runs += 1;
        self.last = self.runs;
        let dir = self.bench.path(&format!("run-{}", self.runs));
        std::fs::create_dir(&dir).unwrap();
        copy_database(&self.bench.state_dir(), &dir.join("0"));
        let mut aim = Aim { snapshots_from, ..Aim::default() };
        match cut.map(|cut| &cut.place) {
            Some(Place::Sync { number, after }) => {
                aim = Aim { at: *number, after: *after, snapshots_from: number.saturating_sub(1).max(1) };
            }
            Some(Place::Request { operation, filename, nth, point }) => {
                let calls = Calls::of(*operation).nth(*nth);
                let calls = filename.iter().fold(calls, |calls, name| calls.filename(name.as_str()));
                self.bench.emulator.fault(calls.meet(Action::kill(*point)));
            }
            None => {}
        }
        let mut command = self.bench.command(&["run", "--once", "--timeout", "50s"]);
        self.image.watch(&mut command, &dir, aim);
        command.stdout(File::create(dir.join("printed")).unwrap());
        command.stderr(File::create(dir.join("log")).unwrap());
        let child = command.spawn().unwrap();
        self.bench.emulator.set_victim(child.id());
        let status = self.wait(child, phase).await;
        let printed = std::fs::read_to_string(dir.join("printed")).unwrap();
        let killed = status.signal() == Some(9);
        let ended = match status.code() {
            _ if killed && cut.is_some() => Ended::Cut,
            Some(code @ (0 | 1 | 75)) => Ended::Code(code),
            code => {
                self.troubles.push(format!("run {} ended with {status}", self.runs));
                Ended::Code(code.unwrap_or(-1))
            }
        };
        writeln!(self.story, "run {} ended: {ended:?}; it printed {printed:?}", self.runs).unwrap();
        if let (Some(cut), Ended::Cut) = (cut, ended) {
            self.is_cut(cut, &dir, &printed).await;
        }
        ended
    }

    /// Waits for the end of a run; where something is to happen during it, has it happen.
    async fn wait(&mut self, child: Child, phase: &Phase) -> ExitStatus {
        let mut waiting = ending(child);
        let during = match phase {
            Phase::Run(Some(during)) if !self.during_is_over => during,
            _ => return waiting.await,
        };
        let from = if self.moments.is_empty() { during.from } else { 1 };
        let hold = self.bench.emulator.hold((during.calls)().from(from), during.at);
        let reached = tokio::select! {
            status = &mut waiting => Err(status),
            () = hold.reached() => Ok(()),
        };
        match reached {
            Err(status) => status,
            Ok(()) => {
                self.during_is_over = true;
                writeln!(self.story, "a request stands at the gate").unwrap();
                (during.act)(self);
                hold.release();
                waiting.await
            }
        }
    }

    async fn is_cut(&mut self, cut: &Cut, run: &Path, printed: &str) {
        let state = self.bench.state_dir();
        if let Place::Sync { number, .. } = cut.place {
            let before = Ledger::read(&run.join((number - 1).to_string())).await;
            copy_database(&state, &run.join("at-the-cut"));
            self.committed = Ledger::read(&run.join("at-the-cut")).await.changes_since(&before);
        }
        self.image.lose(cut.loss, cut.seed());
        copy_database(&state, &run.join("after-the-cut"));
        let ledger = Ledger::read(&run.join("after-the-cut")).await;
        let told = printed.lines().filter_map(|line| Some(line.split_once('\t')?.0.to_owned()));
        self.moments.push(Moment {
            ledger,
            is_durable: cut.loss != Loss::None,
            requests: self.bench.emulator.requests().len(),
            told: told.filter(|word| word.starts_with("file-")).collect(),
        });
    }

    /// What each sync of the last run committed, with the name of the file that was synced; needs all its snapshots.
    pub async fn syncs_of_last_run(&self) -> Vec<(String, Vec<(&'static str, String)>)> {
        let dir = self.bench.path(&format!("run-{}", self.last));
        let list = std::fs::read_to_string(dir.join("syncs")).unwrap_or_default();
        let mut before = Ledger::read(&dir.join("0")).await;
        let mut syncs = Vec::new();
        for line in list.lines() {
            let (number, name) = line.split_once(' ').unwrap();
            let at = Ledger::read(&dir.join(number)).await;
            syncs.push((name.to_owned(), at.changes_since(&before)));
            before = at;
        }
        syncs
    }

    /// The rows as they are now.
    pub async fn ledger(&self) -> Ledger {
        let copy = self.bench.path("look");
        if copy.exists() {
            std::fs::remove_dir_all(&copy).unwrap();
        }
        copy_database(&self.bench.state_dir(), &copy);
        Ledger::read(&copy).await
    }

    /// The folder as it is now: path and SHA-256.
    pub fn folder(&self) -> BTreeMap<String, String> {
        let mut files = BTreeMap::new();
        let root = self.bench.path("drop");
        let mut open = vec![root.clone()];
        while let Some(dir) = open.pop() {
            for entry in std::fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    open.push(path);
                } else if !path.to_string_lossy().ends_with(".upspool.json") {
                    let name = path.strip_prefix(&root).unwrap().to_string_lossy().into_owned();
                    files.insert(name, sha256(&std::fs::read(path).unwrap()));
                }
            }
        }
        files
    }

    /// Puts these files into the state directory, all of them durable. No service may run.
    pub fn replace_state(&self, files: &BTreeMap<String, Vec<u8>>) {
        self.image.replace(files);
    }
}

/// The end of a child that is to end by itself; one that hangs is ended by a signal that tells.
fn ending(mut child: Child) -> Pin<Box<dyn Future<Output = ExitStatus>>> {
    const PATIENCE: Duration = Duration::from_secs(90);
    let pid = rustix::process::Pid::from_child(&child);
    let mut waiting = tokio::task::spawn_blocking(move || child.wait().unwrap());
    Box::pin(async move {
        match tokio::time::timeout(PATIENCE, &mut waiting).await {
            Ok(status) => status.unwrap(),
            Err(_) => {
                rustix::process::kill_process(pid, rustix::process::Signal::ABORT).unwrap();
                waiting.await.unwrap()
            }
        }
    })
}
