//! The task of one folder: finds it, watches or polls it, scans it, and hands over what it meets. Every path to a
//! notice of a file is here, whether an event or a scan began it.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinHandle, spawn_blocking};
use tokio::time::{sleep, timeout};
use tracing::error;

use super::hints::Deaf;
use super::jobs::{Full, Shared};
use super::kind::FolderKind;
use super::limits;
use super::scan::{BATCH, Listening, MOST_NAMED};
use super::{FolderState, Notice, Scanned, WatchMode};
use crate::beneath::Links;
use crate::model::job::Code;
use crate::model::silence::Silence;
use crate::model::time::Boot;

/// How often it is checked that the folder is still the directory that is watched: nothing is told when a file system
/// is mounted over it, or when a directory above it is renamed. An idle service does little else, once for each folder.
/// A limit of the kernel that was raised is noticed by it as well, and a server that answers again.
const ROOT_CHECK: Duration = Duration::from_secs(15);
/// How often a folder that is missing is looked for.
const MISSING_CHECK: Duration = Duration::from_secs(2);
/// A folder whose file server does not answer for so long is reported as missing.
const NO_ANSWER: Duration = Duration::from_secs(30);
/// The pause before a scan that lost events make necessary, doubling with each one that follows soon.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// After so long without lost events, the pause is short again.
const PAUSE_FORGIVEN: Duration = Duration::from_secs(120);
/// A folder that could not be watched is tried again after this, or as soon as the limit was changed.
const DEAF_RETRY: Duration = Duration::from_secs(3_600);
/// Timers run on a clock that stops while the machine sleeps, so none is trusted for longer.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);
/// So many new directories wait to be walked; for more, the whole folder is scanned.
const MOST_PARTS: usize = 4_096;
pub(super) struct Folder {
    shared: Shared,
    hints: mpsc::Receiver<PathBuf>,
    said: Option<FolderState>,
    /// New directories that have to be walked.
    parts: BTreeSet<PathBuf>,
    full: Option<JoinHandle<Option<Full>>>,
    part: Option<JoinHandle<()>>,
    /// When the next scan is due by the clock.
    scan_at: Boot,
    /// Events were lost: a scan is due after this pause.
    lost: Option<Duration>,
    pause: Duration,
    lost_at: Boot,
    /// When the last scan ended, and how long it took.
    ended: Boot,
    took: Duration,
    /// What the last scan since the watches were placed could not watch, or would watch by other watches.
    shape: Option<Shape>,
    deaf: Option<(Deaf, Boot, u64)>,
    silence: Silence,
}

type Shape = (BTreeSet<(PathBuf, u64)>, BTreeSet<PathBuf>);

/// Nobody listens to notices any more.
struct Closed;

#[derive(Clone, Copy, PartialEq)]
enum How {
    Events,
    Polling,
}

impl Folder {
    pub(super) fn new(shared: Shared, hints: mpsc::Receiver<PathBuf>) -> Folder {
        Folder {
            shared,
            hints,
            said: None,
            parts: BTreeSet::new(),
            full: None,
            part: None,
            scan_at: Boot(i64::MIN),
            lost: None,
            pause: FIRST_PAUSE,
            lost_at: Boot(i64::MIN),
            ended: Boot(i64::MIN),
            took: Duration::ZERO,
            shape: None,
            deaf: None,
            silence: Silence::default(),
        }
    }

    /// Until the shutdown, or until nobody listens.
    pub(super) async fn run(mut self) {
        let shutdown = self.shared.shutdown.clone();
        tokio::select! {
            () = shutdown.cancelled() => {}
            _ = self.attend() => {}
        }
    }

    async fn attend(&mut self) -> Result<Infallible, Closed> {
        loop {
            let kind = self.find().await?;
            // Watch first, then scan: what comes between is met twice rather than never.
            if let Some(how) = self.arm(&kind).await? {
                self.shape = None;
                self.listen(&kind, how).await?;
                self.note_lost();
            } else {
                sleep(MISSING_CHECK).await;
            }
        }
    }

