//! The holder of a lock, told apart from a later thread or process of its number; and the numbers' PID namespace.
//!
//! A thread or process is named by its number and a *cookie*. The cookie comes from the inode number of its pidfd, which
//! the kernel (6.9) gives out once per boot, whatever namespaces see it: no clock, no /proc, no permission. Older kernels
//! give the time of the start, which /proc shows in the reader's time namespace; so that is part of the cookie, and a
//! reader of another one can't compare. Where neither is to be had the cookie is 0: only the number is known then, and a
//! dead holder whose number has been given out again is not seen to be dead before that one ends as well.

mod watched;

use super::{errno, fd};
use std::ffi::{CStr, c_long};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use watched::MARK;
pub(crate) use watched::{stop_watching, watched_process_ended};

/// What a number and a cookie are those of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum OwnerKind {
    /// One thread.
    Thread,
    /// A whole process, which has ended when all its threads have.
    Process,
}

/// A system call that is no cancellation point, and allocates nothing: these run in forked children, and in waits that
/// `pthread_cancel` must not unwind.
macro_rules! call {
    ($number:ident $(, $argument:expr)*) => {
        // SAFETY: each use of this macro passes what the call takes, and places that are valid for it.
        unsafe { libc::syscall(libc::$number $(, $argument)*) }
    };
}

/// The calling thread's number. The raw call, because a C library may remember another process's answer.
pub(crate) fn gettid() -> u32 {
    call!(SYS_gettid) as u32
}

/// The calling process's number.
pub(crate) fn getpid() -> u32 {
    call!(SYS_getpid) as u32
}

/// A descriptor for a moment.
struct Handle(c_long);

impl Handle {
    fn new(fd: c_long) -> Option<Handle> {
        (fd >= 0).then_some(Handle(fd))
    }

    /// The device and the inode.
    fn identity(&self) -> Option<(u64, u64)> {
        // SAFETY: all zero is a valid stat.
        let mut stat: libc::stat = unsafe { std::mem::zeroed() };
        // SAFETY: a number and a place for the answer; no cancellation point.
        (unsafe { libc::fstat(self.0 as i32, &mut stat) } == 0).then_some((stat.st_dev, stat.st_ino))
    }

    fn inode(&self) -> Option<u64> {
        self.identity().map(|(_, inode)| inode)
    }

    /// The inode of a pidfd that has one of its own. Not that of another file, which may be behind the number by now.
    fn pidfd_inode(&self) -> Option<u64> {
        let (device, inode) = self.identity()?;
        (Some(device) == pidfd_device(self)).then_some(inode)
    }

    /// Marks it as tine's own; `fd` says how. A call that fails leaves it without, and then it is not kept.
    fn mark(&self) {
        call!(SYS_fcntl, self.0, fd::F_SETSIG, MARK);
    }

    /// Whether it is tine's own pidfd of the process with this cookie, and no file of the program's: nor one of the same process.
    fn is_pidfd_of(&self, cookie: u32) -> bool {
        call!(SYS_fcntl, self.0, fd::F_GETSIG) == MARK
            && self.pidfd_inode().is_some_and(|inode| of_inode(inode) == cookie)
    }

    /// Leaves the descriptor open; its number.
    fn leave(self) -> u64 {
        std::mem::ManuallyDrop::new(self).0 as u64
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        call!(SYS_close, self.0);
    }
}

/// A file of /proc, or what fits; nothing where it can't be read.
fn read_proc<'a>(path: &CStr, buffer: &'a mut [u8]) -> Option<&'a [u8]> {
    let flags = libc::O_RDONLY | libc::O_CLOEXEC;
    let file = Handle::new(call!(SYS_openat, libc::AT_FDCWD, path.as_ptr(), flags))?;
    let length = call!(SYS_read, file.0, buffer.as_mut_ptr(), buffer.len());
    (length > 0).then(|| &buffer[..length as usize])
}

/// Writes "/proc/<pid>/stat" or "/proc/<pid>/status"-like paths without allocating.
fn path(pid: u32, leaf: &str, buffer: &mut [u8; 48]) {
    use std::io::Write as _;
    let mut cursor = &mut buffer[..47];
    // A number and a short leaf always fit.
    let _ = write!(cursor, "/proc/{pid}/{leaf}\0");
}

