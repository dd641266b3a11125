//! The pool's heap: one growing piece of shared memory at the same address in every process of the family.
//!
//! ```text
//!   file      | header | directory: one word per extent ......... | extent 0 | extent 1 | ...
//!   reserved    page     as far as there are extents (the rest       all that the file's size covers,
//!                        of it is a hole that nobody touches)        less what was given back
//! ```
//!
//! The file grows by fallocate, which can fail, and is sealed against shrinking, so touching a block never can. All of
//! the range is mapped once and for all; nothing beyond the size is ever handed out. Extents that are free beyond what
//! is kept for the next blocks are punched out of the file, and reserved again before anybody gets them.
//!
//! Who may write what:
//!
//! | word | by whom |
//! |---|---|
//! | a directory entry | whoever moves it out of its state with one compare-exchange, then its owner until the next state |
//! | a slab's `taken` words | the slab's owner alone, with plain stores, while the slab is its current one |
//! | a slab's `returned` words | every process sets bits; the owner clears what it has fetched, while it is its current one |
//! | everything else about a slab or an allocator | nobody: it is private memory of its owner |
//!
//! A process has several allocators, so that its threads keep out of each other's way; to each other they are like those
//! of other processes. A forked child has none: calls in it are refused before they touch a lock of its parent's.
//!
//! A process may be killed between any two stores; `Heap::reclaim` says what is left and who clears it up. A hostile
//! process may write anything anywhere: so whatever is read from here is loaded once, and checked against private
//! bounds before it is used, and no loop runs on shared words alone.

mod allocator;
mod audit;
pub(crate) mod bell;
mod class;
pub(crate) mod counts;
mod directory;
mod entry;
mod extents;
pub(crate) mod marks;
pub mod own;
mod private;
pub(crate) mod reader;
mod reclaim;
mod runs;
pub mod segment;
mod slab;

pub use audit::{HeapStats, Usage};
pub(crate) use entry::Owner;
pub use reader::Whose;

use crate::error::{Error, Result};
use crate::sys::fd::Guarded;
use crate::sys::local::thread_word;
use crate::sys::memory::{self, Mapping};
use crate::sys::threads;
use allocator::Allocator;
use bell::Bell;
use counts::Counts;
use directory::Directory;
use entry::PLACE_BITS;
use marks::Marks;
use private::{Guard, Private};
use segment::Segment;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Memory is handed to processes in extents of this size, aligned to it within the heap.
pub(crate) const EXTENT_BYTES: usize = 64 * 1024;

/// What a fresh heap has reserved.
const FIRST_EXTENTS: u32 = 4;

/// As much of what is free stays reserved: 32 MiB, so that blocks that come and go cost no system calls.
const KEPT_EXTENTS: u32 = 512;

/// Blocks up to this size are not moved to become shorter.
const KEPT_IN_PLACE: usize = 256;

/// So many allocators a process has for a heap: threads that use it at once each have their own, up to that many.
const ALLOCATORS: usize = 8;

/// The host's number among the owners.
pub(crate) const HOST: Owner = 0;

/// Where heaps are looked for, downwards: far from where the kernel, the loader, sanitizers and valgrind put things. The
/// place must be free in every process of the family. LLVM's AddressSanitizer reserves 4 TiB at an address that changes
/// from process to process; so what is not free at the first places is tried below all of that, and not beside it. To the first ThreadSanitizer
/// agrees, to the others it doesn't. The last is for small address spaces.
#[cfg(target_arch = "x86_64")]
const ADDRESSES: [(usize, usize); 4] = [
    (0x7ec1_0000_0000, 0x7e80_0000_0000),
    (0x7e80_0000_0000, 0x7e00_0000_0000),
    (0x7000_0000_0000, 0x6000_0000_0000),
    (0x0060_0000_0000, 0x0010_0000_0000),
];
/// The same for 48-bit aarch64.
#[cfg(target_arch = "aarch64")]
const ADDRESSES: [(usize, usize); 3] = [
    (0xfe80_0000_0000, 0xfe00_0000_0000),
    (0xa000_0000_0000, 0x8000_0000_0000),
    (0x0060_0000_0000, 0x0010_0000_0000),
];

/// One process's view of a heap.
#[derive(Debug)]
pub struct Heap {
    fd: Guarded,
    /// Where the heap begins, how long its range is, and what keeps that mapped.
    start: usize,
    length: usize,
    _mapping: Option<Mapping>,
    _segment: Option<Arc<Segment>>,
    directory: Directory,
    owner: Owner,
    /// So many extents that are free stay reserved.
    kept: u32,
    allocators: [Private<Allocator>; ALLOCATORS],
}

