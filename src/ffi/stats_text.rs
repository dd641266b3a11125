//! Counters as text

use crate::error::{Code, Error, Result};
use crate::ffi::guard::{Out, guard, optional_str, slice};
use crate::ffi::pool::{host, tine_pool};
use crate::pool::{PoolStats, stats_text};
use crate::sys::reserve;
use std::ffi::{c_char, c_int};

/// Writes the counters of pools (tine_stats) as text in the format of Prometheus: what an HTTP server answers for
/// /metrics, with the type text/plain; version=0.0.4. Each counter is a metric named tine_..., with a line of help.
/// The name of a pool becomes the label "pool".
///
/// Parameters: pools: an array of count pools. names: an array of count names in UTF-8; a name that is NULL, or NULL
/// in place of the array, gives no label, which makes sense for a single pool. count: how many pools. buffer: gets
/// the text and a zero byte behind it. capacity: the size of buffer in bytes; 0 with a NULL buffer asks for the
/// length. length: gets the length of the text in bytes, without the zero byte; may be NULL.
/// Returns 0; -EMSGSIZE: the text does not fit, *length is its length, and the buffer is as it was; -EINVAL: count is
/// 0, a pool is NULL, or a name is not UTF-8; -ENOMEM; TINE_EFORKED; TINE_EWORKER.
/// Threads: any. Fork: TINE_EFORKED in a child.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_stats_text(
    pools: *const *mut tine_pool,
    names: *const *const c_char,
    count: usize,
    buffer: *mut c_char,
    capacity: usize,
    length: *mut usize,
) -> c_int {
    guard(|| {
        if buffer.is_null() && capacity > 0 {
            return Err(Error::invalid(format!("buffer is NULL but capacity is {capacity}")));
        }
        // SAFETY: `pools` is NULL or an array of `count` pools that have not been destroyed or NULLs, and `names` is NULL or an array
        // of `count` strings or NULLs, as the header asks.
        let text = stats_text(&unsafe { counters(slice(pools, count, "pools")?, names) }?)?;
        // SAFETY: NULL, or a place for the length, as the header asks.
        if let Some(length) = unsafe { Out::optional(length) } {
            length.set(text.len());
        }
        if text.len() >= capacity {
            let why = format!("a text of {} bytes and a NUL; the buffer has {capacity}", text.len());
            return Err(Error::errno(libc::EMSGSIZE, why));
        }
        // SAFETY: the buffer has room for `capacity` bytes, which are more than the text has.
        unsafe {
            buffer.cast::<u8>().copy_from_nonoverlapping(text.as_ptr(), text.len());
            buffer.add(text.len()).write(0);
        }
        Ok(0)
    })
}

/// Each pool's name and counters.
///
/// # Safety
/// The pools are NULL or have not been destroyed. `names` is null, or an array of as many strings or nulls as there are pools, which
/// live for the whole of `'a`.
unsafe fn counters<'a>(
    pools: &[*mut tine_pool],
    names: *const *const c_char,
) -> Result<Vec<(Option<&'a str>, PoolStats)>> {
    if pools.is_empty() {
        return Err(Error::invalid("count is 0; at least one pool is needed"));
    }
    reserve::suffices()?;
    let mut all = Vec::new();
    all.try_reserve_exact(pools.len()).map_err(|_| Code::errno(libc::ENOMEM))?;
    for (at, pool) in pools.iter().enumerate() {
        // SAFETY: by the contract above `names` is null, or an array that has a string or null at `at`.
        let name = unsafe { if names.is_null() { None } else { optional_str(*names.add(at)) } };
        let name =
            name.map(|name| name.to_str().map_err(|_| Error::invalid(format!("names[{at}] is not UTF-8"))));
        // SAFETY: by the contract above the pool is null or has not been destroyed.
        all.push((name.transpose()?, unsafe { host(*pool) }?.stats()?));
    }
    Ok(all)
}
