//! The directory: one word per extent, of which the first of each run says what the run is and whose.
//!
//! ```text
//!   state    aux          moves to
//!   FREE     length       CLAIMED, by compare-exchange of whoever wants it, or wants to join it to a neighbour
//!   CLAIMED  length       SLAB, LARGE, FREE, or several runs; by its owner, or who clears up after that
//!   SLAB     generation   LOOSE, by its owner when nothing in it is free, or by who clears up after that
//!   LOOSE    generation   SLAB, by its owner; CLAIMED, by compare-exchange of whoever finds it without blocks
//!   LARGE    length       CLAIMED, by compare-exchange of whoever frees the block: two frees, one winner
//!   TAIL     -            all of it follows the first word: see `runs.rs`
//! ```
//!
//! A block is there from the moment the first word says so. The pages of a free run that the system has been given back
//! are a hole. They are punched while CLAIMED, and reserved again while CLAIMED, so nobody meets one half done.

use super::EXTENT_BYTES;
use super::bell::Bell;
use super::counts::Counts;
use super::entry::Entry;
use super::marks::Marks;
use crate::error::{Error, Result};
use crate::sys::clock::now_ns;
use crate::sys::fd::Guarded;
use crate::sys::memory::Mapping;
use crate::sys::prim::{AtomicU32, AtomicU64, Ordering};
use crate::sys::{limits, memory};
use std::ops::Range;
use std::os::fd::{AsRawFd, RawFd};

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
    /// Holes that may be filled before what is left is looked at again; private. Relaxed: an estimate.
    credit: AtomicU32,
    /// Until when that credit is good. Others use up what was left, too. Private. Relaxed: an estimate.
    credit_until_ns: AtomicU64,
    /// A bit for each extent that this process has seen reserved with its own eyes: another process could have made the
    /// file longer, or called a hole reserved, without reserving anything. Private. Relaxed: about extents that this
    /// thread has claimed.
    seen: Seen,
}

/// Bytes in front of the extents for a heap of `range_bytes`: the header page and the directory.
pub(super) fn bytes_for(range_bytes: usize) -> usize {
    let extents = range_bytes.div_ceil(EXTENT_BYTES);
    (memory::page_size() + extents * 8).next_multiple_of(EXTENT_BYTES)
}

