//! Inside a task

use crate::ffi::guard::{Out, guard_value};
use crate::ffi::pool::tine_pool;
use crate::worker::context::Task;
use std::ffi::{CStr, c_char, c_void};

/// A task, as the function that carries it out sees it. Valid until that function returns, in its thread only.
pub struct tine_task {
    _task: Task<'static>,
}

/// The task behind a pointer.
///
/// # Safety
/// `pointer` is null, or the task that tine has passed to the function that has called, on the thread of that function.
pub(crate) unsafe fn task<'a>(pointer: *mut tine_task) -> Option<&'a mut Task<'static>> {
    // SAFETY: by the contract above `pointer` is null, or the `Task` that tine has passed to the function under this
    // type's name. That function is in this call, on the only thread that may use the task, so no other reference to
    // it is in use.
    unsafe { pointer.cast::<Task<'static>>().as_mut() }
}

/// The input of a task, or of the item in a map that is called by name.
///
/// Parameters: task. length: gets the length of the input in bytes; may be NULL.
/// Returns the address of the input, which may be read until the function returns; NULL, with a length of 0: the input
/// is empty. The address is a multiple of 16, unless the input was submitted from the heap, where it is the caller's
/// own memory, or is an item of a map, where the stride decides.
/// Threads: the task's. Fork: a child may call it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_input(task: *const tine_task, length: *mut usize) -> *const c_void {
    guard_value(std::ptr::null(), || {
        // SAFETY: `task` is NULL, or the task of the function that has called, on its thread, as tine_task's text
        // asks. `length` is NULL or can be written.
        unsafe { self::task(task.cast_mut()).map_or(std::ptr::null(), |task| put(task.input(), length)) }
    })
}

/// The context of the map or loop that the task is part of.
///
/// Parameters: task. length: gets the length of the context in bytes; may be NULL.
/// Returns the address of the context, which may be read until the function returns; NULL, with a length of 0: there
/// is no context.
/// Threads: the task's. Fork: a child may call it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_context(task: *const tine_task, length: *mut usize) -> *const c_void {
    guard_value(std::ptr::null(), || {
        // SAFETY: `task` is NULL, or the task of the function that has called, on its thread, as tine_task's text
        // asks. `length` is NULL or can be written.
        unsafe { self::task(task.cast_mut()).map_or(std::ptr::null(), |task| put(task.context(), length)) }
    })
}

/// # Safety
/// `length` is null, or can be written.
unsafe fn put((pointer, bytes): (*const u8, usize), length: *mut usize) -> *const c_void {
    // SAFETY: by the contract above `length` is null or can be written.
    if let Some(length) = unsafe { Out::optional(length) } {
        length.set(bytes);
    }
    if bytes == 0 { std::ptr::null() } else { pointer.cast() }
}

/// Room for the task's output, to be written in place. It becomes the .data and .length of the result.
///
/// A second call replaces the first one. In a map that is called by name the room is the item's place in out.
///
/// Parameters: task. length: in bytes.
/// Returns the address of the room, which has any content. It is a multiple of 16 unless it is an item's place. NULL:
/// the heap is full, or the item's place is shorter than length.
/// Threads: the task's. Fork: a child must not call it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_output(task: *mut tine_task, length: usize) -> *mut c_void {
    guard_value(std::ptr::null_mut(), || {
        // SAFETY: `task` is NULL, or the task of the function that has called, on its thread, as tine_task's text
        // asks.
        let output = unsafe { self::task(task) }.map(|task| task.output(length));
        output.and_then(Result::ok).map_or(std::ptr::null_mut(), |place| place.as_ptr().cast())
    })
}

/// The number of the task.
///
/// Parameters: task.
/// Returns the id that tine_submit has given; for an item of a stream, the .id of its result; in a map, the item's
/// place in the array; in a loop, where the chunk begins; in a process of tine_process_start 1; in an initializer or a
/// finalizer 0.
/// Threads: the task's. Fork: a child may call it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_task_id(task: *const tine_task) -> u64 {
    // SAFETY: `task` is NULL, or the task of the function that has called, on its thread, as tine_task's text asks.
    guard_value(0, || unsafe { self::task(task.cast_mut()) }.map_or(0, |task| task.id()))
}

