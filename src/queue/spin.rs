//! How long to look before going to sleep: as long as to sleep would cost, where the other side answers within that.
//!
//! What counts is when the message was written, not how long the sleep took: a sleep has both sides' wake-ups in it, so two sides that
//! sleep in turn would look to each other like slow work, and never find each other awake. So whoever ends a wait leaves a note, before its
//! commit and only where the other side sleeps, so that the fast path pays nothing: the time, its processor, and when it was
//! itself on its way out of a sleep. The waiter subtracts that. From its own notes it knows what a wake-up costs on this machine.
//!
//! | the message was written | the next waits look for |
//! |---|---|
//! | within the cost of a sleep | twice a wake-up: the other side may have to be woken once more |
//! | later | a microsecond |
//! | by the processor on which the waiter looked, or after a long look in vain | not at all, for so many waits; each time that it is so again, for twice as many |
//!
//! Who always finds something while looking may be in a conversation, where the next message is an answer, or before a stream, where taking
//! each message alone makes the cache lines go to and fro for each. So now and then who has found something pauses, for a microsecond
//! in which it touches none of those lines, and sees what has gathered:
//!
//! | in the pause came | then |
//! |---|---|
//! | several messages: a stream | the next look that finds something pauses, too |
//! | hardly any: a conversation | the next 8 do not; each time that it is so again, twice as many |
//!
//! All words are hints. Whatever somebody writes into them, or another clock says, costs at most one look of `MOST_NS` a wait.

use crate::sys::clock::now_ns;
use crate::sys::limits;
use crate::sys::prim::AtomicU32;
use crate::sys::thread;
use core::cell::Cell;
use core::sync::atomic::{AtomicU64, Ordering};

/// Where the machine has one processor only, the other side cannot do anything while this one looks. Kept in a word, for which
/// no thread of a forked child's waits.
fn is_of_use() -> bool {
    /// 0 before it has been asked. Relaxed: whoever asks finds the same.
    static PROCESSORS: AtomicU64 = AtomicU64::new(0);
    if PROCESSORS.load(Ordering::Relaxed) == 0 {
        PROCESSORS.store(limits::online_count() as u64, Ordering::Relaxed);
    }
    PROCESSORS.load(Ordering::Relaxed) > 1
}

/// What a wake-up takes here, from the other side's call to this one's next instruction: an average of this process's own.
static WAKE_NS: AtomicU64 = AtomicU64::new(10_000);
const WAKE_LEAST_NS: u64 = 2_000;
const WAKE_MOST_NS: u64 = 100_000;

const LEAST_NS: u64 = 1_000;
const MOST_NS: u64 = 2 * WAKE_MOST_NS;

/// For how many waits it gives up looking after it was of no use, at first and at most.
const RESTS: (u32, u32) = (4, 4096);

/// How long a pause takes, and how many messages in it make a stream.
const PAUSE_NS: u64 = 1_000;
const STREAM: u64 = 4;

/// How many looks that find something come before the next pause, at first and at most.
const LOOKS: (u32, u32) = (8, 512);

thread_local! {
    /// This thread's last wake-up: when it was called, and when it ran.
    static WOKEN: Cell<(u64, u64)> = const { Cell::new((0, 0)) };
}

/// The processor of the calling thread.
fn here() -> u64 {
    thread::processor().map_or(NOWHERE, u64::from)
}

/// What those of one side leave for each other, in shared memory.
#[repr(C)]
#[derive(Debug, Default)]
pub(crate) struct Hints {
    /// What the last waiter has learnt.
    learnt: AtomicU64,
    /// The note: when the last wait of a sleeper was ended.
    written_ns: AtomicU64,
    /// Its processor (16 bits); of its last wake-up, how long before the writing it ended and how long it took (24 bits each, in ns).
    writer: AtomicU64,
}

const BITS: u64 = 24;
const MASK: u64 = (1 << BITS) - 1;
const NOWHERE: u64 = 0xffff;

/// What a note says, where it is of this wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Written {
    at_ns: u64,
    /// From the wait's beginning, without the writer's own wake-up.
    after_ns: u64,
    processor: u64,
}

impl Hints {
    /// Leaves a note, if the gate says that the one whose wait is about to end sleeps.
    #[inline(always)]
    pub(crate) fn leave_note(&self, gate: &AtomicU32, sleeper: u32) {
        // Relaxed: a hint.
        if gate.load(Ordering::Relaxed) & sleeper != 0 {
            self.write(now_ns(), WOKEN.get(), here());
        }
    }

