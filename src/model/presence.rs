//! Whether it means anything that a file is not where its row says.
//!
//! An empty mount point has none of the files of what was mounted there, and neither has a new disk, nor a folder on
//! another machine. So a missing file counts as deleted only on ground that is known: the same directory of the same
//! file system as when files were last met there. Other ground becomes known when one of these files is met on it, or
//! when no row is left that it could have belonged to.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::job::JobId;

/// What tells a directory from what may lie in its place another time; the same across restarts.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Identity {
    /// The number of its file system's type, by `statfs(2)`.
    pub file_system: u64,
    /// Which file system of that type, as far as it says: `f_fsid`. Some give another one with each mount.
    pub fsid: u64,
    /// Its inode.
    pub inode: u64,
}

/// A directory as it is found now.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Standing {
    /// What it is.
    pub identity: Identity,
    /// Its device, which changes with every mount: for comparing within one run only.
    pub device: u64,
    /// Whether its numbers may be made up as they are asked for, as some network file systems do.
    pub made_up: bool,
}

impl Standing {
    /// Whether this is still the directory that it was a moment ago.
    pub fn is_still(&self, now: &Standing) -> bool {
        self.device == now.device
            && self.identity.file_system == now.identity.file_system
            && (self.identity.inode == now.identity.inode || self.made_up)
    }
}

/// What is kept of a place: of the folder itself, or of a mount in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Recorded {
    /// What lay there when files were last met there.
    pub identity: Identity,
    /// The newest job whose file was met there. Of later ones it is not known where they lay: in an empty mount point
    /// new files come to lie as well.
    pub last_job: JobId,
}

/// How well the ground of a place is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Ground {
    /// The same as it was.
    Same,
    /// It may be, as far as a made-up number tells.
    Likely,
    /// Something else than what is recorded, or nothing is.
    Other,
    /// There is no such directory.
    Away,
}

#[derive(Debug)]
struct Place {
    recorded: Option<Recorded>,
    standing: Option<Standing>,
    ground: Ground,
    /// The newest job whose file counts as one of before.
    counts_to: JobId,
    /// What is recorded of the place itself, or else of the one around it.
    around: Option<Recorded>,
    /// Whether a row lies in it, and whether the file of one that counts was met there.
    rows: bool,
    met: bool,
    /// The newest job whose file was met.
    newest: JobId,
}

/// A folder's places, as one pass over its rows finds them. Each row belongs to the innermost place around it.
#[derive(Debug)]
pub struct Places(BTreeMap<PathBuf, Place>);

/// What is to be kept of a place from now on; nothing: it is a place no longer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    /// Its path below the folder; empty for the folder itself.
    pub path: PathBuf,
    /// What to keep.
    pub recorded: Option<Recorded>,
}

impl Places {
    /// The places that are recorded or mounted now, and what is found at each. The folder itself is always one.
    pub fn new(recorded: &BTreeMap<PathBuf, Recorded>, now: &BTreeMap<PathBuf, Option<Standing>>) -> Places {
        let mut places = BTreeMap::new();
        for path in recorded.keys().chain(now.keys()) {
            let kept = recorded.get(path).copied();
            let standing = now.get(path).copied().flatten();
            // What was mounted over a directory hides the files that lie in it.
            let around = path.ancestors().find_map(|path| recorded.get(path));
            places.entry(path.clone()).or_insert_with(|| Place {
                recorded: kept,
                standing,
                ground: ground(kept, standing),
                around: around.copied(),
                counts_to: around.map_or(JobId(i64::MAX), |around| around.last_job),
                rows: false,
                met: false,
                newest: kept.map_or(JobId(0), |kept| kept.last_job),
            });
        }
        Places(places)
    }

    /// Takes in a row whose file is there, the same version, or is not.
    pub fn count(&mut self, path: &Path, job: JobId, met: bool) {
        if let Some(place) = self.place_mut(path) {
            place.rows = true;
            if met {
                place.met |= job <= place.counts_to;
                place.newest = place.newest.max(job);
            }
        }
    }

    /// Whether rows have to be counted before anything can be said.
    pub fn is_open(&self) -> bool {
        self.0.values().any(|place| matches!(place.ground, Ground::Likely | Ground::Other) && !place.met)
    }

