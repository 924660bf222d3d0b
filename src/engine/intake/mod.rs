//! Files that were seen become jobs: known or not, settled or not, enqueue or nothing.
//!
//! Events and scans come by the same way. What the store knows is dropped first, so that a rescan of a hundred thousand
//! known files costs a few statements; the rest waits in [`Settle`] until nobody writes to it any more.
//!
//! - `looks`: looks at files that may have settled;
//! - `admit`: those that have become jobs, or are known;
//! - `absence`: rows whose file was deleted;
//! - `first_scan`: what lay there when a folder was first watched;
//! - `hints`: what the engine sees of this, and asks of it; `shown`: what people see.

mod absence;
mod admit;
mod first_scan;
mod hints;
mod looks;
mod shown;

use std::collections::{HashMap, HashSet, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch as signal};
use tokio::task::JoinSet;
use tracing::{error, info, warn};

use self::absence::Turn;
use self::admit::{Compared, Settled};
use self::hints::Ask;
pub use self::hints::{Hints, Seen};
use self::looks::Looked;
use self::shown::SHOW_EVERY;
pub(super) use self::shown::settling_of;
use super::Message;
use super::finish::Finish;
use super::live::LiveFolder;
use super::metrics::Metrics;
use super::vitals::{Vitals, Whereabouts};
use crate::beneath::Links;
use crate::clock::Clock;
use crate::model::file::Look;
use crate::model::job::{AccountName, Code, FolderId, JobId};
use crate::model::settle::{Decision, FolderKey, Observation, Settle};
use crate::model::time::Boot;
use crate::model::watchdog::{Await, LONGEST_REST};
use crate::store::{Known, Store, Writer};
use crate::text::{rfc3339, shown};
use crate::watch::{Notice, Scanned, Watch};

/// The longest time without a look at the clock.
const LONGEST_SLEEP: Duration = LONGEST_REST;

/// Questions that wait at most; who asks more waits.
const ASKS: usize = 16;

/// What intake has to know of a folder.
#[derive(Clone, Debug)]
pub struct Folder {
    /// Its row.
    pub id: FolderId,
    /// Its name.
    pub name: String,
    /// Where it lies.
    pub path: PathBuf,
    /// Which symbolic links in it are followed.
    pub links: Links,
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
    /// What is done with jobs that end as soon as they begin.
    pub finish: Finish,
    /// For the watchdog to see.
    pub vitals: Arc<Vitals>,
    /// For whoever scrapes them.
    pub metrics: Arc<Metrics>,
}

/// See the module.
pub struct Intake {
    parts: Parts,
    again: mpsc::UnboundedReceiver<(FolderId, PathBuf)>,
    asks: mpsc::Receiver<Ask>,
    owed: Arc<AtomicUsize>,
    idle: signal::Sender<bool>,
    stuck: Arc<AtomicBool>,
    seen: Arc<Mutex<Seen>>,
    looks: JoinSet<Looked>,
    /// Looks under way and files that wait for one, by folder: a file server that hangs keeps back its own folder only.
    looking: HashMap<FolderKey, (usize, VecDeque<PathBuf>)>,
    compares: JoinSet<(FolderKey, Settled, Known, Compared)>,
    /// What these compare.
    comparing: HashSet<(FolderKey, PathBuf)>,
    /// Files of `existing = "skip"` that the first scan met and that are no rows yet.
    met_first: HashMap<FolderKey, HashSet<PathBuf>>,
    /// Folders whose first scan is over, but not yet written down.
    closing: Vec<FolderKey>,
    /// What was deleted, by folder.
    absence: HashMap<FolderKey, Turn>,
    absences: JoinSet<absence::Ended>,
    /// When this run began to watch.
    started: Boot,
    /// Folders of which files found no room: scanned again when there is some.
    overflowed: HashSet<FolderKey>,
    /// Folders whose first scan of this run has not ended.
    unscanned: Vec<FolderKey>,
    /// Who waits for scans, and for which.
    scans: Vec<(HashMap<FolderKey, u64>, oneshot::Sender<()>)>,
    shown_at: Boot,
    here: Whereabouts,
}

