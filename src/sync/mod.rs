//! Locks that no death can wedge: for memory that processes share, whatever of them is killed, and wherever.
//!
//! Every object is plain memory: all zero or made by its `new`, without a pointer that this code would follow, so it
//! may lie anywhere that processes share, at another address in each. `docs/design/locks.md` has the states, who may
//! write which word, and what a death at each point leaves behind.
//!
//! A mutex or reader-writer lock is held from one call to another, by its address, so its `new` is `unsafe`: it has to stay
//! where it is while it is held. The other objects are known by their address within a call alone, which borrows them.

pub mod barrier;
pub mod condition;
pub mod event;
pub(crate) mod gate;
pub(crate) mod lock;
pub mod mutex;
pub mod once;
pub mod rwlock;
pub mod semaphore;

use crate::error::Code;
use crate::sys::clock::{Deadline, Timeout, now_ns};
use crate::sys::prim::Wait;
use core::cell::Cell;

pub use barrier::Barrier;
pub use condition::Condition;
pub use event::Event;
pub use lock::Owner;
pub use mutex::Mutex;
pub use once::Once;
pub use rwlock::RwLock;
pub use semaphore::Semaphore;

/// The result of the calls on locks: plain codes, because the paths are short.
pub type Outcome<T> = core::result::Result<T, Code>;

/// How a lock was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acquired {
    /// From nobody, or from a holder that released it.
    Clean,
    /// From a holder that died: the data may be torn. The lock is held.
    OwnerDied,
}

/// The holder may lock again, and unlocks as often.
pub const RECURSIVE: u32 = 2;
/// The process holds the lock, whichever of its threads took it.
pub const PROCESS_OWNED: u32 = 4;
/// Waits end with `EINTR` when a signal handler has run.
pub const INTERRUPTIBLE: u32 = 1;
/// Data that a death can't tear: a lock that is taken from a dead holder needs no repair.
pub const AUTO_REPAIR: u32 = 8;
/// An event that clears itself when it lets a waiter go.
pub const AUTO_RESET: u32 = 16;
/// Readers don't wait for a writer that waits.
pub const PREFER_READERS: u32 = 32;

pub(crate) const AGAIN: Code = Code::errno(libc::EAGAIN);
pub(crate) const TIMED_OUT: Code = Code::errno(libc::ETIMEDOUT);
pub(crate) const INTERRUPTED: Code = Code::errno(libc::EINTR);
pub(crate) const INVALID: Code = Code::errno(libc::EINVAL);
pub(crate) const DEADLOCK: Code = Code::errno(libc::EDEADLK);
pub(crate) const NOT_OWNER: Code = Code::errno(libc::EPERM);
pub(crate) const NO_LOCKS: Code = Code::errno(libc::ENOLCK);
pub(crate) const NO_MEMORY: Code = Code::errno(libc::ENOMEM);
pub(crate) const OTHER_NAMESPACE: Code = Code::errno(libc::EXDEV);
pub(crate) const ALREADY: Code = Code::errno(libc::EALREADY);
pub(crate) const UNRECOVERABLE: Code = Code::errno(libc::ENOTRECOVERABLE);
pub(crate) const TOO_MANY: Code = Code::errno(libc::EOVERFLOW);

/// How long a wait may go without looking round: on a word that names a holder always, elsewhere where the kernel doesn't
/// see to every death.
pub(crate) const SLICE_NS: u64 = 50_000_000;

/// The way a wait goes: until when, in which slices, and whether a signal ends it.
pub(crate) struct Patience {
    timeout: Timeout,
    deadline: Option<Deadline>,
    interruptible: bool,
    /// When to look round next. It stays where it is while other things end the sleeps: signals must not put it off.
    look: Cell<Look>,
}

#[derive(Clone, Copy)]
enum Look {
    Never,
    /// So long after the next sleep begins.
    Soon,
    At(Deadline),
}

/// What a waiter does after it has slept.
pub(crate) enum Then {
    /// Looks again. `slept` is false where the wait never began.
    Look { slept: bool },
    /// A slice is over: looks whether somebody died.
    Check,
}

impl Patience {
    pub fn new(timeout: Timeout, interruptible: bool, sliced: bool) -> Patience {
        let look = Cell::new(if sliced { Look::Soon } else { Look::Never });
        Patience { timeout, deadline: None, interruptible, look }
    }

    pub fn is_try(&self) -> bool {
        self.timeout == Timeout::Try
    }

    /// Fails where the caller doesn't want to wait at all, or where its time has run out since it was asked first: a word
    /// that changes all the time keeps a waiter from sleeping, not from ending.
    pub fn may_wait(&mut self) -> Outcome<()> {
        if self.is_try() {
            return Err(AGAIN);
        }
        match self.deadline {
            None => self.deadline = Some(self.timeout.deadline()),
            Some(deadline) if deadline.passed() => return Err(TIMED_OUT),
            Some(_) => {}
        }
        Ok(())
    }

