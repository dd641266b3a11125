//! Channels: messages in place

use crate::ffi::channel::{channel, tine_channel};
use crate::ffi::guard::{Out, guard};
use crate::pool::meanwhile;
use crate::sys::clock::Timeout;
use std::ffi::{c_int, c_void};

/// Reserves room for a message, which is then written in place. tine_channel_commit sends it, and tine_channel_abandon
/// gives it up. A message of more than 64 KiB is not copied on its way to tine_channel_peek.
///
/// A handle has one reserved message at a time; a thread that wants one of its own attaches a handle of its own
/// (tine_channel_attach). Sending and receiving through the handle go on meanwhile: the message takes its place in the
/// order when it is committed.
///
/// The memory for messages of more than 64 KiB is used again for the next ones. It stays with the handle, and with the
/// handle at the other end: up to four times the longest message, and 64 MiB at most. A message of more than 32 MiB
/// gets memory of its own. So the room may hold an older message of this channel; room for up to 64 KiB is zero. Where
/// the other end has received all messages and has released none, it may have died: then that memory is left to it,
/// and new memory is taken at once. So more is in use while receivers hold messages.
///
/// Parameters: c. length: the most bytes that the message may have; may be 0. timeout_ns: how long to wait until the
/// other end has released room, in nanoseconds; 0: not at all. out: where the address of the room goes, a multiple of
/// 16, never NULL.
/// Returns 0; -EBUSY: a message is reserved through this handle already, or another thread is in this call; -EAGAIN,
/// -ETIMEDOUT: all room is in use, and some of it is for messages that are on their way or being written; -EPIPE: all
/// room is in use, and the other end is gone; -ENOMEM: there is no memory; -EMFILE, -ENFILE: no descriptor is free;
/// -EACCES, -ENOSYS: the system refuses memfd_create; -EBADF: the program has closed the descriptor of the memory;
/// -EINTR: a signal came, with TINE_INTERRUPTIBLE; -EINVAL: c or out is NULL, or length is more than an address space
/// has; TINE_EFORKED.
/// Ownership: the room is valid until tine_channel_commit or tine_channel_abandon has returned 0, or the handle is
/// closed or given away. Threads: any, and another one may commit; not in a signal handler. Fork: TINE_EFORKED in a
/// child, which must not write there.
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
        let (channel, out) = unsafe { (channel(c)?, Out::required(out, "out")?) };
        let reserve = |timeout| channel.reserve(length, timeout);
        out.set(meanwhile(Timeout::from_ns(timeout_ns), reserve)?.as_ptr().cast());
        Ok(0)
    })
}

/// Sends the message that was reserved through this handle and written, and waits while there is no room for it on the
/// way. tine_channel_peek at the other end receives it, and so does tine_channel_receive.
///
/// Parameters: c. length: the length of the message in bytes, from its beginning. timeout_ns: how long to wait, in
/// nanoseconds; 0: not at all.
/// Returns 0: the kernel has the whole message, whatever happens to this process; -EPERM: no message is reserved
/// through this handle. The message is still reserved after -EMSGSIZE: length is more than was reserved; -EAGAIN,
/// -ETIMEDOUT: there is no room on the way; -ENOMEM: there is no memory; -EMFILE, -ENFILE: no descriptor is free, or
/// too many are on their way; -EACCES, -ENOSYS: the system refuses memfd_create; -EBADF: the program has closed the
/// descriptor of the memory; -EINTR: a signal came, with TINE_INTERRUPTIBLE. It is gone after -EPIPE: the other end is
/// gone. -EINVAL: c is NULL; TINE_EFORKED.
/// Ownership: after 0 and -EPIPE the room is not the caller's any more. Threads: any; not in a signal handler. Fork:
/// TINE_EFORKED in a child.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_channel_commit(c: *mut tine_channel, length: usize, timeout_ns: i64) -> c_int {
    guard(|| {
        // SAFETY: `c` is NULL, or a channel's end that is not closed, as the header asks.
        let channel = unsafe { channel(c) }?;
        meanwhile(Timeout::from_ns(timeout_ns), |timeout| channel.commit(length, timeout))?;
        Ok(0)
    })
}

