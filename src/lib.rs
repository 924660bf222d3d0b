//! upspool.

pub mod model;
pub mod store;
