//! The reader-writer lock: a lock for writers, and a slot of its own for each reader at a time.
//!
//! A reader claims a slot, which is a lock of its own cache line, and then looks for a writer; a writer takes the
//! writers' lock and then looks at the slots. Each of the two writes its own word before it looks at the other's, so
//! at least one sees the other. Readers that run on different processors share no line that anybody writes.
//!
//! A thread has one slot, however often it reads. Where all slots are taken, readers share places by process: a place
//! counts the threads of a process that read there, and is buried as a whole when the process has ended. Each thread keeps in
//! its private record how often it does: only who reads already is let in where a writer waits, not every thread of its process.
//!
//! Who has the writers' lock is not inside before all readers have gone: `inside` says so. Until then its death is nobody's
//! loss, and where readers are preferred, they don't wait for it.
//!
//! | writers' word, inside | means | readers | the next writer, after a death |
//! |---|---|---|---|
//! | free, 0 | nobody writes | come | |
//! | T, 0 | T waits for the readers to go | wait; come, where they are preferred | hears of nothing |
//! | T, 1 | T writes | wait | the data is in doubt |
//! | T PASSING, 0 | T, a reader, claims its slot | come | hears of nothing |
//! | T PASSING, 1 | T, a reader, settles a death | wait | the data is in doubt |
//! | DIED, 0 | it died waiting | come | hears of nothing |
//! | DIED, 1 | it died writing | settle that the data is in doubt | the same |

use super::lock::{Lock, SPARE};
use super::{
    AUTO_REPAIR, Acquired, DEADLOCK, INTERRUPTIBLE, NO_LOCKS, NO_MEMORY, NOT_OWNER, Outcome, PREFER_READERS,
    Patience, UNRECOVERABLE, known_flags,
};
use crate::sync::gate::EVERYBODY;
use crate::sys::clock::{Deadline, Timeout, now_ns};
use crate::sys::owner;
use crate::sys::prim::{AtomicPair, AtomicU32, MODEL, Ordering, futex_wait, futex_wake};
use crate::sys::robust::{self, DIED, Me, OWNER, WAITERS, cookie_of, pair_of, word_of};
use core::array::from_fn;
use core::mem::{size_of, take};

/// How many threads have a slot of their own at a time.
pub const READERS: usize = if MODEL { 2 } else { 15 };
/// How many processes can share places beyond that: in the words beside the slots.
const PLACES: usize = if MODEL { 0 } else { READERS * SPARE };

/// Many readers or one writer, among the threads of all processes that share it. All-zero memory is a free one that
/// prefers writers.
#[repr(C)]
#[derive(Debug)]
pub struct RwLock {
    writers: Lock,
    slots: [Lock; READERS],
}

const _: () = assert!(MODEL || size_of::<RwLock>() == 1024);

/// The word of a shared place: a process's number, which is below 2^22, and how many of its threads read. Beside it, and changed with it as
/// one, is the process's cookie: who buries a place buries that process's, and not a namesake's that has come there since.
const COUNT: u32 = 0x3ff;
const PROCESS: u32 = 10;

/// An empty place of the caller's process.
fn place_of(me: Me) -> u64 {
    let process = me.process_holder();
    pair_of(word_of(process) << PROCESS, cookie_of(process))
}

/// Whether a place is that process's. It may have been taken when the cookie was not to be found out; but one with a cookie is not the
/// process's that still has none. It is that of a dead one with the same number, and is buried with it.
fn is_of(value: u64, mine: u64) -> bool {
    let is_same = cookie_of(value) == cookie_of(mine) || cookie_of(value) == 0;
    word_of(value) >> PROCESS == word_of(mine) >> PROCESS && is_same
}

fn count_of(value: u64) -> u32 {
    word_of(value) & COUNT
}

/// One reader.
const ONE: u64 = pair_of(1, 0);

/// What a reader holds.
#[derive(Clone, Copy)]
enum Place<'a> {
    Slot(&'a Lock),
    Shared,
}

impl RwLock {
    /// A free lock.
    ///
    /// # Safety
    /// While somebody holds the lock, to read or to write, it stays where it is, as a [`Mutex`](super::Mutex::new) does.
    pub unsafe fn new(flags: u32) -> Outcome<RwLock> {
        let flags = known_flags(flags, PREFER_READERS | INTERRUPTIBLE | AUTO_REPAIR)?;
        Ok(RwLock { writers: Lock::new(flags), slots: from_fn(|_| Lock::new(0)) })
    }

    /// Not 0 while the holder of the writers' lock is inside, with WAITERS where readers may sleep on it. Written by that
    /// holder. SeqCst, as the words.
    fn inside(&self) -> &AtomicU32 {
        &self.writers.extra[0]
    }

