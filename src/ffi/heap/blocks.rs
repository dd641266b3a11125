//! Blocks of a heap by its handle: what `tine_alloc` and `tine_heap_alloc`, and the like, come to.

use super::{Of, tine_heap};
use crate::check;
use crate::error::{Code, Error, Result};
use crate::ffi::guard::{guard, guard_value};
use crate::heap::Heap;
use crate::sys::fork;
use std::ffi::{c_int, c_void};
use std::ptr::NonNull;

/// # Safety
/// `pointer` is null, or a heap that has not been closed, of a pool that has not been destroyed.
pub(super) unsafe fn of<'a>(pointer: *const tine_heap) -> Result<&'a Of> {
    // SAFETY: by the contract above `pointer` is null or a `tine_heap` that stays until the call returns. It is only
    // read.
    match unsafe { pointer.as_ref() } {
        None => Err(Error::invalid("heap is NULL")),
        Some(heap) if heap.pid == fork::pid() => Ok(&heap.of),
        Some(_) => Err(Code::FORKED.into()),
    }
}

/// # Safety
/// As for [`of`].
pub(super) unsafe fn get<'a>(pointer: *const tine_heap) -> Result<&'a Heap> {
    // SAFETY: `of` asks of `pointer` what this function asks, and refuses null. What `heap` points to lives as long
    // as the `tine_heap`: see the field.
    unsafe { of(pointer).map(|_| (*pointer).heap.as_ref()) }
}

/// The same without a word on why there is none, and without a way to panic.
///
/// # Safety
/// As for [`of`].
#[inline(always)]
unsafe fn get_quickly<'a>(pointer: *const tine_heap) -> Option<&'a Heap> {
    // SAFETY: by the contract above `pointer` is null or a `tine_heap` that stays until the call returns. What `heap`
    // points to lives as long: see the field.
    unsafe {
        pointer.as_ref().filter(|heap| fork::is_known_as(heap.quick_pid)).map(|heap| heap.heap.as_ref())
    }
}

/// # Safety
/// As for [`of`]; so for the next six.
#[inline(always)]
pub(crate) unsafe fn allocate(pointer: *const tine_heap, size: usize) -> *mut c_void {
    // SAFETY: `get_quickly` asks of `pointer` what this function asks.
    if let Some(block) = unsafe { get_quickly(pointer) }.and_then(|heap| heap.allocate_quickly(size)) {
        return block.as_ptr().cast();
    }
    // SAFETY: `allocate_slowly` asks of `pointer` what this function asks.
    unsafe { allocate_slowly(pointer, size) }
}

/// A function of its own, to which the one above jumps at its end: that needs no frame.
///
/// # Safety
/// As for [`of`].
#[cold]
#[inline(never)]
unsafe extern "C" fn allocate_slowly(pointer: *const tine_heap, size: usize) -> *mut c_void {
    // SAFETY: `try_twice` asks of `pointer` what this function asks.
    unsafe { try_twice(pointer, "allocating a block", |heap| heap.allocate(size)) }
}

pub(crate) unsafe fn allocate_zeroed(pointer: *const tine_heap, count: usize, size: usize) -> *mut c_void {
    // SAFETY: `try_twice` asks of `pointer` what this function asks.
    unsafe { try_twice(pointer, "allocating an array", |heap| heap.allocate_zeroed(count, size)) }
}

pub(crate) unsafe fn allocate_aligned(
    pointer: *const tine_heap,
    alignment: usize,
    size: usize,
) -> *mut c_void {
    // SAFETY: `try_twice` asks of `pointer` what this function asks.
    unsafe {
        try_twice(pointer, "allocating an aligned block", |heap| heap.allocate_aligned(alignment, size))
    }
}

pub(crate) unsafe fn reallocate(pointer: *const tine_heap, block: *mut c_void, size: usize) -> *mut c_void {
    let anew = |heap: &Heap| match NonNull::new(block.cast::<u8>()) {
        // SAFETY: the block is the program's, which is given another one for it: the call's text asks for that.
        Some(block) => unsafe { heap.reallocate(block, size) },
        None => heap.allocate(size),
    };
    // SAFETY: `try_twice` asks of `pointer` what this function asks.
    unsafe { try_twice(pointer, "changing a block's size", anew) }
}

#[inline(always)]
pub(crate) unsafe fn free(pointer: *const tine_heap, block: *mut c_void) -> c_int {
    // SAFETY: `get_quickly` asks of `pointer` what this function asks.
    if unsafe { get_quickly(pointer) }.is_some_and(|heap| heap.free_quickly(block.cast())) {
        return 0;
    }
    // SAFETY: `free_slowly` asks of `pointer` what this function asks.
    unsafe { free_slowly(pointer, block) }
}

#[cold]
#[inline(never)]
unsafe extern "C" fn free_slowly(pointer: *const tine_heap, block: *mut c_void) -> c_int {
    guard(|| {
        // SAFETY: `get` asks of `pointer` what this function asks.
        let heap = unsafe { get(pointer) }?;
        // SAFETY: nobody uses the block any more: the call's text asks for that.
        let free = |block| unsafe { heap.free(block) };
        let freed = NonNull::new(block.cast::<u8>()).map_or(Ok(()), free);
        freed.inspect_err(|error| mistake("freeing a block", error))?;
        Ok(0)
    })
}

pub(crate) unsafe fn block_size(pointer: *const tine_heap, block: *const c_void) -> usize {
    guard_value(0, || {
        // SAFETY: `get` asks of `pointer` what this function asks.
        let heap = unsafe { get(pointer) };
        let block = NonNull::new(block.cast_mut().cast::<u8>());
        block.and_then(|block| heap.ok()?.size_of(block).ok()).unwrap_or(0)
    })
}

/// Where memory is short in a heap without a host, what dead processes have left half done may be enough.
///
/// # Safety
/// As for [`of`].
#[cold]
unsafe fn try_twice(
    pointer: *const tine_heap,
    call: &str,
    attempt: impl Fn(&Heap) -> Result<NonNull<u8>>,
) -> *mut c_void {
    guard_value(std::ptr::null_mut(), || {
        // SAFETY: `of` asks of `pointer` what this function asks, and refuses null.
        if unsafe { of(pointer).is_err() || (*pointer).fails_allocation() } {
            return std::ptr::null_mut();
        }
        // SAFETY: `with_memory` asks of `pointer` what this function asks.
        unsafe { with_memory(pointer, attempt) }
            .inspect_err(|error| mistake(call, error))
            .map_or(std::ptr::null_mut(), |block| block.as_ptr().cast())
    })
}

/// Does what takes memory of a heap.
///
/// # Safety
/// As for [`of`].
pub(crate) unsafe fn with_memory<T>(
    pointer: *const tine_heap,
    attempt: impl Fn(&Heap) -> Result<T>,
) -> Result<T> {
    // SAFETY: `of` asks of `pointer` what this function asks.
    match unsafe { of(pointer) }? {
        Of::Segment(own) => own.attempt(attempt),
        // SAFETY: `get` asks of `pointer` what this function asks.
        _ => attempt(unsafe { get(pointer) }?),
    }
}

/// With TINE_CHECK, an error that is the caller's own ends the process; that there is no memory is none of these.
fn mistake(call: &str, error: &Error) {
    if check::is_on() && matches!(-error.code().0, libc::EINVAL | libc::EOVERFLOW) {
        check::die(call, &error.text());
    }
}
