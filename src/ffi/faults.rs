//! Faults on request

use crate::error::Result;
use crate::ffi::guard::duration;
use crate::ffi::options::extensible;
use crate::task::faults::Faults;

/// Faults that a pool is to have, so that a test sees how its program deals with them: tine_pool_options.faults. All
/// zero: none.
///
/// Each kind of fault counts its own events, from 1 on, over all processes of the pool. With .seed 0 the fault comes
/// once, at the event with the given number. With another seed it comes at one event in the given number, and the
/// seed decides at which: at the same events in every run. A pool with one worker counts its tasks in the same order
/// in every run.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct tine_faults {
    /// sizeof(tine_faults).
    pub size: usize,
    /// 0: each fault comes once. Another number: each comes again and again, at events that the seed decides.
    pub seed: u64,
    /// Counts starts of workers. The worker is killed before its initializer runs. 0: none.
    pub kill_start: u64,
    /// Counts calls of functions in workers: tasks, items of maps and streams, chunks of loops; a retry counts once
    /// more. The worker is killed when the call counts as begun and its function has not run. 0: none.
    pub kill_call: u64,
    /// Counts calls as .kill_call does. The worker is killed when the function has run, before anything of its result
    /// is handed over. 0: none.
    pub kill_return: u64,
    /// Counts calls as .kill_call does. The function is called .delay_ns later, and the delay counts as its own time.
    /// 0: none.
    pub delay_call: u64,
    /// How long the delay of .delay_call is, in nanoseconds; 0 where .delay_call is 0, and only there.
    pub delay_ns: i64,
    /// Counts allocations, in the host and in workers: tine_alloc, tine_calloc, tine_alloc_aligned, tine_realloc, the
    /// tine_heap_... calls for them on the pool's heap, and each tine_output that does not fit beside the result. The
    /// call returns NULL, as when memory is full. 0: none.
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
