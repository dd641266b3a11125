//! The worker: takes tasks from its ring, calls the functions, leaves the results.
//!
//! It runs user code, so anything can happen to it at any time; what it leaves then is said in `task::ring`.

use super::context::{OutputBuffer, Place, Task};
use super::run::{self, Watch, run_chunk, run_once};
use crate::channel::End;
use crate::check;
use crate::error::{Code, Error, Result};
use crate::heap::Heap;
use crate::queue::{self, Known};
use crate::sys::fd::Guarded;
use crate::sys::prim::{AtomicPtr, Ordering, fence};
use crate::sys::{clock, environment, fork, pidfd};
use crate::task::call::{CallKind, Chunk};
use crate::task::faults::Faults;
use crate::task::function::{Callee, NOT_HERE};
use crate::task::handover;
use crate::task::job::{Job, ONLY_TASK};
use crate::task::resolver::Resolver;
use crate::task::ring::{Segment, TaskSlot, Waiter, flag, phase, state};
use crate::task::share::{self, Shared};
use crate::task::wire::{Connection, Message, MessageKind};
use once_cell::sync::OnceCell;
use std::any::Any;
use std::ffi::{c_int, c_void};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// This process, as a worker.
pub struct Worker {
    /// A forked child of a task's is not the worker: it has the same allocator and would hand out the same blocks.
    pid: i32,
    segment: Segment,
    heap: Arc<Heap>,
    event: Guarded,
    /// By which the host passes segments and the handover; and what it has passed. Only the worker's own thread adds to it.
    control_socket: Mutex<Connection>,
    shares: Mutex<Vec<Shared>>,
    handover: Mutex<Option<Guarded>>,
    resolver: Resolver,
    is_copy_of_host: bool,
    faults: Option<Faults>,
    /// The user's own. Release and Acquire: what it points to was written before.
    pub(crate) state: AtomicPtr<c_void>,
    /// The slot of the task that runs. Relaxed: only what runs inside that task asks.
    running: AtomicPtr<TaskSlot>,
    /// For what tasks submit to their own pool.
    nested: OnceCell<Box<dyn Nested>>,
}

/// The worker that this process is. Release when it has been made, Acquire by who asks: what it points to was written before.
static HERE: AtomicPtr<Worker> = AtomicPtr::new(std::ptr::null_mut());

/// What the tasks of a worker submit to: a pool whose tasks run in this process.
pub trait Nested: Any + Send + Sync {
    /// The task that may have submitted is over: what it has not taken is nobody's.
    fn task_is_over(&self);
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker").field("pid", &self.pid).finish_non_exhaustive()
    }
}

fn no_handover() -> Error {
    Error::errno(libc::EMFILE, "no descriptor is free for the socket by which ends of channels come")
}

