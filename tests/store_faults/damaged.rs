//! A database that is damaged, cut off, older than it was, or gone: it is never served as if it were the ledger.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use upspool::model::job::State;
use upspool_emulator::variants::Outcome;
use upspool_emulator::{Operation, Variants};

use crate::harness::{Bench, Service, noise};

/// Enough rows for some dozens of pages.
const FILES: u64 = 120;

const PAGE: u64 = 4096;

fn length(path: &Path) -> u64 {
    fs::metadata(path).unwrap().len()
}

/// Writes what is no page over the pages from `first` to before `end`.
fn spoil(path: &Path, first: u64, end: u64) {
    let file = File::options().write(true).open(path).unwrap();
    for page in first..end {
        file.write_all_at(&noise(PAGE as usize, page + 5), page * PAGE).unwrap();
    }
}

/// A copy of a directory's files.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

fn beside(bench: &Bench, end: &str) -> PathBuf {
    PathBuf::from(format!("{}{end}", bench.database().display()))
}

/// What was set aside, without what lies beside it.
pub fn set_aside(bench: &Bench) -> Vec<PathBuf> {
    let names = fs::read_dir(bench.state_dir()).unwrap().map(|entry| entry.unwrap().path());
    let mut aside: Vec<PathBuf> = names
        .filter(|path| path.to_str().unwrap().contains("upspool.db.corrupt-"))
        .filter(|path| !path.to_str().unwrap().ends_with("-wal") && !path.to_str().unwrap().ends_with("-shm"))
        .collect();
    aside.sort();
    aside
}

/// Expects that nothing starts and everything points to `rebuild`; then rebuilds, and expects that nothing is sent before
/// `resume`, and after it only what the ledger does not know. Returns how many rows were kept.
async fn is_refused_and_rebuilt(bench: &Bench, what: &str, words: &str) -> usize {
    let seen = bench.seen();
    let files = bench.emulator.files().len();
    for arguments in [&["list"][..], &["show", "1"], &["check"]] {
        let (code, text) = bench.ask(arguments).await;
        // What lies in the middle is found by who reads there.
        if code != 0 {
            assert!(text.contains("upspool rebuild"), "{what}, {arguments:?}: {text}");
        }
    }
    for again in 0..2 {
        let (code, text) = bench.ask(&["run", "--once", "--timeout", "60s"]).await;
        assert_eq!(code, 78, "{what}, start {again}: {text}");
        let said: Vec<&str> = text.lines().filter(|line| line.starts_with("upspool: ")).collect();
        assert_eq!(said.len(), 1, "one clear line: {text}");
        assert!(said[0].contains("`upspool rebuild`"), "{what}: {text}");
        if again == 0 {
            assert!(said[0].contains(words), "{what}: {text}");
        }
    }
    for arguments in [&["list"][..], &["show", "1"], &["check"], &["resume"]] {
        let (code, text) = bench.ask(arguments).await;
        assert_eq!(code, if arguments[0] == "check" { 78 } else { 1 }, "{what}, {arguments:?}: {text}");
        assert!(text.contains("upspool rebuild"), "{what}, {arguments:?}: {text}");
    }
    let (code, text) = bench.ask(&["status"]).await;
    assert!(code == 3 && text.contains("upspool rebuild"), "{what}: {text}");
    assert_eq!(bench.seen(), seen, "{what}: nothing was sent");

    let (code, said) = bench.ask(&["rebuild"]).await;
    assert_eq!(code, 0, "{what}: {said}");
    assert!(
        said.contains("paused: drop") && said.contains("`upspool resume` starts sending"),
        "{what}: {said}"
    );
    let (code, text) = bench.ask(&["rebuild"]).await;
    assert!(code == 1 && text.contains("is whole"), "{what}: a whole store is not rebuilt: {text}");
    let kept = bench.records().await.iter().filter(|record| record.file_id.is_some()).count();
    let (code, text) = bench.ask(&["run", "--once", "--timeout", "60s"]).await;
    assert_eq!(code, 75, "{what}: it waits for a person: {text}");
    assert_eq!(bench.seen(), seen, "{what}: nothing is sent while all is paused");
    for command in ["status", "check"] {
        let (_, text) = bench.ask(&[command]).await;
        assert!(text.contains("paused") && text.contains("rebuilt after damage"), "{what}: {text}");
    }
    // Every row that was kept names a File that is there; what is not known waits.
    let records = bench.records().await;
    let known = bench.emulator.files();
    for record in records.iter().filter(|record| record.file_id.is_some()) {
        let id = record.file_id.as_ref().unwrap();
        assert!(
            known.iter().any(|file| file.id == id.0 && file.filename == record.filename),
            "{what}: {record:?}"
        );
    }
    let queued = records.iter().filter(|record| record.state == State::Queued).count();
    assert_eq!(queued + kept, FILES as usize, "{what}: {said}");

    assert_eq!(bench.ask(&["resume"]).await.0, 0);
    let (code, text) = bench.ask(&["run", "--once", "--timeout", "60s"]).await;
    assert_eq!(code, 0, "{what}: {text}");
    assert_eq!(bench.emulator.files().len(), files + queued, "{what}: what is known is not sent again");
    let records = bench.records().await;
    let stored = records.iter().filter(|record| record.state == State::Stored).count();
    assert_eq!(stored, FILES as usize, "{what}");
    let mut ids: Vec<_> = records.iter().map(|record| record.file_id.clone().unwrap()).collect();
    ids.sort_by(|a, b| a.0.cmp(&b.0));
    ids.dedup();
    assert_eq!(ids.len(), FILES as usize, "{what}: each has a File of its own");
    kept
}

