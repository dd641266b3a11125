//! Unix sockets that keep message boundaries and carry descriptors.

use crate::error::{Error, Result};
use crate::sys::clock::Deadline;
use crate::sys::thread::Uncancelled;
use std::mem::MaybeUninit;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// No message of tine carries more descriptors than this.
pub const MAX_FDS: usize = 6;

/// A connected pair of SEQPACKET sockets, both non-blocking and close-on-exec.
pub fn pair() -> Result<(OwnedFd, OwnedFd)> {
    connected(libc::SOCK_NONBLOCK)
}

/// The same, where calls wait that do not say otherwise.
pub(crate) fn waiting_pair() -> Result<(OwnedFd, OwnedFd)> {
    connected(0)
}

fn connected(flags: libc::c_int) -> Result<(OwnedFd, OwnedFd)> {
    let mut fds = [-1; 2];
    let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC | flags;
    // SAFETY: room for two descriptors.
    if unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, fds.as_mut_ptr()) } != 0 {
        return Err(Error::last_os("socketpair"));
    }
    let first = super::fd::owned(libc::c_long::from(fds[0]), "socketpair");
    let second = super::fd::owned(libc::c_long::from(fds[1]), "socketpair");
    Ok((first?, second?))
}

/// How a send ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// The message is on its way, whole.
    Done,
    /// The socket is full; nothing was sent.
    Full,
    /// Nobody is there to read it any more.
    Gone,
}

/// Room for the descriptors' control message, aligned as the kernel wants it. The user may have asked for more on a socket that is
/// shared with tine: 56 bytes of SO_PASSCRED and SO_PASSPIDFD, and what a security module calls the sender (SO_PASSSEC).
#[repr(C, align(8))]
struct Control([u8; 256]);

impl Control {
    const EMPTY: Control = Control([0; 256]);
}

/// The sender's pidfd, where SO_PASSPIDFD has asked for it.
const SCM_PIDFD: libc::c_int = 4;

/// Sends one message with descriptors, without blocking and without SIGPIPE.
pub fn send(socket: RawFd, bytes: &[u8], fds: &[RawFd]) -> Result<Sent> {
    match send_parts(socket, [bytes, &[]], fds) {
        Err(error) if error.code().0 == -libc::ENOBUFS => Ok(Sent::Full),
        sent => sent,
    }
}

/// The same for a message in two parts. `EMSGSIZE`: no message can be that long; `ENOBUFS`: the kernel has no memory.
pub(crate) fn send_parts(socket: RawFd, parts: [&[u8]; 2], fds: &[RawFd]) -> Result<Sent> {
    assert!(fds.len() <= MAX_FDS);
    let mut iov =
        parts.map(|part| libc::iovec { iov_base: part.as_ptr().cast_mut().cast(), iov_len: part.len() });
    let mut control = Control::EMPTY;
    let mut message = message_header(&mut iov, Some(&mut control));
    if fds.is_empty() {
        message.msg_control = std::ptr::null_mut();
        message.msg_controllen = 0;
    } else {
        // SAFETY: the control buffer has room for MAX_FDS descriptors, and CMSG_FIRSTHDR points into it.
        unsafe {
            let payload = size_of_val(fds) as u32;
            message.msg_controllen = libc::CMSG_SPACE(payload) as _;
            let header = libc::CMSG_FIRSTHDR(&message);
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(payload) as _;
            std::ptr::copy_nonoverlapping(fds.as_ptr(), libc::CMSG_DATA(header).cast(), fds.len());
        }
    }
    let _uncancelled = Uncancelled::new();
    loop {
        // SAFETY: the header and everything that it points to live until the call returns.
        if unsafe { libc::sendmsg(socket, &message, libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT) } >= 0 {
            return Ok(Sent::Done);
        }
        match super::errno() {
            libc::EINTR => continue,
            libc::EAGAIN => return Ok(Sent::Full),
            // The user's descriptors on their way, in whatever sockets, are more than this process may have open.
            libc::ETOOMANYREFS => {
                return Err(Error::errno(
                    libc::EMFILE,
                    "too many descriptors are on their way through sockets",
                ));
            }
            // A socket of datagrams says of a peer that is gone that it refuses.
            libc::EPIPE | libc::ECONNRESET | libc::ENOTCONN | libc::ECONNREFUSED => return Ok(Sent::Gone),
            _ => return Err(Error::last_os("sendmsg")),
        }
    }
}

/// Ends a connection for everybody who has a copy of this socket; what has been sent still arrives.
pub fn shut_down(socket: RawFd) {
    // SAFETY: no pointers. One whose peer is gone needs no end.
    unsafe { libc::shutdown(socket, libc::SHUT_RDWR) };
}

