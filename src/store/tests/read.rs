use super::*;
use crate::model::answer::FileId;
use crate::model::failure::{Facts, Operation};
use crate::model::finish::FinishStep;
use crate::model::job::{State, Why};
use crate::store::{
    Count, Filter, FinishState, HistoryRow, NewRequest, Progress, Pruned, SourceEnd, Unfinished, Waiting,
};

#[tokio::test]
async fn folders_keep_their_row_by_their_path() {
    let fixture = Fixture::new().await;
    let pause = Write::Pause { folder: fixture.folder, why: Some("asked".into()) };
    fixture.store.write(&pause).await.unwrap();
    let both = [(PathBuf::from("/srv/b"), "b".into()), (PathBuf::from("/srv/a"), "renamed".into())];
    let rows = fixture.store.sync_folders(&both, Wall(9)).await.unwrap();
    assert!(!rows[0].scanned && !rows[0].paused && rows[0].first_watched_at == Wall(9));
    assert_eq!(
        rows[1],
        FolderRow {
            id: fixture.folder,
            path: "/srv/a".into(),
            name: "renamed".into(),
            paused: true,
            paused_why: Some("asked".into()),
            first_watched_at: Wall(1),
            scanned: false,
        }
    );
    fixture.store.write(&Write::Pause { folder: fixture.folder, why: None }).await.unwrap();
    let rows = fixture.store.folders().await.unwrap();
    assert!(rows.len() == 2 && !rows[0].paused && rows[0].paused_why.is_none());
    assert!(fixture.store.write(&Write::Pause { folder: FolderId(99), why: None }).await.is_err());
}

#[tokio::test]
async fn the_window_has_what_is_due_bumped_first_then_oldest() {
    let fixture = Fixture::new().await;
    let mut jobs = Vec::new();
    for name in ["a", "b", "c", "d", "e"] {
        jobs.push(fixture.queued(name).await);
    }
    let later = at(9000).wall;
    let put_off = Step::PutOff { due: later, reason: reason(), attempts: 1, failing_since: at(1).wall };
    fixture.take(&mut jobs[0], put_off).await;
    fixture.take(&mut jobs[3], Step::Bumped).await;
    fixture.take(&mut jobs[1], Step::Opened(session("upload_1", 1))).await;
    let other = fixture.folder_at("/srv/b").await.id;

    let window = fixture.store.window(fixture.folder, true, 2, at(10).wall).await.unwrap();
    assert_eq!(window.jobs, [jobs[3].clone(), jobs[2].clone()]);
    assert!(window.more);
    assert_eq!(window.next_due, Some(later));

    let window = fixture.store.window(fixture.folder, true, 9, later).await.unwrap();
    assert_eq!(window.jobs.iter().map(|job| job.id.0).collect::<Vec<_>>(), [4, 1, 3, 5]);
    assert!(!window.more);
    assert_eq!(window.next_due, None);
    assert_eq!(fixture.store.window(other, true, 9, later).await.unwrap(), Default::default());
}

#[tokio::test]
async fn what_is_open_is_loaded_with_its_session() {
    let fixture = Fixture::new().await;
    let mut sending = fixture.queued("a").await;
    fixture.queued("b").await;
    let mut completing = fixture.queued("c").await;
    fixture.take(&mut sending, Step::Opened(session("upload_1", 3))).await;
    fixture.take(&mut sending, part(1)).await;
    fixture.take(&mut completing, Step::SentWhole { session: whole("upload_2"), md5: None }).await;
    let open = fixture.store.load_open(at(7000)).await.unwrap();
    assert_eq!(open.len(), 2);
    assert_eq!(open[0], sending);
    assert_eq!(open[1].stage.state(), State::Completing);
    assert_eq!(open[1].stage.session(), completing.stage.session());
}

