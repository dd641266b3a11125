//! Tasks on their way to the workers: the queue, whose turn it is, and what is taken back.

use super::chain::Chain;
use super::channel_handoff::Shortage;
use super::ledger::{DID_NOTHING, Outcome, TaskState};
use super::patience::WEDGED_NS;
use super::remote::node_of;
use super::state::PoolState;
use crate::error::{Code, Error};
use crate::sys::clock::{Moment, now_ns};
use crate::sys::limits;
use crate::task::function::Callee;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Where tasks wait behind others and a worker has nothing to do, somebody looks after this time.
const UNEVEN_NS: u64 = 100_000;

/// So many tasks whose ends cannot be passed, for want of a descriptor, are tried each time that tasks are handed out.
const MOST_TRIES: usize = 8;

/// A task that has to begin by some time. One that was settled meanwhile stays in the heap of those and is passed over: its state or
/// its generation says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Ticket {
    index: u32,
    generation: u32,
}

#[derive(Debug)]
pub(super) struct Queue {
    pub(super) chain: Chain,
    /// Until when tasks with a queue deadline must have begun, the earliest first.
    due: BinaryHeap<Reverse<(u64, Ticket)>>,
    /// When tasks were last taken from one worker for another.
    shared_ns: u64,
    /// Of descriptors to pass ends of channels with.
    pub(super) shortage: Shortage,
    /// A worker that has been shown a task, and is to be woken if it sleeps, before the lock is free.
    shown: Option<usize>,
}

impl Queue {
    pub(super) fn new() -> Queue {
        Queue {
            chain: Chain::EMPTY,
            due: BinaryHeap::new(),
            shared_ns: 0,
            shortage: Shortage::default(),
            shown: None,
        }
    }
}

impl PoolState {
    /// Whether there is room in the window for an input of this length.
    pub(super) fn has_room(&self, length: usize) -> bool {
        self.submissions.window().has_room(length)
    }

    /// How long an input there is room for; `None` where there is none for any.
    pub(super) fn room_left(&self) -> Option<usize> {
        self.submissions.window().room_left()
    }

    /// What [`PoolState::enqueue`] will need; -ENOMEM where it is not to be had.
    pub(super) fn make_room_to_enqueue(&mut self, is_due: bool) -> crate::Result<()> {
        if !is_due {
            return Ok(());
        }
        self.tidy_due();
        self.queue.due.try_reserve(1).map_err(|_| Code::errno(libc::ENOMEM).into())
    }

    /// Enters a task whose entry has been filled.
    pub(super) fn enqueue(&mut self, index: u32) {
        self.ledger.set_queued(index);
        let entry = self.ledger.get(index);
        let due_ns = entry.queue_due_ns();
        if due_ns != 0 {
            let ticket = Ticket { index, generation: entry.generation };
            self.queue.due.push(Reverse((due_ns, ticket)));
        }
        self.ledger.outstanding += 1;
        self.queue.chain.push_back(&mut self.ledger, index);
        if self.life.broken().is_some() {
            self.abandon_queue();
        }
    }

    /// The same, and hands it out: at once, where nothing waits before it. Whether it has joined others that wait in a worker's ring
    /// already: see [`PoolState::leave_quietly`].
    #[inline(always)]
    pub(super) fn enqueue_and_feed(&mut self, index: u32, is_plain: bool) -> bool {
        let now = Moment::default();
        if !is_plain || self.remote.is_some() || self.queued() > 0 || self.life.broken().is_some() {
            self.enqueue_behind(index);
            return false;
        }
        self.ledger.outstanding += 1;
        let Some(slot) = self.worker_for_plain() else {
            self.queue.chain.push_back(&mut self.ledger, index);
            return false;
        };
        self.push(slot, index, &now);
        self.show(slot);
        if self.queued() > 0 {
            self.feed(&now); // It came back.
            return false;
        }
        self.rings[slot].waiting() > 1
    }

    #[inline(never)]
    fn enqueue_behind(&mut self, index: u32) {
        self.enqueue(index);
        self.feed(&Moment::default());
    }

    /// Puts tasks that had been handed out and have not begun in front of the queue, in their order.
    pub(super) fn requeue(&mut self, indices: Vec<u32>) {
        for index in indices.into_iter().rev() {
            if self.ledger.get(index).unwanted {
                let error = Error::errno(libc::ECANCELED, "cancelled before it began");
                self.settle(index, Outcome::not_started(&error));
                continue;
            }
            let entry = self.ledger.get(index);
            // While a worker that is distrusted has it, it is not taken back when its time is over.
            if entry.deaths == 0 && entry.queue_due_ns() != 0 && entry.queue_due_ns() <= now_ns() {
                self.expire(index);
                continue;
            }
            self.ledger.set_queued(index);
            self.queue.chain.push_front(&mut self.ledger, index);
        }
    }

