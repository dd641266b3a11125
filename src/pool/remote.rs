//! Tasks that run on the nodes of an MPI job: another hand that takes them from the pool's queue. `docs/design/mpi.md` has the whole.
//!
//! ```text
//!   a node    entered when                                    a task sent there
//!   OPENING   the pool is created                             none is
//!   READY     it has answered that its workers are ready      waits for its result
//!   LOST      it is silent, or has sent what cannot be        settles as MAYBE_RAN, or goes back to the queue if it is still here
//! ```

use super::ledger::{Delivery, InputPlace, Ledger, Outcome, OutputPlace, TaskState};
use super::parcel::{ChunkLayout, End, TaskHead, has_own_output, read_outcome, tag};
use super::state::State;
use super::{Inner, Pool, PoolOptions};
use crate::check;
use crate::cluster::exchange::Exchange;
use crate::cluster::peer::Frame;
use crate::cluster::{FrameKind, Hand};
use crate::error::{Code, Error, Result};
use crate::heap::Heap;
use crate::sys::clock::{Deadline, now_ns};
use crate::task::call::{CallKind, Chunk};
use crate::task::callees::Callees;
use crate::task::function::{Callee, Tables};
use crate::task::wire::{Reader, Writer};
use std::collections::HashMap;
use std::sync::{Arc, Condvar, PoisonError, Weak};

/// The rings of tasks that are on a node: from this number on.
const NODES: u32 = 1 << 31;

/// A node is given so much work in advance.
const AHEAD_NS: u64 = 10_000_000;
const LEAST_DEEP: u64 = 2;
const MOST_DEEP: u64 = 4096;

/// And no more than so many bytes, but for one task.
const AHEAD_BYTES: usize = 64 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NodeState {
    Opening,
    Ready,
    Lost,
}

/// What a node says of its workers.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct NodeStats {
    pub(super) ready: u64,
    pub(super) busy: u64,
    pub(super) worker_deaths: u64,
    pub(super) recycled: u64,
    pub(super) supervisor_deaths: u64,
}

impl NodeStats {
    pub(super) fn write(&self, out: &mut Writer) {
        let all = [self.ready, self.busy, self.worker_deaths, self.recycled, self.supervisor_deaths];
        all.into_iter().for_each(|number| out.number(number));
    }

    fn read(reader: &mut Reader<'_>) -> Result<NodeStats> {
        let mut number = || reader.number();
        Ok(NodeStats {
            ready: number()?,
            busy: number()?,
            worker_deaths: number()?,
            recycled: number()?,
            supervisor_deaths: number()?,
        })
    }
}

#[derive(Debug)]
struct Node {
    state: NodeState,
    workers: usize,
    stats: NodeStats,
    /// What has not been sent yet, and the tasks in it.
    outbox: Option<Box<OutFrame>>,
    /// Tasks that are there, or in the outbox; and the bytes of their inputs.
    tasks: usize,
    bytes: usize,
    /// How many of the functions it has been told.
    functions: usize,
    /// How long a task takes one of its workers, as its results come.
    task_ns: u64,
    /// When the last result came, or the first task was sent after a pause.
    since_ns: u64,
    closed: bool,
}

struct OutFrame {
    frame: Frame,
    tasks: Vec<u32>,
}

impl std::fmt::Debug for OutFrame {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("OutFrame").field("tasks", &self.tasks.len()).finish_non_exhaustive()
    }
}

/// The nodes, as one pool sees them.
#[derive(Debug)]
pub(super) struct Remote {
    exchange: Arc<Exchange>,
    pub(super) number: u64,
    nodes: Vec<Node>,
    /// The functions that have been used, by their numbers on the wire; and each as it travels.
    numbers: HashMap<Callee, u32>,
    functions: Vec<Vec<u8>>,
    has_tables: bool,
    /// A node has said that its pool has ended.
    closed: Arc<Condvar>,
}

/// Where a task is that is on this node.
fn place_of(node: usize) -> u32 {
    NODES + node as u32
}

/// The node that a task is on, if it is on one.
pub(super) fn node_of(place: u32) -> Option<usize> {
    (place != super::inline::INLINE).then_some(place.checked_sub(NODES)? as usize)
}

