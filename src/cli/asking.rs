//! Leaves requests in the store, or in the spool beside it if this user may only read, and waits a moment for the service's
//! answers.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
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
use crate::store::{self, Lock, NewRequest, SPOOL, Store, StoreError};
use crate::text::shown;

/// A service takes a request up within a second, if the machine lets it.
const PATIENCE: Duration = Duration::from_secs(5);

const POLL: Duration = Duration::from_millis(25);

/// Requests that go into one transaction, or one file of the spool: the service's own writes wait for it.
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
    let left = leave(state_dir, store, requests).await?;
    let running = is_running(state_dir).await;
    let mut answers = BTreeMap::new();
    let end = Clock::System.now().boot + patience;
    while running && answers.len() < left.len() && Clock::System.now().boot < end {
        sleep(POLL).await;
        for (place, one) in left.iter().enumerate() {
            if answers.contains_key(&place) {
                continue;
            }
            match one.answer(state_dir, store).await? {
                Some(answer) => answers.insert(place, answer),
                // They are answered in order.
                None => break,
            };
        }
    }
    Ok(Answers { answers: (0..left.len()).map(|place| answers.remove(&place)).collect(), running })
}

/// Where a request was left.
enum Left {
    /// In the store.
    Row(i64),
    /// In the spool: in which file, and at which place of it.
    Spooled { token: String, place: usize },
}

impl Left {
    /// What came of it: done as asked, or why not; none: not answered yet.
    async fn answer(
        &self,
        state_dir: &Path,
        store: &Store,
    ) -> Result<Option<Result<String, String>>, StoreError> {
        let row = match self {
            Left::Row(id) => store.request(*id).await?,
            Left::Spooled { token, place } => {
                // Looked at before the row: the file is taken away only when there is one.
                let lies = store::is_left(state_dir, token);
                let row = store.spooled_request(token, *place).await?;
                if row.is_none() && !lies {
                    return Ok(Some(Err("the service has not taken it, and its log says why".to_owned())));
                }
                row
            }
        };
        let answer = row.and_then(|row| Some((row.done?, row.answer?)));
        Ok(answer.map(|(done, answer)| if done { Ok(answer) } else { Err(answer) }))
    }
}

/// Leaves all of them: as rows, or as files of the spool where this user may not write the store.
async fn leave(state_dir: &Path, store: &Store, requests: &[NewRequest]) -> Result<Vec<Left>, Failure> {
    let mut left = Vec::with_capacity(requests.len());
    for chunk in requests.chunks(TOGETHER) {
        match store.insert_requests(chunk, Clock::System.now().wall).await {
            Ok(ids) => left.extend(ids.into_iter().map(Left::Row)),
            Err(StoreError::Unwritable { path, message }) => {
                match leave_in_spool(state_dir, &requests[left.len()..]) {
                    Ok(spooled) => {
                        left.extend(spooled);
                        return Ok(left);
                    }
                    // The service has made none, so it is for the owner alone to ask.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {
                        return Err(Failure::said(at::not_allowed("write", &path, &message)));
                    }
                    Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                        let spool = state_dir.join(SPOOL);
                        return Err(Failure::said(at::not_allowed("write", &spool, &error.to_string())));
                    }
                    Err(error) => {
                        let spool = shown(&state_dir.join(SPOOL));
                        return Err(Failure::said(format!("cannot leave the request in {spool}: {error}")));
                    }
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(left)
}

fn leave_in_spool(state_dir: &Path, requests: &[NewRequest]) -> io::Result<Vec<Left>> {
    let (now, number) = (Clock::System.now().wall.0, RandomState::new().build_hasher().finish());
    let mut left = Vec::with_capacity(requests.len());
    for (index, chunk) in requests.chunks(TOGETHER).enumerate() {
        // They are taken up in the order of their names: first the earlier command, and of one command the earlier file.
        let token = format!("{now:013}-{index:06}-{number:016x}");
        store::leave(state_dir, &token, chunk)?;
        left.extend((0..chunk.len()).map(|place| Left::Spooled { token: token.clone(), place }));
    }
    Ok(left)
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
