//! Tasks in a row: those that wait in the queue, and those whose results nobody has taken. The links are in the ledger's entries, so a
//! row takes no memory of its own, and whoever is in the middle leaves it at once: a task that is cancelled leaves nothing behind.

use super::ledger::Ledger;

const NOBODY: u32 = u32::MAX;
/// The entry is in no row.
const IN_NONE: u32 = u32::MAX - 1;

/// An entry's place in the one row that it may be in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Links {
    before: u32,
    after: u32,
}

impl Links {
    pub(super) const NONE: Links = Links { before: IN_NONE, after: IN_NONE };
}

#[derive(Debug)]
pub(super) struct Chain {
    first: u32,
    last: u32,
    length: usize,
}

impl Chain {
    pub(super) const EMPTY: Chain = Chain { first: NOBODY, last: NOBODY, length: 0 };

    pub(super) fn len(&self) -> usize {
        self.length
    }

    pub(super) fn first(&self) -> Option<u32> {
        (self.first != NOBODY).then_some(self.first)
    }

    #[inline(always)]
    pub(super) fn push_back(&mut self, ledger: &mut Ledger, index: u32) {
        ledger.get_mut(index).links = Links { before: self.last, after: NOBODY };
        match self.last {
            NOBODY => self.first = index,
            last => ledger.get_mut(last).links.after = index,
        }
        self.last = index;
        self.length += 1;
    }

    pub(super) fn push_front(&mut self, ledger: &mut Ledger, index: u32) {
        ledger.get_mut(index).links = Links { before: NOBODY, after: self.first };
        match self.first {
            NOBODY => self.last = index,
            first => ledger.get_mut(first).links.before = index,
        }
        self.first = index;
        self.length += 1;
    }

    /// Takes it out, if it is in here.
    pub(super) fn remove(&mut self, ledger: &mut Ledger, index: u32) {
        let Links { before, after } = std::mem::replace(&mut ledger.get_mut(index).links, Links::NONE);
        if before == IN_NONE {
            return;
        }
        match before {
            NOBODY => self.first = after,
            before => ledger.get_mut(before).links.after = after,
        }
        match after {
            NOBODY => self.last = before,
            after => ledger.get_mut(after).links.before = before,
        }
        self.length -= 1;
    }

    pub(super) fn pop_back(&mut self, ledger: &mut Ledger) -> Option<u32> {
        let index = (self.last != NOBODY).then_some(self.last)?;
        self.remove(ledger, index);
        Some(index)
    }

    #[inline(always)]
    pub(super) fn pop_front(&mut self, ledger: &mut Ledger) -> Option<u32> {
        let index = self.first()?;
        let after = std::mem::replace(&mut ledger.get_mut(index).links, Links::NONE).after;
        self.first = after;
        match after {
            NOBODY => self.last = NOBODY,
            after => ledger.get_mut(after).links.before = NOBODY,
        }
        self.length -= 1;
        Some(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_in_the_middle_leaves_the_others_in_their_order() {
        let (mut ledger, mut chain) = (Ledger::default(), Chain::EMPTY);
        let all: Vec<u32> = (0..6).map(|_| ledger.open().unwrap()).collect();
        all[1..].iter().for_each(|index| chain.push_back(&mut ledger, *index));
        chain.push_front(&mut ledger, all[0]);
        for gone in [0, 3, 5] {
            chain.remove(&mut ledger, all[gone]);
            chain.remove(&mut ledger, all[gone]); // Once more: it is not in there.
        }
        assert_eq!((chain.len(), chain.first()), (3, Some(all[1])));
        assert_eq!(chain.pop_back(&mut ledger), Some(all[4]));
        let left: Vec<u32> = std::iter::from_fn(|| chain.pop_front(&mut ledger)).collect();
        assert_eq!(left, [all[1], all[2]]);
        assert_eq!((chain.len(), chain.first(), chain.pop_back(&mut ledger)), (0, None, None));
    }
}
