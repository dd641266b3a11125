//! Signals: a process of tine's own starts with default dispositions and an empty mask; a host's are never touched.

use crate::error::{Error, Result};
use std::ffi::c_int;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicI32, Ordering};

/// The largest number of a signal.
pub(crate) const LAST: i32 = 64;

/// Blocks every signal of the calling thread until dropped.
pub(crate) struct AllBlocked(libc::sigset_t);

impl AllBlocked {
    /// Blocks.
    pub(crate) fn new() -> AllBlocked {
        // SAFETY: valid sets; the kernel and the C library keep the signals that cannot be blocked.
        unsafe {
            let mut all: libc::sigset_t = std::mem::zeroed();
            let mut before: libc::sigset_t = std::mem::zeroed();
            libc::sigfillset(&mut all);
            libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before);
            AllBlocked(before)
        }
    }
}

impl Drop for AllBlocked {
    fn drop(&mut self) {
        // SAFETY: the set that was in force before.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.0, std::ptr::null_mut()) };
    }
}

/// Gives every signal its default disposition and empties the calling thread's mask. In bare system calls: async-signal-safe, and
/// nothing that a sanitizer has put in the C library's place hears of it.
pub(crate) fn reset_all() {
    use super::raw::call;
    // The C library keeps those below its first real-time signal for itself.
    let mine = (1..32).chain(libc::SIGRTMIN()..=LAST);
    // The kernel's form: disposition, flags, restorer, mask. All zero is the default.
    let action = [0u64; 4];
    let none = 0u64;
    // SAFETY: a valid action and set; the signals that cannot be changed answer with an error that changes nothing.
    unsafe {
        for signal in mine {
            call(libc::SYS_rt_sigaction, [signal as usize, (&raw const action).addr(), 0, 8, 0, 0]);
        }
        let arguments = [libc::SIG_SETMASK as usize, (&raw const none).addr(), 0, 8, 0, 0];
        call(libc::SYS_rt_sigprocmask, arguments);
    }
}

/// The thread that reads about children. Release at installation, Acquire in the handler.
static CHILDREN_READER: AtomicI32 = AtomicI32::new(0);

/// A descriptor that is readable, in this thread, when children have ended; SIGCHLD is blocked in it from here on.
///
/// Where the program had threads before it came here, as those of other languages' runtimes have, the kernel tells
/// whichever of them has not blocked the signal, and the descriptor knows nothing of it. So they pass it on.
pub(crate) fn child_events() -> Result<OwnedFd> {
    CHILDREN_READER.store(super::owner::gettid() as i32, Ordering::Release);
    // SAFETY: valid sets, and a valid action; a runtime's threads may have little stack but that for signals.
    let fd = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = pass_on_child_event as extern "C" fn(c_int) as usize;
        action.sa_flags = libc::SA_ONSTACK | libc::SA_RESTART;
        libc::sigaction(libc::SIGCHLD, &action, std::ptr::null_mut());
        let mut child: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut child);
        libc::sigaddset(&mut child, libc::SIGCHLD);
        libc::sigprocmask(libc::SIG_BLOCK, &child, std::ptr::null_mut());
        libc::signalfd(-1, &child, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK)
    };
    super::fd::owned(libc::c_long::from(fd), "signalfd")
}

extern "C" fn pass_on_child_event(signal: c_int) {
    let reader = CHILDREN_READER.load(Ordering::Acquire);
    // SAFETY: no pointers; async-signal-safe. In the reader itself the signal is blocked, so it does not come back here.
    unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), reader, signal) };
}

/// Reads what has gathered in a descriptor of [`child_events`].
pub(crate) fn clear_child_events(fd: &OwnedFd) {
    // SAFETY: room for some records, which are not looked at: wait() says which children have ended.
    unsafe {
        let mut records: [libc::signalfd_siginfo; 8] = std::mem::zeroed();
        while libc::read(fd.as_raw_fd(), records.as_mut_ptr().cast(), size_of_val(&records)) > 0 {}
    }
}

