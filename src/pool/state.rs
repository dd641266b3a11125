//! All of a pool that its lock protects, and the one function that moves it on: [`PoolState::pump`].

use super::callbacks::News;
use super::desk::Key;
use super::dispatch::Queue;
use super::ending::{Ending, Limits};
use super::inline::{Inline, InlinePlace};
use super::ledger::{Delivery, InputPlace, Ledger, Outcome, Settled, TaskState};
use super::life::Life;
use super::looks::{Call, FULL_LOOK_NS, Looks};
use super::map::Maps;
use super::recycle::{Recycle, RecycleRules};
use super::remote::Remote;
use super::ring_account::{RingAccount, Taken};
use super::ring_accounts::RingAccounts;
use super::stream::Streams;
use super::submissions::Submissions;
use super::trace::Trace;
use super::waiters::Waiters;
use super::window::Window;
use crate::family::member::Member;
use crate::family::{Event, Family};
use crate::heap::Heap;
use crate::sys::clock::{Moment, now_ns};
use crate::sys::thread;
use crate::task::ring::Segment;
use std::sync::Arc;

#[derive(Debug)]
pub(super) struct PoolState {
    pub(super) heap: Arc<Heap>,
    pub(super) family: Family,
    pub(super) ledger: Ledger,
    pub(super) rings: RingAccounts,
    pub(super) queue: Queue,
    pub(super) submissions: Submissions,
    /// What callbacks are to be told.
    pub(super) news: News,
    pub(super) maps: Maps,
    pub(super) streams: Streams,
    pub(super) life: Life,
    pub(super) waiters: Waiters,
    pub(super) looks: Looks,
    pub(super) limits: Limits,
    pub(super) recycle: Recycle,
    pub(super) inline: Inline,
    /// Where tasks run on other machines.
    pub(super) remote: Option<Box<Remote>>,
    /// Where all of it is written down, if it is.
    pub(super) trace: Option<Box<Trace>>,
}

/// What a pool's options say to its state.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    pub(super) window: Window,
    pub(super) limits: Limits,
    pub(super) recycle: RecycleRules,
    pub(super) inline_place: Option<Arc<InlinePlace>>,
}

/// The slots whose bits are set in a word of the marks.
fn marked(word: usize, mut bits: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let bit = bits.trailing_zeros() as usize;
        bits &= bits.wrapping_sub(1);
        (bit < 64).then_some(word * 64 + bit)
    })
}

impl PoolState {
    pub(super) fn new(heap: Arc<Heap>, family: Family, rules: Rules) -> crate::Result<PoolState> {
        let rings = RingAccounts::new(family.members.len())?;
        let submissions = Submissions::new(rules.window, family.page.clone());
        Ok(PoolState {
            heap,
            family,
            ledger: Ledger::default(),
            rings,
            queue: Queue::new(),
            submissions,
            news: News::default(),
            maps: Maps::default(),
            streams: Streams::default(),
            life: Life::default(),
            waiters: Waiters::new(),
            looks: Looks::default(),
            limits: rules.limits,
            recycle: Recycle::new(rules.recycle),
            inline: Inline::new(rules.inline_place),
            remote: None,
            trace: None,
        })
    }

    /// Takes in what has happened, settles what has come to an end, and hands out what can be handed out.
    /// `something_happened` says that a descriptor was readable, so that the family has to be looked after now.
    pub(super) fn pump(&mut self, something_happened: bool) {
        let _uncancelled = thread::Uncancelled::new();
        let now = now_ns();
        (self.looks.pumped_ns, self.looks.calls) = (now, [0; 2]);
        self.waiters.standby.pumped(self.family.host_calls);
        self.drain_rings(now);
        self.look_for_begins(now);
        let news = self.heap.bell().take_news();
        if something_happened || news || now >= self.looks.family_due_ns {
            self.family.advance(&self.heap);
            self.looks.family_due_ns = self.next_family_look(now);
            while let Some(event) = self.family.next_event() {
                self.deal_with(event, now);
                // A place that has become vacant is filled now: nothing else may happen that would wake anybody.
                if !self.family.has_event() {
                    self.family.advance(&self.heap);
                }
            }
        }
        self.expire_queue(now);
        self.look_at_rings(now);
        self.recycle(now);
        self.free_stuck(now);
        self.stop_streams();
        self.feed(&Moment::at(now));
        self.rebalance(now);
        self.split_long(now);
        self.grow();
        // What has been handed out just now may have a deadline.
        self.look_at_rings(now);
        self.wake_waiters();
        self.update_event_fd();
        self.tell_what_is_due(now);
        if self.trace.is_some() {
            self.write_trace();
        }
    }

