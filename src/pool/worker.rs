//! The worker: takes tasks from its ring, calls the functions, leaves the results.
//!
//! It runs user code, so anything can happen to it at any time; what it leaves then is said in `queue::ring`.

use super::call::{Chunk, ItemFunction, Kind, RangeFunction, TaskFunction, messages};
use crate::check;
use crate::engine::share;
use crate::error::{Code, Error, Result};
use crate::heap::Heap;
use crate::prim::{AtomicPtr, Ordering, fence};
use crate::process::function::{Callee, NOT_HERE, Resolver};
use crate::process::wire::{self, Connection};
use crate::queue::ring::{INLINE_OUTPUT, MESSAGE, Segment, Slot, flag, phase, state};
use crate::queue::spin::Spin;
use crate::queue::{self, Known};
use crate::sys::{clock, environment, fork, pidfd};
use std::any::Any;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::os::fd::{AsRawFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::sync::{Mutex, PoisonError};

/// The longest text of a failed task, in bytes.
pub const MESSAGE_BYTES: usize = MESSAGE;

/// This process, as a worker.
pub struct Worker {
    /// A forked child of a task's is not the worker: it has the same allocator and would hand out the same blocks.
    pid: i32,
    segment: Segment,
    heap: Heap,
    event: OwnedFd,
    /// By which the host passes segments; and those that it has passed. Only the worker's own thread adds to them.
    tidings: Mutex<Connection>,
    shares: Mutex<Vec<(usize, usize)>>,
    resolver: Resolver,
    is_copy_of_host: bool,
    /// The user's own. Release and Acquire: what it points to was written before.
    state: AtomicPtr<c_void>,
}

/// A call of a user's function, as that function sees it.
#[repr(C)]
pub struct Task {
    /// First, because ffi/variadic.c finds it there.
    fail: unsafe extern "C" fn(task: *mut Task, code: c_int, text: *const c_char) -> c_int,
    worker: &'static Worker,
    id: u64,
    input: (*const u8, usize),
    context: (*const u8, usize),
    output: Output,
    /// Where the host says that the call is to end; none for the initializer.
    slot: Option<&'static Slot>,
    /// Of a chunk: which item, by its number in the chunk.
    item: u64,
    /// Where small outputs go; the slot's.
    inline_output: *mut u8,
    failed: c_int,
    message: String,
}

/// Where a task's output is.
#[derive(Clone, Copy)]
enum Output {
    None,
    Inline(usize),
    Block(usize, usize),
    /// An item's place in the map's output: its address and how long it may be.
    Item(*mut u8, usize),
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
    ) -> &'static Worker {
        let pid = fork::pid();
        let (tidings, shares) = (Mutex::new(Connection::new(socket)), Mutex::default());
        let state = AtomicPtr::new(std::ptr::null_mut());
        let worker: &'static Worker = Box::leak(Box::new(Worker {
            pid,
            segment,
            heap,
            event,
            tidings,
            shares,
            resolver,
            is_copy_of_host,
            state,
        }));
        queue::know_heap(Known::Worker(&worker.heap));
        worker
    }

    /// Maps the segments that the host has passed and are not mapped yet; a worker that cannot ends.
    pub(crate) fn take_shares(&self) {
        let wanted = self.segment.shares.load(Ordering::Acquire);
        let mut have = self.segment.shared.load(Ordering::Relaxed);
        while have < wanted {
            let mut tidings = self.tidings.lock().unwrap_or_else(PoisonError::into_inner);
            let message = match tidings.receive() {
                Ok(Some(message)) if message.kind == wire::Kind::Share => message,
                Ok(Some(_)) => continue,
                Ok(None) => {
                    pidfd::poll(tidings.fd(), clock::Deadline::NEVER);
                    continue;
                }
                // The host is gone, or will find that this worker is.
                Err(_) => self.end(1),
            };
            match share::map(message) {
                Ok(range) => self.shares.lock().unwrap_or_else(PoisonError::into_inner).push(range),
                Err(error) => self.give_up(&error, phase::CANNOT_MAP),
            }
            have += 1;
            self.segment.shared.store(have, Ordering::Release);
            self.wake_host();
        }
    }

    /// Whether all processes of the pool can use these bytes.
    pub fn is_shared(&self, address: usize, length: usize) -> Result<bool> {
        let shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        let heap = self.heap()?;
        Ok(heap.contains(address, length) || shares.iter().any(|range| share::holds(*range, address, length)))
    }

    /// Leaves word of why this process cannot be a worker, and ends.
    pub(crate) fn give_up(&self, error: &Error, phase: u32) -> ! {
        let length = self.segment.failure.write(error.text().as_bytes());
        self.segment.failure_length.store(length as u32, Ordering::Relaxed);
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

    /// The same, whoever asks: for who checks the process by itself.
    pub(crate) fn own_heap(&self) -> &Heap {
        &self.heap
    }

    /// This process's number.
    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }

    pub(crate) fn wake_host(&self) {
        self.segment.wake_host(self.event.as_raw_fd());
    }

    /// Runs the pool's initializer.
    pub(crate) fn initialize(&'static self, address: usize, input: &[u8]) -> Result<()> {
        let (status, message) = self.call(address, input);
        if status >= 0 {
            return Ok(());
        }
        let name = Code(status).name().to_string_lossy();
        let text = if message.is_empty() { Code(status).text().to_string_lossy() } else { message.into() };
        Err(Error::new(Code(status), format!("the initializer failed with {name}: {text}")))
    }

    /// Calls a function that is no task: its status and its message.
    fn call(&'static self, address: usize, input: &[u8]) -> (c_int, String) {
        let mut task = Task::new(self, 0, (input.as_ptr(), input.len()));
        task.inline_output = self.segment.slot(0).inline_output.pointer();
        // SAFETY: the address of a function that its user has given as an initializer or finalizer.
        let function: TaskFunction = unsafe { std::mem::transmute(address) };
        // SAFETY: as above.
        let status = task.run(|task| unsafe { function(task) });
        task.discard_output();
        (status, task.message)
    }

    /// What the initializer has left for the tasks; null where it has left nothing.
    pub fn state(&self) -> *mut c_void {
        self.state.load(Ordering::Acquire)
    }

    /// Leaves something for the tasks of this worker.
    pub fn set_state(&self, state: *mut c_void) {
        self.state.store(state, Ordering::Release);
    }

    /// Ends the process in good order.
    pub(crate) fn end(&self, code: i32) -> ! {
        if self.is_copy_of_host {
            environment::exit_copy(code)
        }
        environment::exit(code)
    }
}

