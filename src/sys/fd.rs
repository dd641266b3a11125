//! Descriptors: always close-on-exec, and never one of the three that the C library takes for stdio.

use crate::error::{Code, Error, Result};
use crate::sys::clock::Deadline;
use crate::sys::memory::FileId;
use crate::sys::thread::Uncancelled;
use std::ffi::{CStr, c_int};
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicI32, Ordering};

/// A descriptor of tine's in a process that runs its user's code. That code may close any number, and have a file of its own
/// under it a moment later: what is behind the number is looked at before each use, and before it is closed.
///
/// Eventfds, timers and epolls have one inode together. What no other process has is marked, and the file carries the mark along. A worker
/// knows the host's eventfd by its number in /proc, which nobody else gets while the host has it; the host knows it by the set that it is in
/// (`epoll::Watched`). Other descriptors that have no inode of their own cannot be told from the next. Nor can a thread be helped that closes a
/// number between the look and the use.
#[derive(Debug)]
pub(crate) struct Guarded {
    fd: ManuallyDrop<OwnedFd>,
    /// What was behind it at first; `None` where that could not be found out: then the file is taken for unchanged.
    file: Option<FileId>,
    /// The number of an eventfd, which nobody else gets while the process at its other end has it too.
    eventfd: Option<u64>,
    /// The mark that it has been given.
    mark: Option<c_int>,
}

/// Of an open file, which signal tells of its being ready instead of SIGIO: none is sent where nobody asks for that, and neither eventfds
/// nor timers nor epolls send any.
pub(crate) const F_SETSIG: c_int = 10;
pub(crate) const F_GETSIG: c_int = 11;

/// The next mark: in turn, so that tine's own next file under a number seldom has the same. Relaxed: any will do.
static NEXT_MARK: AtomicI32 = AtomicI32::new(0);

impl Guarded {
    pub(crate) fn new(fd: OwnedFd) -> Guarded {
        let file = FileId::of(fd.as_raw_fd()).ok();
        Guarded { fd: ManuallyDrop::new(fd), file, eventfd: None, mark: None }
    }

    /// The same for an eventfd, timer or epoll that no other process has.
    pub(crate) fn marked(fd: OwnedFd) -> Guarded {
        const FIRST: c_int = 34;
        const LAST: c_int = 64;
        let mark = FIRST + NEXT_MARK.fetch_add(1, Ordering::Relaxed).rem_euclid(LAST - FIRST + 1);
        // SAFETY: no pointers.
        let is_set = unsafe { libc::fcntl(fd.as_raw_fd(), F_SETSIG, mark) } == 0;
        let mut guarded = Guarded::new(fd);
        guarded.mark = Some(mark).filter(|_| is_set);
        guarded
    }

    /// The same for an eventfd.
    pub(crate) fn of_eventfd(fd: OwnedFd) -> Guarded {
        let eventfd = number_of_eventfd(fd.as_raw_fd()).ok().flatten();
        let mut guarded = Guarded::new(fd);
        guarded.eventfd = eventfd;
        guarded
    }

    /// Whether the number still means what it meant.
    pub(crate) fn is_ours(&self) -> bool {
        let Some(file) = self.file else { return true };
        match FileId::of(self.fd.as_raw_fd()) {
            Ok(now) => {
                // What cannot be looked at, for want of a descriptor say, is taken for what it was.
                let is_same = || match number_of_eventfd(self.fd.as_raw_fd()) {
                    Ok(number) => number == self.eventfd,
                    Err(_) => true,
                };
                now == file && self.has_mark() && (self.eventfd.is_none() || is_same())
            }
            Err(error) => error.code() != Code::errno(libc::EBADF),
        }
    }

    /// Whether what is behind the number has the mark. What cannot be asked is taken for what it was.
    fn has_mark(&self) -> bool {
        let Some(mark) = self.mark else { return true };
        // SAFETY: no pointers.
        let now = unsafe { libc::fcntl(self.fd.as_raw_fd(), F_GETSIG) };
        now == mark || now < 0
    }

