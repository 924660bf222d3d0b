//! One look at one file: what it is like, and whether anybody has it open for writing.

use std::fs::{File, Metadata};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{FileType, OFlags, Stat, fstat};
use rustix::io::Errno;

use super::kind::FolderKind;
use super::lease::{Writers, writers};
use crate::beneath::{self, Links, Near};
use crate::model::file::{Fingerprint, Look};
use crate::model::settle::Observation;
use crate::model::time::Wall;

/// Looks at the file `relative` below the folder `root`, at the time `now`. Blocks.
///
/// No other symbolic link is followed below the root than `links` allows, and nothing but a regular file is ever opened.
pub fn look(root: &Path, relative: &Path, links: Links, kind: &FolderKind, now: Wall) -> Observation {
    // That the folder itself cannot be opened says nothing about the files in it.
    let root = match beneath::root_of(root) {
        Ok(root) => root,
        Err(errno) => return Observation::Unknown(format!("folder: {errno}")),
    };
    look_by(|flags| beneath::open_at(&root, relative, flags, links), kind, now)
}

/// The same, if nothing has to be waited for and the file is there; none: who may wait finds out.
pub fn look_near(folder: &Near, relative: &Path, kind: &FolderKind, now: Wall) -> Option<Observation> {
    let open = |flags| folder.open(relative, flags).ok_or(Errno::NOSYS);
    Some(look_by(open, kind, now))
        .filter(|seen| matches!(seen, Observation::Present { .. } | Observation::OpenForWriting(_)))
}

fn look_by(open: impl Fn(OFlags) -> Result<OwnedFd, Errno>, kind: &FolderKind, now: Wall) -> Observation {
    // Asked by name first: to open a FIFO or a device would be noticed at its other end.
    let stat = match open(OFlags::PATH).and_then(|there| fstat(&there)) {
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => stat,
        Ok(_) => return Observation::Absent,
        Err(errno) => return absent_or_unknown(errno),
    };
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    match open(flags).map(File::from) {
        Ok(file) => look_at(&file, kind, now),
        Err(Errno::ACCESS | Errno::PERM) => Observation::Unreadable(look_of_stat(&stat, kind, now)),
        // Somebody, as Samba does for its clients, holds a write lease on it.
        Err(Errno::AGAIN) => Observation::OpenForWriting(look_of_stat(&stat, kind, now)),
        // It became a socket meanwhile.
        Err(Errno::NXIO) => Observation::Absent,
        Err(errno) => absent_or_unknown(errno),
    }
}

fn look_at(file: &File, kind: &FolderKind, now: Wall) -> Observation {
    let writers = if kind.lease { writers(file) } else { Writers::Untold };
    // After the test: what a writer changed between would else go unseen.
    match file.metadata() {
        Ok(metadata) if !metadata.is_file() => Observation::Absent,
        Ok(metadata) => {
            let look = look_of(&metadata, kind, now);
            match writers {
                Writers::Some => Observation::OpenForWriting(look),
                Writers::None => Observation::Present { look, tested: true },
                Writers::Untold => Observation::Present { look, tested: false },
            }
        }
        Err(error) => Observation::Unknown(error.to_string()),
    }
}

fn absent_or_unknown(errno: Errno) -> Observation {
    match errno {
        // The last two: where a file or directory was, there is now something else.
        Errno::NOENT | Errno::NOTDIR | Errno::LOOP => Observation::Absent,
        errno => Observation::Unknown(errno.to_string()),
    }
}

/// What `metadata` says of a regular file.
pub(super) fn look_of(metadata: &Metadata, kind: &FolderKind, now: Wall) -> Look {
    let fingerprint = Fingerprint {
        bytes: metadata.size(),
        mtime_ns: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
        ctime_ns: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
        inode: metadata.ino(),
    };
    Look { fingerprint, unchanged_for: unchanged_for(&fingerprint, kind, now) }
}

#[allow(clippy::unnecessary_cast, clippy::useless_conversion, reason = "the types differ between machines")]
fn look_of_stat(stat: &Stat, kind: &FolderKind, now: Wall) -> Look {
    let fingerprint = Fingerprint {
        bytes: u64::try_from(stat.st_size).unwrap_or(0),
        mtime_ns: nanoseconds(stat.st_mtime as i64, stat.st_mtime_nsec as i64),
        ctime_ns: nanoseconds(stat.st_ctime as i64, stat.st_ctime_nsec as i64),
        inode: stat.st_ino.into(),
    };
    Look { fingerprint, unchanged_for: unchanged_for(&fingerprint, kind, now) }
}

/// Nothing for a time that is still to come: then the clock was set, and the time says nothing.
fn unchanged_for(fingerprint: &Fingerprint, kind: &FolderKind, now: Wall) -> Option<Duration> {
    let nanoseconds = now.0.saturating_mul(1_000_000).saturating_sub(fingerprint.ctime_ns);
    u64::try_from(nanoseconds).ok().filter(|_| kind.local_times).map(Duration::from_nanos)
}

