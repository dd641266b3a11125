//! The host's ledger: what has been submitted, where it is, and what came of it. Private memory of the host; nothing
//! that a worker writes gets in here unchecked. An entry's states are in [`super::entry`].

pub(super) use super::entry::{
    DID_NOTHING, Entry, InputPlace, NewTask, Outcome, OutputPlace, Owner, Rare, Settled, TO_BLAME, TaskState,
    suspicion_after, to_c_string,
};
pub use super::entry::{Delivery, TaskId};

use super::entry::NO_ENTRY;
use crate::cluster::book::Book;
use crate::error::{Code, Error, Result};
use crate::task::call::{CallKind, Chunk};
use crate::task::ring::INLINE_INPUT;
use std::mem::MaybeUninit;

/// Bytes that travel in a slot; the input before the task has run, the output afterwards. They stand apart from the entries: their
/// pages are touched, and so had from the system, only where tasks have such bytes.
#[derive(Debug)]
#[repr(C, align(16))]
pub(super) struct InlineBytes(pub(super) [u8; INLINE_INPUT]);

/// Entries do not move: results point into them.
const BLOCK: usize = 512;

#[derive(Debug)]
struct Block {
    entries: Box<[Entry; BLOCK]>,
    /// One for each entry.
    inline: Box<[MaybeUninit<InlineBytes>; BLOCK]>,
    /// The first free entry, by its place in here; each knows the next.
    free: u32,
    used: u32,
    /// Where it is among the open ones, if it is.
    at: u32,
}

impl Block {
    /// All of them free, with generations that no entry in their places has had.
    fn new(generation: u32) -> Result<Block> {
        let (mut entries, mut inline) = (Vec::new(), Vec::new());
        let room = entries.try_reserve_exact(BLOCK).and_then(|()| inline.try_reserve_exact(BLOCK));
        room.map_err(|_| Error::from(Code::errno(libc::ENOMEM)))?;
        inline.resize_with(BLOCK, MaybeUninit::uninit);
        entries.extend((1..=BLOCK as u32).map(|next| {
            let next = if next as usize == BLOCK { NO_ENTRY } else { next };
            Entry::free(generation, next)
        }));
        let (Ok(entries), Ok(inline)) = (entries.try_into(), inline.try_into()) else {
            unreachable!("as many as were asked for")
        };
        Ok(Block { entries, inline, free: 0, used: 0, at: 0 })
    }

    /// The input of the entry at this place, where it is one that travels in a slot.
    fn input(&self, at: usize) -> &[u8] {
        let entry = &self.entries[at];
        let length = if matches!(entry.input(), InputPlace::Inline) { entry.input_length } else { 0 };
        if length == 0 {
            return &[];
        }
        // SAFETY: whoever has filled the entry has put as many bytes there, which are no more than there is room for.
        unsafe { std::slice::from_raw_parts(self.inline[at].as_ptr().cast(), length.min(INLINE_INPUT)) }
    }
}

#[derive(Debug)]
pub(super) struct Ledger {
    /// `None` where a block has been given back; and the numbers of those.
    blocks: Vec<Option<Block>>,
    vacant: Vec<u32>,
    /// The blocks that have a free entry, and how many of them have nothing else.
    open: Vec<u32>,
    empty: usize,
    /// No entry of a block that has been given back has got so far.
    first_generation: u32,
    /// What is read where a block has been given back: free.
    nobody: Box<Entry>,
    /// Submitted and not settled, chunks included.
    pub(super) outstanding: usize,
    /// Where the same is written down for others, if it is.
    pub(super) book: Option<Box<Book>>,
}

impl Default for Ledger {
    fn default() -> Ledger {
        Ledger {
            blocks: Vec::new(),
            vacant: Vec::new(),
            open: Vec::new(),
            empty: 0,
            first_generation: 1,
            nobody: Box::new(Entry::free(0, NO_ENTRY)),
            outstanding: 0,
            book: None,
        }
    }
}

impl Ledger {
    #[inline(always)]
    pub(super) fn get(&self, index: u32) -> &Entry {
        match &self.blocks[index as usize / BLOCK] {
            Some(block) => &block.entries[index as usize % BLOCK],
            None => &self.nobody,
        }
    }

    /// One that is in use.
    #[inline(always)]
    pub(super) fn get_mut(&mut self, index: u32) -> &mut Entry {
        match &mut self.blocks[index as usize / BLOCK] {
            Some(block) => &mut block.entries[index as usize % BLOCK],
            None => unreachable!("an entry is in use in a block that has been given back"),
        }
    }

