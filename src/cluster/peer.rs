//! One other rank: what is on its way there, and what has come from there and is not whole yet.
//!
//! A frame is its length in eight bytes and then as many bytes. It travels as one message, or in pieces where it is long; a message never has
//! parts of two frames in it, and messages between two ranks stay in order. A block is announced by a frame, and its bytes follow as they are, in
//! pieces of the same length, without a copy on either side; the frame that names it comes behind it.
//!
//! ```text
//!   what comes     the next message is
//!   FRAME          a frame, or the rest of one                -> BLOCK when a frame has announced one, and its receiver has said where it is to be
//!   BLOCK          bytes of that block                        -> FRAME when all of them are there
//! ```

use super::block::{APART, Block};
use super::transport::{Message, Moving, Transport};
use super::{FrameKind, Rank};
use crate::error::{Code, Error, Result};
use crate::task::wire::{Reader, Writer};
use std::alloc::{Layout, handle_alloc_error};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The longest message. Both MPI libraries count in an `int`.
pub(crate) const PIECE: usize = 64 << 20;

/// So many messages are under way to a rank at a time.
const UNDER_WAY: usize = 4;

/// Rank 0 takes over a parcel with one block at a time; the other places are for what is said now and then, like a pool's beginning.
const AT_ONCE: usize = 16;

/// How often in a row a long message is looked at.
const LOOKS: usize = 16;

const LENGTH: usize = 8;

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

/// What goes to a rank together: blocks, and the frame that names them in their order.
#[derive(Debug, Default)]
pub(crate) struct Parcel {
    pub(crate) blocks: Vec<Block>,
    /// The pool that the blocks belong to.
    pub(crate) number: u64,
    pub(crate) frame: Vec<u8>,
    /// Set: the blocks may be somebody else's by now, and the frame is not to be sent if it has not been. Release and Acquire.
    pub(crate) is_void: Option<Arc<AtomicBool>>,
}

impl From<Vec<u8>> for Parcel {
    fn from(frame: Vec<u8>) -> Parcel {
        Parcel { frame, ..Parcel::default() }
    }
}

/// What is sent one after the other.
#[derive(Debug)]
enum Load {
    Frame(Vec<u8>),
    Block(Block),
    /// A frame that names blocks: it waits until they have been sent.
    Naming(Vec<u8>, Option<Arc<AtomicBool>>),
}

impl Load {
    fn bytes(&self) -> *const [u8] {
        match self {
            Load::Frame(frame) | Load::Naming(frame, _) => &raw const frame[..],
            Load::Block(block) => std::ptr::slice_from_raw_parts(block.pointer(), block.length()),
        }
    }
}

/// A message that is being sent.
#[derive(Debug)]
struct Sending {
    moving: Moving,
    length: usize,
    /// It is the last of the first load.
    is_last: bool,
}

/// What has come from a rank.
pub(crate) enum Came {
    /// Nothing that is whole; whether anything has moved on.
    Nothing(bool),
    /// A frame, to be read with [`body_of`].
    Frame(Vec<u8>),
    /// The block that was announced for this pool; `None` where it had no place.
    Block(u64, Option<Block>),
}

/// A block that is coming.
#[derive(Debug)]
struct Awaited {
    number: u64,
    length: usize,
    /// So many bytes of it are there.
    at: usize,
    block: Option<Block>,
}

#[derive(Debug)]
pub(crate) struct Peer {
    rank: Rank,
    out: VecDeque<Load>,
    /// From where on, of which of `out`, nothing has been given to the transport.
    next: usize,
    at: usize,
    /// In the order of `out`.
    sending: VecDeque<Sending>,
    /// Some messages of the first of `out` have been taken.
    is_amid: bool,
    /// What has come and has not been received; and what the first of it is being received as.
    there: VecDeque<(Message, usize)>,
    receiving: Option<(Moving, usize)>,
    incoming: Vec<u8>,
    awaited: Option<Awaited>,
}

impl Peer {
    pub(crate) fn new(rank: Rank) -> Peer {
        Peer {
            rank,
            out: VecDeque::new(),
            next: 0,
            at: 0,
            sending: VecDeque::new(),
            is_amid: false,
            there: VecDeque::new(),
            receiving: None,
            incoming: Vec::new(),
            awaited: None,
        }
    }

