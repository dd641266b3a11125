//! A heap of one's own: in a segment, for processes that have nothing else in common.
//!
//! ```text
//!   the segment's bytes | (to a multiple of 64 KiB) | header page | directory | extents ...
//!   header page         | peak | mark | ......... | processes: two words each .......... |
//! ```
//!
//! The mark is written with one compare-exchange, and says that a heap is there, of which layout and where: a heap
//! exists or it does not. There is no host here that learns of deaths. Each process that attaches takes a place in the
//! table, whose number is its owner number, and whoever needs to know looks whether the processes are still there.
//!
//! | word of a place | states | written by |
//! |---|---|---|
//! | process | 0; the process (number and start); the same with CLOSED | from 0 by compare-exchange of who attaches; CLOSED by it; to 0 by who has cleared up |
//! | cleaner | 0; the process that clears up after it | by compare-exchange, from 0 or from a process that has ended |
//!
//! What a process leaves is listed under its number, in the directory: so every process sees it, until somebody says that
//! it goes, and it takes up no place. Clearing up can be done again from any point, and a cleaner that dies is followed by
//! the next.

use super::audit::{HeapStats, Usage};
use super::directory::Directory;
use super::entry::Owner;
use super::segment::Segment;
use super::{EXTENT_BYTES, Heap, allocators_of};
use crate::error::{Code, Error, Result};
use crate::sys::fd::Guarded;
use crate::sys::fork;
use crate::sys::owner::{self, OwnerKind};
use crate::sys::prim::{AtomicU64, Ordering};
use crate::sys::reserve;
use std::sync::Arc;

/// Changed with the meaning of any word of the heap's.
const LAYOUT: u8 = 2;
/// Where in the header page the mark and the table are.
const MARK_AT: usize = 8;
const TABLE_AT: usize = 64;
/// As many places as fit into the smallest page.
pub const PLACES: usize = (4096 - TABLE_AT) / 16;
/// The process has closed its heap.
const CLOSED: u64 = 1 << 63;
const PID_BITS: u32 = 22;
const IMAGE_AT: u32 = PID_BITS + 32;
const _: () = assert!(IMAGE_AT + owner::IMAGE_BITS == 63);

/// One process's view of a heap in a segment. Dropping it leaves the process's blocks as they are.
#[derive(Debug)]
pub struct OwnHeap {
    heap: Arc<Heap>,
    /// What this process has put into its place. To find it out once more may give another answer: a process that has no descriptor
    /// to spare does not know its own cookie.
    entered: u64,
    /// The process that has entered: a forked child is another one.
    pid: i32,
}

/// What one process has in such a heap.
#[derive(Clone, Copy, Debug)]
pub struct Process {
    /// Its number.
    pub pid: i32,
    /// Whether it has the heap open.
    pub alive: bool,
    /// Its blocks.
    pub usage: Usage,
}

impl OwnHeap {
    /// A new heap in a segment that has none.
    pub fn create(segment: &Arc<Segment>) -> Result<OwnHeap> {
        let heap = over(segment)?;
        let made =
            heap.mark().compare_exchange(0, mark_of(&heap, LAYOUT), Ordering::AcqRel, Ordering::Acquire);
        if made.is_err() {
            return Err(Error::errno(libc::EEXIST, "the segment holds a heap, or other data, already"));
        }
        OwnHeap::enter(heap)
    }

    /// The heap that another process has made in the segment.
    pub fn attach(segment: &Arc<Segment>) -> Result<OwnHeap> {
        let heap = over(segment)?;
        let mark = heap.mark().load(Ordering::Acquire);
        if mark == mark_of(&heap, LAYOUT) {
            return OwnHeap::enter(heap);
        }
        if mark == 0 {
            return Err(Error::invalid("there is no heap in the segment"));
        }
        let layout = mark as u8;
        if mark == mark_of(&heap, layout) {
            let text = format!("the heap has layout {layout}; this version of tine has {LAYOUT}");
            return Err(Error::new(Code::VERSION, text));
        }
        Err(Error::invalid("the segment holds data that are not a heap, or a heap for another address"))
    }

