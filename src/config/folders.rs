//! The folders: built, and compared with each other.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use super::checks;
use super::fault::{Fault, Place, Warning};
use super::globs::Patterns;
use super::layers::{Places, nearest};
use super::raw::{AutoOr, RawFolder, RawReceipt};
use super::settings::{
    Account, AfterFailure, AfterUpload, DEFAULT_ACCOUNT, Existing, Folder, PURPOSES, Preflight, Receipt,
    Settle, Store, WatchMode,
};
use super::units::Time;
use super::validate::or;

/// The folders of the file. One without a path is left out; the schema has complained.
pub(super) fn from_file(
    said: Vec<RawFolder>,
    accounts: &BTreeMap<String, Account>,
    places: &Places,
    faults: &mut Vec<Fault>,
    warnings: &mut Vec<Warning>,
) -> Vec<Folder> {
    let mut folders = Vec::new();
    for (index, said) in said.into_iter().enumerate() {
        let prefix = format!("folder[{index}]");
        let place = |key: &str| places.of(&format!("{prefix}.{key}"));
        if let Some(account) = &said.account
            && !accounts.contains_key(account)
            // An account that is at fault was complained of already.
            && !places.said(&format!("accounts.{account}"))
        {
            let hint = match nearest(account, accounts.keys().map(String::as_str)) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => format!("add [accounts.{account}]"),
            };
            faults.push(
                Fault::new(place("account"), "folder.account", format!("there is no account \"{account}\""))
                    .remedy(hint),
            );
        }
        let Some(path) = said.path.clone() else { continue };
        folders.extend(build(said, &path, place("path"), &place("purpose"), faults, warnings));
    }
    folders
}

/// The folder of `--watch DIR --purpose P`, with the defaults for all else.
pub(super) fn from_flags(
    path: &Path,
    purpose: &str,
    faults: &mut Vec<Fault>,
    warnings: &mut Vec<Warning>,
) -> Option<Folder> {
    let (place, purpose_place) = (Place::Flag("--watch"), Place::Flag("--purpose"));
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    // A shell's `../drop` is common, and files are known by one spelling of their path.
    let climbs = absolute.components().any(|part| part == Component::ParentDir);
    let absolute = if climbs { real(&absolute) } else { absolute };
    let wrong = if purpose.is_empty() { Err("is empty".into()) } else { checks::purpose(purpose) };
    if let Err(why) = wrong {
        faults.push(
            Fault::new(purpose_place.clone(), "", format!("\"{purpose}\" {why}")).remedy("for example batch"),
        );
    }
    let said = RawFolder { purpose: Some(purpose.to_owned()), ..RawFolder::default() };
    build(said, &absolute, place, &purpose_place, faults, warnings)
}

/// Folders that hold each other, bear one name, or lie in the state directory: each file has one
/// folder, and what the service writes is never taken for a file.
///
/// `resolve` is [`spelt`] when the configuration is read, so that a network file system that hangs
/// does not keep `status` from answering, and [`real`] before the service runs.
pub(super) fn check_overlap(
    folders: &[Folder],
    store: &Store,
    resolve: fn(&Path) -> PathBuf,
    faults: &mut Vec<Fault>,
) {
    let reals: Vec<PathBuf> = folders.iter().map(|folder| resolve(&folder.path)).collect();
    let state_dir = &store.state_dir;
    let state_real = resolve(state_dir);
    for (index, (folder, here)) in folders.iter().zip(&reals).enumerate() {
        let mut fault = |key: &str, message: String, remedy: &str| {
            faults.push(Fault::new(folder.place.clone(), key, message).remedy(remedy));
        };
        for (other, there) in folders.iter().zip(&reals).take(index) {
            let (this_path, other_path) = (folder.path.display(), other.path.display());
            if here == there {
                fault(
                    "folder.path",
                    format!("{this_path} is the same directory as {other_path}"),
                    "watch it once",
                );
            } else if here.starts_with(there) {
                fault(
                    "folder.path",
                    format!("{this_path} lies in the folder {other_path}"),
                    "no folder may hold another",
                );
            } else if there.starts_with(here) {
                fault(
                    "folder.path",
                    format!("{this_path} holds the folder {other_path}"),
                    "no folder may hold another",
                );
            }
            if folder.name == other.name {
                let message = format!("\"{}\" is the name of {other_path} too", folder.name);
                fault("folder.name", message, &format!("give {this_path} another name"));
            }
        }
        if !state_dir.as_os_str().is_empty() && here.starts_with(&state_real) {
            let verb = if *here == state_real { "is" } else { "holds" };
            let message = format!("{} {verb} the folder {}", state_dir.display(), folder.path.display());
            faults.push(
                Fault::new(store.place.clone(), "store.state_dir", message)
                    .remedy("keep the state elsewhere"),
            );
        }
    }
}

