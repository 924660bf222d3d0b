use super::*;
use crate::model::answer::FileId;
use crate::model::job::State;
use crate::store::{Health, HistoryRow, spawn_writer};

fn step(job: JobId, from: State, step: Step) -> Write {
    Write::Step { job, from, step: Box::new(step), now: at(5000), context: Box::default() }
}

#[tokio::test]
async fn writes_are_applied_in_order_and_those_that_fit_not_are_told() {
    let fixture = Fixture::new().await;
    let (writer, task) = spawn_writer(&fixture.store);
    let Applied::Enqueued { job, .. } =
        writer.ask(Write::Enqueue(Box::new(fixture.candidate("x")))).await.unwrap()
    else {
        panic!("not enqueued")
    };
    writer.send(step(job.id, State::Queued, Step::Opened(session("upload_1", 1))));
    let wrong = writer.ask(step(job.id, State::Queued, Step::Bumped));
    writer.send(step(job.id, State::Uploading, part(0)));
    let right = writer.ask(step(job.id, State::Uploading, Step::Completing));
    let conflict = WriteError::Conflict { job: job.id, what: "bumped", found: Some(State::Uploading) };
    assert_eq!(wrong.await, Err(conflict));
    assert_eq!(right.await, Ok(Applied::Done));
    assert_eq!(fixture.load(job.id).await.stage.state(), State::Completing);
    drop(writer);
    task.await.unwrap();
}

#[tokio::test]
async fn files_written_together_are_as_if_one_after_the_other() {
    let fixture = Fixture::new().await;
    let old = fixture.queued("old").await;
    let (writer, _task) = spawn_writer(&fixture.store);
    let file = |path: &str| Write::Enqueue(Box::new(fixture.candidate(path)));
    let mut changed = fixture.candidate("a");
    changed.subject.fingerprint.ctime_ns = 9;
    changed.over = Some((JobId(old.id.0 + 1), State::Queued));
    let again = Candidate { replaces: Some(old.id), ..fixture.candidate("old") };
    let asked: Vec<_> = [
        file("a"),
        file("old"),
        file("a"),
        Write::Enqueue(Box::new(changed)),
        Write::Enqueue(Box::new(again)),
        file("b"),
    ]
    .into_iter()
    .map(|write| writer.ask(write))
    .collect();
    let mut told = Vec::new();
    for asked in asked {
        told.push(match asked.await.unwrap() {
            Applied::Enqueued { job, replaced } => {
                assert_eq!(
                    fixture.store.record(job.id).await.unwrap().unwrap().relative_path,
                    job.subject.path
                );
                (job.subject.path.to_str().unwrap().to_owned(), replaced.map(|(job, _)| job))
            }
            Applied::Known { job, .. } => ("known".to_owned(), Some(job)),
            Applied::Done => panic!("done"),
        });
    }
    let a = fixture.store.find_path(Path::new("/srv/a/a"), 9).await.unwrap()[1].id;
    let told: Vec<_> = told.iter().map(|(what, job)| (what.as_str(), *job)).collect();
    assert_eq!(
        told,
        [
            ("a", None),
            ("known", Some(old.id)),
            ("known", Some(a)),
            ("a", Some(a)),
            ("old", Some(old.id)),
            ("b", None)
        ]
    );
}

/// What the store has of a job.
async fn all_of(fixture: &Fixture, job: JobId) -> String {
    let (store, now) = (&fixture.store, at(6000));
    let history = store.history(job).await.unwrap();
    let (record, loaded) = (store.record(job).await.unwrap(), store.job(job, now).await.unwrap());
    let parts = store.uploads_and_parts(job).await.unwrap();
    format!("{record:#?}\n{loaded:#?}\n{history:#?}\n{parts:#?}")
        .replace(&fixture.dir.path().display().to_string(), "")
}

