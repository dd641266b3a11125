//! The work of one map or loop: many items, a few chunks at a time, one state for each item.
//!
//! The thread that calls makes the chunks, takes them back when they have settled, and calls its callbacks; workers
//! see a chunk as one task. A chunk whose worker died is taken apart: what had finished keeps its results, the item
//! that was running is the culprit, the rest becomes another chunk. So the chunk size decides nothing but speed. Towards the
//! end a chunk may be split ([`super::split`]): it ends after the item it is at, and its rest is shared out.

use super::ending::Ending;
use super::ledger::{Delivery, Input, NewTask, Outcome, TO_BLAME, suspicion_after, to_c_string};
use super::map::{Failure, Map, MapCall};
use super::schedule::{ChunkSizes, Schedule};
use super::state::State;
use super::wait::{Want, wait};
use super::{Inner, Pool};
use crate::check;
use crate::error::{Code, Error, Result};
use crate::heap::Heap;
use crate::sys::clock::Timeout;
use crate::sys::reserve;
use crate::task::call::{Chunk, Kind, messages};
use crate::task::function::Callee;
use std::collections::{HashMap, VecDeque};

/// How much work is handed out in advance, for each worker.
const AHEAD_NS: u64 = 200_000;

/// A chunk on its way: which items, and where its memory in the heap is.
struct Sent {
    first: usize,
    count: usize,
    block: usize,
    block_bytes: usize,
    layout: Layout,
}

/// Where things are in a chunk's block.
#[derive(Clone, Copy)]
struct Layout {
    messages: usize,
    messages_bytes: usize,
    status: usize,
    input: usize,
    output: usize,
}

pub(super) struct Job<'p, 'a> {
    pool: &'p Pool,
    map: Map<'a>,
    number: usize,
    callee: Callee,
    kind: Kind,
    input: (usize, usize),
    output: (usize, usize),
    begin: usize,
    /// The arrays are not in the heap, so their bytes travel.
    carry_input: bool,
    carry_output: bool,
    context: usize,
    next: usize,
    again: VecDeque<(usize, usize)>,
    sent: HashMap<u32, Sent>,
    spare: Vec<(usize, usize)>,
    pieces: ChunkSizes,
    dealt_with: usize,
    failed: usize,
    /// Of these two, how many the pool's counters have.
    counted: (usize, usize),
    deadline_ns: u64,
    /// Items that have been run again, and how often.
    retried: HashMap<usize, u32>,
    /// Items in front of which workers have come to nothing, as these say: see [`TO_BLAME`].
    suspicion: HashMap<usize, u32>,
}

