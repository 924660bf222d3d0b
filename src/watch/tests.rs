//! Folders on real file systems. Every test waits for notices, and for none longer than it must.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::UNIX_EPOCH;

use tempfile::TempDir;
use tokio::time::timeout;

use super::*;
use crate::model::settle::{Decision, Observation, Settle};
use crate::model::silence::LATE;
use crate::model::time::{Boot, Wall};

const KEY: FolderKey = FolderKey(7);
/// Longer than anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
const NEVER: Duration = Duration::from_secs(86_400);

fn clock() -> Clock {
    Arc::new(|| {
        let now = i64::try_from(UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap();
        Now { wall: Wall(now), boot: Boot(now) }
    })
}

fn spec(path: &Path) -> FolderSpec {
    FolderSpec {
        key: KEY,
        path: path.to_path_buf(),
        recursive: true,
        links: Links::None,
        watch: WatchMode::Events,
        poll_interval: Duration::from_millis(50),
        rescan_interval: NEVER,
        rules: TakeRules::everything(),
        excluded: Vec::new(),
    }
}

/// A directory on each kind of file system that is at hand.
fn places() -> Vec<TempDir> {
    let shm = Path::new("/dev/shm");
    let mut places = vec![tempfile::tempdir().unwrap()];
    places.extend(shm.is_dir().then(|| tempfile::tempdir_in(shm).unwrap()));
    places
}

/// A watched folder, and all that was told of it.
struct Told {
    watch: Watch,
    notices: mpsc::Receiver<Notice>,
    seen: BTreeMap<PathBuf, Look>,
    scans: Vec<Scanned>,
    states: Vec<FolderState>,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl Told {
    fn start(spec: FolderSpec) -> Told {
        Told::start_at(spec, clock())
    }

    fn start_at(spec: FolderSpec, clock: Clock) -> Told {
        let (sender, notices) = mpsc::channel(4);
        let shutdown = CancellationToken::new();
        let (watch, task) = Watch::start(vec![spec], clock, sender, shutdown.clone());
        let (seen, scans, states) = Default::default();
        Told { watch, notices, seen, scans, states, shutdown, task }
    }

    /// Watches and has scanned once.
    async fn ready(spec: FolderSpec) -> Told {
        let mut told = Told::start(spec);
        told.until("the first scan", |told| !told.scans.is_empty()).await;
        told
    }

    async fn until(&mut self, what: &str, done: impl Fn(&Told) -> bool) {
        let wait = async {
            while !done(self) {
                match self.notices.recv().await.expect("the watch has ended") {
                    Notice::Seen { folder, entries, .. } => {
                        assert_eq!(folder, KEY);
                        assert!(entries.len() <= 512);
                        self.seen.extend(entries);
                    }
                    Notice::Scanned(scanned) => self.scans.push(scanned),
                    Notice::State { state, .. } => self.states.push(state),
                }
            }
        };
        if timeout(PATIENCE, wait).await.is_err() {
            panic!("{what}: seen {:?}, scans {:?}, states {:?}", self.seen, self.scans, self.states);
        }
    }

    async fn sees(&mut self, path: impl AsRef<Path>) -> Look {
        let path = path.as_ref();
        self.until(&format!("{path:?}"), |told| told.seen.contains_key(path)).await;
        self.seen[path]
    }

    async fn scan(&mut self) -> Scanned {
        let generation = self.watch.rescan(KEY).unwrap();
        let answers = |told: &Told| told.scans.iter().position(|scan| scan.generation >= generation);
        self.until("the scan asked for", |told| answers(told).is_some()).await;
        self.scans[answers(self).unwrap()].clone()
    }

    fn names(&self) -> BTreeSet<&Path> {
        self.seen.keys().map(PathBuf::as_path).collect()
    }

    async fn stop(self) {
        self.shutdown.cancel();
        timeout(PATIENCE, self.task).await.expect("it did not stop").unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_in_which_a_file_arrives_is_heard() {
    for place in places() {
        let (root, outside) = (place.path().join("drop"), place.path().join("outside"));
        fs::create_dir(&root).unwrap();
        fs::create_dir(&outside).unwrap();
        fs::write(root.join("before"), "was there").unwrap();
        let mut told = Told::ready(spec(&root)).await;
        assert_eq!(told.states, [FolderState::Events]);
        assert_eq!(told.seen[Path::new("before")].fingerprint.bytes, 9);

        fs::write(root.join("written"), "12345").unwrap();
        told.until("closed", |told| {
            told.seen.get(Path::new("written")).is_some_and(|look| look.fingerprint.bytes == 5)
        })
        .await;

        fs::write(outside.join("x"), "123").unwrap();
        fs::hard_link(outside.join("x"), root.join("linked")).unwrap();
        assert_eq!(told.sees("linked").await.fingerprint.bytes, 3);
        fs::rename(outside.join("x"), root.join("moved in")).unwrap();
        told.sees("moved in").await;
        fs::write(root.join("half.part"), "").unwrap();
        fs::rename(root.join("half.part"), root.join("whole")).unwrap();
        told.sees("whole").await;

        fs::create_dir_all(outside.join("tree/deep/er")).unwrap();
        fs::write(outside.join("tree/a"), "").unwrap();
        fs::write(outside.join("tree/deep/er/b"), "").unwrap();
        fs::rename(outside.join("tree"), root.join("tree")).unwrap();
        told.sees("tree/a").await;
        told.sees("tree/deep/er/b").await;
        fs::write(root.join("tree/deep/er/later"), "").unwrap();
        told.sees("tree/deep/er/later").await;

        assert!(!told.seen.contains_key(Path::new("half.part")));
        assert_eq!(told.scans.len(), 1, "no scan was needed for that");
        told.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_written_at_once_into_new_directories_are_never_missed() {
    for place in places() {
        let mut told = Told::ready(spec(place.path())).await;
        let root = place.path().to_path_buf();
        let writer = std::thread::spawn(move || {
            for round in 0..400 {
                let directory = root.join(format!("{round}/a/b"));
                fs::create_dir_all(&directory).unwrap();
                fs::write(directory.join("file"), "x").unwrap();
                fs::write(root.join(format!("{round}/a/file")), "x").unwrap();
            }
        });
        told.until("all of them", |told| told.seen.len() == 800).await;
        writer.join().unwrap();
        assert_eq!(told.scans.len(), 1, "no scan of the whole folder was needed for that");
        told.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_goes_and_comes_back_is_watched_again() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path().join("drop");
    let mut told = Told::start(spec(&root));
    told.until("missing", |told| !told.states.is_empty()).await;
    assert!(matches!(&told.states[0], FolderState::Missing { message } if message.contains("drop")));
    assert_eq!(told.watch.kind(KEY), FolderKind::UNKNOWN);

    fs::create_dir(&root).unwrap();
    told.until("the first scan", |told| told.scans.len() == 1).await;
    assert_eq!(told.states[1..], [FolderState::Events]);
    assert_ne!(told.watch.kind(KEY), FolderKind::UNKNOWN);
    fs::write(root.join("one"), "").unwrap();
    told.sees("one").await;

    fs::remove_dir_all(&root).unwrap();
    fs::create_dir(&root).unwrap();
    fs::write(root.join("two"), "").unwrap();
    told.sees("two").await;

    fs::rename(&root, place.path().join("elsewhere")).unwrap();
    told.until("missing again", |told| matches!(told.states.last(), Some(FolderState::Missing { .. }))).await;
    fs::create_dir(&root).unwrap();
    fs::write(root.join("three"), "").unwrap();
    told.sees("three").await;
    fs::write(place.path().join("elsewhere/not ours"), "").unwrap();
    fs::write(root.join("four"), "").unwrap();
    told.sees("four").await;
    assert!(!told.seen.contains_key(Path::new("not ours")));
    told.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_above_the_folder_that_is_swapped_without_an_event_is_noticed() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path().join("current/drop");
    fs::create_dir_all(place.path().join("1/drop")).unwrap();
    fs::create_dir_all(place.path().join("2/drop")).unwrap();
    symlink("1", place.path().join("current")).unwrap();
    let mut told = Told::ready(spec(&root)).await;
    fs::write(root.join("one"), "").unwrap();
    told.sees("one").await;
    symlink("2", place.path().join("next")).unwrap();
    fs::rename(place.path().join("next"), place.path().join("current")).unwrap();
    fs::write(root.join("two"), "").unwrap();
    told.sees("two").await;
    fs::write(root.join("three"), "").unwrap();
    told.sees("three").await;
    told.stop().await;
}

/// Fills a folder with everything that may lie in one, and returns what is to be taken of it.
fn fill(root: &Path, outside: &Path) -> BTreeSet<PathBuf> {
    let strange = OsStr::from_bytes(b"caf\xe9 \xff\nnew line");
    fs::create_dir_all(root.join("sub").join(strange)).unwrap();
    fs::create_dir_all(root.join(".hidden")).unwrap();
    fs::create_dir_all(root.join("@eaDir")).unwrap();
    fs::create_dir_all(root.join("done")).unwrap();
    fs::write(outside.join("secret"), "").unwrap();
    symlink(outside.join("secret"), root.join("link")).unwrap();
    symlink(outside, root.join("way")).unwrap();
    symlink(root, root.join("sub/loop")).unwrap();
    let mode = rustix::fs::Mode::RWXU;
    rustix::fs::mknodat(rustix::fs::CWD, root.join("fifo"), rustix::fs::FileType::Fifo, mode, 0).unwrap();
    for ignored in [".hidden/x", "@eaDir/x", "done/x", ".x", "x.part", "x~"] {
        fs::write(root.join(ignored), "ignored").unwrap();
    }
    let taken = [
        PathBuf::from("plain"),
        PathBuf::from("sub/with space"),
        Path::new("sub").join(strange).join(strange),
        PathBuf::from(strange),
    ];
    for path in &taken {
        fs::write(root.join(path), "taken").unwrap();
    }
    taken.into()
}

#[tokio::test(flavor = "multi_thread")]
async fn events_scans_and_polling_take_the_same_files() {
    for place in places() {
        let (root, outside) = (place.path().join("drop"), place.path().join("outside"));
        fs::create_dir(&root).unwrap();
        fs::create_dir(&outside).unwrap();
        // By another name than the one by which it is met.
        symlink("drop", place.path().join("alias")).unwrap();
        fs::create_dir(root.join("done")).unwrap();
        let by_events = FolderSpec { excluded: vec![place.path().join("alias/done")], ..spec(&root) };
        let by_polling = FolderSpec { watch: WatchMode::Poll, ..by_events.clone() };

        let mut heard = Told::ready(by_events.clone()).await;
        let mut polled = Told::ready(by_polling).await;
        assert!(matches!(polled.states[..], [FolderState::Polling { .. }]));
        let taken = fill(&root, &outside);
        let taken: BTreeSet<&Path> = taken.iter().map(PathBuf::as_path).collect();
        heard.until("all by events", |told| told.names().is_superset(&taken)).await;
        polled.until("all by polling", |told| told.names().is_superset(&taken)).await;
        assert_eq!(heard.scans.len(), 1, "no scan was needed for that");
        polled.scan().await;
        let scanned = heard.scan().await;
        assert_eq!(heard.names(), taken);
        assert_eq!(polled.names(), taken);

        let fresh = Told::ready(by_events).await;
        assert_eq!(fresh.names(), taken);
        let first = &fresh.scans[0];
        assert_eq!((first.files, first.bytes, first.complete), (4, 20, true));
        assert_eq!((first.directories, first.others, first.ignored), (3, 4, 5));
        assert_eq!((scanned.files, scanned.others), (4, 4));
        for told in [heard, polled, fresh] {
            told.stop().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_file_is_opened_by_a_scan_and_no_fifo_by_a_look() {
    use notify::event::{AccessKind, EventKind, EventKindMask};
    use notify::{Config, RecommendedWatcher, RecursiveMode, Watcher};

    let place = tempfile::tempdir().unwrap();
    let root = place.path();
    let fifo = root.join("fifo");
    let mode = rustix::fs::Mode::RWXU;
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    fs::write(root.join("file"), "").unwrap();
    fs::write(root.join("sentinel"), "").unwrap();
    let (sender, opened) = std::sync::mpsc::channel();
    let config = Config::default().with_event_kinds(EventKindMask::ACCESS_OPEN);
    let mut spy = RecommendedWatcher::new(sender, config).unwrap();
    spy.watch(root, RecursiveMode::NonRecursive).unwrap();

    let told = Told::ready(spec(root)).await;
    for name in ["fifo", "file"] {
        let _ = look(root, Path::new(name), Links::None, &told.watch.kind(KEY), clock()().wall);
    }
    told.stop().await;
    File::open(root.join("sentinel")).unwrap();
    let mut paths = Vec::new();
    while paths.last() != Some(&root.join("sentinel")) {
        let event = opened.recv_timeout(PATIENCE).unwrap().unwrap();
        assert!(matches!(event.kind, EventKind::Access(AccessKind::Open(_))));
        paths.extend(event.paths.into_iter().filter(|path| path != root));
    }
    assert_eq!(paths, [root.join("file"), root.join("sentinel")], "the file once, by the look");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_is_not_recursive_ends_at_its_directories() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path();
    fs::create_dir(root.join("sub")).unwrap();
    fs::write(root.join("sub/no"), "").unwrap();
    let mut told = Told::ready(FolderSpec { recursive: false, ..spec(root) }).await;
    fs::create_dir(root.join("new")).unwrap();
    fs::write(root.join("new/no"), "").unwrap();
    fs::write(root.join("sub/neither"), "").unwrap();
    fs::write(root.join("yes"), "").unwrap();
    told.sees("yes").await;
    told.scan().await;
    assert_eq!(told.names(), BTreeSet::from([Path::new("yes")]));
    told.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_files_come_in_batches_however_slowly_they_are_received() {
    let place = tempfile::tempdir().unwrap();
    for number in 0..2_000 {
        File::create(place.path().join(number.to_string())).unwrap();
    }
    let told = Told::ready(spec(place.path())).await;
    assert_eq!((told.seen.len(), told.scans[0].files), (2_000, 2_000));
    told.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_stops_although_nobody_receives() {
    let place = tempfile::tempdir().unwrap();
    for number in 0..5_000 {
        File::create(place.path().join(number.to_string())).unwrap();
    }
    let mut told = Told::start(spec(place.path()));
    told.until("the scan has begun", |told| !told.seen.is_empty()).await;
    told.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_events_are_made_good_by_a_scan() {
    let place = tempfile::tempdir().unwrap();
    let mut told = Told::ready(spec(place.path())).await;
    told.watch.signals(KEY).unwrap().tell(|heard| heard.lost = true);
    told.until("a scan", |told| told.scans.len() == 2).await;
    told.watch.signals(KEY).unwrap().tell(|heard| heard.rearm = true);
    told.until("another scan", |told| told.scans.len() == 3).await;
    fs::write(place.path().join("file"), "").unwrap();
    told.sees("file").await;
    assert_eq!(told.states, [FolderState::Events], "nothing of that is news");
    told.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_watches_a_folder_is_polled_and_it_is_said_what_would_help() {
    let place = tempfile::tempdir().unwrap();
    fs::create_dir(place.path().join("sub")).unwrap();
    let mut told = Told::ready(spec(place.path())).await;
    told.watch.signals(KEY).unwrap().tell(|heard| heard.limit = true);
    told.until("it is degraded", |told| told.states.len() == 2).await;
    let FolderState::Degraded { every, why, .. } = &told.states[1] else { panic!("{:?}", told.states) };
    assert_eq!(*every, Duration::from_millis(50));
    assert!(why.contains("this folder needs 2") && why.contains("sysctl -w"), "{why}");
    fs::write(place.path().join("sub/file"), "").unwrap();
    told.sees("sub/file").await;
    told.stop().await;
}

/// Runs the next test in a user namespace of its own, where the kernel's limit can be set.
#[test]
fn the_kernels_limit_of_watches_is_lived_with() {
    const LIMIT: &str = "echo 10 >/proc/sys/user/max_inotify_watches";
    let unshare = |script: &str| {
        let mut command = std::process::Command::new("unshare");
        command.args(["--user", "--map-root-user", "sh", "-c", script]).arg(std::env::current_exe().unwrap());
        command
    };
    if !unshare(LIMIT).output().is_ok_and(|output| output.status.success()) {
        // No namespaces are to be had here.
        return;
    }
    let inner = "watch::tests::with_ten_watches_a_folder_is_polled_until_there_are_more";
    let output = unshare(&format!("{LIMIT} && exec \"$0\" --ignored --exact {inner}")).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "the test above runs it where the kernel has ten watches"]
async fn with_ten_watches_a_folder_is_polled_until_there_are_more() {
    let place = tempfile::tempdir().unwrap();
    for number in 0..8 {
        fs::create_dir(place.path().join(number.to_string())).unwrap();
    }
    let mut told = Told::ready(spec(place.path())).await;
    assert_eq!(told.states, [FolderState::Events]);
    for number in 8..20 {
        fs::create_dir(place.path().join(number.to_string())).unwrap();
    }
    told.until("it is degraded", |told| told.states.len() == 2).await;
    let FolderState::Degraded { why, limit: true, .. } = &told.states[1] else { panic!("{:?}", told.states) };
    assert!(why.contains("user.max_inotify_watches is 10 "), "{why}");
    fs::write(place.path().join("19/file"), "").unwrap();
    told.sees("19/file").await;

    // From the start it is the same, and watches that do not suffice are not kept from others.
    let small = tempfile::tempdir().unwrap();
    let mut other = Told::ready(spec(place.path())).await;
    assert!(matches!(other.states[..], [FolderState::Degraded { .. }]));
    other.sees("19/file").await;
    let fits = Told::ready(spec(small.path())).await;
    assert_eq!(fits.states, [FolderState::Events]);

    fs::write("/proc/sys/user/max_inotify_watches", "100").unwrap();
    told.until("it is watched again", |told| told.states.last() == Some(&FolderState::Events)).await;
    for told in [told, other, fits] {
        told.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_reported_and_the_rest_is_scanned() {
    use std::os::unix::fs::PermissionsExt;
    let place = tempfile::tempdir().unwrap();
    let closed = place.path().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::write(place.path().join("open"), "").unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).unwrap();
    if fs::read_dir(&closed).is_ok() {
        // Root reads everything: nothing can be shown here.
        return;
    }
    let mut told = Told::ready(spec(place.path())).await;
    let first = &told.scans[0];
    assert_eq!((first.complete, first.files, first.unreadable_count), (false, 1, 1));
    assert_eq!(first.unreadable[0].0, Path::new("closed"));
    // What becomes readable is watched from then on.
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
    told.scan().await;
    told.until("the scan after the watches were placed anew", |told| told.scans.len() >= 3).await;
    fs::write(closed.join("file"), "").unwrap();
    told.sees("closed/file").await;
    told.stop().await;
}

/// A wall clock that can be set ahead, so that an event that did not come yet will not come any more.
fn clock_ahead(by: &Arc<AtomicI64>) -> Clock {
    let by = by.clone();
    Arc::new(move || {
        let now = clock()();
        Now { wall: Wall(now.wall.0 + by.load(Ordering::SeqCst)), ..now }
    })
}

/// As late as an event may be: a scan then judges all that came to be before it began. Further ahead, it would take what
/// comes to be after it for judged too.
const TOO_LATE: i64 = LATE.as_millis() as i64;

/// An overlay whose lower layer is written to behind its back: the new files are there, and nobody is told of them.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_system_that_does_not_tell_of_its_files_is_found_out_and_polled() {
    let place = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let at = |name: &str| place.path().join(name);
    for name in ["lower/drop", "upper", "work", "merged"] {
        fs::create_dir_all(at(name)).unwrap();
    }
    let layers = ["lower", "upper", "work"].map(|name| format!("{name}dir={}", at(name).display())).join(",");
    let mount = |arguments: &[&OsStr]| {
        std::process::Command::new(arguments[0])
            .args(&arguments[1..])
            .output()
            .is_ok_and(|out| out.status.success())
    };
    let merged = at("merged");
    let arguments = ["mount", "-t", "overlay", "-o", &layers, "none"].map(OsStr::new);
    if !mount(&[&arguments[..], &[merged.as_os_str()]].concat()) {
        // No overlay is to be had here.
        return;
    }
    let ahead = Arc::new(AtomicI64::new(0));
    fs::write(at("lower/drop/before"), "").unwrap();
    let mut told = Told::start_at(spec(&merged.join("drop")), clock_ahead(&ahead));
    told.until("the first scan", |told| !told.scans.is_empty()).await;
    ahead.store(TOO_LATE, Ordering::SeqCst);
    for round in 0.. {
        assert!(round < 100, "nothing but scans found these files");
        let name = format!("file {round}");
        fs::write(at("lower/drop").join(&name), "").unwrap();
        told.scan().await;
        told.sees(&name).await;
        if told.states.len() > 1 {
            assert!(round > 0, "one file may have its reason");
            break;
        }
    }
    let FolderState::Degraded { every, why, .. } = &told.states[1] else { panic!("{:?}", told.states) };
    assert_eq!(*every, Duration::from_millis(50));
    assert!(why.contains("changes are found by scans that no event told of"), "{why}");
    // From now on nobody has to ask for a scan.
    fs::write(at("lower/drop/after"), "").unwrap();
    told.sees("after").await;
    assert_eq!(told.states.len(), 2, "and it stays so: {:?}", told.states);
    told.stop().await;
    assert!(mount(&["umount".as_ref(), merged.as_os_str()]));
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_events_told_of_are_not_silence_and_neither_is_what_was_there_or_moved_in() {
    let place = tempfile::tempdir().unwrap();
    let (root, outside) = (place.path().join("drop"), place.path().join("outside"));
    fs::create_dir_all(&root).unwrap();
    fs::write(root.join("before"), "").unwrap();
    let ahead = Arc::new(AtomicI64::new(0));
    let mut told = Told::start_at(spec(&root), clock_ahead(&ahead));
    told.until("the first scan", |told| !told.scans.is_empty()).await;
    ahead.store(TOO_LATE, Ordering::SeqCst);
    for round in 0..4 {
        fs::write(root.join(format!("written {round}")), "").unwrap();
        fs::create_dir_all(outside.join("deep")).unwrap();
        fs::write(outside.join("deep/file"), "").unwrap();
        fs::rename(&outside, root.join(format!("moved {round}"))).unwrap();
        // A time that was set and other rights are no birth.
        File::open(root.join("before")).unwrap().set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
        fs::hard_link(root.join("before"), root.join(format!("linked {round}"))).unwrap();
        told.sees(format!("moved {round}/deep/file")).await;
        told.sees(format!("linked {round}")).await;
        told.scan().await;
    }
    assert_eq!(told.states, [FolderState::Events]);
    told.stop().await;
}

/// The loop that whoever uses this room has to write.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_written_slowly_settles_once_and_whole() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path().to_path_buf();
    let mut told = Told::ready(spec(&root)).await;
    let (kind, now) = (told.watch.kind(KEY), clock());
    let writer = std::thread::spawn({
        let path = root.join("slow");
        move || {
            let mut file = File::create(path).unwrap();
            for _ in 0..30 {
                file.write_all(&[0; 1_000]).unwrap();
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    });
    let mut settle = Settle::new();
    let quiet = Duration::from_millis(100);
    settle.set_rule(KEY, crate::model::settle::Quiet { tested: quiet, untested: Duration::from_secs(5) });
    let settled = timeout(PATIENCE, async {
        loop {
            for (folder, path) in settle.due(now().boot, 64) {
                let (root, now) = (root.clone(), now.clone());
                let looked = tokio::task::spawn_blocking(move || {
                    let seen = look(&root, &path, Links::None, &kind, now().wall);
                    (path, seen)
                });
                let (path, seen) = looked.await.unwrap();
                if let Decision::Settled(fingerprint) = settle.observe(folder, &path, seen, clock()()) {
                    return (path, fingerprint);
                }
            }
            let nap = settle.next_wake().map_or(PATIENCE, |wake| wake.since(now().boot));
            tokio::select! {
                Some(Notice::Seen { folder, entries, .. }) = told.notices.recv() => {
                    for (path, look) in entries {
                        let _ = settle.observe(folder, &path, Observation::Glimpsed(look), now());
                    }
                }
                () = tokio::time::sleep(nap) => {}
            }
        }
    })
    .await
    .unwrap();
    assert_eq!((settled.0, settled.1.bytes), (PathBuf::from("slow"), 30_000));
    assert!(settle.is_empty());
    writer.join().unwrap();
    told.stop().await;
}
