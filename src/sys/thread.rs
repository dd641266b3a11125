//! A thread of tine's own, whose start can fail and whose failure is an error.
//!
//! The standard library's threads note things in thread-locals that have destructors: the C library allocates for each of these, and ends
//! the process where it cannot.

use crate::error::{Code, Error, Result};
use crate::sys::memory::Mapping;
use crate::sys::signal;
use std::ffi::{CStr, c_int, c_void};

/// More than the reserve gives, so that it is the C library's memory that is asked about.
const BESIDES: usize = 16 << 10;

/// The handle of a thread that has been started. The thread goes on when this is dropped; its stack is given back by [`Thread::join`] or
/// [`Thread::detach`] alone.
#[derive(Debug)]
pub(crate) struct Thread(libc::pthread_t);

// SAFETY: a thread's handle says the same in every thread, whether it is a number or, as with musl, a pointer that is only passed on.
unsafe impl Send for Thread {}
// SAFETY: nothing is changed through a shared handle: it is passed on as a value.
unsafe impl Sync for Thread {}

/// Which of the threads that there are. (The standard library's own numbers are allocated with the thread's first look at its own.)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Id(libc::pthread_t);

// SAFETY: as for `Thread`; it is only compared.
unsafe impl Send for Id {}
// SAFETY: nothing is changed through a shared one: it is compared as a value.
unsafe impl Sync for Id {}

/// The calling thread.
#[inline]
pub(crate) fn this() -> Id {
    // SAFETY: has no preconditions.
    Id(unsafe { libc::pthread_self() })
}

/// The processor that the calling thread runs on, or has just run on.
pub(crate) fn processor() -> Option<u32> {
    let mut processor = 0u32;
    // SAFETY: a valid place for a number; the others may be null.
    let rc = unsafe { libc::syscall(libc::SYS_getcpu, &raw mut processor, 0, 0) };
    (rc == 0).then_some(processor)
}

unsafe extern "C" {
    // In every C library that has threads that can be cancelled.
    fn pthread_setcancelstate(state: c_int, old: *mut c_int) -> c_int;
}

const PTHREAD_CANCEL_DISABLE: c_int = 1;

/// While it lives, `pthread_cancel` does nothing to the calling thread but leave word: to unwind through the frames of this library
/// would end the host.
pub(crate) struct Uncancelled(c_int);

impl Uncancelled {
    pub(crate) fn new() -> Uncancelled {
        let mut old = 0;
        // SAFETY: a place for the state that there was.
        unsafe { pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &mut old) };
        Uncancelled(old)
    }
}

impl Drop for Uncancelled {
    fn drop(&mut self) {
        // SAFETY: a state that the C library gave in `new`, and a place for the one that there was.
        unsafe { pthread_setcancelstate(self.0, &mut 0) };
    }
}

struct Start<F> {
    name: &'static CStr,
    run: F,
}

impl Thread {
    /// Which one it is.
    pub(crate) fn id(&self) -> Id {
        Id(self.0)
    }

    /// Starts a thread, none of the host's signals for it; -ENOMEM or -EAGAIN where that cannot be. Its stack is the default for 0 bytes.
    pub(crate) fn start<F: FnOnce() + Send + 'static>(
        name: &'static CStr,
        mut stack: usize,
        run: F,
    ) -> Result<Thread> {
        // The new thread inherits the mask.
        let _blocked = signal::AllBlocked::new();
        let start = Box::into_raw(Box::new(Start { name, run }));
        let mut thread = std::mem::MaybeUninit::uninit();
        // SAFETY: attributes that are initialised first and destroyed last; the new thread takes the box over where there is one.
        let failed = unsafe {
            let mut attributes = std::mem::MaybeUninit::uninit();
            let mut failed = libc::pthread_attr_init(attributes.as_mut_ptr());
            if failed == 0 {
                let mut create = |attributes| {
                    libc::pthread_create(thread.as_mut_ptr(), attributes, begin::<F>, start.cast())
                };
                failed = libc::EINVAL;
                if stack != 0 && libc::pthread_attr_setstacksize(attributes.as_mut_ptr(), stack) == 0 {
                    failed = create(attributes.as_ptr());
                }
                // What the program has of thread-local variables comes out of the stack: it may be too much for a small one.
                if failed == libc::EINVAL {
                    failed = create(std::ptr::null());
                    libc::pthread_attr_destroy(attributes.as_mut_ptr());
                    libc::pthread_attr_init(attributes.as_mut_ptr());
                }
                libc::pthread_attr_getstacksize(attributes.as_ptr(), &raw mut stack);
                libc::pthread_attr_destroy(attributes.as_mut_ptr());
            }
            failed
        };
        if failed != 0 {
            // SAFETY: from above, and no thread has it.
            drop(unsafe { Box::from_raw(start) });
            // musl says EAGAIN for whatever the kernel says.
            let elsewhere = matches!(failed, libc::EINVAL | libc::EAGAIN) && children_are_elsewhere();
            let failed = match failed {
                _ if elsewhere => libc::EINVAL,
                libc::EAGAIN => what_is_short(stack),
                other => other,
            };
            let why = match elsewhere {
                true => {
                    "children of this process are in another PID namespace (unshare, setns), so the kernel starts no thread for it; \
                     a pool with TINE_NO_THREAD needs none"
                }
                false => &Code::errno(failed).text().to_string_lossy(),
            };
            let text = format!("starting tine's thread: {why}");
            return Err(Error::errno(failed, text));
        }
        // SAFETY: written by the call that has succeeded.
        Ok(Thread(unsafe { thread.assume_init() }))
    }

    /// Whether it is the calling thread.
    pub(crate) fn is_this(&self) -> bool {
        Id(self.0) == this()
    }

    /// Waits for its end.
    pub(crate) fn join(self) {
        // SAFETY: joined once, as this is consumed.
        unsafe { libc::pthread_join(self.0, std::ptr::null_mut()) };
    }

    /// Nobody waits for its end.
    pub(crate) fn detach(self) {
        // SAFETY: not joined before, and neither joined nor detached again, as this is consumed.
        unsafe { libc::pthread_detach(self.0) };
    }
}

/// The C library says EAGAIN whatever a thread could not be had for: whether it is memory.
fn what_is_short(stack: usize) -> c_int {
    // What it allocates besides the stack.
    let mut besides = Vec::<u8>::new();
    let has_memory = Mapping::probe(stack).is_ok() && besides.try_reserve(BESIDES).is_ok();
    if has_memory { libc::EAGAIN } else { libc::ENOMEM }
}

/// Whether this process's children get another PID namespace than its own.
fn children_are_elsewhere() -> bool {
    let of = |name: &str| std::fs::read_link(format!("/proc/self/ns/{name}")).ok();
    of("pid") != of("pid_for_children")
}

extern "C" fn begin<F: FnOnce()>(start: *mut c_void) -> *mut c_void {
    // SAFETY: given to this thread alone by the one that started it.
    let start = unsafe { Box::from_raw(start.cast::<Start<F>>()) };
    // SAFETY: a C string.
    unsafe { libc::prctl(libc::PR_SET_NAME, start.name.as_ptr()) };
    (start.run)();
    std::ptr::null_mut()
}
