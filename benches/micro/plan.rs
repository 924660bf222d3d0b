//! A file is cut into Parts.

use std::hint::black_box;

use upspool::model::plan::{self, MAX_FILE_BYTES, MAX_PART_BYTES, PartSize, Tail};

/// What is cut with eight slots: one Part, eight, and the 136 of the largest file.
pub(crate) const SIZES: [u64; 3] = [4096, 100 * 1024 * 1024, MAX_FILE_BYTES];

#[divan::bench(args = SIZES, sample_size = 1_000)]
fn parts(bytes: u64) -> usize {
    cut(bytes)
}

/// Cuts a file of so many bytes; returns into how many Parts.
pub(crate) fn cut(bytes: u64) -> usize {
    black_box(plan::parts(black_box(bytes), PartSize::Auto, 8, MAX_PART_BYTES, Tail::Even)).len()
}
