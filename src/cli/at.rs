//! Where a command looks: the configuration's state directory, or the one it was given.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::Common;
use super::failure::Failure;
use crate::config::{self, Config, Faults, Overrides, Sources};
use crate::store::{Store, StoreError};
use crate::text::shown;

/// The state directory. If it was given, the configuration is not looked at.
pub(super) fn state_dir(common: &Common) -> Result<PathBuf, Failure> {
    match &common.state_dir {
        Some(given) => Ok(std::path::absolute(given)
            .map_err(|error| Failure::said(format!("--state-dir {}: {error}", shown(given))))?),
        None => Ok(configuration(common, None)?.store.state_dir),
    }
}

/// The configuration in force; `watch` is `--watch DIR --purpose P`.
pub(super) fn configuration(common: &Common, watch: Option<(PathBuf, String)>) -> Result<Config, Failure> {
    Ok(loader(common, watch)()?)
}

/// Reads the same again, whenever it is called.
pub(super) fn loader(
    common: &Common,
    watch: Option<(PathBuf, String)>,
) -> impl Fn() -> Result<Config, Faults> + Send + Sync + 'static {
    let sources = Sources::of_process(common.config.clone());
    let overrides = Overrides { watch, state_dir: common.state_dir.clone() };
    move || config::load(&sources, &overrides)
}

/// The store in a state directory, for asking.
pub(super) async fn store(state_dir: &Path) -> Result<Store, Failure> {
    match Store::open_for_asking(state_dir).await {
        Err(StoreError::Unwritable { path, message }) => {
            Err(Failure::said(not_allowed("read", &path, &message)))
        }
        other => Ok(other?),
    }
}

/// That this user may not, and who may.
pub(super) fn not_allowed(verb: &str, path: &Path, message: &str) -> String {
    let owner = path.ancestors().find_map(|path| fs::metadata(path).ok()).map_or(0, |found| found.uid());
    let who = name_of(owner).unwrap_or_else(|| format!("'#{owner}'"));
    format!(
        "this user cannot {verb} {} ({message}): ask as the user of the service: sudo -u {who} upspool …",
        shown(path)
    )
}

/// The name of a user, where this machine itself knows it.
fn name_of(uid: u32) -> Option<String> {
    let users = fs::read_to_string("/etc/passwd").ok()?;
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    })
}