#[tokio::test]
async fn the_steps_of_small_files_written_together_are_as_if_one_after_the_other() {
    let (alone, together) = (Fixture::new().await, Fixture::new().await);
    let mut writes = Vec::new();
    for fixture in [&alone, &together] {
        writes.clear();
        for number in 0..150 {
            let mut job = fixture.queued(&format!("{number}")).await;
            let session =
                Session { echoed_name: format!("echoed\0{number}"), ..whole(&format!("upload_{number}")) };
            let sent = Step::SentWhole { session, md5: (number % 3 == 0).then(|| format!("md5-{number}")) };
            let file = FileId(format!("file-{number}"));
            let stored = Step::Stored { file, expires_at: (number % 2 == 0).then_some(number) };
            match number % 10 {
                // It goes on from here.
                0..4 => writes.push(step(job.id, State::Queued, sent)),
                // It has gone on already, or elsewhere, or is not where it is said to be, or this is no small file.
                4 => {
                    fixture.take(&mut job, sent.clone()).await;
                    writes.push(step(job.id, State::Queued, sent));
                }
                5 => {
                    fixture.take(&mut job, Step::Cancelled).await;
                    writes.push(step(job.id, State::Queued, sent));
                }
                6 => writes.push(step(job.id, State::Uploading, sent)),
                7 => {
                    let two = Step::SentWhole { session: session_of_two(number), md5: None };
                    writes.push(step(job.id, State::Queued, two));
                }
                _ => {
                    fixture.take(&mut job, sent).await;
                    let context = Box::new(Context { finish: number % 4 == 0, ..Context::default() });
                    let (from, now) = (State::Completing, at(5000 + number));
                    writes.push(Write::Step {
                        job: job.id,
                        from,
                        step: Box::new(stored.clone()),
                        now,
                        context,
                    });
                    // Twice the same, with what is only told between.
                    let told = HistoryRow::event(job.id, at(7000).wall, "told");
                    writes.push(Write::History(Box::new(told)));
                    writes.push(step(job.id, State::Completing, stored));
                }
            }
        }
        writes.push(step(JobId(9999), State::Queued, Step::SentWhole { session: whole("x"), md5: None }));
    }
    let mut one_by_one = Vec::new();
    for write in &writes {
        one_by_one.push(alone.store.write(write).await);
    }
    let (writer, _task) = spawn_writer(&together.store);
    let asked: Vec<_> = writes.iter().map(|write| writer.ask(write.clone())).collect();
    let mut at_once = Vec::new();
    for asked in asked {
        at_once.push(asked.await);
    }
    assert_eq!(at_once, one_by_one);
    let conflicts = one_by_one.iter().filter(|result| result.is_err()).count();
    assert_eq!((writes.len(), conflicts), (15 * (8 + 2 * 3) + 1, 15 * 3 + 1));
    for job in 1..=150 {
        assert_eq!(all_of(&together, JobId(job)).await, all_of(&alone, JobId(job)).await, "job {job}");
    }
}

#[tokio::test]
async fn a_file_that_makes_room_for_its_twin_is_written_in_the_same_commit() {
    let fixture = Fixture::new().await;
    let (mut one, two) = (fixture.queued("a/x").await, fixture.queued("b/x").await);
    fixture.take(&mut one, Step::SentWhole { session: whole("upload_1"), md5: None }).await;
    let (writer, _task) = spawn_writer(&fixture.store);
    writer.flush().await.unwrap();
    let commits = async || -> i64 {
        sqlx::query_scalar("SELECT last FROM batches").fetch_one(&fixture.store.reader).await.unwrap()
    };
    let before = commits().await;
    let stored = Step::Stored { file: FileId("file-1".into()), expires_at: None };
    let stored = writer.ask(step(one.id, State::Completing, stored));
    let sent = Step::SentWhole { session: whole("upload_2"), md5: None };
    let sent = writer.ask(step(two.id, State::Queued, sent));
    assert_eq!((stored.await, sent.await), (Ok(Applied::Done), Ok(Applied::Done)));
    assert_eq!(commits().await - before, 1);
}

fn session_of_two(number: i64) -> Session {
    let mut session = whole(&format!("upload_{number}"));
    session.parts.extend(whole("other").parts);
    session
}

