//! One process's allocator: all of its knowledge is private, only the directory and the bits of slabs are shared.

use super::class::{self, Class};
use super::directory::{Entry, Kind};
use super::slab::Slab;
use super::{EXTENT_BYTES, Heap};
use crate::error::{Error, Result};
use std::collections::HashMap;
use std::ops::Range;
use std::os::fd::AsRawFd;

/// So often the heap grows for one block, before that is an error.
const GROWN_IN_VAIN: u32 = 32;

/// So many large blocks are remembered.
const RECENT: usize = 8;

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
    pub(super) slabs: Vec<Option<Slab>>,
    vacant: Vec<usize>,
    /// The slab that an extent belongs to, plus one; 0 for extents that are not in a slab of this process's.
    pub(super) slab_of: Vec<u32>,
    bins: Vec<Bin>,
    /// Large blocks of processes that have died: the head, and whose it was.
    pub(super) left_large: HashMap<u32, i32>,
    /// A bit for each extent that this process has seen reserved with its own eyes: another process could have made
    /// the file longer without reserving anything.
    seen: Vec<u64>,
    /// Heads of large blocks that this process has had lately: likely to be spare now. The next one goes to `next_recent`.
    recent: [u32; RECENT],
    next_recent: usize,
    /// Where the search for free extents begins.
    pub(super) search_from: u32,
    /// Whether free extents that are no holes may be found: set when this process frees some.
    pub(super) look_for_reserved: bool,
    /// Extents that this process has freed since the free ones were last counted.
    freed: u32,
}

/// What an address is to the heap.
enum Place {
    /// A block of a slab of this process's: the slab, the block.
    Own(usize, usize),
    /// A block of a slab of another process's.
    Other(Slab, usize),
    /// A block of whole extents: the head, and its word.
    Large(u32, Entry),
}

