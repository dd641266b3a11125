//! Semaphores, conditions, events.

use crate::ffi::guard::guard_code;
use crate::ffi::sync::{initialise, object, slowly, taken, tine_mutex};
use crate::sync::{Condition, Event, INVALID, Mutex, Semaphore};
use crate::sys::clock::Timeout;
use std::ffi::c_int;

/// Units that any thread of any process takes and gives back. All-zero memory has no units, and its limit is
/// INT32_MAX. A unit that a dead process had taken is gone. A wake-up is never lost.
///
/// A thread that has got a unit may free, unmap or reuse the memory as soon as no other thread will use the
/// semaphore. The call that gave the unit may still be running then, and no longer touches the memory.
#[repr(C)]
pub struct tine_semaphore {
    /// tine's.
    pub opaque: [u64; 8],
}

/// Waits for something that a mutex protects to become true. All-zero memory is a condition that nobody waits for. A
/// notification whose receiver is killed goes to another waiter. A wait may end without a notification, so test
/// again.
#[repr(C)]
pub struct tine_condition {
    /// tine's.
    pub opaque: [u64; 8],
}

/// Something that has happened, or that has not happened yet. All-zero memory is an event that is not set, and that
/// stays set once it is.
///
/// A thread that was told that the event is set may free, unmap or reuse the memory as soon as no other thread will
/// use it: wait for it, set it or clear it. The call that has set the event may still be running then, and no longer
/// touches the memory.
#[repr(C)]
pub struct tine_event {
    /// tine's.
    pub opaque: [u64; 8],
}

/// Makes memory a semaphore.
///
/// Parameters: s: memory that no other thread uses meanwhile. value: how many units are free. max: the most units
/// that may be free; 0: INT32_MAX. flags: TINE_INTERRUPTIBLE.
/// Returns 0; -EINVAL: s is NULL or not aligned to 8 bytes, value is above max, max is above INT32_MAX, or a flag is
/// unknown.
/// Threads: any, one at a time. Fork: a child may call it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_semaphore_init(
    s: *mut tine_semaphore,
    value: u32,
    max: u32,
    flags: u32,
) -> c_int {
    guard_code(|| {
        // SAFETY: `s` is NULL, misaligned, or memory for a semaphore that nobody else uses meanwhile, as the text above asks.
        unsafe { initialise(s, || Semaphore::new(value, max, flags)) }
    })
}

/// Takes one unit, and waits while none is free.
///
/// Parameters: s. timeout_ns: how long to wait, in nanoseconds; 0: not at all.
/// Returns 0; -EAGAIN (timeout 0), -ETIMEDOUT; -EINTR: a signal came, with TINE_INTERRUPTIBLE; -EINVAL: s is NULL or
/// misaligned; -ENOMEM: there is no memory at a thread's first call.
/// Threads: any; not in a signal handler. Fork: a child may call it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_semaphore_acquire(s: *mut tine_semaphore, timeout_ns: i64) -> c_int {
    // SAFETY: `s` is NULL, misaligned, or a semaphore that stays mapped meanwhile, as the text of tine_mutex asks.
    let semaphore = unsafe { object::<Semaphore, _>(s) };
    if semaphore.is_some_and(Semaphore::take_free) {
        return 0;
    }
    slowly(move || semaphore.ok_or(INVALID)?.acquire(Timeout::from_ns(timeout_ns)).map(|()| 0))
}

/// Gives units: all n of them, or none. The thread that gives them need not have taken them.
///
/// Parameters: s. n: how many units.
/// Returns 0; -EOVERFLOW: there would be more than max; -EINVAL: s is NULL or misaligned; -ENOMEM: a thread waits,
/// and there is no memory at the caller's first call.
/// Threads: any; may be called in a signal handler, whatever call of tine's or of the C library's the handler
/// interrupts. Fork: a child may call it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_semaphore_release(s: *mut tine_semaphore, n: u32) -> c_int {
    // SAFETY: `s` is NULL, misaligned, or a semaphore that stays mapped meanwhile, as the text of tine_mutex asks.
    let semaphore = unsafe { object::<Semaphore, _>(s) };
    if semaphore.is_some_and(|semaphore| semaphore.give_unnoticed(n)) {
        return 0;
    }
    slowly(move || semaphore.ok_or(INVALID)?.release(n).map(|()| 0))
}

