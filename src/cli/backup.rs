//! `backup`: a consistent copy of the store, also while the service runs.

use std::path::PathBuf;

use clap::Args;

use super::failure::Failure;
use super::output::Output;
use super::{Common, at};
use crate::text::{shown, size};

/// What `backup` takes.
#[derive(Debug, Args)]
#[command(after_long_help = "\
The copy is a database of its own, as the store was at one moment. To go back to it: end the service, put it in the place of
upspool.db in the state directory, and `upspool rebuild`; all folders begin paused then, since files that were sent after it was
made are not in it. A copy of the whole state directory of a service that has ended is taken as it is.

Examples:
  upspool backup /var/backups/upspool-$(date +%F).db")]
pub struct Arguments {
    /// The copy; nothing may lie there
    file: PathBuf,
}

pub(super) async fn run(common: &Common, arguments: &Arguments) -> Result<u8, Failure> {
    let to = std::path::absolute(&arguments.file)
        .map_err(|error| Failure::said(format!("{}: {error}", shown(&arguments.file))))?;
    if to.exists() {
        return Err(Failure::said(format!(
            "{} lies there already; name another file, or remove it",
            shown(&to)
        )));
    }
    let store = at::store(&at::state_dir(common)?).await?;
    store.backup(&to).await?;
    let bytes = std::fs::metadata(&to).map_or(0, |found| found.len());
    let mut output = Output::new();
    output.line(format_args!("copied to {} ({})", shown(&to), size(bytes)))?;
    output.flush()?;
    Ok(0)
}
