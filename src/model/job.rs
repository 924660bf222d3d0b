//! A job: one version of one file on its way to a File ID, its stages, and the one table that says which step leads from
//! which stage to which.

use std::fmt;
use std::ops::Range;

use super::answer::{FileId, PartId, UploadId};
use super::digest::Digest;
use super::file::{Fingerprint, RelativePath};
use super::time::{Boot, Wall};

pub use super::code::{Code, Reason, UnknownCode};

/// The row of a job in the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobId(pub i64);

/// The row of a folder in the store; stays the same while the folder's path does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FolderId(pub i64);

/// The name of an account in the configuration; `[api]` is `default`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AccountName(pub String);

/// What is known of a job apart from how far it got. Fixed when it is queued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// The folder that it was found in.
    pub folder: FolderId,
    /// Where it lies in that folder.
    pub path: RelativePath,
    /// The version that was queued.
    pub fingerprint: Fingerprint,
    /// The name that the File will carry: see `plan::sent_name`.
    pub filename: String,
    /// The API's `purpose`.
    pub purpose: String,
    /// The API's `mime_type`.
    pub mime_type: String,
    /// Lifetime of the File in seconds, if the folder sets one.
    pub expires_after: Option<u64>,
    /// Whose File it becomes.
    pub account: AccountName,
}

/// A job as the engine holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// Its row.
    pub id: JobId,
    /// What is to be sent.
    pub subject: Subject,
    /// How far it got.
    pub stage: Stage,
    /// MD5 of the file in lower-case hex, once it is computed.
    pub md5: Option<String>,
    /// Failures since the last progress.
    pub attempts: u32,
    /// Uploads given up since it was queued.
    pub restarts: u32,
    /// Those of them that the server refused, or whose File it did not make: the second one is final.
    pub refusals: u32,
    /// Those of them for which the link was too slow.
    pub expiries: u32,
    /// Uploads opened so far, which numbers them: the open one is `uploads`.
    pub uploads: u32,
    /// Since when it fails without progress.
    pub failing_since: Option<Wall>,
    /// Not before this.
    pub due: Option<Wall>,
    /// Whether the operator asked for it to be next.
    pub bumped: bool,
}

/// How far a job got. What a stage needs lies in its variant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Waits for a slot, or until it is due.
    Queued,
    /// An Upload is open; some of its Parts may be stored.
    Sending(Session),
    /// Complete was sent, or was about to be.
    Completing(Session, Doubt),
    /// Has its File.
    Stored(FileId),
    /// Not tried again unless asked.
    Failed,
    /// Whether complete made a File, or which, cannot be told.
    Unresolved(Session),
    /// Was there before the folder was watched, and `existing` said skip.
    Skipped,
    /// Stopped by the operator.
    Cancelled,
    /// This version vanished before it was sent.
    Gone,
}

/// Whether an answer to complete may have been lost, and how far the inquiry got that finds out: repeat, fence, list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// Complete was certainly not acted on so far, so a refusal is a plain refusal.
    None,
    /// The server may have made the File: the identical request is repeated.
    MayHaveActed,
    /// The repeated request was refused. The Upload is cancelled, so that no complete can land any more.
    Fencing {
        /// Whether an earlier cancel of ours may have acted, so that a refusal no longer says that the Upload completed.
        again: bool,
    },
    /// What cancel showed; the list of Files tells the rest.
    Fenced(Fence),
}

/// What is known of an Upload after the attempt to cancel it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fence {
    /// The server says that it ended without a File.
    Closed,
    /// The server says that it completed, or would not cancel it although it should still live.
    Spent,
    /// Neither: it had expired by then, or nobody knows which request ended it.
    Unclear,
}

impl Doubt {
    /// Its name in the store; none: there is nothing to remember.
    pub fn as_str(self) -> Option<&'static str> {
        match self {
            Doubt::None | Doubt::MayHaveActed => None,
            Doubt::Fencing { .. } => Some("fencing"),
            Doubt::Fenced(Fence::Closed) => Some("closed"),
            Doubt::Fenced(Fence::Spent) => Some("spent"),
            Doubt::Fenced(Fence::Unclear) => Some("unclear"),
        }
    }

    /// What a row means after a restart, when nobody knows any more what was on its way. None: no such name.
    pub fn resumed(name: Option<&str>) -> Option<Doubt> {
        Some(match name {
            None => Doubt::MayHaveActed,
            Some("fencing") => Doubt::Fencing { again: true },
            Some("closed") => Doubt::Fenced(Fence::Closed),
            Some("spent") => Doubt::Fenced(Fence::Spent),
            Some("unclear") => Doubt::Fenced(Fence::Unclear),
            Some(_) => return None,
        })
    }
}

