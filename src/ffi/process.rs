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

/// A process of its own that calls one function, as a worker does, and ends when the function returns.
///
/// It starts as the workers of a pool do: by function pointer or name, by the start methods, with an environment of
/// its own; and the host gets no child that it could see. It leads a process group. When the host ends, for whatever
/// reason, the process is killed with everything that it has started, unless it is TINE_DETACHED.
///
/// A second process beside it watches it, which costs memory and time. For many short pieces of work there are pools.
pub struct tine_process(Process);

/// The process goes on when the host ends or closes its handle. When the process ends, whatever it has started ends
/// too. A process that was started in a worker, or in another process, still ends with that one.
pub const TINE_DETACHED: u32 = 1 << 19;

/// Options of tine_process_start.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct tine_process_options {
    /// sizeof(tine_process_options).
    pub size: usize,
    /// Filled in when tine_process_start fails; may be NULL.
    pub error: *mut tine_error,
    /// The name of a registered function, where fn is NULL.
    pub name: *const c_char,
    /// TINE_START_FORKSERVER, TINE_START_SPAWN or TINE_START_FORK. With the first, a copy of the program without
    /// threads forks itself, and the program's own state is that of its start.
    pub start: c_int,
    /// TINE_DETACHED, TINE_INTERRUPTIBLE, TINE_CORE_FILES, TINE_NO_CRASH_HANDLER.
    pub flags: u32,
    /// What ps and tine_process_title show; the kernel keeps 15 bytes of it. NULL: "tine-process".
    pub title: *const c_char,
    /// How long the process may live, in nanoseconds from its start; 0: without a limit. Then it gets SIGTERM, and
    /// after .grace_ns SIGKILL, whatever the host does meanwhile. A process whose time is over before its function
    /// could begin counts as started, and ends with -ETIMEDOUT.
    pub deadline_ns: i64,
    /// How long the process may go on after the SIGTERM, in nanoseconds; 0: 200 ms.
    pub grace_ns: i64,
    /// An end of a channel for the process, which gets it by tine_task_channel; may be NULL. Where tine_process_start
    /// returns 0, the end has been given away: the handle is closed here, and must not be used any more. Otherwise
    /// the end stays the caller's.
    pub channel: *mut tine_channel,
    /// Segments that are mapped in the process before its function begins, at the addresses that they have here; NULL
    /// and 0: none.
    pub segments: *const *mut tine_segment,
    /// How many segments there are in .segments.
    pub segment_count: usize,
    /// The environment of the process. It may run on all of .processors, and .affinity is TINE_AFFINITY_NONE. NULL:
    /// the host's.
    pub worker: *const tine_worker_options,
    /// How long the process may take from its start until its function begins, in nanoseconds; 0: ten seconds.
    pub start_timeout_ns: i64,
    /// The program to run, as in tine_pool_options.
    pub worker_path: *const c_char,
    /// The arguments of that program, as in tine_pool_options.
    pub worker_arguments: *const *const c_char,
    /// Shared libraries to load, as in tine_pool_options.
    pub preload: *const c_char,
    /// The most that the output of the process and its blocks from tine_task_pool may take, in bytes; 0: 1 GiB, or
    /// less where the limit of the address space (a quarter of it) or the limit on file sizes is less.
    pub heap_bytes: usize,
}

extensible!(tine_process_options: Options);