    /// Takes a place in the table of processes.
    fn enter(mut heap: Heap) -> Result<OwnHeap> {
        let me = identity();
        for round in 0..2 {
            for place in 0..PLACES {
                let free = heap.process(place).compare_exchange(0, me, Ordering::AcqRel, Ordering::Relaxed);
                if free.is_ok() {
                    heap.become_owner(place as Owner);
                    let own = OwnHeap { heap: Arc::new(heap), entered: me, pid: fork::pid() };
                    own.clear_up();
                    return Ok(own);
                }
            }
            if round == 0 {
                // Places of processes that are gone.
                clear_up_all(&heap);
            }
        }
        let text = format!("the heap is open {PLACES} times, which is the most");
        Err(Error::errno(libc::ENOSPC, text))
    }

    /// The heap itself. Where memory is short, [`OwnHeap::attempt`] may find some.
    pub fn heap(&self) -> &Arc<Heap> {
        &self.heap
    }

    /// Does what takes memory; where there is too little, once more, if dead processes have left some half done.
    pub fn attempt<T>(&self, attempt: impl Fn(&Heap) -> Result<T>) -> Result<T> {
        match attempt(&self.heap) {
            Err(error) if error.code().0 == -libc::ENOMEM && self.clear_up() => attempt(&self.heap),
            result => result,
        }
    }

    /// Clears up after processes that have ended; whether there were any.
    pub fn clear_up(&self) -> bool {
        clear_up_all(&self.heap)
    }

    /// What each process has that has the heap open, or that has ended and left blocks.
    pub fn processes(&self) -> Result<Vec<Process>> {
        self.clear_up();
        let usages = self.heap.usage()?;
        let mut all = Vec::new();
        reserve::grow(&mut all, PLACES + usages.ended().count())?;
        for place in 0..PLACES {
            let word = self.heap.process(place).load(Ordering::Acquire);
            let usage = usages.of(place as Owner);
            // One that has ended since is cleared up after next time.
            if word != 0 && (usage.blocks > 0 || !has_ended(word)) {
                all.push(Process { pid: pid_of(word), alive: !has_ended(word), usage });
            }
        }
        all.extend(usages.ended().map(|(pid, usage)| Process { pid, alive: false, usage }));
        Ok(all)
    }

    /// What the heap holds.
    pub fn stats(&self) -> HeapStats {
        self.heap.stats()
    }

    /// The blocks of a process that has ended: address and size.
    pub fn left_by(&self, pid: i32) -> Result<Vec<(usize, usize)>> {
        self.clear_up();
        self.heap.left_by(pid)
    }

    /// Frees the blocks of a process that has ended; how many there were.
    ///
    /// # Safety
    /// Nobody uses these blocks any more, in any process.
    pub unsafe fn release_process(&self, pid: i32) -> Result<usize> {
        self.clear_up();
        // SAFETY: nobody uses the blocks any more, by the contract above.
        let freed = unsafe { self.heap.release_process(pid) }?;
        let open = |place: usize| {
            let word = self.heap.process(place).load(Ordering::Acquire);
            word != 0 && pid_of(word) == pid && !has_ended(word)
        };
        if freed == 0 && (0..PLACES).any(open) {
            return Err(Error::errno(libc::EBUSY, format!("process {pid} has the heap open")));
        }
        Ok(freed)
    }
}

impl Drop for OwnHeap {
    fn drop(&mut self) {
        let me = self.heap.process(self.heap.owner as usize);
        // A forked child's copy: the place is its parent's.
        if fork::pid() != self.pid || me.load(Ordering::Relaxed) != self.entered {
            return;
        }
        me.fetch_or(CLOSED, Ordering::AcqRel);
        clear_up_after(&self.heap, self.heap.owner as usize);
    }
}

impl Heap {
    fn mark(&self) -> &AtomicU64 {
        self.header_word(MARK_AT)
    }

    fn process(&self, place: usize) -> &AtomicU64 {
        self.header_word(TABLE_AT + place * 16)
    }

    fn cleaner(&self, place: usize) -> &AtomicU64 {
        self.header_word(TABLE_AT + place * 16 + 8)
    }

    fn header_word(&self, at: usize) -> &AtomicU64 {
        assert!(at < TABLE_AT + PLACES * 16);
        // SAFETY: within the header page, which is reserved, and mapped for as long as the heap.
        unsafe { &*std::ptr::with_exposed_provenance::<AtomicU64>(self.start + at) }
    }
}

