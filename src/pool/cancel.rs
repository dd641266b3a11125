//! Ending a task that runs: it is past its deadline, or it is cancelled.
//!
//! First it is asked, half the grace later its worker gets SIGTERM, and at the grace's end SIGKILL. The states, and why
//! no other task or item can be hit, are in docs/design/deadlines.md.

use super::ledger::{Delivery, Outcome, Output, State as TaskState, to_c_string};
use super::state::State;
use crate::error::Code;
use crate::sys::limits;
use crate::sys::prim::{Ordering, fence};
use crate::task::call::Kind;
use crate::task::ring::Segment;

/// How often a worker's memory is looked at while it has a limit.
const MEMORY_LOOK_NS: u64 = 10_000_000;

/// Why a task is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    Deadline,
    Cancelled,
    /// Its worker has more memory than it may.
    Memory,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Asked,
    Terminated,
    Killed,
}

/// A task that is being ended. Its ring takes no other meanwhile.
#[derive(Debug)]
pub(super) struct Ending {
    pub(super) index: u32,
    /// Where it is in the ring.
    position: u32,
    /// Of a chunk: the item, by its number in the chunk.
    pub(super) item: u64,
    reason: Reason,
    stage: Stage,
    /// When the next stage is due.
    due_ns: u64,
    /// Its worker does not live on, however the task ends: it is being killed, or a signal is still on its way to it.
    pub(super) doomed: bool,
}

/// When the running task, or the item of a chunk, began, as the host has first seen it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Beginning {
    position: u32,
    item: u64,
    since_ns: u64,
}

impl Beginning {
    /// What is known after another look; `None` where what the worker says cannot be. Only a higher number is another item's
    /// beginning, and there are so many: what a worker gains by lying is no more than its chunk may take. One less than was
    /// seen is a worker that was about to begin an item and was asked not to.
    fn next(
        known: Option<Beginning>,
        position: u32,
        item: u64,
        items: u64,
        said_ns: u64,
        now: u64,
    ) -> Option<Beginning> {
        let since_ns = if said_ns == 0 { now } else { said_ns.min(now) };
        match known {
            _ if item > items => None,
            Some(known) if item + 1 < known.item => None,
            Some(known) if item <= known.item => Some(known),
            _ => Some(Beginning { position, item, since_ns }),
        }
    }
}

impl Reason {
    pub(super) fn status(self) -> i32 {
        match self {
            Reason::Deadline => -libc::ETIMEDOUT,
            Reason::Cancelled => -libc::ECANCELED,
            Reason::Memory => Code::MEMORY.0,
        }
    }

    pub(super) fn text(self, delivery: Delivery) -> &'static str {
        match (self, delivery) {
            (Reason::Deadline, Delivery::MaybeRan) => "past its deadline; its worker was ended",
            (Reason::Deadline, _) => "past its deadline",
            (Reason::Cancelled, Delivery::MaybeRan) => "cancelled while it ran; its worker was ended",
            (Reason::Cancelled, _) => "cancelled while it ran",
            (Reason::Memory, _) => "it took more memory than .max_worker_bytes",
        }
    }
}

impl Reason {
    /// What a settled task comes to that was to be ended. The output that it leaves is returned, to be freed.
    pub(super) fn amend(self, outcome: &mut Outcome) -> Option<usize> {
        let ran = outcome.delivery == Delivery::Ran;
        if !(ran && outcome.status < 0 && outcome.message.is_some()) {
            outcome.message = to_c_string(self.text(outcome.delivery).as_bytes());
        }
        outcome.status = self.status();
        if let (Reason::Memory, Some(death)) = (self, &mut outcome.death) {
            death.out_of_memory = 1;
        }
        match (std::mem::take(&mut outcome.output_length), outcome.output) {
            (1.., Output::Heap(address)) => Some(address),
            _ => None,
        }
    }
}

impl Ending {
    /// What a settled task comes to that was being ended. The output that it leaves is returned, to be freed.
    pub(super) fn amend(&self, outcome: &mut Outcome, kind: Kind) -> Option<usize> {
        if kind != Kind::Task {
            outcome.late = Some((self.item, self.reason.status()));
            if let (Reason::Memory, Some(death)) = (self.reason, &mut outcome.death) {
                death.out_of_memory = 1;
            }
            return None;
        }
        self.reason.amend(outcome)
    }

