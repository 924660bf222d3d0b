//! Servers that are not OpenAI's own, keys that are wrong, accounts that are several.

use upspool::model::job::State;
use upspool_emulator::{Action, Calls, Emulator, Operation, Point, Reply};

use crate::harness::{Bench, PATIENCE, noise};

const MIB: usize = 1024 * 1024;

#[tokio::test]
async fn azure_is_spoken_by_configuration_alone() {
    let mut bench = Bench::with(Emulator::builder().azure()).await;
    bench.api = "auth = \"api-key\"\nquery = { api-version = \"2024-10-21\" }\n".into();
    bench.folder = "purpose = \"batch\"\n".into();
    bench.drop_file("small.jsonl", b"{}\n");
    bench.drop_file("large.jsonl", &noise(5 * MIB, 1));
    let (code, printed, log) = bench.once(&[]).await;
    assert_eq!(code, 0, "{printed}\n{log:#?}");
    bench.assert_ledger_is_the_truth().await;
    let requests = bench.emulator.requests();
    assert!(requests.iter().all(|request| { request.query.contains("api-version=2024-10-21") }));
    assert!(requests.iter().all(|request| request.header("authorization").is_none()));
    let parts = bench.emulator.requests_of(Operation::Part);
    let odd = |id: &str| id.contains(['/', '+', '=']);
    assert!(parts.iter().any(|part| part.part_id.as_deref().is_some_and(odd)), "Part ids are Azure's");
}

#[tokio::test]
async fn a_rejected_key_is_a_hold_and_a_new_key_file_ends_it() {
    let bench = Bench::new().await;
    bench.set_key("sk-wrong");
    for number in 0..40 {
        bench.drop_file(format!("{number}"), b"x");
    }
    let service = bench.start();
    let line = service.wait_event("hold").await;
    assert_eq!(line["code"], "key-rejected");
    let status = bench.command(&["status"]).output().unwrap();
    let text = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(text.contains("key-rejected") && text.contains("check the key"), "{text}");
    assert!(bench.records().await.iter().all(|record| record.state == State::Queued && record.attempts == 0));
    let refused = bench.emulator.requests().len();
    assert!(refused <= 40, "{refused} requests with a wrong key");
    bench.set_key(upspool_emulator::DEFAULT_KEY);
    service.wait_event("resumed").await;
    service.wait_stored(40).await;
    assert!(
        service.log().iter().filter(|line| line["event"] == "hold").count() == 1,
        "one line for one hold"
    );
    service.stop().await;
    bench.assert_ledger_is_the_truth().await;
}

#[tokio::test]
async fn a_run_once_with_a_rejected_key_says_try_later() {
    let bench = Bench::new().await;
    bench.set_key("sk-wrong");
    bench.drop_file("a", b"x");
    let (code, printed, _) = bench.once(&[]).await;
    assert_eq!((code, printed.as_str()), (75, ""));
    assert_eq!(bench.record("a").await.state, State::Queued);
}

#[tokio::test]
async fn an_outage_is_a_hold_and_what_was_half_sent_goes_on() {
    let mut bench = Bench::new().await;
    bench.tables = "[upload]\nparallel_parts = 2\npart_size = \"1 MiB\"\n".into();
    bench.drop_file("large.bin", &noise(8 * MIB, 1));
    let hold = bench.emulator.hold(Calls::of(Operation::Part).nth(3), Point::Before);
    let service = bench.start();
    hold.reached().await;
    bench.drop_file("other.bin", &noise(MIB / 2, 2));
    drop(hold);
    bench.emulator.pause().await;
    let line = service.wait_event("hold").await;
    assert_eq!(line["code"], "network");
    bench.emulator.resume().await.unwrap();
    let asked = bench.command(&["resume"]).output().unwrap();
    assert_eq!(asked.status.code(), Some(0), "{asked:?}");
    service.wait_stored(2).await;
    service.stop().await;
    bench.assert_ledger_is_the_truth().await;
    assert_eq!(bench.emulator.requests_of(Operation::Create).len(), 2, "the Upload outlived the outage");
}

