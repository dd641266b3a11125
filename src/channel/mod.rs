//! Channels: two ends, both ways, whole messages and descriptors.
//!
//! An end is one unix socket that keeps message boundaries. The kernel has a packet whole or not at all, keeps it until it is
//! read, and tells the survivor, so a death leaves nothing to repair. Long messages lie in memory of the sender's, whose descriptor
//! goes with the packet. docs/design/channels.md has the table of deaths.

mod in_place;
mod long;
mod packet;
mod pages;
mod turns;

use crate::error::{Code, Error, Result};
use crate::sys::clock::{Deadline, Timeout};
use crate::sys::fd::Guarded;
use crate::sys::prim::Ordering;
use crate::sys::socket::{self, Peeked, Ready, Sent, Waited};
use crate::sys::{fd, fork, reserve};
use in_place::InPlace;
use packet::{
    Content, First, Flaw, HEADER_BYTES, Header, LOOK_BYTES, PLACE_BYTES, PacketKind, judge, not_ours,
};
use pages::Extent;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::{Arc, PoisonError};
use turns::Turn;

/// Messages up to this length travel in the packet.
const SHORT_BYTES: usize = 64 << 10;

/// How long a sender waits to be told of room before it tries again.
const LOOK_NS: u64 = 50_000_000;

/// What a channel can be told; all zero is the default.
#[derive(Clone, Copy, Debug, Default)]
pub struct ChannelOptions {
    /// Waits end when a signal handler has run.
    pub interruptible: bool,
    /// How many bytes may be on their way in each direction; 0 for the system's default.
    pub buffer_bytes: usize,
}

/// What travels when an end is given to another process.
#[derive(Debug)]
pub struct End {
    /// Apart, because few tasks have one, and the host has a place for it in the books of each.
    pub(crate) socket: Box<Guarded>,
    pub(crate) interruptible: bool,
}

/// One end of a channel. Dropping it closes it in this process.
#[derive(Debug)]
pub struct Channel {
    /// Looked at before it is closed, ended or given away, and not with each message, which is the user's own call.
    socket: Guarded,
    /// A forked child must not use it.
    pid: i32,
    interruptible: bool,
    /// It belongs to a task, which ends it when it returns.
    lent: bool,
    /// Shared with the other handles of this end.
    turn: Arc<Turn>,
    in_place: InPlace,
}

/// What came of a receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// A message of this length.
    Message(usize),
    /// The next message is this long, which is more than there is room for. It stays.
    TooLong(usize),
}

impl Channel {
    /// A new channel: its two ends.
    pub fn pair(options: &ChannelOptions) -> Result<(Channel, Channel)> {
        reserve::suffices()?;
        let (first, second) = socket::waiting_pair()?;
        Ok((Channel::of(first, options)?, Channel::of(second, options)?))
    }

    /// The end behind a descriptor, which stays the caller's.
    pub fn attach(fd: RawFd, options: &ChannelOptions) -> Result<Channel> {
        reserve::suffices()?;
        if !socket::is_connected_unix(fd)? {
            return Err(Error::invalid(format!("descriptor {fd} is not an end of a channel")));
        }
        packet::check_first(fd).map_err(|error| match -error.code().0 {
            libc::EBADMSG => Error::invalid(format!("descriptor {fd} is a socket, but not a channel's")),
            _ => error,
        })?;
        Channel::of(fd::duplicate(fd)?, options)
    }

    fn of(socket: OwnedFd, options: &ChannelOptions) -> Result<Channel> {
        if options.buffer_bytes != 0 {
            socket::set_send_buffer(socket.as_raw_fd(), options.buffer_bytes)?;
        }
        Ok(Channel::from_end(End {
            socket: Box::new(Guarded::new(socket)),
            interruptible: options.interruptible,
        }))
    }

    /// The end that another process has given away.
    pub fn from_end(end: End) -> Channel {
        let turn = Turn::of(end.socket.number());
        Channel {
            socket: *end.socket,
            pid: fork::pid(),
            interruptible: end.interruptible,
            lent: false,
            turn,
            in_place: InPlace::default(),
        }
    }

    /// The same, of which a task has the use until it returns.
    pub(crate) fn lend(end: End) -> Channel {
        Channel { lent: true, ..Channel::from_end(end) }
    }

    /// What gives the end away; this one stays here until it is dropped. What a task has the use of is not the task's to give.
    pub fn share_end(&self) -> Result<End> {
        if self.lent {
            return Err(Error::invalid(
                "this end of the channel is the running task's until the task returns",
            ));
        }
        reserve::suffices()?;
        let socket = Guarded::new(fd::duplicate(self.descriptor()?)?);
        Ok(End { socket: Box::new(socket), interruptible: self.interruptible })
    }