    /// The number alone, for calls that a user makes one of for each message: what it is behind is not looked at.
    pub(crate) fn number(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// The number, for a caller that has to know that the file behind it is still the same; `what` is the object's name.
    pub(crate) fn checked(&self, what: &str) -> Result<RawFd> {
        let closed =
            || Error::errno(libc::EBADF, format!("{what}'s descriptor has been closed by the program"));
        Some(self.as_raw_fd()).filter(|fd| *fd >= 0).ok_or_else(closed)
    }

    /// A descriptor of one's own of the same file.
    pub(crate) fn duplicate(&self) -> Result<OwnedFd> {
        duplicate(self.as_raw_fd())
    }

    /// Whether both are of one file, as far as that can be known.
    pub(crate) fn is_same_file(&self, other: &Guarded) -> bool {
        self.file.is_some() && self.file == other.file
    }

    /// Whether this is the same file.
    pub(crate) fn is_same(&self, other: &OwnedFd) -> bool {
        self.file.is_some() && self.file == FileId::of(other.as_raw_fd()).ok()
    }
}

impl AsRawFd for Guarded {
    /// The number; or -1, which every system call refuses, where another file has it by now.
    fn as_raw_fd(&self) -> RawFd {
        if self.is_ours() { self.fd.as_raw_fd() } else { -1 }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        if self.is_ours() {
            let _uncancelled = Uncancelled::new();
            // SAFETY: dropped once, here, and not used afterwards.
            unsafe { ManuallyDrop::drop(&mut self.fd) };
        }
    }
}

/// The number that the kernel has given an eventfd; `None` where it is none.
fn number_of_eventfd(fd: RawFd) -> std::io::Result<Option<u64>> {
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}"))?;
    let line = info.lines().find_map(|line| line.strip_prefix("eventfd-id:"));
    Ok(line.and_then(|number| number.trim().parse().ok()))
}

/// Takes what a system call returned: a new descriptor, or -1 with errno set.
///
/// A host that has closed its standard descriptors gets 0, 1 or 2 from the kernel; what is printed later would then
/// be written into tine's own descriptor, so it is moved above them.
pub(crate) fn owned(rc: libc::c_long, what: &str) -> Result<OwnedFd> {
    if rc < 0 {
        return Err(Error::last_os(what));
    }
    // SAFETY: the kernel has just returned this descriptor, so nobody else owns it.
    above_standard(unsafe { OwnedFd::from_raw_fd(rc as RawFd) }, what)
}

/// The same file for reading alone, by a descriptor of its own.
pub(crate) fn for_reading(fd: RawFd) -> Result<OwnedFd> {
    let path = std::ffi::CString::new(format!("/proc/self/fd/{fd}")).unwrap_or_default();
    // SAFETY: a string.
    let rc = unsafe { libc::open(path.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC) };
    owned(libc::c_long::from(rc), "open")
}

/// A copy of a descriptor that its owner keeps; close-on-exec, above the standard ones.
pub(crate) fn duplicate(fd: RawFd) -> Result<OwnedFd> {
    copy_above_standard(fd, "the descriptor")
}

/// Moves a descriptor that has the number of a standard one.
pub(crate) fn above_standard(fd: OwnedFd, what: &str) -> Result<OwnedFd> {
    if fd.as_raw_fd() > 2 {
        return Ok(fd);
    }
    copy_above_standard(fd.as_raw_fd(), what)
}

fn copy_above_standard(fd: RawFd, what: &str) -> Result<OwnedFd> {
    // SAFETY: no pointers.
    let copy = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 3) };
    if copy < 0 && super::errno() == libc::EINVAL {
        return Err(Error::errno(libc::EMFILE, format!("{what}: the limit on descriptors is below 4")));
    }
    owned(libc::c_long::from(copy), what)
}

/// A counter that can be polled; it never blocks and is never full for the one use that tine has for it, waking.
pub fn eventfd() -> Result<OwnedFd> {
    // SAFETY: no pointers.
    let rc = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
    owned(libc::c_long::from(rc), "eventfd")
}

/// Makes an eventfd readable. That it is readable already is fine.
pub fn eventfd_signal(fd: RawFd) {
    let _uncancelled = Uncancelled::new();
    let one = 1u64;
    // SAFETY: eight readable bytes.
    while unsafe { libc::write(fd, (&raw const one).cast(), 8) } < 0 {
        // EAGAIN means that it is as readable as it gets.
        if super::errno() != libc::EINTR {
            return;
        }
    }
}

/// Makes an eventfd unreadable.
pub fn eventfd_clear(fd: RawFd) {
    let _uncancelled = Uncancelled::new();
    let mut count = 0u64;
    // SAFETY: eight writable bytes.
    while unsafe { libc::read(fd, (&raw mut count).cast(), 8) } < 0 {
        // EAGAIN means that it was not readable.
        if super::errno() != libc::EINTR {
            return;
        }
    }
}

/// A descriptor that becomes readable at a moment of the monotonic clock.
#[derive(Debug)]
pub struct Timer {
    fd: Guarded,
    set_to: Deadline,
}

