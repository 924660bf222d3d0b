//! `rebuild`: a new store in place of a damaged one.

use clap::Args;

use super::failure::{FAILED, Failure, say};
use super::look::Style;
use super::output::Output;
use super::{Common, at};
use crate::clock::Clock;
use crate::store::{self, RebuildError};
use crate::text::{count, shown, shown_bytes};

/// What `rebuild` takes.
#[derive(Debug, Args)]
#[command(after_long_help = "\
For a store that `run` refuses with store-corrupt. What can still be read of it is copied into a new one; the damaged
one is kept beside it. All folders begin paused, since what lies in them and is not in the new store would be sent,
again if it was before. Refused while a service runs, and if the store is whole.

Examples:
  upspool rebuild
  upspool list                  what the new store knows
  upspool resume                when that is right: sending starts")]
pub struct Arguments {}

pub(super) async fn run(common: &Common, _arguments: &Arguments) -> Result<u8, Failure> {
    let config = at::configuration(common, None)?;
    let folders: Vec<_> =
        config.folders.iter().map(|folder| (folder.path.clone(), folder.name.clone())).collect();
    let rebuilt = match store::rebuild(&config.store.state_dir, &folders, Clock::System.now().wall).await {
        Ok(rebuilt) => rebuilt,
        Err(RebuildError::Store(fault)) => return Err(fault.into()),
        Err(healthy @ RebuildError::Healthy(_)) => {
            say(healthy);
            return Ok(FAILED);
        }
    };
    let mut output = Output::new();
    match &rebuilt.aside {
        Some(aside) => output.line(format_args!("the damaged store lies at {}", shown(aside)))?,
        None => output.line(format_args!("the old store is gone: nothing can be read of it"))?,
    }
    output.line(format_args!("the new store is {}", shown(&rebuilt.path)))?;
    if let Some(why) = &rebuilt.unreadable {
        output.line(format_args!("nothing could be read of the old one: {}", shown_bytes(why.as_bytes())))?;
    }
    let jobs = count(rebuilt.jobs, "job", "jobs");
    output.line(format_args!("it knows {jobs}, {} of them with their File", rebuilt.stored))?;
    if rebuilt.lost > 0 {
        let lost = output.styled(Style::Red, &format!("up to {}", count(rebuilt.lost, "job", "jobs")));
        output.line(format_args!("{lost} could not be read: their files count as new"))?;
    }
    if rebuilt.requeued > 0 {
        let jobs = count(rebuilt.requeued, "job", "jobs");
        output.line(format_args!("{jobs} lost the open Upload and will be sent from the beginning"))?;
    }
    if rebuilt.doubtful > 0 {
        let jobs = count(rebuilt.doubtful, "job", "jobs");
        output.line(format_args!(
            "{jobs} may have become a File without the ledger knowing it: see `upspool list --state failed`"
        ))?;
    }
    let paused = output.styled(Style::Yellow, "paused");
    let names: Vec<String> = rebuilt.paused.iter().map(|name| shown_bytes(name.as_bytes())).collect();
    let names = if names.is_empty() { "every folder that is met first".into() } else { names.join(", ") };
    output.line(format_args!("{paused}: {names}"))?;
    output.line(format_args!(
        "`upspool resume` starts sending: files that the new store does not know are sent, again if they were before"
    ))?;
    output.flush()?;
    Ok(0)
}
