//! Answers that were lost: what can be found out is found out, and what cannot is for a person.

use std::time::Duration;

use serde_json::Value;
use upspool::model::job::State;
use upspool_emulator::variants::{CancelWhileLanding, CompleteWhileLanding, Outcome};
use upspool_emulator::{Action, Calls, Emulator, Lag, Late, Operation, Patch, Point, Reply, Variants};

use crate::harness::{Bench, noise};

const MIB: usize = 1024 * 1024;

/// A server that makes the File, and whose answer to the first complete is lost.
async fn losing(variants: Variants) -> Bench {
    let mut bench = Bench::with(Emulator::builder().variants(variants)).await;
    bench.tables = "[upload]\npart_size = \"1 MiB\"\n".into();
    bench.emulator.fault(Calls::of(Operation::Complete).nth(1).meet(Action::drop(Point::After)));
    bench
}

/// Another program of the same account makes a File.
async fn foreign(bench: &Bench, name: &str, content: &[u8]) -> String {
    use reqwest::multipart::{Form, Part};
    let form = Form::new()
        .text("purpose", "user_data")
        .part("file", Part::bytes(content.to_vec()).file_name(name.to_owned()));
    let request = reqwest::Client::new().post(format!("{}/files", bench.emulator.base_url()));
    let answer = request.bearer_auth(upspool_emulator::DEFAULT_KEY).multipart(form).send().await.unwrap();
    let file: Value = answer.json().await.unwrap();
    file["id"].as_str().unwrap().to_owned()
}

/// The Files that came of Uploads.
fn own(bench: &Bench) -> Vec<upspool_emulator::FileRecord> {
    bench.emulator.files().into_iter().filter(|file| file.upload_id.is_some()).collect()
}

async fn assert_stored_as_its_own(bench: &Bench, name: &str) {
    let files = own(bench);
    assert_eq!(files.len(), 1, "one File: {files:#?}");
    let record = bench.record(name).await;
    assert_eq!(record.state, State::Stored, "{record:#?}");
    assert_eq!(record.file_id.unwrap().0, files[0].id);
    let content = crate::harness::sha256_of(&bench.path("drop").join(name));
    assert_eq!(files[0].sha256.as_deref(), Some(content.as_str()));
}

#[tokio::test]
async fn a_lost_answer_to_complete_is_found_by_fence_and_list_whatever_the_server_refuses() {
    for (second_complete, cancel_after_complete) in [
        (Outcome::Refused(400), Outcome::Refused(400)),
        (Outcome::Refused(404), Outcome::Refused(409)),
        (Outcome::Refused(400), Outcome::Upload),
        (Outcome::Upload, Outcome::Refused(400)),
    ] {
        for size in [1000, 3 * MIB] {
            let mut bench =
                losing(Variants { second_complete, cancel_after_complete, ..Variants::default() }).await;
            bench.api = "complete_timeout = \"1s\"\n".into();
            bench.drop_file("a.bin", &noise(size, 1));
            let (code, printed, log) = bench.once(&[]).await;
            assert_eq!(code, 0, "{second_complete:?} {cancel_after_complete:?}: {printed}\n{log:#?}");
            assert_stored_as_its_own(&bench, "a.bin").await;
        }
    }
}

#[tokio::test]
async fn a_server_that_says_conflict_for_completed_is_waited_for_and_then_asked_otherwise() {
    let mut bench = losing(Variants { second_complete: Outcome::Refused(409), ..Variants::default() }).await;
    bench.api = "complete_timeout = \"1s\"\n".into();
    bench.drop_file("a.bin", &noise(1000, 1));
    let (code, printed, log) = bench.once(&[]).await;
    assert_eq!(code, 0, "{printed}\n{log:#?}");
    assert_stored_as_its_own(&bench, "a.bin").await;
    assert!(bench.emulator.requests_of(Operation::Complete).len() > 2, "it was waited out first");
}

