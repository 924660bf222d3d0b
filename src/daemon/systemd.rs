//! What PID 1 is told, where there is one that listens: READY, STATUS, WATCHDOG, STOPPING.

use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio_util::sync::CancellationToken;

use crate::engine::Message;
use crate::engine::live::Live;
use crate::engine::vitals::Vitals;
use crate::status;

/// How often STATUS is brought up to date.
const STATUS_EVERY: Duration = Duration::from_secs(5);

/// Says READY as soon as the engine answers, and from then on how it is. The watchdog is fed only with an answer: an
/// engine that hangs is restarted.
pub(super) async fn tell(engine: mpsc::Sender<Message>, stop: CancellationToken, vitals: Arc<Vitals>) {
    let watchdog = sd_notify::watchdog_enabled();
    let every = watchdog.map_or(STATUS_EVERY, |limit| (limit / 3).min(STATUS_EVERY));
    let (mut ready, mut said) = (false, String::new());
    loop {
        let mut states = Vec::new();
        let line = match status::inspect(&engine).await {
            Some(live) => {
                if !std::mem::replace(&mut ready, true) {
                    states.push(NotifyState::Ready);
                }
                if watchdog.is_some() {
                    states.push(NotifyState::Watchdog);
                }
                line(&live)
            }
            // No WATCHDOG: a service whose engine does not answer is better started again. Until then, why.
            None => vitals.stuck().first().map_or_else(|| said.clone(), |stuck| format!("STUCK: {stuck}")),
        };
        let status = (line != said).then(|| line.clone());
        said = line;
        // It ends without an answer only when the runtime does.
        let _ = send(states, status).await;
        // While Parts in flight end, the watchdog still wants to be fed.
        let wait = if stop.is_cancelled() { every.min(Duration::from_secs(1)) } else { every };
        tokio::time::sleep(wait).await;
    }
}

/// Says that the end has begun. Said at once; what is returned ends when it was heard.
pub(super) fn stopping() -> JoinHandle<()> {
    send(vec![NotifyState::Stopping], Some("Parts in flight may end".into()))
}

/// On a thread of its own: the call blocks for as long as nobody reads at the other end.
fn send(states: Vec<NotifyState<'static>>, status: Option<String>) -> JoinHandle<()> {
    spawn_blocking(move || {
        let status = status.as_deref();
        // Of what is given here nothing borrows; only the line does.
        let mut all: Vec<NotifyState<'_>> = states;
        all.extend(status.map(NotifyState::Status));
        if !all.is_empty() {
            // Nobody listens outside systemd.
            let _ = sd_notify::notify(&all);
        }
    })
}

/// Says that a new configuration is being put into force; READY says that it is.
pub(super) fn reloading() {
    let mut states = vec![NotifyState::Reloading];
    states.extend(NotifyState::monotonic_usec_now().ok());
    drop(send(states, Some("a new configuration: Parts in flight may end".into())));
}

/// Says why the service ended and does not come back by itself.
pub(super) fn ended(why: &str) {
    let _ = sd_notify::notify(&[NotifyState::Status(why)]);
}

fn line(live: &Live) -> String {
    if live.stopping {
        return "Parts in flight may end".into();
    }
    if let Some(stuck) = live.stuck.first() {
        return format!("STUCK: {}: {} for {} s", stuck.what, stuck.at, stuck.seconds);
    }
    if let Some(hold) = live.holds.first() {
        return format!(
            "ON HOLD since {} for the {}: {}; {}",
            hold.since, hold.scope, hold.code, hold.remedy
        );
    }
    let missing = live.folders.iter().filter(|folder| folder.state == "missing").count();
    let paused = live.folders.iter().filter(|folder| folder.paused).count();
    let mut line = format!("{} files under way, {} settling", live.active.len(), live.changing_count);
    for (count, word) in [(missing, "missing"), (paused, "paused")] {
        if count > 0 {
            line.push_str(&format!(", {count} of {} folders {word}", live.folders.len()));
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::live::{LiveFolder, LiveHold, LiveStuck};

    #[test]
    fn the_line_says_first_what_stops_sending() {
        let mut live = Live::default();
        assert_eq!(line(&live), "0 files under way, 0 settling");
        live.folders = vec![LiveFolder { state: "missing".into(), ..LiveFolder::default() }];
        assert_eq!(line(&live), "0 files under way, 0 settling, 1 of 1 folders missing");
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
            line(&live),
            "ON HOLD since 2026-11-22T17:00:00.000Z for the account default: key-rejected; check the key"
        );
        live.stuck =
            vec![LiveStuck { what: "Part 3 of job 12".into(), at: "reading the file".into(), seconds: 301 }];
        assert_eq!(line(&live), "STUCK: Part 3 of job 12: reading the file for 301 s");
    }
}
