//! Which thread waits for which lock: the kernel knows at which word of the heap a thread sleeps, and the word names its holder.

use super::process::{Process, own_number};
use crate::sys::memory::read_exactly_at;
use crate::sys::robust::OWNER;
use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;

/// The heap, where its words are.
pub(super) struct Words<'a> {
    pub(super) file: &'a File,
    /// Its address in the processes of the family.
    pub(super) address: u64,
    /// What lies before is not the users'.
    pub(super) from: u64,
    pub(super) length: u64,
}

/// A thread that sleeps at a word of the heap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    /// The word's address in every process of the pool.
    pub address: u64,
    /// The thread's process.
    pub pid: u32,
    /// The thread.
    pub tid: u32,
    /// The process and the thread that hold the lock, where the word is a lock's and they are the family's.
    pub holder: Option<(u32, u32)>,
}

/// No wait is for more.
const MOST_WAITS: usize = 128;

/// The threads of these processes that sleep at a word of the heap. The error says why that can't be known.
pub(super) fn waits(processes: &[u32], words: &Words<'_>) -> Result<Vec<Wait>, String> {
    let mut threads = Vec::new();
    for pid in processes {
        threads.extend(Process::threads(*pid).into_iter().map(|tid| (*pid, tid)));
    }
    let mut all = Vec::new();
    for (pid, tid) in &threads {
        let call = match fs::read_to_string(format!("/proc/{pid}/task/{tid}/syscall")) {
            Ok(call) => call,
            // It has ended.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH)) => continue,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                return Err(
                    "who waits for locks: takes the right to trace (root, or kernel.yama.ptrace_scope = 0)"
                        .to_owned(),
                );
            }
            Err(error) => {
                return Err(format!("who waits for locks: /proc/{pid}/task/{tid}/syscall: {error}"));
            }
        };
        for address in slept_at(*pid, &call) {
            let offset = address.wrapping_sub(words.address);
            if (words.from..words.length).contains(&offset) {
                all.push(Wait { address, pid: *pid, tid: *tid, holder: None });
                break;
            }
        }
    }
    if !all.is_empty() {
        let own = |(pid, tid): &(u32, u32)| own_number(&format!("/proc/{pid}/task/{tid}/status"));
        let known: HashMap<u32, (u32, u32)> =
            threads.iter().filter_map(|thread| Some((own(thread)?, *thread))).collect();
        for wait in &mut all {
            wait.holder = named_at(words, wait.address.wrapping_sub(words.address))
                .and_then(|word| known.get(&word).copied());
        }
    }
    Ok(all)
}

/// The addresses that a thread sleeps at, by what /proc says of the call it is in.
fn slept_at(pid: u32, call: &str) -> Vec<u64> {
    let mut words = call.split_ascii_whitespace();
    let number = words.next().and_then(|word| word.parse::<i64>().ok());
    let mut argument = || u64::from_str_radix(words.next()?.strip_prefix("0x")?, 16).ok();
    let (Some(first), Some(second)) = (argument(), argument()) else { return Vec::new() };
    match number {
        Some(libc::SYS_futex) => vec![first],
        Some(libc::SYS_futex_waitv) => {
            let count = usize::try_from(second).map_or(MOST_WAITS, |count| count.min(MOST_WAITS));
            waited_for(pid, first, count).unwrap_or_default()
        }
        _ => Vec::new(),
    }
}

/// The addresses in an array of `struct futex_waitv` of another process.
fn waited_for(pid: u32, array: u64, count: usize) -> Option<Vec<u64>> {
    const EACH: usize = 24;
    let memory = File::open(format!("/proc/{pid}/mem")).ok()?;
    let mut bytes = vec![MaybeUninit::new(0u8); count * EACH];
    read_exactly_at(memory.as_raw_fd(), array, &mut bytes).ok().filter(|whole| *whole)?;
    // SAFETY: all of them were made with a content.
    let byte = |byte: &MaybeUninit<u8>| unsafe { byte.assume_init() };
    let address =
        |wait: &[MaybeUninit<u8>]| u64::from_ne_bytes(std::array::from_fn(|at| byte(&wait[8 + at])));
    Some(bytes.chunks_exact(EACH).map(address).collect())
}

/// The thread that the word of a lock names, by what it is called in the family's PID namespace. Of other words it is anything.
fn named_at(words: &Words<'_>, offset: u64) -> Option<u32> {
    let mut bytes = [MaybeUninit::new(0u8); 4];
    read_exactly_at(words.file.as_raw_fd(), offset, &mut bytes).ok().filter(|whole| *whole)?;
    // SAFETY: all of them were made with a content.
    Some(u32::from_ne_bytes(bytes.map(|byte| unsafe { byte.assume_init() })) & OWNER)
}
