//! `why`: gathers what is known of a path and has [`crate::model::why`] say what counts. The service does it for whoever
//! asks it; where none runs, the command does it from the store and the folder.

use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::spawn_blocking;

use super::Message;
use super::intake::Hints;
use crate::clock::Clock;
use crate::model::file::Look;
use crate::model::finish::FinishStep;
use crate::model::job::{Code, FolderId, Reason, State, Subject};
use crate::model::settle::{Decision, Observation, Quiet, Settle};
use crate::model::time::Now;
use crate::model::why::{Answer, Evidence, Lies, Row, Settling, Wait, Watched, answer};
use crate::record::SCHEMA;
use crate::store::{FinishState, Record, RecordError, Store, StoreError};
use crate::text::{count, duration, rfc3339, shown, shown_bytes, typed};
use crate::watch::kind::FolderKind;
use crate::watch::{Considered, FolderSpec, consider, look};

/// Looks into folders at once: where a file server hangs each keeps its thread until the system lets it go.
const LOOKS: usize = 4;

/// How long a service may take to say what it knows of a path.
const PATIENCE: Duration = Duration::from_secs(5);

/// A folder of the configuration.
#[derive(Clone, Debug)]
pub struct Place {
    /// Its name.
    pub name: String,
    /// Its row; none before a service ran for the first time.
    pub id: Option<FolderId>,
    /// By which rules it is watched.
    pub spec: FolderSpec,
    /// The quiet times in force.
    pub quiet: Quiet,
}

/// The service's own knowledge.
#[derive(Clone, Debug)]
pub struct Running {
    /// The board's side.
    pub engine: mpsc::Sender<Message>,
    /// The intake's side.
    pub hints: Hints,
}

/// Who can be asked why.
#[derive(Clone, Debug)]
pub struct Inquiry {
    /// The ledger; none if there is none yet.
    pub store: Option<Store>,
    /// The folders of the configuration.
    pub places: Arc<Vec<Place>>,
    /// The time.
    pub clock: Clock,
    /// The running service; none if it is a command that asks.
    pub running: Option<Running>,
    /// See [`looks`].
    pub looks: Arc<Semaphore>,
}

/// Room for a few looks at once.
pub fn looks() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(LOOKS))
}

/// The answer as JSON. Every field is always there, null when it does not apply.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Why {
    /// Of this record.
    pub schema: u32,
    /// The path, escaped for people.
    pub path: String,
    /// `service`: asked of the one that runs; `store`: from the ledger and the folder.
    pub source: String,
    /// The folder's name.
    pub folder: Option<String>,
    /// The answer as a stable word.
    pub answer: String,
    /// The same for people.
    pub message: String,
    /// What to do about it, if anything.
    pub remedy: Option<String>,
    /// The job that it is about.
    pub job: Option<i64>,
    /// Its state.
    pub state: Option<String>,
    /// Its File.
    pub file_id: Option<String>,
    /// The stable code behind it.
    pub code: Option<String>,
    /// When it goes on by itself, RFC 3339.
    pub until: Option<String>,
    /// Whether a folder takes it.
    pub covered: bool,
}

/// What the intake knows of a path.
#[derive(Clone, Debug)]
pub struct Met {
    /// How its folder is watched.
    pub watched: Watched,
    /// Where the version is that lies there.
    pub settling: Settling,
}

