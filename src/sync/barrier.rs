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
//! Each party has a seat, a word that is on its thread's robust list, so that its death is written there. The first to come
//! watches: it sleeps on the meeting's word and on all seats, taken or not, and breaks the barrier when a party dies. The others
//! sleep on the meeting's word and on the watcher's seat. So a meeting costs what its parties cost, not their square. Who
//! has been woken by a seat wakes everybody once the meeting is over, because the one who ended it may have died before it had.
//!
//! How a meeting ended is told apart from where the barrier is by now: any number of resets may have passed before a party that waits
//! runs again. So a reset is marked in the seats of all who came, before the next meeting begins: a party whose seat says nothing
//! when its meeting is over has met.
//!
//! | a seat's meeting | means | becomes |
//! |---|---|---|
//! | n, 0 | it is a party's of meeting n, or of one that died of it | n, RESET by whoever finishes the reset of n; none by its party, as it gets up, or by who takes a dead one's seat |
//! | n, RESET | meeting n ended by a reset | none by its party, as it gets up |
//! | none | the seat is nobody's, or its party has not signed yet | n, 0 by its party |
//!
//! Who came to n had written n before, and nobody comes once the word says RESET, so no seat is missed. Several may
//! finish one reset; one that is slow finds other numbers than n, in the word as in the seats, and changes nothing.
//!
//! The last to leave, not the last to come, is the one that is told so: by then nobody else looks at the barrier any more,
//! and it may be freed. Those who leave count themselves out as the last thing they do. One that dies on its way out is never
//! counted out, and then nobody is told.

use super::{
    AGAIN, INTERRUPTED, INTERRUPTIBLE, INVALID, NO_LOCKS, NO_MEMORY, OTHER_NAMESPACE, Outcome, Patience,
    SLICE_NS, Then, known_flags,
};
use crate::error::Code;
use crate::sync::gate::{EVERYBODY, Unseen};
use crate::sys::clock::{Deadline, Timeout};
use crate::sys::owner;
use crate::sys::prim::{
    AtomicU32, AtomicU64, Both, Change, MODEL, Ordering, Pair, Wait, futex_change, futex_wait,
    futex_wait_any, futex_wake,
};
use crate::sys::robust::{self, DIED, ENTRY, Me, OWNER, Spot, WAITERS, WORD, cookie_of};
use core::array::from_fn;
use core::mem::{offset_of, size_of};

/// The most parties that a barrier can have.
pub const MOST_PARTIES: u32 = if MODEL { 4 } else { 128 };
/// Meetings take turns with the halves of the seats: some may still be getting up from the last one.
const HALF: usize = MOST_PARTIES as usize;
const BAYS: usize = 2 * HALF / SEATS;
const SEATS: usize = 4;
/// How many words the kernel can watch for one sleeper.
const MOST_WATCHED: usize = 128;

/// One party that waits: its word, and beside it, changed with it as one, the meeting that it is for, as the barrier's word has it.
type Seat = Pair;

/// Four seats, with the kernel's entries for them behind, each at the distance that it knows.
#[repr(C)]
#[derive(Debug)]
struct Bay {
    seats: [Seat; SEATS],
    entries: [AtomicU64; SEATS],
}

const _: () = assert!(MODEL || size_of::<Seat>() == 8 && offset_of!(Bay, entries) - WORD == ENTRY);

