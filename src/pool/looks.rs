//! When a pool is looked at though nobody calls: what is due, and who is to know of it.

use super::state::PoolState;
use crate::sys::clock::{Deadline, now_ns};

/// How often the family is looked after while processes come up or end, results keep coming and nobody sleeps: so long, and for
/// each member. What it is told makes it look at once; to look for nothing takes system calls.
const FAMILY_INTERVAL_NS: u64 = 200_000;
const EACH_MEMBER_NS: u64 = 2_000;

/// So many results are given out, and so many tasks taken in, before the pool is moved on again.
const AT_ONCE: u32 = 16;

/// A host that moves its pool on alone does so in the first call after this time.
const UNATTENDED_NS: u64 = 1_000_000;

/// A worker that has lost its means to call is noticed within twice this time.
pub(super) const LOOK_NS: u64 = 50_000_000;

/// All workers that have tasks are looked at so often while the pool is moved on, whatever they have told.
pub(super) const FULL_LOOK_NS: u64 = LOOK_NS / 2;

/// The same while processes come up or end.
const CHANGES_NS: u64 = 2_500_000;

/// The same for a task of which it is to be told that it has begun.
pub(super) const BEGINS_NS: u64 = 5_000_000;

/// When what is looked at now and then is looked at next.
#[derive(Debug, Default)]
pub(super) struct Looks {
    pub(super) family_due_ns: u64,
    /// All rings with tasks.
    pub(super) full_look_due_ns: u64,
    /// Which tasks have begun.
    pub(super) begins_due_ns: u64,
    /// When the pool was last moved on; results that have been given out since, and tasks that have been taken in.
    pub(super) pumped_ns: u64,
    pub(super) calls: [u32; 2],
}

/// What a host calls for without the pool being moved on each time.
#[derive(Clone, Copy, Debug)]
pub(super) enum Call {
    GivenOut,
    HandedIn,
}

impl PoolState {
    /// Whoever looks at the clock for all looks early enough.
    pub(super) fn tell_what_is_due(&mut self, now: u64) {
        let steady = self.steady_look(now);
        let due = steady.min(Deadline(self.uneven_due_ns()));
        self.waiters.have_a_look_by(due, steady, self.heap.bell());
    }

    /// Whether the pool is to be moved on in this call: there have been so many, or nobody does so between the host's calls.
    #[inline(always)]
    pub(super) fn is_to_look_after(&mut self, call: Call) -> bool {
        let calls = &mut self.looks.calls[call as usize];
        *calls += 1;
        *calls >= AT_ONCE
            || !self.waiters.standby.is_there() && now_ns() >= self.looks.pumped_ns + UNATTENDED_NS
    }

    /// When the family is to be looked after if nobody tells of anything.
    pub(super) fn next_family_look(&self, now: u64) -> u64 {
        let members = self.family.members.len() as u64;
        let (soon, late) = (now + FAMILY_INTERVAL_NS + members * EACH_MEMBER_NS, now + FULL_LOOK_NS);
        if self.family.is_changing() {
            soon
        } else {
            self.family.next_deadline().0.clamp(soon, late.max(soon))
        }
    }

    /// When whoever sleeps must look again even if nobody has called: something of the family's is due, or a worker
    /// may have lost the descriptor by which it calls. Only tasks that are under way, or a segment, make anybody look.
    pub(super) fn next_look(&mut self, now: u64) -> Deadline {
        self.steady_look(now).min(Deadline(self.uneven_due_ns()))
    }

    /// The same but for tasks that wait where a worker has nothing to do.
    fn steady_look(&self, now: u64) -> Deadline {
        let due_ns = self.recycle.due_ns().min(self.rings.first_alarm());
        let mut family = self.family.next_deadline().min(Deadline(due_ns));
        if self.family.is_changing() {
            family = family.min(Deadline((now / CHANGES_NS + 2) * CHANGES_NS));
        }
        if self.ledger.outstanding == 0 && !self.family.is_sharing() {
            return family;
        }
        // Rounded, so that a timer need not be set anew for every task.
        let interval_ns = if self.awaits_begins() { BEGINS_NS } else { LOOK_NS };
        let look = Deadline((now / interval_ns + 2) * interval_ns);
        let due_ns = self.queue_due_ns().min(self.maps.splitting.due_ns);
        family.min(look).min(Deadline(due_ns))
    }

    /// When something is due that cannot wait for anybody's next call.
    pub(super) fn first_due(&self) -> Deadline {
        let due_ns = self.recycle.due_ns().min(self.rings.first_alarm()).min(self.queue_due_ns());
        self.family.next_deadline().min(Deadline(due_ns.min(self.maps.splitting.due_ns)))
    }

    /// The family is to be looked after at the next occasion.
    pub(super) fn look_soon(&mut self) {
        self.looks.family_due_ns = 0;
    }
}
