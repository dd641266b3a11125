//! What a worker's death makes of its tasks: lost, run again, or handed to another worker as if nothing had been.

use super::ledger::{Delivery, Outcome, suspicion_after};
use super::ring_account::{LeftTask, RingAccount};
use super::state::PoolState;
use crate::error::Code;
use crate::task::call::CallKind;
use crate::task::death::Death;
use crate::task::ring::Segment;
use crate::worker::start;

impl PoolState {
    /// A worker is dead for sure: what it finished counts, what it had begun may have run, the rest runs elsewhere.
    pub(super) fn deal_with_death(&mut self, slot: usize, death: Death, now: u64) {
        self.drain(slot, now);
        let (mut lost, mut requeue, mut unfinished) = (Vec::new(), Vec::new(), 0);
        let mut idle = !self.rings[slot].has_worked();
        let is_ours = self.rings[slot].may_meet_a_signal() || self.family.members[slot].gave_up;
        let more = suspicion_after(death.signal, is_ours);
        if let Some(segment) = self.family.members[slot].segment.take() {
            for left in self.rings[slot].clear(&segment, &mut self.ledger) {
                unfinished = unfinished.max(left.unfinished);
                let to_blame = left.is_next && self.suspect(left.index, more);
                let left = LeftTask { begun: left.begun || to_blame, to_blame, ..left };
                idle &= !left.begun;
                if left.begun {
                    self.trace_lost(slot, death.pid, &left);
                    self.note_begin(left.index, death.pid);
                }
                if left.begun && !self.may_run_again(slot, left.index) {
                    lost.push((left.index, self.lost_outcome(slot, &left, &segment, &death)));
                } else {
                    requeue.push(left.index);
                }
            }
        }
        self.trace_end(slot, &death);
        self.rings[slot] = RingAccount::new();
        // Oldest first, in front of what has not been handed out yet.
        self.requeue(requeue);
        for (index, outcome) in lost {
            self.settle(index, outcome);
        }
        self.heap.reclaim(start::owner_of(slot as u32), death.pid, unfinished);
        self.family.bury(slot, &death, idle);
        if self.life.broken().is_some() {
            self.abandon_queue();
        }
        self.look_soon();
    }

    /// Whether a task that has died with its process runs again: its submitter has said that it may, and how often.
    fn may_run_again(&mut self, slot: usize, index: u32) -> bool {
        let ended = self.rings[slot].ending.as_ref().is_some_and(|ending| ending.index == index);
        let entry = self.ledger.get_mut(index);
        entry.deaths += 1;
        let may = !ended && !self.life.is_stopping();
        let retries =
            entry.rare.as_mut().map(|rare| &mut rare.retries).filter(|retries| may && **retries > 0);
        let again = retries.is_some();
        if let Some(retries) = retries {
            *retries -= 1;
        }
        if again {
            self.begins_again(index);
        }
        again
    }

    /// Whether a task that its worker says not to have begun with is to blame for the worker's end all the same. Then the program's
    /// own fault it is not.
    fn suspect(&mut self, index: u32, more: u32) -> bool {
        let to_blame = self.ledger.get_mut(index).suspect(more);
        if to_blame {
            self.family.has_worked();
        }
        to_blame
    }

    /// What is left of a task that its worker had begun.
    fn lost_outcome(&mut self, slot: usize, left: &LeftTask, segment: &Segment, death: &Death) -> Outcome {
        use crate::sys::prim::Ordering;
        let entry = self.ledger.get(left.index);
        let begun = segment.items_begun.load(Ordering::Acquire);
        let mut outcome = Outcome::new(Code::DIED.0, Delivery::MaybeRan);
        outcome.message = super::ledger::to_c_string(death.describe().as_bytes());
        let mut death = Box::new(death.clone());
        let function =
            self.family.callees().map(|callees| callees.describe(entry.callee())).unwrap_or_default();
        let id = if entry.job().is_none() { self.ledger.id_of(left.index).0 } else { 0 };
        death.set_task(id, 0, function);
        outcome.death = Some(death);
        if entry.kind != CallKind::Task {
            outcome.messages_length = left.messages_length;
            outcome.items = segment.items_done.load(Ordering::Acquire);
            outcome.culprit = begun > outcome.items;
            if left.to_blame {
                (outcome.items, outcome.culprit) = (0, true);
            }
        }
        if let Some(ending) = self.rings[slot].ending.as_mut().filter(|ending| ending.index == left.index) {
            ending.find_item(&mut outcome, begun, entry.deadline_ns != 0);
            ending.amend(&mut outcome, entry.kind); // What it had of an output is the heap's to reclaim.
        }
        outcome
    }
}
