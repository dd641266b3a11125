//! Something that is done once, by whichever process comes first, even if the first one dies of it.

use super::lock::Lock;
use super::{ALREADY, NO_MEMORY, Outcome};
use crate::sys::clock::Timeout;
use crate::sys::prim::{AtomicU32, Ordering};
use crate::sys::robust;

/// All-zero memory is one that has not been done.
#[repr(transparent)]
#[derive(Debug)]
pub struct Once {
    lock: Lock,
}

impl Default for Once {
    fn default() -> Once {
        Once::new()
    }
}

impl Once {
    /// One that has not been done.
    pub fn new() -> Once {
        Once { lock: Lock::new(0) }
    }

    /// 1 once the initialiser has succeeded: for who gets the lock from one that died before it could release it. Written
    /// and read with the lock in hand. Everybody else goes by the lock's own word, which is the last that is touched.
    fn done(&self) -> &AtomicU32 {
        &self.lock.extra[0]
    }

    /// Whether it has been done.
    #[inline(always)]
    pub fn is_done(&self) -> bool {
        self.lock.is_spent()
    }

    /// For memory that was copied or kept while processes used it, and that nobody uses now: what was done stays done,
    /// what was being done is done anew.
    pub fn reopen(&self) {
        self.lock.reopen();
    }

    /// Runs `initialiser` unless one has succeeded before; waits for one that runs. What it fails with is returned,
    /// and the next caller runs its own. So does the next after one that died: it may find things half done.
    pub fn call(&self, timeout: Timeout, initialiser: impl FnOnce() -> Outcome<()>) -> Outcome<()> {
        if self.is_done() {
            return Ok(());
        }
        let me = robust::me().ok_or(NO_MEMORY)?;
        if !self.lock.take_free(me) {
            match self.lock.take(me, timeout, false) {
                Err(ALREADY) => return Ok(()),
                taken => taken?,
            };
        }
        // Should the initialiser unwind, the lock is released all the same and the next caller runs its own.
        struct Release<'a>(&'a Once, robust::Me);
        impl Drop for Release<'_> {
            fn drop(&mut self) {
                let Release(once, me) = *self;
                // A dead predecessor's work is done anew, so there is nothing to repair.
                let _ = once.lock.repair(me);
                // Relaxed: the lock is held.
                match once.done().load(Ordering::Relaxed) {
                    0 => once.lock.release(me),
                    _ => once.lock.release_spent(me),
                }
            }
        }
        let _release = Release(self, me);
        if self.done().load(Ordering::Relaxed) == 0 {
            initialiser()?;
            self.done().store(1, Ordering::Relaxed);
        }
        Ok(())
    }
}
