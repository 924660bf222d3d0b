//! A job on the board, and what it could do next.

use std::collections::HashSet;
use std::time::Duration;

use super::super::answer::FileId;
use super::super::examine::Same;
use super::super::job::{Deadline, Doubt, Job, PlannedPart, Reason, Session, Stage};
use super::super::plan::LANE_BYTES;
use super::super::time::{Boot, Now};
use super::{Context, Kind, Limits};

/// So many Uploads at most are given up for Parts whose answers were lost.
const LOST_PARTS: u32 = 10;

/// No job is put off for longer: the longest that a server's wish is believed.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// A job that is being worked on.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) job: Job,
    /// The file was looked at in this run.
    pub(super) examined: bool,
    /// Those who sent the same bytes and whose Files are still to be asked for, the next one last.
    pub(super) same: Vec<Same>,
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
    /// When this run met it.
    pub(super) met: Boot,
    /// When its Upload was opened, or met.
    pub(super) opened_at: Boot,
    /// Since when an answer to complete may be lost.
    pub(super) doubted_at: Option<Boot>,
    /// A Part of this Upload may have been taken without our knowing: some servers count it.
    pub(super) lost_part: bool,
    /// The File that complete's answer named while it was still being made.
    pub(super) named: Option<FileId>,
    /// That one is asked for next, rather than complete being repeated.
    pub(super) ask_named: bool,
    /// How complete was refused, for people.
    pub(super) inquiry: Option<Reason>,
    /// When the list of Files was first looked at.
    pub(super) searching_since: Option<Boot>,
    /// The one File that looks at the list found, and could not read, and since when.
    pub(super) single: Option<(FileId, Boot)>,
    /// When complete was sent last, as far as this run knows.
    pub(super) completed_at: Option<Boot>,
    /// Since when it fails without progress, on the clock that nobody sets.
    pub(super) failing: Option<Boot>,
    /// The request of a person that waits for an operation.
    pub(super) request: Option<i64>,
    /// The server took a Part of this session in this run, so its Upload is known to live.
    pub(super) proven: bool,
    /// A hold or a pause fell into the life of its Upload, so that its expiry says nothing of the link.
    pub(super) was_held: bool,
}

/// One thing that a task has under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum UnderWay {
    /// A look at the file before it is sent, or the question for a File with the same bytes.
    Look,
    Request,
    Part(usize),
    Hash,
    Verify,
}

/// What a task could start now, if slots and gates allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    Examine,
    Confirm,
    Create,
    Whole,
    Verify,
    Complete,
    AskFile,
    Fence,
    Search,
    Nothing,
}

impl Task {
    pub(super) fn new(job: Job, now: Now) -> Task {
        Task {
            failing: job.failing_since.map(|since| now.boot_at(since).min(now.boot)),
            completed_at: None,
            job,
            examined: false,
            same: Vec::new(),
            opened: None,
            created: Context::default(),
            not_before: Boot(i64::MIN),
            under_way: HashSet::new(),
            verified: false,
            committed: false,
            met: now.boot,
            opened_at: now.boot,
            doubted_at: None,
            lost_part: false,
            named: None,
            ask_named: false,
            inquiry: None,
            searching_since: None,
            single: None,
            request: None,
            proven: false,
            was_held: false,
        }
    }

    /// A job that was open when the service started. Its row is on disk, so nothing is awaited for it; what it had under
    /// way may have been acted on.
    pub(super) fn resumed(mut job: Job, now: Now) -> Task {
        // One that this run knew and lost sight of, as when its row was another than the board had.
        if let Stage::Completing(_, doubt @ Doubt::None) = &mut job.stage {
            *doubt = Doubt::MayHaveActed;
        }
        // What was put off under another calendar is not put off for years.
        let due = job.due.map_or(Boot(i64::MIN), |due| now.boot_at(due).min(now.boot + LONGEST_WAIT));
        // Time in which nobody tried does not count.
        job.failing_since = None;
        let committed = matches!(job.stage, Stage::Completing(..));
        let doubted_at = committed.then_some(now.boot);
        let completed_at = committed.then_some(now.boot);
        let new = Task { completed_at, ..Task::new(job, now) };
        Task { not_before: due, committed, doubted_at, lost_part: true, was_held: true, ..new }
    }

