//! `cancel`: Stops jobs.

use std::ffi::OsString;

use clap::Args;

use super::failure::Failure;
use super::{Common, asking};
use crate::engine::requests::kind;

/// What `cancel` takes.
#[derive(Debug, Args)]
#[command(after_long_help = "\
The file stays where it is, and is not sent again unless it changes or `upspool retry` asks for it. Once the File is being
made it is too late, and the answer says so.

Examples:
  upspool cancel 17 18
  upspool cancel /srv/drop/batch/huge.jsonl")]
pub struct Arguments {
    /// Job numbers, or paths of files
    #[arg(required = true, value_name = "JOB|PATH")]
    jobs: Vec<OsString>,
}

pub(super) async fn run(common: &Common, arguments: &Arguments) -> Result<u8, Failure> {
    asking::ask_of_jobs(common, kind::CANCEL, &arguments.jobs).await
}
