//! The environment, as programs pass it on.

use std::ffi::{CStr, CString, c_char};

unsafe extern "C" {
    static environ: *const *const c_char;
    static stdout: *mut libc::FILE;
    static stderr: *mut libc::FILE;
    fn __fpurge(stream: *mut libc::FILE);
}

/// Whether a variable is set.
pub(crate) fn is_set(name: &CStr) -> bool {
    // SAFETY: a C string; the answer is only compared with null.
    unsafe { !libc::getenv(name.as_ptr()).is_null() }
}

/// Whether a variable is set to anything but nothing and "0".
pub(crate) fn says_yes(name: &CStr) -> bool {
    // SAFETY: C strings; the value is looked at before anything could change it.
    unsafe {
        let value = libc::getenv(name.as_ptr());
        !value.is_null() && !matches!(CStr::from_ptr(value).to_bytes(), b"" | b"0")
    }
}

/// Reads a variable and unsets it, so that no program started from here takes it for its own. For the beginning of
/// `main`, where no other thread reads the environment.
pub(crate) fn take(name: &CStr) -> Option<CString> {
    // SAFETY: C strings; the value is copied before it goes.
    unsafe {
        let value = libc::getenv(name.as_ptr());
        if value.is_null() {
            return None;
        }
        let copy = CStr::from_ptr(value).to_owned();
        libc::unsetenv(name.as_ptr());
        Some(copy)
    }
}

/// The environment with one more variable, ready for exec: the strings, and the null-terminated array of them.
pub(crate) struct Environment {
    added: CString,
    pointers: Vec<*const c_char>,
}

impl Environment {
    /// This process's, with `name` set to `value`.
    pub(crate) fn with(name: &CStr, value: &CStr) -> Environment {
        let added = [name.to_bytes(), b"=", value.to_bytes()].concat();
        let added = CString::new(added).unwrap_or_default();
        let prefix = name.to_bytes();
        let mut pointers = Vec::new();
        // SAFETY: the C library's array ends with null and holds C strings. A host that changes its environment in
        // another thread at this moment breaks every reader of it, as setenv says.
        unsafe {
            let mut entry = environ;
            while !entry.is_null() && !(*entry).is_null() {
                let text = CStr::from_ptr(*entry).to_bytes();
                if text.strip_prefix(prefix).is_none_or(|rest| !rest.starts_with(b"=")) {
                    pointers.push(*entry);
                }
                entry = entry.add(1);
            }
        }
        pointers.push(added.as_ptr());
        pointers.push(std::ptr::null());
        Environment { added, pointers }
    }

    /// For exec; ends with null.
    pub(crate) fn pointers(&self) -> &[*const c_char] {
        debug_assert!(self.pointers.contains(&self.added.as_ptr()));
        &self.pointers
    }
}

/// Writes a line to standard error in one piece, whatever state the program's own streams are in.
pub(crate) fn complain(line: &str) {
    // SAFETY: as many readable bytes as are said.
    unsafe { libc::write(2, line.as_ptr().cast(), line.len()) };
}

/// Ends the process with SIGABRT, without taking any lock.
pub(crate) fn abort() -> ! {
    // SAFETY: no pointers.
    unsafe { libc::abort() }
}

/// Ends the process as `exit` does: handlers of the program run, streams are flushed.
pub(crate) fn exit(code: i32) -> ! {
    // SAFETY: no pointers; called by a worker's only thread of tine's.
    unsafe { libc::exit(code) }
}

/// Drops what the process that this one is a copy of has printed and not yet written: it will do that itself.
pub(crate) fn forget_output() {
    // SAFETY: the C library's streams; this process has one thread.
    unsafe {
        __fpurge(stdout);
        __fpurge(stderr);
    }
}

/// Ends a process that is a copy of another: what that one has registered to run at its end is not this one's, nor are
/// its other streams. To flush them all would write what the other process has in its buffers a second time, and move
/// the positions at which it reads.
pub(crate) fn exit_copy(code: i32) -> ! {
    // SAFETY: the C library's streams.
    unsafe {
        libc::fflush(stdout);
        libc::fflush(stderr);
        libc::_exit(code)
    }
}
