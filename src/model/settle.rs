//! When a file has settled: nobody writes to it any more, so that it may be read.
//!
//! [`Settle`] keeps the files that are not settled yet. It is told what was seen of them, and says which of them have
//! to be looked at and when. A file has settled when its size, times and inode stayed the same over the quiet time,
//! and a real look (not a glimpse from a scan or an event) found that nobody has it open for writing, as far as that
//! can be tested. A file that changes for long is looked at ever more rarely, and delays no other.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::file::{Fingerprint, Look};
use super::time::{Boot, Now, millis};

/// The index of a watched folder in this run.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct FolderKey(pub u32);

/// How long a file has to stay the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Quiet {
    /// Where the look proved that nobody has it open for writing.
    pub tested: Duration,
    /// Where that could not be tested.
    pub untested: Duration,
}

impl Quiet {
    /// What is in force where nobody said otherwise.
    pub const DEFAULT: Quiet = Quiet { tested: Duration::from_secs(2), untested: Duration::from_secs(10) };
    /// What is in force in a folder that is polled. Where nobody has a file open, it does not matter how it was met.
    pub const POLLING: Quiet = Quiet { tested: Duration::from_secs(2), untested: Duration::from_secs(30) };

    /// The same time whether tested or not, as a person configured it.
    pub const fn fixed(quiet: Duration) -> Quiet {
        Quiet { tested: quiet, untested: quiet }
    }

    fn of(&self, tested: bool) -> Duration {
        if tested { self.tested } else { self.untested }
    }
}

/// What was seen of a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Observation {
    /// An event or a scan met it: its `stat` alone. Never settles a file, but asks for a look.
    Glimpsed(Look),
    /// It was opened and can be read.
    Present {
        /// What it looks like.
        look: Look,
        /// Whether it was proven that nobody has it open for writing.
        tested: bool,
    },
    /// Somebody has it open for writing.
    OpenForWriting(Look),
    /// It is there and may not be read. Settles like any other, so that it becomes a job that fails for all to see.
    Unreadable(Look),
    /// The look itself failed, so that nothing is known: the folder does not answer, no descriptors are left.
    Unknown(String),
    /// There is no regular file of this name.
    Absent,
}

/// What follows from an observation.
#[must_use = "a settled file that nobody takes up is lost until the next scan"]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Decision {
    /// This version may be read now. It is no longer kept here.
    Settled(Fingerprint),
    /// [`Settle::due`] will name it, at this time at the earliest.
    LookAgain(Boot),
    /// A look at it is under way, whose observation decides.
    Awaited,
    /// It is not there. It is no longer kept here.
    Forget,
    /// Too many files are kept already, and this one is not among them: ask for a scan when there are fewer.
    NoRoom,
}

/// Why a file has not settled.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Why {
    /// It changed a short time ago.
    Changing,
    /// Somebody has it open for writing.
    OpenForWriting,
    /// It could not be looked at, and this is what the system said.
    Unknown(String),
}

/// One file that has not settled, for people.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Changing<'a> {
    /// The folder it lies in.
    pub folder: FolderKey,
    /// Its path below the folder.
    pub path: &'a Path,
    /// Since when it is waited for.
    pub since: Boot,
    /// When it was last seen to have changed.
    pub changed: Boot,
    /// For how long it has to be unchanged.
    pub needed: Duration,
    /// Its size when last seen.
    pub bytes: u64,
    /// Why it has not settled.
    pub why: Why,
}

/// The longest time between two looks at a file that keeps changing, unless its quiet time is longer still.
pub const LONGEST_INTERVAL: Duration = Duration::from_secs(30);

/// A file that changes for this many times an interval is left alone for that interval: the end of a write of a
/// minute is noticed some seconds late at most, one of hours costs two looks each [`LONGEST_INTERVAL`].
const INTERVAL_DIVISOR: u32 = 8;

/// How many files are kept at most, at some 300 bytes each. More than these can only be there where the kernel's
/// own time of a change cannot be had, or where a hundred thousand files are written at once.
pub const MOST_FILES: usize = 100_000;

/// The wall clock was set if it moved this much against the boot clock from one observation to the next.
const CLOCK_STEP: Duration = Duration::from_secs(1);

/// The files that have not settled yet.
#[derive(Debug)]
pub struct Settle {
    rules: HashMap<FolderKey, Quiet>,
    files: HashMap<FolderKey, HashMap<Arc<Path>, Entry>>,
    queue: BTreeMap<(Boot, u64), (FolderKey, Arc<Path>)>,
    tickets: u64,
    kept: usize,
    most: usize,
    wall: WallClock,
}

#[derive(Debug)]
struct Entry {
    fingerprint: Fingerprint,
    /// When it was first met; from it grows the interval.
    since: Boot,
    /// The latest time at which it may have changed.
    changed: Boot,
    /// Whether the last look could test for writers; assumed until a look says otherwise.
    testable: bool,
    /// Whether the look to come is the earliest that can find it quiet, rather than one after an interval.
    confirming: bool,
    why: Why,
    place: Place,
}

