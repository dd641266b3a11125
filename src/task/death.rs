//! How a worker ended, as the host and its user get to know it.

use crate::sys::signal;
use std::ffi::{CStr, CString, c_char};
use std::mem::offset_of;
use std::sync::Arc;

/// How a worker ended, and what it left of a crash. Its beginning is what C sees as `tine_death`.
#[derive(Clone, Debug)]
#[repr(C)]
pub struct Death {
    /// The length of what C sees.
    pub(crate) size: usize,
    /// The process.
    pub pid: i32,
    /// The signal that ended it, or 0.
    pub signal: i32,
    /// Its exit code, where no signal ended it.
    pub code: i32,
    /// For a crash, the address that the processor could not deal with.
    pub fault_address: usize,
    /// The most memory that it had resident at once; 0 where nobody can say.
    pub max_rss_bytes: u64,
    /// Points into `text`.
    pub(crate) backtrace: *const c_char,
    /// How much processor time it took in its own code, and in the kernel's.
    pub user_ns: u64,
    /// As above.
    pub system_ns: u64,
    /// 1: it has most likely been killed for want of memory.
    pub out_of_memory: i32,
    /// The task that it was running; 0 for an item of a map.
    pub task: u64,
    /// The item, where it was one of a map.
    pub item: u64,
    /// Points into `name`; empty where it was running nothing.
    pub(crate) function: *const c_char,
    /// Points into `said`, and how long that is without its final zero.
    pub(crate) output: *const c_char,
    pub(crate) output_length: usize,
    /// Where it crashed, innermost first, a line each of module and offset; empty where it left no word.
    text: Arc<CStr>,
    /// The function that it was running.
    name: Arc<CStr>,
    /// The end of what it had written.
    said: Arc<[u8]>,
    /// The supervisor has ended it, because it was past its deadline.
    pub(crate) late: bool,
}

// SAFETY: the pointers are to texts that are shared and never change.
unsafe impl Send for Death {}
// SAFETY: threads that share a death only read it: the pointers are to texts that never change, and the rest are
// numbers and shared texts.
unsafe impl Sync for Death {}

impl Death {
    /// The length of what C sees.
    pub(crate) const VISIBLE: usize = offset_of!(Death, text);

    /// Without word of where it was.
    pub(crate) fn new(pid: i32, signal: i32, code: i32, max_rss_bytes: u64) -> Death {
        let (text, name): (Arc<CStr>, Arc<CStr>) = (Arc::from(c""), Arc::from(c""));
        let said: Arc<[u8]> = Arc::from(&b"\0"[..]);
        Death {
            size: Death::VISIBLE,
            pid,
            signal,
            code,
            fault_address: 0,
            max_rss_bytes,
            backtrace: text.as_ptr(),
            user_ns: 0,
            system_ns: 0,
            out_of_memory: 0,
            task: 0,
            item: 0,
            function: name.as_ptr(),
            output: said.as_ptr().cast(),
            output_length: 0,
            text,
            name,
            said,
            late: false,
        }
    }

    /// The end of what it had written.
    pub(crate) fn set_output(&mut self, mut said: Vec<u8>) {
        said.push(0);
        self.said = Arc::from(said);
        (self.output, self.output_length) = (self.said.as_ptr().cast(), self.said.len() - 1);
    }

    /// What it had begun when it died.
    pub(crate) fn set_task(&mut self, task: u64, item: u64, function: String) {
        (self.task, self.item) = (task, item);
        self.name = Arc::from(CString::new(function).unwrap_or_default());
        self.function = self.name.as_ptr();
    }

    /// The end of what it had written.
    pub fn output(&self) -> &[u8] {
        &self.said[..self.output_length]
    }

    pub(crate) fn set_backtrace(&mut self, text: String) {
        self.text = Arc::from(CString::new(text).unwrap_or_default());
        self.backtrace = self.text.as_ptr();
    }

    /// Where it crashed, innermost first, a line each of module and offset; empty where it left no word.
    pub fn backtrace(&self) -> &CStr {
        &self.text
    }

    /// The function that it was running; empty where it was running nothing.
    pub fn function(&self) -> &CStr {
        &self.name
    }

    /// One sentence for people.
    pub fn describe(&self) -> String {
        describe(self.pid, self.signal, self.code)
    }
}

/// How a worker ended, in one sentence.
pub(crate) fn describe(pid: i32, signal: i32, code: i32) -> String {
    match signal {
        0 => format!("worker {pid} exited with code {code}"),
        signal => format!("worker {pid} was ended by {}", signal::name(signal)),
    }
}
