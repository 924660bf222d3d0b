//! The configuration: what the file, the environment and the command line say, made into what is in
//! force.
//!
//! In the order in which a setting passes: `layers` finds the file and reads the environment,
//! `file` holds the file against `schema` line by line (`kind`, `checks`, `units` say what
//! a value may be), the crate `config` lays the layers over each other into `raw`, and
//! `validate` and `folders` compare, fill in and hand out the `settings`. `presence` looks at
//! what they name. `key` knows where the API's key comes from; `fault` is how all of them complain. Every fault is collected, so
//! that one run of `check` is enough.

mod checks;
mod fault;
mod file;
mod folders;
mod globs;
mod key;
mod kind;
mod layers;
mod presence;
mod raw;
mod schema;
mod settings;
#[cfg(test)]
mod tests;
mod units;
mod validate;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

pub use fault::{Fault, Faults, Place, Warning};
pub use folders::real;
pub use globs::Patterns;
pub use key::{ApiKey, KeyError, KeySource};
pub use settings::{
    Account, AfterFailure, AfterUpload, Auth, Config, DEFAULT_ACCOUNT, Existing, FinishPlaces, Folder,
    FollowSymlinks, Listen, Log, LogFormat, PURPOSES, PartSize, Preflight, Query, Receipt, Retry, Settle,
    Status, Store, Upload, WatchMode,
};

use layers::Places;

/// What is asked for the configuration: `--config` and the environment.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// `--config FILE`.
    pub config_flag: Option<PathBuf>,
    /// All variables: `UPSPOOL__…`, `OPENAI_…`, `XDG_…`, `HOME`, `CREDENTIALS_DIRECTORY`,
    /// `STATE_DIRECTORY` are looked at.
    pub env: BTreeMap<OsString, OsString>,
}

/// What the command line lays over everything.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// `--watch DIR --purpose P`: this folder alone; the file's folders are not looked at.
    pub watch: Option<(PathBuf, String)>,
    /// `--state-dir DIR`.
    pub state_dir: Option<PathBuf>,
}

/// Reads the configuration. No file at all is a configuration too: the defaults without a folder.
///
/// What lies outside the configuration is not looked at here, so that `list` works where the key
/// cannot be read: see [`Config::check`].
///
/// # Errors
///
/// All that is wrong with it, in the order of the file.
pub fn load(sources: &Sources, overrides: &Overrides) -> Result<Config, Faults> {
    let mut faults = Vec::new();
    let source = layers::find_file(sources, &mut faults);
    let mut places = Places::new(source.clone());
    let text = match source.as_deref().map(std::fs::read_to_string) {
        Some(Ok(text)) => text,
        Some(Err(why)) => {
            faults.push(Fault::new(places.of(""), "", format!("cannot be read: {why}")));
            String::new()
        }
        None => String::new(),
    };
    let with_folders = overrides.watch.is_none();
    let path = source.as_deref().unwrap_or_else(|| "".as_ref());
    let file = file::read(path, &text, with_folders, &mut places, &mut faults);
    let env = layers::read_environment(&sources.env, &mut places, &mut faults);
    let sdk = layers::read_sdk_variables(sources, &mut places, &mut faults);
    let config = layers::merge(sdk, file, env, &places, &mut faults)
        .map(|raw| validate::validate(raw, source, sources, overrides, &places, &mut faults));
    faults.sort_by_key(|fault| file::line_of(&fault.place));
    match config {
        Some(config) if faults.is_empty() => Ok(config),
        _ => Err(Faults(faults)),
    }
}

impl Sources {
    /// The variables of this process.
    pub fn of_process(config_flag: Option<PathBuf>) -> Self {
        Self { config_flag, env: std::env::vars_os().collect() }
    }

    /// A variable as a path; empty is unset.
    fn path(&self, variable: &str) -> Option<PathBuf> {
        let value = self.env.get(OsStr::new(variable)).filter(|value| !value.is_empty())?;
        Some(PathBuf::from(value))
    }

    /// One of the XDG base directories, which count only if absolute; else a place under `$HOME`.
    fn base_directory(&self, variable: &str, under_home: &str) -> Option<PathBuf> {
        let named = self.path(variable).filter(|path| path.is_absolute());
        named.or_else(|| Some(self.path("HOME")?.join(under_home)))
    }
}
