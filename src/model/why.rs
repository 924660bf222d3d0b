//! Why a file is not uploaded, or that it is: one answer from all that is known of a path. The facts come from the same
//! functions by which the service itself decides; here is only which of them counts first.

use std::time::Duration;

use super::job::{JobId, Reason, State};
use super::time::Wall;

/// What is known of a path in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// How the folder is watched, where a service says so, and why not better.
    pub watched: Option<Watched>,
    /// What lies at the path.
    pub lies: Lies,
    /// The job that speaks for the path, or the last that did.
    pub row: Option<Row>,
    /// What becomes of a version that is no job yet.
    pub settling: Settling,
}

/// A folder that a service watches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watched {
    /// Why it cannot be read at all, if so.
    pub missing: Option<String>,
    /// Whether a whole scan of it has ended in this run.
    pub scanned: bool,
    /// Whether events tell of new files; else the next scan does.
    pub events: bool,
}

/// What lies at a path, as the folder's rules see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lies {
    /// A file that is taken.
    File,
    /// A directory.
    Directory,
    /// What a rule ignores, in the rule's words.
    Ignored(String),
    /// What lies in a directory that is not part of the folder.
    Excluded,
    /// What lies deeper than the folder goes.
    TooDeep,
    /// What is never taken.
    Other(&'static str),
    /// Nothing.
    Nothing,
    /// Nobody knows, and this is what the system said.
    Unknown(String),
}

/// A job of the path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its number.
    pub job: JobId,
    /// How far it got.
    pub state: State,
    /// Whether it is about what lies at the path now.
    pub is_current: bool,
    /// Why it failed, or was put off.
    pub reason: Option<Reason>,
    /// What it waits for.
    pub wait: Wait,
}

/// What a job that has not ended waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wait {
    /// For no service runs.
    Service,
    /// What a command asked is to be taken up first.
    Request(String),
    /// Its folder is paused.
    Paused(Option<String>),
    /// Sending stopped for this, of this scope, and is tried again then.
    Held {
        /// `account NAME`, `server URL` or `store`.
        scope: String,
        /// Why.
        reason: Reason,
        /// When one request is let through to see.
        until: Wall,
    },
    /// The server asked for less, until then.
    Paced(Wall),
    /// After a failure, until then.
    Due(Wall, u32),
    /// A file of the same size, name and purpose is being completed: a lost answer could not tell them apart.
    Twin,
    /// A free place.
    Slot,
    /// Nothing: it is being looked at before it is sent.
    Examined,
    /// Nothing: it is being worked on.
    Nothing,
}

/// Where a version is that is no job yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settling {
    /// It changed so long ago, and is waited for since then, until it was unchanged for so long.
    Changing {
        /// Since it was first met.
        waited: Duration,
        /// Since it last changed.
        quiet: Duration,
        /// How long that has to be.
        needed: Duration,
    },
    /// Somebody has it open for writing, for so long that it is waited for.
    OpenForWriting(Duration),
    /// A look at it failed.
    Failed(String),
    /// It is about to be looked at, or compared with what was sent.
    Looking,
    /// The version before it is still to be moved or deleted.
    Leaves(JobId),
    /// Too many files are changing: it is found again by a scan when there are fewer.
    NoRoom,
    /// Nobody has met it yet.
    Unmet,
    /// It has settled, and would be taken, if a service ran.
    Settled,
}

/// The one answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The folder cannot be read.
    FolderMissing(String),
    /// A rule ignores it.
    Ignored(String),
    /// Its directory is not part of the folder.
    Excluded,
    /// The folder is not recursive.
    TooDeep,
    /// A directory.
    Directory,
    /// No regular file.
    Other(&'static str),
    /// There is no such file, and never was one.
    Nothing,
    /// It cannot be looked at.
    Unknown(String),
    /// It has not settled.
    Settling(Settling),
    /// It is met with the end of the first scan, which goes on.
    FirstScan,
    /// It is met with the next event or scan.
    Unmet {
        /// Whether an event should have told of it.
        events: bool,
    },
    /// It would be taken, but no service runs.
    NoService,
    /// A job says it.
    Job(Row),
}

