//! Channels

use crate::channel::{Channel, ChannelOptions, Received};
use crate::error::{Error, Result};
use crate::ffi::errors::{TINE_INTERRUPTIBLE, tine_error};
use crate::ffi::guard::{Out, bytes, flags, guard, guard_end, guard_value};
use crate::ffi::options::{self, extensible};
use crate::ffi::task::{task, tine_task};
use crate::pool::meanwhile;
use crate::sync::INVALID;
use crate::sys::clock::Timeout;
use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;
use std::os::fd::IntoRawFd;

/// One end of a channel: see tine_channel_create.
#[repr(transparent)]
pub struct tine_channel(pub(crate) Channel);

/// Options of tine_channel_create and tine_channel_attach.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct tine_channel_options {
    /// sizeof(tine_channel_options).
    pub size: usize,
    /// Filled in when the call fails; may be NULL.
    pub error: *mut tine_error,
    /// How many bytes may be on their way in each direction before a send waits, as far as the system allows
    /// (net.core.wmem_max); 0: the system's default, about 200 KiB. A message counts with at least 768 bytes. A
    /// message that is longer than 64 KiB, or than this, travels in memory beside it, and counts like an empty one.
    pub buffer_bytes: usize,
    /// TINE_INTERRUPTIBLE.
    pub flags: u32,
    /// 0.
    pub reserved: u32,
}

extensible!(tine_channel_options: Options);

impl tine_channel_options {
    fn read(&self) -> Result<ChannelOptions> {
        flags(self.flags, TINE_INTERRUPTIBLE)?;
        if self.reserved != 0 {
            return Err(Error::invalid(format!("reserved is {}; it should be 0", self.reserved)));
        }
        Ok(ChannelOptions { interruptible: self.flags != 0, buffer_bytes: self.buffer_bytes })
    }
}

/// Makes a channel: two ends, between which whole messages and descriptors go both ways.
///
/// One process has an end at a time. An end is given to a task (tine_submit_options.channel), to a process that
/// starts (tine_process_options.channel), or to any other process: tine_channel_send_fd sends the tine_channel_fd,
/// and tine_channel_attach takes it over there.
///
/// A process that is killed, at whatever instruction, leaves each message sent or not sent, and never a part of one.
/// The process with the other end receives what was sent, in order and once, and then gets -EPIPE. That holds when an
/// end is closed, too. It does not get -EPIPE while a copy of the end exists in another process, a forked child for
/// example.
///
/// Calls on an end may be made from any thread. Several threads may receive, and each message goes to one of them.
///
/// Parameters: options: NULL for all defaults. a: where the one end goes. b: where the other end goes.
/// Returns 0; -EINVAL, -E2BIG: an argument or an option has no meaning; -EMFILE, -ENFILE: no descriptor is free;
/// -ENOMEM: there is no memory.
/// Ownership: each end is the caller's until tine_channel_close, or until it is given away. Threads: any. Fork: a
/// child may make channels of its own; calls on its parent's ends return TINE_EFORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_channel_create(
    options: *const tine_channel_options,
    a: *mut *mut tine_channel,
    b: *mut *mut tine_channel,
) -> c_int {
    // SAFETY: `options` is NULL or as long as its `.size` says, and `a` and `b` are NULL or can be written, as the
    // header asks.
    unsafe {
        make(options, |options| {
            let (a, b) = (Out::required(a, "a")?, Out::required(b, "b")?);
            let (first, second) = Channel::pair(options)?;
            a.set(handle(first));
            b.set(handle(second));
            Ok(())
        })
    }
}

/// Takes over an end of a channel that has come from another process.
///
/// Parameters: fd: a descriptor of the end, received or inherited. It stays the caller's, who should close it: as
/// long as it is open, the other end does not see this end closed. options: NULL for all defaults. out: where the end
/// goes.
/// Returns 0; -EBADF: fd is not open; -EINVAL: fd is not an end of a channel, or an option has no meaning;
/// TINE_EVERSION: a message of another version of tine waits in it; -E2BIG: the options are longer than this version
/// knows; -EMFILE: no descriptor is free; -ENOMEM: there is no memory.
/// Ownership: until tine_channel_close, or until it is given away. Threads: any. Fork: a child may call it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_channel_attach(
    fd: c_int,
    options: *const tine_channel_options,
    out: *mut *mut tine_channel,
) -> c_int {
    // SAFETY: `options` is NULL or as long as its `.size` says, and `out` is NULL or can be written, as the header
    // asks.
    unsafe {
        make(options, |options| {
            let out = Out::required(out, "out")?;
            out.set(handle(Channel::attach(fd, options)?));
            Ok(())
        })
    }
}

