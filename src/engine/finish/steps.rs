//! One job from its next step on, until it is done, fails, or its next step belongs to the other lane.

use std::path::Path;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tracing::{debug, info, warn};

use super::{Folder, Parts, told};
use crate::beneath::Links;
use crate::hook;
use crate::model::finish::{self, FinishStep, Plan};
use crate::model::job::{Code, JobId, State};
use crate::model::settle::Observation;
use crate::model::time::Wall;
use crate::model::watchdog::Await;
use crate::putaway::{self, Put, Version};
use crate::store::{FinishState, HistoryRow, Progress, Record, SourceEnd, Unfinished, Write};
use crate::text::{shown, shown_bytes};
use crate::watch::kind::FolderKind;
use crate::watch::look;

/// How long a folder is waited for that is not there, in milliseconds.
const AWAY: i64 = 30_000;

/// What a step came to.
enum Came {
    /// It is done, or there was nothing to do; with the source's end, if it was about that.
    Done(Option<SourceEnd>),
    /// It failed, and may do better later.
    Failed(String),
    /// Nothing can be said now, and it is nobody's fault: its folder is not there.
    Later(String),
    /// The store cannot be read any more: the service ends.
    Unknown,
}

/// Does one step after the other.
pub(super) async fn advance(parts: &Parts, one: Unfinished) {
    let (mut step, mut tries) = (one.step, one.tries);
    loop {
        let record = parts.writer.read("reading a job", || parts.store.record(one.job)).await;
        // It was forgotten, or queued again.
        let Some(Some(record)) = record else { return };
        // It ended anew meanwhile, and is taken up again as what it is now.
        if record.finish != FinishState::Pending || record.finish_step.as_deref() != Some(step.as_str()) {
            return;
        }
        let Some(folder) = parts.finish.folders.get(&record.folder) else {
            give_back(parts, &record).await;
            let message = "its folder is not in the configuration any more".to_owned();
            return fail_for_good(parts, Unfinished { step, ..one }, record.state, message).await;
        };
        let of = (record.state, step);
        let due = folder.plan.from(step, record.state);
        if due != Some(step) {
            // Another configuration wanted it.
            if step == FinishStep::Source {
                give_back(parts, &record).await;
            }
            write(parts, &record, done(of, due, None)).await;
            match due {
                Some(next) => (step, tries) = (next, 0),
                None => return,
            }
            continue;
        }
        if step == FinishStep::Hook && one.step != FinishStep::Hook {
            // The other lane's.
            return parts.finish.committed();
        }
        let began = parts.clock.now().boot;
        let came = match step {
            FinishStep::Source => source(parts, folder, &record).await,
            FinishStep::Receipt => receipt(parts, folder, &record).await,
            FinishStep::Hook => run_hook(parts, &folder.plan, &record).await,
        };
        let now = parts.clock.now();
        match came {
            Came::Unknown => return,
            Came::Done(source) => {
                let next = folder.plan.after(step, record.state);
                tell_done(parts, folder, &record, step, source.as_ref(), now.boot.since(began));
                write(parts, &record, done(of, next, source)).await;
                match next {
                    Some(next) => (step, tries) = (next, 0),
                    None => return,
                }
            }
            Came::Later(message) => {
                let due = Wall(now.wall.0.saturating_add(AWAY));
                let (state, step, error) = (FinishState::Pending, Some(step), Some(message));
                return write(
                    parts,
                    &record,
                    Progress { of, state, step, tries, due, error, gives_up: false, source: None },
                )
                .await;
            }
            Came::Failed(message) => {
                tries += 1;
                let again = finish::again_at(tries, now.wall);
                tell_failed(folder, &record, step, tries, again, &message);
                if step == FinishStep::Source {
                    remember_times(parts, folder, &record).await;
                }
                // A move that cannot be keeps nobody from being told.
                let next = if again.is_some() { Some(step) } else { folder.plan.after(step, record.state) };
                let progress = Progress {
                    of,
                    state: if next.is_some() { FinishState::Pending } else { FinishState::Done },
                    step: next,
                    tries: if again.is_some() { tries } else { 0 },
                    due: again.unwrap_or(Wall(0)),
                    error: Some(message),
                    gives_up: again.is_none(),
                    source: None,
                };
                write(parts, &record, progress).await;
                match next.filter(|_| again.is_none()) {
                    Some(next) => (step, tries) = (next, 0),
                    None => return,
                }
            }
        }
    }
}

