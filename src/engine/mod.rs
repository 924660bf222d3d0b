//! The room that does: the loop that hands events to the board and performs its effects.
//!
//! - this file: the loop, the only one that starts operations;
//! - `operations`: performs one granted operation and returns its outcome;
//! - `abreast`: keeps what is sent of a file near to what is hashed of it;
//! - `examine`: looks at a file before it is sent: is it right, and was it sent before?
//! - `search`: looks for the File that an Upload may have become;
//! - `intake`: files that were seen become jobs: settle, known or not, enqueue;
//! - `finish`: what is done after a job has ended: its source moved or deleted, its receipt, a program;
//! - `requests`: what commands ask for, from rows to events; `asks`: from files of those who may not write rows, to rows; `rounds`: when
//!   it is looked for them;
//! - `journal`: one line of the log for each thing that happened to a job;
//! - `live`: what is true only now, for `status`; `rates`: how fast it goes; `metrics`: what was counted since the start;
//! - `why`: why a file is not uploaded, from all that is known of it;
//! - `vitals`: what everything that may hang waits for, for the watchdog;
//! - `errands`: short tasks whose end somebody waits for.

mod abreast;
pub mod asks;
mod errands;
mod examine;
pub mod finish;
pub mod intake;
mod journal;
pub mod live;
pub mod metrics;
mod near;
pub mod operations;
mod rates;
pub mod requests;
mod rounds;
mod search;
pub mod vitals;
pub mod why;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::finish::Finish;
use self::intake::Hints;
use self::journal::Folders;
use self::live::Live;
use self::operations::Operations;
use self::rates::Rates;
use self::rounds::Rounds;
use self::vitals::Whereabouts;
use crate::clock::Clock;
use crate::model::board::{Board, Context, Effect, Event, Line, Scope};
use crate::model::job::{Code, FolderId, JobId, Reason, Stage, State, Step, Subject};
use crate::model::time::{Boot, Wall};
use crate::model::watchdog::{Await, LONGEST_REST};
use crate::model::why::Wait;
use crate::store::{Health, HistoryRow, Store, Write, WriteError, Writer};
use crate::text::shown_bytes;

/// The longest time without a look at the clock: a machine that slept wakes with all its timers late.
const LONGEST_SLEEP: Duration = LONGEST_REST;

/// How often requests of commands are looked for. They are promised to be taken up within a second.
const REQUESTS_EVERY: Duration = Duration::from_millis(500);

/// How often the board is told how far Parts got: it counts them in steps of ten seconds.
const MOVED_EVERY: Duration = Duration::from_secs(5);

/// How long operations that were told to end are waited for.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Messages that wait for the engine at most; who sends more waits.
pub const MESSAGES: usize = 1024;

/// Messages that are taken at once at most, when more of them came than one: the commit of a group ends as many steps.
const TOGETHER: usize = 64;

/// What the watchdog calls the engine.
pub const ENGINE: &str = "the engine";

