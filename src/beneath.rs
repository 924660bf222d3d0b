//! Opens what lies below a folder, and nothing outside of it. A folder that others can write to is hostile ground:
//! between a look and an open, any name on the way may have become a symbolic link. So a path is resolved by the
//! kernel in one call that refuses links (`openat2(2)`), or one name at a time from descriptor to descriptor.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::path::{Component, Path};
use std::sync::LazyLock;

use rustix::fs::{
    AtFlags, CWD, Mode, OFlags, ResolveFlags, StatxFlags, makedev, open as open_path, openat, openat2, statx,
};
use rustix::io::Errno;

/// Which symbolic links below a folder are followed. The folder itself may always be one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Links {
    /// None: `ELOOP` for the last name, `ENOTDIR` for one on the way.
    #[default]
    None,
    /// Those that stay in the folder and are relative: `ELOOP` where one leads out. Needs `openat2`; without, none is followed.
    Beneath,
    /// All.
    Anywhere,
}

/// How often a path is resolved again that somebody moved meanwhile: the kernel answers `EAGAIN` where a link holds `..`
/// and it cannot tell whether that still lies in the folder.
const TRIES: usize = 16;

/// Whether the kernel has `openat2`, and lets us: seccomp filters of older container engines refuse it.
static HAS_OPENAT2: LazyLock<bool> = LazyLock::new(|| {
    openat2(CWD, ".", OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::BENEATH).is_ok()
});

/// Opens `relative` below the directory `root`. Blocks.
///
/// # Errors
/// The system's; `ENOENT` if `relative` is empty or holds anything but names, `ELOOP` for a link that is not followed.
pub fn open(root: &Path, relative: &Path, flags: OFlags, links: Links) -> Result<OwnedFd, Errno> {
    open_at(&root_of(root)?, relative, flags, links)
}

/// Opens a folder, for all that is done below it.
///
/// # Errors
/// The system's.
pub fn root_of(root: &Path) -> Result<OwnedFd, Errno> {
    open_path(root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// A folder on a file system of this machine, for opens on a thread that must not wait.
#[derive(Debug)]
pub struct Near(OwnedFd);

impl Near {
    /// The folder `root`, if the kernel has the way to it in its caches and it is the directory of these numbers, device and inode.
    /// None says nothing of it: who may wait finds out.
    pub fn root(root: &Path, (device, inode): (u64, u64)) -> Option<Near> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let cached = ResolveFlags::CACHED | ResolveFlags::NO_MAGICLINKS;
        let root = openat2(CWD, root, flags, Mode::empty(), cached).ok()?;
        // A file server may lie there by now, and is not asked either.
        let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
        let there = statx(&root, "", flags, StatxFlags::INO).ok()?;
        let known = (makedev(there.stx_dev_major, there.stx_dev_minor), there.stx_ino) == (device, inode);
        known.then_some(Near(root))
    }

    /// Opens `relative` below it, if nothing has to be waited for to find it, by what `io_uring` goes by for the same question:
    /// the kernel has the way in its caches, and crosses neither a symbolic link nor to another file system. None says
    /// nothing of it. To open what was found may still take its time, where a virus scanner is asked first.
    pub fn open(&self, relative: &Path, flags: OFlags) -> Option<OwnedFd> {
        let resolve = ResolveFlags::BENEATH
            | ResolveFlags::NO_MAGICLINKS
            | ResolveFlags::NO_SYMLINKS
            | ResolveFlags::NO_XDEV
            | ResolveFlags::CACHED;
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        names_only(relative).then(|| openat2(&self.0, relative, flags, Mode::empty(), resolve).ok()).flatten()
    }
}

/// The same as [`open`], below a directory that is open already.
///
/// # Errors
/// As there.
pub fn open_at(root: &OwnedFd, relative: &Path, flags: OFlags, links: Links) -> Result<OwnedFd, Errno> {
    if !names_only(relative) {
        return Err(Errno::NOENT);
    }
    let flags = flags | OFlags::CLOEXEC;
    match links {
        Links::None => match resolve(root, relative, flags | OFlags::NOFOLLOW, ResolveFlags::NO_SYMLINKS) {
            // A path may be longer than one call takes. Which name is the link, the one call does not say.
            Err(Errno::NOSYS | Errno::NAMETOOLONG | Errno::LOOP) => step_by_step(root, relative, flags),
            opened => opened,
        },
        Links::Beneath => match resolve(root, relative, flags, ResolveFlags::empty()) {
            Err(Errno::XDEV) => Err(Errno::LOOP),
            Err(Errno::NOSYS | Errno::NAMETOOLONG) => step_by_step(root, relative, flags),
            opened => opened,
        },
        Links::Anywhere => openat(root, relative, flags, Mode::empty()),
    }
}

/// Opens the directory that `relative` lies in, without the right to read it, and says the last name.
///
/// # Errors
/// As [`open`].
pub fn directory_of<'path>(
    root: &Path,
    relative: &'path Path,
    links: Links,
) -> Result<(OwnedFd, &'path OsStr), Errno> {
    let name = relative.file_name().ok_or(Errno::NOENT)?;
    let root = root_of(root)?;
    Ok((directory_at(root, relative.parent().unwrap_or(Path::new("")), links)?, name))
}