impl Timer {
    /// One that is not set.
    pub fn new() -> Result<Timer> {
        // SAFETY: no pointers.
        let rc =
            unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_CLOEXEC | libc::TFD_NONBLOCK) };
        Ok(Timer {
            fd: Guarded::marked(owned(libc::c_long::from(rc), "timerfd_create")?),
            set_to: Deadline::NEVER,
        })
    }

    /// Sets it anew; that also makes it unreadable until then.
    pub fn set(&mut self, deadline: Deadline) {
        if deadline == self.set_to {
            return;
        }
        self.set_to = deadline;
        let zero = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        let time = libc::itimerspec { it_interval: zero, it_value: deadline.timespec().unwrap_or(zero) };
        // SAFETY: a valid time; an absolute one of zero disarms.
        unsafe {
            libc::timerfd_settime(self.fd.as_raw_fd(), libc::TFD_TIMER_ABSTIME, &time, std::ptr::null_mut())
        };
    }

    /// Sets it to an earlier time; one that is set to an earlier one stays as it is.
    pub(crate) fn set_by(&mut self, deadline: Deadline) {
        if deadline < self.set_to {
            self.set(deadline);
        }
    }

    /// The descriptor.
    pub fn fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

/// Closes every descriptor above the standard ones except those listed; `keep` must be sorted.
///
/// Async-signal-safe, so that it can run in a child of fork.
pub(crate) fn close_all_but(keep: &[RawFd]) {
    let mut first = 3;
    for &fd in keep {
        if fd >= first {
            close_range(first as u32, fd as u32);
            first = fd + 1;
        }
    }
    close_range(first as u32, u32::MAX);
}

/// Closes the descriptors from `first` up to, but not including, `end` (`u32::MAX` is the last there can be).
fn close_range(first: u32, end: u32) {
    if first >= end {
        return;
    }
    let last = if end == u32::MAX { end } else { end - 1 };
    super::raw::close_range(first, last);
}

/// Points a standard descriptor at /dev/null where the process has none, or always where `force` is set. In bare system calls,
/// as `spawn::become_child` has to be.
pub(crate) fn null_standard(fd: RawFd, force: bool) {
    use super::raw::call;
    // SAFETY: plain calls on numbers; the path is a C string.
    unsafe {
        if !force && call(libc::SYS_fcntl, [fd as usize, libc::F_GETFD as usize, 0, 0, 0, 0]) >= 0 {
            return;
        }
        let path = c"/dev/null".as_ptr().addr();
        let null = call(libc::SYS_openat, [libc::AT_FDCWD as usize, path, libc::O_RDWR as usize, 0, 0, 0]);
        if null >= 0 && null as RawFd != fd {
            call(libc::SYS_dup3, [null as usize, fd as usize, 0, 0, 0, 0]);
            call(libc::SYS_close, [null as usize, 0, 0, 0, 0, 0]);
        }
    }
}

/// A pipe: an end to read from, which never blocks, and one to write to, which does.
pub(crate) fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    let mut ends = [0; 2];
    // SAFETY: a place for two descriptors.
    if unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) } != 0 {
        return Err(Error::last_os("pipe"));
    }
    // SAFETY: the kernel has just returned them, so nobody else owns them.
    let [read, write] = ends.map(|end| unsafe { OwnedFd::from_raw_fd(end) });
    let (read, write) = (above_standard(read, "pipe")?, above_standard(write, "pipe")?);
    // SAFETY: a plain fcntl on a descriptor that is open.
    unsafe { libc::fcntl(read.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) };
    Ok((read, write))
}

/// A file to the end of which everything is written; made where there is none.
pub(crate) fn append_to(path: &CStr) -> Result<OwnedFd> {
    let flags = libc::O_WRONLY | libc::O_APPEND | libc::O_CREAT | libc::O_CLOEXEC | libc::O_NOCTTY;
    // SAFETY: a C string.
    let rc = unsafe { libc::open(path.as_ptr(), flags, 0o666) };
    owned(libc::c_long::from(rc), "open")
}

/// A file to be read and written; made where there is none. One that would have to wait for its other end does not.
pub(crate) fn made_or_open(path: &CStr) -> Result<OwnedFd> {
    let flags = libc::O_RDWR | libc::O_CREAT | libc::O_CLOEXEC | libc::O_NOCTTY | libc::O_NONBLOCK;
    // SAFETY: a C string.
    let rc = unsafe { libc::open(path.as_ptr(), flags, 0o666) };
    above_standard(owned(libc::c_long::from(rc), "open")?, "open")
}

/// What is written to a file goes to its end.
pub(crate) fn append_from_now_on(fd: RawFd) -> Result<()> {
    // SAFETY: a plain fcntl on a number.
    match unsafe { libc::fcntl(fd, libc::F_SETFL, libc::O_APPEND) } {
        0 => Ok(()),
        _ => Err(Error::last_os("fcntl")),
    }
}

