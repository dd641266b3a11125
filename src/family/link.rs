//! The host's end of a supervisor: starting the supervisor, and what the host knows of it.

use super::{Entry, SOCKET, UNWATCHED_NS};
use crate::error::{Code, Error, Result};
use crate::heap::Heap;
use crate::sys::children::Command;
use crate::sys::clock::{Deadline, now_ns};
use crate::sys::epoll::Epoll;
use crate::sys::fd::{self, Guarded};
use crate::sys::pidfd::Ended;
use crate::sys::spawn::{self, Keeper, News, Start};
use crate::sys::{fork, limits, owner, pidfd, signal, socket, threads};
use crate::task::StartMethod;
use crate::task::function::Tables;
use crate::task::program;
use crate::task::settings::Settings;
use crate::task::wire::{self, Connection, Message, MessageKind, Reader, Writer};
use std::os::fd::{AsRawFd, OwnedFd};

/// A supervisor, from its start until it is known to be gone.
///
/// ```text
///   STARTING   its keeper exists, `Configure` is on its way; `start_timeout` runs
///     | Born: the process exists, and its pidfd is here
///     | Ready
///   UP         has said what it can call
/// ```
pub(crate) struct Link {
    pub(super) connection: Connection,
    pub(super) pidfd: Option<Guarded>,
    pub(super) up: bool,
    pub(super) deadline: Deadline,
    pub(super) writable_watched: bool,
    /// How it has ended, where its keeper has told.
    pub(super) gone: Option<Ended>,
    /// What the host had of private memory when the supervisor was forked from it; `None` where it was not, or nobody could say.
    pub(super) host_bytes: Option<u64>,
    /// It is a detached process's, so that the host's copy has made another one as the keeper.
    was_copied: bool,
    /// Ends with the family; see `sys::spawn`.
    keeper: Keeper,
}

/// How long a copy of a small host may take at least.
const FIRST_NS: u64 = 20_000_000;

/// In a host with threads, how long a copy of it may take to be forked from. It may stand still in there: see `sys::spawn`. To copy the tables of a
/// host's pages takes the copy about as long as it took the host, so that of a large one may take that long several times.
fn patience_ns(attempt: u32, copied_within_ns: u64) -> u64 {
    const COPIES: u64 = 8;
    FIRST_NS.max(copied_within_ns.saturating_mul(COPIES)).saturating_mul(1 << attempt.min(20))
}

impl std::fmt::Debug for Link {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Link").field("up", &self.up).field("pidfd", &self.pidfd).finish_non_exhaustive()
    }
}

impl Link {
    /// Starts a supervisor and tells it what it is to be.
    pub(super) fn start(
        settings: &Settings,
        program: Option<&Command>,
        entry: Entry,
        heap: &Heap,
        timeout_ns: u64,
    ) -> Result<Link> {
        let deadline = Deadline::after(timeout_ns);
        let mut writer = Writer::default();
        settings.encode(&mut writer);
        let mut fds = vec![fd::duplicate(heap.fd())?, fork::own_pidfd()?, wire::to_memfd(&writer.finish()?)?];
        fds.extend(settings.copy_of_input()?);
        let words = [wire::version(), heap.address() as u64, heap.mapped_bytes() as u64];
        let configure = Message::new(MessageKind::Configure, &words).with_fds(fds);
        let is_forked = settings.start == StartMethod::Fork;
        let host_bytes = is_forked.then(|| limits::private_bytes(owner::getpid() as i32)).flatten();
        let (ours, keeper) = match settings.start {
            StartMethod::Fork => fork_host(settings, entry, deadline)?,
            _ => execute(settings, program)?,
        };
        let mut connection = Connection::new(ours);
        connection.try_send(configure).inspect_err(|_| keeper.kill())?;
        let (pidfd, gone) = (None, None);
        Ok(Link {
            connection,
            pidfd,
            up: false,
            deadline,
            writable_watched: false,
            gone,
            host_bytes,
            was_copied: is_detached(settings),
            keeper,
        })
    }

    /// One that is up, and the other end of its socket. There is no process.
    #[cfg(test)]
    pub(super) fn of_a_test() -> (Link, Connection) {
        let (ours, theirs) = socket::pair().unwrap();
        let connection = Connection::new(ours);
        let (deadline, keeper) = (Deadline::NEVER, Keeper::of_nobody());
        let link = Link {
            connection,
            pidfd: None,
            up: true,
            deadline,
            writable_watched: false,
            gone: None,
            host_bytes: None,
            was_copied: false,
            keeper,
        };
        (link, Connection::new(theirs))
    }

