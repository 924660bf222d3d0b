//! A file beside the database that says that there is one, and how far it got.
//!
//! SQLite takes whatever it finds for the whole truth: no file is a new database, and a file without its write-ahead
//! log is an older one. For a ledger both would mean to send again what was sent already. So the number of the last
//! commit is kept beside it. It is written after the commit and never synced by itself, so that it costs next to nothing
//! and never claims more than is in the database, whatever a crash takes with it; a database that has less has lost
//! something.
//!
//! It also keeps under which name a damaged database is being set aside, so that a crash between two renames is not
//! taken for a new beginning.

use std::fs::{File, OpenOptions, Permissions};
use std::io::Read;
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::aside;
use super::error::{Result, StoreError};
use super::open::DATABASE;

/// Digits of the number, so that each overwrites the one before.
const DIGITS: usize = 20;

/// Room for the name of what is set aside: written over blanks that lie there, it needs no room on a full disk.
const NAME: usize = 64;

/// For who looks.
const WORDS: &str = "Beside this file lies the ledger of upspool: the number of its last commit, and its name if it was \
                     damaged and set aside.\nWhile this file is here, no new ledger is begun without `upspool rebuild`.\n";

/// What the file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Testimony {
    /// The last commit that certainly was in the database.
    pub(super) last: i64,
    /// The name of what is set aside and has not been rebuilt from.
    pub(super) aside: Option<String>,
}

/// The open file.
#[derive(Debug)]
pub(super) struct Witness {
    file: File,
}

/// Where it lies.
pub(super) fn path(state_dir: &Path) -> PathBuf {
    state_dir.join(format!("{DATABASE}.witness"))
}

/// What the file says; none if there is none. One that cannot be understood still says that there was a ledger.
pub(super) fn read(state_dir: &Path) -> Result<Option<Testimony>> {
    let path = path(state_dir);
    let mut text = String::new();
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(StoreError::of_system(&path, &error)),
    };
    match file.take(4096).read_to_string(&mut text) {
        Ok(_) => {}
        // It holds something else.
        Err(error) if error.kind() == std::io::ErrorKind::InvalidData => text.clear(),
        Err(error) => return Err(StoreError::of_system(&path, &error)),
    }
    let mut lines = text.lines().map(str::trim);
    let last = lines.next().and_then(|line| line.parse().ok()).unwrap_or(0);
    let aside = lines.next().filter(|name| aside::is_name(name)).map(str::to_owned);
    Ok(Some(Testimony { last, aside }))
}

impl Witness {
    /// Opens the file; makes it if there is none. Only once there is a database.
    pub(super) fn open(state_dir: &Path) -> Result<Witness> {
        let path = path(state_dir);
        let failed = |error: std::io::Error| StoreError::of_system(&path, &error);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
            .mode(0o640)
            .open(&path)
            .map_err(failed)?;
        let witness = Witness { file };
        // A crash may have left it without content.
        if witness.file.metadata().map_err(failed)?.len() < (DIGITS + NAME + 2) as u64 {
            witness.file.set_permissions(Permissions::from_mode(0o640)).map_err(failed)?;
            witness.write_whole(&Testimony::default()).map_err(failed)?;
            sync_directory(state_dir).map_err(failed)?;
        }
        Ok(witness)
    }

    /// Keeps the number of a commit. Not synced: see the module.
    pub(super) fn saw(&self, last: i64) {
        // An older number is true as well, so a failure costs nothing but sharpness.
        self.file.write_all_at(format!("{last:0DIGITS$}").as_bytes(), 0).ok();
    }

    /// Keeps the name of what is being set aside, or that nothing is.
    pub(super) fn set_aside(&self, name: Option<&str>) -> std::io::Result<()> {
        let line = format!("{:NAME$}", name.unwrap_or_default());
        self.file.write_all_at(line.as_bytes(), (DIGITS + 1) as u64)?;
        self.file.sync_all()
    }

    fn write_whole(&self, testimony: &Testimony) -> std::io::Result<()> {
        let aside = testimony.aside.as_deref().unwrap_or_default();
        let text = format!("{:0DIGITS$}\n{aside:NAME$}\n{WORDS}", testimony.last);
        self.file.write_all_at(text.as_bytes(), 0)?;
        self.file.sync_all()
    }
}

/// Names in a directory are on disk only once it is synced itself.
pub(super) fn sync_directory(path: &Path) -> std::io::Result<()> {
    File::open(path)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_and_set_aside_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(dir.path()).unwrap(), None);
        let witness = Witness::open(dir.path()).unwrap();
        assert_eq!(read(dir.path()).unwrap(), Some(Testimony::default()));
        witness.saw(1_234_567);
        let name = format!("{DATABASE}.corrupt-20261122T170000Z");
        witness.set_aside(Some(&name)).unwrap();
        let said = Testimony { last: 1_234_567, aside: Some(name) };
        assert_eq!(read(dir.path()).unwrap(), Some(said));
        let again = Witness::open(dir.path()).unwrap();
        again.saw(1_234_568);
        again.set_aside(None).unwrap();
        assert_eq!(read(dir.path()).unwrap(), Some(Testimony { last: 1_234_568, aside: None }));
    }

    #[test]
    fn nonsense_still_says_that_there_was_a_ledger() {
        let dir = tempfile::tempdir().unwrap();
        for nonsense in [&b""[..], b"\xff\xfe", b"12", b"x\n../../etc/passwd\n", b"\0\0\0\0"] {
            std::fs::write(path(dir.path()), nonsense).unwrap();
            assert_eq!(read(dir.path()).unwrap().unwrap().aside, None, "{nonsense:?}");
        }
    }
}
