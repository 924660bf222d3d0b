//! The record of a job beside its file, whole or not at all: scripts wait for its name.

use std::ffi::OsString;
use std::fs::File;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags, fchmod, fsync, openat, renameat, unlinkat};
use rustix::io::Errno;

use super::{Destination, said, sync, words};
use crate::beneath::{self, Links};
use crate::model::finish::{Place, RECEIPT_SUFFIX, Receipt, private_name};
use crate::model::job::JobId;

/// Whoever may enter the folder may read its receipts: they hold no secret.
const RECEIPT_MODE: u32 = 0o644;

/// Writes the receipt of the file at `relative` below the folder `root`. Replaces an older one.
///
/// # Errors
/// What the system said, with what was tried; there is the older one or none then.
pub fn write_receipt(
    root: &Path,
    relative: &Path,
    receipt: &Receipt,
    job: JobId,
    json: &str,
) -> io::Result<()> {
    let Some(place) = place_of(receipt) else { return Ok(()) };
    let folder = beneath::root_of(root).map_err(said("opening the folder"))?;
    let to = Destination::make(root, &folder, &place, relative)?;
    // Nobody else's: another service may write its receipts to the same directory.
    let number = RandomState::new().build_hasher().finish();
    let (name, temporary) =
        (name_of(relative), format!("{}-{number:016x}{RECEIPT_SUFFIX}", private_name(job)));
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file: File = openat(&to.directory, &*temporary, flags, Mode::RUSR | Mode::WUSR)
        .map_err(said("making the receipt"))?
        .into();
    let written = file.write_all(json.as_bytes()).and_then(|()| file.write_all(b"\n"));
    let written = written.map_err(|error| words("writing the receipt", error)).and_then(|()| {
        // Not every file system has modes.
        let _ = fchmod(&file, Mode::from_raw_mode(RECEIPT_MODE));
        fsync(&file).map_err(said("writing the receipt to disk"))?;
        renameat(&to.directory, &*temporary, &to.directory, &*name).map_err(said("naming the receipt"))
    });
    if written.is_err() {
        let _ = unlinkat(&to.directory, &*temporary, AtFlags::empty());
    }
    written?;
    sync(&to.directory)
}

/// Takes away the receipt of the file at `relative`, since another version of it lies there now: whoever waits for a
/// receipt must not find that of the old one.
///
/// # Errors
/// What the system said. That there is none is no error.
pub fn remove_receipt(root: &Path, relative: &Path, receipt: &Receipt) -> io::Result<()> {
    let Some(place) = place_of(receipt) else { return Ok(()) };
    let (base, below) = match place {
        Place::InFolder(inside) => (root.to_owned(), inside.join(relative)),
        Place::Below(other, inside) => (other, inside.join(relative)),
        Place::At(outside) => (outside, relative.to_owned()),
    };
    let gone = match beneath::directory_of(&base, &below, Links::None) {
        Ok((directory, _)) => unlinkat(&directory, &*name_of(relative), AtFlags::empty()),
        Err(errno) => Err(errno),
    };
    match gone {
        Ok(()) | Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(()),
        Err(errno) => Err(said("removing the old receipt")(errno)),
    }
}

fn place_of(receipt: &Receipt) -> Option<Place> {
    match receipt {
        Receipt::None => None,
        Receipt::Beside => Some(Place::InFolder(PathBuf::new())),
        Receipt::In(place) => Some(place.clone()),
    }
}

fn name_of(relative: &Path) -> OsString {
    let mut name = relative.file_name().unwrap_or_default().to_owned();
    name.push(RECEIPT_SUFFIX);
    name
}
