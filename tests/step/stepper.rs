//! Stops a victim after so many instructions of its operation: by the processor's trap flag and a handler in the
//! victim itself where that is known how to do, which is quicker; by ptrace elsewhere.
//!
//! A first run leaves a trace. Later ones run freely up to an instruction shortly before their limit, the last one that
//! was met there for the first time, and are stepped from there. Where a run goes another way, it is stepped from its
//! beginning.

use super::{Shared, map, pause, state};
use std::collections::HashSet;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};

const LONGEST: usize = 1 << 15;

/// Where the victim was after each step.
pub struct Trace {
    next: [AtomicU64; LONGEST],
}

/// The instructions that a trace meets for the first time, and after how many steps.
pub type Landmarks = Vec<(u32, u64)>;

pub fn new_trace() -> &'static Trace {
    map()
}

impl Trace {
    fn put(&self, steps: u32, address: u64) {
        if let Some(place) = self.next.get(steps as usize) {
            place.store(address, SeqCst);
        }
    }

    pub fn landmarks(&self, steps: u32) -> Landmarks {
        /// The kernel's own pages are above, where no breakpoint can be put.
        const HIGHEST: u64 = 0x7ff0_0000_0000;
        let mut met = HashSet::new();
        let trace = self.next.iter().take(steps as usize).enumerate().skip(1);
        trace
            .map(|(steps, address)| (steps as u32, address.load(SeqCst)))
            .filter(|(_, address)| met.insert(*address) && (1..HIGHEST).contains(address))
            .collect()
    }
}

/// What victim and killer tell each other.
#[repr(C)]
pub struct Progress {
    /// After how many steps to stop.
    limit: AtomicU32,
    done: AtomicU32,
    /// Sleeps count as steps of their own: to die asleep, and to die having been woken.
    slept: AtomicU32,
    stopped: AtomicU32,
    /// Where to run freely to, if anywhere, and after how many steps that is.
    landmark: AtomicU64,
    landmark_steps: AtomicU32,
}

/// How a run ended.
#[derive(PartialEq, Eq)]
pub enum Stopped {
    /// After the instruction, or asleep in it.
    AtLimit,
    /// The operation was over before.
    Complete,
}

pub fn set_limit(shared: &Shared, steps: u32, landmarks: &[(u32, u64)]) {
    shared.progress.limit.store(steps, SeqCst);
    let before = landmarks.partition_point(|landmark| landmark.0 < steps);
    if let Some((steps, address)) = before.checked_sub(1).map(|index| landmarks[index]) {
        shared.progress.landmark_steps.store(steps, SeqCst);
        shared.progress.landmark.store(address, SeqCst);
    }
}

/// How many steps a run made.
pub fn steps(shared: &Shared) -> u32 {
    shared.progress.done.load(SeqCst) + shared.progress.slept.load(SeqCst)
}

#[cfg(target_arch = "x86_64")]
mod by {
    use super::*;
    use std::ffi::c_void;
    use std::ptr::null_mut;
    use std::sync::atomic::AtomicPtr;

    const TRAP: i64 = 0x100;

    static SHARED: AtomicPtr<Shared> = AtomicPtr::new(null_mut());
    static TRACE: AtomicPtr<Trace> = AtomicPtr::new(null_mut());
    /// The breakpoint, and the byte that it stands in place of.
    static PLANTED: AtomicU64 = AtomicU64::new(0);
    static BYTE: AtomicU32 = AtomicU32::new(0);
    const BREAKPOINT: u8 = 0xcc;

    /// Runs after each instruction. (After a system call it runs one later, and that one is the C library's look at
    /// the result, which changes nothing for anybody.)
    extern "C" fn on_trap(_: i32, _: *mut libc::siginfo_t, context: *mut c_void) {
        // SAFETY: set before the flag; the context is the kernel's.
        let (shared, context) = unsafe { (&*SHARED.load(SeqCst), &mut *context.cast::<libc::ucontext_t>()) };
        let progress = &shared.progress;
        let registers = &mut context.uc_mcontext.gregs;
        let planted = PLANTED.swap(0, SeqCst);
        if planted != 0 {
            // SAFETY: `plant` made it writable.
            unsafe { (planted as *mut u8).write_volatile(BYTE.load(SeqCst) as u8) };
            registers[libc::REG_RIP as usize] = planted as i64;
            registers[libc::REG_EFL as usize] |= TRAP;
            let steps = progress.landmark_steps.load(SeqCst);
            progress.done.store(steps.saturating_sub(progress.slept.load(SeqCst)), SeqCst);
            return;
        }
        match shared.mark.load(SeqCst) {
            0 => {}
            1 => {
                let done = progress.done.fetch_add(1, SeqCst) + 1;
                let steps = done + progress.slept.load(SeqCst);
                // SAFETY: null, or set before the flag.
                if let Some(trace) = unsafe { TRACE.load(SeqCst).as_ref() } {
                    trace.put(steps, registers[libc::REG_RIP as usize] as u64);
                }
                if steps >= progress.limit.load(SeqCst) {
                    progress.stopped.store(1, SeqCst);
                    loop {
                        // SAFETY: sleeps until it is killed.
                        unsafe { libc::pause() };
                    }
                }
            }
            _ => registers[libc::REG_EFL as usize] &= !TRAP,
        }
    }

