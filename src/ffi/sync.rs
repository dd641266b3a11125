//! Mutexes, and what holds for all locks.

use crate::ffi::errors::TINE_INTERRUPTIBLE;
use crate::ffi::guard::guard_code;
use crate::ffi::options::{self, extensible};
use crate::sync::{self, Acquired, INVALID, Mutex, Outcome};
use crate::sys::clock::Timeout;
use std::ffi::c_int;

/// A mutex whose holder may lock it again, and unlocks it as often.
pub const TINE_RECURSIVE: u32 = 2;

/// A mutex that a process holds, not a thread: any thread of it may unlock it, and only the whole process's death is
/// its holder's. For runtimes that move work between threads. Another thread of the holder waits like anybody else.
pub const TINE_PROCESS_OWNED: u32 = 4;

/// A lock on data that a death can't tear: who takes it from a dead holder gets -EOWNERDEAD, but need not repair it.
pub const TINE_AUTO_REPAIR: u32 = 8;

/// An event that clears itself when it lets a waiter go.
pub const TINE_AUTO_RESET: u32 = 16;

/// A reader-writer lock on which readers don't wait for a writer that waits. It may starve writers.
pub const TINE_PREFER_READERS: u32 = 32;

/// How many locks a thread may hold at a time, read locks and barriers that it waits at included. One more is -ENOLCK.
pub const TINE_MOST_HELD: u32 = 128;

// What the header says is what the core goes by.
const _: () = assert!(
    TINE_RECURSIVE == sync::RECURSIVE
        && TINE_PROCESS_OWNED == sync::PROCESS_OWNED
        && TINE_INTERRUPTIBLE == sync::INTERRUPTIBLE
        && TINE_AUTO_REPAIR == sync::AUTO_REPAIR
        && TINE_AUTO_RESET == sync::AUTO_RESET
        && TINE_PREFER_READERS == sync::PREFER_READERS
        && TINE_MOST_HELD as usize == crate::sys::robust::MOST_HELD
);

/// One at a time, among threads and processes.
///
/// All locks of the family are plain memory of the caller's, aligned to 8 bytes: in a heap, in any MAP_SHARED memory, at
/// another address in each process if need be, or in private memory for threads of one process. All-zero memory is a
/// free lock without flags. No call allocates or frees anything for them, and there is nothing to destroy. The content is
/// tine's.
///
/// The memory must stay mapped while a call on it runs or a lock in it is held, and a lock must be released through the
/// address by which it was taken. A thread that has unlocked a mutex may free, unmap or make anew its memory at once, if nobody else
/// will ask for the mutex. The unlocking call of the holder before may still be running then: it no longer touches the
/// mutex.
///
/// A thread or process that ends, is killed, or executes another program while it holds a lock, at whatever instruction,
/// leaves it to the next taker, who gets -EOWNERDEAD. A child of fork() holds nothing. As a rule the kernel says at once
/// that a holder has ended. Where it can't (a robust list that is damaged, replaced, too long or refused by a sandbox,
/// kernels before 6.2, TINE_FORCE_NO=robust in the environment), who waits finds out within 50 ms by looking, and who only
/// tries, or has no more time, looks before it gives up. A holder is known by its number and, from Linux 6.9 on or with
/// /proc, by what tells it from a later one of the same number; of one that was refused both, the end is seen only once
/// its number is free.
///
/// Threads of one PID namespace only may share a lock; others get -EXDEV, as does a process that can't find out which is
/// its own: without /proc, before Linux 6.11.
///
/// Locks are not for signal handlers. A call that waits is no cancellation point: a thread that is cancelled in it waits on
/// and is cancelled afterwards; asynchronous cancelling must be off.
#[repr(C)]
pub struct tine_mutex {
    /// tine's.
    pub opaque: [u64; 8],
}

/// Who holds a mutex, or died holding it.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct tine_owner {
    /// sizeof(tine_owner).
    pub size: usize,
    /// The holder's process; 0 where nobody holds the mutex.
    pub pid: i32,
    /// The holder's thread; for TINE_PROCESS_OWNED, the one that took the mutex.
    pub tid: i32,
    /// When the thread, or for TINE_PROCESS_OWNED the process, started: field 22 of /proc/PID/stat. 0 where not known.
    pub start_time: u64,
    /// The process that died holding it, until the mutex is repaired or unlocked; 0 where none did, or where it died
    /// between taking the mutex and signing for it.
    pub dead_pid: i32,
    /// Its thread.
    pub dead_tid: i32,
}

