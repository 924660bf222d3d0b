//! `docs/JSON.md` is true: every record that the real program gives out has the fields that stand there, no others, and
//! of those types; and each record looks as it does in `json/`, its times and ids aside.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use upspool::model::job::{Code, State};
use upspool_emulator::{Calls, Operation, Point, Reply};

use crate::harness::{Bench, name, noise};
use crate::status_page::{address, get};

const MANUAL: &str = include_str!("../../docs/JSON.md");

/// Of these nothing but null or an empty list is met here. `stuck`: see `stuck.rs`, which asks [`Contract`] as well.
const NOT_MET: [&str; 12] = [
    "account.organization",
    "account.project",
    "finish.error",
    "finish.step",
    "folder.paused_why",
    "folder-check.paused_why",
    "job.project",
    "job.requested",
    "live.stuck",
    "show.candidates",
    "slots.bound",
    "upload-settings.bandwidth_limit",
];

/// What the manual says.
pub struct Contract {
    records: BTreeMap<String, BTreeMap<String, Field>>,
}

struct Field {
    kind: String,
    /// What stands beside it between backticks.
    words: BTreeSet<String>,
}

/// Fields that were met, and those that were more than null.
#[derive(Default)]
pub struct Met {
    fields: BTreeSet<String>,
    full: BTreeSet<String>,
}

impl Contract {
    pub fn read() -> Contract {
        let (_, records) = MANUAL.split_once("## Records\n").unwrap();
        let (records, _) = records.split_once("\n## ").unwrap();
        let mut contract = Contract { records: BTreeMap::new() };
        for section in records.split("\n### `").skip(1) {
            let (name, text) = section.split_once('`').unwrap();
            let rows = text.lines().filter_map(|line| line.strip_prefix("| `")?.strip_suffix(" |"));
            let mut fields: BTreeMap<String, Field> = rows
                .map(|row| {
                    let cells: Vec<&str> = row.splitn(3, " | ").collect();
                    let words = cells[2].split('`').skip(1).step_by(2).map(str::to_owned).collect();
                    let kind = cells[1].replace('`', "");
                    (cells[0].trim_end_matches('`').to_owned(), Field { kind, words })
                })
                .collect();
            if let Some((_, rest)) = text.split_once("All fields of `") {
                let base = contract.records[rest.split_once('`').unwrap().0].iter();
                let copy = |field: &Field| Field { kind: field.kind.clone(), words: field.words.clone() };
                fields.extend(base.map(|(name, field)| (name.clone(), copy(field))));
            }
            assert!(!fields.is_empty(), "{name} has no fields");
            assert!(contract.records.insert(name.to_owned(), fields).is_none(), "{name} is there twice");
        }
        contract
    }

    /// Whether a value is such a record.
    #[track_caller]
    pub fn check(&self, record: &str, value: &Value, met: &mut Met) {
        let fields = self.records.get(record).unwrap_or_else(|| panic!("the manual has no {record}"));
        let object = value.as_object().unwrap_or_else(|| panic!("{record} is no object: {value}"));
        let given: BTreeSet<&String> = object.keys().collect();
        let documented: BTreeSet<&String> = fields.keys().collect();
        assert_eq!(given, documented, "the fields of {record}");
        for (name, field) in fields {
            let place = format!("{record}.{name}");
            if !is_empty(&object[name]) {
                met.full.insert(place.clone());
            }
            met.fields.insert(place.clone());
            self.check_value(&place, &field.kind, &field.words, &object[name], met);
        }
    }

