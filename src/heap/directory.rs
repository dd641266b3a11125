//! The directory: one word per extent that says what the extent is and whose.
//!
//! ```text
//!   state    aux                     moves to
//!   FREE     0: reserved; 1: a hole  CLAIMED, by compare-exchange of whoever wants the extent
//!   CLAIMED  -                       TAIL then SLAB/LARGE (in this order, the head last), or FREE; by its owner
//!   SLAB     -       class           CLAIMED, by its owner when the slab is empty
//!   LARGE    extents                 SPARE, by compare-exchange of whoever frees the block: two frees, one winner
//!   SPARE    extents                 LARGE or CLAIMED, by compare-exchange of whoever wants the block, or its extents
//!   TAIL     distance to its head    FREE, by whoever has the head CLAIMED
//! ```
//!
//! The head is the commit point: a run of extents is taken from the moment its head says so. A death before that
//! leaves CLAIMED words and TAILs of no head, a death while freeing leaves a CLAIMED head and some TAILs; both are
//! found by the owner's number and by "a TAIL whose head is neither a head that reaches it nor CLAIMED".
//!
//! A large block that was freed stays in one piece for the next of its length: to take a hundred extents apart and put them
//! together again costs ten times what an empty task does. Whoever finds no free extents takes the spare ones apart.
//!
//! A free extent whose pages the system has been given back is a hole. It is punched while CLAIMED, and reserved again
//! while CLAIMED, so nobody meets one half done; what a death leaves CLAIMED counts as a hole.

use super::{EXTENT_BYTES, Owner};
use crate::error::{Error, Result};
use crate::prim::{AtomicU32, AtomicU64, Ordering};
use crate::queue::bell::Bell;
use crate::sys::memory::FileId;
use crate::sys::{limits, memory};
use std::ops::Range;
use std::os::fd::RawFd;

/// What an extent is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Free = 0,
    Claimed = 1,
    Slab = 2,
    Large = 3,
    Tail = 4,
    Spare = 5,
}

/// A directory word, taken apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Entry {
    pub kind: Kind,
    pub class: u8,
    pub owner: Owner,
    pub aux: u32,
}

impl Entry {
    pub(super) const FREE: Entry = Entry { kind: Kind::Free, class: 0, owner: 0, aux: 0 };
    pub(super) const HOLE: Entry = Entry { kind: Kind::Free, class: 0, owner: 0, aux: 1 };

    pub(super) fn claimed(owner: Owner) -> Entry {
        Entry { kind: Kind::Claimed, class: 0, owner, aux: 0 }
    }

    fn word(self) -> u64 {
        (self.kind as u64) << 56
            | u64::from(self.class) << 48
            | u64::from(self.owner) << 32
            | u64::from(self.aux)
    }

    /// Garbage, which only a hostile process writes, reads as an extent that is nobody's to use.
    fn from_word(word: u64) -> Entry {
        let kind = match word >> 56 {
            0 => Kind::Free,
            2 => Kind::Slab,
            3 => Kind::Large,
            4 => Kind::Tail,
            5 => Kind::Spare,
            _ => Kind::Claimed,
        };
        Entry { kind, class: (word >> 48) as u8, owner: (word >> 32) as Owner, aux: word as u32 }
    }
}

/// One process's view of the directory.
#[derive(Debug)]
pub(super) struct Directory {
    /// The address of the file's first byte.
    origin: usize,
    /// The directory's words, and the extents.
    start: usize,
    data: usize,
    max_extents: u32,
    /// Extents that exist for sure; private. Relaxed: it only grows, and the file's size is behind it.
    known: AtomicU32,
    /// Holes that may be filled before what is left is looked at again; private. Relaxed: under the allocator's lock.
    credit: AtomicU32,
    /// Which file it is. Code that has closed the descriptor may have opened another one with its number.
    file: FileId,
}

/// Bytes in front of the extents for a heap of `range_bytes`: the header page and the directory.
pub(super) fn bytes_for(range_bytes: usize) -> usize {
    let extents = range_bytes.div_ceil(EXTENT_BYTES);
    (memory::page_size() + extents * 8).next_multiple_of(EXTENT_BYTES)
}

