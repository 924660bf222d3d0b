//! Face 2: what is true now, for people and machines. It reads only.
//!
//! The live socket beside the store is there always, for commands. It speaks HTTP, so that the page, where one is
//! configured, is served from the same place.
//!
//! - this file: the live socket, and how it is asked;
//! - `views`: what is looked at;
//! - `api`: the records as JSON; `health`: may it be left alone, does it send? `metrics`: the counts for Prometheus;
//! - [`web`]: the page on an address, and who gets in; `page/`: what a browser gets;
//! - `bounded`: connections, so many and for so long.

mod api;
mod bounded;
mod health;
mod metrics;
mod views;
pub mod web;

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use axum::http::StatusCode;
use serde::de::DeserializeOwned;
use tokio::net::UnixListener;

use self::bounded::Bounded;
use self::views::PATIENCE;
pub use self::views::{Views, inspect};
use crate::engine::live::Live;
use crate::engine::why::Why;

/// The socket's name in the state directory.
pub const SOCKET: &str = "live.sock";

/// Nobody answers on the socket, and why.
#[derive(Debug, thiserror::Error)]
#[error("no service answers at {}: {message}", .socket.display())]
pub struct NoService {
    /// Where it was asked.
    pub socket: PathBuf,
    message: String,
    /// One may run: whoever asks may not.
    pub denied: bool,
}

/// Binds the socket in the state directory; its group may ask.
///
/// # Errors
/// If it cannot be made. An old one of a service that was killed is replaced: the caller holds the lock.
pub fn bind(state_dir: &Path) -> io::Result<UnixListener> {
    let path = state_dir.join(SOCKET);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o660))?;
    Ok(listener)
}

/// Answers until the process ends.
///
/// # Errors
/// If the socket fails.
pub async fn serve(listener: UnixListener, views: Views) -> io::Result<()> {
    axum::serve(Bounded::new(listener), api::routes(views)).await
}

/// Paths are bytes, and URLs are text.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(digits: &str) -> Option<Vec<u8>> {
    // A sign would pass for one.
    if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let pairs = digits.as_bytes().chunks(2);
    pairs
        .map(|pair| {
            u8::from_str_radix(std::str::from_utf8(pair).ok().filter(|pair| pair.len() == 2)?, 16).ok()
        })
        .collect()
}

/// Asks the service that uses this state directory how it is.
///
/// # Errors
/// If none answers.
pub async fn ask(state_dir: &Path) -> Result<Live, NoService> {
    get_json(state_dir, "status").await
}

/// Asks the service that uses this state directory why a file is not uploaded.
///
/// # Errors
/// If none answers.
pub async fn ask_why(state_dir: &Path, path: &Path) -> Result<Why, NoService> {
    get_json(state_dir, &format!("why/{}", hex(path.as_os_str().as_bytes()))).await
}

async fn get_json<T: DeserializeOwned>(state_dir: &Path, what: &str) -> Result<T, NoService> {
    let socket = state_dir.join(SOCKET);
    let failed = |message: String| NoService { socket: socket.clone(), message, denied: false };
    let unheard = |error: io::Error| NoService {
        denied: error.kind() == io::ErrorKind::PermissionDenied,
        ..failed(error.to_string())
    };
    // Asked first, since the HTTP library's words for it say nothing.
    std::os::unix::net::UnixStream::connect(&socket).map_err(unheard)?;
    let client = reqwest::Client::builder()
        .unix_socket(socket.clone())
        .timeout(PATIENCE * 2)
        .no_proxy()
        .tls_certs_only([])
        .build()
        .map_err(|error| failed(error.to_string()))?;
    let answer = client
        .get(format!("http://live/api/{what}"))
        .send()
        .await
        .map_err(|error| failed(error.to_string()))?;
    if answer.status().as_u16() == StatusCode::SERVICE_UNAVAILABLE.as_u16() {
        let why = answer.text().await.map_err(|error| failed(error.to_string()))?;
        return Err(failed(crate::text::shown_bytes(why.as_bytes())));
    }
    let answer = answer.error_for_status().map_err(|error| failed(error.to_string()))?;
    answer.json().await.map_err(|error| failed(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_goes_through_a_url_byte_for_byte() {
        let bytes: Vec<u8> = (0..=255).collect();
        assert_eq!(unhex(&hex(&bytes)).unwrap(), bytes);
        for wrong in ["0", "zz", "+1", "é0"] {
            assert_eq!(unhex(wrong), None, "{wrong}");
        }
    }
}
