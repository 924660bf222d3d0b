//! Face 2: what is true only now, over a read-only Unix socket beside the store.
//!
//! The socket speaks HTTP, so that a page can be served from the same place: `GET /api/status` is the record of
//! [`Live`].

mod bounded;

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use self::bounded::Bounded;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use tokio::net::UnixListener;
use tokio::sync::{mpsc, oneshot};

use crate::engine::Message;
use crate::engine::live::Live;
use crate::engine::vitals::Vitals;

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
) -> io::Result<()> {
    let routes = Router::new().route("/api/status", get(status)).with_state((engine, vitals));
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

/// Asks the engine how it is; nothing if it does not say in time.
pub async fn inspect(engine: &mpsc::Sender<Message>) -> Option<Live> {
    let (answer, live) = oneshot::channel();
    let asked = async {
        engine.send(Message::Inspect(answer)).await.ok()?;
        live.await.ok()
    };
    tokio::time::timeout(PATIENCE, asked).await.ok()?
}

/// Asks the service that uses this state directory.
///
/// # Errors
/// If none answers.
pub async fn ask(state_dir: &Path) -> Result<Live, NoService> {
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
    let answer =
        client.get("http://live/api/status").send().await.map_err(|error| failed(error.to_string()))?;
    if answer.status().as_u16() == StatusCode::SERVICE_UNAVAILABLE.as_u16() {
        let why = answer.text().await.map_err(|error| failed(error.to_string()))?;
        return Err(failed(crate::text::shown_bytes(why.as_bytes())));
    }
    let answer = answer.error_for_status().map_err(|error| failed(error.to_string()))?;
    answer.json().await.map_err(|error| failed(error.to_string()))
}
