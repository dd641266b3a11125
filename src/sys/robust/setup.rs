//! A thread's record: where it comes from, and how the thread's list is found.
//!
//! All of it is safe in a signal handler that interrupts any of it. Records are claimed, put on the list and made known by
//! exchanges; a handler that needs one meanwhile sets up another, whole, and the interrupted thread then finds that it
//! has been overtaken and uses that. So there is no lock that only an interrupted thread could release. And there is no
//! destructor, which some C libraries allocate memory to remember: a record whose thread has ended is found when another
//! is needed.

use super::{
    Anchor, ENTRY, Head, Me, Record, cookie_of, exchange_record, forced_off, local_record, order, pair_of,
};
use crate::sys::owner::{self, OwnerKind};
use crate::sys::{kernel, memory};
use std::mem::{offset_of, size_of};
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

const ANCHOR_ENTRY: usize = offset_of!(Anchor, next);

/// What one process keeps for its threads, in a page that is zeroed in a forked child. The child's thread keeps its
/// record; the others are nobody's.
#[repr(C)]
struct Arena {
    /// Acquire and Release: a thread that sees a chunk sees its `next`.
    chunks: AtomicPtr<Chunk>,
    /// The process's cookie, the same for all its threads however each could have found it out; 0 while not known.
    /// Relaxed: the value is all that matters.
    cookie: AtomicU32,
    /// Where the last search for a record whose thread has ended came to. Relaxed: a hint.
    searched: AtomicU64,
}

const RECORDS_AT_ONCE: usize = 16;

/// Never unmapped: the kernel may be on its way through an anchor.
#[repr(C)]
struct Chunk {
    records: [Record; RECORDS_AT_ONCE],
    /// Not written once the chunk is known.
    next: *mut Chunk,
}

/// Null until the first use. Acquire and Release: a thread that sees the pointer sees the page.
static ARENA: AtomicPtr<Arena> = AtomicPtr::new(std::ptr::null_mut());

fn arena() -> Option<&'static Arena> {
    let mut arena = ARENA.load(Ordering::Acquire);
    if arena.is_null() {
        let length = memory::page_size();
        let new = memory::wiped_in_children(length)?.cast::<Arena>();
        arena = match ARENA.compare_exchange(arena, new, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => new,
            Err(other) => {
                // SAFETY: mapped above, and nobody else knows of it.
                unsafe { libc::munmap(new.cast(), length) };
                other
            }
        };
    }
    // SAFETY: never unmapped, and all zero is a valid arena.
    Some(unsafe { &*arena })
}

impl Arena {
    fn records(&self) -> impl Iterator<Item = *mut Record> {
        let mut chunk = self.chunks.load(Ordering::Acquire);
        std::iter::from_fn(move || {
            let this = chunk;
            // SAFETY: chunks are never unmapped, and `next` is not written any more.
            (!this.is_null()).then(|| unsafe {
                chunk = (*this).next;
                (&raw mut (*this).records).cast::<Record>()
            })
        })
        // SAFETY: inside the chunk.
        .flat_map(|first| (0..RECORDS_AT_ONCE).map(move |index| unsafe { first.add(index) }))
    }

    /// A record that has never been used, or whose thread has ended, or a new one.
    fn claim(&self, tid: u32) -> Option<*mut Record> {
        /// More looks than that cost more than a record does.
        const MOST_LOOKS: usize = 32;
        if let Some(unused) = self.records().find(|record| try_claim(*record, tid, |owner| owner == 0)) {
            return Some(unused);
        }
        let count = self.records().count();
        let start = self.searched.fetch_add(MOST_LOOKS as u64, Ordering::Relaxed) as usize % count.max(1);
        let mut looked_at = self.records().chain(self.records()).skip(start).take(MOST_LOOKS.min(count));
        looked_at.find(|record| try_claim(*record, tid, is_gone)).or_else(|| self.grow(tid))
    }

    fn grow(&self, tid: u32) -> Option<*mut Record> {
        let length = size_of::<Chunk>().next_multiple_of(memory::page_size());
        let new = memory::wiped_in_children(length)?.cast::<Chunk>();
        // SAFETY: mapped above and known to nobody else before the exchange; all zero is a valid chunk.
        unsafe {
            let first = (&raw mut (*new).records).cast::<Record>();
            try_claim(first, tid, |owner| owner == 0);
            let mut head = self.chunks.load(Ordering::Acquire);
            loop {
                (*new).next = head;
                match self.chunks.compare_exchange_weak(head, new, Ordering::AcqRel, Ordering::Acquire) {
                    Ok(_) => return Some(first),
                    Err(now) => head = now,
                }
            }
        }
    }
}

