//! The futex, shared between processes: never with FUTEX_PRIVATE_FLAG.

use super::clock::Deadline;
use core::sync::atomic::AtomicU32;

/// How a wait ended, spurious wake-ups included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Woken, or for no reason at all: look again.
    Woken,
    /// The word did not hold the expected value.
    Changed,
    /// The deadline passed.
    TimedOut,
    /// A signal handler ran.
    Interrupted,
}

/// Sleeps while `word` holds `expected`, at most until `deadline`.
pub fn futex_wait(word: &AtomicU32, expected: u32, deadline: Deadline) -> Wait {
    let time = deadline.timespec();
    let time = time.as_ref().map_or(std::ptr::null(), |time| time as *const libc::timespec);
    // SAFETY: the word outlives the call and `time` is null or valid. FUTEX_WAIT_BITSET takes an absolute time.
    let rc = unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAIT_BITSET,
            expected,
            time,
            std::ptr::null::<u32>(),
            u32::MAX,
        )
    };
    if rc == 0 {
        return Wait::Woken;
    }
    match super::errno() {
        libc::EAGAIN => Wait::Changed,
        libc::ETIMEDOUT => Wait::TimedOut,
        libc::EINTR => Wait::Interrupted,
        _ => Wait::Woken,
    }
}

/// Wakes at most `count` sleepers; returns how many there were.
pub fn futex_wake(word: &AtomicU32, count: u32) -> u32 {
    // SAFETY: the word outlives the call.
    let rc = unsafe {
        libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, count.min(i32::MAX as u32))
    };
    rc.max(0) as u32
}
