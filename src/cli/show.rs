//! `show`: everything about one job.

use std::ffi::OsString;

use clap::Args;
use serde::Serialize;

use super::failure::Failure;
use super::look::{Style, Text};
use super::moment::local;
use super::output::Output;
use super::table::{Cell, Column, Table};
use super::target::Target;
use super::{Common, at};
use crate::clock::Clock;
use crate::model::digest::Algorithm;
use crate::model::job::Code;
use crate::model::time::Wall;
use crate::record::{JobJson, waiting};
use crate::store::{FinishState, HistoryRow, PartRow, Record, Store, UploadRow};
use crate::text::{duration, rfc3339, shown, shown_bytes, size};

/// What `show` takes.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  upspool show 17
  upspool show /srv/drop/batch/report.jsonl
  upspool show file-abc123
  upspool show --json report.jsonl | jq .history")]
pub struct Arguments {
    /// A job number, a File ID, or the path of a file
    #[arg(value_name = "JOB|PATH|FILE_ID")]
    what: OsString,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

/// The record with all that belongs to it.
#[derive(Debug, Serialize)]
struct ShowJson {
    #[serde(flatten)]
    job: JobJson,
    /// Whether this job speaks for what lies at the path now.
    present: bool,
    mtime_ns: i64,
    ctime_ns: i64,
    inode: u64,
    expires_after_seconds: Option<u64>,
    bytes_stored: Option<u64>,
    candidates: Vec<String>,
    /// Other versions of the file, newest first.
    other_jobs: Vec<i64>,
    uploads: Vec<UploadJson>,
    history: Vec<HistoryJson>,
}

#[derive(Debug, Serialize)]
struct UploadJson {
    number: u32,
    upload_id: String,
    opened_at: String,
    expires_at: Option<String>,
    ended_at: Option<String>,
    end_reason: Option<String>,
    parts: Vec<PartJson>,
}

#[derive(Debug, Serialize)]
struct PartJson {
    start: u64,
    length: u64,
    part_id: Option<String>,
    xxh3: Option<String>,
    blake3: Option<String>,
    stored_at: Option<String>,
}

#[derive(Debug, Serialize)]
struct HistoryJson {
    at: String,
    event: String,
    operation: Option<String>,
    attempt: Option<u32>,
    status: Option<u16>,
    request_id: Option<String>,
    code: Option<String>,
    message: Option<String>,
    duration_ms: Option<u64>,
    bytes: Option<u64>,
    part: Option<u32>,
}

/// A job with all that belongs to it.
struct Whole {
    record: Record,
    others: Vec<i64>,
    uploads: Vec<UploadRow>,
    history: Vec<HistoryRow>,
}

pub(super) async fn run(common: &Common, arguments: &Arguments) -> Result<u8, Failure> {
    let store = at::store(&at::state_dir(common)?).await?;
    let target = Target::of(&arguments.what);
    let mut records = target.find(&store).await?;
    let mut others = Vec::new();
    if let Target::Path(_) = target {
        others = records.split_off(1).iter().map(|record| record.id.0).collect();
    }
    let now = Clock::System.now().wall;
    let mut output = Output::new();
    for (index, record) in records.into_iter().enumerate() {
        let whole = Whole::load(&store, record, others.clone()).await?;
        if arguments.json {
            output.json(&whole.json(now))?;
        } else {
            if index > 0 {
                output.line(format_args!(""))?;
            }
            whole.print(&mut output, now)?;
        }
    }
    output.flush()?;
    Ok(0)
}

impl Whole {
    async fn load(store: &Store, record: Record, others: Vec<i64>) -> Result<Whole, Failure> {
        let uploads = store.uploads_and_parts(record.id).await?;
        let history = store.history(record.id).await?;
        Ok(Whole { record, others, uploads, history })
    }

    fn print(&self, output: &mut Output, now: Wall) -> Result<(), Failure> {
        let record = &self.record;
        let state = output.styled(Style::of(record.state), record.state.as_str());
        output.line(format_args!("Job {}: {state}", record.id.0))?;
        let hanging = if output.look.columns.is_some_and(|columns| columns < 60) { 4 } else { 16 };
        for (name, value) in self.facts(now) {
            match name {
                // To be copied whole.
                "path" | "moved to" => output.line(format_args!("  {name:<13} {value}"))?,
                _ => output.text(&Text::new(format!("{name:<13} {value}")), 2, hanging)?,
            }
        }
        for upload in &self.uploads {
            print_upload(output, upload, now)?;
        }
        if !self.history.is_empty() {
            output.line(format_args!("  History"))?;
            let lines = history_table(&self.history).lines(&output.look, 4);
            output.lines(&lines)?;
        }
        Ok(())
    }

