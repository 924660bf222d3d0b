//! The board in a service that never runs out of files: with each File that is stored another one is queued.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::PathBuf;
use std::time::Duration;

use divan::Bencher;
use divan::counter::ItemsCount;
use upspool::model::answer::{FileId, FileStatus, PartId, RemoteFile, Upload, UploadId, UploadStatus};
use upspool::model::board::{Board, Done, Effect, Event, Grant, LANE, Limits, Outcome, Work};
use upspool::model::digest::Digest;
use upspool::model::file::Fingerprint;
use upspool::model::job::{AccountName, FolderId, Job, JobId, Stage, State, Subject};
use upspool::model::plan::{LANE_BYTES, PartSize};
use upspool::model::policy::Retry;
use upspool::model::time::{Boot, Now, Wall};

/// Bytes of a file that goes whole, in three requests.
pub(crate) const SMALL: u64 = 4096;

/// Bytes of a file of eight Parts, one for each slot.
pub(crate) const LARGE: u64 = 100 * 1024 * 1024;

/// Operations in a sample: enough for each kind of request, and for some refills of the queue in memory.
const SAMPLE: u32 = 3_000;

/// Jobs that wait.
const QUEUED: [usize; 3] = [10, 1_000, 10_000];

const FOLDER: FolderId = FolderId(1);

#[divan::bench(args = QUEUED, sample_size = SAMPLE)]
fn small(bencher: Bencher, queued: usize) {
    let mut service = Service::new(SMALL, queued);
    bencher.counter(ItemsCount::new(1_u32)).bench_local(|| service.step());
}

#[divan::bench(args = QUEUED, sample_size = SAMPLE)]
fn large(bencher: Bencher, queued: usize) {
    let mut service = Service::new(LARGE, queued);
    bencher.counter(ItemsCount::new(1_u32)).bench_local(|| service.step());
}

/// A board with a store and a server that answer at once.
pub(crate) struct Service {
    board: Board,
    now: Now,
    bytes: u64,
    last: i64,
    /// The rows of queued jobs.
    queued: BTreeMap<JobId, Job>,
    granted: VecDeque<Grant>,
}

impl Service {
    /// Sends files of so many bytes, with so many queued besides those that are under way.
    pub(crate) fn new(bytes: u64, queued: usize) -> Service {
        let now = Now { wall: Wall(1_800_000_000_000), boot: Boot(1_000_000) };
        let board = Board::new(limits(), 42);
        let mut service =
            Service { board, now, bytes, last: 0, queued: BTreeMap::new(), granted: VecDeque::new() };
        service.apply(Event::Began { last: JobId(0) });
        service.apply(Event::Folders(vec![(FOLDER, false)]));
        // None of those that are under way has taken a step yet, so that its row is queued as well.
        while service.queued.len() - service.board.active().count() < queued {
            let job = service.enqueue();
            service.apply(job);
        }
        // Past the first requests, which are all of one kind.
        for _ in 0..2_000 {
            service.step();
        }
        service
    }

    /// One operation ends, and what follows is granted.
    pub(crate) fn step(&mut self) {
        self.now = self.now + Duration::from_millis(1);
        let grant = self.granted.pop_front().expect("something is always under way");
        let result = Ok(self.answer(&grant));
        let took = Duration::from_millis(20);
        self.apply(Event::Done(grant.id, Outcome { result, facts: None, took, interrupted: false }));
    }

    fn apply(&mut self, event: Event) {
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            for effect in self.board.apply(event, self.now) {
                match effect {
                    Effect::Start(grant) => self.granted.push_back(grant),
                    Effect::Write { job, to, awaited, .. } => {
                        if to != State::Queued {
                            self.queued.remove(&job);
                        }
                        if awaited {
                            events.push(Event::Committed(job));
                        }
                        if to == State::Stored {
                            events.push(self.enqueue());
                        }
                    }
                    Effect::Refill(line, count) => {
                        let mine = line.lane == (self.bytes <= LANE_BYTES);
                        let rows = self.queued.values().filter(|_| mine);
                        let jobs = rows.take(count).cloned().collect();
                        let more = mine && self.queued.len() > count;
                        events.push(Event::Refilled { line, jobs, more, next_due: None });
                    }
                    Effect::Note { .. } => {}
                    other => panic!("nothing goes wrong here: {other:?}"),
                }
            }
        }
    }

    fn enqueue(&mut self) -> Event {
        self.last += 1;
        let (id, bytes) = (JobId(self.last), self.bytes);
        let filename = format!("part-{}.jsonl", self.last);
        let subject = Subject {
            folder: FOLDER,
            path: PathBuf::from(format!("batch/{filename}")),
            fingerprint: Fingerprint { bytes, mtime_ns: 1, ctime_ns: 2, inode: 3 },
            filename,
            purpose: "batch".into(),
            mime_type: "text/jsonl".into(),
            expires_after: None,
            account: AccountName("default".into()),
        };
        let job = Job {
            id,
            subject,
            stage: Stage::Queued,
            md5: None,
            attempts: 0,
            restarts: 0,
            refusals: 0,
            expiries: 0,
            uploads: 0,
            failing_since: None,
            due: None,
            bumped: false,
        };
        self.queued.insert(id, job.clone());
        Event::Enqueued(job)
    }

    fn answer(&self, grant: &Grant) -> Done {
        let digest = Digest::Blake3([7; 32]);
        let md5 = || "d41d8cd98f00b204e9800998ecf8427e".to_owned();
        match &grant.work {
            Work::Create(subject) => {
                let id = UploadId(format!("upload_{}", grant.id.0));
                Done::Created(self.upload(id, subject.filename.clone(), UploadStatus::Pending))
            }
            Work::Part { .. } => Done::PartStored(PartId(format!("part_{}", grant.id.0)), digest),
            Work::Whole { .. } => {
                Done::WholeStored(PartId(format!("part_{}", grant.id.0)), digest, Some(md5()))
            }
            Work::Hash(_) => Done::Hashed(md5()),
            Work::Verify { .. } => Done::Verified,
            Work::Complete { upload, .. } => {
                let file = RemoteFile {
                    id: FileId(format!("file-{}", grant.id.0)),
                    bytes: Some(self.bytes),
                    created_at: self.now.wall.0 / 1000,
                    filename: String::new(),
                    purpose: "batch".into(),
                    expires_at: None,
                    status: FileStatus::Ready,
                };
                let upload = self.upload(upload.clone(), String::new(), UploadStatus::Completed);
                Done::Completed(Upload { file: Some(file), ..upload })
            }
            other => panic!("nothing goes wrong here: {other:?}"),
        }
    }

    fn upload(&self, id: UploadId, filename: String, status: UploadStatus) -> Upload {
        let created_at = self.now.wall.0 / 1000;
        let expires_at = created_at + 3600;
        Upload { id, status, filename, bytes: Some(self.bytes), created_at, expires_at, file: None }
    }
}

fn limits() -> Limits {
    Limits {
        parallel_parts: Some(8),
        bandwidth_limit: None,
        lane: LANE,
        part_size: PartSize::Auto,
        checksum: true,
        retry: Retry {
            first_delay: Duration::from_millis(500),
            max_delay: Duration::from_secs(900),
            give_up_after: Duration::from_secs(86_400),
        },
        complete_timeout: Duration::from_secs(600),
        accounts: HashMap::from([(AccountName("default".into()), "https://api.openai.com/v1".into())]),
        examine: HashMap::new(),
    }
}