impl Heap {
    /// A new heap that can grow to `range_bytes`.
    pub fn create(range_bytes: usize) -> Result<Heap> {
        let fd = memory::memfd(c"tine-heap")?;
        let directory_bytes = directory::bytes_for(range_bytes);
        memory::reserve(fd.as_raw_fd(), 0, memory::page_size())?;
        // No further seals: a worker could forbid the heap to grow, or later workers to map it for writing.
        let fd = memory::seal(fd, libc::F_SEAL_SHRINK | libc::F_SEAL_SEAL)?;
        let mapping = map_somewhere(&fd, directory_bytes + range_bytes.next_multiple_of(EXTENT_BYTES))?;
        let heap = Heap::over(fd, mapping, HOST)?;
        heap.directory.grow(&heap.fd, FIRST_EXTENTS, false)?;
        Ok(heap)
    }

    /// The heap of another process, at the address at which that process has it.
    pub(crate) fn attach(fd: OwnedFd, address: usize, length: usize, owner: Owner) -> Result<Heap> {
        if !memory::cannot_shrink(fd.as_raw_fd()) {
            return Err(Error::invalid("the heap's memory is not sealed against shrinking"));
        }
        let mapping = Mapping::shared_at(fd.as_raw_fd(), address, length)?;
        Heap::over(fd, mapping, owner)
    }

    /// The heap that the process from which this one was forked has mapped. It stays mapped as long as this lives.
    pub(crate) fn inherit(fd: OwnedFd, address: usize, length: usize) -> Result<Heap> {
        Heap::over(fd, Mapping::inherited(address, length), HOST)
    }

    fn over(fd: OwnedFd, mapping: Mapping, owner: Owner) -> Result<Heap> {
        mapping.leave_out_of_dumps();
        let (start, length) = (mapping.address(), mapping.length());
        let directory = Directory::new(start, start, length)?;
        let (_mapping, allocators) = (Some(mapping), allocators_of(owner));
        let fd = Guarded::new(fd);
        Ok(Heap {
            fd,
            start,
            length,
            _mapping,
            _segment: None,
            directory,
            owner,
            kept: KEPT_EXTENTS,
            allocators,
        })
    }

    /// What wakes the host of the pool whose heap this is.
    pub(crate) fn bell(&self) -> &Bell {
        self.directory.bell()
    }

    /// In whose rings there are results, in a pool of many workers.
    pub(crate) fn marks(&self) -> &Marks {
        self.directory.marks()
    }

    /// What has been counted for faults on request.
    pub(crate) fn counts(&self) -> &Counts {
        self.directory.counts()
    }

    /// This process takes the part of another owner: a worker that was forked from one that had attached already.
    pub(crate) fn become_owner(&mut self, owner: Owner) {
        self.owner = owner;
        self.allocators = allocators_of(owner);
    }

    /// A block of at least `size` bytes, aligned to 16. Its content is whatever it was.
    #[inline]
    pub fn allocate(&self, size: usize) -> Result<NonNull<u8>> {
        self.allocate_announced(size, |_| ())
    }

    /// The same; `announce` learns the address before the block is anybody's, so that a process that is killed in
    /// between leaves word of it.
    #[inline]
    pub(crate) fn allocate_announced(&self, size: usize, announce: impl FnMut(usize)) -> Result<NonNull<u8>> {
        let address = self.allocator().allocate(self, size, announce)?;
        to_pointer(address)
    }

    /// A block where that takes no more than setting a bit. It cannot panic, so its caller needs no net.
    #[inline(always)]
    pub(crate) fn allocate_quickly(&self, size: usize) -> Option<NonNull<u8>> {
        let address = self.try_own_allocator()?.allocate_quickly(self, size)?;
        NonNull::new(std::ptr::with_exposed_provenance_mut(address))
    }

    /// Frees a block where that takes no more than clearing a bit; whether it did. It cannot panic either.
    #[inline(always)]
    pub(crate) fn free_quickly(&self, block: *mut u8) -> bool {
        let Some(mut allocator) = self.try_own_allocator() else { return false };
        allocator.free_quickly(self, block.expose_provenance())
    }

