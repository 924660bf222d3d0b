//! Rows whose file was deleted cease to speak for their path, so that the same file dropped again is sent again.
//!
//! After a complete scan the folder's rows are gone through, page by page, and each path is looked at. What a missing file
//! means, [`crate::model::presence`] says: on ground that is not known to be the same as before, nothing.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::task::{JoinError, spawn_blocking};
use tracing::{debug, error, info, warn};

use super::{Folder, Intake};
use crate::engine::vitals::Whereabouts;
use crate::model::job::{Code, JobId, State};
use crate::model::presence::{Identity, Places, Recorded, Standing};
use crate::model::settle::FolderKey;
use crate::model::time::Boot;
use crate::model::watchdog::Await;
use crate::store::{Present, Store, Write, Writer};
use crate::text::shown;
use crate::watch::{Met, Scanned, meet, standings};

/// Rows looked at in one go.
const PAGE: usize = 500;

/// A pass over a million rows takes seconds, and a folder may be scanned every ten: so much longer than the last pass took
/// it is until the next.
const REST: u32 = 20;

/// A file that is missing is looked at once more after this: who replaces a file or a directory may have it away for a moment.
const TWICE: Duration = Duration::from_millis(200);

/// The scan's own files become rows first, by which the ground is known later; one that is written to for long does not
/// keep the rest.
const FILES_FIRST: Duration = Duration::from_secs(60);

/// Where a folder is with this.
#[derive(Default)]
pub(super) struct Turn {
    /// A complete scan found these mounts, at this time, and no pass was made since.
    owed: Option<(Vec<PathBuf>, Boot)>,
    under_way: bool,
    not_before: Boot,
    began: Boot,
    /// What was said to lie where something else should.
    said: HashMap<PathBuf, Option<Identity>>,
}

/// A pass has ended, well or not. None: the store cannot be read any more.
pub(super) type Ended = (FolderKey, Result<Option<Passed>, JoinError>);

/// What a pass found.
#[derive(Default)]
pub(super) struct Passed {
    /// Rows that speak for their path no longer.
    retired: Vec<(JobId, PathBuf)>,
    /// How many these were; only some are named.
    count: u64,
    /// Places where something else lies than before.
    strange: HashMap<PathBuf, Option<Identity>>,
}

/// What a pass works with.
struct Pass {
    folder: Folder,
    mounts: Vec<PathBuf>,
    store: Store,
    writer: Writer,
    here: Whereabouts,
}

impl Intake {
    /// A scan has ended. Whether it means anything that files were not met.
    pub(super) fn owe_absence(&mut self, scanned: &Scanned) {
        if let Some(mounts) = scanned.mounts.clone().filter(|_| scanned.complete) {
            let turn = self.absence.entry(scanned.folder).or_default();
            let since = turn.owed.take().map_or(self.parts.clock.now().boot, |(_, since)| since);
            turn.owed = Some((mounts, since));
        }
    }

    /// Whether a pass is owed or under way.
    pub(super) fn is_absence_open(&self) -> bool {
        self.absence.values().any(|turn| turn.under_way || turn.owed.is_some())
    }

    /// When the next pass is due.
    pub(super) fn next_absence(&self) -> Option<Boot> {
        let now = self.parts.clock.now().boot;
        let waiting = self.absence.values().filter(|turn| !turn.under_way);
        let due = waiting.filter_map(|turn| {
            let since = turn.owed.as_ref()?.1;
            Some(if turn.not_before > now { turn.not_before } else { since + FILES_FIRST })
        });
        due.min()
    }

    /// Starts the passes that are due: one for each folder at a time.
    pub(super) fn start_absences(&mut self) {
        let now = self.parts.clock.now().boot;
        for (key, turn) in &mut self.absence {
            let Some((_, since)) = turn.owed else { continue };
            let looked_at =
                self.looking.get(key).is_some_and(|(under_way, files)| *under_way > 0 || !files.is_empty());
            let busy = looked_at || !self.compares.is_empty() || self.parts.settle.has(*key);
            if turn.under_way || turn.not_before > now || (busy && now.since(since) < FILES_FIRST) {
                continue;
            }
            let folder = usize::try_from(key.0).ok().and_then(|index| self.parts.folders.get(index));
            let (Some(folder), Some((mounts, _))) = (folder, turn.owed.take()) else { continue };
            (turn.under_way, turn.began) = (true, now);
            let here =
                self.parts.vitals.enter(format!("a look for deleted files in {}", shown(&folder.path)));
            let (store, writer) = (self.parts.store.clone(), self.parts.writer.clone());
            let pass = Pass { folder: folder.clone(), mounts, store, writer, here };
            let key = *key;
            // A task of its own, so that a panic of it is known to be this folder's.
            self.absences.spawn(async move { (key, tokio::spawn(pass.run()).await) });
        }
    }

