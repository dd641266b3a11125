//! `tine_init`: the place in a program where a started copy of it turns into what it was started for.

use crate::error::{Code, Error, Result};
use crate::supervisor;
use crate::sys::log::Level;
use crate::sys::prim::{AtomicBool, Ordering};
use crate::sys::spawn::CHILD_SOCKET;
use crate::sys::{self, signal};
use crate::task::function;
use crate::task::program::{self, CHILD_VARIABLE, give_up};
use crate::task::wire::{Connection, MessageKind};
use crate::worker::start;

/// Set once `init` has returned in this process, and kept by its forked children. Release and Acquire: what was
/// registered before is visible to a thread that sees it set.
static INITIALISED: AtomicBool = AtomicBool::new(false);

/// Returns in the program that its user started. In a process that a pool started it never returns: there it is the
/// supervisor or a worker until it ends.
///
/// `ENOSYS`: the kernel is too old. The log says so, too, for programs that do not look at what this returns.
pub fn init() -> Result<()> {
    program::keep_command_line();
    if sys::environment::take(CHILD_VARIABLE).is_some() {
        // A pool inside a worker starts its processes from this same program.
        INITIALISED.store(true, Ordering::Release);
        be_what_was_started();
    }
    INITIALISED.store(true, Ordering::Release);
    function::fix_names();
    sys::kernel::suffices().inspect_err(|error| {
        sys::log::say(Level::Warning, &format!("tine_init: {}\n", error.text()));
    })
}

/// Whether this process may start a family, of this very program unless it `has_worker_path`.
pub(crate) fn may_start(has_worker_path: bool) -> Result<()> {
    if sys::environment::is_set(CHILD_VARIABLE) {
        let text = "this process was started for a pool and has not come to tine_init yet";
        return Err(Error::new(Code::NO_INIT, text));
    }
    if !has_worker_path && !INITIALISED.load(Ordering::Acquire) {
        return Err(Code::NO_INIT.into());
    }
    sys::kernel::suffices()
}

fn be_what_was_started() -> ! {
    let connection = match sys::socket::take_inherited(CHILD_SOCKET) {
        Ok(socket) => Connection::new(socket),
        Err(error) => give_up(&format!("{} is set, but {error}", CHILD_VARIABLE.to_string_lossy())),
    };
    run(connection)
}

/// What both an executed and a forked process do with their socket: the first message says which they are.
pub(crate) fn run(mut connection: Connection) -> ! {
    let first = loop {
        match connection.receive() {
            Ok(Some(message)) => break message,
            Ok(None) => drop(sys::pidfd::poll(connection.fd(), sys::clock::Deadline::NEVER)),
            Err(error) if error.code().0 == -libc::EPIPE => signal::exit_now(0),
            Err(error) => give_up(&error.text()),
        }
    };
    match first.kind {
        MessageKind::Configure => supervisor::run(connection, first),
        MessageKind::Setup => start::spawned_worker(first),
        other => give_up(&format!("an unexpected first message, {other:?}")),
    }
}

/// The supervisor as a forked copy of the host.
pub(crate) fn run_forked(socket: i32) -> ! {
    sys::spawn::become_child(socket, true);
    sys::environment::forget_output();
    match sys::socket::take_inherited(CHILD_SOCKET) {
        Ok(socket) => run(Connection::new(socket)),
        Err(error) => give_up(&error.text()),
    }
}
