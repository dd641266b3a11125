//! Heaps: the calls for a pool's heap and for one in a segment

mod blocks;

pub(crate) use blocks::{
    allocate, allocate_aligned, allocate_zeroed, block_size, free, reallocate, with_memory,
};
use blocks::{get, of};

use crate::error::{Code, Error, Result};
use crate::ffi::errors::tine_error;
use crate::ffi::guard::{Out, guard, guard_value};
use crate::ffi::options::{self, extensible};
use crate::ffi::pool::{heap_of, host, tine_pool};
use crate::ffi::segment::{get as segment, tine_segment};
use crate::heap::Heap;
use crate::heap::own::OwnHeap;
use crate::heap::segment::Segment;
use crate::pool::Faults;
use crate::queue::{self, Known};
use crate::sys::{fork, reserve};
use crate::worker::Worker;
use std::ffi::{c_int, c_void};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, Ordering};

/// A heap: the one of a pool, or one of its own in a segment, for processes that have no pool in common.
pub struct tine_heap {
    /// Behind `of`, for as long as that lives.
    heap: NonNull<Heap>,
    /// The only process that may use it.
    pid: i32,
    /// The same; nobody where each allocation is to be looked at, because some are to fail.
    quick_pid: i32,
    faults: Faults,
    of: Of,
    /// A language binding's own. AcqRel: who sees it sees what it points to.
    tag: AtomicPtr<c_void>,
}

enum Of {
    Host(*mut tine_pool),
    Worker,
    Segment(Box<OwnHeap>),
}

// SAFETY: a `Heap`, a pool and a heap of one's own may each be used from any thread. The rest is a number and an
// atomic.
unsafe impl Send for tine_heap {}
// SAFETY: a shared `tine_heap` gives shared references to what it holds and no others. A `Heap`, a pool and a heap of
// one's own bear being used by several threads at once, and the tag is an atomic.
unsafe impl Sync for tine_heap {}

/// The contents of a heap: see tine_heap_stats.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct tine_heap_info {
    /// sizeof(tine_heap_info).
    pub size: usize,
    /// Bytes of the system's memory that are reserved for the heap. A heap in a segment has all of the segment
    /// reserved.
    pub reserved_bytes: u64,
    /// The most bytes that were reserved at one time.
    pub peak_bytes: u64,
    /// Bytes of allocated blocks, rounded up to block sizes, of all processes together.
    pub used_bytes: u64,
    /// How many allocated blocks there are.
    pub used_blocks: u64,
}

extensible!(tine_heap_info);

/// The blocks that one process has allocated in a heap and that nobody has freed: see tine_heap_processes.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct tine_heap_usage {
    /// sizeof(tine_heap_usage).
    pub size: usize,
    /// The process.
    pub pid: c_int,
    /// 1: the process has the heap; 0: it has died, or has closed the heap.
    pub alive: c_int,
    /// Bytes of its blocks, rounded up to block sizes.
    pub bytes: u64,
    /// How many blocks.
    pub blocks: u64,
}

/// Called with the blocks of one process. Returning another number than 0 ends the listing.
pub type tine_heap_usage_fn =
    Option<unsafe extern "C-unwind" fn(usage: *const tine_heap_usage, user: *mut c_void) -> c_int>;

/// Called with one block and its size in bytes. Returning another number than 0 ends the listing.
pub type tine_heap_block_fn =
    Option<unsafe extern "C-unwind" fn(block: *mut c_void, length: usize, user: *mut c_void) -> c_int>;

/// Options of tine_heap_create and tine_heap_attach.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct tine_heap_options {
    /// sizeof(tine_heap_options).
    pub size: usize,
    /// Filled in when the call fails; may be NULL.
    pub error: *mut tine_error,
}

extensible!(tine_heap_options: Options);

/// The heap of a pool. tine_alloc(pool, size) is short for tine_heap_alloc(tine_pool_heap(pool), size), and so on.
///
/// Parameters: pool: in a worker, what tine_task_pool returns.
/// Returns the heap, which lives and ends with the pool; NULL: pool is NULL.
/// Threads: any. Fork: a child may call it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_pool_heap(pool: *mut tine_pool) -> *mut tine_heap {
    // SAFETY: `pool` is NULL, or a pool that tine gave and that has not been destroyed, as the header asks.
    unsafe { heap_of(pool) }.cast_mut()
}