/// The name by which the task's function is called. It is for a function that is registered under many names because
/// it stands for functions of another language.
///
/// Parameters: task.
/// Returns the name as it was registered; NULL: the function is called by its address. The string stays as long as
/// the process, and each call by that name gets the same address.
/// Threads: the task's. Fork: a child may call it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_task_name(task: *const tine_task) -> *const c_char {
    guard_value(std::ptr::null(), || {
        // SAFETY: `task` is NULL, or the task of the function that has called, on its thread, as tine_task's text
        // asks.
        let name = unsafe { self::task(task.cast_mut()) }.and_then(|task| task.name());
        name.map_or(std::ptr::null(), CStr::as_ptr)
    })
}

/// Leaves a pointer for the later tasks of this worker: to what an initializer has opened or loaded, for example.
///
/// Parameters: task: the initializer's, or any other. state: any pointer. tine neither reads nor frees what it points
/// to.
/// Threads: the task's. Fork: in a child it changes the child's copy.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_set_worker_state(task: *mut tine_task, state: *mut c_void) {
    // SAFETY: `task` is NULL, or the task of the function that has called, on its thread, as tine_task's text asks.
    guard_value((), || unsafe { self::task(task) }.map_or((), |task| task.set_worker_state(state)));
}

/// The pointer that tine_set_worker_state has left in this worker.
///
/// Parameters: task.
/// Returns the pointer; NULL: none has been left.
/// Threads: the task's. Fork: a child may call it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_worker_state(task: *const tine_task) -> *mut c_void {
    guard_value(std::ptr::null_mut(), || {
        // SAFETY: `task` is NULL, or the task of the function that has called, on its thread, as tine_task's text
        // asks.
        unsafe { self::task(task.cast_mut()) }.map_or(std::ptr::null_mut(), |task| task.worker_state())
    })
}

/// Tells a task that it should return. The call is cheap enough for an inner loop.
///
/// Parameters: task.
/// Returns true when the task, or this item of a map, is past its deadline or has been cancelled; else false. A task
/// that goes on gets SIGTERM after half of the pool's .grace_ns, and SIGKILL after all of it.
/// Threads: the task's. Fork: a child may call it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_cancelled(task: *const tine_task) -> bool {
    // SAFETY: `task` is NULL, or the task of the function that has called, on its thread, as tine_task's text asks.
    guard_value(false, || unsafe { self::task(task.cast_mut()) }.is_some_and(|task| task.is_cancelled()))
}

/// The pool that runs the task. Memory that the task allocates comes from its heap.
///
/// A task may submit to its own pool, too. tine_submit, tine_map, tine_for and what follows them then run the
/// functions there and then, in the worker that calls, so that nothing nested can wait for ever. Results that the
/// task has not taken when it returns are released. What the task runs inside itself dies with it. Calls that only
/// the host may make (tine_pool_fd, tine_pool_stats, tine_pool_shutdown) return TINE_EWORKER.
///
/// Parameters: task.
/// Returns the pool, which is valid as long as the worker lives, in all its threads; NULL: task is NULL.
/// Threads: the task's. Fork: a child may call it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_task_pool(task: *const tine_task) -> *mut tine_pool {
    guard_value(std::ptr::null_mut(), || {
        // SAFETY: `task` is NULL, or the task of the function that has called, on its thread, as tine_task's text
        // asks.
        unsafe { self::task(task.cast_mut()) }
            .map_or(std::ptr::null_mut(), |task| tine_pool::of_task(task.place()))
    })
}

unsafe extern "C" {
    fn tine_fail_variadic();
}

/// `tine_fail` itself: Rust cannot define a function of variable arguments, so it goes on where C has defined one.
/// Declared in the header by hand (tests/header.rs).
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
#[unsafe(naked)]
#[unsafe(no_mangle)]
unsafe extern "C" fn tine_fail() {
    #[cfg(target_arch = "x86_64")]
    std::arch::naked_asm!("jmp {}", sym tine_fail_variadic);
    #[cfg(target_arch = "aarch64")]
    std::arch::naked_asm!("b {}", sym tine_fail_variadic);
}
