//! The proof by cutting: the real service, killed before and after each of its requests and at each sync of its store,
//! with and without the loss of what was not synced, and started again. However it was cut, the service keeps its promises.
//!
//! `UPSPOOL_CUTS=all` makes every cut there is, and `2/3` the second of three shares of them; without it a few for each step
//! of a job, each other write of the store and each kind of request. `UPSPOOL_CUT=NAME` makes those cuts whose names contain NAME, and keeps what they leave.
//!
//! The tour: `shim` is what counts syncs and knows what they made durable, and `shim.c` its part in the service;
//! `workloads` says what the service is given to do; `cuts` which cuts there are; `room` is where one of them is made, and
//! `telling` shows it to people;
//! `ledger` reads the rows past the program; `promises` are what must hold; `proof` makes the cuts and adds up;
//! `doubts` asks whether it would notice.

#![expect(unreachable_pub, reason = "modules of a test binary")]
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on says where")]

mod cuts;
mod doubts;
#[path = "../service/harness.rs"]
#[expect(dead_code, reason = "made for other tests as well")]
mod harness;
mod ledger;
mod promises;
mod proof;
mod room;
mod shim;
mod telling;
mod workloads;
