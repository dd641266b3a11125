//! A slab: extents full of blocks of one size, with two bits for each in front of them.
//!
//! A block is allocated from the moment its bit in `taken` is set and until its bit is cleared there (by the owner of a
//! slab that is SLAB) or set in `returned` (by anybody). Both are one store, so a death leaves every block either
//! allocated or not.
//!
//! While the slab is LOOSE nobody touches `taken`, and bits of `returned` are only set. So who finds it without blocks,
//! and then takes it by a compare-exchange of the first word as it was before, generation and all, takes no block along.

use super::Heap;
use super::class::Class;
use super::directory::Directory;
use super::entry::Entry;
use crate::sys::prim::{AtomicU64, Ordering};

/// Where its owner has a slab listed, and at which place of the list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Listed {
    /// Nowhere: the owner allocates from it. The only one of its class that is SLAB and not LOOSE.
    Current,
    /// With blocks that are known to be free.
    Partial(usize),
    /// With none.
    Full(usize),
}

/// A slab as a process knows it. Its class is known here, so that nothing that is read from shared memory decides where
/// its blocks are.
#[derive(Debug)]
pub(super) struct Slab {
    pub extent: u32,
    pub class: &'static Class,
    pub class_index: u8,
    pub listed: Listed,
    /// The first word as this process has left it; another there means that it is this process's no more.
    pub entry: Entry,
    /// Where it begins.
    start: usize,
    /// Blocks whose bits are not set in `taken`.
    pub free: u32,
    /// The word from which to look for a free block.
    hint: usize,
    /// The words in which blocks are known to have been returned.
    pub returned_in: u64,
    /// The block that was freed last in here, and its address; 0 where that has been given out again. A hint, like `hint`: its bit says
    /// whether it is free. It is at hand without a search that begins with the last store to the bits.
    last: usize,
    last_block: u32,
}

impl Slab {
    pub(super) fn new(directory: &Directory, extent: u32, class: &'static Class, entry: Entry) -> Slab {
        Slab {
            extent,
            class,
            class_index: entry.class,
            listed: Listed::Current,
            entry,
            start: directory.address_of(extent),
            free: class.blocks,
            hint: 0,
            returned_in: 0,
            last: 0,
            last_block: 0,
        }
    }

    /// The slab that begins at an extent as its first word says.
    pub(super) fn at(directory: &Directory, extent: u32, entry: Entry, known: u32) -> Option<Slab> {
        let class = Class::get(usize::from(entry.class)).filter(|_| entry.is_slab())?;
        (extent + class.span <= known).then(|| Slab::new(directory, extent, class, entry))
    }

    /// A slab that this process has claimed, before it is committed.
    pub(super) fn clear(&self, heap: &Heap) {
        for word in 0..self.class.words() {
            self.taken(heap, word).store(0, Ordering::Relaxed);
            self.returned(heap, word).store(0, Ordering::Relaxed);
        }
    }

    #[inline(always)]
    pub(super) fn address_of(&self, block: usize) -> usize {
        self.start + self.class.first + block * self.class.size
    }

    /// The block that begins at an address.
    #[inline(always)]
    pub(super) fn block_at(&self, address: usize) -> Option<usize> {
        self.class.block_at(address.wrapping_sub(self.start))
    }

