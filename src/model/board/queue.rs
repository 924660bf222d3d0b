//! The part of the queue that is in memory: the beginning of each line, refilled from the store.
//!
//! Memory is bounded by the number of folders, not of queued files. A line that the store has more of takes no new jobs
//! at its end, since their rows come up in their turn.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};

use super::super::job::{FolderId, Job, JobId};
use super::super::plan::LANE_BYTES;
use super::super::time::Wall;
use super::Line;

/// Jobs of a line in memory at most.
const WINDOW: usize = 256;

/// A line that is shorter than this is refilled.
const LOW: usize = WINDOW / 4;

/// Jobs of a line that were looked at and wait to be opened at most: enough to fill the slots and the lane.
const AHEAD: usize = 32;

/// What a job of a line is taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// To be looked at.
    Looking,
    /// To be sent.
    Opening,
}

/// Where a job waits.
#[derive(Debug)]
pub(super) struct Place {
    line: Line,
    index: usize,
    turn: Turn,
}

#[derive(Debug, Default)]
pub(super) struct Queue {
    lines: BTreeMap<Line, Waiting>,
    paused: BTreeSet<FolderId>,
    /// The folders whose files are looked at.
    looks: BTreeSet<FolderId>,
    /// Whose turn it was last, by kind of line, to be looked at and to be sent.
    last: [[Option<FolderId>; 2]; 2],
    /// Jobs that left the board while a line was being loaded: what was read of them may be older than what was written.
    left: HashSet<JobId>,
    next_due: Option<Wall>,
    /// Jobs that failed before this moment failed because of a hold.
    held_until: Option<Wall>,
}

#[derive(Debug, Default)]
struct Waiting {
    jobs: VecDeque<Job>,
    /// Those of them that were looked at.
    examined: HashSet<JobId>,
    /// The store has queued jobs of this line that are not here.
    more: bool,
    /// A refill is on its way.
    asked: bool,
    /// A job came while it was, which what it reads may not have.
    missed: bool,
}

impl Queue {
    /// A queue of which the files of these folders are looked at.
    pub(super) fn new(looks: impl IntoIterator<Item = FolderId>) -> Queue {
        Queue { looks: looks.into_iter().collect(), ..Queue::default() }
    }

    /// These folders are in force. Their lines are loaded from the store as soon as they are wanted.
    pub(super) fn set_folders(&mut self, folders: &[(FolderId, bool)]) {
        self.paused = folders.iter().filter(|(_, paused)| *paused).map(|(folder, _)| *folder).collect();
        self.lines.retain(|line, _| folders.iter().any(|(folder, _)| *folder == line.folder));
        for (folder, _) in folders {
            for lane in [true, false] {
                self.lines.entry(Line { folder: *folder, lane }).or_default().more = true;
            }
        }
    }

    pub(super) fn set_paused(&mut self, folder: FolderId, paused: bool) {
        if paused {
            self.paused.insert(folder);
        } else {
            self.paused.remove(&folder);
        }
        // Much may happen meanwhile to what they were compared with.
        let its = self.lines.iter_mut().filter(|(line, _)| line.folder == folder);
        its.for_each(|(_, waiting)| waiting.examined.clear());
    }

    pub(super) fn folders(&self) -> Vec<FolderId> {
        self.lines.keys().filter(|line| line.lane).map(|line| line.folder).collect()
    }

    pub(super) fn is_paused(&self, folder: FolderId) -> bool {
        self.paused.contains(&folder)
    }

    /// Adds a job whose row is committed.
    pub(super) fn push(&mut self, job: Job) {
        let Some(waiting) = self.lines.get_mut(&line_of(&job)) else { return };
        if waiting.jobs.iter().any(|one| one.id == job.id) {
            return;
        }
        if job.bumped {
            waiting.jobs.push_front(job);
        } else if waiting.more || waiting.asked || waiting.jobs.len() >= WINDOW {
            waiting.more = true;
            waiting.missed |= waiting.asked;
        } else {
            waiting.jobs.push_back(job);
        }
    }

    /// Puts a job back at the head of its line.
    pub(super) fn push_first(&mut self, job: Job) {
        if let Some(waiting) = self.lines.get_mut(&line_of(&job)) {
            waiting.jobs.push_front(job);
        }
    }

    /// Puts a job that was looked at back at its place.
    pub(super) fn put_back(&mut self, job: Job) {
        let Some(waiting) = self.lines.get_mut(&line_of(&job)) else { return };
        let order = |job: &Job| (!job.bumped, job.id);
        let place = waiting.jobs.iter().position(|other| order(other) > order(&job));
        waiting.examined.insert(job.id);
        waiting.jobs.insert(place.unwrap_or(waiting.jobs.len()), job);
    }

    /// The jobs that were looked at and wait to be sent.
    pub(super) fn examined(&self) -> impl Iterator<Item = &Job> {
        let lines = self.lines.iter().filter(|(line, _)| !self.paused.contains(&line.folder));
        let lines = lines.filter(|(_, waiting)| !waiting.examined.is_empty());
        lines.flat_map(|(_, waiting)| waiting.jobs.iter().filter(|job| waiting.examined.contains(&job.id)))
    }

    pub(super) fn refilled(
        &mut self,
        line: Line,
        jobs: Vec<Job>,
        more: bool,
        next_due: Option<Wall>,
        known: impl Fn(JobId) -> bool,
    ) {
        let Some(waiting) = self.lines.get_mut(&line) else { return };
        waiting.asked = false;
        waiting.more = more || std::mem::take(&mut waiting.missed);
        let here: HashSet<JobId> = waiting.jobs.iter().map(|job| job.id).collect();
        for mut job in jobs {
            if here.contains(&job.id) || known(job.id) || self.left.contains(&job.id) {
                continue;
            }
            if job.failing_since < self.held_until {
                job.failing_since = None;
            }
            waiting.jobs.push_back(job);
        }
        self.wake_at(next_due);
        if self.lines.values().all(|waiting| !waiting.asked) {
            self.left.clear();
        }
    }

