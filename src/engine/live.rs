//! What is true only now: holds, slots, rates, what is being sent. Served to `status`; kept nowhere.

use serde::{Deserialize, Serialize};

use super::Engine;
use crate::model::board::Scope;
use crate::model::job::Stage;
use crate::text::{count, rfc3339, shown};

/// So much of what is stuck is told.
const STUCK: usize = 20;

/// The state of a running service, as `status --json` prints it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Live {
    /// Of this record; grows with what is added.
    pub schema: u32,
    /// Of the program.
    pub version: String,
    /// Of the process.
    pub pid: u32,
    /// Whether it was told to end.
    pub stopping: bool,
    /// Part slots.
    pub slots: Slots,
    /// What stops sending.
    pub holds: Vec<LiveHold>,
    /// Accounts whose server asked for a slower pace.
    #[serde(default)]
    pub paces: Vec<LivePace>,
    /// What does not go on although it should, the longest first; twenty at most.
    #[serde(default)]
    pub stuck: Vec<LiveStuck>,
    /// Jobs that are being worked on, the next to expire first.
    pub active: Vec<LiveJob>,
    /// How each folder is watched.
    pub folders: Vec<LiveFolder>,
    /// Files that have not settled: the first hundred.
    pub changing: Vec<LiveChanging>,
    /// How many have not settled.
    pub changing_count: u64,
    /// Whether every folder was scanned once and nothing that was met waits to become a job.
    #[serde(default)]
    pub idle: bool,
}

/// Requests under way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slots {
    /// Parts of large files being sent.
    pub parts: usize,
    /// How many may be: `parallel_parts`, or fewer where the server asked for it.
    pub of: usize,
    /// Other requests.
    pub small: usize,
    /// With `parallel_parts = "auto"`, what keeps `of` where it is: `measuring`, `link`, `disk`, `429` or `limit`.
    #[serde(default)]
    pub bound: Option<String>,
}

/// Why nothing is sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveHold {
    /// `account NAME`, `server URL` or `store`.
    pub scope: String,
    /// Its code.
    pub code: String,
    /// What happened.
    pub message: String,
    /// What to do.
    pub remedy: String,
    /// Since when, RFC 3339.
    pub since: String,
    /// When it is tried next, RFC 3339.
    pub next_probe: String,
    /// Probes that failed.
    pub probes: u32,
}

/// The server of an account asked us to slow down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LivePace {
    /// The account.
    pub account: String,
    /// Part slots for now; they grow back with good answers.
    pub slots: usize,
    /// Nothing is sent before this, RFC 3339; null: that is over.
    pub until: Option<String>,
}

/// Something that has not moved for longer than its timeouts allow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveStuck {
    /// What, such as `Part 3 of job 12`.
    pub what: String,
    /// What it waits for, such as `reading the file`.
    pub at: String,
    /// For how many seconds.
    pub seconds: u64,
}

/// A job that is being worked on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveJob {
    /// Its number.
    pub id: i64,
    /// Its folder.
    pub folder: String,
    /// Its path, escaped for people.
    pub path: String,
    /// Its state.
    pub state: String,
    /// Its size.
    pub bytes: u64,
    /// Bytes in stored Parts and on their way.
    pub bytes_sent: u64,
    /// Parts stored.
    pub parts_stored: usize,
    /// Parts in all.
    pub parts_total: usize,
    /// How fast it is sent, as the mean of the last ten seconds; null: not known yet.
    #[serde(default)]
    pub bytes_per_second: Option<u64>,
    /// Seconds until its Upload expires.
    pub expires_in: Option<u64>,
}

/// How a folder is watched.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveFolder {
    /// Its name.
    pub name: String,
    /// Its path, escaped for people.
    pub path: String,
    /// `events`, `polling`, `degraded`, `missing` or `starting`.
    pub state: String,
    /// Why, where there is a reason.
    pub why: Option<String>,
    /// When the last whole scan ended, RFC 3339.
    pub last_scan: Option<String>,
    /// Whether sending from it is paused.
    pub paused: bool,
    /// How fast its files are sent, all together, as the mean of the last ten seconds; null: not known yet.
    #[serde(default)]
    pub bytes_per_second: Option<u64>,
}

/// A file that has not settled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveChanging {
    /// Its folder.
    pub folder: String,
    /// Its path below the folder, escaped for people.
    pub path: String,
    /// Its size when last seen.
    pub bytes: u64,
    /// `changing`, `open-for-writing` or `unknown`.
    pub why: String,
    /// For how many seconds it has been waited for.
    pub seconds: u64,
}

impl Live {
    /// All of it in one line, what stops sending first: what systemd is told, and how `status` begins.
    pub fn summary(&self) -> String {
        if self.stopping {
            return "stopping, Parts in flight may end".into();
        }
        if let Some(stuck) = self.stuck.first() {
            return format!("STUCK: {}: {} for {} s", stuck.what, stuck.at, stuck.seconds);
        }
        if let Some(hold) = self.holds.first() {
            // In a line for people the second is enough.
            let since =
                hold.since.split_once('.').map_or(hold.since.clone(), |(second, _)| format!("{second}Z"));
            return format!("ON HOLD since {since} for the {}: {}; {}", hold.scope, hold.code, hold.remedy);
        }
        let missing = self.folders.iter().filter(|folder| folder.state == "missing").count();
        let paused = self.folders.iter().filter(|folder| folder.paused).count();
        let active = u64::try_from(self.active.len()).unwrap_or(u64::MAX);
        let mut line =
            format!("{} under way, {} settling", count(active, "file", "files"), self.changing_count);
        for (number, word) in [(missing, "missing"), (paused, "paused")] {
            if number > 0 {
                line.push_str(&format!(", {number} of {} folders {word}", self.folders.len()));
            }
        }
        line
    }
}

