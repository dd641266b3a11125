//! Streams of items

use crate::error::{Code, Error, Result};
use crate::ffi::errors::tine_error;
use crate::ffi::guard::{Out, bytes, deadline, flags, guard, guard_end};
use crate::ffi::map::TINE_STOP_ON_FAILURE;
use crate::ffi::options::{self, extensible};
use crate::ffi::pool::{function, taker, tine_pool};
use crate::ffi::start::tine_fn;
use crate::ffi::submit::{TINE_IDEMPOTENT, give, retries, tine_result};
use crate::pool::{Pull, Pulled, Stream, StreamOptions};
use crate::sys::clock::Timeout;
use std::ffi::{c_char, c_int, c_void};

/// Items go in one after the other, results come out in the same order or as they finish, and between the two there are
/// never more than a window allows: for input that does not fit into memory, or that has no end.
///
/// Items are put (tine_stream_put) or drawn as there is room (.pull). Each is one call of a tine_fn, with tine_input and
/// tine_output, and has one result, whatever becomes of it, its worker or the supervisor. tine_next, tine_wait and the like
/// know nothing of a stream's items; while one has a result to give, tine_pool_fd is readable.
///
/// Calls may be made from any thread, several at a time: one that puts and one that takes, say. A thread that does both
/// must not wait to put while the window is full of results that it has not taken. A child of fork() gets TINE_EFORKED.
pub struct tine_stream {
    core: Stream,
}

/// Results come as they finish, not in the order of the items.
pub const TINE_UNORDERED: u32 = 1 << 18;

/// What a stream can be told.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct tine_stream_options {
    /// sizeof(tine_stream_options).
    pub size: usize,
    /// Filled in when tine_stream_create fails; may be NULL.
    pub error: *mut tine_error,
    /// The name of a registered function, where fn is NULL.
    pub name: *const c_char,
    /// How many items may be in and their results not taken; 0: 16 for each worker.
    pub window_tasks: usize,
    /// How many bytes the inputs of these may have together; 0: as many as the pool's .window_bytes.
    pub window_bytes: usize,
    /// How long the call for each item may take, in nanoseconds; 0: the pool's .deadline_ns; TINE_FOREVER: any time.
    pub item_deadline_ns: i64,
    /// How often an item may be run again after its process has died with it. Without TINE_IDEMPOTENT any number but 0 is
    /// -EINVAL.
    pub retries: u32,
    /// TINE_IDEMPOTENT, TINE_UNORDERED, and TINE_STOP_ON_FAILURE: after the first item that fails no other begins. Those that
    /// had not settle with -ECANCELED, further ones are refused with it, and the results of all are there to be taken.
    pub flags: u32,
    /// Draws an item: called by tine_stream_next, on its thread, while there is room in the window; NULL: items are put.
    /// It gives 1 and says where the item is, which stays there until the next call, and what is to be carried to the
    /// result's .user; 0 at the end; or a negative code, which ends the input as well and is what tine_stream_next gives
    /// after the last result. An item longer than .window_bytes is drawn, and its result is -EMSGSIZE.
    pub pull: Option<
        unsafe extern "C" fn(
            user: *mut c_void,
            input: *mut *const c_void,
            length: *mut usize,
            item: *mut *mut c_void,
        ) -> c_int,
    >,
    /// Given to .pull.
    pub user: *mut c_void,
}

extensible!(tine_stream_options: Options);

const FLAGS: u32 = TINE_IDEMPOTENT | TINE_UNORDERED | TINE_STOP_ON_FAILURE;

impl tine_stream_options {
    fn read(&self) -> Result<(StreamOptions, Option<Pull>)> {
        flags(self.flags, FLAGS)?;
        let options = StreamOptions {
            window_tasks: self.window_tasks,
            window_bytes: self.window_bytes,
            deadline_ns: match self.item_deadline_ns {
                0 => None,
                ns => Some(deadline(ns, "item_deadline_ns")?.unwrap_or(0)),
            },
            retries: retries(self.retries, self.flags)?,
            unordered: self.flags & TINE_UNORDERED != 0,
            stop_on_failure: self.flags & TINE_STOP_ON_FAILURE != 0,
        };
        let user = self.user.expose_provenance();
        let pull = self.pull.map(|callback| -> Pull {
            Box::new(move || {
                let (mut input, mut length, mut item) = (std::ptr::null(), 0, std::ptr::null_mut());
                let user = std::ptr::with_exposed_provenance_mut(user);
                // SAFETY: a function of this type was given to be called with `user`: the text of `.pull` says so.
                // The places are of this frame, which outlives the call.
                match unsafe { callback(user, &mut input, &mut length, &mut item) } {
                    0 => Ok(None),
                    code @ ..0 => Err(Error::new(Code(code), "the stream's .pull has failed")),
                    _ => {
                        // SAFETY: `.pull` has said where the item is and how long, and its text asks that the item
                        // stays there until the next call. There is no next call before this item has been copied.
                        let input = unsafe { bytes(input.cast::<u8>(), length, "the item") }?;
                        Ok(Some(Pulled {
                            input: (input.as_ptr(), input.len()),
                            user: item.expose_provenance(),
                        }))
                    }
                }
            })
        });
        Ok((options, pull))
    }
}

