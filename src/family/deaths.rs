//! Processes that have ended, and what follows from that; and how processes are ended.

use super::member::MemberState;
use super::restart_backoff::RestartBackoff;
use super::starting::NO_INIT_HINT;
use super::{Event, Family, PIDFDS};
use crate::error::{Code, Error, Result};
use crate::sys::clock::Deadline;
use crate::sys::epoll::Epoll;
use crate::sys::pidfd::Ended;
use crate::sys::spawn::Keeper;
use crate::sys::{pidfd, reserve, signal};
use crate::task::death::Death;
use crate::task::program;
use crate::task::ring::phase;
use crate::task::wire::{Message, MessageKind};
use std::os::fd::AsRawFd;

/// What a supervisor that has ended has left to its keeper.
#[derive(Debug)]
pub(super) struct Left {
    pub(super) keeper: Keeper,
    /// When it is looked for next, and until when.
    next: Deadline,
    until: Deadline,
}

/// For so long it is looked for what a supervisor has left.
const LEFT_NS: u64 = 5_000_000_000;

/// How long a worker may take to leave in good order when it is replaced.
const LEAVING_NS: u64 = 1_000_000_000;

impl Family {
    pub(super) fn look_at_members(&mut self, epoll: &Epoll) {
        for slot in 0..self.members.len() {
            let member = &mut self.members[slot];
            match member.state {
                MemberState::Starting { .. } if member.has_become_ready() => {
                    (member.state, member.was_ready) = (MemberState::Ready, true);
                    // Until all are ready for the first time a call waits for the pool, and has to say why it failed.
                    let ever_ready = self.backoff.ever_ready || self.all_ready();
                    let own_failures = self.backoff.own_failures;
                    self.backoff = RestartBackoff { ever_ready, own_failures, ..RestartBackoff::default() };
                    self.events.push_back(Event::Ready(slot));
                }
                MemberState::Dying => {
                    let Some(pidfd) = &member.pidfd else { continue };
                    if pidfd::has_ended(pidfd.as_raw_fd()) {
                        let _ = epoll.remove(pidfd.as_raw_fd());
                        pidfd::reap(pidfd.as_raw_fd());
                        // Nobody is left to say how it ended; the supervisor's death has killed it.
                        let death = Death::new(member.pid, libc::SIGKILL, 0, 0);
                        self.ended(slot, death);
                    }
                }
                _ => (),
            }
        }
    }

    pub(super) fn ended(&mut self, slot: usize, mut death: Death) {
        let leaving = self.members[slot].leaving;
        // One that took too long to leave was killed by this process, and has lost nothing.
        if leaving.is_some() && death.signal == 0 || leaving == Some(Deadline::NEVER) {
            self.workers_recycled += u64::from(!self.stopping);
        } else {
            self.worker_deaths += u64::from(!self.stopping);
        }
        let member = &mut self.members[slot];
        member.complete(&mut death, self.callees.as_ref());
        member.gave_up = member.gives_up();
        let gave_up = member.gave_up;
        member.was_ready |= member.phase() == phase::READY;
        let was_ready = member.was_ready;
        // Its program has worked before: what it met was a shortage.
        let fell_short = self.backoff.ever_ready && member.fell_short(&death);
        let own_fault = death.signal != libc::SIGKILL && !fell_short;
        let reason = (gave_up || !was_ready).then(|| member.start_failure(&death));
        // What an initializer's failure says is the user's affair; of a single process it is the answer.
        let is_single = self.settings.job.is_some();
        let said = member.failure_code();
        let of_shares = [libc::EEXIST, libc::ENOMEM, libc::EMFILE, libc::ENFILE].map(Code::errno);
        let share_code = said.filter(|code| of_shares.contains(code)).unwrap_or(of_shares[0]);
        let code = said.filter(|_| is_single).unwrap_or(Code::WORKER_START);
        member.state = MemberState::Ended;
        self.events.push_back(Event::Ended(slot, death));
        if let (true, Some(reason)) = (gave_up, &reason) {
            // The call that shares is told, if there still is one; the place gets a worker without the segment.
            self.could_not_map(slot, Error::new(share_code, reason.clone()));
            return;
        }
        if let Some(reason) = reason.filter(|_| !was_ready && !self.stopping) {
            self.start_failed(slot, own_fault, Error::new(code, reason));
        }
    }

    /// The pool has dealt with a worker that ended; its place can be filled again. `idle` is one that was ready and
    /// has never begun a task.
    pub(crate) fn bury(&mut self, slot: usize, death: &Death, idle: bool) {
        self.forget_glance();
        let was_ready = self.members[slot].was_ready;
        let excused = self.members[slot].leaving.is_some() || self.members[slot].gave_up;
        if idle && was_ready && !excused && !self.stopping && death.signal != libc::SIGKILL {
            let text = format!("{} before its first task", death.describe());
            self.start_failed(slot, true, Error::new(Code::WORKER_START, text));
        }
        let pause_ns = self.backoff.pause_ns();
        self.members[slot].vacate(pause_ns);
    }

    /// Asks a worker that has nothing under way to leave; [`Event::Ended`] follows, and its place is filled again.
    pub(crate) fn retire(&mut self, slot: usize) {
        self.forget_glance();
        self.members[slot].retire(Deadline::after(LEAVING_NS));
    }

