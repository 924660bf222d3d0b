//! Looks at files that may have settled: a few at a time for each folder, on threads that may block.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::task::spawn_blocking;
use tracing::error;

use super::Intake;
use super::admit::Settled;
use crate::engine::errands;
use crate::engine::vitals::Whereabouts;
use crate::model::job::{Code, FolderId};
use crate::model::settle::{Decision, FolderKey, MOST_FILES, Observation};
use crate::model::watchdog::Await;
use crate::text::shown;
use crate::watch::look;

/// Files looked at by one blocking thread in one go.
const LOOKS: usize = 128;

/// Blocking threads that look at one folder at once: a hung file server holds them for ever.
const LOOKERS: usize = 2;

/// A run for what was there waits for so long for a file that is still written to.
const IN_VAIN: Duration = Duration::from_secs(45);

/// What some files of one folder looked like.
pub(super) struct Looked {
    key: FolderKey,
    files: Vec<(PathBuf, Observation)>,
}

impl Intake {
    /// The engine wants a file looked at that may be another version by now.
    pub(super) fn seen_again(&mut self, folder: FolderId, path: PathBuf) {
        if let Some(key) = self.key(folder) {
            self.looking.entry(key).or_default().1.push_back(path);
        }
    }

    /// Has those looked at that are due, by folder.
    pub(super) fn look_at_due(&mut self) {
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

    fn start_look(&mut self, key: FolderKey, files: Vec<PathBuf>) {
        let wall = self.parts.clock.now().wall;
        let Some(folder) = self.folder(key) else { return };
        let (root, links) = (folder.path.clone(), folder.links);
        let kind = self.parts.watch.kind(key);
        let here = self.parts.vitals.enter(format!("a look at files in {}", shown(&root)));
        here.at(Await::Looking);
        let look_at_all = move || look_at_all(files, &here, |path| look(&root, path, links, &kind, wall));
        self.looks.spawn(async move {
            match spawn_blocking(look_at_all).await {
                Ok(looked) => Looked { key, files: looked },
                Err(fault) => std::panic::resume_unwind(fault.into_panic()),
            }
        });
    }

    /// Takes in what looks found; what has settled is admitted.
    pub(super) async fn looked(&mut self, looked: Looked) {
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

    /// Whether somebody who waits for the end of what was there waits in vain.
    pub(super) fn is_stuck(&self) -> bool {
        let now = self.parts.clock.now().boot;
        self.parts.once.is_some()
            && self.unscanned.is_empty()
            && self.compares.is_empty()
            && !self.parts.settle.is_empty()
            && self.parts.settle.changing().all(|file| now.since(file.since) >= IN_VAIN)
    }

    /// Scans again where files found no room, now that there is some.
    pub(super) fn scan_what_overflowed(&mut self) {
        if self.parts.settle.len() < MOST_FILES / 2 {
            for key in self.overflowed.drain() {
                self.parts.watch.rescan(key);
            }
        }
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::engine::vitals::Vitals;

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
