use super::*;
use crate::model::answer::FileId;
use crate::model::job::{Doubt, Stage, State, Why};

fn steps() -> Vec<Step> {
    let file = FileId("file-1".into());
    vec![
        Step::Opened(session("upload_new", 2)),
        part(0),
        part(1),
        part(9),
        Step::Hashed("d41d8cd98f00b204e9800998ecf8427e".into()),
        Step::Completing,
        Step::SentWhole { session: whole("upload_new"), md5: Some("abc".into()) },
        Step::SentWhole { session: session("upload_new", 1), md5: None },
        Step::PutOff { due: Wall(77), reason: reason(), attempts: 3, failing_since: Wall(55) },
        Step::Restarted { why: Why::Refused, reason: reason() },
        Step::Stored { file: file.clone(), expires_at: Some(1_800_000_000) },
        Step::Deduped { file: file.clone(), from: JobId(1), expires_at: Some(1_800_000_000) },
        Step::Failed(reason()),
        Step::Unresolved { reason: reason(), candidates: vec![file, FileId("file-2".into())] },
        Step::Cancelled,
        Step::Gone(None),
        Step::Gone(Some(reason())),
        Step::Requeued,
        Step::Bumped,
    ]
}

/// Ways to each state, some with a past.
fn ways() -> Vec<Vec<Step>> {
    let opened = || vec![Step::Opened(session("upload_1", 2))];
    let full = || [opened(), vec![part(0), part(1)]].concat();
    let completing = || vec![Step::SentWhole { session: whole("upload_1"), md5: None }];
    let put_off = Step::PutOff { due: Wall(7), reason: reason(), attempts: 2, failing_since: Wall(5) };
    let unresolved =
        || [completing(), vec![Step::Unresolved { reason: reason(), candidates: Vec::new() }]].concat();
    vec![
        vec![],
        vec![put_off.clone()],
        [opened(), vec![Step::Restarted { why: Why::Refused, reason: reason() }, Step::Bumped]].concat(),
        opened(),
        [opened(), vec![part(0), put_off.clone()]].concat(),
        full(),
        [full(), vec![Step::Completing]].concat(),
        [completing(), vec![put_off.clone()]].concat(),
        [completing(), vec![Step::Stored { file: FileId("file-0".into()), expires_at: None }]].concat(),
        vec![put_off, Step::Failed(reason())],
        unresolved(),
        [unresolved(), vec![Step::Requeued]].concat(),
        [opened(), vec![Step::Cancelled]].concat(),
        vec![Step::Gone(None)],
    ]
}

/// As a load sees it: nobody knows whether an answer was lost.
fn loaded(mut job: Job) -> Job {
    if let Stage::Completing(_, doubt) = &mut job.stage {
        *doubt = Doubt::MayHaveActed;
    }
    job
}

#[tokio::test]
async fn every_step_from_every_state_does_what_the_table_says_or_nothing() {
    let fixture = Fixture::new().await;
    // The job whose File others share.
    let mut first = fixture.queued("first").await;
    assert_eq!(first.id, JobId(1));
    fixture.take(&mut first, Step::SentWhole { session: whole("upload_0"), md5: None }).await;
    fixture.take(&mut first, Step::Stored { file: FileId("file-1".into()), expires_at: None }).await;
    let mut allowed = 0;
    for (number, way) in ways().into_iter().enumerate() {
        for (place, step) in steps().into_iter().enumerate() {
            let case = format!("{way:?} then {step:?}");
            // Another name each, or they would be twins; and another File.
            let mut job = fixture.queued(&format!("{number}-{place}")).await;
            for step in &way {
                let step = own_file(step.clone(), job.id);
                fixture.take(&mut job, step).await;
            }
            let step = own_file(step, job.id);
            assert_eq!(fixture.load(job.id).await, loaded(job.clone()), "{case}");

            let from = job.stage.state();
            let result = fixture.step(job.id, from, step.clone(), Context::default()).await;
            let mut after = job.clone();
            let goal = match after.take(&step) {
                Ok(()) => {
                    allowed += 1;
                    assert_eq!(result, Ok(Applied::Done), "{case}");
                    after
                }
                // Already where it would lead: nothing to do, and nothing done.
                Err(_) if result.is_ok() => job,
                Err(_) => {
                    let conflict = WriteError::Conflict { job: job.id, what: step.name(), found: Some(from) };
                    assert_eq!(result, Err(conflict), "{case}");
                    job
                }
            };
            assert_eq!(fixture.load(goal.id).await, loaded(goal), "{case}");
        }
    }
    assert!(allowed > 60, "only {allowed} cells were tried");
}

