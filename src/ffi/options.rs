//! Structs that grow: each starts with its size. A shorter one is read as if the rest were zero and written no further than it
//! reaches; a longer one must end in zeros, and is filled up with zeros.
//!
//! What a caller gives may be shorter than the struct of this version, so no reference to the whole struct is ever made of it:
//! its bytes are copied, as many as its `.size` says.

use crate::error::{Code, Error, Result};
use crate::ffi::errors::{report, tine_error};
use crate::ffi::guard::{guard, guard_quick};
use crate::sync::Outcome;
use std::ffi::c_int;
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

/// An options struct of a call, whose second field is where the call's error goes.
///
/// # Safety
/// The field behind the size is a `*mut tine_error`.
pub(crate) unsafe trait Options: Extensible {}

/// Says of a struct that it is [`Extensible`], and with `: Options` behind its name that, too.
macro_rules! extensible {
    ($name:ident) => {
        const _: () = assert!(std::mem::offset_of!($name, size) == 0);
        // SAFETY: `repr(C)`, since its offsets are used by C; the size is first, by the assertion; and the rest are integers, pointers
        // and optional functions, for all of which zero is a value.
        unsafe impl $crate::ffi::options::Extensible for $name {
            const NAME: &'static str = stringify!($name);
        }
    };
    ($name:ident: Options) => {
        $crate::ffi::options::extensible!($name);
        const _: () = assert!(std::mem::offset_of!($name, error) == size_of::<usize>());
        // SAFETY: the error is second, by the assertion.
        unsafe impl $crate::ffi::options::Options for $name {}
    };
}
pub(crate) use extensible;

/// No struct of the ABI will ever be as long as this: a larger size is garbage.
const LONGEST: usize = 64 * 1024;
/// The shortest that says anything: the size, and a word behind it.
const SHORTEST: usize = 2 * size_of::<usize>();

/// The body of an exported function with options: its code on success, and otherwise the error's, whose text goes where the
/// options say.
///
/// # Safety
/// `pointer` is null, or points to a struct of as many readable bytes as its first field says; what it points to is as the
/// function's documentation wants it.
pub(crate) unsafe fn with<T: Options>(
    pointer: *const T,
    body: impl FnOnce(Option<&T>) -> Result<c_int>,
) -> c_int {
    // SAFETY: `read_and_report` asks of `pointer` what this function asks.
    guard(|| unsafe { read_and_report(pointer, body) })
}

/// The same for a call that is made for each task: see [`guard_quick`]. Where there are no options there is nothing to copy and no place
/// for an error's text, so such a call does without this.
///
/// # Safety
/// As for [`with`].
pub(crate) unsafe fn with_quick<T: Options>(
    pointer: *const T,
    body: impl FnOnce(Option<&T>) -> Result<c_int>,
) -> c_int {
    // SAFETY: `read_and_report` asks of `pointer` what this function asks.
    guard_quick(|| unsafe { read_and_report(pointer, body) })
}

/// # Safety
/// As for [`with`].
unsafe fn read_and_report<T: Options>(
    pointer: *const T,
    body: impl FnOnce(Option<&T>) -> Result<c_int>,
) -> Result<c_int> {
    // SAFETY: `read` asks of `pointer` no more than this function: null, or as long as its first field says.
    let done = unsafe { read(pointer) }.and_then(|options| body(options.as_ref()));
    // SAFETY: `error_of` asks of `pointer` what this function asks.
    done.or_else(|failed| Ok(report(unsafe { error_of(pointer) }, &failed)))
}

/// Where the caller wants an error's text; null for nowhere.
///
/// # Safety
/// As for [`with`].
unsafe fn error_of<T: Options>(pointer: *const T) -> *mut tine_error {
    if pointer.is_null() {
        return std::ptr::null_mut();
    }
    // SAFETY: `pointer` is not null. By the contract above its struct can be read, and every struct starts with its
    // size.
    let theirs = unsafe { size_of_theirs(pointer) };
    // Whoever has forgotten the size has zeroed a whole struct. Any other size that is none may stand before anything.
    if theirs != 0 && !(SHORTEST..=LONGEST).contains(&theirs) {
        return std::ptr::null_mut();
    }
    // SAFETY: the struct reaches at least that far: its size was looked at. By the trait the field behind the size is
    // this one.
    unsafe { pointer.cast::<*mut tine_error>().add(1).read_unaligned() }
}