/// Begins a stream.
///
/// Parameters: pool: also what tine_task_pool gives. fn: called for each item, or NULL and the option .name. options: NULL for
/// all defaults. out: where the stream goes.
/// Returns 0; TINE_EFUNCTION, TINE_EMODULE, TINE_ENAME, TINE_ESHUTDOWN, TINE_EWORKERSTART: as tine_submit; -EINVAL,
/// -E2BIG: bad options; TINE_EFORKED.
/// Ownership: tine_stream_destroy ends it, before the pool is destroyed. Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_stream_create(
    pool: *mut tine_pool,
    r#fn: tine_fn,
    options: *const tine_stream_options,
    out: *mut *mut tine_stream,
) -> c_int {
    let address = r#fn.map_or(std::ptr::null(), |function| function as *const c_void);
    // SAFETY: `pool` is NULL or a pool that has not been destroyed, `options` is NULL or as long as its `.size` says,
    // what it points to is there until this returns, and `out` is NULL or can be written, as the header asks.
    unsafe { options::with(options, |options| create(pool, address, options, out).map(|()| 0)) }
}

/// # Safety
/// `pool` is null or has not been destroyed, what the options point to is there until this returns, and `out` is null or can be
/// written.
unsafe fn create(
    pool: *mut tine_pool,
    address: *const c_void,
    options: Option<&tine_stream_options>,
    out: *mut *mut tine_stream,
) -> Result<()> {
    // SAFETY: by the contract above `pool` is null or has not been destroyed, and `out` is null or can be written.
    let (pool, out) = unsafe { (taker(pool)?, Out::required(out, "out")?) };
    let name = options.map_or(std::ptr::null(), |options| options.name);
    let (core, pull) =
        options.map_or_else(|| Ok((StreamOptions::default(), None)), tine_stream_options::read)?;
    // SAFETY: by the contract above the name is null, or a string that is there until this returns.
    let core = pool.stream(unsafe { function(address, name) }?, pull, core)?;
    out.set(Box::into_raw(Box::new(tine_stream { core })));
    Ok(())
}

/// # Safety
/// `pointer` is null, or a stream that has not been destroyed.
unsafe fn stream<'a>(pointer: *const tine_stream) -> Result<&'a Stream> {
    // SAFETY: by the contract above `pointer` is null or a stream that stays until the call returns. It is only read.
    let stream = unsafe { pointer.as_ref() }.ok_or_else(|| Error::invalid("stream is NULL"))?;
    Ok(&stream.core)
}

/// Puts an item in.
///
/// Parameters: stream. input, length: copied, unless it lies in the pool's heap, as with tine_submit; NULL and 0 for
/// none. user: carried to the result. timeout_ns: how long to wait while the window is full.
/// Returns 0: the item has a result to come; -EAGAIN, -ETIMEDOUT, -EINTR: the window is full; -EAGAIN also: no thread can
/// be started; -EMSGSIZE: longer than .window_bytes; -EPIPE: after tine_stream_end; -ECANCELED: an item has failed, with
/// TINE_STOP_ON_FAILURE; -EINVAL: the stream has .pull; -EFAULT, -ENOMEM, TINE_ESHUTDOWN, TINE_EWORKERSTART: as
/// tine_submit; TINE_EFORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_stream_put(
    stream: *mut tine_stream,
    input: *const c_void,
    length: usize,
    user: *mut c_void,
    timeout_ns: i64,
) -> c_int {
    guard(|| {
        // SAFETY: `stream` is NULL, or a stream that has not been destroyed, and `input` has `length` bytes, as the
        // header asks.
        let (core, input) = unsafe { (self::stream(stream)?, bytes(input.cast(), length, "input")?) };
        core.put(input, user.expose_provenance(), Timeout::from_ns(timeout_ns))?;
        Ok(0)
    })
}

/// Says that no more items will be put; again is harmless.
///
/// Returns 0; -EINVAL: stream is NULL; TINE_EFORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_stream_end(stream: *mut tine_stream) -> c_int {
    guard(|| {
        // SAFETY: `stream` is NULL, or a stream that has not been destroyed, as the header asks.
        unsafe { self::stream(stream) }?.end()?;
        Ok(0)
    })
}

/// Waits for the next result, and takes it: that of the oldest item, or with TINE_UNORDERED of the first to settle.
///
/// Parameters: stream. timeout_ns. out: a tine_result, with its .size set; .user is the item's.
/// Returns 0: an item has settled, whatever its .status; TINE_EEMPTY: the input has ended and all results are taken;
/// -ETIMEDOUT, -EAGAIN, -EINTR: not yet; what .pull has given, once; TINE_ESHUTDOWN, TINE_EWORKERSTART: nothing more can
/// come; -ENOMEM: the item that was drawn does not fit into the heap, and is kept; -EINVAL; TINE_EFORKED.
/// Ownership: what the result points to is valid until tine_result_release, with the stream's pool.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_stream_next(
    stream: *mut tine_stream,
    timeout_ns: i64,
    out: *mut tine_result,
) -> c_int {
    guard(|| {
        // SAFETY: `stream` is NULL, or a stream that has not been destroyed. `out` is NULL or a struct that can be
        // written as far as its `.size` says. The header asks for both.
        unsafe {
            let core = self::stream(stream)?;
            options::check(out)?;
            give(&core.next(Timeout::from_ns(timeout_ns))?, out)?;
        }
        Ok(0)
    })
}

/// Ends a stream. Items that have not begun never do, those that run are cancelled, and results that have not been taken are
/// gone; those that have are as they were.
///
/// Parameters: stream: may be NULL. No other thread may be in a call on it.
/// Fork: in a child it forgets the stream, which goes on in the parent.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_stream_destroy(stream: *mut tine_stream) {
    guard_end(|| {
        if !stream.is_null() {
            // SAFETY: a stream comes from `Box::into_raw` in `create` alone. As the text above asks, no other thread
            // is in a call on it, and this call is the last.
            drop(unsafe { Box::from_raw(stream) });
        }
    });
}
