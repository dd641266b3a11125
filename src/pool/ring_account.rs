//! The host's private account of one worker's ring.

use super::ending::{Beginning, Ending};
use super::ledger::{Delivery, InputPlace, Ledger, Outcome, OutputPlace, to_c_string};
use super::patience::Patience;
use crate::heap::Heap;
use crate::sys::clock::Moment;
use crate::sys::limits::ProcessorUse;
use crate::sys::prim::Ordering;
use crate::task::call::CallKind;
use crate::task::function::Callee;
use crate::task::handover::Handover;
use crate::task::ring::{Left, SLOTS, Segment, TaskSlot, flag, state};
use std::collections::VecDeque;

/// How deep a ring is filled while nothing is known of how long its tasks take.
const FIRST_DEPTH: usize = 2;

/// A ring is filled with about this much work, so that a worker never waits for the host between short tasks.
const FILL_NS: u64 = 60_000;

/// A task that takes longer than this is a long one.
const STUCK_NS: u64 = 1_000_000;

/// What it takes to wake a worker that sleeps, roughly: less work than that is done sooner by one that is awake.
const WAKE_NS: u64 = 30_000;

/// From such a time on it matters whether a task has taken it or the worker's wake-up.
const TELLING_NS: u64 = 4_000;

/// A worker that has been quiet for so long is at more than what its tasks have lately taken.
const BRISK_NS: u64 = 50_000;

/// What is at a position of the ring, from the oldest on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flight {
    /// A task of the ledger.
    Task(u32),
    /// One that the host has taken back; the worker passes over it.
    Recalled,
}

#[derive(Debug)]
pub(super) struct RingAccount {
    pub(super) ready: bool,
    /// The worker has written what cannot be; nothing of its ring is believed any more but the states of its slots.
    pub(super) distrusted: bool,
    /// The task in front is being ended.
    pub(super) ending: Option<Ending>,
    pub(super) beginning: Option<Beginning>,
    /// The chunk that is to end after the item it is at.
    pub(super) split: Option<u32>,
    /// Tasks in the ring that have a deadline.
    timed: usize,
    /// By which the worker gets the ends of channels, once it has got one; and the task in the ring that has one.
    pub(super) handover: Option<Box<Handover>>,
    pub(super) carries: Option<u32>,
    /// When the worker became ready, and how many tasks it may be given, and has been.
    pub(super) ready_ns: u64,
    pub(super) task_quota: u32,
    given: u32,
    /// It gets no more; and it has been asked to leave.
    pub(super) retiring: bool,
    pub(super) leaving: bool,
    /// When the worker's memory is looked at again: in the middle of a task, and between two.
    pub(super) next_memory_look_ns: u64,
    pub(super) next_recycle_look_ns: u64,
    flights: VecDeque<Flight>,
    /// How many of them are tasks.
    tasks: usize,
    /// Positions: the next to push, the next to drain.
    tail: u32,
    done: u32,
    /// The furthest that the worker has said to be: it cannot go back.
    said: u32,
    depth: usize,
    /// Mean time of a task, as far as has been seen; 0 while nothing has.
    task_ns: u64,
    last_look_ns: u64,
    /// How long it may go on without having begun anything.
    patience: Patience,
    /// The task in front is to blame for the end of its worker, whatever the worker says of it, for as long as it is in the ring.
    pub(super) blamed: Option<u32>,
    /// A signal was sent that was meant for a task before the next one.
    pub(super) signalled: bool,
    /// The heap block of the last output that was drained: not to be freed as unfinished when the worker dies.
    last_output: usize,
}

/// What draining has brought.
#[derive(Debug)]
pub(super) struct Drained {
    pub(super) index: u32,
    /// Where it was in the ring.
    pub(super) position: u32,
    pub(super) outcome: Outcome,
}

/// A task that a dead worker had in its ring.
pub(super) struct LeftTask {
    pub(super) index: u32,
    pub(super) begun: bool,
    /// It was the next to begin, and has not, as the worker says.
    pub(super) is_next: bool,
    /// It is made answerable for its worker's end although the worker says that it has not begun.
    pub(super) to_blame: bool,
    /// Of a chunk: how long the messages of its finished items are.
    pub(super) messages_length: usize,
    /// When it began, as the worker says where there is a trace.
    pub(super) began_ns: u64,
}

