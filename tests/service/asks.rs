//! What the members of the service's group ask: they may read the ledger, and leave what they want beside it.
//!
//! These tests play three users, which only root can.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use upspool::model::job::State;
use upspool::store::{NewRequest, RequestRow, Store, leave};
use upspool_emulator::{Calls, Operation, Point};

use crate::harness::{Bench, PATIENCE, Service, noise};

const MIB: usize = 1024 * 1024;

/// Of the service.
const SERVICE: u32 = 61_001;
/// A user who is in the service's group.
const OPERATOR: u32 = 61_002;
/// One who is not, by a number that each machine has a name for.
const NOBODY: u32 = 65_534;
/// The service's group, by a number that each machine has a name for: `daemon`.
const GROUP: u32 = 1;

/// The bench, as its three users find it.
struct House {
    bench: Bench,
}

#[expect(clippy::print_stderr, reason = "a test that is not done has to say so")]
async fn house() -> Option<House> {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can play the service, a member of its group, and nobody");
        return None;
    }
    let bench = Bench::new().await;
    fs::copy(env!("CARGO_BIN_EXE_upspool"), bench.path("upspool")).unwrap();
    for name in ["", "drop", "key", "upspool"] {
        chown(bench.path(name), Some(SERVICE), Some(GROUP)).unwrap();
    }
    fs::set_permissions(bench.path(""), PermissionsExt::from_mode(0o755)).unwrap();
    fs::set_permissions(bench.path("key"), PermissionsExt::from_mode(0o400)).unwrap();
    Some(House { bench })
}

impl House {
    /// A command of a user with a primary group of their own, the groups besides, and a umask that lets nobody in.
    fn command(&self, user: u32, group: u32, besides: Option<u32>, arguments: &[&str]) -> Command {
        let ours = self.bench.command(arguments);
        let besides = besides.map_or("--clear-groups".to_owned(), |besides| format!("--groups={besides}"));
        let mut command = Command::new("setpriv");
        command
            .args([format!("--reuid={user}"), format!("--regid={group}"), besides])
            .args(["sh", "-c", "umask 077; exec \"$0\" \"$@\""])
            .arg(self.bench.path("upspool"))
            .args(ours.get_args())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", self.bench.dir.path());
        command
    }

    fn run(&self, arguments: &[&str]) -> Command {
        self.command(SERVICE, GROUP, None, arguments)
    }

    fn start(&self) -> Service {
        Service::spawn(self.run(&["run"]))
    }

    /// To the end: its exit code and its log.
    async fn once(&self) -> (Option<i32>, String) {
        let (status, log) = Service::spawn(self.run(&["run", "--once", "--timeout", "60s"])).ended().await;
        (status.code(), log)
    }

    fn operator(&self, arguments: &[&str]) -> (i32, String, String) {
        said(self.command(OPERATOR, OPERATOR, Some(GROUP), arguments))
    }

    fn nobody(&self, arguments: &[&str]) -> (i32, String, String) {
        said(self.command(NOBODY, NOBODY, None, arguments))
    }

