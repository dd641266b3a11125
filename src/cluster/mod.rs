//! Several processes that were started together, on one machine or many: rank 0 is the host, each other one a node. How bytes get from one
//! to the other, and nothing of what they mean to a pool: `docs/design/mpi.md`.

pub(crate) mod attention;
pub(crate) mod block;
pub(crate) mod book;
pub(crate) mod exchange;
pub(crate) mod hello;
pub(crate) mod node;
pub(crate) mod peer;
pub(crate) mod start;
pub(crate) mod transport;
pub(crate) mod witness;

use crate::error::Result;
use crate::task::wire::Reader;
use block::Block;
use peer::Parcel;

/// Which of the processes.
pub(crate) type Rank = usize;

/// What a frame is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub(crate) enum FrameKind {
    /// Who this is; the first frame, both ways.
    Hello = 1,
    /// To a node: it is to have such a pool.
    Open = 2,
    /// It has, or it failed.
    Opened = 3,
    Failed = 4,
    /// To a node: tasks, and what is to happen to earlier ones.
    Tasks = 5,
    /// What came of tasks.
    Results = 6,
    /// To a node: the pool is to end, in good order or not. The answer is the same.
    Close = 7,
    Closed = 8,
    /// To a node that has not been heard of; the answer.
    Ping = 9,
    Pong = 10,
    /// To a node: it is to end; the answer, the last frame.
    Bye = 11,
    /// What follows is a block of this pool's, whose bytes travel apart; and how long it is.
    Block = 12,
}

impl FrameKind {
    pub(crate) fn of(number: u64) -> Option<FrameKind> {
        use FrameKind::*;
        let all = [Hello, Open, Opened, Failed, Tasks, Results, Close, Closed, Ping, Pong, Bye, Block];
        all.into_iter().find(|kind| *kind as u64 == number)
    }
}

/// What is on the other side of the exchange: a pool at rank 0.
pub(crate) trait Hand: Send + Sync {
    /// The frame that is ready for a node, with its blocks, if there is one.
    fn take_parcel(&self, node: usize) -> Option<Parcel>;
    /// A place for a block that a node is about to send; `None` where there is no memory.
    fn place_for(&self, length: usize) -> Option<Block>;
    /// The block has come; nothing where it had no place.
    fn has_come(&self, node: usize, block: Option<Block>);
    /// A node has sent something about this pool.
    fn deal_with(&self, node: usize, kind: FrameKind, body: &mut Reader<'_>) -> Result<()>;
    /// A node will never answer again.
    fn has_lost(&self, node: usize, why: &crate::Error);
    /// How many bytes the node has to deal with before it answers; nothing where it has nothing to answer.
    fn awaits(&self, node: usize) -> Option<usize>;
}
