//! Single processes

use crate::error::{Error, Result};
use crate::ffi::channel::{tine_channel, tine_channel_close};
use crate::ffi::death::{tine_death, view};
use crate::ffi::errors::{TINE_INTERRUPTIBLE, tine_error};
use crate::ffi::guard::{Out, bytes, duration, flags, guard, guard_end, guard_value, optional_str, slice};
use crate::ffi::options::{self, extensible};
use crate::ffi::pool::{TINE_CORE_FILES, TINE_NO_CRASH_HANDLER, function};
use crate::ffi::segment::{get, tine_segment};
use crate::ffi::start::tine_fn;
use crate::ffi::worker_options::{start, tine_worker_options};
use crate::pool::{Affinity, meanwhile};
use crate::process::{Process, ProcessOptions};
use crate::sys::clock::Timeout;
use std::ffi::{c_char, c_int, c_void};

/// A process of its own that calls one function, as a worker does, and ends when that returns.
///
/// It starts and is found as a pool's workers are: by function pointer or name, by the same start methods, in the same
/// surroundings; and as with them the host gets no child. It leads a process group of its own. When the host ends, however that
/// comes about, it is killed with everything that it has started, unless it is TINE_DETACHED.
///
/// A process costs a second one beside it, which watches it. For many short pieces of work there are pools.
pub struct tine_process(Process);

/// The process goes on when the host ends or closes its handle. What it has started and left behind ends with it then. One that
/// was started in a worker, or in another process, still ends with that.
pub const TINE_DETACHED: u32 = 1 << 19;

/// What a process can be told.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct tine_process_options {
    /// sizeof(tine_process_options).
    pub size: usize,
    /// Filled in when tine_process_start fails; may be NULL.
    pub error: *mut tine_error,
    /// The name of a registered function, where fn is NULL.
    pub name: *const c_char,
    /// TINE_START_FORKSERVER (a process without threads forks itself; the program's own state is that of its start),
    /// TINE_START_SPAWN or TINE_START_FORK.
    pub start: c_int,
    /// TINE_DETACHED, TINE_INTERRUPTIBLE, TINE_CORE_FILES, TINE_NO_CRASH_HANDLER.
    pub flags: u32,
    /// What ps and tine_process_title show; the kernel keeps 15 bytes of it. NULL: "tine-process".
    pub title: *const c_char,
    /// How long it may live, in nanoseconds from its start; 0: as long as it likes. Then it gets SIGTERM, and after
    /// .grace_ns SIGKILL, whatever the host does meanwhile. One whose time is over before its function could begin has
    /// started all the same, and ended with -ETIMEDOUT.
    pub deadline_ns: i64,
    /// How long it may live on after the SIGTERM, in nanoseconds; 0: 200 ms.
    pub grace_ns: i64,
    /// An end of a channel that it is to have, by tine_task_channel; may be NULL. When tine_process_start returns 0 it is
    /// closed here, and not to be used any more.
    pub channel: *mut tine_channel,
    /// Segments that are mapped in it before the function begins, at the addresses that they have here; NULL and 0 for none.
    pub segments: *const *mut tine_segment,
    /// How many.
    pub segment_count: usize,
    /// What it finds around it. It may run on all of .processors; .affinity is TINE_AFFINITY_NONE. NULL: what the host has.
    pub worker: *const tine_worker_options,
    /// How long it may take from its start until the function begins, in nanoseconds; 0: ten seconds.
    pub start_timeout_ns: i64,
    /// As in tine_pool_options.
    pub worker_path: *const c_char,
    /// As in tine_pool_options.
    pub worker_arguments: *const *const c_char,
    /// As in tine_pool_options.
    pub preload: *const c_char,
    /// The most that its output and what it allocates from tine_task_pool may take, in bytes; 0: 1 GiB, or a quarter of a
    /// limited address space, or the limit on file sizes.
    pub heap_bytes: usize,
}

extensible!(tine_process_options: Options);

/// How a process ended, and what its function left.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct tine_exit {
    /// sizeof(tine_exit).
    pub size: usize,
    /// Its exit code, where .signal is 0. Of one whose function has returned: 0 to 255 as that returned, 255 for more, 1 for a
    /// failure.
    pub code: c_int,
    /// The signal that ended it, or 0.
    pub signal: c_int,
    /// What the function returned. TINE_EDIED: it never did, because the process exited or was killed in it; -ETIMEDOUT:
    /// because it was past its deadline.
    pub status: c_int,
    /// What the function said of its failure (tine_fail), or what is known of it. Never NULL; "" for a success.
    pub message: *const c_char,
    /// The output (tine_output); NULL if there is none.
    pub data: *const c_void,
    /// Its length in bytes.
    pub length: usize,
    /// All that is known of the end; never NULL.
    pub death: *const tine_death,
}

