//! Small histories of a queue, recorded by processes one of which may kill another, and whether there is an order of their
//! operations that a queue would have given the same answers in.

use super::step::{self, kill, spawn, wait_end};
use std::cell::UnsafeCell;
use std::collections::{HashSet, VecDeque};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering::SeqCst};
use std::time::Instant;
use tine::queue::{Queue, QueueOptions};
use tine::sys::clock::Timeout;

const PROCESSES: usize = 4;
const EACH: usize = 4;
const CAPACITY: usize = 2;

/// One operation: when it began and ended by a counter that all share, and what came of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Operation {
    pub begin: u64,
    /// 0: it never ended, because its process died.
    pub end: u64,
    /// What is put; 0 for a get.
    pub put: u64,
    pub answer: Answer,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Answer {
    #[default]
    None,
    Done,
    Got(u64),
    /// It did not wait: the queue was full, or empty, or another of its side was at it.
    Again,
    /// It waited for as long as it may, while nobody else was at it: full, or empty.
    TimedOut,
}

#[repr(C, align(64))]
struct Recorded {
    memory: UnsafeCell<[u64; 256]>,
    clock: AtomicU64,
    ready: AtomicU32,
    pids: [AtomicI32; PROCESSES],
    /// Whether each is in the middle of an operation.
    inside: [AtomicU32; PROCESSES],
    go: AtomicU32,
    operations: UnsafeCell<[[Operation; EACH]; PROCESSES]>,
}

fn begin(shared: &'static Recorded) -> u64 {
    shared.clock.fetch_add(1, SeqCst) + 1
}

/// Runs an operation and writes down when it began before, and what came of it afterwards. A killed one has no end.
fn record(shared: &'static Recorded, place: *mut Operation, queue: Queue, number: u64) {
    let mut operation = Operation { begin: begin(shared), put: number, ..Operation::default() };
    // SAFETY: a place of this process's own, read when it has ended.
    unsafe { place.write_volatile(operation) };
    operation.answer = perform(queue, number, Timeout::Try, operation.begin.is_multiple_of(2));
    operation.end = begin(shared);
    // SAFETY: as above.
    unsafe { place.write_volatile(operation) };
}

/// Slowly: in place, and for long enough that some die in the middle.
fn perform(queue: Queue, number: u64, timeout: Timeout, slowly: bool) -> Answer {
    let mut bytes = number.to_ne_bytes();
    let dwell = || (0..2000).for_each(|_| std::hint::spin_loop());
    let done = if number != 0 && slowly {
        queue.reserve(8, timeout).and_then(|place| {
            // SAFETY: 8 bytes were reserved.
            unsafe { place.cast().write(bytes) };
            dwell();
            queue.commit(8).map(|()| Answer::Done)
        })
    } else if number != 0 {
        queue.put(&bytes, timeout).map(|()| Answer::Done)
    } else if slowly {
        queue.peek(timeout).and_then(|(place, _)| {
            // SAFETY: every message has 8 bytes, and this one is this thread's until it is released.
            let number = u64::from_ne_bytes(unsafe { place.cast().read() });
            dwell();
            queue.release().map(|()| Answer::Got(number))
        })
    } else {
        let got = queue.get(bytes.as_mut_slice().into(), timeout).map_err(|(code, _)| code);
        got.map(|_| Answer::Got(u64::from_ne_bytes(bytes)))
    };
    match done {
        Ok(answer) => answer,
        Err(code) if code.0 == -libc::EAGAIN => Answer::Again,
        Err(code) => {
            assert_eq!(code.0, -libc::ETIMEDOUT);
            Answer::TimedOut
        }
    }
}

/// Records one history: four processes mix puts and gets, and one may kill another; then all that is left is got.
fn one(shared: &'static Recorded, seed: u64) -> Vec<Operation> {
    let options = QueueOptions { messages: CAPACITY, bytes: 64, flags: 0 };
    // SAFETY: nobody uses the memory now; the words are this program's.
    let queue = unsafe {
        shared.operations.get().write_bytes(0, 1);
        Queue::create(NonNull::new(shared.memory.get()).unwrap().cast(), &options).unwrap()
    };
    shared.ready.store(0, SeqCst);
    shared.inside.iter().for_each(|inside| inside.store(0, SeqCst));
    shared.go.store(0, SeqCst);
    let (killer, moment) = ((seed >> 40) as usize % PROCESSES, (seed >> 44) as usize % EACH);
    let pids: Vec<i32> = (0..PROCESSES)
        .map(|process| {
            spawn(move || {
                shared.pids[process].store(std::process::id() as i32, SeqCst);
                shared.ready.fetch_add(1, SeqCst);
                while shared.go.load(SeqCst) == 0 {
                    step::pause();
                }
                for index in 0..EACH {
                    if seed & 3 != 0 && process == killer && index == moment {
                        let victim = (killer + 1) % PROCESSES;
                        // In the middle of something, if there are two processors and it has not done with everything.
                        for _ in 0..20_000 {
                            if shared.inside[victim].load(SeqCst) == 1 {
                                break;
                            }
                            std::hint::spin_loop();
                        }
                        kill(shared.pids[victim].load(SeqCst));
                    }
                    let puts = seed >> (8 + process * EACH + index) & 1 == 0;
                    let number = (process * EACH + index + 1) as u64;
                    // SAFETY: within the array, and this process's own.
                    let place =
                        unsafe { shared.operations.get().cast::<Operation>().add(process * EACH + index) };
                    shared.inside[process].store(1, SeqCst);
                    record(shared, place, queue, if puts { number } else { 0 });
                    shared.inside[process].store(0, SeqCst);
                }
            })
        })
        .collect();
    while shared.ready.load(SeqCst) < PROCESSES as u32 {
        step::pause();
    }
    shared.go.store(1, SeqCst);
    for pid in pids {
        wait_end(pid);
    }
    // SAFETY: all processes have ended.
    let recorded = unsafe { shared.operations.get().read() };
    let mut history: Vec<Operation> =
        recorded.into_iter().flatten().filter(|operation| operation.begin != 0).collect();
    loop {
        let begin = begin(shared);
        let answer = perform(queue, 0, Timeout::After(1_000_000), false);
        history.push(Operation { begin, end: self::begin(shared), put: 0, answer });
        if answer == Answer::TimedOut {
            return history;
        }
    }
}

