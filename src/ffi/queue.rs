//! Queues

use crate::error::{Error, Result};
use crate::ffi::errors::{TINE_INTERRUPTIBLE, tine_error};
use crate::ffi::guard::{Out, bytes, flags, guard, guard_code, guard_end, guard_value};
use crate::ffi::heap::{self, tine_heap};
use crate::ffi::options::{self, extensible};
use crate::ffi::pool::{core_heap, tine_pool};
use crate::pool::meanwhile;
use crate::queue::{self, Buffer, Queue, QueueOptions, Refused, watch};
use crate::sync::{INVALID, Outcome};
use crate::sys::clock::Timeout;
use crate::sys::reserve;
use std::ffi::{c_int, c_void};

/// A queue of messages between processes: many producers, many consumers.
///
/// A queue lies in a pool's heap, and its pointer is valid in the host and in every worker, later workers included:
/// pass it in a task's input. Or it lies in a heap of its own in a segment, and its pointer is valid in every process
/// that has the heap open, until the process closes the heap.
///
/// Messages of one producer are got in the order in which they were put, and each message by one consumer. When a put
/// has returned 0, the message is in the queue for the next consumer. No thread has to send it afterwards.
///
/// A process that is killed, at whatever instruction, blocks no other. A dead producer takes along what it had not
/// put yet: at most one message, or the messages of one call. A dead consumer takes along what it had taken: at most
/// one message, or the messages of one call. No message is got twice.
///
/// Calls may be made from any thread of these processes. A child of fork() gets TINE_EFORKED from a call that returns
/// a code; from the calls that only describe a queue it gets their answer for what is not a queue. Once the child has
/// a pool or an open heap of its own it may use the queues in that heap, and gets -EINVAL for the others. A pointer
/// that is not a queue of a living pool, or of an open heap, of this process is -EINVAL, and so is a queue that has
/// been destroyed. -EBADMSG means that a program has written into the queue's memory. -EXDEV, -ENOMEM and -ENOLCK are
/// as for tine_mutex_lock.
pub struct tine_queue {
    _private: [u8; 0],
}

/// The most messages that a queue can hold.
pub const TINE_MOST_MESSAGES: usize = 1 << 26;
/// The most bytes that a queue can hold, and so the length of the longest message.
pub const TINE_MOST_MESSAGE_BYTES: usize = 4_294_967_040;

const _: () =
    assert!(TINE_MOST_MESSAGES == queue::MOST_MESSAGES && TINE_MOST_MESSAGE_BYTES == queue::MOST_BYTES);

/// Options of tine_queue_create.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct tine_queue_options {
    /// sizeof(tine_queue_options).
    pub size: usize,
    /// Filled in when tine_queue_create fails; may be NULL.
    pub error: *mut tine_error,
    /// How many messages the queue holds; 0: 1,024.
    pub capacity_messages: usize,
    /// How many bytes of messages the queue holds, and so how long a message may be; 0: 1 MiB, or 64 bytes for each
    /// message where that is more. A message counts with its length rounded up to 16; one of up to 8 bytes does not
    /// count. Of the heap the queue takes twice these bytes, and 16 bytes for each message, both rounded up to powers
    /// of two.
    pub capacity_bytes: usize,
    /// TINE_INTERRUPTIBLE.
    pub flags: u32,
    /// 0.
    pub reserved: u32,
    /// With pool NULL: the heap in which the queue lies, for processes that have no pool in common. tine_heap_create
    /// makes a heap in a segment.
    pub heap: *mut tine_heap,
}

extensible!(tine_queue_options: Options);

impl tine_queue_options {
    fn read(&self) -> Result<QueueOptions> {
        flags(self.flags, TINE_INTERRUPTIBLE)?;
        if self.reserved != 0 {
            return Err(Error::invalid(format!("reserved is {}; it should be 0", self.reserved)));
        }
        let most = |name, value, most| {
            if value <= most {
                return Ok(());
            }
            Err(Error::invalid(format!("{name} is {value}; at most {most} are allowed")))
        };
        most("capacity_messages", self.capacity_messages, TINE_MOST_MESSAGES)?;
        most("capacity_bytes", self.capacity_bytes, TINE_MOST_MESSAGE_BYTES)?;
        Ok(QueueOptions { messages: self.capacity_messages, bytes: self.capacity_bytes, flags: self.flags })
    }
}