/// The heap in which an address lies: a pool's, or one that tine_heap_create or tine_heap_attach has opened in this
/// process. So it tells for a pointer that was kept whether its heap is still open.
///
/// Parameters: address: any.
/// Returns the heap; NULL: the address lies in no heap that is open here.
/// Ownership: the heap stays whose it was. Threads: any, while no other thread closes the heap. Fork: a child finds
/// only heaps of its own.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_heap_find(address: *const c_void) -> *mut tine_heap {
    guard_value(std::ptr::null_mut(), || {
        let handle = || std::ptr::with_exposed_provenance_mut::<tine_heap>(queue::handle_at(address.addr()));
        let found = handle();
        if !found.is_null() {
            return found;
        }
        // A worker's has no handle before somebody asks for it.
        let Some(worker) = Worker::here() else { return found };
        tine_pool::of_worker(worker);
        handle()
    })
}

/// Attaches a pointer to a heap's handle in this process, for a language's binding. The first tag stays.
///
/// Parameters: heap. tag: any pointer; NULL only asks.
/// Returns the tag that the heap has now; NULL: it has none, or heap is NULL.
/// Threads: any. Of several threads that give a tag, one succeeds. Fork: a child may call it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_heap_tag(heap: *mut tine_heap, tag: *mut c_void) -> *mut c_void {
    guard_value(std::ptr::null_mut(), || {
        // SAFETY: `heap` is NULL, or a heap that is neither closed nor of a destroyed pool, as the header asks.
        let Some(heap) = (unsafe { heap.as_ref() }) else { return std::ptr::null_mut() };
        let none = std::ptr::null_mut();
        match heap.tag.compare_exchange(none, tag, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => tag,
            Err(there) => there,
        }
    })
}

/// Makes a heap in a segment, and uses up the whole segment. Every process that has the segment may attach, and
/// allocate and free blocks in it. A pointer to a block is valid in all of them.
///
/// Parameters: s: a segment of at least 256 KiB, without TINE_SEGMENT_READ_ONLY and TINE_SEGMENT_ANY_ADDRESS, that is
/// used for nothing else. options: NULL for all defaults. out: where the heap goes.
/// Returns 0; -EEXIST: a heap, or something else, is in the segment already; -EINVAL: the segment is too small, or
/// not mapped at its own address, or an argument is NULL; -EACCES: the segment can only be read; -E2BIG: the options
/// are longer than this version knows; -EMFILE: no descriptor is free; -ENOMEM: there is no memory. After an error no
/// heap is in the segment.
/// Ownership: until tine_heap_close, which comes before tine_segment_close. Threads: any. Fork: a child attaches for
/// itself.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_heap_create(
    s: *mut tine_segment,
    options: *const tine_heap_options,
    out: *mut *mut tine_heap,
) -> c_int {
    // SAFETY: `s` is NULL or a segment that is not closed, `options` is NULL or as long as its `.size` says, and
    // `out` is NULL or can be written, as the header asks.
    unsafe { make(s, options, out, OwnHeap::create) }
}

/// Opens the heap that another process has made in a segment.
///
/// Parameters: s: the segment. options: NULL for all defaults. out: where the heap goes.
/// Returns 0; -EINVAL: there is no heap in the segment, the segment is not mapped at its own address, or an argument
/// is NULL; TINE_EVERSION: the heap was made by another version of tine; -ENOSPC: the heap is open 252 times;
/// -EACCES: the segment can only be read; -E2BIG: the options are longer than this version knows; -EMFILE: no
/// descriptor is free; -ENOMEM: there is no memory.
/// Ownership: until tine_heap_close, which comes before tine_segment_close. Threads: any. Fork: a child attaches for
/// itself.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_heap_attach(
    s: *mut tine_segment,
    options: *const tine_heap_options,
    out: *mut *mut tine_heap,
) -> c_int {
    // SAFETY: `s` is NULL or a segment that is not closed, `options` is NULL or as long as its `.size` says, and
    // `out` is NULL or can be written, as the header asks.
    unsafe { make(s, options, out, OwnHeap::attach) }
}

