//! Builds the service, spawns it, hears signals, drains. Knows every room and decides nothing about files.
//!
//! - `adopt`: jobs whose account is another server by now, or gone;
//! - `damage`: the end of a service whose store is no ledger any more;
//! - `folders`: what the watching hand and the intake are told of each folder;
//! - `keys`: keys that are read again when their file changes;
//! - `page`: where the page is served, if the configuration says so;
//! - `once`: the lines of `run --once`;
//! - `reload`: the configuration read again;
//! - `systemd`: what PID 1 is told;
//! - `tasks`: the tasks whose end is the service's;
//! - `upkeep`: forgets old history;
//! - `watchdog`: sees what does not go on, and says which await it is.

mod adopt;
mod damage;
pub mod folders;
mod footprint;
mod keys;
mod once;
mod page;
mod reload;
mod systemd;
mod tasks;
mod upkeep;
mod watchdog;

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, mpsc};
use tokio::task::{JoinError, JoinHandle};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use self::once::Outcome;
pub use self::reload::Reload;
use self::tasks::{Tasks, ended_early};
use crate::accounts::{self, AccountError};
use crate::api::{Client, Limiter};
use crate::clock::{self, Clock};
use crate::config::{self, Config};
use crate::engine::asks::Asks;
use crate::engine::finish::{self, Finisher};
use crate::engine::intake::Existing;
use crate::engine::operations::{DRAIN, Operations};
use crate::engine::why::{self, Inquiry, Running};
use crate::engine::{self, End, Engine, MESSAGES};
use crate::model::board::{Board, Event, LANE, Limits};
use crate::model::examine::Examination;
use crate::model::job::{AccountName, Code};
use crate::model::plan::PartSize;
use crate::model::policy::Retry;
use crate::status;
use crate::store::{BootId, FolderRow, Health, Store, StoreError, spawn_writer};
use crate::watch::ignore::PatternError;

/// How long the last commit may take when the service ends.
const LAST_COMMIT: Duration = Duration::from_secs(10);

/// How long a start waits until what the group left is among the requests. Only a flood takes longer.
const FIRST_ASKS: Duration = Duration::from_secs(5);

/// How long PID 1 may take to hear that the service ends.
const LAST_NOTICE: Duration = Duration::from_secs(1);

/// What the log calls the task that does what is left after the end of jobs.
const FINISHER: &str = "end of jobs";

/// What the log calls the task that prints.
const PRINTER: &str = "list of what ended";

/// How `run` was asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Take what is there, print a line for each job that ends, and end.
    pub once: bool,
    /// Then for so long at most.
    pub timeout: Option<Duration>,
}

/// Why the service did not start, or ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration is wrong: one line each.
    #[error(transparent)]
    Config(#[from] config::Faults),
    /// An account cannot be used.
    #[error(transparent)]
    Account(#[from] AccountError),
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store is damaged, or gone.
    #[error(transparent)]
    Damaged(#[from] damage::Damaged),
    /// The page cannot be served where the configuration says.
    #[error(
        "cannot listen on {listen} ([status] listen): {source}; end what listens there, or say another place"
    )]
    Listen {
        /// Where.
        listen: config::Listen,
        /// The system's words.
        source: std::io::Error,
    },
    /// Something of the system failed.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: String,
        /// The system's words.
        source: std::io::Error,
    },
    /// A pattern of a folder is none.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// A task that lives as long as the service ended.
    #[error("the {0} ended by itself; the service cannot go on without it")]
    Task(&'static str),
}

impl Error {
    /// The exit code: 78 where a new start changes nothing.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Config(_) | Error::Account(_) | Error::Pattern(_) | Error::Damaged(_) => 78,
            // A port below 1024, say. Another program may end, and an address may come up: tried again.
            Error::Listen { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied => 78,
            Error::Listen { .. } => 75,
            Error::Store(StoreError::Newer { .. } | StoreError::Unwritable { .. }) => 78,
            Error::Store(fault) if fault.is_damage() => 78,
            // Whoever holds it may end, and a disk may get room, or be mounted for writing.
            Error::Store(fault) if fault.code().is_some_and(|code| code != Code::Internal) => 75,
            Error::Store(_) | Error::System { .. } | Error::Task(_) => 1,
        }
    }
}

