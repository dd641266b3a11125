//! What a worker has left in its ring: read once, checked, and taken.

use super::{FILL_NS, FIRST_DEPTH, Flight, Patience, RingAccount, TELLING_NS};
use crate::heap::Heap;
use crate::pool::ledger::{Delivery, Ledger, Outcome, OutputPlace, to_c_string};
use crate::sys::prim::Ordering;
use crate::sys::thread::Uncancelled;
use crate::task::call::CallKind;
use crate::task::ring::{Left, SLOTS, Segment, TaskSlot};

/// What was in front of a ring.
#[derive(Debug)]
pub(in crate::pool) enum Taken {
    /// A call that has left nothing but its status.
    Plain { index: u32, position: u32, status: i32 },
    Result {
        index: u32,
        /// Where it was in the ring.
        position: u32,
        outcome: Outcome,
    },
    /// It had been taken back.
    Nothing,
    /// It cannot be: what is in front stays there.
    Nonsense,
}

impl RingAccount {
    /// How many at the front have ended; `None` where the worker says what cannot be, or takes back what it has said.
    pub(super) fn finished(&mut self, segment: &Segment) -> Option<u32> {
        let count = segment.finished(self.done, self.in_ring() as u32)?;
        if count < self.said.wrapping_sub(self.done) {
            return None;
        }
        self.said = self.done.wrapping_add(count);
        Some(count)
    }

    /// Whether the worker says that what is at this position has ended. What the worker has said before of what it is at is of
    /// this position only where it has not: see [`Segment`].
    pub(in crate::pool) fn has_passed(&mut self, segment: &Segment, position: u32) -> bool {
        self.finished(segment).is_none_or(|count| count > position.wrapping_sub(self.done))
    }

    /// Whether there are results to drain.
    pub(in crate::pool) fn has_results(&self, segment: &Segment) -> bool {
        let count = self.in_ring() as u32;
        let any = count > 0 && !self.distrusted;
        any && (self.said != self.done || segment.finished(self.done, count) != Some(0))
    }

    /// How many places there are to take with [`RingAccount::take`]; then [`RingAccount::measure`] is to be called. A worker that has written what
    /// cannot be is distrusted from then on.
    pub(in crate::pool) fn take_count(&mut self, segment: &Segment) -> u32 {
        if self.distrusted || self.in_ring() == 0 {
            return 0;
        }
        let Some(count) = self.finished(segment) else {
            self.distrusted = true;
            return 0;
        };
        if count > 0 {
            segment.fetch(self.done, count);
        }
        count
    }

    /// Takes what is in front.
    #[inline(always)]
    pub(in crate::pool) fn take(&mut self, segment: &Segment, ledger: &mut Ledger, heap: &Heap) -> Taken {
        let position = self.done;
        let slot = segment.slot(position);
        let Some(Flight::Task(index)) = self.first() else {
            self.pass();
            return Taken::Nothing;
        };
        let entry = ledger.get(index);
        let (is_task, is_timed) = (entry.kind == CallKind::Task, entry.deadline_ns != 0);
        // What was never begun cannot have come to its end.
        let begun = slot.has_begun();
        if begun && is_task && slot.left_nothing() {
            let status = slot.status.load(Ordering::Relaxed);
            self.task_leaves(slot, index, is_timed);
            return Taken::Plain { index, position, status };
        }
        let outcome = if begun { self.read_result(slot, ledger, heap, index) } else { None };
        let Some(outcome) = outcome else {
            // It stays in front as what it is: begun, and its worker is about to be killed.
            self.distrusted = true;
            return Taken::Nonsense;
        };
        if self.task_leaves(slot, index, is_timed) && outcome.delivery == Delivery::NotStarted {
            self.renew_handover();
        }
        Taken::Result { index, position, outcome }
    }

