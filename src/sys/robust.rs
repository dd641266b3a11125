//! The kernel's robust list: what it does when a thread ends, made use of without disturbing the C library.
//!
//! At a thread's end the kernel walks the thread's list; each entry stands at a fixed distance from a 32-bit word,
//! and where that word holds the thread's number, the kernel sets OWNER_DIED in it and wakes one sleeper. The same
//! is done for one more entry, the pending one; where *its* word holds no number, one sleeper is woken as well. The
//! list's head belongs to the C library. tine puts a private entry, the anchor, at the list's end, and its own
//! entries behind that, so that neither ever touches the other's:
//!
//! ```text
//! head -> the C library's entries -> anchor -> tine's, the newest first -> head
//! ```
//!
//! The next fields of tine's entries lie in shared memory. They are written there for the kernel and never read:
//! what a thread holds is in its private record.

mod held;
mod setup;

pub use held::held_within;

use super::futex::futex_wake;
use std::ffi::c_void;
use std::mem::size_of;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, compiler_fence};

/// The holder's number, in a lock's word.
pub const OWNER: u32 = 0x3fff_ffff;
/// Somebody may sleep on the word.
pub const WAITERS: u32 = 0x8000_0000;
/// The kernel's mark: the holder has died.
pub const DIED: u32 = 0x4000_0000;

/// How many locks a thread may hold at a time.
pub const MOST_HELD: usize = 128;
/// Room for those that the library takes on top for a moment.
const ROOM: usize = MOST_HELD + 4;

/// From a word to its entry: the C library's choice, because it registers one distance for all. Verified at run time.
pub const ENTRY: usize = if cfg!(target_env = "musl") { 28 } else { 32 };

/// A word on which the kernel may act, by its address. The address is one from which the entry at `ENTRY` bytes can
/// be reached and written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Spot(*const u8);

impl Spot {
    /// The spot of a word inside `object`.
    ///
    /// # Safety
    /// `object` points to a live object, shared mutably by atomics only, that has the word `at` bytes behind its start
    /// and, `ENTRY` bytes further on, 8 bytes that nobody but this module writes. For a spot that is only ever pending,
    /// the entry may lie anywhere.
    pub unsafe fn new<T>(object: *const T, at: usize) -> Spot {
        Spot(object.cast::<u8>().wrapping_add(at))
    }

    fn entry(self) -> *mut AtomicU64 {
        self.0.wrapping_add(ENTRY).cast_mut().cast()
    }

    fn word(self) -> *const AtomicU32 {
        self.0.cast()
    }

    /// How far behind the start of an object the spot lies; `None` if it isn't in it.
    pub fn offset_in<T>(self, object: *const T) -> Option<usize> {
        (self.0 as usize).checked_sub(object as usize).filter(|offset| *offset < size_of::<T>())
    }
}

/// As <linux/futex.h> has it.
#[repr(C)]
struct Head {
    list: *mut c_void,
    offset: i64,
    pending: *mut c_void,
}

/// A private entry; its word is never this thread's number. `previous` is written by glibc.
#[repr(C)]
struct Anchor {
    words: [u32; 6],
    previous: u64,
    next: AtomicU64,
}

/// One lock that the thread holds.
#[repr(C)]
#[derive(Clone, Copy)]
struct Held {
    spot: Spot,
    /// How often it has been locked again. 0 in places that are not in use.
    depth: u32,
}

/// A thread's private record. It lies in memory that the kernel zeroes in a forked child, so `tid` 0 means: not set
/// up, or another process's.
#[repr(C, align(64))]
struct Record {
    tid: u32,
    count: u32,
    head: *mut Head,
    namespace: u32,
    /// The kernel knows of the list, and forwards a dead waiter's wake-up.
    robust: bool,
    identity: u64,
    start: u64,
    process_start: u64,
    pid: u32,
    anchor: Anchor,
    held: [Held; ROOM],
    /// For threads that no C library has given a head, and a place for the pending entry where there is no list.
    own_head: Head,
    next_free: *mut Record,
}

