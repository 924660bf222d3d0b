//! The hand that touches watched folders.
//!
//! A file is met by an event or by a scan, and both tell of it by the same [`Notice::Seen`]. Events are hints: any may
//! be lost, doubled or late. The scan is the truth: at the start, after anything was lost, and now and then besides.
//!
//! - [`ignore`]: which names are taken.
//! - [`kind`]: what can be had of the file system that a folder lies on.
//! - `hints`: what the kernel tells, by way of notify; `limits`: how much it will tell.
//! - `scan`: walks a folder; `jobs`: on which threads, and how many at once.
//! - `folder`: the task of one folder, which brings these together.
//! - [`look`](look()): one look at one file, which decides with [`crate::model::settle`] whether it may be read;
//!   `lease`: whether anybody writes to it.
//! - `bell`: whether anybody wrote into a directory of our own.
//! - `presence`: whether the files of known rows are still there, and on what ground.

mod bell;
mod folder;
mod hints;
pub mod ignore;
mod jobs;
pub mod kind;
mod lease;
mod limits;
mod look;
mod presence;
mod scan;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

pub use self::bell::Bell;
use self::folder::Folder;
use self::hints::{Ears, MOST_HINTS, Post, Signals};
use self::ignore::TakeRules;
use self::jobs::{Permits, Shared};
use self::kind::FolderKind;
pub use self::look::{look, look_near};
pub use self::presence::{Met, meet, standings};
pub use self::scan::{Considered, Survey, consider, survey};
use crate::beneath::Links;
use crate::model::file::Look;
use crate::model::settle::FolderKey;
use crate::model::time::Now;

/// Reads the time.
pub type Clock = Arc<dyn Fn() -> Now + Send + Sync>;

/// A folder that is to be watched.
#[derive(Clone, Debug)]
pub struct FolderSpec {
    /// What it is called in every [`Notice`].
    pub key: FolderKey,
    /// Where it is. Absolute; may be a symbolic link.
    pub path: PathBuf,
    /// Whether directories in it are part of it.
    pub recursive: bool,
    /// Which symbolic links in it are followed. Of what changes behind one no event tells.
    pub links: Links,
    /// How it is to be watched.
    pub watch: WatchMode,
    /// How often it is scanned where events cannot be had.
    pub poll_interval: Duration,
    /// How often it is scanned where they can.
    pub rescan_interval: Duration,
    /// Which names are taken.
    pub rules: TakeRules,
    /// Directories that are not part of it even if they lie in it, by whatever name.
    pub excluded: Vec<PathBuf>,
}

/// How a folder is to be watched.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum WatchMode {
    /// By events where the file system tells of every change, else by polling.
    #[default]
    Auto,
    /// By events, whatever the file system.
    Events,
    /// By scans alone.
    Poll,
}

/// What is told of folders.
#[derive(Clone, PartialEq, Debug)]
pub enum Notice {
    /// Regular files were met, by an event or by a scan. The same file may be met any number of times.
    Seen {
        /// In this folder.
        folder: FolderKey,
        /// Each with its path below the folder. At most 512.
        entries: Vec<(PathBuf, Look)>,
        /// By a scan of the whole folder, and not since an event named them.
        by_scan: bool,
    },
    /// A scan of a whole folder has ended. All that it met was told of before.
    Scanned(Scanned),
    /// How a folder is watched has changed.
    State {
        /// This folder.
        folder: FolderKey,
        /// From now on.
        state: FolderState,
    },
}

