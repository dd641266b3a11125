//! Tasks and results

use crate::error::Error;
use crate::ffi::channel::{tine_channel, tine_channel_close};
use crate::ffi::death::{tine_death, view};
use crate::ffi::errors::tine_error;
use crate::ffi::guard::{Out, bytes, deadline, duration, flags, guard, guard_quick, guard_value, slice};
use crate::ffi::options::{self, extensible};
use crate::ffi::pool::{function, taker, tine_pool};
use crate::ffi::start::tine_fn;
use crate::pool::{Callbacks, Delivery, OnBegin, OnSettled, SubmitOptions, TaskId, TaskResult};
use crate::sys::clock::Timeout;
use libc::pid_t;
use std::ffi::{c_char, c_int, c_void};
use std::sync::Arc;

/// Names a submitted task within its pool: 64 bits, never 0. The id of a task whose result has been released is known
/// to be stale.
pub type tine_id = u64;

/// The function ran to its end.
pub const TINE_RAN: c_int = 0;
/// The function did not run; that is certain.
pub const TINE_NOT_STARTED: c_int = 1;
/// The function had begun when its process died.
pub const TINE_MAYBE_RAN: c_int = 2;

/// The task may be run twice without harm. So it may be run again after its worker has died, even where it had done
/// all its work by then.
pub const TINE_IDEMPOTENT: u32 = 1 << 16;

/// Options of tine_submit.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct tine_submit_options {
    /// sizeof(tine_submit_options).
    pub size: usize,
    /// Filled in when tine_submit fails; may be NULL.
    pub error: *mut tine_error,
    /// The name of a registered function, where fn is NULL.
    pub name: *const c_char,
    /// How long the function may run, in nanoseconds; 0: the pool's .deadline_ns; TINE_FOREVER: without a limit.
    pub deadline_ns: i64,
    /// How soon the task must begin, in nanoseconds from tine_submit; 0: at any time. A task that has not begun by
    /// then settles with -ETIMEDOUT and TINE_NOT_STARTED.
    pub queue_deadline_ns: i64,
    /// How long tine_submit may wait while the window is full, in nanoseconds; 0: not at all.
    pub timeout_ns: i64,
    /// How often the task may be run again after the process that ran it has died. Without TINE_IDEMPOTENT only 0 is
    /// accepted. A task that had not begun runs in another worker in any case.
    pub retries: u32,
    /// TINE_IDEMPOTENT.
    pub flags: u32,
    /// A word of the caller's, which is passed to the callbacks and copied to the result.
    pub user: *mut c_void,
    /// Called when the task has begun, with the process number of its worker, and once more each time that the task
    /// is run again; may be NULL. Where the task ends first, the call comes before on_settled; where the task goes
    /// on, it comes within some milliseconds.
    pub on_begin: Option<unsafe extern "C" fn(id: tine_id, pid: pid_t, user: *mut c_void)>,
    /// Called once with the result, however the task has ended: done, failed, past its deadline, cancelled, or died;
    /// may be NULL. The result is valid until the callback returns, and then the id is stale. Nobody else gets the
    /// result: tine_next leaves it out, and tine_wait returns -EBUSY.
    ///
    /// on_begin and on_settled run on a thread of tine's, whatever the host does. Only one callback runs at a time.
    /// tine_pool_destroy calls on_settled for each task that it cancels, before it returns.
    ///
    /// With TINE_NO_THREAD, and for what a task submits, both run on a thread of the caller's, in one of these calls:
    /// tine_pool_poll; a call on the pool that waits or looks for results; a wait for a queue, a channel or a process;
    /// tine_pool_shutdown; tine_pool_destroy. Such a call runs the callbacks that were due when it began. It returns
    /// when its timeout is over, however many more callbacks those make.
    ///
    /// A callback may submit and cancel. It may also wait, and no other callback begins on its thread meanwhile. It
    /// must not destroy the pool. A child that it forks must not return from it.
    pub on_settled: Option<unsafe extern "C" fn(result: *const tine_result, user: *mut c_void)>,
    /// An end of a channel for the task, which gets it by tine_task_channel; may be NULL. Where tine_submit returns
    /// 0, the end has been given away: the handle is closed here, and must not be used any more. Otherwise the end
    /// stays the caller's.
    ///
    /// The worker closes the end when the function returns. The other end gets -EPIPE then, and also when the worker
    /// dies, and when the task settles without having begun. A task that is run in another worker takes the end
    /// along. A task with .retries keeps it until the task has settled. Where the worker has no descriptor free for
    /// the end, the task settles with -EMFILE and TINE_NOT_STARTED.
    pub channel: *mut tine_channel,
}

