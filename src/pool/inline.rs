//! Tasks that run in the process that submits them: a pool without workers, for debuggers (`TINE_INLINE`), and what a task
//! submits to its own pool.
//!
//! The ledger, the waiting and the results are those of every pool; only what hands tasks out is another. A task runs
//! before its submit returns, an item of a map while its caller waits, one at a time:
//!
//! ```text
//!   QUEUED --- a thread that is in the pool takes it, if no other thread runs one ---> SENT --- it returns ---> SETTLED
//! ```
//!
//! `Inline::runner` names the thread that runs tasks; it looks at the queue under the lock before it stops being that, so
//! what another thread has queued meanwhile is run, too. A task that submits runs what it submits at once, in the middle
//! of itself, which is why a task that waits for its own never waits for ever. There is nothing here that could be killed
//! by itself: a task that crashes takes the process along, and one that is late is told so and nothing else.

use super::ending::Reason;
use super::ledger::{Delivery, InlineBytes, InputPlace, Outcome, OutputPlace, TaskState, to_c_string};
use super::state::PoolState;
use super::{Held, Inner, Pool};
use crate::channel::End;
use crate::check;
use crate::error::{Error, Result};
use crate::heap::Heap;
use crate::sys::clock::now_ns;
use crate::sys::elf;
use crate::sys::prim::{AtomicPtr, Ordering};
use crate::sys::thread;
use crate::task::call::{CallKind, Chunk};
use crate::task::callees::Callees;
use crate::task::function::{Callee, NOT_HERE, Tables};
use crate::task::resolver::Resolver;
use crate::task::ring::INLINE_INPUT;
use crate::worker::context::{self, CallingProcess, Place, Task};
use crate::worker::run::{Watch, run_chunk, run_once};
use crate::worker::{Nested, Worker};
use std::any::Any;
use std::ffi::{c_int, c_void};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The ring of a task that runs here.
pub(super) const INLINE: u32 = u32::MAX;

/// This process, as the place where a pool's tasks run.
#[derive(Debug)]
pub struct InlinePlace {
    heap: Arc<Heap>,
    outer: Outer,
    /// The user's own, for a pool that is not inside of another. Release and Acquire: what it points to was written before.
    state: Arc<AtomicPtr<c_void>>,
    /// The pool to which the tasks of a pool without workers submit. It has none of its own: they submit to it again.
    nested: Option<Box<Pool>>,
    /// What the boundary knows the pool by to which tasks submit.
    handle: AtomicPtr<c_void>,
    resolver: Mutex<Known>,
    /// What is to be called at the end; once.
    finalizer: Mutex<Option<usize>>,
    running: Stack,
}

/// Inside of what the tasks of a pool run.
#[derive(Debug)]
enum Outer {
    /// Of the host's own calls.
    Host,
    /// Of the tasks of a worker.
    Worker(&'static Worker),
    /// Of the tasks of a pool without workers.
    Inline(Stack),
}

/// What runs, the innermost last.
type Stack = Arc<Mutex<Vec<Running>>>;

/// The functions of this process when the loader's counters stood so.
#[derive(Debug)]
struct Known {
    generation: u64,
    resolver: Resolver,
}

#[derive(Clone, Copy, Debug)]
struct Running {
    index: u32,
    cancelled: bool,
    /// When it is late; 0 for never.
    due_ns: u64,
}

/// A task as it was taken from the ledger.
struct Work {
    index: u32,
    id: u64,
    kind: CallKind,
    callee: Option<Callee>,
    /// In the heap, or `inline`.
    address: usize,
    length: usize,
    inline: InlineBytes,
    deadline_ns: u64,
    end: Option<End>,
}

impl InlinePlace {
    fn new(heap: &Arc<Heap>, outer: Outer) -> InlinePlace {
        let known = Known { generation: u64::MAX, resolver: Resolver::default() };
        InlinePlace {
            heap: Arc::clone(heap),
            outer,
            state: Arc::default(),
            nested: None,
            handle: AtomicPtr::default(),
            resolver: Mutex::new(known),
            finalizer: Mutex::default(),
            running: Stack::default(),
        }
    }