/// What is said to the engine.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly every message is an event")]
pub enum Message {
    /// Something happened.
    Event(Event),
    /// What is true now?
    Inspect(oneshot::Sender<Live>),
    /// What does a job wait for?
    Wait {
        /// Which.
        job: JobId,
        /// Its file.
        subject: Box<Subject>,
        /// Until when, as its row has it.
        due: Option<Wall>,
        /// Whom to tell.
        answer: oneshot::Sender<Wait>,
    },
    /// A short task of ours panicked, and what somebody waits for will not come.
    Broken(&'static str),
}

/// Why the engine ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It was told to.
    Stopped,
    /// Nothing is left to do, and it was started for what was there.
    Done,
    /// It was started for what was there, and cannot go on without a person: a hold, or a paused folder.
    Waiting,
    /// A task of this name panicked, and what it was to bring will not come.
    Broken(&'static str),
}

/// What the engine is made of.
#[derive(Debug)]
pub struct Parts {
    /// The decisions.
    pub board: Board,
    /// What the board has to know before anything else is said, such as which folders are paused: a `resume` that was
    /// asked before the start would find none.
    pub first: Vec<Event>,
    /// The time.
    pub clock: Clock,
    /// For reading.
    pub store: Store,
    /// For writing.
    pub writer: Writer,
    /// For all that takes time.
    pub operations: Arc<Operations>,
    /// The folders by their rows, with their names, for the logs.
    pub folders: HashMap<FolderId, String>,
    /// Where a file is to be looked at again.
    pub hints: Hints,
    /// What is done after the end of jobs.
    pub finish: Finish,
    /// Whether all that was left in the spool is a row by now; told as well when something has become one.
    pub asked: Idle,
    /// Whether to end when nothing is left to do; then this is told of each job that ended.
    pub once: Option<mpsc::UnboundedSender<JobId>>,
}

/// See the module.
#[derive(Debug)]
pub struct Engine {
    parts: Parts,
    messages: mpsc::Receiver<Message>,
    sender: mpsc::Sender<Message>,
    folders: Folders,
    rates: Rates,
    /// The last request that was taken up in this run.
    last_request: i64,
    /// The last look found no request that waits.
    nothing_asked: bool,
    /// A wait for the writer that took too long: nothing is taken up before it ends.
    flushing: Option<JoinHandle<()>>,
    /// A look at the whole store, since a read said that it is damaged.
    judging: Option<JoinHandle<()>>,
    /// Why the store is down, with the tries that failed and the time of the next one.
    outage: Option<(Reason, u32, Boot)>,
    damaged: bool,
    stopping: Option<Boot>,
    aborted: bool,
    here: Whereabouts,
}

impl Engine {
    /// An engine that hears on `messages`, whose other end is `sender`.
    pub fn new(parts: Parts, messages: mpsc::Receiver<Message>, sender: mpsc::Sender<Message>) -> Engine {
        let folders = Folders::new(&parts.folders, &parts.operations);
        let here = parts.operations.vitals().enter(ENGINE);
        Engine {
            parts,
            messages,
            sender,
            folders,
            rates: Rates::default(),
            last_request: 0,
            nothing_asked: false,
            flushing: None,
            judging: None,
            outage: None,
            damaged: false,
            stopping: None,
            aborted: false,
            here,
        }
    }

    /// Works until `stop`, and then until Parts in flight have ended, `drain` at most.
    pub async fn run(mut self, stop: CancellationToken, drain: Duration) -> End {
        let mut health = self.parts.writer.health();
        let state_dir = self.parts.store.path().parent().unwrap_or_else(|| Path::new("."));
        let mut rounds = Rounds::around(state_dir, REQUESTS_EVERY);
        let first = std::mem::take(&mut self.parts.first);
        self.apply(first);
        let mut moved = tokio::time::interval(MOVED_EVERY);
        moved.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut messages, mut intake, finish) =
            (Vec::new(), self.parts.hints.idle_changes(), self.parts.finish.clone());
        loop {
            let now = self.parts.clock.now();
            if let Some(since) = self.stopping {
                // What is not written by now never will be.
                let in_vain = self.damaged && self.parts.board.is_quiet();
                if in_vain || self.parts.board.is_drained(now) || now.boot.since(since) >= drain + LAST_WORDS
                {
                    return End::Stopped;
                }
                if now.boot.since(since) >= drain && !self.aborted {
                    self.aborted = true;
                    let effects = self.parts.board.abort_all();
                    self.perform(effects);
                }
            } else if let Some(end) = self.end_of_once() {
                return end;
            }
            let wake = self.parts.board.next_wake(now).map_or(LONGEST_SLEEP, |at| at.since(now.boot));
            let wake = match self.stopping {
                Some(since) if self.aborted => (since + drain + LAST_WORDS).since(now.boot),
                Some(since) => (since + drain).since(now.boot).min(wake),
                None => wake.min(LONGEST_SLEEP),
            };
            let may_rest = self.may_rest();
            self.here.at(Await::Message);
            self.here.got_on();
            tokio::select! {
                1.. = self.messages.recv_many(&mut messages, TOGETHER) => {
                    // Whoever can run now may have something as well, and the board's look at all that is under way is for all of them.
                    self.here.at(Await::Board);
                    tokio::task::yield_now().await;
                    while messages.len() < TOGETHER
                        && let Ok(more) = self.messages.try_recv()
                    {
                        messages.push(more);
                    }
                    if let Some(end) = self.hear(messages.drain(..)) {
                        return end;
                    }
                },
                () = stop.cancelled(), if self.stopping.is_none() => {
                    self.stopping = Some(now.boot);
                    self.apply([Event::Stopping]);
                }
                Ok(()) = health.changed() => {
                    let health = health.borrow_and_update().clone();
                    self.hear_health(&health);
                }
                () = rounds.next(may_rest), if self.stopping.is_none() => {
                    self.show_neglected();
                    self.look_at_rates();
                    self.take_requests().await;
                }
                // Else they wait for the tick with the others.
                Ok(()) = self.parts.asked.changed(), if self.stopping.is_none() && self.nothing_asked => {
                    self.take_requests().await;
                }
                // A run for what was there may be over.
                Ok(()) = intake.changed(), if self.parts.once.is_some() => {}
                () = finish.became_idle(), if self.parts.once.is_some() => {}
                _ = moved.tick(), if self.parts.board.slots().0 > 0 => {
                    let operations = self.parts.operations.moved();
                    let reading = self.parts.operations.vitals().waiting_for(Await::Reading);
                    self.apply([Event::Moved { operations, reading }]);
                }
                // A millisecond more than none: the clock's own grain.
                () = tokio::time::sleep(wake.max(Duration::from_millis(1))) => self.apply([Event::Tick]),
            }
        }
    }

