//! Atomics on loom's, which a death can stop before any store, and a futex whose sleepers look by themselves when time has passed.

use crate::death::step;
use crate::sys::clock::Deadline;
pub(crate) use loom::sync::atomic::fence;
use loom::sync::{Condvar, Mutex, atomic};
use std::cell::{Cell, RefCell};
pub(crate) use std::sync::atomic::Ordering;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    Woken,
    Changed,
    TimedOut,
}

thread_local! {
    /// The time has come at which sleepers look by themselves. All threads of a model are one.
    static LATE: Cell<bool> = const { Cell::new(false) };
    /// The words on which some sleep that will.
    static LOOKERS: RefCell<Vec<*const AtomicU32>> = const { RefCell::new(Vec::new()) };
}

pub(crate) fn is_late() -> bool {
    LATE.get()
}

/// Forgets the last execution.
pub(crate) fn begin() {
    LATE.set(false);
    LOOKERS.take();
}

/// Those that sleep until they look by themselves do so, and from now on at once.
pub(crate) fn time_passes() {
    LATE.set(true);
    for word in LOOKERS.take() {
        // SAFETY: somebody sleeps on it, so it lives.
        let word = unsafe { &*word };
        *word.queue.lock().unwrap() = 0;
        word.woken.notify_all();
    }
}

/// A word and the kernel's queue of who sleeps on it.
#[derive(Debug)]
pub(crate) struct AtomicU32 {
    value: atomic::AtomicU32,
    queue: Mutex<usize>,
    woken: Condvar,
}

impl Default for AtomicU32 {
    fn default() -> AtomicU32 {
        AtomicU32::new(0)
    }
}

impl AtomicU32 {
    pub(crate) fn new(value: u32) -> AtomicU32 {
        AtomicU32 { value: atomic::AtomicU32::new(value), queue: Mutex::new(0), woken: Condvar::new() }
    }

    pub(crate) fn load(&self, ordering: Ordering) -> u32 {
        self.value.load(ordering)
    }

    pub(crate) fn store(&self, value: u32, ordering: Ordering) {
        step();
        self.value.store(value, ordering);
    }

    pub(crate) fn swap(&self, value: u32, ordering: Ordering) -> u32 {
        step();
        self.value.swap(value, ordering)
    }

    pub(crate) fn compare_exchange(
        &self,
        old: u32,
        new: u32,
        yes: Ordering,
        no: Ordering,
    ) -> Result<u32, u32> {
        self.value.compare_exchange(old, new, yes, no)
    }
}

pub(crate) fn futex_wait(word: &AtomicU32, expected: u32, deadline: Deadline) -> Wait {
    let mut sleepers = word.queue.lock().unwrap();
    // The kernel looks at what is there, not at what this thread has seen last.
    if word.value.fetch_or(0, Ordering::SeqCst) != expected {
        return Wait::Changed;
    }
    if deadline == Deadline::Look {
        if is_late() {
            return Wait::TimedOut;
        }
        LOOKERS.with_borrow_mut(|words| words.push(word));
    }
    *sleepers += 1;
    drop(word.woken.wait(sleepers).unwrap());
    LOOKERS.with_borrow_mut(|words| words.retain(|it| !std::ptr::eq(*it, word)));
    Wait::Woken
}

pub(crate) fn futex_wake(word: &AtomicU32, _: u32) -> u32 {
    step();
    let mut sleepers = word.queue.lock().unwrap();
    let any = *sleepers > 0;
    if any {
        *sleepers -= 1;
        word.woken.notify_one();
    }
    u32::from(any)
}
