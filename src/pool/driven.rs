//! Pools that have no thread of tine's: the host's threads move them on, in its calls. A call that waits for something else than
//! a pool, such as a message of a queue that tasks are to fill, would stand in the way of what it waits for; so it moves on
//! all such pools of the process while it waits.

use super::callbacks::tell;
use super::inline::run_queued;
use super::standby::{for_pools_without_thread, has_pools_without_thread};
use crate::error::{Code, Error};
use crate::sys::clock::{Deadline, Timeout, now_ns};
use crate::sys::thread::Uncancelled;
use core::sync::atomic::{AtomicU64, Ordering};

/// How long a thread waits for something else before it looks after pools again: while tasks are under way, and while none are.
const BUSY_NS: u64 = 5_000_000;
const IDLE_NS: u64 = 50_000_000;

/// How long what is there may be taken before the pools are looked after again. To look after them costs ten times what to take a message does.
const TAKING_NS: u64 = 1_000_000;

/// When the pools were last moved on here. A hint: Relaxed.
static MOVED_ON_NS: AtomicU64 = AtomicU64::new(0);

/// What a wait fails with.
pub trait Failure {
    fn code(&self) -> Code;

    /// Whether it says that the time is up.
    fn is_time_up(&self) -> bool {
        self.code() == Code::errno(libc::ETIMEDOUT)
    }

    /// Whether it says that there is something to wait for.
    fn would_wait(&self) -> bool {
        self.code() == Code::errno(libc::EAGAIN)
    }
}

impl Failure for Code {
    fn code(&self) -> Code {
        *self
    }
}

impl<T> Failure for (Code, T) {
    fn code(&self) -> Code {
        self.0
    }
}

impl Failure for Error {
    fn code(&self) -> Code {
        Error::code(self)
    }
}

/// Waits for something that is no pool's, part by part where pools have to be moved on meanwhile.
pub fn meanwhile<T, E: Failure>(
    timeout: Timeout,
    mut wait: impl FnMut(Timeout) -> Result<T, E>,
) -> Result<T, E> {
    if !has_pools_without_thread() {
        return wait(timeout);
    }
    // A forked child in another time namespace may have inherited a time to come: that wraps, and counts as long ago.
    if now_ns().wrapping_sub(MOVED_ON_NS.load(Ordering::Relaxed)) < TAKING_NS {
        match wait(Timeout::Try) {
            Err(failure) if failure.would_wait() => {}
            at_once => return at_once,
        }
    }
    if timeout == Timeout::Try {
        // User code has no place in a call that does not wait: its caller may hold what a callback wants.
        move_on(None);
        return wait(timeout);
    }
    let deadline = timeout.deadline();
    let mut outstanding = move_on(Some(deadline));
    loop {
        let part_ns = if outstanding > 0 { BUSY_NS } else { IDLE_NS };
        let is_last = deadline <= Deadline::after(part_ns);
        let waited = wait(if is_last { deadline.timeout() } else { Timeout::After(part_ns) });
        match waited {
            Err(failure) if failure.is_time_up() && !is_last => outstanding = move_on(Some(deadline)),
            waited => return waited,
        }
    }
}

/// Moves on the pools that have no thread, where no other thread of the host's does, and tells their news until that time, if there is one;
/// how many tasks are under way in them.
fn move_on(tell_until: Option<Deadline>) -> usize {
    let _uncancelled = Uncancelled::new();
    MOVED_ON_NS.store(now_ns(), Ordering::Relaxed);
    let mut outstanding = 0;
    for_pools_without_thread(|pool| {
        // Whoever has the lock takes as long as it takes, and a call that need not wait must not wait for that. The next look tries again.
        let Some(mut state) = pool.try_lock() else {
            outstanding += 1;
            return;
        };
        if !state.waiters.desk.is_led() {
            state.pump(true);
        }
        state = run_queued(pool, state);
        if let Some(until) = tell_until {
            state = tell(pool, state, until);
        }
        outstanding += state.ledger.outstanding;
        state.leave();
    });
    outstanding
}
