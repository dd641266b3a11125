//! The queue: many producers, many consumers, whole messages. This file has what both sides share: who comes in, how
//! they wait, how a change becomes visible.
//!
//! Each side has a lock that survives its holder's death, and one word that commits: `tail` for producers, `head` for
//! consumers. What lies beyond a commit word never happened, so a death leaves nothing to repair. The holder of a
//! side's lock waits while it holds it; the others wait for the lock. So at most two sleep at the gate, one of each
//! side, and whoever is woken wakes the rest: then the kernel's one wake-up for a dead thread is enough.

use super::layout::{Geometry, Memory, NOTHING_RESERVED, Shared, Side, UNIT, low_half, units_for};
use super::spin::Spin;
use crate::error::Code;
use crate::sync::gate::{EVERYBODY, Gate};
use crate::sync::{
    AGAIN, Acquired, INTERRUPTIBLE, INVALID, NO_MEMORY, Outcome, Patience, SLICE_NS, TIMED_OUT, Then,
    known_flags,
};
use crate::sys::clock::{Deadline, Timeout, now_ns};
use crate::sys::prim::{AtomicU32, AtomicU64, Ordering, futex_wait, futex_wait_any};
use crate::sys::robust::{self, DIED, Me, WAITERS};
use core::ptr::NonNull;

pub(crate) const CLOSED: Code = Code::errno(libc::EPIPE);
pub(crate) const TOO_LONG: Code = Code::errno(libc::EMSGSIZE);
/// The words can't be: somebody has written into the queue's memory.
pub(crate) const GARBAGE: Code = Code::errno(libc::EBADMSG);

/// In `tail`: no more is put. In `head`: the next message is being looked at in place.
pub(crate) const MARKED: u64 = 1;

/// The gate's word has a bit for each side's sleeper, and the kernel passes wake-ups on whichever are set. One bit for both
/// would not do: a producer that goes to sleep would set again what has just been cleared for a consumer, which is
/// about to sleep on it.
const CONSUMER: u32 = WAITERS;
const PRODUCER: u32 = DIED;

const DEFAULT_MESSAGES: usize = 1024;
const DEFAULT_BYTES: usize = 1 << 20;
/// A queue for many messages has at least so much room for each, unless it is told otherwise.
const BYTES_EACH: usize = 64;

/// What a queue can be told; zeros are the defaults.
#[derive(Clone, Copy, Debug, Default)]
pub struct QueueOptions {
    /// How many messages it holds; 0: 1,024.
    pub messages: usize,
    /// How many bytes of messages it holds, and so the longest message; 0: 1 MiB, or 64 bytes for each message if that
    /// is more.
    pub bytes: usize,
    /// `INTERRUPTIBLE`.
    pub flags: u32,
}

/// A queue in shared memory, as one process sees it.
#[derive(Clone, Copy)]
pub struct Queue {
    pub(super) memory: Memory,
}

/// How long a call has left.
pub(super) struct Wait {
    timeout: Timeout,
    deadline: Option<Deadline>,
}

impl Wait {
    pub(super) fn new(timeout: Timeout) -> Wait {
        Wait { timeout, deadline: None }
    }

    fn left(&mut self) -> Outcome<Timeout> {
        let Timeout::After(_) = self.timeout else { return Ok(self.timeout) };
        let deadline = *self.deadline.get_or_insert_with(|| self.timeout.deadline());
        match deadline.0.saturating_sub(now_ns()) {
            0 => Err(TIMED_OUT),
            ns => Ok(Timeout::After(ns)),
        }
    }
}

impl QueueOptions {
    /// The limits and the memory that they need; `None` where they are beyond what can be.
    pub(crate) fn geometry(&self) -> Option<(QueueOptions, Geometry)> {
        if self.messages > super::MOST_MESSAGES || self.bytes > super::MOST_BYTES {
            return None;
        }
        let messages = if self.messages == 0 { DEFAULT_MESSAGES } else { self.messages };
        let bytes = match self.bytes {
            0 => DEFAULT_BYTES.max(messages.saturating_mul(BYTES_EACH)).min(super::MOST_BYTES),
            bytes => bytes,
        };
        let geometry = Geometry::for_limits(messages, bytes);
        Some((QueueOptions { messages, bytes, flags: self.flags }, geometry))
    }

