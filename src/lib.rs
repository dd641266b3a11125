//! tine: process pools, shared memory, queues and locks that settle whatever is killed.
//!
//! The crate is the core of the C library `libtine`: everything here is safe to call from Rust, and
//! [`ffi`] puts the C ABI of `include/tine.h` on top of it and nothing else. `docs/architecture.md` says how
//! the pieces work together and why.

#[cfg(not(all(
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64"),
    target_pointer_width = "64"
)))]
compile_error!("tine is for 64-bit Linux, on x86_64 or aarch64");

mod bootstrap;
pub mod channel;
mod check;
pub mod error;
mod family;
pub mod ffi;
#[cfg(test)]
mod fuzz;
pub mod heap;
pub mod inspect;
pub mod pool;
pub mod process;
pub mod queue;
mod supervisor;
pub mod sync;
pub mod sys;
pub mod task;
pub mod worker;

pub use error::{Error, Result};

#[global_allocator]
static ALLOCATOR: sys::reserve::WithReserve = sys::reserve::WithReserve;
