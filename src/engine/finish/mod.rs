//! What is done after the ledger row: the source is moved or deleted, a receipt written, a program told. Beside
//! everything else: no upload ever waits for it.
//!
//! - this file: the loop. What is to be done stands in the store, so a crash forgets nothing, and the queue takes no memory;
//! - `steps`: does one step;
//! - `told`: what a program is told of a job.

mod steps;
mod told;

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::{JoinSet, spawn_blocking};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use super::errands::panic_text;
use super::intake::Hints;
use super::vitals::{Vitals, Whereabouts};
use crate::clock::Clock;
use crate::model::finish::{FinishStep, Plan, Receipt};
use crate::model::job::{Code, FolderId, JobId, State};
use crate::model::watchdog::{Await, LONGEST_REST};
use crate::putaway;
use crate::store::{Store, Unfinished, Writer};
use crate::text::shown;

/// Sources and receipts that are worked on at once: each takes a blocking thread, and a file server may keep it.
const AT_ONCE: usize = 16;

/// Of one folder: the file server of one keeps not all of them.
const AT_ONCE_OF_ONE: usize = 4;

/// Programs that run at once.
const HOOKS: usize = 4;

/// Rows read in one go.
const PAGE: usize = 64;

/// A folder, as far as ends are concerned.
#[derive(Clone, Debug)]
pub struct Folder {
    /// Its name.
    pub name: String,
    /// Where it lies.
    pub path: PathBuf,
    /// What it wants done.
    pub plan: Plan,
}

/// What the rest of the engine sees of this, and tells it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Finish {
    folders: Arc<HashMap<FolderId, Folder>>,
    wake: Arc<Notify>,
    /// Ends that were announced, and how many had been when nothing was left to be done.
    announced: Arc<AtomicU64>,
    idle_at: Arc<AtomicU64>,
    /// Nothing is left to be done.
    idle: Arc<Notify>,
}

impl Finish {
    /// For these folders. Nobody works on it before [`Finisher::run`].
    pub fn new(folders: HashMap<FolderId, Folder>) -> Finish {
        Finish {
            folders: Arc::new(folders),
            wake: Arc::default(),
            // What an earlier run left is not known yet.
            announced: Arc::new(AtomicU64::new(1)),
            idle_at: Arc::default(),
            idle: Arc::default(),
        }
    }

    /// Whether something is to be done with a job of this folder that ends so. Announces it: whoever asks writes it down,
    /// then calls [`Finish::committed`].
    pub fn announce(&self, folder: FolderId, state: State) -> bool {
        let due = self.plan(folder).is_some_and(|plan| plan.is_due(state));
        if due {
            self.announced.fetch_add(1, Ordering::SeqCst);
        }
        due
    }

    /// Announces that something is to be done again.
    pub(super) fn again(&self) {
        self.announced.fetch_add(1, Ordering::SeqCst);
    }

    /// What was announced, or is to be done again, is in the store.
    pub fn committed(&self) {
        self.wake.notify_one();
    }

    /// Whether all that was announced is done, or has failed for good.
    pub fn is_idle(&self) -> bool {
        self.idle_at.load(Ordering::SeqCst) == self.announced.load(Ordering::SeqCst)
    }

    /// Waits until that may have become so. For one who waits.
    pub(super) async fn became_idle(&self) {
        self.idle.notified().await;
    }

    /// A job is sent again by the operator's wish: whoever waits for its receipt must not find that of its failure.
    pub(super) fn requeued(&self, folder: FolderId, path: PathBuf) {
        if let Some(folder) = self.folders.get(&folder).filter(|folder| folder.plan.has_receipts()) {
            tokio::spawn(remove_receipts(folder.path.clone(), folder.plan.receipt.clone(), vec![path]));
        }
    }

    /// What a folder wants done.
    pub fn plan(&self, folder: FolderId) -> Option<&Plan> {
        self.folders.get(&folder).map(|folder| &folder.plan)
    }
}

/// Takes away the receipts of files of which another version is to be sent. One that cannot be is said, and stays.
pub(super) async fn remove_receipts(root: PathBuf, receipt: Receipt, paths: Vec<PathBuf>) {
    let remove = move || {
        for path in paths {
            if let Err(error) = putaway::remove_receipt(&root, &path, &receipt) {
                let (path, code) = (shown(&root.join(path)), Code::FinishFailed.as_str());
                warn!(event = "receipt-stays", path, code, "the receipt of an older version stays: {error}");
            }
        }
    };
    // It panics with the system's own faults only, and the runtime's end is nobody's.
    let _ = spawn_blocking(remove).await;
}

/// What the work is done with.
#[derive(Debug)]
pub struct Parts {
    /// The handle that others have.
    pub finish: Finish,
    /// For reading.
    pub store: Store,
    /// For writing.
    pub writer: Writer,
    /// The time.
    pub clock: Clock,
    /// Where a path is to be looked at again that a source has left.
    pub hints: Hints,
    /// For the watchdog to see.
    pub vitals: Arc<Vitals>,
    /// Whether somebody waits for the end of all.
    pub once: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Finisher {
    parts: Arc<Parts>,
    lanes: [Lane; 2],
    /// What is worked on, of both lanes, and in which folder.
    busy: HashMap<JobId, FolderId>,
    here: Whereabouts,
}

/// Steps that share slots: programs that take long keep no file from being moved.
#[derive(Debug)]
struct Lane {
    steps: &'static [FinishStep],
    slots: usize,
    ready: VecDeque<Unfinished>,
    running: JoinSet<JobId>,
}

impl Lane {
    fn new(steps: &'static [FinishStep], slots: usize) -> Lane {
        Lane { steps, slots, ready: VecDeque::new(), running: JoinSet::new() }
    }
}

impl Finisher {
    /// One that has not begun.
    pub fn new(parts: Parts) -> Finisher {
        let here = parts.vitals.enter("the end of jobs");
        let lanes = [
            Lane::new(&[FinishStep::Source, FinishStep::Receipt], AT_ONCE),
            Lane::new(&[FinishStep::Hook], HOOKS),
        ];
        Finisher { parts: Arc::new(parts), lanes, busy: HashMap::new(), here }
    }

