//! Linux as tine uses it: raw mechanisms, no policy, and the only user of `libc` besides the numbers and texts of errno.

pub(crate) mod cache;
pub(crate) mod children;
pub mod clock;
pub(crate) mod crash;
pub mod elf;
pub(crate) mod environment;
pub mod epoll;
pub mod fd;
pub mod fork;
pub mod futex;
pub(crate) mod host;
pub(crate) mod journal;
pub(crate) mod keeper;
pub(crate) mod kernel;
pub mod limits;
pub(crate) mod local;
pub mod log;
pub(crate) mod maps;
pub mod memory;
pub(crate) mod owner;
pub mod pidfd;
pub(crate) mod prim;
pub(crate) mod raw;
pub(crate) mod reserve;
pub(crate) mod robust;
pub mod signal;
pub mod socket;
pub(crate) mod spawn;
pub(crate) mod terminal;
pub(crate) mod thread;
pub(crate) mod threads;

use std::ffi::c_int;

/// The calling thread's errno.
pub(crate) fn errno() -> c_int {
    // SAFETY: the location of errno is valid in every thread.
    unsafe { *libc::__errno_location() }
}