    fn inline_place(&self, index: u32) -> Option<&MaybeUninit<InlineBytes>> {
        self.blocks[index as usize / BLOCK].as_ref().map(|block| &block.inline[index as usize % BLOCK])
    }

    /// Where the bytes of an entry are that is in use: those that have been put there.
    pub(super) fn inline_pointer(&self, index: u32) -> *const u8 {
        self.inline_place(index).map_or(std::ptr::null(), |place| place.as_ptr().cast())
    }

    /// The room for the bytes of an entry that is in use, of which the first are about to be written.
    pub(super) fn inline_room(&mut self, index: u32) -> &mut [MaybeUninit<u8>; INLINE_INPUT] {
        match &mut self.blocks[index as usize / BLOCK] {
            // SAFETY: as many bytes, for which no content and no alignment is asked.
            Some(block) => unsafe { &mut *block.inline[index as usize % BLOCK].as_mut_ptr().cast() },
            None => unreachable!("an entry is in use in a block that has been given back"),
        }
    }

    /// Puts bytes there: the input of a task, and with that of its entry; or its output.
    pub(super) fn put_inline(&mut self, index: u32, bytes: &[u8]) {
        let room = self.inline_room(index);
        room.iter_mut().zip(bytes).for_each(|(place, byte)| _ = place.write(*byte));
    }

    /// The input of a task that has not settled, where it is one that travels in a slot.
    pub(super) fn inline_input(&self, index: u32) -> &[u8] {
        self.blocks[index as usize / BLOCK].as_ref().map_or(&[], |block| block.input(index as usize % BLOCK))
    }

    /// How many items a worker may say that it has begun: those of a chunk; 1 where it is one call.
    pub(super) fn items_of(&self, index: u32) -> u64 {
        match self.get(index).kind {
            CallKind::Task | CallKind::Range => 1,
            CallKind::Items | CallKind::TaskItems => {
                Chunk::from_bytes(self.inline_input(index)).map_or(0, |chunk| chunk.count)
            }
        }
    }

    /// Those that are not free.
    pub(super) fn in_use(&self) -> impl Iterator<Item = &Entry> {
        let entries = self.blocks.iter().flatten().flat_map(|block| block.entries.iter());
        entries.filter(|entry| !matches!(entry.state, TaskState::Free(_)))
    }

    /// Enters a task: where, and by which id. -ENOMEM where there is no memory for more.
    #[inline(always)]
    pub(super) fn enter(&mut self, task: NewTask<'_>) -> Result<(u32, TaskId)> {
        let (index, entry) = self.open_entry()?;
        let (input, bytes) = (task.input, task.bytes);
        entry.fill(task);
        let id = entry.id_at(index);
        if matches!(input, InputPlace::Inline) && !bytes.is_empty() {
            self.put_inline(index, bytes);
        }
        Ok((index, id))
    }

    /// A free entry; -ENOMEM where there is no memory for more.
    #[cfg(test)]
    pub(super) fn open(&mut self) -> Result<u32> {
        self.open_entry().map(|(index, _)| index)
    }

    #[inline(always)]
    fn open_entry(&mut self) -> Result<(u32, &mut Entry)> {
        if self.open.is_empty() {
            self.add_block()?;
        }
        let Some(number) = self.open.last().copied() else { return Err(Code::errno(libc::ENOMEM).into()) };
        let Some(block) = &mut self.blocks[number as usize] else { unreachable!("an open block is there") };
        let at = block.free;
        let entry = &mut block.entries[at as usize];
        let TaskState::Free(next) = entry.state else { unreachable!("a free entry is free") };
        block.free = next;
        self.empty -= usize::from(block.used == 0);
        block.used += 1;
        if block.free == NO_ENTRY {
            self.open.pop();
        }
        Ok((number * BLOCK as u32 + at, entry))
    }

    #[cold]
    fn add_block(&mut self) -> Result<()> {
        let no_memory = || Error::from(Code::errno(libc::ENOMEM));
        let number = match self.vacant.last() {
            Some(number) => *number as usize,
            None => {
                self.blocks.try_reserve(1).map_err(|_| no_memory())?;
                self.blocks.len()
            }
        };
        // As many as there can be, so that to close an entry takes no memory.
        for numbers in [&mut self.open, &mut self.vacant] {
            let missing = (self.blocks.len() + 1).saturating_sub(numbers.len());
            numbers.try_reserve(missing).map_err(|_| no_memory())?;
        }
        if let Some(book) = &mut self.book {
            book.make_room((number + 1) * BLOCK)?;
        }
        let block = Some(Block::new(self.first_generation)?);
        match self.blocks.get_mut(number) {
            Some(place) => {
                *place = block;
                self.vacant.pop();
            }
            None => self.blocks.push(block),
        }
        self.enter_open(number);
        self.empty += 1;
        Ok(())
    }