    /// Room for what is taken over next and for a message that comes; -ENOMEM where there is none.
    pub(crate) fn make_room(&mut self) -> Result<()> {
        let reserved = self.out.try_reserve(AT_ONCE).and_then(|()| self.sending.try_reserve(UNDER_WAY));
        reserved.and_then(|()| self.there.try_reserve(1)).map_err(|_| Code::errno(libc::ENOMEM).into())
    }

    pub(crate) fn post(&mut self, parcel: impl Into<Parcel>) {
        let Parcel { blocks, number, frame, is_void } = parcel.into();
        let names = !blocks.is_empty();
        for block in blocks {
            let mut announcement = Frame::new(FrameKind::Block, number);
            announcement.body().number(block.length() as u64);
            self.out.push_back(Load::Frame(announcement.finish()));
            self.out.push_back(Load::Block(block));
        }
        self.out.push_back(if names { Load::Naming(frame, is_void) } else { Load::Frame(frame) });
    }

    /// Whether something is on its way out.
    pub(crate) fn is_sending(&self) -> bool {
        !self.out.is_empty()
    }

    /// Whether what is to be sent had better wait: it goes together in the next frame. While a block is on its way another one stands by.
    pub(crate) fn is_full(&self) -> bool {
        let has_block = self.out.iter().any(|load| matches!(load, Load::Block(_)));
        self.out.len() > if has_block { 3 } else { 0 }
    }

    /// Whether the other side has taken some pieces of a frame or a block, and not all.
    pub(crate) fn is_amid_a_load(&self) -> bool {
        self.is_amid
    }

    /// Sends what can be sent; whether anything moved on.
    pub(crate) fn flush(&mut self, transport: &Transport) -> Result<bool> {
        let mut any = self.send_next(transport)?;
        while let Some(first) = self.sending.front()
            && is_done_soon(transport, &first.moving, first.length)?
        {
            any = true;
            self.is_amid = !first.is_last;
            if first.is_last {
                self.out.pop_front();
                self.next -= 1;
            }
            self.sending.pop_front();
            self.send_next(transport)?;
        }
        Ok(any)
    }

    /// Gives the transport what it has not been given yet, as far as that goes; whether there was anything.
    fn send_next(&mut self, transport: &Transport) -> Result<bool> {
        let mut any = false;
        while self.sending.len() < UNDER_WAY
            && let Some(load) = self.out.get(self.next)
        {
            if let Load::Naming(_, is_void) = load {
                if !self.sending.is_empty() {
                    break;
                }
                if is_void.as_ref().is_some_and(|is_void| is_void.load(Ordering::Acquire)) {
                    self.out.remove(self.next);
                    any = true;
                    continue;
                }
            }
            let bytes = load.bytes();
            let length = (bytes.len() - self.at).min(PIECE);
            // SAFETY: a part of the load, as `at` is within it.
            let first = unsafe { bytes.cast::<u8>().add(self.at) };
            let piece = std::ptr::slice_from_raw_parts(first, length);
            // SAFETY: the load stays in `out`, where its bytes do not move, until it has been sent; the heap of a block stays mapped with it. A
            // peer that is lost with a message on its way is leaked with its loads: see `Exchange::lose`.
            let moving = match unsafe { transport.send(self.rank, piece) } {
                Ok(moving) => moving,
                // Short of memory for a moment: it goes the next time.
                Err(error) if error.code().0 == -libc::ENOMEM => break,
                Err(error) => return Err(error),
            };
            let is_last = self.at + length == bytes.len();
            self.sending.push_back(Sending { moving, length, is_last });
            (self.next, self.at) = if is_last { (self.next + 1, 0) } else { (self.next, self.at + length) };
            any = true;
        }
        Ok(any)
    }

    /// Whether a message is on its way in.
    pub(crate) fn is_receiving(&self) -> bool {
        self.receiving.is_some()
    }

    /// A message of this rank's is there.
    pub(crate) fn has_come(&mut self, message: Message, length: usize) {
        self.there.push_back((message, length));
    }

    /// A block is to be next, for this pool: it goes to that place, or nowhere.
    pub(crate) fn expect(&mut self, number: u64, length: usize, block: Option<Block>) {
        self.awaited = Some(Awaited { number, length, at: 0, block });
    }

