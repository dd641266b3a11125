//! A thread's record: where it comes from, how its list is found, and what becomes of both when the thread ends.

use super::{Anchor, ENTRY, Head, Me, Record, forced_off, local, mark_died, order};
use crate::sys::{memory, owner};
use std::ffi::c_void;
use std::mem::{offset_of, size_of};
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering};

const ANCHOR_ENTRY: usize = offset_of!(Anchor, next);

/// What one process keeps for its threads, in a page that is zeroed in a forked child.
#[repr(C)]
struct Arena {
    /// 0 free, 1 taken: guards `free`. Acquire and Release.
    lock: AtomicU32,
    free: *mut Record,
}

/// Null until the first use. Acquire and Release: who sees the pointer sees the page.
static ARENA: AtomicPtr<Arena> = AtomicPtr::new(std::ptr::null_mut());

/// The pthread key whose destructor sees threads end, plus one; 0 before it is made. Relaxed: the value is all.
static KEY: AtomicUsize = AtomicUsize::new(0);

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

/// Runs with the list of free records. A child of fork finds the lock free, whoever held it in the parent.
fn with_free<T>(arena: &Arena, run: impl FnOnce(&mut *mut Record) -> T) -> T {
    while arena.lock.compare_exchange_weak(0, 1, Ordering::Acquire, Ordering::Relaxed).is_err() {
        std::thread::yield_now();
    }
    // SAFETY: the lock is held, so this is the only reference.
    let result = run(unsafe { &mut *(&raw const arena.free).cast_mut() });
    arena.lock.store(0, Ordering::Release);
    result
}

const RECORDS_AT_ONCE: usize = 16;

fn new_record() -> Option<*mut Record> {
    let arena = arena()?;
    with_free(arena, |free| {
        if free.is_null() {
            let page = memory::page_size();
            let length = (RECORDS_AT_ONCE * size_of::<Record>()).next_multiple_of(page);
            let first = memory::wiped_in_children(length)?.cast::<Record>();
            for index in 0..RECORDS_AT_ONCE {
                // SAFETY: inside the new mapping.
                unsafe {
                    let record = first.add(index);
                    (*record).next_free = *free;
                    *free = record;
                }
            }
        }
        let record = *free;
        // SAFETY: the records on the list are valid.
        *free = unsafe { (*record).next_free };
        Some(record)
    })
}

fn key() -> Option<libc::pthread_key_t> {
    let known = KEY.load(Ordering::Relaxed);
    if known != 0 {
        return Some(known as libc::pthread_key_t - 1);
    }
    let mut key = 0;
    // SAFETY: a place for the key; the library is never unloaded, so the destructor stays.
    if unsafe { libc::pthread_key_create(&mut key, Some(retire)) } != 0 {
        return None;
    }
    match KEY.compare_exchange(0, key as usize + 1, Ordering::Relaxed, Ordering::Relaxed) {
        Ok(_) => Some(key),
        Err(other) => {
            // SAFETY: made above and not used.
            unsafe { libc::pthread_key_delete(key) };
            Some(other as libc::pthread_key_t - 1)
        }
    }
}

#[cold]
#[inline(never)]
pub(super) fn set_up() -> Option<Me> {
    let mut record = local::get();
    if record.is_null() {
        record = new_record()?;
        local::set(record);
    }
    let key = key()?;
    // SAFETY: the record is this thread's alone: new, or its own of before a fork. The key exists.
    unsafe {
        libc::pthread_setspecific(key, record.cast());
        let (tid, pid) = (owner::gettid(), owner::getpid());
        (*record).count = 0;
        (*record).pid = pid;
        (*record).identity = u64::from(pid) << 32 | u64::from(tid);
        (*record).start = owner::start_time(tid);
        (*record).process_start = if tid == pid { (*record).start } else { owner::start_time(pid) };
        (*record).namespace = owner::namespace();
        owner::many_processors(); // Found out here once, so that no wait has to.
        (*record).anchor = Anchor { words: [0; 6], previous: 0, next: AtomicU64::new(0) };
        let head = if forced_off("robust") || !forwards() { None } else { kernel_head(record) };
        (*record).robust = head.is_some_and(|head| append_anchor(record, head));
        if !(*record).robust {
            (*record).own_head = empty_head(&raw mut (*record).own_head);
            (*record).head = &raw mut (*record).own_head;
            (*record).anchor.next = AtomicU64::new((*record).head as u64);
        }
        (*record).tid = tid;
    }
    Some(Me(record))
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
    // SAFETY: the caller's promise. The store that makes the anchor visible is the last.
    unsafe {
        let Some((place, before)) = place_before(head, head as u64) else { return false };
        (*record).head = head;
        (*record).anchor.next = AtomicU64::new(head as u64);
        (*record).anchor.previous = before;
        order();
        place.write_volatile(record.cast::<u8>().add(offset_of!(Record, anchor) + ANCHOR_ENTRY) as u64);
        order();
    }
    true
}

/// Whether the kernel wakes the next sleeper when a woken one dies before it acts, whatever else the word holds. It
/// does since 6.2.
fn forwards() -> bool {
    // SAFETY: a place for the answer.
    let release = unsafe {
        let mut name = std::mem::zeroed::<libc::utsname>();
        if libc::uname(&mut name) != 0 {
            return false;
        }
        name.release
    };
    let mut numbers = release.iter().map(|byte| *byte as u8).map_while(|byte| match byte {
        b'0'..=b'9' | b'.' => Some(byte),
        _ => None,
    });
    let mut number =
        || numbers.by_ref().take_while(|byte| *byte != b'.').fold(0, |n, b| n * 10 + u32::from(b - b'0'));
    let (major, minor) = (number(), number());
    (major, minor) >= (6, 2)
}

/// The key's destructor: a thread ends. What it holds is marked as the kernel would mark it, and its record is free.
extern "C" fn retire(record: *mut c_void) {
    let record = record.cast::<Record>();
    // SAFETY: the key's value is this thread's record; in a forked child that never locked, it is zeroed.
    unsafe {
        if (*record).tid != owner::gettid() {
            return;
        }
        let me = Me(record);
        while let Some(spot) = me.newest() {
            me.set_depth((*record).count as usize - 1, 0);
            me.pend(spot);
            me.remove(spot);
            mark_died(&*spot.word(), (*record).tid);
            me.pend_nothing();
        }
        if (*record).robust {
            let anchor = record.cast::<u8>().add(offset_of!(Record, anchor) + ANCHOR_ENTRY) as u64;
            // A list that isn't whole stays as it is, and the record with it.
            let Some((place, _)) = place_before((*record).head, anchor) else { return };
            place.write_volatile((*record).head as u64);
        }
        (*record).tid = 0;
        local::set(std::ptr::null_mut());
        if let Some(arena) = arena() {
            with_free(arena, |free| {
                (*record).next_free = *free;
                *free = record;
            });
        }
    }
}
