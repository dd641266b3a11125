//! Whoever clears up, takes back or frees is stopped after every instruction, while a living owner allocates and frees beside it.
//!
//! The stopped one is a forked child with a view of the heap of its own. What the living owner does in between brings the
//! same words back again and again, which is what a look and a later exchange could fall for.

use super::kills::{long_form, stay_on_one_processor, step, stopped_by};
use super::*;
use crate::heap::own::OwnHeap;
use crate::heap::segment::SegmentOptions;

const DEAD: Owner = 7;
const STOPPED: Owner = 5;

/// The living owner and what it has: each block is full of its own byte.
struct Living {
    heap: Heap,
    blocks: Vec<(NonNull<u8>, usize, u8)>,
    next: u8,
}

impl Living {
    fn allocate(&mut self, size: usize) {
        let Ok(block) = self.heap.allocate(size) else { return };
        self.next = self.next.wrapping_add(1);
        // SAFETY: the block is as long as that.
        unsafe { block.as_ptr().write_bytes(self.next, size) };
        self.blocks.push((block, size, self.next));
    }

    fn free(&mut self, place: usize) {
        let (block, size, byte) = self.blocks.swap_remove(place);
        // SAFETY: the block is as long as that.
        let bytes = unsafe { std::slice::from_raw_parts(block.as_ptr(), size) };
        assert!(bytes.iter().all(|found| *found == byte), "a living owner's block was overwritten");
        self.heap.give_back(block).expect("a living owner's block is allocated");
    }

    fn free_all_of(&mut self, size: usize) {
        while let Some(place) = self.blocks.iter().position(|(_, of, _)| *of == size) {
            self.free(place);
        }
    }

    /// No run stays free in which there is room for a slab.
    fn fill_up(&mut self) {
        let mut count = usize::MAX;
        while std::mem::replace(&mut count, self.blocks.len()) != self.blocks.len() {
            self.allocate(3 * EXTENT_BYTES / 2);
        }
    }

    /// Two slabs of it, and a block of extents.
    fn make(&mut self) {
        (0..14).for_each(|_| self.allocate(16_384));
        self.allocate(200_000);
    }
}

type Disturbance = (&'static str, fn(&mut Living, u64));

const DISTURBANCES: &[Disturbance] = &[
    ("a slab is freed and made again at every step", |living, _| {
        living.free_all_of(16_384);
        (0..14).for_each(|_| living.allocate(16_384));
    }),
    ("freed at one step, and made again at the next", |living, step| match step % 2 {
        0 => {
            living.free_all_of(16_384);
            living.free_all_of(200_000);
        }
        _ => living.make(),
    }),
    ("one block of a slab comes and goes", |living, _| {
        let place = living.blocks.iter().position(|(_, of, _)| *of == 16_384).unwrap();
        living.free(place);
        living.allocate(16_384);
    }),
    ("blocks of extents of many lengths come and go", |living, step| {
        living.free_all_of(65_537 * (1 + (step as usize + 2) % 3));
        living.allocate(65_537 * (1 + step as usize % 3));
    }),
];

/// A heap of 3 MiB with a dead process's remains between what the living one has.
fn scene() -> Living {
    let heap = Heap::create(3 << 20).unwrap();
    heap.directory.trust_in_memory();
    let mut living = Living { heap, blocks: Vec::new(), next: 0 };
    let dead = other_owner(&living.heap, DEAD);
    dead.directory.trust_in_memory();
    living.make();
    let dropped: Vec<_> = (0..3).map(|n| dead.allocate(70_000 << n).unwrap()).collect();
    dead.allocate(100).unwrap();
    living.make();
    // Killed while it split what it had freed.
    for block in &dropped[..2] {
        let extent = (block.as_ptr() as usize - dead.directory.data_start()) / EXTENT_BYTES;
        let length = dead.directory.get(extent as u32).aux;
        dead.directory.set(extent as u32 + 1, Entry::claimed(DEAD, length - 1));
        dead.directory.set(extent as u32, Entry::claimed(DEAD, length));
    }
    living
}

/// Runs `body` in a child that is stopped after every instruction; how many there were.
fn step_beside(living: &mut Living, disturb: impl Fn(&mut Living, u64), body: impl FnOnce(&Heap)) -> u64 {
    // SAFETY: the child only uses the heap, and ends without returning.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0);
    if pid == 0 {
        let heap = other_owner(&living.heap, STOPPED);
        heap.directory.trust_in_memory();
        // SAFETY: asks the parent to trace this child, and stops for it; then the child ends.
        unsafe {
            libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0);
            libc::raise(libc::SIGSTOP);
            body(&heap);
            libc::raise(libc::SIGSTOP);
            libc::_exit(0);
        }
    }
    assert_eq!(stopped_by(pid), libc::SIGSTOP);
    let mut steps = 0;
    while step(pid) != libc::SIGSTOP {
        steps += 1;
        disturb(living, steps);
    }
    // SAFETY: a child of this test's, which is stopped.
    unsafe {
        libc::kill(pid, libc::SIGKILL);
        libc::waitpid(pid, std::ptr::null_mut(), 0);
    }
    steps
}

