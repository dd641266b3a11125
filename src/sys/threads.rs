//! Whether this process has one thread only, for the price of two loads.

use std::ffi::c_char;
use std::sync::atomic::{AtomicPtr, Ordering};

/// The C library's own flag, or `UNKNOWN`; null before the first look. Relaxed: the flag is never unmapped, and every
/// thread would find the same.
static FLAG: AtomicPtr<c_char> = AtomicPtr::new(std::ptr::null_mut());

/// What stands for the flag where the C library has none: there may always be threads.
static UNKNOWN: c_char = 0;

/// True only where no other thread can be in this process's memory: the C library sets its flag back before it makes
/// one, in the thread that makes it. Threads that are made behind the C library's back break its own `malloc` too.
#[inline]
pub(crate) fn only_one() -> bool {
    let flag = FLAG.load(Ordering::Relaxed);
    let flag = if flag.is_null() { find() } else { flag };
    // SAFETY: the C library's variable, which only this thread could change while its value is not 0; or our own.
    unsafe { flag.read_volatile() != 0 }
}

/// The same where the flag has been looked for before.
#[inline(always)]
pub(crate) fn only_one_if_known() -> Option<bool> {
    let flag = FLAG.load(Ordering::Relaxed);
    // SAFETY: as in `only_one`.
    (!flag.is_null()).then(|| unsafe { flag.read_volatile() != 0 })
}

#[cold]
#[inline(never)]
fn find() -> *mut c_char {
    // SAFETY: a C string; glibc has the variable since 2.32.
    let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"__libc_single_threaded".as_ptr()) };
    let flag = if found.is_null() { (&raw const UNKNOWN).cast_mut() } else { found.cast() };
    FLAG.store(flag, Ordering::Relaxed);
    flag
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_process_with_threads_is_not_alone() {
        std::thread::spawn(|| assert!(!super::only_one())).join().unwrap();
    }
}
