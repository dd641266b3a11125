//! Finding out, for the price of one load, that this process is a forked child of the one that made an object.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicI32, AtomicPtr, Ordering};

/// A page that the kernel zeroes in every child of fork, however the child was made; null before the first use and
/// where there is no such page. Acquire and Release: a thread that sees the pointer sees the page set up.
static PAGE: AtomicPtr<AtomicI32> = AtomicPtr::new(std::ptr::null_mut());

/// This process's number, kept in the page. Relaxed: every thread would write the same value.
#[inline]
pub fn pid() -> i32 {
    let page = PAGE.load(Ordering::Acquire);
    let page = if page.is_null() { make_page() } else { page };
    // SAFETY: a page is never unmapped.
    let Some(word) = (unsafe { page.as_ref() }) else { return real_pid() };
    match word.load(Ordering::Relaxed) {
        0 => {
            let pid = real_pid();
            word.store(pid, Ordering::Relaxed);
            pid
        }
        pid => pid,
    }
}

/// Whether this process is known to have that number. It may have it where this says no: then [`pid`] finds out.
#[inline(always)]
pub(crate) fn is_known_as(pid: i32) -> bool {
    let page = PAGE.load(Ordering::Acquire);
    // SAFETY: a page is never unmapped. It holds 0, which is nobody's number, in a child that has not asked yet.
    !page.is_null() && unsafe { (*page).load(Ordering::Relaxed) } == pid
}

#[cold]
#[inline(never)]
fn real_pid() -> i32 {
    // SAFETY: no pointers. The raw call, because a C library may remember another process's answer.
    unsafe { libc::syscall(libc::SYS_getpid) as i32 }
}

#[cold]
#[inline(never)]
fn make_page() -> *mut AtomicI32 {
    let length = super::memory::page_size();
    // SAFETY: a new private mapping at an address of the kernel's choice.
    let page = unsafe {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        libc::mmap(std::ptr::null_mut(), length, protection, flags, -1, 0)
    };
    if page == libc::MAP_FAILED {
        return std::ptr::null_mut();
    }
    // SAFETY: the mapping is new, and nobody else knows of it.
    let usable = unsafe { libc::madvise(page, length, libc::MADV_WIPEONFORK) } == 0;
    let new = page.cast::<AtomicI32>();
    let stored = usable
        && PAGE.compare_exchange(std::ptr::null_mut(), new, Ordering::AcqRel, Ordering::Acquire).is_ok();
    if !stored {
        // SAFETY: the mapping is new and was not stored, so nobody else knows of it. Where another thread was faster,
        // its page is the one.
        unsafe { libc::munmap(page, length) };
        return PAGE.load(Ordering::Acquire);
    }
    new
}

/// A pidfd of this very process.
pub(crate) fn own_pidfd() -> crate::Result<OwnedFd> {
    super::pidfd::open(real_pid())
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_forked_child_sees_another_pid() {
        let parent = super::pid();
        assert_eq!(parent, std::process::id() as i32);
        // SAFETY: the child makes only calls that are allowed after fork, and ends.
        unsafe {
            let child = libc::fork();
            if child == 0 {
                libc::_exit(i32::from(super::pid() == parent));
            }
            let mut status = -1;
            assert_eq!(libc::waitpid(child, &mut status, 0), child);
            assert_eq!(status, 0);
        }
    }
}
