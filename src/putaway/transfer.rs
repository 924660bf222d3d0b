//! A claimed source to another place: by renaming it, or where that is another file system, by a copy that is whole and
//! on disk before the source goes. Never over anything that lies there.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags, Timespec, Timestamps, fchmod, fsync, futimens, openat, unlinkat};
use rustix::io::Errno;

use super::claim::{Claimed, is_version, stat_of};
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

/// Copies a claimed file, and deletes it when the copy is on disk.
fn copy(claimed: &Claimed, to: &Destination, name: &OsStr, version: &Version) -> io::Result<PathBuf> {
    // A crash may have come between the copy and the delete.
    for taken in names(name) {
        match stat_of(&to.directory, &taken)? {
            Some(stat) if is_copy(to, &taken, &stat, version)? => {
                claimed.delete()?;
                return Ok(to.path.join(taken));
            }
            Some(_) => {}
            None => break,
        }
    }
    let temporary = private_name(version.job);
    // What a crash left of an earlier copy; the name is nobody else's.
    match unlinkat(&to.directory, &*temporary, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(errno) => return Err(said("removing what is left of an earlier copy")(errno)),
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut target: File = openat(&to.directory, &*temporary, flags, Mode::RUSR | Mode::WUSR)
        .map_err(said("making the copy"))?
        .into();
    let copied = fill(&mut target, claimed, version).and_then(|()| {
        for free in names(name) {
            // `linkat` and `renameat2` alike take no name that is taken.
            let renamed = rustix::fs::renameat_with(
                &to.directory,
                &*temporary,
                &to.directory,
                &free,
                rustix::fs::RenameFlags::NOREPLACE,
            );
            match renamed {
                Ok(()) => return Ok(free),
                Err(Errno::EXIST) => {}
                Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
                    match rustix::fs::linkat(
                        &to.directory,
                        &*temporary,
                        &to.directory,
                        &free,
                        AtFlags::empty(),
                    ) {
                        Ok(()) => return Ok(free),
                        Err(Errno::EXIST) => {}
                        Err(errno) => return Err(said("naming the copy")(errno)),
                    }
                }
                Err(errno) => return Err(said("naming the copy")(errno)),
            }
        }
        Err(io::Error::other("naming the copy: every number of its name is taken"))
    });
    if copied.is_err() || stat_of(&to.directory, temporary.as_ref())?.is_some() {
        // Half of a copy is of no use to anybody; what remains if this fails too goes with the next try.
        let _ = unlinkat(&to.directory, &*temporary, AtFlags::empty());
    }
    let free = copied?;
    sync(&to.directory)?;
    claimed.delete()?;
    Ok(to.path.join(free))
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
