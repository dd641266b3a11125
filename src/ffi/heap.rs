//! Heaps: the same for every heap, a pool's and one's own

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
use crate::queue::{self, Known};
use crate::sys::{fork, reserve};
use crate::worker::Worker;
use std::ffi::{c_int, c_void};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, Ordering};

/// A heap: that of a pool, or one of its own in a segment, for processes that have no pool in common.
pub struct tine_heap {
    /// Behind `of`, for as long as that lives.
    heap: NonNull<Heap>,
    /// The only process that may use it.
    pid: i32,
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

/// What a heap holds.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct tine_heap_info {
    /// sizeof(tine_heap_info).
    pub size: usize,
    /// Bytes of the system's memory that are reserved for the heap; for one in a segment, for the segment.
    pub reserved_bytes: u64,
    /// The most that were reserved at once.
    pub peak_bytes: u64,
    /// Bytes of allocated blocks, rounded up to block sizes, of all processes together.
    pub used_bytes: u64,
    /// How many allocated blocks there are.
    pub used_blocks: u64,
}

extensible!(tine_heap_info);

/// What one process has allocated in a heap, and nobody has freed.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct tine_heap_usage {
    /// sizeof(tine_heap_usage).
    pub size: usize,
    /// The process.
    pub pid: c_int,
    /// 1: it has the heap; 0: it has died, or closed the heap.
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

/// What tine_heap_create and tine_heap_attach can be told.
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
/// Parameters: pool: in a worker, what tine_task_pool gives.
/// Returns the heap, which lives and ends with the pool; NULL for NULL. Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_pool_heap(pool: *mut tine_pool) -> *mut tine_heap {
    // SAFETY: `pool` is NULL, or a pool that tine gave and that has not been destroyed, as the header asks.
    unsafe { heap_of(pool) }.cast_mut()
}

/// The heap of this process in which an address lies: the pool's, or one that tine_heap_create or tine_heap_attach has
/// opened and that is not closed. So it tells whether the heap behind a pointer that was kept is still open.
///
/// Returns the heap, as its other calls take it, or NULL. In a worker its pool's is found once tine_task_pool was called.
/// Ownership: as before. Threads: any, while no other closes the heap. Fork: NULL in a child, but for heaps of its own.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_heap_find(address: *const c_void) -> *mut tine_heap {
    guard_value(std::ptr::null_mut(), || {
        std::ptr::with_exposed_provenance_mut(queue::handle_at(address.addr()))
    })
}

/// A pointer that goes with a heap's handle in this process, for who writes a language's binding: `tag` from now on if there was
/// none. NULL asks only.
///
/// Returns the pointer that goes with it now; NULL: none, or `heap` is NULL. Threads: any; of several that give one, one does.
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

/// Makes a heap in a segment, which it takes up as a whole. Every process that has the segment may attach, and allocate
/// and free blocks in it; a pointer to a block means the same in all of them.
///
/// Parameters: s: of at least 256 KiB, without TINE_SEGMENT_READ_ONLY and TINE_SEGMENT_ANY_ADDRESS, and not used for
/// anything else. options: NULL for all defaults. out: where the heap goes.
/// Returns 0; -EEXIST: there is a heap in the segment, or something else; -EINVAL: the segment is too small, or not at its
/// address; -EACCES: it is for reading only; -EMFILE; -ENOMEM: then there is no heap in it.
/// Ownership: tine_heap_close, which tine_segment_close wants first. Threads: any. Fork: a child attaches for itself.
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
/// Parameters: s; options: NULL for all defaults; out: where the heap goes.
/// Returns 0; -EINVAL: there is no heap in the segment, or the segment is not at its address; TINE_EVERSION: the heap was made
/// by another version of tine; -ENOSPC: it is open 252 times; -EACCES: the segment is for reading only; -EMFILE; -ENOMEM.
/// Ownership: tine_heap_close. Threads: any. Fork: a child attaches for itself.
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

/// Leaves a heap that tine_heap_create or tine_heap_attach has given. The blocks stay: those of this process are listed
/// under its number. Queues in it stay for other processes; in this one their descriptors are closed, and their pointers
/// are -EINVAL, unless it has the same heap open once more.
///
/// Parameters: heap: may be NULL. No other thread may use it any more.
/// Returns 0; -EINVAL: it is a pool's; -EBUSY: a thread of this process is in a call on a queue in the heap, or has a
/// message of one in its hands, or holds a lock in it or waits for one, as far as that can be known;
/// -ENOMEM: it has the descriptors of thousands of queues, and no memory to list them. Then everything is as it was.
/// Fork: in a child it forgets the heap, which the parent has.
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

