//! upspool.

pub mod model;
pub mod watch;
