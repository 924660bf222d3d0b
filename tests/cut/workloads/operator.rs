//! Somebody who asks for things, and who changes the configuration.

use upspool_emulator::{Calls, Operation, Point};

use super::{
    CANCELLED, During, GONE, MIB, PLAIN, Phase, SKIPPED, STORED, STORED_OR_UNRESOLVED, Workload, forgiving,
};
use crate::cuts::Place;
use crate::harness::noise;

pub(super) static WORKLOADS: &[Workload] = &[
    Workload {
        name: "operator",
        cuts_the_house: true,
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
            // It may be completing when that server goes away.
            room.put("small.bin", noise(160, 161), STORED_OR_UNRESOLVED);
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
];
