//! Accepts connections and ends them.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::connection::{Connection, Wire};
use crate::exchange;
use crate::shared::Shared;

/// Serves until `off`, then drops the listener and every connection.
pub(crate) async fn run(
    listener: TcpListener,
    shared: Arc<Shared>,
    off: CancellationToken,
    tasks: TaskTracker,
) {
    static CONNECTIONS: AtomicU64 = AtomicU64::new(0);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = off.cancelled() => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                let number = CONNECTIONS.fetch_add(1, Ordering::Relaxed) + 1;
                let connection = Connection::new(number, peer);
                tasks.spawn(serve(stream, connection, Arc::clone(&shared), off.clone()));
            }
            // No descriptors left, most likely: a pause lets some be closed.
            Err(error) => {
                tracing::warn!(%error, "accept");
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        }
    }
}

async fn serve(stream: TcpStream, connection: Arc<Connection>, shared: Arc<Shared>, off: CancellationToken) {
    let _ = stream.set_nodelay(true);
    let wire = Wire { stream, connection: Arc::clone(&connection) };
    let service = service_fn(|request| {
        let served = exchange::serve(Arc::clone(&shared), Arc::clone(&connection), request);
        async { Ok::<_, Infallible>(served.await) }
    });
    let http = http1::Builder::new().auto_date_header(false).serve_connection(TokioIo::new(wire), service);
    tokio::select! {
        result = http => {
            if let Err(error) = result {
                tracing::debug!(%error, connection = connection.number, "connection ended");
            }
        }
        () = connection.ended() => {}
        () = off.cancelled() => {}
    }
}
