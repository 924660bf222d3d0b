//! What is true only now, asked of a running service.

use std::fmt;
use std::path::Path;

use crate::engine::live::Live;

/// The name of the socket in the state directory.
pub const SOCKET: &str = "live.sock";

/// Nobody answers.
#[derive(Debug)]
pub struct NoService;

impl fmt::Display for NoService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nobody answers")
    }
}

/// Asks the service at a socket.
///
/// # Errors
/// If nobody answers there.
pub async fn ask(_socket: &Path) -> Result<Live, NoService> {
    Err(NoService)
}