    /// How much memory such a queue takes up, to be aligned to 64 bytes.
    pub fn size(&self) -> Outcome<usize> {
        self.geometry().map(|(_, geometry)| geometry.total()).ok_or(INVALID)
    }
}

impl Queue {
    /// Makes a queue in memory of the caller's, which nobody else uses yet.
    ///
    /// # Safety
    /// `start` is aligned to 64 bytes, and `options.size()` bytes from it on stay mapped as long as the queue is used.
    pub unsafe fn create(start: NonNull<u8>, options: &QueueOptions) -> Outcome<Queue> {
        known_flags(options.flags, INTERRUPTIBLE)?;
        let (options, geometry) = options.geometry().ok_or(INVALID)?;
        // SAFETY: by the contract above `start` is aligned, and a queue's memory, `Shared` first, is mapped there.
        // Nobody else uses it yet, and zeros are valid for every word.
        unsafe { start.write_bytes(0, size_of::<Shared>()) };
        // SAFETY: by the contract above the memory is aligned to 64 bytes and stays mapped. It has as many bytes as
        // `size` says, and that is `geometry.total()`.
        let memory = unsafe { Memory::new(start, geometry) };
        let shared = start.cast::<Shared>().as_ptr();
        // SAFETY: nobody else uses the words yet.
        unsafe {
            (&raw mut (*shared).producers).write(Side::new(options.flags & INTERRUPTIBLE));
            (&raw mut (*shared).consumers).write(Side::new(options.flags & INTERRUPTIBLE));
        }
        // The first message is placed behind the one before it.
        memory.slot(u64::MAX).describe(0, 0);
        let header = &memory.shared().header;
        header.most_messages.store(options.messages as u32, Ordering::Relaxed);
        header.most_bytes.store(options.bytes as u32, Ordering::Relaxed);
        header.flags.store(options.flags, Ordering::Relaxed);
        header.mark.store(geometry.mark(), Ordering::Release);
        Ok(Queue { memory })
    }

    /// The queue that another process has made here. `EINVAL` where there is none.
    ///
    /// # Safety
    /// As for [`Queue::create`], with `length` bytes from `start` on.
    pub unsafe fn attach(start: NonNull<u8>, length: usize) -> Outcome<Queue> {
        if length < size_of::<Shared>() || !start.as_ptr().addr().is_multiple_of(64) {
            return Err(INVALID);
        }
        // SAFETY: `length` has been seen to reach over `Shared`, and by the contract above as many bytes are mapped.
        // Only the mark is looked at: what else there is depends on it.
        let mark = unsafe { (&raw const (*start.cast::<Shared>().as_ptr()).header.mark).as_ref() };
        let mark = mark.map_or(0, |mark: &AtomicU64| mark.load(Ordering::Acquire));
        match Geometry::from_mark(mark) {
            Some(geometry) if geometry.total() <= length => {
                // SAFETY: by the contract above `length` bytes stay mapped, and `geometry.total()` is at most that.
                // The alignment was checked.
                let memory = unsafe { Memory::new(start, geometry) };
                Ok(Queue { memory })
            }
            _ => Err(INVALID),
        }
    }

    #[inline(always)]
    pub(super) fn shared(&self) -> &Shared {
        self.memory.shared()
    }

    /// The longest message there may be. From the header, but never more than there is memory for.
    #[inline(always)]
    pub(super) fn longest(&self) -> usize {
        (self.shared().header.most_bytes.load(Ordering::Relaxed) as usize).min(self.memory.geometry.bytes())
    }

    fn is_interruptible(&self) -> bool {
        self.shared().header.flags.load(Ordering::Relaxed) & INTERRUPTIBLE != 0
    }

    // ---- the sides' locks

    /// Takes a side's lock; `EAGAIN` where another thread has it and this one does not want to wait.
    #[inline(always)]
    fn enter(&self, me: Me, side: &Side, wait: &mut Wait) -> Outcome<()> {
        self.shared().header.unseen.declare(me);
        if side.lock.take_free(me) { Ok(()) } else { self.enter_slowly(me, side, wait) }
    }

    #[cold]
    #[inline(never)]
    fn enter_slowly(&self, me: Me, side: &Side, wait: &mut Wait) -> Outcome<()> {
        // Whose time has run out looks once: a wait of whatever length sees that the holder is dead, or is the caller.
        let (left, otherwise) = wait.left().map_or_else(|over| (Timeout::Try, over), |left| (left, AGAIN));
        let taken = side.lock.take(me, left, false);
        if taken.map_err(|code| if code == AGAIN { otherwise } else { code })? == Acquired::OwnerDied {
            // Nothing to make whole: what the dead one has not committed never was. It can't fail but by somebody's
            // writing into the lock, and then there is nothing to make whole either.
            let _ = side.lock.repair(me);
        }
        Ok(())
    }

