//! A range of a file as a stream of chunks, and the receipt for it.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, Stream};
use rustix::buffer::spare_capacity;
use rustix::io::{Errno, pread};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::timeout;

use super::digest::at_most;
use super::{Source, reading};
use crate::model::failure::SourceFailure;
use crate::model::file::Digest;

/// Bytes per read. Measured: half as much costs a quarter of the throughput, four times as much gains none.
pub(super) const CHUNK: usize = 256 * 1024;

/// How long one read may take before its slot is given up: disks spin up and network file systems fail over, but a
/// server that is gone for good answers never. The thread stays with the read until the kernel lets it go.
pub(super) const READ_TIMEOUT: Duration = Duration::from_secs(300);

/// What became of the bytes of one range.
#[derive(Clone, Debug, Default)]
pub struct Receipt(Arc<Mutex<Option<Result<Digest, SourceFailure>>>>);

impl Receipt {
    /// BLAKE3 of the bytes, if every one of them was handed over; what the other end did with them it does not say.
    pub fn digest(&self) -> Option<Digest> {
        self.outcome().as_ref().and_then(|outcome| outcome.as_ref().ok().copied())
    }

    /// What was wrong with the file, if anything was. The stream's error carries the same.
    pub fn failure(&self) -> Option<SourceFailure> {
        self.outcome().as_ref().and_then(|outcome| outcome.as_ref().err().cloned())
    }

    fn outcome(&self) -> MutexGuard<'_, Option<Result<Digest, SourceFailure>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Source {
    /// The bytes of `range` in chunks of at most 256 KiB, read on a blocking thread one chunk ahead, so that at most two
    /// are in memory here. `progress` grows by the length of each chunk that is handed over.
    ///
    /// The stream yields exactly the range, or one error and then nothing; the inner error is the [`SourceFailure`]:
    /// `Changed` if the file ends before the range does.
    pub fn reader(
        &self,
        range: Range<u64>,
        progress: Arc<AtomicU64>,
    ) -> (impl Stream<Item = io::Result<Bytes>> + Send + 'static, Receipt) {
        let receipt = Receipt::default();
        let unread =
            Unread { file: self.file.clone(), range, hasher: Box::default(), buffers: Arc::default() };
        let next = Next::Idle(unread);
        let start = Reader { next, progress, receipt: receipt.clone(), patience: READ_TIMEOUT };
        let chunks = stream::unfold(Some(start), |reader| async move {
            let mut reader = reader?;
            match reader.next().await {
                Ok(Some(chunk)) => Some((Ok(chunk), Some(reader))),
                Ok(None) => None,
                Err(failure) => {
                    *reader.receipt.outcome() = Some(Err(failure.clone()));
                    Some((Err(io::Error::other(failure)), None))
                }
            }
        });
        (chunks, receipt)
    }
}

struct Reader {
    next: Next,
    progress: Arc<AtomicU64>,
    receipt: Receipt,
    patience: Duration,
}

enum Next {
    /// No read is under way.
    Idle(Unread),
    /// The next chunk is being read.
    Ahead(JoinHandle<ChunkRead>),
    /// The last chunk was handed over.
    Done,
}

/// What is left of the range, and the digest of what is not. Goes to the blocking thread and comes back with each chunk.
struct Unread {
    file: Arc<File>,
    range: Range<u64>,
    hasher: Box<blake3::Hasher>,
    buffers: Arc<Buffers>,
}

type ChunkRead = Result<(Bytes, Unread), SourceFailure>;

