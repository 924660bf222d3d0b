//! An Upload and a File ID are worth something only with the server and account that made them. What the configuration
//! now says of an account may be another server, or nothing.

use tracing::warn;

use crate::clock::Clock;
use crate::config::Config;
use crate::model::job::{AccountName, Code, Reason, Stage, Step, Why};
use crate::store::{Context, FolderRow, Result, Store, StoreError, Write, WriteError};

/// Brings the open and queued jobs of a store into line with the accounts of `config`, before anything is sent.
///
/// An Upload of another server is given up, and the file queued again; what was being completed there is `unresolved`,
/// since nobody can ask that server any more.
///
/// # Errors
/// If the store fails.
pub(super) async fn adopt(store: &Store, config: &Config, clock: &Clock) -> Result<()> {
    for job in store.load_open(clock.now()).await? {
        let Some(record) = store.record(job.id).await? else { continue };
        let AccountName(name) = &job.subject.account;
        let account = config.accounts.get(name);
        let used = config.folders.iter().any(|folder| folder.account == *name);
        let watched = config.folders.iter().any(|folder| folder.path == record.folder_path);
        let same_server = used && account.is_some_and(|account| account.base_url == record.base_url);
        let words = if same_server {
            "its folder is not in the configuration any more".to_owned()
        } else {
            format!("account {name} is not the one of {} any more", record.base_url)
        };
        let reason = Reason::local(Code::ConfigInvalid, words);
        let step = match &job.stage {
            Stage::Completing(..) if !same_server => {
                Step::Unresolved { reason: reason.clone(), candidates: Vec::new() }
            }
            // Only the answer is wanted of it, and that needs no file.
            Stage::Completing(..) => continue,
            Stage::Sending(_) if !(same_server && watched) => {
                Step::Restarted { why: Why::Other, reason: reason.clone() }
            }
            _ => continue,
        };
        warn!(
            event = step.name(),
            job = job.id.0,
            account = name,
            code = reason.code.as_str(),
            "{}",
            reason.message
        );
        let write = Write::Step {
            job: job.id,
            from: job.stage.state(),
            step: Box::new(step),
            now: clock.now(),
            context: Box::new(Context::default()),
        };
        store.write(&write).await.map_err(|fault| match fault {
            WriteError::Store { code, message } => StoreError::Broken { code, message },
            other => StoreError::Broken { code: Code::Internal, message: other.to_string() },
        })?;
    }
    Ok(())
}

/// Points what is only queued to where its folder's account points now.
///
/// # Errors
/// If the store fails.
pub(super) async fn retarget(store: &Store, config: &Config, rows: &[FolderRow]) -> Result<()> {
    for (row, folder) in rows.iter().zip(&config.folders) {
        let Some(account) = config.accounts.get(&folder.account) else { continue };
        let name = AccountName(account.name.clone());
        store.retarget(row.id, &name, &account.base_url, account.project.as_deref()).await?;
    }
    Ok(())
}