    #[cold]
    #[inline(never)]
    fn write(&self, now: u64, (called, ran): (u64, u64), processor: u64) {
        let (since, took) = (now.saturating_sub(ran), ran.saturating_sub(called));
        let wake = if since.max(took) <= MASK { since << 16 | took << (16 + BITS) } else { 0 };
        self.writer.store(processor & NOWHERE | wake, Ordering::Relaxed);
        self.written_ns.store(now, Ordering::Relaxed);
    }

    fn read(&self, began: u64, now: u64) -> Option<Written> {
        let (at_ns, writer) = (self.written_ns.load(Ordering::Relaxed), self.writer.load(Ordering::Relaxed));
        if at_ns < began || at_ns > now {
            return None;
        }
        let (since, took) = (writer >> 16 & MASK, writer >> (16 + BITS));
        let ran = at_ns.saturating_sub(since).max(began);
        let called = at_ns.saturating_sub(since + took).max(began);
        Some(Written { at_ns, after_ns: at_ns - began - (ran - called), processor: writer & NOWHERE })
    }
}

/// One side's memory of how long its waits had to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Spin {
    limit_ns: u64,
    /// Waits for which it does not look.
    rest: u32,
    next_rest: u32,
    /// Looks that find something before it pauses, now and after a pause in vain.
    looks: u32,
    next_looks: u32,
    /// When it began to look, and where.
    began_ns: u64,
    processor: u64,
}

impl Spin {
    pub(crate) fn new(hints: &Hints) -> Spin {
        Spin::from_hint(hints.learnt.load(Ordering::Relaxed))
    }

    /// Keeps what it has learnt for the next waiter.
    pub(crate) fn save(&self, hints: &Hints) {
        hints.learnt.store(self.hint(), Ordering::Relaxed);
    }

    fn from_hint(hint: u64) -> Spin {
        Spin {
            limit_ns: (hint & 0x3_ffff).clamp(LEAST_NS, MOST_NS),
            rest: (hint >> 18 & 0x1fff) as u32,
            next_rest: ((hint >> 31 & 0x1fff) as u32).clamp(RESTS.0, RESTS.1),
            looks: (hint >> 44 & 0x3ff) as u32,
            next_looks: ((hint >> 54) as u32).clamp(LOOKS.0, LOOKS.1),
            began_ns: 0,
            processor: NOWHERE,
        }
    }

    fn hint(&self) -> u64 {
        let [rest, next_rest, looks, next_looks] =
            [self.rest, self.next_rest, self.looks, self.next_looks].map(u64::from);
        self.limit_ns | rest.min(0x1fff) << 18 | next_rest << 31 | looks << 44 | next_looks << 54
    }

    /// Looks until there is something, or for as long as seems worth it; whether there is something.
    pub(crate) fn look(&mut self, mut found: impl FnMut() -> bool) -> bool {
        self.began_ns = now_ns();
        if self.rest > 0 || !is_of_use() {
            self.processor = here();
            return found();
        }
        let end = self.began_ns + self.limit_ns;
        loop {
            for _ in 0..16 {
                core::hint::spin_loop();
                if found() {
                    self.next_rest = RESTS.0;
                    return true;
                }
            }
            if now_ns() >= end {
                self.processor = here();
                return false;
            }
        }
    }

    /// The look has found something: pauses where it is time to see whether more gathers. `moved` says how many messages the other side has
    /// come on by since the look began.
    pub(crate) fn gather(&mut self, moved: impl FnOnce() -> u64) {
        if self.looks > 0 {
            self.looks -= 1;
            return;
        }
        let end = now_ns() + PAUSE_NS;
        while now_ns() < end {
            core::hint::spin_loop();
        }
        self.judge(moved());
    }

    fn judge(&mut self, moved: u64) {
        if moved >= STREAM {
            self.next_looks = LOOKS.0;
        } else {
            self.looks = self.next_looks;
            self.next_looks = (self.next_looks * 2).min(LOOKS.1);
        }
    }

    /// The look was in vain, and so it slept: learns from the note of who ended the wait.
    pub(crate) fn slept(&mut self, hints: &Hints) {
        let now = now_ns();
        if let Some(written) = hints.read(self.began_ns, now) {
            WOKEN.set((written.at_ns, now));
            let wake = now - written.at_ns;
            let average = (7 * WAKE_NS.load(Ordering::Relaxed) + wake.min(WAKE_MOST_NS)) / 8;
            WAKE_NS.store(average.clamp(WAKE_LEAST_NS, WAKE_MOST_NS), Ordering::Relaxed);
            self.learn(written, average);
        }
    }

