//! Semaphores, conditions, events.

use crate::ffi::guard::guard_code;
use crate::ffi::sync::{initialise, object, slowly, taken, tine_mutex};
use crate::sync::{Condition, Event, INVALID, Mutex, Semaphore};
use crate::sys::clock::Timeout;
use std::ffi::c_int;

/// Units that are taken and given back, by any thread of any process. All-zero memory has none, and no limit below
/// INT32_MAX. A unit that a dead process had taken is gone; a wake-up never is.
///
/// Whoever got a unit may free or unmap the semaphore, or make it anew, as soon as nobody else is to use it: the call that
/// gave the unit does not touch the memory any more, even if it has not returned yet.
#[repr(C)]
pub struct tine_semaphore {
    /// tine's.
    pub opaque: [u64; 8],
}

/// Waiting for something to become true that a mutex protects. All-zero memory is one that nobody waits for. A
/// notification whose receiver is killed goes to another waiter. Waits may end without a notification: test again.
#[repr(C)]
pub struct tine_condition {
    /// tine's.
    pub opaque: [u64; 8],
}

/// Something that has happened, or not yet. All-zero memory is one that has not, and stays set once it is.
///
/// Whoever was told that it is set may free or unmap the event, or make it anew, as soon as nobody else is to wait for it:
/// the call that set it does not touch the memory any more, even if it has not returned yet.
#[repr(C)]
pub struct tine_event {
    /// tine's.
    pub opaque: [u64; 8],
}

/// Gives `s` `value` free units out of at most `max`; a `max` of 0 is as many as fit. `flags`: TINE_INTERRUPTIBLE. Nobody
/// may use the memory meanwhile.
///
/// Returns 0; -EINVAL: `s` is NULL or not aligned to 8 bytes, `value` above `max`, `max` above INT32_MAX, unknown flags.
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

/// Takes one unit, waiting for up to `timeout_ns` nanoseconds; 0 tries, TINE_FOREVER waits.
///
/// Returns 0; -EAGAIN (0 ns), -ETIMEDOUT, -EINTR (TINE_INTERRUPTIBLE only); -EINVAL: NULL or misaligned; -ENOMEM.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_semaphore_acquire(s: *mut tine_semaphore, timeout_ns: i64) -> c_int {
    // SAFETY: `s` is NULL, misaligned, or a semaphore that stays mapped meanwhile, as the text of tine_mutex asks.
    let semaphore = unsafe { object::<Semaphore, _>(s) };
    if semaphore.is_some_and(Semaphore::take_free) {
        return 0;
    }
    slowly(move || semaphore.ok_or(INVALID)?.acquire(Timeout::from_ns(timeout_ns)).map(|()| 0))
}

/// Gives `n` units, all or none. Who gives them need not have taken them. May be called in signal handlers, whatever call
/// of tine's or the C library's they interrupt.
///
/// Returns 0; -EOVERFLOW: there would be more than `max`; -EINVAL: NULL or misaligned; -ENOMEM where somebody waits, at a
/// thread's first call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_semaphore_release(s: *mut tine_semaphore, n: u32) -> c_int {
    // SAFETY: `s` is NULL, misaligned, or a semaphore that stays mapped meanwhile, as the text of tine_mutex asks.
    let semaphore = unsafe { object::<Semaphore, _>(s) };
    if semaphore.is_some_and(|semaphore| semaphore.give_unnoticed(n)) {
        return 0;
    }
    slowly(move || semaphore.ok_or(INVALID)?.release(n).map(|()| 0))
}

/// The units that are free at this moment, or -EINVAL: NULL or misaligned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_semaphore_value(s: *const tine_semaphore) -> c_int {
    guard_code(|| {
        // SAFETY: `s` is NULL, misaligned, or a semaphore that stays mapped meanwhile, as the text of tine_mutex asks.
        Ok(unsafe { object::<Semaphore, _>(s) }.ok_or(INVALID)?.value() as c_int)
    })
}

/// Makes `c` a condition that nobody waits for. `flags`: TINE_INTERRUPTIBLE. Nobody may use the memory meanwhile.
///
/// Returns 0; -EINVAL: `c` is NULL or not aligned to 8 bytes, or unknown flags.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_condition_init(c: *mut tine_condition, flags: u32) -> c_int {
    guard_code(|| {
        // SAFETY: `c` is NULL, misaligned, or memory for a condition that nobody else uses meanwhile, as the text above asks.
        unsafe { initialise(c, || Condition::new(flags)) }
    })
}

/// Releases `m`, which the caller has locked once, waits for a notification for up to `timeout_ns` nanoseconds, and takes
/// `m` back, however long that takes. All waiters of a condition use the same mutex.
///
/// Returns, with `m` held: 0: notified, or for no reason; -EOWNERDEAD: `m` was taken back from a holder that died, which
/// is said rather than -ETIMEDOUT: repair the data and `m`, and notify all; -ETIMEDOUT; -EAGAIN (0 ns), without having
/// released `m`; -EINTR (a TINE_INTERRUPTIBLE condition). -ENOTRECOVERABLE: `m` is not held, and never will be. Nothing
/// was done: -EPERM: the caller does not hold `m`; -EINVAL: NULL, misaligned, or `m` is locked more than once; -ENOMEM.
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

