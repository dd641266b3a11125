//! Processes that are killed inside alloc and free: at random, and after single instructions of each path.
//!
//! After every kill the heap is walked, and what the dead process left is compared with its own log of what it had.
//! `TINE_KILLS` sets how many kills there are, and adds the paths of many thousand instructions. The long form:
//! `TINE_KILLS=5000 cargo test --release --lib kills`.

use super::*;
use crate::sys::prim::{AtomicU64, Ordering};

const SLOTS: usize = 48;
const GIFTS: usize = 16;
const DEAD: Owner = 7;

/// What the child has, in memory that outlives it.
#[repr(C)]
struct Log {
    steps: AtomicU64,
    /// Addresses of blocks that it has allocated.
    held: [AtomicU64; SLOTS],
    /// Blocks of the parent's that it may free.
    gifts: [AtomicU64; GIFTS],
    /// What it is about to free.
    freeing: AtomicU64,
}

struct Child<'a> {
    heap: &'a Heap,
    log: &'a Log,
    random: u64,
}

impl Child<'_> {
    fn next(&mut self, below: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 8) as usize % below
    }

    fn allocate(&self, slot: usize, size: usize) {
        // As a program's calls do: the short way where it serves.
        let block = self.heap.allocate_quickly(size).map_or_else(|| self.heap.allocate(size), Ok);
        if let Ok(block) = block {
            self.log.held[slot].store(block.as_ptr() as u64, Ordering::SeqCst);
        }
    }

    fn free(&self, place: &AtomicU64) {
        let address = place.load(Ordering::SeqCst);
        self.log.freeing.store(address, Ordering::SeqCst);
        place.store(0, Ordering::SeqCst);
        if address != 0
            && !self.heap.free_quickly(std::ptr::with_exposed_provenance_mut(address as usize))
            && self.heap.free_address(address as usize).is_err()
        {
            // SAFETY: ends this forked child.
            unsafe { libc::_exit(3) };
        }
        self.log.freeing.store(0, Ordering::SeqCst);
    }

    fn step(&mut self) {
        let slot = self.next(SLOTS);
        let size = [64, 64, 1000, 5000, 40_000, 200_000, 1 << 20][self.next(7)];
        match self.log.held[slot].load(Ordering::SeqCst) {
            0 => self.allocate(slot, size),
            _ => self.free(&self.log.held[slot]),
        }
        if self.next(4) == 0 {
            let gift = self.next(GIFTS);
            self.free(&self.log.gifts[gift]);
        }
        if self.next(200) == 0 {
            self.heap.trim();
        }
        self.log.steps.fetch_add(1, Ordering::SeqCst);
    }
}

struct Arena {
    heap: Heap,
    _memory: Mapping,
    log: &'static Log,
    kept: Vec<(NonNull<u8>, usize)>,
}

impl Arena {
    fn new() -> Arena {
        let heap = heap();
        let fd = memory::sealed_memfd(c"log", size_of::<Log>()).unwrap();
        let memory = Mapping::shared(fd.as_raw_fd(), size_of::<Log>()).unwrap();
        // SAFETY: zeroed memory, long enough, which this struct keeps mapped for as long as it is used.
        let log = unsafe { &*memory.pointer().cast::<Log>() };
        let kept = (1..60).map(|n| (heap.allocate(n * 137).unwrap(), n * 137)).collect::<Vec<_>>();
        for (block, size) in &kept {
            // SAFETY: the block is as long as that.
            unsafe { block.as_ptr().write_bytes(*size as u8, *size) };
        }
        Arena { heap, _memory: memory, log, kept }
    }

    /// Forks a child that runs `body` with a view of the heap of its own.
    fn fork(&self, seed: u64, body: impl FnOnce(&mut Child)) -> i32 {
        for (number, gift) in self.log.gifts.iter().enumerate() {
            let size = if number % 4 == 0 { 70_000 } else { 100 };
            gift.store(self.heap.allocate(size).unwrap().as_ptr() as u64, Ordering::SeqCst);
        }
        self.log.steps.store(0, Ordering::SeqCst);
        // SAFETY: the child only allocates from heaps, and ends without returning.
        let pid = unsafe { libc::fork() };
        assert!(pid >= 0);
        if pid == 0 {
            let heap = other_owner(&self.heap, DEAD);
            heap.directory.trust_in_memory();
            body(&mut Child { heap: &heap, log: self.log, random: seed * 2 + 1 });
            // SAFETY: ends the child.
            unsafe { libc::_exit(0) };
        }
        pid
    }

