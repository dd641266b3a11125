//! A call of a user's function, as that function sees it: in a worker, or in the process that calls.

use super::Worker;
use crate::channel::{Channel, End};
use crate::check;
use crate::error::{Code, Error, Result};
use crate::heap::Heap;
use crate::sys::prim::{AtomicPtr, Ordering};
use crate::task::ring::{INLINE_OUTPUT, MESSAGE, TaskSlot};
use std::any::Any;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;

/// The longest text of a failed task, in bytes.
pub const MESSAGE_BYTES: usize = MESSAGE;

/// A call of a user's function.
#[repr(C)]
pub struct Task<'a> {
    /// First, because ffi/variadic.c finds it there.
    fail: unsafe extern "C" fn(task: *mut Task<'_>, code: c_int, text: *const c_char) -> c_int,
    place: Place<'a>,
    pub(crate) id: u64,
    /// By which the function is called; none where it is called by its address.
    pub(crate) name: Option<&'static CStr>,
    pub(crate) input: (*const u8, usize),
    pub(crate) context: (*const u8, usize),
    pub(crate) output: OutputBuffer,
    /// Where the host says that the call is to end; none for the initializer, and in the calling process.
    pub(crate) slot: Option<&'a TaskSlot>,
    /// Of a chunk: which item, by its number in the chunk.
    pub(crate) item: u64,
    /// Where small outputs go.
    inline_output: *mut u8,
    pub(crate) failed: c_int,
    pub(crate) message: String,
    /// Its end of a channel; closed with the task.
    channel: Option<Box<Channel>>,
}

/// Where a task runs.
#[derive(Clone, Copy)]
pub enum Place<'a> {
    /// In a worker.
    Worker(&'static Worker),
    /// In the process that has submitted it.
    Inline(&'a dyn CallingProcess),
}

/// A process that runs tasks in its own calls.
pub trait CallingProcess {
    /// The heap that outputs are in.
    fn heap(&self) -> &Heap;
    /// What has been left for the tasks.
    fn worker_state(&self) -> &AtomicPtr<c_void>;
    /// Whether the innermost task is to end: because it is, or because one is that waits for it.
    fn is_cancelled(&self) -> bool;
    /// What the boundary knows the pool by to which tasks submit.
    fn handle(&self) -> *mut c_void;
    /// Where this process is a worker: which.
    fn worker(&self) -> Option<&'static Worker>;
}

/// Where a task's output is.
#[derive(Clone, Copy)]
pub(crate) enum OutputBuffer {
    None,
    Inline(usize),
    Block(usize, usize),
    /// An item's place in the map's output: its address and how long it may be.
    Item(*mut u8, usize),
}

impl Place<'_> {
    fn heap(&self) -> Result<&Heap> {
        match self {
            Place::Worker(worker) => worker.heap(),
            Place::Inline(process) => Ok(process.heap()),
        }
    }

    /// Says which block an output is being allocated in, for whoever clears up after a death; 0 when it is no more.
    fn announce(&self, address: usize) {
        if let Place::Worker(worker) = self {
            worker.segment().pending_output.store(address as u64, Ordering::Release);
        }
    }

    fn state(&self) -> &AtomicPtr<c_void> {
        match self {
            Place::Worker(worker) => &worker.state,
            Place::Inline(process) => process.worker_state(),
        }
    }
}

