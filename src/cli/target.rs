//! The job, File or folder that an argument means.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use super::failure::Failure;
use crate::model::answer::FileId;
use crate::model::job::JobId;
use crate::store::{FolderRow, Record, Store};
use crate::text::{shown, shown_bytes};

/// Versions of one path that are looked up.
const VERSIONS: usize = 100;

/// What an argument means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// Digits: a job.
    Job(JobId),
    /// `file-…`: a File.
    File(FileId),
    /// Anything else: a path.
    Path(PathBuf),
}

impl Target {
    pub(super) fn of(argument: &OsStr) -> Target {
        let Some(text) = argument.to_str() else { return Target::Path(argument.into()) };
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        match text.parse() {
            Ok(id) if digits => Target::Job(JobId(id)),
            _ if text.starts_with("file-") && !text.contains('/') => Target::File(FileId(text.into())),
            _ => Target::Path(argument.into()),
        }
    }

    /// Its records: of a path the one that speaks for what lies there first, then older versions; of a File one for each
    /// account that has such an id. Never empty.
    pub(super) async fn find(&self, store: &Store) -> Result<Vec<Record>, Failure> {
        let (found, missing) = match self {
            Target::Job(id) => {
                (store.record(*id).await?.into_iter().collect(), format!("there is no job {}", id.0))
            }
            Target::File(id) => (
                store.find_file(id).await?,
                format!(
                    "no job has the File {}; a path that begins so is written ./{0}",
                    shown_bytes(id.0.as_bytes())
                ),
            ),
            Target::Path(path) => by_path(store, path).await?,
        };
        if found.is_empty() { Err(Failure::said(missing)) } else { Ok(found) }
    }
}

/// The records of a path and, if there is none, why.
async fn by_path(store: &Store, given: &Path) -> Result<(Vec<Record>, String), Failure> {
    let absolute = plain(&std::path::absolute(given).unwrap_or_else(|_| given.into()));
    let folders = store.folders().await?;
    let candidates = candidates(&absolute, &folders);
    for path in &candidates {
        let found = store.find_path(path, VERSIONS).await?;
        if !found.is_empty() {
            return Ok((found, String::new()));
        }
    }
    let covered = candidates.iter().any(|path| folders.iter().any(|folder| path.starts_with(&folder.path)));
    let path = shown(&absolute);
    let why = if covered {
        format!("no job is known for {path}: it has not settled yet, is ignored, or was never there")
    } else {
        let known: Vec<String> = folders.iter().map(|folder| shown(&folder.path)).collect();
        format!("{path} lies in no watched folder (there is: {})", known.join(", "))
    };
    Ok((Vec::new(), why))
}

/// The names under which the store may have a path: as given; with the links of its directory followed; and below a
/// folder that was configured by way of a link.
fn candidates(absolute: &Path, folders: &[FolderRow]) -> Vec<PathBuf> {
    let mut candidates = vec![absolute.to_owned()];
    // The file itself may be gone, or be a link that is not followed.
    if let (Some(parent), Some(name)) = (absolute.parent(), absolute.file_name())
        && let Ok(parent) = parent.canonicalize()
    {
        let real = parent.join(name);
        for folder in folders {
            if let Ok(root) = folder.path.canonicalize()
                && let Ok(rest) = real.strip_prefix(root)
            {
                candidates.push(folder.path.join(rest));
            }
        }
        candidates.push(real);
    }
    candidates
}

/// Without `..`, going by the text.
pub(super) fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => {
                plain.pop();
            }
            other => plain.push(other),
        }
    }
    plain
}

/// The folder that `--folder` means: by its name, or by its path.
pub(super) async fn folder(store: &Store, argument: &OsString) -> Result<FolderRow, Failure> {
    let folders = store.folders().await?;
    let path = plain(&std::path::absolute(argument).unwrap_or_else(|_| argument.into()));
    // A folder that was moved leaves a row of the same name; the later one is in force.
    let found = folders.iter().rev().find(|folder| folder.name.as_bytes() == argument.as_bytes());
    let found = found.or_else(|| folders.iter().find(|folder| folder.path == path));
    found.cloned().ok_or_else(|| {
        let known: Vec<String> = folders.iter().map(|folder| shown_bytes(folder.name.as_bytes())).collect();
        Failure::said(format!(
            "there is no folder {} (there is: {})",
            shown_bytes(argument.as_bytes()),
            known.join(", ")
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_a_job_file_dash_a_file_and_all_else_a_path() {
        for (argument, expected) in [
            ("17", Target::Job(JobId(17))),
            ("file-abc", Target::File(FileId("file-abc".into()))),
            ("./file-abc", Target::Path("./file-abc".into())),
            ("file-abc/x", Target::Path("file-abc/x".into())),
            ("17.pdf", Target::Path("17.pdf".into())),
            ("+17", Target::Path("+17".into())),
            ("99999999999999999999", Target::Path("99999999999999999999".into())),
        ] {
            assert_eq!(Target::of(OsStr::new(argument)), expected, "{argument}");
        }
        assert_eq!(Target::of(OsStr::from_bytes(b"\xff")), Target::Path(OsStr::from_bytes(b"\xff").into()));
    }

    #[test]
    fn dots_are_taken_out_of_a_path() {
        assert_eq!(plain(Path::new("/a/b/../c/./d")), Path::new("/a/c/d"));
        assert_eq!(plain(Path::new("/../a")), Path::new("/a"));
    }
}