/// The range of a heap in a segment, with nobody's number yet.
fn over(segment: &Arc<Segment>) -> Result<Heap> {
    const LEAST: usize = 4 * EXTENT_BYTES;
    if segment.size() < LEAST {
        let text = format!("the segment has {} bytes; a heap needs {LEAST}", segment.size());
        return Err(Error::invalid(text));
    }
    if !segment.is_writable() {
        return Err(Error::errno(libc::EACCES, "the segment is for reading only"));
    }
    if !segment.is_at_home() {
        let text = format!("the segment is mapped at {:#x}, which is not its own address", segment.address());
        return Err(Error::invalid(text));
    }
    let end = segment.address() + segment.size();
    let start = segment.address().next_multiple_of(EXTENT_BYTES);
    let length = end - start;
    let fd = segment.duplicate()?;
    let directory = Directory::new(segment.mapped().0, start, length)?;
    // The segment was reserved as a whole, so pages go back to the system only when that is asked for.
    Ok(Heap {
        fd: Guarded::new(fd),
        start,
        length,
        _mapping: None,
        _segment: Some(Arc::clone(segment)),
        directory,
        owner: 0,
        kept: u32::MAX,
        allocators: allocators_of(0),
    })
}

/// What the mark of a heap is, in one word: that it is one, where it is and how long, and in the last byte its layout.
fn mark_of(heap: &Heap, layout: u8) -> u64 {
    let words = [u64::from_ne_bytes(*b"tineheap"), heap.start as u64, heap.length as u64];
    let hash = words.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, word| {
        (hash ^ word).wrapping_mul(0x100_0000_01b3).rotate_left(23)
    });
    (hash | 1 << 63) & !0xff | u64::from(layout)
}

/// This process: its number; its cookie, so that a later one of the same number is another; and its program, which it may replace by
/// another one without ending, as exec does.
fn identity() -> u64 {
    let pid = owner::getpid();
    let (cookie, image) = (owner::cookie(pid, OwnerKind::Process), owner::image(pid));
    u64::from(image) << IMAGE_AT | u64::from(cookie) << PID_BITS | u64::from(pid)
}

fn pid_of(word: u64) -> i32 {
    (word & ((1 << PID_BITS) - 1)) as i32
}

/// Whether the process has closed the heap, has ended, or runs another program by now, which knows nothing of it.
fn has_ended(word: u64) -> bool {
    let (pid, cookie, image) = (pid_of(word) as u32, (word >> PID_BITS) as u32, image_of(word));
    word & CLOSED != 0 || owner::process_ended(pid, cookie) || owner::has_executed(pid, image)
}

fn image_of(word: u64) -> u32 {
    ((word & !CLOSED) >> IMAGE_AT) as u32
}

/// Clears up after all that have ended; whether there were any.
fn clear_up_all(heap: &Heap) -> bool {
    let mut any = false;
    for place in 0..PLACES {
        let word = heap.process(place).load(Ordering::Acquire);
        if word != 0 && has_ended(word) {
            clear_up_after(heap, place);
            any = true;
        }
    }
    any
}

/// Clears up after a process that has ended, and frees its place.
fn clear_up_after(heap: &Heap, place: usize) {
    let me = identity();
    let cleaner = heap.cleaner(place);
    let before = cleaner.load(Ordering::Acquire);
    let mut allocator = heap.allocator();
    // Not even another thread of this process, with a handle of its own, may do this at the same time: it could take
    // the next process of the place for the last.
    let nobody = before == 0 || (before != me && has_ended(before));
    if !nobody || cleaner.compare_exchange(before, me, Ordering::AcqRel, Ordering::Relaxed).is_err() {
        return;
    }
    let word = heap.process(place).load(Ordering::Acquire);
    // Where it can't be seen to the end, the place stays its own, and the next who looks goes on.
    if word != 0 && has_ended(word) && heap.clear_up(&mut allocator, place as Owner, pid_of(word)) {
        let _ = heap.process(place).compare_exchange(word, 0, Ordering::AcqRel, Ordering::Relaxed);
    }
    let _ = cleaner.compare_exchange(me, 0, Ordering::AcqRel, Ordering::Relaxed);
}
