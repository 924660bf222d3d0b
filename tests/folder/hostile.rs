//! A folder that somebody writes to who means harm: what lies there changes between two looks, and names are traps.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode, OFlags};
use tokio::time::{sleep, timeout};
use upspool::beneath::Links;
use upspool::model::job::State;
use upspool::model::settle::Observation;
use upspool::model::time::Wall;
use upspool::source::Source;
use upspool::watch::kind::FolderKind;
use upspool::watch::look;

use crate::harness::{Bench, PATIENCE, name, noise, sha256};

const SECRET: &[u8] = b"what lies outside, and is longer than all that lies inside";

/// Puts one thing after the other in the place of a path, as fast as it can.
struct Swapper {
    stop: Arc<AtomicBool>,
    swaps: Arc<AtomicUsize>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Swapper {
    fn start(mut swap: impl FnMut(usize) + Send + 'static) -> Swapper {
        let (stop, swaps) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (stopped, count) = (stop.clone(), swaps.clone());
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::SeqCst) {
                swap(count.fetch_add(1, Ordering::SeqCst));
            }
        });
        Swapper { stop, swaps, thread: Some(thread) }
    }

    fn swaps(&self) -> usize {
        self.swaps.load(Ordering::SeqCst)
    }
}

impl Drop for Swapper {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

/// A file, a link to the secret, a FIFO, a directory and a socket, in turn.
fn swap_kinds(victim: PathBuf, secret: PathBuf) -> impl FnMut(usize) {
    let staged = victim.with_extension("part");
    move |round| {
        let _ = fs::remove_file(&staged);
        match round % 5 {
            0 => fs::write(&staged, format!("inside {round}")).unwrap(),
            1 => symlink(&secret, &staged).unwrap(),
            2 => rustix::fs::mknodat(CWD, &staged, FileType::Fifo, Mode::RWXU, 0).unwrap(),
            3 => fs::create_dir(&staged).unwrap(),
            _ => drop(std::os::unix::net::UnixListener::bind(&staged).unwrap()),
        }
        // A directory takes the place of no file, and no file that of a directory.
        if fs::rename(&staged, &victim).is_err() {
            let _ = fs::remove_dir(&victim).or_else(|_| fs::remove_file(&victim));
            fs::rename(&staged, &victim).unwrap();
        }
    }
}

/// The directory on the way to the file, or a link to one outside that holds a file of the same name.
fn swap_ways(way: PathBuf, outside: PathBuf) -> impl FnMut(usize) {
    let aside = way.with_extension("part");
    move |_| {
        fs::rename(&way, &aside).unwrap();
        symlink(&outside, &way).unwrap();
        fs::remove_file(&way).unwrap();
        fs::rename(&aside, &way).unwrap();
    }
}

/// Looks at a file and opens it until it was swapped often; nothing may ever be seen of the secret.
fn look_and_open(root: &Path, relative: &str, links: Links, swapper: &Swapper) {
    let kind = FolderKind::probe(root).unwrap();
    let (mut looks, mut opens) = (0, 0);
    while swapper.swaps() < 5_000 || looks == 0 || opens == 0 {
        assert!(swapper.swaps() < 1_000_000, "{looks} looks and {opens} opens in so many swaps");
        match look(root, Path::new(relative), links, &kind, Wall(0)) {
            Observation::Present { look, .. }
            | Observation::OpenForWriting(look)
            | Observation::Unreadable(look)
            | Observation::Glimpsed(look) => {
                looks += 1;
                assert_ne!(look.fingerprint.bytes, SECRET.len() as u64, "{links:?}");
            }
            Observation::Absent | Observation::Unknown(_) => {}
        }
        if let Ok(source) = Source::open_beneath(root, Path::new(relative), links) {
            opens += 1;
            assert_ne!(source.fingerprint().bytes, SECRET.len() as u64, "{links:?}");
            assert!(source.file().metadata().unwrap().is_file());
        }
    }
}

#[test]
fn whatever_is_swapped_between_two_looks_nothing_outside_is_seen() {
    for links in [Links::None, Links::Beneath] {
        let place = tempfile::tempdir().unwrap();
        let (root, outside) = (place.path().join("drop"), place.path().join("outside"));
        fs::create_dir_all(root.join("way")).unwrap();
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("file"), SECRET).unwrap();
        fs::write(root.join("way/file"), "inside").unwrap();
        let kinds = Swapper::start(swap_kinds(root.join("victim"), outside.join("file")));
        look_and_open(&root, "victim", links, &kinds);
        drop(kinds);
        let ways = Swapper::start(swap_ways(root.join("way"), outside));
        look_and_open(&root, "way/file", links, &ways);
    }
}

