//! One other rank: what is on its way there, and what has come from there and is not whole yet.
//!
//! A frame is its length in eight bytes and then as many bytes. It travels as one message, or in pieces where it is long; a message never has
//! parts of two frames in it, and messages between two ranks stay in order. A block is announced by a frame, and its bytes follow as they are, in
//! pieces of the same length, without a copy on either side. Announced blocks are counted. A frame that names blocks has the number of the last one
//! in its head: it is sent when that block has been sent, and handed out when that block has come. The next block does not wait for that
//! frame, so there are two blocks on their way, and the link has something to move while the ranks speak about the first.
//!
//! ```text
//!   A 1, bytes of 1, A 2, bytes of 2, frame that names 1, A 3, bytes of 3, frame that names 2, ...        A: announcement
//! ```

mod incoming;
mod outgoing;
#[cfg(test)]
mod tests;

pub(crate) use incoming::Incoming;
pub(crate) use outgoing::Outgoing;

use super::block::{APART, Block};
use super::transport::{Moving, Transport};
use super::{FrameKind, Rank};
use crate::error::Result;
use crate::task::wire::Writer;
use std::alloc::{Layout, handle_alloc_error};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// The longest message. Both MPI libraries count in an `int`.
pub(crate) const PIECE: usize = 64 << 20;

/// How often in a row a long message is looked at.
const LOOKS: usize = 16;

const LENGTH: usize = 8;

/// The first word of a frame's body: its kind, and from this bit on the number of the last block that it names.
const BEHIND: u32 = 8;

/// A frame that is being written.
pub(crate) struct Frame(Writer);

impl Frame {
    pub(crate) fn new(kind: FrameKind, number: u64) -> Frame {
        let mut writer = Writer::default();
        writer.number(0);
        writer.number(kind as u64);
        writer.number(number);
        Frame(writer)
    }

    /// What follows its kind and the number of what it is about.
    pub(crate) fn body(&mut self) -> &mut Writer {
        &mut self.0
    }

    /// With its length in front.
    pub(crate) fn finish(self) -> Vec<u8> {
        // A node without memory for its frames ends, and the job with it.
        let mut bytes =
            self.0.finish().unwrap_or_else(|_| handle_alloc_error(Layout::new::<[u8; 1 << 14]>()));
        let length = (bytes.len() - LENGTH) as u64;
        bytes[..LENGTH].copy_from_slice(&length.to_ne_bytes());
        bytes
    }
}

/// What [`Came::Frame`] gave, to be read: without its length.
pub(crate) fn body_of(frame: &[u8]) -> &[u8] {
    &frame[LENGTH..]
}

/// The kind that the first word of a frame's body says.
pub(crate) fn kind_of(word: u64) -> Option<FrameKind> {
    FrameKind::of(word & ((1 << BEHIND) - 1))
}

/// What goes to a rank together: blocks, and the frame that names them in their order.
#[derive(Debug, Default)]
pub(crate) struct Parcel {
    pub(crate) blocks: Vec<Block>,
    /// The pool that the blocks belong to.
    pub(crate) number: u64,
    pub(crate) frame: Vec<u8>,
    /// Set: the blocks may be somebody else's by now, and the frame is not to be sent if they had not been sent before. Release and Acquire.
    pub(crate) is_void: Option<Arc<AtomicBool>>,
}

impl From<Vec<u8>> for Parcel {
    fn from(frame: Vec<u8>) -> Parcel {
        Parcel { frame, ..Parcel::default() }
    }
}

/// What has come from a rank.
pub(crate) enum Came {
    /// Nothing that is whole; whether anything has moved on.
    Nothing(bool),
    /// A frame, to be read with [`body_of`].
    Frame(Vec<u8>),
    /// A block of this pool's, with so many bytes, comes next: [`Incoming::expect`] says where it is to be.
    Announced(u64, usize),
    /// The block that was announced for this pool; `None` where it had no place.
    Block(u64, Option<Block>),
}

#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) out: Outgoing,
    pub(crate) into: Incoming,
}

impl Peer {
    pub(crate) fn new(rank: Rank) -> Peer {
        Peer { out: Outgoing::new(rank), into: Incoming::new(rank) }
    }

    /// Room for what is taken over next and for a message that comes; -ENOMEM where there is none.
    pub(crate) fn make_room(&mut self) -> Result<()> {
        self.out.make_room().and_then(|()| self.into.make_room())
    }

    /// Whether a message is on its way there or from there.
    pub(crate) fn is_moving(&self) -> bool {
        self.out.is_sending() || self.into.is_receiving()
    }
}

/// Whether a message of this length is sent or received. MPI moves a long one with each call, so whatever else there is to do waits for some of these.
fn is_done_soon(transport: &Transport, moving: &Moving, length: usize) -> Result<bool> {
    for _ in 0..if length < APART { 1 } else { LOOKS } {
        if transport.is_done(moving)? {
            return Ok(true);
        }
    }
    Ok(false)
}
