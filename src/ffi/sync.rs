//! Mutexes, and what holds for all locks.

use crate::ffi::errors::TINE_INTERRUPTIBLE;
use crate::ffi::guard::guard_code;
use crate::ffi::options::{self, extensible};
use crate::sync::{self, Acquired, INVALID, Mutex, Outcome};
use crate::sys::clock::Timeout;
use std::ffi::c_int;

/// A mutex whose holder may lock it again. The holder then unlocks it as often.
pub const TINE_RECURSIVE: u32 = 1 << 1;

/// A mutex that a process holds, and not a thread. Any thread of the process may unlock it, and only the death of the
/// whole process counts as the death of the holder. A process that executes another program holds the mutex until it
/// ends. It is for runtimes that move work between threads. Another thread of the holder waits as any thread does.
pub const TINE_PROCESS_OWNED: u32 = 1 << 2;

/// A lock on data that a death cannot damage. The thread that takes the lock from a dead holder gets -EOWNERDEAD, and
/// need not repair the lock.
pub const TINE_AUTO_REPAIR: u32 = 1 << 3;

/// An event that clears itself when it releases a waiter.
pub const TINE_AUTO_RESET: u32 = 1 << 4;

/// A reader-writer lock whose readers do not wait for a waiting writer. Readers may starve writers.
pub const TINE_PREFER_READERS: u32 = 1 << 5;

/// How many locks a thread may hold at a time. Read locks count, and so do barriers that it waits at. One more is
/// -ENOLCK.
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

/// Mutual exclusion among threads and processes. What follows holds for all locks: mutexes, reader-writer locks,
/// semaphores, conditions, events, barriers and tine_once.
///
/// A lock is plain memory of the caller's, aligned to 8 bytes. It may lie in a heap, in any MAP_SHARED memory, which
/// each process may map at another address, or in private memory for the threads of one process. All-zero memory is a
/// free lock without flags: a semaphore without units, an event that is not set. Only a barrier has to be
/// initialised. A lock owns no memory besides its own, and nothing has to be destroyed. A thread's first call on a
/// lock may allocate a record for the thread, and returns -ENOMEM where that fails. The content is tine's.
///
/// The memory must stay mapped while a call on the lock runs, and while the lock is held. A lock is released through
/// the address by which it was taken. A thread that has unlocked a mutex may free, unmap or reuse the memory at once
/// if no other thread will ask for the mutex. The unlocking call of the holder before may still be running then, and
/// no longer touches the mutex.
///
/// A thread or process that holds a lock may end, be killed at any instruction, or execute another program. Then the
/// next thread that takes a mutex, or a reader-writer lock after a writer, gets -EOWNERDEAD. After another program
/// was executed this does not hold for a mutex that is TINE_PROCESS_OWNED. A reader that died is gone without a
/// trace. A barrier at which a waiting thread died is broken: TINE_EBROKEN. A tine_once is done anew by the next
/// thread. Semaphores, conditions and events have no holder: a thread that dies while it waits there leaves nothing
/// behind, but the units that it has taken from a semaphore stay taken. A child of fork() holds no locks.
///
/// As a rule the kernel reports at once that a holder has ended. It cannot do so where the thread's robust list is
/// damaged, replaced, too long, or refused by a sandbox, on kernels before 6.2, and with TINE_FORCE_NO=robust in the
/// environment. There, a waiting thread finds out within 50 ms by looking, and a thread that only tries, or whose
/// time is up, looks before it gives up. The look knows a holder by its thread number, and from Linux 6.9 on or with
/// /proc by what tells it from a later thread of that number. Where the look has been refused both, the end is seen
/// only once the number is free.
///
/// Only threads of one PID namespace may share a lock. Mutexes, reader-writer locks, barriers, and a tine_once that is
/// not done refuse others with -EXDEV. They refuse a process that cannot find out its PID namespace, too: without
/// /proc, before Linux 6.11. Semaphores, conditions and events do not look.
///
/// A signal handler may call tine_semaphore_release and tine_event_set, and no other call on a lock. Asynchronous
/// cancelling (pthread_setcanceltype) must be off.
#[repr(C)]
pub struct tine_mutex {
    /// tine's.
    pub opaque: [u64; 8],
}

/// The thread that holds a mutex, or that died holding it: see tine_mutex_owner.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct tine_owner {
    /// sizeof(tine_owner).
    pub size: usize,
    /// The process of the holder; 0: no thread holds the mutex.
    pub pid: i32,
    /// The thread of the holder; for TINE_PROCESS_OWNED, the thread that took the mutex.
    pub tid: i32,
    /// When the thread, or for TINE_PROCESS_OWNED the process, started: field 22 of /proc/PID/stat. 0: not known.
    pub start_time: u64,
    /// The process that died holding the mutex, until the mutex is repaired or unlocked. 0: no process did, or one
    /// died after it had taken the mutex and before it had written down its number.
    pub dead_pid: i32,
    /// The thread of .dead_pid that held the mutex.
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