#[tokio::test]
async fn ranges_are_those_of_the_last_upload() {
    let fixture = Fixture::new().await;
    let mut job = fixture.queued("a").await;
    fixture.take(&mut job, Step::Opened(session("upload_1", 3))).await;
    fixture.take(&mut job, part(0)).await;
    fixture.take(&mut job, Step::Restarted { why: Why::Refused, reason: reason() }).await;
    fixture.take(&mut job, Step::Opened(session("upload_2", 2))).await;
    fixture.take(&mut job, part(1)).await;
    assert_eq!(fixture.store.ranges_of(job.id).await.unwrap(), [(5..10, Digest::Blake3([7; 32]))]);
}

#[tokio::test]
async fn counts_and_totals_come_from_the_rows() {
    let fixture = Fixture::new().await;
    let other = fixture.folder_at("/srv/b").await.id;
    fixture.queued("a").await;
    let mut sent = fixture.queued("b").await;
    let mut candidate = fixture.candidate("a");
    candidate.subject.folder = other;
    fixture.add(candidate).await;
    fixture.queued("c").await;
    fixture.take(&mut sent, Step::Cancelled).await;
    let count = |folder, state, jobs| Count { folder, state, jobs };
    assert_eq!(
        fixture.store.counts().await.unwrap(),
        [
            count(fixture.folder, State::Queued, 2),
            count(fixture.folder, State::Cancelled, 1),
            count(other, State::Queued, 1)
        ]
    );
    let waiting = |folder, files, bytes| Waiting { folder, files, bytes };
    assert_eq!(
        fixture.store.queue_totals().await.unwrap(),
        [waiting(fixture.folder, 2, 20), waiting(other, 1, 10)]
    );
    let oldest = fixture.store.oldest_queued().await.unwrap();
    assert_eq!(oldest.iter().map(|(folder, _)| *folder).collect::<Vec<_>>(), [fixture.folder, other]);
    let first =
        fixture.store.list(&Filter { states: vec![State::Queued], ..Filter::default() }).await.unwrap();
    assert_eq!(oldest[0].1, first.iter().map(|record| record.found_at).min().unwrap());
}

async fn listed(fixture: &Fixture, filter: Filter) -> Vec<i64> {
    fixture.store.list(&filter).await.unwrap().iter().map(|record| record.id.0).collect()
}

#[tokio::test]
async fn lists_are_newest_first_filtered_and_paged() {
    let fixture = Fixture::new().await;
    let other = fixture.folder_at("/srv/b").await.id;
    for n in 0..6 {
        let mut candidate = fixture.candidate(&format!("{n}"));
        // Two of each time, and the last one found before the others by a clock that was set.
        candidate.found_at = Wall(if n == 5 { 0 } else { 100 * (n / 2) });
        if n == 1 {
            candidate.subject.folder = other;
        }
        let mut job = fixture.add(candidate).await;
        if n % 2 == 0 {
            fixture.take(&mut job, Step::Cancelled).await;
        }
    }
    assert_eq!(listed(&fixture, Filter::default()).await, [5, 4, 3, 6, 2, 1]);
    let first = Filter { limit: 3, ..Filter::default() };
    assert_eq!(listed(&fixture, first.clone()).await, [5, 4, 3]);
    let next = Filter { before: Some((Wall(100), JobId(3))), ..first };
    assert_eq!(listed(&fixture, next.clone()).await, [6, 2, 1]);
    let tie = Filter { before: Some((Wall(100), JobId(4))), ..next };
    assert_eq!(listed(&fixture, tie).await, [3, 6, 2]);
    let states = vec![State::Cancelled, State::Stored, State::Cancelled];
    assert_eq!(listed(&fixture, Filter { states, ..Filter::default() }).await, [5, 3, 1]);
    assert_eq!(listed(&fixture, Filter { folder: Some(other), ..Filter::default() }).await, [2]);
    let times = Filter { since: Some(Wall(100)), until: Some(Wall(200)), ..Filter::default() };
    assert_eq!(listed(&fixture, times).await, [4, 3]);

    let ledger = fixture.store.ledger(JobId(2), Some(Wall(50)), 2).await.unwrap();
    assert_eq!(ledger.iter().map(|record| record.id.0).collect::<Vec<_>>(), [3, 4]);
}

