//! Channels: messages in place

use crate::error::Result;
use crate::ffi::channel::{channel, tine_channel};
use crate::ffi::guard::{Out, guard};
use crate::pool::meanwhile;
use crate::sync::INVALID;
use crate::sys::clock::Timeout;
use std::ffi::{c_int, c_void};

/// Reserves room for a message, which is then written in place. The thread ends it with tine_channel_commit or
/// tine_channel_abandon. Other threads may send meanwhile.
///
/// A message that is longer than 64 KiB is handed over by its pages, without a copy: the process at the other end
/// reads it where this one has written it. That process could write there too, for as long as the channel has the
/// memory. An end keeps up to 8 such pieces of memory, of up to 16 MiB and with a descriptor each, and uses them again
/// when the other end has released their messages (tine_channel_release, tine_channel_receive).
///
/// Parameters: c. length: the most bytes that the message may have. timeout_ns: how long to wait until a quarter of
/// the channel's buffer is full at the most, in nanoseconds; 0 tries. Where other threads fill it again,
/// tine_channel_commit waits as long once more. out: where the address of the room goes, a multiple of 16. What is in
/// the room at first has no meaning.
/// Returns 0; -EAGAIN, -ETIMEDOUT: there is no room; -EPIPE: the other end is gone; -ENOMEM: there is no memory for
/// the message; -EMFILE: it is longer than 64 KiB, and no descriptor is free; -EDEADLK: the thread has reserved a
/// message of this end; -EINTR: a signal came, with TINE_INTERRUPTIBLE; -EINVAL: c or out is NULL; TINE_EFORKED.
/// Ownership: the room is the channel's. It is there until the message is committed or abandoned, or the end is
/// closed; a thread that ends without either leaves it until then. Threads: any. Fork: TINE_EFORKED in a child.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_channel_reserve(
    c: *mut tine_channel,
    length: usize,
    timeout_ns: i64,
    out: *mut *mut c_void,
) -> c_int {
    guard(|| {
        // SAFETY: `c` is NULL, or a channel's end that is not closed, and `out` is NULL or can be written, as the
        // header asks.
        let (channel, out) = unsafe { (channel(c)?, Out::optional(out).ok_or(INVALID)?) };
        let reserve = |timeout| channel.reserve(length, timeout);
        out.set(meanwhile(Timeout::from_ns(timeout_ns), reserve)?.as_ptr().cast());
        Ok(0)
    })
}

/// Sends the message that the thread has reserved and written.
///
/// Parameters: c. length: the length of the message in bytes, from its beginning.
/// Returns 0: the kernel has the whole message, whatever happens to this process; -EPIPE: the other end is gone, and
/// the message too. The message is still reserved after -EPERM: the thread has reserved none; -EMSGSIZE: length is
/// more than was reserved; -EAGAIN, -ETIMEDOUT: other threads have taken the room; -ENOMEM: there is no memory;
/// -EMFILE: too many descriptors are on their way; -EBADF: the program has closed the descriptor of the message's
/// memory; -EINTR: a signal came, with TINE_INTERRUPTIBLE; -EINVAL: c is NULL; TINE_EFORKED.
/// Threads: the one that has reserved. Fork: TINE_EFORKED in a child.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_channel_commit(c: *mut tine_channel, length: usize) -> c_int {
    guard(|| {
        // SAFETY: `c` is NULL, or a channel's end that is not closed, as the header asks.
        let channel = unsafe { channel(c) }?;
        meanwhile(channel.reserved_timeout()?, |timeout| channel.commit(length, timeout))?;
        Ok(0)
    })
}

/// Gives up the message that the thread has reserved.
///
/// Parameters: c.
/// Returns 0; -EPERM: the thread has reserved no message; -EINVAL: c is NULL; TINE_EFORKED.
/// Threads: the one that has reserved. Fork: TINE_EFORKED in a child.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_channel_abandon(c: *mut tine_channel) -> c_int {
    // SAFETY: `c` is NULL, or a channel's end that is not closed, as the header asks.
    guard(|| done(unsafe { channel(c) }?.abandon()))
}

/// Takes the next message without copying it, if it was written in place (tine_channel_reserve) and is longer than
/// 64 KiB; any other is copied once, by tine. The thread may read and write the message in place, until it calls
/// tine_channel_release. Other threads may receive meanwhile. If the process dies, the message is gone.
///
/// Parameters: c. timeout_ns: how long to wait for a message, in nanoseconds; 0 tries. out: where the address of the
/// message goes, a multiple of 16. length: gets the length of the message in bytes.
/// Returns 0; the codes of tine_channel_receive, without -EMSGSIZE; -EDEADLK: the thread looks at a message of this
/// end; -ENOMEM: there is no memory for the message, which stays; -EINVAL: c, out or length is NULL.
/// Ownership: the message is the channel's. It is there until it is released or the end is closed; a thread that ends
/// without that leaves it until then. A program at the other end that does not keep to these calls could change it
/// meanwhile: where that program is not trusted, what is checked must have been copied, as tine_channel_receive does.
/// Threads: any. Fork: TINE_EFORKED in a child.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_channel_peek(
    c: *mut tine_channel,
    timeout_ns: i64,
    out: *mut *mut c_void,
    length: *mut usize,
) -> c_int {
    guard(|| {
        // SAFETY: `c` is NULL, or a channel's end that is not closed. `out` and `length` are NULL or can be written.
        // The header asks for all of that.
        let (channel, out, length) = unsafe {
            (channel(c)?, Out::optional(out).ok_or(INVALID)?, Out::optional(length).ok_or(INVALID)?)
        };
        let (place, bytes) = meanwhile(Timeout::from_ns(timeout_ns), |timeout| channel.peek(timeout))?;
        out.set(place.as_ptr().cast());
        length.set(bytes);
        Ok(0)
    })
}

/// Gives back the message that the thread has looked at in place.
///
/// Parameters: c.
/// Returns 0; -EPERM: the thread looks at no message; -EINVAL: c is NULL; TINE_EFORKED.
/// Threads: the one that has called tine_channel_peek. Fork: TINE_EFORKED in a child.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_channel_release(c: *mut tine_channel) -> c_int {
    // SAFETY: `c` is NULL, or a channel's end that is not closed, as the header asks.
    guard(|| done(unsafe { channel(c) }?.release()))
}

fn done(result: Result<()>) -> Result<c_int> {
    result.map(|()| 0)
}