impl RingAccount {
    pub(super) fn new() -> RingAccount {
        RingAccount {
            ready: false,
            distrusted: false,
            ending: None,
            beginning: None,
            split: None,
            timed: 0,
            handover: None,
            carries: None,
            ready_ns: 0,
            task_quota: u32::MAX,
            given: 0,
            retiring: false,
            leaving: false,
            next_memory_look_ns: 0,
            next_recycle_look_ns: 0,
            flights: VecDeque::with_capacity(SLOTS as usize),
            tasks: 0,
            tail: 0,
            done: 0,
            said: 0,
            depth: FIRST_DEPTH,
            task_ns: 0,
            last_look_ns: 0,
            patience: Patience::new(),
            blamed: None,
            signalled: false,
            last_output: 0,
        }
    }

    /// How far it has been drained.
    pub(super) fn position(&self) -> u32 {
        self.done
    }

    pub(super) fn in_ring(&self) -> usize {
        self.flights.len()
    }

    pub(super) fn has_room(&self) -> bool {
        self.is_taking() && self.flights.len() < self.depth
    }

    /// How many tasks more it is to have at the most: what its ring has room for, and no more than its worker may be given.
    pub(super) fn room(&self) -> usize {
        let left = self.task_quota.saturating_sub(self.given);
        self.depth.saturating_sub(self.flights.len()).min(left as usize)
    }

    fn is_taking(&self) -> bool {
        self.ready
            && !self.distrusted
            && !self.patience.is_given_up()
            && self.ending.is_none()
            && !self.retiring
            && !self.has_served_its_share()
    }

    /// Whether the worker has been given as many tasks as it may be.
    pub(super) fn has_served_its_share(&self) -> bool {
        self.given >= self.task_quota
    }

    /// Whether a task in the ring may have to be ended.
    pub(super) fn needs_watching(&self) -> bool {
        self.ending.is_some() || self.timed > 0
    }

    /// Whether so many tasks more, behind what is in the ring, are begun sooner than a worker that sleeps would begin them. Of a worker
    /// that has done none yet, its tasks are taken to be as long as usual.
    pub(super) fn is_sooner(&self, tasks: usize, usual_ns: u64) -> bool {
        let each = if self.task_ns == 0 { usual_ns } else { self.task_ns };
        each != 0 && each.saturating_mul((self.flights.len() + tasks) as u64) < WAKE_NS
    }

    /// Whether what waits in the ring is worth waking another worker for.
    pub(super) fn is_worth_sharing(&self, now_ns: u64, usual_ns: u64) -> bool {
        !self.is_sooner(0, usual_ns) || self.quiet_ns(now_ns) > BRISK_NS
    }

    /// Whether the ring could be given a task but for the tasks that wait in it. One that is full of what was taken back is not: the
    /// worker passes over that only when the task in front has ended, and who knows when that is.
    pub(super) fn is_full(&self) -> bool {
        self.is_taking() && self.flights.len() >= self.depth && self.waiting() > 0
    }

    /// Whether the worker has been on one task for so long that nothing should wait behind it.
    pub(super) fn is_stuck(&self, now_ns: u64) -> bool {
        !self.flights.is_empty() && self.quiet_ns(now_ns) > STUCK_NS
    }

    /// How long its tasks have lately taken; 0 where nothing is known of that.
    pub(super) fn task_ns(&self) -> u64 {
        self.task_ns
    }

    /// When something has come out of the ring last, or into the empty ring.
    pub(super) fn last_look_ns(&self) -> u64 {
        self.last_look_ns
    }

    /// For how long nothing has come out of the ring.
    pub(super) fn quiet_ns(&self, now_ns: u64) -> u64 {
        now_ns.saturating_sub(self.last_look_ns)
    }

    /// Whether the worker has had its time to pass over what was taken back from the front of its ring.
    pub(super) fn is_hung(&self, now_ns: u64) -> bool {
        self.patience.is_over(self.quiet_ns(now_ns))
    }

    /// Whether what the worker uses of the processors is to be looked at: when it is given up on, and when it is hung.
    pub(super) fn may_be_starved(&self, now_ns: u64) -> bool {
        self.patience.may_be_starved(self.quiet_ns(now_ns))
    }

