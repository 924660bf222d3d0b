//! `status`: what the service is doing.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::failure::{Failure, NO_SERVICE, say};
use super::follow::{Rates, follow};
use super::moment::local_of;
use super::output::{Output, Style};
use super::table::{Cell, Column, Table};
use super::{Common, at};
use crate::engine::live::{Live, LiveFolder};
use crate::model::job::State;
use crate::record::SCHEMA;
use crate::status::ask;
use crate::store::{Lock, Store};
use crate::text::{count, duration, shown, shown_bytes, size};

/// A terminal of fewer columns shows less of each job.
const NARROW: usize = 120;

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

#[derive(Debug, PartialEq, Serialize)]
pub(super) struct StatusJson {
    schema: u32,
    pub(super) running: bool,
    pub(super) live: Option<Live>,
    pub(super) folders: Vec<FolderStatus>,
}

/// A folder as the store has it.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct FolderStatus {
    pub(super) name: String,
    /// Escaped for people.
    path: String,
    pub(super) paused: bool,
    paused_why: Option<String>,
    /// Every state, whether or not a job is in it.
    pub(super) counts: BTreeMap<&'static str, u64>,
    waiting_files: u64,
    waiting_bytes: u64,
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
        print(&mut output, &status, None)?;
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

async fn folders(store: &Store) -> Result<Vec<FolderStatus>, Failure> {
    let (rows, counts) = (store.folders().await?, store.counts().await?);
    let totals = store.queue_totals().await?;
    let folders = rows.into_iter().map(|row| {
        let mut by_state: BTreeMap<_, _> = State::ALL.iter().map(|state| (state.as_str(), 0)).collect();
        for count in counts.iter().filter(|count| count.folder == row.id) {
            by_state.insert(count.state.as_str(), count.jobs);
        }
        let waiting = totals.iter().find(|waiting| waiting.folder == row.id);
        FolderStatus {
            name: row.name,
            path: shown(&row.path),
            paused: row.paused,
            paused_why: row.paused_why,
            counts: by_state,
            waiting_files: waiting.map_or(0, |waiting| waiting.files),
            waiting_bytes: waiting.map_or(0, |waiting| waiting.bytes),
        }
    });
    Ok(folders.collect())
}

/// `rates` are bytes a second of jobs, where they are known.
pub(super) fn print(output: &mut Output, status: &StatusJson, rates: Option<&Rates>) -> Result<(), Failure> {
    if let Some(live) = &status.live {
        print_service(output, live)?;
    }
    for folder in &status.folders {
        let live = status.live.as_ref();
        let watched = live.map(|live| live.folders.iter().find(|other| other.path == folder.path));
        print_folder(output, folder, watched)?;
    }
    if let Some(live) = &status.live {
        print_active(output, live, rates)?;
        print_changing(output, live)?;
    }
    Ok(())
}

fn print_service(output: &mut Output, live: &Live) -> Result<(), Failure> {
    let stopping = if live.stopping { ", stopping" } else { "" };
    // Why there are not more, where the number was found out.
    let bound = live.slots.bound.as_ref().map_or_else(String::new, |bound| format!(" ({bound})"));
    output.line(format_args!(
        "upspool {}, process {}{stopping}: {} of {} Part slots{bound} in use, {}",
        live.version,
        live.pid,
        live.slots.parts,
        live.slots.of,
        count(u64::try_from(live.slots.small).unwrap_or(u64::MAX), "other request", "other requests")
    ))?;
    for stuck in &live.stuck {
        let title = output.styled(Style::Red, "Stuck");
        let (what, at) = (shown_bytes(stuck.what.as_bytes()), shown_bytes(stuck.at.as_bytes()));
        let lasted = duration(std::time::Duration::from_secs(stuck.seconds));
        output.line(format_args!("{title}: {what}: {at} for {lasted}"))?;
    }
    for hold in &live.holds {
        let title = output.styled(Style::Red, &format!("On hold: {}", shown_bytes(hold.scope.as_bytes())));
        output.line(format_args!("{title}: {}: {}", hold.code, shown_bytes(hold.message.as_bytes())))?;
        output.line(format_args!("  remedy: {}", hold.remedy))?;
        output.line(format_args!(
            "  since {}, next try {}, {} failed so far",
            local_of(&hold.since),
            local_of(&hold.next_probe),
            hold.probes
        ))?;
    }
    for pace in &live.paces {
        let title = format!("Slowed down by the server: account {}", shown_bytes(pace.account.as_bytes()));
        let title = output.styled(Style::Yellow, &title);
        let until = pace.until.as_ref().map_or_else(String::new, |until| {
            format!(", and nothing before {} (`upspool resume` tries at once)", local_of(until))
        });
        let slots = count(u64::try_from(pace.slots).unwrap_or(u64::MAX), "Part", "Parts");
        output.line(format_args!("{title}: {slots} at once{until}"))?;
    }
    Ok(())
}