    /// The lines that want to be refilled, each asked for once.
    pub(super) fn wanted(&mut self, now: Wall) -> Vec<(Line, usize)> {
        if self.next_due.is_some_and(|due| due <= now) {
            self.next_due = None;
            self.lines.values_mut().for_each(|waiting| waiting.more = true);
        }
        let paused = &self.paused;
        let low = self.lines.iter_mut().filter(|(line, waiting)| {
            waiting.more && !waiting.asked && waiting.jobs.len() < LOW && !paused.contains(&line.folder)
        });
        low.map(|(line, waiting)| {
            waiting.asked = true;
            // What is on the board comes up again in the answer and is passed over, so ask for as much more.
            (*line, 2 * WINDOW)
        })
        .collect()
    }

    /// The next job of its kind: round-robin over the folders, bumped ones first, then the oldest of those of which
    /// `its_turn` says yes, being told whether the job was looked at. A folder whose next job `may` not begin waits.
    pub(super) fn next(
        &self,
        lane: bool,
        turn: Turn,
        its_turn: impl Fn(&Job, bool) -> bool,
        may: impl Fn(&Job) -> bool,
    ) -> Option<Place> {
        let next_of = |line: &Line, waiting: &Waiting| {
            let wanted = turn == Turn::Opening || self.wants_looks(line, waiting);
            if line.lane != lane || self.paused.contains(&line.folder) || !wanted {
                return None;
            }
            let its_turn = |job: &Job| its_turn(job, waiting.examined.contains(&job.id));
            let (index, job) = waiting.jobs.iter().enumerate().find(|(_, job)| its_turn(job))?;
            may(job).then_some((job.bumped, Place { line: *line, index, turn }))
        };
        let mut ready: Vec<(bool, Place)> =
            self.lines.iter().filter_map(|(line, waiting)| next_of(line, waiting)).collect();
        let last = self.last[turn as usize][usize::from(lane)];
        let chosen = ready
            .iter()
            .position(|(bumped, _)| *bumped)
            .or_else(|| ready.iter().position(|(_, place)| Some(place.line.folder) > last))
            .unwrap_or(0);
        (chosen < ready.len()).then(|| ready.swap_remove(chosen).1)
    }

    fn wants_looks(&self, line: &Line, waiting: &Waiting) -> bool {
        let ahead = waiting.examined.len();
        ahead < AHEAD && ahead < waiting.jobs.len() && self.looks.contains(&line.folder)
    }

    /// Whether there may be jobs of a kind to be looked at: cheaper than to ask for the next.
    pub(super) fn may_look(&self, lane: bool) -> bool {
        self.lines.iter().any(|(line, waiting)| line.lane == lane && self.wants_looks(line, waiting))
    }

    /// Takes the job from its place; tells whether it was looked at.
    pub(super) fn take(&mut self, place: Place) -> Option<(Job, bool)> {
        let waiting = self.lines.get_mut(&place.line)?;
        let job = waiting.jobs.remove(place.index)?;
        self.last[place.turn as usize][usize::from(place.line.lane)] = Some(place.line.folder);
        let examined = waiting.examined.remove(&job.id);
        Some((job, examined))
    }

    /// Takes a job out wherever it waits.
    pub(super) fn remove(&mut self, id: JobId) -> Option<Job> {
        self.lines.values_mut().find_map(|waiting| {
            let place = waiting.jobs.iter().position(|job| job.id == id)?;
            waiting.examined.remove(&id);
            waiting.jobs.remove(place)
        })
    }

    /// The job left the board.
    pub(super) fn left(&mut self, id: JobId) {
        if self.lines.values().any(|waiting| waiting.asked) {
            self.left.insert(id);
        }
    }

    pub(super) fn wake_at(&mut self, due: Option<Wall>) {
        self.next_due = [self.next_due, due].into_iter().flatten().min();
    }

    pub(super) fn next_due(&self) -> Option<Wall> {
        self.next_due
    }

    pub(super) fn held_until(&mut self, wall: Wall) {
        self.held_until = Some(wall);
    }

    /// A job that could be opened, unless more are on their way.
    pub(super) fn ready(&self) -> Option<JobId> {
        if self.lines.values().any(|waiting| waiting.asked) {
            return None;
        }
        let open = self.lines.iter().filter(|(line, _)| !self.paused.contains(&line.folder));
        open.filter_map(|(_, waiting)| waiting.jobs.front()).map(|job| job.id).next()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.lines.values().map(|waiting| waiting.jobs.len()).sum()
    }

    /// Whether a file waits that is no small one; not one whose turn comes later.
    pub(super) fn wants_slots(&self) -> bool {
        self.lines.iter().any(|(line, waiting)| {
            !line.lane
                && !self.paused.contains(&line.folder)
                && (!waiting.jobs.is_empty() || waiting.more || waiting.asked)
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.next_due.is_none()
            && self.lines.iter().all(|(line, waiting)| {
                self.paused.contains(&line.folder)
                    || (waiting.jobs.is_empty() && !waiting.more && !waiting.asked)
            })
    }
}

fn line_of(job: &Job) -> Line {
    Line { folder: job.subject.folder, lane: job.subject.fingerprint.bytes <= LANE_BYTES }
}
