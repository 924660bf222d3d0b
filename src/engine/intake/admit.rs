//! Files that have settled become jobs: known or another version, insert or nothing.

use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use tokio::task::spawn_blocking;
use tracing::{info, warn};

use super::{Folder, Intake};
use crate::beneath::Links;
use crate::engine::Message;
use crate::engine::finish::remove_receipts;
use crate::engine::vitals::Whereabouts;
use crate::model::board::Event;
use crate::model::digest::Digest;
use crate::model::failure::SourceFailure;
use crate::model::file::Fingerprint;
use crate::model::finish::Receipt;
use crate::model::job::{Code, FolderId, JobId, Reason, State, Subject};
use crate::model::plan;
use crate::model::settle::FolderKey;
use crate::model::time::Now;
use crate::model::watchdog::Await;
use crate::source::{Source, Still};
use crate::store::{self, Applied, Arrival, Candidate, Known, Store, StoreError, Write};
use crate::text::{shown, size};

/// A file that may be read now.
pub(super) struct Settled {
    pub(super) path: PathBuf,
    pub(super) fingerprint: Fingerprint,
    pub(super) readable: bool,
    /// It lay there when the folder was first watched.
    pub(super) existed: bool,
}

impl Intake {
    /// Makes jobs of files that have settled.
    pub(super) async fn admit(&mut self, key: FolderKey, files: Vec<Settled>) {
        let Some(folder) = self.folder(key).cloned() else { return };
        let mut by_path: HashMap<PathBuf, Settled> = HashMap::new();
        let mut asked = Vec::with_capacity(files.len());
        for file in files {
            asked.push((file.path.clone(), file.fingerprint));
            by_path.insert(file.path.clone(), file);
        }
        self.here.at(Await::Store);
        let Some(unknown) = self.unknown(folder.id, asked).await else { return };
        let mut fresh = Vec::with_capacity(unknown.len());
        for file in unknown {
            let Some(settled) = by_path.remove(&file.path) else { continue };
            // Touched while it is sent: whether its bytes are others the job itself finds out before complete.
            let touched = |known: &Known| {
                matches!(known.state, State::Uploading | State::Completing)
                    && known.fingerprint.differs_in_times_only(&settled.fingerprint)
            };
            // Its rights were taken away after it had ended: it is what it was, as far as anybody can tell.
            let shut = |known: &Known| {
                let (then, now) = (&known.fingerprint, &settled.fingerprint);
                let same = (then.bytes, then.mtime_ns, then.inode) == (now.bytes, now.mtime_ns, now.inode);
                !settled.readable && same && known.state == State::Stored
            };
            if file.known.as_ref().is_some_and(shut) {
                continue;
            }
            // What lies there is looked at again when the source of its job is out of the way.
            let leaves = |known: &Known| known.leaves;
            if file.known.as_ref().is_some_and(|known| touched(known) || leaves(known)) {
                continue;
            }
            let over = file.known.as_ref().map(|known| (known.job, known.state));
            if let Some(known) = file.known.filter(|known| may_be_same(known, &settled)) {
                self.compare(key, &folder, settled, known);
                continue;
            }
            fresh.push((settled, over));
        }
        self.enqueue(&folder, fresh).await;
    }

    /// The files that the store does not have as they are. Waits until it can be read; the scan waits with it. None if it
    /// never will be: then nothing of this is to become a job.
    pub(super) async fn unknown(
        &self,
        folder: FolderId,
        files: Vec<(PathBuf, Fingerprint)>,
    ) -> Option<Vec<store::Seen>> {
        let read = || self.parts.store.filter_unknown(folder, files.clone());
        self.parts.writer.read("reading what is known", read).await
    }