impl Inquiry {
    /// Why the file at `path` is not uploaded, or that it is.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn explain(&self, path: &Path) -> Result<Why, StoreError> {
        let Some((place, relative)) = self.covering(path.to_owned()).await else {
            return Ok(self.not_covered(path));
        };
        let now = self.clock.now();
        let record = self.record_of(place, &relative).await?;
        let (lies, seen) = self.look_at(place, &relative).await;
        let met = match (&self.running, place.id) {
            (Some(running), Some(folder)) => running.met(folder, &relative).await,
            _ => None,
        };
        let is_current = |record: &Record| {
            record.present && seen.as_ref().is_some_and(|(look, _)| look.fingerprint == record.fingerprint)
        };
        let row = match &record {
            Some(record) => Some(Row {
                job: record.id,
                state: record.state,
                is_current: is_current(record),
                reason: record.error.as_ref().map(reason_of),
                wait: self.wait_of(record).await,
            }),
            None => None,
        };
        // Until the old version is out of the way nothing is taken from its path.
        let leaves = record.as_ref().filter(|record| {
            let source = record.finish_step.as_deref() == Some(FinishStep::Source.as_str());
            record.present && record.finish == FinishState::Pending && source && !is_current(record)
        });
        let settling = match (&met, seen) {
            _ if leaves.is_some() => leaves.map_or(Settling::Unmet, |record| Settling::Leaves(record.id)),
            (Some(met), _) if met.settling != Settling::Unmet => met.settling.clone(),
            // A look of our own, judged as the service judges its first: it may not have heard of what goes on.
            (_, Some((_, seen))) => judged(place, &relative, seen, now),
            (_, None) => Settling::Unmet,
        };
        let answer = answer(Evidence { watched: met.map(|met| met.watched), lies, row, settling });
        Ok(match (&answer, &self.running) {
            (Answer::NoService, Some(running)) => self.held_up(place, path, running).await,
            _ => self.told(place, path, record.as_ref(), &answer),
        })
    }

    /// Of a file that the running service knows nothing of, since its intake does not answer: that waits for a store
    /// that cannot be written.
    async fn held_up(&self, place: &Place, path: &Path, running: &Running) -> Why {
        let (answer, live) = oneshot::channel();
        let asked = async {
            running.engine.send(Message::Inspect(answer)).await.ok()?;
            live.await.ok()
        };
        let live = tokio::time::timeout(PATIENCE, asked).await.ok().flatten();
        let hold = live.and_then(|live| live.holds.into_iter().find(|hold| hold.scope == "store"));
        let busy = "the service has not taken it yet, and does not say why";
        let message = hold.as_ref().map_or_else(
            || busy.to_owned(),
            |hold| format!("the service cannot take it: on hold for the store: {}", hold.message),
        );
        let word = if hold.is_some() { "held" } else { "busy" };
        let blank =
            Why { folder: Some(place.name.clone()), covered: true, ..self.blank(path, word, message) };
        match hold {
            Some(hold) => Why {
                code: Some(hold.code),
                remedy: Some(hold.remedy),
                until: Some(hold.next_probe),
                ..blank
            },
            None => Why { remedy: Some("`upspool status` says what does not go on".into()), ..blank },
        }
    }

    /// The folder that covers a path, and the path below it: as it is written, or with the links of its directory followed.
    async fn covering(&self, path: PathBuf) -> Option<(&Place, PathBuf)> {
        let below = |path: &Path, root: &Path| {
            let rest = path.strip_prefix(root).ok().filter(|rest| !rest.as_os_str().is_empty())?;
            // Nothing is said of what lies elsewhere.
            rest.components().all(|part| matches!(part, Component::Normal(_))).then(|| rest.to_owned())
        };
        for place in self.places.iter() {
            if let Some(relative) = below(&path, &place.spec.path) {
                return Some((place, relative));
            }
        }
        let roots: Vec<PathBuf> = self.places.iter().map(|place| place.spec.path.clone()).collect();
        // It may hang where a file server does.
        let permit = self.looks.clone().try_acquire_owned().ok()?;
        let found = spawn_blocking(move || {
            let _permit = permit;
            let real = path.parent()?.canonicalize().ok()?.join(path.file_name()?);
            roots
                .iter()
                .enumerate()
                .find_map(|(index, root)| Some((index, below(&real, &root.canonicalize().ok()?)?)))
        });
        let (index, relative) = tokio::time::timeout(PATIENCE, found).await.ok()?.ok()??;
        Some((self.places.get(index)?, relative))
    }

    async fn record_of(&self, place: &Place, relative: &Path) -> Result<Option<Record>, StoreError> {
        let Some(store) = &self.store else { return Ok(None) };
        let found = store.find_path(&place.spec.path.join(relative), 1).await?;
        Ok(found.into_iter().next())
    }

    /// What lies there by the folder's rules, and a look at it where it is a file that they take.
    async fn look_at(&self, place: &Place, relative: &Path) -> (Lies, Option<(Look, Observation)>) {
        let (spec, relative, clock) = (place.spec.clone(), relative.to_owned(), self.clock.clone());
        let Ok(permit) = self.looks.clone().try_acquire_owned() else {
            return (Lies::Unknown("earlier looks have not come back yet".into()), None);
        };
        let looked = spawn_blocking(move || {
            let _permit = permit;
            let considered = consider(&spec, &relative, &|| clock.now());
            considered.map(|(considered, kind)| {
                let seen = look_through(&considered, &spec, &relative, &kind, clock.now());
                (considered, seen)
            })
        });
        match tokio::time::timeout(PATIENCE, looked).await {
            Ok(Ok(Ok((considered, seen)))) => (lies_of(considered), seen),
            Ok(Ok(Err(error))) => (Lies::Unknown(error.to_string()), None),
            Ok(Err(fault)) => (Lies::Unknown(fault.to_string()), None),
            Err(_) => (Lies::Unknown(format!("no answer for {} s", PATIENCE.as_secs())), None),
        }
    }

    /// What a job that has not ended waits for.
    async fn wait_of(&self, record: &Record) -> Wait {
        if record.state.has_ended() {
            return Wait::Nothing;
        }
        let Some(running) = &self.running else { return Wait::Service };
        if let Some(request) = &record.requested {
            return Wait::Request(request.clone());
        }
        let (answer, wait) = oneshot::channel();
        let subject = Box::new(subject_of(record));
        let asked = Message::Wait { job: record.id, subject, due: record.due_at, answer };
        let asked = async {
            running.engine.send(asked).await.ok()?;
            wait.await.ok()
        };
        match tokio::time::timeout(PATIENCE, asked).await {
            Ok(Some(Wait::Due(until, 0))) => Wait::Due(until, record.attempts),
            Ok(Some(wait)) => wait,
            // The engine does not answer; `status` says why.
            Ok(None) | Err(_) => Wait::Nothing,
        }
    }

    fn not_covered(&self, path: &Path) -> Why {
        let folders: Vec<String> = self.places.iter().map(|place| shown(&place.spec.path)).collect();
        let message = format!("no folder covers it; there is: {}", folders.join(", "));
        self.blank(path, "not-covered", message)
    }

    fn blank(&self, path: &Path, answer: &str, message: String) -> Why {
        Why {
            schema: SCHEMA,
            path: shown(path),
            source: if self.running.is_some() { "service" } else { "store" }.to_owned(),
            folder: None,
            answer: answer.to_owned(),
            message,
            remedy: None,
            job: None,
            state: None,
            file_id: None,
            code: None,
            until: None,
            covered: false,
        }
    }

    fn told(&self, place: &Place, path: &Path, record: Option<&Record>, answer: &Answer) -> Why {
        let (word, message) = words_of(place, answer);
        let blank =
            Why { folder: Some(place.name.clone()), covered: true, ..self.blank(path, word, message) };
        match answer {
            Answer::FolderMissing(_) => with_code(blank, Code::FolderMissing),
            Answer::Job(row) => of_job(blank, row, record),
            Answer::Ignored(_)
            | Answer::Excluded
            | Answer::TooDeep
            | Answer::Directory
            | Answer::Other(_)
            | Answer::Nothing => Why { covered: false, ..blank },
            Answer::Unknown(_) => Why {
                remedy: Some(
                    "let the service's user into the directories on its way, and see that the disk answers"
                        .into(),
                ),
                ..blank
            },
            Answer::NoService => Why {
                remedy: Some("start the service: upspool run, or systemctl start upspool".into()),
                ..blank
            },
            _ => blank,
        }
    }
}