    fn kill(&self, pid: i32) {
        let mut status = 0;
        // SAFETY: a child of this test's, which nobody else waits for.
        unsafe {
            libc::kill(pid, libc::SIGKILL);
            while libc::waitpid(pid, &mut status, 0) == pid && !libc::WIFSIGNALED(status) {
                assert!(!libc::WIFEXITED(status) || libc::WEXITSTATUS(status) == 0, "a refused free");
                if libc::WIFEXITED(status) {
                    break;
                }
            }
        }
    }

    /// The dead child is cleared up after, and nothing is lost and nothing is broken.
    fn examine(&self, pid: i32, what: &str) {
        self.heap.reclaim(DEAD, pid, 0);
        let faults = self.heap.check(&[HOST]);
        assert!(faults.is_empty(), "{what}: {faults:#?}");
        let freeing = self.log.freeing.swap(0, Ordering::SeqCst);
        let mut left: HashSet<usize> =
            self.heap.left_by(pid).unwrap().into_iter().map(|(block, _)| block).collect();
        for slot in &self.log.held {
            let held = slot.swap(0, Ordering::SeqCst);
            assert!(
                held == 0 || left.remove(&(held as usize)) || held == freeing,
                "{what}: {held:#x} is lost"
            );
        }
        left.remove(&(freeing as usize));
        assert!(left.len() <= 1, "{what}: blocks that nobody had: {left:x?}");
        self.heap.give_back_of(pid);
        for gift in &self.log.gifts {
            let gift = gift.swap(0, Ordering::SeqCst);
            if gift != 0 {
                let freed = self.heap.free_address(gift as usize);
                assert!(freed.is_ok() || gift == freeing, "{what}: {freed:?}");
            }
        }
        let _ = self.heap.free_address(freeing as usize);
        assert_eq!(self.heap.stats().used_blocks, self.kept.len() as u64, "{what}: blocks are lost");
    }

    fn finish(self) {
        for (block, size) in &self.kept {
            // SAFETY: the block is as long as that.
            let bytes = unsafe { std::slice::from_raw_parts(block.as_ptr(), *size) };
            assert!(bytes.iter().all(|byte| *byte == *size as u8), "a block of the parent's was overwritten");
            self.heap.give_back(*block).unwrap();
        }
        self.heap.trim();
        for (extent, entry, _) in self.heap.runs() {
            assert_eq!(entry.kind, EntryKind::Free, "extent {extent} is lost");
        }
    }
}

pub(super) fn long_form() -> Option<u64> {
    std::env::var("TINE_KILLS").ok()?.parse().ok()
}

#[test]
fn killed_at_random() {
    let arena = Arena::new();
    let began = crate::sys::clock::now_ns();
    let mut random = began | 1;
    for round in 0..long_form().map_or(400, |kills| kills / 2) {
        let pid = arena.fork(round, |child| {
            loop {
                child.step()
            }
        });
        random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        // Some are killed within their first steps, some after hundreds.
        let steps = (random >> 33) % [3, 30, 300][round as usize % 3];
        while arena.log.steps.load(Ordering::SeqCst) < steps {
            std::hint::spin_loop();
        }
        for _ in 0..(random >> 50) % 2000 {
            std::hint::spin_loop();
        }
        arena.kill(pid);
        arena.examine(pid, &format!("kill {round}, seed {began}"));
    }
    arena.finish();
}