impl Remote {
    pub(super) fn new(exchange: Arc<Exchange>, workers: usize) -> Result<Remote> {
        let node = |hello: &crate::cluster::hello::Hello| Node {
            state: NodeState::Opening,
            workers: if workers == 0 { hello.processors } else { workers },
            stats: NodeStats::default(),
            outbox: None,
            tasks: 0,
            bytes: 0,
            functions: 0,
            task_ns: 0,
            since_ns: 0,
            closed: false,
        };
        let nodes = exchange.nodes()?.iter().map(node).collect();
        Ok(Remote {
            number: exchange.new_number(),
            exchange,
            nodes,
            numbers: HashMap::new(),
            functions: Vec::new(),
            has_tables: false,
            closed: Arc::default(),
        })
    }

    /// Workers of all nodes together, as far as that is known.
    pub(super) fn workers(&self) -> usize {
        self.nodes.iter().filter(|node| node.state != NodeState::Lost).map(|node| node.workers).sum()
    }

    /// Whether no node is still on its way.
    pub(super) fn is_ready(&self) -> bool {
        self.nodes.iter().all(|node| node.state != NodeState::Opening)
    }

    pub(super) fn stats(&self) -> NodeStats {
        let live = |node: &&Node| node.state == NodeState::Ready;
        self.nodes.iter().fold(NodeStats::default(), |sum, node| {
            let here = Some(node).filter(live).map(|node| node.stats).unwrap_or_default();
            NodeStats {
                ready: sum.ready + here.ready,
                busy: sum.busy + here.busy,
                worker_deaths: sum.worker_deaths + node.stats.worker_deaths,
                recycled: sum.recycled + node.stats.recycled,
                supervisor_deaths: sum.supervisor_deaths + node.stats.supervisor_deaths,
            }
        })
    }

    /// The node that is to have the next task: the one with the least for each of its workers, if it has room.
    fn next_node(&self) -> Option<usize> {
        let open = self
            .nodes
            .iter()
            .enumerate()
            .filter(|(_, node)| node.state == NodeState::Ready && node.has_room());
        open.min_by_key(|(_, node)| (node.tasks << 16) / node.workers.max(1)).map(|(at, _)| at)
    }

    /// The frame that is being filled for a node.
    fn outbox(&mut self, at: usize) -> &mut OutFrame {
        let number = self.number;
        self.nodes[at].outbox.get_or_insert_with(|| {
            Box::new(OutFrame { frame: Frame::new(FrameKind::Tasks, number), tasks: Vec::new() })
        })
    }

    /// The number of a function on the wire, which the node knows from now on.
    fn function(&mut self, at: usize, callee: Callee, callees: &Callees) -> u32 {
        let number = match self.numbers.get(&callee) {
            Some(number) => *number,
            None => {
                let mut target = Writer::default();
                callees.target(callee).encode(&mut target);
                self.functions.push(target.written);
                let number = (self.functions.len() - 1) as u32;
                self.numbers.insert(callee, number);
                number
            }
        };
        while self.nodes[at].functions <= number as usize {
            let next = self.nodes[at].functions;
            self.nodes[at].functions += 1;
            let target = std::mem::take(&mut self.functions[next]);
            let body = self.outbox(at).frame.body();
            body.number(tag::FUNCTION);
            body.bytes(&target);
            self.functions[next] = target;
        }
        number
    }