#[tokio::test]
async fn the_list_is_read_page_by_page_past_files_of_the_same_name_and_size_from_other_programs() {
    let bench = losing(Variants::default()).await;
    bench.drop_file("a.bin", &noise(1000, 1));
    let hold = bench.emulator.hold(Calls::of(Operation::List).nth(1), Point::Before);
    let service = bench.start();
    hold.reached().await;
    // The same name and size in the same minute, and other content; and more Files than a page has.
    for number in 0..3 {
        foreign(&bench, "a.bin", &noise(1000, 100 + number)).await;
    }
    for number in 0..220 {
        foreign(&bench, "other.bin", &noise(8, number)).await;
    }
    hold.release();
    service.wait_stored(1).await;
    service.stop().await;
    assert_stored_as_its_own(&bench, "a.bin").await;
    assert!(bench.emulator.requests_of(Operation::List).len() >= 3, "page by page");
}

#[tokio::test]
async fn a_list_that_does_not_know_sizes_yet_and_one_that_lags_are_asked_again() {
    let bench = losing(Variants::default()).await;
    bench.emulator.faults([
        Calls::of(Operation::List).meet(Lag::lists(2)),
        Calls::of(Operation::List).meet(Patch::default().null("/data/0/bytes")),
    ]);
    bench.drop_file("a.bin", &noise(1000, 1));
    let (code, printed, log) = bench.once(&[]).await;
    assert_eq!(code, 0, "{printed}\n{log:#?}");
    assert_stored_as_its_own(&bench, "a.bin").await;
    assert_eq!(bench.emulator.requests_of(Operation::List).len(), 3);
    assert!(!bench.emulator.requests_of(Operation::Get).is_empty(), "the size is asked for");
}

#[tokio::test]
async fn a_complete_that_lands_late_makes_one_file() {
    for (cancel_while_landing, complete_while_landing) in [
        (CancelWhileLanding::Wins, CompleteWhileLanding::Refused),
        (CancelWhileLanding::Loses, CompleteWhileLanding::Refused),
        (CancelWhileLanding::Wins, CompleteWhileLanding::Lands),
    ] {
        for late in [Late::after_requests(2), Late::after_requests(2).status(504), Late::on_command()] {
            let variants = Variants { cancel_while_landing, complete_while_landing, ..Variants::default() };
            let mut bench = Bench::with(Emulator::builder().variants(variants)).await;
            bench.api = "complete_timeout = \"1s\"\n".into();
            bench.emulator.fault(Calls::of(Operation::Complete).nth(1).meet(late));
            bench.drop_file("a.bin", &noise(1000, 1));
            let (code, printed, log) = bench.once(&[]).await;
            assert_eq!(code, 0, "{printed}\n{log:#?}");
            assert_stored_as_its_own(&bench, "a.bin").await;
        }
    }
}

#[tokio::test]
async fn a_crash_between_fence_and_list_is_gone_on_with() {
    for (operation, point) in [
        (Operation::Cancel, Point::Before),
        (Operation::Cancel, Point::After),
        (Operation::List, Point::Before),
        (Operation::Content, Point::Before),
    ] {
        let bench = losing(Variants::default()).await;
        bench.drop_file("a.bin", &noise(1000, 1));
        let hold = bench.emulator.hold(Calls::of(operation).nth(1), point);
        let service = bench.start();
        hold.reached().await;
        service.kill().await;
        hold.release();
        let (code, printed, log) = bench.once(&[]).await;
        assert_eq!(code, 0, "{operation:?} {point:?}: {printed}\n{log:#?}");
        assert_stored_as_its_own(&bench, "a.bin").await;
    }
}