fn nanoseconds(seconds: i64, nanoseconds: i64) -> i64 {
    seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn wall(path: &Path) -> Wall {
        // The time at which the file changed, and five seconds.
        Wall(fs::metadata(path).unwrap().ctime() * 1_000 + 5_000)
    }

    fn kind(path: &Path) -> FolderKind {
        FolderKind { local_times: true, ..FolderKind::probe(path).unwrap() }
    }

    #[test]
    fn a_look_tells_what_the_file_is_like_and_who_writes_to_it() {
        let folder = tempfile::tempdir().unwrap();
        let (root, path) = (folder.path(), folder.path().join("sub/file"));
        fs::create_dir(root.join("sub")).unwrap();
        let writer = File::create(&path).unwrap();
        let now = wall(&path);
        let relative = Path::new("sub/file");
        let Observation::OpenForWriting(look_1) = look(root, relative, Links::None, &kind(root), now) else {
            panic!("it is open for writing")
        };
        drop(writer);
        let seen = look(root, relative, Links::None, &kind(root), now);
        assert_eq!(seen, Observation::Present { look: look_1, tested: true });
        let age = look_1.unchanged_for.unwrap();
        assert!(age > Duration::from_secs(3) && age <= Duration::from_secs(5), "{age:?}");

        let untestable = FolderKind { lease: false, local_times: false, ..kind(root) };
        let look_2 = Look { unchanged_for: None, ..look_1 };
        assert_eq!(
            look(root, relative, Links::None, &untestable, now),
            Observation::Present { look: look_2, tested: false }
        );
        let before = look(root, relative, Links::None, &kind(root), Wall(0));
        assert_eq!(
            before,
            Observation::Present { look: look_2, tested: true },
            "a time to come says nothing"
        );
    }

    #[test]
    fn a_look_that_waits_for_nothing_sees_the_same_or_says_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (root, path) = (folder.path(), folder.path().join("file"));
        let metadata = fs::metadata(root).unwrap();
        let near = Near::root(root, (metadata.dev(), metadata.ino())).expect("Linux 5.12 or newer");
        let writer = File::create(&path).unwrap();
        let now = wall(&path);
        let both = |name: &str| {
            let (kind, name) = (kind(root), Path::new(name));
            // A mount anywhere in the system has the kernel look again.
            let seen = (0..1000).find_map(|_| look_near(&near, name, &kind, now));
            (seen, look(root, name, Links::None, &kind, now))
        };
        let (seen, looked) = both("file");
        assert!(matches!(looked, Observation::OpenForWriting(_)), "{looked:?}");
        assert_eq!(seen, Some(looked));
        drop(writer);
        let (seen, looked) = both("file");
        assert!(matches!(looked, Observation::Present { tested: true, .. }), "{looked:?}");
        assert_eq!(seen, Some(looked));
        fs::create_dir(root.join("directory")).unwrap();
        symlink("file", root.join("link")).unwrap();
        for name in ["missing", "directory", "link"] {
            assert_eq!(both(name), (None, Observation::Absent), "{name}");
        }
    }

    #[test]
    fn only_regular_files_below_the_root_are_there() {
        let folder = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::write(outside.path().join("secret"), "x").unwrap();
        symlink(outside.path().join("secret"), root.join("link")).unwrap();
        symlink(outside.path(), root.join("way")).unwrap();
        symlink("link", root.join("loop")).unwrap();
        fs::create_dir(root.join("directory")).unwrap();
        fs::write(root.join("file"), "").unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, root.join("fifo"), FileType::Fifo, rustix::fs::Mode::RWXU, 0)
            .unwrap();
        let socket = std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap();
        for name in [
            "link",
            "way/secret",
            "loop",
            "directory",
            "fifo",
            "socket",
            "missing",
            "missing/x",
            "file/x",
            "",
            "..",
            "../x",
            "directory/../../x",
        ] {
            assert_eq!(
                look(root, Path::new(name), Links::None, &kind(root), Wall(0)),
                Observation::Absent,
                "{name:?}"
            );
        }
        drop(socket);
    }

    #[test]
    fn a_folder_that_is_not_there_says_nothing_of_its_files() {
        let folder = tempfile::tempdir().unwrap();
        let seen = look(
            &folder.path().join("unmounted"),
            Path::new("file"),
            Links::None,
            &kind(folder.path()),
            Wall(0),
        );
        assert!(matches!(seen, Observation::Unknown(_)), "{seen:?}");
    }

    #[test]
    fn a_file_that_may_not_be_read_is_unreadable_and_not_absent() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "x").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
        if File::open(&path).is_ok() {
            // Root reads everything: nothing can be shown here.
            return;
        }
        let seen = look(folder.path(), Path::new("file"), Links::None, &kind(folder.path()), wall(&path));
        assert!(matches!(
            seen,
            Observation::Unreadable(Look { fingerprint: Fingerprint { bytes: 1, .. }, .. })
        ));
    }

    #[test]
    fn a_symbolic_link_as_the_folder_itself_is_followed() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("real")).unwrap();
        fs::write(folder.path().join("real/file"), "").unwrap();
        symlink("real", folder.path().join("current")).unwrap();
        let root = folder.path().join("current");
        let seen = look(&root, Path::new("file"), Links::None, &kind(&root), Wall(0));
        assert!(matches!(seen, Observation::Present { .. }), "{seen:?}");
    }
}
