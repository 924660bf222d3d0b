//! Sees that something does not go on although it should, and says which await it is.
//!
//! [`Watchdog`] is told now and then of everything that may be waiting, each with a mark that changes as it moves. What
//! has not moved for longer than its own timeouts allow is stuck. It judges what it was shown and starts nothing: a read
//! that hangs in the kernel cannot be ended from outside anyway, but a person can be told where it hangs.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::time::Boot;

/// What somebody waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Await {
    /// A task was started and has not come to its first await.
    Start,
    /// The next message, with nothing to do: comes back from it every half a minute.
    Message,
    /// The file is being opened.
    Opening,
    /// Bytes of the file.
    Reading,
    /// Bytes of the file, for its MD5.
    Hashing,
    /// Bytes of the file, to see whether it is right.
    Examining,
    /// Bytes of the file, to compare them with what was sent.
    Comparing,
    /// What the file is like now, and whether anybody writes to it.
    Looking,
    /// A connection to the server.
    Connection,
    /// The connection takes bytes of the body.
    Sending,
    /// The server's answer.
    Answer,
    /// Complete's answer, for which the server puts the file together.
    CompleteAnswer,
    /// A row of the store.
    Store,
    /// A commit.
    Commit,
    /// The engine takes what is handed to it.
    Engine,
    /// The decisions of the board, which wait for nothing.
    Board,
    /// A file being moved, deleted or written in a folder.
    Filing,
    /// Nothing: there is work, and none of it is under way.
    Nothing,
}

impl Await {
    /// All of them, in the order of their numbers.
    pub const ALL: [Await; 18] = [
        Await::Start,
        Await::Message,
        Await::Opening,
        Await::Reading,
        Await::Hashing,
        Await::Examining,
        Await::Comparing,
        Await::Looking,
        Await::Connection,
        Await::Sending,
        Await::Answer,
        Await::CompleteAnswer,
        Await::Store,
        Await::Commit,
        Await::Engine,
        Await::Board,
        Await::Filing,
        Await::Nothing,
    ];
}

impl fmt::Display for Await {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Await::Start => "starting",
            Await::Message => "waiting for something to do",
            Await::Opening => "opening the file",
            Await::Reading => "reading the file",
            Await::Hashing => "hashing the file",
            Await::Examining => "looking at what is in the file",
            Await::Comparing => "comparing the file with what was sent",
            Await::Looking => "looking at the file",
            Await::Connection => "waiting for a connection",
            Await::Sending => "sending the body",
            Await::Answer => "waiting for the answer",
            Await::CompleteAnswer => "waiting for complete's answer",
            Await::Store => "reading the store",
            Await::Commit => "waiting for a commit",
            Await::Engine => "waiting for the engine",
            Await::Board => "deciding",
            Await::Filing => "changing the folder",
            Await::Nothing => "there is work, and nothing will wake it",
        })
    }
}

/// The timeouts that each await is held to. Where accounts differ, the longest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// `connect_timeout`.
    pub connect: Duration,
    /// `stall_timeout`: a disk or a task of ours that does not move for so long is no healthier than a connection.
    pub stall: Duration,
    /// `answer_timeout`.
    pub answer: Duration,
    /// `complete_timeout`.
    pub complete: Duration,
}

/// The client reads its gauge some times within each timeout, and a busy machine wakes late: nothing is called stuck
/// because its own timeout came a moment later.
const GRACE: Duration = Duration::from_secs(1);

/// The longest rest of a healthy task.
pub const LONGEST_REST: Duration = Duration::from_secs(30);

/// A move may be a copy of 8 GiB, of which nothing is counted.
const FILING: u32 = 10;

/// One chunk of the file is handed over in so many slices, each of which may take `stall_timeout`.
const SLICES: u32 = 4;

impl Patience {
    /// How long `at` may last without a move.
    pub fn of(&self, at: Await) -> Duration {
        let own = match at {
            Await::Message => LONGEST_REST + self.stall,
            Await::Connection => self.connect * 2,
            Await::Sending => self.stall * (SLICES + 1),
            // A request without a body cannot tell connecting from waiting.
            Await::Answer => self.connect + self.answer,
            Await::CompleteAnswer => self.connect + self.complete,
            // To another file system all of it is copied.
            Await::Filing => self.stall * FILING,
            // The loop looks at everything anew each half a minute: once more must not have helped.
            Await::Nothing => LONGEST_REST + self.stall,
            Await::Start
            | Await::Opening
            | Await::Reading
            | Await::Hashing
            | Await::Examining
            | Await::Comparing
            | Await::Looking
            | Await::Store
            | Await::Commit
            | Await::Engine
            | Await::Board => self.stall,
        };
        own + GRACE
    }
}

/// Something that may be waiting, as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sight {
    /// Tells it from everything else that was ever watched in this run.
    pub id: u64,
    /// What people call it: `part 3 of job 12`.
    pub what: String,
    /// What it waits for.
    pub at: Await,
    /// Any other number than before if it has moved.
    pub mark: u64,
}

/// Something that does not go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stuck {
    /// What.
    pub what: String,
    /// Which await it is.
    pub at: Await,
    /// For how long at least.
    pub lasted: Duration,
}

