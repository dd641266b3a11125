//! A slab: extents full of blocks of one size, with two bits for each in front of them.
//!
//! A block is allocated from the moment its bit in `taken` is set and until its bit is cleared there (by the owner) or
//! set in `returned` (by anybody else). Both are one store, so a death leaves every block either allocated or not.

use super::Heap;
use super::class::Class;
use crate::prim::{AtomicU64, Ordering};

/// A slab of this process's. Its class is known here, so that nothing that is read from shared memory decides where
/// its blocks are.
#[derive(Debug)]
pub(super) struct Slab {
    pub extent: u32,
    pub class: &'static Class,
    pub class_index: u8,
    /// Listed among its class's full slabs.
    pub full: bool,
    /// Its place among its class's partial slabs.
    pub partial_at: Option<usize>,
    /// Blocks that are taken, as far as is known: returned ones count until they are fetched.
    pub used: u32,
    /// The word from which to look for a free block.
    hint: usize,
    /// Of a slab that was another process's: the blocks that it had when it died.
    pub left: Option<Box<Left>>,
}

/// What a process had allocated in a slab when it died, and nobody has freed since.
#[derive(Debug)]
pub(super) struct Left {
    pub pid: i32,
    pub bits: Vec<u64>,
}

impl Slab {
    pub(super) fn new(extent: u32, class: &'static Class, class_index: u8) -> Slab {
        Slab { extent, class, class_index, full: false, partial_at: None, used: 0, hint: 0, left: None }
    }

    /// A slab that this process has claimed, before it is committed.
    pub(super) fn clear(&self, heap: &Heap) {
        for word in 0..self.class.words() {
            self.taken(heap, word).store(0, Ordering::Relaxed);
            self.returned(heap, word).store(0, Ordering::Relaxed);
        }
    }

    #[inline(always)]
    pub(super) fn address_of(&self, heap: &Heap, block: usize) -> usize {
        heap.directory.address_of(self.extent) + self.class.first + block * self.class.size
    }

    #[inline(always)]
    fn word_at(&self, heap: &Heap, word: usize) -> &AtomicU64 {
        let address = heap.directory.address_of(self.extent) + word * 8;
        // SAFETY: the words lie in front of the slab's first block (`Class::first`), in extents that exist; the heap
        // is borrowed for longer than the word.
        unsafe { &*std::ptr::with_exposed_provenance::<AtomicU64>(address) }
    }

    #[inline(always)]
    pub(super) fn taken(&self, heap: &Heap, word: usize) -> &AtomicU64 {
        assert!(word < self.class.words());
        self.word_at(heap, word)
    }

    #[inline(always)]
    pub(super) fn returned(&self, heap: &Heap, word: usize) -> &AtomicU64 {
        assert!(word < self.class.words());
        self.word_at(heap, self.class.words() + word)
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
        self.used += 1;
    }

    /// Frees a block of this process's own slab; whether it was allocated.
    #[inline(always)]
    pub(super) fn give_back(&mut self, heap: &Heap, block: usize) -> bool {
        let (word, bit) = (block / 64, 1u64 << (block % 64));
        let returned = self.returned(heap, word).load(Ordering::Relaxed);
        let taken = self.taken(heap, word).load(Ordering::Relaxed);
        if taken & bit == 0 || returned & bit != 0 {
            return false;
        }
        self.taken(heap, word).store(taken & !bit, Ordering::Release);
        self.used = self.used.saturating_sub(1);
        self.hint = self.hint.min(word);
        if let Some(left) = &mut self.left {
            left.bits[word] &= !bit;
        }
        true
    }

    /// Returns a block of another process's slab; whether it was allocated.
    pub(super) fn hand_back(&self, heap: &Heap, block: usize) -> bool {
        let (word, bit) = (block / 64, 1u64 << (block % 64));
        let taken = self.taken(heap, word).load(Ordering::Acquire) & bit != 0;
        // Release: pairs with the owner's Acquire in `fetch`; what was done with the block comes before.
        taken && self.returned(heap, word).fetch_or(bit, Ordering::AcqRel) & bit == 0
    }

    /// Fetches the blocks that others have returned; how many there were.
    pub(super) fn fetch(&mut self, heap: &Heap) -> u32 {
        let mut count = 0;
        for word in 0..self.class.words() {
            let returned = self.returned(heap, word).load(Ordering::Acquire);
            if returned == 0 {
                continue;
            }
            let taken = self.taken(heap, word).load(Ordering::Relaxed);
            let back = returned & taken & self.class.mask(word);
            // First out of `taken`, then out of `returned`: a death in between leaves a returned bit for a block that
            // is free, which is dropped here too, and never an allocated block without its return.
            self.taken(heap, word).store(taken & !back, Ordering::Release);
            self.returned(heap, word).fetch_and(!returned, Ordering::AcqRel);
            if let Some(left) = &mut self.left {
                left.bits[word] &= !back;
            }
            if back != 0 {
                count += back.count_ones();
                self.hint = self.hint.min(word);
            }
        }
        self.used = self.used.saturating_sub(count);
        count
    }

    /// Counts anew what is taken, in a slab that another process has left.
    pub(super) fn take_over(&mut self, heap: &Heap, pid: i32) {
        // A death in `fetch` may have left returned bits of free blocks: they must go before a block is taken here.
        self.fetch(heap);
        let taken = |word: usize| self.taken(heap, word).load(Ordering::Acquire) & self.class.mask(word);
        let bits: Vec<u64> = (0..self.class.words()).map(taken).collect();
        self.used = bits.iter().map(|word| word.count_ones()).sum();
        self.left = (self.used > 0).then(|| Box::new(Left { pid, bits }));
    }
}
