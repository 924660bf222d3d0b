//! What the watching hand and the intake are told of each folder, from its configuration and its row.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::beneath::Links;
use crate::clock::Clock;
use crate::config::{self, Config};
use crate::engine::finish::Finish;
use crate::engine::intake::{self, Existing, Intake};
use crate::engine::metrics::Metrics;
use crate::engine::vitals::Vitals;
use crate::engine::why::Place;
use crate::engine::{self, Message};
use crate::hook;
use crate::model::examine::Examination;
use crate::model::finish::{self, Fate, Plan};
use crate::model::job::{AccountName, JobId};
use crate::model::preflight::Preflight;
use crate::model::settle::{FolderKey, Quiet, Settle};
use crate::store::{FolderRow, Store, Writer};
use crate::text::shown;
use crate::watch::ignore::{PatternError, TakeRules};
use crate::watch::{FolderSpec, Watch, WatchMode};

/// Notices of the watching hand that wait at most; back-pressure reaches the scan.
const NOTICES: usize = 8;

/// What becomes of what lies in a folder when it is first watched.
pub(super) fn existing(folder: &config::Folder, row: &FolderRow) -> Existing {
    match folder.existing {
        _ if row.scanned => Existing::Met,
        config::Existing::Skip => Existing::Skip,
        config::Existing::Upload => Existing::Upload,
        // Paused already, by a person or for what lay there.
        config::Existing::Auto if row.paused => Existing::Upload,
        config::Existing::Auto => Existing::Guard,
    }
}

/// What is looked at before a file of this folder is sent.
pub(super) fn examination(folder: &config::Folder) -> Examination {
    Examination {
        preflight: match folder.preflight {
            config::Preflight::Off => Preflight::Off,
            config::Preflight::Warn => Preflight::Warn,
            config::Preflight::Reject => Preflight::Reject,
        },
        dedupe: folder.dedupe,
    }
}

#[expect(clippy::too_many_arguments, reason = "wires one hand to the rest of the house")]
/// Starts to watch, and makes the intake that hears of it.
///
/// # Errors
/// If a pattern of a folder is none.
pub(super) fn watch(
    config: &Config,
    rows: &[FolderRow],
    store: &Store,
    writer: &Writer,
    engine: &mpsc::Sender<Message>,
    clock: &Clock,
    once: &Option<mpsc::UnboundedSender<JobId>>,
    unwatch: &CancellationToken,
    finish: &Finish,
    vitals: &Arc<Vitals>,
    metrics: &Arc<Metrics>,
) -> Result<(Intake, intake::Hints, JoinHandle<()>), PatternError> {
    let mut settle = Settle::new();
    let (mut specs, mut folders) = (Vec::new(), Vec::new());
    for ((key, folder), row) in (0u32..).map(FolderKey).zip(&config.folders).zip(rows) {
        settle.set_rule(key, quiet_of(folder, folder.watch != config::WatchMode::Poll));
        specs.push(spec_of(key, folder, excluded(config, folder))?);
        let account = config.accounts.get(&folder.account);
        folders.push(intake::Folder {
            id: row.id,
            name: folder.name.clone(),
            path: folder.path.clone(),
            links: links_of(folder),
            purpose: folder.purpose.clone(),
            mime_type: folder.mime_type.clone(),
            expires_after: folder.expires_after.map(|life| life.as_secs()),
            account: AccountName(folder.account.clone()),
            base_url: account.map(|account| account.base_url.clone()).unwrap_or_default(),
            project: account.and_then(|account| account.project.clone()),
            existing: existing(folder, row),
            settles_by_state: folder.settle == config::Settle::Auto,
        });
        info!(
            event = "folder",
            folder = folder.name,
            path = shown(&folder.path),
            account = folder.account,
            purpose = folder.purpose,
            "watching"
        );
    }
    let (notices, hear) = mpsc::channel(NOTICES);
    let time = clock.clone();
    let (watch, task) = Watch::start(specs, Arc::new(move || time.now()), notices, unwatch.clone());
    let (intake, hints) = Intake::new(intake::Parts {
        folders,
        settle,
        watch,
        notices: hear,
        store: store.clone(),
        writer: writer.clone(),
        engine: engine.clone(),
        clock: clock.clone(),
        once: once.clone(),
        finish: finish.clone(),
        vitals: vitals.clone(),
        metrics: metrics.clone(),
    });
    Ok((intake, hints, task))
}

/// What whoever asks why a file is not uploaded has to know of each folder.
///
/// # Errors
/// If a pattern of a folder is none.
pub fn places(config: &Config, rows: &[FolderRow]) -> Result<Vec<Place>, PatternError> {
    let folders = (0u32..).map(FolderKey).zip(&config.folders);
    folders
        .map(|(key, folder)| {
            Ok(Place {
                name: folder.name.clone(),
                id: rows.iter().find(|row| row.path == folder.path).map(|row| row.id),
                spec: spec_of(key, folder, excluded(config, folder))?,
                quiet: quiet_of(folder, folder.watch != config::WatchMode::Poll),
            })
        })
        .collect()
}

