//! Segments: shared memory of its own

use crate::error::Error;
use crate::ffi::errors::tine_error;
use crate::ffi::guard::{Out, flags, guard, guard_value};
use crate::ffi::options::{self, extensible};
use crate::ffi::pool::{host, tine_pool};
use crate::heap::segment::{Segment, SegmentOptions};
use crate::sys::clock::Timeout;
use std::ffi::{c_int, c_void};
use std::sync::Arc;

/// A piece of shared memory, as one process has it mapped.
pub struct tine_segment(Arc<Segment>);

/// Only the process that creates the segment, and its forked children, can write; the kernel sees to it.
pub const TINE_SEGMENT_READ_ONLY: u32 = 1 << 24;
/// Huge pages if there are enough, ordinary ones otherwise.
pub const TINE_SEGMENT_HUGE_PAGES: u32 = 1 << 25;
/// Wherever there is room, instead of at the same address in every process. Pointers into it then mean nothing to others.
pub const TINE_SEGMENT_ANY_ADDRESS: u32 = 1 << 26;
/// All pages are mapped at once, so that no first touch of one costs time later.
pub const TINE_SEGMENT_POPULATE: u32 = 1 << 27;

/// What a segment can be told.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct tine_segment_options {
    /// sizeof(tine_segment_options).
    pub size: usize,
    /// Filled in when the call fails; may be NULL.
    pub error: *mut tine_error,
    /// TINE_SEGMENT_READ_ONLY, TINE_SEGMENT_HUGE_PAGES (both for tine_segment_create only), TINE_SEGMENT_ANY_ADDRESS,
    /// TINE_SEGMENT_POPULATE.
    pub flags: u32,
}

extensible!(tine_segment_options: Options);

/// New shared memory, all of it zero, reserved, and of a size that nobody can change: touching it never fails.
///
/// It is mapped at the same address in every process that attaches, so that pointers into it mean the same everywhere.
/// It has no name and leaves nothing behind: it is gone when the last process that has it is.
///
/// Parameters: size: in bytes, not 0; options: NULL for all defaults; out: where the segment goes.
/// Returns 0; -ENOMEM: no memory, or a cgroup's or the process's limit is in the way; -EINVAL, -E2BIG: bad options;
/// -EMFILE, -ENFILE. Ownership: tine_segment_close. Threads: any. Fork: a child has it mapped as well, for writing too.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_segment_create(
    size: usize,
    options: *const tine_segment_options,
    out: *mut *mut tine_segment,
) -> c_int {
    const FLAGS: u32 =
        TINE_SEGMENT_READ_ONLY | TINE_SEGMENT_HUGE_PAGES | TINE_SEGMENT_ANY_ADDRESS | TINE_SEGMENT_POPULATE;
    // SAFETY: `options` is NULL or as long as its `.size` says, and `out` is NULL or can be written, as the header
    // asks.
    unsafe { make(options, out, FLAGS, |options| Segment::create(size, options)) }
}

/// Maps a segment that another process has made.
///
/// Parameters: fd: a descriptor of it, inherited or received; it stays the caller's. options: NULL for all defaults;
/// out: where the segment goes.
/// Returns 0; -EPERM: the memory could be shrunk by others, so it is not safe to touch; -EINVAL: not a segment, or bad
/// options; TINE_EVERSION: of another version of tine, or its locks are laid out for another C library; -EXDEV: made in
/// another PID namespace, where locks would take one thread for another; -EEXIST: something else is at its address
/// (TINE_SEGMENT_ANY_ADDRESS helps); -EACCES: fd was opened for reading only; -EBADF, -ENOMEM, -EMFILE.
/// Ownership: tine_segment_close. Threads: any. Fork: a child has it mapped as well.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_segment_attach(
    fd: c_int,
    options: *const tine_segment_options,
    out: *mut *mut tine_segment,
) -> c_int {
    const FLAGS: u32 = TINE_SEGMENT_ANY_ADDRESS | TINE_SEGMENT_POPULATE;
    // SAFETY: `options` is NULL or as long as its `.size` says, and `out` is NULL or can be written, as the header
    // asks.
    unsafe { make(options, out, FLAGS, |options| Segment::attach(fd, options)) }
}

