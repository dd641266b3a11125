//! One allocator: all of its knowledge is private, only the directory and the bits of slabs are shared.
//!
//! It allocates from one slab of each size at a time, its current one. The others it has let go of: they are LOOSE, so
//! that whoever returns their last block, or needs memory, takes them back without asking. It remembers them, and takes
//! one up again when it knows of blocks that are free there, unless its first word is another by then.
//!
//! What it remembers grows with its slabs, in one place: `make_room` asks for the memory before a new slab is claimed, so that the
//! slab can be moved from list to list and forgotten without any. Nothing else needs memory of the process's own, freeing least of all.

use super::EXTENT_BYTES;
use super::Heap;
use super::class::{self, Class};
use super::entry::{Entry, EntryKind, Owner};
use super::extents::Hints;
use super::runs;
use super::slab::{Listed, Slab};
use crate::error::{Error, Result};
use crate::sys::clock::now_ns;
use crate::sys::reserve;

/// So many slabs without a free block are tried, before that is an error.
const FOUND_IN_VAIN: u32 = 64;

/// The slabs of one block size. Each list has room for all of them.
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
    pub(super) owner: Owner,
    slabs: Vec<Option<Slab>>,
    /// The places that are `None`; there is room for all.
    vacant: Vec<usize>,
    /// The slab that an extent belongs to, plus one; 0 for extents that are not in a slab of this allocator's.
    slab_of: Vec<u32>,
    /// Empty before the first block.
    bins: Vec<Bin>,
    pub(super) hints: Hints,
    /// Where the search for free extents begins.
    pub(super) search_from: u32,
    /// By how many extents this allocator has freed more than it has taken since the free ones were last counted.
    pub(super) freed: u32,
    /// How many free extents stayed reserved then.
    pub(super) kept: u32,
    /// The longest block that was freed lately.
    pub(super) largest: u32,
    /// Of the slab that was made or taken up last. One number for all slabs: one that is taken back and made anew at the same extents
    /// is another, as is one that is taken up again.
    generation: u32,
}

impl Allocator {
    pub(super) fn new(owner: Owner) -> Allocator {
        Allocator {
            owner,
            slabs: Vec::new(),
            vacant: Vec::new(),
            slab_of: Vec::new(),
            bins: Vec::new(),
            hints: Hints::default(),
            search_from: 0,
            freed: 0,
            kept: 0,
            largest: 0,
            generation: first_generation(owner),
        }
    }

    fn next_generation(&mut self) -> u32 {
        self.generation = self.generation.wrapping_add(1);
        self.generation
    }

    #[inline]
    pub(super) fn allocate(
        &mut self,
        heap: &Heap,
        size: usize,
        announce: impl FnMut(usize),
    ) -> Result<usize> {
        if size > class::LARGEST {
            return self.allocate_large(heap, size, 1, announce);
        }
        self.allocate_small(heap, Class::index_for(size), announce)
    }

    /// Where that takes no more than setting a bit, which leaves the slab with another block that is free.
    #[inline(always)]
    pub(super) fn allocate_quickly(&mut self, heap: &Heap, size: usize) -> Option<usize> {
        if size > class::LARGEST {
            return None;
        }
        let slab = self.slabs.get_mut(self.bins.get(Class::index_for(size))?.current?)?.as_mut()?;
        if slab.free <= 1 {
            return None;
        }
        if let Some(last) = slab.take_last(heap) {
            return Some(last);
        }
        let (word, bit) = slab.find(heap)?;
        slab.take(heap, word, bit);
        Some(slab.address_of(word * 64 + bit as usize))
    }

    #[inline(always)]
    pub(super) fn free_quickly(&mut self, heap: &Heap, address: usize) -> bool {
        let Some((at, block)) = self.find_own(heap, address) else { return false };
        let Some(slab) = self.slabs.get_mut(at).and_then(Option::as_mut) else { return false };
        slab.listed == Listed::Current && slab.give_back(heap, block, address)
    }

    /// `alignment` is a power of two.
    pub(super) fn allocate_aligned(&mut self, heap: &Heap, size: usize, alignment: usize) -> Result<usize> {
        match Class::index_aligned(size, alignment) {
            Some(index) => self.allocate_small(heap, index, |_| ()),
            None => {
                let extents = u32::try_from(alignment.div_ceil(EXTENT_BYTES)).unwrap_or(u32::MAX);
                self.allocate_large(heap, size, extents, |_| ())
            }
        }
    }

