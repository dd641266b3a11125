//! Queues between threads, and in memory that somebody scribbles over. Deaths are in `tests/queue_step.rs` and
//! `tests/queue_storm.rs`.

use super::message::GARBAGE;
use super::*;
use crate::error::Code;
use crate::sync::{AGAIN, DEADLOCK, INVALID, NOT_OWNER, TIMED_OUT};
use crate::sys::clock::Timeout;
use crate::sys::prim::Ordering;
use core::ptr::NonNull;
use std::alloc::Layout;

const LIMIT: Timeout = Timeout::After(20_000_000_000);
const EPIPE: Code = Code::errno(libc::EPIPE);
const EMSGSIZE: Code = Code::errno(libc::EMSGSIZE);

fn queue(messages: usize, bytes: usize) -> Queue {
    let options = QueueOptions { messages, bytes, flags: 0 };
    let layout = Layout::from_size_align(options.size().unwrap(), 64).unwrap();
    // SAFETY: leaked, so it stays.
    unsafe {
        let start = NonNull::new(std::alloc::alloc(layout)).unwrap();
        start.write_bytes(0xa5, layout.size());
        Queue::create(start, &options).unwrap()
    }
}

fn get(queue: &Queue, timeout: Timeout) -> Result<Vec<u8>, Refused> {
    let mut bytes = vec![0; 4096];
    let length = queue.get(bytes.as_mut_slice().into(), timeout)?;
    bytes.truncate(length);
    Ok(bytes)
}

/// A message whose bytes say its number and length.
fn message(number: usize, length: usize) -> Vec<u8> {
    (0..length).map(|at| (number * 31 + length + at) as u8).collect()
}

#[test]
fn messages_of_any_length_come_out_as_they_went_in() {
    let queue = queue(8, 4096);
    for round in 0..2000 {
        for length in [0, 1, 7, 8, 9, 15, 16, 17, 1000, (round * 37) % 2000] {
            let bytes = message(round, length);
            queue.put(&bytes, Timeout::Try).unwrap();
            if round % 2 == 0 {
                queue.put(&bytes[..length / 2], Timeout::Try).unwrap();
                assert_eq!(get(&queue, Timeout::Try).unwrap(), bytes);
                assert_eq!(get(&queue, Timeout::Try).unwrap(), bytes[..length / 2]);
            } else {
                assert_eq!(get(&queue, Timeout::Try).unwrap(), bytes);
            }
        }
    }
    let longest = message(7, 4096);
    for _ in 0..20 {
        // Wherever the last message ended.
        queue.put(&longest[..1008], Timeout::Try).unwrap();
        get(&queue, Timeout::Try).unwrap();
        queue.put(&longest, Timeout::Try).unwrap();
        assert_eq!(get(&queue, Timeout::Try).unwrap(), longest);
    }
    assert_eq!(queue.put(&[0; 4097], Timeout::Try), Err(EMSGSIZE));
}

#[test]
fn both_bounds_hold_exactly() {
    let queue = queue(5, 100);
    for _ in 0..5 {
        queue.put(b"12345678", Timeout::Try).unwrap();
    }
    assert_eq!(queue.put(b"", Timeout::Try), Err(AGAIN));
    assert_eq!((queue.count(), queue.is_empty()), (5, false));
    while get(&queue, Timeout::Try).is_ok() {}
    // 112 bytes in units of 16.
    queue.put(&[1; 64], Timeout::Try).unwrap();
    queue.put(&[2; 48], Timeout::Try).unwrap();
    assert_eq!(queue.put(&[3; 9], Timeout::After(1_000_000)), Err(TIMED_OUT));
    queue.put(&[3; 8], Timeout::Try).unwrap();
    get(&queue, Timeout::Try).unwrap();
    queue.put(&[4; 64], Timeout::Try).unwrap();
    assert_eq!(queue.count(), 3);
}

/// Units are counted in 32 bits, which 64 GiB of messages use up.
#[test]
fn the_count_of_units_starts_again() {
    for before in 0..40 {
        let queue = queue(8, 256);
        queue.memory.slot(u64::MAX).describe(0, u32::MAX - before);
        for round in 0..100 {
            let lengths = [9 + round % 50, 3, 100 - round % 50];
            for length in lengths {
                queue.put(&message(round, length), Timeout::Try).unwrap();
            }
            for length in lengths {
                assert_eq!(get(&queue, Timeout::Try).unwrap(), message(round, length));
            }
        }
        queue.put(&[7; 256], Timeout::Try).unwrap();
        assert_eq!(queue.put(&[7; 9], Timeout::Try), Err(AGAIN));
        assert_eq!(get(&queue, Timeout::Try).unwrap(), [7; 256]);
    }
}

