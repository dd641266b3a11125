//! Reader-writer locks.

use crate::ffi::guard::guard_code;
use crate::ffi::sync::{initialise, object, slowly, taken};
use crate::sync::{INVALID, RwLock};
use crate::sys::clock::Timeout;
use std::ffi::c_int;

/// How many threads have a place of their own for reading at a time. Further threads share places by process.
pub const TINE_RWLOCK_READERS: u32 = 15;

const _: () = assert!(TINE_RWLOCK_READERS as usize == crate::sync::rwlock::READERS);

/// Many readers or one writer, among threads and processes. What holds for all locks (tine_mutex) holds here.
///
/// A dead reader is forgotten. The death of a writer is reported to the readers that come before the next writer, and
/// to that writer, who repairs the lock or loses it. A writer that dies while it waits is forgotten, because it was
/// never inside.
///
/// A thread has one place, however often it reads. Threads beyond TINE_RWLOCK_READERS are counted by process, up to
/// 1,023 reads in each of 60 processes. The reads of such a process end with the process, and not with the thread.
/// Still more threads wait.
///
/// The last thread that has the lock for writing may free, unmap or reuse its memory once its unlock has returned.
#[repr(C)]
pub struct tine_rwlock {
    /// tine's.
    pub opaque: [u64; 128],
}

/// Makes memory a free reader-writer lock.
///
/// Without TINE_PREFER_READERS a waiting writer lets no new readers in; a thread that reads already may read again.
/// With TINE_PREFER_READERS readers wait only for a writer that holds the lock.
///
/// Parameters: l: memory that no other thread uses meanwhile. flags: TINE_PREFER_READERS, TINE_INTERRUPTIBLE,
/// TINE_AUTO_REPAIR.
/// Returns 0; -EINVAL: l is NULL or not aligned to 8 bytes, or a flag is unknown.
/// Threads: any, one at a time. Fork: a child may call it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_rwlock_init(l: *mut tine_rwlock, flags: u32) -> c_int {
    guard_code(|| {
        // SAFETY: the memory stays mapped while the lock is held, as the text of tine_mutex asks.
        let make = || unsafe { RwLock::new(flags) };
        // SAFETY: `l` is NULL, misaligned, or memory for a lock that nobody else uses meanwhile, as the text above asks.
        unsafe { initialise(l, make) }
    })
}

/// Takes the lock for reading, and waits while a writer has it. A thread may read-lock again what it has read-locked;
/// it then unlocks as often.
///
/// Parameters: l. timeout_ns: how long to wait, in nanoseconds; 0: not at all.
/// Returns 0: the lock is taken; -EOWNERDEAD: the lock is taken, but a writer has died, and no writer has repaired
/// the data since. With any other code the lock is not taken: -EAGAIN (timeout 0), -ETIMEDOUT, -EINTR; -EDEADLK: the
/// caller holds it for writing; -ENOTRECOVERABLE, -ENOLCK, -EXDEV, -EINVAL, -ENOMEM: as for tine_mutex_lock().
/// Threads: any; not in a signal handler. Fork: a child may call it, and holds nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_rwlock_read_lock(l: *mut tine_rwlock, timeout_ns: i64) -> c_int {
    // SAFETY: `l` is NULL, misaligned, or a lock that stays mapped meanwhile, as the text of tine_mutex asks.
    let lock = unsafe { object::<RwLock, _>(l) };
    if lock.is_some_and(RwLock::read_free) {
        return 0;
    }
    slowly(move || lock.ok_or(INVALID)?.read_lock(Timeout::from_ns(timeout_ns)).map(taken))
}

/// Takes the lock for writing, and waits while other threads have it.
///
/// After -EOWNERDEAD repair the data and call tine_rwlock_repair(), unless the lock is TINE_AUTO_REPAIR. Unlocking
/// without that makes the lock useless for good: -ENOTRECOVERABLE.
///
/// Parameters: l. timeout_ns: how long to wait, in nanoseconds; 0: not at all.
/// Returns 0: the lock is taken; -EOWNERDEAD: the lock is taken, but a writer has died. With any other code the lock
/// is not taken: -EAGAIN (timeout 0), -ETIMEDOUT, -EINTR; -EDEADLK: the caller holds it, for reading or writing;
/// -ENOTRECOVERABLE, -ENOLCK, -EXDEV, -EINVAL, -ENOMEM: as for tine_mutex_lock().
/// Threads: any; not in a signal handler. Fork: a child may call it, and holds nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_rwlock_write_lock(l: *mut tine_rwlock, timeout_ns: i64) -> c_int {
    guard_code(|| {
        // SAFETY: `l` is NULL, misaligned, or a lock that stays mapped meanwhile, as the text of tine_mutex asks.
        let lock = unsafe { object::<RwLock, _>(l) }.ok_or(INVALID)?;
        lock.write_lock(Timeout::from_ns(timeout_ns)).map(taken)
    })
}

/// Releases what the calling thread holds: the write lock, or one of its read locks.
///
/// Parameters: l.
/// Returns 0; -EPERM: the thread holds neither; -EINVAL: l is NULL or misaligned.
/// Threads: the holder. Fork: -EPERM in a child.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_rwlock_unlock(l: *mut tine_rwlock) -> c_int {
    // SAFETY: `l` is NULL, misaligned, or a lock that stays mapped meanwhile, as the text of tine_mutex asks.
    let lock = unsafe { object::<RwLock, _>(l) };
    if lock.is_some_and(RwLock::read_unlock_newest) {
        return 0;
    }
    slowly(move || lock.ok_or(INVALID)?.unlock().map(|()| 0))
}

/// Says that the data which a dead writer may have damaged is consistent again.
///
/// Parameters: l: a lock of which the caller has got -EOWNERDEAD for writing.
/// Returns 0; -EPERM: the caller does not hold it for writing; -EINVAL: there is nothing to repair, or l is NULL or
/// misaligned.
/// Threads: the holder. Fork: -EPERM in a child.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_rwlock_repair(l: *mut tine_rwlock) -> c_int {
    guard_code(|| {
        // SAFETY: `l` is NULL, misaligned, or a lock that stays mapped meanwhile, as the text of tine_mutex asks.
        unsafe { object::<RwLock, _>(l) }.ok_or(INVALID)?.repair().map(|()| 0)
    })
}

/// Takes over a lock in memory that has outlived its processes, as tine_mutex_reopen() does: no thread reads any
/// more, and a writer there counts as dead.
///
/// Parameters: l.
/// Returns 0; -EINVAL: l is NULL or misaligned.
/// Threads: any, one at a time. Fork: a child may call it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_rwlock_reopen(l: *mut tine_rwlock) -> c_int {
    guard_code(|| {
        // SAFETY: `l` is NULL, misaligned, or a lock that stays mapped meanwhile, as the text of tine_mutex asks.
        unsafe { object::<RwLock, _>(l) }.ok_or(INVALID)?.reopen();
        Ok(0)
    })
}