/// Gives up the message that was reserved through this handle.
///
/// Parameters: c.
/// Returns 0; -EPERM: no message is reserved through this handle; -EINVAL: c is NULL; TINE_EFORKED.
/// Threads: any; not in a signal handler. Fork: TINE_EFORKED in a child.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_channel_abandon(c: *mut tine_channel) -> c_int {
    // SAFETY: `c` is NULL, or a channel's end that is not closed, as the header asks.
    guard(|| unsafe { channel(c) }?.abandon().map(|()| 0))
}

/// Receives the next message to be read in place, however it was sent, and waits while there is none. The program may
/// read and write it in place, until it calls tine_channel_release. If the process dies before that, the message is
/// gone. A message of more than 64 KiB is not copied, unless it is one of tine_channel_send that is longer than 32 MiB
/// or found no room free.
///
/// A handle looks at one message at a time; a thread that wants one of its own attaches a handle of its own
/// (tine_channel_attach). Sending and receiving through the handle go on meanwhile.
///
/// A message of more than 64 KiB lies in memory that the other end has too. What another program has sent should be
/// copied before it is checked: a hostile one can still write there, and can take the memory away, so that reading
/// needs new memory of the system. Where the system has none, or may not give it (vm.overcommit_memory is 2), the
/// access raises SIGBUS; so it does in tine_channel_receive and tine_channel_send, which copy from and to such memory.
/// The same can do who has got the memory's descriptor from a process that received from this end before: from a
/// worker in which the task was tried first (.retries), for example.
///
/// Parameters: c. timeout_ns: how long to wait for a message, in nanoseconds; 0: not at all. out: where the address of
/// the message goes, a multiple of 16, never NULL. length: gets the length of the message in bytes.
/// Returns 0; -EBUSY: a message is looked at through this handle already, or another thread is in this call; -EAGAIN,
/// -ETIMEDOUT: there is no message; -EPIPE: there is no message, and the other end is gone; -EINTR: a signal came,
/// with TINE_INTERRUPTIBLE; -EINVAL: c, out or length is NULL; TINE_EFORKED. The message stays after -ENOMSG: it is a
/// descriptor, for tine_channel_receive_fd; -EMFILE: it is longer than 64 KiB, which needs a descriptor, and none is
/// free; -ENOMEM: there is no memory or address space for it. It is thrown away after -EBADMSG: tine has not sent it;
/// TINE_EVERSION: the other end has another version of tine.
/// Ownership: the message is valid until tine_channel_release, or until the handle is closed or given away. Threads:
/// any, and another one may release; not in a signal handler. Fork: TINE_EFORKED in a child, which must not touch the
/// message.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_channel_peek(
    c: *mut tine_channel,
    timeout_ns: i64,
    out: *mut *mut c_void,
    length: *mut usize,
) -> c_int {
    guard(|| {
        // SAFETY: `c` is NULL, or a channel's end that is not closed. `out` and `length` are NULL or can be written. The
        // header asks for all of that.
        let (channel, out, length) =
            unsafe { (channel(c)?, Out::required(out, "out")?, Out::required(length, "length")?) };
        let (place, bytes) = meanwhile(Timeout::from_ns(timeout_ns), |timeout| channel.peek(timeout))?;
        out.set(place.as_ptr().cast());
        length.set(bytes);
        Ok(0)
    })
}

/// Lets go of the message that is looked at through this handle, so that its room can be used again.
///
/// Parameters: c.
/// Returns 0; -EPERM: no message is looked at through this handle; -EINVAL: c is NULL; TINE_EFORKED.
/// Threads: any; not in a signal handler. Fork: TINE_EFORKED in a child.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_channel_release(c: *mut tine_channel) -> c_int {
    // SAFETY: `c` is NULL, or a channel's end that is not closed, as the header asks.
    guard(|| unsafe { channel(c) }?.release().map(|()| 0))
}
