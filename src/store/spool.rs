//! The spool: files in which those ask who may read the store and not write it. A command leaves one file, whole from the
//! first moment; the service makes rows of it and takes it away.
//!
//! Whoever is in the group may put anything there, and as much of it as they like. So files are opened by their name in the
//! open directory, never through a link and never waiting for one; so much is read in one look and no more; and a name
//! that is met again and again is passed by.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{
    AtFlags, CWD, Dir, Mode, OFlags, fchmod, fstat, fsync, mkdirat, openat, renameat, unlinkat,
};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::model::job::{FolderId, JobId};
use crate::model::time::Wall;
use crate::text::{shorten, shown_bytes};

use super::NewRequest;

/// The name of the spool in the state directory.
pub const SPOOL: &str = "asks";

/// The owner and the group put files there and read them; each takes away only their own, and the owner of the directory all
/// (sticky). Not set-group-ID: the hardened units forbid that bit (`RestrictSUIDSGID=`), and whoever may enter may read.
const DIRECTORY_MODE: u32 = 0o1770;

/// Whatever the umask of who asks: the service is another user, and nobody else gets into the directory.
const FILE_MODE: u32 = 0o644;

/// What a file holds at most, in bytes.
const LARGEST: u64 = 64 * 1024;

/// Requests of one file at most.
const TOGETHER: usize = 500;

/// Names taken into memory at once.
const NAMES: usize = 1024;

/// Files opened in one look.
const FILES: usize = 256;

/// Requests after which a look ends: they go into one commit, and the service's own writes wait for it.
const REQUESTS: usize = 500;

/// A command writes its file in milliseconds; what is older was left behind by one that was killed.
const HALF_WRITTEN: Duration = Duration::from_secs(3600);

/// The version of what is in the files.
const VERSION: u32 = 1;

/// How the name of a file ends that is whole.
const END: &str = ".ask";

/// How the name of one begins and ends that is being written.
const NEW: (&str, &str) = (".", ".new");

/// Characters of what is in a file that are repeated in the log.
const WORDS: usize = 120;

/// What one file asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spooled {
    /// Its name without the end: nobody else's.
    pub token: String,
    /// The user (uid) that the file belongs to.
    pub by: u32,
    /// When it was left, by the kernel's word.
    pub at: Wall,
    /// What is asked.
    pub requests: Vec<NewRequest>,
}

/// What is no ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Its name, for people.
    pub name: String,
    /// Why it is none.
    pub why: String,
    /// It lies there still, and will be met again.
    pub stays: bool,
}

/// What one look found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Look {
    /// What is asked; its files are to be taken away once it is in the store.
    pub asks: Vec<Spooled>,
    /// What is no ask.
    pub refused: Vec<Refused>,
    /// There may be more.
    pub more: bool,
}

/// The service's side.
#[derive(Debug)]
pub struct Spool {
    directory: OwnedFd,
    listing: Dir,
    /// Names that were listed and not looked at, in order.
    names: VecDeque<Vec<u8>>,
    /// Nothing is left of the listing.
    listed: bool,
}

impl Spool {
    /// Opens the spool for the service, which makes it if it is not there and gives it its mode.
    ///
    /// # Errors
    /// If it cannot be made, or belongs to somebody else.
    pub fn open(state_dir: &Path) -> io::Result<Spool> {
        let parent =
            openat(CWD, state_dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        match mkdirat(&parent, SPOOL, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        let directory = open_at(&parent)?;
        if fstat(&directory)?.st_uid != rustix::process::geteuid().as_raw() {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "it belongs to another user"));
        }
        fchmod(&directory, Mode::from_raw_mode(DIRECTORY_MODE))?;
        let listing = Dir::read_from(&directory)?;
        Ok(Spool { directory, listing, names: VecDeque::new(), listed: true })
    }

