//! Models: the very code of `src/sync`, on loom's atomics and a model of the kernel. Every interleaving within a bound
//! of preemptions, with weak memory; and in each, a victim that dies before any one of its steps.
//!
//! Single-stepping (`sync_step`) shows that no place to die at is bad with the others where they usually are; this shows
//! it for the others anywhere.

#![allow(dead_code, unused_imports)] // The code under test is compiled whole, and used in part.

mod error {
    pub use tine::error::Code;
}
#[path = "model/condition.rs"]
mod condition;
#[path = "model/kernel.rs"]
mod kernel;
#[path = "model/prim.rs"]
mod prim;
#[path = "model/queue.rs"]
mod queue;
#[path = "model/robust.rs"]
mod robust;
#[path = "model/rwlock.rs"]
mod rwlock;
#[path = "model/scenes.rs"]
mod scenes;
#[path = "../src/sync/mod.rs"]
mod sync;

mod sys {
    pub(crate) use crate::prim;
    pub(crate) use crate::robust;
    pub use tine::sys::clock;

    pub mod owner {
        #[derive(Clone, Copy, PartialEq, Eq)]
        pub enum OwnerKind {
            Thread,
            Process,
        }

        pub const UNUSED: u32 = 1 << 30;

        pub fn thread_ended(tid: u32, _: u32) -> bool {
            crate::kernel::has_ended(tid)
        }

        pub fn process_ended(pid: u32, _: u32) -> bool {
            crate::kernel::has_ended(pid)
        }

        pub fn stop_watching() {}

        pub fn process_of(tid: u32) -> u32 {
            tid
        }

        pub fn start_time(_: u32) -> u64 {
            0
        }

        /// One processor: no spinning, which would be interleavings without a meaning.
        pub fn many_processors() -> bool {
            false
        }
    }
}
