//! The emulator's own clock: the only file that reads the system's. A test advances it instead of waiting.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// System time plus an offset that only this emulator sees.
#[derive(Debug)]
pub(crate) struct Clock {
    offset_ms: AtomicI64,
    started: Instant,
}

impl Clock {
    #[expect(clippy::disallowed_methods, reason = "the emulator's one place that reads time")]
    pub(crate) fn new(skew_ms: i64) -> Self {
        Self { offset_ms: AtomicI64::new(skew_ms), started: Instant::now() }
    }

    /// Milliseconds since the epoch, as this server believes.
    #[expect(clippy::disallowed_methods, reason = "the emulator's one place that reads time")]
    pub(crate) fn now_ms(&self) -> i64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX) + self.offset_ms.load(Ordering::SeqCst)
    }

    /// Seconds since the epoch, the unit of every timestamp of the API.
    pub(crate) fn now(&self) -> i64 {
        self.now_ms().div_euclid(1000)
    }

    pub(crate) fn advance(&self, by: Duration) {
        self.offset_ms.fetch_add(i64::try_from(by.as_millis()).unwrap_or(i64::MAX), Ordering::SeqCst);
    }

    /// The value of a `Date` header.
    pub(crate) fn date(&self) -> String {
        let ms = u64::try_from(self.now_ms()).unwrap_or(0);
        httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_millis(ms))
    }

    /// Real time since the start, unmoved by [`Clock::advance`].
    #[expect(clippy::disallowed_methods, reason = "the emulator's one place that reads time")]
    pub(crate) fn uptime(&self) -> Duration {
        Instant::now().duration_since(self.started)
    }
}