    /// Whether a file that is not at this path was deleted; to be asked when all rows were counted, or none has to be.
    pub fn is_proven(&self, path: &Path) -> bool {
        self.place(path).is_some_and(Place::is_proven)
    }

    /// Places where something else lies than before, so that nothing is known of their files.
    pub fn strange(&self) -> impl Iterator<Item = (&Path, Option<Identity>)> {
        let strange = |place: &&Place| {
            let other = match place.ground {
                Ground::Other => place.around.is_some(),
                Ground::Away => true,
                Ground::Same | Ground::Likely => false,
            };
            other && !place.is_proven()
        };
        self.0
            .iter()
            .filter(move |(_, place)| strange(place))
            .map(|(path, place)| (path.as_path(), place.standing.map(|standing| standing.identity)))
    }

    /// What is to be kept. `mounts` are mounts of now: what is no mount any more, and known ground, is no place.
    pub fn changes(&self, mounts: &[PathBuf]) -> Vec<Change> {
        let mut changes = Vec::new();
        for (path, place) in &self.0 {
            let is_place = path.as_os_str().is_empty() || mounts.contains(path);
            let Some(standing) = place.standing.filter(|_| place.is_proven()) else {
                // Which files are of before is settled when something is first found mounted over them.
                if place.recorded.is_none() && place.around.is_some() && is_place {
                    changes.push(Change { path: path.clone(), recorded: place.around });
                }
                continue;
            };
            let to_keep =
                is_place.then_some(Recorded { identity: standing.identity, last_job: place.newest });
            if to_keep != place.recorded {
                changes.push(Change { path: path.clone(), recorded: to_keep });
            }
        }
        changes
    }

    fn place(&self, path: &Path) -> Option<&Place> {
        path.ancestors().find_map(|path| self.0.get(path))
    }

    fn place_mut(&mut self, path: &Path) -> Option<&mut Place> {
        let innermost = path.ancestors().find(|path| self.0.contains_key(*path))?;
        self.0.get_mut(innermost)
    }
}

impl Place {
    fn is_proven(&self) -> bool {
        match self.ground {
            Ground::Same => true,
            Ground::Likely => self.met,
            Ground::Other => self.met || !self.rows,
            Ground::Away => false,
        }
    }
}

