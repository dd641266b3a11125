//! The host's ledger: what has been submitted, where it is, and what came of it. Private memory of the host; nothing
//! that a worker writes gets in here unchecked.
//!
//! ```text
//!   FREE      the next submit may have it
//!     | submit
//!   QUEUED    in the pool's queue ---- cancelled, or the pool breaks down ---+
//!     | pushed into a worker's ring         ^                                |
//!   SENT      in the ring of that worker    | recalled, or the worker died   |
//!     | the result was drained, or the      | before it had begun            |
//!     | worker died after it had begun -----+                                |
//!   SETTLED   has a result, which nobody has taken  <------------------------+
//!     | taken by wait or next
//!   TAKEN     the caller has the result and may look into it
//!     | released
//!   FREE      with the next generation: the old id means nothing any more
//! ```

use super::callbacks::Calls;
use super::chain::Links;
use super::channel_handoff::Kept;
use crate::channel::End;
use crate::error::{Code, Error, Result};
use crate::task::call::{CallKind, Chunk};
use crate::task::death::Death;
use crate::task::function::Callee;
use crate::task::ring::INLINE_INPUT;
use std::ffi::CString;
use std::mem::MaybeUninit;

/// Names a task: its place and the generation there. Never zero.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TaskId(pub u64);

/// Whether a task's function ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// To its end.
    Ran,
    /// For certain not.
    NotStarted,
    /// It had begun when its process died.
    MaybeRan,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TaskState {
    /// The next free one of its block.
    Free(u32),
    Queued,
    Sent(u32),
    Settled,
    Taken,
}

/// Where an input is.
#[derive(Clone, Copy, Debug)]
pub(super) enum InputPlace {
    Inline,
    /// In the heap; `owned` where the pool has put it there and frees it.
    Heap {
        address: usize,
        owned: bool,
    },
}

/// Where an output is.
#[derive(Clone, Copy, Debug)]
pub(super) enum OutputPlace {
    Inline,
    Heap(usize),
}

/// What came of a task.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) status: i32,
    pub(super) delivery: Delivery,
    pub(super) message: Option<CString>,
    pub(super) output: OutputPlace,
    pub(super) output_length: usize,
    pub(super) death: Option<Box<Death>>,
    /// Of a chunk: items that have finished, whether one more had begun, how long it took, how long its messages are.
    pub(super) items: u64,
    pub(super) culprit: bool,
    pub(super) elapsed_ns: u64,
    pub(super) messages_length: usize,
    /// Of a chunk: the item that was ended, and its status.
    pub(super) late: Option<(u64, i32)>,
}

impl Outcome {
    pub(super) fn new(status: i32, delivery: Delivery) -> Outcome {
        Outcome {
            status,
            delivery,
            message: None,
            output: OutputPlace::Inline,
            output_length: 0,
            death: None,
            items: 0,
            culprit: false,
            elapsed_ns: 0,
            messages_length: 0,
            late: None,
        }
    }

    /// For a task that was never given to a worker.
    pub(super) fn not_started(error: &Error) -> Outcome {
        let mut outcome = Outcome::new(error.code().0, Delivery::NotStarted);
        outcome.message = to_c_string(error.text().as_bytes());
        outcome
    }
}

/// Text for C: what follows a zero byte is lost.
pub(super) fn to_c_string(bytes: &[u8]) -> Option<CString> {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    // Where memory is short, a result without its text is better than a host without any result.
    let mut text = Vec::new();
    for chunk in bytes[..end].utf8_chunks() {
        let broken = if chunk.invalid().is_empty() { "" } else { "\u{fffd}" };
        text.try_reserve(chunk.valid().len() + broken.len() + 1).ok()?;
        text.extend_from_slice(chunk.valid().as_bytes());
        text.extend_from_slice(broken.as_bytes());
    }
    CString::new(text).ok()
}

/// What an entry keeps of an outcome: all of it but what only chunks have.
#[derive(Debug)]
pub(super) struct Settled {
    pub(super) status: i32,
    pub(super) delivery: Delivery,
    pub(super) message: Option<CString>,
    pub(super) output: OutputPlace,
    pub(super) output_length: usize,
    pub(super) death: Option<Box<Death>>,
}

impl From<Outcome> for Settled {
    fn from(outcome: Outcome) -> Settled {
        let Outcome { status, delivery, message, output, output_length, death, .. } = outcome;
        Settled { status, delivery, message, output, output_length, death }
    }
}

/// Bytes that travel in a slot; the input before the task has run, the output afterwards. They stand apart from the entries: their
/// pages are touched, and so had from the system, only where tasks have such bytes.
#[derive(Debug)]
#[repr(C, align(16))]
pub(super) struct InlineBytes(pub(super) [u8; INLINE_INPUT]);

