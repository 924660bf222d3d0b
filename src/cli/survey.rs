//! A folder as `check` shows it: how it will be watched, and what waits in it.

use std::path::PathBuf;
use std::time::Duration;

use rustix::fs::{Access, access};
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use super::check::{fact, styled_fact};
use super::failure::Failure;
use super::look::{Style, Text};
use super::output::Output;
use crate::clock::Clock;
use crate::config::{AfterFailure, AfterUpload, Config, Existing, Folder, Preflight, Receipt, WatchMode};
use crate::daemon::folders::{excluded, plan_of, quiet_of, spec_of};
use crate::model::file::Fingerprint;
use crate::model::job::FolderId;
use crate::model::settle::FolderKey;
use crate::store::Store;
use crate::text::{count, setting, shown, shown_bytes, size};
use crate::watch;
use crate::watch::kind::FolderKind;

/// What is in force for a folder.
#[derive(Debug, Serialize)]
pub(super) struct FolderCheck {
    name: String,
    /// Escaped for people.
    path: String,
    purpose: String,
    account: String,
    recursive: bool,
    file_system: &'static str,
    /// `events` or `polling`.
    watched: &'static str,
    watched_why: String,
    /// Between two scans.
    scan_interval_ms: u128,
    /// Whether it can be tested that nobody has a file open for writing.
    open_tested: bool,
    settle_tested_ms: u128,
    settle_untested_ms: u128,
    include: Vec<String>,
    exclude: Vec<String>,
    hidden: bool,
    existing: &'static str,
    /// `off`, `warn` or `reject`.
    preflight: &'static str,
    dedupe: bool,
    /// `keep`, `delete`, or the directory.
    after_upload: String,
    /// `keep`, or the directory.
    after_failure: String,
    /// Where receipts are written; null: nowhere.
    receipt: Option<String>,
    on_stored: Vec<String>,
    on_failed: Vec<String>,
    /// Whether this user may write to the folder; null where nobody has to.
    writable: Option<bool>,
    /// Whether nothing is sent from it until `upspool resume`, and why.
    paused: bool,
    paused_why: Option<String>,
    /// That the rules take.
    files: u64,
    bytes: u64,
    /// Of these, what the ledger does not have.
    new_files: u64,
    new_bytes: u64,
    /// Jobs in the queue.
    queued_files: u64,
    queued_bytes: u64,
    /// Files and directories that the rules ignore.
    ignored: u64,
    directories: u64,
    unreadable: u64,
}

