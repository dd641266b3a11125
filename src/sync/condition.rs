//! The condition variable.
//!
//! Waiters sleep on three words at once: the sequence number, by which notifiers wake them; a gate, by which the kernel
//! wakes one when a waiter or notifier dies; and the baton, which a woken waiter holds until it has its mutex back, so
//! that its death on the way wakes another. One woken waiter is on its way at a time; what more was notified is owed,
//! and the one that arrives wakes the next. A notification can reach one waiter too many, never one too few.

use super::gate::Gate;
use super::mutex::Mutex;
use super::{
    AGAIN, Acquired, INTERRUPTIBLE, INVALID, NO_MEMORY, NOT_OWNER, Outcome, Patience, SLICE_NS, Then,
    known_flags,
};
use crate::error::Code;
use crate::prim::{AtomicU32, AtomicU64, MODEL, Ordering, futex_wait, futex_wait_any, futex_wake};
use crate::sys::clock::{Deadline, Timeout};
use crate::sys::robust::{self, ENTRY, Me, OWNER, Spot, WAITERS};
use core::array::from_fn;
use core::mem::{offset_of, size_of};

/// Waiting for something to become true that a mutex protects. All-zero memory is one that nobody waits for. All
/// words are SeqCst: waiters and notifiers each write one and then look at the other's.
#[repr(C, align(8))]
#[derive(Debug)]
pub struct Condition {
    /// A lock's word: whose waiter is on its way to the mutex. WAITERS is never taken away.
    #[cfg(not(target_env = "musl"))]
    baton: AtomicU32,
    gate: Gate,
    #[cfg(target_env = "musl")]
    baton: AtomicU32,
    /// Moves with every wake-up, so that a waiter which isn't asleep yet sees that one has been. Written by notifiers.
    sequence: AtomicU32,
    /// How often everybody has been notified.
    rounds: AtomicU32,
    /// Notifications to be delivered, in the low half; how often there were more, above.
    owed: AtomicU32,
    /// 0: nobody waits. Moved by every waiter, and zeroed by a notifier that found nobody since.
    waiting: AtomicU32,
    /// Not written after the start.
    flags: AtomicU32,
    reserved: AtomicU32,
    /// The kernel's way to the next lock of the thread with the baton.
    entry: AtomicU64,
    unused: [AtomicU64; 3],
}

const _: () = assert!(
    MODEL
        || offset_of!(Condition, entry) - offset_of!(Condition, baton) == ENTRY
            && size_of::<Condition>() == 64
);

const COUNT: u32 = 0xffff;
const ONE_MORE_TIME: u32 = COUNT + 1;
const EVERYBODY: u32 = u32::MAX;

/// What ended a sleep.
enum Woken {
    /// Somebody's notification, which is this waiter's to use. It has the baton.
    ByBaton,
    /// A notification that was for everybody, or that came while it wasn't asleep.
    Freely,
}

impl Condition {
    /// One that nobody waits for.
    pub fn new(flags: u32) -> Outcome<Condition> {
        let flags = known_flags(flags, INTERRUPTIBLE)?;
        Ok(Condition {
            baton: AtomicU32::new(0),
            gate: Gate::new(),
            sequence: AtomicU32::new(0),
            rounds: AtomicU32::new(0),
            owed: AtomicU32::new(0),
            waiting: AtomicU32::new(0),
            flags: AtomicU32::new(flags),
            reserved: AtomicU32::new(0),
            entry: AtomicU64::new(0),
            unused: from_fn(|_| AtomicU64::new(0)),
        })
    }

    fn spot(&self) -> Spot {
        // SAFETY: the entry lies `ENTRY` bytes behind the baton and is written by the robust list alone.
        unsafe { Spot::new(self, offset_of!(Condition, baton)) }
    }

    /// Releases the mutex, waits for a notification, and takes the mutex back, however long that takes.
    pub fn wait(&self, mutex: &Mutex, timeout: Timeout) -> Outcome<Acquired> {
        let me = robust::me().ok_or(NO_MEMORY)?;
        match mutex.held_by(me) {
            None => return Err(NOT_OWNER),
            Some(0) => {}
            Some(_) => return Err(INVALID),
        }
        if timeout == Timeout::Try {
            return Err(AGAIN);
        }
        let interruptible = self.flags.load(Ordering::Relaxed) & INTERRUPTIBLE != 0;
        let mut patience = Patience::new(timeout, interruptible, !me.is_robust());
        patience.may_wait()?;
        // In this order: a notifier that doesn't see this waiter has moved the sequence before it was read here.
        let rounds = self.rounds.load(Ordering::SeqCst);
        let sequence = self.sequence.load(Ordering::SeqCst);
        self.announce();
        mutex.unlock()?;
        me.pend(self.gate.spot());
        let woken = self.sleep(me, sequence, rounds, &mut patience);
        me.pend_nothing();
        let again = mutex.lock_again(me);
        if let Ok(Woken::ByBaton) = woken {
            self.hand_on(me);
        }
        match (again?, woken) {
            (Acquired::OwnerDied, _) => Ok(Acquired::OwnerDied),
            (Acquired::Clean, Ok(_)) => Ok(Acquired::Clean),
            (Acquired::Clean, Err(code)) => Err(code),
        }
    }

