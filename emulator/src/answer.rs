//! What goes back to the client, and the body that tells when it has gone.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::stream::{BoxStream, StreamExt};
use http_body::{Frame, SizeHint};
use serde_json::Value;

use crate::connection::Delivery;

const ENDLESS_CHUNK: usize = 64 * 1024;

/// A status, headers and a body, before the headers that every answer has.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) content: Content,
}

pub(crate) enum Content {
    Whole(Bytes),
    /// A content of known length, produced while it is sent.
    Streamed(u64, BoxStream<'static, io::Result<Bytes>>),
    /// The promised bytes, of which only so many are sent.
    Half(Bytes, usize),
    /// Never ends.
    Endless,
}

impl Answer {
    pub(crate) fn json(status: u16, body: &Value) -> Self {
        Self::text(status, "application/json", body.to_string())
    }

    pub(crate) fn text(status: u16, content_type: &str, body: impl Into<Bytes>) -> Self {
        Self {
            status,
            headers: BTreeMap::from([("content-type".to_owned(), content_type.to_owned())]),
            content: Content::Whole(body.into()),
        }
    }

    pub(crate) fn html(status: u16) -> Self {
        let page = format!(
            "<!DOCTYPE html>\n<html><head><title>{status}</title></head><body>gateway</body></html>\n"
        );
        Self::text(status, "text/html", page)
    }

    pub(crate) fn empty(status: u16) -> Self {
        Self { status, headers: BTreeMap::new(), content: Content::Whole(Bytes::new()) }
    }

    /// The JSON of the body, if it is JSON.
    pub(crate) fn value(&self) -> Option<Value> {
        match &self.content {
            Content::Whole(bytes) => serde_json::from_slice(bytes).ok(),
            _ => None,
        }
    }

    /// Turns a whole body into one that stops before its end.
    pub(crate) fn halve(&mut self, sent: Option<usize>) {
        if let Content::Whole(bytes) = &self.content {
            let half = sent.unwrap_or(bytes.len() / 2).min(bytes.len());
            self.content = Content::Half(bytes.clone(), half);
        }
    }
}

/// The body on its way out. It hands over its [`Delivery`] with its last frame.
pub(crate) struct AnswerBody {
    content: Content,
    sent: u64,
    ended: bool,
    delivery: Option<Delivery>,
}

impl AnswerBody {
    pub(crate) fn new(content: Content, delivery: Delivery) -> Self {
        let mut body = Self { content, sent: 0, ended: false, delivery: Some(delivery) };
        if body.length() == Some(0) {
            body.end();
        }
        body
    }

    fn length(&self) -> Option<u64> {
        match &self.content {
            Content::Whole(bytes) | Content::Half(bytes, _) => u64::try_from(bytes.len()).ok(),
            Content::Streamed(length, _) => Some(*length),
            Content::Endless => None,
        }
    }

    fn end(&mut self) {
        self.ended = true;
        if let Some(delivery) = self.delivery.take() {
            delivery.sent();
        }
    }
}

impl http_body::Body for AnswerBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let cut = || io::Error::new(io::ErrorKind::BrokenPipe, "the answer was cut");
        let sent = self.sent;
        let chunk = match &mut self.content {
            Content::Whole(bytes) => bytes.clone(),
            Content::Half(bytes, half) => match sent {
                0 if *half > 0 => bytes.slice(..*half),
                // One poll without data makes hyper flush what it has, so that the half is seen.
                _ if sent < u64::MAX => {
                    self.sent = u64::MAX;
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                _ => return Poll::Ready(Some(Err(cut()))),
            },
            Content::Streamed(_, stream) => match stream.poll_next_unpin(cx) {
                Poll::Ready(Some(Ok(chunk))) => chunk,
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
                Poll::Ready(None) => return Poll::Ready(Some(Err(cut()))),
                Poll::Pending => return Poll::Pending,
            },
            Content::Endless => Bytes::from_static(&[b' '; ENDLESS_CHUNK]),
        };
        self.sent = self.sent.saturating_add(chunk.len() as u64);
        if !matches!(self.content, Content::Half(..)) && self.length().is_some_and(|all| self.sent >= all) {
            self.end();
        }
        Poll::Ready(Some(Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }

    fn size_hint(&self) -> SizeHint {
        self.length()
            .map_or_else(SizeHint::default, |all| SizeHint::with_exact(all.saturating_sub(self.sent)))
    }
}