/// `watched`: none without a service; `Some(None)` if the service does not watch it.
fn print_folder(
    output: &mut Output,
    folder: &FolderStatus,
    watched: Option<Option<&LiveFolder>>,
) -> Result<(), Failure> {
    let name = output.styled(Style::Bold, &shown_bytes(folder.name.as_bytes()));
    output.line(format_args!(""))?;
    output.line(format_args!("{name}  {}", folder.path))?;
    if let Some(watched) = watched {
        output.line(format_args!("  {}", how_watched(output, watched)))?;
    }
    if folder.paused {
        let why = folder.paused_why.as_deref().map_or_else(String::new, |why| format!(": {why}"));
        let paused = output.styled(Style::Yellow, "paused");
        let why = shown_bytes(why.as_bytes());
        output.line(format_args!("  {paused}{why}; `upspool resume --folder {}` goes on", folder.name))?;
    }
    let total: u64 = folder.counts.values().sum();
    let parts: Vec<String> = State::ALL
        .into_iter()
        .filter_map(|state| Some((state, *folder.counts.get(state.as_str())?)))
        .filter(|(_, jobs)| *jobs > 0)
        .map(|(state, jobs)| output.styled(Style::of(state), &format!("{jobs} {state}")))
        .collect();
    let sum = if parts.is_empty() { String::new() } else { format!(": {}", parts.join(", ")) };
    output.line(format_args!("  {}{sum}", count(total, "job", "jobs")))?;
    if folder.waiting_files > 0 {
        let files = count(folder.waiting_files, "file", "files");
        let bytes = size(folder.waiting_bytes);
        output.line(format_args!("  waiting: {files}, {bytes}"))?;
    }
    Ok(())
}

fn how_watched(output: &Output, watched: Option<&LiveFolder>) -> String {
    let Some(folder) = watched else { return "not watched: not in the service's configuration".into() };
    let how = match folder.state.as_str() {
        "events" => "watched by events".to_owned(),
        "polling" => "watched by scans alone".to_owned(),
        "degraded" => output.styled(Style::Yellow, "watched by scans alone"),
        "missing" => output.styled(Style::Red, "missing"),
        "starting" => "not looked at yet".to_owned(),
        other => shown_bytes(other.as_bytes()),
    };
    let why =
        folder.why.as_ref().map_or_else(String::new, |why| format!(" ({})", shown_bytes(why.as_bytes())));
    let scan = match &folder.last_scan {
        Some(at) => format!("last scan {}", local_of(at)),
        None => "no scan has ended yet".into(),
    };
    format!("{how}{why}, {scan}")
}

