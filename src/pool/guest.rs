//! A pool on a node, whose tasks come from rank 0 and whose outcomes go back there. Its ledger, its rings and what a death comes to are those
//! of every pool; a task is entered as a chunk of one map without end is, so that its whole outcome is there to be sent.

use super::ledger::{InputPlace, NewTask, Outcome, OutputPlace, Owner, Rare};
use super::node_options::read_options;
use super::parcel::{ChunkLayout, End, TaskHead, next_block, read_bytes, tag, write_apart, write_outcome};
use super::remote::NodeStats;
use super::state::PoolState;
use super::wait::{Want, wait};
use super::{Inner, Pool};
use crate::cluster::FrameKind;
use crate::cluster::block::{APART, Block};
use crate::cluster::peer::{self, Frame};
use crate::error::{Code, Error, Result};
use crate::heap::Heap;
use crate::sys::clock::{Timeout, now_ns};
use crate::task::call::{CallKind, Chunk};
use crate::task::function::{Callee, Target};
use crate::task::wire::{Reader, Writer};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// A frame of results that has got so long is sent.
const LONG_FRAME: usize = 64 << 20;

/// A task that is here.
struct Task {
    id: u64,
    chunk: Option<ChunkHere>,
}

/// A chunk with the addresses that it has here, its block in the heap, how that is laid out, and long inputs, which have a block of their own.
struct ChunkHere {
    chunk: Chunk,
    block: usize,
    layout: ChunkLayout,
    _input: Option<Block>,
}

/// A pool of this node's, and the tasks of rank 0's that are in it.
pub(crate) struct Guest {
    pool: Pool,
    number: u64,
    /// The map whose chunks the tasks are.
    job: usize,
    functions: Vec<Result<Callee>>,
    /// By their places in the ledger; and these by the ids.
    tasks: HashMap<u32, Task>,
    places: HashMap<u64, u32>,
    /// Blocks that have come, and that no frame has named yet.
    blocks: VecDeque<Option<Block>>,
    /// What could not be entered, and whether it is a chunk.
    refused: Vec<(u64, Outcome, bool)>,
}

