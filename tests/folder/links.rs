//! Symbolic links in a folder: which are followed, and that none leads out of it unless that was said.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::harness::{Bench, noise};

/// A folder with links of all kinds, and what they lead to.
async fn bench(follow: &str) -> Bench {
    let mut bench = Bench::new().await;
    bench.folder = format!("follow_symlinks = {follow}\n");
    let outside = bench.path("outside");
    fs::create_dir_all(outside.join("tree/deep")).unwrap();
    fs::write(outside.join("secret"), b"outside, a file").unwrap();
    fs::write(outside.join("tree/deep/leaf"), b"outside, in a tree").unwrap();
    bench.drop_file("file", b"inside, a file");
    bench.drop_file("dir/a", b"inside, in a directory");
    let drop = bench.path("drop");
    for (target, link) in [
        ("file", "to-file"),
        ("../file", "dir/up"),
        ("dir", "to-dir"),
        ("to-file", "to-link"),
        ("..", "dir/loop"),
        ("self", "self"),
        ("nothing", "dangling"),
        ("../outside/secret", "out-file"),
        ("../outside/tree", "out-tree"),
        ("../state", "to-state"),
        ("../state/upspool.db", "to-ledger"),
    ] {
        symlink(target, drop.join(link)).unwrap();
    }
    symlink(drop.join("file"), drop.join("absolute")).unwrap();
    bench
}

/// The paths that have a File.
async fn sent(bench: &Bench) -> BTreeSet<String> {
    let (code, printed, log) = bench.once(&[]).await;
    assert_eq!(code, 0, "{printed}\n{log:#?}");
    bench.assert_ledger_is_the_truth().await;
    let records = bench.records().await;
    records.into_iter().map(|record| record.relative_path.to_str().unwrap().to_owned()).collect()
}

fn set<'names>(names: impl IntoIterator<Item = &'names str>) -> BTreeSet<String> {
    names.into_iter().map(str::to_owned).collect()
}

const INSIDE: [&str; 7] = ["file", "dir/a", "to-file", "to-link", "dir/up", "to-dir/a", "to-dir/up"];

#[tokio::test]
async fn no_link_is_followed_unless_that_was_said() {
    let bench = bench("false").await;
    assert_eq!(sent(&bench).await, set(["file", "dir/a"]));
}

#[tokio::test]
async fn links_that_stay_in_the_folder_are_followed_if_that_was_said() {
    let bench = bench("true").await;
    assert_eq!(sent(&bench).await, set(INSIDE), "each is a file of its own name, and no loop is gone round");
    let files = bench.emulator.files().len();
    assert_eq!(sent(&bench).await, set(INSIDE));
    assert_eq!(bench.emulator.files().len(), files, "nothing is sent again");
}

#[tokio::test]
async fn links_lead_anywhere_only_if_that_was_said_and_never_into_the_state() {
    let bench = bench("\"anywhere\"").await;
    let mut expected = set(INSIDE);
    expected.extend(set(["absolute", "out-file", "out-tree/deep/leaf"]));
    assert_eq!(sent(&bench).await, expected);
    let (_, _, log) = bench.once(&[]).await;
    let warned = |line: &serde_json::Value| {
        line["event"] == "config-warning" && line["message"].as_str().unwrap().contains("any file sent")
    };
    assert!(log.iter().any(warned), "{log:#?}");
}

#[tokio::test]
async fn a_link_that_comes_is_heard_of_and_what_changes_behind_it_is_found_by_the_next_scan() {
    let mut bench = Bench::new().await;
    bench.folder = "follow_symlinks = \"anywhere\"\nwatch = \"events\"\nrescan_interval = \"1h\"\n".into();
    let outside = bench.path("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("a"), b"one").unwrap();
    let service = bench.start();
    service.wait_for("events", |line| line["state"] == "events").await;
    symlink(outside.join("a"), bench.path("drop/link")).unwrap();
    symlink(&outside, bench.path("drop/tree")).unwrap();
    service.wait_stored(2).await;
    service.stop().await;
    fs::write(outside.join("a"), b"two").unwrap();
    assert_eq!(sent(&bench).await, set(["link", "tree/a"]));
    assert_eq!(bench.emulator.files().len(), 4);
    // Retargeted: another version. The outside that goes away deletes nothing.
    fs::write(outside.join("b"), noise(77, 7)).unwrap();
    fs::remove_file(bench.path("drop/link")).unwrap();
    symlink(outside.join("b"), bench.path("drop/link")).unwrap();
    sent(&bench).await;
    assert_eq!(bench.emulator.files().len(), 6, "the link, and b in the tree");
    fs::rename(&outside, bench.path("away")).unwrap();
    sent(&bench).await;
    fs::rename(bench.path("away"), &outside).unwrap();
    sent(&bench).await;
    assert_eq!(bench.emulator.files().len(), 6, "nothing is sent again");
}

#[tokio::test]
async fn files_that_are_moved_or_deleted_do_not_go_together_with_links() {
    let mut bench = Bench::new().await;
    bench.folder = "follow_symlinks = true\nafter_upload = { move = \"done\" }\n".into();
    let output = bench.command(&["check"]).output().unwrap();
    assert_eq!(output.status.code(), Some(78));
    let said =
        String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("folder.follow_symlinks: does not go with files that are moved"), "{said}");
    assert!(Path::new(&bench.path("drop")).is_dir());
}