    #[must_use]
    fn hear(&mut self, messages: impl Iterator<Item = Message>) -> Option<End> {
        let mut events = Vec::new();
        for message in messages {
            match message {
                Message::Event(event) => events.push(event),
                Message::Broken(name) => {
                    self.apply(events);
                    return Some(End::Broken(name));
                }
                // Who asks sees what came before.
                Message::Wait { job, subject, due, answer } => {
                    self.apply(events.drain(..));
                    let wait = self.parts.board.wait_of(job, &subject, due, self.parts.clock.now());
                    // Who asked may have gone.
                    let _ = answer.send(wait);
                }
                Message::Inspect(answer) => {
                    self.apply(events.drain(..));
                    // Who asked may have gone.
                    let _ = answer.send(self.live());
                }
            }
        }
        self.apply(events);
        None
    }

    /// Whether requests are all there is to look for.
    fn may_rest(&self) -> bool {
        let is_up = *self.parts.writer.health().borrow() == Health::Up;
        self.nothing_asked && is_up && !self.waits_for_store() && self.parts.board.slots().0 == 0
    }

    fn show_neglected(&self) {
        let neglected = self.parts.board.neglected(self.parts.clock.now());
        self.parts.operations.vitals().set_neglected(neglected);
    }

    fn hear_health(&mut self, health: &Health) {
        let now = self.parts.clock.now().boot;
        let reason = match health {
            Health::Up => {
                self.outage = None;
                return self.apply([Event::Store(Ok(()))]);
            }
            Health::Down { code, message, tries, again } => {
                let reason = Reason::local(*code, message.clone());
                self.outage = Some((reason.clone(), *tries, now + *again));
                reason
            }
            Health::Damaged { message } => {
                let reason = Reason::local(Code::StoreCorrupt, message.clone());
                self.damaged = true;
                self.outage = Some((reason.clone(), self.parts.writer.failed_tries(), now));
                reason
            }
        };
        self.apply([Event::Store(Err(reason))]);
    }

    fn apply(&mut self, events: impl IntoIterator<Item = Event>) {
        self.here.at(Await::Board);
        let effects = self.parts.board.apply_all(events, self.parts.clock.now());
        self.perform(effects);
    }