    /// Waits for the folder to be there. Its absence says nothing of its files.
    async fn find(&mut self) -> Result<FolderKind, Closed> {
        loop {
            match self.probe().await? {
                Ok(kind) => {
                    self.shared.signals.set_kind(kind);
                    return Ok(kind);
                }
                Err(error) => {
                    let message = format!("{}: {error}", self.shared.spec.path.display());
                    self.say(FolderState::Missing { message }).await?;
                    // When it is back, it is scanned at once, and whatever stood in the way of watches is tried anew.
                    self.scan_at = Boot(i64::MIN);
                    if !self.is_silent() {
                        self.deaf = None;
                    }
                    sleep(MISSING_CHECK).await;
                }
            }
        }
    }

    async fn probe(&mut self) -> Result<std::io::Result<FolderKind>, Closed> {
        let path = self.shared.spec.path.clone();
        let mut probe = spawn_blocking(move || {
            std::fs::read_dir(&path)?;
            FolderKind::probe(&path)
        });
        loop {
            match timeout(NO_ANSWER, &mut probe).await {
                Ok(Ok(probed)) => return Ok(probed),
                Ok(Err(panicked)) => return Ok(Err(std::io::Error::other(panicked))),
                // Not asked a second time while the first question hangs in the kernel.
                Err(_) => {
                    let path = self.shared.spec.path.display();
                    let message = format!("{path}: no answer for {} s", NO_ANSWER.as_secs());
                    self.say(FolderState::Missing { message }).await?;
                    self.scan_at = Boot(i64::MIN);
                }
            }
        }
    }

    /// Places the watches, where there are to be any. Nothing if the folder went meanwhile.
    async fn arm(&mut self, kind: &FolderKind) -> Result<Option<How>, Closed> {
        let spec = self.shared.spec.clone();
        let why = match spec.watch {
            WatchMode::Poll => Some("as configured".to_owned()),
            WatchMode::Auto if !kind.events => {
                Some(format!("{} does not tell of changes that other machines make", kind.name))
            }
            WatchMode::Auto | WatchMode::Events => None,
        };
        if let Some(why) = why {
            self.say(FolderState::Polling { every: spec.poll_interval, why }).await?;
            return Ok(Some(How::Polling));
        }
        // What is said of such a folder, it says after a scan, which counts its directories.
        if self.deaf.is_some() && !self.hears_again() {
            return Ok(Some(How::Polling));
        }
        let ears = self.shared.ears.clone();
        let armed = spawn_blocking(move || ears.arm(&spec.path, spec.recursive)).await;
        let deaf = match armed {
            Ok(Ok(())) => {
                self.deaf = None;
                self.silence.begin((self.shared.now)().wall);
                self.say(FolderState::Events).await?;
                return Ok(Some(How::Events));
            }
            Ok(Err(Deaf::Gone)) => return Ok(None),
            Ok(Err(deaf)) => deaf,
            Err(panicked) => Deaf::Failed(panicked.to_string()),
        };
        self.note_deaf(deaf);
        Ok(Some(How::Polling))
    }

    /// Hears and scans until the watches have to be placed anew.
    async fn listen(&mut self, kind: &FolderKind, how: How) -> Result<(), Closed> {
        let mut checked = self.boot();
        let mut hints = Vec::new();
        loop {
            self.begin_scans(kind, how);
            let now = self.boot();
            let due = if self.full.is_some() { Boot(i64::MAX) } else { self.due() };
            let nap = due.min(checked + ROOT_CHECK).since(now).min(LONGEST_SLEEP);
            tokio::select! {
                full = join(&mut self.full) => {
                    self.full = None;
                    if !self.scanned(full.flatten(), how).await? {
                        return Ok(());
                    }
                }
                part = join(&mut self.part) => {
                    self.part = None;
                    if part.is_none() {
                        self.note_lost();
                    }
                }
                _ = self.hints.recv_many(&mut hints, BATCH) => {
                    let hints = std::mem::take(&mut hints).into_iter().collect();
                    self.examine(hints, kind).await?;
                }
                () = self.shared.signals.wake.notified() => {}
                () = sleep(nap) => {}
            }
            let heard = self.shared.signals.take();
            if heard.limit && how == How::Events {
                self.disarm().await;
                self.note_deaf(Deaf::Watches);
                return Ok(());
            }
            if heard.lost {
                self.note_lost();
            }
            if heard.forgot {
                self.silence.begin((self.shared.now)().wall);
            }
            if heard.rearm {
                return Ok(());
            }
            if self.boot() >= checked + ROOT_CHECK {
                let there = self.probe().await?.is_ok_and(|now| kind.is_still(&now));
                // It may have been called missing for a server's long silence.
                let unsaid = matches!(self.said, Some(FolderState::Missing { .. }));
                if !there || unsaid || self.hears_again() {
                    return Ok(());
                }
                checked = self.boot();
            }
        }
    }

