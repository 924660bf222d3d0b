//! The emulator over the real wire, with an independent client.

mod client;
mod faults;
mod operations;
mod program;
mod strictness;
mod variants;
