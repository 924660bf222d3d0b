//! A request's body as it comes in, and the faults that it meets on the way.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::Stream;
use hyper::body::{Body as _, Incoming};

use crate::connection::End;
use crate::exchange::Moment;
use crate::faults::{Action, Point, Reply};

/// Why a body was not read to its end.
#[derive(Debug)]
pub(crate) enum Interrupt {
    /// A fault answers in the middle of the body.
    Answer(Box<Reply>),
}

impl fmt::Display for Interrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a fault answered before the body's end")
    }
}

impl std::error::Error for Interrupt {}

pub(crate) struct Intake {
    source: Source,
    read: u64,
    /// Faults within the body, the nearest last.
    waiting: Vec<(u64, Action)>,
    slow: Option<u64>,
    moment: Arc<Moment>,
}

enum Source {
    Wire(Incoming),
    /// Read already, since a fault asks for the name inside.
    Memory(Option<Bytes>),
}

impl Intake {
    pub(crate) fn new(body: Incoming, moment: Arc<Moment>) -> Self {
        Self { source: Source::Wire(body), read: 0, waiting: Vec::new(), slow: None, moment }
    }

    /// Reads all, so that the body can be looked at before faults are drawn.
    pub(crate) async fn peek(&mut self) -> Result<Bytes, Interrupt> {
        let all = self.all().await?;
        self.source = Source::Memory(Some(all.clone()));
        self.read = 0;
        Ok(all)
    }

    pub(crate) fn arm(&mut self, faults: &[Action]) {
        for fault in faults {
            match (fault, fault.at()) {
                (Action::Slow { bytes_per_second }, _) => self.slow = Some((*bytes_per_second).max(1)),
                (_, Some(Point::Body(bytes))) => self.waiting.push((bytes, fault.clone())),
                _ => {}
            }
        }
        self.waiting.sort_by_key(|(bytes, _)| std::cmp::Reverse(*bytes));
    }

    /// The next piece, after the faults that its arrival sets off.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Interrupt> {
        let chunk = match &mut self.source {
            Source::Memory(bytes) => bytes.take(),
            Source::Wire(body) => loop {
                match std::future::poll_fn(|cx| std::pin::Pin::new(&mut *body).poll_frame(cx)).await {
                    None => break None,
                    Some(Ok(frame)) => {
                        if let Ok(data) = frame.into_data() {
                            break Some(data);
                        }
                    }
                    // The client has gone: nobody is there to be answered.
                    Some(Err(error)) => {
                        tracing::debug!(%error, "the body broke off");
                        self.moment.end(End::Close).await;
                    }
                }
            },
        };
        let length = chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
        self.read += length;
        let read = self.read;
        self.moment.exchange.update(|request| request.body_bytes = read);
        let ended = chunk.is_none();
        while let Some((_, fault)) = self.waiting.pop_if(|(bytes, _)| ended || *bytes <= read) {
            if let Some(reply) = self.moment.perform(fault).await {
                return Err(Interrupt::Answer(Box::new(reply)));
            }
        }
        if let Some(rate) = self.slow.filter(|_| length > 0) {
            tokio::time::sleep(Duration::from_secs_f64(length as f64 / rate as f64)).await;
        }
        Ok(chunk)
    }

    /// All of a body that is small.
    pub(crate) async fn all(&mut self) -> Result<Bytes, Interrupt> {
        let mut all = BytesMut::new();
        while let Some(chunk) = self.next().await? {
            all.extend_from_slice(&chunk);
        }
        Ok(all.freeze())
    }

    /// Reads to the end and throws away, so that an error does not cut off its sender.
    pub(crate) async fn drain(&mut self) -> Result<(), Interrupt> {
        while self.next().await?.is_some() {}
        Ok(())
    }

    pub(crate) fn stream(&mut self) -> impl Stream<Item = Result<Bytes, Interrupt>> + Send {
        futures_util::stream::unfold(self, async |intake| {
            let chunk = intake.next().await.transpose()?;
            Some((chunk, intake))
        })
    }

    /// What is left of the body for [`crate::faults::Then`].
    pub(crate) fn into_rest(self) -> Option<Incoming> {
        match self.source {
            Source::Wire(body) if !body.is_end_stream() => Some(body),
            _ => None,
        }
    }
}
