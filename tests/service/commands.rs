//! Commands that wait for the service, and those that take the ledger out of it.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::process::{Output, Stdio};

use serde_json::Value;
use upspool::model::job::State;
use upspool::store::FinishState;
use upspool_emulator::{Calls, Operation, Point, Reply};

use crate::harness::{Bench, PATIENCE, name, noise};

fn ask(bench: &Bench, arguments: &[&str]) -> (i32, String, String) {
    said(&bench.command(arguments).output().unwrap())
}

fn said(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

#[tokio::test]
async fn wait_returns_when_the_version_that_lies_there_has_ended_with_its_move() {
    let mut bench = Bench::new().await;
    bench.folder = "after_upload = { move = \"done\" }\n".into();
    let service = bench.start();
    service.wait_event("ready").await;
    let hold = bench.emulator.hold(Calls::of(Operation::Complete).nth(1), Point::Before);
    let path = bench.drop_file("a.txt", b"one");
    let mut command = bench.command(&["wait", path.to_str().unwrap(), "--timeout", "50s"]);
    let waiting = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    hold.reached().await;
    let (code, _, words) = ask(&bench, &["wait", path.to_str().unwrap(), "--timeout", "200ms"]);
    assert!(code == 75 && words.contains("the time is over"), "{code} {words}");
    hold.release();
    let output = tokio::task::spawn_blocking(|| waiting.wait_with_output().unwrap()).await.unwrap();
    let record = bench.record("a.txt").await;
    assert_eq!(record.finish, FinishState::Done, "the move is a part of it");
    let expected = format!("{}\t{}\n", record.file_id.unwrap().0, path.display());
    assert_eq!(said(&output), (0, expected.clone(), String::new()));
    // A job by its number, several in the order asked, and JSON.
    bench.drop_file("b.txt", b"");
    let other = bench.path("drop/b.txt");
    let (code, lines, _) = ask(&bench, &["wait", other.to_str().unwrap(), "1"]);
    assert_eq!((code, lines), (1, format!("failed file-empty\t{}\n{expected}", other.display())));
    let (code, json, _) = ask(&bench, &["wait", "1", "--json"]);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((code, &json["id"], &json["state"]), (0, &1.into(), &"stored".into()));
    // What no folder takes is told of at once.
    std::fs::write(bench.path("drop/x.part"), "x").unwrap();
    let (code, lines, words) = ask(&bench, &["wait", bench.path("drop/x.part").to_str().unwrap()]);
    assert!(code == 1 && lines.is_empty() && words.contains("temporary name"), "{code} {lines} {words}");
    let (code, _, words) = ask(&bench, &["wait", "/nowhere/x", "--timeout", "50s"]);
    assert!(code == 1 && words.contains("no folder covers it"), "{code} {words}");
    service.stop().await;
    let (code, _, words) =
        ask(&bench, &["wait", bench.drop_file("c.txt", b"c").to_str().unwrap(), "--timeout", "100ms"]);
    assert!(code == 75, "{code} {words}");
}

#[tokio::test]
async fn wait_without_arguments_is_for_all_that_is_there() {
    let mut bench = Bench::new().await;
    // No event tells of files here, and no scan comes by itself.
    bench.folder = "watch = \"poll\"\npoll_interval = \"1h\"\nsettle = \"50ms\"\n".into();
    let service = bench.start();
    service.wait_event("ready").await;
    let (code, _, words) = ask(&bench, &["wait", "--timeout", "50s"]);
    assert_eq!(code, 0, "{words}");
    for number in 0..20 {
        bench.drop_file(format!("{number}.txt"), &noise(50, number));
    }
    let (code, lines, words) = ask(&bench, &["wait", "--timeout", "50s"]);
    assert_eq!((code, lines.as_str()), (0, ""), "{words}");
    assert_eq!(bench.emulator.files().len(), 20, "they were found by the scan that was asked for");
    bench.drop_file("empty.txt", b"");
    let (code, _, words) = ask(&bench, &["wait", "--timeout", "50s"]);
    assert_eq!(code, 1, "one failed: {words}");
    assert_eq!(ask(&bench, &["wait", "--timeout", "50s"]).0, 0, "but not since");
    // What is paused does not end.
    assert_eq!(ask(&bench, &["pause"]).0, 0);
    bench.drop_file("late.txt", b"late");
    let (code, _, words) = ask(&bench, &["wait", "--timeout", "1s"]);
    assert!(code == 75 && words.contains("the time is over"), "{code} {words}");
    service.stop().await;
    let (code, _, words) = ask(&bench, &["wait", "--timeout", "1s"]);
    assert!(code == 75 && words.contains("no service runs"), "{code} {words}");
}

#[tokio::test]
async fn the_ledger_goes_out_as_csv_and_as_json_and_an_export_goes_on_where_one_ended() {
    let bench = Bench::new().await;
    bench.drop_file("=1+1, \"quoted\".txt", b"formula");
    bench.drop_file(name(b"not \xff utf-8.txt"), b"bytes");
    bench.drop_file("empty.txt", b"");
    bench.once(&[]).await;
    let (code, csv, words) = ask(&bench, &["export"]);
    assert_eq!(code, 0, "{words}");
    // Somebody else's reader.
    let script = "import csv, json, sys; print(json.dumps(list(csv.DictReader(sys.stdin))))";
    let mut python = std::process::Command::new("python3")
        .args(["-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut python.stdin.take().unwrap(), csv.as_bytes()).unwrap();
    let rows: Vec<Value> = serde_json::from_slice(&python.wait_with_output().unwrap().stdout).unwrap();
    let (_, jsonl, _) = ask(&bench, &["export", "--format", "jsonl"]);
    let objects: Vec<Value> = jsonl.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((rows.len(), objects.len()), (3, 3));
    for (row, object) in rows.iter().zip(&objects) {
        assert_eq!(row["id"].as_str().unwrap(), object["id"].to_string());
        assert_eq!(row["state"], object["state"]);
        assert_eq!(row["file_id"].as_str().unwrap(), object["file_id"].as_str().unwrap_or_default());
        assert_eq!(row["finish_state"], object["finish"]["state"]);
        assert_eq!(row["error_code"].as_str().unwrap(), object["error"]["code"].as_str().unwrap_or_default());
    }
    let formula = rows.iter().find(|row| row["filename"].as_str().unwrap().contains("quoted")).unwrap();
    assert_eq!(formula["filename"], "'=1+1, \"quoted\".txt", "no spreadsheet calculates it");
    assert!(objects.iter().any(|object| object["path_base64"].is_string()));
    let ids: Vec<i64> = objects.iter().map(|object| object["id"].as_i64().unwrap()).collect();
    assert!(ids.is_sorted(), "oldest first");
    let (_, rest, _) = ask(&bench, &["export", "--after", &ids[1].to_string()]);
    assert_eq!(rest.lines().count(), 1, "without the line of names: {rest}");
    assert_eq!(ask(&bench, &["export", "--since", "2100-01-01", "--format", "jsonl"]).1, "");
}

#[tokio::test]
async fn what_ended_long_ago_and_lies_there_no_more_is_forgotten_and_nothing_else() {
    let mut bench = Bench::new().await;
    bench.folder = "after_upload = { move = \"done\" }\n".into();
    bench.drop_file("moved.txt", b"moved");
    bench.once(&[]).await;
    // What is no target any more is a directory of the folder like any other.
    bench.folder = "exclude = [\"/done/\"]\n".into();
    bench.drop_file("stays.txt", b"stays");
    bench.once(&[]).await;
    let (code, said, _) = ask(&bench, &["prune", "--older-than", "1h", "--dry-run"]);
    assert!(code == 0 && said.starts_with("0 jobs would be forgotten"), "{said}");
    let (_, said, _) = ask(&bench, &["prune", "--older-than", "0s", "--dry-run"]);
    assert!(said.starts_with("1 job would be forgotten"), "{said}");
    let (code, said, _) = ask(&bench, &["prune", "--older-than", "0s"]);
    assert!(code == 0 && said.contains("taken up when the service starts"), "{said}");
    let service = bench.start();
    service.wait_event("ready").await;
    let (code, said, _) = ask(&bench, &["prune", "--older-than", "0s"]);
    assert!(code == 0 && said.contains("forgotten"), "{said}");
    service.stop().await;
    let records = bench.records().await;
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].relative_path.to_str(), Some("stays.txt"));
    assert_eq!(bench.once(&[]).await.1, "", "what lies there is known still");
}

#[tokio::test]
async fn a_backup_is_a_database_of_its_own_and_can_take_the_place_of_the_store() {
    let bench = Bench::new().await;
    bench.drop_file("a.txt", b"a");
    let service = bench.start();
    service.wait_stored(1).await;
    let copy = bench.path("copy.db");
    let (code, said, words) = ask(&bench, &["backup", copy.to_str().unwrap()]);
    assert!(code == 0 && said.contains("copied to"), "{said} {words}");
    assert_eq!(std::fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o640);
    let (code, _, words) = ask(&bench, &["backup", copy.to_str().unwrap()]);
    assert!(code == 1 && words.contains("lies there already; name another file"), "{words}");
    service.stop().await;
    let sql = "PRAGMA integrity_check; SELECT stage FROM jobs;";
    let output = std::process::Command::new("sqlite3").arg(&copy).arg(sql).output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "ok\nstored\n");
    // In the place of the store it is an older one, and taken only by a person's word.
    bench.drop_file("b.txt", b"b");
    bench.once(&[]).await;
    std::fs::copy(&copy, bench.state_dir().join("upspool.db")).unwrap();
    let (code, _, _) = bench.once(&[]).await;
    assert_eq!(code, 78);
    let (code, said, words) = ask(&bench, &["rebuild"]);
    assert_eq!(code, 0, "{said} {words}");
    assert_eq!(bench.record("a.txt").await.state, State::Stored);
}

