//! A model of what the kernel does for locks: futexes, robust lists, and the end of a thread.
//!
//! loom runs all threads of a model on one, and switches only inside its own calls; so this state needs no lock, and
//! what stands between two of loom's calls happens at once.

use crate::prim::AtomicU32;
use crate::sys::clock::Deadline;
use crate::sys::robust::{DIED, OWNER, Spot, WAITERS};
use loom::sync::atomic::{Ordering, fence};
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Set(u32),
    SetOnly(u32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    Woken,
    Changed,
    TimedOut,
    Interrupted,
}

/// One of the model's threads, as the kernel knows it.
#[derive(Default)]
pub struct Thread {
    handle: Option<loom::thread::Thread>,
    /// What it holds, the newest last, with how often it was locked again.
    pub held: Vec<(Spot, u32)>,
    pub pending: Option<Spot>,
    /// How many more steps it may do; `None` for those that live.
    steps: Option<u32>,
    /// It is the second one that dies.
    second: bool,
    asleep: bool,
    /// It sleeps for a time only, or has been woken because that has passed.
    timed: bool,
    timed_out: bool,
    ended: bool,
}

/// A thread that sleeps on a word. It stands here until somebody wakes it.
struct Sleeper {
    word: *const AtomicU32,
    thread: usize,
    /// Which of the words that it sleeps on.
    index: usize,
}

#[derive(Default)]
struct Kernel {
    threads: Vec<Thread>,
    sleepers: Vec<Sleeper>,
    /// The words by which threads have been woken that have not noticed yet: thread, index.
    woken: Vec<(usize, usize)>,
    /// The first thread waits until all others sleep or have ended.
    quiescing: bool,
    /// Before which of its steps the first thread dies that is no victim.
    second: Option<u32>,
    /// Somebody has died, so that others may have to look round.
    died: bool,
    /// How often time has passed, and how often it may.
    rounds: u32,
    most_rounds: u32,
}

/// How often those that look round do so before they count as sleeping for good.
const LOOKS: u32 = 2;

/// What this kernel leaves out, to show that the models notice.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Without {
    Nothing,
    /// Words of dead holders are not marked.
    Marks,
    /// Who looks round sees nobody dead.
    Looks,
    /// Neither.
    MarksAndLooks,
    /// The wake-up that a dead thread had received, or was about to give, is not passed on.
    Forwarding,
    /// A change of a word and the wake-up of its sleepers are two steps.
    OneStep,
}

thread_local! {
    static KERNEL: RefCell<Kernel> = RefCell::default();
    static WITHOUT: Cell<Without> = const { Cell::new(Without::Nothing) };
    /// Whether a victim has died in any execution.
    static DIED_AT_ALL: Cell<bool> = const { Cell::new(false) };
    static EXECUTIONS: Cell<u64> = const { Cell::new(0) };
    /// Before which of its steps the first thread that is no victim dies, if any does.
    static SECOND: Cell<Option<u32>> = const { Cell::new(None) };
    static DIED_TWICE: Cell<bool> = const { Cell::new(false) };
}

fn with<T>(body: impl FnOnce(&mut Kernel) -> T) -> T {
    KERNEL.with_borrow_mut(body)
}

/// The payload of a death.
struct Death;

/// The calling thread's place in the kernel's table.
pub fn current() -> usize {
    let id = loom::thread::current().id();
    with(|kernel| {
        kernel.threads.iter().position(|thread| thread.handle.as_ref().is_some_and(|it| it.id() == id))
    })
    .expect("every thread of a model is begun by `begin` or `spawn`")
}

pub fn on_thread<T>(index: usize, body: impl FnOnce(&mut Thread) -> T) -> T {
    with(|kernel| body(&mut kernel.threads[index]))
}

/// Forgets the last execution. The caller becomes the first thread.
pub fn begin() {
    EXECUTIONS.set(EXECUTIONS.get() + 1);
    let first = Thread { handle: Some(loom::thread::current()), ..Thread::default() };
    KERNEL.set(Kernel { threads: vec![first], second: SECOND.get(), ..Kernel::default() });
}

/// A thread that dies before its step number `dies`, counted from 1.
pub fn spawn(dies: Option<u32>, body: impl FnOnce() + 'static) {
    let index = with(|kernel| {
        let second = if dies.is_none() { kernel.second.take() } else { None };
        kernel.threads.push(Thread { steps: dies.or(second), second: second.is_some(), ..Thread::default() });
        kernel.threads.len() - 1
    });
    loom::thread::spawn(move || {
        on_thread(index, |thread| thread.handle = Some(loom::thread::current()));
        match catch_unwind(AssertUnwindSafe(body)) {
            Ok(()) => assert!(on_thread(index, |thread| thread.held.is_empty()), "it ends and holds a lock"),
            Err(payload) if payload.is::<Death>() => exit(index),
            Err(payload) => resume_unwind(payload),
        }
        on_thread(index, |thread| thread.ended = true);
        settle();
    });
}