/// What an entry is filled with.
#[derive(Debug)]
pub(super) struct NewTask<'a> {
    pub(super) kind: CallKind,
    pub(super) callee: Callee,
    pub(super) input: InputPlace,
    /// The input's bytes, wherever they are to travel.
    pub(super) bytes: &'a [u8],
    pub(super) user: usize,
    pub(super) deadline_ns: u64,
    pub(super) rare: Option<Box<Rare>>,
    pub(super) owner: Owner,
}

impl<'a> NewTask<'a> {
    /// One of which nothing more is said.
    pub(super) fn new(kind: CallKind, callee: Callee, input: InputPlace, bytes: &'a [u8]) -> NewTask<'a> {
        NewTask { kind, callee, input, bytes, user: 0, deadline_ns: 0, rare: None, owner: Owner::Caller }
    }
}

/// Whose a task is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// It was submitted by itself.
    Caller,
    /// It is a chunk of this map.
    Job(u32),
    /// It is an item of this stream.
    Stream(u32),
}

impl Owner {
    /// There are never so many maps or streams that it has no number.
    pub(super) fn job(number: usize) -> Owner {
        Owner::Job(number as u32)
    }

    pub(super) fn stream(number: usize) -> Owner {
        Owner::Stream(number as u32)
    }
}

/// What few tasks have, apart from the entries.
#[derive(Debug)]
pub(super) struct Rare {
    /// Until when it must have begun; 0 for never mind.
    pub(super) queue_due_ns: u64,
    /// How often it may still be run again after its process has died.
    pub(super) retries: u32,
    /// What its submitter wants to be told.
    pub(super) calls: Option<Calls>,
    /// An end of a channel goes with it; and that end, while it is the host's: see `channel_handoff`.
    pub(super) has_end: bool,
    pub(super) end: Kept,
    /// What came of a chunk.
    chunk: Option<Outcome>,
}

impl Rare {
    /// -ENOMEM where there is no memory for it.
    #[cold]
    pub(super) fn new(
        queue_due_ns: u64,
        retries: u32,
        calls: Option<Calls>,
        end: Option<End>,
    ) -> Result<Box<Rare>> {
        let mut one = Vec::new();
        one.try_reserve_exact(1).map_err(|_| Error::from(Code::errno(libc::ENOMEM)))?;
        one.push(Rare { queue_due_ns, retries, calls, has_end: end.is_some(), end: end.into(), chunk: None });
        // SAFETY: a boxed slice of one, which is laid out as that one is.
        Ok(unsafe { Box::from_raw(Box::into_raw(one.into_boxed_slice()).cast::<Rare>()) })
    }
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) generation: u32,
    pub(super) state: TaskState,
    /// Its place in the queue, or among the results that nobody has taken.
    pub(super) links: Links,
    pub(super) kind: CallKind,
    /// A wait is on for this very task, so `next` leaves it alone.
    pub(super) claimed: bool,
    /// That wait is for one task of a group, which has this number; 0 where it is not.
    pub(super) group: u32,
    pub(super) callee: Callee,
    pub(super) input: InputPlace,
    pub(super) input_length: usize,
    /// The caller's word, carried to the result.
    pub(super) user: usize,
    /// How long the call, or the call of each item, may take; 0 for as long as it likes.
    pub(super) deadline_ns: u64,
    /// How many processes have died with it.
    pub(super) deaths: u32,
    /// Grows with each worker that has come to nothing without having begun with it, as the worker says; see [`TO_BLAME`].
    suspicion: u8,
    /// It is cancelled, and settles as such if it has to be handed out again.
    pub(super) unwanted: bool,
    owner: Owner,
    /// Of a task that has settled and is no chunk.
    pub(super) outcome: Option<Settled>,
    pub(super) rare: Option<Box<Rare>>,
}

const _: () = assert!(size_of::<Entry>() <= 160);

impl Entry {
    fn free(generation: u32) -> Entry {
        Entry {
            generation,
            state: TaskState::Free(NO_ENTRY),
            links: Links::NONE,
            kind: CallKind::Task,
            claimed: false,
            group: 0,
            callee: Callee { module: 0, offset: 0 },
            input: InputPlace::Inline,
            input_length: 0,
            user: 0,
            deadline_ns: 0,
            deaths: 0,
            suspicion: 0,
            unwanted: false,
            owner: Owner::Caller,
            outcome: None,
            rare: None,
        }
    }

    /// Its id, as it stands at this place.
    pub(super) fn id_at(&self, index: u32) -> TaskId {
        TaskId(u64::from(self.generation) << 32 | u64::from(index + 1))
    }

