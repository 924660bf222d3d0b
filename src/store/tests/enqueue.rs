use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use super::*;
use crate::model::answer::FileId;
use crate::model::finish::FinishStep;
use crate::model::job::State;
use crate::store::{FinishState, Known, Present, Seen, Unfinished};

async fn enqueue(fixture: &Fixture, candidate: Candidate) -> Applied {
    fixture.store.write(&Write::Enqueue(Box::new(candidate))).await.unwrap()
}

/// Another version than that of `old`, found when that was there.
fn changed(mut candidate: Candidate, old: &Job) -> Candidate {
    candidate.subject.fingerprint.mtime_ns += 1;
    Candidate { over: Some((old.id, old.stage.state())), ..candidate }
}

#[tokio::test]
async fn a_job_comes_back_as_it_was_queued() {
    let fixture = Fixture::new().await;
    let mut candidate = fixture.candidate("deep/x");
    candidate.subject.path = PathBuf::from(OsString::from_vec(vec![b'a', 0xff, b'\n']));
    let job = fixture.add(candidate.clone()).await;
    assert_eq!(job.subject, candidate.subject);
    assert_eq!(fixture.load(job.id).await, job);
}

#[tokio::test]
async fn the_same_version_is_known() {
    let fixture = Fixture::new().await;
    let job = fixture.queued("x").await;
    let applied = enqueue(&fixture, fixture.candidate("x")).await;
    assert_eq!(applied, Applied::Known { job: job.id, state: State::Queued });
}

#[tokio::test]
async fn another_version_of_what_waits_takes_its_place() {
    let fixture = Fixture::new().await;
    let old = fixture.queued("x").await;
    let Applied::Enqueued { job, replaced } = enqueue(&fixture, changed(fixture.candidate("x"), &old)).await
    else {
        panic!("not enqueued")
    };
    assert_eq!(replaced, Some((old.id, State::Queued)));
    let record = fixture.store.record(old.id).await.unwrap().unwrap();
    assert_eq!(record.state, State::Gone);
    assert_eq!(record.error.unwrap().code, "file-changed");
    assert!(!record.present);
    assert!(fixture.store.record(job.id).await.unwrap().unwrap().present);
    let history = fixture.store.history(old.id).await.unwrap();
    assert_eq!(history[0].event, "gone");
}

#[tokio::test]
async fn another_version_of_what_is_sent_leaves_it_where_it_is() {
    let fixture = Fixture::new().await;
    let mut old = fixture.queued("x").await;
    fixture.take(&mut old, Step::Opened(session("upload_1", 1))).await;
    let Applied::Enqueued { replaced, .. } = enqueue(&fixture, changed(fixture.candidate("x"), &old)).await
    else {
        panic!("not enqueued")
    };
    assert_eq!(replaced, Some((old.id, State::Uploading)));
    assert_eq!(fixture.load(old.id).await, old);
    assert!(!fixture.store.record(old.id).await.unwrap().unwrap().present);
}

#[tokio::test]
async fn another_version_is_decided_anew_if_the_row_went_on_meanwhile() {
    let fixture = Fixture::new().await;
    let mut old = fixture.queued("x").await;
    // Nothing of it was sent, so nothing could be compared.
    let candidate = changed(fixture.candidate("x"), &old);
    fixture.take(&mut old, Step::SentWhole { session: whole("upload_1"), md5: None }).await;
    let known = Applied::Known { job: old.id, state: State::Completing };
    assert_eq!(enqueue(&fixture, candidate.clone()).await, known);
    fixture.take(&mut old, Step::Stored { file: FileId("file-1".into()), expires_at: None }).await;
    let known = Applied::Known { job: old.id, state: State::Stored };
    assert_eq!(enqueue(&fixture, candidate.clone()).await, known);
    let free = Candidate { over: None, ..candidate.clone() };
    assert_eq!(enqueue(&fixture, free).await, known, "the path was free then");
    assert!(fixture.store.record(old.id).await.unwrap().unwrap().present);
    let anew = changed(fixture.candidate("x"), &old);
    assert!(matches!(enqueue(&fixture, anew).await, Applied::Enqueued { .. }));
}

#[tokio::test]
async fn a_stored_file_is_sent_again_only_if_asked() {
    let fixture = Fixture::new().await;
    let mut old = fixture.queued("x").await;
    fixture.take(&mut old, Step::SentWhole { session: whole("upload_1"), md5: None }).await;
    fixture.take(&mut old, Step::Stored { file: FileId("file-1".into()), expires_at: None }).await;
    let known = Applied::Known { job: old.id, state: State::Stored };
    assert_eq!(enqueue(&fixture, fixture.candidate("x")).await, known);

    let wrong = Candidate { replaces: Some(JobId(99)), ..fixture.candidate("x") };
    assert_eq!(enqueue(&fixture, wrong).await, known);
    let again = Candidate { replaces: Some(old.id), ..fixture.candidate("x") };
    assert!(matches!(enqueue(&fixture, again).await, Applied::Enqueued { .. }));
    assert_eq!(fixture.load(old.id).await, old);
}