#[derive(Debug)]
enum Place {
    Queued(Boot, u64),
    HandedOut,
}

impl Default for Settle {
    fn default() -> Settle {
        Settle::new()
    }
}

impl Settle {
    /// With no files, and [`Quiet::DEFAULT`] for every folder.
    pub fn new() -> Settle {
        Settle::with_most(MOST_FILES)
    }

    /// The same with another limit than [`MOST_FILES`].
    pub fn with_most(most: usize) -> Settle {
        Settle {
            rules: HashMap::new(),
            files: HashMap::new(),
            queue: BTreeMap::new(),
            tickets: 0,
            kept: 0,
            most,
            wall: WallClock::default(),
        }
    }

    /// Puts a quiet time into force for a folder. Files that are kept already are judged by it at their next look.
    pub fn set_rule(&mut self, folder: FolderKey, quiet: Quiet) {
        self.rules.insert(folder, quiet);
    }

    /// Takes in what was seen of a file.
    pub fn observe(&mut self, folder: FolderKey, path: &Path, seen: Observation, now: Now) -> Decision {
        let believed = self.wall.believed(now);
        let now = now.boot;
        let quiet = self.rules.get(&folder).copied().unwrap_or(Quiet::DEFAULT);
        let (look, meeting) = match seen {
            Observation::Absent => {
                self.forget(folder, path);
                return Decision::Forget;
            }
            Observation::Unknown(message) => return self.unknown(folder, path, message, quiet, now),
            Observation::Glimpsed(look) => (look, Meeting::Glimpse),
            Observation::Present { look, tested } => (look, Meeting::Look { tested, open: false }),
            Observation::Unreadable(look) => (look, Meeting::Look { tested: false, open: false }),
            Observation::OpenForWriting(look) => (look, Meeting::Look { tested: true, open: true }),
        };
        // What the kernel says of the last change counts only as far as the clock it said it by was left alone.
        let changed = now - look.unchanged_for.unwrap_or_default().min(believed);
        let fingerprint = look.fingerprint;

        let Some(entry) = self.files.get_mut(&folder).and_then(|files| files.get_mut(path)) else {
            let entry = Entry {
                fingerprint,
                since: now,
                changed,
                testable: true,
                confirming: true,
                why: Why::Changing,
                place: Place::HandedOut,
            };
            return match entry.judge(meeting, false, quiet, now) {
                Judgement::Settled => Decision::Settled(fingerprint),
                Judgement::At { .. } if self.kept >= self.most => Decision::NoRoom,
                Judgement::At { due, confirming } => {
                    let path: Arc<Path> = path.into();
                    let entry = entry.met(meeting, confirming);
                    self.files.entry(folder).or_default().insert(path.clone(), entry);
                    self.kept += 1;
                    self.enqueue(folder, path, due)
                }
            };
        };
        let same = entry.fingerprint == fingerprint;
        entry.changed = if same { entry.changed.min(changed) } else { changed };
        entry.fingerprint = fingerprint;
        let judgement = entry.judge(meeting, !same, quiet, now);
        match judgement {
            Judgement::Settled => {
                self.forget(folder, path);
                Decision::Settled(fingerprint)
            }
            Judgement::At { due, confirming } => {
                entry.note(meeting, confirming);
                match entry.place {
                    Place::HandedOut if meeting == Meeting::Glimpse => Decision::Awaited,
                    _ => self.requeue(folder, path, due),
                }
            }
        }
    }

    /// At most `limit` files that have to be looked at now. Each is named once, and not again before its look was
    /// observed: whoever cannot look has to say so with [`Observation::Unknown`].
    #[must_use = "what is named here is not named again before it was observed"]
    pub fn due(&mut self, now: Boot, limit: usize) -> Vec<(FolderKey, PathBuf)> {
        let mut due = Vec::new();
        while due.len() < limit {
            let Some(first) = self.queue.first_entry().filter(|first| first.key().0 <= now) else { break };
            let (folder, path) = first.remove();
            if let Some(entry) = self.files.get_mut(&folder).and_then(|files| files.get_mut(&path)) {
                entry.place = Place::HandedOut;
            }
            due.push((folder, path.to_path_buf()));
        }
        due
    }

    /// When [`Settle::due`] will have something to name.
    pub fn next_wake(&self) -> Option<Boot> {
        self.queue.first_key_value().map(|((due, _), _)| *due)
    }