/// Runs the service in the foreground until a signal, or until what was there is done. Returns the exit code.
///
/// # Errors
/// See [`Error`].
pub async fn run(mut config: Config, options: Options, reload: Reload) -> Result<u8, Error> {
    config.check()?;
    let unusable = folders::check_hooks(&config);
    if !unusable.is_empty() {
        return Err(config::Faults(unusable).into());
    }
    for warning in &config.warnings {
        warn!(event = "config-warning", "{warning}");
    }
    // First of all, so that no signal finds the default action, which forgets what is in flight.
    let stop = CancellationToken::new();
    let mut ears = Tasks::default();
    ears.spawn("signals", hear_signals(stop.clone(), reload.wanted.clone())?);
    let clock = Clock::System;
    let state_dir = config.store.state_dir.clone();
    let (store, lock) = match Store::open(&state_dir, BootId(clock::boot_id())).await {
        Ok(opened) => opened,
        Err(fault) => return Err(damage::at_start(&state_dir, fault, &clock)),
    };
    let ended = loop {
        // To put a new configuration into force is to start again with all that is known: what starts finds half-sent Uploads,
        // and folders, as they are.
        let round =
            Box::pin(serve(&config, options, stop.child_token(), &mut ears, &store, clock.clone(), &reload));
        match round.await {
            Ok(Round::Reloaded(new)) if !stop.is_cancelled() => config = *new,
            Ok(Round::Reloaded(_)) => break Ok(0),
            Ok(Round::Ended(code)) => break Ok(code),
            Err(fault) => break Err(fault),
        }
    };
    ears.end().await;
    let ended = match ended {
        Err(Error::Store(fault)) if fault.is_damage() => {
            Err(damage::while_running(&state_dir, &store, &lock, fault, &clock).await)
        }
        other => other,
    };
    store.close().await;
    ended
}

/// How the service ended with one configuration.
enum Round {
    /// For good, with this exit code.
    Ended(u8),
    /// This one is to be in force from now on.
    Reloaded(Box<Config>),
}

