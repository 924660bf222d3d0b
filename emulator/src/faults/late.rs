//! Files that appear later than they should.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::duration;

/// When the File of a complete appears, and what the client hears meanwhile.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Late {
    /// Once this much time has passed on the emulator's clock.
    #[serde(default, with = "duration::option")]
    pub after: Option<Duration>,
    /// Once so many further requests have come.
    pub requests: Option<u64>,
    /// The status that complete answers; without one the connection ends.
    pub status: Option<u16>,
}

impl Late {
    /// Lands once this much time has passed on the emulator's clock.
    #[must_use]
    pub fn after(time: Duration) -> Self {
        Self { after: Some(time), ..Self::default() }
    }

    /// Lands at the beginning of the nth request from here.
    #[must_use]
    pub fn after_requests(requests: u64) -> Self {
        Self { requests: Some(requests), ..Self::default() }
    }

    /// Lands when [`crate::Emulator::land`] is called, or never.
    #[must_use]
    pub fn on_command() -> Self {
        Self::default()
    }

    /// Answers with this status rather than by ending the connection.
    #[must_use]
    pub fn status(self, status: u16) -> Self {
        Self { status: Some(status), ..self }
    }
}

/// Which Files a list does not have yet.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lag {
    /// Those younger than this on the emulator's clock.
    #[serde(default, with = "duration::option")]
    pub younger_than: Option<Duration>,
    /// Those that have been left out of fewer lists than this.
    pub lists: Option<u64>,
}

impl Lag {
    /// Hides Files younger than this.
    #[must_use]
    pub fn younger_than(age: Duration) -> Self {
        Self { younger_than: Some(age), lists: None }
    }

    /// Hides each File from the first so many lists after it.
    #[must_use]
    pub fn lists(lists: u64) -> Self {
        Self { younger_than: None, lists: Some(lists) }
    }
}