#[tokio::test]
async fn a_record_tells_the_whole_story() {
    let fixture = Fixture::new().await;
    let mut job = fixture.queued("deep/x.jsonl").await;
    fixture.take(&mut job, Step::Opened(session("upload_1", 3))).await;
    fixture.take(&mut job, part(1)).await;
    fixture
        .take(&mut job, Step::PutOff { due: Wall(7), reason: reason(), attempts: 2, failing_since: Wall(5) })
        .await;
    let request = NewRequest { kind: "cancel".into(), job: Some(job.id), folder: None, argument: None };
    fixture.store.insert_request(&request, Wall(3)).await.unwrap();
    let record = fixture.store.record(job.id).await.unwrap().unwrap();
    assert_eq!(record.folder_path.join(&record.relative_path), Path::new("/srv/a/deep/x.jsonl"));
    assert_eq!(record.folder_name, "a");
    assert_eq!(record.filename, "x.jsonl");
    assert_eq!((record.parts_total, record.parts_stored, record.bytes_stored), (Some(3), Some(1), Some(5)));
    assert_eq!(record.upload_id, Some(UploadId("upload_1".into())));
    assert_eq!(record.upload_expires_at, Some(at(3_600_000).wall));
    assert_eq!((record.attempts, record.restarts), (2, 0));
    assert_eq!((record.due_at, record.failing_since), (Some(Wall(7)), Some(Wall(5))));
    assert_eq!(record.requested.as_deref(), Some("cancel"));
    let error = record.error.unwrap();
    assert_eq!((error.code.as_str(), error.status), ("server-error", Some(503)));
    assert_eq!((error.message.as_str(), error.request_id.as_deref()), ("it is down", Some("req_1")));
    assert_eq!(record.project.as_deref(), Some("proj_1"));
    assert_eq!(fixture.store.record(JobId(99)).await.unwrap(), None);

    fixture.take(&mut job, part(0)).await;
    fixture.take(&mut job, part(2)).await;
    fixture.take(&mut job, Step::Completing).await;
    let unresolved =
        Step::Unresolved { reason: reason(), candidates: vec![FileId("f1".into()), FileId("f2".into())] };
    fixture.take(&mut job, unresolved).await;
    let record = fixture.store.record(job.id).await.unwrap().unwrap();
    assert_eq!(record.candidates, [FileId("f1".into()), FileId("f2".into())]);

    let stored = Step::Stored { file: FileId("f2".into()), expires_at: Some(1_800_000_000) };
    let context = Context { finish: true, ..Context::default() };
    fixture.step(job.id, State::Unresolved, stored, context).await.unwrap();
    let record = fixture.store.record(job.id).await.unwrap().unwrap();
    assert_eq!(record.file_id, Some(FileId("f2".into())));
    assert_eq!(record.file_expires_at, Some(Wall(1_800_000_000_000)));
    assert_eq!((record.stored_at, record.ended_at), (Some(at(5000).wall), Some(at(5000).wall)));
    assert_eq!((record.error, record.candidates, record.due_at), (None, Vec::new(), None));
    assert_eq!(record.upload_expires_at, None);
    assert_eq!(record.finish, FinishState::Pending);
    let due = |steps: &'static [FinishStep], now| fixture.store.unfinished(steps, &[], Wall(now), 10);
    let first = Unfinished { job: job.id, step: FinishStep::Source, tries: 0, folder: fixture.folder };
    assert_eq!(due(&[FinishStep::Source, FinishStep::Receipt], 0).await.unwrap(), [first]);
    assert_eq!(due(&[FinishStep::Hook], 0).await.unwrap(), []);
    let but = fixture.store.unfinished(&[FinishStep::Source], &[fixture.folder], Wall(0), 10).await.unwrap();
    assert_eq!(but, []);

    let write = async |progress| {
        fixture.store.write(&Write::Finish { job: job.id, progress: Box::new(progress) }).await.unwrap();
    };
    let moved_to = Some("/srv/a/done/x.jsonl".into());
    let failed = Progress {
        of: (State::Stored, FinishStep::Source),
        state: FinishState::Pending,
        step: Some(FinishStep::Hook),
        tries: 1,
        due: Wall(9_000),
        error: Some("ended with 3".into()),
        gives_up: false,
        source: Some(SourceEnd::Left { moved_to }),
    };
    write(failed.clone()).await;
    assert_eq!(due(&[FinishStep::Hook], 8_999).await.unwrap(), []);
    assert_eq!(fixture.store.unfinished_later(Wall(8_999)).await.unwrap(), (true, Some(Wall(9_000))));
    let again = Unfinished { job: job.id, step: FinishStep::Hook, tries: 1, folder: fixture.folder };
    assert_eq!(due(&[FinishStep::Hook], 9_000).await.unwrap(), [again]);
    assert_eq!(fixture.store.unfinished_later(Wall(9_000)).await.unwrap(), (true, None));
    let hook = (State::Stored, FinishStep::Hook);
    write(Progress { of: (State::Failed, FinishStep::Hook), state: FinishState::Done, ..failed.clone() })
        .await;
    write(Progress { of: (State::Stored, FinishStep::Receipt), state: FinishState::Done, ..failed.clone() })
        .await;
    // Those were of other ends.
    write(Progress { of: hook, state: FinishState::Failed, source: None, ..failed.clone() }).await;
    assert_eq!(fixture.store.badly_finished(None).await.unwrap(), [job.id]);
    assert_eq!(fixture.store.badly_finished(Some(FolderId(99))).await.unwrap(), []);
    fixture.store.write(&Write::FinishAgain(job.id)).await.unwrap();
    assert!(fixture.store.write(&Write::FinishAgain(job.id)).await.is_err(), "it has not failed");
    let record = fixture.store.record(job.id).await.unwrap().unwrap();
    assert_eq!((record.finish, record.finish_step.as_deref()), (FinishState::Pending, Some("hook")));
    assert_eq!((record.present, record.finish_error), (false, None));
    let done = Progress {
        of: hook,
        state: FinishState::Done,
        step: None,
        tries: 0,
        due: Wall(0),
        error: None,
        gives_up: false,
        source: None,
    };
    write(done.clone()).await;
    // What comes late finds nothing to be finished any more.
    write(failed.clone()).await;
    assert_eq!(fixture.store.record(job.id).await.unwrap().unwrap().finish, FinishState::Done);
    // A step that is given up keeps the rest from nothing, and is what is done again.
    let again = "UPDATE jobs SET finish_state = 'pending', finish_step = 'source'";
    sqlx::query(again).execute(&fixture.store.writer).await.unwrap();
    let given_up = Progress {
        of: (State::Stored, FinishStep::Source),
        step: Some(FinishStep::Hook),
        error: Some("no room".into()),
        gives_up: true,
        source: None,
        ..failed
    };
    write(given_up).await;
    let record = fixture.store.record(job.id).await.unwrap().unwrap();
    assert_eq!((record.finish, record.finish_step.as_deref()), (FinishState::Pending, Some("hook")));
    write(done.clone()).await;
    let record = fixture.store.record(job.id).await.unwrap().unwrap();
    assert_eq!((record.finish, record.finish_step.as_deref()), (FinishState::Failed, Some("source")));
    assert_eq!(record.finish_error.as_deref(), Some("no room"));
    fixture.store.write(&Write::FinishAgain(job.id)).await.unwrap();
    let last = Progress { of: (State::Stored, FinishStep::Source), gives_up: true, ..done.clone() };
    write(last).await;
    let record = fixture.store.record(job.id).await.unwrap().unwrap();
    assert_eq!((record.finish, record.finish_step.as_deref()), (FinishState::Failed, Some("source")));
    fixture.store.write(&Write::FinishAgain(job.id)).await.unwrap();
    write(Progress { of: (State::Stored, FinishStep::Source), ..done }).await;
    fixture.store.write(&Write::Warnings { job: job.id, warnings: vec!["w".into()] }).await.unwrap();
    let record = fixture.store.record(job.id).await.unwrap().unwrap();
    assert_eq!((record.finish, record.finish_step.as_deref()), (FinishState::Done, None));
    assert_eq!(record.moved_to.as_deref(), Some(Path::new("/srv/a/done/x.jsonl")));
    assert_eq!(record.warnings, ["w"]);
    assert_eq!(fixture.store.unfinished_later(Wall(0)).await.unwrap(), (false, None));

    let uploads = fixture.store.uploads_and_parts(job.id).await.unwrap();
    assert_eq!((uploads.len(), uploads[0].number, uploads[0].parts.len()), (1, 1, 3));
    assert_eq!(uploads[0].end_reason.as_deref(), Some("completed"));
    assert_eq!(uploads[0].parts[2].part_id, Some(PartId("part_2".into())));
    assert_eq!(fixture.store.find_file(&FileId("f2".into())).await.unwrap().len(), 1);
    assert_eq!(fixture.store.find_file(&FileId("f1".into())).await.unwrap(), []);
}