type Path = (&'static str, fn(&mut Child), fn(&mut Child));

/// The paths of alloc and free: what is done before, and the one call that is stepped through. The first of them take
/// tens of thousands of instructions.
const LONG: usize = 2;
const PATHS: &[Path] = &[
    ("giving back to the system", fill, |child| {
        (0..8).for_each(|slot| child.free(&child.log.held[slot]));
        child.heap.trim();
    }),
    ("a block in a hole", |child| child.heap.trim(), |child| child.allocate(0, 130_000)),
    ("a first block", |_| (), |child| child.allocate(0, 64)),
    ("a large block", |_| (), |child| child.allocate(0, 300_000)),
    ("a block of 64 KiB", |_| (), |child| child.allocate(0, 65_536)),
    ("free of all of a slab that is not the current one", fill, |child| {
        (0..7).for_each(|slot| child.free(&child.log.held[slot]));
    }),
    (
        "the last block of a slab",
        |child| (0..6).for_each(|slot| child.allocate(slot, 65_000)),
        |child| child.allocate(6, 65_000),
    ),
    (
        "a block of a slab that it had let go of",
        |child| {
            fill(child);
            child.free(&child.log.held[0]);
            (9..14).for_each(|slot| child.allocate(slot, 65_000));
        },
        |child| (14..16).for_each(|slot| child.allocate(slot, 65_000)),
    ),
    ("one more block", |child| child.allocate(0, 64), |child| child.allocate(1, 64)),
    (
        "free of one of two",
        |child| (0..2).for_each(|slot| child.allocate(slot, 1000)),
        |child| child.free(&child.log.held[0]),
    ),
    (
        "the block that was freed last",
        |child| {
            (0..2).for_each(|slot| child.allocate(slot, 1000));
            child.free(&child.log.held[0]);
        },
        |child| child.allocate(0, 1000),
    ),
    ("free of the first of a full slab", fill, |child| child.free(&child.log.held[0])),
    ("free of a large block", |child| child.allocate(0, 300_000), |child| child.free(&child.log.held[0])),
    (
        "free of a large block between free ones",
        |child| {
            (0..4).for_each(|slot| child.allocate(slot, 300_000));
            child.free(&child.log.held[0]);
            child.free(&child.log.held[2]);
        },
        |child| child.free(&child.log.held[1]),
    ),
    ("free of another's block", |_| (), |child| child.free(&child.log.gifts[1])),
    ("free of another's large block", |_| (), |child| child.free(&child.log.gifts[0])),
];

/// More blocks of one size than a slab has.
fn fill(child: &mut Child) {
    (0..9).for_each(|slot| child.allocate(slot, 65_000));
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
#[test]
fn killed_after_single_instructions() {
    stay_on_one_processor();
    let each = long_form().map_or(8, |kills| kills / 2 / PATHS.len() as u64 + 1);
    for (name, before, path) in &PATHS[if long_form().is_some() { 0 } else { LONG }..] {
        let start = || {
            let arena = Arena::new();
            let pid = arena.fork(1, |child| {
                before(child);
                // SAFETY: asks the parent to trace this child, and stops for it.
                unsafe {
                    libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0);
                    libc::raise(libc::SIGSTOP);
                    path(child);
                    libc::raise(libc::SIGSTOP);
                }
            });
            assert_eq!(stopped_by(pid), libc::SIGSTOP, "{name}");
            (arena, pid)
        };
        let (arena, pid) = start();
        let mut length = 0u64;
        // What a survivor would find after each instruction: blocks come one by one, or they go.
        let mut before = arena.heap.stats().used_blocks as i64;
        let mut direction = 0;
        while step(pid) != libc::SIGSTOP {
            length += 1;
            let now = arena.heap.stats().used_blocks as i64;
            let change = now - before;
            assert!(
                change == 0 || change.abs() == 1 && change * direction >= 0,
                "{name}: {before} blocks, and after instruction {length} {now}"
            );
            (before, direction) = (now, if change == 0 { direction } else { change });
        }
        if std::env::var_os("TINE_VERBOSE").is_some() {
            println!("{name}: {length} instructions");
        }
        arena.kill(pid);
        arena.examine(pid, name);
        arena.finish();
        assert!(length > each, "{name} has {length} instructions only");
        for point in 1..=each {
            let (arena, pid) = start();
            let steps = length * point / each;
            // It may be a little shorter this time: the child stops by itself then.
            let _ = (0..steps).any(|_| step(pid) == libc::SIGSTOP);
            arena.kill(pid);
            arena.examine(pid, &format!("{name}, after {steps} of {length} instructions"));
            arena.finish();
        }
    }
}

/// Parent and child take turns with every instruction, which is ten times faster without waking another processor.
pub(super) fn stay_on_one_processor() {
    // SAFETY: all zero is a valid set of processors, and the calls write and read as much as they are told.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(libc::sched_getcpu() as usize, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set);
    }
}

pub(super) fn step(pid: i32) -> i32 {
    // SAFETY: a child that is traced and stopped.
    assert_eq!(unsafe { libc::ptrace(libc::PTRACE_SINGLESTEP, pid, 0, 0) }, 0);
    stopped_by(pid)
}

pub(super) fn stopped_by(pid: i32) -> i32 {
    let mut status = 0;
    // SAFETY: a child of this test's.
    assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
    assert!(libc::WIFSTOPPED(status), "the child ended: {status:#x}");
    libc::WSTOPSIG(status)
}
