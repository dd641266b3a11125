//! Which extents an allocator takes, and when it gives them back: what it remembers of free runs, and the search for more.

use super::Heap;
use super::allocator::Allocator;
use super::directory::Directory;
use super::entry::{Entry, EntryKind};
use super::runs;
use crate::error::{Error, Result};
use crate::sys::reserve;

/// So often the heap grows for one block, before that is an error.
const GROWN_IN_VAIN: u32 = 32;

/// So many free runs of similar length are remembered, and so many of them looked at.
const REMEMBERED: usize = 64;
const LOOKED_AT: usize = 8;

/// Numbers of bits that a length can have.
const LENGTHS: usize = 32;

/// Free runs that an allocator has seen, by their length's number of bits. They may be gone: whoever takes one looks. Where there is
/// no memory to remember one, a search finds it.
#[derive(Debug, Default)]
pub(super) struct Hints {
    by_length: Vec<Vec<u32>>,
}

impl Hints {
    fn add(&mut self, head: u32, length: u32) {
        if self.by_length.is_empty() {
            if reserve::grow(&mut self.by_length, LENGTHS).is_err() {
                return;
            }
            self.by_length.resize_with(LENGTHS, Vec::new);
        }
        let list = &mut self.by_length[length.max(1).ilog2() as usize];
        if list.len() == REMEMBERED {
            list.swap_remove(0);
        }
        if reserve::grow(list, 1).is_ok() {
            list.push(head);
        }
    }

    /// Takes `count` extents from a run that is remembered: the first of them, and the rest of the run.
    fn take(&mut self, directory: &Directory, owner: u32, count: u32) -> Option<(u32, runs::Rest)> {
        let known = directory.known_extents();
        for bits in count.max(1).ilog2() as usize..LENGTHS {
            let list = self.by_length.get_mut(bits)?;
            let end = list.len();
            for place in (end.saturating_sub(LOOKED_AT)..end).rev() {
                let head = list[place];
                let entry = if head < known { directory.get(head) } else { Entry::tail(0) };
                let length =
                    entry.exact_length(head, known).filter(|_| entry == Entry::free(entry.aux.max(1), false));
                match length {
                    Some(length) if length < count && length.ilog2() as usize == bits => continue,
                    Some(_) => {
                        if let Some(rest) = runs::take(directory, owner, head, entry, count) {
                            list.swap_remove(place);
                            return Some((head, rest));
                        }
                    }
                    None => (),
                }
                list.swap_remove(place);
            }
        }
        None
    }
}

/// A run that has been found and claimed.
pub(super) struct Found {
    head: u32,
    length: u32,
    hole: bool,
}

impl Allocator {
    /// Claims `count` neighbouring extents, whose pages are reserved.
    pub(super) fn claim(&mut self, heap: &Heap, count: u32) -> Result<u32> {
        let extent = self.find_free(heap, count)?;
        if !heap.directory.has_seen(extent..extent + count) {
            self.reserve(heap, extent, count, false)?;
        }
        self.freed = self.freed.saturating_sub(count);
        Ok(extent)
    }

    /// Reserves the pages of a run that this allocator has claimed, or gives it back.
    fn reserve(&mut self, heap: &Heap, extent: u32, count: u32, holes: bool) -> Result<()> {
        let reserved = heap.directory.reserve(&heap.fd, extent..extent + count, holes);
        match reserved {
            Ok(()) => heap.directory.mark_seen(extent..extent + count, true),
            Err(_) => {
                runs::give(&heap.directory, self.owner, extent, count, true);
            }
        }
        reserved
    }

    fn find_free(&mut self, heap: &Heap, count: u32) -> Result<u32> {
        let fd = &heap.fd;
        let mut taken_back = false;
        let mut grown_in_vain = 0;
        loop {
            if let Some((head, rest)) = self.hints.take(&heap.directory, self.owner, count) {
                self.remember(rest);
                return Ok(head);
            }
            if let Some(head) = self.search(heap, heap.directory.known_extents(), count, false)? {
                return Ok(head);
            }
            let known = heap.directory.refresh(fd);
            if !taken_back {
                taken_back = true;
                heap.take_back(self);
                continue;
            }
            if let Some(head) = self.search(heap, known, count, true)? {
                return Ok(head);
            }
            // Others may have been quicker once or twice; somebody hostile says of all that is new that it is taken.
            if grown_in_vain == GROWN_IN_VAIN {
                return Err(Error::errno(libc::ENOMEM, "everything by which the heap has grown is taken"));
            }
            let grown = heap.directory.grow(fd, count, grown_in_vain == 0)?;
            self.search_from = known.min(grown.start);
            heap.directory.mark_seen(grown, true);
            grown_in_vain += 1;
        }
    }

    fn remember(&mut self, run: runs::Rest) {
        if let Some((head, length)) = run {
            self.hints.add(head, length);
        }
    }

    /// Walks from run to run for one that is long enough, or neighbours that are; with `holes`, for such as well.
    fn search(&mut self, heap: &Heap, known: u32, count: u32, holes: bool) -> Result<Option<u32>> {
        let from = self.search_from.min(known);
        for range in [from..known, 0..known] {
            let mut extent = range.start;
            while extent < range.end {
                let entry = heap.directory.get(extent);
                let length = entry.length_at(extent, known);
                if !usable(entry, holes) {
                    extent += length;
                    continue;
                }
                let end = self.measure(heap, extent, known, count, holes);
                if end - extent >= count
                    && let Some(found) = self.claim_runs(heap, extent, count, holes)
                {
                    self.search_from = found.head + found.length;
                    if found.hole {
                        heap.directory.mark_seen(found.head..found.head + found.length, false);
                        self.reserve(heap, found.head, found.length, true)?;
                    }
                    return Ok(Some(found.head));
                }
                extent = end.max(extent + 1);
            }
        }
        Ok(None)
    }

