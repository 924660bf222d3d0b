use proptest::prelude::*;

use super::super::time::Wall;
use super::*;

const FOLDER: FolderKey = FolderKey(0);
/// The boot clock when a test begins: the machine is up for long.
const START: i64 = 1_000_000_000;

fn at(ms: i64) -> Now {
    Now { boot: Boot(START + ms), wall: Wall(1_700_000_000_000 + ms) }
}

fn look(version: u64) -> Look {
    let fingerprint = Fingerprint { bytes: version, mtime_ns: 5, ctime_ns: version as i64, inode: 7 };
    Look { fingerprint, unchanged_for: None }
}

fn aged(version: u64, ms: u64) -> Look {
    Look { unchanged_for: Some(Duration::from_millis(ms)), ..look(version) }
}

fn present(look: Look) -> Observation {
    Observation::Present { look, tested: true }
}

fn untested(look: Look) -> Observation {
    Observation::Present { look, tested: false }
}

fn again(ms: i64) -> Decision {
    Decision::LookAgain(at(ms).boot)
}

fn settled(version: u64) -> Decision {
    Decision::Settled(look(version).fingerprint)
}

#[test]
fn a_file_settles_by_what_was_seen_of_it() {
    use Observation::{Absent, Glimpsed, OpenForWriting, Unknown, Unreadable};
    type Step = (i64, Observation, Decision);
    let table: Vec<(&str, Vec<Step>)> = vec![
        (
            "a glimpse of an old file asks for a look at once",
            vec![(0, Glimpsed(aged(1, 99_000)), again(0)), (5, present(aged(1, 99_005)), settled(1))],
        ),
        ("an old file settles at the first look", vec![(0, present(aged(1, 2_000)), settled(1))]),
        (
            "a young one when it is old enough by the kernel's word",
            vec![(0, Glimpsed(aged(1, 500)), again(1_500)), (1_500, present(aged(1, 2_000)), settled(1))],
        ),
        (
            "without the kernel's word, by what was seen",
            vec![(0, Glimpsed(look(1)), again(2_000)), (2_000, present(look(1)), settled(1))],
        ),
        (
            "where writers cannot be tested for, it takes longer",
            vec![
                (0, Glimpsed(look(1)), again(2_000)),
                (2_000, untested(look(1)), again(10_000)),
                (10_000, untested(look(1)), settled(1)),
            ],
        ),
        (
            "a change begins the quiet time anew",
            vec![
                (0, Glimpsed(look(1)), again(2_000)),
                (2_000, present(look(2)), again(4_000)),
                (4_000, present(look(2)), settled(2)),
            ],
        ),
        (
            "an event without a change resets nothing",
            vec![
                (0, Glimpsed(look(1)), again(2_000)),
                (1_900, Glimpsed(look(1)), again(2_000)),
                (2_000, present(look(1)), settled(1)),
            ],
        ),
        (
            "an event with a change puts the look off",
            vec![(0, Glimpsed(look(1)), again(2_000)), (1_900, Glimpsed(look(2)), again(3_900))],
        ),
        (
            "a change that the look finds long past settles at once",
            vec![(0, Glimpsed(look(1)), again(2_000)), (9_000, present(aged(2, 3_000)), settled(2))],
        ),
        (
            "open for writing never settles, and a close brings the look forward",
            vec![
                (0, OpenForWriting(aged(1, 60_000)), again(2_000)),
                (2_000, OpenForWriting(aged(1, 62_000)), again(4_000)),
                (400_000, OpenForWriting(aged(1, 460_000)), again(430_000)),
                (401_000, Glimpsed(aged(1, 461_000)), again(401_000)),
                (401_001, present(aged(1, 461_001)), settled(1)),
            ],
        ),
        (
            "a file that changes for long is looked at rarely",
            vec![
                (0, Glimpsed(look(1)), again(2_000)),
                (2_000, present(look(2)), again(4_000)),
                (4_000, present(look(3)), again(6_000)),
                (6_000, present(look(4)), again(8_000)),
                (80_000, present(look(5)), again(82_000)),
                (82_000, present(look(6)), again(92_250)),
                (900_000, present(look(7)), again(902_000)),
                (902_000, present(look(8)), again(932_000)),
                (932_000, present(look(9)), again(934_000)),
                (934_000, present(look(9)), settled(9)),
            ],
        ),
        (
            "a file that may not be read settles too, as untested",
            vec![(0, Unreadable(look(1)), again(10_000)), (10_000, Unreadable(look(1)), settled(1))],
        ),
        (
            "a look that failed says nothing",
            vec![
                (0, Unknown("gone astray".into()), Decision::Forget),
                (0, Glimpsed(look(1)), again(2_000)),
                (2_000, Unknown("gone astray".into()), again(4_000)),
                (4_000, present(look(1)), settled(1)),
            ],
        ),
        (
            "what is gone is forgotten, and begins anew when it returns",
            vec![
                (0, Glimpsed(look(1)), again(2_000)),
                (2_000, Absent, Decision::Forget),
                (3_000, present(look(1)), again(5_000)),
            ],
        ),
        (
            "another file of the same size in its place is another version",
            vec![
                (0, Glimpsed(look(1)), again(2_000)),
                (
                    2_000,
                    present(Look {
                        fingerprint: Fingerprint { inode: 8, ..look(1).fingerprint },
                        unchanged_for: None,
                    }),
                    again(4_000),
                ),
            ],
        ),
    ];
    for (name, steps) in table {
        let mut settle = Settle::new();
        for (when, seen, expected) in steps {
            assert_eq!(
                settle.observe(FOLDER, Path::new("file"), seen, at(when)),
                expected,
                "{name}, at {when}"
            );
        }
    }
}

