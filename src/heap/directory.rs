//! The directory: one word per extent that says what the extent is and whose.
//!
//! ```text
//!   state    aux                     moves to
//!   FREE     -                       CLAIMED, by compare-exchange of whoever wants the extent
//!   CLAIMED  -                       TAIL then SLAB/LARGE (in this order, the head last), or FREE; by its owner
//!   SLAB     -       class           CLAIMED, by its owner when the slab is empty
//!   LARGE    extents                 CLAIMED, by compare-exchange of whoever frees the block: two frees, one winner
//!   TAIL     distance to its head    FREE, by whoever has the head CLAIMED
//! ```
//!
//! The head is the commit point: a run of extents is taken from the moment its head says so. A death before that
//! leaves CLAIMED words and TAILs of no head, a death while freeing leaves a CLAIMED head and some TAILs; both are
//! found by the owner's number and by "a TAIL whose head is neither a head that reaches it nor CLAIMED".

use super::{EXTENT_BYTES, Owner};
use crate::error::{Error, Result};
use crate::prim::{AtomicU32, AtomicU64, Ordering};
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
            _ => Kind::Claimed,
        };
        Entry { kind, class: (word >> 48) as u8, owner: (word >> 32) as Owner, aux: word as u32 }
    }
}

/// One process's view of the directory.
#[derive(Debug)]
pub(super) struct Directory {
    start: usize,
    data: usize,
    max_extents: u32,
    /// Extents that exist for sure; private. Relaxed: it only grows, and the file's size is behind it.
    known: AtomicU32,
}

/// Bytes in front of the extents for a heap of `range_bytes`: the header page and the directory.
pub(super) fn bytes_for(range_bytes: usize) -> usize {
    let extents = range_bytes.div_ceil(EXTENT_BYTES);
    (memory::page_size() + extents * 8).next_multiple_of(EXTENT_BYTES)
}

impl Directory {
    /// Over a mapping that was laid out with [`bytes_for`].
    pub(super) fn new(address: usize, length: usize) -> Directory {
        // The number of extents is what fits with the directory that it needs.
        let mut extents = length / EXTENT_BYTES;
        while bytes_for(extents * EXTENT_BYTES) + extents * EXTENT_BYTES > length {
            extents -= 1;
        }
        Directory {
            start: address + memory::page_size(),
            data: address + bytes_for(extents * EXTENT_BYTES),
            max_extents: extents as u32,
            known: AtomicU32::new(0),
        }
    }

    pub(super) fn data_start(&self) -> usize {
        self.data
    }

    pub(super) fn known_extents(&self) -> u32 {
        self.known.load(Ordering::Relaxed)
    }

    pub(super) fn used_bytes(&self) -> usize {
        memory::page_size() + self.known_extents() as usize * 8
    }

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
        let before = self.data - (self.start - memory::page_size());
        let extents = memory::length_of(fd).unwrap_or(0).saturating_sub(before) / EXTENT_BYTES;
        let known = (extents as u32).min(self.max_extents);
        // The directory's words for the new extents: reserved by whoever reserved the extents, unless it was hostile.
        if known > self.known_extents() && self.reserve_words(fd, known).is_ok() {
            self.known.fetch_max(known, Ordering::Relaxed);
        }
        self.known_extents()
    }

    fn reserve_words(&self, fd: RawFd, extents: u32) -> Result<()> {
        memory::reserve(fd, 0, memory::page_size() + extents as usize * 8)
    }

    /// Makes at least `extents` more extents, more if that is cheap.
    pub(super) fn grow(&self, fd: RawFd, extents: u32) -> Result<()> {
        let known = self.refresh(fd);
        let room = self.max_extents - known;
        if extents > room {
            let text = format!("the heap is limited to {} bytes", self.max_extents as usize * EXTENT_BYTES);
            return Err(Error::errno(libc::ENOMEM, text));
        }
        // The kernel answers a cgroup's limit by killing, so what is left is looked at before. Some is left over for
        // what the family needs besides.
        const SPARE: u64 = 8 << 20;
        let left = limits::available_memory().saturating_sub(SPARE) / EXTENT_BYTES as u64;
        let left = u32::try_from(left).unwrap_or(u32::MAX);
        if extents > left {
            let text = format!("{} bytes more are beyond what is available", extents as usize * EXTENT_BYTES);
            return Err(Error::errno(libc::ENOMEM, text));
        }
        let wanted = extents.max((known / 4).clamp(FIRST_STEP, LAST_STEP)).min(room).min(left);
        self.reserve_words(fd, known + wanted)?;
        let reserve = |count: u32| {
            let offset = self.address_of(known) - (self.start - memory::page_size());
            memory::reserve(fd, offset, count as usize * EXTENT_BYTES)
        };
        if reserve(wanted).is_err() {
            reserve(extents)?;
        }
        self.refresh(fd);
        Ok(())
    }

    /// Reserves the pages of these extents, whoever made the file so long.
    pub(super) fn reserve_extents(&self, fd: RawFd, extents: Range<u32>) -> Result<()> {
        let offset = self.address_of(extents.start) - (self.start - memory::page_size());
        memory::reserve(fd, offset, extents.len() * EXTENT_BYTES)
    }
}

/// The heap grows by at least 256 KiB and by at most 64 MiB more than is needed at once.
const FIRST_STEP: u32 = 4;
const LAST_STEP: u32 = 1024;
