use super::entry::{Entry, EntryKind, ended};
use super::*;
use crate::sys::fd;
use crate::sys::fd::Guarded;
use std::collections::HashSet;
use std::os::fd::AsRawFd;

/// What a test has allocated is the test's own, and of what it has not allocated it wants to be refused.
pub(crate) trait Own {
    fn give_back(&self, block: NonNull<u8>) -> Result<()>;
    fn resize(&self, block: NonNull<u8>, size: usize) -> Result<NonNull<u8>>;
    fn give_back_of(&self, dead: i32) -> usize;
}

impl Own for Heap {
    fn give_back(&self, block: NonNull<u8>) -> Result<()> {
        // SAFETY: no test looks at a block that it has given back.
        unsafe { self.free(block) }
    }

    fn resize(&self, block: NonNull<u8>, size: usize) -> Result<NonNull<u8>> {
        // SAFETY: no test looks at a block at its old address.
        unsafe { self.reallocate(block, size) }
    }

    fn give_back_of(&self, dead: i32) -> usize {
        // SAFETY: no test looks at these blocks afterwards.
        unsafe { self.release_process(dead) }.unwrap()
    }
}

fn heap() -> Heap {
    Heap::create(1 << 30).expect("a heap")
}

/// The same heap as another owner sees it. Mapped elsewhere, so for tests of single words only: it is used through
/// the same addresses, which both views share because they are in one process.
fn other_owner(heap: &Heap, owner: Owner) -> Heap {
    // SAFETY: duplicates a descriptor that is open.
    let copy = unsafe { libc::fcntl(heap.fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 3) };
    let fd = fd::owned(copy.into(), "dup").unwrap();
    let mapping = Mapping::shared(fd.as_raw_fd(), memory::page_size()).unwrap();
    let (start, length) = (heap.start, heap.length);
    let directory = Directory::new(start, start, length).unwrap();
    let (_mapping, allocators) = (Some(mapping), allocators_of(owner));
    let fd = Guarded::new(fd);
    Heap { fd, start, length, _mapping, _segment: None, directory, owner, kept: KEPT_EXTENTS, allocators }
}

#[test]
fn blocks_of_all_sizes_are_apart_and_come_back() {
    let heap = heap();
    let mut blocks = Vec::new();
    for round in 0..3 {
        for size in [0, 1, 16, 17, 100, 1000, 5000, 40_000, 65_536, 65_537, 1 << 20] {
            let block = heap.allocate(size).unwrap();
            assert_eq!(block.as_ptr() as usize % 16, 0);
            assert!(heap.contains(block.as_ptr() as usize, size));
            // SAFETY: the block is as long as was asked for.
            unsafe { block.as_ptr().write_bytes(round * 16 + blocks.len() as u8, size) };
            blocks.push((block, size, round * 16 + blocks.len() as u8));
        }
    }
    for (block, size, byte) in &blocks {
        // SAFETY: the block is as long as was asked for, and written.
        let bytes = unsafe { std::slice::from_raw_parts(block.as_ptr(), *size) };
        assert!(bytes.iter().all(|found| found == byte), "a block of {size} was overwritten");
    }
    for (block, ..) in &blocks {
        heap.give_back(*block).unwrap();
        assert!(heap.give_back(*block).is_err(), "a second free");
    }
    assert_eq!(heap.stats().used_bytes, 0);
}

/// One that wants several runs together, and finds that somebody has taken the last: what has pages keeps them, and what was a hole is one.
#[test]
fn who_is_overtaken_leaves_all_as_it_was() {
    let heap = heap();
    let [first, second, _] = [4, 4, 4].map(|extents| heap.allocate(extents * EXTENT_BYTES).unwrap());
    heap.give_back(second).unwrap();
    let mut allocator = heap.allocator();
    allocator.punch_beyond(&heap, 0);
    drop(allocator);
    heap.give_back(first).unwrap();
    let extent =
        |block: NonNull<u8>| heap.directory.extent_at(block.as_ptr().addr(), &heap.fd).unwrap().unwrap();
    let (first, second) = (extent(first), extent(second));
    assert_eq!(second, first + 4);
    let before = (heap.directory.get(first), heap.directory.get(second), heap.stats().reserved_bytes);
    assert!(before.0 == Entry::free(4, false) && before.1 == Entry::free(4, true));
    let mut allocator = heap.allocator();
    assert!(allocator.claim_runs(&heap, first, 9, true).is_none());
    assert_eq!(before, (heap.directory.get(first), heap.directory.get(second), heap.stats().reserved_bytes));
    assert!(allocator.claim_runs(&heap, first, 8, true).is_some());
    assert_eq!(heap.directory.get(first), Entry::claimed(allocator.owner, 8));
    assert_eq!(heap.directory.get(second), Entry::tail(0));
}