    /// How many tasks are queued.
    pub(super) fn queued(&self) -> usize {
        self.queue.chain.len()
    }

    /// Whether a task waits for a worker, in the queue or in a ring.
    pub(super) fn has_waiting(&mut self) -> bool {
        self.queued() > 0 || self.rings.waiting() > 0
    }

    /// The task whose turn it is leaves the queue.
    pub(super) fn take_front(&mut self) -> Option<u32> {
        self.queue.chain.pop_front(&mut self.ledger)
    }

    /// The worker that is to have the first task of the queue: one that is awake, while what is before it takes less time than
    /// another would need to wake up; else the one with the least before it.
    fn worker_for(&mut self, index: u32) -> Option<usize> {
        match self.ledger.get(index).has_end() {
            true => self.rings.emptiest_without_end(),
            false => self.worker_for_plain(),
        }
    }

    /// The same for a task without the end of a channel.
    #[inline(always)]
    fn worker_for_plain(&mut self) -> Option<usize> {
        match self.rings.hot() {
            Some(slot)
                if self.waiters.may_gather() && self.rings[slot].is_next(self.rings[slot].task_ns()) =>
            {
                Some(slot)
            }
            _ => self.worker_for_next(),
        }
    }

    /// The same where it is not at once the one that tasks are gathered in.
    #[inline(never)]
    fn worker_for_next(&mut self) -> Option<usize> {
        if !self.waiters.may_gather() {
            return self.rings.emptiest();
        }
        let usual_ns = self.rings.usual_ns();
        for slot in self.rings.gathering().into_iter().flatten() {
            let ring = &self.rings[slot];
            if ring.is_next(usual_ns) {
                return Some(slot);
            }
            // It has as much as its ring holds, and soon has room for the few that wait here.
            if ring.is_full() && ring.is_sooner(self.queue.chain.len(), usual_ns) {
                return None;
            }
        }
        self.rings.emptiest().inspect(|slot| self.rings.begin_to_fill(*slot))
    }

    /// Hands tasks out.
    pub(super) fn feed(&mut self, now: &Moment) {
        if self.remote.is_some() {
            return self.feed_nodes();
        }
        // Who gets several in a row is shown them at once: each time costs a wait for lines of memory that the worker has.
        let mut filled = None;
        // What waits for a descriptor waits alone, and is first again when the next look at the pool tries again.
        let mut aside = Chain::EMPTY;
        while let Some(index) = self.queue.chain.first() {
            if aside.len() >= MOST_TRIES && self.ledger.get(index).has_end() {
                self.set_front_aside(&mut aside);
                continue;
            }
            let Some(slot) = self.worker_for(index) else { break };
            self.take_front();
            if filled != Some(slot) {
                filled.replace(slot).into_iter().for_each(|before| self.show(before));
            }
            if !self.push(slot, index, now) && self.queue.chain.first() == Some(index) {
                self.set_front_aside(&mut aside);
            }
        }
        filled.into_iter().for_each(|slot| self.show(slot));
        self.wake_shown();
        while let Some(index) = aside.pop_back(&mut self.ledger) {
            self.queue.chain.push_front(&mut self.ledger, index);
        }
    }

    fn set_front_aside(&mut self, aside: &mut Chain) {
        if let Some(index) = self.take_front() {
            aside.push_back(&mut self.ledger, index);
        }
    }

    /// Shows a worker the tasks that it has been given. Whoever has given it one calls this before the lock is free. The worker is woken
    /// when the lock is given back, or by an earlier [`PoolState::wake_shown`].
    #[inline(always)]
    fn show(&mut self, slot: usize) {
        if let Some(segment) = &self.family.members[slot].segment {
            self.rings[slot].publish(segment, self.waiters.is_looked_at());
        }
        if self.queue.shown != Some(slot) {
            self.wake_shown();
            self.queue.shown = Some(slot);
        }
    }

    /// Wakes the worker that has been shown a task, if it sleeps.
    #[inline]
    pub(super) fn wake_shown(&mut self) {
        if let Some(slot) = self.queue.shown.take()
            && let Some(segment) = &self.family.members[slot].segment
        {
            segment.wake_worker();
        }
    }

