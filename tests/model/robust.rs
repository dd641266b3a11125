//! What `src/sys/robust.rs` is to the library, on the model kernel's lists.

use crate::kernel::{current, on_thread, step, tid};
use crate::prim::AtomicU32;
use std::mem::size_of;

pub const OWNER: u32 = 0x3fff_ffff;
pub const WAITERS: u32 = 0x8000_0000;
pub const DIED: u32 = 0x4000_0000;
pub const ENTRY: usize = 32;

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

    pub fn pid(self) -> u32 {
        self.tid()
    }

    pub fn identity(self) -> u64 {
        u64::from(self.pid()) << 32 | u64::from(self.tid())
    }

    pub fn start(self) -> u64 {
        0
    }

    pub fn process_start(self) -> u64 {
        0
    }

    pub fn namespace(self) -> u32 {
        1
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

    pub fn pending(self) -> Option<Spot> {
        on_thread(self.0, |thread| thread.pending)
    }

    pub fn pend_again(self, pending: Option<Spot>) {
        step();
        on_thread(self.0, |thread| thread.pending = pending);
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

    pub fn depth(self, index: usize) -> u32 {
        on_thread(self.0, |thread| thread.held[index].1)
    }

    pub fn set_depth(self, index: usize, depth: u32) {
        on_thread(self.0, |thread| thread.held[index].1 = depth);
    }
}

pub fn mark_died(_: &AtomicU32, _: u32) -> bool {
    unreachable!("the model's kernel sees to every death")
}
