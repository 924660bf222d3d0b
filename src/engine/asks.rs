//! What those ask who may not write the store: files of the spool become rows, and then they are requests like any other.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tracing::{info, warn};

use super::Idle;
use super::rounds::Rounds;
use super::vitals::{Vitals, Whereabouts};
use crate::clock::Clock;
use crate::model::job::JobId;
use crate::model::watchdog::Await;
use crate::store::{Health, Look, Refused, SPOOL, Spool, Spooled, Store, Write, WriteError, Writer};
use crate::text::{count, shorten, shown, shown_bytes};

/// How often it is looked at most. What is asked is promised to be taken up within a second.
const EVERY: Duration = Duration::from_millis(250);

/// Requests that wait in the store while no more are taken from the spool: what a person asks who may write the store is
/// not kept waiting for long behind what others pile up.
const WAITING: usize = 256;

/// Of what is no ask so many are named at each look; the rest is counted.
const NAMED: usize = 8;

/// Names remembered of what stays although it is no ask.
const REMEMBERED: usize = 1000;

/// Columns of a kind in the log: a file may say anything.
const KIND: usize = 40;

/// Takes asks out of the spool for as long as the service lives.
#[derive(Debug)]
pub struct Asks {
    spool: Option<Spool>,
    store: Store,
    writer: Writer,
    clock: Clock,
    idle: watch::Sender<bool>,
    here: Whereabouts,
    /// What was told of and stays.
    told: HashSet<String>,
    failing: bool,
}

impl Asks {
    /// With the spool of this state directory, which is made if it is not there. Also a value that is true when nothing lies
    /// there that has not become a row.
    pub fn new(
        state_dir: &Path,
        store: Store,
        writer: Writer,
        clock: Clock,
        vitals: &Arc<Vitals>,
    ) -> (Asks, Idle) {
        let (idle, seen) = watch::channel(false);
        let here = vitals.enter("asks of the group");
        let spool = Spool::open(state_dir).inspect_err(|fault| {
            let path = shown(&state_dir.join(SPOOL));
            warn!(
                event = "asks-unreadable",
                "{path} cannot be used: {fault}; until a restart only this user and root can ask, others only look"
            );
        });
        let asks = Asks {
            spool: spool.ok(),
            store,
            writer,
            clock,
            idle,
            here,
            told: HashSet::new(),
            failing: false,
        };
        (asks, seen)
    }

    /// Until the service ends. Without a spool nobody can leave anything.
    pub async fn run(mut self) {
        let Some(mut spool) = self.spool.take() else {
            self.set_idle(true);
            drop(self);
            return std::future::pending().await;
        };
        let (mut rounds, mut rests) =
            (Rounds::around(&self.store.path().with_file_name(SPOOL), EVERY), false);
        loop {
            self.here.at(Await::Message);
            self.here.got_on();
            rounds.next(rests).await;
            rests = false;
            self.here.at(Await::Store);
            // First, since there is hardly ever anything: the store is not asked four times a second for nothing.
            let Some((empty, same)) = blocking(move || (spool.is_empty(), spool)).await else { return };
            spool = same;
            match empty {
                Ok(true) => {
                    self.failing = false;
                    self.set_idle(true);
                    rests = true;
                }
                Ok(false) if self.has_room().await => {
                    let Some(same) = self.look(spool).await else { return };
                    spool = same;
                }
                Ok(false) => {}
                Err(fault) => self.failed(&fault),
            }
        }
    }

    /// Takes what lies there. Nothing if the service ends.
    async fn look(&mut self, mut spool: Spool) -> Option<Spool> {
        let now = self.clock.now().wall;
        let (look, spool) = blocking(move || (spool.look(now), spool)).await?;
        match look {
            Ok(look) => {
                self.failing = false;
                self.take(look, spool).await
            }
            Err(fault) => {
                self.failed(&fault);
                Some(spool)
            }
        }
    }

    /// Whether more can be taken now.
    async fn has_room(&self) -> bool {
        if *self.writer.health().borrow() != Health::Up {
            return false;
        }
        // That it cannot be read is found out and told by those who wait for it.
        self.store.pending_requests(0).await.is_ok_and(|waiting| waiting.len() < WAITING)
    }

