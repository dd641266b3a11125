//! All of a pool that its lock protects, and the one function that moves it on: [`State::pump`].

use super::books::{Books, Delivery, Input, Outcome, Output, State as TaskState, TO_BLAME, suspicion_after};
use super::call::Kind;
use super::callbacks::News;
use super::dispatch::Queue;
use super::here::Here;
use super::lane::{Drained, Lane, LeftTask};
use super::outside::Outside;
use super::recycle::Recycle;
use super::stream::Line;
use super::wait::{Waiter, Want};
use crate::check;
use crate::engine::family::{Event, Family};
use crate::engine::member::{Death, Member};
use crate::error::{Code, Error};
use crate::heap::Heap;
use crate::process::setup;
use crate::queue::ring::Segment;
use crate::queue::spin::Spin;
use crate::sys::clock::{Deadline, now_ns};
use crate::sys::epoll::Epoll;
use crate::sys::fd::{self, Guarded};
use std::collections::{HashSet, VecDeque};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::thread::ThreadId;

/// How often the family is looked after while results keep coming and nobody sleeps.
const FAMILY_INTERVAL_NS: u64 = 200_000;

/// So many results are given out before the pool is moved on again.
const GIVEN_OUT: u32 = 16;

/// A worker that has lost its means to call is noticed within twice this time.
const LOOK_NS: u64 = 50_000_000;

/// The same for a task of which it is to be told that it has begun.
const BEGINS_NS: u64 = 5_000_000;

#[derive(Debug)]
pub(super) struct State {
    pub(super) heap: Arc<Heap>,
    pub(super) epoll: Arc<Epoll>,
    pub(super) family: Family,
    pub(super) books: Books,
    pub(super) lanes: Vec<Lane>,
    pub(super) queue: Queue,
    /// Settled tasks that nobody has taken or claimed, oldest first. May name ones that were taken by their id.
    pub(super) finished: VecDeque<u32>,
    pub(super) finished_count: usize,
    /// Tasks that a wait is on for.
    pub(super) claimed_count: usize,
    /// What callbacks are to be told.
    pub(super) news: News,
    /// The window's limits.
    pub(super) window: Window,
    /// The chunks of each map that have settled and wait for its caller.
    pub(super) jobs: Vec<Option<VecDeque<u32>>>,
    /// The accounts of streams; and whether there is one to stop.
    pub(super) lines: Vec<Option<Line>>,
    pub(super) lines_to_stop: bool,
    /// No more submits.
    pub(super) closed: bool,
    /// The family is being ended: nothing runs again.
    closing: bool,
    /// No worker can be started any more: why.
    pub(super) broken: Option<Error>,
    /// Threads that sleep until a leader, or whoever pumps, finds something for them.
    pub(super) waiters: Vec<Waiter>,
    /// How long whoever is to lead looks before it sleeps.
    pub(super) spin: Spin,
    /// A thread sleeps for all: it waits in epoll, everybody else for it.
    pub(super) led: bool,
    /// Until when the leader sleeps.
    pub(super) led_until: Deadline,
    /// Where the pool's descriptor has been asked for: every event must make it readable.
    pub(super) outside: Option<Outside>,
    /// Gets the leader out of epoll.
    pub(super) attention: Guarded,
    family_due_ns: u64,
    /// Results that have been given out since the pool was moved on.
    given_out: u32,
    /// When a task that runs has to be looked at.
    pub(super) running_due_ns: u64,
    /// How long a task that is to end may take, and the signal that tells it besides its flag; 0 for none.
    pub(super) grace_ns: u64,
    pub(super) cancel_signal: i32,
    /// Above so much private memory a task is ended; 0 for never.
    pub(super) max_worker_bytes: u64,
    pub(super) recycle: Recycle,
    drained: Vec<Drained>,
    /// Where tasks run in this process: which thread runs them.
    pub(super) here: Option<Arc<Here>>,
    pub(super) runner: Option<ThreadId>,
    /// When a worker may have been idle for too long.
    pub(super) idle_due_ns: u64,
    /// When a worker must have passed over what was taken back from it.
    pub(super) hung_due_ns: u64,
    /// When a chunk may have to be cut.
    pub(super) cut_due_ns: u64,
    /// Items that have been dealt with, and of these, those that failed.
    pub(super) items: (u64, u64),
    pub(super) submitted: u64,
    pub(super) settled: u64,
    /// As it was when waiters were last told.
    settled_when_told: u64,
}

