//! Looks at a file before it is sent: is it right, and was it sent before? What follows is for the board.

use std::collections::HashMap;
use std::ops::Range;

use super::operations::{Operations, ending};
use super::vitals;
use crate::model::board::Done;
use crate::model::digest::{Algorithm, Digest};
use crate::model::examine::{Look, Same};
use crate::model::failure::{Failure, SourceFailure};
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
        operations.verify(subject, &source, &[]).await?;
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
    let mut known = Known::default();
    let mut same = Vec::new();
    for one in sent {
        if known.is_equal(&source, &one).await.map_err(Failure::Source)? {
            same.push(one);
        }
    }
    operations.verify(subject, &source, &[]).await?;
    Ok(same)
}

/// What is known of the file that is compared: most files of one size were sent in the same ranges, so that each is read once.
#[derive(Default)]
struct Known {
    digests: HashMap<(Range<u64>, Algorithm), Digest>,
    md5: Option<String>,
}

impl Known {
    /// Whether the file has the bytes that were sent before. XXH3 alone is not believed: somebody else may have written what was
    /// sent, and have made it so that its XXH3 is that of this file. Nobody can make another content with the MD5 of a file that he did not
    /// make as well.
    async fn is_equal(&mut self, source: &Source, same: &Same) -> Result<bool, SourceFailure> {
        for (range, digest) in &same.sent {
            let wanted = (range.clone(), digest.algorithm());
            let known = match self.digests.get(&wanted) {
                Some(known) => *known,
                None => {
                    let read = source.digest_of(range.clone(), digest.algorithm()).await?;
                    self.digests.insert(wanted, read);
                    read
                }
            };
            if known != *digest {
                return Ok(false);
            }
        }
        if same.sent.iter().all(|(_, digest)| digest.algorithm() == Algorithm::Blake3) {
            return Ok(true);
        }
        if self.md5.is_none() {
            self.md5 = Some(source.md5().await?);
        }
        Ok(same.md5.is_some() && self.md5 == same.md5)
    }
}
