//! A storm over queues: producers and consumers work as fast as they can while others of them are killed at random.
//! Nobody may hang, no message may be got twice or out of its producer's order, and none may be lost but the one that a
//! killed consumer had in its hands.
//!
//! A program of its own, without the test harness, because it forks. TINE_STORM=1 makes it long.

#[allow(dead_code)] // Of the single-stepper's tools, this needs those for processes.
#[path = "step/mod.rs"]
mod step;

use std::ptr::{NonNull, null_mut};
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};
use step::{kill, spawn, wait_end};
use tine::queue::{Queue, QueueOptions};
use tine::sys::clock::Timeout;

const PRODUCERS: usize = 2;
const CONSUMERS: usize = 3;
const WORKERS: usize = PRODUCERS + CONSUMERS;
/// Nobody may make no progress for as long; ten times what is promised, and time for a loaded machine.
const HANG: Duration = Duration::from_secs(20);
/// Messages are numbered up to this; each kill allows so many more.
const NUMBERS: usize = 1 << 26;
const PER_KILL: u64 = 4000;
const LONGEST: usize = 500;

const PUTTING: u8 = 1;
const PUT: u8 = 2;

#[repr(C)]
struct Storm {
    next: AtomicU64,
    allowed: AtomicU64,
    progress: [AtomicU64; WORKERS],
    wrong: AtomicU32,
}

#[derive(Clone, Copy)]
struct Field {
    storm: &'static Storm,
    queue: Queue,
    /// How far each message has come, and how often it was got.
    put: &'static [AtomicU8],
    got: &'static [AtomicU8],
}

fn map(length: usize) -> NonNull<u8> {
    // SAFETY: a new mapping that is never unmapped.
    unsafe {
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        let at = libc::mmap(null_mut(), length, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0);
        assert_ne!(at, libc::MAP_FAILED);
        NonNull::new(at.cast()).unwrap()
    }
}

fn length_of(number: u64) -> usize {
    16 + (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as usize % (LONGEST - 16)
}

/// Now and then a message is in somebody's hands for long enough to die with.
fn dwell(turn: u64) {
    if turn.is_multiple_of(16) {
        (0..500).for_each(|_| std::hint::spin_loop());
    }
}

fn produce(field: Field, worker: usize) {
    let mut bytes = [0u8; LONGEST];
    loop {
        let number = field.storm.next.fetch_add(1, SeqCst);
        while number >= field.storm.allowed.load(SeqCst) || number as usize >= NUMBERS {
            step::pause();
        }
        let length = length_of(number);
        bytes[..length].fill(number as u8);
        bytes[..8].copy_from_slice(&number.to_ne_bytes());
        bytes[8..16].copy_from_slice(&(worker as u64).to_ne_bytes());
        field.put[number as usize].store(PUTTING, SeqCst);
        if number.is_multiple_of(4) {
            let place = field.queue.reserve(length, Timeout::Forever).unwrap();
            // SAFETY: that many bytes were reserved.
            unsafe { place.copy_from_nonoverlapping(NonNull::from(&bytes[..length]).cast(), length) };
            dwell(number);
            field.queue.commit(length).unwrap();
        } else {
            field.queue.put(&bytes[..length], Timeout::Forever).unwrap();
        }
        field.put[number as usize].store(PUT, SeqCst);
        field.storm.progress[worker].fetch_add(1, SeqCst);
    }
}

/// Notes a message down; `last` is what this consumer has got of each producer before.
fn note(field: Field, bytes: &[u8], last: &mut [u64; PRODUCERS]) {
    let word = |at: usize| u64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap());
    let (number, producer) = (word(0), word(8) as usize);
    let whole = bytes.len() == length_of(number) && bytes[16..].iter().all(|byte| *byte == number as u8);
    if !whole || (last[producer] > number) {
        field.storm.wrong.fetch_add(1, SeqCst);
    }
    last[producer] = number;
    field.got[number as usize].fetch_add(1, SeqCst);
}

fn consume(field: Field, worker: usize) {
    let mut bytes = [0u8; LONGEST];
    let mut last = [0; PRODUCERS];
    for turn in 0u64.. {
        if turn.is_multiple_of(4) {
            let (place, length) = field.queue.peek(Timeout::Forever).unwrap();
            // SAFETY: the message is this thread's until it is released.
            note(field, unsafe { std::slice::from_raw_parts(place.as_ptr(), length) }, &mut last);
            dwell(turn);
            field.queue.release().unwrap();
        } else {
            let length = field.queue.get(bytes.as_mut_slice().into(), Timeout::Forever).unwrap();
            note(field, &bytes[..length], &mut last);
        }
        field.storm.progress[worker].fetch_add(1, SeqCst);
    }
}

fn worker(field: Field, index: usize) -> i32 {
    spawn(move || if index < PRODUCERS { produce(field, index) } else { consume(field, index) })
}

/// Waits until every worker has moved since `before`; whether they have.
fn all_moved(storm: &Storm, before: &[u64]) -> bool {
    let mut limit = step::Limit::new(HANG);
    let moved = || storm.progress.iter().zip(before).all(|(now, before)| now.load(SeqCst) != *before);
    while !moved() && !limit.is_over() {
        storm.allowed.fetch_add(10, SeqCst);
        step::pause();
    }
    moved()
}

