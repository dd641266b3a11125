//! Segments that all workers of a pool have mapped.
//!
//! The host passes each worker a descriptor through a socket of the worker's own, and says in the worker's ring how many
//! there are. A worker that sleeps is woken for it; one that is busy looks before its next task, which says how many
//! segments it needs; a new one looks before it does anything else. Which one fails, for want of the address, ends, and
//! leaves word of it: see `Worker::take_messages`. What becomes of a segment that not every worker gets: docs/design/sharing.md.

use super::wire::{Message, MessageKind};
use crate::error::{Error, Result};
use crate::heap::segment::{HEADER_BYTES, Segment};
use crate::sys::fd::{self, Guarded};
use crate::sys::maps;
use crate::sys::memory::{Access, Mapping};
use std::os::fd::{AsRawFd, OwnedFd};

/// A pool has at most so many: as many messages as a socket is sure to take while a worker is busy.
pub(crate) const MOST: usize = 64;

/// What a worker needs to know to map one.
#[derive(Debug)]
pub(crate) struct Share {
    fd: Guarded,
    pub(crate) address: usize,
    pub(crate) length: usize,
    writable: bool,
}

impl Share {
    /// The segment at the address that it has in this process.
    pub(crate) fn new(segment: &Segment) -> Result<Share> {
        let (address, length) = segment.mapped();
        let fd = Guarded::new(segment.duplicate()?);
        Ok(Share { fd, address, length, writable: segment.is_writable_for_others() })
    }

    /// Whether all of these bytes are the segment's user's.
    pub(crate) fn contains(&self, address: usize, length: usize) -> bool {
        holds((self.address, self.length), address, length)
    }

    /// Whether it is the same memory at the same address.
    pub(crate) fn is_same(&self, other: &Share) -> bool {
        (self.address, self.length, self.writable) == (other.address, other.length, other.writable)
            && self.fd.is_same_file(&other.fd)
    }

    /// Whether the two cannot be mapped in one process.
    pub(crate) fn overlaps(&self, other: &Share) -> bool {
        self.address < other.address + other.length && other.address < self.address + self.length
    }

    pub(crate) fn message(&self) -> Result<Message> {
        let copy = self.fd.duplicate()?;
        let words = [self.address as u64, self.length as u64, u64::from(self.writable)];
        Ok(Message::new(MessageKind::Share, &words).with_fds(vec![copy]))
    }

    /// By which the worker gives it back.
    pub(crate) fn take_back(&self) -> Message {
        Message::new(MessageKind::TakeBack, &[self.address as u64])
    }
}

/// In a worker: a segment that the pool shares, or is about to.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) address: usize,
    length: usize,
    /// Which is undone with it; `None` where the process had it before.
    _mapping: Option<Mapping>,
}

impl Shared {
    /// Whether all of these bytes are the segment's user's.
    pub(crate) fn contains(&self, address: usize, length: usize) -> bool {
        holds((self.address, self.length), address, length)
    }
}

/// In a worker: maps what a message says.
pub(crate) fn map(message: Message) -> Result<Shared> {
    let [address, length, writable, ..] = message.words;
    let (address, length) = (address as usize, length as usize);
    let [fd]: [OwnedFd; 1] = message
        .fds
        .try_into()
        .map_err(|_| Error::errno(libc::EMFILE, "a worker has no descriptor free for a segment"))?;
    let access = Access { write: writable != 0, populate: false };
    let taken = |error: &Error| error.code().0 == -libc::EEXIST;
    match Mapping::shared_with(fd.as_raw_fd(), Some(address), length, access) {
        Ok(mapping) => return Ok(Shared { address, length, _mapping: Some(mapping) }),
        Err(error) if !taken(&error) => return Err(error),
        Err(_) => (),
    }
    let file = fd::identity(fd.as_raw_fd())?;
    // It may have been the last that this process can have, and the look takes one.
    drop(fd);
    // A worker that is a copy of the host has it, and so may one whose code has attached it.
    if maps::has_mapped(file, address, length)? {
        return Ok(Shared { address, length, _mapping: None });
    }
    let what = maps::whatever_is_in(address, length);
    let text =
        format!("something else is in the segment's {length} bytes at {address:#x} in a worker: {what}");
    Err(Error::errno(libc::EEXIST, text))
}

/// Whether a range lies in a segment's mapping, of which its users have all but the header.
fn holds((start, mapped): (usize, usize), address: usize, length: usize) -> bool {
    let first = start + HEADER_BYTES;
    address >= first && address.checked_add(length).is_some_and(|end| end <= start + mapped)
}