    /// Puts a task among what is sent to a node next. -ENOMEM: nothing has changed.
    fn put(&mut self, at: usize, index: u32, ledger: &Ledger, callees: &Callees) -> Result<()> {
        let entry = ledger.get(index);
        let function = self.function(at, entry.callee, callees);
        let now = now_ns();
        let due_in_ns = match entry.queue_due_ns() {
            0 => 0,
            due_ns => due_ns.saturating_sub(now).max(1),
        };
        let head = TaskHead {
            kind: entry.kind as u32,
            function,
            id: ledger.id_of(index).0,
            deadline_ns: entry.deadline_ns,
            due_in_ns,
            retries: entry.rare.as_ref().map_or(0, |rare| rare.retries),
        };
        let input = match entry.input {
            InputPlace::Inline => ledger.inline_input(index),
            // SAFETY: the input's place in the heap, which is the task's until it has settled.
            InputPlace::Heap { address, .. } => unsafe { bytes_at(address, entry.input_length) },
        };
        let out = self.outbox(at);
        out.tasks.try_reserve(1).map_err(|_| no_memory())?;
        let body = out.frame.body();
        if entry.kind == CallKind::Task {
            body.written.try_reserve(input.len() + 64).map_err(|_| no_memory())?;
            head.write(body);
            body.bytes(input);
        } else {
            write_chunk(body, &head, entry.kind, &Chunk::from_bytes(input)?)?;
        }
        let bytes = weight(ledger, index);
        out.tasks.push(index);
        let node = &mut self.nodes[at];
        if node.tasks == 0 {
            node.since_ns = now;
        }
        node.tasks += 1;
        node.bytes += bytes;
        Ok(())
    }

    /// A task is to end that is on a node.
    pub(super) fn end(&mut self, at: usize, id: u64, how: End) {
        if self.nodes[at].state != NodeState::Ready {
            return;
        }
        let body = self.outbox(at).frame.body();
        [tag::END, id, how as u64].into_iter().for_each(|word| body.number(word));
        self.exchange.ring();
    }

    /// So many results have come from a node.
    fn measure(&mut self, at: usize, results: usize, bytes: usize) {
        let (now, node) = (now_ns(), &mut self.nodes[at]);
        let took_ns = now.saturating_sub(node.since_ns) * node.workers as u64 / results.max(1) as u64;
        node.task_ns = if node.task_ns == 0 { took_ns } else { (node.task_ns * 3 + took_ns) / 4 };
        node.since_ns = now;
        node.tasks = node.tasks.saturating_sub(results);
        node.bytes = if node.tasks == 0 { 0 } else { node.bytes.saturating_sub(bytes) };
    }
}

impl Node {
    fn has_room(&self) -> bool {
        let deep = AHEAD_NS.checked_div(self.task_ns).unwrap_or(LEAST_DEEP).clamp(LEAST_DEEP, MOST_DEEP);
        let room = self.workers as u64 * deep;
        self.tasks == 0 || (self.tasks as u64) < room && self.bytes < AHEAD_BYTES
    }
}

/// About how many bytes a task sends to its node.
fn weight(ledger: &Ledger, index: u32) -> usize {
    let entry = ledger.get(index);
    if entry.kind == CallKind::Task {
        return entry.input_length;
    }
    let chunk = Chunk::from_bytes(ledger.inline_input(index)).ok();
    let layout = chunk.and_then(|chunk| ChunkLayout::of(entry.kind, &chunk));
    layout.map_or(0, |layout| layout.bytes)
}

fn no_memory() -> Error {
    Code::errno(libc::ENOMEM).into()
}

/// # Safety
/// As many bytes are there, and stay as they are for as long as the slice is used.
unsafe fn bytes_at<'a>(address: usize, length: usize) -> &'a [u8] {
    if length == 0 {
        return &[];
    }
    // SAFETY: the contract above.
    unsafe { std::slice::from_raw_parts(std::ptr::with_exposed_provenance(address), length) }
}

fn write_chunk(body: &mut Writer, head: &TaskHead, kind: CallKind, chunk: &Chunk) -> Result<()> {
    let layout = ChunkLayout::of(kind, chunk).ok_or_else(no_memory)?;
    body.written.try_reserve(layout.bytes + 256).map_err(|_| no_memory())?;
    head.write(body);
    body.bytes(&chunk.to_bytes());
    // SAFETY: the map that is under way keeps its arrays and its context until its chunks have settled.
    unsafe {
        body.bytes(bytes_at(chunk.input as usize, layout.input_bytes));
        let there = !has_own_output(kind, chunk);
        body.number(there.into());
        if there {
            body.bytes(bytes_at(chunk.output as usize, layout.output_bytes));
        }
        body.bytes(bytes_at(chunk.context as usize, chunk.context_length as usize));
    }
    Ok(())
}

