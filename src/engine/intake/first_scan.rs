//! What lies in a folder when it is first watched, and what `existing` makes of it.

use std::collections::HashSet;
use std::path::Path;

use tracing::warn;

use super::{Existing, Folder, Intake};
use crate::engine::Message;
use crate::model::board::Event;
use crate::model::file::Look;
use crate::model::settle::FolderKey;
use crate::model::time::Now;
use crate::model::watchdog::Await;
use crate::store::Write;
use crate::text::{size, typed};
use crate::watch::Scanned;

/// With `existing = "auto"` a folder that holds more than this when it is first watched begins paused.
const EXISTING_FILES: u64 = 1000;

/// The same in bytes.
const EXISTING_BYTES: u64 = 10 * 1024 * 1024 * 1024;

impl Intake {
    /// Whether the file is to be skipped: the first scan met it, and it did not come while that went on.
    pub(super) fn existed(&mut self, key: FolderKey, path: &Path, look: &Look, now: Now) -> bool {
        let met = self.met_first.get_mut(&key).is_some_and(|met| met.remove(path));
        met && look.unchanged_for.is_none_or(|unchanged| now.boot - unchanged < self.started)
    }

    /// The first whole scan of a folder has ended: does it begin paused?
    pub(super) async fn first_scanned(&mut self, folder: &Folder, scanned: &Scanned) {
        if folder.existing == Existing::Met {
            return;
        }
        if folder.existing == Existing::Guard {
            let many = scanned.files > EXISTING_FILES || scanned.bytes > EXISTING_BYTES;
            if many {
                let why = format!(
                    "{} files ({}) lay there when it was first watched",
                    scanned.files,
                    size(scanned.bytes)
                );
                warn!(
                    event = "folder-paused",
                    folder = folder.name,
                    bytes = scanned.bytes,
                    "begins paused: {why}; `upspool resume --folder {}` uploads them",
                    typed(&folder.name)
                );
                self.parts.writer.send(Write::Pause { folder: folder.id, why: Some(why) });
            } else {
                let event = Event::Paused { folder: folder.id, paused: false };
                self.here.at(Await::Engine);
                let _ = self.parts.engine.send(Message::Event(event)).await;
            }
        }
        self.closing.push(scanned.folder);
        if let Some(folder) = self.folder_mut(scanned.folder) {
            folder.existing = Existing::Met;
        }
    }

    /// Writes down that the first scan of a folder is over, once all that it met has become rows.
    pub(super) fn close_first_scans(&mut self) {
        let at = self.parts.clock.now().wall;
        let done = |key: &FolderKey| self.met_first.get(key).is_none_or(HashSet::is_empty);
        let (done, open) = std::mem::take(&mut self.closing).into_iter().partition::<Vec<_>, _>(done);
        self.closing = open;
        for folder in done.into_iter().filter_map(|key| self.folder(key)) {
            self.parts.writer.send(Write::Scanned { folder: folder.id, at });
        }
    }
}
