//! What is looked at before a file is sent: is it right, and does the server have it already?

use std::path::Path;

use serde_json::Value;
use sqlx::{Connection, Row, SqliteConnection};
use upspool::model::job::{JobId, State};
use upspool::store::Record;
use upspool_emulator::{Calls, Operation, Patch, Point, Reply};

use crate::harness::{Bench, noise};

const MIB: usize = 1024 * 1024;

/// One line of a batch that is right.
fn request(id: &str) -> String {
    format!(r#"{{"custom_id":"{id}","method":"POST","url":"/v1/responses","body":{{"input":"x"}}}}"#)
}

/// Wrong in its second and fourth line.
fn wrong_batch() -> String {
    [&request("a"), "{\"custom_id\":", &request("b"), &request("a"), &request("c"), ""].join("\n")
}

async fn batch(preflight: &str) -> Bench {
    let mut bench = Bench::new().await;
    bench.folder = format!("purpose = \"batch\"\n{preflight}\n");
    bench
}

fn shown(bench: &Bench, name: &str) -> Value {
    let path = bench.path("drop").join(name);
    let output = bench.command(&["show", path.to_str().unwrap(), "--json"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn events<'a>(log: &'a [Value], event: &str) -> Vec<&'a Value> {
    log.iter().filter(|line| line["event"] == event).collect()
}

#[tokio::test]
async fn what_is_wrong_is_told_with_its_lines_and_sent_all_the_same() {
    // «warn» is what a folder does unless it says otherwise.
    let bench = batch("").await;
    bench.drop_file("wrong.jsonl", wrong_batch().as_bytes());
    bench.drop_file("right.jsonl", request("a").as_bytes());
    bench.drop_file("odd name.txt", request("a").as_bytes());
    let (code, printed, log) = bench.once(&[]).await;
    assert_eq!(code, 0, "{printed}");
    bench.assert_ledger_is_the_truth().await;
    let expected = [
        "line 2: it is not JSON: EOF while parsing a value, at byte 13",
        "line 4: custom_id \"a\" is that of line 1 too",
    ];
    let record = shown(&bench, "wrong.jsonl");
    assert_eq!((&record["state"], &record["error"]), (&"stored".into(), &Value::Null));
    assert_eq!(record["warnings"], serde_json::json!(expected));
    assert_eq!(shown(&bench, "right.jsonl")["warnings"], serde_json::json!([]));
    let odd = shown(&bench, "odd name.txt")["warnings"].clone();
    assert_eq!(odd, serde_json::json!(["its name does not end as batch is known to take: .jsonl"]));
    let warned = events(&log, "preflight");
    assert_eq!(warned.len(), 2, "each file once: {warned:#?}");
    let line = warned.iter().find(|line| line["faults"] == 2).unwrap();
    assert_eq!((&line["level"], &line["code"]), (&"WARN".into(), &"preflight-failed".into()));
    let words = line["message"].as_str().unwrap();
    assert!(words.contains(expected[0]) && words.ends_with("and 1 more"), "{words}");
    assert!(line["path"].as_str().unwrap().ends_with("/wrong.jsonl"));
    let path = bench.path("drop").join("wrong.jsonl");
    let output = bench.command(&["show", path.to_str().unwrap()]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(expected.iter().all(|words| text.contains(words)), "{text}");
}

#[tokio::test]
async fn what_is_to_be_right_fails_before_any_request_and_is_mended_or_sent_on_a_persons_word() {
    let mut bench = batch("preflight = \"reject\"").await;
    bench.drop_file("mended.jsonl", wrong_batch().as_bytes());
    bench.drop_file("wanted.jsonl", "\u{feff}{}\n".as_bytes());
    let (code, printed, log) = bench.once(&[]).await;
    assert_eq!(code, 1, "{printed}");
    assert!(printed.lines().all(|line| line.starts_with("failed preflight-failed\t")), "{printed}");
    assert!(bench.emulator.requests().is_empty(), "nobody was asked");
    assert_eq!(events(&log, "failed").len(), 2);
    let record = shown(&bench, "mended.jsonl");
    assert_eq!(record["error"]["code"], "preflight-failed");
    let words = record["error"]["message"].as_str().unwrap();
    assert!(words.starts_with("line 2: it is not JSON") && words.ends_with("and 1 more"), "{words}");
    assert_eq!(record["warnings"].as_array().unwrap().len(), 2, "all of it is there");

    // Asked again it says the same; mended it is another version.
    let (mended, wanted) = (bench.path("drop").join("mended.jsonl"), bench.path("drop").join("wanted.jsonl"));
    let retry = |bench: &Bench, path: &Path| {
        let output = bench.command(&["retry", path.to_str().unwrap()]).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
    };
    retry(&bench, &mended);
    let (code, printed, _) = bench.once(&[]).await;
    assert_eq!((code, printed.lines().count()), (1, 1), "{printed}");
    bench.drop_file("mended.jsonl", request("a").as_bytes());
    let (code, printed, _) = bench.once(&[]).await;
    assert_eq!(code, 0, "{printed}");
    assert_eq!(bench.emulator.files().len(), 1);

    // The setting that counts is the one in force, not that of the day when the file was dropped.
    bench.folder = "purpose = \"batch\"\npreflight = \"warn\"\n".into();
    retry(&bench, &wanted);
    let (code, printed, _) = bench.once(&[]).await;
    assert_eq!(code, 0, "{printed}");
    let record = shown(&bench, "wanted.jsonl");
    assert_eq!((&record["state"], &record["error"]), (&"stored".into(), &Value::Null));
    assert_eq!(record["warnings"][0], "line 1: it begins with a byte order mark");
    bench.assert_ledger_is_the_truth().await;
}

#[tokio::test]
async fn nothing_is_looked_at_where_nobody_wants_it_or_nothing_is_known_of_it() {
    let bench = batch("preflight = \"off\"").await;
    bench.drop_file("wrong.jsonl", wrong_batch().as_bytes());
    let (code, _, log) = bench.once(&[]).await;
    assert_eq!((code, events(&log, "preflight").len()), (0, 0));

    let mut bench = Bench::new().await;
    bench.folder = "preflight = \"reject\"\n".into();
    bench.drop_file("a.bin", b"{");
    let wrong = bench.drop_file("b.jsonl", b"{");
    let (code, printed, _) = bench.once(&[]).await;
    assert_eq!(code, 1);
    assert!(printed.contains(&format!("failed preflight-failed\t{}", wrong.display())), "{printed}");
    assert_eq!(bench.record("a.bin").await.state, State::Stored);
}

#[tokio::test]
async fn a_large_file_is_looked_at_as_well_and_waits_for_nobody() {
    let mut bench = batch("preflight = \"reject\"").await;
    bench.tables = "[upload]\nparallel_parts = 2\npart_size = \"1 MiB\"\n".into();
    let long = "x".repeat(1000);
    let lines: Vec<String> = (0..3000).map(|number| request(&format!("{number} {long}"))).collect();
    bench.drop_file("right.jsonl", lines.join("\n").as_bytes());
    bench.drop_file("wrong.jsonl", format!("{}\n{}", lines.join("\n"), lines[0]).as_bytes());
    let (code, printed, _) = bench.once(&[]).await;
    assert_eq!(code, 1, "{printed}");
    assert_eq!(bench.record("right.jsonl").await.state, State::Stored);
    let error = bench.record("wrong.jsonl").await.error.unwrap();
    assert!(error.message.starts_with("line 3001: custom_id"), "{}", error.message);
    assert!(error.message.ends_with("is that of line 1 too"), "{}", error.message);
    assert_eq!(bench.emulator.requests_of(Operation::Create).len(), 1);
}

async fn dedupe() -> Bench {
    let mut bench = Bench::new().await;
    bench.folder = "dedupe = true\n".into();
    bench.tables = "[upload]\nparallel_parts = 2\npart_size = \"1 MiB\"\n".into();
    bench
}

async fn once(bench: &Bench) -> Vec<Value> {
    let (code, printed, log) = bench.once(&[]).await;
    assert_eq!(code, 0, "{printed}\n{log:#?}");
    log
}

fn creates(bench: &Bench) -> usize {
    bench.emulator.requests_of(Operation::Create).len()
}

/// The one record at `name` that speaks for what lies there.
async fn present(bench: &Bench, name: &str) -> Record {
    let mut records = bench.records().await;
    records.retain(|record| record.relative_path == Path::new(name) && record.present);
    assert_eq!(records.len(), 1, "{name}: {records:?}");
    records.remove(0)
}

async fn store(bench: &Bench) -> SqliteConnection {
    let path = bench.state_dir().join(upspool::store::DATABASE);
    SqliteConnection::connect(path.to_str().unwrap()).await.unwrap()
}

#[tokio::test]
async fn the_same_bytes_in_another_directory_share_the_file_and_nothing_is_sent() {
    let bench = dedupe().await;
    for (name, content) in [("small.bin", noise(1000, 1)), ("large.bin", noise(3 * MIB + 5, 2))] {
        bench.drop_file(format!("one/{name}"), &content);
        once(&bench).await;
        let before = bench.emulator.requests().len();
        let copy = bench.drop_file(format!("two/{name}"), &content);
        let log = once(&bench).await;
        let asked: Vec<Operation> =
            bench.emulator.requests()[before..].iter().map(|request| request.operation).collect();
        assert_eq!(asked, [Operation::Get], "it is asked whether the File is there, and nothing else");
        let (one, two) =
            (bench.record(&format!("one/{name}")).await, bench.record(&format!("two/{name}")).await);
        let line = events(&log, "stored")[0];
        assert_eq!(line["deduped_from"], one.id.0, "{line}");
        assert_eq!(line["file_id"], one.file_id.as_ref().unwrap().0.as_str());
        let shown = shown(&bench, &format!("two/{name}"));
        assert_eq!((&shown["state"], &shown["deduped_from"]), (&"stored".into(), &one.id.0.into()));

        // As whoever reads the ledger sees it.
        let row = sqlx::query("SELECT * FROM jobs WHERE id = ?1")
            .bind(two.id.0)
            .fetch_one(&mut store(&bench).await)
            .await
            .unwrap();
        assert_eq!(row.get::<String, _>("stage"), "stored");
        assert_eq!(row.get::<Option<String>, _>("file_id"), one.file_id.map(|file| file.0));
        assert_eq!(row.get::<Option<i64>, _>("deduped_from"), Some(one.id.0));
        assert!(
            row.get::<Option<i64>, _>("stored_at").is_some()
                && row.get::<Option<i64>, _>("ended_at").is_some()
        );
        assert_eq!((row.get::<i64, _>("uploads"), row.get::<i64, _>("present")), (0, 1));

        // A touch is no other version of it either.
        let later = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
        std::fs::File::options().write(true).open(&copy).unwrap().set_modified(later).unwrap();
        let before = bench.emulator.requests().len();
        assert_eq!(bench.once(&[]).await.1, "");
        assert_eq!(bench.emulator.requests().len(), before);
    }
    bench.assert_ledger_is_the_truth().await;
}

#[tokio::test]
async fn whatever_is_not_the_same_is_sent() {
    let mut bench = dedupe().await;
    let content = noise(2 * MIB, 1);
    bench.drop_file("a.bin", &content);
    once(&bench).await;
    let mut changed = content.clone();
    *changed.last_mut().unwrap() ^= 1;
    bench.drop_file("changed/a.bin", &changed);
    bench.drop_file("longer/a.bin", &[content.as_slice(), b"x"].concat());
    bench.drop_file("another name.bin", &content);
    once(&bench).await;
    assert_eq!((creates(&bench), bench.emulator.files().len()), (4, 4));

    // Another purpose, another account, another lifetime of the File.
    let key = bench.path("key");
    let api = format!("[accounts.other]\nbase_url = {:?}\nkey_file = {key:?}\n", bench.emulator.base_url());
    bench.tables += &api;
    for (name, line) in [
        ("purpose", "purpose = \"evals\""),
        ("account", "purpose = \"user_data\"\naccount = \"other\""),
        ("lifetime", "purpose = \"user_data\"\nexpires_after = \"2h\""),
    ] {
        let path = bench.path(name);
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join("a.bin"), &content).unwrap();
        bench.folders += &format!("[[folder]]\npath = {path:?}\n{line}\nsettle = \"100ms\"\ndedupe = true\n");
    }
    once(&bench).await;
    assert_eq!((creates(&bench), bench.emulator.files().len()), (7, 7));

    // A folder that does not want it.
    bench.folder = "dedupe = false\n".into();
    bench.drop_file("once more/a.bin", &content);
    once(&bench).await;
    assert_eq!((creates(&bench), bench.emulator.files().len()), (8, 8));
    bench.assert_ledger_is_the_truth().await;
}

#[tokio::test]
async fn what_was_sent_before_it_was_wished_is_shared_where_the_md5_is_known() {
    let mut bench = dedupe().await;
    bench.folder = "dedupe = false\n".into();
    bench.drop_file("one/with.bin", b"its MD5 is made");
    once(&bench).await;
    bench.tables = bench.tables.replace("[upload]", "[upload]\nchecksum = false");
    bench.drop_file("one/without.bin", b"its MD5 is not");
    once(&bench).await;

    bench.folder = "dedupe = true\n".into();
    bench.drop_file("two/with.bin", b"its MD5 is made");
    bench.drop_file("two/other/with.bin", b"another content");
    bench.drop_file("two/without.bin", b"its MD5 is not");
    once(&bench).await;
    let from = bench.record("one/with.bin").await.id;
    assert_eq!(bench.record("two/with.bin").await.deduped_from, Some(from));
    assert_eq!(bench.record("two/other/with.bin").await.deduped_from, None);
    let sent = bench.record("two/without.bin").await;
    assert_eq!(sent.deduped_from, None, "what it has is no proof that it is the same");
    // By now it is.
    bench.drop_file("three/without.bin", b"its MD5 is not");
    once(&bench).await;
    assert_eq!(bench.record("three/without.bin").await.deduped_from, Some(sent.id));
    assert_eq!((creates(&bench), bench.emulator.files().len()), (4, 4));
    bench.assert_ledger_is_the_truth().await;
}

#[tokio::test]
async fn a_file_that_is_gone_or_will_be_soon_does_not_stand_for_another() {
    let mut bench = dedupe().await;
    bench.folder += "expires_after = \"10h\"\n";
    bench.drop_file("one/a.bin", &noise(1000, 1));
    once(&bench).await;
    let share = async |bench: &Bench, name: &str| {
        let before = creates(bench);
        bench.drop_file(name, &noise(1000, 1));
        once(bench).await;
        creates(bench) == before
    };
    assert!(share(&bench, "two/a.bin").await, "it lives for ten hours");
    let record = bench.record("two/a.bin").await;
    assert!(record.file_expires_at.is_some());
    let age = async |bench: &Bench, hours: i64| {
        sqlx::query("UPDATE jobs SET stored_at = stored_at - ?1 WHERE deduped_from IS NULL")
            .bind(hours * 3_600_000)
            .execute(&mut store(bench).await)
            .await
            .unwrap();
    };
    age(&bench, 4).await;
    assert!(share(&bench, "three/a.bin").await, "six of ten hours are left");
    age(&bench, 2).await;
    assert!(!share(&bench, "four/a.bin").await, "less than half of them are left");
    assert!(share(&bench, "five/a.bin").await, "the new one will do");
    assert_eq!(bench.record("five/a.bin").await.deduped_from, Some(bench.record("four/a.bin").await.id));

    for file in bench.emulator.files() {
        bench.emulator.purge(&file.id);
    }
    assert!(!share(&bench, "six/a.bin").await, "somebody deleted them");
    for (number, patch) in [
        Patch::default().set("/bytes", 999),
        Patch::default().null("/bytes"),
        Patch::default().set("/purpose", "batch"),
        Patch::default().set("/status", "error"),
    ]
    .into_iter()
    .enumerate()
    {
        bench.emulator.fault(Calls::of(Operation::Get).meet(patch));
        assert!(!share(&bench, &format!("{number}/a.bin")).await, "what is said of it does not fit");
        bench.emulator.clear_faults();
    }
    for status in [400, 403, 404, 410, 501] {
        bench.emulator.fault(Calls::of(Operation::Get).meet(Reply::status(status)));
        assert!(!share(&bench, &format!("{status}/a.bin")).await, "{status}");
        bench.emulator.clear_faults();
    }
    assert!(share(&bench, "last/a.bin").await);
}

#[tokio::test]
async fn of_twins_that_come_at_once_one_is_sent_also_with_a_kill_between() {
    for kill in [false, true] {
        let bench = dedupe().await;
        for name in ["a", "b", "c"] {
            bench.drop_file(format!("{name}/small.bin"), &noise(1000, 1));
            bench.drop_file(format!("{name}/large.bin"), &noise(3 * MIB, 2));
        }
        if kill {
            let hold =
                bench.emulator.hold(Calls::of(Operation::Part).filename("large.bin").nth(2), Point::Before);
            let service = bench.start();
            hold.reached().await;
            let large = |line: &Value| line["path"].as_str().is_some_and(|path| path.ends_with("large.bin"));
            let line = service
                .wait_for("a Part stored", move |line| line["event"] == "part-stored" && large(line))
                .await;
            // Of what has no row yet a start knows nothing, and opens another Upload.
            let has_part = |record: &Record| record.parts_stored.is_some_and(|parts| parts > 0);
            bench.record_when_of(line["job"].as_i64().unwrap(), has_part).await;
            service.kill().await;
            hold.release();
        }
        once(&bench).await;
        let completed = bench.emulator.files().len();
        assert_eq!(completed, 2, "killed: {kill}");
        let large =
            |request: &&upspool_emulator::RequestRecord| request.filename.as_deref() == Some("large.bin");
        assert_eq!(bench.emulator.requests_of(Operation::Create).iter().filter(large).count(), 1);
        let shared = bench.records().await.iter().filter(|record| record.deduped_from.is_some()).count();
        assert_eq!(shared, 4);
        bench.assert_ledger_is_the_truth().await;
    }
}

#[tokio::test]
async fn a_server_that_is_away_when_it_is_asked_is_waited_for() {
    let mut bench = dedupe().await;
    bench.drop_file("one/a.bin", &noise(1000, 1));
    once(&bench).await;
    bench.emulator.pause().await;
    let service = bench.start();
    bench.drop_file("two/a.bin", &noise(1000, 1));
    bench.drop_file("three/a.bin", &noise(1000, 1));
    service.wait_event("hold").await;
    bench.emulator.resume().await.unwrap();
    service.wait_stored(2).await;
    service.stop().await;
    assert_eq!(creates(&bench), 1);
    for name in ["two/a.bin", "three/a.bin"] {
        assert_eq!(bench.record(name).await.deduped_from, Some(JobId(1)));
    }
    bench.assert_ledger_is_the_truth().await;
}

#[tokio::test]
async fn what_changes_while_the_server_is_asked_shares_nothing() {
    let bench = dedupe().await;
    bench.drop_file("one/a.bin", &noise(1000, 1));
    once(&bench).await;
    let hold = bench.emulator.hold(Calls::of(Operation::Get).nth(1), Point::After);
    let service = bench.start();
    let path = bench.drop_file("two/a.bin", &noise(1000, 1));
    hold.reached().await;
    std::fs::write(&path, noise(1000, 9)).unwrap();
    hold.release();
    service.wait_event("gone").await;
    service.wait_stored(1).await;
    service.stop().await;
    let record = present(&bench, "two/a.bin").await;
    assert_eq!((record.state, record.deduped_from), (State::Stored, None));
    assert_eq!(bench.emulator.files().len(), 2);
    bench.assert_ledger_is_the_truth().await;
}
