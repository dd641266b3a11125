//! The barrier: so many parties wait for each other.
//!
//! All that decides how a meeting ends stands in one number and changes in one step: which meeting it is, whether the
//! barrier is broken, how many have come. There is no lock inside, so nobody waits for who stopped in there.
//!
//! | word | means | becomes |
//! |---|---|---|
//! | n, 0 | meeting n is on | n, BROKEN by who ran out of time, found a dead party or aborts; n + 1, 0 by the last to come; n, RESET by a reset |
//! | n, BROKEN | everybody who waits or comes is told | n, BROKEN and RESET by a reset |
//! | n, RESET | everybody who waits is told | n + 1, 0 by who resets, or whoever comes |
//!
//! Each party has a seat (`seats`), by which the others hear of its death, and it of a reset.
//!
//! The last to leave, not the last to come, is the one that is told so: by then nobody else looks at the barrier any more,
//! and it may be freed. The end of a meeting adds to the number beside the word that all but one are to be told nothing, and each who
//! leaves takes one off as the last thing it does; who finds none is the last. One that dies on its way out takes none, and then nobody is
//! told. Where more threads than parties take turns, and a meeting ends before all have left the one before, as many are told as there were meetings.

mod seats;

use super::{
    AGAIN, INTERRUPTED, INTERRUPTIBLE, INVALID, NO_LOCKS, NO_MEMORY, OTHER_NAMESPACE, Outcome, Patience,
    SLICE_NS, Then, known_flags,
};
use crate::error::Code;
use crate::sync::gate::{EVERYBODY, Unseen};
use crate::sys::clock::{Timeout, coarse_ms};
use crate::sys::prim::{AtomicU32, Both, Change, MODEL, Ordering, Pair, Wait, futex_change, futex_wake};
use crate::sys::robust::{self, Me};
use core::array::from_fn;
use core::mem::{replace, size_of};
use seats::{BAYS, Bay};

/// The most parties that a barrier can have.
pub const MOST_PARTIES: u32 = if MODEL { 4 } else { 128 };
/// Meetings take turns with the halves of the seats: some may still be getting up from the last one.
const HALF: usize = MOST_PARTIES as usize;

/// A meeting of a fixed number of parties, again and again. It must be made by `new`.
#[repr(C, align(8))]
#[derive(Debug)]
pub struct Barrier {
    /// The word: the meeting's number, above BROKEN and RESET. Beside it: how many have come, the watcher's seat, and how many that have met
    /// are to leave without being told. SeqCst: seats are looked at next.
    state: Pair,
    /// Not written after the start, as the flags.
    parties: AtomicU32,
    flags: AtomicU32,
    /// The PID namespace whose numbers the seats hold; 0 until the first use.
    namespace: AtomicU32,
    unseen: Unseen,
    /// Whether somebody looks for a seat. Written by those, and by who gets up.
    wanted: AtomicU32,
    /// When the first came, by its own clock. Written by the first, after it has come; until then an earlier meeting's stands there.
    began_ms: AtomicU32,
    reserved: [AtomicU32; 8],
    bays: [Bay; BAYS],
    /// The cookie of each seat's party. Written by the party, after it has the seat and before the seat says for which meeting.
    cookies: [AtomicU32; 2 * HALF],
}

const BROKEN_BIT: u32 = 0;
const RESET_BIT: u32 = 1;
const BROKEN: u32 = 1 << BROKEN_BIT;
const RESET: u32 = 1 << RESET_BIT;
/// The meeting's number stands above these.
const MEETING: u32 = 2;

/// The word of a meeting that is on.
fn on(meeting: u32) -> u32 {
    meeting << MEETING
}

// Beside the word:
const COME: u32 = 0xff;
const WATCHER: u32 = 8;
const NOBODY: u32 = 0xff;
/// So many leave before the one that is told: the upper half.
const UNTOLD: u32 = 16;

/// Of the next meeting, to which nobody has come: those who leave are still the same.
fn empty(number: u32) -> u32 {
    number >> UNTOLD << UNTOLD | NOBODY << WATCHER
}

