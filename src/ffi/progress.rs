//! Progress for people

use crate::ffi::guard::{guard_end, optional_str};
use crate::ffi::options::{self, extensible};
use crate::pool::Progress;
use std::ffi::{c_char, c_int, c_void};

/// What tine_progress_bar shows besides the numbers, and what it remembers. Zero is the default of every field.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct tine_progress {
    /// sizeof(tine_progress).
    pub size: usize,
    /// A word in front of the bar; NULL: none.
    pub label: *const c_char,
    /// The descriptor to write to; 0: standard error.
    pub fd: c_int,
    /// How many items have failed. The caller counts them, in .on_failure for example.
    pub failed: u64,
    /// tine's own, as are the fields that follow.
    pub began_ns: u64,
    /// tine's own.
    pub drawn_ns: u64,
    /// tine's own.
    pub shown: u64,
}

extensible!(tine_progress);

/// A progress bar. It can be the .progress of maps and loops, or be called by hand.
///
/// On a terminal it is a line with a bar, the number of items that are done, the rate, the time left, and the number
/// of failures. The line is drawn at most ten times a second, and ended when done is total. Elsewhere a plain line is
/// written for each quarter. Rate and time count from the first call: with a call of done 0 before the work begins
/// they are those of the whole work.
///
/// It writes as write() does: it waits for a terminal that has been stopped, unless the descriptor is non-blocking,
/// and a pipe whose reader has gone gives SIGPIPE.
///
/// Parameters: done: how many items are done. total: how many there are. user: a tine_progress with its .size set; in
/// a map it is the .user of the options, so .on_failure gets it too. NULL for all defaults; then only the end is
/// shown.
/// Threads: any, one at a time for one tine_progress. Fork: a child may call it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_progress_bar(done: usize, total: usize, user: *mut c_void) {
    guard_end(|| {
        let place = user.cast::<tine_progress>();
        // SAFETY: `user` is NULL or a tine_progress that can be read as far as its `.size` says: the text above asks
        // for that.
        let Ok(read) = (unsafe { options::read(place.cast_const()) }) else { return };
        let mut view = match read {
            Some(view) => view,
            None if done < total => return,
            // SAFETY: its fields are integers and a pointer, and for both zero is a value.
            None => unsafe { std::mem::zeroed() },
        };
        // SAFETY: `.label` is NULL or a string, and it stays until the call returns, as the header asks.
        let label = unsafe { optional_str(view.label) }
            .map_or_else(String::new, |label| label.to_string_lossy().into_owned());
        let mut bar = Progress { began_ns: view.began_ns, drawn_ns: view.drawn_ns, shown: view.shown };
        bar.draw(if view.fd == 0 { 2 } else { view.fd }, &label, done, total, view.failed);
        (view.began_ns, view.drawn_ns, view.shown) = (bar.began_ns, bar.drawn_ns, bar.shown);
        if read.is_some() {
            // SAFETY: `place` is not NULL: `read` has found a struct there. It is the program's tine_progress, which
            // the bar may write to: the text above says so.
            let _ = unsafe { options::fill(place, &view) };
        }
    });
}
