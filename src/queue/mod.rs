//! Rings that connect two processes, and queues that connect many.

pub(crate) mod layout;
pub mod message;
pub(crate) mod outside;
mod registry;
pub(crate) mod spin;
mod status;
mod transfer;
mod vigil;
pub(crate) mod watch;
mod zero_copy;

pub use layout::{MOST_BYTES, MOST_MESSAGES};
pub use message::{Queue, QueueOptions};
pub use outside::Contents;
pub(crate) use registry::{
    Known, Place, create, destroy, find, forget_heap, handle_at, leave_heap, name_heap,
};
pub use transfer::{Buffer, Refused};

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