    /// For the tasks that a host submits.
    pub(super) fn of_host(heap: &Arc<Heap>) -> Result<InlinePlace> {
        let mut place = InlinePlace::new(heap, Outer::Host);
        let mut inside = InlinePlace::new(heap, Outer::Inline(Arc::clone(&place.running)));
        inside.state = Arc::clone(&place.state);
        place.nested = Some(Box::new(Pool::of_inline(heap, inside)?));
        Ok(place)
    }

    /// The pool to which the tasks submit.
    pub(super) fn nested(&self) -> Option<&Pool> {
        self.nested.as_deref()
    }

    /// Whether it is inside of another one, whose heap it shares.
    pub(super) fn is_inside(&self) -> bool {
        !matches!(self.outer, Outer::Host)
    }

    pub(super) fn set_handle(&self, handle: *mut c_void) {
        self.handle.store(handle, Ordering::Release);
        if let Some(place) = self.nested().and_then(|pool| pool.inner.inline_place.as_ref()) {
            place.set_handle(handle);
        }
    }

    fn running(&self) -> MutexGuard<'_, Vec<Running>> {
        lock(&self.running)
    }

    /// How many tasks are under way here, each but the first inside of another.
    pub(super) fn running_count(&self) -> usize {
        self.running().len()
    }

    /// Tells a task that it is to end; whether it runs.
    pub(super) fn cancel(&self, index: u32) -> bool {
        let mut all = self.running();
        let running = all.iter_mut().find(|running| running.index == index);
        running.map(|running| running.cancelled = true).is_some()
    }

    /// Sees to it that functions of libraries that have been loaded since are known.
    pub(super) fn refresh(&self, callees: &mut Callees) {
        let generation = elf::load_generation();
        let mut known = self.resolver.lock().unwrap_or_else(PoisonError::into_inner);
        if known.generation != generation {
            let tables = Tables::own();
            *known = Known { generation, resolver: Resolver::new(&tables) };
            callees.set_tables(tables);
        }
    }

    /// Calls a function that is no task: its status and its message.
    pub(super) fn call(&self, address: usize, input: &[u8]) -> (c_int, String) {
        let mut room = InlineBytes([0; INLINE_INPUT]);
        let input = (input.as_ptr(), input.len());
        let mut task = Task::new(Place::Inline(self), 0, input, room.0.as_mut_ptr());
        // SAFETY: the address of a function that its user has given as an initializer or finalizer.
        let status = unsafe { run_once(&mut task, address) };
        task.discard_output();
        (status, task.message)
    }

    /// Calls a function when the pool is shut down.
    pub(super) fn set_finalizer(&self, address: usize) {
        *self.finalizer.lock().unwrap_or_else(PoisonError::into_inner) = Some(address);
    }

    /// The pool has been shut down in good order.
    pub(super) fn finalize(&self) {
        let finalizer = self.finalizer.lock().unwrap_or_else(PoisonError::into_inner).take();
        // How it ends is nobody's business any more.
        finalizer.map(|address| self.call(address, &[]));
    }

