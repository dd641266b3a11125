//! Errors, timeouts, the log and the version.

use crate::error::{Code, Error};
use crate::ffi::guard::guard_value;
use crate::ffi::options::{self, extensible};
use crate::sys::log::{self, Level, Log};
use std::ffi::{CString, c_char, c_int, c_void};

/// The longest text of a `tine_error`, its terminating zero included.
pub const TINE_ERROR_TEXT: usize = 240;

/// A timeout_ns that never runs out. A negative timeout_ns counts as 0, so `end - now` may be passed when the end has
/// gone by.
pub const TINE_FOREVER: i64 = i64::MAX;

/// What went wrong, in words that name the thing and its value. The caller owns it, and points the .error of an
/// options struct at it. A call that fails fills it in. A call that succeeds leaves it as it is.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct tine_error {
    /// sizeof(tine_error).
    pub size: usize,
    /// The code that the call returned.
    pub code: c_int,
    /// The text; a zero always ends it.
    pub text: [c_char; TINE_ERROR_TEXT],
}

extensible!(tine_error);

/// A flag of pools, locks, queues, channels and processes: a wait for the object ends with -EINTR when a signal
/// handler has run while the wait slept. A stream does not take the flag, and waits as its pool does. A tine_once has
/// no flags, and its waits go on. A wait for a lock or a queue may go on after a handler that was installed with
/// SA_RESTART, as sem_wait does.
///
/// A handler that runs just before a wait sleeps does not end the wait. A wait sleeps in several pieces: it wakes up
/// in between. Waits for mutexes, reader-writer locks, barriers and pools, and sends, look round now and then. So one
/// signal is a hint. Repeat the signal until the wait has ended, or let the handler do what ends the wait:
/// tine_event_set() or tine_semaphore_release().
pub const TINE_INTERRUPTIBLE: u32 = 1 << 0;

/// tine_init has not run in this process.
pub const TINE_ENOINIT: c_int = -5001;
/// The worker processes could not be started, or end as soon as they have been started.
pub const TINE_EWORKERSTART: c_int = -5002;
/// The process that ran the task died.
pub const TINE_EDIED: c_int = -5003;
/// The task's function returned a number below -4095. These numbers are tine's own.
pub const TINE_EBADCODE: c_int = -5004;
/// Items of a map failed. The status of each item says why.
pub const TINE_EITEMS: c_int = -5005;
/// The function pointer is not code of a loaded module.
pub const TINE_EFUNCTION: c_int = -5006;
/// The function's module is not loaded in the workers, or is another build there.
pub const TINE_EMODULE: c_int = -5007;
/// The workers know no registered function of this name.
pub const TINE_ENAME: c_int = -5008;
/// The id was never given, or its result has been taken or released.
pub const TINE_EID: c_int = -5009;
/// The pool has been shut down.
pub const TINE_ESHUTDOWN: c_int = -5010;
/// The object belongs to the process that this one was forked from.
pub const TINE_EFORKED: c_int = -5011;
/// The call was made in a worker, and only the host may make it.
pub const TINE_EWORKER: c_int = -5012;
/// Nothing is outstanding, so there is nothing to wait for.
pub const TINE_EEMPTY: c_int = -5013;
/// The other process runs another build of tine.
pub const TINE_EVERSION: c_int = -5014;
/// The barrier is broken.
pub const TINE_EBROKEN: c_int = -5015;
/// The task used more memory than its worker may have.
pub const TINE_EMEMORY: c_int = -5016;
/// An error inside tine. The object should not be used any further.
pub const TINE_EPANIC: c_int = -5017;
/// tine_init has already run, and the call has to come before it.
pub const TINE_ELATE: c_int = -5018;

/// Fills the caller's error, where there is one, and gives the code back.
pub(crate) fn report(place: *mut tine_error, error: &Error) -> c_int {
    let mut value = tine_error { size: 0, code: error.code().0, text: [0; TINE_ERROR_TEXT] };
    let text = error.text();
    let mut end = text.len().min(TINE_ERROR_TEXT - 1);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    for (byte, place) in text.as_bytes()[..end].iter().zip(&mut value.text) {
        *place = *byte as c_char;
    }
    // SAFETY: `place` is null, or the `.error` of an options struct, which can be written as far as its `.size` says,
    // as the header asks. One whose size is garbage is left alone.
    let _ = unsafe { options::fill(place, &value) };
    error.code().0
}

