//! Structs that grow: each starts with its size, shorter ones are filled up with zeros, longer ones must end in zeros.

use crate::error::{Error, Result};
use crate::ffi::errors::tine_error;
use std::mem::MaybeUninit;

/// A struct of the C ABI whose first field is `size_t size`.
///
/// # Safety
/// The type is `repr(C)`, starts with a `usize` that holds its size, and every field is valid when all its bytes are
/// zero.
pub(crate) unsafe trait Extensible: Copy {
    /// The name in C, for messages.
    const NAME: &'static str;
}

/// No struct of the ABI will ever be as long as this: a larger size is garbage.
const LONGEST: usize = 64 * 1024;

/// Reads the caller's struct; `None` where there is none.
///
/// # Safety
/// `pointer` is null, or points to a struct of as many readable bytes as its first field says.
pub(crate) unsafe fn read<T: Extensible>(pointer: *const T) -> Result<Option<T>> {
    if pointer.is_null() {
        return Ok(None);
    }
    // SAFETY: the caller's promise.
    let read = unsafe { read_sized(pointer) };
    if let (Err(error), true) = (&read, T::NAME.ends_with("_options")) {
        // Whoever forgets the size has zeroed the rest, or filled it; a size that is garbage may stand before more of it.
        // SAFETY: each of those structs has `.error` behind its size, which lies in what the caller has given, or forgot to say that it has.
        unsafe {
            let theirs = pointer.cast::<usize>().read();
            if theirs == 0 || (2 * size_of::<usize>()..=LONGEST).contains(&theirs) {
                crate::ffi::errors::fill(pointer.cast::<*mut tine_error>().add(1).read(), error);
            }
        }
    }
    read.map(Some)
}

/// # Safety
/// As for [`read`], of what is not null.
unsafe fn read_sized<T: Extensible>(pointer: *const T) -> Result<T> {
    let ours = size_of::<T>();
    // SAFETY: every struct of the ABI starts with its size.
    let theirs = unsafe { pointer.cast::<usize>().read() };
    if theirs < 2 * size_of::<usize>() || theirs > LONGEST {
        return Err(Error::invalid(format!("{}.size is {theirs}; it should be {ours}", T::NAME)));
    }
    let mut value = MaybeUninit::<T>::zeroed();
    // SAFETY: both sides are valid for the shorter of the two lengths, and bytes are copied.
    unsafe {
        std::ptr::copy_nonoverlapping(pointer.cast::<u8>(), value.as_mut_ptr().cast(), theirs.min(ours));
    }
    if theirs > ours {
        // SAFETY: the caller's struct is as long as it says.
        let tail = unsafe { std::slice::from_raw_parts(pointer.cast::<u8>().add(ours), theirs - ours) };
        if let Some(at) = tail.iter().position(|byte| *byte != 0) {
            return Err(Error::errno(
                libc::E2BIG,
                format!(
                    "{} has a field at byte {} that this version of tine does not know",
                    T::NAME,
                    ours + at
                ),
            ));
        }
    }
    // SAFETY: all zero is valid for `T` by its trait, and what the caller wrote are plain C fields.
    Ok(unsafe { value.assume_init() })
}

/// Whether the caller's struct can be filled.
///
/// # Safety
/// `pointer` is null, or its first field can be read.
pub(crate) unsafe fn check<T: Extensible>(pointer: *const T, name: &'static str) -> Result<()> {
    if pointer.is_null() {
        return Err(Error::invalid(format!("{name} is NULL")));
    }
    // SAFETY: every struct of the ABI starts with its size.
    let theirs = unsafe { pointer.cast::<usize>().read() };
    if theirs < 2 * size_of::<usize>() || theirs > LONGEST {
        return Err(Error::invalid(format!("{}.size is {theirs}; it should be {}", T::NAME, size_of::<T>())));
    }
    Ok(())
}

/// Zeroes the caller's struct, but for its size.
///
/// # Safety
/// As for [`fill`].
pub(crate) unsafe fn zero<T: Extensible>(pointer: *mut T) -> Result<()> {
    // SAFETY: the caller's struct; all zero is valid for `T` by its trait.
    unsafe { fill(pointer, &MaybeUninit::<T>::zeroed().assume_init()) }
}

/// Fills the caller's struct as far as it reaches, and leaves its `size` as it was.
///
/// # Safety
/// `pointer` points to a struct of as many writable bytes as its first field says.
pub(crate) unsafe fn fill<T: Extensible>(pointer: *mut T, value: &T) -> Result<()> {
    // SAFETY: the caller's struct.
    let theirs = unsafe {
        check(pointer, T::NAME)?;
        pointer.cast::<usize>().read()
    };
    let first = size_of::<usize>();
    let ours = theirs.min(size_of::<T>());
    // SAFETY: both sides are valid for the shorter of the two lengths; the tail that we do not know is zeroed.
    unsafe {
        let source = std::ptr::from_ref(value).cast::<u8>();
        std::ptr::copy_nonoverlapping(source.add(first), pointer.cast::<u8>().add(first), ours - first);
        pointer.cast::<u8>().add(ours).write_bytes(0, theirs - ours);
    }
    Ok(())
}