/// Takes a chunk's states, texts and outputs over; how long the texts are.
fn take_chunk(reader: &mut Reader<'_>, kind: CallKind, chunk: &Chunk, items: u64) -> Result<usize> {
    let layout = ChunkLayout::of(kind, chunk).ok_or_else(no_memory)?;
    let finished = usize::try_from(items).unwrap_or(usize::MAX).min(layout.statuses);
    let (states, texts, outputs) = (reader.bytes()?, reader.bytes()?, reader.bytes()?);
    let of_items = |bytes: usize| bytes / layout.statuses.max(1) * finished;
    let fits = states.len() == finished * size_of::<i32>()
        && texts.len() <= chunk.messages_bytes as usize
        && outputs.len() == of_items(layout.output_bytes);
    if !fits {
        return Err(Error::errno(libc::EPROTO, "a result of a chunk has another length than the chunk"));
    }
    for (address, bytes) in [(chunk.status, states), (chunk.messages, texts), (chunk.output, outputs)] {
        if !bytes.is_empty() {
            let place = std::ptr::with_exposed_provenance_mut(address as usize);
            // SAFETY: the map keeps its arrays and the chunk's block until the chunk has settled; each has room for what `layout` says
            // of it, which is as much by the check above. The bytes are a frame's.
            unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), place, bytes.len()) };
        }
    }
    Ok(texts.len())
}

impl State {
    /// Gives tasks to nodes that have room.
    pub(super) fn feed_nodes(&mut self) {
        let Some(mut remote) = self.remote.take() else { return };
        let mut any = false;
        while let Some(index) = self.queue.chain.first() {
            let Some(at) = remote.next_node() else { break };
            self.take_front();
            let put = match self.family.callees() {
                Some(callees) => remote.put(at, index, &self.ledger, callees),
                None => Err(Code::WORKER_START.into()),
            };
            match put {
                Ok(()) => self.ledger.get_mut(index).state = TaskState::Sent(place_of(at)),
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
    pub(super) fn end_on_node(&mut self, place: u32, index: u32, how: End) {
        let id = self.ledger.id_of(index).0;
        if let (Some(node), Some(remote)) = (node_of(place), &mut self.remote) {
            remote.end(node, id, how);
        }
    }

    fn take_results(&mut self, at: usize, body: &mut Reader<'_>) -> Result<()> {
        let stats = NodeStats::read(body)?;
        let (mut results, mut bytes) = (0, 0);
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
                let output = body.bytes()?;
                self.put_output(index, output, &mut outcome);
            } else {
                let (kind, input) = (entry.kind, self.ledger.inline_input(index));
                outcome.messages_length = take_chunk(body, kind, &Chunk::from_bytes(input)?, outcome.items)?;
            }
            let is_a_callers = self.ledger.get(index).job().is_none();
            if let Some(death) = &mut outcome.death {
                death.task = if is_a_callers { id } else { 0 };
            }
            self.ledger.get_mut(index).deaths += deaths;
            if outcome.delivery != Delivery::NotStarted {
                self.note_begin(index, outcome.death.as_ref().map_or(0, |death| death.pid));
            }
            self.settle(index, outcome);
            results += 1;
        }
        if let Some(remote) = self.remote.as_mut().filter(|_| results > 0) {
            remote.measure(at, results, bytes);
        }
        Ok(())
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
                let text = format!("its output of {} bytes: {}", bytes.len(), error.text());
                outcome.status = error.code().0;
                outcome.message = super::ledger::to_c_string(text.as_bytes());
            }
        }
    }

    /// A node will never answer again: what it had may have run, and what was not sent yet runs elsewhere.
    fn lose_node(&mut self, at: usize, why: &Error) {
        let Some(remote) = &mut self.remote else { return };
        let node = &mut remote.nodes[at];
        if node.state == NodeState::Lost {
            return;
        }
        let unsent = node.outbox.take().map_or(Vec::new(), |out| out.tasks);
        (node.state, node.tasks, node.bytes, node.closed) = (NodeState::Lost, 0, 0, true);
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
        outcome.message = super::ledger::to_c_string(why.text().as_bytes());
        self.settle(index, outcome);
    }

    /// The pool ends: whatever is on a node is given up.
    pub(super) fn abandon_nodes(&mut self) {
        let Some(remote) = &mut self.remote else { return };
        remote.nodes.iter_mut().for_each(|node| node.outbox = None);
        let why = Error::new(Code::DIED, "the pool was ended");
        for index in self.ledger.places() {
            if matches!(self.ledger.get(index).state, TaskState::Sent(place) if node_of(place).is_some()) {
                self.ledger.get_mut(index).unwanted = true;
                self.lose_task(index, &why);
            }
        }
    }

    fn node_has_opened(&mut self, at: usize, body: &mut Reader<'_>) -> Result<()> {
        let workers = usize::try_from(body.number()?).unwrap_or(1).max(1);
        let tables = Tables::decode(body)?;
        let Some(remote) = &mut self.remote else { return Ok(()) };
        let node = &mut remote.nodes[at];
        if node.state == NodeState::Opening {
            (node.state, node.workers, node.stats.ready) = (NodeState::Ready, workers, workers as u64);
        }
        if !std::mem::replace(&mut remote.has_tables, true)
            && let Some(callees) = self.family.callees_mut()
        {
            callees.set_tables(tables);
        }
        Ok(())
    }
}