#[test]
fn what_is_due_is_named_once_until_it_was_looked_at() {
    let mut settle = Settle::new();
    for name in ["a", "b", "c"] {
        assert_eq!(
            settle.observe(FOLDER, Path::new(name), Observation::Glimpsed(aged(1, 9_000)), at(0)),
            again(0)
        );
    }
    assert_eq!(settle.next_wake(), Some(at(0).boot));
    assert_eq!(settle.due(at(0).boot, 2).len(), 2);
    assert_eq!(settle.due(at(0).boot, 2), [(FOLDER, PathBuf::from("c"))]);
    assert_eq!(settle.due(at(99_000).boot, 2), []);
    assert_eq!(settle.next_wake(), None);
    let glimpse = Observation::Glimpsed(look(2));
    assert_eq!(settle.observe(FOLDER, Path::new("a"), glimpse, at(10)), Decision::Awaited);
    assert_eq!(settle.observe(FOLDER, Path::new("a"), present(look(2)), at(20)), again(2_010));
    assert_eq!(settle.len(), 3);
    settle.forget(FOLDER, Path::new("a"));
    assert_eq!((settle.len(), settle.next_wake()), (2, None));
}

#[test]
fn a_folder_has_its_own_quiet_time() {
    let mut settle = Settle::new();
    settle.set_rule(FolderKey(1), Quiet::fixed(Duration::from_secs(60)));
    assert_eq!(settle.observe(FOLDER, Path::new("a"), present(aged(1, 5_000)), at(0)), settled(1));
    assert_eq!(settle.observe(FolderKey(1), Path::new("a"), present(aged(1, 5_000)), at(0)), again(55_000));
}

#[test]
fn a_quiet_time_of_zero_does_not_spin_on_an_open_file() {
    let mut settle = Settle::new();
    settle.set_rule(FOLDER, Quiet::fixed(Duration::ZERO));
    assert_eq!(
        settle.observe(FOLDER, Path::new("a"), Observation::OpenForWriting(look(1)), at(0)),
        again(250)
    );
    assert_eq!(settle.observe(FOLDER, Path::new("b"), present(look(1)), at(0)), settled(1));
}

#[test]
fn a_clock_that_was_set_forward_settles_nothing_early() {
    let mut settle = Settle::new();
    assert_eq!(settle.observe(FOLDER, Path::new("a"), present(aged(1, 100)), at(0)), again(1_900));
    // Half a second later the clock is an hour ahead, and so seems the file to be an hour old.
    let now = Now { wall: Wall(at(500).wall.0 + 3_600_000), ..at(500) };
    assert_eq!(settle.observe(FOLDER, Path::new("a"), present(aged(1, 3_600_600)), now), again(1_900));
    assert_eq!(settle.observe(FOLDER, Path::new("b"), present(aged(1, 3_600_600)), now), again(2_500));
}

#[test]
fn no_more_files_are_kept_than_allowed_and_settled_ones_need_no_room() {
    let mut settle = Settle::with_most(1);
    assert_eq!(settle.observe(FOLDER, Path::new("a"), present(look(1)), at(0)), again(2_000));
    assert_eq!(settle.observe(FOLDER, Path::new("b"), present(look(1)), at(0)), Decision::NoRoom);
    assert_eq!(settle.observe(FOLDER, Path::new("c"), present(aged(1, 9_000)), at(0)), settled(1));
    assert_eq!(settle.observe(FOLDER, Path::new("a"), present(look(1)), at(2_000)), settled(1));
    assert_eq!(settle.observe(FOLDER, Path::new("b"), present(look(1)), at(2_000)), again(4_000));
}

