//! Files that were seen become jobs: known or not, settled or not, enqueue or nothing.
//!
//! Events and scans come by the same way. What the store knows is dropped first, so that a rescan of a hundred thousand
//! known files costs a few statements; the rest waits in [`Settle`] until nobody writes to it any more.

use std::collections::{HashMap, HashSet, VecDeque};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, watch as signal};
use tokio::task::{JoinSet, spawn_blocking};
use tracing::{debug, error, info, warn};

use super::live::{LiveChanging, LiveFolder};
use super::vitals::{Vitals, Whereabouts};
use super::{Idle, Message, errands};
use crate::clock::Clock;
use crate::model::board::Event;
use crate::model::file::{Digest, Fingerprint, Look};
use crate::model::job::{AccountName, Code, FolderId, JobId, Reason, State, Subject};
use crate::model::plan;
use crate::model::settle::{Decision, FolderKey, MOST_FILES, Observation, Quiet, Settle, Why};
use crate::model::time::{Boot, Now};
use crate::model::watchdog::{Await, LONGEST_REST};
use crate::source::Source;
use crate::store::{self, Applied, Arrival, Candidate, Known, Store, Write, WriteError, Writer};
use crate::text::{rfc3339, shown, size};
use crate::watch::{FolderState, Notice, Scanned, Watch, look};

/// Files looked at by one blocking thread in one go.
const LOOKS: usize = 128;

/// Blocking threads that look at one folder at once: a hung file server holds them for ever.
const LOOKERS: usize = 2;

/// A run for what was there waits for so long for a file that is still written to.
const IN_VAIN: Duration = Duration::from_secs(45);

/// The longest time without a look at the clock.
const LONGEST_SLEEP: Duration = LONGEST_REST;

/// With `existing = "auto"` a folder that holds more than this when it is first watched begins paused.
const EXISTING_FILES: u64 = 1000;

/// The same in bytes.
const EXISTING_BYTES: u64 = 10 * 1024 * 1024 * 1024;

/// Changing files that are shown to people at most.
const SHOWN: usize = 100;

/// How often what is shown to people is made anew.
const SHOW_EVERY: Duration = Duration::from_millis(500);

/// What intake has to know of a folder.
#[derive(Clone, Debug)]
pub struct Folder {
    /// Its row.
    pub id: FolderId,
    /// Its name.
    pub name: String,
    /// Where it lies.
    pub path: PathBuf,
    /// What is sent with each of its files.
    pub purpose: String,
    /// The same, unless the file's name tells.
    pub mime_type: Option<String>,
    /// Lifetime of the Files in seconds.
    pub expires_after: Option<u64>,
    /// Whose Files.
    pub account: AccountName,
    /// The account's server.
    pub base_url: String,
    /// The account's project.
    pub project: Option<String>,
    /// What becomes of the files that lay there before.
    pub existing: Existing,
    /// Whether the quiet time goes by how the folder is watched.
    pub settles_by_state: bool,
}

/// What becomes of files that lie in a folder when it is first watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// They were met before: no file is special.
    Met,
    /// They are uploaded.
    Upload,
    /// They are uploaded, unless they are many: then the folder begins paused.
    Guard,
    /// They become rows that say that they were there.
    Skip,
}

/// What intake works with.
pub struct Parts {
    /// In the order of their keys.
    pub folders: Vec<Folder>,
    /// The quiet times are set.
    pub settle: Settle,
    /// The hand that looks.
    pub watch: Watch,
    /// What it tells.
    pub notices: mpsc::Receiver<Notice>,
    /// What is known.
    pub store: Store,
    /// Where jobs are made.
    pub writer: Writer,
    /// Who is told of them.
    pub engine: mpsc::Sender<Message>,
    /// The time.
    pub clock: Clock,
    /// Who is told of jobs that end as soon as they begin, where somebody waits for that.
    pub once: Option<mpsc::UnboundedSender<JobId>>,
    /// For the watchdog to see.
    pub vitals: Arc<Vitals>,
}

/// The engine's side of intake.
#[derive(Clone, Debug)]
pub struct Hints {
    again: mpsc::UnboundedSender<(FolderId, PathBuf)>,
    /// Hints that were not taken up yet.
    owed: Arc<AtomicUsize>,
    idle: Idle,
    /// What is not settled has been waited for, for long.
    stuck: Arc<AtomicBool>,
    seen: Arc<Mutex<Seen>>,
}

