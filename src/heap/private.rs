//! The lock around what a process knows privately. In it are the allocators of a heap, of which most have one thread that uses them.
//!
//! An alloc/free pair does so little that an atomic exchange for each half costs as much as all the rest. So a thread takes the lock of
//! an allocator of its own by plain stores and loads: it says that it is inside, and then looks whether another thread wants to be. The
//! other one, which comes for memory and not for a block, says that it wants to, has membarrier(2) run a full barrier on every processor
//! that runs a thread of this process, and then looks whether the own thread is inside. So one of the two sees the other:
//!
//! | the own thread's look came | then |
//! |---|---|
//! | before the barrier | so did its store before that, which the other one sees now: it waits, or gives up |
//! | after the barrier | it sees that the other one wants to: it goes out again, and waits |
//!
//! | word | by whom |
//! |---|---|
//! | `state` | FREE or HELD, by the own thread alone; of an allocator that many threads share, by exchange of any of them |
//! | `wanted` | FREE or HELD, by exchange of any thread that is not the own one: only one at a time wants to |
//!
//! Where the barrier is refused from the start no thread gets an allocator of its own: they share some. Where it is refused later others
//! do not come in, as if the thread were always inside.
//!
//! There is no word on who waits. What is done under the lock takes nanoseconds, or a system call now and then; whoever waits
//! looks for a while, and then sleeps for a few microseconds at a time.

use crate::sys::barrier;
use crate::sys::prim::{AtomicU32, Ordering};
use crate::sys::threads;
use core::sync::atomic::compiler_fence;
use std::cell::UnsafeCell;
use std::ops::{Deref, DerefMut};

const FREE: u32 = 0;
const HELD: u32 = 1;

#[derive(Debug)]
#[repr(align(128))] // The locks of two threads are not in one line of cache.
pub(super) struct Private<T> {
    state: AtomicU32,
    wanted: AtomicU32,
    value: UnsafeCell<T>,
}

// SAFETY: the value is reached through a guard only, and there is one guard at a time: see above.
unsafe impl<T: Send> Sync for Private<T> {}

pub(super) struct Guard<'a, T> {
    private: &'a Private<T>,
    /// Which of its words this one has.
    word: &'a AtomicU32,
}

impl<T> Private<T> {
    pub(super) fn new(value: T) -> Private<T> {
        Private { state: AtomicU32::new(FREE), wanted: AtomicU32::new(FREE), value: UnsafeCell::new(value) }
    }

