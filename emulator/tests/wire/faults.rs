//! Each fault, as a client sees it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::spawn_blocking;
use upspool_emulator::variants::{CancelWhileLanding, CompleteWhileLanding, Outcome};
use upspool_emulator::{
    Action, Body, Calls, DEFAULT_KEY, Emulator, Lag, Late, Operation, Patch, Point, Reply, ScriptFile, Then,
    UploadStatus, Variants,
};

use crate::client::{SOON, Wire, answered, upload_of, wire};

/// Longer than any test lasts.
const NEVER: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn the_nth_call_meets_a_status_with_headers_and_no_work() {
    let wire = wire().await;
    let reply = Reply::status(429)
        .header("Retry-After", "7")
        .code("insufficient_quota")
        .kind("insufficient_quota")
        .message("no money");
    wire.emulator.fault(Calls::of(Operation::Create).nth(2).meet(reply));
    wire.create(1).await;
    let response = wire.try_post("/uploads", upload_of(1)).await.unwrap();
    assert_eq!(
        (response.status().as_u16(), &response.headers()["retry-after"]),
        (429, &"7".parse().unwrap())
    );
    let (_, answer) = answered(response).await;
    let expected = json!({"message": "no money", "type": "insufficient_quota", "param": null, "code": "insufficient_quota"});
    assert_eq!(answer["error"], expected);
    wire.create(1).await;
    assert_eq!(wire.emulator.uploads().len(), 2);
    let requests = wire.emulator.requests();
    assert_eq!(requests[1].faults, ["answer 429 at Before"]);
    assert!(!requests[1].worked && requests[0].worked);
}

#[tokio::test]
async fn calls_are_chosen_by_count_and_name() {
    let cases = [
        (Calls::any(), vec![1, 2, 3, 4, 5, 6]),
        (Calls::of(Operation::Create), vec![1, 2, 3, 4, 5, 6]),
        (Calls::of(Operation::Part), vec![]),
        (Calls::any().nth(3), vec![3]),
        (Calls::any().every(2), vec![2, 4, 6]),
        (Calls::any().from(5), vec![5, 6]),
        (Calls::any().times(2), vec![1, 2]),
        (Calls::any().from(2).times(2), vec![2, 3]),
        (Calls::any().filename("even"), vec![2, 4, 6]),
        (Calls::any().filename("even").nth(2), vec![4]),
    ];
    for (calls, met) in cases {
        let wire = wire().await;
        wire.emulator.fault(calls.clone().meet(Reply::status(500)));
        let mut failed = Vec::new();
        for number in 1..=6 {
            let mut body = upload_of(1);
            body["filename"] = json!(if number % 2 == 0 { "even" } else { "odd" });
            if wire.post("/uploads", body).await.0 == 500 {
                failed.push(number);
            }
        }
        assert_eq!(failed, met, "{calls:?}");
    }
}

#[tokio::test]
async fn an_answer_after_the_work_hides_that_it_was_done() {
    let wire = wire().await;
    wire.emulator.fault(Calls::of(Operation::Complete).nth(1).meet(Reply::status(500).at(Point::After)));
    let (upload, part) = wire.filled(b"x").await;
    assert_eq!(wire.complete(&upload, &[&part]).await.0, 500);
    assert_eq!(wire.emulator.files().len(), 1);
    assert!(wire.emulator.requests_of(Operation::Complete)[0].worked);
}

#[tokio::test]
async fn bodies_that_are_no_answer() {
    let cases = [
        (Body::Html, "<!DOCTYPE html>"),
        (Body::Empty, ""),
        (Body::Garbage, "{\"id\": \"file-"),
        (Body::Text("hm".into()), "hm"),
        (Body::Json(json!({"a": 1})), "{\"a\":1}"),
    ];
    for (body, start) in cases {
        let wire = wire().await;
        wire.emulator.fault(Calls::any().meet(Reply::ok(body)));
        let response = wire.try_post("/uploads", upload_of(1)).await.unwrap();
        assert_eq!(response.status(), 200);
        assert!(response.text().await.unwrap().starts_with(start));
    }
}

#[tokio::test]
async fn an_endless_body_does_not_end() {
    let wire = wire().await;
    wire.emulator.fault(Calls::any().meet(Reply::ok(Body::Endless)));
    let mut response = wire.try_post("/uploads", upload_of(1)).await.unwrap();
    let mut read = 0;
    while read < 10 << 20 {
        read += response.chunk().await.unwrap().unwrap().len();
    }
    drop(response);
    let request = wire.emulator.wait_for(|request| request.finished, SOON).await.unwrap();
    assert!(!request.delivered);
}

