//! Memory that a long message is written in by its sender and read in by its receiver, and that is used again.
//!
//! ```text
//!   released (8 bytes), padding up to 64 | the message
//! ```
//!
//! The sender makes it and counts its turns. `released` is the last turn whose message the receiver has released: the sender uses
//! the memory again when that is the last turn that it has sent. Only the receiver writes `released`, and only the sender the message,
//! unless one of them lies. Then the bytes are wrong; nothing else depends on them. Nobody can make the memory shorter, and all of it
//! is there before it is mapped.

use super::packet::{HEADER_BYTES, not_ours};
use crate::error::{Error, Result};
use crate::sys::clock::now_ns;
use crate::sys::fd::Guarded;
use crate::sys::memory::{self, FileId, Mapping};
use crate::sys::prim::{AtomicU64, Ordering};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::ptr::NonNull;

/// Where the message begins.
const MESSAGE_AT: usize = 64;

/// What a packet says of the memory in which its message is, behind its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ticket {
    pub(super) name: Name,
    /// 0: the memory is not used again.
    pub(super) turn: u64,
}

/// What tells memory from any other that a receiver may still have: its inode, and when it was made, because inodes come again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Name {
    inode: u64,
    made_ns: u64,
}

/// How long that is.
pub(super) const TICKET_BYTES: usize = 24;

impl Ticket {
    pub(super) fn encode(self) -> [u8; TICKET_BYTES] {
        let mut bytes = [0; TICKET_BYTES];
        for (place, number) in bytes.chunks_exact_mut(8).zip([self.name.inode, self.name.made_ns, self.turn])
        {
            place.copy_from_slice(&number.to_ne_bytes());
        }
        bytes
    }

    /// What stands behind the header of a packet, of which `bytes` are at least the beginning.
    pub(super) fn decode(bytes: &[u8]) -> Ticket {
        let number = |index: usize| {
            let at = HEADER_BYTES + 8 * index;
            bytes.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_ne_bytes)
        };
        Ticket { name: Name { inode: number(0), made_ns: number(1) }, turn: number(2) }
    }
}

/// Such memory, as its sender has it.
#[derive(Debug)]
pub(super) struct Region {
    shared: Shared,
    fd: Guarded,
    /// How often it has been sent.
    sent: u64,
}

impl Region {
    /// New memory for a message of so many bytes, or of a few more, so that similar messages can use it.
    pub(super) fn new(length: usize) -> Result<Region> {
        let step = (length.checked_next_power_of_two().unwrap_or(length) / 8).max(memory::page_size());
        let bytes = (length + MESSAGE_AT).next_multiple_of(step);
        super::long::ask_for(bytes as u64)?;
        let fd = memory::sealed_memfd(c"tine-message", bytes)?;
        let name = Name { inode: FileId::of(fd.as_raw_fd())?.inode(), made_ns: now_ns() };
        let shared = Shared { mapping: Mapping::shared(fd.as_raw_fd(), bytes)?, name };
        Ok(Region { shared, fd: Guarded::new(fd), sent: 0 })
    }

    /// Whether the receiver has released what was sent last.
    pub(super) fn is_free(&self) -> bool {
        // Acquire, with the receiver's Release: it has read before the sender writes again.
        self.shared.released().load(Ordering::Acquire) == self.sent
    }

    /// The longest message.
    pub(super) fn room(&self) -> usize {
        self.shared.room()
    }

    pub(super) fn message(&self) -> NonNull<u8> {
        self.shared.message()
    }

    /// What a packet says of it, if it is used again and if not, and its descriptor.
    pub(super) fn ticket(&self, again: bool) -> Result<(Ticket, RawFd)> {
        let turn = if again { self.sent + 1 } else { 0 };
        Ok((Ticket { name: self.shared.name, turn }, self.fd.checked("a message's memory")?))
    }

    /// Counts a turn, which the receiver has to release.
    pub(super) fn count_turn(&mut self) {
        self.sent += 1;
    }
}

/// Such memory, as both sides see it.
#[derive(Debug)]
pub(super) struct Shared {
    mapping: Mapping,
    pub(super) name: Name,
}

impl Shared {
    /// What has come with a ticket. An error other than [`not_ours`] may be gone at the next try.
    pub(super) fn receive(fd: &OwnedFd, name: Name, length: usize) -> Result<Shared> {
        let fd = fd.as_raw_fd();
        // Without holes, or mapping it would take as much memory as the sender likes.
        let bytes = memory::length_of(fd)?;
        let is_whole = memory::cannot_shrink(fd) && memory::reserved_bytes(fd) >= bytes as u64;
        if !is_whole || length > bytes.saturating_sub(MESSAGE_AT) {
            return Err(not_ours());
        }
        match Mapping::shared(fd, bytes) {
            Ok(mapping) => Ok(Shared { mapping, name }),
            Err(error) if error.code().0 == -libc::ENOMEM => Err(error),
            // It may be read only, or sealed.
            Err(_) => Err(not_ours()),
        }
    }

    pub(super) fn room(&self) -> usize {
        self.mapping.length() - MESSAGE_AT
    }

    pub(super) fn message(&self) -> NonNull<u8> {
        // SAFETY: the mapping is longer than that, and begins at no null address.
        unsafe { NonNull::new_unchecked(self.mapping.pointer().add(MESSAGE_AT)) }
    }

    /// Says that the message of this turn is not read any more.
    pub(super) fn release(&self, turn: u64) {
        // Release, for the sender's Acquire.
        self.released().store(turn, Ordering::Release);
    }

    fn released(&self) -> &AtomicU64 {
        // SAFETY: the mapping begins at a page, has more than 8 bytes, and lives as long as `self`. Both sides use the word as an
        // atomic alone.
        unsafe { AtomicU64::from_ptr(self.mapping.pointer().cast()) }
    }
}

/// A block of this process's own for a message that travels in its packet, at a multiple of 16; zero at first.
pub(super) fn block(length: usize) -> Result<Vec<u128>> {
    let mut block = Vec::new();
    let count = length.div_ceil(size_of::<u128>());
    let none = |_| Error::errno(libc::ENOMEM, format!("no memory for a message of {length} bytes"));
    block.try_reserve_exact(count).map_err(none)?;
    block.resize(count, 0);
    Ok(block)
}
