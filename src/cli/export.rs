//! `export`: the ledger, oldest first, for other programs.

use std::io;

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::failure::Failure;
use super::moment::{self, Moment};
use super::output::Output;
use super::{Common, at};
use crate::clock::Clock;
use crate::model::job::JobId;
use crate::record::JobJson;

/// Records read at once.
const PAGE: usize = 500;

/// Before a text that a spreadsheet would calculate; it shows the rest as it is.
const MARK: char = '\'';

/// What `export` takes.
#[derive(Debug, Args)]
#[command(after_long_help = "\
All jobs, oldest first, read a page at a time while the service goes on. --after goes on where an earlier export ended: with the
number of its last job.

In CSV a text that begins with =, +, -, @, ' or a control character has a ' before it, so that no spreadsheet takes it for a
formula: take one ' from each text that begins with one. JSON has all as it is.

Examples:
  upspool export > ledger.csv
  upspool export --format jsonl --since 7d | jq -r 'select(.state == \"stored\") | .file_id'
  upspool export --after 1200 >> ledger.csv             without the line of names")]
pub struct Arguments {
    /// How it is written
    #[arg(long, value_enum, default_value_t = Format::Csv, value_name = "FORMAT")]
    format: Format,
    /// Only jobs found at this time or later: 2026-11-22T17:00:00Z, 2026-11-22, or ago: 2h, 7d
    #[arg(long, value_name = "TIME")]
    since: Option<Moment>,
    /// Only jobs with a greater number
    #[arg(long, value_name = "JOB")]
    after: Option<i64>,
}

/// How the ledger is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// RFC 4180, with a line of names unless it goes on with --after
    Csv,
    /// One JSON object a line
    Jsonl,
}

pub(super) async fn run(common: &Common, arguments: &Arguments) -> Result<u8, Failure> {
    let store = at::store(&at::state_dir(common)?).await?;
    let now = Clock::System.now().wall;
    let since = arguments.since.map(|since| since.resolve(now, &moment::zone()));
    let mut after = JobId(arguments.after.unwrap_or(0));
    let mut output = Output::new();
    let mut names = arguments.after.is_none();
    loop {
        let page = store.ledger(after, since, PAGE).await?;
        match arguments.format {
            Format::Jsonl => {
                for record in &page {
                    output.json(&JobJson::new(record, now))?;
                }
            }
            Format::Csv => {
                let mut writer = csv::WriterBuilder::new().has_headers(names).from_writer(Vec::new());
                for record in &page {
                    writer.serialize(Row::new(JobJson::new(record, now))).map_err(io::Error::other)?;
                }
                names &= page.is_empty();
                let text = writer.into_inner().map_err(|error| io::Error::other(error.to_string()))?;
                output.bytes(&text)?;
            }
        }
        output.flush()?;
        match page.last() {
            Some(last) if page.len() == PAGE => after = last.id,
            _ => return Ok(0),
        }
    }
}

/// A job as one line: the fields of its JSON, those of objects in it by the names of both.
#[derive(Debug, Serialize)]
struct Row {
    id: i64,
    state: &'static str,
    file_id: Option<String>,
    folder: String,
    path: String,
    path_base64: Option<String>,
    relative_path: String,
    filename: String,
    bytes: u64,
    md5: Option<String>,
    purpose: String,
    mime_type: String,
    account: String,
    base_url: String,
    project: Option<String>,
    waiting: Option<&'static str>,
    requested: Option<String>,
    upload_id: Option<String>,
    parts_total: Option<u64>,
    parts_stored: Option<u64>,
    attempts: u32,
    restarts: u32,
    deduped_from: Option<i64>,
    warnings: String,
    error_code: Option<String>,
    error_message: Option<String>,
    error_status: Option<u16>,
    error_request_id: Option<String>,
    finish_state: &'static str,
    finish_step: Option<String>,
    finish_error: Option<String>,
    moved_to: Option<String>,
    moved_to_base64: Option<String>,
    due_at: Option<String>,
    upload_expires_at: Option<String>,
    found_at: String,
    stored_at: Option<String>,
    file_expires_at: Option<String>,
}

impl Row {
    fn new(job: JobJson) -> Row {
        let (code, message, status, request_id) = job.error.map_or((None, None, None, None), |error| {
            (Some(error.code), Some(error.message), error.status, error.request_id)
        });
        Row {
            id: job.id,
            state: job.state,
            file_id: job.file_id.map(no_formula),
            folder: no_formula(job.folder),
            path: no_formula(job.path),
            path_base64: job.path_base64,
            relative_path: no_formula(job.relative_path),
            filename: no_formula(job.filename),
            bytes: job.bytes,
            md5: job.md5.map(no_formula),
            purpose: no_formula(job.purpose),
            mime_type: no_formula(job.mime_type),
            account: no_formula(job.account),
            base_url: no_formula(job.base_url),
            project: job.project.map(no_formula),
            waiting: job.waiting,
            requested: job.requested.map(no_formula),
            upload_id: job.upload_id.map(no_formula),
            parts_total: job.parts_total,
            parts_stored: job.parts_stored,
            attempts: job.attempts,
            restarts: job.restarts,
            deduped_from: job.deduped_from,
            warnings: no_formula(job.warnings.join("; ")),
            error_code: code.map(no_formula),
            error_message: message.map(no_formula),
            error_status: status,
            error_request_id: request_id.map(no_formula),
            finish_state: job.finish.state,
            finish_step: job.finish.step.map(no_formula),
            finish_error: job.finish.error.map(no_formula),
            moved_to: job.finish.moved_to.map(no_formula),
            moved_to_base64: job.finish.moved_to_base64,
            due_at: job.due_at,
            upload_expires_at: job.upload_expires_at,
            found_at: job.found_at,
            stored_at: job.stored_at,
            file_expires_at: job.file_expires_at,
        }
    }
}

/// A text that no spreadsheet takes for a formula: <https://owasp.org/www-community/attacks/CSV_Injection>. What begins with
/// the mark itself gets one too, so that taking one from each text that begins so gives back what was there.
fn no_formula(text: String) -> String {
    let begins = |character: char| {
        matches!(character, MARK | '=' | '+' | '-' | '@' | '\u{ff1d}' | '\u{ff0b}' | '\u{ff0d}' | '\u{ff20}')
            || character.is_control()
    };
    if text.starts_with(begins) { format!("{MARK}{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_begins_as_a_formula_does_and_each_can_be_had_back() {
        for (text, expected) in [
            ("=1+1", "'=1+1"),
            ("+1", "'+1"),
            ("-x", "'-x"),
            ("@a", "'@a"),
            ("\ta", "'\ta"),
            ("\ra", "'\ra"),
            ("\na", "'\na"),
            ("＝1+1", "'＝1+1"),
            ("'=1", "''=1"),
            ("'quoted'", "''quoted'"),
            ("a=1", "a=1"),
            ("", ""),
        ] {
            let written = no_formula(text.to_owned());
            assert_eq!(written, expected);
            assert_eq!(written.strip_prefix(MARK).unwrap_or(&written), text);
        }
    }
}