#[tokio::test]
async fn what_waits_is_written_when_the_last_sender_goes() {
    let fixture = Fixture::new().await;
    let (writer, task) = spawn_writer(&fixture.store);
    for n in 0..2000 {
        writer.send(Write::Enqueue(Box::new(fixture.candidate(&format!("{n}")))));
    }
    drop(writer);
    task.await.unwrap();
    assert_eq!(fixture.store.counts().await.unwrap()[0].jobs, 2000);
}

#[tokio::test]
async fn one_that_the_database_refuses_stops_none_of_the_others() {
    let fixture = Fixture::new().await;
    let (writer, _task) = spawn_writer(&fixture.store);
    let mut stored = Vec::new();
    for name in ["a", "b", "c"] {
        let mut job = fixture.queued(name).await;
        let whole = Step::SentWhole { session: whole(&format!("upload_{name}")), md5: None };
        fixture.take(&mut job, whole).await;
        let file = FileId(if name == "c" { "file-c" } else { "file-ab" }.into());
        stored.push((job.id, Step::Stored { file, expires_at: None }));
    }
    let asked: Vec<_> = stored
        .into_iter()
        .map(|(job, stored)| (job, writer.ask(step(job, State::Completing, stored))))
        .collect();
    let mut results = Vec::new();
    for (job, asked) in asked {
        results.push((job.0, asked.await));
    }
    assert_eq!(
        results,
        [(1, Ok(Applied::Done)), (2, Err(WriteError::FileTaken { job: JobId(2) })), (3, Ok(Applied::Done))]
    );
    assert_eq!(fixture.load(JobId(3)).await.stage.state(), State::Stored);
    assert_eq!(fixture.store.history(JobId(1)).await.unwrap().len(), 2);
}

/// Makes the writer's connection give up soon when somebody else holds the database.
async fn impatient(fixture: &Fixture) {
    sqlx::query("PRAGMA busy_timeout = 20").execute(&fixture.store.writer).await.unwrap();
}

#[tokio::test]
async fn a_database_that_somebody_holds_is_waited_for() {
    let fixture = Fixture::new().await;
    let asking = Store::open_for_asking(fixture.dir.path()).await.unwrap();
    impatient(&fixture).await;
    let (writer, _task) = spawn_writer(&fixture.store);
    let held = asking.writer.begin_with("BEGIN IMMEDIATE").await.unwrap();
    let mut health = writer.health();
    let asked = writer.ask(Write::Enqueue(Box::new(fixture.candidate("x"))));
    health.wait_for(|health| matches!(health, Health::Down { code: Code::StoreLocked, .. })).await.unwrap();
    held.rollback().await.unwrap();
    assert!(matches!(asked.await, Ok(Applied::Enqueued { .. })));
    assert_eq!(*health.borrow(), Health::Up);
}

#[tokio::test]
async fn a_full_disk_is_waited_for() {
    let fixture = Fixture::new().await;
    sqlx::query("PRAGMA max_page_count = 1").execute(&fixture.store.writer).await.unwrap();
    let (writer, _task) = spawn_writer(&fixture.store);
    let mut health = writer.health();
    for n in 0..500 {
        writer.send(Write::Enqueue(Box::new(fixture.candidate(&format!("{n}")))));
    }
    health.wait_for(|health| matches!(health, Health::Down { code: Code::StoreFull, .. })).await.unwrap();
    // The next connection knows nothing of the limit.
    writer.flush().await.unwrap();
    assert_eq!(fixture.store.counts().await.unwrap()[0].jobs, 500);
    assert_eq!(*health.borrow(), Health::Up);
}

#[tokio::test]
async fn who_asks_a_writer_that_has_ended_is_told() {
    let fixture = Fixture::new().await;
    let (writer, task) = spawn_writer(&fixture.store);
    task.abort();
    task.await.unwrap_err();
    assert_eq!(writer.flush().await, Err(WriteError::Closed));
}
