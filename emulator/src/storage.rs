//! Where the bytes of Parts go: hashed on the way, in a thread of their own, never held whole but in memory mode.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use md5::Md5;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// What is kept of the content.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Storage {
    /// All of it, in memory.
    #[default]
    Memory,
    /// All of it, in files of this folder. Blocks of zeros become holes.
    Disk(PathBuf),
    /// Nothing but the count: no digest is made or checked, and the content cannot be fetched.
    Discard,
}

/// Chunks under way to the writing thread.
const QUEUE: usize = 8;
/// What the writing thread gathers before it writes.
const BUFFER: usize = 1 << 20;
/// What is read at once: small enough to stay in the processor's cache while it is hashed.
const READ: usize = 256 << 10;
/// What becomes a hole if it is zero: the block of common file systems.
const BLOCK: usize = 4096;
static ZEROS: [u8; BLOCK] = [0; BLOCK];

/// The content of a Part.
#[derive(Debug)]
pub(crate) enum Blob {
    Memory { chunks: Vec<Bytes>, length: u64 },
    Disk { path: PathBuf, length: u64 },
    Discarded { length: u64 },
}

impl Drop for Blob {
    fn drop(&mut self) {
        if let Self::Disk { path, .. } = self
            && let Err(error) = fs::remove_file(&path)
        {
            tracing::debug!(path = %path.display(), %error, "spooled Part was not removed");
        }
    }
}

impl Blob {
    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::Memory { length, .. } | Self::Disk { length, .. } | Self::Discarded { length } => *length,
        }
    }

    pub(crate) fn is_kept(&self) -> bool {
        !matches!(self, Self::Discarded { .. })
    }

    /// Hands over the content in order. Blocks.
    fn read(&self, mut each: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        match self {
            Self::Memory { chunks, .. } => chunks.iter().try_for_each(|chunk| each(chunk)),
            Self::Disk { path, .. } => {
                let mut file = File::open(path)?;
                let mut buffer = vec![0; READ];
                loop {
                    match file.read(&mut buffer)? {
                        0 => return Ok(()),
                        count => each(&buffer[..count])?,
                    }
                }
            }
            Self::Discarded { .. } => Err(io::Error::other("the content was discarded")),
        }
    }
}

/// A Part on its way in.
pub(crate) struct Writer {
    chunks: Option<mpsc::Sender<Bytes>>,
    thread: JoinHandle<io::Result<(Blob, String)>>,
    discarded: u64,
}

impl Writer {
    /// `name` is the file's in disk mode.
    pub(crate) fn new(storage: &Storage, name: &str) -> Self {
        let (chunks, incoming) = mpsc::channel(QUEUE);
        let (chunks, thread) = match storage {
            Storage::Memory => (Some(chunks), tokio::task::spawn_blocking(|| to_memory(incoming))),
            Storage::Disk(folder) => {
                let path = folder.join(name);
                (Some(chunks), tokio::task::spawn_blocking(|| to_disk(incoming, path)))
            }
            Storage::Discard => {
                let nothing = || Ok((Blob::Discarded { length: 0 }, String::new()));
                (None, tokio::task::spawn(async move { nothing() }))
            }
        };
        Self { chunks, thread, discarded: 0 }
    }

    pub(crate) async fn write(&mut self, chunk: Bytes) {
        match &self.chunks {
            // A thread that failed says why in `finish`.
            Some(chunks) => drop(chunks.send(chunk).await),
            None => self.discarded += chunk.len() as u64,
        }
    }

    /// The Part and its SHA-256, if it was made.
    pub(crate) async fn finish(self) -> io::Result<(Blob, Option<String>)> {
        if self.chunks.is_none() {
            return Ok((Blob::Discarded { length: self.discarded }, None));
        }
        drop(self.chunks);
        let (blob, sha256) = self.thread.await.map_err(io::Error::other)??;
        Ok((blob, Some(sha256)))
    }
}

