//! Starting a process that is nobody's child, as far as its host can see.
//!
//! The host must never meet tine's processes among its children: neither in wait(), nor as a SIGCHLD, nor through a SIGCHLD
//! disposition of its own. So it makes a *keeper*: a copy of itself without an exit signal, which plain wait() does not see. The keeper
//! makes the process proper, the supervisor, and lets go of all that it has of the host's: memory, descriptors, directory, session.
//! What is left of it is a page of instructions that reaps the supervisor, and whatever that leaves behind, and then ends
//! (`sys/keeper.rs`). The host takes the keeper's end in by its pidfd. So nothing depends on whether the process that adopts orphans,
//! be it the host or some other, ever reaps them.
//!
//! Which processes share memory in each step, so that a death at any instruction can do no harm:
//!
//! | step | runs in the memory of | when it is killed |
//! |---|---|---|
//! | host: the copy is made | its own | nobody is left to be hurt |
//! | keeper: before it has made the supervisor | its own copy | the socket ends; the host finds a supervisor that ended before it was up |
//! | supervisor: before it has executed its program | the keeper's copy, while the keeper stands still | the keeper goes on, and tells how it ended |
//! | keeper: while the supervisor is in the step before | its own copy | the supervisor goes with it: by PR_SET_PDEATHSIG, or because it sees that its parent is another one. Their memory is nobody else's |
//! | keeper: later | two pages | the supervisor sees it by a pidfd, ends and reaps the family, and ends; the host finds out as above |
//! | supervisor: later | its own | the keeper reaps it, tells how it ended, reaps what it has left, ends |
//!
//! The host never waits for any of them. What it wants to know comes by the control socket, in this order: `Born`, with the supervisor's
//! pidfd or with the reason why there is none; the supervisor's own messages; `Gone`, with how it ended; the end of the socket.
//!
//! A family that may outlive its host's interest in it, a detached process's, has a keeper that is nobody's child once it has told of the
//! supervisor: the copy makes another one, which kills it then. Until then that ends with the copy, which the host can kill. A copy that finds
//! itself the first process of a PID namespace, which all others end with, is the keeper itself. The process that adopts orphans reaps the keeper,
//! as every process that outlives its parent. Where that is the host, the keeper stays its invisible child, and is reaped by a later call.
//!
//! For the start method `fork` the keeper forks the supervisor by way of the C library, so that its locks, and what the program has
//! registered with pthread_atfork, are dealt with. In a host with threads the keeper may wait there for a lock of a thread that it does
//! not have; then it is thrown away and another copy is made (`family/link.rs`).

use crate::error::{Error, Result};
use crate::sys::fd::Guarded;
use crate::sys::memory::{self, Mapping};
use crate::sys::raw::{self, call};
use crate::sys::signal::AllBlocked;
use crate::sys::thread::Uncancelled;
use crate::sys::{children, clock::Deadline, fork, keeper, pidfd};
use std::ffi::{CStr, c_char, c_int, c_void};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Mutex;

/// The descriptor under which a started program finds its socket.
pub const CHILD_SOCKET: RawFd = 3;

/// What the new process does.
pub(crate) enum Start<'a> {
    /// Executes a program.
    Exec { path: &'a CStr, argv: &'a [*const c_char], envp: &'a [*const c_char] },
    /// Goes on as a copy of this process, like a child of fork.
    Fork { run: fn(RawFd) -> ! },
}

/// What the keeper tells of: the kinds of the two messages.
pub(crate) struct News {
    /// Words: 0 or the errno of why there is no process, its number as the keeper sees it; the process's pidfd.
    pub(crate) born: u64,
    /// Words: how it ended, as wait() has it.
    pub(crate) gone: u64,
}

/// The process between the host and a family.
///
/// Dropped, it is waited for as long as it may take to end when its family has; after that a later call reaps it.
#[derive(Debug)]
pub(crate) struct Keeper {
    /// Whose child it is: a forked child of that one has only a copy of this.
    parent: c_int,
    /// 0: it has been reaped. Of a family that may outlive the host, the copy that has made the keeper.
    pid: c_int,
    /// Until the supervisor has one of its own.
    pidfd: Option<Guarded>,
}

struct Plan<'a> {
    start: Start<'a>,
    socket: RawFd,
    keeper: c_int,
    errno: c_int,
    /// The copy that waits for this keeper to have told of the supervisor, and with which it ends until then; or 0.
    waiting: c_int,
}

/// Virtual size of the stack of a forked supervisor and its workers, whatever the host's thread has.
const STACK_BYTES: usize = 8 << 20;

