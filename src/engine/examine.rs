//! Looks at a file before it is sent: is it right, and was it sent before? What follows is for the board.

use std::collections::HashMap;
use std::ops::Range;

use super::operations::{Operations, ending, verify};
use super::vitals;
use crate::model::board::Done;
use crate::model::examine::{Look, Same};
use crate::model::failure::{Failure, SourceFailure};
use crate::model::file::Digest;
use crate::model::job::{JobId, Subject};
use crate::model::preflight::Checker;
use crate::model::watchdog::Await;
use crate::source::Source;

/// Earlier jobs whose bytes are compared at most: their Files may be gone from the server, but hardly all of them.
const COMPARED: usize = 5;

/// Looks at the file as the version that was queued.
///
/// # Errors
/// If it is not that version any more, or cannot be read.
pub(super) async fn examine(
    operations: &Operations,
    job: JobId,
    subject: &Subject,
    look: Look,
) -> Result<Done, Failure> {
    let (mut report, rules) = look.begin(subject);
    if let Some(rules) = rules {
        let source = operations.open(subject, false).await?;
        vitals::at(Await::Examining);
        let whole = 0..subject.fingerprint.bytes;
        let checker = source.read_through(whole, Checker::new(rules, report), Checker::take);
        report = checker.await.map_err(Failure::Source)?.finish();
        verify(&source, &[]).await?;
    }
    let wanted = look.dedupe && !look.rejects(&report);
    let same = if wanted { same(operations, job, subject).await? } else { Vec::new() };
    Ok(Done::Examined { report, same })
}

/// The jobs that sent exactly the bytes of this file. It is read only if one sent as many.
async fn same(operations: &Operations, job: JobId, subject: &Subject) -> Result<Vec<Same>, Failure> {
    // The twin that this job waited for may have ended in this moment.
    vitals::at(Await::Commit);
    operations.writer.flush().await.map_err(|_| ending())?;
    vitals::at(Await::Store);
    let sent = operations
        .writer
        .read("looking for what was sent before", || operations.store.sent_before(job, COMPARED));
    let sent = sent.await.ok_or_else(ending)?;
    if sent.is_empty() {
        return Ok(sent);
    }
    let source = operations.open(subject, false).await?;
    vitals::at(Await::Comparing);
    let mut digests = HashMap::new();
    let mut same = Vec::new();
    for one in sent {
        if is_equal(&source, &one.sent, &mut digests).await.map_err(Failure::Source)? {
            same.push(one);
        }
    }
    verify(&source, &[]).await?;
    Ok(same)
}

/// Whether the file has these bytes. `digests` are those of its ranges that are known: most files of one size were sent in the
/// same ranges, so that each is read once.
async fn is_equal(
    source: &Source,
    sent: &[(Range<u64>, Digest)],
    digests: &mut HashMap<Range<u64>, Digest>,
) -> Result<bool, SourceFailure> {
    for (range, digest) in sent {
        let known = match digests.get(range) {
            Some(known) => *known,
            None => {
                let read = source.digest_of(range.clone()).await?;
                digests.insert(range.clone(), read);
                read
            }
        };
        if known != *digest {
            return Ok(false);
        }
    }
    Ok(true)
}
