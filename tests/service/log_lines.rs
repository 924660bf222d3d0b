//! The log is as the manual says: each event of the program stands there, and what is promised of its lines is true.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value;
use upspool_emulator::{Calls, Operation, Reply};

use crate::harness::{Bench, noise};

const MANUAL: &str = include_str!("../../docs/OPERATING.md");

/// The events that the manual has, with the levels that stand beside them.
fn manual() -> Vec<(String, String)> {
    let (_, section) = MANUAL.split_once("\n### Events\n").unwrap();
    let (section, _) = section.split_once("\n| field |").unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    let events = |row: &str| {
        let cells: Vec<String> = row.trim_matches(['|', ' ']).split(" | ").map(str::to_owned).collect();
        let names = cells[0].split('`').skip(1).step_by(2).map(|name| (name.to_owned(), cells[1].clone()));
        names.collect::<Vec<_>>()
    };
    rows.flat_map(events).collect()
}

/// Rust files below a directory.
fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|one| one == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn the_manual_has_each_event_of_the_program_and_no_other() {
    let mut files = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
    let mut events = BTreeSet::new();
    for file in files {
        let text = std::fs::read_to_string(file).unwrap();
        // Of the macro of steps the event is the second word.
        let named = text.split("event = \"").skip(1).chain(text.split("tell!(").skip(1).filter_map(|call| {
            let (level, rest) = call.split_once(',')?;
            rest.trim_start().strip_prefix('"').filter(|_| !level.contains(')'))
        }));
        events.extend(named.map(|rest| rest.split('"').next().unwrap().to_owned()));
    }
    let manual: BTreeSet<String> = manual().into_iter().map(|(event, _)| event).collect();
    assert_eq!(events, manual);
    assert!(events.len() > 40, "{events:?}");
}

#[tokio::test]
async fn each_line_has_its_event_its_level_and_what_it_is_about() {
    let mut bench = Bench::new().await;
    bench.tables = "[upload]\nparallel_parts = 2\npart_size = \"1 MiB\"\n".into();
    for fault in [
        Calls::of(Operation::Create).nth(1).meet(Reply::status(503)),
        Calls::of(Operation::Create).filename("rejected.txt").meet(Reply::status(400)),
        Calls::of(Operation::Part).nth(2).meet(Reply::status(500)),
    ] {
        bench.emulator.fault(fault);
    }
    bench.drop_file("large.bin", &noise(3 << 20, 1));
    bench.drop_file("rejected.txt", b"rejected");
    bench.drop_file("empty.txt", b"");
    let service = bench.start();
    service.wait_stored(1).await;
    service
        .wait_for("the refusal", |line| line["event"] == "failed" && line["code"] == "file-rejected")
        .await;
    bench.emulator.set_api_keys(["another"]);
    bench.drop_file("held.txt", b"held");
    service.wait_event("hold").await;
    bench.emulator.set_api_keys([upspool_emulator::DEFAULT_KEY]);
    assert!(bench.command(&["resume"]).status().unwrap().success());
    service.wait_stored(2).await;
    let (status, log) = service.stop().await;
    assert!(status.success());

    let manual = manual();
    for line in &log {
        let event = line["event"].as_str().unwrap_or_else(|| panic!("no event: {line}"));
        let (_, levels) = manual
            .iter()
            .find(|(name, _)| name == event)
            .unwrap_or_else(|| panic!("{event} is not in the manual"));
        let level = line["level"].as_str().unwrap().to_lowercase();
        assert!(levels.contains(&level), "{line}");
        assert!(
            line["message"].as_str().is_some_and(|words| !words.is_empty() && !words.contains('\n')),
            "{line}"
        );
    }
    let promised: [(&str, &[&str]); 11] = [
        ("found", &["folder", "path", "bytes", "by"]),
        ("queued", &["job", "folder", "path", "account", "bytes"]),
        (
            "upload-opened",
            &[
                "job",
                "folder",
                "path",
                "account",
                "upload_id",
                "bytes",
                "duration_ms",
                "status",
                "request_id",
            ],
        ),
        (
            "part-stored",
            &["job", "folder", "path", "account", "part", "bytes", "duration_ms", "status", "request_id"],
        ),
        (
            "stored",
            &["job", "folder", "path", "account", "file_id", "bytes", "duration_ms", "status", "request_id"],
        ),
        ("retry", &["job", "folder", "path", "account", "attempt", "code", "status", "request_id"]),
        ("failed", &["job", "folder", "path", "account", "code"]),
        ("hold", &["scope", "account", "code", "status", "request_id"]),
        ("resumed", &["scope", "account", "code", "duration_ms", "attempt"]),
        ("folder-state", &["folder", "path", "state"]),
        ("ready", &[]),
    ];
    for (event, fields) in promised {
        let lines: Vec<&Value> = log.iter().filter(|line| line["event"] == event).collect();
        assert!(!lines.is_empty(), "no {event}");
        for (line, field) in lines.iter().flat_map(|line| fields.iter().map(move |field| (line, field))) {
            assert!(!line[*field].is_null(), "{event} has no {field}: {line}");
        }
    }
    let refused = log.iter().find(|line| line["code"] == "file-rejected").unwrap();
    assert_eq!((&refused["status"], refused["request_id"].is_string()), (&400.into(), true));
    let found = log.iter().filter(|line| line["event"] == "found").count();
    assert_eq!(found, 4, "each file once");
}

#[tokio::test]
async fn a_file_that_changes_again_and_again_is_found_once() {
    let mut bench = Bench::new().await;
    bench.folder = "settle = \"500ms\"\n".into();
    let service = bench.start();
    service.wait_event("ready").await;
    let path = bench.path("drop/grows.txt");
    let mut file = std::fs::File::create(&path).unwrap();
    for byte in 0..5_u8 {
        std::io::Write::write_all(&mut file, &[byte]).unwrap();
        // Until the service has seen this size: each time it is a change that it was told of.
        let seen = async {
            loop {
                let output = bench.command(&["status", "--json"]).output().unwrap();
                let status: Value = serde_json::from_slice(&output.stdout).unwrap();
                if status["live"]["changing"][0]["bytes"] == u64::from(byte) + 1 {
                    return;
                }
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(crate::harness::PATIENCE, seen).await.unwrap();
    }
    drop(file);
    service.wait_stored(1).await;
    let (_, log) = service.stop().await;
    assert_eq!(log.iter().filter(|line| line["event"] == "found").count(), 1);
}