/// One sentence that says what a code means.
///
/// Parameters: rc: what a call has returned.
/// Returns the sentence: a static string, never NULL.
/// Threads: any. Fork: a child may call it.
#[unsafe(no_mangle)]
pub extern "C" fn tine_strerror(rc: c_int) -> *const c_char {
    guard_value(c"unknown error".as_ptr(), || Code(rc).text().as_ptr())
}

/// The name of the constant behind a code: "EINVAL" or "TINE_EDIED".
///
/// Parameters: rc: what a call has returned.
/// Returns the name, a static string, never NULL: "OK" for 0 and counts, "UNKNOWN" for a number that is no code.
/// Threads: any. Fork: a child may call it.
#[unsafe(no_mangle)]
pub extern "C" fn tine_errname(rc: c_int) -> *const c_char {
    guard_value(c"UNKNOWN".as_ptr(), || Code(rc).name().as_ptr())
}

/// The version of the library that runs. TINE_VERSION is the version of the header.
///
/// Returns the version, as "0.1.0": a static string, never NULL.
/// Threads: any. Fork: a child may call it.
#[unsafe(no_mangle)]
pub extern "C" fn tine_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

/// A level of tine_log_fn: the process that writes the line ends.
pub const TINE_LOG_ERROR: c_int = 0;
/// A level of tine_log_fn: something is wrong, and the process goes on.
pub const TINE_LOG_WARNING: c_int = 1;

/// A program's own log. text is one line without a line feed, and is valid until the function returns. The function
/// may be called in any thread, also while tine holds locks of its own. So it must not call tine, throw an exception,
/// or jump out.
pub type tine_log_fn = Option<unsafe extern "C" fn(level: c_int, text: *const c_char, user: *mut c_void)>;

/// Directs the lines that tine writes for people to a function. Without a function they go to standard error. They say
/// why a process that was started cannot be a worker, why tine_init has failed, and why a trace (TINE_TRACE) ends early.
/// They also say what goes wrong with the nodes of an MPI job, and what TINE_CHECK=1 finds.
///
/// The errors of other calls are not logged: their text goes to the caller's tine_error. A worker that is a fresh copy
/// of the program has the log that the program sets before tine_init. A worker that is forked from the host has the
/// host's log.
///
/// Parameters: log: the function; NULL for standard error. user: passed to the function. Both count for the whole
/// process from now on. A call of the former log that has begun goes on, so what the former log uses must stay.
/// Threads: any. Fork: a child keeps the log.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_set_log(log: tine_log_fn, user: *mut c_void) {
    guard_value((), || {
        let user = user.expose_provenance();
        let hook = log.map(|log| -> Log {
            Box::new(move |level, line| {
                let level = if level == Level::Error { TINE_LOG_ERROR } else { TINE_LOG_WARNING };
                let text = CString::new(line.replace('\0', " ")).unwrap_or_default();
                // SAFETY: a function of this type was given to be called with `user`, on any thread: the text of
                // tine_log_fn says so. `text` lives until it returns.
                unsafe { log(level, text.as_ptr(), std::ptr::with_exposed_provenance_mut(user)) };
            })
        });
        log::set(hook);
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CStr;

    #[test]
    fn the_constants_are_the_codes_of_their_names() {
        let codes = [
            (TINE_ENOINIT, c"TINE_ENOINIT"),
            (TINE_EWORKERSTART, c"TINE_EWORKERSTART"),
            (TINE_EDIED, c"TINE_EDIED"),
            (TINE_EBADCODE, c"TINE_EBADCODE"),
            (TINE_EITEMS, c"TINE_EITEMS"),
            (TINE_EFUNCTION, c"TINE_EFUNCTION"),
            (TINE_EMODULE, c"TINE_EMODULE"),
            (TINE_ENAME, c"TINE_ENAME"),
            (TINE_EID, c"TINE_EID"),
            (TINE_ESHUTDOWN, c"TINE_ESHUTDOWN"),
            (TINE_EFORKED, c"TINE_EFORKED"),
            (TINE_EWORKER, c"TINE_EWORKER"),
            (TINE_EEMPTY, c"TINE_EEMPTY"),
            (TINE_EVERSION, c"TINE_EVERSION"),
            (TINE_EBROKEN, c"TINE_EBROKEN"),
            (TINE_EMEMORY, c"TINE_EMEMORY"),
            (TINE_EPANIC, c"TINE_EPANIC"),
            (TINE_ELATE, c"TINE_ELATE"),
        ];
        for (code, name) in codes {
            // SAFETY: a static string.
            assert_eq!(unsafe { CStr::from_ptr(tine_errname(code)) }, name);
        }
    }
}
