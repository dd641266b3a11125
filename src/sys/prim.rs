//! Atomics and the futex as the algorithms see them.
//!
//! Everything that is shared between processes goes through these names and no others, so that a model checker's
//! versions can stand in for them in one place (`tests/model/prim.rs`).

pub(crate) use super::futex::{Change, Wait, futex_change, futex_wait, futex_wait_any, futex_wake};
use super::robust::{cookie_of, pair_of, word_of};
pub(crate) use core::sync::atomic::{
    AtomicBool, AtomicI32, AtomicPtr, AtomicU32, AtomicU64, Ordering, fence,
};

/// Whether this is a model checker's: then objects are not laid out as processes share them.
pub(crate) const MODEL: bool = false;

/// A lock's word and its holder's cookie, which change as one.
#[derive(Debug)]
#[repr(transparent)]
pub(crate) struct AtomicPair(AtomicU64);

impl AtomicPair {
    pub fn new(pair: u64) -> AtomicPair {
        AtomicPair(AtomicU64::new(pair))
    }

    #[inline(always)]
    pub fn load(&self, ordering: Ordering) -> u64 {
        self.0.load(ordering)
    }

    #[inline(always)]
    pub fn swap(&self, pair: u64, ordering: Ordering) -> u64 {
        self.0.swap(pair, ordering)
    }

    #[inline(always)]
    pub fn compare_exchange(&self, old: u64, new: u64, yes: Ordering, no: Ordering) -> Result<u64, u64> {
        self.0.compare_exchange(old, new, yes, no)
    }

    /// The half that the kernel knows and threads sleep on. For the futex calls alone.
    #[inline(always)]
    pub fn word(&self) -> &AtomicU32 {
        const AT: usize = if super::robust::word_of(1) == 1 { 0 } else { 1 };
        // SAFETY: inside the pair, and aligned.
        unsafe { &*(&raw const self.0).cast::<AtomicU32>().add(AT) }
    }
}

/// A word that threads sleep on and a number beside it, which change in one step.
#[repr(transparent)]
#[derive(Debug)]
pub(crate) struct Pair(AtomicPair);

/// The word and the number.
pub(crate) type Both = (u32, u32);

impl Pair {
    pub fn new(both: Both) -> Pair {
        Pair(AtomicPair::new(Pair::pack(both)))
    }

    fn pack((word, number): Both) -> u64 {
        pair_of(word, number)
    }

    fn unpack(pair: u64) -> Both {
        (word_of(pair), cookie_of(pair))
    }

    #[inline(always)]
    pub fn load(&self, ordering: Ordering) -> Both {
        Pair::unpack(self.0.load(ordering))
    }

    #[inline(always)]
    pub fn compare_exchange(&self, old: Both, new: Both, yes: Ordering, no: Ordering) -> Result<Both, Both> {
        let result = self.0.compare_exchange(Pair::pack(old), Pair::pack(new), yes, no);
        result.map(Pair::unpack).map_err(Pair::unpack)
    }

    /// Adds to the number, which must have room for that, where both are still as they were. On the pair as it is: taken apart and put
    /// together it would be a longer way from the load to the exchange.
    #[inline(always)]
    pub fn add(&self, old: Both, count: u32, yes: Ordering, no: Ordering) -> Result<Both, Both> {
        let old = Pair::pack(old);
        let result = self.0.compare_exchange(old, old.wrapping_add(pair_of(0, count)), yes, no);
        result.map(Pair::unpack).map_err(Pair::unpack)
    }

    /// Takes one off the number, which must not be 0, likewise.
    #[inline(always)]
    pub fn subtract_one(&self, old: Both, yes: Ordering, no: Ordering) -> Result<Both, Both> {
        let old = Pair::pack(old);
        let result = self.0.compare_exchange(old, old.wrapping_sub(pair_of(0, 1)), yes, no);
        result.map(Pair::unpack).map_err(Pair::unpack)
    }

    pub fn swap(&self, both: Both, ordering: Ordering) -> Both {
        Pair::unpack(self.0.swap(Pair::pack(both), ordering))
    }

    /// As a lock's.
    #[inline(always)]
    pub fn word(&self) -> &AtomicU32 {
        self.0.word()
    }
}
