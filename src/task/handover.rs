//! How the end of a channel gets from the host into a worker, or back.
//!
//! It waits in a socket of which host and worker both have the reading end. Whoever has claimed the task (see
//! `task::ring`) takes it out: the worker when it begins, the host when it has recalled the task or the worker died before
//! it began. One task of a ring at a time has an end in there, so nobody takes another's. The host keeps no copy: when the
//! worker dies the end is closed there and then, and the one at the other end of the channel is told by the kernel, even if
//! the host makes no call.
//!
//! Who takes it looks first, and has a descriptor of it before it leaves the socket. Where none is free the end stays in there:
//! the host tries again later; the worker, whose task then fails, closes it.

use super::wire::{Message, MessageKind};
use crate::channel::End;
use crate::error::{Error, Result};
use crate::sys::fd::{self, Guarded};
use crate::sys::socket::{self, Peeked, Sent};
use std::os::fd::{AsRawFd, RawFd};

#[derive(Debug)]
pub(crate) struct Handover {
    to_put: Guarded,
    to_take: Guarded,
}

impl Handover {
    pub(crate) fn new() -> Result<Handover> {
        let (to_put, to_take) = socket::pair()?;
        Ok(Handover { to_put: Guarded::new(to_put), to_take: Guarded::new(to_take) })
    }

    /// By which the worker gets its descriptor of it.
    pub(crate) fn message(&self) -> Result<Message> {
        Ok(Message::new(MessageKind::Handover, &[]).with_fds(vec![self.to_take.duplicate()?]))
    }

    /// Puts an end in; whether it is. Only a worker that has tampered with its descriptor is in the way. Where the kernel has no memory
    /// for it nobody is: that is an error.
    pub(crate) fn put(&self, end: &End) -> Result<bool> {
        let bytes = [u8::from(end.interruptible)];
        let sent = socket::send_parts(self.to_put.as_raw_fd(), [&bytes, &[]], &[end.socket.as_raw_fd()])?;
        Ok(sent == Sent::Done)
    }

    /// The end that is still in there, and stays there where the call fails.
    pub(crate) fn take_back(&self) -> Result<End> {
        take(self.to_take.as_raw_fd())
    }

    /// Closes the end that is still in there.
    pub(crate) fn discard(&self) {
        discard(self.to_take.as_raw_fd());
    }
}

/// Takes out what was put in. `EMFILE`: this process has no descriptor free for it, and it stays there.
pub(crate) fn take(socket: RawFd) -> Result<End> {
    let mut bytes = [0; 1];
    let peeked = socket::peek(socket, &mut bytes, false)?;
    let Peeked::Message { length: 1, fds, fds_lost } = peeked else {
        return Err(Error::errno(libc::EPIPE, "the task's end of its channel is gone"));
    };
    let end = fds.into_iter().next().filter(|_| !fds_lost);
    let full = || Error::errno(libc::EMFILE, "no descriptor is free for the task's end of its channel");
    let end = fd::above_standard(end.ok_or_else(full)?, "the task's end of its channel")?;
    socket::take(socket, &mut bytes, &mut [])?;
    Ok(End { socket: Box::new(Guarded::new(end)), interruptible: bytes[0] != 0 })
}

/// Takes out what was put in, and closes it, for which no descriptor is needed.
pub(crate) fn discard(socket: RawFd) {
    // It can't fail but where somebody has closed the descriptor, and then there is nothing in it.
    let _ = socket::take(socket, &mut [0], &mut []);
}