fn print_active(output: &mut Output, live: &Live, rates: Option<&Rates>) -> Result<(), Failure> {
    if live.active.is_empty() {
        return Ok(());
    }
    // What does not fit beside a bar and a path is left out.
    let is_narrow = rates.is_some() && output.columns.is_some_and(|columns| columns < NARROW);
    let mut columns = vec![Column::right("JOB")];
    if !is_narrow {
        columns.push(Column::left("STATE"));
    }
    columns.extend([Column::right("DONE"), Column::right("SIZE")]);
    if !is_narrow {
        columns.extend([Column::right("PARTS"), Column::right("EXPIRES IN")]);
    }
    if rates.is_some() {
        columns.extend([Column::right("RATE"), Column::right("LEFT")]);
    }
    if !is_narrow {
        columns.push(Column::left("FOLDER"));
    }
    columns.push(Column::elastic("PATH", 20));
    let mut table = Table::new(&columns);
    for job in &live.active {
        let percent = (u128::from(job.bytes_sent) * 100).checked_div(u128::from(job.bytes)).unwrap_or(0);
        let expires = job.expires_in.map(|seconds| duration(Duration::from_secs(seconds)));
        let bar = rates.map_or_else(String::new, |_| bar(percent));
        let mut cells = vec![Cell::new(job.id.to_string())];
        if !is_narrow {
            cells.push(Cell::styled(job.state.clone(), Style::Cyan));
        }
        cells.extend([Cell::new(format!("{bar}{percent} %")), Cell::new(size(job.bytes))]);
        if !is_narrow {
            cells.push(Cell::new(format!("{}/{}", job.parts_stored, job.parts_total)));
            cells.push(Cell::new(expires.unwrap_or_default()));
        }
        if let Some(rates) = rates {
            let rate = rates.of(job.id).filter(|rate| *rate > 0);
            let left =
                rate.map(|rate| Duration::from_secs((job.bytes - job.bytes_sent.min(job.bytes)) / rate));
            cells.push(Cell::new(rate.map_or_else(String::new, |rate| format!("{}/s", size(rate)))));
            cells.push(Cell::new(left.map_or_else(String::new, duration)));
        }
        if !is_narrow {
            cells.push(Cell::new(shown_bytes(job.folder.as_bytes())));
        }
        cells.push(Cell::new(job.path.clone()));
        table.row(cells);
    }
    output.line(format_args!(""))?;
    table.print(output, 0)
}

/// How much of it is done, in ten steps.
fn bar(percent: u128) -> String {
    let done = usize::try_from(percent / 10).unwrap_or(10).min(10);
    format!("[{}{}] ", "#".repeat(done), ".".repeat(10 - done))
}

fn print_changing(output: &mut Output, live: &Live) -> Result<(), Failure> {
    if live.changing_count == 0 {
        return Ok(());
    }
    let mut table = Table::new(&[
        Column::left("NOT SETTLED"),
        Column::right("FOR"),
        Column::right("SIZE"),
        Column::left("FOLDER"),
        Column::elastic("PATH", 20),
    ]);
    for file in &live.changing {
        table.row(vec![
            Cell::new(file.why.clone()),
            Cell::new(duration(std::time::Duration::from_secs(file.seconds))),
            Cell::new(size(file.bytes)),
            Cell::new(shown_bytes(file.folder.as_bytes())),
            Cell::new(file.path.clone()),
        ]);
    }
    output.line(format_args!(""))?;
    table.print(output, 0)?;
    let more: u64 =
        live.changing_count.saturating_sub(u64::try_from(live.changing.len()).unwrap_or(u64::MAX));
    if more > 0 {
        output.line(format_args!("and {} that have not settled", count(more, "more file", "more files")))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_the_service_does_not_watch_is_called_so() {
        let output = Output::new();
        assert!(how_watched(&output, None).starts_with("not watched"));
        let live = LiveFolder { state: "polling".into(), why: Some("nfs".into()), ..LiveFolder::default() };
        assert_eq!(how_watched(&output, Some(&live)), "watched by scans alone (nfs), no scan has ended yet");
    }

    #[test]
    fn a_bar_has_ten_steps() {
        for (percent, expected) in
            [(0, "[..........] "), (46, "[####......] "), (99, "[#########.] "), (100, "[##########] ")]
        {
            assert_eq!(bar(percent), expected);
        }
    }
}
