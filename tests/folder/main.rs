//! The truth about a folder: which files lie in it, which are versions that are known, and what it means that one is
//! missing. The real binary on real file systems.

#![expect(unreachable_pub, reason = "the harness is a module of a test binary")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod absence;
mod actor;
#[path = "../service/harness.rs"]
#[expect(dead_code, reason = "the tests of the service use the rest")]
mod harness;
mod hostile;
mod identity;
mod links;
mod model;
#[path = "../store_faults/mount.rs"]
#[expect(dead_code, reason = "the tests of the store use the rest")]
mod mount;
