//! The pool's descriptor: what a host's own event loop looks at.
//!
//! It is a set of its own, made when it is first asked for. In it are the set in which the pool's leader sleeps, an
//! eventfd that is readable while there are results to take or callbacks to call, and a timer. The last two are not in the
//! leader's set: a thread that waits for one task has to sleep while the results of others wait for the event loop.

use super::state::State;
use crate::error::Result;
use crate::sys::clock::Deadline;
use crate::sys::epoll::Epoll;
use crate::sys::fd::{self, Guarded, Timer};
use std::os::fd::{AsRawFd, RawFd};

#[derive(Debug)]
pub(super) struct Outside {
    set: Epoll,
    due: Guarded,
    is_due: bool,
    /// Makes it readable when something is due and nobody sleeps in here.
    timer: Timer,
}

impl Outside {
    fn new(inside: &Epoll) -> Result<Outside> {
        let (set, due, timer) = (Epoll::new()?, Guarded::new(fd::eventfd()?), Timer::new()?);
        for (token, fd) in [inside.fd(), due.as_raw_fd(), timer.fd()].into_iter().enumerate() {
            set.add(fd, token as u64)?;
        }
        Ok(Outside { set, due, is_due: false, timer })
    }
}

impl State {
    /// The descriptor; from now on everything that happens makes it readable.
    pub(super) fn look_from_outside(&mut self) -> Result<RawFd> {
        if self.outside.is_none() {
            self.outside = Some(Outside::new(&self.epoll)?);
        }
        self.listen();
        self.pump(true);
        Ok(self.outside.as_ref().map_or(-1, |outside| outside.set.fd()))
    }

    /// Whether anybody has asked for it.
    pub(super) fn is_looked_at(&self) -> bool {
        self.outside.is_some()
    }

    /// Makes it readable while there is something to take or to tell.
    pub(super) fn update_outside(&mut self) {
        if self.outside.is_none() {
            return;
        }
        let wanted = self.finished_count > 0 || self.has_news() || self.any_line_has_results();
        if let Some(outside) = self.outside.as_mut().filter(|outside| outside.is_due != wanted) {
            outside.is_due = wanted;
            match wanted {
                true => fd::eventfd_signal(outside.due.as_raw_fd()),
                false => fd::eventfd_clear(outside.due.as_raw_fd()),
            }
        }
    }

    /// Makes it readable at that time.
    pub(super) fn call_outside_at(&mut self, due: Deadline) {
        if let Some(outside) = &mut self.outside {
            outside.timer.set(due);
        }
    }

    /// The same, if nothing earlier is set.
    pub(super) fn call_outside_by(&mut self, due: Deadline) {
        if let Some(outside) = &mut self.outside {
            outside.timer.set_by(due);
        }
    }
}
