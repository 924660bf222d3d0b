//! `retry`: puts jobs back into the queue, and does again what failed after the end of others.

use std::ffi::OsString;

use clap::Args;

use super::asking::{about_job, ask, ask_of_jobs};
use super::failure::{FAILED, Failure};
use super::output::Output;
use super::{Common, at, target};
use crate::engine::requests::kind;
use crate::model::job::{FolderId, JobId, State};
use crate::store::{Filter, Store};
use crate::text::count;

/// Records read at once.
const PAGE: usize = 500;

/// What `retry` takes.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  upspool retry 17                              one job
  upspool retry /srv/drop/batch/report.jsonl    the file that lies there
  upspool retry --failed                        all that failed
  upspool retry --force 17                      a stored file once more
  upspool retry --failed --folder batch --code network")]
pub struct Arguments {
    /// Job numbers, or paths of files
    #[arg(required_unless_present = "failed", conflicts_with = "failed", value_name = "JOB|PATH")]
    jobs: Vec<OsString>,
    /// All failed jobs, and those whose receipt, move or hook failed
    #[arg(long)]
    failed: bool,
    /// Send stored files again, each as a new job with a File of its own
    #[arg(long, conflicts_with = "failed")]
    force: bool,
    /// With --failed: only of this folder, by its name or path
    #[arg(long, requires = "failed", conflicts_with = "jobs", value_name = "FOLDER")]
    folder: Option<OsString>,
    /// With --failed: only those that failed with this code
    #[arg(long, requires = "failed", conflicts_with = "jobs", value_name = "CODE")]
    code: Option<String>,
}

pub(super) async fn run(common: &Common, arguments: &Arguments) -> Result<u8, Failure> {
    if !arguments.failed {
        let kind = if arguments.force { kind::FORCE } else { kind::RETRY };
        return ask_of_jobs(common, kind, &arguments.jobs).await;
    }
    let state_dir = at::state_dir(common)?;
    let store = at::store(&state_dir).await?;
    let mut jobs = failed(&store, arguments).await?;
    if arguments.code.is_none() {
        let folder = folder_of(&store, arguments).await?;
        // A job may be here twice: failed, and its file could not be moved.
        let ends = store.badly_finished(folder).await?;
        jobs.extend(ends.into_iter().filter(|job| !jobs.contains(job)).collect::<Vec<_>>());
    }
    let requests: Vec<_> = jobs.iter().map(|job| about_job(kind::RETRY, *job)).collect();
    let answers = ask(&state_dir, &store, &requests).await?;
    let mut output = Output::new();
    let (mut queued, mut pending, mut code) = (0_u64, 0_u64, 0);
    for answer in &answers.answers {
        match answer {
            Some(Ok(_)) => queued += 1,
            Some(Err(answer)) => {
                output.line(format_args!("{answer}"))?;
                code = FAILED;
            }
            None => pending += 1,
        }
    }
    if queued > 0 || pending == 0 {
        output.line(format_args!("{} queued again", count(queued, "failed job", "failed jobs")))?;
    }
    if pending > 0 {
        output.line(format_args!(
            "{}: {}",
            count(pending, "failed job", "failed jobs"),
            answers.unanswered()
        ))?;
    }
    output.flush()?;
    Ok(code)
}

/// The folder that is meant, if one is.
async fn folder_of(store: &Store, arguments: &Arguments) -> Result<Option<FolderId>, Failure> {
    match &arguments.folder {
        Some(folder) => Ok(Some(target::folder(store, folder).await?.id)),
        None => Ok(None),
    }
}

/// The failed jobs that are meant, oldest first, as they are to be sent.
async fn failed(store: &Store, arguments: &Arguments) -> Result<Vec<JobId>, Failure> {
    let folder = folder_of(store, arguments).await?;
    let mut filter = Filter { states: vec![State::Failed], folder, limit: PAGE, ..Filter::default() };
    let mut jobs = Vec::new();
    loop {
        let page = store.list(&filter).await?;
        let Some(last) = page.last() else { break };
        filter.before = Some((last.found_at, last.id));
        let meant = page.iter().filter(|record| {
            let code = record.error.as_ref().map(|error| error.code.as_str());
            arguments.code.is_none() || arguments.code.as_deref() == code
        });
        jobs.extend(meant.map(|record| record.id));
    }
    jobs.reverse();
    Ok(jobs)
}
