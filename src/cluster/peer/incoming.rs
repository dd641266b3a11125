//! What has come from a rank, and is not whole yet or has not been handed out.
//!
//! ```text
//!   the next message is
//!   a FRAME, or a piece of one   -> PLACELESS when it is an announcement; one of them is received at a time, for it says what comes behind it
//!   PLACELESS                    -> PIECES when its receiver has said where the block is to be; until then nothing is received
//!   PIECES of the block          -> a FRAME when all of them are being received; they need not have come
//! ```
//!
//! A frame is handed out in its turn, and when the blocks that it names have been.

use super::{BEHIND, Came, LENGTH, is_done_soon, kind_of};
use crate::cluster::block::Block;
use crate::cluster::transport::{Message, Moving, Transport};
use crate::cluster::{FrameKind, Rank};
use crate::error::{Code, Error, Result};
use crate::task::wire::Reader;
use std::collections::VecDeque;

/// A block that is announced, and whose last piece has not been there yet.
#[derive(Debug)]
struct Awaited {
    number: u64,
    length: usize,
    /// So many bytes of it are there, or are being received.
    at: usize,
    block: Option<Block>,
    is_placed: bool,
}

/// A piece of a block that is being received.
#[derive(Debug)]
struct Piece {
    moving: Moving,
    length: usize,
    /// What it is received into where the block has no place.
    #[expect(dead_code, reason = "it is there to be written to")]
    nowhere: Vec<u8>,
    /// With the last piece the block comes, for this pool.
    whole: Option<(u64, Option<Block>)>,
}

#[derive(Debug)]
pub(crate) struct Incoming {
    rank: Rank,
    /// What has come and is not being received yet.
    there: VecDeque<(Message, usize)>,
    /// A frame, as far as it is there, and a piece of it that is being received to its end.
    frame: Vec<u8>,
    receiving: Option<(Moving, usize)>,
    awaited: Option<Awaited>,
    pieces: VecDeque<Piece>,
    /// Whole frames, each with the last block that it names.
    frames: VecDeque<(u64, Vec<u8>)>,
    /// How many blocks have been announced, and how many of them have been handed out.
    announced: u64,
    come: u64,
}

fn no_memory(_: std::collections::TryReserveError) -> Error {
    Code::errno(libc::ENOMEM).into()
}

impl Incoming {
    pub(super) fn new(rank: Rank) -> Incoming {
        Incoming {
            rank,
            there: VecDeque::new(),
            frame: Vec::new(),
            receiving: None,
            awaited: None,
            pieces: VecDeque::new(),
            frames: VecDeque::new(),
            announced: 0,
            come: 0,
        }
    }

    pub(super) fn make_room(&mut self) -> Result<()> {
        self.there.try_reserve(1).map_err(no_memory)
    }

    /// Whether a message is on its way in.
    pub(super) fn is_receiving(&self) -> bool {
        self.receiving.is_some() || !self.pieces.is_empty()
    }

    /// A message of this rank's is there.
    pub(crate) fn has_come(&mut self, message: Message, length: usize) {
        self.there.push_back((message, length));
    }

    /// The block that has been announced goes to that place, or nowhere.
    pub(crate) fn expect(&mut self, block: Option<Block>) {
        if let Some(awaited) = &mut self.awaited {
            (awaited.block, awaited.is_placed) = (block, true);
        }
    }

    /// Receives what is there, up to the end of one frame or block. With -ENOMEM it is there still.
    pub(crate) fn receive(&mut self, transport: &Transport) -> Result<Came> {
        let mut any = false;
        loop {
            if let Some(frame) = self.next_frame() {
                return Ok(Came::Frame(frame));
            }
            // The other side waits for its messages to be taken, and what is long comes by itself meanwhile.
            if let Some((moving, length)) = &self.receiving
                && is_done_soon(transport, moving, *length)?
            {
                any = true;
                let length = *length;
                self.receiving = None;
                if let Some(came) = self.take_piece_of_frame(length)? {
                    return Ok(came);
                }
            } else if self.begin(transport)? {
                any = true;
            } else if let Some(first) = self.pieces.front()
                && is_done_soon(transport, &first.moving, first.length)?
            {
                any = true;
                let whole = self.pieces.pop_front().and_then(|piece| piece.whole);
                if let Some((number, block)) = whole {
                    self.come += 1;
                    return Ok(Came::Block(number, block));
                }
            } else {
                return Ok(Came::Nothing(any));
            }
        }
    }