impl fmt::Display for Stuck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} for {} s", self.what, self.at, self.lasted.as_secs())
    }
}

/// What is to be said of one look.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Look {
    /// All that is stuck, the longest first.
    pub stuck: Vec<Stuck>,
    /// Awaits in which something is stuck since this look: the longest one, how many there are, and for which time in
    /// this run something is stuck there.
    pub began: Vec<(Stuck, usize, u64)>,
    /// Awaits in which nothing is stuck any more: as it was said before, and at how many looks it was seen.
    pub ended: Vec<(Stuck, u64)>,
}

/// See the module.
#[derive(Debug)]
pub struct Watchdog {
    patience: Patience,
    every: Duration,
    last: Option<Boot>,
    /// Since when each has been seen with the same await and mark.
    seen: BTreeMap<u64, (Await, u64, Boot)>,
    /// What was said of an await that is stuck, and at how many looks it has been so.
    said: BTreeMap<Await, (Stuck, u64)>,
    /// How often each was.
    times: BTreeMap<Await, u64>,
}

impl Watchdog {
    /// One that holds awaits to `patience` and means to look each `every`.
    pub fn new(patience: Patience, every: Duration) -> Watchdog {
        Watchdog {
            patience,
            every,
            last: None,
            seen: BTreeMap::new(),
            said: BTreeMap::new(),
            times: BTreeMap::new(),
        }
    }

    /// Judges what is there now.
    pub fn look(&mut self, sights: Vec<Sight>, now: Boot) -> Look {
        // The machine slept, or was so busy that nobody else moved either: that time counts against nobody.
        let pause = self.last.map_or(Duration::ZERO, |last| now.since(last));
        if pause > self.every * 4 + GRACE {
            for (_, _, since) in self.seen.values_mut() {
                *since = *since + pause;
            }
        }
        self.last = Some(now);
        let mut seen = BTreeMap::new();
        let mut stuck = Vec::new();
        for sight in sights {
            let before =
                self.seen.get(&sight.id).filter(|(at, mark, _)| (*at, *mark) == (sight.at, sight.mark));
            let since = before.map_or(now, |(_, _, since)| *since);
            seen.insert(sight.id, (sight.at, sight.mark, since));
            let lasted = now.since(since);
            if lasted > self.patience.of(sight.at) {
                stuck.push(Stuck { what: sight.what, at: sight.at, lasted });
            }
        }
        self.seen = seen;
        stuck.sort_by(|one, other| other.lasted.cmp(&one.lasted).then_with(|| one.what.cmp(&other.what)));
        self.compare(stuck)
    }