#[tokio::test]
async fn what_cannot_be_sent_fails_at_once_and_what_was_there_is_skipped() {
    let fixture = Fixture::new().await;
    let arrival = Arrival::Failed { reason: Reason::local(Code::FileEmpty, "it has no bytes"), finish: true };
    let failed = fixture
        .add(Candidate { arrival, warnings: vec!["odd \"name\"".into()], ..fixture.candidate("x") })
        .await;
    let skipped = fixture.add(Candidate { arrival: Arrival::Skipped, ..fixture.candidate("y") }).await;
    assert_eq!(fixture.load(failed.id).await, failed);
    assert_eq!(fixture.load(skipped.id).await, skipped);
    let record = fixture.store.record(failed.id).await.unwrap().unwrap();
    assert_eq!(record.error.unwrap().code, "file-empty");
    assert_eq!(record.finish, FinishState::Pending);
    assert_eq!(record.warnings, ["odd \"name\""]);
    assert_eq!(record.ended_at, Some(at(0).wall));
    let due = fixture.store.unfinished(&[FinishStep::Source], &[], Wall(0), 10).await.unwrap();
    assert_eq!(
        due,
        [Unfinished { job: failed.id, step: FinishStep::Source, tries: 0, folder: fixture.folder }]
    );
    assert_eq!(fixture.store.history(failed.id).await.unwrap()[0].code.as_deref(), Some("file-empty"));
}

#[tokio::test]
async fn a_retired_row_makes_room() {
    let fixture = Fixture::new().await;
    let job = fixture.queued("x").await;
    fixture.store.write(&Write::Retire(job.id)).await.unwrap();
    fixture.store.write(&Write::Retire(job.id)).await.unwrap();
    assert_ne!(fixture.queued("x").await.id, job.id);
}

#[tokio::test]
async fn a_scan_hears_of_what_is_not_known_as_it_is() {
    let fixture = Fixture::new().await;
    for n in 0..1203 {
        fixture.queued(&format!("{n}")).await;
    }
    let mut seen: Vec<_> = (0..1203).map(|n| (PathBuf::from(format!("{n}")), print(10))).collect();
    assert_eq!(fixture.store.filter_unknown(fixture.folder, seen.clone()).await.unwrap(), []);
    assert_eq!(fixture.store.filter_unknown(fixture.folder, Vec::new()).await.unwrap(), []);

    let other = fixture.folder_at("/srv/b").await;
    assert_eq!(fixture.store.filter_unknown(other.id, seen.clone()).await.unwrap().len(), 1203);

    seen[1200].1.inode = 5;
    seen.insert(3, (PathBuf::from("new"), print(1)));
    let unknown = fixture.store.filter_unknown(fixture.folder, seen).await.unwrap();
    let known = Known { job: JobId(1201), state: State::Queued, fingerprint: print(10), leaves: false };
    assert_eq!(
        unknown,
        [
            Seen { path: "new".into(), fingerprint: print(1), known: None },
            Seen {
                path: "1200".into(),
                fingerprint: Fingerprint { inode: 5, ..print(10) },
                known: Some(known)
            },
        ]
    );
}

#[tokio::test]
async fn a_row_that_is_retired_does_not_make_a_file_known() {
    let fixture = Fixture::new().await;
    let job = fixture.queued("x").await;
    fixture.store.write(&Write::Retire(job.id)).await.unwrap();
    let unknown = fixture.store.filter_unknown(fixture.folder, vec![("x".into(), print(10))]).await.unwrap();
    assert_eq!(unknown, [Seen { path: "x".into(), fingerprint: print(10), known: None }]);
}

#[tokio::test]
async fn rows_that_are_present_come_page_by_page_in_the_order_of_paths() {
    let fixture = Fixture::new().await;
    for name in ["b", "a", "c"] {
        fixture.queued(name).await;
    }
    let first = fixture.store.present(fixture.folder, None, 2).await.unwrap();
    let row = |id, path: &str| Present {
        job: JobId(id),
        state: State::Queued,
        path: path.into(),
        fingerprint: print(10),
    };
    assert_eq!(first, [row(2, "a"), row(1, "b")]);
    let next = fixture.store.present(fixture.folder, Some(Path::new("b")), 2).await.unwrap();
    assert_eq!(next, [row(3, "c")]);
}

#[tokio::test]
async fn other_times_of_the_same_content_are_written_down() {
    let fixture = Fixture::new().await;
    let mut job = fixture.queued("x").await;
    let fingerprint = Fingerprint { mtime_ns: 9, ..print(10) };
    fixture.store.write(&Write::SameVersion { job: job.id, fingerprint }).await.unwrap();
    job.subject.fingerprint = fingerprint;
    assert_eq!(fixture.load(job.id).await, job);

    let larger = Write::SameVersion { job: job.id, fingerprint: print(11) };
    assert!(fixture.store.write(&larger).await.is_err());
}
