//! The simulated world: a link, clocks and a store around the board; its server stands in `server`.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::PathBuf;
use std::time::Duration;

use super::super::super::failure::{Facts, Failure};
use super::super::super::file::Fingerprint;
use super::super::super::job::*;
use super::super::super::plan::{self, PartSize};
use super::super::super::policy::Retry;
use super::super::super::preflight::Preflight;
use super::super::super::time::{Boot, Now, Wall};
use super::super::*;
use super::server::{Server, refused};

pub(super) const MB: u64 = 1_000_000;

/// What a request meets: decided from the operation, its file's number and the time.
type Fault = Box<dyn Fn(&Work, Option<JobId>, &AccountName, Now) -> Option<Failure>>;

pub(super) struct World {
    pub(super) board: Board,
    pub(super) now: Now,
    /// The server's own time, which no clock of ours shows.
    pub(super) real: Boot,
    pub(super) server: Server,
    /// Bytes per second of the whole link.
    pub(super) rate: f64,
    /// Bytes per second of one connection: its window, once a round trip.
    pub(super) each: f64,
    /// `parallel_parts`.
    pub(super) parallel: Option<usize>,
    pub(super) latency: Duration,
    /// The store's rows.
    pub(super) rows: BTreeMap<JobId, Job>,
    /// Parts being sent, with the bytes that are left of each.
    pub(super) parts: BTreeMap<OperationId, (Grant, f64)>,
    /// Everything else under way, by when it ends.
    pub(super) requests: BTreeSet<(Boot, OperationId)>,
    pub(super) grants: HashMap<OperationId, Grant>,
    pub(super) aborted: HashSet<OperationId>,
    pub(super) fault: Fault,
    /// When the board is told next how far Parts got.
    pub(super) moved_at: Boot,
    /// Whether the board is told of all at once that came of one event.
    pub(super) together: bool,
    pub(super) most_parts: usize,
    pub(super) most_lane: usize,
    pub(super) most_open: usize,
    pub(super) holds: Vec<Code>,
    pub(super) lifted: usize,
    pub(super) order: Vec<JobId>,
    pub(super) probes: usize,
    pub(super) answers: Vec<(bool, String)>,
    pub(super) caps: HashMap<String, u64>,
    pub(super) failed: HashMap<JobId, Reason>,
    pub(super) cancelled: usize,
    /// The folders whose files are looked at.
    pub(super) examine: HashMap<FolderId, Examination>,
    /// What is in files; one that is not here has bytes of its own.
    pub(super) contents: HashMap<JobId, i64>,
    /// Files that are wrong.
    pub(super) faulty: HashSet<JobId>,
    /// Files that the server has no more.
    pub(super) deleted: HashSet<FileId>,
    /// Looks at files that are slower than this link reads take so long.
    pub(super) slow_looks: HashMap<FolderId, Duration>,
    pub(super) most_looks: usize,
    pub(super) looks: usize,
    pub(super) warned: BTreeMap<JobId, Report>,
    /// Jobs that share the File of another.
    pub(super) shared: BTreeMap<JobId, JobId>,
}

pub(super) fn limits() -> Limits {
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
        accounts: HashMap::from([
            (AccountName("default".into()), "https://one".into()),
            (AccountName("other".into()), "https://two".into()),
        ]),
        examine: HashMap::new(),
    }
}

impl World {
    pub(super) fn new(rate: f64) -> World {
        World {
            board: Board::new(limits(), 42),
            now: Now { wall: Wall(1_800_000_000_000), boot: Boot(1_000_000) },
            real: Boot(77_000_000),
            server: Server::default(),
            rate,
            each: f64::INFINITY,
            parallel: Some(8),
            latency: Duration::from_millis(50),
            rows: BTreeMap::new(),
            parts: BTreeMap::new(),
            requests: BTreeSet::new(),
            grants: HashMap::new(),
            aborted: HashSet::new(),
            fault: Box::new(|_, _, _, _| None),
            moved_at: Boot(0),
            together: false,
            most_parts: 0,
            most_lane: 0,
            most_open: 0,
            holds: Vec::new(),
            lifted: 0,
            order: Vec::new(),
            probes: 0,
            answers: Vec::new(),
            caps: HashMap::new(),
            failed: HashMap::new(),
            cancelled: 0,
            examine: HashMap::new(),
            contents: HashMap::new(),
            faulty: HashSet::new(),
            deleted: HashSet::new(),
            slow_looks: HashMap::new(),
            most_looks: 0,
            looks: 0,
            warned: BTreeMap::new(),
            shared: BTreeMap::new(),
        }
    }