    /// Whether the worker, which is hung for all that the ring says, only gets no processor: then it has a second more.
    pub(super) fn is_starved(&mut self, now_ns: u64, process: Option<ProcessorUse>) -> bool {
        let quiet_ns = self.quiet_ns(now_ns);
        process.is_some_and(|process| self.patience.is_starved(quiet_ns, now_ns, process))
    }

    /// What is about to be taken back from the front has to be passed over this long after it got there.
    pub(super) fn hurry(&mut self, within_ns: u64) {
        self.patience.hurry(within_ns);
    }

    /// The same from now on, if it is this task.
    pub(super) fn hurry_for(&mut self, index: u32, within_ns: u64, now_ns: u64) {
        if self.flights.front() == Some(&Flight::Task(index)) {
            self.patience.hurry_from(self.quiet_ns(now_ns), within_ns);
        }
    }

    /// By when the worker must have passed over what was taken back from the front; `u64::MAX` where nothing was.
    pub(super) fn hung_due_ns(&self) -> u64 {
        match self.flights.front() {
            Some(Flight::Recalled) if !self.distrusted && self.ending.is_none() => {
                self.last_look_ns.saturating_add(self.patience.length_ns())
            }
            _ => u64::MAX,
        }
    }

    /// The oldest task in the ring: the one that runs, or is the next to.
    pub(super) fn front(&self) -> Option<(u32, u32)> {
        self.flights.iter().enumerate().find_map(|(at, flight)| match flight {
            Flight::Task(index) => Some((self.done.wrapping_add(at as u32), *index)),
            Flight::Recalled => None,
        })
    }

    pub(super) fn is_in_front(&self, index: u32) -> bool {
        self.front().is_some_and(|(_, front)| front == index)
    }

    /// Puts a task into the ring; the worker sees it when it is published.
    pub(super) fn push(
        &mut self,
        segment: &Segment,
        ledger: &Ledger,
        index: u32,
        callee: Callee,
        now: &Moment,
    ) {
        let entry = ledger.get(index);
        let slot = segment.slot(self.tail);
        slot.module.store(callee.module, Ordering::Relaxed);
        slot.offset.store(callee.offset, Ordering::Relaxed);
        slot.id.store(entry.id_at(index).0, Ordering::Relaxed);
        slot.input_length.store(entry.input_length as u64, Ordering::Relaxed);
        match entry.input {
            InputPlace::Inline => {
                slot.input.store(0, Ordering::Relaxed);
                if entry.input_length > 0 {
                    slot.inline_input.write(ledger.inline_input(index));
                }
            }
            InputPlace::Heap { address, .. } => slot.input.store(address as u64, Ordering::Relaxed),
        }
        slot.message_length.store(0, Ordering::Relaxed);
        let timed = entry.deadline_ns != 0;
        self.timed += usize::from(timed);
        self.given += 1;
        let flags = if timed { flag::TIMED } else { 0 }
            | if entry.has_end() { flag::CHANNEL } else { 0 }
            | if std::mem::take(&mut self.signalled) { flag::SIGNALLED } else { 0 };
        slot.kind.store(entry.kind as u32 | flags, Ordering::Relaxed);
        // A worker that has written there what it likes fools itself only.
        slot.messages_needed.store(segment.messages_sent.load(Ordering::Relaxed), Ordering::Relaxed);
        slot.state.store(state::READY, Ordering::Relaxed);
        if self.flights.is_empty() {
            self.last_look_ns = now.ns();
        }
        self.flights.push_back(Flight::Task(index));
        self.tasks += 1;
        self.tail = self.tail.wrapping_add(1);
    }

    /// Shows the worker what has been put into the ring. Where somebody is `listening`, the worker tells of its next result.
    pub(super) fn publish(&self, segment: &Segment, listening: bool) {
        if listening {
            segment.ask_to_be_told(); // Before the publication, so that the result of this very task is told.
        }
        segment.low_at.store(self.tail.wrapping_sub((self.depth as u32 / 8).max(1)), Ordering::Relaxed);
        segment.publish(self.tail);
    }