/// The short way hands out what was freed last, only where it is still free and leaves another; and takes nothing that is none of its
/// blocks, or free already.
#[test]
fn the_short_way_takes_and_gives_what_the_long_way_does() {
    let heap = heap();
    let first = heap.allocate(64).unwrap();
    let quick = |size| heap.allocate_quickly(size).expect("a block at hand");
    let (second, third) = (quick(64), quick(64));
    assert!(heap.free_quickly(second.as_ptr()) && !heap.free_quickly(second.as_ptr()));
    assert!(heap.give_back(second).is_err(), "a second free");
    assert_eq!(quick(64), second, "the block that was freed last");
    // The long way looks from the lowest, and takes it away from under the hint.
    assert!(heap.free_quickly(first.as_ptr()));
    assert_eq!(heap.allocate(64).unwrap(), first);
    let fourth = quick(64);
    assert!(![first, second, third].contains(&fourth), "a block twice");
    for place in
        [first.as_ptr().wrapping_add(16), std::ptr::null_mut(), std::ptr::from_ref(&heap).cast_mut().cast()]
    {
        assert!(!heap.free_quickly(place), "{place:?} is no block");
    }
    // Returned by another process, and not fetched yet: free, though its bit in `taken` is set.
    let other = other_owner(&heap, 1);
    other.directory.trust_in_memory();
    other.give_back(third).unwrap();
    assert!(!heap.free_quickly(third.as_ptr()) && heap.give_back(third).is_err(), "a second free");
    assert!(heap.allocate_quickly(70_000).is_none() && heap.allocate_quickly(usize::MAX).is_none());
    // All of a slab: the last block is the long way's, which lets go of the slab. Each is given once.
    let mut all = HashSet::from([first, second, fourth]);
    while let Some(block) = heap.allocate_quickly(64) {
        assert!(all.insert(block), "{block:?} twice");
        if all.len() % 3 == 0 {
            assert!(heap.free_quickly(block.as_ptr()) && all.remove(&block));
            let again = quick(64);
            assert!(again == block && all.insert(again));
        }
    }
    let class = class::Class::get(class::Class::index_for(64)).unwrap();
    assert_eq!(all.len() as u32, class.blocks - 2, "all but the last, and the one that has been returned");
    // The long way takes those two, and lets go of the slab: so nobody needs this process to take it back.
    let kind = || {
        heap.directory
            .get(((first.as_ptr() as usize - heap.directory.data_start()) / EXTENT_BYTES) as u32)
            .kind
    };
    for _ in 0..2 {
        assert_eq!(kind(), EntryKind::Slab);
        assert!(heap.allocate_quickly(64).is_none() && all.insert(heap.allocate(64).unwrap()));
    }
    assert_eq!(kind(), EntryKind::Loose);
    assert!(heap.allocate_quickly(64).is_none());
    assert_eq!(heap.stats().used_blocks, all.len() as u64);
    assert!(heap.check(&[HOST]).is_empty());
    all.into_iter().for_each(|block| heap.give_back(block).unwrap());
    assert_eq!(heap.stats().used_blocks, 0);
}

#[test]
fn freed_memory_is_used_again() {
    let heap = heap();
    let mut before = 0;
    for round in 0..20 {
        let blocks: Vec<_> = (0..500).map(|n| heap.allocate(n * 37).unwrap()).collect();
        for block in blocks {
            heap.give_back(block).unwrap();
        }
        match round {
            0 => before = heap.stats().reserved_bytes,
            // Slabs of different lengths fall into each other's gaps, and some gaps stay.
            _ => assert!(heap.stats().reserved_bytes <= 2 * before, "round {round}: {:?}", heap.stats()),
        }
    }
}

#[test]
fn what_is_free_goes_back_to_the_system() {
    let heap = heap();
    let blocks: Vec<_> = (0..100).map(|_| heap.allocate(1 << 20).unwrap()).collect();
    let small: Vec<_> = (0..100_000).map(|_| heap.allocate(64).unwrap()).collect();
    let full = heap.stats();
    assert!(full.reserved_bytes > 105 << 20 && full.used_blocks == 100_100, "{full:?}");
    blocks.iter().chain(&small).for_each(|block| heap.give_back(*block).unwrap());
    let empty = heap.stats();
    assert!(empty.reserved_bytes <= 34 << 20, "{empty:?}");
    assert_eq!((empty.used_bytes, empty.peak_bytes), (0, full.peak_bytes));
    heap.trim();
    assert!(heap.stats().reserved_bytes < 1 << 20, "{:?}", heap.stats());
    assert_eq!(heap.check(&[HOST]), Vec::<String>::new());
    // Holes are reserved again before they are handed out.
    let block = heap.allocate(50 << 20).unwrap();
    assert!(heap.stats().reserved_bytes > 50 << 20, "{:?}", heap.stats());
    heap.give_back(block).unwrap();
}

