//! A claimed source to another place: by renaming it, or where that is another file system, by a copy that is whole and
//! on disk before the source goes. Never over anything that lies there.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, Mode, OFlags, Timespec, Timestamps, fchmod, fstat, fsync, futimens, linkat, openat,
    unlinkat,
};
use rustix::io::Errno;

use super::claim::{Claimed, is_version, rename_new, stat_of};
use super::{Destination, Version, said, sync, words};
use crate::model::finish::{Place, numbered, private_name};

/// Numbers that are tried for a name that is taken; so many files of one name were moved by nobody.
const MOST_NAMES: u32 = 100_000;

/// Moves a claimed file to `place`, under its path below the folder. Returns where it lies now.
pub(super) fn transfer(
    claimed: &Claimed,
    root: &Path,
    folder: &OwnedFd,
    version: &Version,
    place: &Place,
) -> io::Result<PathBuf> {
    let to = Destination::make(root, folder, place, &version.path)?;
    let name = version.path.file_name().unwrap_or_default();
    for free in names(name) {
        match claimed.rename(&to.directory, &free) {
            Ok(()) => {
                sync(&to.directory)?;
                claimed.sync()?;
                return Ok(to.path.join(free));
            }
            Err(Errno::EXIST) => {}
            Err(Errno::XDEV) => return copy(claimed, &to, name, version),
            Err(errno) => return Err(said("moving it")(errno)),
        }
    }
    Err(io::Error::other("moving it: every number of its name is taken"))
}

/// Where a file lies that was moved before: by its inode, size and time, under its name or a number of it.
pub(super) fn find(
    root: &Path,
    folder: &OwnedFd,
    version: &Version,
    place: &Place,
) -> io::Result<Option<PathBuf>> {
    let Ok(to) = Destination::reach(root, folder, place, &version.path, false) else { return Ok(None) };
    let name = version.path.file_name().unwrap_or_default();
    for name in names(name) {
        match stat_of(&to.directory, &name)? {
            Some(stat) if is_version(&to.directory, &name, &stat, version)? => {
                return Ok(Some(to.path.join(name)));
            }
            Some(_) => {}
            None => return Ok(None),
        }
    }
    Ok(None)
}

/// Copies a claimed file, and deletes it when the copy is on disk under its name.
fn copy(claimed: &Claimed, to: &Destination, name: &OsStr, version: &Version) -> io::Result<PathBuf> {
    // A crash may have come between the copy and the delete.
    for taken in names(name) {
        match stat_of(&to.directory, &taken)? {
            Some(stat) if is_copy(to, &taken, &stat, version)? => {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
                let found = openat(&to.directory, &taken, flags, Mode::empty());
                found.and_then(|found| fsync(&found)).map_err(said("writing the copy to disk"))?;
                sync(&to.directory)?;
                claimed.delete()?;
                return Ok(to.path.join(taken));
            }
            Some(_) => {}
            None => break,
        }
    }
    let mut draft = Draft::make(&to.directory, version)?;
    fill(&mut draft.file, claimed, version)?;
    let free = draft.name(&to.directory, name)?;
    sync(&to.directory)?;
    // Others may write to the target: only what has our bytes stands for the source.
    let (made, there) =
        (fstat(&draft.file).map_err(said("looking at the copy"))?, stat_of(&to.directory, &free)?);
    if there.is_none_or(|there| (there.st_dev, there.st_ino) != (made.st_dev, made.st_ino)) {
        return Err(io::Error::other("naming the copy: another file lies under its name"));
    }
    claimed.delete()?;
    Ok(to.path.join(free))
}

/// A copy that has no name that anybody waits for yet.
struct Draft<'a> {
    file: File,
    /// Its name where it cannot be without one: nobody else's, since others may use the same target.
    temporary: Option<(String, &'a OwnedFd)>,
}

impl<'a> Draft<'a> {
    fn make(directory: &'a OwnedFd, version: &Version) -> io::Result<Draft<'a>> {
        let mode = Mode::RUSR | Mode::WUSR;
        // A file without a name is gone if we are.
        match openat(directory, ".", OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC, mode) {
            Ok(file) => return Ok(Draft { file: file.into(), temporary: None }),
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL | Errno::NOSYS) => {}
            Err(errno) => return Err(said("making the copy")(errno)),
        }
        let temporary =
            format!("{}-{:016x}", private_name(version.job), RandomState::new().build_hasher().finish());
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(directory, &*temporary, flags, mode).map_err(said("making the copy"))?;
        Ok(Draft { file: file.into(), temporary: Some((temporary, directory)) })
    }

    /// Gives it `name`, or a number of it, over nothing.
    fn name(&mut self, directory: &OwnedFd, name: &OsStr) -> io::Result<OsString> {
        for free in names(name) {
            let named = match &self.temporary {
                None => {
                    let own = format!("/proc/self/fd/{}", self.file.as_raw_fd());
                    linkat(CWD, own, directory, &free, AtFlags::SYMLINK_FOLLOW)
                }
                Some((temporary, _)) => rename_new(directory, temporary.as_ref(), directory, &free),
            };
            match named {
                Ok(()) => {
                    self.temporary = None;
                    return Ok(free);
                }
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(said("naming the copy")(errno)),
            }
        }
        Err(io::Error::other("naming the copy: every number of its name is taken"))
    }
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        if let Some((temporary, directory)) = &self.temporary {
            // Half of a copy is of no use to anybody.
            let _ = unlinkat(directory, &**temporary, AtFlags::empty());
        }
    }
}

/// Whether a file of the target is a whole copy of this version: the times were copied too, last of all.
fn is_copy(to: &Destination, name: &OsStr, stat: &rustix::fs::Stat, version: &Version) -> io::Result<bool> {
    let unknown_inode = Version {
        fingerprint: crate::model::file::Fingerprint { inode: u64::MAX, ..version.fingerprint },
        ..version.clone()
    };
    is_version(&to.directory, name, stat, &unknown_inode)
}

/// Writes the bytes, the mode and the times of a claimed file to its copy, and the copy to disk.
fn fill(target: &mut File, claimed: &Claimed, version: &Version) -> io::Result<()> {
    let mut source = claimed.open()?;
    let copied = io::copy(&mut source, target).map_err(|error| words("copying it", error))?;
    if copied != version.fingerprint.bytes {
        return Err(io::Error::other(format!(
            "copying it: {copied} bytes of {} were read",
            version.fingerprint.bytes
        )));
    }
    if !claimed.is_unchanged()? {
        return Err(io::Error::other("copying it: somebody wrote to it meanwhile"));
    }
    // No more than its owner may give, and not every file system has modes.
    let _ = fchmod(&*target, Mode::from_raw_mode(claimed.stat.st_mode & 0o777));
    let times = Timestamps {
        last_access: Timespec { tv_sec: claimed.stat.st_atime, tv_nsec: claimed.stat.st_atime_nsec as _ },
        last_modification: Timespec {
            tv_sec: claimed.stat.st_mtime,
            tv_nsec: claimed.stat.st_mtime_nsec as _,
        },
    };
    let _ = futimens(&*target, &times);
    fsync(&*target).map_err(said("writing the copy to disk"))
}

/// A name, and the same with numbers.
fn names(name: &OsStr) -> impl Iterator<Item = OsString> + use<> {
    let name = name.to_owned();
    (1..MOST_NAMES).map(move |number| if number == 1 { name.clone() } else { numbered(&name, number) })
}