    /// Receives what is there, up to the end of one frame or block. With -ENOMEM it is there still.
    pub(crate) fn receive(&mut self, transport: &Transport) -> Result<Came> {
        let mut any = false;
        loop {
            if self.receiving.is_none() {
                let Some((message, length)) = self.there.pop_front() else { break };
                if let Err(error) = self.begin(transport, &message, length) {
                    self.there.push_front((message, length));
                    return Err(error);
                }
                any = true;
            }
            let Some((moving, length)) = &self.receiving else { break };
            if !is_done_soon(transport, moving, *length)? {
                break;
            }
            any = true;
            let length = *length;
            self.receiving = None;
            let came =
                if self.awaited.is_some() { self.take_piece(length) } else { self.take_frame(length)? };
            if let Some(came) = came {
                return Ok(came);
            }
        }
        Ok(Came::Nothing(any))
    }

    /// Begins to receive a message where its bytes are to be.
    fn begin(&mut self, transport: &Transport, message: &Message, length: usize) -> Result<()> {
        let room = match &self.awaited {
            Some(awaited) if length == 0 || length > awaited.length - awaited.at => {
                let text = format!("rank {} sent {length} bytes of a block of {}", self.rank, awaited.length);
                return Err(Error::errno(libc::EPROTO, text));
            }
            // SAFETY: as many bytes have come as `at` says, which is less than the block has.
            Some(Awaited { block: Some(block), at, .. }) => unsafe { block.pointer().add(*at) },
            _ => {
                self.incoming.try_reserve(length).map_err(|_| Error::from(Code::errno(libc::ENOMEM)))?;
                self.incoming.spare_capacity_mut().as_mut_ptr().cast()
            }
        };
        // SAFETY: room for as many bytes, by the checks above, which stays: neither `incoming` nor the block is touched before this is over, and
        // a peer that is lost is leaked with both.
        let moving = unsafe { transport.receive(message, room, length) }?;
        self.receiving = Some((moving, length));
        Ok(())
    }

    /// A piece of the block has come; the block, if that was the last.
    fn take_piece(&mut self, length: usize) -> Option<Came> {
        let awaited = self.awaited.as_mut()?;
        awaited.at += length;
        if awaited.at < awaited.length {
            return None;
        }
        let Awaited { number, block, .. } = self.awaited.take()?;
        self.incoming = Vec::new(); // Where there was no place.
        Some(Came::Block(number, block))
    }

    /// A frame has come, or a piece of one; the frame, if it is whole.
    fn take_frame(&mut self, length: usize) -> Result<Option<Came>> {
        // SAFETY: as many bytes have just been received behind those that there were.
        unsafe { self.incoming.set_len(self.incoming.len() + length) };
        let Some((first, rest)) = self.incoming.split_first_chunk::<LENGTH>() else {
            return Err(Error::errno(
                libc::EPROTO,
                format!("rank {} sent a frame of {length} bytes", self.rank),
            ));
        };
        let (wanted, there) = (u64::from_ne_bytes(*first), rest.len() as u64);
        match there.cmp(&wanted) {
            std::cmp::Ordering::Less => {
                // All of it at once, so that what is there is not copied with each piece.
                let _ = self.incoming.try_reserve_exact((wanted - there) as usize);
                Ok(None)
            }
            std::cmp::Ordering::Equal => Ok(Some(Came::Frame(std::mem::take(&mut self.incoming)))),
            std::cmp::Ordering::Greater => {
                let text = format!("rank {} sent {there} bytes of a frame of {wanted}", self.rank);
                Err(Error::errno(libc::EPROTO, text))
            }
        }
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

/// What [`Came::Frame`] gave, to be read: without its length.
pub(crate) fn body_of(frame: &[u8]) -> &[u8] {
    &frame[LENGTH..]
}

/// How long the block is that a frame announces.
pub(crate) fn announced(body: &mut Reader<'_>) -> Result<usize> {
    let length = usize::try_from(body.number()?).unwrap_or(0);
    if length == 0 {
        return Err(Error::errno(libc::EPROTO, "a block of no bytes, or of more than there can be"));
    }
    Ok(length)
}
