//! The lock around what a process knows privately: none at all as long as the process has one thread.
//!
//! Four atomic operations for an alloc/free pair cost more than everything else about it together, and workers and most
//! hosts have one thread.

use crate::prim::{AtomicBool, Ordering};
use crate::sys::threads;
use std::cell::UnsafeCell;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard, PoisonError};

#[derive(Debug)]
pub(super) struct Private<T> {
    mutex: Mutex<()>,
    /// Held without the mutex. Relaxed: written and read by the only thread, and by its signal handlers.
    busy: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: the value is reached through a guard only, and there is one guard at a time: see `lock`.
unsafe impl<T: Send> Sync for Private<T> {}

pub(super) struct Guard<'a, T> {
    private: &'a Private<T>,
    mutex: Option<MutexGuard<'a, ()>>,
}

impl<T> Private<T> {
    pub(super) fn new(value: T) -> Private<T> {
        Private { mutex: Mutex::new(()), busy: AtomicBool::new(false), value: UnsafeCell::new(value) }
    }

    /// While there is one thread only, nobody else can come, and whoever makes a second one does so outside of this
    /// lock. What can come is a signal handler, which must not call here; one that does is stopped.
    #[inline]
    pub(super) fn lock(&self) -> Guard<'_, T> {
        if threads::only_one() {
            assert!(!self.busy.load(Ordering::Relaxed), "the heap is used in a signal handler");
            self.busy.store(true, Ordering::Relaxed);
            return Guard { private: self, mutex: None };
        }
        // No code of a user's runs under this lock, so a poisoned one comes from a failed assertion of tine's own.
        let mutex = self.mutex.lock().unwrap_or_else(PoisonError::into_inner);
        Guard { private: self, mutex: Some(mutex) }
    }
}

impl<T> Private<T> {
    /// The same where it costs nothing, and never a panic.
    #[inline(always)]
    pub(super) fn lock_if_alone(&self) -> Option<Guard<'_, T>> {
        if !threads::only_one() || self.busy.load(Ordering::Relaxed) {
            return None;
        }
        self.busy.store(true, Ordering::Relaxed);
        Some(Guard { private: self, mutex: None })
    }
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
        if self.mutex.is_none() {
            self.private.busy.store(false, Ordering::Relaxed);
        }
    }
}
