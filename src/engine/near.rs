//! Which folders' files are opened and looked at on the thread that asks, and which on one that may wait.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::beneath::Near;
use crate::clock::Clock;
use crate::model::job::FolderId;
use crate::model::time::Boot;
use crate::watch::kind::FolderKind;

/// An open that takes longer waits for somebody: a virus scanner, which is asked before each, or a disk.
const SLOW: Duration = Duration::from_millis(20);

/// For so long all files of a folder are opened on another thread after one was slow.
const SLOW_FOR: Duration = Duration::from_secs(300);

/// What is known of folders since a file of them was opened by who may wait.
#[derive(Debug, Default)]
pub(super) struct NearFolders(Mutex<HashMap<FolderId, Known>>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Known {
    /// On which file system it lies.
    kind: FolderKind,
    /// Not before this, since it took long.
    from: Boot,
}

impl Known {
    fn identity(&self) -> (u64, u64) {
        (self.kind.root.device, self.kind.root.identity.inode)
    }

    fn is_near(&self, now: Boot) -> bool {
        self.kind.is_near() && now >= self.from
    }

    /// After something was done from `began` to `ended`.
    fn after(self, began: Boot, ended: Boot) -> Known {
        if ended.since(began) < SLOW { self } else { Known { from: ended + SLOW_FOR, ..self } }
    }
}

impl NearFolders {
    /// Device and inode of the folder's directory, as it is known.
    pub(super) fn identity(&self, folder: FolderId) -> Option<(u64, u64)> {
        self.lock().get(&folder).map(Known::identity)
    }

    /// Who may wait found it so.
    pub(super) fn learn(&self, folder: FolderId, kind: FolderKind) {
        self.lock().insert(folder, Known { kind, from: Boot(i64::MIN) });
    }

    /// Does something in the folder `root` on this thread, if that waits for nothing; none: it is to be done where one may wait. The
    /// change to another thread and back takes a seventh of the time of small files (docs/decisions/throughput.md).
    pub(super) fn within<T>(
        &self,
        folder: FolderId,
        root: &Path,
        clock: &Clock,
        what: impl FnOnce(&Near, &FolderKind) -> Option<T>,
    ) -> Option<T> {
        let began = clock.now().boot;
        let known = self.lock().get(&folder).copied().filter(|known| known.is_near(began))?;
        let done = what(&Near::root(root, known.identity())?, &known.kind);
        let after = known.after(began, clock.now().boot);
        if after != known {
            self.lock().insert(folder, after);
        }
        done
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<FolderId, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_where_something_was_slow_is_not_near_for_a_while() {
        let directory = tempfile::tempdir_in("/dev/shm").unwrap();
        let kind = FolderKind::probe(directory.path()).unwrap();
        let known = Known { kind, from: Boot(i64::MIN) };
        assert!(known.is_near(Boot(0)), "{kind:?}");
        assert_eq!(known.after(Boot(1000), Boot(1019)), known);
        let slow = known.after(Boot(1000), Boot(1020));
        let again = Boot(1020) + SLOW_FOR;
        assert!(!slow.is_near(Boot(1020)) && !slow.is_near(Boot(again.0 - 1)) && slow.is_near(again));
        let elsewhere = Known { kind: FolderKind::UNKNOWN, ..known };
        assert!(!elsewhere.is_near(Boot(0)));
    }

    #[test]
    fn what_nobody_knows_is_not_near_and_what_was_learnt_is() {
        let directory = tempfile::tempdir_in("/dev/shm").unwrap();
        let (folders, clock, folder) = (NearFolders::default(), Clock::System, FolderId(1));
        let within = || folders.within(folder, directory.path(), &clock, |_, kind| Some(kind.name));
        assert_eq!(within(), None);
        folders.learn(folder, FolderKind::probe(directory.path()).unwrap());
        // A mount anywhere in the system has the kernel look again.
        assert_eq!((0..1000).find_map(|_| within()), Some("tmpfs"));
        folders.learn(folder, FolderKind::probe(Path::new("/")).unwrap());
        assert_eq!(within(), None, "another directory lies there");
    }
}
