//! The event.
//!
//! One word says whether it is set, whether somebody may sleep, and, where it stays set, how often it has been cleared. Who
//! sets it changes the word and wakes the sleepers in one step of the kernel's (`futex_change`), or knows from the
//! exchange that sets it that nobody sleeps. So no death comes between, nothing needs to be passed on by who sets it, and it
//! does not look at the event again: who was told may have freed it.
//!
//! | stays set | means | becomes |
//! |---|---|---|
//! | n, WAITERS or not | not set; some may sleep | with SET; all wake |
//! | n, SET | set: nobody sleeps | n + 1 when it is cleared |
//!
//! A waiter has seen a number; SET or another number means that it was set since. It needs nothing from anybody who could
//! die: all are woken at once.
//!
//! | resets itself | means | becomes |
//! |---|---|---|
//! | 0 | not set; those that sleep have somebody awake who answers for them | SET; WAITERS by who is about to sleep |
//! | WAITERS | not set; some may sleep | SET, and one wakes |
//! | SET | set | 0 by who takes it |
//!
//! Who has been woken answers for those that sleep on: it has the word pending, which holds no number, so that its death
//! wakes the next; and it passes on what is left, or sets WAITERS.

use super::gate::{EVERYBODY, Unseen, wait_marked};
use super::{AGAIN, AUTO_RESET, INTERRUPTIBLE, NO_MEMORY, Outcome, Patience, known_flags};
use crate::sys::clock::Timeout;
use crate::sys::prim::{AtomicU32, Change, Ordering, futex_change, futex_wait, futex_wake};
use crate::sys::robust::{self, WAITERS};
use core::array::from_fn;

/// Something that has happened, or not yet. All-zero memory is one that has not, and stays set once it is.
#[repr(C, align(8))]
#[derive(Debug)]
pub struct Event {
    /// SeqCst: what was done before it was set is seen by who is let go, and those that set it and look at something else
    /// next don't miss who clears it and looks there next.
    state: AtomicU32,
    /// Not written after the start.
    flags: AtomicU32,
    /// Where it resets itself; else nobody's death takes a wake-up along.
    unseen: Unseen,
    reserved: [AtomicU32; 13],
}

/// Not among the bits of a thread's number, as WAITERS, so that the kernel takes the word for nobody's.
const SET_BIT: u32 = 30;
const SET: u32 = 1 << SET_BIT;
/// How often it has been cleared, where it stays set.
const CLEARED: u32 = SET - 1;

impl Event {
    /// One that is not set.
    pub fn new(flags: u32) -> Outcome<Event> {
        let flags = known_flags(flags, AUTO_RESET | INTERRUPTIBLE)?;
        Ok(Event {
            state: AtomicU32::new(0),
            flags: AtomicU32::new(flags),
            unseen: Unseen::new(),
            reserved: from_fn(|_| AtomicU32::new(0)),
        })
    }

    fn is_automatic(&self) -> bool {
        self.flags.load(Ordering::Relaxed) & AUTO_RESET != 0
    }

    /// Sets it: lets all waiters go, or one where it resets itself.
    pub fn set(&self) {
        // Before it is set: afterwards it may be gone.
        let automatic = self.is_automatic();
        let mut state = self.state.load(Ordering::Relaxed);
        loop {
            if state & (SET | WAITERS) == WAITERS {
                return if automatic {
                    futex_change(&self.state, Change::SetOnly(SET_BIT), 1);
                } else {
                    futex_change(&self.state, Change::Set(SET_BIT), EVERYBODY);
                };
            }
            // An exchange even where it is set: who takes it next must see what was done before this call.
            match self.state.compare_exchange_weak(state, state | SET, Ordering::SeqCst, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => state = now,
            }
        }
    }

    /// Clears it.
    pub fn clear(&self) {
        let _ = self.take();
    }

    /// Whether it is set at this moment.
    pub fn is_set(&self) -> bool {
        self.state.load(Ordering::SeqCst) & SET != 0
    }

    /// Clears it; whether it was set.
    fn take(&self) -> bool {
        let mut state = self.state.load(Ordering::SeqCst);
        while state & SET != 0 {
            let cleared = if self.is_automatic() { 0 } else { (state & CLEARED).wrapping_add(1) & CLEARED };
            match self.state.compare_exchange_weak(state, cleared, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => return true,
                Err(now) => state = now,
            }
        }
        false
    }

    /// How often it has been cleared, modulo 2^30; 0 where it resets itself.
    pub fn cleared(&self) -> u32 {
        if self.is_automatic() { 0 } else { self.state.load(Ordering::SeqCst) & CLEARED }
    }

    /// Waits until it is set, or has been set and cleared since it had been cleared so often: for a wait in several calls.
    pub fn wait_after(&self, cleared: u32, timeout: Timeout) -> Outcome<()> {
        if self.is_automatic() {
            return self.wait(timeout);
        }
        let interruptible = self.flags.load(Ordering::Relaxed) & INTERRUPTIBLE != 0;
        self.wait_since(cleared, Patience::new(timeout, interruptible, false))
    }

    /// Waits until it is set; where it resets itself, one waiter clears it.
    pub fn wait(&self, timeout: Timeout) -> Outcome<()> {
        let (automatic, began) = (self.is_automatic(), self.state.load(Ordering::SeqCst));
        if if automatic { self.take() } else { began & SET != 0 } {
            return Ok(());
        }
        if timeout == Timeout::Try {
            return Err(AGAIN);
        }
        let interruptible = self.flags.load(Ordering::Relaxed) & INTERRUPTIBLE != 0;
        if automatic {
            let me = robust::me().ok_or(NO_MEMORY)?;
            let patience = Patience::new(timeout, interruptible, false);
            let (take, mark, pass_on) = (|| self.take(), || self.mark(), || self.pass_on());
            wait_marked(me, &self.state, &self.unseen, patience, take, mark, pass_on)
        } else {
            self.wait_since(began, Patience::new(timeout, interruptible, false))
        }
    }

    /// Waits until it is set, or has been since the word was `began`.
    fn wait_since(&self, began: u32, mut patience: Patience) -> Outcome<()> {
        loop {
            let now = self.state.load(Ordering::SeqCst);
            if now & SET != 0 || (now ^ began) & CLEARED != 0 {
                return Ok(());
            }
            patience.may_wait()?;
            let marked = now | WAITERS;
            if now == marked
                || self.state.compare_exchange(now, marked, Ordering::SeqCst, Ordering::Relaxed).is_ok()
            {
                patience.after(futex_wait(&self.state, marked, patience.until()))?;
            }
        }
    }

    /// Where it resets itself: says that somebody is about to sleep, unless it is set; what the word is then.
    fn mark(&self) -> Option<u32> {
        let mut now = 0;
        loop {
            let marked = now | WAITERS;
            match self.state.compare_exchange(now, marked, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => return Some(marked),
                Err(other) if other & SET != 0 => return None,
                Err(other) if other & WAITERS != 0 => return Some(other),
                // 0 again, or what somebody has written there.
                Err(other) => now = other,
            }
        }
    }

    fn pass_on(&self) {
        while self.mark().is_none() {
            if self.is_set() {
                futex_wake(&self.state, 1);
                return;
            }
        }
    }
}
