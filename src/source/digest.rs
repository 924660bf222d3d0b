//! Digests of a file: of its ranges to compare with what was sent before, MD5 because the API checks that one.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::md5::Md5;
use super::reader::{Now, READ_TIMEOUT, hangs, joined, read_now};
use super::{Source, reading};
use crate::model::digest::{Algorithm, Digest, Hasher};
use crate::model::failure::SourceFailure;

/// Bytes per read: few calls, and not much read in vain after a cancel.
const BUFFER: usize = 1024 * 1024;

/// Bytes that are read through on the thread that asks: the MD5 of 64 KiB takes some 80 µs.
const AT_ONCE: usize = 64 * 1024;

impl Source {
    /// MD5 of the whole file, in lower-case hex as the API takes it. One core does some 800 MB/s of it.
    ///
    /// To cancel, drop the future: the thread stops before its next read.
    pub async fn md5(&self) -> Result<String, SourceFailure> {
        let hasher = self.read_through(0..self.fingerprint.bytes, Md5::new(), |hasher, bytes| {
            hasher.update(bytes);
            true
        });
        Ok(hasher.await?.hex())
    }

    /// The digest of `range`, to compare with that of a Part that was sent before. Cancelled like [`Source::md5`].
    pub async fn digest_of(&self, range: Range<u64>, algorithm: Algorithm) -> Result<Digest, SourceFailure> {
        let hasher = self.read_through(range, Hasher::new(algorithm), |hasher, bytes| {
            hasher.update(bytes);
            true
        });
        Ok(hasher.await?.digest())
    }

    /// Hands the bytes of `range` to `take`, in pieces of at most 1 MiB, until it says that the rest is not wanted: on a thread of its own,
    /// unless they are few and in the page cache, and so sooner read than handed to one. Cancelled like [`Source::md5`]. A read that does not return is given up after a while.
    pub async fn read_through<T: Send + 'static>(
        &self,
        range: Range<u64>,
        mut reader: T,
        take: fn(&mut T, &[u8]) -> bool,
    ) -> Result<T, SourceFailure> {
        if let Some(bytes) = self.few_now(&range) {
            self.hashed.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            if !bytes.is_empty() {
                take(&mut reader, &bytes);
            }
            return Ok(reader);
        }
        let (file, hashed) = (self.file.clone(), self.hashed.clone());
        let wanted = Wanted(Arc::new(AtomicBool::new(true)));
        let still_wanted = wanted.0.clone();
        let mut thread = spawn_blocking(move || {
            read_all(&file, range, &still_wanted, |bytes| {
                hashed.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                take(&mut reader, bytes)
            })
            .map(|()| reader)
        });
        loop {
            let before = self.hashed.load(Ordering::Relaxed);
            match timeout(READ_TIMEOUT, &mut thread).await {
                Ok(result) => return joined(result),
                Err(_) if self.hashed.load(Ordering::Relaxed) != before => {}
                Err(_) => return Err(hangs(READ_TIMEOUT)),
            }
        }
    }

    fn few_now(&self, range: &Range<u64>) -> Option<Vec<u8>> {
        let length = usize::try_from(range.end.saturating_sub(range.start))
            .ok()
            .filter(|length| *length <= AT_ONCE)?;
        let mut bytes = vec![0; length];
        (read_now(&self.file, range.start, &mut bytes) == Now::All).then_some(bytes)
    }
}

/// Compares bytes that come from elsewhere with the ranges of a file, of which only the digests are left.
#[derive(Debug)]
pub struct Comparison {
    /// Those that are left, the next one last.
    ranges: Vec<(Range<u64>, Digest)>,
    /// Of the bytes of the next one that came.
    hasher: Option<Hasher>,
    at: u64,
    equal: bool,
}

impl Comparison {
    /// With ranges that cover the file in order, from its first byte.
    pub fn with(mut ranges: Vec<(Range<u64>, Digest)>) -> Comparison {
        ranges.reverse();
        Comparison { ranges, hasher: None, at: 0, equal: true }
    }

    /// Takes the next bytes. Whether all so far are equal: if not, the rest need not come.
    pub fn take(&mut self, mut bytes: &[u8]) -> bool {
        while self.equal && !bytes.is_empty() {
            let Some((range, digest)) = self.ranges.last() else {
                // There is more than the file has.
                self.equal = false;
                break;
            };
            let length =
                usize::try_from(range.end.saturating_sub(self.at)).unwrap_or(usize::MAX).min(bytes.len());
            let hasher = self.hasher.get_or_insert_with(|| Hasher::new(digest.algorithm()));
            hasher.update(&bytes[..length]);
            self.at += length as u64;
            bytes = &bytes[length..];
            if self.at == range.end {
                self.equal = hasher.digest() == *digest;
                self.hasher = None;
                self.ranges.pop();
            }
        }
        self.equal
    }

    /// Whether exactly the bytes of the file came.
    pub fn is_equal(&self) -> bool {
        self.equal && self.ranges.is_empty()
    }
}

/// Tells the blocking thread when nobody waits for it any more.
struct Wanted(Arc<AtomicBool>);

impl Drop for Wanted {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// The bytes of a range, or `most`. Many small files are read at once, and none needs a buffer for a large one.
pub(super) fn at_most(range: &Range<u64>, most: usize) -> usize {
    usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(most).min(most)
}

fn read_all(
    file: &File,
    mut range: Range<u64>,
    wanted: &AtomicBool,
    mut each: impl FnMut(&[u8]) -> bool,
) -> Result<(), SourceFailure> {
    let mut buffer = vec![0; at_most(&range, BUFFER)];
    while !range.is_empty() && wanted.load(Ordering::Relaxed) {
        let length = at_most(&range, BUFFER);
        match file.read_at(&mut buffer[..length], range.start) {
            Ok(0) => return Err(SourceFailure::Changed),
            Ok(read) => {
                if !each(&buffer[..read]) {
                    break;
                }
                range.start += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(reading(error)),
        }
    }
    Ok(())
}
