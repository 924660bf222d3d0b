//! `upspool`.
fn main() {}