/// The token of `State::attention`.
pub(super) const ATTENTION: u64 = 4 << 32;

/// What a pool's options say to its state.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    pub(super) window: Window,
    pub(super) grace_ns: u64,
    pub(super) cancel_signal: i32,
    pub(super) max_worker_bytes: u64,
    pub(super) recycle: Recycle,
    pub(super) here: Option<Arc<Here>>,
}

/// How much may be under way at a time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    pub(super) tasks: usize,
    pub(super) bytes: usize,
}

impl State {
    pub(super) fn new(
        heap: Arc<Heap>,
        epoll: Arc<Epoll>,
        family: Family,
        rules: Rules,
    ) -> crate::Result<State> {
        let attention = Guarded::new(fd::eventfd()?);
        epoll.add(attention.as_raw_fd(), ATTENTION)?;
        let lanes = family.members.iter().map(|_| Lane::new()).collect();
        Ok(State {
            heap,
            epoll,
            family,
            books: Books::default(),
            lanes,
            queue: Queue::default(),
            finished: VecDeque::new(),
            finished_count: 0,
            claimed_count: 0,
            news: News::default(),
            window: rules.window,
            jobs: Vec::new(),
            lines: Vec::new(),
            lines_to_stop: false,
            closed: false,
            closing: false,
            broken: None,
            waiters: Vec::new(),
            spin: Spin::new(),
            led: false,
            led_until: Deadline::NEVER,
            outside: None,
            attention,
            family_due_ns: 0,
            given_out: 0,
            running_due_ns: u64::MAX,
            grace_ns: rules.grace_ns,
            cancel_signal: rules.cancel_signal,
            max_worker_bytes: rules.max_worker_bytes,
            recycle: rules.recycle,
            drained: Vec::new(),
            here: rules.here,
            runner: None,
            idle_due_ns: u64::MAX,
            hung_due_ns: u64::MAX,
            cut_due_ns: u64::MAX,
            items: (0, 0),
            submitted: 0,
            settled: 0,
            settled_when_told: 0,
        })
    }

    /// Takes in what has happened, settles what has come to an end, and hands out what can be handed out.
    /// `something_happened` says that a descriptor was readable, so that the family has to be looked after now.
    pub(super) fn pump(&mut self, something_happened: bool) {
        let now = now_ns();
        self.given_out = 0;
        self.drain_rings(now);
        self.look_for_begins();
        if something_happened || now >= self.family_due_ns {
            self.family_due_ns = now + FAMILY_INTERVAL_NS;
            let (heap, epoll) = (Arc::clone(&self.heap), Arc::clone(&self.epoll));
            self.family.advance(&heap, &epoll);
            while let Some(event) = self.family.next_event() {
                self.deal_with(event, now);
                // A place that has become vacant is filled now: nothing else may happen that would wake anybody.
                if !self.family.has_event() {
                    self.family.advance(&heap, &epoll);
                }
            }
        }
        self.expire_queue(now);
        self.look_after_running(now);
        self.recycle(now);
        self.free_stuck(now);
        self.stop_lines();
        self.feed(now);
        self.rebalance(now);
        self.cut_long(now);
        self.grow();
        self.wake_waiters();
        self.update_outside();
        let due = self.next_look();
        self.call_outside_at(due);
        // The leader went to sleep before this was due; it has to look at the clock again.
        if self.led && due < self.led_until {
            self.led_until = due;
            fd::eventfd_signal(self.attention.as_raw_fd());
        }
    }

    /// Whether somebody who takes a result that is there need not move the pool on: it costs more than the result.
    pub(super) fn may_answer_at_once(&mut self) -> bool {
        self.given_out += 1;
        self.given_out < GIVEN_OUT && !self.has_news() && !self.awaits_begins()
    }

    fn drain_rings(&mut self, now: u64) {
        for slot in 0..self.lanes.len() {
            self.drain(slot, now);
        }
    }