    /// Releases a side's lock; whatever was pending is no longer, and nothing of the queue is touched afterwards.
    #[inline(always)]
    pub(super) fn leave(&self, me: Me, side: &Side) {
        me.pend_nothing();
        if !side.lock.release_plain(me) {
            side.lock.release(me);
        }
    }

    // ---- waiting

    /// Waits until `ready`, while holding the side's lock. `also` is one more word that is changed after what `ready` looks at.
    #[cold]
    #[inline(never)]
    fn wait_until(
        &self,
        me: Me,
        side: &Side,
        wait: &mut Wait,
        also: Option<&AtomicU32>,
        ready: impl Fn() -> bool,
    ) -> Outcome<()> {
        if ready() {
            return Ok(());
        }
        if wait.timeout == Timeout::Try {
            return Err(AGAIN);
        }
        let shared = self.shared();
        let (bit, others) = match std::ptr::eq(side, &shared.producers) {
            true => (PRODUCER, &shared.head.0),
            false => (CONSUMER, &shared.tail.0),
        };
        // Relaxed: for a hint only.
        let come_to = || others.load(Ordering::Relaxed) >> 1;
        let before = come_to();
        let mut spin = Spin::new(&side.hints);
        let result = if spin.look(&ready) {
            spin.gather(|| come_to().wrapping_sub(before));
            Ok(())
        } else {
            let patience = Patience::new(wait.left()?, self.is_interruptible(), false);
            me.pend(shared.header.gate.spot());
            let result = self.sleep(bit, patience, also, &ready);
            me.pend_nothing();
            spin.slept(&side.hints);
            result
        };
        spin.save(&side.hints);
        result
    }

    /// Sleeps at the gate, which is pending; and on both commit words, because whoever changed one of them may have died
    /// before it came to the gate, when this one was not asleep yet and the kernel's wake-up found nobody.
    fn sleep(
        &self,
        bit: u32,
        mut patience: Patience,
        also: Option<&AtomicU32>,
        ready: impl Fn() -> bool,
    ) -> Outcome<()> {
        let gate: &Gate = &self.shared().header.gate;
        let unseen = &self.shared().header.unseen;
        let commits = [&self.shared().tail.0, &self.shared().head.0];
        loop {
            patience.may_wait()?;
            let [tail, head] = commits.map(|word| (low_half(word), word.load(Ordering::SeqCst) as u32));
            // SeqCst: pairs with `Gate::open`, as `Gate::close` does.
            let word = gate.word().fetch_or(bit, Ordering::SeqCst) | bit;
            let also = also.map(|word| (word, word.load(Ordering::SeqCst)));
            if ready() {
                return Ok(());
            }
            let mut words = [(gate.word(), word), tail, head, (unseen.word(), 0), (unseen.word(), 0)];
            let looks = unseen.is_marked();
            if looks {
                patience.look_round();
            }
            if let Some(also) = also {
                words[4 - usize::from(looks)] = also;
            }
            let count = 4 - usize::from(looks) + usize::from(also.is_some());
            let wait = futex_wait_any(&words[..count], patience.until()).map_or_else(
                || {
                    // Without it, the wait looks round.
                    let soon = patience.until().min(Deadline::after(SLICE_NS));
                    futex_wait(gate.word(), word, soon)
                },
                |(wait, _)| wait,
            );
            let wait = patience.after(wait);
            if !matches!(wait, Ok(Then::Look { slept: false })) {
                // It may have been the kernel that woke this one, in a dead one's place, or a wake-up for the other.
                gate.wake_rest();
            }
            wait?;
            if ready() {
                return Ok(());
            }
        }
    }

    // ---- producers

    /// Comes in with a message of this length, and waits until there is room: its number, and where its bytes go.
    #[inline(always)]
    pub(super) fn enter_to_put(&self, me: Me, length: usize, wait: &mut Wait) -> Outcome<(u64, u32)> {
        if length > self.longest() {
            return Err(TOO_LONG);
        }
        let side = &self.shared().producers;
        self.enter(me, side, wait)?;
        match self.find_room(me, length, wait) {
            Ok(found) => Ok(found),
            Err(code) => {
                self.leave(me, side);
                Err(code)
            }
        }
    }

