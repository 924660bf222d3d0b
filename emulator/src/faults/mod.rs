//! Scripted faults: which calls, and what they meet. The same types serve Rust and TOML.

mod action;
mod calls;
mod late;
mod patch;
mod reply;
mod script;

pub use action::{Action, Point};
pub use calls::{Calls, Fault};
pub use late::{Lag, Late};
pub use patch::Patch;
pub use reply::{Body, Reply, Then};
pub use script::ScriptFile;

pub(crate) use script::Script;