    /// One line for each await, however many are stuck there: a file server that goes takes all its files with it.
    fn compare(&mut self, stuck: Vec<Stuck>) -> Look {
        let mut groups: BTreeMap<Await, (Stuck, usize)> = BTreeMap::new();
        for one in &stuck {
            groups.entry(one.at).or_insert_with(|| (one.clone(), 0)).1 += 1;
        }
        let over = |at: &Await| !groups.contains_key(at);
        let over: Vec<Await> = self.said.keys().copied().filter(over).collect();
        let ended = over.iter().filter_map(|at| self.said.remove(at)).collect();
        let mut began = Vec::new();
        for (at, (longest, count)) in groups {
            let Some((said, looks)) = self.said.get_mut(&at) else {
                let times = self.times.entry(at).or_default();
                *times += 1;
                began.push((longest.clone(), count, *times));
                self.said.insert(at, (longest, 1));
                continue;
            };
            *looks += 1;
            said.lasted = said.lasted.max(longest.lasted);
        }
        Look { stuck, began, ended }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    const PATIENCE: Patience = Patience {
        connect: Duration::from_secs(10),
        stall: Duration::from_secs(60),
        answer: Duration::from_secs(120),
        complete: Duration::from_secs(600),
    };

    fn sight(id: u64, at: Await, mark: u64) -> Sight {
        Sight { id, what: format!("part {id} of job 12"), at, mark }
    }

    fn watchdog() -> Watchdog {
        Watchdog::new(PATIENCE, 5 * S)
    }

    /// Looks each five seconds until `until`.
    fn watch(
        watchdog: &mut Watchdog,
        until: u32,
        mut sights: impl FnMut(u32) -> Vec<Sight>,
    ) -> Vec<(u32, Look)> {
        let from = watchdog.last.map_or(0, |last| u32::try_from(last.0 / 1000).unwrap() + 5);
        (from..=until)
            .step_by(5)
            .map(|second| (second, watchdog.look(sights(second), Boot(i64::from(second) * 1000))))
            .collect()
    }

    #[test]
    fn each_await_is_stuck_only_after_its_own_timeouts_and_is_named() {
        for (at, allowed, words) in [
            (Await::Start, 60, "starting"),
            (Await::Message, 90, "waiting for something to do"),
            (Await::Opening, 60, "opening the file"),
            (Await::Reading, 60, "reading the file"),
            (Await::Hashing, 60, "hashing the file"),
            (Await::Examining, 60, "looking at what is in the file"),
            (Await::Comparing, 60, "comparing the file with what was sent"),
            (Await::Looking, 60, "looking at the file"),
            (Await::Connection, 20, "waiting for a connection"),
            (Await::Sending, 300, "sending the body"),
            (Await::Answer, 130, "waiting for the answer"),
            (Await::CompleteAnswer, 610, "waiting for complete's answer"),
            (Await::Store, 60, "reading the store"),
            (Await::Commit, 60, "waiting for a commit"),
            (Await::Engine, 60, "waiting for the engine"),
            (Await::Board, 60, "deciding"),
            (Await::Filing, 600, "changing the folder"),
            (Await::Nothing, 90, "there is work, and nothing will wake it"),
        ] {
            let looks = watch(&mut watchdog(), 900, |_| vec![sight(3, at, 7)]);
            let first = looks.iter().find(|(_, look)| !look.stuck.is_empty()).unwrap();
            // The first look after the time allowed and its grace.
            assert_eq!(first.0, allowed + 5, "{at:?}");
            let said = format!("part 3 of job 12: {words} for {} s", allowed + 5);
            assert_eq!(first.1.stuck[0].to_string(), said);
            assert_eq!(first.1.began.len(), 1, "{at:?}");
        }
        assert_eq!(Await::ALL.map(|at| at as u8).to_vec(), (0..18).collect::<Vec<u8>>());
    }

    #[test]
    fn what_moves_at_all_is_not_stuck_however_long_it_takes() {
        // 8 GiB over a day, and a mark that changes just in time.
        let looks =
            watch(&mut watchdog(), 86_400, |second| vec![sight(1, Await::Reading, u64::from(second / 60))]);
        assert!(looks.iter().all(|(_, look)| *look == Look::default()));
        // Another await is a move as well.
        let looks = watch(&mut watchdog(), 3_600, |second| {
            vec![sight(1, if second / 50 % 2 == 0 { Await::Opening } else { Await::Reading }, 0)]
        });
        assert!(looks.iter().all(|(_, look)| *look == Look::default()));
        // So is the end of one operation and the beginning of the next.
        let looks =
            watch(&mut watchdog(), 3_600, |second| vec![sight(u64::from(second / 55), Await::Opening, 0)]);
        assert!(looks.iter().all(|(_, look)| *look == Look::default()));
    }

    #[test]
    fn a_file_server_that_goes_is_one_line_and_its_return_another() {
        let mut watchdog = watchdog();
        let hang = |second: u32| {
            let count = if second < 600 { 8 } else { 0 };
            (1..=count).map(|id| sight(id, Await::Reading, 0)).collect()
        };
        let looks = watch(&mut watchdog, 900, hang);
        let began: Vec<_> = looks.iter().filter(|(_, look)| !look.began.is_empty()).collect();
        assert_eq!(began.len(), 1, "repeats are counted, not repeated");
        let (at, look) = began[0];
        assert_eq!((*at, look.began.len(), look.stuck.len()), (65, 1, 8));
        assert_eq!((look.began[0].1, look.began[0].2), (8, 1));
        let ended: Vec<_> =
            looks.iter().flat_map(|(at, look)| look.ended.iter().map(|one| (*at, one))).collect();
        assert_eq!(ended.len(), 1);
        let (at, (stuck, seen)) = ended[0];
        assert_eq!((at, stuck.lasted.as_secs(), *seen), (600, 595, (600 - 65) / 5));
        // When it happens again it is said that it is not the first time.
        let looks = watch(&mut watchdog, 1_200, |_| vec![sight(9, Await::Reading, 0)]);
        let again: Vec<_> = looks.iter().flat_map(|(_, look)| &look.began).collect();
        assert_eq!(again.len(), 1);
        assert_eq!(again[0].2, 2);
    }

    #[test]
    fn what_differs_is_told_apart_and_the_longest_comes_first() {
        let looks = watch(&mut watchdog(), 1_000, |second| {
            let mut sights = vec![sight(1, Await::CompleteAnswer, 0)];
            if second >= 500 {
                sights.push(sight(2, Await::Hashing, 0));
            }
            sights
        });
        let last = &looks.last().unwrap().1;
        assert_eq!(
            last.stuck.iter().map(|one| one.at).collect::<Vec<_>>(),
            [Await::CompleteAnswer, Await::Hashing]
        );
        assert_eq!(looks.iter().map(|(_, look)| look.began.len()).sum::<usize>(), 2);
    }

    #[test]
    fn a_machine_that_slept_held_nobody_up() {
        let mut watchdog = watchdog();
        for second in [0, 5, 10, 3_600, 3_605, 3_650] {
            let look = watchdog.look(vec![sight(1, Await::Reading, 0)], Boot(second * 1000));
            // 3650 is late as well, but the time until 3605 counts.
            assert_eq!(look.stuck, [], "at {second}");
        }
        let mut stuck = Vec::new();
        for second in (3_655..3_800).step_by(5) {
            stuck.extend(watchdog.look(vec![sight(1, Await::Reading, 0)], Boot(second * 1000)).began);
        }
        assert_eq!(stuck.len(), 1, "after that it is as stuck as before");
    }
}