    async fn disarm(&self) {
        let (ears, path) = (self.shared.ears.clone(), self.shared.spec.path.clone());
        let _ = spawn_blocking(move || ears.disarm(&path)).await;
    }

    fn note_deaf(&mut self, deaf: Deaf) {
        let limit = limits::in_force(&deaf);
        self.deaf = Some((deaf, self.boot(), limit));
    }

    /// Whether it is time to try to watch a folder that could not be watched.
    fn hears_again(&self) -> bool {
        !self.is_silent()
            && self.deaf.as_ref().is_some_and(|(deaf, since, limit)| {
                limits::in_force(deaf) != *limit || self.boot().since(*since) >= DEAF_RETRY
            })
    }

    /// Sorts what events named, and hands over the files among it.
    async fn examine(&mut self, hints: BTreeSet<PathBuf>, kind: &FolderKind) -> Result<(), Closed> {
        let (shared, kind) = (self.shared.clone(), *kind);
        let examined = spawn_blocking(move || shared.examine(&kind, &hints)).await;
        let Ok((entries, directories)) = examined.inspect_err(say_broken) else {
            self.note_lost();
            return Ok(());
        };
        self.parts.extend(directories);
        if self.parts.len() > MOST_PARTS {
            self.parts.clear();
            self.note_lost();
        }
        if !entries.is_empty() {
            let folder = self.shared.spec.key;
            self.send(Notice::Seen { folder, entries, by_scan: false }).await?;
        }
        Ok(())
    }

    fn begin_scans(&mut self, kind: &FolderKind, how: How) {
        if self.full.is_none() && (self.boot() >= self.due() || self.shared.signals.is_asked()) {
            // Whatever is missing now is found by this scan, since it begins with the barrier.
            self.parts.clear();
            self.lost = None;
            let generation = self.shared.signals.begin();
            let listening = self.listening(kind, how);
            self.full = Some(tokio::spawn(self.shared.clone().scan_all(*kind, generation, listening)));
        }
        if self.part.is_none() && !self.parts.is_empty() {
            let parts = std::mem::take(&mut self.parts);
            let (shared, kind) = (self.shared.clone(), *kind);
            self.part = Some(spawn_blocking(move || shared.scan_parts(&kind, parts)));
        }
    }

    /// What the scan that begins now is to find out about events. Nothing where none are awaited, or births are told by
    /// another clock, or where files are met behind links, of which no event tells.
    fn listening(&self, kind: &FolderKind, how: How) -> Option<Listening> {
        let asks = how == How::Events && kind.local_times && self.shared.spec.links == Links::None;
        asks.then(|| {
            let window = self.silence.window((self.shared.now)().wall);
            // The kernel writes times of birth by a clock that is some milliseconds behind.
            let named = self.shared.signals.named_since(window.start - Duration::from_secs(1));
            Listening { window, named }
        })
    }

    /// Whether it is known that events do not tell of everything here: for the rest of this run.
    fn is_silent(&self) -> bool {
        matches!(self.deaf, Some((Deaf::Silent(_), ..)))
    }