    /// Takes what waits behind a long task back to the queue's front, where another worker gets on and could have it.
    pub(super) fn free_stuck(&mut self, now: u64) {
        let mut next = self.rings.first_behind();
        if next.is_none_or(|slot| !self.rings[slot].is_stuck(now)) || !self.rings.any_moving(now) {
            return;
        }
        while let Some(slot) = next.filter(|slot| self.rings[*slot].is_stuck(now)) {
            next = self.rings.next_behind(slot);
            let Some(segment) = &self.family.members[slot].segment else { continue };
            let (recalled, _) = self.rings[slot].recall_behind(segment, &mut self.ledger);
            self.requeue(recalled);
        }
    }

    /// A worker that does not even begin with what it has been given, because it is stopped, or has damaged its ring, must
    /// not keep it. One that goes on like that is ended; nothing runs in it, or nothing that it has said.
    pub(super) fn give_up_on(&mut self, slot: usize, now: u64) {
        let Some(segment) = &self.family.members[slot].segment else { return };
        let ring = &self.rings[slot];
        if ring.in_ring() == 0 || ring.quiet_ns(now) <= WEDGED_NS {
            return;
        }
        if ring.ending.is_some() || ring.distrusted {
            return; // Its end is on its way.
        }
        // It has passed something since that was looked at last.
        if ring.has_results(segment) {
            return self.drain(slot, now);
        }
        let front = ring.front();
        if front.is_some_and(|(position, _)| segment.slot(position).has_begun()) {
            return;
        }
        if ring.may_be_starved(now) {
            let process = self.family.members[slot].number_here().and_then(limits::processor_use);
            if self.rings[slot].is_starved(now, process) {
                return;
            }
        }
        self.rings[slot].lose_patience(now);
        let Some((_, index)) = front else {
            if self.rings[slot].is_hung(now) {
                self.distrust(slot);
            }
            return;
        };
        let entry = self.ledger.get_mut(index);
        let (blamed, deadline_ns) = (entry.suspect(DID_NOTHING), entry.deadline_ns);
        let ring = &mut self.rings[slot];
        if deadline_ns != 0 {
            ring.hurry(deadline_ns.saturating_add(self.limits.grace_ns), now);
        }
        let (recalled, believed) = ring.give_up(segment, &mut self.ledger, blamed, now);
        if !believed {
            self.distrust(slot);
        }
        self.requeue(recalled);
    }

    /// A worker has written what cannot be: it is ended, and what it had is dealt with when it is dead.
    pub(super) fn distrust(&mut self, slot: usize) {
        self.rings[slot].distrusted = true;
        self.family.kill(slot);
    }

    /// Gives a task to a worker, which is still to be shown it. Returns `false` if it waits for something that the machine is short of,
    /// in front of the queue.
    #[inline(always)]
    fn push(&mut self, slot: usize, index: u32, now: &Moment) -> bool {
        let member = &self.family.members[slot];
        let (Some(segment), messages_needed) = (&member.segment, member.messages_needed()) else {
            return self.push_back(index);
        };
        let entry = self.ledger.get_mut(index);
        let callee = self.family.callees().and_then(|callees| callees.current(entry.callee()));
        let Some(callee) = callee else { return self.settle_without_module(index) };
        if entry.has_end() {
            return self.push_with_end(slot, index, callee, now);
        }
        entry.state = TaskState::Sent(slot as u32);
        self.rings[slot].push(segment, &self.ledger, index, callee, messages_needed, now);
        true
    }

    /// The same where there is no such worker any more.
    #[cold]
    fn push_back(&mut self, index: u32) -> bool {
        self.requeue(vec![index]);
        true
    }

    /// The same where no worker can have its function.
    #[cold]
    fn settle_without_module(&mut self, index: u32) -> bool {
        let error =
            Error::new(Code::MODULE, "the supervisor that took over has not loaded the function's module");
        self.settle(index, Outcome::not_started(&error));
        true
    }

    /// The same for a task that an end of a channel goes with.
    #[cold]
    fn push_with_end(&mut self, slot: usize, index: u32, callee: Callee, now: &Moment) -> bool {
        match self.pass_end(slot, index) {
            Ok(true) => (),
            Ok(false) => {
                self.requeue(vec![index]);
                return true;
            }
            Err(error) if self.may_wait_for_end(index, &error, now.ns()) => {
                self.requeue(vec![index]);
                return false;
            }
            Err(error) => {
                self.settle(index, Outcome::not_started(&error));
                return true;
            }
        }
        let member = &self.family.members[slot];
        if let Some(segment) = &member.segment {
            self.ledger.get_mut(index).state = TaskState::Sent(slot as u32);
            self.rings[slot].push(segment, &self.ledger, index, callee, member.messages_needed(), now);
        }
        true
    }

