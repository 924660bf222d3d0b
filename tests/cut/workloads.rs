//! What the service is given to do while it is cut: together every step of a job, every other write and every request.

use std::collections::BTreeMap;

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection};
use upspool::model::job::State;
use upspool_emulator::variants::{Outcome, UnlistedParts};
use upspool_emulator::{Action, Calls, Late, Operation, Patch, Point, Reply, Variants};

use crate::cuts::Place;
use crate::harness::noise;
use crate::room::Room;
use crate::shim::files_in;

/// Something for the service to do, in a few runs.
pub struct Workload {
    pub name: &'static str,
    /// Tables of the configuration, before the folder's.
    pub tables: &'static str,
    /// Lines of the folder's table.
    pub folder: &'static str,
    /// What the server is like.
    pub variants: fn() -> Variants,
    /// What lies in the folder at first, and what the server does wrong.
    pub begin: fn(&mut Room),
    pub phases: &'static [Phase],
    /// The first run that is cut; those before it prepare.
    pub cut_from: usize,
    /// Whether an Upload that lives may be given up for a new one.
    pub restarts: bool,
    /// Whether it is also cut twice in a row.
    pub twice: bool,
}

/// A part of a workload.
pub enum Phase {
    /// The service runs until it has nothing more to do.
    Run(Option<During>),
    /// It runs until it is killed here, to prepare what follows.
    Killed(fn() -> Place),
    /// Something happens while it does not run.
    Do(fn(&mut Room)),
}

/// Something that happens while a request stands still at the server.
pub struct During {
    pub calls: fn() -> Calls,
    /// From which of them on; after a cut from the first.
    pub from: u64,
    pub at: Point,
    pub act: fn(&mut Room),
}

const STORED: &[State] = &[State::Stored];
const FAILED: &[State] = &[State::Failed];
const SKIPPED: &[State] = &[State::Skipped];
const CANCELLED: &[State] = &[State::Cancelled];
const GONE: &[State] = &[State::Gone];
/// A server that says one thing in its answer and another in its list: what is believed depends on whether the answer
/// was lost.
const STORED_OR_UNRESOLVED: &[State] = &[State::Stored, State::Unresolved];

const MIB: usize = 1024 * 1024;
const PARTS: &str = "[upload]\npart_size = \"1 MiB\"\nparallel_parts = 2\n";

/// Complete of a completed Upload is refused, as the documentation has it.
fn strict() -> Variants {
    Variants::default()
}

/// Complete of a completed Upload answers with the File, so that no answer is ever lost for good.
fn forgiving() -> Variants {
    Variants { second_complete: Outcome::Upload, ..Variants::default() }
}

const PLAIN: Workload = Workload {
    name: "",
    tables: PARTS,
    folder: "",
    variants: strict,
    begin: |_| {},
    phases: &[Phase::Run(None)],
    cut_from: 1,
    restarts: false,
    twice: false,
};