impl Running {
    /// What the intake knows of a path; nothing if it does not say in time.
    async fn met(&self, folder: FolderId, relative: &Path) -> Option<Met> {
        tokio::time::timeout(PATIENCE, self.hints.met(folder, relative.to_owned())).await.ok()?
    }
}

fn lies_of(considered: Considered) -> Lies {
    match considered {
        Considered::File(_) => Lies::File,
        Considered::Directory => Lies::Directory,
        Considered::Ignored(rule) => Lies::Ignored(shown_bytes(rule.to_string().as_bytes())),
        Considered::Excluded => Lies::Excluded,
        Considered::TooDeep => Lies::TooDeep,
        Considered::Other(what) => Lies::Other(what),
        Considered::Unseen(error) if error.kind() == std::io::ErrorKind::NotFound => Lies::Nothing,
        Considered::Unseen(error) if error.kind() == std::io::ErrorKind::NotADirectory => Lies::Nothing,
        Considered::Unseen(error) => Lies::Unknown(error.to_string()),
    }
}

/// A look at a file that is taken, or that a job may be about although no rule takes it any more.
fn look_through(
    considered: &Considered,
    spec: &FolderSpec,
    relative: &Path,
    kind: &FolderKind,
    now: Now,
) -> Option<(Look, Observation)> {
    // Not what lies in the state directory: to open and close a database gives up all locks that this process has on it.
    if !matches!(considered, Considered::File(_) | Considered::Ignored(_)) {
        return None;
    }
    let seen = look(&spec.path, relative, spec.links, kind, now.wall);
    match &seen {
        Observation::Glimpsed(look)
        | Observation::Present { look, .. }
        | Observation::OpenForWriting(look)
        | Observation::Unreadable(look) => Some((*look, seen)),
        Observation::Unknown(_) | Observation::Absent => None,
    }
}

