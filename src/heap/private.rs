//! The lock around what a process knows privately: one atomic operation, and none as long as the process has one thread.
//!
//! An alloc/free pair does so little that two more atomic operations for each half cost more than all the rest: so there
//! is no word on who waits. What is done under the lock takes nanoseconds, or a system call now and then; whoever waits
//! looks for a while, and then sleeps for a few microseconds at a time.

use crate::sys::clock;
use crate::sys::prim::{AtomicU32, Ordering};
use crate::sys::threads;
use std::cell::UnsafeCell;
use std::ops::{Deref, DerefMut};

const FREE: u32 = 0;
const HELD: u32 = 1;

#[derive(Debug)]
#[repr(align(128))] // The locks of two threads are not in one line of cache.
pub(super) struct Private<T> {
    /// FREE or HELD. Acquire and Release; without threads, plain loads and stores of the only thread and its signal
    /// handlers.
    state: AtomicU32,
    value: UnsafeCell<T>,
}

// SAFETY: the value is reached through a guard only, and there is one guard at a time: see `lock`.
unsafe impl<T: Send> Sync for Private<T> {}

pub(super) struct Guard<'a, T>(&'a Private<T>);

impl<T> Private<T> {
    pub(super) fn new(value: T) -> Private<T> {
        Private { state: AtomicU32::new(FREE), value: UnsafeCell::new(value) }
    }

    /// While there is one thread only, nobody else can come, and whoever makes a second one does so outside of this
    /// lock. What can come is a signal handler, which must not call here; one that does is stopped.
    #[inline]
    pub(super) fn lock(&self) -> Guard<'_, T> {
        match self.try_lock(threads::only_one()) {
            Some(guard) => guard,
            None => self.wait(),
        }
    }

    /// The same where nobody has it, and never a panic. `alone` is what `threads` has just said.
    #[inline(always)]
    pub(super) fn try_lock(&self, alone: bool) -> Option<Guard<'_, T>> {
        let before = if alone {
            let before = self.state.load(Ordering::Relaxed);
            self.state.store(HELD, Ordering::Relaxed);
            before
        } else {
            self.state.swap(HELD, Ordering::Acquire)
        };
        (before == FREE).then(|| Guard(self))
    }

    #[cold]
    fn wait(&self) -> Guard<'_, T> {
        assert!(!threads::only_one(), "the heap is used in a signal handler");
        const LOOKS: u32 = 200;
        const NAP_NS: u32 = 5_000;
        let mut looks = 0;
        loop {
            if self.state.load(Ordering::Relaxed) == FREE && self.state.swap(HELD, Ordering::Acquire) == FREE
            {
                return Guard(self);
            }
            looks += 1;
            match looks {
                ..LOOKS => std::hint::spin_loop(),
                _ => clock::nap(NAP_NS),
            }
        }
    }
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: this guard is the only one.
        unsafe { &*self.0.value.get() }
    }
}

impl<T> DerefMut for Guard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: this guard is the only one.
        unsafe { &mut *self.0.value.get() }
    }
}

impl<T> Drop for Guard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.0.state.store(FREE, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_keep_each_other_out() {
        let private = Private::new((0u64, false));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for round in 0..20_000 {
                        let mut guard = private.lock();
                        let (count, inside) = &mut *guard;
                        assert!(!std::mem::replace(inside, true), "two threads are inside");
                        *count += 1;
                        if round % 16 == 0 {
                            std::thread::yield_now(); // The others come while this one has it.
                        }
                        *inside = false;
                    }
                });
            }
        });
        assert_eq!(*private.lock(), (80_000, false));
    }
}
