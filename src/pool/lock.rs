//! The pool's lock. What is to happen when it is free happens when it is dropped: a thread that was woken while it was held
//! would only have to wait for it.

use super::Inner;
use super::state::PoolState;
use crate::sys::clock::Deadline;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::sync::{MutexGuard, PoisonError, TryLockError};

/// The lock, held.
pub(super) struct Held<'a> {
    pool: &'a Inner,
    /// There until this is dropped.
    guard: ManuallyDrop<MutexGuard<'a, PoolState>>,
}

impl Inner {
    #[inline]
    pub(super) fn lock(&self) -> Held<'_> {
        // A panic under the lock is a defect of tine's; the boundary reports it, and the ledger are still there.
        let guard = match self.state.try_lock() {
            Ok(state) => state,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => {
                self.want(|| self.state.lock().unwrap_or_else(PoisonError::into_inner))
            }
        };
        Held { pool: self, guard: ManuallyDrop::new(guard) }
    }

    /// The lock, if nobody has it.
    pub(super) fn try_lock(&self) -> Option<Held<'_>> {
        let guard = match self.state.try_lock() {
            Ok(state) => state,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        Some(Held { pool: self, guard: ManuallyDrop::new(guard) })
    }

    /// Lets a thread have the lock that waits for it. One that gave it back and took it again at once would mostly be faster than any that
    /// has to be woken for it.
    pub(super) fn give_way<'a>(&'a self, state: Held<'a>) -> Held<'a> {
        drop(state);
        let until = Deadline::after(WAY_NS);
        while self.is_wanted() && !until.passed() {
            std::thread::yield_now();
        }
        self.lock()
    }
}

/// How long a thread takes at most to wake up and take the lock.
const WAY_NS: u64 = 100_000;

impl Deref for Held<'_> {
    type Target = PoolState;

    #[inline(always)]
    fn deref(&self) -> &PoolState {
        &self.guard
    }
}

impl DerefMut for Held<'_> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut PoolState {
        &mut self.guard
    }
}

impl Drop for Held<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        self.wake_shown();
        // SAFETY: this is the end of what it is taken from, and nothing uses that any more.
        let state = unsafe { ManuallyDrop::take(&mut self.guard) };
        if state.waiters.desk.has_woken() || state.waiters.standby.is_called() || state.news.is_fresh {
            wake(self.pool, state);
        }
    }
}

/// Gives the lock back, and wakes whom there is to wake.
#[cold]
fn wake(pool: &Inner, mut state: MutexGuard<'_, PoolState>) {
    let fresh = std::mem::take(&mut state.news.is_fresh);
    // Without a thread for it, one of those that wait tells.
    let leader = fresh && !pool.has_caller() && state.waiters.desk.call_teller();
    let woken = state.waiters.desk.take_woken();
    let standby = state.waiters.standby.take_call();
    drop(state);
    let bell = pool.heap.bell();
    woken.iter().for_each(|sleeper| sleeper.wake(bell));
    if standby {
        bell.ring_standby();
    }
    if leader {
        bell.ring_leader();
    }
    if fresh && pool.has_caller() {
        pool.wake_caller();
    }
}