/// Where a version stands that nobody waits for: what the service would say of it at its first look.
fn judged(place: &Place, relative: &Path, seen: Observation, now: Now) -> Settling {
    let key = place.spec.key;
    let mut settle = Settle::new();
    settle.set_rule(key, place.quiet);
    match settle.observe(key, relative, seen, now) {
        Decision::Settled(_) => Settling::Settled,
        _ => settle
            .get(key, relative)
            .map_or(Settling::Unmet, |changing| super::intake::settling_of(&changing, now.boot)),
    }
}

fn reason_of(error: &RecordError) -> Reason {
    Reason {
        code: error.code.parse().unwrap_or(Code::Internal),
        message: error.message.clone(),
        status: error.status,
        request_id: error.request_id.clone(),
    }
}

fn subject_of(record: &Record) -> Subject {
    Subject {
        folder: record.folder,
        path: record.relative_path.clone(),
        fingerprint: record.fingerprint,
        filename: record.filename.clone(),
        purpose: record.purpose.clone(),
        mime_type: record.mime_type.clone(),
        expires_after: record.expires_after,
        account: record.account.clone(),
    }
}

/// The stable word of an answer, and the same for people.
fn words_of(place: &Place, answer: &Answer) -> (&'static str, String) {
    let ago = |time: &Duration| duration(*time);
    match answer {
        Answer::FolderMissing(why) => ("folder-missing", format!("its folder cannot be read: {why}")),
        Answer::Ignored(rule) => ("ignored", rule.clone()),
        Answer::Excluded => {
            ("excluded", "it lies in a directory that is not part of the folder: another folder, the state, or one that the service fills".into())
        }
        Answer::TooDeep => ("too-deep", "it lies in a directory of the folder, and recursive = false".into()),
        Answer::Directory => ("directory", "it is a directory; its files are taken one by one".into()),
        Answer::Other(what) => ("no-file", format!("it is {what}, and only regular files are taken")),
        Answer::Nothing => ("no-such-file", "there is no such file, and there never was one that is known".into()),
        Answer::Unknown(why) => ("unknown", format!("it cannot be looked at: {why}")),
        Answer::FirstScan => ("first-scan", "the first scan of its folder still goes on".into()),
        Answer::Unmet { events: true } => ("unmet", "nobody has met it yet: its event is on the way, or the next scan finds it".into()),
        Answer::Unmet { events: false } => {
            let every = crate::text::setting(place.spec.poll_interval);
            ("unmet", format!("nobody has met it yet: its folder is looked through every {every}"))
        }
        Answer::NoService => ("no-service", "it has settled and would be taken, but no service runs".into()),
        Answer::Settling(settling) => match settling {
            Settling::Changing { waited, quiet, needed } => (
                "changing",
                format!(
                    "still changing: it changed {} ago, and has to be unchanged for {}; waited for since {}",
                    ago(quiet),
                    ago(needed),
                    ago(waited)
                ),
            ),
            Settling::OpenForWriting(waited) => {
                ("open-for-writing", format!("somebody has it open for writing; waited for since {}", ago(waited)))
            }
            Settling::Failed(why) => ("unknown", format!("it cannot be looked at: {why}")),
            Settling::Leaves(job) => (
                "leaves",
                format!("the version before it is still to be moved or deleted, by job {}; then it is taken", job.0),
            ),
            Settling::Looking => ("looking", "it is about to be looked at, or compared with what was sent".into()),
            Settling::NoRoom => {
                ("no-room", "too many files are changing at once: it is found again by a scan when there are fewer".into())
            }
            Settling::Unmet | Settling::Settled => ("unmet", "nobody has met it yet".into()),
        },
        Answer::Job(row) => (row.state.as_str(), String::new()),
    }
}

fn with_code(why: Why, code: Code) -> Why {
    Why { code: Some(code.as_str().into()), remedy: Some(code.remedy().into()), ..why }
}

