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
pub(super) struct EventFd {
    set: Epoll,
    due: Guarded,
    is_due: bool,
    /// Makes it readable when something is due and nobody sleeps in here.
    timer: Timer,
}

impl EventFd {
    fn new(inside: &Epoll) -> Result<EventFd> {
        let (set, due, timer) = (Epoll::new()?, Guarded::new(fd::eventfd()?), Timer::new()?);
        for (token, fd) in [inside.fd(), due.as_raw_fd(), timer.fd()].into_iter().enumerate() {
            set.add(fd, token as u64)?;
        }
        Ok(EventFd { set, due, is_due: false, timer })
    }
}

impl State {
    /// The descriptor; from now on everything that happens makes it readable.
    pub(super) fn open_event_fd(&mut self) -> Result<RawFd> {
        if self.event_fd.is_none() {
            self.event_fd = Some(EventFd::new(&self.epoll)?);
        }
        self.listen();
        self.pump(true);
        Ok(self.event_fd.as_ref().map_or(-1, |event_fd| event_fd.set.fd()))
    }

    /// Whether anybody has asked for it.
    pub(super) fn is_looked_at(&self) -> bool {
        self.event_fd.is_some()
    }

    /// Makes it readable while there is something to take or to tell.
    pub(super) fn update_event_fd(&mut self) {
        if self.event_fd.is_none() {
            return;
        }
        let wanted = self.finished.len() > 0 || self.has_news() || self.any_stream_has_results();
        if let Some(event_fd) = self.event_fd.as_mut().filter(|event_fd| event_fd.is_due != wanted) {
            event_fd.is_due = wanted;
            match wanted {
                true => fd::eventfd_signal(event_fd.due.as_raw_fd()),
                false => fd::eventfd_clear(event_fd.due.as_raw_fd()),
            }
        }
    }

    /// Makes it readable at that time.
    pub(super) fn set_event_fd_timer(&mut self, due: Deadline) {
        if let Some(event_fd) = &mut self.event_fd {
            event_fd.timer.set(due);
        }
    }

    /// The same, if nothing earlier is set.
    pub(super) fn call_outside_by(&mut self, due: Deadline) {
        if let Some(event_fd) = &mut self.event_fd {
            event_fd.timer.set_by(due);
        }
    }
}
