//! Whoever clears up or takes back is stopped after every instruction, while a living owner allocates and frees beside it.
//!
//! The stopped one is a forked child with a view of the heap of its own. What the living owner does in between brings the
//! same words back again and again, which is what a look and a later exchange could fall for.

use super::kills::{stay_on_one_processor, step, stopped_by};
use super::*;

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
        self.heap.free(block).expect("a living owner's block is allocated");
    }

    fn free_all_of(&mut self, size: usize) {
        while let Some(place) = self.blocks.iter().position(|(_, of, _)| *of == size) {
            self.free(place);
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
fn step_beside(living: &mut Living, disturb: fn(&mut Living, u64), body: fn(&Heap)) -> u64 {
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
    living.heap.dead().into_iter().for_each(|(pid, _)| assert_ne!(living.heap.release_process(pid), 0));
    living.heap.trim();
    for (extent, entry, _) in living.heap.runs() {
        assert_eq!(entry.kind, Kind::Free, "{name}: extent {extent} is lost");
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
        let left: Vec<_> = living.heap.left_by(4711).iter().map(|(_, size)| *size).collect();
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
