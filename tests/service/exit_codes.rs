//! How each command ends, as the manual says: 0 done, 1 failed, 2 usage, 3 no service, 75 try later, 78 configuration.

use std::collections::BTreeSet;
use std::process::Stdio;

use upspool_emulator::{Calls, Operation, Point};

use crate::harness::{Bench, noise};

/// Each command with arguments that are right.
const COMMANDS: [&[&str]; 19] = [
    &["run", "--once"],
    &["check"],
    &["status"],
    &["list"],
    &["show", "1"],
    &["why", "/nowhere/x"],
    &["retry", "1"],
    &["cancel", "1"],
    &["bump", "1"],
    &["resolve", "1", "--again"],
    &["pause"],
    &["resume"],
    &["wait", "1"],
    &["export"],
    &["prune", "--older-than", "1d"],
    &["backup", "/nowhere/copy.db"],
    &["rebuild"],
    &["completions", "bash"],
    &["man"],
];

/// The code, and what was said.
async fn ended(bench: &Bench, arguments: &[&str]) -> (i32, String) {
    let mut command = bench.command(arguments);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    (output.status.code().unwrap(), said.concat())
}

async fn each_ends(bench: &Bench, rows: &[(&[&str], i32, &str)]) {
    for (arguments, code, words) in rows {
        let (ended, said) = ended(bench, arguments).await;
        assert_eq!(ended, *code, "{arguments:?}: {said}");
        assert!(said.contains(words), "{arguments:?} does not say {words:?}: {said}");
    }
}

#[tokio::test]
async fn the_table_has_every_command() {
    let bench = Bench::new().await;
    let (_, help) = ended(&bench, &["--help"]).await;
    let (_, commands) = help.split_once("Commands:\n").unwrap();
    let (commands, _) = commands.split_once("\n\n").unwrap();
    let named = commands.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let named: BTreeSet<&str> = named.filter_map(|line| line.split_whitespace().next()).collect();
    let mut tried: BTreeSet<&str> = COMMANDS.iter().map(|command| command[0]).collect();
    tried.insert("help");
    assert_eq!(named, tried);
}

#[tokio::test]
async fn wrong_usage_is_2_and_a_wrong_configuration_78_for_every_command() {
    let mut bench = Bench::new().await;
    for command in COMMANDS {
        let (code, said) = ended(&bench, &[command, &["--nonsense"]].concat()).await;
        assert_eq!(code, 2, "{command:?}: {said}");
        let (code, said) = ended(&bench, &[command[0], "--help"]).await;
        assert_eq!(code, 0, "{command:?}: {said}");
    }
    bench.tables = "[upload]\nparallel_parts = \"many\"\n".into();
    for command in COMMANDS {
        let (code, said) = ended(&bench, command).await;
        match command[0] {
            // What is for packages reads none.
            "completions" | "man" => assert_eq!(code, 0, "{said}"),
            _ => assert!(code == 78 && said.contains("upspool.toml:"), "{command:?} {code}: {said}"),
        }
    }
}

#[tokio::test]
async fn before_there_is_a_service() {
    let bench = Bench::new().await;
    let copy = bench.path("copy.db");
    let no_store = "there is no store";
    each_ends(
        &bench,
        &[
            (&["check"], 0, "folder drop"),
            (&["status"], 3, "no service runs"),
            (&["status", "--json"], 3, "\"running\":false"),
            (&["list"], 1, no_store),
            (&["show", "1"], 1, no_store),
            (&["why", "/nowhere/x"], 1, "no folder covers it"),
            (&["retry", "1"], 1, no_store),
            (&["cancel", "1"], 1, no_store),
            (&["bump", "1"], 1, no_store),
            (&["resolve", "1", "--again"], 1, no_store),
            (&["pause"], 1, no_store),
            (&["resume"], 1, no_store),
            (&["wait", "1"], 1, no_store),
            (&["wait"], 1, no_store),
            (&["export"], 1, no_store),
            (&["prune", "--older-than", "1d"], 1, no_store),
            (&["backup", copy.to_str().unwrap()], 1, no_store),
            (&["run", "--once"], 0, ""),
        ],
    )
    .await;
}

