//! `wait`: returns when files, or all that is there, have ended, with what was to be done after that.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use tokio::time::sleep;

use super::asking::{about_folder, ask_patiently};
use super::failure::{FAILED, Failure, TRY_LATER, say};
use super::output::Output;
use super::target::{self, Target};
use super::why::{explain, goes_on};
use super::{Common, at};
use crate::clock::Clock;
use crate::engine::requests::kind;
use crate::model::job::{JobId, State};
use crate::model::time::{Boot, Wall};
use crate::record::JobJson;
use crate::status;
use crate::store::{Filter, FinishState, Lock, Record, Store};
use crate::text::{shown, shown_bytes};

/// Between two looks, doubling up to the second.
const POLL: [Duration; 2] = [Duration::from_millis(50), Duration::from_millis(500)];

/// How long a service is waited for that does not run, where no timeout was said: it may be about to start.
const NO_SERVICE: Duration = Duration::from_secs(10);

/// What `wait` takes.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Of a path the version is waited for that lies there now, with its move, receipt and hook. One that no folder takes is told of at
once. Without arguments: until a scan of all folders, begun now, is over, nothing is changing, and every job has ended.

Prints a line for each in the order asked: FILE_ID<TAB>PATH, or the state and code in place of the File ID. Exits with 0 if all
are stored, with 1 if one is not, with 75 if the time is over.

Examples:
  cp report.pdf /srv/drop/reports/ && upspool wait /srv/drop/reports/report.pdf
  upspool wait --timeout 10m && echo everything has ended")]
pub struct Arguments {
    /// Job numbers, or paths of files
    #[arg(value_name = "JOB|PATH")]
    jobs: Vec<OsString>,
    /// Not longer than this: 30s, 10m
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    timeout: Option<Duration>,
    /// One JSON object for each, as `list --json` has it
    #[arg(long)]
    json: bool,
}

/// What became of one that was waited for.
enum Ended {
    Job(Box<Record>),
    /// It never will be one by itself, and this is why.
    Not(String),
}

pub(super) async fn run(common: &Common, arguments: &Arguments) -> Result<u8, Failure> {
    let end = arguments.timeout.map(|limit| Clock::System.now().boot + limit);
    let waiter = Waiter { common, state_dir: at::state_dir(common)?, end };
    if arguments.jobs.is_empty() {
        return waiter.all().await;
    }
    let mut output = Output::new();
    let mut code = 0;
    for argument in &arguments.jobs {
        let Some(ended) = waiter.one(argument).await? else {
            output.flush()?;
            say(format!("{}: the time is over", shown(Path::new(argument))));
            return Ok(TRY_LATER);
        };
        match ended {
            Ended::Job(record) => {
                let stored = record.state == State::Stored;
                code = if stored { code } else { FAILED };
                if arguments.json {
                    output.json(&JobJson::new(&record, Clock::System.now().wall))?;
                } else {
                    output.line(format_args!("{}", line(&record)))?;
                }
            }
            Ended::Not(why) => {
                say(why);
                code = FAILED;
            }
        }
        output.flush()?;
    }
    Ok(code)
}

/// As `run --once` prints it.
fn line(record: &Record) -> String {
    let path = shown(&record.folder_path.join(&record.relative_path));
    let code = record.error.as_ref().map(|error| shown_bytes(error.code.as_bytes()));
    match (&record.file_id, code) {
        (Some(file), _) => format!("{}\t{path}", shown_bytes(file.0.as_bytes())),
        (None, Some(code)) => format!("{} {code}\t{path}", record.state),
        (None, None) => format!("{}\t{path}", record.state),
    }
}

struct Waiter<'a> {
    common: &'a Common,
    state_dir: PathBuf,
    end: Option<Boot>,
}

