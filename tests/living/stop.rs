//! One process for each instruction: it is stopped there, by the processor's trap flag and a handler in itself, until the
//! other one has done its part or sleeps; then it goes on to the end. Of loops, the first time round is enough: a run that
//! nothing stops leaves a trace.

use crate::step::{self, state, until, wait_end};
use std::cell::Cell;
use std::collections::HashSet;
use std::ffi::c_void;
use std::ptr::{null_mut, without_provenance_mut};
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU32, AtomicU64, Ordering::SeqCst};

/// What the two share. The objects have a page of their own, which may be gone or somebody else's.
#[repr(C)]
pub struct Shared {
    pub go: AtomicU32,
    pub finished: AtomicU32,
    other: AtomicI32,
    steps: AtomicU32,
    stop_at: AtomicU32,
    complete: AtomicU32,
    /// Not 0 while somebody is inside.
    pub inside: AtomicU32,
    pub deaths: AtomicU32,
    /// Whether the other one has the lock, and is to keep it.
    pub keeps: AtomicU32,
    /// What the operation returned.
    pub code: AtomicI32,
    /// What the memory is filled with once it has been given away; 0 before.
    pub filled: AtomicU32,
}

/// Where the objects are, in every process of a case.
pub const PAGE: *mut u8 = without_provenance_mut(0x5a5a_0000_0000);
pub const LENGTH: usize = 4096;

pub type Part = fn(&'static Shared);

/// What is done while the first is stopped.
pub enum Meanwhile {
    /// By another thread, which may free the memory.
    Thread(Part),
    /// By another process.
    Process(Part),
    /// By the first itself, in the handler.
    Handler(Part),
}

pub struct Case {
    pub operation: &'static str,
    pub meanwhile: &'static str,
    /// Environment for the library: its fallbacks.
    pub without: &'static str,
    pub prepare: Part,
    pub stepped: Part,
    pub other: Meanwhile,
    /// Whether the other one sleeps in its wait when the first step is made.
    pub asleep: bool,
    /// Whether the first is killed where it was stopped, and doesn't go on.
    pub dies: bool,
    /// By the first, at the end, when the other one has finished.
    pub check: Part,
    /// By a third process, when both are gone.
    pub after: Part,
}

pub const NOTHING: Part = |_| {};

impl Case {
    pub const fn new(operation: &'static str, meanwhile: &'static str, other: Meanwhile) -> Case {
        Case {
            operation,
            meanwhile,
            without: "",
            prepare: NOTHING,
            stepped: NOTHING,
            other,
            asleep: false,
            dies: false,
            check: NOTHING,
            after: NOTHING,
        }
    }
}

#[derive(Default)]
pub struct Outcome {
    pub places: u32,
    pub wrong: u32,
}

/// Where the first one came through, by step.
#[repr(C)]
struct Trace([AtomicU64; LONGEST]);
const LONGEST: usize = 1 << 17;
const NEVER: u32 = u32::MAX;

static TRACE: AtomicPtr<Trace> = AtomicPtr::new(null_mut());
static SHARED: AtomicPtr<Shared> = AtomicPtr::new(null_mut());
static HANDLED: AtomicPtr<Case> = AtomicPtr::new(null_mut());

/// Runs after each instruction.
extern "C" fn on_trap(_: i32, _: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: set before the flag; the context is the kernel's.
    let (shared, case, registers) = unsafe {
        let context = &mut *context.cast::<libc::ucontext_t>();
        (&*SHARED.load(SeqCst), &*HANDLED.load(SeqCst), &mut context.uc_mcontext.gregs)
    };
    if shared.complete.load(SeqCst) != 0 {
        return;
    }
    let steps = shared.steps.fetch_add(1, SeqCst) + 1;
    let stop_at = shared.stop_at.load(SeqCst);
    // SAFETY: mapped as long as a run may have this number.
    let trace = (stop_at == NEVER).then(|| unsafe { &*TRACE.load(SeqCst) });
    if let Some(place) = trace.and_then(|trace| trace.0.get(steps as usize)) {
        place.store(registers[libc::REG_RIP as usize] as u64, SeqCst);
    }
    if steps != stop_at {
        return;
    }
    registers[libc::REG_EFL as usize] &= !0x100; // The rest goes freely.
    if let Meanwhile::Handler(part) = case.other {
        part(shared);
        shared.finished.store(1, SeqCst);
    } else {
        shared.go.store(1, SeqCst);
        wait_for_other(shared);
    }
    if case.dies {
        // SAFETY: ends this process, as a kill from outside would.
        unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
    }
}

/// Waits until the other one has finished, or sleeps: then it waits for this one.
fn wait_for_other(shared: &Shared) {
    let asleep = Cell::new(0);
    let done = until(|| {
        let sleeps = state(shared.other.load(SeqCst)) == b'S';
        asleep.set(if sleeps { asleep.get() + 1 } else { 0 });
        shared.finished.load(SeqCst) != 0 || asleep.get() > 20
    });
    assert!(done, "the other one neither finishes nor sleeps");
}

/// The other one's life.
fn accompany(shared: &'static Shared, part: Part) {
    // SAFETY: no pointers.
    shared.other.store(unsafe { libc::syscall(libc::SYS_gettid) } as i32, SeqCst);
    while shared.go.load(SeqCst) == 0 {
        step::pause();
    }
    part(shared);
    shared.finished.store(1, SeqCst);
}

/// The trap flag.
fn set_flag(on: bool) {
    // SAFETY: the flag alone, on this thread's own stack.
    unsafe {
        if on {
            std::arch::asm!("pushfq", "or qword ptr [rsp], 0x100", "popfq");
        } else {
            std::arch::asm!("pushfq", "and qword ptr [rsp], -257", "popfq");
        }
    }
}

fn first(case: &'static Case, shared: &'static Shared) {
    if !case.without.is_empty() {
        // SAFETY: this process has one thread still.
        unsafe { std::env::set_var("TINE_FORCE_NO", case.without) };
    }
    (case.prepare)(shared);
    let process = match case.other {
        Meanwhile::Thread(part) => {
            std::thread::spawn(move || accompany(shared, part));
            0
        }
        Meanwhile::Process(part) => step::spawn(|| {
            // It outlives a first one that is killed.
            // SAFETY: plain system calls.
            unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, 0) };
            accompany(shared, part);
        }),
        Meanwhile::Handler(_) => 0,
    };
    if !matches!(case.other, Meanwhile::Handler(_)) {
        assert!(until(|| shared.other.load(SeqCst) != 0));
    }
    if case.asleep {
        shared.go.store(1, SeqCst);
        wait_for_other(shared);
    }
    SHARED.store(step::pointer(shared), SeqCst);
    HANDLED.store(step::pointer(case), SeqCst);
    // SAFETY: a handler for this process's own steps; it runs on the thread's stack.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_trap as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO;
        libc::sigaction(libc::SIGTRAP, &action, null_mut());
    }
    set_flag(true);
    (case.stepped)(shared);
    shared.complete.store(1, SeqCst);
    set_flag(false);
    shared.go.store(1, SeqCst);
    if !matches!(case.other, Meanwhile::Handler(_)) {
        assert!(until(|| shared.finished.load(SeqCst) != 0 || shared.keeps.load(SeqCst) != 0), "it hangs");
    }
    (case.check)(shared);
    shared.keeps.store(0, SeqCst);
    if process != 0 {
        assert_eq!(wait_end(process), 0);
    }
}

