//! What is taken back from a ring: tasks that have not begun, and what a worker that has ended leaves.

use super::{Flight, RingAccount};
use crate::pool::ledger::Ledger;
use crate::sys::prim::Ordering;
use crate::task::ring::{SLOTS, Segment, TaskSlot, state};

/// A task that a dead worker had in its ring.
pub(in crate::pool) struct LeftTask {
    pub(in crate::pool) index: u32,
    pub(in crate::pool) begun: bool,
    /// It was the next to begin, and has not, as the worker says.
    pub(in crate::pool) is_next: bool,
    /// It is made answerable for its worker's end although the worker says that it has not begun.
    pub(in crate::pool) to_blame: bool,
    /// Of a chunk: how long the messages of its finished items are.
    pub(in crate::pool) messages_length: usize,
    /// When it began, as the worker says where there is a trace.
    pub(in crate::pool) began_ns: u64,
    /// The address that the running task has announced for its output; 0 for none. What a task before it had announced the worker has taken
    /// back: its result says where its output is.
    pub(in crate::pool) unfinished: usize,
}

impl RingAccount {
    /// Takes back the youngest task that has not begun.
    pub(in crate::pool) fn recall_youngest(&mut self, segment: &Segment, ledger: &mut Ledger) -> Option<u32> {
        let (position, index) = self.tasks().next_back()?;
        // Older ones have begun earlier, or will.
        self.recall_at(segment, ledger, position, index).then_some(index)
    }

    /// Takes back everything behind the task in front, the oldest first; and whether all of it had not begun.
    pub(in crate::pool) fn recall_behind(
        &mut self,
        segment: &Segment,
        ledger: &mut Ledger,
    ) -> (Vec<u32>, bool) {
        let tasks: Vec<(u32, u32)> = self.tasks().skip(1).collect();
        let (mut recalled, mut all) = (Vec::new(), true);
        for (position, index) in tasks.into_iter().rev() {
            if self.recall_at(segment, ledger, position, index) {
                recalled.push(index);
            } else {
                all = false;
            }
        }
        recalled.reverse();
        (recalled, all)
    }

    /// Takes back this very task, if it has not begun.
    pub(in crate::pool) fn recall(&mut self, segment: &Segment, ledger: &mut Ledger, index: u32) -> bool {
        self.position_of(index).is_some_and(|position| self.recall_at(segment, ledger, position, index))
    }

    fn position_of(&self, index: u32) -> Option<u32> {
        self.tasks().find(|(_, task)| *task == index).map(|(position, _)| position)
    }

    /// Whether this task lies in the ring and neither side has claimed it.
    pub(in crate::pool) fn is_unbegun(&self, segment: &Segment, index: u32) -> bool {
        self.position_of(index).is_some_and(|position| segment.slot(position).is_ready())
    }

    fn recall_at(&mut self, segment: &Segment, ledger: &mut Ledger, position: u32, index: u32) -> bool {
        let slot = segment.slot(position);
        let recalled = !self.distrusted && slot.claim(state::RECALLED);
        if recalled {
            self.flights[(position % SLOTS) as usize] = Flight::Recalled;
            self.forget(slot, index);
            self.take_end_back(ledger, index);
            self.given -= 1;
            self.tasks -= 1;
            self.timed -= usize::from(ledger.get(index).deadline_ns != 0);
        }
        recalled
    }

    /// Puts the end of a channel of a task that has not begun back into the ledger.
    fn take_end_back(&mut self, ledger: &mut Ledger, index: u32) {
        if self.carries.take_if(|carries| *carries == index).is_some()
            && let Some(handover) = self.handover.take()
        {
            let entry = ledger.get_mut(index);
            let task = entry.id_at(index);
            self.handover = match &mut entry.rare {
                Some(rare) => rare.end.take_back(handover, task),
                None => Some(handover),
            };
        }
    }

    /// The task has left the ring. Its slot and its place in the ledger are for another one now, which is neither to blame nor to be
    /// split.
    #[inline(always)]
    pub(super) fn forget(&mut self, slot: &TaskSlot, index: u32) {
        self.blamed.take_if(|blamed| *blamed == index);
        if self.split.take_if(|split| *split == index).is_some() {
            slot.split.store(0, Ordering::Relaxed);
        }
    }

    /// The worker is given up on: what is behind the task in front is taken back, and so is that, unless it is to blame. Then the
    /// worker has its time first, for one that is stopped, or that gets no processor, says as little. Whether the worker can be
    /// believed.
    pub(in crate::pool) fn give_up(
        &mut self,
        segment: &Segment,
        ledger: &mut Ledger,
        blamed: bool,
        now_ns: u64,
    ) -> (Vec<u32>, bool) {
        self.lose_patience(now_ns);
        let Some((position, index)) = self.front() else { return (Vec::new(), true) };
        let (mut recalled, _) = self.recall_behind(segment, ledger);
        if blamed && !self.is_hung(now_ns) {
            return (recalled, true);
        }
        if !blamed && self.recall(segment, ledger, index) {
            recalled.insert(0, index);
            return (recalled, true);
        }
        // It may have begun since the caller looked: that is what was waited for.
        if segment.slot(position).has_begun() {
            return (recalled, true);
        }
        if blamed {
            self.blamed = Some(index);
        }
        (recalled, false)
    }

    /// Whether the worker says that it has begun with what is behind the task in front, which, as it also says, has not ended.
    /// No worker that keeps to the protocol does: it moves `done` before it claims the next slot.
    pub(in crate::pool) fn contradicts_itself(&self, segment: &Segment) -> bool {
        let Some((front, _)) = self.front() else { return false };
        let begun = self.tasks().skip(1).any(|(position, _)| !segment.slot(position).is_ready());
        let passed = segment.finished(self.done, self.in_ring() as u32);
        begun && passed.is_none_or(|count| count <= front.wrapping_sub(self.done))
    }

    /// The worker has ended and its results are drained: what is left.
    ///
    /// Tasks are begun in their order, so only the first that has not ended can have begun, whatever the states say. Where the
    /// worker has written into `done` what cannot be, the states are all that there is.
    pub(in crate::pool) fn clear(&mut self, segment: &Segment, ledger: &mut Ledger) -> Vec<LeftTask> {
        let mut left = Vec::new();
        let last = segment.finished(self.done, self.in_ring() as u32).unwrap_or(u32::MAX);
        let tasks: Vec<(u32, u32)> = self.tasks().collect();
        (self.tasks, self.tail) = (0, self.done);
        for (position, index) in tasks {
            let slot = segment.slot(position);
            let to_blame = self.blamed == Some(index);
            let runs = position.wrapping_sub(self.done) <= last && !slot.is_ready();
            let unfinished = if runs { segment.pending_output.load(Ordering::Acquire) as usize } else { 0 };
            let begun = to_blame || runs;
            let is_next = !begun && !left.iter().any(|task: &LeftTask| task.is_next || task.begun);
            let messages_length = slot.message_length.load(Ordering::Relaxed) as usize;
            if !begun {
                self.take_end_back(ledger, index);
            }
            let began_ns = slot.times().0;
            left.push(LeftTask { index, begun, is_next, to_blame, messages_length, began_ns, unfinished });
        }
        left
    }
}