    /// How many at the front have ended; `None` where the worker says what cannot be, or takes back what it has said.
    fn finished(&mut self, segment: &Segment) -> Option<u32> {
        let count = segment.finished(self.done, self.flights.len() as u32)?;
        if count < self.said.wrapping_sub(self.done) {
            return None;
        }
        self.said = self.done.wrapping_add(count);
        Some(count)
    }

    /// Whether the worker says that what is at this position has ended. What the worker has said before of what it is at is of
    /// this position only where it has not: see [`Segment`].
    pub(super) fn has_passed(&mut self, segment: &Segment, position: u32) -> bool {
        self.finished(segment).is_none_or(|count| count > position.wrapping_sub(self.done))
    }

    /// Whether there are results to drain.
    pub(super) fn has_results(&self, segment: &Segment) -> bool {
        let count = self.flights.len() as u32;
        let any = count > 0 && !self.distrusted;
        any && (self.said != self.done || segment.finished(self.done, count) != Some(0))
    }

    /// Takes the results that are there. A worker that has written what cannot be is distrusted from then on.
    pub(super) fn drain(
        &mut self,
        segment: &Segment,
        ledger: &mut Ledger,
        heap: &Heap,
        now_ns: u64,
        out: &mut Vec<Drained>,
    ) {
        if self.distrusted || self.flights.is_empty() {
            return;
        }
        let Some(count) = self.finished(segment) else {
            self.distrusted = true;
            return;
        };
        if count == 0 {
            return;
        }
        segment.fetch(self.done, count);
        for _ in 0..count {
            let slot = segment.slot(self.done);
            self.done = self.done.wrapping_add(1);
            let Some(Flight::Task(index)) = self.flights.pop_front() else { continue };
            // What was never begun cannot have come to its end.
            let result = if slot.has_begun() { self.read_result(slot, ledger, heap, index) } else { None };
            match result {
                Some(outcome) => {
                    self.forget(slot, index);
                    self.carries.take_if(|carries| *carries == index);
                    self.timed -= usize::from(ledger.get(index).deadline_ns != 0);
                    self.tasks -= 1;
                    out.push(Drained { index, position: self.done.wrapping_sub(1), outcome });
                }
                None => {
                    // It goes back to the front as what it is: begun, and its worker is about to be killed.
                    self.done = self.done.wrapping_sub(1);
                    self.flights.push_front(Flight::Task(index));
                    self.distrusted = true;
                    return;
                }
            }
        }
        self.measure(segment, u64::from(count), now_ns);
    }