/// Starts a process with one end of a socket, at the other end of which the keeper's news arrive.
pub(crate) fn born(start: Start<'_>, socket: RawFd, news: &News, detached: bool) -> Result<Keeper> {
    Keeper::reap_left();
    keeper::prepare();
    let page_size = memory::page_size();
    let mut plan = Plan { start, socket, keeper: 0, errno: 0, waiting: 0 };
    let orphan = detached && !super::signal::adopts_orphans();
    let mut own = -1;
    let blocked = AllBlocked::new();
    // SAFETY: the copy calls nothing of the C library's but, for the start method `fork`, fork.
    let pid = unsafe { raw::silent_fork(Some(&mut own)) };
    if pid == 0 {
        if orphan {
            make_keeper(&mut plan, news);
        }
        be_keeper(&mut plan, news, page_size);
    }
    drop(blocked);
    if pid < 0 {
        let error = std::io::Error::from_raw_os_error(-pid as i32);
        return Err(Error::from_io("a copy of this process, to start others from", &error));
    }
    // SAFETY: the kernel has just returned it, so nobody else owns it.
    let pidfd =
        super::fd::above_standard(unsafe { OwnedFd::from_raw_fd(own) }, "pidfd").ok().map(Guarded::new);
    Ok(Keeper { parent: fork::pid(), pid: pid as c_int, pidfd })
}

/// In the host's first copy: makes another one, in which this returns, and which goes on as the keeper. The first one waits until that has told of
/// the supervisor. Until then who kills the first one ends the other, too.
fn make_keeper(plan: &mut Plan<'_>, news: &News) {
    block_all();
    // SAFETY: no pointers.
    let own = unsafe { call(libc::SYS_getpid, [0; 6]) };
    if own == 1 {
        // With the first process of a PID namespace all others end: it is the keeper itself.
        return;
    }
    // SAFETY: the copy calls nothing here that could wait for a lock.
    let pid = unsafe { raw::silent_fork(None) };
    if pid == 0 {
        plan.waiting = own as c_int;
        return go_with(plan.waiting);
    }
    if pid < 0 {
        tell(plan.socket, [news.born, -pid as u64, 0, 0, 0, 0, 0, 0], None);
        raw::exit(0);
    }
    raw::close_range(0, u32::MAX);
    // SAFETY: a child of this process, whose status is not asked for.
    while unsafe { call(libc::SYS_wait4, [pid as usize, 0, libc::__WALL as usize, 0, 0, 0]) }
        == -(libc::EINTR as isize)
    {}
    raw::exit(0)
}

/// In the keeper that [`make_keeper`] has made: from here on it is nobody's child. 0, or the errno of why it cannot be.
fn part_from(waiting: c_int) -> c_int {
    // SAFETY: plain calls on numbers. While it is the parent, the number is its own, so the descriptor is of no other process.
    unsafe {
        let pidfd = call(libc::SYS_pidfd_open, [waiting as usize, 0, 0, 0, 0, 0]);
        if pidfd < 0 {
            return -pidfd as c_int;
        }
        if call(libc::SYS_getppid, [0; 6]) != waiting as isize {
            raw::exit(0);
        }
        call(libc::SYS_prctl, [libc::PR_SET_PDEATHSIG as usize, 0, 0, 0, 0, 0]);
        call(libc::SYS_pidfd_send_signal, [pidfd as usize, libc::SIGKILL as usize, 0, 0, 0, 0]);
        call(libc::SYS_close, [pidfd as usize, 0, 0, 0, 0, 0]);
    }
    0
}

