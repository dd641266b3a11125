//! The host's private account of one worker's ring: what is in it, and what it may still be given. What comes out of it is in
//! `results`, what is taken back in `recall`.

mod recall;
mod results;

use super::ending::{Beginning, Ending};
use super::ledger::{InputPlace, Ledger};
use super::patience::Patience;
use crate::sys::clock::Moment;
use crate::sys::limits::ProcessorUse;
use crate::sys::prim::Ordering;
use crate::task::function::Callee;
use crate::task::handover::Handover;
use crate::task::ring::{SLOTS, Segment, flag, state};

pub(super) use recall::LeftTask;
pub(super) use results::Taken;

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

/// What is at a position of the ring.
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
    /// When tasks with a deadline were last looked at, or came to be in the ring: what has begun since began after that.
    pub(super) looked_ns: u64,
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
    /// What the worker had of its host's memory by fork when it became ready; `None` where that was not found out.
    pub(super) inherited_bytes: Option<u64>,
    /// What the worker had done when it was looked at for being too large: one that has done no more has not grown.
    pub(super) looked_at: u32,
    /// By position, modulo their number; those from `done` to `tail` are in the ring.
    flights: [Flight; SLOTS as usize],
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
    /// Where that next one is, until it has been passed: by then the signal has arrived.
    signalled_at: Option<u32>,
}

impl RingAccount {
    pub(super) fn new() -> RingAccount {
        RingAccount {
            ready: false,
            distrusted: false,
            ending: None,
            beginning: None,
            looked_ns: 0,
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
            inherited_bytes: None,
            looked_at: 0,
            flights: [Flight::Recalled; SLOTS as usize],
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
            signalled_at: None,
        }
    }

    /// How far it has been drained.
    pub(super) fn position(&self) -> u32 {
        self.done
    }

    pub(super) fn in_ring(&self) -> usize {
        self.tail.wrapping_sub(self.done) as usize
    }

    fn flight(&self, position: u32) -> Flight {
        self.flights[(position % SLOTS) as usize]
    }

