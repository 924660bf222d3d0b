//! The watchdog on a thread of its own: it looks at where everything is, whatever the tasks of the service do, and says
//! what does not go on. What it sees is told; only the engine's own silence ends the service, by way of systemd, which
//! then hears no `WATCHDOG=1` any more.

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;
use tracing::{error, info};

use crate::clock::Clock;
use crate::config::Config;
use crate::engine::vitals::Vitals;
use crate::model::watchdog::{Await, Look, Patience, Sight, Watchdog};
use crate::store::Backlog;
use crate::text::shown_bytes;

/// The least time between two looks.
const OFTEN: Duration = Duration::from_millis(250);

/// The longest.
const SELDOM: Duration = Duration::from_secs(5);

/// Stands beside the numbers that places are given.
const WRITER: u64 = u64::MAX - 1;

/// The longest timeouts of the accounts that are in force.
pub(super) fn patience(config: &Config) -> Patience {
    let longest = |of: fn(&crate::config::Account) -> Duration| {
        config.accounts.values().map(of).max().unwrap_or(Duration::from_secs(60))
    };
    Patience {
        connect: longest(|account| account.connect_timeout),
        stall: longest(|account| account.stall_timeout),
        answer: longest(|account| account.answer_timeout),
        complete: longest(|account| account.complete_timeout),
    }
}

/// Starts it. What is returned ends if the thread does, and ends the thread when it is dropped.
///
/// # Errors
/// If there are no threads.
pub(super) fn start(
    patience: Patience,
    vitals: Arc<Vitals>,
    backlog: Backlog,
    clock: Clock,
) -> std::io::Result<impl Future<Output = ()> + Send + 'static> {
    let (stop, stopped) = channel::<()>();
    let (alive, ended) = oneshot::channel::<()>();
    let every = (patience.stall / 4).clamp(OFTEN, SELDOM);
    let watch = move || {
        // Dropped when the thread ends, in whatever way.
        let _alive = alive;
        let mut watchdog = Watchdog::new(patience, every);
        while stopped.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
            let look = watchdog.look(sights(&vitals, &backlog), clock.now().boot);
            say(&look);
            vitals.set_stuck(look.stuck);
        }
    };
    thread::Builder::new().name("watchdog".into()).spawn(watch)?;
    Ok(attend(stop, ended))
}

async fn attend(stop: Sender<()>, ended: oneshot::Receiver<()>) {
    let _stop = stop;
    // Nothing is ever sent: that the other end is gone is the answer.
    let _ = ended.await;
}

fn sights(vitals: &Vitals, backlog: &Backlog) -> Vec<Sight> {
    let mut sights = vitals.sights();
    if backlog.is_held() {
        // A store that cannot be written is a hold, which says so itself.
        sights.retain(|sight| sight.at != Await::Commit);
    } else if let Some(mark) = backlog.uncommitted() {
        sights.push(Sight { id: WRITER, what: "the writer".into(), at: Await::Commit, mark });
    }
    sights
}

fn say(look: &Look) {
    for (stuck, count, times) in &look.began {
        let others = if *count > 1 { format!(", and {} more", count - 1) } else { String::new() };
        let again = if *times > 1 { format!("; this happens for the {times}. time") } else { String::new() };
        error!(
            event = "stuck",
            what = shown_bytes(stuck.what.as_bytes()),
            at = %stuck.at,
            count,
            times,
            "{stuck}{others}{again}"
        );
    }
    for (stuck, looks) in &look.ended {
        info!(
            event = "unstuck",
            what = shown_bytes(stuck.what.as_bytes()),
            at = %stuck.at,
            duration_ms = u64::try_from(stuck.lasted.as_millis()).unwrap_or(u64::MAX),
            looks,
            "goes on, after {} s and more: {}",
            stuck.lasted.as_secs(),
            stuck.at
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::time::{Boot, Now, Wall};
    use crate::store::{BootId, Store, Write, spawn_writer};

    #[tokio::test]
    async fn a_writer_that_commits_is_not_seen_and_one_that_does_not_is() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _lock) = Store::open(dir.path(), BootId("a".into())).await.unwrap();
        let (writer, _task) = spawn_writer(&store);
        let (vitals, backlog) = (Vitals::default(), writer.backlog());
        writer.flush().await.unwrap();
        assert_eq!(sights(&vitals, &backlog), []);
        writer.send(Write::Flush);
        let seen = sights(&vitals, &backlog);
        assert_eq!(seen.len(), 1, "nothing was awaited between, so it is not committed yet");
        assert_eq!((seen[0].what.as_str(), seen[0].at), ("the writer", Await::Commit));
        writer.flush().await.unwrap();
        assert_eq!(sights(&vitals, &backlog), []);
    }

    #[tokio::test]
    async fn the_thread_ends_with_the_service_and_its_end_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _lock) = Store::open(dir.path(), BootId("a".into())).await.unwrap();
        let (writer, _task) = spawn_writer(&store);
        let second = Duration::from_secs(1);
        let patience = Patience { connect: second, stall: second, answer: second, complete: second };
        let vitals = Arc::new(Vitals::default());
        let clock = Clock::manual(Now { wall: Wall(0), boot: Boot(0) });
        let (stop, ended) = (channel::<()>(), oneshot::channel::<()>());
        let mut attended = Box::pin(attend(stop.0, ended.1));
        assert!(futures_util::poll!(&mut attended).is_pending());
        drop(ended.0);
        attended.await;
        assert!(stop.1.recv().is_err(), "the thread is told to end");
        let watched = start(patience, vitals.clone(), writer.backlog(), clock).unwrap();
        drop(watched);
        while Arc::strong_count(&vitals) > 1 {
            tokio::task::yield_now().await;
        }
    }
}