#[test]
fn aligned_zeroed_and_moved_blocks() {
    let heap = heap();
    for alignment in (0..23).map(|bit| 1usize << bit) {
        for size in [1, 100, 5000, 70_000] {
            let block = heap.allocate_aligned(alignment, size).unwrap();
            assert_eq!(block.as_ptr() as usize % alignment, 0, "{size} at {alignment}");
            assert!(heap.size_of(block).unwrap() >= size);
            heap.give_back(block).unwrap();
        }
    }
    assert!(heap.allocate_aligned(0, 1).is_err() && heap.allocate_aligned(48, 1).is_err());
    assert!(heap.allocate_aligned(1 << 62, usize::MAX - 5).is_err());
    assert!(heap.allocate_zeroed(usize::MAX / 2, 3).is_err());
    let dirty = heap.allocate(1000).unwrap();
    // SAFETY: as long as was asked for, here and below.
    unsafe { dirty.as_ptr().write_bytes(1, 1000) };
    heap.give_back(dirty).unwrap();
    let mut block = heap.allocate_zeroed(10, 100).unwrap();
    // SAFETY: `allocate_zeroed` was asked for 10 times 100 bytes.
    assert!(unsafe { std::slice::from_raw_parts(block.as_ptr(), 1000) }.iter().all(|byte| *byte == 0));
    // SAFETY: `allocate_zeroed` was asked for 10 times 100 bytes.
    unsafe { block.as_ptr().write_bytes(7, 1000) };
    for size in [1001, 100_000, 3_000_000, 999] {
        block = heap.resize(block, size).unwrap();
        // SAFETY: the block has `size` bytes, and that is at least 999.
        let same = unsafe { std::slice::from_raw_parts(block.as_ptr(), 999) };
        assert!(same.iter().all(|byte| *byte == 7), "at {size}");
    }
    assert!(heap.resize(block, usize::MAX).is_err(), "and the block is as it was");
    heap.give_back(block).unwrap();
    assert!(heap.resize(block, 5).is_err());
    assert_eq!(heap.stats().used_blocks, 0);
    assert_eq!(heap.check(&[HOST]), Vec::<String>::new());
}

#[test]
fn wrong_addresses_are_refused() {
    let heap = heap();
    let small = heap.allocate(100).unwrap().as_ptr() as usize;
    let large = heap.allocate(200_000).unwrap().as_ptr() as usize;
    let stack = 0u8;
    for address in
        [0, 1, usize::MAX, &raw const stack as usize, small + 1, small + 16, large + 16, large + EXTENT_BYTES]
    {
        assert!(heap.free_address(address).is_err(), "{address:#x}");
    }
    heap.free_address(small).unwrap();
    heap.free_address(large).unwrap();
}

#[test]
fn full_is_an_error_and_nothing_is_lost() {
    let heap = Heap::create(1 << 20).unwrap();
    let mut blocks = Vec::new();
    let error = loop {
        match heap.allocate(10_000) {
            Ok(block) => blocks.push(block),
            Err(error) => break error,
        }
    };
    assert_eq!(error.code().0, -libc::ENOMEM);
    assert!(blocks.len() > 80, "{} blocks fit", blocks.len());
    assert!(heap.allocate(2 << 20).is_err());
    assert!(heap.allocate(usize::MAX).is_err());
    for block in blocks {
        heap.give_back(block).unwrap();
    }
    heap.allocate(900_000).expect("all of it is there again");
}

#[test]
fn a_directory_that_is_hostile_does_not_make_the_heap_grow_without_end() {
    let heap = heap();
    // All extents that there will ever be are somebody's.
    heap.directory.reserve_words(&heap.fd, 4096).unwrap();
    for extent in 0..4096 {
        let word = heap.start + memory::page_size() + extent * 8;
        // SAFETY: a word of the directory, reserved by the line above.
        unsafe { std::ptr::with_exposed_provenance_mut::<u64>(word).write(Entry::claimed(999, 1).word()) };
    }
    let error = heap.allocate(100).unwrap_err();
    assert_eq!(error.code().0, -libc::ENOMEM);
    assert!(heap.stats().reserved_bytes < 8 << 20, "{:?}", heap.stats());
}

#[test]
fn others_return_blocks() {
    let heap = heap();
    let other = other_owner(&heap, 1);
    let mut seen = HashSet::new();
    for _ in 0..50 {
        let blocks: Vec<_> = (0..100).map(|_| heap.allocate(1000).unwrap()).collect();
        for block in blocks {
            seen.insert(block);
            other.give_back(block).unwrap();
            assert!(other.give_back(block).is_err(), "a second return");
            assert!(heap.give_back(block).is_err(), "a free after the return");
        }
    }
    assert!(seen.len() < 400, "returned blocks are handed out again: {} different ones", seen.len());
}

