//! Keys that are read again when their file changes, so that a new key needs no restart.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use tokio::sync::mpsc;
use tracing::{info, warn};

use crate::accounts;
use crate::api::Client;
use crate::config::Config;
use crate::engine::Message;
use crate::model::board::Event;
use crate::model::job::{AccountName, Code};

/// How often key files are looked at.
const EVERY: Duration = Duration::from_secs(5);

/// What tells one version of a key file from another.
type Version = Option<(u64, u64, i64, i64)>;

/// Looks at the key files until the service ends, if there are any.
pub(super) async fn watch(
    config: Config,
    clients: HashMap<AccountName, Client>,
    engine: mpsc::Sender<Message>,
) {
    let mut accounts: Vec<_> = clients
        .into_iter()
        .filter_map(|(name, client)| {
            let account = config.accounts.get(&name.0)?.clone();
            let path = account.key.path()?.to_owned();
            let version = version_of(&path);
            Some((name, client, account, path, version))
        })
        .collect();
    loop {
        tokio::time::sleep(EVERY).await;
        for (name, client, account, path, seen) in &mut accounts {
            let version = version_of(path);
            if version == *seen || version.is_none() {
                continue;
            }
            *seen = version;
            let set = accounts::key_of(account)
                .map_err(|fault| fault.to_string())
                .and_then(|key| client.set_key(key).map_err(|fault| fault.to_string()));
            match set {
                Ok(()) => {
                    info!(event = "key-read", account = name.0, "the key was read again");
                    let _ = engine.send(Message::Event(Event::Renewed(name.clone()))).await;
                }
                Err(fault) => {
                    let code = Code::KeyMissing.as_str();
                    warn!(
                        event = "key-unreadable",
                        account = name.0,
                        code,
                        "the old key stays in use: {fault}"
                    );
                }
            }
        }
    }
}

fn version_of(path: &Path) -> Version {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.ino(), metadata.size(), metadata.mtime(), metadata.mtime_nsec()))
}
