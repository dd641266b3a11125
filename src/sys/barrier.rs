//! A full barrier on every processor that runs a thread of this process, when one of its threads asks for it: so that the others
//! need none of their own (membarrier(2), Linux 4.14).

use std::sync::atomic::{AtomicU32, Ordering};

// <linux/membarrier.h>
const PRIVATE_EXPEDITED: i32 = 1 << 3;
const REGISTER_PRIVATE_EXPEDITED: i32 = 1 << 4;

const UNKNOWN: u32 = 0;
const THERE: u32 = 1;
const REFUSED: u32 = 2;

/// What the process goes by from the first look on: all its threads must agree. Relaxed: nothing goes with it.
static KNOWN: AtomicU32 = AtomicU32::new(UNKNOWN);

/// Whether this process relies on the barrier. The first look costs a process that has threads already some milliseconds.
#[inline]
pub(crate) fn is_there() -> bool {
    match KNOWN.load(Ordering::Relaxed) {
        UNKNOWN => find(),
        known => known == THERE,
    }
}

#[cold]
fn find() -> bool {
    let found = if ask(REGISTER_PRIVATE_EXPEDITED) { THERE } else { REFUSED };
    let known = KNOWN.compare_exchange(UNKNOWN, found, Ordering::Relaxed, Ordering::Relaxed);
    known.map_or_else(|first| first, |_| found) == THERE
}

/// Runs it; whether that worked. Then what another thread has stored before it is seen from now on, or else what that thread looks at
/// after it was as it is now, or newer.
pub(crate) fn on_all_threads() -> bool {
    // A forked child may have to say anew that it wants to.
    ask(PRIVATE_EXPEDITED) || ask(REGISTER_PRIVATE_EXPEDITED) && ask(PRIVATE_EXPEDITED)
}

fn ask(command: i32) -> bool {
    // SAFETY: no pointers.
    unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) == 0 }
}

#[cfg(test)]
mod tests {
    #[test]
    fn it_runs_where_it_is_there() {
        match super::is_there() {
            true => assert!(super::on_all_threads()),
            false => println!("not tested: it_runs_where_it_is_there needs membarrier(2)"),
        }
    }
}