/// What people are shown of folders.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Each folder.
    pub folders: Vec<LiveFolder>,
    /// Some files that have not settled.
    pub changing: Vec<LiveChanging>,
    /// How many have not.
    pub changing_count: u64,
}

impl Hints {
    /// Has the file looked at again, once what is known of it is `written`: until then it would be taken for what it was.
    pub fn look_again(
        &self,
        folder: FolderId,
        path: PathBuf,
        written: impl Future<Output = Result<Applied, WriteError>> + Send + 'static,
    ) {
        self.owed.fetch_add(1, Ordering::SeqCst);
        let again = self.again.clone();
        tokio::spawn(async move {
            // Only a writer that ends with the service fails to do nothing.
            let _ = written.await;
            // Intake ends only with the service.
            let _ = again.send((folder, path));
        });
    }

    /// Whether each folder was scanned once and nothing that was seen waits to become a job.
    pub fn is_idle(&self) -> bool {
        self.owed.load(Ordering::SeqCst) == 0 && *self.idle.borrow()
    }

    /// Whether each folder was scanned once, and all that is left are files that are written to for long.
    pub fn is_stuck(&self) -> bool {
        self.owed.load(Ordering::SeqCst) == 0 && self.stuck.load(Ordering::SeqCst)
    }

    /// What people are shown.
    pub fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What some files of one folder looked like.
struct Looked {
    key: FolderKey,
    files: Vec<(PathBuf, Observation)>,
}

/// See the module.
pub struct Intake {
    parts: Parts,
    again: mpsc::UnboundedReceiver<(FolderId, PathBuf)>,
    owed: Arc<AtomicUsize>,
    idle: signal::Sender<bool>,
    stuck: Arc<AtomicBool>,
    seen: Arc<Mutex<Seen>>,
    looks: JoinSet<Looked>,
    /// Looks under way and files that wait for one, by folder: a file server that hangs keeps back its own folder only.
    looking: HashMap<FolderKey, (usize, VecDeque<PathBuf>)>,
    compares: JoinSet<(FolderKey, Settled, Known, Option<bool>)>,
    /// Files of `existing = "skip"` that the first scan met and that are no rows yet.
    met_first: HashMap<FolderKey, HashSet<PathBuf>>,
    /// Folders whose first scan is over, but not yet written down.
    closing: Vec<FolderKey>,
    /// When this run began to watch.
    started: Boot,
    /// Folders of which files found no room: scanned again when there is some.
    overflowed: HashSet<FolderKey>,
    /// Folders whose first scan of this run has not ended.
    unscanned: Vec<FolderKey>,
    shown_at: Boot,
    here: Whereabouts,
}

impl Intake {
    /// Intake, and the engine's side of it.
    pub fn new(parts: Parts) -> (Intake, Hints) {
        let (again, hints) = mpsc::unbounded_channel();
        let (idle, is_idle) = signal::channel(false);
        let (owed, seen) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Seen::default())));
        let folders = parts.folders.iter().map(|folder| LiveFolder {
            name: folder.name.clone(),
            path: shown(&folder.path),
            state: "starting".into(),
            ..LiveFolder::default()
        });
        let shown = Seen { folders: folders.collect(), ..Seen::default() };
        *seen.lock().unwrap_or_else(PoisonError::into_inner) = shown;
        let stuck = Arc::new(AtomicBool::new(false));
        let handle =
            Hints { again, owed: owed.clone(), idle: is_idle, stuck: stuck.clone(), seen: seen.clone() };
        let unscanned =
            (0..parts.folders.len()).filter_map(|key| u32::try_from(key).ok()).map(FolderKey).collect();
        let shown_at = parts.clock.now().boot;
        let here = parts.vitals.enter("the intake");
        let intake = Intake {
            parts,
            again: hints,
            owed,
            idle,
            stuck,
            seen,
            looks: JoinSet::new(),
            looking: HashMap::new(),
            compares: JoinSet::new(),
            met_first: HashMap::new(),
            closing: Vec::new(),
            started: shown_at,
            overflowed: HashSet::new(),
            unscanned,
            shown_at,
            here,
        };
        (intake, handle)
    }

    /// Works until the watch hand ends.
    pub async fn run(mut self) {
        loop {
            self.look_at_due();
            self.scan_what_overflowed();
            self.close_first_scans();
            self.show();
            let idle = self.unscanned.is_empty()
                && self.parts.settle.is_empty()
                && self.looks.is_empty()
                && self.compares.is_empty()
                && self.parts.notices.is_empty();
            self.stuck.store(self.is_stuck(), Ordering::SeqCst);
            self.idle.send_if_modified(|value| std::mem::replace(value, idle) != idle);
            let now = self.parts.clock.now().boot;
            let wake = self.parts.settle.next_wake().map_or(LONGEST_SLEEP, |at| at.since(now));
            self.here.at(Await::Message);
            self.here.got_on();
            tokio::select! {
                notice = self.parts.notices.recv() => match notice {
                    Some(Notice::Seen { folder, entries }) => self.saw(folder, entries).await,
                    Some(Notice::Scanned(scanned)) => self.scanned(&scanned).await,
                    Some(Notice::State { folder, state }) => self.state(folder, &state),
                    None => return,
                },
                Some((folder, path)) = self.again.recv() => {
                    self.seen_again(folder, path);
                    // In this order, so that nobody sees neither.
                    self.idle.send_replace(false);
                    self.owed.fetch_sub(1, Ordering::SeqCst);
                }
                Some(looked) = self.looks.join_next() => match looked {
                    Ok(looked) => self.looked(looked).await,
                    // Each look catches its own panic, so this is the end of the runtime.
                    Err(fault) => error!(event = "failed", code = Code::Internal.as_str(), "a look at files: {fault}"),
                },
                Some(compared) = self.compares.join_next() => match compared {
                    Ok((key, settled, known, same)) => self.compared(key, settled, &known, same).await,
                    Err(fault) => error!(event = "failed", code = Code::Internal.as_str(), "comparing a file: {fault}"),
                },
                () = tokio::time::sleep(wake.clamp(Duration::from_millis(1), LONGEST_SLEEP)) => {}
            }
        }
    }

    /// Drops what is known as it is; the rest waits to settle.
    async fn saw(&mut self, key: FolderKey, entries: Vec<(PathBuf, Look)>) {
        let Some(folder) = self.folder(key) else { return };
        let (id, name) = (folder.id, folder.name.clone());
        let looks: HashMap<PathBuf, Look> = entries.iter().cloned().collect();
        let files = entries.into_iter().map(|(path, look)| (path, look.fingerprint)).collect();
        self.here.at(Await::Store);
        let Some(unknown) = self.unknown(id, files).await else { return };
        let now = self.parts.clock.now();
        let skips = self.folder(key).is_some_and(|folder| folder.existing == Existing::Skip);
        for file in unknown {
            let Some(look) = looks.get(&file.path) else { continue };
            if skips && self.unscanned.contains(&key) {
                self.met_first.entry(key).or_default().insert(file.path.clone());
            }
            if file.known.is_none() {
                debug!(
                    event = "found",
                    folder = name,
                    path = shown(&file.path),
                    bytes = look.fingerprint.bytes,
                    "found"
                );
            }
            let decision = self.parts.settle.observe(key, &file.path, Observation::Glimpsed(*look), now);
            if decision == Decision::NoRoom {
                self.overflowed.insert(key);
            }
        }
    }

    /// The engine wants a file looked at that may be another version by now.
    fn seen_again(&mut self, folder: FolderId, path: PathBuf) {
        if let Some(key) = self.key(folder) {
            self.looking.entry(key).or_default().1.push_back(path);
        }
    }

    fn look_at_due(&mut self) {
        let now = self.parts.clock.now().boot;
        loop {
            let due = self.parts.settle.due(now, LOOKS);
            if due.is_empty() {
                break;
            }
            for (key, path) in due {
                self.looking.entry(key).or_default().1.push_back(path);
            }
        }
        let keys: Vec<FolderKey> = self.looking.keys().copied().collect();
        for key in keys {
            while let Some((under_way, waiting)) = self.looking.get_mut(&key)
                && *under_way < LOOKERS
                && !waiting.is_empty()
            {
                *under_way += 1;
                let files = waiting.drain(..waiting.len().min(LOOKS)).collect();
                self.start_look(key, files);
            }
        }
    }

    /// Whether somebody who waits for the end of what was there waits in vain.
    fn is_stuck(&self) -> bool {
        let now = self.parts.clock.now().boot;
        self.parts.once.is_some()
            && self.unscanned.is_empty()
            && self.compares.is_empty()
            && !self.parts.settle.is_empty()
            && self.parts.settle.changing().all(|file| now.since(file.since) >= IN_VAIN)
    }

    fn scan_what_overflowed(&mut self) {
        if self.parts.settle.len() < MOST_FILES / 2 {
            for key in self.overflowed.drain() {
                self.parts.watch.rescan(key);
            }
        }
    }

    fn start_look(&mut self, key: FolderKey, files: Vec<PathBuf>) {
        let wall = self.parts.clock.now().wall;
        let Some(root) = self.folder(key).map(|folder| folder.path.clone()) else { return };
        let kind = self.parts.watch.kind(key);
        let here = self.parts.vitals.enter(format!("a look at files in {}", shown(&root)));
        here.at(Await::Looking);
        let look_at_all = move || look_at_all(files, &here, |path| look(&root, path, &kind, wall));
        self.looks.spawn(async move {
            match spawn_blocking(look_at_all).await {
                Ok(looked) => Looked { key, files: looked },
                Err(fault) => std::panic::resume_unwind(fault.into_panic()),
            }
        });
    }

    async fn looked(&mut self, looked: Looked) {
        let now = self.parts.clock.now();
        let key = looked.key;
        if let Some((under_way, _)) = self.looking.get_mut(&key) {
            *under_way -= 1;
        }
        let mut settled = Vec::new();
        for (path, seen) in looked.files {
            let readable = !matches!(seen, Observation::Unreadable(_));
            if seen == Observation::Absent
                && let Some(met) = self.met_first.get_mut(&key)
            {
                met.remove(&path);
            }
            let look = match &seen {
                Observation::Present { look, .. } | Observation::Unreadable(look) => Some(*look),
                _ => None,
            };
            if let Decision::Settled(fingerprint) = self.parts.settle.observe(key, &path, seen, now) {
                let existed = look.is_some_and(|look| self.existed(key, &path, &look, now));
                settled.push(Settled { path, fingerprint, readable, existed });
            }
        }
        if !settled.is_empty() {
            self.admit(key, settled).await;
        }
    }

    /// Whether the file is to be skipped: the first scan met it, and it did not come while that went on.
    fn existed(&mut self, key: FolderKey, path: &Path, look: &Look, now: Now) -> bool {
        let met = self.met_first.get_mut(&key).is_some_and(|met| met.remove(path));
        met && look.unchanged_for.is_none_or(|unchanged| now.boot - unchanged < self.started)
    }

    /// Writes down that the first scan of a folder is over, once all that it met has become rows.
    fn close_first_scans(&mut self) {
        let at = self.parts.clock.now().wall;
        let done = |key: &FolderKey| self.met_first.get(key).is_none_or(HashSet::is_empty);
        let (done, open) = std::mem::take(&mut self.closing).into_iter().partition::<Vec<_>, _>(done);
        self.closing = open;
        for folder in done.into_iter().filter_map(|key| self.folder(key)) {
            self.parts.writer.send(Write::Scanned { folder: folder.id, at });
        }
    }

    /// Makes jobs of files that have settled.
    async fn admit(&mut self, key: FolderKey, files: Vec<Settled>) {
        let Some(folder) = self.folder(key).cloned() else { return };
        let mut by_path: HashMap<PathBuf, Settled> = HashMap::new();
        let mut asked = Vec::with_capacity(files.len());
        for file in files {
            asked.push((file.path.clone(), file.fingerprint));
            by_path.insert(file.path.clone(), file);
        }
        self.here.at(Await::Store);
        let Some(unknown) = self.unknown(folder.id, asked).await else { return };
        let mut fresh = Vec::with_capacity(unknown.len());
        for file in unknown {
            let Some(settled) = by_path.remove(&file.path) else { continue };
            // Touched while it is sent: whether its bytes are others the job itself finds out before complete.
            let touched = |known: &Known| {
                matches!(known.state, State::Uploading | State::Completing)
                    && known.fingerprint.differs_in_times_only(&settled.fingerprint)
            };
            if file.known.as_ref().is_some_and(touched) {
                continue;
            }
            let over = file.known.as_ref().map(|known| (known.job, known.state));
            if let Some(known) = file.known.filter(|known| may_be_same(known, &settled)) {
                self.compare(key, &folder, settled, known);
                continue;
            }
            fresh.push((settled, over));
        }
        self.enqueue(&folder, fresh).await;
    }

    /// The files that the store does not have as they are. Waits until it can be read; the scan waits with it. None if it
    /// never will be: then nothing of this is to become a job.
    async fn unknown(
        &self,
        folder: FolderId,
        files: Vec<(PathBuf, Fingerprint)>,
    ) -> Option<Vec<store::Seen>> {
        let read = || self.parts.store.filter_unknown(folder, files.clone());
        self.parts.writer.read("reading what is known", read).await
    }

    /// Makes jobs of files, each in the place of the row that it was found to differ from.
    async fn enqueue(&mut self, folder: &Folder, files: Vec<(Settled, Option<(JobId, State)>)>) {
        let mut writes = Vec::with_capacity(files.len());
        for (settled, over) in files {
            let candidate = Candidate { over, ..candidate(folder, &settled, self.parts.clock.now()) };
            let (path, arrival) = (settled.path, candidate.arrival.clone());
            writes.push((path, arrival, self.parts.writer.ask(Write::Enqueue(Box::new(candidate)))));
        }
        // All of them are queued by now, so they share a commit.
        for (path, arrival, write) in writes {
            self.here.at(Await::Commit);
            let applied = write.await;
            if let Ok(Applied::Known { .. }) = applied {
                // Its row went on meanwhile, and what was found may not be true any more. The same version is dropped.
                self.seen_again(folder.id, path);
            } else if let Ok(Applied::Enqueued { job, replaced }) = applied {
                if let Some((old, State::Queued)) = replaced {
                    self.here.at(Await::Engine);
                    // It waited unsent, and its row says that it is gone.
                    let _ = self.parts.engine.send(Message::Event(Event::Dropped(old))).await;
                }
                tell(folder, &path, job.id, job.subject.fingerprint.bytes, &arrival);
                if arrival == Arrival::Queued {
                    let event = Message::Event(Event::Enqueued(*job));
                    self.here.at(Await::Engine);
                    // The engine is gone only when the service ends; the row stays.
                    let _ = self.parts.engine.send(event).await;
                } else if let Some(once) = &self.parts.once {
                    let _ = once.send(job.id);
                }
            }
        }
    }

    /// Reads a file that looks different from its row, beside everything else: it may be 8 GiB.
    fn compare(&mut self, key: FolderKey, folder: &Folder, settled: Settled, known: Known) {
        let (root, store) = (folder.path.clone(), self.parts.store.clone());
        let here = self.parts.vitals.enter(shown(&root.join(&settled.path)));
        let writer = self.parts.writer.clone();
        self.compares.spawn(async move {
            here.at(Await::Store);
            let ranges = writer.read("reading digests", || store.ranges_of(known.job)).await;
            let same = match ranges {
                Some(ranges) => Some(is_same_content(ranges, root, &settled, &here).await),
                // What cannot be read says nothing of the file: it is not another one for that.
                None => None,
            };
            (key, settled, known, same)
        });
    }

    async fn compared(&mut self, key: FolderKey, settled: Settled, known: &Known, same: Option<bool>) {
        if same == Some(true) {
            self.parts.writer.send(Write::SameVersion { job: known.job, fingerprint: settled.fingerprint });
        } else if let Some(folder) = self.folder(key).filter(|_| same == Some(false)).cloned() {
            self.enqueue(&folder, vec![(settled, Some((known.job, known.state)))]).await;
        }
    }

    async fn scanned(&mut self, scanned: &Scanned) {
        let Some(folder) = self.folder(scanned.folder).cloned() else { return };
        let now = self.parts.clock.now();
        for (path, message) in &scanned.unreadable {
            let path = shown(&folder.path.join(path));
            warn!(event = "folder-unreadable", folder = folder.name, path, "cannot be read: {message}");
        }
        self.change_live(scanned.folder, |live| live.last_scan = Some(rfc3339(now.wall)));
        // What cannot be read does not keep the rest waiting; a folder that went away meanwhile does.
        if !scanned.complete && scanned.unreadable_count == 0 {
            return;
        }
        self.unscanned.retain(|key| *key != scanned.folder);
        if folder.existing == Existing::Met {
            return;
        }
        if folder.existing == Existing::Guard {
            let many = scanned.files > EXISTING_FILES || scanned.bytes > EXISTING_BYTES;
            if many {
                let why = format!(
                    "{} files ({}) lay there when it was first watched",
                    scanned.files,
                    size(scanned.bytes)
                );
                warn!(
                    event = "folder-paused",
                    folder = folder.name,
                    bytes = scanned.bytes,
                    "begins paused: {why}; `upspool resume --folder {}` uploads them",
                    folder.name
                );
                self.parts.writer.send(Write::Pause { folder: folder.id, why: Some(why) });
            } else {
                let event = Event::Paused { folder: folder.id, paused: false };
                self.here.at(Await::Engine);
                let _ = self.parts.engine.send(Message::Event(event)).await;
            }
        }
        self.closing.push(scanned.folder);
        if let Some(folder) = self.folder_mut(scanned.folder) {
            folder.existing = Existing::Met;
        }
    }

    fn state(&mut self, key: FolderKey, state: &FolderState) {
        let Some(folder) = self.folder(key) else { return };
        let (name, path) = (folder.name.clone(), shown(&folder.path));
        if folder.settles_by_state {
            match state {
                FolderState::Events => self.parts.settle.set_rule(key, Quiet::DEFAULT),
                FolderState::Polling { .. } | FolderState::Degraded { .. } => {
                    self.parts.settle.set_rule(key, Quiet::POLLING);
                }
                FolderState::Missing { .. } => {}
            }
        }
        let (word, why) = match state {
            FolderState::Events => ("events", None),
            FolderState::Polling { why, .. } => ("polling", Some(why.clone())),
            FolderState::Degraded { why, .. } => ("degraded", Some(why.clone())),
            FolderState::Missing { message } => ("missing", Some(message.clone())),
        };
        let words = why.as_deref().unwrap_or("watched by events");
        match state {
            FolderState::Missing { .. } => {
                let code = Code::FolderMissing;
                warn!(
                    event = "folder-state",
                    folder = name,
                    path,
                    state = word,
                    code = code.as_str(),
                    "{words}"
                );
            }
            FolderState::Degraded { .. } => {
                warn!(event = "folder-state", folder = name, path, state = word, "{words}");
            }
            _ => info!(event = "folder-state", folder = name, path, state = word, "{words}"),
        }
        self.change_live(key, |live| {
            live.state = word.into();
            live.why = why;
        });
    }

    fn change_live(&self, key: FolderKey, change: impl FnOnce(&mut LiveFolder)) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(live) = usize::try_from(key.0).ok().and_then(|index| seen.folders.get_mut(index)) {
            change(live);
        }
    }

    /// Makes the list of changing files anew, now and then.
    fn show(&mut self) {
        let now = self.parts.clock.now().boot;
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.changing_count = self.parts.settle.len() as u64;
        let stale = self.parts.settle.is_empty() && !seen.changing.is_empty();
        if !stale && now.since(self.shown_at) < SHOW_EVERY {
            return;
        }
        self.shown_at = now;
        let changing = self.parts.settle.changing().take(SHOWN).map(|file| LiveChanging {
            folder: self.folder(file.folder).map(|folder| folder.name.clone()).unwrap_or_default(),
            path: shown(file.path),
            bytes: file.bytes,
            why: match file.why {
                Why::Changing => "changing".into(),
                Why::OpenForWriting => "open-for-writing".into(),
                Why::Unknown(message) => message,
            },
            seconds: now.since(file.since).as_secs(),
        });
        seen.changing = changing.collect();
    }

    fn folder(&self, key: FolderKey) -> Option<&Folder> {
        self.parts.folders.get(usize::try_from(key.0).ok()?)
    }

    fn folder_mut(&mut self, key: FolderKey) -> Option<&mut Folder> {
        self.parts.folders.get_mut(usize::try_from(key.0).ok()?)
    }

    fn key(&self, id: FolderId) -> Option<FolderKey> {
        let place = self.parts.folders.iter().position(|folder| folder.id == id)?;
        u32::try_from(place).ok().map(FolderKey)
    }
}

