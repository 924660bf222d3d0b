//! The heart: what is open, due, held and how fast it goes. Owned by one task; events go in, effects come out.
//!
//! Nothing here does I/O, so hours of a thin link or every lost answer are simulated in microseconds, and no two tasks
//! race for slots, holds or cancels. A claim is a place on the board: a crash gives every claim back.

mod doubt;
mod examine;
mod gates;
mod grants;
mod link;
mod outcomes;
mod outlook;
mod queue;
mod requests;
#[cfg(test)]
mod simulation;
mod task;
mod tuner;

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::time::Duration;

pub use gates::{Hold, Pace, Scope};
pub use requests::{Ask, Request, Resolution};
pub use tuner::Bound;

use self::gates::Gates;
use self::link::Link;
use self::queue::Queue;
use self::task::Task;
use self::tuner::Tuner;
use super::answer::{FileId, PartId, RemoteFile, Upload, UploadId};
use super::digest::Digest;
use super::examine::{Examination, Look, Same};
use super::failure::{Facts, Failure, Operation};
use super::job::{AccountName, Deadline, FolderId, Job, JobId, Reason, Stage, State, Step, Subject};
use super::plan::PartSize;
use super::policy::Retry;
use super::preflight::Report;
use super::reconcile::{Content, Found};
use super::time::{Boot, Now, Wall};

/// The settings that the board obeys.
#[derive(Clone, Debug)]
pub struct Limits {
    /// `[upload] parallel_parts`; none is "auto".
    pub parallel_parts: Option<usize>,
    /// `[upload] bandwidth_limit`, in bytes per second.
    pub bandwidth_limit: Option<u64>,
    /// Requests at once that are no Parts of large files: small files, create, complete, cancel.
    pub lane: usize,
    /// `[upload] part_size`.
    pub part_size: PartSize,
    /// `[upload] checksum`.
    pub checksum: bool,
    /// `[retry]`.
    pub retry: Retry,
    /// `[api] complete_timeout`, the longest of all accounts: so long a server may put a file together.
    pub complete_timeout: Duration,
    /// Each account with the server that it belongs to.
    pub accounts: HashMap<AccountName, String>,
    /// The folders whose files are looked at before they are sent.
    pub examine: HashMap<FolderId, Examination>,
}

impl Limits {
    /// What there is to look at of a file before it is sent.
    fn look(&self, subject: &Subject) -> Option<Look> {
        self.examine.get(&subject.folder)?.of(subject)
    }
}

/// Small requests at once: enough to hide the latency of a far server behind many small files, few enough not to be
/// taken for an attack.
pub const LANE: usize = 48;

/// Names one granted operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OperationId(pub u64);

/// What happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// The last job that there was when the service started. Those after it are announced by [`Event::Enqueued`], in their
    /// order, and a refill may be ahead of that.
    Began {
        /// None is 0.
        last: JobId,
    },
    /// The jobs that were open when the service started.
    Resumed(Vec<Job>),
    /// The answer to [`Effect::Refill`].
    Refilled {
        /// The line that was asked for.
        line: Line,
        /// Its oldest queued jobs that are due, bumped ones first.
        jobs: Vec<Job>,
        /// Whether the store has more of them.
        more: bool,
        /// When the next one of those that are not due comes due.
        next_due: Option<Wall>,
    },
    /// A new job was committed.
    Enqueued(Job),
    /// An operation ended.
    Done(OperationId, Outcome),
    /// The step to `Completing` of this job is on disk.
    Committed(JobId),
    /// The job is not the board's any more: its row is in another state than the board had.
    Dropped(JobId),
    /// The File that complete's answer named belongs to another job of the ledger.
    Contested(Job),
    /// A command's request.
    Asked(Request),
    /// These folders are in force, with those that are paused.
    Folders(Vec<(FolderId, bool)>),
    /// A folder is paused, or not any more, for a reason that lies in the folder and is written down already.
    Paused {
        /// Which.
        folder: FolderId,
        /// Whether it is.
        paused: bool,
    },
    /// The store cannot be written (with the reason), or can again.
    Store(Result<(), Reason>),
    /// Something about this account changed that makes a new try worthwhile: its key.
    Renewed(AccountName),
    /// The largest Part that each server is known to take, from earlier runs.
    PartCaps(HashMap<String, u64>),
    /// How Parts get on; each few seconds while there are any.
    Moved {
        /// Bytes of each Part under way that were handed to its connection so far.
        operations: Vec<(OperationId, u64)>,
        /// How many wait for their file at this moment.
        reading: usize,
    },
    /// No new work from now on.
    Stopping,
    /// Time passed.
    Tick,
}

