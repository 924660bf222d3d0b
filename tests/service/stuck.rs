//! What hangs although nothing keeps it back is named: a file that cannot be read, a disk that does not sync, an engine
//! that does not answer. Reads and syncs are made to hang by a library that is compiled here and preloaded (`hang.c`).

use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use upspool::model::job::State;
use upspool_emulator::{Action, Calls, Operation, Point};

use crate::harness::{Bench, PATIENCE, noise};
use crate::records::{Contract, Met};
use crate::status_page::{address, get};

const MIB: usize = 1024 * 1024;

/// A bench whose service can be made to hang, and the file that says where.
struct Hanging {
    bench: Bench,
    control: PathBuf,
    notices: UnixDatagram,
}

impl Hanging {
    async fn new() -> Hanging {
        let mut bench = Bench::new().await;
        let (library, control, notify) = (bench.path("hang.so"), bench.path("hang"), bench.path("notify"));
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/service/hang.c");
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"])
            .args([library.as_os_str(), source.as_ref(), "-ldl".as_ref()])
            .output()
            .unwrap();
        assert!(built.status.success(), "{built:?}");
        let notices = UnixDatagram::bind(&notify).unwrap();
        notices.set_read_timeout(Some(PATIENCE)).unwrap();
        for (name, value) in [("LD_PRELOAD", &library), ("HANG", &control), ("NOTIFY_SOCKET", &notify)] {
            bench.env.insert(name.into(), value.to_str().unwrap().into());
        }
        bench.env.insert("WATCHDOG_USEC".into(), "300000".into());
        bench.api = "stall_timeout = \"1s\"\n".into();
        bench.tables =
            "[upload]\nparallel_parts = 2\npart_size = \"1 MiB\"\n[status]\nlisten = \"127.0.0.1:0\"\n"
                .into();
        Hanging { bench, control, notices }
    }

    /// From now on, what `calls` names hangs: `read` or `sync` and the end of a path on each line.
    fn hang(&self, calls: &str) {
        let staged = self.bench.path("hang.new");
        std::fs::write(&staged, calls).unwrap();
        std::fs::rename(&staged, &self.control).unwrap();
    }

    fn go_on(&self) {
        std::fs::remove_file(&self.control).unwrap();
    }

    /// A command, which does not hang itself.
    async fn ask(&self, arguments: &[&str]) -> (i32, String) {
        let mut command = self.bench.command(arguments);
        command.env_remove("LD_PRELOAD");
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
        (output.status.code().unwrap(), said.concat())
    }

    /// Waits until PID 1 was told a line that begins so.
    async fn told(&self, wanted: &'static str) {
        let notices = self.notices.try_clone().unwrap();
        let hear = move || {
            let mut buffer = [0; 4096];
            loop {
                let length = notices.recv(&mut buffer).unwrap_or_else(|error| panic!("no {wanted}: {error}"));
                let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
                if text.lines().any(|line| line.starts_with(wanted)) {
                    return;
                }
            }
        };
        tokio::task::spawn_blocking(hear).await.unwrap();
    }

    /// Forgets what PID 1 was told so far.
    fn forget_notices(&self) {
        self.notices.set_nonblocking(true).unwrap();
        while self.notices.recv(&mut [0; 4096]).is_ok() {}
        self.notices.set_nonblocking(false).unwrap();
    }

    /// Whether PID 1 is fed within this time.
    async fn is_fed_within(&self, time: Duration) -> bool {
        let notices = self.notices.try_clone().unwrap();
        let hear = move || {
            notices.set_read_timeout(Some(time)).unwrap();
            let mut buffer = [0; 4096];
            let mut fed = false;
            while let Ok(length) = notices.recv(&mut buffer) {
                if String::from_utf8_lossy(&buffer[..length]).lines().any(|line| line == "WATCHDOG=1") {
                    fed = true;
                    break;
                }
            }
            notices.set_read_timeout(Some(PATIENCE)).unwrap();
            fed
        };
        tokio::task::spawn_blocking(hear).await.unwrap()
    }
}

/// Lines of this event at one of these awaits. A disk that others keep busy may be stuck as well, and rightly.
fn lines<'a>(log: &'a [Value], event: &str, at: &[&str]) -> Vec<&'a Value> {
    log.iter().filter(|line| line["event"] == event && at.iter().any(|at| line["at"] == *at)).collect()
}

#[tokio::test]
async fn a_file_that_cannot_be_read_is_named_with_its_job_and_is_no_reason_to_restart() {
    let hanging = Hanging::new().await;
    hanging.hang("read large.bin");
    hanging.bench.drop_file("large.bin", &noise(2 * MIB, 1));
    let service = hanging.bench.start();
    let hashing = |line: &Value| line["event"] == "stuck" && line["at"] == "hashing the file";
    let line = service.wait_for("the MD5 stuck", hashing).await;
    assert_eq!(
        (&line["what"], &line["at"]),
        (&"the MD5 of job 1".into(), &"hashing the file".into()),
        "{line}"
    );
    assert!(
        line["message"].as_str().unwrap().starts_with("the MD5 of job 1: hashing the file for "),
        "{line}"
    );
    hanging.told("STATUS=STUCK: the MD5 of job 1: hashing the file for ").await;
    // Three times what systemd would wait for.
    for _ in 0..3 {
        assert!(hanging.is_fed_within(Duration::from_secs(5)).await, "the engine is well");
    }
    let page = address(&service).await;
    assert_eq!(get(&page, "/livez").await.status, 200, "nor for whoever asks for that");
    let (code, said) = hanging.ask(&["status"]).await;
    assert_eq!(code, 0);
    assert!(said.contains("Stuck: the MD5 of job 1: hashing the file for "), "{said}");
    let (_, said) = hanging.ask(&["status", "--json"]).await;
    let live: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(live["live"]["stuck"][0]["at"], "hashing the file", "{said}");
    Contract::read().check("status", &live, &mut Met::default());
    // Another file goes its way meanwhile.
    hanging.bench.drop_file("other.bin", &noise(1000, 2));
    service.wait_stored(1).await;
    hanging.go_on();
    service
        .wait_for("the MD5 going on", |line| line["event"] == "unstuck" && line["at"] == "hashing the file")
        .await;
    service.wait_stored(2).await;
    let (status, log) = service.stop().await;
    assert_eq!(status.code(), Some(0));
    let told = ["stuck", "unstuck"].map(|event| lines(&log, event, &["hashing the file"]).len());
    assert_eq!(told, [1, 1], "once, however long it lasts");
    hanging.bench.assert_ledger_is_the_truth().await;
}

