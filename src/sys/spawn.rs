//! Starting a process that is nobody's child.
//!
//! The host must never see tine's processes among its children: neither in wait(), nor as a SIGCHLD, nor through a
//! SIGCHLD disposition of its own. So a process is started in two steps. The first is a clone that shares the host's
//! memory, has no exit signal (plain wait() does not see such children) and suspends the calling thread, as
//! vfork does; it makes the second, which is the process proper, and ends. The second is then an orphan, and belongs
//! to init or to the nearest subreaper.
//!
//! The first step is the host's own: whoever kills it kills a part of the host, and only for the start method `fork`
//! is there anything in it that the host could miss.
//!
//! A host that is a subreaper or PID 1 would get the orphan back. There the first step stays, as a *keeper*: it is a
//! subreaper between the host and the family, takes in whatever the family leaves, and ends with the last of it. It
//! shares the host's memory for good, so it runs nothing but a loop of system calls on a stack of its own.

use crate::error::{Code, Error, Result};
use crate::sys::environment;
use crate::sys::memory::Mapping;
use crate::sys::signal::{self, AllBlocked};
use std::ffi::{CStr, c_char, c_int, c_void};
use std::os::fd::RawFd;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

/// The descriptor under which a started program finds its socket.
pub const CHILD_SOCKET: RawFd = 3;

/// What the new process does.
pub(crate) enum Start<'a> {
    /// Executes a program. All strings are made beforehand: nothing may be allocated between clone and exec.
    Exec { path: &'a CStr, argv: &'a [*const c_char], envp: &'a [*const c_char], socket: RawFd },
    /// Goes on as a copy of this process, like a child of fork.
    Fork { run: &'a mut dyn FnMut() },
}

/// A keeper that stays between the host and the family; the host reaps it when the family has ended.
pub(crate) struct Keeper {
    pid: c_int,
    stack: Option<Mapping>,
}

struct Plan<'a> {
    start: Start<'a>,
    keep: bool,
    inner_stack: *mut c_void,
    pid: c_int,
    errno: c_int,
    /// The first step is inside the C library's fork, which holds locks of the host's.
    forking: bool,
    /// 0 until the process is started or has failed to; then 1. The keeper's Release store pairs with the host's
    /// Acquire load.
    settled: AtomicU32,
}

/// Virtual size of each of the two stacks. A forked supervisor and its workers stay on theirs, so it is a full one.
const STACK_BYTES: usize = 8 << 20;

/// Starts a process that is nobody's child. Returns its number (0 where an emulator hides it) and the keeper.
pub(crate) fn detached(start: Start<'_>) -> Result<(i32, Option<Keeper>)> {
    Keeper::reap_left();
    let stack = Mapping::stack(2 * STACK_BYTES)?;
    let keep = signal::adopts_orphans();
    let mut plan = Plan {
        start,
        keep,
        // SAFETY: the middle and the end of the mapping; stacks grow down.
        inner_stack: unsafe { stack.pointer().add(STACK_BYTES) }.cast(),
        pid: 0,
        errno: 0,
        forking: false,
        settled: AtomicU32::new(0),
    };
    // SAFETY: as above.
    let outer_stack = unsafe { stack.pointer().add(2 * STACK_BYTES) }.cast();
    let blocked = AllBlocked::new();
    // The descriptors need not be copied twice: while this thread is suspended nobody is in the way.
    let suspend = if keep { 0 } else { libc::CLONE_VFORK | libc::CLONE_FILES };
    let argument = (&raw mut plan).cast();
    // SAFETY: the child has a stack of its own, and `plan` outlives its use of it: with CLONE_VFORK this thread is
    // suspended until the child has ended, without it the loop below waits until the child has settled the plan.
    let first = unsafe { libc::clone(first_step, outer_stack, libc::CLONE_VM | suspend, argument) };
    if first < 0 {
        return Err(Error::last_os("clone"));
    }
    if keep {
        while plan.settled.load(Ordering::Acquire) == 0 {
            crate::sys::futex::futex_wait(&plan.settled, 0, crate::sys::clock::Deadline::NEVER);
        }
    } else {
        wait_for(first);
    }
    if plan.forking {
        // Somebody has killed the first step, which is a part of the host, in the middle of the C library's fork. Its
        // locks, malloc's among them, will never be free again: an end is better than a host that hangs.
        environment::complain("tine: the host was killed while it forked its supervisor\n");
        environment::abort();
    }
    drop(blocked);
    let keeper = keep.then_some(Keeper { pid: first, stack: Some(stack) });
    if plan.errno != 0 {
        let what = match &plan.start {
            Start::Exec { path, .. } => format!("starting {}", path.to_string_lossy()),
            Start::Fork { .. } => "fork".to_owned(),
        };
        let text = Code::errno(plan.errno).text().to_string_lossy();
        return Err(Error::errno(plan.errno, format!("{what}: {text}")));
    }
    Ok((plan.pid, keeper))
}