    /// Runs a task; what came of it, and its output where that is a small one.
    fn run(&self, work: &mut Work) -> (Outcome, InlineBytes) {
        let mut room = InlineBytes([0; INLINE_INPUT]);
        let known = self.resolver.lock().unwrap_or_else(PoisonError::into_inner);
        let address = work.callee.and_then(|callee| known.resolver.address(callee));
        let name = work.callee.and_then(|callee| known.resolver.name(callee));
        drop(known);
        let Some(address) = address else {
            return (Outcome::new(NOT_HERE, Delivery::NotStarted), room);
        };
        let input = match work.address {
            0 => work.inline.0.as_ptr(),
            address => std::ptr::with_exposed_provenance(address),
        };
        self.running().push(Running { index: work.index, cancelled: false, due_ns: 0 });
        let mut outcome = Outcome::new(0, Delivery::Ran);
        let mut task = Task::new(Place::Inline(self), work.id, (input, work.length), room.0.as_mut_ptr());
        if let Some(end) = work.end.take() {
            task.set_channel(end);
        }
        task.name = name;
        if work.kind == CallKind::Task {
            self.begin(work.deadline_ns);
            // SAFETY: resolved from a pointer or a name that was given as such a function.
            outcome.status = unsafe { run_once(&mut task, address) };
            if check::is_on() {
                task.look_through(&check::name_of(address));
            }
            outcome.message =
                (!task.message.is_empty()).then(|| to_c_string(task.message.as_bytes())).flatten();
            (outcome.output, outcome.output_length) = match task.output {
                context::OutputBuffer::None | context::OutputBuffer::Item(..) => (OutputPlace::Inline, 0),
                context::OutputBuffer::Inline(length) => (OutputPlace::Inline, length),
                context::OutputBuffer::Block(address, length) => (OutputPlace::Heap(address), length),
            };
        } else {
            // SAFETY: `input` is `work`'s own bytes, or a block that the map keeps until its chunk has settled. Both
            // are `work.length` bytes long.
            let chunk = Chunk::from_bytes(unsafe { std::slice::from_raw_parts(input, work.length) });
            match chunk {
                Ok(chunk) => {
                    let mut watch = Watched { inline_place: self, deadline_ns: work.deadline_ns };
                    // SAFETY: the function was resolved from a pointer or a name that was given as one of the type
                    // that belongs to this kind. The chunk was made by the map that is under way, which keeps its
                    // memory.
                    let end = unsafe { run_chunk(&mut task, work.kind, address, &chunk, &mut watch) };
                    (outcome.items, outcome.elapsed_ns) = (end.items, end.elapsed_ns);
                    (outcome.status, outcome.messages_length) = (end.failed, end.messages_bytes);
                }
                Err(error) => outcome.status = error.code().0,
            }
        }
        let reason = self.verdict();
        self.running().pop();
        if let (CallKind::Task, Some(reason)) = (work.kind, reason)
            && let Some(output) = reason.amend(&mut outcome)
        {
            let _ = self.heap.free_address(output);
        }
        (outcome, room)
    }

    /// The innermost task's function, or that of its next item, is about to be called.
    fn begin(&self, deadline_ns: u64) {
        if let Some(running) = self.running().last_mut().filter(|_| deadline_ns != 0) {
            running.due_ns = now_ns().saturating_add(deadline_ns);
        }
    }

    /// Why the innermost task should have ended, if it should have.
    fn verdict(&self) -> Option<Reason> {
        let running = *self.running().last()?;
        let late = running.due_ns != 0 && now_ns() >= running.due_ns;
        if running.cancelled {
            return Some(Reason::Cancelled);
        }
        late.then_some(Reason::Deadline)
    }
}

impl CallingProcess for InlinePlace {
    fn heap(&self) -> &Heap {
        &self.heap
    }

    fn worker_state(&self) -> &AtomicPtr<c_void> {
        match self.outer {
            Outer::Worker(worker) => &worker.state,
            Outer::Host | Outer::Inline(_) => &self.state,
        }
    }

    fn worker(&self) -> Option<&'static Worker> {
        match self.outer {
            Outer::Worker(worker) => Some(worker),
            Outer::Host | Outer::Inline(_) => None,
        }
    }

    fn handle(&self) -> *mut c_void {
        self.handle.load(Ordering::Acquire)
    }

    fn is_cancelled(&self) -> bool {
        let late = |running: &Running| running.cancelled || running.due_ns != 0 && now_ns() >= running.due_ns;
        let inside = self.running().iter().any(late);
        inside
            || match &self.outer {
                Outer::Host => false,
                Outer::Worker(worker) => worker.is_cancelled(),
                Outer::Inline(stack) => lock(stack).iter().any(late),
            }
    }
}

fn lock(stack: &Stack) -> MutexGuard<'_, Vec<Running>> {
    stack.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where tasks run in this process, if they do, and which thread runs them now.
#[derive(Debug)]
pub(super) struct Inline {
    place: Option<Arc<InlinePlace>>,
    runner: Option<thread::Id>,
}

