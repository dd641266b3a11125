//! Stops a victim after so many instructions of its operation: by the processor's trap flag and a handler in the
//! victim itself where that is known how to do, which is ten times as quick; by ptrace elsewhere.

use super::{Shared, pause, state};
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

/// What victim and killer tell each other.
#[repr(C)]
pub struct Progress {
    /// After how many steps to stop.
    limit: AtomicU32,
    done: AtomicU32,
    /// Sleeps count as steps of their own: to die asleep, and to die having been woken.
    slept: AtomicU32,
    stopped: AtomicU32,
}

/// How a run ended.
#[derive(PartialEq, Eq)]
pub enum Stopped {
    /// After the instruction, or asleep in it.
    AtLimit,
    /// The operation was over before.
    Complete,
}

pub fn set_limit(shared: &Shared, steps: u32) {
    shared.progress.limit.store(steps, SeqCst);
}

#[cfg(target_arch = "x86_64")]
mod by {
    use super::*;
    use std::ffi::c_void;
    use std::ptr::null_mut;
    use std::sync::atomic::AtomicPtr;

    const TRAP: i64 = 0x100;

    static SHARED: AtomicPtr<Shared> = AtomicPtr::new(null_mut());

    /// Runs after each instruction. (After a system call it runs one later, and that one is the C library's look at
    /// the result, which changes nothing for anybody.)
    extern "C" fn on_trap(_: i32, _: *mut libc::siginfo_t, context: *mut c_void) {
        // SAFETY: set before the flag; the context is the kernel's.
        let (shared, context) = unsafe { (&*SHARED.load(SeqCst), &mut *context.cast::<libc::ucontext_t>()) };
        let progress = &shared.progress;
        match shared.mark.load(SeqCst) {
            0 => {}
            1 => {
                let done = progress.done.fetch_add(1, SeqCst) + 1;
                if done + progress.slept.load(SeqCst) >= progress.limit.load(SeqCst) {
                    progress.stopped.store(1, SeqCst);
                    loop {
                        // SAFETY: sleeps until it is killed.
                        unsafe { libc::pause() };
                    }
                }
            }
            _ => context.uc_mcontext.gregs[libc::REG_EFL as usize] &= !TRAP,
        }
    }

    /// For the victim: from here on it is stepped.
    pub fn begin(shared: &'static Shared) {
        SHARED.store(super::super::pointer(shared), SeqCst);
        // SAFETY: a handler that touches nothing but the shared memory; then the flag, on this thread's own stack.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = on_trap as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO;
            libc::sigaction(libc::SIGTRAP, &action, null_mut());
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

    pub fn begin(_: &'static Shared) {
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