    fn allocate_small(
        &mut self,
        heap: &Heap,
        index: usize,
        mut announce: impl FnMut(usize),
    ) -> Result<usize> {
        if self.bins.is_empty() {
            reserve::grow(&mut self.bins, class::COUNT)?;
            self.bins.resize_with(class::COUNT, Bin::default);
        }
        // A slab that is found, fetched into or made has a block, unless somebody hostile has taken it in the bits.
        for _ in 0..FOUND_IN_VAIN {
            let Some(at) = self.bins[index].current else {
                self.refill(heap, index)?;
                continue;
            };
            let Some(slab) = self.slabs[at].as_mut() else { return Err(Error::invalid("no such slab")) };
            let Some((word, bit)) = slab.find(heap) else {
                if slab.look_for_returned(heap) {
                    slab.fetch(heap);
                } else {
                    slab.free = 0;
                    self.let_go(heap, at);
                }
                continue;
            };
            let address = slab.address_of(word * 64 + bit as usize);
            announce(address);
            slab.take(heap, word, bit);
            // Blocks that others have returned are looked for before it is let go of, unless there are others at hand.
            if slab.free == 0 && self.bins[index].partial.is_empty() && slab.look_for_returned(heap) {
                slab.fetch(heap);
            }
            if slab.free == 0 {
                self.let_go(heap, at);
            }
            return Ok(address);
        }
        Err(Error::errno(libc::ENOMEM, "no slab has the blocks that it should have"))
    }

    /// The current slab has nothing left, or is not to be the current one any more.
    fn let_go(&mut self, heap: &Heap, at: usize) {
        let Some(slab) = self.slabs[at].as_mut() else { return };
        let index = usize::from(slab.class_index);
        let (before, extent) = (slab.entry, slab.extent);
        slab.entry = before.loosened();
        self.bins[index].current = None;
        let has_free = slab.free > 0;
        self.list(at, if has_free { Listed::Partial(0) } else { Listed::Full(0) });
        if !heap.directory.exchange(extent, before, before.loosened()) {
            return self.forget(at); // Somebody hostile has written there.
        }
        // Whoever returned the last block while this one was about to let go has left that to do.
        self.take_back(heap, extent);
    }

    /// Takes a slab up that this allocator has let go of; whether it still is one.
    fn take_up(&mut self, heap: &Heap, at: usize) -> bool {
        let generation = self.next_generation();
        let Some(slab) = self.slabs[at].as_mut() else { return false };
        let (extent, index, before) = (slab.extent, usize::from(slab.class_index), slab.entry);
        let fastened = before.fastened(generation);
        if !heap.directory.exchange(extent, before, fastened) {
            self.forget(at);
            return false;
        }
        slab.entry = fastened;
        slab.fetch(heap);
        self.unlist(at);
        self.bins[index].current = Some(at);
        true
    }

    /// Puts a slab into a list, at its end. There is room: see `make_room`.
    fn list(&mut self, at: usize, listed: Listed) {
        let Some(slab) = self.slabs[at].as_mut() else { return };
        let bin = &mut self.bins[usize::from(slab.class_index)];
        slab.listed = match listed {
            Listed::Current => Listed::Current,
            Listed::Partial(_) => {
                bin.partial.push(at);
                Listed::Partial(bin.partial.len() - 1)
            }
            Listed::Full(_) => {
                bin.full.push(at);
                Listed::Full(bin.full.len() - 1)
            }
        };
    }

    /// Takes a slab out of the list that it is in.
    fn unlist(&mut self, at: usize) {
        let Some(slab) = self.slabs[at].as_mut() else { return };
        let listed = std::mem::replace(&mut slab.listed, Listed::Current);
        let bin = &mut self.bins[usize::from(slab.class_index)];
        let (list, place) = match listed {
            Listed::Current => {
                bin.current = bin.current.filter(|current| *current != at);
                return;
            }
            Listed::Partial(place) => (&mut bin.partial, place),
            Listed::Full(place) => (&mut bin.full, place),
        };
        list.swap_remove(place);
        if let Some(moved) = list.get(place)
            && let Some(slab) = self.slabs[*moved].as_mut()
        {
            slab.listed = listed;
        }
    }

    /// The slab is this allocator's no more.
    fn forget(&mut self, at: usize) {
        self.unlist(at);
        let Some(slab) = self.slabs[at].take() else { return };
        let extents = slab.extent as usize..(slab.extent + slab.class.span) as usize;
        for owner in &mut self.slab_of[extents] {
            if *owner == at as u32 + 1 {
                *owner = 0;
            }
        }
        self.vacant.push(at);
    }

