//! Memory that is kept back, so that tine's own small needs never end the host when there is no more.
//!
//! What grows with the work that a host hands in, or with what it has, asks for its memory (`try_reserve`, [`grow`], [`collect`]) before
//! anything has changed, and reports -ENOMEM. So do a heap's lists of its slabs, and lists of its blocks and processes. What remains is
//! small and comes in many places: a text, a list of the threads that wait, a note of a death, a heap's record. Where the C library has
//! nothing for one of these, it comes from here. And a call that takes something on asks first whether enough is left: see [`suffices`].
//!
//! Not asked for, and longer than a block of the reserve if a program makes it so: what `TINE_CHECK` reads.
//!
//! The reserve is never lent to the C library, where the host or another of its threads could take it. The first region is a
//! part of the library, so it is there from the start; it costs pages only when it is used. Another one is made when half is in use and
//! there is memory again, so blocks that live long do not use the reserve up.
//!
//! ```text
//!   a bit of a region's map   0 -> 1  the thread that takes the cell, by compare-exchange of the word (Acquire)
//!                             1 -> 0  the thread that gives the block back (Release)
//!   base of a region          null -> its memory, once (Release), read by Acquire
//! ```
//!
//! Nothing is locked: a child that is forked at any moment can use its copy.

use crate::error::{Code, Result};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::ffi::{CStr, CString};
use std::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering};

const CELL: usize = 128;
/// A block lies in the cells of one word of the map.
const MOST: usize = CELL * u64::BITS as usize;
const WORDS: usize = 64;
const BYTES: usize = WORDS * MOST;
const REGIONS: usize = 16;

#[repr(align(128))]
struct Memory(UnsafeCell<[u8; BYTES]>);

// SAFETY: the map says whose each cell is.
unsafe impl Sync for Memory {}

static FIRST: Memory = Memory(UnsafeCell::new([0; BYTES]));

struct Region {
    base: AtomicPtr<u8>,
    map: [AtomicU64; WORDS],
}

impl Region {
    const fn at(base: *mut u8) -> Region {
        Region { base: AtomicPtr::new(base), map: [const { AtomicU64::new(0) }; WORDS] }
    }
}

static ALL: [Region; REGIONS] = {
    let mut all = [const { Region::at(std::ptr::null_mut()) }; REGIONS];
    all[0] = Region::at(FIRST.0.get().cast());
    all
};

/// Cells that are free, of all regions. Relaxed: a measure of how short memory is.
static FREE: AtomicUsize = AtomicUsize::new(BYTES / CELL);

/// Far more than the calls that are in progress at a time need.
const ENOUGH: usize = BYTES / CELL / 2;

/// Whether so much is left that a call may take something on; -ENOMEM where not, and there is no memory to make it up.
#[inline]
pub(crate) fn suffices() -> Result<()> {
    if FREE.load(Ordering::Relaxed) >= ENOUGH { Ok(()) } else { make_up() }
}

#[cold]
fn make_up() -> Result<()> {
    let no_memory = || Code::errno(libc::ENOMEM).into();
    let layout = Layout::from_size_align(BYTES, CELL).map_err(|_| no_memory())?;
    let place =
        ALL.iter().find(|region| region.base.load(Ordering::Relaxed).is_null()).ok_or_else(no_memory)?;
    // SAFETY: a layout that is not empty.
    let new = unsafe { System.alloc(layout) };
    if new.is_null() {
        return Err(no_memory());
    }
    match place.base.compare_exchange(std::ptr::null_mut(), new, Ordering::Release, Ordering::Relaxed) {
        Ok(_) => drop(FREE.fetch_add(BYTES / CELL, Ordering::Relaxed)),
        // SAFETY: just allocated, and nobody else's.
        Err(_) => unsafe { System.dealloc(new, layout) },
    }
    Ok(())
}

/// These items in a row, or -ENOMEM: for what grows with what a caller has asked for.
pub(crate) fn collect<T>(items: impl ExactSizeIterator<Item = T>) -> Result<Vec<T>> {
    let mut all = Vec::new();
    all.try_reserve_exact(items.len()).map_err(|_| Code::errno(libc::ENOMEM))?;
    all.extend(items);
    Ok(all)
}

/// Room for so many more items, or -ENOMEM, and nothing has changed. It may lie in the reserve, so that must have enough left.
#[inline]
pub(crate) fn grow<T>(list: &mut Vec<T>, more: usize) -> Result<()> {
    if list.capacity() - list.len() >= more {
        return Ok(());
    }
    suffices()?;
    list.try_reserve(more).map_err(|_| Code::errno(libc::ENOMEM).into())
}

/// A copy of a string, or -ENOMEM.
pub(crate) fn copy_of(text: &CStr) -> Result<CString> {
    let bytes = collect(text.to_bytes_with_nul().iter().copied())?;
    CString::from_vec_with_nul(bytes).map_err(|_| Code::errno(libc::EINVAL).into())
}

/// Copies of strings, or -ENOMEM.
pub(crate) fn copies_of(list: &[CString]) -> Result<Vec<CString>> {
    let mut copies = Vec::new();
    grow(&mut copies, list.len())?;
    for text in list {
        copies.push(copy_of(text)?);
    }
    Ok(copies)
}

/// The bits of a block of so many cells, at the lowest place.
const fn bits(size: usize) -> u64 {
    u64::MAX >> (u64::BITS as usize - cells(size))
}

const fn cells(size: usize) -> usize {
    size.div_ceil(CELL)
}

