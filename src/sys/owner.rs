//! Who holds a lock, told apart from whoever gets the same number later; and the numbers' PID namespace.

use super::{errno, pidfd};
use std::ffi::CStr;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU32, Ordering};

/// The calling thread's number.
pub(crate) fn gettid() -> u32 {
    // SAFETY: no pointers. The raw call, because a C library may remember another process's answer.
    unsafe { libc::syscall(libc::SYS_gettid) as u32 }
}

/// The calling process's number.
pub(crate) fn getpid() -> u32 {
    // SAFETY: as above.
    unsafe { libc::syscall(libc::SYS_getpid) as u32 }
}

/// A file of /proc, or what fits; nothing where it can't be read. No allocation: it may run in a forked child.
fn read_proc<'a>(path: &CStr, buffer: &'a mut [u8]) -> Option<&'a [u8]> {
    // SAFETY: a valid path; the descriptor is closed below.
    let fd = unsafe { libc::open(path.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC) };
    if fd < 0 {
        return None;
    }
    // SAFETY: the buffer is valid for its length.
    let length = unsafe { libc::read(fd, buffer.as_mut_ptr().cast(), buffer.len()) };
    // SAFETY: opened above.
    unsafe { libc::close(fd) };
    (length > 0).then(|| &buffer[..length as usize])
}

/// Writes "/proc/<pid>/stat" or "/proc/<pid>/status"-like paths without allocating.
fn path(pid: u32, leaf: &str, buffer: &mut [u8; 48]) {
    use std::io::Write as _;
    let mut cursor = &mut buffer[..47];
    // A number and a short leaf always fit.
    let _ = write!(cursor, "/proc/{pid}/{leaf}\0");
}

/// A thread's state letter and the time of its start, in the clock ticks after boot that /proc counts in.
fn stat(tid: u32) -> Option<(u8, u64)> {
    let mut name = [0; 48];
    path(tid, "stat", &mut name);
    let mut buffer = [0; 1024];
    let text = read_proc(CStr::from_bytes_until_nul(&name).ok()?, &mut buffer)?;
    // The command's name may hold anything, so count from the last closing bracket.
    let rest = &text[text.iter().rposition(|byte| *byte == b')')? + 1..];
    let mut fields = rest.split(|byte| *byte == b' ').filter(|field| !field.is_empty());
    let state = *fields.next()?.first()?;
    let start = fields.nth(18)?;
    Some((state, std::str::from_utf8(start).ok()?.parse().ok()?))
}

/// The start of a thread, or of a process's first one; 0 where /proc doesn't say.
pub(crate) fn start_time(tid: u32) -> u64 {
    stat(tid).map_or(0, |stat| stat.1)
}

/// The process that a thread belongs to; 0 where /proc doesn't say.
pub(crate) fn process_of(tid: u32) -> u32 {
    let mut name = [0; 48];
    path(tid, "status", &mut name);
    let mut buffer = [0; 2048];
    let mut read = || {
        let text = read_proc(CStr::from_bytes_until_nul(&name).ok()?, &mut buffer)?;
        let line = text.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"Tgid:\t"))?;
        std::str::from_utf8(line).ok()?.trim().parse().ok()
    };
    read().unwrap_or(0)
}

/// Whether a thread has ended, or is another than the one that started at `start` (0: not known).
pub(crate) fn thread_ended(tid: u32, start: u64) -> bool {
    match stat(tid) {
        Some((state, now)) => matches!(state, b'Z' | b'X') || (start != 0 && now != start),
        // SAFETY: signal 0 is sent to nobody; it asks whether the number is in use.
        None => unsafe { libc::syscall(libc::SYS_tkill, tid, 0) != 0 && errno() == libc::ESRCH },
    }
}

/// The same for a whole process: it has ended when all its threads have.
pub(crate) fn process_ended(pid: u32, start: u64) -> bool {
    let Ok(handle) = pidfd::open(pid as i32) else { return errno() == libc::ESRCH };
    // The handle is older than this look at /proc, so both are about the same process or the start differs.
    (start != 0 && stat(pid).is_some_and(|stat| stat.1 != start)) || pidfd::has_ended(handle.as_raw_fd())
}

/// The tag of this process's PID namespace; numbers of threads mean nothing in another. Never 0.
pub(crate) fn namespace() -> u32 {
    // SAFETY: a valid path and a place for the answer.
    let inode = unsafe {
        let mut stat = std::mem::zeroed::<libc::stat>();
        if libc::stat(c"/proc/self/ns/pid".as_ptr(), &mut stat) == 0 { stat.st_ino as u32 } else { 0 }
    };
    inode.max(1)
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
        let start = start_time(tid);
        assert_ne!(start, 0);
        assert!(!thread_ended(tid, start) && thread_ended(tid, start + 1));
        assert!(!process_ended(pid, start_time(pid)) && process_ended(pid, start_time(pid) + 1));
        assert_eq!(process_of(tid), pid);
    }

    #[test]
    fn a_thread_that_has_ended_is_known_to_have() {
        let (tid, start) = std::thread::spawn(|| (gettid(), start_time(gettid()))).join().unwrap();
        // The number goes when the kernel has finished with the thread, a moment after join returns.
        let limit = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while !thread_ended(tid, start) {
            assert!(std::time::Instant::now() < limit, "an ended thread still counts as alive");
            std::thread::yield_now();
        }
    }
}
