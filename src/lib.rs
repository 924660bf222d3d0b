//! upspool.

pub mod api;
pub mod model;
pub mod source;
