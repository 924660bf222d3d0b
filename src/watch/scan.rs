//! Walks a folder, or a part of it, and says what lies there. Blocks.

use std::collections::{BTreeSet, HashSet};
use std::fs::{File, Metadata};
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use rustix::fs::{AtFlags, CWD, OFlags, StatxAttributes, StatxFlags, statx};
use rustix::io::Errno;
use tokio_util::sync::CancellationToken;
use walkdir::{DirEntry, WalkDir};

use super::FolderSpec;
use super::hints::hash_of;
use super::ignore::{Rule, Verdict};
use super::kind::FolderKind;
use super::look::look_of;
use crate::beneath::{self, Links};
use crate::model::file::Look;
use crate::model::silence::Births;
use crate::model::time::{Now, Wall, millis};

/// Paths below the folder, each with what `lstat` says of it.
pub(super) type Batch = Vec<(PathBuf, Look)>;

/// So many files are handed over at once.
pub(super) const BATCH: usize = 512;

/// So many directories are named that cannot be read, or that are mounts; the rest is only counted.
pub(super) const MOST_NAMED: usize = 100;

/// So many links to directories are followed in one walk: directories that link each other would make the walk as long as
/// whoever writes to the folder likes.
const MOST_LINKS: usize = 10_000;

/// What a walk found, its files aside.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) files: u64,
    pub(super) bytes: u64,
    pub(super) directories: u64,
    /// Files and directories that the rules ignore.
    pub(super) ignored: u64,
    /// Symbolic links that are not followed, FIFOs, sockets and devices.
    pub(super) others: u64,
    /// Links to directories that were met.
    links: usize,
    pub(super) unreadable: Vec<(PathBuf, String)>,
    pub(super) unreadable_count: u64,
    /// Mounts in the folder, with their devices. At most [`MOST_NAMED`].
    pub(super) mounts: BTreeSet<(PathBuf, u64)>,
    /// Files that came to be in the window that was asked about.
    pub(super) births: Births,
    /// One of those that no event named.
    pub(super) unheard: Option<PathBuf>,
    /// Why the folder itself could not be read.
    pub(super) root_error: Option<String>,
    /// Whether nobody wanted to hear more.
    pub(super) stopped: bool,
}

/// What lies in a folder, for somebody who asks once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Survey {
    /// What can be had of its file system.
    pub kind: FolderKind,
    /// Files that the rules take.
    pub files: u64,
    /// Their sizes together.
    pub bytes: u64,
    /// Directories gone into, the folder itself included.
    pub directories: u64,
    /// Files and directories that the rules ignore.
    pub ignored: u64,
    /// How many could not be read.
    pub unreadable: u64,
}

/// Walks a folder once and hands over what the rules take, by the path below it; `deliver` says whether to go on. Blocks,
/// for ever where a file server does not answer.
///
/// # Errors
/// If the folder itself cannot be read.
pub fn survey(
    spec: &FolderSpec,
    now: &dyn Fn() -> Now,
    deliver: &mut dyn FnMut(Vec<(PathBuf, Look)>) -> bool,
) -> io::Result<Survey> {
    let kind = FolderKind::probe(&spec.path)?;
    let walk = Walk { spec, kind: &kind, now, shutdown: &CancellationToken::new(), listening: None };
    let found = walk.below(Path::new(""), deliver);
    match found.root_error {
        Some(said) => Err(io::Error::other(said)),
        None => Ok(Survey {
            kind,
            files: found.files,
            bytes: found.bytes,
            directories: found.directories,
            ignored: found.ignored,
            unreadable: found.unreadable_count,
        }),
    }
}

/// Where to walk and by which rules.
pub(super) struct Walk<'a> {
    pub(super) spec: &'a FolderSpec,
    pub(super) kind: &'a FolderKind,
    pub(super) now: &'a dyn Fn() -> Now,
    pub(super) shutdown: &'a CancellationToken,
    /// Which births are to be counted, if any.
    pub(super) listening: Option<&'a Listening>,
}

/// What a scan has to know to find files that no event told of.
pub(super) struct Listening {
    /// They came to be in this time.
    pub(super) window: Range<Wall>,
    /// Of what events told.
    pub(super) named: HashSet<u64>,
}

