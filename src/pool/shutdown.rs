//! The end of a pool: in good order, at once, and in a forked child.

use super::Pool;
use super::callbacks::{tell, tell_all};
use super::ledger::TaskState;
use super::state::PoolState;
use super::wait::{Want, wait};
use crate::check;
use crate::error::Result;
use crate::family::shutdown::Leaving;
use crate::queue;
use crate::sys::clock::{Deadline, Timeout, now_ns};
use crate::sys::fork;
use std::sync::{Arc, TryLockError};

/// How long workers that have nothing to do may take to end in good order.
const LEAVING_NS: u64 = 1_000_000_000;
const LEAST_LEAVING_NS: u64 = 50_000_000;

impl Pool {
    /// Takes no more tasks, waits until all have settled, and ends the workers. Results can still be taken.
    ///
    /// Where the time runs out before all tasks have settled they go on, and it can be called again. Without any time, so it is where
    /// the workers have not ended.
    pub fn shutdown(&self, timeout: Timeout) -> Result<()> {
        let inner = self.inner()?;
        let mut state = inner.lock();
        state.life.close();
        state.waiters.desk.tell_everybody();
        let deadline = timeout.deadline();
        let idle = |state: &mut PoolState| state.is_idle().then_some(Ok(()));
        let (mut state, idle) = wait(inner, state, Want::Idle, timeout, idle);
        idle?;
        // Workers that have nothing to do need hardly any time to end in good order, but they do need some. Where nobody waits
        // for them, they take nobody's.
        let (least, most) = (Deadline::after(LEAST_LEAVING_NS), Deadline::after(LEAVING_NS));
        let until = if timeout == Timeout::Try { most } else { deadline.max(least).min(most) };
        let leaving = if state.closing() {
            state.life.take_leaving().map(|leaving| leaving.hurry(until))
        } else {
            Some(state.begin_to_stop(until))
        };
        let Some(mut leaving) = leaving else {
            // Another thread waits for their end.
            let gone = |state: &mut PoolState| state.life.is_gone().then_some(Ok(()));
            return wait(inner, state, Want::Gone, timeout.what_is_left(deadline), gone).1;
        };
        if timeout == Timeout::Try && !leaving.is_over() {
            state.life.leave_alone(leaving);
            return Err(timeout.error());
        }
        // Other threads' calls, which may have promised not to wait, do not wait for this.
        drop(state);
        leaving.wait();
        self.close_nodes(until);
        inner.lock().stopped();
        if let Some(place) = &inner.inline_place {
            place.finalize();
        }
        Ok(())
    }

    /// Gives everything back that has not been taken, but for what somebody waits for, or is to be told.
    pub(super) fn forget_results(&self) {
        let mut state = tell(&self.inner, self.inner.lock(), Deadline::NEVER);
        if state.ledger.is_empty() {
            return;
        }
        for index in state.ledger.places() {
            if state.ledger.get(index).claimed || !state.ledger.get(index).is_a_callers() {
                continue;
            }
            if state.ledger.get(index).state == TaskState::Settled {
                let parts = &mut *state;
                parts.submissions.take_away(&mut parts.ledger, index);
                state.note_taken();
            }
            if state.ledger.get(index).state == TaskState::Taken {
                state.release(index);
            }
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if self.inner.pid != fork::pid() {
            self.forget_in_child();
            return;
        }
        if self.inner.inline_place.as_ref().is_none_or(|place| !place.is_inside()) {
            queue::forget_heap(&self.inner.heap);
        }
        let mut state = self.inner.lock();
        // A shutdown that did not wait has begun with it.
        let earlier = state.life.take_leaving().map(|leaving| leaving.hurry(Deadline(0)));
        let leaving = state.begin_to_stop(Deadline(0));
        drop(state);
        earlier.into_iter().chain([leaving]).for_each(Leaving::wait);
        self.close_nodes(Deadline(0));
        let mut state = self.inner.lock();
        state.stopped();
        if check::is_on() {
            state.list_leaks(self.inner.pid);
        }
        drop(state);
        // Whoever has been promised a call gets one, of tasks that settled as cancelled just now, too.
        self.inner.part();
        if !self.inner.has_caller() {
            drop(tell_all(&self.inner, self.inner.lock()));
        }
    }
}

impl Pool {
    /// In a forked child: the family is its parent's; the memory and the descriptors are its own to give back.
    fn forget_in_child(&self) {
        if let Some(threads) = self.inner.threads.get() {
            threads.forget_in_child(&self.inner);
        }
        // A thread that is not here was in the middle of something: what it was at cannot be taken apart.
        if let Err(TryLockError::WouldBlock) = self.inner.state.try_lock() {
            std::mem::forget(Arc::clone(&self.inner));
        }
    }
}

impl PoolState {
    /// Whether the family is being ended.
    pub(super) fn closing(&self) -> bool {
        self.life.is_stopping()
    }

    /// Begins to end the family: nothing runs again. What is left to wait for.
    pub(super) fn begin_to_stop(&mut self, deadline: Deadline) -> Leaving {
        self.life.begin_to_stop();
        self.family.begin_to_stop(deadline)
    }

    /// The family has ended: settles everything that has not settled.
    pub(super) fn stopped(&mut self) {
        self.family.end_all();
        self.abandon_nodes();
        let now = now_ns();
        while let Some(event) = self.family.next_event() {
            self.deal_with(event, now);
        }
        self.cancel_queue();
        self.life.end();
        self.waiters.desk.tell_everybody();
        self.update_event_fd();
        self.write_trace();
    }
}
