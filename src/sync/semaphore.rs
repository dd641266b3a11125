//! The counting semaphore.
//!
//! Whether somebody may sleep and how many units are free stand side by side and change in one step: there are units, or
//! there is the mark, never both. So who gives units knows from its one exchange whether to wake somebody, and does not
//! look at the semaphore again: who got the unit may have freed it.
//!
//! | mark, free | means | becomes |
//! |---|---|---|
//! | 0, n | n can be taken; if n is 0, those that sleep have somebody awake who answers for them | 0, n - 1 by who takes; 0, n + k by who gives |
//! | WAITERS, 0 | some may sleep | 0, k by who gives k, and wakes as many |
//!
//! Who has been woken answers for those that sleep on: it has the mark pending, so that its death wakes the next, and it
//! passes on what is left, or sets the mark.

use super::gate::{Unseen, wait_marked};
use super::{AGAIN, INTERRUPTIBLE, INVALID, NO_MEMORY, Outcome, Patience, TOO_MANY, known_flags};
use crate::sys::clock::Timeout;
use crate::sys::owner;
use crate::sys::prim::{AtomicU32, Ordering, Pair, futex_wake};
use crate::sys::robust::{self, Spot, WAITERS};
use core::array::from_fn;

/// The most units that a semaphore can have.
pub const MOST: u32 = i32::MAX as u32;

/// Units that are taken and given back. All-zero memory has none, and room for as many as fit.
#[repr(C, align(8))]
#[derive(Debug)]
pub struct Semaphore {
    /// The mark, and the free units. Acquire to take, Release to give: what was done before a unit was given is seen by
    /// who takes it.
    state: Pair,
    /// The most free units there may be; 0 stands for `MOST`. Not written after the start, like the flags.
    max: AtomicU32,
    flags: AtomicU32,
    unseen: Unseen,
    reserved: [AtomicU32; 11],
}

impl Semaphore {
    /// With `value` free units out of at most `max`, where 0 is as many as fit.
    pub fn new(value: u32, max: u32, flags: u32) -> Outcome<Semaphore> {
        let flags = known_flags(flags, INTERRUPTIBLE)?;
        let limit = if max == 0 { MOST } else { max };
        if limit > MOST || value > limit {
            return Err(INVALID);
        }
        Ok(Semaphore {
            state: Pair::new((0, value)),
            max: AtomicU32::new(max),
            flags: AtomicU32::new(flags),
            unseen: Unseen::new(),
            reserved: from_fn(|_| AtomicU32::new(0)),
        })
    }

    /// Takes one unit if there is one; whether there was.
    #[inline(always)]
    pub fn take_free(&self) -> bool {
        let (mut mark, mut free) = self.state.load(Ordering::Relaxed);
        while free > 0 {
            match self.state.subtract_one((mark, free), Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(now) => (mark, free) = now,
            }
        }
        false
    }

    /// Takes one unit.
    #[inline(always)]
    pub fn acquire(&self, timeout: Timeout) -> Outcome<()> {
        // No wake-up is used up here, so a death leaves nothing to pass on.
        if self.take_free() { Ok(()) } else { self.acquire_slowly(timeout) }
    }

    #[cold]
    #[inline(never)]
    fn acquire_slowly(&self, timeout: Timeout) -> Outcome<()> {
        if timeout == Timeout::Try {
            return Err(AGAIN);
        }
        let me = robust::me().ok_or(NO_MEMORY)?;
        if owner::many_processors() {
            for _ in 0..SPINS {
                if self.take_free() {
                    return Ok(());
                }
                core::hint::spin_loop();
            }
        }
        let interruptible = self.flags.load(Ordering::Relaxed) & INTERRUPTIBLE != 0;
        let patience = Patience::new(timeout, interruptible, false);
        let (take, mark, pass_on) = (|| self.take_free(), || self.mark(), || self.pass_on());
        wait_marked(me, self.state.word(), &self.unseen, patience, take, mark, pass_on)
    }

    /// Says that somebody is about to sleep, unless there are units; what the word is then.
    fn mark(&self) -> Option<u32> {
        match self.state.load(Ordering::Relaxed) {
            (0, 0) => {
                let (free, marked) = ((0, 0), (WAITERS, 0));
                let result = self.state.compare_exchange(free, marked, Ordering::Relaxed, Ordering::Relaxed);
                result.is_ok().then_some(WAITERS)
            }
            // WAITERS, or what somebody has written there: whoever gives a unit wakes for it all the same.
            (mark, 0) => Some(mark),
            _ => None,
        }
    }

    fn pass_on(&self) {
        while self.mark().is_none() {
            if self.state.load(Ordering::Relaxed).1 > 0 {
                futex_wake(self.state.word(), 1);
                return;
            }
        }
    }

    /// Gives `count` units the short way: room for them, and nobody waits. Whether it was that.
    #[inline(always)]
    pub fn give_unnoticed(&self, count: u32) -> bool {
        let (mark, free) = self.state.load(Ordering::Relaxed);
        if mark != 0 || !self.has_room(free, count) {
            return false;
        }
        self.state.add((mark, free), count, Ordering::Release, Ordering::Relaxed).is_ok()
    }

    #[inline(always)]
    fn has_room(&self, free: u32, count: u32) -> bool {
        let most = self.most();
        count <= most && free <= most - count
    }

    fn most(&self) -> u32 {
        match self.max.load(Ordering::Relaxed) {
            0 => MOST,
            max => max,
        }
    }

    /// Gives `count` units; `EOVERFLOW`, and none given, where that would be more than there may be.
    #[inline(always)]
    pub fn release(&self, count: u32) -> Outcome<()> {
        if self.give_unnoticed(count) { Ok(()) } else { self.release_slowly(count) }
    }

    #[cold]
    #[inline(never)]
    fn release_slowly(&self, count: u32) -> Outcome<()> {
        let me = robust::me().ok_or(NO_MEMORY)?;
        self.unseen.declare(me);
        // A signal handler may be here, in the middle of another call, whose wake-up the pending spot answers for. There is one such
        // spot, so it stays, and nobody passes on the wake-up that is given here: those that wait here look round.
        let in_another_call = me.pends_any();
        if in_another_call {
            self.unseen.mark();
        } else {
            // SAFETY: this spot is only ever pending; its entry is computed, never used.
            me.pend(unsafe { Spot::new(self.state.word(), 0) });
        }
        let (mut mark, mut free) = self.state.load(Ordering::Relaxed);
        let result = loop {
            if !self.has_room(free, count) {
                break Err(TOO_MANY);
            }
            let given = self.state.compare_exchange(
                (mark, free),
                (if count == 0 { mark } else { 0 }, free + count),
                Ordering::Release,
                Ordering::Relaxed,
            );
            match given {
                Ok(_) => break Ok(()),
                Err(now) => (mark, free) = now,
            }
        };
        // From here on the semaphore may be gone: its address is all that is used.
        if result.is_ok() && mark != 0 && count != 0 {
            futex_wake(self.state.word(), count);
        }
        if !in_another_call {
            me.pend_nothing();
        }
        result
    }

    /// The units that are free at this moment.
    pub fn value(&self) -> u32 {
        self.state.load(Ordering::Relaxed).1
    }
}

const SPINS: u32 = 40;