    /// The `taken` word that a block's bit is in, or so many words behind that.
    ///
    /// # Safety
    /// `word` is below twice the class's number of words.
    #[inline(always)]
    unsafe fn word_at<'a>(&self, _heap: &'a Heap, word: usize) -> &'a AtomicU64 {
        // SAFETY: by the contract above the word lies in front of the slab's first block (`Class::first`), in extents that
        // exist. They are mapped for as long as the heap.
        unsafe { &*std::ptr::with_exposed_provenance::<AtomicU64>(self.start + word * 8) }
    }

    #[inline(always)]
    pub(super) fn taken<'a>(&self, heap: &'a Heap, word: usize) -> &'a AtomicU64 {
        assert!(word < self.class.words());
        // SAFETY: asserted.
        unsafe { self.word_at(heap, word) }
    }

    #[inline(always)]
    pub(super) fn returned<'a>(&self, heap: &'a Heap, word: usize) -> &'a AtomicU64 {
        assert!(word < self.class.words());
        // SAFETY: asserted.
        unsafe { self.word_at(heap, self.class.words() + word) }
    }

    /// The bits of a word's blocks that are allocated. Two loads: a block that is returned in between counts.
    pub(super) fn allocated(&self, heap: &Heap, word: usize) -> u64 {
        let taken = self.taken(heap, word).load(Ordering::Acquire);
        taken & !self.returned(heap, word).load(Ordering::Acquire) & self.class.mask(word)
    }

    /// A free block: its word and its bit.
    #[inline(always)]
    pub(super) fn find(&mut self, heap: &Heap) -> Option<(usize, u32)> {
        while self.hint < self.class.words() {
            let word = self.hint;
            let free = !self.taken(heap, word).load(Ordering::Relaxed) & self.class.mask(word);
            if free != 0 {
                return Some((word, free.trailing_zeros()));
            }
            self.hint += 1;
        }
        None
    }

    /// Takes a block that is free; the store is the commit.
    #[inline(always)]
    pub(super) fn take(&mut self, heap: &Heap, word: usize, bit: u32) {
        let taken = self.taken(heap, word);
        taken.store(taken.load(Ordering::Relaxed) | 1 << bit, Ordering::Release);
        self.free = self.free.saturating_sub(1);
    }

    /// Takes the block that was freed last, where it is still free.
    #[inline(always)]
    pub(super) fn take_last(&mut self, heap: &Heap) -> Option<usize> {
        let (last, block) = (std::mem::take(&mut self.last), self.last_block);
        if last == 0 {
            return None;
        }
        // SAFETY: `give_back` has noted the block, which is one of this slab's.
        let taken = unsafe { self.word_at(heap, block as usize / 64) };
        let (bits, bit) = (taken.load(Ordering::Relaxed), 1u64 << (block % 64));
        if bits & bit != 0 {
            return None;
        }
        taken.store(bits | bit, Ordering::Release);
        self.free = self.free.saturating_sub(1);
        Some(last)
    }

    /// Frees the block at an address of the current slab; whether it was one, and allocated.
    #[inline(always)]
    pub(super) fn give_back(&mut self, heap: &Heap, block: usize, address: usize) -> bool {
        let (word, bit) = (block / 64, 1u64 << (block % 64));
        if word >= self.class.words() {
            return false; // Which no block's is.
        }
        // SAFETY: just looked at.
        let (taken_word, returned) =
            unsafe { (self.word_at(heap, word), self.word_at(heap, self.class.words() + word)) };
        let taken = taken_word.load(Ordering::Relaxed);
        if taken & bit == 0 || returned.load(Ordering::Relaxed) & bit != 0 {
            return false;
        }
        taken_word.store(taken & !bit, Ordering::Release);
        self.free = (self.free + 1).min(self.class.blocks);
        self.hint = self.hint.min(word);
        (self.last, self.last_block) = (address, block as u32);
        true
    }

    /// Returns a block of whatever slab: whether it was allocated, and if so, whether its word has no block any more.
    pub(super) fn hand_back(&self, heap: &Heap, block: usize) -> Option<bool> {
        let (word, bit) = (block / 64, 1u64 << (block % 64));
        let taken = self.taken(heap, word).load(Ordering::Acquire);
        if taken & bit == 0 {
            return None;
        }
        // AcqRel: pairs with the owner's Acquire in `fetch`, and with `is_empty` of whoever takes the slab back; what was
        // done with the block comes before.
        let returned = self.returned(heap, word).fetch_or(bit, Ordering::AcqRel);
        (returned & bit == 0).then_some(taken & !returned == bit)
    }

    /// Whether no block of it is allocated.
    pub(super) fn is_empty(&self, heap: &Heap) -> bool {
        (0..self.class.words()).all(|word| self.allocated(heap, word) == 0)
    }

    /// Blocks of it that are allocated.
    pub(super) fn count(&self, heap: &Heap) -> u64 {
        (0..self.class.words()).map(|word| u64::from(self.allocated(heap, word).count_ones())).sum()
    }

    /// Notes in which words blocks have been returned; whether there are any.
    pub(super) fn look_for_returned(&mut self, heap: &Heap) -> bool {
        for word in 0..self.class.words() {
            if self.returned(heap, word).load(Ordering::Relaxed) != 0 {
                self.returned_in |= 1 << word;
            }
        }
        self.returned_in != 0
    }

    /// Fetches, into the current slab, the blocks that have been returned in the words that are noted.
    pub(super) fn fetch(&mut self, heap: &Heap) {
        let mut words = std::mem::take(&mut self.returned_in);
        while words != 0 {
            let word = words.trailing_zeros() as usize;
            words &= words - 1;
            let returned = self.returned(heap, word).load(Ordering::Acquire);
            let taken = self.taken(heap, word).load(Ordering::Relaxed);
            let back = returned & taken & self.class.mask(word);
            // First out of `taken`, then out of `returned`: a death in between leaves a returned bit for a block that
            // is free, which says nothing, and never an allocated block without its return.
            self.taken(heap, word).store(taken & !back, Ordering::Release);
            self.returned(heap, word).fetch_and(!returned, Ordering::AcqRel);
            self.free = (self.free + back.count_ones()).min(self.class.blocks);
            if back != 0 {
                self.hint = self.hint.min(word);
            }
        }
    }
}