    /// Whether somebody who takes a result that is there need not move the pool on: it costs more than the result.
    pub(super) fn may_answer_at_once(&mut self) -> bool {
        !self.is_to_look_after(Call::GivenOut) && !self.has_news() && !self.awaits_begins()
    }

    /// Whether results are all that is to be looked for: no task waits for a worker to have room, nobody leads, nobody wishes for more
    /// than that tasks settle, no trace is to be written, and tine's thread looks after the rest.
    pub(super) fn needs_only_results(&self) -> bool {
        let desk = &self.waiters.desk;
        let is_alone = desk.is_plain() && !desk.is_led() && self.trace.is_none();
        self.queued() == 0 && is_alone && self.waiters.may_gather()
    }

    /// Settles what workers have left; whether that is all that there is to do: nobody is to be told by a callback, and no task has come to
    /// the front of a ring that may be late. Items that are to begin no more are taken back here, before anybody hears of the failure.
    pub(super) fn takes_in_results(&mut self) -> bool {
        let now = now_ns();
        if now >= self.looks.full_look_due_ns {
            return false; // All rings would be looked at, time and again until the pool is moved on.
        }
        self.drain_rings(now);
        self.stop_streams();
        !self.has_news() && self.rings.first_alarm() > now
    }

    fn drain_rings(&mut self, now: u64) {
        let words = self.family.mark_words().filter(|_| now < self.looks.full_look_due_ns);
        let Some(words) = words else {
            let mut next = self.rings.first_busy();
            while let Some(slot) = next {
                next = self.rings.next_busy(slot);
                self.drain(slot, now);
            }
            return;
        };
        for word in 0..words {
            for slot in marked(word, self.heap.marks().take(word)) {
                // Any worker can have set any bit.
                if slot < self.rings.len() {
                    self.drain(slot, now);
                }
            }
        }
    }

    /// The rings that have to be looked at for results: those that are marked, or, where there are few, the busy ones.
    fn any_with_results(&self, suits: impl Fn(&Segment) -> bool) -> bool {
        let has = |slot: usize| {
            let segment = self.family.members.get(slot).and_then(|member| member.segment.as_ref());
            segment.is_some_and(|segment| {
                let ring = &self.rings[slot];
                ring.has_results(segment) && suits(segment)
            })
        };
        match self.family.mark_words() {
            None => self.rings.busy().any(has),
            Some(words) => (0..words).any(|word| marked(word, self.heap.marks().get(word)).any(has)),
        }
    }

    /// Looks at the rings that have changed, at those whose time has come, and now and then at all that are busy.
    fn look_at_rings(&mut self, now: u64) {
        self.rings.sort();
        if now >= self.looks.full_look_due_ns {
            self.looks.full_look_due_ns = now + FULL_LOOK_NS;
            self.rings.look_at_busy();
        }
        while let Some(slot) = self.rings.next_unseen(now) {
            let due_ns = self.look_after_running(slot, now);
            self.recycle_worker(slot, now);
            self.give_up_on(slot, now);
            let due_ns = due_ns.min(self.rings[slot].hung_due_ns());
            self.rings.set_alarm(slot, due_ns.max(now + 1));
        }
    }

    /// Takes and settles what a ring has.
    pub(super) fn drain(&mut self, slot: usize, now: u64) {
        let Some(segment) = &self.family.members[slot].segment else { return };
        let ring = &self.rings[slot];
        if ring.in_ring() == 0 || !self.waiters.is_looked_at() && !ring.has_results(segment) {
            return;
        }
        let mut any = self.take_from_ring(slot, now);
        if let Some(segment) =
            self.family.members[slot].segment.as_ref().filter(|_| self.waiters.is_looked_at())
        {
            // What the worker has finished before it was asked again it has told nobody of.
            segment.ask_to_be_told();
            crate::sys::prim::fence(crate::sys::prim::Ordering::SeqCst);
            any |= self.take_from_ring(slot, now);
        }
        if any {
            self.family.has_worked();
            self.rings.has_delivered(slot);
            if let Some(page) = &self.family.page {
                page.has_drained(slot, self.rings[slot].position(), now);
            }
        }
    }

    /// Whether there was any result.
    fn take_from_ring(&mut self, slot: usize, now: u64) -> bool {
        let Some(segment) = &self.family.members[slot].segment else { return false };
        let ring = &mut self.rings[slot];
        let (trusted, count) = (!ring.distrusted, ring.take_count(segment));
        let (mut is_sound, mut any) = (trusted != ring.distrusted, false);
        for _ in 0..count {
            let Some(segment) = &self.family.members[slot].segment else { break };
            match self.rings.quietly(slot).take(segment, &mut self.ledger, &self.heap) {
                Taken::Plain { index, position, status } => {
                    any = true;
                    self.settle_plain(slot, position, index, status);
                }
                Taken::Result { index, position, outcome } => {
                    any = true;
                    self.settle_result(slot, position, index, outcome);
                }
                Taken::Nothing => (),
                Taken::Nonsense => {
                    is_sound = false;
                    break;
                }
            }
        }
        if !is_sound {
            self.family.kill(slot);
        } else if let Some(segment) = self.family.members[slot].segment.as_ref().filter(|_| count > 0) {
            self.rings[slot].measure(segment, u64::from(count), now);
            if self.rings[slot].needs_watching() {
                // What is in front now may have a deadline, which somebody looks at once the pool is moved on.
                self.rings.set_alarm_by(slot, now);
            }
        }
        any
    }

