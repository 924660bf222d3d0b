//! `bump`: Lets jobs be the next.

use std::ffi::OsString;

use clap::Args;

use super::failure::Failure;
use super::{Common, asking};
use crate::engine::requests::kind;

/// What `bump` takes.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  upspool bump 17
  upspool bump /srv/drop/batch/urgent.jsonl")]
pub struct Arguments {
    /// Job numbers, or paths of files
    #[arg(required = true, value_name = "JOB|PATH")]
    jobs: Vec<OsString>,
}

pub(super) async fn run(common: &Common, arguments: &Arguments) -> Result<u8, Failure> {
    asking::ask_of_jobs(common, kind::BUMP, &arguments.jobs).await
}