/// The victim may die here.
pub fn step() {
    let index = current();
    let dies = on_thread(index, |thread| match &mut thread.steps {
        Some(steps) => {
            *steps = steps.saturating_sub(1);
            *steps == 0
        }
        None => false,
    });
    if dies {
        let cell = if on_thread(index, |thread| thread.second) { &DIED_TWICE } else { &DIED_AT_ALL };
        cell.set(true);
        resume_unwind(Box::new(Death));
    }
}

/// What the kernel does at a thread's end: the list, the newest entry first, then the pending one. Only then can others
/// see that it has ended.
fn exit(index: usize) {
    let (held, pending) =
        on_thread(index, |thread| (std::mem::take(&mut thread.held), thread.pending.take()));
    let tid = tid(index);
    for (spot, _) in held.iter().rev().filter(|(spot, _)| Some(*spot) != pending) {
        mark(spot.word(), tid, false);
    }
    if let Some(spot) = pending {
        mark(spot.word(), tid, true);
    }
    // Whoever hears of the end from the kernel sees what was done before.
    fence(Ordering::SeqCst);
    with(|kernel| {
        kernel.died = true;
        // Those that look round for one death do so for the next.
        kernel.most_rounds = kernel.most_rounds.max(kernel.rounds + LOOKS);
    });
}

/// Whether another has died than the model's victim.
pub fn has_second_died() -> bool {
    with(|kernel| kernel.threads.iter().any(|thread| thread.second && thread.steps == Some(0)))
}

/// Whether a thread has ended, for those that look round.
pub fn has_ended(tid: u32) -> bool {
    let ended = !matches!(WITHOUT.get(), Without::Looks | Without::MarksAndLooks)
        && on_thread(tid as usize - 1, |thread| thread.ended);
    if ended {
        fence(Ordering::SeqCst);
    }
    ended
}

fn mark(word: &AtomicU32, tid: u32, pending: bool) {
    let mut value = word.now();
    loop {
        if pending && value & OWNER == 0 {
            if WITHOUT.get() != Without::Forwarding {
                wake(word, 1);
            }
            return;
        }
        if value & OWNER != tid || matches!(WITHOUT.get(), Without::Marks | Without::MarksAndLooks) {
            return;
        }
        match word.exchange(value, value & WAITERS | DIED) {
            Ok(_) => break,
            Err(now) => value = now,
        }
    }
    if value & WAITERS != 0 {
        wake(word, 1);
    }
}

pub fn tid(index: usize) -> u32 {
    index as u32 + 1
}

/// Where nobody can go on: lets time pass for those that sleep for a time, if one has died; else wakes the first
/// thread, if it waits for the others to settle.
fn settle() {
    let next = with(|kernel| {
        let quiet = kernel.threads[1..].iter().all(|thread| thread.asleep || thread.ended);
        if !quiet || !(kernel.quiescing || kernel.threads[0].asleep) {
            return Vec::new();
        }
        let mut next = Vec::new();
        if kernel.died && kernel.rounds < kernel.most_rounds {
            for thread in kernel.threads.iter_mut().filter(|thread| thread.asleep && thread.timed) {
                (thread.asleep, thread.timed_out) = (false, true);
                next.extend(thread.handle.clone());
            }
            kernel.rounds += 1;
        }
        if next.is_empty() && kernel.quiescing {
            next.extend(kernel.threads[0].handle.clone());
        }
        next
    });
    next.into_iter().for_each(|thread| thread.unpark());
}

/// For the first thread: waits until all others sleep or have ended. How many sleep.
pub fn quiesce() -> usize {
    with(|kernel| (kernel.quiescing, kernel.most_rounds) = (true, kernel.rounds + LOOKS));
    loop {
        settle();
        let (settled, asleep) = with(|kernel| {
            let others = &kernel.threads[1..];
            let quiet = others.iter().all(|thread| thread.asleep || thread.ended);
            let looking = kernel.died
                && kernel.rounds < kernel.most_rounds
                && others.iter().any(|thread| thread.asleep && thread.timed);
            (quiet && !looking, others.iter().filter(|thread| thread.asleep).count())
        });
        if settled {
            with(|kernel| kernel.quiescing = false);
            return asleep;
        }
        loom::thread::park();
    }
}