    /// Settles a call that has left nothing but its status. Most leave no more, and most are nobody's but their submitter's: such a one
    /// is put down as it is.
    #[inline(always)]
    fn settle_plain(&mut self, slot: usize, position: u32, index: u32, status: i32) {
        let is_watched = self.trace.is_some() || self.ledger.book.is_some() || self.awaits_begins();
        let is_ended = self.rings.quietly(slot).ending.is_some();
        let entry = self.ledger.get_mut(index);
        if is_watched || is_ended || !entry.is_plain() {
            return self.settle_result(slot, position, index, Outcome::new(status, Delivery::Ran));
        }
        (entry.state, entry.outcome) = (TaskState::Settled, Some(Settled::plain(status)));
        let group = entry.group;
        self.ledger.outstanding -= 1;
        self.tell_settled(index, group);
    }

    /// Settles a task by what its worker has left.
    fn settle_result(&mut self, slot: usize, position: u32, index: u32, mut outcome: Outcome) {
        let is_this = |ending: &mut Ending| ending.index == index;
        if let Some(ending) = self.rings.quietly(slot).ending.take_if(is_this) {
            if let Some(segment) = &self.family.members[slot].segment {
                ending.clear(segment);
            }
            if let Some(output) = ending.amend(&mut outcome, self.ledger.get(index).kind) {
                let _ = self.heap.free_address(output);
            }
            if ending.doomed {
                self.distrust(slot);
            }
        }
        if self.awaits_begins() {
            self.note_begin(index, self.family.members[slot].pid);
        }
        if self.trace.is_some() {
            self.trace_result(slot, position, index, &outcome);
        }
        self.settle(index, outcome);
    }

    pub(super) fn deal_with(&mut self, event: Event, now: u64) {
        match event {
            Event::Ready(slot) => {
                let share = self.recycle.rules().task_quota(slot, self.family.members[slot].generation);
                let ring = &mut self.rings[slot];
                (ring.ready, ring.ready_ns, ring.task_quota) = (true, now, share);
                self.recycle.has_begun_to_serve(now);
                self.note_inherited(slot);
                self.trace_birth(slot);
            }
            Event::Ended(slot, death) => self.deal_with_death(slot, death, now),
            Event::Starved(error) => self.settle_queue(&error),
            Event::Broken(error) => {
                self.life.break_down(error);
                self.abandon_queue();
            }
        }
    }

    pub(super) fn settle(&mut self, index: u32, mut outcome: Outcome) {
        let entry = self.ledger.get_mut(index);
        if entry.deaths > 0 {
            outcome.had_died();
        }
        let was_queued = entry.state == TaskState::Queued;
        let input = entry.take_input();
        let (status, delivery, items) = (outcome.status, outcome.delivery, outcome.items);
        entry.put_outcome(outcome);
        let (job, stream, group) = (entry.job(), entry.stream(), entry.group);
        let is_rare = entry.rare.is_some();
        if is_rare {
            entry.take_end().close();
            if entry.rare.as_mut().is_some_and(|rare| std::mem::take(&mut rare.is_short)) {
                self.queue.shortage.left();
            }
        }
        if let Some(book) = &self.ledger.book
            && (job.is_none() || self.ledger.is_whole(index, items))
        {
            book.settled(index, status, delivery as usize);
        }
        if let InputPlace::Heap { address, owned: true } = input {
            let _ = self.heap.free_address(address);
        }
        self.ledger.outstanding -= 1;
        if was_queued {
            self.queue.chain.remove(&mut self.ledger, index);
        }
        match (job, stream) {
            (Some(job), _) => {
                self.maps.settle(job, index);
                self.waiters.desk.tell_all(Key::Job(job));
            }
            (None, Some(stream)) => self.note_in_stream(stream, index),
            (None, None) => {
                if self.trace.is_some() {
                    self.trace_settled(index);
                }
                if is_rare {
                    self.note_settled(index);
                }
                self.tell_settled(index, group);
            }
        }
    }

