//! Barriers, and what is done once.

use crate::error::Code;
use crate::ffi::guard::guard_code;
use crate::ffi::sync::{initialise, object};
use crate::sync::{Barrier, INVALID, Once};
use crate::sys::clock::Timeout;
use std::ffi::{c_int, c_void};

/// The barrier is broken.
pub const TINE_EBROKEN: c_int = -5015;
const _: () =
    assert!(TINE_EBROKEN == Code::BROKEN.0 && TINE_BARRIER_PARTIES == crate::sync::barrier::MOST_PARTIES);

/// The most parties that a barrier can have.
pub const TINE_BARRIER_PARTIES: u32 = 128;

/// A meeting of a fixed number of threads, of any processes, again and again. What holds for tine_mutex holds here, but
/// all-zero memory is no barrier: tine_barrier_init() says how many parties it is for.
///
/// A party that dies while it waits breaks the barrier: everybody gets TINE_EBROKEN until tine_barrier_reset(). One that
/// never comes is found by the timeout.
///
/// Whoever gets 1 may free, unmap or make anew the barrier at once: it was the last to leave, and no other party's call
/// looks at the memory any more. The others may not, unless they know by other means that all calls have returned.
#[repr(C)]
pub struct tine_barrier {
    /// tine's.
    pub opaque: [u64; 648],
}

/// Something that is done once, by whichever process comes first. All-zero memory is one that has not been done; what
/// holds for tine_mutex holds here.
#[repr(C)]
pub struct tine_once {
    /// tine's.
    pub opaque: [u64; 8],
}

/// Makes `b` a barrier for so many parties, from 1 to TINE_BARRIER_PARTIES. `flags`: TINE_INTERRUPTIBLE. Nobody may use
/// the memory meanwhile.
///
/// Returns 0; -EINVAL: `b` is NULL or not aligned to 8 bytes, a number of parties out of range, unknown flags.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_barrier_init(b: *mut tine_barrier, parties: u32, flags: u32) -> c_int {
    guard_code(|| {
        // SAFETY: `b` is NULL, misaligned, or memory for a barrier that nobody else uses meanwhile, as the text above asks.
        unsafe { initialise(b, || Barrier::new(parties, flags)) }
    })
}

/// Waits until all parties have come, for up to `timeout_ns` nanoseconds; TINE_FOREVER waits. A wait that runs out of time
/// breaks the barrier for the others; with 0, a party that isn't the last has not come at all.
///
/// Returns 1 for one of the parties, the last to leave, and 0 for the others; nobody gets 1 where a party is killed on its
/// way out. TINE_EBROKEN: a party died or ran out of time, or the barrier was
/// aborted or reset; -EAGAIN (0 ns); -ETIMEDOUT: the barrier is broken now; -EINTR (TINE_INTERRUPTIBLE only): the party
/// has not come; -EINVAL: NULL, misaligned, or no barrier; -ENOLCK: the thread holds TINE_MOST_HELD locks, or more threads
/// than twice the parties are in the barrier; -EXDEV: another PID namespace's; -ENOMEM.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_barrier_wait(b: *mut tine_barrier, timeout_ns: i64) -> c_int {
    guard_code(|| {
        // SAFETY: `b` is NULL, misaligned, or a barrier that stays mapped meanwhile, as the text of tine_mutex asks.
        unsafe { object::<Barrier, _>(b) }.ok_or(INVALID)?.wait(Timeout::from_ns(timeout_ns)).map(c_int::from)
    })
}

/// Makes the barrier as new: it isn't broken, and nobody waits; those that did get TINE_EBROKEN.
///
/// Returns 0; -EINVAL: NULL or misaligned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_barrier_reset(b: *mut tine_barrier) -> c_int {
    guard_code(|| {
        // SAFETY: `b` is NULL, misaligned, or a barrier that stays mapped meanwhile, as the text of tine_mutex asks.
        unsafe { object::<Barrier, _>(b) }.ok_or(INVALID)?.reset();
        Ok(0)
    })
}