    /// Finds a slab with free blocks for a class: one with some, one with returned ones, or a new one.
    #[cold]
    fn refill(&mut self, heap: &Heap, index: usize) -> Result<()> {
        // Asking all full slabs costs as much as there are, so it is done once per half that many new ones.
        let bin = &mut self.bins[index];
        if bin.partial.is_empty() && bin.since_fetch * 2 >= bin.full.len() {
            bin.since_fetch = 0;
            self.look_at_full(heap, index);
        }
        while let Some(at) = self.bins[index].partial.last().copied() {
            if self.take_up(heap, at) {
                return Ok(());
            }
        }
        let Some(class) = Class::get(index) else { return Err(Error::invalid("no such block size")) };
        self.make_room(index)?;
        let extent = self.claim(heap, class.span)?;
        if let Err(error) = self.reach((extent + class.span) as usize) {
            self.release(heap, extent, class.span);
            return Err(error);
        }
        let entry = Entry::slab(self.owner, index as u8, self.next_generation());
        let slab = Slab::new(&heap.directory, extent, class, entry);
        slab.clear(heap);
        for distance in 1..class.span {
            heap.directory.set(extent + distance, Entry::tail(distance));
        }
        heap.directory.set(extent, entry);
        let at = self.add(slab);
        self.bins[index].current = Some(at);
        self.bins[index].since_fetch += 1;
        Ok(())
    }

    /// Moves the full slabs to which blocks have been returned to the partial ones.
    fn look_at_full(&mut self, heap: &Heap, index: usize) {
        // Backwards: into the place of one that is taken out comes the last, which was looked at.
        for place in (0..self.bins[index].full.len()).rev() {
            let Some(&at) = self.bins[index].full.get(place) else { continue };
            let Some(slab) = self.slabs[at].as_mut() else { continue };
            if heap.directory.get(slab.extent) != slab.entry {
                self.forget(at);
            } else if slab.look_for_returned(heap) {
                self.unlist(at);
                self.list(at, Listed::Partial(0));
            }
        }
    }

    /// Memory for one more slab of a size. Nothing is claimed yet.
    fn make_room(&mut self, index: usize) -> Result<()> {
        let bin = &mut self.bins[index];
        let (partial, full) = (bin.partial.len(), bin.full.len());
        let all = partial + full + usize::from(bin.current.is_some()) + 1;
        reserve::grow(&mut bin.partial, all - partial)?;
        reserve::grow(&mut bin.full, all - full)?;
        let (slabs, vacant) = (self.slabs.len(), self.vacant.len());
        let places = slabs + usize::from(vacant == 0);
        reserve::grow(&mut self.vacant, places - vacant)?;
        reserve::grow(&mut self.slabs, places - slabs)
    }

    /// Has an entry for each extent as far as that.
    fn reach(&mut self, end: usize) -> Result<()> {
        let missing = end.saturating_sub(self.slab_of.len());
        reserve::grow(&mut self.slab_of, missing)?;
        self.slab_of.resize(self.slab_of.len() + missing, 0);
        Ok(())
    }

    /// There is room for it.
    fn add(&mut self, slab: Slab) -> usize {
        let extents = slab.extent as usize..(slab.extent + slab.class.span) as usize;
        // Slabs that were here and have been taken back by others.
        for extent in extents.clone() {
            if let Some(at) = self.slab_of[extent].checked_sub(1) {
                self.forget(at as usize);
            }
        }
        let at = self.vacant.pop().unwrap_or_else(|| {
            self.slabs.push(None);
            self.slabs.len() - 1
        });
        self.slab_of[extents].fill(at as u32 + 1);
        self.slabs[at] = Some(slab);
        at
    }

    /// Lets go of all current slabs, so that whoever needs their memory can have it.
    pub(super) fn let_go_of_all(&mut self, heap: &Heap) {
        for index in 0..self.bins.len() {
            if let Some(at) = self.bins[index].current {
                self.let_go(heap, at);
            }
        }
    }