/// What a scan of a whole folder found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Scanned {
    /// This folder.
    pub folder: FolderKey,
    /// The number of the scan in this run, from 1. See [`Watch::rescan`].
    pub generation: u64,
    /// Whether all of it could be read, and it was the same directory before and after. Only then does it mean
    /// anything that a file was not met; and even then it may have been renamed meanwhile.
    pub complete: bool,
    /// Files that the rules take.
    pub files: u64,
    /// Their sizes together.
    pub bytes: u64,
    /// Directories gone into, the folder itself included.
    pub directories: u64,
    /// Files and directories that the rules ignore; of a directory's contents nothing is counted.
    pub ignored: u64,
    /// FIFOs, sockets, devices, and symbolic links that are not followed; none of them is taken.
    pub others: u64,
    /// What could not be read, with what the system said; at most 100.
    pub unreadable: Vec<(PathBuf, String)>,
    /// How many could not be read.
    pub unreadable_count: u64,
    /// Directories in the folder on which something is mounted; nothing if there are too many to name.
    pub mounts: Option<Vec<PathBuf>>,
}

/// How a folder is watched, or why not.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FolderState {
    /// By events.
    Events,
    /// By scans alone, as it should be.
    Polling {
        /// So often.
        every: Duration,
        /// Why.
        why: String,
    },
    /// By scans alone, although events were wanted.
    Degraded {
        /// So often.
        every: Duration,
        /// Why, and what would change it.
        why: String,
        /// Whether the kernel has no more watches.
        limit: bool,
    },
    /// Not at all: it is not there, or cannot be read. Says nothing of its files.
    Missing {
        /// What the system said.
        message: String,
    },
}

/// The watched folders.
pub struct Watch {
    folders: Vec<(FolderKey, Arc<Signals>)>,
}

impl Watch {
    /// Begins to watch, and to scan. No two folders may be the same directory; where one lies in another, the files
    /// in both are told of for both, unless the outer one excludes the inner. Ends with the shutdown, or when nobody receives notices any more.
    ///
    /// The handle ends at once then; a scan that waits for the system ends with the system's answer, so a runtime
    /// should be shut down with a timeout.
    pub fn start(
        specs: Vec<FolderSpec>,
        now: Clock,
        notices: mpsc::Sender<Notice>,
        shutdown: CancellationToken,
    ) -> (Watch, JoinHandle<()>) {
        let mut watch = Watch { folders: Vec::new() };
        let (mut posts, mut waiting) = (Vec::new(), Vec::new());
        for spec in specs {
            let (sender, hints) = mpsc::channel(MOST_HINTS);
            let signals = Arc::new(Signals::new());
            watch.folders.push((spec.key, signals.clone()));
            posts.push(Post {
                root: spec.path.clone(),
                now: now.clone(),
                hints: sender,
                signals: signals.clone(),
            });
            waiting.push((Arc::new(spec), signals, hints));
        }
        let (ears, permits) = (Arc::new(Ears::new(posts)), Arc::new(Permits::new()));
        let mut tasks = JoinSet::new();
        for (spec, signals, hints) in waiting {
            let shared = Shared {
                spec,
                ears: ears.clone(),
                signals,
                permits: permits.clone(),
                notices: notices.clone(),
                now: now.clone(),
                shutdown: shutdown.clone(),
            };
            tasks.spawn(Folder::new(shared, hints).run());
        }
        // A folder's task that panics ends the handle, for all to see, rather than one folder in silence.
        (watch, tokio::spawn(async move { while let Some(Ok(())) = tasks.join_next().await {} }))
    }

    /// Asks for a scan of a folder that begins after this call. Returns its number: the first [`Scanned`] with this
    /// `generation` or a greater one answers, which may take until a missing folder is back. Nothing if there is no
    /// such folder.
    pub fn rescan(&self, folder: FolderKey) -> Option<u64> {
        Some(self.signals(folder)?.ask())
    }

    /// What can be had of a folder's file system; [`FolderKind::UNKNOWN`] until the folder was found.
    pub fn kind(&self, folder: FolderKey) -> FolderKind {
        self.signals(folder).map_or(FolderKind::UNKNOWN, Signals::kind)
    }

    fn signals(&self, folder: FolderKey) -> Option<&Signals> {
        self.folders.iter().find(|(key, _)| *key == folder).map(|(_, signals)| &**signals)
    }
}
