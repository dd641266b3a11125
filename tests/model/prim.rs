//! What `src/sys/prim.rs` is to the library: the atomics and the futex, here loom's and the model kernel's.
//!
//! loom takes SeqCst accesses for AcqRel ones, so each gets a fence, which makes it a little stronger than the language
//! does. A victim may die before each access that others could see; before a mere load it makes no difference.

use crate::kernel;

use loom::sync::atomic::{self as model, fence};
use std::cell::Cell;

pub(crate) use crate::kernel::{Change, Wait, futex_change, futex_wait, futex_wait_any, futex_wake};
pub(crate) use std::sync::atomic::Ordering;

/// This is the model: objects are not laid out as the library lays them out.
pub(crate) const MODEL: bool = true;

/// A word. It has room for what `Pair` keeps beside one.
#[derive(Debug)]
pub(crate) struct AtomicU32(model::AtomicU64);

impl Default for AtomicU32 {
    fn default() -> AtomicU32 {
        AtomicU32::new(0)
    }
}

impl AtomicU32 {
    pub fn new(value: u32) -> AtomicU32 {
        AtomicU32(model::AtomicU64::new(value.into()))
    }

    pub fn load(&self, ordering: Ordering) -> u32 {
        order(ordering);
        self.0.load(ordering) as u32
    }

    pub fn store(&self, value: u32, ordering: Ordering) {
        kernel::step();
        // An exchange: loom lets a blind store lose against an exchange that has seen an older value.
        let release = if ordering == Ordering::Relaxed { ordering } else { Ordering::Release };
        self.0.swap(value.into(), release);
        order(ordering);
    }

    fn modify<T>(&self, ordering: Ordering, change: impl FnOnce(&model::AtomicU64) -> T) -> T {
        kernel::step();
        let result = change(&self.0);
        order(ordering);
        result
    }

    pub fn swap(&self, value: u32, ordering: Ordering) -> u32 {
        self.modify(ordering, |word| word.swap(value.into(), ordering)) as u32
    }

    pub fn fetch_add(&self, value: u32, ordering: Ordering) -> u32 {
        self.modify(ordering, |word| word.fetch_add(value.into(), ordering)) as u32
    }

    pub fn fetch_or(&self, value: u32, ordering: Ordering) -> u32 {
        self.modify(ordering, |word| word.fetch_or(value.into(), ordering)) as u32
    }

    pub fn fetch_and(&self, value: u32, ordering: Ordering) -> u32 {
        self.modify(ordering, |word| word.fetch_and(value.into(), ordering)) as u32
    }

    pub fn compare_exchange(&self, old: u32, new: u32, yes: Ordering, no: Ordering) -> Result<u32, u32> {
        let result = self.modify(yes, |word| word.compare_exchange(old.into(), new.into(), yes, no));
        result.map(|it| it as u32).map_err(|it| it as u32)
    }

    pub fn compare_exchange_weak(&self, old: u32, new: u32, yes: Ordering, no: Ordering) -> Result<u32, u32> {
        self.compare_exchange(old, new, yes, no)
    }

    /// The kernel's view: the word as it is now. An exchange that fails, so that loom tries it before and after others'.
    pub fn now(&self) -> u32 {
        const NEVER: u64 = 0x7fff_fffe_7fff_fffe;
        match self.0.compare_exchange(NEVER, NEVER, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => unreachable!("no word of ours"),
            Err(value) => value as u32,
        }
    }

    /// The kernel's exchange, which no death interrupts. What stands beside the word stays.
    pub fn exchange(&self, old: u32, new: u32) -> Result<u32, u32> {
        let mut whole = u64::from(old);
        loop {
            let changed = whole & !u64::from(u32::MAX) | u64::from(new);
            match self.0.compare_exchange(whole, changed, Ordering::SeqCst, Ordering::Relaxed) {
                Ok(_) => return Ok(old),
                Err(now) if now as u32 == old => whole = now,
                Err(now) => return Err(now as u32),
            }
        }
    }

    /// The kernel's change by `futex_change`.
    pub fn change(&self, change: Change) {
        match change {
            Change::Set(bit) => self.0.fetch_or(1 << bit, Ordering::SeqCst),
            Change::SetOnly(bit) => self.0.swap(1 << bit, Ordering::SeqCst),
        };
        fence(Ordering::SeqCst);
    }
}

#[derive(Debug)]
pub(crate) struct Pair(AtomicU32);

pub(crate) type Both = (u32, u32);

impl Pair {
    pub fn new(both: Both) -> Pair {
        Pair(AtomicU32(model::AtomicU64::new(Pair::pack(both))))
    }