#[test]
fn people_can_ask_why() {
    let mut settle = Settle::new();
    let _ = settle.observe(FOLDER, Path::new("a"), Observation::OpenForWriting(look(3)), at(0));
    let _ = settle.observe(FOLDER, Path::new("b"), Observation::Glimpsed(look(4)), at(10));
    let mut all: Vec<_> =
        settle.changing().map(|file| (file.path.to_owned(), file.why, file.bytes)).collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(all, [("a".into(), Why::OpenForWriting, 3), ("b".into(), Why::Changing, 4)]);
    assert_eq!(settle.get(FOLDER, Path::new("b")).map(|file| file.since), Some(at(10).boot));
    assert_eq!(settle.get(FOLDER, Path::new("c")), None);
}

/// One file that is written at the given times, and everything that looks at it until it settles.
struct World {
    settle: Settle,
    writes: Vec<i64>,
    closes: i64,
    kernel_time: bool,
    tested: bool,
}

impl World {
    fn look(&self, now: i64) -> Look {
        let version = self.writes.iter().filter(|write| **write <= now).count() as u64;
        let last = self.writes.iter().copied().filter(|write| *write <= now).max().unwrap_or(0);
        match self.kernel_time {
            true => aged(version, (now - last).unsigned_abs()),
            false => look(version),
        }
    }

    /// Runs to the end, and says when it settled and with which look.
    fn run(&mut self, mut glimpses: Vec<i64>) -> (i64, Fingerprint) {
        glimpses.push(0);
        glimpses.sort_unstable();
        glimpses.reverse();
        for _ in 0..100_000 {
            let wake = self.settle.next_wake().map(|wake| wake.0 - START);
            let (now, seen) = match (wake, glimpses.last().copied()) {
                (Some(wake), Some(glimpse)) if wake <= glimpse => (wake, None),
                (_, Some(glimpse)) => {
                    glimpses.pop();
                    (glimpse, Some(Observation::Glimpsed(self.look(glimpse))))
                }
                (Some(wake), None) => (wake, None),
                (None, None) => panic!("nobody looks at it any more"),
            };
            let seen = seen.unwrap_or_else(|| {
                assert_eq!(self.settle.due(at(now).boot, 9).len(), 1);
                let look = self.look(now);
                match self.tested {
                    true if now < self.closes => Observation::OpenForWriting(look),
                    tested => Observation::Present { look, tested },
                }
            });
            if let Decision::Settled(fingerprint) =
                self.settle.observe(FOLDER, Path::new("file"), seen, at(now))
            {
                return (now, fingerprint);
            }
        }
        panic!("it never settled")
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn no_file_settles_while_it_changes_and_every_file_settles_soon(
        gaps in prop::collection::vec(0_i64..40_000, 1..60),
        glimpses in prop::collection::vec(0_i64..2_400_000, 0..40),
        open_for in 0_i64..90_000,
        kernel_time: bool,
        tested: bool,
        quiet in 0_u64..60_000,
    ) {
        let writes: Vec<i64> = gaps.iter().scan(0, |time, gap| { *time += gap; Some(*time) }).collect();
        let last = writes.last().copied().unwrap_or(0);
        let closes = if tested { last + open_for } else { 0 };
        let mut settle = Settle::new();
        settle.set_rule(FOLDER, Quiet::fixed(Duration::from_millis(quiet)));
        let mut world = World { settle, writes, closes, kernel_time, tested };
        let (when, fingerprint) = world.run(glimpses);
        let quiet = quiet as i64;

        prop_assert!(!tested || when >= closes, "settled at {when} while open until {closes}");
        let now = world.look(when).fingerprint;
        prop_assert_eq!(fingerprint, now, "settled with another version than lies there");
        prop_assert!(
            !world.writes.iter().any(|write| (when - quiet + 1..=when).contains(write)),
            "settled at {} within the quiet time of a write", when
        );
        let longest = quiet.max(millis(LONGEST_INTERVAL));
        prop_assert!(when <= last.max(closes) + quiet + longest, "settled at {when}, last write at {last}");
        prop_assert!(world.settle.is_empty() && world.settle.next_wake().is_none());
    }
}