/// One line of the queue: the files of a folder that go through the lane, or those that take slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Line {
    /// Whose files.
    pub folder: FolderId,
    /// The small ones?
    pub lane: bool,
}

/// What is to be done now.
#[derive(Clone, Debug)]
#[must_use]
pub enum Effect {
    /// Perform this and report its outcome.
    Start(Grant),
    /// The result of this operation is of no use any more: end it soon. Its outcome is still awaited.
    Abort(OperationId),
    /// Write this step.
    Write {
        /// The job.
        job: JobId,
        /// Its file.
        subject: Box<Subject>,
        /// Where it was before.
        from: State,
        /// Where it is now.
        to: State,
        /// What happened.
        step: Step,
        /// The request behind it.
        context: Context,
        /// Whether [`Event::Committed`] is awaited.
        awaited: bool,
    },
    /// Remember this request, which changed no stage, in the history of the job.
    Note {
        /// The job.
        job: JobId,
        /// The request.
        context: Context,
    },
    /// A look at a file before it is sent showed something that a person should know: keep it with the job.
    Warn {
        /// The job.
        job: JobId,
        /// Its file.
        subject: Box<Subject>,
        /// What was seen.
        report: Report,
    },
    /// Load the beginning of this line from the store, as it is after everything written so far.
    Refill(Line, usize),
    /// The file is another version by now: look at it anew.
    LookAgain(FolderId, super::file::RelativePath),
    /// A folder is paused, or not any more.
    Paused {
        /// Which.
        folder: FolderId,
        /// Whether they are.
        paused: bool,
    },
    /// Remember the largest Part that a server takes.
    PartCap {
        /// By its base URL.
        server: String,
        /// In bytes.
        bytes: u64,
    },
    /// What a command is told.
    Answer {
        /// Its row.
        request: i64,
        /// Whether it was done as asked.
        done: bool,
        /// For a person.
        text: String,
    },
    /// Sending stopped for a scope, or goes on.
    Held(Scope, Hold),
    /// A hold is over, after this long.
    Lifted(Scope, Hold, Duration),
}

/// The HTTP side of a step, for the history and the logs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Context {
    /// Which request.
    pub operation: Option<Operation>,
    /// Its HTTP facts.
    pub facts: Option<Facts>,
    /// How long it took.
    pub took: Duration,
    /// The file's bytes in it.
    pub bytes: Option<u64>,
}

/// Leave to perform one operation.
#[derive(Clone, Debug)]
pub struct Grant {
    /// Its name.
    pub id: OperationId,
    /// Whose it is; none for a probe.
    pub job: Option<JobId>,
    /// The account to use.
    pub account: AccountName,
    /// What to do.
    pub work: Work,
}

/// An operation, with all that it needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Work {
    /// `POST /uploads`.
    Create(Box<Subject>),
    /// `POST /uploads/{id}/parts` with this range.
    Part {
        /// The file.
        subject: Box<Subject>,
        /// Its Upload.
        upload: UploadId,
        /// Which Part.
        index: usize,
        /// Its bytes.
        range: Range<u64>,
        /// Whether other Parts of it are stored, with whose digests the whole is compared before complete.
        begun: bool,
        /// Whether its bytes need not be read again once they are sent: the MD5 is known, or not asked for.
        last: bool,
        /// Whether no other file wants the slots, so that it may take its time.
        alone: bool,
    },
    /// The one Part of a small file, with MD5 if asked for, and the check that the file is still this version.
    Whole {
        /// The file.
        subject: Box<Subject>,
        /// Its Upload.
        upload: UploadId,
        /// Whether the MD5 is wanted.
        checksum: bool,
    },
    /// A look at the file before it is sent: no request, but for a commit it reads the store.
    Examine {
        /// The file.
        subject: Box<Subject>,
        /// What to look at.
        look: Look,
    },
    /// `GET /files/{id}` of a File that has the same bytes, and then: is the file still that version?
    Confirm {
        /// The file.
        subject: Box<Subject>,
        /// Whose File it is.
        same: Same,
    },
    /// MD5 of the whole file.
    Hash(Box<Subject>),
    /// Is the file still the version of which these ranges were sent?
    Verify {
        /// The file.
        subject: Box<Subject>,
        /// What was sent.
        sent: Vec<(Range<u64>, Digest)>,
    },
    /// `POST /uploads/{id}/complete`.
    Complete {
        /// The Upload.
        upload: UploadId,
        /// Its Parts in the order of the file.
        parts: Vec<PartId>,
        /// MD5 of the file.
        md5: Option<String>,
    },
    /// `POST /uploads/{id}/cancel`: of an Upload that is given up, so that the server need not keep its Parts; or of one
    /// that may have become a File, to find out.
    Cancel(UploadId),
    /// Look through `GET /files` for the File that an Upload may have become.
    Search(Box<Wanted>),
    /// `GET /files/{id}`: a File that the answer to complete named while it was not made yet.
    AskFile(FileId),
    /// Is this File what a person says it is?
    Check {
        /// Its id.
        file: FileId,
        /// What it is to be.
        wanted: Box<Wanted>,
    },
    /// `GET /files?limit=1`: does the server answer at all?
    Probe,
}