pub fn futex_wait(word: &AtomicU32, expected: u32, deadline: Deadline) -> Wait {
    futex_wait_any(&[(word, expected)], deadline).map_or(Wait::Changed, |(wait, _)| wait)
}

/// As futex_waitv does it: one word after the other, each looked at and queued in one go.
pub fn futex_wait_any(words: &[(&AtomicU32, u32)], deadline: Deadline) -> Option<(Wait, usize)> {
    let me = current();
    step();
    if me == 0 {
        with(|kernel| kernel.most_rounds = kernel.rounds + LOOKS);
    }
    on_thread(me, |thread| (thread.timed, thread.timed_out) = (deadline != Deadline::NEVER, false));
    for (index, (word, expected)) in words.iter().enumerate() {
        if word.now() != *expected {
            return Some(rise(me).map_or((Wait::Changed, 0), |index| (Wait::Woken, index)));
        }
        with(|kernel| kernel.sleepers.push(Sleeper { word: *word, thread: me, index }));
    }
    // To die asleep is to die here: what another does to a thread that sleeps is done to one that has just begun to.
    if on_thread(me, |thread| thread.steps == Some(1)) {
        rise(me);
        step();
    }
    loop {
        if with(|kernel| kernel.woken.iter().any(|(thread, _)| *thread == me)) {
            return rise(me).map(|index| (Wait::Woken, index));
        }
        if on_thread(me, |thread| thread.timed_out) {
            rise(me);
            return Some((Wait::TimedOut, 0));
        }
        on_thread(me, |thread| thread.asleep = true);
        settle();
        loom::thread::park();
    }
}

/// Takes a thread off all queues; the last of the words by which it has been woken.
fn rise(me: usize) -> Option<usize> {
    with(|kernel| {
        kernel.sleepers.retain(|sleeper| sleeper.thread != me);
        let by = kernel.woken.iter().filter(|(thread, _)| *thread == me).map(|(_, index)| *index).max();
        kernel.woken.retain(|(thread, _)| *thread != me);
        by
    })
}

pub fn futex_wake(word: &AtomicU32, count: u32) -> u32 {
    step();
    wake(word, count)
}

/// Both in one step: no death comes between.
pub fn futex_change(word: &AtomicU32, change: Change, count: u32) {
    step();
    word.change(change);
    if WITHOUT.get() == Without::OneStep {
        step();
    }
    wake(word, count);
}

fn wake(word: &AtomicU32, count: u32) -> u32 {
    // Not for the value: so that loom tries this call before and after other calls on the same word.
    word.now();
    let mut woken = 0;
    while woken < count {
        let next = with(|kernel| {
            let at = kernel.sleepers.iter().position(|sleeper| std::ptr::eq(sleeper.word, word))?;
            let Sleeper { thread, index, .. } = kernel.sleepers.remove(at);
            kernel.woken.push((thread, index));
            kernel.threads[thread].asleep = false;
            kernel.threads[thread].handle.clone()
        });
        let Some(next) = next else { break };
        next.unpark();
        woken += 1;
    }
    woken
}

fn explore(preemptions: usize, dies: u32, model: fn(Option<u32>)) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 10_000;
    builder.check(move || {
        begin();
        model(Some(dies));
    });
}

/// Checks a model with a victim that dies before its first step, its second, and so on, until it reaches none.
/// The number of places to die at, and of executions.
pub fn check(preemptions: usize, without: Without, model: fn(Option<u32>)) -> (u32, u64) {
    WITHOUT.set(without);
    EXECUTIONS.set(0);
    for dies in 1.. {
        DIED_AT_ALL.set(false);
        explore(preemptions, dies, model);
        if !DIED_AT_ALL.get() {
            return (dies - 1, EXECUTIONS.get());
        }
    }
    unreachable!()
}

/// The same with two that die, the victim and another: before each step of the one, or each `stride`-th, each of the other.
pub fn check_two(preemptions: usize, stride: usize, without: Without, model: fn(Option<u32>)) -> (u32, u64) {
    WITHOUT.set(without);
    EXECUTIONS.set(0);
    let mut pairs = 0;
    for second in (1..).step_by(stride) {
        DIED_TWICE.set(false);
        SECOND.set(Some(second));
        for dies in (1..).step_by(stride) {
            DIED_AT_ALL.set(false);
            explore(preemptions, dies, model);
            if !DIED_AT_ALL.get() {
                break;
            }
            pairs += 1;
        }
        SECOND.set(None);
        if !DIED_TWICE.get() {
            break;
        }
    }
    (pairs, EXECUTIONS.get())
}