#[tokio::test]
async fn history_keeps_what_the_row_forgets() {
    let fixture = Fixture::new().await;
    let mut job = fixture.queued("x").await;
    fixture.take(&mut job, Step::Opened(session("upload_1", 2))).await;
    let context = Context {
        operation: Some(Operation::Part),
        facts: Some(Facts { status: 500, request_id: Some("req_9".into()), ..Facts::default() }),
        duration_ms: Some(12),
        bytes: Some(5),
        part: Some(1),
        finish: false,
    };
    let put_off = Step::PutOff { due: Wall(7), reason: reason(), attempts: 2, failing_since: Wall(5) };
    fixture.step(job.id, State::Uploading, put_off, context).await.unwrap();
    fixture.take(&mut job, part(1)).await;
    let note = HistoryRow::event(job.id, Wall(8), "probe");
    fixture.store.write(&Write::History(Box::new(note.clone()))).await.unwrap();
    let history = fixture.store.history(job.id).await.unwrap();
    let events: Vec<_> = history.iter().map(|row| row.event.as_str()).collect();
    assert_eq!(events, ["upload-opened", "retry", "part-stored", "probe"]);
    assert_eq!(
        history[1],
        HistoryRow {
            operation: Some("part".into()),
            attempt: Some(2),
            status: Some(500),
            request_id: Some("req_9".into()),
            code: Some("server-error".into()),
            message: Some("it is down".into()),
            duration_ms: Some(12),
            bytes: Some(5),
            part: Some(1),
            ..HistoryRow::event(job.id, at(5000).wall, "retry")
        }
    );
    assert_eq!(history[2].part, Some(1));
    assert_eq!(history[3], note);
}