/// Breaks the barrier: those that wait and those that come get TINE_EBROKEN until it is reset.
///
/// Returns 0; -EINVAL: NULL or misaligned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_barrier_abort(b: *mut tine_barrier) -> c_int {
    guard_code(|| {
        // SAFETY: `b` is NULL, misaligned, or a barrier that stays mapped meanwhile, as the text of tine_mutex asks.
        unsafe { object::<Barrier, _>(b) }.ok_or(INVALID)?.abort();
        Ok(0)
    })
}

/// 1 if the barrier is broken, 0 if not; -EINVAL: NULL or misaligned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_barrier_broken(b: *const tine_barrier) -> c_int {
    guard_code(|| {
        // SAFETY: `b` is NULL, misaligned, or a barrier that stays mapped meanwhile, as the text of tine_mutex asks.
        Ok(unsafe { object::<Barrier, _>(b) }.ok_or(INVALID)?.is_broken().into())
    })
}

/// How many parties the barrier is for, or -EINVAL: NULL or misaligned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_barrier_parties(b: *const tine_barrier) -> c_int {
    guard_code(|| {
        // SAFETY: `b` is NULL, misaligned, or a barrier that stays mapped meanwhile, as the text of tine_mutex asks.
        Ok(unsafe { object::<Barrier, _>(b) }.ok_or(INVALID)?.parties() as c_int)
    })
}

/// How many parties wait at this moment, or -EINVAL: NULL or misaligned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_barrier_waiting(b: *const tine_barrier) -> c_int {
    guard_code(|| {
        // SAFETY: `b` is NULL, misaligned, or a barrier that stays mapped meanwhile, as the text of tine_mutex asks.
        Ok(unsafe { object::<Barrier, _>(b) }.ok_or(INVALID)?.waiting() as c_int)
    })
}

/// Calls `initializer(user)` unless one has succeeded on this `o` before, in whatever process; waits for one that runs,
/// for up to `timeout_ns` nanoseconds (0 tries, TINE_FOREVER waits).
///
/// An initializer that returns something other than 0 has failed: its caller gets that number, and the next caller's
/// initializer runs. So does the next one after an initializer whose process died, and it may find things half done. An
/// initializer must not throw or longjmp out.
///
/// Who was told that it is done, and knows that nobody else will ask, may free or unmap the memory at once, though the
/// call that ran the initializer has perhaps not returned.
///
/// Returns 0: done, now or before; what the initializer returned; -EAGAIN (0 ns), -ETIMEDOUT; -EDEADLK: called from the
/// initializer; -EINVAL: NULL or misaligned; -ENOLCK, -EXDEV, -ENOMEM as for tine_mutex_lock().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_once_call(
    o: *mut tine_once,
    initializer: Option<unsafe extern "C" fn(user: *mut c_void) -> c_int>,
    user: *mut c_void,
    timeout_ns: i64,
) -> c_int {
    guard_code(|| {
        // SAFETY: `o` is NULL, misaligned, or a tine_once that stays mapped meanwhile, as the text of tine_mutex asks.
        let once = unsafe { object::<Once, _>(o) }.ok_or(INVALID)?;
        let initializer = initializer.ok_or(INVALID)?;
        // SAFETY: the text above asks for a function of this type that may be called with `user`, on this thread, and
        // neither throws nor jumps out.
        let run = || match unsafe { initializer(user) } {
            0 => Ok(()),
            code => Err(Code(code)),
        };
        once.call(Timeout::from_ns(timeout_ns), run).map(|()| 0)
    })
}

/// For memory that outlived its processes, as tine_mutex_reopen(): what was done stays done, what was being done is done
/// anew.
///
/// Returns 0; -EINVAL: NULL or misaligned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_once_reopen(o: *mut tine_once) -> c_int {
    guard_code(|| {
        // SAFETY: `o` is NULL, misaligned, or a tine_once that stays mapped meanwhile, as the text of tine_mutex asks.
        unsafe { object::<Once, _>(o) }.ok_or(INVALID)?.reopen();
        Ok(0)
    })
}
