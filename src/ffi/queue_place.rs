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

/// Puts several messages, which lie one behind the other in `data`: cheaper than one by one. Those for which there is
/// room at a time become visible together; the others wait for room.
///
/// Parameters: lengths: of each message, in bytes. count: how many. The rest as for tine_queue_put.
/// Returns how many were put: fewer than `count` where the time ran out, the queue was closed or a signal came, but not
/// none: then the code is that of tine_queue_put. -EMSGSIZE: one is longer than the queue can hold; none was put.
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
        let put = |timeout| queue.put_many(bytes, lengths, timeout);
        meanwhile(Timeout::from_ns(timeout_ns), put).map(|put| put as c_int)
    })
}

/// Takes several messages: as many as there are, at most `count`, and as fit, but at least one, for which it waits. They
/// lie one behind the other in `buffer`.
///
/// A consumer that is killed in here takes along what it was taking: up to `count` messages.
///
/// Parameters: lengths: for each message its length. The rest as for tine_queue_get.
/// Returns how many were taken; otherwise the codes of tine_queue_get, and for -EMSGSIZE `lengths[0]` is what the next
/// message needs. 0: `count` is 0.
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

/// Room in the queue for a message of up to `length` bytes, to be written in place: no copy. The thread then calls
/// tine_queue_commit or tine_queue_abandon; until it does, or dies, other producers wait.
///
/// A thread that has reserved counts it among the locks that it holds (TINE_MOST_HELD).
///
/// Parameters: out: where the address goes, aligned to 16 bytes, or to 8 where length is at most 8.
/// Returns 0, or the codes of tine_queue_put.
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

/// Puts the message that the thread has reserved and written: its first `length` bytes.
///
/// Returns 0; -EPERM: the thread has reserved none; -EMSGSIZE: longer than was reserved, which it still is; -EPIPE: the
/// queue has been closed, and the message is gone.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_queue_commit(q: *mut tine_queue, length: usize) -> c_int {
    guard_code(|| queue(q)?.commit(length).map(|()| 0))
}

/// Gives up the message that the thread has reserved.
///
/// Returns 0; -EPERM: the thread has reserved none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_queue_abandon(q: *mut tine_queue) -> c_int {
    guard_code(|| queue(q)?.abandon().map(|()| 0))
}

/// Takes the next message without copying it: it may be read, and written, in place until the thread calls
/// tine_queue_release. Until it does, or dies, other consumers wait. Should it die, the message is gone.
///
/// A thread that looks at a message counts it among the locks that it holds (TINE_MOST_HELD).
///
/// Parameters: out, length: where its address and length go; the address is aligned as for tine_queue_reserve.
/// Returns 0, or the codes of tine_queue_get.
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

/// Gives the message's room back that the thread has looked at in place.
///
/// Returns 0; -EPERM: the thread looks at none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_queue_release(q: *mut tine_queue) -> c_int {
    guard_code(|| queue(q)?.release().map(|()| 0))
}

/// Whether the queue holds as many messages as it may at this moment, so that a put would have to wait. Bytes are another
/// matter: for a long message there may be no room before. False where the queue is closed, or `q` is no queue.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_queue_is_full(q: *const tine_queue) -> bool {
    guard_value(false, || queue(q).is_ok_and(|queue| queue.is_full()))
}

/// Whether the queue has been closed; true where `q` is no queue.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_queue_is_closed(q: *const tine_queue) -> bool {
    guard_value(true, || queue(q).map_or(true, |queue| queue.is_closed()))
}