/// The name of a signal, for messages.
pub fn name(signal: i32) -> String {
    macro_rules! names {
        ($($name:ident)*) => { match signal { $(libc::$name => stringify!($name).to_owned(),)* other => format!("signal {other}") } };
    }
    names! {
        SIGHUP SIGINT SIGQUIT SIGILL SIGTRAP SIGABRT SIGBUS SIGFPE SIGKILL SIGUSR1 SIGSEGV SIGUSR2 SIGPIPE SIGALRM
        SIGTERM SIGSTKFLT SIGCHLD SIGCONT SIGSTOP SIGTSTP SIGTTIN SIGTTOU SIGURG SIGXCPU SIGXFSZ SIGVTALRM SIGPROF
        SIGWINCH SIGIO SIGPWR SIGSYS
    }
}

/// Ends the calling thread's process without running anything of the program's.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: no pointers, and it does not return.
    unsafe { libc::_exit(code) }
}

/// Kills this process as another process would.
pub(crate) fn kill_this_process() -> ! {
    // SAFETY: no pointers; the number is this process's own.
    unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
    // A filter for system calls may refuse it.
    std::process::abort()
}

/// Who this process is: the kernel forgets what [`die_with_parent`] has asked for when that changes.
pub(crate) fn effective_ids() -> [u32; 2] {
    // SAFETY: no pointers.
    unsafe { [libc::geteuid(), libc::getegid()] }
}

/// Has the kernel kill this process when its parent ends; ends it at once where that has happened already.
///
/// Only for children of a single-threaded parent: the kernel watches the thread that forked, not its process.
pub(crate) fn die_with_parent(parent: i32) {
    // SAFETY: no pointers.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0);
        if libc::getppid() != parent {
            exit_now(0);
        }
    }
}

/// A pidfd of this process's parent, from whose end the kernel no longer kills this process. Where the parent has ended already, this
/// process does.
pub(crate) fn watch_parent() -> Result<OwnedFd> {
    // SAFETY: no pointers.
    let parent = unsafe { libc::getppid() };
    let pidfd = super::pidfd::open(parent)?;
    // SAFETY: plain calls on numbers. A parent that has ended meanwhile is not the parent any more; until now its end
    // would have been this one's.
    unsafe {
        if libc::getppid() != parent {
            exit_now(0);
        }
        libc::prctl(libc::PR_SET_PDEATHSIG, 0, 0, 0, 0);
    }
    Ok(pidfd)
}

/// Puts this process into a group of its own, so that its signals to its group reach no other process of the family.
pub(crate) fn lead_own_group() {
    // SAFETY: no pointers.
    unsafe { libc::setpgid(0, 0) };
}

/// Adds to this process's niceness.
pub(crate) fn be_nicer(increment: i32) -> Result<()> {
    // SAFETY: no pointers. The old value may be -1, so errno tells.
    let failed = unsafe {
        *libc::__errno_location() = 0;
        libc::nice(increment) == -1 && *libc::__errno_location() != 0
    };
    if !failed {
        return Ok(());
    }
    Err(Error::from_io(&format!("nice {increment}"), &std::io::Error::last_os_error()))
}

/// Makes this process the parent of its descendants' orphans.
pub(crate) fn adopt_orphans() -> Result<()> {
    // SAFETY: no pointers.
    if unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) } != 0 {
        return Err(Error::last_os("PR_SET_CHILD_SUBREAPER"));
    }
    Ok(())
}

/// Whether orphans of this process's descendants become its children.
pub(crate) fn adopts_orphans() -> bool {
    let mut adopts: libc::c_int = 0;
    // SAFETY: a valid place for the answer.
    unsafe {
        libc::prctl(libc::PR_GET_CHILD_SUBREAPER, &raw mut adopts, 0, 0, 0);
        adopts != 0 || libc::getpid() == 1
    }
}

/// Names the calling thread, for ps and top.
pub(crate) fn set_thread_name(name: &std::ffi::CStr) {
    // SAFETY: a C string; the kernel takes its first 15 bytes.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr(), 0, 0, 0) };
}

/// Sets this process's limit on core files; a limit that cannot be raised stays.
pub(crate) fn limit_core_bytes(bytes: u64) {
    let limit = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
    // SAFETY: a valid limit.
    unsafe { libc::setrlimit(libc::RLIMIT_CORE, &limit) };
}