/// The service on an open store, until it is told to end, cannot go on, or has another configuration.
async fn serve(
    config: &Config,
    options: Options,
    stop: CancellationToken,
    ears: &mut Tasks,
    store: &Store,
    clock: Clock,
    reload: &Reload,
) -> Result<Round, Error> {
    let clients = clients(config)?;
    adopt::adopt(store, config, &clock).await?;
    let names: Vec<(PathBuf, String)> =
        config.folders.iter().map(|folder| (folder.path.clone(), folder.name.clone())).collect();
    let rows = store.sync_folders(&names, clock.now().wall).await?;
    adopt::retarget(store, config, &rows).await?;
    let open = store.load_open(clock.now()).await?;
    let last = store.last_job().await?;
    let socket = status::bind(&config.store.state_dir).map_err(|source| Error::System {
        what: format!("cannot make the socket {}", status::SOCKET),
        source,
    })?;
    let page = page::open(&config.status).await?;

    let (writer, mut writer_task) = spawn_writer(store);
    let (sender, messages) = mpsc::channel(MESSAGES);
    let (ended, endings) = mpsc::unbounded_channel();
    let ended = options.once.then_some(ended);
    // Watching ends after the engine does: until then its end would be a fault.
    let unwatch = CancellationToken::new();
    let folders = rows.iter().map(|row| (row.id, row.path.clone())).collect();
    let links = rows.iter().zip(&config.folders).map(|(row, folder)| (row.id, folders::links_of(folder)));
    let operations = Operations::new(clients.clone(), folders, clock.clone(), store.clone(), writer.clone());
    let sharing = rows.iter().zip(&config.folders).filter(|(_, folder)| folder.dedupe).map(|(row, _)| row.id);
    let operations = operations.following(links.collect()).sharing(sharing.collect());
    let operations = Arc::new(operations);
    let vitals = operations.vitals().clone();
    let metrics = operations.metrics().clone();
    let finish = folders::finish(config, &rows);
    let places = folders::places(config, &rows)?;
    let (intake, hints, mut watch_task) = folders::watch(
        config, &rows, store, &writer, &sender, &clock, &ended, &unwatch, &finish, &vitals, &metrics,
    )?;
    let finisher = Finisher::new(finish::Parts {
        finish: finish.clone(),
        store: store.clone(),
        writer: writer.clone(),
        clock: clock.clone(),
        hints: hints.clone(),
        vitals: vitals.clone(),
        once: options.once,
    });
    let inquiry = Inquiry {
        store: Some(store.clone()),
        places: Arc::new(places),
        clock: clock.clone(),
        running: Some(Running { engine: sender.clone(), hints: hints.clone() }),
        looks: why::looks(),
    };
    let mut tasks = Tasks::default();
    let (asks, mut asked) =
        Asks::new(&config.store.state_dir, store.clone(), writer.clone(), clock.clone(), &vitals);
    tasks.spawn("asks of the group", asks.run());
    // The engine takes up what was asked before it sends anything: a pause that was asked while no service ran is one.
    let _ = tokio::time::timeout(FIRST_ASKS, asked.wait_for(|all| *all)).await;
    let board = Board::new(limits(config, &rows), seed());
    let caps = store.part_caps().await?;
    let engine = Engine::new(
        engine::Parts {
            board,
            first: vec![
                Event::Began { last },
                Event::PartCaps(caps),
                Event::Folders(paused(config, &rows)),
                Event::Resumed(open),
            ],
            clock: clock.clone(),
            store: store.clone(),
            writer: writer.clone(),
            operations,
            folders: rows.iter().map(|row| (row.id, row.name.clone())).collect(),
            hints,
            finish,
            asked,
            once: ended,
        },
        messages,
        sender.clone(),
    );

    tasks.spawn("intake", intake.run());
    let views = status::Views::new(sender.clone(), vitals.clone(), inquiry, store.clone(), metrics);
    tasks.spawn("status socket", status::serve(socket, views.clone()));
    if let Some((door, token)) = page {
        tasks.spawn("status page", status::web::serve(door, views, token));
    }
    tasks.spawn("notices to systemd", systemd::tell(sender.clone(), stop.clone(), vitals.clone()));
    tasks.spawn("forgetting", upkeep::forget(store.clone(), clock.clone(), config.store.keep_history));
    tasks.spawn("giving back memory", footprint::keep_small());
    tasks.spawn("look at the keys", keys::watch(config.clone(), clients, sender));
    let watched = watchdog::start(watchdog::patience(config), vitals, writer.backlog(), clock.clone());
    tasks.spawn(
        "watchdog",
        watched.map_err(|source| Error::System { what: "no thread for the watchdog".into(), source })?,
    );
    let mut printer = tokio::spawn(once::print(store.clone(), endings));
    let mut engine_task = tokio::spawn(engine.run(stop.clone(), DRAIN));
    let (no_more_ends, last_end) = (stop.child_token(), CancellationToken::new());
    let mut finish_task = tokio::spawn(finisher.run(no_more_ends.clone(), last_end.clone(), DRAIN));
    info!(event = "ready", version = env!("CARGO_PKG_VERSION"), folders = rows.len(), "ready");

    let timeout = async {
        match options.timeout {
            Some(limit) => tokio::time::sleep(limit).await,
            None => std::future::pending().await,
        }
    };
    let (mut timed_out, mut reloaded) = (false, None);
    let engine_ended = |end: Result<End, JoinError>| match end {
        Ok(End::Broken(name)) => Err(tasks::ended(name, None)),
        Ok(end) => Ok(end),
        Err(fault) => Err(tasks::ended("engine", Some(&fault))),
    };
    let result = tokio::select! {
        // What ended because the service does is no fault.
        biased;
        end = &mut engine_task => engine_ended(end),
        fault = tasks.ended() => Err(fault),
        fault = ears.ended() => Err(fault),
        fault = ended_early(&mut writer_task, "writer") => Err(fault),
        fault = ended_early(&mut watch_task, "watching") => Err(fault),
        fault = ended_early(&mut finish_task, FINISHER) => Err(fault),
        // It ends when nobody can tell it of jobs any more: long after, or in a run that prints nothing.
        fault = ended_early(&mut printer, PRINTER), if options.once => Err(fault),
        fault = damage::found(store, writer.health()) => {
            // What is in flight may end: its line in the log is all that will be left of it.
            stop.cancel();
            engine_ended((&mut engine_task).await).and(Err(Error::Store(fault)))
        }
        new = reload.next(config), if !options.once => {
            reloaded = Some(Box::new(new));
            systemd::reloading();
            stop.cancel();
            engine_ended((&mut engine_task).await)
        }
        () = timeout => {
            timed_out = true;
            stop.cancel();
            engine_ended((&mut engine_task).await)
        }
    };
    if reloaded.is_none() {
        // Not for ever: who does not listen must not keep the service from ending.
        let _ = tokio::time::timeout(LAST_NOTICE, systemd::stopping()).await;
    }
    unwatch.cancel();
    let _ = std::fs::remove_file(config.store.state_dir.join(status::SOCKET));
    // The writer commits what waits and ends when the last that writes has gone.
    tasks.end().await;
    end(engine_task).await;
    // Where the service ends by itself, nobody has told it.
    no_more_ends.cancel();
    last_end.cancel();
    if !finish_task.is_finished() {
        let _ = tokio::time::timeout(DRAIN, &mut finish_task).await;
    }
    end(watch_task).await;
    let health = writer.health();
    drop(writer);
    let patience =
        if matches!(*health.borrow(), Health::Damaged { .. }) { Duration::ZERO } else { LAST_COMMIT };
    let unwritten =
        !writer_task.is_finished() && tokio::time::timeout(patience, &mut writer_task).await.is_err();
    if unwritten {
        let (code, why) = match &*health.borrow() {
            Health::Up => (Code::StoreIo, "the last commit did not end in time".to_owned()),
            Health::Down { code, message, .. } => (*code, message.clone()),
            Health::Damaged { message } => (Code::StoreCorrupt, message.clone()),
        };
        error!(
            event = "failed",
            code = code.as_str(),
            "the last commits could not be made: {why}; what they held is found again at the next start"
        );
        // Whoever waits for it would wait for ever.
        end(writer_task).await;
    }
    // Joined already if it is what ended the service.
    let outcome =
        if printer.is_finished() && result.is_err() { Ok(Outcome::default()) } else { printer.await };
    let end = result?;
    let outcome = outcome.map_err(|fault| tasks::ended(PRINTER, Some(&fault)))?;
    if let Some(new) = reloaded {
        return Ok(Round::Reloaded(new));
    }
    Ok(Round::Ended(match end {
        End::Stopped if timed_out => 75,
        End::Stopped if options.once => 75,
        // The next run finds out what came of it.
        _ if options.once && unwritten => 75,
        End::Stopped => 0,
        End::Done if outcome.failed => 1,
        End::Done => 0,
        End::Waiting => 75,
        End::Broken(_) => 1,
    }))
}

