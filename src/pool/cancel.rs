//! Cancelling: a task that is to end, because somebody says so, because it is past its deadline, or because its worker has too
//! much memory. One that has not begun is taken back and settles at once; one that runs is ended, stage by stage
//! ([`super::ending`]).

use super::Pool;
use super::ending::{Beginning, Ending, Reason};
use super::inline::INLINE;
use super::ledger::{Outcome, TaskId, TaskState};
use super::parcel::End;
use super::remote::node_of;
use super::state::PoolState;
use crate::error::{Code, Error, Result};
use crate::sys::clock::now_ns;
use crate::sys::prim::{Ordering, fence};
use crate::task::call::CallKind;

/// How often a worker's memory is looked at while it has a limit.
const MEMORY_LOOK_NS: u64 = 10_000_000;

impl Pool {
    /// Cancels a task, whether it has begun or not; it settles as `ECANCELED`, unless it ends by itself in this moment.
    pub fn cancel(&self, id: TaskId) -> Result<()> {
        let inner = self.inner()?;
        let mut state = inner.lock();
        state.pump(false);
        let found = state.ledger.find(id);
        let now = now_ns();
        let done = found.and_then(|index| state.cancel(index, now));
        state.tell_what_is_due(now);
        state.leave();
        done
    }

    /// Cancels every task that has not settled; how many that were.
    pub fn cancel_all(&self) -> Result<usize> {
        let inner = self.inner()?;
        let mut state = inner.lock();
        state.pump(false);
        let now = now_ns();
        let count = state.cancel_all(now);
        state.tell_what_is_due(now);
        state.leave();
        Ok(count)
    }

    /// Cancels every task that has not begun; how many that were.
    pub fn cancel_queued(&self) -> Result<usize> {
        let inner = self.inner()?;
        let mut state = inner.lock();
        state.pump(false);
        let count = state.cancel_queued();
        state.tell_what_is_due(now_ns());
        state.leave();
        Ok(count)
    }
}

impl PoolState {
    /// Finds out whether the running task is late, and moves on with one that is being ended. When the ring is to be looked at
    /// again.
    pub(super) fn look_after_running(&mut self, slot: usize, now: u64) -> u64 {
        let watched = self.limits.max_worker_bytes != 0 && self.rings[slot].in_ring() > 0;
        let needed = watched || self.rings[slot].needs_watching();
        if needed { self.look_after(slot, now) } else { u64::MAX }
    }

    /// When this ring is to be looked at again.
    fn look_after(&mut self, slot: usize, now: u64) -> u64 {
        if self.rings[slot].ending.is_some() {
            return self.press(slot, now);
        }
        let Some((position, index)) = self.rings[slot].front() else { return u64::MAX };
        if self.rings[slot].distrusted {
            return u64::MAX; // It is being killed.
        }
        if self.limits.max_worker_bytes != 0 && self.has_begun(slot, position) && self.is_too_large(slot, now)
        {
            self.end_running(slot, index, Reason::Memory, now);
            return self.press(slot, now).min(now + MEMORY_LOOK_NS);
        }
        let Some(segment) = &self.family.members[slot].segment else { return u64::MAX };
        let ring = self.rings.quietly(slot);
        let memory_due_ns = if self.limits.max_worker_bytes == 0 { u64::MAX } else { now + MEMORY_LOOK_NS };
        let entry = self.ledger.get(index);
        let deadline_ns = entry.deadline_ns;
        if deadline_ns == 0 {
            return memory_due_ns; // When it has finished somebody looks again.
        }
        if !segment.slot(position).has_begun() {
            // A worker that never says that it has begun is given up on: see `PoolState::free_stuck`.
            ring.looked_ns = now;
            return now.saturating_add(deadline_ns).min(memory_due_ns);
        }
        // The worker's words: which item it is at, and since when (0 where it has not written that yet).
        let item = if entry.kind == CallKind::Task { 0 } else { segment.items_begun.load(Ordering::Acquire) };
        let said = segment.begun_ns.load(Ordering::Acquire);
        if ring.has_passed(segment, position) {
            // They may be of what came after it. Somebody looks at once again, to hand out what there is room for now.
            self.drain(slot, now);
            return now;
        }
        let known = ring.beginning.filter(|known| known.position == position);
        let Some(beginning) =
            Beginning::next(known, position, item, self.ledger.items_of(index), said, (ring.looked_ns, now))
        else {
            let last = known.map_or(0, |known| known.item.saturating_sub(1));
            self.end_at_once(slot, index, position, last, Reason::Deadline);
            return u64::MAX;
        };
        (ring.beginning, ring.looked_ns) = (Some(beginning), now);
        let due_ns = beginning.since_ns.saturating_add(deadline_ns);
        if now < due_ns {
            return due_ns.min(memory_due_ns);
        }
        self.end_running(slot, index, Reason::Deadline, now);
        self.rings[slot].ending.as_ref().map_or(now.saturating_add(1_000_000), Ending::due_ns)
    }

