//! The source under a private name. Between a look at a path and a change of it somebody may put another file there; so
//! the file is first renamed to a name that nobody else uses, then compared by what that name holds. Another version
//! goes back to where it lay.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, RenameFlags, Stat, fstat, openat, renameat_with, statat, unlinkat,
};
use rustix::io::Errno;

use super::{Version, said, sync};
use crate::model::digest::{Algorithm, Digest, Hasher};
use crate::model::finish::{numbered, private_name};

/// What lies at the path of a version.
pub(super) enum Claim {
    /// That version, which has its private name now.
    Ours(Claimed),
    /// Nothing.
    Gone,
    /// Another version, which stays where it is.
    Other,
}

/// A source under its private name.
pub(super) struct Claimed {
    directory: OwnedFd,
    private: String,
    /// As it is under that name.
    pub(super) stat: Stat,
}

/// Gives the file of `version` its private name in `directory`.
pub(super) fn claim(
    directory: &OwnedFd,
    version: &Version,
    is_open: &dyn Fn(&Path) -> bool,
) -> io::Result<Claim> {
    let Some(name) = version.path.file_name() else { return Ok(Claim::Gone) };
    let private = private_name(version.job);
    let left = match stat_of(directory, private.as_ref())? {
        // A crash left it so.
        Some(stat) if is_version(directory, private.as_ref(), &stat, version)? => {
            // Between its second name and the end of its first, where it could not be renamed.
            let first = stat_of(directory, name)?
                .filter(|first| (first.st_dev, first.st_ino) == (stat.st_dev, stat.st_ino));
            if first.is_some() {
                unlinkat(directory, name, AtFlags::empty()).map_err(said("taking its first name away"))?;
            }
            Some(stat)
        }
        // Of another store's job of that number.
        Some(_) => {
            give_back(directory, &private, name)?;
            None
        }
        None => None,
    };
    let there = match left {
        Some(stat) => stat,
        None => {
            // Looked at, compared and renamed by one descriptor: a name may hold another file each time.
            let Some(looked) = Looked::open(directory, name)? else { return Ok(Claim::Gone) };
            if !looked.is_version(version)? {
                return Ok(Claim::Other);
            }
            match rename_new(directory, name, directory, private.as_ref()) {
                Ok(()) => looked.stat,
                Err(Errno::NOENT) => return Ok(Claim::Gone),
                Err(errno) => return Err(said("setting it aside")(errno)),
            }
        }
    };
    // Under this name nobody opens it any more; who had it open before may still write.
    let is_open = is_open(&version.path.with_file_name(&private));
    // What was written before that look shows in its times now; or another file was put in its place before the rename.
    match stat_of(directory, private.as_ref())? {
        Some(stat) if is_same_file(&there, &stat) && !is_open => {
            Ok(Claim::Ours(Claimed { directory: directory.try_clone()?, private, stat }))
        }
        Some(stat) => {
            give_back(directory, &private, name)?;
            match is_same_file(&there, &stat) {
                true => Err(io::Error::new(io::ErrorKind::ResourceBusy, "somebody has it open for writing")),
                false => Ok(Claim::Other),
            }
        }
        None => Ok(Claim::Gone),
    }
}

impl Claimed {
    /// Deletes it.
    pub(super) fn delete(&self) -> io::Result<()> {
        match unlinkat(&self.directory, &*self.private, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => sync(&self.directory),
            Err(errno) => Err(said("deleting it")(errno)),
        }
    }

    /// Renames it to `name` in `to`, if nothing has that name.
    pub(super) fn rename(&self, to: &OwnedFd, name: &OsStr) -> Result<(), Errno> {
        rename_new(&self.directory, self.private.as_ref(), to, name)
    }

    /// Gives it its own name back, since what was to become of it failed.
    pub(super) fn give_back(&self, name: &OsStr) -> io::Result<()> {
        give_back(&self.directory, &self.private, name)
    }

    /// Whether nothing was written to it since it was claimed.
    pub(super) fn is_unchanged(&self) -> io::Result<bool> {
        let now = stat_of(&self.directory, self.private.as_ref())?;
        Ok(now.is_some_and(|now| is_same_file(&self.stat, &now)))
    }

    /// Opens it for reading.
    pub(super) fn open(&self) -> io::Result<File> {
        open(&self.directory, self.private.as_ref()).map_err(said("opening it"))
    }

    /// Makes the change of names last.
    pub(super) fn sync(&self) -> io::Result<()> {
        sync(&self.directory)
    }
}

/// Puts a version that is not ours back to where it lay; never over anything: what took its place meanwhile stays, and
/// it gets a number.
pub(super) fn give_back(directory: &OwnedFd, private: &str, name: &OsStr) -> io::Result<()> {
    let mut back = name.to_owned();
    for number in 2.. {
        match rename_new(directory, private.as_ref(), directory, &back) {
            Ok(()) => return sync(directory),
            Err(Errno::EXIST) => back = numbered(name, number),
            Err(Errno::NOENT) => return Ok(()),
            Err(errno) => {
                let tried = format!("giving {private} back its name {}", PathBuf::from(&back).display());
                return Err(said(&tried)(errno));
            }
        }
    }
    Ok(())
}