    /// The task in front has ended, and is out of the ring; whether it had the end of a channel.
    #[inline(always)]
    fn task_leaves(&mut self, slot: &TaskSlot, index: u32, is_timed: bool) -> bool {
        self.pass();
        self.forget(slot, index);
        self.timed -= usize::from(is_timed);
        self.tasks -= 1;
        self.carries.take_if(|carries| *carries == index).is_some()
    }

    /// What was in front is out of the ring.
    fn pass(&mut self) {
        self.signalled_at.take_if(|at| *at == self.done);
        self.done = self.done.wrapping_add(1);
    }

    /// Takes all that there is.
    #[cfg(test)]
    pub(in crate::pool) fn take_all(
        &mut self,
        segment: &Segment,
        ledger: &mut Ledger,
        heap: &Heap,
        now_ns: u64,
    ) -> Vec<(u32, Outcome)> {
        let (count, mut all) = (self.take_count(segment), Vec::new());
        for _ in 0..count {
            match self.take(segment, ledger, heap) {
                Taken::Plain { index, status, .. } => all.push((index, Outcome::new(status, Delivery::Ran))),
                Taken::Result { index, outcome, .. } => all.push((index, outcome)),
                Taken::Nothing => (),
                Taken::Nonsense => return all,
            }
        }
        if count > 0 {
            self.measure(segment, u64::from(count), now_ns);
        }
        all
    }

    /// Learns how long tasks take and how deep the ring should be filled.
    pub(in crate::pool) fn measure(&mut self, segment: &Segment, count: u64, now_ns: u64) {
        let mut each = now_ns.saturating_sub(self.last_look_ns) / count;
        if each > TELLING_NS {
            // It may have been the wake-up, or the host that came late.
            each = segment.pace(self.done).map_or(each, |pace| each.min(pace));
        }
        self.last_look_ns = now_ns;
        self.patience = Patience::new();
        self.task_ns = match self.task_ns {
            0 => each,
            known if each < known => (known + 3 * each) / 4,
            known => (3 * known + each) / 4,
        }
        .max(1);
        let fitting = FILL_NS / self.task_ns.max(1);
        // One slot stays free: the ring's positions are compared modulo their number.
        self.depth = (fitting as usize).clamp(FIRST_DEPTH, SLOTS as usize - 1);
    }

    /// The worker has not run a task that had the end of a channel. It may have no handover, where no descriptor was free: then the end is
    /// still in there. The next such task gets a new one.
    #[cold]
    fn renew_handover(&mut self) {
        if let Some(handover) = self.handover.take() {
            let _uncancelled = Uncancelled::new();
            handover.discard();
            drop(handover);
        }
    }

    /// A result as the worker has left it; `None` if it cannot be one.
    fn read_result(
        &mut self,
        slot: &TaskSlot,
        ledger: &mut Ledger,
        heap: &Heap,
        index: u32,
    ) -> Option<Outcome> {
        let status = slot.status.load(Ordering::Relaxed);
        let declined = status < 0 && slot.was_declined();
        let delivery = if declined { Delivery::NotStarted } else { Delivery::Ran };
        let mut outcome = Outcome::new(status, delivery);
        let entry = ledger.get_mut(index);
        let message_length = slot.message_length.load(Ordering::Relaxed) as usize;
        if entry.kind != CallKind::Task {
            outcome.items = slot.items.load(Ordering::Relaxed);
            outcome.elapsed_ns = slot.elapsed_ns.load(Ordering::Relaxed);
            outcome.messages_length = message_length;
            return Some(outcome);
        }
        if message_length > 0 {
            outcome.message = to_c_string(&slot.message_left());
        }
        match slot.output_left(|address, length| heap.contains(address, length))? {
            Left::Nothing => (),
            Left::Inline(length) => {
                outcome.output_length = length;
                slot.inline_output.copy_to(&mut ledger.inline_room(index)[..length]);
            }
            Left::Block(address, length) => {
                (outcome.output_length, outcome.output) = (length, OutputPlace::Heap(address));
            }
        }
        Some(outcome)
    }
}
