//! The work of one map or loop: many items, a few chunks at a time, one state for each item.
//!
//! The thread that calls makes the chunks, takes them back when they have settled, and calls its callbacks; workers
//! see a chunk as one task. A chunk whose worker died is taken apart: what had finished keeps its results, the item
//! that was running is the culprit, the rest becomes another chunk. So the chunk size decides nothing but speed. Towards the
//! end a chunk may be split ([`super::split`]): it ends after the item it is at, and its rest is shared out.

use super::memory::{Layout, Sent};
use super::schedule::{CARRIED_BYTES, ChunkSizes, Schedule};
use super::{Failure, Map, MapCall};
use crate::error::{Code, Error, Result};
use crate::pool::ledger::{Delivery, InputPlace, NewTask, Outcome, Owner, Rare, to_c_string};
use crate::pool::state::PoolState;
use crate::pool::wait::{Want, wait};
use crate::pool::{Inner, Pool};
use crate::sys::clock::Timeout;
use crate::sys::clock::now_ns;
use crate::task::call::{CallKind, Chunk};
use crate::task::function::Callee;
use std::collections::{HashMap, VecDeque};

/// How much work is handed out in advance, for each worker.
const AHEAD_NS: u64 = 200_000;
/// And how much of what has to be copied, for each worker: with each of [`LEAST_AHEAD`] chunks of the longest that is measured.
const AHEAD_BYTES: usize = LEAST_AHEAD * CARRIED_BYTES;
/// So many chunks are handed out for each worker whatever they take: with one of them it would wait for the next.
const LEAST_AHEAD: usize = 2;

/// A chunk that has settled: its place in the ledger, and what came of it.
type Settled = (u32, Sent, Outcome);

pub(super) struct Job<'p, 'a> {
    pub(super) pool: &'p Pool,
    pub(super) map: Map<'a>,
    pub(super) number: usize,
    pub(super) callee: Callee,
    pub(super) kind: CallKind,
    pub(super) input: (usize, usize),
    pub(super) output: (usize, usize),
    pub(super) begin: usize,
    /// The arrays are not in the heap, so their bytes travel.
    pub(super) carry_input: bool,
    pub(super) carry_output: bool,
    pub(super) context: usize,
    pub(super) next: usize,
    pub(super) again: VecDeque<(usize, usize)>,
    pub(super) sent: HashMap<u32, Sent>,
    pub(super) spare: Vec<(usize, usize)>,
    pub(super) sizes: ChunkSizes,
    pub(super) dealt_with: usize,
    pub(super) failed: usize,
    /// Of these two, how many the pool's counters have.
    pub(super) counted: (usize, usize),
    pub(super) deadline_ns: u64,
    /// Items with which processes have died in a map that runs them again, and how many.
    pub(super) retried: HashMap<usize, u32>,
    /// Items in front of which workers have come to nothing, as these say: see [`TO_BLAME`].
    pub(super) suspicion: HashMap<usize, u32>,
}

impl<'p, 'a> Job<'p, 'a> {
    pub(super) fn new(
        pool: &'p Pool,
        map: Map<'a>,
        number: usize,
        callee: Callee,
        kind: CallKind,
    ) -> Job<'p, 'a> {
        let (input, output, begin) = match &map.call {
            MapCall::Items { input, output, .. } => {
                ((input.0.expose_provenance(), input.1), (output.0.expose_provenance(), output.1), 0)
            }
            MapCall::Range { begin, .. } => ((0, 0), (0, 0), *begin),
        };
        let deadline_ns = match map.item_deadline_ns {
            0 => pool.inner.deadline_ns,
            u64::MAX => 0,
            deadline_ns => deadline_ns,
        };
        Job {
            pool,
            map,
            number,
            callee,
            kind,
            input,
            output,
            begin,
            carry_input: false,
            carry_output: false,
            context: 0,
            next: 0,
            again: VecDeque::new(),
            sent: HashMap::new(),
            spare: Vec::new(),
            sizes: ChunkSizes::new((Schedule::Measured, 0), 1, 0, (0, 0), 0),
            dealt_with: 0,
            failed: 0,
            counted: (0, 0),
            deadline_ns,
            retried: HashMap::new(),
            suspicion: HashMap::new(),
        }
    }

    pub(super) fn run(&mut self, inner: &Inner) -> Result<()> {
        let done = self.deal_with_all(inner);
        if done.is_err() {
            self.call_back(inner);
            self.cancel_rest();
        }
        done
    }

    /// How many calls of the function a chunk of so many items takes.
    pub(super) fn calls_of(&self, count: usize) -> usize {
        if self.kind == CallKind::Range { 1 } else { count }
    }

    /// Items that have failed.
    pub(super) fn failed(&self) -> usize {
        self.failed
    }