/// Renames over nothing.
pub(super) fn rename_new(from: &OwnedFd, name: &OsStr, to: &OwnedFd, new: &OsStr) -> Result<(), Errno> {
    match renameat_with(from, name, to, new, RenameFlags::NOREPLACE) {
        // NFS and some others cannot say so. A second name is over nothing as well; the first then goes.
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
            rustix::fs::linkat(from, name, to, new, AtFlags::empty())?;
            unlinkat(from, name, AtFlags::empty()).inspect_err(|_| {
                // It may be somebody else's, in a directory with the sticky bit: it has one name again.
                let _ = unlinkat(to, new, AtFlags::empty());
            })
        }
        renamed => renamed,
    }
}

/// What a name is, without following it.
pub(super) fn stat_of(directory: &OwnedFd, name: &OsStr) -> io::Result<Option<Stat>> {
    match statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(said("looking at it")(errno)),
    }
}

/// Whether a name still holds the same file as it did a moment ago. Its own renaming changed its ctime.
fn is_same_file(one: &Stat, other: &Stat) -> bool {
    let ((size, mtime, _), (other_size, other_mtime, _)) = (size_and_times(one), size_and_times(other));
    (one.st_dev, one.st_ino, size, mtime) == (other.st_dev, other.st_ino, other_size, other_mtime)
}

/// Size, mtime and ctime, as a fingerprint has them.
#[allow(clippy::unnecessary_cast, clippy::useless_conversion, reason = "the types differ between machines")]
fn size_and_times(stat: &Stat) -> (u64, i64, i64) {
    let time = |seconds: i64, rest: i64| seconds.saturating_mul(1_000_000_000).saturating_add(rest);
    let mtime = time(stat.st_mtime as i64, stat.st_mtime_nsec as i64);
    let ctime = time(stat.st_ctime as i64, stat.st_ctime_nsec as i64);
    (u64::try_from(stat.st_size).unwrap_or(0), mtime, ctime)
}

/// Whether what a name holds is this version.
pub(super) fn is_version(
    directory: &OwnedFd,
    name: &OsStr,
    stat: &Stat,
    version: &Version,
) -> io::Result<bool> {
    match Looked::open(directory, name)? {
        Some(looked) => Ok(is_same_file(stat, &looked.stat) && looked.is_version(version)?),
        None => Ok(false),
    }
}

/// What a name holds, open for reading if that may be.
struct Looked {
    file: Option<File>,
    stat: Stat,
}

impl Looked {
    /// Nothing if there is no such name.
    fn open(directory: &OwnedFd, name: &OsStr) -> io::Result<Option<Looked>> {
        let Some(stat) = stat_of(directory, name)? else { return Ok(None) };
        // To open a FIFO or a device would be noticed at its other end.
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Ok(Some(Looked { file: None, stat }));
        }
        match open(directory, name) {
            Ok(file) => {
                let stat = fstat(&file).map_err(said("looking at it"))?;
                Ok(Some(Looked { file: Some(file), stat }))
            }
            Err(Errno::NOENT) => Ok(None),
            // It may be set aside without being read; a writer may hold a lease on it, or it became something else.
            Err(Errno::ACCESS | Errno::PERM | Errno::AGAIN | Errno::LOOP | Errno::NXIO) => {
                Ok(Some(Looked { file: None, stat }))
            }
            Err(errno) => Err(said("opening it")(errno)),
        }
    }

    /// Whether it is this version: by all that a look tells, or else by its bytes, since a rename, a link or a chmod changes its
    /// ctime. Of what was never sent no bytes are known: then its size, time and inode have to do.
    #[allow(clippy::useless_conversion, reason = "the types differ between machines")]
    fn is_version(&self, version: &Version) -> io::Result<bool> {
        let known = &version.fingerprint;
        let (bytes, mtime, ctime) = size_and_times(&self.stat);
        if FileType::from_raw_mode(self.stat.st_mode) != FileType::RegularFile || bytes != known.bytes {
            return Ok(false);
        }
        let same_inode = mtime == known.mtime_ns && u64::from(self.stat.st_ino) == known.inode;
        if same_inode && ctime == known.ctime_ns {
            return Ok(true);
        }
        let covered: u64 = version.ranges.iter().map(|(range, _)| range.end - range.start).sum();
        if covered != bytes || covered == 0 {
            return Ok(same_inode);
        }
        let Some(file) = &self.file else { return Ok(false) };
        for (range, digest) in &version.ranges {
            if digest_of(file, range, digest.algorithm())? != Some(*digest) {
                return Ok(false);
            }
        }
        // Written to while it was read.
        let after = fstat(file).map_err(said("looking at it"))?;
        Ok(size_and_times(&after) == size_and_times(&self.stat))
    }
}

/// The digest of a range; nothing if the file ends before it does.
fn digest_of(file: &File, range: &Range<u64>, algorithm: Algorithm) -> io::Result<Option<Digest>> {
    let (mut hasher, mut buffer) = (Hasher::new(algorithm), vec![0; 256 * 1024]);
    let mut at = range.start;
    while at < range.end {
        let most = usize::try_from(range.end - at).unwrap_or(usize::MAX).min(buffer.len());
        match file.read_at(&mut buffer[..most], at) {
            Ok(0) => return Ok(None),
            Ok(read) => {
                hasher.update(&buffer[..read]);
                at += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(super::words("reading it", error)),
        }
    }
    Ok(Some(hasher.digest()))
}

fn open(directory: impl AsFd, name: &OsStr) -> Result<File, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    openat(directory, name, flags, Mode::empty()).map(File::from)
}