extensible!(tine_submit_options: Options);

/// The outcome of a task.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct tine_result {
    /// sizeof(tine_result).
    pub size: usize,
    /// The task; 0 once the result has been released, and for items of a map.
    pub id: tine_id,
    /// What the function returned, 0 or more for a success; or the code of what went wrong, such as TINE_EDIED or
    /// -ECANCELED.
    pub status: c_int,
    /// TINE_RAN, TINE_NOT_STARTED or TINE_MAYBE_RAN.
    pub delivery: c_int,
    /// The text that the function gave to its failure (tine_fail), or what tine knows of the failure. Never NULL; ""
    /// for a success.
    pub message: *const c_char,
    /// The output; NULL if there is none.
    pub data: *const c_void,
    /// The length of .data in bytes.
    pub length: usize,
    /// The death of the process that ran the task; NULL where no process died, or where the task has been run again
    /// since.
    pub death: *const tine_death,
    /// How many processes have died while they ran the task.
    pub deaths: u32,
    /// The .user of the options of tine_submit, or of the map.
    pub user: *mut c_void,
}

extensible!(tine_result);

pub(crate) fn delivery_number(delivery: Delivery) -> c_int {
    match delivery {
        Delivery::Ran => TINE_RAN,
        Delivery::NotStarted => TINE_NOT_STARTED,
        Delivery::MaybeRan => TINE_MAYBE_RAN,
    }
}

/// A result as C sees it.
pub(crate) fn view_of(result: &TaskResult) -> tine_result {
    tine_result {
        size: size_of::<tine_result>(),
        id: result.id.0,
        status: result.status,
        delivery: delivery_number(result.delivery),
        message: result.message,
        data: result.data.cast(),
        length: result.length,
        // SAFETY: `result.death` is null, or a death that the pool keeps until the result is released. `result` is
        // not released yet.
        death: view(unsafe { result.death.as_ref() }),
        deaths: result.deaths,
        user: std::ptr::with_exposed_provenance_mut(result.user),
    }
}

/// Fills the caller's result.
///
/// # Safety
/// `place` is null, or can be written as far as its `.size` says.
pub(crate) unsafe fn give(result: &TaskResult, place: *mut tine_result) -> crate::Result<()> {
    // SAFETY: `fill` asks of `place` what this function asks.
    unsafe { options::fill(place, &view_of(result)) }.map_err(Into::into)
}

/// The caller's callbacks, which take the caller's word along.
fn callbacks(options: &tine_submit_options) -> Callbacks {
    let user = options.user.expose_provenance();
    Callbacks {
        on_begin: options.on_begin.map(|callback| -> OnBegin {
            // SAFETY: a function of this type was given to be called with `user`, on the threads that the text of
            // `.on_settled` names.
            Arc::new(move |id, pid| unsafe {
                callback(id.0, pid, std::ptr::with_exposed_provenance_mut(user))
            })
        }),
        on_settled: options.on_settled.map(|callback| -> OnSettled {
            Arc::new(move |result| {
                // SAFETY: a function of this type was given to be called with `user`, on the threads that the text of
                // `.on_settled` names. The result that it sees lives until it returns.
                unsafe { callback(&view_of(result), std::ptr::with_exposed_provenance_mut(user)) };
            })
        }),
    }
}