    /// Whether it belongs to a task.
    pub fn is_lent(&self) -> bool {
        self.lent
    }

    /// Ends the channel, whoever else has this end.
    pub fn shut_down(&self) {
        if self.pid == fork::pid() {
            socket::shut_down(self.socket.as_raw_fd());
        }
    }

    /// A descriptor that is readable while there is something to receive or the other end is gone.
    pub fn descriptor(&self) -> Result<RawFd> {
        self.socket()?;
        self.socket.checked("the channel")
    }

    fn socket(&self) -> Result<RawFd> {
        if self.pid == fork::pid() { Ok(self.socket.number()) } else { Err(Code::FORKED.into()) }
    }

    /// Sends one message.
    pub fn send(&self, message: &[u8], timeout: Timeout) -> Result<()> {
        let length = message.len();
        if length <= SHORT_BYTES {
            match self.put(Header { kind: PacketKind::Short, length }, message, None, timeout, &mut None) {
                // The buffer was made so small, or the system's is.
                Err(error) if error.code().0 == -libc::EMSGSIZE => (),
                sent => return sent,
            }
        }
        self.socket()?;
        let mut deadline = None; // one for both waits
        if let Some(slot) = self.slot_soon(length, timeout, &mut deadline)? {
            slot.write(message)?;
            self.send_slot(&slot, length, timeout, &mut deadline)?;
            slot.sent();
            return Ok(());
        }
        let memory = long::write(message)?;
        let header = Header { kind: PacketKind::Long, length };
        self.put(header, &[], Some(memory.as_raw_fd()), timeout, &mut deadline)
    }

    /// Sends a descriptor, which stays the caller's.
    pub fn send_fd(&self, fd: RawFd, timeout: Timeout) -> Result<()> {
        let header = Header { kind: PacketKind::Descriptor, length: 0 };
        let sent = self.put(header, &[], Some(fd), timeout, &mut None);
        sent.map_err(|error| match -error.code().0 {
            libc::EBADF => Error::errno(libc::EBADF, format!("descriptor {fd} is not open")),
            _ => error,
        })
    }