    /// The lock's name, from when on a process has shared a place; until then it is 0, and nobody needs to look there. SeqCst: a reader
    /// gives it before it looks for a writer, a writer looks after it has its lock.
    fn name(&self) -> &AtomicU32 {
        &self.writers.extra[1]
    }

    /// The name, which the lock has from now on. No two locks that a thread may meet have the same one.
    fn named(&self, me: Me) -> u32 {
        /// 2^64 over the golden ratio: all bits of the moment and the thread count in the upper half of the product.
        const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
        let name = self.name().load(Ordering::SeqCst);
        if name != 0 {
            return name;
        }
        let new = ((now_ns() ^ me.identity().rotate_left(32)).wrapping_mul(SPREAD) >> 32) as u32 | 1;
        self.name()
            .compare_exchange(0, new, Ordering::SeqCst, Ordering::SeqCst)
            .map_or_else(|other| other, |_| new)
    }

    /// The shared places that somebody may have.
    fn places(&self) -> core::ops::Range<usize> {
        0..if self.name().load(Ordering::SeqCst) == 0 { 0 } else { PLACES }
    }

    /// How often the caller reads in a place of its process's, by this address.
    fn reads(&self, me: Me) -> u32 {
        if me.reads_any() { me.reads(self, self.name().load(Ordering::SeqCst)) } else { 0 }
    }

    fn set_reads(&self, me: Me, times: u32) -> bool {
        me.set_reads(self, self.name().load(Ordering::SeqCst), times)
    }

    /// Whether the caller, which reads nothing here by this address, does by another mapping of the same memory.
    fn reads_elsewhere(&self, me: Me) -> bool {
        (me.holds_any() && self.slots.iter().any(|slot| slot.names(me)))
            || me.reads_any()
                && self.places().any(|at| self.is_read_elsewhere(me, self.place(at).load(Ordering::SeqCst)))
    }

    /// The same of a shared place with this value.
    fn is_read_elsewhere(&self, me: Me, value: u64) -> bool {
        value != 0
            && is_of(value, place_of(me))
            && me.reads_elsewhere(self, self.name().load(Ordering::SeqCst))
    }

    fn prefers_readers(&self) -> bool {
        self.writers.flags() & PREFER_READERS != 0
    }

    /// Whether a reader that has a place must give way.
    #[inline(always)]
    fn is_closed(&self) -> bool {
        let (writer, is_passing) = self.writers.peek_who();
        if writer & (OWNER | DIED) == 0 {
            return false;
        }
        let waits = writer & OWNER != 0 && !is_passing && !self.prefers_readers();
        waits || self.inside().load(Ordering::SeqCst) != 0
    }

    /// Takes the lock for reading the short way: no writer, no doubt, and a slot at the first try. Whether it was that.
    #[inline(always)]
    pub fn read_free(&self) -> bool {
        let Some(me) = robust::known() else { return false };
        if me.is_full() || !self.writers.is_namespace(me) || self.is_closed() {
            return false;
        }
        if me.holds_any() && me.newest_within(&self.slots).is_some() {
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
        slot.release(me);
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
        // Who reads already keeps every writer out, and must not wait for one that waits for it.
        if let Some(at) = me.newest_within(&self.slots) {
            let slot = &self.slots[at / size_of::<Lock>()];
            let index = me.find(slot.spot()).ok_or(NOT_OWNER)?;
            me.set_depth(index, me.depth(index).checked_add(1).ok_or(NO_LOCKS)?);
            return self.judge(me, Place::Slot(slot));
        }
        let times = self.reads(me);
        if times != 0 {
            self.set_reads(me, times.checked_add(1).ok_or(NO_LOCKS)?);
            return self.judge(me, Place::Shared);
        }
        // Room for a read beside the slots, which it may come to. What the record says of an earlier lock here is forgotten.
        if me.is_full() || !self.set_reads(me, 1) {
            return Err(NO_LOCKS);
        }
        self.set_reads(me, 0);
        let deadline = timeout.deadline();
        let interruptible = self.writers.flags() & INTERRUPTIBLE != 0;
        // Looks round: those that die make room without a word.
        let mut patience = Patience::new(timeout, interruptible, true);
        let first = &self.slots[first_slot(me)];
        let mut slept = false;
        loop {
            let is_closed = self.is_closed();
            let place = if is_closed { None } else { self.claim_any(me) };
            if take(&mut slept) {
                first.pass_on();
            }
            match place {
                Some(place) if !self.is_closed() => return self.judge(me, place),
                Some(place) => {
                    self.leave(me, place);
                    // Writers that come and go may keep it from sleeping, which is when the time is asked for otherwise.
                    patience.check_time()?;
                }
                None if !is_closed => {
                    me.pend(first.spot());
                    let result = first.wait_once(me, &mut patience);
                    me.pend_nothing();
                    slept = result?;
                }
                None if self.prefers_readers() => self.wait_outside(me, &mut patience)?,
                None if self.reads_elsewhere(me) => return Err(DEADLOCK),
                None => {
                    // With the writers' lock in hand nobody writes, and a place can be had in peace.
                    self.pass(me, left(timeout, deadline))?;
                    let place = self.claim_any(me);
                    self.writers.release_passing(me);
                    if let Some(place) = place {
                        return self.judge(me, place);
                    }
                    patience.check_time()?;
                }
            }
        }
    }

    /// Where readers are preferred: sleeps until the writer that is inside has left. One that has died in there is settled.
    fn wait_outside(&self, me: Me, patience: &mut Patience) -> Outcome<()> {
        let inside = self.inside().load(Ordering::SeqCst);
        if inside == 0 {
            return Ok(());
        }
        if self.writers.is_settled(me) {
            // Not for longer than that takes: by the next one's turn this one may be let in.
            return match self.pass(me, Timeout::Try) {
                Ok(()) => {
                    self.writers.release_passing(me);
                    Ok(())
                }
                Err(super::AGAIN) => patience.check_time(),
                Err(code) => Err(code),
            };
        }
        patience.may_wait()?;
        let marked = inside | WAITERS;
        if inside == marked
            || self.inside().compare_exchange(inside, marked, Ordering::SeqCst, Ordering::SeqCst).is_ok()
        {
            // Nobody owes this one's wake-up to others; who closes the memory sees by it that somebody waits here.
            me.pend(self.writers.spot());
            let result = patience.after(futex_wait(self.inside(), marked, patience.until()));
            me.pend_nothing();
            result?;
        }
        Ok(())
    }

    fn claim_any(&self, me: Me) -> Option<Place<'_>> {
        let first = first_slot(me);
        let mut slots = (0..READERS).map(|at| &self.slots[(first + at) % READERS]);
        match slots.find(|slot| slot.claim(me)) {
            Some(slot) => Some(Place::Slot(slot)),
            None => self.join(me).then_some(Place::Shared),
        }
    }