    fn perform(&mut self, effects: Vec<Effect>) {
        let mut again = Vec::new();
        for effect in effects {
            match effect {
                Effect::Start(grant) => self.parts.operations.start(grant, self.sender.clone()),
                Effect::Abort(id) => self.parts.operations.abort(id),
                Effect::Write { job, subject, from, to, step, context, awaited } => {
                    self.folders.step(job, &subject, &step, &context);
                    if matches!(step, Step::Requeued) {
                        self.parts.finish.requeued(subject.folder, subject.path.clone());
                    }
                    let ends = to != from && to.has_ended();
                    let folder = self.parts.folders.get(&subject.folder).map_or("", String::as_str);
                    let (bytes, ended) = (subject.fingerprint.bytes, ends.then_some(to));
                    self.parts.operations.metrics().step(folder, bytes, &step, &context, ended);
                    let finish = ends && self.parts.finish.announce(subject.folder, to);
                    let write = Write::Step {
                        job,
                        from,
                        now: self.parts.clock.now(),
                        context: Box::new(kept(&context, &step, finish)),
                        step: Box::new(step),
                    };
                    self.write(job, to, write, awaited, finish);
                }
                Effect::Note { job, context } => {
                    let at = self.parts.clock.now().wall;
                    self.parts.writer.send(Write::History(Box::new(noted(job, at, &context))));
                }
                Effect::Warn { job, subject, report } => {
                    self.folders.warning(job, &subject, &report);
                    self.parts.writer.send(Write::Warnings { job, warnings: report.warnings() });
                }
                Effect::Refill(line, count) => self.refill(line, count),
                Effect::LookAgain(folder, path) => again.push((folder, path)),
                Effect::Paused { folder, paused } => {
                    let why = paused.then(|| "by the operator".to_owned());
                    self.parts.writer.send(Write::Pause { folder, why });
                }
                Effect::PartCap { server, bytes } => {
                    info!(
                        event = "part-cap",
                        bytes, "Parts of at most {bytes} bytes from now on for the server {server}"
                    );
                    self.parts.writer.send(Write::PartCap { server, bytes, at: self.parts.clock.now().wall });
                }
                Effect::Answer { request, done, text } => self.answer(request, done, text),
                Effect::Held(scope, hold) => {
                    let code = hold.reason.code;
                    self.parts.operations.metrics().held(&scope, code);
                    let account = match &scope {
                        Scope::Account(account) => Some(account.0.as_str()),
                        Scope::Server(_) | Scope::Store => None,
                    };
                    warn!(
                        event = "hold",
                        scope = scope.to_string(),
                        account,
                        code = code.as_str(),
                        status = hold.reason.status,
                        request_id = hold.reason.request_id.as_deref(),
                        "sending stopped for the {scope}: {}; {}",
                        shown_bytes(hold.reason.message.as_bytes()),
                        code.remedy(),
                    );
                }
                Effect::Lifted(scope, hold, lasted) => {
                    let tries = match scope {
                        // The writer tries, not the board.
                        Scope::Store => self.parts.writer.failed_tries(),
                        _ => hold.probes,
                    };
                    let account = match &scope {
                        Scope::Account(account) => Some(account.0.as_str()),
                        Scope::Server(_) | Scope::Store => None,
                    };
                    info!(
                        event = "resumed",
                        scope = scope.to_string(),
                        account,
                        attempt = tries,
                        code = hold.reason.code.as_str(),
                        duration_ms = u64::try_from(lasted.as_millis()).unwrap_or(u64::MAX),
                        "sending goes on for the {scope} after {tries} tries that failed",
                    );
                }
            }
        }
        for (folder, path) in again {
            // Behind the step that makes room for what lies there now.
            let written = self.parts.writer.ask(Write::Flush);
            self.parts.hints.look_again(folder, path, written);
        }
    }

