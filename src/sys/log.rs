//! What tine says to people: to standard error, or to the program's own log.

use crate::sys::thread::Uncancelled;
use std::sync::atomic::{AtomicPtr, Ordering};

/// How bad it is that something is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// The process that says it ends.
    Error,
    /// A mistake of the program's, or something that is not as it should be; the process goes on.
    Warning,
}

/// The program's own log.
pub type Log = Box<dyn Fn(Level, &str) + Send + Sync>;

/// Null for standard error. AcqRel: a thread that sees a log sees all of it. A log that is replaced stays allocated, because another thread may be in it.
static LOG: AtomicPtr<Log> = AtomicPtr::new(std::ptr::null_mut());

/// From now on this process and its forked children say to `log` what they have to say; to standard error where there is none.
pub fn set(log: Option<Log>) {
    let log = log.map_or(std::ptr::null_mut(), |log| Box::into_raw(Box::new(log)));
    LOG.swap(log, Ordering::AcqRel);
}

/// Says one or more whole lines.
#[cold]
pub(crate) fn say(level: Level, lines: &str) {
    // A log may be at a cancellation point, as write is, in a call that sees to that nowhere else.
    let _uncancelled = Uncancelled::new();
    // SAFETY: null, or a log that is never freed.
    match unsafe { LOG.load(Ordering::Acquire).as_ref() } {
        Some(log) => lines.lines().for_each(|line| log(level, line)),
        // In one piece, whatever state the program's own streams are in.
        // SAFETY: pointer and length are of one slice, so as many bytes can be read.
        None => drop(unsafe { libc::write(2, lines.as_ptr().cast(), lines.len()) }),
    }
}
