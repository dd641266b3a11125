//! Which locks the threads of this process hold, as far as their robust lists and records say.
//!
//! The lists and records of other threads change while they are read, so they are read like another process's memory: a thread that
//! takes or releases a lock at this moment may be seen with or without it.

use super::setup::records_of_living;
use super::{Anchor, ENTRY, Head, MOST_HELD, Read, Record, known};
use std::mem::{offset_of, size_of};

/// A list is no longer than that: the kernel's own limit.
const LONGEST: usize = 2048;

/// Whether a thread of this process, other than these, is known to hold a lock in these bytes, or to wait for one: one of
/// tine's that a thread owns, or a robust mutex of the C library's.
pub fn held_within(address: usize, length: usize, except: &[u32]) -> bool {
    if known().is_some_and(|me| me.holds_within(address, length)) {
        return true;
    }
    let reaches = |record: usize| {
        reads_reach(record, address, length)
            || own_list(record).is_some_and(|list| list_reaches(list, address, length))
    };
    if records_of_living(reaches).any(|tid| !except.contains(&tid)) {
        return true;
    }
    let Ok(threads) = std::fs::read_dir("/proc/self/task") else { return false };
    let numbers = threads.flatten().filter_map(|thread| thread.file_name().to_str()?.parse().ok());
    let mut numbers = numbers.into_iter().filter(|tid| !except.contains(&(*tid as u32)));
    numbers.any(|tid| kernels_list_reaches(tid, address, length))
}

/// Whether the thread of the record at this address reads there in a place of its process's. From the newest read down, as `set_reads` asks.
fn reads_reach(record: usize, address: usize, length: usize) -> bool {
    let count = read_word(record + offset_of!(Record, reading)).map_or(0, |word| word as u32 as usize);
    let at = |index: usize| record + offset_of!(Record, reads) + index * size_of::<Read>();
    let lock = |index: usize| read_word(at(index) + offset_of!(Read, lock));
    (0..count.min(MOST_HELD))
        .rev()
        .any(|index| lock(index).is_some_and(|lock| lock.wrapping_sub(address) < length))
}

/// The list in the record at this address of which the kernel does not know, where it is too old for that or sees to none of this C
/// library's threads.
fn own_list(record: usize) -> Option<List> {
    let head = record + offset_of!(Record, own_head);
    let first = record + offset_of!(Record, anchor) + offset_of!(Anchor, next);
    (read_word(record + offset_of!(Record, head)) == Some(head)).then_some(List { head, first })
}

/// Where a thread's list begins: the head, at which it also ends, and the word with its first entry.
#[derive(Clone, Copy)]
struct List {
    head: usize,
    first: usize,
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
fn read_word(address: usize) -> Option<usize> {
    let mut word = 0usize;
    let here = libc::iovec { iov_base: (&raw mut word).cast(), iov_len: size_of::<usize>() };
    let there =
        libc::iovec { iov_base: std::ptr::without_provenance_mut(address), iov_len: size_of::<usize>() };
    // SAFETY: a valid place for the word; the kernel checks the other address.
    let read =
        unsafe { libc::process_vm_readv(super::super::owner::getpid() as i32, &here, 1, &there, 1, 0) };
    (read == size_of::<usize>() as isize).then_some(word)
}
