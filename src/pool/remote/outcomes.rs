//! What becomes of tasks on nodes: they are sent, their results are taken, and they are lost with their node.

use super::chunk::take_chunk;
use super::{NodeState, NodeStats, node_of, place_of, weight};
use crate::error::{Code, Error, Result};
use crate::pool::ledger::{Delivery, Outcome, OutputPlace, TaskState, to_c_string};
use crate::pool::parcel::{End, read_bytes, read_outcome};
use crate::pool::state::PoolState;
use crate::task::call::{CallKind, Chunk};
use crate::task::function::Tables;
use crate::task::wire::Reader;
use std::sync::atomic::Ordering;

/// There is no memory for the output of a task.
fn has_no_output(outcome: &mut Outcome, why: &Error) {
    outcome.status = why.code().0;
    outcome.message = to_c_string(format!("the task's output: {}", why.text()).as_bytes());
}

impl PoolState {
    /// Gives tasks to nodes that have room.
    pub(in crate::pool) fn feed_nodes(&mut self) {
        let Some(mut remote) = self.remote.take() else { return };
        let mut any = false;
        while let Some(index) = self.queue.chain.first() {
            let Some(at) = remote.next_node() else { break };
            self.take_front();
            let put = match self.family.callees() {
                Some(callees) => remote.put(at, index, &self.ledger, callees, &self.heap),
                None => Err(Code::WORKER_START.into()),
            };
            match put {
                Ok(()) => {
                    self.ledger.get_mut(index).state = TaskState::Sent(place_of(at));
                    // Its bytes leave when the pool's lock is free again.
                    if let Some(book) = &self.ledger.book {
                        book.sent(index, at + 1);
                    }
                }
                Err(error) if error.code().0 == -libc::ENOMEM && self.ledger.outstanding > 1 => {
                    self.requeue(vec![index]); // What is under way gives its memory back.
                    break;
                }
                Err(error) => self.settle(index, Outcome::not_started(&error)),
            }
            any = true;
        }
        if any {
            remote.exchange.ring();
        }
        self.remote = Some(remote);
    }

    /// Asks the node that a task is on to end it.
    pub(in crate::pool) fn end_on_node(&mut self, place: u32, index: u32, how: End) {
        let id = self.ledger.id_of(index).0;
        if let (Some(node), Some(remote)) = (node_of(place), &mut self.remote) {
            remote.end(node, id, how);
        }
    }

    pub(super) fn take_results(&mut self, at: usize, body: &mut Reader<'_>) -> Result<()> {
        let stats = NodeStats::read(body)?;
        let (mut results, mut bytes, mut is_short) = (0, 0, false);
        if let Some(remote) = &mut self.remote {
            remote.nodes[at].stats = stats;
        }
        while !body.0.is_empty() {
            let id = body.number()?;
            let (mut outcome, deaths) = read_outcome(body)?;
            let index = self.ledger.sent_to(id, place_of(at));
            let index = index.ok_or_else(|| {
                Error::errno(libc::EPROTO, format!("a result of {id:#x}, which is not there"))
            })?;
            bytes += weight(&self.ledger, index);
            let entry = self.ledger.get(index);
            if entry.kind == CallKind::Task {
                match read_bytes(body)? {
                    Some(output) => self.put_output(index, output, &mut outcome),
                    None => self.take_output(at, &mut outcome)?,
                }
            } else {
                let (kind, chunk) = (entry.kind, Chunk::from_bytes(self.ledger.inline_input(index))?);
                let Some(remote) = &mut self.remote else { return Ok(()) };
                let next_block = || remote.nodes[at].next_block();
                outcome.messages_length = take_chunk(body, kind, &chunk, outcome.items, next_block)?;
            }
            let is_a_callers = self.ledger.get(index).job().is_none();
            if let Some(death) = &mut outcome.death {
                death.task = if is_a_callers { id } else { 0 };
            }
            if self.had_no_memory(at, index, &outcome) {
                self.requeue(vec![index]);
                (results, is_short) = (results + 1, true);
                continue;
            }
            self.ledger.get_mut(index).deaths += deaths;
            if outcome.delivery != Delivery::NotStarted {
                self.note_begin(index, outcome.death.as_ref().map_or(0, |death| death.pid));
            }
            self.settle(index, outcome);
            results += 1;
        }
        if let Some(remote) = self.remote.as_mut().filter(|_| results > 0) {
            remote.measure(at, results, bytes, is_short);
        }
        Ok(())
    }

    /// Whether a node has had no memory for a task that did not have its heap for itself: then the task is to be sent again.
    fn had_no_memory(&mut self, at: usize, index: u32, outcome: &Outcome) -> bool {
        let is_short = outcome.status == -libc::ENOMEM && outcome.delivery == Delivery::NotStarted;
        let Some(remote) = self.remote.as_mut().filter(|_| is_short && self.life.broken().is_none()) else {
            return false;
        };
        let node = &mut remote.nodes[at];
        if node.alone == Some(index) {
            return false;
        }
        if !self.ledger.get(index).unwanted {
            node.has_had_no_memory(weight(&self.ledger, index));
        }
        true
    }

