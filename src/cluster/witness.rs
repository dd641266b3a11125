//! Rank 0's witness: a process that outlives rank 0 and says what became of every task. When a rank dies, mpirun ends the job, rank 0
//! included; mpirun does not know the witness, which is in a session of its own. `docs/design/mpi.md` has the whole.
//!
//! Rank 0 writes down where each task is in memory that both have ([`super::book`]); the witness reads it when rank 0 has ended, so nobody
//! writes any more.

use super::book::{EXTENT, Extent, Head, Record, WHOLE, extent_of, head_of, kind};
use crate::error::{Code, Error, Result};
use crate::sys::clock::Deadline;
use crate::sys::memory::{self, Access, Mapping};
use crate::sys::signal::AllBlocked;
use crate::sys::{fd, fork, pidfd, raw};
use std::ffi::{CString, OsString};
use std::fmt::Write as _;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};

/// The variable that names the report's file, in place of one with rank 0's process number in its directory.
const VARIABLE: &str = "TINE_MPI_REPORT";

/// The pool's deliveries, as the header names them.
const DELIVERIES: [&str; 3] = ["RAN", "NOT_STARTED", "MAYBE_RAN"];

/// Rank 0's end of it.
#[derive(Debug)]
pub(crate) struct Witness {
    /// Whose child it is.
    pub(super) parent: i32,
    pidfd: OwnedFd,
    file: OwnedFd,
    pub(super) whole: Mapping,
    /// Extents that have been given back.
    spare: Mutex<Vec<usize>>,
}

/// Where the environment wants the report; nothing where it does not say.
fn wanted_path() -> OsString {
    std::env::var_os(VARIABLE).unwrap_or_default()
}

impl Witness {
    /// Makes one, before this process has a rank: the library that moves messages may want no copies made of a process that it runs in.
    pub(crate) fn start() -> Result<Witness> {
        let mut path = wanted_path();
        if path.is_empty() {
            path = format!("tine-report-{}.txt", fork::pid()).into();
        }
        let path = CString::new(path.as_bytes()).unwrap_or_default();
        let file = memory::memfd(c"tine-witness")?;
        memory::reserve(file.as_raw_fd(), 0, EXTENT)?;
        let access = Access { write: true, populate: false };
        let whole = Mapping::shared_with(file.as_raw_fd(), None, WHOLE, access)?;
        let host = fork::own_pidfd()?;
        let mut own = -1;
        let blocked = AllBlocked::new();
        // SAFETY: the copy calls nothing here that could wait for a lock: it allocates nothing, and makes plain system calls.
        let pid = unsafe { raw::silent_fork(Some(&mut own)) };
        if pid == 0 {
            watch(host.as_raw_fd(), &whole, &path);
        }
        drop(blocked);
        if pid < 0 {
            let error = std::io::Error::from_raw_os_error(-pid as i32);
            return Err(Error::from_io("a copy of this process, to be its witness", &error));
        }
        // SAFETY: the kernel has just returned it, so nobody else owns it.
        let pidfd = fd::above_standard(unsafe { OwnedFd::from_raw_fd(own) }, "pidfd")?;
        let witness = Witness { parent: fork::pid(), pidfd, file, whole, spare: Mutex::default() };
        witness.head().extents.store(1, Ordering::Release);
        Ok(witness)
    }

    /// Whether there can be a report where the environment wants it: there it is made, and empty, from the first.
    pub(crate) fn check_report(&self) -> Result<()> {
        let path = wanted_path();
        if path.is_empty() {
            return Ok(());
        }
        let wrong =
            |error: Error| Error::new(error.code(), format!("{VARIABLE} is {path:?}: {}", error.text()));
        let name =
            CString::new(path.as_bytes()).map_err(|_| Error::invalid(format!("{VARIABLE} is {path:?}")))?;
        fd::append_to(&name).map(drop).map_err(wrong)
    }

    fn head(&self) -> &Head {
        head_of(&self.whole)
    }

    /// Rank 0 ends in good order.
    pub(crate) fn leave(&self) {
        self.head().left.store(1, Ordering::Release);
    }

    /// An extent of nobody's.
    pub(super) fn extent(&self) -> Result<usize> {
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(number) = spare.pop() {
            return Ok(number);
        }
        // So that giving one back takes no memory.
        let number = self.head().extents.load(Ordering::Acquire) as usize;
        spare.try_reserve(number).map_err(|_| Error::from(Code::errno(libc::ENOMEM)))?;
        if (number + 1) * EXTENT > WHOLE {
            return Err(Error::errno(libc::ENOMEM, "more tasks at a time than rank 0 can write down"));
        }
        memory::reserve(self.file.as_raw_fd(), number * EXTENT, EXTENT)?;
        self.head().extents.store(number as u64 + 1, Ordering::Release);
        Ok(number)
    }
}

impl Witness {
    /// One that is nobody's again, and in which nothing stands.
    pub(super) fn give_back(&self, number: usize) {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner).push(number);
    }
}

impl Drop for Witness {
    /// This process is not rank 0: its witness ends.
    fn drop(&mut self) {
        if self.parent == fork::pid() && pidfd::signal(self.pidfd.as_raw_fd(), libc::SIGKILL).is_ok() {
            pidfd::wait_end(self.pidfd.as_raw_fd(), Deadline::NEVER);
            pidfd::reap(self.pidfd.as_raw_fd());
        }
    }
}