/// Nothing is lost, and nothing of the living owner's is given to a third one.
fn examine(living: &mut Living, name: &str) {
    living.heap.reclaim(STOPPED, 4712, 0);
    assert_eq!(living.heap.check(&[HOST]), Vec::<String>::new(), "{name}");
    let third = other_owner(&living.heap, 9);
    while let Ok(block) = third.allocate(4096) {
        // SAFETY: the block is as long as that.
        unsafe { block.as_ptr().write_bytes(0xff, 4096) };
    }
    third.reclaim(9, 4713, 0);
    (0..living.blocks.len()).rev().for_each(|place| living.free(place));
    living.heap.usage().unwrap().ended().for_each(|(pid, _)| assert_ne!(living.heap.give_back_of(pid), 0));
    living.heap.trim();
    for (extent, entry, _) in living.heap.runs() {
        assert_eq!(entry.kind, EntryKind::Free, "{name}: extent {extent} is lost");
    }
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
#[test]
fn clearing_up_beside_a_living_owner() {
    stay_on_one_processor();
    for (name, disturb) in DISTURBANCES {
        let mut living = scene();
        let steps = step_beside(&mut living, *disturb, |heap| heap.reclaim(DEAD, 4711, 0));
        println!("clearing up, {name}: {steps} instructions");
        assert!(steps > 100, "{name}: {steps} instructions only");
        let left: Vec<_> = living.heap.left_by(4711).unwrap().iter().map(|(_, size)| *size).collect();
        assert_eq!(left.len(), 2, "{name}: {left:?}");
        examine(&mut living, name);
    }
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
#[test]
fn taking_back_beside_a_living_owner() {
    stay_on_one_processor();
    for (name, disturb) in DISTURBANCES {
        let mut living = scene();
        living.heap.reclaim(DEAD, 4711, 0);
        let steps = step_beside(&mut living, *disturb, |heap| heap.take_back(&mut heap.allocator()));
        println!("taking back, {name}: {steps} instructions");
        assert!(steps > 100, "{name}: {steps} instructions only");
        examine(&mut living, name);
    }
}

/// Where the slab begins that a block is in.
fn slab_of(heap: &Heap, block: NonNull<u8>) -> u32 {
    let extent = ((block.as_ptr() as usize - heap.directory.data_start()) / EXTENT_BYTES) as u32;
    match heap.directory.get(extent) {
        Entry { kind: EntryKind::Tail, aux, .. } => extent - aux,
        _ => extent,
    }
}

/// Another process returns the last block of a slab that the living owner has let go of. In between the owner fills the slab with
/// other blocks and lets go of it again: it is LOOSE as before, and only the generation says that the look was at another. Either the
/// owner takes the empty slab up, or it takes the slab back and makes one at the same extents, which are the only ones that are free.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
#[test]
fn the_last_block_is_returned_while_the_owner_fills_the_slab_again() {
    const SIZE: usize = 16_384;
    const BLOCKS: usize = 7; // Of a slab.
    stay_on_one_processor();
    // From the moment the block is free until the slab is taken back, in instructions; and whether the owner had the slab again.
    let run = |disturbed_at: u64, makes_anew: bool| {
        let mut living = scene();
        living.heap.reclaim(DEAD, 4711, 0);
        living.free_all_of(SIZE);
        (0..2 * BLOCKS).for_each(|_| living.allocate(SIZE));
        living.fill_up();
        let last = living.blocks.iter().position(|(_, size, _)| *size == SIZE).unwrap();
        let (last, ..) = living.blocks.remove(last);
        let slab = slab_of(&living.heap, last);
        let neighbour = |living: &Living| {
            living.blocks.iter().position(|(block, ..)| slab_of(&living.heap, *block) == slab)
        };
        while let Some(place) = neighbour(&living) {
            living.free(place);
        }
        assert_eq!(living.heap.directory.get(slab).kind, EntryKind::Loose);
        let window = std::cell::Cell::new((0, 0));
        let refill = |living: &mut Living, step| {
            if step == disturbed_at {
                if makes_anew {
                    living.heap.trim();
                }
                (0..BLOCKS).for_each(|_| living.allocate(SIZE));
            }
            if living.heap.directory.get(slab).kind == EntryKind::Loose {
                let is_free = living.heap.size_of(last).is_err();
                window.set((if is_free { window.get().0 } else { step }, step));
            }
        };
        let steps = step_beside(&mut living, refill, |heap| heap.give_back(last).unwrap());
        let is_full =
            living.blocks.iter().filter(|(block, ..)| slab_of(&living.heap, *block) == slab).count()
                == BLOCKS;
        let way = if makes_anew { "made anew" } else { "taken up" };
        examine(&mut living, &format!("{way} after {disturbed_at} of {steps} instructions"));
        (window.get(), is_full)
    };
    let ((first, behind), _) = run(0, false);
    println!("returning the last block: looks and takes back in {} instructions", behind - first);
    assert!(behind - first > 10, "{} instructions only", behind - first);
    for makes_anew in [false, true] {
        let stops = (first..=behind + 1).step_by(if long_form().is_some() { 1 } else { 9 });
        let refilled = stops.filter(|step| run(*step, makes_anew).1).count();
        assert!(refilled > 1, "the owner has never had the slab again; made anew: {makes_anew}");
    }
}

/// Two survivors release what a dead process has left. One is stopped while it does; the other gets done, and what it has released
/// is a block of its own by the time that the first goes on.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
#[test]
fn two_release_what_a_dead_one_left() {
    const BLOCKS: usize = 7; // A slab of them.
    stay_on_one_processor();
    let run = |stopped_at: u64| {
        let heap = Heap::create(3 << 20).unwrap();
        heap.directory.trust_in_memory();
        let dead = other_owner(&heap, DEAD);
        (0..BLOCKS).for_each(|_| assert!(dead.allocate(EXTENT_BYTES).is_ok()));
        heap.reclaim(DEAD, 4711, 0);
        let mut living = Living { heap, blocks: Vec::new(), next: 0 };
        living.fill_up();
        let new = std::cell::Cell::new(None);
        let release = |living: &mut Living, step| {
            if step == stopped_at {
                let freed = living.heap.give_back_of(4711);
                assert!(freed == 0 || freed == BLOCKS, "{freed} blocks released");
                if let Ok(block) = living.heap.allocate(8 * EXTENT_BYTES) {
                    let block = block.cast::<u64>();
                    // SAFETY: the block is as long as that.
                    unsafe {
                        block.write_bytes(0, EXTENT_BYTES);
                        block.write(u64::MAX);
                    }
                    new.set(Some(block));
                }
            }
        };
        let steps = step_beside(&mut living, release, |heap| {
            heap.give_back_of(4711);
        });
        let what = format!("stopped after {stopped_at} of {steps} instructions");
        if let Some(block) = new.get() {
            // SAFETY: the block is as long as that, and written.
            let words = unsafe { std::slice::from_raw_parts(block.as_ptr(), EXTENT_BYTES) };
            assert_eq!(words[0], u64::MAX, "{what}");
            assert!(words[1..].iter().all(|word| *word == 0), "{what}: a living block was written to");
        }
        living.heap.reclaim(STOPPED, 4712, 0);
        assert_eq!(living.heap.check(&[HOST]), Vec::<String>::new(), "{what}");
        (steps, new.get().is_some())
    };
    let (steps, _) = run(0);
    println!("releasing: {steps} instructions");
    assert!(steps > 100, "{steps} instructions only");
    let stops = (1..=steps).step_by(if long_form().is_some() { 1 } else { 7 });
    assert!(stops.filter(|step| run(*step).1).count() > 1, "nobody else has had the memory");
}

/// A second process clears up while a first one does, and is stopped: it leaves that to the first, even where the place is a new
/// process's by now. All of the new one's blocks are its own.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
#[test]
fn one_cleaner_at_a_time() {
    const BLOCKS: usize = 5;
    stay_on_one_processor();
    let make = |own: &OwnHeap| {
        for _ in 0..BLOCKS {
            own.heap().allocate(EXTENT_BYTES + 1).expect("a block");
        }
    };
    let run = |stopped_at: u64| {
        let segment = Arc::new(Segment::create(40 * EXTENT_BYTES, &SegmentOptions::default()).unwrap());
        let living = OwnHeap::create(&segment).unwrap();
        let dead = in_child(
            || {
                let own = OwnHeap::attach(&segment).expect("the heap");
                make(&own);
                std::mem::forget(own); // It ends without closing it.
            },
            false,
        );
        // SAFETY: a child of this test's.
        assert_eq!(unsafe { libc::waitpid(dead, std::ptr::null_mut(), 0) }, dead);
        let cleaner = in_child(
            || {
                living.clear_up();
            },
            true,
        );
        assert_eq!(stopped_by(cleaner), libc::SIGSTOP);
        let mut steps = 0;
        let mut next = None;
        loop {
            if steps == stopped_at {
                living.clear_up();
                let own = OwnHeap::attach(&segment).unwrap();
                make(&own);
                next = Some(own);
            }
            if step(cleaner) == libc::SIGSTOP {
                break;
            }
            steps += 1;
        }
        // SAFETY: a child of this test's, which is stopped.
        unsafe {
            libc::kill(cleaner, libc::SIGKILL);
            libc::waitpid(cleaner, std::ptr::null_mut(), 0);
        }
        let what = format!("stopped after {stopped_at} of {steps} instructions");
        assert_eq!(living.left_by(dead).unwrap().len(), BLOCKS, "{what}");
        let mine = living.processes().unwrap().into_iter().filter(|process| process.alive);
        let mine: u64 = mine.map(|process| process.usage.blocks).sum();
        assert_eq!(mine, if next.is_some() { BLOCKS as u64 } else { 0 }, "{what}");
        // SAFETY: nobody looks at these blocks.
        assert_eq!(unsafe { living.release_process(dead) }, Ok(BLOCKS), "{what}");
        steps
    };
    let steps = run(u64::MAX);
    println!("clearing up in a segment: {steps} instructions");
    assert!(steps > 1000, "{steps} instructions only");
    for step in (0..=steps).step_by(if long_form().is_some() { 19 } else { 499 }) {
        run(step);
    }
}

/// Forks a child that does this and ends, leaving all as it is; one that is traced stops before and after.
fn in_child(body: impl FnOnce(), traced: bool) -> i32 {
    // SAFETY: the child only uses heaps, and ends without returning; it asks its parent to trace it, and stops for it.
    unsafe {
        let pid = libc::fork();
        assert!(pid >= 0);
        if pid == 0 {
            if traced {
                libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0);
                libc::raise(libc::SIGSTOP);
            }
            body();
            if traced {
                libc::raise(libc::SIGSTOP);
            }
            libc::_exit(0);
        }
        pid
    }
}