/// Wakes `n` waiters, or as many as there are. What they wait for should be changed with their mutex held; the mutex may
/// be held here or not.
///
/// Returns 0; -EINVAL: NULL or misaligned; -ENOMEM at a thread's first call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_condition_notify(c: *mut tine_condition, n: u32) -> c_int {
    guard_code(|| {
        // SAFETY: `c` is NULL, misaligned, or a condition that stays mapped meanwhile, as the text of tine_mutex asks.
        unsafe { object::<Condition, _>(c) }.ok_or(INVALID)?.notify(n).map(|()| 0)
    })
}

/// Wakes all waiters. Returns as tine_condition_notify().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_condition_notify_all(c: *mut tine_condition) -> c_int {
    guard_code(|| {
        // SAFETY: `c` is NULL, misaligned, or a condition that stays mapped meanwhile, as the text of tine_mutex asks.
        unsafe { object::<Condition, _>(c) }.ok_or(INVALID)?.notify_all().map(|()| 0)
    })
}

/// Makes `e` an event that is not set. `flags`: TINE_AUTO_RESET, TINE_INTERRUPTIBLE. Nobody may use the memory meanwhile.
///
/// Returns 0; -EINVAL: `e` is NULL or not aligned to 8 bytes, or unknown flags.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_event_init(e: *mut tine_event, flags: u32) -> c_int {
    guard_code(|| {
        // SAFETY: `e` is NULL, misaligned, or memory for an event that nobody else uses meanwhile, as the text above asks.
        unsafe { initialise(e, || Event::new(flags)) }
    })
}

/// Sets the event and lets all waiters go, even if it is cleared before they run; with TINE_AUTO_RESET, one. May be called
/// in signal handlers.
///
/// Returns 0; -EINVAL: NULL or misaligned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_event_set(e: *mut tine_event) -> c_int {
    guard_code(|| {
        // SAFETY: `e` is NULL, misaligned, or an event that stays mapped meanwhile, as the text of tine_mutex asks.
        unsafe { object::<Event, _>(e) }.ok_or(INVALID)?.set();
        Ok(0)
    })
}

/// Clears the event. Returns 0; -EINVAL: NULL or misaligned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_event_clear(e: *mut tine_event) -> c_int {
    guard_code(|| {
        // SAFETY: `e` is NULL, misaligned, or an event that stays mapped meanwhile, as the text of tine_mutex asks.
        unsafe { object::<Event, _>(e) }.ok_or(INVALID)?.clear();
        Ok(0)
    })
}

/// 1 if the event is set at this moment, 0 if not; -EINVAL: NULL or misaligned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_event_is_set(e: *const tine_event) -> c_int {
    guard_code(|| {
        // SAFETY: `e` is NULL, misaligned, or an event that stays mapped meanwhile, as the text of tine_mutex asks.
        Ok(unsafe { object::<Event, _>(e) }.ok_or(INVALID)?.is_set().into())
    })
}

/// Waits until the event is set, for up to `timeout_ns` nanoseconds; 0 tries, TINE_FOREVER waits. With TINE_AUTO_RESET
/// one waiter clears it; if that one is killed before it has, another does.
///
/// Returns 0; -EAGAIN (0 ns), -ETIMEDOUT, -EINTR (TINE_INTERRUPTIBLE only); -EINVAL: NULL or misaligned; -ENOMEM.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_event_wait(e: *mut tine_event, timeout_ns: i64) -> c_int {
    guard_code(|| {
        // SAFETY: `e` is NULL, misaligned, or an event that stays mapped meanwhile, as the text of tine_mutex asks.
        unsafe { object::<Event, _>(e) }.ok_or(INVALID)?.wait(Timeout::from_ns(timeout_ns)).map(|()| 0)
    })
}

/// How often the event has been cleared, for tine_event_wait_after: a number below 2^30, after which it begins anew.
/// -EINVAL: NULL or misaligned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_event_cleared(e: *const tine_event) -> c_int {
    guard_code(|| {
        // SAFETY: `e` is NULL, misaligned, or an event that stays mapped meanwhile, as the text of tine_mutex asks.
        Ok(unsafe { object::<Event, _>(e) }.ok_or(INVALID)?.cleared() as c_int)
    })
}

/// Waits as tine_event_wait does, and returns 0 also where the event has been set and cleared again since
/// tine_event_cleared gave `cleared`. So a wait that is split into several calls misses no setting of the event. A
/// single tine_event_wait misses none either. With TINE_AUTO_RESET it is tine_event_wait.
///
/// Returns the codes of tine_event_wait.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_event_wait_after(e: *mut tine_event, cleared: c_int, timeout_ns: i64) -> c_int {
    guard_code(|| {
        // SAFETY: `e` is NULL, misaligned, or an event that stays mapped meanwhile, as the text of tine_mutex asks.
        let event = unsafe { object::<Event, _>(e) }.ok_or(INVALID)?;
        event.wait_after(cleared as u32, Timeout::from_ns(timeout_ns)).map(|()| 0)
    })
}