/// Why an Upload is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The server refused it, or made no File of it.
    Refused,
    /// The link was too slow for its hour.
    TooSlow,
    /// Neither is said: it expired during a hold or while nobody ran, its account is another by now, its Parts were too
    /// large for a proxy, complete was answered with nothing that says why.
    Other,
}

/// An open Upload and what the server has of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Its id.
    pub upload: UploadId,
    /// The file name as create's answer echoed it: the File will carry that one.
    pub echoed_name: String,
    /// When it was created, by the server's clock, in seconds since 1970.
    pub server_created_at: i64,
    /// When it expires.
    pub deadline: Deadline,
    /// The Parts in the order of the file.
    pub parts: Vec<PlannedPart>,
}

/// When an Upload expires, on this boot's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deadline {
    /// At this time.
    At(Boot),
    /// Not known any more (another boot and a clock that makes no sense): the server will say.
    Unknown,
}

/// A range of the file that goes as one Part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedPart {
    /// Bytes of the file.
    pub range: Range<u64>,
    /// What the server answered, and what it was given.
    pub stored: Option<(PartId, Digest)>,
}

impl Session {
    /// The ids of the Parts in order, if all are stored.
    pub fn part_ids(&self) -> Option<Vec<PartId>> {
        self.parts.iter().map(|part| part.stored.as_ref().map(|(id, _)| id.clone())).collect()
    }

    /// How many Parts the server has.
    pub fn stored_parts(&self) -> usize {
        self.parts.iter().filter(|part| part.stored.is_some()).count()
    }

    /// Their bytes.
    pub fn stored_bytes(&self) -> u64 {
        let stored = self.parts.iter().filter(|part| part.stored.is_some());
        stored.map(|part| part.range.end - part.range.start).sum()
    }
}

/// One thing that happens to a job: what the board decides, the table allows and the store writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Create was answered.
    Opened(Session),
    /// The server has a Part.
    PartStored {
        /// Its place among the Parts.
        index: usize,
        /// What the server calls it.
        id: PartId,
        /// Of the bytes that were handed to the socket.
        digest: Digest,
    },
    /// The MD5 of the whole file is known.
    Hashed(String),
    /// All Parts are stored and the file is still this version: complete is about to be sent.
    Completing,
    /// The three before in one, for a file that is one Part: nothing of it needs an earlier commit.
    SentWhole {
        /// The Upload with its one Part stored.
        session: Session,
        /// MD5 of the file, if checksums are on.
        md5: Option<String>,
    },
    /// Something failed; it will be tried again.
    PutOff {
        /// When.
        due: Wall,
        /// What failed.
        reason: Reason,
        /// Failures since the last progress, this one included.
        attempts: u32,
        /// Since when.
        failing_since: Wall,
    },
    /// The Upload is given up; the job starts again with a new one.
    Restarted {
        /// What it counts as.
        why: Why,
        /// The same for people.
        reason: Reason,
    },
    /// An answer to complete was lost, and this is how far the inquiry got.
    Doubted(Doubt),
    /// The server made the File.
    Stored {
        /// Its id.
        file: FileId,
        /// When the server deletes it, in seconds since 1970 by its clock.
        expires_at: Option<i64>,
    },
    /// The server has a File of exactly these bytes already, which an earlier job sent: nothing is sent.
    Deduped {
        /// Its id.
        file: FileId,
        /// The job that sent it.
        from: JobId,
        /// When the server deletes it, in seconds since 1970 by its clock.
        expires_at: Option<i64>,
    },
    /// It will not be tried again by itself.
    Failed(Reason),
    /// Nobody can tell whether, or which, File was made.
    Unresolved {
        /// Why.
        reason: Reason,
        /// Files that it may have become.
        candidates: Vec<FileId>,
    },
    /// The operator stopped it.
    Cancelled,
    /// The version vanished; with a reason where another took its place.
    Gone(Option<Reason>),
    /// The operator wants it tried again.
    Requeued,
    /// The operator wants it next.
    Bumped,
}

