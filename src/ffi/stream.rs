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

/// Items go in one after the other, and results come out, in the order of the items or in the order in which they
/// settle. A window limits how many are in between. So a stream is for input that does not fit into memory, or that
/// has no end.
///
/// Items are put (tine_stream_put), or drawn as there is room (.pull). Each item is one call of a tine_fn, with
/// tine_input and tine_output. Each item has one result, whatever happens to the item, its worker or the supervisor.
/// tine_next, tine_wait and the like leave a stream's items out. While a stream has a result to take, tine_pool_fd is
/// readable.
///
/// Several threads may call at a time: one that puts and one that takes, for example. A thread that does both must
/// not wait to put while the window is full of results that it has not taken.
pub struct tine_stream {
    core: Stream,
}

/// Results come in the order in which they settle, and not in the order of the items.
pub const TINE_UNORDERED: u32 = 1 << 18;

/// Options of tine_stream_create.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct tine_stream_options {
    /// sizeof(tine_stream_options).
    pub size: usize,
    /// Filled in when tine_stream_create fails; may be NULL.
    pub error: *mut tine_error,
    /// The name of a registered function, where fn is NULL.
    pub name: *const c_char,
    /// How many items may have been put whose results have not been taken; 0: 16 for each worker.
    pub window_tasks: usize,
    /// How many bytes the inputs of these items may have together; 0: as many as the pool's .window_bytes.
    pub window_bytes: usize,
    /// How long the call for each item may take, in nanoseconds; 0: the pool's .deadline_ns; TINE_FOREVER: without a
    /// limit.
    pub item_deadline_ns: i64,
    /// How often an item may be run again after the process that ran it has died. Without TINE_IDEMPOTENT only 0 is
    /// accepted.
    pub retries: u32,
    /// TINE_IDEMPOTENT, TINE_UNORDERED, TINE_STOP_ON_FAILURE. With the last, no item begins any more once an item has
    /// failed. Items that have not begun then settle with -ECANCELED, further items are refused with -ECANCELED, and
    /// all results can be taken.
    pub flags: u32,
    /// Draws an item. tine_stream_next calls it, on its own thread, while there is room in the window. NULL: items
    /// are put.
    ///
    /// It returns 1 and says where the item is; the bytes stay there until the next call. *item becomes the .user of
    /// the result. It returns 0 at the end. A negative code ends the input as well, and tine_stream_next returns the
    /// code after the last result. An item that is longer than .window_bytes is drawn, and its result is -EMSGSIZE.
    pub pull: Option<
        unsafe extern "C" fn(
            user: *mut c_void,
            input: *mut *const c_void,
            length: *mut usize,
            item: *mut *mut c_void,
        ) -> c_int,
    >,
    /// A word of the caller's, which is passed to .pull.
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
                        let pulled = unsafe {
                            let input = bytes(input.cast::<u8>(), length, "the item")?;
                            Pulled::new(input, item.expose_provenance())
                        };
                        Ok(Some(pulled))
                    }
                }
            })
        });
        Ok((options, pull))
    }
}

/// Begins a stream.
///
/// Parameters: pool: the host's, or in a task what tine_task_pool returns. fn: the function that is called for each
/// item; NULL where the option .name is given. options: NULL for all defaults. out: where the stream goes.
/// Returns 0; TINE_EFUNCTION, TINE_EMODULE, TINE_ENAME, TINE_ESHUTDOWN, TINE_EWORKERSTART: as for tine_submit;
/// -EINVAL, -E2BIG: an argument or an option has no meaning; -ENOMEM: there is no memory; TINE_EFORKED.
/// Ownership: tine_stream_destroy ends the stream, before the pool is destroyed. Threads: any. Fork: TINE_EFORKED in
/// a child.
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
/// `pool` is null or has not been destroyed, `address` is null or that of a `tine_fn`, what the options point to is there until this
/// returns, and `out` is null or can be written.
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
    // SAFETY: by the contract above the address is that of a task's function or null, and the name is null, or a string that is there
    // until this returns.
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
/// Parameters: stream. input: the item; NULL where length is 0. It is copied, unless it lies in the pool's heap, as
/// for tine_submit. length: in bytes. user: becomes the .user of the result. timeout_ns: how long to wait while the
/// window is full, in nanoseconds; 0: not at all.
/// Returns 0: the item will have a result; -EAGAIN, -ETIMEDOUT, -EINTR: the window is full; -EAGAIN also: no thread
/// can be started; -EMSGSIZE: the item is longer than .window_bytes; -EPIPE: tine_stream_end has been called;
/// -ECANCELED: an item has failed, with TINE_STOP_ON_FAILURE; -EINVAL: stream is NULL, or the stream has .pull;
/// -EFAULT, -ENOMEM, TINE_ESHUTDOWN, TINE_EWORKERSTART: as for tine_submit; TINE_EFORKED.
/// Threads: any. Fork: TINE_EFORKED in a child.
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

/// Says that no more items will be put. A further call does nothing.
///
/// Parameters: stream.
/// Returns 0; -EINVAL: stream is NULL; TINE_EFORKED.
/// Threads: any. Fork: TINE_EFORKED in a child.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_stream_end(stream: *mut tine_stream) -> c_int {
    guard(|| {
        // SAFETY: `stream` is NULL, or a stream that has not been destroyed, as the header asks.
        unsafe { self::stream(stream) }?.end()?;
        Ok(0)
    })
}

/// Waits for the next result, and takes it: the result of the oldest item, or with TINE_UNORDERED of the first item
/// to settle.
///
/// Parameters: stream. timeout_ns: how long to wait, in nanoseconds; 0: not at all. out: a tine_result with its .size
/// set, as for tine_wait; its .user is the item's.
/// Returns 0: an item has settled, whatever its .status; TINE_EEMPTY: the input has ended, and all results have been
/// taken; -ETIMEDOUT, -EAGAIN, -EINTR: no item has settled yet; -EAGAIN also: the stream has .pull, and no thread can
/// be started; a code that .pull has returned, once; TINE_ESHUTDOWN, TINE_EWORKERSTART: no more results can come;
/// -ENOMEM: the item that has been drawn does not fit into the heap, and is kept; -EINVAL: stream or out is NULL, or
/// the .size is less than 16; TINE_EFORKED.
/// Ownership: what the result points to is valid until tine_result_release, with the stream's pool. Threads: any.
/// Fork: TINE_EFORKED in a child.
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

/// Ends a stream. Items that have not begun never begin, running items are cancelled, and results that have not been
/// taken are gone. Results that have been taken stay as they are.
///
/// Parameters: stream: may be NULL. No other thread may be in a call on the stream.
/// Threads: any. Fork: in a child it releases the child's copy, and the stream goes on in the parent.
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