#[tokio::test]
async fn a_disk_that_does_not_sync_is_named_and_nothing_is_announced_before_it_does() {
    // Nor does anybody read what PID 1 is told, which must hold up nobody else.
    let hanging = Hanging::new().await;
    let service = hanging.bench.start();
    service.wait_event("ready").await;
    hanging.hang("sync upspool.db-wal");
    hanging.bench.drop_file("a.bin", &noise(1000, 1));
    let writer = service.wait_for("the writer stuck", |line| {
        line["event"] == "stuck" && line["at"] == "waiting for a commit"
    });
    let line = writer.await;
    // Whoever waits for the writer is stuck with it; all are one line.
    let said = line["what"].as_str().unwrap();
    assert!(["the writer", "the intake", "loading the queue"].contains(&said), "{line}");
    let (code, said) = hanging.ask(&["status"]).await;
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("Stuck: the writer: waiting for a commit for "), "{said}");
    assert_eq!(hanging.bench.emulator.requests().len(), 0, "the server knows no more than the ledger");
    hanging.go_on();
    service.wait_event("unstuck").await;
    service.wait_stored(1).await;
    assert_eq!(service.stop().await.0.code(), Some(0));
    hanging.bench.assert_ledger_is_the_truth().await;
}

#[tokio::test]
async fn an_engine_that_does_not_answer_is_named_and_pid_1_is_fed_no_more() {
    let hanging = Hanging::new().await;
    let service = hanging.bench.start();
    hanging.told("READY=1").await;
    assert!(hanging.is_fed_within(Duration::from_secs(5)).await);
    hanging.hang("read upspool.db\nread upspool.db-wal");
    // What is new in the database has to be read from it.
    let (_, said) = tokio::join!(
        async {
            let line = service
                .wait_for("the engine stuck", |line| line["event"] == "stuck" && line["what"] == "the engine")
                .await;
            assert_eq!(line["at"], "reading the store", "{line}");
        },
        hanging.ask(&["pause"]),
    );
    assert!(said.1.contains("service"), "{said:?}");
    hanging.told("STATUS=STUCK: the engine: reading the store for ").await;
    for path in ["/livez", "/readyz"] {
        let answer = get(&address(&service).await, path).await;
        assert_eq!(answer.status, 503, "{path}");
        assert!(answer.body.starts_with("stuck: the engine: reading the store for "), "{answer:?}");
    }
    hanging.forget_notices();
    assert!(!hanging.is_fed_within(Duration::from_secs(3)).await, "systemd would start it again");
    // It does not wait for ever: a store that does not answer is a hold, and the engine lives.
    service.wait_event("unstuck").await;
    let hold = service.wait_event("hold").await;
    assert_eq!(hold["code"], "store-io", "{hold}");
    assert!(hanging.is_fed_within(PATIENCE).await);
    hanging.go_on();
    service.wait_event("resumed").await;
    assert_eq!(service.stop().await.0.code(), Some(0));
}

#[tokio::test]
async fn what_has_a_timeout_of_its_own_or_a_reason_to_wait_is_not_called_stuck() {
    let mut bench = Bench::new().await;
    bench.api = "stall_timeout = \"500ms\"\nanswer_timeout = \"500ms\"\n".into();
    bench.tables = "[upload]\nparallel_parts = 2\npart_size = \"1 MiB\"\n".into();
    for operation in [Operation::Create, Operation::Part, Operation::Complete] {
        bench.emulator.fault(Calls::of(operation).nth(1).meet(Action::stall(Point::Before)));
    }
    bench.api.push_str("complete_timeout = \"2s\"\n");
    bench.drop_file("large.bin", &noise(2 * MIB, 1));
    let service = bench.start();
    service.wait_stored(1).await;
    // A rejected key keeps everything back for longer than any timeout.
    bench.set_key("sk-nobody-knows-this-one");
    service.wait_event("key-read").await;
    bench.drop_file("b.bin", &noise(1000, 2));
    service.wait_event("hold").await;
    bench.set_key(upspool_emulator::DEFAULT_KEY);
    service.wait_stored(2).await;
    let (_, log) = service.stop().await;
    assert!(log.iter().filter(|line| line["event"] == "retry").count() >= 2, "{log:#?}");
    let waits = [
        "waiting for a connection",
        "sending the body",
        "waiting for the answer",
        "waiting for complete's answer",
        "there is work, and nothing will wake it",
    ];
    assert_eq!(lines(&log, "stuck", &waits), [] as [&Value; 0]);
    assert_eq!(bench.record("large.bin").await.state, State::Stored);
}
