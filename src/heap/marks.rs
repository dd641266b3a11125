//! In a pool of many workers: in whose rings the host has to look. They lie behind the pool's [`Bell`](super::bell::Bell).
//!
//! A worker sets its own bit after it has moved `done` and before it fences and rings; the host clears the bit before it looks at
//! `done`. So what the host has not seen is still marked. A hostile worker can set and clear any bit: the host looks for nothing, or
//! finds results at its next look at all rings, which it takes now and then.

use crate::sys::prim::{AtomicU64, Ordering};

/// Workers that there are bits for: a pool can have no more.
pub(crate) const WORKERS: usize = 4096;

/// Release and Acquire: what the worker has stored before it set its bit is seen by who has seen the bit.
#[repr(C, align(64))]
#[derive(Debug)]
pub(crate) struct Marks([AtomicU64; WORKERS / 64]);

impl Marks {
    #[cfg(test)]
    pub(crate) fn new() -> Marks {
        Marks(std::array::from_fn(|_| AtomicU64::new(0)))
    }

    /// Worker: the host has to look into its ring.
    pub(crate) fn set(&self, slot: u32) {
        if let Some(word) = self.0.get(slot as usize / 64) {
            word.fetch_or(1 << (slot % 64), Ordering::Release);
        }
    }

    /// Host: which of the 64 workers of a word are marked; they are not any more.
    pub(crate) fn take(&self, word: usize) -> u64 {
        match self.0[word].load(Ordering::Relaxed) {
            0 => 0,
            _ => self.0[word].swap(0, Ordering::Acquire),
        }
    }

    /// Host: the same, and they stay marked.
    pub(crate) fn get(&self, word: usize) -> u64 {
        self.0[word].load(Ordering::Acquire)
    }
}
