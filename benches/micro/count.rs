//! What decides, a fixed number of times: so that instructions can be counted, which no other program on the machine disturbs.

use crate::board::{LARGE, SMALL, Service};
use crate::plan::{SIZES, cut};
use crate::settle::Stream;

/// Does it so many times.
type Run = fn(u64);

/// Each with a number of iterations that takes valgrind a second or some.
const COUNTED: &[(&str, u64, Run)] = &[
    ("settle/observe", 100_000, |times| repeat(Stream::new(), times, Stream::step)),
    ("plan/parts/4096", 100_000, |times| repeat(SIZES[0], times, |bytes| _ = cut(*bytes))),
    ("plan/parts/104857600", 100_000, |times| repeat(SIZES[1], times, |bytes| _ = cut(*bytes))),
    ("plan/parts/8589934592", 20_000, |times| repeat(SIZES[2], times, |bytes| _ = cut(*bytes))),
    ("board/small/10", 5_000, |times| repeat(Service::new(SMALL, 10), times, Service::step)),
    ("board/small/1000", 5_000, |times| repeat(Service::new(SMALL, 1_000), times, Service::step)),
    ("board/small/10000", 5_000, |times| repeat(Service::new(SMALL, 10_000), times, Service::step)),
    ("board/large/10", 5_000, |times| repeat(Service::new(LARGE, 10), times, Service::step)),
    ("board/large/1000", 5_000, |times| repeat(Service::new(LARGE, 1_000), times, Service::step)),
    ("board/large/10000", 5_000, |times| repeat(Service::new(LARGE, 10_000), times, Service::step)),
];

fn repeat<T>(mut state: T, times: u64, step: impl Fn(&mut T)) {
    for _ in 0..times {
        step(&mut state);
    }
}

/// Does what `name` says so many times; without a name, says what there is, each with the iterations it should have.
#[expect(clippy::print_stdout, reason = "benches/instructions.sh reads it")]
pub(crate) fn count(name: Option<String>, times: Option<String>) {
    let Some(name) = name else {
        for (name, times, _) in COUNTED {
            println!("{name} {times}");
        }
        return;
    };
    let (_, _, run) =
        COUNTED.iter().find(|(known, ..)| *known == name).expect("one of those that are listed");
    run(times.expect("a number of iterations").parse().expect("a number of iterations"));
}