fn receipt_state(bench: &Bench) -> String {
    let text = std::fs::read(bench.path("drop/a.bin.upspool.json")).unwrap();
    let receipt: serde_json::Value = serde_json::from_slice(&text).unwrap();
    receipt["state"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_server_without_that_list_is_for_a_person_who_settles_it_by_one_command() {
    let unresolved = || async {
        let mut bench = losing(Variants::default()).await;
        bench.folder = "receipt = true\nafter_failure = { move = \"failed\" }\n".into();
        bench.emulator.fault(Calls::of(Operation::List).meet(Reply::status(404)));
        bench.drop_file("a.bin", &noise(1000, 1));
        let (code, printed, _) = bench.once(&[]).await;
        assert_eq!(code, 1, "{printed}");
        // Whoever waits for the receipt is told; the file stays for whoever decides.
        assert_eq!(receipt_state(&bench), "unresolved");
        assert!(bench.path("drop/a.bin").exists());
        assert!(printed.starts_with("unresolved complete-unresolved\t"), "{printed}");
        assert_eq!(bench.record("a.bin").await.state, State::Unresolved);
        assert_eq!(bench.once(&[]).await.1, "", "nor is it sent by a later run");
        assert_eq!(own(&bench).len(), 1);
        bench
    };
    let resolve = |bench: &Bench, arguments: &[&str]| {
        let output = bench.command(&[&["resolve", "1"], arguments].concat()).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };

    let bench = unresolved().await;
    let other = foreign(&bench, "a.bin", &noise(1000, 2)).await;
    let service = bench.start();
    service.wait_event("ready").await;
    let (code, said) = resolve(&bench, &["--file-id", &other]);
    assert!(code == Some(1) && said.contains("holds other bytes"), "{said}");
    let (code, said) = resolve(&bench, &["--file-id", "file-nowhere"]);
    assert!(code == Some(1) && said.contains("cannot be looked at"), "{said}");
    bench.emulator.fault(Calls::of(Operation::Content).nth(1).meet(Reply::status(400)));
    let right = own(&bench)[0].id.clone();
    let (code, said) = resolve(&bench, &["--file-id", &right]);
    assert!(code == Some(1) && said.contains("--unchecked"), "{said}");
    let (code, said) = resolve(&bench, &["--file-id", &right]);
    assert!(code == Some(0) && said.contains("exactly the bytes"), "{said}");
    let (code, said) = resolve(&bench, &["--again"]);
    assert!(code == Some(1) && said.contains("is stored"), "{said}");
    service.wait_event("receipt").await;
    service.stop().await;
    assert_eq!(receipt_state(&bench), "stored");
    assert_stored_as_its_own(&bench, "a.bin").await;

    // Without a service it is taken up at the next start; and of a File on a person's word nothing is asked.
    let bench = unresolved().await;
    let (code, said) = resolve(&bench, &["--file-id", "file-mine", "--unchecked"]);
    assert!(code == Some(0) && said.contains("when the service starts"), "{said}");
    let service = bench.start();
    service.wait_event("stored").await;
    service.stop().await;
    assert_eq!(bench.record("a.bin").await.file_id.unwrap().0, "file-mine");

    let bench = unresolved().await;
    let service = bench.start();
    service.wait_event("ready").await;
    let (code, said) = resolve(&bench, &["--again"]);
    assert_eq!(code, Some(0), "{said}");
    service.wait_stored(1).await;
    service.stop().await;
    assert_eq!(own(&bench).len(), 2, "as the person wanted");
}

#[tokio::test]
async fn a_file_of_another_size_is_never_taken_for_ours() {
    let bench = Bench::new().await;
    bench
        .emulator
        .fault(Calls::of(Operation::Complete).nth(1).meet(Patch::default().set("/file/bytes", 999)));
    bench.drop_file("a.bin", &noise(1000, 1));
    let (code, printed, _) = bench.once(&[]).await;
    assert_eq!(code, 1, "{printed}");
    let record = bench.record("a.bin").await;
    assert_eq!((record.state, record.candidates.len()), (State::Unresolved, 1));
}

#[tokio::test]
async fn azure_names_the_file_before_it_is_made_and_it_is_asked_for() {
    let mut bench = Bench::with(Emulator::builder().azure()).await;
    bench.api = "auth = \"api-key\"\nquery = { api-version = \"2024-10-21\" }\n".into();
    bench.folder = "purpose = \"batch\"\n".into();
    // Complete is acted on and says «pending».
    bench
        .emulator
        .fault(Calls::of(Operation::Complete).nth(1).meet(Patch::default().set("/status", "pending")));
    bench.drop_file("a.jsonl", b"{}\n");
    let (code, printed, log) = bench.once(&[]).await;
    assert_eq!(code, 0, "{printed}\n{log:#?}");
    assert_stored_as_its_own(&bench, "a.jsonl").await;
    assert_eq!(bench.emulator.requests_of(Operation::Complete).len(), 1, "the File is asked for instead");
    assert_eq!(bench.emulator.requests_of(Operation::Get).len(), 1);
}

#[tokio::test]
async fn lost_answers_to_create_and_part_cost_an_upload_or_a_part_and_no_file() {
    let mut bench = Bench::new().await;
    bench.tables = "[upload]\npart_size = \"1 MiB\"\n".into();
    bench.emulator.faults([
        Calls::of(Operation::Create).nth(1).meet(Action::drop(Point::After)),
        Calls::of(Operation::Part).nth(2).meet(Action::drop(Point::After)),
    ]);
    bench.drop_file("a.bin", &noise(3 * MIB, 1));
    let (code, printed, log) = bench.once(&[]).await;
    assert_eq!(code, 0, "{printed}\n{log:#?}");
    assert_stored_as_its_own(&bench, "a.bin").await;
    assert_eq!(bench.emulator.requests_of(Operation::Create).len(), 2);
    assert_eq!(bench.emulator.requests_of(Operation::Part).len(), 4);
}

#[tokio::test]
async fn a_server_that_counts_parts_whose_answer_was_lost_gets_a_new_upload_each_time_and_no_refusal_counts()
{
    let variants = Variants {
        unlisted_parts: upspool_emulator::variants::UnlistedParts::Counted,
        ..Variants::default()
    };
    let mut bench = Bench::with(Emulator::builder().variants(variants)).await;
    bench.tables = "[upload]\npart_size = \"1 MiB\"\nparallel_parts = 1\n".into();
    // In each of the first three Uploads the answer to one Part is lost.
    for nth in [1, 5, 9] {
        bench.emulator.fault(Calls::of(Operation::Part).nth(nth).meet(Action::drop(Point::After)));
    }
    bench.drop_file("a.bin", &noise(3 * MIB, 1));
    let (code, printed, log) = bench.once(&[]).await;
    assert_eq!(code, 0, "{printed}\n{log:#?}");
    assert_stored_as_its_own(&bench, "a.bin").await;
    assert_eq!(bench.emulator.requests_of(Operation::Create).len(), 4);
}

#[tokio::test]
async fn clocks_of_the_server_that_are_wrong_by_years_change_nothing() {
    for skew in [-400 * 86_400, 400 * 86_400] {
        let mut bench = Bench::with(Emulator::builder().skew(skew)).await;
        bench.tables = "[upload]\npart_size = \"1 MiB\"\n".into();
        bench.emulator.fault(Calls::of(Operation::Complete).nth(1).meet(Action::drop(Point::After)));
        bench
            .emulator
            .fault(Calls::of(Operation::Part).nth(1).meet(Reply::status(429).header("retry-after-ms", "50")));
        bench.drop_file("a.bin", &noise(3 * MIB, 1));
        let (code, printed, log) = bench.once(&[]).await;
        assert_eq!(code, 0, "{skew}: {printed}\n{log:#?}");
        assert_stored_as_its_own(&bench, "a.bin").await;
        assert_eq!(bench.emulator.requests_of(Operation::Create).len(), 1);
    }
}

#[tokio::test]
async fn a_slow_complete_is_waited_for() {
    let mut bench = Bench::new().await;
    // Every other patience is shorter than what the server takes to put the file together.
    bench.api = "answer_timeout = \"300ms\"\nstall_timeout = \"300ms\"\n".into();
    bench.emulator.fault(
        Calls::of(Operation::Complete).nth(1).meet(Action::delay(Point::Before, Duration::from_millis(1500))),
    );
    bench.drop_file("a.bin", &noise(1000, 1));
    let (code, printed, _) = bench.once(&[]).await;
    assert_eq!(code, 0, "{printed}");
    assert_eq!(bench.emulator.requests_of(Operation::Complete).len(), 1);
    let none =
        bench.emulator.wait_for(|request| request.operation == Operation::Cancel, Duration::ZERO).await;
    assert!(none.is_err());
}
