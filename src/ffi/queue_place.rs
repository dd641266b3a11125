//! Queues: many messages at a time, and messages in place

use crate::ffi::guard::{Out, guard_code, guard_value};
use crate::ffi::queue::{got, queue, room, tine_queue};
use crate::pool::meanwhile;
use crate::sync::{INVALID, Outcome};
use crate::sys::clock::Timeout;
use std::ffi::{c_int, c_void};
use std::ptr::NonNull;

/// Where an array of lengths begins, if a pointer and a count can be one; no pointer is needed for none.
fn array(lengths: *mut usize, count: usize) -> Outcome<NonNull<usize>> {
    match NonNull::new(lengths) {
        _ if count == 0 => Ok(NonNull::dangling()),
        Some(start) if count <= c_int::MAX as usize && lengths.is_aligned() => Ok(start),
        _ => Err(INVALID),
    }
}

/// Puts several messages, which costs less than a put for each. Messages for which there is room at one time become
/// visible together. The others wait for room.
///
/// Parameters: q. data: the messages, one behind the other. lengths: the length of each message in bytes. count: how
/// many messages. timeout_ns: how long to wait, in nanoseconds; 0: not at all.
/// Returns how many messages were put, fewer than count where the time has run out, the queue was closed or a signal
/// came; where none was put, the codes of tine_queue_put; -EMSGSIZE: a message is longer than the queue can hold, and
/// none was put.
/// Threads: any; not in a signal handler. Fork: see tine_queue.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_queue_put_many(
    q: *mut tine_queue,
    data: *const c_void,
    lengths: *const usize,
    count: usize,
    timeout_ns: i64,
) -> c_int {
    guard_code(|| {
        let queue = queue(q)?;
        let start = array(lengths.cast_mut(), count)?;
        // SAFETY: `lengths` has `count` lengths, and nobody changes them meanwhile, as the header asks. Where `count`
        // is not 0, `array` has seen that it is not null and aligned.
        let lengths = unsafe { std::slice::from_raw_parts(start.as_ptr(), count) };
        let total = lengths.iter().try_fold(0usize, |sum, length| sum.checked_add(*length)).ok_or(INVALID)?;
        if (data.is_null() && total != 0) || total > isize::MAX as usize {
            return Err(INVALID);
        }
        let bytes = match total {
            0 => &[],
            // SAFETY: `data` has as many bytes as the lengths say together: the text above asks for that. It is not
            // NULL, and `total` is one that a slice may have: that was checked.
            total => unsafe { std::slice::from_raw_parts(data.cast::<u8>(), total) },
        };
        let (mut put, mut rest) = (0, bytes);
        // A wait in pieces goes on where the piece before it has stopped.
        let put_more = |timeout| {
            let before = put;
            let ended = queue.put_many(rest, &lengths[before..], timeout, &mut put);
            rest = &rest[lengths[before..put].iter().sum()..];
            ended
        };
        match meanwhile(Timeout::from_ns(timeout_ns), put_more) {
            Err(code) if put == 0 => Err(code),
            _ => Ok(put as c_int),
        }
    })
}

/// Takes as many messages as are there, up to count, and as fit. It waits for the first of them. The messages lie in
/// buffer one behind the other.
///
/// A consumer that is killed in this call takes along what it was taking: up to count messages.
///
/// Parameters: q. timeout_ns: how long to wait, in nanoseconds; 0: not at all. buffer: where the messages go.
/// capacity: the size of buffer in bytes. lengths: gets the length of each message in bytes. count: how many messages
/// at most.
/// Returns how many messages were taken, 0 where count is 0; the codes of tine_queue_get; -EMSGSIZE: the next message
/// is longer than capacity, and the first of lengths is the capacity that it needs.
/// Threads: any; not in a signal handler. Fork: see tine_queue.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_queue_get_many(
    q: *mut tine_queue,
    timeout_ns: i64,
    buffer: *mut c_void,
    capacity: usize,
    lengths: *mut usize,
    count: usize,
) -> c_int {
    guard_code(|| {
        let queue = queue(q)?;
        // SAFETY: `buffer` has `capacity` bytes of room until the call returns, as the header asks.
        let buffer = unsafe { room(buffer, capacity) }?;
        let start = array(lengths, count)?;
        // SAFETY: `lengths` has `count` places that can be written, and nobody else uses them meanwhile, as the
        // header asks. Where `count` is not 0, `array` has seen that it is not null and aligned.
        let places = unsafe { std::slice::from_raw_parts_mut(start.as_ptr(), count) };
        let get = |timeout| queue.get_many(buffer, places, timeout);
        let result = meanwhile(Timeout::from_ns(timeout_ns), get);
        // SAFETY: `got` writes where a message does not fit, and none was looked at unless `count` was at least 1.
        // `lengths` then has a first place.
        unsafe { got(q, result, lengths) }.map(|got| got as c_int)
    })
}