impl Worker {
    /// The one worker of this process; it lives as long as the process.
    pub(crate) fn new(
        segment: Segment,
        heap: Heap,
        event: OwnedFd,
        socket: OwnedFd,
        resolver: Resolver,
        is_copy_of_host: bool,
        faults: Faults,
    ) -> Result<&'static Worker> {
        let (pid, place) = (fork::pid(), queue::Place::for_heap()?);
        let (control_socket, shares) = (Mutex::new(Connection::new(socket)), Mutex::default());
        let state = AtomicPtr::new(std::ptr::null_mut());
        let worker: &'static Worker = Box::leak(Box::new(Worker {
            pid,
            segment,
            heap: Arc::new(heap),
            event: Guarded::of_eventfd(event),
            control_socket,
            shares,
            handover: Mutex::default(),
            resolver,
            is_copy_of_host,
            faults: faults.any().then_some(faults),
            state,
            running: AtomicPtr::new(std::ptr::null_mut()),
            nested: OnceCell::new(),
        }));
        place.know(Known::Worker(&worker.heap));
        HERE.store(std::ptr::from_ref(worker).cast_mut(), Ordering::Release);
        Ok(worker)
    }

    /// This process's, where it is a worker and no forked child of one.
    pub(crate) fn here() -> Option<&'static Worker> {
        // SAFETY: null, or a worker, which lives as long as the process.
        let worker = unsafe { HERE.load(Ordering::Acquire).as_ref() };
        worker.filter(|worker| worker.pid == fork::pid())
    }

    /// Takes what the host has passed and is not here yet, and maps the segments. A worker that cannot map one ends, unless the segment is
    /// taken back by a later message. Waits for as many as are `needed`, whether the host has told of them or not.
    pub(crate) fn take_messages(&self, needed: u32) {
        let mut have = self.segment.messages_done.load(Ordering::Relaxed);
        // Segments that could not be mapped: by which message, the address, and why.
        let mut refused: Vec<(u32, usize, Error)> = Vec::new();
        while have < self.segment.messages_sent.load(Ordering::Acquire).max(needed) {
            let message = self.receive();
            let address = message.words[0] as usize;
            match message.kind {
                // Where no descriptor is free for it, the task that needs it fails.
                MessageKind::Handover => self.set_handover(message.fds.into_iter().next()),
                MessageKind::TakeBack => {
                    self.shares().retain(|shared| shared.address != address);
                    refused.retain(|(_, refused, _)| *refused != address);
                }
                _ => match share::map(message) {
                    Ok(shared) => self.shares().push(shared),
                    Err(error) => refused.push((have, address, error)),
                },
            }
            have += 1;
            let done = refused.first().map_or(have, |(number, ..)| *number);
            if done != self.segment.messages_done.load(Ordering::Relaxed) {
                self.segment.messages_done.store(done, Ordering::Release);
                self.wake_host();
            }
        }
        if let Some((_, _, error)) = refused.first() {
            self.give_up(error, phase::CANNOT_MAP);
        }
    }

    /// The next message of the host's, which has been announced.
    fn receive(&self) -> Message {
        let mut control_socket = self.control_socket.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match control_socket.receive() {
                Ok(Some(message))
                    if matches!(
                        message.kind,
                        MessageKind::Share | MessageKind::TakeBack | MessageKind::Handover
                    ) =>
                {
                    return message;
                }
                Ok(Some(_)) => (),
                Ok(None) => drop(pidfd::poll(control_socket.fd(), clock::Deadline::NEVER)),
                // The host is gone, or will find that this worker is.
                Err(_) => self.end(1),
            }
        }
    }

    fn shares(&self) -> MutexGuard<'_, Vec<Shared>> {
        self.shares.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_handover(&self, socket: Option<OwnedFd>) {
        *self.handover.lock().unwrap_or_else(PoisonError::into_inner) = socket.map(Guarded::new);
    }

    /// Takes the end of a channel that goes with this task, which has just begun.
    fn take_end(&self, task: u64) -> Result<End> {
        let handover = self.handover.lock().unwrap_or_else(PoisonError::into_inner);
        let socket = handover.as_ref().ok_or_else(no_handover)?.as_raw_fd();
        // A task that can't have its end fails, and the other end hears of that; the next task must not find it.
        handover::take(socket, task).inspect_err(|_| handover::discard(socket))
    }

    /// Whether all processes of the pool can use these bytes.
    pub fn is_shared(&self, address: usize, length: usize) -> Result<bool> {
        let heap = self.heap()?;
        let is_there = |shared: &Shared| shared.contains(address, length);
        Ok(heap.contains(address, length) || self.shares().iter().any(is_there))
    }

    /// Leaves word of why this process cannot be a worker, and ends.
    pub(crate) fn give_up(&self, error: &Error, phase: u32) -> ! {
        let length = self.segment.failure.write(error.text().as_bytes());
        self.segment.failure_length.store(length as u32, Ordering::Relaxed);
        self.segment.failure_code.store(error.code().0, Ordering::Relaxed);
        self.segment.phase.store(phase, Ordering::Release);
        self.wake_host();
        self.end(1)
    }

    pub(crate) fn segment(&self) -> &Segment {
        &self.segment
    }

    pub(crate) fn resolver(&self) -> &Resolver {
        &self.resolver
    }

    /// The pool's heap.
    pub fn heap(&self) -> Result<&Heap> {
        if self.pid == fork::pid() { Ok(&self.heap) } else { Err(Code::FORKED.into()) }
    }

    /// What this worker's tasks submit to; made from the pool's heap by the first that does.
    pub(crate) fn nested(
        &'static self,
        make: impl FnOnce(&Arc<Heap>) -> Result<Box<dyn Nested>>,
    ) -> Result<&'static dyn Nested> {
        self.heap()?;
        self.nested.get_or_try_init(|| make(&self.heap)).map(|nested| &**nested)
    }

    /// Whether the task that runs is to end.
    pub(crate) fn is_cancelled(&self) -> bool {
        // SAFETY: null, or a slot of this worker's segment, which stays mapped.
        let slot = unsafe { self.running.load(Ordering::Relaxed).as_ref() };
        // Of a chunk the item counts, of a task it is 1.
        let begun = self.segment.items_begun.load(Ordering::Relaxed).max(1);
        slot.is_some_and(|slot| slot.asked.load(Ordering::Relaxed) == begun)
    }

    /// The same, whoever asks: for who checks the process by itself.
    pub(crate) fn own_heap(&self) -> &Heap {
        &self.heap
    }

    /// What is to go wrong here, if anything is.
    pub(crate) fn faults(&self) -> Option<Faults> {
        self.faults
    }

    /// Whether the options want the allocation that is asked for to fail.
    pub(crate) fn fails_allocation(&self) -> bool {
        self.faults.is_some_and(|faults| faults.fails_allocation(self.heap.counts()))
    }

    /// A call has been marked as begun: its number.
    fn before_call(&self) -> u64 {
        self.faults.map_or(0, |faults| faults.before_call(self.heap.counts()))
    }

    /// The function of that call has returned.
    fn after_call(&self, number: u64) {
        if let Some(faults) = self.faults {
            faults.after_call(number);
        }
    }

    /// This process's number.
    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }

    pub(crate) fn wake_host(&self) {
        self.segment.tell_host(self.heap.bell(), &self.event);
    }

    /// Runs the pool's initializer.
    pub(crate) fn initialize(&'static self, address: usize, input: &[u8]) -> Result<()> {
        let (status, message) = self.call(address, input);
        if status >= 0 { Ok(()) } else { Err(run::initializer_failure(status, message)) }
    }

    /// Calls a function that is no task: its status and its message.
    fn call(&'static self, address: usize, input: &[u8]) -> (c_int, String) {
        let room = self.segment.slot(0).inline_output.pointer();
        let mut task = Task::new(Place::Worker(self), 0, (input.as_ptr(), input.len()), room);
        // SAFETY: the address of a function that its user has given as an initializer or finalizer.
        let status = unsafe { run_once(&mut task, address) };
        self.end_a_forked_child(0);
        task.discard_output();
        (status, task.message)
    }

    /// What a single process does: calls its one function, leaves the result, and ends with its code.
    pub(crate) fn run_job(&'static self, address: usize, job: &Job, input: (*const u8, usize)) -> ! {
        let end = match job.has_end.then(|| self.take_end(ONLY_TASK)).transpose() {
            Ok(end) => end,
            Err(error) => self.give_up(&error, phase::FAILED),
        };
        self.segment.phase.store(phase::READY, Ordering::Release);
        self.wake_host();
        let slot = self.segment.slot(0);
        let room = slot.inline_output.pointer();
        let mut task = Task::new(Place::Worker(self), ONLY_TASK, input, room);
        task.name = job.target.name();
        if let Some(end) = end {
            task.set_channel(end);
        }
        // SAFETY: the address of a function that the host has given as one of this type.
        let status = unsafe { run_once(&mut task, address) };
        let code = if status < 0 { 1 } else { status.min(255) };
        self.end_a_forked_child(code);
        if check::is_on() {
            task.look_through(&check::name_of(address));
        }
        leave_result(slot, status, &task.message, task.output);
        drop(task);
        // Nobody is to be woken: what is waited for is the end. The function may have closed the descriptor for it, and its
        // number may be that of a file by now.
        self.segment.commit(1);
        self.end(code)
    }

    /// Ends this process where it is a child that the function has forked and that has come back in its stead: the result is
    /// its parent's to leave, and so are all further tasks.
    #[inline(always)]
    fn end_a_forked_child(&self, code: i32) {
        if self.pid != fork::pid() {
            self.end(code);
        }
    }

    /// Ends the process in good order.
    pub(crate) fn end(&self, code: i32) -> ! {
        if self.is_copy_of_host {
            environment::exit_copy(code)
        }
        environment::exit(code)
    }
}