/// Likewise, where this one's parties have met.
fn met(number: u32, parties: u32) -> u32 {
    let untold = (number >> UNTOLD).saturating_add(parties - 1).min(u32::MAX >> UNTOLD);
    untold << UNTOLD | NOBODY << WATCHER
}

fn watcher(number: u32) -> u32 {
    // Anybody may have written there.
    match number >> WATCHER & NOBODY {
        seat if seat < MOST_PARTIES => seat,
        _ => NOBODY,
    }
}

fn with_watcher(number: u32, seat: u32) -> u32 {
    number & !(NOBODY << WATCHER) | seat << WATCHER
}

/// How a meeting ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ended {
    Met,
    Broken,
}

impl Barrier {
    /// For `parties` parties, at most `MOST_PARTIES`.
    pub fn new(parties: u32, flags: u32) -> Outcome<Barrier> {
        let flags = known_flags(flags, INTERRUPTIBLE)?;
        if parties == 0 || parties > MOST_PARTIES {
            return Err(INVALID);
        }
        Ok(Barrier {
            state: Pair::new((0, empty(0))),
            parties: AtomicU32::new(parties),
            flags: AtomicU32::new(flags),
            namespace: AtomicU32::new(0),
            unseen: Unseen::new(),
            wanted: AtomicU32::new(0),
            began_ms: AtomicU32::new(0),
            reserved: from_fn(|_| AtomicU32::new(0)),
            bays: from_fn(|_| Bay::new()),
            cookies: from_fn(|_| AtomicU32::new(0)),
        })
    }

    /// Waits for the others; whether this party was the last to leave.
    pub fn wait(&self, timeout: Timeout) -> Outcome<bool> {
        let me = robust::me().ok_or(NO_MEMORY)?;
        let parties = self.parties.load(Ordering::Relaxed);
        if parties == 0 || parties > MOST_PARTIES {
            return Err(INVALID);
        }
        if me.is_full() {
            return Err(NO_LOCKS);
        }
        self.check_namespace(me)?;
        self.unseen.declare(me);
        let interruptible = self.flags.load(Ordering::Relaxed) & INTERRUPTIBLE != 0;
        // The seats name holders: somebody looks round, for those whose end the kernel doesn't tell.
        let mut patience = Patience::new(timeout, interruptible, true);
        let mut is_again = false;
        loop {
            // Others may keep this one from a seat, or from coming, again and again: not beyond its time.
            let late = if replace(&mut is_again, true) { patience.check_time().err() } else { None };
            let (word, number) = self.state.load(Ordering::SeqCst);
            if word & RESET != 0 {
                self.finish_reset();
                continue;
            }
            if word & BROKEN != 0 {
                return Err(Code::BROKEN);
            }
            let meeting = word >> MEETING;
            if let Some(code) = late {
                // As one with a seat does; where the meeting is over by now it is the next one's turn.
                if self.break_up(meeting) {
                    return Err(code);
                }
                continue;
            }
            if timeout == Timeout::Try && (number & COME) + 1 < parties {
                if !self.has_dead(meeting, self.unseen.is_marked() || self.is_old()) {
                    return Err(AGAIN);
                }
                self.break_up(meeting);
                continue;
            }
            let Some(seat) = self.sit_down(me, meeting, number & COME) else {
                self.wait_for_seat(meeting, &mut patience)?;
                continue;
            };
            let outcome = self.come(me, meeting, seat, &mut patience);
            self.get_up(me, meeting, seat);
            match outcome {
                Ok(Some(Ended::Met)) => return Ok(self.leave()),
                Ok(Some(Ended::Broken)) => return Err(Code::BROKEN),
                // The meeting was over before this party had come to it.
                Ok(None) => {}
                Err(code) => return Err(code),
            }
        }
    }

    /// As a lock's, for the numbers in the seats.
    fn check_namespace(&self, me: Me) -> Outcome<()> {
        // A caller that can't tell its own must not leave a mark by which the others are refused.
        let mine = me.find_namespace().ok_or(OTHER_NAMESPACE)?;
        // Relaxed: the value is all that matters.
        match self.namespace.compare_exchange(0, mine, Ordering::Relaxed, Ordering::Relaxed) {
            Err(tag) if tag != mine => Err(OTHER_NAMESPACE),
            _ => Ok(()),
        }
    }

