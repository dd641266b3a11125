//! How rank 0's thread parts from the nodes.
//!
//! ```text
//!   leaving     set by                                          the thread
//!   STAYS                                                       serves
//!   FINALIZES   who finalizes MPI in the program, from STAYS    takes leave; then tells pools, old and new, that there are no nodes
//!   EXITS       who ends the process in good order              takes leave, if it has not, and ends
//! ```

use super::{Exchange, Node, Talk};
use crate::cluster::FrameKind;
use crate::cluster::peer::{Frame, Peer};
use crate::cluster::start::end_job;
use crate::error::{Code, Error};
use crate::sys::clock::Deadline;
use crate::sys::fork;
use crate::sys::log::{self, Level};
use crate::sys::prim::{Ordering, futex_wait, futex_wake};

pub(super) const STAYS: u32 = 0;
const FINALIZES: u32 = 1;
const EXITS: u32 = 2;

impl Exchange {
    /// The process ends: has the thread take its leave of the nodes, and end.
    pub(crate) fn leave(&self) {
        self.leaving.store(EXITS, Ordering::Release);
        self.ring();
    }

    /// The program finalizes MPI, and the process goes on: returns when the thread has left the nodes and makes no call of the transport
    /// any more. In the thread itself, and where it leaves anyway, there is nothing to do.
    pub(crate) fn part(&self) {
        if self.pid != fork::pid()
            || self.leaving.compare_exchange(STAYS, FINALIZES, Ordering::AcqRel, Ordering::Acquire).is_err()
        {
            return;
        }
        self.ring();
        while self.has_left.load(Ordering::Acquire) == 0 {
            futex_wait(&self.has_left, 0, Deadline::NEVER);
        }
    }

    fn set_left(&self) {
        self.has_left.store(1, Ordering::Release);
        futex_wake(&self.has_left, 1);
    }
}

impl Talk {
    /// Leaves the nodes, for the one reason or the other.
    pub(super) fn end(&mut self) {
        self.take_leave();
        if self.exchange.leaving.load(Ordering::Acquire) != EXITS {
            self.be_without_nodes();
        }
        self.exchange.witness.leave();
        // Whoever waits for that to finalize MPI, while another thread ends the process.
        self.exchange.set_left();
    }

    /// Until the process ends.
    fn be_without_nodes(&mut self) {
        // Pools live on, and new ones may be made.
        for at in 0..self.nodes.len() {
            let host = self.exchange.nodes.get(at).map_or("", |node| &node.host);
            let text = format!("rank {} on {host} has ended: the program has called MPI_Finalize", at + 1);
            self.nodes[at].peer = Peer::new(at + 1);
            self.part_with(at, Error::new(Code::DIED, text));
        }
        self.exchange.set_left();
        while self.exchange.leaving.load(Ordering::Acquire) != EXITS {
            self.collect();
            self.exchange.sleep(Deadline::NEVER);
        }
    }

    /// Nothing is sent after the goodbye, and all is received up to the node's: messages that nobody has received make an MPI library
    /// complain.
    fn take_leave(&mut self) {
        let (_, hands) = self.collect();
        for node in self.nodes.iter_mut().filter(|node| !node.is_lost()) {
            node.peer.out.post(Frame::new(FrameKind::Bye, 0).finish());
        }
        let until = Deadline::after(self.timeout_ns);
        while self.nodes.iter().any(Node::is_leaving) && !until.passed() {
            if !self.move_on(&hands) {
                std::thread::yield_now();
            }
        }
        if self.nodes.iter().any(|node| node.is_lost() || node.is_leaving()) {
            // To finalize waits for all of them.
            end_job(&self.transport);
        }
        if self.exchange.leaving.load(Ordering::Acquire) == EXITS {
            // To finalize may take long, and there is nothing to report any more.
            self.exchange.witness.leave();
        }
        if let Err(error) = self.transport.stop() {
            log::say(Level::Warning, &format!("tine: {}\n", error.text()));
        }
    }
}
