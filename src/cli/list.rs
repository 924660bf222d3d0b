//! `list`: jobs, newest first.

use std::ffi::OsString;

use clap::Args;
use clap::builder::PossibleValuesParser;
use clap::builder::TypedValueParser;

use super::failure::Failure;
use super::look::Style;
use super::moment::{self, Moment, local_minute};
use super::output::Output;
use super::table::{Cell, Column, Table};
use super::{Common, at, target};
use crate::clock::Clock;
use crate::model::job::State;
use crate::model::time::Wall;
use crate::record::{JobJson, waiting};
use crate::store::{Filter, Record};
use crate::text::{shown, shown_bytes, size};

/// Records read and printed at once, however many are asked for.
const PAGE: usize = 500;

/// What `list` takes.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  upspool list                                  the last 50
  upspool list --state failed --state unresolved
  upspool list --folder batch --since 2h
  upspool list --since 2026-11-01 --until 2026-12-01 --limit 100000 --json | jq -r .file_id")]
pub struct Arguments {
    /// Only jobs in this state; may be said several times
    #[arg(long = "state", value_name = "STATE", value_parser = states())]
    states: Vec<State>,
    /// Only jobs of this folder, by its name or path
    #[arg(long, value_name = "FOLDER")]
    folder: Option<OsString>,
    /// Only jobs found at this time or later: 2026-11-22T17:00:00Z, 2026-11-22, or ago: 2h, 7d
    #[arg(long, value_name = "TIME")]
    since: Option<Moment>,
    /// Only jobs found before this time
    #[arg(long, value_name = "TIME")]
    until: Option<Moment>,
    /// At most so many
    #[arg(long, default_value_t = 50, value_name = "N")]
    limit: usize,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

fn states() -> impl TypedValueParser<Value = State> {
    PossibleValuesParser::new(State::ALL.map(State::as_str))
        .try_map(|name| State::from_name(&name).ok_or("not a state"))
}

pub(super) async fn run(common: &Common, arguments: &Arguments) -> Result<u8, Failure> {
    let store = at::store(&at::state_dir(common)?).await?;
    let now = Clock::System.now().wall;
    let zone = moment::zone();
    let resolve = |moment: Option<Moment>| moment.map(|moment| moment.resolve(now, &zone));
    let mut filter = Filter {
        states: arguments.states.clone(),
        folder: match &arguments.folder {
            Some(folder) => Some(target::folder(&store, folder).await?.id),
            None => None,
        },
        since: resolve(arguments.since),
        until: resolve(arguments.until),
        ..Filter::default()
    };
    let mut output = Output::new();
    let mut table = table();
    let mut left = arguments.limit;
    while left > 0 {
        filter.limit = left.min(PAGE);
        let page = store.list(&filter).await?;
        if arguments.json {
            for record in &page {
                output.json(&JobJson::new(record, now))?;
            }
        } else {
            add(&mut table, &page, now);
            let lines = table.lines(&output.look, 0);
            output.lines(&lines)?;
        }
        output.flush()?;
        left -= page.len().min(left);
        match page.last() {
            Some(last) if page.len() == filter.limit => filter.before = Some((last.found_at, last.id)),
            _ => break,
        }
    }
    Ok(0)
}

/// The records for people.
fn table() -> Table {
    Table::new(&[
        Column::right("JOB"),
        Column::left("STATE"),
        Column::right("SIZE").rank(1),
        Column::left("FOUND").rank(2),
        Column::elastic("FILE ID OR REASON", 10),
        Column::elastic("PATH", 10),
    ])
}

fn add(table: &mut Table, records: &[Record], now: Wall) {
    for record in records {
        table.row(vec![
            Cell::new(record.id.0.to_string()),
            Cell::styled(record.state.as_str(), Style::of(record.state)),
            Cell::new(size(record.fingerprint.bytes)),
            Cell::new(local_minute(record.found_at)),
            Cell::new(reason(record, now)),
            Cell::new(shown(&record.folder_path.join(&record.relative_path))),
        ]);
    }
}

/// The File, or why there is none, in a few words.
fn reason(record: &Record, now: Wall) -> String {
    if let Some(file) = &record.file_id {
        return shown_bytes(file.0.as_bytes());
    }
    let code = record.error.as_ref().map(|error| shown_bytes(error.code.as_bytes()));
    match (waiting(record, now), code, record.parts_total) {
        (Some("due"), code, _) => {
            let until = record.due_at.map_or_else(String::new, |due| format!("until {}", local_minute(due)));
            code.map_or(until.clone(), |code| format!("{code}, {until}"))
        }
        (Some("requested"), ..) => {
            // What a file of the spool calls it may be anything.
            let asked = record.requested.as_deref().unwrap_or_default();
            format!("{} is asked for", shown_bytes(asked.as_bytes()))
        }
        (Some("paused"), ..) => "paused".into(),
        (Some(_), ..) => "waits for its turn".into(),
        (None, Some(code), _) => code,
        (None, None, Some(total)) if record.state == State::Uploading => {
            format!("{} of {total} Parts", record.parts_stored.unwrap_or(0))
        }
        (None, None, _) => String::new(),
    }
}
