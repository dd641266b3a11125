//! Tasks that run on the nodes of an MPI job: another hand that takes them from the pool's queue. `docs/design/mpi.md` has the whole.
//!
//! ```text
//!   a node    entered when                                    a task sent there
//!   OPENING   the pool is created                             none is
//!   READY     it has answered that its workers are ready      waits for its result
//!   LOST      it is silent, or has sent what cannot be        settles as MAYBE_RAN, or goes back to the queue if it is still here
//! ```

mod choice;
mod chunk;
mod outcomes;
mod refusal;
mod talk;

pub(super) use refusal::refuse_addresses;

use super::ledger::{InputPlace, Ledger};
use super::parcel::{ChunkLayout, End, TaskHead, next_block, tag, write_apart};
use crate::cluster::FrameKind;
use crate::cluster::block::{APART, Block};
use crate::cluster::exchange::Exchange;
use crate::cluster::peer::{Frame, Parcel};
use crate::error::Result;
use crate::heap::Heap;
use crate::sys::clock::now_ns;
use crate::task::call::{CallKind, Chunk};
use crate::task::callees::Callees;
use crate::task::function::Callee;
use crate::task::wire::{Reader, Writer};
use choice::Choice;
use chunk::{bytes_at, no_memory, write_chunk};
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Condvar};

/// The rings of tasks that are on a node: from this number on.
const NODES: u32 = 1 << 31;

/// A node is given so much work in advance.
const AHEAD_NS: u64 = 10_000_000;
const LEAST_DEEP: u64 = 2;
const MOST_DEEP: u64 = 4096;

/// With more bytes than this there it has work for less time in advance, and few tasks; what is sent stays in the processors' caches. They are
/// more than the least: two inputs may be on their way while a result is. And no more bytes than that, but for one task.
const ENOUGH_BYTES: usize = 2 << 20;
const AHEAD_OF_BYTES_NS: u64 = 2_000_000;
const MOST_DEEP_OF_BYTES: u64 = 4;
const AHEAD_BYTES: usize = 64 << 20;