async fn seeded() -> Bench {
    let bench = Bench::new().await;
    bench.drop_files("a", FILES);
    assert_eq!(bench.once(&[]).await.0, 0);
    assert_eq!(bench.emulator.files().len(), FILES as usize);
    bench
}

#[tokio::test]
async fn a_database_that_was_closed_in_order_and_then_damaged() {
    let bench = seeded().await;
    let sound = bench.path("sound");
    copy(&bench.state_dir(), &sound);
    let pages = length(&bench.database()) / PAGE;
    assert!(pages > 30, "{pages}");
    type Damage = Box<dyn Fn(&Path)>;
    let cut = |length: u64| -> Damage {
        Box::new(move |path: &Path| {
            File::options().write(true).open(path).unwrap().set_len(length).unwrap();
        })
    };
    let over = |first: u64, end: u64| -> Damage { Box::new(move |path: &Path| spoil(path, first, end)) };
    let all = FILES as usize;
    let cases: Vec<(&str, Damage, &str, std::ops::RangeInclusive<usize>)> = vec![
        ("garbage at the beginning", over(0, 1), "it begins with something else", all..=all),
        ("garbage behind the header", over(1, 3), "", all..=all),
        ("garbage in the middle", over(pages / 2, pages / 2 + 4), "", 1..=all),
        ("garbage at the end", over(pages - 2, pages), "", 1..=all),
        ("garbage from the second page to the end", over(1, pages), "", 0..=0),
        // The first half is little but the beginnings of tables.
        ("cut in half", cut(pages / 2 * PAGE), "it was cut off: ", 0..=all),
        ("the last quarter cut off", cut(pages * 3 / 4 * PAGE), "it was cut off: ", 1..=all),
        ("cut within a page", cut(length(&bench.database()) - 100), "it was cut off: ", 1..=all),
        ("cut within the header", cut(50), "its header is cut off", 0..=0),
        ("emptied", cut(0), "it is empty, although a ledger was kept in it", 0..=0),
    ];
    for (what, damage, words, expected) in cases {
        fs::remove_dir_all(bench.state_dir()).unwrap();
        copy(&sound, &bench.state_dir());
        damage(&bench.database());
        let spoilt = fs::read(bench.database()).unwrap();
        let kept = is_refused_and_rebuilt(&bench, what, words).await;
        assert!(expected.contains(&kept), "{what}, of {pages} pages: {kept} rows were kept");
        let aside = set_aside(&bench);
        assert_eq!(aside.len(), 1, "{what}: {aside:?}");
        assert_eq!(fs::read(&aside[0]).unwrap(), spoilt, "{what}: kept as it was found");
        for end in ["-wal", "-shm"] {
            fs::remove_file(beside(&bench, end)).ok();
        }
        // What was sent again in this round is no concern of the next one.
    }
}

/// A service that was killed, with rows that are in the log alone.
async fn killed() -> Bench {
    let bench = seeded().await;
    // As many again, but of the same names, would be other versions: these take the place of the last ones.
    for n in FILES - 20..FILES {
        bench.drop_file(format!("a{n:03}.bin"), &noise(3000, n + 1000));
    }
    let service = bench.start();
    service.wait_stored(20).await;
    bench.drop_file("a000.bin", &noise(3000, 77));
    service.wait_stored(21).await;
    bench.committed(FILES as usize + 21).await;
    service.kill().await;
    assert!(length(&beside(&bench, "-wal")) > 0);
    bench
}

#[tokio::test]
async fn a_database_without_the_log_that_it_had_is_not_the_ledger() {
    let bench = killed().await;
    fs::remove_file(beside(&bench, "-wal")).unwrap();
    fs::remove_file(beside(&bench, "-shm")).ok();
    let kept = is_refused_and_rebuilt_as_older(&bench, "without its log").await;
    assert!(kept >= FILES as usize, "{kept}");
}

