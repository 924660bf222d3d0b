//! What keeps requests back although there is work: holds, for a reason that is no file's fault, and the pace that a
//! server asks for.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::time::Duration;

use super::super::failure::Operation;
use super::super::job::{AccountName, Code, JobId, Reason};
use super::super::time::{Boot, Now, Wall};
use super::{Limits, OperationId};

/// First wait before a hold is probed; doubles up to [`LONGEST_PROBE`].
const FIRST_PROBE: Duration = Duration::from_secs(5);

/// Longest wait between two probes of a hold.
const LONGEST_PROBE: Duration = Duration::from_secs(300);

/// Good answers after which one more slot is tried, when the server asked us to slow down.
const GROW_AFTER: usize = 8;

/// How long a pace lasts after the server last asked for it. Good answers end it sooner, but an account that has nothing to
/// send gets none, and the slots are everybody's.
const PACE_LASTS: Duration = Duration::from_secs(600);

/// What a hold keeps back.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// Everything with this key.
    Account(AccountName),
    /// Everything to this server, by its base URL.
    Server(String),
    /// Everything: what the server would know could not be written down.
    Store,
}

impl Scope {
    /// Whether it keeps back what belongs to `account`.
    pub(super) fn covers(&self, account: &AccountName, limits: &Limits) -> bool {
        match self {
            Scope::Account(name) => name == account,
            Scope::Server(server) => limits.accounts.get(account) == Some(server),
            Scope::Store => true,
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scope::Account(name) => write!(f, "account {}", name.0),
            Scope::Server(server) => write!(f, "server {server}"),
            Scope::Store => write!(f, "store"),
        }
    }
}

/// Sending has stopped for a reason that is no file's fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// Why.
    pub reason: Reason,
    /// Since when, for people.
    pub since: Wall,
    /// Since when, for arithmetic.
    pub since_boot: Boot,
    /// When one request is let through to see whether it is over.
    pub probe_at: Boot,
    /// Probes that failed.
    pub probes: u32,
    wait: Duration,
    probing: Option<OperationId>,
    /// The request that was refused.
    operation: Operation,
}

impl Hold {
    /// Whether a good answer to `operation` shows that it is over. A Part that is taken says nothing of the money for the
    /// next Upload. A list that is refused says nothing of Uploads: a key may be for these alone, and the list is not
    /// asked for again just to see.
    fn is_lifted_by(&self, operation: Operation) -> bool {
        !matches!(self.reason.code, Code::QuotaExhausted | Code::Forbidden)
            || self.operation == Operation::ListFiles
            || self.operation == operation
    }

    /// Whether `operation` is the one that was let through.
    pub(super) fn is_probed_by(&self, operation: OperationId) -> bool {
        self.probing == Some(operation)
    }
}

/// Whether a request may start now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Gate {
    Open,
    /// This one alone, to see whether these holds are over.
    Probe(Vec<Scope>),
    Shut,
}

/// What failures without a success between them say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Streak {
    /// One job failed once.
    One,
    /// The same job fails and fails: ask the server something cheap.
    Same,
    /// Several jobs fail: it is not theirs.
    Several,
}

#[derive(Debug, Default)]
pub(super) struct Gates {
    holds: BTreeMap<Scope, Hold>,
    streaks: HashMap<Scope, (BTreeSet<JobId>, u32)>,
    pace: HashMap<AccountName, Pace>,
}

/// The server of an account asked us to slow down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Nothing is sent before this.
    pub until: Boot,
    /// Part slots; one more after every few good answers.
    pub slots: usize,
    good: usize,
}

impl Gates {
    pub(super) fn gate(&self, account: &AccountName, server: &str, now: Boot) -> Gate {
        if self.holds.contains_key(&Scope::Store)
            || self.pace.get(account).is_some_and(|pace| pace.until > now)
        {
            return Gate::Shut;
        }
        let scopes = [Scope::Account(account.clone()), Scope::Server(server.to_owned())];
        let held: Vec<&Scope> = scopes.iter().filter(|scope| self.holds.contains_key(scope)).collect();
        if held.is_empty() {
            return Gate::Open;
        }
        let ready = |hold: &Hold| hold.probing.is_none() && hold.probe_at <= now;
        if held.iter().all(|scope| self.holds.get(scope).is_some_and(ready)) {
            Gate::Probe(held.into_iter().cloned().collect())
        } else {
            Gate::Shut
        }
    }

    /// `operation` was let through to see whether these holds are over.
    pub(super) fn probing(&mut self, scopes: &[Scope], operation: OperationId) {
        for scope in scopes {
            if let Some(hold) = self.holds.get_mut(scope) {
                hold.probing = Some(operation);
            }
        }
    }

    /// `operation` ended without an answer that lifts a hold: the next probe comes later.
    pub(super) fn probe_ended(&mut self, operation: OperationId, counts: bool, now: Boot) {
        for hold in self.holds.values_mut().filter(|hold| hold.probing == Some(operation)) {
            hold.probing = None;
            if counts {
                hold.probes += 1;
                hold.wait = (hold.wait * 2).min(LONGEST_PROBE);
                hold.probe_at = now + hold.wait;
            }
        }
    }