#[tokio::test]
async fn a_redirect_is_an_answer_with_a_location() {
    let wire = wire().await;
    let reply = Reply::status(307).header("location", &format!("{}/stolen", wire.emulator.origin()));
    wire.emulator.fault(Calls::any().nth(1).meet(reply));
    assert_eq!(wire.get("/files").await.0, 404);
    assert_eq!(wire.emulator.requests()[1].path, "/stolen");
}

#[tokio::test]
async fn a_drop_ends_the_connection_before_or_after_the_work() {
    for (at, uploads) in [(Point::Unread, 0), (Point::Before, 0), (Point::After, 1)] {
        for action in [Action::drop(at), Action::reset(at)] {
            let wire = wire().await;
            wire.emulator.fault(Calls::any().nth(1).meet(action));
            let error = wire.try_post("/uploads", upload_of(1)).await.unwrap_err();
            assert!(error.is_request(), "{error:?}");
            assert_eq!(wire.emulator.uploads().len(), uploads, "{at:?}");
            let request = wire.emulator.wait_for(|request| request.finished, SOON).await.unwrap();
            assert!(!request.delivered);
            wire.create(1).await;
        }
    }
}

#[tokio::test]
async fn a_drop_within_the_body_leaves_no_part() {
    let wire = wire().await;
    wire.emulator.fault(Calls::of(Operation::Part).nth(1).meet(Action::reset(Point::Body(100_000))));
    let content = vec![7; 8 << 20];
    let upload = wire.create(content.len()).await;
    wire.try_part(&upload, &content).await.unwrap_err();
    let request = wire
        .emulator
        .wait_for(|request| request.operation == Operation::Part && request.finished, SOON)
        .await
        .unwrap();
    assert!((100_000..8 << 20).contains(&request.body_bytes), "{}", request.body_bytes);
    assert!(wire.emulator.uploads()[0].parts.is_empty());
    wire.part(&upload, &content).await;
}

#[tokio::test]
async fn a_stall_never_answers() {
    for (at, uploads) in [(Point::Unread, 0), (Point::Before, 0), (Point::After, 1)] {
        let wire = wire().await;
        wire.emulator.fault(Calls::any().nth(1).meet(Action::stall(at)));
        let body = upload_of(1);
        let call = wire.try_post("/uploads", body);
        assert!(tokio::time::timeout(Duration::from_millis(300), call).await.is_err());
        assert_eq!(wire.emulator.uploads().len(), uploads, "{at:?}");
    }
}

#[tokio::test]
async fn a_stall_within_the_body_stops_reading() {
    let wire = wire().await;
    wire.emulator.fault(Calls::of(Operation::Part).meet(Action::stall(Point::Body(100_000))));
    let content = vec![7; 32 << 20];
    let upload = wire.create(content.len()).await;
    let call = wire.try_part(&upload, &content);
    assert!(tokio::time::timeout(Duration::from_millis(500), call).await.is_err());
    let read = wire.emulator.requests_of(Operation::Part)[0].body_bytes;
    assert!((100_000..2 << 20).contains(&read), "{read}");
}

#[tokio::test]
async fn half_an_answer_promises_more_than_it_sends() {
    let wire = wire().await;
    wire.emulator.fault(Calls::of(Operation::Complete).nth(1).meet(Action::half()));
    let (upload, part) = wire.filled(b"x").await;
    let mut response =
        wire.try_post(&format!("/uploads/{upload}/complete"), json!({"part_ids": [part]})).await.unwrap();
    assert_eq!(response.status(), 200);
    let promised = response.content_length().unwrap();
    let half = response.chunk().await.unwrap().unwrap();
    assert_eq!(half.len() as u64, promised / 2);
    assert!(half.starts_with(b"{"));
    response.chunk().await.unwrap_err();
    let request =
        wire.emulator.wait_for(|r| r.operation == Operation::Complete && r.finished, SOON).await.unwrap();
    assert!(request.worked && !request.delivered);
}

