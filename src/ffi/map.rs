//! Maps and loops

use crate::error::{Code, Error, Result};
use crate::ffi::death::view;
use crate::ffi::errors::tine_error;
use crate::ffi::guard::{bytes, deadline, flags};
use crate::ffi::options::{self, extensible};
use crate::ffi::pool::{function, taker, tine_pool};
use crate::ffi::submit::{TINE_IDEMPOTENT, delivery_number, retries, tine_result};
use crate::ffi::task::tine_task;
use crate::pool::{Failure, Map, MapCall, Schedule};
use std::ffi::{c_char, c_int, c_void};

/// The function of a map, called once per item. Its return value is the item's status, as for tine_fn.
pub type tine_item_fn =
    Option<unsafe extern "C-unwind" fn(task: *mut tine_task, r#in: *const c_void, out: *mut c_void) -> c_int>;

/// The function of a loop, called once per chunk of the range, from begin up to but not including end. Its return
/// value is the chunk's status, as for tine_fn.
pub type tine_range_fn =
    Option<unsafe extern "C-unwind" fn(task: *mut tine_task, begin: usize, end: usize) -> c_int>;

/// No item begins any more once an item has failed. Items that have not begun then fail with -ECANCELED and
/// TINE_NOT_STARTED.
pub const TINE_STOP_ON_FAILURE: u32 = 1 << 17;

/// Chunks of .chunk items. Where .chunk is 0, chunks of as many items as take about a millisecond, and smaller ones
/// towards the end.
pub const TINE_SCHEDULE_MEASURED: c_int = 0;
/// One chunk for each worker.
pub const TINE_SCHEDULE_STATIC: c_int = 1;
/// Chunks of half of a worker's share of the items that are left. All but the last have at least .chunk items.
pub const TINE_SCHEDULE_GUIDED: c_int = 2;

/// Options of tine_map and tine_for.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct tine_map_options {
    /// sizeof(tine_map_options).
    pub size: usize,
    /// Filled in when the call fails, but not for TINE_EITEMS; may be NULL.
    pub error: *mut tine_error,
    /// The name of a registered function, where fn is NULL. The function is a tine_fn, called once per item:
    /// tine_input is the item, and tine_output is the item's place in out.
    pub name: *const c_char,
    /// Bytes that every call sees through tine_context; NULL: none. They are copied, unless they lie in the pool's
    /// heap.
    pub context: *const c_void,
    /// The length of .context in bytes.
    pub context_length: usize,
    /// How many items go to a worker at a time; 0: as many as take about a millisecond, and fewer towards the end. It
    /// decides the speed alone: results, errors and progress are those of single items. When other workers have
    /// nothing left to do, the items of the last chunks are taken back from slow workers.
    pub chunk: usize,
    /// An array with an int for each item, which gets the item's status; may be NULL.
    pub status: *mut c_int,
    /// How long the call of each item may take, in nanoseconds; 0: the pool's .deadline_ns; TINE_FOREVER: without a
    /// limit. An item that takes longer fails with -ETIMEDOUT, and no other item fails with it. In a loop it counts
    /// for each chunk.
    pub item_deadline_ns: i64,
    /// How often an item may be run again after the process that ran it has died. Without TINE_IDEMPOTENT only 0 is
    /// accepted.
    pub retries: u32,
    /// TINE_IDEMPOTENT, TINE_STOP_ON_FAILURE.
    pub flags: u32,
    /// Called for each item that has failed, on the thread that called the map; may be NULL. In a loop it is called
    /// for each chunk that has failed, and item is where the chunk begins. The result is valid until the callback
    /// returns.
    pub on_failure: Option<unsafe extern "C" fn(result: *const tine_result, item: usize, user: *mut c_void)>,
    /// Called now and then, and at the end, on the thread that called the map, with the number of items that have
    /// settled; may be NULL.
    pub progress: Option<unsafe extern "C" fn(done: usize, total: usize, user: *mut c_void)>,
    /// A word of the caller's, which is passed to the callbacks.
    pub user: *mut c_void,
    /// TINE_SCHEDULE_MEASURED, TINE_SCHEDULE_STATIC or TINE_SCHEDULE_GUIDED. As .chunk does, it decides the speed
    /// alone.
    pub schedule: c_int,
    /// The most bytes of inputs and outputs in a chunk, unless a single item has more; 0: any number. In a loop only
    /// 0 is accepted.
    pub chunk_bytes: usize,
}

