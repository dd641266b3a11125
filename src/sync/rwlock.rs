//! The reader-writer lock: a lock for writers, and a slot of its own for each reader at a time.
//!
//! A reader claims a slot, which is a lock of its own cache line, and then looks for a writer; a writer takes the
//! writers' lock and then looks at the slots. Each of the two writes its own word before it looks at the other's, so
//! at least one sees the other. Readers that run on different processors share no line that anybody writes.

use super::gate::Watched;
use super::lock::Lock;
use super::{
    AUTO_REPAIR, Acquired, DEADLOCK, INTERRUPTIBLE, NO_LOCKS, NO_MEMORY, NOT_OWNER, Outcome, PREFER_READERS,
    Patience, UNRECOVERABLE, known_flags,
};
use crate::prim::{AtomicU32, MODEL, Ordering};
use crate::sys::clock::{Deadline, Timeout, now_ns};
use crate::sys::robust::{self, DIED, Me, OWNER};
use core::array::from_fn;
use core::mem::size_of;

/// How many readers there can be at a time; more wait.
pub const READERS: usize = if MODEL { 2 } else { 15 };

/// Many readers or one writer, among the threads of all processes that share it. All-zero memory is a free one that
/// prefers writers.
#[repr(C)]
#[derive(Debug)]
pub struct RwLock {
    /// Its gate is where readers wait while all slots are taken.
    writers: Lock,
    slots: [Lock; READERS],
}

const _: () = assert!(MODEL || size_of::<RwLock>() == 1024);

impl RwLock {
    /// A free lock.
    pub fn new(flags: u32) -> Outcome<RwLock> {
        let flags = known_flags(flags, PREFER_READERS | INTERRUPTIBLE | AUTO_REPAIR)?;
        Ok(RwLock { writers: Lock::new(flags), slots: from_fn(|_| Lock::new(0)) })
    }

    /// Where readers are preferred: 1 while a writer has the lock, and not only waits for the readers to go. Written by
    /// the holder of the writers' lock. SeqCst, as the words.
    fn active(&self) -> &AtomicU32 {
        &self.writers.extra[0]
    }

    fn prefers_readers(&self) -> bool {
        self.writers.flags() & PREFER_READERS != 0
    }

    /// Whether a reader that has a slot must give way.
    #[inline(always)]
    fn is_closed(&self) -> bool {
        let writer = self.writers.peek();
        writer & (OWNER | DIED) != 0
            && (!self.prefers_readers() || writer & DIED != 0 || self.active().load(Ordering::SeqCst) != 0)
    }

    /// Takes the lock for reading the short way: no writer, no doubt, and a slot at the first try. Whether it was that.
    #[inline(always)]
    pub fn read_free(&self) -> bool {
        let Some(me) = robust::known() else { return false };
        if me.is_full() || !self.writers.is_namespace(me) || self.is_closed() {
            return false;
        }
        let slot = &self.slots[first_slot(me)];
        if !slot.claim(me) {
            return false;
        }
        if self.is_closed() || self.writers.is_in_doubt() { self.give_way(me, slot) } else { true }
    }

    #[cold]
    #[inline(never)]
    fn give_way(&self, me: Me, slot: &Lock) -> bool {
        self.leave_slot(me, slot);
        false
    }

    /// Takes the lock for reading, along with other readers. After a writer's death: `OwnerDied` until one repairs.
    #[inline(always)]
    pub fn read_lock(&self, timeout: Timeout) -> Outcome<Acquired> {
        if self.read_free() { Ok(Acquired::Clean) } else { self.read_lock_slowly(timeout) }
    }

    #[cold]
    #[inline(never)]
    fn read_lock_slowly(&self, timeout: Timeout) -> Outcome<Acquired> {
        let me = robust::me().ok_or(NO_MEMORY)?;
        self.writers.check_namespace(me)?;
        if self.writers.held_by(me).is_some() {
            return Err(DEADLOCK);
        }
        if me.is_full() {
            return Err(NO_LOCKS);
        }
        // Who reads already keeps every writer out, and must not wait for one that waits for it.
        let reads = me.newest_within(&self.slots).is_some();
        let deadline = timeout.deadline();
        loop {
            if let Some(slot) = self.claim_any(me) {
                if reads || !self.is_closed() {
                    return self.judge(me, slot);
                }
                self.leave_slot(me, slot);
                // With the writers' lock in hand nobody writes, and a slot can be had in peace.
                self.writers.take(me, left(timeout, deadline), false)?;
                self.active().store(0, Ordering::SeqCst);
                let slot = self.claim_any(me);
                self.writers.release(me);
                if let Some(slot) = slot {
                    return self.judge(me, slot);
                }
            }
            // Readers that die make room without a word, so this wait looks round.
            let interruptible = self.writers.flags() & INTERRUPTIBLE != 0;
            let patience = Patience::new(left(timeout, deadline), interruptible, true);
            let room = || self.slots.iter().any(|slot| slot.is_free(me));
            let ready = |_: &mut Watched<'_, 1>| room().then_some(());
            self.writers.gate.wait(me, patience, ready, room)?;
        }
    }