/// Gives a step up.
pub(super) async fn fail_for_good(parts: &Parts, one: Unfinished, state: State, message: String) {
    warn!(
        event = "finish-failed",
        job = one.job.0,
        step = one.step.as_str(),
        code = Code::FinishFailed.as_str(),
        "{message}; {}",
        Code::FinishFailed.remedy()
    );
    let progress = Progress {
        of: (state, one.step),
        state: FinishState::Failed,
        step: Some(one.step),
        tries: one.tries,
        due: Wall(0),
        error: Some(message),
        gives_up: true,
        source: None,
    };
    let _ = parts.writer.ask(Write::Finish { job: one.job, progress: Box::new(progress) }).await;
}

fn done(of: (State, FinishStep), next: Option<FinishStep>, source: Option<SourceEnd>) -> Progress {
    let state = if next.is_some() { FinishState::Pending } else { FinishState::Done };
    Progress { of, state, step: next, tries: 0, due: Wall(0), error: None, gives_up: false, source }
}

/// Writes it down, and has the path looked at where a source is out of the way: a new file may have waited for that.
async fn write(parts: &Parts, record: &Record, progress: Progress) {
    let frees = progress.step != Some(FinishStep::Source) || progress.state == FinishState::Failed;
    let written = parts.writer.ask(Write::Finish { job: record.id, progress: Box::new(progress) });
    // The writer has logged why it could not; it ends only with the service.
    let written = written.await;
    if frees && record.present && record.finish_step.as_deref() == Some(FinishStep::Source.as_str()) {
        parts.hints.look_again(record.folder, record.relative_path.clone(), async { written });
    }
}

/// A crash may have left the source under its private name, and nobody moves or deletes it any more.
async fn give_back(parts: &Parts, record: &Record) {
    let (root, job, path) = (record.folder_path.clone(), record.id, record.relative_path.clone());
    let whole = shown(&root.join(&path));
    let here = parts.vitals.enter(whole.clone());
    here.at(Await::Filing);
    if let Ok(Err(error)) = spawn_blocking(move || putaway::give_back(&root, job, &path)).await {
        let code = Code::FinishFailed.as_str();
        warn!(
            event = "finish-failed",
            job = job.0,
            path = whole,
            code,
            "its name is not given back: {error}"
        );
    }
}

/// Moves or deletes the source.
async fn source(parts: &Parts, folder: &Folder, record: &Record) -> Came {
    if !record.present {
        // Another version lies there by now, and is its own job.
        give_back(parts, record).await;
        return Came::Done(Some(SourceEnd::Stays));
    }
    let Some(known) = is_known_ground(parts, folder, record).await else { return Came::Unknown };
    if !known && !parts.once {
        return Came::Later("its folder is not there, or is not the one in which it lay".into());
    }
    let Some(version) = version_of(parts, record).await else { return Came::Unknown };
    let (root, fate) = (folder.path.clone(), folder.plan.fate(record.state).clone());
    let here = parts.vitals.enter(shown(&root.join(&record.relative_path)));
    here.at(Await::Filing);
    let wall = parts.clock.now().wall;
    let put = spawn_blocking(move || {
        let kind = FolderKind::probe(&root).unwrap_or(FolderKind::UNKNOWN);
        let is_open = |private: &Path| {
            matches!(look(&root, private, Links::None, &kind, wall), Observation::OpenForWriting(_))
        };
        putaway::put_away(&root, &version, &fate, &is_open)
    });
    match put.await {
        Ok(Ok(Put::Deleted)) => Came::Done(Some(SourceEnd::Left { moved_to: None })),
        // What is not mounted is not gone: the next scan decides.
        Ok(Ok(Put::Gone)) => Came::Done(Some(SourceEnd::Stays)),
        Ok(Ok(Put::Moved(to))) => Came::Done(Some(SourceEnd::Left { moved_to: Some(to) })),
        Ok(Ok(Put::Changed)) => Came::Done(Some(SourceEnd::Stays)),
        Ok(Err(error)) => Came::Failed(error.to_string()),
        Err(fault) => match fault.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Came::Unknown,
        },
    }
}

