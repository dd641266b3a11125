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

use super::clock::now_ns;
use super::local::thread_word;
use super::owner::{self, OwnerKind};
use std::ffi::c_void;
use std::mem::size_of;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering, compiler_fence, fence};

/// The holder's number, in a lock's word.
pub const OWNER: u32 = 0x3fff_ffff;
/// Somebody may sleep on the word.
pub const WAITERS: u32 = 0x8000_0000;
/// The kernel's mark: the holder has died.
pub const DIED: u32 = 0x4000_0000;

/// A lock's word and the holder's cookie beside it change as one: the word is the half that the kernel knows, at 4 bytes
/// with musl and at 0 elsewhere.
const WORD_SHIFT: u32 = if cfg!(target_env = "musl") { 32 } else { 0 };
/// Where the word is in such a pair.
pub const WORD: usize = WORD_SHIFT as usize / 8;
const _: () = assert!(cfg!(target_endian = "little"));

/// The word of such a pair.
#[inline(always)]
pub const fn word_of(pair: u64) -> u32 {
    (pair >> WORD_SHIFT) as u32
}

/// The cookie of such a pair.
#[inline(always)]
pub const fn cookie_of(pair: u64) -> u32 {
    (pair >> (32 - WORD_SHIFT)) as u32
}

/// Both together.
#[inline(always)]
pub const fn pair_of(word: u32, cookie: u32) -> u64 {
    (word as u64) << WORD_SHIFT | (cookie as u64) << (32 - WORD_SHIFT)
}

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
    /// `object` points to an object that stays alive as long as a thread has the spot on its list or pending. It is shared
    /// mutably by atomics only, has the word `at` bytes behind its start and, `ENTRY` bytes further on, 8 bytes that nobody
    /// but this module writes. For a spot that is only ever pending, the entry may lie anywhere.
    pub unsafe fn new<T>(object: *const T, at: usize) -> Spot {
        Spot(object.cast::<u8>().wrapping_add(at))
    }

    fn entry(self) -> *mut AtomicU64 {
        self.0.wrapping_add(ENTRY).cast_mut().cast()
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

/// A lock that the thread reads without a slot of its own, and how often. The name tells it from a later lock at the address, and
/// from its own other addresses.
#[repr(C)]
#[derive(Clone, Copy)]
struct Read {
    lock: usize,
    times: u32,
    name: u32,
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
    /// Process and thread.
    identity: u64,
    /// What the thread, and its process, put into a lock that they hold: number and cookie.
    holder: u64,
    process_holder: u64,
    /// The last thread that was seen alive with a lock, and when. In this thread's time, so nobody else's clock matters.
    seen: u64,
    seen_ns: u64,
    /// The last process that was looked for, and when.
    asked: (u64, u64),
    anchor: Anchor,
    held: [Held; ROOM],
    /// What it reads in a place of its process's: never on a list. Other threads look at it (`held`).
    reads: [Read; MOST_HELD],
    reading: u32,
    /// For threads that no C library has given a head, and a place for the pending entry where there is no list.
    own_head: Head,
    /// Whose it is, in the half of a number that counts how often it has changed hands. See `setup`.
    claim: AtomicU64,
}

/// The calling thread's record.
#[derive(Clone, Copy)]
pub struct Me(*mut Record);

// Where the calling thread's record is known by.
thread_word!(local, "tine_thread_record");

#[inline(always)]
fn local_record() -> *mut Record {
    std::ptr::with_exposed_provenance_mut(local::get())
}

/// Puts `new` in place of `old`; whether that was there. A handler of this thread may come at any instruction.
fn exchange_record(old: *mut Record, new: *mut Record) -> bool {
    // SAFETY: this thread's word, which it alone uses.
    let word = unsafe { AtomicUsize::from_ptr(local::address()) };
    let (old, new) = (old.expose_provenance(), new.expose_provenance());
    word.compare_exchange(old, new, Ordering::Relaxed, Ordering::Relaxed).is_ok()
}

/// The calling thread, if it has taken a lock before.
#[inline(always)]
pub fn known() -> Option<Me> {
    let record = local_record();
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

    /// Process and thread in one number.
    #[inline(always)]
    pub fn identity(self) -> u64 {
        self.record().identity
    }

    /// The thread as a lock names it that a thread holds: word and cookie.
    #[inline(always)]
    pub fn holder(self) -> u64 {
        self.record().holder
    }

    /// The caller's process, as the word of a lock that processes own names it, if it is known with its cookie.
    #[inline(always)]
    pub fn known_process_holder(self) -> Option<u64> {
        let holder = self.record().process_holder;
        (cookie_of(holder) != 0).then_some(holder)
    }

    /// The process as a lock names it that a process holds.
    pub fn process_holder(self) -> u64 {
        let record = self.0;
        // SAFETY: the record is this thread's.
        unsafe {
            if cookie_of((*record).process_holder) == 0 {
                // There may have been no descriptor to find it out with.
                let pid = word_of((*record).process_holder);
                (*record).process_holder = pair_of(pid, setup::process_cookie(pid));
            }
            (*record).process_holder
        }
    }

    /// Whether the holder of a lock has ended. A look costs some system calls, and a thread that tries again and again must not pay for each where the
    /// kernel marks a lock: a thread counts as alive for some microseconds after a look. A process is always looked for, and from the second time
    /// in a row on with a descriptor that stays open.
    pub fn sees_end(self, holder: u64, kind: OwnerKind) -> bool {
        /// Less than it takes to learn of a death in another way.
        const FRESH_NS: u64 = 10_000;
        /// Looks within this time of each other count as looks in a row.
        const IN_A_ROW_NS: u64 = 1_000_000;
        let (number, cookie) = (word_of(holder) & OWNER, cookie_of(holder));
        let look = || owner::has_ended(number, cookie, kind);
        let record = self.0;
        let now = now_ns();
        if kind == OwnerKind::Process {
            // SAFETY: the record is this thread's.
            let last = unsafe { std::mem::replace(&mut (*record).asked, (holder, now)) };
            let in_a_row = last.0 == holder && now.wrapping_sub(last.1) < IN_A_ROW_NS;
            return if in_a_row { owner::watched_process_ended(number, cookie) } else { look() };
        }
        // SAFETY: the record is this thread's.
        unsafe {
            if (*record).seen == holder && now.wrapping_sub((*record).seen_ns) < FRESH_NS {
                return false;
            }
            let ended = look();
            if !ended {
                ((*record).seen, (*record).seen_ns) = (holder, now);
            }
            ended
        }
    }

    /// The tag of the PID namespace; `UNKNOWN_NAMESPACE`, which no lock has, where it can't be found out.
    #[inline(always)]
    pub fn namespace(self) -> u32 {
        self.record().namespace
    }

    /// The same, after another attempt to find it out; `None` where that fails too.
    pub fn find_namespace(self) -> Option<u32> {
        let record = self.0;
        // SAFETY: the record is this thread's.
        unsafe {
            if (*record).namespace == owner::UNKNOWN_NAMESPACE {
                (*record).namespace = owner::namespace();
            }
            ((*record).namespace != owner::UNKNOWN_NAMESPACE).then_some((*record).namespace)
        }
    }

    /// Whether the kernel sees to a death; otherwise waits must look after each other.
    #[inline(always)]
    pub fn is_robust(self) -> bool {
        self.record().robust
    }

    /// Whether the thread holds any lock.
    pub fn holds_any(self) -> bool {
        self.record().count != 0
    }

    /// Whether it holds any lock but this one.
    pub fn holds_besides(self, spot: Spot) -> bool {
        self.record().held[..self.record().count as usize].iter().any(|held| held.spot != spot)
    }

    /// Whether it reads any lock in a place of its process's.
    #[inline(always)]
    pub fn reads_any(self) -> bool {
        self.record().reading != 0
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
        // SAFETY: the head is the C library's or the record's own, and both live as long as the thread.
        unsafe { (&raw mut (*self.record().head).pending).write_volatile(std::ptr::null_mut()) };
    }

    /// Whether anything is pending, the C library's included: then this is a signal handler, in the middle of another call.
    #[inline(always)]
    pub fn pends_any(self) -> bool {
        // SAFETY: the head is the C library's or the record's own, and both live as long as the thread.
        unsafe { !(&raw const (*self.record().head).pending).read_volatile().is_null() }
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
            // No bounds check on the shortest path of all; the depth was left at 0 by the call before.
            (&raw mut (*record).held).cast::<Held>().add(count).cast::<Spot>().write(spot);
            (*record).count = count as u32 + 1;
        }
    }

    /// Takes a lock off the list, just before it is released: nothing of the thread's may lead to memory that is the next
    /// holder's to free. A thread that dies between the two leaves a word with its number that nobody marks; whoever
    /// waits looks round and does.
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
            // SAFETY: the record is this thread's, and `index` that of a lock it holds, so the place below is a held
            // lock's, too.
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

    /// Whether the thread holds a lock in these bytes, or reads one there in a place of its process's.
    pub fn holds_within(self, address: usize, length: usize) -> bool {
        let is_within = |at: usize| at.wrapping_sub(address) < length;
        let held = &self.record().held[..self.record().count as usize];
        held.iter().any(|held| is_within(held.spot.0 as usize))
            || self.all_reads().iter().any(|read| is_within(read.lock))
    }

    fn all_reads(&self) -> &[Read] {
        &self.record().reads[..self.record().reading as usize]
    }

    /// How often the thread reads the lock of this name in a place of its process's.
    pub fn reads<T>(self, lock: *const T, name: u32) -> u32 {
        let found = self.find_read(lock).map(|index| self.record().reads[index]);
        found.filter(|read| read.name == name).map_or(0, |read| read.times)
    }

    /// Whether it does so by another address than this.
    pub fn reads_elsewhere<T>(self, lock: *const T, name: u32) -> bool {
        self.all_reads().iter().any(|read| read.name == name && read.lock != lock as usize)
    }

    fn find_read<T>(self, lock: *const T) -> Option<usize> {
        self.all_reads().iter().position(|read| read.lock == lock as usize)
    }

    /// Sets how often it does; whether there was room. A thread that reads the record from the newest read down (`held`) misses none that stays:
    /// the newest one is in its new place before the count goes down, and is whole before the count goes up. Release, with the Acquire
    /// after each look there.
    pub fn set_reads<T>(self, lock: *const T, name: u32, times: u32) -> bool {
        let found = self.find_read(lock);
        let read = Read { lock: lock as usize, times, name };
        let record = self.0;
        // SAFETY: the record is this thread's, and `found` below the count.
        unsafe {
            let count = (*record).reading as usize;
            match found {
                Some(index) if times == 0 => {
                    (*record).reads[index] = (*record).reads[count - 1];
                    fence(Ordering::Release);
                    (*record).reading = count as u32 - 1;
                }
                Some(index) => (*record).reads[index] = read,
                None if times == 0 => {}
                None if count == MOST_HELD => return false,
                None => {
                    (*record).reads[count] = read;
                    fence(Ordering::Release);
                    (*record).reading = count as u32 + 1;
                }
            }
        }
        true
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
