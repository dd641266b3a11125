//! The machine, as people know it.

use crate::sys::clock::Deadline;
use crate::sys::prim::{AtomicU32, Ordering, futex_wait, futex_wake};
use crate::sys::thread::Thread;
use std::sync::Arc;

unsafe extern "C" {
    static stdout: *mut libc::FILE;
}

/// The machine's name.
pub(crate) fn name() -> String {
    let mut room = [0u8; 256];
    // SAFETY: as many bytes as it is told.
    unsafe { libc::gethostname(room.as_mut_ptr().cast(), room.len() - 1) };
    let end = room.iter().position(|byte| *byte == 0).unwrap_or(0);
    String::from_utf8_lossy(&room[..end]).into_owned()
}

/// Has what standard output holds written, as far as that goes until then: whoever reads it may not read any more. To flush all streams would wait
/// for one that another thread reads from, and lock the C library's list of them meanwhile: nobody could open a file any more.
pub(crate) fn flush_output(deadline: Deadline) {
    let done = Arc::new(AtomicU32::new(0));
    let tell = Arc::clone(&done);
    let flush = move || {
        // SAFETY: the C library's stream.
        unsafe { libc::fflush(stdout) };
        tell.store(1, Ordering::Release);
        futex_wake(&tell, 1);
    };
    // Without a thread nothing is written, because that might never end.
    let Ok(thread) = Thread::start(c"tine-flush", 0, flush) else { return };
    thread.detach();
    while done.load(Ordering::Acquire) == 0 && !deadline.passed() {
        futex_wait(&done, 0, deadline);
    }
}

/// Calls this when the process ends in good order.
pub(crate) fn at_exit(call: extern "C" fn()) -> bool {
    // SAFETY: a function of a library that stays loaded.
    unsafe { libc::atexit(call) == 0 }
}