/// Closes a heap that tine_heap_create or tine_heap_attach has opened. Its blocks stay, and those of this process are
/// listed under this process's number.
///
/// Queues in the heap stay for other processes. Here their descriptors are closed, and calls on them return -EINVAL,
/// unless this process has the heap open once more.
///
/// Parameters: heap: may be NULL. No other thread may use the heap any more.
/// Returns 0; -EINVAL: the heap is a pool's; -EBUSY: a thread of this process is in a call on a queue in the heap, has
/// reserved a message or looks at one, holds a lock in the heap, or waits for one, as far as that can be known;
/// -EMFILE, -ENFILE: there is no descriptor with which to look for locks of the C library's; -ENOMEM: the kernel has
/// no memory for that look, or the heap has descriptors of thousands of queues, and there is no memory to list them.
/// After an error everything is as it was.
/// Threads: any. Fork: in a child it releases the child's copy, and the parent keeps the heap.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_heap_close(heap: *mut tine_heap) -> c_int {
    guard(|| {
        // SAFETY: `heap` is NULL, or a heap that is neither closed nor of a destroyed pool, as the header asks.
        match unsafe { heap.as_ref() } {
            None => Ok(0),
            Some(tine_heap { of: Of::Segment(own), pid, .. }) => {
                if *pid == fork::pid() {
                    queue::leave_heap(own.heap())?;
                }
                // SAFETY: only `make` makes a heap of a segment, and it made this one by `Box::into_raw`. As the text
                // above asks, no other thread uses the heap, and this call is the last.
                drop(unsafe { Box::from_raw(heap) });
                Ok(0)
            }
            Some(_) => Err(Error::invalid("the heap is a pool's and ends with it")),
        }
    })
}

/// Allocates a block, as tine_alloc does. The processes that have the heap are to it what the processes of a pool are
/// to the pool's heap.
///
/// Parameters: heap. size: in bytes; 0 gives a block as well.
/// Returns the block, a multiple of 16, with any content; NULL: there is no memory, the heap is full, or heap is
/// NULL.
/// Ownership: as for tine_alloc. Threads: any; not in a signal handler. Fork: NULL in a child.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_heap_alloc(heap: *mut tine_heap, size: usize) -> *mut c_void {
    // SAFETY: `heap` is NULL, or a heap that is neither closed nor of a destroyed pool, as the header asks.
    unsafe { allocate(heap, size) }
}

/// Allocates a block for an array, and sets all of it to zero, as tine_calloc does.
///
/// Parameters: heap. count: how many elements. size: of each element, in bytes.
/// Returns the block; NULL: as for tine_heap_alloc, and where the product of count and size overflows.
/// Ownership: as for tine_alloc. Threads: any; not in a signal handler. Fork: NULL in a child.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_heap_calloc(heap: *mut tine_heap, count: usize, size: usize) -> *mut c_void {
    // SAFETY: `heap` is NULL, or a heap that is neither closed nor of a destroyed pool, as the header asks.
    unsafe { allocate_zeroed(heap, count, size) }
}

/// Allocates a block whose address is a multiple of alignment, as tine_alloc_aligned does.
///
/// Parameters: heap. alignment: in bytes, a power of two. size: in bytes.
/// Returns the block; NULL: as for tine_heap_alloc, and where alignment is not a power of two.
/// Ownership: as for tine_alloc. Threads: any; not in a signal handler. Fork: NULL in a child.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_heap_alloc_aligned(
    heap: *mut tine_heap,
    alignment: usize,
    size: usize,
) -> *mut c_void {
    // SAFETY: `heap` is NULL, or a heap that is neither closed nor of a destroyed pool, as the header asks.
    unsafe { allocate_aligned(heap, alignment, size) }
}

/// Makes a block longer or shorter, as tine_realloc does.
///
/// Parameters: heap. block: of that heap; NULL: the call is tine_heap_alloc. size: in bytes; 0 gives a block as well.
/// Returns the block in place of the old one; NULL: there is no memory, or block is not a block. Then the old block
/// is as it was.
/// Ownership: as for tine_alloc. Threads: any; no other thread may use the block meanwhile. Fork: NULL in a child.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_heap_realloc(
    heap: *mut tine_heap,
    block: *mut c_void,
    size: usize,
) -> *mut c_void {
    // SAFETY: `heap` is NULL, or a heap that is neither closed nor of a destroyed pool, as the header asks.
    unsafe { reallocate(heap, block, size) }
}

