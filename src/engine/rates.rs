//! How fast files are sent, for `status`: looked at twice a second, decides nothing.

use std::collections::HashMap;

use super::Engine;
use crate::model::answer::UploadId;
use crate::model::job::{FolderId, JobId, Session};
use crate::model::rate::Rate;

/// The rates of what is being sent.
#[derive(Debug, Default)]
pub(super) struct Rates {
    /// A new Upload begins anew.
    jobs: HashMap<JobId, (Option<UploadId>, Rate)>,
    folders: HashMap<FolderId, Rate>,
}

impl Rates {
    /// Bytes per second of a job's Upload.
    pub(super) fn job(&self, job: JobId) -> Option<u64> {
        self.jobs.get(&job).and_then(|(_, rate)| rate.per_second())
    }

    /// Bytes per second of all files of a folder.
    pub(super) fn folder(&self, folder: FolderId) -> Option<u64> {
        self.folders.get(&folder).and_then(Rate::per_second)
    }
}

impl Engine {
    /// Takes in how far everything is.
    pub(super) fn look_at_rates(&mut self) {
        let now = self.parts.clock.now().boot;
        let in_flight = self.parts.operations.in_flight();
        let flying = |job: &JobId| in_flight.get(job).copied().unwrap_or(0);
        let mut folders: HashMap<FolderId, u64> = HashMap::new();
        let mut jobs = HashMap::new();
        for job in self.parts.board.active() {
            *folders.entry(job.subject.folder).or_default() += flying(&job.id);
            let upload = job.stage.session().map(|session| session.upload.clone());
            let before = self.rates.jobs.remove(&job.id).filter(|(before, _)| *before == upload);
            let (_, mut rate) = before.unwrap_or_default();
            let stored = job.stage.session().map_or(0, Session::stored_bytes);
            rate.saw(stored + flying(&job.id), now);
            jobs.insert(job.id, (upload, rate));
        }
        self.rates.jobs = jobs;
        for (id, name) in &self.parts.folders {
            let sent = self.parts.operations.metrics().sent_bytes(name);
            let flying = folders.get(id).copied().unwrap_or(0);
            self.rates.folders.entry(*id).or_default().saw(sent + flying, now);
        }
    }
}
