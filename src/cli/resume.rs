//! `resume`: Goes on sending.

use std::ffi::OsString;

use clap::Args;

use super::failure::Failure;
use super::{Common, asking};
use crate::engine::requests::kind;

/// What `resume` takes.
#[derive(Debug, Args)]
#[command(after_long_help = "\
What is on hold, for a rejected key or a network that is down, is tried again at once.

Examples:
  upspool resume
  upspool resume --folder batch")]
pub struct Arguments {
    /// Only this folder, by its name or path; all folders if not said
    #[arg(long, value_name = "FOLDER")]
    folder: Option<OsString>,
}

pub(super) async fn run(common: &Common, arguments: &Arguments) -> Result<u8, Failure> {
    asking::ask_of_folder(common, kind::RESUME, arguments.folder.as_ref()).await
}
