//! Records small histories: four processes make calls on one object that they share, one or two of them are killed while they do, and
//! each call's begin, end and answer are written down.

use super::step::{self, HANG, spawn};
use super::subject::{Actor, Call, EACH, Kind, PROCESSES, Subject};
use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering::SeqCst};

/// The object, whichever it is.
#[repr(C, align(4096))]
pub struct Memory(UnsafeCell<[u64; 1024]>);

impl Memory {
    pub fn as_ptr<T>(&self) -> *mut T {
        const { assert!(size_of::<T>() <= size_of::<Memory>()) };
        self.0.get().cast()
    }
}

/// The end of a call whose process was killed meanwhile: behind all others.
pub const CUT_SHORT: u64 = u64::MAX;

/// One call: when it began and ended by a counter that all share, and what it answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation {
    pub begin: u64,
    /// `CUT_SHORT`: it never ended.
    pub end: u64,
    pub call: Call,
    pub answer: i64,
}

/// What the recorder keeps of one call; a process writes its own only.
#[derive(Default)]
struct Line {
    begin: AtomicU64,
    end: AtomicU64,
    kind: AtomicU32,
    number: AtomicU64,
    answer: AtomicI64,
}

#[repr(C)]
pub struct Recorded {
    memory: Memory,
    clock: AtomicU64,
    ready: AtomicU32,
    go: AtomicU32,
    /// How many calls each has begun.
    begun: [AtomicU32; PROCESSES],
    /// One more than calls: to give back what is held.
    lines: [[Line; EACH as usize + 1]; PROCESSES],
}

impl Recorded {
    fn now(&self) -> u64 {
        self.clock.fetch_add(1, SeqCst) + 1
    }

    fn reset(&self) {
        self.ready.store(0, SeqCst);
        self.go.store(0, SeqCst);
        self.begun.iter().for_each(|begun| begun.store(0, SeqCst));
        self.lines.iter().flatten().for_each(|line| line.begin.store(0, SeqCst));
    }
}

pub fn next_random(seed: &mut u64) -> u64 {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    *seed >> 11
}

/// One process's part.
fn act<S: Subject>(shared: &Recorded, who: usize, seed: u64, planted: bool) {
    let mut actor = Actor::new(who, seed, planted);
    shared.ready.fetch_add(1, SeqCst);
    while shared.go.load(SeqCst) == 0 {
        step::pause();
    }
    for line in &shared.lines[who] {
        let Some((kind, number)) = S::choose(&mut actor) else { return };
        actor.made += 1;
        line.kind.store(kind as u32, SeqCst);
        line.number.store(number, SeqCst);
        line.end.store(CUT_SHORT, SeqCst);
        line.begin.store(shared.now(), SeqCst);
        shared.begun[who].fetch_add(1, SeqCst);
        let answer = S::perform(&shared.memory, kind, number, &mut actor);
        line.answer.store(answer, SeqCst);
        line.end.store(shared.now(), SeqCst);
        // Others overtake here, and some die, with what they hold.
        let random = actor.random();
        if random.is_multiple_of(2) {
            step::pause();
        }
        (0..random >> 1 & 0x3ff).for_each(|_| std::hint::spin_loop());
    }
}

/// One history, or `None` if somebody hung. A `planted` one has a fault that its processes act out.
pub fn record<S: Subject>(shared: &'static Recorded, mut seed: u64, planted: bool) -> Option<Vec<Operation>> {
    shared.reset();
    S::make(&shared.memory);
    let mut pids: Vec<i32> = (0..PROCESSES)
        .map(|who| {
            let seed = next_random(&mut seed) | 1;
            spawn(move || act::<S>(shared, who, seed, planted))
        })
        .collect();
    while shared.ready.load(SeqCst) < PROCESSES as u32 {
        step::pause();
    }
    shared.go.store(1, SeqCst);
    let mut deaths = Vec::new();
    let kills = if planted { 0 } else { next_random(&mut seed) as usize % 3 };
    for _ in 0..kills {
        let victim = next_random(&mut seed) as usize % PROCESSES;
        let after = next_random(&mut seed) as u32 % EACH as u32;
        // In the middle of this call, if it has not got further; in any case now.
        for _ in 0..2000 {
            if shared.begun[victim].load(SeqCst) > after {
                break;
            }
            step::pause();
        }
        for _ in 0..next_random(&mut seed) % 512 {
            std::hint::spin_loop();
        }
        let pid = std::mem::replace(&mut pids[victim], 0);
        if pid != 0 {
            let begin = shared.now();
            step::kill(pid);
            step::wait_end(pid);
            let call = Call { who: victim, kind: Kind::Die, number: 0, contended: false };
            deaths.push(Operation { begin, end: shared.now(), call, answer: 0 });
        }
    }
    let mut hung = false;
    for pid in pids.into_iter().filter(|pid| *pid != 0) {
        if step::reap(pid, 2 * HANG) != Some(0) {
            hung = true;
            step::kill(pid);
            step::reap(pid, HANG);
        }
    }
    let mut history = Vec::new();
    for (who, lines) in shared.lines.iter().enumerate() {
        history.extend(lines.iter().filter(|line| line.begin.load(SeqCst) != 0).map(|line| Operation {
            begin: line.begin.load(SeqCst),
            end: line.end.load(SeqCst),
            call: Call {
                who,
                kind: Kind::from(line.kind.load(SeqCst)),
                number: line.number.load(SeqCst),
                contended: false,
            },
            answer: line.answer.load(SeqCst),
        }));
    }
    // What is left is what the history says it is.
    let mut actor = Actor::new(PROCESSES, 1, false);
    while let Some((kind, number)) = S::settle(&mut actor) {
        actor.made += 1;
        let begin = shared.now();
        let answer = S::perform(&shared.memory, kind, number, &mut actor);
        let call = Call { who: PROCESSES, kind, number, contended: false };
        history.push(Operation { begin, end: shared.now(), call, answer });
    }
    for death in &mut deaths {
        // One that was killed within a call may have done any part of it.
        let cut_short = |other: &Operation| other.call.who == death.call.who && other.end == CUT_SHORT;
        death.call.number = u64::from(history.iter().any(cut_short));
    }
    history.extend(&deaths);
    mark_contended::<S>(&mut history, &deaths);
    (!hung).then_some(history)
}

/// A call that overlaps with another's may have met it half way, until that one's end or death.
fn mark_contended<S: Subject>(history: &mut [Operation], deaths: &[Operation]) {
    let over = |other: &Operation| match other.end {
        CUT_SHORT => {
            deaths.iter().find(|death| death.call.who == other.call.who).map_or(other.end, |it| it.end)
        }
        end => end,
    };
    for index in 0..history.len() {
        let one = history[index];
        history[index].call.contended = history.iter().any(|other| {
            let overlap = other.begin < one.end && one.begin < over(other);
            overlap && other.call.who != one.call.who && S::collide(one.call.kind, other.call.kind)
        });
    }
}