    /// Takes back the slab that begins at an extent, whoever made it, if it is LOOSE and has no blocks.
    pub(super) fn take_back(&mut self, heap: &Heap, extent: u32) {
        let known = heap.directory.known_extents();
        let entry = heap.directory.get(extent);
        let Some(slab) =
            Slab::at(&heap.directory, extent, entry, known).filter(|_| entry.kind == EntryKind::Loose)
        else {
            return;
        };
        let claimed = Entry::claimed(self.owner, slab.class.span);
        // Between the look at the bits and the exchange nobody has taken it up, or taken it back and made one here again: that would
        // be another generation.
        if !slab.is_empty(heap) || !heap.directory.exchange(extent, entry, claimed) {
            return;
        }
        if let Some(at) = self.slab_of.get(extent as usize).and_then(|at| at.checked_sub(1)) {
            self.forget(at as usize);
        }
        self.release(heap, extent, slab.class.span);
    }

    /// A block of whole extents, aligned to `alignment` of them.
    #[inline(never)]
    fn allocate_large(
        &mut self,
        heap: &Heap,
        size: usize,
        alignment: u32,
        mut announce: impl FnMut(usize),
    ) -> Result<usize> {
        let count = u32::try_from(size.max(1).div_ceil(EXTENT_BYTES)).unwrap_or(u32::MAX);
        let too_long = || Error::errno(libc::ENOMEM, format!("{size} bytes are more than any heap holds"));
        let all = count.checked_add(alignment - 1).filter(|all| *all < 1 << 31).ok_or_else(too_long)?;
        let first = self.claim(heap, all)?;
        let bytes = alignment as usize * EXTENT_BYTES;
        let address = heap.directory.address_of(first).next_multiple_of(bytes);
        let extent = first + ((address - heap.directory.address_of(first)) / EXTENT_BYTES) as u32;
        let (before, behind) = (extent - first, first + all - extent - count);
        if before > 0 {
            runs::split(&heap.directory, self.owner, first, all, before);
            self.release(heap, first, before);
        }
        if behind > 0 {
            runs::split(&heap.directory, self.owner, extent, count + behind, count);
            self.release(heap, extent + count, behind);
        }
        announce(address);
        heap.directory.set(extent, Entry::large(self.owner, count));
        Ok(address)
    }

    #[inline(always)]
    fn find_own(&self, heap: &Heap, address: usize) -> Option<(usize, usize)> {
        let extent = address.checked_sub(heap.directory.data_start())? / EXTENT_BYTES;
        let at = self.slab_of.get(extent)?.checked_sub(1)? as usize;
        let slab = self.slabs.get(at)?.as_ref()?;
        let block = slab.block_at(address)?;
        Some((at, block))
    }

    #[inline]
    pub(super) fn free(&mut self, heap: &Heap, address: usize) -> Result<()> {
        match self.find_own(heap, address) {
            Some((at, block)) => self.free_own(heap, at, block, address),
            None => self.free_anywhere(heap, address),
        }
    }

    fn free_own(&mut self, heap: &Heap, at: usize, block: usize, address: usize) -> Result<()> {
        let Some(slab) = self.slabs[at].as_mut() else { return Err(not_allocated(address)) };
        if heap.directory.get(slab.extent) != slab.entry {
            self.forget(at);
            return self.free_anywhere(heap, address);
        }
        if slab.listed == Listed::Current {
            return if slab.give_back(heap, block, address) { Ok(()) } else { Err(not_allocated(address)) };
        }
        let (extent, listed) = (slab.extent, slab.listed);
        let word_is_free = slab.hand_back(heap, block).ok_or_else(|| not_allocated(address))?;
        slab.returned_in |= 1 << (block / 64);
        if matches!(listed, Listed::Full(_)) {
            self.unlist(at);
            self.list(at, Listed::Partial(0));
        }
        if word_is_free {
            self.take_back(heap, extent);
        }
        Ok(())
    }

    /// Frees a block that this ended process has left. What was free when the process ended may be a living one's by now.
    pub(super) fn free_left(&mut self, heap: &Heap, address: usize, owner: Owner) -> Result<()> {
        let place = find(heap, address)?;
        let is_left = match &place {
            Place::Large(_, entry) => entry.owner == owner,
            // Where the bit is set and the slab still is the one that it was then, the block is the ended process's, and stays it.
            Place::Slab(slab, block) => {
                slab.entry.owner == owner
                    && slab.allocated(heap, block / 64) >> (block % 64) & 1 != 0
                    && heap.directory.get(slab.extent) == slab.entry
            }
        };
        if is_left { self.free_at(heap, address, place) } else { Err(not_allocated(address)) }
    }

    #[cold]
    #[inline(never)]
    fn free_anywhere(&mut self, heap: &Heap, address: usize) -> Result<()> {
        let place = find(heap, address)?;
        self.free_at(heap, address, place)
    }

