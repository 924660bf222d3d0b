//! Faults of the database and of the disk under it: the real binary, real SQLite, real disks where they can be had. Whatever
//! happens, the server never knows more than the ledger.

#![expect(unreachable_pub, reason = "the harness is a module of a test binary")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod busy;
mod cut_off;
mod damaged;
mod disks;
#[path = "../service/harness.rs"]
#[expect(dead_code, reason = "the tests of the service use the rest")]
mod harness;
mod injected;
mod ledger;
#[expect(dead_code, reason = "the tests of folders use the rest")]
mod mount;
mod shim;