impl Hand for Inner {
    fn take_frame(&self, node: usize) -> Option<Vec<u8>> {
        let mut state = self.lock();
        let out = state.remote.as_mut()?.nodes[node].outbox.take()?;
        Some(out.frame.finish())
    }

    fn deal_with(&self, node: usize, kind: FrameKind, body: &mut Reader<'_>) -> Result<()> {
        let mut state = self.lock();
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
    pub(super) fn open_nodes(&self, options: &PoolOptions<'_>) -> Result<()> {
        let state = self.inner.lock();
        let Some(remote) = &state.remote else { return Ok(()) };
        let (exchange, number, count) = (Arc::clone(&remote.exchange), remote.number, remote.nodes.len());
        drop(state);
        let this: Weak<Inner> = Arc::downgrade(&self.inner);
        exchange.introduce(number, this);
        let mut frame = Frame::new(FrameKind::Open, number);
        super::guest::write_options(frame.body(), options)?;
        let frame = frame.finish();
        (0..count).for_each(|node| exchange.post(node, frame.clone()));
        Ok(())
    }

    /// Has the nodes end their pools, and waits until they have.
    pub(super) fn close_nodes(&self, deadline: Deadline) {
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

impl Inner {
    /// Refuses what a task cannot have with it to another machine.
    pub(super) fn check_for_nodes(&self, input: &[u8], has_channel: bool) -> Result<()> {
        if !self.on_nodes {
            return Ok(());
        }
        if has_channel {
            self.refuse_on_nodes("channel: the end of a channel")?;
        }
        refuse_addresses(&self.heap, input, || "the input".to_owned())
    }

    /// Refuses what other machines cannot have.
    pub(super) fn refuse_on_nodes(&self, what: &str) -> Result<()> {
        if !self.on_nodes {
            return Ok(());
        }
        let text = format!("{what} cannot go to other machines, where the engine MPI has its workers");
        Err(Error::errno(libc::EOPNOTSUPP, text))
    }
}

/// How much of an input is always looked through.
const LOOKED_THROUGH: usize = 4096;

/// Refuses what holds an address in the heap: it means nothing on another machine. All of it is looked through with `TINE_CHECK`.
pub(super) fn refuse_addresses(heap: &Heap, bytes: &[u8], what: impl Fn() -> String) -> Result<()> {
    let length = if check::is_on() { bytes.len() } else { bytes.len().min(LOOKED_THROUGH) };
    let first = bytes.as_ptr().align_offset(align_of::<u64>()).min(length);
    for (at, word) in bytes[first..length].chunks_exact(8).enumerate() {
        let address = u64::from_ne_bytes(word.try_into().unwrap_or_default()) as usize;
        if address != 0 && heap.contains(address, 1) {
            let text = format!(
                "{} has at offset {} the address {address:#x} of the pool's heap, which other machines do not have",
                what(),
                first + at * 8
            );
            return Err(Error::errno(libc::EFAULT, text));
        }
    }
    Ok(())
}
