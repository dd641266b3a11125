//! Reader-writer locks.

use crate::ffi::guard::guard_code;
use crate::ffi::sync::{initialise, object, slowly, taken};
use crate::sync::{INVALID, RwLock};
use crate::sys::clock::Timeout;
use std::ffi::c_int;

/// How many threads have a place of their own for reading at a time; more share places by process.
pub const TINE_RWLOCK_READERS: u32 = 15;

const _: () = assert!(TINE_RWLOCK_READERS as usize == crate::sync::rwlock::READERS);

/// Many readers or one writer, among threads and processes. What holds for tine_mutex holds here.
///
/// A dead reader is forgotten. A dead writer is reported to the next writer, who repairs or loses the lock, and to the
/// readers before that. A writer that dies while it waits was never inside, and is forgotten.
///
/// A thread has one place, however often it reads. Threads beyond TINE_RWLOCK_READERS are counted by process, up to 1,023 reads
/// in each of 60 processes, and still more wait: such a process's reads end with the
/// process, not with the thread.
///
/// The last to have the lock for writing may free or unmap it, or make it anew, once its unlock has returned.
#[repr(C)]
pub struct tine_rwlock {
    /// tine's.
    pub opaque: [u64; 128],
}

/// Makes `l` a free lock. `flags`: TINE_PREFER_READERS, TINE_INTERRUPTIBLE, TINE_AUTO_REPAIR. Without the first, a
/// writer that waits lets no new readers in, but for threads that read already; with it, readers wait for nobody but a writer
/// that is inside. Nobody may use the memory meanwhile.
///
/// Returns 0; -EINVAL: `l` is NULL or not aligned to 8 bytes, or unknown flags.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_rwlock_init(l: *mut tine_rwlock, flags: u32) -> c_int {
    guard_code(|| {
        // SAFETY: `l` is NULL, misaligned, or memory for a lock that nobody else uses meanwhile, as the text above asks.
        unsafe { initialise(l, || RwLock::new(flags)) }
    })
}

/// Takes the lock for reading, waiting for up to `timeout_ns` nanoseconds; 0 tries, TINE_FOREVER waits. A thread may
/// read-lock again what it has read-locked, and unlocks as often.
///
/// Returns 0: taken. -EOWNERDEAD: taken, but a writer died and no writer has repaired the data since. Otherwise not taken:
/// -EAGAIN (0 ns), -ETIMEDOUT, -EINTR, -EDEADLK: the caller holds it for writing; -ENOTRECOVERABLE, -ENOLCK, -EXDEV,
/// -EINVAL, -ENOMEM as for tine_mutex_lock().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_rwlock_read_lock(l: *mut tine_rwlock, timeout_ns: i64) -> c_int {
    // SAFETY: `l` is NULL, misaligned, or a lock that stays mapped meanwhile, as the text of tine_mutex asks.
    let lock = unsafe { object::<RwLock, _>(l) };
    if lock.is_some_and(RwLock::read_free) {
        return 0;
    }
    slowly(move || lock.ok_or(INVALID)?.read_lock(Timeout::from_ns(timeout_ns)).map(taken))
}

/// Takes the lock for writing, waiting for up to `timeout_ns` nanoseconds; 0 tries, TINE_FOREVER waits.
///
/// Returns 0: taken. -EOWNERDEAD: taken, but a writer died: make the data whole and call tine_rwlock_repair(), or
/// unlocking makes the lock useless for good (-ENOTRECOVERABLE). Otherwise not taken: -EAGAIN (0 ns), -ETIMEDOUT, -EINTR,
/// -EDEADLK: the caller holds it, for reading or writing; -ENOTRECOVERABLE, -ENOLCK, -EXDEV, -EINVAL, -ENOMEM as for
/// tine_mutex_lock().
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
/// Returns 0; -EPERM: the thread holds neither; -EINVAL: NULL or misaligned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_rwlock_unlock(l: *mut tine_rwlock) -> c_int {
    // SAFETY: `l` is NULL, misaligned, or a lock that stays mapped meanwhile, as the text of tine_mutex asks.
    let lock = unsafe { object::<RwLock, _>(l) };
    if lock.is_some_and(RwLock::read_unlock_newest) {
        return 0;
    }
    slowly(move || lock.ok_or(INVALID)?.unlock().map(|()| 0))
}

/// Says that the data is whole again which a dead writer may have torn. For a writer that got -EOWNERDEAD.
///
/// Returns 0; -EPERM: the caller does not hold it for writing; -EINVAL: there is nothing to repair, NULL, misaligned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_rwlock_repair(l: *mut tine_rwlock) -> c_int {
    guard_code(|| {
        // SAFETY: `l` is NULL, misaligned, or a lock that stays mapped meanwhile, as the text of tine_mutex asks.
        unsafe { object::<RwLock, _>(l) }.ok_or(INVALID)?.repair().map(|()| 0)
    })
}

/// For memory that outlived its processes, as tine_mutex_reopen(): nobody reads any more, and a writer there has died.
///
/// Returns 0; -EINVAL: NULL or misaligned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_rwlock_reopen(l: *mut tine_rwlock) -> c_int {
    guard_code(|| {
        // SAFETY: `l` is NULL, misaligned, or a lock that stays mapped meanwhile, as the text of tine_mutex asks.
        unsafe { object::<RwLock, _>(l) }.ok_or(INVALID)?.reopen();
        Ok(0)
    })
}
