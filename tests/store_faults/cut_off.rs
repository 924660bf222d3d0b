//! A crash while a damaged database is set aside, or while a new one is made: no start takes what is left for a new beginning.

use std::fs;

use crate::damaged::set_aside;
use crate::harness::{Bench, noise};

const NAME: &str = "upspool.db.corrupt-20261122T170000Z";

/// A store of a service that was killed, with rows in its log.
async fn killed() -> Bench {
    let bench = Bench::new().await;
    let service = bench.start();
    bench.drop_files("a", 10);
    service.wait_stored(10).await;
    bench.drop_file("b.bin", &noise(600, 3));
    service.wait_stored(11).await;
    bench.committed(11).await;
    service.kill().await;
    bench
}

/// Writes down that the database is being set aside, as is done before it is.
fn intend(bench: &Bench) {
    let path = bench.state_dir().join("upspool.db.witness");
    let text = fs::read_to_string(&path).unwrap();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    assert_eq!(lines[1].trim(), "");
    lines[1] = format!("{NAME:64}");
    fs::write(&path, lines.join("\n") + "\n").unwrap();
}

#[tokio::test]
async fn wherever_setting_aside_is_cut_off_it_ends_the_same() {
    for moved in 0..=3 {
        let bench = killed().await;
        intend(&bench);
        for end in ["", "-wal", "-shm"].into_iter().take(moved) {
            let (from, to) = (format!("upspool.db{end}"), format!("{NAME}{end}"));
            fs::rename(bench.state_dir().join(from), bench.state_dir().join(to)).unwrap();
        }
        let seen = bench.seen();
        for _ in 0..2 {
            let (code, text) = bench.ask(&["run", "--once"]).await;
            assert_eq!(code, 78, "{moved} moved: {text}");
            assert!(text.contains(NAME) && text.contains("`upspool rebuild`"), "{moved} moved: {text}");
        }
        assert!(!bench.database().exists());
        assert_eq!(set_aside(&bench).len(), 1);
        assert!(bench.state_dir().join(format!("{NAME}-wal")).exists(), "the log is with its database");
        let (code, text) = bench.ask(&["rebuild"]).await;
        assert_eq!(code, 0, "{moved} moved: {text}");
        assert!(text.contains("it knows 11 jobs, 11 of them with their File"), "{moved} moved: {text}");
        assert_eq!(bench.ask(&["resume"]).await.0, 0);
        assert_eq!(bench.once(&[]).await.0, 0);
        assert_eq!(bench.emulator.requests().len(), seen, "{moved} moved: all is known, nothing is sent");
        bench.assert_whole().await;
    }
}

#[tokio::test]
async fn a_rebuild_that_was_cut_off_is_begun_again() {
    let bench = killed().await;
    intend(&bench);
    assert_eq!(bench.ask(&["run", "--once"]).await.0, 78);
    // Half a new database under the name that it has until it is whole.
    for end in ["", "-wal", "-shm"] {
        fs::write(bench.state_dir().join(format!("upspool.db.new{end}")), noise(5000, 1)).unwrap();
    }
    let (code, text) = bench.ask(&["run", "--once"]).await;
    assert_eq!(code, 78, "{text}");
    let (code, text) = bench.ask(&["rebuild"]).await;
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("it knows 11 jobs"), "{text}");
    assert!(!bench.state_dir().join("upspool.db.new").exists());
    // The crash came after the last rename, before it was written down that nothing is aside any more.
    intend(&bench);
    assert_eq!(bench.ask(&["list"]).await.0, 0);
    assert_eq!(bench.ask(&["run", "--once"]).await.0, 75, "the new store, all paused");
    assert_eq!(set_aside(&bench).len(), 1, "the new one was not set aside");
    bench.assert_whole().await;
}

#[tokio::test]
async fn folders_that_the_rebuild_did_not_know_begin_paused_as_well() {
    let mut bench = killed().await;
    intend(&bench);
    let (code, text) = bench.ask(&["rebuild"]).await;
    assert_eq!(code, 0, "{text}");
    let other = bench.path("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("old.bin"), noise(800, 9)).unwrap();
    bench.folders = format!(
        "[[folder]]\npath = {other:?}\nname = \"other\"\npurpose = \"user_data\"\nsettle = \"100ms\"\nexisting = \"upload\"\n"
    );
    let seen = bench.seen();
    assert_eq!(bench.ask(&["run", "--once"]).await.0, 75);
    assert_eq!(bench.seen(), seen);
    let (_, text) = bench.ask(&["status"]).await;
    assert_eq!(text.matches("rebuilt after damage").count(), 2, "{text}");
    // Only the first run after it.
    let third = bench.path("third");
    fs::create_dir(&third).unwrap();
    fs::write(third.join("new.bin"), noise(800, 10)).unwrap();
    bench.folders += &format!(
        "[[folder]]\npath = {third:?}\nname = \"third\"\npurpose = \"user_data\"\nsettle = \"100ms\"\nexisting = \"upload\"\n"
    );
    assert_eq!(bench.ask(&["run", "--once"]).await.0, 75);
    assert_eq!(bench.emulator.files().len(), 12);
}