    /// The same, all of it zeroed: `count` times `size` bytes.
    pub fn allocate_zeroed(&self, count: usize, size: usize) -> Result<NonNull<u8>> {
        let too_long = || {
            Error::errno(
                libc::EOVERFLOW,
                format!("count is {count} and size is {size}: their product overflows"),
            )
        };
        let bytes = count.checked_mul(size).ok_or_else(too_long)?;
        let block = self.allocate(bytes)?;
        // SAFETY: a new block, as long as the bytes.
        unsafe { block.as_ptr().write_bytes(0, bytes) };
        Ok(block)
    }

    /// A block whose address is a multiple of `alignment`, a power of two.
    pub fn allocate_aligned(&self, alignment: usize, size: usize) -> Result<NonNull<u8>> {
        if !alignment.is_power_of_two() {
            return Err(Error::invalid(format!("alignment is {alignment}, which is not a power of two")));
        }
        let address = self.allocator().allocate_aligned(self, size, alignment)?;
        to_pointer(address)
    }

    /// Makes a block longer or shorter. Its content moves along; on failure it stays as it is.
    ///
    /// # Safety
    /// The block is the caller's: nobody else uses it during the call, nor at its old address afterwards.
    pub unsafe fn reallocate(&self, block: NonNull<u8>, size: usize) -> Result<NonNull<u8>> {
        let has = self.size_of(block)?;
        if size <= has && (size >= has / 2 || has <= KEPT_IN_PLACE) {
            return Ok(block);
        }
        let new = self.allocate(size)?;
        // SAFETY: both blocks are at least as long as the shorter of the two, and apart.
        unsafe { std::ptr::copy_nonoverlapping(block.as_ptr(), new.as_ptr(), has.min(size)) };
        // SAFETY: nobody else uses the block, by the contract above, and the caller gets the new one in its place.
        unsafe { self.free(block) }?;
        Ok(new)
    }

    /// How many bytes a block really has.
    pub fn size_of(&self, block: NonNull<u8>) -> Result<usize> {
        allocator::size_of(self, block.as_ptr().expose_provenance())
    }

    /// Gives a block back, from whatever process. An address that is no allocated block's start is refused.
    ///
    /// # Safety
    /// Nobody uses the block any more, in any process: no queue, lock or reference is in it.
    #[inline]
    pub unsafe fn free(&self, block: NonNull<u8>) -> Result<()> {
        self.free_address(block.as_ptr().expose_provenance())
    }

    /// The same for an address that another process has written.
    #[inline]
    pub(crate) fn free_address(&self, address: usize) -> Result<()> {
        self.allocator().free(self, address)
    }

    /// Gives all memory that nothing is in back to the system.
    pub fn trim(&self) {
        self.let_go_of_all();
        let mut allocator = self.allocator();
        self.take_back(&mut allocator);
        allocator.punch_beyond(self, 0);
    }

    /// Lets go of all slabs that this process allocates from: those that nothing is in are free then.
    fn let_go_of_all(&self) {
        self.allocators.iter().for_each(|allocator| allocator.lock().let_go_of_all(self));
    }

    /// This thread is about to sleep: meanwhile whoever needs memory takes back what it allocates from, once nothing is in it.
    pub(crate) fn rest(&self) {
        if let Some(mut own) = self.try_own_allocator() {
            own.let_go_of_all(self);
        }
    }

    /// The same for the whole process. An allocator that is in use has a thread that does not sleep.
    pub(crate) fn rest_all(&self) {
        for allocator in &self.allocators {
            if let Some(mut allocator) = allocator.try_lock(threads::only_one()) {
                allocator.let_go_of_all(self);
            }
        }
    }

    /// Takes back all slabs that nothing is in, whoever made them; `mine` is an allocator that the caller has locked. Of
    /// other processes it is those that they do not allocate from at the moment.
    fn take_back(&self, mine: &mut Allocator) {
        mine.let_go_of_all(self);
        self.rest_all();
        for (extent, entry, _) in self.runs() {
            if entry.kind == entry::EntryKind::Loose {
                mine.take_back(self, extent);
            }
        }
    }

    /// Whether all of these bytes lie in memory that the heap has handed out, or could have.
    pub fn contains(&self, address: usize, length: usize) -> bool {
        let start = self.directory.data_start();
        let Some(offset) = address.checked_sub(start) else { return false };
        let Some(end) = offset.checked_add(length) else { return false };
        end <= self.directory.known_extents() as usize * EXTENT_BYTES
            || (end <= self.length && end <= self.refreshed_bytes())
    }