/// Makes memory a free mutex.
///
/// Without TINE_RECURSIVE a holder that locks again gets -EDEADLK.
///
/// Parameters: m: memory that no other thread uses meanwhile. flags: TINE_RECURSIVE or TINE_PROCESS_OWNED,
/// TINE_INTERRUPTIBLE, TINE_AUTO_REPAIR.
/// Returns 0; -EINVAL: m is NULL or not aligned to 8 bytes, a flag is unknown, or two flags exclude each other.
/// Threads: any, one at a time. Fork: a child may call it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_mutex_init(m: *mut tine_mutex, flags: u32) -> c_int {
    guard_code(|| {
        // SAFETY: the memory stays mapped while the mutex is held, as the text of tine_mutex asks.
        let make = || unsafe { Mutex::new(flags) };
        // SAFETY: `m` is NULL, misaligned, or memory for a mutex that nobody else uses meanwhile, as the text above asks.
        unsafe { initialise(m, make) }
    })
}

/// Takes a mutex, and waits while another thread has it.
///
/// After -EOWNERDEAD repair the data and call tine_mutex_repair(), unless the mutex is TINE_AUTO_REPAIR. Unlocking
/// without that makes the mutex useless for good: -ENOTRECOVERABLE.
///
/// A mutex that is not TINE_PROCESS_OWNED belongs to the operating system's thread. A goroutine or coroutine must stay
/// on its thread (runtime.LockOSThread) from lock to unlock, or the mutex must be TINE_PROCESS_OWNED. Any thread of
/// the process may unlock such a mutex, so a thread that locks it twice waits, and does not get -EDEADLK.
///
/// Parameters: m. timeout_ns: how long to wait, in nanoseconds; 0: not at all.
/// Returns 0: the mutex is taken; -EOWNERDEAD: the mutex is taken, and its last holder has died. With any other code
/// the mutex is not taken: -EAGAIN (timeout 0), -ETIMEDOUT; -EINTR: a signal came, with TINE_INTERRUPTIBLE; -EDEADLK:
/// the caller holds the mutex, perhaps by another mapping of its memory; -ENOTRECOVERABLE: the mutex is useless;
/// -ENOLCK: the thread holds TINE_MOST_HELD locks; -EXDEV: the mutex is another PID namespace's, or the caller's own
/// namespace is not known; -EINVAL: m is NULL or misaligned; -ENOMEM: there is no memory at a thread's first call.
/// Threads: any; not in a signal handler. Fork: a child may call it, and holds nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_mutex_lock(m: *mut tine_mutex, timeout_ns: i64) -> c_int {
    // SAFETY: `m` is NULL, misaligned, or a mutex that stays mapped meanwhile, as the text of tine_mutex asks.
    let mutex = unsafe { object::<Mutex, _>(m) };
    if mutex.is_some_and(Mutex::lock_free) {
        return 0;
    }
    slowly(move || mutex.ok_or(INVALID)?.lock(Timeout::from_ns(timeout_ns)).map(taken))
}

/// Releases a mutex, and wakes one waiter if there is any.
///
/// Parameters: m.
/// Returns 0; -EPERM: the caller does not hold the mutex; a child does not hold what it held before fork(); -EINVAL:
/// m is NULL or misaligned.
/// Threads: the holder; with TINE_PROCESS_OWNED, any of its process. Fork: -EPERM in a child.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_mutex_unlock(m: *mut tine_mutex) -> c_int {
    // SAFETY: `m` is NULL, misaligned, or a mutex that stays mapped meanwhile, as the text of tine_mutex asks.
    let mutex = unsafe { object::<Mutex, _>(m) };
    if mutex.is_some_and(Mutex::unlock_newest) {
        return 0;
    }
    slowly(move || mutex.ok_or(INVALID)?.unlock().map(|()| 0))
}

/// Says that the data which a dead holder may have damaged is consistent again.
///
/// Parameters: m: a mutex of which the caller has got -EOWNERDEAD.
/// Returns 0; -EPERM: the caller does not hold the mutex; -EINVAL: there is nothing to repair, or m is NULL or
/// misaligned.
/// Threads: the holder. Fork: -EPERM in a child.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_mutex_repair(m: *mut tine_mutex) -> c_int {
    guard_code(|| {
        // SAFETY: `m` is NULL, misaligned, or a mutex that stays mapped meanwhile, as the text of tine_mutex asks.
        unsafe { object::<Mutex, _>(m) }.ok_or(INVALID)?.repair().map(|()| 0)
    })
}

/// Takes over a mutex in a file, or in a copy of one, that no process has open any more. A holder there will not come
/// back, though its number may be in use again, after a restart or in another PID namespace. If the mutex was held,
/// the next thread that takes it gets -EOWNERDEAD. If it was to be repaired, it still is.
///
/// The process that opens such memory calls it once, before anything else uses the memory. tine_rwlock_reopen() and
/// tine_once_reopen() are there as well. Semaphores, conditions and barriers are made anew by their init, and an
/// event needs nothing.
///
/// Parameters: m.
/// Returns 0; -EINVAL: m is NULL or misaligned.
/// Threads: any, one at a time. Fork: a child may call it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_mutex_reopen(m: *mut tine_mutex) -> c_int {
    guard_code(|| {
        // SAFETY: `m` is NULL, misaligned, or a mutex that stays mapped meanwhile, as the text of tine_mutex asks.
        unsafe { object::<Mutex, _>(m) }.ok_or(INVALID)?.reopen();
        Ok(0)
    })
}

/// Tells the holder of a mutex, for messages. The mutex may have changed hands when the call returns, and the call
/// changes nothing.
///
/// Parameters: m. out: a tine_owner with its .size set.
/// Returns 0; -EINVAL: m or out is NULL, m is misaligned, or the .size is less than 16.
/// Threads: any. Fork: a child may call it.
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