/// The File that is looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Its job: what the ledger has of other jobs is not meant.
    pub job: JobId,
    /// As create's answer echoed it.
    pub name: String,
    /// The API's `purpose`.
    pub purpose: String,
    /// Its size.
    pub bytes: u64,
    /// Not made before this, by the server's clock, in seconds since 1970.
    pub since: i64,
    /// The ranges of the file in order, with the digests of what was sent.
    pub sent: Vec<(Range<u64>, Digest)>,
}

/// How an operation ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What came of it.
    pub result: Result<Done, Failure>,
    /// The HTTP facts of a good answer.
    pub facts: Option<Facts>,
    /// How long it took.
    pub took: Duration,
    /// Whether it was ended by [`Effect::Abort`] or by the end of the service, which says nothing about the file.
    pub interrupted: bool,
}

/// What a successful operation brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done {
    /// Create's answer.
    Created(Upload),
    /// A Part is stored.
    PartStored(PartId, Digest),
    /// A small file's Part is stored, and the file is still that version.
    WholeStored(PartId, Digest, Option<String>),
    /// What the look at the file showed.
    Examined {
        /// Whether it is right.
        report: Report,
        /// Those who sent the same bytes, the newest first.
        same: Vec<Same>,
    },
    /// The File with the same bytes is there, and the file still that version.
    Confirmed(RemoteFile),
    /// The MD5.
    Hashed(String),
    /// Still the same version.
    Verified,
    /// Complete's answer, whatever it says.
    Completed(Upload),
    /// Cancel's answer, whatever it says.
    Cancelled(Upload),
    /// What the list of Files showed.
    Searched(Found),
    /// The File that was asked for.
    FileSeen(RemoteFile),
    /// What a person's File is.
    Checked {
        /// It.
        file: RemoteFile,
        /// Compared with what was sent.
        content: Content,
        /// The job of the ledger that has it.
        taken: Option<JobId>,
    },
    /// The server answers.
    Probed,
    /// The operation panicked; the text is the panic's.
    Panicked(String),
}

/// See the module.
#[derive(Debug)]
pub struct Board {
    limits: Limits,
    tasks: BTreeMap<JobId, Task>,
    queue: Queue,
    gates: Gates,
    operations: HashMap<OperationId, Running>,
    last_operation: u64,
    /// The largest Part that each server is known to take, where something before it refused a larger one.
    part_caps: HashMap<String, u64>,
    /// How fast each server took bytes lately.
    links: HashMap<String, Link>,
    /// Where the number of Part slots is ours to find.
    tuner: Option<Tuner>,
    /// Bytes of Parts that were taken since the tuner was told.
    untold: u64,
    random: Random,
    stopping: bool,
    /// The last job that was there at the start, or was announced since.
    announced: JobId,
    /// When all that could start was last started: what came due since is still to be looked at.
    filled_at: Boot,
    effects: Vec<Effect>,
}

/// An operation under way.
#[derive(Clone, Debug)]
struct Running {
    job: Option<JobId>,
    account: AccountName,
    kind: Kind,
    /// Its job went on without it.
    stale: bool,
    /// Bytes of a Part that were handed to its connection.
    moved: u64,
}

/// What a running operation takes up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Examine,
    Confirm,
    Create,
    Part(usize),
    Whole,
    Hash,
    Verify,
    Complete,
    /// Cancel of an Upload that is given up.
    Cancel,
    /// Cancel of an Upload that may have become a File.
    Fence,
    Search,
    AskFile,
    Check,
    Probe,
}

impl Kind {
    /// The request behind it, for the policy.
    fn operation(self) -> Operation {
        match self {
            Kind::Create => Operation::Create,
            Kind::Part(_) | Kind::Whole | Kind::Hash | Kind::Verify | Kind::Examine => Operation::Part,
            Kind::Complete => Operation::Complete,
            Kind::Cancel | Kind::Fence => Operation::Cancel,
            Kind::Search | Kind::Probe => Operation::ListFiles,
            Kind::Confirm | Kind::AskFile | Kind::Check => Operation::GetFile,
        }
    }