    /// What is in the ring, from the oldest on, and at which positions.
    fn flights(&self) -> impl DoubleEndedIterator<Item = (u32, Flight)> + '_ {
        (0..self.in_ring() as u32)
            .map(|at| self.done.wrapping_add(at))
            .map(|position| (position, self.flight(position)))
    }

    /// The tasks among that.
    fn tasks(&self) -> impl DoubleEndedIterator<Item = (u32, u32)> + '_ {
        self.flights().filter_map(|(position, flight)| match flight {
            Flight::Task(index) => Some((position, index)),
            Flight::Recalled => None,
        })
    }

    /// What is in front, if anything is.
    fn first(&self) -> Option<Flight> {
        (self.done != self.tail).then(|| self.flight(self.done))
    }

    #[inline(always)]
    pub(super) fn has_room(&self) -> bool {
        self.is_taking() && self.in_ring() < self.depth
    }

    /// How many tasks more it is to have at the most: what its ring has room for, and no more than its worker may be given.
    pub(super) fn room(&self) -> usize {
        let left = self.task_quota.saturating_sub(self.given);
        self.depth.saturating_sub(self.in_ring()).min(left as usize)
    }

    /// Whether a task that joins what is in the ring is begun sooner than a worker that sleeps would begin it.
    #[inline(always)]
    pub(super) fn is_next(&self, usual_ns: u64) -> bool {
        self.has_room() && self.is_sooner(0, usual_ns)
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
        each != 0 && each.saturating_mul((self.in_ring() + tasks) as u64) < WAKE_NS
    }

    /// Whether what waits in the ring is worth waking another worker for.
    pub(super) fn is_worth_sharing(&self, now_ns: u64, usual_ns: u64) -> bool {
        !self.is_sooner(0, usual_ns) || self.quiet_ns(now_ns) > BRISK_NS
    }

    /// Whether the ring could be given a task but for the tasks that wait in it. One that is full of what was taken back is not: the
    /// worker passes over that only when the task in front has ended, and who knows when that is.
    pub(super) fn is_full(&self) -> bool {
        self.is_taking() && self.in_ring() >= self.depth && self.waiting() > 0
    }

    /// Whether the worker has been on one task for so long that nothing should wait behind it.
    pub(super) fn is_stuck(&self, now_ns: u64) -> bool {
        self.in_ring() > 0 && self.quiet_ns(now_ns) > STUCK_NS
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

    /// The worker gets nothing until it has passed over what was taken back from the front, for which it has its time.
    pub(super) fn lose_patience(&mut self, now_ns: u64) {
        self.patience.give_up(self.quiet_ns(now_ns));
    }

    /// What is about to be taken back from the front has to be passed over within this time from now on.
    pub(super) fn hurry(&mut self, within_ns: u64, now_ns: u64) {
        self.patience.hurry_from(self.quiet_ns(now_ns), within_ns);
    }

    /// The same, if it is this task.
    pub(super) fn hurry_for(&mut self, index: u32, within_ns: u64, now_ns: u64) {
        if self.first() == Some(Flight::Task(index)) {
            self.hurry(within_ns, now_ns);
        }
    }

    /// By when the worker must have passed over what was taken back from the front; `u64::MAX` where nothing was.
    pub(super) fn hung_due_ns(&self) -> u64 {
        match self.first() {
            Some(Flight::Recalled) if !self.distrusted && self.ending.is_none() => {
                self.last_look_ns.saturating_add(self.patience.length_ns())
            }
            _ => u64::MAX,
        }
    }

    /// The oldest task in the ring: the one that runs, or is the next to.
    pub(super) fn front(&self) -> Option<(u32, u32)> {
        self.tasks().next()
    }

    pub(super) fn is_in_front(&self, index: u32) -> bool {
        self.front().is_some_and(|(_, front)| front == index)
    }

    /// Puts a task into the ring; the worker sees it when it is published.
    #[inline(always)]
    pub(super) fn push(
        &mut self,
        segment: &Segment,
        ledger: &Ledger,
        index: u32,
        callee: Callee,
        messages_needed: u32,
        now: &Moment,
    ) {
        let entry = ledger.get(index);
        let slot = segment.slot(self.tail);
        slot.module.store(callee.module, Ordering::Relaxed);
        slot.offset.store(callee.offset, Ordering::Relaxed);
        slot.id.store(entry.id_at(index).0, Ordering::Relaxed);
        slot.input_length.store(entry.input_length as u64, Ordering::Relaxed);
        match entry.input() {
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
        if timed && self.timed == 0 {
            self.looked_ns = now.ns();
        }
        self.timed += usize::from(timed);
        let signalled = std::mem::take(&mut self.signalled);
        if signalled {
            self.signalled_at = Some(self.tail);
        }
        self.given += 1;
        let flags = if timed { flag::TIMED } else { 0 }
            | if entry.has_end() { flag::CHANNEL } else { 0 }
            | if signalled { flag::SIGNALLED } else { 0 };
        slot.kind.store(entry.kind as u32 | flags, Ordering::Relaxed);
        slot.messages_needed.store(messages_needed, Ordering::Relaxed);
        slot.state.store(state::READY, Ordering::Relaxed);
        if self.in_ring() == 0 {
            self.last_look_ns = now.ns();
        }
        self.flights[(self.tail % SLOTS) as usize] = Flight::Task(index);
        self.tasks += 1;
        self.tail = self.tail.wrapping_add(1);
    }

    /// Shows the worker what has been put into the ring; it is still to be woken where it sleeps. Where somebody is `listening`, the worker
    /// tells of its next result.
    pub(super) fn publish(&self, segment: &Segment, listening: bool) {
        if listening {
            segment.ask_to_be_told(); // Before the publication, so that the result of this very task is told.
        }
        segment.low_at.store(self.tail.wrapping_sub((self.depth as u32 / 8).max(1)), Ordering::Relaxed);
        segment.show(self.tail);
    }

    /// Whether a signal that was meant for a task before may be what ends the worker.
    pub(super) fn may_meet_a_signal(&self) -> bool {
        self.signalled || self.signalled_at.is_some()
    }

    /// Whether the worker has finished anything.
    pub(super) fn has_worked(&self) -> bool {
        self.done != 0
    }

    /// Tasks in the ring behind the one that is, or is next to be, under way.
    pub(super) fn waiting(&self) -> usize {
        self.tasks.saturating_sub(1)
    }
}

#[cfg(test)]
mod tests;
