//! Whose turn it is to take a packet, among the threads of this process that receive from one end.
//!
//! A thread looks at the first packet, makes room for it, and takes it if it is still the first. What that needs belongs to the socket
//! and not to the handle: a program may have two handles of one end, its own and one attached to the other's descriptor, and each would
//! take what the other has looked at. So the handles of one socket find one [`Turn`], by the socket's inode.

use crate::sys::prim::{AtomicBool, AtomicPtr, AtomicU64, Ordering};
use crate::sys::{fd, fork};
use std::collections::HashMap;
use std::os::fd::RawFd;
use std::sync::{Arc, Mutex, PoisonError, Weak};

#[derive(Debug)]
pub(super) struct Turn {
    /// How many packets this process has taken. A thread that has looked at the first packet takes it only if no other
    /// has taken one since. Written under `lock`, Release; read before the look, Acquire, so that the look sees what was
    /// taken.
    pub(super) taken: AtomicU64,
    pub(super) lock: Mutex<()>,
    /// A thread sleeps in the look itself, which the kernel wakes alone. Relaxed: it guards no memory.
    pub(super) sleeper: AtomicBool,
}

/// The turns of one process. A forked child has its own: who held its parent's lock may not be there.
struct Turns {
    pid: i32,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    of_socket: HashMap<(u32, u32, u64), Weak<Turn>>,
    /// At this length those that nobody has any more are dropped.
    full: usize,
}

const LEAST_FULL: usize = 64;

impl Turn {
    fn new() -> Arc<Turn> {
        Arc::new(Turn { taken: AtomicU64::new(0), lock: Mutex::new(()), sleeper: AtomicBool::new(false) })
    }

    /// The one of the socket behind a descriptor.
    pub(super) fn of(socket: RawFd) -> Arc<Turn> {
        match fd::identity(socket) {
            Ok(((major, minor), inode)) => of_process().find((major, minor, inode)),
            // It has been closed behind tine's back: no call on it will come to a turn.
            Err(_) => Turn::new(),
        }
    }
}

impl Turns {
    fn find(&self, socket: (u32, u32, u64)) -> Arc<Turn> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(turn) = known.of_socket.get(&socket).and_then(Weak::upgrade) {
            return turn;
        }
        if known.of_socket.len() >= known.full.max(LEAST_FULL) {
            known.of_socket.retain(|_, turn| turn.strong_count() > 0);
            known.full = 2 * known.of_socket.len();
        }
        let turn = Turn::new();
        known.of_socket.insert(socket, Arc::downgrade(&turn));
        turn
    }
}

/// This process's; leaked, one for each process that has channels.
fn of_process() -> &'static Turns {
    /// Null before the first. Release and Acquire: who sees the pointer sees the lock.
    static TURNS: AtomicPtr<Turns> = AtomicPtr::new(std::ptr::null_mut());
    let pid = fork::pid();
    loop {
        let current = TURNS.load(Ordering::Acquire);
        // SAFETY: null, or turns that were leaked, so they stay as long as the process.
        if let Some(turns) = unsafe { current.as_ref() }.filter(|turns| turns.pid == pid) {
            return turns;
        }
        let new = Box::into_raw(Box::new(Turns { pid, known: Mutex::default() }));
        if TURNS.compare_exchange(current, new, Ordering::AcqRel, Ordering::Acquire).is_err() {
            // SAFETY: made above, and nobody else has seen it.
            drop(unsafe { Box::from_raw(new) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handles_of_one_socket_have_one_turn_and_nothing_is_kept_of_those_that_are_gone() {
        let turns = Turns { pid: 0, known: Mutex::default() };
        let first = turns.find((0, 8, 1));
        assert!(Arc::ptr_eq(&first, &turns.find((0, 8, 1))));
        assert!(!Arc::ptr_eq(&first, &turns.find((0, 8, 2))));
        (3..10_000).for_each(|inode| drop(turns.find((0, 8, inode))));
        assert!(turns.known.lock().unwrap().of_socket.len() <= LEAST_FULL);
        assert!(Arc::ptr_eq(&first, &turns.find((0, 8, 1))));
    }
}
