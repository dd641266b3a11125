//! A pool and its nodes: their frames, and their beginning and end.

use super::NodeState;
use crate::cluster::block::Block;
use crate::cluster::peer::{Frame, Parcel};
use crate::cluster::{FrameKind, Hand};
use crate::error::{Code, Error, Result};
use crate::pool::{Inner, Pool, PoolOptions};
use crate::sys::clock::{Deadline, now_ns};
use crate::task::wire::Reader;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, Weak};

impl Hand for Inner {
    fn take_parcel(&self, node: usize) -> Option<Parcel> {
        self.lock().remote.as_mut()?.take_parcel(node)
    }

    fn place_for(&self, length: usize) -> Option<Block> {
        // A chunk's outputs are only copied from there.
        Block::allocate(&self.heap, length).or_else(|_| Block::private(&self.heap, length)).ok()
    }

    fn has_come(&self, node: usize, block: Option<Block>) {
        if let Some(remote) = &mut self.lock().remote {
            remote.nodes[node].note_block(block);
        }
    }

    fn deal_with(&self, node: usize, kind: FrameKind, body: &mut Reader<'_>) -> Result<()> {
        let mut state = self.lock();
        // What it has given up has settled: nothing that a node still says of it can be wrong.
        if state.remote.as_ref().is_none_or(|remote| remote.is_void.load(Ordering::Acquire)) {
            return Ok(());
        }
        match kind {
            FrameKind::Opened => state.node_has_opened(node, body)?,
            FrameKind::Failed => {
                let (code, text) = (Code(body.number()? as i32), body.text()?);
                state.life.break_down(Error::new(code, text));
                state.abandon_queue();
            }
            FrameKind::Results => {
                let taken = state.take_results(node, body);
                state.stop_streams();
                state.feed_nodes();
                taken?;
            }
            FrameKind::Closed => {
                if let Some(remote) = &mut state.remote {
                    remote.nodes[node].closed = true;
                    remote.closed.notify_all();
                }
            }
            _ => return Err(Error::errno(libc::EPROTO, format!("a node sent a frame of the kind {kind:?}"))),
        }
        state.wake_waiters();
        state.update_event_fd();
        Ok(())
    }

    fn has_lost(&self, node: usize, why: &Error) {
        let mut state = self.lock();
        state.lose_node(node, why);
        state.stop_streams();
        state.feed_nodes();
        state.wake_waiters();
        state.update_event_fd();
    }

    fn awaits(&self, node: usize) -> Option<usize> {
        let state = self.lock();
        let is_closing = state.life.is_stopping();
        let node = &state.remote.as_ref()?.nodes[node];
        let awaits = node.tasks > 0 || node.state == NodeState::Opening || is_closing && !node.closed;
        awaits.then_some(node.bytes)
    }
}

impl Pool {
    /// Has the nodes make their pools.
    pub(in crate::pool) fn open_nodes(&self, options: &PoolOptions<'_>) -> Result<()> {
        let state = self.inner.lock();
        let Some(remote) = &state.remote else { return Ok(()) };
        let (exchange, number, count) = (Arc::clone(&remote.exchange), remote.number, remote.nodes.len());
        drop(state);
        let this: Weak<Inner> = Arc::downgrade(&self.inner);
        exchange.introduce(number, this);
        let mut frame = Frame::new(FrameKind::Open, number);
        crate::pool::node_options::write_options(frame.body(), options)?;
        let frame = frame.finish();
        (0..count).for_each(|node| exchange.post(node, frame.clone()));
        Ok(())
    }

    /// Has the nodes end their pools, and waits until they have.
    pub(in crate::pool) fn close_nodes(&self, deadline: Deadline) {
        let mut state = self.inner.state.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(remote) = &state.remote else { return };
        let (exchange, number, closed) =
            (Arc::clone(&remote.exchange), remote.number, Arc::clone(&remote.closed));
        for (at, node) in remote.nodes.iter().enumerate().filter(|(_, node)| !node.closed) {
            let _ = node;
            let mut frame = Frame::new(FrameKind::Close, number);
            frame.body().number(deadline.0.saturating_sub(now_ns()));
            exchange.post(at, frame.finish());
        }
        loop {
            let left_ns = deadline.0.saturating_sub(now_ns());
            let done = state.remote.as_ref().is_none_or(|remote| remote.nodes.iter().all(|node| node.closed));
            if done || left_ns == 0 {
                break;
            }
            let left = std::time::Duration::from_nanos(left_ns);
            state = closed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        drop(state);
        exchange.forget(number);
    }
}