#[tokio::test]
async fn each_account_has_its_own_server_key_and_hold() {
    let other = Emulator::builder().api_key("sk-other").start().await.unwrap();
    let mut bench = Bench::new().await;
    std::fs::create_dir(bench.path("eu")).unwrap();
    std::fs::write(bench.path("eu-key"), "sk-wrong\n").unwrap();
    bench.tables =
        format!("[accounts.eu]\nbase_url = {:?}\nkey_file = {:?}\n", other.base_url(), bench.path("eu-key"));
    bench.folders = format!(
        "[[folder]]\npath = {:?}\npurpose = \"batch\"\naccount = \"eu\"\nsettle = \"100ms\"\n",
        bench.path("eu")
    );
    std::fs::write(bench.path("eu").join("b.jsonl"), b"{}").unwrap();
    bench.drop_file("a.txt", b"a");
    let service = bench.start();
    service.wait_event("hold").await;
    service.wait_stored(1).await;
    assert_eq!(bench.record("b.jsonl").await.state, State::Queued, "one account's hold stops no other");
    std::fs::write(bench.path("eu-key"), "sk-other\n").unwrap();
    service.wait_stored(2).await;
    service.stop().await;
    assert_eq!(other.files().len(), 1);
    assert_eq!(bench.emulator.files().len(), 1);
    let record = bench.record("b.jsonl").await;
    assert_eq!((record.account.0.as_str(), record.base_url.as_str()), ("eu", other.base_url().as_str()));
    for (emulator, key) in [(&other, "sk-emulator"), (&bench.emulator, "sk-other")] {
        let leaked =
            emulator.requests().iter().any(|r| r.header("authorization").is_some_and(|v| v.contains(key)));
        assert!(!leaked, "a key was sent to the other server");
    }
}

#[tokio::test]
async fn an_upload_belongs_to_the_server_that_opened_it() {
    let other = Emulator::builder().start().await.unwrap();
    let mut bench = Bench::new().await;
    bench.tables = "[upload]\nparallel_parts = 2\npart_size = \"1 MiB\"\n".into();
    bench.drop_file("large.bin", &noise(6 * MIB, 1));
    let hold = bench.emulator.hold(Calls::of(Operation::Part).nth(4), Point::Before);
    let service = bench.start();
    hold.reached().await;
    service.kill().await;
    bench.api = format!("base_url = {:?}\n", other.base_url());
    let (code, printed, log) = bench.once(&[]).await;
    assert_eq!(code, 0, "{printed}\n{log:#?}");
    assert_eq!((bench.emulator.files().len(), other.files().len()), (0, 1));
    assert_eq!(bench.record("large.bin").await.base_url, other.base_url());
}

#[tokio::test]
async fn quota_and_rate_are_told_apart() {
    let bench = Bench::new().await;
    bench.emulator.fault(
        Calls::of(Operation::Create)
            .nth(1)
            .meet(Reply::status(429).code("insufficient_quota").kind("insufficient_quota")),
    );
    bench.drop_file("a", b"x");
    let service = bench.start();
    let line = service.wait_event("hold").await;
    assert_eq!(line["code"], "quota-exhausted");
    bench.command(&["resume"]).output().unwrap();
    service.wait_stored(1).await;
    bench
        .emulator
        .fault(Calls::of(Operation::Create).nth(1).meet(Reply::status(429).header("retry-after", "1")));
    bench.drop_file("b", b"y");
    let line = service.wait_event("retry").await;
    assert_eq!(line["code"], "rate-limited");
    service.wait_stored(2).await;
    service.stop().await;
    let creates = bench.emulator.requests_of(Operation::Create);
    let [.., refused, again] = creates.as_slice() else { panic!("{creates:?}") };
    assert!(again.started_ms - refused.started_ms >= 950, "Retry-After is obeyed");
}

#[tokio::test]
async fn a_redirect_is_not_followed_with_the_key_and_fails_no_file() {
    let thief = Emulator::builder().start().await.unwrap();
    let bench = Bench::new().await;
    let target = format!("{}/uploads", thief.base_url());
    bench.emulator.fault(Calls::any().meet(Reply::status(307).header("location", &target)));
    for name in ["a", "b", "c"] {
        bench.drop_file(name, b"x");
    }
    let (code, printed, log) = bench.once(&[]).await;
    assert_eq!((code, printed.as_str()), (75, ""));
    assert!(thief.requests().is_empty());
    assert!(log.iter().any(|line| line["event"] == "hold" && line["code"] == "bad-answer"), "{log:#?}");
    assert!(bench.records().await.iter().all(|record| record.state == State::Queued));
}

#[tokio::test]
async fn a_server_cannot_forge_a_line_of_the_log() {
    let bench = Bench::new().await;
    let forged = "bad\r\n2026-11-22T00:00:00Z  INFO stored as file-FAKE\u{202e}";
    bench.emulator.fault(Calls::of(Operation::Create).meet(Reply::status(400).message(forged)));
    bench.drop_file("a", b"x");
    let mut command = bench.command(&["run", "--once"]);
    command.env("UPSPOOL__LOG__FORMAT", "text");
    let output = command.output().unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(log.contains("bad\\x0d\\x0a2026"), "{log}");
    assert!(!log.lines().any(|line| line.starts_with("2026-11-22T00:00:00Z")), "{log}");
    assert!(!log.contains('\u{202e}'));
}

