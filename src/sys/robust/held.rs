//! Which locks the threads of this process hold, as far as their robust lists and records say.
//!
//! The lists and records of other threads change while they are read, so they are read like another process's memory: a thread that
//! takes or releases a lock at this moment may be seen with or without it.

use super::setup::records_of_living;
use super::{Anchor, ENTRY, Head, MOST_HELD, ROOM, Record, known};
use crate::error::{Code, Error, Result};
use crate::sys::{fd, owner, raw};
use std::cell::Cell;
use std::mem::{offset_of, size_of};
use std::os::fd::AsRawFd;
use std::sync::atomic::{Ordering, fence};

/// A list is no longer than that: the kernel's own limit.
const LONGEST: usize = 2048;

/// Whether a thread of this process, other than these, is known to hold a lock in these bytes, or to wait for one: one of
/// tine's that a thread owns, or a robust mutex of the C library's.
///
/// Of threads that have taken one of tine's their records say it, and the place where their list begins: no system call is needed that
/// a sandbox may refuse. Of the others only /proc knows that they are there; where it does not say, their mutexes go unseen.
///
/// A shortage is an error: nobody has looked, and a later try may. None of the process's own memory is needed: who closes memory in order to
/// have some must not be refused.
pub fn held_within(address: usize, length: usize, except: &[u32]) -> Result<bool> {
    if known().is_some_and(|me| me.holds_within(address, length)) {
        return Ok(true);
    }
    let shortage = Cell::new(None);
    let found = |looked: Looked<bool>| {
        looked.unwrap_or_else(|short| {
            shortage.set(Some(short));
            false
        })
    };
    // SAFETY: `records_of_living` gives records.
    let reaches = |record: *const Record| found(unsafe { record_reaches(record, address, length) });
    if records_of_living(reaches).any(|tid| !except.contains(&tid)) {
        return Ok(true);
    }
    if found(owner::find_own_proc().or_else(Shortage::or_unseen)) {
        let threads = raw::any_number(c"/proc/self/task", |tid, _| {
            !except.contains(&tid) && found(kernels_list_reaches(tid, address, length))
        });
        if found(threads.or_else(Shortage::or_unseen)) {
            return Ok(true);
        }
    }
    match shortage.get() {
        Some(Shortage(errno)) => {
            Err(Error::errno(errno, "can't look whether a thread holds a lock in there"))
        }
        None => Ok(false),
    }
}

/// What a look came to.
type Looked<T> = core::result::Result<T, Shortage>;

/// There was nothing to look with: the error's number.
#[derive(Clone, Copy)]
struct Shortage(i32);

impl Shortage {
    /// What was refused for another reason stays refused: what it would have shown goes unseen.
    fn or_unseen<T: Default>(errno: i32) -> Looked<T> {
        if [libc::EMFILE, libc::ENFILE, libc::ENOMEM].contains(&errno) {
            Err(Shortage(errno))
        } else {
            Ok(T::default())
        }
    }
}

/// Whether the thread of a record holds a lock there, waits for one, or reads one in a place of its process's.
///
/// # Safety
/// A record, which may be written meanwhile.
unsafe fn record_reaches(record: *const Record, address: usize, length: usize) -> Looked<bool> {
    let is_within = |at: usize| at.wrapping_sub(address) < length;
    // Volatile: its thread writes it meanwhile, a word at a time. What it holds, and what it reads, is read from the newest down, as
    // `remove_older` and `set_reads` ask.
    // SAFETY: by the contract above a record, and records are never unmapped. The indices are below the lengths of the arrays.
    unsafe {
        let count = ((&raw const (*record).count).read_volatile() as usize).min(ROOM);
        let reading = ((&raw const (*record).reading).read_volatile() as usize).min(MOST_HELD);
        fence(Ordering::Acquire);
        let spot = |index: usize| (&raw const (*record).held[index].spot.0).read_volatile().addr();
        let lock = |index: usize| {
            let lock = (&raw const (*record).reads[index].lock).read_volatile();
            fence(Ordering::Acquire);
            lock
        };
        if (0..count).rev().any(|index| is_within(spot(index)))
            || (0..reading).rev().any(|index| is_within(lock(index)))
        {
            return Ok(true);
        }
        let head = (&raw const (*record).head).read_volatile().addr();
        let list = if head == record.addr() + offset_of!(Record, own_head) {
            // Not the kernel's, and on it are tine's alone.
            List { head, first: record.addr() + offset_of!(Record, anchor) + offset_of!(Anchor, next) }
        } else {
            List { head, first: head }
        };
        if head == 0 { Ok(false) } else { list_reaches(list, address, length) }
    }
}