/// A block of the reserve's, or null.
#[cold]
fn take(layout: Layout) -> *mut u8 {
    let size = layout.size();
    if size == 0 || size > MOST || layout.align() > CELL {
        return std::ptr::null_mut();
    }
    for region in &ALL {
        let base = region.base.load(Ordering::Acquire);
        if base.is_null() {
            break;
        }
        for (number, word) in region.map.iter().enumerate() {
            let mut taken = word.load(Ordering::Relaxed);
            let places = 0..=(u64::BITS as usize - cells(size));
            while let Some(place) = places.clone().find(|place| taken & bits(size) << place == 0) {
                match word.compare_exchange(
                    taken,
                    taken | bits(size) << place,
                    Ordering::Acquire,
                    Ordering::Relaxed,
                ) {
                    Ok(_) => {
                        FREE.fetch_sub(cells(size), Ordering::Relaxed);
                        // SAFETY: `number` and `place` are of the region's own map, so the cell lies within the
                        // region.
                        return unsafe { base.add(number * MOST + place * CELL) };
                    }
                    Err(now) => taken = now,
                }
            }
        }
    }
    std::ptr::null_mut()
}

/// Where the block lies, if it is one of the reserve's: which region, and how far from its base.
#[inline]
fn find(block: *mut u8) -> Option<(&'static Region, usize)> {
    for region in &ALL {
        let base = region.base.load(Ordering::Acquire);
        if base.is_null() {
            return None;
        }
        let offset = block.addr().wrapping_sub(base.addr());
        if offset < BYTES {
            return Some((region, offset));
        }
    }
    None
}

#[cold]
fn give_back((region, offset): (&Region, usize), size: usize) {
    let mask = bits(size) << (offset % MOST / CELL);
    region.map[offset / MOST].fetch_and(!mask, Ordering::Release);
    FREE.fetch_add(cells(size), Ordering::Relaxed);
}

/// The C library's allocator, with the reserve behind it.
#[cfg_attr(not(feature = "allocator"), allow(dead_code))]
pub(crate) struct WithReserve;

// SAFETY: a block is one of `System`'s, or cells of the reserve that nobody else has; which of both, its address says.
unsafe impl GlobalAlloc for WithReserve {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: `System` asks of `layout` what `GlobalAlloc` asks of it in this function.
        let block = unsafe { System.alloc(layout) };
        if block.is_null() { take(layout) } else { block }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: `System` asks of `layout` what `GlobalAlloc` asks of it in this function.
        let block = unsafe { System.alloc_zeroed(layout) };
        if !block.is_null() {
            return block;
        }
        let block = take(layout);
        if !block.is_null() {
            // SAFETY: `take` has given a block of `layout.size()` bytes.
            unsafe { block.write_bytes(0, layout.size()) };
        }
        block
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        match find(block) {
            // SAFETY: not the reserve's, so it came from `System`. `layout` is the one that it was allocated with, as
            // `GlobalAlloc` asks.
            None => unsafe { System.dealloc(block, layout) },
            Some(place) => give_back(place, layout.size()),
        }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if find(block).is_none() {
            // SAFETY: not the reserve's, so it came from `System`. `layout` and `size` are as `GlobalAlloc` asks.
            let larger = unsafe { System.realloc(block, layout, size) };
            if !larger.is_null() {
                return larger;
            }
        }
        // SAFETY: `size` and the alignment are a layout: `GlobalAlloc` asks for that. Both blocks have at least
        // `kept` bytes, and `larger` is new, so they do not overlap. `block` was allocated here with `layout`, and
        // the caller of `realloc` has given it up.
        unsafe {
            let larger = self.alloc(Layout::from_size_align_unchecked(size, layout.align()));
            if !larger.is_null() {
                let kept = size.min(layout.size());
                larger.copy_from_nonoverlapping(block, kept);
                self.dealloc(block, layout);
            }
            larger
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_do_not_overlap_and_come_back() {
        let layout = |size: usize| Layout::from_size_align(size, 16).unwrap();
        let sizes = [1, 127, 128, 129, 1000, MOST, MOST - 1, 64];
        let blocks: Vec<(*mut u8, usize)> = sizes.iter().map(|size| (take(layout(*size)), *size)).collect();
        for (number, (block, size)) in blocks.iter().enumerate() {
            assert!(!block.is_null() && find(*block).is_some());
            // SAFETY: `take` has given a block of `size` bytes.
            unsafe { block.write_bytes(number as u8, *size) };
        }
        for (number, (block, size)) in blocks.iter().enumerate() {
            // SAFETY: the block is as long as that, and the loop above has written all of it.
            let bytes = unsafe { std::slice::from_raw_parts(*block, *size) };
            assert!(bytes.iter().all(|byte| *byte == number as u8));
        }
        for (block, size) in blocks {
            // SAFETY: taken with this layout.
            unsafe { WithReserve.dealloc(block, layout(size)) };
        }
        assert!(take(layout(MOST + 1)).is_null());
    }

    #[test]
    fn a_block_that_grows_keeps_what_is_in_it() {
        let old = Layout::from_size_align(100, 8).unwrap();
        let block = take(old);
        // SAFETY: blocks with their layouts.
        unsafe {
            block.write_bytes(7, 100);
            let larger = WithReserve.realloc(block, old, 9000);
            assert!(find(larger).is_none() && *larger.add(99) == 7);
            WithReserve.dealloc(larger, Layout::from_size_align(9000, 8).unwrap());
        }
    }

    #[test]
    fn threads_share_it() {
        let work = || {
            for round in 0..2000 {
                let layout = Layout::from_size_align(1 + round % 700, 8).unwrap();
                let block = take(layout);
                // SAFETY: a block with its layout.
                unsafe {
                    block.write_bytes(round as u8, layout.size());
                    assert_eq!(*block.add(layout.size() - 1), round as u8);
                    WithReserve.dealloc(block, layout);
                }
            }
        };
        std::thread::scope(|scope| (0..4).for_each(|_| drop(scope.spawn(work))));
    }
}
