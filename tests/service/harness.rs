//! A folder, an emulator and the service between them. Tests wait for log events of the service and for requests at the
//! emulator; nothing sleeps.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use upspool::store::{Filter, Record, Store};
use upspool_emulator::{Builder, Emulator};

/// Longer than anything takes on a busy machine; only a test that fails waits for so long.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct Bench {
    pub dir: TempDir,
    pub emulator: Emulator,
    /// Lines for `[api]`.
    pub api: String,
    /// Whole tables, before the folders.
    pub tables: String,
    /// Lines for the `[[folder]]`.
    pub folder: String,
    /// Further `[[folder]]` tables.
    pub folders: String,
    pub env: HashMap<String, String>,
}

impl Bench {
    pub async fn new() -> Bench {
        Bench::with(Emulator::builder()).await
    }

    pub async fn with(emulator: Builder) -> Bench {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("drop")).unwrap();
        let bench = Bench {
            dir,
            emulator: emulator.start().await.unwrap(),
            api: String::new(),
            tables: String::new(),
            folder: String::new(),
            folders: String::new(),
            env: HashMap::new(),
        };
        bench.set_key(upspool_emulator::DEFAULT_KEY);
        bench
    }

    pub fn set_key(&self, key: &str) {
        std::fs::write(self.dir.path().join("key.new"), format!("{key}\n")).unwrap();
        std::fs::rename(self.dir.path().join("key.new"), self.path("key")).unwrap();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn state_dir(&self) -> PathBuf {
        self.path("state")
    }

    /// Writes a file beside the folder and moves it in, so that it is whole from the first moment.
    pub fn drop_file(&self, name: impl AsRef<std::ffi::OsStr>, content: &[u8]) -> PathBuf {
        let target = self.path("drop").join(Path::new(name.as_ref()));
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        let staged = self.path("staged");
        std::fs::write(&staged, content).unwrap();
        std::fs::rename(&staged, &target).unwrap();
        target
    }

    pub fn config(&self) -> String {
        let mut text = String::new();
        let key = if self.api.contains("key_file") {
            String::new()
        } else {
            format!("key_file = {:?}\n", self.path("key"))
        };
        let base = if self.api.contains("base_url") {
            String::new()
        } else {
            format!("base_url = {:?}\n", self.emulator.base_url())
        };
        writeln!(text, "[api]\n{base}{key}{}", self.api).unwrap();
        if !self.tables.contains("[retry]") {
            writeln!(text, "[retry]\nfirst_delay = \"20ms\"\nmax_delay = \"200ms\"").unwrap();
        }
        writeln!(text, "[store]\nstate_dir = {:?}", self.state_dir()).unwrap();
        writeln!(text, "[log]\nlevel = \"debug\"\nformat = \"json\"\n{}", self.tables).unwrap();
        writeln!(text, "[[folder]]\npath = {:?}\nname = \"drop\"\n", self.path("drop")).unwrap();
        let settle = if self.folder.contains("settle") { "" } else { "settle = \"100ms\"\n" };
        let purpose = if self.folder.contains("purpose") { "" } else { "purpose = \"user_data\"\n" };
        writeln!(text, "{purpose}{settle}{}\n{}", self.folder, self.folders).unwrap();
        text
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let config = self.path("upspool.toml");
        // In one step: a service that starts may be reading it.
        std::fs::write(self.path("upspool.toml.new"), self.config()).unwrap();
        std::fs::rename(self.path("upspool.toml.new"), &config).unwrap();
        self.plain_command(&[&["--config", config.to_str().unwrap()], arguments].concat())
    }

    /// Without a configuration file of ours.
    pub fn plain_command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_upspool"));
        command.args(arguments).env_clear().env("HOME", self.dir.path()).envs(&self.env).stdin(Stdio::null());
        command
    }

    pub fn start(&self) -> Service {
        Service::spawn(self.command(&["run"]))
    }

    /// Runs to the end: exit code, what it printed, its log.
    pub async fn once(&self, arguments: &[&str]) -> (i32, String, Vec<Value>) {
        let mut service =
            Service::spawn(self.command(&[&["run", "--once", "--timeout", "60s"], arguments].concat()));
        let mut printed = String::new();
        let mut stdout = service.child.stdout.take().unwrap();
        let code = tokio::task::spawn_blocking(move || {
            stdout.read_to_string(&mut printed).unwrap();
            let status = service.child.wait().unwrap();
            let log = service.finish_log();
            (status.code().unwrap_or(-1), printed, log)
        });
        code.await.unwrap()
    }

    pub async fn records(&self) -> Vec<Record> {
        let store = Store::open_for_asking(&self.state_dir()).await.unwrap();
        let mut records = store.list(&Filter { limit: 10_000, ..Filter::default() }).await.unwrap();
        records.sort_by_key(|record| record.id);
        store.close().await;
        records
    }

    /// The one record of a file.
    pub async fn record(&self, name: &str) -> Record {
        let mut records = self.records().await;
        records.retain(|record| record.relative_path == Path::new(name));
        assert_eq!(records.len(), 1, "{name}: {records:?}");
        records.remove(0)
    }

    /// The same, once it is as it should be: a line of the log comes before the commit.
    pub async fn record_when(&self, name: &str, is: impl Fn(&Record) -> bool) -> Record {
        let found = async {
            loop {
                let record = self.record(name).await;
                if is(&record) {
                    return record;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, found).await.unwrap_or_else(|_| panic!("{name} does not get there"))
    }

    /// The same of a job by its number.
    pub async fn record_when_of(&self, job: i64, is: impl Fn(&Record) -> bool) -> Record {
        let found = async {
            loop {
                let record = self.records().await.into_iter().find(|record| record.id.0 == job);
                if let Some(record) = record.filter(&is) {
                    return record;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, found).await.unwrap_or_else(|_| panic!("job {job} does not get there"))
    }

    /// Asserts what every run must leave: each stored row names one File, of exactly its bytes, that is its own unless it says
    /// whose it shares; and no File is without row.
    pub async fn assert_ledger_is_the_truth(&self) {
        let records = self.records().await;
        let files = self.emulator.files();
        let stored: Vec<&Record> = records.iter().filter(|record| record.file_id.is_some()).collect();
        let own = stored.iter().filter(|record| record.deduped_from.is_none()).count();
        assert_eq!(own, files.len(), "one row for each File: {records:#?}\n{files:#?}");
        for record in stored {
            let id = record.file_id.as_ref().unwrap();
            let file = files.iter().find(|file| file.id == id.0).unwrap();
            assert_eq!(file.bytes, record.fingerprint.bytes);
            assert_eq!(file.filename, record.filename);
            if let Some(from) = record.deduped_from {
                let owner = records.iter().find(|owner| owner.id == from).unwrap();
                assert_eq!((&owner.file_id, owner.deduped_from), (&record.file_id, None));
            }
            let path = record.folder_path.join(&record.relative_path);
            if path.is_file() && record.present {
                assert_eq!(file.sha256.as_deref(), Some(sha256_of(&path).as_str()), "{path:?}");
            }
        }
    }
}

/// A running service. Killed when it is dropped.
pub struct Service {
    pub child: Child,
    log: Arc<(Mutex<Log>, Condvar)>,
    reader: Option<std::thread::JoinHandle<()>>,
}

#[derive(Default)]
struct Log {
    lines: Vec<Value>,
    raw: String,
    ended: bool,
}

impl Service {
    pub fn spawn(mut command: Command) -> Service {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let log = Arc::new((Mutex::new(Log::default()), Condvar::new()));
        let shared = log.clone();
        let reader = std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let mut log = shared.0.lock().unwrap();
                log.raw.push_str(&line);
                log.raw.push('\n');
                if let Ok(value) = serde_json::from_str(&line) {
                    log.lines.push(value);
                }
                shared.1.notify_all();
            }
            shared.0.lock().unwrap().ended = true;
            shared.1.notify_all();
        });
        Service { child, log, reader: Some(reader) }
    }

    /// Waits for a log line and returns it.
    pub async fn wait_for(
        &self,
        what: &'static str,
        found: impl Fn(&Value) -> bool + Send + 'static,
    ) -> Value {
        let log = self.log.clone();
        tokio::task::spawn_blocking(move || {
            let mut guard = log.0.lock().unwrap();
            loop {
                if let Some(line) = guard.lines.iter().find(|line| found(line)) {
                    return line.clone();
                }
                assert!(!guard.ended, "the service ended before it logged {what}:\n{}", guard.raw);
                let (next, waited) = log.1.wait_timeout(guard, PATIENCE).unwrap();
                guard = next;
                assert!(!waited.timed_out(), "the service did not log {what}:\n{}", guard.raw);
            }
        })
        .await
        .unwrap()
    }

    pub async fn wait_event(&self, event: &'static str) -> Value {
        self.wait_for(event, move |line| line["event"] == event).await
    }

    /// Waits until so many jobs are stored.
    pub async fn wait_stored(&self, count: usize) {
        let log = self.log.clone();
        tokio::task::spawn_blocking(move || {
            let mut guard = log.0.lock().unwrap();
            loop {
                let stored = guard.lines.iter().filter(|line| line["event"] == "stored").count();
                if stored >= count {
                    return;
                }
                assert!(!guard.ended, "the service ended with {stored} stored:\n{}", guard.raw);
                let (next, waited) = log.1.wait_timeout(guard, PATIENCE).unwrap();
                guard = next;
                assert!(!waited.timed_out(), "only {stored} stored:\n{}", guard.raw);
            }
        })
        .await
        .unwrap();
    }

    pub fn log(&self) -> Vec<Value> {
        self.log.0.lock().unwrap().lines.clone()
    }

    /// The lines after the first `known`, once there are any; none if none come within `patience`.
    pub async fn more_log(&self, known: usize, patience: Duration) -> Vec<Value> {
        let log = self.log.clone();
        tokio::task::spawn_blocking(move || {
            let guard = log.0.lock().unwrap();
            let waits = |log: &mut Log| log.lines.len() <= known && !log.ended;
            let (guard, _) = log.1.wait_timeout_while(guard, patience, waits).unwrap();
            guard.lines.get(known..).unwrap_or_default().to_vec()
        })
        .await
        .unwrap()
    }

    pub fn raw_log(&self) -> String {
        self.log.0.lock().unwrap().raw.clone()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).unwrap();
    }

    pub async fn stop(mut self) -> (ExitStatus, Vec<Value>) {
        self.signal(Signal::TERM);
        tokio::task::spawn_blocking(move || {
            let status = self.child.wait().unwrap();
            let log = self.finish_log();
            (status, log)
        })
        .await
        .unwrap()
    }

    /// Waits until it has ended by itself.
    pub async fn ended(mut self) -> (ExitStatus, String) {
        tokio::task::spawn_blocking(move || {
            let status = self.child.wait().unwrap();
            self.finish_log();
            let raw = self.raw_log();
            (status, raw)
        })
        .await
        .unwrap()
    }

    pub async fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn finish_log(&mut self) -> Vec<Value> {
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
        self.log()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn sha256_of(path: &Path) -> String {
    sha256(&std::fs::read(path).unwrap())
}

/// Bytes that look like nothing and differ by `seed`.
pub fn noise(bytes: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut out = Vec::with_capacity(bytes + 8);
    while out.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend_from_slice(&state.to_le_bytes());
    }
    out.truncate(bytes);
    out
}

/// A name from bytes that need not be UTF-8.
pub fn name(bytes: &[u8]) -> std::ffi::OsString {
    std::ffi::OsStr::from_bytes(bytes).to_owned()
}

/// A command whose user may not read everything: root could, whatever the modes say.
pub fn as_a_user(bench: &Bench, arguments: &[&str]) -> Command {
    const NOBODY: u32 = 65534;
    let command = bench.command(arguments);
    if !rustix::process::geteuid().is_root() {
        return command;
    }
    let program = bench.path("upspool");
    if !program.exists() {
        std::fs::copy(env!("CARGO_BIN_EXE_upspool"), &program).unwrap();
        let owner = Command::new("chown").args(["-R", "65534:65534"]).arg(bench.dir.path()).status();
        assert!(owner.unwrap().success());
    }
    let mut other = Command::new(program);
    other.args(command.get_args()).env_clear().env("HOME", bench.dir.path()).uid(NOBODY).gid(NOBODY);
    other
}