    /// By the only thread that ever comes this way: this is its own, or it is the only thread that there is, and whoever makes a second one does
    /// so outside of this lock. What can come in between is a signal handler, which must not call here. Never a panic.
    #[inline(always)]
    pub(super) fn try_own(&self) -> Option<Guard<'_, T>> {
        let before = self.state.load(Ordering::Relaxed);
        self.state.store(HELD, Ordering::Relaxed);
        // The processor's part of the fence is the other one's to ask for.
        compiler_fence(Ordering::SeqCst);
        // Acquire: pairs with the Release of the other one's guard.
        let wanted = self.wanted.load(Ordering::Acquire);
        if before | wanted == FREE {
            return Some(Guard { private: self, word: &self.state });
        }
        if before == FREE {
            self.state.store(FREE, Ordering::Release);
        }
        None
    }

    #[inline]
    pub(super) fn own(&self) -> Guard<'_, T> {
        self.try_own().unwrap_or_else(|| self.wait(Private::try_own))
    }

    /// By one of many threads that share it. Never a panic.
    #[inline(always)]
    pub(super) fn try_share(&self) -> Option<Guard<'_, T>> {
        take(&self.state).then(|| Guard { private: self, word: &self.state })
    }

    #[inline]
    pub(super) fn share(&self) -> Guard<'_, T> {
        self.try_share().unwrap_or_else(|| self.wait(Private::try_share))
    }

    /// By a thread whose own it is not, if its own thread is not inside.
    pub(super) fn try_visit(&self) -> Option<Guard<'_, T>> {
        let guard = take(&self.wanted).then(|| Guard { private: self, word: &self.wanted })?;
        self.is_kept_out()?.then_some(guard)
    }

    /// The same, once its own thread is not inside. `None` where nobody can know when that is.
    pub(super) fn visit(&self) -> Option<Guard<'_, T>> {
        let wanted = |private: &Self| take(&private.wanted).then_some(());
        wanted(self).unwrap_or_else(|| self.wait(wanted));
        let guard = Guard { private: self, word: &self.wanted };
        if !self.is_kept_out()? {
            // It sees that it is waited for, and does not come back.
            self.wait(|private| (private.state.load(Ordering::Acquire) == FREE).then_some(()));
        }
        Some(guard)
    }

    /// Whether the own thread is outside, and stays there while somebody has `wanted`; `None` where the barrier is refused.
    fn is_kept_out(&self) -> Option<bool> {
        // Acquire: pairs with the Release of the own thread's guard.
        (!barrier::is_there() || barrier::on_all_threads())
            .then(|| self.state.load(Ordering::Acquire) == FREE)
    }

    #[cold]
    fn wait<'a, G>(&'a self, attempt: impl Fn(&'a Self) -> Option<G>) -> G {
        assert!(!threads::only_one(), "the heap is used in a signal handler");
        const LOOKS: u32 = 200;
        const NAP: std::time::Duration = std::time::Duration::from_micros(5);
        let mut looks = 0;
        loop {
            if let Some(guard) = attempt(self) {
                return guard;
            }
            looks += 1;
            match looks {
                ..LOOKS => std::hint::spin_loop(),
                _ => std::thread::sleep(NAP),
            }
        }
    }
}

/// Looks first: an exchange in vain takes the line from who is inside.
#[inline(always)]
fn take(word: &AtomicU32) -> bool {
    word.load(Ordering::Relaxed) == FREE && word.swap(HELD, Ordering::AcqRel) == FREE
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: this guard is the only one.
        unsafe { &*self.private.value.get() }
    }
}

impl<T> DerefMut for Guard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: this guard is the only one.
        unsafe { &mut *self.private.value.get() }
    }
}

impl<T> Drop for Guard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.word.store(FREE, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;

    /// What may be changed by one at a time.
    #[derive(Default)]
    struct Work {
        done: u64,
        inside: bool,
    }

    impl Work {
        fn go_on(&mut self, round: u32) {
            assert!(!std::mem::replace(&mut self.inside, true), "two threads are inside");
            self.done += 1;
            if round.is_multiple_of(16) {
                std::thread::yield_now(); // The others come while this one has it.
            }
            self.inside = false;
        }
    }

    #[test]
    fn threads_that_share_keep_each_other_out() {
        let private = Private::new(Work::default());
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..20_000).for_each(|round| private.share().go_on(round)));
            }
        });
        assert_eq!(private.share().done, 80_000);
    }

    #[test]
    fn a_thread_and_its_visitors_keep_each_other_out() {
        if !barrier::is_there() {
            println!("not tested: a_thread_and_its_visitors_keep_each_other_out needs membarrier(2)");
            return;
        }
        let private = Private::new(Work::default());
        let (is_over, tries) = (AtomicBool::new(false), std::sync::atomic::AtomicU64::new(0));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut round = 0;
                while !is_over.load(Ordering::Relaxed) {
                    private.own().go_on(1);
                    round += 1;
                }
                tries.fetch_add(round, Ordering::Relaxed);
            });
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    if let Some(mut work) = private.try_visit() {
                        work.go_on(1);
                        tries.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
            let visitors = [(); 2]
                .map(|()| scope.spawn(|| (0..5_000).for_each(|round| private.visit().unwrap().go_on(round))));
            visitors.into_iter().for_each(|visitor| visitor.join().unwrap());
            is_over.store(true, Ordering::Relaxed);
        });
        assert_eq!(private.own().done, 10_000 + tries.load(Ordering::Relaxed));
    }
}
