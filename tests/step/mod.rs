//! Kills a process after each instruction of an operation, one process per instruction, and looks whether the others
//! get on.
//!
//! A case names the processes: the victim, which is single-stepped; others that wait before the first step; what is
//! done when the victim sleeps in the kernel, so that it goes on; and what must hold after its death.

#[path = "stepper.rs"]
mod stepper;

use std::fs;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering::SeqCst};
use std::time::{Duration, Instant};
use stepper::Stopped;
use tine::ffi::sync::*;
use tine::ffi::sync_barrier::*;
use tine::ffi::sync_rwlock::*;
use tine::ffi::sync_signal::*;

/// Ten times what is promised: a wait that takes longer hangs.
pub const HANG: Duration = Duration::from_secs(5);
pub const HANG_NS: i64 = 5_000_000_000;

/// What all processes of a case share.
#[repr(C)]
pub struct Shared {
    pub mutex: tine_mutex,
    pub rwlock: tine_rwlock,
    pub semaphore: tine_semaphore,
    pub condition: tine_condition,
    pub event: tine_event,
    pub barrier: tine_barrier,
    pub once: tine_once,
    pub queue: QueueMemory,
    /// 1 while the victim's stepped operation runs, 2 afterwards.
    pub mark: AtomicU32,
    /// Not 0 while somebody changes what the lock protects.
    pub inside: AtomicU32,
    /// Units of whatever the case counts.
    pub tokens: AtomicU32,
    pub got: AtomicU32,
    pub deaths: AtomicU32,
    pub broken: AtomicU32,
    /// What a helper that holds something waits for.
    pub go: AtomicU32,
    pub ready: AtomicU32,
    pub torn: AtomicU32,
    set_up: AtomicU32,
    begin: AtomicU32,
    pub about: [AtomicU32; 4],
    pub codes: [AtomicI32; 4],
    progress: stepper::Progress,
}

/// Room for a small queue.
#[repr(C, align(64))]
pub struct QueueMemory(pub [u64; 256]);

impl Shared {
    /// How many waiters have been started.
    pub fn waiters(&self) -> u32 {
        self.about.iter().map(|about| about.load(SeqCst)).sum()
    }
}

pub type Step = fn(&'static Shared);

pub struct Case {
    pub primitive: &'static str,
    pub path: &'static str,
    pub scenario: &'static str,
    pub init: Step,
    /// Runs in a process of its own before the victim exists, until it has raised `ready`; then goes on.
    pub holder: Option<Step>,
    /// The victim, before the first step.
    pub setup: Step,
    /// The victim, stepped.
    pub operation: Step,
    /// Processes that sleep when the first step is made.
    pub waiters: &'static [Step],
    /// Whether the waiters come only when the victim sleeps too, behind it.
    pub waiters_behind: bool,
    /// Done when the victim sleeps.
    pub wake: Option<Step>,
    /// Done just before the kill and after it.
    pub barger: Option<(Step, Step)>,
    /// After the kill, in a new process; panics if something is wrong.
    pub check: Step,
    /// Much the same as another case, and slow: only where there is time.
    pub long: bool,
}

pub const NOTHING: Step = |_| {};

impl Case {
    pub const fn new(primitive: &'static str, path: &'static str, scenario: &'static str) -> Case {
        Case {
            primitive,
            path,
            scenario,
            init: NOTHING,
            holder: None,
            setup: NOTHING,
            operation: NOTHING,
            waiters: &[],
            waiters_behind: false,
            wake: None,
            barger: None,
            check: NOTHING,
            long: false,
        }
    }
}

#[derive(Clone, Copy)]
pub struct Outcome {
    pub points: u32,
    pub hung: u32,
    pub wrong: u32,
    pub slowest: Duration,
}

pub fn shared_memory() -> &'static Shared {
    map()
}

/// What the workers have found, and which of them does what.
pub struct Results {
    claimed: [AtomicU32; MOST_CASES],
    outcomes: std::cell::UnsafeCell<[Option<Outcome>; MOST_CASES]>,
}

const MOST_CASES: usize = 100;

pub fn results() -> &'static Results {
    map()
}

impl Results {
    pub fn claim(&self, index: usize) -> bool {
        self.claimed[index].swap(1, SeqCst) == 0
    }