#[test]
fn a_slab_that_reaches_beyond_what_was_known_is_freed_all_the_same() {
    let heap = heap();
    let other = other_owner(&heap, 1);
    // The first extents are known here; the rest of the slab is not there yet.
    let known = heap.directory.known_extents();
    let blocks: Vec<_> = (0..3).map(|_| other.allocate(50_000).unwrap()).collect();
    assert_eq!(heap.directory.known_extents(), known);
    for block in blocks {
        heap.give_back(block).unwrap();
    }
    let large = other.allocate(10 << 20).unwrap();
    heap.give_back(large).unwrap();
    assert_eq!(heap.stats().used_bytes, 0);
}

#[test]
fn what_a_dead_owner_leaves_is_taken_over() {
    let heap = heap();
    let dead = other_owner(&heap, 7);
    let kept = dead.allocate(100).unwrap();
    let kept_large = dead.allocate(300_000).unwrap();
    let unfinished = dead.allocate(5000).unwrap();
    // Killed while it split four extents that it had claimed.
    let known = dead.directory.refresh(&dead.fd);
    dead.directory.grow(&dead.fd, 4, false).unwrap();
    dead.directory.set(known, Entry::claimed(7, 4));
    dead.directory.set(known + 1, Entry::tail(0));
    dead.directory.set(known + 2, Entry::claimed(7, 2));
    dead.directory.set(known + 3, Entry::tail(0));
    drop(dead);

    assert_eq!(heap.usage().unwrap().of(7).blocks, 3);
    heap.reclaim(7, 4711, unfinished.as_ptr() as usize);
    assert_eq!(heap.directory.get(known), Entry::free(4, true));
    assert_eq!(heap.directory.get(known + 2), Entry::tail(0));
    assert!(heap.give_back(unfinished).is_err(), "it was freed");
    let left: HashSet<_> = heap.left_by(4711).unwrap().into_iter().map(|(block, _)| block).collect();
    assert_eq!(left, [kept, kept_large].map(|block| block.as_ptr() as usize).into());
    let dead = |heap: &Heap| heap.usage().unwrap().ended().count();
    assert_eq!(dead(&heap), 1);
    heap.give_back(kept).expect("it was kept");
    let (usage, owner) = (heap.usage().unwrap(), ended(4711));
    assert_eq!((usage.of(owner).blocks, usage.of(7).blocks, usage.of(HOST).blocks), (1, 0, 0));
    assert_eq!(heap.give_back_of(4711), 1, "the large one");
    assert_eq!((heap.give_back_of(4711), dead(&heap)), (0, 0));
    assert_eq!((heap.stats().used_blocks, heap.check(&[HOST])), (0, Vec::new()));
}

/// A process dies between announcing a block and having it, and another has a block there before the first one's is to be freed.
#[test]
fn what_another_has_by_now_is_not_freed_as_unfinished() {
    for size in [16_384, 200_000] {
        let heap = heap();
        let (dead, living) = (other_owner(&heap, 7), other_owner(&heap, 3));
        let announced = dead.allocate(size).unwrap();
        dead.give_back(announced).unwrap();
        heap.reclaim(7, 4711, 0);
        let mut blocks = (0..100).map(|_| living.allocate(size).unwrap());
        let block = blocks.find(|block| *block == announced).expect("what was freed is allocated again");
        heap.reclaim(7, 4711, announced.as_ptr() as usize);
        assert!(living.size_of(block).is_ok(), "a block of {size} bytes that a living process has was freed");
    }
}

#[test]
fn garbage_in_shared_words_is_survived() {
    let heap = heap();
    let mut random = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    let mut blocks = Vec::new();
    for round in 0..3000 {
        let size = next() as usize % 100_000;
        if let Ok(block) = heap.allocate(size) {
            assert!(heap.contains(block.as_ptr() as usize, size));
            blocks.push(block);
        }
        if round % 3 == 0 && !blocks.is_empty() {
            let block = blocks.swap_remove(next() as usize % blocks.len());
            let _ = heap.give_back(block);
        }
        // A hostile process writes anything into the directory and into the words in front of the slabs.
        let known = heap.directory.known_extents();
        let extent = next() as u32 % known;
        let address = match round % 2 {
            0 => heap.start + memory::page_size() + extent as usize * 8,
            _ => heap.directory.address_of(extent) + next() as usize % 64 * 8,
        };
        // SAFETY: both places are reserved words of the heap.
        unsafe {
            (*std::ptr::with_exposed_provenance::<crate::sys::prim::AtomicU64>(address))
                .store(next(), crate::sys::prim::Ordering::Relaxed)
        };
        if round % 50 == 0 {
            heap.reclaim(next() as Owner % 4, 5, next() as usize);
        }
    }
}

mod beside;
mod kills;
mod others;
