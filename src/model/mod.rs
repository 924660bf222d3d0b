//! The room that decides. Nothing here does I/O, reads a clock, is async, or imports another room.

pub mod answer;
pub mod failure;
pub mod file;
pub mod settle;
pub mod time;
