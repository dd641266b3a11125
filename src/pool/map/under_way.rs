//! The maps that are under way: of each, the chunks that have settled and wait for its caller.

use super::split::Splitting;
use crate::error::{Code, Result};
use std::collections::VecDeque;

/// A map has its number from before its first chunk is on its way until after its last has been taken.
#[derive(Debug, Default)]
pub(in crate::pool) struct Maps {
    /// By the maps' numbers.
    settled: Vec<Option<VecDeque<u32>>>,
    under_way: usize,
    pub(in crate::pool) splitting: Splitting,
}

impl Maps {
    /// A map begins; its number.
    pub(in crate::pool) fn open(&mut self) -> Result<usize> {
        let number = self.settled.iter().position(Option::is_none).unwrap_or(self.settled.len());
        if number == self.settled.len() {
            self.settled.try_reserve(1).map_err(|_| Code::errno(libc::ENOMEM))?;
            self.settled.push(None);
        }
        self.settled[number] = Some(VecDeque::new());
        self.under_way += 1;
        Ok(number)
    }

    /// A map is over: all of its chunks have been taken.
    pub(in crate::pool) fn close(&mut self, number: usize) {
        debug_assert!(!self.has_settled(number));
        self.settled[number] = None;
        self.under_way -= 1;
    }

    /// So many chunks of a map can settle; -ENOMEM where there is no room to note that.
    pub(in crate::pool) fn make_room(&mut self, number: usize, chunks: usize) -> Result<()> {
        let Some(settled) = &mut self.settled[number] else { return Ok(()) };
        settled.try_reserve(chunks).map_err(|_| Code::errno(libc::ENOMEM).into())
    }

    /// A chunk of a map has settled.
    pub(in crate::pool) fn settle(&mut self, number: usize, index: u32) {
        if let Some(settled) = &mut self.settled[number] {
            settled.push_back(index);
        }
    }

    /// Whether there is a chunk to take.
    pub(in crate::pool) fn has_settled(&self, number: usize) -> bool {
        self.settled[number].as_ref().is_some_and(|settled| !settled.is_empty())
    }

    /// The chunk of a map that settled first of those that have not been taken.
    pub(in crate::pool) fn take(&mut self, number: usize) -> Option<u32> {
        self.settled[number].as_mut().and_then(VecDeque::pop_front)
    }

    /// Whether no map is under way.
    pub(in crate::pool) fn is_empty(&self) -> bool {
        self.under_way == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_given_again_when_its_map_is_over() {
        let mut maps = Maps::default();
        assert!(maps.is_empty());
        assert_eq!((maps.open().unwrap(), maps.open().unwrap()), (0, 1));
        maps.close(0);
        assert!(!maps.is_empty(), "the other goes on");
        assert_eq!(maps.open().unwrap(), 0);
        maps.close(0);
        maps.close(1);
        assert!(maps.is_empty());
    }

    #[test]
    fn chunks_are_taken_by_their_own_map_in_the_order_in_which_they_settled() {
        let mut maps = Maps::default();
        let (one, other) = (maps.open().unwrap(), maps.open().unwrap());
        maps.make_room(one, 2).unwrap();
        maps.settle(one, 7);
        maps.settle(one, 3);
        assert!(maps.has_settled(one) && !maps.has_settled(other));
        assert_eq!(
            (maps.take(other), maps.take(one), maps.take(one), maps.take(one)),
            (None, Some(7), Some(3), None)
        );
    }
}
