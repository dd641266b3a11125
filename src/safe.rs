//! What a Rust program uses of the core: functions of its own as tasks, and results that it owns.

use crate::error::{Code, Error, Result};
use crate::pool::{Pool, TaskId};
use crate::sys::clock::Timeout;
use crate::task::function::Function;
use crate::worker::context::Task;
use std::ffi::{CStr, c_int, c_void};

/// A call of a function in a worker.
pub struct Call<'a> {
    input: &'a [u8],
    task: &'a Task<'static>,
}

impl<'a> Call<'a> {
    /// What the task was submitted with.
    pub fn input(&self) -> &'a [u8] {
        self.input
    }

    /// Whether the result is not wanted any more: the task is cancelled, or past its deadline.
    pub fn is_cancelled(&self) -> bool {
        self.task.is_cancelled()
    }
}

/// A function of Rust's as what a pool can call: a `fn`, or a closure that captures nothing. What it returns is the task's output,
/// or how it has failed. A panic fails the task, with its message.
///
/// ```compile_fail
/// let captured = String::from("is in this process alone");
/// tine::function(move |_| Ok(captured.as_bytes().to_vec()));
/// ```
pub fn function<F>(_: F) -> Function<'static>
where
    F: Fn(Call<'_>) -> Result<Vec<u8>> + Copy + 'static,
{
    const { assert!(size_of::<F>() == 0, "what a closure captures is not there in another process") };
    extern "C-unwind" fn call<F: Fn(Call<'_>) -> Result<Vec<u8>>>(task: *mut Task<'static>) -> c_int {
        // SAFETY: F has no bytes, so any aligned pointer that is not null is one to a value of it; and there is such a value, since
        // `function` was given one.
        let function = unsafe { std::ptr::NonNull::<F>::dangling().as_ref() };
        // SAFETY: the worker's task, which it lends to this call alone.
        let task = unsafe { &mut *task };
        let (bytes, length) = task.input();
        // SAFETY: the input stays as it is until the function returns; an empty one may have no address.
        let input = if length == 0 { &[] } else { unsafe { std::slice::from_raw_parts(bytes, length) } };
        let output = match function(Call { input, task: &*task }) {
            Ok(output) => output,
            Err(error) => return task.fail(error.code().0, &error.text()),
        };
        match task.output(output.len()) {
            Ok(place) => {
                // SAFETY: room for that many bytes, which only this task has.
                unsafe {
                    place.copy_from_nonoverlapping(std::ptr::NonNull::from(&output[..]).cast(), output.len())
                };
                0
            }
            Err(error) => task.fail(error.code().0, &error.text()),
        }
    }
    // SAFETY: `call` is of the type of a task's function. Any input is bytes to F, which is safe to call, and F has none of this
    // process's memory.
    unsafe { Function::pointer(call::<F> as *const c_void) }
}

impl Pool {
    /// Waits for a task and takes its output: a copy, after which the pool has its memory back. A task that has failed is an error: the
    /// code and the text with which it did, or what is known of the death of its process.
    pub fn output_of(&self, id: TaskId, timeout: Timeout) -> Result<Vec<u8>> {
        let result = self.wait(id, timeout)?;
        let output = if result.status < 0 {
            let text = if result.message.is_null() {
                String::new()
            } else {
                // SAFETY: a C string of the pool's, which stays until the result is released.
                unsafe { CStr::from_ptr(result.message) }.to_string_lossy().into_owned()
            };
            Err(Error::new(Code(result.status), text))
        } else if result.length == 0 {
            Ok(Vec::new())
        } else {
            // SAFETY: so many bytes of the pool's, which stay until the result is released.
            Ok(unsafe { std::slice::from_raw_parts(result.data, result.length) }.to_vec())
        };
        // SAFETY: the output is a copy, as is the text. Only the one wait that took the result knows where it lies.
        unsafe { self.release(id) }?;
        output
    }
}
