//! Memory: the pool's heap

use crate::ffi::guard::guard;
use crate::ffi::heap;
use crate::ffi::pool::{self, heap_of, tine_pool};
use std::ffi::{c_int, c_void};

/// Allocates a block of the pool's heap: shared memory that has one address in the host and in every worker, later
/// workers included. So pointers into the heap are valid in all of them.
///
/// The pages of a block are reserved before the block is handed out. When memory is full this call returns NULL, and
/// no SIGBUS comes later.
///
/// Parameters: pool: in a worker, what tine_task_pool returns. size: in bytes; 0 gives a block as well.
/// Returns the block, a multiple of 16, with any content; NULL: there is no memory, or the heap's limit is reached.
/// Ownership: the block stays until tine_free, from whatever process. The death of the process that has allocated the
/// block does not free it. Threads: any; not in a signal handler. Fork: NULL in a child of the host or of a worker.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_alloc(pool: *mut tine_pool, size: usize) -> *mut c_void {
    // SAFETY: `pool` is NULL, or a pool that tine gave and that has not been destroyed, as the header asks.
    unsafe { heap::allocate(heap_of(pool), size) }
}

/// Allocates a block for an array, and sets all of it to zero.
///
/// Parameters: pool: as for tine_alloc. count: how many elements. size: of each element, in bytes.
/// Returns the block; NULL: as for tine_alloc, and where the product of count and size overflows.
/// Ownership: as for tine_alloc. Threads: any; not in a signal handler. Fork: NULL in a child of the host or of a
/// worker.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_calloc(pool: *mut tine_pool, count: usize, size: usize) -> *mut c_void {
    // SAFETY: `pool` is NULL, or a pool that tine gave and that has not been destroyed, as the header asks.
    unsafe { heap::allocate_zeroed(heap_of(pool), count, size) }
}

/// Allocates a block whose address is a multiple of alignment: for vectors, pages, direct I/O.
///
/// Parameters: pool: as for tine_alloc. alignment: in bytes, a power of two. size: in bytes. A block with an
/// alignment above 64 KiB takes whole pieces of 64 KiB.
/// Returns the block; NULL: as for tine_alloc, and where alignment is not a power of two.
/// Ownership: as for tine_alloc. Threads: any; not in a signal handler. Fork: NULL in a child of the host or of a
/// worker.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_alloc_aligned(
    pool: *mut tine_pool,
    alignment: usize,
    size: usize,
) -> *mut c_void {
    // SAFETY: `pool` is NULL, or a pool that tine gave and that has not been destroyed, as the header asks.
    unsafe { heap::allocate_aligned(heap_of(pool), alignment, size) }
}

/// Makes a block longer or shorter, in its place or in another one. The content is kept, and an alignment is not.
///
/// Parameters: pool: as for tine_alloc. block: of that pool; NULL: the call is tine_alloc. size: in bytes; 0 gives a
/// block as well.
/// Returns the block in place of the old one; NULL: there is no memory, or block is not a block. Then the old block
/// is as it was.
/// Ownership: as for tine_alloc. Threads: any; no other thread may use the block meanwhile. Fork: NULL in a child of
/// the host or of a worker.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_realloc(pool: *mut tine_pool, block: *mut c_void, size: usize) -> *mut c_void {
    // SAFETY: `pool` is NULL, or a pool that tine gave and that has not been destroyed, as the header asks.
    unsafe { heap::reallocate(heap_of(pool), block, size) }
}

/// Frees a block, in whatever process of the pool.
///
/// An address that is not the start of an allocated block is left alone: of a block that has been freed already,
/// inside a block, or outside the heap. With TINE_CHECK=1 in the environment such a call ends the process with a
/// message. tine_heap_free returns a code for it. It also returns a code where a block cannot be found for want of
/// memory; such a block stays allocated here.
///
/// Parameters: pool: as for tine_alloc. block: of that pool; NULL: nothing happens.
/// Threads: any; not in a signal handler. Fork: does nothing in a child of the host or of a worker.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_free(pool: *mut tine_pool, block: *mut c_void) {
    // SAFETY: `pool` is NULL, or a pool that tine gave and that has not been destroyed, as the header asks.
    unsafe { heap::free(heap_of(pool), block) };
}

/// The size of a block, all of which may be used.
///
/// Parameters: pool: as for tine_alloc. block: of that pool.
/// Returns the size in bytes, at least what was asked for; 0: block is NULL, or not the start of an allocated block.
/// Threads: any. Fork: 0 in a child of the host or of a worker.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_block_size(pool: *mut tine_pool, block: *const c_void) -> usize {
    // SAFETY: `pool` is NULL, or a pool that tine gave and that has not been destroyed, as the header asks.
    unsafe { heap::block_size(heap_of(pool), block) }
}

/// Tells whether every process of the pool can use an array of bytes.
///
/// Parameters: pool: as for tine_alloc. pointer: the first byte. length: in bytes.
/// Returns 1: all the bytes lie in the memory of the pool's heap, or of one segment that tine_pool_share has passed
/// to the workers; 0: they do not, or pointer is NULL; -EINVAL: pool is NULL; TINE_EFORKED.
/// Threads: any. Fork: TINE_EFORKED in a child of the host or of a worker.
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