    fn deal_with_all(&mut self, inner: &Inner) -> Result<()> {
        while self.dealt_with < self.map.count {
            self.send_chunks(inner)?;
            for (_, sent, outcome) in self.wait_for_chunks(inner)? {
                self.take_in(&sent, outcome);
                self.spare.push((sent.block, sent.block_bytes));
            }
            if self.map.stop_on_failure && self.failed > 0 {
                self.call_back(inner);
                self.cancel_rest();
            }
            if let Some(progress) = &mut self.map.progress {
                progress(self.dealt_with);
            }
        }
        Ok(())
    }

    /// What has not been handed out never will be.
    fn cancel_rest(&mut self) {
        let fresh = (self.next, self.map.count - self.next);
        self.next = self.map.count;
        let rest: Vec<(usize, usize)> = self.again.drain(..).chain([fresh]).collect();
        let layout = Layout { messages: 0, messages_bytes: 0, status: 0, input: 0, output: 0 };
        for (first, count) in rest.into_iter().filter(|(_, count)| *count > 0) {
            let calls = self.calls_of(count);
            let sent = Sent { first, count, block: 0, block_bytes: 0, layout };
            for call in 0..calls {
                let failure = Failure {
                    item: self.begin + first + call,
                    status: -libc::ECANCELED,
                    message: to_c_string(b"cancelled before it began"),
                    delivery: self.delivery_of(first + call, Delivery::NotStarted),
                    death: None,
                    deaths: self.deaths_of(first + call),
                };
                self.fail(&sent, failure);
            }
        }
    }

    fn bytes_under_way(&self) -> usize {
        self.sent.values().map(|sent| sent.block_bytes).sum()
    }

    /// Hands out as many chunks as keep the workers busy for a while.
    fn send_chunks(&mut self, inner: &Inner) -> Result<()> {
        match self.make_chunks(inner)? {
            ready if ready.is_empty() => Ok(()),
            ready => self.submit_chunks(inner, ready),
        }
    }

    /// So many chunks, of which nobody else knows yet.
    fn make_chunks(&mut self, inner: &Inner) -> Result<Vec<(Sent, Chunk)>> {
        let deep = (AHEAD_NS / self.sizes.chunk_ns.max(1)).clamp(LEAST_AHEAD as u64, 60) as usize;
        let mut ready = Vec::new();
        let carries = self.carry_input || self.carry_output;
        let mut bytes = if carries { self.bytes_under_way() } else { 0 };
        loop {
            let under_way = self.sent.len() + ready.len();
            let has_enough = bytes >= inner.workers * AHEAD_BYTES && under_way >= inner.workers * LEAST_AHEAD;
            if under_way >= inner.workers * deep || has_enough {
                break;
            }
            if ready.try_reserve(1).is_err() {
                if self.sent.is_empty() && ready.is_empty() {
                    return Err(Code::errno(libc::ENOMEM).into());
                }
                break;
            }
            let Some((first, count)) = self.next_chunk() else { break };
            match self.make_chunk(first, count) {
                Ok(made) => {
                    bytes += if carries { made.0.block_bytes } else { 0 };
                    ready.push(made);
                }
                Err(error) => {
                    let nothing_under_way = self.sent.is_empty() && ready.is_empty();
                    if !self.spare.is_empty() {
                        self.free_spare();
                    } else if !nothing_under_way {
                        // What is on its way will give its memory back.
                        self.again.push_front((first, count));
                        break;
                    } else if count == 1 || self.kind == CallKind::Range {
                        return Err(error);
                    } else {
                        // The chunk size decides nothing but speed: a smaller one may fit.
                        self.again.push_front((first + count / 2, count - count / 2));
                        self.again.push_front((first, count / 2));
                        self.sizes.at_most(count / 2);
                        continue;
                    }
                    self.again.push_front((first, count));
                }
            }
        }
        Ok(ready)
    }

    /// Gives the chunks to the pool. Those for which there is no memory are made again later, or are an error where nothing is
    /// on its way.
    fn submit_chunks(&mut self, inner: &Inner, ready: Vec<(Sent, Chunk)>) -> Result<()> {
        let mut failure = None;
        let mut state = inner.lock();
        for (sent, chunk) in ready {
            let bytes = chunk.to_bytes();
            let entered = self.make_room(&mut state).and_then(|()| {
                state.ledger.enter(NewTask {
                    deadline_ns: self.deadline_ns,
                    rare: Some(Rare::new(0, 0, None, None)?),
                    owner: Owner::job(self.number),
                    ..NewTask::new(self.kind, self.callee, InputPlace::Inline, &bytes)
                })
            });
            let index = match entered {
                Ok((index, _)) => index,
                Err(error) => {
                    self.again.push_back((sent.first, sent.count));
                    self.spare.push((sent.block, sent.block_bytes));
                    failure.get_or_insert(error);
                    continue;
                }
            };
            self.sent.insert(index, sent);
            state.enqueue(index);
        }
        self.write_rest(&state, &[]);
        // Whoever leads sleeps until a result comes.
        if state.waiters.desk.is_led() {
            state.pump(false);
        }
        match failure {
            Some(error) if self.sent.is_empty() => Err(error),
            // What is on its way will give its memory back.
            _ => Ok(()),
        }
    }