#[tokio::test]
async fn a_service_whose_folder_is_swapped_under_it_sends_nothing_of_outside_and_goes_on() {
    let mut bench = Bench::new().await;
    bench.folder = "settle = \"1ms\"\nrescan_interval = \"1s\"\n".into();
    let outside = bench.path("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("file"), SECRET).unwrap();
    bench.drop_file("way/file", b"inside");
    let service = bench.start();
    service.wait_stored(1).await;
    let kinds = Swapper::start(swap_kinds(bench.path("drop/victim"), outside.join("file")));
    let ways = Swapper::start(swap_ways(bench.path("drop/way"), outside));
    // While all this goes on, others are served.
    for round in 0..5 {
        bench.drop_file(format!("other-{round}"), &noise(100, round));
        service
            .wait_for("the other file", move |line| {
                line["event"] == "stored"
                    && line["path"].as_str().unwrap().ends_with(&format!("other-{round}"))
            })
            .await;
    }
    drop((kinds, ways));
    let _ = fs::remove_dir(bench.path("drop/victim")).or_else(|_| fs::remove_file(bench.path("drop/victim")));
    fs::write(bench.path("drop/victim"), b"at last a file").unwrap();
    assert_eq!(service.stop().await.0.code(), Some(0));
    assert_eq!(bench.once(&[]).await.0, 0);
    assert_eq!(bench.record("other-4").await.state, State::Stored);
    let files = bench.emulator.files();
    let of = |bytes: &[u8]| files.iter().filter(|file| file.sha256 == Some(sha256(bytes))).count();
    assert_eq!((of(SECRET), of(b"at last a file")), (0, 1));
    // What is away at each look was deleted, as far as anybody can tell.
    assert!(of(b"inside") >= 1);
}

/// What a terminal would take for more than text.
fn controls(text: &str) -> String {
    let harmless = |one: &char| matches!(one, '\n');
    let bidirectional = |one: &char| matches!(one, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().filter(|one| (one.is_control() && !harmless(one)) || bidirectional(one)).collect()
}

#[tokio::test]
async fn no_name_reaches_a_terminal_as_more_than_text() {
    let mut bench = Bench::new().await;
    bench.tables = "[retry]\nfirst_delay = \"20ms\"\nmax_delay = \"200ms\"\n".into();
    let names: Vec<Vec<u8>> = vec![
        b"\x1b]0;owned\x07\x1b[2J.txt".to_vec(),
        b"line\nbreak\r\x08\x7f.txt".to_vec(),
        b"\xff\xfe\xc2\x9b31m.txt".to_vec(),
        "\u{202e}txt.exe\u{2066}".as_bytes().to_vec(),
        b"--force".to_vec(),
        b"-".to_vec(),
        vec![b'x'; 255],
        vec![b'\x01'; 255],
    ];
    let service = bench.start();
    service.wait_for("events", |line| line["state"] == "events").await;
    // Open for writing, so that `status` names them.
    let open: Vec<fs::File> =
        names.iter().map(|bytes| fs::File::create(bench.path("drop").join(name(bytes))).unwrap()).collect();
    for (file, seed) in open.iter().zip(1..) {
        std::io::Write::write_all(&mut &*file, &noise(50, seed)).unwrap();
    }
    let asked = |arguments: &[&str]| {
        let output = bench.command(arguments).output().unwrap();
        String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap()
    };
    // Found by their creation, and shown with the next second.
    let status = timeout(PATIENCE, async {
        loop {
            let status = asked(&["status"]);
            if status.contains("--force") && status.contains("owned") {
                return status;
            }
            sleep(Duration::from_millis(50)).await;
        }
    });
    let status = status.await.unwrap();
    assert_eq!(controls(&status), "", "{status}");
    drop(open);
    service.wait_stored(names.len()).await;
    // What programs read is as JSON has it, where DEL and what follows stand for themselves.
    for arguments in [&["list"][..], &["status"], &["show", "1"]] {
        let said = asked(arguments);
        assert_eq!(controls(&said), "", "{arguments:?}: {said}");
    }
    for bytes in &names {
        let path = bench.path("drop").join(name(bytes));
        let output = bench.command(&["show"]).arg(&path).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{path:?}");
        assert_eq!(controls(&String::from_utf8(output.stdout).unwrap()), "");
    }
    let raw = service.raw_log();
    assert_eq!(controls(&raw), "", "{raw}");
    service.stop().await;
    bench.assert_ledger_is_the_truth().await;
}

#[tokio::test]
async fn a_path_longer_than_the_system_takes_is_named_and_the_rest_is_sent() {
    let bench = Bench::new().await;
    bench.drop_file("beside", b"beside");
    let long = "d".repeat(250);
    let directory = OFlags::PATH | OFlags::DIRECTORY;
    let mut at: OwnedFd = rustix::fs::open(bench.path("drop"), directory, Mode::empty()).unwrap();
    for _ in 0..20 {
        rustix::fs::mkdirat(&at, long.as_str(), Mode::RWXU).unwrap();
        at = rustix::fs::openat(&at, long.as_str(), directory, Mode::empty()).unwrap();
    }
    let create = OFlags::CREATE | OFlags::WRONLY;
    drop(rustix::fs::openat(&at, "unreachable", create, Mode::RUSR | Mode::WUSR).unwrap());
    let (code, printed, log) = bench.once(&[]).await;
    assert_eq!(code, 0, "{printed}\n{log:#?}");
    assert!(printed.contains("beside"), "{printed}");
    let said = log.iter().find(|line| line["event"] == "folder-unreadable");
    assert!(said.is_some_and(|line| line["message"].as_str().unwrap().contains("name too long")), "{log:#?}");
    bench.assert_ledger_is_the_truth().await;
}

/// The most memory that a process ever had, in KiB.
fn high_water(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// `UPSPOOL_FOLDER_FILES=120000` has more than settle at once.
#[tokio::test]
async fn a_flood_of_tiny_files_is_taken_in_without_a_flood_of_memory() {
    let count: usize = std::env::var("UPSPOOL_FOLDER_FILES").map_or(10_000, |text| text.parse().unwrap());
    let mut bench = Bench::new().await;
    // Nothing is sent: what is asked is what the folder costs.
    bench.folder = "existing = \"auto\"\nsettle = \"3s\"\n".into();
    for number in 0..count {
        let directory = bench.path("drop").join(format!("{}", number / 1_000));
        if number % 1_000 == 0 {
            fs::create_dir(&directory).unwrap();
        }
        fs::write(directory.join(format!("tiny-{number}")), b"x").unwrap();
    }
    let service = bench.start();
    service.wait_event("folder-paused").await;
    let store = upspool::store::Store::open_for_asking(&bench.state_dir()).await.unwrap();
    let all = async {
        while store.counts().await.unwrap().iter().map(|count| count.jobs).sum::<u64>() < count as u64 {
            sleep(Duration::from_millis(200)).await;
        }
    };
    // A thousand of them a second is slow.
    timeout(PATIENCE + Duration::from_millis(count as u64), all).await.unwrap();
    store.close().await;
    let most = high_water(service.child.id());
    // Some 300 bytes for each file that has not settled, and the rest is what any service has.
    let bound = 120_000 + count.min(100_000) as u64;
    assert!(most < bound, "{most} KiB for {count} files, and {bound} were allowed");
    assert_eq!(service.stop().await.0.code(), Some(0));
    assert!(bench.records().await.iter().all(|record| record.state == State::Queued));
}