impl Waiter<'_> {
    /// The end of what an argument means; nothing if the time is over.
    async fn one(&self, argument: &OsString) -> Result<Option<Ended>, Failure> {
        match Target::of(argument) {
            Target::Path(path) => self.path(&path).await,
            target => {
                let store = at::store(&self.state_dir).await?;
                let records = match target.find(&store).await {
                    Ok(records) => records,
                    Err(Failure::Said(why)) => return Ok(Some(Ended::Not(why))),
                    Err(other) => return Err(other),
                };
                let Some(job) = records.first().map(|record| record.id) else { return Ok(None) };
                self.job(&store, job).await
            }
        }
    }

    async fn job(&self, store: &Store, job: JobId) -> Result<Option<Ended>, Failure> {
        let mut poll = Poll::new(self.end);
        loop {
            match store.record(job).await? {
                None => return Ok(Some(Ended::Not(format!("there is no job {} any more", job.0)))),
                Some(record) if has_ended(&record) => return Ok(Some(Ended::Job(Box::new(record)))),
                Some(_) => {}
            }
            if !poll.again(self.is_running().await).await {
                return Ok(None);
            }
        }
    }

    async fn path(&self, path: &Path) -> Result<Option<Ended>, Failure> {
        let absolute =
            std::path::absolute(path).map_err(|error| Failure::said(format!("{}: {error}", shown(path))))?;
        let absolute = target::plain(&absolute);
        let mut poll = Poll::new(self.end);
        loop {
            let why = explain(self.common, &self.state_dir, &absolute, &mut |_| {}).await?;
            let is_of_version = why.job.filter(|_| {
                let ends = ["stored", "failed", "unresolved", "skipped", "cancelled", "gone"];
                ends.contains(&why.answer.as_str())
            });
            if let Some(job) = is_of_version {
                let store = at::store(&self.state_dir).await?;
                if let Some(record) = store.record(JobId(job)).await?.filter(has_ended) {
                    return Ok(Some(Ended::Job(Box::new(record))));
                }
            } else if !goes_on(&why)
                && !["no-service", "paused", "folder-missing", "unknown"].contains(&why.answer.as_str())
                // A service that begins, or reads its configuration again, will say so itself in a moment.
                && (why.source == "service" || Lock::holder(&self.state_dir).is_none())
            {
                return Ok(Some(Ended::Not(format!("{}: {}", why.path, why.message))));
            }
            if !poll.again(why.source == "service").await {
                return Ok(None);
            }
        }
    }

    /// Until a scan that begins now is over, and everything that it found has ended.
    async fn all(&self) -> Result<u8, Failure> {
        let began = Clock::System.now().wall;
        let store = at::store(&self.state_dir).await?;
        let patience = self.end.map_or(Duration::MAX / 4, |end| end.since(Clock::System.now().boot));
        let answers =
            ask_patiently(&self.state_dir, &store, &[about_folder(kind::SCAN, None)], patience).await?;
        match answers.answers.first() {
            Some(Some(Ok(_))) => {}
            Some(Some(Err(why))) => return Err(Failure::said(why.clone())),
            _ if answers.running => {
                say("the time is over");
                return Ok(TRY_LATER);
            }
            _ => {
                say(format!("no service runs in {}", shown(&self.state_dir)));
                return Ok(TRY_LATER);
            }
        }
        let mut poll = Poll::new(self.end);
        loop {
            let live = status::ask(&self.state_dir).await.ok();
            let idle = live.as_ref().is_some_and(|live| live.idle && live.changing_count == 0);
            if idle && is_done(&store).await? {
                return Ok(if did_one_fail(&store, began).await? { FAILED } else { 0 });
            }
            if !poll.again(live.is_some()).await {
                say("the time is over");
                return Ok(TRY_LATER);
            }
        }
    }

    async fn is_running(&self) -> bool {
        status::ask(&self.state_dir).await.is_ok()
    }
}

fn has_ended(record: &Record) -> bool {
    record.state.has_ended() && record.finish != FinishState::Pending && record.requested.is_none()
}

/// Whether no job is left that goes on.
async fn is_done(store: &Store) -> Result<bool, Failure> {
    let open: u64 =
        store.counts().await?.iter().filter(|count| !count.state.has_ended()).map(|count| count.jobs).sum();
    let (unfinished, _) = store.unfinished_later(Wall(0)).await?;
    Ok(open == 0 && !unfinished)
}

/// Whether a job failed, or cannot be told of, since then.
async fn did_one_fail(store: &Store, since: Wall) -> Result<bool, Failure> {
    let states = vec![State::Failed, State::Unresolved];
    let mut filter = Filter { states, limit: 500, ..Filter::default() };
    loop {
        let page = store.list(&filter).await?;
        if page.iter().any(|record| record.ended_at.is_some_and(|ended| ended >= since)) {
            return Ok(true);
        }
        match page.last() {
            Some(last) if page.len() == filter.limit => filter.before = Some((last.found_at, last.id)),
            _ => return Ok(false),
        }
    }
}

/// When to look again.
struct Poll {
    end: Option<Boot>,
    pause: Duration,
    /// Since when no service runs.
    alone: Option<Boot>,
}

impl Poll {
    fn new(end: Option<Boot>) -> Poll {
        Poll { end, pause: POLL[0], alone: None }
    }

    /// Waits a moment; false if the time is over, or nobody works on it.
    async fn again(&mut self, running: bool) -> bool {
        let now = Clock::System.now().boot;
        self.alone = if running { None } else { self.alone.or(Some(now)) };
        let alone_for_long = self.alone.is_some_and(|since| now.since(since) >= NO_SERVICE);
        if self.end.is_some_and(|end| now >= end) || (self.end.is_none() && alone_for_long) {
            return false;
        }
        let left = self.end.map_or(self.pause, |end| end.since(now));
        sleep(self.pause.min(left)).await;
        self.pause = (self.pause * 2).min(POLL[1]);
        true
    }
}
