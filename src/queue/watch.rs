//! A descriptor for those that would rather poll: readable from when there is a message until a get finds none.
//!
//! The kernel passes a dead producer's wake-up on to a sleeper at a futex, and to nothing else. So the process that asks
//! for the descriptor gets a thread that waits as a consumer would, takes nothing, and makes the descriptor readable;
//! then it sleeps on a private word until a get has found the queue empty.

use super::message::{Queue, caller};
use super::registry;
use crate::error::{Error, Result};
use crate::prim::{AtomicU32, Ordering, futex_wait, futex_wake};
use crate::sync::INVALID;
use crate::sys::clock::Deadline;
use crate::sys::{fd, owner, signal};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// The thread waits for a message.
const ARMED: u32 = 0;
/// There is one, and the descriptor says so.
const SIGNALLED: u32 = 1;

/// Between two wake-ups of a thread that is to end.
const NAP: Duration = Duration::from_micros(50);

struct Watch {
    address: usize,
    shared: Arc<Watched>,
    queue: Queue,
    thread: Option<JoinHandle<()>>,
}

struct Watched {
    event: OwnedFd,
    /// The thread, stored by itself; nobody sees the watch before. Relaxed: the value is all that matters.
    tid: AtomicU32,
    /// ARMED or SIGNALLED. SeqCst: stored after the descriptor was cleared, and before it is signalled.
    state: AtomicU32,
    /// Not 0: the thread is to end. SeqCst: pairs with its look before it sleeps, at the gate or for the lock.
    stop: AtomicU32,
}

/// How many there are, those of a forked process's parent included. Relaxed: a queue that a process watches was asked
/// about in this very process before.
static COUNT: AtomicU32 = AtomicU32::new(0);

/// The watches of one process; part of its registry, so that a forked one has its own, with a lock that nobody held.
#[derive(Default)]
pub(super) struct Watches(Mutex<Vec<Watch>>);

fn watches() -> Option<MutexGuard<'static, Vec<Watch>>> {
    registry::watches().map(|watches| watches.0.lock().unwrap_or_else(PoisonError::into_inner))
}

/// The descriptor for a queue; the same one each time.
pub(crate) fn descriptor(address: usize, queue: Queue) -> Result<RawFd> {
    let mut watches = watches().ok_or(INVALID)?;
    if let Some(watch) = watches.iter().find(|watch| watch.address == address) {
        return Ok(watch.shared.event.as_raw_fd());
    }
    let event = fd::eventfd()?;
    let number = event.as_raw_fd();
    let shared = Arc::new(Watched {
        event,
        tid: AtomicU32::new(0),
        state: AtomicU32::new(ARMED),
        stop: AtomicU32::new(0),
    });
    let watched = Arc::clone(&shared);
    // The new thread inherits the mask, and with it none of the process's signals.
    let blocked = signal::AllBlocked::new();
    let thread = std::thread::Builder::new()
        .name("tine-queue".to_owned())
        .stack_size(128 * 1024)
        .spawn(move || run(&watched, queue))
        .map_err(|error| Error::from_io("starting the queue's thread", &error))?;
    drop(blocked);
    while shared.tid.load(Ordering::Relaxed) == 0 {
        futex_wait(&shared.tid, 0, Deadline::NEVER);
    }
    watches.push(Watch { address, shared, queue, thread: Some(thread) });
    COUNT.fetch_add(1, Ordering::Relaxed);
    Ok(number)
}

fn run(watched: &Watched, queue: Queue) {
    watched.tid.store(owner::gettid(), Ordering::Relaxed);
    futex_wake(&watched.tid, 1);
    let stopped = || watched.stop.load(Ordering::SeqCst) != 0;
    while !stopped() {
        let _ = caller().and_then(|me| queue.wait_for_some(me, &watched.stop));
        // A message; or a queue that is closed or overwritten, which who polls finds out by a get.
        watched.state.store(SIGNALLED, Ordering::SeqCst);
        fd::eventfd_signal(watched.event.as_raw_fd());
        while !stopped() && watched.state.load(Ordering::SeqCst) == SIGNALLED {
            futex_wait(&watched.state, SIGNALLED, Deadline::NEVER);
        }
    }
}

/// A get has found nothing: the descriptor is not readable until there is something.
#[inline]
pub(crate) fn found_empty(address: usize) {
    if COUNT.load(Ordering::Relaxed) != 0 {
        arm(address);
    }
}

#[cold]
fn arm(address: usize) {
    let Some(watches) = watches() else { return };
    if let Some(watch) = watches.iter().find(|watch| watch.address == address) {
        fd::eventfd_clear(watch.shared.event.as_raw_fd());
        watch.shared.state.store(ARMED, Ordering::SeqCst);
        futex_wake(&watch.shared.state, 1);
    }
}

/// The threads that watch, which take locks for the descriptors only.
pub(super) fn threads() -> Vec<u32> {
    let tids = |watches: MutexGuard<'static, Vec<Watch>>| {
        watches.iter().map(|watch| watch.shared.tid.load(Ordering::Relaxed)).collect()
    };
    watches().map_or_else(Vec::new, tids)
}

/// Ends the watches of these queues, which are still there.
pub(crate) fn end(which: impl Fn(usize) -> bool) {
    if COUNT.load(Ordering::Relaxed) == 0 {
        return;
    }
    let Some(mut watches) = watches() else { return };
    let mut index = 0;
    while index < watches.len() {
        if !which(watches[index].address) {
            index += 1;
            continue;
        }
        let mut watch = watches.swap_remove(index);
        COUNT.fetch_sub(1, Ordering::Relaxed);
        watch.shared.stop.store(1, Ordering::SeqCst);
        watch.shared.state.store(ARMED, Ordering::SeqCst);
        futex_wake(&watch.shared.state, 1);
        let Some(thread) = watch.thread.take() else { continue };
        while !thread.is_finished() {
            watch.queue.wake_watcher();
            // Once is not enough: it may just be about to sleep, and a hostile process can undo what was done here.
            std::thread::sleep(NAP);
        }
        let _ = thread.join();
    }
}