/// The worker's loop, until it is to leave.
pub(crate) fn run(worker: &'static Worker, finalizer: Option<usize>) -> ! {
    worker.segment.phase.store(phase::READY, Ordering::Release);
    worker.wake_host();
    // Compiled twice, so that nothing is asked for each task.
    match worker.segment.traced.load(Ordering::Relaxed) != 0 || worker.faults.is_some() {
        false => take_tasks::<false>(worker),
        true => take_tasks::<true>(worker),
    }
    if let Some(address) = finalizer {
        // How it ends is nobody's business any more.
        let _ = worker.call(address, &[]);
    }
    worker.end(0)
}

/// The slots of so many tasks are on their way while one runs: each is where the host has written it.
const AHEAD: u32 = 2;

/// `ATTENDED`: the pool has a trace, or faults are asked for.
fn take_tasks<const ATTENDED: bool>(worker: &'static Worker) {
    let segment = &worker.segment;
    let traced = ATTENDED && segment.traced.load(Ordering::Relaxed) != 0;
    let mut position = 0u32;
    let mut waiter = Waiter::new();
    let before_sleep = || {
        worker.take_messages(0);
        worker.heap.rest_all();
    };
    loop {
        let count = segment.wait_for_tasks(position, &mut waiter, before_sleep);
        if count == 0 {
            return;
        }
        for behind in (0..count).rev() {
            segment.fetch(position.wrapping_add(1), behind.min(AHEAD));
            take_task::<ATTENDED>(worker, segment.slot(position), traced);
            position = position.wrapping_add(1);
            segment.finish(position, worker.heap.bell(), worker.heap.marks(), &worker.event);
        }
    }
}

