//! Atomics and the futex as the algorithms see them.
//!
//! Everything that is shared between processes goes through these names and no others, so that a model checker's
//! versions can stand in for them in one place (`tests/model/prim.rs`).

pub(crate) use crate::sys::futex::{Wait, futex_wait, futex_wait_any, futex_wake};
pub(crate) use core::sync::atomic::{
    AtomicBool, AtomicI32, AtomicPtr, AtomicU32, AtomicU64, Ordering, fence,
};

/// Whether this is a model checker's: then objects are not laid out as processes share them.
pub(crate) const MODEL: bool = false;
