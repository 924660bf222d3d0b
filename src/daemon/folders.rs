//! What the watching hand and the intake are told of each folder, from its configuration and its row.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::clock::Clock;
use crate::config::{self, Config};
use crate::engine::Message;
use crate::engine::intake::{self, Existing, Intake};
use crate::engine::vitals::Vitals;
use crate::model::job::{AccountName, JobId};
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
    vitals: &Arc<Vitals>,
) -> Result<(Intake, intake::Hints, JoinHandle<()>), PatternError> {
    let mut settle = Settle::new();
    let (mut specs, mut folders) = (Vec::new(), Vec::new());
    for ((key, folder), row) in (0u32..).map(FolderKey).zip(&config.folders).zip(rows) {
        settle.set_rule(key, quiet_of(folder, folder.watch != config::WatchMode::Poll));
        let inner =
            config.folders.iter().filter(|other| other.path != folder.path).map(|other| other.path.clone());
        specs.push(spec_of(key, folder, std::iter::once(config.store.state_dir.clone()).chain(inner))?);
        let account = config.accounts.get(&folder.account);
        folders.push(intake::Folder {
            id: row.id,
            name: folder.name.clone(),
            path: folder.path.clone(),
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
        vitals: vitals.clone(),
    });
    Ok((intake, hints, task))
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
