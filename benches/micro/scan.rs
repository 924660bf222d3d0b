//! The walk of a folder that is in the kernel's caches.

use std::fs;
use std::hint::black_box;
use std::time::Duration;

use divan::Bencher;
use divan::counter::ItemsCount;
use tempfile::TempDir;
use upspool::beneath::Links;
use upspool::clock::Clock;
use upspool::model::settle::FolderKey;
use upspool::watch::ignore::TakeRules;
use upspool::watch::{FolderSpec, WatchMode};

const DIRECTORIES: usize = 1_000;
const FILES: usize = 10_000;

#[divan::bench(sample_size = 1)]
fn survey(bencher: Bencher) {
    let folder = TempDir::new().unwrap();
    for directory in 0..DIRECTORIES {
        let path = folder.path().join(format!("batch-{directory}"));
        fs::create_dir(&path).unwrap();
        for file in 0..FILES / DIRECTORIES {
            fs::write(path.join(format!("part-{file}.jsonl")), b"{}\n").unwrap();
        }
    }
    let spec = FolderSpec {
        key: FolderKey(0),
        path: folder.path().to_owned(),
        recursive: true,
        links: Links::None,
        watch: WatchMode::Auto,
        poll_interval: Duration::from_secs(30),
        rescan_interval: Duration::from_secs(600),
        rules: TakeRules::everything(),
        excluded: Vec::new(),
    };
    bencher.counter(ItemsCount::new(FILES)).bench_local(|| {
        let found = upspool::watch::survey(&spec, &|| Clock::System.now(), &mut |batch| {
            black_box(batch);
            true
        });
        assert_eq!(found.unwrap().files, FILES as u64);
    });
}