    fn free_at(&mut self, heap: &Heap, address: usize, place: Place) -> Result<()> {
        match place {
            Place::Slab(slab, block) => {
                if slab.hand_back(heap, block).ok_or_else(|| not_allocated(address))? {
                    self.take_back(heap, slab.extent);
                }
                Ok(())
            }
            Place::Large(head, entry) => {
                let claimed = Entry::claimed(self.owner, entry.aux);
                if !heap.directory.exchange(head, entry, claimed) {
                    return Err(not_allocated(address));
                }
                self.largest = self.largest.max(entry.aux);
                self.release(heap, head, entry.aux);
                Ok(())
            }
        }
    }
}

/// Where an allocator's generations begin: somewhere else for each, because slabs of this owner number may be, or have been, another
/// process's that had the place before.
fn first_generation(owner: Owner) -> u32 {
    // Spread by multiplying: 2^64 over the golden ratio, of which the upper bits count.
    const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
    ((now_ns() ^ u64::from(owner) << 40).wrapping_mul(SPREAD) >> 32) as u32
}

/// What an address is to the heap.
enum Place {
    /// A block of a slab.
    Slab(Slab, usize),
    /// A block of whole extents: the first, and its word.
    Large(u32, Entry),
}

fn find(heap: &Heap, address: usize) -> Result<Place> {
    let directory = &heap.directory;
    let foreign = || Error::invalid(format!("{address:#x} is not in this heap"));
    let fd = &heap.fd;
    let extent = directory.extent_at(address, fd)?.ok_or_else(foreign)?;
    let entry = directory.get(extent);
    let (head, first) = match entry.kind {
        EntryKind::Tail => match extent.checked_sub(entry.aux) {
            Some(head) if directory.get(head).is_slab() => (head, directory.get(head)),
            _ => return Err(inside_of_large(heap, extent, address)),
        },
        _ => (extent, entry),
    };
    let offset = address - directory.address_of(head);
    if first.is_slab() {
        let end = Class::get(usize::from(first.class)).and_then(|class| head.checked_add(class.span));
        let end = end.filter(|end| extent < *end).ok_or_else(|| not_allocated(address))?;
        if !directory.reaches(end, fd)? {
            return Err(not_allocated(address));
        }
        let slab = Slab::at(directory, head, first, directory.known_extents()).ok_or_else(foreign)?;
        return match slab.class.block_at(offset) {
            Some(block) => Ok(Place::Slab(slab, block)),
            None => Err(misses(&slab, offset, address)),
        };
    }
    let end = head.checked_add(first.aux).filter(|_| first.kind == EntryKind::Large && first.aux > 0);
    if !directory.reaches(end.ok_or_else(|| not_allocated(address))?, fd)? {
        return Err(not_allocated(address));
    }
    match offset {
        0 => Ok(Place::Large(head, first)),
        _ => Err(points_into(address, offset)),
    }
}

/// How many bytes an allocated block has.
pub(super) fn size_of(heap: &Heap, address: usize) -> Result<usize> {
    match find(heap, address)? {
        Place::Slab(slab, block) => {
            let allocated = slab.allocated(heap, block / 64) >> (block % 64) & 1 != 0;
            if allocated { Ok(slab.class.size) } else { Err(not_allocated(address)) }
        }
        Place::Large(_, entry) => Ok(entry.aux as usize * EXTENT_BYTES),
    }
}

/// The error for an address in an extent that is not the first of a block, and in no slab.
fn inside_of_large(heap: &Heap, extent: u32, address: usize) -> Error {
    let directory = &heap.directory;
    let head = (0..extent).rev().find(|extent| directory.get(*extent).kind != EntryKind::Tail);
    let block = head.map(|head| (head, directory.get(head)));
    match block {
        Some((head, entry)) if entry.kind == EntryKind::Large && entry.aux > extent - head => {
            points_into(address, address - directory.address_of(head))
        }
        _ => not_allocated(address),
    }
}

/// The error for an address in a slab that is no block's.
fn misses(slab: &Slab, offset: usize, address: usize) -> Error {
    match slab.class.block_around(offset) {
        Some(block) => points_into(address, offset - slab.class.first - block * slab.class.size),
        None => Error::invalid(format!("{address:#x} is not in any block")),
    }
}

fn points_into(address: usize, bytes: usize) -> Error {
    Error::invalid(format!("{address:#x} points {bytes} bytes into a block, not to its start"))
}

fn not_allocated(address: usize) -> Error {
    Error::invalid(format!("{address:#x} is not allocated: freed twice, or never a block"))
}