/// Reads what there is, up to the length of the buffer; 0 at the end, `None` where there is nothing for now.
pub(crate) fn read_some(fd: RawFd, buffer: &mut [u8]) -> Option<usize> {
    loop {
        // SAFETY: pointer and length are of one buffer of ours, so as many bytes can be written.
        let got = unsafe { libc::read(fd, buffer.as_mut_ptr().cast(), buffer.len()) };
        if got >= 0 || super::errno() != libc::EINTR {
            return usize::try_from(got).ok();
        }
    }
}

/// Makes a descriptor this process's standard output and error. Async-signal-safe.
pub(crate) fn become_output(fd: RawFd) {
    // SAFETY: plain calls on numbers.
    unsafe {
        libc::dup2(fd, 1);
        libc::dup2(fd, 2);
    }
}

/// Writes all of it.
pub(crate) fn write_all(fd: RawFd, mut bytes: &[u8]) -> Result<()> {
    while !bytes.is_empty() {
        // SAFETY: pointer and length are of one slice, so as many bytes can be read.
        let written = unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) };
        if written >= 0 {
            bytes = &bytes[written as usize..];
        } else if super::errno() != libc::EINTR {
            return Err(Error::last_os("write"));
        }
    }
    Ok(())
}

/// Appends bytes through a description that nobody else has. Returns where in the file the first of them is.
pub(crate) fn append(fd: RawFd, bytes: &[u8]) -> Result<u64> {
    loop {
        // SAFETY: pointer and length are of one slice, so as many bytes can be read.
        let written = unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) };
        if written < 0 && super::errno() == libc::EINTR {
            continue;
        }
        if written < 0 {
            return Err(Error::last_os("write"));
        }
        // SAFETY: lseek takes no pointers. `write` has left the position behind what it has appended.
        let end = unsafe { libc::lseek(fd, 0, libc::SEEK_CUR) };
        if end < 0 {
            return Err(Error::last_os("lseek"));
        }
        write_all(fd, &bytes[written as usize..])?;
        return Ok((end as u64).saturating_sub(written as u64));
    }
}

/// What file a descriptor is of: its device's numbers, its inode.
pub(crate) fn identity(fd: RawFd) -> Result<((u32, u32), u64)> {
    // SAFETY: all zero is a valid stat.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: `stat` is a valid place.
    if unsafe { libc::fstat(fd, &mut stat) } != 0 {
        return Err(Error::last_os("fstat"));
    }
    Ok(((libc::major(stat.st_dev), libc::minor(stat.st_dev)), stat.st_ino))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Closes the number and puts something else there.
    fn replace(guarded: &Guarded, by: &OwnedFd) {
        // SAFETY: what a program's own code may do to a number that it takes for its own.
        assert!(unsafe { libc::dup2(by.as_raw_fd(), guarded.fd.as_raw_fd()) } >= 0);
    }

    #[test]
    fn what_somebody_else_has_put_there_is_neither_used_nor_closed() {
        let (read, write) = pipe().unwrap();
        let event = eventfd().unwrap();
        // Its other end has it too.
        let held = event.try_clone().unwrap();
        for (guarded, other) in [
            (Guarded::new(write), pipe().unwrap().1),
            (Guarded::of_eventfd(event), eventfd().unwrap()),
            (Guarded::new(read), eventfd().unwrap()),
        ] {
            let number = guarded.fd.as_raw_fd();
            assert!(guarded.is_ours() && guarded.as_raw_fd() == number);
            replace(&guarded, &other);
            assert!(!guarded.is_ours() && guarded.as_raw_fd() == -1);
            drop(guarded);
            // SAFETY: a number to look at, and then one that nobody owns.
            unsafe {
                assert!(libc::fcntl(number, libc::F_GETFD) >= 0, "it was closed");
                libc::close(number);
            }
        }
        drop(held);
    }

    #[test]
    fn the_users_own_file_of_the_same_kind_is_not_taken_for_ours() {
        let timer = || duplicate(Timer::new().unwrap().fd()).unwrap();
        let epoll = || duplicate(crate::sys::epoll::Epoll::new().unwrap().fd()).unwrap();
        // The numbers in /proc are given out again: what nobody else has must be known by something else.
        for make in [&(|| eventfd().unwrap()) as &dyn Fn() -> OwnedFd, &timer, &epoll] {
            let guarded = Guarded::marked(make());
            assert!(guarded.is_ours());
            let number = guarded.fd.as_raw_fd();
            // SAFETY: what a program's own code may do.
            unsafe { libc::close(number) };
            let other = eventfd().unwrap();
            // SAFETY: what a program may do with descriptors: it touches no memory.
            assert!(unsafe { libc::dup2(other.as_raw_fd(), number) } >= 0);
            assert!(!guarded.is_ours());
            drop(guarded);
            // SAFETY: a number that nobody owns.
            assert_eq!(unsafe { libc::close(number) }, 0, "it was closed");
        }
    }
}
