use std::fs;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use futures_util::StreamExt;
use tempfile::TempDir;

use super::*;
use crate::model::digest::Digest;

fn write(directory: &TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = directory.path().join(name);
    fs::write(&path, bytes).unwrap();
    path
}

/// Bytes that differ from chunk to chunk, so that a chunk out of place shows.
fn sample(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at / 251 + at) as u8).collect()
}

#[test]
fn only_a_regular_file_is_opened() {
    let directory = TempDir::new().unwrap();
    let file = write(&directory, "file", b"bytes");
    let link = directory.path().join("link");
    symlink(&file, &link).unwrap();
    let fifo = directory.path().join("fifo");
    rustix::fs::mknodat(CWD, &fifo, rustix::fs::FileType::Fifo, Mode::RUSR, 0).unwrap();
    let socket = directory.path().join("socket");
    let _listening = std::os::unix::net::UnixListener::bind(&socket).unwrap();

    let failure = |path: &Path| Source::open(path).unwrap_err();
    assert_eq!(Source::open(&file).unwrap().fingerprint().bytes, 5);
    assert_eq!(failure(&link), SourceFailure::NotAFile);
    assert_eq!(failure(&fifo), SourceFailure::NotAFile);
    assert_eq!(failure(&socket), SourceFailure::NotAFile);
    assert_eq!(failure(directory.path()), SourceFailure::NotAFile);
    assert_eq!(failure(&directory.path().join("none")), SourceFailure::Missing);
    assert_eq!(failure(&file.join("below-a-file")), SourceFailure::Missing);
    let (root, name) = (link.parent().unwrap(), Path::new(link.file_name().unwrap()));
    let followed = |links| Source::open_beneath(root, name, links).map(|source| source.fingerprint().bytes);
    assert_eq!(followed(Links::Anywhere), Ok(5));
    assert_eq!(followed(Links::None), Err(SourceFailure::NotAFile));
}

#[test]
fn a_directory_swapped_for_a_link_opens_nothing_outside_the_folder() {
    let outside = TempDir::new().unwrap();
    write(&outside, "file", b"secret");
    let folder = TempDir::new().unwrap();
    fs::create_dir_all(folder.path().join("a/b")).unwrap();
    fs::write(folder.path().join("a/b/file"), b"bytes").unwrap();
    let source = Source::open_beneath(folder.path(), Path::new("a/b/file"), Links::None).unwrap();
    assert_eq!(source.still(), Ok(Still::Same));

    fs::rename(folder.path().join("a"), folder.path().join("old")).unwrap();
    fs::create_dir(folder.path().join("a")).unwrap();
    symlink(outside.path(), folder.path().join("a/b")).unwrap();

    let again = Source::open_beneath(folder.path(), Path::new("a/b/file"), Links::None);
    assert_eq!(again.unwrap_err(), SourceFailure::Missing);
    assert_eq!(source.still(), Err(SourceFailure::Missing));
    for path in ["../file", "/etc/passwd", ""] {
        let other = Source::open_beneath(folder.path(), Path::new(path), Links::None);
        assert_eq!(other.unwrap_err(), SourceFailure::Missing, "{path}");
    }
}

#[test]
fn what_happened_to_the_file_since_it_was_opened_is_told() {
    let directory = TempDir::new().unwrap();
    let path = write(&directory, "file", b"bytes");
    let metadata = fs::metadata(directory.path()).unwrap();
    let identity = (metadata.dev(), metadata.ino());
    // A mount anywhere in the system has the kernel look again, and so say nothing.
    let folder = (0..1000).find_map(|_| Near::root(directory.path(), identity)).expect("Linux 5.12 or newer");
    let open_now = || {
        let near = || Source::open_near(&folder, directory.path(), Path::new("file"));
        let source = (0..1000).find_map(|_| near()).expect("it is in the caches");
        let far = Source::open_beneath(directory.path(), Path::new("file"), Links::None).unwrap();
        assert_eq!(source.fingerprint(), far.fingerprint());
        assert_eq!(far.still_near(&folder), None, "nobody saw where that one lies");
        source
    };
    // What waits for nothing sees the same, or says nothing of what is wrong.
    let still = |source: &Source| {
        let still = source.still();
        assert_eq!((0..1000).find_map(|_| source.still_near(&folder)), still.clone().ok());
        still
    };
    let source = open_now();
    assert_eq!(source.is(source.fingerprint()), Ok(()));
    assert_eq!(source.is(&Fingerprint { bytes: 6, ..*source.fingerprint() }), Err(SourceFailure::Changed));
    assert_eq!(still(&source), Ok(Still::Same));

    let touched = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    fs::File::options().write(true).open(&path).unwrap().set_modified(touched).unwrap();
    assert_eq!(still(&source), Ok(Still::TimesOnly));

    fs::write(&path, b"more bytes").unwrap();
    assert_eq!(still(&source), Err(SourceFailure::Changed));

    let source = open_now();
    let other = write(&directory, "other", b"more bytes");
    fs::rename(other, &path).unwrap();
    assert_eq!(still(&source), Err(SourceFailure::Changed));

    let source = open_now();
    fs::remove_file(&path).unwrap();
    assert_eq!(still(&source), Err(SourceFailure::Missing));
}