/// The queue behind a caller's pointer.
#[inline(always)]
pub(crate) fn queue(pointer: *const tine_queue) -> Outcome<Queue> {
    queue::find(pointer.cast())
}

/// A call that gets: what a watching process is to hear, and how long a message is that does not fit.
///
/// # Safety
/// `length` is null, or can be written.
#[inline(always)]
pub(crate) unsafe fn got<T>(
    q: *const tine_queue,
    result: core::result::Result<T, Refused>,
    length: *mut usize,
) -> Outcome<T> {
    result.map_err(|(code, needed)| {
        match -code.0 {
            libc::EMSGSIZE if !length.is_null() => {
                // SAFETY: `length` is not null, so by the contract above it can be written.
                unsafe { length.write(needed) };
            }
            libc::EAGAIN | libc::ETIMEDOUT => watch::found_empty(q.addr()),
            _ => {}
        }
        code
    })
}

/// A caller's bytes.
///
/// # Safety
/// `data` is null, or valid for reads of `length` bytes for the whole of `'a`.
#[inline(always)]
unsafe fn data<'a>(data: *const c_void, length: usize) -> Outcome<&'a [u8]> {
    // SAFETY: `bytes` asks of `data` what this function asks.
    unsafe { bytes(data.cast(), length, "data") }.map_err(|error| error.code())
}

/// Room for messages.
///
/// # Safety
/// `buffer` is null, or `capacity` bytes from it on can be written for as long as the result is used, and nobody else uses them.
#[inline(always)]
pub(crate) unsafe fn room(buffer: *mut c_void, capacity: usize) -> Outcome<Buffer> {
    if (buffer.is_null() && capacity != 0) || capacity > isize::MAX as usize {
        return Err(INVALID);
    }
    // SAFETY: by the contract above `buffer` has `capacity` bytes of room. Where `capacity` is not 0, `buffer` is not
    // null.
    Ok(unsafe { Buffer::new(buffer.cast(), capacity) })
}

/// Makes a queue in a pool's heap, or in the heap that the options name.
///
/// Parameters: pool: in a worker, what tine_task_pool returns; NULL where options->heap is given. options: NULL for
/// all defaults. out: where the pointer goes.
/// Returns 0; -EINVAL, -E2BIG: an argument or an option has no meaning; -ENOMEM: there is no memory, or the heap's
/// limit is reached; TINE_EFORKED.
/// Ownership: until tine_queue_destroy, from whatever process, or the end of the pool or the segment. The death of
/// the process that made it does not end it. Its memory is a block of that process, for tine_heap_blocks and
/// tine_heap_release_process. Threads: any. Fork: TINE_EFORKED in a child.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_queue_create(
    pool: *mut tine_pool,
    options: *const tine_queue_options,
    out: *mut *mut tine_queue,
) -> c_int {
    // SAFETY: `pool` is NULL or a pool that has not been destroyed, `options` is NULL or as long as its `.size` says,
    // the heap that it names is not closed, and `out` is NULL or can be written, as the header asks.
    unsafe { options::with(options, |options| create(pool, options, out).map(|()| 0)) }
}

/// # Safety
/// `pool` is null or has not been destroyed, the options' heap is null or not closed, and `out` is null or can be written.
unsafe fn create(
    pool: *mut tine_pool,
    options: Option<&tine_queue_options>,
    out: *mut *mut tine_queue,
) -> Result<()> {
    let own = options.map_or(std::ptr::null_mut(), |options| options.heap);
    let options = options.map_or(Ok(QueueOptions::default()), tine_queue_options::read)?;
    // SAFETY: by the contract above `out` is null or can be written.
    let out = unsafe { Out::required(out, "out") }?;
    reserve::suffices()?;
    let made = match (pool.is_null(), own.is_null()) {
        // SAFETY: `pool` is not null, so by the contract above it has not been destroyed.
        (false, true) => queue::create(unsafe { core_heap(pool) }?, &options),
        // SAFETY: `own` is not null, so by the contract above it is not closed.
        (true, false) => unsafe { heap::with_memory(own, |heap| queue::create(heap, &options)) },
        (true, true) => Err(Error::invalid("pool is NULL, and options.heap names no heap")),
        (false, false) => Err(Error::invalid("both pool and options.heap are given")),
    };
    out.set(made?.as_ptr().cast());
    Ok(())
}

