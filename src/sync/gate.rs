//! A word to sleep on that never has a holder, so that the kernel itself passes a dead one's wake-up on.
//!
//! The word is 0 or WAITERS. While a thread waits at the gate or opens it, the gate is its pending spot. Should the
//! thread die then, the kernel wakes one sleeper, because the word holds no number. The rules that make that enough:
//! a waiter sets the bit before it looks at what it waits for; who publishes something looks at the bit afterwards;
//! and a waiter that has been woken sets the bit again, because others may sleep on, and wakes one more if there is
//! more to be had.

use super::{Outcome, Patience, Then};
use crate::prim::{AtomicU32, Ordering, futex_wait, futex_wake};
use crate::sys::robust::{Me, Spot, WAITERS};

pub(crate) const EVERYBODY: u32 = u32::MAX;

#[repr(transparent)]
#[derive(Debug)]
pub(crate) struct Gate(AtomicU32);

impl Gate {
    pub const fn new() -> Gate {
        Gate(AtomicU32::new(0))
    }

    #[inline(always)]
    pub fn spot(&self) -> Spot {
        // SAFETY: this spot is only ever pending; its entry is computed, never used.
        unsafe { Spot::new(self, 0) }
    }

    /// Lets sleepers go, after something was published. SeqCst: pairs with `close`, so that either the waiter sees what
    /// was published or this sees the waiter.
    #[inline(always)]
    pub fn open(&self, count: u32) {
        if self.0.load(Ordering::SeqCst) != 0 {
            self.open_slowly(count);
        }
    }

    #[cold]
    #[inline(never)]
    fn open_slowly(&self, count: u32) {
        if self.0.swap(0, Ordering::SeqCst) != 0 {
            futex_wake(&self.0, count);
        }
    }

    /// The word, for those that sleep on more than this.
    pub fn word(&self) -> &AtomicU32 {
        &self.0
    }

    /// Whether somebody may sleep. SeqCst, as in `open`.
    #[inline(always)]
    pub fn is_closed(&self) -> bool {
        self.0.load(Ordering::SeqCst) != 0
    }

    /// Says that somebody is about to sleep. Look at what you wait for once more after this.
    pub fn close(&self) {
        // SeqCst: pairs with `open`.
        self.0.fetch_or(WAITERS, Ordering::SeqCst);
    }

    /// Wakes whoever sleeps, bit or no bit: for what lets everybody go.
    pub fn wake_rest(&self) {
        futex_wake(&self.0, EVERYBODY);
    }

    /// Waits at the gate until `ready` gives something. `more` says whether others could have something too.
    pub fn wait<T>(
        &self,
        me: Me,
        mut patience: Patience,
        ready: impl Fn() -> Option<T>,
        more: impl Fn() -> bool,
    ) -> Outcome<T> {
        me.pend(self.spot());
        let mut slept = false;
        let result = loop {
            if let Some(result) = ready() {
                break Ok(result);
            }
            if let Err(code) = patience.may_wait() {
                break Err(code);
            }
            self.close();
            if let Some(result) = ready() {
                break Ok(result);
            }
            match patience.after(futex_wait(&self.0, WAITERS, patience.until())) {
                Ok(Then::Look { slept: false }) => {}
                Ok(_) => slept = true,
                Err(code) => break Err(code),
            }
        };
        if slept {
            self.close();
            if more() {
                self.open(1);
            }
        }
        me.pend_nothing();
        result
    }
}
