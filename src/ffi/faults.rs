//! Faults on request

use crate::error::Result;
use crate::ffi::guard::duration;
use crate::ffi::options::extensible;
use crate::task::faults::Faults;

/// What is to go wrong in a pool, so that a test sees what its program makes of it: tine_pool_options.faults. All zero: nothing.
///
/// Each kind of fault has numbers of its own kind, counted from 1 over all processes of the pool. With .seed 0 it comes once, at
/// the number given. With another seed it comes at one number in so many, and the seed decides which: the same ones in every run.
/// The same task has the same number in every run where the pool has one worker.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct tine_faults {
    /// sizeof(tine_faults).
    pub size: usize,
    /// 0: each fault comes once. Otherwise again and again, where the seed says.
    pub seed: u64,
    /// Workers that start: this one, or one in so many, is killed before its initializer runs. 0: none.
    pub kill_start: u64,
    /// Calls of functions by workers (tasks, items of maps and streams, pieces of loops; a retry is a call more): the worker is killed
    /// when the call counts as begun and its function has not run. 0: none.
    pub kill_call: u64,
    /// The same calls: the worker is killed when the function has run and nothing of its result is left. 0: none.
    pub kill_return: u64,
    /// The same calls: the function is called .delay_ns late, as part of its own time. 0: none.
    pub delay_call: u64,
    /// How late, in nanoseconds; 0 exactly where .delay_call is.
    pub delay_ns: i64,
    /// tine_alloc, tine_calloc, tine_alloc_aligned, tine_realloc, the same of tine_heap_* on the pool's heap, in the host and in
    /// workers, and tine_output of more than fits beside the result: NULL, as when memory is full. 0: none.
    pub fail_alloc: u64,
}

extensible!(tine_faults);

impl tine_faults {
    pub(crate) fn core(&self) -> Result<Faults> {
        Ok(Faults {
            seed: self.seed,
            kill_start: self.kill_start,
            kill_call: self.kill_call,
            kill_return: self.kill_return,
            delay_call: self.delay_call,
            delay_ns: duration(self.delay_ns, "faults.delay_ns")?,
            fail_alloc: self.fail_alloc,
        })
    }
}
