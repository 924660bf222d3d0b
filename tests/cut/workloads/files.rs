//! Files of all kinds, and what may become of them while they are sent.

use std::collections::BTreeMap;

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection};
use upspool_emulator::variants::UnlistedParts;
use upspool_emulator::{Calls, Operation, Point, Variants};

use super::{During, FAILED, GONE, MIB, PLAIN, Phase, STORED, Workload, forgiving};
use crate::harness::noise;
use crate::room::Room;
use crate::shim::files_in;

pub(super) static WORKLOADS: &[Workload] = &[
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
        name: "shared",
        folder: "dedupe = true\n",
        begin: |room| {
            for directory in ["left", "middle", "right"] {
                room.put(&format!("{directory}/small.bin"), noise(998, 26), STORED);
                room.put(&format!("{directory}/large.bin"), noise(2 * MIB + 8, 27), STORED);
            }
        },
        twice: true,
        ..PLAIN
    },
    Workload {
        name: "finished",
        folder: "after_upload = { move = \"done\" }\nafter_failure = { move = \"failed\" }\nreceipt = true\n",
        begin: |room| {
            room.put("in/small.bin", noise(997, 28), STORED);
            room.put("large.bin", noise(2 * MIB + 9, 29), STORED);
            room.put("empty.bin", Vec::new(), FAILED);
            room.ends("in/small.bin", "done/in/small.bin");
            room.ends("large.bin", "done/large.bin");
            room.ends("empty.bin", "failed/empty.bin");
            room.add_hook();
        },
        twice: true,
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
        cuts_the_house: true,
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
        name: "checkpoint",
        cuts_the_house: true,
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
    files.retain(|name, _| matches!(name.as_str(), "upspool.db" | "upspool.db-wal" | "upspool.db.witness"));
    assert_eq!(files.len(), 3);
    room.replace_state(&files);
}
