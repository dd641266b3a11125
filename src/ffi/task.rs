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

/// The input of a task, or the item of a map that is called by name.
///
/// Parameters: task: the task. length: a place for the input's length in bytes, or NULL.
/// Returns where it is; aligned to 16 bytes unless it is the caller's own memory in the heap. It may be read until the
/// function returns; an input that was submitted from the heap is that very memory.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_input(task: *const tine_task, length: *mut usize) -> *const c_void {
    guard_value(std::ptr::null(), || {
        // SAFETY: `task` is NULL, or the task of the function that has called, on its thread, as tine_task's text
        // asks. `length` is NULL or can be written.
        unsafe { self::task(task.cast_mut()).map_or(std::ptr::null(), |task| put(task.input(), length)) }
    })
}

/// The context of the map or loop that the task is part of; NULL and 0 where there is none.
///
/// Parameters and rules as for tine_input.
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

/// Room for the task's output, to be written in place; the result's .data and .length. Its first content is anything.
///
/// A second call replaces the first. In a map that is called by name this is the item's place in out.
///
/// Parameters: task: the task. length: in bytes.
/// Returns where it is, aligned to 16 bytes, or NULL: the heap is full, or an item's place is shorter than that.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_output(task: *mut tine_task, length: usize) -> *mut c_void {
    guard_value(std::ptr::null_mut(), || {
        // SAFETY: `task` is NULL, or the task of the function that has called, on its thread, as tine_task's text
        // asks.
        let output = unsafe { self::task(task) }.map(|task| task.output(length));
        output.and_then(Result::ok).map_or(std::ptr::null_mut(), |place| place.as_ptr().cast())
    })
}

/// What identifies the task: the number that tine_submit gave, or the item's place in its map.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_task_id(task: *const tine_task) -> u64 {
    // SAFETY: `task` is NULL, or the task of the function that has called, on its thread, as tine_task's text asks.
    guard_value(0, || unsafe { self::task(task.cast_mut()) }.map_or(0, |task| task.id()))
}

/// The name by which the task's function is called: for a function that is registered under many names, because it stands
/// for those of another language.
///
/// Returns the name, as it was registered; NULL where the function is called by its address. The string lives as long as
/// the process, and is the same one at each call by that name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_task_name(task: *const tine_task) -> *const c_char {
    guard_value(std::ptr::null(), || {
        // SAFETY: `task` is NULL, or the task of the function that has called, on its thread, as tine_task's text
        // asks.
        let name = unsafe { self::task(task.cast_mut()) }.and_then(|task| task.name());
        name.map_or(std::ptr::null(), CStr::as_ptr)
    })
}

/// Leaves something of the program's own for the tasks of this worker to find: what an initializer has opened or loaded.
///
/// Parameters: task: the initializer's, or any other. state: anything; tine neither reads nor frees it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_set_worker_state(task: *mut tine_task, state: *mut c_void) {
    // SAFETY: `task` is NULL, or the task of the function that has called, on its thread, as tine_task's text asks.
    guard_value((), || unsafe { self::task(task) }.map_or((), |task| task.set_worker_state(state)));
}

/// What tine_set_worker_state has left in this worker; NULL if nothing was.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_worker_state(task: *const tine_task) -> *mut c_void {
    guard_value(std::ptr::null_mut(), || {
        // SAFETY: `task` is NULL, or the task of the function that has called, on its thread, as tine_task's text
        // asks.
        unsafe { self::task(task.cast_mut()) }.map_or(std::ptr::null_mut(), |task| task.worker_state())
    })
}

/// Whether the task, or this item of its map, should return: it is past its deadline, or it was cancelled. One that
/// does not gets SIGTERM after half of the pool's .grace_ns, and SIGKILL after all of it. It costs next to nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_cancelled(task: *const tine_task) -> bool {
    // SAFETY: `task` is NULL, or the task of the function that has called, on its thread, as tine_task's text asks.
    guard_value(false, || unsafe { self::task(task.cast_mut()) }.is_some_and(|task| task.is_cancelled()))
}

/// The pool that runs the task, for what the task allocates there, and for what it submits to its own pool: tine_submit,
/// tine_map, tine_for and what follows them run the functions there and then, in the worker that calls, so that
/// nothing nested can wait for ever. What a task has submitted and not taken when it returns is released; what it
/// runs inside itself dies with it. Calls that are the host's (tine_pool_fd, tine_pool_stats, tine_pool_shutdown) give
/// TINE_EWORKER. The pool is valid as long as the worker lives, in all its threads.
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
