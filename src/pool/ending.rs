//! Ending a task that runs: it is past its deadline, or it is cancelled.
//!
//! First it is asked, half the grace later its worker gets SIGTERM, and at the grace's end SIGKILL. The states, and why
//! no other task or item can be hit, are in docs/design/deadlines.md.

use super::books::{Delivery, Outcome, Output, State as TaskState, to_c_string};
use super::call::Kind;
use super::state::State;
use crate::error::Code;
use crate::prim::{Ordering, fence};
use crate::queue::ring::Segment;
use crate::sys::limits;

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

/// A task that is being ended. Its lane takes no other meanwhile.
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
}

/// When the running task, or the item of a chunk, began, as the host has first seen it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Beginning {
    position: u32,
    item: u64,
    since_ns: u64,
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

impl State {
    /// Finds tasks that are late, and moves on with those that are being ended.
    pub(super) fn look_after_running(&mut self, now: u64) {
        self.running_due_ns = u64::MAX;
        for slot in 0..self.lanes.len() {
            let watched = self.max_worker_bytes != 0 && self.lanes[slot].in_ring() > 0;
            if watched || self.lanes[slot].needs_watching() {
                let due_ns = self.look_after(slot, now);
                self.running_due_ns = self.running_due_ns.min(due_ns);
            }
        }
    }

    /// When this lane is to be looked at again.
    fn look_after(&mut self, slot: usize, now: u64) -> u64 {
        if self.lanes[slot].ending.is_some() {
            return self.press(slot, now);
        }
        let Some((position, index)) = self.lanes[slot].front() else { return u64::MAX };
        if self.max_worker_bytes != 0 && self.is_too_large(slot, now) {
            self.end_running(slot, index, Reason::Memory, now);
            return self.press(slot, now).min(now + MEMORY_LOOK_NS);
        }
        let Some(segment) = &self.family.members[slot].segment else { return u64::MAX };
        let lane = &mut self.lanes[slot];
        let memory_due_ns = if self.max_worker_bytes == 0 { u64::MAX } else { now + MEMORY_LOOK_NS };
        let deadline_ns = self.books.get(index).deadline_ns;
        if deadline_ns == 0 {
            return memory_due_ns; // When it has finished somebody looks again.
        }
        if !segment.slot(position).has_begun() {
            return now.saturating_add(deadline_ns).min(memory_due_ns);
        }
        let item = segment.items_begun.load(Ordering::Acquire);
        let known = lane.beginning.filter(|known| known.position == position && known.item == item);
        let beginning = known.unwrap_or_else(|| {
            // The worker's word; 0 where it has not written it yet.
            let said = segment.begun_ns.load(Ordering::Acquire);
            let since_ns = if said == 0 { now } else { said.min(now) };
            Beginning { position, item, since_ns }
        });
        lane.beginning = Some(beginning);
        let due_ns = beginning.since_ns.saturating_add(deadline_ns);
        if now < due_ns {
            return due_ns.min(memory_due_ns);
        }
        self.end_running(slot, index, Reason::Deadline, now);
        self.lanes[slot].ending.as_ref().map_or(now.saturating_add(1_000_000), |ending| ending.due_ns)
    }

    fn is_too_large(&mut self, slot: usize, now: u64) -> bool {
        let lane = &mut self.lanes[slot];
        if now < lane.next_memory_look_ns {
            return false;
        }
        lane.next_memory_look_ns = now + MEMORY_LOOK_NS;
        let bytes = limits::private_bytes(self.family.members[slot].pid);
        bytes.is_some_and(|bytes| bytes > self.max_worker_bytes)
    }

    /// Begins to end a task that has begun. Where it has finished meanwhile, nothing happens.
    pub(super) fn end_running(&mut self, slot: usize, index: u32, reason: Reason, now: u64) {
        if self.lanes[slot].ending.is_some() {
            return;
        }
        let Some(segment) = &self.family.members[slot].segment else { return };
        let lane = &mut self.lanes[slot];
        let Some((position, front)) = lane.front() else { return };
        if front != index || !segment.slot(position).has_begun() {
            return;
        }
        let (behind, all) = lane.recall_behind(segment, &mut self.books);
        let kind = self.books.get(index).kind;
        let begun = segment.items_begun.load(Ordering::Acquire);
        let asked = if kind == Kind::Task { 1 } else { begun };
        let mut alone = all && asked != 0;
        if alone {
            segment.slot(position).asked.store(asked, Ordering::Relaxed);
            fence(Ordering::SeqCst);
            if kind != Kind::Task && segment.items_begun.load(Ordering::Acquire) != begun {
                segment.slot(position).asked.store(0, Ordering::Relaxed);
                alone = false;
            }
        }
        if alone {
            // Memory does not wait.
            let (stage, due_ns) = match reason {
                Reason::Memory => (Stage::Terminated, now),
                _ => (Stage::Asked, now.saturating_add(self.grace_ns / 2)),
            };
            let item = asked - 1;
            lane.ending = Some(Ending { index, position, item, reason, stage, due_ns });
            if self.cancel_signal != 0 && reason != Reason::Memory {
                self.family.signal(slot, self.cancel_signal);
            }
            self.running_due_ns = self.running_due_ns.min(due_ns);
        }
        self.requeue(behind);
    }

    /// Goes on to the next stage when its time has come.
    fn press(&mut self, slot: usize, now: u64) -> u64 {
        let Some(ending) = &mut self.lanes[slot].ending else { return u64::MAX };
        while now >= ending.due_ns {
            match ending.stage {
                Stage::Asked => {
                    self.family.signal(slot, libc::SIGTERM);
                    ending.stage = Stage::Terminated;
                    ending.due_ns = ending.due_ns.saturating_add(self.grace_ns - self.grace_ns / 2);
                }
                Stage::Terminated | Stage::Killed => {
                    self.family.kill(slot);
                    ending.stage = Stage::Killed;
                    ending.due_ns = u64::MAX;
                }
            }
        }
        ending.due_ns
    }

    /// Submitted tasks that have not settled.
    fn under_way(&self) -> Vec<u32> {
        let under_way =
            |index: &u32| matches!(self.books.get(*index).state, TaskState::Queued | TaskState::Sent(_));
        self.books.tasks_in_use().filter(under_way).collect()
    }

    /// Cancels every submitted task that has not settled; how many that were.
    pub(super) fn cancel_all(&mut self, now: u64) -> usize {
        let open = self.under_way();
        open.into_iter().filter(|index| self.cancel(*index, now).is_ok()).count()
    }

    /// Cancels every submitted task that has not begun; how many that were.
    pub(super) fn cancel_queued(&mut self) -> usize {
        let open = self.under_way();
        let cancelled = open.into_iter().filter(|index| self.cancel_unbegun(*index)).count();
        self.wake_waiters();
        self.update_outside();
        cancelled
    }
}