pub static WORKLOADS: &[Workload] = &[
    Workload {
        name: "small",
        begin: |room| {
            for seed in 1..=3 {
                room.put(&format!("{seed}.bin"), noise(700 * seed, seed as u64), STORED);
            }
        },
        twice: true,
        ..PLAIN
    },
    Workload {
        name: "large",
        variants: forgiving,
        begin: |room| room.put("large.bin", noise(4 * MIB + 4321, 10), STORED),
        twice: true,
        ..PLAIN
    },
    Workload {
        name: "several",
        folder: "recursive = true\n",
        begin: |room| {
            room.put("one.bin", noise(2 * MIB + 1, 20), STORED);
            room.put("two.bin", noise(2 * MIB + 2, 21), STORED);
            // Twins: of one name and one size.
            room.put("left/twin.bin", noise(999, 22), STORED);
            room.put("right/twin.bin", noise(999, 23), STORED);
            room.put("left/large twin.bin", noise(MIB + 7, 24), STORED);
            room.put("right/large twin.bin", noise(MIB + 7, 25), STORED);
        },
        ..PLAIN
    },
    Workload {
        name: "counted",
        variants: || Variants { unlisted_parts: UnlistedParts::Counted, ..forgiving() },
        begin: |room| room.put("large.bin", noise(2 * MIB + 5, 30), STORED),
        // A Part that was sent again for want of its commit is one too many.
        restarts: true,
        ..PLAIN
    },
    Workload {
        name: "retries of a small file",
        begin: |room| {
            room.put("small.bin", noise(5000, 40), STORED);
            let emulator = &room.bench.emulator;
            emulator.fault(Calls::of(Operation::Create).times(2).meet(Reply::status(500)));
            emulator.fault(Calls::of(Operation::Part).nth(1).meet(Action::drop(Point::Before)));
            let slow = Reply::status(429).header("retry-after-ms", "30");
            emulator.fault(Calls::of(Operation::Complete).nth(1).meet(slow));
        },
        ..PLAIN
    },
    Workload {
        name: "retries of a large file",
        variants: forgiving,
        begin: |room| {
            room.put("large.bin", noise(2 * MIB + 6, 41), STORED);
            let emulator = &room.bench.emulator;
            let slow = Reply::status(429).header("retry-after-ms", "30");
            emulator.fault(Calls::of(Operation::Create).nth(1).meet(slow));
            emulator.fault(Calls::of(Operation::Part).nth(2).meet(Reply::status(503).at(Point::Unread)));
            emulator.fault(Calls::of(Operation::Complete).nth(1).meet(Reply::status(500).at(Point::After)));
        },
        twice: true,
        ..PLAIN
    },
    Workload {
        name: "restart",
        begin: |room| {
            room.put("large.bin", noise(3 * MIB + 8, 50), STORED);
            let expire = Action::Expire { at: Point::Before };
            room.bench.emulator.fault(Calls::of(Operation::Part).nth(3).meet(expire));
        },
        restarts: true,
        twice: true,
        ..PLAIN
    },
    Workload {
        name: "refused by complete",
        begin: |room| {
            room.put("poison.bin", noise(2 * MIB + 9, 60), FAILED);
            room.put("poison small.bin", noise(900, 61), FAILED);
            for name in ["poison.bin", "poison small.bin"] {
                let complete = Calls::of(Operation::Complete).filename(name);
                room.bench.emulator.fault(complete.meet(Reply::status(422)));
            }
        },
        restarts: true,
        ..PLAIN
    },
    Workload {
        name: "refused by create",
        begin: |room| {
            room.put("refused.bin", noise(800, 70), STORED);
            room.put("empty.bin", Vec::new(), FAILED);
            let create = Calls::of(Operation::Create).filename("refused.bin");
            room.bench.emulator.fault(create.meet(Reply::status(400)));
        },
        phases: &[
            Phase::Run(None),
            Phase::Do(|room| {
                room.bench.emulator.clear_faults();
                room.ask(&["retry", "--failed"]);
            }),
            Phase::Run(None),
        ],
        ..PLAIN
    },
    Workload {
        name: "lost answers",
        begin: |room| {
            room.put("small.bin", noise(1234, 80), STORED);
            room.put("large.bin", noise(MIB + 80, 81), STORED);
            for name in ["small.bin", "large.bin"] {
                let complete = Calls::of(Operation::Complete).filename(name).nth(1);
                room.bench.emulator.fault(complete.meet(Action::drop(Point::After)));
            }
        },
        ..PLAIN
    },
    Workload {
        name: "a complete that lands late",
        variants: forgiving,
        begin: |room| {
            room.put("small.bin", noise(1235, 82), STORED);
            let late = Late::after(std::time::Duration::from_millis(80)).status(504);
            room.bench.emulator.fault(Calls::of(Operation::Complete).nth(1).meet(late));
        },
        ..PLAIN
    },
    Workload {
        name: "a File of another size",
        begin: |room| {
            room.put("small.bin", noise(1236, 83), STORED_OR_UNRESOLVED);
            let other = Patch::default().set("/file/bytes", 7);
            room.bench.emulator.fault(Calls::of(Operation::Complete).meet(other));
        },
        ..PLAIN
    },
    Workload {
        name: "vanishing",
        begin: |room| {
            room.put("large.bin", noise(3 * MIB + 90, 90), GONE);
            room.put("other.bin", noise(90, 91), STORED);
        },
        phases: &[Phase::Run(Some(During {
            calls: || Calls::of(Operation::Part).filename("large.bin"),
            from: 1,
            at: Point::Before,
            act: |room| room.remove("large.bin"),
        }))],
        ..PLAIN
    },
    Workload {
        name: "changing",
        begin: |room| {
            room.put("large.bin", noise(3 * MIB + 100, 100), GONE);
        },
        phases: &[Phase::Run(Some(During {
            calls: || Calls::of(Operation::Part).filename("large.bin"),
            from: 1,
            at: Point::Before,
            act: |room| room.put("large.bin", noise(MIB + 101, 101), STORED),
        }))],
        restarts: true,
        ..PLAIN
    },
    Workload {
        name: "touched",
        begin: |room| room.put("large.bin", noise(3 * MIB + 110, 110), STORED),
        phases: &[
            Phase::Run(Some(During {
                calls: || Calls::of(Operation::Part).filename("large.bin"),
                from: 3,
                at: Point::Before,
                act: |room| room.touch("large.bin"),
            })),
            Phase::Run(None),
        ],
        ..PLAIN
    },
    Workload {
        name: "replaced",
        begin: |room| {
            room.put("small.bin", noise(1111, 112), STORED);
            room.put("large.bin", noise(MIB + 113, 113), STORED);
        },
        phases: &[
            Phase::Run(None),
            Phase::Do(|room| {
                room.put("small.bin", noise(1112, 114), STORED);
                room.put("large.bin", noise(MIB + 115, 115), STORED);
            }),
            Phase::Run(None),
        ],
        cut_from: 2,
        ..PLAIN
    },
    Workload {
        name: "operator",
        phases: &[
            Phase::Run(None),
            Phase::Do(|room| {
                room.ask(&["pause"]);
                room.put("one.bin", noise(1001, 120), STORED);
                room.put("two.bin", noise(1002, 121), STORED);
                room.put("large.bin", noise(MIB + 122, 122), STORED);
                room.put("vanished.bin", noise(1003, 123), GONE);
            }),
            Phase::Run(None),
            Phase::Do(|room| {
                room.ask(&["bump", "drop/two.bin"]);
                room.ask(&["cancel", "drop/one.bin"]);
                room.remove("vanished.bin");
            }),
            Phase::Run(None),
            Phase::Do(|room| {
                room.ask(&["resume"]);
                room.ask(&["retry", "drop/one.bin"]);
            }),
            Phase::Run(None),
        ],
        cut_from: 2,
        ..PLAIN
    },
    Workload {
        name: "cancelled while it is sent",
        begin: |room| {
            room.put("large.bin", noise(3 * MIB + 130, 130), CANCELLED);
            room.put("other.bin", noise(130, 131), STORED);
        },
        phases: &[Phase::Run(Some(During {
            calls: || Calls::of(Operation::Part).filename("large.bin"),
            from: 2,
            at: Point::Before,
            act: |room| room.ask(&["cancel", "drop/large.bin"]),
        }))],
        ..PLAIN
    },
    Workload {
        name: "paused while it is sent",
        variants: forgiving,
        begin: |room| room.put("large.bin", noise(3 * MIB + 140, 140), STORED),
        phases: &[
            Phase::Run(Some(During {
                calls: || Calls::of(Operation::Part).filename("large.bin"),
                from: 2,
                at: Point::Before,
                act: |room| room.ask(&["pause"]),
            })),
            Phase::Do(|room| room.ask(&["resume"])),
            Phase::Run(None),
        ],
        ..PLAIN
    },
    Workload {
        name: "skipped",
        folder: "existing = \"skip\"\n",
        begin: |room| {
            room.put("old.bin", noise(1501, 150), SKIPPED);
            room.put("wanted.bin", noise(1502, 151), STORED);
        },
        phases: &[
            Phase::Run(None),
            Phase::Do(|room| {
                room.put("new.bin", noise(1503, 152), STORED);
                room.ask(&["retry", "drop/wanted.bin"]);
            }),
            Phase::Run(None),
        ],
        ..PLAIN
    },
    Workload {
        name: "another server",
        begin: |room| {
            room.put("large.bin", noise(2 * MIB + 160, 160), STORED);
            room.put("small.bin", noise(160, 161), STORED);
        },
        phases: &[
            Phase::Killed(|| Place::Request {
                operation: Operation::Part,
                filename: Some("large.bin".into()),
                nth: 2,
                point: Point::Before,
            }),
            // The same place by another name, which for all that the service knows is another server.
            Phase::Do(|room| {
                let base = room.bench.emulator.base_url().replace("127.0.0.1", "localhost");
                room.bench.api = format!("base_url = {base:?}\n");
            }),
            Phase::Run(None),
        ],
        restarts: true,
        ..PLAIN
    },
    Workload {
        name: "checkpoint",
        phases: &[
            Phase::Run(None),
            Phase::Do(|room| {
                fill_the_log(room);
                for seed in 1..=3_u8 {
                    room.put(
                        &format!("{seed}.bin"),
                        noise(600 * usize::from(seed), 170 + u64::from(seed)),
                        STORED,
                    );
                }
                room.put("large.bin", noise(3 * MIB + 170, 170), STORED);
            }),
            Phase::Run(None),
        ],
        variants: forgiving,
        cut_from: 2,
        ..PLAIN
    },
];