/// Whether a thread of this process has ended: the kernel has long been through its list then.
fn is_gone(tid: u32) -> bool {
    // SAFETY: no pointers; signal 0 is sent to nobody.
    let asked = unsafe { libc::syscall(libc::SYS_tgkill, owner::getpid(), tid, 0) };
    asked != 0 && crate::sys::errno() == libc::ESRCH
}

/// The threads that live, of those whose record `matches`.
pub(super) fn records_of_living(matches: impl Fn(*const Record) -> bool) -> impl Iterator<Item = u32> {
    arena().into_iter().flat_map(Arena::records).filter_map(move |record| {
        // SAFETY: records are never unmapped, the claim is an atomic that threads share, and the holder may be written meanwhile.
        let (claim, holder) = unsafe { (&(*record).claim, (&raw const (*record).holder).read_volatile()) };
        let tid = claim.load(Ordering::Relaxed) as u32;
        // Its number may be another thread's by now, which has a record of its own.
        let lives = || !is_gone(tid) && !owner::thread_ended(tid, cookie_of(holder));
        (tid != 0 && matches(record) && lives()).then_some(tid)
    })
}

/// Makes a record this thread's if no thread has it; `is_free` is asked about the thread that had it, 0 for none.
fn try_claim(record: *mut Record, tid: u32, is_free: impl FnOnce(u32) -> bool) -> bool {
    // SAFETY: records are never unmapped, and the claim is an atomic that threads share.
    let claim = unsafe { &(*record).claim };
    // Relaxed: nothing in a record passes from one thread to the next. The count in the upper half tells a thread that
    // has claimed it from an earlier one of the same number.
    let before = claim.load(Ordering::Relaxed);
    let after = ((before >> 32) + 1) << 32 | u64::from(tid);
    is_free(before as u32)
        && claim.compare_exchange(before, after, Ordering::Relaxed, Ordering::Relaxed).is_ok()
}

/// The cookie of the calling process: what the first of its threads that could find it out has found.
pub(super) fn process_cookie(pid: u32) -> u32 {
    let find = || owner::cookie(pid, OwnerKind::Process);
    let Some(arena) = arena() else { return find() };
    match arena.cookie.load(Ordering::Relaxed) {
        0 => {
            let found = find();
            match arena.cookie.compare_exchange(0, found, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => found,
                Err(other) => other,
            }
        }
        known => known,
    }
}

#[cold]
#[inline(never)]
pub(super) fn set_up() -> Option<Me> {
    // Null, or after a fork the parent's, which is zeroed and stays unused.
    let before = local_record();
    let (tid, pid) = (owner::gettid(), owner::getpid());
    let record = arena()?.claim(tid)?;
    // SAFETY: the record is this thread's alone: claimed, and not known to a handler yet.
    unsafe {
        (*record).count = 0;
        (*record).reading = 0;
        (*record).held.fill(super::Held { spot: super::Spot(std::ptr::null()), depth: 0 });
        (*record).identity = u64::from(pid) << 32 | u64::from(tid);
        let cookie = owner::cookie(tid, OwnerKind::Thread);
        (*record).holder = pair_of(tid, cookie);
        (*record).process_holder = pair_of(pid, process_cookie(pid));
        ((*record).seen, (*record).seen_ns, (*record).asked) = (0, 0, (0, 0));
        (*record).namespace = owner::namespace();
        owner::many_processors(); // Found out here once, so that no wait has to.
        (*record).anchor = Anchor { words: [0; 6], previous: 0, next: AtomicU64::new(0) };
        (*record).tid = tid;
        let head = if forced_off("robust") || !forwards() { None } else { kernel_head(record) };
        (*record).robust = head.is_some_and(|head| append_anchor(record, head));
        if !(*record).robust {
            (*record).own_head = empty_head(&raw mut (*record).own_head);
            (*record).head = &raw mut (*record).own_head;
            (*record).anchor.next = AtomicU64::new((*record).head as u64);
        }
        if exchange_record(before, record) {
            return Some(Me(record));
        }
        // A handler was faster. This record's anchor may stand in the list, before the other's, until the thread ends.
        let me = super::known()?;
        if (*record).head == &raw mut (*record).own_head && (*me.0).robust {
            // And so may this record's head be what the kernel knows.
            libc::syscall(libc::SYS_set_robust_list, (*me.0).head, size_of::<Head>());
        }
        Some(me)
    }
}

