//! Splitting a chunk: it ends after the item it is at, and what is left of it comes back to its map, which shares it
//! out.
//!
//! | who | what it does |
//! |---|---|
//! | the host | sets the slot's `split` while the chunk runs; clears it when it drains the chunk's result, or takes a chunk back that had not begun |
//! | the worker | looks at it between two items, and ends the chunk as it does when there is no more room for messages |
//!
//! Nothing depends on it. A worker that sees it late, or not at all, finishes its chunk; one that dies leaves what a death
//! leaves; an item that is being ended for its deadline is in front of it. A chunk is split when a worker has nothing to do, no
//! task waits anywhere, and this one has run for longer than a measured chunk should: with few items left that are slow,
//! all workers finish together. A chunk of a range is one call and cannot be split.

use crate::pool::ledger::TaskState;
use crate::pool::parcel::End;
use crate::pool::remote::node_of;
use crate::pool::state::PoolState;
use crate::sys::prim::Ordering;
use crate::task::call::CallKind;

/// A chunk that has run for so long is worth splitting.
const SPLIT_NS: u64 = 2_000_000;

/// When a chunk may have to be split, and when there may be one at the earliest.
#[derive(Clone, Copy, Debug)]
pub(in crate::pool) struct Splitting {
    pub(in crate::pool) due_ns: u64,
    not_before_ns: u64,
}

impl Default for Splitting {
    fn default() -> Splitting {
        Splitting { due_ns: u64::MAX, not_before_ns: 0 }
    }
}

impl PoolState {
    /// Splits long chunks where workers have nothing to do.
    pub(in crate::pool) fn split_long(&mut self, now: u64) {
        self.maps.splitting.due_ns = u64::MAX;
        if self.maps.is_empty() || self.has_waiting() || self.rings.idle().is_none() {
            return;
        }
        if now < self.maps.splitting.not_before_ns {
            self.maps.splitting.due_ns = self.maps.splitting.not_before_ns;
            return;
        }
        // What begins from now on runs for long enough later than this.
        self.maps.splitting.not_before_ns = now + SPLIT_NS;
        let mut next = self.rings.first_busy();
        while let Some(slot) = next {
            next = self.rings.next_busy(slot);
            let Some((_, index)) = self.rings[slot].front() else { continue };
            if self.rings[slot].split.is_some() || self.items_left(slot, index) < 2 {
                continue;
            }
            let ran_ns = self.rings[slot].quiet_ns(now);
            if ran_ns >= SPLIT_NS {
                self.split(index);
            } else {
                self.maps.splitting.due_ns = self.maps.splitting.due_ns.min(now + SPLIT_NS - ran_ns);
            }
        }
        self.maps.splitting.not_before_ns = self.maps.splitting.not_before_ns.min(self.maps.splitting.due_ns);
    }

    /// Items of a running chunk that have not begun, as far as the worker says.
    fn items_left(&self, slot: usize, index: u32) -> u64 {
        let entry = self.ledger.get(index);
        if !matches!(entry.kind, CallKind::Items | CallKind::TaskItems) {
            return 0;
        }
        let Some(segment) = &self.family.members[slot].segment else { return 0 };
        self.ledger.items_of(index).saturating_sub(segment.items_begun.load(Ordering::Relaxed))
    }

    /// Has a chunk that runs end after the item it is at.
    pub(in crate::pool) fn split(&mut self, index: u32) {
        let TaskState::Sent(slot) = self.ledger.get(index).state else { return };
        if node_of(slot).is_some() {
            return self.end_on_node(slot, index, End::Split);
        }
        let Some(member) = self.family.members.get(slot as usize) else { return };
        let ring = &mut self.rings[slot as usize];
        if let (Some((position, front)), Some(segment)) = (ring.front(), &member.segment)
            && front == index
        {
            segment.slot(position).split.store(1, Ordering::Relaxed);
            ring.split = Some(index);
        }
    }
}