/// Submits one call of a function to a pool.
///
/// The function is given by its address, and need not be registered, where its module (the program or a shared
/// library) is loaded in the workers too. Or fn is NULL, and the option .name names a registered function.
///
/// Parameters: pool. fn: the function, or NULL. input: the task's input; NULL where length is 0. It is copied, unless
/// it lies in the pool's heap: the worker reads it there, and it must stay as it is until the task has settled.
/// length: in bytes. options: NULL for all defaults. out: where the id goes, or NULL.
/// Returns 0; -EAGAIN, -ETIMEDOUT, -EINTR: the window is full; -EAGAIN also: no thread can be started (see
/// TINE_NO_THREAD); -EMSGSIZE: the input is larger than the whole window; TINE_EFUNCTION: fn is not a function of any
/// module; TINE_EMODULE: its module is not loaded in the workers, or is another build there; TINE_ENAME: the workers
/// know no function of that name; TINE_ESHUTDOWN: the pool has been shut down; TINE_EWORKERSTART: no worker can be
/// started any more; -ENOMEM: there is no memory for the task; -EMFILE: no descriptor is free for the .channel;
/// -EFAULT: the input reaches beyond the heap, or with the engine MPI has an address of the heap in it; -EOPNOTSUPP: a
/// .channel is given, and the engine is MPI; -EINVAL, -E2BIG: an argument or an option has no meaning; TINE_EFORKED;
/// TINE_EWORKER.
/// Ownership: the result is the pool's until it is taken. A .channel is given away. Threads: any. Fork: TINE_EFORKED
/// in a child.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_submit(
    pool: *mut tine_pool,
    r#fn: tine_fn,
    input: *const c_void,
    length: usize,
    options: *const tine_submit_options,
    out: *mut tine_id,
) -> c_int {
    let address = r#fn.map_or(std::ptr::null(), |function| function as *const c_void);
    // SAFETY: `pool` is NULL or a pool that has not been destroyed. `input` has `length` bytes, `options` is NULL or
    // as long as its `.size` says, and what it points to is there until this returns. `out` is NULL or can be
    // written. The header asks for all of that.
    unsafe {
        let give = |id: TaskId| {
            if let Some(out) = Out::optional(out) {
                out.set(id.0);
            }
            0
        };
        if options.is_null() {
            return guard_quick(|| submit_plain(pool, address, (input.cast(), length)).map(give));
        }
        options::with_quick(options, |options| {
            submit(pool, address, (input.cast(), length), options).map(give)
        })
    }
}

/// # Safety
/// As for [`submit`].
#[inline(always)]
unsafe fn submit_plain(
    pool: *mut tine_pool,
    address: *const c_void,
    input: (*const u8, usize),
) -> crate::Result<TaskId> {
    // SAFETY: by the contract above `pool` is null or has not been destroyed, and the input has as many bytes as its
    // length says.
    let (pool, input) = unsafe { (taker(pool)?, bytes(input.0, input.1, "input")?) };
    // SAFETY: by the contract above the address is that of a task's function or null.
    pool.submit_plain(unsafe { function(address, std::ptr::null()) }?, input)
}

/// How often something may be run again, as `.retries` and `.flags` say it together.
pub(crate) fn retries(retries: u32, flags: u32) -> crate::Result<u32> {
    if retries != 0 && flags & TINE_IDEMPOTENT == 0 {
        let text = format!("retries is {retries}, but flags lack TINE_IDEMPOTENT");
        return Err(Error::invalid(text));
    }
    Ok(retries)
}

/// # Safety
/// `pool` is null or has not been destroyed, `address` is null or that of a `tine_fn`, the input has as many bytes as its length says,
/// and what the options point to is there until this returns. Their channel is null or an end that is not closed and that nobody
/// else uses.
unsafe fn submit(
    pool: *mut tine_pool,
    address: *const c_void,
    input: (*const u8, usize),
    options: Option<&tine_submit_options>,
) -> crate::Result<TaskId> {
    let Some(options) = options else {
        // SAFETY: by the contract above, which is this function's too.
        return unsafe { submit_plain(pool, address, input) };
    };
    // SAFETY: by the contract above `pool` is null or has not been destroyed, and the input has as many bytes as its
    // length says.
    let (pool, input) = unsafe { (taker(pool)?, bytes(input.0, input.1, "input")?) };
    flags(options.flags, TINE_IDEMPOTENT)?;
    let retries = retries(options.retries, options.flags)?;
    let core = SubmitOptions {
        timeout: Timeout::from_ns(options.timeout_ns),
        deadline_ns: match options.deadline_ns {
            0 => None,
            ns => Some(deadline(ns, "deadline_ns")?.unwrap_or(0)),
        },
        queue_deadline_ns: match duration(options.queue_deadline_ns, "queue_deadline_ns")? {
            0 => None,
            ns => Some(ns),
        },
        retries,
        user: options.user.expose_provenance(),
        callbacks: callbacks(options),
        // SAFETY: by the contract above the option is null, or a channel's end that is not closed.
        channel: unsafe { options.channel.as_ref() }.map(|channel| &channel.0),
    };
    // SAFETY: by the contract above the address is that of a task's function or null, and the name is null, or a string that is there
    // until this returns.
    let id = pool.submit(unsafe { function(address, options.name) }?, input, &core)?;
    // SAFETY: by the contract above the option is null, or a channel's end that is not closed. The text of
    // `.channel` says that it is given away here, so this is the last use of it.
    unsafe { tine_channel_close(options.channel) };
    Ok(id)
}

