//! Names that somebody chose to do harm, or that are merely unusual, on each way out: commands, logs, records, CSV, receipts,
//! programs, the page. Each is told of exactly where a program reads, and is one line of text where a person does.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde_json::Value;
use upspool::model::job::JobId;
use upspool::model::time::Wall;
use upspool::store::{FinishState, NewRequest, Store};
use upspool::text::{base64, shown};

use crate::harness::{Bench, name, sha256};
use crate::status_page::{address, get};

/// The longest name that file systems take, in bytes.
const LONGEST: usize = 255;

fn hostile() -> Vec<Vec<u8>> {
    let texts = [
        // Formulas for a spreadsheet, and what begins as they do once a mark stands before it.
        "=1+1.txt",
        "=cmd|' C calc'!A0",
        "+1.txt",
        "-rf",
        "--help",
        "@sum(1)",
        "\ttab.txt",
        "\rreturn.txt",
        "'=quoted.txt",
        "＝1+1",
        // For a terminal, and for a log of lines.
        "line\nbreak.txt",
        "forged\n{\"event\":\"stored\"}\n2026-11-22 upspool: all is well.txt",
        "\u{1b}[31mred.txt",
        "\u{1b}]0;title\u{7}.txt",
        "\u{9b}31mred.txt",
        "back\u{8}\u{8}\u{8}\u{8}space.txt",
        "\u{202e}gpj.exe",
        "\u{61c}arabic.txt",
        "line\u{2028}separator.txt",
        "nothing\u{200b}to\u{feff}see.txt",
        // For a shell, a page, a CSV, a JSON.
        "$(id) `id` ; rm -rf *",
        "<img src=x onerror=alert(1)>.html",
        "a,b;\"c\".csv",
        "back\\slash\\x0a.txt",
        "%0a%s%n.txt",
        // Merely unusual.
        " blanks ",
        "報告書.pdf",
        "e\u{301}.txt",
        "\u{301}first.txt",
        "🚀🧑\u{200d}🚀.bin",
        "กำลัง.txt",
    ];
    let mut names: Vec<Vec<u8>> = texts.iter().map(|text| text.as_bytes().to_vec()).collect();
    names.extend([b"caf\xe9.txt".to_vec(), b"\xff\xfe\x80".to_vec(), b"=\xff.csv".to_vec()]);
    names
}

/// A file, the folder in which it lies, and what is in it.
struct Dropped {
    path: PathBuf,
    content: Vec<u8>,
}

/// Text for people: lines that end as lines do, and nothing else that a terminal would act on.
#[track_caller]
fn is_plain(what: &str, text: &str) {
    let bad = |one: char| {
        (one.is_control() && one != '\n' && one != '\t')
            || matches!(one, '\u{61c}' | '\u{200b}' | '\u{2028}' | '\u{202e}' | '\u{feff}')
    };
    assert!(!text.contains(bad), "{what}: {text:?}");
}

/// The path that a record tells of.
fn path_of(record: &Value) -> PathBuf {
    match record["path_base64"].as_str() {
        None => record["path"].as_str().unwrap().into(),
        Some(_) => PathBuf::new(),
    }
}

#[track_caller]
fn tells(record: &Value, path: &Path) {
    match path.to_str() {
        Some(text) => {
            assert_eq!((record["path"].as_str(), &record["path_base64"]), (Some(text), &Value::Null))
        }
        None => assert_eq!(record["path_base64"], base64(path.as_os_str().as_bytes())),
    }
}

/// Takes one mark from what begins with one, as the manual says.
fn read_back(text: &str) -> &str {
    text.strip_prefix('\'').unwrap_or(text)
}

