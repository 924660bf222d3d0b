//! upspool.

pub mod api;
pub mod clock;
pub mod config;
pub mod engine;
pub mod model;
pub mod source;
pub mod store;
pub mod text;
pub mod watch;