/// Closes an end. The other end can still receive what was sent, and then gets -EPIPE.
///
/// A task that closes the end that it was given (tine_task_channel) ends it for every process that has a copy. The
/// handle stays valid until the function returns.
///
/// Parameters: c: may be NULL. No other thread may be in a call on the end, unless it is the one that a task was
/// given.
/// Threads: any. Fork: a child closes its copy.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_channel_close(c: *mut tine_channel) {
    guard_end(|| {
        // SAFETY: `c` is NULL, or a channel's end that is not closed, as the header asks.
        match unsafe { c.as_ref() } {
            None => (),
            Some(channel) if channel.0.is_lent() => channel.0.shut_down(),
            // SAFETY: an end that is not a task's comes from `Box::into_raw` in `handle` alone. As the text above
            // asks, no other thread is in a call on it, and this call is the last.
            Some(_) => drop(unsafe { Box::from_raw(c) }),
        }
    });
}

/// Sends one message, and waits while there is no room for it.
///
/// Parameters: c. data: the message, which is copied; NULL where length is 0. length: in bytes; a message may be
/// empty. timeout_ns: how long to wait, in nanoseconds; 0: not at all.
/// Returns 0: the kernel has the whole message, whatever happens to this process; -EAGAIN, -ETIMEDOUT: there is no
/// room; -EPIPE: the other end is gone; -ENOMEM: there is no memory for the message; -EINTR: a signal came, with
/// TINE_INTERRUPTIBLE; -EINVAL: c or data is NULL; TINE_EFORKED. For a message that is longer than 64 KiB or than
/// .buffer_bytes also -EMFILE, -ENFILE: no descriptor is free, or too many are on their way; -EACCES, -ENOSYS: the
/// system refuses memfd_create; -EBADF: the program has closed the descriptor of the memory. After an error nothing
/// was sent.
/// Threads: any; in a signal handler only with a timeout of 0, and a message that is no longer than 64 KiB and than
/// .buffer_bytes. Fork: TINE_EFORKED in a child.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_channel_send(
    c: *mut tine_channel,
    data: *const c_void,
    length: usize,
    timeout_ns: i64,
) -> c_int {
    guard(|| {
        // SAFETY: `c` is NULL, or a channel's end that is not closed, and `data` has `length` bytes, as the header
        // asks.
        let (channel, data) = unsafe { (channel(c)?, bytes(data.cast(), length, "data")?) };
        match Timeout::from_ns(timeout_ns) {
            // A signal handler may call it, on top of a call that has a pool's lock.
            Timeout::Try => channel.send(data, Timeout::Try)?,
            timeout => meanwhile(timeout, |timeout| channel.send(data, timeout))?,
        }
        Ok(0)
    })
}

/// Receives the next message, and waits while there is none.
///
/// Parameters: c. timeout_ns: how long to wait, in nanoseconds; 0: not at all. buffer: where the message goes; NULL
/// where capacity is 0. capacity: the size of buffer in bytes. length: gets the length of the message in bytes; may be
/// NULL.
/// Returns 0; -EAGAIN, -ETIMEDOUT: there is no message; -EPIPE: there is no message, and the other end is gone;
/// -EINTR: a signal came, with TINE_INTERRUPTIBLE; -EINVAL: c or buffer is NULL; TINE_EFORKED. The message stays after
/// -EMSGSIZE: it is longer than capacity, and *length is the capacity that it needs; -ENOMSG: it is a descriptor, for
/// tine_channel_receive_fd; -EMFILE: it is longer than 64 KiB, which needs a descriptor, and none is free; -ENOMEM:
/// there is no memory or address space for it. It is thrown away after -EBADMSG: tine has not sent it; TINE_EVERSION:
/// the other end has another version of tine.
/// Threads: any. Fork: TINE_EFORKED in a child.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_channel_receive(
    c: *mut tine_channel,
    timeout_ns: i64,
    buffer: *mut c_void,
    capacity: usize,
    length: *mut usize,
) -> c_int {
    guard(|| {
        // SAFETY: `c` is NULL, or a channel's end that is not closed. `buffer` has room for `capacity` bytes, and
        // `length` is NULL or can be written. The header asks for all of that.
        let (channel, room, length) =
            unsafe { (channel(c)?, room(buffer, capacity)?, Out::optional(length)) };
        let received =
            meanwhile(Timeout::from_ns(timeout_ns), |timeout| channel.receive(timeout, &mut *room))?;
        let (Received::Message(bytes) | Received::TooLong(bytes)) = received;
        if let Some(length) = length {
            length.set(bytes);
        }
        Ok(if matches!(received, Received::TooLong(_)) { -libc::EMSGSIZE } else { 0 })
    })
}