#[tokio::test]
async fn a_stored_file_is_sent_again_by_force_as_a_new_job() {
    let bench = Bench::new().await;
    let path = bench.drop_file("a.txt", b"a");
    let service = bench.start();
    service.wait_stored(1).await;
    let (code, said, _) = ask(&bench, &["retry", "1"]);
    assert!(code == 1 && said.contains("only failed, cancelled and skipped"), "{said}");
    let (code, said, _) = ask(&bench, &["retry", "--force", path.to_str().unwrap()]);
    assert!(code == 0 && said.contains("job 1 is sent again as job "), "{said}");
    service.wait_stored(2).await;
    let (code, said, _) = ask(&bench, &["retry", "--force", "1"]);
    assert!(code == 1 && said.contains("what lies at its path now is another version"), "{said}");
    bench.emulator.fault(Calls::of(Operation::Create).meet(Reply::status(400)));
    bench.drop_file("b.txt", b"b");
    service.wait_event("failed").await;
    let (code, said, _) = ask(&bench, &["retry", "--force", bench.path("drop/b.txt").to_str().unwrap()]);
    assert!(code == 1 && said.contains("only what is stored is sent again by force"), "{said}");
    service.stop().await;
    let records = bench.records().await;
    assert_eq!(records.iter().filter(|record| record.state == State::Stored).count(), 2);
    assert_eq!(bench.emulator.files().len(), 2);
    assert_eq!(records.iter().filter(|record| record.present).count(), 2, "one for each path");
}