    pub(super) fn drain(&mut self, slot: usize, now: u64) {
        let Some(segment) = &self.family.members[slot].segment else { return };
        let lane = &mut self.lanes[slot];
        if lane.in_ring() == 0 {
            return;
        }
        let trusted = !lane.distrusted;
        lane.drain(segment, &mut self.books, &self.heap, now, &mut self.drained);
        if trusted && lane.distrusted {
            self.family.kill(slot);
        }
        if self.outside.is_some() {
            // What the worker has finished before it was asked again it has told nobody of.
            segment.ask_to_be_told();
            crate::prim::fence(crate::prim::Ordering::SeqCst);
            lane.drain(segment, &mut self.books, &self.heap, now, &mut self.drained);
        }
        let mut drained = std::mem::take(&mut self.drained);
        if !drained.is_empty() {
            self.family.has_worked();
        }
        for Drained { index, mut outcome } in drained.drain(..) {
            if let Some(ending) = self.lanes[slot].ending.take_if(|ending| ending.index == index) {
                if let Some(segment) = &self.family.members[slot].segment {
                    ending.clear(segment);
                }
                if let Some(output) = ending.amend(&mut outcome, self.books.get(index).kind) {
                    let _ = self.heap.free_address(output);
                }
            }
            self.note_begin(index, self.family.members[slot].pid);
            self.settle(index, outcome);
        }
        self.drained = drained;
    }

    fn deal_with(&mut self, event: Event, now: u64) {
        match event {
            Event::Ready(slot) => {
                let share = self.recycle.share(slot, self.family.members[slot].generation);
                let lane = &mut self.lanes[slot];
                (lane.ready, lane.ready_ns, lane.share) = (true, now, share);
            }
            Event::Ended(slot, death) => self.deal_with_death(slot, death, now),
            Event::Starved(error) => self.settle_queue(&error),
            Event::Broken(error) => {
                self.broken.get_or_insert(error);
                self.abandon_queue();
            }
        }
    }

    /// A worker is dead for sure: what it finished counts, what it had begun may have run, the rest runs elsewhere.
    fn deal_with_death(&mut self, slot: usize, death: Death, now: u64) {
        self.drain(slot, now);
        let (mut lost, mut requeue, mut unfinished) = (Vec::new(), Vec::new(), 0);
        let mut idle = !self.lanes[slot].has_worked();
        if let Some(segment) = self.family.members[slot].segment.take() {
            unfinished = self.lanes[slot].unfinished_output(&segment);
            for left in self.lanes[slot].clear(&segment, &mut self.books) {
                let to_blame = left.is_next && self.suspect(left.index, suspicion_after(death.signal));
                let left = LeftTask { begun: left.begun || to_blame, to_blame, ..left };
                idle &= !left.begun;
                if left.begun {
                    self.note_begin(left.index, death.pid);
                }
                if left.begun && !self.may_run_again(slot, left.index) {
                    lost.push((left.index, self.lost_outcome(slot, &left, &segment, &death)));
                } else {
                    requeue.push(left.index);
                }
            }
        }
        self.lanes[slot] = Lane::new();
        // Oldest first, in front of what has not been handed out yet.
        self.requeue(requeue);
        for (index, outcome) in lost {
            self.settle(index, outcome);
        }
        self.heap.reclaim(setup::owner_of(slot as u32), death.pid, unfinished);
        self.family.bury(slot, &death, idle);
        if self.broken.is_some() {
            self.abandon_queue();
        }
        self.family_due_ns = 0;
    }

    /// Whether a task that has died with its process runs again: its submitter has said that it may, and how often.
    fn may_run_again(&mut self, slot: usize, index: u32) -> bool {
        let ended = self.lanes[slot].ending.as_ref().is_some_and(|ending| ending.index == index);
        let entry = self.books.get_mut(index);
        entry.deaths += 1;
        let again = !ended && !self.closing && entry.retries > 0;
        entry.retries -= u32::from(again);
        if again {
            self.begins_again(index);
        }
        again
    }

    /// Whether a task that its worker says not to have begun with is to blame for the worker's end all the same. Then the program's
    /// own fault it is not.
    fn suspect(&mut self, index: u32, more: u32) -> bool {
        let entry = self.books.get_mut(index);
        entry.suspicion += more;
        let to_blame = entry.suspicion >= TO_BLAME;
        if to_blame {
            self.family.has_worked();
        }
        to_blame
    }

