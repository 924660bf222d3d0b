//! One TCP connection: when what was written is flushed, and how it ends.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::{fmt, io};

use hyper::body::Incoming;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use crate::exchange::Moment;
use crate::faults::Action;

/// How a connection ends that a fault ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// `close`. The kernel still sends RST if bytes were left unread.
    Close,
    /// RST, whatever was read.
    Reset,
}

/// What the tasks of one connection share.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) number: u64,
    pub(crate) peer: SocketAddr,
    cut: CancellationToken,
    reset: AtomicBool,
    /// Answers that hyper has, but may not have written yet.
    sent: Mutex<Vec<Delivery>>,
    /// A body that nobody reads, kept so that the client finds the socket open.
    unread: Mutex<Option<Incoming>>,
}

impl Connection {
    pub(crate) fn new(number: u64, peer: SocketAddr) -> Arc<Self> {
        Arc::new(Self {
            number,
            peer,
            cut: CancellationToken::new(),
            reset: AtomicBool::new(false),
            sent: Mutex::default(),
            unread: Mutex::default(),
        })
    }

    /// Ends the connection now. What waits on it is dropped by [`Connection::ended`]'s caller.
    pub(crate) fn end(&self, how: End) {
        self.reset.store(how == End::Reset, Ordering::SeqCst);
        self.cut.cancel();
    }

    pub(crate) async fn ended(&self) {
        self.cut.cancelled().await;
    }

    pub(crate) fn keep_unread(&self, body: Incoming) {
        *self.unread.lock().unwrap_or_else(PoisonError::into_inner) = Some(body);
    }

    fn flushed(&self) {
        let gone = std::mem::take(&mut *self.sent.lock().unwrap_or_else(PoisonError::into_inner));
        for delivery in gone {
            delivery.flushed();
        }
    }
}

/// An answer's way out: from the last frame of its body to the flush of the socket.
pub(crate) struct Delivery {
    pub(crate) moment: Arc<Moment>,
    /// Faults that follow once the answer is with the kernel.
    pub(crate) then: Vec<Action>,
    pub(crate) end: Option<End>,
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery").field("then", &self.then).field("end", &self.end).finish_non_exhaustive()
    }
}

impl Delivery {
    /// The last frame is with hyper; the next flush of the socket has written it.
    pub(crate) fn sent(self) {
        self.moment.exchange.answered();
        let connection = Arc::clone(&self.moment.connection);
        connection.sent.lock().unwrap_or_else(PoisonError::into_inner).push(self);
    }

    fn flushed(self) {
        self.moment.exchange.delivered();
        for action in &self.then {
            self.moment.perform_at_once(action);
        }
        if let Some(end) = self.end {
            self.moment.connection.end(end);
        }
    }
}

/// The socket. hyper flushes it only when its own buffer is empty, so a flush means written.
pub(crate) struct Wire {
    pub(crate) stream: TcpStream,
    pub(crate) connection: Arc<Connection>,
}

impl Drop for Wire {
    fn drop(&mut self) {
        if self.connection.reset.load(Ordering::SeqCst) {
            // A linger of zero makes the close that follows a reset.
            let _ = self.stream.set_zero_linger();
        }
        // Answers that never went: their records say so as they are dropped.
        self.connection.sent.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.connection.unread.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        if matches!(flushed, Poll::Ready(Ok(()))) {
            self.connection.flushed();
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
