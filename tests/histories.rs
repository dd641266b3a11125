//! Histories of mutex, reader-writer lock, semaphore, event, barrier and queue: what four processes were answered, some of which were
//! killed meanwhile, and whether there is an order of their calls in which an object that does one call at a time would have
//! answered the same. A library looks for that order; a call that a death cut short may have been done or not.
//!
//! The same with a fault planted into each object's answers must be found out.
//!
//! A program of its own, without the test harness, because it forks. TINE_STORM=1 makes it long; a number, say TINE_HISTORIES=500, is
//! how many of each; arguments are names of objects.

#[path = "history/barrier.rs"]
mod barrier;
#[path = "history/locks.rs"]
mod locks;
#[path = "history/queue.rs"]
mod queue;
#[path = "history/record.rs"]
mod record;
#[path = "history/signals.rs"]
mod signals;
#[allow(dead_code)] // Of the single-stepper's tools, this needs those for processes.
#[path = "step/mod.rs"]
mod step;
#[path = "history/subject.rs"]
mod subject;

use record::{CUT_SHORT, Operation, Recorded, next_random, record};
use std::marker::PhantomData;
use std::time::Instant;
use subject::Subject;
use todc_utils::specifications::Specification;
use todc_utils::{Action, History, WGLChecker};

/// A subject as the library knows it.
struct Specified<S>(PhantomData<S>);

impl<S: Subject> Specification for Specified<S> {
    type State = S;
    type Operation = Operation;

    fn init() -> S {
        S::new()
    }

    fn apply(operation: &Operation, state: &S) -> (bool, S) {
        let mut next = state.clone();
        let possible = operation.end == CUT_SHORT || next.answer(&operation.call, operation.answer);
        if operation.end == CUT_SHORT {
            next.guess(&operation.call);
        }
        (possible, next)
    }
}

/// Whether an object that does one call at a time could have answered so.
fn is_linearizable<S: Subject>(history: &[Operation]) -> bool {
    let mut actions = Vec::new();
    for (line, operation) in history.iter().enumerate() {
        let mut step = *operation;
        // To the library each step of each call is a process's of its own: what is behind what is said by the times alone.
        for process in [2 * line, 2 * line + 1] {
            actions.push((step.begin, process, Action::Call(step)));
            // One that never ended may be done as late as never.
            actions.push((step.end, process, Action::Response(step)));
            match S::second_step(step.call.kind) {
                Some(second) => step.call.kind = second,
                None => break,
            }
        }
    }
    actions.sort_by_key(|(moment, ..)| *moment);
    let actions = actions.into_iter().map(|(_, process, action)| (process, action)).collect();
    WGLChecker::<Specified<S>>::is_linearizable(History::from_actions(actions))
}

/// Records and checks so many histories; whether all were in order, or, where a fault is `planted`, one was not.
fn check<S: Subject>(count: u32, planted: bool) -> bool {
    let shared: &'static Recorded = step::map();
    let (mut seed, mut wrong, mut cut_short, mut calls) = (0x2545_f491_4f6c_dd1d_u64, 0, 0, 0);
    let began = Instant::now();
    for index in 0..count {
        let Some(history) = record::<S>(shared, next_random(&mut seed), planted) else {
            println!("{}: hung in history {index}", S::NAME);
            return false;
        };
        calls += history.len();
        cut_short += u32::from(history.iter().any(|operation| operation.end == CUT_SHORT));
        if !is_linearizable::<S>(&history) {
            wrong += 1;
            if planted {
                println!("{}: the planted fault is found in history {index}", S::NAME);
                return true;
            }
            println!("{}: nobody would answer so: {history:#?}", S::NAME);
        }
    }
    println!(
        "{}: {count} histories of {calls} calls, of which {cut_short} have one that was cut short; {wrong} wrong{}; {:.1?}",
        S::NAME,
        if planted { ", though a fault was planted" } else { "" },
        began.elapsed()
    );
    wrong == 0 && cut_short > 0 && !planted
}

type Check = fn(u32, bool) -> bool;

fn main() {
    let long = std::env::var_os("TINE_STORM").is_some();
    let count = std::env::var("TINE_HISTORIES").ok().and_then(|count| count.parse().ok());
    let count: u32 = count.unwrap_or(if long { 10_000 } else { 300 });
    let chosen: Vec<String> =
        std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let all: [(&str, Check); 7] = [
        ("mutex", check::<locks::Lock<false>>),
        ("rwlock", check::<locks::Lock<true>>),
        ("semaphore", check::<signals::Semaphore>),
        ("event", check::<signals::Event<false>>),
        ("event", check::<signals::Event<true>>),
        ("barrier", check::<barrier::Barrier>),
        ("queue", check::<queue::Queue>),
    ];
    let (mut passed, mut failed) = (0, 0);
    for (name, check) in all {
        if chosen.is_empty() || chosen.iter().any(|chosen| chosen == name) {
            for planted in [false, true] {
                *if check(count, planted) { &mut passed } else { &mut failed } += 1;
            }
        }
    }
    let verdict = if failed == 0 { "ok" } else { "FAILED" };
    println!("test result: {verdict}. {passed} passed; {failed} failed");
    std::process::exit(i32::from(failed != 0));
}
