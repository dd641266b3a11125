//! Rings that connect two processes, and queues that connect many.

pub(crate) mod layout;
pub mod message;
pub(crate) mod reader;
mod registry;
pub(crate) mod spin;
mod status;
mod transfer;
pub(crate) mod watch;
mod watchers;
mod zero_copy;

pub use layout::{MOST_BYTES, MOST_MESSAGES};
pub use message::{Queue, QueueOptions};
pub use reader::Contents;
pub(crate) use registry::{
    Known, Place, create, destroy, find, forget_heap, handle_at, leave_heap, name_heap,
};
pub use transfer::{Buffer, Refused};

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