    /// Fails where the caller's time has run out. For who has not slept, and goes on: a try does, until it would have to wait.
    pub fn check_time(&mut self) -> Outcome<()> {
        if self.is_try() { Ok(()) } else { self.may_wait() }
    }

    /// Looks round from now on, if it did not before.
    pub fn look_round(&self) {
        if let Look::Never = self.look.get() {
            self.look.set(Look::Soon);
        }
    }

    /// When the next sleep must end. Call `may_wait` before.
    pub fn until(&self) -> Deadline {
        let deadline = self.deadline.unwrap_or(Deadline::NEVER);
        let look = match self.look.get() {
            Look::Never => return deadline,
            Look::Soon => next_look(now_ns()),
            Look::At(moment) => moment,
        };
        self.look.set(Look::At(look));
        deadline.min(look)
    }

    /// What the end of a sleep means.
    pub fn after(&self, wait: Wait) -> Outcome<Then> {
        match wait {
            Wait::Woken => Ok(Then::Look { slept: true }),
            Wait::Changed => Ok(Then::Look { slept: false }),
            Wait::TimedOut if self.deadline.is_some_and(Deadline::passed) => Err(TIMED_OUT),
            Wait::TimedOut => {
                // One that does not look round has been made to for one sleep, by what it met there.
                if let Look::At(_) = self.look.get() {
                    self.look.set(Look::Soon);
                }
                Ok(Then::Check)
            }
            Wait::Interrupted if self.interruptible => Err(INTERRUPTED),
            Wait::Interrupted => Ok(Then::Look { slept: true }),
        }
    }
}

/// When to look round next: after at most `SLICE_NS`, and never twice after the same time, so that a signal that comes again and again
/// doesn't meet each time the moment between two sleeps, where nobody sees that it came.
fn next_look(now_ns: u64) -> Deadline {
    // Spread over an eighth by multiplying: 2^64 over the golden ratio, of which the upper bits count.
    const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
    let early_ns = (now_ns.wrapping_mul(SPREAD) >> 32) % (SLICE_NS / 8);
    Deadline(now_ns.saturating_add(SLICE_NS - early_ns))
}

/// Checks that an object's flags are among those it knows.
pub(crate) fn known_flags(flags: u32, known: u32) -> Outcome<u32> {
    if flags & !known == 0 { Ok(flags) } else { Err(INVALID) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_do_not_put_off_the_next_look() {
        let patience = Patience::new(Timeout::Forever, false, true);
        let first = patience.until();
        assert_ne!(first, Deadline::NEVER);
        assert!(matches!(patience.after(Wait::Interrupted), Ok(Then::Look { slept: true })));
        assert_eq!(patience.until(), first);
        assert!(matches!(patience.after(Wait::TimedOut), Ok(Then::Check)));
        assert!(matches!(patience.look.get(), Look::Soon));
    }

    #[test]
    fn one_short_sleep_does_not_make_the_next_one_short() {
        let mut patience = Patience::new(Timeout::Forever, false, false);
        assert_eq!((patience.may_wait(), patience.until()), (Ok(()), Deadline::NEVER));
        assert!(matches!(patience.after(Wait::TimedOut), Ok(Then::Check)));
        assert_eq!(patience.until(), Deadline::NEVER);
    }

    #[test]
    fn looks_do_not_keep_step_with_a_timer() {
        let mut now = 1_000_000_000;
        let mut lengths = std::collections::BTreeSet::new();
        for _ in 0..1000 {
            let Deadline(next) = next_look(now);
            assert!((SLICE_NS - SLICE_NS / 8..=SLICE_NS).contains(&(next - now)));
            lengths.insert((next - now) / 1_000_000);
            now = next;
        }
        assert_eq!(lengths.len(), 7, "{lengths:?}");
    }

    #[test]
    fn a_wait_that_somebody_keeps_from_sleeping_ends_at_its_time() {
        let mut patience = Patience::new(Timeout::After(1_000_000), false, false);
        assert_eq!(patience.may_wait(), Ok(()));
        let end = patience.until();
        while !end.passed() {
            std::thread::yield_now();
        }
        // The word that it wants to sleep on has changed again: nobody looked at the clock.
        assert!(matches!(patience.after(Wait::Changed), Ok(Then::Look { slept: false })));
        assert_eq!(patience.may_wait(), Err(TIMED_OUT));
        assert_eq!(patience.check_time(), Err(TIMED_OUT));
        assert_eq!(Patience::new(Timeout::Try, false, false).check_time(), Ok(()));
        let mut endless = Patience::new(Timeout::Forever, false, false);
        assert_eq!((endless.may_wait(), endless.may_wait()), (Ok(()), Ok(())));
    }
}