impl Allocator {
    pub(super) fn new() -> Allocator {
        Allocator {
            slabs: Vec::new(),
            vacant: Vec::new(),
            slab_of: Vec::new(),
            bins: (0..class::COUNT).map(|_| Bin::default()).collect(),
            left_large: HashMap::new(),
            seen: Vec::new(),
            recent: [u32::MAX; RECENT],
            next_recent: 0,
            search_from: 0,
            look_for_reserved: true,
            freed: 0,
        }
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

    #[inline(always)]
    pub(super) fn allocate_quickly(&mut self, heap: &Heap, size: usize) -> Option<usize> {
        if size > class::LARGEST {
            return None;
        }
        let slab = self.slabs.get_mut(self.bins.get(Class::index_for(size))?.current?)?.as_mut()?;
        let (word, bit) = slab.find(heap)?;
        slab.take(heap, word, bit);
        Some(slab.address_of(heap, word * 64 + bit as usize))
    }

    #[inline(always)]
    pub(super) fn free_quickly(&mut self, heap: &Heap, address: usize) -> bool {
        let Some((at, block)) = self.find_own(heap, address) else { return false };
        let Some(slab) = self.slabs.get_mut(at).and_then(Option::as_mut) else { return false };
        // What needs more than a bit: a slab that becomes partial or empty, a block that somebody has left.
        let plain = !slab.full && (slab.partial_at.is_none() || slab.used > 1) && slab.left.is_none();
        plain && slab.give_back(heap, block)
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

    #[inline(always)]
    fn allocate_small(
        &mut self,
        heap: &Heap,
        index: usize,
        mut announce: impl FnMut(usize),
    ) -> Result<usize> {
        loop {
            let Some(at) = self.bins[index].current else {
                self.refill(heap, index)?;
                continue;
            };
            let Some(slab) = self.slabs[at].as_mut() else { return Err(Error::invalid("no such slab")) };
            let Some((word, bit)) = slab.find(heap) else {
                if slab.fetch(heap) == 0 {
                    self.retire(index, at);
                }
                continue;
            };
            let address = slab.address_of(heap, word * 64 + bit as usize);
            announce(address);
            slab.take(heap, word, bit);
            return Ok(address);
        }
    }

    /// The current slab has nothing left.
    fn retire(&mut self, index: usize, at: usize) {
        self.bins[index].current = None;
        self.bins[index].full.push(at);
        if let Some(slab) = self.slabs[at].as_mut() {
            slab.full = true;
        }
    }

    pub(super) fn make_partial(&mut self, index: usize, at: usize) {
        let Some(slab) = self.slabs[at].as_mut() else { return };
        slab.full = false;
        slab.partial_at = Some(self.bins[index].partial.len());
        self.bins[index].partial.push(at);
    }

    fn take_partial(&mut self, index: usize, place: usize) -> usize {
        let at = self.bins[index].partial.swap_remove(place);
        if let Some(slab) = self.slabs[at].as_mut() {
            slab.partial_at = None;
        }
        if let Some(moved) = self.bins[index].partial.get(place)
            && let Some(slab) = self.slabs[*moved].as_mut()
        {
            slab.partial_at = Some(place);
        }
        at
    }

    /// Finds a slab with free blocks for a class: one with some, one with returned ones, or a new one.
    #[cold]
    fn refill(&mut self, heap: &Heap, index: usize) -> Result<()> {
        // Asking all full slabs costs as much as there are, so it is done once per that many new ones.
        if self.bins[index].partial.is_empty()
            && self.bins[index].since_fetch * 4 >= self.bins[index].full.len()
        {
            self.bins[index].since_fetch = 0;
            self.fetch_full(heap, index);
        }
        if let Some(last) = self.bins[index].partial.len().checked_sub(1) {
            let at = self.take_partial(index, last);
            self.bins[index].current = Some(at);
            return Ok(());
        }
        let Some(class) = Class::get(index) else { return Err(Error::invalid("no such block size")) };
        let extent = self.claim(heap, class.span)?;
        let slab = Slab::new(extent, class, index as u8);
        slab.clear(heap);
        self.commit(heap, extent, class.span, Kind::Slab, index as u8);
        let slab = self.add(slab);
        self.bins[index].current = Some(slab);
        self.bins[index].since_fetch += 1;
        Ok(())
    }

    /// Moves the full slabs to which blocks have been returned to the partial ones.
    fn fetch_full(&mut self, heap: &Heap, index: usize) {
        for at in std::mem::take(&mut self.bins[index].full) {
            // A slab of which a block was freed here has left the list in all but name.
            let Some(slab) = self.slabs[at].as_mut().filter(|slab| slab.full) else { continue };
            if slab.class_index as usize != index {
                continue;
            }
            if slab.fetch(heap) > 0 {
                self.make_partial(index, at);
            } else {
                self.bins[index].full.push(at);
            }
        }
    }

    pub(super) fn add(&mut self, slab: Slab) -> usize {
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
    pub(super) fn discard_empty(&mut self, heap: &Heap) -> bool {
        let mut any = false;
        for index in 0..class::COUNT {
            self.fetch_full(heap, index);
            if let Some(at) = self.bins[index].current.take() {
                self.make_partial(index, at);
            }
            let mut place = 0;
            while let Some(at) = self.bins[index].partial.get(place).copied() {
                let slab = self.slabs[at].as_mut();
                let empty = slab.is_some_and(|slab| {
                    slab.fetch(heap);
                    slab.used == 0
                });
                if empty {
                    self.take_partial(index, place);
                    self.discard(heap, at);
                    any = true;
                } else {
                    place += 1;
                }
            }
        }
        any
    }

    /// A slab that is in no list any more.
    pub(super) fn discard(&mut self, heap: &Heap, at: usize) {
        let Some(slab) = self.slabs[at].take() else { return };
        let (extent, span) = (slab.extent as usize, slab.class.span as usize);
        self.slab_of[extent..extent + span].fill(0);
        self.vacant.push(at);
        heap.directory.set(slab.extent, Entry::claimed(heap.owner));
        self.release(heap, slab.extent, slab.class.span);
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
        let all = count.checked_add(alignment - 1).ok_or_else(too_long)?;
        if alignment == 1
            && let Some((head, entry)) = self.find_spare(heap, count)
        {
            let address = heap.directory.address_of(head);
            announce(address);
            let taken = Entry { kind: Kind::Large, class: 0, owner: heap.owner, aux: count };
            if heap.directory.exchange(head, entry, taken) {
                self.left_large.remove(&head);
                return Ok(address);
            }
            announce(0);
        }
        let first = self.claim(heap, all)?;
        let bytes = alignment as usize * EXTENT_BYTES;
        let address = heap.directory.address_of(first).next_multiple_of(bytes);
        let extent = first + ((address - heap.directory.address_of(first)) / EXTENT_BYTES) as u32;
        self.undo(heap, first..extent);
        self.undo(heap, extent + count..first + all);
        announce(address);
        self.commit(heap, extent, count, Kind::Large, 0);
        self.recent[self.next_recent % RECENT] = extent;
        self.next_recent += 1;
        Ok(address)
    }

    /// A spare block of that many extents among those that this process has had.
    fn find_spare(&self, heap: &Heap, count: u32) -> Option<(u32, Entry)> {
        let known = heap.directory.known_extents();
        self.recent.iter().find_map(|head| {
            let fits = head.checked_add(count).is_some_and(|end| end <= known);
            let entry = fits.then(|| heap.directory.get(*head))?;
            (entry.kind == Kind::Spare && entry.aux == count).then_some((*head, entry))
        })
    }

    /// Takes spare blocks apart; whether there were any.
    fn take_spares_apart(&mut self, heap: &Heap) -> bool {
        let known = heap.directory.known_extents();
        let claimed = Entry::claimed(heap.owner);
        let mut any = false;
        let mut extent = 0;
        while extent < known {
            let entry = heap.directory.get(extent);
            let whole = entry.kind == Kind::Spare && entry.aux >= 1 && entry.aux <= known - extent;
            if whole && heap.directory.exchange(extent, entry, claimed) {
                self.free_extents(heap, extent, entry.aux);
                any = true;
            }
            extent += if whole { entry.aux } else { 1 };
        }
        self.look_for_reserved |= any;
        any
    }

    /// Claims `count` neighbouring extents, whose pages are reserved.
    fn claim(&mut self, heap: &Heap, count: u32) -> Result<u32> {
        let fd = heap.fd.as_raw_fd();
        let mut discarded = false;
        let mut grown_in_vain = 0;
        let extent = loop {
            let known = heap.directory.refresh(fd);
            if let Some(extent) = self.find_free(heap, known, count) {
                break extent;
            }
            if !discarded && self.discard_empty(heap) {
                discarded = true;
                continue;
            }
            // Others may have been quicker once or twice; somebody hostile says of all that is new that it is taken.
            if grown_in_vain == GROWN_IN_VAIN {
                return Err(Error::errno(libc::ENOMEM, "everything by which the heap has grown is taken"));
            }
            self.search_from = known;
            let grown = heap.directory.grow(fd, count, grown_in_vain == 0)?;
            self.mark_seen(grown, true);
            grown_in_vain += 1;
        };
        let mut from = extent;
        while from < extent + count {
            let mut to = from;
            while to < extent + count && !self.has_seen(to) {
                to += 1;
            }
            if to > from {
                if let Err(error) = heap.directory.reserve(fd, from..to, !self.look_for_reserved) {
                    self.undo(heap, extent..extent + count);
                    return Err(error);
                }
                self.mark_seen(from..to, true);
            }
            from = to + 1;
        }
        self.search_from = extent + count;
        if !self.left_large.is_empty() {
            self.left_large.retain(|head, _| !(extent..extent + count).contains(head));
        }
        Ok(extent)
    }

    /// Looks for free extents that are reserved first, and for holes only when there are none.
    fn find_free(&mut self, heap: &Heap, known: u32, count: u32) -> Option<u32> {
        let from = self.search_from;
        for holes in [false, true] {
            if !holes && !self.look_for_reserved {
                continue;
            }
            if holes && self.take_spares_apart(heap) {
                let found = self.search(heap, 0..known, count, false);
                if found.is_some() {
                    return found;
                }
            }
            let found = self.search(heap, from..known, count, holes);
            if let Some(extent) = found.or_else(|| self.search(heap, 0..known, count, holes)) {
                return Some(extent);
            }
            self.look_for_reserved = false;
        }
        None
    }

    fn search(&mut self, heap: &Heap, range: Range<u32>, count: u32, holes: bool) -> Option<u32> {
        let claimed = Entry::claimed(heap.owner);
        let mut run = 0;
        for extent in range.clone() {
            let entry = heap.directory.get(extent);
            let free = entry.kind == Kind::Free && (holes || entry == Entry::FREE);
            if free && heap.directory.exchange(extent, entry, claimed) {
                if entry != Entry::FREE {
                    self.mark_seen(extent..extent + 1, false);
                }
                run += 1;
                if run == count {
                    return Some(extent + 1 - count);
                }
            } else if run > 0 {
                self.undo(heap, extent - run..extent);
                run = 0;
            }
        }
        self.undo(heap, range.end.saturating_sub(run)..range.end);
        None
    }

    fn has_seen(&self, extent: u32) -> bool {
        self.seen.get(extent as usize / 64).is_some_and(|word| word >> (extent % 64) & 1 != 0)
    }

    pub(super) fn mark_seen(&mut self, extents: Range<u32>, seen: bool) {
        let words = extents.end.div_ceil(64) as usize;
        if self.seen.len() < words {
            self.seen.resize(words, 0);
        }
        for extent in extents {
            let (word, bit) = (&mut self.seen[extent as usize / 64], 1 << (extent % 64));
            *word = if seen { *word | bit } else { *word & !bit };
        }
    }

    /// Frees extents that were claimed and have not been committed.
    fn undo(&self, heap: &Heap, extents: Range<u32>) {
        for extent in extents.rev() {
            // What this process has not seen reserved may be a hole.
            heap.directory.set(extent, if self.has_seen(extent) { Entry::FREE } else { Entry::HOLE });
        }
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
    pub(super) fn release(&mut self, heap: &Heap, extent: u32, count: u32) {
        self.free_extents(heap, extent, count);
        self.look_for_reserved = true;
        self.count_freed(heap, count);
    }

    fn free_extents(&self, heap: &Heap, extent: u32, count: u32) {
        for distance in (0..count).rev() {
            let at = extent + distance;
            let entry = heap.directory.get(at);
            let own = entry.kind == Kind::Claimed && entry.owner == heap.owner;
            if own || (entry.kind == Kind::Tail && entry.aux == distance && distance > 0) {
                heap.directory.set(at, Entry::FREE);
            }
        }
    }

    fn count_freed(&mut self, heap: &Heap, count: u32) {
        self.freed = self.freed.saturating_add(count);
        if self.freed > heap.kept {
            self.punch_beyond(heap, heap.kept);
        }
    }

    /// Gives the pages of free extents back to the system, all but so many, the last ones first.
    fn punch_beyond(&mut self, heap: &Heap, kept: u32) {
        let known = heap.directory.known_extents();
        let free = (0..known)
            .map(|extent| match heap.directory.get(extent) {
                Entry::FREE => 1,
                entry if entry.kind == Kind::Spare => entry.aux.min(known - extent),
                _ => 0,
            })
            .fold(0, u32::saturating_add);
        self.freed = free.min(kept);
        if free <= kept {
            return;
        }
        self.take_spares_apart(heap);
        // Half of what may be kept, so that this happens once in a while and not with every block.
        let mut surplus = free - kept / 2;
        self.freed = kept / 2;
        let claimed = Entry::claimed(heap.owner);
        let mut run = known..known;
        for extent in (0..known).rev() {
            if surplus > 0 && heap.directory.exchange(extent, Entry::FREE, claimed) {
                run = extent..run.end;
                surplus -= 1;
            } else {
                self.punch(heap, run);
                run = extent..extent;
            }
            if surplus == 0 {
                break;
            }
        }
        self.punch(heap, run);
    }

    fn punch(&mut self, heap: &Heap, extents: Range<u32>) {
        let punched = heap.directory.punch(heap.fd.as_raw_fd(), extents.clone()).is_ok();
        self.mark_seen(extents.clone(), !punched);
        self.undo(heap, extents);
    }

    /// Gives back all that can be given back to the system.
    pub(super) fn trim(&mut self, heap: &Heap) {
        heap.directory.refresh(heap.fd.as_raw_fd());
        self.discard_empty(heap);
        self.punch_beyond(heap, 0);
    }

    fn find(&self, heap: &Heap, address: usize) -> Result<Place> {
        let directory = &heap.directory;
        let foreign = || Error::invalid(format!("{address:#x} is not in this heap"));
        let fd = heap.fd.as_raw_fd();
        let extent = directory.extent_at(address, fd).ok_or_else(foreign)?;
        if let Some(at) = self.slab_of.get(extent as usize).copied().filter(|at| *at != 0) {
            let at = at as usize - 1;
            let slab = self.slabs[at].as_ref().ok_or_else(foreign)?;
            let offset = address - directory.address_of(slab.extent);
            let block = slab.class.block_at(offset);
            return block.map(|block| Place::Own(at, block)).ok_or_else(|| slab.misses(heap, address));
        }
        let mut head = extent;
        let mut entry = directory.get(extent);
        if entry.kind == Kind::Tail {
            head = extent.checked_sub(entry.aux).ok_or_else(foreign)?;
            entry = directory.get(head);
        }
        let offset = address - directory.address_of(head);
        match entry.kind {
            Kind::Slab => {
                let class = Class::get(usize::from(entry.class)).ok_or_else(foreign)?;
                let inside = extent - head < class.span && directory.reaches(head + class.span, fd);
                let slab = Slab::new(head, class, entry.class);
                match class.block_at(offset) {
                    Some(block) if inside => Ok(Place::Other(slab, block)),
                    _ if inside => Err(slab.misses(heap, address)),
                    _ => Err(foreign()),
                }
            }
            Kind::Large => {
                let whole = head.checked_add(entry.aux).filter(|end| directory.reaches(*end, fd));
                whole.filter(|end| extent < *end).ok_or_else(|| not_allocated(address))?;
                if offset != 0 {
                    let text = format!("{address:#x} points {offset} bytes into a block, not to its start");
                    return Err(Error::invalid(text));
                }
                Ok(Place::Large(head, entry))
            }
            _ => Err(not_allocated(address)),
        }
    }

    #[inline]
    pub(super) fn free(&mut self, heap: &Heap, address: usize) -> Result<()> {
        // Most blocks are this process's own; moving a `Place` costs more than all else for them.
        if let Some((at, block)) = self.find_own(heap, address)
            && self.free_own(heap, at, block).is_some()
        {
            return Ok(());
        }
        self.free_anywhere(heap, address)
    }

    #[inline(always)]
    fn find_own(&self, heap: &Heap, address: usize) -> Option<(usize, usize)> {
        let extent = address.checked_sub(heap.directory.data_start())? / EXTENT_BYTES;
        let at = self.slab_of.get(extent)?.checked_sub(1)? as usize;
        let slab = self.slabs.get(at)?.as_ref()?;
        let block = slab.class.block_at(address - heap.directory.address_of(slab.extent))?;
        Some((at, block))
    }

    #[cold]
    #[inline(never)]
    fn free_anywhere(&mut self, heap: &Heap, address: usize) -> Result<()> {
        match self.find(heap, address)? {
            Place::Own(at, block) => self.free_own(heap, at, block).ok_or_else(|| not_allocated(address)),
            Place::Other(slab, block) if slab.hand_back(heap, block) => Ok(()),
            Place::Large(head, entry) => {
                let spare = Entry { kind: Kind::Spare, class: 0, owner: 0, aux: entry.aux };
                if !heap.directory.exchange(head, entry, spare) {
                    return Err(not_allocated(address));
                }
                if !self.left_large.is_empty() {
                    self.left_large.remove(&head);
                }
                self.search_from = self.search_from.min(head);
                self.count_freed(heap, entry.aux);
                Ok(())
            }
            _ => Err(not_allocated(address)),
        }
    }

    #[inline(always)]
    fn free_own(&mut self, heap: &Heap, at: usize, block: usize) -> Option<()> {
        let slab = self.slabs[at].as_mut()?;
        if !slab.give_back(heap, block) {
            return None;
        }
        if slab.full || (slab.used == 0 && slab.partial_at.is_some()) {
            self.became_free(heap, at);
        }
        Some(())
    }

    #[cold]
    fn became_free(&mut self, heap: &Heap, at: usize) {
        let Some(slab) = self.slabs[at].as_mut() else { return };
        let index = usize::from(slab.class_index);
        if slab.full {
            // Its name stays in the list of full slabs until that is gone through.
            self.bins[index].full.retain(|full| *full != at);
            self.make_partial(index, at);
        }
        let Some(slab) = self.slabs[at].as_ref() else { return };
        if let Some(place) = slab.partial_at.filter(|_| slab.used == 0) {
            self.take_partial(index, place);
            self.discard(heap, at);
        }
    }

    /// How many bytes an allocated block has.
    pub(super) fn size_of(&self, heap: &Heap, address: usize) -> Result<usize> {
        let in_slab = |slab: &Slab, block: usize| {
            let allocated = slab.allocated(heap, block / 64) >> (block % 64) & 1 != 0;
            if allocated { Ok(slab.class.size) } else { Err(not_allocated(address)) }
        };
        match self.find(heap, address)? {
            Place::Own(at, block) => match &self.slabs[at] {
                Some(slab) => in_slab(slab, block),
                None => Err(not_allocated(address)),
            },
            Place::Other(slab, block) => in_slab(&slab, block),
            Place::Large(_, entry) => Ok(entry.aux as usize * EXTENT_BYTES),
        }
    }
}

impl Slab {
    /// The error for an address in it that is no block's.
    fn misses(&self, heap: &Heap, address: usize) -> Error {
        let offset = address - heap.directory.address_of(self.extent);
        match self.class.block_around(offset) {
            Some(block) => {
                let inside = address - self.address_of(heap, block);
                Error::invalid(format!("{address:#x} points {inside} bytes into a block, not to its start"))
            }
            None => Error::invalid(format!("{address:#x} is not in any block")),
        }
    }
}

fn not_allocated(address: usize) -> Error {
    Error::invalid(format!("{address:#x} is not allocated: freed twice, or never a block"))
}
