//! A look at the pools of another process, which is asked nothing: `docs/design/inspect.md`.
//!
//! `page` is what a host writes; the rest is the side that looks: [`process`] finds processes and opens their memory,
//! [`pool`] puts together what is found there, and [`locks`] asks the kernel which thread waits for which lock.

pub mod locks;
pub(crate) mod page;
pub mod pool;
pub mod process;

#[cfg(test)]
mod tests;