    /// Takes the keeper's word that the process exists; the errno of why it does not.
    pub(super) fn is_born(&mut self, message: Message) -> std::result::Result<(), i32> {
        match message.words[0] as i32 {
            0 => {
                // `Ready` may have overtaken this message, and has brought the pidfd.
                if self.pidfd.is_none() {
                    self.pidfd = message.fds.into_iter().next().map(Guarded::new);
                }
                if self.pidfd.is_some() {
                    self.keeper.let_go(self.was_copied);
                }
                Ok(())
            }
            errno => Err(errno),
        }
    }

    /// Takes the supervisor's word that it is up; what it can call.
    pub(super) fn is_up(&mut self, message: Message) -> Result<Tables> {
        if message.words[0] != wire::version() {
            return Err(Code::VERSION.into());
        }
        let [pidfd, tables]: [OwnedFd; 2] = message
            .whole()?
            .fds
            .try_into()
            .map_err(|_| Error::errno(libc::EPROTO, "the supervisor's descriptors are missing"))?;
        self.pidfd = Some(Guarded::new(pidfd));
        self.keeper.let_go(self.was_copied);
        self.up = true;
        Tables::decode(&mut Reader(&wire::from_memfd(&tables)?))
    }

    /// When something is to be done though nothing happens.
    #[inline]
    pub(super) fn next_deadline(&self) -> Deadline {
        let start = if self.up { Deadline::NEVER } else { self.deadline };
        start.min(self.unsent_due())
    }

    /// When what waits to be sent is to be tried again though nothing happens.
    #[inline]
    pub(super) fn unsent_due(&self) -> Deadline {
        let unwatched = self.connection.awaits_room() != self.writable_watched;
        let look = if unwatched { Deadline::after(UNWATCHED_NS) } else { Deadline::NEVER };
        look.min(self.connection.next_try())
    }

    /// Sends the supervisor a message. Where it has to wait, those are woken who sleep on the family's descriptors: they
    /// do not know yet when it is due.
    pub(super) fn send(&mut self, message: Message, epoll: &Epoll) -> Result<()> {
        self.connection.send(message)?;
        if self.connection.is_waiting()
            && !self.writable_watched
            && epoll.watch_writable(self.connection.fd(), SOCKET, true).is_ok()
        {
            self.writable_watched = true;
        }
        Ok(())
    }

    /// Whether the supervisor is known to have ended.
    pub(super) fn has_ended(&self) -> bool {
        self.pidfd.as_ref().is_some_and(|pidfd| pidfd::has_ended(pidfd.as_raw_fd()))
    }

    /// Sends it a signal.
    pub(super) fn signal(&self, signal: i32) {
        if let Some(pidfd) = &self.pidfd {
            let _ = pidfd::signal(pidfd.as_raw_fd(), signal);
        }
    }

    /// Ends the supervisor, even before it has said who it is.
    pub(super) fn kill(&mut self) {
        match &self.pidfd {
            Some(_) => self.signal(libc::SIGKILL),
            None => {
                // The keeper of a supervisor that the host gives up is not to be killed. The supervisor reads this before the end of the socket.
                let _ = self.connection.send(Message::new(MessageKind::Stop, &[0]));
                self.keeper.kill();
            }
        }
    }

    /// Lets it live on without this host; with its keeper, which keeps for as long as the family lives.
    pub(super) fn leave(mut self) {
        // A forked child of the host may have the socket as well, so that to close it says nothing.
        self.connection.shut_down();
        self.keeper.leave();
    }

    /// Has the supervisor end the family, its workers within `grace_ns`. If it cannot be told so now, the end of the socket says the same
    /// of a family that is to end at once, and is no `detached` process's.
    pub(super) fn stop(&mut self, grace_ns: u64, detached: bool) {
        let _ = self.connection.send(Message::new(MessageKind::Stop, &[grace_ns]));
        if grace_ns == 0 && !detached && self.connection.is_waiting() {
            self.connection.shut_down();
        }
        self.signal(libc::SIGCONT);
    }

    /// Sends what waits, as far as that is possible.
    pub(super) fn flush(&mut self) {
        // Of a socket that is not what it was the supervisor's end tells.
        let _ = self.connection.flush();
    }

    /// Sends what waits, and waits for the supervisor's end; whether it has ended.
    fn wait_end(&mut self, deadline: Deadline) -> bool {
        loop {
            self.flush();
            // Nobody watches for room in the socket any more.
            let room =
                if self.connection.awaits_room() { Deadline::after(UNWATCHED_NS) } else { Deadline::NEVER };
            let due = deadline.min(self.connection.next_try()).min(room);
            match &self.pidfd {
                Some(pidfd) if pidfd::wait_end(pidfd.as_raw_fd(), due) => return true,
                // Where the program has closed it nobody can wait.
                Some(pidfd) if pidfd.is_ours() && !deadline.passed() => (),
                _ => return false,
            }
        }
    }

