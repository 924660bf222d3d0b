//! What people are shown of folders, in the log and by `status`.

use std::path::Path;
use std::sync::PoisonError;
use std::time::Duration;

use tracing::{info, warn};

use super::Intake;
use crate::engine::live::{LiveChanging, LiveFolder};
use crate::engine::why::Met;
use crate::model::job::{Code, FolderId};
use crate::model::settle::{Changing, FolderKey, Quiet, Why};
use crate::model::time::Boot;
use crate::model::why::{Settling, Watched};
use crate::text::shown;
use crate::watch::FolderState;

/// Changing files that are shown to people at most.
const SHOWN: usize = 100;

/// How often what is shown to people is made anew.
pub(super) const SHOW_EVERY: Duration = Duration::from_millis(500);

/// Where a file stands that has not settled.
pub(crate) fn settling_of(changing: &Changing<'_>, now: Boot) -> Settling {
    let waited = now.since(changing.since);
    match &changing.why {
        Why::Changing => {
            Settling::Changing { waited, quiet: now.since(changing.changed), needed: changing.needed }
        }
        Why::OpenForWriting => Settling::OpenForWriting(waited),
        Why::Unknown(message) => Settling::Failed(message.clone()),
    }
}

impl Intake {
    pub(super) fn state(&mut self, key: FolderKey, state: &FolderState) {
        let Some(folder) = self.folder(key) else { return };
        let (name, path) = (folder.name.clone(), shown(&folder.path));
        if folder.settles_by_state {
            match state {
                FolderState::Events => self.parts.settle.set_rule(key, Quiet::DEFAULT),
                FolderState::Polling { .. } | FolderState::Degraded { .. } => {
                    self.parts.settle.set_rule(key, Quiet::POLLING);
                }
                FolderState::Missing { .. } => {}
            }
        }
        let (word, why) = match state {
            FolderState::Events => ("events", None),
            FolderState::Polling { why, .. } => ("polling", Some(why.clone())),
            FolderState::Degraded { why, .. } => ("degraded", Some(why.clone())),
            FolderState::Missing { message } => ("missing", Some(message.clone())),
        };
        let words = why.as_deref().unwrap_or("watched by events");
        match state {
            FolderState::Missing { .. } => {
                let code = Code::FolderMissing;
                warn!(
                    event = "folder-state",
                    folder = name,
                    path,
                    state = word,
                    code = code.as_str(),
                    "{words}"
                );
            }
            FolderState::Degraded { limit, .. } => {
                let code = limit.then(|| Code::WatchLimit.as_str());
                warn!(event = "folder-state", folder = name, path, state = word, code, "{words}");
            }
            _ => info!(event = "folder-state", folder = name, path, state = word, "{words}"),
        }
        self.change_live(key, |live| {
            live.state = word.into();
            live.why = why;
        });
        if matches!(state, FolderState::Missing { .. }) {
            self.scan_ended(key, u64::MAX);
        }
    }

    /// Whether a folder is away.
    pub(super) fn is_missing(&self, key: FolderKey) -> bool {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let live = usize::try_from(key.0).ok().and_then(|index| seen.folders.get(index));
        live.is_some_and(|live| live.state == "missing")
    }

    /// What is known of a path, for whoever asks why it is not uploaded.
    pub(super) fn met(&self, folder: FolderId, path: &Path) -> Option<Met> {
        let key = self.key(folder)?;
        let live = {
            let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            usize::try_from(key.0).ok().and_then(|index| seen.folders.get(index)).cloned()?
        };
        let watched = Watched {
            missing: live.why.clone().filter(|_| live.state == "missing"),
            scanned: !self.unscanned.contains(&key),
            events: live.state == "events",
        };
        let now = self.parts.clock.now().boot;
        let looking =
            || self.looking.get(&key).is_some_and(|(_, waiting)| waiting.iter().any(|one| one == path));
        let settling = match self.parts.settle.get(key, path) {
            Some(changing) => settling_of(&changing, now),
            None if looking() || self.comparing.contains(&(key, path.to_owned())) => Settling::Looking,
            None if self.overflowed.contains(&key) => Settling::NoRoom,
            None => Settling::Unmet,
        };
        Some(Met { watched, settling })
    }

    pub(super) fn change_live(&self, key: FolderKey, change: impl FnOnce(&mut LiveFolder)) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(live) = usize::try_from(key.0).ok().and_then(|index| seen.folders.get_mut(index)) {
            change(live);
        }
    }

    /// Makes the list of changing files anew, now and then. Whether it is as it should be: if not, soon again.
    pub(super) fn show(&mut self) -> bool {
        let now = self.parts.clock.now().boot;
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.changing_count = self.parts.settle.len() as u64;
        if self.parts.settle.is_empty() {
            seen.changing.clear();
            return true;
        }
        if now.since(self.shown_at) < SHOW_EVERY {
            return false;
        }
        self.shown_at = now;
        let changing = self.parts.settle.changing().take(SHOWN).map(|file| {
            let live = LiveChanging {
                folder: self.folder(file.folder).map(|folder| folder.name.clone()).unwrap_or_default(),
                path: shown(file.path),
                bytes: file.bytes,
                why: match file.why {
                    Why::Changing => "changing".into(),
                    Why::OpenForWriting => "open-for-writing".into(),
                    Why::Unknown(message) => message,
                },
                seconds: 0,
            };
            (live, file.since)
        });
        seen.changing = changing.collect();
        true
    }
}