/// Counts the units that are free at this moment.
///
/// Parameters: s.
/// Returns how many units are free; -EINVAL: s is NULL or misaligned.
/// Threads: any. Fork: a child may call it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_semaphore_value(s: *const tine_semaphore) -> c_int {
    guard_code(|| {
        // SAFETY: `s` is NULL, misaligned, or a semaphore that stays mapped meanwhile, as the text of tine_mutex asks.
        Ok(unsafe { object::<Semaphore, _>(s) }.ok_or(INVALID)?.value() as c_int)
    })
}

/// Makes memory a condition that nobody waits for.
///
/// Parameters: c: memory that no other thread uses meanwhile. flags: TINE_INTERRUPTIBLE.
/// Returns 0; -EINVAL: c is NULL or not aligned to 8 bytes, or a flag is unknown.
/// Threads: any, one at a time. Fork: a child may call it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_condition_init(c: *mut tine_condition, flags: u32) -> c_int {
    guard_code(|| {
        // SAFETY: `c` is NULL, misaligned, or memory for a condition that nobody else uses meanwhile, as the text above asks.
        unsafe { initialise(c, || Condition::new(flags)) }
    })
}

/// Releases a mutex, waits for a notification, and takes the mutex back, however long that takes. All waiters of a
/// condition use one mutex.
///
/// -EOWNERDEAD takes precedence over -ETIMEDOUT and -EINTR. After it repair the data and m, and notify all waiters.
///
/// Parameters: c. m: a mutex that the caller has locked once. timeout_ns: how long to wait for the notification, in
/// nanoseconds; 0: not at all.
/// Returns, with m held, 0: notified, or woken for no reason; -EOWNERDEAD: m has been taken back from a holder that
/// died; -ETIMEDOUT: no notification came; -EAGAIN (timeout 0): m has not been released; -EINTR: a signal came, with a
/// TINE_INTERRUPTIBLE condition. Without m it returns -ENOTRECOVERABLE: m is useless for good. Nothing has been done
/// with -EPERM: the caller does not hold m; -EINVAL: an argument is NULL or misaligned, or m is locked more than once;
/// -ENOMEM: there is no memory.
/// Threads: the holder of m; not in a signal handler. Fork: -EPERM in a child that has not locked m itself.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_condition_wait(
    c: *mut tine_condition,
    m: *mut tine_mutex,
    timeout_ns: i64,
) -> c_int {
    guard_code(|| {
        // SAFETY: `c` is NULL, misaligned, or a condition that stays mapped meanwhile, as the text of tine_mutex asks.
        let condition = unsafe { object::<Condition, _>(c) }.ok_or(INVALID)?;
        // SAFETY: `m` is NULL, misaligned, or a mutex that stays mapped meanwhile, as the text of tine_mutex asks.
        let mutex = unsafe { object::<Mutex, _>(m) }.ok_or(INVALID)?;
        condition.wait(mutex, Timeout::from_ns(timeout_ns)).map(taken)
    })
}

/// Wakes up to n waiters. What they wait for should be changed with their mutex held. The caller may hold the mutex
/// during this call, or not.
///
/// Parameters: c. n: how many waiters at most.
/// Returns 0; -EINVAL: c is NULL or misaligned; -ENOMEM: there is no memory at a thread's first call.
/// Threads: any; not in a signal handler. Fork: a child may call it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_condition_notify(c: *mut tine_condition, n: u32) -> c_int {
    guard_code(|| {
        // SAFETY: `c` is NULL, misaligned, or a condition that stays mapped meanwhile, as the text of tine_mutex asks.
        unsafe { object::<Condition, _>(c) }.ok_or(INVALID)?.notify(n).map(|()| 0)
    })
}

/// Wakes all waiters.
///
/// Parameters: c.
/// Returns 0; -EINVAL: c is NULL or misaligned; -ENOMEM: there is no memory at a thread's first call.
/// Threads: any; not in a signal handler. Fork: a child may call it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_condition_notify_all(c: *mut tine_condition) -> c_int {
    guard_code(|| {
        // SAFETY: `c` is NULL, misaligned, or a condition that stays mapped meanwhile, as the text of tine_mutex asks.
        unsafe { object::<Condition, _>(c) }.ok_or(INVALID)?.notify_all().map(|()| 0)
    })
}

/// Makes memory an event that is not set.
///
/// Parameters: e: memory that no other thread uses meanwhile. flags: TINE_AUTO_RESET, TINE_INTERRUPTIBLE.
/// Returns 0; -EINVAL: e is NULL or not aligned to 8 bytes, or a flag is unknown.
/// Threads: any, one at a time. Fork: a child may call it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_event_init(e: *mut tine_event, flags: u32) -> c_int {
    guard_code(|| {
        // SAFETY: `e` is NULL, misaligned, or memory for an event that nobody else uses meanwhile, as the text above asks.
        unsafe { initialise(e, || Event::new(flags)) }
    })
}