    fn uses_lane(self) -> bool {
        !matches!(self, Kind::Part(_)) && !self.is_local()
    }

    /// Whether it asks the server nothing.
    fn is_local(self) -> bool {
        matches!(self, Kind::Examine | Kind::Hash | Kind::Verify)
    }
}

impl Board {
    /// An empty board. `seed` feeds the jitter.
    pub fn new(limits: Limits, seed: u64) -> Board {
        Board {
            queue: Queue::new(limits.examine.keys().copied()),
            tuner: limits.parallel_parts.is_none().then(|| Tuner::new(limits.bandwidth_limit)),
            untold: 0,
            limits,
            tasks: BTreeMap::new(),
            gates: Gates::default(),
            operations: HashMap::new(),
            last_operation: 0,
            part_caps: HashMap::new(),
            links: HashMap::new(),
            random: Random(seed | 1),
            stopping: false,
            announced: JobId(i64::MAX),
            filled_at: Boot(i64::MIN),
            effects: Vec::new(),
        }
    }

    /// Takes one event and says what is to be done about it.
    pub fn apply(&mut self, event: Event, now: Now) -> Vec<Effect> {
        self.apply_all([event], now)
    }

    /// Takes events that came together, in their order, and says what is to be done about them. Cheaper than one by one, since
    /// all that is under way is looked at once.
    pub fn apply_all(&mut self, events: impl IntoIterator<Item = Event>, now: Now) -> Vec<Effect> {
        for event in events {
            self.take(event, now);
        }
        self.fill(now);
        self.filled_at = now.boot;
        std::mem::take(&mut self.effects)
    }

    fn take(&mut self, event: Event, now: Now) {
        match event {
            Event::Resumed(jobs) => {
                for job in jobs {
                    self.tasks.insert(job.id, Task::resumed(job, now));
                }
            }
            Event::Began { last } => self.announced = last,
            Event::Refilled { line, jobs, more, next_due } => {
                // One that comes before it is announced may have ended by then, and would be begun again.
                let known = |id: JobId| id > self.announced || self.tasks.contains_key(&id);
                self.queue.refilled(line, jobs, more, next_due, known);
            }
            Event::Enqueued(job) => {
                self.announced = self.announced.max(job.id);
                if !self.tasks.contains_key(&job.id) {
                    self.queue.push(job);
                }
            }
            Event::Done(id, outcome) => self.finished(id, outcome, now),
            Event::Committed(id) => {
                if let Some(task) = self.tasks.get_mut(&id) {
                    task.committed = true;
                }
            }
            Event::Dropped(id) => {
                self.queue.remove(id);
                self.forget(id);
            }
            Event::Contested(job) => self.contested(job, now),
            Event::Asked(request) => self.asked(request, now),
            Event::Folders(folders) => {
                // Time in which nobody tried does not count against anybody.
                self.queue.held_until(now.wall);
                self.queue.set_folders(&folders);
            }
            Event::Paused { folder, paused } => self.queue.set_paused(folder, paused),
            Event::Store(Ok(())) => self.lift(&Scope::Store, now),
            Event::Store(Err(reason)) => self.hold(Scope::Store, reason, Operation::ListFiles, now),
            Event::Renewed(account) => self.gates.probe_now(&Scope::Account(account), now.boot),
            Event::PartCaps(caps) => self.part_caps = caps,
            Event::Moved { operations, reading } => self.moved(&operations, reading, now),
            Event::Stopping => {
                self.stopping = true;
                self.end_examinations();
            }
            Event::Tick => {}
        }
    }

    /// When [`Event::Tick`] is wanted at the latest, on the boot clock.
    pub fn next_wake(&self, now: Now) -> Option<Boot> {
        let tasks = self.tasks.values().flat_map(|task| {
            let deadline = match task.job.stage {
                Stage::Sending(ref session) => match session.deadline {
                    Deadline::At(at) => Some(at),
                    Deadline::Unknown => None,
                },
                _ => None,
            };
            [Some(task.not_before), deadline]
        });
        let due = self.queue.next_due().map(|due| now.boot_at(due));
        tasks.chain([due]).flatten().chain(self.gates.wakes()).filter(|at| *at > self.filled_at).min()
    }

    /// Whether no operation is under way: after [`Event::Stopping`], whether the service may end.
    pub fn is_quiet(&self) -> bool {
        self.operations.is_empty()
    }

