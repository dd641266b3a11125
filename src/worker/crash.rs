//! What a worker that crashes leaves behind: the signal, the address, and where it was.
//!
//! The handler runs on a stack of its own, in a process whose heap, locks and stack may be broken. It writes numbers
//! into the worker's segment and nothing else; names are put to them by the host. If even that gets stuck, a timer
//! ends the process.

use super::Worker;
use crate::sys::crash::{self as fatal, Fault};
use crate::sys::prim::Ordering;
use crate::task::ring::{CrashRecord, FRAMES};
use std::sync::atomic::AtomicPtr;

/// The worker of this process. Release at installation, Acquire in the handler.
static WORKER: AtomicPtr<Worker> = AtomicPtr::new(std::ptr::null_mut());

/// From now on a fatal signal leaves a record in the worker's segment.
pub(crate) fn install(worker: &'static Worker) {
    WORKER.store(std::ptr::from_ref(worker).cast_mut(), Ordering::Release);
    fatal::install(record);
}

fn record(fault: Fault) {
    // SAFETY: null, or a worker that lives as long as the process.
    let Some(worker) = (unsafe { WORKER.load(Ordering::Acquire).as_ref() }) else { return };
    let record: &CrashRecord = &worker.segment().crash;
    record.code.store(fault.code, Ordering::Relaxed);
    record.fault_address.store(fault.address as u64, Ordering::Relaxed);
    record.signal.store(fault.signal, Ordering::Release);
    let mut count = 0;
    fatal::walk_stack(fault.instruction, &mut |address| {
        let (module, offset) = worker.resolver().locate(address).unwrap_or((u64::MAX, address as u64));
        record.frames[count].0.store(module, Ordering::Relaxed);
        record.frames[count].1.store(offset, Ordering::Relaxed);
        count += 1;
        record.frame_count.store(count as u32, Ordering::Release);
        count < FRAMES
    });
}
