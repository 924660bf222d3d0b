//! One line of the log for each thing that happened to a job, with the fields that the manual promises.

use std::collections::HashMap;
use std::path::PathBuf;

use tracing::{debug, info, warn};

use super::operations::Operations;
use crate::model::board::Context;
use crate::model::job::{Code, Doubt, FolderId, JobId, Reason, Step, Subject};
use crate::model::preflight::Report;
use crate::text::{shown, shown_bytes};

/// What the logs call folders.
#[derive(Debug)]
pub(super) struct Folders(HashMap<FolderId, (String, PathBuf)>);

impl Folders {
    pub(super) fn new(names: &HashMap<FolderId, String>, operations: &Operations) -> Folders {
        let place = |id: &FolderId| operations.folder(*id).map(PathBuf::from).unwrap_or_default();
        Folders(names.iter().map(|(id, name)| (*id, (name.clone(), place(id)))).collect())
    }

    /// What people call a folder, and the whole path of a file in it.
    fn place(&self, subject: &Subject) -> (&str, String) {
        match self.0.get(&subject.folder) {
            Some((name, root)) => (name, shown(&root.join(&subject.path))),
            None => ("", shown(&subject.path)),
        }
    }

    /// Tells what is wrong with a file.
    pub(super) fn warning(&self, job: JobId, subject: &Subject, report: &Report) {
        let (folder, path) = self.place(subject);
        let (job, account, faults) = (job.0, subject.account.0.as_str(), report.total);
        let code = Code::PreflightFailed.as_str();
        // It quotes the file.
        let words = shown_bytes(report.summary().unwrap_or_default().as_bytes());
        warn!(
            event = "preflight",
            job, folder, path, account, code, faults, "something may be wrong with it: {words}"
        );
    }

    /// Tells of a step.
    pub(super) fn step(&self, job: JobId, subject: &Subject, step: &Step, context: &Context) {
        let (folder, path) = self.place(subject);
        let (job, account) = (job.0, subject.account.0.as_str());
        // An answer that was good has facts, one that was not is a reason.
        let (facts, reason) = (context.facts.as_ref(), reason_of(step));
        let status = facts.map(|facts| facts.status).or_else(|| reason?.status);
        let request_id =
            facts.and_then(|facts| facts.request_id.as_deref()).or_else(|| reason?.request_id.as_deref());
        let duration_ms = u64::try_from(context.took.as_millis()).unwrap_or(u64::MAX);
        let whole = subject.fingerprint.bytes;
        // A macro, since the level of an event has to be known when it is compiled.
        macro_rules! tell {
            ($level:ident, $event:literal, { $($field:tt)* }, $($words:tt)*) => {
                $level!(event = $event, job, folder, path, account, status, request_id, $($field)* $($words)*)
            };
        }
        match step {
            Step::Opened(session) => {
                let (upload_id, parts) = (session.upload.0.as_str(), session.parts.len());
                tell!(info, "upload-opened", { upload_id, bytes = whole, duration_ms, }, "Upload opened, {parts} Parts");
            }
            Step::PartStored { index, .. } => {
                let bytes = context.bytes;
                tell!(debug, "part-stored", { part = index, bytes, duration_ms, }, "Part {index} stored");
            }
            Step::SentWhole { session, .. } => {
                let upload_id = session.upload.0.as_str();
                tell!(debug, "part-stored", { upload_id, part = 0, bytes = whole, duration_ms, }, "the one Part stored");
            }
            Step::Stored { file, .. } => {
                let file_id = file.0.as_str();
                tell!(info, "stored", { file_id, bytes = whole, duration_ms, }, "stored as {file_id}");
            }
            Step::Deduped { file, from, .. } => {
                let (file_id, deduped_from) = (file.0.as_str(), from.0);
                tell!(
                    info,
                    "stored",
                    { file_id, bytes = whole, deduped_from, duration_ms, },
                    "stored as {file_id}: job {deduped_from} sent the same bytes"
                );
            }
            Step::PutOff { due, reason, attempts, .. } => {
                let (code, due) = (reason.code.as_str(), crate::text::rfc3339(*due));
                let words = safe(reason);
                tell!(warn, "retry", { attempt = attempts, code, }, "failed, next try at {due}: {words}");
            }
            Step::Restarted { reason, .. } => {
                let (code, words) = (reason.code.as_str(), safe(reason));
                tell!(warn, "restart", { code, }, "starts again with a new Upload: {words}");
            }
            Step::Doubted(Doubt::Fenced(fence)) => {
                let fence = format!("{fence:?}").to_lowercase();
                tell!(info, "fence", { fence, }, "the Upload is fenced ({fence}); looking for its File");
            }
            Step::Doubted(_) => {
                tell!(
                    info,
                    "fence",
                    {},
                    "complete may have made a File and refuses to say: cancelling the Upload to find out"
                );
            }
            Step::Failed(reason) => {
                let (code, message) = (reason.code, safe(reason));
                tell!(warn, "failed", { code = code.as_str(), }, "failed: {message}; {}", code.remedy());
            }
            Step::Unresolved { reason, candidates } => {
                let (code, words) = (reason.code.as_str(), safe(reason));
                let count = candidates.len();
                tell!(warn, "unresolved", { code, }, "nobody can tell which File it became, {count} may be: {words}");
            }
            Step::Gone(Some(reason)) => {
                tell!(info, "gone", { code = reason.code.as_str(), }, "{}", safe(reason));
            }
            Step::Gone(None) => tell!(info, "gone", {}, "vanished before it was sent"),
            Step::Cancelled => tell!(info, "cancelled", {}, "cancelled by the operator"),
            Step::Requeued => tell!(info, "queued", { bytes = whole, }, "queued again by the operator"),
            Step::Hashed(_) | Step::Completing | Step::Bumped => {
                let step = step.name();
                tell!(debug, "step", { step, }, "{step}");
            }
        }
    }
}

/// Why a step had to be taken.
fn reason_of(step: &Step) -> Option<&Reason> {
    match step {
        Step::PutOff { reason, .. }
        | Step::Restarted { reason, .. }
        | Step::Failed(reason)
        | Step::Unresolved { reason, .. }
        | Step::Gone(Some(reason)) => Some(reason),
        _ => None,
    }
}

/// A server's words on one line: they could forge a line of the log.
fn safe(reason: &Reason) -> String {
    shown_bytes(reason.message.as_bytes())
}
