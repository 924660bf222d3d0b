//! The program itself, as a person meets it.

#![expect(clippy::unwrap_used, reason = "what helps a test may fail as the test may")]

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;
use upspool::clock::{Clock, boot_id};
use upspool::model::file::Fingerprint;
use upspool::model::job::{AccountName, Code, Reason, Subject};
use upspool::model::time::Wall;
use upspool::store::{Arrival, BootId, Candidate, Lock, Store, Write, spawn_writer};
use upspool_emulator::Emulator;

/// A user who owns nothing.
const NOBODY: u32 = 65534;

/// A directory with a folder, a key, a configuration and a state directory.
struct Place {
    dir: TempDir,
}

impl Place {
    fn new() -> Place {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("drop")).unwrap();
        fs::write(dir.path().join("key"), "sk-test-0123456789\n").unwrap();
        fs::set_permissions(dir.path().join("key"), PermissionsExt::from_mode(0o600)).unwrap();
        let place = Place { dir };
        place.configure("http://127.0.0.1:1/v1", "");
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn state(&self) -> PathBuf {
        self.path("state")
    }

    fn configure(&self, base_url: &str, more: &str) {
        let dir = self.dir.path().display();
        self.write_config(&format!(
            "[api]\nbase_url = \"{base_url}\"\nkey_file = \"{dir}/key\"\n\n[store]\nstate_dir = \"{dir}/state\"\n\n\
             [[folder]]\npath = \"{dir}/drop\"\npurpose = \"batch\"\n{more}"
        ));
    }

    fn write_config(&self, text: &str) {
        fs::write(self.path("upspool.toml"), text).unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_upspool"));
        command.args(arguments).env_clear().env("TZ", "UTC").env("HOME", self.dir.path());
        command.env("UPSPOOL_CONFIG", self.path("upspool.toml")).current_dir(self.dir.path());
        command
    }

    fn run(&self, arguments: &[&str]) -> Ended {
        Ended::of(self.command(arguments).output().unwrap())
    }

    /// A store with these files of the folder `drop`, the oldest first.
    async fn store(&self, files: &[(&str, Arrival)]) -> (Store, Lock) {
        let (store, lock) = Store::open(&self.state(), BootId(boot_id())).await.unwrap();
        let folder = store.sync_folders(&[(self.path("drop"), "drop".into())], Wall(1)).await.unwrap()[0].id;
        let (writer, task) = spawn_writer(&store);
        for (place, (name, arrival)) in (0_i64..).zip(files) {
            let candidate = Candidate {
                subject: Subject {
                    folder,
                    path: PathBuf::from(name),
                    fingerprint: Fingerprint { bytes: 2048, mtime_ns: 1, ctime_ns: 2, inode: 3 },
                    filename: (*name).to_owned(),
                    purpose: "batch".into(),
                    mime_type: "text/jsonl".into(),
                    expires_after: None,
                    account: AccountName("default".into()),
                },
                base_url: "http://127.0.0.1:1/v1".into(),
                project: None,
                found_at: Wall(1_795_366_800_000 + place * 1000),
                arrival: arrival.clone(),
                warnings: Vec::new(),
                replaces: None,
                over: None,
            };
            writer.ask(Write::Enqueue(Box::new(candidate))).await.unwrap();
        }
        drop(writer);
        task.await.unwrap();
        (store, lock)
    }

    /// The same, left behind by a service that has ended.
    async fn left(&self, files: &[(&str, Arrival)]) {
        let (store, lock) = self.store(files).await;
        store.close().await;
        drop(lock);
    }
}

struct Ended {
    code: i32,
    out: String,
    err: String,
}