/// Waits for one task, and takes its result, which tine_next then leaves out.
///
/// Parameters: pool. id: from tine_submit. timeout_ns: how long to wait, in nanoseconds; 0: not at all. out: a
/// tine_result with its .size set. A result that it still holds must be released before, or the memory of that result
/// is lost.
/// Returns 0: the task has settled, whatever its .status; -ETIMEDOUT, -EAGAIN, -EINTR: it has not settled yet;
/// TINE_EID: the id was never given, or its result has been taken or released; -EBUSY: another thread waits for the
/// task, or the task has an .on_settled; -EINVAL: pool or out is NULL, or the .size is less than 16; TINE_EFORKED;
/// TINE_EWORKER.
/// Ownership: what the result points to is valid until tine_result_release. Threads: any. Fork: TINE_EFORKED in a
/// child.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_wait(
    pool: *mut tine_pool,
    id: tine_id,
    timeout_ns: i64,
    out: *mut tine_result,
) -> c_int {
    guard_quick(|| {
        // SAFETY: `pool` is NULL or a pool that has not been destroyed, and `out` is NULL or a struct that can be
        // written as far as its `.size` says, as the header asks.
        unsafe {
            let pool = taker(pool)?;
            options::check(out)?;
            give(&pool.wait(TaskId(id), Timeout::from_ns(timeout_ns))?, out)?;
        }
        Ok(0)
    })
}

/// Waits for the next task to settle, in any order, and takes its result. Tasks for which a thread is in tine_wait,
/// and the items of maps, are left out.
///
/// Parameters: pool. timeout_ns: how long to wait, in nanoseconds; 0: not at all. out: a tine_result with its .size
/// set, as for tine_wait.
/// Returns 0: a task has settled; TINE_EEMPTY: no task is outstanding, so a loop may end; -ETIMEDOUT, -EAGAIN,
/// -EINTR: no task has settled yet; -EINVAL: pool or out is NULL, or the .size is less than 16; TINE_EFORKED;
/// TINE_EWORKER.
/// Ownership: as for tine_wait. Threads: any. Fork: TINE_EFORKED in a child.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_next(pool: *mut tine_pool, timeout_ns: i64, out: *mut tine_result) -> c_int {
    guard_quick(|| {
        // SAFETY: `pool` is NULL or a pool that has not been destroyed, and `out` is NULL or a struct that can be
        // written as far as its `.size` says, as the header asks.
        unsafe {
            let pool = taker(pool)?;
            options::check(out)?;
            give(&pool.next(Timeout::from_ns(timeout_ns))?, out)?;
        }
        Ok(0)
    })
}

/// Cancels a task. The task settles with -ECANCELED, and its result is taken as any other.
///
/// A task that has not begun settles at once, with TINE_NOT_STARTED. A running task is told (tine_cancelled), and has
/// the pool's .grace_ns to return: TINE_RAN. Then its worker is ended and replaced: TINE_MAYBE_RAN. A task that waits
/// to be run again (.retries) settles at once, with TINE_MAYBE_RAN. A task that returns by itself in this very moment
/// keeps its result.
///
/// Parameters: pool. id: from tine_submit.
/// Returns 0; -EALREADY: the task has settled; TINE_EID: the id was never given, or its result has been taken or
/// released; -EINVAL: pool is NULL; TINE_EFORKED; TINE_EWORKER.
/// Threads: any. Fork: TINE_EFORKED in a child.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_cancel(pool: *mut tine_pool, id: tine_id) -> c_int {
    guard(|| {
        // SAFETY: `pool` is NULL, or a pool that tine gave and that has not been destroyed, as the header asks.
        unsafe { taker(pool) }?.cancel(TaskId(id))?;
        Ok(0)
    })
}

/// Cancels every submitted task that has not settled, as tine_cancel does. Maps, loops and streams go on.
///
/// Parameters: pool.
/// Returns how many tasks it has cancelled; -EINVAL: pool is NULL; TINE_EFORKED; TINE_EWORKER.
/// Threads: any. Fork: TINE_EFORKED in a child.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_cancel_all(pool: *mut tine_pool) -> c_int {
    guard(|| {
        // SAFETY: `pool` is NULL, or a pool that tine gave and that has not been destroyed, as the header asks.
        let cancelled = unsafe { taker(pool) }?.cancel_all()?;
        Ok(c_int::try_from(cancelled).unwrap_or(c_int::MAX))
    })
}