    #[track_caller]
    fn check_value(&self, place: &str, kind: &str, words: &BTreeSet<String>, value: &Value, met: &mut Met) {
        if let Some(kind) = kind.strip_suffix(" or null") {
            if !value.is_null() {
                self.check_value(place, kind, words, value, met);
            }
            return;
        }
        if let Some(kind) = kind.strip_prefix("list of ") {
            let list = value.as_array().unwrap_or_else(|| panic!("{place} is no list: {value}"));
            list.iter().for_each(|value| self.check_value(place, kind, words, value, met));
            return;
        }
        if let Some(kind) = kind.strip_prefix("map of ") {
            let map = value.as_object().unwrap_or_else(|| panic!("{place} is no map: {value}"));
            let keys: BTreeSet<&str> = map.keys().map(String::as_str).collect();
            assert_eq!(keys, State::ALL.map(State::as_str).into_iter().collect(), "{place}");
            map.values().for_each(|value| self.check_value(place, kind, words, value, met));
            return;
        }
        let text = value.as_str();
        let is_right = match kind {
            "integer" => value.is_i64() || value.is_u64(),
            "boolean" => value.is_boolean(),
            "string" => text.is_some(),
            "name" => {
                text.is_some_and(|text| !text.contains(|one: char| one.is_control() || one == '\u{202e}'))
            }
            "time" => text.is_some_and(|text| text.len() == TIME.len() && time_at(text.as_bytes()).is_some()),
            "state" => text.is_some_and(|text| State::from_name(text).is_some()),
            "code" => text.is_some_and(|text| text.parse::<Code>().is_ok()),
            "word" => text.is_some_and(|text| words.contains(text)),
            record => return self.check(record, value, met),
        };
        assert!(is_right, "{place} is no {kind}: {value}");
    }
}

fn is_empty(value: &Value) -> bool {
    value.is_null() || value.as_array().is_some_and(Vec::is_empty)
}

const TIME: &str = "2026-11-22T17:00:00.000Z";

/// How long the time is that these bytes begin with.
fn time_at(bytes: &[u8]) -> Option<usize> {
    let fits = |(shape, byte): (u8, &u8)| {
        if shape.is_ascii_digit() { byte.is_ascii_digit() } else { shape == *byte }
    };
    (bytes.len() >= TIME.len() && TIME.bytes().zip(bytes).all(fits)).then_some(TIME.len())
}

/// Takes out of records what is another in each run.
struct Plain {
    /// What is replaced, by what.
    places: Vec<(String, &'static str)>,
    /// Names that the server gave, in the order in which they were met.
    names: Vec<String>,
}

impl Plain {
    fn of(bench: &Bench) -> Plain {
        let server = bench.emulator.base_url();
        Plain {
            places: vec![
                (server.trim_end_matches("/v1").to_owned(), "http://SERVER"),
                (bench.dir.path().to_str().unwrap().to_owned(), "/DIR"),
            ],
            names: Vec::new(),
        }
    }

    fn value(&mut self, key: &str, value: &mut Value) {
        // What depends on the machine, or on how fast it is.
        const ANY: [&str; 15] = [
            "bytes_per_second",
            "bytes_sent",
            "ctime_ns",
            "duration_ms",
            "expires_in",
            "file_system",
            "inode",
            "moved_to_base64",
            "mtime_ns",
            "path_base64",
            "pid",
            "probes",
            "seconds",
            "version",
            "watched_why",
        ];
        match value {
            Value::Null | Value::Bool(_) => {}
            _ if ANY.contains(&key) => *value = Value::from("…"),
            Value::Number(_) => {}
            Value::String(text) => *text = self.text(text),
            Value::Array(values) => values.iter_mut().for_each(|value| self.value(key, value)),
            Value::Object(fields) => fields.iter_mut().for_each(|(key, value)| self.value(key, value)),
        }
    }