/// Setting a file aside and giving its name back changes its ctime. Of one that was never sent nothing else tells that it
/// is the same: it would be a new job for that, and fail the same way, without end.
async fn remember_times(parts: &Parts, folder: &Folder, record: &Record) {
    let (root, path, wall) = (folder.path.clone(), record.relative_path.clone(), parts.clock.now().wall);
    let looked = spawn_blocking(move || {
        let kind = FolderKind::probe(&root).unwrap_or(FolderKind::UNKNOWN);
        look(&root, &path, Links::None, &kind, wall)
    });
    let Ok(
        Observation::Present { look, .. } | Observation::OpenForWriting(look) | Observation::Unreadable(look),
    ) = looked.await
    else {
        return;
    };
    let (now, then) = (look.fingerprint, record.fingerprint);
    let only_ctime = (now.bytes, now.mtime_ns, now.inode) == (then.bytes, then.mtime_ns, then.inode);
    if only_ctime && now != then {
        parts.writer.send(Write::SameVersion { job: record.id, fingerprint: now });
    }
}

/// Whether the folder is the directory in which files were met before: an empty mount point has none of them. Nothing if
/// the store cannot be read any more.
async fn is_known_ground(parts: &Parts, folder: &Folder, record: &Record) -> Option<bool> {
    let recorded = parts.writer.read("reading where files lay", || parts.store.places(record.folder)).await?;
    let root = folder.path.clone();
    let found = spawn_blocking(move || FolderKind::probe(&root)).await;
    let Ok(Ok(kind)) = found else { return Some(false) };
    let (now, then) = (kind.root, recorded.get(Path::new("")).map(|recorded| recorded.identity));
    // Nothing is recorded before the first scan has ended: then the file was met in this very run.
    Some(then.is_none_or(|then| {
        now.identity == then || (now.made_up && now.identity.file_system == then.file_system)
    }))
}

/// The version that a job is about, with the digests of what was sent; nothing if the store cannot be read any more.
async fn version_of(parts: &Parts, record: &Record) -> Option<Version> {
    // One that shares another's File has sent nothing itself, and has the same bytes.
    let sender: JobId = record.deduped_from.unwrap_or(record.id);
    let ranges = parts.writer.read("reading digests", || parts.store.ranges_of(sender)).await?;
    Some(Version {
        job: record.id,
        path: record.relative_path.clone(),
        fingerprint: record.fingerprint,
        ranges,
    })
}

/// Writes the receipt, unless another version lies there by now: its receipt is what is waited for.
async fn receipt(parts: &Parts, folder: &Folder, record: &Record) -> Came {
    let is_last = folder.plan.after(FinishStep::Receipt, record.state).is_none();
    let json = told::record(record, !is_last, parts.clock.now().wall);
    let (root, path, receipt, job) =
        (folder.path.clone(), record.relative_path.clone(), folder.plan.receipt.clone(), record.id);
    let Some(old) = is_old(parts, record).await else { return Came::Unknown };
    if old {
        return Came::Done(None);
    }
    let here = parts.vitals.enter(format!("the receipt of {}", shown(&root.join(&path))));
    here.at(Await::Filing);
    let written = {
        let (root, path, receipt) = (root.clone(), path.clone(), receipt.clone());
        spawn_blocking(move || putaway::write_receipt(&root, &path, &receipt, job, &json)).await
    };
    match written {
        Ok(Ok(())) => {}
        Ok(Err(error)) => return Came::Failed(error.to_string()),
        Err(fault) => match fault.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => return Came::Unknown,
        },
    }
    // A version that came meanwhile took the old receipt away before this one was there.
    match is_old(parts, record).await {
        None => Came::Unknown,
        Some(false) => Came::Done(None),
        Some(true) => match spawn_blocking(move || putaway::remove_receipt(&root, &path, &receipt)).await {
            Ok(Err(error)) => Came::Failed(error.to_string()),
            Ok(Ok(())) | Err(_) => Came::Done(None),
        },
    }
}