/// Runs what is in a slot, unless the host has taken it back.
#[inline(always)]
fn take_task<const ATTENDED: bool>(worker: &'static Worker, slot: &'static TaskSlot, traced: bool) {
    let segment = &worker.segment;
    let messages_needed = slot.messages_needed.load(Ordering::Relaxed);
    if messages_needed > segment.messages_done.load(Ordering::Relaxed) {
        worker.take_messages(messages_needed);
    }
    // What the last task left here must not be taken for this one's: zeroed before the claim that begins it. Nor this one's for
    // the last one's: whoever sees a word of what comes after `done` sees `done`.
    if segment.pending_output.load(Ordering::Relaxed) != 0 {
        segment.pending_output.store(0, Ordering::Relaxed);
    }
    if segment.items_begun.load(Ordering::Relaxed) != 0 {
        segment.items_begun.store(0, Ordering::Release);
        segment.items_done.store(0, Ordering::Release);
    }
    if segment.begun_ns.load(Ordering::Relaxed) != 0 {
        segment.begun_ns.store(0, Ordering::Release);
    }
    if slot.kind.load(Ordering::Relaxed) & flag::SIGNALLED != 0 {
        segment.let_signals_arrive();
    }
    if !slot.claim(state::STARTED) {
        return;
    }
    worker.running.store(std::ptr::from_ref(slot).cast_mut(), Ordering::Relaxed);
    if traced {
        slot.note_begin(clock::now_ns());
    }
    execute::<ATTENDED>(worker, slot);
    if traced {
        slot.note_end(clock::now_ns());
    }
    if let Some(nested) = worker.nested.get() {
        nested.task_is_over();
    }
}