    /// The first frame, if its blocks have been handed out.
    fn next_frame(&mut self) -> Option<Vec<u8>> {
        self.frames.front().filter(|(behind, _)| *behind <= self.come)?;
        self.frames.pop_front().map(|(_, frame)| frame)
    }

    /// Begins to receive the next message where its bytes are to be; whether there is one of which it is known where that is.
    fn begin(&mut self, transport: &Transport) -> Result<bool> {
        let is_known =
            self.receiving.is_none() && self.awaited.as_ref().is_none_or(|awaited| awaited.is_placed);
        let Some((message, length)) = self.there.front().filter(|_| is_known) else { return Ok(false) };
        let length = *length;
        match &mut self.awaited {
            None => {
                self.frames.try_reserve(1).map_err(no_memory)?;
                self.frame.try_reserve(length).map_err(no_memory)?;
                let room = self.frame.spare_capacity_mut().as_mut_ptr().cast();
                // SAFETY: room for as many bytes, which stays: the frame is not touched before this is over, and a peer that is lost is leaked
                // with it.
                let moving = unsafe { transport.receive(message, room, length) }?;
                self.receiving = Some((moving, length));
            }
            Some(awaited) => {
                if length == 0 || length > awaited.length - awaited.at {
                    let (rank, whole) = (self.rank, awaited.length);
                    let text = format!("rank {rank} sent {length} bytes of a block of {whole}");
                    return Err(Error::errno(libc::EPROTO, text));
                }
                self.pieces.try_reserve(1).map_err(no_memory)?;
                let mut nowhere = Vec::new();
                let room = match &awaited.block {
                    // SAFETY: `at` is less than the block has, by the check above.
                    Some(block) => unsafe { block.pointer().add(awaited.at) },
                    None => {
                        nowhere.try_reserve_exact(length).map_err(no_memory)?;
                        nowhere.spare_capacity_mut().as_mut_ptr().cast()
                    }
                };
                // SAFETY: room for as many bytes, by the check above, which stays: nobody touches this part of the block, or the piece's own
                // memory, before this is over, and a peer that is lost is leaked with both.
                let moving = unsafe { transport.receive(message, room, length) }?;
                awaited.at += length;
                let mut whole = None;
                if awaited.at == awaited.length {
                    whole = self.awaited.take().map(|awaited| (awaited.number, awaited.block));
                }
                self.pieces.push_back(Piece { moving, length, nowhere, whole });
            }
        }
        self.there.pop_front();
        Ok(true)
    }

    /// A frame has come, or a piece of one. An announcement is handed out at once.
    fn take_piece_of_frame(&mut self, length: usize) -> Result<Option<Came>> {
        // SAFETY: as many bytes have just been received behind those that there were.
        unsafe { self.frame.set_len(self.frame.len() + length) };
        let wrong = |text: String| Err(Error::errno(libc::EPROTO, format!("rank {} sent {text}", self.rank)));
        let Some((first, rest)) = self.frame.split_first_chunk::<LENGTH>() else {
            return wrong(format!("a frame of {length} bytes"));
        };
        let (wanted, there) = (u64::from_ne_bytes(*first), rest.len() as u64);
        if there > wanted {
            return wrong(format!("{there} bytes of a frame of {wanted}"));
        }
        if there < wanted {
            // All of it at once, so that what is there is not copied with each piece.
            let _ = self.frame.try_reserve_exact((wanted - there) as usize);
            return Ok(None);
        }
        let mut reader = Reader(rest);
        let word = reader.number()?;
        let behind = word >> BEHIND;
        if behind > self.announced {
            return wrong(format!("a frame that names block {behind} of {}", self.announced));
        }
        if kind_of(word) != Some(FrameKind::Block) {
            self.frames.push_back((behind, std::mem::take(&mut self.frame)));
            return Ok(None);
        }
        let (number, length) = (reader.number()?, usize::try_from(reader.number()?).unwrap_or(0));
        if length == 0 {
            return wrong("a block of no bytes, or of more than there can be".to_owned());
        }
        self.frame.clear();
        self.announced += 1;
        self.awaited = Some(Awaited { number, length, at: 0, block: None, is_placed: false });
        Ok(Some(Came::Announced(number, length)))
    }
}