    /// Hands a step to the writer and hears what came of it.
    fn write(&self, job: JobId, to: State, write: Write, awaited: bool, finish: bool) {
        let done = self.parts.writer.ask(write);
        let ended = self.parts.once.clone().filter(|_| to.has_ended());
        let (engine, store, clock) =
            (self.sender.clone(), self.parts.store.clone(), self.parts.clock.clone());
        let writer = self.parts.writer.clone();
        let finish = finish.then(|| self.parts.finish.clone());
        errands::spawn("writing of a step", engine.clone(), async move {
            let done = done.await;
            if let Some(finish) = finish {
                finish.committed();
            }
            match done {
                Ok(_) if awaited => {
                    let _ = engine.send(Message::Event(Event::Committed(job))).await;
                }
                Ok(_) => {
                    if let Some(ended) = ended {
                        let _ = ended.send(job);
                    }
                }
                // The writer ended because the service does.
                Err(WriteError::Closed) => {}
                // The writer has logged it. The row is right, whoever wrote it: the board starts from it again.
                Err(fault) => {
                    let _ = engine.send(Message::Event(Event::Dropped(job))).await;
                    let row = writer.read("reading a job", || store.job(job, clock.now())).await;
                    if let Some(Some(row)) = row {
                        let taken = matches!(fault, WriteError::FileTaken { .. });
                        let event = match row.stage {
                            Stage::Completing(..) if taken => Event::Contested(row),
                            Stage::Queued => Event::Enqueued(row),
                            Stage::Sending(_) | Stage::Completing(..) => Event::Resumed(vec![row]),
                            _ => return,
                        };
                        let _ = engine.send(Message::Event(event)).await;
                    }
                }
            }
        });
    }

    /// Loads the beginning of a line, behind all that was written so far.
    fn refill(&self, line: Line, count: usize) {
        let (store, writer, clock) =
            (self.parts.store.clone(), self.parts.writer.clone(), self.parts.clock.clone());
        let engine = self.sender.clone();
        let here = self.parts.operations.vitals().enter("loading the queue");
        errands::spawn("loading of the queue", engine.clone(), async move {
            here.at(Await::Commit);
            // What was written before must be seen, else a job that ended would come up again.
            if writer.flush().await.is_err() {
                return;
            }
            here.at(Await::Store);
            let window = || store.window(line.folder, line.lane, count, clock.now().wall);
            let place = format!("reading the queue of folder {}", line.folder.0);
            let Some(window) = writer.read(&place, window).await else { return };
            let (more, next_due) = (window.more, window.next_due);
            here.at(Await::Engine);
            let event = Event::Refilled { line, jobs: window.jobs, more, next_due };
            let _ = engine.send(Message::Event(event)).await;
        });
    }

    /// Whether a run for what was there is over.
    fn end_of_once(&self) -> Option<End> {
        self.parts.once.as_ref()?;
        let stuck = self.parts.hints.is_stuck();
        let idle = self.parts.finish.is_idle() && (self.parts.hints.is_idle() || stuck);
        if !idle || !self.messages.is_empty() {
            return None;
        }
        // What was asked before the start may be to go on with what is paused.
        if !self.nothing_asked {
            return None;
        }
        let board = &self.parts.board;
        let paused = self.parts.folders.keys().any(|folder| board.is_paused(*folder));
        let needs_person = board.holds().any(|(_, hold)| needs_person(hold.reason.code));
        if board.is_done() {
            Some(if paused || stuck { End::Waiting } else { End::Done })
        } else if needs_person && board.is_quiet() {
            Some(End::Waiting)
        } else {
            None
        }
    }
}

/// Whether a hold for this reason ends only when somebody does something.
fn needs_person(code: Code) -> bool {
    matches!(code, Code::KeyRejected | Code::Forbidden | Code::QuotaExhausted | Code::BadAnswer)
}

/// What the history keeps of a step's circumstances.
fn kept(context: &Context, step: &Step, finish: bool) -> crate::store::Context {
    let part = match step {
        Step::PartStored { index, .. } => u32::try_from(*index).ok(),
        _ => None,
    };
    crate::store::Context {
        operation: context.operation,
        facts: context.facts.clone(),
        duration_ms: context.operation.map(|_| u64::try_from(context.took.as_millis()).unwrap_or(u64::MAX)),
        bytes: context.bytes,
        part,
        finish,
    }
}

/// A request that changed no stage.
fn noted(job: JobId, at: Wall, context: &Context) -> HistoryRow {
    let facts = context.facts.as_ref();
    HistoryRow {
        operation: context.operation.map(|operation| operation.name().to_owned()),
        status: facts.map(|facts| facts.status),
        request_id: facts.and_then(|facts| facts.request_id.clone()),
        duration_ms: u64::try_from(context.took.as_millis()).ok(),
        ..HistoryRow::event(job, at, "upload-opened")
    }
}

/// A value that is true when nothing is on its way into the queue.
pub(crate) type Idle = watch::Receiver<bool>;
