//! Barriers, and what is done once.

use crate::error::Code;
use crate::ffi::guard::guard_code;
use crate::ffi::sync::{initialise, object};
use crate::sync::{Barrier, INVALID, Once};
use crate::sys::clock::Timeout;
use crate::sys::thread::Uncancelled;
use std::ffi::{c_int, c_void};

/// The most parties that a barrier can have.
pub const TINE_BARRIER_PARTIES: u32 = 128;
const _: () = assert!(TINE_BARRIER_PARTIES == crate::sync::barrier::MOST_PARTIES);

/// A meeting of a fixed number of threads, of any processes, again and again. What holds for all locks (tine_mutex)
/// holds here, but all-zero memory is not a barrier: tine_barrier_init() sets the number of parties.
///
/// A party that dies while it waits breaks the barrier: every party gets TINE_EBROKEN until tine_barrier_reset(). A
/// party that never comes is found by the timeout.
///
/// The party that gets 1 is the last to leave, and may free, unmap or reuse the memory at once: no other party's call
/// looks at it any more. The other parties may not, unless they know by other means that all calls have returned. More
/// threads than parties may take turns. Then 1 says nothing about the memory: others may be in the call. And threads
/// that are stopped on their way out can hold up a later meeting: docs/locks.md says how many.
#[repr(C)]
pub struct tine_barrier {
    /// tine's.
    pub opaque: [u64; 648],
}

/// Something that is done once, by the process that comes first. All-zero memory is something that has not been done.
/// What holds for all locks (tine_mutex) holds here.
#[repr(C)]
pub struct tine_once {
    /// tine's.
    pub opaque: [u64; 8],
}

/// Makes memory a barrier that nobody waits at.
///
/// Parameters: b: memory that no other thread uses meanwhile. parties: how many threads meet, from 1 to
/// TINE_BARRIER_PARTIES. flags: TINE_INTERRUPTIBLE.
/// Returns 0; -EINVAL: b is NULL or not aligned to 8 bytes, parties is out of range, or a flag is unknown.
/// Threads: any, one at a time. Fork: a child may call it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_barrier_init(b: *mut tine_barrier, parties: u32, flags: u32) -> c_int {
    guard_code(|| {
        // SAFETY: `b` is NULL, misaligned, or memory for a barrier that nobody else uses meanwhile, as the text above asks.
        unsafe { initialise(b, || Barrier::new(parties, flags)) }
    })
}

/// Waits until all parties have come. A wait whose time runs out breaks the barrier for the other parties. With a
/// timeout of 0, a party that is not the last one does not count as having come.
///
/// Of each meeting one party gets 1, the last to leave. No party does where one is killed on its way out. Where
/// several parties of one meeting are killed there, say d, as many as d - 1 later meetings give no party 1 either.
///
/// Parameters: b. timeout_ns: how long to wait, in nanoseconds; 0: not at all.
/// Returns 1 for the last party to leave, and 0 for the others; TINE_EBROKEN: a party has died, another party's time
/// has run out, or the barrier was aborted or reset; -EAGAIN (timeout 0): not all parties have come; -ETIMEDOUT: the
/// caller's time has run out, and the barrier is broken now; -EINTR: a signal came, with TINE_INTERRUPTIBLE, and the
/// caller does not count as having come; -EINVAL: b is NULL, misaligned, or not a barrier; -ENOLCK: the thread holds
/// TINE_MOST_HELD locks; -EXDEV: the barrier is another PID namespace's; -ENOMEM: there is no memory at a thread's
/// first call.
/// Threads: any; not in a signal handler. Fork: a child may call it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_barrier_wait(b: *mut tine_barrier, timeout_ns: i64) -> c_int {
    guard_code(|| {
        // SAFETY: `b` is NULL, misaligned, or a barrier that stays mapped meanwhile, as the text of tine_mutex asks.
        unsafe { object::<Barrier, _>(b) }.ok_or(INVALID)?.wait(Timeout::from_ns(timeout_ns)).map(c_int::from)
    })
}

/// Makes the barrier as new: it is not broken, and nobody waits. Parties that were waiting get TINE_EBROKEN. Where
/// parties were killed on their way out, later meetings may still give no party 1 (tine_barrier_wait).
///
/// Parameters: b.
/// Returns 0; -EINVAL: b is NULL or misaligned.
/// Threads: any; not in a signal handler. Fork: a child may call it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_barrier_reset(b: *mut tine_barrier) -> c_int {
    guard_code(|| {
        // SAFETY: `b` is NULL, misaligned, or a barrier that stays mapped meanwhile, as the text of tine_mutex asks.
        unsafe { object::<Barrier, _>(b) }.ok_or(INVALID)?.reset();
        Ok(0)
    })
}

