//! Supervisors and workers that are to come up: starting them, and what a start that failed leads to.

use super::link::Link;
use super::member::{Member, MemberState};
use super::restart_backoff::HOPELESS;
use super::{Event, Family, MARKED_FROM, SOCKET, sharing};
use crate::error::{Code, Error, Result};
use crate::heap::Heap;
use crate::sys::clock::{Deadline, now_ns};
use crate::sys::epoll::Epoll;
use crate::sys::pidfd;
use crate::sys::prim::Ordering;
use crate::task::StartMethod;
use crate::task::handover::Handover;
use crate::task::job::ONLY_TASK;
use crate::task::wire::{Message, MessageKind};
use std::os::fd::AsRawFd;
use std::sync::Arc;

/// Workers that are being started at a time: their descriptors are on their way, of which there are only so many.
const AT_ONCE: usize = 16;

pub(super) const NO_INIT_HINT: &str = "does the program's main call tine_init before anything else?";

impl Family {
    /// Why there is no supervisor.
    pub(super) fn no_supervisor(&self, errno: i32) -> Error {
        let what = match (&self.program, self.settings.start) {
            (Some(command), _) => format!("starting {}", command.path.to_string_lossy()),
            (None, StartMethod::Fork) => "fork".to_owned(),
            (None, _) if errno == libc::ENOENT => {
                "starting this program once more takes /proc (.worker_path and the start method fork do not)"
                    .to_owned()
            }
            (None, _) => "starting this program once more".to_owned(),
        };
        let why = Code::errno(errno);
        let text = format!("{what}: {}", why.text().to_string_lossy());
        Error::new(start_code(&why.into()), text)
    }

    pub(super) fn start_failed(&mut self, slot: usize, own_fault: bool, reason: Error) {
        let since = *self.backoff.since_ns.get_or_insert_with(now_ns);
        if own_fault {
            self.backoff.own_failures += 1;
        } else {
            self.backoff.killed += 1;
        }
        let enough = if self.backoff.ever_ready { 3 } else { 1 };
        let now = now_ns();
        let too_long = now.saturating_sub(since) > self.start_timeout_ns;
        let hopeless = !self.backoff.ever_ready && self.backoff.killed >= HOPELESS;
        // Workers that do work are not ended for the sake of one that does not come up.
        let others = self.members.iter().any(|member| member.state == MemberState::Ready);
        let may_go_on = others && self.backoff.ever_ready;
        if may_go_on {
            self.backoff.since_ns = Some(now);
        } else if self.backoff.own_failures >= enough || hopeless || too_long && !self.backoff.ever_ready {
            return self.break_down(reason);
        } else if too_long {
            self.backoff.since_ns = Some(now);
            self.events.push_back(Event::Starved(reason));
        }
        if slot == usize::MAX {
            self.link_not_before_ns = now + self.backoff.pause_ns();
        }
    }

    /// The machine did not give what a process takes. At first that is the answer; later it may pass.
    pub(super) fn could_not_start(&mut self, error: Error) {
        let text = error.text().into_owned();
        if !self.backoff.ever_ready {
            return self.break_down(Error::new(start_code(&error), text));
        }
        self.start_failed(usize::MAX, false, Error::new(Code::WORKER_START, text));
        let pause_ns = self.backoff.pause_ns();
        for member in &mut self.members {
            if matches!(member.state, MemberState::Vacant { .. }) {
                member.vacate(pause_ns);
            }
        }
    }

    pub(super) fn break_down(&mut self, error: Error) {
        if !self.stopping {
            self.events.push_back(Event::Broken(error));
        }
        self.stopping = true;
        (0..self.members.len()).for_each(|slot| self.kill(slot));
    }