/// The calling thread's record.
#[derive(Clone, Copy)]
pub struct Me(*mut Record);

/// The pending entry as it was, the C library's included.
#[derive(Clone, Copy)]
pub struct Pending(*mut c_void);

/// Where the calling thread's record is known by: a word of thread-local memory.
///
/// Rust gives a shared library the slowest way to thread-local memory, a function call per access, which is a tenth of
/// a lock and unlock. The word is therefore declared for the assembler, and read in the initial-exec way.
#[cfg(all(target_arch = "x86_64", target_pointer_width = "64"))]
mod local {
    use super::Record;
    use std::arch::{asm, global_asm};

    global_asm!(
        ".pushsection .tbss.tine_thread_record,\"awT\",@nobits",
        ".p2align 3",
        ".globl tine_thread_record",
        ".hidden tine_thread_record",
        ".type tine_thread_record, @object",
        ".size tine_thread_record, 8",
        "tine_thread_record: .zero 8",
        ".popsection",
    );

    #[inline(always)]
    pub(super) fn get() -> *mut Record {
        let record: *mut Record;
        // SAFETY: reads this thread's word, which exists from the thread's start.
        unsafe {
            asm!("mov {0}, qword ptr [rip + tine_thread_record@GOTTPOFF]", "mov {0}, qword ptr fs:[{0}]",
                out(reg) record, options(pure, readonly, nostack, preserves_flags));
        }
        record
    }

    pub(super) fn set(record: *mut Record) {
        // SAFETY: writes this thread's word.
        unsafe {
            asm!("mov {0}, qword ptr [rip + tine_thread_record@GOTTPOFF]", "mov qword ptr fs:[{0}], {1}",
                out(reg) _, in(reg) record, options(nostack, preserves_flags));
        }
    }
}

#[cfg(not(all(target_arch = "x86_64", target_pointer_width = "64")))]
mod local {
    use super::Record;
    use std::cell::Cell;

    thread_local! { static RECORD: Cell<*mut Record> = const { Cell::new(std::ptr::null_mut()) } }

    #[inline(always)]
    pub(super) fn get() -> *mut Record {
        RECORD.get()
    }

    pub(super) fn set(record: *mut Record) {
        RECORD.set(record);
    }
}

/// The calling thread, if it has taken a lock before.
#[inline(always)]
pub fn known() -> Option<Me> {
    let record = local::get();
    // SAFETY: a record is never unmapped, and only its thread uses it.
    (!record.is_null() && unsafe { (*record).tid } != 0).then_some(Me(record))
}

/// The calling thread; sets it up the first time. `None` where there is no memory for its record.
#[inline(always)]
pub fn me() -> Option<Me> {
    match known() {
        Some(me) => Some(me),
        None => setup::set_up(),
    }
}

/// Only the compiler must keep the order: the other reader is the kernel, in this very thread, at its end.
#[inline(always)]
fn order() {
    compiler_fence(Ordering::SeqCst);
}

impl Me {
    #[inline(always)]
    fn record(&self) -> &Record {
        // SAFETY: only this thread has this record's address, and no reference to it outlives a call of this module.
        unsafe { &*self.0 }
    }

    /// The thread's number, as a lock's word holds it.
    #[inline(always)]
    pub fn tid(self) -> u32 {
        self.record().tid
    }

    /// The process's number.
    #[inline(always)]
    pub fn pid(self) -> u32 {
        self.record().pid
    }

    /// Process and thread in one number.
    #[inline(always)]
    pub fn identity(self) -> u64 {
        self.record().identity
    }

    /// The time of the thread's start.
    #[inline(always)]
    pub fn start(self) -> u64 {
        self.record().start
    }

    /// The time of the process's start.
    pub fn process_start(self) -> u64 {
        self.record().process_start
    }

