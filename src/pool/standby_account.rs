//! What a pool knows of the thread that stands by for it: when that looks next, what it wants to hear of, and whether it is to be
//! called. The table in [`super::standby`] is kept here.

use super::looks::LOOK_NS;
use super::standby::{DEAF_NS, FAR, Rest};
use super::state::PoolState;
use crate::heap::bell::{Bell, standby};
use crate::sys::clock::{Deadline, now_ns};
use crate::sys::prim::{Ordering, fence};
use std::sync::Arc;

/// While a thread of the host's moves a pool on, tine's looks so often whether it still does.
const BEAT_NS: u64 = 1_000_000;

/// It looks so often in one go; then the locks are others' first.
const LOOKS_IN_ONE: u32 = 3;

#[derive(Debug)]
pub(super) struct StandbyAccount {
    /// The pool has such a thread.
    is_there: bool,
    /// Until when it sleeps.
    due: Deadline,
    /// Nothing was under way when it lay down.
    is_idle: bool,
    /// It lay down for a beat, because the host moves the pool on.
    beats: bool,
    /// What it wants to hear of.
    mode: u32,
    /// The host has moved the pool on since it last looked.
    host_has_pumped: bool,
    /// It is to be called when the lock is free.
    is_called: bool,
}

impl StandbyAccount {
    pub(super) fn new() -> StandbyAccount {
        StandbyAccount {
            is_there: false,
            due: Deadline(0),
            is_idle: false,
            beats: false,
            mode: 0,
            host_has_pumped: false,
            is_called: false,
        }
    }

    pub(super) fn is_there(&self) -> bool {
        self.is_there
    }

    fn rest(&self) -> Rest {
        Rest { due: self.due, is_deaf: false }
    }

    pub(super) fn has_come(&mut self) {
        self.is_there = true;
    }

    /// It lies down until then; whether nothing was under way.
    pub(super) fn rests_until(&mut self, due: Deadline, is_idle: bool) {
        (self.due, self.is_idle) = (due, is_idle);
    }

    /// It is to know of this, which it is called for if it sleeps for longer.
    pub(super) fn is_to_know_of(&mut self, due: Deadline) {
        self.is_called |= self.is_there && due < self.due;
    }

    /// The pool is moved on, by the host or not.
    pub(super) fn pumped(&mut self, by_host: bool) {
        self.host_has_pumped |= by_host;
    }

    pub(super) fn is_called(&self) -> bool {
        self.is_called
    }

    /// Whether it is to be called; asked for by who calls it.
    pub(super) fn take_call(&mut self) -> bool {
        std::mem::take(&mut self.is_called)
    }
}

impl PoolState {
    /// tine's thread moves the pool on, if nobody else does, and lies down; how long it rests.
    pub(super) fn stand_by(&mut self, bell: &Bell, something_happened: bool) -> Rest {
        let mut happened = something_happened;
        self.waiters.standby.due = Deadline(0);
        for _ in 0..LOOKS_IN_ONE {
            self.waiters.standby.beats = false;
            let host_moves_on = std::mem::take(&mut self.waiters.standby.host_has_pumped);
            if self.waiters.desk.is_led() {
                self.waiters.standby.mode = standby::QUIET;
                bell.standby_lies_down(standby::QUIET);
                self.standby_rests(FAR, !something_happened);
                return self.waiters.standby.rest();
            }
            let due = self.first_due();
            if host_moves_on && self.waits_for_a_look() && !due.passed() && !bell.has_news() {
                self.waiters.standby.beats = true;
                self.waiters.standby.rests_until(due.min(Deadline(now_ns() + BEAT_NS)), false);
            } else {
                self.family.host_calls = false;
                self.pump(happened);
                match self.next_look(now_ns()).min(FAR) {
                    due if self.ledger.outstanding == 0 => {
                        self.heap.rest_all();
                        self.standby_rests(due, !something_happened);
                    }
                    due => self.waiters.standby.rests_until(due, false),
                }
                self.family.host_calls = true;
            }
            self.waiters.standby.mode = self.standby_wanted();
            bell.standby_lies_down(self.waiters.standby.mode);
            if !self.standby_missed(bell) {
                return self.waiters.standby.rest();
            }
            happened = self.family.has_news();
            bell.standby_is_up();
        }
        let has_work = self.standby_missed_work();
        let due = if has_work { Deadline(0) } else { Deadline::after(DEAF_NS) };
        self.waiters.standby.rests_until(due, false);
        Rest { due, is_deaf: !has_work }
    }

