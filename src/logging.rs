//! Where events are written.

use crate::config;

/// Begins to write events.
///
/// # Errors
/// If they cannot be written as configured. One line.
pub fn start(_log: &config::Log) -> Result<(), std::io::Error> {
    Ok(())
}