    /// What is known, in the order in which one asks.
    fn facts(&self, now: Wall) -> Vec<(&'static str, String)> {
        let record = &self.record;
        let mut facts = vec![("path", shown(&record.folder_path.join(&record.relative_path)))];
        let mut add = |name, value: Option<String>| facts.extend(value.map(|value| (name, value)));
        add("folder", Some(shown_bytes(record.folder_name.as_bytes())));
        add("File ID", record.file_id.as_ref().map(|file| shown_bytes(file.0.as_bytes())));
        add("shared with", record.deduped_from.map(|job| format!("job {}", job.0)));
        for candidate in &record.candidates {
            add("may be", Some(shown_bytes(candidate.0.as_bytes())));
        }
        add("stored", record.stored_at.map(local));
        add("deleted", record.file_expires_at.map(|at| format!("{} by the server", local(at))));
        add("waits", waiting(record, now).map(|why| waits(record, why)));
        add("asked for", record.requested.as_ref().map(|asked| shown_bytes(asked.as_bytes())));
        if let Some(error) = &record.error {
            add("error", Some(format!("{}: {}", error.code, shown_bytes(error.message.as_bytes()))));
            add("remedy", error.code.parse::<Code>().ok().map(|code| code.remedy().to_owned()));
            add("request", error.request_id.as_ref().map(|id| shown_bytes(id.as_bytes())));
        }
        add(
            "failing since",
            record.failing_since.map(|since| format!("{} ({} attempts)", local(since), record.attempts)),
        );
        add("restarts", (record.restarts > 0).then(|| format!("{} Uploads were given up", record.restarts)));
        for warning in &record.warnings {
            add("warning", Some(shown_bytes(warning.as_bytes())));
        }
        if record.finish != FinishState::None {
            let why = record.finish_error.as_ref().map_or_else(String::new, |why| format!(": {why}"));
            let step = record.finish_step.as_ref().map_or_else(String::new, |step| format!(" ({step})"));
            add("finish", Some(shown_bytes(format!("{}{step}{why}", record.finish.as_str()).as_bytes())));
        }
        add("moved to", record.moved_to.as_deref().map(shown));
        add("found", Some(local(record.found_at)));
        add("ended", record.ended_at.map(local));
        let bytes = record.fingerprint.bytes;
        add("size", Some(format!("{} ({bytes} bytes)", size(bytes))));
        add("modified", Some(local(Wall(record.fingerprint.mtime_ns / 1_000_000))));
        add("inode", Some(record.fingerprint.inode.to_string()));
        add("MD5", record.md5.clone());
        add("sent as", Some(format!("{} ({})", shown_bytes(record.filename.as_bytes()), record.mime_type)));
        add("purpose", Some(shown_bytes(record.purpose.as_bytes())));
        add(
            "expires after",
            record.expires_after.map(|seconds| duration(std::time::Duration::from_secs(seconds))),
        );
        let project = record.project.as_ref().map_or_else(String::new, |project| format!(", {project}"));
        add("account", Some(format!("{} ({}{project})", record.account.0, record.base_url)));
        add("version", (!record.present).then(|| "not what lies at the path now".to_owned()));
        let others: Vec<String> = self.others.iter().map(i64::to_string).collect();
        add("other jobs", (!others.is_empty()).then(|| others.join(", ")));
        facts
    }

