//! Calling the functions that tasks name: once, or once for each item of a chunk. The same in a worker and in the process
//! that calls; what differs is who watches, and that is a [`Watch`].

use super::context::{OutputBuffer, Task};
use crate::check;
use crate::error::{Code, Error};
use crate::sys::clock;
use crate::task::call::{CallKind, Chunk, messages};
use std::ffi::{c_int, c_void};

/// The function of one call.
pub type TaskFunction = unsafe extern "C-unwind" fn(task: *mut Task<'static>) -> c_int;
/// The function of a map: once per item.
pub type ItemFunction =
    unsafe extern "C-unwind" fn(task: *mut Task<'static>, input: *const c_void, output: *mut c_void) -> c_int;
/// The function of a loop: once per chunk of the range.
pub type RangeFunction =
    unsafe extern "C-unwind" fn(task: *mut Task<'static>, begin: usize, end: usize) -> c_int;

/// Who looks on while the items of a chunk run.
pub(crate) trait Watch {
    /// An item is about to begin; whether it is to.
    fn begins(&mut self, item: u64) -> bool;
    /// The last word on an item's status, and its message.
    fn judges(&mut self, task: &mut Task<'_>, status: c_int) -> c_int;
    /// So many bytes of messages have been written.
    fn has_messages(&mut self, bytes: usize);
    /// So many items have been dealt with.
    fn has_done(&mut self, items: u64);
}

/// What came of a chunk.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ChunkEnd {
    pub(crate) items: u64,
    pub(crate) failed: c_int,
    pub(crate) messages_bytes: usize,
    pub(crate) elapsed_ns: u64,
}

/// Calls a function that is called once: a task's, an initializer's.
///
/// # Safety
/// `address` is that of a [`TaskFunction`].
pub(crate) unsafe fn run_once(task: &mut Task<'_>, address: usize) -> c_int {
    // SAFETY: by the contract above `address` is that of a function of this type, and so not zero.
    let function: TaskFunction = unsafe { std::mem::transmute(address) };
    // SAFETY: a function of this type takes a task by pointer. The task outlives the call, whatever its lifetime is
    // called.
    task.run(|task| unsafe { function(std::ptr::from_mut(task).cast()) })
}

/// Runs the items of a chunk, until all are done, there is no more room for messages, or the watch ends it.
///
/// # Safety
/// `address` is that of a function of the type that belongs to `kind`, and the chunk's memory is there.
pub(crate) unsafe fn run_chunk(
    task: &mut Task<'_>,
    kind: CallKind,
    address: usize,
    chunk: &Chunk,
    watch: &mut impl Watch,
) -> ChunkEnd {
    let began = clock::now_ns();
    task.context = (std::ptr::with_exposed_provenance(chunk.context as usize), chunk.context_length as usize);
    // A range's chunk is one call, and counts as one item.
    let count = if kind == CallKind::Range { 1 } else { chunk.count };
    let (mut done, mut failed, mut used) = (0, 0, 0);
    while done < count && used + messages::LARGEST_RECORD <= chunk.messages_bytes as usize {
        if !watch.begins(done) {
            break;
        }
        task.item = done;
        // SAFETY: `run_item` asks of `address` and of the chunk what this function asks.
        let status = unsafe { run_item(task, kind, address, chunk, done) };
        let status = watch.judges(task, status);
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
                watch.has_messages(used);
            }
        }
        done += 1;
        watch.has_done(done);
        if status < 0 && chunk.stop_on_failure != 0 {
            break;
        }
    }
    ChunkEnd { items: done, failed, messages_bytes: used, elapsed_ns: clock::now_ns() - began }
}

/// # Safety
/// As for [`run_chunk`].
unsafe fn run_item(task: &mut Task<'_>, kind: CallKind, address: usize, chunk: &Chunk, item: u64) -> c_int {
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
    task.output = OutputBuffer::Item(output.cast(), chunk.output_stride as usize);
    // SAFETY: the host has resolved the function to this place in this module, as one of the type that belongs to
    // `kind`; its arguments are the user's own memory.
    unsafe {
        match kind {
            CallKind::Items => {
                let function: ItemFunction = std::mem::transmute(address);
                task.run(|task| function(std::ptr::from_mut(task).cast(), input, output))
            }
            CallKind::Range => {
                let function: RangeFunction = std::mem::transmute(address);
                let (begin, end) = (chunk.first as usize, (chunk.first + chunk.count) as usize);
                task.run(|task| function(std::ptr::from_mut(task).cast(), begin, end))
            }
            CallKind::Task | CallKind::TaskItems => run_once(task, address),
        }
    }
}

/// What an initializer's failure is to whoever creates the pool.
pub(crate) fn initializer_failure(status: c_int, message: String) -> Error {
    let name = Code(status).name().to_string_lossy();
    let text = if message.is_empty() { Code(status).text().to_string_lossy() } else { message.into() };
    Error::new(Code(status), format!("the initializer failed with {name}: {text}"))
}