impl Guest {
    /// Makes a pool as rank 0 wants it; the answer.
    pub(crate) fn open(number: u64, body: &mut Reader<'_>) -> Result<(Guest, Vec<u8>)> {
        let (options, mut settings, program) = read_options(body)?;
        // What a task starts is no rank of this job.
        settings.environment.variables.insert(0, c"TINE_ENGINE".to_owned());
        let pool = Pool::with(&options, settings, program)?;
        pool.start(&options)?;
        let mut state = pool.inner.lock();
        let job = state.maps.open()?;
        let mut frame = Frame::new(FrameKind::Opened, number);
        frame.body().number(state.family.members.len() as u64);
        match state.family.callees() {
            Some(callees) => callees.tables().encode(frame.body()),
            None => return Err(Code::WORKER_START.into()),
        }
        drop(state);
        let guest = Guest {
            pool,
            number,
            job,
            functions: Vec::new(),
            tasks: HashMap::new(),
            places: HashMap::new(),
            blocks: VecDeque::new(),
            refused: Vec::new(),
        };
        Ok((guest, frame.finish()))
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Whether it has no task.
    pub(crate) fn is_idle(&self) -> bool {
        self.tasks.is_empty()
    }

    /// A place for a block that is about to come; `None` where there is no memory.
    pub(crate) fn place_for(&self, length: usize) -> Option<Block> {
        Block::allocate(&self.pool.inner.heap, length).ok()
    }

    /// It has come; nothing where it had no place.
    pub(crate) fn has_come(&mut self, block: Option<Block>) {
        self.blocks.push_back(block);
    }

    /// Takes in what rank 0 has sent.
    pub(crate) fn take(&mut self, body: &mut Reader<'_>) -> Result<()> {
        let inner = &*self.pool.inner;
        let mut state = inner.lock();
        while !body.0.is_empty() {
            let first = body.number()?;
            match first & 0xff {
                tag::FUNCTION => {
                    let target = Target::decode(&mut Reader(body.bytes()?))?;
                    let callee = match state.family.callees() {
                        Some(callees) => callees.of_target(&target),
                        None => Err(Code::WORKER_START.into()),
                    };
                    self.functions.push(callee);
                }
                tag::TASK => {
                    let head = TaskHead::read(first, body)?;
                    let kind = CallKind::from_number(head.kind)
                        .ok_or_else(|| Error::errno(libc::EPROTO, "a task of no known kind"))?;
                    let callee = self.functions.get(head.function as usize).cloned();
                    let callee = callee.ok_or_else(|| {
                        Error::errno(libc::EPROTO, "a task with a function that was never told")
                    })?;
                    let parcel = Parcel::read(kind, body, &mut self.blocks)?;
                    let entered = callee.and_then(|callee| {
                        let parcel = parcel?;
                        let count = self.tasks.len() + 1;
                        self.tasks
                            .try_reserve(1)
                            .and_then(|()| self.places.try_reserve(1))
                            .map_err(|_| no_memory())?;
                        enter(inner, &mut state, self.job, count, &head, kind, callee, parcel)
                    });
                    match entered {
                        Ok((index, chunk)) => {
                            self.tasks.insert(index, Task { id: head.id, chunk });
                            self.places.insert(head.id, index);
                            state.enqueue(index);
                        }
                        Err(error) => {
                            let is_chunk = kind != CallKind::Task;
                            self.refused.push((head.id, Outcome::not_started(&error), is_chunk));
                        }
                    }
                }
                tag::END => {
                    let (id, how) = (body.number()?, End::of(body.number()?));
                    // One that has settled meanwhile needs no ending.
                    if let Some(index) =
                        self.places.get(&id).copied().filter(|index| state.is_under_way(*index))
                    {
                        match how {
                            Some(End::Cancel) => state.cancel(index, now_ns())?,
                            Some(End::Recall) => drop(state.cancel_unbegun(index)),
                            Some(End::Split) => state.split(index),
                            None => return Err(Error::errno(libc::EPROTO, "an end of no known kind")),
                        }
                    }
                }
                _ => return Err(Error::errno(libc::EPROTO, "an item of no known kind in a frame of tasks")),
            }
        }
        state.pump(false);
        Ok(())
    }

    /// A frame with what has settled, if anything has, and the long outputs that it names.
    pub(crate) fn results(&mut self) -> Option<peer::Parcel> {
        let inner = &*self.pool.inner;
        let mut state = inner.lock();
        state.pump(false);
        if self.refused.is_empty() && !state.maps.has_settled(self.job) {
            return None;
        }
        let mut frame = Frame::new(FrameKind::Results, self.number);
        let out = frame.body();
        stats_of(&mut state).write(out);
        for (id, outcome, is_chunk) in self.refused.drain(..) {
            write_outcome(out, id, &outcome, is_chunk, 0);
            // No output; or no states, texts and outputs.
            (0..if is_chunk { 3 } else { 1 }).for_each(|_| out.bytes(&[]));
        }
        let mut blocks = Vec::new();
        // What follows long outputs does not wait for them.
        while out.written.len() < LONG_FRAME
            && blocks.is_empty()
            && let Some(index) = state.maps.take(self.job)
        {
            let Some(task) = self.tasks.remove(&index) else { continue };
            self.places.remove(&task.id);
            let deaths = state.ledger.get(index).deaths;
            let Some(outcome) = state.ledger.get_mut(index).take_chunk_outcome() else { continue };
            write_outcome(out, task.id, &outcome, task.chunk.is_some(), deaths);
            match task.chunk {
                Some(here) => blocks.extend(write_chunk(out, &outcome, &here, &inner.heap)),
                None => blocks.extend(write_output(out, &state, index, &outcome, &inner.heap)),
            }
            state.ledger.close(index);
        }
        Some(peer::Parcel { blocks, number: self.number, frame: frame.finish(), is_void: None })
    }

    /// Sleeps until something has settled, but not for longer than this.
    pub(crate) fn wait(&self, ns: u64) {
        let inner = &*self.pool.inner;
        let job = self.job;
        let has = |state: &mut PoolState| state.maps.has_settled(job).then_some(Ok(()));
        // That the time runs out is as good an answer.
        let _ = wait(inner, inner.lock(), Want::Job(job), Timeout::from_ns(ns as i64), has).1;
    }

    /// Ends the pool, in good order if it has the time and nothing is under way.
    pub(crate) fn close(self, grace_ns: u64) -> Vec<u8> {
        if grace_ns > 0 && self.tasks.is_empty() {
            self.pool.inner.lock().maps.close(self.job);
            // Whoever does not leave in time is killed below.
            let _ = self.pool.shutdown(Timeout::from_ns(grace_ns.min(i64::MAX as u64) as i64));
        }
        let frame = Frame::new(FrameKind::Closed, self.number).finish();
        drop(self.pool);
        frame
    }
}

fn no_memory() -> Error {
    Code::errno(libc::ENOMEM).into()
}

fn stats_of(state: &mut PoolState) -> NodeStats {
    NodeStats {
        ready: state.family.ready_count() as u64,
        busy: state.busy_count() as u64,
        worker_deaths: state.family.worker_deaths,
        recycled: state.family.workers_recycled,
        supervisor_deaths: state.family.supervisor_deaths,
    }
}

/// What a task of a frame brings along.
enum Parcel<'a> {
    Input(&'a [u8]),
    /// An input that has come as a block.
    Apart(Block),
    Chunk {
        chunk: Chunk,
        layout: ChunkLayout,
        input: ChunkInput<'a>,
        output: Option<&'a [u8]>,
        context: &'a [u8],
    },
}

/// The inputs of a chunk's items: to be copied into the chunk's block, or in a block of their own.
enum ChunkInput<'a> {
    Copied(&'a [u8]),
    Apart(Block),
}

impl<'a> Parcel<'a> {
    /// Behind its head. An inner error is for this task alone, and what follows is read on.
    fn read(
        kind: CallKind,
        body: &mut Reader<'a>,
        blocks: &mut VecDeque<Option<Block>>,
    ) -> Result<Result<Parcel<'a>>> {
        if kind == CallKind::Task {
            return match read_bytes(body)? {
                Some(input) => Ok(Ok(Parcel::Input(input))),
                None => match next_block(blocks) {
                    Err(error) if error.code().0 == -libc::EPROTO => Err(error),
                    block => Ok(block.map(Parcel::Apart)),
                },
            };
        }
        let first = body.bytes()?;
        let wrong = || Error::errno(libc::EPROTO, "a chunk's bytes are not as long as the chunk says");
        let chunk = Chunk::from_bytes(first)?;
        let mut layout = ChunkLayout::of(kind, &chunk).ok_or_else(wrong)?;
        let input_bytes = layout.input_bytes;
        let input = match read_bytes(body)? {
            Some(input) => Ok(ChunkInput::Copied(input)),
            None => {
                layout = ChunkLayout::of(kind, &Chunk { input: 0, ..chunk }).ok_or_else(wrong)?;
                next_block(blocks).map(ChunkInput::Apart)
            }
        };
        let output = if body.number()? != 0 { Some(body.bytes()?) } else { None };
        let context = body.bytes()?;
        let input_fits = match &input {
            Ok(ChunkInput::Copied(input)) => input.len() == input_bytes,
            Ok(ChunkInput::Apart(block)) => block.length() == input_bytes,
            Err(error) => error.code().0 == -libc::ENOMEM,
        };
        let fits = input_fits
            && output.is_none_or(|output| output.len() == layout.output_bytes)
            && context.len() as u64 == chunk.context_length;
        if !fits {
            return Err(input.err().unwrap_or_else(wrong));
        }
        Ok(input.map(|input| Parcel::Chunk { chunk, layout, input, output, context }))
    }
}