#[test]
fn what_does_not_fit_stays() {
    let queue = queue(4, 64);
    queue.put(&[9; 20], Timeout::Try).unwrap();
    let mut small = [0; 19];
    assert_eq!(queue.get(small.as_mut_slice().into(), Timeout::Try), Err((EMSGSIZE, 20)));
    assert_eq!(get(&queue, Timeout::Try).unwrap(), [9; 20]);
    assert_eq!(get(&queue, Timeout::Try), Err((AGAIN, 0)));
    assert_eq!(get(&queue, Timeout::After(1_000_000)), Err((TIMED_OUT, 0)));
}

#[test]
fn a_closed_queue_is_drained_and_ends() {
    let queue = queue(4, 64);
    queue.put(b"last", Timeout::Try).unwrap();
    let waiting = std::thread::spawn(move || queue.put(&[0; 65], LIMIT));
    assert_eq!(waiting.join().unwrap(), Err(EMSGSIZE));
    for _ in 0..3 {
        queue.put(b"more", Timeout::Try).unwrap();
    }
    let waiting = std::thread::spawn(move || queue.put(b"no room", LIMIT));
    queue.close().unwrap();
    queue.close().unwrap();
    assert_eq!(waiting.join().unwrap(), Err(EPIPE));
    assert_eq!(queue.put(b"late", LIMIT), Err(EPIPE));
    for _ in 0..4 {
        get(&queue, LIMIT).unwrap();
    }
    assert_eq!(get(&queue, LIMIT), Err((EPIPE, 0)));
    assert!(queue.is_closed() && queue.is_empty());
    let empty = self::queue(4, 64);
    let waiting: Vec<_> = (0..3).map(|_| std::thread::spawn(move || get(&empty, LIMIT))).collect();
    empty.close().unwrap();
    waiting.into_iter().for_each(|thread| assert_eq!(thread.join().unwrap(), Err((EPIPE, 0))));
}

#[test]
fn many_at_a_time() {
    let queue = queue(8, 256);
    let bytes: Vec<u8> = (0..=255).collect();
    let lengths = [3, 0, 100, 8, 60];
    let put_many = |lengths: &[usize]| {
        let mut put = 0;
        let ended = queue.put_many(&bytes, lengths, Timeout::Try, &mut put);
        (put, ended)
    };
    assert_eq!(put_many(&lengths), (5, Ok(())));
    let (mut back, mut found) = ([0u8; 150], [0; 8]);
    assert_eq!(queue.get_many(back.as_mut_slice().into(), &mut found, Timeout::Try), Ok(4));
    assert_eq!((&found[..4], &back[..111]), (&lengths[..4], &bytes[..111]));
    assert_eq!(queue.get_many((&mut back[..59]).into(), &mut found, Timeout::Try), Err((EMSGSIZE, 60)));
    assert_eq!(queue.get_many(back.as_mut_slice().into(), &mut found[..1], Timeout::Try), Ok(1));
    assert_eq!(back[..60], bytes[111..171]);
    // Where there is room for some, some are put.
    assert_eq!(put_many(&[8; 20]), (8, Err(AGAIN)));
    assert_eq!(put_many(&[8; 20]), (0, Err(AGAIN)));
    assert_eq!(put_many(&[]), (0, Ok(())));
    assert_eq!(put_many(&[1, 257]), (0, Err(EMSGSIZE)));
}

#[test]
fn whoever_wakes_a_watcher_leaves_the_sleepers_their_bits() {
    let queue = queue(8, 256);
    queue.shared().header.gate.close();
    queue.wake_watcher();
    assert_ne!(queue.shared().header.gate.word().load(Ordering::SeqCst), 0, "else a death here is theirs");
}

