//! Results that nobody has taken: those that anybody may take, and those that one waiter has claimed.

use super::chain::Chain;
use super::ledger::{Entry, Ledger};

/// The results that `next` gives out, the oldest first, and how many tasks are claimed, settled or not.
#[derive(Debug)]
pub(super) struct Finished {
    chain: Chain,
    claimed: usize,
    /// The last number that a group of claimed tasks has got.
    groups: u32,
}

impl Finished {
    pub(super) fn new() -> Finished {
        Finished { chain: Chain::EMPTY, claimed: 0, groups: 0 }
    }

    /// How many anybody may take.
    pub(super) fn len(&self) -> usize {
        self.chain.len()
    }

    /// How many tasks are one waiter's, or a callback's.
    pub(super) fn claimed(&self) -> usize {
        self.claimed
    }

    /// A task has settled that nobody has claimed.
    #[inline(always)]
    pub(super) fn push(&mut self, ledger: &mut Ledger, index: u32) {
        self.chain.push_back(ledger, index);
    }

    /// The oldest that anybody may take.
    pub(super) fn pop(&mut self, ledger: &mut Ledger) -> Option<u32> {
        self.chain.pop_front(ledger)
    }

    /// One of those is nobody's to take any more.
    pub(super) fn remove(&mut self, ledger: &mut Ledger, index: u32) {
        self.chain.remove(ledger, index);
    }

    /// A task is one waiter's from now on.
    pub(super) fn claim(&mut self, ledger: &mut Ledger, index: u32) {
        ledger.get_mut(index).claimed = true;
        self.claimed += 1;
    }

    /// A number for tasks that one waiter claims together.
    pub(super) fn new_group(&mut self) -> u32 {
        self.groups = self.groups.wrapping_add(1).max(1);
        self.groups
    }

    /// A task is nobody's in particular from now on.
    pub(super) fn unclaim(&mut self, entry: &mut Entry) {
        entry.group = 0;
        if std::mem::take(&mut entry.claimed) {
            self.claimed -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_claimed_is_counted_once() {
        let (mut ledger, mut finished) = (Ledger::default(), Finished::new());
        let (first, second) = (ledger.open().unwrap(), ledger.open().unwrap());
        finished.push(&mut ledger, first);
        finished.push(&mut ledger, second);
        finished.claim(&mut ledger, first);
        finished.remove(&mut ledger, first);
        assert_eq!((finished.len(), finished.claimed()), (1, 1));
        finished.unclaim(ledger.get_mut(first));
        finished.unclaim(ledger.get_mut(first));
        assert_eq!(finished.claimed(), 0);
        assert_eq!((finished.pop(&mut ledger), finished.pop(&mut ledger)), (Some(second), None));
    }
}