#[tokio::test]
async fn with_a_service() {
    let bench = Bench::new().await;
    let empty = bench.drop_file("empty.txt", b"");
    let service = bench.start();
    service.wait_event("failed").await;
    let stored = bench.drop_file("stored.txt", b"stored");
    service.wait_stored(1).await;
    let (empty, stored) = (empty.to_str().unwrap(), stored.to_str().unwrap());
    let copy = bench.path("copy.db");
    let copy = copy.to_str().unwrap();
    each_ends(
        &bench,
        &[
            (&["run"], 75, "another upspool"),
            (&["check"], 0, "folder drop"),
            (&["check", "--online"], 0, "ok"),
            (&["status"], 0, "2 jobs: 1 stored, 1 failed"),
            (&["list"], 0, "file-empty"),
            (&["list", "--folder", "none"], 1, "there is no folder none"),
            (&["show", stored], 0, "stored"),
            (&["show", "99"], 1, "there is no job 99"),
            (&["why", stored], 0, "stored as file-"),
            (&["why", empty], 1, "file-empty"),
            (&["wait", stored], 0, "file-"),
            (&["wait", empty], 1, "failed file-empty"),
            (&["wait", "99"], 1, "there is no job 99"),
            (&["wait"], 0, ""),
            (&["retry", "2"], 1, "only failed"),
            (&["retry", "99"], 1, "there is no job 99"),
            (&["retry", "--failed"], 1, "job 1 cannot be sent (file-empty)"),
            (&["cancel", "2"], 1, "job 2"),
            (&["cancel", "99"], 1, "there is no job 99"),
            (&["bump", "2"], 1, "job 2"),
            (&["resolve", "2", "--again"], 1, "job 2"),
            (&["pause", "--folder", "none"], 1, "there is no folder none"),
            (&["pause"], 0, "all folders"),
            (&["resume"], 0, "all folders"),
            (&["export"], 0, "stored"),
            (&["prune", "--older-than", "1d"], 0, ""),
            (&["backup", copy], 0, "copied to"),
            (&["backup", copy], 1, "lies there already; name another file"),
            (&["rebuild"], 75, "another upspool"),
        ],
    )
    .await;
    let hold = bench.emulator.hold(Calls::of(Operation::Complete).nth(1), Point::Before);
    let slow = bench.drop_file("slow.txt", &noise(1000, 1));
    hold.reached().await;
    each_ends(
        &bench,
        &[
            (&["wait", slow.to_str().unwrap(), "--timeout", "100ms"], 75, "the time is over"),
            (&["wait", "--timeout", "100ms"], 75, "the time is over"),
        ],
    )
    .await;
    hold.release();
    service.stop().await;
    each_ends(
        &bench,
        &[(&["rebuild"], 1, "whole"), (&["wait", "--timeout", "100ms"], 75, "no service runs")],
    )
    .await;
}

#[tokio::test]
async fn a_run_that_ends_by_itself() {
    let mut bench = Bench::new().await;
    bench.drop_file("a.txt", b"a");
    each_ends(&bench, &[(&["run", "--once"], 0, "file-"), (&["run", "--once"], 0, "")]).await;
    bench.drop_file("empty.txt", b"");
    each_ends(&bench, &[(&["run", "--once"], 1, "failed file-empty")]).await;
    // A person is needed, or time.
    bench.drop_file("b.txt", b"b");
    bench.set_key("sk-wrong");
    each_ends(
        &bench,
        &[(&["run", "--once"], 75, "key-rejected"), (&["check", "--online"], 1, "key-rejected")],
    )
    .await;
    bench.set_key(upspool_emulator::DEFAULT_KEY);
    let hold = bench.emulator.hold(Calls::of(Operation::Create).nth(1), Point::Before);
    each_ends(&bench, &[(&["run", "--once", "--timeout", "2s"], 75, "")]).await;
    hold.release();
    // An address that somebody else has may be free later; a store that is none will not mend itself.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    bench.tables = format!("[status]\nlisten = {:?}\n", taken.local_addr().unwrap().to_string());
    each_ends(&bench, &[(&["run"], 75, "")]).await;
    bench.tables = String::new();
    let database = bench.state_dir().join("upspool.db");
    for name in ["upspool.db-wal", "upspool.db-shm"] {
        let _ = std::fs::remove_file(bench.state_dir().join(name));
    }
    std::fs::write(&database, "this is no database, and nobody may overwrite it").unwrap();
    each_ends(
        &bench,
        &[
            (&["list"], 1, "upspool.db"),
            (&["check"], 78, "upspool.db"),
            (&["run"], 78, "upspool.db"),
            (&["rebuild"], 0, "the new store is"),
            (&["run", "--once"], 75, ""),
        ],
    )
    .await;
}

#[tokio::test]
async fn who_wants_to_hear_no_more_is_told_nothing_more() {
    let bench = Bench::new().await;
    for number in 0..40 {
        bench.drop_file(format!("{number}.txt"), b"x");
    }
    bench.once(&[]).await;
    for arguments in [
        &["list"][..],
        &["list", "--json"],
        &["export"],
        &["status"],
        &["show", "1"],
        &["check"],
        &["man"],
        &["why", "/x"],
    ] {
        let mut command = bench.command(arguments);
        // Its reader has gone before it began.
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output =
            command.stdout(Stdio::from(writer)).stderr(Stdio::piped()).spawn().unwrap().wait_with_output();
        let output = output.unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        let said: Vec<&str> = said
            .lines()
            .filter(|line| !line.contains("no service runs") && !line.starts_with("warning: "))
            .collect();
        assert_eq!((output.status.code(), said), (Some(0), Vec::new()), "{arguments:?}");
    }
}