impl<'a> Task<'a> {
    pub(crate) fn new(
        place: Place<'a>,
        id: u64,
        input: (*const u8, usize),
        inline_output: *mut u8,
    ) -> Task<'a> {
        Task {
            fail: fail_with_c_text,
            place,
            id,
            name: None,
            input,
            context: (std::ptr::null(), 0),
            output: OutputBuffer::None,
            slot: None,
            item: 0,
            inline_output,
            failed: 0,
            message: String::new(),
            channel: None,
        }
    }

    /// Calls a function and makes a status of what it returns.
    pub(crate) fn run(&mut self, call: impl FnOnce(&mut Task<'a>) -> c_int) -> c_int {
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

    /// The name by which the function is called; none where it is called by its address.
    pub fn name(&self) -> Option<&'static CStr> {
        self.name
    }

    /// The input.
    pub fn input(&self) -> (*const u8, usize) {
        self.input
    }

    /// The map's context.
    pub fn context(&self) -> (*const u8, usize) {
        self.context
    }

    /// The end of a channel that it was given.
    pub fn channel(&self) -> Option<&Channel> {
        self.channel.as_deref()
    }

    /// Gives it one, until the task is dropped.
    pub(crate) fn set_channel(&mut self, end: End) {
        self.channel = Some(Box::new(Channel::lend(end)));
    }

    /// Where it runs.
    pub fn place(&self) -> Place<'a> {
        self.place
    }

    /// What has been left for the tasks of this worker; null where nothing was.
    pub fn worker_state(&self) -> *mut c_void {
        self.place.state().load(Ordering::Acquire)
    }

    /// Leaves something for the tasks of this worker.
    pub fn set_worker_state(&self, state: *mut c_void) {
        self.place.state().store(state, Ordering::Release);
    }

    /// Whether the host wants the call to end.
    pub fn is_cancelled(&self) -> bool {
        match self.place {
            Place::Worker(_) => {
                self.slot.is_some_and(|slot| slot.asked.load(Ordering::Relaxed) == self.item + 1)
            }
            Place::Inline(process) => process.is_cancelled(),
        }
    }

    /// Room for an output of `length` bytes, in place of any that was asked for before.
    pub fn output(&mut self, length: usize) -> Result<NonNull<u8>> {
        if let OutputBuffer::Item(place, room) = self.output {
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
            self.output = OutputBuffer::Inline(length);
            return NonNull::new(self.inline_output).ok_or_else(|| Error::invalid("no room for an output"));
        }
        if matches!(self.place, Place::Worker(worker) if worker.fails_allocation()) {
            return Err(Code::errno(libc::ENOMEM).into());
        }
        let heap = self.place.heap()?;
        let block = heap.allocate_announced(length, |address| self.place.announce(address))?;
        self.output = OutputBuffer::Block(block.as_ptr().expose_provenance(), length);
        Ok(block)
    }

    /// Looks for pointers to this process's own memory in the output.
    #[cold]
    pub(crate) fn look_through(&self, name: &str) {
        let (place, length) = match self.output {
            OutputBuffer::None => return,
            OutputBuffer::Inline(length) => (self.inline_output.cast_const(), length),
            OutputBuffer::Block(address, length) => (std::ptr::with_exposed_provenance(address), length),
            OutputBuffer::Item(place, _) if place.is_null() => return,
            OutputBuffer::Item(place, length) => (place.cast_const(), length),
        };
        // SAFETY: the task's own output, which it has finished.
        let bytes = unsafe { std::slice::from_raw_parts(place, length) };
        check::look_through(bytes, || match self.output {
            OutputBuffer::Item(..) => format!("item {} of a map ({name}), output", self.id),
            _ => format!("task {:#x} ({name}), output", self.id),
        });
    }

    pub(crate) fn discard_output(&mut self) {
        if let OutputBuffer::Block(address, _) = std::mem::replace(&mut self.output, OutputBuffer::None) {
            self.place.announce(0);
            let _ = self.place.heap().and_then(|heap| heap.free_address(address));
        }
    }

    /// Fails the task with a text; returns what is to be returned from the function. That is no success, whatever the code.
    pub fn fail(&mut self, code: c_int, text: &str) -> c_int {
        self.failed = if (-4095..0).contains(&code) { code } else { Code::BAD_CODE.0 };
        self.set_message(text);
        self.failed
    }

    pub(crate) fn set_message(&mut self, text: &str) {
        let mut end = text.len().min(MESSAGE_BYTES);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        self.message.clear();
        self.message.push_str(&text[..end]);
    }
}

unsafe extern "C" fn fail_with_c_text(task: *mut Task<'_>, code: c_int, text: *const c_char) -> c_int {
    // SAFETY: ffi/variadic.c passes on a task that is the calling function's own, as the text of tine_fail asks, and
    // a string that it has made itself.
    unsafe { (*task).fail(code, &CStr::from_ptr(text).to_string_lossy()) }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("the function panicked")
}
