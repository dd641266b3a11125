//! How the end of a channel gets from the host into a worker, or back.
//!
//! It waits in a socket of which host and worker both have the reading end. Whoever has claimed the task (see
//! `task::ring`) takes it out: the worker when it begins, the host when it has recalled the task or the worker died before
//! it began. One task of a ring at a time has an end in there. The host keeps no copy: when the worker dies the end is closed
//! there and then, and the one at the other end of the channel is told by the kernel, even if the host makes no call.
//!
//! A hostile worker may leave an end in there and say that its task is over. So beside each end stands the id of its task, and who
//! looks for an end closes those of other tasks. The worker shares the socket's options, by which it can have a look see another
//! message than is taken next, so what was taken is compared as well.
//!
//! Who takes it looks first, and has a descriptor of it before it leaves the socket. Where none is free the end stays in there:
//! the host tries again later; the worker, whose task then fails, closes it.

use super::wire::{Message, MessageKind};
use crate::channel::End;
use crate::error::{Error, Result};
use crate::sys::fd::{self, Guarded};
use crate::sys::socket::{self, Peeked, Sent};
use std::os::fd::{AsRawFd, RawFd};

/// An end's message: the id of the task that it goes with, and whether signals end its waits.
const MESSAGE_BYTES: usize = 9;

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

    /// Puts the end of this task in; whether it is. Only a worker that has tampered with its descriptor is in the way. Where the kernel
    /// has no memory for it nobody is: that is an error.
    pub(crate) fn put(&self, end: &End, task: u64) -> Result<bool> {
        let (id, interruptible) = (task.to_ne_bytes(), [u8::from(end.interruptible)]);
        let parts = [&id[..], &interruptible];
        let sent = socket::send_parts(self.to_put.as_raw_fd(), parts, &[end.socket.as_raw_fd()])?;
        Ok(sent == Sent::Done)
    }

    /// The end of this task, which is still in there, and stays there where no descriptor is free.
    pub(crate) fn take_back(&self, task: u64) -> Result<End> {
        take(self.to_take.as_raw_fd(), task)
    }

    /// Closes what is still in there.
    pub(crate) fn discard(&self) {
        discard(self.to_take.as_raw_fd());
    }
}

/// Takes out the end of this task. `EMFILE`: this process has no descriptor free for it, and it stays there.
pub(crate) fn take(socket: RawFd, task: u64) -> Result<End> {
    let gone = || Error::errno(libc::EPIPE, "the task's end of its channel is gone");
    let is_its = |bytes: &[u8; MESSAGE_BYTES]| bytes[..8] == task.to_ne_bytes();
    let (mut seen, mut taken) = ([0; MESSAGE_BYTES], [0; MESSAGE_BYTES]);
    loop {
        let peeked = socket::peek(socket, &mut seen, false)?;
        let Peeked::Message { length: MESSAGE_BYTES, fds, fds_lost } = peeked else { return Err(gone()) };
        if !is_its(&seen) {
            if socket::take(socket, &mut taken, &mut [])? != Some(MESSAGE_BYTES) {
                return Err(gone());
            }
            continue;
        }
        let end = fds.into_iter().next().filter(|_| !fds_lost);
        let full = || Error::errno(libc::EMFILE, "no descriptor is free for the task's end of its channel");
        let end = fd::above_standard(end.ok_or_else(full)?, "the task's end of its channel")?;
        socket::take(socket, &mut taken, &mut [])?;
        if taken != seen {
            return Err(gone());
        }
        return Ok(End { socket: Box::new(Guarded::new(end)), interruptible: seen[8] != 0 });
    }
}

/// Takes out all that is in there, and closes it, for which no descriptor is needed.
pub(crate) fn discard(socket: RawFd) {
    // It can't fail but where somebody has closed the descriptor, and then there is nothing in it.
    while let Ok(Some(1..)) = socket::take(socket, &mut [0], &mut []) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends() -> (End, End) {
        let (one, other) = socket::waiting_pair().unwrap();
        let end = |socket| End { socket: Box::new(Guarded::new(socket)), interruptible: false };
        (end(one), end(other))
    }
    fn is_the_peer_of(end: &End, other: &End) -> bool {
        socket::send(other.socket.as_raw_fd(), b"?", &[]).unwrap();
        socket::has_message(end.socket.as_raw_fd()).unwrap()
    }

    #[test]
    fn who_looks_for_an_end_gets_no_other_tasks() {
        let (handover, [(first, first_peer), (second, second_peer)]) =
            (Handover::new().unwrap(), [ends(), ends()]);
        assert!(handover.put(&first, 7).unwrap() && handover.put(&second, 8).unwrap());
        drop((first, second));
        let end = handover.take_back(8).unwrap();
        assert!(is_the_peer_of(&end, &second_peer));
        assert!(socket::is_hung_up(first_peer.socket.as_raw_fd()), "what was left in there is closed");
        assert_eq!(handover.take_back(8).unwrap_err().code().0, -libc::EPIPE);
        handover.discard();
    }
}
