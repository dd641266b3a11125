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

/// A piece of shared memory, as one process has mapped it.
pub struct tine_segment(Arc<Segment>);

/// Only the process that creates the segment, and its forked children, can write to it. The kernel enforces that.
pub const TINE_SEGMENT_READ_ONLY: u32 = 1 << 24;
/// Huge pages if there are enough, ordinary ones otherwise.
pub const TINE_SEGMENT_HUGE_PAGES: u32 = 1 << 25;
/// The segment is mapped wherever there is room, and not at one address in every process. So pointers into it mean
/// nothing to other processes.
pub const TINE_SEGMENT_ANY_ADDRESS: u32 = 1 << 26;
/// All pages are mapped at once, so that the first touch of a page costs no time later.
pub const TINE_SEGMENT_POPULATE: u32 = 1 << 27;

/// Options of tine_segment_create, tine_segment_attach and tine_segment_receive.
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

/// Creates shared memory. All of it is zero and reserved, and nobody can change its size, so touching it never fails.
///
/// The segment is mapped at one address in every process that attaches, so pointers into it are valid in all of them.
/// It has no name and leaves nothing behind: it is gone when the last process that has it is gone.
///
/// Parameters: size: in bytes, not 0. options: NULL for all defaults. out: where the segment goes.
/// Returns 0; -ENOMEM: there is no memory, or a limit of the process or of its cgroup is in the way; -EINVAL, -E2BIG:
/// an argument or an option has no meaning; -EMFILE, -ENFILE: no descriptor is free.
/// Ownership: until tine_segment_close. Threads: any. Fork: a child has the segment mapped as well, for writing too.
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

/// Maps a segment that another process has created.
///
/// Parameters: fd: a descriptor of the segment, inherited or received; it stays the caller's. options: NULL for all
/// defaults. out: where the segment goes.
/// Returns 0; -EPERM: other processes could shrink the memory, so it is not safe to touch; -EINVAL: fd is not of a
/// segment, or an option has no meaning; TINE_EVERSION: the segment is of another version of tine, or its locks are
/// laid out for another C library; -EXDEV: the segment was made in another PID namespace, where its locks would take
/// one thread for another; -EEXIST: something else is at its address (TINE_SEGMENT_ANY_ADDRESS helps); -EACCES: fd
/// was opened for reading only; -EBADF: fd is not open; -E2BIG: the options are longer than this version knows;
/// -ENOMEM, -EMFILE.
/// Ownership: until tine_segment_close. Threads: any. Fork: a child has the segment mapped as well.
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

/// The address of a segment.
///
/// Parameters: s.
/// Returns the address of the first byte, a multiple of 4096; NULL: s is NULL.
/// Threads: any. Fork: a child gets the same address.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_segment_address(s: *const tine_segment) -> *mut c_void {
    guard_value(std::ptr::null_mut(), || {
        // SAFETY: `s` is NULL, or a segment that is not closed, as the header asks.
        let segment = unsafe { get(s) };
        segment
            .map_or(std::ptr::null_mut(), |segment| std::ptr::with_exposed_provenance_mut(segment.address()))
    })
}

/// The size of a segment: the one with which it was created.
///
/// Parameters: s.
/// Returns the size in bytes; 0: s is NULL.
/// Threads: any. Fork: a child gets the same size.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_segment_size(s: *const tine_segment) -> usize {
    // SAFETY: `s` is NULL, or a segment that is not closed, as the header asks.
    guard_value(0, || unsafe { get(s) }.map_or(0, |segment| segment.size()))
}

/// A descriptor of a segment, to be passed to other processes.
///
/// Parameters: s.
/// Returns the descriptor, which is close-on-exec and stays the segment's; -EINVAL: s is NULL; -EBADF: the program
/// has closed it.
/// Threads: any. Fork: a child has its own copy.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_segment_fd(s: *const tine_segment) -> c_int {
    // SAFETY: `s` is NULL, or a segment that is not closed, as the header asks.
    guard(|| unsafe { get(s) }?.descriptor())
}

