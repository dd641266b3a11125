//! The C ABI of `include/tine.h`, and nothing else: check, convert, one call of the core, map the error.
//!
//! Every function here is documented for its C callers; the header is generated from these comments. The items keep
//! the order in which the header shows them.
#![allow(non_camel_case_types)]
// The C callers' duties are in each function's text; a "# Safety" section would only repeat them in the header.
#![allow(clippy::missing_safety_doc)]

pub mod channel;
pub mod channel_place;
pub mod death;
pub mod errors;
pub mod faults;
#[cfg(test)]
mod fuzz;
pub(crate) mod guard;
pub mod heap;
pub mod map;
pub mod memory;
pub(crate) mod options;
pub mod pool;
pub mod process;
pub mod progress;
pub mod queue;
pub mod queue_place;
pub mod segment;
pub mod start;
pub mod stats_text;
pub mod stream;
pub mod submit;
pub mod sync;
pub mod sync_barrier;
pub mod sync_rwlock;
pub mod sync_signal;
pub mod task;
pub mod transport;
pub mod worker_options;
