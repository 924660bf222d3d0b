//! What a call meets, and when.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Lag, Late, Patch, Reply};
use crate::duration;
use crate::gate::Gate;

/// What a call meets.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Action {
    /// This answer instead of the true one.
    Answer(Reply),
    /// The true answer with changes.
    Patch(Patch),
    /// A pause.
    Delay {
        /// When.
        #[serde(default)]
        at: Point,
        /// How long, in real time.
        #[serde(rename = "for", with = "duration")]
        time: Duration,
    },
    /// No answer, ever; the connection stays open.
    Stall {
        /// When. With `body` the rest of the body is not read either.
        #[serde(default)]
        at: Point,
    },
    /// The connection ends without an answer.
    Drop {
        /// When.
        #[serde(default)]
        at: Point,
        /// By RST rather than by FIN.
        #[serde(default)]
        reset: bool,
    },
    /// The true answer with its Content-Length, of which only a part is sent before the connection ends.
    Half {
        /// How many bytes of the body; half of them if not said.
        bytes: Option<usize>,
    },
    /// The body is read no faster than this.
    Slow {
        /// The rate.
        bytes_per_second: u64,
    },
    /// The Upload expires.
    Expire {
        /// When.
        #[serde(default)]
        at: Point,
    },
    /// The Upload is cancelled, as by somebody else with the same key.
    Cancel {
        /// When.
        #[serde(default)]
        at: Point,
    },
    /// The Upload is forgotten, or the File if the request names one.
    Purge {
        /// When.
        #[serde(default)]
        at: Point,
    },
    /// A complete that is accepted, whose File appears later.
    Late(Late),
    /// A list that does not have the newest Files.
    Lag(Lag),
    /// SIGKILL to the victim, then the connection ends (unless the answer was written).
    Kill {
        /// When.
        #[serde(default)]
        at: Point,
    },
    /// The request stands at a gate.
    #[serde(skip)]
    Hold {
        /// When.
        at: Point,
        /// Where.
        gate: Gate,
    },
}

impl Action {
    /// The connection ends without an answer.
    #[must_use]
    pub fn drop(at: Point) -> Self {
        Self::Drop { at, reset: false }
    }

    /// The connection is reset without an answer.
    #[must_use]
    pub fn reset(at: Point) -> Self {
        Self::Drop { at, reset: true }
    }

    /// No answer, ever.
    #[must_use]
    pub fn stall(at: Point) -> Self {
        Self::Stall { at }
    }

    /// SIGKILL to the victim.
    #[must_use]
    pub fn kill(at: Point) -> Self {
        Self::Kill { at }
    }

    /// A pause.
    #[must_use]
    pub fn delay(at: Point, time: Duration) -> Self {
        Self::Delay { at, time }
    }

    /// Half of the true answer.
    #[must_use]
    pub fn half() -> Self {
        Self::Half { bytes: None }
    }

    /// For the record.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Answer(reply) => format!("answer {} at {:?}", reply.status, reply.at),
            Self::Patch(_) => "patch".to_owned(),
            Self::Delay { at, .. } => format!("delay at {at:?}"),
            Self::Stall { at } => format!("stall at {at:?}"),
            Self::Drop { at, reset: false } => format!("drop at {at:?}"),
            Self::Drop { at, reset: true } => format!("reset at {at:?}"),
            Self::Half { .. } => "half".to_owned(),
            Self::Slow { .. } => "slow".to_owned(),
            Self::Expire { at } => format!("expire at {at:?}"),
            Self::Cancel { at } => format!("cancel at {at:?}"),
            Self::Purge { at } => format!("purge at {at:?}"),
            Self::Late(_) => "late".to_owned(),
            Self::Lag(_) => "lag".to_owned(),
            Self::Kill { at } => format!("kill at {at:?}"),
            Self::Hold { at, .. } => format!("hold at {at:?}"),
        }
    }

    pub(crate) fn at(&self) -> Option<Point> {
        match self {
            Self::Answer(reply) => Some(reply.at),
            Self::Delay { at, .. }
            | Self::Stall { at }
            | Self::Drop { at, .. }
            | Self::Expire { at }
            | Self::Cancel { at }
            | Self::Purge { at }
            | Self::Kill { at }
            | Self::Hold { at, .. } => Some(*at),
            Self::Patch(_) | Self::Half { .. } | Self::Slow { .. } | Self::Late(_) | Self::Lag(_) => None,
        }
    }
}

impl From<Reply> for Action {
    fn from(reply: Reply) -> Self {
        Self::Answer(reply)
    }
}

impl From<Patch> for Action {
    fn from(patch: Patch) -> Self {
        Self::Patch(patch)
    }
}

impl From<Late> for Action {
    fn from(late: Late) -> Self {
        Self::Late(late)
    }
}

impl From<Lag> for Action {
    fn from(lag: Lag) -> Self {
        Self::Lag(lag)
    }
}

/// A moment of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Point {
    /// The head was read, nothing of the body.
    Unread,
    /// So many bytes of the body were read (or all of it, if it is shorter).
    Body(u64),
    /// The body was read, nothing was done.
    #[default]
    Before,
    /// The work was done, nothing was answered.
    After,
    /// The answer was written to the socket.
    Answered,
}
