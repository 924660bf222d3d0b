//! `status`: what the service is doing.

use std::path::Path;

use clap::Args;
use serde::Serialize;

use super::failure::{Failure, NO_SERVICE, say};
use super::follow::follow;
use super::moment::Clockface;
use super::output::Output;
use super::overview::lines;
use super::{Common, at};
use crate::clock::Clock;
use crate::engine::live::Live;
use crate::record::{FolderJson, SCHEMA};
use crate::status::ask;
use crate::store::{Lock, Store};
use crate::text::shown;

/// What `status` takes.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Exits with 3 if no service runs; what the store knows is printed all the same.

With --follow it goes on: a screen that is drawn anew each second, or in a pipe one line for each change.

Examples:
  upspool status
  upspool status --follow
  upspool status --json | jq '.live.holds'")]
pub struct Arguments {
    /// Go on: draw it anew each second, or in a pipe print one line for each change
    #[arg(long)]
    follow: bool,
    /// One JSON object; with --follow one for each change
    #[arg(long)]
    json: bool,
}

/// What is printed as JSON.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct StatusJson {
    pub(super) schema: u32,
    pub(super) running: bool,
    pub(super) live: Option<Live>,
    pub(super) folders: Vec<FolderJson>,
}

pub(super) async fn run(common: &Common, arguments: &Arguments) -> Result<u8, Failure> {
    let state_dir = at::state_dir(common)?;
    if arguments.follow {
        return follow(&state_dir, arguments.json).await;
    }
    let (status, why) = look(&state_dir).await;
    why.iter().for_each(say);
    let code = if status.running { 0 } else { NO_SERVICE };
    let mut output = Output::new();
    if arguments.json {
        output.json(&status)?;
    } else {
        let lines = lines(&status, &Clockface::at(Clock::System.now().wall), &output.look);
        output.lines(&lines)?;
    }
    output.flush()?;
    Ok(code)
}

/// How things are now; with what has to be said if no service, or no store, answers.
pub(super) async fn look(state_dir: &Path) -> (StatusJson, Vec<String>) {
    let mut why = Vec::new();
    let live = match ask(state_dir).await {
        Ok(live) => Some(live),
        Err(fault) => {
            why.push(match Lock::holder(state_dir) {
                Some(pid) => format!(
                    "the service (process {pid}) does not tell how it is ({fault}); this is from the store"
                ),
                None if fault.denied => {
                    format!("this user may not ask whether a service runs in {}", shown(state_dir))
                }
                None => format!("no service runs in {}; this is from the store", shown(state_dir)),
            });
            None
        }
    };
    let read = async { folders(&at::store(state_dir).await?).await };
    let folders = match read.await {
        Ok(folders) => folders,
        // A service that has just begun may not have made it yet.
        Err(failure) => {
            why.push(failure.words());
            Vec::new()
        }
    };
    (StatusJson { schema: SCHEMA, running: live.is_some(), live, folders }, why)
}

async fn folders(store: &Store) -> Result<Vec<FolderJson>, Failure> {
    let (rows, counts) = (store.folders().await?, store.counts().await?);
    Ok(FolderJson::all(rows, &counts, &store.queue_totals().await?))
}