    fn text(&mut self, text: &str) -> String {
        let mut text = text.to_owned();
        for (from, to) in &self.places {
            text = text.replace(from, to);
        }
        let (mut plain, mut rest) = (String::new(), text.as_str());
        while let Some(character) = rest.chars().next() {
            let name = ["file-", "upload_", "part_", "req_"].into_iter().find_map(|prefix| {
                let digits = rest.strip_prefix(prefix)?;
                let length = digits.bytes().take_while(u8::is_ascii_alphanumeric).count();
                (length >= 6).then_some((prefix, prefix.len() + length))
            });
            if let Some((prefix, length)) = name {
                let name = &rest[..length];
                let known = self.names.iter().position(|known| known == name);
                let place = known.unwrap_or_else(|| {
                    self.names.push(name.to_owned());
                    self.names.len() - 1
                });
                let of_kind = self.names[..=place].iter().filter(|name| name.starts_with(prefix)).count();
                write!(plain, "{prefix}{of_kind}").unwrap();
                rest = &rest[length..];
            } else if let Some(length) = time_at(rest.as_bytes()) {
                plain.push_str("TIME");
                rest = &rest[length..];
            } else {
                plain.push(character);
                rest = &rest[character.len_utf8()..];
            }
        }
        plain
    }
}

/// Compares with what is committed; `UPSPOOL_SNAPSHOTS=write` writes it anew.
#[track_caller]
fn compare(name: &str, plain: &mut Plain, value: &Value) {
    let mut value = value.clone();
    plain.value("", &mut value);
    if let Some(history) = value.get_mut("history").and_then(Value::as_array_mut) {
        // The MD5 is made beside the sending, and is ready when it is.
        history.sort_by_key(|event| event["event"] != "hashed");
    }
    let text = serde_json::to_string_pretty(&value).unwrap() + "\n";
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "tests/service/json", name].iter().collect();
    if std::env::var_os("UPSPOOL_SNAPSHOTS").is_some_and(|wish| wish == "write") {
        std::fs::write(path, text).unwrap();
        return;
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = committed.lines().zip(text.lines()).enumerate().find(|(_, (one, other))| one != other);
    assert!(
        committed == text,
        "{name} is another than in tests/service/json, first {differs:?}; if that is right: UPSPOOL_SNAPSHOTS=write\n{text}"
    );
}

/// The objects that a command prints, with its exit code.
fn ask(bench: &Bench, arguments: &[&str]) -> (i32, Vec<Value>) {
    let output = bench.command(arguments).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let lines =
        text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}")));
    (output.status.code().unwrap(), lines.collect())
}

#[track_caller]
fn one(bench: &Bench, arguments: &[&str], code: i32) -> Value {
    let (ended, mut values) = ask(bench, arguments);
    assert_eq!((ended, values.len()), (code, 1), "{arguments:?}: {values:?}");
    values.remove(0)
}

