//! Performs one granted operation with the account's client and the source, and returns its outcome. No loop, no
//! decision: what an outcome means is for the board.

use std::collections::{HashMap, HashSet};
use std::io;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::Stream;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use super::abreast::Abreast;
use super::metrics::{self, Metrics};
use super::near::NearFolders;
use super::vitals::{self, Vitals};
use super::{Message, errands, examine, search};
use crate::api::{Client, NewUpload};
use crate::beneath::{Links, Near};
use crate::clock::Clock;
use crate::model::answer::{FileId, PartId, UploadId};
use crate::model::board::{Done, Event, Grant, OperationId, Outcome, Work};
use crate::model::digest::{Algorithm, Digest};
use crate::model::failure::{Facts, Failure, SourceFailure};
use crate::model::job::{AccountName, FolderId, JobId, Subject};
use crate::model::settle::Observation;
use crate::model::watchdog::Await;
use crate::source::{Receipt, Source, Still};
use crate::store::{Store, Writer};
use crate::watch::kind::FolderKind;
use crate::watch::{look, look_near};

/// What operations work with: the hands, and what they have under way.
#[derive(Debug)]
pub struct Operations {
    clients: HashMap<AccountName, Client>,
    folders: HashMap<FolderId, PathBuf>,
    /// Device and inode of each folder's directory when the service started.
    roots: HashMap<FolderId, (u64, u64)>,
    near: NearFolders,
    /// Which symbolic links in a folder are followed; none in those that are not here.
    links: HashMap<FolderId, Links>,
    /// The folders whose files may share the File of another one with the same bytes.
    sharing: HashSet<FolderId>,
    clock: Clock,
    /// Tells which Files are the ledger's.
    pub(super) store: Store,
    /// Tells when what was decided is written.
    pub(super) writer: Writer,
    under_way: Mutex<HashMap<OperationId, UnderWay>>,
    abreast: Arc<Abreast>,
    vitals: Arc<Vitals>,
    metrics: Arc<Metrics>,
}

#[derive(Debug)]
struct UnderWay {
    job: Option<JobId>,
    /// Whether it sends a Part of a large file.
    is_part: bool,
    /// Bytes of the file that were handed to the connection so far.
    progress: Arc<AtomicU64>,
    abort: CancellationToken,
}

type Performed = Result<(Done, Option<Facts>), Failure>;

impl Operations {
    /// Operations with these clients on these folders.
    pub fn new(
        clients: HashMap<AccountName, Client>,
        folders: HashMap<FolderId, PathBuf>,
        clock: Clock,
        store: Store,
        writer: Writer,
    ) -> Operations {
        let roots = folders.iter().filter_map(|(id, path)| Some((*id, identity(path)?))).collect();
        Operations {
            clients,
            folders,
            roots,
            near: NearFolders::default(),
            links: HashMap::new(),
            sharing: HashSet::new(),
            clock,
            store,
            writer,
            under_way: Mutex::default(),
            abreast: Arc::default(),
            vitals: Arc::default(),
            metrics: Arc::default(),
        }
    }

    /// The same, following these symbolic links in some folders.
    #[must_use]
    pub fn following(self, links: HashMap<FolderId, Links>) -> Operations {
        Operations { links, ..self }
    }

    /// The same, with files in these folders that share the File of another one of the same bytes.
    #[must_use]
    pub fn sharing(self, sharing: HashSet<FolderId>) -> Operations {
        Operations { sharing, ..self }
    }

    fn algorithm_of(&self, folder: FolderId) -> Algorithm {
        if self.sharing.contains(&folder) { Algorithm::Blake3 } else { Algorithm::Xxh3 }
    }

    fn links_of(&self, folder: FolderId) -> Links {
        self.links.get(&folder).copied().unwrap_or_default()
    }

    /// The client of an account.
    pub fn client(&self, account: &AccountName) -> Option<&Client> {
        self.clients.get(account)
    }

    /// Where each of them is, for the watchdog.
    pub fn vitals(&self) -> &Arc<Vitals> {
        &self.vitals
    }

    /// What was counted of them, and of the jobs that they are for.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Where a folder lies.
    pub fn folder(&self, folder: FolderId) -> Option<&Path> {
        self.folders.get(&folder).map(PathBuf::as_path)
    }

