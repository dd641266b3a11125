//! Threads of a model that die before one of their stores. loom runs all threads of a model on one.

use loom::thread::{self, JoinHandle, ThreadId};
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

thread_local! {
    /// The mortal threads, and how many stores each may still reach.
    static MORTALS: RefCell<Vec<(ThreadId, u32)>> = const { RefCell::new(Vec::new()) };
}

struct Death;

/// Forgets the last execution.
pub fn begin() {
    MORTALS.take();
}

/// A thread that dies before its store number `dies`, counted from 1; it returns nothing if it did. What it shares with others lets go of
/// them only when it has died: loom would switch to another thread, which would seem to panic.
pub fn spawn<S: 'static, T: 'static>(
    dies: u32,
    shared: S,
    body: impl FnOnce(&S) -> T + 'static,
) -> JoinHandle<Option<T>> {
    thread::spawn(move || {
        MORTALS.with_borrow_mut(|mortals| mortals.push((thread::current().id(), dies)));
        match catch_unwind(AssertUnwindSafe(|| body(&shared))) {
            Ok(result) => Some(result),
            Err(payload) if payload.is::<Death>() => None,
            Err(payload) => resume_unwind(payload),
        }
    })
}

/// A mortal thread may die here.
pub fn step() {
    let me = thread::current().id();
    let dies = MORTALS.with_borrow_mut(|mortals| {
        let mortal = mortals.iter_mut().find(|(id, _)| *id == me);
        mortal.is_some_and(|(_, steps)| {
            *steps = steps.saturating_sub(1);
            *steps == 0
        })
    });
    if dies {
        resume_unwind(Box::new(Death));
    }
}