/// Cancels every submitted task that has not begun, as tine_cancel does. Running tasks go on, and so do maps, loops
/// and streams.
///
/// Parameters: pool.
/// Returns how many tasks it has cancelled; -EINVAL: pool is NULL; TINE_EFORKED; TINE_EWORKER.
/// Threads: any. Fork: TINE_EFORKED in a child.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_cancel_queued(pool: *mut tine_pool) -> c_int {
    guard(|| {
        // SAFETY: `pool` is NULL, or a pool that tine gave and that has not been destroyed, as the header asks.
        let cancelled = unsafe { taker(pool) }?.cancel_queued()?;
        Ok(c_int::try_from(cancelled).unwrap_or(c_int::MAX))
    })
}

/// Waits for the first of several tasks to settle, and takes its result. The other tasks stay as they are.
///
/// Parameters: pool. ids: an array of tasks. Of several tasks that have settled the one nearest to the array's
/// beginning is taken; an id that is there twice counts once. count: how many ids. timeout_ns: how long to wait, in
/// nanoseconds; 0: not at all. out: a tine_result with its .size set; its .id says which task it is.
/// Returns 0: a task has settled; TINE_EEMPTY: count is 0; -ENOMEM: there is no memory for so many tasks; -ETIMEDOUT,
/// -EAGAIN, -EINTR: no task has settled yet; TINE_EID, -EBUSY: as for tine_wait, for any one of the ids; -EINVAL:
/// pool, ids or out is NULL, or the .size is less than 16; TINE_EFORKED; TINE_EWORKER.
/// Ownership: as for tine_wait. Threads: any. Fork: TINE_EFORKED in a child.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_wait_any(
    pool: *mut tine_pool,
    ids: *const tine_id,
    count: usize,
    timeout_ns: i64,
    out: *mut tine_result,
) -> c_int {
    guard_quick(|| {
        // SAFETY: `pool` is NULL or a pool that has not been destroyed, `ids` has `count` elements, and `out` is NULL
        // or a struct that can be written as far as its `.size` says, as the header asks.
        unsafe {
            let pool = taker(pool)?;
            options::check(out)?;
            give(&pool.wait_any(task_ids(ids, count)?, Timeout::from_ns(timeout_ns))?, out)?;
        }
        Ok(0)
    })
}

/// Waits until several tasks have settled. Their results stay to be taken.
///
/// Parameters: pool. ids: an array of tasks; NULL where count is 0. count: how many ids; 0: all tasks that have been
/// submitted. timeout_ns: how long to wait, in nanoseconds; 0: not at all.
/// Returns 0: all of them have settled, whatever their .status; -ETIMEDOUT, -EAGAIN, -EINTR: not all of them have
/// settled yet; TINE_EID: one of the ids was never given, or its result has been taken or released; -EINVAL: an
/// argument is NULL; TINE_EFORKED; TINE_EWORKER.
/// Threads: any. Fork: TINE_EFORKED in a child.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_wait_all(
    pool: *mut tine_pool,
    ids: *const tine_id,
    count: usize,
    timeout_ns: i64,
) -> c_int {
    guard_quick(|| {
        // SAFETY: `pool` is NULL or a pool that has not been destroyed, and `ids` has `count` elements, as the header
        // asks.
        unsafe { taker(pool)?.wait_all(task_ids(ids, count)?, Timeout::from_ns(timeout_ns)) }?;
        Ok(0)
    })
}

/// # Safety
/// `ids` is null, or has `count` elements for the whole of `'a`.
unsafe fn task_ids<'a>(ids: *const tine_id, count: usize) -> crate::Result<&'a [TaskId]> {
    // SAFETY: by the contract above `ids` is null or has `count` elements. A `TaskId` is a transparent struct of one
    // such number.
    unsafe { slice(ids.cast::<TaskId>(), count, "ids") }
}

/// Frees what a result points to, and sets every field but .size to zero. Releasing a released result does nothing.
///
/// Parameters: pool: the pool that gave the result. result: may be NULL.
/// Threads: any, one at a time for one result. Fork: in a child it only sets the fields to zero.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_result_release(pool: *mut tine_pool, result: *mut tine_result) {
    guard_value((), || {
        // SAFETY: `pool` is NULL or a pool that has not been destroyed, and `result` is NULL or a struct that can be
        // read and written as far as its `.size` says, as the header asks. Who releases a result does not read it any more.
        unsafe {
            if options::check(result).is_err() {
                return;
            }
            let Ok(Some(given)) = options::read(result) else { return };
            if let Ok(pool) = taker(pool) {
                let _ = pool.release(TaskId(given.id));
            }
            let _ = options::zero(result);
        }
    });
}
