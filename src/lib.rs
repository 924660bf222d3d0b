//! upspool.

pub mod clock;
pub mod model;