    /// Whether nothing is left to do, now or later, unless new files come or a folder is resumed.
    pub fn is_done(&self) -> bool {
        let waits = |task: &Task| {
            let completing = matches!(task.job.stage, Stage::Completing(..));
            self.queue.is_paused(task.job.subject.folder) && !completing
        };
        self.is_quiet() && self.tasks.values().all(waits) && self.queue.is_empty()
    }

    /// What stops sending, with since when and until when.
    pub fn holds(&self) -> impl Iterator<Item = (&Scope, &Hold)> {
        self.gates.holds()
    }

    /// Accounts whose server asked us to slow down.
    pub fn paces(&self) -> impl Iterator<Item = (&AccountName, &Pace)> {
        self.gates.paces()
    }

    /// Part slots in use and in all, and lane requests in use.
    pub fn slots(&self) -> (usize, usize, usize) {
        (self.running_parts(), self.gates.slots(self.part_slots()), self.running_lane())
    }

    /// What keeps the number of Part slots where it is, if it is ours to find.
    pub fn slots_bound(&self) -> Option<Bound> {
        self.tuner.as_ref().map(Tuner::bound)
    }

    /// The jobs that are being worked on.
    pub fn active(&self) -> impl Iterator<Item = &Job> {
        self.tasks.values().map(|task| &task.job)
    }

    /// Whether this folder is paused.
    pub fn is_paused(&self, folder: FolderId) -> bool {
        self.queue.is_paused(folder)
    }

    /// Ends every operation: the time to drain is over.
    pub fn abort_all(&mut self) -> Vec<Effect> {
        self.operations.keys().map(|id| Effect::Abort(*id)).collect()
    }

    /// Takes `step` for the job on the board and has it written. The one way in which a stage changes.
    fn step(&mut self, id: JobId, step: Step, context: Context, awaited: bool) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        let from = task.job.stage.state();
        match task.job.take(&step) {
            Ok(()) => {
                let (subject, to) = (Box::new(task.job.subject.clone()), task.job.stage.state());
                self.effects.push(Effect::Write { job: id, subject, from, to, step, context, awaited });
            }
            Err(illegal) => {
                // Every caller asks the stage first, so this is a fault of ours: say so on the job, keep the service.
                debug_assert!(false, "{illegal}");
            }
        }
    }

    /// Takes the job off the board: its row says the rest. What it has under way goes on without it.
    fn forget(&mut self, id: JobId) {
        self.abandon_operations(id);
        self.tasks.remove(&id);
        self.queue.left(id);
    }

    fn abandon_operations(&mut self, job: JobId) {
        for (id, running) in &mut self.operations {
            if running.job == Some(job) && !running.stale && running.kind != Kind::Cancel {
                running.stale = true;
                self.effects.push(Effect::Abort(*id));
            }
        }
        if let Some(task) = self.tasks.get_mut(&job) {
            task.under_way.clear();
        }
    }

    fn hold(&mut self, scope: Scope, reason: Reason, operation: Operation, now: Now) {
        if let Some(hold) = self.gates.begin(scope.clone(), reason, operation, now) {
            for task in
                self.tasks.values_mut().filter(|task| scope.covers(&task.job.subject.account, &self.limits))
            {
                task.give_back_attempt(now.boot);
            }
            self.effects.push(Effect::Held(scope, hold));
        }
    }

    fn lift(&mut self, scope: &Scope, now: Now) {
        if let Some(hold) = self.gates.end(scope) {
            for task in
                self.tasks.values_mut().filter(|task| scope.covers(&task.job.subject.account, &self.limits))
            {
                task.job.failing_since = None;
                task.failing = None;
                task.not_before = now.boot;
            }
            self.queue.held_until(now.wall);
            let lasted = now.boot.since(hold.since_boot);
            self.effects.push(Effect::Lifted(scope.clone(), hold, lasted));
        }
    }

    /// Part slots, unless a server asks for a slower pace.
    fn part_slots(&self) -> usize {
        let tuned = self.tuner.as_ref().map(Tuner::slots);
        self.limits.parallel_parts.or(tuned).unwrap_or(tuner::FIRST)
    }

    fn running_parts(&self) -> usize {
        self.operations.values().filter(|running| matches!(running.kind, Kind::Part(_))).count()
    }

    fn running_lane(&self) -> usize {
        self.operations.values().filter(|running| running.kind.uses_lane()).count()
    }

    fn server_of(&self, account: &AccountName) -> String {
        self.limits.accounts.get(account).cloned().unwrap_or_default()
    }
}

/// A small generator for the jitter; nothing depends on its quality.
#[derive(Debug)]
struct Random(u64);

impl Random {
    /// Uniform in 0..1.
    fn next(&mut self) -> f64 {
        // xorshift64, Marsaglia 2003.
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }
}