    pub(super) fn check_timeouts(&mut self, epoll: &Epoll) {
        let seconds = self.start_timeout_ns as f64 / 1e9;
        if let Some(link) = self.link.as_mut().filter(|link| !link.up && link.deadline.passed()) {
            link.kill();
            let text = format!("the supervisor did not report within {seconds} s: {NO_INIT_HINT}");
            return self.lose_supervisor(epoll, Some(Error::new(Code::WORKER_START, text)));
        }
        let unsent = self.link.as_ref().is_some_and(|link| link.connection.is_waiting());
        for slot in 0..self.members.len() {
            if self.members[slot].leaving.is_some_and(Deadline::passed) {
                self.kill(slot);
                self.members[slot].leaving = Some(Deadline::NEVER);
            }
            let member = &self.members[slot];
            let late = matches!(member.state, MemberState::Starting { deadline } if deadline.passed());
            if !late {
                continue;
            }
            // This process itself has not told it, or has not heard: not the worker's fault.
            if unsent && member.pid == 0 || member.pid != 0 && member.pidfd.is_none() {
                self.members[slot].state =
                    MemberState::Starting { deadline: Deadline::after(self.start_timeout_ns) };
                continue;
            }
            self.kill(slot);
            let member = &mut self.members[slot];
            if let (None, Some(pidfd)) =
                (&member.pidfd, self.link.as_ref().and_then(|link| link.pidfd.as_ref()))
            {
                // The supervisor itself does not answer; the next one will.
                let _ = pidfd::signal(pidfd.as_raw_fd(), libc::SIGKILL);
            }
            if !self.backoff.ever_ready {
                let text = format!("worker {} was not ready within {seconds} s", member.pid);
                return self.break_down(Error::new(Code::WORKER_START, text));
            }
            // Its end is a failed start like any other.
            member.state = MemberState::Starting { deadline: Deadline::NEVER };
        }
    }

    pub(super) fn fill_places(&mut self, heap: &Heap, epoll: &Arc<Epoll>) -> Result<()> {
        if self.link.is_none() {
            if now_ns() < self.link_not_before_ns || !self.may_be_born() {
                return Ok(());
            }
            if heap.fd() < 0 {
                // For good: without it the heap cannot be given to any process.
                let text = "the program has closed the pool's descriptors, so that no worker can be started";
                self.break_down(Error::new(Code::WORKER_START, text));
                return Ok(());
            }
            let link =
                Link::start(&self.settings, self.program.as_ref(), self.entry, heap, self.start_timeout_ns);
            let link = link?;
            if let Err(error) = epoll.add(link.connection.fd(), SOCKET) {
                link.finish(Deadline(0));
                return Err(error);
            }
            self.link = Some(link);
        }
        let Some(link) = &mut self.link else { return Ok(()) };
        let unanswered =
            |member: &Member| matches!(member.state, MemberState::Starting { .. }) && member.pidfd.is_none();
        let mut room =
            AT_ONCE.saturating_sub(self.members.iter().filter(|member| unanswered(member)).count());
        let marked = self.members.len() > MARKED_FROM;
        let trial = sharing::passing(self.sharing.as_ref(), &self.trials);
        for (slot, member) in self.members.iter_mut().enumerate() {
            let MemberState::Vacant { not_before_ns } = member.state else { continue };
            if member.parked || room == 0 || (not_before_ns != 0 && now_ns() < not_before_ns) {
                continue;
            }
            let mark = if marked { slot as u32 + 1 } else { 0 };
            let fds =
                member.prepare(slot as u64, epoll, self.start_timeout_ns, (&self.shares, trial), mark)?;
            if let Some(segment) = member.segment.as_ref().filter(|_| self.traced) {
                segment.traced.store(1, Ordering::Relaxed);
            }
            if let Some(end) = &self.end {
                let passed = Handover::new().and_then(|handover| {
                    handover.put(end, ONLY_TASK)?;
                    member.pass_handover(&handover)
                });
                passed.inspect_err(|_| member.vacate(0))?;
                member.announce_all();
            }
            let words = [slot as u64, member.generation];
            let message = Message::new(MessageKind::StartWorker, &words).with_fds(fds);
            if let Err(error) = link.connection.try_send(message) {
                member.vacate(0);
                return Err(error);
            }
            room -= 1;
        }
        Ok(())
    }

    /// Whether a supervisor can be started by this call.
    pub(super) fn may_be_born(&self) -> bool {
        self.host_calls || !self.forks_host()
    }

    /// Whether workers have the host's memory, by fork.
    pub(crate) fn forks_host(&self) -> bool {
        self.settings.start == StartMethod::Fork
    }

    /// How much of the host's private memory workers have by fork, as far as that is known without a look at any of them.
    pub(crate) fn bytes_by_fork(&self) -> Option<u64> {
        self.link.as_ref().and_then(|link| link.host_bytes)
    }
}

/// A start that failed for a reason of its own keeps it; what says nothing to the caller is a failed start.
fn start_code(error: &Error) -> Code {
    match -error.code().0 {
        libc::ENOMEM | libc::EMFILE | libc::ENFILE => error.code(),
        _ if error.code().0 < -4095 => error.code(),
        _ => Code::WORKER_START,
    }
}
