//! upspool.