/// Where a thread's list begins: the head, at which it also ends, and the word with its first entry.
#[derive(Clone, Copy)]
struct List {
    head: usize,
    first: usize,
}

fn kernels_list_reaches(tid: u32, address: usize, length: usize) -> Looked<bool> {
    let (mut head, mut size) = (0usize, 0usize);
    // SAFETY: valid places for the answers.
    let rc = unsafe { libc::syscall(libc::SYS_get_robust_list, tid, &raw mut head, &raw mut size) };
    if rc != 0 || head == 0 || size != size_of::<Head>() {
        return Ok(false);
    }
    list_reaches(List { head, first: head }, address, length)
}

fn list_reaches(List { head, first }: List, address: usize, length: usize) -> Looked<bool> {
    let is_within = |at: usize| {
        at.wrapping_sub(address) < length || at.wrapping_sub(ENTRY).wrapping_sub(address) < length
    };
    if read_word(head + offset_of!(Head, pending))?.is_some_and(is_within) {
        return Ok(true);
    }
    let mut entry = read_word(first)?;
    for _ in 0..LONGEST {
        // The lowest bit says that the word is of a kind that inherits priority.
        let Some(at) = entry.map(|entry| entry & !1).filter(|at| *at != head) else { return Ok(false) };
        if is_within(at) {
            return Ok(true);
        }
        entry = read_word(at)?;
    }
    Ok(false)
}

/// A word of this process's memory; `None` where there is none any more, or no way to read it.
fn read_word(address: usize) -> Looked<Option<usize>> {
    let mut word = 0usize;
    let here = libc::iovec { iov_base: (&raw mut word).cast(), iov_len: size_of::<usize>() };
    let there =
        libc::iovec { iov_base: std::ptr::without_provenance_mut(address), iov_len: size_of::<usize>() };
    // SAFETY: a valid place for the word; the kernel checks the other address.
    let read = unsafe { libc::process_vm_readv(owner::getpid() as i32, &here, 1, &there, 1, 0) };
    if read < 0 && crate::sys::errno() != libc::EFAULT {
        return read_word_by_pipe(address);
    }
    Ok((read == size_of::<usize>() as isize).then_some(word))
}

/// The same where a sandbox refuses that call.
fn read_word_by_pipe(address: usize) -> Looked<Option<usize>> {
    let (read, write) = match fd::pipe() {
        Ok(ends) => ends,
        Err(error) => {
            let Code(code) = error.code();
            return Shortage::or_unseen(-code);
        }
    };
    let mut word = [0; size_of::<usize>()];
    // SAFETY: the kernel checks the address.
    let written =
        unsafe { libc::write(write.as_raw_fd(), std::ptr::without_provenance(address), size_of::<usize>()) };
    if written < 0 {
        // `EFAULT` says that nothing is there; the pipe wants memory of the kernel's.
        return Shortage::or_unseen(crate::sys::errno());
    }
    let is_whole =
        written == word.len() as isize && fd::read_some(read.as_raw_fd(), &mut word) == Some(word.len());
    Ok(is_whole.then(|| usize::from_ne_bytes(word)))
}