/// Looks at each of `files`. One that the look trips over is looked at again later, and keeps back no other.
fn look_at_all(
    files: Vec<PathBuf>,
    here: &Whereabouts,
    look: impl Fn(&Path) -> Observation,
) -> Vec<(PathBuf, Observation)> {
    let look_at = |path: PathBuf| {
        let seen = catch_unwind(AssertUnwindSafe(|| look(&path))).unwrap_or_else(|panic| {
            let words = errands::panic_text(&*panic);
            error!(
                event = "failed",
                path = shown(&path),
                code = Code::Internal.as_str(),
                "a look at it: {words}"
            );
            Observation::Unknown(words)
        });
        here.got_on();
        (path, seen)
    };
    files.into_iter().map(look_at).collect()
}

/// A file that may be read now.
struct Settled {
    path: PathBuf,
    fingerprint: Fingerprint,
    readable: bool,
    /// It lay there when the folder was first watched.
    existed: bool,
}

/// Whether it is worth reading.
fn may_be_same(known: &Known, settled: &Settled) -> bool {
    known.fingerprint.bytes == settled.fingerprint.bytes && settled.readable
}

/// Whether a file has the bytes that were sent of its row.
async fn is_same_content(
    ranges: Vec<(Range<u64>, Digest)>,
    root: PathBuf,
    settled: &Settled,
    here: &Whereabouts,
) -> bool {
    let covered: u64 = ranges.iter().map(|(range, _)| range.end - range.start).sum();
    if covered != settled.fingerprint.bytes || covered == 0 {
        return false;
    }
    let path = settled.path.clone();
    here.at(Await::Opening);
    let Ok(Ok(source)) = spawn_blocking(move || Source::open_beneath(&root, &path)).await else {
        return false;
    };
    let source = source.counted_by(here.moved());
    here.at(Await::Comparing);
    for (range, digest) in ranges {
        if source.digest_of(range).await.ok() != Some(digest) {
            return false;
        }
    }
    // Else another version was read than the one that settled.
    source.is(&settled.fingerprint).is_ok()
}

