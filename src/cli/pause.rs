//! `pause`: Stops sending; what is under way is kept, and a pause survives a restart.

use std::ffi::OsString;

use clap::Args;

use super::failure::Failure;
use super::{Common, asking};
use crate::engine::requests::kind;

/// What `pause` takes.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Files are still found and queued while a folder is paused. An Upload that is open goes on where it stopped, if that is
within its hour.

Examples:
  upspool pause                  stop sending
  upspool pause --folder batch   from this folder only")]
pub struct Arguments {
    /// Only this folder, by its name or path; all folders if not said
    #[arg(long, value_name = "FOLDER")]
    folder: Option<OsString>,
}

pub(super) async fn run(common: &Common, arguments: &Arguments) -> Result<u8, Failure> {
    asking::ask_of_folder(common, kind::PAUSE, arguments.folder.as_ref()).await
}
