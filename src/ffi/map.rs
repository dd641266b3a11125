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

/// The function of a map: once per item. What it returns is the item's status, as for tine_fn.
pub type tine_item_fn =
    Option<unsafe extern "C-unwind" fn(task: *mut tine_task, r#in: *const c_void, out: *mut c_void) -> c_int>;

/// The function of a loop: once per chunk of the range, from begin up to but not including end.
pub type tine_range_fn =
    Option<unsafe extern "C-unwind" fn(task: *mut tine_task, begin: usize, end: usize) -> c_int>;

/// After the first item that fails no other begins: those that had not fail with -ECANCELED and TINE_NOT_STARTED.
pub const TINE_STOP_ON_FAILURE: u32 = 1 << 17;

/// Chunks of .chunk items; where that is 0, of as many as take about a millisecond, fewer towards the end.
pub const TINE_SCHEDULE_MEASURED: c_int = 0;
/// One chunk for each worker.
pub const TINE_SCHEDULE_STATIC: c_int = 1;
/// Chunks of half of a worker's share of what is left, and never fewer items than .chunk but for the last.
pub const TINE_SCHEDULE_GUIDED: c_int = 2;

/// What a map or a loop can be told.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct tine_map_options {
    /// sizeof(tine_map_options).
    pub size: usize,
    /// Filled in when the call fails, though not for TINE_EITEMS; may be NULL.
    pub error: *mut tine_error,
    /// The name of a registered function, where fn is NULL. It is a tine_fn, called once per item: tine_input is the
    /// item, tine_output its place in out.
    pub name: *const c_char,
    /// Bytes that every call sees through tine_context; copied, unless they lie in the pool's heap. NULL: none.
    pub context: *const c_void,
    /// Their length.
    pub context_length: usize,
    /// How many items go to a worker at a time; 0: as many as take about a millisecond, fewer towards the end. It
    /// decides the speed and nothing else: results, errors and progress are each item's own. The last chunks are taken
    /// back from slow workers item by item when others have nothing left to do.
    pub chunk: usize,
    /// An int for each item, which becomes its status; may be NULL.
    pub status: *mut c_int,
    /// How long the call of each item may take, in nanoseconds; 0: the pool's .deadline_ns; TINE_FOREVER: any time. An
    /// item that takes longer fails with -ETIMEDOUT, and no other with it. In a loop, of each chunk.
    pub item_deadline_ns: i64,
    /// How often an item may be run again after its process has died with it. Without TINE_IDEMPOTENT any number but 0 is
    /// -EINVAL.
    pub retries: u32,
    /// TINE_IDEMPOTENT, TINE_STOP_ON_FAILURE.
    pub flags: u32,
    /// Called for each item that has failed, on the thread that called the map; may be NULL. In a loop, for each chunk
    /// that has failed, with where it begins. The result is valid until the callback returns.
    pub on_failure: Option<unsafe extern "C" fn(result: *const tine_result, item: usize, user: *mut c_void)>,
    /// Called now and then, and at the end, with how many items have been dealt with, on the thread that called the
    /// map; may be NULL.
    pub progress: Option<unsafe extern "C" fn(done: usize, total: usize, user: *mut c_void)>,
    /// Given to the callbacks.
    pub user: *mut c_void,
    /// TINE_SCHEDULE_MEASURED, TINE_SCHEDULE_STATIC or TINE_SCHEDULE_GUIDED: it decides as little as .chunk does.
    pub schedule: c_int,
    /// How many bytes of inputs and outputs a chunk may have at most, though at least one item; 0: any number. In a
    /// loop any number but 0 is -EINVAL.
    pub chunk_bytes: usize,
}

extensible!(tine_map_options: Options);

/// Calls a function for each item of an array, on all workers, and waits until all items have been dealt with.
///
/// Arrays in the pool's heap are used where they are; others are copied chunk by chunk, and outputs are copied back
/// for items that succeed. A worker that dies costs the one item that it was running.
///
/// Parameters: pool. fn, or NULL and the option .name. in, in_stride: the first item, and the bytes from one to the
/// next. out, out_stride: the same for what becomes of them; NULL and 0 for nothing. count: how many; 0 returns at
/// once. options: NULL for all defaults.
/// Returns 0: every item succeeded; TINE_EITEMS: some did not, .status and .on_failure say which; -EINVAL: a NULL
/// array, a stride of 0, bad options; -EOVERFLOW: more bytes than there can be; -EFAULT: an array reaches beyond the
/// heap; -ENOMEM; -EINTR, with the items that had begun finished and others -ECANCELED; TINE_EFUNCTION,
/// TINE_EMODULE, TINE_ENAME; TINE_ESHUTDOWN, TINE_EWORKERSTART, TINE_EFORKED, TINE_EWORKER.
/// Threads: any, several maps at a time too. The callbacks may call tine, but not destroy the pool, nor wait for its
/// shutdown, which waits for the map.
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
    // The header asks for all of that.
    unsafe {
        options::with(options, |options| {
            let name = options.map_or(std::ptr::null(), |options| options.name);
            let (input, output) = ((r#in.cast(), in_stride), (out.cast(), out_stride));
            run(pool, count, options, MapCall::Items { function: function(address, name)?, input, output })
        })
    }
}

/// Calls a function for chunks of a range, on all workers, until all of it has been dealt with.
///
/// Parameters: pool. fn. begin, end: the range, without end. options: as for tine_map, without .name; .chunk is the
/// length of a chunk, and a chunk that fails fails all its items.
/// Returns as tine_map; -EINVAL where end is less than begin.
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
    // and what it points to is there until this returns, as the header asks.
    unsafe {
        options::with(options, |options| {
            let Some(count) = end.checked_sub(begin) else {
                let text = format!("the range ends at {end}, before it begins at {begin}");
                return Err(Error::invalid(text));
            };
            if options.is_some_and(|options| !options.name.is_null()) {
                return Err(Error::invalid("a loop's function cannot be given by .name"));
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
/// `pool` is null or has not been destroyed, and the arrays of the call have `count` elements at their strides. What the options
/// point to is there until this returns.
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
            other => return Err(Error::invalid(format!("schedule is {other}, which is none"))),
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
    Ok(if pool.map(map)?.failed == 0 { 0 } else { Code::ITEMS.0 })
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
        deaths: u32::from(failure.death.is_some()),
        user,
    };
    // SAFETY: a function of this type was given to be called with `user`, on the thread that called the map: the text
    // of `.on_failure` says so. `result` and what it points to live until it returns.
    unsafe { callback(&result, failure.item, user) };
}
