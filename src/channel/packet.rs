//! What a channel's packets are: 16 bytes that say what follows, then a message, or a descriptor beside it.

use crate::error::{Code, Error, Result};
use crate::sys::socket;
use std::os::fd::OwnedFd;

/// "tine", in memory.
const MAGIC: [u8; 4] = *b"tine";

/// Changes with every change of a packet.
const VERSION: u16 = 1;

/// How long the first part is.
pub(super) const HEADER_BYTES: usize = 16;

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub(super) enum PacketKind {
    /// A message, in the packet.
    Short = 1,
    /// A message, in memory whose descriptor is beside the packet.
    Long = 2,
    /// A descriptor.
    Descriptor = 3,
}

/// What a packet says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: PacketKind,
    /// Of the message, in bytes; 0 for a descriptor.
    pub(super) length: usize,
}

impl Header {
    pub(super) fn encode(self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4..6].copy_from_slice(&VERSION.to_ne_bytes());
        bytes[6..8].copy_from_slice(&(self.kind as u16).to_ne_bytes());
        bytes[8..].copy_from_slice(&(self.length as u64).to_ne_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Result<Header> {
        let number = |at: usize| u16::from_ne_bytes([bytes[at], bytes[at + 1]]);
        if bytes.len() < HEADER_BYTES || bytes[..4] != MAGIC {
            return Err(not_ours());
        }
        if number(4) != VERSION {
            let text = format!(
                "the other end of the channel has version {} of its messages; this one has {VERSION}",
                number(4)
            );
            return Err(Error::new(Code::VERSION, text));
        }
        let kinds = [PacketKind::Short, PacketKind::Long, PacketKind::Descriptor];
        let kind = kinds.into_iter().find(|kind| *kind as u16 == number(6)).ok_or_else(not_ours)?;
        let length = bytes[8..HEADER_BYTES].try_into().map_or(u64::MAX, u64::from_ne_bytes);
        let length = usize::try_from(length).ok().filter(|length| *length <= isize::MAX as usize);
        Ok(Header { kind, length: length.ok_or_else(not_ours)? })
    }
}

pub(super) fn not_ours() -> Error {
    Error::errno(libc::EBADMSG, "what came through the channel was not sent by tine")
}

/// The first packet of a socket, which is still there.
#[derive(Debug)]
pub(super) struct First {
    pub(super) header: Header,
    pub(super) fd: Option<OwnedFd>,
}

/// Why a packet cannot be had.
#[derive(Debug)]
pub(super) enum Flaw {
    /// It is none of tine's: to be thrown away.
    Broken(Error),
    /// It stays: this process has no descriptor free for what comes with it.
    NoDescriptor(Error),
}

/// What was seen of a packet, of which `bytes` are the beginning and `length` is all. The other process can have sent
/// anything.
pub(super) fn judge(
    bytes: &[u8],
    length: usize,
    fds: Vec<OwnedFd>,
    fds_lost: bool,
) -> std::result::Result<First, Flaw> {
    let header = Header::decode(&bytes[..length.min(bytes.len())]).map_err(Flaw::Broken)?;
    let (wanted_length, wanted_fds) = match header.kind {
        PacketKind::Short => (header.length.saturating_add(HEADER_BYTES), 0),
        PacketKind::Long => (HEADER_BYTES, 1),
        PacketKind::Descriptor => (HEADER_BYTES, 1),
    };
    if fds.len() < wanted_fds && fds_lost {
        let text = "no descriptor is free for the one that comes through the channel";
        return Err(Flaw::NoDescriptor(Error::errno(libc::EMFILE, text)));
    }
    let sound = length == wanted_length && fds.len() == wanted_fds && !fds_lost;
    if !sound || (header.kind == PacketKind::Descriptor && header.length != 0) {
        return Err(Flaw::Broken(not_ours()));
    }
    Ok(First { header, fd: fds.into_iter().next() })
}

/// Whether the first packet of a socket, if there is one, is one of a channel's.
pub(super) fn check_first(socket: std::os::fd::RawFd) -> Result<()> {
    let mut bytes = [0; HEADER_BYTES];
    match socket::peek(socket, &mut bytes, false)? {
        socket::Peeked::Message { length: 1.., .. } => Header::decode(&bytes).map(drop),
        _ => Ok(()),
    }
}