fn command(bench: &Bench, arguments: &[&OsStr]) -> String {
    let output = bench.command(&[]).args(arguments).output().unwrap();
    assert!(output.stderr.is_empty(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn hostile_names_are_exact_for_programs_and_one_plain_line_for_people() {
    let mut bench = Bench::new().await;
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(bench.path("key"), private).unwrap();
    let hook = bench.path("hook");
    std::fs::write(&hook, "#!/bin/sh\nenv -0 > \"$1/env-$UPSPOOL_JOB\"\ncat > \"$1/input-$UPSPOOL_JOB\"\n")
        .unwrap();
    std::fs::set_permissions(&hook, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    bench.tables = "[status]\nlisten = \"127.0.0.1:0\"\n".into();
    let told = format!("on_stored = [{hook:?}, {:?}]\n", bench.dir.path());
    bench.folder = format!("receipt = true\n{told}");
    // A name that is as long as can be has no room for that of a receipt.
    std::fs::create_dir(bench.path("long")).unwrap();
    bench.folders = format!(
        "[[folder]]\npath = {:?}\npurpose = \"user_data\"\nsettle = \"100ms\"\n{told}",
        bench.path("long")
    );
    let service = bench.start();
    service.wait_event("ready").await;
    let mut dropped: Vec<Dropped> = Vec::new();
    for (index, file) in hostile().into_iter().enumerate() {
        let content = format!("content {index}").into_bytes();
        dropped.push(Dropped { path: bench.drop_file(name(&file), &content), content });
    }
    for (index, file) in ["x".repeat(LONGEST), "報".repeat(LONGEST / 3)].into_iter().enumerate() {
        let (path, content) = (bench.path("long").join(file), format!("long {index}").into_bytes());
        std::fs::write(&path, &content).unwrap();
        dropped.push(Dropped { path, content });
    }
    let count = dropped.len();
    service.wait_stored(count).await;
    for job in 1..=i64::try_from(count).unwrap() {
        bench.record_when_of(job, |record| record.finish == FinishState::Done).await;
    }
    let address = address(&service).await;
    let page: Value = serde_json::from_str(&get(&address, "/api/jobs?limit=500").await.body).unwrap();
    let metrics = get(&address, "/metrics").await.body;
    let status = command(&bench, &["status".as_ref()]);
    is_plain("status", &status);

    // Where programs read: exactly.
    let json = command(&bench, &["list", "--json", "--limit", "500"].map(OsStr::new));
    let records: Vec<Value> = json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(records.len(), count, "a name is no line of its own");
    assert!(page["jobs"] == Value::from(records.clone()), "the page reads the same");
    let files = bench.emulator.files();
    let (log, raw) = (service.log(), service.raw_log());
    service.stop().await;
    assert_eq!(raw.lines().count(), raw.lines().filter(|line| line.starts_with('{')).count());
    is_plain("the log as JSON", &raw);
    let csv = command(&bench, &["export".as_ref()]);
    let mut reader = csv::Reader::from_reader(csv.as_bytes());
    let rows: Vec<BTreeMap<String, String>> = reader.deserialize().map(Result::unwrap).collect();
    assert_eq!(rows.len(), count);
    for cell in rows.iter().flat_map(BTreeMap::values) {
        assert!(
            !cell.starts_with(['=', '+', '-', '@', '\t', '\r', '\n', '＝']),
            "a spreadsheet calculates {cell:?}"
        );
    }
    for Dropped { path, content } in &dropped {
        let is_it = |record: &&Value| {
            path_of(record) == *path || record["path_base64"] == base64(path.as_os_str().as_bytes())
        };
        let record = records.iter().find(is_it).unwrap_or_else(|| panic!("no record of {path:?}"));
        tells(record, path);
        let id = record["id"].to_string();
        let row = rows.iter().find(|row| row["id"] == id).unwrap();
        if let Some(text) = path.to_str() {
            let below = text.rsplit_once('/').unwrap().1;
            assert_eq!((read_back(&row["path"]), read_back(&row["relative_path"])), (text, below));
        } else {
            assert_eq!(row["path_base64"], base64(path.as_os_str().as_bytes()));
        }
        let file = files.iter().find(|file| Some(file.id.as_str()) == record["file_id"].as_str()).unwrap();
        assert_eq!(file.sha256.as_deref(), Some(sha256(content).as_str()), "{path:?}");
        assert_eq!(Some(file.filename.as_str()), record["filename"].as_str());
        assert!(!file.filename.contains(char::is_control), "{:?}", file.filename);

        // The program gets the kernel's bytes, and the record.
        let variables = std::fs::read(bench.path(&format!("env-{id}"))).unwrap();
        let mut expected = b"UPSPOOL_PATH=".to_vec();
        expected.extend(path.as_os_str().as_bytes());
        assert!(variables.split(|byte| *byte == 0).any(|one| one == expected), "{path:?}");
        let input = std::fs::read_to_string(bench.path(&format!("input-{id}"))).unwrap();
        assert_eq!(input.matches('\n').count(), 1);
        tells(&serde_json::from_str(&input).unwrap(), path);
        if path.parent() == Some(&bench.path("drop")) {
            let mut receipt = path.clone().into_os_string();
            receipt.push(".upspool.json");
            tells(&serde_json::from_slice(&std::fs::read(receipt).unwrap()).unwrap(), path);
        }

        // Where people read: one plain line.
        let line = shown(path);
        is_plain("a path", &line);
        let of_job = log.iter().filter(|line| {
            line["job"].as_u64().map(|job| job.to_string()).as_ref() == Some(&id) && line["path"].is_string()
        });
        let paths: Vec<&str> = of_job.map(|line| line["path"].as_str().unwrap()).collect();
        assert!(!paths.is_empty() && paths.iter().all(|path| *path == line), "{paths:?}");
        for arguments in [["show".as_ref(), OsStr::new(&id)], ["why".as_ref(), path.as_os_str()]] {
            let text = command(&bench, &arguments);
            is_plain("show and why", &text);
            assert!(text.lines().any(|one| one.ends_with(&line)), "{line}: {text}");
        }
        assert!(!metrics.contains(path.file_name().unwrap().to_string_lossy().as_ref()), "{path:?}");
    }
    let listed = command(&bench, &["list", "--limit", "500"].map(OsStr::new));
    is_plain("list", &listed);
    assert_eq!(listed.lines().count(), count + 1);
    is_plain("check", &command(&bench, &["check".as_ref()]));
}

#[tokio::test]
async fn no_name_forges_a_line_of_what_a_service_says() {
    let mut bench = Bench::new().await;
    bench.env.insert("UPSPOOL__LOG__FORMAT".into(), "text".into());
    for (index, file) in hostile().into_iter().enumerate() {
        bench.drop_file(name(&file), format!("content {index}").as_bytes());
    }
    let output = bench.command(&["run", "--once", "--timeout", "60s"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let (printed, log) =
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    is_plain("what run --once prints", &printed);
    assert_eq!(printed.lines().count(), hostile().len());
    is_plain("the log as text", &log);
    let is_line = |line: &str| line.starts_with("20") && line.contains("Z ") && line.contains("event=");
    for line in log.lines() {
        assert!(is_line(line), "{line:?}");
    }
    assert!(log.lines().filter(|line| line.contains("event=\"stored\"")).count() == hostile().len(), "{log}");
}

#[tokio::test]
async fn what_a_request_calls_itself_is_one_plain_line_for_people() {
    let bench = Bench::new().await;
    assert_eq!(bench.once(&[]).await.0, 0, "there is a store to ask");
    command(&bench, &["pause".as_ref()]);
    let path = bench.drop_file("a.txt", b"a");
    assert_eq!(bench.once(&[]).await.0, 75);
    // As the service would write it down of a file that a member of its group left.
    let asked = NewRequest {
        kind: "\u{1b}]0;owned\u{7}\u{202e}\rretry".into(),
        job: Some(JobId(1)),
        folder: None,
        argument: None,
    };
    let store = Store::open_for_asking(&bench.state_dir()).await.unwrap();
    store.insert_request(&asked, Wall(0)).await.unwrap();
    store.close().await;
    for arguments in [&["list".as_ref()][..], &["show".as_ref(), "1".as_ref()]] {
        let said = command(&bench, arguments);
        assert!(said.contains("\\x1b]0;owned"), "{said}");
        is_plain("a command", &said);
    }
    is_plain("why", &command(&bench, &["why".as_ref(), path.as_ref()]));
}