/// What /proc says about a thread.
struct Stat {
    /// The letter of its state.
    state: u8,
    /// How many threads its process has.
    threads: u32,
    /// When it started, in clock ticks after boot as the reader's time namespace counts them.
    start: u64,
    /// Where its program's code and stack begin; the stack's is 0 where this process may not know.
    code: u64,
    stack: u64,
}

/// Whether /proc is of this process's own PID namespace: another one's has other processes behind the same numbers.
///
/// The error's number where nobody could look.
pub(crate) fn find_own_proc() -> Result<bool, i32> {
    let mut link = [0u8; 16];
    let length = call!(SYS_readlinkat, libc::AT_FDCWD, c"/proc/self".as_ptr(), link.as_mut_ptr(), link.len());
    if length < 0 {
        return Err(errno());
    }
    let text = link.get(..length as usize).and_then(|link| std::str::from_utf8(link).ok());
    Ok(text.and_then(|text| text.parse().ok()) == Some(getpid()))
}

/// Whether it is known to be.
fn is_own_proc() -> bool {
    find_own_proc() == Ok(true)
}

fn stat(tid: u32) -> Option<Stat> {
    if !is_own_proc() {
        return None;
    }
    let mut name = [0; 48];
    path(tid, "stat", &mut name);
    let mut buffer = [0; 1024];
    let text = read_proc(CStr::from_bytes_until_nul(&name).ok()?, &mut buffer)?;
    // The command's name may hold anything, so count from the last closing bracket.
    let rest = &text[text.iter().rposition(|byte| *byte == b')')? + 1..];
    let mut fields = rest.split(|byte| *byte == b' ').filter(|field| !field.is_empty());
    let state = *fields.next()?.first()?;
    let number = |field: &[u8]| std::str::from_utf8(field).ok()?.parse::<u64>().ok();
    let threads = number(fields.nth(16)?)? as u32;
    let start = number(fields.nth(1)?)?;
    let mut place = |after| fields.nth(after).and_then(number).unwrap_or(0);
    Some(Stat { state, threads, start, code: place(3), stack: place(1) })
}

/// The start of a thread, or of a process's first one; 0 where /proc doesn't say.
pub(crate) fn start_time(tid: u32) -> u64 {
    stat(tid).map_or(0, |stat| stat.start)
}

/// The process that a thread belongs to; 0 where /proc doesn't say.
pub(crate) fn process_of(tid: u32) -> u32 {
    let mut name = [0; 48];
    path(tid, "status", &mut name);
    let mut buffer = [0; 2048];
    let mut read = || {
        if !is_own_proc() {
            return None;
        }
        let text = read_proc(CStr::from_bytes_until_nul(&name).ok()?, &mut buffer)?;
        let line = text.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"Tgid:\t"))?;
        std::str::from_utf8(line).ok()?.trim().parse().ok()
    };
    read().unwrap_or(0)
}

fn open(number: u32, kind: OwnerKind) -> Option<Handle> {
    /// For one thread, since 6.9.
    const PIDFD_THREAD: i32 = libc::O_EXCL;
    let flags = if kind == OwnerKind::Thread { PIDFD_THREAD } else { 0 };
    Handle::new(call!(SYS_pidfd_open, number, flags))
}

/// A cookie made of an inode number has this bit; one made of a start has not, and is not 0.
const INODE: u32 = 1 << 31;

/// No cookie has this bit: a lock says something else with it.
pub(crate) const UNUSED: u32 = 1 << 30;

fn of_inode(inode: u64) -> u32 {
    inode as u32 & !UNUSED | INODE
}

fn of_start(start: u64) -> u32 {
    const START_BITS: u32 = 21;
    // SAFETY: all zero is a valid stat.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    // Without the file there is one time namespace for all.
    // SAFETY: a valid path and a place for the answer.
    unsafe { libc::stat(c"/proc/self/ns/time".as_ptr(), &mut stat) };
    ((stat.st_ino as u32) << START_BITS | (start as u32 & ((1 << START_BITS) - 1))) & !(INODE | UNUSED) | 1
}

/// Whether two cookies made of starts were made in the same time namespace.
fn same_clock(one: u32, other: u32) -> bool {
    (one ^ other) >> 21 == 0
}

/// The device of pidfds, where these have inode numbers of their own: by it one is told from a file of the program's under its
/// number. Relaxed: every thread would store the same.
static PIDFD_DEVICE: AtomicU64 = AtomicU64::new(NOT_ASKED);
const NOT_ASKED: u64 = u64::MAX;
const NO_DEVICE: u64 = u64::MAX - 1;

