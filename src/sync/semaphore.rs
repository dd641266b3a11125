//! The counting semaphore.

use super::gate::Gate;
use super::{INTERRUPTIBLE, INVALID, NO_MEMORY, Outcome, Patience, TOO_MANY, known_flags};
use crate::prim::{AtomicU32, Ordering};
use crate::sys::clock::Timeout;
use crate::sys::owner;
use crate::sys::robust::{self, Me};

/// The most units that a semaphore can have.
pub const MOST: u32 = i32::MAX as u32;

/// Units that are taken and given back. All-zero memory has none, and room for as many as fit.
#[repr(C, align(8))]
#[derive(Debug)]
pub struct Semaphore {
    /// Free units. Whoever takes or gives one writes it. Acquire to take, Release to give: what was done before a unit
    /// was given is seen by who takes it; SeqCst where the gate is looked at next.
    value: AtomicU32,
    gate: Gate,
    /// The most free units there may be; 0 stands for `MOST`. Not written after the start, like the flags.
    max: AtomicU32,
    flags: AtomicU32,
    reserved: [AtomicU32; 12],
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
            value: AtomicU32::new(value),
            gate: Gate::new(),
            max: AtomicU32::new(max),
            flags: AtomicU32::new(flags),
            reserved: [const { AtomicU32::new(0) }; 12],
        })
    }

    #[inline(always)]
    fn take(&self) -> Option<()> {
        let mut value = self.value.load(Ordering::Relaxed);
        while value > 0 {
            match self.value.compare_exchange_weak(value, value - 1, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return Some(()),
                Err(now) => value = now,
            }
        }
        None
    }

    /// Takes one unit if there is one; whether there was.
    #[inline(always)]
    pub fn take_free(&self) -> bool {
        self.take().is_some()
    }

    /// Takes one unit.
    #[inline(always)]
    pub fn acquire(&self, timeout: Timeout) -> Outcome<()> {
        // No wake-up is used up here, so a death leaves nothing to pass on.
        if self.take().is_some() { Ok(()) } else { self.acquire_slowly(timeout) }
    }

    #[cold]
    #[inline(never)]
    fn acquire_slowly(&self, timeout: Timeout) -> Outcome<()> {
        let me = robust::me().ok_or(NO_MEMORY)?;
        if timeout != Timeout::Try && owner::many_processors() {
            for _ in 0..SPINS {
                if self.take().is_some() {
                    return Ok(());
                }
                core::hint::spin_loop();
            }
        }
        let interruptible = self.flags.load(Ordering::Relaxed) & INTERRUPTIBLE != 0;
        let patience = Patience::new(timeout, interruptible, !me.is_robust());
        self.gate.wait(me, patience, || self.take(), || self.value.load(Ordering::SeqCst) > 0)
    }

    /// Gives `count` units the short way: room for them, and nobody waits. Whether it was that.
    #[inline(always)]
    pub fn give_unnoticed(&self, count: u32) -> bool {
        let Some(me) = robust::known() else { return false };
        let (max, value) = (self.most(), self.value.load(Ordering::Relaxed));
        if count > max || value > max - count {
            return false;
        }
        me.pend(self.gate.spot());
        let given =
            self.value.compare_exchange(value, value + count, Ordering::SeqCst, Ordering::Relaxed).is_ok();
        if given && self.gate.is_closed() {
            return self.notice(me, count);
        }
        me.pend_nothing();
        given
    }

    #[cold]
    #[inline(never)]
    fn notice(&self, me: Me, count: u32) -> bool {
        self.gate.open(count);
        me.pend_nothing();
        true
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
        let max = self.most();
        me.pend(self.gate.spot());
        let mut value = self.value.load(Ordering::Relaxed);
        let result = loop {
            if count > max || value > max - count {
                break Err(TOO_MANY);
            }
            match self.value.compare_exchange_weak(value, value + count, Ordering::SeqCst, Ordering::Relaxed)
            {
                Ok(_) => break Ok(()),
                Err(now) => value = now,
            }
        };
        self.gate.open(count);
        me.pend_nothing();
        result
    }

    /// The units that are free at this moment.
    pub fn value(&self) -> u32 {
        self.value.load(Ordering::Relaxed)
    }
}

const SPINS: u32 = 40;
