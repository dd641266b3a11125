//! Calls that are made one after the other, by threads that do not wait longer than they want to.
//!
//! | word | means | who moves it on |
//! |---|---|---|
//! | FREE | it is nobody's turn | who wants it: TAKEN |
//! | TAKEN | it is a thread's, and nobody waits | its thread, at the end: FREE; who comes then: AWAITED |
//! | AWAITED | it is a thread's, and others may sleep | its thread, at the end: FREE, and one sleeper is woken |
//!
//! A sleeper that is woken takes the turn by AWAITED, because others may sleep behind it. It looks at the word once more before it gives up,
//! whatever has ended its sleep, so no wake-up is lost with a thread that leaves.

use super::standby::FAR;
use crate::error::{Code, Error, Result};
use crate::sys::clock::{Deadline, Timeout};
use crate::sys::prim::{AtomicU32, Ordering, Wait, futex_wait, futex_wake};
use crate::sys::thread;
use std::sync::{Mutex, PoisonError};

const FREE: u32 = 0;
const TAKEN: u32 = 1;
const AWAITED: u32 = 2;

/// Whose turn it is: nobody's, or that of the thread that has a [`Turn`].
#[derive(Debug, Default)]
pub(super) struct Turns {
    word: AtomicU32,
    /// The thread that has the turn; for that thread alone to recognise itself by.
    holder: Mutex<Option<thread::Id>>,
}

/// It is this thread's, until it is dropped.
pub(super) struct Turn<'a>(&'a Turns);

impl Turns {
    /// Waits for its turn: `EAGAIN` for who does not wait, `ETIMEDOUT` where it does not come in time, `EINTR` where a signal comes and
    /// `interruptible` says so. `EDEADLK` in a callback that runs in the very call that has the turn.
    pub(super) fn take(&self, timeout: Timeout, deadline: Deadline, interruptible: bool) -> Result<Turn<'_>> {
        if self.word.compare_exchange(FREE, TAKEN, Ordering::Acquire, Ordering::Relaxed).is_err() {
            self.wait(timeout, deadline, interruptible)?;
        }
        self.note_holder(Some(thread::this()));
        Ok(Turn(self))
    }

    #[cold]
    fn wait(&self, timeout: Timeout, deadline: Deadline, interruptible: bool) -> Result<()> {
        if *self.holder.lock().unwrap_or_else(PoisonError::into_inner) == Some(thread::this()) {
            return Err(Error::errno(
                libc::EDEADLK,
                "this callback runs in a call of the same kind for the same pool",
            ));
        }
        let mut interrupted = false;
        // Acquire pairs with the Release of `drop`.
        while self.word.swap(AWAITED, Ordering::Acquire) != FREE {
            if interrupted {
                return Err(Code::errno(libc::EINTR).into());
            }
            if deadline.passed() {
                return Err(timeout.error());
            }
            // A sleep without any limit would be gone on with after a signal, and the caller not told.
            let waited = futex_wait(&self.word, AWAITED, deadline.min(FAR));
            interrupted = interruptible && waited == Wait::Interrupted;
        }
        Ok(())
    }

    fn note_holder(&self, holder: Option<thread::Id>) {
        *self.holder.lock().unwrap_or_else(PoisonError::into_inner) = holder;
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.note_holder(None);
        if self.0.word.swap(FREE, Ordering::Release) == AWAITED {
            futex_wake(&self.0.word, 1);
        }
    }
}
