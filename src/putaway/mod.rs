//! Hand 5: what is done to a folder after a file's row is committed. The source is moved or deleted; receipts are
//! written and taken away. Nothing else in the house changes what lies in a folder.
//!
//! - `claim`: the source under a private name, so that what is touched is what was looked at;
//! - `transfer`: to another place, also of another file system, over nothing that lies there;
//! - `receipt`: the record beside the file.
//!
//! A folder that others can write to is hostile ground: every name is resolved from the folder's descriptor, and no
//! link on the way is followed. Everything here blocks, and can be done again after a crash at any point.

mod claim;
mod receipt;
#[cfg(test)]
mod tests;
mod transfer;

use std::ffi::OsStr;
use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, fchmod, fstat, fsync, mkdirat, openat};
use rustix::io::Errno;

use crate::beneath::{self, Links};
use crate::model::digest::Digest;
use crate::model::file::Fingerprint;
use crate::model::finish::{Fate, Place, private_name};
use crate::model::job::JobId;

pub use self::receipt::{remove_receipt, write_receipt};

/// A file that was sent, or failed, and what tells it from any other.
#[derive(Clone, Debug)]
pub struct Version {
    /// Its job, by which its private name goes.
    pub job: JobId,
    /// Where it lies below the folder.
    pub path: PathBuf,
    /// What it looked like.
    pub fingerprint: Fingerprint,
    /// What was sent of it; empty if nothing is known of that.
    pub ranges: Vec<(Range<u64>, Digest)>,
}

/// What became of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Put {
    /// It is deleted.
    Deleted,
    /// It lies here now, absolute.
    Moved(PathBuf),
    /// It had gone before.
    Gone,
    /// Another version lies at its path, and stays there.
    Changed,
}

/// Gives a file its own name back that a crash left under its private one, if nobody moves or deletes it any more. Over
/// nothing: if its name is taken it gets a number.
///
/// # Errors
/// What the system said, with what was tried.
pub fn give_back(root: &Path, job: JobId, path: &Path) -> io::Result<()> {
    match beneath::directory_of(root, path, Links::None) {
        Ok((directory, name)) => claim::give_back(&directory, &private_name(job), name),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(()),
        Err(errno) => Err(said("opening its directory")(errno)),
    }
}

/// Moves or deletes the file of `version` below the folder `root`, if what lies there is that version and nobody has it
/// open for writing: `is_open` is asked with its private name.
///
/// # Errors
/// What the system said, with what was tried; the file is at its own name or at its private one then, and a later call
/// goes on from there.
pub fn put_away(
    root: &Path,
    version: &Version,
    fate: &Fate,
    is_open: &dyn Fn(&Path) -> bool,
) -> io::Result<Put> {
    let to = match fate {
        Fate::Keep => return Ok(Put::Gone),
        Fate::Delete => None,
        Fate::Move(place) => Some(place),
    };
    let folder = beneath::root_of(root).map_err(said("opening the folder"))?;
    let directory = match beneath::directory_at(
        folder.try_clone()?,
        version.path.parent().unwrap_or(Path::new("")),
        Links::None,
    ) {
        Ok(directory) => directory,
        // The directory went, or is a link by now.
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return moved_before(root, &folder, version, to),
        Err(errno) => return Err(said("opening its directory")(errno)),
    };
    let claimed = match claim::claim(&directory, version, is_open)? {
        claim::Claim::Ours(claimed) => claimed,
        claim::Claim::Gone => return moved_before(root, &folder, version, to),
        claim::Claim::Other => return Ok(Put::Changed),
    };
    let put = match to {
        None => claimed.delete().map(|()| Put::Deleted),
        Some(place) => transfer::transfer(&claimed, root, &folder, version, place).map(Put::Moved),
    };
    if let (Err(_), Some(name)) = (&put, version.path.file_name()) {
        // People look for it under its own name.
        claimed.give_back(name)?;
    }
    put
}

/// Of a source that is not at its path: where it lies, if a crash kept that from being written down.
fn moved_before(root: &Path, folder: &OwnedFd, version: &Version, to: Option<&Place>) -> io::Result<Put> {
    let Some(place) = to else { return Ok(Put::Gone) };
    Ok(transfer::find(root, folder, version, place)?.map_or(Put::Gone, Put::Moved))
}