    /// Says what a pass found.
    pub(super) fn absence_passed(&mut self, (key, ended): Ended) {
        let now = self.parts.clock.now().boot;
        let Some(folder) = self.folder(key).cloned() else { return };
        let Some(turn) = self.absence.get_mut(&key) else { return };
        turn.under_way = false;
        turn.not_before = now + now.since(turn.began).saturating_mul(REST);
        let passed = match ended {
            Ok(passed) => passed.unwrap_or_default(),
            Err(fault) => {
                turn.not_before = now + Duration::from_secs(60);
                error!(
                    event = "failed",
                    folder = folder.name,
                    code = Code::Internal.as_str(),
                    "looking for deleted files: {fault}"
                );
                return;
            }
        };
        for (job, path) in &passed.retired {
            let path = shown(&folder.path.join(path));
            debug!(event = "deleted", job = job.0, folder = folder.name, path, "its file was deleted");
        }
        if passed.count > 0 {
            info!(
                event = "deleted",
                folder = folder.name,
                "{} files were deleted; dropped again, they are sent again",
                passed.count
            );
        }
        for (place, identity) in &passed.strange {
            if turn.said.get(place) != Some(identity) {
                let path = shown(&folder.path.join(place));
                warn!(
                    event = "folder-replaced",
                    folder = folder.name,
                    path,
                    "another directory lies there than before: is something not mounted? What is missing in it does not \
                     count as deleted until a file of before is met there"
                );
            }
        }
        turn.said = passed.strange;
    }
}

impl Pass {
    async fn run(self) -> Option<Passed> {
        let recorded = self.recorded().await?;
        let now = self.standings(&recorded).await?;
        let mut places = Places::new(&recorded, &now);
        let mut after = None;
        // On strange ground first of all whether any file of before is met there.
        while places.is_open() {
            let Some((rows, met)) = self.page(after.as_deref()).await? else { break };
            count(&mut places, &rows, &met);
            after = rows.last().map(|row| row.path.clone());
        }
        let mut passed = Passed::default();
        let mut after = None;
        while now.keys().any(|place| places.is_proven(place)) {
            let Some((rows, met)) = self.page(after.as_deref()).await? else { break };
            after = rows.last().map(|row| row.path.clone());
            // Unmounted meanwhile: nothing of this counts.
            if !self.standings(&recorded).await?.iter().all(|(place, then)| is_still(now.get(place), then)) {
                return Some(passed);
            }
            count(&mut places, &rows, &met);
            let mut missing: Vec<Present> = rows
                .into_iter()
                .zip(met)
                .filter(|(row, met)| {
                    may_be_deleted(row) && *met == Met::Nothing && places.is_proven(&row.path)
                })
                .map(|(row, _)| row)
                .collect();
            if !missing.is_empty() {
                tokio::time::sleep(TWICE).await;
                let Some(met) = self.meet(&missing).await? else { return Some(passed) };
                let mut met = met.into_iter();
                missing.retain(|_| met.next() == Some(Met::Nothing));
            }
            for row in missing {
                self.writer.send(Write::Retire(row.job));
                passed.count += 1;
                if passed.retired.len() < PAGE {
                    passed.retired.push((row.job, row.path));
                }
            }
        }
        for change in places.changes(&self.mounts) {
            self.writer.send(Write::Place { folder: self.folder.id, change: Box::new(change) });
        }
        passed.strange = places.strange().map(|(place, identity)| (place.to_path_buf(), identity)).collect();
        Some(passed)
    }

    async fn recorded(&self) -> Option<BTreeMap<PathBuf, Recorded>> {
        self.here.at(Await::Store);
        let read = || self.store.places(self.folder.id);
        self.writer.read("reading where files lay", read).await
    }

    /// The next rows and what lies at their paths. The inner one is nothing at the end, or where the folder is away.
    async fn page(&self, after: Option<&Path>) -> Option<Option<(Vec<Present>, Vec<Met>)>> {
        self.here.at(Await::Store);
        let read = || self.store.present(self.folder.id, after, PAGE);
        let rows = self.writer.read("reading which files are known", read).await?;
        if rows.is_empty() {
            return Some(None);
        }
        Some(self.meet(&rows).await?.map(|met| (rows, met)))
    }

    /// What lies at the paths of rows. The inner one is nothing where the folder is away.
    async fn meet(&self, rows: &[Present]) -> Option<Option<Vec<Met>>> {
        let paths: Vec<PathBuf> = rows.iter().map(|row| row.path.clone()).collect();
        let (root, links) = (self.folder.path.clone(), self.folder.links);
        let met = self.blocking(move || meet(&root, &paths, links)).await?;
        self.here.got_on();
        Some(met)
    }

    async fn standings(
        &self,
        recorded: &BTreeMap<PathBuf, Recorded>,
    ) -> Option<BTreeMap<PathBuf, Option<Standing>>> {
        let mut places = self.mounts.clone();
        places.extend(recorded.keys().cloned());
        places.push(PathBuf::new());
        let root = self.folder.path.clone();
        self.blocking(move || standings(&root, places.iter().map(PathBuf::as_path))).await
    }

    async fn blocking<T: Send + 'static>(&self, look: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        self.here.at(Await::Looking);
        match spawn_blocking(look).await {
            Ok(found) => Some(found),
            Err(fault) => match fault.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime ends.
                Err(_) => None,
            },
        }
    }
}

/// What is not sent yet the board finds to be gone, and what is unresolved a person decides.
fn may_be_deleted(row: &Present) -> bool {
    matches!(row.state, State::Stored | State::Failed | State::Skipped | State::Cancelled)
}

fn count(places: &mut Places, rows: &[Present], met: &[Met]) {
    for (row, met) in rows.iter().zip(met) {
        places.count(&row.path, row.job, *met == Met::File(row.fingerprint));
    }
}

fn is_still(before: Option<&Option<Standing>>, now: &Option<Standing>) -> bool {
    match (before, now) {
        (Some(Some(before)), Some(now)) => before.is_still(now),
        (Some(None), None) => true,
        _ => false,
    }
}
