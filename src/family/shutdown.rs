//! How a family comes to its end, and what its host has to say in that: it stops a pool's; a single process's it only lets
//! run out, or leaves to itself.

use super::deaths::Left;
use super::link::Link;
use super::member::MemberState;
use super::{Event, Family};
use crate::error::Result;
use crate::sys::clock::{Deadline, now_ns};
use crate::sys::pidfd;
use crate::sys::prim::Ordering;
use crate::task::death::Death;
use crate::task::job::JobInput;
use crate::task::wire::{Message, MessageKind};
use std::os::fd::AsRawFd;

/// Killing and reaping takes the supervisor some milliseconds more than the workers were given.
const PATIENCE_NS: u64 = 500_000_000;

/// The supervisor of a family that has been told to end, where there is one.
#[derive(Debug)]
pub(crate) struct Leaving {
    link: Option<Link>,
    /// What earlier supervisors have left.
    left: Vec<Left>,
    until: Deadline,
}

impl Leaving {
    /// Waits for its end.
    pub(crate) fn wait(self) {
        if let Some(link) = self.link {
            link.finish(self.until);
        }
        for mut left in self.left {
            left.keeper.kill_all_left();
        }
    }

    /// Its workers have no longer than this, if they had.
    pub(crate) fn hurry(self, deadline: Deadline) -> Leaving {
        let until = Deadline(deadline.0.max(now_ns()).saturating_add(PATIENCE_NS));
        Leaving { until: self.until.min(until), ..self }
    }

    /// Looks whether it has ended, or has not been born. One whose time is up is killed.
    pub(crate) fn is_over(&mut self) -> bool {
        let Some(link) = self.link.as_mut().filter(|link| link.pidfd.is_some()) else { return true };
        link.flush();
        let has_ended = link.has_ended();
        if !has_ended
            && self.until.passed()
            && let Some(until) = link.end_late()
        {
            self.until = until;
        }
        has_ended
    }
}

impl Family {
    /// No place is filled any more, and no process is started again. A process that runs goes on to its end, and needs only its supervisor.
    pub(crate) fn start_no_more(&mut self) {
        self.stopping = true;
        self.end = None;
        self.shares.clear();
        self.members.iter_mut().for_each(super::Member::fall_silent);
        if let Some(job) = &mut self.settings.job {
            job.input = JobInput::default();
        }
    }

    /// Sends a signal to everything that descends from the supervisor. Where that is gone, what it has left is killed, whatever the signal.
    pub(crate) fn signal_tree(&mut self, signal: i32) -> Result<()> {
        self.left.iter_mut().for_each(|left| left.keeper.kill_all_left());
        if let Some(link) = &mut self.link {
            link.send(Message::new(MessageKind::SignalTree, &[signal as u64]), &self.epoll)?;
            link.signal(libc::SIGCONT);
        }
        Ok(())
    }

    /// Sends the supervisor a signal.
    pub(crate) fn signal_supervisor(&self, signal: i32) {
        if let Some(link) = &self.link {
            link.signal(signal);
        }
    }

    /// Leaves the family to itself: to its supervisor this host is gone.
    pub(crate) fn leave(mut self) {
        if let Some(link) = self.link.take() {
            link.leave();
        }
    }

    /// Ends the family and waits for it: workers may finish what they do until the deadline, then all are killed.
    pub(crate) fn stop(&mut self, deadline: Deadline) {
        self.begin_to_stop(deadline).wait();
        self.end_all();
    }

    /// The first half, which does not wait. Returns what is left to wait for.
    pub(crate) fn begin_to_stop(&mut self, deadline: Deadline) -> Leaving {
        self.stopping = true;
        self.drop_postponed();
        let grace_ns = deadline.0.saturating_sub(now_ns());
        let killed_at_once = deadline.passed();
        for member in &self.members {
            match &member.segment {
                Some(segment) if !killed_at_once => {
                    segment.leave.store(1, Ordering::Release);
                    segment.wake_worker();
                    // A stopped worker could not leave. If this host may not signal it, the supervisor does all of it.
                    let _ = member.signal(libc::SIGCONT);
                }
                _ => drop(member.signal(libc::SIGKILL)),
            }
        }
        let mut link = self.link.take();
        if let Some(link) = &mut link {
            let _ = self.epoll.remove(link.connection.fd());
            if let Some(pidfd) = &link.pidfd {
                let _ = self.epoll.remove(pidfd.as_raw_fd());
            }
            let detached = self.settings.job.as_ref().is_some_and(|job| job.detached);
            link.stop(grace_ns, detached);
        }
        // What a single process has started may be a lot, and no deadline has been promised.
        let patience_ns = if self.settings.job.is_some() { 10 * PATIENCE_NS } else { PATIENCE_NS };
        let left = std::mem::take(&mut self.left);
        Leaving { link, left, until: Deadline(deadline.0.max(now_ns()).saturating_add(patience_ns)) }
    }

    /// The second half: workers that are still there are killed.
    pub(crate) fn end_all(&mut self) {
        for (slot, member) in self.members.iter_mut().enumerate() {
            if let Some(pidfd) = member.pidfd.as_ref().map(AsRawFd::as_raw_fd) {
                // A worker that has become another user by executing a program may not be killed, and is not waited for.
                if pidfd::signal(pidfd, libc::SIGKILL).is_ok() {
                    pidfd::wait_end(pidfd, Deadline::NEVER);
                }
                pidfd::reap(pidfd);
            }
            if !matches!(member.state, MemberState::Vacant { .. } | MemberState::Ended) {
                let death = Death::new(member.pid, libc::SIGKILL, 0, 0);
                member.state = MemberState::Ended;
                self.events.push_back(Event::Ended(slot, death));
            }
        }
    }
}