fn be_keeper(plan: &mut Plan<'_>, news: &News, page_size: usize) -> ! {
    block_all();
    // SAFETY: plain calls without pointers. A session of its own: what is sent to the host's group is not meant for the family.
    unsafe {
        call(libc::SYS_setsid, [0; 6]);
        call(libc::SYS_prctl, [libc::PR_SET_CHILD_SUBREAPER as usize, 1, 0, 0, 0, 0]);
        plan.keeper = call(libc::SYS_getpid, [0; 6]) as c_int;
    }
    let pid = match plan.start {
        // SAFETY: what the child changes in the plan is its errno.
        Start::Exec { .. } => unsafe { raw::vfork(exec_step, (&raw mut *plan).cast()) },
        Start::Fork { run } => {
            // SAFETY: to the C library this is the host's calling thread.
            match unsafe { libc::fork() } {
                0 => be_copy(plan, run),
                -1 => -super::errno() as isize,
                pid => pid as isize,
            }
        }
    };
    let mut errno = if pid < 0 { -pid as c_int } else { plan.errno };
    if errno == 0 && plan.waiting != 0 {
        errno = part_from(plan.waiting);
        if errno != 0 {
            // SAFETY: a child of this process that has not been reaped.
            unsafe { call(libc::SYS_kill, [pid as usize, libc::SIGKILL as usize, 0, 0, 0, 0]) };
        }
    }
    if errno != 0 {
        if pid > 0 {
            // SAFETY: a child that has ended, or is about to.
            unsafe { call(libc::SYS_wait4, [pid as usize, 0, libc::__WALL as usize, 0, 0, 0]) };
        }
        tell(plan.socket, [news.born, errno as u64, 0, 0, 0, 0, 0, 0], None);
        raw::exit(0);
    }
    // SAFETY: plain calls; an unreaped child's number is its own. The name is a C string.
    unsafe {
        let pidfd = call(libc::SYS_pidfd_open, [pid as usize, 0, 0, 0, 0, 0]);
        let pidfd = (pidfd >= 0).then_some(pidfd as RawFd);
        tell(plan.socket, [news.born, 0, pid as u64, 0, 0, 0, 0, 0], pidfd);
        if plan.socket != 0 {
            call(libc::SYS_dup3, [plan.socket as usize, 0, 0, 0, 0, 0]);
        }
        raw::close_range(1, u32::MAX);
        call(libc::SYS_chdir, [c"/".as_ptr().addr(), 0, 0, 0, 0, 0]);
        call(libc::SYS_prctl, [libc::PR_SET_NAME as usize, c"tine-keeper".as_ptr().addr(), 0, 0, 0, 0]);
        keeper::keep(pid as i32, 0, news.gone, page_size)
    }
}

/// Sends a message without allocating: the process may be a copy of one in which another thread does.
fn tell(socket: RawFd, words: [u64; 8], fd: Option<RawFd>) {
    #[repr(C, align(8))]
    struct Control([u8; 64]);
    let mut control = Control([0; 64]);
    let mut iov =
        libc::iovec { iov_base: (&raw const words).cast_mut().cast(), iov_len: size_of_val(&words) };
    // SAFETY: all zero is a valid header; the control message fits, and everything lives until the call returns.
    unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        (message.msg_iov, message.msg_iovlen) = (&mut iov, 1);
        if let Some(fd) = fd {
            message.msg_control = control.0.as_mut_ptr().cast();
            message.msg_controllen = libc::CMSG_SPACE(4) as _;
            let header = libc::CMSG_FIRSTHDR(&message);
            ((*header).cmsg_level, (*header).cmsg_type) = (libc::SOL_SOCKET, libc::SCM_RIGHTS);
            (*header).cmsg_len = libc::CMSG_LEN(4) as _;
            libc::CMSG_DATA(header).cast::<RawFd>().write_unaligned(fd);
        }
        let flags = (libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT) as usize;
        call(libc::SYS_sendmsg, [socket as usize, (&raw const message).addr(), flags, 0, 0, 0]);
    }
}