    /// What a reader that has its place is told about the data.
    fn judge(&self, me: Me, place: Place<'_>) -> Outcome<Acquired> {
        if self.writers.is_lost() {
            self.leave(me, place);
            return Err(UNRECOVERABLE);
        }
        Ok(if self.writers.is_in_doubt() { Acquired::OwnerDied } else { Acquired::Clean })
    }

    /// The last look at the lock: a writer that waits for this reader may be the last user.
    fn leave(&self, me: Me, place: Place<'_>) {
        match place {
            Place::Slot(slot) => match me.find(slot.spot()) {
                Some(index) if me.depth(index) > 0 => me.set_depth(index, me.depth(index) - 1),
                _ => slot.release(me),
            },
            Place::Shared => self.part(me),
        }
    }

    // ---- places that processes share

    fn place(&self, at: usize) -> &AtomicPair {
        self.slots[at / SPARE].spare(at % SPARE)
    }

    /// Counts one more thread of this process: at the place it has, or at a new one. Whether it did; it is no reader there
    /// otherwise. SeqCst: as the claim of a slot.
    fn join(&self, me: Me) -> bool {
        let mine = place_of(me);
        let mut first_free = None;
        // In the record first: nobody counts who can't find it again.
        if !me.set_reads(self, self.named(me), 1) {
            return false;
        }
        for at in self.places() {
            let mut value = self.place(at).load(Ordering::SeqCst);
            while is_of(value, mine) && count_of(value) < COUNT {
                match self.place(at).compare_exchange(value, value + ONE, Ordering::SeqCst, Ordering::SeqCst)
                {
                    Ok(_) => return true,
                    Err(now) => value = now,
                }
            }
            if value == 0 && first_free.is_none() {
                first_free = Some(at);
            }
        }
        let free = |at: &usize| {
            self.bury(*at);
            self.place(*at).compare_exchange(0, mine + ONE, Ordering::SeqCst, Ordering::SeqCst).is_ok()
        };
        let joined = (first_free.unwrap_or(0)..PLACES).find(free).is_some();
        if !joined {
            self.set_reads(me, 0);
        }
        joined
    }

    /// Ends one of the thread's reads; after its last, one thread less of the process reads.
    fn part(&self, me: Me) {
        let times = self.reads(me);
        self.set_reads(me, times.saturating_sub(1));
        if times > 1 {
            return;
        }
        let mine = place_of(me);
        for at in self.places() {
            let mut value = self.place(at).load(Ordering::SeqCst);
            while value != 0 && is_of(value, mine) {
                let left = if count_of(value) == 1 { 0 } else { value - ONE };
                match self.place(at).compare_exchange(value, left, Ordering::SeqCst, Ordering::SeqCst) {
                    Ok(_) => {
                        if left == 0 {
                            // By its address alone.
                            futex_wake(self.place(at).word(), EVERYBODY);
                        }
                        return;
                    }
                    Err(now) => value = now,
                }
            }
        }
    }