    /// Whether tasks wait that somebody could have who has nothing to do, now or soon.
    fn waits_for_a_look(&mut self) -> bool {
        self.queued() > 0 || self.uneven_due_ns() != u64::MAX
    }

    /// Nothing is to be done until then. Whether it was called, for nothing as it seems now.
    fn standby_rests(&mut self, due: Deadline, called: bool) {
        let look = if called { Deadline(now_ns() + LOOK_NS) } else { FAR };
        self.waiters.standby.rests_until(due.min(look), !called);
    }

    /// What tine's thread is to hear of as things are.
    fn standby_wanted(&self) -> u32 {
        match () {
            () if self.awaits_results() => standby::CURIOUS,
            () if self.queued() > 0 && !self.waiters.standby.beats => standby::HUNGRY,
            () => standby::QUIET,
        }
    }

    /// Whether something has come that the thread would have been woken for a moment later.
    fn standby_missed(&self, bell: &Bell) -> bool {
        bell.has_news() || self.family.has_news() || self.standby_missed_work()
    }

    /// The same of what a worker cannot say without having done it.
    fn standby_missed_work(&self) -> bool {
        match self.waiters.standby.mode {
            standby::CURIOUS => self.has_results(),
            standby::HUNGRY => self.has_low_ring(),
            _ => false,
        }
    }

    /// The same where nothing has changed but that a worker has one more task behind those that waited in its ring already, or that a result
    /// that was there has been taken. Nothing is due earlier than before, and no ring is uneven that was not, and whoever lies down
    /// looks at both. So only those are to be told who lay down while nothing was under way, or of whom one may have to lead.
    #[inline(always)]
    pub(super) fn leave_quietly(&mut self) {
        if self.waiters.standby.is_idle || !self.waiters.desk.nobody_is_there() {
            self.leave();
        }
    }

    /// A thread of the host's leaves: where it was to lead and others wait, one of them is to; where nobody does, tine's
    /// thread has to know of what it leaves under way. Whoever lay down while nothing was looks at the clock too seldom now.
    pub(super) fn leave(&mut self) {
        self.waiters.desk.pass_the_lead();
        if self.ledger.outstanding == 0 {
            // Tine's thread may have lain down without a deadline, because this one led.
            let due = self.family.messages_due().min(Deadline(self.recycle.due_ns()));
            if due != Deadline::NEVER && self.waiters.desk.nobody_is_there() {
                self.waiters.standby.is_to_know_of(due);
            }
            return;
        }
        if self.waiters.desk.is_led() {
            let uneven_due = Deadline(self.uneven_due_ns());
            if self.waiters.leader.is_unaware_of(uneven_due) {
                self.heap.bell().ring_leader();
            }
        }
        if !self.waiters.standby.is_there || !self.waiters.desk.nobody_is_there() {
            return;
        }
        // What is only uneven has a beat's time: until then, the host's next call may see to it.
        let is_uneven = |state: &mut PoolState| {
            Deadline(state.uneven_due_ns().saturating_add(BEAT_NS)) < state.waiters.standby.due
        };
        if self.waiters.standby.is_idle
            || self.first_due() < self.waiters.standby.due
            || !self.waiters.standby.beats && is_uneven(self)
        {
            self.waiters.standby.is_called = true;
            return;
        }
        let wanted = self.standby_wanted();
        if wanted > self.waiters.standby.mode {
            let heap = Arc::clone(&self.heap);
            if heap.bell().standby_wants_more(self.waiters.standby.mode, wanted) {
                fence(Ordering::SeqCst);
                self.waiters.standby.mode = wanted;
                self.waiters.standby.is_called |= self.standby_missed(heap.bell());
            }
        }
    }
}
