//! A descriptor for those that would rather poll: readable from when there is a message until a get finds none.
//!
//! The kernel passes a dead producer's wake-up on to a sleeper at a futex, and to nothing else. So the process that asks
//! for the descriptor gets a thread that waits as a consumer would, takes nothing, and makes the descriptor readable;
//! then it sleeps on a private word until a get has found the queue empty. It keeps the queue's memory from being used for
//! something else (`watchers.rs`); when another process destroys the queue, the descriptor becomes readable for good.

use super::message::{Queue, caller};
use super::registry;
use crate::error::{Code, Error, Result};
use crate::sync::INVALID;
use crate::sys::clock::Deadline;
use crate::sys::fd::{self, Guarded};
use crate::sys::prim::{AtomicU32, Ordering, futex_wait, futex_wake};
use crate::sys::thread::Thread;
use crate::sys::{owner, reserve};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The thread waits for a message.
const ARMED: u32 = 0;
/// There is one, and the descriptor says so.
const SIGNALLED: u32 = 1;

const NO_VIGIL: &str = "the queue cannot be watched";

/// What the thread says of itself, but for the code of a failure.
const NOT_BEGUN: u32 = 0;
const BEGUN: u32 = 1;

const STACK_BYTES: usize = 128 << 10;

/// Between two wake-ups of a thread that is to end.
const NAP: Duration = Duration::from_micros(50);

struct Watch {
    address: usize,
    shared: Arc<Watched>,
    queue: Queue,
    thread: Thread,
}

struct Watched {
    /// Not to be taken for a file that the program has put under the same number. It may be for an eventfd of the program's, if
    /// that has got the number by which the kernel knew this one.
    event: Guarded,
    /// The thread, stored by itself; nobody sees the watch before. Relaxed: the value is all that matters.
    tid: AtomicU32,
    /// NOT_BEGUN, then BEGUN or the code of why not. Release and Acquire: the queue is the thread's to touch before it is read.
    begun: AtomicU32,
    /// Not 0: the thread does nothing any more. Release and Acquire: nor does it touch the queue.
    ended: AtomicU32,
    /// ARMED or SIGNALLED. SeqCst: stored after the descriptor was cleared, and before it is signalled.
    state: AtomicU32,
    /// Whether the queue's memory is kept for this watch: who wakes the thread there does so while it is.
    kept: Mutex<bool>,
    /// Not 0: the thread is to end. SeqCst: pairs with its look before it sleeps, at the gate or for the lock.
    stop: AtomicU32,
}

impl Watched {
    fn kept(&self) -> MutexGuard<'_, bool> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
    if let Some(at) = watches.iter().position(|watch| watch.address == address) {
        let shared = &watches[at].shared;
        if *shared.kept() && shared.event.is_ours() {
            return Ok(shared.event.number());
        }
        // It was another queue's, at the same place, that another process has destroyed; or the program has closed it.
        stop(watches.swap_remove(at));
    }
    reserve::suffices()?;
    reserve::grow(&mut watches, 1)?;
    let event = Guarded::marked(fd::eventfd()?);
    let number = event.number();
    let shared = Arc::new(Watched {
        event,
        tid: AtomicU32::new(0),
        begun: AtomicU32::new(NOT_BEGUN),
        ended: AtomicU32::new(0),
        state: AtomicU32::new(ARMED),
        kept: Mutex::new(true),
        stop: AtomicU32::new(0),
    });
    let watched = Arc::clone(&shared);
    let thread = Thread::start(c"tine-queue", STACK_BYTES, move || {
        run(&watched, queue);
        watched.ended.store(1, Ordering::Release);
    })?;
    // The queue's memory is the thread's to touch before this call returns, after which it may be destroyed elsewhere.
    let begun = loop {
        match shared.begun.load(Ordering::Acquire) {
            NOT_BEGUN => drop(futex_wait(&shared.begun, NOT_BEGUN, Deadline::NEVER)),
            said => break said,
        }
    };
    if begun != BEGUN {
        thread.join();
        return Err(Error::new(Code(begun as i32), NO_VIGIL));
    }
    watches.push(Watch { address, shared, queue, thread });
    COUNT.fetch_add(1, Ordering::Relaxed);
    Ok(number)
}

fn run(watched: &Watched, queue: Queue) {
    watched.tid.store(owner::gettid(), Ordering::Relaxed);
    let begun = queue.begin_vigil();
    let said = begun.map_or_else(|code| code.0 as u32, |()| BEGUN);
    watched.begun.store(said, Ordering::Release);
    futex_wake(&watched.begun, 1);
    if begun.is_err() {
        return;
    }
    let stopped = || watched.stop.load(Ordering::SeqCst) != 0 || queue.is_gone();
    while !stopped() {
        let _ = caller().and_then(|me| queue.wait_for_some(me, &watched.stop));
        // A message; or a queue that is closed, overwritten or destroyed, which who polls finds out by a get.
        watched.state.store(SIGNALLED, Ordering::SeqCst);
        fd::eventfd_signal(watched.event.as_raw_fd());
        while !stopped() && watched.state.load(Ordering::SeqCst) == SIGNALLED {
            queue.wait_for_end(&watched.state, SIGNALLED);
        }
    }
    // Before the memory can be another queue's, for which this is not the watch.
    *watched.kept() = false;
    queue.end_vigil();
    // Who polls finds out by a get.
    fd::eventfd_signal(watched.event.as_raw_fd());
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
        // A watch that has ended says so for good, and is of another queue than the one that was found empty.
        let kept = watch.shared.kept();
        if !*kept {
            return;
        }
        fd::eventfd_clear(watch.shared.event.as_raw_fd());
        watch.shared.state.store(ARMED, Ordering::SeqCst);
        futex_wake(&watch.shared.state, 1);
    }
}

/// The threads that watch, which take locks for the descriptors only.
pub(super) fn threads() -> Result<Vec<u32>> {
    let Some(watches) = watches() else { return Ok(Vec::new()) };
    reserve::collect(watches.iter().map(|watch| watch.shared.tid.load(Ordering::Relaxed)))
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
        stop(watches.swap_remove(index));
    }
}

/// Ends a watch that nobody finds any more.
fn stop(watch: Watch) {
    COUNT.fetch_sub(1, Ordering::Relaxed);
    watch.shared.stop.store(1, Ordering::SeqCst);
    watch.shared.state.store(ARMED, Ordering::SeqCst);
    futex_wake(&watch.shared.state, 1);
    while watch.shared.ended.load(Ordering::Acquire) == 0 {
        let kept = watch.shared.kept();
        if *kept {
            watch.queue.wake_watcher();
        }
        drop(kept);
        // Once is not enough: it may just be about to sleep, and a hostile process can undo what was done here.
        std::thread::sleep(NAP);
    }
    watch.thread.join();
}