    /// Learns how long tasks take and how deep the ring should be filled.
    fn measure(&mut self, segment: &Segment, count: u64, now_ns: u64) {
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

    /// A result as the worker has left it; `None` if it cannot be one.
    fn read_result(
        &mut self,
        slot: &TaskSlot,
        ledger: &mut Ledger,
        heap: &Heap,
        index: u32,
    ) -> Option<Outcome> {
        let mut outcome = Outcome::new(slot.status.load(Ordering::Relaxed), Delivery::Ran);
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
                self.last_output = address;
            }
        }
        Some(outcome)
    }

    /// Whether the worker has finished anything.
    pub(super) fn has_worked(&self) -> bool {
        self.done != 0
    }

    /// Takes back the youngest task that has not begun.
    pub(super) fn recall_youngest(&mut self, segment: &Segment, ledger: &mut Ledger) -> Option<u32> {
        for back in 0..self.flights.len() {
            let at = self.flights.len() - 1 - back;
            let Flight::Task(index) = self.flights[at] else { continue };
            // Older ones have begun earlier, or will.
            return self.recall_at(segment, ledger, at, index).then_some(index);
        }
        None
    }

    /// Takes back everything behind the task in front, the oldest first; and whether all of it had not begun.
    pub(super) fn recall_behind(&mut self, segment: &Segment, ledger: &mut Ledger) -> (Vec<u32>, bool) {
        let tasks: Vec<(usize, u32)> = (0..self.flights.len())
            .filter_map(|at| match self.flights[at] {
                Flight::Task(index) => Some((at, index)),
                Flight::Recalled => None,
            })
            .skip(1)
            .collect();
        let (mut recalled, mut all) = (Vec::new(), true);
        for (at, index) in tasks.into_iter().rev() {
            if self.recall_at(segment, ledger, at, index) {
                recalled.push(index);
            } else {
                all = false;
            }
        }
        recalled.reverse();
        (recalled, all)
    }

    /// Takes back this very task, if it has not begun.
    pub(super) fn recall(&mut self, segment: &Segment, ledger: &mut Ledger, index: u32) -> bool {
        let at = self.flights.iter().position(|flight| *flight == Flight::Task(index));
        at.is_some_and(|at| self.recall_at(segment, ledger, at, index))
    }

    fn recall_at(&mut self, segment: &Segment, ledger: &mut Ledger, at: usize, index: u32) -> bool {
        let slot = segment.slot(self.done.wrapping_add(at as u32));
        let recalled = !self.distrusted && slot.claim(state::RECALLED);
        if recalled {
            self.flights[at] = Flight::Recalled;
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
            && let Some(rare) = &mut ledger.get_mut(index).rare
            && let Some(handover) = self.handover.take()
        {
            self.handover = rare.end.take_back(handover);
        }
    }

    /// The task has left the ring. Its slot and its place in the ledger are for another one now, which is neither to blame nor to be
    /// split.
    fn forget(&mut self, slot: &TaskSlot, index: u32) {
        self.blamed.take_if(|blamed| *blamed == index);
        if self.split.take_if(|split| *split == index).is_some() {
            slot.split.store(0, Ordering::Relaxed);
        }
    }

    /// The worker is given up on: what is behind the task in front is taken back, and so is that, unless it is to blame. Then the
    /// worker has its time first, for one that is stopped, or that gets no processor, says as little. Whether the worker can be
    /// believed.
    pub(super) fn give_up(
        &mut self,
        segment: &Segment,
        ledger: &mut Ledger,
        blamed: bool,
        now_ns: u64,
    ) -> (Vec<u32>, bool) {
        self.patience.give_up();
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

    /// Tasks in the ring behind the one that is, or is next to be, under way.
    pub(super) fn waiting(&self) -> usize {
        self.tasks.saturating_sub(1)
    }

    /// Whether the worker says that it has begun with what is behind the task in front, which, as it also says, has not ended.
    /// No worker that keeps to the protocol does: it moves `done` before it claims the next slot.
    pub(super) fn contradicts_itself(&self, segment: &Segment) -> bool {
        let Some((front, _)) = self.front() else { return false };
        let tasks = self.flights.iter().enumerate().filter(|(_, flight)| **flight != Flight::Recalled);
        let positions = tasks.map(|(at, _)| self.done.wrapping_add(at as u32));
        let begun = positions.skip(1).any(|position| !segment.slot(position).is_ready());
        let passed = segment.finished(self.done, self.flights.len() as u32);
        begun && passed.is_none_or(|count| count <= front.wrapping_sub(self.done))
    }

    /// The worker has ended and its results are drained: what is left.
    ///
    /// Tasks are begun in their order, so only the first that has not ended can have begun, whatever the states say. Where the
    /// worker has written into `done` what cannot be, the states are all that there is.
    pub(super) fn clear(&mut self, segment: &Segment, ledger: &mut Ledger) -> Vec<LeftTask> {
        let mut left = Vec::new();
        let last = segment.finished(self.done, self.flights.len() as u32).unwrap_or(u32::MAX);
        self.tasks = 0;
        for (at, flight) in std::mem::take(&mut self.flights).into_iter().enumerate() {
            let Flight::Task(index) = flight else { continue };
            let slot = segment.slot(self.done.wrapping_add(at as u32));
            let to_blame = self.blamed == Some(index);
            let begun = to_blame || at as u32 <= last && !slot.is_ready();
            let is_next = !begun && !left.iter().any(|task: &LeftTask| task.is_next || task.begun);
            let messages_length = slot.message_length.load(Ordering::Relaxed) as usize;
            if !begun {
                self.take_end_back(ledger, index);
            }
            let began_ns = slot.times().0;
            left.push(LeftTask { index, begun, is_next, to_blame, messages_length, began_ns });
        }
        left
    }

    /// The address of an output that the worker had begun and that nobody has been given.
    pub(super) fn unfinished_output(&self, segment: &Segment) -> usize {
        let pending = segment.pending_output.load(Ordering::Acquire) as usize;
        if pending == self.last_output { 0 } else { pending }
    }
}

#[cfg(test)]
mod tests;