    fn put(
        &self,
        header: Header,
        body: &[u8],
        fd: Option<RawFd>,
        timeout: Timeout,
        deadline: &mut Option<Deadline>,
    ) -> Result<()> {
        let socket = self.socket()?;
        let header = header.encode();
        let mut over = None;
        loop {
            match socket::send_parts(socket, [&header, body], fd.as_slice()) {
                Ok(Sent::Done) => return Ok(()),
                Ok(Sent::Gone) => return Err(gone()),
                Ok(Sent::Full) => {
                    if let Some(error) = over {
                        return Err(error);
                    }
                    match self.wait(Ready::ToWrite, timeout, deadline) {
                        // There may be room that the kernel has not told of.
                        Err(error) if error.code().0 == -libc::ETIMEDOUT => over = Some(error),
                        waited => waited?,
                    }
                }
                Err(error) if error.code().0 == -libc::ENOBUFS => {
                    return Err(Error::errno(libc::ENOMEM, error.text().into_owned()));
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Receives one message.
    pub fn receive(&self, timeout: Timeout, room: &mut [MaybeUninit<u8>]) -> Result<Received> {
        let mut deadline = None;
        loop {
            let (first, seen) = self.first(timeout, &mut deadline)?;
            let length = first.length;
            if length > room.len() && !matches!(first.content, Content::Descriptor(_)) {
                return Ok(Received::TooLong(length));
            }
            let is_received = match first.content {
                Content::Descriptor(_) => return Err(no_message()),
                Content::Short => self.take(seen, &mut room[..length])?,
                // Read before it is taken: a message that cannot be read now stays.
                Content::Long(memory) => {
                    let read = long::read(&memory, &mut room[..length]);
                    self.take_if_read(seen, read, &mut [])?.is_some()
                }
                Content::Placed(memory, place) => {
                    let view = self.in_place.view_of(&memory, place, length, Extent::WholeIfKnown);
                    let read = view.and_then(|view| {
                        view.read(&memory, place, &mut room[..length])?;
                        Ok(view)
                    });
                    let view = self.take_if_read(seen, read, &mut [MaybeUninit::uninit(); PLACE_BYTES])?;
                    view.inspect(|view| view.free(place)).is_some()
                }
            };
            if is_received {
                return Ok(Received::Message(length));
            }
        }
    }

    /// Receives a descriptor.
    pub fn receive_fd(&self, timeout: Timeout) -> Result<OwnedFd> {
        let mut deadline = None;
        loop {
            let (first, seen) = self.first(timeout, &mut deadline)?;
            let Content::Descriptor(fd) = first.content else {
                return Err(Error::errno(libc::ENOMSG, "what comes next is a message, not a descriptor"));
            };
            // Before it is taken: there may be no other number.
            let fd = fd::above_standard(fd, "the descriptor")?;
            if self.take(seen, &mut [])? {
                return Ok(fd);
            }
        }
    }

    /// Waits for a packet and looks at it; and how many had been taken when it looked.
    fn first(&self, timeout: Timeout, deadline: &mut Option<Deadline>) -> Result<(First, u64)> {
        let socket = self.socket()?;
        loop {
            let seen = self.turn.taken.load(Ordering::Acquire);
            let mut bytes = [0; LOOK_BYTES];
            // One thread alone: who looks and goes without taking would have had the wake-up of another.
            let sleeps = timeout == Timeout::Forever
                && !self.interruptible
                && !self.turn.sleeper.swap(true, Ordering::Relaxed);
            let peeked = socket::peek(socket, &mut bytes, sleeps);
            if sleeps {
                self.turn.sleeper.store(false, Ordering::Relaxed);
            }
            let (length, fds, fds_lost) = match peeked? {
                Peeked::Interrupted => continue,
                Peeked::Nothing => {
                    self.wait(Ready::ToRead, timeout, deadline)?;
                    continue;
                }
                Peeked::Message { length: 0, .. } if socket::is_hung_up(socket) => return Err(gone()),
                Peeked::Message { length, fds, fds_lost } => (length, fds, fds_lost),
            };
            match judge(&bytes, length, fds, fds_lost) {
                Ok(first) => return Ok((first, seen)),
                Err(Flaw::NoDescriptor(error)) => return Err(error),
                Err(Flaw::Broken(error)) => {
                    if self.drop_first(seen)? {
                        return Err(error);
                    }
                }
            }
        }
    }

    /// Takes the first packet, if no other thread has been faster; whether it has. It is as long as there is room.
    fn take(&self, seen: u64, room: &mut [MaybeUninit<u8>]) -> Result<bool> {
        let (mut bytes, wanted) = ([0; HEADER_BYTES], HEADER_BYTES + room.len());
        match self.take_raw(seen, &mut bytes, room)? {
            None => Ok(false),
            Some(length) if length == wanted => Ok(true),
            // Only if another process receives from this end: an end is one process's at a time.
            Some(_) => Err(not_ours()),
        }
    }

    /// Takes the first packet, what it stands for having been read; `None` where another thread has taken it. What tine has not
    /// sent is thrown away; what could not be read for another reason stays.
    fn take_if_read<T>(&self, seen: u64, read: Result<T>, rest: &mut [MaybeUninit<u8>]) -> Result<Option<T>> {
        let stays = read.as_ref().is_err_and(|error| error.code() != not_ours().code());
        if stays || self.take(seen, rest)? { read.map(Some) } else { Ok(None) }
    }

    fn drop_first(&self, seen: u64) -> Result<bool> {
        Ok(self.take_raw(seen, &mut [0; HEADER_BYTES], &mut [])?.is_some())
    }

    fn take_raw(
        &self,
        seen: u64,
        bytes: &mut [u8; HEADER_BYTES],
        room: &mut [MaybeUninit<u8>],
    ) -> Result<Option<usize>> {
        // Held for one call that does not wait, so nobody's timeout is at stake here.
        let _turn = self.turn.lock.lock().unwrap_or_else(PoisonError::into_inner);
        if self.turn.taken.load(Ordering::Relaxed) != seen {
            return Ok(None);
        }
        let taken = socket::take(self.socket.number(), bytes, room)?;
        self.turn.taken.store(seen.wrapping_add(u64::from(taken.is_some())), Ordering::Release);
        Ok(taken)
    }

    /// Waits until it is worth while to try again.
    fn wait(&self, what: Ready, timeout: Timeout, deadline: &mut Option<Deadline>) -> Result<()> {
        if timeout == Timeout::Try {
            return Err(Code::errno(libc::EAGAIN).into());
        }
        let deadline = *deadline.get_or_insert_with(|| timeout.deadline());
        // Of room in a socket the kernel tells only when three quarters of its buffer are free.
        let until = match what {
            Ready::ToRead => deadline,
            Ready::ToWrite => deadline.min(Deadline::after(LOOK_NS)),
        };
        match socket::wait(self.socket.number(), what, until) {
            Waited::TimedOut if until < deadline => Ok(()),
            Waited::TimedOut => Err(Code::errno(libc::ETIMEDOUT).into()),
            Waited::Interrupted if self.interruptible => Err(Code::errno(libc::EINTR).into()),
            Waited::Interrupted | Waited::Ready => Ok(()),
        }
    }
}

fn no_message() -> Error {
    Error::errno(libc::ENOMSG, "what comes next is a descriptor, not a message")
}

fn gone() -> Error {
    Error::errno(libc::EPIPE, "the other end of the channel is gone")
}