#[tokio::test]
async fn a_shared_file_has_its_end_like_any_other() {
    let mut bench = Bench::new().await;
    bench.folder = "dedupe = true\nafter_upload = { move = \"done\" }\nreceipt = true\n".into();
    bench.drop_file("one/a.txt", b"the same");
    assert_eq!(bench.once(&[]).await.0, 0);
    bench.drop_file("two/a.txt", b"the same");
    let (code, printed, log) = bench.once(&[]).await;
    assert_eq!(code, 0, "{printed} {log:#?}");
    assert_eq!(bench.emulator.files().len(), 1);
    let record = bench.record("two/a.txt").await;
    assert!(record.deduped_from.is_some());
    assert_eq!(
        (record.finish, record.moved_to),
        (FinishState::Done, Some(bench.path("drop/done/two/a.txt")))
    );
    assert!(bench.path("drop/two/a.txt.upspool.json").exists());
}

#[tokio::test]
async fn what_is_followed_in_a_pipe_is_a_line_for_each_change() {
    let bench = Bench::new().await;
    let service = bench.start();
    service.wait_event("ready").await;
    let mut command = bench.command(&["status", "--follow"]);
    let mut following = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(following.stdout.take().unwrap()).lines().map(Result::unwrap);
    let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
    std::thread::spawn(move || lines.try_for_each(|line| told.send(line)));
    let mut wait_for = async |words: &str| {
        let line = async {
            loop {
                let line = heard.recv().await.unwrap();
                if line.contains(words) {
                    return;
                }
            }
        };
        tokio::time::timeout(PATIENCE, line).await.unwrap_or_else(|_| panic!("no line with {words:?}"));
    };
    wait_for("the service runs").await;
    wait_for("folder drop: events").await;
    bench.drop_file("a.txt", b"a");
    wait_for("folder drop: 1 stored").await;
    assert!(bench.command(&["pause"]).status().unwrap().success());
    wait_for("folder drop: 1 stored, paused").await;
    service.stop().await;
    wait_for("no service runs").await;
    following.kill().unwrap();
    following.wait().unwrap();
}