/// Whether some order of the operations, each at a moment between its begin and its end, is a queue's. One that never
/// ended may have happened or not.
pub fn is_linearizable(history: &[Operation]) -> bool {
    let mut seen = HashSet::new();
    search(history, 0, &VecDeque::new(), &mut seen)
}

/// Whether another of its side may have been at it while this operation was under way.
fn is_contended(history: &[Operation], operation: &Operation) -> bool {
    history.iter().any(|other| {
        let same_side = (other.put == 0) == (operation.put == 0) && other.begin != operation.begin;
        same_side && other.begin < operation.end && (other.end == 0 || other.end > operation.begin)
    })
}

fn search(
    history: &[Operation],
    done: u64,
    queue: &VecDeque<u64>,
    seen: &mut HashSet<(u64, VecDeque<u64>)>,
) -> bool {
    if !seen.insert((done, queue.clone())) {
        return false;
    }
    let open = |index: &usize| done >> index & 1 == 0;
    let completed = (0..history.len()).filter(open).filter(|index| history[*index].end != 0);
    let Some(first_end) = completed.map(|index| history[index].end).min() else { return true };
    for index in (0..history.len()).filter(open) {
        let operation = &history[index];
        if operation.begin > first_end {
            continue;
        }
        let mut after = queue.clone();
        let possible = match (operation.put, operation.answer) {
            (0, Answer::None) => after.pop_front().is_some(),
            (0, Answer::Got(number)) => after.pop_front() == Some(number),
            (0, Answer::Again) => after.is_empty() || is_contended(history, operation),
            (0, Answer::TimedOut) => after.is_empty(),
            (number, Answer::None | Answer::Done) => {
                after.push_back(number);
                after.len() <= CAPACITY
            }
            (_, Answer::Again) => after.len() == CAPACITY || is_contended(history, operation),
            _ => false,
        };
        if possible && search(history, done | 1 << index, &after, seen) {
            return true;
        }
    }
    false
}

/// A checker that says yes to everything would prove nothing.
fn the_checker_can_say_no() -> bool {
    let of = |begin, end, put, answer| Operation { begin, end, put, answer };
    let swapped = [
        of(1, 2, 1, Answer::Done),
        of(3, 4, 2, Answer::Done),
        of(5, 6, 0, Answer::Got(2)),
        of(7, 8, 0, Answer::Got(1)),
    ];
    let overlapping =
        [of(1, 4, 1, Answer::Done), of(2, 5, 2, Answer::Done), swapped[2], of(7, 8, 0, Answer::Got(1))];
    let twice = [of(1, 2, 1, Answer::Done), of(3, 4, 0, Answer::Got(1)), of(5, 6, 0, Answer::Got(1))];
    let lost = [of(1, 2, 1, Answer::Done), of(3, 4, 0, Answer::Again)];
    let lost_with_the_dead =
        [of(1, 2, 1, Answer::Done), of(2, 0, 0, Answer::None), of(3, 4, 0, Answer::Again)];
    let refused = [lost[0], of(2, 5, 0, Answer::Got(1)), lost[1]];
    let refused_by_the_dead =
        [lost[0], of(2, 0, 0, Answer::None), of(3, 4, 0, Answer::TimedOut), of(5, 6, 0, Answer::Got(1))];
    !is_linearizable(&swapped)
        && is_linearizable(&refused)
        && !is_linearizable(&refused_by_the_dead)
        && is_linearizable(&overlapping)
        && !is_linearizable(&twice)
        && !is_linearizable(&lost)
        && is_linearizable(&lost_with_the_dead)
}

/// Records and checks so many histories; whether all were in order.
pub fn check(count: u32) -> bool {
    let shared: &'static Recorded = step::map();
    let (mut seed, mut wrong, mut unfinished) = (0x2545_f491_4f6c_dd1d_u64, 0, 0);
    let began = Instant::now();
    for _ in 0..count {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        let history = one(shared, seed);
        unfinished += u32::from(history.iter().any(|operation| operation.end == 0));
        if !is_linearizable(&history) {
            wrong += 1;
            println!("not a queue's: {history:#?}");
        }
    }
    let sound = the_checker_can_say_no();
    println!(
        "histories: {count}, of which {unfinished} have an operation cut short; {wrong} that no queue would give; {:.1?}",
        began.elapsed()
    );
    wrong == 0 && unfinished > 0 && sound
}