fn to_memory(mut incoming: mpsc::Receiver<Bytes>) -> io::Result<(Blob, String)> {
    let mut hash = Sha256::new();
    let mut chunks = Vec::new();
    let mut length = 0;
    while let Some(chunk) = incoming.blocking_recv() {
        hash.update(&chunk);
        length += chunk.len() as u64;
        chunks.push(chunk);
    }
    Ok((Blob::Memory { chunks, length }, hex::encode(hash.finalize())))
}

fn to_disk(mut incoming: mpsc::Receiver<Bytes>, path: PathBuf) -> io::Result<(Blob, String)> {
    let file = File::create_new(&path)?;
    let mut hash = Sha256::new();
    let mut buffer = Vec::with_capacity(BUFFER);
    let mut written = 0_u64;
    // From here on the file is removed if anything fails.
    let mut blob = Blob::Disk { path, length: 0 };
    while let Some(chunk) = incoming.blocking_recv() {
        hash.update(&chunk);
        let mut rest = &chunk[..];
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(BUFFER - buffer.len()));
            buffer.extend_from_slice(now);
            rest = later;
            if buffer.len() == BUFFER {
                write_with_holes(&file, &buffer, written)?;
                written += BUFFER as u64;
                buffer.clear();
            }
        }
    }
    write_with_holes(&file, &buffer, written)?;
    written += buffer.len() as u64;
    file.set_len(written)?;
    if let Blob::Disk { length, .. } = &mut blob {
        *length = written;
    }
    Ok((blob, hex::encode(hash.finalize())))
}

fn write_with_holes(file: &File, buffer: &[u8], offset: u64) -> io::Result<()> {
    let is_zero = |block: &[u8]| block == &ZEROS[..block.len()];
    let mut at = offset;
    for run in buffer.chunks(BLOCK).collect::<Vec<_>>().chunk_by(|a, b| is_zero(a) == is_zero(b)) {
        let length: usize = run.iter().map(|block| block.len()).sum();
        if !is_zero(run[0]) {
            let start = usize::try_from(at - offset).map_err(io::Error::other)?;
            file.write_all_at(&buffer[start..start + length], at)?;
        }
        at += length as u64;
    }
    Ok(())
}

/// SHA-256 and MD5 of Parts in order, or nothing if they were discarded.
#[derive(Clone, Debug)]
pub(crate) struct Digests {
    pub(crate) sha256: String,
    pub(crate) md5: [u8; 16],
}

/// Blocks; the two digests have a thread each, for they are what a large File waits for.
pub(crate) fn digests(parts: &[Arc<Blob>]) -> io::Result<Option<Digests>> {
    if !parts.iter().all(|part| part.is_kept()) {
        return Ok(None);
    }
    let md5 = || -> io::Result<[u8; 16]> {
        let mut hash = Md5::new();
        parts.iter().try_for_each(|part| {
            part.read(|chunk| {
                hash.update(chunk);
                Ok(())
            })
        })?;
        Ok(hash.finalize().into())
    };
    let mut hash = Sha256::new();
    let (md5, sha256) = std::thread::scope(|scope| {
        let md5 = scope.spawn(md5);
        let sha256 = parts.iter().try_for_each(|part| {
            part.read(|chunk| {
                hash.update(chunk);
                Ok(())
            })
        });
        (md5.join(), sha256)
    });
    sha256?;
    let md5 = md5.map_err(|_| io::Error::other("the md5 thread panicked"))??;
    Ok(Some(Digests { sha256: hex::encode(hash.finalize()), md5 }))
}

/// The content of Parts in order, read by a thread as fast as it is taken.
pub(crate) fn stream(parts: Vec<Arc<Blob>>) -> mpsc::Receiver<io::Result<Bytes>> {
    let (chunks, outgoing) = mpsc::channel(QUEUE);
    tokio::task::spawn_blocking(move || {
        let gone = || io::Error::other("the client has gone");
        for part in parts {
            if let Err(error) =
                part.read(|chunk| chunks.blocking_send(Ok(Bytes::copy_from_slice(chunk))).map_err(|_| gone()))
            {
                let _ = chunks.blocking_send(Err(error));
                return;
            }
        }
    });
    outgoing
}