    pub(super) fn with_fault(
        rate: f64,
        fault: impl Fn(&Work, Option<JobId>, &AccountName, Now) -> Option<Failure> + 'static,
    ) -> World {
        World { fault: Box::new(fault), ..World::new(rate) }
    }

    pub(super) fn add(&mut self, folder: i64, bytes: u64) -> JobId {
        self.add_for(folder, bytes, "default")
    }

    pub(super) fn add_for(&mut self, folder: i64, bytes: u64, account: &str) -> JobId {
        let id = JobId(self.rows.len() as i64 + 1);
        let subject = Subject {
            folder: FolderId(folder),
            path: PathBuf::from(format!("{}", id.0)),
            fingerprint: Fingerprint { bytes, mtime_ns: 0, ctime_ns: 0, inode: id.0 as u64 },
            filename: format!("{}", id.0),
            purpose: "batch".into(),
            mime_type: "text/jsonl".into(),
            expires_after: None,
            account: AccountName(account.into()),
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
        self.rows.insert(id, job);
        id
    }

    /// Starts the service on what the rows say.
    pub(super) fn boot(&mut self) {
        let limits = Limits { examine: self.examine.clone(), parallel_parts: self.parallel, ..limits() };
        self.board = Board::new(limits, 7);
        self.parts.clear();
        self.requests.clear();
        self.grants.clear();
        self.aborted.clear();
        let folders: BTreeSet<FolderId> = self.rows.values().map(|job| job.subject.folder).collect();
        let open: Vec<Job> =
            self.rows.values().filter(|job| job.stage.session().is_some()).cloned().collect();
        self.apply(Event::Began { last: self.rows.keys().copied().max().unwrap_or(JobId(0)) });
        self.apply(Event::PartCaps(self.caps.clone()));
        self.apply(Event::Resumed(open));
        self.apply(Event::Folders(folders.into_iter().map(|folder| (folder, false)).collect()));
    }

    pub(super) fn apply(&mut self, event: Event) {
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            let mut told = if self.together { std::mem::take(&mut events) } else { Vec::new() };
            told.push(event);
            for effect in self.board.apply_all(told, self.now) {
                self.perform(effect, &mut events);
            }
            self.most_parts = self.most_parts.max(self.board.running_parts());
            self.most_lane = self.most_lane.max(self.board.running_lane());
            self.most_looks = self.most_looks.max(self.board.running(Kind::Examine));
            let open = self.board.active().filter(|job| matches!(job.stage, Stage::Sending(_))).count();
            self.most_open = self.most_open.max(open);
        }
        // In every world, after every event: no work lies there that nothing will wake.
        assert_eq!(self.board.neglected(self.now), None);
    }

    pub(super) fn perform(&mut self, effect: Effect, events: &mut Vec<Event>) {
        match effect {
            Effect::Start(grant) => {
                if let Work::Part { range, .. } = &grant.work {
                    let left = (range.end - range.start) as f64;
                    self.parts.insert(grant.id, (grant.clone(), left));
                } else {
                    self.requests.insert((self.now.boot + self.time_of(&grant.work), grant.id));
                }
                self.looks += usize::from(matches!(grant.work, Work::Examine { .. }));
                if let (Work::Create(_), Some(job)) = (&grant.work, grant.job) {
                    self.order.push(job);
                }
                self.cancelled += usize::from(matches!(grant.work, Work::Cancel(_)));
                self.probes += usize::from(grant.work == Work::Probe);
                self.grants.insert(grant.id, grant);
            }
            Effect::Abort(id) => {
                self.aborted.insert(id);
                self.parts.remove(&id);
                self.requests.retain(|(_, one)| *one != id);
                self.requests.insert((self.now.boot, id));
            }
            Effect::Write { job, from, step, awaited, .. } => {
                let row = self.rows.get_mut(&job).unwrap();
                assert_eq!(row.stage.state(), from, "job {job:?} takes {}", step.name());
                if let Step::Failed(reason) = &step {
                    self.failed.insert(job, reason.clone());
                }
                row.take(&step).unwrap();
                if let Step::Deduped { from, .. } = step {
                    self.shared.insert(job, from);
                }
                if awaited {
                    events.push(Event::Committed(job));
                }
            }
            Effect::Refill(line, count) => {
                let small = |job: &Job| job.subject.fingerprint.bytes <= plan::LANE_BYTES;
                let mut mine: Vec<&Job> = self
                    .rows
                    .values()
                    .filter(|job| {
                        job.stage == Stage::Queued
                            && job.subject.folder == line.folder
                            && small(job) == line.lane
                    })
                    .collect();
                mine.sort_by_key(|job| (!job.bumped, job.id));
                let due: Vec<Job> = mine
                    .iter()
                    .filter(|job| job.due.is_none_or(|due| due <= self.now.wall))
                    .map(|job| (*job).clone())
                    .collect();
                let next_due = mine.iter().filter_map(|job| job.due).filter(|due| *due > self.now.wall).min();
                let more = due.len() > count;
                let jobs = due.into_iter().take(count).collect();
                events.push(Event::Refilled { line, jobs, more, next_due });
            }
            Effect::Warn { job, report, .. } => {
                self.warned.insert(job, report);
            }
            Effect::Held(_, hold) => self.holds.push(hold.reason.code),
            Effect::Lifted(..) => self.lifted += 1,
            Effect::Answer { done, text, .. } => self.answers.push((done, text)),
            Effect::PartCap { server, bytes } => {
                self.caps.insert(server, bytes);
            }
            Effect::Note { .. } | Effect::LookAgain(..) | Effect::Paused { .. } => {}
        }
    }