    /// Frees a place whose process has ended.
    fn bury(&self, at: usize) {
        let value = self.place(at).load(Ordering::SeqCst);
        if value != 0 && owner::process_ended(word_of(value) >> PROCESS, cookie_of(value)) {
            let _ = self.place(at).compare_exchange(value, 0, Ordering::SeqCst, Ordering::SeqCst);
        }
    }

    // ---- writers

    /// Takes the writers' lock. That its last holder died is a death only if it was inside.
    fn take_writers(&self, me: Me, timeout: Timeout) -> Outcome<Acquired> {
        let acquired = if self.writers.take_free(me) {
            Acquired::Clean
        } else {
            self.writers.take_inside(me, timeout, self.inside())?
        };
        self.open();
        Ok(acquired)
    }

    /// The same for a reader on its way in. The word says that it is one, so that others need not wait for it.
    fn pass(&self, me: Me, timeout: Timeout) -> Outcome<()> {
        self.writers.take_passing(me, timeout, self.inside())?;
        self.open();
        Ok(())
    }

    /// For who has the writers' lock: says that nobody is inside, and wakes readers that wait for that.
    fn open(&self) {
        if self.inside().load(Ordering::SeqCst) != 0 && self.inside().swap(0, Ordering::SeqCst) & WAITERS != 0
        {
            futex_wake(self.inside(), EVERYBODY);
        }
    }

    /// Takes the lock for writing, alone.
    pub fn write_lock(&self, timeout: Timeout) -> Outcome<Acquired> {
        let me = robust::me().ok_or(NO_MEMORY)?;
        if me.newest_within(&self.slots).is_some() || self.reads(me) != 0 {
            return Err(DEADLOCK);
        }
        let deadline = timeout.deadline();
        let acquired = self.take_writers(me, timeout)?;
        let interruptible = self.writers.flags() & INTERRUPTIBLE != 0;
        let mut patience = Patience::new(left(timeout, deadline), interruptible, true);
        let failed = loop {
            if let Err(code) = self.drain(me, &mut patience) {
                break code;
            }
            self.inside().store(1, Ordering::SeqCst);
            if !self.prefers_readers() || self.is_empty() {
                if acquired == Acquired::OwnerDied {
                    self.writers.tell();
                }
                return Ok(acquired);
            }
            // A reader was faster. Others may be each time, and no sleep would ever ask for the time.
            self.open();
            if let Err(code) = patience.may_wait() {
                break code;
            }
        };
        // Nothing was written: whatever a dead writer left is the next one's to hear of.
        self.writers.release(me);
        Err(failed)
    }

    fn is_empty(&self) -> bool {
        self.slots.iter().all(|slot| slot.peek() & OWNER == 0)
            && self.places().all(|at| self.place(at).load(Ordering::SeqCst) == 0)
    }

    /// Waits until each place has been free once. Those that are free stay so, or their claimants give way.
    fn drain(&self, me: Me, patience: &mut Patience) -> Outcome<()> {
        for slot in &self.slots {
            if slot.peek() & OWNER == 0 {
                continue;
            }
            me.pend(slot.spot());
            let result = slot.wait_free(me, &self.writers, patience);
            me.pend_nothing();
            result?;
        }
        for at in self.places() {
            loop {
                let value = self.place(at).load(Ordering::SeqCst);
                if value == 0 {
                    break;
                }
                if self.is_read_elsewhere(me, value) {
                    return Err(DEADLOCK);
                }
                self.bury(at);
                if self.place(at).load(Ordering::SeqCst) == value {
                    patience.may_wait()?;
                    patience.after(futex_wait(self.place(at).word(), word_of(value), patience.until()))?;
                }
            }
        }
        Ok(())
    }

    /// Releases a read lock the short way: the newest lock of the caller's, held once. Whether it was that.
    #[inline(always)]
    pub fn read_unlock_newest(&self) -> bool {
        let Some(me) = robust::known() else { return false };
        let Some(offset) = me.newest_in(self) else { return false };
        match (offset / size_of::<Lock>()).checked_sub(1) {
            Some(index) if index < READERS => self.slots[index].release_plain(me),
            _ => false,
        }
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
        let Some(offset) = me.newest_within(self) else {
            if self.reads(me) == 0 {
                return Err(NOT_OWNER);
            }
            self.part(me);
            return Ok(());
        };
        match (offset / size_of::<Lock>()).checked_sub(1) {
            Some(index) => self.leave(me, Place::Slot(&self.slots[index])),
            None => {
                self.writers.leave();
                self.open();
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
        (0..PLACES).for_each(|at| {
            self.place(at).swap(0, Ordering::SeqCst);
        });
        self.name().store(0, Ordering::SeqCst);
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