/// Whether a later job is about the path by now, or this one goes another way.
async fn is_old(parts: &Parts, record: &Record) -> Option<bool> {
    let read = || parts.store.has_successor(record.id, record.folder, &record.relative_path);
    if parts.writer.read("reading who has a path", read).await? {
        return Some(true);
    }
    // Or the job itself is sent again.
    let now = parts.writer.read("reading a job", || parts.store.record(record.id)).await?;
    Some(now.is_none_or(|now| now.state != record.state || now.finish != FinishState::Pending))
}

/// Runs the program.
async fn run_hook(parts: &Parts, plan: &Plan, record: &Record) -> Came {
    let Some(command) = plan.hook(record.state) else { return Came::Done(None) };
    let program = std::path::PathBuf::from(&command[0]);
    // It may lie where a file server does not answer.
    match spawn_blocking(move || hook::check(&program, None)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => return Came::Failed(error.to_string()),
        Err(_) => return Came::Unknown,
    }
    let input = told::record(record, false, parts.clock.now().wall) + "\n";
    match hook::run(command, &told::variables(record), &input, plan.hook_timeout).await {
        Ok(()) => Came::Done(None),
        Err(error) => Came::Failed(format!("{}: {error}", shown_bytes(command[0].as_bytes()))),
    }
}

fn tell_done(
    parts: &Parts,
    folder: &Folder,
    record: &Record,
    step: FinishStep,
    source: Option<&SourceEnd>,
    took: Duration,
) {
    let path = shown(&folder.path.join(&record.relative_path));
    let (job, name) = (record.id.0, folder.name.as_str());
    let duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    let history = |event: &str, message: Option<String>| {
        let at = parts.clock.now().wall;
        parts.writer.send(Write::History(Box::new(HistoryRow {
            message,
            duration_ms: Some(duration_ms),
            ..HistoryRow::event(record.id, at, event)
        })));
    };
    match (step, source) {
        (FinishStep::Source, Some(SourceEnd::Left { moved_to: Some(to) })) => {
            let to = shown(to);
            info!(event = "moved", job, folder = name, path, moved_to = to, duration_ms, "moved to {to}");
            history("moved", Some(to));
        }
        (FinishStep::Source, Some(SourceEnd::Left { moved_to: None })) => {
            info!(event = "removed", job, folder = name, path, duration_ms, "deleted, or gone before");
            history("removed", None);
        }
        (FinishStep::Source, _) => {
            info!(
                event = "kept",
                job,
                folder = name,
                path,
                "left as it is: another version lies there, or none"
            );
            history("kept", None);
        }
        (FinishStep::Receipt, _) => {
            debug!(event = "receipt", job, folder = name, path, duration_ms, "receipt written");
            history("receipt", None);
        }
        (FinishStep::Hook, _) => {
            info!(event = "hook", job, folder = name, path, duration_ms, "told the program");
            history("hook", None);
        }
    }
}

fn tell_failed(
    folder: &Folder,
    record: &Record,
    step: FinishStep,
    tries: u32,
    again: Option<Wall>,
    message: &str,
) {
    let path = shown(&folder.path.join(&record.relative_path));
    let (job, name, step) = (record.id.0, folder.name.as_str(), step.as_str());
    let code = Code::FinishFailed;
    match again.map(crate::text::rfc3339) {
        Some(at) => warn!(
            event = "finish-retry",
            job,
            folder = name,
            path,
            step,
            attempt = tries,
            code = code.as_str(),
            "{step}: {message}; next try at {at}"
        ),
        None => warn!(
            event = "finish-failed",
            job,
            folder = name,
            path,
            step,
            attempt = tries,
            code = code.as_str(),
            "{step}: {message}; given up: {}",
            code.remedy()
        ),
    }
}
