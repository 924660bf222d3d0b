//! Keeps the Parts of a file abreast of its MD5.
//!
//! One thread makes the MD5, from the first byte to the last, and complete waits for it, so that a file that has the slots to
//! itself wins nothing by Parts that are sent long before. It loses rather: sending takes of the core that hashes
//! (docs/decisions/throughput.md), and of a file larger than the page cache every byte is read from the disk once more. Where
//! the link is slower than MD5, which it is below some 6 Gbit/s, nobody waits here; nor where other files want the slots.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{Stream, StreamExt};
use tokio::time::sleep;

use crate::model::job::JobId;

/// Bytes of a file that are sent before they are hashed: a few chunks of each Part, and what the connections take at once.
const AHEAD: u64 = 128 * 1024 * 1024;

/// How long a chunk waits until it looks again. One thread hashes some 4 MB meanwhile.
const LOOK: Duration = Duration::from_millis(5);

/// Looks, in a row, at an MD5 that does not get on: after one second no Part waits for it any more, or it would seem to hang.
const PATIENCE: u32 = 200;

/// The files whose MD5 is being made.
#[derive(Debug)]
pub(super) struct Abreast {
    files: Mutex<HashMap<JobId, Arc<Progress>>>,
    patience: u32,
}

impl Default for Abreast {
    fn default() -> Abreast {
        Abreast { files: Mutex::default(), patience: PATIENCE }
    }
}

#[derive(Debug)]
struct Progress {
    hashed: Arc<AtomicU64>,
    /// Since the MD5 began. What is sent again counts again.
    sent: AtomicU64,
    /// It does not get on.
    hangs: AtomicBool,
}

impl Progress {
    fn is_ahead(&self) -> bool {
        !self.hangs.load(Ordering::Relaxed)
            && self.sent.load(Ordering::Relaxed) >= self.hashed.load(Ordering::Relaxed) + AHEAD
    }
}

impl Abreast {
    /// The MD5 of this job's file is being made, and `hashed` grows with each byte of it; until what is returned is dropped.
    pub(super) fn hashing(self: &Arc<Self>, job: JobId, hashed: Arc<AtomicU64>) -> Hashing {
        let progress = Arc::new(Progress { hashed, sent: AtomicU64::new(0), hangs: AtomicBool::new(false) });
        self.lock().insert(job, progress.clone());
        Hashing { files: self.clone(), job, progress }
    }

    /// The body of a Part of this job's file; if that is `alone`, held back while it is further than its MD5 by 128 MiB.
    pub(super) fn keep<S>(
        self: &Arc<Self>,
        job: JobId,
        alone: bool,
        body: S,
    ) -> impl Stream<Item = io::Result<Bytes>> + use<S>
    where
        S: Stream<Item = io::Result<Bytes>>,
    {
        let files = self.clone();
        body.then(move |chunk| {
            let files = files.clone();
            async move {
                if let Ok(bytes) = &chunk {
                    files.turn(job, alone, bytes.len() as u64).await;
                }
                chunk
            }
        })
    }

    async fn turn(&self, job: JobId, alone: bool, bytes: u64) {
        let Some(progress) = self.lock().get(&job).cloned() else { return };
        let mut hashed = progress.hashed.load(Ordering::Relaxed);
        let mut in_vain = 0;
        while alone && progress.is_ahead() && self.lock().contains_key(&job) {
            sleep(LOOK).await;
            let now = progress.hashed.load(Ordering::Relaxed);
            in_vain = if now == hashed { in_vain + 1 } else { 0 };
            hashed = now;
            if in_vain >= self.patience {
                progress.hangs.store(true, Ordering::Relaxed);
            }
        }
        progress.sent.fetch_add(bytes, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<JobId, Arc<Progress>>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// For as long as the MD5 of a file is being made.
#[derive(Debug)]
pub(super) struct Hashing {
    files: Arc<Abreast>,
    job: JobId,
    progress: Arc<Progress>,
}

impl Drop for Hashing {
    fn drop(&mut self) {
        let mut files = self.files.lock();
        // One that was aborted may end after the next one began.
        if files.get(&self.job).is_some_and(|progress| Arc::ptr_eq(progress, &self.progress)) {
            files.remove(&self.job);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt, stream};

    use super::*;

    const JOB: JobId = JobId(1);
    const CHUNK: u64 = AHEAD / 2;

    fn body() -> impl Stream<Item = io::Result<Bytes>> {
        let chunk = Bytes::from(vec![0; usize::try_from(CHUNK).unwrap()]);
        stream::iter((0..6).map(move |_| Ok(chunk.clone())))
    }

    #[tokio::test]
    async fn what_is_sent_stays_near_to_what_is_hashed() {
        let (files, hashed) = (Arc::new(Abreast::default()), Arc::new(AtomicU64::new(0)));
        let hashing = files.hashing(JOB, hashed.clone());
        let mut body = std::pin::pin!(files.keep(JOB, true, body()));
        for _ in 0..2 {
            assert!(body.next().now_or_never().is_some(), "so far it may be ahead");
        }
        assert!(body.next().now_or_never().is_none());
        hashed.fetch_add(1, Ordering::Relaxed);
        assert!(body.next().await.is_some(), "one byte less than the whole distance");
        assert!(body.next().now_or_never().is_none());
        drop(hashing);
        assert_eq!(body.count().await, 3, "nobody has to be waited for any more");
    }

    #[tokio::test]
    async fn nobody_else_waits() {
        let files = Arc::new(Abreast::default());
        let _hashing = files.hashing(JOB, Arc::default());
        assert_eq!(files.keep(JobId(2), true, body()).count().now_or_never(), Some(6));
        assert_eq!(files.keep(JOB, false, body()).count().now_or_never(), Some(6), "others want its slots");
    }

    #[tokio::test]
    async fn an_md5_that_hangs_is_not_waited_for() {
        let files = Arc::new(Abreast { patience: 3, ..Abreast::default() });
        let _hashing = files.hashing(JOB, Arc::default());
        assert_eq!(files.keep(JOB, true, body()).count().await, 6);
        assert_eq!(files.keep(JOB, true, body()).count().now_or_never(), Some(6), "nor by the next Part");
    }

    #[tokio::test]
    async fn the_end_of_one_that_was_aborted_is_not_that_of_the_next() {
        let files = Arc::new(Abreast::default());
        let aborted = files.hashing(JOB, Arc::default());
        let _next = files.hashing(JOB, Arc::default());
        drop(aborted);
        assert!(files.keep(JOB, true, body()).count().now_or_never().is_none());
    }
}
