//! upspool.

pub mod accounts;
pub mod api;
pub mod cli;
pub mod clock;
pub mod config;
pub mod daemon;
pub mod engine;
pub mod logging;
pub mod model;
pub mod source;
pub mod status;
pub mod store;
pub mod text;
pub mod watch;
