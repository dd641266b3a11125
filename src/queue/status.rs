//! What a queue holds, its end, and when all that was put has been dealt with.

use super::layout::low_half;
use super::message::{MARKED, Queue, caller};
use crate::sync::gate::{EVERYBODY, Watched};
use crate::sync::{INTERRUPTIBLE, INVALID, Outcome, Patience};
use crate::sys::clock::Timeout;
use crate::sys::prim::Ordering;

impl Queue {
    /// How many messages are in the queue at this moment, without one that is being looked at in place.
    pub fn count(&self) -> usize {
        let shared = self.shared();
        // SeqCst: `head` first, so that what has been taken had been put.
        let head = shared.head.0.load(Ordering::SeqCst);
        let tail = shared.tail.0.load(Ordering::SeqCst);
        let count = (tail >> 1).wrapping_sub((head >> 1).wrapping_add(head & MARKED));
        if count > self.memory.geometry.slots() { 0 } else { count as usize }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count() == 0
    }

    /// Whether it holds as many as it may; not where it is closed, for then nobody waits for room.
    pub fn is_full(&self) -> bool {
        self.is_full_for(0)
    }

    /// Whether the queue has been closed.
    pub fn is_closed(&self) -> bool {
        self.shared().tail.0.load(Ordering::SeqCst) & MARKED != 0
    }

    /// Nothing more is put; what is in the queue can still be got. Producers that wait, and consumers once it is empty,
    /// get `EPIPE`.
    pub fn close(&self) -> Outcome<()> {
        let me = caller()?;
        let gate = &self.shared().header.gate;
        self.shared().header.unseen.declare(me);
        me.pend(gate.spot());
        // SeqCst: the gate is looked at next. Those that wait for a lock hear it from its holder, who wakes up here.
        self.shared().tail.0.fetch_or(MARKED, Ordering::SeqCst);
        gate.open(EVERYBODY);
        me.pend_nothing();
        Ok(())
    }

    /// One message that was got has been dealt with. `EINVAL` where that would be more than were put.
    pub fn task_done(&self) -> Outcome<()> {
        let me = caller()?;
        let header = &self.shared().header;
        header.unseen.declare(me);
        me.pend(header.join_gate.spot());
        let mut done = header.done.load(Ordering::Relaxed);
        let result = loop {
            let put = self.shared().tail.0.load(Ordering::SeqCst) >> 1;
            if done >= put {
                break Err(INVALID);
            }
            match header.done.compare_exchange_weak(done, done + 1, Ordering::SeqCst, Ordering::Relaxed) {
                Ok(_) => {
                    if done + 1 == put {
                        header.join_gate.open(EVERYBODY);
                    }
                    break Ok(());
                }
                Err(now) => done = now,
            }
        };
        me.pend_nothing();
        result
    }

    /// Messages that were put and for which nobody has said `task_done`.
    pub fn unfinished(&self) -> u64 {
        let done = self.shared().header.done.load(Ordering::SeqCst);
        (self.shared().tail.0.load(Ordering::SeqCst) >> 1).saturating_sub(done)
    }

    /// Waits until `task_done` was called for every message that was put.
    pub fn join<'a>(&'a self, timeout: Timeout) -> Outcome<()> {
        let me = caller()?;
        if self.unfinished() == 0 {
            return Ok(());
        }
        let header = &self.shared().header;
        let interruptible = header.flags.load(Ordering::Relaxed) & INTERRUPTIBLE != 0;
        let patience = Patience::new(timeout, interruptible, false);
        let finished = |watched: &mut Watched<'a, 4>| {
            // Before the look: what changes afterwards wakes, or keeps from sleeping.
            for word in [&header.done, &self.shared().tail.0] {
                watched.see(low_half(word), word.load(Ordering::SeqCst) as u32);
            }
            (self.unfinished() == 0).then_some(())
        };
        // Who finished the last one may have died before it could wake them all: each that goes wakes another.
        header.join_gate.wait(me, &header.unseen, patience, finished, || true)
    }
}
