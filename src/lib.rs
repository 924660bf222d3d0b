//! Drop a file into a folder, get an OpenAI File ID.
//!
//! The tour, in the order in which a file meets the rooms:
//!
//! 1. [`config`] says which folders are watched and whose Files they become; [`accounts`] makes clients of that, and
//!    [`daemon`] builds the service and spawns it.
//! 2. [`watch`], the first hand, meets the file by an event or a scan and tells of it.
//! 3. [`engine`], in its intake, asks [`store`] whether the file is known and [`model::settle`] whether anybody still
//!    writes to it, and has the store make a job of it.
//! 4. [`model::board`], the heart, decides what is sent when. It is pure: events go in, effects come out. What a failure
//!    means is [`model::policy`]'s; which step leads where is the table of [`model::job`].
//! 5. [`engine`] performs the effects: requests by [`api`], the third hand, with bytes from [`source`], the fourth; every
//!    step is written by [`store`], the second, before anything that depends on it.
//! 6. [`cli`] and [`status`], the two faces, look in. A command asks by a row of the store; what is true only now comes
//!    over a socket.
//!
//! [`beneath`] opens what lies below a folder and nothing else, [`clock`] is the only place that reads time, [`text`] the one way in which names, sizes and times are written, and
//! [`logging`] decides where the log goes. Imports point one way: faces, daemon, engine, hands, model. A test holds that.

pub mod accounts;
pub mod api;
pub mod beneath;
pub mod cli;
pub mod clock;
pub mod config;
pub mod daemon;
pub mod engine;
pub mod hook;
pub mod logging;
pub mod model;
pub mod putaway;
pub mod record;
pub mod source;
pub mod status;
pub mod store;
pub mod text;
pub mod watch;