fn describe(field: Field, pids: &[i32], before: &[u64]) {
    for (index, pid) in pids.iter().enumerate() {
        let moved = field.storm.progress[index].load(SeqCst) - before[index];
        let call = std::fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap_or_default();
        println!("worker {index}, pid {pid}: moved {moved}; syscall {}", call.trim());
    }
    println!("{} messages in the queue", field.queue.count());
}

fn storm(name: &str, messages: usize, bytes: usize, kills: u32) -> bool {
    let options = QueueOptions { messages, bytes, flags: 0 };
    let array = |at: NonNull<u8>| -> &'static [AtomicU8] {
        // SAFETY: a mapping of that length, all zero, that is never unmapped.
        unsafe { std::slice::from_raw_parts(at.as_ptr().cast(), NUMBERS) }
    };
    // SAFETY: as above; nobody uses it yet.
    let queue = unsafe { Queue::create(map(options.size().unwrap()), &options) }.unwrap();
    let (put, got) = (map(NUMBERS), map(NUMBERS));
    let field = Field { storm: step::map(), queue, put: array(put), got: array(got) };
    field.storm.allowed.store(16 * PER_KILL, SeqCst);
    let mut pids: Vec<i32> = (0..WORKERS).map(|index| worker(field, index)).collect();
    let (mut seed, mut hung, began) = (0x9e37_79b9_7f4a_7c15_u64, false, Instant::now());
    let (mut producers, mut consumers, mut slowest) = (0, 0, Duration::ZERO);
    for round in 0..kills {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        let victim = seed as usize % WORKERS;
        // A random while, as work that the victim does, or time if it sleeps.
        let until = Instant::now() + Duration::from_nanos(seed >> 20 & 0x1ffff);
        while Instant::now() < until {
            step::pause();
        }
        kill(pids[victim]);
        wait_end(pids[victim]);
        *if victim < PRODUCERS { &mut producers } else { &mut consumers } += 1;
        pids[victim] = worker(field, victim);
        field.storm.allowed.fetch_add(PER_KILL, SeqCst);
        if round % 16 == 15 {
            let before: Vec<u64> =
                field.storm.progress.iter().map(|progress| progress.load(SeqCst)).collect();
            let start = Instant::now();
            hung = !all_moved(field.storm, &before);
            slowest = slowest.max(start.elapsed());
            if hung {
                describe(field, &pids, &before);
                break;
            }
        }
    }
    for pid in pids {
        kill(pid);
        wait_end(pid);
    }
    let mut bytes = [0u8; LONGEST];
    while let Ok(length) = field.queue.get(bytes.as_mut_slice().into(), Timeout::After(1_000_000_000)) {
        note(field, &bytes[..length], &mut [0; PRODUCERS]);
    }
    let (mut duplicated, mut lost, mut cut_short, mut delivered) = (0, 0, 0, 0u64);
    let numbers = (field.storm.next.load(SeqCst) as usize).min(NUMBERS);
    for (put, got) in field.put[..numbers].iter().zip(field.got) {
        match (put.load(SeqCst), got.load(SeqCst)) {
            (_, 2..) => duplicated += 1,
            (_, 1) => delivered += 1,
            (PUT, 0) => lost += 1,
            (PUTTING, 0) => cut_short += 1,
            _ => {}
        }
    }
    // The workers that were killed in the end are killed ones, too.
    let (most_lost, most_cut_short) = (consumers + CONSUMERS as u32, producers + PRODUCERS as u32);
    let wrong = field.storm.wrong.load(SeqCst);
    println!(
        "{name}: {} kills; {delivered} messages delivered, {duplicated} duplicated, {wrong} torn or out of order; lost {lost} (at most {most_lost}), put in vain {cut_short} (at most {most_cut_short}); hung {hung}, all moved within {slowest:.1?}; {:.1?}",
        producers + consumers,
        began.elapsed()
    );
    // SAFETY: nobody uses them any more.
    unsafe {
        libc::munmap(put.as_ptr().cast(), NUMBERS);
        libc::munmap(got.as_ptr().cast(), NUMBERS);
    }
    !hung
        && duplicated == 0
        && wrong == 0
        && lost <= most_lost
        && cut_short <= most_cut_short
        && delivered > 0
}

fn main() {
    let long = std::env::var_os("TINE_STORM").is_some();
    let kills = if long { 15_000 } else { 5_000 };
    let (mut passed, mut failed) = (0, 0);
    let mut count = |ok: bool| *if ok { &mut passed } else { &mut failed } += 1;
    // One in which both sides sleep all the time, and one in which they seldom do.
    count(storm("short queue", 3, 1024, kills / 2));
    count(storm("long queue", 256, 64 * 1024, kills / 2));
    let verdict = if failed == 0 { "ok" } else { "FAILED" };
    println!("test result: {verdict}. {passed} passed; {failed} failed");
    std::process::exit(i32::from(failed != 0));
}
