//! 64 MiB of a file in the page cache.

use std::fs;
use std::sync::Arc;

use divan::Bencher;
use divan::counter::BytesCount;
use futures_util::{StreamExt, pin_mut};
use tempfile::NamedTempFile;
use upspool::model::digest::Algorithm;
use upspool::source::Source;

use crate::runtime;

/// Bytes of the file: one Part of the largest size.
const BYTES: u64 = 64 * 1024 * 1024;

/// As a connection takes the body of a Part, but for the writing: chunk by chunk, each dropped before the next is asked for.
#[divan::bench(sample_size = 1)]
fn reader(bencher: Bencher) {
    let (runtime, file) = (runtime(), cached());
    let source = Source::open(file.path()).unwrap();
    bencher.counter(BytesCount::new(BYTES)).bench_local(|| {
        runtime.block_on(async {
            let (chunks, receipt) = source.reader(0..BYTES, Arc::default());
            pin_mut!(chunks);
            while let Some(chunk) = chunks.next().await {
                divan::black_box(chunk.unwrap());
            }
            receipt.digest().expect("all of it was handed over")
        })
    });
}

#[divan::bench(sample_size = 1, sample_count = 50)]
fn md5(bencher: Bencher) {
    let (runtime, file) = (runtime(), cached());
    let source = Source::open(file.path()).unwrap();
    bencher.counter(BytesCount::new(BYTES)).bench_local(|| runtime.block_on(source.md5()).unwrap());
}

#[divan::bench(sample_size = 1)]
fn digest_of(bencher: Bencher) {
    let (runtime, file) = (runtime(), cached());
    let source = Source::open(file.path()).unwrap();
    bencher
        .counter(BytesCount::new(BYTES))
        .bench_local(|| runtime.block_on(source.digest_of(0..BYTES, Algorithm::default())).unwrap());
}

/// A file that was just written, with nothing left to write back while it is measured.
fn cached() -> NamedTempFile {
    let file = NamedTempFile::new().unwrap();
    let bytes: Vec<u8> = (0..BYTES).map(|at| (at / 251 + at) as u8).collect();
    fs::write(file.path(), bytes).unwrap();
    file.as_file().sync_all().unwrap();
    file
}
