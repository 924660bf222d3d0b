//! The command line: one file for each command, which reads its arguments, asks the store or the service, and prints.
//!
//! What they share, in the order in which a command meets it: `at` says where the state directory is and opens the
//! store; `target` finds the job or folder that an argument means; `moment` reads times; `asking` leaves a request and
//! waits for its answer; `look` is what a terminal can show, `table` a record for people,
//! `overview` the status, and [`crate::record`] the same for programs; `output` writes it; `failure` is how a command ends otherwise.
//!
//! No command changes a job or touches a watched folder: what is wanted is a request that the service takes up. The one
//! exception is `rebuild`, which makes a new store while no service runs.

mod asking;
mod at;
mod backup;
mod bump;
mod cancel;
mod check;
mod export;
mod failure;
mod follow;
mod list;
mod look;
mod manual;
mod moment;
mod online;
mod output;
mod overview;
mod packaging;
mod pause;
mod prune;
mod rebuild;
mod resolve;
mod resume;
mod retry;
mod run;
mod sandbox;
mod show;
mod status;
mod survey;
mod table;
mod target;
mod wait;
mod why;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

pub use failure::Failure;

/// Drop a file into a folder, get an OpenAI File ID.
#[derive(Debug, Parser)]
#[command(name = "upspool", version, propagate_version = true, max_term_width = 100)]
#[command(after_long_help = "\
Examples:
  upspool run --watch ~/drop --purpose user_data    try it, without a configuration file
  upspool check --online                            before the service starts
  upspool status                                    what is going on
  upspool list --state failed --since 1d            what went wrong since yesterday
  upspool show report.pdf                           everything about one file
  upspool why report.pdf                            why it is not uploaded yet

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 no service runs (status), 75 try again later, 78 the configuration is \
wrong.")]
pub struct Cli {
    /// What goes with every command.
    #[command(flatten)]
    pub common: Common,
    /// What is to be done.
    #[command(subcommand)]
    pub command: Command,
}

/// What goes with every command.
#[derive(Clone, Debug, Default, Args)]
pub struct Common {
    /// The configuration file [default: $UPSPOOL_CONFIG, $XDG_CONFIG_HOME/upspool/upspool.toml or
    /// /etc/upspool/upspool.toml, the first that exists]
    #[arg(long, global = true, help_heading = "With every command", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The directory of the queue and the ledger, whatever the configuration says
    #[arg(long, global = true, help_heading = "With every command", value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
}

/// A command.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Watch the folders and upload what is dropped into them, in the foreground
    Run(run::Arguments),
    /// Read the configuration as `run` would and say what is in force
    Check(check::Arguments),
    /// What the service is doing, folder by folder
    Status(status::Arguments),
    /// Jobs, newest first
    List(list::Arguments),
    /// Everything about one file
    Show(show::Arguments),
    /// Why a file is not uploaded, or that it is
    Why(why::Arguments),
    /// Put failed, cancelled or skipped jobs back into the queue
    Retry(retry::Arguments),
    /// Stop jobs and cancel their Uploads
    Cancel(cancel::Arguments),
    /// Let jobs be the next to be opened
    Bump(bump::Arguments),
    /// Say which File an unresolved job became, or that it became none
    Resolve(resolve::Arguments),
    /// Stop sending, from one folder or from all
    Pause(pause::Arguments),
    /// Go on sending, and try at once whatever is on hold
    Resume(resume::Arguments),
    /// Wait until files, or all that is there, have ended
    Wait(wait::Arguments),
    /// Print the ledger for other programs
    Export(export::Arguments),
    /// Forget jobs that ended long ago and whose files are gone
    Prune(prune::Arguments),
    /// Copy the store, also while the service runs
    Backup(backup::Arguments),
    /// Make a new store in place of a damaged one, with all folders paused
    Rebuild(rebuild::Arguments),
    /// Print the completions of a shell
    Completions(packaging::Completions),
    /// Print a manual page, or write all of them
    Man(packaging::Manual),
}

impl Cli {
    /// Whether the command is the service itself, which wants more than one thread.
    pub fn is_service(&self) -> bool {
        matches!(self.command, Command::Run(_))
    }

    /// Does it. The exit code, where that is no failure.
    ///
    /// # Errors
    /// [`Failure`] says what to print and which code to end with.
    pub async fn execute(self) -> Result<u8, Failure> {
        let common = &self.common;
        match self.command {
            Command::Run(arguments) => run::run(common, arguments).await,
            Command::Check(arguments) => check::run(common, &arguments).await,
            Command::Status(arguments) => status::run(common, &arguments).await,
            Command::List(arguments) => list::run(common, &arguments).await,
            Command::Show(arguments) => show::run(common, &arguments).await,
            Command::Why(arguments) => why::run(common, &arguments).await,
            Command::Retry(arguments) => retry::run(common, &arguments).await,
            Command::Cancel(arguments) => cancel::run(common, &arguments).await,
            Command::Bump(arguments) => bump::run(common, &arguments).await,
            Command::Resolve(arguments) => resolve::run(common, &arguments).await,
            Command::Pause(arguments) => pause::run(common, &arguments).await,
            Command::Resume(arguments) => resume::run(common, &arguments).await,
            Command::Wait(arguments) => wait::run(common, &arguments).await,
            Command::Export(arguments) => export::run(common, &arguments).await,
            Command::Prune(arguments) => prune::run(common, &arguments).await,
            Command::Backup(arguments) => backup::run(common, &arguments).await,
            Command::Rebuild(arguments) => rebuild::run(common, &arguments).await,
            Command::Completions(arguments) => packaging::completions(&arguments),
            Command::Man(arguments) => packaging::manual(&arguments),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_in_itself_consistent() {
        Cli::command().debug_assert();
    }
}
