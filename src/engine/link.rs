//! The host's end of a supervisor: starting it, and what is known of it.

use super::family::UNWATCHED_NS;
use crate::error::{Code, Error, Result};
use crate::heap::Heap;
use crate::process::StartMethod;
use crate::process::function::Tables;
use crate::process::init;
use crate::process::setup::Settings;
use crate::process::wire::{self, Connection, Kind, Message, Reader, Writer};
use crate::sys::clock::Deadline;
use crate::sys::fd::{self, Guarded};
use crate::sys::spawn::{self, CHILD_SOCKET, Keeper, Start};
use crate::sys::{environment, fork, pidfd, socket};
use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};

/// A supervisor, from its start until it is known to be gone.
///
/// ```text
///   STARTING   the process exists, `Configure` is on its way; `start_timeout` runs
///     | Ready
///   UP         has said what it can call
/// ```
pub(crate) struct Link {
    pub(super) connection: Connection,
    pub(super) pidfd: Option<Guarded>,
    pub(super) up: bool,
    pub(super) deadline: Deadline,
    pub(super) writable_watched: bool,
    /// Ends with the family; see `sys::spawn`.
    keeper: Option<Keeper>,
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
        program: Option<&CString>,
        heap: &Heap,
        timeout_ns: u64,
    ) -> Result<Link> {
        let (ours, theirs) = socket::pair()?;
        let (pid, keeper) = match settings.start {
            StartMethod::Fork => {
                let socket = theirs.as_raw_fd();
                let mut run = || run_forked(socket);
                spawn::detached(Start::Fork { run: &mut run })?
            }
            _ => {
                let program = match program {
                    Some(path) => init::start_of(path, path, &settings.surroundings.environment),
                    None => init::program_again(&settings.surroundings.environment),
                };
                let (argv, socket) = (program.argv(), theirs.as_raw_fd());
                let envp = program.envp();
                spawn::detached(Start::Exec { path: &program.path, argv: &argv, envp, socket })?
            }
        };
        drop(theirs);
        let mut connection = Connection::new(ours);
        // Its number is not reused within the microseconds since it was made, and `Ready` proves that the pidfd is
        // the process that holds the other end of the socket.
        let pidfd = if pid > 0 { pidfd::open(pid).ok().map(Guarded::new) } else { None };
        let mut writer = Writer::default();
        settings.encode(&mut writer);
        let heap_fd = fd::duplicate(heap.fd())?;
        let mut fds = vec![heap_fd, fork::own_pidfd()?, wire::to_memfd(&writer.0)?];
        fds.extend(settings.copy_of_input()?);
        let words = [wire::version(), heap.address() as u64, heap.mapped_bytes() as u64];
        connection.try_send(Message::new(Kind::Configure, &words).with_fds(fds))?;
        Ok(Link {
            connection,
            pidfd,
            up: false,
            deadline: Deadline::after(timeout_ns),
            writable_watched: false,
            keeper,
        })
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
        self.up = true;
        Tables::decode(&mut Reader(&wire::from_memfd(&tables)?))
    }

    /// When something is to be done though nothing happens.
    pub(super) fn next_deadline(&self) -> Deadline {
        let start = if self.up { Deadline::NEVER } else { self.deadline };
        let unwatched = self.connection.awaits_room() != self.writable_watched;
        let look = if unwatched { Deadline::after(UNWATCHED_NS) } else { Deadline::NEVER };
        start.min(look).min(self.connection.next_try())
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

    /// Lets it live on without this host; with its keeper, which keeps for as long as the family lives.
    pub(super) fn leave(self) {
        // A forked child of the host may have the socket as well, so that to close it says nothing.
        socket::shut_down(self.connection.fd());
        if let Some(keeper) = self.keeper {
            keeper.leave();
        }
    }

    /// Waits for the supervisor's end, which has been asked for; kills it if it takes longer.
    pub(super) fn finish(self, deadline: Deadline) {
        let Link { connection, pidfd, keeper, .. } = self;
        if let Some(pidfd) = &pidfd {
            let pidfd = pidfd.as_raw_fd();
            if !pidfd::wait_end(pidfd, deadline) {
                let _ = pidfd::signal(pidfd, libc::SIGKILL);
                pidfd::wait_end(pidfd, Deadline::NEVER);
            }
        }
        // Without its socket, a supervisor that never said who it is finds nobody and ends.
        drop(connection);
        drop(keeper);
    }
}

/// The supervisor as a forked copy of the host.
fn run_forked(socket: i32) {
    spawn::become_child(socket, true);
    environment::forget_output();
    match socket::take_inherited(CHILD_SOCKET) {
        Ok(socket) => init::run(Connection::new(socket)),
        Err(error) => init::give_up(&error.text()),
    }
}