fn empty_head(at: *mut Head) -> Head {
    Head { list: at.cast(), offset: -(ENTRY as i64), pending: std::ptr::null_mut() }
}

/// The head that the kernel knows for this thread. `None` for a libc that lays its mutexes out in a way of its own.
///
/// # Safety
/// The record is this thread's.
unsafe fn kernel_head(record: *mut Record) -> Option<*mut Head> {
    if cfg!(target_env = "musl") {
        // musl gives the kernel its head at the thread's first robust lock, and would put it in place of ours.
        touch_robust_mutex();
    }
    let (mut head, mut length) = (std::ptr::null_mut::<Head>(), 0usize);
    // SAFETY: places for both answers.
    let rc = unsafe { libc::syscall(libc::SYS_get_robust_list, 0, &mut head, &mut length) };
    if rc != 0 {
        return None;
    }
    if head.is_null() {
        // A thread of raw clone: nobody has registered a head, and nobody will.
        // SAFETY: the record outlives the thread.
        unsafe {
            head = &raw mut (*record).own_head;
            head.write(empty_head(head));
            if libc::syscall(libc::SYS_set_robust_list, head, size_of::<Head>()) != 0 {
                return None;
            }
        }
    }
    // SAFETY: the kernel's answer is the registered head.
    let offset = unsafe { (*head).offset };
    (offset == -(ENTRY as i64) && !forced_off("layout")).then_some(head)
}

fn touch_robust_mutex() {
    // SAFETY: a private mutex, used as POSIX says; should a call fail, the list stays unregistered, which is seen.
    unsafe {
        let mut attributes = std::mem::zeroed();
        let mut mutex = std::mem::zeroed();
        libc::pthread_mutexattr_init(&mut attributes);
        libc::pthread_mutexattr_setrobust(&mut attributes, libc::PTHREAD_MUTEX_ROBUST);
        libc::pthread_mutexattr_setpshared(&mut attributes, libc::PTHREAD_PROCESS_SHARED);
        libc::pthread_mutex_init(&mut mutex, &attributes);
        if libc::pthread_mutex_lock(&mut mutex) == 0 {
            libc::pthread_mutex_unlock(&mut mutex);
        }
        libc::pthread_mutex_destroy(&mut mutex);
        libc::pthread_mutexattr_destroy(&mut attributes);
    }
}

/// The kernel walks no further than this; a longer list is damaged.
const LONGEST_LIST: usize = 2048;

/// The place that points to `entry`, in the C library's part of the list.
///
/// # Safety
/// `head` is this thread's, and its list is whole.
unsafe fn place_before(head: *mut Head, entry: u64) -> Option<(*mut u64, u64)> {
    let (mut place, mut at) = (head.cast::<u64>(), head as u64);
    for _ in 0..LONGEST_LIST {
        // SAFETY: the head, or an entry of a mutex that this thread holds: mapped.
        let next = unsafe { place.read_volatile() };
        if next & !1 == entry {
            return Some((place, at));
        }
        if next & !1 == head as u64 || next == 0 {
            return None;
        }
        at = next & !1;
        place = at as *mut u64;
    }
    None
}

/// Puts the anchor at the list's end, behind whatever the C library's robust mutexes are already held.
///
/// # Safety
/// The record is this thread's, and `head` its list.
unsafe fn append_anchor(record: *mut Record, head: *mut Head) -> bool {
    // SAFETY: by the contract above the record is this thread's and `head` its list, so each entry on it is mapped.
    // The exchange that makes the anchor visible is the last step; it fails where a handler has put another one there
    // since, and then that one is the last.
    unsafe {
        (*record).head = head;
        (*record).anchor.next = AtomicU64::new(head as u64);
        let anchor = record.cast::<u8>().add(offset_of!(Record, anchor) + ANCHOR_ENTRY) as u64;
        loop {
            let Some((place, before)) = place_before(head, head as u64) else { return false };
            (*record).anchor.previous = before;
            order();
            let place = AtomicU64::from_ptr(place);
            if place.compare_exchange(head as u64, anchor, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                order();
                return true;
            }
        }
    }
}

/// Whether the kernel wakes the next sleeper when a woken one dies before it acts, whatever else the word holds. It
/// does since 6.2.
fn forwards() -> bool {
    kernel::version() >= (6, 2)
}
