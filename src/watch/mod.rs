//! The hand that touches watched folders.

pub mod ignore;
pub mod kind;
mod lease;
pub mod look;
