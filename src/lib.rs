//! upspool.

pub mod config;