    fn is_too_large(&mut self, slot: usize, now: u64) -> bool {
        let ring = self.rings.quietly(slot);
        if now < ring.next_memory_look_ns {
            return false;
        }
        ring.next_memory_look_ns = now + MEMORY_LOOK_NS;
        let item = self.item_begun(slot);
        // Another item may have begun since, and that before it may have given its memory back.
        self.has_too_much(slot) && (self.item_begun(slot) == item || self.has_too_much(slot))
    }

    fn has_too_much(&mut self, slot: usize) -> bool {
        self.own_bytes(slot).is_some_and(|bytes| bytes > self.limits.max_worker_bytes)
    }

    /// Which item of a chunk a worker is at, as it says.
    fn item_begun(&self, slot: usize) -> u64 {
        let segment = self.family.members[slot].segment.as_ref();
        segment.map_or(0, |segment| segment.items_begun.load(Ordering::Acquire))
    }

    fn has_begun(&self, slot: usize, position: u32) -> bool {
        let segment = self.family.members[slot].segment.as_ref();
        segment.is_some_and(|segment| segment.slot(position).has_begun())
    }

    /// Begins to end a task that has begun, as the worker says or as its slot could not be taken back. Where it has finished
    /// meanwhile, nothing happens.
    pub(super) fn end_running(&mut self, slot: usize, index: u32, reason: Reason, now: u64) {
        if self.rings[slot].ending.is_some() {
            return;
        }
        if !self.rings[slot].is_in_front(index) {
            // What was in front of it has ended meanwhile, and perhaps so has the task.
            self.drain(slot, now);
            if self.ledger.get(index).state != TaskState::Sent(slot as u32) {
                return;
            }
        }
        let Some(segment) = &self.family.members[slot].segment else { return };
        let ring = &mut self.rings[slot];
        let Some((position, _)) = ring.front().filter(|(_, front)| *front == index) else {
            // The worker says that it has begun, and that what is in front of it has not ended.
            self.ledger.get_mut(index).unwanted = true;
            return self.distrust(slot);
        };
        let (behind, all) = ring.recall_behind(segment, &mut self.ledger);
        let is_task = self.ledger.get(index).kind == CallKind::Task;
        let begun = if is_task { 1 } else { segment.items_begun.load(Ordering::Acquire) };
        if ring.has_passed(segment, position) {
            return self.requeue(behind); // It has ended by itself, and the number may be of what came after it.
        }
        // The item that was found to be late may have ended meanwhile.
        let judged = ring.beginning.filter(|known| known.position == position && !is_task);
        let is_another = reason == Reason::Deadline && judged.is_some_and(|judged| begun > judged.item);
        let mut alone = all && begun != 0 && !is_another;
        if alone {
            segment.slot(position).asked.store(begun, Ordering::Relaxed);
            fence(Ordering::SeqCst);
            if !is_task && segment.items_begun.load(Ordering::Acquire) != begun {
                segment.slot(position).asked.store(0, Ordering::Relaxed);
                alone = false;
            }
        }
        if alone {
            let mut ending = Ending::begin((position, index), begun - 1, reason, &self.limits, now);
            let with_signal = self.limits.cancel_signal != 0 && reason != Reason::Memory;
            ending.doomed = with_signal && !self.family.signal(slot, self.limits.cancel_signal);
            let due_ns = ending.due_ns();
            ring.ending = Some(ending);
            ring.blamed = Some(index);
            ring.signalled |= with_signal;
            self.rings.set_alarm_by(slot, due_ns);
        } else if begun == 0 || ring.contradicts_itself(segment) {
            // It has begun with the chunk and with none of its items, or with what is behind what it has not ended.
            self.end_at_once(slot, index, position, begun.saturating_sub(1), reason);
        }
        self.requeue(behind);
    }

    /// Ends the task in front of a worker that has written what cannot be.
    fn end_at_once(&mut self, slot: usize, index: u32, position: u32, item: u64, reason: Reason) {
        let ring = &mut self.rings[slot];
        ring.ending = Some(Ending::at_once((position, index), item, reason));
        ring.blamed = Some(index);
        self.distrust(slot);
    }

    /// Goes on to the next stage when its time has come.
    fn press(&mut self, slot: usize, now: u64) -> u64 {
        let ring = self.rings.quietly(slot);
        let Some(ending) = &mut ring.ending else { return u64::MAX };
        while let Some(signal) = ending.press(&self.limits, now) {
            match signal {
                libc::SIGKILL => self.family.kill(slot),
                signal => {
                    ending.doomed |= !self.family.signal(slot, signal);
                    ring.signalled = true;
                }
            }
        }
        ending.due_ns()
    }