    /// The output of a task that has come back.
    fn put_output(&mut self, index: u32, bytes: &[u8], outcome: &mut Outcome) {
        if bytes.len() <= crate::task::ring::INLINE_INPUT {
            self.ledger.put_inline(index, bytes);
            (outcome.output, outcome.output_length) = (OutputPlace::Inline, bytes.len());
            return;
        }
        match self.heap.allocate(bytes.len()) {
            Ok(block) => {
                // SAFETY: a new block, as long as the output.
                unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), block.as_ptr(), bytes.len()) };
                outcome.output = OutputPlace::Heap(block.as_ptr().expose_provenance());
                outcome.output_length = bytes.len();
            }
            Err(error) => {
                let error = Error::new(error.code(), format!("{} bytes: {}", bytes.len(), error.text()));
                has_no_output(outcome, &error);
            }
        }
    }

    /// The output of a task that has come back as a block.
    fn take_output(&mut self, at: usize, outcome: &mut Outcome) -> Result<()> {
        let Some(remote) = &mut self.remote else { return Ok(()) };
        let block = remote.nodes[at].next_block();
        match block.and_then(|block| Ok((block.length(), block.keep()?))) {
            Ok((length, address)) => {
                outcome.output_length = length;
                outcome.output = OutputPlace::Heap(address);
            }
            Err(error) if error.code().0 == -libc::ENOMEM => has_no_output(outcome, &error),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// A node will never answer again: what it had may have run, and what was not sent yet runs elsewhere.
    pub(super) fn lose_node(&mut self, at: usize, why: &Error) {
        let Some(remote) = &mut self.remote else { return };
        let node = &mut remote.nodes[at];
        if node.state == NodeState::Lost {
            return;
        }
        let unsent = node.outbox.drain(..).flat_map(|out| out.tasks).collect();
        node.blocks.clear();
        node.unnoted = 0;
        (node.state, node.tasks, node.bytes, node.closed) = (NodeState::Lost, 0, 0, true);
        remote.reckon(at);
        remote.closed.notify_all();
        let any = remote.nodes.iter().any(|node| node.state != NodeState::Lost);
        self.requeue(unsent);
        for index in self.ledger.places() {
            if self.ledger.get(index).state == TaskState::Sent(place_of(at)) {
                self.lose_task(index, why);
            }
        }
        if !any {
            self.life.break_down(Error::new(Code::WORKER_START, format!("no node is left: {}", why.text())));
            self.abandon_queue();
        }
    }

    /// What was on a node that is lost.
    fn lose_task(&mut self, index: u32, why: &Error) {
        let entry = self.ledger.get_mut(index);
        entry.deaths += 1;
        if let (false, Some(rare)) = (entry.unwanted, entry.rare.as_mut().filter(|rare| rare.retries > 0)) {
            rare.retries -= 1;
            self.begins_again(index);
            self.requeue(vec![index]);
            return;
        }
        self.note_begin(index, 0);
        let mut outcome = Outcome::new(Code::DIED.0, Delivery::MaybeRan);
        outcome.message = to_c_string(why.text().as_bytes());
        self.settle(index, outcome);
    }

    /// The pool ends: whatever is on a node is given up.
    pub(in crate::pool) fn abandon_nodes(&mut self) {
        let Some(remote) = &mut self.remote else { return };
        // What is on its way may have another content from here on, so nothing is to be made of it.
        remote.is_void.store(true, Ordering::Release);
        remote.nodes.iter_mut().for_each(|node| node.outbox.clear());
        let why = Error::new(Code::DIED, "the pool was ended");
        for index in self.ledger.places() {
            if matches!(self.ledger.get(index).state, TaskState::Sent(place) if node_of(place).is_some()) {
                self.ledger.get_mut(index).unwanted = true;
                self.lose_task(index, &why);
            }
        }
    }

    pub(super) fn node_has_opened(&mut self, at: usize, body: &mut Reader<'_>) -> Result<()> {
        let workers = usize::try_from(body.number()?).unwrap_or(1).max(1);
        let tables = Tables::decode(body)?;
        let Some(remote) = &mut self.remote else { return Ok(()) };
        let node = &mut remote.nodes[at];
        if node.state == NodeState::Opening {
            (node.state, node.workers, node.stats.ready) = (NodeState::Ready, workers, workers as u64);
            remote.reckon(at);
        }
        if !std::mem::replace(&mut remote.has_tables, true)
            && let Some(callees) = self.family.callees_mut()
        {
            callees.set_tables(tables);
        }
        Ok(())
    }
}