fn pidfd_device(handle: &Handle) -> Option<u64> {
    if PIDFD_DEVICE.load(Ordering::Relaxed) == NOT_ASKED {
        ask_for_device(handle);
    }
    Some(PIDFD_DEVICE.load(Ordering::Relaxed)).filter(|device| *device < NO_DEVICE)
}

#[cold]
fn ask_for_device(handle: &Handle) {
    const PID_FS: u64 = 0x5049_4446;
    const ANONYMOUS_INODES: u64 = 0x0904_1934;
    // SAFETY: all zero is a valid statfs.
    let mut answer: libc::statfs = unsafe { std::mem::zeroed() };
    let before = handle.identity();
    // SAFETY: a number and a place for the answer.
    let rc = unsafe { libc::fstatfs(handle.0 as i32, &mut answer) };
    // Three looks at one file: the program may close it meanwhile, and have one of its own there.
    let device =
        before.filter(|before| rc == 0 && handle.identity() == Some(*before)).map(|(device, _)| device);
    match (device, answer.f_type as u64) {
        (Some(device), PID_FS) => PIDFD_DEVICE.store(device, Ordering::Relaxed),
        (Some(_), ANONYMOUS_INODES) => PIDFD_DEVICE.store(NO_DEVICE, Ordering::Relaxed),
        _ => {}
    }
}

/// The cookie of a thread or process that the caller knows to live; 0 where there is none to be had.
pub(crate) fn cookie(number: u32, kind: OwnerKind) -> u32 {
    if let Some(handle) = open(number, kind)
        && let Some(inode) = handle.pidfd_inode()
    {
        return of_inode(inode);
    }
    stat(number).map_or(0, |stat| of_start(stat.start))
}

/// Whether a thread or process has ended, by its number and cookie.
///
/// That this process is refused a look says neither that the holder lives nor that it is dead: then the next way of
/// finding out is tried. Where none knows, it counts as alive.
///
/// The program may close a descriptor that is not its own, and have another file under that number at one instruction and no more at
/// the next. So an end counts that two looks have seen.
pub(crate) fn has_ended(number: u32, cookie: u32, kind: OwnerKind) -> bool {
    (0..2).all(|_| seems_ended_by_handle(number, cookie, kind))
}

fn seems_ended_by_handle(number: u32, cookie: u32, kind: OwnerKind) -> bool {
    match open(number, kind) {
        Some(handle) => handle.tells_end(number, cookie).unwrap_or_else(|| seems_ended(number, cookie, kind)),
        None => match errno() {
            libc::ESRCH => true,
            // The number is that of a thread, by now, which is no process's first.
            libc::EINVAL | libc::ENOENT if kind == OwnerKind::Process => true,
            _ => seems_ended(number, cookie, kind),
        },
    }
}

fn is_another_by_start(number: u32, cookie: u32) -> bool {
    cookie != 0
        && stat(number).is_some_and(|stat| {
            let now = of_start(stat.start);
            same_clock(now, cookie) && now != cookie
        })
}

impl Handle {
    /// Whether what it was opened for has ended, or is another one than the cookie's; `None` where this process may not ask, or has closed
    /// it meanwhile.
    fn tells_end(&self, number: u32, cookie: u32) -> Option<bool> {
        let is_readable = self.is_readable()?;
        if cookie & INODE == 0 {
            // The handle is older than that look at /proc, so both are about the same one or the start differs.
            return Some(is_readable || is_another_by_start(number, cookie));
        }
        // After that look: what it was at need not be a pidfd.
        match self.identity() {
            Some((_, inode)) if of_inode(inode) == cookie => Some(is_readable),
            Some((device, _)) if Some(device) == pidfd_device(self) => Some(true),
            None if errno() != libc::EBADF => Some(is_readable), // Nobody may ask what it is.
            _ => None,
        }
    }

    /// `None` where this process may not ask, or the number is nobody's.
    fn is_readable(&self) -> Option<bool> {
        let mut poll = libc::pollfd { fd: self.0 as i32, events: libc::POLLIN, revents: 0 };
        let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        match call!(SYS_ppoll, &raw mut poll, 1, &raw const now, 0, 0) {
            0 => Some(false),
            1 if poll.revents & libc::POLLIN != 0 => Some(true),
            _ => None,
        }
    }
}