fn build(
    said: RawFolder,
    path: &Path,
    place: Place,
    purpose_place: &Place,
    faults: &mut Vec<Fault>,
    warnings: &mut Vec<Warning>,
) -> Option<Folder> {
    let purpose = said.purpose.unwrap_or_default();
    if !purpose.is_empty() && !PURPOSES.contains(&purpose.as_str()) {
        let message = format!("\"{purpose}\" is not one of {}", PURPOSES.join(", "));
        let warning = Fault::new(purpose_place.clone(), "folder.purpose", message);
        warnings.push(Warning(warning.remedy("it is sent as it stands")));
    }
    let own_name = path.file_name().map(|name| name.to_string_lossy().into_owned());
    let name = said.name.or_else(|| own_name.filter(|name| checks::folder_name(name).is_ok()));
    let Some(name) = name else {
        let message = format!("{} has no name that could be the folder's", path.display());
        faults.push(Fault::new(place, "folder.name", message).remedy("say name = \"…\""));
        return None;
    };
    let mut patterns = |key: &str, said: Option<Vec<String>>, default: &[&str]| {
        let written = said.unwrap_or_else(|| default.iter().map(|&pattern| pattern.to_owned()).collect());
        // Each pattern was seen to parse; together they may still be too large.
        Patterns::new(written)
            .map_err(|why| faults.push(Fault::new(place.clone(), format!("folder.{key}"), why.to_string())))
            .ok()
    };
    Some(Folder {
        name,
        // One spelling: no doubled slash, no dot, no slash at the end.
        path: spelt(path),
        purpose,
        account: said.account.unwrap_or_else(|| DEFAULT_ACCOUNT.to_owned()),
        recursive: said.recursive.unwrap_or(true),
        watch: said.watch.unwrap_or(WatchMode::Auto),
        poll_interval: or(said.poll_interval, Duration::from_secs(10)),
        rescan_interval: or(said.rescan_interval, Duration::from_secs(600)),
        include: patterns("include", said.include, &["**"])?,
        exclude: patterns("exclude", said.exclude, &[])?,
        hidden: said.hidden.unwrap_or(false),
        follow_symlinks: said.follow_symlinks.unwrap_or(false),
        existing: said.existing.unwrap_or(Existing::Auto),
        settle: match said.settle {
            Some(AutoOr::Is(Time(time))) => Settle::Quiet(time),
            Some(AutoOr::Auto(_)) | None => Settle::Auto,
        },
        mime_type: said.mime_type,
        expires_after: said.expires_after.map(|Time(time)| time),
        // "warn", once it is in force.
        preflight: said.preflight.unwrap_or(Preflight::Off),
        dedupe: said.dedupe.unwrap_or(false),
        after_upload: said.after_upload.unwrap_or(AfterUpload::Keep),
        after_failure: said.after_failure.unwrap_or(AfterFailure::Keep),
        receipt: match said.receipt {
            Some(RawReceipt::In { dir }) => Receipt::In(dir),
            Some(RawReceipt::Beside(true)) => Receipt::Beside,
            Some(RawReceipt::Beside(false)) | None => Receipt::None,
        },
        on_stored: said.on_stored.unwrap_or_default(),
        on_failed: said.on_failed.unwrap_or_default(),
        hook_timeout: or(said.hook_timeout, Duration::from_secs(60)),
        place,
    })
}

/// The path as it is written.
pub(super) fn spelt(path: &Path) -> PathBuf {
    path.components().collect()
}

/// The path without symbolic links, as far as it exists.
pub(super) fn real(path: &Path) -> PathBuf {
    for ancestor in path.ancestors() {
        if let (Ok(found), Ok(rest)) = (ancestor.canonicalize(), path.strip_prefix(ancestor)) {
            return if rest.as_os_str().is_empty() { found } else { found.join(rest) };
        }
    }
    path.to_owned()
}
