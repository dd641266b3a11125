//! What the supervisor sleeps for: messages, ends, output, and the deadline of a single process.

use super::{Child, KEEPER, OUTPUT, SOCKET, Supervisor, UNWATCHED_NS};
use crate::error::Result;
use crate::sys::clock::Deadline;
use crate::sys::epoll::Waited;
use crate::sys::pidfd;
use std::os::fd::AsRawFd;

impl Supervisor {
    /// Sleeps until something happens or is due, and reads what workers have written.
    pub(super) fn wait(&mut self, deadline: Deadline) -> Result<()> {
        let deadline = deadline.min(self.connection.next_try()).min(self.watch_writable());
        let deadline =
            self.workers.values_mut().fold(deadline, |deadline, worker| worker.keep_limit(deadline));
        let mut tokens = [0; 32];
        let Waited::Ready(count) = self.epoll.wait(&mut tokens, deadline)? else { return Ok(()) };
        self.keeper_ended |= tokens[..count].contains(&KEEPER) && pidfd::has_ended(self.keeper.as_raw_fd());
        if tokens[..count].contains(&OUTPUT) {
            for tail in self.workers.values_mut().filter_map(|worker| worker.tail.as_mut()) {
                if tail.read() == Some(0) {
                    // A worker that has closed what it could write to would wake this process for ever.
                    let _ = self.epoll.remove(tail.fd());
                }
            }
        }
        Ok(())
    }

    /// Has itself told of room in the socket while something waits for that. Where that cannot be: when to look.
    pub(super) fn watch_writable(&mut self) -> Deadline {
        let wanted = self.connection.awaits_room();
        if wanted != self.writable_watched {
            if self.epoll.watch_writable(self.connection.fd(), SOCKET, wanted).is_err() {
                return Deadline::after(UNWATCHED_NS);
            }
            self.writable_watched = wanted;
        }
        Deadline::NEVER
    }
}

impl Child {
    /// Does what is due. Returns the earlier of `deadline` and the time of the next step.
    pub(super) fn keep_limit(&mut self, deadline: Deadline) -> Deadline {
        let fd = self.pidfd.as_raw_fd();
        match self.limit {
            TimeLimit::Running { due, grace_ns } if due.passed() => {
                let _ = pidfd::signal(fd, libc::SIGTERM);
                self.limit = TimeLimit::Late { due: Deadline::after(grace_ns) };
            }
            TimeLimit::Late { due } if due.passed() => {
                let _ = pidfd::signal(fd, libc::SIGKILL);
                self.limit = TimeLimit::Late { due: Deadline::NEVER };
            }
            _ => (),
        }
        match self.limit {
            TimeLimit::None => deadline,
            TimeLimit::Running { due, .. } | TimeLimit::Late { due } => deadline.min(due),
        }
    }
}

/// Of a single process: when it is to be ended, and how far that has got.
#[derive(Clone, Copy, Debug)]
pub(super) enum TimeLimit {
    None,
    /// When it gets SIGTERM, and how long it may live on after that.
    Running {
        due: Deadline,
        grace_ns: u64,
    },
    /// When it gets SIGKILL.
    Late {
        due: Deadline,
    },
}
