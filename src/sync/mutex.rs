//! The mutex.

use super::lock::{Lock, Owner};
use super::{
    AUTO_REPAIR, Acquired, INTERRUPTIBLE, INVALID, NO_MEMORY, Outcome, PROCESS_OWNED, RECURSIVE, known_flags,
};
use crate::sys::clock::Timeout;
use crate::sys::robust::{self, Me};

/// One at a time, among the threads of all processes that share it. All-zero memory is a free, plain one.
#[repr(transparent)]
#[derive(Debug)]
pub struct Mutex {
    lock: Lock,
}

impl Mutex {
    /// A free mutex. `RECURSIVE` and `PROCESS_OWNED` exclude each other.
    ///
    /// The list of a thread's locks, which the kernel reads, leads through the memory of each lock that the thread holds. No
    /// borrow says how long that is, so whoever makes a mutex has to answer for it:
    ///
    /// ```compile_fail,E0133
    /// let mutex = tine::sync::Mutex::new(0).unwrap(); // not without `unsafe`
    /// ```
    ///
    /// # Safety
    /// While a thread or a process holds the mutex, it stays where it is: it is not moved, dropped, overwritten or
    /// unmapped.
    pub unsafe fn new(flags: u32) -> Outcome<Mutex> {
        let flags = known_flags(flags, RECURSIVE | PROCESS_OWNED | INTERRUPTIBLE | AUTO_REPAIR)?;
        if flags & RECURSIVE != 0 && flags & PROCESS_OWNED != 0 {
            return Err(INVALID);
        }
        Ok(Mutex { lock: Lock::new(flags) })
    }

    /// Takes the mutex the short way, if it is a plain one or one that processes own, free, and waited for by nobody; whether
    /// it was.
    #[inline(always)]
    pub fn lock_free(&self) -> bool {
        robust::known().is_some_and(|me| self.lock.take_free(me) || self.lock.take_free_owned(me))
    }

    /// Takes the mutex.
    #[inline(always)]
    pub fn lock(&self, timeout: Timeout) -> Outcome<Acquired> {
        if self.lock_free() { Ok(Acquired::Clean) } else { self.lock_slowly(timeout) }
    }

    #[cold]
    #[inline(never)]
    fn lock_slowly(&self, timeout: Timeout) -> Outcome<Acquired> {
        self.lock.take(robust::me().ok_or(NO_MEMORY)?, timeout, false)
    }

    /// Releases it the short way, if it is a plain one and the newest lock of the caller's, or its process's; whether it was.
    #[inline(always)]
    pub fn unlock_newest(&self) -> bool {
        robust::known().is_some_and(|me| self.lock.release_plain(me) || self.lock.release_owned(me))
    }

    /// Releases it. `EPERM` where the caller does not hold it.
    #[inline(always)]
    pub fn unlock(&self) -> Outcome<()> {
        if self.unlock_newest() { Ok(()) } else { self.unlock_slowly() }
    }

    #[cold]
    #[inline(never)]
    fn unlock_slowly(&self) -> Outcome<()> {
        let me = robust::me().ok_or(NO_MEMORY)?;
        if self.lock.about_to_release(me)? {
            self.lock.leave();
            self.lock.release(me);
        }
        Ok(())
    }

    /// Says that the data which a dead holder left is whole again. `EINVAL` where no death is to be repaired.
    pub fn repair(&self) -> Outcome<()> {
        self.lock.repair(robust::me().ok_or(NO_MEMORY)?)
    }

    /// For memory that was copied or kept while processes used it, and that nobody uses now: whoever holds it there has
    /// died.
    pub fn reopen(&self) {
        self.lock.reopen();
    }

    /// Who holds it at this moment.
    pub fn owner(&self) -> Owner {
        self.lock.owner()
    }

    /// How often the caller has locked it again; `None` where it does not hold it.
    pub(crate) fn held_by(&self, me: Me) -> Option<u32> {
        self.lock.held_by(me)
    }

    /// Takes it back after a condition's wait: without a limit, and whatever signals come.
    pub(crate) fn lock_again(&self, me: Me) -> Outcome<Acquired> {
        if self.lock.take_free(me) { Ok(Acquired::Clean) } else { self.lock.take(me, Timeout::Forever, true) }
    }
}