/// Reads the caller's struct; `None` where there is none.
///
/// # Safety
/// `pointer` is null, or points to a struct of as many readable bytes as its first field says.
pub(crate) unsafe fn read<T: Extensible>(pointer: *const T) -> Result<Option<T>> {
    if pointer.is_null() {
        return Ok(None);
    }
    let ours = size_of::<T>();
    // SAFETY: `pointer` is not null. By the contract above its struct can be read, and every struct starts with its
    // size.
    let theirs = unsafe { size_of_theirs(pointer) };
    if !(SHORTEST..=LONGEST).contains(&theirs) {
        return Err(Error::invalid(format!("{}.size is {theirs}; it should be {ours}", T::NAME)));
    }
    let mut value = MaybeUninit::<T>::zeroed();
    // SAFETY: by the contract above `theirs` bytes can be read, and `value` has `ours`. The shorter of the two
    // lengths is copied. `value` is new, so the two do not overlap.
    unsafe {
        std::ptr::copy_nonoverlapping(pointer.cast::<u8>(), value.as_mut_ptr().cast(), theirs.min(ours));
    }
    if theirs > ours {
        // SAFETY: by the contract above `theirs` bytes can be read, and these are the last of them. `theirs` is at
        // most `LONGEST`.
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
    // SAFETY: by its trait all zero is valid for `T`. What has been copied over the zeros are fields that C has
    // written: integers, pointers, and functions or null.
    Ok(Some(unsafe { value.assume_init() }))
}

/// # Safety
/// `pointer` points to a struct whose first field can be read.
unsafe fn size_of_theirs<T: Extensible>(pointer: *const T) -> usize {
    // SAFETY: by the contract above the first field can be read. The read needs no alignment.
    unsafe { pointer.cast::<usize>().read_unaligned() }
}

/// Whether the caller's struct can be filled.
///
/// # Safety
/// `pointer` is null, or its first field can be read.
pub(crate) unsafe fn check<T: Extensible>(pointer: *const T) -> Outcome<()> {
    // SAFETY: evaluated only where `pointer` is not null, and then its first field can be read by the contract above.
    match pointer.is_null() || !(SHORTEST..=LONGEST).contains(&unsafe { size_of_theirs(pointer) }) {
        true => Err(Code::errno(libc::EINVAL)),
        false => Ok(()),
    }
}

/// Zeroes the caller's struct, but for its size.
///
/// # Safety
/// As for [`fill`].
pub(crate) unsafe fn zero<T: Extensible>(pointer: *mut T) -> Outcome<()> {
    // SAFETY: `pointer` is null, or can be read by the contract above, its first field as well.
    unsafe { check(pointer) }?;
    let first = size_of::<usize>();
    // SAFETY: `check` refuses null. By the contract above the first field can be read, and as many bytes can be written as it says;
    // `check` has seen that these are more than the field has. Zeros are written, not a struct of zeros: what lies between its fields
    // would be whatever the stack had there.
    unsafe { pointer.cast::<u8>().add(first).write_bytes(0, size_of_theirs(pointer) - first) };
    Ok(())
}

/// Fills the caller's struct as far as it reaches, and leaves its `size` as it was.
///
/// # Safety
/// `pointer` is null, or points to a struct of as many writable bytes as its first field says.
pub(crate) unsafe fn fill<T: Extensible>(pointer: *mut T, value: &T) -> Outcome<()> {
    // SAFETY: `pointer` is null, or can be read by the contract above, its first field as well.
    unsafe { check(pointer) }?;
    let first = size_of::<usize>();
    // SAFETY: `check` refuses null. By the contract above the first field can be read.
    let theirs = unsafe { size_of_theirs(pointer) };
    let ours = theirs.min(size_of::<T>());
    // SAFETY: by the contract above `theirs` bytes can be written, and `value` has as many as `T`. `ours` is the
    // shorter of the two lengths, and `check` has seen that it is longer than the first field. `value` is tine's, so
    // the two do not overlap. The zeros go up to `theirs` and no further.
    unsafe {
        let source = std::ptr::from_ref(value).cast::<u8>();
        if theirs == size_of::<T>() {
            // The usual case is a copy of a length that the compiler knows.
            let length = size_of::<T>() - first;
            std::ptr::copy_nonoverlapping(source.add(first), pointer.cast::<u8>().add(first), length);
            return Ok(());
        }
        std::ptr::copy_nonoverlapping(source.add(first), pointer.cast::<u8>().add(first), ours - first);
        pointer.cast::<u8>().add(ours).write_bytes(0, theirs - ours);
    }
    Ok(())
}