/// What is entered: its place, and a chunk's memory.
type Entered = (u32, Option<ChunkHere>);

/// Enters a task, with its memory.
#[expect(clippy::too_many_arguments, reason = "what a task consists of, once")]
fn enter(
    inner: &Inner,
    state: &mut PoolState,
    job: usize,
    count: usize,
    head: &TaskHead,
    kind: CallKind,
    callee: Callee,
    parcel: Parcel<'_>,
) -> Result<Entered> {
    state.maps.make_room(job, count)?;
    state.make_room_to_enqueue(head.due_in_ns != 0)?;
    let due_ns = if head.due_in_ns == 0 { 0 } else { now_ns().saturating_add(head.due_in_ns) };
    let rare = Rare::new(due_ns, head.retries, None, None)?;
    let (place, bytes, kept) = match parcel {
        Parcel::Input(input) => (inner.place_input(input)?, Bytes::Given(input), None),
        Parcel::Apart(block) => {
            // SAFETY: as many bytes have come there, and nobody else has them before the task runs.
            let input = unsafe { std::slice::from_raw_parts(block.pointer(), block.length()) };
            (InputPlace::Heap { address: block.keep()?, owned: true }, Bytes::Given(input), None)
        }
        Parcel::Chunk { chunk, layout, input, output, context } => {
            let here = unpack(&inner.heap, &chunk, layout, input, output, context)?;
            (InputPlace::Inline, Bytes::Chunk(here.chunk.to_bytes()), Some(here))
        }
    };
    let bytes = match &bytes {
        Bytes::Given(input) => input,
        Bytes::Chunk(bytes) => &bytes[..],
    };
    let task = NewTask {
        deadline_ns: head.deadline_ns,
        rare: Some(rare),
        owner: Owner::job(job),
        ..NewTask::new(kind, callee, place, bytes)
    };
    let entered = state.ledger.enter(task);
    if entered.is_err() {
        inner.take_input_back(place);
        if let Some(here) = &kept {
            let _ = inner.heap.free_address(here.block);
        }
    }
    Ok((entered?.0, kept))
}