/// Keepers that still keep, for nobody in particular. They are looked at whenever a process is started or a keeper let go.
static LEFT: Mutex<Vec<Keeper>> = Mutex::new(Vec::new());

impl Keeper {
    /// Lets it keep for as long as there is a family. It is reaped by a later call.
    pub(crate) fn leave(self) {
        Keeper::reap_left();
        if let Ok(mut left) = LEFT.try_lock() {
            left.push(self);
        } else {
            std::mem::forget(self);
        }
    }

    /// Lets go of those that have ended. Never waits: in a forked child, a thread that is not there may hold the lock.
    fn reap_left() {
        let Ok(mut left) = LEFT.try_lock() else { return };
        left.retain_mut(|keeper| {
            // SAFETY: a child of ours by its number, or nobody's in particular: then it has been waited for, or is the
            // child of a process of which this one is a forked copy, and so is the stack.
            let running =
                unsafe { libc::waitpid(keeper.pid, std::ptr::null_mut(), libc::__WCLONE | libc::WNOHANG) }
                    == 0;
            if !running {
                drop(keeper.stack.take());
                keeper.pid = 0;
            }
            running
        });
    }
}

impl Drop for Keeper {
    /// The family has ended or is about to, and its keeper with it. Where a killed supervisor has left behind what its
    /// workers had started, the keeper stays for that, and so does its stack.
    fn drop(&mut self) {
        if self.pid == 0 {
            return; // It has been reaped.
        }
        let ended = match crate::sys::pidfd::open(self.pid) {
            Ok(pidfd) => {
                use std::os::fd::AsRawFd;
                crate::sys::pidfd::wait_end(
                    pidfd.as_raw_fd(),
                    crate::sys::clock::Deadline::after(100_000_000),
                )
            }
            Err(_) => true,
        };
        match self.stack.take() {
            Some(stack) if !ended => Keeper { pid: self.pid, stack: Some(stack) }.leave(),
            _ => wait_for(self.pid),
        }
    }
}

fn wait_for(pid: c_int) {
    // SAFETY: waiting for a child of ours by its number, which stays its own until it has been waited for.
    while unsafe { libc::waitpid(pid, std::ptr::null_mut(), libc::__WALL) } < 0
        && super::errno() == libc::EINTR
    {}
}

