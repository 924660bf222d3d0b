//! A server that fails, refuses, forgets and contradicts itself.

use upspool_emulator::{Action, Calls, Late, Operation, Patch, Point, Reply};

use super::{FAILED, MIB, PLAIN, Phase, STORED, STORED_OR_UNRESOLVED, Workload, forgiving};
use crate::harness::noise;

pub(super) static WORKLOADS: &[Workload] = &[
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
            // A list that does not know sizes yet has the File asked for.
            let unknown = Patch::default().null("/data/0/bytes").null("/data/1/bytes");
            room.bench.emulator.fault(Calls::of(Operation::List).meet(unknown));
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
];
