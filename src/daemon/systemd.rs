//! What PID 1 is told, where there is one that listens: READY, STATUS, WATCHDOG, STOPPING.

use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio_util::sync::CancellationToken;

use crate::engine::Message;
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
                live.summary()
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
    send(vec![NotifyState::Stopping], Some("stopping, Parts in flight may end".into()))
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
