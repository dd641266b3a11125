//! How many starts, calls and allocations a pool has seen, for faults on request (`docs/design/faults.md`). They lie behind the pool's
//! [`Marks`](super::marks::Marks), are counted only where faults are asked for, and nothing else depends on them.

use crate::sys::prim::AtomicU64;

/// Relaxed, all of them: a number for each who asks, and nothing goes with it.
#[repr(C, align(64))]
#[derive(Debug)]
pub(crate) struct Counts {
    /// Workers that have started.
    pub(crate) starts: AtomicU64,
    /// Calls of functions that have begun.
    pub(crate) calls: AtomicU64,
    /// Blocks that were asked for.
    pub(crate) allocations: AtomicU64,
}
