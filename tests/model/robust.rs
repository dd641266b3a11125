//! What `src/sys/robust.rs` is to the library, on the model kernel's lists.

use crate::kernel::{current, has_ended, on_thread, step, tid};
use crate::prim::AtomicU32;
use crate::sys::owner::OwnerKind;
use std::mem::size_of;

pub const OWNER: u32 = 0x3fff_ffff;
pub const WAITERS: u32 = 0x8000_0000;
pub const DIED: u32 = 0x4000_0000;
pub const ENTRY: usize = 32;

pub const WORD: usize = 0;

pub const fn word_of(pair: u64) -> u32 {
    pair as u32
}

pub const fn cookie_of(pair: u64) -> u32 {
    (pair >> 32) as u32
}

pub const fn pair_of(word: u32, cookie: u32) -> u64 {
    word as u64 | (cookie as u64) << 32
}

/// What tells a thread from others of its number.
pub fn cookie(tid: u32) -> u32 {
    tid * 16
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Spot(*const u8);

impl Spot {
    /// # Safety
    /// As the library's.
    pub unsafe fn new<T>(object: *const T, at: usize) -> Spot {
        Spot(object.cast::<u8>().wrapping_add(at))
    }

    pub fn word<'a>(self) -> &'a AtomicU32 {
        // SAFETY: `new`'s promise; the objects of a model outlive its threads.
        unsafe { &*self.0.cast::<AtomicU32>() }
    }

    fn offset_in<T>(self, object: *const T) -> Option<usize> {
        (self.0 as usize).checked_sub(object as usize).filter(|offset| *offset < size_of::<T>())
    }
}

#[derive(Clone, Copy)]
pub struct Me(usize);

pub fn known() -> Option<Me> {
    Some(Me(current()))
}

pub fn me() -> Option<Me> {
    known()
}

impl Me {
    pub fn tid(self) -> u32 {
        tid(self.0)
    }

    pub fn identity(self) -> u64 {
        u64::from(self.tid()) << 32 | u64::from(self.tid())
    }

    pub fn holder(self) -> u64 {
        pair_of(self.tid(), cookie(self.tid()))
    }

    pub fn known_process_holder(self) -> Option<u64> {
        Some(self.process_holder())
    }

    /// Each thread is a process of its own.
    pub fn process_holder(self) -> u64 {
        self.holder()
    }

    pub fn sees_end(self, holder: u64, _: OwnerKind) -> bool {
        let (word, cookie) = (word_of(holder), cookie_of(holder));
        assert_eq!(cookie, self::cookie(word & OWNER), "a holder that never was");
        has_ended(word & OWNER)
    }

    pub fn namespace(self) -> u32 {
        1
    }

    pub fn find_namespace(self) -> Option<u32> {
        Some(1)
    }

    pub fn holds_any(self) -> bool {
        on_thread(self.0, |thread| !thread.held.is_empty())
    }

    pub fn is_robust(self) -> bool {
        true
    }

    pub fn is_full(self) -> bool {
        false
    }

    pub fn pend(self, spot: Spot) {
        step();
        on_thread(self.0, |thread| thread.pending = Some(spot));
    }

    pub fn pend_nothing(self) {
        step();
        on_thread(self.0, |thread| thread.pending = None);
    }

    pub fn pends_any(self) -> bool {
        on_thread(self.0, |thread| thread.pending.is_some())
    }

    pub fn push(self, spot: Spot) {
        step();
        on_thread(self.0, |thread| thread.held.push((spot, 0)));
    }

    pub fn remove(self, spot: Spot) {
        step();
        on_thread(self.0, |thread| {
            let at = thread.held.iter().rposition(|held| held.0 == spot).expect("it is held");
            thread.held.remove(at);
        });
    }

    pub fn remove_newest(self) {
        step();
        on_thread(self.0, |thread| thread.held.pop());
    }

    pub fn newest_is(self, spot: Spot) -> bool {
        on_thread(self.0, |thread| thread.held.last() == Some(&(spot, 0)))
    }

    pub fn find(self, spot: Spot) -> Option<usize> {
        on_thread(self.0, |thread| thread.held.iter().rposition(|held| held.0 == spot))
    }

    pub fn newest_in<T>(self, object: *const T) -> Option<usize> {
        on_thread(self.0, |thread| thread.held.last().and_then(|held| held.0.offset_in(object)))
    }

    pub fn newest_within<T>(self, object: *const T) -> Option<usize> {
        on_thread(self.0, |thread| thread.held.iter().rev().find_map(|held| held.0.offset_in(object)))
    }

    pub fn holds_besides(self, spot: Spot) -> bool {
        on_thread(self.0, |thread| thread.held.iter().any(|held| held.0 != spot))
    }

    /// Without places beside the slots nobody reads there.
    pub fn reads_any(self) -> bool {
        false
    }

    pub fn reads<T>(self, _: *const T, _: u32) -> u32 {
        0
    }

    pub fn reads_elsewhere<T>(self, _: *const T, _: u32) -> bool {
        false
    }

    pub fn set_reads<T>(self, _: *const T, _: u32, _: u32) -> bool {
        true
    }

    pub fn depth(self, index: usize) -> u32 {
        on_thread(self.0, |thread| thread.held[index].1)
    }

    pub fn set_depth(self, index: usize, depth: u32) {
        on_thread(self.0, |thread| thread.held[index].1 = depth);
    }
}