/// The names of stages in the store, in JSON and on the screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum State {
    /// See [`Stage::Queued`].
    Queued,
    /// See [`Stage::Sending`].
    Uploading,
    /// See [`Stage::Completing`].
    Completing,
    /// See [`Stage::Stored`].
    Stored,
    /// See [`Stage::Failed`].
    Failed,
    /// See [`Stage::Unresolved`].
    Unresolved,
    /// See [`Stage::Skipped`].
    Skipped,
    /// See [`Stage::Cancelled`].
    Cancelled,
    /// See [`Stage::Gone`].
    Gone,
}

impl State {
    /// Every state, in the order in which `status` counts them.
    pub const ALL: [State; 9] = [
        State::Queued,
        State::Uploading,
        State::Completing,
        State::Stored,
        State::Failed,
        State::Unresolved,
        State::Skipped,
        State::Cancelled,
        State::Gone,
    ];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Queued => "queued",
            State::Uploading => "uploading",
            State::Completing => "completing",
            State::Stored => "stored",
            State::Failed => "failed",
            State::Unresolved => "unresolved",
            State::Skipped => "skipped",
            State::Cancelled => "cancelled",
            State::Gone => "gone",
        }
    }

    /// The state of that name.
    pub fn from_name(name: &str) -> Option<State> {
        State::ALL.into_iter().find(|state| state.as_str() == name)
    }

    /// Whether the job is not worked on any more.
    pub fn has_ended(self) -> bool {
        !matches!(self, State::Queued | State::Uploading | State::Completing)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Stage {
    /// Its name.
    pub fn state(&self) -> State {
        match self {
            Stage::Queued => State::Queued,
            Stage::Sending(_) => State::Uploading,
            Stage::Completing(..) => State::Completing,
            Stage::Stored(_) => State::Stored,
            Stage::Failed => State::Failed,
            Stage::Unresolved(_) => State::Unresolved,
            Stage::Skipped => State::Skipped,
            Stage::Cancelled => State::Cancelled,
            Stage::Gone => State::Gone,
        }
    }

    /// The open Upload, if there is one.
    pub fn session(&self) -> Option<&Session> {
        match self {
            Stage::Sending(session) | Stage::Completing(session, _) => Some(session),
            _ => None,
        }
    }
}

/// A step that the table does not allow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IllegalStep {
    /// Where the job was.
    pub from: State,
    /// What was to happen.
    pub step: &'static str,
}

impl fmt::Display for IllegalStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a job that is {} cannot take the step {}", self.from, self.step)
    }
}

impl std::error::Error for IllegalStep {}

/// Makes the list of names from the arms of the `match`, which cannot leave a step out.
macro_rules! step_names {
    (impl Step { match self { $($pattern:pat => $name:literal,)* } }) => {
        impl Step {
            /// The name of every step.
            pub const NAMES: &[&str] = &[$($name,)*];

            /// The name in logs of faults.
            pub fn name(&self) -> &'static str {
                match self { $($pattern => $name,)* }
            }
        }
    };
}

step_names! {
    impl Step {
        match self {
            Step::Opened(_) => "opened",
            Step::PartStored { .. } => "part-stored",
            Step::Hashed(_) => "hashed",
            Step::Completing => "completing",
            Step::SentWhole { .. } => "sent-whole",
            Step::PutOff { .. } => "put-off",
            Step::Restarted { .. } => "restarted",
            Step::Doubted(_) => "doubted",
            Step::Stored { .. } => "stored",
            Step::Deduped { .. } => "deduped",
            Step::Failed(_) => "failed",
            Step::Unresolved { .. } => "unresolved",
            Step::Cancelled => "cancelled",
            Step::Gone(_) => "gone",
            Step::Requeued => "requeued",
            Step::Bumped => "bumped",
        }
    }
}