    /// A block has a free entry from now on.
    #[cold]
    fn enter_open(&mut self, number: usize) {
        if let Some(block) = &mut self.blocks[number] {
            block.at = self.open.len() as u32;
            self.open.push(number as u32);
        }
    }

    /// Makes an entry free again. Its id is stale from now on.
    #[inline(always)]
    pub(super) fn close(&mut self, index: u32) {
        if let Some(book) = &self.book {
            book.closed(index);
        }
        let (number, at) = (index as usize / BLOCK, index as usize % BLOCK);
        let Some(block) = &mut self.blocks[number] else { return };
        let entry = &mut block.entries[at];
        entry.close(block.free);
        let was_full = block.free == NO_ENTRY;
        block.free = at as u32;
        block.used -= 1;
        let is_used = block.used > 0;
        if was_full {
            self.enter_open(number);
        }
        if is_used {
            return;
        }
        self.empty += 1;
        // One is kept: at its edge, a block would come and go with each task.
        if self.empty > 1 {
            self.give_back(number);
        }
    }

    #[cold]
    fn give_back(&mut self, number: usize) {
        let Some(block) = self.blocks[number].take() else { return };
        let latest = block.entries.iter().map(|entry| entry.generation).max().unwrap_or(1);
        self.first_generation = self.first_generation.max(latest);
        self.open.swap_remove(block.at as usize);
        if let Some(moved) = self.open.get(block.at as usize)
            && let Some(moved) = &mut self.blocks[*moved as usize]
        {
            moved.at = block.at;
        }
        self.vacant.push(number as u32);
        self.empty -= 1;
    }

    /// A task is queued: its entry is in use.
    #[cold]
    fn write_queued(&self, book: &Book, index: u32) {
        let entry = self.get(index);
        let may_have_run = entry.deaths > 0;
        match (entry.job(), Chunk::from_bytes(self.inline_input(index))) {
            (Some(map), Ok(chunk)) => {
                book.chunk_queued(index, map, (chunk.first, chunk.count), may_have_run);
            }
            _ => book.queued(index, entry.id_at(index).0, may_have_run),
        }
    }

    /// Whether a chunk with so many items done has come back whole. What of one that has not is still to run its map says, when it deals with it.
    pub(super) fn is_whole(&self, index: u32, items: u64) -> bool {
        let is_one_call = self.get(index).kind == CallKind::Range;
        let chunk = Chunk::from_bytes(self.inline_input(index));
        chunk.is_ok_and(|chunk| items >= if is_one_call { 1 } else { chunk.count })
    }

    /// A task is queued from now on.
    pub(super) fn set_queued(&mut self, index: u32) {
        self.get_mut(index).state = TaskState::Queued;
        if let Some(book) = &self.book {
            self.write_queued(book, index);
        }
    }

    /// All places that may be in use: a walk costs what there is now, not what there once was.
    pub(super) fn places(&self) -> impl Iterator<Item = u32> + use<> {
        let is_used = |block: &Option<Block>| block.as_ref().is_some_and(|block| block.used > 0);
        let used = self.blocks.iter().enumerate().filter(|(_, block)| is_used(block));
        let used: Vec<u32> = used.map(|(number, _)| number as u32).collect();
        used.into_iter().flat_map(|number| number * BLOCK as u32..(number + 1) * BLOCK as u32)
    }

    /// Whether no place is in use.
    pub(super) fn is_empty(&self) -> bool {
        self.vacant.len() + self.empty == self.blocks.len()
    }

    #[inline(always)]
    pub(super) fn id_of(&self, index: u32) -> TaskId {
        self.get(index).id_at(index)
    }

    /// The entry of an id that is in use and is no chunk, nor an item of a stream that has not been taken.
    pub(super) fn find(&self, id: TaskId) -> Result<u32> {
        let unknown = || Error::new(Code::ID, format!("the id {:#x} was never given, or was released", id.0));
        self.look_up(id).ok_or_else(unknown)
    }

    /// The place of a task, whosever it is, that has been sent there and has not settled.
    pub(super) fn sent_to(&self, id: u64, place: u32) -> Option<u32> {
        let index = (id as u32).checked_sub(1)?;
        if index as usize / BLOCK >= self.blocks.len() {
            return None;
        }
        let entry = self.get(index);
        (entry.state == TaskState::Sent(place) && u64::from(entry.generation) == id >> 32).then_some(index)
    }

