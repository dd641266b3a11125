//! Errors and the version.

use crate::error::Code;
use crate::ffi::guard::guard_value;
use crate::ffi::options::Extensible;
use std::ffi::{c_char, c_int};

/// The longest text of a `tine_error`, its terminating zero included.
pub const TINE_ERROR_TEXT: usize = 240;

/// Wait for ever: a value for every `timeout_ns`.
pub const TINE_FOREVER: i64 = -1;

/// What went wrong, in words that name the thing and its value. It belongs to the caller, who points an options
/// struct's `.error` at it; a call that fails fills it in, one that succeeds leaves it alone.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct tine_error {
    /// sizeof(tine_error).
    pub size: usize,
    /// The code that the call returned.
    pub code: c_int,
    /// The text, always terminated.
    pub text: [c_char; TINE_ERROR_TEXT],
}

// SAFETY: `repr(C)`, size first, plain integers.
unsafe impl Extensible for tine_error {
    const NAME: &'static str = "tine_error";
}

/// One sentence that says what `rc` means. Never NULL; the string is static. Any thread, any process.
#[unsafe(no_mangle)]
pub extern "C" fn tine_strerror(rc: c_int) -> *const c_char {
    guard_value(c"unknown error".as_ptr(), || Code(rc).text().as_ptr())
}

/// The name of the constant behind `rc`: "EINVAL", "TINE_EDIED", "OK" for a success, "UNKNOWN" for what is none. Never
/// NULL; the string is static. Any thread, any process.
#[unsafe(no_mangle)]
pub extern "C" fn tine_errname(rc: c_int) -> *const c_char {
    guard_value(c"UNKNOWN".as_ptr(), || Code(rc).name().as_ptr())
}

/// The version of the library that runs, as "0.1.0"; the header's is TINE_VERSION. The string is static.
#[unsafe(no_mangle)]
pub extern "C" fn tine_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}