/// A meeting of a fixed number of parties, again and again. It must be made by `new`.
#[repr(C, align(8))]
#[derive(Debug)]
pub struct Barrier {
    /// The word: the meeting's number, above BROKEN and RESET. Beside it: how many have come, and the watcher's seat. SeqCst: seats
    /// are looked at next.
    state: Pair,
    /// Who is still to leave: a meeting's word, and how many. Written by those who are about to end that meeting, then by those who leave.
    leaving: Pair,
    /// Not written after the start, as the flags.
    parties: AtomicU32,
    flags: AtomicU32,
    /// The PID namespace whose numbers the seats hold; 0 until the first use.
    namespace: AtomicU32,
    unseen: Unseen,
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

/// What a seat says that is nobody's, or whose party has not yet signed.
const NO_MEETING: u32 = BROKEN;

/// The word of a meeting that is on.
fn on(meeting: u32) -> u32 {
    meeting << MEETING
}

// Beside the word:
const COME: u32 = 0xff;
const WATCHER: u32 = 8;
const NOBODY: u32 = 0xff;
/// Nobody has come.
const EMPTY: u32 = NOBODY << WATCHER;

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
            state: Pair::new((0, EMPTY)),
            leaving: Pair::new((0, 0)),
            parties: AtomicU32::new(parties),
            flags: AtomicU32::new(flags),
            namespace: AtomicU32::new(0),
            unseen: Unseen::new(),
            reserved: from_fn(|_| AtomicU32::new(0)),
            bays: from_fn(|_| Bay {
                seats: from_fn(|_| Seat::new((0, NO_MEETING))),
                entries: from_fn(|_| AtomicU64::new(0)),
            }),
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
        loop {
            let (word, number) = self.state.load(Ordering::SeqCst);
            if word & RESET != 0 {
                self.finish_reset();
                continue;
            }
            if word & BROKEN != 0 {
                return Err(Code::BROKEN);
            }
            let meeting = word >> MEETING;
            if timeout == Timeout::Try && (number & COME) + 1 < parties {
                if !self.has_dead(meeting, self.unseen.is_marked()) {
                    return Err(AGAIN);
                }
                self.break_up(meeting);
                continue;
            }
            let Some(seat) = self.sit_down(me, meeting, number & COME)? else { continue };
            let outcome = self.come(me, meeting, seat, timeout);
            self.get_up(me, meeting, seat);
            match outcome {
                Ok(Some(Ended::Met)) => return Ok(self.leave(meeting)),
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

    // ---- seats

    /// How many of the half's seats are in use: for this meeting's parties, and as many that are still getting up.
    fn range(&self) -> usize {
        (2 * self.parties.load(Ordering::Relaxed) as usize).clamp(4, HALF)
    }

    /// Where a seat is among all.
    fn index(meeting: u32, seat: u32) -> usize {
        (meeting as usize & 1) * HALF + seat as usize
    }

    fn seat(&self, meeting: u32, seat: u32) -> &Seat {
        let index = Barrier::index(meeting, seat);
        &self.bays[index / SEATS].seats[index % SEATS]
    }

    fn cookie(&self, meeting: u32, seat: u32) -> &AtomicU32 {
        &self.cookies[Barrier::index(meeting, seat)]
    }

    fn spot(&self, meeting: u32, seat: u32) -> Spot {
        let index = Barrier::index(meeting, seat);
        let at = index % SEATS * size_of::<Seat>() + WORD;
        // SAFETY: the bay has its entry for this seat at the right distance, written by the robust list alone.
        unsafe { Spot::new(&raw const self.bays[index / SEATS], at) }
    }

    /// Takes a free seat, the first try at `hint`. `None` where the meeting is over.
    fn sit_down(&self, me: Me, meeting: u32, hint: u32) -> Outcome<Option<u32>> {
        let range = self.range() as u32;
        for at in 0..range {
            let index = (hint + at) % range;
            let (seat, spot) = (self.seat(meeting, index), self.spot(meeting, index));
            let before = seat.load(Ordering::SeqCst);
            let (word, number) = before;
            // One who has just died of this meeting keeps the seat, or nobody would ever know.
            if word & OWNER != 0 || word & DIED != 0 && number == on(meeting) {
                continue;
            }
            // Nor is the seat taken of one who died of a later meeting: then this one is over. Who died of an earlier one nobody waits for.
            if word & DIED != 0 && self.state.load(Ordering::SeqCst).0 != on(meeting) {
                return Ok(None);
            }
            me.pend(spot);
            // With WAITERS from the start: others sleep on it without a word. Acquire: it is off the last one's list.
            let mine = me.tid() | WAITERS;
            let taken = self.exchange(seat, before, (mine, NO_MEETING));
            if taken {
                me.push(spot);
                self.cookie(meeting, index).store(cookie_of(me.holder()), Ordering::SeqCst);
                self.exchange(seat, (mine, NO_MEETING), (mine, on(meeting)));
            }
            me.pend_nothing();
            if taken {
                return Ok(Some(index));
            }
        }
        Err(NO_LOCKS)
    }

    fn exchange(&self, seat: &Seat, old: Both, new: Both) -> bool {
        seat.compare_exchange(old, new, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    fn get_up(&self, me: Me, meeting: u32, seat: u32) {
        let spot = self.spot(meeting, seat);
        me.pend(spot);
        me.remove(spot);
        // Release: whoever takes the seat next finds its entry off this thread's list.
        self.seat(meeting, seat).swap((0, NO_MEETING), Ordering::SeqCst);
        me.pend_nothing();
    }

    /// Whether the seat's party has died of this meeting, and the word as it was seen. `look` asks whether a party lives
    /// that the kernel hasn't marked.
    fn is_dead(&self, meeting: u32, seat: u32, look: bool) -> (bool, u32) {
        let (word, number) = self.seat(meeting, seat).load(Ordering::SeqCst);
        let dies_unseen = || look && word & OWNER != 0 && self.has_ended(meeting, seat, word);
        (number == on(meeting) && (word & DIED != 0 || dies_unseen()), word)
    }

    /// Whether the party of a seat has ended in it. The cookie stands by itself: it was this party's if, after the look, the same party
    /// has the seat for the same meeting, and then the same cookie is there. Who sits down signs before the seat says for which meeting.
    fn has_ended(&self, meeting: u32, seat: u32, word: u32) -> bool {
        let cookie = self.cookie(meeting, seat).load(Ordering::SeqCst);
        owner::thread_ended(word & OWNER, cookie)
            && self.seat(meeting, seat).load(Ordering::SeqCst) == (word, on(meeting))
            && self.cookie(meeting, seat).load(Ordering::SeqCst) == cookie
    }

    fn has_dead(&self, meeting: u32, look: bool) -> bool {
        (0..self.range() as u32).any(|seat| self.is_dead(meeting, seat, look).0)
    }

    // ---- meetings

    /// Comes, with a seat: ends the meeting, or waits for its end. `None` where it is over already.
    fn come(&self, me: Me, meeting: u32, seat: u32, timeout: Timeout) -> Outcome<Option<Ended>> {
        let parties = self.parties.load(Ordering::Relaxed);
        loop {
            let (word, number) = self.state.load(Ordering::SeqCst);
            if word == on(meeting) | BROKEN {
                return Ok(Some(Ended::Broken));
            }
            if word != on(meeting) {
                return Ok(None);
            }
            let come = (number & COME) + 1;
            if come >= parties {
                if self.has_dead(meeting, self.unseen.is_marked()) {
                    self.break_up(meeting);
                    continue;
                }
                self.expect_to_leave(meeting, parties);
                if self.change((word, number), (on(meeting.wrapping_add(1)), EMPTY)) {
                    futex_wake(self.state.word(), EVERYBODY);
                    return Ok(Some(Ended::Met));
                }
                continue;
            }
            if timeout == Timeout::Try {
                return Err(AGAIN);
            }
            let first = with_watcher(number, if come == 1 { seat } else { watcher(number) });
            if self.change((word, number), (word, first + 1)) {
                return self.stay(me, meeting, seat, timeout).map(Some);
            }
        }
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
    fn stay(&self, me: Me, meeting: u32, seat: u32, timeout: Timeout) -> Outcome<Ended> {
        let interruptible = self.flags.load(Ordering::Relaxed) & INTERRUPTIBLE != 0;
        // The seats name holders: somebody looks round, for those whose end the kernel doesn't tell.
        let mut patience = Patience::new(timeout, interruptible, true);
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
                _ => self.follow(me, meeting, watcher, patience.until()),
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

    /// Sleeps on the meeting and on everybody's seat; `None` where a party has died.
    fn watch(&self, meeting: u32, mine: u32, until: Deadline) -> Option<(Wait, usize)> {
        let mut words = [(self.state.word(), on(meeting)); MOST_WATCHED];
        let others = (0..self.range() as u32).filter(|seat| *seat != mine);
        let mut count = 1;
        for (seat, place) in others.zip(&mut words[1..]) {
            let (dead, word) = self.is_dead(meeting, seat, false);
            if dead {
                return None;
            }
            *place = (self.seat(meeting, seat).word(), word);
            count += 1;
        }
        Some(sleep(&words[..count], until))
    }

    /// Sleeps on the meeting and on the watcher's seat; `None` where it has died.
    fn follow(&self, me: Me, meeting: u32, watcher: u32, until: Deadline) -> Option<(Wait, usize)> {
        let (dead, word) = self.is_dead(meeting, watcher, false);
        if dead {
            return None;
        }
        if word & OWNER == 0 {
            // It has left, and said so before.
            return Some((Wait::Changed, 0));
        }
        // Should this one be woken by the watcher's death and die of it, another is.
        me.pend(self.spot(meeting, watcher));
        let slept =
            sleep(&[(self.state.word(), on(meeting)), (self.seat(meeting, watcher).word(), word)], until);
        me.pend_nothing();
        Some(slept)
    }

    /// Breaks the barrier, if this meeting is still on.
    fn break_up(&self, meeting: u32) {
        let (mut word, mut number) = self.state.load(Ordering::SeqCst);
        while word == on(meeting) {
            let broken = (word | BROKEN, number);
            match self.state.compare_exchange((word, number), broken, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => break,
                Err(now) => (word, number) = now,
            }
        }
        futex_wake(self.state.word(), EVERYBODY);
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

    /// Before a meeting ends: so many will leave it. Of several who would like to end it all say the same.
    fn expect_to_leave(&self, meeting: u32, parties: u32) {
        let all = (on(meeting), parties);
        loop {
            // Whatever stands there, which may be of one that died on its way out, is of the past if the meeting is still on after that.
            let now = self.leaving.load(Ordering::SeqCst);
            if now == all || self.state.load(Ordering::SeqCst).0 != on(meeting) {
                return;
            }
            if self.leaving.compare_exchange(now, all, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
                return;
            }
        }
    }

    /// The last look at the barrier; whether nobody else will look at it any more.
    fn leave(&self, meeting: u32) -> bool {
        let mut now = self.leaving.load(Ordering::SeqCst);
        while now.0 == on(meeting) && now.1 > 0 {
            let left = (now.0, now.1 - 1);
            match self.leaving.compare_exchange(now, left, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => return left.1 == 0,
                Err(other) => now = other,
            }
        }
        false
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
            let whole = (on(meeting.wrapping_add(1)), EMPTY);
            match self.state.compare_exchange((word, number), whole, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => return,
                Err(now) => (word, number) = now,
            }
        }
    }

    /// Marks the seats of all who came to a meeting: they may run again long after it.
    fn tell_of_reset(&self, meeting: u32) {
        for seat in 0..self.range() as u32 {
            let of = self.seat(meeting, seat);
            let mut now = of.load(Ordering::SeqCst);
            // Not the seat of another meeting, should this one have been over for long.
            while now.1 == on(meeting) {
                let reset = (now.0, on(meeting) | RESET);
                match of.compare_exchange(now, reset, Ordering::SeqCst, Ordering::SeqCst) {
                    Ok(_) => break,
                    Err(other) => now = other, // Its party has died.
                }
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

/// Where the kernel can't watch several words, the sleep is short and on the first alone.
fn sleep(words: &[(&AtomicU32, u32)], until: Deadline) -> (Wait, usize) {
    futex_wait_any(words, until).unwrap_or_else(|| {
        let (word, value) = words[0];
        (futex_wait(word, value, until.min(Deadline::after(SLICE_NS))), 0)
    })
}

const _: () = assert!(MODEL || size_of::<Barrier>() == 64 + BAYS * 64 + 2 * HALF * 4);
