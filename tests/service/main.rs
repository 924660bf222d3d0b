//! The real binary on real folders against the emulator, as a user would run it.

#![expect(unreachable_pub, reason = "the harness is a module of a test binary")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod asks;
mod bad_input;
mod clocks;
mod commands;
mod examine;
mod exit_codes;
mod files;
mod finish;
mod harness;
mod hostile_names;
mod log_lines;
mod lost_answers;
mod manners;
mod records;
mod reload;
mod restart;
mod servers;
mod source_changes;
mod status_page;
mod stuck;
mod why;