    /// Makes jobs of files, each in the place of the row that it was found to differ from.
    async fn enqueue(&mut self, folder: &Folder, files: Vec<(Settled, Option<(JobId, State)>)>) {
        let receipt = self.parts.finish.plan(folder.id).map(|plan| plan.receipt.clone());
        let receipt = receipt.filter(|receipt| *receipt != Receipt::None);
        let paths = || files.iter().map(|(settled, _)| settled.path.clone()).collect();
        if let Some(receipt) = &receipt {
            self.here.at(Await::Looking);
            remove_receipts(folder.path.clone(), receipt.clone(), paths()).await;
        }
        let mut writes = Vec::with_capacity(files.len());
        for (settled, over) in files {
            let mut candidate = Candidate { over, ..candidate(folder, &settled, self.parts.clock.now()) };
            if let Arrival::Failed { finish, .. } = &mut candidate.arrival {
                *finish = self.parts.finish.announce(folder.id, State::Failed);
            }
            let (path, arrival) = (settled.path, candidate.arrival.clone());
            writes.push((path, arrival, self.parts.writer.ask(Write::Enqueue(Box::new(candidate)))));
        }
        // All of them are queued by now, so they share a commit.
        for (path, arrival, write) in writes {
            self.here.at(Await::Commit);
            let applied = write.await;
            if let Ok(Applied::Known { .. }) = applied {
                // Its row went on meanwhile, and what was found may not be true any more. The same version is dropped.
                self.seen_again(folder.id, path);
            } else if let Ok(Applied::Enqueued { job, replaced }) = applied {
                if let Some((old, State::Queued)) = replaced {
                    self.here.at(Await::Engine);
                    // It waited unsent, and its row says that it is gone.
                    let _ = self.parts.engine.send(Message::Event(Event::Dropped(old))).await;
                }
                if let (Some(receipt), Some(_)) = (&receipt, &replaced) {
                    // The job before may have written its receipt since; from now on it sees that it is the old one.
                    self.here.at(Await::Looking);
                    remove_receipts(folder.path.clone(), receipt.clone(), vec![path.clone()]).await;
                }
                if matches!(arrival, Arrival::Failed { finish: true, .. }) {
                    self.parts.finish.committed();
                }
                tell(folder, &path, job.id, job.subject.fingerprint.bytes, &arrival);
                if arrival == Arrival::Queued {
                    let event = Message::Event(Event::Enqueued(*job));
                    self.here.at(Await::Engine);
                    // The engine is gone only when the service ends; the row stays.
                    let _ = self.parts.engine.send(event).await;
                } else if let Some(once) = &self.parts.once {
                    let _ = once.send(job.id);
                }
            }
        }
    }

    /// Reads a file that looks different from its row, beside everything else: it may be 8 GiB.
    fn compare(&mut self, key: FolderKey, folder: &Folder, settled: Settled, known: Known) {
        let (root, links, store) = (folder.path.clone(), folder.links, self.parts.store.clone());
        let here = self.parts.vitals.enter(shown(&root.join(&settled.path)));
        let writer = self.parts.writer.clone();
        self.comparing.insert((key, settled.path.clone()));
        self.compares.spawn(async move {
            here.at(Await::Store);
            // What cannot be read says nothing of the file: it is not another one for that.
            let sent = writer.read("reading digests", || sent_of(&store, known.job)).await;
            let same = match sent {
                Some(sent) => compare(sent, (root, links), &known, &settled, &here).await,
                None => Compared::Unreadable("the store cannot be read".into()),
            };
            (key, settled, known, same)
        });
    }

    pub(super) async fn compared(
        &mut self,
        key: FolderKey,
        settled: Settled,
        known: &Known,
        found: Compared,
    ) {
        self.comparing.remove(&(key, settled.path.clone()));
        let Some(folder) = self.folder(key).cloned() else { return };
        match found {
            Compared::Same => {
                self.parts
                    .writer
                    .send(Write::SameVersion { job: known.job, fingerprint: settled.fingerprint });
            }
            Compared::Other => self.enqueue(&folder, vec![(settled, Some((known.job, known.state)))]).await,
            Compared::Changed => self.seen_again(folder.id, settled.path),
            Compared::Unreadable(message) => {
                let path = shown(&folder.path.join(&settled.path));
                warn!(
                    event = "file-unreachable",
                    job = known.job.0,
                    folder = folder.name,
                    path,
                    "whether it is the version that is known could not be read, the next scan tries again: {message}"
                );
            }
        }
    }
}

/// Whether it is worth reading.
fn may_be_same(known: &Known, settled: &Settled) -> bool {
    known.fingerprint.bytes == settled.fingerprint.bytes && settled.readable
}

/// What a file was found to be, beside its row.
pub(super) enum Compared {
    /// The same version under other times, or restored.
    Same,
    /// Another version.
    Other,
    /// It changed while it was read.
    Changed,
    /// It could not be read now, which says nothing of it.
    Unreadable(String),
}

/// What is left of what was sent.
struct Sent {
    ranges: Vec<(Range<u64>, Digest)>,
    md5: Option<String>,
}

async fn sent_of(store: &Store, job: JobId) -> Result<Sent, StoreError> {
    Ok(Sent { ranges: store.ranges_of(job).await?, md5: store.md5_of(job).await? })
}

