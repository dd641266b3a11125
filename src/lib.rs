//! tine: process pools, shared memory, queues and locks that settle whatever is killed.
//!
//! The crate is the core of the C library `libtine`, and [`ffi`] puts the C ABI of `include/tine.h` on top of it and nothing else.
//! What calls or reads an address on its caller's word alone is `unsafe` ([`task::function::Function::pointer`],
//! [`pool::Pool::map`], [`queue::Queue::attach`]), and so is what has to stay where it is ([`sync::Mutex::new`]): [`function`]
//! makes tasks of Rust's functions without it. A block of a [`heap::Heap`] is an address, too, and whoever reads it has to know
//! that nobody has freed it. `docs/architecture.md` says how the pieces work together and why.
//!
//! A pool, two tasks, one of which ends its process:
//!
//! ```standalone_crate
//! use tine::pool::{Pool, PoolOptions, SubmitOptions};
//! use tine::sys::clock::Timeout;
//!
//! fn main() -> tine::Result<()> {
//!     tine::init()?; // First of all: workers start in this main(), too, and stay in here.
//!     let pool = Pool::create(&PoolOptions { workers: 1, ..PoolOptions::default() })?;
//!
//!     let reverse = tine::function(|call| Ok(call.input().iter().rev().copied().collect()));
//!     let id = pool.submit(reverse, b"drawer", &SubmitOptions::NONE)?;
//!     assert_eq!(pool.output_of(id, Timeout::Forever)?, b"reward");
//!
//!     let dies = tine::function(|_| std::process::abort());
//!     let id = pool.submit(dies, b"", &SubmitOptions::NONE)?;
//!     let error = pool.output_of(id, Timeout::Forever).unwrap_err();
//!     assert!(error.text().contains("SIGABRT"), "{}", error.text());
//!
//!     // The pool serves on, in another process.
//!     let id = pool.submit(reverse, b"lived", &SubmitOptions::NONE)?;
//!     assert_eq!(pool.output_of(id, Timeout::Forever)?, b"devil");
//!     pool.shutdown(Timeout::Forever)
//! }
//! ```
//!
//! A channel has two ends, which processes may have, and threads:
//!
//! ```
//! use std::mem::MaybeUninit;
//! use tine::channel::{Channel, ChannelOptions, Received};
//! use tine::sys::clock::Timeout;
//!
//! # fn main() -> tine::Result<()> {
//! let (here, there) = Channel::pair(&ChannelOptions::default())?;
//! here.send(b"ping", Timeout::Forever)?;
//! let mut room = [MaybeUninit::uninit(); 16];
//! assert_eq!(there.receive(Timeout::Forever, &mut room)?, Received::Message(4));
//! assert!(there.receive(Timeout::Try, &mut room).is_err());
//! # Ok(())
//! # }
//! ```
//!
//! A mutex works between processes when it lies in memory that they share, and says when a holder has died:
//!
//! ```
//! use tine::sync::{Acquired, Mutex};
//! use tine::sys::clock::Timeout;
//!
//! // SAFETY: the mutex stays where it is while it is held.
//! let mutex = unsafe { Mutex::new(0) }.unwrap();
//! assert_eq!(mutex.lock(Timeout::Forever).unwrap(), Acquired::Clean);
//! mutex.unlock().unwrap();
//! assert!(mutex.unlock().is_err(), "it is not held");
//! ```
//!
//! By default the crate sets the program's allocator: the system's, with memory kept back for tine's own small needs, so that a shortage
//! is an error and not the program's end. A program with an allocator of its own takes the crate with `default-features = false`.

#[cfg(not(all(
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64"),
    target_pointer_width = "64"
)))]
compile_error!("tine is for 64-bit Linux, on x86_64 or aarch64");

mod bootstrap;
pub mod channel;
mod check;
mod cluster;
pub mod error;
mod family;
pub mod ffi;
#[cfg(test)]
mod fuzz;
pub mod heap;
pub mod inspect;
mod node;
pub mod pool;
pub mod process;
pub mod queue;
mod safe;
mod supervisor;
pub mod sync;
pub mod sys;
pub mod task;
pub mod worker;

pub use bootstrap::init;
pub use error::{Error, Result};
pub use safe::{Call, function};

#[cfg(feature = "allocator")]
#[global_allocator]
static ALLOCATOR: sys::reserve::WithReserve = sys::reserve::WithReserve;