    /// Whether it was submitted by itself: no chunk of a map and no item of a stream.
    pub(super) fn is_a_callers(&self) -> bool {
        self.owner == Owner::Caller
    }

    /// The map that the task is a chunk of.
    pub(super) fn job(&self) -> Option<usize> {
        if let Owner::Job(number) = self.owner { Some(number as usize) } else { None }
    }

    /// The stream that the task is an item of.
    pub(super) fn stream(&self) -> Option<usize> {
        if let Owner::Stream(number) = self.owner { Some(number as usize) } else { None }
    }

    /// Until when it must have begun; 0 for never mind.
    pub(super) fn queue_due_ns(&self) -> u64 {
        self.rare.as_ref().map_or(0, |rare| rare.queue_due_ns)
    }

    /// Whether an end of a channel goes with it.
    pub(super) fn has_end(&self) -> bool {
        self.rare.as_ref().is_some_and(|rare| rare.has_end)
    }

    /// That end, if the host has it; the host has it no more.
    pub(super) fn take_end(&mut self) -> Kept {
        self.rare.as_mut().map(|rare| std::mem::take(&mut rare.end)).unwrap_or_default()
    }

    /// What its submitter wants to be told.
    pub(super) fn calls(&self) -> Option<&Calls> {
        self.rare.as_ref().and_then(|rare| rare.calls.as_ref())
    }

    pub(super) fn calls_mut(&mut self) -> Option<&mut Calls> {
        self.rare.as_mut().and_then(|rare| rare.calls.as_mut())
    }

    /// More speaks against it; whether it is to blame.
    pub(super) fn suspect(&mut self, more: u32) -> bool {
        self.suspicion = self.suspicion.saturating_add(more.min(TO_BLAME) as u8);
        u32::from(self.suspicion) >= TO_BLAME
    }

    /// It has settled.
    pub(super) fn put_outcome(&mut self, outcome: Outcome) {
        self.state = TaskState::Settled;
        match (&mut self.rare, self.owner) {
            (Some(rare), Owner::Job(_)) => rare.chunk = Some(outcome),
            _ => self.outcome = Some(outcome.into()),
        }
    }

    /// What came of a chunk that has settled.
    pub(super) fn take_chunk_outcome(&mut self) -> Option<Outcome> {
        self.rare.as_mut().and_then(|rare| rare.chunk.take())
    }
}

/// A task is to blame for what becomes of its workers, although they say that they have not begun with it, when the suspicion
/// has grown to this: two that ended by themselves, three that did nothing, or so many that were killed, which may be anybody's
/// doing. Else a task that damages its worker's ring would go from worker to worker for ever.
pub(super) const TO_BLAME: u32 = 16;
pub(super) const ENDED_ITSELF: u32 = 8;
pub(super) const DID_NOTHING: u32 = 6;

/// How much a worker's end says against what was in front of it.
pub(super) fn suspicion_after(signal: i32) -> u32 {
    if signal == libc::SIGKILL { 1 } else { ENDED_ITSELF }
}

/// Entries do not move: results point into them.
const BLOCK: usize = 512;

const NO_ENTRY: u32 = u32::MAX;

#[derive(Debug)]
struct Block {
    entries: Box<[Entry; BLOCK]>,
    /// One for each entry.
    inline: Box<[MaybeUninit<InlineBytes>; BLOCK]>,
    /// The first free entry, by its place in here; each knows the next.
    free: u32,
    used: u32,
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
            Entry { state: TaskState::Free(next), ..Entry::free(generation) }
        }));
        let (Ok(entries), Ok(inline)) = (entries.try_into(), inline.try_into()) else {
            unreachable!("as many as were asked for")
        };
        Ok(Block { entries, inline, free: 0, used: 0 })
    }
}

#[derive(Debug)]
pub(super) struct Ledger {
    /// `None` where a block has been given back.
    blocks: Vec<Option<Block>>,
    /// The blocks that have a free entry, and how many of them have nothing else.
    open: Vec<u32>,
    empty: usize,
    /// No entry of a block that has been given back has got so far.
    first_generation: u32,
    /// What is read where a block has been given back: free.
    nobody: Box<Entry>,
    /// Submitted and not settled, chunks included.
    pub(super) outstanding: usize,
}

impl Default for Ledger {
    fn default() -> Ledger {
        Ledger {
            blocks: Vec::new(),
            open: Vec::new(),
            empty: 0,
            first_generation: 1,
            nobody: Box::new(Entry::free(0)),
            outstanding: 0,
        }
    }
}

