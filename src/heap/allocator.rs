//! One process's allocator: all of its knowledge is private, only the bits of its slabs are shared.
//!
//! A block is allocated from the moment its bit in `taken` is set and until its bit is cleared there (by the owner) or
//! set in `returned` (by anybody else). Both are one store, so a death leaves every block either allocated or not.

use super::class::{self, Class};
use super::directory::{Entry, Kind};
use super::{EXTENT_BYTES, HOST, Heap, Owner};
use crate::error::{Error, Result};
use crate::prim::{AtomicU64, Ordering};
use std::os::fd::AsRawFd;

/// A slab of this process's. Its class is known here, so that nothing that is read from shared memory decides where
/// its blocks are.
#[derive(Debug)]
struct Slab {
    extent: u32,
    class: &'static Class,
    class_index: u8,
    /// Blocks that are taken, as far as is known: returned ones count until they are fetched.
    used: u32,
    /// The word from which to look for a free block.
    hint: usize,
    /// Listed among its class's full slabs.
    full: bool,
}

/// The slabs of one block size.
#[derive(Debug, Default)]
struct Bin {
    current: Option<usize>,
    partial: Vec<usize>,
    full: Vec<usize>,
    /// New slabs since the full ones were last asked for returned blocks.
    since_fetch: usize,
}

#[derive(Debug)]
pub(super) struct Allocator {
    slabs: Vec<Option<Slab>>,
    vacant: Vec<usize>,
    /// The slab that an extent belongs to, plus one; 0 for extents that are not in a slab of this process's.
    slab_of: Vec<u32>,
    bins: Vec<Bin>,
    /// Where the search for free extents begins.
    search_from: u32,
    /// Extents whose pages this process has seen reserved with its own eyes.
    reserved: Vec<bool>,
}

impl Allocator {
    pub(super) fn new() -> Allocator {
        Allocator {
            slabs: Vec::new(),
            vacant: Vec::new(),
            slab_of: Vec::new(),
            bins: (0..class::COUNT).map(|_| Bin::default()).collect(),
            search_from: 0,
            reserved: Vec::new(),
        }
    }

    pub(super) fn allocate(
        &mut self,
        heap: &Heap,
        size: usize,
        announce: impl FnOnce(usize),
    ) -> Result<usize> {
        if size > class::LARGEST {
            return self.allocate_large(heap, size, announce);
        }
        let index = Class::index_for(size);
        loop {
            let Some(slab) = self.bins[index].current else {
                self.refill(heap, index)?;
                continue;
            };
            let place = self.slabs[slab].as_mut().and_then(|slab| slab.find(heap));
            let Some((word, bit)) = place else {
                self.retire(index, slab);
                continue;
            };
            let Some(slab) = self.slabs[slab].as_mut() else { continue };
            let block = word * 64 + bit as usize;
            let address = heap.directory.address_of(slab.extent) + slab.class.first + block * slab.class.size;
            announce(address);
            slab.take(heap, word, bit);
            return Ok(address);
        }
    }

    /// The current slab has nothing left.
    fn retire(&mut self, index: usize, slab: usize) {
        self.bins[index].current = None;
        self.bins[index].full.push(slab);
        if let Some(slab) = self.slabs[slab].as_mut() {
            slab.full = true;
        }
    }

    /// Finds a slab with free blocks for a class: one with some, one with returned ones, or a new one.
    fn refill(&mut self, heap: &Heap, index: usize) -> Result<()> {
        if let Some(slab) = self.bins[index].partial.pop() {
            self.bins[index].current = Some(slab);
            return Ok(());
        }
        // Asking all full slabs costs as much as there are, so it is done once per that many new ones.
        if self.bins[index].since_fetch * 4 >= self.bins[index].full.len() {
            self.bins[index].since_fetch = 0;
            self.fetch_full(heap, index);
            if !self.bins[index].partial.is_empty() {
                return Ok(());
            }
        }
        let Some(class) = Class::get(index) else { return Err(Error::invalid("no such block size")) };
        let extent = self.claim(heap, class.span)?;
        let slab = Slab { extent, class, class_index: index as u8, used: 0, hint: 0, full: false };
        for word in 0..class.words() {
            slab.taken(heap, word).store(0, Ordering::Relaxed);
            slab.returned(heap, word).store(0, Ordering::Relaxed);
        }
        self.commit(heap, extent, class.span, Kind::Slab, index as u8);
        let slab = self.add(slab);
        self.bins[index].current = Some(slab);
        self.bins[index].since_fetch += 1;
        Ok(())
    }

