//! What a channel's packets are: 16 bytes that say what follows, then a message, or a descriptor beside it.

use crate::error::{Code, Error, Result};
use crate::sys::socket;
use std::os::fd::OwnedFd;

/// "tine", in memory.
const MAGIC: [u8; 4] = *b"tine";

/// Changes with every change of a packet.
const VERSION: u16 = 2;

/// How long the first part is.
pub(super) const HEADER_BYTES: usize = 16;

/// How long the second part is where it says where a message lies.
pub(super) const PLACE_BYTES: usize = 16;

/// What is looked at of a packet.
pub(super) const LOOK_BYTES: usize = HEADER_BYTES + PLACE_BYTES;

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
    /// A message, in the sender's pages, whose descriptor is beside the packet.
    Placed = 4,
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
        let kinds = [PacketKind::Short, PacketKind::Long, PacketKind::Descriptor, PacketKind::Placed];
        let kind = kinds.into_iter().find(|kind| *kind as u16 == number(6)).ok_or_else(not_ours)?;
        let length = bytes[8..HEADER_BYTES].try_into().map_or(u64::MAX, u64::from_ne_bytes);
        let length = usize::try_from(length).ok().filter(|length| *length <= isize::MAX as usize);
        Ok(Header { kind, length: length.ok_or_else(not_ours)? })
    }
}

/// Where in its sender's pages a message lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) offset: usize,
    pub(super) slot: usize,
    /// The pages are for more than this message.
    pub(super) kept: bool,
}

impl Place {
    pub(super) fn encode(self) -> [u8; PLACE_BYTES] {
        let mut bytes = [0; PLACE_BYTES];
        bytes[..8].copy_from_slice(&(self.offset as u64).to_ne_bytes());
        bytes[8..12].copy_from_slice(&(self.slot as u32).to_ne_bytes());
        bytes[12..].copy_from_slice(&u32::from(self.kept).to_ne_bytes());
        bytes
    }

    /// What does not fit into the type lies in no memory: [`super::pages::View::has`] refuses it.
    fn decode(bytes: &[u8]) -> Place {
        let offset = bytes[..8].try_into().map_or(u64::MAX, u64::from_ne_bytes);
        let number = |at: usize| bytes[at..at + 4].try_into().map_or(u32::MAX, u32::from_ne_bytes);
        Place {
            offset: usize::try_from(offset).unwrap_or(usize::MAX),
            slot: number(8) as usize,
            kept: number(12) != 0,
        }
    }
}

pub(super) fn not_ours() -> Error {
    Error::errno(libc::EBADMSG, "what came through the channel was not sent by tine")
}

/// The first packet of a socket, which is still there.
#[derive(Debug)]
pub(super) struct First {
    pub(super) length: usize,
    pub(super) content: Content,
}

/// What is in it. The other process can have sent any descriptor, and any place.
#[derive(Debug)]
pub(super) enum Content {
    Short,
    Long(OwnedFd),
    Descriptor(OwnedFd),
    Placed(OwnedFd, Place),
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
    bytes: &[u8; LOOK_BYTES],
    length: usize,
    fds: Vec<OwnedFd>,
    fds_lost: bool,
) -> std::result::Result<First, Flaw> {
    let header = Header::decode(&bytes[..length.min(HEADER_BYTES)]).map_err(Flaw::Broken)?;
    let wanted_length = match header.kind {
        PacketKind::Short => header.length.saturating_add(HEADER_BYTES),
        PacketKind::Placed => LOOK_BYTES,
        PacketKind::Long | PacketKind::Descriptor => HEADER_BYTES,
    };
    let wanted_fds = usize::from(header.kind != PacketKind::Short);
    if fds.len() < wanted_fds && fds_lost {
        let text = "no descriptor is free for the one that comes through the channel";
        return Err(Flaw::NoDescriptor(Error::errno(libc::EMFILE, text)));
    }
    let sound = length == wanted_length && fds.len() == wanted_fds && !fds_lost;
    let content = match (header.kind, fds.into_iter().next()) {
        (PacketKind::Short, None) => Content::Short,
        (PacketKind::Long, Some(fd)) => Content::Long(fd),
        (PacketKind::Descriptor, Some(fd)) if header.length == 0 => Content::Descriptor(fd),
        (PacketKind::Placed, Some(fd)) => Content::Placed(fd, Place::decode(&bytes[HEADER_BYTES..])),
        _ => return Err(Flaw::Broken(not_ours())),
    };
    if sound { Ok(First { length: header.length, content }) } else { Err(Flaw::Broken(not_ours())) }
}

/// Whether the first packet of a socket, if there is one, is one of a channel's.
pub(super) fn check_first(socket: std::os::fd::RawFd) -> Result<()> {
    let mut bytes = [0; HEADER_BYTES];
    match socket::peek(socket, &mut bytes, false)? {
        socket::Peeked::Message { length: 1.., .. } => Header::decode(&bytes).map(drop),
        _ => Ok(()),
    }
}
