//! Calls that are made one after the other, by threads that do not wait longer than they want to.

use crate::error::{Code, Result};
use crate::sys::clock::{Deadline, Timeout, now_ns};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Whose turn it is: nobody's, or that of the thread that has a [`Turn`].
#[derive(Debug, Default)]
pub(super) struct Turns {
    taken: Mutex<bool>,
    free: Condvar,
}

/// It is this thread's, until it is dropped.
pub(super) struct Turn<'a>(&'a Turns);

impl Turns {
    /// Waits for its turn: `EAGAIN` for who does not wait, `ETIMEDOUT` where it does not come in time.
    pub(super) fn take(&self, timeout: Timeout, deadline: Deadline) -> Result<Turn<'_>> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        while *taken {
            if deadline.passed() {
                let errno = if timeout == Timeout::Try { libc::EAGAIN } else { libc::ETIMEDOUT };
                return Err(Code::errno(errno).into());
            }
            let left = Duration::from_nanos(deadline.0.saturating_sub(now_ns()));
            taken = self.free.wait_timeout(taken, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        *taken = true;
        Ok(Turn(self))
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        *self.0.taken.lock().unwrap_or_else(PoisonError::into_inner) = false;
        self.0.free.notify_one();
    }
}
