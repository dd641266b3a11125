//! Deaths

use crate::error::Error;
use crate::ffi::guard::guard;
use crate::ffi::options::{self, extensible};
use crate::task::death::Death;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::mem::offset_of;

/// How a process ended: tine_result.death and tine_exit.death.
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
    /// The most memory that it had resident at once, in bytes; 0 where that is not known.
    pub max_rss_bytes: u64,
    /// Where it crashed, innermost frame first: lines of module and offset, for addr2line. Never NULL; empty where
    /// the process has left no backtrace.
    pub backtrace: *const c_char,
    /// The processor time that it took in its own code, in nanoseconds; 0 where that is not known.
    pub user_ns: u64,
    /// The processor time that the kernel took for it, in nanoseconds; 0 where that is not known.
    pub system_ns: u64,
    /// 1: it was most likely killed because memory ran out: by .max_worker_bytes, or by the kernel, which has killed
    /// a process for want of memory since the pool looked last. 0: there is no sign of that.
    pub out_of_memory: c_int,
    /// The task that it was running; 0 where it was running an item of a map or a loop.
    pub task: u64,
    /// The item that it was running.
    pub item: u64,
    /// The function that it was running: its registered name, its symbol, or module and offset. Never NULL.
    pub function: *const c_char,
    /// With TINE_OUTPUT_CAPTURE, the last 64 KiB that it had written to its standard output and standard error, with
    /// a zero byte behind them. Never NULL.
    pub output: *const c_char,
    /// The length of .output in bytes.
    pub output_length: usize,
}

extensible!(tine_death);

// What C sees of a death is the beginning of the core's.
const _: () = {
    assert!(size_of::<tine_death>() == Death::VISIBLE);
    assert!(offset_of!(tine_death, pid) == offset_of!(Death, pid));
    assert!(offset_of!(tine_death, signal) == offset_of!(Death, signal));
    assert!(offset_of!(tine_death, code) == offset_of!(Death, code));
    assert!(offset_of!(tine_death, fault_address) == offset_of!(Death, fault_address));
    assert!(offset_of!(tine_death, max_rss_bytes) == offset_of!(Death, max_rss_bytes));
    assert!(offset_of!(tine_death, backtrace) == offset_of!(Death, backtrace));
    assert!(offset_of!(tine_death, user_ns) == offset_of!(Death, user_ns));
    assert!(offset_of!(tine_death, system_ns) == offset_of!(Death, system_ns));
    assert!(offset_of!(tine_death, out_of_memory) == offset_of!(Death, out_of_memory));
    assert!(offset_of!(tine_death, task) == offset_of!(Death, task));
    assert!(offset_of!(tine_death, item) == offset_of!(Death, item));
    assert!(offset_of!(tine_death, function) == offset_of!(Death, function));
    assert!(offset_of!(tine_death, output) == offset_of!(Death, output));
    assert!(offset_of!(tine_death, output_length) == offset_of!(Death, output_length));
};

pub(crate) fn view(death: Option<&Death>) -> *const tine_death {
    death.map_or(std::ptr::null(), |death| std::ptr::from_ref(death).cast())
}

/// Writes a report of a death for people: how the process ended and what it was running, a line for each frame, and
/// the last that it had written.
///
/// The report does not go through stdio. Where the order of lines matters, call fflush before.
///
/// Parameters: death: the .death of a result or an exit. fd: the descriptor to write to, 2 for standard error.
/// Returns 0; -EINVAL: death is NULL; -EBADF, -EPIPE, -EIO and the like: what write() has failed with.
/// Threads: any. Fork: a child may call it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_death_print(death: *const tine_death, fd: c_int) -> c_int {
    guard(|| {
        // SAFETY: `death` is NULL, or a result's `.death`, which tine has filled and which stays until the result is
        // released: the text above asks for that.
        let Some(death) = unsafe { options::read(death) }? else {
            return Err(Error::invalid("death is NULL"));
        };
        // SAFETY: tine has filled the death, and its strings live as long as the result that it belongs to.
        let text = unsafe { text_of(&death) };
        crate::sys::fd::write_all(fd, &text)?;
        Ok(0)
    })
}

/// # Safety
/// Each of the death's strings is null, or lives until this returns. Its output is null, or has `output_length` bytes.
unsafe fn text_of(death: &tine_death) -> Vec<u8> {
    let string = |at: *const c_char| match at.is_null() {
        true => String::new(),
        // SAFETY: `at` is not null, so by the contract above it is a string that lives until this returns.
        false => unsafe { CStr::from_ptr(at) }.to_string_lossy().into_owned(),
    };
    let mut text = crate::task::death::describe(death.pid, death.signal, death.code);
    if !death.fault_address.is_null() {
        text += &format!(", at address {:?}", death.fault_address);
    }
    if death.out_of_memory != 0 {
        text += ", most likely for want of memory";
    }
    text.push('\n');
    let function = string(death.function);
    if !function.is_empty() {
        let what =
            if death.task == 0 { format!("item {}", death.item) } else { format!("task {:#x}", death.task) };
        text += &format!("  in {what}: {function}\n");
    }
    if death.max_rss_bytes > 0 {
        let mebibytes = death.max_rss_bytes as f64 / f64::from(1 << 20);
        let seconds = |ns: u64| ns as f64 / 1e9;
        let (user, system) = (seconds(death.user_ns), seconds(death.system_ns));
        text += &format!(
            "  {mebibytes:.1} MiB at most, {user:.3} s of processor time and {system:.3} s in the kernel\n"
        );
    }
    for line in string(death.backtrace).lines() {
        text += &format!("  {line}\n");
    }
    let mut text = text.into_bytes();
    if death.output_length > 0 && !death.output.is_null() {
        // SAFETY: `output` is not null, so by the contract above it has `output_length` bytes.
        let said = unsafe { std::slice::from_raw_parts(death.output.cast::<u8>(), death.output_length) };
        text.extend(b"  the last that it wrote:\n");
        for line in said.strip_suffix(b"\n").unwrap_or(said).split(|byte| *byte == b'\n') {
            text.extend(b"    | ");
            text.extend(line);
            text.push(b'\n');
        }
    }
    text
}
