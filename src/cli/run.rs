//! `run`: the service itself.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::failure::Failure;
use super::{Common, at};
use crate::daemon::{self, Options, Reload};
use crate::logging;

/// What `run` takes.
#[derive(Debug, Args)]
#[command(after_long_help = "\
SIGTERM and SIGINT end it in order: what is open is recorded and goes on at the next start; a second
one ends it at once. SIGHUP reads the configuration again: it is checked whole and put into force, or refused whole; what is open
goes on. The state directory and the format of the log change with a restart only. A key file is read again when it changes.

Examples:
  upspool run                                           as /etc/upspool/upspool.toml says
  upspool run --watch ~/drop --purpose user_data        without a configuration file; the key is in $OPENAI_API_KEY
  upspool run --once --timeout 30m                      what lies there now, for cron and scripts

With --once the exit code is 0 if all is stored, 1 if something is not, 75 if it timed out or a person is needed.")]
pub struct Arguments {
    /// Upload what is there, print one line for each job that ends, and end
    #[arg(long)]
    once: bool,
    /// With --once: end after this time, such as 30m, whatever is left
    #[arg(long, requires = "once", value_name = "TIME", value_parser = humantime::parse_duration)]
    timeout: Option<Duration>,
    /// Watch this directory instead of the configuration's folders
    #[arg(long, requires = "purpose", value_name = "DIR")]
    watch: Option<PathBuf>,
    /// With --watch: the purpose of its files: assistants, batch, fine-tune, vision, user_data, evals
    #[arg(long, requires = "watch", value_name = "PURPOSE")]
    purpose: Option<String>,
}

pub(super) async fn run(common: &Common, arguments: Arguments) -> Result<u8, Failure> {
    let load = at::loader(common, arguments.watch.zip(arguments.purpose));
    let config = load()?;
    let level = logging::start(&config.log)
        .map_err(|error| Failure::said(format!("no log can be written: {error}")))?;
    let options = Options { once: arguments.once, timeout: arguments.timeout };
    Box::pin(daemon::run(config, options, Reload::new(load, level))).await.map_err(Failure::Service)
}
