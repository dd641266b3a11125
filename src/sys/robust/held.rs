//! Which locks the threads of this process hold, as far as their robust lists say.
//!
//! The lists of other threads change while they are read, so they are read like another process's memory: a thread that
//! takes or releases a lock at this moment may be seen with or without it.

use super::setup::own_lists;
use super::{ENTRY, Head, known};
use std::mem::{offset_of, size_of};

/// A list is no longer than that: the kernel's own limit.
const LONGEST: usize = 2048;

/// Whether a thread of this process, other than these, is known to hold a lock in these bytes, or to wait for one: one of
/// tine's that a thread owns, or a robust mutex of the C library's.
pub fn held_within(address: usize, length: usize, except: &[u32]) -> bool {
    if known().is_some_and(|me| me.holds_within(address, length)) {
        return true;
    }
    let Ok(threads) = std::fs::read_dir("/proc/self/task") else { return false };
    let numbers = threads.flatten().filter_map(|thread| thread.file_name().to_str()?.parse().ok());
    let mut numbers = numbers.into_iter().filter(|tid| !except.contains(&(*tid as u32)));
    numbers.any(|tid| kernels_list_reaches(tid, address, length))
        || own_lists().any(|(tid, list)| !except.contains(&tid) && list_reaches(list, address, length))
}

/// Where a thread's list begins: the head, at which it also ends, and the word with its first entry.
#[derive(Clone, Copy)]
pub(super) struct List {
    pub(super) head: usize,
    pub(super) first: usize,
}

fn kernels_list_reaches(tid: i32, address: usize, length: usize) -> bool {
    let (mut head, mut size) = (0usize, 0usize);
    // SAFETY: valid places for the answers.
    let rc = unsafe { libc::syscall(libc::SYS_get_robust_list, tid, &raw mut head, &raw mut size) };
    if rc != 0 || head == 0 || size != size_of::<Head>() {
        return false;
    }
    list_reaches(List { head, first: head }, address, length)
}

fn list_reaches(List { head, first }: List, address: usize, length: usize) -> bool {
    let is_within = |at: usize| {
        at.wrapping_sub(address) < length || at.wrapping_sub(ENTRY).wrapping_sub(address) < length
    };
    if read_word(head + offset_of!(Head, pending)).is_some_and(is_within) {
        return true;
    }
    let mut entry = read_word(first);
    for _ in 0..LONGEST {
        // The lowest bit says that the word is of a kind that inherits priority.
        let Some(at) = entry.map(|entry| entry & !1).filter(|at| *at != head) else { return false };
        if is_within(at) {
            return true;
        }
        entry = read_word(at);
    }
    false
}

/// A word of this process's memory; `None` where there is none any more.
pub(super) fn read_word(address: usize) -> Option<usize> {
    let mut word = 0usize;
    let here = libc::iovec { iov_base: (&raw mut word).cast(), iov_len: size_of::<usize>() };
    let there =
        libc::iovec { iov_base: std::ptr::without_provenance_mut(address), iov_len: size_of::<usize>() };
    // SAFETY: a valid place for the word; the kernel checks the other address.
    let read =
        unsafe { libc::process_vm_readv(super::super::owner::getpid() as i32, &here, 1, &there, 1, 0) };
    (read == size_of::<usize>() as isize).then_some(word)
}