    /// Sends a worker a signal; by way of the supervisor where this host may not: it may have become another user since, or have locked
    /// itself in. Whether the signal is pending by now; else it comes some time later, or the worker is gone.
    pub(crate) fn signal(&mut self, slot: usize, signal: i32) -> bool {
        let is_pending = self.members[slot].signal(signal).is_ok();
        if !is_pending {
            // Without a supervisor its death has done what could be asked for.
            let _ = self.ask_to_signal(slot, signal);
        }
        is_pending
    }

    /// Has the supervisor send a worker a signal.
    pub(crate) fn ask_to_signal(&mut self, slot: usize, signal: i32) -> Result<()> {
        let Some(link) = &mut self.link else { return Err(Code::errno(libc::ESRCH).into()) };
        let words = [slot as u64, self.members[slot].generation, signal as u64];
        link.send(Message::new(MessageKind::SignalWorker, &words), &self.epoll)
    }

    /// Ends a worker that cannot be trusted any more, or does not end by itself; [`Event::Ended`] follows.
    pub(crate) fn kill(&mut self, slot: usize) {
        self.signal(slot, libc::SIGKILL);
        self.wake_supervisor();
    }

    /// The supervisor is gone, or of no use; with why, where that is known.
    pub(super) fn lose_supervisor(&mut self, epoll: &Epoll, why: Option<Error>) {
        let Some((was_up, how)) = self.drop_link(epoll) else { return };
        self.supervisor_deaths += u64::from(!self.stopping);
        for slot in 0..self.members.len() {
            let member = &mut self.members[slot];
            let is_known = member.renew_pidfd();
            match (member.state, &member.pidfd) {
                (MemberState::Vacant { .. } | MemberState::Ended, _) => (),
                // Nothing is left by which its end could be seen, but that its supervisor takes it along.
                (MemberState::Starting { .. } | MemberState::Ready | MemberState::Dying, Some(_))
                    if !is_known =>
                {
                    let death = Death::new(member.pid, libc::SIGKILL, 0, 0);
                    self.ended(slot, death);
                }
                (MemberState::Dying, _) => (),
                (_, Some(pidfd)) => {
                    let _ = pidfd::signal(pidfd.as_raw_fd(), libc::SIGKILL);
                    let _ = epoll.add(pidfd.as_raw_fd(), PIDFDS | slot as u64);
                    member.state = MemberState::Dying;
                }
                // It goes with its supervisor. One that was ready has an end to tell of, and a single process's function has begun.
                (_, None) if member.was_ready || member.phase() == phase::READY => {
                    let death = Death::new(member.pid, libc::SIGKILL, 0, 0);
                    self.ended(slot, death);
                }
                (_, None) => member.vacate(0),
            }
        }
        if was_up || self.stopping {
            return;
        }
        match why {
            // It would say so each time.
            Some(error) if error.code() == Code::VERSION => self.break_down(error),
            Some(error) => self.could_not_start(error),
            None => {
                // Nobody but itself ends it by anything else than SIGKILL; a program that has worked may fall short.
                let own_fault = how.is_some_and(|how| how.signal != libc::SIGKILL);
                let fell_short = self.backoff.ever_ready
                    && how.is_some_and(|how| program::fell_short(how.signal, how.code));
                let how = match how {
                    Some(Ended { signal: 0, code, .. }) => format!("exited with code {code}"),
                    Some(Ended { signal, .. }) => format!("was ended by {}", signal::name(signal)),
                    None => "ended".to_owned(),
                };
                let text = format!("the supervisor {how} before it was up: {NO_INIT_HINT}");
                let error = Error::new(Code::WORKER_START, text);
                self.start_failed(usize::MAX, own_fault && !fell_short, error);
            }
        }
    }

    /// Lets go of the supervisor, which has ended or is to; whether it was up, and how it ended, where that is known.
    pub(super) fn drop_link(&mut self, epoll: &Epoll) -> Option<(bool, Option<Ended>)> {
        let link = self.link.take()?;
        let _ = epoll.remove(link.connection.fd());
        if let Some(pidfd) = &link.pidfd {
            let _ = epoll.remove(pidfd.as_raw_fd());
        }
        let known = (link.up, link.gone);
        let keeper = link.abandon();
        match reserve::grow(&mut self.left, 1) {
            Ok(()) => self.left.push(Left { keeper, next: Deadline(0), until: Deadline::after(LEFT_NS) }),
            Err(_) => keeper.leave(),
        }
        self.end_what_is_left();
        Some(known)
    }

    /// One more round of killing what supervisors that have ended have left: nobody else is there to do it. Never waits.
    pub(super) fn end_what_is_left(&mut self) {
        let mut at = 0;
        while let Some(left) = self.left.get_mut(at) {
            if !left.next.passed() {
                at += 1;
                continue;
            }
            left.next = Deadline::after(super::UNWATCHED_NS);
            match (left.keeper.kill_left(), left.until.passed()) {
                (None, _) => drop(self.left.swap_remove(at)),
                (Some(_), false) => at += 1,
                // Something in there cannot be killed.
                (Some(_), true) => self.left.swap_remove(at).keeper.leave(),
            }
        }
    }
}