/// Breaks the barrier. Parties that wait, and parties that come, get TINE_EBROKEN until the barrier is reset.
///
/// Parameters: b.
/// Returns 0; -EINVAL: b is NULL or misaligned.
/// Threads: any; not in a signal handler. Fork: a child may call it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_barrier_abort(b: *mut tine_barrier) -> c_int {
    guard_code(|| {
        // SAFETY: `b` is NULL, misaligned, or a barrier that stays mapped meanwhile, as the text of tine_mutex asks.
        unsafe { object::<Barrier, _>(b) }.ok_or(INVALID)?.abort();
        Ok(0)
    })
}

/// Tells the state of the barrier at this moment.
///
/// Parameters: b.
/// Returns 1: it is broken; 0: it is not; -EINVAL: b is NULL or misaligned.
/// Threads: any. Fork: a child may call it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_barrier_broken(b: *const tine_barrier) -> c_int {
    guard_code(|| {
        // SAFETY: `b` is NULL, misaligned, or a barrier that stays mapped meanwhile, as the text of tine_mutex asks.
        Ok(unsafe { object::<Barrier, _>(b) }.ok_or(INVALID)?.is_broken().into())
    })
}

/// The number of parties that meet at the barrier.
///
/// Parameters: b.
/// Returns the number; -EINVAL: b is NULL or misaligned.
/// Threads: any. Fork: a child may call it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_barrier_parties(b: *const tine_barrier) -> c_int {
    guard_code(|| {
        // SAFETY: `b` is NULL, misaligned, or a barrier that stays mapped meanwhile, as the text of tine_mutex asks.
        Ok(unsafe { object::<Barrier, _>(b) }.ok_or(INVALID)?.parties() as c_int)
    })
}

/// Counts the parties that wait at this moment.
///
/// Parameters: b.
/// Returns how many parties wait; -EINVAL: b is NULL or misaligned.
/// Threads: any. Fork: a child may call it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_barrier_waiting(b: *const tine_barrier) -> c_int {
    guard_code(|| {
        // SAFETY: `b` is NULL, misaligned, or a barrier that stays mapped meanwhile, as the text of tine_mutex asks.
        Ok(unsafe { object::<Barrier, _>(b) }.ok_or(INVALID)?.waiting() as c_int)
    })
}

/// Calls initializer(user), unless an initializer has succeeded on this tine_once before, in whatever process. It
/// waits while another thread's initializer runs.
///
/// An initializer that returns another number than 0 has failed. Its caller gets that number, and the next caller's
/// initializer runs. The next caller's initializer also runs where the process died in which one was running; it may
/// find things half done. An initializer must not throw an exception or leave by longjmp.
///
/// A thread that was told that it is done, and that knows that no other thread will ask, may free or unmap the memory
/// at once. The call that ran the initializer may still be running then.
///
/// Parameters: o. initializer: the function. user: passed to it. timeout_ns: how long to wait, in nanoseconds; 0: not
/// at all.
/// Returns 0: it is done, now or before; the number that the initializer has returned; -EAGAIN (timeout 0),
/// -ETIMEDOUT: another thread's initializer is running; -EDEADLK: the call comes from the initializer; -EINVAL: o or
/// initializer is NULL, or o is misaligned; -ENOLCK, -EXDEV, -ENOMEM: as for tine_mutex_lock().
/// Threads: any; not in a signal handler. A thread that is cancelled meanwhile (pthread_cancel) is cancelled after the
/// call. Fork: a child may call it.
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
        if once.is_done() {
            return Ok(0);
        }
        // Through this library's frames no thread that is cancelled in its initializer could unwind.
        let _uncancelled = Uncancelled::new();
        // SAFETY: the text above asks for a function of this type that may be called with `user`, on this thread, and
        // neither throws nor jumps out.
        let run = || match unsafe { initializer(user) } {
            0 => Ok(()),
            code => Err(Code(code)),
        };
        once.call(Timeout::from_ns(timeout_ns), run).map(|()| 0)
    })
}

/// Takes over a tine_once in memory that has outlived its processes, as tine_mutex_reopen() does. What has been done
/// stays done. What was being done is done anew.
///
/// Parameters: o.
/// Returns 0; -EINVAL: o is NULL or misaligned.
/// Threads: any, one at a time. Fork: a child may call it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_once_reopen(o: *mut tine_once) -> c_int {
    guard_code(|| {
        // SAFETY: `o` is NULL, misaligned, or a tine_once that stays mapped meanwhile, as the text of tine_mutex asks.
        unsafe { object::<Once, _>(o) }.ok_or(INVALID)?.reopen();
        Ok(0)
    })
}