    #[inline(always)]
    fn find_room(&self, me: Me, length: usize, wait: &mut Wait) -> Outcome<(u64, u32)> {
        // Relaxed: written under this lock, but for the mark.
        let tail = self.shared().tail.0.load(Ordering::Relaxed);
        if tail & MARKED != 0 {
            return Err(CLOSED);
        }
        let message = tail >> 1;
        if let Some(place) = self.room(message, length) {
            return Ok((message, place));
        }
        self.wait_for_room(me, message, length, wait)
    }

    #[cold]
    #[inline(never)]
    fn wait_for_room(&self, me: Me, message: u64, length: usize, wait: &mut Wait) -> Outcome<(u64, u32)> {
        let shared = self.shared();
        let ready = || {
            shared.tail.0.load(Ordering::SeqCst) & MARKED != 0
                || self.fresh_head(message).is_none()
                || self.room(message, length).is_some()
        };
        self.wait_until(me, &shared.producers, wait, None, ready)?;
        if shared.tail.0.load(Ordering::Relaxed) & MARKED != 0 {
            return Err(CLOSED);
        }
        self.room(message, length).map(|place| (message, place)).ok_or(GARBAGE)
    }

    /// Where a message goes, if there is room for it. For the holder of the producers' lock.
    #[inline(always)]
    pub(super) fn room(&self, message: u64, length: usize) -> Option<u32> {
        let side = &self.shared().producers;
        let place = self.place_behind(message);
        // Relaxed: the holder's own.
        if let Some(seen) = self.plausible(message, side.seen.load(Ordering::Relaxed))
            && self.fits(message, seen, place, length)
        {
            return Some(place);
        }
        let head = self.fresh_head(message)?;
        side.seen.store(head, Ordering::Relaxed);
        self.fits(message, head, place, length).then_some(place)
    }

    /// Where the bytes of a message begin: behind those of the one before.
    #[inline(always)]
    fn place_behind(&self, message: u64) -> u32 {
        let (length, place) = self.memory.slot(message.wrapping_sub(1)).description();
        place.wrapping_add(units_for(length as usize))
    }

    /// A number of messages taken, if it can be.
    #[inline(always)]
    fn plausible(&self, message: u64, taken: u64) -> Option<u64> {
        (message.wrapping_sub(taken) <= self.memory.geometry.slots()).then_some(taken)
    }

    /// How many messages have been taken. Acquire: their slots and bytes are free, nobody reads them any more. SeqCst:
    /// pairs with the consumer's look at the gate.
    #[inline(always)]
    fn fresh_head(&self, message: u64) -> Option<u64> {
        self.plausible(message, self.shared().head.0.load(Ordering::SeqCst) >> 1)
    }

    #[inline(always)]
    fn fits(&self, message: u64, head: u64, place: u32, length: usize) -> bool {
        let header = &self.shared().header;
        let most = u64::from(header.most_messages.load(Ordering::Relaxed)).min(self.memory.geometry.slots());
        let waiting = message.wrapping_sub(head);
        if waiting >= most {
            return false;
        }
        let units = units_for(length);
        if units == 0 || waiting == 0 {
            return true;
        }
        let (_, oldest) = self.memory.slot(head).description();
        let used = u64::from(place.wrapping_sub(oldest));
        used + u64::from(units) <= self.longest().div_ceil(UNIT) as u64
    }

    /// Whether a message of this length would have to wait; from outside the lock, so of the moment only.
    pub(super) fn is_full_for(&self, length: usize) -> bool {
        let tail = self.shared().tail.0.load(Ordering::SeqCst);
        let message = tail >> 1;
        let fits = |head| self.fits(message, head, self.place_behind(message), length);
        tail & MARKED == 0 && !self.fresh_head(message).is_some_and(fits)
    }