    /// Begins a hold; nothing if there is one already.
    pub(super) fn begin(
        &mut self,
        scope: Scope,
        reason: Reason,
        operation: Operation,
        now: Now,
    ) -> Option<Hold> {
        self.streaks.remove(&scope);
        if self.holds.contains_key(&scope) {
            return None;
        }
        let hold = Hold {
            reason,
            since: now.wall,
            since_boot: now.boot,
            probe_at: now.boot + FIRST_PROBE,
            probes: 0,
            wait: FIRST_PROBE,
            probing: None,
            operation,
        };
        self.holds.insert(scope, hold.clone());
        Some(hold)
    }

    pub(super) fn end(&mut self, scope: &Scope) -> Option<Hold> {
        self.holds.remove(scope)
    }

    pub(super) fn probe_at(&self, scope: &Scope) -> Option<Boot> {
        self.holds.get(scope).map(|hold| hold.probe_at)
    }

    pub(super) fn is_held(&self, scope: &Scope) -> bool {
        self.holds.contains_key(scope)
    }

    pub(super) fn probe_now(&mut self, scope: &Scope, now: Boot) {
        if let Some(hold) = self.holds.get_mut(scope) {
            hold.probe_at = now;
        }
    }

    pub(super) fn probe_all_now(&mut self, now: Boot) {
        self.holds.values_mut().for_each(|hold| hold.probe_at = now);
    }

    pub(super) fn holds(&self) -> impl Iterator<Item = (&Scope, &Hold)> {
        self.holds.iter()
    }

    /// Counts a failure that may be the scope's fault.
    pub(super) fn failed(&mut self, scope: &Scope, job: JobId) -> Streak {
        let (jobs, failures) = self.streaks.entry(scope.clone()).or_default();
        jobs.insert(job);
        *failures += 1;
        match (jobs.len(), *failures) {
            (1, 1) => Streak::One,
            (1, _) => Streak::Same,
            _ => Streak::Several,
        }
    }

    /// A good answer: whatever failed before, these scopes work. Returns the holds that it lifts.
    pub(super) fn succeeded(
        &mut self,
        account: &AccountName,
        server: &str,
        operation: Operation,
        parallel: usize,
    ) -> Vec<Scope> {
        if let Some(pace) = self.pace.get_mut(account) {
            pace.good += 1;
            if pace.good >= GROW_AFTER {
                pace.good = 0;
                pace.slots += 1;
            }
            if pace.slots >= parallel {
                self.pace.remove(account);
            }
        }
        let scopes = [Scope::Account(account.clone()), Scope::Server(server.to_owned())];
        scopes
            .into_iter()
            .filter(|scope| {
                self.streaks.remove(scope);
                self.holds.get(scope).is_some_and(|hold| hold.is_lifted_by(operation))
            })
            .collect()
    }

    /// A whole refusal came: whatever the server thinks of that request, it can be reached and works. Returns the hold that
    /// this lifts.
    pub(super) fn refused(&mut self, server: &str, status: u16) -> Option<Scope> {
        // What is not among the answers that only the API gives may come from something that stands before it.
        if !(400..500).contains(&status) || matches!(status, 401 | 403 | 404 | 405 | 407 | 408 | 413 | 429) {
            return None;
        }
        let scope = Scope::Server(server.to_owned());
        self.streaks.remove(&scope);
        let away =
            |hold: &Hold| matches!(hold.reason.code, Code::Network | Code::Stalled | Code::ServerError);
        self.holds.get(&scope).is_some_and(away).then_some(scope)
    }

    /// The server asked us to slow down.
    pub(super) fn slow_down(&mut self, account: &AccountName, until: Boot, running: usize, now: Boot) {
        let slots = (running / 2).max(1);
        let pace = self.pace.entry(account.clone()).or_insert(Pace { until, slots, good: 0 });
        // Many answers of one moment say it once.
        if pace.until <= now {
            pace.slots = pace.slots.min(slots);
        }
        pace.until = pace.until.max(until);
        pace.good = 0;
    }

    /// Forgets paces that nobody has asked for of late.
    pub(super) fn forget_paces(&mut self, now: Boot) {
        self.pace.retain(|_, pace| now.since(pace.until) < PACE_LASTS);
    }

    /// Part slots at this pace.
    pub(super) fn slots(&self, parallel: usize) -> usize {
        self.pace.values().map(|pace| pace.slots).min().unwrap_or(parallel).min(parallel)
    }

    pub(super) fn paces(&self) -> impl Iterator<Item = (&AccountName, &Pace)> {
        self.pace.iter()
    }

    /// The operator does not want to wait any longer. The number of slots stays: that is no wait.
    pub(super) fn rest_over(&mut self, now: Boot) {
        self.pace.values_mut().for_each(|pace| pace.until = pace.until.min(now));
    }

    pub(super) fn wakes(&self) -> impl Iterator<Item = Boot> {
        let probes = self.holds.values().filter(|hold| hold.probing.is_none()).map(|hold| hold.probe_at);
        probes.chain(self.pace.values().map(|pace| pace.until))
    }
}