    /// The tag of the PID namespace.
    #[inline(always)]
    pub fn namespace(self) -> u32 {
        self.record().namespace
    }

    /// Whether the kernel sees to a death; otherwise waits must look after each other.
    #[inline(always)]
    pub fn is_robust(self) -> bool {
        self.record().robust
    }

    /// Whether the thread holds as many locks as it may.
    #[inline(always)]
    pub fn is_full(self) -> bool {
        self.record().count as usize >= MOST_HELD
    }

    /// From here on the kernel looks at this spot too, should the thread end.
    #[inline(always)]
    pub fn pend(self, spot: Spot) {
        // SAFETY: the head is the C library's or the record's own, and both live as long as the thread.
        unsafe { (&raw mut (*self.record().head).pending).write_volatile(spot.entry().cast()) };
        order();
    }

    /// Ends that.
    #[inline(always)]
    pub fn pend_nothing(self) {
        order();
        // SAFETY: as above.
        unsafe { (&raw mut (*self.record().head).pending).write_volatile(std::ptr::null_mut()) };
    }

    /// What is pending, for `pend_again`: a call that a signal handler may make puts back what it has met.
    #[inline(always)]
    pub fn pending(self) -> Pending {
        // SAFETY: as in `pend`.
        Pending(unsafe { (&raw const (*self.record().head).pending).read_volatile() })
    }

    /// Puts back what was pending.
    #[inline(always)]
    pub fn pend_again(self, pending: Pending) {
        order();
        // SAFETY: as in `pend`.
        unsafe { (&raw mut (*self.record().head).pending).write_volatile(pending.0) };
    }

    /// Puts a lock that has just been taken on the list. The spot is pending.
    #[inline(always)]
    pub fn push(self, spot: Spot) {
        let record = self.0;
        // SAFETY: the record is this thread's. The entry is writable by `Spot::new`; Relaxed, as the kernel reads it in
        // this thread. Every caller has asked `is_full`, and the library's own extra locks have room beyond.
        unsafe {
            let count = (*record).count as usize;
            (*spot.entry()).store((*record).anchor.next.load(Ordering::Relaxed), Ordering::Relaxed);
            order();
            (*record).anchor.next.store(spot.entry() as u64, Ordering::Relaxed);
            // No bounds check on the shortest path of all; the depth was left at 0 by whoever was here before.
            (&raw mut (*record).held).cast::<Held>().add(count).cast::<Spot>().write(spot);
            (*record).count = count as u32 + 1;
        }
    }

    /// Takes a lock off the list before it is released. The spot is pending.
    pub fn remove(self, spot: Spot) {
        if self.newest() == Some(spot) {
            self.remove_newest();
        } else {
            self.remove_older(spot);
        }
    }

    /// The same for the newest lock that the thread holds; there is one.
    #[inline(always)]
    pub fn remove_newest(self) {
        let record = self.0;
        // SAFETY: the record is this thread's, and holds at least one lock.
        unsafe {
            let count = (*record).count - 1;
            (*record).anchor.next.store(self.entry_below(count as usize), Ordering::Relaxed);
            (*record).count = count;
        }
        order();
    }

    /// The address of the entry that follows that of the lock at `index`.
    #[inline(always)]
    fn entry_below(self, index: usize) -> u64 {
        let record = self.0;
        match index {
            // SAFETY: the record is this thread's, and the index that of a lock it holds.
            0 => unsafe { (*record).head as u64 },
            // SAFETY: as above.
            _ => unsafe { (*(&raw const (*record).held).cast::<Held>().add(index - 1)).spot.entry() as u64 },
        }
    }