impl Walk<'_> {
    /// Walks everything below `start`, a directory below the folder, or the folder itself if it is empty.
    /// `deliver` says whether to go on.
    pub(super) fn below(&self, start: &Path, deliver: &mut dyn FnMut(Batch) -> bool) -> Found {
        let spec = self.spec;
        let excluded = Excluded::of(spec);
        let follows = spec.links != Links::None;
        let mut found = Found::default();
        let mut batch = Batch::new();
        let mut entries = WalkDir::new(spec.path.join(start))
            .follow_links(follows)
            .follow_root_links(follows || start.as_os_str().is_empty())
            .max_depth(if spec.recursive { usize::MAX } else { 1 })
            .into_iter();
        while let Some(entry) = entries.next() {
            if self.shutdown.is_cancelled() {
                found.stopped = true;
                return found;
            }
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    found.failed(&error, &spec.path, start);
                    continue;
                }
            };
            let Ok(relative) = entry.path().strip_prefix(&spec.path) else { continue };
            let is_root = relative.as_os_str().is_empty();
            let kind = entry.file_type();
            if kind.is_dir() || (is_root && entry.path_is_symlink()) {
                if !self.enters(&entry, relative, &excluded, &mut found) {
                    entries.skip_current_dir();
                }
            } else if !kind.is_file() {
                found.others += 1;
            } else if spec.rules.judge_last(relative, false) != Verdict::Taken {
                found.ignored += 1;
            } else {
                let metadata = match follows {
                    true => Ok(self.through_links(relative, &excluded)),
                    false => entry.metadata().map(Some),
                };
                match metadata {
                    Ok(Some(metadata)) => {
                        found.files += 1;
                        found.bytes += metadata.size();
                        found.listen(relative, &metadata, self.listening);
                        let look = look_of(&metadata, self.kind, (self.now)().wall);
                        batch.push((relative.to_path_buf(), look));
                    }
                    Ok(None) => found.others += 1,
                    Err(error) => found.failed(&error, &spec.path, start),
                }
                if batch.len() >= BATCH && !deliver(std::mem::take(&mut batch)) {
                    found.stopped = true;
                    return found;
                }
            }
        }
        found.stopped = !batch.is_empty() && !deliver(batch);
        found
    }

    /// What lies at a path, through links that are followed; nothing for one that leads out of the folder if it may not, or
    /// into what is not part of the folder.
    fn through_links(&self, relative: &Path, excluded: &Excluded) -> Option<Metadata> {
        let there = File::from(beneath::open(&self.spec.path, relative, OFlags::PATH, self.spec.links).ok()?);
        // Where it lies in truth: by way of a link it may be met under any name.
        let real = std::fs::read_link(format!("/proc/self/fd/{}", there.as_raw_fd())).ok()?;
        (!excluded.paths.iter().any(|path| real.starts_with(path))).then(|| there.metadata().ok()).flatten()
    }

    /// Whether to go into a directory.
    fn enters(&self, entry: &DirEntry, relative: &Path, excluded: &Excluded, found: &mut Found) -> bool {
        if entry.depth() == 0 {
            found.directories += 1;
            return true;
        }
        if self.spec.rules.judge_last(relative, true) != Verdict::Taken {
            found.ignored += 1;
            return false;
        }
        if entry.path_is_symlink() {
            found.links += 1;
            if found.links > MOST_LINKS {
                found.unreadable(relative, format!("more than {MOST_LINKS} links lead to directories"));
                return false;
            }
            if self.through_links(relative, excluded).is_none() {
                found.others += 1;
                return false;
            }
        }
        if let Ok(metadata) = entry.metadata() {
            if excluded.is(metadata.dev(), metadata.ino()) {
                return false;
            }
            if found.mounts.len() < MOST_NAMED && is_mount(entry.path(), &metadata, self.kind) {
                found.mounts.insert((relative.to_path_buf(), metadata.dev()));
            }
        }
        found.directories += 1;
        true
    }

    /// Sorts paths that events named: files to be handed over, and directories to be walked.
    pub(super) fn examine(&self, hints: &BTreeSet<PathBuf>) -> (Batch, Vec<PathBuf>) {
        let excluded = Excluded::of(self.spec);
        let mut files = Batch::new();
        let mut directories = Vec::new();
        for relative in hints {
            match self.consider(relative, &excluded) {
                Considered::File(look) => files.push((relative.clone(), look)),
                Considered::Directory => directories.push(relative.clone()),
                _ => {}
            }
        }
        (files, directories)
    }

    /// What a path is to the folder: what lies there, and what the rules say of it.
    fn consider(&self, relative: &Path, excluded: &Excluded) -> Considered {
        let metadata = match std::fs::symlink_metadata(self.spec.path.join(relative)) {
            Ok(metadata) if self.spec.links == Links::None => metadata,
            Ok(_) => match self.through_links(relative, excluded) {
                Some(metadata) => metadata,
                None => return Considered::Other("a symbolic link that is not followed"),
            },
            Err(error) => return Considered::Unseen(error),
        };
        let is_directory = metadata.is_dir();
        if let Verdict::Ignored(rule) = self.spec.rules.judge(relative, is_directory) {
            Considered::Ignored(rule)
        } else if excluded.holds(&self.spec.path, relative) {
            Considered::Excluded
        } else if !self.spec.recursive && (is_directory || relative.components().nth(1).is_some()) {
            Considered::TooDeep
        } else if is_directory {
            Considered::Directory
        } else if metadata.is_file() {
            Considered::File(look_of(&metadata, self.kind, (self.now)().wall))
        } else {
            Considered::Other(if metadata.is_symlink() { "a symbolic link" } else { "no regular file" })
        }
    }
}

