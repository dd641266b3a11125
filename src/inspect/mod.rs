//! A look at the pools of another process, which is asked nothing: `docs/design/inspect.md`.
//!
//! `page` is what a host writes for it; the rest is the side of who looks: [`process`] finds processes and opens what is theirs,
//! [`pool`] puts together what stands there, and [`locks`] asks the kernel who waits for what.

pub mod locks;
pub(crate) mod page;
pub mod pool;
pub mod process;

#[cfg(test)]
mod tests;
