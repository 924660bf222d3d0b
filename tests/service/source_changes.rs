//! The source changes at each stage of its way: what becomes a File was one version of it.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use upspool::model::job::State;
use upspool_emulator::{Calls, Operation, Point};

use crate::harness::{Bench, Service, as_a_user, noise, sha256};

const MIB: usize = 1024 * 1024;
const SIZE: usize = 3 * MIB;

/// What is done to the file.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Change {
    Shrinks,
    Grows,
    /// The same size and inode, other bytes.
    Rewritten,
    /// Another file is renamed over it.
    Replaced,
    Touched,
    Removed,
    /// It becomes something that is no file.
    Directory,
}

const CHANGES: [Change; 7] = [
    Change::Shrinks,
    Change::Grows,
    Change::Rewritten,
    Change::Replaced,
    Change::Touched,
    Change::Removed,
    Change::Directory,
];

/// When.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// It is queued, and its create is on its way.
    Waits,
    /// Some of its Parts are stored.
    Sent,
    /// Its last Part is on its way.
    LastPart,
    /// The service was killed, and starts again.
    Restart,
}

const MOMENTS: [Moment; 4] = [Moment::Waits, Moment::Sent, Moment::LastPart, Moment::Restart];

fn first() -> Vec<u8> {
    noise(SIZE, 1)
}

fn change(path: &Path, change: Change) {
    let second = match change {
        Change::Shrinks => noise(SIZE / 2, 2),
        Change::Grows => [first(), noise(1000, 2)].concat(),
        Change::Rewritten | Change::Replaced => noise(SIZE, 3),
        Change::Touched => first(),
        Change::Removed | Change::Directory => Vec::new(),
    };
    match change {
        Change::Shrinks | Change::Grows | Change::Rewritten => std::fs::write(path, &second).unwrap(),
        Change::Replaced => {
            let staged = path.parent().unwrap().parent().unwrap().join("other");
            std::fs::write(&staged, &second).unwrap();
            std::fs::rename(staged, path).unwrap();
        }
        Change::Touched => {
            let later = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_500_000_000);
            std::fs::File::options().append(true).open(path).unwrap().set_modified(later).unwrap();
        }
        Change::Removed => std::fs::remove_file(path).unwrap(),
        Change::Directory => {
            std::fs::remove_file(path).unwrap();
            std::fs::create_dir(path).unwrap();
        }
    }
}

#[tokio::test]
async fn whatever_happens_to_the_source_and_whenever_a_file_is_one_version_of_it() {
    for moment in MOMENTS {
        for what in CHANGES {
            let name = format!("{what:?} when it {moment:?}");
            let mut bench = Bench::new().await;
            bench.tables = "[upload]\npart_size = \"1 MiB\"\nparallel_parts = 1\n".into();
            let path = bench.drop_file("a.bin", &first());
            let calls = match moment {
                Moment::Waits => Calls::of(Operation::Create).nth(1),
                Moment::Sent | Moment::Restart => Calls::of(Operation::Part).nth(2),
                Moment::LastPart => Calls::of(Operation::Part).nth(3),
            };
            let hold = bench.emulator.hold(calls, Point::After);
            let mut begun = !matches!(moment, Moment::Waits);
            let mut service = bench.start();
            hold.reached().await;
            if matches!(moment, Moment::Restart) {
                service.signal(rustix::process::Signal::KILL);
                service.child.wait().unwrap();
                // A kill may come before the row of the first Part.
                begun = bench.record("a.bin").await.parts_stored.is_some_and(|stored| stored > 0);
            }
            change(&path, what);
            hold.release();
            if matches!(moment, Moment::Restart) {
                service = bench.start();
            }
            if path.is_file() {
                service.wait_stored(1).await;
            } else {
                service.wait_event("gone").await;
            }
            let (status, log) = service.stop().await;
            assert_eq!(status.code(), Some(0), "{name}");

            let files = bench.emulator.files();
            let records = bench.records().await;
            let lies = std::fs::read(&path).ok();
            match &lies {
                // What lies there in the end is a File, once; no mixture of versions ever was one.
                Some(bytes) => {
                    assert_eq!(files.len(), 1, "{name}: {records:#?}\n{log:#?}");
                    assert_eq!(files[0].sha256.as_deref(), Some(sha256(bytes).as_str()), "{name}");
                    let last = records.last().unwrap();
                    assert_eq!((last.state, last.present), (State::Stored, true), "{name}: {records:#?}");
                }
                None => {
                    assert!(files.is_empty(), "{name}");
                    assert_eq!(records.last().unwrap().state, State::Gone, "{name}: {records:#?}");
                }
            }
            // Before anything was read of it nobody can tell a touch from another version: then it is taken for one.
            if what == Change::Touched && begun {
                assert_eq!(records.len(), 1, "{name}: a touch is no other version");
            }
            bench.assert_ledger_is_the_truth().await;
        }
    }
}

#[tokio::test]
async fn a_file_that_cannot_be_read_says_so_and_is_sent_when_it_can() {
    let bench = Bench::new().await;
    let path = bench.drop_file("a.bin", &first());
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o000)).unwrap();
    let service = Service::spawn(as_a_user(&bench, &["run"]));
    let line = service.wait_event("failed").await;
    assert_eq!(line["code"], "file-unreadable");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
    let asked = as_a_user(&bench, &["retry", "1"]).output().unwrap();
    assert_eq!(asked.status.code(), Some(0), "{asked:?}");
    service.wait_stored(1).await;
    service.stop().await;
    assert_eq!(bench.emulator.files().len(), 1);
}
