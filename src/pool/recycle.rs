//! Replacing workers in good order: after so many tasks, so long a time, or above so much memory.

use super::state::PoolState;
use crate::sys::limits;
use crate::sys::thread::Uncancelled;

/// When a worker has served long enough, or has been idle for too long; 0 for never.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RecycleRules {
    pub(super) tasks: u32,
    pub(super) age_ns: u64,
    pub(super) private_bytes: u64,
    pub(super) idle_ns: u64,
    /// So many workers stay however idle they are.
    pub(super) least: usize,
}

/// How often a worker's memory is looked at.
const LOOK_NS: u64 = 20_000_000;

#[derive(Debug)]
pub(super) struct Recycle {
    rules: RecycleRules,
    /// When a worker may have been idle for too long, and when one has served for so long as it may.
    idle_due_ns: u64,
    age_due_ns: u64,
    /// When all workers are looked at for their age and memory.
    look_due_ns: u64,
}

impl Recycle {
    pub(super) fn new(rules: RecycleRules) -> Recycle {
        Recycle { rules, idle_due_ns: u64::MAX, age_due_ns: u64::MAX, look_due_ns: 0 }
    }

    pub(super) fn rules(&self) -> RecycleRules {
        self.rules
    }

    /// When a worker is to leave even if nobody calls.
    pub(super) fn due_ns(&self) -> u64 {
        self.idle_due_ns.min(self.age_due_ns)
    }

    /// A worker has become ready.
    pub(super) fn has_begun_to_serve(&mut self, now: u64) {
        if self.rules.age_ns != 0 {
            self.age_due_ns = self.age_due_ns.min(now.saturating_add(self.rules.age_ns));
        }
    }
}

impl RecycleRules {
    /// Whether a worker may have to leave because time goes by.
    pub(super) fn are_timed(self) -> bool {
        self.age_ns != 0 || self.idle_ns != 0
    }

    /// How many tasks the worker that has just become ready may be given. Up to an eighth less than allowed, each worker
    /// another number, so that not all of them are replaced at the same time.
    pub(super) fn task_quota(self, slot: usize, generation: u64) -> u32 {
        let spread = self.tasks / 8 + 1;
        let mixed =
            (slot as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ generation.wrapping_mul(0xff51_afd7);
        match self.tasks {
            0 => u32::MAX,
            tasks => tasks - (mixed >> 32) as u32 % spread,
        }
    }
}

impl PoolState {
    /// Looks at all workers when one may have been idle for too long, or has to be looked at for its age and memory.
    pub(super) fn recycle(&mut self, now: u64) {
        if now < self.recycle.look_due_ns.min(self.recycle.due_ns()) {
            return;
        }
        let ages = self.recycle.rules.age_ns != 0 || self.recycle.rules.private_bytes != 0;
        self.recycle.look_due_ns = if ages { now + LOOK_NS } else { u64::MAX };
        (self.recycle.idle_due_ns, self.recycle.age_due_ns) = (u64::MAX, u64::MAX);
        (0..self.rings.len()).for_each(|slot| self.recycle_worker(slot, now));
    }

    /// Asks a worker to leave that has served long enough and has nothing under way.
    pub(super) fn recycle_worker(&mut self, slot: usize, now: u64) {
        if !self.rings[slot].ready || self.rings[slot].leaving {
            return;
        }
        if !self.rings[slot].retiring && self.has_served(slot, now) {
            self.rings[slot].retiring = true;
        } else if !self.rings[slot].retiring && self.has_been_idle(slot, now) {
            self.rings[slot].retiring = true;
            self.family.park(slot);
        }
        let ring = &self.rings[slot];
        if (ring.retiring || ring.has_served_its_share()) && ring.in_ring() == 0 {
            self.rings[slot].leaving = true;
            self.family.retire(slot);
        }
    }

    /// Whether a worker is one too many. Where it is too early to say, there is a time to look again.
    fn has_been_idle(&mut self, slot: usize, now: u64) -> bool {
        let RecycleRules { idle_ns, least, .. } = self.recycle.rules;
        let ring = &self.rings[slot];
        if idle_ns == 0 || ring.in_ring() > 0 || self.family.wanted_count() <= least {
            return false;
        }
        let due_ns = now.saturating_sub(ring.quiet_ns(now)).max(ring.ready_ns).saturating_add(idle_ns);
        self.recycle.idle_due_ns = self.recycle.idle_due_ns.min(due_ns);
        now >= due_ns
    }

    /// Has more workers started where tasks wait and nobody is free; whether there may be more than there are.
    #[inline(always)]
    pub(super) fn grow(&mut self) -> bool {
        let may_grow = self.family.members.len() != self.family.wanted_count() && !self.closing();
        if may_grow {
            self.grow_if_tasks_wait();
        }
        may_grow
    }

    #[cold]
    fn grow_if_tasks_wait(&mut self) {
        // What follows may take its time.
        self.wake_shown();
        let waiting = self.queued() + self.rings.waiting();
        if waiting == 0 || self.rings.idle().is_some() {
            return;
        }
        let coming = self.family.wanted_count().saturating_sub(self.rings.ready_count());
        if waiting > coming && self.family.unpark(waiting - coming) {
            let _uncancelled = Uncancelled::new();
            self.family.advance(&self.heap);
            self.look_soon();
        }
    }

    fn has_served(&mut self, slot: usize, now: u64) -> bool {
        let rules = self.recycle.rules;
        let ring = self.rings.quietly(slot);
        if rules.age_ns != 0 {
            if now.saturating_sub(ring.ready_ns) >= rules.age_ns {
                return true;
            }
            self.recycle.has_begun_to_serve(ring.ready_ns);
        }
        if rules.private_bytes == 0 || ring.position() == ring.looked_at || now < ring.next_recycle_look_ns {
            return false;
        }
        ring.next_recycle_look_ns = now + LOOK_NS;
        let Some(bytes) = self.own_bytes(slot) else { return false };
        // A look that failed says nothing, however long the worker does nothing more: there is another one.
        let ring = self.rings.quietly(slot);
        ring.looked_at = ring.position();
        bytes > rules.private_bytes
    }

    /// A worker has become ready: finds out what it has of its host's memory.
    pub(super) fn note_inherited(&mut self, slot: usize) {
        let has_limits = self.recycle.rules.private_bytes != 0 || self.limits.max_worker_bytes != 0;
        let inherited = match has_limits && self.family.forks_host() {
            true => self.family.members[slot].number_here().and_then(limits::private_bytes),
            false => Some(0),
        };
        self.rings[slot].inherited_bytes = inherited;
    }

    /// How much private memory a worker has on top of what it had by fork of its host's. `None` if the process is gone, or nobody can say.
    pub(super) fn own_bytes(&mut self, slot: usize) -> Option<u64> {
        let bytes = limits::private_bytes(self.family.members[slot].number_here()?)?;
        // There may have been no descriptor for the look when the worker became ready. It may have taken memory of its own since, so it
        // has no more by fork than the host had to give.
        let by_fork = self.family.bytes_by_fork().unwrap_or(bytes);
        let inherited = self.rings.quietly(slot).inherited_bytes.get_or_insert(by_fork);
        // What it has given back since is not its host's any more.
        *inherited = bytes.min(*inherited);
        Some(bytes - *inherited)
    }
}
