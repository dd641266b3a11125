//! Which memory this process knows: what stands behind a queue's pointer before anything in there is touched.
//!
//! A queue is named by its address, which any process of the pool may have from any other. At its first use here the
//! address is looked for in the heaps of this process and the queue's bounds are checked against them; then both are
//! kept, in one word, so that the next use costs a load and a comparison. The kernel zeroes these words in a child of
//! fork, which thereby knows no queue.

use super::layout::{Geometry, Memory, Shared};
use super::message::{Queue, QueueOptions, caller};
use super::watch::{self, Watches};
use crate::error::{Code, Error, Result};
use crate::heap::Heap;
use crate::sync::{INVALID, NO_LOCKS, OTHER_NAMESPACE, Outcome};
use crate::sys::prim::{AtomicU64, Ordering};
use crate::sys::{fork, memory, reserve, robust};
use core::ptr::NonNull;
use std::sync::atomic::AtomicPtr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// A heap of this process.
pub(crate) enum Known {
    /// As long as the pool that this process has made, or until it closes a heap in a segment.
    Mapped(Weak<Heap>),
    /// The one that a worker has from its host: as long as the process.
    Worker(&'static Heap),
}

/// A heap to be used for the moment.
pub(crate) enum Borrowed {
    Mapped(Arc<Heap>),
    Worker(&'static Heap),
}

impl std::ops::Deref for Borrowed {
    type Target = Heap;

    fn deref(&self) -> &Heap {
        match self {
            Borrowed::Mapped(heap) => heap,
            Borrowed::Worker(heap) => heap,
        }
    }
}

impl Known {
    fn borrow(&self) -> Option<Borrowed> {
        match self {
            Known::Mapped(heap) => heap.upgrade().map(Borrowed::Mapped),
            Known::Worker(heap) => Some(Borrowed::Worker(heap)),
        }
    }
}

/// A heap, and what the C API knows it by; 0 before it does.
struct Entry {
    known: Known,
    handle: usize,
}

impl Entry {
    fn borrow(&self) -> Option<Borrowed> {
        self.known.borrow()
    }
}

/// The heaps themselves, with room for as many more as are promised.
#[derive(Default)]
struct Heaps {
    all: Vec<Entry>,
    promised: usize,
}

/// The heaps of one process. A forked child leaves its parent's alone: who held its lock there is not here.
struct Registry {
    pid: i32,
    heaps: Mutex<Heaps>,
    watches: Watches,
}

/// Null before the first heap. Acquire and Release: who sees the pointer sees the registry.
static REGISTRY: AtomicPtr<Registry> = AtomicPtr::new(std::ptr::null_mut());

/// The queues seen last: address and geometry in one word, so that they belong together. Null before the first, and
/// where there is no such memory. Acquire and Release for the pointer; the words are Relaxed, each stands alone.
static SEEN: AtomicPtr<AtomicU64> = AtomicPtr::new(std::ptr::null_mut());
const PLACES: usize = 512;
const ADDRESS_BITS: u32 = 48;

const BUSY: Code = Code::errno(libc::EBUSY);

#[inline(always)]
fn place_for(address: usize) -> Option<&'static AtomicU64> {
    let places = SEEN.load(Ordering::Acquire);
    let index = (address >> 6 ^ address >> 16) % PLACES;
    // SAFETY: null, or `PLACES` words that are never unmapped.
    unsafe { places.wrapping_add(index).as_ref() }.filter(|_| !places.is_null())
}

fn registry() -> Option<&'static Registry> {
    // SAFETY: null, or a registry that was leaked, so it stays as long as the process.
    unsafe { REGISTRY.load(Ordering::Acquire).as_ref() }
}

/// The descriptors of this process's queues; `None` where it has no heaps.
pub(super) fn watches() -> Option<&'static Watches> {
    registry().filter(|registry| registry.pid == fork::pid()).map(|registry| &registry.watches)
}

impl Registry {
    fn heaps(&self) -> MutexGuard<'_, Heaps> {
        self.heaps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How often the process has the heap at this address: one in a segment can be attached to several times.
    fn count(&self, address: usize) -> usize {
        let is_it = |known: &&Entry| known.borrow().is_some_and(|heap| heap.address() == address);
        self.heaps().all.iter().filter(is_it).count()
    }
}