/// Ends a queue and frees its memory. Its messages are gone.
///
/// Any process may call it as soon as every call on the queue has returned, by whatever thread of whatever process,
/// or the process in the call has died. No call on the queue may follow. When it returns, the memory may be another
/// block, and nothing touches the queue any more.
///
/// That holds for processes that have a descriptor of the queue (tine_queue_fd), too. It waits up to a second for
/// their threads to let go. Where one of them is stopped, the memory stays allocated, and is listed under the process
/// that made the queue. That memory must not be released (tine_heap_release_process) before the stopped process goes
/// on or dies. The descriptors become readable, and tine_queue_get returns -EINVAL there.
///
/// Parameters: q: may be NULL. A pointer that is not a queue is left alone. In a thread that holds TINE_MOST_HELD
/// locks, and in a process that cannot tell its PID namespace, the call does nothing.
/// Threads: any. Of several threads that call it, one does it. Fork: does nothing in a child.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_queue_destroy(q: *mut tine_queue) {
    guard_end(|| {
        let _ = queue::destroy(q.cast());
    });
}

/// Puts one message, and waits while there is no room for it.
///
/// With a timeout of 0 it never waits, so it also returns -EAGAIN while another producer is in the middle of a put,
/// or waits for room.
///
/// Parameters: q. data: the message, which is copied; NULL where length is 0. length: in bytes, up to the queue's
/// capacity. timeout_ns: how long to wait, in nanoseconds; 0: not at all.
/// Returns 0; -EAGAIN, -ETIMEDOUT: there is no room; -EPIPE: the queue is closed; -EMSGSIZE: the message is longer
/// than the queue can hold; -EDEADLK: the thread has reserved a message; -EINTR: a signal came, with
/// TINE_INTERRUPTIBLE; -EINVAL: q is not a queue, data is NULL, or length is above SSIZE_MAX; TINE_EFORKED; -EBADMSG,
/// -EXDEV, -ENOMEM, -ENOLCK: see tine_queue.
/// Threads: any; not in a signal handler. Fork: see tine_queue.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_queue_put(
    q: *mut tine_queue,
    data: *const c_void,
    length: usize,
    timeout_ns: i64,
) -> c_int {
    guard_code(|| {
        // SAFETY: `data` has `length` bytes until the call returns, as the header asks.
        let (queue, data) = (queue(q)?, unsafe { self::data(data, length) }?);
        meanwhile(Timeout::from_ns(timeout_ns), |timeout| queue.put(data, timeout)).map(|()| 0)
    })
}

/// Takes the next message, and waits while there is none.
///
/// With a timeout of 0 it never waits, so it also returns -EAGAIN while another consumer is in the middle of a get, or
/// waits for a message. The thread of tine_queue_fd is such a consumer while its descriptor is not readable.
///
/// Parameters: q. timeout_ns: how long to wait, in nanoseconds; 0: not at all. buffer: where the message goes; NULL
/// where capacity is 0. capacity: the size of buffer in bytes. length: gets the length of the message in bytes; may be
/// NULL.
/// Returns 0; -EAGAIN, -ETIMEDOUT: there is no message; -EPIPE: there is no message, and the queue is closed;
/// -EMSGSIZE: the message is longer than capacity. It stays in the queue, and *length is the capacity that it needs;
/// -EDEADLK: the thread looks at a message in place; -EINTR: a signal came, with TINE_INTERRUPTIBLE; -EINVAL: q is
/// not a queue, or buffer is NULL; TINE_EFORKED; -EBADMSG, -EXDEV, -ENOMEM, -ENOLCK: see tine_queue.
/// Threads: any; not in a signal handler. Fork: see tine_queue.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_queue_get(
    q: *mut tine_queue,
    timeout_ns: i64,
    buffer: *mut c_void,
    capacity: usize,
    length: *mut usize,
) -> c_int {
    guard_code(|| {
        let queue = queue(q)?;
        // SAFETY: `buffer` has `capacity` bytes of room until the call returns, as the header asks.
        let buffer = unsafe { room(buffer, capacity) }?;
        let result = meanwhile(Timeout::from_ns(timeout_ns), |timeout| queue.get(buffer, timeout));
        // SAFETY: `length` is NULL or can be written, as the header asks.
        unsafe {
            let got = got(q, result, length)?;
            if !length.is_null() {
                length.write(got);
            }
        }
        Ok(0)
    })
}