#[test]
fn in_place() {
    let queue = queue(4, 4096);
    assert_eq!(queue.commit(0), Err(NOT_OWNER));
    assert_eq!(queue.release(), Err(NOT_OWNER));
    assert_eq!(queue.abandon(), Err(NOT_OWNER));
    for (reserved, put) in [(4096, 4096), (4096, 5), (8, 8), (8, 0), (9, 9), (2000, 1999)] {
        let bytes = message(reserved, put);
        queue.reserve(reserved, Timeout::Try).unwrap();
        queue.abandon().unwrap();
        let place = queue.reserve(reserved, Timeout::Try).unwrap();
        assert_eq!(place.as_ptr().addr() % if reserved > 8 { 16 } else { 8 }, 0);
        // SAFETY: that many bytes were reserved.
        unsafe { place.copy_from_nonoverlapping(NonNull::from(&bytes[..]).cast(), put) };
        assert_eq!(queue.put(b"x", Timeout::Try), Err(DEADLOCK));
        assert_eq!(queue.commit(reserved + 1), Err(EMSGSIZE));
        queue.commit(put).unwrap();
        let (place, length) = queue.peek(Timeout::Try).unwrap();
        assert_eq!((length, queue.count()), (put, 0));
        // SAFETY: the message is this thread's until it is released.
        assert_eq!(unsafe { std::slice::from_raw_parts(place.as_ptr(), length) }, bytes);
        assert_eq!(get(&queue, Timeout::Try), Err((DEADLOCK, 0)));
        queue.release().unwrap();
    }
    queue.reserve(10, Timeout::Try).unwrap();
    queue.close().unwrap();
    assert_eq!(queue.commit(10), Err(EPIPE));
    assert_eq!(queue.commit(10), Err(NOT_OWNER));
}

#[test]
fn join_waits_for_everything() {
    let queue = queue(4, 64);
    queue.join(Timeout::Try).unwrap();
    assert_eq!(queue.task_done(), Err(INVALID));
    queue.put(b"a", Timeout::Try).unwrap();
    queue.put(b"b", Timeout::Try).unwrap();
    assert_eq!(queue.join(Timeout::Try), Err(AGAIN));
    assert_eq!(queue.join(Timeout::After(1_000_000)), Err(TIMED_OUT));
    let joined: Vec<_> = (0..3).map(|_| std::thread::spawn(move || queue.join(LIMIT))).collect();
    for _ in 0..2 {
        get(&queue, Timeout::Try).unwrap();
        queue.task_done().unwrap();
    }
    joined.into_iter().for_each(|thread| thread.join().unwrap().unwrap());
    assert_eq!(queue.task_done(), Err(INVALID));
}

#[test]
fn threads_lose_nothing_and_keep_each_producers_order() {
    const PRODUCERS: u64 = 3;
    const EACH: u64 = 30_000;
    let queue = queue(16, 4096);
    let consumers: Vec<_> = (0..3)
        .map(|_| {
            std::thread::spawn(move || {
                let mut last = [0; PRODUCERS as usize];
                let mut count = 0;
                while let Ok(bytes) = get(&queue, LIMIT) {
                    let number = u64::from_ne_bytes(bytes[..8].try_into().unwrap());
                    let (producer, number) = ((number % PRODUCERS) as usize, number / PRODUCERS);
                    assert!(number > last[producer]);
                    assert!(bytes[8..].iter().all(|byte| *byte == number as u8));
                    last[producer] = number;
                    count += 1;
                }
                count
            })
        })
        .collect();
    std::thread::scope(|scope| {
        for producer in 0..PRODUCERS {
            scope.spawn(move || {
                for number in 1..=EACH {
                    let mut bytes = vec![number as u8; 8 + (number % 300) as usize];
                    bytes[..8].copy_from_slice(&(number * PRODUCERS + producer).to_ne_bytes());
                    queue.put(&bytes, LIMIT).unwrap();
                }
            });
        }
    });
    queue.close().unwrap();
    let total: u64 = consumers.into_iter().map(|thread| thread.join().unwrap()).sum();
    assert_eq!(total, PRODUCERS * EACH);
}

#[test]
fn two_that_sleep_all_the_time_never_sleep_both() {
    let (there, back) = (queue(1, 16), queue(3, 16));
    let echo = std::thread::spawn(move || {
        while let Ok(bytes) = get(&there, LIMIT) {
            back.put(&bytes, LIMIT).unwrap();
        }
    });
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..300_000u64 {
                there.put(&number.to_ne_bytes(), LIMIT).unwrap();
            }
            there.close().unwrap();
        });
        for number in 0..300_000u64 {
            assert_eq!(get(&back, LIMIT).unwrap(), number.to_ne_bytes());
        }
    });
    echo.join().unwrap();
}

