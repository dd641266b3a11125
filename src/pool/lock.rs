//! The pool's lock. What is to happen when it is free happens when it is dropped: a thread that was woken while it was held
//! would only have to wait for it.

use super::Inner;
use super::state::PoolState;
use std::ops::{Deref, DerefMut};
use std::sync::{MutexGuard, PoisonError, TryLockError};

/// The lock, held.
pub(super) struct Held<'a> {
    pool: &'a Inner,
    /// `None` only while it is being dropped.
    guard: Option<MutexGuard<'a, PoolState>>,
}

impl Inner {
    pub(super) fn lock(&self) -> Held<'_> {
        // A panic under the lock is a defect of tine's; the boundary reports it, and the ledger are still there.
        let guard = match self.state.try_lock() {
            Ok(state) => state,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => {
                self.want(|| self.state.lock().unwrap_or_else(PoisonError::into_inner))
            }
        };
        Held { pool: self, guard: Some(guard) }
    }
}

impl Deref for Held<'_> {
    type Target = PoolState;

    fn deref(&self) -> &PoolState {
        let Some(state) = &self.guard else { unreachable!("the lock is held") };
        state
    }
}

impl DerefMut for Held<'_> {
    fn deref_mut(&mut self) -> &mut PoolState {
        let Some(state) = &mut self.guard else { unreachable!("the lock is held") };
        state
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let Some(mut state) = self.guard.take() else { return };
        if !state.waiters.desk.has_woken() && !state.waiters.standby.is_called() && !state.news.is_fresh {
            return;
        }
        let woken = state.waiters.desk.take_woken();
        let standby = state.waiters.standby.take_call();
        let caller = self.pool.has_caller() && std::mem::take(&mut state.news.is_fresh);
        drop(state);
        let bell = self.pool.heap.bell();
        woken.iter().for_each(|sleeper| sleeper.wake(bell));
        if standby {
            bell.ring_standby();
        }
        if caller {
            self.pool.wake_caller();
        }
    }
}