/// Frees a block, as tine_free does, and says whether it could.
///
/// Parameters: heap. block: of that heap; NULL: nothing happens.
/// Returns 0; -EINVAL: the block has been freed already, is not the start of a block, or is not in this heap. Then
/// nothing has changed; with TINE_CHECK=1 in the environment the process ends with a message. -ENOMEM, -EPERM,
/// -ENOSYS: another process has made the heap longer, and this process cannot find out how long it is, for want of
/// memory or because the kernel refuses the call. Then nothing has changed, and the block can be freed later.
/// TINE_EFORKED.
/// Threads: any; not in a signal handler. Fork: TINE_EFORKED in a child.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_heap_free(heap: *mut tine_heap, block: *mut c_void) -> c_int {
    // SAFETY: `heap` is NULL, or a heap that is neither closed nor of a destroyed pool, as the header asks.
    unsafe { free(heap, block) }
}

/// The size of a block, all of which may be used, as tine_block_size gives it.
///
/// Parameters: heap. block: of that heap.
/// Returns the size in bytes, at least what was asked for; 0: block is NULL, or not the start of an allocated block.
/// Threads: any. Fork: 0 in a child.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_heap_block_size(heap: *mut tine_heap, block: *const c_void) -> usize {
    // SAFETY: `heap` is NULL, or a heap that is neither closed nor of a destroyed pool, as the header asks.
    unsafe { block_size(heap, block) }
}

/// Tells whether an array of bytes lies in the heap's memory.
///
/// Parameters: heap. pointer: the first byte. length: in bytes.
/// Returns 1: all the bytes do; 0: they do not, or pointer is NULL; -EINVAL: heap is NULL; TINE_EFORKED.
/// Threads: any. Fork: TINE_EFORKED in a child.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_heap_contains(
    heap: *mut tine_heap,
    pointer: *const c_void,
    length: usize,
) -> c_int {
    guard(|| {
        // SAFETY: `heap` is NULL, or a heap that is neither closed nor of a destroyed pool, as the header asks.
        let heap = unsafe { get(heap) }?;
        Ok(c_int::from(!pointer.is_null() && heap.contains(pointer.expose_provenance(), length)))
    })
}

/// Counts what is in the heap, by a walk over it. Other processes may allocate and free meanwhile.
///
/// Parameters: heap. out: a tine_heap_info with its .size set.
/// Returns 0; -EINVAL: heap or out is NULL, or the .size is less than 16; TINE_EFORKED.
/// Threads: any. Fork: TINE_EFORKED in a child.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_heap_stats(heap: *mut tine_heap, out: *mut tine_heap_info) -> c_int {
    guard(|| {
        // SAFETY: `heap` is NULL, or a heap that is neither closed nor of a destroyed pool, as the header asks.
        let heap = unsafe { get(heap) }?;
        // SAFETY: `out` is NULL, or a struct that can be written as far as its `.size` says, as the header asks.
        unsafe { options::check(out) }?;
        let stats = heap.stats();
        let info = tine_heap_info {
            size: 0,
            reserved_bytes: stats.reserved_bytes,
            peak_bytes: stats.peak_bytes,
            used_bytes: stats.used_bytes,
            used_blocks: stats.used_blocks,
        };
        // SAFETY: `out` can be written as far as its `.size` says, as the header asks. `check` has refused NULL.
        unsafe { options::fill(out, &info) }?;
        Ok(0)
    })
}

/// Lists the blocks of each process: of those that have the heap, and of those that have ended and left blocks. In a
/// pool's heap these are the host, each worker, and each worker that has died and left blocks.
///
/// Parameters: heap. visit: called once for each process, on this thread; it may use the heap. user: passed to visit.
/// Returns how many processes there are; another number than 0 that visit has returned; -EINVAL: heap or visit is
/// NULL; -ENOMEM: there is no memory for the list; TINE_EFORKED; TINE_EWORKER: the heap is the pool's, and this is a
/// worker.
/// Threads: any. Fork: TINE_EFORKED in a child.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_heap_processes(
    heap: *mut tine_heap,
    visit: tine_heap_usage_fn,
    user: *mut c_void,
) -> c_int {
    guard(|| {
        let visit = visit.ok_or_else(|| Error::invalid("visit is NULL"))?;
        // SAFETY: `heap` is NULL, or a heap that is neither closed nor of a destroyed pool, as the header asks.
        let all = unsafe { usage_of(heap) }?;
        for usage in &all {
            // SAFETY: a function of this type was given to be called with `user`, on this thread. `usage` lives until
            // it has returned.
            let rc = unsafe { visit(usage, user) };
            if rc != 0 {
                return Ok(rc);
            }
        }
        Ok(all.len() as c_int)
    })
}