    /// Takes a task back that has not begun; whether it was that. One that is queued stays in the queue until it is settled.
    pub(super) fn take_back(&mut self, index: u32) -> bool {
        match self.ledger.get(index).state {
            TaskState::Queued => true,
            TaskState::Sent(INLINE) => false,
            // It settles when the node has answered.
            TaskState::Sent(place) if node_of(place).is_some() => {
                self.end_on_node(place, index, End::Recall);
                false
            }
            // What is being ended has begun, whatever its worker says by now.
            TaskState::Sent(slot)
                if self.rings[slot as usize].ending.as_ref().is_some_and(|ending| ending.index == index) =>
            {
                false
            }
            TaskState::Sent(slot) => {
                self.rings[slot as usize].hurry_for(index, self.limits.grace_ns, now_ns());
                let member = self.family.members.get(slot as usize);
                let Some(segment) = member.and_then(|member| member.segment.as_ref()) else { return false };
                let ring = &mut self.rings[slot as usize];
                let recalled = ring.recall(segment, &mut self.ledger, index);
                let due_ns = ring.hung_due_ns();
                self.rings.set_alarm_by(slot as usize, due_ns);
                recalled
            }
            _ => false,
        }
    }

    /// Cancels a task: one that has not begun settles at once, one that runs is asked to end, and made to.
    pub(super) fn cancel(&mut self, index: u32, now: u64) -> Result<()> {
        match self.ledger.get(index).state {
            TaskState::Settled => {
                return Err(Error::errno(libc::EALREADY, "the task has settled already"));
            }
            // What the id is good for must not depend on whether the result has to be kept.
            TaskState::Taken | TaskState::Free(_) => {
                return Err(Error::new(Code::ID, "the task's result has been taken already"));
            }
            TaskState::Queued | TaskState::Sent(_) => (),
        }
        if let TaskState::Sent(place) = self.ledger.get(index).state
            && node_of(place).is_some()
        {
            self.ledger.get_mut(index).unwanted = true;
            self.end_on_node(place, index, End::Cancel);
        } else if !self.cancel_unbegun(index)
            && let TaskState::Sent(slot) = self.ledger.get(index).state
        {
            match self.inline.place() {
                Some(place) => drop(place.cancel(index)),
                None => {
                    // A worker that is being killed takes it along: then it is not run again.
                    self.ledger.get_mut(index).unwanted |= self.rings[slot as usize].distrusted;
                    self.end_running(slot as usize, index, Reason::Cancelled, now);
                }
            }
        }
        self.wake_waiters();
        self.update_event_fd();
        Ok(())
    }

    /// Cancels a task that has not begun; whether it was that.
    pub(super) fn cancel_unbegun(&mut self, index: u32) -> bool {
        let unbegun = self.take_back(index);
        if unbegun {
            let error = Error::errno(libc::ECANCELED, "cancelled before it began");
            self.settle(index, Outcome::not_started(&error));
        }
        unbegun || self.is_left_to_a_death(index)
    }

    /// Whether a task lies unbegun with a worker that is distrusted, from which nothing is taken back: it settles as cancelled when the
    /// worker is known to be dead.
    fn is_left_to_a_death(&mut self, index: u32) -> bool {
        let TaskState::Sent(slot) = self.ledger.get(index).state else { return false };
        let Some(member) = self.family.members.get(slot as usize) else { return false };
        let ring = &self.rings[slot as usize];
        let unbegun =
            ring.distrusted && member.segment.as_ref().is_some_and(|segment| ring.is_unbegun(segment, index));
        self.ledger.get_mut(index).unwanted |= unbegun;
        unbegun
    }

    /// Whether this is the place of a submitted task that has not settled.
    fn is_open(&self, index: u32) -> bool {
        let entry = self.ledger.get(index);
        matches!(entry.state, TaskState::Queued | TaskState::Sent(_)) && entry.is_a_callers()
    }

    /// Cancels every submitted task that has not settled; how many that were.
    pub(super) fn cancel_all(&mut self, now: u64) -> usize {
        let places = self.ledger.places();
        places.filter(|index| self.is_open(*index) && self.cancel(*index, now).is_ok()).count()
    }

    /// Cancels every submitted task that has not begun; how many that were.
    pub(super) fn cancel_queued(&mut self) -> usize {
        let places = self.ledger.places();
        let cancelled = places.filter(|index| self.is_open(*index) && self.cancel_unbegun(*index)).count();
        self.wake_waiters();
        self.update_event_fd();
        cancelled
    }
}