    /// Works until `stop`, and then until what is under way has ended, `drain` at most; returns when it is told to `end`
    /// besides. Programs that run longer are killed; they run again when the service does.
    pub async fn run(mut self, stop: CancellationToken, end: CancellationToken, drain: Duration) {
        while !stop.is_cancelled() {
            self.here.at(Await::Store);
            // The store is damaged, and the service about to end.
            let Some(next_due) = self.fill().await else { break };
            self.here.at(Await::Message);
            self.here.got_on();
            let wake = self.parts.finish.wake.clone();
            let [files, hooks] = &mut self.lanes;
            let ended = tokio::select! {
                () = stop.cancelled() => break,
                () = wake.notified() => None,
                () = tokio::time::sleep(next_due.min(LONGEST_REST)) => None,
                Some(ended) = files.running.join_next_with_id() => Some(ended),
                Some(ended) = hooks.running.join_next_with_id() => Some(ended),
            };
            match ended {
                Some(Ok((_, job))) => {
                    self.busy.remove(&job);
                }
                // Each job catches its own panic, so this is the end of the runtime.
                Some(Err(fault)) => {
                    error!(event = "failed", code = Code::Internal.as_str(), "the end of a job: {fault}")
                }
                None => {}
            }
        }
        self.here.at(Await::Message);
        let all = async {
            for lane in &mut self.lanes {
                while lane.running.join_next().await.is_some() {}
            }
        };
        // What goes on for longer ends when this is dropped.
        let _ = tokio::time::timeout(drain, all).await;
        drop(self);
        end.cancelled().await;
    }

    /// Starts what is due, as far as there are slots. How long until more comes due; nothing if the store cannot be read
    /// any more.
    async fn fill(&mut self) -> Option<Duration> {
        let parts = self.parts.clone();
        let announced = parts.finish.announced.load(Ordering::SeqCst);
        // What was announced may not be written yet, and would be taken for nothing.
        if parts.once && parts.writer.flush().await.is_err() {
            return None;
        }
        let now = parts.clock.now();
        for lane in &mut self.lanes {
            let full = full_of(&self.busy);
            lane.ready.retain(|one| !full.contains(&one.folder));
            if lane.ready.is_empty() && lane.running.len() < lane.slots {
                // Those that are worked on are still due, as far as the store knows.
                let (steps, limit) = (lane.steps, PAGE + self.busy.len());
                let read = || parts.store.unfinished(steps, &full, now.wall, limit);
                let due = parts.writer.read("reading what is to be finished", read).await?;
                lane.ready.extend(due.into_iter().filter(|one| !self.busy.contains_key(&one.job)));
            }
            while lane.running.len() < lane.slots
                && let Some(one) = lane.ready.pop_front()
            {
                if !self.busy.contains_key(&one.job) && !full_of(&self.busy).contains(&one.folder) {
                    self.busy.insert(one.job, one.folder);
                    lane.running.spawn(attend(parts.clone(), one));
                }
            }
        }
        let later = || parts.store.unfinished_later(now.wall);
        let (left, next) = parts.writer.read("reading what is to be finished", later).await?;
        if !left && self.busy.is_empty() {
            parts.finish.idle_at.store(announced, Ordering::SeqCst);
            parts.finish.idle.notify_one();
        }
        let wait = next.map_or(i64::MAX, |next| next.0.saturating_sub(now.wall.0)).max(1);
        Some(Duration::from_millis(u64::try_from(wait).unwrap_or(1)))
    }
}

/// The folders that have all that they may have at once.
fn full_of(busy: &HashMap<JobId, FolderId>) -> Vec<FolderId> {
    let mut counts: HashMap<FolderId, usize> = HashMap::new();
    for folder in busy.values() {
        *counts.entry(*folder).or_default() += 1;
    }
    counts.into_iter().filter(|(_, count)| *count >= AT_ONCE_OF_ONE).map(|(folder, _)| folder).collect()
}

/// Works on one job; a panic in it is its own failure.
async fn attend(parts: Arc<Parts>, one: Unfinished) -> JobId {
    let job = one.job;
    let worker = parts.clone();
    // A task of its own, which ends with this one.
    let mut task = JoinSet::new();
    task.spawn(async move { steps::advance(&worker, one).await });
    if let Some(Err(fault)) = task.join_next().await
        && let Ok(panic) = fault.try_into_panic()
    {
        let message = format!("{}; please report it", panic_text(&*panic));
        let record = parts.writer.read("reading a job", || parts.store.record(job)).await;
        if let Some(Some(record)) = record {
            // It may have come further since it was taken up.
            let step = record.finish_step.as_deref().and_then(FinishStep::from_name).unwrap_or(one.step);
            steps::fail_for_good(&parts, Unfinished { step, ..one }, record.state, message).await;
        }
    }
    job
}
