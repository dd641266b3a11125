//! What both sides of a pool share: the ring and its slots, what is to be called and how functions travel, the messages of the control
//! socket, and the records of starts and deaths. Nothing here is one process's alone.

pub mod call;
pub(crate) mod callees;
pub(crate) mod death;
pub(crate) mod environment;
pub mod faults;
pub mod function;
#[cfg(test)]
mod fuzz;
pub(crate) mod handover;
pub(crate) mod job;
pub(crate) mod program;
pub(crate) mod resolver;
pub(crate) mod ring;
pub(crate) mod settings;
pub(crate) mod share;
pub(crate) mod spin;
pub(crate) mod wire;

pub use death::Death;
pub use environment::Limit;
pub use settings::StartMethod;