extern "C" fn first_step(argument: *mut c_void) -> c_int {
    // SAFETY: the plan is valid until it is settled (keeper) or until this process ends (suspended host).
    let plan = unsafe { &mut *argument.cast::<Plan<'_>>() };
    // The host's thread is suspended, or waits in a futex call that fails for no reason; both leave errno, which this
    // process shares with it, alone.
    let keep = plan.keep;
    if keep {
        let _ = signal::adopt_orphans();
    }
    match &mut plan.start {
        Start::Exec { .. } => {
            // SAFETY: as in `detached`; this process is suspended until the new one has executed or ended.
            let pid = unsafe {
                let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
                libc::clone(exec_step, plan.inner_stack, flags, argument)
            };
            if pid < 0 {
                plan.errno = super::errno();
            } else if plan.errno != 0 {
                wait_for(pid);
            }
            plan.pid = pid;
        }
        Start::Fork { run } => {
            plan.forking = true;
            // SAFETY: to the C library this is the host's calling thread, which does not run meanwhile.
            let pid = unsafe { libc::fork() };
            plan.forking = false;
            if pid == 0 {
                run();
                signal::exit_now(0);
            }
            if pid < 0 {
                plan.errno = super::errno();
            }
            plan.pid = pid;
        }
    }
    if keep {
        let settled = &raw const plan.settled;
        // From the store on, the host's thread runs again: nothing here may touch what the two share, not even errno.
        // SAFETY: the word is valid until the store; the wake-up may meet an address that is no longer in use.
        unsafe {
            (*settled).store(1, Ordering::Release);
            raw::wake_and_keep(settled.cast_mut().cast());
        }
    }
    signal::exit_now(0)
}

extern "C" fn exec_step(argument: *mut c_void) -> c_int {
    // SAFETY: the plan is valid, and nobody else runs on it until this process has executed or ended.
    let plan = unsafe { &mut *argument.cast::<Plan<'_>>() };
    if let Start::Exec { path, argv, envp, socket } = &plan.start {
        become_child(*socket, true);
        // SAFETY: null-terminated arrays of C strings.
        unsafe { libc::execve(path.as_ptr(), argv.as_ptr(), envp.as_ptr()) };
    }
    plan.errno = super::errno();
    signal::exit_now(127)
}

/// What every process of the family does first: default signals, its socket at its place, no other descriptors.
///
/// Async-signal-safe. `own_session` keeps a terminal's Ctrl-C, Ctrl-Z and hang-up for the host.
pub(crate) fn become_child(socket: RawFd, own_session: bool) {
    signal::reset_all();
    if own_session {
        // SAFETY: no pointers.
        unsafe { libc::setsid() };
    }
    place_socket(socket);
    super::fd::null_standard(0, true);
    super::fd::null_standard(1, false);
    super::fd::null_standard(2, false);
    super::fd::close_all_but(&[CHILD_SOCKET]);
}

fn place_socket(socket: RawFd) {
    // SAFETY: plain calls on numbers. dup2 to itself would leave close-on-exec set.
    unsafe {
        if socket == CHILD_SOCKET {
            libc::fcntl(socket, libc::F_SETFD, 0);
        } else {
            libc::dup2(socket, CHILD_SOCKET);
        }
    }
}

/// The keeper's loop, in bare system calls: it shares memory, and with it the thread pointer and errno, with a thread
/// of the host that runs at the same time.
mod raw {
    use std::ffi::c_long;

    /// Wakes the host's thread, closes all descriptors, reaps until no child is left, and ends.
    pub(super) unsafe fn wake_and_keep(word: *mut u32) -> ! {
        // SAFETY: system calls without pointers but for the futex word, which may be gone, and that is only an error.
        unsafe {
            call4(libc::SYS_futex, word as c_long, c_long::from(libc::FUTEX_WAKE), 1, 0);
            call4(libc::SYS_close_range, 0, c_long::from(u32::MAX), 0, 0);
            loop {
                let rc = call4(libc::SYS_wait4, -1, 0, c_long::from(libc::__WALL), 0);
                if rc < 0 && rc != -c_long::from(libc::EINTR) {
                    call4(libc::SYS_exit_group, 0, 0, 0, 0);
                }
            }
        }
    }

    #[cfg(target_arch = "x86_64")]
    unsafe fn call4(number: c_long, a: c_long, b: c_long, c: c_long, d: c_long) -> c_long {
        let result;
        // SAFETY: the kernel's calling convention on x86_64; the caller answers for the call itself.
        unsafe {
            std::arch::asm!("syscall", inlateout("rax") number => result, in("rdi") a, in("rsi") b, in("rdx") c,
                in("r10") d, lateout("rcx") _, lateout("r11") _, options(nostack));
        }
        result
    }

    #[cfg(target_arch = "aarch64")]
    unsafe fn call4(number: c_long, a: c_long, b: c_long, c: c_long, d: c_long) -> c_long {
        let result;
        // SAFETY: the kernel's calling convention on aarch64; the caller answers for the call itself.
        unsafe {
            std::arch::asm!("svc 0", in("x8") number, inlateout("x0") a => result, in("x1") b, in("x2") c,
                in("x3") d, options(nostack));
        }
        result
    }
}