/// Reserves room in the queue for a message, which is then written in place, without a copy. The thread ends it with
/// tine_queue_commit or tine_queue_abandon. Until then, or until the thread dies, other producers wait.
///
/// The reservation counts among the locks that the thread holds (TINE_MOST_HELD).
///
/// Parameters: q. length: the most bytes that the message may have. timeout_ns: how long to wait for room, in
/// nanoseconds; 0: not at all. out: where the address of the room goes, a multiple of 16, or of 8 where length is at
/// most 8.
/// Returns 0, or the codes of tine_queue_put.
/// Threads: any; not in a signal handler. Fork: see tine_queue.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_queue_reserve(
    q: *mut tine_queue,
    length: usize,
    timeout_ns: i64,
    out: *mut *mut c_void,
) -> c_int {
    guard_code(|| {
        let queue = queue(q)?;
        // SAFETY: `out` is NULL or can be written, as the header asks.
        let out = unsafe { Out::optional(out) }.ok_or(INVALID)?;
        let reserve = |timeout| queue.reserve(length, timeout);
        out.set(meanwhile(Timeout::from_ns(timeout_ns), reserve)?.as_ptr().cast());
        Ok(0)
    })
}

/// Puts the message that the thread has reserved and written.
///
/// Parameters: q. length: the length of the message in bytes, from its beginning.
/// Returns 0; -EPERM: the thread has reserved no message; -EMSGSIZE: length is more than was reserved, and the
/// message is still reserved; -EPIPE: the queue has been closed, and the message is gone; -EINVAL: q is not a queue;
/// TINE_EFORKED.
/// Threads: the one that has reserved. Fork: see tine_queue; a child has reserved no message.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_queue_commit(q: *mut tine_queue, length: usize) -> c_int {
    guard_code(|| queue(q)?.commit(length).map(|()| 0))
}

/// Gives up the message that the thread has reserved.
///
/// Parameters: q.
/// Returns 0; -EPERM: the thread has reserved no message; -EINVAL: q is not a queue; TINE_EFORKED.
/// Threads: the one that has reserved. Fork: see tine_queue; a child has reserved no message.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_queue_abandon(q: *mut tine_queue) -> c_int {
    guard_code(|| queue(q)?.abandon().map(|()| 0))
}

/// Takes the next message without copying it. The thread may read and write the message in place, until it calls
/// tine_queue_release. Until then, or until the thread dies, other consumers wait. If the thread dies, the message is
/// gone.
///
/// The message counts among the locks that the thread holds (TINE_MOST_HELD).
///
/// Parameters: q. timeout_ns: how long to wait for a message, in nanoseconds; 0: not at all. out: where the address of
/// the message goes, a multiple of 16, or of 8 where it has at most 8 bytes. length: gets the length of the message in
/// bytes.
/// Returns 0, or the codes of tine_queue_get.
/// Threads: any; not in a signal handler. Fork: see tine_queue.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_queue_peek(
    q: *mut tine_queue,
    timeout_ns: i64,
    out: *mut *mut c_void,
    length: *mut usize,
) -> c_int {
    guard_code(|| {
        let queue = queue(q)?;
        // SAFETY: `out` and `length` are NULL or can be written, as the header asks.
        let (out, length) =
            unsafe { (Out::optional(out).ok_or(INVALID)?, Out::optional(length).ok_or(INVALID)?) };
        let peek = |timeout| queue.peek(timeout);
        let result = meanwhile(Timeout::from_ns(timeout_ns), peek).map_err(|code| (code, 0));
        // SAFETY: `got` is given no place to write to: null.
        let (place, bytes) = unsafe { got(q, result, std::ptr::null_mut()) }?;
        out.set(place.as_ptr().cast());
        length.set(bytes);
        Ok(0)
    })
}

/// Frees the room of the message that the thread has looked at in place.
///
/// Parameters: q.
/// Returns 0; -EPERM: the thread looks at no message; -EINVAL: q is not a queue; TINE_EFORKED.
/// Threads: the one that has called tine_queue_peek. Fork: see tine_queue; a child looks at no message.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_queue_release(q: *mut tine_queue) -> c_int {
    guard_code(|| queue(q)?.release().map(|()| 0))
}

/// Tells whether the queue holds as many messages as it may at this moment, so that a put would have to wait. Where
/// bytes run out, a long message may have to wait before that.
///
/// Parameters: q.
/// Returns true: it does; false: it does not, the queue is closed, or q is not a queue.
/// Threads: any. Fork: see tine_queue.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_queue_is_full(q: *const tine_queue) -> bool {
    guard_value(false, || queue(q).is_ok_and(|queue| queue.is_full()))
}

/// Tells whether the queue has been closed.
///
/// Parameters: q.
/// Returns true: it has, or q is not a queue; false: it has not.
/// Threads: any. Fork: see tine_queue.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_queue_is_closed(q: *const tine_queue) -> bool {
    guard_value(true, || queue(q).map_or(true, |queue| queue.is_closed()))
}