impl Ledger {
    #[inline]
    pub(super) fn get(&self, index: u32) -> &Entry {
        match &self.blocks[index as usize / BLOCK] {
            Some(block) => &block.entries[index as usize % BLOCK],
            None => &self.nobody,
        }
    }

    /// One that is in use.
    #[inline]
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
        let entry = self.get(index);
        let length = if matches!(entry.input, InputPlace::Inline) { entry.input_length } else { 0 };
        if length == 0 {
            return &[];
        }
        // SAFETY: whoever has filled the entry has put as many bytes there, which are no more than there is room for.
        unsafe { std::slice::from_raw_parts(self.inline_pointer(index), length.min(INLINE_INPUT)) }
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

    /// Enters a task; -ENOMEM where there is no memory for more.
    #[inline]
    pub(super) fn enter(&mut self, task: NewTask<'_>) -> Result<u32> {
        let index = self.open()?;
        let NewTask { kind, callee, input, bytes, user, deadline_ns, rare, owner } = task;
        let entry = self.get_mut(index);
        (entry.kind, entry.callee, entry.user) = (kind, callee, user);
        (entry.input, entry.input_length) = (input, bytes.len());
        (entry.deadline_ns, entry.owner, entry.rare) = (deadline_ns, owner, rare);
        if let InputPlace::Inline = input {
            self.put_inline(index, bytes);
        }
        Ok(index)
    }

    /// A free entry; -ENOMEM where there is no memory for more.
    pub(super) fn open(&mut self) -> Result<u32> {
        if self.open.is_empty() {
            self.add_block()?;
        }
        let Some(number) = self.open.last().copied() else { return Err(Code::errno(libc::ENOMEM).into()) };
        let Some(block) = &mut self.blocks[number as usize] else { unreachable!("an open block is there") };
        let at = block.free;
        let TaskState::Free(next) = block.entries[at as usize].state else {
            unreachable!("a free entry is free")
        };
        block.free = next;
        self.empty -= usize::from(block.used == 0);
        block.used += 1;
        if block.free == NO_ENTRY {
            self.open.pop();
        }
        Ok(number * BLOCK as u32 + at)
    }

    fn add_block(&mut self) -> Result<()> {
        let no_memory = || Error::from(Code::errno(libc::ENOMEM));
        let number = match self.blocks.iter().position(Option::is_none) {
            Some(number) => number,
            None => {
                self.blocks.try_reserve(1).map_err(|_| no_memory())?;
                self.blocks.len()
            }
        };
        // As many as there can be, so that to close an entry takes no memory.
        let missing = (self.blocks.len() + 1).saturating_sub(self.open.len());
        self.open.try_reserve(missing).map_err(|_| no_memory())?;
        let block = Some(Block::new(self.first_generation)?);
        match self.blocks.get_mut(number) {
            Some(place) => *place = block,
            None => self.blocks.push(block),
        }
        self.open.push(number as u32);
        self.empty += 1;
        Ok(())
    }

    /// Makes an entry free again. Its id is stale from now on.
    pub(super) fn close(&mut self, index: u32) {
        let (number, at) = (index as usize / BLOCK, index as usize % BLOCK);
        let Some(block) = &mut self.blocks[number] else { return };
        let entry = &mut block.entries[at];
        entry.state = TaskState::Free(block.free);
        entry.generation = entry.generation.wrapping_add(1).max(1);
        (entry.outcome, entry.rare, entry.owner) = (None, None, Owner::Caller);
        (entry.claimed, entry.group, entry.unwanted, entry.suspicion) = (false, 0, false, 0);
        (entry.deadline_ns, entry.deaths) = (0, 0);
        if block.free == NO_ENTRY {
            self.open.push(number as u32);
        }
        block.free = at as u32;
        block.used -= 1;
        if block.used > 0 {
            return;
        }
        self.empty += 1;
        // One is kept: at its edge, a block would come and go with each task.
        if self.empty > 1 {
            self.give_back(number);
        }
    }

    fn give_back(&mut self, number: usize) {
        let Some(block) = self.blocks[number].take() else { return };
        let latest = block.entries.iter().map(|entry| entry.generation).max().unwrap_or(1);
        self.first_generation = self.first_generation.max(latest);
        self.open.retain(|open| *open as usize != number);
        self.empty -= 1;
    }

    /// All places.
    pub(super) fn places(&self) -> impl Iterator<Item = u32> + use<> {
        0..(self.blocks.len() * BLOCK) as u32
    }

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

    #[test]
    fn text_for_c_ends_at_a_zero() {
        assert_eq!(to_c_string(b"a\0b").unwrap(), c"a".to_owned());
        assert_eq!(to_c_string(b"\xff").unwrap().to_str().unwrap(), "\u{fffd}");
    }
}