extensible!(tine_owner);

/// The object behind a caller's pointer, of which `T` is the core's type and `U` the header's.
///
/// # Safety
/// `pointer` is null, misaligned, or valid for the whole of `'a` and shared by atomics only.
#[inline(always)]
pub(crate) unsafe fn object<'a, T, U>(pointer: *const U) -> Option<&'a T> {
    const { assert!(size_of::<T>() == size_of::<U>() && align_of::<T>() <= 8) };
    if pointer.is_null() || !pointer.cast::<u64>().is_aligned() {
        return None;
    }
    // SAFETY: `pointer` is not null, and is aligned to 8 bytes, which is enough for a `T`. By the contract above it
    // is then valid for `'a` and shared by atomics only. The sizes agree, and every bit pattern is one of the core's
    // atomics.
    Some(unsafe { &*pointer.cast::<T>() })
}

/// Writes a new object into memory of a caller's, once it is known to be fit for one.
///
/// # Safety
/// `pointer` is null, misaligned, or valid for writes, and nobody else uses the memory meanwhile.
pub(crate) unsafe fn initialise<T, U>(pointer: *mut U, make: impl FnOnce() -> Outcome<T>) -> Outcome<c_int> {
    const { assert!(size_of::<T>() == size_of::<U>() && align_of::<T>() <= 8) };
    if pointer.is_null() || !pointer.cast::<u64>().is_aligned() {
        return Err(INVALID);
    }
    let object = make()?;
    // SAFETY: `pointer` is not null, and is aligned to 8 bytes, which is enough for a `T`. By the contract above a
    // `U` can then be written there, and a `T` is as long.
    unsafe { pointer.cast::<T>().write(object) };
    Ok(0)
}

/// [`guard_code`] out of line, for what doesn't go the short way: that has no call in it but a jump here at its end, and
/// needs no stack. A function of Rust's own ABI could unwind as far as the compiler knows, and would be called.
#[cold]
#[inline(never)]
pub(crate) extern "C" fn slowly(body: impl FnOnce() -> Outcome<c_int>) -> c_int {
    guard_code(body)
}

/// 0, or `EOWNERDEAD` with the lock held.
#[inline(always)]
pub(crate) fn taken(acquired: Acquired) -> c_int {
    match acquired {
        Acquired::Clean => 0,
        Acquired::OwnerDied => -libc::EOWNERDEAD,
    }
}

/// Makes `m` a free mutex. `flags`: TINE_RECURSIVE or TINE_PROCESS_OWNED, TINE_INTERRUPTIBLE, TINE_AUTO_REPAIR.
///
/// Nobody may use the memory meanwhile. Without TINE_RECURSIVE a holder that locks again gets -EDEADLK.
///
/// Returns 0; -EINVAL: `m` is NULL or not aligned to 8 bytes, or flags unknown or not to be combined.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_mutex_init(m: *mut tine_mutex, flags: u32) -> c_int {
    guard_code(|| {
        // SAFETY: `m` is NULL, misaligned, or memory for a mutex that nobody else uses meanwhile, as the text above asks.
        unsafe { initialise(m, || Mutex::new(flags)) }
    })
}