/// Sends a descriptor: of a file, a segment, or an end of another channel. It keeps its place in the order of the
/// messages.
///
/// Parameters: c. fd: the descriptor, which stays the caller's. timeout_ns: how long to wait, in nanoseconds; 0: not
/// at all.
/// Returns 0, or the codes of tine_channel_send; -EBADF: fd is not open; -EMFILE: too many descriptors are on their
/// way.
/// Threads: any. Fork: TINE_EFORKED in a child.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_channel_send_fd(c: *mut tine_channel, fd: c_int, timeout_ns: i64) -> c_int {
    guard(|| {
        // SAFETY: `c` is NULL, or a channel's end that is not closed, as the header asks.
        let channel = unsafe { channel(c) }?;
        meanwhile(Timeout::from_ns(timeout_ns), |timeout| channel.send_fd(fd, timeout))?;
        Ok(0)
    })
}

/// Receives a descriptor.
///
/// Parameters: c. timeout_ns: how long to wait, in nanoseconds; 0: not at all. fd: where the descriptor goes.
/// Returns 0, or the codes of tine_channel_receive. What comes next stays after -ENOMSG: it is a message, for
/// tine_channel_receive; -EMFILE: this process has no descriptor free.
/// Ownership: the caller closes the descriptor, which is close-on-exec. Threads: any. Fork: TINE_EFORKED in a child.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_channel_receive_fd(
    c: *mut tine_channel,
    timeout_ns: i64,
    fd: *mut c_int,
) -> c_int {
    guard(|| {
        // SAFETY: `c` is NULL, or a channel's end that is not closed, and `fd` is NULL or can be written, as the
        // header asks.
        let (channel, fd) = unsafe { (channel(c)?, Out::optional(fd).ok_or(INVALID)?) };
        let received = meanwhile(Timeout::from_ns(timeout_ns), |timeout| channel.receive_fd(timeout))?;
        fd.set(received.into_raw_fd());
        Ok(0)
    })
}

/// A descriptor that is readable while there is something to receive, or when the other end is gone. It is for poll,
/// select and epoll, and can be sent to another process. The program must not read or close it.
///
/// Parameters: c.
/// Returns the descriptor, which stays the channel's; -EINVAL: c is NULL; TINE_EFORKED.
/// Threads: any. Fork: TINE_EFORKED in a child.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_channel_fd(c: *const tine_channel) -> c_int {
    // SAFETY: `c` is NULL, or a channel's end that is not closed, as the header asks.
    guard(|| unsafe { channel(c) }?.descriptor())
}

/// The end of a channel that was given to the task (tine_submit_options.channel) or to the process
/// (tine_process_options.channel).
///
/// Parameters: task.
/// Returns the end; NULL: none was given.
/// Ownership: the end is valid until the function returns, in all threads, and is closed then. To keep it longer,
/// attach its descriptor. Threads: the task's. Fork: TINE_EFORKED for calls on the end in a child.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_task_channel(task: *const tine_task) -> *mut tine_channel {
    guard_value(std::ptr::null_mut(), || {
        // SAFETY: `task` is NULL, or the task of the function that has called, on its thread, as tine_task's text
        // asks.
        let channel = unsafe { self::task(task.cast_mut()) }.and_then(|task| task.channel());
        channel.map_or(std::ptr::null_mut(), |channel| std::ptr::from_ref(channel).cast_mut().cast())
    })
}

/// # Safety
/// `options` is null or as long as its `.size` says.
unsafe fn make(
    options: *const tine_channel_options,
    body: impl FnOnce(&ChannelOptions) -> Result<()>,
) -> c_int {
    // SAFETY: `with` asks of `options` what this function asks.
    unsafe {
        options::with(options, |options| {
            body(&options.map_or(Ok(ChannelOptions::default()), tine_channel_options::read)?).map(|()| 0)
        })
    }
}

fn handle(channel: Channel) -> *mut tine_channel {
    Box::into_raw(Box::new(tine_channel(channel)))
}

/// # Safety
/// `pointer` is null, or a channel that has not been closed.
pub(crate) unsafe fn channel<'a>(pointer: *const tine_channel) -> Result<&'a Channel> {
    // SAFETY: by the contract above `pointer` is null or an end that stays until the call returns. It is only read.
    unsafe { pointer.as_ref() }.map(|channel| &channel.0).ok_or_else(|| Error::invalid("channel is NULL"))
}

/// # Safety
/// `buffer` is null, or valid for writes of `capacity` bytes for the whole of `'a`.
unsafe fn room<'a>(buffer: *mut c_void, capacity: usize) -> Result<&'a mut [MaybeUninit<u8>]> {
    if capacity == 0 {
        return Ok(&mut []);
    }
    if buffer.is_null() || capacity > isize::MAX as usize {
        return Err(INVALID.into());
    }
    // SAFETY: `buffer` is not null, so by the contract above `capacity` bytes can be written for `'a`. The capacity
    // is one that a slice may have: that was checked. Bytes that need not be initialised are valid whatever they are.
    Ok(unsafe { std::slice::from_raw_parts_mut(buffer.cast(), capacity) })
}