impl Inline {
    pub(super) fn new(place: Option<Arc<InlinePlace>>) -> Inline {
        Inline { place, runner: None }
    }

    pub(super) fn place(&self) -> Option<&InlinePlace> {
        self.place.as_deref()
    }
}

struct Watched<'a> {
    inline_place: &'a InlinePlace,
    deadline_ns: u64,
}

impl Watch for Watched<'_> {
    fn begins(&mut self, _: u64) -> bool {
        self.inline_place.begin(self.deadline_ns);
        true
    }

    fn judges(&mut self, task: &mut Task<'_>, status: c_int) -> c_int {
        let Some(reason) = self.inline_place.verdict() else { return status };
        if status >= 0 || task.message.is_empty() {
            task.set_message(reason.text(Delivery::Ran));
        }
        reason.status()
    }

    fn has_messages(&mut self, _: usize) {}

    fn has_done(&mut self, _: u64) {}
}

/// Runs what is queued, where the pool's tasks run here and no other thread is at it.
#[inline(always)]
pub(super) fn run_queued<'a>(pool: &'a Inner, state: Held<'a>) -> Held<'a> {
    match &pool.inline_place {
        Some(place) => run_queued_in(place, pool, state),
        None => state,
    }
}

#[cold]
fn run_queued_in<'a>(place: &InlinePlace, pool: &'a Inner, mut state: Held<'a>) -> Held<'a> {
    let me = thread::this();
    if state.inline.runner.is_some_and(|runner| runner != me) {
        return state;
    }
    let outer = state.inline.runner.replace(me);
    let _uncancelled = thread::Uncancelled::new();
    while let Some(mut work) = state.take_work() {
        state.note_begin(work.index, pool.pid);
        let began = state.trace_clock();
        drop(state);
        let (outcome, room) = place.run(&mut work);
        // A task inside of another leaves that one its results.
        if let Some(nested) = place.nested().filter(|_| place.running().is_empty()) {
            nested.forget_results();
        }
        state = pool.lock();
        if let (OutputPlace::Inline, 1..) = (outcome.output, outcome.output_length) {
            state.ledger.put_inline(work.index, &room.0[..outcome.output_length]);
        }
        if let Some(began_ns) = began {
            state.trace_inline(began_ns, work.index, &outcome);
        }
        state.settle(work.index, outcome);
        state.stop_streams();
        state.wake_waiters();
        state.update_event_fd();
    }
    state.inline.runner = outer;
    state
}

impl PoolState {
    fn take_work(&mut self) -> Option<Work> {
        let index = self.take_front()?;
        let id = self.ledger.id_of(index).0;
        let mut inline = InlineBytes([0; INLINE_INPUT]);
        let input = self.ledger.inline_input(index);
        inline.0[..input.len()].copy_from_slice(input);
        let entry = self.ledger.get_mut(index);
        entry.state = TaskState::Sent(INLINE);
        let address = match entry.input() {
            InputPlace::Inline => 0,
            InputPlace::Heap { address, .. } => address,
        };
        Some(Work {
            index,
            id,
            kind: entry.kind,
            callee: self.family.callees().and_then(|callees| callees.current(entry.callee())),
            address,
            length: entry.input_length,
            inline,
            deadline_ns: entry.deadline_ns,
            end: entry.take_end().held(),
        })
    }
}

/// The pool to which the tasks of a worker submit: everything runs in this process.
pub(crate) fn nested_in(worker: &'static Worker) -> Result<&'static Pool> {
    let make = |heap: &Arc<Heap>| -> Result<Box<dyn Nested>> {
        Ok(Box::new(Pool::of_inline(heap, InlinePlace::new(heap, Outer::Worker(worker)))?))
    };
    let nested: &dyn Any = worker.nested(make)?;
    nested.downcast_ref().ok_or_else(|| Error::invalid("the pool that this worker's tasks submit to is gone"))
}

impl Nested for Pool {
    fn task_is_over(&self) {
        self.forget_results();
    }
}
