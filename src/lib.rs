//! upspool.

pub mod model;
