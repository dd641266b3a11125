//! The boundary: errors become codes, panics stop here, and pointers are checked before anything happens.

use crate::error::{Code, Error, Result};
use crate::ffi::errors::TINE_FOREVER;
use crate::sync::Outcome;
use crate::sys::reserve;
use crate::sys::thread::Uncancelled;
use std::ffi::{CStr, CString, c_char, c_int};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;

/// Runs the body of an exported function: its count or 0 on success, the error's code otherwise. Its text is nobody's, so calls
/// without options make none. A thread that is cancelled meanwhile is cancelled after it.
pub(crate) fn guard(body: impl FnOnce() -> Result<c_int>) -> c_int {
    let _uncancelled = Uncancelled::new();
    guard_quick(body)
}

/// The same for calls that are made so often that this is too much for each: where they make a system call that is a
/// cancellation point, they see to it themselves.
#[inline(always)]
pub(crate) fn guard_quick(body: impl FnOnce() -> Result<c_int>) -> c_int {
    guard_code(|| body().map_err(|error| error.code()))
}

/// The same where there is no text at all: of locks and queues, whose fast paths are in the function itself.
#[inline(always)]
pub(crate) fn guard_code(body: impl FnOnce() -> Outcome<c_int>) -> c_int {
    guard_value(Code::PANIC.0, || body().unwrap_or_else(|code| code.0))
}

/// Runs the body of an exported function that ends something, or answers nothing and writes. A thread that is cancelled meanwhile is
/// cancelled after it.
pub(crate) fn guard_end(body: impl FnOnce()) {
    let _uncancelled = Uncancelled::new();
    guard_value((), body);
}

/// Runs the body of an exported function that answers with a value of its own; `otherwise` where it panics. As with
/// [`guard_quick`], nothing in it is a cancellation point.
#[inline(always)]
pub(crate) fn guard_value<T>(otherwise: T, body: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or(otherwise)
}

/// A place of the caller's for one value, of which nothing is said but that it can be written: it need not have been before.
pub(crate) struct Out<T>(NonNull<T>);

impl<T> Out<T> {
    /// The place; an error where the caller gives none.
    ///
    /// # Safety
    /// `pointer` is null, or valid for writes for as long as this lives.
    pub(crate) unsafe fn required(pointer: *mut T, name: &'static str) -> Result<Out<T>> {
        // SAFETY: `optional` asks of `pointer` what this function asks: null, or valid for writes.
        unsafe { Out::optional(pointer) }.ok_or_else(|| Error::invalid(format!("{name} is NULL")))
    }

    /// The place, if the caller gives one.
    ///
    /// # Safety
    /// As for [`Out::required`].
    #[inline(always)]
    pub(crate) unsafe fn optional(pointer: *mut T) -> Option<Out<T>> {
        NonNull::new(pointer).map(Out)
    }

    /// Writes it.
    #[inline(always)]
    pub(crate) fn set(self, value: T) {
        // SAFETY: whoever made this has promised that the place is valid for writes as long as this lives.
        unsafe { self.0.write(value) };
    }
}

/// A C string that the caller may leave out.
///
/// # Safety
/// `pointer` is null, or a string that lives for the whole of `'a`.
pub(crate) unsafe fn optional_str<'a>(pointer: *const c_char) -> Option<&'a CStr> {
    // SAFETY: `pointer` is not null, so by the contract above it is a string that lives for `'a`.
    (!pointer.is_null()).then(|| unsafe { CStr::from_ptr(pointer) })
}

/// Bytes that the caller gives as a pointer and a length; no pointer is needed for no bytes.
///
/// # Safety
/// `pointer` is null, or valid for reads of `length` bytes for the whole of `'a`.
#[inline]
pub(crate) unsafe fn bytes<'a>(pointer: *const u8, length: usize, name: &'static str) -> Result<&'a [u8]> {
    if length == 0 {
        return Ok(&[]);
    }
    if pointer.is_null() {
        return Err(Error::invalid(format!("{name} is NULL but its length is {length}")));
    }
    if length > isize::MAX as usize {
        return Err(Error::invalid(format!(
            "{name} has a length of {length}, more than an address space has"
        )));
    }
    // SAFETY: `pointer` is not null, so by the contract above `length` bytes can be read for `'a`. The length is one
    // that a slice may have: that was checked.
    Ok(unsafe { std::slice::from_raw_parts(pointer, length) })
}

/// An array that the caller gives as a pointer and a count; no pointer is needed for no elements.
///
/// # Safety
/// `pointer` is null, or valid for reads of `count` elements for the whole of `'a`.
pub(crate) unsafe fn slice<'a, T>(pointer: *const T, count: usize, name: &'static str) -> Result<&'a [T]> {
    if count == 0 {
        return Ok(&[]);
    }
    if pointer.is_null() || count > isize::MAX as usize / size_of::<T>().max(1) {
        return Err(Error::invalid(format!("{name} is {pointer:?} and its count is {count}")));
    }
    // SAFETY: `pointer` is not null, so by the contract above `count` elements can be read for `'a`. The count is one
    // that a slice may have: that was checked.
    Ok(unsafe { std::slice::from_raw_parts(pointer, count) })
}

/// Strings that the caller gives as an array which ends with null, or as null for none; copies of them.
///
/// # Safety
/// `pointer` is null, or such an array.
pub(crate) unsafe fn strings(pointer: *const *const c_char) -> Result<Vec<CString>> {
    let mut strings = Vec::new();
    let mut at = pointer;
    // SAFETY: by the contract above each element up to the null at the end can be read, and is a string. The loop
    // goes no further than that null.
    unsafe {
        while !at.is_null() && !(*at).is_null() {
            reserve::grow(&mut strings, 1)?;
            strings.push(reserve::copy_of(CStr::from_ptr(*at))?);
            at = at.add(1);
        }
    }
    Ok(strings)
}

/// A length of time in nanoseconds that an option gives; 0 stands for the default.
pub(crate) fn duration(ns: i64, name: &'static str) -> Result<u64> {
    u64::try_from(ns).map_err(|_| Error::invalid(format!("{name} is {ns}; it cannot be negative")))
}

/// The same, where `TINE_FOREVER` is an answer too: `None`.
pub(crate) fn deadline(ns: i64, name: &'static str) -> Result<Option<u64>> {
    match ns {
        TINE_FOREVER => Ok(None),
        ns => duration(ns, name).map(Some),
    }
}

/// Flags that an option gives: none but those that are known.
pub(crate) fn flags(given: u32, known: u32) -> Result<()> {
    match given & !known {
        0 => Ok(()),
        unknown => Err(Error::invalid(format!("flags has bits {unknown:#x} that mean nothing here"))),
    }
}