fn own_file(step: Step, job: JobId) -> Step {
    match step {
        Step::Stored { file, expires_at } => {
            Step::Stored { file: FileId(format!("{file}-of-{}", job.0)), expires_at }
        }
        other => other,
    }
}

#[tokio::test]
async fn a_step_from_where_the_job_is_not_is_a_conflict() {
    let fixture = Fixture::new().await;
    let job = fixture.queued("x").await;
    let result = fixture.step(job.id, State::Uploading, Step::Cancelled, Context::default()).await;
    let conflict = WriteError::Conflict { job: job.id, what: "cancelled", found: Some(State::Queued) };
    assert_eq!(result, Err(conflict));
    assert_eq!(fixture.load(job.id).await, job);
    assert!(fixture.store.history(job.id).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_step_of_no_job_is_a_conflict() {
    let fixture = Fixture::new().await;
    let result = fixture.step(JobId(99), State::Queued, Step::Cancelled, Context::default()).await;
    assert_eq!(result, Err(WriteError::Conflict { job: JobId(99), what: "cancelled", found: None }));
}

#[tokio::test]
async fn a_step_that_was_written_already_is_done() {
    let fixture = Fixture::new().await;
    let mut job = fixture.queued("x").await;
    let step = Step::Opened(session("upload_1", 2));
    fixture.take(&mut job, step.clone()).await;
    assert_eq!(fixture.step(job.id, State::Queued, step, Context::default()).await, Ok(Applied::Done));
    let another = Step::Opened(session("upload_2", 2));
    assert!(fixture.step(job.id, State::Queued, another, Context::default()).await.is_err());
    assert_eq!(fixture.load(job.id).await, job);
    assert_eq!(fixture.store.uploads_and_parts(job.id).await.unwrap().len(), 1);
}

#[tokio::test]
async fn of_twins_one_completes() {
    let fixture = Fixture::new().await;
    let mut one = fixture.queued("a/x").await;
    let mut two = fixture.queued("b/x").await;
    let mut other = fixture.queued("b/y").await;
    let step = |name: &str| Step::SentWhole { session: whole(name), md5: None };
    fixture.take(&mut one, step("upload_1")).await;
    fixture.take(&mut other, step("upload_3")).await;
    let result = fixture.step(two.id, State::Queued, step("upload_2"), Context::default()).await;
    assert_eq!(result, Err(WriteError::Twin { job: two.id }));
    assert_eq!(fixture.load(two.id).await, two);

    fixture.take(&mut one, Step::Stored { file: FileId("file-1".into()), expires_at: None }).await;
    fixture.take(&mut two, step("upload_2")).await;
}

#[tokio::test]
async fn a_file_belongs_to_one_job() {
    let fixture = Fixture::new().await;
    let stored = Step::Stored { file: FileId("file-1".into()), expires_at: None };
    let mut one = fixture.queued("x").await;
    fixture.take(&mut one, Step::SentWhole { session: whole("upload_1"), md5: None }).await;
    fixture.take(&mut one, stored.clone()).await;
    let mut two = fixture.queued("y").await;
    fixture.take(&mut two, Step::SentWhole { session: whole("upload_2"), md5: None }).await;
    let result = fixture.step(two.id, State::Completing, stored, Context::default()).await;
    assert_eq!(result, Err(WriteError::FileTaken { job: two.id }));
    assert_eq!(fixture.load(two.id).await, loaded(two));
}

#[tokio::test]
async fn a_plan_of_thousands_of_parts_comes_back() {
    let fixture = Fixture::new().await;
    let mut job = fixture.queued("x").await;
    fixture.take(&mut job, Step::Opened(session("upload_1", 8192))).await;
    fixture.take(&mut job, part(8191)).await;
    assert_eq!(fixture.load(job.id).await, job);
}

#[tokio::test]
async fn another_boot_knows_the_deadline_by_the_calendar() {
    let fixture = Fixture::new().await;
    let mut job = fixture.queued("x").await;
    fixture.take(&mut job, Step::Opened(session("upload_1", 1))).await;
    let store = Store { boot: BootId("boot-b".into()), ..fixture.store.clone() };
    let now = Now { wall: at(65_000).wall, boot: Boot(1000) };
    let open = store.load_open(now).await.unwrap();
    let Stage::Sending(session) = &open[0].stage else { panic!("{open:?}") };
    assert_eq!(session.deadline, Deadline::At(Boot(1000 + 3_600_000 - 65_000)));
}

/// A job that is stored as this File, in one Part.
async fn stored(fixture: &Fixture, candidate: Candidate, file: &str) -> Job {
    let mut job = fixture.add(candidate).await;
    let mut session = whole(&format!("upload_{file}"));
    session.parts[0].range = 0..job.subject.fingerprint.bytes;
    fixture.take(&mut job, Step::SentWhole { session, md5: None }).await;
    fixture.take(&mut job, Step::Stored { file: FileId(file.into()), expires_at: None }).await;
    job
}

#[tokio::test]
async fn what_was_sent_before_is_found_only_if_all_of_it_is_the_same() {
    let fixture = Fixture::new().await;
    let one = stored(&fixture, fixture.candidate("a/x"), "file-1").await;
    let two = stored(&fixture, fixture.candidate("b/x"), "file-2").await;
    let mine = fixture.queued("c/x").await;
    for (path, change) in [
        ("d/y", (|_| {}) as fn(&mut Candidate)),
        ("e/x", |other| other.subject.fingerprint.bytes += 1),
        ("f/x", |other| other.subject.purpose = "evals".into()),
        ("g/x", |other| other.subject.expires_after = None),
        ("h/x", |other| other.subject.account = AccountName("eu".into())),
        ("i/x", |other| other.base_url = "https://eu.api.openai.com/v1".into()),
        ("j/x", |other| other.project = None),
    ] {
        let mut other = fixture.candidate(path);
        change(&mut other);
        stored(&fixture, other, &format!("file-{path}")).await;
    }
    // Neither what only shares a File, nor what is not known whole.
    let mut shares = fixture.queued("k/x").await;
    let deduped = Step::Deduped { file: FileId("file-1".into()), from: one.id, expires_at: None };
    fixture.take(&mut shares, deduped).await;
    let mut partly = fixture.queued("l/x").await;
    let mut session = whole("upload_partly");
    session.parts[0].range = 1..partly.subject.fingerprint.bytes;
    fixture.take(&mut partly, Step::SentWhole { session, md5: None }).await;
    fixture.take(&mut partly, Step::Stored { file: FileId("file-3".into()), expires_at: None }).await;

    let found = fixture.store.sent_before(mine.id, 5).await.unwrap();
    let files: Vec<_> = found.iter().map(|same| (same.job, same.file.0.as_str())).collect();
    assert_eq!(files, [(two.id, "file-2"), (one.id, "file-1")], "the newest first");
    assert_eq!(found[0].sent, [(0..mine.subject.fingerprint.bytes, Digest::Blake3([7; 32]))]);
    assert_eq!(found[0].stored_at, at(5000).wall);
    assert_eq!(fixture.store.sent_before(mine.id, 2).await.unwrap().len(), 1, "two were looked at");
    assert_eq!(
        fixture.store.ranges_of(shares.id).await.unwrap(),
        found[1].sent,
        "a touch is no other version"
    );
}

#[tokio::test]
async fn what_was_sent_before_counts_only_with_a_digest_that_nobody_can_forge() {
    let fixture = Fixture::new().await;
    let mine = fixture.queued("c/x").await;
    for (path, md5) in [("a/x", None), ("b/x", Some("md5".to_owned()))] {
        let mut job = fixture.queued(path).await;
        let mut session = whole(&format!("upload_{path}"));
        session.parts[0].range = 0..job.subject.fingerprint.bytes;
        session.parts[0].stored = Some((PartId("part_0".into()), Digest::Xxh3([7; 16])));
        fixture.take(&mut job, Step::SentWhole { session, md5 }).await;
        fixture.take(&mut job, Step::Stored { file: FileId(path.into()), expires_at: None }).await;
    }
    let found = fixture.store.sent_before(mine.id, 1).await.unwrap();
    let files: Vec<_> = found.iter().map(|same| (same.file.0.as_str(), same.md5.as_deref())).collect();
    assert_eq!(files, [("b/x", Some("md5"))], "and the others take nobody's place");
}

#[tokio::test]
async fn a_job_shares_a_file_only_with_one_that_sent_it_and_keeps_it_from_being_forgotten() {
    let fixture = Fixture::new().await;
    let one = stored(&fixture, fixture.candidate("a/x"), "file-1").await;
    let share = |from, file: &str| Step::Deduped { file: FileId(file.into()), from, expires_at: Some(9) };
    let mut two = fixture.queued("b/x").await;
    for wrong in [share(one.id, "file-2"), share(JobId(99), "file-1"), share(two.id, "file-1")] {
        let result = fixture.step(two.id, State::Queued, wrong, Context::default()).await;
        let conflict = WriteError::Conflict { job: two.id, what: "deduped", found: Some(State::Queued) };
        assert_eq!(result, Err(conflict));
    }
    let mut three = fixture.queued("c/x").await;
    let mut four = fixture.queued("d/x").await;
    for job in [&mut two, &mut three] {
        fixture.take(job, share(one.id, "file-1")).await;
    }
    let result = fixture.step(four.id, State::Queued, share(two.id, "file-1"), Context::default()).await;
    assert!(result.is_err(), "that one only shares it: {result:?}");
    fixture.take(&mut four, Step::Cancelled).await;
    let record = fixture.store.record(two.id).await.unwrap().unwrap();
    assert_eq!((record.deduped_from, record.file_id), (Some(one.id), Some(FileId("file-1".into()))));
    assert_eq!((record.stored_at, record.file_expires_at), (Some(at(5000).wall), Some(Wall(9000))));
    assert_eq!(fixture.store.history(two.id).await.unwrap()[0].event, "deduped");
    assert_eq!(fixture.store.find_file(&FileId("file-1".into())).await.unwrap().len(), 1);

    // The one that sent it is moved away, and a long time passes.
    fixture.store.write(&Write::Retire(one.id)).await.unwrap();
    fixture.store.prune_history(at(9000).wall, JobId(0)).await.unwrap();
    assert_eq!(fixture.store.ranges_of(two.id).await.unwrap().len(), 1);
    let prune =
        async || (fixture.store.prunable(at(9000).wall).await, fixture.store.prune(at(9000).wall).await);
    let (counted, forgotten) = prune().await;
    assert_eq!((counted.unwrap(), forgotten.unwrap()), (0, 0));
    for job in [two.id, three.id] {
        fixture.store.write(&Write::Retire(job)).await.unwrap();
    }
    let (counted, forgotten) = prune().await;
    assert_eq!((counted.unwrap(), forgotten.unwrap()), (3, 2), "first those that share it");
    assert_eq!(prune().await.1.unwrap(), 1, "and then the one that sent it");
}
