//! The configuration read again while the service runs: checked whole, then put into force, or refused whole.

use std::sync::Arc;

use tokio::sync::Notify;
use tokio::task::spawn_blocking;
use tracing::{error, info, warn};

use super::{clients, folders, page};
use crate::config::{Config, Fault, Faults, Place};
use crate::logging::Level;
use crate::model::job::Code;

/// How the configuration is read again.
#[derive(Clone)]
pub struct Reload {
    /// Reads it from where it was read first.
    pub load: Arc<dyn Fn() -> Result<Config, Faults> + Send + Sync>,
    /// What is logged, where that can be changed.
    pub level: Option<Level>,
    /// Told when somebody wants that.
    pub(super) wanted: Arc<Notify>,
}

impl Reload {
    /// With nobody wanting it yet.
    pub fn new(load: impl Fn() -> Result<Config, Faults> + Send + Sync + 'static, level: Level) -> Reload {
        Reload { load: Arc::new(load), level: Some(level), wanted: Arc::default() }
    }

    /// Where there is nothing to read again.
    pub fn none() -> Reload {
        let nothing = || Err(Faults(vec![Fault::new(Place::Default, "", "there is no file to read again")]));
        Reload { load: Arc::new(nothing), level: None, wanted: Arc::default() }
    }

    /// The next configuration that can be in force; one that cannot be is told of, and what is in force stays.
    pub(super) async fn next(&self, now: &Config) -> Config {
        loop {
            self.wanted.notified().await;
            let (load, old) = (self.load.clone(), now.clone());
            // It may hang where a file server does; the service goes on meanwhile.
            let read = spawn_blocking(move || {
                let new = load()?;
                check(&old, &new).map(|()| new)
            });
            let read = match read.await {
                // Where the page is now nobody else can be.
                Ok(Ok(new)) if new.status.listen != now.status.listen => {
                    match page::open(&new.status).await {
                        Ok(_) => Ok(Ok(new)),
                        Err(fault) => Ok(Err(Faults(vec![Fault::new(
                            Place::Default,
                            "status.listen",
                            fault.to_string(),
                        )]))),
                    }
                }
                read => read,
            };
            match read {
                Ok(Ok(new)) => {
                    for warning in &new.warnings {
                        warn!(event = "config-warning", "{warning}");
                    }
                    // It was seen to parse.
                    let _ = self.level.as_ref().map(|level| level.set(&new.log));
                    info!(
                        event = "reloading",
                        "the new configuration is right: Parts in flight may end, then it is in force"
                    );
                    return new;
                }
                Ok(Err(Faults(faults))) => {
                    let code = Code::ConfigInvalid.as_str();
                    for fault in faults {
                        error!(event = "reload-failed", code, "{fault}");
                    }
                    error!(event = "reload-failed", code, "what was in force stays in force");
                }
                Err(fault) => error!(event = "reload-failed", code = Code::Internal.as_str(), "{fault}"),
            }
        }
    }
}

/// What a start checks, and what only a start can change.
fn check(old: &Config, new: &Config) -> Result<(), Faults> {
    new.check()?;
    let mut faults = folders::check_hooks(new);
    if old.store.state_dir != new.store.state_dir {
        let message = format!("{} is in use", old.store.state_dir.display());
        let fault = Fault::new(new.store.place.clone(), "store.state_dir", message);
        faults.push(fault.remedy("it changes with a restart only"));
    }
    if let Err(fault) = clients(new) {
        faults.push(Fault::new(
            new.source.clone().map_or(Place::Default, Place::File),
            "",
            fault.to_string(),
        ));
    }
    if faults.is_empty() { Ok(()) } else { Err(Faults(faults)) }
}