#[tokio::test]
async fn a_log_that_is_garbage_from_the_middle_on_is_not_taken_for_its_end() {
    let bench = killed().await;
    let log = beside(&bench, "-wal");
    let half = length(&log) / 2;
    let file = File::options().write(true).open(&log).unwrap();
    file.write_all_at(&noise((length(&log) - half) as usize, 3), half).unwrap();
    is_refused_and_rebuilt_as_older(&bench, "a spoilt log").await;
}

#[tokio::test]
async fn an_old_copy_put_in_place_is_not_the_ledger() {
    let bench = seeded().await;
    let old = bench.path("old.db");
    fs::copy(bench.database(), &old).unwrap();
    bench.drop_file("b.bin", &noise(900, 5));
    assert_eq!(bench.once(&[]).await.0, 0);
    fs::copy(&old, bench.database()).unwrap();
    let kept = is_refused_and_rebuilt_as_older(&bench, "an old copy").await;
    assert_eq!(kept, FILES as usize);
}

#[tokio::test]
async fn a_backup_alone_on_a_new_machine_is_not_the_ledger_until_it_is_rebuilt() {
    let bench = seeded().await;
    let backup = bench.path("backup.db");
    let (code, text) = bench.ask(&["backup", backup.to_str().unwrap()]).await;
    assert_eq!(code, 0, "{text}");
    bench.drop_file("b.bin", &noise(900, 5));
    assert_eq!(bench.once(&[]).await.0, 0);
    fs::remove_dir_all(bench.state_dir()).unwrap();
    fs::create_dir(bench.state_dir()).unwrap();
    fs::copy(&backup, bench.database()).unwrap();
    let kept = is_refused_until_rebuilt(&bench, "a backup", "has no ").await;
    assert_eq!(kept, FILES as usize);
}

#[tokio::test]
async fn a_whole_state_directory_that_is_copied_is_the_ledger() {
    let bench = seeded().await;
    let (kept, files) = (bench.path("kept"), bench.emulator.files().len());
    fs::rename(bench.state_dir(), &kept).unwrap();
    copy(&kept, &bench.state_dir());
    assert_eq!(bench.once(&[]).await.0, 0);
    assert_eq!(bench.emulator.files().len(), files);
}

/// A whole database that lacks commits stays where it is until it is rebuilt: what it lacks may be put back.
async fn is_refused_and_rebuilt_as_older(bench: &Bench, what: &str) -> usize {
    is_refused_until_rebuilt(bench, what, "misses the last ").await
}

async fn is_refused_until_rebuilt(bench: &Bench, what: &str, why: &str) -> usize {
    // What was being completed by an older ledger is asked for again: no File comes of that which was not coming anyway.
    bench.emulator.set_variants(Variants { second_complete: Outcome::Upload, ..Variants::default() });
    let seen = || {
        let requests = bench.emulator.requests();
        requests.iter().filter(|request| request.operation != Operation::Complete).count()
    };
    let (before, files) = (seen(), bench.emulator.files().len());
    for _ in 0..2 {
        let (code, text) = bench.ask(&["run", "--once"]).await;
        assert_eq!(code, 78, "{what}: {text}");
        assert!(text.contains(why) && text.contains("`upspool rebuild`"), "{what}: {text}");
    }
    let (code, text) = bench.ask(&["list"]).await;
    assert!(code == 1 && text.contains(why), "{what}: {text}");
    assert!(set_aside(bench).is_empty(), "{what}");
    let (code, text) = bench.ask(&["rebuild"]).await;
    assert_eq!(code, 0, "{what}: {text}");
    assert_eq!(set_aside(bench).len(), 1);
    let kept = bench.records().await.iter().filter(|record| record.file_id.is_some()).count();
    let (code, text) = bench.ask(&["run", "--once"]).await;
    assert_eq!(code, 75, "{what}: {text}");
    assert_eq!((seen(), bench.emulator.files().len()), (before, files), "{what}: nothing was sent");
    kept
}

#[tokio::test]
async fn a_log_that_is_put_back_is_the_ledger_again() {
    let bench = killed().await;
    let (log, away) = (beside(&bench, "-wal"), bench.path("away"));
    fs::rename(&log, &away).unwrap();
    fs::remove_file(beside(&bench, "-shm")).ok();
    assert_eq!(bench.ask(&["run", "--once"]).await.0, 78);
    // Looking has left no other log there.
    fs::rename(&away, &log).unwrap();
    assert_eq!(bench.once(&[]).await.0, 0);
    assert_eq!(bench.emulator.files().len(), FILES as usize + 21);
    bench.assert_whole().await;
}