/// Ends a task, and waits until what it held is dropped. One that has ended may have been joined already.
async fn end<T>(task: JoinHandle<T>) {
    if !task.is_finished() {
        task.abort();
        let _ = task.await;
    }
}

fn hear_signals(
    stop: CancellationToken,
    reload: Arc<Notify>,
) -> Result<impl Future<Output = ()> + Send + use<>, Error> {
    let system = |source| Error::System { what: "cannot hear signals".into(), source };
    let mut terminate = signal(SignalKind::terminate()).map_err(system)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(system)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(system)?;
    Ok(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                _ = hangup.recv() => {
                    reload.notify_one();
                    continue;
                }
            }
            if stop.is_cancelled() {
                warn!(event = "stopping", "a second signal: ending at once; what is in flight is sent again");
                std::process::exit(1);
            }
            // Before it is said, so that who reads it can rely on it.
            stop.cancel();
            info!(event = "stopping", "Parts in flight may end, for {} s at most", DRAIN.as_secs());
            // Not awaited: the next signal counts.
            drop(systemd::stopping());
        }
    })
}

/// Clients of the accounts that a folder uses, all under one limit.
fn clients(config: &Config) -> Result<HashMap<AccountName, Client>, AccountError> {
    let used =
        |account: &&config::Account| config.folders.iter().any(|folder| folder.account == account.name);
    let limiter = config.upload.bandwidth_limit.map(|rate| Limiter::new(rate, clock::monotonic));
    let client = |account| Ok(accounts::client_of(account)?.limited_by(limiter.clone()));
    config
        .accounts
        .values()
        .filter(used)
        .map(|account| Ok((AccountName(account.name.clone()), client(account)?)))
        .collect()
}

fn limits(config: &Config, rows: &[FolderRow]) -> Limits {
    let used =
        |account: &&config::Account| config.folders.iter().any(|folder| folder.account == account.name);
    let accounts = config.accounts.values().filter(used);
    Limits {
        parallel_parts: config.upload.parallel_parts,
        bandwidth_limit: config.upload.bandwidth_limit,
        lane: LANE,
        part_size: match config.upload.part_size {
            config::PartSize::Auto => PartSize::Auto,
            config::PartSize::Bytes(bytes) => PartSize::Fixed(bytes),
        },
        checksum: config.upload.checksum,
        complete_timeout: accounts.clone().map(|account| account.complete_timeout).max().unwrap_or_default(),
        retry: Retry {
            first_delay: config.retry.first_delay,
            max_delay: config.retry.max_delay,
            give_up_after: config.retry.give_up_after,
        },
        accounts: accounts
            .map(|account| (AccountName(account.name.clone()), account.base_url.clone()))
            .collect(),
        examine: rows
            .iter()
            .zip(&config.folders)
            .map(|(row, folder)| (row.id, folders::examination(folder)))
            .filter(|(_, examination)| *examination != Examination::default())
            .collect(),
    }
}

/// The folders that begin paused: those that were, and those of which it is not known yet how much lies there.
fn paused(config: &Config, rows: &[FolderRow]) -> Vec<(crate::model::job::FolderId, bool)> {
    let both = rows.iter().zip(&config.folders);
    both.map(|(row, folder)| (row.id, row.paused || folders::existing(folder, row) == Existing::Guard))
        .collect()
}

/// For the jitter: differs from process to process, so that services that failed together do not come back together.
fn seed() -> u64 {
    std::hash::RandomState::new().build_hasher().finish()
}
