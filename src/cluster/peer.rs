//! One other rank: what is on its way there, and what has come from there and is not whole yet.
//!
//! A frame is its length in eight bytes and then as many bytes. It travels as one message, or in pieces where it is long; a message never has
//! parts of two frames in it, and messages between two ranks stay in order.

use super::Rank;
use super::transport::{Sending, Transport};
use crate::error::{Error, Result};
use crate::task::wire::Writer;
use std::alloc::{Layout, handle_alloc_error};
use std::collections::VecDeque;

/// The longest message. Both MPI libraries count in an `int`.
pub(crate) const PIECE: usize = 64 << 20;

const LENGTH: usize = 8;

/// A frame that is being written.
pub(crate) struct Frame(Writer);

impl Frame {
    pub(crate) fn new(kind: super::FrameKind, number: u64) -> Frame {
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

#[derive(Debug)]
pub(crate) struct Peer {
    rank: Rank,
    /// The first is the one that is being sent, from `at` on.
    out: VecDeque<Vec<u8>>,
    at: usize,
    sending: Option<Sending>,
    incoming: Vec<u8>,
}

impl Peer {
    pub(crate) fn new(rank: Rank) -> Peer {
        Peer { rank, out: VecDeque::new(), at: 0, sending: None, incoming: Vec::new() }
    }

    pub(crate) fn post(&mut self, frame: Vec<u8>) {
        self.out.push_back(frame);
    }

    /// Whether something is on its way out.
    pub(crate) fn is_sending(&self) -> bool {
        !self.out.is_empty()
    }

    /// Whether the other side has taken some pieces of a frame, and not all.
    pub(crate) fn is_amid_a_frame(&self) -> bool {
        self.at > 0
    }

    /// Sends what can be sent; whether anything moved on.
    pub(crate) fn flush(&mut self, transport: &Transport) -> Result<bool> {
        let mut any = false;
        while let Some(frame) = self.out.front() {
            if let Some(sending) = &self.sending {
                if !transport.is_sent(sending)? {
                    break;
                }
                self.sending = None;
                self.at = (self.at + PIECE).min(frame.len());
                any = true;
                if self.at == frame.len() {
                    self.at = 0;
                    self.out.pop_front();
                    continue;
                }
            }
            let piece = &raw const frame[self.at..(self.at + PIECE).min(frame.len())];
            // SAFETY: the frame stays in `out`, where its bytes do not move, until it has been sent. A peer that is lost with a message on its
            // way is leaked with its frames: see `Exchange::lose`.
            self.sending = Some(unsafe { transport.send(self.rank, piece) }?);
            any = true;
        }
        Ok(any)
    }

    /// Takes a message of this length in that is there; the frame without its length, where that is whole now.
    pub(crate) fn receive(&mut self, transport: &Transport, length: usize) -> Result<Option<Vec<u8>>> {
        transport.receive(self.rank, length, &mut self.incoming)?;
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
            std::cmp::Ordering::Equal => Ok(Some(std::mem::take(&mut self.incoming))),
            std::cmp::Ordering::Greater => {
                let text = format!("rank {} sent {there} bytes of a frame of {wanted}", self.rank);
                Err(Error::errno(libc::EPROTO, text))
            }
        }
    }
}

/// What [`Peer::receive`] gave, to be read: without its length.
pub(crate) fn body_of(frame: &[u8]) -> &[u8] {
    &frame[LENGTH..]
}