/// What counts first.
pub fn answer(evidence: Evidence) -> Answer {
    let Evidence { watched, lies, row, settling } = evidence;
    if let Some(message) = watched.as_ref().and_then(|watched| watched.missing.clone()) {
        // Nothing that lies there can be seen; but what is stored is stored.
        return match row {
            Some(row) if row.state.has_ended() => Answer::Job(row),
            _ => Answer::FolderMissing(message),
        };
    }
    match (lies, row) {
        // Whatever the rules say by now: it has a job.
        (_, Some(row)) if row.is_current => Answer::Job(row),
        // What was moved, deleted or replaced by something that is no file.
        (Lies::Nothing | Lies::Unknown(_), Some(row)) => Answer::Job(row),
        (Lies::Ignored(rule), _) => Answer::Ignored(rule),
        (Lies::Excluded, _) => Answer::Excluded,
        (Lies::TooDeep, _) => Answer::TooDeep,
        (Lies::Directory, _) => Answer::Directory,
        (Lies::Other(what), _) => Answer::Other(what),
        (Lies::Nothing, None) => Answer::Nothing,
        (Lies::Unknown(message), None) => Answer::Unknown(message),
        (Lies::File, _) => match (settling, watched) {
            (Settling::Settled, None) => Answer::NoService,
            (Settling::Unmet | Settling::Settled, Some(watched)) if !watched.scanned => Answer::FirstScan,
            (Settling::Unmet | Settling::Settled, Some(watched)) => Answer::Unmet { events: watched.events },
            (Settling::Unmet, None) => Answer::NoService,
            (settling, _) => Answer::Settling(settling),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::super::job::Code;
    use super::*;

    fn evidence() -> Evidence {
        Evidence {
            watched: Some(Watched { missing: None, scanned: true, events: true }),
            lies: Lies::File,
            row: None,
            settling: Settling::Unmet,
        }
    }

    fn row(state: State, is_current: bool) -> Row {
        Row { job: JobId(7), state, is_current, reason: None, wait: Wait::Nothing }
    }

    #[test]
    fn a_job_of_what_lies_there_counts_before_any_rule() {
        for lies in [Lies::File, Lies::Ignored("x".into()), Lies::Excluded, Lies::Nothing] {
            let row = row(State::Stored, true);
            let known = Evidence { lies, row: Some(row.clone()), ..evidence() };
            assert_eq!(answer(known), Answer::Job(row));
        }
    }

    #[test]
    fn a_newer_version_is_told_of_and_not_the_old_one() {
        let changing = Settling::OpenForWriting(Duration::from_secs(40));
        let newer =
            Evidence { row: Some(row(State::Stored, false)), settling: changing.clone(), ..evidence() };
        assert_eq!(answer(newer), Answer::Settling(changing));
        let old = row(State::Stored, false);
        let gone = Evidence { lies: Lies::Nothing, row: Some(old.clone()), ..evidence() };
        assert_eq!(answer(gone), Answer::Job(old), "what became of the file that lay there");
        let ignored = Evidence {
            lies: Lies::Ignored("hidden".into()),
            row: Some(row(State::Stored, false)),
            ..evidence()
        };
        assert_eq!(answer(ignored), Answer::Ignored("hidden".into()));
    }

    #[test]
    fn what_nobody_met_depends_on_who_could_have() {
        assert_eq!(answer(evidence()), Answer::Unmet { events: true });
        let scanning = Watched { missing: None, scanned: false, events: true };
        assert_eq!(answer(Evidence { watched: Some(scanning), ..evidence() }), Answer::FirstScan);
        let nobody = Evidence { watched: None, settling: Settling::Settled, ..evidence() };
        assert_eq!(answer(nobody), Answer::NoService);
    }

    #[test]
    fn a_folder_that_is_not_there_hides_everything_but_what_has_ended() {
        let missing = Watched { missing: Some("no such directory".into()), scanned: false, events: true };
        let hidden = Evidence { watched: Some(missing), ..evidence() };
        assert_eq!(answer(hidden.clone()), Answer::FolderMissing("no such directory".into()));
        let stored = row(State::Stored, false);
        assert_eq!(answer(Evidence { row: Some(stored.clone()), ..hidden.clone() }), Answer::Job(stored));
        let queued = Row { reason: Some(Reason::local(Code::Network, "x")), ..row(State::Queued, true) };
        assert_eq!(
            answer(Evidence { row: Some(queued), ..hidden }),
            Answer::FolderMissing("no such directory".into())
        );
    }
}