extensible!(tine_exit);

impl tine_process_options {
    /// # Safety
    /// What the fields point to is there for as long as the result is used, as the fields' texts say.
    unsafe fn read(&self) -> Result<ProcessOptions<'_>> {
        const FLAGS: u32 = TINE_DETACHED | TINE_INTERRUPTIBLE | TINE_CORE_FILES | TINE_NO_CRASH_HANDLER;
        flags(self.flags, FLAGS)?;
        // SAFETY: by the contract above what the fields point to is there until tine_process_start returns: strings,
        // arrays as long as their counts, and segments and a channel that are not closed.
        let (worker, segments, title, channel) = unsafe {
            let segments = slice(self.segments, self.segment_count, "segments")?;
            let segments = segments.iter().map(|segment| Ok(&**get(*segment)?)).collect::<Result<_>>()?;
            let channel = self.channel.as_ref().map(|channel| &channel.0);
            (start!(self).read()?, segments, optional_str(self.title), channel)
        };
        if worker.affinity != Affinity::None {
            return Err(Error::invalid(
                "worker.affinity is for the workers of a pool; a process has no others",
            ));
        }
        Ok(ProcessOptions {
            worker,
            title,
            deadline_ns: duration(self.deadline_ns, "deadline_ns")?,
            grace_ns: duration(self.grace_ns, "grace_ns")?,
            segments,
            channel,
            detached: self.flags & TINE_DETACHED != 0,
            interruptible: self.flags & TINE_INTERRUPTIBLE != 0,
        })
    }
}

/// Starts a process, and waits until its function has begun.
///
/// In there the task has no pool that others share: tine_task_pool is a heap of its own, and runs what is submitted there and
/// then. What is to be shared are segments, and heaps, queues and locks in them; and it may have an end of a channel.
///
/// Parameters: fn, or NULL and the option .name. input, length: copied; NULL and 0 for none. options: NULL for all defaults.
/// out: where the process goes.
/// Returns 0; TINE_ENOINIT: tine_init has not run and no .worker_path is given; TINE_EWORKERSTART: it could not be
/// started; TINE_EFUNCTION, TINE_EMODULE, TINE_ENAME: the function is none of the process's; -EEXIST: a segment's address is
/// taken there; -ENOSPC: more than 64 segments; -EINVAL, -E2BIG: bad options; -ENOENT: no such .worker_path; -ENOMEM, -EMFILE.
/// Ownership: tine_process_close ends it; a .channel is given away. Threads: any. Fork: a child may start processes of its own.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_process_start(
    options: *const tine_process_options,
    r#fn: tine_fn,
    input: *const c_void,
    length: usize,
    out: *mut *mut tine_process,
) -> c_int {
    let address = r#fn.map_or(std::ptr::null(), |function| function as *const c_void);
    // SAFETY: `input` has `length` bytes, `options` is NULL or as long as its `.size` says, and what it points to is
    // there until this returns. `out` is NULL or can be written. The header asks for all of that.
    unsafe {
        options::with(options, |options| start(options, address, (input.cast(), length), out).map(|()| 0))
    }
}

/// # Safety
/// The input has as many bytes as its length says, what the options point to is there until this returns, and `out` is null or can
/// be written. The options' channel is null or an end that is not closed and that nobody else uses.
unsafe fn start(
    options: Option<&tine_process_options>,
    address: *const c_void,
    (input, length): (*const u8, usize),
    out: *mut *mut tine_process,
) -> Result<()> {
    // SAFETY: by the contract above `out` is null or can be written, and the input and what the options point to are
    // there until this returns. The text of `.channel` says that the end is given away here, so its closing is the
    // last use of it.
    unsafe {
        let out = Out::required(out, "out")?;
        let input = bytes(input, length, "input")?;
        let name = options.map_or(std::ptr::null(), |options| options.name);
        let function = function(address, name)?;
        let core = options.map(|options| options.read()).transpose()?.unwrap_or_default();
        let process = Process::start(function, input, &core)?;
        out.set(Box::into_raw(Box::new(tine_process(process))));
        // Last: the process has its own.
        tine_channel_close(options.map_or(std::ptr::null_mut(), |options| options.channel));
    }
    Ok(())
}

/// The process behind a pointer.
///
/// # Safety
/// `pointer` is null, or a process that has not been closed.
unsafe fn process<'a>(pointer: *const tine_process) -> Result<&'a Process> {
    // SAFETY: by the contract above `pointer` is null or a process that stays until the call returns. It is only
    // read.
    unsafe { pointer.as_ref() }.map(|process| &process.0).ok_or_else(|| Error::invalid("p is NULL"))
}