    /// Runs until nothing is left to do, or until `limit` has passed. Tells how long it took.
    pub(super) fn run(&mut self, limit: Duration) -> Duration {
        let start = self.now.boot;
        while !self.board.is_done() && self.now.boot.since(start) < limit {
            self.one();
        }
        self.now.boot.since(start)
    }

    /// Time passes on all clocks.
    pub(super) fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        self.real = self.real + time;
    }

    /// Somebody sets the calendar.
    pub(super) fn set_calendar(&mut self, by: i64) {
        self.now.wall = Wall(self.now.wall.0 + by);
    }

    /// The machine sleeps: connections break, and timers are late.
    pub(super) fn sleep(&mut self, time: Duration) {
        self.pass(time);
        let broken: Vec<OperationId> = self.grants.keys().copied().collect();
        for id in broken {
            self.parts.remove(&id);
            self.requests.retain(|(_, one)| *one != id);
            self.grants.remove(&id);
            self.aborted.remove(&id);
            let result = Err(Failure::Transport { message: "reset".into() });
            self.apply(Event::Done(
                id,
                Outcome { result, facts: None, took: Duration::ZERO, interrupted: false },
            ));
        }
    }

    /// The machine boots again after `off`: the boot clock begins anew, and of a deadline the calendar is left.
    pub(super) fn reboot(&mut self, off: Duration) {
        let before = self.now;
        self.pass(off);
        self.now.boot = Boot(30_000);
        let now = self.now;
        for row in self.rows.values_mut() {
            let (Stage::Sending(session) | Stage::Completing(session, _)) = &mut row.stage else { continue };
            if let Deadline::At(at) = session.deadline {
                session.deadline = Deadline::At(now.boot_at(before.wall_at(at)));
            }
        }
        self.moved_at = now.boot;
        self.boot();
    }

    /// Goes on to the next thing that happens.
    pub(super) fn one(&mut self) {
        let each = self.each.min(self.rate / self.parts.len().max(1) as f64);
        let part = self
            .parts
            .iter()
            .map(|(id, (_, left))| (left / each * 1000.0, *id))
            .min_by(|a, b| a.0.total_cmp(&b.0));
        let part_at =
            part.map(|(millis, id)| (self.now.boot + Duration::from_millis(millis.ceil() as u64), id));
        let request = self.requests.first().copied();
        let wake = self.board.next_wake(self.now);
        let moved = (!self.parts.is_empty()).then_some(self.moved_at);
        let next = [part_at.map(|(at, _)| at), request.map(|(at, _)| at), wake, moved];
        let next = next.into_iter().flatten().min();
        let next = next.expect("work is left, so something must be going to happen").max(self.now.boot);
        let passed = next.since(self.now.boot);
        for (_, left) in self.parts.values_mut() {
            *left -= each * passed.as_secs_f64();
        }
        self.pass(passed);
        if moved.is_some_and(|at| at <= self.now.boot) {
            self.moved_at = self.now.boot + Duration::from_secs(5);
            let moved = self.parts.iter().map(|(id, (grant, left))| {
                let Work::Part { range, .. } = &grant.work else { unreachable!("only Parts are here") };
                (*id, (range.end - range.start) - (left.max(0.0) as u64).min(range.end - range.start))
            });
            self.apply(Event::Moved { operations: moved.collect(), reading: 0 });
        } else if let Some((at, id)) = request.filter(|(at, _)| *at == next) {
            self.requests.remove(&(at, id));
            self.end(id);
        } else if let Some((_, id)) = part_at.filter(|(at, _)| *at == next) {
            self.end(id);
        } else {
            self.apply(Event::Tick);
        }
    }

    pub(super) fn end(&mut self, id: OperationId) {
        self.parts.remove(&id);
        let grant = self.grants.remove(&id).unwrap();
        let interrupted = self.aborted.remove(&id);
        let failure = (self.fault)(&grant.work, grant.job, &grant.account, self.now);
        let lost = matches!(failure, Some(Failure::Transport { .. }));
        let mut result =
            if interrupted || (failure.is_some() && !lost) { None } else { Some(self.serve(&grant)) };
        if let Some(failure) = failure {
            result = Some(Err(failure));
        }
        let result = result.unwrap_or(Err(Failure::Transport { message: String::new() }));
        let local = matches!(grant.work, Work::Examine { .. } | Work::Hash(_) | Work::Verify { .. });
        let facts = (!local).then(|| Facts { status: 200, ..Facts::default() });
        let outcome = Outcome { result, facts, took: Duration::ZERO, interrupted };
        self.apply(Event::Done(id, outcome));
    }

    /// How long it takes, where that does not hang on the link.
    fn time_of(&self, work: &Work) -> Duration {
        match work {
            // Half a gigabyte a second.
            Work::Examine { subject, .. } => {
                let slow = self.slow_looks.get(&subject.folder).copied();
                slow.unwrap_or(Duration::from_millis(1 + subject.fingerprint.bytes / 500_000))
            }
            _ => self.latency,
        }
    }

    fn content(&self, job: JobId) -> i64 {
        self.contents.get(&job).copied().unwrap_or(-job.0)
    }

    fn serve(&mut self, grant: &Grant) -> Result<Done, Failure> {
        match (&grant.work, grant.job) {
            (Work::Examine { subject, look }, Some(job)) => Ok(self.look(job, subject, *look)),
            (Work::Confirm { same, .. }, _) if self.deleted.contains(&same.file) => Err(refused(404)),
            (Work::Confirm { same, .. }, _) => {
                let mut file = self.server.remote(&same.file).ok_or(refused(404))?;
                file.purpose = "batch".into();
                Ok(Done::Confirmed(file))
            }
            _ => self.server.serve(grant.job, &grant.work, self.real),
        }
    }

    fn look(&self, job: JobId, subject: &Subject, look: Look) -> Done {
        let mut report = Report::default();
        if look.preflight != Preflight::Off && self.faulty.contains(&job) {
            report.faults.push("line 1: it is not JSON".into());
            report.total = 1;
        }
        let same_bytes = |row: &&Job| {
            let other = &row.subject;
            row.id != job
                && !self.shared.contains_key(&row.id)
                && other.fingerprint.bytes == subject.fingerprint.bytes
                && (&other.filename, &other.account) == (&subject.filename, &subject.account)
                && self.content(row.id) == self.content(job)
        };
        let same = self.rows.values().rev().filter(same_bytes).filter_map(|row| match &row.stage {
            Stage::Stored(file) if look.dedupe && !look.rejects(&report) => Some(Same {
                job: row.id,
                file: file.clone(),
                stored_at: self.now.wall,
                sent: Vec::new(),
                md5: None,
            }),
            _ => None,
        });
        let same = same.collect();
        Done::Examined { report, same }
    }

    pub(super) fn states(&self) -> BTreeMap<State, usize> {
        let mut states = BTreeMap::new();
        for row in self.rows.values() {
            *states.entry(row.stage.state()).or_default() += 1;
        }
        states
    }

    pub(super) fn assert_all_stored(&self) {
        assert_eq!(self.states(), BTreeMap::from([(State::Stored, self.rows.len())]));
        self.assert_ledger_is_the_truth();
        let mine = self.server.files.iter().filter(|file| file.job.is_some()).count();
        assert_eq!(
            mine,
            self.rows.len() - self.shared.len(),
            "one File for each file that does not share one"
        );
    }

    /// Each row names its own File, no file has two, and no Part was sent to an Upload that had ended.
    pub(super) fn assert_ledger_is_the_truth(&self) {
        let mut owners = HashSet::new();
        for file in self.server.files.iter().filter(|file| file.job.is_some()) {
            assert!(owners.insert(file.job), "two Files of {:?}", file.job);
        }
        for row in self.rows.values() {
            if let Stage::Stored(id) = &row.stage {
                let file = self.server.files.iter().find(|file| file.id == *id).unwrap();
                let owner = self.shared.get(&row.id).copied().unwrap_or(row.id);
                assert_eq!(file.job, Some(owner), "{id} is another's");
                assert_eq!(self.content(owner), self.content(row.id), "{id} has other bytes");
            }
        }
        assert_eq!(self.server.abuses, [] as [String; 0]);
    }
}