    /// What is left of a task that its worker had begun.
    fn lost_outcome(&self, slot: usize, left: &LeftTask, segment: &Segment, death: &Death) -> Outcome {
        use crate::prim::Ordering;
        let entry = self.books.get(left.index);
        let mut outcome = Outcome::new(Code::DIED.0, Delivery::MaybeRan);
        outcome.message = super::books::to_c_string(death.describe().as_bytes());
        let mut death = Box::new(death.clone());
        let function =
            self.family.callees().map(|callees| callees.describe(entry.callee)).unwrap_or_default();
        let id = if entry.job.is_none() { self.books.id_of(left.index).0 } else { 0 };
        death.set_task(id, 0, function);
        outcome.death = Some(death);
        if entry.kind != Kind::Task {
            outcome.messages_length = left.messages_length;
            outcome.items = segment.items_done.load(Ordering::Acquire);
            outcome.culprit = segment.items_begun.load(Ordering::Acquire) > outcome.items;
            if left.to_blame {
                (outcome.items, outcome.culprit) = (0, true);
            }
        }
        if let Some(ending) = self.lanes[slot].ending.as_ref().filter(|ending| ending.index == left.index) {
            // The item that it was asked to end is the last that it can have been at, and it was at that.
            outcome.items = outcome.items.clamp(ending.item, ending.item.saturating_add(1));
            outcome.culprit = outcome.items == ending.item;
            ending.amend(&mut outcome, entry.kind); // What it had of an output is the heap's to reclaim.
        }
        outcome
    }

    pub(super) fn settle(&mut self, index: u32, outcome: Outcome) {
        let entry = self.books.get_mut(index);
        let input = std::mem::replace(&mut entry.input, Input::Inline);
        entry.outcome = Some(outcome);
        entry.end = None;
        entry.state = TaskState::Settled;
        let (job, line, claimed) = (entry.job, entry.line, entry.claimed);
        if let Input::Heap { address, owned: true } = input {
            let _ = self.heap.free_address(address);
        }
        self.books.outstanding -= 1;
        match (job, line) {
            (Some(job), _) => {
                if let Some(settled) = &mut self.jobs[job] {
                    settled.push_back(index);
                }
            }
            (None, Some(line)) => self.note_in_line(line, index),
            (None, None) => {
                self.settled += 1;
                if !self.note_settled(index) && !claimed {
                    self.finished.push_back(index);
                    self.finished_count += 1;
                }
            }
        }
    }

    /// Whether nothing is under way. A map is until its call returns: between two chunks nothing of it is outstanding.
    pub(super) fn is_idle(&self) -> bool {
        self.books.outstanding == 0 && self.jobs.iter().all(Option::is_none) && self.has_told_all()
    }

    /// Asks every worker to tell of results and of being ready; whether there is one that has had to tell already.
    pub(super) fn listen(&self) -> bool {
        let news = self.family.listen();
        news || self.has_results()
    }

    /// Whether the worker in this place takes tasks.
    pub(super) fn is_ready(&self, slot: usize) -> bool {
        self.lanes.get(slot).is_some_and(|lane| lane.ready)
    }

    /// What there is to say of the segment that is being shared.
    pub(super) fn sharing_answer(&mut self) -> Option<crate::Result<()>> {
        if let Some(error) = &self.broken {
            return Some(Err(error.clone()));
        }
        let lanes = &self.lanes;
        self.family.shared(|slot| lanes[slot].in_ring() > 0)
    }

    /// Workers that are in the middle of a task.
    pub(super) fn busy_count(&self) -> usize {
        let is_busy = |(lane, member): (&Lane, &Member)| {
            let segment = member.segment.as_ref();
            lane.front()
                .zip(segment)
                .is_some_and(|((position, _), segment)| segment.slot(position).has_begun())
        };
        self.lanes.iter().zip(&self.family.members).filter(|pair| is_busy(*pair)).count()
    }

    /// Whether there are results in a ring.
    pub(super) fn has_results(&self) -> bool {
        self.lanes
            .iter()
            .zip(&self.family.members)
            .any(|(lane, member)| member.segment.as_ref().is_some_and(|segment| lane.has_results(segment)))
    }

    pub(super) fn stop_listening(&self) {
        if self.is_looked_at() {
            return;
        }
        for (lane, member) in self.lanes.iter().zip(&self.family.members) {
            // One that is not ready yet has its readiness to tell, and nobody looks for that in passing.
            if let Some(segment) = member.segment.as_ref().filter(|_| lane.ready) {
                segment.need_not_be_told();
            }
        }
    }

    /// When whoever sleeps must look again even if nobody has called: something of the family's is due, or a worker
    /// may have lost the descriptor by which it calls. Only tasks that are under way make anybody look.
    pub(super) fn next_look(&self) -> Deadline {
        let family = self.family.next_deadline().min(Deadline(self.idle_due_ns.min(self.hung_due_ns)));
        if self.books.outstanding == 0 {
            return family;
        }
        // Rounded, so that a timer need not be set anew for every task.
        let interval_ns = if self.awaits_begins() { BEGINS_NS } else { LOOK_NS };
        let look = Deadline((now_ns() / interval_ns + 2) * interval_ns);
        family.min(look).min(Deadline(self.running_due_ns.min(self.queue_due_ns()).min(self.cut_due_ns)))
    }