    fn pack((word, number): Both) -> u64 {
        u64::from(number) << 32 | u64::from(word)
    }

    fn unpack(both: u64) -> Both {
        (both as u32, (both >> 32) as u32)
    }

    pub fn load(&self, ordering: Ordering) -> Both {
        order(ordering);
        Pair::unpack(self.0.0.load(ordering))
    }

    pub fn compare_exchange(&self, old: Both, new: Both, yes: Ordering, no: Ordering) -> Result<Both, Both> {
        let (old, new) = (Pair::pack(old), Pair::pack(new));
        let result = self.0.modify(yes, |word| word.compare_exchange(old, new, yes, no));
        result.map(Pair::unpack).map_err(Pair::unpack)
    }

    pub fn swap(&self, both: Both, ordering: Ordering) -> Both {
        Pair::unpack(self.0.modify(ordering, |word| word.swap(Pair::pack(both), ordering)))
    }

    pub fn add(&self, old: Both, count: u32, yes: Ordering, no: Ordering) -> Result<Both, Both> {
        self.compare_exchange(old, (old.0, old.1 + count), yes, no)
    }

    pub fn subtract_one(&self, old: Both, yes: Ordering, no: Ordering) -> Result<Both, Both> {
        self.compare_exchange(old, (old.0, old.1 - 1), yes, no)
    }

    pub fn word(&self) -> &AtomicU32 {
        &self.0
    }
}

fn order(ordering: Ordering) {
    if ordering == Ordering::SeqCst {
        fence(Ordering::SeqCst);
    }
}

/// A lock's word and its holder's cookie.
#[derive(Debug)]
pub(crate) struct AtomicPair(AtomicU32);

impl AtomicPair {
    pub fn new(pair: u64) -> AtomicPair {
        AtomicPair(AtomicU32(model::AtomicU64::new(pair)))
    }

    pub fn load(&self, ordering: Ordering) -> u64 {
        order(ordering);
        self.0.0.load(ordering)
    }

    pub fn swap(&self, pair: u64, ordering: Ordering) -> u64 {
        self.0.modify(ordering, |word| word.swap(pair, ordering))
    }

    pub fn compare_exchange(&self, old: u64, new: u64, yes: Ordering, no: Ordering) -> Result<u64, u64> {
        self.0.modify(yes, |word| word.compare_exchange(old, new, yes, no))
    }

    pub fn word(&self) -> &AtomicU32 {
        &self.0
    }
}

/// In the locks these are signatures and the kernel's links, on which nothing depends: no place for interleavings.
#[derive(Debug)]
pub(crate) struct AtomicU64(Cell<u64>);

// SAFETY: loom runs all threads of a model on one, and switches only inside its own calls.
unsafe impl Sync for AtomicU64 {}

impl AtomicU64 {
    pub fn new(value: u64) -> AtomicU64 {
        AtomicU64(Cell::new(value))
    }

    pub fn load(&self, _: Ordering) -> u64 {
        self.0.get()
    }

    pub fn store(&self, value: u64, _: Ordering) {
        self.0.set(value);
    }
}

/// A word of 64 bits on which something depends. The kernel watches its low half.
#[derive(Debug)]
pub(crate) struct Long(AtomicU32);

impl Long {
    pub fn new(value: u64) -> Long {
        Long(AtomicU32(model::AtomicU64::new(value)))
    }

    pub fn load(&self, ordering: Ordering) -> u64 {
        order(ordering);
        self.0.0.load(ordering)
    }

    pub fn store(&self, value: u64, ordering: Ordering) {
        // An exchange, as `AtomicU32::store`.
        let ordering = if ordering == Ordering::Relaxed { ordering } else { Ordering::AcqRel };
        self.0.modify(ordering, |word| word.swap(value, ordering));
        fence(Ordering::SeqCst);
    }

    pub fn fetch_or(&self, value: u64, ordering: Ordering) -> u64 {
        self.0.modify(ordering, |word| word.fetch_or(value, ordering))
    }

    pub fn compare_exchange(&self, old: u64, new: u64, yes: Ordering, no: Ordering) -> Result<u64, u64> {
        self.0.modify(yes, |word| word.compare_exchange(old, new, yes, no))
    }

    pub fn compare_exchange_weak(&self, old: u64, new: u64, yes: Ordering, no: Ordering) -> Result<u64, u64> {
        self.compare_exchange(old, new, yes, no)
    }

    pub fn low_half(&self) -> &AtomicU32 {
        &self.0
    }
}