    // ---- meetings

    /// Comes, with a seat: ends the meeting, or waits for its end. `None` where it is over already.
    fn come(&self, me: Me, meeting: u32, seat: u32, patience: &mut Patience) -> Outcome<Option<Ended>> {
        let parties = self.parties.load(Ordering::Relaxed);
        let mut is_signed = false;
        loop {
            let (word, number) = self.state.load(Ordering::SeqCst);
            if word == on(meeting) | BROKEN {
                return Ok(Some(Ended::Broken));
            }
            if word != on(meeting) {
                return Ok(None);
            }
            if !replace(&mut is_signed, true) {
                self.sign(me, meeting, seat);
            }
            let come = (number & COME) + 1;
            if come >= parties {
                if self.has_dead(meeting, self.unseen.is_marked() || come > 1 && self.is_old()) {
                    self.break_up(meeting);
                    continue;
                }
                if self.change((word, number), (on(meeting.wrapping_add(1)), met(number, parties))) {
                    futex_wake(self.state.word(), EVERYBODY);
                    return Ok(Some(Ended::Met));
                }
                continue;
            }
            if patience.is_try() {
                return Err(AGAIN);
            }
            let first = with_watcher(number, if come == 1 { seat } else { watcher(number) });
            // Before it comes: however late this is written, it is not later than that.
            let now_ms = if come == 1 && !MODEL { coarse_ms() } else { 0 };
            if self.change((word, number), (word, first + 1)) {
                if come == 1 && !MODEL {
                    self.began_ms.store(now_ms, Ordering::Relaxed);
                }
                return self.stay(me, meeting, seat, patience).map(Some);
            }
        }
    }

    /// Whether a party may have died for so long that the others are promised to know: the kernel marks none whose thread's robust list is
    /// another's by now. Who waits looks round in that time, but all who waited may be dead. A time that is too early, or another clock's, makes
    /// this one look for nothing.
    fn is_old(&self) -> bool {
        !MODEL
            && coarse_ms().wrapping_sub(self.began_ms.load(Ordering::Relaxed)) > (SLICE_NS / 1_000_000) as u32
    }