/// The worker's loop.
pub(crate) fn run(worker: &'static Worker, finalizer: Option<usize>) -> ! {
    let segment = &worker.segment;
    let event = worker.event.as_raw_fd();
    segment.phase.store(phase::READY, Ordering::Release);
    worker.wake_host();
    let mut position = 0u32;
    let mut spin = Spin::new();
    while segment.wait_for_task(position, &mut spin, || worker.take_shares()) {
        let slot = segment.slot(position);
        if slot.shares.load(Ordering::Relaxed) > segment.shared.load(Ordering::Relaxed) {
            worker.take_shares();
        }
        // What the last task left here must not be taken for this one's: zeroed before the claim that begins it.
        if segment.pending_output.load(Ordering::Relaxed) != 0 {
            segment.pending_output.store(0, Ordering::Relaxed);
        }
        if segment.items_begun.load(Ordering::Relaxed) != 0 {
            segment.items_begun.store(0, Ordering::Relaxed);
            segment.items_done.store(0, Ordering::Relaxed);
        }
        if segment.begun_ns.load(Ordering::Relaxed) != 0 {
            segment.begun_ns.store(0, Ordering::Relaxed);
        }
        if slot.claim(state::STARTED) {
            execute(worker, slot);
        }
        position = position.wrapping_add(1);
        segment.finish(position, event);
    }
    if let Some(address) = finalizer {
        // How it ends is nobody's business any more.
        let _ = worker.call(address, &[]);
    }
    worker.end(0)
}

fn execute(worker: &'static Worker, slot: &'static Slot) {
    let kind = slot.kind.load(Ordering::Relaxed);
    let timed = kind & flag::TIMED != 0;
    let callee =
        Callee { module: slot.module.load(Ordering::Relaxed), offset: slot.offset.load(Ordering::Relaxed) };
    let kind = Kind::from_number(kind & !flag::TIMED);
    let (Some(address), Some(kind)) = (worker.resolver.address(callee), kind) else {
        slot.items.store(0, Ordering::Relaxed);
        return leave_result(slot, NOT_HERE, "", Output::None);
    };
    let length = slot.input_length.load(Ordering::Relaxed) as usize;
    let input = match slot.input.load(Ordering::Relaxed) {
        0 => slot.inline_input.pointer().cast_const(),
        address => std::ptr::with_exposed_provenance(address as usize),
    };
    let mut task = Task::new(worker, slot.id.load(Ordering::Relaxed), (input, length));
    task.inline_output = slot.inline_output.pointer();
    task.slot = Some(slot);
    match kind {
        Kind::Task => {
            if timed {
                worker.segment.begun_ns.store(clock::now_ns(), Ordering::Release);
            }
            // SAFETY: the host has resolved the function to this place in this module, as one of this type.
            let function: TaskFunction = unsafe { std::mem::transmute(address) };
            // SAFETY: as above.
            let status = task.run(|task| unsafe { function(task) });
            if check::is_on() {
                task.look_through(&check::name_of(address));
            }
            leave_result(slot, status, &task.message, task.output);
        }
        Kind::Items | Kind::TaskItems | Kind::Range => {
            // SAFETY: the slot's input, which the host has filled.
            let bytes = unsafe { std::slice::from_raw_parts(input, length) };
            match Chunk::from_bytes(bytes) {
                Ok(chunk) => execute_chunk(slot, &mut task, kind, address, &chunk, timed),
                Err(error) => leave_result(slot, error.code().0, "", Output::None),
            }
        }
    }
}