fn file(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// What has ended, in each way that a file can.
async fn ended(contract: &Contract, met: &mut Met) {
    let mut bench = Bench::new().await;
    let hook = bench.path("hook");
    std::fs::write(&hook, "#!/bin/sh\ncat > \"$1/$UPSPOOL_JOB\"\n").unwrap();
    std::fs::set_permissions(&hook, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    bench.tables = "[upload]\nparallel_parts = 1\npart_size = \"1 MiB\"\n".into();
    bench.folder = format!(
        "receipt = true\nafter_upload = {{ move = \"done\" }}\ndedupe = true\nexpires_after = \"30d\"\n\
         exclude = [\"*.bak\"]\non_stored = [{hook:?}, {:?}]\non_failed = [{hook:?}, {0:?}]\n",
        bench.dir.path()
    );
    bench.emulator.fault(Calls::of(Operation::Create).nth(3).meet(Reply::status(400)));
    let files: [(&[u8], Vec<u8>); 6] = [
        (b"lines.jsonl", b"{\"custom_id\": 1}\nno JSON\n".to_vec()),
        (b"large.bin", noise((5 << 20) / 2, 1)),
        (b"again/large.bin", noise((5 << 20) / 2, 1)),
        (b"rejected.bin", noise(1000, 2)),
        (b"empty.txt", Vec::new()),
        (b"caf\xe9.txt", b"coffee".to_vec()),
    ];
    let service = bench.start();
    service.wait_event("ready").await;
    for (job, (file, content)) in (1..).zip(&files) {
        bench.drop_file(name(file), content);
        service
            .wait_for("that its program was told", move |line| line["event"] == "hook" && line["job"] == job)
            .await;
        bench.record_when_of(job, |record| record.finish == upspool::store::FinishState::Done).await;
    }
    let mut plain = Plain::of(&bench);
    let running = one(&bench, &["status", "--json"], 0);
    contract.check("status", &running, met);
    service.stop().await;

    let (code, jobs) = ask(&bench, &["list", "--json"]);
    assert_eq!((code, jobs.len()), (0, 6));
    jobs.iter().for_each(|job| contract.check("job", job, met));
    let (_, mut exported) = ask(&bench, &["export", "--format", "jsonl"]);
    compare("jobs.json", &mut plain, &Value::from(exported.clone()));
    exported.reverse();
    assert_eq!(exported, jobs, "the same records, oldest first");
    assert_eq!(ask(&bench, &["wait", "2", "--json"]), (0, vec![jobs[4].clone()]), "and the same");

    for (name, job) in [("show-stored.json", "2"), ("show-failed.json", "4")] {
        let shown = one(&bench, &["show", job, "--json"], 0);
        contract.check("show", &shown, met);
        compare(name, &mut plain, &shown);
    }
    // Digested by the other algorithm.
    let sharing = bench.folder.replace("dedupe = true\n", "");
    let sharing = std::mem::replace(&mut bench.folder, sharing);
    bench.drop_file("empty.txt", b"not any more");
    bench.once(&[]).await;
    bench.folder = sharing;
    let shown = one(&bench, &["show", bench.path("drop/empty.txt").to_str().unwrap(), "--json"], 0);
    contract.check("show", &shown, met);
    assert_eq!(shown["other_jobs"], serde_json::json!([5]));

    let receipt = file(&bench.path("drop/large.bin.upspool.json"));
    contract.check("job", &receipt, met);
    compare("receipt.json", &mut plain, &receipt);
    let told = file(&bench.path("2"));
    contract.check("job", &told, met);
    compare("hook.json", &mut plain, &told);
    contract.check("job", &file(&bench.path("4")), met);

    for (name, path, code) in [("why-stored.json", "lines.jsonl", 0), ("why-failed.json", "rejected.bin", 1)]
    {
        let why = one(&bench, &["why", bench.path("drop").join(path).to_str().unwrap(), "--json"], code);
        contract.check("why", &why, met);
        compare(name, &mut plain, &why);
    }
    let status = one(&bench, &["status", "--json"], 3);
    contract.check("status", &status, met);
    compare("status-without-service.json", &mut plain, &status);
    let check = one(&bench, &["check", "--online", "--json"], 0);
    contract.check("check", &check, met);
    compare("check.json", &mut plain, &check);
    // As for the system's unit, which lets nobody make the directory that is missing.
    let socket = format!("unix:{}", bench.path("away/page.sock").display());
    bench.tables = format!("[status]\nlisten = {socket:?}\n");
    let check = one(&bench, &["--state-dir", "/var/lib/upspool", "check", "--json"], 0);
    contract.check("check", &check, met);
    bench.set_key("sk-wrong");
    bench.api = "plain_http = true\n".into();
    let check = one(&bench, &["check", "--online", "--json"], 1);
    contract.check("check", &check, met);
    compare("check-refused.json", &mut plain, &check["accounts"][0]["online"]);
}

/// What is true only now, with all that can be in the way.
async fn living(contract: &Contract, met: &mut Met) {
    let mut bench = Bench::new().await;
    for name in ["quiet", "foreign"] {
        std::fs::create_dir(bench.path(name)).unwrap();
    }
    std::fs::write(bench.path("wrong"), "sk-wrong\n").unwrap();
    bench.tables = format!(
        "[upload]\nparallel_parts = 1\npart_size = \"1 MiB\"\n[retry]\nfirst_delay = \"1h\"\nmax_delay = \"1h\"\n\
         [status]\nlisten = \"127.0.0.1:0\"\n[accounts.foreign]\nbase_url = {:?}\nkey_file = {:?}\n",
        bench.emulator.base_url(),
        bench.path("wrong")
    );
    bench.folders = format!(
        "[[folder]]\npath = {:?}\npurpose = \"user_data\"\nsettle = \"1h\"\nwatch = \"poll\"\n\
         [[folder]]\npath = {:?}\npurpose = \"user_data\"\naccount = \"foreign\"\nsettle = \"100ms\"\n",
        bench.path("quiet"),
        bench.path("foreign")
    );
    let held = bench.emulator.hold(Calls::of(Operation::Part).nth(2), Point::Before);
    let service = bench.start();
    service.wait_event("ready").await;
    bench.drop_file("large.bin", &noise((5 << 20) / 2, 1));
    held.reached().await;
    // The account's server asks for less, the other account has no good key, and a file does not settle.
    let later = Reply::status(429).header("retry-after", "3600");
    bench.emulator.fault(Calls::of(Operation::Create).nth(1).meet(later));
    bench.drop_file("small.txt", b"small");
    service.wait_for("the pace", |line| line["event"] == "retry" && line["code"] == "rate-limited").await;
    std::fs::write(bench.path("foreign/a.txt"), "a").unwrap();
    service.wait_event("hold").await;
    std::fs::write(bench.path("quiet/changing.txt"), "changing").unwrap();
    assert!(bench.command(&["wait", "--timeout", "1ms"]).status().unwrap().code().is_some());
    let mut plain = Plain::of(&bench);
    let address = address(&service).await;
    plain.places.push((address.clone(), "PAGE"));
    let status = loop {
        let status = one(&bench, &["status", "--json"], 0);
        let live = &status["live"];
        let rates = live["active"].as_array().unwrap().iter().chain(live["folders"].as_array().unwrap());
        let known =
            rates.clone().count() > 0 && rates.into_iter().all(|one| !one["bytes_per_second"].is_null());
        if live["changing_count"] == 1 && known {
            break status;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    };
    contract.check("status", &status, met);
    compare("status.json", &mut plain, &status);
    let api = async |path: &str| -> Value { serde_json::from_str(&get(&address, path).await.body).unwrap() };
    contract.check("live", &api("/api/status").await, met);
    let folders = api("/api/folders").await;
    contract.check("folders", &folders, met);
    assert_eq!(folders["folders"], status["folders"]);
    let jobs = api("/api/jobs").await;
    contract.check("jobs", &jobs, met);
    assert_eq!(jobs["jobs"], Value::from(ask(&bench, &["list", "--json"]).1));
    compare("jobs-living.json", &mut plain, &jobs);
    let codes = api("/api/codes").await;
    let all: Map<String, Value> =
        Code::ALL.iter().map(|code| (code.as_str().to_owned(), code.remedy().into())).collect();
    assert_eq!(codes, Value::from(all));
    for (name, path, code) in [
        ("why-uploading.json", "drop/large.bin", 0),
        ("why-held.json", "foreign/a.txt", 0),
        ("why-not-covered.json", "elsewhere.txt", 1),
    ] {
        let why = one(&bench, &["why", bench.path(path).to_str().unwrap(), "--json"], code);
        contract.check("why", &why, met);
        compare(name, &mut plain, &why);
    }
    let mut hex = String::new();
    bench
        .path("quiet/changing.txt")
        .to_str()
        .unwrap()
        .bytes()
        .for_each(|byte| write!(hex, "{byte:02x}").unwrap());
    contract.check("why", &api(&format!("/api/why/{hex}")).await, met);
    contract.check("show", &one(&bench, &["show", "2", "--json"], 0), met);
    held.release();
    service.kill().await;
}

#[tokio::test]
async fn every_record_is_as_the_manual_says_and_as_it_was() {
    let contract = Contract::read();
    let mut met = Met::default();
    ended(&contract, &mut met).await;
    living(&contract, &mut met).await;
    let documented = |(record, fields): (&String, &BTreeMap<String, Field>)| {
        fields.keys().map(|field| format!("{record}.{field}")).collect::<Vec<_>>()
    };
    let all: BTreeSet<String> = contract.records.iter().flat_map(documented).collect();
    let missing: Vec<&String> =
        all.difference(&met.fields).filter(|field| !field.starts_with("stuck.")).collect();
    assert!(missing.is_empty(), "documented and never given: {missing:?}");
    // So that a type is not only null: what is not met here has to be named.
    let null: BTreeSet<&str> = all
        .difference(&met.full)
        .map(String::as_str)
        .filter(|field| !field.starts_with("stuck.") && !is_of_job(&contract, field, &met))
        .collect();
    assert_eq!(null, NOT_MET.into_iter().collect(), "never more than null");
}

/// `show` has the fields of `job`, which are met there.
fn is_of_job(contract: &Contract, field: &str, met: &Met) -> bool {
    let of_job = |field: &str| {
        contract.records["job"].contains_key(field) && met.fields.contains(&format!("job.{field}"))
    };
    field.strip_prefix("show.").is_some_and(of_job)
}

#[test]
fn the_manual_has_each_state_and_no_other() {
    let (_, states) = MANUAL.split_once("### States\n").unwrap();
    let (states, _) = states.split_once("\n## ").unwrap();
    let rows = states.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    let named: Vec<&str> = rows.map(|(state, _)| state).collect();
    assert_eq!(named, State::ALL.map(State::as_str));
}
