//! What the service is given to do while it is cut: together every step of a job, every other write and every request.

//!
//! `files` are sent by a server that does all that it is asked; `server` does not; in `operator` somebody meddles.

mod files;
mod operator;
mod server;

use std::sync::LazyLock;

use upspool::model::job::State;
use upspool_emulator::variants::Outcome;
use upspool_emulator::{Calls, Point, Variants};

use crate::cuts::Place;
use crate::room::Room;

/// All of them. The first is also cut while it makes the database.
pub static WORKLOADS: LazyLock<Vec<&'static Workload>> =
    LazyLock::new(|| files::WORKLOADS.iter().chain(server::WORKLOADS).chain(operator::WORKLOADS).collect());

/// Something for the service to do, in a few runs.
pub struct Workload {
    pub name: &'static str,
    /// Tables of the configuration, before the folder's.
    pub tables: &'static str,
    /// Lines of the folder's table.
    pub folder: &'static str,
    /// What the server is like.
    pub variants: fn() -> Variants,
    /// What lies in the folder at first, and what the server does wrong.
    pub begin: fn(&mut Room),
    pub phases: &'static [Phase],
    /// The first run that is cut; those before it prepare.
    pub cut_from: usize,
    /// Whether an Upload that lives may be given up for a new one.
    pub restarts: bool,
    /// Whether it is cut also where the store only opens, folds its log and closes.
    pub cuts_the_house: bool,
    /// Whether it is also cut twice in a row.
    pub twice: bool,
}

/// A part of a workload.
pub enum Phase {
    /// The service runs until it has nothing more to do.
    Run(Option<During>),
    /// It runs until it is killed here, to prepare what follows.
    Killed(fn() -> Place),
    /// Something happens while it does not run.
    Do(fn(&mut Room)),
}

/// Something that happens while a request stands still at the server.
pub struct During {
    pub calls: fn() -> Calls,
    /// From which of them on; after a cut from the first.
    pub from: u64,
    pub at: Point,
    pub act: fn(&mut Room),
}

const STORED: &[State] = &[State::Stored];
const FAILED: &[State] = &[State::Failed];
const SKIPPED: &[State] = &[State::Skipped];
const CANCELLED: &[State] = &[State::Cancelled];
const GONE: &[State] = &[State::Gone];
/// What is believed hangs on whether an answer was lost: of a server that says one thing in its answer and another in its
/// list, or of one that nobody can ask any more.
const STORED_OR_UNRESOLVED: &[State] = &[State::Stored, State::Unresolved];

const MIB: usize = 1024 * 1024;
const PARTS: &str = "[upload]\npart_size = \"1 MiB\"\nparallel_parts = 2\n";

/// Complete of a completed Upload is refused, as the documentation has it.
fn strict() -> Variants {
    Variants::default()
}

/// Complete of a completed Upload answers with the File, so that no answer is ever lost for good.
fn forgiving() -> Variants {
    Variants { second_complete: Outcome::Upload, ..Variants::default() }
}

const PLAIN: Workload = Workload {
    name: "",
    tables: PARTS,
    folder: "",
    variants: strict,
    begin: |_| {},
    phases: &[Phase::Run(None)],
    cut_from: 1,
    restarts: false,
    cuts_the_house: false,
    twice: false,
};
