//! `upspool-emulator`.
fn main() {}
