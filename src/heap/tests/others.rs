//! What others free is there for whoever needs it, whoever made it; and what the ended have left takes up no place.

use super::*;
use crate::heap::class::Class;

/// Frees by one owner what another has allocated, who does nothing more; then all of the heap is to be had in one piece.
#[test]
fn what_others_have_freed_is_there_for_all() {
    for size in [16, 100, 1000, 5000, 40_000, 65_536, 65_537, 300_000] {
        for dead in [false, true] {
            let heap = Heap::create(8 << 20).unwrap();
            heap.directory.trust_in_memory();
            let idle = other_owner(&heap, 1);
            idle.directory.trust_in_memory();
            let mut blocks = Vec::new();
            while let Ok(block) = idle.allocate(size) {
                blocks.push(block);
            }
            assert!(blocks.len() * size > 3 << 20, "{} blocks of {size}", blocks.len());
            assert!(heap.allocate(size).is_err());
            if dead {
                heap.reclaim(1, 4711, 0);
            }
            blocks.into_iter().for_each(|block| heap.give_back(block).unwrap());
            assert_eq!(heap.stats().used_blocks, 0);
            heap.allocate(7 << 20).unwrap_or_else(|error| panic!("{size}, {dead}: {error}"));
        }
    }
}

/// A process that sleeps keeps nothing back, of whatever size it has blocks; and takes up again what is still there.
#[test]
fn who_rests_keeps_no_slab() {
    let heap = Heap::create(8 << 20).unwrap();
    heap.directory.trust_in_memory();
    let idle = other_owner(&heap, 1);
    idle.directory.trust_in_memory();
    for rests in [false, true] {
        let blocks: Vec<_> =
            (0..class::COUNT).map(|index| idle.allocate(Class::get(index).unwrap().size).unwrap()).collect();
        if rests {
            idle.rest_all();
        }
        blocks.into_iter().for_each(|block| heap.give_back(block).unwrap());
        assert_eq!(heap.stats().used_blocks, 0);
        assert_eq!(heap.allocate(7 << 20).map(|block| heap.give_back(block).unwrap()).is_ok(), rests);
    }
    let block = idle.allocate(100).unwrap();
    idle.rest_all();
    let next = idle.allocate(100).unwrap();
    assert_eq!(block.as_ptr() as usize / EXTENT_BYTES, next.as_ptr() as usize / EXTENT_BYTES);
    assert_eq!(heap.check(&[HOST, 1]), Vec::<String>::new());
}

#[test]
fn what_others_have_freed_goes_back_to_the_system() {
    let heap = heap();
    let idle = other_owner(&heap, 1);
    let blocks: Vec<_> = (0..120_000).map(|_| idle.allocate(1000).unwrap()).collect();
    assert!(heap.stats().reserved_bytes > 110 << 20);
    blocks.into_iter().for_each(|block| heap.give_back(block).unwrap());
    assert!(heap.stats().reserved_bytes < 40 << 20, "{:?}", heap.stats());
    assert_eq!(heap.check(&[HOST, 1]), Vec::<String>::new());
}

#[test]
fn threads_allocate_apart_and_free_each_others_blocks() {
    let heap = heap();
    let (sender, receiver) = std::sync::mpsc::channel::<usize>();
    std::thread::scope(|scope| {
        for thread in 0..4usize {
            let (heap, sender) = (&heap, sender.clone());
            scope.spawn(move || {
                for round in 0..20_000 {
                    let size = [16, 64, 1000, 40_000][(round + thread) % 4];
                    let block = heap.allocate(size).unwrap();
                    // SAFETY: as long as was asked for, here and below.
                    unsafe { block.as_ptr().write_bytes(thread as u8, 16) };
                    match round % 2 {
                        0 => heap.give_back(block).unwrap(),
                        _ => sender.send(block.as_ptr() as usize).unwrap(),
                    }
                }
            });
        }
        drop(sender);
        scope.spawn(|| receiver.into_iter().for_each(|block| heap.free_address(block).unwrap()));
    });
    assert_eq!(heap.stats().used_blocks, 0);
    heap.trim();
    assert!(heap.runs().all(|(_, entry, _)| entry.kind == EntryKind::Free), "{:?}", heap.check(&[HOST]));
}

/// Every length that the word of a block can say is one that fits the heap when it is told to anybody.
#[test]
fn lengths_from_shared_words_stay_in_the_heap() {
    let heap = heap();
    let block = heap.allocate(200_000).unwrap();
    let small = heap.allocate(100).unwrap();
    let extent =
        |block: NonNull<u8>| ((block.as_ptr() as usize - heap.directory.data_start()) / EXTENT_BYTES) as u32;
    let (large, slab) = (extent(block), extent(small));
    heap.reclaim(HOST, 4711, 0);
    for aux in [0, 1, 5, 1 << 16, (1 << 24) - 1, u32::MAX >> 1] {
        for class in [0, 5, 43, 44, 63] {
            heap.directory.set(large, Entry { aux, ..heap.directory.get(large) });
            heap.directory.set(slab, Entry { class, aux, ..heap.directory.get(slab) });
            let all = heap.left_by(4711).unwrap().into_iter().chain(heap.blocks_of(HOST).unwrap());
            for (address, length) in all {
                assert!(
                    heap.contains(address, length),
                    "{address:#x}, {length} bytes, as {aux} and {class} say"
                );
            }
            let has = heap.size_of(block).unwrap_or(0);
            assert!(heap.contains(block.as_ptr() as usize, has), "{has} bytes, as {aux} says");
        }
    }
}

#[test]
fn what_is_claimed_in_vain_stays_as_it_was() {
    let heap = heap();
    // Six extents with their pages, of which two become a hole, and a run whose word cannot be true, at which who claims them gives up.
    let known = heap.directory.known_extents();
    let new = heap.directory.grow(&heap.fd, 6, false).unwrap();
    let [reserved, hole, bad] = [new.start, new.start + 2, new.start + 4];
    heap.directory.punch(&heap.fd, hole..bad).unwrap();
    for (head, entry) in [
        (reserved, Entry::free(2, false)),
        (hole, Entry::free(2, true)),
        (bad, Entry::free(u32::MAX >> 1, false)),
    ] {
        heap.directory.set(head + 1, Entry::tail(1));
        heap.directory.set(head, entry);
    }
    heap.directory.mark_seen(0..hole, true);
    let before = memory::reserved_bytes(heap.fd.as_raw_fd()).unwrap();
    let block = heap.allocate((known as usize + 6) * EXTENT_BYTES).unwrap();
    assert_eq!(heap.directory.address_of(new.end), block.as_ptr() as usize);
    assert_eq!(heap.directory.get(0), Entry::free(hole, false));
    assert_eq!(heap.directory.get(hole), Entry::free(2, true));
    assert!(heap.directory.has_seen(0..hole));
    let grown = u64::from(heap.directory.known_extents() - new.end);
    let now = memory::reserved_bytes(heap.fd.as_raw_fd()).unwrap();
    assert_eq!(now - before, grown * EXTENT_BYTES as u64, "no page has gone");
    // And it can be had again.
    let again = heap.allocate(bad as usize * EXTENT_BYTES);
    assert!(again.is_ok());
}