/// Whether a file has the bytes that were sent of its row.
async fn compare(
    sent: Sent,
    (root, links): (PathBuf, Links),
    known: &Known,
    settled: &Settled,
    here: &Whereabouts,
) -> Compared {
    let covered: u64 = sent.ranges.iter().map(|(range, _)| range.end - range.start).sum();
    let covers = covered == settled.fingerprint.bytes && covered > 0;
    if !covers && sent.md5.is_none() {
        // Nothing of it was sent, so that only what it looks like is known.
        let same = match known.state {
            // The job on the board knows what was queued, and takes this for it.
            State::Queued => settled.fingerprint.differs_in_ctime_only(&known.fingerprint),
            State::Skipped | State::Cancelled => settled.fingerprint.looks_copied_from(&known.fingerprint),
            // Still empty, whatever was done to its names and rights.
            State::Failed if settled.fingerprint.bytes == 0 => {
                settled.fingerprint.differs_in_ctime_only(&known.fingerprint)
            }
            // A chmod may be what it failed for want of.
            _ => false,
        };
        return if same { Compared::Same } else { Compared::Other };
    }
    let path = settled.path.clone();
    here.at(Await::Opening);
    let opened = match spawn_blocking(move || Source::open_beneath(&root, &path, links)).await {
        Ok(opened) => opened,
        Err(fault) => return Compared::Unreadable(fault.to_string()),
    };
    let read = async {
        let source = opened?.counted_by(here.moved());
        // Else another version is read than the one that settled.
        source.is(&settled.fingerprint)?;
        here.at(Await::Comparing);
        let mut same = true;
        if covers {
            for (range, digest) in sent.ranges {
                same = same && source.digest_of(range, digest.algorithm()).await? == digest;
            }
        } else if let Some(md5) = sent.md5 {
            same = source.md5().await? == md5;
        }
        let looked = source.clone();
        here.at(Await::Looking);
        match spawn_blocking(move || looked.still()).await {
            Ok(still) => Ok((same, still?)),
            Err(fault) => Err(SourceFailure::Unreachable { message: fault.to_string() }),
        }
    };
    match read.await {
        Ok((true, Still::Same)) => Compared::Same,
        Ok((false, Still::Same)) => Compared::Other,
        Ok((_, Still::TimesOnly)) | Err(SourceFailure::Changed | SourceFailure::Missing) => Compared::Changed,
        Err(SourceFailure::NotAFile) => Compared::Changed,
        Err(failure) => Compared::Unreadable(failure.to_string()),
    }
}

fn candidate(folder: &Folder, settled: &Settled, now: Now) -> Candidate {
    let refused =
        |code, message: String| Arrival::Failed { reason: Reason::local(code, message), finish: false };
    let bytes = settled.fingerprint.bytes;
    let arrival = if settled.existed {
        Arrival::Skipped
    } else if !settled.readable {
        refused(Code::FileUnreadable, "the service's user may not read it".into())
    } else if bytes == 0 {
        refused(Code::FileEmpty, "it has no bytes".into())
    } else if bytes > plan::MAX_FILE_BYTES {
        refused(Code::FileTooLarge, format!("{} ({bytes} bytes) is more than 8 GiB", size(bytes)))
    } else {
        Arrival::Queued
    };
    Candidate {
        subject: Subject {
            folder: folder.id,
            path: settled.path.clone(),
            fingerprint: settled.fingerprint,
            filename: plan::sent_name(&settled.path),
            purpose: folder.purpose.clone(),
            mime_type: folder.mime_type.clone().unwrap_or_else(|| plan::mime_type(&settled.path)),
            expires_after: folder.expires_after,
            account: folder.account.clone(),
        },
        base_url: folder.base_url.clone(),
        project: folder.project.clone(),
        found_at: now.wall,
        arrival,
        warnings: Vec::new(),
        replaces: None,
        over: None,
    }
}

fn tell(folder: &Folder, path: &Path, job: JobId, bytes: u64, arrival: &Arrival) {
    let (job, name, path) = (job.0, folder.name.as_str(), shown(&folder.path.join(path)));
    let account = folder.account.0.as_str();
    match arrival {
        Arrival::Queued => info!(event = "queued", job, folder = name, path, account, bytes, "queued"),
        Arrival::Skipped => {
            info!(event = "skipped", job, folder = name, path, account, bytes, "was there before")
        }
        Arrival::Failed { reason, .. } => warn!(
            event = "failed",
            job,
            folder = name,
            path,
            account,
            bytes,
            code = reason.code.as_str(),
            "failed: {}; {}",
            reason.message,
            reason.code.remedy()
        ),
    }
}