    /// Whether it goes through the lane, as one Part. One whose Upload was opened before stays as it was planned.
    pub(super) fn is_small(&self) -> bool {
        self.job.subject.fingerprint.bytes <= LANE_BYTES && !matches!(self.job.stage, Stage::Sending(_))
    }

    /// What it could do next besides sending Parts and hashing.
    pub(super) fn next(&self, limits: &Limits) -> Next {
        let busy = |one: &UnderWay| matches!(one, UnderWay::Look | UnderWay::Request | UnderWay::Verify);
        if self.under_way.iter().any(busy) {
            return Next::Nothing;
        }
        match &self.job.stage {
            Stage::Queued if self.opened.is_some() => Next::Whole,
            Stage::Queued if !self.same.is_empty() => Next::Confirm,
            Stage::Queued if !self.examined && limits.look(&self.job.subject).is_some() => Next::Examine,
            Stage::Queued => Next::Create,
            Stage::Sending(session) => {
                let hashed = self.job.md5.is_some() || !limits.checksum;
                if hashed && !self.verified && session.stored_parts() == session.parts.len() {
                    Next::Verify
                } else {
                    Next::Nothing
                }
            }
            Stage::Completing(_, doubt) if self.committed => match doubt {
                Doubt::None | Doubt::MayHaveActed if self.ask_named => Next::AskFile,
                Doubt::None | Doubt::MayHaveActed => Next::Complete,
                Doubt::Fencing { .. } => Next::Fence,
                Doubt::Fenced(_) => Next::Search,
            },
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

    /// An answer to complete, or to the cancel behind it, may have been lost: from now on no refusal is a plain one.
    pub(super) fn doubt(&mut self, now: Boot) {
        if let Stage::Completing(_, doubt) = &mut self.job.stage {
            match doubt {
                Doubt::None => *doubt = Doubt::MayHaveActed,
                Doubt::Fencing { again } => *again = true,
                Doubt::MayHaveActed | Doubt::Fenced(_) => {}
            }
            self.doubted_at.get_or_insert(now);
        }
    }

    /// Whether a refusal of the whole may come from a Part that the server counts and we do not know of. Not for ever: in
    /// the end it is the file's.
    pub(super) fn may_blame_lost_part(&self) -> bool {
        self.lost_part && self.job.restarts < LOST_PARTS
    }

    /// What is known of its lost answer.
    pub(super) fn doubts(&self) -> Doubt {
        match self.job.stage {
            Stage::Completing(_, doubt) => doubt,
            _ => Doubt::None,
        }
    }

    /// Forgets what belonged to an Upload that is given up.
    pub(super) fn start_over(&mut self) {
        self.opened = None;
        self.verified = false;
        self.committed = false;
        self.proven = false;
        self.was_held = false;
        self.doubted_at = None;
        self.lost_part = false;
        self.named = None;
        self.ask_named = false;
        self.inquiry = None;
        self.searching_since = None;
        self.single = None;
        self.completed_at = None;
        self.failing = None;
    }
}

impl From<Kind> for Option<UnderWay> {
    fn from(kind: Kind) -> Option<UnderWay> {
        match kind {
            Kind::Examine | Kind::Confirm => Some(UnderWay::Look),
            Kind::Create
            | Kind::Whole
            | Kind::Complete
            | Kind::Fence
            | Kind::Search
            | Kind::AskFile
            | Kind::Check => Some(UnderWay::Request),
            Kind::Part(index) => Some(UnderWay::Part(index)),
            Kind::Hash => Some(UnderWay::Hash),
            Kind::Verify => Some(UnderWay::Verify),
            Kind::Cancel | Kind::Probe => None,
        }
    }
}
