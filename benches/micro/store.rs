//! Writes to a store on the disk, from the writer's queue to the commit that all of them wait for.

use std::path::PathBuf;
use std::time::Duration;

use divan::Bencher;
use divan::counter::ItemsCount;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use upspool::model::answer::{PartId, UploadId};
use upspool::model::digest::Digest;
use upspool::model::file::Fingerprint;
use upspool::model::job::{
    AccountName, Deadline, FolderId, JobId, PlannedPart, Session, State, Step, Subject,
};
use upspool::model::time::{Boot, Now, Wall};
use upspool::store::{
    Applied, Arrival, BootId, Candidate, Context, Lock, Store, Write, Writer, spawn_writer,
};

use crate::runtime;

/// Writes that wait together.
const BATCHES: [usize; 2] = [1, 64];

/// Files become jobs.
#[divan::bench(args = BATCHES, sample_size = 1)]
fn enqueue(bencher: Bencher, batch: usize) {
    let ledger = Ledger::new();
    let mut names = 0..;
    bencher
        .counter(ItemsCount::new(batch))
        .with_inputs(|| names.by_ref().take(batch).map(|name| ledger.file(name)).collect::<Vec<_>>())
        .bench_local_values(|files| ledger.write(files));
}

/// Small files were sent, and complete is about to be: the one commit that a request waits for.
#[divan::bench(args = BATCHES, sample_size = 1)]
fn sent_whole(bencher: Bencher, batch: usize) {
    let ledger = Ledger::new();
    let mut names = 0..;
    let sent = |job: &JobId| {
        let step = Step::SentWhole { session: session(*job, 1, true), md5: Some(MD5.to_owned()) };
        taken(*job, State::Queued, step)
    };
    bencher
        .counter(ItemsCount::new(batch))
        .with_inputs(|| ledger.jobs(names.by_ref().take(batch)).iter().map(sent).collect::<Vec<_>>())
        .bench_local_values(|steps| ledger.write(steps));
}

/// Each of some large files has one more Part at the server.
#[divan::bench(args = BATCHES, sample_size = 1)]
fn part_stored(bencher: Bencher, batch: usize) {
    let ledger = Ledger::new();
    let mut names = 0..;
    let opened = |job: &JobId| taken(*job, State::Queued, Step::Opened(session(*job, 8, false)));
    let stored = |job: &JobId| {
        let step = Step::PartStored { index: 0, id: PartId(format!("part_{}", job.0)), digest: DIGEST };
        taken(*job, State::Uploading, step)
    };
    bencher
        .counter(ItemsCount::new(batch))
        .with_inputs(|| {
            let jobs = ledger.jobs(names.by_ref().take(batch));
            ledger.write(jobs.iter().map(opened).collect());
            jobs.iter().map(stored).collect::<Vec<_>>()
        })
        .bench_local_values(|steps| ledger.write(steps));
}

const DIGEST: Digest = Digest::Blake3([7; 32]);
const MD5: &str = "d41d8cd98f00b204e9800998ecf8427e";
/// Bytes of each file, and of each Part.
const PART_BYTES: u64 = 4096;

/// A store in a directory of its own, with one folder and its writer.
struct Ledger {
    runtime: Runtime,
    writer: Writer,
    folder: FolderId,
    _lock: Lock,
    _directory: TempDir,
}

impl Ledger {
    fn new() -> Ledger {
        let (runtime, directory) = (runtime(), TempDir::new().unwrap());
        let (writer, folder, lock) = runtime.block_on(async {
            let (store, lock) = Store::open(directory.path(), BootId("bench".to_owned())).await.unwrap();
            let folders = [(PathBuf::from("/srv/drop"), "drop".to_owned())];
            let folder = store.sync_folders(&folders, now().wall).await.unwrap()[0].id;
            (spawn_writer(&store).0, folder, lock)
        });
        Ledger { runtime, writer, folder, _lock: lock, _directory: directory }
    }

    /// Has all of it written, and waits until it is committed.
    fn write(&self, writes: Vec<Write>) -> Vec<Applied> {
        self.runtime.block_on(async {
            let asked: Vec<_> = writes.into_iter().map(|write| self.writer.ask(write)).collect();
            let mut applied = Vec::with_capacity(asked.len());
            for one in asked {
                applied.push(one.await.unwrap());
            }
            applied
        })
    }

    /// New jobs that wait for their turn.
    fn jobs(&self, numbers: impl Iterator<Item = u64>) -> Vec<JobId> {
        let applied = self.write(numbers.map(|number| self.file(number)).collect());
        let enqueued = |applied| match applied {
            Applied::Enqueued { job, .. } => job.id,
            other => panic!("each is a new file: {other:?}"),
        };
        applied.into_iter().map(enqueued).collect()
    }

    /// A file that was not there before.
    fn file(&self, number: u64) -> Write {
        let filename = format!("part-{number}.jsonl");
        let subject = Subject {
            folder: self.folder,
            path: PathBuf::from(format!("batch/{filename}")),
            fingerprint: Fingerprint { bytes: PART_BYTES, mtime_ns: 1, ctime_ns: 2, inode: number },
            filename,
            purpose: "batch".to_owned(),
            mime_type: "text/jsonl".to_owned(),
            expires_after: None,
            account: AccountName("default".to_owned()),
        };
        Write::Enqueue(Box::new(Candidate {
            subject,
            base_url: "https://api.openai.com/v1".to_owned(),
            project: None,
            found_at: now().wall,
            arrival: Arrival::Queued,
            warnings: Vec::new(),
            replaces: None,
            over: None,
        }))
    }
}

fn taken(job: JobId, from: State, step: Step) -> Write {
    Write::Step { job, from, step: Box::new(step), now: now(), context: Box::new(Context::default()) }
}

/// An Upload of so many Parts, all of which are stored, or none.
fn session(job: JobId, parts: u64, stored: bool) -> Session {
    let part = |index| PlannedPart {
        range: index * PART_BYTES..(index + 1) * PART_BYTES,
        stored: stored.then(|| (PartId(format!("part_{}_{index}", job.0)), DIGEST)),
    };
    Session {
        upload: UploadId(format!("upload_{}", job.0)),
        echoed_name: format!("part-{}.jsonl", job.0),
        server_created_at: 1_800_000_000,
        deadline: Deadline::At(now().boot + Duration::from_secs(3600)),
        parts: (0..parts).map(part).collect(),
    }
}

/// Nothing here hangs on how late it is.
fn now() -> Now {
    Now { wall: Wall(1_800_000_000_000), boot: Boot(1_000_000) }
}