/// Looks at a folder and into it.
pub(super) async fn survey(
    config: &Config,
    folder: &Folder,
    store: Option<&Store>,
) -> Result<FolderCheck, Failure> {
    let unusable = |why: String| Failure::said(format!("{}: {why}", shown(&folder.path)));
    let spec = spec_of(FolderKey(0), folder, excluded(config, folder))
        .map_err(|error| unusable(error.to_string()))?;
    let row = match store {
        Some(store) => store.folders().await?.into_iter().find(|row| row.path == folder.path),
        None => None,
    };
    let (sender, mut batches) = mpsc::channel::<Vec<(PathBuf, Fingerprint)>>(4);
    let walk = spawn_blocking(move || {
        watch::survey(&spec, &|| Clock::System.now(), &mut |batch| {
            let files = batch.into_iter().map(|(path, look)| (path, look.fingerprint)).collect();
            sender.blocking_send(files).is_ok()
        })
    });
    let (mut new_files, mut new_bytes) = (0, 0);
    while let Some(batch) = batches.recv().await {
        let id = row.as_ref().map(|row| row.id);
        for bytes in unknown(store, id, batch).await? {
            new_files += 1;
            new_bytes += bytes;
        }
    }
    let walked = walk.await.map_err(|panicked| unusable(panicked.to_string()))?;
    let found = walked.map_err(|error| unusable(error.to_string()))?;
    let queued = match (store, &row) {
        (Some(store), Some(row)) => {
            store.queue_totals().await?.into_iter().find(|total| total.folder == row.id)
        }
        _ => None,
    };
    let (watched, watched_why) = watched(folder, &found.kind);
    let quiet = quiet_of(folder, watched == "events");
    let interval = if watched == "events" { folder.rescan_interval } else { folder.poll_interval };
    Ok(FolderCheck {
        name: folder.name.clone(),
        path: shown(&folder.path),
        purpose: folder.purpose.clone(),
        account: folder.account.clone(),
        recursive: folder.recursive,
        file_system: found.kind.name,
        watched,
        watched_why,
        scan_interval_ms: interval.as_millis(),
        open_tested: found.kind.lease,
        settle_tested_ms: quiet.tested.as_millis(),
        settle_untested_ms: quiet.untested.as_millis(),
        include: folder.include.written.clone(),
        exclude: folder.exclude.written.clone(),
        hidden: folder.hidden,
        existing: match folder.existing {
            Existing::Auto => "auto",
            Existing::Upload => "upload",
            Existing::Skip => "skip",
        },
        preflight: match folder.preflight {
            Preflight::Off => "off",
            Preflight::Warn => "warn",
            Preflight::Reject => "reject",
        },
        dedupe: folder.dedupe,
        after_upload: match &folder.after_upload {
            AfterUpload::Keep => "keep".into(),
            AfterUpload::Delete => "delete".into(),
            AfterUpload::Move(to) => shown(&folder.path.join(to)),
        },
        after_failure: match &folder.after_failure {
            AfterFailure::Keep => "keep".into(),
            AfterFailure::Move(to) => shown(&folder.path.join(to)),
        },
        receipt: match &folder.receipt {
            Receipt::None => None,
            Receipt::Beside => Some("beside the file".into()),
            Receipt::In(to) => Some(shown(&folder.path.join(to))),
        },
        on_stored: folder.on_stored.clone(),
        on_failed: folder.on_failed.clone(),
        writable: plan_of(config, folder).writes().then(|| access(&folder.path, Access::WRITE_OK).is_ok()),
        paused: row.as_ref().is_some_and(|row| row.paused),
        paused_why: row.as_ref().and_then(|row| row.paused_why.clone()),
        files: found.files,
        bytes: found.bytes,
        new_files,
        new_bytes,
        queued_files: queued.map_or(0, |total| total.files),
        queued_bytes: queued.map_or(0, |total| total.bytes),
        ignored: found.ignored,
        directories: found.directories,
        unreadable: found.unreadable,
    })
}

/// The sizes of those files that the ledger does not have.
async fn unknown(
    store: Option<&Store>,
    folder: Option<FolderId>,
    files: Vec<(PathBuf, Fingerprint)>,
) -> Result<Vec<u64>, Failure> {
    match store.zip(folder) {
        Some((store, folder)) => {
            let seen = store.filter_unknown(folder, files).await?;
            Ok(seen.into_iter().map(|file| file.fingerprint.bytes).collect())
        }
        None => Ok(files.into_iter().map(|(_, fingerprint)| fingerprint.bytes).collect()),
    }
}

/// How it will be watched, and why.
fn watched(folder: &Folder, kind: &FolderKind) -> (&'static str, String) {
    match folder.watch {
        WatchMode::Poll => ("polling", "as configured".into()),
        WatchMode::Events => ("events", "as configured".into()),
        WatchMode::Auto if kind.events => ("events", format!("{} tells of every change", kind.name)),
        WatchMode::Auto => {
            ("polling", format!("{} does not tell of changes that other machines make", kind.name))
        }
    }
}