    /// Puts a breakpoint into this process's copy of the code; whether it could.
    fn plant(address: u64) -> bool {
        let page = address & !0xfff;
        // SAFETY: this process's own code, which nobody else runs.
        unsafe {
            let all = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
            if libc::mprotect(page as *mut c_void, 4096, all) != 0 {
                return false;
            }
            let at = address as *mut u8;
            BYTE.store(u32::from(at.read_volatile()), SeqCst);
            PLANTED.store(address, SeqCst);
            at.write_volatile(BREAKPOINT);
        }
        true
    }

    /// For the victim: from here on it is stepped. `trace` gets where it goes, where that isn't known yet.
    pub fn begin(shared: &'static Shared, trace: Option<&'static Trace>) {
        SHARED.store(super::super::pointer(shared), SeqCst);
        TRACE.store(trace.map_or(null_mut(), super::super::pointer), SeqCst);
        // SAFETY: a handler that touches nothing but the shared memory; then the flag, on this thread's own stack.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = on_trap as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO;
            libc::sigaction(libc::SIGTRAP, &action, null_mut());
            let landmark = shared.progress.landmark.load(SeqCst);
            if landmark != 0 && plant(landmark) {
                return;
            }
            std::arch::asm!("pushfq", "or qword ptr [rsp], 0x100", "popfq");
        }
    }

    /// For the killer: waits for the victim to begin.
    pub fn wait_begun(_victim: i32, _shared: &Shared) {}

    /// For the killer, once everybody is in place: lets the victim go on. Calls `asleep` when it sleeps.
    pub fn drive(victim: i32, shared: &Shared, mut asleep: impl FnMut()) -> Stopped {
        let progress = &shared.progress;
        let mut slept_at = None;
        loop {
            if progress.stopped.load(SeqCst) != 0 {
                return Stopped::AtLimit;
            }
            if shared.mark.load(SeqCst) == 2 {
                return Stopped::Complete;
            }
            let done = progress.done.load(SeqCst);
            match state(victim) {
                b'Z' | b'X' => return Stopped::Complete,
                b'S' if progress.stopped.load(SeqCst) == 0
                    && shared.mark.load(SeqCst) == 1
                    && progress.done.load(SeqCst) == done
                    && slept_at != Some(done) =>
                {
                    slept_at = Some(done);
                    if progress.slept.fetch_add(1, SeqCst) + 1 + done >= progress.limit.load(SeqCst) {
                        return Stopped::AtLimit;
                    }
                    asleep();
                }
                _ => pause(),
            }
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod by {
    use super::*;

    pub fn begin(_: &'static Shared, _: Option<&'static Trace>) {
        // SAFETY: plain system calls.
        unsafe {
            libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0);
            libc::raise(libc::SIGSTOP);
        }
    }

    pub fn wait_begun(victim: i32, _: &Shared) {
        // SAFETY: a place for the status.
        unsafe { libc::waitpid(victim, &mut 0, libc::__WALL) };
    }

    pub fn drive(victim: i32, shared: &Shared, mut asleep: impl FnMut()) -> Stopped {
        let limit = shared.progress.limit.load(SeqCst);
        let mut done = 0;
        while done < limit {
            // SAFETY: a stopped tracee of this process.
            unsafe { libc::ptrace(libc::PTRACE_SINGLESTEP, victim, 0, 0) };
            let mut sleeps = false;
            loop {
                let mut status = 0;
                // SAFETY: a place for the status.
                if unsafe { libc::waitpid(victim, &mut status, libc::WNOHANG | libc::__WALL) } == victim {
                    if !libc::WIFSTOPPED(status) {
                        return Stopped::Complete;
                    }
                    break;
                }
                if !sleeps && state(victim) == b'S' {
                    sleeps = true;
                    done += 1;
                    if done >= limit {
                        return Stopped::AtLimit;
                    }
                    asleep();
                }
                pause();
            }
            match shared.mark.load(SeqCst) {
                0 => {}
                1 => done += 1,
                _ => return Stopped::Complete,
            }
        }
        Stopped::AtLimit
    }
}

pub use by::{begin, drive, wait_begun};