#[tokio::test]
async fn a_reader_hands_over_its_range_and_a_digest_of_it() {
    let directory = TempDir::new().unwrap();
    let bytes = sample(1_000_000);
    let by_default = Source::open(&write(&directory, "file", &bytes)).unwrap();
    let chunk = reader::CHUNK as u64;
    let ranges =
        [0..0, 0..1, 0..chunk, 7..chunk + 7, 0..1_000_000, 999_999..1_000_000, 2 * chunk..3 * chunk + 1];
    let algorithms = [Algorithm::Xxh3, Algorithm::Blake3];
    for (range, algorithm) in ranges.iter().flat_map(|range| algorithms.map(|one| (range.clone(), one))) {
        let source = by_default.clone().digested_by(algorithm);
        let progress = Arc::new(AtomicU64::new(0));
        let (stream, receipt) = source.reader(range.clone(), progress.clone());
        assert_eq!(receipt.digest(), None, "before anything was read");
        let chunks: Vec<_> = stream.map(|chunk| chunk.unwrap()).collect().await;
        let wanted = &bytes[range.start as usize..range.end as usize];
        assert!(chunks.iter().all(|chunk| chunk.len() <= reader::CHUNK));
        assert_eq!(chunks.concat(), wanted, "{range:?}");
        assert_eq!(progress.load(Ordering::Relaxed), wanted.len() as u64);
        let digest = Digest::of(algorithm, wanted);
        assert_eq!(receipt.digest(), Some(digest));
        assert_eq!(source.digest_of(range, algorithm).await.unwrap(), digest);
    }
}

#[tokio::test]
async fn a_reader_that_is_dropped_early_gives_no_digest() {
    let directory = TempDir::new().unwrap();
    let source = Source::open(&write(&directory, "file", &sample(1_000_000))).unwrap();
    let (stream, receipt) = source.reader(0..1_000_000, Arc::default());
    let mut stream = Box::pin(stream);
    stream.next().await.unwrap().unwrap();
    drop(stream);
    assert_eq!((receipt.digest(), receipt.failure()), (None, None));
}

#[tokio::test]
async fn a_file_that_shrinks_is_another_version() {
    let directory = TempDir::new().unwrap();
    let path = write(&directory, "file", &sample(1_000_000));
    let source = Source::open(&path).unwrap();
    let (stream, receipt) = source.reader(0..1_000_000, Arc::default());
    let mut stream = Box::pin(stream);
    stream.next().await.unwrap().unwrap();
    fs::File::options().write(true).open(&path).unwrap().set_len(300_000).unwrap();

    let error = loop {
        match stream.next().await.unwrap() {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<SourceFailure>());
    assert_eq!(inner, Some(&SourceFailure::Changed));
    assert!(stream.next().await.is_none());
    assert_eq!((receipt.digest(), receipt.failure()), (None, Some(SourceFailure::Changed)));
    assert_eq!(source.md5().await, Err(SourceFailure::Changed));
    assert_eq!(source.digest_of(0..1_000_000, Algorithm::Xxh3).await, Err(SourceFailure::Changed));
}

#[tokio::test]
async fn the_md5_is_of_the_whole_file_in_lower_case_hex() {
    let directory = TempDir::new().unwrap();
    let source =
        Source::open(&write(&directory, "file", b"The quick brown fox jumps over the lazy dog")).unwrap();
    assert_eq!(source.md5().await.unwrap(), "9e107d9d372bb6826bd81d3542a419d6");
    let empty = Source::open(&write(&directory, "empty", b"")).unwrap();
    assert_eq!(empty.md5().await.unwrap(), "d41d8cd98f00b204e9800998ecf8427e");
}

#[tokio::test]
async fn an_md5_that_nobody_waits_for_stops() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("sparse");
    fs::File::create(&path).unwrap().set_len(1 << 40).unwrap();
    let source = Source::open(&path).unwrap();
    let mut md5 = Box::pin(source.md5());
    assert!(futures_util::poll!(&mut md5).is_pending());
    assert_eq!(Arc::strong_count(&source.file), 2);
    drop(md5);
    // A terabyte takes half an hour to hash; the thread lets go of the file before that.
    while Arc::strong_count(&source.file) > 1 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_is_read_through_comes_in_order_until_the_rest_is_not_wanted() {
    let directory = TempDir::new().unwrap();
    let bytes = sample(3 * 1024 * 1024 + 5);
    let source = Source::open(&write(&directory, "file", &bytes)).unwrap();
    let all = source.read_through(1..bytes.len() as u64, Vec::new(), |read: &mut Vec<u8>, piece| {
        read.extend_from_slice(piece);
        true
    });
    assert_eq!(all.await.unwrap(), bytes[1..]);
    let begun = source.read_through(0..bytes.len() as u64, Vec::new(), |read: &mut Vec<u8>, piece| {
        read.extend_from_slice(piece);
        read.len() < 1024 * 1024
    });
    assert_eq!(begun.await.unwrap(), bytes[..1024 * 1024]);
    let longer = source.read_through(0..bytes.len() as u64 + 1, (), |(), _| true);
    assert_eq!(longer.await, Err(SourceFailure::Changed));
}

#[tokio::test]
async fn what_is_few_is_read_through_like_the_rest() {
    let directory = TempDir::new().unwrap();
    let hashed = Arc::new(AtomicU64::new(0));
    for length in [0, 1, 65_536, 65_537] {
        let bytes = sample(length);
        let path = write(&directory, "file", &bytes);
        let source = Source::open(&path).unwrap().counted_by(hashed.clone());
        let before = hashed.load(Ordering::Relaxed);
        let take = |all: &mut Vec<u8>, bytes: &[u8]| {
            all.extend_from_slice(bytes);
            true
        };
        let read = source.read_through(0..length as u64, Vec::new(), take).await.unwrap();
        assert!(read == bytes, "{length}");
        assert_eq!(hashed.load(Ordering::Relaxed) - before, length as u64);
        if length > 0 {
            fs::File::options().write(true).open(&path).unwrap().set_len(length as u64 - 1).unwrap();
            let cut = source.read_through(0..length as u64, Vec::new(), take).await;
            assert_eq!(cut, Err(SourceFailure::Changed), "{length}");
        }
    }
}