/// The witness, from its first instruction to its last: nothing here allocates or locks, for it is a copy of a process with threads.
fn watch(host: RawFd, whole: &Mapping, path: &CString) -> ! {
    // SAFETY: plain calls without pointers but for a C string. A session of its own: what is sent to the host's group is not meant for it. All
    // signals stay blocked.
    unsafe {
        raw::call(libc::SYS_setsid, [0; 6]);
        raw::call(libc::SYS_prctl, [libc::PR_SET_NAME as usize, c"tine-witness".as_ptr().addr(), 0, 0, 0, 0]);
        raw::call(libc::SYS_dup3, [host as usize, 0, 0, 0, 0, 0]);
    }
    // But standard error all is closed: mpirun waits for the other end of what its processes have open.
    raw::close_range(1, 1);
    raw::close_range(3, u32::MAX);
    let ended = pidfd::wait_end(0, Deadline::NEVER);
    if ended && head_of(whole).left.load(Ordering::Acquire) == 0 && has_any(whole) {
        report(whole, path);
    }
    raw::exit(0)
}

/// The extents that belong to pools, and the pools' numbers.
fn extents(whole: &Mapping) -> impl Iterator<Item = (u64, &Extent)> {
    let count = head_of(whole).extents.load(Ordering::Acquire) as usize;
    let all = (1..count.min(WHOLE / EXTENT)).map(|number| extent_of(whole, number));
    all.map(|extent| (extent.pool.load(Ordering::Acquire), extent)).filter(|(pool, _)| *pool != 0)
}

fn has_any(whole: &Mapping) -> bool {
    extents(whole).any(|(_, extent)| extent.records().next().is_some())
}

/// In the file, and a word on standard error, which mpirun may have left by now; without a file all of it there.
fn report(whole: &Mapping, path: &CString) {
    let mut out = Out { fd: 2, bytes: [0; 4096], used: 0 };
    let flags = libc::O_WRONLY | libc::O_APPEND | libc::O_CREAT | libc::O_CLOEXEC | libc::O_NOCTTY;
    let arguments = [libc::AT_FDCWD as usize, path.as_ptr().addr(), flags as usize, 0o666, 0, 0];
    // SAFETY: a C string and numbers.
    let file = unsafe { raw::call(libc::SYS_openat, arguments) };
    if file >= 0 {
        let _ = out.write_str("tine: rank 0 has ended, and left tasks. What became of them is in ");
        out.write_bytes(path.to_bytes());
        let _ = out.write_str("\n");
        out.flush();
        out.fd = file as RawFd;
    }
    let _ = write_report(whole, &mut out); // Writing into it fails nowhere.
    out.flush();
}

fn write_report(whole: &Mapping, out: &mut Out) -> std::fmt::Result {
    writeln!(
        out,
        "tine: rank 0 has ended, and left tasks. A task in no line had settled, and its result had been taken; an item in no line of its map had settled."
    )?;
    let mut counts = [0_u64; 4];
    for (pool, extent) in extents(whole) {
        counts[0] += extent.closed.load(Ordering::Relaxed);
        for record in extent.records() {
            let kind = write_record(pool, record, out)?;
            counts[kind as usize & 3] += 1;
        }
    }
    let [taken, queued, sent, settled] = counts;
    writeln!(
        out,
        "tine: end of the report: {queued} NOT_STARTED, {sent} MAYBE_RAN, {settled} settled, {taken} settled and taken"
    )
}

/// A line for a task, for a chunk of a map, or for items of a map that are in none; its state.
fn write_record(pool: u64, record: &Record, out: &mut Out) -> std::result::Result<u64, std::fmt::Error> {
    let (id, state) = (record.id.load(Ordering::Acquire), record.state.load(Ordering::Acquire));
    let (first, items) = (record.first.load(Ordering::Acquire), record.items.load(Ordering::Acquire));
    match items {
        0 => write!(out, "tine: pool {pool}: task {id:#x}: ")?,
        1 => write!(out, "tine: pool {pool}: map {id}: item {first}: ")?,
        _ => {
            write!(out, "tine: pool {pool}: map {id}: items {first} to {}: ", first.wrapping_add(items - 1))?
        }
    }
    let (kind, detail) = (state & 0xff, state >> 8 & 0xff_ffff);
    match kind {
        kind::QUEUED => writeln!(out, "NOT_STARTED")?,
        kind::SENT if detail == 0 => writeln!(out, "MAYBE_RAN")?,
        kind::SENT => writeln!(out, "MAYBE_RAN, on rank {detail}")?,
        _ => {
            let status = (state >> 32) as u32 as i32;
            let delivery = DELIVERIES.get(detail as usize).unwrap_or(&"");
            write!(out, "settled, {delivery}, with {status}")?;
            match status {
                0.. => writeln!(out)?,
                _ => writeln!(out, " ({})", Code(status).name().to_str().unwrap_or(""))?,
            }
        }
    }
    Ok(kind)
}

/// Text on its way to a descriptor.
struct Out {
    fd: RawFd,
    bytes: [u8; 4096],
    used: usize,
}

impl Out {
    fn write_bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if self.used == self.bytes.len() {
                self.flush();
            }
            self.bytes[self.used] = *byte;
            self.used += 1;
        }
    }

    /// What cannot be written is nobody's to be told.
    fn flush(&mut self) {
        let mut at = 0;
        while at < self.used {
            let rest = &self.bytes[at..self.used];
            // SAFETY: pointer and length are of one slice, so as many bytes can be read.
            let written = unsafe {
                raw::call(libc::SYS_write, [self.fd as usize, rest.as_ptr().addr(), rest.len(), 0, 0, 0])
            };
            match written {
                1.. => at += written as usize,
                _ if written == -libc::EINTR as isize => (),
                _ => break,
            }
        }
        self.used = 0;
    }
}

impl std::fmt::Write for Out {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.write_bytes(text.as_bytes());
        Ok(())
    }
}