impl Reader {
    async fn next(&mut self) -> Result<Option<Bytes>, SourceFailure> {
        let read = match std::mem::replace(&mut self.next, Next::Done) {
            Next::Idle(unread) if !unread.range.is_empty() => unread.read(),
            Next::Ahead(read) => read,
            Next::Idle(unread) => {
                self.done(&unread);
                return Ok(None);
            }
            Next::Done => return Ok(None),
        };
        let Ok(read) = timeout(self.patience, read).await else {
            return Err(hangs(self.patience));
        };
        let (chunk, unread) = joined(read)?;
        self.progress.fetch_add(chunk.len() as u64, Ordering::Relaxed);
        if unread.range.is_empty() {
            self.done(&unread);
        } else {
            self.next = Next::Ahead(unread.read());
        }
        Ok(Some(chunk))
    }

    fn done(&mut self, read: &Unread) {
        *self.receipt.outcome() = Some(Ok(Digest(*read.hasher.finalize().as_bytes())));
    }
}

impl Unread {
    /// Starts reading the next chunk.
    fn read(mut self) -> JoinHandle<ChunkRead> {
        spawn_blocking(move || {
            let length = at_most(&self.range, CHUNK);
            let end = self.range.start + length as u64;
            let mut bytes = self.buffers.take(length);
            read_exactly(&self.file, self.range.start..end, &mut bytes)?;
            self.hasher.update(&bytes);
            self.range.start = end;
            let chunk = Chunk { bytes, buffers: self.buffers.clone() };
            Ok((Bytes::from_owner(chunk), self))
        })
    }
}

/// The buffers of one range that are free to be filled again. A new one for each chunk would have the kernel clear its
/// pages first, which takes a fifth of the CPU time of sending.
#[derive(Debug, Default)]
struct Buffers(Mutex<Vec<Vec<u8>>>);

impl Buffers {
    fn take(&self, length: usize) -> Vec<u8> {
        let free = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        free.unwrap_or_else(|| Vec::with_capacity(length))
    }
}

/// A buffer that is on its way to the connection. What it holds may be freed only when its last byte was taken.
struct Chunk {
    bytes: Vec<u8>,
    buffers: Arc<Buffers>,
}

impl AsRef<[u8]> for Chunk {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.clear();
        self.buffers.0.lock().unwrap_or_else(PoisonError::into_inner).push(bytes);
    }
}

/// Fills `bytes`, which is empty, with `range`, which is at most a chunk; `Changed` if the file ends before it.
fn read_exactly(file: &File, range: Range<u64>, bytes: &mut Vec<u8>) -> Result<(), SourceFailure> {
    let length = (range.end - range.start) as usize;
    let mut at = range.start;
    while at < range.end {
        match pread(file, spare_capacity(bytes), at) {
            Ok(0) => return Err(SourceFailure::Changed),
            Ok(read) => at += read as u64,
            Err(Errno::INTR) => {}
            Err(error) => return Err(reading(error.into())),
        }
    }
    // A Vec may have got more capacity than it asked for, and the file may be longer than the range.
    bytes.truncate(length);
    Ok(())
}

/// A read did not return for so long: a file server that is away is no fault of the file's.
pub(super) fn hangs(patience: Duration) -> SourceFailure {
    SourceFailure::Unreachable { message: format!("a read did not return for {} s", patience.as_secs()) }
}

/// What the blocking thread returned. It ends without an answer only if it panicked or the runtime is going down.
pub(super) fn joined<T>(
    result: Result<Result<T, SourceFailure>, tokio::task::JoinError>,
) -> Result<T, SourceFailure> {
    result.unwrap_or_else(|error| Err(SourceFailure::Unreadable { message: error.to_string() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_read_that_does_not_return_is_no_fault_of_the_file() {
        let (_server, answer) = tokio::sync::oneshot::channel::<ChunkRead>();
        let hangs = tokio::spawn(async { answer.await.unwrap() });
        let patience = Duration::from_millis(10);
        let (progress, receipt) = (Arc::default(), Receipt::default());
        let mut reader = Reader { next: Next::Ahead(hangs), progress, receipt, patience };
        assert!(matches!(reader.next().await, Err(SourceFailure::Unreachable { .. })), "it is tried again");
    }
}