    /// Room to note that one more chunk is on its way, and that it has settled.
    fn make_room(&mut self, state: &mut PoolState) -> Result<()> {
        let no_memory = |_| Error::from(Code::errno(libc::ENOMEM));
        self.sent.try_reserve(1).map_err(no_memory)?;
        state.maps.make_room(self.number, self.sent.len() + 1)
    }

    /// The next items to hand out: what has come back first, then a part of what has not been handed out.
    fn next_chunk(&mut self) -> Option<(usize, usize)> {
        let fresh = self.map.count - self.next;
        if let Some((first, returned)) = self.again.pop_front() {
            // A chunk of a range is one call, which is not taken apart once it has been made.
            let whole = self.kind == CallKind::Range;
            let count = if whole { returned } else { self.sizes.of_returned(returned, fresh) };
            if count < returned {
                self.again.push_front((first + count, returned - count));
            }
            return Some((first, count));
        }
        if fresh == 0 {
            return None;
        }
        let first = self.next;
        let count = self.sizes.next(fresh);
        self.next += count;
        Some((first, count))
    }

    /// Waits until chunks have settled, and takes them out of the ledger.
    fn wait_for_chunks(&mut self, inner: &Inner) -> Result<Vec<Settled>> {
        let number = self.number;
        let (mut state, settled) = wait(inner, inner.lock(), Want::Job(number), Timeout::Forever, |state| {
            state.maps.has_settled(number).then_some(Ok(()))
        });
        state.submissions.count_items(self.dealt_with - self.counted.0, self.failed - self.counted.1);
        self.counted = (self.dealt_with, self.failed);
        settled?;
        // As many as there is memory for. (Not the list itself: it has room for those that are still to settle.)
        let mut out = Vec::new();
        while out.try_reserve(1).is_ok()
            && let Some(index) = state.maps.take(number)
        {
            let outcome = state.ledger.get_mut(index).take_chunk_outcome();
            match (self.sent.remove(&index), outcome) {
                (Some(sent), Some(outcome)) => out.push((index, sent, outcome)),
                _ => state.ledger.close(index),
            }
        }
        self.write_rest(&state, &out);
        out.iter().for_each(|(index, ..)| state.ledger.close(*index));
        Ok(out)
    }

    /// Writes down, where that is done, which items are in no chunk. Those that a chunk has come back without are as good as begun, until it has
    /// been dealt with.
    fn write_rest(&self, state: &PoolState, back: &[Settled]) {
        let Some(book) = &state.ledger.book else { return };
        let again =
            self.again.iter().map(|(first, count)| (*first, *count, self.retried.contains_key(first)));
        let fresh = [(self.next, self.map.count - self.next, false)];
        let back = back.iter().map(|(_, sent, outcome)| {
            let finished = match usize::try_from(outcome.items) {
                Ok(0) => 0,
                _ if self.kind == CallKind::Range => sent.count,
                items => items.unwrap_or(usize::MAX).min(sent.count),
            };
            (sent.first + finished, sent.count - finished, true)
        });
        let all = again.chain(fresh).chain(back);
        book.put_ranges(
            self.number,
            all.map(|(first, count, may)| ((self.begin + first) as u64, count as u64, may)),
        );
    }

    /// Something ended the wait: takes back what has not begun, waits for what has, and deals with both.
    fn call_back(&mut self, inner: &Inner) {
        let mut state = inner.lock();
        for index in self.sent.keys() {
            if !state.cancel_unbegun(*index) {
                state.split(*index);
            }
        }
        state.tell_what_is_due(now_ns());
        state.leave();
        drop(state);
        while !self.sent.is_empty() {
            // A further signal changes nothing: the chunks' memory must not go before them.
            for (_, sent, outcome) in self.wait_for_chunks(inner).unwrap_or_default() {
                self.take_in(&sent, outcome);
                self.spare.push((sent.block, sent.block_bytes));
            }
        }
    }

    pub(super) fn clean_up(&mut self, inner: &Inner) {
        if !self.sent.is_empty() {
            self.call_back(inner);
        }
        self.give_memory_back();
        let mut state = inner.lock();
        state.maps.close(self.number);
        if let Some(book) = &mut state.ledger.book {
            book.end_map(self.number);
        }
        state.submissions.count_items(self.dealt_with - self.counted.0, self.failed - self.counted.1);
        state.wake_waiters(); // A shutdown waits for maps, too.
    }
}