impl<'p, 'a> Job<'p, 'a> {
    pub(super) fn new(
        pool: &'p Pool,
        map: Map<'a>,
        number: usize,
        callee: Callee,
        kind: Kind,
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
            pieces: ChunkSizes::new((Schedule::Measured, 0), 1, 0, (0, 0), 0),
            dealt_with: 0,
            failed: 0,
            counted: (0, 0),
            deadline_ns,
            retried: HashMap::new(),
            suspicion: HashMap::new(),
        }
    }

    /// Finds out what is in the heap, and copies the context there.
    pub(super) fn prepare(&mut self) -> Result<()> {
        if check::is_on() {
            self.look_through();
        }
        self.carry_input = self.must_be_carried("in", self.input)?;
        self.carry_output = self.must_be_carried("out", self.output)?;
        let each = |carried: bool, stride: usize| if carried { stride } else { 0 };
        let carried = each(self.carry_input, self.input.1) + each(self.carry_output, self.output.1);
        self.pieces = ChunkSizes::new(
            (self.map.schedule, self.map.chunk),
            self.pool.inner.workers,
            self.map.count,
            (carried, self.input.1 + self.output.1),
            self.map.chunk_bytes,
        );
        let context = self.map.context;
        if context.is_empty() {
            return Ok(());
        }
        let heap = &self.pool.inner.heap;
        let address = context.as_ptr().expose_provenance();
        if heap.contains(address, context.len()) {
            self.context = address;
            return Ok(());
        }
        if heap.overlaps(address, context.len()) {
            let text = format!("the map's context at {address:#x} reaches beyond the heap");
            return Err(Error::errno(libc::EFAULT, text));
        }
        let block = heap.allocate(context.len())?;
        // SAFETY: a new block, as long as the context.
        unsafe { std::ptr::copy_nonoverlapping(context.as_ptr(), block.as_ptr(), context.len()) };
        self.context = block.as_ptr().expose_provenance();
        Ok(())
    }

    /// Looks for pointers to the host's own memory in the items and in the context.
    #[cold]
    fn look_through(&self) {
        let name = self.map.function().describe();
        check::look_through(self.map.context, || format!("map ({name}), context"));
        let (address, stride) = self.input;
        for item in (0..self.map.count).filter(|_| address != 0) {
            let place = std::ptr::with_exposed_provenance::<u8>(address + item * stride);
            // SAFETY: the map's input has an item at each stride, and stays as it is until tine_map returns: its text
            // asks for that.
            let bytes = unsafe { std::slice::from_raw_parts(place, stride) };
            if check::look_through(bytes, || format!("item {item} of a map ({name}), input")) {
                // The others are most likely the same.
                break;
            }
        }
    }

    fn must_be_carried(&self, name: &str, (address, stride): (usize, usize)) -> Result<bool> {
        let heap = &self.pool.inner.heap;
        let length = stride * self.map.count;
        if address == 0 || length == 0 {
            return Ok(false);
        }
        if heap.contains(address, length) {
            return Ok(false);
        }
        if heap.overlaps(address, length) {
            let text = format!("the map's {name} at {address:#x} reaches beyond the heap");
            return Err(Error::errno(libc::EFAULT, text));
        }
        Ok(true)
    }

    pub(super) fn run(&mut self, inner: &Inner) -> Result<()> {
        let done = self.deal_with_all(inner);
        if done.is_err() {
            self.call_back(inner);
            self.cancel_rest();
        }
        done
    }

    /// Items that have failed.
    pub(super) fn failed(&self) -> usize {
        self.failed
    }

    fn deal_with_all(&mut self, inner: &Inner) -> Result<()> {
        while self.dealt_with < self.map.count {
            self.send_chunks(inner)?;
            for (sent, outcome) in self.wait_for_chunks(inner)? {
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
            let pieces = if self.kind == Kind::Range { 1 } else { count };
            let sent = Sent { first, count, block: 0, block_bytes: 0, layout };
            for piece in 0..pieces {
                let failure = Failure {
                    item: self.begin + first + piece,
                    status: -libc::ECANCELED,
                    message: to_c_string(b"cancelled before it began"),
                    delivery: Delivery::NotStarted,
                    death: None,
                };
                self.fail(&sent, failure);
            }
        }
    }

    /// Hands out as many chunks as keep the workers busy for a while.
    fn send_chunks(&mut self, inner: &Inner) -> Result<()> {
        let deep = (AHEAD_NS / self.pieces.piece_ns.max(1)).clamp(2, 60) as usize;
        let mut ready = Vec::new();
        while self.sent.len() + ready.len() < inner.workers * deep {
            if ready.try_reserve(1).is_err() {
                if self.sent.is_empty() && ready.is_empty() {
                    return Err(Code::errno(libc::ENOMEM).into());
                }
                break;
            }
            let Some((first, count)) = self.next_chunk() else { break };
            match self.make_chunk(first, count) {
                Ok(made) => ready.push(made),
                Err(error) => {
                    let nothing_under_way = self.sent.is_empty() && ready.is_empty();
                    if !self.spare.is_empty() {
                        self.free_spare(&inner.heap);
                    } else if !nothing_under_way {
                        // What is on its way will give its memory back.
                        self.again.push_front((first, count));
                        break;
                    } else if count == 1 || self.kind == Kind::Range {
                        return Err(error);
                    } else {
                        // The chunk size decides nothing but speed: a smaller one may fit.
                        self.again.push_front((first + count / 2, count - count / 2));
                        self.again.push_front((first, count / 2));
                        self.pieces.at_most(count / 2);
                        continue;
                    }
                    self.again.push_front((first, count));
                }
            }
        }
        if ready.is_empty() {
            return Ok(());
        }
        let mut failure = None;
        let mut state = inner.lock();
        for (sent, chunk) in ready {
            let bytes = chunk.to_bytes();
            let task = NewTask {
                deadline_ns: self.deadline_ns,
                job: Some(self.number),
                ..NewTask::new(self.kind, self.callee, Input::Inline, &bytes)
            };
            let index = match self.make_room(&mut state).and_then(|()| state.ledger.enter(task)) {
                Ok(index) => index,
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
    fn make_room(&mut self, state: &mut State) -> Result<()> {
        let no_memory = |_| Error::from(Code::errno(libc::ENOMEM));
        self.sent.try_reserve(1).map_err(no_memory)?;
        state.maps.make_room(self.number, self.sent.len() + 1)
    }

    /// The next items to hand out: what has come back first, then a piece of what has not been handed out.
    fn next_chunk(&mut self) -> Option<(usize, usize)> {
        let fresh = self.map.count - self.next;
        if let Some((first, returned)) = self.again.pop_front() {
            // A piece of a range is one call, which is not taken apart once it has been made.
            let whole = self.kind == Kind::Range;
            let count = if whole { returned } else { self.pieces.of_returned(returned, fresh) };
            if count < returned {
                self.again.push_front((first + count, returned - count));
            }
            return Some((first, count));
        }
        if fresh == 0 {
            return None;
        }
        let first = self.next;
        let count = self.pieces.next(fresh);
        self.next += count;
        Some((first, count))
    }

    /// A chunk with its memory.
    fn make_chunk(&mut self, first: usize, count: usize) -> Result<(Sent, Chunk)> {
        let pieces = if self.kind == Kind::Range { 1 } else { count };
        let messages_bytes = messages::room_for(pieces);
        let status = messages_bytes;
        let input = (status + pieces * size_of::<i32>()).next_multiple_of(64);
        let input_bytes = if self.carry_input { count * self.input.1 } else { 0 };
        let output = (input + input_bytes).next_multiple_of(64);
        let output_bytes = if self.carry_output { count * self.output.1 } else { 0 };
        // Chunks of nearly the same length have the same room, so that one's block does for another.
        let block_bytes = output + output_bytes;
        let block_bytes = block_bytes.next_multiple_of((block_bytes.next_power_of_two() / 8).max(64));
        let heap = &self.pool.inner.heap;
        let block = match self.spare.iter().rposition(|(_, bytes)| *bytes == block_bytes) {
            Some(at) => self.spare.swap_remove(at).0,
            None => {
                // None that fits: one that does not goes for it, so that there are never more than have been under way.
                if let Some((block, _)) = self.spare.pop() {
                    let _ = heap.free_address(block);
                }
                heap.allocate(block_bytes)?.as_ptr().expose_provenance()
            }
        };
        let place = |offset: usize| std::ptr::with_exposed_provenance_mut::<u8>(block + offset);
        if self.carry_input {
            let source = std::ptr::with_exposed_provenance::<u8>(self.input.0 + first * self.input.1);
            // SAFETY: the map's input has these items, and stays as it is until tine_map returns: its text asks for
            // that. The block has room for as many bytes, and is another piece of memory.
            unsafe { std::ptr::copy_nonoverlapping(source, place(input), input_bytes) };
        }
        if self.carry_output {
            // Nothing of what the memory held before may come back as an output.
            // SAFETY: room for as many bytes in the block.
            unsafe { place(output).write_bytes(0, output_bytes) };
        }
        let of = |carried: bool, (address, stride): (usize, usize), offset: usize| match (carried, address) {
            (true, _) => block + offset,
            (false, 0) => 0,
            (false, address) => address + first * stride,
        };
        let chunk = Chunk {
            first: (self.begin + first) as u64,
            count: count as u64,
            input: of(self.carry_input, self.input, input) as u64,
            input_stride: self.input.1 as u64,
            output: of(self.carry_output, self.output, output) as u64,
            output_stride: self.output.1 as u64,
            status: (block + status) as u64,
            messages: block as u64,
            messages_bytes: messages_bytes as u64,
            context: self.context as u64,
            context_length: self.map.context.len() as u64,
            stop_on_failure: self.map.stop_on_failure.into(),
        };
        let layout = Layout { messages: 0, messages_bytes, status, input, output };
        Ok((Sent { first, count, block, block_bytes, layout }, chunk))
    }

    /// Waits until chunks have settled, and takes them out of the ledger.
    fn wait_for_chunks(&mut self, inner: &Inner) -> Result<Vec<(Sent, Outcome)>> {
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
            let outcome = state.ledger.get_mut(index).outcome.take();
            state.ledger.close(index);
            if let (Some(sent), Some(outcome)) = (self.sent.remove(&index), outcome) {
                out.push((sent, outcome));
            }
        }
        Ok(out)
    }

    /// Deals with a chunk that has settled.
    fn take_in(&mut self, sent: &Sent, outcome: Outcome) {
        let pieces = if self.kind == Kind::Range { 1 } else { sent.count };
        let finished = usize::try_from(outcome.items).unwrap_or(usize::MAX).min(pieces);
        let died = outcome.status == Code::DIED.0 && outcome.delivery == Delivery::MaybeRan;
        let mut next = finished;
        if finished > 0 {
            self.take_finished(sent, finished, &outcome);
        }
        if died {
            if (outcome.culprit || finished == 0 && self.suspects(sent.first, &outcome)) && finished < pieces
            {
                next += 1;
                let late = outcome.late.filter(|(item, _)| *item == finished as u64);
                if late.is_none() && self.may_run_again(sent.first + finished) {
                    let items = if self.kind == Kind::Range { sent.count } else { 1 };
                    self.again.push_back((sent.first + finished, items));
                } else {
                    let failure = self.ended(self.failure(sent, finished, &outcome), late);
                    self.fail(sent, failure);
                }
            }
        } else if outcome.status < 0 || finished == 0 {
            // The chunk as a whole: it was never started, or its worker does not have the function.
            let status = if outcome.status < 0 { outcome.status } else { -libc::EPROTO };
            for piece in finished..pieces {
                let failure = Failure { status, death: None, ..self.failure(sent, piece, &outcome) };
                self.fail(sent, failure);
            }
            next = pieces;
        } else {
            let items = if self.kind == Kind::Range { sent.count } else { finished };
            self.pieces.measure(items, outcome.elapsed_ns);
        }
        if next < pieces {
            self.again.push_back((sent.first + next, sent.count - next));
        }
    }

    fn failure(&self, sent: &Sent, piece: usize, outcome: &Outcome) -> Failure {
        let item = self.begin + sent.first + piece;
        let mut death = outcome.death.clone();
        if let Some(death) = &mut death {
            death.item = item as u64;
        }
        Failure {
            item,
            status: outcome.status,
            message: outcome.message.clone(),
            delivery: outcome.delivery,
            death,
        }
    }

    /// Takes over the states and outputs of the items of a chunk that have finished.
    fn take_finished(&mut self, sent: &Sent, finished: usize, outcome: &Outcome) {
        let layout = sent.layout;
        let messages_length = outcome.messages_length;
        let place = |offset: usize| std::ptr::with_exposed_provenance_mut::<u8>(sent.block + offset);
        let length = messages_length.min(layout.messages_bytes);
        // SAFETY: the block's room for messages. Its bytes are the worker's, who has finished with them; they are
        // copied once, so that what is read is what was checked.
        let texts = unsafe { std::slice::from_raw_parts(place(layout.messages), length) };
        // Where memory is short, failures without their texts are better than no map.
        let texts = reserve::collect(texts.iter().copied()).unwrap_or_default();
        let mut texts = texts.as_slice();
        for piece in 0..finished {
            // SAFETY: the block has an `i32` for each item; it is read once.
            let status = unsafe { place(layout.status).cast::<i32>().add(piece).read_volatile() };
            let late = outcome.late.filter(|(item, _)| *item == piece as u64);
            if status < 0 || late.is_some() {
                let message = match messages::read(texts) {
                    Some((item, text, rest)) if item == piece as u64 => {
                        texts = rest;
                        to_c_string(text)
                    }
                    _ => None,
                };
                let item = self.begin + sent.first + piece;
                let delivery = Delivery::Ran;
                let failure = Failure { item, status, message, delivery, death: None };
                self.fail(sent, self.ended(failure, late));
                continue;
            }
            if self.carry_output {
                let stride = self.output.1;
                let target = std::ptr::with_exposed_provenance_mut::<u8>(
                    self.output.0 + (sent.first + piece) * stride,
                );
                // SAFETY: the map's output has a place at each stride, until tine_map returns: its text asks for
                // that. The block has as many bytes of this item's output, and is another piece of memory.
                unsafe {
                    std::ptr::copy_nonoverlapping(place(layout.output + piece * stride), target, stride)
                };
            }
            self.note(sent, self.begin + sent.first + piece, status);
        }
        debug_assert!(layout.input <= layout.output);
    }

    /// An item that was ended has failed for that reason, whatever else is known.
    fn ended(&self, failure: Failure, late: Option<(u64, i32)>) -> Failure {
        let Some((_, status)) = late else { return failure };
        let said = failure.message.filter(|_| failure.delivery == Delivery::Ran && failure.status < 0);
        let text = Ending::text_of(status, failure.delivery);
        Failure { status, message: said.or_else(|| to_c_string(text.as_bytes())), ..failure }
    }

    /// Whether the first item of a chunk is to blame for the end of its worker, who says that none had begun.
    fn suspects(&mut self, item: usize, outcome: &Outcome) -> bool {
        let signal = outcome.death.as_ref().map_or(libc::SIGKILL, |death| death.signal);
        let suspicion = self.suspicion.entry(item).or_default();
        *suspicion += suspicion_after(signal);
        *suspicion >= TO_BLAME
    }

    fn may_run_again(&mut self, item: usize) -> bool {
        if self.map.retries == 0 {
            return false;
        }
        let retried = self.retried.entry(item).or_default();
        *retried += 1;
        *retried <= self.map.retries
    }

    fn fail(&mut self, sent: &Sent, failure: Failure) {
        self.failed += if self.kind == Kind::Range { sent.count } else { 1 };
        self.note(sent, failure.item, failure.status);
        if let Some(on_failure) = &mut self.map.on_failure {
            on_failure(&failure);
        }
    }

    /// Writes the state of an item, or of all items of a piece.
    fn note(&mut self, sent: &Sent, item: usize, status: i32) {
        let items = if self.kind == Kind::Range { sent.count } else { 1 };
        self.dealt_with += items;
        if !self.map.status.is_null() {
            for at in item - self.begin..item - self.begin + items {
                // SAFETY: `.status` is not null, so it has an `int` for each item: its text asks for that.
                unsafe { self.map.status.add(at).write(status) };
            }
        }
    }

    /// Something ended the wait: takes back what has not begun, waits for what has, and deals with both.
    fn call_back(&mut self, inner: &Inner) {
        let mut state = inner.lock();
        for index in self.sent.keys() {
            if !state.cancel_unbegun(*index) {
                state.split(*index);
            }
        }
        drop(state);
        while !self.sent.is_empty() {
            // A further signal changes nothing: the chunks' memory must not go before them.
            for (sent, outcome) in self.wait_for_chunks(inner).unwrap_or_default() {
                self.take_in(&sent, outcome);
                self.spare.push((sent.block, sent.block_bytes));
            }
        }
    }

    fn free_spare(&mut self, heap: &Heap) {
        for (block, _) in self.spare.drain(..) {
            let _ = heap.free_address(block);
        }
    }

    pub(super) fn clean_up(&mut self, inner: &Inner) {
        if !self.sent.is_empty() {
            self.call_back(inner);
        }
        let heap = &inner.heap;
        self.free_spare(heap);
        let own = self.map.context.as_ptr().expose_provenance() != self.context;
        if self.context != 0 && own {
            let _ = heap.free_address(self.context);
        }
        let mut state = inner.lock();
        state.maps.close(self.number);
        state.submissions.count_items(self.dealt_with - self.counted.0, self.failed - self.counted.1);
        state.wake_waiters(); // A shutdown waits for maps, too.
    }
}
