//! A damaged database is set aside, never repaired in place and never deleted: it may hold the only trace of a File.
//!
//! The name is written down first. Then the database goes before its log: a log without a database stops every start, while
//! a database without its log would pass for an older one. A crash in between is made good by [`finish`].

use std::fs;
use std::path::{Path, PathBuf};

use crate::model::time::Wall;
use crate::text::rfc3339;

use super::error::{Result, StoreError};
use super::open::DATABASE;
use super::witness::{self, Testimony, Witness};
use super::{Lock, Store};

/// Between the name of the database and the time.
const MARK: &str = ".corrupt-";

/// What SQLite keeps beside a database, by what it adds to the name.
const BESIDE: [&str; 2] = ["-wal", "-shm"];

/// What lies where the database should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Presence {
    /// Something that has content.
    Database,
    /// Nothing, and nothing says that there ever was anything.
    Fresh,
    /// Nothing, or nothing but a name, although there was a ledger.
    Lost(StoreError),
}

/// Moves the database and what lies beside it to a name that says that it is damaged, and when that was found. The new
/// path; none if there was nothing to move.
///
/// # Errors
/// If the state directory cannot be written.
pub fn set_aside(state_dir: &Path, _held: &Lock, at: Wall) -> Result<Option<PathBuf>> {
    let path = state_dir.join(DATABASE);
    if !exists(&path) {
        return Ok(None);
    }
    let failed = |error: std::io::Error| StoreError::of_system(&path, &error);
    let name = free_name(state_dir, at);
    Witness::open(state_dir)?.set_aside(Some(&name)).map_err(failed)?;
    finish(state_dir, Some(&Testimony { last: 0, aside: Some(name.clone()) }))?;
    Ok(Some(state_dir.join(name)))
}

impl Store {
    /// Writes what the service still has open to where it would have been set aside, if its name was taken from it while
    /// the service ran: else it would be gone with the process.
    ///
    /// # Errors
    /// If it cannot be read or written.
    pub async fn rescue(&self, _held: &Lock, at: Wall) -> Result<Option<PathBuf>> {
        let Some(state_dir) = self.path.parent().filter(|_| !exists(&self.path)) else { return Ok(None) };
        let name = free_name(state_dir, at);
        let to = state_dir.join(&name);
        // The log of the file that is gone belongs to nothing else.
        self.copy_to(&to).await?;
        Witness::open(state_dir)?
            .set_aside(Some(&name))
            .and_then(|()| fs::File::open(&to)?.sync_all())
            .map_err(|error| StoreError::of_system(&to, &error))?;
        Ok(Some(to))
    }
}

/// Goes on with what a crash cut off. Only under the lock.
pub(super) fn finish(state_dir: &Path, said: Option<&Testimony>) -> Result<()> {
    let Some(name) = said.and_then(|said| said.aside.as_deref()) else { return Ok(()) };
    let (from, to) = (state_dir.join(DATABASE), state_dir.join(name));
    let failed = |error: std::io::Error| StoreError::of_system(&from, &error);
    move_over_nothing(&from, &to).map_err(failed)?;
    // If there is a database now, it is a new one, and what lies beside it is its own.
    if !exists(&from) && exists(&to) {
        for end in BESIDE {
            let (from, to) = (with_end(&from, end), with_end(&to, end));
            move_over_nothing(&from, &to).map_err(failed)?;
        }
    }
    witness::sync_directory(state_dir).map_err(failed)
}

/// Sets aside what lies beside a database that is not there any more.
pub(super) fn clear_beside(state_dir: &Path, at: Wall) -> std::io::Result<()> {
    let (from, to) = (state_dir.join(DATABASE), state_dir.join(free_name(state_dir, at)));
    for end in BESIDE.into_iter().filter(|_| !exists(&from)) {
        move_over_nothing(&with_end(&from, end), &with_end(&to, end))?;
    }
    Ok(())
}

/// What lies where the database should be. Changes nothing.
pub(super) fn presence(state_dir: &Path, said: Option<&Testimony>) -> Result<Presence> {
    let path = state_dir.join(DATABASE);
    let length = |path: &Path| match fs::metadata(path) {
        Ok(found) => Ok(Some(found.len())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(StoreError::of_system(path, &error)),
    };
    let database = length(&path)?;
    if database.is_some_and(|length| length > 0) {
        return Ok(Presence::Database);
    }
    let aside = newest(state_dir, said);
    let log = length(&with_end(&path, BESIDE[0]))?.is_some_and(|length| length > 0);
    if said.is_none() && aside.is_none() && !log {
        return Ok(Presence::Fresh);
    }
    Ok(Presence::Lost(if database.is_some() {
        StoreError::Corrupt { path, message: "it is empty, although a ledger was kept in it".to_owned() }
    } else {
        StoreError::Gone { path, aside }
    }))
}

/// What was set aside last and not rebuilt from.
pub(super) fn newest(state_dir: &Path, said: Option<&Testimony>) -> Option<PathBuf> {
    match said {
        Some(said) => Some(state_dir.join(said.aside.as_deref()?)).filter(|path| exists(path)),
        // Somebody took the witness away: then the newest, which the order of the names tells.
        None => fs::read_dir(state_dir)
            .ok()?
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| is_name(name))
            .max()
            .map(|name| state_dir.join(name)),
    }
}