/// Where the segment's bytes begin: a multiple of 4096. NULL for NULL. Threads: any. Fork: the same in a child.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_segment_address(s: *const tine_segment) -> *mut c_void {
    guard_value(std::ptr::null_mut(), || {
        // SAFETY: `s` is NULL, or a segment that is not closed, as the header asks.
        let segment = unsafe { get(s) };
        segment
            .map_or(std::ptr::null_mut(), |segment| std::ptr::with_exposed_provenance_mut(segment.address()))
    })
}

/// How many bytes the segment has: what it was created with. 0 for NULL. Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_segment_size(s: *const tine_segment) -> usize {
    // SAFETY: `s` is NULL, or a segment that is not closed, as the header asks.
    guard_value(0, || unsafe { get(s) }.map_or(0, |segment| segment.size()))
}

/// A descriptor to pass to other processes: close-on-exec, and the segment's own, not to be closed.
///
/// Returns the descriptor; -EINVAL for NULL; -EBADF: the program has closed it all the same. Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_segment_fd(s: *const tine_segment) -> c_int {
    // SAFETY: `s` is NULL, or a segment that is not closed, as the header asks.
    guard(|| unsafe { get(s) }?.descriptor())
}

/// Unmaps a segment in this process; others keep it. Pointers into it are dangling from here on.
///
/// Parameters: s: may be NULL. No other thread may use it any more.
/// Returns 0; -EBUSY: a heap in it is open here (tine_heap_close), or a thread of this process holds a lock in it or
/// waits for one, as far as that can be known (not of a mutex that is TINE_PROCESS_OWNED); then the segment is as it was.
/// Fork: in a child it unmaps the child's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_segment_close(s: *mut tine_segment) -> c_int {
    guard(|| {
        // SAFETY: `s` is NULL, or a segment that is not closed, as the header asks.
        let Ok(segment) = (unsafe { get(s) }) else { return Ok(0) };
        if Arc::strong_count(segment) > 1 {
            return Err(Error::errno(libc::EBUSY, "a heap in the segment is open"));
        }
        if segment.is_locked() {
            return Err(Error::errno(libc::EBUSY, "a lock in the segment is held"));
        }
        // SAFETY: a segment comes from `Box::into_raw` in `make` alone. As the text above asks, no other thread uses
        // it, and this call is the last.
        drop(unsafe { Box::from_raw(s) });
        Ok(0)
    })
}

/// Sends a segment to the process at the other end of a unix socket, without waiting.
///
/// Parameters: socket: connected, of whatever type, used for whole segments only while one is on its way; s.
/// Returns 0; -EAGAIN: the socket is full; -EPIPE: nobody is there any more; -EMFILE: too many descriptors are on their way;
/// -ENOTSOCK: it is no socket; -EINVAL; -EBADF. Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_segment_send(socket: c_int, s: *const tine_segment) -> c_int {
    guard(|| {
        // SAFETY: `s` is NULL, or a segment that is not closed, as the header asks.
        unsafe { get(s) }?.send(socket)?;
        Ok(0)
    })
}