/// Waits until the process has ended, for up to timeout_ns nanoseconds; 0 asks, TINE_FOREVER waits.
///
/// It may be called again, and by several threads: the answer stays the same. How the process has ended its supervisor says, within
/// microseconds: until then, tine_process_fd is readable already, and a wait goes on while it has time.
///
/// Parameters: p. timeout_ns. out: a tine_exit, with its .size set, or NULL.
/// Returns 0: it has ended, in whatever way; -EAGAIN, -ETIMEDOUT: it has not, or its supervisor has not said how; -EINTR
/// (TINE_INTERRUPTIBLE only); -EINVAL; TINE_EFORKED. Ownership: what the exit points to is valid until
/// tine_process_close. Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_process_wait(
    p: *mut tine_process,
    timeout_ns: i64,
    out: *mut tine_exit,
) -> c_int {
    guard(|| {
        // SAFETY: `p` is NULL, or a process that has not been closed, as the header asks.
        let process = unsafe { process(p) }?;
        if !out.is_null() {
            // SAFETY: `out` is not NULL, so it can be written as far as its `.size` says, as the header asks.
            unsafe { options::check(out) }?;
        }
        let exit = meanwhile(Timeout::from_ns(timeout_ns), |timeout| process.wait(timeout))?;
        if !out.is_null() {
            let (data, length) = exit.output();
            let exit = tine_exit {
                size: 0,
                code: exit.death.code,
                signal: exit.death.signal,
                status: exit.status,
                message: exit.message.as_ptr(),
                data: data.cast(),
                length,
                death: view(Some(&exit.death)),
            };
            // SAFETY: `out` is not NULL, so it can be written as far as its `.size` says, as the header asks.
            unsafe { options::fill(out, &exit) }?;
        }
        Ok(0)
    })
}

/// Sends the process a signal: SIGTERM asks it to end, SIGINT interrupts it, SIGKILL ends it.
///
/// Parameters: p. signal: 1 to 64.
/// Returns 0; -ESRCH: it has ended; -EINVAL: p is NULL, or no signal; -EPERM; TINE_EFORKED. Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_process_kill(p: *mut tine_process, signal: c_int) -> c_int {
    guard(|| {
        // SAFETY: `p` is NULL, or a process that has not been closed, as the header asks.
        unsafe { process(p) }?.signal(signal)?;
        Ok(0)
    })
}

/// Sends a signal to the process and to everything that it has started and that is still there, also what has outlived
/// it and what has left its process group. It is the process's supervisor that does it, at once but not before the call returns.
///
/// Parameters: p. signal: 1 to 64.
/// Returns 0; -EINVAL: p is NULL, or no signal; TINE_EFORKED. Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_process_kill_tree(p: *mut tine_process, signal: c_int) -> c_int {
    guard(|| {
        // SAFETY: `p` is NULL, or a process that has not been closed, as the header asks.
        unsafe { process(p) }?.signal_tree(signal)?;
        Ok(0)
    })
}

/// 1 while the process has not ended, 0 from then on; -EINVAL: p is NULL; TINE_EFORKED. Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_process_alive(p: *const tine_process) -> c_int {
    // SAFETY: `p` is NULL, or a process that has not been closed, as the header asks.
    guard(|| Ok(c_int::from(unsafe { process(p) }?.is_alive()?)))
}

/// The process's number; -EINVAL: p is NULL. It may be given to another one after its end. Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_process_pid(p: *const tine_process) -> libc::pid_t {
    // SAFETY: `p` is NULL, or a process that has not been closed, as the header asks.
    guard(|| Ok(unsafe { process(p) }?.pid()))
}

/// A descriptor that is readable from the end of the process on, and then for good. For poll, select, epoll; not to be
/// closed.
///
/// Returns the descriptor, which stays the handle's; -EINVAL: p is NULL; TINE_EFORKED. Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_process_fd(p: *const tine_process) -> c_int {
    // SAFETY: `p` is NULL, or a process that has not been closed, as the header asks.
    guard(|| unsafe { process(p) }?.descriptor())
}

/// The process's title: .title, or "tine-process". NULL for NULL; valid until tine_process_close. Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_process_title(p: *const tine_process) -> *const c_char {
    // SAFETY: `p` is NULL, or a process that has not been closed, as the header asks.
    guard_value(std::ptr::null(), || unsafe { process(p) }.map_or(std::ptr::null(), |p| p.title().as_ptr()))
}

/// Kills the process and everything that it has started. One that is TINE_DETACHED goes on, and nobody will know how it ends.
///
/// Parameters: p: may be NULL. No other thread may be in a call on it.
/// Fork: in a child it forgets the process, which goes on.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_process_close(p: *mut tine_process) {
    guard_end(|| {
        if !p.is_null() {
            // SAFETY: a process comes from `Box::into_raw` in `start` alone. As the text above asks, no other thread
            // is in a call on it, and this call is the last.
            drop(unsafe { Box::from_raw(p) });
        }
    });
}