fn candidate(folder: &Folder, settled: &Settled, now: Now) -> Candidate {
    let refused =
        |code, message: String| Arrival::Failed { reason: Reason::local(code, message), finish: false };
    let bytes = settled.fingerprint.bytes;
    let arrival = if settled.existed {
        Arrival::Skipped
    } else if !settled.readable {
        refused(Code::FileUnreadable, "the service's user may not read it".into())
    } else if bytes == 0 {
        refused(Code::FileEmpty, "it has no bytes".into())
    } else if bytes > plan::MAX_FILE_BYTES {
        refused(Code::FileTooLarge, format!("{} ({bytes} bytes) is more than 8 GiB", size(bytes)))
    } else {
        Arrival::Queued
    };
    Candidate {
        subject: Subject {
            folder: folder.id,
            path: settled.path.clone(),
            fingerprint: settled.fingerprint,
            filename: plan::sent_name(&settled.path),
            purpose: folder.purpose.clone(),
            mime_type: folder.mime_type.clone().unwrap_or_else(|| plan::mime_type(&settled.path)),
            expires_after: folder.expires_after,
            account: folder.account.clone(),
        },
        base_url: folder.base_url.clone(),
        project: folder.project.clone(),
        found_at: now.wall,
        arrival,
        warnings: Vec::new(),
        replaces: None,
        over: None,
    }
}

