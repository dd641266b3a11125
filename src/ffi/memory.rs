//! Memory: the pool's heap

use crate::error::Error;
use crate::ffi::guard::{guard, guard_value, required_out};
use crate::ffi::options::{self, Extensible};
use crate::ffi::pool::{heap, heap_quickly, host, tine_pool};
use std::ffi::{c_int, c_void};
use std::ptr::NonNull;

/// What a pool's heap holds.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct tine_heap_info {
    /// sizeof(tine_heap_info).
    pub size: usize,
    /// Bytes of the system's memory that are reserved for the heap.
    pub reserved_bytes: u64,
    /// The most that were reserved at once.
    pub peak_bytes: u64,
    /// Bytes of allocated blocks, rounded up to block sizes, of all processes together.
    pub used_bytes: u64,
    /// How many allocated blocks there are.
    pub used_blocks: u64,
}

// SAFETY: `repr(C)`, size first, plain integers.
unsafe impl Extensible for tine_heap_info {
    const NAME: &'static str = "tine_heap_info";
}

/// What one process has allocated in a pool's heap, and nobody has freed.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct tine_heap_usage {
    /// sizeof(tine_heap_usage).
    pub size: usize,
    /// The process.
    pub pid: c_int,
    /// 1: the host or a worker; 0: a worker that has died.
    pub alive: c_int,
    /// Bytes of its blocks, rounded up to block sizes.
    pub bytes: u64,
    /// How many blocks.
    pub blocks: u64,
}

/// Called with what one process has. A return other than 0 ends the listing.
pub type tine_heap_usage_fn =
    Option<unsafe extern "C-unwind" fn(usage: *const tine_heap_usage, user: *mut c_void) -> c_int>;

/// Called with one block and its size in bytes. A return other than 0 ends the listing.
pub type tine_heap_block_fn =
    Option<unsafe extern "C-unwind" fn(block: *mut c_void, length: usize, user: *mut c_void) -> c_int>;

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
    // SAFETY: the caller's pool.
    if let Some(block) = unsafe { heap_quickly(pool) }.and_then(|heap| heap.allocate_quickly(size)) {
        return block.as_ptr().cast();
    }
    guard_value(std::ptr::null_mut(), || {
        // SAFETY: the caller's pool.
        pointer(unsafe { heap(pool) }.and_then(|heap| heap.allocate(size)))
    })
}

/// A block for an array, all of it zeroed.
///
/// Parameters: pool; count: how many elements; size: of each, in bytes. A product that overflows is NULL.
/// Otherwise as tine_alloc.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_calloc(pool: *mut tine_pool, count: usize, size: usize) -> *mut c_void {
    guard_value(std::ptr::null_mut(), || {
        // SAFETY: the caller's pool.
        pointer(unsafe { heap(pool) }.and_then(|heap| heap.allocate_zeroed(count, size)))
    })
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
    guard_value(std::ptr::null_mut(), || {
        // SAFETY: the caller's pool.
        pointer(unsafe { heap(pool) }.and_then(|heap| heap.allocate_aligned(alignment, size)))
    })
}

/// Makes a block longer or shorter, in its place or in another one; its content goes along, an alignment does not.
///
/// Parameters: pool; block: from the same pool, or NULL: then it is tine_alloc. size: in bytes; 0 gives a block as well.
/// Returns the block, which takes the old one's place; NULL: no memory, or not a block, and the old one is as it was.
/// Threads: any; nobody else may use the block meanwhile. Fork: NULL in a child of the host, and of a worker.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_realloc(pool: *mut tine_pool, block: *mut c_void, size: usize) -> *mut c_void {
    guard_value(std::ptr::null_mut(), || {
        // SAFETY: the caller's pool.
        let heap = unsafe { heap(pool) };
        pointer(heap.and_then(|heap| match NonNull::new(block.cast::<u8>()) {
            Some(block) => heap.reallocate(block, size),
            None => heap.allocate(size),
        }))
    })
}

/// Gives a block back, from whatever process of the pool.
///
/// Parameters: pool; block: of the same pool, or NULL. What is not the start of an allocated block is left alone: one
/// that was freed already, a pointer into a block, a pointer to something else.
/// Threads: any. Fork: does nothing in a child of the host or of a worker.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_free(pool: *mut tine_pool, block: *mut c_void) {
    // SAFETY: the caller's pool.
    if unsafe { heap_quickly(pool) }.is_some_and(|heap| heap.free_quickly(block.cast())) {
        return;
    }
    guard_value((), || {
        // SAFETY: the caller's pool.
        if let (Ok(heap), Some(block)) = (unsafe { heap(pool) }, NonNull::new(block.cast::<u8>())) {
            let _ = heap.free(block);
        }
    });
}

/// How many bytes a block really has, which is at least what was asked for; all of them may be used.
///
/// Returns 0 for NULL and for what is not the start of an allocated block. Threads: any. Fork: 0 in a child of the host.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_block_size(pool: *mut tine_pool, block: *const c_void) -> usize {
    guard_value(0, || {
        // SAFETY: the caller's pool.
        let heap = unsafe { heap(pool) };
        let block = NonNull::new(block.cast_mut().cast::<u8>());
        block.and_then(|block| heap.ok()?.size_of(block).ok()).unwrap_or(0)
    })
}

