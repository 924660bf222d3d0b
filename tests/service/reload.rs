//! A new configuration while the service runs: put into force whole, or refused whole.

use rustix::process::Signal;
use upspool::model::job::State;
use upspool_emulator::{Calls, Operation, Point};

use crate::harness::{Bench, PATIENCE, Service, noise};

/// Writes the configuration as it is now, and has it read again.
fn reload(bench: &Bench, service: &Service) {
    std::fs::write(bench.path("upspool.toml"), bench.config()).unwrap();
    service.signal(Signal::HUP);
}

async fn ready(service: &Service, times: usize) {
    while service.log().iter().filter(|line| line["event"] == "ready").count() < times {
        let known = service.log().len();
        assert!(!service.more_log(known, PATIENCE).await.is_empty(), "{}", service.raw_log());
    }
}

#[tokio::test]
async fn folders_come_and_go_and_an_upload_in_flight_goes_on() {
    let mut bench = Bench::new().await;
    bench.tables = "[upload]\npart_size = \"1 MiB\"\nparallel_parts = 1\n".into();
    let service = bench.start();
    service.wait_event("ready").await;
    let pid = service.child.id();
    let hold = bench.emulator.hold(Calls::of(Operation::Part).nth(2), Point::Before);
    bench.drop_file("large.bin", &noise(4 << 20, 1));
    hold.reached().await;
    std::fs::create_dir(bench.path("other")).unwrap();
    bench.folders =
        format!("[[folder]]\npath = {:?}\npurpose = \"batch\"\nsettle = \"50ms\"\n", bench.path("other"));
    reload(&bench, &service);
    service.wait_event("reloading").await;
    hold.release();
    ready(&service, 2).await;
    std::fs::write(bench.path("other/b.jsonl"), "{}\n").unwrap();
    service.wait_stored(2).await;
    assert_eq!(service.child.id(), pid);
    assert_eq!(bench.emulator.requests_of(Operation::Create).len(), 2, "the Upload in flight went on");
    assert_eq!(bench.emulator.requests_of(Operation::Part).len(), 5, "and no Part was sent twice");
    let purposes: Vec<String> = bench.records().await.into_iter().map(|record| record.purpose).collect();
    assert_eq!(purposes, ["user_data", "batch"]);
    // A folder that is gone from the configuration takes nothing more.
    bench.folders = String::new();
    reload(&bench, &service);
    ready(&service, 3).await;
    std::fs::write(bench.path("other/c.jsonl"), "{}\n").unwrap();
    bench.drop_file("last.txt", b"last");
    service.wait_stored(3).await;
    let said =
        bench.command(&["why", bench.path("other/c.jsonl").to_str().unwrap(), "--json"]).output().unwrap();
    assert!(String::from_utf8(said.stdout).unwrap().contains("\"not-covered\""));
    let (status, _) = service.stop().await;
    assert_eq!(status.code(), Some(0));
    assert!(bench.records().await.iter().all(|record| record.state == State::Stored));
}

#[tokio::test]
async fn a_wrong_configuration_changes_nothing_and_says_its_lines() {
    let mut bench = Bench::new().await;
    let service = bench.start();
    service.wait_event("ready").await;
    bench.folder = "hiden = true\nafter_upload = { move = \"../x\" }\n".into();
    reload(&bench, &service);
    let failed = service
        .wait_for("the fault", |line| {
            line["event"] == "reload-failed" && line["message"].as_str().unwrap_or_default().contains("hiden")
        })
        .await;
    assert_eq!(failed["code"], "config-invalid");
    assert!(failed["message"].as_str().unwrap().contains("did you mean \"hidden\"?"), "{failed}");
    service
        .wait_for("what stays", |line| {
            line["event"] == "reload-failed"
                && line["message"].as_str().unwrap_or_default().contains("stays in force")
        })
        .await;
    bench.drop_file("a.txt", b"a");
    service.wait_stored(1).await;
    // The state directory is in use.
    bench.folder = String::new();
    let config = bench.config().replace("/state\"", "/elsewhere\"");
    std::fs::write(bench.path("upspool.toml"), config).unwrap();
    service.signal(Signal::HUP);
    service
        .wait_for("the state directory", |line| {
            line["message"].as_str().unwrap_or_default().contains("changes with a restart only")
        })
        .await;
    // What is right again is taken, and so is what is logged.
    let config = bench.config().replacen("level = \"debug\"", "level = \"warn\"", 1);
    std::fs::write(bench.path("upspool.toml"), config).unwrap();
    service.signal(Signal::HUP);
    let path = bench.drop_file("b.txt", b"b");
    let (state, path) = (bench.state_dir(), path.to_str().unwrap().to_owned());
    let waited =
        bench.plain_command(&["--state-dir", state.to_str().unwrap(), "wait", &path]).output().unwrap();
    assert_eq!(waited.status.code(), Some(0), "{waited:?}");
    let (status, log) = service.stop().await;
    assert_eq!(status.code(), Some(0));
    let stored = log.iter().filter(|line| line["event"] == "stored").count();
    assert!(
        bench.records().await.len() == 2 && stored == 1,
        "nothing is said below a warning any more: {log:#?}"
    );
}

#[tokio::test]
async fn a_stop_during_a_reload_is_a_stop() {
    let mut bench = Bench::new().await;
    bench.tables = "[upload]\npart_size = \"1 MiB\"\n".into();
    let service = bench.start();
    let hold = bench.emulator.hold(Calls::of(Operation::Part).nth(1), Point::Before);
    bench.drop_file("large.bin", &noise(2 << 20, 1));
    hold.reached().await;
    reload(&bench, &service);
    service.wait_event("reloading").await;
    service.signal(Signal::TERM);
    service.wait_event("stopping").await;
    hold.release();
    let (status, raw) = service.ended().await;
    assert_eq!(status.code(), Some(0), "{raw}");
    assert_eq!(raw.matches("\"event\":\"ready\"").count(), 1, "{raw}");
}
