//! Processes by descriptor: a pidfd names one process for good, whatever happens to its number.

use crate::error::{Code, Error, Result};
use crate::sys::clock::Deadline;
use crate::sys::epoll::Waited;
use crate::sys::fd::Guarded;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

/// Opens a process. The caller must know that the number is still this process's: that it is itself, its own unreaped
/// child, or a process that proves afterwards that it was alive all the time.
pub fn open(pid: i32) -> Result<OwnedFd> {
    // SAFETY: no pointers.
    let rc = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if rc < 0 && super::errno() == libc::ENOSYS {
        let text = "there is no pidfd_open: tine needs Linux 5.4, and a valgrind that knows it";
        return Err(Error::errno(libc::ENOSYS, text));
    }
    super::fd::owned(rc, "pidfd_open")
}

/// Opens once more a process whose pidfd the program has closed: only where the kernel gives each process an inode of its own, so
/// that it is known to be the same. `Ok(None)` is a process that has ended and been reaped.
pub(crate) fn reopen(pid: i32, lost: &Guarded) -> Result<Option<OwnedFd>> {
    match open(pid) {
        Ok(pidfd) if lost.is_same(&pidfd) && in_pidfs(&pidfd) => Ok(Some(pidfd)),
        Ok(pidfd) if in_pidfs(&pidfd) => Ok(None),
        Err(error) if error.code() == Code::errno(libc::ESRCH) => Ok(None),
        Err(error) => Err(error),
        Ok(_) => Err(Code::errno(libc::EBADF).into()),
    }
}

fn in_pidfs(pidfd: &OwnedFd) -> bool {
    const PID_FS_MAGIC: libc::c_long = 0x5049_4446;
    // SAFETY: all zero is a valid statfs, and there is room for one.
    unsafe {
        let mut info: libc::statfs = std::mem::zeroed();
        libc::fstatfs(pidfd.as_raw_fd(), &mut info) == 0 && info.f_type as libc::c_long == PID_FS_MAGIC
    }
}

/// Opens a child of this process, if the number is that of one that has not been reaped.
pub(crate) fn open_child(pid: i32) -> Result<Option<OwnedFd>> {
    let pidfd = match open(pid) {
        Err(error) if error.code() == Code::errno(libc::ESRCH) => return Ok(None),
        opened => opened?,
    };
    let is_child = look(libc::P_PIDFD, pidfd.as_raw_fd() as libc::id_t, libc::WNOWAIT).is_some();
    Ok(is_child.then_some(pidfd))
}

/// The number that a process has here, by which this process's /proc knows it; `None` where it has none, has ended, or nobody can say.
/// Whoever has passed on the descriptor may count in another PID namespace.
pub(crate) fn number(pidfd: RawFd) -> Option<i32> {
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{pidfd}")).ok()?;
    let number = info.lines().find_map(|line| line.strip_prefix("Pid:"))?.trim().parse().ok()?;
    (number > 0).then_some(number)
}

/// Whether a process is the first one of a PID namespace, to which the kernel gives whatever is orphaned there. `true` where nobody can say.
pub(crate) fn is_first_of_namespace(pidfd: RawFd) -> bool {
    let Ok(info) = std::fs::read_to_string(format!("/proc/self/fdinfo/{pidfd}")) else { return true };
    let numbers = info.lines().find_map(|line| line.strip_prefix("NSpid:"));
    numbers.and_then(|numbers| numbers.split_whitespace().last()).is_none_or(|own| own == "1")
}

/// Sends a signal; that the process is gone already is fine.
pub fn signal(pidfd: RawFd, signal: i32) -> Result<()> {
    let info = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: a null siginfo is what kill() would send.
    let rc = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd, signal, info, 0) };
    if rc == 0 || super::errno() == libc::ESRCH {
        return Ok(());
    }
    Err(Error::last_os("pidfd_send_signal"))
}

/// Whether the process has ended, all its threads included.
pub fn has_ended(pidfd: RawFd) -> bool {
    let mut polls = [libc::pollfd { fd: pidfd, events: libc::POLLIN, revents: 0 }];
    while let Waited::Interrupted = poll_all(&mut polls, Deadline(0)) {}
    // A number that is nobody's, because the program has just closed it, is ready too: that says nothing of an end.
    polls[0].revents & libc::POLLIN != 0
}

/// Waits until the process has ended; whether it has.
pub fn wait_end(pidfd: RawFd, deadline: Deadline) -> bool {
    poll(pidfd, deadline)
}

/// Waits until a descriptor is readable; whether it is.
///
/// Nobody waits for a number that is none: see [`super::fd::Guarded`].
pub(crate) fn poll(fd: RawFd, deadline: Deadline) -> bool {
    if fd < 0 {
        return false;
    }
    loop {
        match poll_once(fd, deadline) {
            Waited::Ready(_) => return true,
            Waited::TimedOut => return false,
            Waited::Interrupted => (),
        }
    }
}

/// The same, until a signal handler has run.
pub(crate) fn poll_once(fd: RawFd, deadline: Deadline) -> Waited {
    poll_all(&mut [libc::pollfd { fd, events: libc::POLLIN, revents: 0 }], deadline)
}

