//! Replacing workers in good order: after so many tasks, so long a time, or above so much memory.

use super::lane::Lane;
use super::state::State;
use crate::sys::limits;

/// When a worker has served long enough; 0 for never.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Recycle {
    pub(super) tasks: u32,
    pub(super) age_ns: u64,
    pub(super) private_bytes: u64,
}

/// How often a worker's memory is looked at.
const LOOK_NS: u64 = 20_000_000;

impl Recycle {
    /// How many tasks the worker that has just become ready may be given. Up to an eighth less than allowed, each worker
    /// another number, so that not all of them are replaced at the same time.
    pub(super) fn share(self, slot: usize, generation: u64) -> u32 {
        let spread = self.tasks / 8 + 1;
        let mixed =
            (slot as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ generation.wrapping_mul(0xff51_afd7);
        match self.tasks {
            0 => u32::MAX,
            tasks => tasks - (mixed >> 32) as u32 % spread,
        }
    }
}

impl State {
    /// Asks workers to leave that have served long enough and have nothing under way.
    pub(super) fn recycle(&mut self, now: u64) {
        for slot in 0..self.lanes.len() {
            if !self.lanes[slot].ready || self.lanes[slot].leaving {
                continue;
            }
            if !self.lanes[slot].retiring && self.has_served(slot, now) {
                self.lanes[slot].retiring = true;
            }
            let lane = &self.lanes[slot];
            if (lane.retiring || lane.has_served_its_share()) && lane.in_ring() == 0 {
                self.lanes[slot].leaving = true;
                self.family.retire(slot);
            }
        }
    }

    fn has_served(&mut self, slot: usize, now: u64) -> bool {
        let rules = self.recycle;
        let lane: &mut Lane = &mut self.lanes[slot];
        if rules.age_ns != 0 && now.saturating_sub(lane.ready_ns) >= rules.age_ns {
            return true;
        }
        if rules.private_bytes == 0 || !lane.has_worked() || now < lane.next_recycle_look_ns {
            return false;
        }
        lane.next_recycle_look_ns = now + LOOK_NS;
        limits::private_bytes(self.family.members[slot].pid).is_some_and(|bytes| bytes > rules.private_bytes)
    }
}