    /// The family is to be looked after at the next occasion.
    pub(super) fn look_soon(&mut self) {
        self.family_due_ns = 0;
    }

    /// Whether the family is being ended.
    pub(super) fn closing(&self) -> bool {
        self.closing
    }

    /// Ends the family, and settles everything that has not settled.
    pub(super) fn stop(&mut self, deadline: Deadline) {
        let epoll = Arc::clone(&self.epoll);
        self.closed = true;
        self.closing = true;
        self.family.stop(&epoll, deadline);
        let now = now_ns();
        while let Some(event) = self.family.next_event() {
            self.deal_with(event, now);
        }
        self.cancel_queue();
        self.wake_waiters();
        self.update_outside();
    }

    /// For `TINE_CHECK`: who has left what in the heap, when everything else is over.
    #[cold]
    pub(super) fn list_leaks(&self, host: i32) {
        let (mut known, mut kept) = (HashSet::new(), 0);
        for entry in self.books.in_use() {
            if let Some(Outcome { output: Output::Heap(address), output_length: 1.., .. }) = entry.outcome {
                known.insert(address);
                kept += usize::from(entry.state == TaskState::Taken);
            }
        }
        if kept > 0 {
            check::say(&format!(
                "results that were taken and not released when the pool is destroyed: {kept}"
            ));
        }
        let of_host = self.heap.blocks_of(crate::heap::HOST);
        for (pid, _) in self.heap.dead() {
            let blocks: Vec<_> =
                self.heap.left_by(pid).into_iter().filter(|(address, _)| known.insert(*address)).collect();
            check::list_leaks("worker", pid, &blocks);
        }
        let of_host: Vec<_> = of_host.into_iter().filter(|(address, _)| !known.contains(address)).collect();
        check::list_leaks("the host", host, &of_host);
    }

    /// Wakes the threads whose wish has come true.
    pub(super) fn wake_waiters(&mut self) {
        let mut finished = self.finished_count;
        for at in 0..self.waiters.len() {
            let satisfied = match self.waiters[at].want {
                Want::Task(index) => self.books.get(index).state == TaskState::Settled,
                Want::Next if finished > 0 => {
                    finished -= 1;
                    true
                }
                Want::Next => !self.has_unclaimed(),
                Want::Job(job) => self.jobs[job].as_ref().is_some_and(|settled| !settled.is_empty()),
                Want::Room(length) => self.closed || self.broken.is_some() || self.has_room(length),
                Want::Stream(number) => self.line_has_news(number),
                Want::StreamRoom(number, length) => self.room_in_line(number, length).is_some(),
                Want::Idle => self.is_idle(),
                Want::Ready => self.broken.is_some() || self.family.all_ready(),
                // Whether it is the right one only its thread knows.
                Want::Change => self.settled != self.settled_when_told,
                // Whoever shares looks for itself: there is one of them at a time, and it happens seldom.
                Want::Shared => true,
                Want::Events => self.has_news(),
            };
            if satisfied {
                self.waiters[at].wake(&self.attention);
            }
        }
        // The thread that sleeps for all tells, unless there is one that does nothing else.
        let teller = self.waiters.iter().any(|waiter| waiter.want == Want::Events);
        if self.led && !teller && self.has_news() {
            fd::eventfd_signal(self.attention.as_raw_fd());
        }
        self.settled_when_told = self.settled;
    }

    /// The last callback has returned: who waits for that is to look again.
    pub(super) fn all_is_told(&mut self) {
        self.settled_when_told = u64::MAX;
        self.wake_waiters();
        self.update_outside();
    }

    /// Wakes every thread that sleeps in the pool: it is about to go.
    pub(super) fn wake_all(&self) {
        self.waiters.iter().for_each(|waiter| waiter.wake(&self.attention));
    }

    /// A thread is about to leave: where it was to lead and others wait, one of them is to lead.
    pub(super) fn pass_the_lead(&self) {
        if let Some(waiter) = self.waiters.first().filter(|_| !self.led) {
            waiter.wake(&self.attention);
        }
    }

    /// The leader was called out of epoll.
    pub(super) fn attention_seen(&self) {
        fd::eventfd_clear(self.attention.as_raw_fd());
    }
}