/// Sets the event and releases all waiters, even where it is cleared before they run. With TINE_AUTO_RESET it
/// releases one waiter.
///
/// Parameters: e.
/// Returns 0; -EINVAL: e is NULL or misaligned.
/// Threads: any; may be called in a signal handler. Fork: a child may call it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_event_set(e: *mut tine_event) -> c_int {
    guard_code(|| {
        // SAFETY: `e` is NULL, misaligned, or an event that stays mapped meanwhile, as the text of tine_mutex asks.
        unsafe { object::<Event, _>(e) }.ok_or(INVALID)?.set();
        Ok(0)
    })
}

/// Clears the event.
///
/// Parameters: e.
/// Returns 0; -EINVAL: e is NULL or misaligned.
/// Threads: any. Fork: a child may call it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_event_clear(e: *mut tine_event) -> c_int {
    guard_code(|| {
        // SAFETY: `e` is NULL, misaligned, or an event that stays mapped meanwhile, as the text of tine_mutex asks.
        unsafe { object::<Event, _>(e) }.ok_or(INVALID)?.clear();
        Ok(0)
    })
}

/// Tells the state of the event at this moment.
///
/// Parameters: e.
/// Returns 1: it is set; 0: it is not; -EINVAL: e is NULL or misaligned.
/// Threads: any. Fork: a child may call it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_event_is_set(e: *const tine_event) -> c_int {
    guard_code(|| {
        // SAFETY: `e` is NULL, misaligned, or an event that stays mapped meanwhile, as the text of tine_mutex asks.
        Ok(unsafe { object::<Event, _>(e) }.ok_or(INVALID)?.is_set().into())
    })
}

/// Waits until the event is set. With TINE_AUTO_RESET one waiter clears it; if that waiter is killed before it has
/// cleared the event, another one does.
///
/// Parameters: e. timeout_ns: how long to wait, in nanoseconds; 0: not at all.
/// Returns 0: the event is set; -EAGAIN (timeout 0), -ETIMEDOUT; -EINTR: a signal came, with TINE_INTERRUPTIBLE;
/// -EINVAL: e is NULL or misaligned; -ENOMEM: there is no memory at a thread's first call.
/// Threads: any; not in a signal handler. Fork: a child may call it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_event_wait(e: *mut tine_event, timeout_ns: i64) -> c_int {
    guard_code(|| {
        // SAFETY: `e` is NULL, misaligned, or an event that stays mapped meanwhile, as the text of tine_mutex asks.
        unsafe { object::<Event, _>(e) }.ok_or(INVALID)?.wait(Timeout::from_ns(timeout_ns)).map(|()| 0)
    })
}

/// Counts how often the event has been cleared, for tine_event_wait_after.
///
/// Parameters: e.
/// Returns a number below 2^30, after which it begins at 0 again; -EINVAL: e is NULL or misaligned.
/// Threads: any. Fork: a child may call it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_event_cleared(e: *const tine_event) -> c_int {
    guard_code(|| {
        // SAFETY: `e` is NULL, misaligned, or an event that stays mapped meanwhile, as the text of tine_mutex asks.
        Ok(unsafe { object::<Event, _>(e) }.ok_or(INVALID)?.cleared() as c_int)
    })
}

/// Waits as tine_event_wait does, and also ends where the event has been set and cleared again since
/// tine_event_cleared returned cleared. So a wait that is split into several calls misses no setting of the event. A
/// single tine_event_wait misses none either. With TINE_AUTO_RESET it is tine_event_wait.
///
/// Parameters: e. cleared: what tine_event_cleared has returned. timeout_ns: how long to wait, in nanoseconds; 0: not
/// at all.
/// Returns the codes of tine_event_wait; -EINVAL also where cleared is no number below 2^30, as an error of
/// tine_event_cleared is none.
/// Threads: any; not in a signal handler. Fork: a child may call it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_event_wait_after(e: *mut tine_event, cleared: c_int, timeout_ns: i64) -> c_int {
    guard_code(|| {
        // SAFETY: `e` is NULL, misaligned, or an event that stays mapped meanwhile, as the text of tine_mutex asks.
        let event = unsafe { object::<Event, _>(e) }.ok_or(INVALID)?;
        let cleared = u32::try_from(cleared).ok().filter(|number| *number < 1 << 30).ok_or(INVALID)?;
        event.wait_after(cleared, Timeout::from_ns(timeout_ns)).map(|()| 0)
    })
}