/// What a job says.
fn of_job(blank: Why, row: &Row, record: Option<&Record>) -> Why {
    let job = row.job.0;
    let why = Why { job: Some(job), state: Some(row.state.as_str().into()), ..blank };
    let because = |why: Why, reason: &Option<Reason>| match reason {
        Some(reason) => with_code(why, reason.code),
        None => why,
    };
    let words = |reason: &Option<Reason>| {
        reason.as_ref().map_or_else(String::new, |reason| {
            format!(" with {}: {}", reason.code, shown_bytes(reason.message.as_bytes()))
        })
    };
    let say = |answer: &str, message: String, why: Why| Why { answer: answer.into(), message, ..why };
    match row.state {
        State::Queued | State::Uploading | State::Completing => waits(why, row, record),
        State::Stored => {
            let file =
                record.and_then(|record| record.file_id.as_ref()).map(|file| shown_bytes(file.0.as_bytes()));
            let moved = record.and_then(|record| record.moved_to.as_deref()).map(shown);
            let moved = moved.map_or_else(String::new, |to| format!("; the file lies at {to} now"));
            let message = format!("stored as {}{moved}", file.as_deref().unwrap_or("a File"));
            say("stored", message, Why { file_id: file, ..why })
        }
        State::Failed => {
            say("failed", format!("job {job} failed{}", words(&row.reason)), because(why, &row.reason))
        }
        State::Unresolved => {
            let message = format!("whether job {job} became a File cannot be told{}", words(&row.reason));
            say("unresolved", message, because(why, &row.reason))
        }
        State::Skipped => {
            let remedy = Some(format!("upspool retry {job} sends it"));
            say(
                "skipped",
                "it lay there when the folder was first watched, and existing said skip".into(),
                Why { remedy, ..why },
            )
        }
        State::Cancelled => {
            let remedy = Some(format!("upspool retry {job} sends it"));
            say("cancelled", format!("job {job} was cancelled by the operator"), Why { remedy, ..why })
        }
        State::Gone => {
            say("gone", format!("job {job}: the file vanished before it was sent{}", words(&row.reason)), why)
        }
    }
}

/// Why a job goes on, or does not.
fn waits(why: Why, row: &Row, record: Option<&Record>) -> Why {
    let job = row.job.0;
    let say = |answer: &str, message: String, why: Why| Why { answer: answer.into(), message, ..why };
    match &row.wait {
        Wait::Service => {
            let remedy = Some("start the service: upspool run, or systemctl start upspool".to_owned());
            say(
                "no-service",
                format!("job {job} is {}, and no service runs", row.state),
                Why { remedy, ..why },
            )
        }
        Wait::Request(request) => {
            let request = shown_bytes(request.as_bytes());
            say("requested", format!("job {job} waits for {request} to be taken up, as was asked"), why)
        }
        Wait::Paused(_) => {
            let paused = record.map(|record| record.folder_name.clone()).unwrap_or_default();
            let remedy = Some(format!("upspool resume --folder {}", typed(&paused)));
            say(
                "paused",
                format!("its folder {} is paused", shown_bytes(paused.as_bytes())),
                Why { remedy, ..why },
            )
        }
        Wait::Held { scope, reason, until } => {
            let message =
                format!("sending is on hold for the {scope}: {}", shown_bytes(reason.message.as_bytes()));
            let why = with_code(why, reason.code);
            say("held", message, Why { until: Some(rfc3339(*until)), ..why })
        }
        Wait::Paced(until) => {
            let why = Why { until: Some(rfc3339(*until)), ..with_code(why, Code::RateLimited) };
            say("paced", format!("the server asked for less: it goes on at {}", rfc3339(*until)), why)
        }
        Wait::Due(until, attempts) => {
            let after = match (&row.reason, attempts) {
                (Some(reason), _) => format!(
                    " after {} that failed, the last with {}: {}",
                    count(u64::from(*attempts), "attempt", "attempts"),
                    reason.code,
                    shown_bytes(reason.message.as_bytes())
                ),
                (None, _) => String::new(),
            };
            let code = row.reason.as_ref().map(|reason| reason.code.as_str().to_owned());
            let why = Why { until: Some(rfc3339(*until)), code, ..why };
            say("due", format!("job {job} waits until {}{after}", rfc3339(*until)), why)
        }
        Wait::Twin => say(
            "twin",
            format!(
                "job {job} waits for another file of the same name, size and purpose, which is being completed"
            ),
            why,
        ),
        Wait::Slot => say("slot", format!("job {job} is {} and waits for a free slot", row.state), why),
        Wait::Examined => say("examined", format!("job {job} is being looked at before it is sent"), why),
        Wait::Nothing => {
            let parts = record.and_then(|record| Some((record.parts_stored?, record.parts_total?)));
            let parts = parts
                .map_or_else(String::new, |(stored, total)| format!(", {stored} of {total} Parts stored"));
            say(row.state.as_str(), format!("job {job} is {}{parts}", row.state), why)
        }
    }
}
