//! The room that decides. Nothing here does I/O, reads a clock, is async, or imports another room.

pub mod answer;
pub mod bandwidth;
pub mod board;
pub mod code;
pub mod digest;
pub mod examine;
pub mod failure;
pub mod file;
pub mod finish;
pub mod job;
pub mod plan;
pub mod policy;
pub mod preflight;
pub mod presence;
pub mod rate;
pub mod reconcile;
pub mod sandbox;
pub mod settle;
pub mod silence;
pub mod time;
pub mod watchdog;
pub mod why;
