//! Memory: the pool's heap

use crate::ffi::guard::guard;
use crate::ffi::heap;
use crate::ffi::pool::{self, heap_of, tine_pool};
use std::ffi::{c_int, c_void};

/// A block of the pool's heap: shared memory at the same address in the host and in every worker, those to come too,
/// so that pointers into it mean the same everywhere.
///
/// Its pages are reserved before it is handed out: full memory is NULL here, never a SIGBUS later.
///
/// Parameters: pool: in a worker, what tine_task_pool gives. size: in bytes; 0 gives a block as well.
/// Returns the block, aligned to 16 bytes, its content anything; NULL: no memory, or the heap's limit is reached.
/// Ownership: until tine_free, from whatever process; the death of the process that allocated it does not end it.
/// Threads: any; not in a signal handler. Fork: NULL in a child of the host, and of a worker.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_alloc(pool: *mut tine_pool, size: usize) -> *mut c_void {
    // SAFETY: `pool` is NULL, or a pool that tine gave and that has not been destroyed, as the header asks.
    unsafe { heap::allocate(heap_of(pool), size) }
}

/// A block for an array, all of it zeroed.
///
/// Parameters: pool; count: how many elements; size: of each, in bytes. A product that overflows is NULL.
/// Otherwise as tine_alloc.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_calloc(pool: *mut tine_pool, count: usize, size: usize) -> *mut c_void {
    // SAFETY: `pool` is NULL, or a pool that tine gave and that has not been destroyed, as the header asks.
    unsafe { heap::allocate_zeroed(heap_of(pool), count, size) }
}

/// A block whose address is a multiple of `alignment`: for vectors, pages, direct I/O.
///
/// Parameters: pool; alignment: in bytes, a power of two, otherwise NULL; size: in bytes.
/// Otherwise as tine_alloc. Alignments above 64 KiB are of whole 64 KiB pieces.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_alloc_aligned(
    pool: *mut tine_pool,
    alignment: usize,
    size: usize,
) -> *mut c_void {
    // SAFETY: `pool` is NULL, or a pool that tine gave and that has not been destroyed, as the header asks.
    unsafe { heap::allocate_aligned(heap_of(pool), alignment, size) }
}

/// Makes a block longer or shorter, in its place or in another one; its content goes along, an alignment does not.
///
/// Parameters: pool; block: from the same pool, or NULL: then it is tine_alloc. size: in bytes; 0 gives a block as well.
/// Returns the block, which takes the old one's place; NULL: no memory, or not a block, and the old one is as it was.
/// Threads: any; nobody else may use the block meanwhile. Fork: NULL in a child of the host, and of a worker.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_realloc(pool: *mut tine_pool, block: *mut c_void, size: usize) -> *mut c_void {
    // SAFETY: `pool` is NULL, or a pool that tine gave and that has not been destroyed, as the header asks.
    unsafe { heap::reallocate(heap_of(pool), block, size) }
}

/// Gives a block back, from whatever process of the pool.
///
/// Parameters: pool; block: of the same pool, or NULL. What is not the start of an allocated block is left alone: one
/// that was freed already, a pointer into a block, a pointer to something else. With TINE_CHECK=1 in the environment that
/// ends the process, with a message; tine_heap_free has a code for it, and for a block that cannot be found for want of memory, which
/// stays as well.
/// Threads: any; not in a signal handler. Fork: does nothing in a child of the host or of a worker.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_free(pool: *mut tine_pool, block: *mut c_void) {
    // SAFETY: `pool` is NULL, or a pool that tine gave and that has not been destroyed, as the header asks.
    unsafe { heap::free(heap_of(pool), block) };
}

/// How many bytes a block really has, which is at least what was asked for; all of them may be used.
///
/// Returns 0 for NULL and for what is not the start of an allocated block. Threads: any. Fork: 0 in a child of the host.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_block_size(pool: *mut tine_pool, block: *const c_void) -> usize {
    // SAFETY: `pool` is NULL, or a pool that tine gave and that has not been destroyed, as the header asks.
    unsafe { heap::block_size(heap_of(pool), block) }
}

/// Whether every process of the pool can use these bytes: whether all of them lie in memory of the pool's heap, or of
/// one segment that tine_pool_share has passed to the workers.
///
/// Parameters: pool; pointer; length: in bytes.
/// Returns 1 or 0; 0 for a NULL pointer; -EINVAL: pool is NULL. Threads: any. Fork: TINE_EFORKED in a child of the
/// host.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_is_shared(
    pool: *mut tine_pool,
    pointer: *const c_void,
    length: usize,
) -> c_int {
    guard(|| {
        // SAFETY: `pool` is NULL, or a pool that tine gave and that has not been destroyed, as the header asks.
        let shared = unsafe { pool::is_shared(pool, pointer.expose_provenance(), length) }?;
        Ok(c_int::from(!pointer.is_null() && shared))
    })
}
