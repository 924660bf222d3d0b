//! Hand 4: the file's bytes. Nothing else in the house reads what a watched file contains.
//!
//! - this file: opening, and whether what is open is still the file that lies there;
//! - `reader`: a range as a stream, with a receipt for what was handed over;
//! - `digest`: the digest of a range, MD5 of the whole; whatever else reads a range through;
//! - `md5`: that MD5, by the library of TLS.
//!
//! A [`Source`] is one open descriptor. All reads of a job go through it, so that all its Parts are of one inode even if
//! the path is replaced meanwhile.

mod digest;
mod md5;
mod reader;

use std::fs::File;
use std::io;
use std::num::NonZeroU64;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use rustix::fs::{Advice, CWD, Mode, OFlags, fadvise, openat};
use rustix::io::Errno;
use tokio::task::spawn_blocking;

use crate::beneath::{self, Links, Near};
use crate::model::digest::Algorithm;
use crate::model::failure::SourceFailure;
use crate::model::file::Fingerprint;

pub use digest::Comparison;
pub use reader::Receipt;

/// A regular file, open for reading, as the version it was when it was opened.
#[derive(Clone, Debug)]
pub struct Source {
    file: Arc<File>,
    place: Arc<Place>,
    fingerprint: Fingerprint,
    /// Grows with each byte that is read for a digest.
    hashed: Arc<AtomicU64>,
    /// Of the receipts of its readers.
    algorithm: Algorithm,
    /// It lies on a file system of this machine, which was seen when it was opened.
    is_near: bool,
}

/// What [`Source::still`] found, when it is the same version or may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Still {
    /// Nothing changed since it was opened.
    Same,
    /// Only times did: whether the bytes did, the digests tell.
    TimesOnly,
}

impl Source {
    /// Opens the file at `path`, whose last component must not be a symbolic link. Blocks.
    pub fn open(path: &Path) -> Result<Source, SourceFailure> {
        Source::at(Place::Path(path.to_owned()))
    }

    /// Opens the file at `relative` below the directory `root`, and nothing that another symbolic link on the way from
    /// `root` leads to than `links` allows: a directory that was swapped for a link after the scan opens no file outside the
    /// folder. Blocks.
    pub fn open_beneath(root: &Path, relative: &Path, links: Links) -> Result<Source, SourceFailure> {
        Source::at(Place::Beneath(root.to_owned(), relative.to_owned(), links))
    }

    /// The same as [`Source::open_beneath`] without links, if nothing has to be waited for and the file is there; none: who may wait
    /// finds out. `folder` is `root`.
    pub fn open_near(folder: &Near, root: &Path, relative: &Path) -> Option<Source> {
        let file = folder.open(relative, READING)?;
        let source =
            Source::of(file.into(), Place::Beneath(root.to_owned(), relative.to_owned(), Links::None));
        source.ok().map(|source| Source { is_near: true, ..source })
    }

    fn at(place: Place) -> Result<Source, SourceFailure> {
        let file = place.open(READING).map_err(opening)?;
        Source::of(file.into(), place)
    }

    fn of(file: File, place: Place) -> Result<Source, SourceFailure> {
        let metadata = file.metadata().map_err(reading)?;
        if !metadata.is_file() {
            return Err(SourceFailure::NotAFile);
        }
        let fingerprint = Fingerprint::of(&metadata);
        if fingerprint.bytes > reader::CHUNK as u64 {
            // Only advice: a file system that does not take it reads as well without.
            let _ = fadvise(&file, 0, None, Advice::Sequential);
        }
        Ok(Source {
            file: Arc::new(file),
            place: Arc::new(place),
            fingerprint,
            hashed: Arc::default(),
            algorithm: Algorithm::default(),
            is_near: false,
        })
    }

    /// Has the bytes that are read for digests counted in `hashed`; a reader has a count of its own.
    pub fn counted_by(self, hashed: Arc<AtomicU64>) -> Source {
        Source { hashed, ..self }
    }

    /// Has what is sent of it digested in this way.
    pub fn digested_by(self, algorithm: Algorithm) -> Source {
        Source { algorithm, ..self }
    }

