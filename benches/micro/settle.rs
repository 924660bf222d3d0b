//! Files settle, one after the other, while others are waited for.

use std::path::PathBuf;
use std::time::Duration;

use divan::Bencher;
use divan::counter::ItemsCount;
use upspool::model::file::{Fingerprint, Look};
use upspool::model::settle::{Decision, FolderKey, Observation, Quiet, Settle};
use upspool::model::time::{Boot, Now, Wall};

/// Files that are waited for at any time.
const WAITING: u32 = 1_000;

/// Names of files, which come again only after all of them have settled. With few of them it would depend on the seed of a
/// hash map, which is another in each run, how well they fit into it.
const PATHS: u32 = 100_000;

const FOLDER: FolderKey = FolderKey(0);

#[divan::bench(sample_size = 1_000)]
fn observe(bencher: Bencher) {
    let mut stream = Stream::new();
    bencher.counter(ItemsCount::new(Stream::OBSERVATIONS)).bench_local(|| stream.step());
}

/// A file comes with each step, and one settles that came a quiet time ago.
pub(crate) struct Stream {
    settle: Settle,
    paths: Vec<PathBuf>,
    came: usize,
    now: Now,
    each: Duration,
}

impl Stream {
    /// Observations in a step.
    pub(crate) const OBSERVATIONS: u32 = 2;

    pub(crate) fn new() -> Stream {
        let paths = (0..PATHS).map(|n| format!("batch-{}/part-{n}.jsonl", n % 100).into()).collect();
        let now = Now { wall: Wall(1_800_000_000_000), boot: Boot(1_000_000) };
        let each = Quiet::DEFAULT.tested / WAITING;
        let mut stream = Stream { settle: Settle::new(), paths, came: 0, now, each };
        for _ in 0..WAITING {
            stream.come();
        }
        stream
    }

    pub(crate) fn step(&mut self) {
        self.come();
        let due = self.settle.due(self.now.boot, 64);
        assert_eq!(due.len(), 1);
        for (folder, path) in due {
            let seen = Observation::Present { look: self.look(Quiet::DEFAULT.tested), tested: true };
            let decision = self.settle.observe(folder, &path, seen, self.now);
            assert!(matches!(decision, Decision::Settled(_)), "{decision:?}");
        }
    }

    fn come(&mut self) {
        self.now = self.now + self.each;
        let path = &self.paths[self.came % self.paths.len()];
        let seen = Observation::Glimpsed(self.look(Duration::ZERO));
        let decision = self.settle.observe(FOLDER, path, seen, self.now);
        assert!(matches!(decision, Decision::LookAgain(_)), "{decision:?}");
        self.came += 1;
    }

    fn look(&self, unchanged_for: Duration) -> Look {
        let fingerprint = Fingerprint { bytes: 4096, mtime_ns: 1, ctime_ns: 2, inode: 3 };
        Look { fingerprint, unchanged_for: Some(unchanged_for) }
    }
}
