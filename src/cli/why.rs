//! `why`: one answer to «why is this file not uploaded?».

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;

use super::failure::{FAILED, Failure, say};
use super::look::{Style, Text};
use super::moment::Clockface;
use super::output::Output;
use super::{Common, at};
use crate::clock::Clock;
use crate::daemon::folders::places;
use crate::engine::why::{Inquiry, Why, looks};
use crate::status::ask_why;
use crate::store::{Lock, Store};
use crate::text::{shown, shown_bytes};

/// What `why` takes.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Exits with 0 if the file is stored, or will be without anybody's doing; with 1 if it will not.

Examples:
  upspool why /srv/drop/batch/report.jsonl
  upspool why report.jsonl --json | jq -r .answer")]
pub struct Arguments {
    /// The file
    path: PathBuf,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(common: &Common, arguments: &Arguments) -> Result<u8, Failure> {
    let path = std::path::absolute(&arguments.path)
        .map_err(|error| Failure::said(format!("{}: {error}", shown(&arguments.path))))?;
    let path = super::target::plain(&path);
    let why = explain(common, &at::state_dir(common)?, &path, &mut |line| say(line)).await?;
    let mut output = Output::new();
    if arguments.json {
        output.json(&why)?;
    } else {
        print(&mut output, &why)?;
    }
    output.flush()?;
    Ok(if goes_on(&why) { 0 } else { FAILED })
}

/// Asks the running service, or the store and the folder; `tell` hears why it is not the service that runs.
pub(super) async fn explain(
    common: &Common,
    state_dir: &Path,
    path: &Path,
    tell: &mut dyn FnMut(String),
) -> Result<Why, Failure> {
    match ask_why(state_dir, path).await {
        Ok(why) => Ok(why),
        Err(fault) => {
            if let Some(pid) = Lock::holder(state_dir) {
                tell(format!(
                    "the service (process {pid}) does not say ({fault}); this is from the store and the folder"
                ));
            }
            ourselves(common, state_dir, path).await
        }
    }
}

/// What can be said without a service: from the ledger, if there is one, and the folder.
async fn ourselves(common: &Common, state_dir: &Path, path: &Path) -> Result<Why, Failure> {
    let config = at::configuration(common, None)?;
    let store = if state_dir.join(crate::store::DATABASE).exists() {
        Some(at::store(state_dir).await?)
    } else {
        None
    };
    let rows = match &store {
        Some(store) => Store::folders(store).await?,
        None => Vec::new(),
    };
    let places = places(&config, &rows).map_err(|error| Failure::said(error.to_string()))?;
    let inquiry =
        Inquiry { store, places: Arc::new(places), clock: Clock::System, running: None, looks: looks() };
    Ok(inquiry.explain(path).await?)
}

fn print(output: &mut Output, why: &Why) -> Result<(), Failure> {
    let text = |text: &str| shown_bytes(text.as_bytes());
    let face = Clockface::at(Clock::System.now().wall);
    output.line(format_args!("{}", why.path))?;
    let mut say = |words: Text| output.text(&words, 2, 4);
    say(Text::new(why.message.clone()))?;
    if let Some(remedy) = &why.remedy {
        say(Text::styled(Style::Bold, "remedy").and(format!(": {}", text(remedy))))?;
    }
    if let Some(until) = &why.until {
        say(Text::new(format!("goes on: {}", face.when(until))))?;
    }
    if let Some(job) = why.job {
        say(Text::new(format!("job {job}: upspool show {job}")))?;
    }
    let source = match why.source.as_str() {
        "service" => "the running service",
        _ => "the store and the folder, since no service runs",
    };
    say(Text::new(format!("asked of {source}")))
}

/// Whether the file is stored, or will be without anybody's doing.
pub(super) fn goes_on(why: &Why) -> bool {
    !matches!(
        why.answer.as_str(),
        "not-covered"
            | "ignored"
            | "excluded"
            | "too-deep"
            | "directory"
            | "no-file"
            | "no-such-file"
            | "folder-missing"
            | "unknown"
            | "no-service"
            | "paused"
            | "failed"
            | "unresolved"
            | "skipped"
            | "cancelled"
            | "gone"
    )
}