/// An early answer by a raw client: the answer, and whether the rest of the body could be sent.
async fn early(wire: &Wire, then: Then) -> (String, bool) {
    wire.emulator
        .fault(Calls::of(Operation::Part).nth(1).meet(Reply::status(401).at(Point::Unread).then(then)));
    let address = wire.emulator.address();
    spawn_blocking(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
        let length = 64 << 20;
        let head = format!(
            "POST /v1/uploads/x/parts HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {DEFAULT_KEY}\r\n\
             content-type: multipart/form-data; boundary=x\r\ncontent-length: {length}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = vec![0; 12];
        stream.read_exact(&mut answer).unwrap();
        let sent = stream.write_all(&vec![b'x'; length]).is_ok();
        (String::from_utf8(answer).unwrap(), sent)
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn an_early_answer_comes_before_the_body_is_read() {
    for (then, all_sent) in
        [(Then::Linger, true), (Then::Stay, false), (Then::Close, false), (Then::Reset, false)]
    {
        let wire = wire().await;
        assert_eq!(early(&wire, then).await, ("HTTP/1.1 401".to_owned(), all_sent), "{then:?}");
        let request = wire.emulator.wait_for(|request| request.delivered, SOON).await.unwrap();
        assert_eq!(request.body_bytes, 0);
    }
}

#[tokio::test]
async fn an_answer_within_the_body() {
    let wire = wire().await;
    wire.emulator.fault(Calls::of(Operation::Part).nth(1).meet(Reply::status(413).at(Point::Body(1000))));
    let upload = wire.create(8 << 20).await;
    assert_eq!(wire.part_answer(&upload, &vec![1; 8 << 20]).await.0, 413);
    let request = wire.emulator.requests_of(Operation::Part).remove(0);
    assert!((1000..8 << 20).contains(&request.body_bytes));
}

#[tokio::test]
async fn a_delay_and_a_slow_body_take_their_time() {
    let wire = wire().await;
    wire.emulator
        .fault(Calls::of(Operation::Create).meet(Action::delay(Point::After, Duration::from_millis(200))));
    wire.emulator.fault(Calls::of(Operation::Part).meet(Action::Slow { bytes_per_second: 500_000 }));
    let upload = wire.create(100_000).await;
    wire.part(&upload, &[3; 100_000]).await;
    wire.emulator.wait_until(|emulator| emulator.requests().iter().all(|r| r.finished), SOON).await.unwrap();
    for request in wire.emulator.requests() {
        assert!(request.finished_ms.unwrap() - request.started_ms >= 190, "{request:?}");
    }
}

#[tokio::test]
async fn an_upload_expires_is_cancelled_or_forgotten_in_the_middle() {
    for (action, status, word) in [
        (Action::Expire { at: Point::Before }, 400, "expired"),
        (Action::Cancel { at: Point::Before }, 400, "cancelled"),
        (Action::Purge { at: Point::Before }, 404, "No such"),
    ] {
        let wire = wire().await;
        wire.emulator.fault(Calls::of(Operation::Part).nth(2).meet(action));
        let upload = wire.create(2).await;
        wire.part(&upload, b"x").await;
        let (answered, answer) = wire.part_answer(&upload, b"y").await;
        assert_eq!(answered, status);
        assert!(answer["error"]["message"].as_str().unwrap().contains(word), "{answer}");
        assert_eq!(wire.complete(&upload, &[]).await.0, status);
    }
}

#[tokio::test]
async fn an_answer_is_patched() {
    let wire = wire().await;
    let patch = Patch::default().null("/file/bytes").set("/file/status", "uploaded").remove("/file/purpose");
    wire.emulator.fault(Calls::of(Operation::Complete).meet(patch));
    let (upload, part) = wire.filled(b"x").await;
    let (_, done) = wire.complete(&upload, &[&part]).await;
    assert_eq!((&done["file"]["bytes"], &done["file"]["status"]), (&Value::Null, &json!("uploaded")));
    assert!(done["file"].get("purpose").is_none());
    let (_, file) = wire.get(&format!("/files/{}", done["file"]["id"].as_str().unwrap())).await;
    assert_eq!(file["bytes"], 1);
}

#[tokio::test]
async fn a_complete_lands_late_by_the_clock() {
    let wire = wire().await;
    wire.emulator.fault(Calls::of(Operation::Complete).nth(1).meet(Late::after(NEVER).status(504)));
    let (upload, part) = wire.filled(b"x").await;
    assert_eq!(wire.complete(&upload, &[&part]).await.0, 504);
    assert!(wire.emulator.files().is_empty() && wire.emulator.uploads()[0].landing);
    wire.emulator.advance(NEVER);
    assert_eq!(wire.emulator.files().len(), 1);
    assert_eq!(wire.emulator.uploads()[0].status, UploadStatus::Completed);
}

#[tokio::test]
async fn a_complete_lands_late_by_requests_or_on_command() {
    let wire = wire().await;
    wire.emulator.fault(Calls::of(Operation::Complete).nth(1).meet(Late::after_requests(2)));
    wire.emulator.fault(Calls::of(Operation::Complete).nth(2).meet(Late::on_command().status(500)));
    let (upload, part) = wire.filled(b"x").await;
    let body = json!({"part_ids": [part]});
    wire.try_post(&format!("/uploads/{upload}/complete"), body).await.unwrap_err();
    let (_, none) = wire.get("/files").await;
    assert_eq!(none["data"], json!([]));
    let (_, one) = wire.get("/files").await;
    assert_eq!(one["data"].as_array().unwrap().len(), 1);

    let (upload, part) = wire.filled(b"x").await;
    assert_eq!(wire.complete(&upload, &[&part]).await.0, 500);
    wire.emulator.land(&upload);
    assert_eq!(wire.emulator.files().len(), 2);
}

#[tokio::test]
async fn a_late_complete_lands_in_real_time_without_requests() {
    let wire = wire().await;
    wire.emulator
        .fault(Calls::of(Operation::Complete).meet(Late::after(Duration::from_millis(50)).status(500)));
    let (upload, part) = wire.filled(b"x").await;
    wire.complete(&upload, &[&part]).await;
    wire.emulator.wait_until(|emulator| emulator.files().len() == 1, SOON).await.unwrap();
}

#[tokio::test]
async fn cancel_and_complete_meet_a_complete_that_has_not_landed() {
    let cases = [
        (CancelWhileLanding::Wins, "cancelled", UploadStatus::Cancelled, 0),
        (CancelWhileLanding::Loses, "completed", UploadStatus::Completed, 1),
        (CancelWhileLanding::Lies, "cancelled", UploadStatus::Cancelled, 1),
    ];
    for (cancel_while_landing, said, status, files) in cases {
        let wire = wire().await;
        wire.emulator.set_variants(Variants {
            cancel_while_landing,
            cancel_after_complete: Outcome::Upload,
            ..Variants::default()
        });
        wire.emulator.fault(Calls::of(Operation::Complete).meet(Late::on_command().status(500)));
        let (upload, part) = wire.filled(b"x").await;
        wire.complete(&upload, &[&part]).await;
        assert_eq!(wire.part_answer(&upload, b"y").await.0, 400);
        assert_eq!(wire.cancel(&upload).await.1["status"], said);
        wire.emulator.land(&upload);
        assert_eq!(wire.emulator.uploads()[0].status, status);
        assert_eq!(wire.emulator.files().len(), files);
    }
    for (complete_while_landing, status, files) in
        [(CompleteWhileLanding::Refused, 409, 0), (CompleteWhileLanding::Lands, 200, 1)]
    {
        let wire = wire().await;
        wire.emulator.set_variants(Variants {
            complete_while_landing,
            second_complete: Outcome::Upload,
            ..Variants::default()
        });
        wire.emulator.fault(Calls::of(Operation::Complete).nth(1).meet(Late::on_command().status(500)));
        let (upload, part) = wire.filled(b"x").await;
        wire.complete(&upload, &[&part]).await;
        assert_eq!(wire.complete(&upload, &[&part]).await.0, status);
        assert_eq!(wire.emulator.files().len(), files);
    }
}

#[tokio::test]
async fn a_list_lags_by_age_or_by_lists() {
    let wire = wire().await;
    let lists = async |wire: &Wire| wire.get("/files").await.1["data"].as_array().unwrap().len();
    wire.emulator.fault(Calls::of(Operation::List).meet(Lag::lists(2)));
    wire.file(b"x").await;
    assert_eq!((lists(&wire).await, lists(&wire).await, lists(&wire).await), (0, 0, 1));
    wire.emulator.clear_faults();
    wire.emulator.fault(Calls::of(Operation::List).meet(Lag::younger_than(NEVER)));
    assert_eq!(lists(&wire).await, 0);
    wire.emulator.advance(NEVER);
    assert_eq!(lists(&wire).await, 1);
}

#[tokio::test]
async fn a_hold_keeps_a_request_until_it_is_released() {
    for (at, uploads) in [(Point::Before, 0), (Point::After, 1)] {
        let wire = wire().await;
        let hold = wire.emulator.hold(Calls::of(Operation::Create).nth(1), at);
        let call = wire.create(1);
        let test = async {
            hold.reached().await;
            assert_eq!(wire.emulator.uploads().len(), uploads, "{at:?}");
            assert!(!wire.emulator.requests()[0].finished);
            hold.release();
        };
        tokio::join!(call, test);
        assert_eq!(wire.emulator.uploads().len(), 1);
    }
}

#[tokio::test]
async fn parts_in_flight_are_counted() {
    let wire = wire().await;
    let hold = wire.emulator.hold(Calls::of(Operation::Part), Point::Body(1));
    let upload = wire.create(3).await;
    let parts =
        async { tokio::join!(wire.part(&upload, b"1"), wire.part(&upload, b"2"), wire.part(&upload, b"3")) };
    let test = async {
        hold.reached_by(3).await;
        hold.release();
    };
    tokio::join!(parts, test);
    wire.part(&upload, b"4").await;
    assert_eq!(wire.emulator.most_parts_in_flight(), 3);
    assert_eq!(wire.emulator.requests_of(Operation::Part).last().unwrap().parts_in_flight, 1);
}

/// A process that sleeps until it is killed.
fn victim() -> std::process::Child {
    std::process::Command::new("sleep").arg("1000").spawn().unwrap()
}

#[tokio::test]
async fn a_process_is_killed_before_within_after_and_answered() {
    use std::os::unix::process::ExitStatusExt;
    for (at, uploads, answered) in [
        (Point::Unread, 0, false),
        (Point::Body(5), 0, false),
        (Point::Before, 0, false),
        (Point::After, 1, false),
        (Point::Answered, 1, true),
    ] {
        let wire = wire().await;
        let mut victim = victim();
        wire.emulator.set_victim(victim.id());
        wire.emulator.fault(Calls::of(Operation::Create).nth(1).meet(Action::kill(at)));
        let answer = wire.try_post("/uploads", upload_of(1)).await;
        assert_eq!(answer.is_ok(), answered, "{at:?}");
        let ended = spawn_blocking(move || victim.wait().unwrap()).await.unwrap();
        assert_eq!(ended.signal(), Some(9));
        assert_eq!(wire.emulator.uploads().len(), uploads, "{at:?}");
    }
}

#[tokio::test]
async fn a_client_that_goes_before_the_work_leaves_nothing_done() {
    let wire = wire().await;
    let hold = wire.emulator.hold(Calls::of(Operation::Complete), Point::Before);
    let (upload, part) = wire.filled(b"x").await;
    let parts = [part.as_str()];
    let call = wire.complete(&upload, &parts);
    tokio::select! {
        _ = call => panic!("the hold let it through"),
        () = hold.reached() => {}
    }
    let request =
        wire.emulator.wait_for(|r| r.operation == Operation::Complete && r.finished, SOON).await.unwrap();
    assert!(!request.worked && !request.delivered);
}

#[test]
fn every_fault_can_be_written_in_toml() {
    let script = r#"
        [limits]
        part_bytes = 1000
        upload_lifetime = "2h"

        [[fault]]
        operation = "part"
        nth = 3
        action.answer = { status = 503, headers = { retry-after = "1" }, at = "unread", then = "reset" }
        [[fault]]
        every = 7
        action.answer = { status = 200, body = "html" }
        [[fault]]
        operation = "create"
        from = 2
        times = 3
        filename = "big.bin"
        action.answer = { status = 200, body = { json = { id = 1 } }, at = "after" }
        [[fault]]
        action.patch = { set = { "/file/status" = "processed" }, null = ["/file/bytes"], remove = ["/object"] }
        [[fault]]
        action.delay = { for = "2s", at = "after" }
        [[fault]]
        action.stall = { at = { body = 1000 } }
        [[fault]]
        action.drop = { at = "after", reset = true }
        [[fault]]
        action.drop = {}
        [[fault]]
        action.half = {}
        [[fault]]
        action.slow = { bytes_per_second = 1000 }
        [[fault]]
        action.expire = { at = "after" }
        [[fault]]
        action.purge = {}
        [[fault]]
        operation = "complete"
        action.late = { after = "30s", status = 504 }
        [[fault]]
        operation = "complete"
        action.late = { requests = 3 }
        [[fault]]
        operation = "list"
        action.lag = { lists = 2, younger_than = "1m" }
        [[fault]]
        operation = "any"
        action.kill = { at = "answered" }
    "#;
    let script: ScriptFile = toml::from_str(script).unwrap();
    assert_eq!(script.fault.len(), 16);
    assert_eq!(script.limits.unwrap().part_bytes, 1000);
    let again: ScriptFile = serde_json::from_str(&serde_json::to_string(&script).unwrap()).unwrap();
    assert_eq!(format!("{:?}", again.fault), format!("{:?}", script.fault));
    for wrong in ["nth = 0", "nth = 1\nevery = 2", "operation = \"put\"", "nht = 1"] {
        let script = format!("[[fault]]\n{wrong}\naction.drop = {{}}\n");
        assert!(toml::from_str::<ScriptFile>(&script).is_err(), "{wrong}");
    }
    let _ = Emulator::builder().script(again);
}