/// A hostile process changes a lock's words while this thread has it: the thread must not keep it, or its robust list would
/// lead into memory that is unmapped one day.
#[test]
fn no_lock_stays_with_a_thread_that_has_released_it() {
    use crate::sys::robust::{self, DIED, WAITERS};
    let queue = queue(4, 256);
    let start = std::ptr::from_ref(queue.shared()).cast::<u8>();
    let me = robust::me().unwrap();
    let (mut seed, mut left) = (0x9e37_79b9_7f4a_7c15u64, 0);
    let mut chance = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    for round in 0..50_000 {
        let produces = round % 2 == 0;
        let side = if produces { &queue.shared().producers } else { &queue.shared().consumers };
        let _ = queue.put(b"x", Timeout::Try);
        let held =
            if produces { queue.reserve(20, Timeout::Try).is_ok() } else { queue.peek(Timeout::Try).is_ok() };
        // Its mode, its tag and so on; and its word, which does not look as if another one had it.
        let words: NonNull<u32> = NonNull::from(&side.lock).cast();
        for _ in 0..chance() % 3 {
            let value = if chance() % 2 == 0 { 1 << (chance() % 32) } else { chance() as u32 };
            // SAFETY: within the lock, of which the first word is not meant.
            unsafe { words.add(1 + (chance() % 15) as usize).write_volatile(value) };
        }
        if chance() % 4 == 0 {
            let known = [0, WAITERS, DIED, DIED | WAITERS, me.tid(), std::process::id() | WAITERS];
            // SAFETY: the lock's word.
            unsafe { words.write_volatile(known[(chance() % 6) as usize]) };
        }
        if held {
            let _ = if produces { queue.commit(17) } else { queue.release() };
        }
        left += u32::from(me.holds_within(start.addr(), 1024));
        // As it was, for the next round.
        // SAFETY: nobody else uses the queue.
        unsafe { words.write_bytes(0, 16) };
        let _ = queue.get([0; 32].as_mut_slice().into(), Timeout::Try);
        left += u32::from(me.holds_within(start.addr(), 1024));
    }
    assert_eq!(left, 0);
}

/// Whatever stands in the queue's memory, calls end, and touch nothing beyond it: a guard page lies behind it.
#[test]
fn garbage_in_the_queue_is_survived() {
    let options = QueueOptions { messages: 8, bytes: 256, flags: 0 };
    let (size, page) = (options.size().unwrap(), crate::sys::memory::page_size());
    let length = size.next_multiple_of(page);
    // SAFETY: a new mapping, the last page of which is taken away again; the queue ends where that begins.
    let start = unsafe {
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
        let at =
            libc::mmap(std::ptr::null_mut(), length + page, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0);
        assert_ne!(at, libc::MAP_FAILED);
        libc::mprotect(at.byte_add(length), page, libc::PROT_NONE);
        NonNull::new(at.cast::<u8>().add((length - size) & !63)).unwrap()
    };
    let mut seed = 0x9e37_79b9_7f4a_7c15u64;
    let mut chance = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    let mut refused = 0;
    for _ in 0..20_000 {
        // SAFETY: the mapping above has room for the queue behind `start`, which is aligned to 64 bytes. It is never
        // unmapped, and nobody else uses it.
        let queue = unsafe { Queue::create(start, &options) }.unwrap();
        for _ in 0..4 {
            let _ = queue.put(&[1; 40], Timeout::Try);
        }
        for _ in 0..1 + chance() % 4 {
            // Not the locks, whose own test this is not: a lock that somebody seems to hold is waited for.
            let word = match chance() % 3 {
                0 => [8, 12, 40, 128, 256][(chance() % 5) as usize],
                1 => 384 + 8 * (chance() % 32),
                _ => 640 + 4 * (chance() % (8 * 4)),
            } as usize;
            let nasty = [0, 1, 2, 7, 8, 9, 255, u64::MAX, 1 << 31, u64::from(u32::MAX)];
            let value = if chance() % 2 == 0 { chance() } else { nasty[(chance() % 10) as usize] };
            // SAFETY: within the queue.
            unsafe { start.add(word).cast::<u64>().write_unaligned(value) };
        }
        for _ in 0..6 {
            let mut buffer = [0; 300];
            refused += u32::from(queue.put(&[2; 50], Timeout::Try) == Err(GARBAGE));
            let got = queue.get(buffer.as_mut_slice().into(), Timeout::Try);
            refused += u32::from(matches!(got, Err((GARBAGE, _))));
            if queue.reserve(100, Timeout::Try).is_ok() {
                let _ = queue.commit(90).or_else(|_| queue.abandon());
            }
            if let Ok((place, length)) = queue.peek(Timeout::Try) {
                // SAFETY: what `peek` gives can be read.
                let bytes = unsafe { std::slice::from_raw_parts(place.as_ptr(), length) };
                assert!(std::hint::black_box(bytes).len() <= 256);
                queue.release().unwrap();
            }
            let _ = (queue.count(), queue.task_done(), queue.unfinished(), queue.is_closed());
            let _ = queue.get_many(buffer.as_mut_slice().into(), &mut [0; 12], Timeout::Try);
        }
    }
    assert!(refused > 100, "{refused} refusals: the test has missed the words that matter");
}
