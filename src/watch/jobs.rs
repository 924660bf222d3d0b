//! The work of a folder's task that blocks, on threads of its own.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use super::hints::{Ears, Signals};
use super::kind::FolderKind;
use super::scan::{Batch, Found, Listening, Walk};
use super::{Clock, FolderSpec, Notice};
use crate::model::time::Wall;

/// How many scans run at once, of folders on local file systems and on others: a file server that hangs does not
/// keep local folders from being scanned.
const SCANS_AT_ONCE: usize = 2;

/// What limits the number of scans.
pub(super) struct Permits {
    local: Arc<Semaphore>,
    remote: Arc<Semaphore>,
}

impl Permits {
    pub(super) fn new() -> Permits {
        let semaphore = || Arc::new(Semaphore::new(SCANS_AT_ONCE));
        Permits { local: semaphore(), remote: semaphore() }
    }
}

/// What a folder's task shares with its jobs.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) spec: Arc<FolderSpec>,
    pub(super) ears: Arc<Ears>,
    pub(super) signals: Arc<Signals>,
    pub(super) permits: Arc<Permits>,
    pub(super) notices: mpsc::Sender<Notice>,
    pub(super) now: Clock,
    pub(super) shutdown: CancellationToken,
}

/// A scan of the whole folder that has ended.
pub(super) struct Full {
    pub(super) found: Found,
    pub(super) generation: u64,
    /// Whether the folder was the same directory before and after.
    pub(super) same_root: bool,
    pub(super) took: Duration,
    /// Files that came to be in this time were asked about.
    pub(super) window: Option<Range<Wall>>,
}

impl Shared {
    /// Scans the whole folder, and counts the births that `listening` asks for. Nothing if it was not brought to its end.
    pub(super) async fn scan_all(
        self,
        kind: FolderKind,
        generation: u64,
        listening: Option<Listening>,
    ) -> Option<Full> {
        let permits = if kind.events { &self.permits.local } else { &self.permits.remote };
        let permit = permits.clone().acquire_owned().await.ok()?;
        let scan = move || {
            let _permit = permit;
            let began = (self.now)().boot;
            self.ears.barrier();
            let found = self.walk(&kind, Path::new(""), listening.as_ref(), true);
            let after = FolderKind::probe(&self.spec.path);
            let same_root = after.is_ok_and(|after| kind.is_still(&after));
            let took = (self.now)().boot.since(began);
            let window = listening.map(|listening| listening.window);
            (!found.stopped).then_some(Full { found, generation, same_root, took, window })
        };
        match spawn_blocking(scan).await {
            Ok(full) => full,
            Err(fault) => match fault.try_into_panic() {
                // For whoever awaits this to say.
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime ends.
                Err(_) => None,
            },
        }
    }

    /// Scans new directories.
    pub(super) fn scan_parts(&self, kind: &FolderKind, parts: BTreeSet<PathBuf>) {
        self.ears.barrier();
        for part in topmost(parts) {
            self.walk(kind, &part, None, false);
        }
    }

    /// Sorts what events named.
    pub(super) fn examine(&self, kind: &FolderKind, hints: &BTreeSet<PathBuf>) -> (Batch, Vec<PathBuf>) {
        self.walker(kind).examine(hints)
    }

    fn walk(&self, kind: &FolderKind, start: &Path, listening: Option<&Listening>, by_scan: bool) -> Found {
        let runtime = Handle::current();
        let folder = self.spec.key;
        let walk = Walk { listening, ..self.walker(kind) };
        walk.below(start, &mut |entries| {
            runtime.block_on(async {
                tokio::select! {
                    () = self.shutdown.cancelled() => false,
                    sent = self.notices.send(Notice::Seen { folder, entries, by_scan }) => sent.is_ok(),
                }
            })
        })
    }

    fn walker<'a>(&'a self, kind: &'a FolderKind) -> Walk<'a> {
        Walk { spec: &self.spec, kind, now: &*self.now, shutdown: &self.shutdown, listening: None }
    }
}

/// Without those that lie in others.
fn topmost(paths: BTreeSet<PathBuf>) -> Vec<PathBuf> {
    let mut topmost: Vec<PathBuf> = Vec::new();
    for path in paths {
        if topmost.last().is_none_or(|last| !path.starts_with(last)) {
            topmost.push(path);
        }
    }
    topmost
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_in_others_are_not_walked_twice() {
        let paths = ["a", "a/b", "a/b/c", "ab", "b/c", "a-b"].map(PathBuf::from);
        assert_eq!(topmost(paths.into()), ["a", "a-b", "ab", "b/c"].map(PathBuf::from));
    }
}