#[tokio::test]
async fn a_path_is_found_in_the_folders_that_cover_it() {
    let fixture = Fixture::new().await;
    let inner = fixture.folder_at("/srv/a/in").await.id;
    fixture.folder_at("/srv/other").await;
    let old = fixture.queued("in/x").await;
    fixture.store.write(&Write::Retire(old.id)).await.unwrap();
    let older = fixture.queued("in/x").await;
    fixture.store.write(&Write::Retire(older.id)).await.unwrap();
    let mut candidate = fixture.candidate("x");
    candidate.subject.folder = inner;
    let new = fixture.add(candidate).await;
    let found = |limit| async move {
        let records = fixture.store.find_path(Path::new("/srv/a/in/x"), limit).await.unwrap();
        (records.iter().map(|record| record.id).collect::<Vec<_>>(), fixture)
    };
    let (ids, fixture) = found(9).await;
    assert_eq!(ids, [new.id, older.id, old.id]);
    assert_eq!(fixture.store.find_path(Path::new("/srv/a/in/x"), 1).await.unwrap().len(), 1);
    assert_eq!(fixture.store.find_path(Path::new("/elsewhere"), 9).await.unwrap(), []);
}

#[tokio::test]
async fn requests_wait_in_order_until_they_are_answered() {
    let fixture = Fixture::new().await;
    let asking = Store::open_for_asking(fixture.dir.path()).await.unwrap();
    let request = |kind: &str| NewRequest {
        kind: kind.into(),
        job: Some(JobId(4)),
        folder: Some(fixture.folder),
        argument: Some("{}".into()),
    };
    let one = asking.insert_request(&request("cancel"), Wall(3)).await.unwrap();
    let two = asking.insert_request(&request("bump"), Wall(4)).await.unwrap();
    let pending = fixture.store.pending_requests(0).await.unwrap();
    assert_eq!(pending.iter().map(|row| row.id).collect::<Vec<_>>(), [one, two]);
    assert_eq!(pending[0].request, request("cancel"));
    assert_eq!(fixture.store.pending_requests(one).await.unwrap().len(), 1);

    let answer = Write::Answer { request: one, at: Wall(5), done: false, answer: "too late".into() };
    fixture.store.write(&answer).await.unwrap();
    let answered = asking.request(one).await.unwrap().unwrap();
    assert_eq!((answered.taken_at, answered.answer.as_deref()), (Some(Wall(5)), Some("too late")));
    assert_eq!(fixture.store.pending_requests(0).await.unwrap().len(), 1);
    assert_eq!(asking.request(99).await.unwrap(), None);
}