/// Whether every process of the pool can use these bytes: whether all of them lie in memory of the pool's heap.
///
/// Parameters: pool; pointer; length: in bytes.
/// Returns 1 or 0; 0 for NULL. Threads: any. Fork: TINE_EFORKED in a child of the host.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_is_shared(
    pool: *mut tine_pool,
    pointer: *const c_void,
    length: usize,
) -> c_int {
    guard(|| {
        // SAFETY: the caller's pool.
        let heap = unsafe { heap(pool) }?;
        Ok(c_int::from(!pointer.is_null() && heap.contains(pointer.expose_provenance(), length)))
    })
}

/// What the heap holds, counted by a walk over it; other processes may allocate and free meanwhile.
///
/// Parameters: pool: in a worker, what tine_task_pool gives. out: a tine_heap_info, with its .size set.
/// Returns 0; -EINVAL; TINE_EFORKED. Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_heap_stats(pool: *mut tine_pool, out: *mut tine_heap_info) -> c_int {
    guard(|| {
        // SAFETY: the caller's pointers.
        let (heap, place) = unsafe { (heap(pool)?, required_out(out, "out")?) };
        let stats = heap.stats();
        let info = tine_heap_info {
            size: 0,
            reserved_bytes: stats.reserved_bytes,
            peak_bytes: stats.peak_bytes,
            used_bytes: stats.used_bytes,
            used_blocks: stats.used_blocks,
        };
        // SAFETY: the caller's struct.
        unsafe { options::fill(place, &info) }?;
        Ok(0)
    })
}

/// Lists what each process has in the heap: the host, each worker, and each worker that has died and left blocks.
///
/// Parameters: pool; visit: called once for each, on this thread; it may use the pool. user: passed on.
/// Returns how many there are, or what visit returned other than 0; -EINVAL; TINE_EFORKED, TINE_EWORKER. Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_heap_processes(
    pool: *mut tine_pool,
    visit: tine_heap_usage_fn,
    user: *mut c_void,
) -> c_int {
    guard(|| {
        let visit = visit.ok_or_else(|| Error::invalid("visit is NULL"))?;
        // SAFETY: the caller's pool.
        let all = unsafe { host(pool) }?.heap_usage()?;
        for one in &all {
            let usage = tine_heap_usage {
                size: size_of::<tine_heap_usage>(),
                pid: one.pid,
                alive: c_int::from(one.alive),
                bytes: one.usage.bytes,
                blocks: one.usage.blocks,
            };
            // SAFETY: the caller's function, as its type says.
            let rc = unsafe { visit(&usage, user) };
            if rc != 0 {
                return Ok(rc);
            }
        }
        Ok(all.len() as c_int)
    })
}

/// Lists the blocks that a worker had when it died and nobody has freed since.
///
/// They stay as they are: other processes may have pointers to them. Memory that tine itself had taken for the worker
/// is not among them, it is free again.
///
/// Parameters: pool; pid; visit: called once for each block, on this thread; it may free it. user: passed on.
/// Returns how many there are, 0 for a process that left nothing, or what visit returned other than 0; -EINVAL;
/// TINE_EFORKED, TINE_EWORKER. Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_heap_blocks(
    pool: *mut tine_pool,
    pid: c_int,
    visit: tine_heap_block_fn,
    user: *mut c_void,
) -> c_int {
    guard(|| {
        let visit = visit.ok_or_else(|| Error::invalid("visit is NULL"))?;
        // SAFETY: the caller's pool.
        let pool = unsafe { host(pool) }?;
        pool.poll()?;
        let blocks = pool.heap()?.left_by(pid);
        for (address, length) in &blocks {
            // SAFETY: the caller's function, as its type says.
            let rc = unsafe { visit(std::ptr::with_exposed_provenance_mut(*address), *length, user) };
            if rc != 0 {
                return Ok(rc);
            }
        }
        Ok(blocks.len() as c_int)
    })
}

/// Frees all blocks that a worker had when it died: for when nobody has a pointer to any of them.
///
/// Parameters: pool; pid: of a worker that has died.
/// Returns how many blocks it freed; -EBUSY: the process is not known to have died; TINE_EFORKED, TINE_EWORKER.
/// Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_heap_release_process(pool: *mut tine_pool, pid: c_int) -> c_int {
    guard(|| {
        // SAFETY: the caller's pool.
        let freed = unsafe { host(pool) }?.release_process(pid)?;
        Ok(c_int::try_from(freed).unwrap_or(c_int::MAX))
    })
}

/// Gives the memory that nothing is in back to the system. Without it, up to 32 MiB stay reserved for the next blocks.
///
/// Parameters: pool: in a worker, what tine_task_pool gives; then it is about what that worker has freed.
/// Returns 0; -EINVAL; TINE_EFORKED. Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_heap_trim(pool: *mut tine_pool) -> c_int {
    guard(|| {
        // SAFETY: the caller's pool.
        unsafe { heap(pool) }?.trim();
        Ok(0)
    })
}

fn pointer(block: crate::Result<NonNull<u8>>) -> *mut c_void {
    block.map_or(std::ptr::null_mut(), |block| block.as_ptr().cast())
}