    /// The file as it was when it was opened.
    pub fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }

    /// Has the page cache let go of bytes that are not going to be sent or compared again: a large file would drive out what other
    /// programs use (docs/decisions/throughput.md). Not waited for; what is not on the disk yet stays.
    pub fn let_go(&self, range: Range<u64>) {
        let file = self.file.clone();
        let length = NonZeroU64::new(range.end.saturating_sub(range.start));
        // Only advice, as above.
        drop(spawn_blocking(move || fadvise(&file, range.start, length, Advice::DontNeed)));
    }

    /// The open descriptor, for what is asked of it besides reading (the lease test).
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Whether what was opened is exactly the version that was queued; else `Changed`. Where only times differ
    /// ([`Fingerprint::differs_in_times_only`]) the digests can still tell that it is.
    pub fn is(&self, queued: &Fingerprint) -> Result<(), SourceFailure> {
        if self.fingerprint == *queued { Ok(()) } else { Err(SourceFailure::Changed) }
    }

    /// Whether the file that is open is still the version that was opened, and still what lies at its path. Blocks.
    pub fn still(&self) -> Result<Still, SourceFailure> {
        self.still_by(|flags| self.place.open(flags))
    }

    /// The same, if nothing has to be waited for and the file is there; none: who may wait finds out. `folder` is the one that it
    /// was opened in.
    pub fn still_near(&self, folder: &Near) -> Option<Still> {
        let Place::Beneath(_, relative, Links::None) = &*self.place else { return None };
        if !self.is_near {
            // Its server may be gone, and something else lie at its place.
            return None;
        }
        self.still_by(|flags| folder.open(relative, flags).ok_or(Errno::NOSYS)).ok()
    }

    fn still_by(&self, open: impl FnOnce(OFlags) -> Result<OwnedFd, Errno>) -> Result<Still, SourceFailure> {
        let mine = self.file.metadata().map_err(reading)?;
        let there = File::from(open(LOOKING).map_err(opening)?).metadata().map_err(reading)?;
        let now = Fingerprint::of(&mine);
        if (there.dev(), there.ino()) != (mine.dev(), mine.ino()) {
            Err(SourceFailure::Changed)
        } else if now == self.fingerprint {
            Ok(Still::Same)
        } else if now.differs_in_times_only(&self.fingerprint) {
            Ok(Still::TimesOnly)
        } else {
            Err(SourceFailure::Changed)
        }
    }
}

/// How a file is reached, so that a second look goes the same way as the first.
#[derive(Debug)]
enum Place {
    Path(PathBuf),
    Beneath(PathBuf, PathBuf, Links),
}

/// A FIFO without a writer would block the open, before fstat can tell that it is one.
const READING: OFlags = OFlags::RDONLY.union(OFlags::NONBLOCK);

/// A look needs no right to read, and does not disturb whoever holds a lease.
const LOOKING: OFlags = OFlags::PATH;

impl Place {
    fn open(&self, flags: OFlags) -> Result<OwnedFd, Errno> {
        let flags = flags | OFlags::CLOEXEC;
        match self {
            Place::Path(path) => openat(CWD, path, flags | OFlags::NOFOLLOW, Mode::empty()),
            Place::Beneath(root, relative, links) => beneath::open(root, relative, flags, *links),
        }
    }
}

fn opening(error: Errno) -> SourceFailure {
    match error {
        // ENOTDIR: a directory on the way is something else by now.
        Errno::NOENT | Errno::NOTDIR => SourceFailure::Missing,
        // The last component is a symbolic link; a socket, or a device without a driver.
        Errno::LOOP | Errno::NXIO | Errno::NODEV => SourceFailure::NotAFile,
        other => reading(other.into()),
    }
}

fn reading(error: io::Error) -> SourceFailure {
    match Errno::from_io_error(&error) {
        // NFS: the file behind the handle was removed or replaced.
        Some(Errno::STALE) => SourceFailure::Changed,
        Some(Errno::ACCESS | Errno::PERM) => SourceFailure::Unreadable { message: error.to_string() },
        // EIO, EMFILE, a server that is away: no fault of this file.
        _ => SourceFailure::Unreachable { message: error.to_string() },
    }
}

#[cfg(test)]
mod tests;