/// A block: what tine_alloc says of a pool's holds for any heap, with the processes that have the heap for those of the
/// pool.
///
/// Returns the block, or NULL. Threads: any; not in a signal handler. Fork: NULL in a child.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_heap_alloc(heap: *mut tine_heap, size: usize) -> *mut c_void {
    // SAFETY: `heap` is NULL, or a heap that is neither closed nor of a destroyed pool, as the header asks.
    unsafe { allocate(heap, size) }
}

/// As tine_calloc.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_heap_calloc(heap: *mut tine_heap, count: usize, size: usize) -> *mut c_void {
    // SAFETY: `heap` is NULL, or a heap that is neither closed nor of a destroyed pool, as the header asks.
    unsafe { allocate_zeroed(heap, count, size) }
}

/// As tine_alloc_aligned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_heap_alloc_aligned(
    heap: *mut tine_heap,
    alignment: usize,
    size: usize,
) -> *mut c_void {
    // SAFETY: `heap` is NULL, or a heap that is neither closed nor of a destroyed pool, as the header asks.
    unsafe { allocate_aligned(heap, alignment, size) }
}

/// As tine_realloc.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_heap_realloc(
    heap: *mut tine_heap,
    block: *mut c_void,
    size: usize,
) -> *mut c_void {
    // SAFETY: `heap` is NULL, or a heap that is neither closed nor of a destroyed pool, as the header asks.
    unsafe { reallocate(heap, block, size) }
}

/// As tine_free, with an answer.
///
/// Returns 0, in the heap's own process for NULL too; -EINVAL: the block was freed already, or is no block's start, or
/// not in this heap: nothing is changed (with TINE_CHECK=1 in the environment the process ends, with a message);
/// TINE_EFORKED. Where another process has made the heap longer, and this one cannot look how long it is, nothing is
/// changed either: -ENOMEM, or -EPERM and -ENOSYS where that look is refused; the block can be freed later.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_heap_free(heap: *mut tine_heap, block: *mut c_void) -> c_int {
    // SAFETY: `heap` is NULL, or a heap that is neither closed nor of a destroyed pool, as the header asks.
    unsafe { free(heap, block) }
}

/// As tine_block_size.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_heap_block_size(heap: *mut tine_heap, block: *const c_void) -> usize {
    // SAFETY: `heap` is NULL, or a heap that is neither closed nor of a destroyed pool, as the header asks.
    unsafe { block_size(heap, block) }
}

/// Whether all of these bytes lie in memory of the heap.
///
/// Returns 1 or 0; 0 for NULL; -EINVAL; TINE_EFORKED. Threads: any.
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

/// What the heap holds, counted by a walk over it; other processes may allocate and free meanwhile.
///
/// Parameters: heap; out: a tine_heap_info, with its .size set.
/// Returns 0; -EINVAL; TINE_EFORKED. Threads: any.
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

/// Lists what each process has in the heap: those that have it, and those that have ended and left blocks. Of a pool's:
/// the host, each worker, and each worker that has died and left blocks.
///
/// Parameters: heap; visit: called once for each, on this thread; it may use the heap. user: passed on.
/// Returns how many there are, or what visit returned other than 0; -EINVAL; -ENOMEM; TINE_EFORKED; TINE_EWORKER for a pool's
/// heap. Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_heap_processes(
    heap: *mut tine_heap,
    visit: tine_heap_usage_fn,
    user: *mut c_void,
) -> c_int {
    guard(|| {
        let visit = visit.ok_or_else(|| Error::invalid("visit is NULL"))?;
        // SAFETY: `heap` is NULL, or a heap that is neither closed nor of a destroyed pool, as the header asks.
        let all: Vec<_> = match unsafe { of(heap) }? {
            // SAFETY: a host's heap holds the pool that it lies in (`belongs_to`), so that pool has not been
            // destroyed.
            Of::Host(pool) => unsafe { host(*pool) }?.heap_usage()?,
            Of::Worker => return Err(Code::WORKER.into()),
            Of::Segment(own) => own.processes()?,
        };
        for one in &all {
            let usage = tine_heap_usage {
                size: size_of::<tine_heap_usage>(),
                pid: one.pid,
                alive: c_int::from(one.alive),
                bytes: one.usage.bytes,
                blocks: one.usage.blocks,
            };
            // SAFETY: a function of this type was given to be called with `user`, on this thread. `usage` lives until
            // it has returned.
            let rc = unsafe { visit(&usage, user) };
            if rc != 0 {
                return Ok(rc);
            }
        }
        Ok(all.len() as c_int)
    })
}

