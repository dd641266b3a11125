//! `tine_init`: the place in a program where a started copy of it turns into what it was started for.

use super::supervisor;
use super::wire::{Connection, Kind};
use super::{function, setup};
use crate::error::{Code, Error, Result};
use crate::sys::children::{Command, Program};
use crate::sys::prim::{AtomicBool, AtomicI32, Ordering};
use crate::sys::spawn::CHILD_SOCKET;
use crate::sys::{self, signal};
use std::ffi::{CStr, CString, c_void};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::sync::OnceLock;

/// Tells a started program that it is a process of a pool; its value is always "1", the socket has a fixed number.
pub(crate) const CHILD_VARIABLE: &CStr = c"TINE_CHILD";

/// Set once `init` has returned in this process, and kept by its forked children. Release and Acquire: what was
/// registered before is there for who sees it set.
static INITIALISED: AtomicBool = AtomicBool::new(false);

/// Set when no more names may be registered: at the end of `init`, or, in a process of a pool, when the libraries to
/// preload have been loaded, whose constructors may have names too. Release and Acquire as above.
static NAMES_FIXED: AtomicBool = AtomicBool::new(false);

/// Registers a function under a name; only before [`init`], so that every process of a family knows the same names.
pub fn register(name: &CStr, address: *const c_void) -> Result<()> {
    if NAMES_FIXED.load(Ordering::Acquire) {
        let text = format!("\"{}\" is registered after tine_init", name.to_string_lossy());
        return Err(Error::new(Code::LATE, text));
    }
    function::register(name, address)
}

/// Returns in the program that its user started. In a process that a pool started it never returns: there it is the
/// supervisor or a worker until it ends.
pub fn init() {
    COMMAND_LINE.get_or_init(sys::environment::command_line);
    if sys::environment::take(CHILD_VARIABLE).is_some() {
        // A pool inside a worker starts its processes from this same program.
        INITIALISED.store(true, Ordering::Release);
        be_what_was_started();
    }
    INITIALISED.store(true, Ordering::Release);
    fix_names();
}

/// From now on the names are what they are.
pub(crate) fn fix_names() {
    NAMES_FIXED.store(true, Ordering::Release);
}

/// Whether this process may start a family, of this very program unless it `has_worker_path`.
pub(crate) fn may_start(has_worker_path: bool) -> Result<()> {
    if sys::environment::is_set(CHILD_VARIABLE) {
        let text = "this process was started for a pool and has not come to tine_init yet";
        return Err(Error::new(Code::NO_INIT, text));
    }
    if has_worker_path || INITIALISED.load(Ordering::Acquire) { Ok(()) } else { Err(Code::NO_INIT.into()) }
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
        Kind::Configure => supervisor::run(connection, first),
        Kind::Setup => setup::spawned_worker(first),
        other => give_up(&format!("an unexpected first message, {other:?}")),
    }
}

/// What this process was executed with, as it was when `init` ran: programs that change what ps shows write over it.
static COMMAND_LINE: OnceLock<Vec<CString>> = OnceLock::new();

/// The program that this process runs, to be started once more as a process of a pool: with all that it was started with, which may
/// name the script that an interpreter runs.
pub(crate) fn program_again(environment: &[CString]) -> Program {
    let arguments = COMMAND_LINE.get_or_init(sys::environment::command_line).clone();
    start_of(Command { path: c"/proc/self/exe".to_owned(), arguments }, environment)
}

/// A program to be started as a process of a pool, in this process's environment with some changes.
pub(crate) fn start_of(command: Command, environment: &[CString]) -> Program {
    let mut changes = environment.to_vec();
    let variable = [CHILD_VARIABLE.to_bytes(), b"=1"].concat();
    changes.extend(CString::new(variable).ok());
    Program::new(command, changes)
}

/// The worker that this process is, by its number; 0 for none. Relaxed: it is stored before any code of the program's runs in there.
static WORKER: AtomicI32 = AtomicI32::new(0);

/// From now on this process is a worker.
pub(crate) fn now_a_worker() {
    WORKER.store(sys::fork::pid(), Ordering::Relaxed);
}

/// Whether this process was started to run functions: not a host, not a supervisor, and no child that a worker has forked.
pub fn in_worker() -> bool {
    WORKER.load(Ordering::Relaxed) == sys::fork::pid()
}

/// Where the ready-made worker may be, seen from the folder of the library, or of the program that has it inside.
const READY_MADE: [&str; 3] = ["tine-worker", "../libexec/tine-worker", "../../libexec/tine-worker"];

/// The ready-made worker that was installed with this library.
pub fn worker_path() -> Option<&'static CStr> {
    static PATH: OnceLock<Option<CString>> = OnceLock::new();
    let find = || {
        let library = sys::elf::own_file()?.canonicalize().ok()?;
        let mut places =
            READY_MADE.iter().filter_map(|place| library.parent()?.join(place).canonicalize().ok());
        let path = places
            .find(|path| path.metadata().is_ok_and(|file| file.is_file() && file.mode() & 0o111 != 0))?;
        CString::new(path.into_os_string().into_vec()).ok()
    };
    PATH.get_or_init(find).as_deref()
}

/// How a process ends that cannot become what it should be, and one whose program could not be executed or loaded.
pub(crate) const GAVE_UP: i32 = 125;
pub(crate) const NOT_EXECUTED: i32 = 127;

/// Whether a process that has ended before it was what it should be, though others have got there, fell short of something.
pub(crate) fn fell_short(signal: i32, code: i32) -> bool {
    signal == 0 && matches!(code, GAVE_UP | NOT_EXECUTED)
}

/// Ends a process that cannot become what it should be: going on would run the program's `main` a second time.
pub(crate) fn give_up(why: &str) -> ! {
    let text = format!("tine: process {}, started for a pool: {why}\n", std::process::id());
    sys::log::say(sys::log::Level::Error, &text);
    signal::exit_now(GAVE_UP);
}