/// Runs the items of a chunk, until all are done or there is no more room for messages.
fn execute_chunk(slot: &Slot, task: &mut Task, kind: Kind, address: usize, chunk: &Chunk, timed: bool) {
    let segment = &task.worker.segment;
    let began = clock::now_ns();
    task.context = (std::ptr::with_exposed_provenance(chunk.context as usize), chunk.context_length as usize);
    // A piece of a range is one item of its chunk.
    let count = if kind == Kind::Range { 1 } else { chunk.count };
    let (mut done, mut failed, mut used) = (0, 0, 0);
    while done < count && used + messages::LARGEST_RECORD <= chunk.messages_bytes as usize {
        if timed {
            segment.begun_ns.store(clock::now_ns(), Ordering::Relaxed);
        }
        segment.items_begun.store(done + 1, Ordering::Release);
        if timed {
            // Either the host sees that this item has begun, or this sees that the last one was to be the last.
            fence(Ordering::SeqCst);
            if slot.asked.load(Ordering::Relaxed) != 0 {
                segment.items_begun.store(done, Ordering::Release);
                break;
            }
        }
        task.item = done;
        let status = execute_item(task, kind, address, chunk, done);
        if check::is_on() {
            task.look_through(&check::name_of(address));
        }
        if chunk.status != 0 {
            let place = std::ptr::with_exposed_provenance_mut::<c_int>(chunk.status as usize);
            // SAFETY: the host has allocated an `int` for each item of the chunk.
            unsafe { place.add(done as usize).write(status) };
        }
        if status < 0 {
            failed += 1;
            if !task.message.is_empty() {
                let room = std::ptr::with_exposed_provenance_mut::<u8>(chunk.messages as usize + used);
                // SAFETY: the host has allocated `messages_bytes`, of which this many are left.
                let room =
                    unsafe { std::slice::from_raw_parts_mut(room, chunk.messages_bytes as usize - used) };
                used += messages::write(room, done, task.message.as_bytes());
                slot.message_length.store(used as u32, Ordering::Relaxed);
            }
        }
        done += 1;
        segment.items_done.store(done, Ordering::Release);
    }
    slot.items.store(done, Ordering::Relaxed);
    slot.elapsed_ns.store(clock::now_ns() - began, Ordering::Relaxed);
    slot.output_length.store(0, Ordering::Relaxed);
    slot.status.store(failed, Ordering::Relaxed);
}

fn execute_item(task: &mut Task, kind: Kind, address: usize, chunk: &Chunk, item: u64) -> c_int {
    let input =
        std::ptr::with_exposed_provenance::<c_void>((chunk.input + item * chunk.input_stride) as usize);
    let output = match chunk.output {
        0 => std::ptr::null_mut(),
        start => {
            std::ptr::with_exposed_provenance_mut::<c_void>((start + item * chunk.output_stride) as usize)
        }
    };
    task.failed = 0;
    task.message.clear();
    task.id = chunk.first + item;
    task.input = (input.cast(), chunk.input_stride as usize);
    task.output = Output::Item(output.cast(), chunk.output_stride as usize);
    // SAFETY: the host has resolved the function to this place in this module, as one of the type that belongs to
    // `kind`; its arguments are the user's own memory.
    unsafe {
        match kind {
            Kind::Items => {
                let function: ItemFunction = std::mem::transmute(address);
                task.run(|task| function(task, input, output))
            }
            Kind::Range => {
                let function: RangeFunction = std::mem::transmute(address);
                let (begin, end) = (chunk.first as usize, (chunk.first + chunk.count) as usize);
                task.run(|task| function(task, begin, end))
            }
            Kind::Task | Kind::TaskItems => {
                let function: TaskFunction = std::mem::transmute(address);
                task.run(|task| function(task))
            }
        }
    }
}

fn leave_result(slot: &Slot, status: c_int, message: &str, output: Output) {
    let (address, length) = match output {
        Output::None | Output::Item(..) => (0, 0),
        Output::Inline(length) => (0, length),
        Output::Block(address, length) => (address, length),
    };
    if length != 0 {
        slot.output.store(address as u64, Ordering::Relaxed);
    }
    slot.output_length.store(length as u64, Ordering::Relaxed);
    let message_length = if message.is_empty() { 0 } else { slot.message.write(message.as_bytes()) };
    slot.message_length.store(message_length as u32, Ordering::Relaxed);
    slot.status.store(status, Ordering::Relaxed);
}