/// What each process has in a heap.
///
/// # Safety
/// `heap` is null, or a heap that is neither closed nor of a destroyed pool.
unsafe fn usage_of(heap: *mut tine_heap) -> Result<Vec<tine_heap_usage>> {
    // SAFETY: `of` asks of `heap` what this function asks.
    let all: Vec<_> = match unsafe { of(heap) }? {
        // SAFETY: a host's heap holds the pool that it lies in (`belongs_to`), so that pool has not been destroyed.
        Of::Host(pool) => unsafe { host(*pool) }?.heap_usage()?,
        Of::Worker => return Err(Code::WORKER.into()),
        Of::Segment(own) => own.processes()?,
    };
    reserve::collect(all.iter().map(|one| tine_heap_usage {
        size: size_of::<tine_heap_usage>(),
        pid: one.pid,
        alive: c_int::from(one.alive),
        bytes: one.usage.bytes,
        blocks: one.usage.blocks,
    }))
}

/// Lists the blocks that a process had when it died or closed the heap, and that nobody has freed since.
///
/// The blocks stay as they are: other processes may have pointers to them. Memory that tine itself had allocated for
/// a worker is not among them, because it has been freed.
///
/// Parameters: heap. pid: the process. visit: called once for each block, on this thread; it may free the block.
/// user: passed to visit.
/// Returns how many blocks there are, 0 for a process that left none; another number than 0 that visit has returned;
/// -EINVAL: heap or visit is NULL, or pid is no number of a process (1 to 4194303); -ENOMEM: there is no memory for
/// the list; TINE_EFORKED; TINE_EWORKER: the heap is the pool's, and this is a worker.
/// Threads: any. Fork: TINE_EFORKED in a child.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_heap_blocks(
    heap: *mut tine_heap,
    pid: c_int,
    visit: tine_heap_block_fn,
    user: *mut c_void,
) -> c_int {
    guard(|| {
        let visit = visit.ok_or_else(|| Error::invalid("visit is NULL"))?;
        // SAFETY: `heap` is NULL, or a heap that is neither closed nor of a destroyed pool, as the header asks.
        let blocks = match unsafe { of(heap) }? {
            Of::Host(pool) => {
                // SAFETY: a host's heap holds the pool that it lies in (`belongs_to`), so that pool has not been
                // destroyed.
                let pool = unsafe { host(*pool) }?;
                pool.poll()?;
                pool.heap()?.left_by(pid)?
            }
            Of::Worker => return Err(Code::WORKER.into()),
            Of::Segment(own) => own.left_by(pid)?,
        };
        for (address, length) in &blocks {
            // SAFETY: a function of this type was given to be called with `user`, on this thread. It gets the block
            // as a bare address.
            let rc = unsafe { visit(std::ptr::with_exposed_provenance_mut(*address), *length, user) };
            if rc != 0 {
                return Ok(rc);
            }
        }
        Ok(blocks.len() as c_int)
    })
}

/// Frees all blocks that a process had when it died or closed the heap. It is for when nobody has a pointer to any of
/// them.
///
/// Parameters: heap. pid: the process.
/// Returns how many blocks it has freed; -EBUSY: the process is not known to have ended; -EINVAL: heap is NULL, or pid
/// is no number of a process (1 to 4194303); TINE_EFORKED; TINE_EWORKER: the heap is the pool's, and this is a worker.
/// Threads: any. Fork: TINE_EFORKED in a child.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_heap_release_process(heap: *mut tine_heap, pid: c_int) -> c_int {
    guard(|| {
        // SAFETY: `heap` is NULL, or a heap that is neither closed nor of a destroyed pool, as the header asks.
        let freed = match unsafe { of(heap) }? {
            // SAFETY: a host's heap holds the pool that it lies in (`belongs_to`), so that pool has not been
            // destroyed. Nobody uses the blocks any more, as the header asks.
            Of::Host(pool) => unsafe { host(*pool)?.release_process(pid) }?,
            Of::Worker => return Err(Code::WORKER.into()),
            // SAFETY: nobody uses the blocks any more, as the header asks. `own` keeps the segment mapped.
            Of::Segment(own) => unsafe { own.release_process(pid) }?,
        };
        Ok(c_int::try_from(freed).unwrap_or(c_int::MAX))
    })
}

