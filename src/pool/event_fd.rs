//! The pool's descriptor: what a host's own event loop looks at.
//!
//! It is a set of its own, made when it is first asked for. In it are the set in which the pool's leader sleeps, an
//! eventfd that is readable while there are results to take or callbacks to call, and a timer. The last two are not in the
//! leader's set: a thread that waits for one task has to sleep while the results of others wait for the event loop.

use super::state::PoolState;
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
        let (set, due, timer) = (Epoll::new()?, Guarded::marked(fd::eventfd()?), Timer::new()?);
        for (token, fd) in [inside.fd(), due.as_raw_fd(), timer.fd()].into_iter().enumerate() {
            set.add(fd, token as u64)?;
        }
        Ok(EventFd { set, due, is_due: false, timer })
    }

    /// Makes it readable while this is so.
    fn update(&mut self, is_due: bool) {
        match (std::mem::replace(&mut self.is_due, is_due), is_due) {
            (false, true) => fd::eventfd_signal(self.due.as_raw_fd()),
            (true, false) => fd::eventfd_clear(self.due.as_raw_fd()),
            _ => (),
        }
    }

    /// Makes it readable at that time.
    pub(super) fn set_timer(&mut self, due: Deadline) {
        self.timer.set(due);
    }

    /// The same, if nothing earlier is set.
    pub(super) fn set_timer_by(&mut self, due: Deadline) {
        self.timer.set_by(due);
    }
}

impl PoolState {
    /// The descriptor; from now on everything that happens makes it readable.
    pub(super) fn open_event_fd(&mut self) -> Result<RawFd> {
        if self.waiters.event_fd.is_none() {
            self.waiters.event_fd = Some(EventFd::new(self.family.epoll())?);
        }
        self.listen();
        self.pump(true);
        Ok(self.waiters.event_fd.as_ref().map_or(-1, |event_fd| event_fd.set.fd()))
    }

    /// Makes it readable while there is something to take or to tell.
    #[inline]
    pub(super) fn update_event_fd(&mut self) {
        if self.waiters.event_fd.is_some() {
            self.set_event_fd();
        }
    }

    fn set_event_fd(&mut self) {
        let wanted =
            self.submissions.finished() > 0 || self.has_news_for_host() || self.any_stream_has_results();
        if let Some(event_fd) = &mut self.waiters.event_fd {
            event_fd.update(wanted);
        }
    }
}
