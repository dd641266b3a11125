//! A node's side: its one peer, rank 0.

use super::FrameKind;
use super::block::Block;
use super::hello::Hello;
use super::peer::{Came, Frame, Parcel, Peer};
use super::transport::Transport;
use crate::error::Result;

/// How a node talks to rank 0. One thread has it.
pub(crate) struct Serving {
    transport: Transport,
    peer: Peer,
}

impl Serving {
    pub(crate) fn new(transport: Transport) -> Result<Serving> {
        let mut peer = Peer::new(0);
        peer.out.post(Hello::own()?.frame());
        Ok(Serving { transport, peer })
    }

    pub(crate) fn post(&mut self, parcel: impl Into<Parcel>) {
        self.peer.out.post(parcel);
    }

    /// Says goodbye, and sees it off with all that is before it.
    pub(crate) fn leave(&mut self) -> Result<()> {
        self.post(Frame::new(FrameKind::Bye, 0).finish());
        while self.peer.out.is_sending() {
            if !self.flush()? {
                std::thread::yield_now();
            }
        }
        Ok(())
    }

    /// Whether what is to be sent had better wait.
    pub(crate) fn is_full(&self) -> bool {
        self.peer.out.is_full()
    }

    /// Whether a message is on its way, to rank 0 or from there.
    pub(crate) fn is_moving(&self) -> bool {
        self.peer.is_moving()
    }

    /// Sends what can be sent; whether anything moved on.
    pub(crate) fn flush(&mut self) -> Result<bool> {
        self.peer.out.flush(&self.transport)
    }

    /// What has come from rank 0.
    pub(crate) fn receive(&mut self) -> Result<Came> {
        if self.peer.make_room().is_err() {
            return Ok(Came::Nothing(false));
        }
        // Nobody else sends anything, and what becomes of another node is not this one's end.
        let arrived = self.transport.probe(Some(0))?;
        let any = arrived.is_some();
        if let Some((_, length, message)) = arrived {
            self.peer.into.has_come(message, length);
        }
        match self.peer.into.receive(&self.transport) {
            Ok(Came::Nothing(moved)) => Ok(Came::Nothing(any | moved)),
            // Short of memory for a moment: it is there the next time.
            Err(error) if error.code().0 == -libc::ENOMEM => Ok(Came::Nothing(any)),
            came => came,
        }
    }

    /// The block that has been announced goes to that place, or nowhere.
    pub(crate) fn expect(&mut self, block: Option<Block>) {
        self.peer.into.expect(block);
    }
}