#[tokio::test]
async fn a_deleted_database_is_not_a_new_beginning() {
    for left in [&[][..], &["-wal", "-shm"]] {
        let bench = if left.is_empty() { seeded().await } else { killed().await };
        let files = bench.emulator.files().len();
        fs::remove_file(bench.database()).unwrap();
        let (code, text) = bench.ask(&["run", "--once"]).await;
        assert_eq!(code, 78, "{text}");
        assert!(text.contains("is gone, although a ledger was kept there"), "{text}");
        assert!(!bench.database().exists(), "none was made");
        for end in left {
            assert!(beside(&bench, end).exists(), "what may be needed to put it back stays");
        }
        let (code, text) = bench.ask(&["check"]).await;
        assert!(code == 78 && text.contains("is gone"), "{text}");
        let (code, text) = bench.ask(&["rebuild"]).await;
        assert!(code == 0 && text.contains("the old store is gone"), "{text}");
        assert_eq!(bench.ask(&["run", "--once", "--timeout", "60s"]).await.0, 75);
        assert_eq!(bench.emulator.files().len(), files);
    }
}

#[tokio::test]
async fn where_nothing_ever_was_there_is_nothing_to_rebuild() {
    let bench = Bench::new().await;
    let (code, text) = bench.ask(&["rebuild"]).await;
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("there is no store"), "{text}");
    let service = bench.start();
    service.wait_event("ready").await;
    let (code, text) = bench.ask(&["rebuild"]).await;
    assert_eq!(code, 75, "{text}");
    assert!(text.contains(&service.child.id().to_string()), "it names who holds it: {text}");
}

#[tokio::test]
async fn damage_that_is_found_while_the_service_runs_ends_it_at_once() {
    let bench = seeded().await;
    let service = bench.start();
    service.wait_event("ready").await;
    bench.drop_file("b.bin", &noise(900, 5));
    service.wait_stored(1).await;
    bench.committed(FILES as usize + 1).await;
    // Pages that nobody has in memory any more once something was written.
    spoil(&bench.database(), 1, length(&bench.database()) / PAGE);
    let (creates, files) =
        (bench.emulator.requests_of(Operation::Create).len(), bench.emulator.files().len());
    bench.drop_file("c.bin", &noise(900, 6));
    bench.drop_file("d.bin", &noise(900, 7));
    let (status, log) = ended_78(service).await;
    assert_eq!(status, 78, "{log}");
    let holds: Vec<_> = log.lines().filter(|line| line.contains("\"hold\"")).collect();
    assert_eq!(holds.len(), 1, "{log}");
    assert!(holds[0].contains("store-corrupt"), "{log}");
    let said: Vec<&str> = log.lines().filter(|line| line.starts_with("upspool: ")).collect();
    assert_eq!(said.len(), 1, "{log}");
    assert!(said[0].contains("is damaged") && said[0].contains("was set aside as"), "{log}");
    assert_eq!(set_aside(&bench).len(), 1);
    assert!(!bench.database().exists());
    // What was under way by then may have become a File; nothing was begun after it.
    assert!(bench.emulator.requests_of(Operation::Create).len() <= creates + 2);
    assert!(bench.emulator.files().len() <= files + 2);
    assert_eq!(bench.ask(&["run", "--once"]).await.0, 78);
    let sent = bench.seen();
    assert_eq!(bench.ask(&["rebuild"]).await.0, 0);
    assert_eq!(bench.ask(&["run", "--once", "--timeout", "60s"]).await.0, 75);
    assert_eq!(bench.seen(), sent);
}

#[tokio::test]
async fn a_database_that_is_deleted_under_the_service_is_rescued() {
    let bench = seeded().await;
    let service = bench.start();
    service.wait_event("ready").await;
    bench.drop_file("b.bin", &noise(900, 5));
    service.wait_stored(1).await;
    bench.committed(FILES as usize + 1).await;
    for end in ["", "-wal", "-shm"] {
        fs::remove_file(beside(&bench, end)).unwrap();
    }
    bench.drop_file("c.bin", &noise(900, 6));
    let (status, log) = ended_78(service).await;
    assert_eq!(status, 78, "{log}");
    assert!(log.contains("it was deleted or replaced while the service ran"), "{log}");
    assert_eq!(set_aside(&bench).len(), 1, "{log}");
    let files = bench.emulator.files().len();
    assert_eq!(files, FILES as usize + 1, "what could not be written down was not sent");
    let (code, text) = bench.ask(&["rebuild"]).await;
    assert_eq!(code, 0, "{text}");
    assert!(text.contains(&format!("it knows {} jobs", FILES + 1)), "nothing was lost: {text}");
    assert_eq!(bench.ask(&["resume"]).await.0, 0);
    assert_eq!(bench.once(&[]).await.0, 0);
    assert_eq!(bench.emulator.files().len(), files + 1);
    bench.assert_whole().await;
}

async fn ended_78(service: Service) -> (i32, String) {
    let (status, log) = service.ended().await;
    (status.code().unwrap_or(-1), log)
}
