//! What comes from outside, as it never should: answers, headers and bodies of errors on a real socket to the real client,
//! configuration files, names of files, and lines of files that are looked at. No panic, no memory without bound, and what is printed keeps to its line.
//!
//! Each target takes a second; `UPSPOOL_FUZZ_SECONDS` says another time, and `UPSPOOL_FUZZ_SEED` where chance begins.

#![expect(unreachable_pub, reason = "modules of a test binary")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod answers;
mod configuration;
#[path = "../service/harness.rs"]
#[expect(dead_code, reason = "shared with the tests of the service, which use more of it")]
mod harness;
mod lines;
mod mutate;
mod names;

use std::cell::Cell;
use std::sync::Once;
use std::time::{Duration, Instant};

use mutate::Mutator;

/// Memory of the whole test, with all targets at once: each holds one input, of some KiB, and what comes of it.
const MOST_MEMORY_KIB: u64 = 512 * 1024;

thread_local! {
    /// Panics of this thread: those of a task of its runtime fail nothing by themselves.
    static PANICS: Cell<u64> = const { Cell::new(0) };
}
static HOOK: Once = Once::new();

/// The time of one target, and its chance.
pub struct Session {
    name: &'static str,
    until: Instant,
    seed: u64,
    inputs: u64,
}

impl Session {
    /// Begins when all that inputs need is there.
    #[expect(clippy::disallowed_methods, reason = "it stops after some time, and decides nothing by it")]
    pub fn new(name: &'static str) -> (Session, Mutator) {
        HOOK.call_once(|| {
            let usual = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |info| {
                PANICS.set(PANICS.get() + 1);
                usual(info);
            }));
        });
        let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
        let seed = number("UPSPOOL_FUZZ_SEED").unwrap_or(1);
        let time = Duration::from_secs(number("UPSPOOL_FUZZ_SECONDS").unwrap_or(1));
        let until = Instant::now() + time;
        (Session { name, until, seed, inputs: 0 }, Mutator::new(seed))
    }

    /// Whether there is time for another input.
    #[expect(clippy::disallowed_methods, reason = "it stops after some time, and decides nothing by it")]
    pub fn goes_on(&mut self) -> bool {
        self.inputs += 1;
        Instant::now() < self.until
    }

    /// Says how many inputs there were, and asserts what holds for all together.
    #[expect(clippy::print_stderr, reason = "the count is what one wants to know of a long run")]
    pub fn end(self) {
        eprintln!("{}: {} inputs from seed {}", self.name, self.inputs - 1, self.seed);
        assert_eq!(PANICS.get(), 0, "a task panicked");
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        let peak: u64 = peak.trim().trim_end_matches("kB").trim().parse().unwrap();
        assert!(peak <= MOST_MEMORY_KIB, "{peak} KiB of memory");
    }
}

/// Asserts that a terminal and a log show `text` as one line.
pub fn is_one_line(text: &str, input: &[u8]) {
    let bad = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}');
    assert!(!text.chars().any(bad), "{text:?} from {}", input.escape_ascii());
}