/// A task's input as it was given, or a chunk as it is here.
enum Bytes<'a> {
    Given(&'a [u8]),
    Chunk([u8; size_of::<Chunk>()]),
}

/// A block with what a chunk needs, and the chunk with its addresses.
fn unpack(
    heap: &Heap,
    chunk: &Chunk,
    layout: ChunkLayout,
    input: ChunkInput<'_>,
    output: Option<&[u8]>,
    context: &[u8],
) -> Result<ChunkHere> {
    let block = heap.allocate(layout.bytes.max(1))?.as_ptr();
    // SAFETY: the block has room for all that `layout` lays out in it, by its making; the bytes are a frame's, as long as `Parcel::read` has
    // found them to be.
    unsafe {
        if let ChunkInput::Copied(input) = &input {
            std::ptr::copy_nonoverlapping(input.as_ptr(), block.add(layout.input), input.len());
        }
        std::ptr::copy_nonoverlapping(context.as_ptr(), block.add(layout.context), context.len());
        match output {
            Some(output) => {
                std::ptr::copy_nonoverlapping(output.as_ptr(), block.add(layout.output), output.len())
            }
            None => block.add(layout.output).write_bytes(0, layout.output_bytes),
        }
    }
    let start = block.expose_provenance();
    let place = |there: u64, at: usize| if there == 0 { 0 } else { (start + at) as u64 };
    let apart = match input {
        ChunkInput::Copied(_) => None,
        ChunkInput::Apart(block) => Some(block),
    };
    let input = apart
        .as_ref()
        .map_or_else(|| place(chunk.input, layout.input), |apart| apart.pointer().expose_provenance() as u64);
    let chunk = Chunk {
        input,
        output: place(chunk.output, layout.output),
        status: (start + layout.status) as u64,
        messages: start as u64,
        context: place(chunk.context, layout.context),
        ..*chunk
    };
    Ok(ChunkHere { chunk, block: start, layout, _input: apart })
}

/// The output of a task: in the frame, and its memory is given back; or the block that it is, if it is long.
fn write_output(
    out: &mut Writer,
    state: &PoolState,
    index: u32,
    outcome: &Outcome,
    heap: &Arc<Heap>,
) -> Option<Block> {
    let length = outcome.output_length;
    let address = match outcome.output {
        _ if length == 0 => {
            out.bytes(&[]);
            return None;
        }
        OutputPlace::Heap(address) if length >= APART => {
            write_apart(out);
            return Some(Block::owned(heap, address, length));
        }
        OutputPlace::Inline => state.ledger.inline_pointer(index),
        OutputPlace::Heap(address) => std::ptr::with_exposed_provenance(address),
    };
    // SAFETY: the output of a task that has settled, which is the ledger's, or a block of the heap that was handed over with it and checked
    // when its ring was drained.
    out.bytes(unsafe { std::slice::from_raw_parts(address, length) });
    if let OutputPlace::Heap(address) = outcome.output {
        let _ = heap.free_address(address);
    }
    None
}

/// What a chunk's items have come to. Its block is given back, at once or when the long outputs in it have been sent.
fn write_chunk(out: &mut Writer, outcome: &Outcome, here: &ChunkHere, heap: &Arc<Heap>) -> Option<Block> {
    let ChunkHere { chunk, block, layout, .. } = here;
    let finished = usize::try_from(outcome.items).unwrap_or(usize::MAX).min(layout.statuses);
    let texts = outcome.messages_length.min(chunk.messages_bytes as usize);
    let outputs = layout.output_bytes / layout.statuses.max(1) * finished;
    let mut write = |at: usize, length: usize| {
        let place = std::ptr::with_exposed_provenance::<u8>(block + at);
        // SAFETY: a part of the block, as `layout` has it. Whoever wrote there has finished with it, or can only leave garbage.
        out.bytes(unsafe { std::slice::from_raw_parts(place, length) });
    };
    write(layout.status, finished * size_of::<i32>());
    write(0, texts);
    if outputs >= APART {
        write_apart(out);
        return Some(Block::part(heap, *block, layout.output, outputs));
    }
    write(layout.output, outputs);
    let _ = heap.free_address(*block);
    None
}
