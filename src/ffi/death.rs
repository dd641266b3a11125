//! Deaths

use crate::engine::member::Death;
use crate::error::Error;
use crate::ffi::guard::guard;
use crate::ffi::options::{self, Extensible};
use std::ffi::{CStr, c_char, c_int, c_void};
use std::mem::offset_of;

/// How a process ended.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct tine_death {
    /// sizeof(tine_death).
    pub size: usize,
    /// Which process.
    pub pid: libc::pid_t,
    /// The signal that ended it, or 0.
    pub signal: c_int,
    /// Its exit code, where .signal is 0.
    pub code: c_int,
    /// For SIGSEGV, SIGBUS, SIGFPE and SIGILL: the address at fault.
    pub fault_address: *mut c_void,
    /// The most memory that it had resident at once, in bytes; 0 if nobody can say.
    pub max_rss_bytes: u64,
    /// Where it crashed, innermost frame first: lines of module and offset, for addr2line. Never NULL; empty if the
    /// process left no word.
    pub backtrace: *const c_char,
}

// SAFETY: `repr(C)`, size first, and zero is valid for every field.
unsafe impl Extensible for tine_death {
    const NAME: &'static str = "tine_death";
}

// What C sees of a death is the beginning of the core's.
const _: () = {
    assert!(offset_of!(tine_death, pid) == offset_of!(Death, pid));
    assert!(offset_of!(tine_death, signal) == offset_of!(Death, signal));
    assert!(offset_of!(tine_death, code) == offset_of!(Death, code));
    assert!(offset_of!(tine_death, fault_address) == offset_of!(Death, fault_address));
    assert!(offset_of!(tine_death, max_rss_bytes) == offset_of!(Death, max_rss_bytes));
    assert!(offset_of!(tine_death, backtrace) == offset_of!(Death, backtrace));
};

pub(crate) fn view(death: Option<&Death>) -> *const tine_death {
    death.map_or(std::ptr::null(), |death| std::ptr::from_ref(death).cast())
}

/// Writes what is known of a death, for people: a line for how it came about, and a line for each frame.
///
/// Parameters: death: a result's .death. fd: where to, 2 for standard error.
/// Returns 0; -EINVAL: death is NULL; -EIO: it could not be written. Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_death_print(death: *const tine_death, fd: c_int) -> c_int {
    guard(|| {
        // SAFETY: the caller's struct, which tine has filled.
        let Some(death) = unsafe { options::read(death) }? else {
            return Err(Error::invalid("death is NULL"));
        };
        let mut text = crate::engine::member::describe(death.pid, death.signal, death.code);
        if !death.fault_address.is_null() {
            text += &format!(", at address {:?}", death.fault_address);
        }
        if death.max_rss_bytes > 0 {
            text += &format!("; it had {:.1} MiB at most", death.max_rss_bytes as f64 / f64::from(1 << 20));
        }
        text.push('\n');
        if !death.backtrace.is_null() {
            // SAFETY: a string that lives as long as the result.
            for line in unsafe { CStr::from_ptr(death.backtrace) }.to_string_lossy().lines() {
                text += &format!("  {line}\n");
            }
        }
        crate::sys::fd::write_all(fd, text.as_bytes())?;
        Ok(0)
    })
}