impl Directory {
    /// Over memory that was laid out with [`bytes_for`], in a file whose first byte is at `origin`.
    pub(super) fn new(file: FileId, origin: usize, address: usize, length: usize) -> Directory {
        // The number of extents is what fits with the directory that it needs.
        let mut extents = length / EXTENT_BYTES;
        while extents > 0 && bytes_for(extents * EXTENT_BYTES) + extents * EXTENT_BYTES > length {
            extents -= 1;
        }
        Directory {
            origin,
            start: address + memory::page_size(),
            data: address + bytes_for(extents * EXTENT_BYTES),
            max_extents: extents as u32,
            known: AtomicU32::new(0),
            credit: AtomicU32::new(0),
            file,
        }
    }

    #[inline]
    pub(super) fn data_start(&self) -> usize {
        self.data
    }

    pub(super) fn known_extents(&self) -> u32 {
        self.known.load(Ordering::Relaxed)
    }

    #[inline]
    pub(super) fn address_of(&self, extent: u32) -> usize {
        self.data + extent as usize * EXTENT_BYTES
    }

    /// The extent that an address lies in, if that extent exists.
    pub(super) fn extent_at(&self, address: usize, fd: RawFd) -> Option<u32> {
        let extent = u32::try_from(address.checked_sub(self.data)? / EXTENT_BYTES).ok()?;
        self.reaches(extent.checked_add(1)?, fd).then_some(extent)
    }

    /// Whether there are as many extents as that: another process may just have made more than are known here.
    pub(super) fn reaches(&self, end: u32, fd: RawFd) -> bool {
        end <= self.known_extents() || end <= self.refresh(fd)
    }

    /// The most bytes that have been reserved at once; in the header page. Relaxed: a figure for people.
    pub(super) fn peak(&self) -> &AtomicU64 {
        // SAFETY: the header page is reserved, and mapped for as long as the heap, which owns this view.
        unsafe { &*std::ptr::with_exposed_provenance::<AtomicU64>(self.start - memory::page_size()) }
    }

    /// What wakes the pool's host; in the last quarter of the header page.
    pub(super) fn bell(&self) -> &Bell {
        let offset = memory::page_size() / 4;
        // SAFETY: as above; aligned for it, and every content is one.
        unsafe { &*std::ptr::with_exposed_provenance::<Bell>(self.start - offset) }
    }

    fn word(&self, extent: u32) -> &AtomicU64 {
        assert!(extent < self.known_extents());
        let address = self.start + extent as usize * 8;
        // SAFETY: the word lies in the directory, whose pages are reserved as far as there are known extents; the
        // mapping lives as long as the heap, which owns this view.
        unsafe { &*std::ptr::with_exposed_provenance::<AtomicU64>(address) }
    }

    /// Acquire: pairs with the Release of `set` and `exchange`, so that a head is seen with what was written before.
    pub(super) fn get(&self, extent: u32) -> Entry {
        Entry::from_word(self.word(extent).load(Ordering::Acquire))
    }

    pub(super) fn set(&self, extent: u32, entry: Entry) {
        self.word(extent).store(entry.word(), Ordering::Release);
    }