impl Engine {
    pub(super) fn live(&self) -> Live {
        let now = self.parts.clock.now();
        let (parts, of, small) = self.parts.board.slots();
        let bound = self.parts.board.slots_bound().map(|bound| bound.as_str().to_owned());
        let in_flight = self.parts.operations.in_flight();
        let mut active: Vec<LiveJob> = self
            .parts
            .board
            .active()
            .map(|job| {
                let session = job.stage.session();
                let stored = session.map_or(0, crate::model::job::Session::stored_bytes);
                let expires = session.and_then(|session| match session.deadline {
                    crate::model::job::Deadline::At(at) => Some(at.since(now.boot).as_secs()),
                    crate::model::job::Deadline::Unknown => None,
                });
                let flying = in_flight.get(&job.id).copied().unwrap_or(0);
                let bytes = job.subject.fingerprint.bytes;
                let completing = matches!(job.stage, Stage::Completing(..));
                LiveJob {
                    id: job.id.0,
                    folder: self.parts.folders.get(&job.subject.folder).cloned().unwrap_or_default(),
                    path: shown(&job.subject.path),
                    state: job.stage.state().as_str().into(),
                    bytes,
                    bytes_sent: if completing { bytes } else { (stored + flying).min(bytes) },
                    parts_stored: session.map_or(0, crate::model::job::Session::stored_parts),
                    parts_total: session.map_or(0, |session| session.parts.len()),
                    bytes_per_second: self.rates.job(job.id),
                    expires_in: expires,
                }
            })
            .collect();
        active.sort_by_key(|job| (job.expires_in.is_none(), job.expires_in, job.id));
        let holds = self.parts.board.holds().map(|(scope, hold)| {
            let (reason, probes, next) = match (scope, &self.outage) {
                // The writer tries, and what is wrong may be something else by now.
                (Scope::Store, Some((reason, tries, next))) => (reason, *tries, *next),
                _ => (&hold.reason, hold.probes, hold.probe_at),
            };
            LiveHold {
                scope: scope.to_string(),
                code: reason.code.as_str().into(),
                message: reason.message.clone(),
                remedy: reason.code.remedy().into(),
                since: rfc3339(hold.since),
                next_probe: rfc3339(now.wall_at(next)),
                probes,
            }
        });
        let paces = self.parts.board.paces().map(|(account, pace)| LivePace {
            account: account.0.clone(),
            slots: pace.slots,
            until: (pace.until > now.boot).then(|| rfc3339(now.wall_at(pace.until))),
        });
        let mut paces: Vec<LivePace> = paces.collect();
        paces.sort_by(|one, other| one.account.cmp(&other.account));
        let stuck = self.parts.operations.vitals().stuck().into_iter().take(STUCK).map(|stuck| LiveStuck {
            seconds: stuck.lasted.as_secs(),
            at: stuck.at.to_string(),
            what: stuck.what,
        });
        let seen = self.parts.hints.seen();
        let changing = seen
            .changing
            .iter()
            .map(|(file, since)| LiveChanging { seconds: now.boot.since(*since).as_secs(), ..file.clone() });
        let mut folders = seen.folders.clone();
        for folder in &mut folders {
            let id = self.parts.folders.iter().find(|(_, name)| **name == folder.name).map(|(id, _)| *id);
            folder.paused = id.is_some_and(|id| self.parts.board.is_paused(id));
            folder.bytes_per_second = id.and_then(|id| self.rates.folder(id));
        }
        Live {
            schema: 1,
            version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
            stopping: self.stopping.is_some(),
            slots: Slots { parts, of, small, bound },
            holds: holds.collect(),
            paces,
            stuck: stuck.collect(),
            active,
            folders,
            changing: changing.collect(),
            changing_count: seen.changing_count,
            idle: self.parts.hints.is_idle(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_first_what_stops_sending() {
        let mut live = Live::default();
        assert_eq!(live.summary(), "0 files under way, 0 settling");
        live.folders = vec![LiveFolder { state: "missing".into(), ..LiveFolder::default() }];
        assert_eq!(live.summary(), "0 files under way, 0 settling, 1 of 1 folders missing");
        live.holds = vec![LiveHold {
            scope: "account default".into(),
            code: "key-rejected".into(),
            message: String::new(),
            remedy: "check the key".into(),
            since: "2026-11-22T17:00:00.000Z".into(),
            next_probe: String::new(),
            probes: 0,
        }];
        assert_eq!(
            live.summary(),
            "ON HOLD since 2026-11-22T17:00:00Z for the account default: key-rejected; check the key"
        );
        live.stuck =
            vec![LiveStuck { what: "Part 3 of job 12".into(), at: "reading the file".into(), seconds: 301 }];
        assert_eq!(live.summary(), "STUCK: Part 3 of job 12: reading the file for 301 s");
        live.stopping = true;
        assert_eq!(live.summary(), "stopping, Parts in flight may end");
    }
}