/// The directory `relative` below `root`, or `root` itself if that is empty.
///
/// # Errors
/// As [`open`].
pub fn directory_at(root: OwnedFd, relative: &Path, links: Links) -> Result<OwnedFd, Errno> {
    match relative.as_os_str().is_empty() {
        true => Ok(root),
        false => open_at(&root, relative, OFlags::PATH | OFlags::DIRECTORY, links),
    }
}

fn names_only(relative: &Path) -> bool {
    let mut parts = relative.components().peekable();
    parts.peek().is_some() && parts.all(|part| matches!(part, Component::Normal(_)))
}

fn resolve(root: &OwnedFd, relative: &Path, flags: OFlags, besides: ResolveFlags) -> Result<OwnedFd, Errno> {
    if !*HAS_OPENAT2 {
        return Err(Errno::NOSYS);
    }
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | besides;
    let mut tries = 0;
    loop {
        tries += 1;
        match openat2(root, relative, flags, Mode::empty(), resolve) {
            // Also the answer to O_NONBLOCK where somebody holds a lease: who asks finds out soon enough.
            Err(Errno::AGAIN) if tries < TRIES && besides.is_empty() => {}
            opened => return opened,
        }
    }
}

fn step_by_step(root: &OwnedFd, relative: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    let directory = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut at = None;
    let mut names = relative.iter().peekable();
    while let Some(name) = names.next() {
        let parent = at.as_ref().unwrap_or(root);
        if names.peek().is_none() {
            return openat(parent, name, flags | OFlags::NOFOLLOW, Mode::empty());
        }
        at = Some(openat(parent, name, directory, Mode::empty())?);
    }
    Err(Errno::NOENT)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::io::Read;
    use std::os::unix::fs::symlink;

    use super::*;

    struct Ground {
        folder: tempfile::TempDir,
        outside: tempfile::TempDir,
    }

    /// A folder with links of all kinds.
    fn ground() -> Ground {
        let (folder, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let root = folder.path();
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::write(root.join("a/b/file"), "inside").unwrap();
        fs::write(outside.path().join("secret"), "outside").unwrap();
        symlink("a/b/file", root.join("to-file")).unwrap();
        symlink("b", root.join("a/to-directory")).unwrap();
        symlink("../a/b/file", root.join("a/up")).unwrap();
        symlink(outside.path(), root.join("out")).unwrap();
        symlink(outside.path().join("secret"), root.join("to-secret")).unwrap();
        symlink(root.join("a/b/file"), root.join("absolute")).unwrap();
        symlink("round", root.join("round")).unwrap();
        Ground { folder, outside }
    }

    fn read(ground: &Ground, relative: &str, links: Links) -> Result<String, Errno> {
        let fd = open(ground.folder.path(), Path::new(relative), OFlags::RDONLY, links)?;
        let mut text = String::new();
        File::from(fd).read_to_string(&mut text).unwrap();
        Ok(text)
    }

    #[test]
    fn without_links_only_what_lies_below_is_opened() {
        let ground = ground();
        assert_eq!(read(&ground, "a/b/file", Links::None).unwrap(), "inside");
        for path in ["to-file", "a/to-directory/file", "a/up", "out/secret", "to-secret", "absolute", "round"]
        {
            let refused = read(&ground, path, Links::None).unwrap_err();
            assert!(matches!(refused, Errno::LOOP | Errno::NOTDIR), "{path}: {refused}");
            let root = root_of(ground.folder.path()).unwrap();
            let refused = step_by_step(&root, Path::new(path), OFlags::RDONLY).unwrap_err();
            assert!(matches!(refused, Errno::LOOP | Errno::NOTDIR), "{path}: {refused}, step by step");
        }
        for path in ["", "..", "../x", "/etc/passwd", "a/../../x"] {
            for links in [Links::None, Links::Beneath, Links::Anywhere] {
                assert_eq!(read(&ground, path, links), Err(Errno::NOENT), "{path:?}");
            }
        }
    }

    #[test]
    fn links_that_stay_in_the_folder_are_followed_where_that_is_asked() {
        let ground = ground();
        for path in ["a/b/file", "to-file", "a/to-directory/file", "a/up"] {
            assert_eq!(read(&ground, path, Links::Beneath).unwrap(), "inside", "{path}");
        }
        for path in ["out/secret", "to-secret", "round"] {
            assert_eq!(read(&ground, path, Links::Beneath), Err(Errno::LOOP), "{path}");
        }
        // The kernel cannot know that this one would come back.
        assert_eq!(read(&ground, "absolute", Links::Beneath), Err(Errno::LOOP));
        assert_eq!(read(&ground, "out/secret", Links::Anywhere).unwrap(), "outside");
        assert!(ground.outside.path().join("secret").exists());
    }

    fn identity(path: &Path) -> (u64, u64) {
        use std::os::unix::fs::MetadataExt;
        let metadata = fs::metadata(path).unwrap();
        (metadata.dev(), metadata.ino())
    }

    /// A mount anywhere in the system has the kernel look again; nobody mounts without end.
    fn soon<T>(near: impl Fn() -> Option<T>) -> T {
        (0..1000).find_map(|_| near()).expect("it is in the caches (Linux 5.12 or newer)")
    }

    #[test]
    fn what_is_near_is_opened_and_nothing_that_may_have_to_be_waited_for() {
        let ground = ground();
        let root = ground.folder.path();
        let (device, inode) = identity(root);
        let folder = soon(|| Near::root(root, (device, inode)));
        let mut text = String::new();
        File::from(soon(|| folder.open(Path::new("a/b/file"), OFlags::RDONLY)))
            .read_to_string(&mut text)
            .unwrap();
        assert_eq!(text, "inside");
        for path in [
            "to-file",
            "a/to-directory/file",
            "a/up",
            "out/secret",
            "to-secret",
            "absolute",
            "missing",
            "",
            "..",
            "../x",
            "/etc/passwd",
        ] {
            assert!(folder.open(Path::new(path), OFlags::RDONLY).is_none(), "{path:?}");
        }
        for other in [(device + 1, inode), (device, inode + 1)] {
            assert!(Near::root(root, other).is_none(), "something else was mounted there");
        }
        let file = root.join("a/b/file");
        assert!(Near::root(&file, identity(&file)).is_none(), "no directory");
    }

    #[test]
    fn another_file_system_below_is_not_near() {
        let (root, slash) = (Path::new("/"), identity(Path::new("/")));
        let folder = soon(|| Near::root(root, slash));
        let here = std::env::current_exe().unwrap();
        let top = here.components().nth(1).unwrap();
        let mut others = 0;
        for name in ["proc", "sys", "dev", "run", "tmp", "home"] {
            let (path, name) = (root.join(name), Path::new(name));
            match fs::metadata(&path) {
                Ok(_) if identity(&path).0 != slash.0 => {
                    others += 1;
                    assert!(folder.open(name, OFlags::PATH).is_none(), "{name:?}");
                }
                Ok(_) if top.as_os_str() == name => drop(soon(|| folder.open(name, OFlags::PATH))),
                _ => {}
            }
        }
        assert!(others > 0, "not even /proc");
    }

    #[test]
    fn a_path_longer_than_one_call_takes_is_opened_step_by_step() {
        let folder = tempfile::tempdir().unwrap();
        let name = "d".repeat(200);
        let mut at = root_of(folder.path()).unwrap();
        let mut relative = std::path::PathBuf::new();
        for _ in 0..25 {
            rustix::fs::mkdirat(&at, &*name, Mode::RWXU).unwrap();
            at = openat(&at, &*name, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
            relative.push(&name);
        }
        let create = OFlags::CREATE | OFlags::WRONLY;
        drop(openat(&at, "file", create, Mode::RUSR | Mode::WUSR).unwrap());
        assert!(relative.as_os_str().len() > 4_096);
        let file = relative.join("file");
        open(folder.path(), &file, OFlags::RDONLY, Links::None).unwrap();
        let (directory, last) = directory_of(folder.path(), &file, Links::None).unwrap();
        assert_eq!(last, "file");
        openat(&directory, last, OFlags::RDONLY, Mode::empty()).unwrap();
    }

    #[test]
    fn a_folder_that_is_a_link_itself_is_followed() {
        let ground = ground();
        let current = ground.outside.path().join("current");
        symlink(ground.folder.path(), &current).unwrap();
        open(&current, Path::new("a/b/file"), OFlags::RDONLY, Links::None).unwrap();
    }
}
