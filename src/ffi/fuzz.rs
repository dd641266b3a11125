//! Options structs of any bytes and any size, behind which there is nothing.

use super::channel::tine_channel_options;
use super::errors::tine_error;
use super::faults::tine_faults;
use super::heap::tine_heap_options;
use super::map::tine_map_options;
use super::options::{Extensible, check, fill, read, zero};
use super::pool::tine_pool_options;
use super::process::tine_process_options;
use super::queue::tine_queue_options;
use super::segment::tine_segment_options;
use super::stream::tine_stream_options;
use super::submit::{tine_result, tine_submit_options};
use super::worker_options::tine_worker_options;
use crate::fuzz::{self, Fenced};
use std::mem::size_of;

/// As long as any struct may say to be.
const MOST: usize = 64 * 1024;

/// A struct that says to be `size` bytes long, of which there are no more.
fn one<T: Extensible>(memory: &Fenced, size: usize, content: &[u8]) {
    let there = if (size_of::<usize>()..=MOST).contains(&size) { size } else { size_of::<usize>() };
    let start = memory.last(there);
    // SAFETY: `there` bytes can be written from `start` on.
    let bytes = unsafe { std::slice::from_raw_parts_mut(start, there) };
    bytes.fill(0);
    bytes[..8].copy_from_slice(&size.to_ne_bytes());
    bytes[8..].iter_mut().zip(content).for_each(|(place, byte)| *place = *byte);
    let theirs = bytes.to_vec();
    // SAFETY: as many bytes can be read and written as the first field says, where that is a size at all.
    unsafe {
        let is_size = (16..=MOST).contains(&size);
        let tail_is_zero = theirs.iter().skip(size_of::<T>()).all(|byte| *byte == 0);
        match read(start.cast::<T>()) {
            Ok(value) => {
                let value = value.unwrap();
                assert!(is_size && tail_is_zero);
                let ours = std::slice::from_raw_parts((&raw const value).cast::<u8>(), size_of::<T>());
                let common = ours.len().min(there);
                assert_eq!(ours[..common], theirs[..common]);
                assert!(
                    ours[common..].iter().all(|byte| *byte == 0),
                    "a shorter one is read as if the rest were zero"
                );
                assert!(fill(start.cast::<T>(), &value).is_ok());
                assert_eq!(*bytes, *theirs);
            }
            Err(error) => assert_eq!(error.code().0, if is_size { -libc::E2BIG } else { -libc::EINVAL }),
        }
        assert_eq!(check(start.cast::<T>()).is_ok(), is_size);
        assert_eq!(zero(start.cast::<T>()).is_ok(), is_size);
        if is_size {
            assert!(bytes[..8] == theirs[..8] && bytes[8..].iter().all(|byte| *byte == 0));
        } else {
            assert_eq!(*bytes, *theirs, "what is no struct is not written into");
        }
    }
}

fn entry(memory: &Fenced, input: &[u8]) {
    let Some((which, rest)) = input.split_first() else { return };
    let Some((size, content)) = rest.split_at_checked(4) else { return };
    let size = i32::from_ne_bytes(size.try_into().unwrap()) as isize as usize;
    const TYPES: [fn(&Fenced, usize, &[u8]); 13] = [
        one::<tine_error>,
        one::<tine_channel_options>,
        one::<tine_heap_options>,
        one::<tine_map_options>,
        one::<tine_pool_options>,
        one::<tine_process_options>,
        one::<tine_queue_options>,
        one::<tine_segment_options>,
        one::<tine_stream_options>,
        one::<tine_submit_options>,
        one::<tine_result>,
        one::<tine_worker_options>,
        one::<tine_faults>,
    ];
    TYPES[usize::from(*which) % TYPES.len()](memory, size, content);
}

#[test]
fn fuzz_options_structs() {
    let memory = Fenced::new(MOST);
    fuzz::run("options", |input| entry(&memory, input));
}
