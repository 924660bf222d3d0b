//! Face 2: what is true only now, over a read-only Unix socket beside the store.
//!
//! The socket speaks HTTP, so that a page can be served from the same place: `GET /api/status` is the record of
//! [`Live`], and `GET /api/why/PATH`, the path's bytes in hexadecimal digits, that of [`Why`].

mod bounded;

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use self::bounded::Bounded;
use axum::Router;
use axum::extract::{Path as UrlPath, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use serde::de::DeserializeOwned;
use tokio::net::UnixListener;
use tokio::sync::{mpsc, oneshot};

use crate::engine::Message;
use crate::engine::live::Live;
use crate::engine::vitals::Vitals;
use crate::engine::why::{Inquiry, Why};

/// The socket's name in the state directory.
pub const SOCKET: &str = "live.sock";

/// How long a service may take to say how it is.
const PATIENCE: Duration = Duration::from_secs(5);

/// Nobody answers on the socket, and why.
#[derive(Debug, thiserror::Error)]
#[error("no service answers at {}: {message}", .socket.display())]
pub struct NoService {
    /// Where it was asked.
    pub socket: PathBuf,
    message: String,
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
pub async fn serve(
    listener: UnixListener,
    engine: mpsc::Sender<Message>,
    vitals: Arc<Vitals>,
    inquiry: Inquiry,
) -> io::Result<()> {
    let routes = Router::new()
        .route("/api/status", get(status))
        .with_state((engine, vitals))
        .route("/api/why/{path}", get(why))
        .with_state(inquiry);
    axum::serve(Bounded::new(listener), routes).await
}

async fn status(State((engine, vitals)): State<(mpsc::Sender<Message>, Arc<Vitals>)>) -> Response {
    match inspect(&engine).await {
        Some(live) => Json(live).into_response(),
        None => {
            let stuck = vitals.stuck().first().map(ToString::to_string);
            let why = stuck.unwrap_or_else(|| "its engine does not answer".into());
            (StatusCode::SERVICE_UNAVAILABLE, why).into_response()
        }
    }
}

async fn why(State(inquiry): State<Inquiry>, UrlPath(path): UrlPath<String>) -> Response {
    let Some(path) = unhex(&path).map(|bytes| PathBuf::from(OsString::from_vec(bytes))) else {
        return (StatusCode::BAD_REQUEST, "the path is not in hexadecimal digits").into_response();
    };
    match inquiry.explain(&path).await {
        Ok(why) => Json(why).into_response(),
        Err(fault) => (StatusCode::SERVICE_UNAVAILABLE, fault.to_string()).into_response(),
    }
}

/// Paths are bytes, and URLs are text.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(digits: &str) -> Option<Vec<u8>> {
    if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let pairs = digits.as_bytes().chunks(2);
    pairs
        .map(|pair| {
            u8::from_str_radix(std::str::from_utf8(pair).ok().filter(|pair| pair.len() == 2)?, 16).ok()
        })
        .collect()
}

/// Asks the engine how it is; nothing if it does not say in time.
pub async fn inspect(engine: &mpsc::Sender<Message>) -> Option<Live> {
    let (answer, live) = oneshot::channel();
    let asked = async {
        engine.send(Message::Inspect(answer)).await.ok()?;
        live.await.ok()
    };
    tokio::time::timeout(PATIENCE, asked).await.ok()?
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
    let failed = |message: String| NoService { socket: socket.clone(), message };
    // Asked first, since the HTTP library's words for it say nothing.
    std::os::unix::net::UnixStream::connect(&socket).map_err(|error| failed(error.to_string()))?;
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