    /// All files that have not settled, in no order.
    pub fn changing(&self) -> impl Iterator<Item = Changing<'_>> {
        self.files
            .iter()
            .flat_map(|(folder, files)| files.iter().map(|(path, entry)| self.show(*folder, path, entry)))
    }

    /// One file that has not settled.
    pub fn get(&self, folder: FolderKey, path: &Path) -> Option<Changing<'_>> {
        let (path, entry) = self.files.get(&folder)?.get_key_value(path)?;
        Some(self.show(folder, path, entry))
    }

    /// Whether a file of a folder has not settled.
    pub fn has(&self, folder: FolderKey) -> bool {
        self.files.get(&folder).is_some_and(|files| !files.is_empty())
    }

    /// How many files have not settled.
    pub fn len(&self) -> usize {
        self.kept
    }

    /// Whether every file has settled.
    pub fn is_empty(&self) -> bool {
        self.kept == 0
    }

    /// Keeps a file no longer.
    pub fn forget(&mut self, folder: FolderKey, path: &Path) {
        if let Some(entry) = self.files.get_mut(&folder).and_then(|files| files.remove(path)) {
            self.kept -= 1;
            if let Place::Queued(due, ticket) = entry.place {
                self.queue.remove(&(due, ticket));
            }
        }
    }

    /// A file that could not be looked at stays as it was, and is tried again.
    fn unknown(
        &mut self,
        folder: FolderKey,
        path: &Path,
        message: String,
        quiet: Quiet,
        now: Boot,
    ) -> Decision {
        match self.files.get_mut(&folder).and_then(|files| files.get_mut(path)) {
            None => Decision::Forget,
            Some(entry) => {
                entry.why = Why::Unknown(message);
                entry.confirming = false;
                let due = now + entry.interval(quiet.of(entry.testable), now);
                self.requeue(folder, path, due)
            }
        }
    }

    fn show<'a>(&self, folder: FolderKey, path: &'a Path, entry: &Entry) -> Changing<'a> {
        let quiet = self.rules.get(&folder).copied().unwrap_or(Quiet::DEFAULT);
        Changing {
            folder,
            path,
            since: entry.since,
            changed: entry.changed,
            needed: quiet.of(entry.testable),
            bytes: entry.fingerprint.bytes,
            why: entry.why.clone(),
        }
    }

    fn requeue(&mut self, folder: FolderKey, path: &Path, due: Boot) -> Decision {
        let Some((path, entry)) = self.files.get(&folder).and_then(|files| files.get_key_value(path)) else {
            return Decision::Forget;
        };
        if let Place::Queued(before, ticket) = entry.place {
            self.queue.remove(&(before, ticket));
        }
        let path = path.clone();
        self.enqueue(folder, path, due)
    }

    fn enqueue(&mut self, folder: FolderKey, path: Arc<Path>, due: Boot) -> Decision {
        self.tickets += 1;
        if let Some(entry) = self.files.get_mut(&folder).and_then(|files| files.get_mut(&path)) {
            entry.place = Place::Queued(due, self.tickets);
        }
        self.queue.insert((due, self.tickets), (folder, path));
        Decision::LookAgain(due)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Meeting {
    Glimpse,
    Look { tested: bool, open: bool },
}

enum Judgement {
    Settled,
    At { due: Boot, confirming: bool },
}

impl Entry {
    fn judge(&self, meeting: Meeting, moved: bool, quiet: Quiet, now: Boot) -> Judgement {
        match meeting {
            // A change that was glimpsed is as good as one that was looked at: no look before it can have been quiet.
            // Nothing new: a writer may have closed it, so the look comes as early as it can make a difference.
            Meeting::Glimpse => {
                let earliest = (self.changed + quiet.of(self.testable)).max(now);
                match self.place {
                    Place::Queued(due, _) if !moved && due <= earliest => {
                        Judgement::At { due, confirming: self.confirming }
                    }
                    _ => Judgement::At { due: earliest, confirming: true },
                }
            }
            Meeting::Look { tested, open } => {
                let quiet = quiet.of(tested);
                let settles = self.changed + quiet;
                if !open && settles <= now {
                    Judgement::Settled
                } else if open || (moved && self.confirming) {
                    Judgement::At { due: now + self.interval(quiet, now), confirming: false }
                } else {
                    Judgement::At { due: settles, confirming: true }
                }
            }
        }
    }

    fn met(mut self, meeting: Meeting, confirming: bool) -> Entry {
        self.note(meeting, confirming);
        self
    }

    fn note(&mut self, meeting: Meeting, confirming: bool) {
        self.confirming = confirming;
        if let Meeting::Look { tested, open } = meeting {
            self.testable = tested;
            self.why = if open { Why::OpenForWriting } else { Why::Changing };
        }
    }

    fn interval(&self, quiet: Duration, now: Boot) -> Duration {
        (now.since(self.since) / INTERVAL_DIVISOR).min(LONGEST_INTERVAL).max(quiet).max(SHORTEST_INTERVAL)
    }
}

/// So that a quiet time of zero does not become a busy loop over files that are open for writing.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(250);

/// Notices when somebody sets the wall clock, by which the kernel's times of change are written.
#[derive(Debug, Default)]
struct WallClock {
    last: Option<Now>,
    /// Since when it was not set, as far as was noticed.
    steady: Boot,
}

impl WallClock {
    /// How far back times on the wall clock can be believed.
    fn believed(&mut self, now: Now) -> Duration {
        if let Some(last) = self.last {
            let moved = (now.wall.0 - last.wall.0).abs_diff(now.boot.0 - last.boot.0);
            if moved >= millis(CLOCK_STEP).unsigned_abs() {
                self.steady = now.boot;
            }
        }
        self.last = Some(now);
        now.boot.since(self.steady)
    }
}

#[cfg(test)]
#[path = "settle_tests.rs"]
mod tests;