    /// Says that somebody waits. The sequence was read before.
    fn announce(&self) {
        if self.waiting.fetch_add(1, Ordering::SeqCst) == u32::MAX {
            self.waiting.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Sleeps until notified. The gate is pending, before and after.
    fn sleep(&self, me: Me, mut sequence: u32, rounds: u32, patience: &mut Patience) -> Result<Woken, Code> {
        loop {
            let missed = || {
                self.rounds.load(Ordering::SeqCst) != rounds
                    || self.sequence.load(Ordering::SeqCst) != sequence
            };
            if missed() {
                return Ok(Woken::Freely);
            }
            let baton = self.baton.fetch_or(WAITERS, Ordering::SeqCst) | WAITERS;
            self.gate.close();
            let words = [(&self.sequence, sequence), (self.gate.word(), WAITERS), (&self.baton, baton)];
            let (wait, by) = futex_wait_any(&words, patience.until()).unwrap_or_else(|| {
                // Without it a death goes unnoticed, so the wait looks round; it then finds the sequence moved.
                let until = patience.until().min(Deadline::after(SLICE_NS));
                (futex_wait(&self.sequence, sequence, until), 0)
            });
            let again = match patience.after(wait) {
                Ok(Then::Look { slept: true }) if wait == crate::prim::Wait::Woken => None,
                Ok(_) => Some(patience.may_wait()),
                Err(code) => Some(Err(code)),
            };
            match again {
                None => {}
                Some(Ok(())) => continue,
                Some(Err(_)) if missed() => return Ok(Woken::Freely),
                Some(Err(code)) => return Err(code),
            }
            if self.rounds.load(Ordering::SeqCst) != rounds {
                if by != 0 {
                    // The kernel's wake-up: who notified everybody may have died before it had woken them.
                    self.wake_everybody();
                }
                return Ok(Woken::Freely);
            }
            if by != 0 && missed() {
                // This may have been two wake-ups in one.
                futex_wake(&self.sequence, 1);
            }
            if self.take_baton(me) {
                return Ok(Woken::ByBaton);
            }
            // Somebody else is on the way, and will wake the next. That may be this one, so it starts anew.
            sequence = self.sequence.load(Ordering::SeqCst);
            self.announce();
            self.owe(1);
            if self.baton.load(Ordering::SeqCst) & OWNER == 0 && self.collect() {
                if self.take_baton(me) {
                    return Ok(Woken::ByBaton);
                }
                self.owe(1);
            }
        }
    }

    /// Takes the baton if nobody has it. It is on the list before the gate is no longer pending.
    fn take_baton(&self, me: Me) -> bool {
        let value = self.baton.load(Ordering::SeqCst);
        if value & OWNER != 0 {
            return false;
        }
        me.pend(self.spot());
        let mine = me.tid() | WAITERS;
        if self.baton.compare_exchange(value, mine, Ordering::SeqCst, Ordering::SeqCst).is_err() {
            me.pend(self.gate.spot());
            return false;
        }
        me.push(self.spot());
        true
    }

    /// Passes the baton on, with the mutex in hand.
    fn hand_on(&self, me: Me) {
        me.pend(self.spot());
        me.remove(self.spot());
        self.baton.store(WAITERS, Ordering::SeqCst);
        self.deliver();
        me.pend_nothing();
    }

    /// Adds to what is owed.
    fn owe(&self, count: u32) {
        let mut owed = self.owed.load(Ordering::SeqCst);
        loop {
            let total = (owed & COUNT).saturating_add(count).min(COUNT);
            let more = (owed & !COUNT).wrapping_add(ONE_MORE_TIME) | total;
            match self.owed.compare_exchange_weak(owed, more, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => return,
                Err(now) => owed = now,
            }
        }
    }

    /// Takes one of what is owed; whether there was any.
    fn collect(&self) -> bool {
        let mut owed = self.owed.load(Ordering::SeqCst);
        while owed & COUNT != 0 {
            match self.owed.compare_exchange_weak(owed, owed - 1, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => return true,
                Err(now) => owed = now,
            }
        }
        false
    }

    /// Wakes one waiter for one notification that is owed, unless one is on its way: that one calls this again.
    fn deliver(&self) {
        if self.baton.load(Ordering::SeqCst) & OWNER != 0 || !self.collect() {
            return;
        }
        // Read first: what is written off below was there before the wake-up that found nobody.
        let (owed, waiting) = (self.owed.load(Ordering::SeqCst), self.waiting.load(Ordering::SeqCst));
        self.sequence.fetch_add(1, Ordering::SeqCst);
        if futex_wake(&self.sequence, 1) == 0 {
            // Nobody slept; whoever is about to sees the sequence. Where more has come, it stays.
            let _ = self.owed.compare_exchange(owed, owed & !COUNT, Ordering::SeqCst, Ordering::SeqCst);
            let _ = self.waiting.compare_exchange(waiting, 0, Ordering::SeqCst, Ordering::SeqCst);
        }
    }

    /// Wakes `count` waiters, or as many as there are.
    pub fn notify(&self, count: u32) -> Outcome<()> {
        if count == 0 || self.waiting.load(Ordering::SeqCst) == 0 {
            return Ok(());
        }
        if count >= COUNT {
            return self.notify_all();
        }
        let me = robust::me().ok_or(NO_MEMORY)?;
        me.pend(self.gate.spot());
        self.owe(count);
        self.deliver();
        me.pend_nothing();
        Ok(())
    }

    /// Wakes all waiters.
    pub fn notify_all(&self) -> Outcome<()> {
        let waiting = self.waiting.load(Ordering::SeqCst);
        if waiting == 0 {
            return Ok(());
        }
        let me = robust::me().ok_or(NO_MEMORY)?;
        me.pend(self.gate.spot());
        self.rounds.fetch_add(1, Ordering::SeqCst);
        self.wake_everybody();
        let _ = self.waiting.compare_exchange(waiting, 0, Ordering::SeqCst, Ordering::SeqCst);
        me.pend_nothing();
        Ok(())
    }

    fn wake_everybody(&self) {
        self.sequence.fetch_add(1, Ordering::SeqCst);
        futex_wake(&self.sequence, EVERYBODY);
    }
}
