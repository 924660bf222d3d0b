//! A range of a file as a stream of chunks, and the receipt for it.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, Stream};
use rustix::io::{Errno, ReadWriteFlags, preadv2};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::timeout;

use super::digest::at_most;
use super::{Source, reading};
use crate::model::digest::{Digest, Hasher};
use crate::model::failure::SourceFailure;

/// Bytes per read. Where a thread is asked for each, half as much costs a quarter of the throughput and four times as much
/// gains none; out of the page cache 128 to 512 KiB are alike.
pub(super) const CHUNK: usize = 256 * 1024;

/// How long one read may take before its slot is given up: disks spin up and network file systems fail over, but a
/// server that is gone for good answers never. The thread stays with the read until the kernel lets it go.
pub(super) const READ_TIMEOUT: Duration = Duration::from_secs(300);

/// What became of the bytes of one range.
#[derive(Clone, Debug, Default)]
pub struct Receipt(Arc<Mutex<Option<Result<Digest, SourceFailure>>>>);

impl Receipt {
    /// The digest of the bytes, if every one of them was handed over; what the other end did with them it does not say.
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
    /// The bytes of `range` in chunks of at most 256 KiB: at once what is in the page cache; the rest on a blocking thread, one
    /// chunk ahead as long as the reader has to wait for it, so that at most two are in memory here. `progress` grows by the length of each chunk that is handed over.
    ///
    /// The stream yields exactly the range, or one error and then nothing; the inner error is the [`SourceFailure`]:
    /// `Changed` if the file ends before the range does.
    pub fn reader(
        &self,
        range: Range<u64>,
        progress: Arc<AtomicU64>,
    ) -> (impl Stream<Item = io::Result<Bytes>> + Send + 'static, Receipt) {
        let receipt = Receipt::default();
        let unread = Unread {
            file: self.file.clone(),
            range,
            hasher: Hasher::new(self.algorithm),
            buffers: Arc::default(),
            must_wait: false,
        };
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
    hasher: Hasher,
    buffers: Arc<Buffers>,
    /// The file system knows only reads that may wait, so that the next chunk is always read ahead.
    must_wait: bool,
}

type ChunkRead = Result<(Bytes, Unread), SourceFailure>;

impl Reader {
    async fn next(&mut self) -> Result<Option<Bytes>, SourceFailure> {
        let read = match std::mem::replace(&mut self.next, Next::Done) {
            Next::Idle(unread) if unread.range.is_empty() => {
                self.done(&unread);
                return Ok(None);
            }
            Next::Idle(mut unread) => {
                if !unread.must_wait
                    && let Some(chunk) = unread.read_cached()
                {
                    return Ok(Some(self.hand_over(chunk, unread, false)));
                }
                unread.read()
            }
            Next::Ahead(read) => read,
            Next::Done => return Ok(None),
        };
        let was_awaited = !read.is_finished();
        let Ok(read) = timeout(self.patience, read).await else {
            return Err(hangs(self.patience));
        };
        let (chunk, unread) = joined(read)?;
        let ahead = was_awaited || unread.must_wait;
        Ok(Some(self.hand_over(chunk, unread, ahead)))
    }

    fn hand_over(&mut self, chunk: Bytes, unread: Unread, ahead: bool) -> Bytes {
        self.progress.fetch_add(chunk.len() as u64, Ordering::Relaxed);
        if unread.range.is_empty() {
            self.done(&unread);
        } else {
            self.next = if ahead { Next::Ahead(unread.read()) } else { Next::Idle(unread) };
        }
        chunk
    }

    fn done(&mut self, read: &Unread) {
        *self.receipt.outcome() = Some(Ok(read.hasher.digest()));
    }
}

impl Unread {
    /// Starts reading the next chunk.
    fn read(mut self) -> JoinHandle<ChunkRead> {
        spawn_blocking(move || {
            let length = self.next_length();
            let mut buffer = self.buffers.take(length);
            read_exactly(&self.file, self.range.start, &mut buffer[..length])?;
            let chunk = self.taken(buffer, length);
            Ok((chunk, self))
        })
    }

    /// The next chunk, if all of it is in the page cache: that needs no other thread, and the change to one and back would take a
    /// sixth of the CPU time of sending. `None` says nothing of the file; a read that may wait tells.
    fn read_cached(&mut self) -> Option<Bytes> {
        let length = self.next_length();
        let mut buffer = self.buffers.take(length);
        let now = read_now(&self.file, self.range.start, &mut buffer[..length]);
        if now != Now::All {
            self.must_wait = now == Now::Never;
            self.buffers.give_back(buffer);
            return None;
        }
        Some(self.taken(buffer, length))
    }