    /// Moves the full slabs to which blocks have been returned to the partial ones.
    fn fetch_full(&mut self, heap: &Heap, index: usize) {
        for at in std::mem::take(&mut self.bins[index].full) {
            let Some(slab) = self.slabs[at].as_mut().filter(|slab| slab.full) else { continue };
            let fetched = slab.fetch(heap);
            if fetched > 0 {
                slab.full = false;
                self.bins[index].partial.push(at);
            } else {
                self.bins[index].full.push(at);
            }
        }
    }

    fn add(&mut self, slab: Slab) -> usize {
        let (extent, span) = (slab.extent as usize, slab.class.span as usize);
        let at = self.vacant.pop().unwrap_or_else(|| {
            self.slabs.push(None);
            self.slabs.len() - 1
        });
        if self.slab_of.len() < extent + span {
            self.slab_of.resize(extent + span, 0);
        }
        self.slab_of[extent..extent + span].fill(at as u32 + 1);
        self.slabs[at] = Some(slab);
        at
    }

    /// Gives the extents of empty slabs back. Whether there were any.
    fn trim(&mut self, heap: &Heap) -> bool {
        let mut any = false;
        for index in 0..class::COUNT {
            self.fetch_full(heap, index);
            for at in std::mem::take(&mut self.bins[index].partial) {
                if self.slabs[at].as_ref().is_some_and(|slab| slab.used == 0) {
                    self.discard(heap, at);
                    any = true;
                } else {
                    self.bins[index].partial.push(at);
                }
            }
        }
        any
    }

    fn discard(&mut self, heap: &Heap, at: usize) {
        let Some(slab) = self.slabs[at].take() else { return };
        let (extent, span) = (slab.extent as usize, slab.class.span as usize);
        self.slab_of[extent..extent + span].fill(0);
        self.vacant.push(at);
        heap.directory.set(slab.extent, Entry::claimed(heap.owner));
        self.release(heap, slab.extent, slab.class.span);
    }

    fn allocate_large(&mut self, heap: &Heap, size: usize, announce: impl FnOnce(usize)) -> Result<usize> {
        let extents = u32::try_from(size.div_ceil(EXTENT_BYTES)).unwrap_or(u32::MAX);
        let extent = self.claim(heap, extents)?;
        let address = heap.directory.address_of(extent);
        announce(address);
        self.commit(heap, extent, extents, Kind::Large, 0);
        Ok(address)
    }

    /// Claims `count` neighbouring extents.
    fn claim(&mut self, heap: &Heap, count: u32) -> Result<u32> {
        let fd = heap.fd.as_raw_fd();
        let mut trimmed = false;
        loop {
            let known = heap.directory.refresh(fd);
            let found = self.search(heap, self.search_from, known, count);
            if let Some(extent) = found.or_else(|| self.search(heap, 0, known, count)) {
                if let Err(error) = self.see_reserved(heap, extent, count) {
                    self.release(heap, extent, count);
                    return Err(error);
                }
                self.search_from = extent + count;
                return Ok(extent);
            }
            if !trimmed && self.trim(heap) {
                trimmed = true;
                continue;
            }
            heap.directory.grow(fd, count)?;
        }
    }

    /// The host makes sure that the pages of what it hands out are reserved: a hostile worker could have made the file
    /// longer without reserving anything. Only these extents: to go over all of a large heap takes long, and others
    /// wait for it in the kernel.
    fn see_reserved(&mut self, heap: &Heap, extent: u32, count: u32) -> Result<()> {
        let range = extent as usize..(extent + count) as usize;
        if heap.owner != HOST
            || self.reserved.get(range.clone()).is_some_and(|seen| seen.iter().all(|seen| *seen))
        {
            return Ok(());
        }
        heap.directory.reserve_extents(heap.fd.as_raw_fd(), extent..extent + count)?;
        if self.reserved.len() < range.end {
            self.reserved.resize(range.end, false);
        }
        self.reserved[range].fill(true);
        Ok(())
    }

    fn search(&self, heap: &Heap, from: u32, end: u32, count: u32) -> Option<u32> {
        let claimed = Entry::claimed(heap.owner);
        let mut run = 0;
        for extent in from..end {
            let free = heap.directory.get(extent).kind == Kind::Free;
            if free && heap.directory.exchange(extent, Entry::FREE, claimed) {
                run += 1;
                if run == count {
                    return Some(extent + 1 - count);
                }
            } else {
                self.release(heap, extent - run, run);
                run = 0;
            }
        }
        self.release(heap, end.saturating_sub(run), run);
        None
    }

    /// Turns claimed extents into a slab or a block; the head's store is the commit.
    fn commit(&self, heap: &Heap, extent: u32, count: u32, kind: Kind, class: u8) {
        for distance in 1..count {
            let tail = Entry { kind: Kind::Tail, class: 0, owner: heap.owner, aux: distance };
            heap.directory.set(extent + distance, tail);
        }
        heap.directory.set(extent, Entry { kind, class, owner: heap.owner, aux: count });
    }