/// Whether this is a name that [`set_aside`] gives to a database.
pub(super) fn is_name(name: &str) -> bool {
    let rest = name.strip_prefix(DATABASE).and_then(|name| name.strip_prefix(MARK));
    rest.is_some_and(|rest| {
        rest.chars().all(|one| one.is_ascii_alphanumeric() || one == '.') && rest.len() <= 24
    })
}

/// What SQLite calls a file that belongs to `path`.
pub(super) fn with_end(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

/// Moves a file that may not be there, over nothing that is.
pub(super) fn move_over_nothing(from: &Path, to: &Path) -> std::io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    use rustix::io::Errno;
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Ok(()) | Err(Errno::NOENT | Errno::EXIST) => Ok(()),
        // Some file systems know no such rename. Nobody else makes files here while the lock is held.
        Err(Errno::INVAL | Errno::NOSYS) => match (exists(from), exists(to)) {
            (true, false) => fs::rename(from, to),
            _ => Ok(()),
        },
        Err(error) => Err(error.into()),
    }
}

fn free_name(state_dir: &Path, at: Wall) -> String {
    let time: String = rfc3339(at).chars().take(19).filter(|one| !matches!(one, '-' | ':')).collect();
    let name = format!("{DATABASE}{MARK}{time}Z");
    let taken = |name: &str| {
        let path = state_dir.join(name);
        exists(&path) || BESIDE.iter().any(|end| exists(&with_end(&path, end)))
    };
    let mut free = name.clone();
    for again in 2..1000 {
        if !taken(&free) {
            break;
        }
        free = format!("{name}.{again}");
    }
    free
}

/// Whether anything lies there, be it a dangling link.
fn exists(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Wall = Wall(1_795_366_800_000);

    fn files(dir: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name != "lock" && !name.ends_with(".witness"))
            .collect();
        names.sort();
        names
    }

    #[test]
    fn database_and_log_go_together_and_over_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let lock = Lock::take(dir.path()).unwrap();
        assert_eq!(set_aside(dir.path(), &lock, AT).unwrap(), None);
        let mut seen = Vec::new();
        for round in ["first", "second"] {
            for end in ["", "-wal", "-shm"] {
                fs::write(dir.path().join(format!("{DATABASE}{end}")), round).unwrap();
            }
            let path = set_aside(dir.path(), &lock, AT).unwrap().unwrap();
            assert_eq!(fs::read_to_string(with_end(&path, "-wal")).unwrap(), round);
            seen.push(path.file_name().unwrap().to_str().unwrap().to_owned());
        }
        assert_eq!(seen, ["upspool.db.corrupt-20261122T170000Z", "upspool.db.corrupt-20261122T170000Z.2"]);
        assert!(seen.iter().all(|name| is_name(name)));
        assert_eq!(files(dir.path()).len(), 6);
    }

    #[test]
    fn wherever_a_crash_cuts_it_nothing_is_new_and_it_ends_the_same() {
        for moved in 0..=3 {
            let dir = tempfile::tempdir().unwrap();
            let lock = Lock::take(dir.path()).unwrap();
            let name = free_name(dir.path(), AT);
            Witness::open(dir.path()).unwrap().set_aside(Some(&name)).unwrap();
            for (index, end) in ["", "-wal", "-shm"].into_iter().enumerate() {
                let base = if index < moved { name.as_str() } else { DATABASE };
                fs::write(dir.path().join(format!("{base}{end}")), end).unwrap();
            }
            let said = witness::read(dir.path()).unwrap();
            if moved > 0 {
                assert!(matches!(presence(dir.path(), said.as_ref()).unwrap(), Presence::Lost(_)), "{moved}");
            }
            finish(dir.path(), said.as_ref()).unwrap();
            let all = ["", "-wal", "-shm"].map(|end| format!("{name}{end}"));
            let mut all = all.to_vec();
            all.sort();
            assert_eq!(files(dir.path()), all, "{moved}");
            let gone =
                StoreError::Gone { path: dir.path().join(DATABASE), aside: Some(dir.path().join(&name)) };
            assert_eq!(presence(dir.path(), said.as_ref()).unwrap(), Presence::Lost(gone));
            drop(lock);
        }
    }

    #[test]
    fn a_new_database_keeps_its_log() {
        let dir = tempfile::tempdir().unwrap();
        let name = free_name(dir.path(), AT);
        for file in [name.as_str(), DATABASE, "upspool.db-wal"] {
            fs::write(dir.path().join(file), file).unwrap();
        }
        let said = Testimony { last: 3, aside: Some(name.clone()) };
        finish(dir.path(), Some(&said)).unwrap();
        assert_eq!(files(dir.path()), [DATABASE, "upspool.db-wal", &name]);
        assert_eq!(fs::read_to_string(dir.path().join(DATABASE)).unwrap(), DATABASE);
    }

    #[test]
    fn only_a_directory_without_any_trace_is_fresh() {
        for trace in ["upspool.db-wal", "upspool.db.witness", "upspool.db.corrupt-20261122T170000Z"] {
            let dir = tempfile::tempdir().unwrap();
            let look = || presence(dir.path(), witness::read(dir.path()).unwrap().as_ref()).unwrap();
            assert_eq!(look(), Presence::Fresh);
            fs::write(dir.path().join(trace), "x").unwrap();
            assert!(matches!(look(), Presence::Lost(StoreError::Gone { .. })), "{trace}");
            fs::write(dir.path().join(DATABASE), "").unwrap();
            assert!(matches!(look(), Presence::Lost(StoreError::Corrupt { .. })), "{trace}");
        }
    }
}
