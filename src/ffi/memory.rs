//! Memory: the pool's heap

use crate::ffi::guard::guard_value;
use crate::ffi::pool::{heap, tine_pool};
use std::ffi::c_void;
use std::ptr::NonNull;

/// A block of the pool's heap: shared memory at the same address in the host and in every worker, those to come too,
/// so that pointers into it mean the same everywhere.
///
/// Its pages are reserved before it is handed out: full memory is NULL here, never a SIGBUS later.
///
/// Parameters: pool: in a worker, what tine_task_pool gives. size: in bytes; 0 gives a block as well.
/// Returns the block, aligned to 16 bytes, its content anything; NULL: no memory, or the heap's limit is reached.
/// Ownership: until tine_free, from whatever process; the death of the process that allocated it does not end it.
/// Threads: any. Fork: NULL in a child of the host, and of a worker.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_alloc(pool: *mut tine_pool, size: usize) -> *mut c_void {
    guard_value(std::ptr::null_mut(), || {
        // SAFETY: the caller's pool.
        let block = unsafe { heap(pool) }.and_then(|heap| heap.allocate(size));
        block.map_or(std::ptr::null_mut(), |block| block.as_ptr().cast())
    })
}

/// Gives a block back, from whatever process of the pool.
///
/// Parameters: pool; block: from tine_alloc of the same pool, or NULL. What is not the start of an allocated block is
/// left alone. Threads: any. Fork: does nothing in a child of the host or of a worker.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_free(pool: *mut tine_pool, block: *mut c_void) {
    guard_value((), || {
        // SAFETY: the caller's pool.
        if let (Ok(heap), Some(block)) = (unsafe { heap(pool) }, NonNull::new(block.cast::<u8>())) {
            let _ = heap.free(block);
        }
    });
}