impl Job {
    /// Takes one step: the only place that changes a stage.
    ///
    /// # Errors
    /// [`IllegalStep`] if the table has no such cell; the job is unchanged then.
    pub fn take(&mut self, step: &Step) -> Result<(), IllegalStep> {
        let next = self.next_stage(step)?;
        match step {
            Step::Hashed(md5) => self.md5 = Some(md5.clone()),
            Step::SentWhole { md5, .. } => {
                self.md5.clone_from(md5);
                self.uploads += 1;
            }
            Step::PutOff { due, attempts, failing_since, .. } => {
                self.due = Some(*due);
                self.attempts = *attempts;
                self.failing_since = Some(*failing_since);
            }
            Step::Restarted { why, .. } => {
                self.restarts += 1;
                self.failing_since = None;
                self.refusals += u32::from(*why == Why::Refused);
                self.expiries += u32::from(*why == Why::TooSlow);
            }
            // Each question of the inquiry has its own back-off.
            Step::Doubted(_) => {
                self.attempts = 0;
                self.failing_since = None;
                self.due = None;
            }
            Step::Requeued => {
                self.attempts = 0;
                self.failing_since = None;
                self.due = None;
                self.md5 = None;
                self.restarts = 0;
                self.refusals = 0;
                self.expiries = 0;
            }
            Step::Opened(_) => self.uploads += 1,
            Step::Bumped => {
                self.bumped = true;
                self.due = None;
            }
            _ => {}
        }
        if step.is_progress() {
            self.attempts = 0;
            self.failing_since = None;
            self.due = None;
        }
        self.stage = next;
        Ok(())
    }

    /// The table: one cell for each stage and step.
    fn next_stage(&self, step: &Step) -> Result<Stage, IllegalStep> {
        let illegal = IllegalStep { from: self.stage.state(), step: step.name() };
        Ok(match (&self.stage, step) {
            (Stage::Queued, Step::Opened(session)) => Stage::Sending(session.clone()),
            (Stage::Queued, Step::SentWhole { session, .. }) if session.part_ids().is_some() => {
                Stage::Completing(session.clone(), Doubt::None)
            }
            (Stage::Sending(session), Step::PartStored { index, id, digest }) => {
                let mut session = session.clone();
                let part = session.parts.get_mut(*index).ok_or(illegal)?;
                part.stored = Some((id.clone(), *digest));
                Stage::Sending(session)
            }
            (Stage::Sending(session), Step::Completing) if session.part_ids().is_some() => {
                Stage::Completing(session.clone(), Doubt::None)
            }
            (Stage::Queued | Stage::Sending(_), Step::Hashed(_)) => self.stage.clone(),
            (
                Stage::Queued | Stage::Sending(_) | Stage::Completing(..),
                Step::PutOff { .. } | Step::Bumped,
            ) => self.stage.clone(),
            (Stage::Completing(session, _), Step::Doubted(doubt)) => {
                Stage::Completing(session.clone(), *doubt)
            }
            // Whether a complete that may have acted can be given up is decided before this step is taken: the fence.
            (Stage::Sending(_) | Stage::Completing(..), Step::Restarted { .. }) => Stage::Queued,
            (Stage::Completing(..) | Stage::Unresolved(_), Step::Stored { file, .. }) => {
                Stage::Stored(file.clone())
            }
            (Stage::Queued, Step::Deduped { file, .. }) => Stage::Stored(file.clone()),
            (Stage::Queued | Stage::Sending(_) | Stage::Completing(_, Doubt::None), Step::Failed(_)) => {
                Stage::Failed
            }
            // Only where the inquiry has shown that there is no File.
            (Stage::Completing(_, Doubt::Fenced(Fence::Closed | Fence::Unclear)), Step::Failed(_)) => {
                Stage::Failed
            }
            (Stage::Completing(session, _), Step::Unresolved { .. }) => Stage::Unresolved(session.clone()),
            (Stage::Queued | Stage::Sending(_), Step::Cancelled) => Stage::Cancelled,
            (Stage::Queued | Stage::Sending(_), Step::Gone(_)) => Stage::Gone,
            (Stage::Failed | Stage::Cancelled | Stage::Skipped, Step::Requeued) => Stage::Queued,
            (Stage::Unresolved(_), Step::Requeued) => Stage::Queued,
            (
                Stage::Queued
                | Stage::Sending(_)
                | Stage::Completing(..)
                | Stage::Stored(_)
                | Stage::Failed
                | Stage::Unresolved(_)
                | Stage::Skipped
                | Stage::Cancelled
                | Stage::Gone,
                _,
            ) => return Err(illegal),
        })
    }
}

impl Step {
    /// Whether it brings the file nearer to its File, so that earlier failures are forgotten.
    fn is_progress(&self) -> bool {
        matches!(
            self,
            Step::Opened(_)
                | Step::PartStored { .. }
                | Step::Completing
                | Step::SentWhole { .. }
                | Step::Stored { .. }
                | Step::Deduped { .. }
        )
    }
}
