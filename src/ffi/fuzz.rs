//! Options structs of any bytes and any size, behind which there is nothing.

use super::channel::tine_channel_options;
use super::death::tine_death;
use super::errors::tine_error;
use super::faults::tine_faults;
use super::heap::{tine_heap_info, tine_heap_options};
use super::map::tine_map_options;
use super::options::{Extensible, check, fill, read, zero};
use super::pool::{tine_pool_options, tine_stats};
use super::process::{tine_exit, tine_process_options};
use super::progress::tine_progress;
use super::queue::tine_queue_options;
use super::segment::tine_segment_options;
use super::stream::tine_stream_options;
use super::submit::{tine_result, tine_submit_options};
use super::sync::tine_owner;
use super::worker_options::tine_worker_options;
use crate::fuzz::{self, Fenced};
use std::alloc::Layout;

/// As long as any struct may say to be.
const MOST: usize = 64 * 1024;

/// How many bytes there are of a struct that says to have `size`.
fn there(size: usize) -> usize {
    if (size_of::<usize>()..=MOST).contains(&size) { size } else { size_of::<usize>() }
}

/// A struct that says to be `size` bytes long, of which there are no more.
///
/// # Safety
/// `there(size)` bytes, whose first is aligned as a word is, can be written from `start` on.
unsafe fn one<T: Extensible>(start: *mut u8, size: usize, content: &[u8]) {
    let there = there(size);
    let mut theirs = vec![0; there];
    theirs[..8].copy_from_slice(&size.to_ne_bytes());
    let filled = content.len().min(there - 8);
    theirs[8..8 + filled].copy_from_slice(&content[..filled]);
    // What is there now. No reference outlives a call that writes.
    // SAFETY: `there` bytes can be written from `start` on, by the contract above, and all have been written by then.
    let bytes = || unsafe { std::slice::from_raw_parts(start, there).to_vec() };
    // SAFETY: as many bytes can be read and written as the first field says, where that is a size at all.
    unsafe {
        start.copy_from_nonoverlapping(theirs.as_ptr(), there);
        let is_size = (16..=MOST).contains(&size);
        let zeros = vec![0; there];
        let tail_is_zero = theirs.get(size_of::<T>()..).is_none_or(|tail| *tail == zeros[..tail.len()]);
        match read(start.cast::<T>()) {
            Ok(value) => {
                let value = value.unwrap();
                assert!(is_size && tail_is_zero);
                assert!(fill(start.cast::<T>(), &value).is_ok());
                // Bytes that no field has are nobody's once a struct has been moved: Miri lets nobody look at them.
                if !cfg!(miri) {
                    let ours = std::slice::from_raw_parts((&raw const value).cast::<u8>(), size_of::<T>());
                    let common = ours.len().min(there);
                    assert_eq!(ours[..common], theirs[..common]);
                    assert!(
                        ours[common..].iter().all(|byte| *byte == 0),
                        "a shorter one is read as if the rest were zero"
                    );
                    assert_eq!(bytes(), theirs);
                }
            }
            Err(error) => assert_eq!(error.code().0, if is_size { -libc::E2BIG } else { -libc::EINVAL }),
        }
        assert_eq!(check(start.cast::<T>()).is_ok(), is_size);
        assert_eq!(zero(start.cast::<T>()).is_ok(), is_size);
        if is_size {
            assert!(bytes()[..8] == theirs[..8] && bytes()[8..] == zeros[8..]);
        } else {
            assert_eq!(bytes(), theirs, "what is no struct is not written into");
        }
    }
}

type One = unsafe fn(*mut u8, usize, &[u8]);

/// What takes one of each kind, and its size in this version.
macro_rules! types {
    ($($name:ty),* $(,)?) => { [$((one::<$name> as One, size_of::<$name>())),*] };
}
const TYPES: [(One, usize); 19] = types![
    tine_error,
    tine_channel_options,
    tine_heap_options,
    tine_map_options,
    tine_pool_options,
    tine_process_options,
    tine_queue_options,
    tine_segment_options,
    tine_stream_options,
    tine_submit_options,
    tine_result,
    tine_worker_options,
    tine_faults,
    tine_heap_info,
    tine_stats,
    tine_progress,
    tine_exit,
    tine_owner,
    tine_death,
];

fn entry(memory: &Fenced, input: &[u8]) {
    let Some((which, rest)) = input.split_first() else { return };
    let Some((size, content)) = rest.split_at_checked(4) else { return };
    let size = i32::from_ne_bytes(size.try_into().unwrap()) as isize as usize;
    let (one, _) = TYPES[usize::from(*which) % TYPES.len()];
    // SAFETY: the last bytes before the fence; such a size that is none is one word.
    unsafe { one(memory.last(there(size)), size, content) };
}

#[test]
fn fuzz_options_structs() {
    let memory = Fenced::new(MOST);
    fuzz::run("options", |input| entry(&memory, input));
}

/// Each from no byte to twice its size, in an allocation of just so many bytes: Miri sees each access behind it.
#[test]
fn options_of_every_size() {
    for (one, whole) in TYPES {
        for size in 0..=2 * whole {
            for content in [&[][..], &[0xa5; 4096]] {
                let layout = Layout::from_size_align(there(size), align_of::<usize>()).unwrap();
                // SAFETY: the layout has a size; the memory is used as long as it is there, and given back as it was allocated.
                unsafe {
                    let start = std::alloc::alloc_zeroed(layout);
                    one(start, size, content);
                    std::alloc::dealloc(start, layout);
                }
            }
        }
    }
}
