//! `resolve`: settles a job of which nobody but a person can tell what became of it.

use std::ffi::OsString;
use std::time::Duration;

use clap::Args;

use super::asking::{about_job, ask_patiently};
use super::failure::{FAILED, Failure};
use super::output::Output;
use super::target::Target;
use super::{Common, at};
use crate::engine::requests::{kind, written};
use crate::model::answer::{FileId, can_be_id};
use crate::model::board::Resolution;
use crate::model::job::State;
use crate::store::NewRequest;

/// The File is fetched and compared first, and may be large.
const PATIENCE: Duration = Duration::from_secs(600);

/// What `resolve` takes.
#[derive(Debug, Args)]
#[command(after_long_help = "\
A job is unresolved when the answer to complete was lost and neither the server's other answers nor its list of Files \
tell whether a File was made, or which. `upspool show JOB` names the candidates.

Examples:
  upspool resolve 17 --file-id file-abc123              it is that one; fetched and compared first
  upspool resolve 17 --file-id file-abc123 --unchecked  it is that one, on your word
  upspool resolve 17 --again                            there is none: send the file again")]
pub struct Arguments {
    /// The job's number, or the path of its file
    #[arg(value_name = "JOB|PATH")]
    job: OsString,
    /// The File that it became
    #[arg(long, value_name = "ID", required_unless_present = "again", conflicts_with = "again")]
    file_id: Option<String>,
    /// It became none: back into the queue
    #[arg(long)]
    again: bool,
    /// With --file-id: do not compare the File's content with what was sent
    #[arg(long, requires = "file_id", conflicts_with = "again")]
    unchecked: bool,
}

pub(super) async fn run(common: &Common, arguments: &Arguments) -> Result<u8, Failure> {
    let resolution = match &arguments.file_id {
        Some(id) if !can_be_id(id) || id.contains(char::is_whitespace) => {
            return Err(Failure::said("--file-id: that is no File ID".to_owned()));
        }
        Some(id) if arguments.unchecked => Resolution::IsUnchecked(FileId(id.clone())),
        Some(id) => Resolution::Is(FileId(id.clone())),
        None => Resolution::Again,
    };
    let state_dir = at::state_dir(common)?;
    let store = at::store(&state_dir).await?;
    let records = Target::of(&arguments.job).find(&store).await?;
    // Of several versions of a file the unresolved one is meant.
    let record = records.iter().find(|record| record.state == State::Unresolved).or(records.first());
    let Some(record) = record else { return Err(Failure::said("there is no such job".to_owned())) };
    let request = NewRequest { argument: Some(written(&resolution)), ..about_job(kind::RESOLVE, record.id) };
    let answers = ask_patiently(&state_dir, &store, &[request], PATIENCE).await?;
    let mut output = Output::new();
    let code = match answers.answers.first().and_then(Option::as_ref) {
        Some(Ok(answer)) => {
            output.line(format_args!("{answer}"))?;
            0
        }
        Some(Err(answer)) => {
            output.line(format_args!("{answer}"))?;
            FAILED
        }
        None => {
            output.line(format_args!("job {}: {}", record.id.0, answers.unanswered()))?;
            0
        }
    };
    output.flush()?;
    Ok(code)
}