    fn change(&self, old: Both, new: Both) -> bool {
        self.state.compare_exchange(old, new, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    /// Whether and how the meeting of a party that has come is over.
    fn ended(&self, meeting: u32, seat: u32) -> Option<Ended> {
        let (word, _) = self.state.load(Ordering::SeqCst);
        // After the word: a reset is marked here before another meeting begins.
        if self.seat(meeting, seat).load(Ordering::SeqCst).1 == on(meeting) | RESET {
            return Some(Ended::Broken);
        }
        match word >> MEETING == meeting {
            true => (word != on(meeting)).then_some(Ended::Broken),
            false => Some(Ended::Met),
        }
    }

    /// Waits until the meeting is over.
    fn stay(&self, me: Me, meeting: u32, seat: u32, patience: &mut Patience) -> Outcome<Ended> {
        let mut by_seat = false;
        let code = loop {
            if let Some(ended) = self.ended(meeting, seat) {
                if by_seat {
                    // The kernel's wake-up: who ended the meeting may have died before it had woken the others.
                    futex_wake(self.state.word(), EVERYBODY);
                }
                return Ok(ended);
            }
            if let Err(code) = patience.may_wait() {
                break code;
            }
            let (word, number) = self.state.load(Ordering::SeqCst);
            if word != on(meeting) {
                continue;
            }
            let watcher = watcher(number);
            let slept = match watcher {
                NOBODY => {
                    self.change((word, number), (word, with_watcher(number, seat)));
                    continue;
                }
                _ if watcher == seat => self.watch(meeting, seat, patience.until()),
                _ => self.follow(me, (meeting, number), seat, patience.until()),
            };
            let Some((wait, by)) = slept else {
                self.break_up(meeting);
                continue;
            };
            by_seat |= wait == Wait::Woken && by > 0;
            match patience.after(wait) {
                Ok(Then::Check) => {
                    let dead = match watcher == seat {
                        true => self.has_dead(meeting, true),
                        false => self.is_dead(meeting, watcher, true).0,
                    };
                    if dead {
                        self.break_up(meeting);
                    }
                }
                Ok(Then::Look { .. }) => {}
                Err(code) => break code,
            }
        };
        self.give_up(meeting, seat, code)
    }

    /// Breaks the barrier, if this meeting is still on; whether it was.
    fn break_up(&self, meeting: u32) -> bool {
        let (mut word, mut number) = self.state.load(Ordering::SeqCst);
        let mut is_mine = false;
        while word == on(meeting) && !is_mine {
            let broken = (word | BROKEN, number);
            match self.state.compare_exchange((word, number), broken, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => is_mine = true,
                Err(now) => (word, number) = now,
            }
        }
        futex_wake(self.state.word(), EVERYBODY);
        is_mine
    }

    /// One that runs out of time takes the others along; one that was interrupted has just not come. Neither, where the
    /// meeting is over by now.
    fn give_up(&self, meeting: u32, seat: u32, code: Code) -> Outcome<Ended> {
        let code = if code != INTERRUPTED && self.has_dead(meeting, true) { Code::BROKEN } else { code };
        loop {
            if let Some(ended) = self.ended(meeting, seat) {
                return Ok(ended);
            }
            let (word, number) = self.state.load(Ordering::SeqCst);
            if word != on(meeting) {
                continue;
            }
            if code != INTERRUPTED {
                if self.change((word, number), (word | BROKEN, number)) {
                    futex_wake(self.state.word(), EVERYBODY);
                    return Err(code);
                }
                continue;
            }
            let watched = watcher(number) == seat;
            let left = if watched { with_watcher(number, NOBODY) } else { number } - 1;
            if self.change((word, number), (word, left)) {
                if watched {
                    futex_wake(self.seat(meeting, seat).word(), EVERYBODY); // One of them watches from now on.
                }
                return Err(code);
            }
        }
    }

    /// The last look at the barrier; whether nobody else will look at it any more.
    fn leave(&self) -> bool {
        let (mut word, mut number) = self.state.load(Ordering::SeqCst);
        while number >> UNTOLD > 0 {
            let left = (word, number - (1 << UNTOLD));
            match self.state.compare_exchange((word, number), left, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => return false,
                Err(now) => (word, number) = now,
            }
        }
        true
    }

    /// Makes it as new: those that wait get `BROKEN`, a broken one is whole again.
    pub fn reset(&self) {
        // Marked in one step with the wake-up: should this thread die, nobody sleeps, and who comes finds it whole.
        futex_change(self.state.word(), Change::Set(RESET_BIT), EVERYBODY);
        self.finish_reset();
    }

    /// The second half of a reset. Whoever sees the mark may be told by it already, and does this before anything else.
    fn finish_reset(&self) {
        let (mut word, mut number) = self.state.load(Ordering::SeqCst);
        while word & RESET != 0 {
            let meeting = word >> MEETING;
            if number & COME != 0 {
                self.tell_of_reset(meeting);
            }
            let whole = (on(meeting.wrapping_add(1)), empty(number));
            match self.state.compare_exchange((word, number), whole, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => return,
                Err(now) => (word, number) = now,
            }
        }
    }

    /// Breaks it: those that wait and those that come get `BROKEN`, until it is reset.
    pub fn abort(&self) {
        self.finish_reset(); // One that was before this call: it doesn't make whole what is broken here.
        futex_change(self.state.word(), Change::Set(BROKEN_BIT), EVERYBODY);
    }

    /// Whether it is broken.
    pub fn is_broken(&self) -> bool {
        self.state.load(Ordering::SeqCst).0 & (BROKEN | RESET) == BROKEN
    }

    /// How many parties it is for.
    pub fn parties(&self) -> u32 {
        self.parties.load(Ordering::Relaxed)
    }

    /// How many parties wait at this moment.
    pub fn waiting(&self) -> u32 {
        let (word, number) = self.state.load(Ordering::SeqCst);
        if word & (BROKEN | RESET) != 0 { 0 } else { number & COME }
    }
}

const _: () = assert!(MODEL || size_of::<Barrier>() == 64 + BAYS * 64 + 2 * HALF * 4);
