//! The futex, shared between processes: never with FUTEX_PRIVATE_FLAG.

use super::clock::Deadline;
use core::mem::MaybeUninit;
use core::sync::atomic::{AtomicU32, Ordering};

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

/// What `futex_change` does to the word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Sets the bit of this number.
    Set(u32),
    /// Leaves the bit of this number alone set.
    SetOnly(u32),
}

/// Changes `word` and wakes at most `count` of its sleepers in one step of the kernel's: no death comes between the two,
/// and no sleeper who has seen the old value is missed.
pub fn futex_change(word: &AtomicU32, change: Change, count: u32) {
    // <linux/futex.h>: FUTEX_OP_OR and FUTEX_OP_SET, by 1 << bit; and a comparison with a value that no word of ours
    // has, upon which sleepers of the second word would be woken, which is the first here.
    const SHIFTED: u32 = 8;
    let (operation, bit) = match change {
        Change::Set(bit) => (2, bit),
        Change::SetOnly(bit) => (0, bit),
    };
    let encoded = (operation | SHIFTED) << 28 | (bit & 31) << 12 | 0xfff;
    let count = count.min(i32::MAX as u32);
    // SAFETY: the word outlives the call.
    let rc = unsafe {
        libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE_OP, count, 0, word.as_ptr(), encoded)
    };
    // Memory that is gone has nobody who waits, and must not be touched.
    if rc < 0 && super::errno() != libc::EFAULT {
        // Refused, by a filter of system calls for example: in two steps then, between which a death loses the wake-up.
        match change {
            Change::Set(bit) => word.fetch_or(1 << bit, Ordering::SeqCst),
            Change::SetOnly(bit) => word.swap(1 << bit, Ordering::SeqCst),
        };
        futex_wake(word, count);
    }
}

/// One word of several that a thread sleeps on; as <linux/futex.h> has it.
#[repr(C)]
struct Waiter {
    value: u64,
    address: u64,
    flags: u32,
    reserved: u32,
}

/// A 32-bit word that processes share.
const FUTEX2_SIZE_U32: u32 = 2;
const SYS_FUTEX_WAITV: libc::c_long = 449;

/// 0: not yet asked, 1: there is futex_waitv, 2: there is none. Relaxed: every thread would store the same.
static WAITV: AtomicU32 = AtomicU32::new(0);

fn has_waitv() -> bool {
    match WAITV.load(Ordering::Relaxed) {
        0 => {
            let none = super::robust::forced_off("waitv") || {
                // SAFETY: no words at all: refused with EINVAL where the call exists.
                let rc = unsafe { libc::syscall(SYS_FUTEX_WAITV, 0, 0, 0, 0, 0) };
                rc != -1 || super::errno() != libc::EINVAL
            };
            WAITV.store(1 + u32::from(none), Ordering::Relaxed);
            !none
        }
        known => known == 1,
    }
}

/// A word and what it is expected to hold, by its address: it may be unmapped by the time that the kernel looks, which says so.
#[derive(Clone, Copy, Debug)]
pub struct Word {
    address: u64,
    value: u32,
}

impl Word {
    /// This word.
    pub fn new(word: &AtomicU32, value: u32) -> Word {
        Word { address: word.as_ptr() as u64, value }
    }
}

/// Sleeps while all words hold what is expected of them; whether it was woken before the deadline, as far as that can be said.
/// A kernel that can't, or too many words: sleeps on the last, and where there are more than two, no longer than `in_turn_ns`.
pub fn wait_any_of(words: &[Word], deadline: Deadline, in_turn_ns: u64) -> bool {
    if words.len() <= MOST_WORDS && has_waitv() {
        let waiters: Vec<Waiter> = words
            .iter()
            .map(|word| Waiter {
                value: u64::from(word.value),
                address: word.address,
                flags: FUTEX2_SIZE_U32,
                reserved: 0,
            })
            .collect();
        let time = deadline.timespec();
        let time = time.as_ref().map_or(std::ptr::null(), |time| time as *const libc::timespec);
        // SAFETY: so many waiters, whose addresses the kernel checks; `time` is null or valid, and absolute.
        let rc = unsafe {
            libc::syscall(SYS_FUTEX_WAITV, waiters.as_ptr(), waiters.len(), 0, time, libc::CLOCK_MONOTONIC)
        };
        return rc >= 0 || super::errno() != libc::ETIMEDOUT;
    }
    let Some(last) = words.last() else { return true };
    let deadline = if words.len() > 2 { deadline.min(Deadline::after(in_turn_ns)) } else { deadline };
    let time = deadline.timespec();
    let time = time.as_ref().map_or(std::ptr::null(), |time| time as *const libc::timespec);
    // SAFETY: the kernel checks the address; `time` is null or valid, and absolute.
    let rc = unsafe {
        libc::syscall(
            libc::SYS_futex,
            last.address,
            libc::FUTEX_WAIT_BITSET,
            last.value,
            time,
            std::ptr::null::<u32>(),
            u32::MAX,
        )
    };
    rc == 0 || super::errno() != libc::ETIMEDOUT
}

/// The most words that the kernel takes (FUTEX_WAITV_MAX).
const MOST_WORDS: usize = 128;

/// Sleeps while all words hold what is expected of them, whose queues it joins in their order before it looks at each; says which of them a wake-up came by, the last one if several.
/// `None` where the kernel can't.
pub fn futex_wait_any(words: &[(&AtomicU32, u32)], deadline: Deadline) -> Option<(Wait, usize)> {
    if !has_waitv() {
        return None;
    }
    let mut waiters = [const { MaybeUninit::<Waiter>::uninit() }; MOST_WORDS];
    for ((word, value), waiter) in words.iter().zip(&mut waiters) {
        let (value, address) = (u64::from(*value), word.as_ptr() as u64);
        waiter.write(Waiter { value, address, flags: FUTEX2_SIZE_U32, reserved: 0 });
    }
    let count = words.len().min(MOST_WORDS);
    let time = deadline.timespec();
    let time = time.as_ref().map_or(std::ptr::null(), |time| time as *const libc::timespec);
    // SAFETY: so many waiters are written, whose words outlive the call; `time` is null or valid, and absolute.
    let rc =
        unsafe { libc::syscall(SYS_FUTEX_WAITV, waiters.as_ptr(), count, 0, time, libc::CLOCK_MONOTONIC) };
    if rc >= 0 {
        return Some((Wait::Woken, rc as usize));
    }
    match super::errno() {
        libc::EAGAIN => Some((Wait::Changed, 0)),
        libc::ETIMEDOUT => Some((Wait::TimedOut, 0)),
        libc::EINTR => Some((Wait::Interrupted, 0)),
        _ => None,
    }
}