/// Lists the blocks that a process had when it died, or closed the heap, and nobody has freed since.
///
/// They stay as they are: other processes may have pointers to them. Memory that tine itself had taken for a worker
/// is not among them, it is free again.
///
/// Parameters: heap; pid; visit: called once for each block, on this thread; it may free it. user: passed on.
/// Returns how many there are, 0 for a process that left nothing, or what visit returned other than 0; -EINVAL; -ENOMEM;
/// TINE_EFORKED; TINE_EWORKER for a pool's heap. Threads: any.
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

/// Frees all blocks that a process had when it died: for when nobody has a pointer to any of them.
///
/// Parameters: heap; pid: of a process that has died or closed the heap.
/// Returns how many blocks it freed; -EBUSY: the process is not known to have ended; -EINVAL; TINE_EFORKED; TINE_EWORKER
/// for a pool's heap. Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_heap_release_process(heap: *mut tine_heap, pid: c_int) -> c_int {
    guard(|| {
        // SAFETY: `heap` is NULL, or a heap that is neither closed nor of a destroyed pool, as the header asks.
        let freed = match unsafe { of(heap) }? {
            // SAFETY: a host's heap holds the pool that it lies in (`belongs_to`), so that pool has not been
            // destroyed.
            Of::Host(pool) => unsafe { host(*pool) }?.release_process(pid)?,
            Of::Worker => return Err(Code::WORKER.into()),
            Of::Segment(own) => own.release_process(pid)?,
        };
        Ok(c_int::try_from(freed).unwrap_or(c_int::MAX))
    })
}

/// Gives the memory that nothing is in back to the system, whoever had allocated and freed it. Without it, some of a pool's heap
/// stays reserved for the next blocks (32 MiB, half of what is in use, or four times the largest block that was freed lately), and
/// all of a segment; memory that was given back is reserved anew for the next blocks, or they are NULL.
///
/// Parameters: heap.
/// Returns 0; -EINVAL; TINE_EFORKED. Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_heap_trim(heap: *mut tine_heap) -> c_int {
    guard(|| {
        // SAFETY: `heap` is NULL, or a heap that is neither closed nor of a destroyed pool, as the header asks.
        unsafe { get(heap) }?.trim();
        Ok(0)
    })
}

impl tine_heap {
    /// A pool's, in the host; whose is said by `belongs_to`.
    pub(crate) fn of_host(heap: &Heap) -> tine_heap {
        tine_heap {
            heap: NonNull::from(heap),
            pid: fork::pid(),
            of: Of::Host(std::ptr::null_mut()),
            tag: AtomicPtr::default(),
        }
    }

    pub(crate) fn belongs_to(&mut self, pool: *mut tine_pool) {
        self.of = Of::Host(pool);
    }

    /// The same, as tasks see it that run in the host.
    pub(crate) fn of_task(heap: &Heap) -> tine_heap {
        tine_heap { heap: NonNull::from(heap), pid: fork::pid(), of: Of::Worker, tag: AtomicPtr::default() }
    }

    pub(crate) fn of_worker(worker: &'static Worker) -> tine_heap {
        tine_heap {
            heap: NonNull::from(worker.own_heap()),
            pid: worker.pid(),
            of: Of::Worker,
            tag: AtomicPtr::default(),
        }
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
        let heap = NonNull::from(&**own.heap());
        place.know(Known::Mapped(Arc::downgrade(own.heap())));
        let made = tine_heap { heap, pid: fork::pid(), of: Of::Segment(own), tag: AtomicPtr::default() };
        let made = Box::into_raw(Box::new(made));
        // SAFETY: `made` has just left its box, so it stays where it is until it is closed.
        unsafe { name(made) };
        out.set(made);
        Ok(0)
    };
    // SAFETY: by the contract above `options` is null or as long as its `.size` says.
    unsafe { options::with(options, make) }
}