    pub fn record(&self, index: usize, outcome: Outcome) {
        // SAFETY: only the process that claimed the case writes here, and nobody reads before it has ended.
        unsafe { (*self.outcomes.get())[index] = Some(outcome) };
    }

    pub fn get(&self, index: usize) -> Option<Outcome> {
        if self.claimed[index].load(SeqCst) == 0 {
            return None;
        }
        // SAFETY: the workers have ended.
        unsafe { (*self.outcomes.get())[index] }
    }
}

pub fn stay_on_processor(index: usize) {
    // SAFETY: a set of this function's own. Where there is no such processor, the call fails and nothing changes.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(index, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set);
    }
}

pub fn map<T>() -> &'static T {
    let length = size_of::<T>().next_multiple_of(4096);
    // SAFETY: a new mapping that is never unmapped; all zero is valid for both types that lie in one.
    unsafe {
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
        let at = libc::mmap(null_mut(), length, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0);
        assert_ne!(at, libc::MAP_FAILED);
        &*at.cast::<T>()
    }
}

pub fn pointer<T>(object: &T) -> *mut T {
    std::ptr::from_ref(object).cast_mut()
}

/// A process that runs `body` and ends with 0, or with 1 if it panics.
pub fn spawn(body: impl FnOnce()) -> i32 {
    // SAFETY: this program has one thread.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0);
    if pid == 0 {
        // SAFETY: plain system calls.
        unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
        let ok = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)).is_ok();
        // SAFETY: ends this process.
        unsafe { libc::_exit(i32::from(!ok)) };
    }
    pid
}

/// A while that this process has been running for. A machine that stood still, as a virtual one does when it is saved or
/// moved, does not make anything hang.
pub struct Limit {
    left: Duration,
    last: Instant,
}

impl Limit {
    /// Between two looks at the clock at most so much counts.
    const STEP: Duration = Duration::from_millis(100);

    pub fn new(left: Duration) -> Limit {
        Limit { left, last: Instant::now() }
    }

    pub fn is_over(&mut self) -> bool {
        let now = Instant::now();
        self.left = self.left.saturating_sub((now - self.last).min(Limit::STEP));
        self.last = now;
        self.left.is_zero()
    }
}

/// Waits for a process's end for as long as `limit`; its status.
pub fn reap(pid: i32, limit: Duration) -> Option<i32> {
    let mut limit = Limit::new(limit);
    loop {
        let mut status = 0;
        // SAFETY: a place for the status.
        match unsafe { libc::waitpid(pid, &mut status, libc::WNOHANG) } {
            0 if !limit.is_over() => pause(),
            0 => return None,
            _ => return Some(status),
        }
    }
}

/// Waits for a process's end; its status.
pub fn wait_end(pid: i32) -> i32 {
    let mut status = -1;
    // SAFETY: a place for the status.
    unsafe { libc::waitpid(pid, &mut status, 0) };
    status
}

pub fn kill(pid: i32) {
    // SAFETY: a child of this process that has not been reaped.
    unsafe { libc::kill(pid, libc::SIGKILL) };
}

/// Lets the others run: this machine may have one processor for them all.
pub fn pause() {
    // SAFETY: no pointers.
    unsafe { libc::sched_yield() };
}

pub fn state(pid: i32) -> u8 {
    let stat = fs::read(format!("/proc/{pid}/stat")).unwrap_or_default();
    let close = stat.iter().rposition(|byte| *byte == b')').unwrap_or(0);
    stat.get(close + 2).copied().unwrap_or(b'X')
}

/// Waits until a condition holds; whether it came to hold in time.
pub fn until(condition: impl Fn() -> bool) -> bool {
    let mut limit = Limit::new(HANG);
    while !condition() {
        if limit.is_over() {
            return false;
        }
        pause();
    }
    true
}

/// The way that the operation goes, as far as that is known.
#[derive(Default)]
struct Way {
    /// Where to write it down.
    trace: Option<&'static stepper::Trace>,
    landmarks: stepper::Landmarks,
}

struct Run {
    /// The operation ended before the kill was due.
    complete: bool,
    error: Option<String>,
    hung: bool,
    took: Duration,
}

fn zero(shared: &'static Shared) {
    // SAFETY: every process of the last run is gone.
    unsafe { pointer(shared).write_bytes(0, 1) };
}

