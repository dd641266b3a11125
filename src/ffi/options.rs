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
    // SAFETY: the caller's promise is this one's.
    guard(|| unsafe { read_and_report(pointer, body) })
}

/// The same for a call that is made for each task: see [`guard_quick`].
///
/// # Safety
/// As for [`with`].
pub(crate) unsafe fn with_quick<T: Options>(
    pointer: *const T,
    body: impl FnOnce(Option<&T>) -> Result<c_int>,
) -> c_int {
    // SAFETY: the caller's promise is this one's.
    guard_quick(|| unsafe { read_and_report(pointer, body) })
}

/// # Safety
/// As for [`with`].
unsafe fn read_and_report<T: Options>(
    pointer: *const T,
    body: impl FnOnce(Option<&T>) -> Result<c_int>,
) -> Result<c_int> {
    // SAFETY: the caller's promise is this one's.
    let done = unsafe { read(pointer) }.and_then(|options| body(options.as_ref()));
    // SAFETY: the caller's promise is this one's.
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
    // SAFETY: every struct starts with its size.
    let theirs = unsafe { size_of_theirs(pointer) };
    // Whoever has forgotten the size has zeroed a whole struct. Any other size that is none may stand before anything.
    if theirs != 0 && !(SHORTEST..=LONGEST).contains(&theirs) {
        return std::ptr::null_mut();
    }
    // SAFETY: the struct reaches at least that far, and the field is there by the trait.
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
    // SAFETY: every struct starts with its size.
    let theirs = unsafe { size_of_theirs(pointer) };
    if !(SHORTEST..=LONGEST).contains(&theirs) {
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
    Ok(Some(unsafe { value.assume_init() }))
}

/// # Safety
/// `pointer` points to a struct whose first field can be read.
unsafe fn size_of_theirs<T: Extensible>(pointer: *const T) -> usize {
    // SAFETY: the caller's promise. Where the struct is not aligned, that is no reason to read anything else.
    unsafe { pointer.cast::<usize>().read_unaligned() }
}

/// Whether the caller's struct can be filled.
///
/// # Safety
/// `pointer` is null, or its first field can be read.
pub(crate) unsafe fn check<T: Extensible>(pointer: *const T) -> Outcome<()> {
    // SAFETY: the first field can be read where there is one, which the caller promises.
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
    // SAFETY: all zero is valid for `T` by its trait; what `fill` wants is what the caller promises.
    unsafe { fill(pointer, &MaybeUninit::<T>::zeroed().assume_init()) }
}

/// Fills the caller's struct as far as it reaches, and leaves its `size` as it was.
///
/// # Safety
/// `pointer` is null, or points to a struct of as many writable bytes as its first field says.
pub(crate) unsafe fn fill<T: Extensible>(pointer: *mut T, value: &T) -> Outcome<()> {
    // SAFETY: the first field can be read where there is one, which the caller promises.
    unsafe { check(pointer) }?;
    let first = size_of::<usize>();
    // SAFETY: it is not null, since it has been checked.
    let theirs = unsafe { size_of_theirs(pointer) };
    let ours = theirs.min(size_of::<T>());
    // SAFETY: both sides are valid for the shorter of the two lengths, which is at least the size's; the tail that this version does
    // not know is the caller's, up to its size.
    unsafe {
        let source = std::ptr::from_ref(value).cast::<u8>();
        std::ptr::copy_nonoverlapping(source.add(first), pointer.cast::<u8>().add(first), ours - first);
        pointer.cast::<u8>().add(ours).write_bytes(0, theirs - ours);
    }
    Ok(())
}