/// Which symbolic links in a folder are followed.
pub fn links_of(folder: &config::Folder) -> Links {
    match folder.follow_symlinks {
        config::FollowSymlinks::No => Links::None,
        config::FollowSymlinks::Inside => Links::Beneath,
        config::FollowSymlinks::Anywhere => Links::Anywhere,
    }
}

/// Directories that are not part of a folder although they lie in it: the state, and whatever the service itself fills. Only
/// those: each is looked at with every scan, and one on a file server that hangs must keep back no other folder. Where links
/// are followed anywhere, each lies in the folder as soon as somebody makes one.
pub fn excluded(config: &Config, folder: &config::Folder) -> Vec<PathBuf> {
    let targets = config.folders.iter().flat_map(config::Folder::targets).map(|(_, target)| target);
    let others = std::iter::once(config.store.state_dir.clone()).chain(targets);
    let root = config::real(&folder.path);
    let anywhere = folder.follow_symlinks == config::FollowSymlinks::Anywhere;
    others
        .filter(|other| anywhere || other.starts_with(&folder.path) || config::real(other).starts_with(&root))
        .collect()
}

/// What a folder wants done with jobs that ended.
pub fn plan_of(config: &Config, folder: &config::Folder) -> Plan {
    let place = |to: &PathBuf| {
        let below = |root: &Path| to.strip_prefix(root).ok().map(Path::to_owned);
        let other = config.folders.iter().find_map(|other| Some((other.path.clone(), below(&other.path)?)));
        match (below(&folder.path), other) {
            _ if to.is_relative() => finish::Place::InFolder(to.clone()),
            // Where others can write, whatever the name by which it was said.
            (Some(inside), _) => finish::Place::InFolder(inside),
            (None, Some((root, inside))) => finish::Place::Below(root, inside),
            (None, None) => finish::Place::At(to.clone()),
        }
    };
    Plan {
        after_upload: match &folder.after_upload {
            config::AfterUpload::Keep => Fate::Keep,
            config::AfterUpload::Delete => Fate::Delete,
            config::AfterUpload::Move(to) => Fate::Move(place(to)),
        },
        after_failure: match &folder.after_failure {
            config::AfterFailure::Keep => Fate::Keep,
            config::AfterFailure::Move(to) => Fate::Move(place(to)),
        },
        receipt: match &folder.receipt {
            config::Receipt::None => finish::Receipt::None,
            config::Receipt::Beside => finish::Receipt::Beside,
            config::Receipt::In(to) => finish::Receipt::In(place(to)),
        },
        on_stored: folder.on_stored.clone(),
        on_failed: folder.on_failed.clone(),
        hook_timeout: folder.hook_timeout,
    }
}

/// The programs that may not be run as they are; one fault each.
pub fn check_hooks(config: &Config) -> Vec<config::Fault> {
    // Whoever asks may be another than the service's user, to whom its state belongs.
    let service = std::fs::metadata(&config.store.state_dir).ok().map(|found| found.uid());
    let hooks = config.folders.iter().flat_map(config::Folder::hooks);
    hooks
        .filter_map(|(key, program, place)| {
            let why = hook::check(Path::new(program), service).err()?;
            Some(config::Fault::new(place.clone(), key, why.to_string()))
        })
        .collect()
}

/// What the end of jobs has to know of each folder.
pub(super) fn finish(config: &Config, rows: &[FolderRow]) -> Finish {
    let folders = config.folders.iter().zip(rows).map(|(folder, row)| {
        let (name, path, plan) = (folder.name.clone(), folder.path.clone(), plan_of(config, folder));
        (row.id, engine::finish::Folder { name, path, plan })
    });
    Finish::new(folders.collect())
}

/// What the watching hand has to know of a folder; `others` are directories that are not part of it.
///
/// # Errors
/// If a pattern is none; the configuration has refused it before.
pub fn spec_of(
    key: FolderKey,
    folder: &config::Folder,
    others: impl IntoIterator<Item = PathBuf>,
) -> Result<FolderSpec, PatternError> {
    Ok(FolderSpec {
        key,
        path: folder.path.clone(),
        recursive: folder.recursive,
        links: links_of(folder),
        watch: match folder.watch {
            config::WatchMode::Auto => WatchMode::Auto,
            config::WatchMode::Events => WatchMode::Events,
            config::WatchMode::Poll => WatchMode::Poll,
        },
        poll_interval: folder.poll_interval,
        rescan_interval: folder.rescan_interval,
        rules: TakeRules::new(&folder.include.written, &folder.exclude.written, folder.hidden)?,
        excluded: others.into_iter().collect(),
    })
}

/// The quiet times in force for a folder that is watched by events, or is not.
pub fn quiet_of(folder: &config::Folder, by_events: bool) -> Quiet {
    match folder.settle {
        config::Settle::Auto if by_events => Quiet::DEFAULT,
        config::Settle::Auto => Quiet::POLLING,
        config::Settle::Quiet(quiet) => Quiet::fixed(quiet),
    }
}