    /// Frees extents whose head this process has claimed: what belongs to the head, the head last.
    fn release(&self, heap: &Heap, extent: u32, count: u32) {
        for distance in (0..count).rev() {
            let at = extent + distance;
            let entry = heap.directory.get(at);
            let own = entry.kind == Kind::Claimed && entry.owner == heap.owner;
            if own || (entry.kind == Kind::Tail && entry.aux == distance && distance > 0) {
                heap.directory.set(at, Entry::FREE);
            }
        }
    }

    pub(super) fn free(&mut self, heap: &Heap, address: usize) -> Result<()> {
        let directory = &heap.directory;
        let fd = heap.fd.as_raw_fd();
        let unknown = || Error::invalid(format!("{address:#x} is not the start of an allocated block"));
        let extent = directory.extent_at(address, fd).ok_or_else(unknown)?;
        if let Some(at) = self.slab_of.get(extent as usize).filter(|at| **at != 0) {
            return self.free_own(heap, *at as usize - 1, address).ok_or_else(unknown);
        }
        let mut head = extent;
        let mut entry = directory.get(extent);
        if entry.kind == Kind::Tail {
            head = extent.checked_sub(entry.aux).ok_or_else(unknown)?;
            entry = directory.get(head);
        }
        let offset = address - directory.address_of(head);
        match entry.kind {
            Kind::Slab => {
                let class = Class::get(usize::from(entry.class)).ok_or_else(unknown)?;
                let inside = extent - head < class.span && directory.reaches(head + class.span, fd);
                let block = class.block_at(offset).filter(|_| inside).ok_or_else(unknown)?;
                let slab =
                    Slab { extent: head, class, class_index: entry.class, used: 0, hint: 0, full: false };
                let (word, bit) = (block / 64, 1u64 << (block % 64));
                let taken = slab.taken(heap, word).load(Ordering::Acquire) & bit != 0;
                // Release: pairs with the owner's Acquire in `fetch`; what was done with the block comes before.
                if !taken || slab.returned(heap, word).fetch_or(bit, Ordering::AcqRel) & bit != 0 {
                    return Err(unknown());
                }
                Ok(())
            }
            Kind::Large if offset == 0 => {
                let whole = head.checked_add(entry.aux).is_some_and(|end| directory.reaches(end, fd));
                if !whole || !directory.exchange(head, entry, Entry::claimed(heap.owner)) {
                    return Err(unknown());
                }
                self.release(heap, head, entry.aux);
                self.search_from = self.search_from.min(head);
                Ok(())
            }
            _ => Err(unknown()),
        }
    }

    fn free_own(&mut self, heap: &Heap, at: usize, address: usize) -> Option<()> {
        let slab = self.slabs[at].as_mut()?;
        let block = slab.class.block_at(address - heap.directory.address_of(slab.extent))?;
        let (word, bit) = (block / 64, 1u64 << (block % 64));
        let returned = slab.returned(heap, word).load(Ordering::Relaxed);
        let taken = slab.taken(heap, word).load(Ordering::Relaxed);
        if taken & bit == 0 || returned & bit != 0 {
            return None;
        }
        slab.taken(heap, word).store(taken & !bit, Ordering::Release);
        slab.used = slab.used.saturating_sub(1);
        slab.hint = slab.hint.min(word);
        if slab.full {
            slab.full = false;
            let index = usize::from(slab.class_index);
            self.bins[index].partial.push(at);
        }
        Some(())
    }

    /// Takes over what an owner that has ended had: see [`Heap::reclaim`].
    pub(super) fn adopt(&mut self, heap: &Heap, owner: Owner) {
        let directory = &heap.directory;
        let mut extent = 0;
        while extent < directory.known_extents() {
            let entry = directory.get(extent);
            let own = self.slab_of.get(extent as usize).is_some_and(|slab| *slab != 0);
            let mut next = extent + 1;
            match entry.kind {
                Kind::Claimed if entry.owner == owner => directory.set(extent, Entry::FREE),
                Kind::Slab if entry.owner == owner && !own => {
                    let class = Class::get(usize::from(entry.class));
                    let class = class.filter(|class| extent + class.span <= directory.known_extents());
                    if let Some(class) = class {
                        self.adopt_slab(heap, extent, entry, class);
                        next = extent + class.span;
                    }
                }
                Kind::Tail => {
                    let head = extent.checked_sub(entry.aux).map(|head| directory.get(head));
                    let reached = head.is_some_and(|head| match head.kind {
                        Kind::Slab | Kind::Large => head.aux > entry.aux,
                        Kind::Claimed => head.owner != owner,
                        _ => false,
                    });
                    // The exchange fails where the extent has moved on since it was looked at.
                    if !reached {
                        directory.exchange(extent, entry, Entry::FREE);
                    }
                }
                _ => (),
            }
            extent = next;
        }
        self.search_from = 0;
    }

