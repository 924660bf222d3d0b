//! The end of a service whose store is no ledger any more: what is there is set aside, and a person decides.

use std::path::{Path, PathBuf};

use tokio::sync::watch;

use super::{Error, systemd};
use crate::clock::Clock;
use crate::model::job::Code;
use crate::store::{self, Health, Lock, Store, StoreError};

/// The store is damaged, or gone, and where what is left of it lies.
#[derive(Debug)]
pub struct Damaged {
    fault: StoreError,
    aside: Option<PathBuf>,
    /// Why it could not be set aside.
    kept: Option<StoreError>,
}

impl std::fmt::Display for Damaged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.fault, &self.aside, &self.kept) {
            (StoreError::Corrupt { path, message }, Some(aside), _) => write!(
                f,
                "{} is damaged ({message}) and was set aside as {}: {}",
                path.display(),
                aside.display(),
                Code::StoreCorrupt.remedy()
            ),
            (fault, _, Some(kept)) => write!(f, "{fault} (it could not be set aside: {kept})"),
            (fault, ..) => fault.fmt(f),
        }
    }
}

impl std::error::Error for Damaged {}

/// Waits until the store is found to be damaged.
pub(super) async fn found(store: &Store, mut health: watch::Receiver<Health>) -> StoreError {
    loop {
        if let Health::Damaged { message } = &*health.borrow_and_update() {
            return StoreError::Corrupt { path: store.path().to_owned(), message: message.clone() };
        }
        if health.changed().await.is_err() {
            // The writer lives as long as the service does.
            return std::future::pending().await;
        }
    }
}

/// The store could not be opened. Sets it aside if it is damaged.
pub(super) fn at_start(state_dir: &Path, fault: StoreError, clock: &Clock) -> Error {
    // One that lacks commits is whole, and what it lacks may be put back.
    if !matches!(fault, StoreError::Corrupt { .. }) {
        return if fault.is_damage() {
            told(Damaged { fault, aside: None, kept: None })
        } else {
            fault.into()
        };
    }
    match Lock::take(state_dir) {
        Ok(lock) => set_aside(state_dir, &lock, fault, clock),
        Err(locked) => locked.into(),
    }
}

/// The store was found to be damaged while it was in use.
pub(super) async fn while_running(
    state_dir: &Path,
    store: &Store,
    lock: &Lock,
    fault: StoreError,
    clock: &Clock,
) -> Error {
    let message = match fault {
        StoreError::Corrupt { message, .. } | StoreError::Broken { message, .. } => message,
        other => other.to_string(),
    };
    let fault = StoreError::Corrupt { path: store.path().to_owned(), message };
    if !store.is_in_place() {
        // What lies there now, if anything, is not what was open.
        let aside = store.rescue(lock, clock.now().wall).await;
        let (aside, kept) = (aside.clone().ok().flatten(), aside.err());
        return told(Damaged { fault, aside, kept });
    }
    store.close().await;
    set_aside(state_dir, lock, fault, clock)
}

fn set_aside(state_dir: &Path, lock: &Lock, fault: StoreError, clock: &Clock) -> Error {
    let (aside, kept) = match store::set_aside(state_dir, lock, clock.now().wall) {
        Ok(aside) => (aside, None),
        Err(kept) => (None, Some(kept)),
    };
    told(Damaged { fault, aside, kept })
}

/// PID 1 keeps the last line for whoever asks why the service is not there.
fn told(damaged: Damaged) -> Error {
    systemd::ended(&format!("{}: {damaged}", Code::StoreCorrupt));
    damaged.into()
}
