//! `why` gives the one true answer, asked of the service and, without one, from the store and the folder.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::Value;
use upspool_emulator::{Calls, Operation, Point, Reply};

use crate::harness::{Bench, PATIENCE, Service, as_a_user, noise};

/// The answer to `why`, with its exit code.
fn why(bench: &Bench, path: &Path) -> (i32, Value) {
    let output = bench.command(&["why", path.to_str().unwrap(), "--json"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let value = serde_json::from_str(&text).unwrap_or_else(|_| {
        panic!("{text:?} {}", String::from_utf8_lossy(&output.stderr));
    });
    (output.status.code().unwrap(), value)
}

fn assert_why(bench: &Bench, name: &str, answer: &str, code: i32) -> Value {
    let (ended, said) = why(bench, &bench.path("drop").join(name));
    assert_eq!((said["answer"].as_str().unwrap(), ended), (answer, code), "{name}: {said}");
    let shown = bench.command(&["why", bench.path("drop").join(name).to_str().unwrap()]).output().unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    // How long it is waited for is another moment later.
    let timeless = |text: &str| text.replace(|one: char| one.is_ascii_digit() || one == '.', "");
    let message = timeless(said["message"].as_str().unwrap());
    assert!(shown.lines().count() >= 3 && timeless(&shown).contains(&message), "{shown}");
    said
}

/// Asks until the answer is this.
async fn wait_for_why(bench: &Bench, name: &str, answer: &str) -> Value {
    let asked = async {
        loop {
            let (_, said) = why(bench, &bench.path("drop").join(name));
            if said["answer"] == answer {
                return said;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asked).await.unwrap_or_else(|_| {
        let (_, said) = why(bench, &bench.path("drop").join(name));
        panic!("{name} is not {answer} but {said}")
    })
}

#[tokio::test]
async fn what_no_folder_takes_is_said_with_the_rule_with_and_without_a_service() {
    let mut bench = Bench::new().await;
    bench.folder = "recursive = false\nexclude = [\"*.bak\"]\ninclude = [\"*.txt\", \"*.bak\", \"*.part\"]\n\
                    after_upload = { move = \"done\" }\n"
        .into();
    std::fs::create_dir_all(bench.path("drop/sub")).unwrap();
    std::fs::create_dir_all(bench.path("drop/done")).unwrap();
    for name in ["a.bak", "a.part", ".hidden", "a.csv", "sub/a.txt"] {
        std::fs::write(bench.path("drop").join(name), "x").unwrap();
    }
    std::os::unix::fs::symlink("a.bak", bench.path("drop/link.txt")).unwrap();
    std::fs::write(bench.path("outside.txt"), "x").unwrap();
    let check = |source: &str| {
        let rule = |name: &str, words: &str| {
            let said = assert_why(&bench, name, "ignored", 1);
            assert!(said["message"].as_str().unwrap().contains(words), "{said}");
            assert_eq!(said["source"], source);
        };
        rule("a.bak", "excluded by \"*.bak\"");
        rule("a.part", "temporary name of browsers");
        rule(".hidden", "hidden = false");
        rule("a.csv", "no pattern of include fits");
        assert_why(&bench, "sub/a.txt", "too-deep", 1);
        assert_why(&bench, "sub", "too-deep", 1);
        assert_why(&bench, "done", "excluded", 1);
        assert_why(&bench, "link.txt", "no-file", 1);
        assert_why(&bench, "none.txt", "no-such-file", 1);
        let (code, said) = why(&bench, &bench.path("outside.txt"));
        assert_eq!((code, said["answer"].as_str().unwrap()), (1, "not-covered"), "{said}");
        assert!(said["message"].as_str().unwrap().contains(bench.path("drop").to_str().unwrap()), "{said}");
    };
    check("store");
    let service = bench.start();
    service.wait_event("ready").await;
    check("service");
    service.stop().await;
}

#[tokio::test]
async fn what_has_not_settled_is_said_with_since_when() {
    let mut bench = Bench::new().await;
    bench.folder = "settle = \"1h\"\n".into();
    let service = bench.start();
    service.wait_event("ready").await;
    bench.drop_file("changing.txt", b"x");
    let said = wait_for_why(&bench, "changing.txt", "changing").await;
    assert!(said["message"].as_str().unwrap().contains("has to be unchanged for 1 h"), "{said}");
    service.stop().await;
    // The same words where no service runs: by the same rules.
    let said = assert_why(&bench, "changing.txt", "changing", 0);
    assert_eq!(said["source"], "store");

    bench.folder = "settle = \"10ms\"\n".into();
    let mut open = File::create(bench.path("drop/open.txt")).unwrap();
    open.write_all(b"half").unwrap();
    let service = bench.start();
    let said = wait_for_why(&bench, "open.txt", "open-for-writing").await;
    assert!(said["message"].as_str().unwrap().contains("waited for since"), "{said}");
    service.wait_stored(1).await;
    assert_why(&bench, "changing.txt", "stored", 0);
    drop(open);
    service.wait_stored(2).await;
    let said = assert_why(&bench, "open.txt", "stored", 0);
    assert_eq!(said["file_id"].as_str().unwrap(), bench.record("open.txt").await.file_id.unwrap().0);
    // Another version of it is told of, and not the File of the old one.
    let open = File::options().append(true).open(bench.path("drop/open.txt")).unwrap();
    (&open).write_all(b"more").unwrap();
    wait_for_why(&bench, "open.txt", "open-for-writing").await;
    service.stop().await;
    drop(open);
    let said = assert_why(&bench, "open.txt", "no-service", 1);
    assert!(said["remedy"].as_str().unwrap().contains("start the service"), "{said}");
}

#[tokio::test]
async fn what_waits_is_said_with_what_it_waits_for() {
    let mut bench = Bench::new().await;
    bench.tables =
        "[upload]\nparallel_parts = 1\npart_size = \"1 MiB\"\n[retry]\nfirst_delay = \"1h\"\nmax_delay = \"1h\"\n".into();
    let hold = bench.emulator.hold(Calls::of(Operation::Part).nth(1), Point::Before);
    let service = bench.start();
    bench.drop_file("large.bin", &noise(3 << 20, 1));
    hold.reached().await;
    let said = assert_why(&bench, "large.bin", "uploading", 0);
    assert!(said["message"].as_str().unwrap().contains("0 of 3 Parts stored"), "{said}");
    bench.drop_file("second.bin", &noise(3 << 20, 2));
    wait_for_why(&bench, "second.bin", "slot").await;
    assert!(bench.command(&["pause"]).status().unwrap().success());
    let said = wait_for_why(&bench, "second.bin", "paused").await;
    assert_eq!(said["remedy"], "upspool resume --folder drop");
    assert!(bench.command(&["resume"]).status().unwrap().success());
    bench.emulator.fault(Calls::of(Operation::Create).nth(1).meet(Reply::status(503)));
    hold.release();
    service.wait_stored(1).await;
    let said = wait_for_why(&bench, "second.bin", "due").await;
    assert_eq!(said["code"], "server-error");
    assert!(
        said["until"].is_string()
            && said["message"].as_str().unwrap().contains("after 1 attempt that failed"),
        "{said}"
    );
    bench.emulator.set_api_keys(["another"]);
    assert!(
        bench.command(&["bump", bench.path("drop/second.bin").to_str().unwrap()]).status().unwrap().success()
    );
    let said = wait_for_why(&bench, "second.bin", "held").await;
    assert_eq!(said["code"], "key-rejected");
    assert!(said["message"].as_str().unwrap().contains("account default"), "{said}");
    service.stop().await;
    let said = assert_why(&bench, "second.bin", "no-service", 1);
    assert_eq!((&said["source"], &said["state"]), (&"store".into(), &"queued".into()));
}

#[tokio::test]
async fn what_has_ended_is_said_with_its_code_and_what_to_do() {
    let mut bench = Bench::new().await;
    bench.folder = "after_upload = { move = \"done\" }\n".into();
    bench.drop_file("empty.txt", b"");
    bench.drop_file("moved.txt", b"x");
    assert_eq!(bench.once(&[]).await.0, 1);
    let said = assert_why(&bench, "empty.txt", "failed", 1);
    assert_eq!(said["code"], "file-empty");
    assert!(said["remedy"].as_str().unwrap().contains("put content into the file"), "{said}");
    let said = assert_why(&bench, "moved.txt", "stored", 0);
    assert!(said["message"].as_str().unwrap().contains("lies at "), "{said}");
    // Nothing is said of what lies elsewhere, by whatever way.
    std::fs::write(bench.path("secret"), "x").unwrap();
    std::os::unix::fs::symlink(bench.dir.path(), bench.path("drop/way")).unwrap();
    for there in ["way/secret", "way/none"] {
        assert_why(&bench, there, "no-such-file", 1);
    }
    std::fs::remove_file(bench.path("drop/way")).unwrap();
    // A path by another name: the folder by way of a link.
    std::os::unix::fs::symlink(bench.path("drop"), bench.path("way")).unwrap();
    let (code, said) = why(&bench, &bench.path("way/empty.txt"));
    assert_eq!((code, said["answer"].as_str().unwrap()), (1, "failed"), "{said}");
    std::fs::remove_file(bench.path("way")).unwrap();

    let mut skipping = Bench::new().await;
    skipping.folder = "existing = \"skip\"\n".into();
    skipping.drop_file("old.txt", b"x");
    skipping.once(&[]).await;
    let said = assert_why(&skipping, "old.txt", "skipped", 1);
    assert!(said["remedy"].as_str().unwrap().contains("upspool retry"), "{said}");
    // A folder that went away hides what is not known, and not what has ended.
    let service = skipping.start();
    service.wait_event("ready").await;
    std::fs::rename(skipping.path("drop"), skipping.path("away")).unwrap();
    service
        .wait_for("the folder missing", |line| line["event"] == "folder-state" && line["state"] == "missing")
        .await;
    let said = assert_why(&skipping, "new.txt", "folder-missing", 1);
    assert_eq!(said["code"], "folder-missing");
    assert_why(&skipping, "old.txt", "skipped", 1);
    service.stop().await;
}

#[tokio::test]
async fn what_the_service_may_not_look_at_does_not_go_on_by_itself() {
    let bench = Bench::new().await;
    let path = bench.drop_file("closed/a.bin", &noise(1000, 1));
    let mode = |mode| std::fs::Permissions::from_mode(mode);
    std::fs::set_permissions(path.parent().unwrap(), mode(0o000)).unwrap();
    let service = Service::spawn(as_a_user(&bench, &["run"]));
    service.wait_event("ready").await;
    let asked = as_a_user(&bench, &["why", path.to_str().unwrap(), "--json"]).output().unwrap();
    let said: Value = serde_json::from_slice(&asked.stdout).unwrap();
    assert_eq!((said["answer"].as_str(), asked.status.code()), (Some("unknown"), Some(1)), "{said}");
    assert!(said["message"].as_str().unwrap().contains("Permission denied"), "{said}");
    assert!(said["remedy"].as_str().unwrap().contains("the directories on its way"), "{said}");
    assert_eq!(service.stop().await.0.code(), Some(0));
}
