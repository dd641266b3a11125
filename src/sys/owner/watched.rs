//! One process that is looked at again and again: a descriptor of it stays open between the looks.

use super::{Handle, INODE, OwnerKind, of_inode, open, process_ended};
use std::ffi::c_long;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// The pidfd of the process that was looked for last, with its cookie in the upper half; `NONE`, or `IN_USE` by a thread. To open and close
/// one for each try costs microseconds. Acquire and Release: a thread that has taken it out uses it alone.
static WATCHED: AtomicU64 = AtomicU64::new(NONE);
const NONE: u64 = 0;
const IN_USE: u64 = u64::MAX;
/// The mark of the descriptor that is kept: one of a program's own has none.
pub(super) const MARK: c_long = 64;

/// How many looks there have been, at whichever process. Relaxed: it only spreads out what is dear.
static LOOKS: AtomicU32 = AtomicU32::new(0);
/// One in so many looks at whose descriptor it is: half of a look's time.
const LOOKS_EACH: u32 = 8;

/// As [`process_ended`], for a caller that asks again and again about one process: one descriptor of it stays open until it has ended, another
/// one is asked for, or [`stop_watching`]. The program may close it, and open something of its own under that number: what says that the process
/// has ended is looked at closely at once, what says that it lives after [`LOOKS_EACH`] looks at the latest.
pub(crate) fn watched_process_ended(pid: u32, cookie: u32) -> bool {
    let look = || process_ended(pid, cookie);
    if cookie & INODE == 0 {
        return look();
    }
    // A signal handler, another thread, or a child that was forked just then finds it in use, and looks without.
    let kept = WATCHED.swap(IN_USE, Ordering::Acquire);
    if kept == IN_USE {
        return look();
    }
    // It need not be tine's own for that: the program's own pidfd of the process says the same.
    let is_of_it = |handle: &Handle| handle.pidfd_inode().is_some_and(|inode| of_inode(inode) == cookie);
    let lives = |handle: &Handle| handle.is_readable() == Some(false) && is_of_it(handle);
    if kept != NONE && kept_cookie(kept) == cookie {
        let handle = kept_handle(kept);
        let is_due = LOOKS.fetch_add(1, Ordering::Relaxed).is_multiple_of(LOOKS_EACH);
        let lives = if is_due { lives(&handle) } else { handle.is_readable() == Some(false) };
        handle.leave();
        if lives {
            WATCHED.store(kept, Ordering::Release);
            return false;
        }
    }
    drop(watched(kept));
    let new = open(pid, OwnerKind::Process).filter(|handle| handle.0 > 2);
    let new = new.inspect(Handle::mark).filter(|handle| handle.is_pidfd_of(cookie) && lives(handle));
    let is_kept = new.is_some();
    WATCHED.store(new.map_or(NONE, |handle| u64::from(cookie) << 32 | handle.leave()), Ordering::Release);
    !is_kept && look()
}

fn kept_cookie(kept: u64) -> u32 {
    (kept >> 32) as u32
}

fn kept_handle(kept: u64) -> Handle {
    Handle(c_long::from(kept as i32))
}

/// Closes what [`watched_process_ended`] keeps.
#[inline]
pub(crate) fn stop_watching() {
    if WATCHED.load(Ordering::Relaxed) != NONE {
        close_watched();
    }
}

#[cold]
fn close_watched() {
    let kept = WATCHED.swap(IN_USE, Ordering::Acquire);
    if kept != IN_USE {
        drop(watched(kept));
        WATCHED.store(NONE, Ordering::Release);
    }
}

/// What is kept, if it is still behind its number.
fn watched(kept: u64) -> Option<Handle> {
    let handle = kept_handle(kept);
    if kept == NONE || !handle.is_pidfd_of(kept_cookie(kept)) {
        handle.leave();
        return None;
    }
    Some(handle)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::owner::{cookie, getpid};

    /// A child that waits to be killed; the test is another process's, so that no other test looks at the same time.
    #[test]
    fn who_asks_again_has_one_descriptor_and_hears_of_the_end_at_once() {
        let count = || std::fs::read_dir("/proc/self/fd").unwrap().count();
        // SAFETY: the child makes only calls that are allowed after fork, but for what the test reads, which only it has.
        unsafe {
            let test = libc::fork();
            if test == 0 {
                let child = libc::fork();
                if child == 0 {
                    libc::pause();
                }
                let (number, name) = (child as u32, cookie(child as u32, OwnerKind::Process));
                let before = count();
                let mut is_right = !watched_process_ended(number, name);
                is_right &= name & INODE == 0 || count() == before + 1;
                is_right &= (0..100).all(|_| !watched_process_ended(number, name));
                // The program has a file of its own there.
                let kept = WATCHED.load(Ordering::Relaxed) as i32;
                if kept > 2 {
                    libc::dup2(libc::open(c"/dev/null".as_ptr(), libc::O_RDONLY), kept);
                    is_right &= !watched_process_ended(number, name) && libc::fcntl(kept, libc::F_GETFD) >= 0;
                }
                // One of its own that looks alive.
                let kept = WATCHED.load(Ordering::Relaxed) as i32;
                if kept > 2 {
                    let mut pipe = [0; 2];
                    libc::pipe(pipe.as_mut_ptr());
                    libc::dup2(pipe[0], kept);
                    is_right &= (0..LOOKS_EACH).all(|_| !watched_process_ended(number, name));
                    is_right &= WATCHED.load(Ordering::Relaxed) as i32 != kept;
                    is_right &= libc::fcntl(kept, libc::F_GETFD) >= 0;
                }
                // Or one of the very process.
                let kept = WATCHED.load(Ordering::Relaxed) as i32;
                if kept > 2 {
                    let own = libc::syscall(libc::SYS_pidfd_open, child, 0) as i32;
                    libc::dup2(own, kept);
                    stop_watching();
                    is_right &= own >= 0 && libc::fcntl(kept, libc::F_GETFD) >= 0;
                    is_right &= !watched_process_ended(number, name);
                }
                libc::kill(child, libc::SIGKILL);
                let mut info: libc::siginfo_t = std::mem::zeroed();
                libc::waitid(libc::P_PID, number, &mut info, libc::WEXITED | libc::WNOWAIT);
                is_right &= watched_process_ended(number, name);
                is_right &= WATCHED.load(Ordering::Relaxed) == NONE;
                libc::waitpid(child, std::ptr::null_mut(), 0);
                is_right &= watched_process_ended(number, name);
                let (own, own_name) = (getpid(), cookie(getpid(), OwnerKind::Process));
                is_right &= !watched_process_ended(own, own_name);
                stop_watching();
                is_right &= WATCHED.load(Ordering::Relaxed) == NONE;
                libc::_exit(i32::from(!is_right));
            }
            let mut status = 1;
            libc::waitpid(test, &mut status, 0);
            assert_eq!(status, 0);
        }
    }
}
