//! What a file looks like from outside: what decides whether two looks saw the same version of it.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

/// What `fstat` says of a regular file, as far as it tells one version from another.
///
/// `st_dev` is left out: it changes with every mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fingerprint {
    /// Size in bytes.
    pub bytes: u64,
    /// Last change of the content, nanoseconds since 1970. Anyone may set it.
    pub mtime_ns: i64,
    /// Last change of content or attributes, nanoseconds since 1970. Only the kernel sets it.
    pub ctime_ns: i64,
    /// Inode number; reused after a delete.
    pub inode: u64,
}

impl Fingerprint {
    /// The fingerprint that `metadata` shows. Every hand that stats a file takes it from here, so that two looks at the
    /// same file never differ in how they were written down.
    pub fn of(metadata: &Metadata) -> Fingerprint {
        let nanoseconds =
            |seconds: i64, rest: i64| seconds.saturating_mul(1_000_000_000).saturating_add(rest);
        Fingerprint {
            bytes: metadata.size(),
            mtime_ns: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
            ctime_ns: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
            inode: metadata.ino(),
        }
    }

    /// Whether only `ctime` differs: a chmod, a rename or a hard link, which change no byte.
    pub fn differs_in_ctime_only(&self, other: &Fingerprint) -> bool {
        self.differs_in_times_only(other) && self.mtime_ns == other.mtime_ns
    }

    /// Whether it has the size and the time of change that a copy keeps which is made with its times (`cp -p`, a backup).
    pub fn looks_copied_from(&self, other: &Fingerprint) -> bool {
        self.bytes == other.bytes && self.mtime_ns == other.mtime_ns
    }

    /// Whether only times differ, so that the content has to be looked at.
    pub fn differs_in_times_only(&self, other: &Fingerprint) -> bool {
        self.bytes == other.bytes && self.inode == other.inode && self != other
    }
}

/// What settling asks of a file: see `settle`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// The file as it is now.
    pub fingerprint: Fingerprint,
    /// How long ago its content or attributes changed by the kernel's own `ctime`, where the file system's clock is
    /// ours (a local file system); `None` where it is not.
    pub unchanged_for: Option<Duration>,
}

/// A path below a watched folder, as the bytes that the kernel gave.
pub type RelativePath = std::path::PathBuf;