fn start_waiters(case: &Case, shared: &'static Shared, pids: &mut Vec<i32>) {
    for (index, waiter) in case.waiters.iter().enumerate() {
        let pid = spawn(move || {
            shared.about[index].store(1, SeqCst);
            waiter(shared);
        });
        pids.push(pid);
        assert!(
            until(|| shared.about[index].load(SeqCst) == 1 && state(pid) == b'S'),
            "a waiter does not sleep"
        );
    }
}

/// Kills the victim after `steps` instructions of its operation.
fn run(case: &Case, shared: &'static Shared, steps: u32, way: &Way) -> Run {
    zero(shared);
    (case.init)(shared);
    let mut pids = Vec::new();
    if let Some(holder) = case.holder {
        pids.push(spawn(move || holder(shared)));
        assert!(until(|| shared.ready.load(SeqCst) == 1), "the holder is not ready");
    }
    let (setup, operation) = (case.setup, case.operation);
    stepper::set_limit(shared, steps, &way.landmarks);
    let trace = way.trace;
    let victim = spawn(move || {
        setup(shared);
        shared.set_up.store(1, SeqCst);
        until(|| shared.begin.load(SeqCst) == 1);
        stepper::begin(shared, trace);
        shared.mark.store(1, SeqCst);
        operation(shared);
        shared.mark.store(2, SeqCst);
    });
    assert!(until(|| shared.set_up.load(SeqCst) == 1), "the victim is not ready");
    if !case.waiters_behind {
        start_waiters(case, shared, &mut pids);
    }
    shared.begin.store(1, SeqCst);
    stepper::wait_begun(victim, shared);
    let mut woken = false;
    let stopped = stepper::drive(victim, shared, || {
        // A timed wait goes on by itself.
        if let Some(wake) = case.wake.filter(|_| !woken) {
            if case.waiters_behind {
                start_waiters(case, shared, &mut pids);
            }
            wake(shared);
            woken = true;
        }
    });
    let complete = stopped == Stopped::Complete;
    if let Some((before, _)) = case.barger {
        before(shared);
    }
    kill(victim);
    // SAFETY: a place for the status.
    unsafe { libc::waitpid(victim, &mut 0, libc::__WALL) };
    if let Some((_, after)) = case.barger {
        after(shared);
    }
    let began = Instant::now();
    shared.go.store(1, SeqCst);
    let mut result = Run { complete, error: None, hung: false, took: Duration::ZERO };
    let check = case.check;
    pids.push(spawn(move || check(shared)));
    for pid in pids.iter().rev() {
        match reap(*pid, 2 * HANG) {
            Some(0) => {}
            Some(status) => result.error = Some(format!("a process ended with status {status:#x}")),
            None => {
                result.hung = true;
                kill(*pid);
                reap(*pid, HANG);
            }
        }
    }
    result.took = began.elapsed();
    if shared.torn.load(SeqCst) != 0 {
        result.error = Some("somebody met torn data without being told".to_owned());
    }
    result
}

/// Kills at every instruction of a case, from the first to the operation's end.
pub fn kill_everywhere(case: &Case, shared: &'static Shared) -> Outcome {
    let mut outcome = Outcome { points: 0, hung: 0, wrong: 0, slowest: Duration::ZERO };
    let trace = stepper::new_trace();
    let whole = run(case, shared, u32::MAX, &Way { trace: Some(trace), ..Way::default() });
    if !whole.complete || whole.hung || whole.error.is_some() {
        eprintln!("{} {} {}: fails with nobody killed", case.primitive, case.path, case.scenario);
        return Outcome { points: 0, hung: 1, ..outcome };
    }
    let way = Way { trace: None, landmarks: trace.landmarks(stepper::steps(shared)) };
    for steps in 1.. {
        let mut run = run(case, shared, steps, &way);
        if run.complete {
            // It was over, or it went another way.
            run = self::run(case, shared, steps, &Way::default());
        }
        outcome.points += 1;
        outcome.slowest = outcome.slowest.max(run.took);
        if run.hung {
            outcome.hung += 1;
            eprintln!("{} {} {}: hung after {steps} steps", case.primitive, case.path, case.scenario);
        }
        if let Some(error) = run.error {
            outcome.wrong += 1;
            eprintln!("{} {} {}: after {steps} steps: {error}", case.primitive, case.path, case.scenario);
        }
        if run.complete || outcome.hung + outcome.wrong >= 5 {
            return outcome;
        }
    }
    unreachable!()
}