extensible!(tine_map_options: Options);

/// Calls a function for each item of an array, on all workers, and waits until all items have settled.
///
/// Arrays in the pool's heap are used where they are. Others are copied chunk by chunk, and the outputs of items that
/// succeed are copied back. A worker that dies costs the one item that it was running.
///
/// Parameters: pool. fn: the function, or NULL where the option .name is given. in: the first input. in_stride: the
/// bytes from one input to the next. out: the first output; NULL for no outputs. out_stride: the bytes from one
/// output to the next; 0 for no outputs. count: how many items; with 0 the call returns at once. options: NULL for
/// all defaults.
/// Returns 0: every item has succeeded; TINE_EITEMS: items have failed, and .status and .on_failure say which;
/// -EINVAL: an array is NULL, a stride is 0, or an option has no meaning; -E2BIG: the options are longer than this
/// version knows; -EOVERFLOW: there are more bytes than an address space has; -EFAULT: an array reaches beyond the
/// heap; -ENOMEM: there is no memory for the chunks; -EINTR: a signal came, with TINE_INTERRUPTIBLE. Then the items
/// that had begun have finished, and the others have failed with -ECANCELED. Also TINE_EFUNCTION, TINE_EMODULE,
/// TINE_ENAME, TINE_ESHUTDOWN, TINE_EWORKERSTART: as for tine_submit; TINE_EFORKED; TINE_EWORKER.
/// Threads: any, and several maps may run at a time. The callbacks may call tine. They must neither destroy the pool
/// nor wait for its shutdown, which waits for the map. Fork: TINE_EFORKED in a child.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_map(
    pool: *mut tine_pool,
    r#fn: tine_item_fn,
    r#in: *const c_void,
    in_stride: usize,
    out: *mut c_void,
    out_stride: usize,
    count: usize,
    options: *const tine_map_options,
) -> c_int {
    let address = r#fn.map_or(std::ptr::null(), |function| function as *const c_void);
    // SAFETY: `pool` is NULL or a pool that has not been destroyed. The arrays have `count` elements at their
    // strides, and `options` is NULL or as long as its `.size` says. What it points to is there until this returns.
    // The header asks for all of that. `fn` has the type of an item's function.
    unsafe {
        options::with(options, |options| {
            let name = options.map_or(std::ptr::null(), |options| options.name);
            let (input, output) = ((r#in.cast(), in_stride), (out.cast(), out_stride));
            run(pool, count, options, MapCall::Items { function: function(address, name)?, input, output })
        })
    }
}

/// Calls a function for chunks of a range, on all workers, and waits until the whole range has settled.
///
/// Parameters: pool. fn: the function. begin: where the range begins. end: the first number behind the range.
/// options: as for tine_map, without .name; .chunk is the length of a chunk, and a chunk that fails fails with all
/// its items. NULL for all defaults.
/// Returns the codes of tine_map; -EINVAL also: end is less than begin.
/// Threads: any, as for tine_map. Fork: TINE_EFORKED in a child.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_for(
    pool: *mut tine_pool,
    r#fn: tine_range_fn,
    begin: usize,
    end: usize,
    options: *const tine_map_options,
) -> c_int {
    let address = r#fn.map_or(std::ptr::null(), |function| function as *const c_void);
    // SAFETY: `pool` is NULL or a pool that has not been destroyed, `options` is NULL or as long as its `.size` says,
    // and what it points to is there until this returns, as the header asks. `fn` has the type of a range's function.
    unsafe {
        options::with(options, |options| {
            let Some(count) = end.checked_sub(begin) else {
                let text = format!("the range ends at {end}, before it begins at {begin}");
                return Err(Error::invalid(text));
            };
            if options.is_some_and(|options| !options.name.is_null()) {
                return Err(Error::invalid(".name is given, but a loop's function has to be a pointer"));
            }
            if let Some(bytes) = options.map(|options| options.chunk_bytes).filter(|bytes| *bytes != 0) {
                let text = format!("chunk_bytes is {bytes}, but the items of a loop have no bytes");
                return Err(Error::invalid(text));
            }
            let function = function(address, std::ptr::null())?;
            run(pool, count, options, MapCall::Range { function, begin })
        })
    }
}

/// # Safety
/// `pool` is null or has not been destroyed, and the arrays of the call have `count` elements at their strides. Its function has the type
/// that belongs to the call. What the options point to is there until this returns.
unsafe fn run(
    pool: *mut tine_pool,
    count: usize,
    options: Option<&tine_map_options>,
    call: MapCall<'_>,
) -> Result<c_int> {
    const NONE: tine_map_options = {
        // SAFETY: its fields are integers, pointers and optional functions, and for all of these zero is a value.
        unsafe { std::mem::zeroed() }
    };
    // SAFETY: by the contract above `pool` is null or has not been destroyed.
    let pool = unsafe { taker(pool) }?;
    let options = options.unwrap_or(&NONE);
    flags(options.flags, TINE_IDEMPOTENT | TINE_STOP_ON_FAILURE)?;
    let user = options.user;
    let mut failed =
        options.on_failure.map(|callback| move |failure: &Failure| tell(failure, callback, user));
    // SAFETY: a function of this type was given to be called with `user`, on the thread that called the map: the text
    // of `.progress` says so. The map ends before this call returns.
    let mut progress = options.progress.map(|callback| move |done| unsafe { callback(done, count, user) });
    let map = Map {
        call,
        count,
        // SAFETY: by the contract above the context has as many bytes as its length says, until this returns.
        context: unsafe { bytes(options.context.cast(), options.context_length, "context") }?,
        chunk: options.chunk,
        schedule: match options.schedule {
            TINE_SCHEDULE_MEASURED => Schedule::Measured,
            TINE_SCHEDULE_STATIC => Schedule::Static,
            TINE_SCHEDULE_GUIDED => Schedule::Guided,
            other => return Err(Error::invalid(format!("schedule is {other}, which is not a schedule"))),
        },
        chunk_bytes: options.chunk_bytes,
        stop_on_failure: options.flags & TINE_STOP_ON_FAILURE != 0,
        status: options.status,
        item_deadline_ns: match options.item_deadline_ns {
            0 => 0,
            ns => deadline(ns, "item_deadline_ns")?.unwrap_or(u64::MAX),
        },
        retries: retries(options.retries, options.flags)?,
        on_failure: failed.as_mut().map(|callback| callback as &mut dyn FnMut(&Failure)),
        progress: progress.as_mut().map(|callback| callback as &mut dyn FnMut(usize)),
    };
    // SAFETY: by the contract above the function is of the call's type, and the arrays have an element for each item until this returns.
    Ok(if unsafe { pool.map(map) }?.failed == 0 { 0 } else { Code::ITEMS.0 })
}

type OnFailure = unsafe extern "C" fn(result: *const tine_result, item: usize, user: *mut c_void);

fn tell(failure: &Failure, callback: OnFailure, user: *mut c_void) {
    let result = tine_result {
        size: size_of::<tine_result>(),
        id: 0,
        status: failure.status,
        delivery: delivery_number(failure.delivery),
        message: failure.message.as_deref().unwrap_or_else(|| Code(failure.status).text()).as_ptr(),
        data: std::ptr::null(),
        length: 0,
        death: view(failure.death.as_deref()),
        deaths: failure.deaths,
        user,
    };
    // SAFETY: a function of this type was given to be called with `user`, on the thread that called the map: the text
    // of `.on_failure` says so. `result` and what it points to live until it returns.
    unsafe { callback(&result, failure.item, user) };
}