    /// Performs `grant` in a task of its own; its outcome goes to `engine` in any case, a panic included.
    pub fn start(self: &Arc<Self>, grant: Grant, engine: mpsc::Sender<Message>) {
        let abort = CancellationToken::new();
        let progress = Arc::new(AtomicU64::new(0));
        let is_part = matches!(grant.work, Work::Part { .. });
        let one = UnderWay { job: grant.job, is_part, progress: progress.clone(), abort: abort.clone() };
        self.lock().insert(grant.id, one);
        let operations = self.clone();
        let began = self.clock.now().boot;
        let whereabouts = self.vitals.enter_operation(&grant);
        errands::spawn("an operation", engine.clone(), async move {
            let (id, name) = (grant.id, metrics::operation_name(&grant.work));
            let performer = operations.clone();
            // A task of its own, so that a panic in it ends one operation and is told.
            let mut task = tokio::spawn(vitals::within(whereabouts, async move {
                performer.perform(&grant, progress).await
            }));
            let performed = tokio::select! {
                joined = &mut task => Some(joined),
                () = abort.cancelled() => {
                    task.abort();
                    // It may have ended in the same moment, and then its answer counts.
                    Some(task.await).filter(|joined| !joined.as_ref().is_err_and(tokio::task::JoinError::is_cancelled))
                }
            };
            let interrupted = performed.is_none();
            let (result, facts) = match performed {
                Some(Ok(Ok((done, facts)))) => (Ok(done), facts),
                Some(Ok(Err(failure))) => (Err(failure), None),
                Some(Err(error)) => (Ok(Done::Panicked(panic_text(error))), None),
                None => (Err(Failure::Transport { message: "interrupted".into() }), None),
            };
            operations.lock().remove(&id);
            let took = operations.clock.now().boot.since(began);
            let outcome = Outcome { result, facts, took, interrupted };
            operations.metrics.operation(name, &outcome);
            // The engine is gone only when the service ends, and then nobody wants to know.
            let _ = engine.send(Message::Event(Event::Done(id, outcome))).await;
        });
    }

    /// Ends an operation soon.
    pub fn abort(&self, id: OperationId) {
        if let Some(one) = self.lock().get(&id) {
            one.abort.cancel();
        }
    }

    /// Bytes of each job's Parts that are on their way.
    pub fn in_flight(&self) -> HashMap<JobId, u64> {
        let mut sum = HashMap::new();
        for one in self.lock().values() {
            if let Some(job) = one.job {
                *sum.entry(job).or_default() += one.progress.load(std::sync::atomic::Ordering::Relaxed);
            }
        }
        sum
    }

