//! A node's side: its one peer, rank 0.

use super::FrameKind;
use super::hello::Hello;
use super::peer::{Frame, Peer};
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
        peer.post(Hello::own()?.frame());
        Ok(Serving { transport, peer })
    }

    pub(crate) fn post(&mut self, frame: Vec<u8>) {
        self.peer.post(frame);
    }

    /// Says goodbye, and sees it off with all that is before it.
    pub(crate) fn leave(&mut self) -> Result<()> {
        self.post(Frame::new(FrameKind::Bye, 0).finish());
        while self.is_sending() {
            if !self.flush()? {
                std::thread::yield_now();
            }
        }
        Ok(())
    }

    /// Whether something is on its way to rank 0.
    pub(crate) fn is_sending(&self) -> bool {
        self.peer.is_sending()
    }

    /// Sends what can be sent; whether anything moved on.
    pub(crate) fn flush(&mut self) -> Result<bool> {
        self.peer.flush(&self.transport)
    }

    /// A frame of rank 0's that is there and whole; and whether anything has come.
    pub(crate) fn receive(&mut self) -> Result<(Option<Vec<u8>>, bool)> {
        let Some((_, length)) = self.transport.probe()? else { return Ok((None, false)) };
        match self.peer.receive(&self.transport, length) {
            Ok(frame) => Ok((frame, true)),
            // Short of memory for a moment: it is there the next time.
            Err(error) if error.code().0 == -libc::ENOMEM => Ok((None, false)),
            Err(error) => Err(error),
        }
    }
}