    fn next_length(&self) -> usize {
        at_most(&self.range, CHUNK)
    }

    fn taken(&mut self, buffer: Vec<u8>, length: usize) -> Bytes {
        self.hasher.update(&buffer[..length]);
        self.range.start += length as u64;
        Bytes::from_owner(Chunk { buffer, length, buffers: self.buffers.clone() })
    }
}

/// The buffers of one range that are free to be filled again. A new one for each chunk would have the kernel clear its
/// pages first, which takes a fifth of the CPU time of sending.
#[derive(Debug, Default)]
struct Buffers(Mutex<Vec<Vec<u8>>>);

impl Buffers {
    /// One of at least `length` bytes: the first chunk of a range is its longest.
    fn take(&self, length: usize) -> Vec<u8> {
        let free = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        free.unwrap_or_else(|| vec![0; length])
    }

    fn give_back(&self, buffer: Vec<u8>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(buffer);
    }
}

/// A buffer that is on its way to the connection. What it holds may be freed only when its last byte was taken.
struct Chunk {
    buffer: Vec<u8>,
    length: usize,
    buffers: Arc<Buffers>,
}

impl AsRef<[u8]> for Chunk {
    fn as_ref(&self) -> &[u8] {
        &self.buffer[..self.length]
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        self.buffers.give_back(std::mem::take(&mut self.buffer));
    }
}

/// What a read that may not wait found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Now {
    /// All that was asked for.
    All,
    /// Less than that.
    Less,
    /// The file system knows no such reads: NFS and FUSE.
    Never,
}

/// Fills `buffer` with what lies from `start` on, if all of it is in the page cache. Waits for no bytes of a disk and for no
/// file server; a miss may have the kernel look up where the bytes lie, and begin to fetch them.
pub(super) fn read_now(file: &File, start: u64, buffer: &mut [u8]) -> Now {
    let mut at = 0;
    while at < buffer.len() {
        let mut rest = [IoSliceMut::new(&mut buffer[at..])];
        match preadv2(file, &mut rest, start + at as u64, ReadWriteFlags::NOWAIT) {
            Ok(read) if read > 0 => at += read,
            // The second: a kernel, or a filter of system calls, without them.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => return Now::Never,
            _ => return Now::Less,
        }
    }
    Now::All
}

/// Fills `buffer` with what lies from `start` on; `Changed` if the file ends before.
fn read_exactly(file: &File, start: u64, buffer: &mut [u8]) -> Result<(), SourceFailure> {
    file.read_exact_at(buffer, start).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => SourceFailure::Changed,
        _ => reading(error),
    })
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
    use std::fs;

    use super::*;
    use crate::model::digest::Algorithm;

    fn unread(path: &std::path::Path, range: Range<u64>) -> Unread {
        let file = Arc::new(File::open(path).unwrap());
        let hasher = Hasher::new(Algorithm::default());
        Unread { file, range, hasher, buffers: Arc::default(), must_wait: false }
    }

    #[tokio::test]
    async fn what_is_waited_for_and_what_is_cached_are_the_same_bytes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let bytes: Vec<u8> = (0..3 * CHUNK + 5).map(|at| (at % 251) as u8).collect();
        fs::write(&path, &bytes).unwrap();
        let wanted = &bytes[7..];
        let (mut cached, mut waited) =
            (unread(&path, 7..bytes.len() as u64), unread(&path, 7..bytes.len() as u64));
        let (mut by_cache, mut by_thread) = (Vec::new(), Vec::new());
        while !waited.range.is_empty() {
            let chunk;
            (chunk, waited) = waited.read().await.unwrap().unwrap();
            by_thread.extend_from_slice(&chunk);
            // It was just read; a file system that knows no such reads has nothing to compare.
            if let Some(chunk) = cached.read_cached() {
                by_cache.extend_from_slice(&chunk);
            }
        }
        assert!(by_thread == wanted);
        assert_eq!(waited.hasher.digest(), Digest::of(Algorithm::default(), wanted));
        assert!(by_cache.is_empty() || by_cache == wanted);
    }

    #[tokio::test]
    async fn a_file_that_was_cut_short_says_so_only_to_who_may_wait() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs::write(&path, b"short").unwrap();
        let mut unread = unread(&path, 0..6);
        assert!(unread.read_cached().is_none(), "whatever it found, it is no fault yet");
        assert_eq!(unread.range, 0..6);
        assert_eq!(unread.read().await.unwrap().err(), Some(SourceFailure::Changed));
    }

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
