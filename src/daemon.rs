//! The service, from its configuration to its end.

use std::fmt;
use std::time::Duration;

use crate::config::Config;

/// How to run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Take what is there and end.
    pub once: bool,
    /// With `once`: end after so long at the latest.
    pub timeout: Option<Duration>,
}

/// Why the service did not run. One line.
#[derive(Debug)]
pub struct Error;

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not there yet")
    }
}

impl std::error::Error for Error {}

impl Error {
    /// The exit code of the process.
    pub fn exit_code(&self) -> u8 {
        1
    }
}

/// Runs until it is told to end. The exit code.
///
/// # Errors
/// If it cannot start, or cannot go on.
pub async fn run(_config: Config, _options: Options) -> Result<u8, Error> {
    Err(Error)
}
