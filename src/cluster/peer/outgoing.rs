//! What is on its way to a rank.
//!
//! ```text
//!   a frame     is
//!   WAITING     not given to the transport: it names a block that has not been sent, or is behind such a frame    -> a LOAD, or nothing where the block is void
//!   a LOAD      given to the transport, after the loads before it                                                 -> gone when it has been sent
//! ```
//!
//! A block is a load from the beginning, behind its announcement.

use super::{BEHIND, Frame, LENGTH, PIECE, Parcel, is_done_soon};
use crate::cluster::block::Block;
use crate::cluster::transport::{Moving, Transport};
use crate::cluster::{FrameKind, Rank};
use crate::error::{Code, Result};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// So many messages are under way to a rank at a time.
const UNDER_WAY: usize = 4;

/// Rank 0 takes over a parcel with one block at a time; the other places are for what is said now and then, like a pool's beginning.
const AT_ONCE: usize = 16;

/// What is sent one after the other.
#[derive(Debug)]
enum Load {
    Frame(Vec<u8>),
    Block(Block),
}

impl Load {
    fn bytes(&self) -> *const [u8] {
        match self {
            Load::Frame(frame) => &raw const frame[..],
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

/// A frame that is no load yet.
#[derive(Debug)]
struct Waiting {
    frame: Vec<u8>,
    /// The last block that it names; 0 where it names none.
    behind: u64,
    is_void: Option<Arc<AtomicBool>>,
}

#[derive(Debug)]
pub(crate) struct Outgoing {
    rank: Rank,
    loads: VecDeque<Load>,
    /// From where on, of which of the loads, nothing has been given to the transport.
    next: usize,
    at: usize,
    /// In the order of the loads.
    sending: VecDeque<Sending>,
    /// Some messages of the first load have been taken.
    is_amid: bool,
    waiting: VecDeque<Waiting>,
    /// How many blocks have been announced, and how many of them have been sent.
    announced: u64,
    sent: u64,
}

impl Outgoing {
    pub(super) fn new(rank: Rank) -> Outgoing {
        Outgoing {
            rank,
            loads: VecDeque::new(),
            next: 0,
            at: 0,
            sending: VecDeque::new(),
            is_amid: false,
            waiting: VecDeque::new(),
            announced: 0,
            sent: 0,
        }
    }

    pub(super) fn make_room(&mut self) -> Result<()> {
        let reserved = self.loads.try_reserve(AT_ONCE + self.waiting.len());
        let reserved = reserved.and_then(|()| self.waiting.try_reserve(AT_ONCE));
        reserved
            .and_then(|()| self.sending.try_reserve(UNDER_WAY))
            .map_err(|_| Code::errno(libc::ENOMEM).into())
    }

    pub(crate) fn post(&mut self, parcel: impl Into<Parcel>) {
        let Parcel { blocks, number, mut frame, is_void } = parcel.into();
        let mut behind = 0;
        for block in blocks {
            let mut announcement = Frame::new(FrameKind::Block, number);
            announcement.body().number(block.length() as u64);
            self.loads.push_back(Load::Frame(announcement.finish()));
            self.loads.push_back(Load::Block(block));
            self.announced += 1;
            behind = self.announced;
        }
        if let Some(word) = frame[LENGTH..].first_chunk_mut::<8>() {
            *word = (u64::from_ne_bytes(*word) | behind << BEHIND).to_ne_bytes();
        }
        self.waiting.push_back(Waiting { frame, behind, is_void });
        self.release();
    }

    /// Makes loads of the frames whose blocks have been sent.
    fn release(&mut self) {
        while self.waiting.front().is_some_and(|first| first.behind <= self.sent)
            && let Some(Waiting { frame, is_void, .. }) = self.waiting.pop_front()
        {
            // The mark is set before a block becomes other memory. So where it is not set yet, what has been sent is what was meant.
            if !is_void.is_some_and(|is_void| is_void.load(Ordering::Acquire)) {
                self.loads.push_back(Load::Frame(frame));
            }
        }
    }

    /// Whether something is on its way out.
    pub(crate) fn is_sending(&self) -> bool {
        !self.loads.is_empty() || !self.waiting.is_empty()
    }

    /// Whether what is to be sent had better wait: it goes together in the next frame. While a block is on its way there may be a second one.
    pub(crate) fn is_full(&self) -> bool {
        match self.announced - self.sent {
            0 => !self.loads.is_empty(),
            1 => self.waiting.len() > 1,
            _ => true,
        }
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
                self.next -= 1;
                if let Some(Load::Block(_)) = self.loads.pop_front() {
                    self.sent += 1;
                    self.release();
                }
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
            && let Some(load) = self.loads.get(self.next)
        {
            let bytes = load.bytes();
            let length = (bytes.len() - self.at).min(PIECE);
            // SAFETY: a part of the load, as `at` is within it.
            let first = unsafe { bytes.cast::<u8>().add(self.at) };
            let piece = std::ptr::slice_from_raw_parts(first, length);
            // SAFETY: the load stays in `loads`, where its bytes do not move, until it has been sent; the heap of a block stays mapped with it. A
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
}