    /// The same without a text, for where there need not be one.
    pub(super) fn look_up(&self, id: TaskId) -> Option<u32> {
        let index = (id.0 as u32).checked_sub(1)?;
        if index as usize / BLOCK >= self.blocks.len() {
            return None;
        }
        let entry = self.get(index);
        let in_use = match entry.state {
            TaskState::Free(_) => false,
            TaskState::Taken => entry.job().is_none(),
            TaskState::Queued | TaskState::Sent(_) | TaskState::Settled => entry.is_a_callers(),
        };
        (in_use && u64::from(entry.generation) == id.0 >> 32).then_some(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_unique_and_go_stale() {
        let mut ledger = Ledger::default();
        let mut seen = std::collections::HashSet::new();
        for _ in 0..3 {
            let indices: Vec<u32> = (0..1500).map(|_| ledger.open().unwrap()).collect();
            for index in &indices {
                ledger.get_mut(*index).state = TaskState::Queued;
                let id = ledger.id_of(*index);
                assert!(id.0 != 0 && seen.insert(id));
                assert_eq!(ledger.find(id).unwrap(), *index);
            }
            let id = ledger.id_of(indices[0]);
            indices.into_iter().for_each(|index| ledger.close(index));
            assert_eq!(ledger.find(id).unwrap_err().code(), Code::ID);
        }
        for garbage in [0, 1, u64::MAX, 1 << 32, 5000] {
            assert!(ledger.find(TaskId(garbage)).is_err(), "{garbage:#x}");
        }
    }

    #[test]
    fn a_walk_costs_what_there_is_and_not_what_there_was() {
        let mut ledger = Ledger::default();
        assert!(ledger.is_empty());
        let indices: Vec<u32> = (0..100 * BLOCK).map(|_| ledger.open().unwrap()).collect();
        assert_eq!(ledger.places().count(), 100 * BLOCK);
        let kept = indices[70 * BLOCK];
        indices.into_iter().filter(|index| *index != kept).for_each(|index| ledger.close(index));
        assert!(!ledger.is_empty());
        let places: Vec<u32> = ledger.places().collect();
        assert!(places.len() == BLOCK && places.contains(&kept));
        ledger.close(kept);
        assert!(ledger.is_empty() && ledger.places().next().is_none());
    }

    #[test]
    fn blocks_are_found_whatever_the_order_in_which_they_come_and_go() {
        let (mut ledger, mut indices, mut seed) = (Ledger::default(), Vec::new(), 3u64);
        for round in 0..40_000usize {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            // It fills up, and then becomes empty.
            if indices.is_empty() || (seed >> 33) % 100 < if round < 20_000 { 90 } else { 10 } {
                indices.push(ledger.open().unwrap());
            } else {
                let at = (seed >> 40) as usize % indices.len();
                ledger.close(indices.swap_remove(at));
            }
            if !round.is_multiple_of(97) {
                continue;
            }
            let has_free = |number: &u32| {
                let block = ledger.blocks[*number as usize].as_ref();
                block.is_some_and(|block| block.free != NO_ENTRY && ledger.open[block.at as usize] == *number)
            };
            assert!(ledger.open.iter().all(has_free));
            let open = ledger.blocks.iter().flatten().filter(|block| block.free != NO_ENTRY).count();
            assert_eq!(ledger.open.len(), open);
            assert_eq!(ledger.blocks.iter().filter(|block| block.is_none()).count(), ledger.vacant.len());
            assert!(ledger.vacant.iter().all(|number| ledger.blocks[*number as usize].is_none()));
        }
        indices.into_iter().for_each(|index| ledger.close(index));
        assert_eq!(ledger.blocks.iter().flatten().count(), 1);
    }

    #[test]
    fn memory_is_given_back_and_ids_stay_unique() {
        let mut ledger = Ledger::default();
        let mut seen = std::collections::HashSet::new();
        for round in 0..4 {
            let indices: Vec<u32> = (0..10 * BLOCK).map(|_| ledger.open().unwrap()).collect();
            assert_eq!(ledger.blocks.iter().flatten().count(), 10, "round {round}");
            for index in &indices {
                ledger.get_mut(*index).state = TaskState::Queued;
                assert!(seen.insert(ledger.id_of(*index)));
            }
            let id = ledger.id_of(indices[0]);
            indices.into_iter().for_each(|index| ledger.close(index));
            assert_eq!(ledger.blocks.iter().flatten().count(), 1);
            assert!(ledger.find(id).is_err() && ledger.in_use().count() == 0);
        }
    }
}