impl FolderCheck {
    pub(super) fn print(&self, output: &mut Output) -> Result<(), Failure> {
        let title = Text::styled(Style::Bold, format!("folder {}", shown_bytes(self.name.as_bytes())));
        output.line(format_args!(""))?;
        output.text(&title.and(format!("  {}", self.path)), 0, 2)?;
        let purpose = shown_bytes(self.purpose.as_bytes());
        fact(output, "  purpose", &format!("{purpose}, account {}", shown_bytes(self.account.as_bytes())))?;
        let scan = millis(self.scan_interval_ms);
        let how = match self.watched {
            "events" => format!("by events ({}), and a scan every {scan}", self.watched_why),
            _ => format!("by a scan every {scan} ({})", self.watched_why),
        };
        fact(output, "  watched", &how)?;
        fact(output, "  file system", self.file_system)?;
        let open = if self.open_tested {
            "tested, for files of the service's user or with CAP_LEASE"
        } else {
            "cannot be tested here"
        };
        fact(output, "  open for writing", open)?;
        let (tested, untested) = (millis(self.settle_tested_ms), millis(self.settle_untested_ms));
        let settle = match self.open_tested && tested != untested {
            true => format!("unchanged for {tested}, or {untested} where open for writing cannot be tested"),
            false => format!("unchanged for {untested}"),
        };
        fact(output, "  settled", &settle)?;
        fact(output, "  include", &patterns(&self.include))?;
        let hidden = if self.hidden { "" } else { "hidden and " };
        let exclude = if self.exclude.is_empty() { String::new() } else { patterns(&self.exclude) + ", " };
        fact(output, "  exclude", &format!("{exclude}{hidden}temporary names"))?;
        fact(output, "  existing", self.existing)?;
        let preflight = match self.preflight {
            "off" => "nothing is looked at",
            "warn" => "what is wrong is told",
            _ => "what is wrong is not sent",
        };
        let dedupe = if self.dedupe { "; the same bytes are sent once" } else { "" };
        fact(output, "  before sending", &format!("{preflight}{dedupe}"))?;
        let fate = |fate: &str| match fate {
            "keep" => "it stays".to_owned(),
            "delete" => "it is deleted".to_owned(),
            to => format!("it is moved to {to}"),
        };
        fact(output, "  after upload", &fate(&self.after_upload))?;
        fact(output, "  after failure", &fate(&self.after_failure))?;
        if let Some(receipt) = &self.receipt {
            fact(output, "  receipt", receipt)?;
        }
        if !self.open_tested && (self.after_upload != "keep" || self.after_failure != "keep") {
            let told = "nobody can tell whether a file is still written to here: settle has to be longer than any pause of a writer";
            styled_fact(output, "  beware", Text::styled(Style::Yellow, told))?;
        }
        if self.writable == Some(false) {
            let told = "not by this user: files cannot be moved or deleted here, nor receipts written";
            styled_fact(output, "  writable", Text::styled(Style::Red, told))?;
        }
        for (name, command) in [("  on stored", &self.on_stored), ("  on failed", &self.on_failed)] {
            if !command.is_empty() {
                fact(output, name, &patterns(command))?;
            }
        }
        if self.paused {
            let why = shown_bytes(self.paused_why.as_deref().unwrap_or("by the operator").as_bytes());
            styled_fact(output, "  paused", Text::styled(Style::Yellow, why))?;
        }
        let depth = if self.recursive { "" } else { ", not those below" };
        let (files, directories) =
            (count(self.files, "file", "files"), count(self.directories, "directory", "directories"));
        let (bytes, ignored) = (size(self.bytes), count(self.ignored, "name", "names"));
        fact(output, "  holds", &format!("{files}, {bytes} in {directories}{depth}; {ignored} ignored"))?;
        let new = count(self.new_files, "new file", "new files");
        let (new_bytes, queued_bytes) = (size(self.new_bytes), size(self.queued_bytes));
        fact(
            output,
            "  waiting",
            &format!("{new}, {new_bytes}; in the queue {}, {queued_bytes}", self.queued_files),
        )?;
        if self.unreadable > 0 {
            let count = Text::styled(Style::Red, self.unreadable.to_string());
            styled_fact(output, "  unreadable", count.and(" files or directories"))?;
        }
        Ok(())
    }
}

fn patterns(patterns: &[String]) -> String {
    patterns.iter().map(|pattern| shown_bytes(pattern.as_bytes())).collect::<Vec<_>>().join(", ")
}

fn millis(millis: u128) -> String {
    setting(Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX)))
}