/// How a process ended, and what its function returned: see tine_process_wait.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct tine_exit {
    /// sizeof(tine_exit).
    pub size: usize,
    /// The exit code of the process, where .signal is 0. Where the function has returned, it is 0 for 0, the number
    /// itself up to 255, 255 for a larger number, and 1 for a negative one.
    pub code: c_int,
    /// The signal that ended it, or 0.
    pub signal: c_int,
    /// What the function has returned; TINE_EDIED where it has not returned because the process exited or was killed;
    /// -ETIMEDOUT where it has not returned by the deadline.
    pub status: c_int,
    /// The text that the function gave to its failure (tine_fail), or what tine knows of the failure. Never NULL; ""
    /// for a success.
    pub message: *const c_char,
    /// The output (tine_output); NULL if there is none.
    pub data: *const c_void,
    /// The length of .data in bytes.
    pub length: usize,
    /// The report of the process's end; never NULL.
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
/// The task of that function has no pool that other processes share: tine_task_pool is a heap of its own, and runs
/// what is submitted there and then. It shares segments with other processes, and the heaps, queues and locks in
/// them, and it may have an end of a channel.
///
/// Parameters: options: NULL for all defaults. fn: the function; NULL where the option .name is given. input: the
/// input, which is copied; NULL where length is 0. length: in bytes. out: where the process goes.
/// Returns 0; TINE_ENOINIT: tine_init has not run and no .worker_path is given; TINE_EWORKERSTART: the process could
/// not be started; TINE_EFUNCTION, TINE_EMODULE, TINE_ENAME: the function is not one of the process's; -EEXIST:
/// something else is at a segment's address there; -ENOSPC: there are more than 64 segments; -EINVAL, -E2BIG: an
/// argument or an option has no meaning; -ENOENT: there is no program at .worker_path; -ENOSYS: the kernel is too
/// old; -ENOMEM, -EMFILE: the host has no memory or no descriptor.
/// Ownership: tine_process_close ends the process; a .channel is given away. Threads: any. Fork: a child may start
/// processes of its own.
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
/// `address` is null or that of a `tine_fn`, the input has as many bytes as its length says, what the options point to is there until
/// this returns, and `out` is null or can be written. The options' channel is null or an end that is not closed and that nobody else uses.
unsafe fn start(
    options: Option<&tine_process_options>,
    address: *const c_void,
    (input, length): (*const u8, usize),
    out: *mut *mut tine_process,
) -> Result<()> {
    // SAFETY: by the contract above `out` is null or can be written, the address is that of a task's function or null, and
    // the input and what the options point to are there until this returns. The text of `.channel` says that the end is
    // given away here, so its closing is the last use of it.
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

/// Waits until the process has ended.
///
/// It may be called again, and by several threads, and then returns what it has returned. The process's supervisor
/// tells how the process has ended, some microseconds after the end: until then tine_process_fd is readable already,
/// and a wait goes on while it has time.
///
/// Parameters: p. timeout_ns: how long to wait, in nanoseconds; 0: not at all. out: a tine_exit with its .size set, or
/// NULL.
/// Returns 0: the process has ended, in whatever way; -EAGAIN, -ETIMEDOUT: it has not, or its supervisor has not told
/// how; -EINTR: a signal came, with TINE_INTERRUPTIBLE; -EINVAL: p is NULL, or the .size is less than 16;
/// TINE_EFORKED.
/// Ownership: what the exit points to is valid until tine_process_close. Threads: any. Fork: TINE_EFORKED in a child.
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

/// Sends a signal to the process: SIGTERM asks it to end, SIGINT interrupts it, SIGKILL ends it.
///
/// Parameters: p. signal: 1 to 64.
/// Returns 0; -ESRCH: the process has ended; -EINVAL: p is NULL, or signal is not a signal; -EPERM: this process may
/// not signal it; TINE_EFORKED.
/// Threads: any. Fork: TINE_EFORKED in a child.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_process_kill(p: *mut tine_process, signal: c_int) -> c_int {
    guard(|| {
        // SAFETY: `p` is NULL, or a process that has not been closed, as the header asks.
        unsafe { process(p) }?.signal(signal)?;
        Ok(0)
    })
}

/// Sends a signal to the process and to everything that it has started and that is still there. That includes what
/// has outlived the process and what has left its process group. The process's supervisor sends the signals, at once
/// but not before the call returns.
///
/// Parameters: p. signal: 1 to 64.
/// Returns 0; -EINVAL: p is NULL, or signal is not a signal; TINE_EFORKED.
/// Threads: any. Fork: TINE_EFORKED in a child.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_process_kill_tree(p: *mut tine_process, signal: c_int) -> c_int {
    guard(|| {
        // SAFETY: `p` is NULL, or a process that has not been closed, as the header asks.
        unsafe { process(p) }?.signal_tree(signal)?;
        Ok(0)
    })
}

/// Tells whether the process is still running.
///
/// Parameters: p.
/// Returns 1: it is; 0: it has ended; -EINVAL: p is NULL; TINE_EFORKED.
/// Threads: any. Fork: TINE_EFORKED in a child.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_process_alive(p: *const tine_process) -> c_int {
    // SAFETY: `p` is NULL, or a process that has not been closed, as the header asks.
    guard(|| Ok(c_int::from(unsafe { process(p) }?.is_alive()?)))
}

/// The number of the process. After the end of the process another one may get this number.
///
/// Parameters: p.
/// Returns the number; -EINVAL: p is NULL.
/// Threads: any. Fork: a child may call it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_process_pid(p: *const tine_process) -> libc::pid_t {
    // SAFETY: `p` is NULL, or a process that has not been closed, as the header asks.
    guard(|| Ok(unsafe { process(p) }?.pid()))
}

/// A descriptor that becomes readable when the process ends, and stays readable. It is for poll, select and epoll.
/// The program must not close it.
///
/// Parameters: p.
/// Returns the descriptor, which stays the handle's; -EINVAL: p is NULL; TINE_EFORKED.
/// Threads: any. Fork: TINE_EFORKED in a child.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_process_fd(p: *const tine_process) -> c_int {
    // SAFETY: `p` is NULL, or a process that has not been closed, as the header asks.
    guard(|| unsafe { process(p) }?.descriptor())
}

/// The title of the process.
///
/// Parameters: p.
/// Returns the .title of the options, or "tine-process"; NULL: p is NULL. The string is valid until
/// tine_process_close.
/// Threads: any. Fork: a child may call it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_process_title(p: *const tine_process) -> *const c_char {
    // SAFETY: `p` is NULL, or a process that has not been closed, as the header asks.
    guard_value(std::ptr::null(), || unsafe { process(p) }.map_or(std::ptr::null(), |p| p.title().as_ptr()))
}

/// Kills the process and everything that it has started, and releases its handle. A process that is TINE_DETACHED
/// goes on, and its end is reported to nobody.
///
/// The call waits until the processes have been killed and reaped: some milliseconds, and up to 8 s where the
/// process's supervisor does not answer, because somebody has stopped it, say. It waits without a limit for a process
/// that the kernel cannot end, and not at all for one that is TINE_DETACHED.
///
/// Parameters: p: may be NULL. No other thread may be in a call on the process.
/// Threads: any. Fork: in a child it releases the child's copy, and the process goes on.
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