    /// Makes rows of what was found, and takes the files away that are rows by now. Nothing if the service ends.
    async fn take(&mut self, look: Look, spool: Spool) -> Option<Spool> {
        let more = look.more;
        self.tell_refused(look.refused);
        if look.asks.is_empty() {
            self.set_idle(!more);
            return Some(spool);
        }
        self.here.at(Await::Commit);
        let writes: Vec<_> =
            look.asks.iter().map(|ask| self.writer.ask(Write::Spooled(Box::new(ask.clone())))).collect();
        for written in futures_util::future::join_all(writes).await {
            // What the store refused would be refused again; the writer has said why.
            if written == Err(WriteError::Closed) {
                return None;
            }
        }
        // Whoever asks waits for the engine.
        self.idle.send_replace(false);
        self.here.at(Await::Store);
        let tokens: Vec<String> = look.asks.iter().map(|ask| ask.token.clone()).collect();
        let (spool, stays) = blocking(move || {
            let removed = tokens.into_iter().map(|token| (spool.remove(&token), token));
            let stays = removed.filter_map(|(removed, token)| Some((token, removed.err()?)));
            let stays: Vec<_> = stays.collect();
            (spool, stays)
        })
        .await?;
        let stays: Vec<_> = stays
            .into_iter()
            .map(|(name, fault)| Refused {
                name,
                why: format!("it cannot be taken away: {fault}"),
                stays: true,
            })
            .collect();
        // What was taken before, and stays, is nothing new.
        let known: HashSet<&String> =
            stays.iter().map(|one| &one.name).filter(|one| self.told.contains(*one)).collect();
        tell(look.asks.iter().filter(|ask| !known.contains(&ask.token)));
        if known.len() == look.asks.len() {
            self.set_idle(!more);
        }
        self.tell_refused(stays);
        Some(spool)
    }

    fn set_idle(&self, idle: bool) {
        self.idle.send_if_modified(|was| std::mem::replace(was, idle) != idle);
    }

    /// Once of each, and not at any length.
    fn tell_refused(&mut self, refused: Vec<Refused>) {
        let mut told = 0;
        for Refused { name, why, stays } in refused {
            if stays && (self.told.len() >= REMEMBERED || !self.told.insert(name.clone())) {
                continue;
            }
            told += 1;
            if told <= NAMED {
                let done = if stays { "left where it is" } else { "taken away" };
                warn!(event = "ask-refused", "{SPOOL}/{name} is not taken: {why}; {done}");
            }
        }
        if told > NAMED {
            let more = count((told - NAMED) as u64, "more file", "more files");
            warn!(event = "ask-refused", "{more} in {SPOOL} not taken");
        }
    }

    /// Once, until it works again.
    fn failed(&mut self, fault: &io::Error) {
        if !self.failing {
            warn!(event = "asks-unreadable", "{SPOOL} cannot be looked at: {fault}; the group cannot ask");
        }
        self.failing = true;
        // Who waits for the end of all is not to wait for a disk that is broken.
        self.set_idle(true);
    }
}

/// None at the end of the runtime.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    tokio::task::spawn_blocking(work).await.ok()
}

/// A line for each user and what they asked for.
fn tell<'a>(asks: impl Iterator<Item = &'a Spooled>) {
    let mut lines: BTreeMap<(u32, &str), Vec<Option<JobId>>> = BTreeMap::new();
    for ask in asks {
        for request in &ask.requests {
            lines.entry((ask.by, request.kind.as_str())).or_default().push(request.job);
        }
    }
    for ((user, kind), jobs) in lines {
        let kind = shorten(&shown_bytes(kind.as_bytes()), KIND, '…');
        match jobs.as_slice() {
            [job] => {
                info!(event = "asked", uid = user, job = job.map(|job| job.0), "user {user} asks: {kind}")
            }
            jobs => info!(event = "asked", uid = user, "user {user} asks: {kind}, {} times", jobs.len()),
        }
    }
}