/// A node that has had no memory is tried with twice the bytes after so many tasks: of long inputs few are sent in vain.
const CALM: usize = 16;

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
    /// What has not been sent yet, and the tasks in it. Each but the last has blocks.
    outbox: VecDeque<OutFrame>,
    /// Blocks that have come, and that no frame has named yet; and how many have come behind them that there was no memory to note.
    blocks: VecDeque<Option<Block>>,
    unnoted: usize,
    /// Tasks that are there, or in the outbox; and the bytes of their inputs.
    tasks: usize,
    bytes: usize,
    /// The task that it got last, if it had no other then: its heap is that task's alone.
    alone: Option<u32>,
    /// So many bytes are enough: with more of them it has had no memory. And how many tasks have come back since then.
    most_bytes: usize,
    calm: usize,
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
    blocks: Vec<Block>,
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
    /// Of those that have room, the one with the least to do.
    choice: Choice,
    /// The functions that have been used, by their numbers on the wire; and each as it travels.
    numbers: HashMap<Callee, u32>,
    functions: Vec<Vec<u8>>,
    has_tables: bool,
    /// The tasks have settled while they were on their way, and their inputs are not theirs any more.
    is_void: Arc<AtomicBool>,
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
        let node = |hello: &crate::cluster::hello::Hello| {
            Node::new(if workers == 0 { hello.processors } else { workers })
        };
        let nodes: Vec<Node> = exchange.nodes()?.iter().map(node).collect();
        Ok(Remote {
            number: exchange.new_number(),
            exchange,
            choice: Choice::new(nodes.len()),
            nodes,
            numbers: HashMap::new(),
            functions: Vec::new(),
            has_tables: false,
            is_void: Arc::default(),
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
        self.choice.least()
    }

    /// A node is in another state, or has another number of tasks or bytes, than when this was called for it last.
    fn reckon(&mut self, at: usize) {
        let node = &self.nodes[at];
        let is_open = node.state == NodeState::Ready && node.has_room();
        self.choice.set(at, is_open.then(|| ((node.tasks as u64) << 16) / node.workers.max(1) as u64));
    }

    /// The frame that is being filled for a node. One that has a block is full: a task does not wait for other tasks' long inputs.
    fn outbox(&mut self, at: usize) -> &mut OutFrame {
        let outbox = &mut self.nodes[at].outbox;
        if outbox.back().is_none_or(|out| !out.blocks.is_empty()) {
            let frame = Frame::new(FrameKind::Tasks, self.number);
            outbox.push_back(OutFrame { frame, tasks: Vec::new(), blocks: Vec::new() });
        }
        let last = outbox.len() - 1;
        &mut outbox[last]
    }

    /// The first frame that is to be sent to a node, if there is one.
    fn take_parcel(&mut self, at: usize) -> Option<Parcel> {
        let OutFrame { frame, blocks, .. } = self.nodes[at].outbox.pop_front()?;
        let is_void = (!blocks.is_empty()).then(|| Arc::clone(&self.is_void));
        Some(Parcel { blocks, number: self.number, frame: frame.finish(), is_void })
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
    fn put(
        &mut self,
        at: usize,
        index: u32,
        ledger: &Ledger,
        callees: &Callees,
        heap: &Arc<Heap>,
    ) -> Result<()> {
        // For the frame of this task, and for one in which a task that is there is told to end.
        self.nodes[at].outbox.try_reserve(2).map_err(|_| no_memory())?;
        self.functions.try_reserve(1).map_err(|_| no_memory())?;
        self.numbers.try_reserve(1).map_err(|_| no_memory())?;
        let entry = ledger.get(index);
        let function = self.function(at, entry.callee(), callees);
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
        let out = self.outbox(at);
        out.tasks.try_reserve(1).map_err(|_| no_memory())?;
        let body = out.frame.body();
        match (entry.kind, entry.input()) {
            (CallKind::Task, InputPlace::Heap { address, .. }) if entry.input_length >= APART => {
                body.written.try_reserve(64).map_err(|_| no_memory())?;
                out.blocks.try_reserve(1).map_err(|_| no_memory())?;
                head.write(body);
                write_apart(body);
                out.blocks.push(Block::lent(heap, address, entry.input_length));
            }
            (CallKind::Task, place) => {
                let input = match place {
                    InputPlace::Inline => ledger.inline_input(index),
                    // SAFETY: the input's place in the heap, which is the task's until it has settled.
                    InputPlace::Heap { address, .. } => unsafe { bytes_at(address, entry.input_length) },
                };
                body.written.try_reserve(input.len() + 64).map_err(|_| no_memory())?;
                head.write(body);
                body.bytes(input);
            }
            (kind, _) => {
                out.blocks.try_reserve(1).map_err(|_| no_memory())?;
                let chunk = Chunk::from_bytes(ledger.inline_input(index))?;
                out.blocks.extend(write_chunk(body, &head, kind, &chunk, heap)?);
            }
        }
        let bytes = weight(ledger, index);
        out.tasks.push(index);
        self.nodes[at].has_got(index, bytes, now);
        self.reckon(at);
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

    /// So many results have come from a node, with some of them that it has had no memory for.
    fn measure(&mut self, at: usize, results: usize, bytes: usize, is_short: bool) {
        let (now, node) = (now_ns(), &mut self.nodes[at]);
        let took_ns = now.saturating_sub(node.since_ns) * node.workers as u64 / results.max(1) as u64;
        node.task_ns = if node.task_ns == 0 { took_ns } else { (node.task_ns * 3 + took_ns) / 4 };
        node.since_ns = now;
        node.tasks = node.tasks.saturating_sub(results);
        node.bytes = if node.tasks == 0 { 0 } else { node.bytes.saturating_sub(bytes) };
        if !is_short {
            node.has_had_memory(results);
        }
        self.reckon(at);
    }
}

impl Node {
    fn new(workers: usize) -> Node {
        Node {
            state: NodeState::Opening,
            workers,
            stats: NodeStats::default(),
            outbox: VecDeque::new(),
            blocks: VecDeque::new(),
            unnoted: 0,
            tasks: 0,
            bytes: 0,
            alone: None,
            most_bytes: AHEAD_BYTES,
            calm: 0,
            functions: 0,
            task_ns: 0,
            since_ns: 0,
            closed: false,
        }
    }

    /// A block has come; nothing where it had no place. They stay in order, so behind one that is not noted none is.
    fn note_block(&mut self, block: Option<Block>) {
        if self.unnoted == 0 && self.blocks.try_reserve(1).is_ok() {
            self.blocks.push_back(block);
        } else {
            self.unnoted += 1;
        }
    }

    /// The next of the blocks that have come.
    fn next_block(&mut self) -> Result<Block> {
        if self.blocks.is_empty() && self.unnoted > 0 {
            self.unnoted -= 1;
            return Err(no_memory());
        }
        next_block(&mut self.blocks)
    }

    /// A task of so many bytes is among what is sent to it.
    fn has_got(&mut self, index: u32, bytes: usize, now: u64) {
        if self.tasks == 0 {
            self.since_ns = now;
        }
        self.alone = (self.tasks == 0).then_some(index);
        self.tasks += 1;
        self.bytes += bytes;
    }

    /// It has had no memory for one of its tasks, which has so many bytes: beside as many as the others have there is none for another. Where what
    /// took the memory has come back since, nobody knows how much that was, and there is none beside as many as the task has itself. So each time
    /// fewer tasks are there at once, and in the end one.
    fn has_had_no_memory(&mut self, bytes: usize) {
        let beside = if self.tasks > 1 { self.bytes.saturating_sub(bytes) } else { bytes };
        (self.most_bytes, self.calm) = (beside.min(self.most_bytes), 0);
    }

    /// So many tasks have come back.
    fn has_had_memory(&mut self, tasks: usize) {
        self.calm += tasks;
        if self.calm >= CALM {
            (self.most_bytes, self.calm) = ((self.most_bytes * 2).clamp(APART, AHEAD_BYTES), 0);
        }
    }

    fn has_room(&self) -> bool {
        let (ahead_ns, most_deep) = match self.bytes {
            ..ENOUGH_BYTES => (AHEAD_NS, MOST_DEEP),
            _ => (AHEAD_OF_BYTES_NS, MOST_DEEP_OF_BYTES),
        };
        let deep = ahead_ns.checked_div(self.task_ns).unwrap_or(LEAST_DEEP);
        let room = self.workers as u64 * deep.clamp(LEAST_DEEP, most_deep);
        self.tasks == 0 || (self.tasks as u64) < room && self.bytes < self.most_bytes
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_has_had_no_memory_once_gets_as_much_as_before_in_the_end() {
        let mut node = Node::new(4);
        (node.tasks, node.bytes) = (5, 48 << 20);
        assert!(node.has_room());
        node.has_had_no_memory(8 << 20);
        (node.tasks, node.bytes) = (4, 40 << 20);
        assert!(!node.has_room());
        (0..CALM).for_each(|_| node.has_had_memory(1));
        assert!(node.has_room());
        node.has_had_no_memory(40 << 20);
        assert_eq!(node.most_bytes, 0);
        (0..CALM * 13).for_each(|_| node.has_had_memory(1));
        assert_eq!(node.most_bytes, AHEAD_BYTES);
    }

    #[test]
    fn long_inputs_are_few_in_advance_and_fewer_where_their_tasks_take_long() {
        let room_for = |bytes: usize, task_ns: u64| {
            let mut node = Node::new(3);
            node.task_ns = task_ns;
            while node.has_room() {
                node.has_got(0, bytes, 1);
            }
            node.tasks
        };
        assert_eq!(room_for(1 << 20, 100_000), 12);
        assert_eq!(room_for(1 << 20, 600_000), 9);
        assert_eq!(room_for(1 << 20, 5_000_000), 6);
        assert_eq!(room_for(1 << 20, 0), 6);
        assert_eq!(room_for(100, 100_000), 300);
        assert_eq!(room_for(60 << 20, 100_000), 2);
    }

    #[test]
    fn whoever_has_had_no_memory_has_the_heap_for_itself_in_the_end() {
        for lengths in [vec![30 << 20; 8], vec![0; 8], vec![0, 30 << 20, 1, 60 << 20, 0], vec![0, 60 << 20]] {
            let mut node = Node::new(4);
            let mut rounds = 0;
            // All that it gets comes back, for want of memory.
            while node.alone.is_none() {
                (node.tasks, node.bytes) = (0, 0);
                let mut sent = Vec::new();
                for (index, length) in lengths.iter().enumerate() {
                    if !node.has_room() {
                        break;
                    }
                    node.has_got(index as u32, *length, 1);
                    sent.push(*length);
                }
                if sent.len() > 1 {
                    sent.into_iter().for_each(|length| node.has_had_no_memory(length));
                }
                rounds += 1;
                assert!(rounds <= lengths.len(), "{lengths:?}");
            }
            assert_eq!(node.alone, Some(0));
        }
    }

    #[test]
    fn nothing_is_sent_beside_what_left_no_memory_for_it() {
        // A task without bytes goes on, whose output has the heap.
        let mut node = Node::new(4);
        node.has_got(0, 0, 1);
        node.has_got(1, 30 << 20, 1);
        assert_eq!(node.alone, None);
        node.has_had_no_memory(30 << 20);
        (node.tasks, node.bytes) = (1, 0);
        assert!(!node.has_room());
        // What had the heap has come back before the one that it left none for.
        let mut node = Node::new(4);
        node.has_got(0, 30 << 20, 1);
        node.has_got(1, 20 << 20, 1);
        (node.tasks, node.bytes) = (1, 20 << 20);
        assert_ne!(node.alone, Some(1));
        node.has_had_no_memory(20 << 20);
        (node.tasks, node.bytes) = (0, 0);
        node.has_got(1, 20 << 20, 1);
        assert!(!node.has_room());
        assert_eq!(node.alone, Some(1));
    }
}
