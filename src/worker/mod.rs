//! A worker: the process that calls the users' functions.
//!
//! It runs user code, so anything can happen to it at any time; what it leaves then is said in `task::ring`.

pub mod context;
mod crash;
pub(crate) mod run;
mod serve;
pub(crate) mod start;

pub use serve::{Nested, Worker};