    /// Takes tasks that have not begun from full rings to workers that have nothing to do.
    pub(super) fn rebalance(&mut self, now: u64) {
        // What could not be given to the idle one goes to the queue, and by that to another.
        while self.queued() == 0
            && let Some(from) = self.worth_sharing(now)
        {
            let Some(slot) = self.rings.idle() else { return };
            self.queue.shared_ns = now;
            // Half of them at once: to wake one worker for each would take longer than they do.
            let half = self.rings[from].waiting().div_ceil(2).min(self.rings[slot].room());
            let count = if self.waiters.may_gather() { half } else { 1 };
            let all = (0..count).all(|_| self.pass_youngest(from, slot, now));
            self.show(slot);
            self.wake_shown();
            if !all {
                return;
            }
        }
    }

    /// Takes the youngest task from one worker for another, which is still to be shown it; whether there was one that has not begun.
    fn pass_youngest(&mut self, from: usize, slot: usize, now: u64) -> bool {
        let Some(segment) = &self.family.members[from].segment else { return false };
        let Some(index) = self.rings[from].recall_youngest(segment, &mut self.ledger) else { return false };
        self.push(slot, index, &Moment::at(now));
        true
    }

    /// The worker some of whose waiting tasks another one should have.
    fn worth_sharing(&mut self, now: u64) -> Option<usize> {
        let fullest = self.rings.fullest()?;
        let usual_ns = self.rings.usual_ns();
        if !self.waiters.may_gather() || self.rings[fullest].is_worth_sharing(now, usual_ns) {
            return Some(fullest);
        }
        self.rings.first_behind().filter(|slot| self.rings[*slot].is_worth_sharing(now, usual_ns))
    }

    /// When tasks that wait behind others are to be looked at, since a worker has nothing to do.
    pub(super) fn uneven_due_ns(&mut self) -> u64 {
        if !self.waiters.may_gather() {
            return u64::MAX;
        }
        let since_ns = self.rings.uneven_since_ns();
        since_ns.map_or(u64::MAX, |since_ns| since_ns.max(self.queue.shared_ns) + UNEVEN_NS)
    }

    /// Settles what has not begun by its queue deadline.
    pub(super) fn expire_queue(&mut self, now: u64) {
        while let Some(Reverse((due_ns, ticket))) = self.queue.due.peek().copied() {
            let entry = self.ledger.get(ticket.index);
            // One that a process has died with has begun in time.
            let pending = matches!(entry.state, TaskState::Queued | TaskState::Sent(_)) && entry.deaths == 0;
            if entry.generation != ticket.generation || !pending {
                self.queue.due.pop();
                continue;
            }
            if due_ns > now {
                return;
            }
            self.queue.due.pop();
            // On a node, the node's own pool knows until when it must have begun.
            let is_here = !matches!(entry.state, TaskState::Sent(place) if node_of(place).is_some());
            if is_here && self.take_back(ticket.index) {
                self.expire(ticket.index);
            }
        }
    }

    fn expire(&mut self, index: u32) {
        let error = Error::errno(libc::ETIMEDOUT, "the task had not begun by its queue deadline");
        self.settle(index, Outcome::not_started(&error));
    }

    /// When the next queue deadline is.
    pub(super) fn queue_due_ns(&self) -> u64 {
        self.queue.due.peek().map_or(u64::MAX, |Reverse((due_ns, _))| *due_ns)
    }

    /// Tasks that settle long before their queue deadlines must not pile up here.
    fn tidy_due(&mut self) {
        if self.queue.due.len() < 64 + 2 * self.ledger.outstanding {
            return;
        }
        let ledger = &self.ledger;
        self.queue.due.retain(|Reverse((_, ticket))| {
            let entry = ledger.get(ticket.index);
            entry.generation == ticket.generation
                && matches!(entry.state, TaskState::Queued | TaskState::Sent(_))
        });
    }

    /// Nobody will run what is queued.
    pub(super) fn abandon_queue(&mut self) {
        let error = self.life.broken().cloned().unwrap_or_else(|| Code::SHUTDOWN.into());
        self.settle_queue(&error);
    }

    /// Everything that is still queued is settled as cancelled.
    pub(super) fn cancel_queue(&mut self) {
        self.settle_queue(&Error::errno(libc::ECANCELED, "the pool was destroyed before the task began"));
    }

    /// Everything that is queued is settled with this error, as not begun.
    pub(super) fn settle_queue(&mut self, error: &Error) {
        while let Some(index) = self.queue.chain.first() {
            self.settle(index, Outcome::not_started(error));
        }
    }
}
