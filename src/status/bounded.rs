//! Connections, so many at once and each for so long: whoever may ask can keep no file of the service open, nor keep
//! others from asking for longer than that.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Sleep, sleep};

/// Answered at once. More wait in the kernel, which refuses what is more than its backlog.
pub(super) const AT_ONCE: usize = 32;

/// How long a connection may last, whatever goes on over it. An answer takes 5 s at most.
const LIFE: Duration = Duration::from_secs(30);

/// A socket that takes a bounded number of connections.
pub(super) struct Bounded<L> {
    listener: L,
    room: Arc<Semaphore>,
    life: Duration,
}

impl<L> Bounded<L> {
    pub(super) fn new(listener: L) -> Bounded<L> {
        Bounded { listener, room: Arc::new(Semaphore::new(AT_ONCE)), life: LIFE }
    }
}

impl<L: Listener> Listener for Bounded<L> {
    type Io = Connection<L::Io>;
    type Addr = L::Addr;

    async fn accept(&mut self) -> (Self::Io, L::Addr) {
        loop {
            // Never closed, so there is always room again some time.
            let Ok(permit) = self.room.clone().acquire_owned().await else { continue };
            // Axum's own: it logs, and waits where there are no descriptors left.
            let (stream, address) = Listener::accept(&mut self.listener).await;
            let over = Box::pin(sleep(self.life));
            return (Connection { stream, over, _permit: permit }, address);
        }
    }

    fn local_addr(&self) -> io::Result<L::Addr> {
        self.listener.local_addr()
    }
}

/// One connection, which gives its place back when it ends.
pub(super) struct Connection<S> {
    stream: S,
    over: Pin<Box<Sleep>>,
    _permit: OwnedSemaphorePermit,
}

impl<S> Connection<S> {
    /// Fails when its time is over; else wakes the task when it will be.
    fn in_time(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match self.over.as_mut().poll(context) {
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Connection<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.in_time(context)?;
        pin!(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Connection<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.in_time(context)?;
        pin!(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        pin!(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        pin!(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{UnixListener, UnixStream};

    use super::*;

    #[tokio::test]
    async fn the_next_is_answered_only_when_one_has_ended() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("live.sock");
        let mut bounded = Bounded::new(UnixListener::bind(&path).unwrap());
        let mut taken = Vec::new();
        let mut askers = Vec::new();
        for _ in 0..AT_ONCE {
            askers.push(UnixStream::connect(&path).await.unwrap());
            taken.push(bounded.accept().await.0);
        }
        let late = UnixStream::connect(&path).await.unwrap();
        {
            let mut next = Box::pin(bounded.accept());
            assert!(futures_util::poll!(&mut next).is_pending(), "all places are taken");
            drop(taken.pop());
            next.await;
        }
        drop(late);
    }

    #[tokio::test]
    async fn who_asks_nothing_loses_his_place() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("live.sock");
        let life = Duration::from_millis(50);
        let mut bounded = Bounded { life, ..Bounded::new(UnixListener::bind(&path).unwrap()) };
        let mut silent = UnixStream::connect(&path).await.unwrap();
        let (mut connection, _) = bounded.accept().await;
        silent.write_all(b"half a quest").await.unwrap();
        let mut read = Vec::new();
        let ended = connection.read_to_end(&mut read).await.unwrap_err();
        assert_eq!((ended.kind(), read.as_slice()), (io::ErrorKind::TimedOut, &b"half a quest"[..]));
        assert!(connection.write_all(b"too late").await.is_err());
    }

    #[tokio::test]
    async fn who_asks_by_drips_keeps_his_place_no_longer() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("live.sock");
        let life = Duration::from_millis(50);
        let mut bounded = Bounded { life, ..Bounded::new(UnixListener::bind(&path).unwrap()) };
        let mut slow = UnixStream::connect(&path).await.unwrap();
        let (mut connection, _) = bounded.accept().await;
        // Something comes each time that it is waited for: what counts is not when the last byte came.
        let ended = tokio::time::timeout(Duration::from_secs(60), async {
            loop {
                slow.write_all(b"G").await.unwrap();
                if let Err(error) = connection.read_u8().await {
                    return error.kind();
                }
            }
        });
        assert_eq!(ended.await.unwrap(), io::ErrorKind::TimedOut);
    }
}