impl Intake {
    /// Intake, and the engine's side of it.
    pub fn new(parts: Parts) -> (Intake, Hints) {
        let (again, hints) = mpsc::unbounded_channel();
        let (ask, asks) = mpsc::channel(ASKS);
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
        let handle = Hints {
            again,
            owed: owed.clone(),
            idle: is_idle,
            stuck: stuck.clone(),
            seen: seen.clone(),
            asks: ask,
        };
        let unscanned =
            (0..parts.folders.len()).filter_map(|key| u32::try_from(key).ok()).map(FolderKey).collect();
        let shown_at = parts.clock.now().boot;
        let here = parts.vitals.enter("the intake");
        let intake = Intake {
            parts,
            again: hints,
            asks,
            owed,
            idle,
            stuck,
            seen,
            looks: JoinSet::new(),
            looking: HashMap::new(),
            compares: JoinSet::new(),
            comparing: HashSet::new(),
            met_first: HashMap::new(),
            closing: Vec::new(),
            absence: HashMap::new(),
            absences: JoinSet::new(),
            started: shown_at,
            overflowed: HashSet::new(),
            unscanned,
            scans: Vec::new(),
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
            self.start_absences();
            let is_shown = self.show();
            let idle = self.unscanned.is_empty()
                && self.parts.settle.is_empty()
                && self.looks.is_empty()
                && self.compares.is_empty()
                && !self.is_absence_open()
                && self.parts.notices.is_empty();
            self.stuck.store(self.is_stuck(), Ordering::SeqCst);
            self.idle.send_if_modified(|value| std::mem::replace(value, idle) != idle);
            let now = self.parts.clock.now().boot;
            let wake = self.parts.settle.next_wake().into_iter().chain(self.next_absence()).min();
            let wake = wake.map_or(LONGEST_SLEEP, |at| at.since(now));
            let wake = if is_shown { wake } else { wake.min(SHOW_EVERY) };
            self.here.at(Await::Message);
            self.here.got_on();
            tokio::select! {
                notice = self.parts.notices.recv() => match notice {
                    Some(Notice::Seen { folder, entries, by_scan }) => self.saw(folder, entries, by_scan).await,
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
                Some(ask) = self.asks.recv() => self.asked(ask),
                Some(looked) = self.looks.join_next() => match looked {
                    Ok(looked) => self.looked(looked).await,
                    // Each look catches its own panic, so this is the end of the runtime.
                    Err(fault) => error!(event = "failed", code = Code::Internal.as_str(), "a look at files: {fault}"),
                },
                Some(compared) = self.compares.join_next() => match compared {
                    Ok((key, settled, known, same)) => self.compared(key, settled, &known, same).await,
                    Err(fault) => error!(event = "failed", code = Code::Internal.as_str(), "comparing a file: {fault}"),
                },
                Some(ended) = self.absences.join_next() => match ended {
                    Ok(ended) => self.absence_passed(ended),
                    Err(fault) => error!(event = "failed", code = Code::Internal.as_str(), "looking for deleted files: {fault}"),
                },
                () = tokio::time::sleep(wake.clamp(Duration::from_millis(1), LONGEST_SLEEP)) => {}
            }
        }
    }

    /// Drops what is known as it is; the rest waits to settle.
    async fn saw(&mut self, key: FolderKey, entries: Vec<(PathBuf, Look)>, by_scan: bool) {
        let Some(folder) = self.folder(key) else { return };
        let (id, name, root) = (folder.id, folder.name.clone(), folder.path.clone());
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
            // Once, however often it changes before it has settled.
            if file.known.is_none() && self.parts.settle.get(key, &file.path).is_none() {
                let by = match (self.unscanned.contains(&key), by_scan) {
                    (true, _) => "start",
                    (false, true) => "scan",
                    (false, false) => "event",
                };
                self.parts.metrics.found(&name, by);
                let bytes = look.fingerprint.bytes;
                info!(
                    event = "found",
                    folder = name,
                    path = shown(&root.join(&file.path)),
                    bytes,
                    by,
                    "found"
                );
            }
            let decision = self.parts.settle.observe(key, &file.path, Observation::Glimpsed(*look), now);
            if decision == Decision::NoRoom {
                self.overflowed.insert(key);
            }
        }
    }

    fn asked(&mut self, ask: Ask) {
        match ask {
            Ask::Met(folder, path, answer) => {
                if let Some(met) = self.met(folder, &path) {
                    // Who asked may have gone.
                    let _ = answer.send(met);
                }
            }
            Ask::Scan(answer) => {
                let mut scans = HashMap::new();
                for key in
                    (0..self.parts.folders.len()).filter_map(|key| u32::try_from(key).ok()).map(FolderKey)
                {
                    // One that is away is scanned when it is back, which nobody waits for.
                    if !self.is_missing(key)
                        && let Some(generation) = self.parts.watch.rescan(key)
                    {
                        scans.insert(key, generation);
                    }
                }
                self.scans.push((scans, answer));
                self.tell_of_scans();
            }
        }
    }

    /// A scan is over that somebody may wait for; or will not be, for the folder is away.
    pub(super) fn scan_ended(&mut self, folder: FolderKey, generation: u64) {
        for (scans, _) in &mut self.scans {
            if scans.get(&folder).is_some_and(|wanted| *wanted <= generation) {
                scans.remove(&folder);
            }
        }
        self.tell_of_scans();
    }

    fn tell_of_scans(&mut self) {
        for (_, answer) in self.scans.extract_if(.., |(scans, _)| scans.is_empty()) {
            // Who asked may have gone.
            let _ = answer.send(());
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
        self.owe_absence(scanned);
        self.scan_ended(scanned.folder, scanned.generation);
        // What cannot be read does not keep the rest waiting; a folder that went away meanwhile does.
        if !scanned.complete && scanned.unreadable_count == 0 {
            return;
        }
        self.unscanned.retain(|key| *key != scanned.folder);
        self.first_scanned(&folder, scanned).await;
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