/// Takes a segment that another process has sent with tine_segment_send, and maps it. It waits for one if the socket is
/// one that blocks.
///
/// What this process cannot have at the moment stays in the socket, to be received again: after -EEXIST, say, with
/// TINE_SEGMENT_ANY_ADDRESS. What nobody could have is thrown away.
///
/// Parameters: socket: one process at a time receives from it; options: NULL for all defaults; out: where the segment
/// goes.
/// Returns 0; -EAGAIN: none is there yet; -EPIPE: the other side is gone. It stays: -EMFILE: no descriptor is free;
/// -ENOMEM: no memory or address space; -EEXIST: something else is at its address. It is gone: -EPROTO: what came is no
/// message of tine_segment_send; -EPERM, -EXDEV, TINE_EVERSION and -EINVAL as for tine_segment_attach. -EINVAL for bad
/// options, -EBADF and -ENOTSOCK come before anything is looked at.
/// Ownership: tine_segment_close. Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_segment_receive(
    socket: c_int,
    options: *const tine_segment_options,
    out: *mut *mut tine_segment,
) -> c_int {
    const FLAGS: u32 = TINE_SEGMENT_ANY_ADDRESS | TINE_SEGMENT_POPULATE;
    // SAFETY: `options` is NULL or as long as its `.size` says, and `out` is NULL or can be written, as the header
    // asks.
    unsafe { make(options, out, FLAGS, |options| Segment::receive(socket, options)) }
}

/// Has a segment mapped in every worker of a pool, at the address that it has here: pointers into it mean the same in all
/// of them. Workers to come get it too. Ones that are busy get it before their next task.
///
/// Parameters: pool; s: stays the caller's, who may close it here; the workers keep it until the pool is destroyed; timeout_ns:
/// how long to wait for the workers, and for another thread's share; TINE_FOREVER waits for good.
/// Returns 0; -ETIMEDOUT, at 0 -EAGAIN: a worker that is not busy has not taken it, because it is stopped, say; nobody
/// shares it then, and it may be shared again; -EEXIST: something else is at its address in a worker, or in the range of
/// the pool's heap: nobody shares it then, and that worker is replaced; -EALREADY: it is shared; -ENOSPC: 64 segments
/// are; -EINVAL; -ENOMEM, -EMFILE; TINE_ESHUTDOWN, TINE_EWORKERSTART, TINE_EFORKED, TINE_EWORKER. A worker to come that
/// cannot have it is one that cannot be started: tasks say so when no worker is left.
/// Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_pool_share(
    pool: *mut tine_pool,
    s: *mut tine_segment,
    timeout_ns: i64,
) -> c_int {
    guard(|| {
        // SAFETY: `pool` is NULL or a pool that has not been destroyed, and `s` is NULL, or a segment that is not
        // closed, as the header asks.
        let (pool, segment) = unsafe { (host(pool)?, get(s)?) };
        pool.share(segment, Timeout::from_ns(timeout_ns))?;
        Ok(0)
    })
}

/// # Safety
/// `options` is null or as long as its `.size` says, and `out` is null or can be written.
unsafe fn make(
    options: *const tine_segment_options,
    out: *mut *mut tine_segment,
    known: u32,
    body: impl FnOnce(&SegmentOptions) -> crate::Result<Segment>,
) -> c_int {
    let make = |options: Option<&tine_segment_options>| {
        // SAFETY: by the contract above `out` is null or can be written.
        let out = unsafe { Out::required(out, "out") }?;
        let given = options.map_or(0, |options| options.flags);
        flags(given, known)?;
        let segment = body(&SegmentOptions {
            read_only_for_others: given & TINE_SEGMENT_READ_ONLY != 0,
            huge_pages: given & TINE_SEGMENT_HUGE_PAGES != 0,
            any_address: given & TINE_SEGMENT_ANY_ADDRESS != 0,
            populate: given & TINE_SEGMENT_POPULATE != 0,
        })?;
        out.set(Box::into_raw(Box::new(tine_segment(Arc::new(segment)))));
        Ok(0)
    };
    // SAFETY: `with` asks of `options` what this function asks.
    unsafe { options::with(options, make) }
}

/// # Safety
/// `pointer` is null, or a segment that has not been closed.
pub(crate) unsafe fn get<'a>(pointer: *const tine_segment) -> crate::Result<&'a Arc<Segment>> {
    // SAFETY: by the contract above `pointer` is null or a segment that stays until the call returns. It is only
    // read.
    unsafe { pointer.as_ref() }.map(|segment| &segment.0).ok_or_else(|| Error::invalid("segment is NULL"))
}