impl Task {
    fn new(worker: &'static Worker, id: u64, input: (*const u8, usize)) -> Task {
        Task {
            fail: fail_with_c_text,
            worker,
            id,
            input,
            context: (std::ptr::null(), 0),
            output: Output::None,
            slot: None,
            item: 0,
            inline_output: std::ptr::null_mut(),
            failed: 0,
            message: String::new(),
        }
    }

    /// Calls a function and makes a status of what it returns.
    fn run(&mut self, call: impl FnOnce(&mut Task) -> c_int) -> c_int {
        let status = match catch_unwind(AssertUnwindSafe(|| call(self))) {
            Ok(status) => status,
            Err(panic) => {
                self.set_message(panic_text(panic.as_ref()));
                return Code::PANIC.0;
            }
        };
        if status == 0 && self.failed != 0 {
            return self.failed;
        }
        if status < -4095 {
            if self.message.is_empty() {
                self.set_message(&format!("the function returned {status}"));
            }
            return Code::BAD_CODE.0;
        }
        if status >= 0 {
            self.message.clear(); // tine_fail was called, and the function went on to succeed all the same.
        }
        status
    }

    /// Which task it is: the id that submit gave, or the item's number in its map.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The input.
    pub fn input(&self) -> (*const u8, usize) {
        self.input
    }

    /// The map's context.
    pub fn context(&self) -> (*const u8, usize) {
        self.context
    }

    /// The heap of the pool that runs the task.
    pub fn worker(&self) -> &'static Worker {
        self.worker
    }

    /// Whether the host wants the call to end.
    pub fn is_cancelled(&self) -> bool {
        self.slot.is_some_and(|slot| slot.asked.load(Ordering::Relaxed) == self.item + 1)
    }

    /// Room for an output of `length` bytes, in place of any that was asked for before.
    pub fn output(&mut self, length: usize) -> Result<NonNull<u8>> {
        if let Output::Item(place, room) = self.output {
            let place = NonNull::new(place).filter(|_| length <= room);
            return place.ok_or_else(|| {
                Error::errno(
                    libc::EMSGSIZE,
                    format!("an output of {length} bytes; the map's items have {room}"),
                )
            });
        }
        self.discard_output();
        if length <= INLINE_OUTPUT {
            self.output = Output::Inline(length);
            return NonNull::new(self.inline_output).ok_or_else(|| Error::invalid("no room for an output"));
        }
        let pending = &self.worker.segment.pending_output;
        let block = self
            .worker
            .heap()?
            .allocate_announced(length, |address| pending.store(address as u64, Ordering::Release))?;
        self.output = Output::Block(block.as_ptr().expose_provenance(), length);
        Ok(block)
    }

    /// Looks for pointers to this worker's own memory in the output.
    #[cold]
    fn look_through(&self, name: &str) {
        let (place, length) = match self.output {
            Output::None => return,
            Output::Inline(length) => (self.inline_output.cast_const(), length),
            Output::Block(address, length) => (std::ptr::with_exposed_provenance(address), length),
            Output::Item(place, _) if place.is_null() => return,
            Output::Item(place, length) => (place.cast_const(), length),
        };
        // SAFETY: the task's own output, which it has finished.
        let bytes = unsafe { std::slice::from_raw_parts(place, length) };
        check::look_through(bytes, || match self.output {
            Output::Item(..) => format!("item {} of a map ({name}), output", self.id),
            _ => format!("task {:#x} ({name}), output", self.id),
        });
    }

    fn discard_output(&mut self) {
        if let Output::Block(address, _) = std::mem::replace(&mut self.output, Output::None) {
            self.worker.segment.pending_output.store(0, Ordering::Release);
            let _ = self.worker.heap().and_then(|heap| heap.free_address(address));
        }
    }

    /// Fails the task with a text; returns the code, to be returned from the function.
    pub fn fail(&mut self, code: c_int, text: &str) -> c_int {
        self.failed = if (-4095..0).contains(&code) { code } else { Code::BAD_CODE.0 };
        self.set_message(text);
        code
    }

    fn set_message(&mut self, text: &str) {
        let mut end = text.len().min(MESSAGE_BYTES);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        self.message.clear();
        self.message.push_str(&text[..end]);
    }
}

unsafe extern "C" fn fail_with_c_text(task: *mut Task, code: c_int, text: *const c_char) -> c_int {
    // SAFETY: ffi/variadic.c passes on the task that its caller has, and a string of its own.
    unsafe { (*task).fail(code, &CStr::from_ptr(text).to_string_lossy()) }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("the function panicked")
}