    fn adopt_slab(&mut self, heap: &Heap, extent: u32, entry: Entry, class: &'static Class) {
        let mine = Entry { owner: heap.owner, ..entry };
        let overlaps = (extent..extent + class.span)
            .any(|extent| self.slab_of.get(extent as usize).is_some_and(|slab| *slab != 0));
        if overlaps || !heap.directory.exchange(extent, entry, mine) {
            return;
        }
        let mut slab = Slab { extent, class, class_index: entry.class, used: 0, hint: 0, full: false };
        for word in 0..class.words() {
            let taken = slab.taken(heap, word).load(Ordering::Acquire) & class.mask(word);
            slab.used += taken.count_ones();
        }
        let index = usize::from(entry.class);
        let at = self.add(slab);
        self.bins[index].partial.push(at);
    }
}

/// Bytes of all allocated blocks, whoever has allocated them, as the shared words say at this moment.
pub(super) fn allocated_bytes(heap: &Heap) -> u64 {
    let known = heap.directory.known_extents();
    let mut bytes = 0;
    let mut extent = 0;
    while extent < known {
        let entry = heap.directory.get(extent);
        let class = Class::get(usize::from(entry.class)).filter(|class| class.span <= known - extent);
        let span = match (entry.kind, class) {
            (Kind::Slab, Some(class)) => {
                let slab = Slab { extent, class, class_index: entry.class, used: 0, hint: 0, full: false };
                bytes += slab.allocated_blocks(heap) * class.size as u64;
                class.span
            }
            (Kind::Large, _) => {
                let span = entry.aux.clamp(1, known - extent);
                bytes += u64::from(span) * EXTENT_BYTES as u64;
                span
            }
            _ => 1,
        };
        extent += span;
    }
    bytes
}

impl Slab {
    fn allocated_blocks(&self, heap: &Heap) -> u64 {
        let in_word = |word| {
            let taken = self.taken(heap, word).load(Ordering::Relaxed);
            let returned = self.returned(heap, word).load(Ordering::Relaxed);
            u64::from((taken & !returned & self.class.mask(word)).count_ones())
        };
        (0..self.class.words()).map(in_word).sum()
    }

    fn word_at(&self, heap: &Heap, word: usize) -> &AtomicU64 {
        let address = heap.directory.address_of(self.extent) + word * 8;
        // SAFETY: the words lie in front of the slab's first block (`Class::first`), in extents that exist; the heap
        // is borrowed for longer than the word.
        unsafe { &*std::ptr::with_exposed_provenance::<AtomicU64>(address) }
    }

    fn taken(&self, heap: &Heap, word: usize) -> &AtomicU64 {
        assert!(word < self.class.words());
        self.word_at(heap, word)
    }

    fn returned(&self, heap: &Heap, word: usize) -> &AtomicU64 {
        assert!(word < self.class.words());
        self.word_at(heap, self.class.words() + word)
    }

    /// A free block: its word and its bit.
    fn find(&mut self, heap: &Heap) -> Option<(usize, u32)> {
        for fetched in [false, true] {
            if fetched && self.fetch(heap) == 0 {
                return None;
            }
            while self.hint < self.class.words() {
                let word = self.hint;
                let free = !self.taken(heap, word).load(Ordering::Relaxed) & self.class.mask(word);
                if free != 0 {
                    return Some((word, free.trailing_zeros()));
                }
                self.hint += 1;
            }
        }
        None
    }

    fn take(&mut self, heap: &Heap, word: usize, bit: u32) {
        let taken = self.taken(heap, word);
        taken.store(taken.load(Ordering::Relaxed) | 1 << bit, Ordering::Release);
        self.used += 1;
    }

    /// Fetches the blocks that others have returned; how many there were.
    fn fetch(&mut self, heap: &Heap) -> u64 {
        let mut count = 0;
        for word in 0..self.class.words() {
            let returned = self.returned(heap, word);
            if returned.load(Ordering::Relaxed) == 0 {
                continue;
            }
            let taken = self.taken(heap, word).load(Ordering::Relaxed);
            let back = returned.load(Ordering::Acquire) & taken & self.class.mask(word);
            // First out of `taken`, then out of `returned`: a death in between leaves a returned bit for a block
            // that is free, which the next fetch drops, and never an allocated block without its return.
            self.taken(heap, word).store(taken & !back, Ordering::Release);
            returned.fetch_and(!back, Ordering::AcqRel);
            if back != 0 {
                count += u64::from(back.count_ones());
                self.hint = self.hint.min(word);
            }
        }
        self.used = self.used.saturating_sub(count as u32);
        count
    }
}
