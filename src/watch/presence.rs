//! Whether the files of known rows are still where they were, and what directory that is. Blocks.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::kind::FolderKind;
use crate::beneath::{self, Links};
use crate::model::file::Fingerprint;
use crate::model::presence::Standing;

/// What lies at the path of a row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Met {
    /// A regular file, this version.
    File(Fingerprint),
    /// No regular file.
    Nothing,
    /// It could not be looked at.
    Unknown,
}

/// What lies at each of `paths` below the folder `root`; nothing if the folder cannot be opened. No file is opened for
/// reading, so that no writer is disturbed.
pub fn meet(root: &Path, paths: &[PathBuf], links: Links) -> Option<Vec<Met>> {
    let root = beneath::root_of(root).ok()?;
    let there = |path: &PathBuf, links| beneath::open_at(&root, path, OFlags::PATH, links);
    let meet = |path: &PathBuf| match there(path, links) {
        Ok(found) => match File::from(found).metadata() {
            Ok(metadata) if metadata.is_file() => Met::File(Fingerprint::of(&metadata)),
            Ok(_) => Met::Nothing,
            Err(_) => Met::Unknown,
        },
        // A link that leads to nothing now: what it leads to may lie on another disk.
        Err(_) if links != Links::None && !matches!(there(path, Links::None), Err(Errno::NOENT)) => {
            Met::Unknown
        }
        // The last two: where a file or a directory was, there is now something else.
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Met::Nothing,
        Err(_) => Met::Unknown,
    };
    Some(paths.iter().map(meet).collect())
}

/// What directory each of `places` below the folder `root` is; an empty path is the folder itself.
pub fn standings<'path>(
    root: &Path,
    places: impl IntoIterator<Item = &'path Path>,
) -> BTreeMap<PathBuf, Option<Standing>> {
    let standing = |place: &Path| FolderKind::probe(&root.join(place)).ok().map(|kind| kind.root);
    places.into_iter().map(|place| (place.to_path_buf(), standing(place))).collect()
}