#[tokio::test]
async fn what_happened_to_jobs_that_ended_long_ago_is_forgotten_and_their_rows_stay() {
    let bench = Bench::new().await;
    let path = bench.drop_file("gone.txt", b"gone");
    bench.drop_file("stays.txt", b"stays");
    bench.once(&[]).await;
    let store = bench.state_dir().join("upspool.db");
    let sqlite = |sql: &str| {
        let output = std::process::Command::new("sqlite3").arg(&store).arg(sql).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    std::fs::remove_file(path).unwrap();
    sqlite("UPDATE jobs SET ended_at = 1, present = CAST(path AS TEXT) = 'stays.txt'");
    assert_ne!(sqlite("SELECT count(*) FROM history"), "0");
    let service = bench.start();
    service.wait_event("history-forgotten").await;
    service.stop().await;
    assert_eq!(sqlite("SELECT count(*) FROM history"), "0");
    assert_eq!(sqlite("SELECT count(*) FROM jobs WHERE stage = 'stored'"), "2");
    assert_eq!(
        sqlite("SELECT count(*) FROM parts"),
        "1",
        "what tells a touched file from a changed one stays"
    );
    assert_eq!(bench.once(&[]).await.1, "");
}

#[tokio::test]
async fn shells_and_man_understand_what_is_made_for_them() {
    let bench = Bench::new().await;
    let (code, script, _) = said(&bench.plain_command(&["completions", "bash"]).output().unwrap());
    assert_eq!(code, 0);
    std::fs::write(bench.path("upspool.bash"), &script).unwrap();
    let checked =
        std::process::Command::new("bash").arg("-n").arg(bench.path("upspool.bash")).status().unwrap();
    assert!(checked.success());
    let completed = format!(
        "source {:?}; COMP_WORDS=(upspool res); COMP_CWORD=1; _upspool upspool res upspool; echo ${{COMPREPLY[@]}}",
        bench.path("upspool.bash")
    );
    let output = std::process::Command::new("bash").args(["-c", &completed]).output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap().trim(), "resolve resume");
    let pages = bench.path("man");
    std::fs::create_dir(&pages).unwrap();
    assert!(bench.plain_command(&["man", "--dir", pages.to_str().unwrap()]).status().unwrap().success());
    let count = |section: &str| std::fs::read_dir(pages.join(section)).unwrap().count();
    assert!(count("man1") > 15 && count("man5") == 1, "{} {}", count("man1"), count("man5"));
}