fn ground(recorded: Option<Recorded>, now: Option<Standing>) -> Ground {
    match (recorded, now) {
        (_, None) => Ground::Away,
        (Some(recorded), Some(now)) if now.made_up => {
            if recorded.identity.file_system == now.identity.file_system {
                Ground::Likely
            } else {
                Ground::Other
            }
        }
        (Some(recorded), Some(now)) if recorded.identity == now.identity => Ground::Same,
        _ => Ground::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DISK: Identity = Identity { file_system: 0xef53, fsid: 77, inode: 2 };
    const MOUNT_POINT: Identity = Identity { file_system: 0xef53, fsid: 1, inode: 4711 };

    fn at(identity: Identity) -> Option<Standing> {
        Some(Standing { identity, device: 9, made_up: false })
    }

    fn kept(identity: Identity, last_job: i64) -> Option<Recorded> {
        Some(Recorded { identity, last_job: JobId(last_job) })
    }

    fn places(list: &[(&str, Option<Recorded>, Option<Standing>)]) -> Places {
        let recorded = list.iter().filter_map(|(path, kept, _)| Some((PathBuf::from(path), (*kept)?)));
        let now = list.iter().map(|(path, _, now)| (PathBuf::from(path), *now));
        Places::new(&recorded.collect(), &now.collect())
    }

    fn proven(places: &Places, path: &str) -> bool {
        places.is_proven(Path::new(path))
    }

    #[test]
    fn on_the_same_ground_a_missing_file_was_deleted() {
        let mut same = places(&[("", kept(DISK, 5), at(DISK))]);
        assert!(!same.is_open());
        same.count(Path::new("a"), JobId(3), false);
        assert!(proven(&same, "a"));
        assert_eq!(same.changes(&[]), []);
        same.count(Path::new("b"), JobId(9), true);
        let change = Change { path: PathBuf::new(), recorded: kept(DISK, 9) };
        assert_eq!(same.changes(&[]), [change], "a later file lay there as well");
    }

    #[test]
    fn an_empty_mount_point_proves_nothing_and_neither_do_files_that_came_to_lie_in_it() {
        let mut empty = places(&[("", kept(DISK, 5), at(MOUNT_POINT))]);
        assert!(empty.is_open());
        empty.count(Path::new("old"), JobId(3), false);
        empty.count(Path::new("new"), JobId(6), true);
        assert!(!proven(&empty, "old") && empty.is_open());
        assert_eq!(empty.changes(&[]), []);
        assert_eq!(empty.strange().collect::<Vec<_>>(), [(Path::new(""), Some(MOUNT_POINT))]);
        let gone = places(&[("", kept(DISK, 5), None)]);
        assert!(!proven(&gone, "old"));
        assert_eq!(gone.strange().count(), 1);
    }

    #[test]
    fn other_ground_becomes_known_by_a_file_of_before_or_when_no_row_is_left() {
        let mut moved = places(&[("", kept(DISK, 5), at(MOUNT_POINT))]);
        moved.count(Path::new("a"), JobId(4), true);
        moved.count(Path::new("b"), JobId(5), false);
        assert!(!moved.is_open() && proven(&moved, "b"));
        let change = Change { path: PathBuf::new(), recorded: kept(MOUNT_POINT, 5) };
        assert_eq!(moved.changes(&[]), [change]);
        assert_eq!(moved.strange().count(), 0);

        let unused = places(&[("", kept(DISK, 5), at(MOUNT_POINT))]);
        assert!(proven(&unused, "any"));
        let change = Change { path: PathBuf::new(), recorded: kept(MOUNT_POINT, 5) };
        assert_eq!(unused.changes(&[]), [change]);
        // The first time nothing is recorded, and each file counts.
        let mut first = places(&[("", None, at(DISK))]);
        first.count(Path::new("a"), JobId(8), false);
        assert!(!proven(&first, "a"));
        assert_eq!(first.strange().count(), 0, "that is no news");
        first.count(Path::new("b"), JobId(7), true);
        assert!(proven(&first, "a"));
    }

    #[test]
    fn a_number_that_may_be_made_up_needs_a_file_besides() {
        let share = |inode| {
            let identity = Identity { file_system: 0x6969, fsid: inode, inode };
            Some(Standing { identity, device: 9, made_up: true })
        };
        let recorded = kept(Identity { file_system: 0x6969, fsid: 1, inode: 1 }, 5);
        let mut places = places(&[("", recorded, share(2))]);
        places.count(Path::new("a"), JobId(3), false);
        assert!(!proven(&places, "a"));
        assert_eq!(places.strange().count(), 0);
        places.count(Path::new("b"), JobId(4), true);
        assert!(proven(&places, "a"));
    }

    #[test]
    fn a_mount_in_the_folder_is_a_place_of_its_own() {
        let folder = kept(MOUNT_POINT, 9);
        // Mounted over files: they are hidden, and not deleted.
        let mut hides = places(&[("", folder, at(MOUNT_POINT)), ("m", None, at(DISK))]);
        hides.count(Path::new("m/hidden"), JobId(3), false);
        hides.count(Path::new("m/new"), JobId(10), true);
        assert!(!proven(&hides, "m/hidden") && proven(&hides, "mine"));
        assert_eq!(hides.changes(&["m".into()]), [Change { path: "m".into(), recorded: folder }]);
        // Known, and unmounted.
        let plain = Identity { inode: 4712, ..MOUNT_POINT };
        let mut away = places(&[("", folder, at(MOUNT_POINT)), ("m", kept(DISK, 9), at(plain))]);
        away.count(Path::new("m/a"), JobId(3), false);
        assert!(!proven(&away, "m/a") && proven(&away, "a"));
        // No mount any more, and no row is left in it: no place any more.
        let left = places(&[("", folder, at(MOUNT_POINT)), ("m", kept(DISK, 9), at(plain))]);
        assert_eq!(left.changes(&[]), [Change { path: "m".into(), recorded: None }]);
        // A new one without rows is one from now on.
        let new = places(&[("", folder, at(MOUNT_POINT)), ("m", None, at(DISK))]);
        let change = Change { path: "m".into(), recorded: kept(DISK, 0) };
        assert_eq!(new.changes(&["m".into()]), [change]);
    }
}