/// Waits until one of two descriptors is readable, or a signal handler has run.
pub(crate) fn poll_either(fds: [RawFd; 2], deadline: Deadline) -> Waited {
    poll_all(&mut fds.map(|fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 }), deadline)
}

fn poll_all(polls: &mut [libc::pollfd], deadline: Deadline) -> Waited {
    let left = deadline.remaining();
    let left = left.as_ref().map_or(std::ptr::null(), |left| left as *const libc::timespec);
    // SAFETY: as many pollfds as are said, a valid or null time, no mask.
    match unsafe { libc::ppoll(polls.as_mut_ptr(), polls.len() as libc::nfds_t, left, std::ptr::null()) } {
        0 => Waited::TimedOut,
        rc if rc > 0 => Waited::Ready(1),
        _ if super::errno() == libc::EINTR => Waited::Interrupted,
        // Refused: where RLIMIT_NOFILE is 0, or for want of memory. Whoever looks round and waits again does not do so all the time.
        _ => {
            super::socket::nap(deadline);
            Waited::TimedOut
        }
    }
}

/// How a child ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// Which one.
    pub pid: i32,
    /// The signal that killed it, or 0.
    pub signal: i32,
    /// The code with which it exited, where no signal killed it.
    pub code: i32,
    /// The most memory that it had resident at once.
    pub max_rss_bytes: u64,
    /// How much processor time it took in its own code, and in the kernel's.
    pub user_ns: u64,
    /// As above.
    pub system_ns: u64,
}

impl Ended {
    /// From what wait() says of it.
    pub(crate) fn from_status(pid: i32, status: i32) -> Ended {
        let killed = libc::WIFSIGNALED(status);
        let (signal, code) =
            if killed { (libc::WTERMSIG(status), 0) } else { (0, libc::WEXITSTATUS(status)) };
        Ended { pid, signal, code, ..Ended::default() }
    }
}

/// A child that has ended and has not been reaped, so that its number is still its own; and whether a signal ended it.
pub(crate) fn peek_any() -> Option<(i32, bool)> {
    let info = look(libc::P_ALL, 0, libc::WNOWAIT)?;
    // SAFETY: waitid() has filled in what it says of a child, or left the pid 0 for nobody.
    let pid = unsafe { info.si_pid() };
    (pid > 0).then_some((pid, info.si_code != libc::CLD_EXITED))
}

/// What waitid() says of such children of this process, without waiting: `None` where it has none, a pid of 0 where none of them
/// has ended. Without WNOWAIT, one that has ended is reaped. An interrupted call has said nothing and is made again: what is taken
/// for an answer would leave a child's end untold.
pub(crate) fn look(which: libc::idtype_t, id: libc::id_t, options: i32) -> Option<libc::siginfo_t> {
    let options = options | libc::WEXITED | libc::WNOHANG | libc::__WALL;
    // SAFETY: all zero is a valid siginfo.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: a valid place for the answer; a number that is nobody's is an error.
    while unsafe { libc::waitid(which, id, &mut info, options) } != 0 {
        if super::errno() != libc::EINTR {
            return None;
        }
    }
    Some(info)
}

/// Whether it is certain that this process has no children, ended or not.
pub(crate) fn has_no_children() -> bool {
    look(libc::P_ALL, 0, libc::WNOWAIT).is_none() && super::errno() == libc::ECHILD
}

/// Reaps a child of this process that has ended, if there is one; `ECHILD` where there are no children at all.
pub(crate) fn reap_any() -> Result<Option<Ended>> {
    reap_one(-1)
}

/// The same for one child.
pub(crate) fn reap_one(which: i32) -> Result<Option<Ended>> {
    let mut status = 0;
    // SAFETY: all zero is a valid rusage.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    loop {
        // SAFETY: valid places for both results.
        let pid = unsafe { libc::wait4(which, &mut status, libc::WNOHANG | libc::__WALL, &mut usage) };
        if pid == 0 {
            return Ok(None);
        }
        if pid < 0 {
            match super::errno() {
                libc::EINTR => continue,
                errno => return Err(Error::from(Code::errno(errno))),
            }
        }
        return Ok(Some(Ended {
            max_rss_bytes: usage.ru_maxrss as u64 * 1024,
            user_ns: to_ns(usage.ru_utime),
            system_ns: to_ns(usage.ru_stime),
            ..Ended::from_status(pid, status)
        }));
    }
}

fn to_ns(time: libc::timeval) -> u64 {
    time.tv_sec as u64 * 1_000_000_000 + time.tv_usec as u64 * 1000
}

/// Reaps this very child where it is one of ours and has ended. Somebody else may have been faster.
pub(crate) fn reap(pidfd: RawFd) {
    look(libc::P_PIDFD, pidfd as libc::id_t, 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_descriptor_says_its_processes_number() {
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let pidfd = open(child.id() as i32).unwrap();
        assert_eq!(number(pidfd.as_raw_fd()), Some(child.id() as i32));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(number(pidfd.as_raw_fd()), None, "nobody has it any more");
        assert_eq!(number(-1), None);
    }
}
