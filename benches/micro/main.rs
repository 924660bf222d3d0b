//! What is hot, each by itself: `cargo bench --bench micro`, or `just bench-hot`; a word after `--` picks those with it in their name.
//!
//! - `source`: the bytes of a file, for the connection and for digests;
//! - `store`: new jobs and steps of jobs, to the commit;
//! - `scan`: the walk of a folder;
//! - `settle`, `plan` and `board`: what decides, without I/O;
//! - `count`: the same decisions a fixed number of times, for `benches/instructions.sh`.
//!
//! Files and stores lie in `TMPDIR`.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark that cannot go on says where")]

mod board;
mod count;
mod plan;
mod scan;
mod settle;
mod source;
mod store;

use tokio::runtime::{Builder, Runtime};

fn main() {
    let mut arguments = std::env::args().skip(1);
    match arguments.next().as_deref() {
        Some("count") => count::count(arguments.next(), arguments.next()),
        _ => divan::main(),
    }
}

/// As the service has it.
fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}
