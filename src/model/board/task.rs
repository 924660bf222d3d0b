//! A job on the board, and what it could do next.

use std::collections::HashSet;

use super::super::job::{Deadline, Doubt, Job, PlannedPart, Session, Stage};
use super::super::plan::LANE_BYTES;
use super::super::time::{Boot, Now};
use super::{Context, Kind, Limits};

/// A job that is being worked on.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) job: Job,
    /// The Upload of a small file between create and its Part: nothing is written of it before it holds something.
    pub(super) opened: Option<Session>,
    /// The request that opened it, for the history.
    pub(super) created: Context,
    /// No new operation before this.
    pub(super) not_before: Boot,
    /// What it has under way.
    pub(super) under_way: HashSet<UnderWay>,
    /// The file was found to be the version that was sent.
    pub(super) verified: bool,
    /// The step to `Completing` is on disk.
    pub(super) committed: bool,
    /// A plain refusal made it start again before.
    pub(super) refused_before: bool,
    /// The server took a Part of this session in this run, so its Upload is known to live.
    pub(super) proven: bool,
    /// A hold or a pause fell into the life of its Upload, so that its expiry says nothing of the link.
    pub(super) was_held: bool,
    /// Uploads that expired although nothing held them up.
    pub(super) expiries: u32,
}

/// One thing that a task has under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum UnderWay {
    Request,
    Part(usize),
    Hash,
    Verify,
}

/// What a task could start now, if slots and gates allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    Create,
    Whole,
    Verify,
    Complete,
    Nothing,
}

impl Task {
    pub(super) fn new(job: Job) -> Task {
        Task {
            job,
            opened: None,
            created: Context::default(),
            not_before: Boot(i64::MIN),
            under_way: HashSet::new(),
            verified: false,
            committed: false,
            refused_before: false,
            proven: false,
            was_held: false,
            expiries: 0,
        }
    }

    /// A job that was open when the service started. Its row is on disk, so nothing is awaited for it.
    pub(super) fn resumed(mut job: Job, now: Now) -> Task {
        if let Stage::Completing(_, doubt) = &mut job.stage {
            *doubt = Doubt::MayHaveActed;
        }
        let due = job.due.map_or(Boot(i64::MIN), |due| now.boot_at(due));
        let committed = matches!(job.stage, Stage::Completing(..));
        Task { not_before: due, committed, was_held: true, ..Task::new(job) }
    }

    /// Whether it goes through the lane, as one Part. One whose Upload was opened before stays as it was planned.
    pub(super) fn is_small(&self) -> bool {
        self.job.subject.fingerprint.bytes <= LANE_BYTES && !matches!(self.job.stage, Stage::Sending(_))
    }

    /// What it could do next besides sending Parts and hashing.
    pub(super) fn next(&self, limits: &Limits) -> Next {
        if self.under_way.contains(&UnderWay::Request) || self.under_way.contains(&UnderWay::Verify) {
            return Next::Nothing;
        }
        match &self.job.stage {
            Stage::Queued if self.opened.is_some() => Next::Whole,
            Stage::Queued => Next::Create,
            Stage::Sending(session) => {
                let hashed = self.job.md5.is_some() || !limits.checksum;
                if hashed && !self.verified && session.stored_parts() == session.parts.len() {
                    Next::Verify
                } else {
                    Next::Nothing
                }
            }
            Stage::Completing(..) if self.committed => Next::Complete,
            _ => Next::Nothing,
        }
    }

    /// The first Part that neither is stored nor under way.
    pub(super) fn next_part(&self) -> Option<(usize, &PlannedPart)> {
        let Stage::Sending(session) = &self.job.stage else { return None };
        // Of an Upload that may have expired unseen only one Part is risked.
        if session.deadline == Deadline::Unknown && !self.proven && self.parts_under_way() > 0 {
            return None;
        }
        session
            .parts
            .iter()
            .enumerate()
            .find(|(index, part)| part.stored.is_none() && !self.under_way.contains(&UnderWay::Part(*index)))
    }

    pub(super) fn wants_hash(&self, limits: &Limits) -> bool {
        limits.checksum
            && self.job.md5.is_none()
            && matches!(self.job.stage, Stage::Sending(_))
            && !self.under_way.contains(&UnderWay::Hash)
    }

    /// Whether it is completing, or will be as soon as what it has under way ends well.
    pub(super) fn is_finishing(&self) -> bool {
        match self.job.stage {
            Stage::Completing(..) => true,
            Stage::Sending(_) => self.under_way.contains(&UnderWay::Verify),
            Stage::Queued => self.opened.is_some() && self.under_way.contains(&UnderWay::Request),
            _ => false,
        }
    }

    fn parts_under_way(&self) -> usize {
        self.under_way.iter().filter(|one| matches!(one, UnderWay::Part(_))).count()
    }

    /// Sorts open Uploads: earliest expiry first, so that the fewest are open and none expires for having shared.
    pub(super) fn urgency(&self) -> Boot {
        let session = self.job.stage.session().or(self.opened.as_ref());
        match session.map(|session| session.deadline) {
            Some(Deadline::At(at)) => at,
            Some(Deadline::Unknown) => Boot(i64::MIN),
            None => Boot(i64::MAX),
        }
    }

    /// A hold began: what failed because of it did not fail by itself.
    pub(super) fn give_back_attempt(&mut self, now: Boot) {
        self.job.attempts = self.job.attempts.saturating_sub(1);
        self.not_before = now;
        self.was_held = true;
    }

    /// An answer to complete may have been lost: from now on no refusal is a plain one.
    pub(super) fn doubt(&mut self) {
        if let Stage::Completing(_, doubt) = &mut self.job.stage {
            *doubt = Doubt::MayHaveActed;
        }
    }

    /// Forgets what belonged to an Upload that is given up.
    pub(super) fn start_over(&mut self) {
        self.opened = None;
        self.verified = false;
        self.committed = false;
        self.proven = false;
        self.was_held = false;
    }
}

impl From<Kind> for Option<UnderWay> {
    fn from(kind: Kind) -> Option<UnderWay> {
        match kind {
            Kind::Create | Kind::Whole | Kind::Complete => Some(UnderWay::Request),
            Kind::Part(index) => Some(UnderWay::Part(index)),
            Kind::Hash => Some(UnderWay::Hash),
            Kind::Verify => Some(UnderWay::Verify),
            Kind::Cancel | Kind::Probe => None,
        }
    }
}
