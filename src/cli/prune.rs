//! `prune`: forgets jobs that ended long ago and whose files are gone.

use std::time::Duration;

use clap::Args;

use super::asking::ask_patiently;
use super::failure::{FAILED, Failure};
use super::output::Output;
use super::{Common, at};
use crate::clock::Clock;
use crate::engine::requests::kind;
use crate::store::NewRequest;
use crate::text::{count, setting};

/// A million rows take a while.
const PATIENCE: Duration = Duration::from_secs(600);

/// What `prune` takes.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Only jobs whose file does not lie in its folder any more are forgotten, with their File IDs: a file that lies there would
be sent again. Nor is what is unresolved, what is still to be moved or told, or what another job shares its File with. Take an
export before, if the ledger is to be kept.

Examples:
  upspool prune --older-than 365d --dry-run
  upspool export > ledger.csv && upspool prune --older-than 365d")]
pub struct Arguments {
    /// That ended at least so long ago: 90d, 12h
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    older_than: Duration,
    /// Say how many there are, and forget none
    #[arg(long)]
    dry_run: bool,
}

pub(super) async fn run(common: &Common, arguments: &Arguments) -> Result<u8, Failure> {
    let state_dir = at::state_dir(common)?;
    let store = at::store(&state_dir).await?;
    let before = Clock::System.now().wall - arguments.older_than;
    let mut output = Output::new();
    let code = if arguments.dry_run {
        let jobs = count(store.prunable(before).await?, "job", "jobs");
        output.line(format_args!(
            "{jobs} would be forgotten that ended more than {} ago",
            setting(arguments.older_than)
        ))?;
        0
    } else {
        let argument = Some(before.0.to_string());
        let request = NewRequest { kind: kind::PRUNE.into(), job: None, folder: None, argument };
        let answers = ask_patiently(&state_dir, &store, &[request], PATIENCE).await?;
        match answers.answers.first() {
            Some(Some(Ok(answer))) => {
                output.line(format_args!("{answer}"))?;
                0
            }
            Some(Some(Err(answer))) => {
                output.line(format_args!("{answer}"))?;
                FAILED
            }
            _ => {
                output.line(format_args!("{}", answers.unanswered()))?;
                0
            }
        }
    };
    output.flush()?;
    Ok(code)
}
