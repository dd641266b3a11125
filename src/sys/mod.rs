//! Linux as tine uses it: raw mechanisms, no policy, and the only user of `libc` besides the numbers of errno.

pub(crate) mod children;
pub mod clock;
pub(crate) mod crash;
pub mod elf;
pub(crate) mod environment;
pub mod epoll;
pub mod fd;
pub mod fork;
pub mod futex;
pub(crate) mod keeper;
pub mod limits;
pub mod log;
pub(crate) mod maps;
pub mod memory;
pub(crate) mod owner;
pub mod pidfd;
pub(crate) mod raw;
pub(crate) mod reserve;
pub(crate) mod robust;
pub mod signal;
pub mod socket;
pub(crate) mod spawn;
pub(crate) mod terminal;
pub(crate) mod thread;
pub(crate) mod threads;

use std::ffi::{CStr, CString, c_char, c_int};
use std::sync::atomic::{AtomicPtr, Ordering};

/// What an errno value can be at most.
const LAST_ERRNO: usize = 4095;

/// The C library's sentence for an errno value, which stays. The C library's own may be gone with the thread's next call: so each
/// is copied when it is first asked for, and there are only so many of them.
pub(crate) fn errno_text(errno: c_int) -> &'static CStr {
    static TEXTS: [AtomicPtr<c_char>; LAST_ERRNO + 1] =
        [const { AtomicPtr::new(std::ptr::null_mut()) }; LAST_ERRNO + 1];
    let Some(place) = usize::try_from(errno).ok().and_then(|errno| TEXTS.get(errno)) else {
        return c"unknown error";
    };
    // Acquire and Release: who sees the pointer sees the text.
    let mut text = place.load(Ordering::Acquire);
    if text.is_null() {
        let mut buffer = [0; 256];
        // SAFETY: a place as long as is said; what is written there ends with a zero.
        let copy = unsafe {
            libc::strerror_r(errno, buffer.as_mut_ptr(), buffer.len() - 1);
            CStr::from_ptr(buffer.as_ptr()).to_owned().into_raw()
        };
        match place.compare_exchange(text, copy, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => text = copy,
            Err(other) => {
                // SAFETY: from `into_raw`, and nobody else has it.
                drop(unsafe { CString::from_raw(copy) });
                text = other;
            }
        }
    }
    // SAFETY: a string that is never freed once it is in there.
    unsafe { CStr::from_ptr(text) }
}

/// The calling thread's errno.
pub(crate) fn errno() -> c_int {
    // SAFETY: the location of errno is valid in every thread.
    unsafe { *libc::__errno_location() }
}
