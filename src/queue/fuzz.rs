//! A queue in memory into which somebody writes any words, at its very end a fence.

use super::layout::{Shared, Side};
use super::{Queue, QueueOptions};
use crate::fuzz::{self, Fenced};
use crate::sync::lock::Lock;
use crate::sys::clock::Timeout;
use arbitrary::Unstructured;
use core::mem::{offset_of, size_of};
use core::ptr::NonNull;

const OPTIONS: QueueOptions = QueueOptions { messages: 8, bytes: 256, flags: 0 };

/// The locks have tests of their own: one that somebody seems to hold is waited for.
fn is_a_lock(at: usize) -> bool {
    let locks = [offset_of!(Shared, producers), offset_of!(Shared, consumers)]
        .map(|side| side + offset_of!(Side, lock));
    locks.iter().any(|lock| (*lock..lock + size_of::<Lock>()).contains(&at))
        || at >= offset_of!(Shared, watchers) && at < size_of::<Shared>()
}

fn entry(start: NonNull<u8>, length: usize, input: &mut Unstructured<'_>) -> arbitrary::Result<()> {
    // SAFETY: the memory is aligned, as long as the options say, stays as long as the queue, and nobody else uses it.
    let mut queue = unsafe { Queue::create(start, &OPTIONS) }.unwrap();
    let mut buffer = [0; 300];
    while !input.is_empty() {
        match input.int_in_range(0..=9u8)? {
            // SAFETY: the memory is the queue's; every content is valid for its words and bytes.
            0 | 1 => unsafe { fuzz::scribble(input, start.as_ptr(), length, is_a_lock) }?,
            2 => drop(queue.put(&buffer[..input.int_in_range(0..=300)?], Timeout::Try)),
            3 => drop(queue.put_many(&buffer, &[input.int_in_range(0..=150)?, 7, 150], Timeout::Try, &mut 0)),
            4 => drop(queue.get(buffer.as_mut_slice().into(), Timeout::Try)),
            5 => drop(queue.get_many(buffer.as_mut_slice().into(), &mut [0; 12], Timeout::Try)),
            6 => {
                let room = input.int_in_range(0..=300)?;
                if let Ok(place) = queue.reserve(room, Timeout::Try) {
                    // SAFETY: `reserve` gives so many bytes to write.
                    unsafe { place.as_ptr().write_bytes(0xa5, room) };
                    let _ = queue.commit(input.int_in_range(0..=room)?).or_else(|_| queue.abandon());
                }
            }
            7 => {
                if let Ok((place, length)) = queue.peek(Timeout::Try) {
                    // SAFETY: what `peek` gives can be read.
                    let bytes = unsafe { core::slice::from_raw_parts(place.as_ptr(), length) };
                    assert!(length <= 256);
                    core::hint::black_box(bytes.iter().fold(0, |all, byte| all ^ byte));
                    queue.release().unwrap();
                }
            }
            8 => {
                let _ =
                    (queue.count(), queue.is_empty(), queue.is_full(), queue.is_closed(), queue.unfinished());
                let _ = (queue.task_done(), input.ratio(1u8, 8u8)?.then(|| queue.close()));
            }
            _ => {
                // SAFETY: the block that the queue lies in has so many bytes, and outlives the handle that is made here.
                let attached = unsafe { Queue::attach(start, length) };
                if let Ok(other) = attached {
                    queue = other;
                }
            }
        }
    }
    Ok(())
}

#[test]
fn fuzz_queue_words() {
    let length = OPTIONS.size().unwrap();
    let memory = Fenced::new(length);
    let start = NonNull::new(memory.last(length)).unwrap();
    fuzz::run("queue", |input| {
        // An input that is too short has run as far as it goes.
        let _ = entry(start, length, &mut Unstructured::new(input));
    });
}