fn tell(folder: &Folder, path: &Path, job: JobId, bytes: u64, arrival: &Arrival) {
    let (job, name, path) = (job.0, folder.name.as_str(), shown(&folder.path.join(path)));
    let account = folder.account.0.as_str();
    match arrival {
        Arrival::Queued => info!(event = "queued", job, folder = name, path, account, bytes, "queued"),
        Arrival::Skipped => {
            info!(event = "skipped", job, folder = name, path, account, bytes, "was there before")
        }
        Arrival::Failed { reason, .. } => warn!(
            event = "failed",
            job,
            folder = name,
            path,
            account,
            bytes,
            code = reason.code.as_str(),
            "failed: {}; {}",
            reason.message,
            reason.code.remedy()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_the_look_trips_over_keeps_back_no_other() {
        let vitals = Arc::new(Vitals::default());
        let here = vitals.enter("a look");
        let files = ["a", "poison", "b"].map(PathBuf::from).to_vec();
        let looked = look_at_all(files, &here, |path| {
            assert_ne!(path, Path::new("poison"), "as asked");
            Observation::Absent
        });
        assert!(matches!(looked[0], (_, Observation::Absent)));
        assert!(
            matches!(&looked[1], (path, Observation::Unknown(words)) if path == Path::new("poison") && words.contains("as asked"))
        );
        assert!(matches!(looked[2], (_, Observation::Absent)));
    }
}
