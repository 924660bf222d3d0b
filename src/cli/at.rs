//! Where a command looks: the configuration's state directory, or the one it was given.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::Common;
use super::failure::Failure;
use crate::config::{self, Config, Faults, Overrides, Place, Sources};
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
    loader(common, watch)().map_err(|mut faults| {
        for fault in &mut faults.0 {
            if let Place::File(file) = &fault.place
                && fs::File::open(file).is_err_and(|error| error.kind() == ErrorKind::PermissionDenied)
            {
                fault.remedy = who_may(file);
            }
        }
        faults.into()
    })
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
    format!("this user cannot {verb} {} ({message}): {}", shown(path), who_may(path))
}

/// How to become one who may.
fn who_may(path: &Path) -> String {
    let found = path.ancestors().find_map(|path| fs::metadata(path).ok());
    let as_owner = match found.as_ref().map_or(0, MetadataExt::uid) {
        0 => "ask as root: sudo upspool …".to_owned(),
        owner => {
            let name = name_of("/etc/passwd", owner).unwrap_or_else(|| format!("'#{owner}'"));
            format!("ask as the user of the service: sudo -u {name} upspool …")
        }
    };
    let Some(group) = found.as_ref().and_then(helpful_group) else { return as_owner };
    let me = rustix::process::geteuid().as_raw();
    let me = name_of("/etc/passwd", me).unwrap_or_else(|| "NAME".to_owned());
    format!(
        "members of the group {group} may: sudo usermod -aG {group} {me}, and log in again; or {as_owner}"
    )
}

/// The group that has more rights than this user, if it has any, can be joined, and was not joined yet.
fn helpful_group(found: &fs::Metadata) -> Option<String> {
    let (group, mine) = (found.gid(), rustix::process::getegid().as_raw());
    let others = rustix::process::getgroups().unwrap_or_default();
    let is_member = group == mine || others.iter().any(|one| one.as_raw() == group);
    let helps = found.mode() & 0o070 != 0 && group != 0 && !is_member;
    helps.then(|| name_of("/etc/group", group)).flatten()
}

/// The name of a user or a group, where this machine itself knows it: both files begin a line with `NAME:PASSWORD:ID:`.
fn name_of(file: &str, id: u32) -> Option<String> {
    let lines = fs::read_to_string(file).ok()?;
    lines.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(id)).then(|| name.to_owned())
    })
}