/// The supervisor, in the keeper's memory: executes its program.
extern "C" fn exec_step(plan: *mut c_void) -> ! {
    // SAFETY: the plan is valid, and the keeper stands still until this process has executed or ended.
    let plan = unsafe { &mut *plan.cast::<Plan<'_>>() };
    go_with(plan.keeper);
    if let Start::Exec { path, argv, envp } = &plan.start {
        become_child(plan.socket, true);
        let arguments = [path.as_ptr().addr(), argv.as_ptr().addr(), envp.as_ptr().addr(), 0, 0, 0];
        // SAFETY: null-terminated arrays of C strings.
        plan.errno = -unsafe { call(libc::SYS_execve, arguments) } as c_int;
    }
    raw::exit(127)
}

/// The supervisor as a forked copy of the host.
fn be_copy(plan: &mut Plan<'_>, run: fn(RawFd) -> !) -> ! {
    struct Rest {
        run: fn(RawFd) -> !,
        socket: RawFd,
    }
    extern "C" fn go_on(rest: *mut c_void) -> ! {
        // SAFETY: a value of the old stack, which stays where it is.
        let rest = unsafe { &*rest.cast::<Rest>() };
        (rest.run)(rest.socket)
    }
    go_with(plan.keeper);
    let mut rest = Rest { run, socket: plan.socket };
    match Mapping::stack(STACK_BYTES) {
        Ok(stack) => {
            let top = stack.address() + stack.length();
            stack.leak();
            // SAFETY: the stack is new, and `rest` lies on one that stays.
            unsafe { raw::go_on_at(top, go_on, (&raw mut rest).cast()) }
        }
        Err(_) => raw::exit(125),
    }
}

/// Has the kernel kill this process when its keeper ends; ends it at once where that has happened already.
fn go_with(keeper: c_int) {
    // SAFETY: no pointers.
    unsafe {
        call(libc::SYS_prctl, [libc::PR_SET_PDEATHSIG as usize, libc::SIGKILL as usize, 0, 0, 0, 0]);
        if call(libc::SYS_getppid, [0; 6]) != keeper as isize {
            raw::exit(0);
        }
    }
}

/// Keepers that still keep, for nobody in particular, by number, and whose children they are. They are looked at whenever a process is
/// started or a keeper let go.
static LEFT: Mutex<Vec<(c_int, c_int)>> = Mutex::new(Vec::new());

/// Between two rounds of [`Keeper::kill_left`].
const ROUND_NS: u64 = 1_000_000;

/// For how long at most what a killed supervisor has left is killed in one call.
const KILLING_NS: u64 = 2_000_000_000;

/// How long a keeper may take to end when its family has.
const ENDING_NS: u64 = 100_000_000;

impl Keeper {
    #[cfg(test)]
    pub(crate) fn of_nobody() -> Keeper {
        Keeper { parent: 0, pid: 0, pidfd: None }
    }

    /// Lets it keep for as long as there is a family. It is reaped by a later call.
    pub(crate) fn leave(mut self) {
        self.leave_to_later_calls();
        self.pid = 0;
        Keeper::reap_left();
    }

    /// Kills what the family's supervisor has left to it when that ended: its children. What those had started become its children when they
    /// are gone, so this takes several rounds. How many there were; `None` where nothing is left to do. Never waits.
    ///
    /// A keeper that is the first process of a PID namespace has children that are not of the family: whatever the host orphans there. It
    /// is left alone.
    pub(crate) fn kill_left(&mut self) -> Option<usize> {
        if self.pid == 0 || self.parent != fork::pid() {
            return None;
        }
        let _uncancelled = Uncancelled::new();
        if self.pidfd.as_ref().is_none_or(|pidfd| !pidfd.is_ours()) {
            // A host that waits for children of every kind may have reaped it, and the number be somebody else's.
            match pidfd::open_child(self.pid) {
                Ok(Some(pidfd)) => self.pidfd = Some(Guarded::new(pidfd)),
                Ok(None) => self.pid = 0,
                Err(_) => return Some(0),
            }
        }
        let pidfd = self.pidfd.as_ref().filter(|_| self.pid != 0)?;
        if pidfd::has_ended(pidfd.as_raw_fd()) {
            pidfd::reap(pidfd.as_raw_fd());
            (self.pid, self.pidfd) = (0, None);
            return None;
        }
        if pidfd::is_first_of_namespace(pidfd.as_raw_fd()) {
            if pidfd::has_ended(pidfd.as_raw_fd()) {
                return self.kill_left(); // It has no numbers any more.
            }
            self.leave_to_later_calls();
            (self.pid, self.pidfd) = (0, None);
            return None;
        }
        Some(children::kill_children_of(pidfd))
    }

    /// The same until it has ended: for as long as there are children, and as a keeper may take after that. A process gives its children away only
    /// when its memory is gone.
    pub(crate) fn kill_all_left(&mut self) {
        let end = Deadline::after(KILLING_NS);
        let mut deadline = Deadline::after(ENDING_NS);
        while let Some(count) = self.kill_left() {
            if count > 0 {
                deadline = Deadline::after(ENDING_NS).min(end);
            }
            if deadline.passed() {
                break;
            }
            // Nothing tells of a keeper's children.
            let next = deadline.min(Deadline::after(ROUND_NS));
            match &self.pidfd {
                Some(pidfd) => pidfd::wait_end(pidfd.as_raw_fd(), next),
                None => break,
            };
        }
        self.leave_to_later_calls();
        (self.pid, self.pidfd) = (0, None);
    }

    /// Waits for its end, for as long as that may take when its family has ended.
    pub(crate) fn wait_end(&self) {
        if let Some(pidfd) = &self.pidfd {
            pidfd::wait_end(pidfd.as_raw_fd(), Deadline::after(ENDING_NS));
        }
    }

    /// Its supervisor can be reached without it. A copy that has made another one as its keeper has ended, or is about to.
    pub(crate) fn let_go(&mut self, was_copied: bool) {
        let Some(pidfd) = self.pidfd.take().filter(|_| was_copied) else { return };
        match pidfd::has_ended(pidfd.as_raw_fd()) {
            true => pidfd::reap(pidfd.as_raw_fd()),
            false if pidfd::is_first_of_namespace(pidfd.as_raw_fd()) => return,
            false => self.leave_to_later_calls(),
        }
        self.pid = 0;
    }

    fn leave_to_later_calls(&self) {
        if self.pid == 0 {
            return;
        }
        // Another thread has the lock for a moment; or, in a forked child, for ever.
        for _ in 0..10_000 {
            if let Ok(mut left) = LEFT.try_lock() {
                return left.push((self.parent, self.pid));
            }
            std::thread::yield_now();
        }
    }

    /// Lets go of those that have ended. Never waits: in a forked child, a thread that is not there may hold the lock.
    fn reap_left() {
        let Ok(mut left) = LEFT.try_lock() else { return };
        left.retain(|&(parent, pid)| {
            let nowhere = std::ptr::null_mut();
            // SAFETY: no pointers. A child's number is its own until it has been reaped; if the host has done that, the number may be
            // that of another of its children, but of none that is as invisible as these.
            parent == fork::pid()
                && unsafe { libc::waitpid(pid, nowhere, libc::__WCLONE | libc::WNOHANG) } == 0
        });
    }

    /// Ends it, and with it a supervisor that has not told of itself.
    pub(crate) fn kill(&self) {
        if let Some(pidfd) = &self.pidfd {
            // One that this host may not kill is as alive as its family, which ends with the socket.
            let _ = pidfd::signal(pidfd.as_raw_fd(), libc::SIGKILL);
        }
    }
}

impl Drop for Keeper {
    /// Where a killed supervisor has left behind what its workers had started, the keeper stays for that.
    fn drop(&mut self) {
        if self.pid == 0 || self.parent != fork::pid() {
            return;
        }
        // A host that waits for children of every kind may have reaped it, and the number be somebody else's.
        let opened = || Ok(pidfd::open_child(self.pid)?.map(Guarded::new));
        let pidfd = match self.pidfd.take().map_or_else(opened, |pidfd| Ok(Some(pidfd))) {
            Ok(Some(pidfd)) => pidfd,
            Ok(None) => return,
            Err::<_, Error>(_) => return self.leave_to_later_calls(),
        };
        if !pidfd::wait_end(pidfd.as_raw_fd(), Deadline::after(ENDING_NS)) {
            // Somebody may have stopped it; that it cannot be told to go on changes nothing.
            let _ = pidfd::signal(pidfd.as_raw_fd(), libc::SIGCONT);
        }
        // A program that closes what it has not opened may have closed it meanwhile, and have a file of its own there.
        match pidfd.is_ours() && pidfd::has_ended(pidfd.as_raw_fd()) {
            true => pidfd::reap(pidfd.as_raw_fd()),
            false => self.leave_to_later_calls(),
        }
        Keeper::reap_left();
    }
}

fn block_all() {
    let all = u64::MAX;
    // SAFETY: a set of the kernel's length; those that cannot be blocked are left out by it.
    unsafe {
        let arguments = [libc::SIG_SETMASK as usize, (&raw const all).addr(), 0, 8, 0, 0];
        call(libc::SYS_rt_sigprocmask, arguments)
    };
}

/// What every process of the family does first: default signals, its socket at its place, no other descriptors.
///
/// In bare system calls: the process may share its memory with one that waits for it. `own_session` keeps a terminal's Ctrl-C, Ctrl-Z
/// and hang-up for the host.
pub(crate) fn become_child(socket: RawFd, own_session: bool) {
    super::signal::reset_all();
    // SAFETY: plain calls on numbers.
    unsafe {
        if own_session {
            call(libc::SYS_setsid, [0; 6]);
        }
        if socket == CHILD_SOCKET {
            call(libc::SYS_fcntl, [socket as usize, libc::F_SETFD as usize, 0, 0, 0, 0]);
        } else {
            call(libc::SYS_dup3, [socket as usize, CHILD_SOCKET as usize, 0, 0, 0, 0]);
        }
    }
    super::fd::null_standard(0, true);
    super::fd::null_standard(1, false);
    super::fd::null_standard(2, false);
    raw::close_range(CHILD_SOCKET as u32 + 1, u32::MAX);
}
