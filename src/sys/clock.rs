//! The monotonic clock, and deadlines made of the relative timeouts that the API takes.

use crate::error::{Code, Error};
use std::cell::Cell;
use std::time::Duration;

/// Nanoseconds of the monotonic clock, which every process of the machine shares.
pub fn now_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a valid place, and CLOCK_MONOTONIC exists on every Linux.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Milliseconds of the monotonic clock, some of them late, for less than [`now_ns`] costs. They begin anew after 49 days.
pub fn coarse_ms() -> u32 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a valid place, and CLOCK_MONOTONIC_COARSE exists on every Linux since 2.6.32.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC_COARSE, &mut now) };
    (now.tv_sec as u64 * 1_000 + now.tv_nsec as u64 / 1_000_000) as u32
}

/// Sleeps for so many nanoseconds, less than a second, or until a signal handler has run. The raw call: no cancellation point, so calls that
/// make it need not see to that.
pub(crate) fn nap(ns: u32) {
    let time = libc::timespec { tv_sec: 0, tv_nsec: ns as _ };
    let none = std::ptr::null_mut::<libc::timespec>();
    // SAFETY: a valid time; nobody asks for what is left of it.
    unsafe { libc::syscall(libc::SYS_clock_nanosleep, libc::CLOCK_MONOTONIC, 0, &raw const time, none) };
}

/// The moment at which something happens, read from the clock at the first request.
#[derive(Debug, Default)]
pub struct Moment(Cell<Option<u64>>);

impl Moment {
    /// One that is known.
    pub fn at(ns: u64) -> Moment {
        Moment(Cell::new(Some(ns)))
    }

    /// Nanoseconds of the monotonic clock.
    pub fn ns(&self) -> u64 {
        let ns = self.0.get().unwrap_or_else(now_ns);
        self.0.set(Some(ns));
        ns
    }
}

/// How long a call may wait, as the API says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timeout {
    /// Do not wait: `EAGAIN` instead.
    Try,
    /// Wait for so many nanoseconds, then `ETIMEDOUT`.
    After(u64),
    /// Wait for ever.
    Forever,
}

impl Timeout {
    /// From the API's number of nanoseconds; the greatest is for ever. One below zero is over already, as 0 is: the
    /// difference of two times that comes out just below zero must not wait for ever.
    pub fn from_ns(timeout_ns: i64) -> Timeout {
        match timeout_ns {
            i64::MAX => Timeout::Forever,
            ns if ns <= 0 => Timeout::Try,
            ns => Timeout::After(ns as u64),
        }
    }

    /// The moment at which it runs out, counted from now. The clock is read only where it is needed.
    pub fn deadline(self) -> Deadline {
        match self {
            Timeout::Try => Deadline(0),
            Timeout::After(ns) => Deadline(now_ns().saturating_add(ns).min(u64::MAX - 1)),
            Timeout::Forever => Deadline::NEVER,
        }
    }

    /// What a call comes to that it has run out for.
    pub(crate) fn error(self) -> Error {
        Code::errno(if self == Timeout::Try { libc::EAGAIN } else { libc::ETIMEDOUT }).into()
    }

    /// What is left of it for a second wait in the same call, until the deadline that it gave.
    pub(crate) fn what_is_left(self, deadline: Deadline) -> Timeout {
        match self {
            Timeout::After(_) => Timeout::After(deadline.0.saturating_sub(now_ns())),
            other => other,
        }
    }
}

impl From<Duration> for Timeout {
    fn from(duration: Duration) -> Timeout {
        if duration.is_zero() {
            Timeout::Try
        } else {
            Timeout::After(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
        }
    }
}

/// A moment of the monotonic clock, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(pub u64);

impl Deadline {
    /// The moment that never comes.
    pub const NEVER: Deadline = Deadline(u64::MAX);

    /// So many nanoseconds from now.
    pub fn after(ns: u64) -> Deadline {
        Timeout::After(ns).deadline()
    }

    /// What is left until then, as a timeout.
    pub fn timeout(self) -> Timeout {
        match self {
            Deadline::NEVER => Timeout::Forever,
            Deadline(ns) => Timeout::After(ns.saturating_sub(now_ns())),
        }
    }

    /// Whether it has passed.
    pub fn passed(self) -> bool {
        self != Deadline::NEVER && (self.0 == 0 || now_ns() >= self.0)
    }

    /// As the kernel's calls with an absolute time take it; `None` for never.
    pub(crate) fn timespec(self) -> Option<libc::timespec> {
        (self != Deadline::NEVER).then(|| timespec(self.0))
    }

    /// What is left, as the kernel's calls with a relative time take it; `None` for never.
    pub(crate) fn remaining(self) -> Option<libc::timespec> {
        (self != Deadline::NEVER).then(|| timespec(self.0.saturating_sub(now_ns())))
    }
}

fn timespec(ns: u64) -> libc::timespec {
    libc::timespec { tv_sec: (ns / 1_000_000_000) as _, tv_nsec: (ns % 1_000_000_000) as libc::c_long }
}