    /// Where the free runs end that begin here, or are enough.
    fn measure(&mut self, heap: &Heap, extent: u32, known: u32, count: u32, holes: bool) -> u32 {
        let mut end = extent;
        while end < known && end - extent < count {
            let entry = heap.directory.get(end);
            if !usable(entry, holes) {
                break;
            }
            let length = entry.length_at(end, known);
            if length > 1 && !entry.is_hole() {
                self.hints.add(end, length);
            }
            end += length;
        }
        end
    }

    /// Claims the runs from here on that are `count` extents together, and then makes one of them. What it has is in the directory, and
    /// needs no list; until it has all, each run says whether it was a hole. Where somebody was quicker, all is as it was.
    pub(super) fn claim_runs(&mut self, heap: &Heap, extent: u32, count: u32, holes: bool) -> Option<Found> {
        let (directory, owner) = (&heap.directory, self.owner);
        let known = directory.known_extents();
        let mut whole = Found { head: extent, length: 0, hole: false };
        while whole.length < count {
            let end = extent + whole.length;
            let entry = if end < known { directory.get(end) } else { Entry::tail(0) };
            let length = entry.exact_length(end, known).filter(|_| usable(entry, holes));
            let length = length.map_or(0, |length| length.min(count - whole.length));
            let taken = (length > 0).then(|| runs::take(directory, owner, end, entry, length)).flatten();
            let Some(rest) = taken else {
                runs::give_all(directory, owner, extent, whole.length);
                return None;
            };
            directory.set(end, Entry::claimed_from(owner, length, entry.is_hole()));
            if !entry.is_hole() {
                self.remember(rest);
            }
            whole.length += length;
            whole.hole |= entry.is_hole();
        }
        runs::join_all(directory, owner, extent, count);
        Some(whole)
    }

    /// Frees a run that this allocator has claimed, whose pages are there.
    pub(super) fn release(&mut self, heap: &Heap, extent: u32, count: u32) {
        let run = runs::give(&heap.directory, self.owner, extent, count, false);
        self.remember(Some(run));
        self.freed = self.freed.saturating_add(count);
        if self.freed > self.kept.max(heap.kept).max(self.largest.saturating_mul(4)) {
            self.punch_beyond(heap, heap.kept);
        }
    }

    /// Gives the pages of free runs back to the system, those of the last ones, all but `kept` extents, or half of what is
    /// in use, or four times the largest block that was freed lately: what comes and goes must not be punched and reserved each
    /// time.
    pub(super) fn punch_beyond(&mut self, heap: &Heap, kept: u32) {
        let known = heap.directory.known_extents();
        let (mut free, mut used) = (0u32, 0u32);
        let mut extent = 0;
        while extent < known {
            let entry = heap.directory.get(extent);
            let length = entry.length_at(extent, known);
            if entry.kind != EntryKind::Free {
                used += length;
            } else if !entry.is_hole() {
                free += length;
            }
            extent += length;
        }
        self.kept = if kept == 0 { 0 } else { kept.max(used / 2).max(self.largest.saturating_mul(4)) };
        // Half of what may be kept, so that this happens once in a while and not with every block.
        self.freed = free.min(self.kept - self.kept / 8);
        if free <= self.kept {
            return;
        }
        self.largest -= self.largest / 8;
        let mut surplus = free - self.kept / 2;
        self.freed = self.kept / 2;
        // Those that stay are passed over: a list of all, to begin with the last, would take memory.
        let mut stays = self.kept / 2;
        let mut extent = 0;
        while extent < known && surplus > 0 {
            let entry = heap.directory.get(extent);
            let length = entry.length_at(extent, known);
            if usable(entry, false) {
                let passed = length.min(stays);
                stays -= passed;
                surplus -= self.punch(heap, extent, surplus.min(length - passed));
            }
            extent += length;
        }
    }

    /// Gives the pages of a free run back, up to `most` extents of its end; how many.
    fn punch(&mut self, heap: &Heap, head: u32, most: u32) -> u32 {
        let directory = &heap.directory;
        let entry = directory.get(head);
        let length = entry.exact_length(head, directory.known_extents());
        let Some(length) = length.filter(|_| usable(entry, false) && most > 0) else { return 0 };
        if runs::take(directory, self.owner, head, entry, length).is_none() {
            return 0;
        }
        let (mut from, mut count) = (head, length);
        if count > most {
            runs::split(directory, self.owner, head, length, length - most);
            (from, count) = (head + length - most, most);
            let kept = runs::give(directory, self.owner, head, length - most, false);
            self.remember(Some(kept));
        }
        let punched = directory.punch(&heap.fd, from..from + count).is_ok();
        directory.mark_seen(from..from + count, !punched);
        runs::give(directory, self.owner, from, count, punched);
        count
    }
}

fn usable(entry: Entry, holes: bool) -> bool {
    entry.kind == EntryKind::Free && (holes || !entry.is_hole())
}