    /// A file that only the service may read, as in a hardened drop folder.
    fn drop_file(&self, name: &str, content: &[u8]) -> String {
        let path = self.bench.drop_file(name, content);
        chown(&path, Some(SERVICE), Some(SERVICE)).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn spool(&self) -> std::path::PathBuf {
        self.bench.state_dir().join("asks")
    }

    fn left(&self) -> Vec<String> {
        let names = fs::read_dir(self.spool()).unwrap();
        let mut names: Vec<_> =
            names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    async fn row(&self, token: &str) -> Option<RequestRow> {
        let store = Store::open_for_asking(&self.bench.state_dir()).await.unwrap();
        let row = store.spooled_request(token, 0).await.unwrap();
        store.close().await;
        row
    }

    /// Waits until a request that was left in the spool is answered, and says how.
    async fn answer(&self, token: &str) -> String {
        let answered = async {
            loop {
                if let Some(answer) = self.row(token).await.and_then(|row| row.answer) {
                    return answer;
                }
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, answered).await.unwrap_or_else(|_| panic!("{token} has no answer"))
    }

    /// Waits until the database says yes.
    async fn until(&self, sql: &str) {
        let said = async {
            while self.sqlite(sql) != "1" {
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(PATIENCE, said).await.unwrap_or_else(|_| panic!("never: {sql}"));
    }

    fn sqlite(&self, sql: &str) -> String {
        let output = Command::new("sqlite3")
            .args(["-cmd", ".timeout 10000"])
            .arg(self.bench.state_dir().join("upspool.db"))
            .arg(sql)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }
}

fn said(mut command: Command) -> (i32, String, String) {
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

fn done(words: &str) -> (i32, String, String) {
    (0, format!("{words}\n"), String::new())
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

fn of_event<'a>(log: &'a [Value], event: &'a str) -> impl Iterator<Item = &'a Value> {
    log.iter().filter(move |line| line["event"] == event)
}

fn request(kind: &str, job: Option<i64>) -> NewRequest {
    let job = job.map(upspool::model::job::JobId);
    NewRequest { kind: kind.into(), job, folder: None, argument: None }
}

#[tokio::test]
async fn a_member_of_the_group_gives_every_order_and_can_write_nothing_of_the_ledger() {
    let Some(house) = house().await else { return };
    let service = house.start();
    service.wait_event("ready").await;
    assert_eq!(house.operator(&["pause"]), done("all folders: paused"));
    assert_eq!(house.operator(&["pause", "--folder", "drop"]), done("folder drop: paused"));
    let path = house.drop_file("a.txt", b"a");
    service.wait_event("queued").await;
    house.bench.record_when("a.txt", |record| record.state == State::Queued).await;
    assert_eq!(house.operator(&["bump", "1"]), done("job 1 is next"));
    assert_eq!(house.operator(&["cancel", &path]), done("job 1 is cancelled"));
    assert_eq!(house.operator(&["cancel", "1"]), (1, "job 1 is cancelled already\n".into(), String::new()));
    assert_eq!(house.operator(&["retry", "1"]), done("job 1 is queued again"));
    let (code, words, _) = house.operator(&["resolve", "1", "--again"]);
    assert_eq!((code, words.as_str()), (1, "job 1 is queued; only unresolved jobs can be resolved\n"));
    assert_eq!(house.operator(&["resume"]), done("all folders: resumed"));
    service.wait_stored(1).await;
    let (code, line, words) = house.operator(&["wait", &path, "--timeout", "60s"]);
    assert!(code == 0 && line.ends_with(&format!("\t{path}\n")), "{line} {words}");
    assert_eq!(house.operator(&["retry", "--force", &path]).0, 0);
    service.wait_stored(2).await;
    assert_eq!(house.operator(&["wait", "--timeout", "60s"]).0, 0);
    assert_eq!(house.operator(&["retry", "--failed"]), done("0 failed jobs queued again"));
    house.bench.assert_ledger_is_the_truth().await;
    // What does not lie there any more may be forgotten: the job that was sent before.
    let (code, words, _) = house.operator(&["prune", "--older-than", "0s"]);
    assert_eq!((code, words.as_str()), (0, "1 job forgotten\n"));
    for look in [&["list"][..], &["show", &path], &["status"], &["why", &path], &["export"]] {
        let (code, out, words) = house.operator(look);
        assert!(code == 0 && !out.is_empty() && words.is_empty(), "{look:?}: {code} {out} {words}");
    }

    assert_eq!(house.left(), [] as [String; 0]);
    let state = house.bench.state_dir();
    assert_eq!((mode(&state), mode(&state.join("upspool.db")), mode(&house.spool())), (0o750, 0o640, 0o1770));
    let writable = "touch \"$0/x\" || ln -s /tmp \"$0/y\" || : >>\"$0/upspool.db\" || rm -f \"$0/upspool.db\" || \
                    mv \"$0/asks\" \"$0/z\" || rm -rf \"$0/upspool.db.witness\"";
    let mut tries = Command::new("setpriv");
    tries.args([format!("--reuid={OPERATOR}"), format!("--regid={OPERATOR}"), format!("--groups={GROUP}")]);
    tries.args(["sh", "-c", writable]).arg(&state);
    assert_ne!(said(tries).0, 0, "the ledger is not the group's");
    // Who asked is in the rows and in the log.
    let by = house.sqlite("SELECT DISTINCT asked_by FROM requests");
    assert_eq!(by, OPERATOR.to_string());
    let (_, log) = service.stop().await;
    let asked: Vec<_> = of_event(&log, "asked").collect();
    assert!(asked.iter().all(|line| line["uid"] == OPERATOR), "{asked:?}");
    assert!(
        asked.iter().any(|line| line["job"] == 1 && line["message"] == "user 61002 asks: cancel"),
        "{asked:?}"
    );
    assert_eq!(of_event(&log, "ask-refused").count(), 0);
}

#[tokio::test]
async fn who_may_write_the_ledger_asks_as_before_and_who_is_not_in_the_group_is_told_how_to_be() {
    let Some(house) = house().await else { return };
    let service = house.start();
    service.wait_event("ready").await;
    assert_eq!(said(house.run(&["pause"])), done("all folders: paused"));
    assert_eq!(said(house.bench.command(&["resume"])), done("all folders: resumed"));
    assert_eq!(house.sqlite("SELECT count(*) FROM requests WHERE token IS NULL AND asked_by IS NULL"), "2");
    for arguments in [&["pause"][..], &["list"], &["cancel", "1"], &["prune", "--older-than", "1d"]] {
        let (code, out, words) = house.nobody(arguments);
        assert_eq!((code, out.as_str(), words.lines().count()), (1, "", 1), "{arguments:?} {words}");
        assert!(words.contains("sudo usermod -aG daemon nobody, and log in again"), "{words}");
        assert!(words.contains(&format!("sudo -u '#{SERVICE}' upspool …")), "{words}");
    }
    let (code, _, words) = house.nobody(&["status"]);
    assert!(code == 3 && words.contains("this user may not ask whether a service runs"), "{code} {words}");
    service.stop().await;
    assert_eq!(house.sqlite("SELECT count(*) FROM requests"), "2");
}

#[tokio::test]
async fn what_the_group_asked_while_no_service_ran_is_done_at_the_next_start_in_the_order_asked() {
    let Some(house) = house().await else { return };
    let (code, _, words) = house.operator(&["pause"]);
    assert!(code == 1 && words.contains("there is no store at"), "before the first start: {words}");
    assert!(words.contains("start the service once"), "{words}");
    assert_eq!(house.once().await.0, Some(0));
    let later = "recorded; taken up when the service starts";
    for round in 1..=3 {
        let name = format!("{round}.bin");
        let path = house.drop_file(&name, &noise(1000, round));
        assert_eq!(house.operator(&["pause"]), done(&format!("all folders: {later}")));
        assert_eq!(house.left().len(), 1);
        assert_eq!(house.once().await.0, Some(75), "round {round}");
        assert_eq!(house.bench.record(&name).await.state, State::Queued, "round {round}");
        assert_eq!(house.left().len(), 0);
        // Two of one job: the second hangs on what came of the first.
        let job = format!("job {round}: {later}");
        assert_eq!(house.operator(&["cancel", &path]), done(&job));
        assert_eq!(house.operator(&["retry", &path]), done(&job));
        assert_eq!(house.operator(&["resume"]), done(&format!("all folders: {later}")));
        let (code, log) = house.once().await;
        assert_eq!(house.bench.record(&name).await.state, State::Stored, "round {round}: {code:?}\n{log}");
    }
    house.bench.assert_ledger_is_the_truth().await;
}

#[tokio::test]
async fn a_state_directory_of_an_older_version_gets_its_spool_at_the_next_start() {
    let Some(house) = house().await else { return };
    assert_eq!(house.once().await.0, Some(0));
    fs::remove_dir(house.spool()).unwrap();
    // A spool that was lost is no reason to tell a member of the group to join it.
    let (code, _, words) = house.operator(&["pause"]);
    assert!(code == 1 && words.contains("this user cannot write") && !words.contains("usermod"), "{words}");
    house.sqlite(
        "DROP INDEX requests_token; ALTER TABLE requests DROP COLUMN token; \
         ALTER TABLE requests DROP COLUMN asked_by; ALTER TABLE parts DROP COLUMN xxh3; \
         DELETE FROM _sqlx_migrations WHERE version >= 6",
    );
    let (code, _, words) = house.operator(&["pause"]);
    assert!(code == 1 && words.contains("start the service once"), "{words}");
    let service = house.start();
    service.wait_event("ready").await;
    assert_eq!(mode(&house.spool()), 0o1770);
    assert_eq!(house.operator(&["pause"]), done("all folders: paused"));
    service.stop().await;
}

#[tokio::test]
async fn what_is_no_ask_is_told_of_once_and_keeps_nobody_from_asking_or_sending() {
    let Some(house) = house().await else { return };
    let secret = house.bench.path("secret");
    fs::write(&secret, r#"{"version":1,"requests":[{"kind":"pause"}]}"#).unwrap();
    assert_eq!(house.once().await.0, Some(0));
    let spool = house.spool();
    fs::write(spool.join("wrong.ask"), "what is this?").unwrap();
    fs::write(spool.join("unknown.ask"), r#"{"version":1,"requests":[{"kind":"dance","job":1}]}"#).unwrap();
    symlink(&secret, spool.join("link.ask")).unwrap();
    let fifo = rustix::fs::FileType::Fifo;
    let anybody = rustix::fs::Mode::from_raw_mode(0o666);
    rustix::fs::mknodat(rustix::fs::CWD, spool.join("fifo.ask"), fifo, anybody, 0).unwrap();
    fs::create_dir_all(spool.join("full.ask/inside")).unwrap();
    fs::write(spool.join("note\n.txt"), "somebody's").unwrap();
    fs::File::create(spool.join("large.ask")).unwrap().set_len(1 << 40).unwrap();
    let service = house.start();
    service.wait_event("ready").await;
    house.drop_file("a.txt", b"a");
    service.wait_stored(1).await;
    // Two of them one after the other: at least one look was between.
    assert_eq!(house.operator(&["pause"]), done("all folders: paused"));
    assert_eq!(house.operator(&["resume"]), done("all folders: resumed"));
    assert!(house.answer("unknown").await.contains("does not know the request \"dance\""));
    assert_eq!(house.left(), ["full.ask", "note\n.txt"]);
    assert!(secret.exists());
    let (status, log) = service.stop().await;
    assert_eq!(status.code(), Some(0));
    let mut refused: Vec<_> =
        of_event(&log, "ask-refused").map(|line| line["message"].as_str().unwrap()).collect();
    refused.sort_unstable();
    let expected = [
        "asks/fifo.ask is not taken: it is no regular file; taken away",
        "asks/full.ask is not taken: it is no regular file; left where it is",
        "asks/large.ask is not taken: it is larger than 65536 bytes; taken away",
        "asks/link.ask is not taken: it is a symbolic link; taken away",
        "asks/note\\x0a.txt is not taken: its name is not that of an ask; left where it is",
        "asks/wrong.ask is not taken: it says expected value at line 1 column 1; taken away",
    ];
    assert_eq!(refused, expected);
    assert_eq!(house.once().await.0, Some(0), "what stays there keeps no run from ending");
}

#[tokio::test]
async fn a_spool_that_is_not_the_services_own_is_not_used_and_the_service_runs() {
    let Some(house) = house().await else { return };
    assert_eq!(house.once().await.0, Some(0));
    let elsewhere = house.bench.path("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    let before = mode(&elsewhere);
    fs::remove_dir(house.spool()).unwrap();
    symlink(&elsewhere, house.spool()).unwrap();
    house.drop_file("a.txt", b"a");
    let (code, log) = house.once().await;
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("asks-unreadable") && log.contains("only this user and root can ask"), "{log}");
    assert_eq!((mode(&elsewhere), fs::read_dir(&elsewhere).unwrap().count()), (before, 0));
    let (code, _, words) = house.operator(&["pause"]);
    assert!(code == 1 && words.contains("cannot leave the request in"), "{words}");
    assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
}

#[tokio::test]
async fn a_flood_of_asks_stops_no_upload_and_nobody_who_may_write_the_ledger() {
    const FLOOD: usize = 20_000;
    let Some(mut house) = house().await else { return };
    house.bench.tables = "[upload]\nparallel_parts = 2\npart_size = \"1 MiB\"\n".into();
    assert_eq!(house.once().await.0, Some(0));
    let hold = house.bench.emulator.hold(Calls::of(Operation::Part).nth(2), Point::Before);
    let service = house.start();
    service.wait_event("ready").await;
    house.drop_file("large.bin", &noise(16 * MIB, 1));
    hold.reached().await;
    // Made elsewhere on the same disk, so that all are there at one moment.
    let made = house.bench.path("made");
    fs::create_dir(&made).unwrap();
    for number in 0..FLOOD {
        let text =
            format!(r#"{{"version":1,"requests":[{{"kind":"cancel","job":{}}}]}}"#, 1000 + number % 700);
        fs::write(made.join(format!("{number:06}.ask")), text).unwrap();
    }
    for number in 0..FLOOD {
        let name = format!("{number:06}.ask");
        fs::rename(made.join(&name), house.spool().join(&name)).unwrap();
    }
    house.until("SELECT count(*) > 0 FROM requests WHERE answer LIKE 'there is no job 1%'").await;
    hold.release();
    service.wait_stored(1).await;
    let (code, words, _) = said(house.bench.command(&["pause", "--folder", "drop"]));
    assert_eq!(code, 0, "{words}");
    house.until("SELECT count(*) > 0 FROM requests WHERE token IS NULL AND answer = 'paused'").await;
    let status = fs::read_to_string(format!("/proc/{}/status", service.child.id())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(peak < 200 * 1024, "{peak} kB");
    let (status, log) = service.stop().await;
    assert_eq!(status.code(), Some(0));
    let lines = of_event(&log, "asked").count();
    let rows: usize = house.sqlite("SELECT count(*) FROM requests WHERE token IS NOT NULL").parse().unwrap();
    let left = house.left().len();
    assert!(left > 0, "the flood was over before the upload: it shows nothing");
    assert!(lines <= rows / 50 + 10, "{lines} lines for {rows} asks");
    // A stop may come between the commit of some and their removal.
    assert!((FLOOD..=FLOOD + 256).contains(&(rows + left)), "{rows} rows, {left} files");
    house.bench.assert_ledger_is_the_truth().await;
}

#[tokio::test]
async fn two_orders_of_one_job_in_one_moment_are_carried_out_one_after_the_other() {
    let Some(mut house) = house().await else { return };
    house.bench.tables = "[upload]\nparallel_parts = 2\npart_size = \"1 MiB\"\n".into();
    house.drop_file("large.bin", &noise(8 * MIB, 1));
    let hold = house.bench.emulator.hold(Calls::of(Operation::Part).from(3).times(2), Point::Before);
    let service = house.start();
    hold.reached_by(2).await;
    // Two Parts are on their way, and both orders are met by the same look.
    let orders = [request("cancel", Some(1)), request("retry", Some(1)), request("bump", Some(1))];
    leave(&house.bench.state_dir(), "0", &orders).unwrap();
    house.until("SELECT count(*) = 3 FROM requests WHERE answer IS NOT NULL").await;
    hold.release();
    service.wait_stored(1).await;
    let answers = house.sqlite("SELECT answer FROM requests ORDER BY id");
    assert_eq!(answers, "job 1 is cancelled\njob 1 is queued again\njob 1 is next");
    house.bench.record_when("large.bin", |record| record.state == State::Stored).await;
    let (status, _) = service.stop().await;
    assert_eq!(status.code(), Some(0));
    assert_eq!(
        house.bench.emulator.requests_of(Operation::Create).len(),
        2,
        "a new Upload for what was cancelled"
    );
    house.bench.assert_ledger_is_the_truth().await;
}