/// Where things are put: the place itself, and its name for people.
struct Destination {
    directory: OwnedFd,
    path: PathBuf,
}

impl Destination {
    /// The directory that a file of this path below the folder belongs into, made if it is not there. Each directory on
    /// the way is opened and made from its parent's descriptor, so that no link leads elsewhere.
    fn make(root: &Path, folder: &OwnedFd, place: &Place, relative: &Path) -> io::Result<Destination> {
        Destination::reach(root, folder, place, relative, true)
    }

    fn reach(
        root: &Path,
        folder: &OwnedFd,
        place: &Place,
        relative: &Path,
        make: bool,
    ) -> io::Result<Destination> {
        let below = relative.parent().unwrap_or(Path::new(""));
        let (mut at, mut path, names) = match place {
            Place::InFolder(inside) => (folder.try_clone()?, root.to_owned(), inside.join(below)),
            Place::Below(other, inside) => {
                let opened = beneath::root_of(other).map_err(said("opening the folder of the target"))?;
                (opened, other.clone(), inside.join(below))
            }
            Place::At(outside) => {
                // Only itself: where more is missing, perhaps a disk is not mounted, and would hide what is put there.
                if make {
                    match std::fs::create_dir(outside) {
                        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                            return Err(words(&format!("making {}", outside.display()), error));
                        }
                        _ => {}
                    }
                }
                let opened = beneath::root_of(outside);
                (opened.map_err(said("opening the target"))?, outside.clone(), below.to_owned())
            }
        };
        for name in names.iter() {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            at = match openat(&at, name, flags, Mode::empty()) {
                Err(Errno::NOENT) if make => {
                    match mkdirat(&at, name, Mode::from_raw_mode(0o777)) {
                        // Not every file system has modes.
                        Ok(()) => drop(share(&at, name)),
                        Err(Errno::EXIST) => {}
                        Err(errno) => return Err(said("making the target directory")(errno)),
                    }
                    openat(&at, name, flags, Mode::empty())
                }
                opened => opened,
            }
            .map_err(said("opening the target directory"))?;
            path.push(name);
        }
        Ok(Destination { directory: at, path })
    }
}

/// Gives a directory that was just made the rights of the one that it lies in: whoever may look there may look here, although
/// the service's umask keeps all that it makes to itself.
fn share(parent: &OwnedFd, name: &OsStr) -> Result<(), Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let made = openat(parent, name, flags, Mode::empty())?;
    let (wanted, has) = (fstat(parent)?.st_mode & 0o777, fstat(&made)?.st_mode & 0o7777);
    // Where nothing is to be changed nothing is, since that could take the bit away by which groups are handed on.
    if has & 0o777 == wanted { Ok(()) } else { fchmod(&made, Mode::from_raw_mode(has & 0o7000 | wanted)) }
}

/// Makes what was done to the names of a directory last.
fn sync(directory: &OwnedFd) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match openat(directory, ".", flags, Mode::empty()).and_then(fsync_of) {
        // Some network file systems do not, and a directory that may only be entered cannot be opened for it.
        Ok(()) | Err(Errno::INVAL | Errno::NOTSUP | Errno::ACCESS) => Ok(()),
        Err(errno) => Err(said("writing the directory to disk")(errno)),
    }
}

fn fsync_of(fd: OwnedFd) -> Result<(), Errno> {
    fsync(fd)
}

/// The system's words, with what was tried.
fn said(tried: &str) -> impl Fn(Errno) -> io::Error + '_ {
    move |errno| match errno {
        Errno::ACCESS | Errno::PERM | Errno::ROFS => {
            let error: io::Error = errno.into();
            io::Error::new(
                error.kind(),
                format!(
                    "{tried}: {error}; the service's user has to be able to write there (under systemd: ReadWritePaths=)"
                ),
            )
        }
        errno => words(tried, errno.into()),
    }
}

fn words(tried: &str, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{tried}: {error}"))
}
