//! The OpenAI Uploads API as a local server: strict where the documentation is clear, of either mind where it is
//! silent, and failing on request.
//!
//! It is written from the published contract alone and imports nothing of `upspool`, so that the two can disagree.
//!
//! ```
//! use upspool_emulator::{Calls, Emulator, Operation, Reply};
//!
//! # tokio::runtime::Runtime::new().unwrap().block_on(async {
//! let emulator = Emulator::builder().api_key("sk-test").start().await?;
//! emulator.fault(Calls::of(Operation::Part).nth(3).meet(Reply::status(503).header("retry-after", "1")));
//! // … a client works on emulator.base_url() …
//! assert!(emulator.files().is_empty());
//! # Ok::<(), std::io::Error>(()) }).unwrap();
//! ```
//!
//! A request meets the modules in this order: `server` accepts its `connection`; `exchange` leads it from head to
//! answer; `route` and `dialect` say what it asks; `record` writes it down; `faults` says what it meets (`gate` is
//! where one is held); `intake` reads its body, `multipart` its form, `storage` keeps the content; `operations` do
//! the work on `state` within `limits` and by `variants`; `answer` and `error` carry the result out. `clock` is the
//! only place that reads time. `shared` is all this without its sockets, `builder` says what it is to be like,
//! `emulator` is the handle on it, and `admin` the same over HTTP.

mod admin;
mod answer;
mod builder;
mod clock;
mod connection;
mod dialect;
mod duration;
mod emulator;
mod error;
mod exchange;
mod faults;
mod gate;
mod intake;
mod limits;
mod multipart;
mod operations;
mod record;
mod route;
mod server;
mod shared;
mod state;
mod storage;
pub mod variants;

pub use builder::{Builder, DEFAULT_KEY, read_script};
pub use dialect::Dialect;
pub use emulator::{Emulator, TimedOut};
pub use faults::{Action, Body, Calls, Fault, Lag, Late, Patch, Point, Reply, ScriptFile, Then};
pub use gate::{Gate, Hold};
pub use limits::Limits;
pub use record::RequestRecord;
pub use route::Operation;
pub use state::{FileRecord, PartRecord, UploadRecord, UploadStatus};
pub use storage::Storage;
pub use variants::Variants;
