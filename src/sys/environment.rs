//! The environment, as programs pass it on.

use crate::error::{Error, Result};
use crate::sys::reserve;
use std::ffi::{CStr, CString, c_char};
use std::marker::PhantomData;
use std::os::fd::{OwnedFd, RawFd};

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

/// The file that a variable names. A program with more rights than the user who started it takes no file from there.
pub(crate) fn file_named_by(name: &CStr) -> Option<CString> {
    // SAFETY: C strings; the value is copied before anything could change it.
    unsafe {
        let value = libc::getenv(name.as_ptr());
        if value.is_null() || libc::getauxval(libc::AT_SECURE) != 0 {
            return None;
        }
        Some(CStr::from_ptr(value).to_owned()).filter(|path| !path.is_empty())
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

/// Sets "NAME=value", or unsets "NAME". For a process with one thread.
pub(crate) fn put(line: &CStr) {
    let bytes = line.to_bytes();
    let (name, value) = match bytes.iter().position(|byte| *byte == b'=') {
        Some(at) => (&bytes[..at], Some(&bytes[at + 1..])),
        None => (bytes, None),
    };
    let string = |bytes: &[u8]| CString::new(bytes).unwrap_or_default();
    let name = string(name);
    // SAFETY: C strings, and nobody else reads the environment.
    unsafe {
        match value.map(string) {
            Some(value) => libc::setenv(name.as_ptr(), value.as_ptr(), 1),
            None => libc::unsetenv(name.as_ptr()),
        }
    };
}

/// What this process was executed with, all of it: an interpreter's script, a loader's program. What `main` gets may be less.
pub(crate) fn command_line() -> Vec<CString> {
    let text = std::fs::read("/proc/self/cmdline").unwrap_or_default();
    let whole: Vec<CString> = text
        .split_inclusive(|byte| *byte == 0)
        .filter_map(|line| CString::from_vec_with_nul(line.to_vec()).ok())
        .collect();
    if !whole.is_empty() {
        return whole;
    }
    std::env::args_os().filter_map(|argument| CString::new(argument.into_encoded_bytes()).ok()).collect()
}

/// The working directory, to come back to.
pub(crate) fn working_directory() -> Result<OwnedFd> {
    // SAFETY: a C string.
    let rc = unsafe { libc::open(c".".as_ptr(), libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC) };
    super::fd::owned(libc::c_long::from(rc), "the working directory")
}

/// Goes back to it. Async-signal-safe.
pub(crate) fn go_back(directory: RawFd) -> bool {
    // SAFETY: no pointers.
    unsafe { libc::fchdir(directory) == 0 }
}

/// Changes the working directory.
pub(crate) fn change_directory(path: &CStr) -> Result<()> {
    // SAFETY: a C string.
    if unsafe { libc::chdir(path.as_ptr()) } == 0 {
        return Ok(());
    }
    let error = std::io::Error::last_os_error();
    Err(Error::from_io(&format!("directory {}", path.to_string_lossy()), &error))
}

/// An environment for exec: the null-terminated array of strings, which are this process's own or their givers'.
pub(crate) struct Environment<'a> {
    pointers: Vec<*const c_char>,
    givers: PhantomData<&'a CStr>,
}

impl<'a> Environment<'a> {
    /// This process's, changed by lines of "NAME=value" and "NAME", and by one more; the last one for a name counts.
    pub(crate) fn changed(changes: &'a [CString], line: &'a CStr) -> Result<Environment<'a>> {
        let all = || changes.iter().map(CString::as_c_str).chain([line]);
        let mut changed = Vec::new();
        reserve::grow(&mut changed, changes.len() + 1)?;
        changed.extend(all().map(name_of));
        let mut pointers = Vec::new();
        // SAFETY: the C library's array ends with null and holds C strings. A host that changes its environment in
        // another thread at this moment breaks every reader of it, as setenv says.
        unsafe {
            let mut entry = environ;
            while !entry.is_null() && !(*entry).is_null() {
                if !changed.contains(&name_of(CStr::from_ptr(*entry))) {
                    reserve::grow(&mut pointers, 1)?;
                    pointers.push(*entry);
                }
                entry = entry.add(1);
            }
        }
        reserve::grow(&mut pointers, changed.len() + 1)?;
        for (at, line) in all().enumerate() {
            let is_last = !changed[at + 1..].contains(&changed[at]);
            if is_last && line.to_bytes().contains(&b'=') {
                pointers.push(line.as_ptr());
            }
        }
        pointers.push(std::ptr::null());
        Ok(Environment { pointers, givers: PhantomData })
    }

    /// For exec; ends with null.
    pub(crate) fn pointers(&self) -> &[*const c_char] {
        &self.pointers
    }
}

/// The name of a variable, from its line.
fn name_of(line: &CStr) -> &[u8] {
    line.to_bytes().split(|byte| *byte == b'=').next().unwrap_or_default()
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

/// Has the C library pass standard output on at the end of each line.
pub(crate) fn buffer_output_by_line() {
    unsafe extern "C" {
        static stdout: *mut libc::FILE;
    }
    const BUFFER_BYTES: usize = 4096;
    // With a buffer of its own: in the one that a copy of the host has, the C library would go on as the host has begun.
    let buffer: &mut [u8] = Vec::leak(vec![0; BUFFER_BYTES]);
    // SAFETY: the C library's own stream, of which nobody else in this process is in the middle; the buffer is for good.
    unsafe { libc::setvbuf(stdout, buffer.as_mut_ptr().cast(), libc::_IOLBF, BUFFER_BYTES) };
}
