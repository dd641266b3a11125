//! Rings that connect two processes.

pub(crate) mod ring;
pub(crate) mod spin;