    /// The supervisor's time is up. It is killed; but where it could not be told to end it is told by the end of the socket, and has
    /// until the time that this returns: nobody but it can end what its workers have started.
    pub(super) fn end_late(&mut self) -> Option<Deadline> {
        if self.connection.is_waiting() {
            self.connection.shut_down();
            return Some(Deadline::after(REFUSED_NS));
        }
        self.signal(libc::SIGKILL);
        None
    }

    /// Waits for the supervisor's end, which has been asked for; kills it if it takes longer.
    pub(super) fn finish(mut self, deadline: Deadline) {
        let mut in_order = true;
        if self.pidfd.is_some() && !self.wait_end(deadline) {
            in_order = match self.end_late() {
                Some(deadline) => self.wait_end(deadline),
                None => false,
            };
        }
        // A supervisor that has ended by itself has left nothing: what its keeper has besides is somebody else's.
        match self.abandon() {
            keeper if in_order => drop(keeper),
            mut keeper => keeper.kill_all_left(),
        }
    }

    /// Lets go of the supervisor, which has ended or is killed now. Returns the keeper, to which it may have left something.
    pub(super) fn abandon(self) -> Keeper {
        let Link { mut connection, pidfd, keeper, .. } = self;
        match &pidfd {
            Some(pidfd) if !pidfd::has_ended(pidfd.as_raw_fd()) => {
                let killed = pidfd::signal(pidfd.as_raw_fd(), libc::SIGKILL).is_ok();
                // One that this host may not kill any more sees the end of the socket; one that is stopped sees nothing.
                connection.shut_down();
                let patience = if killed { Deadline::NEVER } else { Deadline::after(REFUSED_NS) };
                pidfd::wait_end(pidfd.as_raw_fd(), patience);
            }
            Some(_) => (),
            None => {
                if signal::adopts_orphans() {
                    // Else a supervisor that is not known yet would become this process's child, and nobody would reap it.
                    connection.shut_down();
                    keeper.wait_end();
                }
                keeper.kill();
            }
        }
        if let Some(pidfd) = &pidfd {
            // Where the keeper was killed and the host adopts orphans, the supervisor is the host's child.
            pidfd::reap(pidfd.as_raw_fd());
        }
        keeper
    }
}

/// How long a supervisor may take to end that the host asks to and may not kill.
const REFUSED_NS: u64 = 1_000_000_000;

const NEWS: News = News { born: MessageKind::Born as u64, gone: MessageKind::Gone as u64 };

/// A supervisor that runs a program.
fn execute(settings: &Settings, program: Option<&Command>) -> Result<(OwnedFd, Keeper)> {
    let (ours, theirs) = socket::pair()?;
    let program = match program {
        Some(command) => program::start_of(command, &settings.environment.variables)?,
        None => program::program_again(&settings.environment.variables)?,
    };
    let start = Start::Exec { path: program.path(), argv: program.argv(), envp: program.envp() };
    Ok((ours, spawn::born(start, theirs.as_raw_fd(), &NEWS, is_detached(settings))?))
}

fn is_detached(settings: &Settings) -> bool {
    settings.job.as_ref().is_some_and(|job| job.detached)
}

/// A supervisor that is a copy of this process. Where there are other threads, a copy in which one of their locks is held for ever is
/// given up, and another one is made.
fn fork_host(settings: &Settings, entry: Entry, deadline: Deadline) -> Result<(OwnedFd, Keeper)> {
    let mut attempt = 0;
    loop {
        let (ours, theirs) = socket::pair()?;
        let start = Start::Fork { run: entry };
        let began_ns = now_ns();
        let keeper = spawn::born(start, theirs.as_raw_fd(), &NEWS, is_detached(settings))?;
        drop(theirs);
        let now = now_ns();
        // One copy does not take all the time that there is for the start: it may be the one that stands still.
        let most_ns = deadline.0.saturating_sub(now) / 4;
        let patience_ns = patience_ns(attempt, now.saturating_sub(began_ns)).min(most_ns.max(FIRST_NS));
        let has_told = threads::only_one()
            || pidfd::poll(ours.as_raw_fd(), Deadline(now.saturating_add(patience_ns)).min(deadline));
        if has_told || deadline.passed() {
            return Ok((ours, keeper));
        }
        keeper.kill();
        attempt += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_copy_of_a_large_host_has_as_long_as_its_tables_take() {
        const MS: u64 = 1_000_000;
        assert_eq!([0, 1, 2].map(|attempt| patience_ns(attempt, MS)), [20 * MS, 40 * MS, 80 * MS]);
        assert_eq!([0, 1, 2].map(|attempt| patience_ns(attempt, 100 * MS)), [800 * MS, 1600 * MS, 3200 * MS]);
        assert_eq!(patience_ns(u32::MAX, u64::MAX), u64::MAX);
    }
}