/// How a receive ended.
#[derive(Debug)]
pub enum Received {
    /// A message of so many bytes, with these descriptors.
    Message(usize, Vec<OwnedFd>),
    /// A message of so many bytes, whose descriptors found no room in this process.
    Stripped(usize),
    /// Nothing is there yet.
    Nothing,
    /// The other side is gone, and all that it sent has been read.
    Gone,
}

/// Receives one message without blocking.
pub fn receive(socket: RawFd, buffer: &mut [u8]) -> Result<Received> {
    let mut iov = [libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() }];
    let mut control = Control::EMPTY;
    let mut message = message_header(&mut iov, Some(&mut control));
    let length = match receive_raw(socket, &mut message, 0)? {
        Raw::Nothing | Raw::Interrupted => return Ok(Received::Nothing),
        Raw::Gone => return Ok(Received::Gone),
        Raw::Message(length) => length,
    };
    let fds = descriptors(&message);
    if length == 0 && fds.is_empty() {
        return Ok(Received::Gone); // tine sends no empty messages.
    }
    if message.msg_flags & libc::MSG_TRUNC != 0 {
        return Err(Error::errno(libc::EMSGSIZE, "a message on the control socket was cut off"));
    }
    // The kernel gives them the lowest numbers that are free.
    let fds = fds.into_iter().map(|fd| super::fd::above_standard(fd, "recvmsg")).collect::<Result<Vec<_>>>();
    match fds {
        Ok(fds) if message.msg_flags & libc::MSG_CTRUNC == 0 => Ok(Received::Message(length, fds)),
        _ => Ok(Received::Stripped(length)),
    }
}

/// The first message of a socket, which stays there.
#[derive(Debug)]
pub(crate) enum Peeked {
    /// How long it is, how much of it is in the buffer, its descriptors, and whether there are more of those than this
    /// process can have. No bytes and no descriptors: an empty message, or the other side is gone.
    Message { length: usize, fds: Vec<OwnedFd>, fds_lost: bool },
    /// Nothing is there yet.
    Nothing,
    /// A signal handler ran while it waited.
    Interrupted,
}

/// Looks at the beginning of the first message; its descriptors are the caller's, as copies. With `wait`, waits for one,
/// unless the socket is one that never waits.
pub(crate) fn peek(socket: RawFd, beginning: &mut [u8], wait: bool) -> Result<Peeked> {
    let mut iov = [libc::iovec { iov_base: beginning.as_mut_ptr().cast(), iov_len: beginning.len() }];
    let mut control = Control::EMPTY;
    let mut message = message_header(&mut iov, Some(&mut control));
    let dont_wait = if wait { 0 } else { libc::MSG_DONTWAIT };
    match receive_raw(socket, &mut message, libc::MSG_PEEK | libc::MSG_TRUNC | dont_wait)? {
        Raw::Nothing => Ok(Peeked::Nothing),
        Raw::Interrupted => Ok(Peeked::Interrupted),
        Raw::Gone => Ok(Peeked::Message { length: 0, fds: Vec::new(), fds_lost: false }),
        Raw::Message(length) => {
            let fds_lost = message.msg_flags & libc::MSG_CTRUNC != 0;
            Ok(Peeked::Message { length, fds: descriptors(&message), fds_lost })
        }
    }
}

/// Whether there is a message, or the end. Takes no copy of its descriptors, for which there may be no number.
pub(crate) fn has_message(socket: RawFd) -> Result<bool> {
    let mut byte = 0u8;
    let mut iov = [libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 }];
    let mut message = message_header(&mut iov, None);
    let seen = receive_raw(socket, &mut message, libc::MSG_PEEK | libc::MSG_DONTWAIT)?;
    Ok(!matches!(seen, Raw::Nothing))
}

/// Takes the first message out of the socket, without its descriptors; how long it is, or `None` where there is none.
/// What does not fit in the two places is lost.
pub(crate) fn take(
    socket: RawFd,
    beginning: &mut [u8],
    rest: &mut [MaybeUninit<u8>],
) -> Result<Option<usize>> {
    let mut iov = [
        libc::iovec { iov_base: beginning.as_mut_ptr().cast(), iov_len: beginning.len() },
        libc::iovec { iov_base: rest.as_mut_ptr().cast(), iov_len: rest.len() },
    ];
    let mut message = message_header(&mut iov, None);
    match receive_raw(socket, &mut message, libc::MSG_TRUNC | libc::MSG_DONTWAIT)? {
        Raw::Nothing | Raw::Interrupted => Ok(None),
        Raw::Gone => Ok(Some(0)),
        Raw::Message(length) => Ok(Some(length)),
    }
}

enum Raw {
    Message(usize),
    Nothing,
    Interrupted,
    Gone,
}

