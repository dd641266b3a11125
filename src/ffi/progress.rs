//! Progress for people

use crate::ffi::guard::{guard_value, optional_str};
use crate::ffi::options::{self, extensible};
use crate::pool::Progress;
use std::ffi::{c_char, c_int, c_void};

/// What tine_progress_bar shows besides the numbers, and what it remembers. Zero is the default of every field.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct tine_progress {
    /// sizeof(tine_progress).
    pub size: usize,
    /// What is going on; NULL: nothing is said of it.
    pub label: *const c_char,
    /// Where to; 0: standard error.
    pub fd: c_int,
    /// How many have failed: the caller's to count, in .on_failure, say.
    pub failed: u64,
    /// What the bar remembers.
    pub began_ns: u64,
    /// As above.
    pub drawn_ns: u64,
    /// As above.
    pub shown: u64,
}

extensible!(tine_progress);

/// A progress bar, for .progress of maps and loops, or to be called by hand.
///
/// On a terminal it is a line with a bar, how many of how many, the rate, the time left and how many have failed, drawn at
/// most ten times a second and ended when done is total; elsewhere a plain line for each quarter. Rate and time count from the
/// first call: one with done 0 before the work begins makes them those of the whole work. It is written as any write
/// is: it waits for a terminal that has been stopped, unless the descriptor is non-blocking, and a pipe whose reader has
/// gone gives SIGPIPE.
///
/// Parameters: done, total: items. user: a tine_progress, or NULL for all defaults; then only the end is shown. In a map: its
/// .user, so on_failure gets it too.
/// Threads: one at a time for one tine_progress.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tine_progress_bar(done: usize, total: usize, user: *mut c_void) {
    guard_value((), || {
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