    /// The same; an error where that cannot be found out for want of something.
    pub(crate) fn reaches(&self, address: usize, length: usize) -> Result<bool> {
        if !self.contains(address, length) && self.overlaps(address, length) {
            self.directory.look_again(&self.fd)?;
        }
        Ok(self.contains(address, length))
    }

    fn refreshed_bytes(&self) -> usize {
        self.directory.refresh(&self.fd) as usize * EXTENT_BYTES
    }

    /// Whether any of these bytes lies in the heap's range.
    pub(crate) fn overlaps(&self, address: usize, length: usize) -> bool {
        let end = self.start + self.length;
        address < end && address.saturating_add(length) > self.start
    }

    /// Where the heap's mapping begins.
    pub(crate) fn address(&self) -> usize {
        self.start
    }

    /// How long the mapping is.
    pub(crate) fn mapped_bytes(&self) -> usize {
        self.length
    }

    /// The memory's descriptor; -1 where the program has closed it.
    pub(crate) fn fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    #[inline]
    fn allocator(&self) -> Guard<'_, Allocator> {
        self.allocators[own_number()].lock()
    }

    /// The same where nobody else has it, and where which it is is known already: no call is made here.
    #[inline(always)]
    fn try_own_allocator(&self) -> Option<Guard<'_, Allocator>> {
        let alone = threads::only_one_if_known()?;
        // The words of threads that have none say 0, and 0 less 1 is no index.
        let number = if alone { 0 } else { number::get().wrapping_sub(1) };
        self.allocators.get(number)?.try_lock(alone)
    }
}

fn allocators_of(owner: Owner) -> [Private<Allocator>; ALLOCATORS] {
    std::array::from_fn(|number| Private::new(Allocator::new(owner | (number as Owner) << PLACE_BITS)))
}

// The number of this thread's allocator plus one; 0 while it has none.
thread_word!(number, "tine_heap_number");

/// Which of a process's allocators this thread uses: the first while there is no other thread, and then each thread
/// another one, as far as there are enough.
fn own_number() -> usize {
    /// Relaxed: any order will do.
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    if threads::only_one() {
        return 0;
    }
    if let Some(own) = number::get().checked_sub(1) {
        return own;
    }
    let own = NEXT.fetch_add(1, Ordering::Relaxed) % ALLOCATORS;
    // SAFETY: this thread's word, which it alone uses.
    unsafe { number::address().write(own + 1) };
    own
}

fn to_pointer(address: usize) -> Result<NonNull<u8>> {
    NonNull::new(std::ptr::with_exposed_provenance_mut(address))
        .ok_or_else(|| Error::errno(libc::ENOMEM, "a block at address zero"))
}

/// Where the last heap was put: below it there is most likely room for the next. Relaxed: a hint.
static LAST: AtomicUsize = AtomicUsize::new(0);

fn map_somewhere(fd: &OwnedFd, length: usize) -> Result<Mapping> {
    let step = length.next_multiple_of(1 << 30);
    let last = LAST.load(Ordering::Relaxed);
    let places = if memory::is_confined() { &ADDRESSES[..1] } else { &ADDRESSES[..] };
    let below = places.iter().find(|(highest, lowest)| (*lowest..*highest).contains(&last));
    let below = below.map(|(_, lowest)| (last, *lowest));
    let mut refusal = None;
    for (mut address, lowest) in below.into_iter().chain(places.iter().copied()) {
        // What is not free there may be large, or all of the place out of reach: some emulators take such an address for a hint, and
        // say so of each. So that the search ends, the stride doubles.
        let mut stride = step;
        while address >= lowest + step {
            match Mapping::shared_at(fd.as_raw_fd(), address - step, length) {
                Ok(mapping) => {
                    LAST.store(mapping.address(), Ordering::Relaxed);
                    return Ok(mapping);
                }
                Err(error) if error.code().0 == -libc::EEXIST => {
                    address = address.saturating_sub(stride);
                    stride *= 2;
                }
                // There may be no such addresses.
                Err(error) if error.code().0 == -libc::ENOMEM => {
                    refusal.get_or_insert(error);
                    break;
                }
                Err(error) => return Err(error),
            }
        }
    }
    let text = format!("the address space has no {length} free bytes; a smaller .heap_bytes may help");
    Err(refusal.unwrap_or_else(|| Error::errno(libc::ENOMEM, text)))
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
pub(crate) mod tests;