/// Unmaps a segment in this process. Other processes keep it. Pointers into it must not be used any more.
///
/// Parameters: s: may be NULL. No other thread may use the segment any more.
/// Returns 0; -EBUSY: a heap in it is open here (tine_heap_close), or a thread of this process holds a lock in it or
/// waits for one, as far as that can be known. A TINE_PROCESS_OWNED mutex is not looked for. -EMFILE, -ENFILE,
/// -ENOMEM: there is no descriptor, or the kernel has no memory, with which to look for locks of the C library's.
/// After an error the segment is as it was.
/// Threads: any. Fork: in a child it unmaps the child's copy.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_segment_close(s: *mut tine_segment) -> c_int {
    guard(|| {
        // SAFETY: `s` is NULL, or a segment that is not closed, as the header asks.
        let Ok(segment) = (unsafe { get(s) }) else { return Ok(0) };
        if Arc::strong_count(segment) > 1 {
            return Err(Error::errno(libc::EBUSY, "a heap in the segment is open"));
        }
        if segment.is_locked()? {
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
/// Parameters: socket: a connected socket of any type. While a segment is on its way, nothing but whole segments may
/// be sent through it. s: the segment, which stays the caller's.
/// Returns 0; -EAGAIN: the socket is full; -EPIPE: nobody is at the other end any more; -EMFILE: too many descriptors
/// are on their way; -ENOTSOCK: socket is not a socket; -EBADF: socket is not open, or the program has closed the
/// segment's descriptor; -EINVAL: s is NULL.
/// Threads: any. Fork: a child may call it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_segment_send(socket: c_int, s: *const tine_segment) -> c_int {
    guard(|| {
        // SAFETY: `s` is NULL, or a segment that is not closed, as the header asks.
        unsafe { get(s) }?.send(socket)?;
        Ok(0)
    })
}

/// Takes a segment that another process has sent with tine_segment_send, and maps it. Where the socket is a blocking
/// one the call waits for a segment, and its wait has no limit. To wait with a limit, poll() the socket first, or set
/// SO_RCVTIMEO.
///
/// A segment that this process cannot have at the moment stays in the socket, to be received again: after -EEXIST
/// with TINE_SEGMENT_ANY_ADDRESS, for example. A segment that no process could have is thrown away.
///
/// Parameters: socket: only one process at a time may receive from it. options: NULL for all defaults. out: where the
/// segment goes.
/// Returns 0; -EAGAIN: no segment is there yet; -EPIPE: the other end is gone. The segment stays in the socket after
/// -EMFILE: no descriptor is free; -ENOMEM: there is no memory or address space; -EEXIST: something else is at its
/// address. It is thrown away after -EPROTO: it is not a message of tine_segment_send, or its descriptor cannot be
/// read or mapped; -EPERM, -EXDEV, TINE_EVERSION and -EINVAL: as for tine_segment_attach. Nothing is looked at after
/// -EINVAL, -E2BIG: an argument or an option has no meaning; -EBADF, -ENOTSOCK: socket is not an open socket;
/// -ENOTCONN, or -EINVAL for a SOCK_STREAM socket: socket is not connected.
/// Ownership: until tine_segment_close. Threads: any. Fork: a child may call it.
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

/// Has a segment mapped in every worker of a pool, at the address that it has in the host, so pointers into it are
/// valid in all of them. Later workers get it too. A busy worker gets it before its next task.
///
/// After an error the pool does not have the segment, and a worker that has mapped it already unmaps it: the next time
/// that it is between two tasks. After -ETIMEDOUT, -EAGAIN and -EINTR the workers keep it for a second first. Within
/// that time the same call goes on where the last one has stopped, so that short waits add up.
///
/// Parameters: pool. s: the segment. It stays the caller's, who may close it. The workers keep it until the pool is
/// destroyed. timeout_ns: how long to wait for the workers, and for another thread's call of tine_pool_share, in
/// nanoseconds; 0: not at all.
/// Returns 0; -ETIMEDOUT, -EAGAIN: another thread's call goes on, or a worker that is not busy has not taken the
/// segment, because it is stopped for example; -EINTR: a signal came, with TINE_INTERRUPTIBLE. Then the call may be
/// made again; -EEXIST: something else is at its address in a worker, which is replaced; or the segment lies in the
/// range of the pool's heap, or where the workers have a segment that has been closed here; -ENOMEM, -EMFILE, -ENFILE:
/// there is no memory or no descriptor, here or in a worker, which is replaced then; -EALREADY: the segment is shared
/// already; -EDEADLK: a callback has made the call, which runs in another tine_pool_share of its thread for this pool;
/// -ENOSPC: the pool shares 64 segments; -EBADF: the program has closed the segment's descriptor; -EOPNOTSUPP: the
/// engine is MPI; -EINVAL: an argument is NULL; TINE_ESHUTDOWN: the pool has been shut down, by another thread
/// meanwhile for example; TINE_EWORKERSTART: no worker can be started any more; TINE_EFORKED; TINE_EWORKER. A later
/// worker that cannot map the segment cannot be started; tasks settle with TINE_EWORKERSTART when no worker is left.
/// Threads: any. Fork: TINE_EFORKED in a child.
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