#[tokio::test]
async fn a_proxy_that_refuses_large_bodies_gets_smaller_parts() {
    let limits = upspool_emulator::Limits { part_bytes: 2_000_000, ..Default::default() };
    let bench = Bench::with(
        Emulator::builder()
            .limits(limits)
            .variants(upspool_emulator::Variants { part_too_large: 413, ..Default::default() }),
    )
    .await;
    let mut bench = bench;
    bench.tables = "[upload]\npart_size = \"8 MiB\"\n".into();
    bench.drop_file("large.bin", &noise(16 * MIB, 1));
    let (code, printed, log) = bench.once(&[]).await;
    assert_eq!(code, 0, "{printed}\n{log:#?}");
    bench.assert_ledger_is_the_truth().await;

    // What was learnt outlives the process: another file is sent in small Parts at once.
    let before = bench.emulator.requests_of(Operation::Create).len();
    assert!(before > 1);
    bench.drop_file("other.bin", &noise(16 * MIB, 2));
    let (code, printed, log) = bench.once(&[]).await;
    assert_eq!(code, 0, "{printed}\n{log:#?}");
    assert_eq!(bench.emulator.requests_of(Operation::Create).len(), before + 1);
    bench.assert_ledger_is_the_truth().await;
}

#[tokio::test]
async fn a_long_retry_after_is_shown_and_resume_does_not_wait_for_it() {
    let bench = Bench::new().await;
    bench
        .emulator
        .fault(Calls::of(Operation::Create).nth(1).meet(Reply::status(429).header("retry-after", "86400")));
    bench.drop_file("a", b"x");
    let service = bench.start();
    service.wait_event("retry").await;
    let shown = bench.command(&["status"]).output().unwrap();
    let text = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(
        text.contains(
            "Slowed down by the server: account default: 1 Part at once; the next request in 59 min"
        ),
        "{text}"
    );
    let asked = bench.command(&["resume"]).output().unwrap();
    assert_eq!(asked.status.code(), Some(0), "{asked:?}");
    service.wait_stored(1).await;
    service.stop().await;
    bench.assert_ledger_is_the_truth().await;
}

#[tokio::test]
async fn a_file_that_trips_the_server_fails_alone_with_the_servers_words_when_it_was_tried_for_long_enough() {
    let mut bench = Bench::new().await;
    bench.tables =
        "[retry]\nfirst_delay = \"20ms\"\nmax_delay = \"100ms\"\ngive_up_after = \"1500ms\"\n".into();
    bench.emulator.fault(
        Calls::of(Operation::Create)
            .filename("poison.txt")
            .meet(Reply::status(500).message("cannot digest this")),
    );
    bench.drop_file("poison.txt", b"poison");
    let service = bench.start();
    // Others go on beside it, one after the other.
    for number in 0..6 {
        bench.drop_file(format!("{number}.txt"), b"fine");
        service.wait_stored(number + 1).await;
    }
    let line = service.wait_event("failed").await;
    assert_eq!(line["code"], "server-error");
    let (_, log) = service.stop().await;
    assert!(log.iter().all(|line| line["event"] != "hold"), "one poison file holds nobody: {log:#?}");
    let record = bench.record("poison.txt").await;
    assert_eq!(record.state, State::Failed);
    let error = record.error.unwrap();
    assert!(error.message.contains("cannot digest this") && error.status == Some(500), "{error:?}");
    bench.assert_ledger_is_the_truth().await;
}

#[tokio::test]
async fn a_stalled_part_is_given_up_and_sent_again() {
    let mut bench = Bench::new().await;
    bench.api = "stall_timeout = \"1s\"\nanswer_timeout = \"10s\"\n".into();
    bench.emulator.fault(Calls::of(Operation::Part).nth(1).meet(Action::stall(Point::Body(100_000))));
    bench.drop_file("large.bin", &noise(24 * MIB, 1));
    let service = bench.start();
    let line = service.wait_event("retry").await;
    assert!(line["code"] == "stalled" || line["code"] == "network", "{line}");
    service.wait_stored(1).await;
    service.stop().await;
    bench.assert_ledger_is_the_truth().await;
}

#[tokio::test]
async fn the_usual_variables_name_the_proxy() {
    let mut bench = Bench::new().await;
    // A proxy for http gets the whole address; the emulator refuses it, and that is enough to see that it was asked.
    bench.env.insert("http_proxy".into(), bench.emulator.origin());
    bench.api = "base_url = \"http://api.invalid/v1\"\nplain_http = true\n".into();
    bench.drop_file("a", b"x");
    let service = bench.start();
    let request = bench.emulator.wait_for(|_| true, PATIENCE).await.unwrap();
    assert!(request.header("host").is_some_and(|host| host.starts_with("api.invalid")), "{request:?}");
    service.stop().await;
}

#[tokio::test]
async fn the_file_list_and_one_file_can_be_asked_for() {
    let bench = Bench::new().await;
    bench.drop_file("a", b"x");
    assert_eq!(bench.once(&[]).await.0, 0);
    let output = bench.command(&["check", "--online"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(bench.emulator.requests_of(Operation::List).len(), 1);
    bench.set_key("sk-wrong");
    let output = bench.command(&["check", "--online"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
}
