//! `[upload] bandwidth_limit`: one for all clients of the service.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::model::bandwidth::Bandwidth;

/// What all bodies together may send. Clones share it.
#[derive(Clone)]
pub struct Limiter {
    bandwidth: Arc<Mutex<Bandwidth>>,
    now: fn() -> Duration,
}

impl Limiter {
    /// At most `rate` bytes of bodies per second, by the clock `now`, which never goes back.
    pub fn new(rate: u64, now: fn() -> Duration) -> Limiter {
        Limiter { bandwidth: Arc::new(Mutex::new(Bandwidth::new(rate))), now }
    }

    /// Takes leave to send the next of `left` bytes: how many, and how long to wait before.
    pub(super) fn take(&self, left: u64) -> (u64, Duration) {
        let mut bandwidth = self.bandwidth.lock().unwrap_or_else(PoisonError::into_inner);
        bandwidth.take(left, (self.now)())
    }
}

impl fmt::Debug for Limiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Limiter").field(&self.bandwidth).finish()
    }
}
