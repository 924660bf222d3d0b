//! The bytes of a Part on their way out, and whether they still move.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::Stream;
use futures_util::task::AtomicWaker;
use tokio::sync::Notify;
use tokio::time::{Sleep, sleep, timeout};

use super::limit::Limiter;
use crate::model::failure::{Failure, SourceFailure};

/// Bytes handed to the connection at a time. A body that moves at all must move so much within the stall timeout:
/// about 1 KiB/s with the default of 60 s.
const SLICE: usize = 64 * 1024;

/// How many times within the stall timeout the gauge is read.
const READINGS: u32 = 8;

/// What is known of a body from outside.
///
/// It counts what the connection took, which runs ahead of the wire by what the kernel buffers.
#[derive(Debug, Default)]
pub(super) struct Gauge {
    taken: AtomicU64,
    /// The connection asked for bytes, and the file had none ready or our own limit none to spare.
    waits_for_us: AtomicBool,
    handed_over: AtomicBool,
    last_byte: Notify,
    /// Nobody waits for this body any more.
    over: AtomicBool,
    waker: AtomicWaker,
    failure: Mutex<Option<SourceFailure>>,
}

impl Gauge {
    /// Whether the connection took every byte.
    pub(super) fn handed_over(&self) -> bool {
        self.handed_over.load(Ordering::Acquire)
    }

    /// What was wrong with the file, if the body ended because of that.
    pub(super) fn failure(&self) -> Option<SourceFailure> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends the body when what is returned is dropped. The HTTP library goes on sending a body whose answer came early, and
    /// would send all of a Part that was refused.
    pub(super) fn over_when_dropped(self: &Arc<Gauge>) -> Over {
        Over(self.clone())
    }

    /// Returns when waiting any longer is in vain: no byte moved for `stall`, or all were taken and there is no whole
    /// answer for `answer`. Time that the file takes, or a limit on our own bandwidth, is not the connection's.
    pub(super) async fn patience(&self, stall: Duration, answer: Duration) -> Failure {
        let mut seen = 0;
        let mut unmoved = 0;
        while timeout(stall / READINGS, self.last_byte.notified()).await.is_err() {
            let taken = self.taken.load(Ordering::Relaxed);
            // Nothing taken yet: the connection is being made, within its own timeout.
            if taken != seen || taken == 0 || self.waits_for_us.load(Ordering::Relaxed) {
                (seen, unmoved) = (taken, 0);
                continue;
            }
            unmoved += 1;
            if unmoved >= READINGS {
                return Failure::Stalled;
            }
        }
        sleep(answer).await;
        Failure::NoAnswer
    }
}

/// See [`Gauge::over_when_dropped`].
pub(super) struct Over(Arc<Gauge>);

impl Drop for Over {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::Release);
        self.0.waker.wake();
    }
}

/// A stream of exactly `length` bytes, measured by `gauge`, no faster than `limiter` lets it. What is shorter or longer ends in an error, so that the
/// server never gets a whole request with other bytes than those that were announced.
pub(super) fn metered<S>(
    bytes: S,
    length: u64,
    gauge: Arc<Gauge>,
    limiter: Option<Limiter>,
) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static
where
    S: Stream<Item = io::Result<Bytes>> + Send + 'static,
{
    Metered {
        bytes: Box::pin(bytes),
        left: length,
        chunk: Bytes::new(),
        gauge,
        limiter,
        leave: 0,
        wait: None,
    }
}

struct Metered<S> {
    bytes: Pin<Box<S>>,
    /// What the connection has still to take.
    left: u64,
    /// The rest of a chunk whose beginning was taken.
    chunk: Bytes,
    gauge: Arc<Gauge>,
    limiter: Option<Limiter>,
    /// So many bytes may go, as soon as `wait` is over.
    leave: u64,
    wait: Option<Pin<Box<Sleep>>>,
}

impl<S: Stream<Item = io::Result<Bytes>>> Stream for Metered<S> {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        self.gauge.waker.register(cx.waker());
        if self.gauge.over.load(Ordering::Acquire) {
            return Poll::Ready(Some(Err(io::ErrorKind::Interrupted.into())));
        }
        while self.chunk.is_empty() {
            let next = self.bytes.as_mut().poll_next(cx);
            self.gauge.waits_for_us.store(next.is_pending(), Ordering::Relaxed);
            match ready!(next) {
                Some(Ok(chunk)) if chunk.len() as u64 <= self.left => self.chunk = chunk,
                Some(Ok(_)) => {
                    let message = "more bytes were read than the Part has".to_owned();
                    return Poll::Ready(Some(Err(self.fail(SourceFailure::Unreadable { message }))));
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(self.fail(source_failure(&error))))),
                None if self.left > 0 => return Poll::Ready(Some(Err(self.fail(SourceFailure::Changed)))),
                None => {
                    self.gauge.handed_over.store(true, Ordering::Release);
                    self.gauge.last_byte.notify_one();
                    return Poll::Ready(None);
                }
            }
        }
        ready!(self.poll_leave(cx));
        let most = if self.limiter.is_some() { self.leave } else { u64::MAX };
        let length = self.chunk.len().min(SLICE).min(usize::try_from(most).unwrap_or(usize::MAX));
        self.leave = self.leave.saturating_sub(length as u64);
        let slice = self.chunk.split_to(length);
        self.left -= length as u64;
        self.gauge.taken.fetch_add(length as u64, Ordering::Relaxed);
        Poll::Ready(Some(Ok(slice)))
    }
}

impl<S> Metered<S> {
    /// Until some bytes may go.
    fn poll_leave(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let (Some(limiter), 0) = (&self.limiter, self.leave) {
            let (leave, wait) = limiter.take(self.left);
            self.leave = leave;
            self.wait = (!wait.is_zero()).then(|| Box::pin(sleep(wait)));
        }
        let waits = self.wait.as_mut().is_some_and(|wait| wait.as_mut().poll(cx).is_pending());
        self.gauge.waits_for_us.store(waits, Ordering::Relaxed);
        if waits {
            return Poll::Pending;
        }
        self.wait = None;
        Poll::Ready(())
    }

    fn fail(&self, failure: SourceFailure) -> io::Error {
        *self.gauge.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(failure.clone());
        io::Error::other(failure)
    }
}

/// The failure that a stream of the file's bytes carries in its error, or else the error's words.
fn source_failure(error: &io::Error) -> SourceFailure {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<SourceFailure>()) {
        Some(failure) => failure.clone(),
        None => SourceFailure::Unreadable { message: error.to_string() },
    }
}
