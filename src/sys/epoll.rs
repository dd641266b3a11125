//! Waiting for many descriptors at once.

use crate::error::{Error, Result};
use crate::sys::clock::{Deadline, now_ns};
use crate::sys::fd::Guarded;
use crate::sys::fork;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A set of descriptors that is itself a descriptor to wait for.
#[derive(Debug)]
pub struct Epoll(Guarded);

/// An eventfd in a set, which is the only way in which this process hears of it. The user's code may have closed its number and have a
/// file of its own there, and the other process can give the file any mark: so the set says what is behind the number.
#[derive(Debug)]
pub(crate) struct Watched {
    event: ManuallyDrop<Guarded>,
    set: Arc<Epoll>,
    /// The set is the parent's too: a forked child takes nothing out of it, and goes by the number in /proc.
    pid: i32,
}

impl Drop for Watched {
    fn drop(&mut self) {
        // It is not in the set, or nothing is behind the number. What was refused says nothing: then its number in /proc has to do.
        let is_gone = self.pid == fork::pid()
            && self
                .set
                .remove(self.event.number())
                .is_err_and(|error| [-libc::ENOENT, -libc::EBADF].contains(&error.code().0));
        if !is_gone {
            // SAFETY: dropped once, here, and not used afterwards.
            unsafe { ManuallyDrop::drop(&mut self.event) };
        }
    }
}

/// Whether the kernel has epoll_pwait2, which counts in nanoseconds. Relaxed: a hint that every thread finds out.
static HAS_PWAIT2: AtomicBool = AtomicBool::new(true);

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waited {
    /// So many entries of the buffer are filled.
    Ready(usize),
    /// The deadline passed.
    TimedOut,
    /// A signal handler ran.
    Interrupted,
}

impl Epoll {
    /// An empty set.
    pub fn new() -> Result<Epoll> {
        // SAFETY: no pointers.
        let rc = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        Ok(Epoll(Guarded::marked(super::fd::owned(libc::c_long::from(rc), "epoll_create1")?)))
    }

    /// Adds a descriptor that is reported while it is readable.
    pub fn add(&self, fd: RawFd, token: u64) -> Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, libc::EPOLLIN, token)
    }

    /// Adds a descriptor that is reported once each time it becomes readable, and need not be read.
    pub fn add_edge(&self, fd: RawFd, token: u64) -> Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, libc::EPOLLIN | libc::EPOLLET, token)
    }

    /// Also reports the descriptor while it can be written, or no longer does.
    pub fn watch_writable(&self, fd: RawFd, token: u64, writable: bool) -> Result<()> {
        let out = if writable { libc::EPOLLOUT } else { 0 };
        self.control(libc::EPOLL_CTL_MOD, fd, libc::EPOLLIN | out, token)
    }

    /// Takes a descriptor out. To be called before it is closed. `ENOENT` where what is behind the number was not put in: the
    /// kernel keeps the file beside the number.
    pub fn remove(&self, fd: RawFd) -> Result<()> {
        self.control(libc::EPOLL_CTL_DEL, fd, 0, 0)
    }

    /// Adds an eventfd that another process has too, as `add_edge` does.
    pub(crate) fn watch(self: &Arc<Self>, event: OwnedFd, token: u64) -> Result<Watched> {
        self.add_edge(event.as_raw_fd(), token)?;
        let event = ManuallyDrop::new(Guarded::of_eventfd(event));
        Ok(Watched { event, set: Arc::clone(self), pid: fork::pid() })
    }

    fn control(&self, operation: i32, fd: RawFd, events: i32, token: u64) -> Result<()> {
        let mut event = libc::epoll_event { events: events as u32, u64: token };
        // SAFETY: a valid event.
        if unsafe { libc::epoll_ctl(self.fd(), operation, fd, &mut event) } != 0 {
            return Err(Error::last_os("epoll_ctl"));
        }
        Ok(())
    }

    /// Waits until something is ready.
    pub fn wait(&self, tokens: &mut [u64; 32], deadline: Deadline) -> Result<Waited> {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; 32];
        let rc = self.wait_raw(&mut events, deadline);
        if rc == 0 {
            return Ok(Waited::TimedOut);
        }
        if rc < 0 {
            return match super::errno() {
                libc::EINTR => Ok(Waited::Interrupted),
                _ => Err(Error::last_os("epoll_wait")),
            };
        }
        for (token, event) in tokens.iter_mut().zip(&events[..rc as usize]) {
            *token = event.u64;
        }
        Ok(Waited::Ready(rc as usize))
    }

    fn wait_raw(&self, events: &mut [libc::epoll_event; 32], deadline: Deadline) -> i64 {
        if HAS_PWAIT2.load(Ordering::Relaxed) {
            let left = deadline.remaining();
            let left = left.as_ref().map_or(std::ptr::null(), |left| left as *const libc::timespec);
            let no_mask = std::ptr::null::<libc::sigset_t>();
            // SAFETY: room for 32 events, a valid or null time, no mask.
            let rc = unsafe {
                libc::syscall(libc::SYS_epoll_pwait2, self.fd(), events.as_mut_ptr(), 32, left, no_mask, 0)
            };
            // Sandboxes refuse calls that they do not know with EPERM.
            if rc >= 0 || !matches!(super::errno(), libc::ENOSYS | libc::EPERM) {
                return rc;
            }
            HAS_PWAIT2.store(false, Ordering::Relaxed);
        }
        let milliseconds = if deadline == Deadline::NEVER {
            -1
        } else {
            deadline.0.saturating_sub(now_ns()).div_ceil(1_000_000).min(i32::MAX as u64) as i32
        };
        // SAFETY: room for 32 events.
        i64::from(unsafe { libc::epoll_wait(self.fd(), events.as_mut_ptr(), 32, milliseconds) })
    }

    /// The set's own descriptor; -1 where the program has closed it.
    pub fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::fd;

    /// Whether a number is open. It is closed if it is.
    fn was_open(number: RawFd) -> bool {
        // SAFETY: a number that nobody owns.
        unsafe { libc::close(number) == 0 }
    }

    #[test]
    fn the_users_own_eventfd_is_not_closed() {
        let set = Arc::new(Epoll::new().unwrap());
        let watched = set.watch(fd::eventfd().unwrap(), 1).unwrap();
        let number = watched.event.number();
        // SAFETY: what a program's own code may do.
        let put = |by: &OwnedFd| assert!(unsafe { libc::dup2(by.as_raw_fd(), number) } >= 0);
        // Nobody has the first eventfd any more when the second is made, which may be given its number in /proc.
        put(&fd::pipe().unwrap().0);
        put(&fd::eventfd().unwrap());
        drop(watched);
        assert!(was_open(number));
    }

    #[test]
    fn a_child_gives_its_copy_back_and_the_parent_still_hears() {
        let set = Arc::new(Epoll::new().unwrap());
        let mut watched = set.watch(fd::eventfd().unwrap(), 7).unwrap();
        let parents = fd::duplicate(watched.event.number()).unwrap();
        // No process has the number 0, so it is a child's copy from now on.
        watched.pid = 0;
        drop(watched);
        fd::eventfd_signal(parents.as_raw_fd());
        let mut tokens = [0; 32];
        assert_eq!((set.wait(&mut tokens, Deadline(0)).unwrap(), tokens[0]), (Waited::Ready(1), 7));
    }
}
