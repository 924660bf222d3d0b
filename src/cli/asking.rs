//! Leaves requests in the store and waits a moment for the service's answers.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use tokio::time::sleep;

use super::Common;
use super::at;
use super::failure::{FAILED, Failure};
use super::output::Output;
use super::target::Target;
use crate::clock::Clock;
use crate::model::job::{FolderId, JobId};
use crate::status;
use crate::store::{Lock, NewRequest, Store, StoreError};

/// A service takes a request up within a second.
const PATIENCE: Duration = Duration::from_secs(2);

const POLL: Duration = Duration::from_millis(25);

/// Requests that go into one transaction: the service's own writes wait for it.
const TOGETHER: usize = 500;

/// What came of requests, in the order in which they were made.
#[derive(Debug)]
pub(super) struct Answers {
    /// One for each request: done as asked, or why not; none: not answered yet.
    pub(super) answers: Vec<Option<Result<String, String>>>,
    /// Whether a service runs that could answer.
    pub(super) running: bool,
}

/// A request about a job.
pub(super) fn about_job(kind: &str, job: JobId) -> NewRequest {
    NewRequest { kind: kind.into(), job: Some(job), folder: None, argument: None }
}

/// A request about a folder, or all of them.
pub(super) fn about_folder(kind: &str, folder: Option<FolderId>) -> NewRequest {
    NewRequest { kind: kind.into(), job: None, folder, argument: None }
}

/// Leaves the requests; if a service runs, waits for its answers.
pub(super) async fn ask(
    state_dir: &Path,
    store: &Store,
    requests: &[NewRequest],
) -> Result<Answers, Failure> {
    ask_patiently(state_dir, store, requests, PATIENCE).await
}

/// The same for what the service itself has to wait for.
pub(super) async fn ask_patiently(
    state_dir: &Path,
    store: &Store,
    requests: &[NewRequest],
    patience: Duration,
) -> Result<Answers, Failure> {
    let mut ids = Vec::with_capacity(requests.len());
    for chunk in requests.chunks(TOGETHER) {
        match store.insert_requests(chunk, Clock::System.now().wall).await {
            Ok(inserted) => ids.extend(inserted),
            Err(StoreError::Unwritable { path, message }) => {
                return Err(Failure::said(at::not_allowed("write", &path, &message)));
            }
            Err(error) => return Err(error.into()),
        }
    }
    let running = is_running(state_dir).await;
    let mut answers: BTreeMap<i64, Result<String, String>> = BTreeMap::new();
    let end = Clock::System.now().boot + patience;
    while running && answers.len() < ids.len() && Clock::System.now().boot < end {
        sleep(POLL).await;
        for id in &ids {
            if answers.contains_key(id) {
                continue;
            }
            let row = store.request(*id).await?;
            match row.and_then(|row| Some((row.done?, row.answer?))) {
                Some((done, answer)) => answers.insert(*id, if done { Ok(answer) } else { Err(answer) }),
                // They are answered in order.
                None => break,
            };
        }
    }
    Ok(Answers { answers: ids.iter().map(|id| answers.remove(id)).collect(), running })
}

/// Whether a service works on this state directory.
async fn is_running(state_dir: &Path) -> bool {
    Lock::holder(state_dir).is_some() || status::ask(state_dir).await.is_ok()
}

/// Asks the same of each job that an argument means. Arguments that mean none are told of, and do not keep the others
/// from being asked for.
pub(super) async fn ask_of_jobs(common: &Common, kind: &str, targets: &[OsString]) -> Result<u8, Failure> {
    let state_dir = at::state_dir(common)?;
    let store = at::store(&state_dir).await?;
    let (mut requests, mut code) = (Vec::new(), 0);
    for target in targets {
        match Target::of(target).find(&store).await {
            // Of several versions of a file the one that lies there is meant.
            Ok(records) => requests.extend(records.first().map(|record| about_job(kind, record.id))),
            Err(Failure::Said(line)) => code = Failure::Said(line).report(),
            Err(other) => return Err(other),
        }
    }
    let answers = ask(&state_dir, &store, &requests).await?;
    let mut output = Output::new();
    for (request, answer) in requests.iter().zip(&answers.answers) {
        let Some(job) = request.job else { continue };
        match answer {
            Some(Ok(answer)) => output.line(format_args!("{answer}"))?,
            Some(Err(answer)) => {
                output.line(format_args!("{answer}"))?;
                code = FAILED;
            }
            None => output.line(format_args!("job {}: {}", job.0, answers.unanswered()))?,
        }
    }
    output.flush()?;
    Ok(code)
}

/// Asks something of a folder or of all.
pub(super) async fn ask_of_folder(
    common: &Common,
    kind: &str,
    folder: Option<&OsString>,
) -> Result<u8, Failure> {
    let state_dir = at::state_dir(common)?;
    let store = at::store(&state_dir).await?;
    let row = match folder {
        Some(folder) => Some(super::target::folder(&store, folder).await?),
        None => None,
    };
    let request = about_folder(kind, row.as_ref().map(|row| row.id));
    let answers = ask(&state_dir, &store, &[request]).await?;
    let answer = answers.answers.first().cloned().flatten();
    let answer = answer.unwrap_or_else(|| Ok(answers.unanswered().to_owned()));
    let code = if answer.is_ok() { 0 } else { FAILED };
    let (Ok(answer) | Err(answer)) = answer;
    let who = row.map_or_else(
        || "all folders".to_owned(),
        |row| format!("folder {}", crate::text::shown_bytes(row.name.as_bytes())),
    );
    let mut output = Output::new();
    output.line(format_args!("{who}: {answer}"))?;
    output.flush()?;
    Ok(code)
}

impl Answers {
    /// What to say of a request without an answer.
    pub(super) fn unanswered(&self) -> &'static str {
        if self.running {
            "recorded; the service is busy and will take it up"
        } else {
            "recorded; taken up when the service starts"
        }
    }
}