fn clear(shared: &'static Shared, stop_at: u32) {
    // SAFETY: nobody uses either now; the page is mapped anew in place of the last one, and zero.
    unsafe {
        std::ptr::from_ref(shared).cast_mut().write_bytes(0, 1);
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let at = libc::mmap(PAGE.cast(), LENGTH, protection, flags, -1, 0);
        assert_eq!(at, PAGE.cast());
    }
    shared.stop_at.store(stop_at, SeqCst);
}

/// The steps at which an instruction is met for the first time. The handler's part is never done in this run.
fn places(case: &'static Case, shared: &'static Shared) -> Vec<u32> {
    let trace: &'static Trace = step::map();
    TRACE.store(step::pointer(trace), SeqCst);
    clear(shared, NEVER);
    let status = wait_end(step::spawn(|| first(case, shared)));
    assert_eq!(status, 0, "{} {}: fails with nobody stopped", case.operation, case.meanwhile);
    let mut met = HashSet::new();
    let steps = shared.steps.load(SeqCst);
    assert!((1..LONGEST as u32).contains(&steps), "{steps} steps");
    let mut places: Vec<u32> =
        (1..=steps).filter(|step| met.insert(trace.0[*step as usize].load(SeqCst))).collect();
    if std::env::var_os("TINE_STORM").is_none() && places.len() > ENOUGH {
        let all = places.len();
        places = (0..ENOUGH).map(|index| places[index * all / ENOUGH]).collect();
    }
    // SAFETY: nobody uses it any more.
    unsafe { libc::munmap(step::pointer(trace).cast(), size_of::<Trace>()) };
    places
}

/// So many places of a long operation where there is little time, all along it.
const ENOUGH: usize = 40;

pub fn everywhere(case: &'static Case) -> Outcome {
    let shared: &'static Shared = step::map();
    let mut outcome = Outcome::default();
    for stop_at in places(case, shared) {
        clear(shared, stop_at);
        let status = wait_end(step::spawn(|| first(case, shared)));
        // One that is stopped and killed leaves the other one to end by itself.
        let killed = case.dies && shared.complete.load(SeqCst) == 0;
        let expected = if killed { libc::SIGKILL } else { 0 };
        let settled = !killed || until(|| shared.finished.load(SeqCst) != 0);
        let after = wait_end(step::spawn(|| (case.after)(shared)));
        outcome.places += 1;
        if status != expected || !settled || after != 0 {
            outcome.wrong += 1;
            eprintln!(
                "{} {}: stopped after {stop_at}: status {status:#x}, settled {settled}, afterwards {after:#x}",
                case.operation, case.meanwhile
            );
        }
        if outcome.wrong >= 5 {
            break;
        }
    }
    outcome
}