fn execute<const ATTENDED: bool>(worker: &'static Worker, slot: &'static TaskSlot) {
    let kind = slot.kind.load(Ordering::Relaxed);
    let timed = kind & flag::TIMED != 0;
    let callee =
        Callee { module: slot.module.load(Ordering::Relaxed), offset: slot.offset.load(Ordering::Relaxed) };
    let with_channel = kind & flag::CHANNEL != 0;
    // Whatever becomes of the call, the next task must not find it.
    let end = with_channel.then(|| worker.take_end(slot.id.load(Ordering::Relaxed))).transpose();
    let kind = CallKind::from_number(kind & !(flag::TIMED | flag::CHANNEL | flag::SIGNALLED));
    let (Some(address), Some(kind)) = (worker.resolver.address(callee), kind) else {
        slot.items.store(0, Ordering::Relaxed);
        slot.decline();
        return leave_result(slot, NOT_HERE, "", OutputBuffer::None);
    };
    let length = slot.input_length.load(Ordering::Relaxed) as usize;
    let input = match slot.input.load(Ordering::Relaxed) {
        0 => slot.inline_input.pointer().cast_const(),
        address => std::ptr::with_exposed_provenance(address as usize),
    };
    let room = slot.inline_output.pointer();
    let id = slot.id.load(Ordering::Relaxed);
    let mut task = Task::new(Place::Worker(worker), id, (input, length), room);
    task.slot = Some(slot);
    match end {
        Ok(Some(end)) => task.set_channel(end),
        Ok(None) => (),
        Err(error) => {
            slot.decline();
            return leave_result(slot, error.code().0, &error.text(), OutputBuffer::None);
        }
    }
    task.name = worker.resolver.name(callee);
    match kind {
        CallKind::Task => {
            if timed {
                worker.segment.begun_ns.store(clock::now_ns(), Ordering::Release);
            }
            let number = if ATTENDED { worker.before_call() } else { 0 };
            // SAFETY: the host has resolved the function to this place in this module, as one of this type.
            let status = unsafe { run_once(&mut task, address) };
            worker.end_a_forked_child(0);
            if ATTENDED {
                worker.after_call(number);
            }
            if check::is_on() {
                task.look_through(&check::name_of(address));
            }
            leave_result(slot, status, &task.message, task.output);
        }
        CallKind::Items | CallKind::TaskItems | CallKind::Range => {
            // SAFETY: the slot's input, which the host has filled.
            let bytes = unsafe { std::slice::from_raw_parts(input, length) };
            let chunk = match Chunk::from_bytes(bytes) {
                Ok(chunk) => chunk,
                Err(error) => return leave_result(slot, error.code().0, "", OutputBuffer::None),
            };
            let mut watch = Watched::<ATTENDED> { worker, segment: &worker.segment, slot, timed, number: 0 };
            // SAFETY: the host has resolved the function to this place in this module, as one of the type that
            // belongs to `kind`. The host has also made the chunk, and leaves its memory alone until the chunk has
            // settled.
            let end = unsafe { run_chunk(&mut task, kind, address, &chunk, &mut watch) };
            slot.items.store(end.items, Ordering::Relaxed);
            slot.elapsed_ns.store(end.elapsed_ns, Ordering::Relaxed);
            slot.output_length.store(0, Ordering::Relaxed);
            slot.status.store(end.failed, Ordering::Relaxed);
        }
    }
}

/// The host looks on: what it needs to know if this process dies is in the segment before and after each item.
struct Watched<const ATTENDED: bool> {
    worker: &'static Worker,
    segment: &'static Segment,
    slot: &'static TaskSlot,
    /// The items have a deadline.
    timed: bool,
    /// Which call of the pool's the item is, where that is counted.
    number: u64,
}

impl<const ATTENDED: bool> Watch for Watched<ATTENDED> {
    #[inline(always)]
    fn begins(&mut self, item: u64) -> bool {
        let segment = self.segment;
        if item > 0 && self.slot.split.load(Ordering::Relaxed) != 0 {
            return false;
        }
        if self.timed {
            segment.begun_ns.store(clock::now_ns(), Ordering::Release);
        }
        segment.items_begun.store(item + 1, Ordering::Release);
        if self.timed {
            // Either the host sees that this item has begun, or this sees that the last one was to be the last.
            fence(Ordering::SeqCst);
            if self.slot.asked.load(Ordering::Relaxed) != 0 {
                segment.items_begun.store(item, Ordering::Release);
                return false;
            }
        }
        if ATTENDED {
            self.number = self.worker.before_call();
        }
        true
    }

    #[inline(always)]
    fn judges(&mut self, _: &mut Task<'_>, status: c_int) -> c_int {
        self.worker.end_a_forked_child(0);
        if ATTENDED {
            self.worker.after_call(self.number);
        }
        status
    }

    fn has_messages(&mut self, bytes: usize) {
        self.slot.message_length.store(bytes as u32, Ordering::Relaxed);
    }

    #[inline(always)]
    fn has_done(&mut self, items: u64) {
        self.segment.items_done.store(items, Ordering::Release);
    }
}

fn leave_result(slot: &TaskSlot, status: c_int, message: &str, output: OutputBuffer) {
    let (address, length) = match output {
        OutputBuffer::None | OutputBuffer::Item(..) => (0, 0),
        OutputBuffer::Inline(length) => (0, length),
        OutputBuffer::Block(address, length) => (address, length),
    };
    if length != 0 {
        slot.output.store(address as u64, Ordering::Relaxed);
    }
    slot.output_length.store(length as u64, Ordering::Relaxed);
    let message_length = if message.is_empty() { 0 } else { slot.message.write(message.as_bytes()) };
    slot.message_length.store(message_length as u32, Ordering::Relaxed);
    slot.status.store(status, Ordering::Relaxed);
}