#[tokio::test]
async fn pruning_forgets_what_ended_and_is_not_there() {
    let fixture = Fixture::new().await;
    let mut ended = fixture.queued("a").await;
    fixture.take(&mut ended, Step::Opened(session("upload_1", 2))).await;
    fixture.take(&mut ended, Step::Gone(None)).await;
    let mut there = fixture.queued("b").await;
    fixture.take(&mut there, Step::Opened(session("upload_2", 2))).await;
    fixture.take(&mut there, Step::Cancelled).await;
    let waits = fixture.queued("c").await;

    let pruned = fixture.store.prune_history(at(9000).wall, JobId(0)).await.unwrap();
    // Two rows of history of each, and one Upload.
    assert_eq!(pruned, Pruned { rows: 5, next: Some(waits.id) });
    assert_eq!(fixture.store.prune_history(at(9000).wall, waits.id).await.unwrap(), Pruned::default());
    assert_eq!(fixture.store.uploads_and_parts(ended.id).await.unwrap(), []);
    assert_eq!(fixture.store.record(ended.id).await.unwrap().unwrap().parts_total, None);
    assert_eq!(fixture.store.uploads_and_parts(there.id).await.unwrap().len(), 1);

    assert_eq!(fixture.store.prunable(at(0).wall).await.unwrap(), 0);
    assert_eq!(fixture.store.prunable(at(9000).wall).await.unwrap(), 1);
    assert_eq!(fixture.store.prune(at(9000).wall).await.unwrap(), 1);
    assert_eq!(fixture.store.prune(at(9000).wall).await.unwrap(), 0);
    assert_eq!(fixture.store.record(ended.id).await.unwrap(), None);
    assert!(fixture.store.record(there.id).await.unwrap().is_some());
    assert_eq!(fixture.queued("d").await.id, JobId(4));
}

#[tokio::test]
async fn a_backup_is_a_store() {
    let fixture = Fixture::new().await;
    let job = fixture.queued("a").await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(crate::store::DATABASE);
    fixture.store.backup(&path).await.unwrap();
    assert!(fixture.store.backup(&path).await.is_err());
    let (copy, _lock) = Store::open(dir.path(), boot()).await.unwrap();
    assert_eq!(copy.job(job.id, at(0)).await.unwrap(), Some(job));
}