/// Gives unused memory back to the system, whoever had allocated and freed it.
///
/// Without this call, a pool's heap keeps some of it for the next blocks: 32 MiB, half of what is in use, or four
/// times the largest block that was freed lately, whichever is most. A heap in a segment keeps all of it. Memory that
/// was given back is reserved anew for the next blocks; where that is not possible, they are NULL.
///
/// Parameters: heap.
/// Returns 0; -EINVAL: heap is NULL; TINE_EFORKED.
/// Threads: any. Fork: TINE_EFORKED in a child.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_heap_trim(heap: *mut tine_heap) -> c_int {
    guard(|| {
        // SAFETY: `heap` is NULL, or a heap that is neither closed nor of a destroyed pool, as the header asks.
        unsafe { get(heap) }?.trim();
        Ok(0)
    })
}

/// No process's number.
const NOBODY: i32 = -1;

impl tine_heap {
    /// Whether the options of its pool want the allocation that is asked for to fail.
    fn fails_allocation(&self) -> bool {
        // SAFETY: what `heap` points to lives as long as this: see the field.
        self.faults.fails_allocation(unsafe { self.heap.as_ref() }.counts())
    }

    fn new(heap: &Heap, pid: i32, of: Of, faults: Faults) -> tine_heap {
        let quick_pid = if faults.fail_alloc == 0 { pid } else { NOBODY };
        tine_heap { heap: NonNull::from(heap), pid, quick_pid, faults, of, tag: AtomicPtr::default() }
    }

    /// A pool's, in the host; whose is said by `belongs_to`.
    pub(crate) fn of_host(heap: &Heap, faults: Faults) -> tine_heap {
        tine_heap::new(heap, fork::pid(), Of::Host(std::ptr::null_mut()), faults)
    }

    pub(crate) fn belongs_to(&mut self, pool: *mut tine_pool) {
        self.of = Of::Host(pool);
    }

    /// The same, as tasks see it that run in the host.
    pub(crate) fn of_task(heap: &Heap) -> tine_heap {
        tine_heap::new(heap, fork::pid(), Of::Worker, Faults::default())
    }

    pub(crate) fn of_worker(worker: &'static Worker) -> tine_heap {
        let faults = worker.faults().unwrap_or_default();
        tine_heap::new(worker.own_heap(), worker.pid(), Of::Worker, faults)
    }
}

/// From now on `tine_heap_find` gives this handle.
///
/// # Safety
/// `pointer` is a heap's, at the place where it stays.
pub(crate) unsafe fn name(pointer: *const tine_heap) {
    // SAFETY: by the contract above `pointer` is a `tine_heap` that can be read. What its `heap` points to belongs to
    // its `of`, or to the pool or worker around it, and lives as long.
    queue::name_heap(unsafe { (*pointer).heap.as_ref() }, pointer.expose_provenance());
}

/// # Safety
/// `s` is null or a segment that is not closed, `options` is null or as long as its `.size` says, and `out` is null or can be
/// written.
unsafe fn make(
    s: *mut tine_segment,
    options: *const tine_heap_options,
    out: *mut *mut tine_heap,
    body: impl FnOnce(&Arc<Segment>) -> Result<OwnHeap>,
) -> c_int {
    let make = |_: Option<&tine_heap_options>| {
        // SAFETY: by the contract above `out` is null or can be written, and `s` is null or a segment that is not
        // closed.
        let (out, segment) = unsafe { (Out::required(out, "out")?, segment(s)?) };
        // Whatever can fail for want of memory comes before the heap is there for others.
        reserve::suffices()?;
        let place = queue::Place::for_heap()?;
        let own = Box::new(body(segment)?);
        let heap = Arc::clone(own.heap());
        place.know(Known::Mapped(Arc::downgrade(own.heap())));
        let made = tine_heap::new(&heap, fork::pid(), Of::Segment(own), Faults::default());
        let made = Box::into_raw(Box::new(made));
        // SAFETY: `made` has just left its box, so it stays where it is until it is closed.
        unsafe { name(made) };
        out.set(made);
        Ok(0)
    };
    // SAFETY: by the contract above `options` is null or as long as its `.size` says.
    unsafe { options::with(options, make) }
}
