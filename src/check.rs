//! `TINE_CHECK=1`: reports mistakes that serialisation would have caught, on standard error or in the log that the program has set.
//!
//! Inputs and outputs are searched for words that are addresses of the sender's private memory, because these mean nothing
//! to the receiver. A block that is freed wrongly ends the process. Blocks that are left in a pool's heap are listed when the pool
//! is destroyed. Without the variable a check costs at most one load of a byte that never changes.

use crate::sys::environment;
use crate::sys::log::{self, Level};
use crate::sys::maps::{self, Region};
use crate::sys::prim::{AtomicU32, Ordering};
use crate::sys::{elf, fork};
use std::fmt::Write as _;

/// 0: not asked yet; 1: off; 2: on. Relaxed: every thread would store the same.
static STATE: AtomicU32 = AtomicU32::new(0);

/// More lines than this about one piece of data say nothing new.
const LINES: usize = 8;

/// Whether `TINE_CHECK` is set, and neither empty nor "0".
#[inline]
pub fn is_on() -> bool {
    match STATE.load(Ordering::Relaxed) {
        0 => ask(),
        state => state == 2,
    }
}

#[cold]
fn ask() -> bool {
    let on = environment::says_yes(c"TINE_CHECK");
    STATE.store(if on { 2 } else { 1 }, Ordering::Relaxed);
    on
}

/// Looks through bytes that are about to be passed on; whether there was anything to say. `what` names them: "task 7
/// (resize), input".
#[cold]
pub(crate) fn look_through(bytes: &[u8], what: impl Fn() -> String) -> bool {
    let found = addresses_in(bytes);
    if found.is_empty() {
        return false;
    }
    let regions = maps::regions();
    let mut text = String::new();
    let mut count = 0;
    for (offset, address) in found {
        let Some(region) = regions.iter().find(|one| one.start <= address && address < one.end) else {
            continue;
        };
        if !region.private || !region.readable {
            continue;
        }
        count += 1;
        if count <= LINES {
            let _ = writeln!(
                text,
                "tine: TINE_CHECK: {}, byte {offset}: {address:#x} points to {}, which is private to process {}",
                what(),
                describe(region, address),
                fork::pid()
            );
        }
    }
    if count > LINES {
        let _ = writeln!(text, "tine: TINE_CHECK: {}: {} more of these", what(), count - LINES);
    }
    if count > 0 {
        log::say(Level::Warning, &text);
    }
    count > 0
}

/// The words, aligned as a pointer would be, that can be addresses at all, and where they are.
fn addresses_in(bytes: &[u8]) -> Vec<(usize, usize)> {
    const LOWEST: usize = 1 << 16;
    const HIGHEST: usize = usize::MAX >> 9;
    let first = bytes.as_ptr().align_offset(size_of::<usize>()).min(bytes.len());
    let words = bytes[first..].chunks_exact(size_of::<usize>()).enumerate();
    words
        .map(|(at, word)| {
            (first + at * size_of::<usize>(), usize::from_ne_bytes(word.try_into().unwrap_or_default()))
        })
        .filter(|(_, word)| (LOWEST..HIGHEST).contains(word))
        .collect()
}

fn describe(region: &Region, address: usize) -> String {
    match (region.name.as_str(), elf::place_of(address)) {
        // Variables that begin as zero lie behind the module's file, in memory without a name.
        (_, Some((module, Some(symbol)))) => format!("{symbol} in {module}"),
        (_, Some((module, None))) => module,
        ("[heap]", _) => "the malloc heap".to_owned(),
        ("[stack]", _) => "the stack".to_owned(),
        // malloc's further arenas and large blocks, and the stacks of threads.
        ("", _) => "memory of malloc, mmap or a thread's stack".to_owned(),
        (path, None) => path.to_owned(),
    }
}

/// A function's name for people, as far as the loader knows it.
pub(crate) fn name_of(function: usize) -> String {
    match elf::place_of(function) {
        Some((_, Some(symbol))) => symbol,
        Some((module, None)) => format!("function at {function:#x} in {module}"),
        None => format!("function at {function:#x}"),
    }
}

/// Ends the process for a mistake that would go unnoticed otherwise.
#[cold]
pub(crate) fn die(call: &str, why: &str) -> ! {
    log::say(Level::Error, &format!("tine: TINE_CHECK: {call}: {why} (process {})\n", fork::pid()));
    environment::abort()
}

/// One line.
#[cold]
pub(crate) fn say(text: &str) {
    log::say(Level::Warning, &format!("tine: TINE_CHECK: {text}\n"));
}

/// Lists blocks that have not been freed.
#[cold]
pub(crate) fn list_leaks(owner: &str, pid: i32, blocks: &[(usize, usize)]) {
    if blocks.is_empty() {
        return;
    }
    let bytes: usize = blocks.iter().map(|(_, size)| size).sum();
    let mut text = format!(
        "tine: TINE_CHECK: the pool is destroyed with {} blocks, {bytes} bytes, that {owner} {pid} allocated:\n",
        blocks.len()
    );
    for (address, size) in blocks.iter().take(LINES) {
        let _ = writeln!(text, "tine: TINE_CHECK:   {address:#x}, {size} bytes");
    }
    if blocks.len() > LINES {
        let _ = writeln!(text, "tine: TINE_CHECK:   and {} more", blocks.len() - LINES);
    }
    log::say(Level::Warning, &text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_can_be_addresses() {
        let words = [0usize, 5, 65_535, 65_536, 0x7fff_1234_5678, usize::MAX, 1 << 60];
        // SAFETY: plain words as bytes.
        let bytes = unsafe { std::slice::from_raw_parts(words.as_ptr().cast::<u8>(), size_of_val(&words)) };
        assert_eq!(addresses_in(bytes), [(24, 65_536), (32, 0x7fff_1234_5678)]);
        assert_eq!(addresses_in(&bytes[1..]).first(), Some(&(23, 65_536)));
        assert!(addresses_in(&bytes[..7]).is_empty());
    }
}