/// The same without a descriptor: none is free, or the sandbox refuses them, or the kernel has none for threads.
fn seems_ended(number: u32, cookie: u32, kind: OwnerKind) -> bool {
    // Signal 0 is not delivered; it asks whether the number is in use.
    let asked = match kind {
        OwnerKind::Thread => call!(SYS_tkill, number, 0),
        OwnerKind::Process => call!(SYS_kill, number, 0),
    };
    if asked != 0 && errno() == libc::ESRCH {
        return true;
    }
    // It is, but perhaps by one that only waits for its parent to look.
    let is_own_zombie = {
        let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT | libc::__WALL;
        // SAFETY: all zero is a valid siginfo, with pid 0 for nobody; the call gets a place for the answer.
        unsafe {
            let mut info: libc::siginfo_t = std::mem::zeroed();
            libc::syscall(libc::SYS_waitid, libc::P_PID, number, &raw mut info, options, 0) == 0
                && info.si_pid() as u32 == number
        }
    };
    let by_proc = || {
        stat(number).is_some_and(|stat| {
            // A process's first thread may have ended before the others.
            matches!(stat.state, b'Z' | b'X') && (kind == OwnerKind::Thread || stat.threads <= 1)
        }) || cookie & INODE == 0 && is_another_by_start(number, cookie)
    };
    is_own_zombie || by_proc()
}

/// Whether a thread has ended.
pub(crate) fn thread_ended(tid: u32, cookie: u32) -> bool {
    has_ended(tid, cookie, OwnerKind::Thread)
}

/// Whether a whole process has.
pub(crate) fn process_ended(pid: u32, cookie: u32) -> bool {
    has_ended(pid, cookie, OwnerKind::Process)
}

/// How many bits the name of an image has.
pub(crate) const IMAGE_BITS: u32 = 9;

/// The program that a process runs, from one exec to the next; 0 where this process may not know. The kernel puts each one's stack elsewhere,
/// so two of a process have the same name once in 511 times, or where it has been told not to.
pub(crate) fn image(pid: u32) -> u32 {
    /// 2^64 over the golden ratio, of which the upper bits count.
    const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
    // An emulator that answers for its program gives the program's stack and no code: other processes see the emulator's own.
    let stat = stat(pid).filter(|stat| stat.stack != 0 && stat.code > 1);
    stat.map_or(0, |stat| {
        let mixed = (stat.stack ^ stat.code.rotate_left(17)).wrapping_mul(SPREAD);
        ((mixed >> (64 - IMAGE_BITS)) as u32).max(1)
    })
}

/// Whether a process runs another program by now. As for an end, two looks have to see it.
pub(crate) fn has_executed(pid: u32, before: u32) -> bool {
    let is_another = |_| {
        let now = image(pid);
        now != 0 && now != before
    };
    before != 0 && (0..2).all(is_another)
}

/// What `namespace` gives where this process can't find out: no namespace's number.
pub(crate) const UNKNOWN_NAMESPACE: u32 = 1;

/// The tag of this process's PID namespace; numbers of threads mean nothing in another. Never 0. Without /proc, kernels
/// since 6.11 say it by a pidfd.
pub(crate) fn namespace() -> u32 {
    /// _IO(0xff, 5).
    const PIDFD_GET_PID_NAMESPACE: c_long = 0xff05;
    // SAFETY: all zero is a valid stat.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: a valid path and a place for the answer.
    if unsafe { libc::stat(c"/proc/self/ns/pid".as_ptr(), &mut stat) } == 0 {
        return (stat.st_ino as u32).max(UNKNOWN_NAMESPACE);
    }
    let by_pidfd = || {
        let own = open(getpid(), OwnerKind::Process)?;
        Handle::new(call!(SYS_ioctl, own.0, PIDFD_GET_PID_NAMESPACE, 0))?.inode()
    };
    by_pidfd().map_or(UNKNOWN_NAMESPACE, |inode| (inode as u32).max(UNKNOWN_NAMESPACE))
}

/// Whether spinning makes sense: a holder can run while a waiter does. 0: not yet asked. Relaxed: every thread would
/// store the same.
static PROCESSORS: AtomicU32 = AtomicU32::new(0);