    /// A submitted task has settled: it is whoever's who waits for it.
    #[inline(always)]
    fn tell_settled(&mut self, index: u32, group: u32) {
        let is_anybodys = self.submissions.settle(&mut self.ledger, index);
        if !self.waiters.desk.has_wishes() {
            return;
        }
        if is_anybodys {
            self.waiters.desk.tell_first(Key::Next);
        }
        self.waiters.desk.tell_all(Key::Task(index));
        if group != 0 {
            self.waiters.desk.tell_all(Key::Group(group));
        }
    }

    /// Whether nothing is under way. A map is until its call returns: between two chunks nothing of it is outstanding.
    fn has_nothing(&self) -> bool {
        self.ledger.outstanding == 0 && self.maps.is_empty()
    }

    /// The same, and every callback has returned but for the one that this thread may be in.
    pub(super) fn is_idle(&self) -> bool {
        self.has_nothing() && (self.has_told_all() || self.is_in_callback())
    }

    /// Asks every worker to make the pool's descriptor readable.
    pub(super) fn listen(&self) {
        self.family.listen();
    }

    /// Whether there is something for whoever is about to sleep for all.
    pub(super) fn has_something(&self) -> bool {
        self.has_results() || self.heap.bell().has_news() || self.family.has_news()
    }

    /// Whether a ring in which there are results runs low.
    pub(super) fn has_low_ring(&self) -> bool {
        self.any_with_results(|segment| segment.runs_low())
    }

    /// Whether every place has a worker that takes tasks, here or on other machines.
    pub(super) fn all_ready(&self) -> bool {
        self.family.all_ready() && self.remote.as_ref().is_none_or(|remote| remote.is_ready())
    }

    /// Whether this task has yet to settle.
    pub(super) fn is_under_way(&self, index: u32) -> bool {
        matches!(self.ledger.get(index).state, TaskState::Queued | TaskState::Sent(_))
    }

    /// Workers that are in the middle of a task.
    pub(super) fn busy_count(&self) -> usize {
        let is_busy = |(ring, member): (&RingAccount, &Member)| {
            let segment = member.segment.as_ref();
            ring.front()
                .zip(segment)
                .is_some_and(|((position, _), segment)| segment.slot(position).has_begun())
        };
        self.rings.iter().zip(&self.family.members).filter(|pair| is_busy(*pair)).count()
    }

    /// Whether there are results in a ring.
    pub(super) fn has_results(&self) -> bool {
        self.any_with_results(|_| true)
    }

    /// Tells threads whose wish has come true by more than one step. What one step does is told of where it is done.
    #[inline]
    pub(super) fn wake_waiters(&mut self) {
        // Each look takes in how many workers have mapped a segment, whoever wishes for that: who is about to sleep would take it for
        // news again and again, with the lock that the call which shares waits for.
        let has_shared = self.family.is_sharing() && self.has_sharing_answer();
        if !self.waiters.desk.is_plain() {
            self.wake_various(has_shared);
        }
    }

    fn wake_various(&mut self, has_shared: bool) {
        if self.waiters.desk.is_wished(Key::Next) && !self.submissions.has_unclaimed() {
            self.waiters.desk.tell_all(Key::Next);
        }
        self.tell_of_room();
        let (nothing, told) = (self.has_nothing(), self.has_told_all());
        let settled = self.submissions.all_settled();
        for in_callback in [false, true] {
            if nothing && (told || in_callback) {
                self.waiters.desk.tell_all(Key::Idle(in_callback));
            }
            if settled && (told || in_callback) {
                self.waiters.desk.tell_all(Key::All(in_callback));
            }
        }
        if self.waiters.desk.is_wished(Key::Ready) && (self.life.broken().is_some() || self.all_ready()) {
            self.waiters.desk.tell_all(Key::Ready);
        }
        // Not before there is an answer: the thread that leads would wake itself each time it looks.
        if has_shared {
            self.waiters.desk.tell_all(Key::Shared);
        }
        self.tell_streams();
    }

    /// The first thread that waits for room in the window has it, or there will be none.
    #[inline]
    pub(super) fn tell_of_room(&mut self) {
        if let Some(length) = self.waiters.desk.amount(Key::Room) {
            if self.life.is_closed() || self.life.broken().is_some() {
                self.waiters.desk.tell_all(Key::Room);
            } else if self.has_room(length) {
                self.waiters.overtaken = 0;
                self.waiters.desk.tell_first(Key::Room);
            } else if let Some(left) = self.room_left() {
                // It is not in the way of those that need less, until they would keep it from ever having enough.
                let may_have = self.submissions.window().most_bytes().saturating_sub(self.waiters.overtaken);
                if let Some(amount) = self.waiters.desk.tell_within(Key::Room, left.min(may_have)) {
                    self.waiters.overtaken = self.waiters.overtaken.saturating_add(amount.max(1));
                }
            }
        }
    }
}