    /// The text for an item of a chunk that was ended.
    pub(super) fn text_of(status: i32, delivery: Delivery) -> &'static str {
        let reasons = [Reason::Deadline, Reason::Cancelled, Reason::Memory];
        reasons.iter().find(|reason| reason.status() == status).map_or("", |reason| reason.text(delivery))
    }

    /// The worker may use the slot for another task.
    pub(super) fn clear(&self, segment: &Segment) {
        segment.slot(self.position).asked.store(0, Ordering::Relaxed);
    }
}

/// How far a task may go, and what happens to one that goes further.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// How long a task that is to end may take.
    pub(super) grace_ns: u64,
    /// The signal that tells it besides its flag; 0 for none.
    pub(super) cancel_signal: i32,
    /// Above so much private memory a task is ended; 0 for never.
    pub(super) max_worker_bytes: u64,
}

impl State {
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
            // A worker that never says that it has begun is given up on: see `State::free_stuck`.
            return now.saturating_add(deadline_ns).min(memory_due_ns);
        }
        // The worker's words: which item it is at, and since when (0 where it has not written that yet).
        let item = if entry.kind == Kind::Task { 0 } else { segment.items_begun.load(Ordering::Acquire) };
        let said = segment.begun_ns.load(Ordering::Acquire);
        if ring.has_passed(segment, position) {
            // They may be of what came after it. Somebody looks at once again, to hand out what there is room for now.
            self.drain(slot, now);
            return now;
        }
        let known = ring.beginning.filter(|known| known.position == position);
        let Some(beginning) = Beginning::next(known, position, item, self.ledger.items_of(index), said, now)
        else {
            let last = known.map_or(0, |known| known.item.saturating_sub(1));
            self.end_at_once(slot, index, position, last, Reason::Deadline);
            return u64::MAX;
        };
        ring.beginning = Some(beginning);
        let due_ns = beginning.since_ns.saturating_add(deadline_ns);
        if now < due_ns {
            return due_ns.min(memory_due_ns);
        }
        self.end_running(slot, index, Reason::Deadline, now);
        self.rings[slot].ending.as_ref().map_or(now.saturating_add(1_000_000), |ending| ending.due_ns)
    }

    fn is_too_large(&mut self, slot: usize, now: u64) -> bool {
        let ring = self.rings.quietly(slot);
        if now < ring.next_memory_look_ns {
            return false;
        }
        ring.next_memory_look_ns = now + MEMORY_LOOK_NS;
        let bytes = limits::private_bytes(self.family.members[slot].pid);
        bytes.is_some_and(|bytes| bytes > self.limits.max_worker_bytes)
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
        let is_task = self.ledger.get(index).kind == Kind::Task;
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
            // Memory does not wait.
            let (stage, due_ns) = match reason {
                Reason::Memory => (Stage::Terminated, now),
                _ => (Stage::Asked, now.saturating_add(self.limits.grace_ns / 2)),
            };
            let with_signal = self.limits.cancel_signal != 0 && reason != Reason::Memory;
            let doomed = with_signal && !self.family.signal(slot, self.limits.cancel_signal);
            ring.ending = Some(Ending { index, position, item: begun - 1, reason, stage, due_ns, doomed });
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
        let (stage, due_ns) = (Stage::Killed, u64::MAX);
        ring.ending = Some(Ending { index, position, item, reason, stage, due_ns, doomed: true });
        ring.blamed = Some(index);
        self.distrust(slot);
    }

    /// Goes on to the next stage when its time has come.
    fn press(&mut self, slot: usize, now: u64) -> u64 {
        let ring = self.rings.quietly(slot);
        let Some(ending) = &mut ring.ending else { return u64::MAX };
        while now >= ending.due_ns {
            match ending.stage {
                Stage::Asked => {
                    ending.doomed |= !self.family.signal(slot, libc::SIGTERM);
                    ring.signalled = true;
                    ending.stage = Stage::Terminated;
                    ending.due_ns =
                        ending.due_ns.saturating_add(self.limits.grace_ns - self.limits.grace_ns / 2);
                }
                Stage::Terminated | Stage::Killed => {
                    self.family.kill(slot);
                    (ending.stage, ending.doomed) = (Stage::Killed, true);
                    ending.due_ns = u64::MAX;
                }
            }
        }
        ending.due_ns
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
