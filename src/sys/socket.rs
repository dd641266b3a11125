//! Unix sockets that keep message boundaries and carry descriptors.

use crate::error::{Error, Result};
use std::mem::MaybeUninit;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// No message of tine carries more descriptors than this.
pub const MAX_FDS: usize = 6;

/// A connected pair of SEQPACKET sockets, both non-blocking and close-on-exec.
pub fn pair() -> Result<(OwnedFd, OwnedFd)> {
    let mut fds = [-1; 2];
    let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
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

/// Room for the descriptors' control message, aligned as the kernel wants it.
#[repr(C, align(8))]
struct Control([u8; 64]);

/// Sends one message with descriptors, without blocking and without SIGPIPE.
pub fn send(socket: RawFd, bytes: &[u8], fds: &[RawFd]) -> Result<Sent> {
    assert!(fds.len() <= MAX_FDS);
    let mut iov = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let mut control = Control([0; 64]);
    let mut message = message_header(&mut iov, &mut control);
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
    loop {
        // SAFETY: the header and everything that it points to live until the call returns.
        if unsafe { libc::sendmsg(socket, &message, libc::MSG_NOSIGNAL) } >= 0 {
            return Ok(Sent::Done);
        }
        match super::errno() {
            libc::EINTR => continue,
            libc::EAGAIN | libc::ENOBUFS => return Ok(Sent::Full),
            // The user's descriptors on their way, in whatever sockets, are more than this process may have open.
            libc::ETOOMANYREFS => {
                return Err(Error::errno(
                    libc::EMFILE,
                    "too many descriptors are on their way through sockets",
                ));
            }
            libc::EPIPE | libc::ECONNRESET | libc::ENOTCONN => return Ok(Sent::Gone),
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
    /// Nothing is there yet.
    Nothing,
    /// The other side is gone, and all that it sent has been read.
    Gone,
}

/// Receives one message without blocking.
pub fn receive(socket: RawFd, buffer: &mut [u8]) -> Result<Received> {
    let mut iov = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let mut control = Control([0; 64]);
    let mut message = message_header(&mut iov, &mut control);
    let mut was_reset = false;
    let length = loop {
        // SAFETY: the header and everything that it points to live until the call returns.
        let rc = unsafe { libc::recvmsg(socket, &mut message, libc::MSG_CMSG_CLOEXEC) };
        if rc >= 0 {
            break rc as usize;
        }
        match super::errno() {
            libc::EINTR => continue,
            libc::EAGAIN => return Ok(Received::Nothing),
            // The other side has ended without reading everything. That is said once, and ahead of the messages that
            // it had sent before, its reason among them.
            libc::ECONNRESET if !was_reset => was_reset = true,
            libc::ECONNRESET => return Ok(Received::Gone),
            _ => return Err(Error::last_os("recvmsg")),
        }
    };
    let mut fds = Vec::new();
    // SAFETY: the kernel has filled the control buffer, and the descriptors in it are new and ours.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(&message);
        while !header.is_null() {
            if (*header).cmsg_level == libc::SOL_SOCKET && (*header).cmsg_type == libc::SCM_RIGHTS {
                let payload = (*header).cmsg_len as usize - libc::CMSG_LEN(0) as usize;
                let data = libc::CMSG_DATA(header).cast::<RawFd>();
                for index in 0..payload / size_of::<RawFd>() {
                    fds.push(OwnedFd::from_raw_fd(data.add(index).read_unaligned()));
                }
            }
            header = libc::CMSG_NXTHDR(&message, header);
        }
    }
    if length == 0 && fds.is_empty() {
        return Ok(Received::Gone); // tine sends no empty messages.
    }
    if message.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0 {
        return Err(Error::errno(libc::EMSGSIZE, "a message on the control socket was cut off"));
    }
    // The kernel gives them the lowest numbers that are free.
    let fds =
        fds.into_iter().map(|fd| super::fd::above_standard(fd, "recvmsg")).collect::<Result<Vec<_>>>()?;
    Ok(Received::Message(length, fds))
}

fn message_header(iov: &mut libc::iovec, control: &mut Control) -> libc::msghdr {
    // SAFETY: all zero is a valid msghdr.
    let mut message: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    message.msg_iov = iov;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = size_of::<Control>() as _;
    message
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