    pub(super) fn exchange(&self, extent: u32, from: Entry, to: Entry) -> bool {
        let word = self.word(extent);
        word.compare_exchange(from.word(), to.word(), Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Looks at the file's size again: other processes make it grow.
    pub(super) fn refresh(&self, fd: RawFd) -> u32 {
        let before = self.data - self.origin;
        let length = self.check_file(fd).and_then(|()| memory::length_of(fd)).unwrap_or(0);
        let extents = length.saturating_sub(before) / EXTENT_BYTES;
        let known = (extents as u32).min(self.max_extents);
        // The directory's words for the new extents: reserved by whoever reserved the extents, unless it was hostile.
        if known > self.known_extents() && self.reserve_words(fd, known).is_ok() {
            self.known.fetch_max(known, Ordering::Relaxed);
        }
        self.known_extents()
    }

    pub(super) fn reserve_words(&self, fd: RawFd, extents: u32) -> Result<()> {
        self.check_file(fd)?;
        let header = self.start - memory::page_size() - self.origin;
        memory::reserve(fd, header, memory::page_size() + extents as usize * 8)
    }

    /// Makes at least `extents` more extents, with `generous` more if that is cheap; which ones.
    pub(super) fn grow(&self, fd: RawFd, extents: u32, generous: bool) -> Result<Range<u32>> {
        let known = self.refresh(fd);
        let room = self.max_extents - known;
        if extents > room {
            let text = format!("the heap is limited to {} bytes", self.max_extents as usize * EXTENT_BYTES);
            return Err(Error::errno(libc::ENOMEM, text));
        }
        let left = self.take_credit(extents)?;
        let step = if generous { (known / 4).clamp(FIRST_STEP, LAST_STEP) } else { 0 };
        let wanted = extents.max(step).min(room).min(left);
        self.reserve_words(fd, known + wanted)?;
        let mut count = wanted;
        if self.fill(fd, known, count).is_err() {
            count = extents;
            self.fill(fd, known, count)?;
        }
        self.refresh(fd);
        self.note_peak(fd);
        Ok(known..known + count)
    }

    /// Reserves the pages of extents that this process has not seen reserved; some of them may be holes.
    pub(super) fn reserve(&self, fd: RawFd, extents: Range<u32>, holes: bool) -> Result<()> {
        let count = extents.end - extents.start;
        if holes {
            self.take_credit(count)?;
        }
        self.fill(fd, extents.start, count)?;
        if holes {
            self.note_peak(fd);
        }
        Ok(())
    }

    /// How many extents may be reserved now, which is `count` at least. What is left is looked at once for many small
    /// steps: it takes reading a handful of files.
    fn take_credit(&self, count: u32) -> Result<u32> {
        let credit = self.credit.load(Ordering::Relaxed);
        if count <= credit {
            self.credit.store(credit - count, Ordering::Relaxed);
            return Ok(credit);
        }
        let left = extents_left();
        if count > left {
            let text = format!("{} bytes more are beyond what is available", count as usize * EXTENT_BYTES);
            return Err(Error::errno(libc::ENOMEM, text));
        }
        self.credit.store((left / 8).min(LAST_STEP / 4), Ordering::Relaxed);
        Ok(left)
    }

    /// For tests that have no time for reading those files.
    #[cfg(test)]
    pub(super) fn trust_in_memory(&self) {
        self.credit.store(u32::MAX / 2, Ordering::Relaxed);
    }

    /// Gives the pages of extents back to the system.
    pub(super) fn punch(&self, fd: RawFd, extents: Range<u32>) -> Result<()> {
        self.check_file(fd)?;
        let count = (extents.end - extents.start) as usize;
        memory::punch(fd, self.address_of(extents.start) - self.origin, count * EXTENT_BYTES)
    }

    fn check_file(&self, fd: RawFd) -> Result<()> {
        if FileId::of(fd).is_ok_and(|file| file == self.file) {
            return Ok(());
        }
        Err(Error::errno(
            libc::EBADF,
            "the heap's descriptor has been closed: it cannot grow in this process",
        ))
    }

    fn fill(&self, fd: RawFd, extent: u32, count: u32) -> Result<()> {
        self.check_file(fd)?;
        memory::reserve(fd, self.address_of(extent) - self.origin, count as usize * EXTENT_BYTES)
    }

    fn note_peak(&self, fd: RawFd) {
        self.peak().fetch_max(memory::reserved_bytes(fd), Ordering::Relaxed);
    }
}

/// How many more extents the machine and the cgroups have room for. The kernel answers a cgroup's limit by killing, so
/// what is left is looked at before. Some is left over for what the family needs besides.
fn extents_left() -> u32 {
    const SPARE: u64 = 8 << 20;
    let left = limits::available_memory().saturating_sub(SPARE) / EXTENT_BYTES as u64;
    u32::try_from(left).unwrap_or(u32::MAX)
}

/// The heap grows by at least 256 KiB and by at most 64 MiB more than is needed at once.
const FIRST_STEP: u32 = 4;
const LAST_STEP: u32 = 1024;