    #[cold]
    fn remove_older(self, spot: Spot) {
        let Some(index) = self.find(spot) else { return };
        let record = self.0;
        // SAFETY: `find` gave an index below the count; the newer neighbour's entry is writable as long as it is held.
        unsafe {
            let count = (*record).count as usize;
            if index + 1 < count {
                (*(*record).held[index + 1].spot.entry()).store(self.entry_below(index), Ordering::Relaxed);
            } else {
                (*record).anchor.next.store(self.entry_below(index), Ordering::Relaxed);
            }
            order();
            for at in index..count - 1 {
                (*record).held[at] = (*record).held[at + 1];
            }
            (*record).held[count - 1].depth = 0;
            (*record).count = count as u32 - 1;
        }
        order();
    }

    /// Whether the newest lock that the thread holds is this one, locked once.
    #[inline(always)]
    pub fn newest_is(self, spot: Spot) -> bool {
        let record = self.record();
        let count = record.count as usize;
        // SAFETY: one below the count is the place of a lock that is held.
        count > 0
            && unsafe {
                let newest = &*(&raw const record.held).cast::<Held>().add(count - 1);
                newest.spot == spot && newest.depth == 0
            }
    }

    /// The newest lock that the thread holds.
    fn newest(self) -> Option<Spot> {
        let record = self.record();
        (record.count as usize).checked_sub(1).map(|index| record.held[index].spot)
    }

    /// Where in the record a lock stands that the thread holds.
    pub fn find(self, spot: Spot) -> Option<usize> {
        self.record().held[..self.record().count as usize].iter().rposition(|held| held.spot == spot)
    }

    /// How far inside `object` the newest lock of all lies that the thread holds, if it lies in there.
    #[inline(always)]
    pub fn newest_in<T>(self, object: *const T) -> Option<usize> {
        let record = self.record();
        let index = (record.count as usize).checked_sub(1)?;
        // SAFETY: one below the count is the place of a lock that is held.
        unsafe { (*(&raw const record.held).cast::<Held>().add(index)).spot.offset_in(object) }
    }

    /// How far inside `object` the newest spot of it lies that the thread holds.
    pub fn newest_within<T>(self, object: *const T) -> Option<usize> {
        let held = &self.record().held[..self.record().count as usize];
        held.iter().rev().find_map(|held| held.spot.offset_in(object))
    }

    /// Whether the thread holds a lock in these bytes.
    pub fn holds_within(self, address: usize, length: usize) -> bool {
        let held = &self.record().held[..self.record().count as usize];
        held.iter().any(|held| (held.spot.0 as usize).wrapping_sub(address) < length)
    }

    /// How often the lock at `index` has been locked again.
    pub fn depth(self, index: usize) -> u32 {
        self.record().held[index].depth
    }

    /// Sets that.
    pub fn set_depth(self, index: usize, depth: u32) {
        // SAFETY: the record is this thread's.
        unsafe { (*self.0).held[index].depth = depth };
    }
}

/// Whether `TINE_FORCE_NO` names a mechanism of the kernel that is to be left alone, for tests and odd systems.
pub(crate) fn forced_off(mechanism: &str) -> bool {
    // SAFETY: getenv's string is read before anything could change it.
    let value = unsafe {
        let value = libc::getenv(c"TINE_FORCE_NO".as_ptr());
        if value.is_null() {
            return false;
        }
        std::ffi::CStr::from_ptr(value)
    };
    value.to_bytes().split(|byte| *byte == b',').any(|name| name == mechanism.as_bytes())
}

/// Does to a word what the kernel does at the end of its holder; whether the word was the holder's.
pub(crate) fn mark_died(word: &AtomicU32, holder: u32) -> bool {
    // Relaxed to look, Release to mark: who takes the lock over sees what the dead one wrote.
    let mut value = word.load(Ordering::Relaxed);
    while value & OWNER == holder {
        let marked = value & WAITERS | DIED;
        match word.compare_exchange_weak(value, marked, Ordering::Release, Ordering::Relaxed) {
            Ok(_) => {
                if value & WAITERS != 0 {
                    futex_wake(word, 1);
                }
                return true;
            }
            Err(now) => value = now,
        }
    }
    false
}
