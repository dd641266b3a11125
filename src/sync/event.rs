//! The event.

use super::gate::{EVERYBODY, Gate, Watched};
use super::{AUTO_RESET, INTERRUPTIBLE, NO_MEMORY, Outcome, Patience, known_flags};
use crate::prim::{AtomicU32, Ordering};
use crate::sys::clock::Timeout;
use crate::sys::robust;
use core::array::from_fn;

/// Something that has happened, or not yet. All-zero memory is one that has not, and stays set once it is.
#[repr(C, align(8))]
#[derive(Debug)]
pub struct Event {
    /// Bit 0: set. Above: how often it has been set, so that a waiter sees that it was even if it no longer is.
    /// SeqCst: the gate is looked at next.
    state: AtomicU32,
    gate: Gate,
    /// Not written after the start.
    flags: AtomicU32,
    reserved: [AtomicU32; 13],
}

const SET: u32 = 1;

impl Event {
    /// One that is not set.
    pub fn new(flags: u32) -> Outcome<Event> {
        let flags = known_flags(flags, AUTO_RESET | INTERRUPTIBLE)?;
        Ok(Event {
            state: AtomicU32::new(0),
            gate: Gate::new(),
            flags: AtomicU32::new(flags),
            reserved: from_fn(|_| AtomicU32::new(0)),
        })
    }

    fn is_automatic(&self) -> bool {
        self.flags.load(Ordering::Relaxed) & AUTO_RESET != 0
    }

    /// Sets it: lets all waiters go, or one where it resets itself.
    pub fn set(&self) -> Outcome<()> {
        let me = robust::me().ok_or(NO_MEMORY)?;
        me.pend(self.gate.spot());
        let mut state = self.state.load(Ordering::Relaxed);
        while state & SET == 0 {
            let set = (state | SET).wrapping_add(2);
            match self.state.compare_exchange_weak(state, set, Ordering::SeqCst, Ordering::Relaxed) {
                Ok(_) => break,
                Err(now) => state = now,
            }
        }
        self.gate.open(if self.is_automatic() { 1 } else { EVERYBODY });
        me.pend_nothing();
        Ok(())
    }

    /// Clears it.
    pub fn clear(&self) {
        self.state.fetch_and(!SET, Ordering::SeqCst);
    }

    /// Whether it is set at this moment.
    pub fn is_set(&self) -> bool {
        self.state.load(Ordering::SeqCst) & SET != 0
    }

    /// Clears it, if it is set; otherwise what the word is.
    fn take(&self) -> Result<(), u32> {
        let mut state = self.state.load(Ordering::SeqCst);
        while state & SET != 0 {
            match self.state.compare_exchange_weak(state, state & !SET, Ordering::SeqCst, Ordering::Relaxed) {
                Ok(_) => return Ok(()),
                Err(now) => state = now,
            }
        }
        Err(state)
    }

    /// Waits until it is set; where it resets itself, one waiter clears it.
    pub fn wait<'a>(&'a self, timeout: Timeout) -> Outcome<()> {
        if self.is_automatic() {
            if self.take().is_ok() {
                return Ok(());
            }
            let (me, patience) = self.patience(timeout)?;
            let ready = |watched: &mut Watched<'a, 2>| match self.take() {
                Ok(()) => Some(()),
                Err(state) => {
                    watched.see(&self.state, state);
                    None
                }
            };
            return self.gate.wait(me, patience, ready, || self.is_set());
        }
        let began = self.state.load(Ordering::SeqCst);
        if began & SET != 0 {
            return Ok(());
        }
        let (me, patience) = self.patience(timeout)?;
        let happened = |now: u32| now & SET != 0 || now >> 1 != began >> 1;
        let ready = |watched: &mut Watched<'a, 2>| {
            let now = self.state.load(Ordering::SeqCst);
            watched.see(&self.state, now);
            happened(now).then_some(())
        };
        // Who set it may have died between opening the gate and waking everybody, so each of them wakes the rest.
        let wake_rest = || {
            if happened(self.state.load(Ordering::SeqCst)) {
                self.gate.wake_rest();
            }
            false
        };
        self.gate.wait(me, patience, ready, wake_rest)
    }

    fn patience(&self, timeout: Timeout) -> Outcome<(robust::Me, Patience)> {
        let me = robust::me().ok_or(NO_MEMORY)?;
        let interruptible = self.flags.load(Ordering::Relaxed) & INTERRUPTIBLE != 0;
        Ok((me, Patience::new(timeout, interruptible, !me.is_robust())))
    }
}