/// Leaves a write-ahead log that is nearly so long that it is folded into the database: the next commits fold it, and
/// begin it anew.
fn fill_the_log(room: &mut Room) {
    // SQLite's own threshold is 1000.
    const FRAMES: u64 = 975;
    let dir = room.bench.state_dir();
    let fill = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let options = SqliteConnectOptions::new()
                .filename(dir.join("upspool.db"))
                .journal_mode(SqliteJournalMode::Wal)
                .synchronous(SqliteSynchronous::Off)
                .pragma("wal_autocheckpoint", "0");
            let mut connection = options.connect().await.unwrap();
            let log = dir.join("upspool.db-wal");
            while std::fs::metadata(&log).map_or(0, |found| found.len()) < FRAMES * (4096 + 24) {
                sqlx::query(
                    "INSERT INTO requests (at, kind, argument, taken_at, done, answer) \
                     VALUES (0, 'pause', hex(zeroblob(1500)), 0, 1, '')",
                )
                .execute(&mut connection)
                .await
                .unwrap();
            }
            // As it is now: closing would fold it.
            let files = files_in(&dir);
            connection.close().await.unwrap();
            files
        })
    };
    let mut files: BTreeMap<String, Vec<u8>> = std::thread::spawn(fill).join().unwrap();
    files.retain(|name, _| name == "upspool.db" || name == "upspool.db-wal");
    assert_eq!(files.len(), 2);
    room.replace_state(&files);
}
