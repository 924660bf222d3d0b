//! One service for each state directory.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use super::error::StoreError;

/// Holds the state directory until it is dropped. The kernel gives it back when the process ends, however it ends.
#[derive(Debug)]
#[must_use = "the lock is given back when this is dropped"]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes `state_dir/lock` and writes the process's id into it.
    ///
    /// # Errors
    /// `Locked` by another; or the file cannot be written.
    pub fn take(state_dir: &Path) -> Result<Lock, StoreError> {
        let path = state_dir.join("lock");
        let unwritable = |error: std::io::Error| StoreError::of_system(&path, &error);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            // A link that somebody laid there must not have its target emptied.
            .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
            .mode(0o640)
            .open(&path)
            .map_err(unwritable)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                // The holder may not have written its id yet; then nobody can be named.
                let mut text = String::new();
                let pid = file.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
                return Err(StoreError::Locked { pid, path });
            }
            Err(TryLockError::Error(error)) => return Err(unwritable(error)),
        }
        file.set_len(0).map_err(unwritable)?;
        file.rewind().map_err(unwritable)?;
        writeln!(file, "{}", std::process::id()).map_err(unwritable)?;
        Ok(Lock { _file: file })
    }

    /// The process that holds the state directory, if one does and can be seen from here. Asks the kernel's list rather
    /// than for the lock itself: a service that starts in that moment must not find it taken.
    pub fn holder(state_dir: &Path) -> Option<u32> {
        let path = state_dir.join("lock");
        let inode = std::fs::metadata(&path).ok()?.ino().to_string();
        let pid: u32 = std::fs::read_to_string(&path).ok()?.trim().parse().ok()?;
        let locks = std::fs::read_to_string("/proc/locks").ok()?;
        locks.lines().any(|line| is_lock(line, pid, &inode)).then_some(pid)
    }
}

/// Whether a line of `/proc/locks` is this lock: `1: FLOCK  ADVISORY  WRITE 4711 08:01:1835 0 EOF`. The device is not
/// compared: btrfs calls it otherwise here than in `stat`.
fn is_lock(line: &str, pid: u32, inode: &str) -> bool {
    let mut words = line.split_whitespace().skip(1);
    words.next() == Some("FLOCK")
        && words.nth(2).and_then(|word| word.parse().ok()) == Some(pid)
        && words.next().and_then(|file| file.rsplit(':').next()) == Some(inode)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_is_seen_without_disturbing_it() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Lock::holder(dir.path()), None);
        let lock = Lock::take(dir.path()).unwrap();
        assert_eq!(Lock::holder(dir.path()), Some(std::process::id()));
        drop(lock);
        assert_eq!(Lock::holder(dir.path()), None);
    }
}