fn receive_raw(socket: RawFd, message: &mut libc::msghdr, flags: libc::c_int) -> Result<Raw> {
    let mut was_reset = false;
    loop {
        // SAFETY: every header here is one of `message_header`'s, made in the frame that calls this. What it points
        // to is borrowed there, and lives until the call returns.
        let rc = unsafe { libc::recvmsg(socket, message, flags | libc::MSG_CMSG_CLOEXEC) };
        if rc >= 0 {
            return Ok(Raw::Message(rc as usize));
        }
        match super::errno() {
            // It waits for nothing, so a signal has nothing to end.
            libc::EINTR if flags & libc::MSG_DONTWAIT != 0 => (),
            libc::EINTR => return Ok(Raw::Interrupted),
            libc::EAGAIN => return Ok(Raw::Nothing),
            // The other side has ended without reading everything. That is said once, and ahead of the messages that
            // it had sent before, its reason among them.
            libc::ECONNRESET if !was_reset => was_reset = true,
            libc::ECONNRESET => return Ok(Raw::Gone),
            _ => return Err(Error::last_os("recvmsg")),
        }
    }
}

/// The descriptors that came with a message. A sender's pidfd, which only the user can have asked for, is closed.
fn descriptors(message: &libc::msghdr) -> Vec<OwnedFd> {
    let mut fds = Vec::new();
    // SAFETY: the kernel has filled the control buffer, and the descriptors in it are new and ours.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(message);
        while !header.is_null() {
            let kind = (*header).cmsg_type;
            if (*header).cmsg_level == libc::SOL_SOCKET && matches!(kind, libc::SCM_RIGHTS | SCM_PIDFD) {
                let payload = (*header).cmsg_len as usize - libc::CMSG_LEN(0) as usize;
                let data = libc::CMSG_DATA(header).cast::<RawFd>();
                for index in 0..payload / size_of::<RawFd>() {
                    // A pidfd that the kernel could not make is an error's number.
                    let number = data.add(index).read_unaligned();
                    let fd = (number >= 0).then(|| OwnedFd::from_raw_fd(number));
                    fds.extend(fd.filter(|_| kind == libc::SCM_RIGHTS));
                }
            }
            header = libc::CMSG_NXTHDR(message, header);
        }
    }
    fds
}

fn message_header(iov: &mut [libc::iovec], control: Option<&mut Control>) -> libc::msghdr {
    // SAFETY: all zero is a valid msghdr.
    let mut message: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    message.msg_iov = iov.as_mut_ptr();
    message.msg_iovlen = iov.len() as _;
    if let Some(control) = control {
        message.msg_control = control.0.as_mut_ptr().cast();
        message.msg_controllen = size_of::<Control>() as _;
    }
    message
}

/// Until when a receive on a socket of the user's waits: as long as SO_RCVTIMEO says, not at all (`None`) with O_NONBLOCK.
pub(crate) fn receive_deadline(socket: RawFd) -> Option<Deadline> {
    // SAFETY: no pointers.
    let flags = unsafe { libc::fcntl(socket, libc::F_GETFL) };
    if flags >= 0 && flags & libc::O_NONBLOCK != 0 {
        return None;
    }
    let mut limit = libc::timeval { tv_sec: 0, tv_usec: 0 };
    let mut length = size_of::<libc::timeval>() as libc::socklen_t;
    // SAFETY: valid places for the answer and its length.
    unsafe {
        libc::getsockopt(socket, libc::SOL_SOCKET, libc::SO_RCVTIMEO, (&raw mut limit).cast(), &mut length);
    }
    let limit_ns =
        (limit.tv_sec as u64).saturating_mul(1_000_000_000).saturating_add(limit.tv_usec as u64 * 1000);
    Some(if limit_ns == 0 { Deadline::NEVER } else { Deadline::after(limit_ns) })
}

/// What a socket is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ready {
    /// That there is something to read, or the other side is gone.
    ToRead,
    /// That there is room to write, or nobody to read it any more.
    ToWrite,
}

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waited {
    Ready,
    TimedOut,
    Interrupted,
}

/// Waits for a socket.
pub(crate) fn wait(socket: RawFd, what: Ready, deadline: Deadline) -> Waited {
    let events = if what == Ready::ToRead { libc::POLLIN } else { libc::POLLOUT };
    let mut poll = libc::pollfd { fd: socket, events, revents: 0 };
    let left = deadline.remaining();
    let left = left.as_ref().map_or(std::ptr::null(), |left| left as *const libc::timespec);
    // SAFETY: one pollfd, a valid or null time, no mask.
    match unsafe { libc::ppoll(&mut poll, 1, left, std::ptr::null()) } {
        0 => Waited::TimedOut,
        rc if rc > 0 => Waited::Ready,
        _ if super::errno() == libc::EINTR => Waited::Interrupted,
        // Refused: where RLIMIT_NOFILE is 0, or for want of memory. The wait looks round.
        _ => nap(deadline),
    }
}