/// Closes a queue for further messages. Producers get -EPIPE at once, waiting ones too. Consumers get what is in the
/// queue, and then -EPIPE. Closing a closed queue does nothing. Any process may close it.
///
/// Parameters: q.
/// Returns 0; -EINVAL: q is not a queue; TINE_EFORKED.
/// Threads: any. Fork: see tine_queue.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_queue_close(q: *mut tine_queue) -> c_int {
    guard_code(|| queue(q)?.close().map(|()| 0))
}

/// Counts the messages in the queue at this moment.
///
/// Parameters: q.
/// Returns how many messages there are; 0: there is none, or q is not a queue.
/// Threads: any. Fork: see tine_queue.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_queue_count(q: *const tine_queue) -> usize {
    guard_value(0, || queue(q).map_or(0, |queue| queue.count()))
}

/// Tells whether the queue is empty at this moment.
///
/// Parameters: q.
/// Returns true: there is no message in it, or q is not a queue; false: there is one.
/// Threads: any. Fork: see tine_queue.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_queue_is_empty(q: *const tine_queue) -> bool {
    guard_value(true, || queue(q).map_or(true, |queue| queue.is_empty()))
}

/// Says that a message which a consumer has got has been dealt with, for tine_queue_join.
///
/// Parameters: q.
/// Returns 0; -EINVAL: it has been said more often than messages were put, or q is not a queue; TINE_EFORKED.
/// Threads: any. Fork: see tine_queue.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_queue_task_done(q: *mut tine_queue) -> c_int {
    guard_code(|| queue(q)?.task_done().map(|()| 0))
}

/// Waits until tine_queue_task_done has been called for every message that was put.
///
/// A consumer that was killed has not called it for the message that it had taken. Whoever takes over its work calls
/// it, or the wait needs a timeout.
///
/// Parameters: q. timeout_ns: how long to wait, in nanoseconds; 0: not at all.
/// Returns 0; -EAGAIN, -ETIMEDOUT: it has not been called for every message; -EINTR: a signal came, with
/// TINE_INTERRUPTIBLE; -EINVAL: q is not a queue; TINE_EFORKED; -ENOMEM: there is no memory at a thread's first call.
/// Threads: any; not in a signal handler. Fork: see tine_queue.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_queue_join(q: *mut tine_queue, timeout_ns: i64) -> c_int {
    guard_code(|| {
        let queue = queue(q)?;
        meanwhile(Timeout::from_ns(timeout_ns), |timeout| queue.join(timeout)).map(|()| 0)
    })
}

/// A descriptor that is readable while there may be something to get. It becomes readable when a message comes, or
/// when the queue is closed, and stays so until a tine_queue_get of this process returns -EAGAIN or -ETIMEDOUT. It is
/// for poll, select and epoll. The program must not read or close it.
///
/// The first call starts a thread in this process. While the descriptor is not readable the thread waits for a message
/// as a consumer does, and takes none. If this process is stopped (SIGSTOP) then, the other consumers wait, too.
/// tine_queue_destroy in this process, tine_heap_close and the end of the pool end the thread and close the
/// descriptor. tine_queue_destroy in another process ends the thread and leaves the descriptor open and readable. It
/// is closed by one of the former, or when this process asks for the descriptor of another queue at that address.
///
/// Parameters: q.
/// Returns the descriptor, which stays the queue's; -EINVAL: q is not a queue; -EMFILE: no descriptor is free;
/// -EAGAIN: no thread can be started; -ENOLCK: too many processes watch the queue; TINE_EFORKED; -ENOMEM: there is no
/// memory.
/// Threads: any. Fork: see tine_queue.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_queue_fd(q: *mut tine_queue) -> c_int {
    guard(|| watch::descriptor(q.addr(), queue(q).map_err(Error::from)?))
}