    fn json(&self, now: Wall) -> ShowJson {
        let Record { fingerprint, candidates, .. } = &self.record;
        ShowJson {
            job: JobJson::new(&self.record, now),
            present: self.record.present,
            mtime_ns: fingerprint.mtime_ns,
            ctime_ns: fingerprint.ctime_ns,
            inode: fingerprint.inode,
            expires_after_seconds: self.record.expires_after,
            bytes_stored: self.record.bytes_stored,
            candidates: candidates.iter().map(|file| file.0.clone()).collect(),
            other_jobs: self.others.clone(),
            uploads: self.uploads.iter().map(upload_json).collect(),
            history: self.history.iter().map(history_json).collect(),
        }
    }
}

/// Why it waits, for people.
fn waits(record: &Record, why: &str) -> String {
    match (why, record.due_at) {
        ("due", Some(due)) => format!("until {}", local(due)),
        ("paused", _) => "its folder is paused; `upspool resume` goes on".into(),
        ("requested", _) => "for the service to take up what was asked".into(),
        _ if record.bumped => "to be the next".into(),
        _ => "for its turn".into(),
    }
}

fn print_upload(output: &mut Output, upload: &UploadRow, now: Wall) -> Result<(), Failure> {
    let id = shown_bytes(upload.upload_id.0.as_bytes());
    let end = match (upload.ended_at, upload.expires_at) {
        (Some(ended), _) => {
            format!("ended {} ({})", local(ended), upload.end_reason.as_deref().unwrap_or("?"))
        }
        (None, Some(expires)) if expires > now => {
            format!("expires {}, in {}", local(expires), duration(expires.since(now)))
        }
        (None, Some(expires)) => format!("expired {}", local(expires)),
        (None, None) => "open, expiry not known".into(),
    };
    let opened = local(upload.opened_at);
    output.text(&Text::new(format!("Upload {} {id}: opened {opened}, {end}", upload.number)), 2, 4)?;
    let stored: Vec<bool> = upload.parts.iter().map(|part| part.part_id.is_some()).collect();
    let (count, total) = (stored.iter().filter(|stored| **stored).count(), stored.len());
    if total > 0 {
        let bytes: u64 =
            upload.parts.iter().filter(|part| part.part_id.is_some()).map(|part| part.length).sum();
        let whole: u64 = upload.parts.iter().map(|part| part.length).sum();
        let each = upload.parts.iter().map(|part| part.length).max().unwrap_or(0);
        let missing = ranges(&stored, false);
        let missing = if missing.is_empty() { String::new() } else { format!("; missing: {missing}") };
        let parts = format!("{count} of {total} Parts stored, {} of {} ", size(bytes), size(whole));
        output.text(&Text::new(format!("{parts}(Parts of {}){missing}", size(each))), 4, 6)?;
    }
    Ok(())
}

/// The places, from 1, of what is `wanted`: `1-4, 7`.
fn ranges(stored: &[bool], wanted: bool) -> String {
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for place in (1..).zip(stored).filter(|(_, stored)| **stored == wanted).map(|(place, _)| place) {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == place => *last = place,
            _ => ranges.push((place, place)),
        }
    }
    let text = |(first, last): &(usize, usize)| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    };
    ranges.iter().map(text).collect::<Vec<_>>().join(", ")
}

fn history_table(history: &[HistoryRow]) -> Table {
    let mut table = Table::new(&[
        Column::left("TIME").rank(2),
        Column::left("EVENT"),
        Column::left("REQUEST").rank(1),
        Column::right("TOOK").rank(4),
        Column::elastic("REQUEST ID", 10).rank(3),
        Column::elastic("WHY", 10),
    ]);
    for row in history {
        let part = row.part.map_or_else(String::new, |part| format!(" {}", part + 1));
        let status = row.status.map_or_else(String::new, |status| format!(" {status}"));
        let why = match (&row.code, &row.message) {
            (Some(code), Some(message)) => format!("{code}: {message}"),
            (one, other) => one.clone().or_else(|| other.clone()).unwrap_or_default(),
        };
        table.row(vec![
            Cell::new(local(row.at)),
            Cell::new(row.event.clone()),
            Cell::new(
                row.operation.as_ref().map_or_else(String::new, |name| format!("{name}{part}{status}")),
            ),
            Cell::new(row.duration_ms.map_or_else(String::new, |took| format!("{took} ms"))),
            Cell::new(row.request_id.as_ref().map_or_else(String::new, |id| shown_bytes(id.as_bytes()))),
            Cell::new(shown_bytes(why.as_bytes())),
        ]);
    }
    table
}

fn upload_json(upload: &UploadRow) -> UploadJson {
    UploadJson {
        number: upload.number,
        upload_id: upload.upload_id.0.clone(),
        opened_at: rfc3339(upload.opened_at),
        expires_at: upload.expires_at.map(rfc3339),
        ended_at: upload.ended_at.map(rfc3339),
        end_reason: upload.end_reason.clone(),
        parts: upload.parts.iter().map(part_json).collect(),
    }
}

fn part_json(part: &PartRow) -> PartJson {
    PartJson {
        start: part.start,
        length: part.length,
        part_id: part.part_id.as_ref().map(|id| id.0.clone()),
        xxh3: digest_by(Algorithm::Xxh3, part),
        blake3: digest_by(Algorithm::Blake3, part),
        stored_at: part.stored_at.map(rfc3339),
    }
}

fn digest_by(algorithm: Algorithm, part: &PartRow) -> Option<String> {
    part.digest.filter(|digest| digest.algorithm() == algorithm).map(|digest| digest.to_string())
}

fn history_json(row: &HistoryRow) -> HistoryJson {
    HistoryJson {
        at: rfc3339(row.at),
        event: row.event.clone(),
        operation: row.operation.clone(),
        attempt: row.attempt,
        status: row.status,
        request_id: row.request_id.clone(),
        code: row.code.clone(),
        message: row.message.clone(),
        duration_ms: row.duration_ms,
        bytes: row.bytes,
        part: row.part,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_parts_are_given_as_ranges() {
        assert_eq!(ranges(&[true, false, false, false, true, false], false), "2-4, 6");
        assert_eq!(ranges(&[true, true], false), "");
    }
}