    /// Bytes of each Part under way that were handed to its connection so far.
    pub fn moved(&self) -> Vec<(OperationId, u64)> {
        let under_way = self.lock();
        let moved = under_way.iter().filter(|(_, one)| one.is_part);
        moved.map(|(id, one)| (*id, one.progress.load(std::sync::atomic::Ordering::Relaxed))).collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<OperationId, UnderWay>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn perform(&self, grant: &Grant, progress: Arc<AtomicU64>) -> Performed {
        let Some(client) = self.clients.get(&grant.account) else {
            let message = format!("account {} is not in the configuration any more", grant.account.0);
            return Err(Failure::Connect { message });
        };
        vitals::at(Await::Answer);
        match &grant.work {
            Work::Create(subject) => create(client, subject).await,
            Work::Part { subject, upload, range, begun, last, alone, .. } => {
                let source = self.open(subject, *begun).await?;
                let (body, receipt) = source.reader(range.clone(), progress);
                let body = self.abreast.keep(job_of(grant)?, *alone, body);
                let (part, digest, facts) = send(client, upload, range, body, &receipt).await?;
                if *last {
                    source.let_go(range.clone());
                }
                Ok((Done::PartStored(part, digest), Some(facts)))
            }
            Work::Whole { subject, upload, checksum } => {
                let source = self.open(subject, false).await?;
                vitals::at(Await::Hashing);
                let md5 = if *checksum { Some(source.md5().await.map_err(Failure::Source)?) } else { None };
                let range = 0..subject.fingerprint.bytes;
                let (body, receipt) = source.reader(range.clone(), progress);
                let (part, digest, facts) = send(client, upload, &range, body, &receipt).await?;
                self.unchanged(subject, &source, &[(range, digest)]).await?;
                Ok((Done::WholeStored(part, digest, md5), Some(facts)))
            }
            Work::Examine { subject, look } => {
                Ok((examine::examine(self, job_of(grant)?, subject, *look).await?, None))
            }
            Work::Confirm { subject, same } => {
                let (file, facts) = client.get_file(&same.file).await?;
                let source = self.open_changed(subject, &same.sent).await?;
                self.unchanged(subject, &source, &same.sent).await?;
                Ok((Done::Confirmed(file), Some(facts)))
            }
            Work::Hash(subject) => {
                let source = self.open(subject, true).await?;
                vitals::at(Await::Hashing);
                let _hashing = self.abreast.hashing(job_of(grant)?, vitals::moved());
                Ok((Done::Hashed(source.md5().await.map_err(Failure::Source)?), None))
            }
            Work::Verify { subject, sent } => {
                let source = self.open_changed(subject, sent).await?;
                self.unchanged(subject, &source, sent).await?;
                source.let_go(0..subject.fingerprint.bytes);
                Ok((Done::Verified, None))
            }
            Work::Complete { upload, parts, md5 } => {
                vitals::at(Await::CompleteAnswer);
                let (answer, facts) = client.complete(upload, parts, md5.as_deref()).await?;
                Ok((Done::Completed(answer), Some(facts)))
            }
            Work::Cancel(upload) => {
                // A row that still says that this Upload is in use would take the refusals that follow for something else.
                vitals::at(Await::Commit);
                self.writer.flush().await.map_err(|_| ending())?;
                vitals::at(Await::Answer);
                let (answer, facts) = client.cancel(upload).await?;
                Ok((Done::Cancelled(answer), Some(facts)))
            }
            Work::Search(wanted) => search::search(client, &self.store, wanted).await,
            Work::Check { file, wanted } => search::check(client, &self.store, file, wanted).await,
            Work::AskFile(file) => {
                let (file, facts) = client.get_file(file).await?;
                Ok((Done::FileSeen(file), Some(facts)))
            }
            Work::Probe => {
                let (_, facts) = client.list_files(None, 1, None::<&FileId>).await?;
                Ok((Done::Probed, Some(facts)))
            }
        }
    }

    /// Opens the file as the version that was queued. A chmod or a hard link changes nothing of it; where only the time of
    /// its content differs, and Parts of it were sent, their digests tell before complete.
    pub(super) async fn open(&self, subject: &Subject, begun: bool) -> Result<Source, Failure> {
        let source = self.open_any(subject).await?;
        let (there, queued) = (source.fingerprint(), &subject.fingerprint);
        let harmless = there.differs_in_times_only(queued) && (begun || there.mtime_ns == queued.mtime_ns);
        if there == queued || harmless { Ok(source) } else { Err(Failure::Source(SourceFailure::Changed)) }
    }

    /// Before complete: is it the version that was sent, and does nobody have it open for writing? Where that cannot be told,
    /// the MD5 has to do.
    async fn unchanged(
        &self,
        subject: &Subject,
        source: &Source,
        sent: &[(Range<u64>, Digest)],
    ) -> Result<(), Failure> {
        let mut compared = false;
        loop {
            let Some(root) = self.folders.get(&subject.folder).cloned() else {
                return self.verify(subject, source, sent).await;
            };
            let links = self.links_of(subject.folder);
            let (path, wall) = (subject.path.clone(), self.clock.now().wall);
            vitals::at(Await::Looking);
            let near = self.near(subject.folder, &root, |folder, kind| {
                Some((source.still_near(folder)?, look_near(folder, &path, kind, wall)?))
            });
            let (still, observation) = match near {
                Some(both) => both,
                None => {
                    let looked = source.clone();
                    // Both looks in one go: a change of thread costs more than a look.
                    let both = spawn_blocking(move || {
                        let still = looked.still()?;
                        let kind = FolderKind::probe(&root).unwrap_or(FolderKind::UNKNOWN);
                        Ok((still, look(&root, &path, links, &kind, wall)))
                    });
                    flatten(both.await)?
                }
            };
            if let Observation::OpenForWriting(_) = observation {
                let message = "somebody has it open for writing".to_owned();
                return Err(Failure::Source(SourceFailure::Unreachable { message }));
            }
            if still == Still::Same || compared {
                return Ok(());
            }
            compare(source, sent).await?;
            compared = true;
        }
    }

    /// Is the open file still the version that was opened, at its path, and with the bytes that were sent?
    pub(super) async fn verify(
        &self,
        subject: &Subject,
        source: &Source,
        sent: &[(Range<u64>, Digest)],
    ) -> Result<(), Failure> {
        vitals::at(Await::Looking);
        let root = self.folders.get(&subject.folder);
        let near =
            root.and_then(|root| self.near(subject.folder, root, |folder, _| source.still_near(folder)));
        let still = match near {
            Some(still) => still,
            None => {
                let looked = source.clone();
                flatten(spawn_blocking(move || looked.still()).await)?
            }
        };
        match still {
            Still::Same => Ok(()),
            Still::TimesOnly => compare(source, sent).await,
        }
    }

    /// Opens the file, and compares its bytes with those that were sent if only its times are others.
    async fn open_changed(
        &self,
        subject: &Subject,
        sent: &[(Range<u64>, Digest)],
    ) -> Result<Source, Failure> {
        let source = self.open(subject, true).await?;
        if source.is(&subject.fingerprint).is_err() {
            compare(&source, sent).await?;
        }
        Ok(source)
    }

    async fn open_any(&self, subject: &Subject) -> Result<Source, Failure> {
        let Some(root) = self.folders.get(&subject.folder).cloned() else {
            let message = "its folder is not in the configuration any more".to_owned();
            return Err(Failure::Source(SourceFailure::Unreadable { message }));
        };
        vitals::at(Await::Opening);
        let near = |folder: &Near, _: &FolderKind| Source::open_near(folder, &root, &subject.path);
        let source = match self.near(subject.folder, &root, near) {
            Some(source) => source,
            None => self.open_far(subject, root).await?,
        };
        Ok(source.counted_by(vitals::moved()).digested_by(self.algorithm_of(subject.folder)))
    }

    /// Opens the file however long that takes, and learns on which file system its folder lies.
    async fn open_far(&self, subject: &Subject, root: PathBuf) -> Result<Source, Failure> {
        let links = self.links_of(subject.folder);
        let (path, root_known) = (subject.path.clone(), self.roots.get(&subject.folder).copied());
        let known = self.near.identity(subject.folder);
        let opened = spawn_blocking(move || match Source::open_beneath(&root, &path, links) {
            // An empty mount point says nothing of the files of what was mounted there.
            Err(SourceFailure::Missing) if identity(&root) != root_known => {
                let message = "its folder is not the directory that it was: is it mounted?".to_owned();
                Err(SourceFailure::Unreachable { message })
            }
            Ok(source) => {
                let is_known = known.is_some() && identity(&root) == known;
                Ok((source, if is_known { None } else { FolderKind::probe(&root).ok() }))
            }
            Err(failure) => Err(failure),
        });
        let (source, learnt) = flatten(opened.await)?;
        if let Some(kind) = learnt {
            self.near.learn(subject.folder, kind);
        }
        Ok(source)
    }

    /// As [`NearFolders::within`]; where links are followed nothing is near, since they may lead to another disk.
    fn near<T>(
        &self,
        folder: FolderId,
        root: &Path,
        what: impl FnOnce(&Near, &FolderKind) -> Option<T>,
    ) -> Option<T> {
        if self.links_of(folder) != Links::None {
            return None;
        }
        self.near.within(folder, root, &self.clock, what)
    }
}

async fn create(client: &Client, subject: &Subject) -> Performed {
    let new = NewUpload {
        filename: subject.filename.clone(),
        purpose: subject.purpose.clone(),
        bytes: subject.fingerprint.bytes,
        mime_type: subject.mime_type.clone(),
        expires_after_seconds: subject.expires_after,
    };
    let (upload, facts) = client.create(&new).await?;
    Ok((Done::Created(upload), Some(facts)))
}

async fn send(
    client: &Client,
    upload: &UploadId,
    range: &Range<u64>,
    body: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
    receipt: &Receipt,
) -> Result<(PartId, Digest, Facts), Failure> {
    let length = range.end - range.start;
    let (part, facts) = client.add_part(upload, length, vitals::followed(body)).await?;
    // The client answers only when it has handed over every byte.
    let digest = receipt.digest().ok_or(Failure::Source(SourceFailure::Changed))?;
    Ok((part, digest, facts))
}

async fn compare(source: &Source, sent: &[(Range<u64>, Digest)]) -> Result<(), Failure> {
    vitals::at(Await::Comparing);
    for (range, digest) in sent {
        if source.digest_of(range.clone(), digest.algorithm()).await.map_err(Failure::Source)? != *digest {
            return Err(Failure::Source(SourceFailure::Changed));
        }
    }
    Ok(())
}

fn flatten<T>(joined: Result<Result<T, SourceFailure>, tokio::task::JoinError>) -> Result<T, Failure> {
    match joined {
        Ok(result) => result.map_err(Failure::Source),
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// The job that reads its file; what an account asks for itself reads none.
fn job_of(grant: &Grant) -> Result<JobId, Failure> {
    grant.job.ok_or_else(ending)
}

/// The store takes nothing more, since the service ends: as if nothing had been asked.
pub(super) fn ending() -> Failure {
    Failure::Connect { message: "the service ends".into() }
}

fn identity(root: &Path) -> Option<(u64, u64)> {
    let metadata = std::fs::metadata(root).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

fn panic_text(error: tokio::task::JoinError) -> String {
    let Ok(panic) = error.try_into_panic() else { return "the task was cancelled".into() };
    errands::panic_text(&*panic)
}

/// How long the service waits for Parts in flight when it is told to end.
pub const DRAIN: Duration = Duration::from_secs(20);
