//! This program, started once more as a process of a family; and how such a process ends that cannot become what it should be.

use crate::error::Result;
use crate::sys::children::{Command, Program};
use crate::sys::prim::{AtomicI32, Ordering};
use crate::sys::{self, signal};
use std::ffi::{CStr, CString};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::OnceLock;

/// Tells a started program that it is a process of a pool; its value is always "1", the socket has a fixed number.
pub(crate) const CHILD_VARIABLE: &CStr = c"TINE_CHILD";
const CHILD: &CStr = c"TINE_CHILD=1";

/// Keeps what this process was executed with.
pub(crate) fn keep_command_line() {
    COMMAND_LINE.get_or_init(sys::environment::command_line);
}

/// What this process was executed with, as it was when `init` ran: programs that change what ps shows write over it.
static COMMAND_LINE: OnceLock<Vec<CString>> = OnceLock::new();

/// The program that this process runs, to be started once more as a process of a pool: with all that it was started with, which may
/// name the script that an interpreter runs.
pub(crate) fn program_again(environment: &[CString]) -> Result<Program<'_>> {
    let arguments = COMMAND_LINE.get_or_init(sys::environment::command_line);
    Program::new(c"/proc/self/exe", arguments, environment, CHILD)
}

/// A program to be started as a process of a pool, in this process's environment with some changes.
pub(crate) fn start_of<'a>(command: &'a Command, environment: &'a [CString]) -> Result<Program<'a>> {
    Program::new(&command.path, &command.arguments, environment, CHILD)
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

/// Where the ready-made worker may be, seen from the folder of the library, or of the program that has it inside. In a folder of the
/// version's own, where libraries of several versions share theirs.
const READY_MADE: [&str; 4] = [
    "tine-worker",
    concat!("tine", env!("CARGO_PKG_VERSION_MAJOR"), ".", env!("CARGO_PKG_VERSION_MINOR"), "/tine-worker"),
    "../libexec/tine-worker",
    "../../libexec/tine-worker",
];

/// The ready-made worker that was installed with this library.
pub fn worker_path() -> Option<&'static CStr> {
    static PATH: OnceLock<Option<CString>> = OnceLock::new();
    let find = || {
        let library = sys::elf::own_file()?.canonicalize().ok()?;
        let mut places =
            READY_MADE.iter().filter_map(|place| library.parent()?.join(place).canonicalize().ok());
        let runs =
            |path: &PathBuf| path.metadata().is_ok_and(|file| file.is_file() && file.mode() & 0o111 != 0);
        CString::new(places.find(runs)?.into_os_string().into_vec()).ok()
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
