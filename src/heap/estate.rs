//! What a process leaves when it dies, and what becomes of it.
//!
//! Its allocator's knowledge is gone with it. What the shared words say is enough: claims are undone, slabs and large
//! blocks become those of the process that clears up, which remembers whose they were.

use super::allocator::Allocator;
use super::class::Class;
use super::directory::{Entry, Kind};
use super::slab::Slab;
use super::{EXTENT_BYTES, Heap, Owner};
use std::os::fd::AsRawFd;

impl Allocator {
    /// Takes over what an owner that has ended had: see [`Heap::reclaim`].
    pub(super) fn adopt(&mut self, heap: &Heap, owner: Owner, pid: i32) {
        let directory = &heap.directory;
        let mut extent = 0;
        while extent < directory.known_extents() {
            let entry = directory.get(extent);
            let own = self.slab_of.get(extent as usize).is_some_and(|slab| *slab != 0);
            let mut next = extent + 1;
            match entry.kind {
                Kind::Claimed if entry.owner == owner => {
                    self.mark_seen(extent..next, false);
                    directory.set(extent, Entry::HOLE);
                }
                Kind::Slab if entry.owner == owner && !own => {
                    let class = Class::get(usize::from(entry.class));
                    let class = class.filter(|class| extent + class.span <= directory.known_extents());
                    if let Some(class) = class {
                        self.adopt_slab(heap, extent, entry, class, pid);
                        next = extent + class.span;
                    }
                }
                Kind::Large
                    if entry.owner == owner
                        && directory.exchange(extent, entry, Entry { owner: heap.owner, ..entry }) =>
                {
                    self.left_large.insert(extent, pid);
                }
                Kind::Tail => {
                    self.undo_tail(heap, extent, entry, owner);
                }
                _ => (),
            }
            extent = next;
        }
        self.search_from = 0;
        self.look_for_reserved = true;
    }

    /// Frees a tail whose head a dead owner never wrote, or was about to free.
    fn undo_tail(&self, heap: &Heap, extent: u32, entry: Entry, owner: Owner) {
        let head = extent.checked_sub(entry.aux).map(|head| heap.directory.get(head));
        let reached = head.is_some_and(|head| match head.kind {
            Kind::Slab | Kind::Large | Kind::Spare => head.aux > entry.aux,
            Kind::Claimed => head.owner != owner,
            _ => false,
        });
        // The exchange fails where the extent has moved on since it was looked at.
        if !reached {
            heap.directory.exchange(extent, entry, Entry::HOLE);
        }
    }

    /// Clears up after an owner that has ended, without taking over what it had: claims are undone and slabs without
    /// blocks freed; with `all`, slabs with blocks and large blocks too. How many blocks that freed, and how many are
    /// left. Nobody else does this for the same owner at this time.
    pub(super) fn clear_up(&mut self, heap: &Heap, owner: Owner, all: bool) -> (usize, usize) {
        let known = heap.directory.refresh(heap.fd.as_raw_fd());
        let (mut freed, mut left) = (0, 0);
        let mut extent = 0;
        while extent < known {
            let entry = heap.directory.get(extent);
            let (mut span, mut blocks) = (1, 0);
            match entry.kind {
                // An exchange here and below: who comes late must not undo what another process has begun since.
                Kind::Claimed if entry.owner == owner => {
                    self.mark_seen(extent..extent + 1, false);
                    heap.directory.exchange(extent, entry, Entry::HOLE);
                }
                Kind::Slab if entry.owner == owner => {
                    if let Some(slab) = heap.slab_at(extent, known) {
                        span = slab.class.span;
                        let words = 0..slab.class.words();
                        blocks = words.map(|word| slab.allocated(heap, word).count_ones() as usize).sum();
                    }
                }
                Kind::Large if entry.owner == owner => {
                    (span, blocks) = (entry.aux.clamp(1, known - extent), 1)
                }
                Kind::Tail => self.undo_tail(heap, extent, entry, owner),
                _ => (),
            }
            if matches!(entry.kind, Kind::Slab | Kind::Large) && entry.owner == owner {
                if (all || blocks == 0) && Allocator::free_run(heap, extent, span, entry) {
                    freed += blocks;
                } else {
                    left += blocks;
                }
            }
            extent += span;
        }
        self.search_from = 0;
        self.look_for_reserved = true;
        (freed, left)
    }

    /// Frees the extents of an owner that has ended, in its name: a death in between leaves what its own would have.
    fn free_run(heap: &Heap, extent: u32, span: u32, entry: Entry) -> bool {
        let claimed = Entry::claimed(entry.owner);
        if !heap.directory.exchange(extent, entry, claimed) {
            return false;
        }
        for distance in (1..span).rev() {
            let tail = heap.directory.get(extent + distance);
            if tail.kind == Kind::Tail && tail.aux == distance {
                heap.directory.exchange(extent + distance, tail, Entry::FREE);
            }
        }
        heap.directory.exchange(extent, claimed, Entry::FREE)
    }

    fn adopt_slab(&mut self, heap: &Heap, extent: u32, entry: Entry, class: &'static Class, pid: i32) {
        let mine = Entry { owner: heap.owner, ..entry };
        let overlaps = (extent..extent + class.span)
            .any(|extent| self.slab_of.get(extent as usize).is_some_and(|slab| *slab != 0));
        if overlaps || !heap.directory.exchange(extent, entry, mine) {
            return;
        }
        let mut slab = Slab::new(extent, class, entry.class);
        slab.take_over(heap, pid);
        let (index, empty) = (usize::from(entry.class), slab.used == 0);
        let at = self.add(slab);
        match empty {
            true => self.discard(heap, at),
            false => self.make_partial(index, at),
        }
    }

    /// The blocks that a process had when it died and nobody has freed since: address and size.
    pub(super) fn left_by(&self, heap: &Heap, pid: i32) -> Vec<(usize, usize)> {
        let mut blocks = Vec::new();
        for slab in self.slabs.iter().flatten() {
            let Some(left) = slab.left.as_ref().filter(|left| left.pid == pid) else { continue };
            for (word, bits) in left.bits.iter().enumerate() {
                let mut bits = bits & slab.allocated(heap, word);
                while bits != 0 {
                    let block = word * 64 + bits.trailing_zeros() as usize;
                    blocks.push((slab.address_of(heap, block), slab.class.size));
                    bits &= bits - 1;
                }
            }
        }
        for (head, _) in self.left_large.iter().filter(|(_, of)| **of == pid) {
            let entry = heap.directory.get(*head);
            // Another process may have freed it, and what is there now is somebody else's.
            if entry.kind == Kind::Large && entry.owner == heap.owner {
                blocks.push((heap.directory.address_of(*head), entry.aux as usize * EXTENT_BYTES));
            }
        }
        blocks
    }

    /// The processes that have died and left blocks, each once.
    pub(super) fn dead(&self) -> Vec<i32> {
        let slabs = self.slabs.iter().flatten().filter_map(|slab| Some(slab.left.as_ref()?.pid));
        let mut pids: Vec<i32> = slabs.chain(self.left_large.values().copied()).collect();
        pids.sort_unstable();
        pids.dedup();
        pids
    }
}
