//! Tells that somebody wrote into a directory, so that nobody has to look there again and again for nothing.

use std::io;
use std::path::Path;
use std::sync::Arc;

use notify::event::EventKindMask;
use notify::{Config, INotifyWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;

/// Rings for what any process of this machine does in one directory. What others do to a file system that several
/// machines share it does not hear, so that whoever waits for it looks now and then all the same.
#[derive(Debug)]
pub struct Bell {
    rang: Arc<Notify>,
    /// Ends its thread when it is dropped.
    _watcher: INotifyWatcher,
}

impl Bell {
    /// Hears what happens in `directory` from now on: files that come, go, are renamed or written. What is written through
    /// a mapping is not heard.
    ///
    /// # Errors
    /// If the kernel has no more inotify instances for this user, or the directory cannot be read.
    pub fn of(directory: &Path) -> io::Result<Bell> {
        let kinds = EventKindMask::CREATE
            | EventKindMask::REMOVE
            | EventKindMask::MODIFY_NAME
            | EventKindMask::MODIFY_DATA
            | EventKindMask::MODIFY_META;
        let rang = Arc::new(Notify::new());
        let hears = rang.clone();
        // Whatever it is, also that events were lost: somebody has to look.
        let ring = move |_| hears.notify_one();
        let config = Config::default().with_follow_symlinks(false).with_event_kinds(kinds);
        let mut watcher = INotifyWatcher::new(ring, config).map_err(io::Error::other)?;
        watcher.watch(directory, RecursiveMode::NonRecursive).map_err(io::Error::other)?;
        Ok(Bell { rang, _watcher: watcher })
    }

    /// Waits until something happened since the last time, and forgets what. May be dropped at any time: then it is
    /// told the next time.
    pub async fn rung(&self) {
        self.rang.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use super::*;

    /// Whether nothing more is told, whatever comes late of what happened before.
    async fn is_silent(bell: &Bell) -> bool {
        let mut rings = 0;
        while tokio::time::timeout(Duration::from_millis(100), bell.rung()).await.is_ok() {
            rings += 1;
        }
        rings == 0
    }

    #[tokio::test]
    async fn it_rings_for_whatever_is_written_and_not_for_who_only_looks() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        let bell = Bell::of(dir.path()).unwrap();
        assert!(is_silent(&bell).await);
        let happens: [&dyn Fn(); 4] = [
            &|| fs::write(&a, "").unwrap(),
            &|| fs::write(&a, "1").unwrap(),
            &|| fs::rename(&a, &b).unwrap(),
            &|| fs::remove_file(&b).unwrap(),
        ];
        for happens in happens {
            happens();
            assert!(!is_silent(&bell).await);
            fs::read_dir(dir.path()).unwrap().for_each(drop);
            fs::read(&a).or_else(|_| fs::read(&b)).unwrap_or_default();
            assert!(is_silent(&bell).await);
        }
    }

    #[test]
    fn what_is_not_there_has_none() {
        assert!(Bell::of(Path::new("/nowhere/at/all")).is_err());
    }
}