impl Ended {
    fn of(output: Output) -> Ended {
        Ended {
            code: output.status.code().unwrap(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    #[track_caller]
    fn is(&self, code: i32, out: &str, err: &str) {
        assert_eq!((self.code, self.out.as_str(), self.err.as_str()), (code, out, err));
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap()
    }
}

fn failed(code: Code) -> Arrival {
    Arrival::Failed { reason: Reason::local(code, "it did not work"), finish: false }
}

#[test]
fn check_names_each_fault_of_a_configuration_on_a_line_and_ends_with_78() {
    let place = Place::new();
    let dir = place.dir.path().display();
    let config = format!("{dir}/upspool.toml");
    let key = format!("[api]\nkey_file = \"{dir}/key\"\n[store]\nstate_dir = \"{dir}/state\"\n");
    let folder = format!("[[folder]]\npath = \"{dir}/drop\"\npurpose = \"batch\"\n");
    for (text, lines) in [
        (format!("{key}[upload]\nparalel_parts = 4\n{folder}"), vec![(6, "parallel_parts")]),
        (format!("{key}[upload]\nparallel_parts = 0\n{folder}"), vec![(6, "upload.parallel_parts")]),
        (format!("{key}[upload]\npart_size = \"1 GB\"\n{folder}"), vec![(6, "upload.part_size")]),
        (format!("{key}[[folder]]\npath = \"drop\"\npurpose = \"batch\"\n"), vec![(6, "absolute")]),
        (format!("{key}[[folder]]\npath = \"{dir}/drop\"\n"), vec![(5, "purpose")]),
        (
            format!("{key}[[folder]]\npath = \"{dir}/none\"\npurpose = \"batch\"\n"),
            vec![(6, "does not exist")],
        ),
        (
            format!("{key}{folder}[[folder]]\npath = \"{dir}/drop\"\npurpose = \"batch\"\n"),
            vec![(9, "same directory"), (9, "folder.name")],
        ),
        (format!("[api]\nkey_file = \"{dir}/nokey\"\n{folder}"), vec![(2, "nokey cannot be read")]),
        (
            format!("{key}[upload]\nparallel_parts = 0\npart_size = \"1 B\"\n{folder}"),
            vec![(6, "parallel_parts"), (7, "part_size")],
        ),
        ("[api\n".to_owned(), vec![(1, "")]),
    ] {
        place.write_config(&text);
        let ended = place.run(&["check"]);
        assert_eq!((ended.code, ended.out.as_str()), (78, ""), "{text}{}", ended.err);
        let said: Vec<&str> = ended.err.lines().collect();
        assert_eq!(said.len(), lines.len(), "{text}{}", ended.err);
        for (said, (line, word)) in said.iter().zip(lines) {
            assert!(said.starts_with(&format!("{config}:{line}")), "{text}{said}");
            assert!(said.contains(word), "{text}{said}");
        }
        assert!(!place.state().exists());
    }
}

#[test]
fn check_says_what_is_in_force_and_never_the_key() {
    let place = Place::new();
    place.configure("http://127.0.0.1:1/v1", "exclude = [\"*.bak\"]\n");
    fs::write(place.path("drop/a.jsonl"), "0123456789").unwrap();
    fs::write(place.path("drop/b.bak"), "0123456789").unwrap();
    let ended = place.run(&["check"]);
    assert_eq!((ended.code, ended.err.as_str()), (0, ""), "{}", ended.out);
    for words in
        ["8 in parallel", "folder drop", "  key              from the file", "*.bak", "1 new file, 10 B"]
    {
        assert!(ended.out.contains(words), "{words}: {}", ended.out);
    }
    assert!(!ended.out.contains("sk-test"), "{}", ended.out);
    let json = place.run(&["check", "--json"]).json();
    assert_eq!(json["schema"], 1);
    assert_eq!(json["accounts"][0]["online"], Value::Null);
    let folder = &json["folders"][0];
    assert_eq!(
        (&folder["files"], &folder["new_files"], &folder["ignored"]),
        (&1.into(), &1.into(), &1.into())
    );
    assert!(!place.state().exists(), "check creates nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn check_online_asks_each_account_and_says_what_came_of_it() {
    let place = Place::new();
    let emulator = Emulator::builder().api_key("sk-test-0123456789").start().await.unwrap();
    place.configure(&emulator.base_url(), "");
    let ended = place.run(&["check", "--online"]);
    assert_eq!((ended.code, ended.err.as_str()), (0, ""), "{}", ended.out);
    assert!(
        ended.out.contains("  online           ok, ") && ended.out.contains(", request req"),
        "{}",
        ended.out
    );
    fs::write(place.path("key"), "sk-wrong-9876543210").unwrap();
    let ended = place.run(&["check", "--online"]);
    assert_eq!(ended.code, 1, "{}", ended.out);
    assert!(ended.out.contains("key-rejected: HTTP 401"), "{}", ended.out);
    assert!(ended.out.contains("check the key"), "{}", ended.out);
    assert!(!ended.out.contains("sk-wrong"), "{}", ended.out);
    let online = &place.run(&["check", "--online", "--json"]).json()["accounts"][0]["online"];
    assert_eq!((&online["ok"], &online["code"]), (&false.into(), &"key-rejected".into()));
}

#[test]
fn without_a_store_commands_say_where_it_would_be() {
    let place = Place::new();
    let store = place.state().join("upspool.db");
    let line = format!(
        "upspool: there is no store at {} yet: start the service once, or name the right --state-dir\n",
        store.display()
    );
    for arguments in [&["list"][..], &["show", "1"], &["retry", "1"], &["pause"]] {
        place.run(arguments).is(1, "", &line);
    }
    let service =
        format!("upspool: no service runs in {}; this is from the store\n", place.state().display());
    place.run(&["status"]).is(3, "", &format!("{service}{line}"));
    let ended = place.run(&["status", "--json"]);
    assert_eq!(ended.out, "{\"schema\":1,\"running\":false,\"live\":null,\"folders\":[]}\n");
    assert!(!place.state().exists(), "no command but run creates anything");
}

#[test]
fn wrong_usage_ends_with_2() {
    let place = Place::new();
    for arguments in [
        &[][..],
        &["lst"],
        &["list", "--state", "sent"],
        &["list", "--since", "yesterday"],
        &["list", "--limit", "-1"],
        &["show"],
        &["retry"],
        &["retry", "--failed", "1"],
        &["retry", "--folder", "drop", "1"],
        &["cancel"],
        &["run", "--watch", "/tmp"],
        &["run", "--timeout", "5s"],
    ] {
        let ended = place.run(arguments);
        assert_eq!((ended.code, ended.out.as_str()), (2, ""), "{arguments:?}");
        assert!(!ended.err.is_empty(), "{arguments:?}");
    }
    for arguments in [&["--help"][..], &["--version"], &["list", "--help"], &["help", "retry"]] {
        let ended = place.run(arguments);
        assert_eq!((ended.code, ended.err.as_str()), (0, ""), "{arguments:?}");
        assert!(!ended.out.is_empty());
    }
}

#[tokio::test]
async fn list_shows_the_newest_first_and_filters() {
    let place = Place::new();
    place
        .left(&[
            ("old.jsonl", Arrival::Queued),
            ("bad.jsonl", failed(Code::FileEmpty)),
            ("name\n\u{1b}[31m.jsonl", Arrival::Skipped),
        ])
        .await;
    let drop = place.path("drop").display().to_string();
    place.run(&["list"]).is(
        0,
        &format!(
            "JOB  STATE        SIZE  FOUND             FILE ID OR REASON   PATH\n\
             \x20 3  skipped  2.00 KiB  2026-11-22 17:00                      {drop}/name\\x0a\\x1b[31m.jsonl\n\
             \x20 2  failed   2.00 KiB  2026-11-22 17:00  file-empty          {drop}/bad.jsonl\n\
             \x20 1  queued   2.00 KiB  2026-11-22 17:00  waits for its turn  {drop}/old.jsonl\n"
        ),
        "",
    );
    let ids = |arguments: &[&str]| -> Vec<i64> {
        let ended = place.run(&[&["list", "--json"], arguments].concat());
        assert_eq!((ended.code, ended.err.as_str()), (0, ""));
        let lines = ended.out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.map(|record| record["id"].as_i64().unwrap()).collect()
    };
    assert_eq!(ids(&[]), [3, 2, 1]);
    assert_eq!(ids(&["--limit", "2"]), [3, 2]);
    assert_eq!(ids(&["--state", "queued", "--state", "failed"]), [2, 1]);
    assert_eq!(ids(&["--since", "2026-11-22T17:00:01Z", "--until", "2026-11-22T17:00:02Z"]), [2]);
    assert_eq!(ids(&["--folder", "drop", "--until", "2026-11-22"]), [] as [i64; 0]);
    assert_eq!(ids(&["--folder", &drop, "--limit", "1"]), [3]);
    place.run(&["list", "--folder", "dorp"]).is(1, "", "upspool: there is no folder dorp (there is: drop)\n");
}

#[tokio::test]
async fn a_state_directory_that_is_given_needs_no_configuration() {
    let place = Place::new();
    place.left(&[("a.jsonl", Arrival::Queued)]).await;
    fs::remove_file(place.path("upspool.toml")).unwrap();
    let ended = place.run(&["list"]);
    assert_eq!(ended.code, 78, "{}", ended.err);
    let ended = place.run(&["list", "--state-dir", "state"]);
    assert_eq!((ended.code, ended.out.lines().count(), ended.err.as_str()), (0, 2, ""));
}

#[tokio::test]
async fn show_takes_a_number_or_a_path_however_it_is_written() {
    let place = Place::new();
    place.left(&[("a.jsonl", failed(Code::Network))]).await;
    std::os::unix::fs::symlink(place.path("drop"), place.path("link")).unwrap();
    let whole = place.run(&["show", "1"]);
    assert_eq!((whole.code, whole.err.as_str()), (0, ""));
    for words in ["Job 1: failed", "network: it did not work", "check name resolution", "History"] {
        assert!(whole.out.contains(words), "{words}: {}", whole.out);
    }
    for path in ["drop/a.jsonl", "./drop/../drop/a.jsonl", "link/a.jsonl"] {
        assert_eq!(place.run(&["show", path]).out, whole.out, "{path}");
    }
    let json = place.run(&["show", "--json", "1"]).json();
    assert_eq!((&json["id"], &json["error"]["code"]), (&1.into(), &"network".into()));
    assert_eq!(json["history"][0]["event"], "failed");
    place.run(&["show", "2"]).is(1, "", "upspool: there is no job 2\n");
    let ended = place.run(&["show", "file-abc"]);
    assert_eq!((ended.code, ended.out.as_str()), (1, ""));
    assert!(ended.err.contains("written ./file-abc"), "{}", ended.err);
    assert!(place.run(&["show", "/etc/passwd"]).err.contains("lies in no watched folder"));
    assert!(place.run(&["show", "drop/none"]).err.contains("no job is known for"));
}

#[tokio::test]
async fn status_without_a_service_counts_from_the_store_and_ends_with_3() {
    let place = Place::new();
    place.left(&[("a", Arrival::Queued), ("b", Arrival::Queued), ("c", failed(Code::FileEmpty))]).await;
    let ended = place.run(&["status"]);
    assert_eq!(ended.code, 3);
    assert!(ended.err.contains("no service runs"), "{}", ended.err);
    assert!(
        ended.out.contains("  3 jobs: 2 queued, 1 failed\n  waiting: 2 files, 4.00 KiB\n"),
        "{}",
        ended.out
    );
    let json = place.run(&["status", "--json"]).json();
    let folder = &json["folders"][0];
    assert_eq!((&folder["waiting_files"], &folder["waiting_bytes"]), (&2.into(), &4096.into()));
    let counts = folder["counts"].as_object().unwrap();
    assert_eq!((counts.len(), counts.values().filter_map(Value::as_u64).sum::<u64>()), (9, 3));
}

#[tokio::test]
async fn what_is_asked_while_no_service_runs_is_recorded() {
    let place = Place::new();
    place.left(&[("a", Arrival::Queued), ("b", failed(Code::Network)), ("c", failed(Code::FileEmpty))]).await;
    let later = "recorded; taken up when the service starts";
    place.run(&["bump", "1"]).is(0, &format!("job 1: {later}\n"), "");
    place.run(&["cancel", "drop/a", "7"]).is(1, &format!("job 1: {later}\n"), "upspool: there is no job 7\n");
    place.run(&["pause", "--folder", "drop"]).is(0, &format!("folder drop: {later}\n"), "");
    place.run(&["resume"]).is(0, &format!("all folders: {later}\n"), "");
    place.run(&["retry", "--failed", "--code", "network"]).is(0, &format!("1 failed job: {later}\n"), "");
    place.run(&["retry", "--failed", "--code", "stalled"]).is(0, "0 failed jobs queued again\n", "");
    let json = place.run(&["list", "--state", "queued", "--json"]).json();
    assert_eq!((&json["requested"], &json["waiting"]), (&"cancel".into(), &"requested".into()));
    let (store, _lock) = place.store(&[]).await;
    let asked = store.pending_requests(0).await.unwrap();
    let asked: Vec<_> =
        asked.iter().map(|row| (row.request.kind.as_str(), row.request.job.map(|job| job.0))).collect();
    assert_eq!(
        asked,
        [("bump", Some(1)), ("cancel", Some(1)), ("pause", None), ("resume", None), ("retry", Some(2))]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_running_service_is_waited_for_and_its_answer_printed() {
    let place = Place::new();
    let (store, lock) = place.store(&[("a", Arrival::Queued), ("b", Arrival::Queued)]).await;
    let (writer, _task) = spawn_writer(&store);
    let service = tokio::spawn(async move {
        let mut answered = 0;
        while answered < 2 {
            for row in store.pending_requests(0).await.unwrap() {
                let (done, answer) = match row.request.job.unwrap().0 {
                    1 => (true, "job 1 is cancelled".to_owned()),
                    job => (false, format!("too late: the File of job {job} is being made")),
                };
                let at = Clock::System.now().wall;
                writer.ask(Write::Answer { request: row.id, at, done, answer }).await.unwrap();
                answered += 1;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    });
    let mut command = place.command(&["cancel", "1", "2"]);
    let ended = tokio::task::spawn_blocking(move || Ended::of(command.output().unwrap())).await.unwrap();
    ended.is(1, "job 1 is cancelled\ntoo late: the File of job 2 is being made\n", "");
    service.await.unwrap();
    drop(lock);
}

/// As what systemd runs for `ExecReload=`: it is told of the credentials, and not let at them.
#[test]
fn check_leaves_a_credential_that_it_may_not_read_to_the_service() {
    // Root may read anything, and so asks as somebody else; whoever is not takes the right from themselves.
    let is_root = rustix::process::geteuid().is_root();
    let place = Place::new();
    let dir = place.dir.path().display().to_string();
    place.write_config(&format!(
        "[store]\nstate_dir = \"{dir}/state\"\n[[folder]]\npath = \"{dir}/drop\"\npurpose = \"batch\"\n"
    ));
    let credentials = place.path("credentials");
    fs::create_dir(&credentials).unwrap();
    fs::write(credentials.join("openai-api-key"), "sk-test-0123456789\n").unwrap();
    let program = place.path("upspool");
    fs::copy(env!("CARGO_BIN_EXE_upspool"), &program).unwrap();
    for (path, mode) in [(place.dir.path().to_owned(), 0o777), (credentials.clone(), 0o000)] {
        fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    }
    let ask = |arguments: &[&str]| {
        let mut command = place.command(arguments);
        let given: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
        command = Command::new(&program);
        command.args(given).env_clear().env("UPSPOOL_CONFIG", place.path("upspool.toml"));
        command.env("CREDENTIALS_DIRECTORY", &credentials);
        if is_root {
            command.uid(NOBODY).gid(NOBODY);
        }
        Ended::of(command.output().unwrap())
    };
    let ended = ask(&["check"]);
    assert_eq!((ended.code, ended.err.as_str()), (0, ""), "{}", ended.out);
    assert!(ended.out.contains("from the systemd credential"), "{}", ended.out);
    let ended = ask(&["run"]);
    assert_eq!(ended.code, 78, "{}", ended.err);
    assert!(ended.err.contains("openai-api-key cannot be read: Permission denied"), "{}", ended.err);
    // One that can be read and is none is a fault for both.
    fs::set_permissions(&credentials, PermissionsExt::from_mode(0o755)).unwrap();
    fs::write(credentials.join("openai-api-key"), "").unwrap();
    assert_eq!(ask(&["check"]).code, 78);
}

#[test]
fn check_says_what_the_systems_unit_needs_and_only_for_its_configuration() {
    let place = Place::new();
    let dir = place.dir.path().canonicalize().unwrap();
    place.configure("http://127.0.0.1:1/v1", "receipt = true\n");
    let unit = |arguments: &[&str]| place.run(arguments).json()["unit"].clone();
    assert_eq!(unit(&["check", "--json"]), Value::Null, "this is nobody's unit");
    let given = ["--state-dir", "/var/lib/upspool", "check"];
    let drop_in = unit(&[&given[..], &["--json"]].concat())["drop_in"].as_str().unwrap().to_owned();
    assert!(drop_in.contains(&format!("ReadWritePaths=-{}\n", dir.join("drop").display())), "{drop_in}");
    let ended = place.run(&given);
    let after = ended.out.split_once("systemd unit  needs this drop-in").unwrap().1;
    assert!(after.contains(drop_in.trim_end()), "{}", ended.out);
    // What systemd itself starts sees no more than the sandbox lets through.
    let mut shell = Command::new("sh");
    shell.args([
        "-c",
        "SYSTEMD_EXEC_PID=$$ exec \"$0\" --state-dir /var/lib/upspool check",
        env!("CARGO_BIN_EXE_upspool"),
    ]);
    shell.env("UPSPOOL_CONFIG", place.path("upspool.toml"));
    let ended = Ended::of(shell.output().unwrap());
    assert!(ended.code == 0 && !ended.out.contains("systemd unit"), "{}{}", ended.out, ended.err);
}

#[tokio::test]
async fn a_closed_pipe_ends_a_command_silently() {
    let place = Place::new();
    let names: Vec<String> = (0..2000).map(|n| format!("{n:0200}.jsonl")).collect();
    let files: Vec<_> = names.iter().map(|name| (name.as_str(), Arrival::Queued)).collect();
    place.left(&files).await;
    let mut command = place.command(&["list", "--limit", "2000"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
    assert!(first.starts_with(" JOB  STATE"), "{first}");
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!((child.wait().unwrap().code(), said.as_str()), (Some(0), ""));
}

#[tokio::test]
async fn whoever_may_only_read_is_told_whom_to_ask() {
    let place = Place::new();
    place.left(&[("a", Arrival::Queued)]).await;
    let state = place.state();
    let ask = |arguments: &[&str]| {
        let mut command = place.command(&[&["--state-dir", "state"], arguments].concat());
        if rustix::process::geteuid().is_root() {
            // Root may do everything whatever the modes say.
            let program = place.path("upspool");
            fs::copy(env!("CARGO_BIN_EXE_upspool"), &program).unwrap();
            let given: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
            command = Command::new(program);
            command.args(given).env_clear().current_dir(place.dir.path()).uid(NOBODY).gid(NOBODY);
        }
        Ended::of(command.output().unwrap())
    };
    for (path, mode) in [(place.dir.path().to_owned(), 0o755), (state.clone(), 0o555)] {
        fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    }
    let database = state.join("upspool.db");
    fs::set_permissions(&database, PermissionsExt::from_mode(0o444)).unwrap();
    let ended = ask(&["list"]);
    assert_eq!((ended.code, ended.out.lines().count(), ended.err.as_str()), (0, 2, ""));
    let ended = ask(&["pause"]);
    assert_eq!((ended.code, ended.out.as_str(), ended.err.lines().count()), (1, "", 1), "{}", ended.err);
    assert!(ended.err.contains("this user cannot write"), "{}", ended.err);
    // The owner is root where the tests are.
    assert!(ended.err.contains("sudo ") && ended.err.ends_with(" upspool …\n"), "{}", ended.err);
    fs::set_permissions(&database, PermissionsExt::from_mode(0o000)).unwrap();
    let ended = ask(&["list"]);
    assert_eq!((ended.code, ended.out.as_str(), ended.err.lines().count()), (1, "", 1), "{}", ended.err);
    assert!(ended.err.contains("this user cannot read"), "{}", ended.err);
    // So that it can be cleared away.
    fs::set_permissions(&state, PermissionsExt::from_mode(0o755)).unwrap();
}
