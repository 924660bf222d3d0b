//! How a command ends when it does not do what was asked.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};

use crate::config::Faults;
use crate::daemon;
use crate::model::job::Code;
use crate::store::StoreError;

/// Why a command failed, with the code that it ends with.
#[derive(Debug)]
pub enum Failure {
    /// The configuration is wrong: 78.
    Config(Faults),
    /// The store cannot be read or written: 1, or 75 if somebody else holds it.
    Store(StoreError),
    /// The store is such that `run` would end by it: 78.
    Damaged(StoreError),
    /// The service could not run.
    Service(daemon::Error),
    /// Standard output cannot be written to; nothing more is said if nobody reads it any more.
    Output(io::Error),
    /// This line: 1.
    Said(String),
    /// All was said already.
    Told(u8),
}

/// Something failed.
pub(super) const FAILED: u8 = 1;
/// `status` found no service.
pub(super) const NO_SERVICE: u8 = 3;
/// `EX_TEMPFAIL`.
pub(super) const TRY_LATER: u8 = 75;
/// `EX_CONFIG`.
pub(super) const CONFIG: u8 = 78;
/// What clap ends with.
pub(super) const USAGE: u8 = 2;

impl Failure {
    /// Says it on standard error and gives the exit code.
    pub fn report(&self) -> u8 {
        match self {
            Failure::Config(faults) => {
                // Each begins with its place, as compilers write it, so that editors can go there.
                let _ = writeln!(io::stderr(), "{faults}");
                CONFIG
            }
            Failure::Store(error) => {
                say(error);
                if error.code() == Some(Code::StoreLocked) { TRY_LATER } else { FAILED }
            }
            Failure::Damaged(error) => {
                say(error);
                CONFIG
            }
            Failure::Service(error) => {
                say(error);
                error.exit_code()
            }
            // Whoever reads has enough, as with `head`.
            Failure::Output(error) if error.kind() == ErrorKind::BrokenPipe => 0,
            Failure::Output(error) => {
                say(format_args!("standard output cannot be written: {error}"));
                FAILED
            }
            Failure::Said(line) => {
                say(line);
                FAILED
            }
            Failure::Told(code) => *code,
        }
    }

    /// What it says, where it is told beside other things.
    pub(super) fn words(&self) -> String {
        match self {
            Failure::Config(faults) => faults.to_string(),
            Failure::Store(error) | Failure::Damaged(error) => error.to_string(),
            Failure::Service(error) => error.to_string(),
            Failure::Output(error) => error.to_string(),
            Failure::Said(line) => line.clone(),
            Failure::Told(_) => String::new(),
        }
    }

    pub(super) fn said(line: impl Into<String>) -> Failure {
        Failure::Said(line.into())
    }
}

/// One line on standard error; if nobody reads that, nobody can be told.
pub(super) fn say(line: impl Display) {
    let _ = writeln!(io::stderr(), "upspool: {line}");
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::Output(error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Failure {
        Failure::Store(error)
    }
}

impl From<Faults> for Failure {
    fn from(faults: Faults) -> Failure {
        Failure::Config(faults)
    }
}
