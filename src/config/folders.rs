//! The folders: built, and compared with each other.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use super::checks;
use super::fault::{Fault, Place, Warning};
use super::globs::Patterns;
use super::layers::{Places, nearest};
use super::raw::{AutoOr, RawFolder, RawLinks, RawReceipt};
use super::settings::{
    Account, AfterFailure, AfterUpload, DEFAULT_ACCOUNT, Existing, FinishPlaces, Folder, FollowSymlinks,
    PURPOSES, Preflight, Receipt, Settle, Store, WatchMode,
};
use super::units::Time;
use super::validate::or;
use crate::text::setting;

/// The folders of the file. One without a path is left out; the schema has complained.
pub(super) fn from_file(
    said: Vec<RawFolder>,
    accounts: &BTreeMap<String, Account>,
    checksum: bool,
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
        check_finish(&said, checksum, &place, faults, warnings);
        check_links(&said, &place, faults, warnings);
        let places = FinishPlaces { on_stored: place("on_stored"), on_failed: place("on_failed") };
        let built = build(said, &path, place("path"), &place("purpose"), faults, warnings);
        folders.extend(built.map(|folder| Folder { finish_places: places, ..folder }));
    }
    folders
}

/// What is to be done after the end of a job: whether it can be, and whether it is safe.
fn check_finish(
    said: &RawFolder,
    checksum: bool,
    place: &dyn Fn(&str) -> Place,
    faults: &mut Vec<Fault>,
    warnings: &mut Vec<Warning>,
) {
    let moved_to = |key: &'static str, to: Option<&PathBuf>| (key, to.cloned());
    let after_upload = match &said.after_upload {
        Some(AfterUpload::Move(to)) => Some(to),
        _ => None,
    };
    let after_failure = match &said.after_failure {
        Some(AfterFailure::Move(to)) => Some(to),
        _ => None,
    };
    let receipts = match &said.receipt {
        Some(RawReceipt::In { dir }) => Some(dir),
        _ => None,
    };
    let directories = [
        moved_to("after_upload", after_upload),
        moved_to("after_failure", after_failure),
        moved_to("receipt", receipts),
    ];
    for (key, directory) in directories {
        let Some(directory) = directory else { continue };
        if let Err(why) = checks::directory_in_or_out(&directory) {
            let message = format!("{} {why}", directory.display());
            faults.push(
                Fault::new(place(key), format!("folder.{key}"), message)
                    .remedy("say a directory in the folder, as \"done\", or an absolute one"),
            );
        }
    }
    if said.after_upload == Some(AfterUpload::Delete) {
        let at = || (place("after_upload"), "folder.after_upload");
        if !checksum {
            let (place, key) = at();
            faults.push(
                Fault::new(place, key, "\"delete\" needs [upload] checksum = true: only then has the server said that it has these bytes")
                    .remedy("take checksum = false out, or say { move = \"done\" }"),
            );
        }
        let life = match (&said.expires_after, said.purpose.as_deref()) {
            (Some(Time(life)), _) => Some(setting(*life)),
            // By the server's own rule.
            (None, Some("batch")) => Some("30days".to_owned()),
            (None, _) => None,
        };
        if let Some(life) = life {
            let (place, key) = at();
            let message = format!(
                "the File expires {life} after it is made, and with it the last copy of a deleted file"
            );
            warnings.push(Warning(Fault::new(place, key, message).remedy("{ move = \"done\" } keeps it")));
        }
    }
    for (key, command) in [("on_stored", &said.on_stored), ("on_failed", &said.on_failed)] {
        let Some(program) = command.as_ref().and_then(|command| command.first()) else { continue };
        if !Path::new(program).is_absolute() {
            faults.push(
                Fault::new(
                    place(key),
                    format!("folder.{key}"),
                    format!("\"{program}\" is not an absolute path"),
                )
                .remedy("name the program by its whole path; no shell reads this"),
            );
        }
    }
}

/// What following links may give away, and what it cannot go together with.
fn check_links(
    said: &RawFolder,
    place: &dyn Fn(&str) -> Place,
    faults: &mut Vec<Fault>,
    warnings: &mut Vec<Warning>,
) {
    let key = "folder.follow_symlinks";
    if matches!(said.follow_symlinks, None | Some(RawLinks::Inside(false))) {
        return;
    }
    if matches!(said.follow_symlinks, Some(RawLinks::Anywhere(_))) {
        let message = "who may write to this folder can have any file sent that the service may read";
        let warning = Fault::new(place("follow_symlinks"), key, message);
        warnings.push(Warning(warning.remedy("say true if the links lead to files in the folder")));
    }
    let keeps = said.after_upload.as_ref().is_none_or(|after| *after == AfterUpload::Keep)
        && said.after_failure.as_ref().is_none_or(|after| *after == AfterFailure::Keep);
    if !keeps {
        let message =
            "does not go with files that are moved or deleted: a link is not the file that was sent";
        let fault = Fault::new(place("follow_symlinks"), key, message);
        faults.push(fault.remedy("say false, or keep the files"));
    }
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
        for (key, target) in folder.targets() {
            let (there, path) = (resolve(&target), target.display().to_string());
            let held = reals.iter().zip(folders).find(|(real, _)| real.starts_with(&there));
            if let Some((real, other)) = held {
                let verb = if *real == there { "is" } else { "holds" };
                fault(
                    key,
                    format!("{path} {verb} the folder {}", other.path.display()),
                    "name a directory of its own",
                );
            }
        }
        let receipts = |folder: &Folder| match &folder.receipt {
            Receipt::In(dir) => Some(resolve(&folder.path.join(dir))),
            _ => None,
        };
        for other in &folders[..index] {
            if let (Some(mine), Some(theirs)) = (receipts(folder), receipts(other))
                && mine == theirs
            {
                let (mine, theirs) = (mine.display(), other.path.display());
                fault(
                    "folder.receipt",
                    format!(
                        "{mine} takes the receipts of {theirs} too, and files of one name would share one"
                    ),
                    "give each folder a directory of its own",
                );
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
        follow_symlinks: match said.follow_symlinks {
            Some(RawLinks::Inside(true)) => FollowSymlinks::Inside,
            Some(RawLinks::Anywhere(_)) => FollowSymlinks::Anywhere,
            Some(RawLinks::Inside(false)) | None => FollowSymlinks::No,
        },
        existing: said.existing.unwrap_or(Existing::Auto),
        settle: match said.settle {
            Some(AutoOr::Is(Time(time))) => Settle::Quiet(time),
            Some(AutoOr::Auto(_)) | None => Settle::Auto,
        },
        mime_type: said.mime_type,
        expires_after: said.expires_after.map(|Time(time)| time),
        preflight: said.preflight.unwrap_or(Preflight::Warn),
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
        finish_places: FinishPlaces::default(),
    })
}

/// The path as it is written.
pub(super) fn spelt(path: &Path) -> PathBuf {
    path.components().collect()
}

/// The path without symbolic links, as far as it exists. Blocks.
pub fn real(path: &Path) -> PathBuf {
    for ancestor in path.ancestors() {
        if let (Ok(found), Ok(rest)) = (ancestor.canonicalize(), path.strip_prefix(ancestor)) {
            return if rest.as_os_str().is_empty() { found } else { found.join(rest) };
        }
    }
    path.to_owned()
}