/// Whether more than one processor is online.
pub(crate) fn many_processors() -> bool {
    match PROCESSORS.load(Ordering::Relaxed) {
        0 => {
            // SAFETY: no pointers.
            let count = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) }.clamp(1, 1 << 20) as u32;
            PROCESSORS.store(count, Ordering::Relaxed);
            count > 1
        }
        count => count > 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_thread_lives_and_its_namesake_of_another_time_does_not() {
        let (tid, pid) = (gettid(), getpid());
        let (thread, process) = (cookie(tid, OwnerKind::Thread), cookie(pid, OwnerKind::Process));
        assert!(thread != 0 && process != 0);
        assert!(!thread_ended(tid, thread) && thread_ended(tid, thread ^ 2));
        assert!(!process_ended(pid, process) && process_ended(pid, process ^ 2));
        // Without a cookie it's the number alone.
        assert!(!thread_ended(tid, 0) && !process_ended(pid, 0));
        assert_eq!(process_of(tid), pid);
    }

    /// The program closes descriptors that are not its own, while a thread looks: what is then behind the number says nothing of an end.
    #[test]
    fn what_is_no_pidfd_tells_no_end() {
        let pid = getpid();
        let name = cookie(pid, OwnerKind::Process);
        let of = |path: &CStr| {
            Handle::new(call!(SYS_openat, libc::AT_FDCWD, path.as_ptr(), libc::O_RDONLY)).unwrap()
        };
        let closed = std::mem::ManuallyDrop::new(Handle(i32::MAX.into()));
        assert_eq!(closed.tells_end(pid, name), None);
        assert_eq!(closed.pidfd_inode(), None);
        if name & INODE != 0 {
            // Always readable, and another inode.
            assert_eq!(of(c"/dev/zero").tells_end(pid, name), None);
            assert_eq!(of(c"/dev/zero").pidfd_inode(), None);
            assert_eq!(open(pid, OwnerKind::Process).unwrap().tells_end(pid, name), Some(false));
            assert_eq!(open(pid, OwnerKind::Process).unwrap().tells_end(pid, name ^ 2), Some(true));
        }
    }

    #[test]
    fn a_start_of_another_time_namespace_is_not_compared() {
        let pid = getpid();
        let mine = of_start(start_time(pid));
        assert!(!is_another_by_start(pid, mine) && is_another_by_start(pid, mine ^ 2));
        assert!(!is_another_by_start(pid, mine ^ 1 << 21 ^ 2));
    }

    #[test]
    fn a_thread_that_has_ended_is_known_to_have() {
        let (tid, cookie) =
            std::thread::spawn(|| (gettid(), cookie(gettid(), OwnerKind::Thread))).join().unwrap();
        // The number goes when the kernel has finished with the thread, a moment after join returns.
        let limit = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while !thread_ended(tid, cookie) || !seems_ended(tid, cookie, OwnerKind::Thread) {
            assert!(std::time::Instant::now() < limit, "an ended thread still counts as alive");
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_process_that_nobody_has_reaped_has_ended_with_and_without_descriptors() {
        // SAFETY: the child makes only calls that are allowed after fork.
        let child = unsafe { libc::fork() };
        if child == 0 {
            // SAFETY: sleeps until it is killed.
            unsafe {
                libc::pause();
                libc::_exit(0)
            }
        }
        let number = child as u32;
        let name = cookie(number, OwnerKind::Process);
        assert!(!process_ended(number, name) && !seems_ended(number, name, OwnerKind::Process));
        // SAFETY: this test's own child; a place for the answer.
        unsafe {
            libc::kill(child, libc::SIGKILL);
            let mut info: libc::siginfo_t = std::mem::zeroed();
            libc::waitid(libc::P_PID, number, &mut info, libc::WEXITED | libc::WNOWAIT);
        }
        assert!(process_ended(number, name) && seems_ended(number, name, OwnerKind::Process));
        // SAFETY: this test's own child, and no place for the answer.
        unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
        assert!(process_ended(number, name) && seems_ended(number, name, OwnerKind::Process));
    }

    #[test]
    fn the_namespace_is_the_same_with_and_without_proc() {
        let own = open(getpid(), OwnerKind::Process).unwrap();
        let tag = Handle::new(call!(SYS_ioctl, own.0, 0xff05, 0)).and_then(|handle| handle.inode());
        // Kernels before 6.11 don't say.
        assert!(tag.is_none_or(|tag| tag as u32 == namespace()));
        assert!(namespace() > UNKNOWN_NAMESPACE);
    }
}