    fn claim_any(&self, me: Me) -> Option<&Lock> {
        let first = first_slot(me);
        (0..READERS).map(|at| &self.slots[(first + at) % READERS]).find(|slot| slot.claim(me))
    }

    /// What a reader that has its slot is told about the data.
    fn judge(&self, me: Me, slot: &Lock) -> Outcome<Acquired> {
        if self.writers.is_lost() {
            self.leave_slot(me, slot);
            return Err(UNRECOVERABLE);
        }
        Ok(if self.writers.is_in_doubt() { Acquired::OwnerDied } else { Acquired::Clean })
    }

    fn leave_slot(&self, me: Me, slot: &Lock) {
        slot.release(me);
        if self.writers.gate.is_closed() {
            self.make_room(me);
        }
    }

    /// Takes the lock for writing, alone.
    pub fn write_lock(&self, timeout: Timeout) -> Outcome<Acquired> {
        let me = robust::me().ok_or(NO_MEMORY)?;
        if me.newest_within(&self.slots).is_some() {
            return Err(DEADLOCK);
        }
        let deadline = timeout.deadline();
        let acquired = if self.writers.take_free(me) {
            Acquired::Clean
        } else {
            self.writers.take(me, left(timeout, deadline), false)?
        };
        self.active().store(0, Ordering::SeqCst);
        loop {
            if let Err(code) = self.drain(me, left(timeout, deadline)) {
                // Nothing was written: whatever a dead writer left is the next one's to hear of.
                self.writers.release(me);
                return Err(code);
            }
            if !self.prefers_readers() {
                break;
            }
            self.active().store(1, Ordering::SeqCst);
            if self.slots.iter().all(|slot| slot.peek() & OWNER == 0) {
                break;
            }
            self.active().store(0, Ordering::SeqCst);
        }
        Ok(acquired)
    }

    /// Waits until each slot has been free once. Those that are free stay so, or their claimants give way.
    fn drain(&self, me: Me, timeout: Timeout) -> Outcome<()> {
        let interruptible = self.writers.flags() & INTERRUPTIBLE != 0;
        let mut patience = Patience::new(timeout, interruptible, true);
        for slot in &self.slots {
            if slot.peek() & OWNER == 0 {
                continue;
            }
            me.pend(slot.spot());
            let result = slot.wait_free(me, &mut patience);
            me.pend_nothing();
            result?;
        }
        Ok(())
    }

    /// Releases a read lock the short way: the newest lock of the caller's, and nobody waits. Whether it was that.
    #[inline(always)]
    pub fn read_unlock_newest(&self) -> bool {
        let Some(me) = robust::known() else { return false };
        let Some(offset) = me.newest_in(self) else { return false };
        match (offset / size_of::<Lock>()).checked_sub(1) {
            Some(index) if index < READERS => {
                self.slots[index].release_plain(me);
                if self.writers.gate.is_closed() { self.make_room(me) } else { true }
            }
            _ => false,
        }
    }

    #[cold]
    #[inline(never)]
    fn make_room(&self, me: Me) -> bool {
        me.pend(self.writers.gate.spot());
        self.writers.gate.open(1);
        me.pend_nothing();
        true
    }

    /// Releases what the caller holds: its newest read lock, or the write lock.
    #[inline(always)]
    pub fn unlock(&self) -> Outcome<()> {
        if self.read_unlock_newest() { Ok(()) } else { self.unlock_slowly() }
    }

    #[cold]
    #[inline(never)]
    fn unlock_slowly(&self) -> Outcome<()> {
        let me = robust::me().ok_or(NO_MEMORY)?;
        let offset = me.newest_within(self).ok_or(NOT_OWNER)?;
        match (offset / size_of::<Lock>()).checked_sub(1) {
            Some(index) => self.leave_slot(me, &self.slots[index]),
            None => {
                self.writers.leave();
                self.active().store(0, Ordering::SeqCst);
                self.writers.release(me);
            }
        }
        Ok(())
    }

    /// For memory that was copied or kept while processes used it, and that nobody uses now: whoever reads or writes there
    /// has died.
    pub fn reopen(&self) {
        self.writers.reopen();
        self.slots.iter().for_each(Lock::reopen);
    }

    /// Says that the data which a dead writer left is whole again. Only the writer may.
    pub fn repair(&self) -> Outcome<()> {
        self.writers.repair(robust::me().ok_or(NO_MEMORY)?)
    }
}

fn first_slot(me: Me) -> usize {
    me.tid() as usize % READERS
}

/// What is left of a timeout that began with the call.
fn left(timeout: Timeout, deadline: Deadline) -> Timeout {
    match timeout {
        Timeout::After(_) => Timeout::After(deadline.0.saturating_sub(now_ns()).max(1)),
        other => other,
    }
}