/// Room for one more heap among those of this process, which was asked for before the heap is there.
pub(crate) struct Place(&'static Registry);

impl Place {
    /// `ENOMEM` where there is none.
    pub(crate) fn for_heap() -> Result<Place> {
        let pid = fork::pid();
        let registry = loop {
            let current = REGISTRY.load(Ordering::Acquire);
            // SAFETY: null, or a registry that was leaked, so it stays as long as the process.
            if let Some(registry) = unsafe { current.as_ref() }.filter(|registry| registry.pid == pid) {
                break registry;
            }
            // One per process that has heaps, for as long as it lives.
            let new = Box::into_raw(Box::new(Registry {
                pid,
                heaps: Mutex::default(),
                watches: Watches::default(),
            }));
            if REGISTRY.compare_exchange(current, new, Ordering::AcqRel, Ordering::Acquire).is_err() {
                // SAFETY: made above, and nobody else has seen it.
                drop(unsafe { Box::from_raw(new) });
            }
        };
        let mut heaps = registry.heaps();
        let promised = heaps.promised + 1;
        reserve::grow(&mut heaps.all, promised)?;
        heaps.promised = promised;
        Ok(Place(registry))
    }

    /// From now on queues may lie in this heap.
    pub(crate) fn know(self, heap: Known) {
        let mut heaps = self.0.heaps();
        heaps.all.retain(|known| known.borrow().is_some());
        heaps.all.push(Entry { known: heap, handle: 0 });
        drop(heaps);
        if SEEN.load(Ordering::Acquire).is_null()
            && let Some(new) = memory::wiped_in_children(PLACES * size_of::<AtomicU64>())
        {
            // Where another thread was faster, this page is wasted, once.
            let null = std::ptr::null_mut();
            let _ = SEEN.compare_exchange(null, new.cast(), Ordering::AcqRel, Ordering::Acquire);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.heaps().promised -= 1;
    }
}

/// What the C API knows a heap by, until it is forgotten.
pub(crate) fn name_heap(heap: &Heap, handle: usize) {
    let Some(registry) = registry().filter(|registry| registry.pid == fork::pid()) else { return };
    let mut heaps = registry.heaps();
    let entry =
        heaps.all.iter_mut().find(|entry| entry.borrow().is_some_and(|known| std::ptr::eq(&*known, heap)));
    if let Some(entry) = entry {
        entry.handle = handle;
    }
}

/// The handle of the heap that has this address; 0 where this process knows none.
pub(crate) fn handle_at(address: usize) -> usize {
    let Some(registry) = registry().filter(|registry| registry.pid == fork::pid()) else { return 0 };
    let has_it =
        |entry: &&Entry| entry.handle != 0 && entry.borrow().is_some_and(|heap| heap.contains(address, 1));
    registry.heaps().all.iter().find(has_it).map_or(0, |entry| entry.handle)
}

/// The heap is about to go, and with it its queues.
pub(crate) fn forget_heap(heap: &Heap) {
    let range = heap.address()..heap.address() + heap.mapped_bytes();
    if let Some(registry) = registry().filter(|registry| registry.pid == fork::pid()) {
        registry.heaps().all.retain(|known| known.borrow().is_some_and(|known| !std::ptr::eq(&*known, heap)));
        if registry.count(range.start) > 0 {
            return;
        }
    }
    watch::end(|address| range.contains(&address));
    let places = SEEN.load(Ordering::Acquire);
    for index in 0..PLACES {
        // SAFETY: null, or `PLACES` words.
        let Some(place) = (unsafe { places.wrapping_add(index).as_ref() }).filter(|_| !places.is_null())
        else {
            break;
        };
        let seen = place.load(Ordering::Relaxed);
        if range.contains(&((seen & ((1 << ADDRESS_BITS) - 1)) as usize)) {
            // A queue of another heap that comes in between is looked up once more.
            place.store(0, Ordering::Relaxed);
        }
    }
}

/// The same, if no thread of this process has to do with a queue in there, as far as that can be known. A thread that
/// only watches one for its descriptor ends.
pub(crate) fn leave_heap(heap: &Heap) -> Result<()> {
    let (address, length) = (heap.address(), heap.mapped_bytes());
    let is_last = registry().is_none_or(|registry| registry.count(address) <= 1);
    if is_last && robust::held_within(address, length, &watch::threads()?)? {
        let text =
            "a thread is in a call on a queue in the heap, has one of its messages, or holds a lock in it";
        return Err(Error::errno(libc::EBUSY, text));
    }
    forget_heap(heap);
    Ok(())
}

/// The queue at an address. `EINVAL` where there is none, `TINE_EFORKED` in a child that has no heaps of its own.
#[inline(always)]
pub(crate) fn find(pointer: *const u8) -> Outcome<Queue> {
    let address = pointer.addr();
    if let Some(place) = place_for(address) {
        let seen = place.load(Ordering::Relaxed);
        if seen & ((1 << ADDRESS_BITS) - 1) == address as u64
            && let Some(start) = NonNull::new(pointer.cast_mut())
        {
            let geometry = Geometry::from_number(seen >> ADDRESS_BITS);
            // SAFETY: the address and the geometry were checked together, and are forgotten with the heap.
            let memory = unsafe { Memory::new(start, geometry) };
            // Acquire: the queue may have been made in another process since another one was here.
            if memory.shared().header.mark.load(Ordering::Acquire) == geometry.mark() {
                return Ok(Queue { memory });
            }
        }
    }
    find_slowly(pointer)
}

/// The heap that has these bytes. What cannot be looked up for want of memory is not said to be no queue.
fn heap_of(address: usize, length: usize) -> Outcome<Borrowed> {
    let registry = registry().ok_or(INVALID)?;
    if registry.pid != fork::pid() {
        return Err(Code::FORKED);
    }
    let heaps = registry.heaps();
    let heap =
        heaps.all.iter().filter_map(Entry::borrow).find(|heap| heap.overlaps(address, 1)).ok_or(INVALID)?;
    if reaches(&heap, address, length)? { Ok(heap) } else { Err(INVALID) }
}

fn reaches(heap: &Heap, address: usize, length: usize) -> Outcome<bool> {
    heap.reaches(address, length).map_err(|error| error.code())
}

#[cold]
#[inline(never)]
fn find_slowly(pointer: *const u8) -> Outcome<Queue> {
    let address = pointer.addr();
    let start = NonNull::new(pointer.cast_mut()).ok_or(INVALID)?;
    if !address.is_multiple_of(align_of::<Shared>()) || address >> ADDRESS_BITS != 0 {
        return Err(INVALID);
    }
    let heap = heap_of(address, size_of::<Shared>())?;
    // SAFETY: the words lie in the heap; how much else there is, is checked below before it is used.
    let queue = unsafe { Queue::attach(start, usize::MAX) }?;
    let geometry = queue.memory.geometry;
    if !reaches(&heap, address, geometry.total())? {
        return Err(INVALID);
    }
    if let Some(place) = place_for(address) {
        place.store(address as u64 | geometry.number() << ADDRESS_BITS, Ordering::Relaxed);
    }
    Ok(queue)
}

/// A queue in a heap; its address.
pub(crate) fn create(heap: &Heap, options: &QueueOptions) -> Result<NonNull<u8>> {
    let align = align_of::<Shared>();
    let size = options.size().map_err(Error::from)?;
    let start = heap.allocate_aligned(align, size)?;
    // SAFETY: the block is new, aligned for `Shared` and as long as `options.size()`. It stays mapped as long as the
    // heap.
    match unsafe { Queue::create(start, options) } {
        Ok(_) => Ok(start),
        Err(code) => {
            // SAFETY: nobody has been told of the block.
            unsafe { heap.free(start) }?;
            Err(code.into())
        }
    }
}

/// Ends a queue, and gives its memory back. Only one of several that try does. Where a process that watches it is stopped,
/// the memory stays a block of its maker's.
pub(crate) fn destroy(pointer: *const u8) -> Outcome<()> {
    let queue = find(pointer)?;
    let me = caller()?;
    // The wait for those that watch takes a lock. Once the queue has ended nobody finds it a second time.
    if me.is_full() {
        return Err(NO_LOCKS);
    }
    me.find_namespace().ok_or(OTHER_NAMESPACE)?;
    queue.put_an_end(me)?;
    watch::end(|address| address == pointer.addr());
    if let Some(place) = place_for(pointer.addr()) {
        place.store(0, Ordering::Relaxed);
    }
    if !queue.all_have_let_go() {
        return Err(BUSY);
    }
    heap_of(pointer.addr(), 1)?.free_address(pointer.addr()).map_err(|error| error.code())
}