/// What whoever may not wait for a socket does between two tries.
pub(super) fn nap(deadline: Deadline) -> Waited {
    const NAP: libc::timespec = libc::timespec { tv_sec: 0, tv_nsec: 1_000_000 };
    let nap = match deadline.remaining() {
        Some(left) if left.tv_sec == 0 && left.tv_nsec == 0 => return Waited::TimedOut,
        Some(left) if left.tv_sec == 0 && left.tv_nsec < NAP.tv_nsec => left,
        _ => NAP,
    };
    // SAFETY: a valid time; nobody asks for what is left of it.
    match unsafe { libc::nanosleep(&nap, std::ptr::null_mut()) } {
        0 => Waited::Ready,
        _ => Waited::Interrupted,
    }
}

/// Whether the other side is gone or sends nothing more, though what it has sent may still be there. For who has looked, and
/// found no bytes: where poll is refused, that is taken for the end, because tine sends no empty message.
pub(crate) fn is_hung_up(socket: RawFd) -> bool {
    hang_up(socket).unwrap_or(true)
}

/// Whether the other side is gone; `None` where poll is refused.
pub(crate) fn hang_up(socket: RawFd) -> Option<bool> {
    let mut poll = libc::pollfd { fd: socket, events: libc::POLLRDHUP, revents: 0 };
    // SAFETY: one pollfd.
    let refused = unsafe { libc::poll(&mut poll, 1, 0) } < 0;
    (!refused).then_some(poll.revents & (libc::POLLHUP | libc::POLLRDHUP) != 0)
}

/// Whether everything that was sent has been received; `None` where the kernel does not say.
pub(crate) fn all_received(socket: RawFd) -> Option<bool> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: a place for a number.
    let rc = unsafe { libc::ioctl(socket, libc::TIOCOUTQ, &raw mut bytes) };
    (rc == 0).then_some(bytes == 0)
}

/// How many bytes may be on their way in one direction, as far as the system allows.
pub(crate) fn set_send_buffer(socket: RawFd, bytes: usize) -> Result<()> {
    let bytes = bytes.min(libc::c_int::MAX as usize / 2) as libc::c_int;
    let length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: an int and its length.
    let rc = unsafe {
        libc::setsockopt(socket, libc::SOL_SOCKET, libc::SO_SNDBUF, (&raw const bytes).cast(), length)
    };
    if rc == 0 { Ok(()) } else { Err(Error::last_os("SO_SNDBUF")) }
}

/// Whether a descriptor is a unix socket that keeps message boundaries and is connected. `EBADF` where there is none.
pub(crate) fn is_connected_unix(socket: RawFd) -> Result<bool> {
    let option = |name: libc::c_int| {
        let mut value: libc::c_int = 0;
        let mut length = size_of::<libc::c_int>() as libc::socklen_t;
        // SAFETY: valid places for the answer and its length.
        let rc =
            unsafe { libc::getsockopt(socket, libc::SOL_SOCKET, name, (&raw mut value).cast(), &mut length) };
        (rc == 0).then_some(value)
    };
    let Some(family) = option(libc::SO_DOMAIN) else {
        let errno = super::errno();
        if errno == libc::EBADF {
            return Err(Error::errno(errno, format!("descriptor {socket} is not open")));
        }
        return Ok(false);
    };
    // SAFETY: all zero is a valid address.
    let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    let mut length = size_of::<libc::sockaddr_un>() as libc::socklen_t;
    // SAFETY: valid places for the address and its length.
    let connected = unsafe { libc::getpeername(socket, (&raw mut address).cast(), &mut length) } == 0;
    Ok(family == libc::AF_UNIX && option(libc::SO_TYPE) == Some(libc::SOCK_SEQPACKET) && connected)
}

/// Takes over a socket that was inherited under a fixed number.
pub(crate) fn take_inherited(number: RawFd) -> Result<OwnedFd> {
    let mut kind: libc::c_int = 0;
    let mut length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: valid places for the answer and its length.
    let rc = unsafe {
        libc::getsockopt(number, libc::SOL_SOCKET, libc::SO_TYPE, (&raw mut kind).cast(), &mut length)
    };
    if rc != 0 || kind != libc::SOCK_SEQPACKET {
        return Err(Error::errno(libc::EBADF, format!("descriptor {number} is not a pool's socket")));
    }
    // SAFETY: it is open, and was passed to this process for nobody else.
    unsafe {
        libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC);
        Ok(OwnedFd::from_raw_fd(number))
    }
}