    fn learn(&mut self, written: Written, wake_ns: u64) {
        let is_on_one = written.processor == self.processor && self.processor != NOWHERE;
        if self.rest > 0 {
            self.rest -= 1;
        } else if is_on_one || (self.limit_ns > LEAST_NS && written.after_ns > self.limit_ns) {
            self.limit_ns = LEAST_NS;
            self.rest = self.next_rest;
            self.next_rest = (self.next_rest * 2).min(RESTS.1);
            return;
        }
        // To sleep costs the wake-up, and about as much again to lie down and to call.
        self.limit_ns = if written.after_ns <= 2 * wake_ns { (3 * wake_ns).min(MOST_NS) } else { LEAST_NS };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAKE: u64 = 40_000;

    fn written(after_ns: u64, processor: u64) -> Written {
        Written { at_ns: 0, after_ns, processor }
    }

    fn fresh() -> Spin {
        Spin { processor: 0, ..Spin::from_hint(0) }
    }

    #[test]
    fn a_quick_answer_makes_it_look_for_longer_than_a_wake_up_and_a_slow_one_hardly() {
        let mut spin = fresh();
        spin.learn(written(1_000, 1), WAKE);
        assert!(spin.limit_ns > WAKE);
        spin.learn(written(100_000, 1), WAKE);
        spin.learn(written(1_000_000, 1), WAKE);
        assert_eq!(spin.limit_ns, LEAST_NS);
    }

    #[test]
    fn looking_that_does_not_help_is_given_up_for_longer_and_longer() {
        let mut spin = fresh();
        for rest in [RESTS.0, RESTS.0 * 2, RESTS.0 * 4] {
            // Written by the processor on which this one looked.
            spin.learn(written(1_000, 0), WAKE);
            assert_eq!((spin.rest, spin.limit_ns), (rest, LEAST_NS));
            (0..rest).for_each(|_| spin.learn(written(1_000, 0), WAKE));
        }
        assert!(spin.look(|| true));
        assert!(spin.next_rest == RESTS.0 || !is_of_use());
    }

    #[test]
    fn the_writers_own_wake_up_is_not_counted() {
        let note = Hints::default();
        // The wait began at 1,000; the writer was called at 2,000, ran at 42,000, and wrote at 43,000.
        note.write(43_000, (2_000, 42_000), 5);
        let written = note.read(1_000, 90_000).expect("of this wait");
        assert_eq!(written, Written { at_ns: 43_000, after_ns: 2_000, processor: 5 });
        // Its wake-up of long ago does not matter.
        note.write(1_043_000, (2_000, 42_000), 5);
        assert_eq!(note.read(1_000_000, 2_000_000).expect("of this wait").after_ns, 43_000);
        // Nor does one that took longer than can be noted.
        note.write(1_043_000_000, (2_000, 1_042_000_000), 5);
        assert_eq!(note.read(1_000_000, 2_000_000_000).expect("of this wait").after_ns, 1_042_000_000);
    }

    #[test]
    fn a_note_of_another_wait_or_garbage_says_nothing_and_does_no_harm() {
        let note = Hints::default();
        assert_eq!(note.read(1_000, 2_000), None);
        note.written_ns.store(1_500, Ordering::Relaxed);
        note.writer.store(u64::MAX, Ordering::Relaxed);
        assert!(note.read(1_000, 2_000).is_some_and(|written| written.after_ns <= 500));
        let spin = Spin::from_hint(u64::MAX);
        assert!(spin.limit_ns <= MOST_NS && spin.next_rest <= RESTS.1);
        assert!(spin.looks <= 2 * LOOKS.1 && spin.next_looks <= LOOKS.1);
        let learnt = Spin { limit_ns: 77_000, rest: 3, next_rest: 64, looks: 511, next_looks: 512, ..spin };
        assert_eq!(learnt, Spin::from_hint(learnt.hint()));
        let most = Spin {
            limit_ns: MOST_NS,
            rest: RESTS.1,
            next_rest: RESTS.1,
            looks: LOOKS.1,
            next_looks: LOOKS.1,
            ..spin
        };
        assert_eq!(most, Spin::from_hint(most.hint()));
    }

    #[test]
    fn a_stream_is_gathered_at_every_look_and_a_conversation_asked_ever_more_rarely() {
        let mut spin = fresh();
        (0..3).for_each(|_| spin.gather(|| 20));
        assert_eq!((spin.looks, spin.next_looks), (0, LOOKS.0));
        for looks in [LOOKS.0, LOOKS.0 * 2, LOOKS.0 * 4] {
            spin.gather(|| 1);
            assert_eq!(spin.looks, looks);
            // Until then nobody is asked what came.
            (0..looks).for_each(|_| spin.gather(|| unreachable!("no pause now")));
        }
        (0..20).for_each(|_| spin.judge(0));
        assert_eq!(spin.looks, LOOKS.1);
        spin.looks = 0;
        spin.gather(|| STREAM);
        assert_eq!((spin.looks, spin.next_looks), (0, LOOKS.0));
    }
}