/// What a path is to a folder.
#[derive(Debug)]
pub enum Considered {
    /// A file that is taken, as it is now.
    File(Look),
    /// A directory that is gone into.
    Directory,
    /// A rule ignores it.
    Ignored(Rule),
    /// It lies in a directory that is not part of the folder: another folder, the state, or what the service fills.
    Excluded,
    /// It lies in a directory, or is one, and the folder is not recursive.
    TooDeep,
    /// It is something that is never taken.
    Other(&'static str),
    /// Nothing can be seen there.
    Unseen(io::Error),
}

/// Considers one path below a folder, as an event for it would have it considered. Blocks.
///
/// # Errors
/// If the folder itself is not there.
pub fn consider(
    spec: &FolderSpec,
    relative: &Path,
    now: &dyn Fn() -> Now,
) -> io::Result<(Considered, FolderKind)> {
    let kind = FolderKind::probe(&spec.path)?;
    // By way of a link that is not followed nothing is said of what lies at its other end.
    if let Err(errno) = beneath::directory_of(&spec.path, relative, spec.links) {
        return Ok((Considered::Unseen(errno.into()), kind));
    }
    let walk = Walk { spec, kind: &kind, now, shutdown: &CancellationToken::new(), listening: None };
    Ok((walk.consider(relative, &Excluded::of(spec)), kind))
}

/// Whether something is mounted on a directory, also a part of the same file system.
fn is_mount(path: &Path, metadata: &Metadata, kind: &FolderKind) -> bool {
    match statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::empty()) {
        Ok(found) if found.stx_attributes_mask.contains(StatxAttributes::MOUNT_ROOT) => {
            found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT)
        }
        // Before Linux 5.8: directories in the mount count as mounts too.
        _ => metadata.dev() != kind.root.device,
    }
}

impl Found {
    /// Counts a file that came to be in the window.
    fn listen(&mut self, relative: &Path, metadata: &Metadata, listening: Option<&Listening>) {
        // A chmod, a new name or a restored time change no birth. Some file systems keep none.
        let (Some(listening), Ok(born)) = (listening, metadata.created()) else { return };
        let Ok(born) = born.duration_since(UNIX_EPOCH) else { return };
        if !listening.window.contains(&Wall(millis(born))) {
            return;
        }
        // Of what lies in a directory that was moved in no event tells.
        if relative.ancestors().any(|path| listening.named.contains(&hash_of(path))) {
            self.births.heard += 1;
        } else {
            self.births.unheard += 1;
            self.unheard.get_or_insert_with(|| relative.to_path_buf());
        }
    }

    fn failed(&mut self, error: &walkdir::Error, root: &Path, start: &Path) {
        let said = error.io_error().map_or_else(|| error.to_string(), io::Error::to_string);
        if error.depth() == 0 && start.as_os_str().is_empty() {
            self.root_error = Some(said);
            return;
        }
        // It was deleted since its name was read, or is a link that leads to nothing.
        if error.io_error().is_some_and(|error| error.kind() == io::ErrorKind::NotFound) {
            return;
        }
        // A link that leads to itself, or to a directory that it lies in.
        let own = error.io_error().and_then(Errno::from_io_error) == Some(Errno::LOOP);
        if own || error.loop_ancestor().is_some() {
            self.others += 1;
            return;
        }
        let path = error.path().and_then(|path| path.strip_prefix(root).ok()).unwrap_or(start);
        self.unreadable(path, said);
    }

    fn unreadable(&mut self, path: &Path, said: String) {
        self.unreadable_count += 1;
        if self.unreadable.len() < MOST_NAMED {
            self.unreadable.push((path.to_path_buf(), said));
        }
    }
}

/// Directories that are not part of the folder although they lie in it, by device and inode, so that another name for
/// the same directory does not matter.
struct Excluded {
    identities: HashSet<(u64, u64)>,
    /// Where they lie, without links.
    paths: Vec<PathBuf>,
}

impl Excluded {
    fn of(spec: &FolderSpec) -> Excluded {
        let identities = spec.excluded.iter().filter_map(|path| std::fs::metadata(path).ok());
        Excluded {
            identities: identities.map(|metadata| (metadata.dev(), metadata.ino())).collect(),
            paths: spec.excluded.iter().filter_map(|path| path.canonicalize().ok()).collect(),
        }
    }

    fn is(&self, device: u64, inode: u64) -> bool {
        self.identities.contains(&(device, inode))
    }

    /// Whether a path, or a directory on the way to it, is one of these.
    fn holds(&self, root: &Path, relative: &Path) -> bool {
        !self.identities.is_empty()
            && relative.ancestors().filter(|path| !path.as_os_str().is_empty()).any(|path| {
                std::fs::symlink_metadata(root.join(path))
                    .is_ok_and(|metadata| self.is(metadata.dev(), metadata.ino()))
            })
    }
}
