//! The store on real files.

mod enqueue;
mod open;
mod read;
mod rebuild;
mod spool;
mod steps;
mod writer;

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::{Applied, Arrival, BootId, Candidate, Context, FolderRow, Lock, Store, Write, WriteError};
use crate::model::answer::{PartId, UploadId};
use crate::model::digest::Digest;
use crate::model::file::Fingerprint;
use crate::model::job::{
    AccountName, Code, Deadline, FolderId, Job, JobId, PlannedPart, Reason, Session, Step, Subject,
};
use crate::model::time::{Boot, Now, Wall};

/// A store in a directory of its own, with one folder.
struct Fixture {
    store: Store,
    lock: Option<Lock>,
    folder: FolderId,
    dir: TempDir,
}

fn boot() -> BootId {
    BootId("boot-a".to_owned())
}

fn at(ms: i64) -> Now {
    Now { wall: Wall(1_700_000_000_000 + ms), boot: Boot(ms) }
}

impl Fixture {
    async fn new() -> Fixture {
        let dir = tempfile::tempdir().unwrap();
        let (store, lock) = Store::open(dir.path(), boot()).await.unwrap();
        let folders = store.sync_folders(&[(PathBuf::from("/srv/a"), "a".into())], Wall(1)).await.unwrap();
        Fixture { store, lock: Some(lock), folder: folders[0].id, dir }
    }

    /// As a crash would: nothing is closed in order.
    async fn crash(mut self) -> Fixture {
        drop(self.lock.take());
        let (store, lock) = Store::open(self.dir.path(), boot()).await.unwrap();
        Fixture { store, lock: Some(lock), folder: self.folder, dir: self.dir }
    }

    fn candidate(&self, path: &str) -> Candidate {
        Candidate {
            subject: Subject {
                folder: self.folder,
                path: PathBuf::from(path),
                fingerprint: print(10),
                filename: path.rsplit('/').next().unwrap().to_owned(),
                purpose: "batch".into(),
                mime_type: "text/jsonl".into(),
                expires_after: Some(3600),
                account: AccountName("default".into()),
            },
            base_url: "https://api.openai.com/v1".into(),
            project: Some("proj_1".into()),
            found_at: at(0).wall,
            arrival: Arrival::Queued,
            warnings: Vec::new(),
            replaces: None,
            over: None,
        }
    }

    async fn add(&self, candidate: Candidate) -> Job {
        match self.store.write(&Write::Enqueue(Box::new(candidate))).await.unwrap() {
            Applied::Enqueued { job, .. } => *job,
            other => panic!("not enqueued: {other:?}"),
        }
    }

    async fn queued(&self, path: &str) -> Job {
        self.add(self.candidate(path)).await
    }

    /// Takes a step in the store and in memory, which have to agree.
    async fn take(&self, job: &mut Job, step: Step) {
        self.step(job.id, job.stage.state(), step.clone(), Context::default()).await.unwrap();
        job.take(&step).unwrap();
    }

    async fn step(
        &self,
        job: JobId,
        from: crate::model::job::State,
        step: Step,
        context: Context,
    ) -> Result<Applied, WriteError> {
        let write =
            Write::Step { job, from, step: Box::new(step), now: at(5000), context: Box::new(context) };
        self.store.write(&write).await
    }

    async fn load(&self, id: JobId) -> Job {
        self.store.job(id, at(6000)).await.unwrap().unwrap()
    }

    async fn folder_at(&self, path: &str) -> FolderRow {
        let folders = [(PathBuf::from(path), Path::new(path).file_name().unwrap().to_string_lossy().into())];
        self.store.sync_folders(&folders, Wall(2)).await.unwrap().remove(0)
    }
}

fn print(bytes: u64) -> Fingerprint {
    Fingerprint { bytes, mtime_ns: 1, ctime_ns: 2, inode: u64::MAX }
}

fn session(name: &str, parts: usize) -> Session {
    Session {
        upload: UploadId(name.into()),
        echoed_name: "a.jsonl".into(),
        server_created_at: 1_700_000_000,
        deadline: Deadline::At(Boot(3_600_000)),
        parts: (0..parts as u64).map(|n| PlannedPart { range: n * 5..n * 5 + 5, stored: None }).collect(),
    }
}

fn whole(name: &str) -> Session {
    let mut session = session(name, 1);
    session.parts[0].stored = Some((PartId("part_0".into()), Digest::Blake3([7; 32])));
    session
}

fn part(index: usize) -> Step {
    Step::PartStored { index, id: PartId(format!("part_{index}")), digest: Digest::Blake3([7; 32]) }
}

fn reason() -> Reason {
    Reason {
        code: Code::ServerError,
        message: "it is down".into(),
        status: Some(503),
        request_id: Some("req_1".into()),
    }
}
