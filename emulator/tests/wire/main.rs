//! The emulator over the real wire, with an independent client.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed, as it should")]

mod client;
mod faults;
mod operations;
mod program;
mod strictness;
mod variants;
