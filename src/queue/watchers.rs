//! Watching a queue without taking from it, and its end.
//!
//! A process that has a descriptor of a queue watches it in a thread of its own (`watch.rs`), in no call of the user's. So
//! the process that destroys the queue cannot know of it, and must not give the memory back under it. Who watches holds
//! `watchers` for reading for as long as it may touch the queue; who destroys says so, and takes it for writing.
//!
//! | the destroyer dies | leaves | then |
//! |---|---|---|
//! | before the mark is gone | the queue | it goes on |
//! | after it, before the wake-up | `end_gate` pending | the kernel wakes one that watches, which wakes the others; they let go |
//! | waiting for them, or after it | a block without a queue | it is listed under the dead one's pid |
//! | a watching process dies | its place in `watchers` | the kernel frees it: nobody waits for the dead |
//!
//! One that watches sleeps in three places: behind the consumers' lock, from whose holder it hears when that leaves; at the
//! gate with that lock; or on a word of its own, while its descriptor is readable. In the latter two it sleeps on `end_gate`
//! and on what it last saw of the mark, so that it misses no end between its look and its sleep.

use super::layout::low_half;
use super::message::{Queue, Wait};
use crate::sync::gate::EVERYBODY;
use crate::sync::{AGAIN, Acquired, INVALID, NO_LOCKS, Outcome, SLICE_NS};
use crate::sys::clock::{Deadline, Timeout};
use crate::sys::prim::{AtomicU32, Ordering, futex_wait, futex_wait_any, futex_wake};
use crate::sys::robust::{Me, WAITERS};

/// How long a destroyer waits for those that watch. They need microseconds, unless they are stopped.
const LET_GO_NS: u64 = 1_000_000_000;

impl Queue {
    /// The calling thread watches from now on: the memory stays until `end_vigil`. `ENOLCK`: too many processes do.
    pub(super) fn begin_vigil(&self) -> Outcome<()> {
        match self.shared().watchers.read_lock(Timeout::Try) {
            Err(AGAIN) if !self.is_gone() => Err(NO_LOCKS),
            Err(AGAIN) => Err(INVALID),
            taken => taken.map(|_| ()),
        }
    }

    /// The memory may go.
    pub(super) fn end_vigil(&self) {
        // It can't fail but where somebody has written into the lock.
        let _ = self.shared().watchers.unlock();
    }

    /// Whether the queue has been destroyed. For those whose memory stays, or whose queue does.
    pub(super) fn is_gone(&self) -> bool {
        self.shared().header.mark.load(Ordering::SeqCst) != self.memory.geometry.mark()
    }

    /// Waits until there is a message, the queue is closed or destroyed, or `stop` is not 0, and takes nothing.
    pub(super) fn wait_for_some(&self, me: Me, stop: &AtomicU32) -> Outcome<()> {
        // What it throws away of a consumer that died is room, which producers are to hear of whoever dies next.
        self.shared().header.unseen.declare(me);
        let lock = &self.shared().consumers.lock;
        if lock.take_unless(me, stop)? == Acquired::OwnerDied {
            let _ = lock.repair(me);
        }
        let result = self.find_message(me, &mut Wait::new(Timeout::Forever), Some(stop));
        self.leave(me, &self.shared().consumers);
        result.map(|_| ())
    }

    /// Sleeps until a private word is no longer `value`, or the queue has been destroyed.
    pub(super) fn wait_for_end(&self, word: &AtomicU32, value: u32) {
        let header = &self.shared().header;
        // Before the look. What is there, whoever has written it.
        let end = header.end_gate.word().load(Ordering::SeqCst);
        let mark = header.mark.load(Ordering::SeqCst);
        if self.is_gone() {
            return;
        }
        let words = [(word, value), (header.end_gate.word(), end), (low_half(&header.mark), mark as u32)];
        if futex_wait_any(&words, Deadline::NEVER).is_none() {
            // A kernel that can't: the wait looks round.
            futex_wait(word, value, Deadline::after(SLICE_NS));
        }
        if self.is_gone() {
            // The destroyer may have died before it had told the others.
            header.end_gate.wake_rest();
        }
    }

    /// Wakes whoever watches, whatever the words say; others than the one that is meant sleep on. The gate's word stays as it is: it
    /// belongs to those that sleep there, and who dies between clearing it and waking them has taken their wake-up along.
    pub(super) fn wake_watcher(&self) {
        let shared = self.shared();
        shared.header.gate.wake_rest();
        futex_wake(shared.consumers.lock.word(), EVERYBODY);
    }

    /// Ends the queue, in one process of several that may try, and tells those that watch.
    pub(super) fn put_an_end(&self, me: Me) -> Outcome<()> {
        let header = &self.shared().header;
        let mark = self.memory.geometry.mark();
        me.pend(header.end_gate.spot());
        let ended = header.mark.compare_exchange(mark, 0, Ordering::SeqCst, Ordering::Relaxed);
        if ended.is_ok() {
            // Another value than before, whatever that was: who is about to sleep on it does not.
            header.end_gate.word().fetch_xor(WAITERS, Ordering::SeqCst);
            header.end_gate.wake_rest();
        }
        me.pend_nothing();
        ended.map(|_| ()).map_err(|_| INVALID)
    }

    /// Waits for those that watch to let go; whether they have, and the memory may be used for something else.
    pub(super) fn all_have_let_go(&self) -> bool {
        let watchers = &self.shared().watchers;
        watchers.write_lock(Timeout::After(LET_GO_NS)).is_ok() && watchers.unlock().is_ok()
    }
}