    /// Whether nothing is there to be looked at. Blocks, and costs next to nothing.
    ///
    /// # Errors
    /// If the disk does not answer as it should.
    pub fn is_empty(&self) -> io::Result<bool> {
        if !self.names.is_empty() || !self.listed {
            return Ok(false);
        }
        for entry in Dir::read_from(&self.directory)? {
            if !matches!(entry?.file_name().to_bytes(), b"." | b"..") {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Looks at some of what lies there, in the order in which a command left it. What claims to be an ask and is none is
    /// taken away. Blocks.
    ///
    /// # Errors
    /// If the disk does not answer as it should. What was not looked at is met again.
    pub fn look(&mut self, now: Wall) -> io::Result<Look> {
        if self.names.is_empty() {
            self.list()?;
        }
        let (mut look, mut files, mut requests) = (Look::default(), 0, 0);
        while files < FILES && requests < REQUESTS {
            let Some(name) = self.names.pop_front() else { break };
            if name.starts_with(NEW.0.as_bytes()) {
                self.clear_half_written(&name, now);
                continue;
            }
            let Some(token) = token_of(&name) else {
                let why = "its name is not that of an ask";
                look.refused.push(Refused { name: shown_bytes(&name), why: why.into(), stays: true });
                continue;
            };
            files += 1;
            match self.read(token) {
                Ok(ask) => {
                    requests += ask.requests.len();
                    look.asks.push(ask);
                }
                Err(Fault::Not(why)) => {
                    let stays = remove(&self.directory, &name).is_err();
                    look.refused.push(Refused { name: shown_bytes(&name), why, stays });
                }
                Err(Fault::NotNow) => {}
                Err(Fault::System(error)) if look.asks.is_empty() && look.refused.is_empty() => {
                    return Err(error);
                }
                // What was found before is taken first; this one is met again, behind all that lies there now.
                Err(Fault::System(_)) => {}
            }
        }
        look.more = !self.names.is_empty() || !self.listed;
        Ok(look)
    }

    /// Takes the file of an ask away, which is in the store by now. Blocks.
    ///
    /// # Errors
    /// The system's.
    pub fn remove(&self, token: &str) -> io::Result<()> {
        remove(&self.directory, name_of(token).as_bytes())
    }

    /// The next names. Of more than fit those that the file system says first: the others come later.
    fn list(&mut self) -> io::Result<()> {
        if self.listed {
            self.listing = Dir::read_from(&self.directory)?;
            self.listed = false;
        }
        let mut names = Vec::new();
        while names.len() < NAMES {
            match self.listing.read() {
                Some(entry) => names.push(entry?.file_name().to_bytes().to_vec()),
                None => {
                    self.listed = true;
                    break;
                }
            }
        }
        names.retain(|name| name != b"." && name != b"..");
        // A command's names are in its order.
        names.sort_unstable();
        self.names = names.into();
        Ok(())
    }

    fn read(&self, token: &str) -> Result<Spooled, Fault> {
        // O_NONBLOCK: neither a FIFO nor somebody's lease is waited for.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = openat(&self.directory, name_of(token), flags, Mode::empty()).map_err(Fault::opening)?;
        let file = File::from(file);
        let found = file.metadata().map_err(Fault::System)?;
        if !found.is_file() {
            return Err(Fault::not("it is no regular file"));
        }
        if found.nlink() > 1 {
            return Err(Fault::not("it has other names besides, so that nobody can tell who asks"));
        }
        let mut text = Vec::new();
        if found.len() <= LARGEST {
            (&file).take(LARGEST + 1).read_to_end(&mut text).map_err(Fault::System)?;
        }
        if found.len() > LARGEST || text.len() as u64 > LARGEST {
            return Err(Fault::Not(format!("it is larger than {LARGEST} bytes")));
        }
        let at = Wall(found.ctime() * 1000 + found.ctime_nsec() / 1_000_000);
        let requests = requests_of(&text).map_err(Fault::Not)?;
        Ok(Spooled { token: token.to_owned(), by: found.uid(), at, requests })
    }

    /// Whoever was writing it may still be.
    fn clear_half_written(&self, name: &[u8], now: Wall) {
        let is_ours = name.ends_with(NEW.1.as_bytes());
        let changed = rustix::fs::statat(&self.directory, name, AtFlags::SYMLINK_NOFOLLOW);
        if is_ours && changed.is_ok_and(|found| now.since(Wall(found.st_ctime * 1000)) > HALF_WRITTEN) {
            // If not, it is tried again.
            let _ = remove(&self.directory, name);
        }
    }
}

/// Why a file is not taken.
enum Fault {
    /// It is no ask.
    Not(String),
    /// It is gone, or somebody holds it.
    NotNow,
    /// The system failed.
    System(io::Error),
}

impl Fault {
    fn not(why: &str) -> Fault {
        Fault::Not(why.to_owned())
    }

    fn opening(error: Errno) -> Fault {
        match error {
            Errno::NOENT | Errno::AGAIN => Fault::NotNow,
            Errno::LOOP => Fault::not("it is a symbolic link"),
            Errno::NXIO | Errno::NODEV => Fault::not("it is no regular file"),
            Errno::ACCESS | Errno::PERM => Fault::not("the service may not read it"),
            other => Fault::System(other.into()),
        }
    }
}

#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    version: u32,
    requests: Vec<Request>,
}

/// One [`NewRequest`].
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    kind: String,
    job: Option<i64>,
    folder: Option<i64>,
    argument: Option<String>,
}

fn requests_of(text: &[u8]) -> Result<Vec<NewRequest>, String> {
    let wrong = |error: serde_json::Error| {
        format!("it says {}", shorten(&shown_bytes(error.to_string().as_bytes()), WORDS, '…'))
    };
    let Versioned { version } = serde_json::from_slice(text).map_err(wrong)?;
    if version != VERSION {
        return Err(format!("it is of version {version}, and this service reads version {VERSION}"));
    }
    let content: Content = serde_json::from_slice(text).map_err(wrong)?;
    if !(1..=TOGETHER).contains(&content.requests.len()) {
        return Err(format!("it has {} requests; 1 to {TOGETHER} are taken", content.requests.len()));
    }
    Ok(content
        .requests
        .into_iter()
        .map(|request| NewRequest {
            kind: request.kind,
            job: request.job.map(JobId),
            folder: request.folder.map(FolderId),
            argument: request.argument,
        })
        .collect())
}

fn text_of(requests: &[NewRequest]) -> io::Result<Vec<u8>> {
    let requests = requests.iter().map(|request| Request {
        kind: request.kind.clone(),
        job: request.job.map(|job| job.0),
        folder: request.folder.map(|folder| folder.0),
        argument: request.argument.clone(),
    });
    let text = serde_json::to_vec(&Content { version: VERSION, requests: requests.collect() })?;
    if text.len() as u64 > LARGEST {
        return Err(io::Error::other(format!("more than {LARGEST} bytes are not taken")));
    }
    Ok(text)
}

/// Leaves a file that asks for this, for a service that runs or the next one. `token` is nobody else's; of several files they
/// are taken up in the order of their tokens.
///
/// # Errors
/// The system's: `NotFound` if there is no spool, `PermissionDenied` if this user may not leave anything there.
pub fn leave(state_dir: &Path, token: &str, requests: &[NewRequest]) -> io::Result<()> {
    let text = text_of(requests)?;
    let parent = openat(CWD, state_dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let directory = open_at(&parent)?;
    let temporary = format!("{}{token}{}", NEW.0, NEW.1);
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(openat(&directory, &*temporary, flags, Mode::RUSR | Mode::WUSR)?);
    let written = file.write_all(&text).and_then(|()| {
        fchmod(&file, Mode::from_raw_mode(FILE_MODE))?;
        file.sync_all()?;
        Ok(renameat(&directory, &*temporary, &directory, name_of(token))?)
    });
    if written.is_err() {
        let _ = remove(&directory, temporary.as_bytes());
    }
    written?;
    Ok(fsync(&directory)?)
}

/// Whether the file of an ask lies there still.
pub fn is_left(state_dir: &Path, token: &str) -> bool {
    let looked = fs::symlink_metadata(state_dir.join(SPOOL).join(name_of(token)));
    !looked.is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

/// Takes away all that was left and not taken up: what was asked of one store is not asked of another.
pub(super) fn clear(state_dir: &Path) -> io::Result<()> {
    let parent = openat(CWD, state_dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let directory = match open_at(&parent) {
        Ok(directory) => directory,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in Dir::read_from(&directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if token_of(name).is_some() {
            match remove(&directory, name) {
                // A directory with something in it is no ask, whatever its name.
                Err(error) if error.kind() != io::ErrorKind::DirectoryNotEmpty => return Err(error),
                _ => {}
            }
        }
    }
    Ok(fsync(&directory)?)
}

fn open_at(parent: &OwnedFd) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(parent, SPOOL, flags, Mode::empty())?)
}

/// A directory only if it is empty.
fn remove(directory: &OwnedFd, name: &[u8]) -> io::Result<()> {
    match unlinkat(directory, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(Errno::ISDIR) => Ok(unlinkat(directory, name, AtFlags::REMOVEDIR)?),
        Err(error) => Err(error.into()),
    }
}

fn name_of(token: &str) -> String {
    format!("{token}{END}")
}

fn token_of(name: &[u8]) -> Option<&str> {
    let token = std::str::from_utf8(name).ok()?.strip_suffix(END)?;
    let is_one = |one: char| one.is_ascii_alphanumeric() || one == '-';
    (!token.is_empty() && token.chars().all(is_one)).then_some(token)
}