    /// When the next scan is due, unless somebody asks for one.
    fn due(&self) -> Boot {
        match self.lost {
            Some(pause) => self.scan_at.min(self.ended + pause.max(self.took)),
            None => self.scan_at,
        }
    }

    fn note_lost(&mut self) {
        let now = self.boot();
        self.silence.begin((self.shared.now)().wall);
        if self.lost.is_none() {
            if now.since(self.lost_at) > PAUSE_FORGIVEN {
                self.pause = FIRST_PAUSE;
            }
            self.lost = Some(self.pause);
            self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        }
        self.lost_at = now;
    }

    /// Reports a scan. Whether the watches are still what they should be.
    async fn scanned(&mut self, full: Option<Full>, how: How) -> Result<bool, Closed> {
        self.ended = self.boot();
        let Some(Full { mut found, generation, same_root, took, window }) = full else {
            // It panicked, or is not wanted any more.
            self.scan_at = self.ended + LONGEST_PAUSE;
            return Ok(true);
        };
        self.took = took;
        let spec = self.shared.spec.clone();
        let interval = if how == How::Events { spec.rescan_interval } else { spec.poll_interval };
        self.scan_at = self.ended + interval.max(self.took);
        if let Some((deaf, ..)) = &self.deaf {
            let why = limits::explain(deaf, found.directories);
            let limit = matches!(deaf, Deaf::Watches | Deaf::Instances);
            self.say_degraded(spec.poll_interval, why, limit).await?;
        }
        let shape: Shape =
            (found.mounts.clone(), found.unreadable.iter().map(|(path, _)| path.clone()).collect());
        let complete = same_root && found.root_error.is_none() && found.unreadable_count == 0;
        let named = found.mounts.iter().map(|(path, _)| path.clone());
        let mounts = (found.mounts.len() < MOST_NAMED).then(|| named.collect());
        let there = same_root && found.root_error.is_none();
        self.send(Notice::Scanned(Scanned {
            folder: spec.key,
            generation,
            complete,
            files: found.files,
            bytes: found.bytes,
            directories: found.directories,
            ignored: found.ignored,
            others: found.others,
            unreadable: found.unreadable,
            unreadable_count: found.unreadable_count,
            mounts,
        }))
        .await?;
        // A mount that came, or a directory that became readable, has no watches yet.
        let silent = window.is_some_and(|window| self.silence.scanned(&window, found.births));
        if let Some(path) = found.unheard.take().filter(|_| silent) {
            self.disarm().await;
            self.note_deaf(Deaf::Silent(path));
            return Ok(false);
        }
        let shape_is_new = self.shape.replace(shape.clone()).is_some_and(|old| old != shape);
        Ok(there && !(shape_is_new && how == How::Events))
    }

    async fn say_degraded(&mut self, every: Duration, why: String, limit: bool) -> Result<(), Closed> {
        // Said once: that the number of directories changed is no news.
        match self.said {
            Some(FolderState::Degraded { .. }) => Ok(()),
            _ => self.say(FolderState::Degraded { every, why, limit }).await,
        }
    }

    async fn say(&mut self, state: FolderState) -> Result<(), Closed> {
        if self.said.as_ref() == Some(&state) {
            return Ok(());
        }
        self.said = Some(state.clone());
        let folder = self.shared.spec.key;
        self.send(Notice::State { folder, state }).await
    }

    async fn send(&self, notice: Notice) -> Result<(), Closed> {
        self.shared.notices.send(notice).await.map_err(|_| Closed)
    }

    fn boot(&self) -> Boot {
        (self.shared.now)().boot
    }
}

/// The end of a job; never, if there is none. Nothing if it panicked, which is said: what it was to find another scan
/// finds.
async fn join<T>(job: &mut Option<JoinHandle<T>>) -> Option<T> {
    match job {
        Some(job) => job.await.inspect_err(say_broken).ok(),
        None => std::future::pending().await,
    }
}

fn say_broken(fault: &JoinError) {
    error!(event = "failed", code = Code::Internal.as_str(), "a look at a folder: {fault}");
}