impl Directory {
    /// Over memory that was laid out with [`bytes_for`], in a file whose first byte is at `origin`.
    pub(super) fn new(origin: usize, address: usize, length: usize) -> Result<Directory> {
        // The number of extents is what fits with the directory that it needs.
        let mut extents = length / EXTENT_BYTES;
        while extents > 0 && bytes_for(extents * EXTENT_BYTES) + extents * EXTENT_BYTES > length {
            extents -= 1;
        }
        Ok(Directory {
            origin,
            start: address + memory::page_size(),
            data: address + bytes_for(extents * EXTENT_BYTES),
            max_extents: extents as u32,
            known: AtomicU32::new(0),
            credit: AtomicU32::new(0),
            credit_until_ns: AtomicU64::new(0),
            seen: Seen::new(extents.div_ceil(64))?,
        })
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

    /// The extent that an address lies in, if that extent exists; an error where that can't be found out.
    pub(super) fn extent_at(&self, address: usize, fd: &Guarded) -> Result<Option<u32>> {
        let Some(offset) = address.checked_sub(self.data) else { return Ok(None) };
        match u32::try_from(offset / EXTENT_BYTES) {
            Ok(extent) if extent < self.max_extents && self.reaches(extent + 1, fd)? => Ok(Some(extent)),
            _ => Ok(None),
        }
    }

    /// Whether there are as many extents as that: another process may just have made more than are known here.
    pub(super) fn reaches(&self, end: u32, fd: &Guarded) -> Result<bool> {
        Ok(end <= self.known_extents() || end <= self.max_extents && end <= self.look_again(fd)?)
    }

    /// The most bytes that have been reserved at once; in the header page. Relaxed: a figure for people.
    pub(super) fn peak(&self) -> &AtomicU64 {
        // SAFETY: the header page is reserved, and mapped for as long as the heap, which owns this view.
        unsafe { &*std::ptr::with_exposed_provenance::<AtomicU64>(self.start - memory::page_size()) }
    }

    /// What wakes the pool's host; in the last quarter of the header page.
    pub(super) fn bell(&self) -> &Bell {
        let offset = memory::page_size() / 4;
        // SAFETY: the header page is reserved, and mapped for as long as the heap, which owns this view. The place is
        // aligned for a `Bell`, and every content is one.
        unsafe { &*std::ptr::with_exposed_provenance::<Bell>(self.start - offset) }
    }

    /// In whose rings there are results; behind the bell.
    pub(super) fn marks(&self) -> &Marks {
        let offset = memory::page_size() / 4 - size_of::<Bell>();
        // SAFETY: the header page is reserved, and mapped for as long as the heap, which owns this view. The place
        // behind the bell is aligned for `Marks`, and every content is one.
        unsafe { &*std::ptr::with_exposed_provenance::<Marks>(self.start - offset) }
    }

    /// What is counted for faults on request; behind the marks.
    pub(super) fn counts(&self) -> &Counts {
        const BEFORE: usize = size_of::<Bell>() + size_of::<Marks>();
        const _: () = assert!(BEFORE + size_of::<Counts>() <= 1024, "a quarter of the smallest page");
        let offset = memory::page_size() / 4 - BEFORE;
        // SAFETY: the header page is reserved, and mapped for as long as the heap, which owns this view. The place
        // behind the marks is aligned for `Counts`, and every content is one.
        unsafe { &*std::ptr::with_exposed_provenance::<Counts>(self.start - offset) }
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

    /// Looks at the file's size again: other processes make it grow. Where it can't be seen, what was known before.
    pub(super) fn refresh(&self, fd: &Guarded) -> u32 {
        self.look_again(fd).unwrap_or_else(|_| self.known_extents())
    }

    /// The same, for those to whom the difference matters.
    pub(super) fn look_again(&self, fd: &Guarded) -> Result<u32> {
        let before = self.data - self.origin;
        let length = open(fd).and_then(memory::length_of)?;
        let extents = length.saturating_sub(before) / EXTENT_BYTES;
        let known = (extents as u32).min(self.max_extents);
        // The directory's words for the new extents: reserved by whoever reserved the extents, unless it was hostile.
        if known > self.known_extents() {
            self.reserve_words(fd, known)?;
            self.known.fetch_max(known, Ordering::Relaxed);
        }
        Ok(self.known_extents())
    }

    pub(super) fn reserve_words(&self, fd: &Guarded, extents: u32) -> Result<()> {
        let header = self.start - memory::page_size() - self.origin;
        memory::reserve(open(fd)?, header, memory::page_size() + extents as usize * 8)
    }

    /// Makes at least `extents` more extents, with `generous` more if that is cheap; which ones.
    pub(super) fn grow(&self, fd: &Guarded, extents: u32, generous: bool) -> Result<Range<u32>> {
        let known = self.refresh(fd);
        let room = self.max_extents - known;
        if extents > room {
            let text = format!("the heap is limited to {} bytes", self.max_extents as usize * EXTENT_BYTES);
            return Err(Error::errno(libc::ENOMEM, text));
        }
        let step = if generous { (known / 4).clamp(FIRST_STEP, LAST_STEP) } else { 0 };
        let wanted = self.take_credit(extents, extents.max(step).min(room))?;
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
    pub(super) fn reserve(&self, fd: &Guarded, extents: Range<u32>, holes: bool) -> Result<()> {
        let count = extents.end - extents.start;
        if holes {
            self.take_credit(count, count)?;
        }
        self.fill(fd, extents.start, count)?;
        if holes {
            self.note_peak(fd);
        }
        Ok(())
    }

    /// How many extents may be reserved now, `count` at least and `wanted` at most. What is left is looked at once for many small
    /// steps: it takes reading a handful of files.
    fn take_credit(&self, count: u32, wanted: u32) -> Result<u32> {
        let rest = |credit: u32| credit.checked_sub(count).map(|_| credit.saturating_sub(wanted));
        let is_good = now_ns() < self.credit_until_ns.load(Ordering::Relaxed);
        let credit = is_good.then(|| self.credit.fetch_update(Ordering::Relaxed, Ordering::Relaxed, rest));
        if let Some(Ok(credit)) = credit {
            return Ok(credit.min(wanted));
        }
        let left = extents_left()?;
        if count > left {
            let text = format!(
                "the heap needs {} more bytes, more memory than is available",
                count as usize * EXTENT_BYTES
            );
            return Err(Error::errno(libc::ENOMEM, text));
        }
        // Others look at the same moment, and see the same left: each takes its share beyond what it needs.
        let share = left / SHARERS;
        let taken = wanted.min(count.max(share));
        self.credit.store(share.min(left - taken).min(MOST_CREDIT), Ordering::Relaxed);
        self.credit_until_ns.store(now_ns() + CREDIT_NS, Ordering::Relaxed);
        Ok(taken)
    }

    /// For tests that have no time for reading those files.
    #[cfg(test)]
    pub(super) fn trust_in_memory(&self) {
        self.credit.store(u32::MAX / 2, Ordering::Relaxed);
        self.credit_until_ns.store(u64::MAX, Ordering::Relaxed);
    }

    /// Whether this process has seen all of these extents reserved.
    pub(super) fn has_seen(&self, extents: Range<u32>) -> bool {
        let seen = |(word, bits): (usize, u64)| {
            self.seen.get(word).map_or(0, |word: &AtomicU64| word.load(Ordering::Relaxed)) & bits == bits
        };
        words_of(extents).all(seen)
    }

    pub(super) fn mark_seen(&self, extents: Range<u32>, seen: bool) {
        for (word, bits) in words_of(extents) {
            let Some(word) = self.seen.get(word) else { return };
            match seen {
                true => word.fetch_or(bits, Ordering::Relaxed),
                false => word.fetch_and(!bits, Ordering::Relaxed),
            };
        }
    }

    /// Gives the pages of extents back to the system.
    pub(super) fn punch(&self, fd: &Guarded, extents: Range<u32>) -> Result<()> {
        let count = (extents.end - extents.start) as usize;
        memory::punch(open(fd)?, self.address_of(extents.start) - self.origin, count * EXTENT_BYTES)
    }

    fn fill(&self, fd: &Guarded, extent: u32, count: u32) -> Result<()> {
        memory::reserve(open(fd)?, self.address_of(extent) - self.origin, count as usize * EXTENT_BYTES)
    }

    fn note_peak(&self, fd: &Guarded) {
        self.peak().fetch_max(memory::reserved_bytes(fd.as_raw_fd()).unwrap_or(0), Ordering::Relaxed);
    }
}

/// The words of a bit per extent that stand for a range, and which bits of each.
fn words_of(extents: Range<u32>) -> impl Iterator<Item = (usize, u64)> {
    let (start, end) = (extents.start, extents.end);
    (start / 64..end.div_ceil(64)).map(move |word| {
        let (from, to) = (start.max(word * 64) % 64, (end - word * 64).min(64));
        (word as usize, (u64::MAX >> (64 - to)) & (u64::MAX << from))
    })
}

/// Bits in memory of their own, which the kernel gives as they are used: there are many more extents than most heaps come to have, and
/// an allocator that has such a block left from another heap would have to write zeros into all of it.
#[derive(Debug)]
struct Seen {
    memory: Option<Mapping>,
}

impl Seen {
    fn new(words: usize) -> Result<Seen> {
        let memory = (words > 0).then(|| Mapping::zeros(words * size_of::<AtomicU64>())).transpose()?;
        Ok(Seen { memory })
    }

    fn get(&self, word: usize) -> Option<&AtomicU64> {
        let memory = self.memory.as_ref()?;
        // SAFETY: private memory that is mapped for as long as `self`, zero at first, and used as these atomics alone.
        let words = unsafe {
            let count = memory.length() / size_of::<AtomicU64>();
            std::slice::from_raw_parts(memory.pointer().cast::<AtomicU64>(), count)
        };
        words.get(word)
    }
}

/// The heap's descriptor, if the program has not closed it.
fn open(fd: &Guarded) -> Result<RawFd> {
    let closed = "the heap's descriptor has been closed: it cannot grow in this process";
    Some(fd.as_raw_fd()).filter(|fd| *fd >= 0).ok_or_else(|| Error::errno(libc::EBADF, closed))
}

/// How many more extents the machine and the cgroups have room for. The kernel answers a cgroup's limit by killing, so
/// what is left is looked at before. Some is left over for what the family needs besides.
fn extents_left() -> Result<u32> {
    const SPARE: u64 = 8 << 20;
    let left = limits::available_memory()?.saturating_sub(SPARE) / EXTENT_BYTES as u64;
    Ok(u32::try_from(left).unwrap_or(u32::MAX))
}

/// The heap grows by at least 256 KiB and by at most 64 MiB more than is needed at once.
const FIRST_STEP: u32 = 4;
const LAST_STEP: u32 = 1024;

/// So many processes may grow by what each saw to be left at the same moment, without all of them together having taken more.
const SHARERS: u32 = 256;
/// What one process may take without looking again: 4 MiB, half of what is left over.
const MOST_CREDIT: u32 = 64;
/// And for how long: a process that comes back to a credit of long ago does not know what others have taken since.
const CREDIT_NS: u64 = 10_000_000;
