//! Something that is done once, by whichever process comes first, even if the first one dies of it.

use super::lock::Lock;
use super::{NO_MEMORY, Outcome};
use crate::prim::{AtomicU32, Ordering};
use crate::sys::clock::Timeout;
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

    /// 1 once the initialiser has succeeded. Release by who ran it, Acquire by who relies on it.
    fn done(&self) -> &AtomicU32 {
        &self.lock.extra[0]
    }

    /// Whether it has been done.
    #[inline(always)]
    pub fn is_done(&self) -> bool {
        self.done().load(Ordering::Acquire) != 0
    }

    /// Runs `initialiser` unless one has succeeded before; waits for one that runs. What it fails with is returned,
    /// and the next caller runs its own. So does the next after one that died: it may find things half done.
    pub fn call(&self, timeout: Timeout, initialiser: impl FnOnce() -> Outcome<()>) -> Outcome<()> {
        if self.is_done() {
            return Ok(());
        }
        let me = robust::me().ok_or(NO_MEMORY)?;
        if !self.lock.take_free(me) {
            self.lock.take(me, timeout, false)?;
        }
        // Should the initialiser unwind, the lock is released all the same and the next caller runs its own.
        struct Release<'a>(&'a Lock, robust::Me);
        impl Drop for Release<'_> {
            fn drop(&mut self) {
                // A dead predecessor's work is done anew, so there is nothing to repair.
                let _ = self.0.repair(self.1);
                self.0.release(self.1);
            }
        }
        let _release = Release(&self.lock, me);
        if !self.is_done() {
            initialiser()?;
            self.done().store(1, Ordering::Release);
        }
        Ok(())
    }
}