    /// Commits `count` messages from `message` on, and wakes whoever waits for them. `EPIPE` where the queue has been
    /// closed since.
    #[inline(always)]
    pub(super) fn commit_put(&self, me: Me, message: u64, count: u64) -> Outcome<()> {
        let shared = self.shared();
        me.pend(shared.header.gate.spot());
        let (old, new) = (message << 1, message.wrapping_add(count) << 1);
        // Before the commit: with it, who sleeps may go on, and take the queue away.
        shared.consumers.hints.leave_note(shared.header.gate.word(), CONSUMER);
        // Release: pairs with the consumer's Acquire. SeqCst: the gate is looked at next.
        match shared.tail.0.compare_exchange(old, new, Ordering::SeqCst, Ordering::Relaxed) {
            Ok(_) => {
                shared.header.gate.open(EVERYBODY);
                Ok(())
            }
            Err(now) if now == old | MARKED => Err(CLOSED),
            Err(_) => Err(GARBAGE),
        }
    }

    // ---- consumers

    /// Comes in, and waits until there is a message: its number. Closed and empty is `EPIPE`.
    #[inline(always)]
    pub(super) fn enter_to_get(&self, me: Me, wait: &mut Wait) -> Outcome<u64> {
        let side = &self.shared().consumers;
        self.enter(me, side, wait)?;
        match self.find_message(me, wait, None) {
            Ok(message) => Ok(message),
            Err(code) => {
                self.leave(me, side);
                Err(code)
            }
        }
    }

    #[inline(always)]
    pub(super) fn find_message(&self, me: Me, wait: &mut Wait, stop: Option<&AtomicU32>) -> Outcome<u64> {
        let shared = self.shared();
        // Relaxed: written under this lock.
        let mut head = shared.head.0.load(Ordering::Relaxed);
        if head & MARKED != 0 {
            head = self.drop_dead_ones(me, head);
        }
        let message = head >> 1;
        let seen = shared.consumers.seen.load(Ordering::Relaxed);
        // Signed: what was seen last may lie behind what a dead one has taken since.
        if (seen.wrapping_sub(message) as i64) > 0 {
            return Ok(message);
        }
        if self.fresh_tail(message)? != message {
            return Ok(message);
        }
        let stopped = |stop: &AtomicU32| stop.load(Ordering::SeqCst) != 0 || self.is_gone();
        let arrived = || shared.tail.0.load(Ordering::SeqCst) != message << 1 || stop.is_some_and(stopped);
        let also = stop.map(|_| shared.header.end_gate.word());
        self.wait_until(me, &shared.consumers, wait, also, arrived)?;
        if self.fresh_tail(message)? == message { Err(CLOSED) } else { Ok(message) }
    }

    /// How many messages have been put. Acquire: they can be read.
    #[inline(always)]
    pub(super) fn fresh_tail(&self, message: u64) -> Outcome<u64> {
        let shared = self.shared();
        let tail = shared.tail.0.load(Ordering::Acquire) >> 1;
        if tail.wrapping_sub(message) > self.memory.geometry.slots() {
            return Err(GARBAGE);
        }
        shared.consumers.seen.store(tail, Ordering::Relaxed);
        Ok(tail)
    }

    /// Somebody died while it looked at a message in place: that one is gone, for it may have acted on it.
    #[cold]
    fn drop_dead_ones(&self, me: Me, head: u64) -> u64 {
        let message = (head >> 1).wrapping_add(1);
        self.commit_get(me, message);
        me.pend_nothing();
        message << 1
    }

    /// The length of a message, and where its bytes are. One that can't be, which only garbage gives, is `EBADMSG`.
    #[inline(always)]
    pub(super) fn find_bytes(&self, message: u64) -> Outcome<(usize, u32)> {
        let (length, place) = self.memory.slot(message).description();
        let length = length as usize;
        if length <= self.memory.geometry.bytes() { Ok((length, place)) } else { Err(GARBAGE) }
    }

    /// Commits that all messages before `message` are taken, and wakes whoever waits for their room.
    #[inline(always)]
    pub(super) fn commit_get(&self, me: Me, message: u64) {
        let shared = self.shared();
        me.pend(shared.header.gate.spot());
        // Before the commit, as in `commit_put`.
        shared.producers.hints.leave_note(shared.header.gate.word(), PRODUCER);
        // Release: pairs with the producer's `fresh_head`. SeqCst: the gate is looked at next.
        shared.head.0.store(message << 1, Ordering::SeqCst);
        shared.header.gate.open(EVERYBODY);
    }
}

/// The calling thread; set up at its first call.
#[inline(always)]
pub(super) fn caller() -> Outcome<Me> {
    robust::me().ok_or(NO_MEMORY)
}

// Reserving nothing and not reserving are different things.
const _: () = assert!(super::MOST_BYTES < NOTHING_RESERVED as usize);