/// Takes the mutex, waiting for up to `timeout_ns` nanoseconds; 0 tries, TINE_FOREVER waits.
///
/// A thread-owned mutex belongs to the operating system's thread: a goroutine or coroutine must be pinned to its thread
/// (runtime.LockOSThread) from lock to unlock, or the mutex made TINE_PROCESS_OWNED.
///
/// Returns 0: taken. -EOWNERDEAD: taken from a holder that died; make the data whole and call tine_mutex_repair(), or
/// unlocking makes the mutex useless for good (-ENOTRECOVERABLE). Otherwise it was not taken: -EAGAIN (0 ns),
/// -ETIMEDOUT, -EINTR (TINE_INTERRUPTIBLE only), -EDEADLK: the caller holds it; -ENOTRECOVERABLE; -ENOLCK: the thread
/// holds TINE_MOST_HELD locks; -EXDEV: another PID namespace's, or its own not known; -EINVAL: NULL or misaligned; -ENOMEM at a
/// thread's first. -EDEADLK also by another mapping of the same memory; but TINE_PROCESS_OWNED, which another thread may
/// unlock, waits.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_mutex_lock(m: *mut tine_mutex, timeout_ns: i64) -> c_int {
    // SAFETY: `m` is NULL, misaligned, or a mutex that stays mapped meanwhile, as the text of tine_mutex asks.
    let mutex = unsafe { object::<Mutex, _>(m) };
    if mutex.is_some_and(Mutex::lock_free) {
        return 0;
    }
    slowly(move || mutex.ok_or(INVALID)?.lock(Timeout::from_ns(timeout_ns)).map(taken))
}

/// Releases the mutex, and wakes one waiter if there is any.
///
/// Returns 0; -EPERM: the caller does not hold it (nor did it before fork()); -EINVAL: NULL or misaligned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_mutex_unlock(m: *mut tine_mutex) -> c_int {
    // SAFETY: `m` is NULL, misaligned, or a mutex that stays mapped meanwhile, as the text of tine_mutex asks.
    let mutex = unsafe { object::<Mutex, _>(m) };
    if mutex.is_some_and(Mutex::unlock_newest) {
        return 0;
    }
    slowly(move || mutex.ok_or(INVALID)?.unlock().map(|()| 0))
}

/// Says that the data is whole again which a dead holder may have torn. For the holder that got -EOWNERDEAD.
///
/// Returns 0; -EPERM: the caller does not hold it; -EINVAL: there is nothing to repair, or NULL or misaligned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_mutex_repair(m: *mut tine_mutex) -> c_int {
    guard_code(|| {
        // SAFETY: `m` is NULL, misaligned, or a mutex that stays mapped meanwhile, as the text of tine_mutex asks.
        unsafe { object::<Mutex, _>(m) }.ok_or(INVALID)?.repair().map(|()| 0)
    })
}

/// For a mutex in a file, or a copy of one, that nobody has open any more: whoever held it there is not coming back,
/// though its number may be in use by now, after a restart or in another PID namespace. The next taker gets
/// -EOWNERDEAD if it was held, and whatever was to be repaired still is.
///
/// To be called once, by who opens such memory, before anybody else uses it; see tine_rwlock_reopen() and
/// tine_once_reopen() as well. Semaphores, conditions and barriers are made anew by their `init`; an event needs nothing.
///
/// Returns 0; -EINVAL: NULL or misaligned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_mutex_reopen(m: *mut tine_mutex) -> c_int {
    guard_code(|| {
        // SAFETY: `m` is NULL, misaligned, or a mutex that stays mapped meanwhile, as the text of tine_mutex asks.
        unsafe { object::<Mutex, _>(m) }.ok_or(INVALID)?.reopen();
        Ok(0)
    })
}

/// Says who holds the mutex, for messages: it may have changed hands when the call returns. `out->size` is set by
/// TINE_OWNER_INIT.
///
/// Returns 0; -EINVAL: NULL, misaligned, or a size that is none. Any thread of any process; nothing is changed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_mutex_owner(m: *const tine_mutex, out: *mut tine_owner) -> c_int {
    guard_code(|| {
        // SAFETY: `m` is NULL, misaligned, or a mutex that stays mapped meanwhile, as the text of tine_mutex asks.
        let owner = unsafe { object::<Mutex, _>(m) }.ok_or(INVALID)?.owner();
        let sync::Owner { pid, tid, start_time, dead_pid, dead_tid } = owner;
        let (pid, tid, dead_pid, dead_tid) = (pid as i32, tid as i32, dead_pid as i32, dead_tid as i32);
        let answer = tine_owner { size: 0, pid, tid, start_time, dead_pid, dead_tid };
        // SAFETY: `out` is NULL, or a struct that can be written as far as its `.size` says, as the header asks.
        unsafe { options::fill(out, &answer) }.map(|()| 0)
    })
}
